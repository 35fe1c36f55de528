//! The gateway with payloads that are larger than a frame.

use std::task::Poll;
use std::time::Duration;

use tourbillon::abi::arena::LARGE_BYTES_MAX;
use tourbillon::actors::Blob;
use tourbillon::actors::blob::{Byte, Cut, Make, Mirror, OutOfRange, Sum, sum_of};
use tourbillon::{
    Ask, AskLarge, Backpressure, CallError, Counter, Engine, Gateway, GatewayCounts, SendError, StagingCounts,
};
use tourbillon_tests::bench::{REPLY_TIME_MAX, bytes_of, client, counted, eventually, mixed};
use tourbillon_tests::futures::{a_moment, assert_nothing_is_lost, block_on, poll_once, poll_until_ready, touch};
use tourbillon_tests::{Bench, on_backends, on_every_backend};

/// Far shorter than any pause of these tests.
const SHORT: Duration = Duration::from_millis(3);
/// Bytes of a payload whose block has 2,048: [`TWO`] has room for two and no third.
const HALF: usize = 1_800;
/// An arena for two payloads of [`HALF`] and one of a few bytes.
const TWO: u32 = 2 * 2_048 + 256;
/// A message that changes nothing but the count of messages.
const NOTHING: Make = Make { bytes: 0, seed: 0 };

/// A gateway with one lane of 64 slots, more than any test here fills, and an arena of [`TWO`], to an engine that is paused.
fn paused(bench: &Bench, strategy: Backpressure, staging: u32) -> (Engine, Gateway) {
    let engine = bench.builder().shards(1).ring_capacity(64).arena_bytes(TWO).build().unwrap();
    engine.pause().unwrap();
    let gateway = Gateway::builder(&engine).lanes(1).backpressure(strategy).staging(staging).build().unwrap();
    (engine, gateway)
}

/// An ask that mirrors half an arena, told apart by `word`.
fn half(gateway: &Gateway, word: u64) -> AskLarge<Mirror> {
    gateway.ask_large(1, Mirror { word }, bytes_of(word, HALF), HALF)
}

/// Checks the reply to [`half`]; how many messages its actor had seen.
fn check_half(word: u64, reply: tourbillon::LargeReply<Mirror, Vec<u8>>) -> u64 {
    let (seen, payload) = reply.unwrap();
    assert!(seen.word == word && payload == bytes_of(word, HALF), "ask {word}: another's reply");
    seen.messages
}

on_every_backend! {
    /// From nothing over the edges of frames and lines to the largest, there and back.
    fn payloads_of_every_size_come_back_as_they_went(bench: &Bench) {
        let engine = bench.engine();
        let gateway = engine.gateway().unwrap();
        block_on(async {
            let mut sizes = vec![0, 1, 16, 127, 128, 129, 353, 4_097, 65_537];
            sizes.extend(if bench.is_simulated() { vec![300_001] } else { vec![1_000_003, LARGE_BYTES_MAX] });
            for (word, size) in (0..).zip(sizes) {
                let payload = bytes_of(word, size);
                let (seen, back) = gateway.ask_large(word, Mirror { word }, payload.clone(), size).await.unwrap();
                assert_eq!((seen.word, seen.messages, seen.bytes), (word, 1, size as u64));
                assert!(back == payload, "{size} bytes came back otherwise");
            }
            let payload = bytes_of(99, 10_001);
            let (seen, nothing) = gateway.ask_large(7, Sum {}, payload.clone().into_boxed_slice(), 0).await.unwrap();
            assert_eq!((seen.word, nothing), (sum_of(&payload), Vec::new()));
            let (_, made) = gateway.ask_large(7, Make { bytes: 3_000, seed: 5 }, &payload[..10], 5_000).await.unwrap();
            assert!(made.len() == 3_000 && made[17] == (Make { bytes: 3_000, seed: 5 }).byte_at(17));
            let (_, cut) = gateway.ask_large(7, Cut { first: 37, bytes: 1_963 }, payload.clone(), 4_000).await.unwrap();
            assert!(cut == payload[37..2_000]);
            assert_eq!(gateway.tell_large(7, Sum {}, payload).await, Ok(()));
        });
        assert_nothing_is_lost(&gateway);
        let counts = gateway.counts();
        assert_eq!((counts.tells_done, counts.arena_exhausted, counts.abandoned), (1, 0, 0));
    }
}

