//! What happens when a lane is full: each strategy under an engine that is paused, with exact counts, and nothing published that was
//! said not to be.

use std::time::{Duration, Instant};

use tourbillon::actors::Counter as CounterActor;
use tourbillon::actors::counter::{Add, Get};
use tourbillon::staging::STAGING_MAX;
use tourbillon::{Backpressure, CallError, Client, Engine, EngineError, SendError, StagingCounts};
use tourbillon_tests::bench::{REPLY_TIME_MAX, client};
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
