//! Messages that could not be delivered: which are kept, what is kept of them, and what happens when nobody reads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tourbillon::abi::header::{Flags, Header};
use tourbillon::actors::counter::{Add, Get};
use tourbillon::actors::echo::{Ping64, Ping352};
use tourbillon::actors::faulty::{Fault, Trigger};
use tourbillon::{Actor, CallError, Client, Counter, DeadLetter, Engine, FailureCode, Options, Plain};
use tourbillon_tests::bench::{REPLY_TIME_MAX, client, counters, eventually};
use tourbillon_tests::on_every_backend;
use tourbillon_tests::raw::{exchange, header_of};

const LONG_AGO: u64 = 1;

fn add(amount: u32) -> Add {
    Add { amount, sender: 0, sequence: 1 }
}

/// The letters that are there; there is one at least, soon.
fn letters(engine: &Engine) -> Vec<DeadLetter> {
    let mut letters = Vec::new();
    eventually("there are dead letters", || {
        letters.extend(engine.dead_letters().unwrap());
        !letters.is_empty()
    });
    letters
}

fn only(engine: &Engine) -> DeadLetter {
    let letters = letters(engine);
    assert_eq!(letters.len(), 1, "{letters:?}");
    letters[0]
}

/// Sends a message that is late.
fn late(client: &mut Client, key: u64, id: u64) {
    let options = Options::new().deadline(LONG_AGO).message_id(id.into());
    assert_eq!(client.call_with(key, add(id as u32), options), Err(CallError::DeadlinePassed));
}

on_every_backend! {
    fn what_no_handler_was_run_for_is_kept_with_the_reason(bench: &Bench) {
        let engine = bench.builder().shards(1).actors_per_shard(2).build().unwrap();
        let mut client = client(&engine);
        assert!(engine.dead_letters().unwrap().is_empty());

        let before = client.hlc();
        late(&mut client, 1, 77);
        let letter = only(&engine);
        assert_eq!((letter.reason(), letter.key(), letter.kind()), (FailureCode::DeadlinePassed, 1, 2));
        assert_eq!((letter.message(), letter.is_tell(), letter.lane()), (0, false, Some(client.lane().number())));
        assert_eq!((letter.deadline(), letter.message_id()), (Some(LONG_AGO), Some(77)));
        assert_eq!((letter.payload(), letter.length()), (add(77).as_bytes(), 16));
        assert!(letter.hlc() > before && letter.hlc() <= client.hlc());

        let get = header_of::<Get>(5);
        let trigger = [99u32, 0];
        let raw: [(Header, &[u8], FailureCode); 5] = [
            (Header { kind: 77, length: 3, ..get }, &[1, 2, 3], FailureCode::UnknownKind),
            (Header { message: 9, ..get }, &[], FailureCode::UnknownMessage),
            (header_of::<Trigger>(5), bytemuck::cast_slice(&trigger), FailureCode::InvalidPayload),
            (Header { flags: Flags::new(1, Flags::REPLY), ..get }, &[], FailureCode::MalformedFrame),
            (Header { hlc: u64::MAX, ..get }, &[], FailureCode::ClockDrift),
        ];
        for (header, payload, reason) in raw {
            let (_, failure, _) = exchange(&mut client, header, payload);
            assert_eq!(failure, Some(reason));
            let letter = only(&engine);
            assert_eq!((letter.reason(), letter.key()), (reason, 5));
            assert_eq!((letter.message_id(), letter.deadline()), (None, None));
            if matches!(reason, FailureCode::UnknownKind | FailureCode::InvalidPayload) {
                assert_eq!((letter.kind(), letter.payload()), (header.kind, payload));
            }
        }
        // The two places are taken by the actors of the last three messages.
        assert_eq!(client.call(6, Ping64 { words: [8; 16] }), Err(CallError::DirectoryFull));
        let letter = only(&engine);
        assert_eq!((letter.reason(), letter.kind()), (FailureCode::DirectoryFull, tourbillon::actors::Echo::KIND));
        assert_eq!((letter.length(), letter.payload()), (64, &[8, 0, 0, 0].repeat(16)[..]));
        let mut long = Ping352 { words: [0; 88] };
        long.words[..16].copy_from_slice(&std::array::from_fn::<u32, 16, _>(|i| i as u32));
        assert_eq!(client.call(6, long), Err(CallError::DirectoryFull));
        let letter = only(&engine);
        assert_eq!((letter.length(), letter.payload()), (352, bytemuck::cast_slice(&long.words[..16])));
        let totals = counters(&engine);
        assert_eq!((totals[Counter::DeadLetters as usize], totals[Counter::DeadLettersDropped as usize]), (8, 0));
    }
}