on_every_backend! {
    fn a_large_ask_that_was_never_polled_has_sent_nothing(bench: &Bench) {
        let engine = bench.engine();
        let gateway = engine.gateway().unwrap();
        drop((gateway.ask_large(1, NOTHING, vec![1; 500], 0), gateway.tell_large(1, NOTHING, vec![1; 500])));
        assert_nothing_is_lost(&gateway);
        assert_eq!((gateway.counts(), gateway.usage().pooled), (GatewayCounts::default(), 0));
    }
}

on_every_backend! {
    fn every_failure_has_its_error_and_leaves_no_block(bench: &Bench) {
        let engine = bench.builder().shards(1).arena_bytes(4_096).build().unwrap();
        let gateway = Gateway::builder(&engine).lanes(1).build().unwrap();
        let payload = bytes_of(4, 3_000);
        block_on(async {
            for _ in 0..3 {
                let refused = gateway.ask_large(5, Cut { first: 2_999, bytes: 2 }, payload.clone(), 3_000).await;
                assert_eq!(refused, Err(CallError::Handler(OutOfRange { bytes: 3_000 })));
                let panicked = gateway.ask_large(5, Byte { index: 3_000 }, payload.clone(), 3_000).await;
                assert!(matches!(panicked, Err(CallError::Panicked { line: 1.., .. })), "{panicked:?}");
                let refused = gateway.ask_large(5, Mirror { word: 1 }, payload.clone(), 2_999).await;
                assert_eq!(refused, Err(CallError::ReplyTooLarge));
                assert_eq!(gateway.tell_large(5, Byte { index: 3_000 }, payload.clone()).await, Ok(()));
            }
            let most = LARGE_BYTES_MAX;
            let refused = gateway.ask_large(5, NOTHING, vec![0; most + 1], 0).await;
            assert_eq!(refused, Err(CallError::PayloadTooLarge { bytes: most + 1, most }));
            let refused = gateway.tell_large(5, NOTHING, vec![0; 3_969]).await;
            assert_eq!(refused, Err(SendError::ArenaTooSmall { bytes: 3_969, most: 3_968 }));
            let refused = gateway.ask_large(5, NOTHING, [], usize::MAX).await;
            assert_eq!(refused, Err(CallError::ArenaTooSmall { bytes: most, most: 3_968 }));
            let (seen, _) = gateway.ask_large(5, Mirror { word: 0 }, vec![0; 3_968], 3_968).await.unwrap();
            assert_eq!(seen.messages, 1, "what failed left no trace");
        });
        assert_nothing_is_lost(&gateway);
        let counts = gateway.counts();
        assert_eq!((counts.sent, counts.answered, counts.tells_failed), (13, 10, 3));
        drop(engine);
        let refused = block_on(gateway.ask_large(5, NOTHING, [], 0));
        assert!(matches!(refused, Err(CallError::EngineStopped { .. })), "{refused:?}");
        gateway.shutdown();
        assert_eq!(block_on(gateway.tell_large(5, NOTHING, [])), Err(SendError::GatewayClosed));

        let engine = bench.builder().arena_bytes(0).build().unwrap();
        let gateway = engine.gateway().unwrap();
        let refused = block_on(gateway.ask_large(5, NOTHING, [1], 0));
        assert_eq!(refused, Err(CallError::ArenaTooSmall { bytes: 1, most: 0 }));
    }
}

