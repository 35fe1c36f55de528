//! Actors that come and go: more of them than there is room for, a store that keeps the others, and what happens when it fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tourbillon::actors::blob::Mirror;
use tourbillon::actors::counter::{Add, Get};
use tourbillon::actors::echo::{Ping16, Ping352};
use tourbillon::actors::faulty::{Fault, Trigger};
use tourbillon::actors::{Counter as Counting, Faulty};
use tourbillon::{
    Actor, ActorKey, CallError, Client, Context, Counter, Engine, EngineError, Handler, NoError, Plain, State, Store,
    StoredActor, actor, system,
};
use tourbillon_tests::bench::{REPLY_TIME_MAX, add_to, bytes_of, client, counted, counters, eventually, mixed};
use tourbillon_tests::store::{Asked, Hands, ToldStore, roomy, settled_places};
use tourbillon_tests::{on_backends, on_every_backend};

fn evict_fetch(key: u64) -> (Asked, Asked) {
    (Asked::Evict(ActorKey::Native(key)), Asked::Fetch(ActorKey::Native(key)))
}

/// Sends `messages` additions over `keys` keys, as deep as the lane holds, and checks every reply against `oracle`.
fn churn(client: &mut Client, keys: std::ops::Range<u64>, messages: u64, seed: u64, oracle: &mut BTreeMap<u64, u64>) {
    let span = keys.end - keys.start;
    let message = |number: u64| {
        let word = mixed(seed ^ number);
        // Some keys far more often than others.
        (keys.start + (word % span) * (word >> 32 & 0xff) / 256, (word >> 48) as u32 + 1)
    };
    let mut pipeline = client.pipeline();
    let (mut sent, mut answered) = (0, 0);
    while answered < messages {
        // Less than wait at a shard at most, so that none is refused.
        while sent < messages && sent - answered < 100 {
            let (key, amount) = message(sent);
            if !pipeline.push(key, &Add { amount, sender: 0, sequence: sent + 1 }).unwrap() {
                break;
            }
            sent += 1;
        }
        let Some(reply) = pipeline.pop() else { continue };
        let (key, amount) = message(answered);
        let total = oracle.entry(key).or_default();
        assert_eq!(reply.unwrap().previous, *total, "message {answered} to {key}");
        *total += u64::from(amount);
        answered += 1;
    }
}

fn check_all(client: &mut Client, oracle: &BTreeMap<u64, u64>) {
    for (key, total) in oracle {
        assert_eq!(client.call(*key, Get {}), Ok(*total), "actor {key}");
    }
}

on_every_backend! {
    /// Many actors in room for few: every one is exact, and nothing grows.
    fn churn_keeps_every_actor_exact(bench: &Bench) {
        let store = ToldStore::new();
        let engine = roomy(bench, 2, 6, &store).build().unwrap();
        let mut clients: Vec<_> = (0..2).map(|_| client(&engine)).collect();
        let mut oracles = vec![BTreeMap::new(); 2];
        let keys = bench.scale(400, 40);
        for round in 0..2 {
            std::thread::scope(|scope| {
                for (number, (client, oracle)) in clients.iter_mut().zip(&mut oracles).enumerate() {
                    let first = number as u64 * keys;
                    let messages = bench.scale(6_000, 250);
                    scope.spawn(move || churn(client, first..first + keys, messages, round << 8 | first, oracle));
                }
            });
            for places in settled_places(&engine) {
                assert!(places.slab_used <= 6 && places.buckets_used <= 6, "{places:?}");
            }
        }
        for (client, oracle) in clients.iter_mut().zip(&oracles) {
            check_all(client, oracle);
        }
        settled_places(&engine);
        let totals = counters(&engine);
        let of = |counter: Counter| totals[counter as usize];
        let actors = oracles.iter().map(BTreeMap::len).sum::<usize>() as u64;
        assert_eq!(of(Counter::Activated), actors, "each began anew once");
        assert!(of(Counter::Evicted) >= actors - 12 && of(Counter::Fetched) > 0);
        assert_eq!((of(Counter::Waiting), of(Counter::Failed)), (0, 0));
        let counts = engine.store_counts();
        assert_eq!((counts.kept, counts.fetched), (of(Counter::Evicted), of(Counter::Fetched)));
        assert_eq!(store.faults(), [""; 0]);
        assert!(engine.drain(REPLY_TIME_MAX).unwrap().is_complete());
    }
}

