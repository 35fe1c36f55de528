//! What happens when a lane is full: each strategy under an engine that is paused, with exact counts, and nothing published that was
//! said not to be.

use std::task::Poll;
use std::time::{Duration, Instant};

use tourbillon::actors::Counter as CounterActor;
use tourbillon::actors::counter::{Add, Get};
use tourbillon::staging::STAGING_MAX;
use tourbillon::{Ask, Backpressure, CallError, Client, Engine, EngineError, Gateway, SendError, StagingCounts, Tell};
use tourbillon_tests::bench::{REPLY_TIME_MAX, client};
use tourbillon_tests::futures::{a_moment, assert_nothing_is_lost, block_on, poll_once, poll_until_ready};
use tourbillon_tests::{Bench, on_every_backend};

/// Slots of the ring, which each message here takes one of.
const RING: u64 = 16;
/// Messages of the staging queue.
const BOUND: u64 = 8;
/// Messages that are sent.
const SENT: u64 = 40;
/// Far shorter than any pause of these tests.
const SHORT: Duration = Duration::from_millis(3);

fn add(sequence: u64) -> Add {
    Add { amount: 1, sender: 0, sequence }
}

/// An engine that is paused, and a client whose lane is as full as `SENT` tells make it; what each tell was answered.
fn filled(bench: &Bench, strategy: Backpressure) -> (Engine, Client, Vec<Result<(), SendError>>) {
    let engine = bench.builder().ring_capacity(RING as u32).build().unwrap();
    engine.pause().unwrap();
    let mut client = client(&engine);
    client.set_backpressure(strategy, BOUND as u32).unwrap();
    let sent = (1..=SENT).map(|sequence| client.send(1, add(sequence))).collect();
    (engine, client, sent)
}

/// Lets the engine go on; the sum of the actor and the last sequence number that it saw.
fn finished(engine: &Engine, client: &mut Client) -> (u64, u64) {
    engine.resume().unwrap();
    client.flush(REPLY_TIME_MAX).unwrap();
    let (_, state) = engine.inspect::<CounterActor>(1).unwrap().unwrap();
    (state.value, u64::from(state.last_sequence[0]))
}

on_every_backend! {
    fn a_tell_that_blocks_waits_for_its_time_and_no_longer(bench: &Bench) {
        let (engine, mut client, sent) = filled(bench, Backpressure::Block { timeout: SHORT });
        assert!(sent[..RING as usize].iter().all(Result::is_ok));
        // A thread that waits for the ring gains nothing by a queue in front of it: nothing is left there when it gives up.
        assert!(sent[RING as usize..].iter().all(|sent| *sent == Err(SendError::Timeout { after: SHORT })), "{sent:?}");
        let counts = client.counts();
        let late = SENT - RING;
        assert_eq!(counts.staging, StagingCounts { queued: late, timeouts: late, ..StagingCounts::default() });
        assert_eq!(finished(&engine, &mut client), (RING, RING));
    }
}

on_every_backend! {
    fn a_tell_that_is_rejected_is_not_sent(bench: &Bench) {
        let (engine, mut client, sent) = filled(bench, Backpressure::Reject);
        let accepted = RING + BOUND;
        assert!(sent[..accepted as usize].iter().all(Result::is_ok));
        assert!(sent[accepted as usize..].iter().all(|sent| *sent == Err(SendError::Rejected)), "{sent:?}");
        let expected = StagingCounts { queued: BOUND, rejected: SENT - accepted, ..StagingCounts::default() };
        assert_eq!((client.counts().staging, client.counts().sent), (expected, RING));
        assert_eq!(finished(&engine, &mut client), (accepted, accepted));
        assert_eq!(client.counts().staging, StagingCounts { published: BOUND, ..expected });
    }
}

on_every_backend! {
    fn the_oldest_staged_tells_make_room_for_the_newest(bench: &Bench) {
        let (engine, mut client, sent) = filled(bench, Backpressure::DropOldest);
        assert!(sent.iter().all(Result::is_ok), "each was staged, and those that were dropped were so later");
        let queued = SENT - RING;
        let expected = StagingCounts { queued, dropped_oldest: queued - BOUND, ..StagingCounts::default() };
        assert_eq!(client.counts().staging, expected);
        // What was published stays; of what was staged the last are left.
        assert_eq!(finished(&engine, &mut client), (RING + BOUND, SENT));
        assert_eq!(client.counts().staging, StagingCounts { published: BOUND, ..expected });
    }
}