on_every_backend! {
    /// An arena that others fill is as a ring that is full: each strategy, with exact counts.
    fn an_exhausted_arena_does_what_the_strategy_says(bench: &Bench) {
        let (block, long) = (Backpressure::Block { timeout: SHORT }, Backpressure::Block { timeout: REPLY_TIME_MAX });
        // Two have blocks, two are staged, and what becomes of the other two depends.
        let none = StagingCounts { queued: 4, published: 2, ..StagingCounts::default() };
        for (strategy, refused, expected) in [
            (Backpressure::Reject, Some(CallError::Rejected), StagingCounts { rejected: 2, ..none }),
            (Backpressure::DropNewest, Some(CallError::DroppedNewest), StagingCounts { dropped_newest: 2, ..none }),
            (Backpressure::DropOldest, None, StagingCounts { queued: 6, dropped_oldest: 2, ..none }),
            (block, Some(CallError::Timeout { after: SHORT }), StagingCounts { queued: 6, blocked: 2, timeouts: 2, ..none }),
            (long, None, StagingCounts { queued: 6, blocked: 2, ..none }),
        ] {
            let (engine, gateway) = paused(bench, strategy, 2);
            let mut asks: Vec<_> = (0..6).map(|word| half(&gateway, word)).collect();
            for (word, ask) in asks.iter_mut().enumerate() {
                let polled = poll_once(ask);
                let is_told = word >= 4 && matches!(strategy, Backpressure::Reject | Backpressure::DropNewest);
                assert_eq!(polled.is_ready(), is_told, "{strategy:?}, ask {word}");
                if let Poll::Ready(reply) = polled {
                    assert_eq!(Err(reply.unwrap_err()), refused.clone().map_or(Ok(()), Err));
                }
            }
            let mut left: Vec<(u64, _)> = (0..).zip(asks).collect();
            match strategy {
                Backpressure::DropOldest => {
                    for (word, mut ask) in left.drain(2..4) {
                        assert_eq!(poll_once(&mut ask), Poll::Ready(Err(CallError::Dropped)), "ask {word}");
                    }
                }
                Backpressure::Block { .. } if refused.is_some() => {
                    for (word, mut ask) in left.drain(4..) {
                        assert_eq!(poll_until_ready(&mut ask).map_err(Some), Err(refused.clone()), "ask {word}");
                    }
                }
                Backpressure::Block { .. } => {}
                Backpressure::Reject | Backpressure::DropNewest => left.truncate(4),
            }
            eventually("one was seen to have no block", || gateway.counts().arena_exhausted > 0);
            assert_eq!(gateway.counts().staging, expected, "{strategy:?}");
            let usage = gateway.usage();
            assert_eq!((usage.in_flight, usage.staged, usage.arena_free), (2, 2, 256), "{strategy:?}");
            engine.resume().unwrap();
            for (order, (word, ask)) in (1..).zip(&mut left) {
                assert_eq!(check_half(*word, poll_until_ready(ask)), order, "{strategy:?}, ask {word}");
            }
            assert_nothing_is_lost(&gateway);
            assert_eq!((gateway.counts().sent, gateway.counts().too_many), (left.len() as u64, 0));
        }
    }
}

on_every_backend! {
    /// Neither a small request nor a smaller payload, for which there would be room, goes before a large one that has no block yet.
    fn nothing_overtakes_a_payload_that_waits_for_its_block(bench: &Bench) {
        let (engine, gateway) = paused(bench, Backpressure::Block { timeout: REPLY_TIME_MAX }, 16);
        let mut large: Vec<_> = (0..3).map(|word| half(&gateway, word)).collect();
        assert!(large.iter_mut().all(|ask| poll_once(ask).is_pending()));
        let mut small: Vec<Ask<Make>> = (0..3).map(|_| gateway.ask(1, NOTHING)).collect();
        let mut little = gateway.ask_large(1, Mirror { word: 9 }, [3; 20], 20);
        let mut tell = gateway.tell(1, NOTHING);
        let mut last = gateway.ask(1, NOTHING);
        assert!(small.iter_mut().all(|ask| poll_once(ask).is_pending()));
        assert!(poll_once(&mut little).is_pending() && poll_once(&mut tell).is_pending());
        assert!(poll_once(&mut last).is_pending());
        let usage = gateway.usage();
        assert_eq!((usage.in_flight, usage.staged, usage.arena_free), (2, 7, 256));
        engine.resume().unwrap();
        let mut order: Vec<u64> = (0..).zip(&mut large).map(|(word, ask)| check_half(word, poll_until_ready(ask))).collect();
        order.extend(small.iter_mut().map(|ask| poll_until_ready(ask).unwrap().messages));
        order.push(poll_until_ready(&mut little).unwrap().0.messages);
        assert_eq!(poll_until_ready(&mut tell), Ok(()));
        order.push(poll_until_ready(&mut last).unwrap().messages);
        assert_eq!(order, [1, 2, 3, 4, 5, 6, 7, 9]);
        assert_nothing_is_lost(&gateway);
    }
}