on_every_backend! {
    /// Stops and launches in the middle of it lose nothing.
    fn churn_survives_relaunches(bench: &Bench) {
        let store = ToldStore::new();
        let engine = roomy(bench, 2, 5, &store).build().unwrap();
        let mut client = client(&engine);
        let mut oracle = BTreeMap::new();
        let launches = bench.scale(12, 4);
        std::thread::scope(|scope| {
            let (client, oracle) = (&mut client, &mut oracle);
            let churning = scope.spawn(move || churn(client, 0..60, bench.scale(8_000, 400), 77, oracle));
            for _ in 0..launches {
                engine.relaunch().unwrap();
                std::thread::sleep(Duration::from_millis(bench.scale(5, 40)));
            }
            churning.join().unwrap();
        });
        check_all(&mut client, &oracle);
        settled_places(&engine);
        assert_eq!((store.faults(), engine.launches()), (vec![], launches + 1));
    }
}

on_every_backend! {
    /// The actor that was used least recently makes room, and what was forgotten begins anew.
    fn the_least_recently_used_actor_leaves(bench: &Bench) {
        let store = ToldStore::new();
        let engine = roomy(bench, 1, 3, &store).build().unwrap();
        let mut client = client(&engine);
        for key in [1, 2, 3, 1, 3] {
            add_to(&mut client, key, 10);
        }
        add_to(&mut client, 4, 10);
        let (evict, fetch) = evict_fetch(2);
        assert!(store.log().contains(&evict), "{:?}", store.log());
        assert_eq!(store.log().iter().filter(|asked| matches!(asked, Asked::Evict(_))).count(), 1);
        let kept = store.kept.get(Counting::KIND, &ActorKey::Native(2)).unwrap();
        assert_eq!((kept.version, kept.state.len()), (1, 64));
        assert_eq!((kept.schema_version, kept.layout_hash), (Counting::SCHEMA, Counting::LAYOUT));
        assert_eq!(kept.state[..8], 10u64.to_le_bytes());
        assert!(kept.hlc > 0);
        assert_eq!(engine.inspect::<Counting>(2).unwrap(), None);
        // It comes back with its version, and another goes.
        assert_eq!(add_to(&mut client, 2, 5), 10);
        assert_eq!(store.log().iter().filter(|asked| **asked == fetch).count(), 2);
        assert_eq!(engine.inspect::<Counting>(2).unwrap().unwrap().0.version, 2);
        assert_eq!(store.log().last(), Some(&fetch));
        // A store that knows nothing: the actor begins anew.
        engine.evict(3).unwrap();
        eventually("all have gone", || engine.store_counts().kept >= 5);
        store.forgets.store(true, Ordering::Relaxed);
        assert_eq!(add_to(&mut client, 2, 5), 0);
        settled_places(&engine);
    }
}

on_every_backend! {
    /// What nobody asked for in a while goes to the store, by the clock that the engine was given; what was used stays.
    fn idle_actors_leave_by_the_clock_that_was_given(bench: &Bench) {
        let (store, hands) = (ToldStore::new(), Hands::new());
        let builder = roomy(bench, 2, 64, &store).clock(Arc::clone(&hands));
        let engine = builder.idle_after(Duration::from_secs(3600)).idle_check(Duration::from_secs(60)).build().unwrap();
        let mut client = client(&engine);
        let actors = bench.scale(80, 30);
        for key in 0..actors {
            add_to(&mut client, key, 1);
        }
        hands.advance(Duration::from_secs(61));
        eventually("it was looked for idle actors", || engine.store_counts().sweeps == 1);
        assert_eq!(settled_places(&engine).iter().map(|shard| shard.state.places).sum::<u32>(), actors as u32);
        assert_eq!(engine.store_counts().kept, 0);
        // None was used for an hour, as the clock has it.
        hands.advance(Duration::from_secs(3600));
        eventually("all have gone", || engine.store_counts().kept == actors);
        let places = settled_places(&engine);
        assert_eq!(places.iter().map(|shard| shard.state.places).sum::<u32>(), 0);
        assert_eq!(places.iter().map(|shard| shard.free_list).sum::<u32>(), actors as u32);
        for key in 0..actors {
            assert_eq!(add_to(&mut client, key, 1), 1);
        }
        assert_eq!(counted(&engine, Counter::Fetched), actors);
    }
}