on_every_backend! {
    fn the_newest_tells_are_dropped_and_their_caller_is_told(bench: &Bench) {
        let (engine, mut client, sent) = filled(bench, Backpressure::DropNewest);
        let accepted = RING + BOUND;
        assert!(sent[accepted as usize..].iter().all(|sent| *sent == Err(SendError::DroppedNewest)), "{sent:?}");
        let expected = StagingCounts { queued: BOUND, dropped_newest: SENT - accepted, ..StagingCounts::default() };
        assert_eq!(client.counts().staging, expected);
        assert_eq!(finished(&engine, &mut client), (accepted, accepted));
        assert_eq!(client.counts().staging, StagingCounts { published: BOUND, ..expected });
    }
}

on_every_backend! {
    /// Calls, batches and pipelines stand behind what was staged before them.
    fn nothing_overtakes_a_staged_tell(bench: &Bench) {
        let (engine, mut client, _) = filled(bench, Backpressure::Reject);
        let staged = RING + BOUND;
        client.set_timeout(Some(SHORT));
        assert_eq!(client.call(1, Get {}), Err(CallError::Timeout { after: SHORT }));
        assert!(!client.pipeline::<Get>().push(1, &Get {}).unwrap(), "tells are staged");
        client.set_timeout(Some(REPLY_TIME_MAX));
        engine.resume().unwrap();
        assert_eq!(client.call(1, Get {}), Ok(staged), "every staged tell came first");

        engine.pause().unwrap();
        for sequence in 1..=staged {
            client.send(1, add(staged + sequence)).unwrap();
        }
        engine.resume().unwrap();
        let replies = client.call_many([(1, Get {}), (1, Get {})]);
        assert_eq!(replies, [Ok(2 * staged), Ok(2 * staged)]);
        let began = Instant::now();
        let mut pipeline = client.pipeline::<Get>();
        while !pipeline.push(1, &Get {}).unwrap() {
            assert!(began.elapsed() < REPLY_TIME_MAX);
        }
        assert_eq!(pipeline.pop(), Some(Ok(2 * staged)));
    }
}

on_every_backend! {
    fn what_is_staged_when_the_engine_ends_is_told_and_counted(bench: &Bench) {
        let (engine, mut client, _) = filled(bench, Backpressure::Reject);
        drop(engine);
        assert!(matches!(client.send(1, add(1)), Err(SendError::EngineStopped { .. })));
        let flushed = client.flush(REPLY_TIME_MAX);
        assert!(matches!(flushed, Err(SendError::EngineStopped { .. })), "{flushed:?}");
        assert_eq!((client.counts().staging.ended, client.counts().staging.published), (BOUND, 0));
    }
}

on_every_backend! {
    fn a_staging_queue_of_no_messages_or_too_many_is_refused(bench: &Bench) {
        let engine = bench.engine();
        let mut client = client(&engine);
        for bound in [0, STAGING_MAX + 1] {
            let refused = client.set_backpressure(Backpressure::Reject, bound);
            let Err(EngineError::OutOfBounds { value, least: 1, most: STAGING_MAX, .. }) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(value, bound);
        }
        client.set_backpressure(Backpressure::Reject, STAGING_MAX).unwrap();
    }
}

/// An engine that is paused, a gateway with one lane, and as many asks as tells were sent above, each polled once.
fn asked(bench: &Bench, strategy: Backpressure) -> (Engine, Gateway, Vec<Ask<Add>>) {
    let engine = bench.builder().ring_capacity(RING as u32).build().unwrap();
    engine.pause().unwrap();
    let gateway = Gateway::builder(&engine).lanes(1).staging(BOUND as u32).backpressure(strategy).build().unwrap();
    let asks = (1..=SENT).map(|sequence| gateway.ask(1, add(sequence))).collect();
    (engine, gateway, asks)
}

