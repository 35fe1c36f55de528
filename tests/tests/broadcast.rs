//! Broadcasts: every living actor of a kind gets each exactly once, whatever else is under way, and what cannot be broadcast fails with a
//! reason.

use std::collections::HashSet;
use std::time::Duration;

use tourbillon::abi::broadcast::{BROADCAST_KIND, broadcast_key, broadcasts_max};
use tourbillon::abi::header::{Flags, Header};
use tourbillon::actors::courier::{Ending, Note, Report, Roam, Route};
use tourbillon::actors::crier::{Cry, CryAndPanic, Hear, HearMuch, Listen, UNHEARD_OF, WORDS};
use tourbillon::actors::echo::Ping16;
use tourbillon::actors::rover::Seen;
use tourbillon::{CallError, Client, Counter, Engine, EngineBuilder, FailureCode, MailboxUsage, Message, Plain};
use tourbillon_bank::Crier;
use tourbillon_tests::bench::{client, counters, eventually, mixed};
use tourbillon_tests::raw::exchange;
use tourbillon_tests::store::{ToldStore, settled_places};
use tourbillon_tests::{Bench, on_backends, on_every_backend};

/// How long a test waits for the last letter.
const QUIET_TIME_MAX: Duration = Duration::from_secs(60);

fn builder(bench: &Bench) -> EngineBuilder {
    bench.builder_for(tourbillon_bank::image()).actors_per_shard(4096)
}

fn key_of(number: u64) -> u64 {
    mixed(number)
}

/// Wakes so many criers, in all shards.
fn wake(client: &mut Client, criers: u64) {
    for reply in client.call_many((0..criers).map(|number| (key_of(number), Listen {}))) {
        reply.unwrap();
    }
}

fn listen(client: &mut Client, criers: u64) -> Vec<Crier> {
    client.call_many((0..criers).map(|number| (key_of(number), Listen {}))).into_iter().map(Result::unwrap).collect()
}

/// Waits until nothing is under way; all that was sent was received, and all room and all numbers have come back.
fn quiet(engine: &Engine) -> Vec<MailboxUsage> {
    let traffic = engine.quiesce(QUIET_TIME_MAX).unwrap();
    // Shards tell of all the room that is free when they stop.
    engine.relaunch().unwrap();
    engine.pause().unwrap();
    let mailboxes = engine.mailboxes().unwrap();
    engine.resume().unwrap();
    let shape = engine.geometry().mailbox_shape();
    let room = u64::from(shape.capacity() / 2);
    for (shard, mailbox) in mailboxes.iter().enumerate() {
        assert_eq!(mailbox.slots_put, mailbox.slots_taken, "shard {shard}: {mailbox:?}");
        assert_eq!(mailbox.room, room - u64::from(broadcasts_max(shape)), "shard {shard}: {mailbox:?}");
        assert_eq!((mailbox.answer_room, mailbox.waiting), (room, 0), "shard {shard}: {mailbox:?}");
    }
    let sum = |figure: fn(&MailboxUsage) -> u64| mailboxes.iter().map(figure).sum::<u64>();
    assert_eq!((sum(|mailbox| mailbox.sent), sum(|mailbox| mailbox.received)), (traffic.letters, traffic.letters));
    mailboxes
}

/// Broadcasts, again and again while too many are under way.
fn insist<M: Message>(client: &mut Client, message: &M) {
    eventually("there is a number", || match client.broadcast(message) {
        Ok(()) => true,
        Err(CallError::TooManyBroadcasts) => false,
        Err(error) => panic!("{error}"),
    });
}

on_every_backend! {
    fn every_living_actor_of_the_kind_hears_once(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        let criers = bench.scale(5_000, 300);
        wake(&mut client, criers);
        for courier in 0..20u64 {
            client.call(courier, Report {}).unwrap();
        }
        client.broadcast(&Hear { word: 3 }).unwrap();
        quiet(&engine);
        client.broadcast(&Note { from: 0, number: 1, ending: Ending::Reply }).unwrap();
        quiet(&engine);
        client.broadcast(&HearMuch { words: [5; 44] }).unwrap();
        quiet(&engine);
        for crier in listen(&mut client, criers) {
            assert_eq!((crier.heard, crier.digest, crier.times[3], crier.times[5]), (2, 3 + 5 * 44, 1, 1));
        }
        for courier in 0..20u64 {
            assert_eq!(client.call(courier, Report {}).unwrap().received, 1);
        }
        let totals = counters(&engine);
        assert_eq!(totals[Counter::BroadcastLetters as usize], 2 * criers + 20);
        assert_eq!((totals[Counter::Broadcasts as usize], totals[Counter::Failed as usize]), (3, 0));
        // Who comes later has not heard.
        assert_eq!(client.call(key_of(criers), Listen {}).unwrap().heard, 0);
    }
}