on_every_backend! {
    /// Messages to an actor on its way wait, in order, and run before those that come later; others are served meanwhile.
    fn waiters_run_in_order_and_before_all_that_comes_later(bench: &Bench) {
        let store = ToldStore::new();
        let engine = roomy(bench, 1, 8, &store).build().unwrap();
        let (mut waiting, mut other) = (client(&engine), client(&engine));
        assert_eq!(add_to(&mut other, 2, 1), 0);
        let hold = store.hold();
        let mut pipeline = waiting.pipeline();
        for sequence in 1..=20 {
            assert!(pipeline.push(1, &Add { amount: 1, sender: 3, sequence }).unwrap());
        }
        store.wait_for(&evict_fetch(1).1);
        for round in 1..50 {
            assert_eq!(add_to(&mut other, 2, 1), round, "an actor that is there is served");
        }
        eventually("all wait", || counted(&engine, Counter::Waiting) == 20);
        assert!(pipeline.try_pop().is_none());
        engine.relaunch().unwrap();
        drop(hold);
        for sequence in 21..=30 {
            assert!(pipeline.push(1, &Add { amount: 1, sender: 3, sequence }).unwrap());
        }
        for before in 0..30 {
            let added = pipeline.pop().unwrap().unwrap();
            assert_eq!((added.previous, added.last_sequence), (before, before));
        }
        assert_eq!(counted(&engine, Counter::Waiting), 0);
        settled_places(&engine);
    }
}

on_every_backend! {
    /// Messages that waited for room run before those that come while their actor is fetched.
    fn those_who_wait_for_room_are_not_overtaken(bench: &Bench) {
        let store = ToldStore::new();
        let engine = roomy(bench, 1, 1, &store).build().unwrap();
        let (mut waiting, mut other) = (client(&engine), client(&engine));
        assert_eq!(add_to(&mut other, 1, 1), 0);
        let hold = store.hold();
        let mut pipeline = waiting.pipeline();
        for sequence in 1..=4 {
            assert!(pipeline.push(2, &Add { amount: 1, sender: 3, sequence }).unwrap());
        }
        store.wait_for(&evict_fetch(1).0);
        eventually("all wait for room", || counted(&engine, Counter::Waiting) == 4);
        store.takes_us.store(200_000, Ordering::Relaxed);
        drop(hold);
        store.wait_for(&evict_fetch(2).1);
        // The store takes its time: these come while the actor is on its way.
        for sequence in 5..=8 {
            assert!(pipeline.push(2, &Add { amount: 1, sender: 3, sequence }).unwrap());
        }
        for before in 0..8 {
            let added = pipeline.pop().unwrap().unwrap();
            assert_eq!((added.previous, added.last_sequence), (before, before));
        }
        settled_places(&engine);
    }
}

