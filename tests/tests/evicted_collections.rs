//! Actors with collections that come and go: what is in them is exact whatever fails, and no page of a pool is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tourbillon::abi::virtual_actors::EVICTED_PAGES_MAX;
use tourbillon::actors::Hoard;
use tourbillon::actors::book::{Cancel, Limit, Look, Side};
use tourbillon::actors::hoard::{Audit, Audited, Ending, Fetch, HoardError, Stow};
use tourbillon::{Actor, ActorKey, CallError, Client, Counter, EngineBuilder, Store, StoredActor};
use tourbillon_tests::bench::{REPLY_TIME_MAX, client, counted, counters, eventually, mixed};
use tourbillon_tests::store::{Asked, Hands, ToldStore, evict, evict_all, pages_in_use as in_use, settled_places};
use tourbillon_tests::{Bench, on_every_backend};

/// A builder with room for `actors` hoards and books in each of `shards`, pools of `pages` pages, and a store.
fn builder(bench: &Bench, shards: u32, actors: u32, pages: u64, store: &Arc<ToldStore>) -> EngineBuilder {
    bench
        .builder_for(tourbillon_market::image())
        .shards(shards)
        .actors_per_shard(actors)
        .pool_bytes_per_shard(512 + pages * 276)
        .arena_bytes(64 << 10)
        .store(Arc::clone(store))
}

fn stow(client: &mut Client, key: u64, first: u64, count: u32) -> Result<u64, CallError<HoardError>> {
    client.call(key, Stow { first, count, ending: Ending::Well })
}

/// What a hoard of these words says of itself.
fn audited(words: &[u64], handled: u64) -> Audited {
    let sum = words.iter().fold(0, |sum: u64, word| sum.wrapping_add(*word));
    Audited { words: words.len() as u64, sum, strays: 0, handled }
}

/// Words of a hoard, and how many messages it handled well.
type Hoards = BTreeMap<u64, (Vec<u64>, u64)>;

/// Sends `messages` messages to the hoards `keys`, many at once, of which some fail in one of all ways, and checks every reply.
fn churn(client: &mut Client, keys: std::ops::Range<u64>, messages: u64, seed: u64, hoards: &mut Hoards) {
    let mut number = 0;
    while number < messages {
        let batch: Vec<(u64, Stow)> = (number..messages.min(number + 40))
            .map(|number| {
                let random = mixed(seed << 32 ^ number);
                let ending = match random >> 8 & 15 {
                    0 | 1 => Ending::Error,
                    2 => Ending::Panic,
                    _ => Ending::Well,
                };
                let key = keys.start + random % (keys.end - keys.start);
                (key, Stow { first: (seed << 20 | number) << 8, count: (random >> 16) as u32 % 40, ending })
            })
            .collect();
        number += batch.len() as u64;
        let replies = client.call_many(batch.iter().copied());
        for ((key, message), reply) in batch.iter().zip(replies) {
            let (words, handled) = hoards.entry(*key).or_default();
            match (message.ending, reply) {
                (Ending::Well, Ok(count)) => {
                    words.extend((0..u64::from(message.count)).map(|i| message.first + i));
                    *handled += 1;
                    assert_eq!(count, words.len() as u64, "hoard {key}");
                }
                (Ending::Error, Err(CallError::Handler(error))) => {
                    assert_eq!(error.words, words.len() as u64 + u64::from(message.count), "hoard {key}");
                }
                (Ending::Panic, Err(CallError::Panicked { .. })) => {}
                // Others may have all pages for a while, and a store that is told to fail does.
                (_, Err(CallError::PoolExhausted | CallError::FetchFailed | CallError::DirectoryFull)) => {}
                (ending, reply) => panic!("hoard {key}: {ending:?}: {reply:?}"),
            }
        }
        for (key, (words, handled)) in &mut *hoards {
            if words.len() > 120 {
                let message = Fetch { count: 100, ending: Ending::Well };
                match client.call(*key, message) {
                    Ok(left) => {
                        words.truncate(words.len() - 100);
                        *handled += 1;
                        assert_eq!(left, words.len() as u64, "hoard {key}");
                    }
                    Err(CallError::PoolExhausted | CallError::FetchFailed | CallError::DirectoryFull) => {}
                    Err(error) => panic!("hoard {key}: {error:?}"),
                }
            }
        }
    }
}