/// Lets the engine go on; the replies' last sequence numbers, and the sum of the actor.
fn answered(engine: &Engine, asks: &mut [Ask<Add>]) -> (Vec<u64>, u64) {
    engine.resume().unwrap();
    let replies = asks.iter_mut().map(|ask| poll_until_ready(ask).unwrap().last_sequence).collect();
    let (_, state) = engine.inspect::<CounterActor>(1).unwrap().unwrap();
    (replies, state.value)
}

on_every_backend! {
    fn asks_that_block_wait_for_a_place_and_time_out_without_one(bench: &Bench) {
        let (engine, gateway, mut asks) = asked(bench, Backpressure::Block { timeout: SHORT });
        assert!(asks.iter_mut().all(|ask| poll_once(ask).is_pending()));
        let accepted = (RING + BOUND) as usize;
        for ask in asks.drain(accepted..) {
            let mut ask = ask;
            assert_eq!(poll_until_ready(&mut ask), Err(CallError::Timeout { after: SHORT }));
        }
        let (queued, blocked) = (SENT - RING, SENT - RING - BOUND);
        let expected = StagingCounts { queued, blocked, timeouts: blocked, ..StagingCounts::default() };
        assert_eq!((gateway.counts().staging, gateway.counts().sent), (expected, RING));
        assert!(asks.iter_mut().all(|ask| poll_once(ask).is_pending()), "what has a place keeps it");
        let (replies, sum) = answered(&engine, &mut asks);
        assert_eq!((replies, sum), ((0..RING + BOUND).collect(), RING + BOUND));
        assert_eq!(gateway.counts().staging, StagingCounts { published: BOUND, ..expected });
        assert_nothing_is_lost(&gateway);
    }
}

on_every_backend! {
    fn asks_that_block_long_enough_are_all_answered_in_order(bench: &Bench) {
        let (engine, gateway, mut asks) = asked(bench, Backpressure::Block { timeout: REPLY_TIME_MAX });
        assert!(asks.iter_mut().all(|ask| poll_once(ask).is_pending()));
        let usage = gateway.usage();
        assert_eq!((usage.in_flight, usage.staged, usage.blocked, usage.free_slots), (RING, BOUND, SENT - RING - BOUND, 0));
        let (replies, sum) = answered(&engine, &mut asks);
        assert_eq!((replies, sum), ((0..SENT).collect(), SENT));
        let counts = gateway.counts();
        assert_eq!((counts.staging.published, counts.staging.blocked, counts.answered), (SENT - RING, 16, SENT));
        assert_nothing_is_lost(&gateway);
    }
}

on_every_backend! {
    fn asks_that_are_rejected_or_dropped_are_told_at_once(bench: &Bench) {
        for (strategy, error) in [
            (Backpressure::Reject, CallError::Rejected),
            (Backpressure::DropNewest, CallError::DroppedNewest),
        ] {
            let (engine, gateway, mut asks) = asked(bench, strategy);
            let accepted = (RING + BOUND) as usize;
            for (i, ask) in asks.iter_mut().enumerate() {
                let expected = if i < accepted { Poll::Pending } else { Poll::Ready(Err(error.clone())) };
                assert_eq!(poll_once(ask), expected, "ask {i}");
            }
            let refused = SENT - RING - BOUND;
            let expected = match strategy {
                Backpressure::Reject => StagingCounts { queued: BOUND, rejected: refused, ..StagingCounts::default() },
                _ => StagingCounts { queued: BOUND, dropped_newest: refused, ..StagingCounts::default() },
            };
            assert_eq!(gateway.counts().staging, expected);
            let (replies, sum) = answered(&engine, &mut asks[..accepted]);
            assert_eq!((replies, sum), ((0..RING + BOUND).collect(), RING + BOUND));
            assert_nothing_is_lost(&gateway);
        }
    }
}