on_every_backend! {
    /// Past the bound a message is refused; those that wait are not.
    fn no_more_wait_than_may(bench: &Bench) {
        let store = ToldStore::new();
        let engine = roomy(bench, 1, 2, &store).waiters(4).build().unwrap();
        let (mut client, mut other) = (client(&engine), client(&engine));
        let hold = store.hold();
        let mut pipeline = client.pipeline();
        for (sent, key) in [1, 2, 3, 1, 4, 2].into_iter().enumerate() {
            assert!(pipeline.push(key, &Add { amount: 1, sender: 0, sequence: 1 }).unwrap());
            eventually("no more than four wait", || counted(&engine, Counter::Waiting) == 4.min(sent as u64 + 1));
        }
        store.wait_for(&evict_fetch(1).1);
        assert_eq!(other.call(9, Get {}), Err(CallError::TooManyWaiters));
        drop(hold);
        let replies: Vec<_> = (0..6).map(|_| pipeline.pop().unwrap().map(|added| added.previous)).collect();
        let refused = Err(CallError::TooManyWaiters);
        assert_eq!(replies, [Ok(0), Ok(0), Ok(0), Ok(1), refused.clone(), refused]);
        drop(pipeline);
        // All places are free again.
        assert_eq!((add_to(&mut client, 4, 1), add_to(&mut client, 2, 1)), (0, 1));
        settled_places(&engine);
    }
}

on_every_backend! {
    /// A store that does not bring an actor: those who wait are told, and the next message asks again.
    fn a_fetch_that_fails_is_told_and_tried_again(bench: &Bench) {
        let store = ToldStore::new();
        let engine = roomy(bench, 1, 2, &store).build().unwrap();
        let mut client = client(&engine);
        assert_eq!(add_to(&mut client, 1, 7), 0);
        engine.evict(1).unwrap();
        eventually("it has gone", || engine.store_counts().kept == 1);
        store.fails_to_bring.store(true, Ordering::Relaxed);
        let replies = client.call_many((0..5).map(|_| (1u64, Get {})));
        assert!(replies.iter().all(|reply| *reply == Err(CallError::FetchFailed)), "{replies:?}");
        assert!(counted(&engine, Counter::FetchFailures) >= 1);
        assert_eq!(settled_places(&engine)[0].state.places, 0);
        store.fails_to_bring.store(false, Ordering::Relaxed);
        assert_eq!(client.call(1, Get {}), Ok(7));
        settled_places(&engine);
    }
}

on_every_backend! {
    /// A store that keeps nothing: actors stay, exact, and there is no room for others until it does.
    fn an_eviction_that_fails_costs_nothing(bench: &Bench) {
        let store = ToldStore::new();
        let engine = roomy(bench, 1, 2, &store).build().unwrap();
        let mut client = client(&engine);
        assert_eq!((add_to(&mut client, 1, 1), add_to(&mut client, 2, 1)), (0, 0));
        store.fails_to_keep.store(true, Ordering::Relaxed);
        for round in 1..4 {
            assert_eq!(client.call(3, Get {}), Err(CallError::DirectoryFull));
            assert_eq!((add_to(&mut client, 1, 1), add_to(&mut client, 2, 1)), (round, round));
        }
        assert!(counted(&engine, Counter::EvictFailures) >= 3);
        assert_eq!(engine.store_counts().keep_failures, counted(&engine, Counter::EvictFailures));
        store.fails_to_keep.store(false, Ordering::Relaxed);
        assert_eq!(client.call(3, Get {}), Ok(0));
        assert_eq!((add_to(&mut client, 1, 1), add_to(&mut client, 2, 1)), (4, 4));
        settled_places(&engine);
    }
}

on_every_backend! {
    /// A message to an actor that is being evicted finds what it was; and one that is kept after all goes on as it was.
    fn messages_to_an_actor_on_its_way_out_wait(bench: &Bench) {
        let store = ToldStore::new();
        let engine = roomy(bench, 1, 1, &store).build().unwrap();
        let mut client = client(&engine);
        for fails in [false, true] {
            let before = add_to(&mut client, 1, 3);
            store.fails_to_keep.store(fails, Ordering::Relaxed);
            let asked = store.log().iter().filter(|asked| **asked == evict_fetch(1).0).count();
            let hold = store.hold();
            engine.evict(1).unwrap();
            eventually("it is on its way", || {
                store.log().iter().filter(|asked| **asked == evict_fetch(1).0).count() > asked
            });
            let mut pipeline = client.pipeline();
            for sequence in 1..=3 {
                assert!(pipeline.push(1, &Add { amount: 1, sender: 0, sequence }).unwrap());
            }
            eventually("three wait", || counted(&engine, Counter::Waiting) == 3);
            drop(hold);
            for more in 0..3 {
                assert_eq!(pipeline.pop().unwrap().unwrap().previous, before + 3 + more);
            }
        }
        assert_eq!(store.faults(), [""; 0]);
        settled_places(&engine);
    }
}