on_every_backend! {
    /// What a handler was run for is answered, and no dead letter; nor is what somebody tries again. A stale tell is one.
    fn what_was_delivered_is_not_dead(bench: &Bench) {
        let engine = bench.engine();
        let mut client = client(&engine);
        for fault in [Fault::Error, Fault::Panic, Fault::Nothing] {
            let _ = client.call(1, Trigger { fault, argument: 0 });
            client.send(1, Trigger { fault, argument: 0 }).unwrap();
        }
        let id = Options::new().message_id(1);
        client.call_with(2, Ping64 { words: [0; 16] }, id).unwrap();
        assert!(client.call_with(2, Ping64 { words: [0; 16] }, id).is_err());
        assert!(client.call_with(3, add(1), Options::new().if_version(8)).is_err());
        client.send_with(2, Ping64 { words: [0; 16] }, id).unwrap();
        client.flush(REPLY_TIME_MAX).unwrap();
        assert!(engine.dead_letters().unwrap().is_empty());
        client.send_with(3, add(1), Options::new().if_version(9)).unwrap();
        let letter = only(&engine);
        assert_eq!((letter.reason(), letter.is_tell()), (FailureCode::StaleVersion, true));
        assert_eq!((letter.key(), letter.payload()), (3, add(1).as_bytes()));
        assert_eq!(counters(&engine)[Counter::DeadLetters as usize], 1);
    }
}

on_every_backend! {
    /// A queue that nobody reads is full at its capacity: what does not fit is counted, nobody waits, and there is room when it was read.
    fn a_full_queue_drops_and_counts(bench: &Bench) {
        // 16: what was asked for is rounded up.
        for (capacity, room) in [(16, 16), (17, 32)] {
            let engine = bench.builder().dead_letters(capacity).build().unwrap();
            let mut client = client(&engine);
            for id in 0..room + 5 {
                late(&mut client, id % 7, id);
                assert_eq!(client.call(100, add(1)).unwrap().previous, id, "others are served");
            }
            let totals = counters(&engine);
            assert_eq!(totals[Counter::DeadLetters as usize], room);
            assert_eq!(totals[Counter::DeadLettersDropped as usize], 5);
            assert_eq!(totals[Counter::Expired as usize], room + 5);
            let ids: Vec<_> = letters(&engine).iter().filter_map(DeadLetter::message_id).collect();
            assert_eq!(ids, (0..room).map(u128::from).collect::<Vec<_>>());
            assert!(engine.dead_letters().unwrap().is_empty());
            // The device learns of the room a moment later.
            let mut next = 1_000;
            eventually("there is room again", || {
                late(&mut client, 1, next);
                next += 1;
                engine.dead_letters().unwrap().last().is_some_and(|letter| letter.message_id() == Some(u128::from(next - 1)))
            });
        }
    }
}

on_every_backend! {
    /// Shards write while the host reads, many times round: each letter is read once, whole, or was dropped and counted.
    fn letters_are_read_while_they_are_written(bench: &Bench) {
        let engine = bench.builder().dead_letters(64).build().unwrap();
        let (clients, messages) = (3, bench.scale(3_000, 80));
        let writing = AtomicBool::new(true);
        let mut seen = std::collections::BTreeSet::new();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut read = Vec::new();
                // Acquire pairs with the Release below: the last look comes after all was written.
                while writing.load(Ordering::Acquire) {
                    read.extend(engine.dead_letters().unwrap());
                    // There are fewer processors than threads.
                    std::thread::sleep(Duration::from_micros(20));
                }
                read.extend(engine.dead_letters().unwrap());
                read
            });
            let writers: Vec<_> = (0..clients)
                .map(|number| {
                    let mut client = client(&engine);
                    scope.spawn(move || {
                        for message in 0..messages {
                            late(&mut client, message % 11, number * messages + message);
                        }
                    })
                })
                .collect();
            for writer in writers {
                writer.join().unwrap();
            }
            writing.store(false, Ordering::Release);
            for letter in reader.join().unwrap() {
                let id = letter.message_id().unwrap() as u64;
                assert_eq!((letter.key(), letter.reason()), (id % messages % 11, FailureCode::DeadlinePassed));
                assert_eq!(letter.payload(), add(id as u32).as_bytes(), "torn");
                assert!(seen.insert(id), "{id} was read twice");
            }
        });
        let totals = counters(&engine);
        let dropped = totals[Counter::DeadLettersDropped as usize];
        assert_eq!(totals[Counter::DeadLetters as usize], seen.len() as u64);
        assert_eq!(seen.len() as u64 + dropped, clients * messages);
        assert!(seen.len() >= 64);
    }
}

on_every_backend! {
    /// Letters outlive the launch in which they were written, and the kernel.
    fn letters_survive_a_relaunch_and_a_stop(bench: &Bench) {
        let engine = bench.engine();
        let mut client = client(&engine);
        late(&mut client, 1, 1);
        engine.relaunch().unwrap();
        late(&mut client, 1, 2);
        assert_eq!(letters(&engine).len(), 2);
        late(&mut client, 1, 3);
        engine.stop().unwrap();
        assert_eq!(only(&engine).message_id(), Some(3));
        assert!(engine.dead_letters().unwrap().is_empty());
    }
}
