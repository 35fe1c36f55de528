//! Keys that are names, and orders that are not for clients to give.

use std::sync::Arc;

use tourbillon::abi::error::FailureCode;
use tourbillon::abi::header::{Flags, Header};
use tourbillon::abi::virtual_actors::{ORDER_KIND, SPACE_ORDERS, SPACE_STRING, kind_word};
use tourbillon::actors::Counter as Counting;
use tourbillon::actors::Herald;
use tourbillon::actors::counter::{Add, Get};
use tourbillon::actors::herald::{Announce, Subscribe};
use tourbillon::keys::KEY_BYTES_MAX;
use tourbillon::{Actor, ActorKey, Counter, Key, KeyError, OutboxPolicy};
use tourbillon_tests::bench::{REPLY_TIME_MAX, add_to, client, counted, eventually};
use tourbillon_tests::on_every_backend;
use tourbillon_tests::store::{ToldStore, roomy, settled_places};

on_every_backend! {
    /// Strings and wide ids are actors of their own, whatever their numbers are; they come back from the store under their names.
    fn names_are_actors_of_their_own(bench: &Bench) {
        let store = ToldStore::new();
        let engine = roomy(bench, 2, 8, &store).build().unwrap();
        let mut client = client(&engine);
        let keys: Vec<Key> = vec![
            1.into(),
            2.into(),
            engine.key("alice").unwrap(),
            engine.key("bob").unwrap(),
            engine.key(1u128).unwrap(),
            engine.key(1u128 << 64).unwrap(),
        ];
        assert_eq!(engine.key(String::from("alice")).unwrap(), keys[2]);
        for round in 0..3u64 {
            for (number, key) in keys.iter().enumerate() {
                let added = client.call(*key, Add { amount: number as u32 + 1, sender: 0, sequence: 1 }).unwrap();
                assert_eq!(added.previous, round * (number as u64 + 1), "{key:?}");
            }
            engine.evict(100).unwrap();
            eventually("all have gone", || engine.store_counts().kept == (round + 1) * 6);
        }
        for name in ["alice", "bob"] {
            assert_eq!(store.kept.get(Counting::KIND, &ActorKey::Name(name.into())).unwrap().version, 3);
        }
        assert_eq!(store.kept.get(Counting::KIND, &ActorKey::Wide(1 << 64)).unwrap().version, 3);
        assert_eq!(engine.name_of(keys[3]), Some(ActorKey::Name("bob".into())));
        assert_eq!((engine.key_names(), store.kept.len()), (4, 6));
        assert_eq!(client.call(keys[2], Get {}), Ok(9));
        assert_eq!(engine.inspect::<Counting>(keys[2]).unwrap().unwrap().1.value, 9);
        // Handlers see the number, and what they post names the actor.
        let outbox = client.outbox(OutboxPolicy::Drop).unwrap();
        client.call(keys[3], Subscribe { subscriber: outbox.address() }).unwrap();
        client.call(keys[3], Announce { word: 5 }).unwrap();
        let mut outbox = outbox;
        let received = outbox.next_timeout(REPLY_TIME_MAX).unwrap();
        assert!(received.is_from::<Herald>());
        assert_eq!((received.key(), received.sender()), (keys[3].number(), keys[3]));
        let long = "x".repeat(KEY_BYTES_MAX + 1);
        assert!(matches!(engine.key(long), Err(KeyError::TooLong { .. })));
    }
}

on_every_backend! {
    /// Names work without a store as well, and there are no more of them than may be.
    fn names_need_no_store(bench: &Bench) {
        let engine = bench.builder().key_names(3).build().unwrap();
        let mut client = client(&engine);
        for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
            let key = engine.key(name).unwrap();
            assert_eq!(client.call(key, Add { amount: 1, sender: 0, sequence: 1 }).unwrap().previous, 0, "{name}");
            assert_eq!(client.call(key.number(), Get {}), Ok(0), "{number}: a native key of the same number");
        }
        assert_eq!(engine.key("d"), Err(KeyError::TooManyNames { most: 3 }));
        assert!(engine.key("a").is_ok());
        // A message that the actor does not have, and a kind that is none, are told as for any key.
        let key = engine.key("a").unwrap();
        let header = |kind, message| Header { key: key.number(), kind, message, flags: Flags::new(1, 0), ..Header::default() };
        for (kind, message, expected) in [(2, 99, FailureCode::UnknownMessage), (777, 0, FailureCode::UnknownKind)] {
            let (reply, payload) = client.call_raw(header(kind_word(kind, SPACE_STRING), message), &[]).unwrap();
            assert!(reply.flags.has(Flags::FAILED));
            assert_eq!(payload[..4], (expected as u32).to_le_bytes());
        }
    }
}

on_every_backend! {
    /// A client that writes orders is refused, and nothing is done; so is one in an engine without a store.
    fn orders_of_clients_are_refused(bench: &Bench) {
        for has_store in [true, false] {
            let store = ToldStore::new();
            let builder = bench.builder().shards(1).actors_per_shard(4);
            let engine = if has_store { builder.store(Arc::clone(&store)) } else { builder }.build().unwrap();
            let mut client = client(&engine);
            for key in 0..3 {
                add_to(&mut client, key, 1);
            }
            for order in 0..10u32 {
                for kind in [ORDER_KIND, kind_word(2, SPACE_ORDERS), u16::MAX] {
                    let mut payload = [0; 16];
                    // All of them, whatever the second word names.
                    payload[..4].copy_from_slice(&order.to_le_bytes());
                    payload[8..12].copy_from_slice(&3u32.to_le_bytes());
                    let header = Header { key: 5, kind, length: 16, flags: Flags::new(1, 0), ..Header::default() };
                    let (reply, answer) = client.call_raw(header, &payload).unwrap();
                    assert!(reply.flags.has(Flags::FAILED), "order {order} in {kind:#x}");
                    assert_eq!(answer[..4], (FailureCode::UnknownKeySpace as u32).to_le_bytes());
                }
            }
            for key in 0..3 {
                assert_eq!(add_to(&mut client, key, 1), 1);
            }
            assert_eq!(counted(&engine, Counter::Evicted), 0);
            if has_store {
                assert_eq!(settled_places(&engine)[0].state.places, 3);
            }
        }
    }
}