on_every_backend! {
    /// Handlers of waiting messages that panic cost their messages alone, also where they cost lanes of the warp.
    fn waiters_that_panic_leave_the_others_alone(bench: &Bench) {
        let store = ToldStore::new();
        let engine = roomy(bench, 1, 4, &store).build().unwrap();
        let mut client = client(&engine);
        for round in 0..3u64 {
            let hold = store.hold();
            let plan: Vec<Fault> =
                (0..12).map(|i| if (i + round) % 3 == 1 { Fault::Panic } else { Fault::Nothing }).collect();
            let mut pipeline = client.pipeline();
            for fault in &plan {
                assert!(pipeline.push(5, &Trigger { fault: *fault, argument: 0 }).unwrap());
            }
            eventually("all wait", || counted(&engine, Counter::Waiting) == 12);
            drop(hold);
            let mut handled = round * 8;
            for (number, fault) in plan.iter().enumerate() {
                let reply = pipeline.pop().unwrap();
                if *fault == Fault::Panic {
                    assert!(matches!(reply, Err(CallError::Panicked { .. })), "{number}: {reply:?}");
                } else {
                    handled += 1;
                    assert_eq!(reply, Ok(handled), "message {number} of round {round}");
                }
            }
            drop(pipeline);
            engine.evict(1).unwrap();
            eventually("it has gone", || engine.store_counts().kept == round + 1);
        }
        assert_eq!(store.faults(), [""; 0]);
        assert_eq!(store.kept.get(Faulty::KIND, &ActorKey::Native(5)).unwrap().version, 24);
    }
}

/// Sends additions and failing messages, one in flight for each of `keys` keys and kind, and checks every reply; those that the store
/// failed count for nothing.
fn mix(client: &mut Client, keys: u64, rounds: u64, seed: u64) -> (Vec<u64>, Vec<u64>) {
    let (mut sums, mut handled) = (vec![0u64; keys as usize], vec![0u64; keys as usize]);
    let is_stores = |error: &str| matches!(error, "FetchFailed" | "DirectoryFull");
    for round in 0..rounds {
        let word = |key: u64| mixed(seed << 40 ^ round << 16 ^ key);
        let of_round: Vec<u64> = (0..keys).filter(|key| word(*key) % 3 == 0).collect();
        let adds = client.call_many(of_round.iter().map(|key| (*key, Add { amount: 2, sender: 0, sequence: 1 })));
        for (key, reply) in of_round.iter().zip(adds) {
            let sum = &mut sums[*key as usize];
            match reply {
                Ok(added) => {
                    assert_eq!(added.previous, *sum, "actor {key} in round {round}");
                    *sum += 2;
                }
                Err(error) => assert!(is_stores(&format!("{error:?}")), "{error:?}"),
            }
        }
        let fault_of = |key: u64| if word(key) >> 20 & 7 == 0 { Fault::Panic } else { Fault::Nothing };
        let triggers =
            client.call_many(of_round.iter().map(|key| (*key, Trigger { fault: fault_of(*key), argument: 0 })));
        for (key, reply) in of_round.iter().zip(triggers) {
            let handled = &mut handled[*key as usize];
            match reply {
                Ok(count) => {
                    *handled += 1;
                    assert_eq!(count, *handled, "actor {key} in round {round}");
                    assert_eq!(fault_of(*key), Fault::Nothing);
                }
                Err(CallError::Panicked { .. }) => assert_eq!(fault_of(*key), Fault::Panic),
                Err(error) => assert!(is_stores(&format!("{error:?}")), "{error:?}"),
            }
        }
    }
    (sums, handled)
}