/// Every hoard is what it should be; where others have all pages at first, after they have made room.
fn check_all(client: &mut Client, hoards: &Hoards) {
    for (key, (words, handled)) in hoards {
        let mut reply = client.call(*key, Audit {});
        for _ in 0..20 {
            if reply != Err(CallError::PoolExhausted) {
                break;
            }
            reply = client.call(*key, Audit {});
        }
        assert_eq!(reply, Ok(audited(words, *handled)), "hoard {key}");
    }
}

on_every_backend! {
    /// Many hoards in room for few, in the directory and in the pools: each is exact, and in the end no page is in use.
    fn churn_keeps_every_collection_exact(bench: &Bench) {
        let store = ToldStore::new();
        let engine = builder(bench, 2, 6, 220, &store).build().unwrap();
        let mut clients: Vec<_> = (0..2).map(|_| client(&engine)).collect();
        let mut hoards = vec![Hoards::new(); 2];
        let keys = bench.scale(40, 12);
        for round in 0..2 {
            std::thread::scope(|scope| {
                for (number, (client, hoards)) in clients.iter_mut().zip(&mut hoards).enumerate() {
                    let first = number as u64 * keys;
                    let messages = bench.scale(2_500, 200);
                    scope.spawn(move || churn(client, first..first + keys, messages, round << 8 | first, hoards));
                }
            });
            evict_all(&engine);
        }
        for (client, hoards) in clients.iter_mut().zip(&hoards) {
            check_all(client, hoards);
        }
        evict_all(&engine);
        let totals = counters(&engine);
        assert!(totals[Counter::Fetched as usize] >= 2 * keys);
        assert_eq!((totals[Counter::Waiting as usize], totals[Counter::TooLargeToEvict as usize]), (0, 0));
        let pools = { engine.pause().unwrap(); let pools = engine.pools().unwrap(); engine.resume().unwrap(); pools };
        assert!(pools.iter().all(|pool| pool.in_use == 0 && pool.touched <= pool.pages));
        assert_eq!(store.faults(), [""; 0]);
        assert!(engine.drain(REPLY_TIME_MAX).unwrap().is_complete());
    }
}