on_every_backend! {
    /// More one after the other than there are numbers.
    fn numbers_come_back(bench: &Bench) {
        let engine = builder(bench).mailbox_capacity(32).build().unwrap();
        let mut client = client(&engine);
        let rounds = bench.scale(300, 12);
        wake(&mut client, 8);
        for round in 0..rounds {
            client.broadcast(&Hear { word: round }).unwrap();
            engine.quiesce(QUIET_TIME_MAX).unwrap();
        }
        quiet(&engine);
        for crier in listen(&mut client, 8) {
            assert_eq!((crier.heard, crier.digest), (rounds, (0..rounds).sum()));
        }
    }
}

on_every_backend! {
    /// Handlers broadcast, many at the same time, and each of them in several messages.
    fn actors_broadcast_all_at_once(bench: &Bench) {
        let engine = builder(bench).dead_letters(4096).build().unwrap();
        let mut client = client(&engine);
        let (criers, crying, left) = (bench.scale(400, 60), bench.scale(40, 6), bench.scale(8, 2) as u32);
        // Their neighbours, to which they send themselves on, live from the beginning.
        let keys: Vec<u64> = (0..criers).map(|number| number << 20).collect();
        let all: Vec<u64> = keys.iter().flat_map(|key| (0..=u64::from(left)).map(move |step| key + step)).collect();
        for reply in client.call_many(all.iter().map(|key| (*key, Listen {}))) {
            reply.unwrap();
        }
        let mut expected = [0u64; WORDS];
        let cries: Vec<_> = (0..crying).map(|number| Cry { word: number, broadcasts: 1 + number as u32 % 2, left }).collect();
        let sent = cries.iter().enumerate().map(|(number, cry)| (keys[number], *cry));
        for (cry, reply) in cries.iter().zip(client.call_many(sent)) {
            match reply {
                Ok(()) => expected[cry.word as usize % WORDS] += u64::from(cry.broadcasts * (cry.left + 1)),
                Err(CallError::TooManyBroadcasts) => {}
                Err(error) => panic!("{error}"),
            }
        }
        quiet(&engine);
        for letter in engine.dead_letters().unwrap() {
            assert_eq!(letter.reason(), FailureCode::TooManyBroadcasts);
            let cry: Cry = Plain::from_bytes(letter.payload()).unwrap();
            expected[cry.word as usize % WORDS] -= u64::from(cry.broadcasts * (cry.left + 1));
        }
        let begun: u64 = expected.iter().sum();
        assert!(begun > 0);
        for reply in client.call_many(all.iter().map(|key| (*key, Listen {}))) {
            let crier = reply.unwrap();
            assert_eq!(crier.times.map(u64::from), expected, "{crier:?}");
        }
        assert_eq!(counters(&engine)[Counter::Broadcasts as usize], begun);
    }
}

on_every_backend! {
    /// Mailboxes of the smallest size, which other traffic fills, and messages of the largest.
    fn broadcasts_wait_for_room_and_lose_nobody(bench: &Bench) {
        let engine = builder(bench).shards(bench.scale(8, 3) as u32).mailbox_capacity(32).overflow_capacity(4096).build().unwrap();
        let mut client = client(&engine);
        let (criers, rounds) = (bench.scale(600, 60), bench.scale(40, 3));
        wake(&mut client, criers);
        let (roams, hops) = (bench.scale(40, 12), bench.scale(2_000, 40) as u32);
        for roam in 0..roams {
            client.call(roam, Roam::new(hops, Route::Random, 64, mixed(roam))).unwrap();
        }
        for round in 0..rounds {
            insist(&mut client, &HearMuch { words: [round; 44] });
            insist(&mut client, &Hear { word: round });
        }
        quiet(&engine);
        let digest = (0..rounds).map(|round| round * 45).sum::<u64>();
        for crier in listen(&mut client, criers) {
            assert_eq!((crier.heard, crier.digest), (2 * rounds, digest), "{crier:?}");
        }
        let received: u64 = (0..64u64).map(|key| client.call(key, Report {}).unwrap().received).sum();
        assert_eq!(received, roams * (u64::from(hops) + 1));
    }
}