on_every_backend! {
    /// Panics, failures of the store, orders to evict and relaunches, all at the same time: every actor is exact.
    fn everything_at_once(bench: &Bench) {
        let store = ToldStore::new();
        let engine = roomy(bench, 2, 4, &store).build().unwrap();
        let (keys, rounds) = (24, bench.scale(200, 14));
        let mut client = client(&engine);
        let (sums, handled) = std::thread::scope(|scope| {
            let mixing = scope.spawn(|| mix(&mut client, keys, rounds, 5));
            let mut round = 0u64;
            while !mixing.is_finished() {
                let word = mixed(round);
                store.fails_to_keep.store(word & 7 == 0, Ordering::Relaxed);
                store.fails_to_bring.store(word >> 3 & 7 == 0, Ordering::Relaxed);
                if word >> 6 & 3 == 0 {
                    engine.evict(word >> 8 & 7).unwrap();
                }
                if word >> 11 & 7 == 0 {
                    engine.relaunch().unwrap();
                }
                round += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            mixing.join().unwrap()
        });
        store.fails_to_keep.store(false, Ordering::Relaxed);
        store.fails_to_bring.store(false, Ordering::Relaxed);
        for key in 0..keys {
            assert_eq!(client.call(key, Get {}), Ok(sums[key as usize]), "actor {key}");
            let trigger = Trigger { fault: Fault::Nothing, argument: 0 };
            assert_eq!(client.call(key, trigger), Ok(handled[key as usize] + 1), "actor {key}");
        }
        settled_places(&engine);
        assert_eq!(store.faults(), [""; 0]);
        assert!(engine.drain(REPLY_TIME_MAX).unwrap().is_complete());
    }
}

/// A sum, as it is now.
#[repr(C)]
#[derive(Clone, Copy, State)]
#[schema(2)]
struct Sum {
    value: u64,
}

/// What it was.
#[repr(C)]
#[derive(Clone, Copy, State)]
struct SumOf1 {
    value: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct More(u64);

impl Handler<More> for Sum {
    type Reply = u64;

    fn handle(&mut self, message: &More, _context: &mut Context) -> Result<u64, NoError> {
        self.value += message.0;
        Ok(self.value)
    }
}

fn upgrade(schema: u32, layout: u64, bytes: &[u8]) -> Option<Sum> {
    if (schema, layout) != (1, SumOf1::LAYOUT) {
        return None;
    }
    Some(Sum { value: SumOf1::from_bytes(bytes)?.value.into() })
}

actor!(Sum { kind: 901, error: NoError, messages: { 0: More }, upgrade: upgrade });
system! { struct Sums = [Sum]; }

// User code of a test is in the host's program alone: there is no kernel of it for a GPU.
on_backends! {
    [native_1, native_3, simt_4, simt_32]
    /// What an older program kept is taken over when it is fetched, and what cannot be is told.
    fn states_of_other_versions_are_taken_over(bench: &Bench) {
        let store = ToldStore::new();
        let old = |key: u64, layout_hash: u64| StoredActor {
            kind: 901,
            key: ActorKey::Native(key),
            version: 7,
            hlc: 1,
            schema_version: 1,
            layout_hash,
            state: 40u32.to_le_bytes().to_vec(),
            collections: Vec::new(),
        };
        store.kept.evict(&old(1, SumOf1::LAYOUT)).unwrap();
        store.kept.evict(&old(2, 99)).unwrap();
        let engine = bench.builder_for(Sums::image()).store(Arc::clone(&store)).build().unwrap();
        let mut client = client(&engine);
        assert_eq!(client.call(1, More(2)), Ok(42));
        assert_eq!(client.call(2, More(2)), Err(CallError::FetchFailed));
        assert_eq!(client.call(3, More(2)), Ok(2));
        engine.evict(1_000).unwrap();
        eventually("both have gone", || engine.store_counts().kept == 2);
        let kept = store.kept.get(901, &ActorKey::Native(1)).unwrap();
        assert_eq!((kept.schema_version, kept.layout_hash, kept.version), (2, Sum::LAYOUT, 8));
        assert_eq!(kept.state, 42u64.to_le_bytes());
        assert_eq!(store.kept.get(901, &ActorKey::Native(2)).unwrap(), old(2, 99), "what cannot be read is left alone");
    }
}

on_every_backend! {
    /// Without a store nothing ever leaves.
    fn without_a_store_a_full_shard_says_so(bench: &Bench) {
        let engine: Engine = bench.builder().shards(1).actors_per_shard(2).build().unwrap();
        let mut client = client(&engine);
        assert_eq!((add_to(&mut client, 1, 1), add_to(&mut client, 2, 1)), (0, 0));
        assert_eq!(client.call(3, Get {}), Err(CallError::DirectoryFull));
        assert!(matches!(engine.evict(1), Err(EngineError::NoStore)));
        assert_eq!(engine.store_counts(), tourbillon::StoreCounts::default());
        assert_eq!(add_to(&mut client, 1, 1), 1);
    }
}

on_every_backend! {
    /// Large payloads wait with their messages, and are fetched when these run.
    fn messages_with_large_payloads_wait(bench: &Bench) {
        let store = ToldStore::new();
        let engine = roomy(bench, 1, 1, &store).build().unwrap();
        let mut client = client(&engine);
        add_to(&mut client, 1, 1);
        let mut totals = [0; 2];
        for round in 0..4 {
            let payload = bytes_of(round, 2_000 + 700 * round as usize);
            let reply = client.call_large(round % 2, Mirror { word: round }, &payload, payload.len());
            let (seen, back) = reply.unwrap();
            let total = &mut totals[round as usize % 2];
            *total += payload.len() as u64;
            assert_eq!((seen.word, seen.bytes), (round, *total));
            assert!(back == payload, "another payload came back in round {round}");
        }
        assert!(engine.store_counts().kept >= 3);
        settled_places(&engine);
    }
}

on_every_backend! {
    /// A store that takes its time holds up those who wait for it, and nobody else; a stop does not wait for it.
    fn a_slow_store_holds_up_nobody_else(bench: &Bench) {
        let store = ToldStore::new();
        let engine = roomy(bench, 1, 4, &store).build().unwrap();
        let (mut slow, mut other) = (client(&engine), client(&engine));
        add_to(&mut other, 1, 1);
        store.takes_us.store(3_000, Ordering::Relaxed);
        std::thread::scope(|scope| {
            let walking = scope.spawn(|| {
                for key in 10..bench.scale(40, 18) {
                    assert_eq!(add_to(&mut slow, key, 1), 0);
                }
            });
            let mut previous = 1;
            while !walking.is_finished() {
                assert_eq!(add_to(&mut other, 1, 1), previous);
                previous += 1;
            }
            walking.join().unwrap();
        });
        // What waits is told of a drain, and ends with a stop.
        let hold = store.hold();
        let mut pipeline = slow.pipeline();
        assert!(pipeline.push(99, &Get {}).unwrap());
        eventually("it waits", || counted(&engine, Counter::Waiting) == 1);
        let report = engine.drain(Duration::from_millis(50)).unwrap();
        assert!(!report.is_complete(), "a message waits");
        drop(hold);
        assert!(engine.drain(REPLY_TIME_MAX).unwrap().is_complete());
        assert_eq!(pipeline.pop(), Some(Ok(0)));
    }
}

on_every_backend! {
    /// A frame of any length waits whole.
    fn frames_of_every_length_wait_whole(bench: &Bench) {
        let store = ToldStore::new();
        let engine = roomy(bench, 1, 2, &store).build().unwrap();
        let mut client = client(&engine);
        for round in 0..12u32 {
            let (small, large) = (Ping16 { words: [round; 4] }, Ping352 { words: core::array::from_fn(|i| round + i as u32) });
            assert_eq!(client.call(u64::from(round % 4), small), Ok(small));
            assert_eq!(client.call(u64::from(round % 3 + 4), large), Ok(large));
        }
        settled_places(&engine);
    }
}