on_every_backend! {
    /// Panics, failures of the store, orders to evict, pauses and relaunches, all at the same time, while actors are on their way piece by
    /// piece.
    fn everything_at_once(bench: &Bench) {
        let store = ToldStore::new();
        let engine = builder(bench, 2, 4, 260, &store).build().unwrap();
        let mut client = client(&engine);
        let mut hoards = Hoards::new();
        std::thread::scope(|scope| {
            let (client, hoards) = (&mut client, &mut hoards);
            let messages = bench.scale(4_000, 320);
            let mixing = scope.spawn(move || churn(client, 0..14, messages, 9, hoards));
            let mut round = 0u64;
            while !mixing.is_finished() {
                let word = mixed(round);
                store.fails_to_keep.store(word & 7 == 0, Ordering::Relaxed);
                store.fails_to_bring.store(word >> 3 & 7 == 0, Ordering::Relaxed);
                if word >> 6 & 3 == 0 {
                    engine.evict(word >> 8 & 7).unwrap();
                }
                match word >> 11 & 7 {
                    0 => engine.relaunch().unwrap(),
                    1 => { engine.pause().unwrap(); engine.resume().unwrap() }
                    _ => {}
                }
                round += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            mixing.join().unwrap();
        });
        store.fails_to_keep.store(false, Ordering::Relaxed);
        store.fails_to_bring.store(false, Ordering::Relaxed);
        check_all(&mut client, &hoards);
        evict_all(&engine);
        check_all(&mut client, &hoards);
        assert_eq!(store.faults(), [""; 0]);
    }
}

on_every_backend! {
    /// A large actor goes and comes in many pieces, unchanged to the last byte, also in the order in which its maps are iterated.
    fn what_comes_back_is_what_went(bench: &Bench) {
        let store = ToldStore::new();
        let engine = builder(bench, 1, 4, 900, &store).build().unwrap();
        let mut client = client(&engine);
        let words: Vec<u64> = (500..500 + bench.scale(1_500, 400)).collect();
        for part in words.chunks(100) {
            stow(&mut client, 7, part[0], part.len() as u32).unwrap();
        }
        let handled = words.len().div_ceil(100) as u64;
        let before = in_use(&engine);
        evict(&engine, 1);
        assert_eq!(in_use(&engine), 0);
        let key = ActorKey::Native(7);
        let first = store.kept.get(Hoard::KIND, &key).unwrap();
        assert_eq!(first.state, [&[0; 32][..], &handled.to_le_bytes()].concat(), "the state names no page");
        // A head, and of each collection a head and its elements: no more than that.
        let elements = words.len() * (8 + 8 + 16);
        assert_eq!(first.collections.len(), 8 + 3 * 24 + elements);
        assert_eq!(client.call(7, Audit {}), Ok(audited(&words, handled)));
        assert_eq!(in_use(&engine), before);
        evict(&engine, 1);
        let second = store.kept.get(Hoard::KIND, &key).unwrap();
        assert_eq!(second.version, first.version + 1);
        assert!(second.collections == first.collections, "other bytes came back");
        // It goes on as if it had never been away.
        assert_eq!(client.call(7, Fetch { count: 1 << 20, ending: Ending::Well }), Ok(0));
        assert_eq!(in_use(&engine), 0);
        evict(&engine, 1);
        assert_eq!(store.kept.get(Hoard::KIND, &key).unwrap().collections, [0u8; 0]);
    }
}

on_every_backend! {
    /// Stops in the middle of many pieces, both ways: none is sent twice, and none is filled in twice.
    fn relaunches_amid_pieces_change_nothing(bench: &Bench) {
        let store = ToldStore::new();
        let engine = builder(bench, 1, 4, 1_000, &store).build().unwrap();
        let mut client = client(&engine);
        let words: Vec<u64> = (0..bench.scale(1_500, 900)).collect();
        let handled = words.len().div_ceil(300) as u64;
        for part in words.chunks(300) {
            stow(&mut client, 7, part[0], part.len() as u32).unwrap();
        }
        let before = in_use(&engine);
        let rounds = bench.scale(60, 4);
        std::thread::scope(|scope| {
            let coming = scope.spawn(|| {
                for _ in 0..rounds {
                    engine.evict(1).unwrap();
                    // It waits until the actor has gone and come back.
                    assert_eq!(client.call(7, Audit {}), Ok(audited(&words, handled)));
                }
            });
            while !coming.is_finished() {
                engine.relaunch().unwrap();
                std::thread::sleep(Duration::from_micros(bench.scale(700, 8_000)));
            }
            coming.join().unwrap();
        });
        // The last request to go may come after the last message.
        eventually("it has come back with all its pages", || {
            client.call(7, Audit {}) == Ok(audited(&words, handled)) && in_use(&engine) == before
        });
        let counts = engine.store_counts();
        assert_eq!((counts.keep_failures, counts.fetch_failures), (0, 0));
        assert!(counts.kept > 0 && engine.launches() > 2);
        evict_all(&engine);
    }
}

on_every_backend! {
    /// Actors with collections that nobody asked for in a while leave by the clock, all but those that are too large.
    fn idle_collections_leave_by_the_clock(bench: &Bench) {
        let (store, hands) = (ToldStore::new(), Hands::new());
        let builder = builder(bench, 2, 32, 4 * u64::from(EVICTED_PAGES_MAX), &store).clock(Arc::clone(&hands));
        let engine = builder.idle_after(Duration::from_secs(3600)).idle_check(Duration::from_secs(60)).build().unwrap();
        let mut client = client(&engine);
        for key in 0..20 {
            assert_eq!(stow(&mut client, key, key << 8, 20), Ok(20));
        }
        let mut large = 0;
        while in_use(&engine) < u64::from(EVICTED_PAGES_MAX) * 3 / 2 {
            stow(&mut client, 20, large, 500).unwrap();
            large += 500;
        }
        hands.advance(Duration::from_secs(3_700));
        eventually("all but one have gone", || engine.store_counts().kept == 20);
        let places = settled_places(&engine);
        assert_eq!(places.iter().map(|shard| shard.state.places).sum::<u32>(), 1);
        assert!(counted(&engine, Counter::TooLargeToEvict) > 0);
        for key in 0..20 {
            assert_eq!(client.call(key, Audit {}), Ok(audited(&(key << 8..(key << 8) + 20).collect::<Vec<_>>(), 1)));
        }
        assert_eq!(client.call(20, Audit {}), Ok(audited(&(0..large).collect::<Vec<_>>(), large / 500)));
    }
}

on_every_backend! {
    /// A store that keeps nothing costs nothing, whenever it says so; nor does one that brings nothing.
    fn failures_of_the_store_leave_collections_exact(bench: &Bench) {
        let store = ToldStore::new();
        let engine = builder(bench, 1, 3, 400, &store).build().unwrap();
        let mut client = client(&engine);
        let mut words: Vec<u64> = (0..200).collect();
        stow(&mut client, 1, 0, 200).unwrap();
        let before = in_use(&engine);
        for round in 0..3u64 {
            store.fails_to_keep.store(true, Ordering::Relaxed);
            let failures = engine.store_counts().keep_failures;
            engine.evict(1).unwrap();
            eventually("it was not kept", || engine.store_counts().keep_failures > failures);
            assert_eq!(in_use(&engine), before);
            assert_eq!(client.call(1, Audit {}), Ok(audited(&words, 1 + 2 * round)));
            store.fails_to_keep.store(false, Ordering::Relaxed);
            evict(&engine, 1);
            store.fails_to_bring.store(true, Ordering::Relaxed);
            assert_eq!(client.call(1, Audit {}), Err(CallError::FetchFailed));
            assert_eq!(in_use(&engine), 0);
            store.fails_to_bring.store(false, Ordering::Relaxed);
            assert_eq!(client.call(1, Audit {}), Ok(audited(&words, 1 + 2 * round)));
            // What waits while it is on its way finds it as it was.
            let hold = store.hold();
            let asked = store.log().len();
            engine.evict(1).unwrap();
            eventually("it is on its way", || store.log().len() > asked);
            let mut pipeline = client.pipeline();
            assert!(pipeline.push(1, &Stow { first: 0, count: 0, ending: Ending::Panic }).unwrap());
            assert!(pipeline.push(1, &Stow { first: 1_000 + round, count: 1, ending: Ending::Well }).unwrap());
            eventually("both wait", || counted(&engine, Counter::Waiting) == 2);
            engine.relaunch().unwrap();
            drop(hold);
            assert!(matches!(pipeline.pop(), Some(Err(CallError::Panicked { .. }))));
            words.push(1_000 + round);
            assert_eq!(pipeline.pop(), Some(Ok(words.len() as u64)));
            drop(pipeline);
            let (taken, most) = (in_use(&engine), before + 6);
            assert!(taken >= before && taken <= most, "{taken} pages, {before} before");
            words.truncate(200);
            assert_eq!(client.call(1, Fetch { count: 1, ending: Ending::Well }), Ok(200));
        }
        evict_all(&engine);
    }
}

on_every_backend! {
    /// A fetch for which the pool has no room makes some: idle actors of the shard go first.
    fn a_fetch_without_pages_evicts_others(bench: &Bench) {
        let store = ToldStore::new();
        // Room in the directory for all of them, and in the pool for two or three.
        let engine = builder(bench, 1, 64, 130, &store).build().unwrap();
        let mut client = client(&engine);
        let words = |key: u64| (key << 20..(key << 20) + 100).collect::<Vec<u64>>();
        for key in 0..12 {
            stow(&mut client, key, key << 20, 100).unwrap_or_else(|error| panic!("hoard {key}: {error}"));
            evict(&engine, 1);
        }
        for _ in 0..2 {
            for key in 0..12 {
                assert_eq!(client.call(key, Audit {}), Ok(audited(&words(key), 1)), "hoard {key}");
            }
            // More at once than a shard has requests, each of them short of pages.
            for (key, reply) in client.call_many((0..12u64).map(|key| (key, Audit {}))).into_iter().enumerate() {
                assert_eq!(reply, Ok(audited(&words(key as u64), 1)), "hoard {key}");
            }
        }
        // One has nearly all pages, and as many are fetched at once as there are requests: one is left to evict it by.
        evict_all(&engine);
        let mut first = 50 << 20;
        while in_use(&engine) < 110 {
            stow(&mut client, 50, first, 3).unwrap();
            first += 3;
        }
        store.takes_us.store(2_000, Ordering::Relaxed);
        for (key, reply) in client.call_many((0..12u64).map(|key| (key, Audit {}))).into_iter().enumerate() {
            assert_eq!(reply, Ok(audited(&words(key as u64), 1)), "hoard {key}");
        }
        store.takes_us.store(0, Ordering::Relaxed);
        assert_eq!(counted(&engine, Counter::PoolExhausted), 0);
        evict_all(&engine);
    }
}

on_every_backend! {
    /// A fetch for which no room can be made is told so, loses nothing, and is tried again by the next message.
    fn a_fetch_without_pages_to_be_had_is_told(bench: &Bench) {
        let store = ToldStore::new();
        let engine = builder(bench, 1, 64, 62, &store).build().unwrap();
        let mut client = client(&engine);
        stow(&mut client, 1, 1_000, 100).unwrap();
        let needed = in_use(&engine);
        evict(&engine, 1);
        stow(&mut client, 2, 2_000, 100).unwrap();
        stow(&mut client, 3, 3_000, 100).unwrap();
        let before = in_use(&engine);
        assert!(before + needed > 62, "{before} and {needed} pages fit");
        store.fails_to_keep.store(true, Ordering::Relaxed);
        let words = |first: u64| (first..first + 100).collect::<Vec<u64>>();
        for round in 1..=3 {
            assert_eq!(client.call(1, Audit {}), Err(CallError::PoolExhausted));
            assert_eq!(in_use(&engine), before, "round {round}");
            assert_eq!(client.call(2, Audit {}), Ok(audited(&words(2_000), 1)));
        }
        store.fails_to_keep.store(false, Ordering::Relaxed);
        assert_eq!(client.call(1, Audit {}), Ok(audited(&words(1_000), 1)));
        assert_eq!(client.call(3, Audit {}), Ok(audited(&words(3_000), 1)));
        evict_all(&engine);
        // A GPU has one engine at a time.
        drop(client);
        drop(engine);
        // An engine whose pool is too small for it says so as well, and so does one without pools.
        for pages in [20, 0] {
            let engine = builder(bench, 1, 4, 20, &store);
            let engine = if pages == 0 { engine.pool_bytes_per_shard(0) } else { engine }.build().unwrap();
            let mut client = tourbillon_tests::bench::client(&engine);
            assert_eq!(client.call(1, Audit {}), Err(CallError::PoolExhausted));
            assert_eq!(client.call(9, Audit {}), Ok(audited(&[], 0)));
            settled_places(&engine);
        }
    }
}

on_every_backend! {
    /// A handler that finds the pool exhausted fails as ever, and soon others have made room.
    fn an_exhausted_pool_makes_idle_actors_leave(bench: &Bench) {
        let store = ToldStore::new();
        let engine = builder(bench, 1, 64, 140, &store).build().unwrap();
        let mut client = client(&engine);
        let mut failures = 0;
        let stows = bench.scale(60, 20);
        for number in 0..stows {
            let (key, first) = (number % 10, number * 100);
            let began = std::time::Instant::now();
            while let Err(error) = stow(&mut client, key, first, 30) {
                assert_eq!(error, CallError::PoolExhausted);
                assert!(began.elapsed() < REPLY_TIME_MAX, "nobody makes room for message {number}");
                failures += 1;
                settled_places(&engine);
            }
        }
        assert!(failures > 0 && engine.store_counts().kept > 0);
        for key in 0..10 {
            let words: Vec<u64> =
                (key..stows).step_by(10).flat_map(|number| number * 100..number * 100 + 30).collect();
            let handled = stows / 10;
            assert_eq!(client.call(key, Audit {}), Ok(audited(&words, handled)), "hoard {key}");
        }
        evict_all(&engine);
    }
}

on_every_backend! {
    /// An actor with more than may go stays where it is, whole, and the next oldest goes in its place.
    fn what_is_too_large_stays(bench: &Bench) {
        let store = ToldStore::new();
        let engine = builder(bench, 1, 2, 4 * u64::from(EVICTED_PAGES_MAX), &store).build().unwrap();
        let mut client = client(&engine);
        let mut words = Vec::new();
        // A word takes eight bytes of the sequence alone, and a quarter of a page in all.
        while in_use(&engine) < u64::from(EVICTED_PAGES_MAX) * 3 / 2 {
            let first = words.len() as u64;
            stow(&mut client, 1, first, 500).unwrap();
            words.extend(first..first + 500);
        }
        let handled = words.len() as u64 / 500;
        let large = in_use(&engine);
        for key in 2..6 {
            assert_eq!(stow(&mut client, key, key, 1), Ok(1));
        }
        assert!(counted(&engine, Counter::TooLargeToEvict) >= 3);
        assert_eq!(engine.store_counts().kept, 3);
        assert!(!store.log().contains(&Asked::Evict(ActorKey::Native(1))));
        engine.evict(u64::from(u32::MAX)).unwrap();
        eventually("the small one has gone", || engine.store_counts().kept == 4);
        assert_eq!(in_use(&engine), large);
        assert_eq!(client.call(1, Audit {}), Ok(audited(&words, handled)));
        // With less in it, it goes.
        let keep = words.len() / 4;
        assert_eq!(client.call(1, Fetch { count: (words.len() - keep) as u32, ending: Ending::Well }), Ok(keep as u64));
        words.truncate(keep);
        evict_all(&engine);
        assert_eq!(client.call(1, Audit {}), Ok(audited(&words, handled + 1)));
        drop(client);
        drop(engine);
        // Where nobody may leave, there is no room, and it is said at once.
        let engine = builder(bench, 1, 1, 4 * u64::from(EVICTED_PAGES_MAX), &store).build().unwrap();
        let mut client = tourbillon_tests::bench::client(&engine);
        for part in 0..large.div_ceil(100) {
            stow(&mut client, 50, part * 500, 500).unwrap();
            if in_use(&engine) > u64::from(EVICTED_PAGES_MAX) * 3 / 2 {
                break;
            }
        }
        for _ in 0..2 {
            assert_eq!(stow(&mut client, 51, 1, 1), Err(CallError::DirectoryFull));
        }
        assert_eq!(client.call(50, Fetch { count: 1 << 20, ending: Ending::Well }), Ok(0));
        assert_eq!(stow(&mut client, 51, 1, 1), Ok(1));
        evict_all(&engine);
    }
}

on_every_backend! {
    /// What one engine's store has kept another takes over, with other shards, other pools and another directory.
    fn an_engine_of_another_geometry_takes_them_over(bench: &Bench) {
        let store = ToldStore::new();
        let mut hoards = Hoards::new();
        for (shards, actors, pages) in [(1, 32, 700), (5, 3, 120), (2, 8, 2_000)] {
            let engine = builder(bench, shards, actors, pages, &store).build().unwrap();
            let mut client = client(&engine);
            check_all(&mut client, &hoards);
            churn(&mut client, 0..10, bench.scale(600, 80), shards.into(), &mut hoards);
            evict_all(&engine);
        }
        let engine = builder(bench, 3, 64, 900, &store).build().unwrap();
        check_all(&mut client(&engine), &hoards);
    }
}

on_every_backend! {
    /// Bytes that a store did not get from an engine are an error of the fetch, and nothing else.
    fn garbage_of_a_store_is_refused(bench: &Bench) {
        let store = ToldStore::new();
        let engine = builder(bench, 1, 4, 400, &store).build().unwrap();
        let mut client = client(&engine);
        stow(&mut client, 1, 10, 60).unwrap();
        evict(&engine, 1);
        let good = store.kept.get(Hoard::KIND, &ActorKey::Native(1)).unwrap();
        let words: Vec<u64> = (10..70).collect();
        let handled = 1u64;
        for round in 0..bench.scale(60, 24) {
            let random = mixed(round);
            let mut bad = good.collections.clone();
            let at = random as usize % bad.len();
            match round % 4 {
                0 => bad.truncate(at),
                1 => bad.extend_from_slice(&random.to_le_bytes()),
                2 => bad[..at].fill(0xff),
                _ => bad = mixed(random).to_le_bytes().repeat(1 + at % 40),
            }
            if bad.is_empty() || bad == good.collections {
                continue;
            }
            store.kept.evict(&StoredActor { collections: bad, ..good.clone() }).unwrap();
            assert_eq!(client.call(1, Audit {}), Err(CallError::FetchFailed), "round {round}");
            assert_eq!(in_use(&engine), 0);
        }
        // A state that leads to pages leads to none.
        let state: Vec<u8> = [[1u8, 0, 0, 0].repeat(8), 1u64.to_le_bytes().to_vec()].concat();
        store.kept.evict(&StoredActor { state, ..good.clone() }).unwrap();
        assert_eq!(client.call(1, Audit {}), Ok(audited(&words, handled)));
        evict(&engine, 1);
        let kept = store.kept.get(Hoard::KIND, &ActorKey::Native(1)).unwrap();
        assert_eq!((kept.state, kept.collections), ([&[0; 32][..], &handled.to_le_bytes()].concat(), good.collections));
        evict_all(&engine);
    }
}

on_every_backend! {
    /// Actors with names have collections as well, and the shipped book comes and goes.
    fn named_books_come_and_go(bench: &Bench) {
        let store = ToldStore::new();
        let engine = builder(bench, 1, 2, 300, &store).build().unwrap();
        let mut client = client(&engine);
        let names = ["copper", "tin", "zinc", "lead"];
        for round in 0..bench.scale(30, 8) {
            for (number, name) in (0u64..).zip(names) {
                let key = engine.key(name).unwrap();
                let limit = Limit { order: round + 1, side: Side::Buy, price: 10 + round % 7, quantity: number + 1 };
                let placed = client.call(key, limit).unwrap_or_else(|error| panic!("{name} in round {round}: {error}"));
                assert_eq!((placed.rested, placed.filled), (number + 1, 0));
            }
            for (number, name) in (0u64..).zip(names) {
                let standing = client.call(engine.key(name).unwrap(), Look {}).unwrap();
                assert_eq!(standing.orders, round + 1);
                assert_eq!(standing.bid, 10 + round.min(6));
                assert_eq!(standing.bid_quantity % (number + 1), 0);
            }
        }
        assert!(engine.store_counts().fetched > 4);
        let tin = engine.key("tin").unwrap();
        assert_eq!(client.call(tin, Cancel { order: 1 }), Ok(2));
        evict_all(&engine);
    }
}