on_every_backend! {
    /// Long ones, which fill the mailboxes, are overtaken by short ones, more of them than there are numbers.
    fn short_broadcasts_pass_long_ones(bench: &Bench) {
        let shards = bench.scale(4, 2) as u32;
        let engine = builder(bench).shards(shards).actors_per_shard(256).mailbox_capacity(32).build().unwrap();
        let mut client = client(&engine);
        let (criers, rounds) = (bench.scale(400, 80), bench.scale(12, 3));
        wake(&mut client, criers);
        for round in 0..rounds {
            insist(&mut client, &HearMuch { words: [round; 44] });
            for _ in 0..8 {
                // None of them lives.
                insist(&mut client, &Seen {});
            }
            insist(&mut client, &Hear { word: round });
        }
        quiet(&engine);
        let digest = (0..rounds).map(|round| round * 45).sum::<u64>();
        for crier in listen(&mut client, criers) {
            assert_eq!((crier.heard, crier.digest), (2 * rounds, digest), "{crier:?}");
        }
        assert_eq!(counters(&engine)[Counter::Broadcasts as usize], rounds * 10);
    }
}

on_every_backend! {
    /// Several clients broadcast while the kernel is stopped and launched again and again.
    fn broadcasts_survive_relaunches(bench: &Bench) {
        let engine = builder(bench).mailbox_capacity(64).build().unwrap();
        let mut main = client(&engine);
        let (criers, rounds, clients) = (bench.scale(2_000, 100), bench.scale(60, 4), 2);
        wake(&mut main, criers);
        std::thread::scope(|scope| {
            for word in 0..clients {
                let mut client = client(&engine);
                scope.spawn(move || {
                    for _ in 0..rounds {
                        insist(&mut client, &Hear { word });
                    }
                });
            }
            for _ in 0..bench.scale(12, 4) {
                engine.relaunch().unwrap();
                engine.pause().unwrap();
                engine.resume().unwrap();
                std::thread::sleep(Duration::from_millis(bench.scale(3, 20)));
            }
        });
        quiet(&engine);
        for crier in listen(&mut main, criers) {
            assert_eq!(crier.times[..clients as usize], vec![rounds as u32; clients as usize], "{crier:?}");
        }
    }
}

on_every_backend! {
    /// A handler that panics has broadcast nothing; and when all panic who hear it, all hear the next.
    fn panics_neither_broadcast_nor_stop_one(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        let criers = bench.scale(100, 40);
        wake(&mut client, criers);
        let failed = client.call(key_of(0), CryAndPanic { word: 1 });
        assert!(matches!(failed, Err(CallError::Panicked { .. })), "{failed:?}");
        client.broadcast(&Hear { word: UNHEARD_OF }).unwrap();
        insist(&mut client, &Hear { word: 2 });
        quiet(&engine);
        for crier in listen(&mut client, criers) {
            assert_eq!((crier.heard, crier.times[2]), (1, 1), "{crier:?}");
        }
        let totals = counters(&engine);
        assert_eq!(totals[Counter::Panicked as usize], criers + 1);
        assert_eq!(totals[Counter::BroadcastLetters as usize], 2 * criers);
    }
}

fn request(kind: u16, message: u8, flags: u16, length: u16) -> Header {
    Header {
        key: broadcast_key(kind, 1),
        kind: BROADCAST_KIND,
        message,
        hops: 0,
        length,
        flags: Flags::new(2, flags),
        hint: 0,
        hlc: 0,
    }
}

fn failure(client: &mut Client, header: Header, payload: &[u8]) -> Option<FailureCode> {
    exchange(client, header, payload).1
}