on_every_backend! {
    /// The block of an ask that was given up is used again when its reply has come, and not before: no reply lands in another's payload.
    fn blocks_of_abandoned_asks_are_not_used_before_their_reply_has_come(bench: &Bench) {
        let (engine, gateway) = paused(bench, Backpressure::Block { timeout: REPLY_TIME_MAX }, 16);
        let rounds = bench.scale(40, 6);
        for round in 0..rounds {
            let mut lost: Vec<_> = (0..4).map(|i| half(&gateway, 1_000 + i)).collect();
            assert!(lost.iter_mut().all(|ask| poll_once(ask).is_pending()));
            // Two are published, two staged; of each the second by a time limit.
            drop((lost.swap_remove(0), lost.swap_remove(1)));
            lost.truncate(0);
            let usage = gateway.usage();
            assert_eq!((usage.in_flight, usage.staged, usage.waiting, usage.arena_free), (2, 0, 0, 256));
            let mut ask = half(&gateway, round);
            assert!(poll_once(&mut ask).is_pending());
            std::thread::sleep(SHORT);
            assert_eq!((gateway.usage().arena_free, gateway.usage().staged), (256, 1), "no block is free before its reply");
            engine.resume().unwrap();
            assert_eq!(check_half(round, poll_until_ready(&mut ask)), 3 * (round + 1));
            assert_nothing_is_lost(&gateway);
            let (counts, rounds) = (gateway.counts(), round + 1);
            assert_eq!((counts.abandoned, counts.late, counts.staging.withdrawn), (2 * rounds, 2 * rounds, 2 * rounds));
            engine.pause().unwrap();
        }
    }
}

on_every_backend! {
    fn time_limits_hold_for_what_is_in_flight_and_for_what_waits_for_a_block(bench: &Bench) {
        let (engine, gateway) = paused(bench, Backpressure::Block { timeout: REPLY_TIME_MAX }, 2);
        let mut asks: Vec<_> = (0..6).map(|word| half(&gateway, word).timeout(Some(SHORT))).collect();
        assert!(asks.iter_mut().all(|ask| poll_once(ask).is_pending()));
        for ask in &mut asks {
            assert_eq!(poll_until_ready(ask), Err(CallError::Timeout { after: SHORT }));
        }
        let mut tell = gateway.tell_large(1, NOTHING, vec![0; HALF]).timeout(Some(SHORT));
        assert!(poll_once(&mut tell).is_pending());
        assert_eq!(poll_until_ready(&mut tell), Err(SendError::Timeout { after: SHORT }));
        let counts = gateway.counts();
        assert_eq!((counts.abandoned, counts.staging.withdrawn, counts.sent), (2, 5, 2));
        engine.resume().unwrap();
        assert_eq!(poll_until_ready(&mut gateway.ask(1, NOTHING)).unwrap().messages, 3, "what was published was executed");
        assert_nothing_is_lost(&gateway);
    }
}

on_every_backend! {
    /// A reply that nobody polls for leaves the arena nevertheless: others would wait for its block for ever.
    fn a_future_that_nobody_polls_holds_no_block(bench: &Bench) {
        let (engine, gateway) = paused(bench, Backpressure::Block { timeout: REPLY_TIME_MAX }, 16);
        let mut asks: Vec<_> = (0..9).map(|word| half(&gateway, word)).collect();
        assert!(asks.iter_mut().all(|ask| poll_once(ask).is_pending()));
        engine.resume().unwrap();
        assert_eq!(check_half(8, poll_until_ready(&mut asks[8])), 9);
        eventually("all have been read", || gateway.usage().arena_free == gateway.usage().arena_bytes);
        assert_eq!((gateway.usage().waiting, gateway.usage().in_flight), (8, 0));
        for (word, ask) in (0..8).zip(&mut asks) {
            assert_eq!(check_half(word, poll_until_ready(ask)), word + 1);
        }
        assert_nothing_is_lost(&gateway);
    }
}