on_every_backend! {
    fn the_oldest_staged_asks_are_dropped_and_woken(bench: &Bench) {
        let (engine, gateway, mut asks) = asked(bench, Backpressure::DropOldest);
        assert!(asks.iter_mut().all(|ask| poll_once(ask).is_pending()), "each newest one is staged");
        let dropped = (SENT - RING - BOUND) as usize;
        // What is published stays; of what was staged after it, all but the last were dropped.
        for ask in asks.drain(RING as usize..RING as usize + dropped) {
            let mut ask = ask;
            assert_eq!(poll_once(&mut ask), Poll::Ready(Err(CallError::Dropped)));
        }
        assert!(asks.iter_mut().all(|ask| poll_once(ask).is_pending()));
        let expected =
            StagingCounts { queued: SENT - RING, dropped_oldest: dropped as u64, ..StagingCounts::default() };
        assert_eq!(gateway.counts().staging, expected);
        let (replies, sum) = answered(&engine, &mut asks);
        assert_eq!(replies[RING as usize..], [16, 33, 34, 35, 36, 37, 38, 39]);
        assert_eq!(sum, RING + BOUND);
        assert_nothing_is_lost(&gateway);
    }
}

on_every_backend! {
    fn tells_are_ready_when_they_are_published(bench: &Bench) {
        let (engine, gateway, _) = asked(bench, Backpressure::DropOldest);
        let mut tells: Vec<Tell<Add>> = (1..=SENT).map(|sequence| gateway.tell(1, add(sequence))).collect();
        for (i, tell) in tells.iter_mut().enumerate() {
            let expected = if i < RING as usize { Poll::Ready(Ok(())) } else { Poll::Pending };
            assert_eq!(poll_once(tell), expected, "tell {i}");
        }
        let late = SENT as usize - BOUND as usize;
        for tell in &mut tells[RING as usize..late] {
            assert_eq!(poll_once(tell), Poll::Ready(Err(SendError::Dropped)));
        }
        engine.resume().unwrap();
        for tell in &mut tells[late..] {
            assert_eq!(poll_until_ready(tell), Ok(()));
        }
        assert_nothing_is_lost(&gateway);
        assert_eq!((gateway.counts().tells_done, gateway.counts().sent), (RING + BOUND, RING + BOUND));
    }
}

on_every_backend! {
    /// All on one thread: if a blocked ask held it, the clock task could not run.
    fn blocking_never_blocks_the_executor(bench: &Bench) {
        let (engine, gateway, asks) = asked(bench, Backpressure::Block { timeout: REPLY_TIME_MAX });
        block_on(async {
            let waiting: Vec<_> = asks.into_iter().map(tokio::spawn).collect();
            let mut ticks = 0;
            while gateway.usage().blocked < SENT - RING - BOUND || ticks < 20 {
                a_moment().await;
                ticks += 1;
                assert!(ticks < 5_000, "the asks never blocked: {:?}", gateway.usage());
            }
            assert_eq!(gateway.counts().answered, 0);
            engine.resume().unwrap();
            for (sequence, ask) in waiting.into_iter().enumerate() {
                assert_eq!(ask.await.unwrap().unwrap().last_sequence, sequence as u64);
            }
        });
        assert_nothing_is_lost(&gateway);
    }
}

on_every_backend! {
    fn a_gateway_of_senseless_bounds_is_refused(bench: &Bench) {
        let engine = bench.builder().lanes(3).build().unwrap();
        let figure = |built: Result<Gateway, EngineError>| match built {
            Err(EngineError::OutOfBounds { figure, value: 0, least: 1, .. }) => figure,
            other => panic!("{other:?}"),
        };
        assert!(figure(Gateway::builder(&engine).staging(0).build()).contains("staging"));
        assert!(figure(Gateway::builder(&engine).lanes(0).build()).contains("lanes"));
        assert!(figure(Gateway::builder(&engine).waiting(0).build()).contains("wait"));
        let refused = Gateway::builder(&engine).staging(STAGING_MAX + 1).build();
        assert!(matches!(refused, Err(EngineError::OutOfBounds { least: 1, most: STAGING_MAX, .. })), "{refused:?}");
        let refused = Gateway::builder(&engine).lanes(4).build();
        assert!(matches!(refused, Err(EngineError::NoFreeLane { lanes: 3, .. })), "{refused:?}");
        let all = Gateway::builder(&engine).lanes(3).build().expect("what was refused holds no lane");
        assert!(matches!(engine.gateway(), Err(EngineError::NoFreeLane { lanes: 3, held: 3, waiting: 0 })));
        drop(all);
        assert_eq!(engine.gateway().unwrap().lanes(), 1);
    }
}