on_every_backend! {
    fn what_cannot_be_broadcast_fails(bench: &Bench) {
        let engine = builder(bench).dead_letters(64).build().unwrap();
        let mut client = client(&engine);
        // None lives.
        client.broadcast(&Hear { word: 1 }).unwrap();
        quiet(&engine);
        wake(&mut client, 3);
        assert_eq!(client.broadcast(&Ping16 { words: [0; 4] }), Err(CallError::UnknownKind));
        assert_eq!(client.call(key_of(0), Cry { word: 1, broadcasts: 5, left: 0 }), Err(CallError::TooManyLetters { most: 4 }));
        // Three were begun, and nothing of them is left.
        assert_eq!(client.call(key_of(0), Cry { word: 1, broadcasts: 100, left: 0 }), Err(CallError::TooManyLetters { most: 4 }));
        assert_eq!(failure(&mut client, request(0, 0, 0, 8), &[0; 8]), Some(FailureCode::UnknownKind));
        assert_eq!(failure(&mut client, request(15 | 1 << 14, 0, 0, 8), &[0; 8]), Some(FailureCode::UnknownKind));
        assert_eq!(failure(&mut client, request(15, 0, 0, 400), &[0; 8]), Some(FailureCode::MalformedFrame));
        let with_id = failure(&mut client, request(15, 0, Flags::MESSAGE_ID, 8), &[0; 4 * (4 + 2)]);
        assert_eq!(with_id, Some(FailureCode::CannotBroadcast));
        let with_version = failure(&mut client, request(15, 0, Flags::IF_VERSION, 8), &[0xff; 4 * (2 + 2)]);
        assert_eq!(with_version, Some(FailureCode::CannotBroadcast));
        let refused = engine.dead_letters().unwrap();
        assert!(refused.iter().all(|letter| letter.reason() != FailureCode::TooManyBroadcasts), "{refused:?}");
        // No such message, and one of another length: the actors say so, each for itself.
        assert_eq!(failure(&mut client, request(15, 99, 0, 8), &[0; 8]), None);
        assert_eq!(failure(&mut client, request(15, 0, 0, 4), &[0; 4]), None);
        quiet(&engine);
        let mut reasons: Vec<_> = engine.dead_letters().unwrap().iter().map(|letter| letter.reason() as u32).collect();
        reasons.sort_unstable();
        assert_eq!(reasons, [[FailureCode::UnknownMessage as u32; 3], [FailureCode::InvalidPayload as u32; 3]].concat());
        assert!(listen(&mut client, 3).iter().all(|crier| crier.heard == 0));
        assert_eq!(counters(&engine)[Counter::Broadcasts as usize], 3);
    }
}

on_backends! {
    [native_1, simt_4]
    fn without_letters_there_are_no_broadcasts(bench: &Bench) {
        let engine = bench.builder().build().unwrap();
        let mut client = client(&engine);
        assert_eq!(client.broadcast(&Ping16 { words: [0; 4] }), Err(CallError::NoMailboxes));
        assert_eq!(failure(&mut client, request(1, 0, 0, 16), &[0; 16]), Some(FailureCode::UnknownKeySpace));
    }
}

on_every_backend! {
    /// As many at once as there are numbers for, and no more: the others are refused, and all that were not are heard.
    fn too_many_at_once_are_refused(bench: &Bench) {
        let engine = builder(bench).shards(1).mailbox_capacity(32).build().unwrap();
        let mut client = client(&engine);
        wake(&mut client, 20);
        let cries = |number: u64| (key_of(number % 20), Cry { word: 1, broadcasts: 3, left: 0 });
        let (mut begun, mut refused) = (0, 0);
        for reply in client.call_many((0..bench.scale(400, 60)).map(cries)) {
            match reply {
                Ok(()) => begun += 3,
                Err(CallError::TooManyBroadcasts) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        let mailboxes = quiet(&engine);
        assert!(begun > 0 && (refused > 0 || bench.is_narrow()), "{begun} {refused} {mailboxes:?}");
        assert!(listen(&mut client, 20).iter().all(|crier| crier.heard == begun));
    }
}

on_every_backend! {
    /// With a store. Actors that stay hear once, also when the store fails to take them; others once at most.
    fn actors_that_come_and_go_hear_once_at_most(bench: &Bench) {
        let store = ToldStore::new();
        let engine = builder(bench).shards(2).actors_per_shard(50).store(store.clone()).build().unwrap();
        let mut client = client(&engine);
        let (criers, rounds) = (bench.scale(60, 30), bench.scale(40, 6));
        wake(&mut client, criers);
        for letters in [false, true] {
            store.fails_to_keep.store(!letters, std::sync::atomic::Ordering::Relaxed);
            for round in 0..rounds {
                engine.evict(bench.scale(8, 4)).unwrap();
                insist(&mut client, &Hear { word: u64::from(letters) });
                if round % 2 == 0 {
                    // Some come back meanwhile.
                    let _some = listen(&mut client, criers / 4);
                }
            }
            engine.quiesce(QUIET_TIME_MAX).unwrap();
            settled_places(&engine);
            if !letters {
                assert_eq!(engine.store_counts().kept, 0);
                let heard: HashSet<_> = listen(&mut client, criers).iter().map(|crier| crier.times[0]).collect();
                assert_eq!(heard, HashSet::from([rounds as u32]));
            }
        }
        assert!(engine.store_counts().kept > 0);
        let heard: Vec<_> = listen(&mut client, criers).iter().map(|crier| u64::from(crier.times[1])).collect();
        assert!(heard.iter().all(|times| *times <= rounds), "{heard:?}");
        // Those that had left have heard less, unless a letter that was on its way brought them back.
        let letters = counters(&engine)[Counter::BroadcastLetters as usize];
        assert_eq!(heard.iter().sum::<u64>() + criers * rounds, letters);
        assert_eq!(store.faults(), [""; 0]);
    }
}