on_every_backend! {
    /// All on one thread: if an ask without a block held it, the clock task could not run.
    fn waiting_for_a_block_never_blocks_the_executor(bench: &Bench) {
        let (engine, gateway) = paused(bench, Backpressure::Block { timeout: REPLY_TIME_MAX }, 2);
        block_on(async {
            let asks: Vec<_> = (0..6).map(|word| tokio::spawn(half(&gateway, word))).collect();
            for _ in 0..20 {
                a_moment().await;
            }
            assert_eq!((gateway.usage().blocked, gateway.counts().answered), (2, 0));
            engine.resume().unwrap();
            for (word, ask) in (0..).zip(asks) {
                assert_eq!(check_half(word, ask.await.unwrap()), word + 1);
            }
        });
        assert_nothing_is_lost(&gateway);
    }
}

/// One task of the storm: large and small asks that are awaited, dropped in any state, or given hardly any time.
async fn storm(gateway: Gateway, task: u64, asks: u64, most: u64) {
    for i in 0..asks {
        let random = mixed(task << 24 | i);
        let (key, word) = (random % 50, task << 32 | i);
        if random >> 60 < 4 {
            let seen = gateway.ask(key, NOTHING).await.unwrap();
            assert!(seen.messages > 0);
            continue;
        }
        let payload = bytes_of(word, (random >> 20 & 0xff_ffff) as usize % most as usize);
        let mut ask = gateway.ask_large(key, Mirror { word }, payload.clone(), payload.len());
        let is_right = |reply: tourbillon::LargeReply<Mirror, Vec<u8>>| {
            let (seen, back) = reply.unwrap();
            assert!(seen.word == word && back == payload, "task {task}, ask {i}");
        };
        match random >> 44 & 15 {
            0 => drop(ask),
            1 => drop(touch(&mut ask).await),
            2..=5 => {
                let mut reply = touch(&mut ask).await;
                for _ in 0..random >> 48 & 15 {
                    if reply.is_none() {
                        tokio::task::yield_now().await;
                        reply = touch(&mut ask).await;
                    }
                }
                if let Some(reply) = reply {
                    is_right(reply);
                }
            }
            6 | 7 => match ask.timeout(Some(Duration::from_micros(random >> 48 & 2047))).await {
                Err(CallError::Timeout { .. }) => {}
                reply => is_right(reply),
            },
            8 => assert_eq!(gateway.tell_large(key, Mirror { word }, payload).await, Ok(())),
            _ => is_right(ask.await),
        }
    }
}

on_every_backend! {
    /// Two lanes whose arenas have room for a few payloads, many tasks that give up at random: every reply is its request's, and nothing
    /// is left behind.
    fn large_asks_with_random_cancellation_lose_nothing(bench: &Bench) {
        let most = bench.scale(30_000, 3_000);
        let engine = bench.builder().shards(2).ring_capacity(64).arena_bytes(3 * most as u32 / 128 * 128).build().unwrap();
        let gateway = Gateway::builder(&engine).lanes(2).staging(16).build().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        runtime.block_on(async {
            let tasks: Vec<_> = (0..bench.scale(200, 40))
                .map(|task| tokio::spawn(storm(gateway.clone(), task, bench.scale(50, 8), most)))
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        assert_nothing_is_lost(&gateway);
        let counts = gateway.counts();
        assert!(counts.abandoned > 0 && counts.staging.withdrawn > 0 && counts.arena_exhausted > 0, "{counts:?}");
        assert_eq!(counted(&engine, Counter::Processed), counts.sent);
        assert_eq!(counted(&engine, Counter::Failed), 0);
    }
}

on_every_backend! {
    fn a_relaunch_is_not_noticed_and_a_stop_is_told_to_all(bench: &Bench) {
        let engine = bench.builder().shards(1).arena_bytes(TWO).build().unwrap();
        let gateway = Gateway::builder(&engine).lanes(1).staging(2).build().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        let ask_on = |word: u64| {
            let gateway = gateway.clone();
            runtime.spawn(async move {
                loop {
                    match half(&gateway, word).await {
                        Err(error) => return error,
                        reply => drop(check_half(word, reply)),
                    }
                }
            })
        };
        let tasks: Vec<_> = (0..8).map(ask_on).collect();
        let progress = || {
            let before = gateway.counts().answered;
            eventually("asks are answered", || gateway.counts().answered > before + 10);
        };
        for _ in 0..3 {
            progress();
            engine.relaunch().unwrap();
        }
        progress();
        engine.pause().unwrap();
        let processed = || engine.device_counters().unwrap()[Counter::Processed as usize];
        // All replies that came before the pause were taken.
        eventually("all wait for the pause's end", || {
            let (usage, counts) = (gateway.usage(), gateway.counts());
            (usage.staged, usage.blocked, counts.answered) == (2, 4, processed()) && counts.sent == counts.answered + 2
        });
        engine.stop().unwrap();
        for task in tasks {
            let error = runtime.block_on(task).unwrap();
            assert!(matches!(error, CallError::EngineStopped { .. }), "{error}");
        }
        let (counts, usage) = (gateway.counts(), gateway.usage());
        assert_eq!((counts.stopped, counts.staging.ended, usage.waiting, usage.in_flight), (2, 6, 0, 0));
        assert_eq!(counts.sent, counts.answered + 2);
    }
}

on_every_backend! {
    /// The next holder of a lane finds its arena free and nobody who still copies there.
    fn a_shutdown_among_payloads_gives_lane_and_arena_back(bench: &Bench) {
        let engine = bench.builder().shards(1).lanes(1).arena_bytes(1 << 16).build().unwrap();
        let bytes = 20_000;
        for round in 0..bench.scale(30, 4) {
            let gateway = Gateway::builder(&engine).lanes(1).build().unwrap();
            let mut asks: Vec<_> = (0..6)
                .map(|word| gateway.ask_large(2, Mirror { word }, bytes_of(round << 8 | word, bytes), bytes))
                .collect();
            // How far each has come by the shutdown is left to chance.
            let early: Vec<_> = asks.iter_mut().map(poll_once).collect();
            std::thread::sleep(Duration::from_micros(mixed(round) % 300));
            gateway.shutdown();
            for (word, (ask, early)) in (0..).zip(asks.iter_mut().zip(early)) {
                let reply = match early {
                    Poll::Ready(reply) => reply,
                    Poll::Pending => poll_until_ready(ask),
                };
                match reply {
                    Ok((seen, back)) => assert!(seen.word == word && back == bytes_of(round << 8 | word, bytes)),
                    Err(error) => assert_eq!(error, CallError::GatewayClosed),
                }
            }
            eventually("the lane is free", || engine.client().is_ok());
            let payload = bytes_of(round, 60_000);
            let (_, back) = client(&engine).call_large(3, Mirror { word: 0 }, &payload, payload.len()).unwrap();
            assert!(back == payload, "round {round}: somebody else wrote there");
            eventually("the lane is free", || engine.client().is_ok());
        }
        assert!(engine.inspect::<Blob>(2).unwrap().is_some());
    }
}

on_backends! {
    [native_1, simt_4]
    fn an_engine_may_go_while_payloads_are_in_flight_and_staged(bench: &Bench) {
        let (engine, gateway) = paused(bench, Backpressure::Block { timeout: REPLY_TIME_MAX }, 2);
        let mut asks: Vec<_> = (0..6).map(|word| half(&gateway, word)).collect();
        assert!(asks.iter_mut().all(|ask| poll_once(ask).is_pending()));
        drop(engine);
        for ask in &mut asks {
            let ended = poll_until_ready(ask);
            assert!(matches!(ended, Err(CallError::EngineStopped { .. })), "{ended:?}");
        }
        let (counts, usage) = (gateway.counts(), gateway.usage());
        assert_eq!((counts.stopped, counts.staging.ended, usage.waiting, usage.copying), (2, 4, 0, 0));
    }
}
