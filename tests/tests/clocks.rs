//! The hybrid logical clock on the device, by the timestamps of replies.

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tourbillon::abi::error::FailureCode;
use tourbillon::abi::hlc;
use tourbillon::actors::Counter as CounterActor;
use tourbillon::actors::counter::{Add, Get};
use tourbillon::{CallError, Counter, Engine, Plain};
use tourbillon_tests::bench::{client, counted};
use tourbillon_tests::on_every_backend;
use tourbillon_tests::raw::{exchange, header_of};

/// Well inside the drift bound of 100 ms, well outside anything that clocks on one machine differ by.
const AHEAD: Duration = Duration::from_millis(50);
/// Far outside it.
const TOO_FAR_AHEAD: Duration = Duration::from_secs(10);

/// The host's clock, some time from now.
fn physical_in(ahead: Duration) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + ahead;
    hlc::physical_from_unix_ns(now.as_nanos() as u64)
}

/// Calls that each add one to an actor of `keys` in turn; the timestamps of the replies.
fn timestamps(engine: &Engine, calls: u64, sender: u32, keys: u64) -> Vec<u64> {
    let mut client = client(engine);
    let call = |number: u64| {
        let add = Add { amount: 1, sender, sequence: number / keys + 1 };
        let before = client.hlc();
        let (reply, failure, _) = exchange(&mut client, header_of::<Add>(number % keys), add.as_bytes());
        assert_eq!(failure, None);
        assert!(reply.hlc > before, "a reply is later than what its client knew");
        assert!(client.hlc() > reply.hlc, "and the client knows it now");
        reply.hlc
    };
    (0..calls).map(call).collect()
}

on_every_backend! {
    fn timestamps_are_unique_in_a_shard_and_grow_for_each_actor(bench: &Bench) {
        let engine = bench.builder().shards(1).build().unwrap();
        let calls = bench.scale(3_400, 150);
        let stamped: Vec<Vec<u64>> = std::thread::scope(|scope| {
            let engine = &engine;
            let threads: Vec<_> =
                (0..3).map(|sender| scope.spawn(move || timestamps(engine, calls, sender, 4))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for stamps in &stamped {
            assert!(stamps.is_sorted_by(|a, b| a < b), "later calls of one client are later");
        }
        let all: HashSet<u64> = stamped.iter().flatten().copied().collect();
        assert_eq!(all.len() as u64, 3 * calls, "no timestamp was given twice");
        // The actor's own timestamp on the device is that of its last message.
        let (entry, state) = engine.inspect::<CounterActor>(0).unwrap().unwrap();
        assert!(all.contains(&entry.hlc));
        assert_eq!(entry.version, state.value, "one version for each message");
    }
}

on_every_backend! {
    /// What a sender knows is in the past of its message, however far its clock is ahead.
    fn a_reply_is_later_than_a_request_from_the_future(bench: &Bench) {
        let engine = bench.builder().shards(1).build().unwrap();
        let mut client = client(&engine);
        let mut last = 0;
        for round in 0..bench.scale(100, 20) {
            let ahead = physical_in(AHEAD);
            let header = tourbillon::abi::header::Header { hlc: ahead, ..header_of::<Get>(round % 3) };
            let (reply, failure, _) = exchange(&mut client, header, &[]);
            assert_eq!(failure, None);
            assert!(reply.hlc > ahead, "{} us behind its request", hlc::microseconds(ahead - reply.hlc));
            assert!(reply.hlc > last);
            assert!(reply.hlc < physical_in(AHEAD + Duration::from_secs(2)), "and not later for no reason");
            last = reply.hlc;
        }
        // Another client, whose clock is right, hears of it from the shard.
        let (reply, _, _) = exchange(&mut tourbillon_tests::bench::client(&engine), header_of::<Get>(9), &[]);
        assert!(reply.hlc > last);
    }
}

on_every_backend! {
    fn timestamps_from_beyond_the_drift_bound_are_refused_and_counted(bench: &Bench) {
        let engine = bench.engine();
        let mut client = client(&engine);
        let add = Add { amount: 7, sender: 0, sequence: 1 };
        for _ in 0..5 {
            let ahead = physical_in(TOO_FAR_AHEAD);
            let header = tourbillon::abi::header::Header { hlc: ahead, ..header_of::<Add>(1) };
            let (reply, failure, _) = exchange(&mut client, header, add.as_bytes());
            assert_eq!(failure, Some(FailureCode::ClockDrift));
            assert!(reply.hlc < ahead, "the refused timestamp moved the clock");
        }
        assert_eq!(counted(&engine, Counter::Drifted), 5);
        let untouched = engine.inspect::<CounterActor>(1).unwrap();
        assert!(untouched.is_none_or(|(_, state)| state.value == 0));
        assert_eq!(client.call(1, Get {}), Ok(0), "the lane goes on");
        let refused: Result<u64, CallError<_>> = client.call(1, Get {});
        assert!(refused.is_ok());
    }
}

on_every_backend! {
    fn timestamps_follow_the_host_clock(bench: &Bench) {
        let engine = bench.engine();
        let mut client = client(&engine);
        for _ in 0..20 {
            let before = physical_in(Duration::ZERO);
            let (reply, _, _) = exchange(&mut client, header_of::<Get>(1), &[]);
            let after = physical_in(Duration::ZERO);
            // Known to within a beat and what delays it on a busy machine; less than the drift bound.
            let slack = 80_000 << hlc::LOGICAL_BITS;
            assert!(reply.hlc >= before, "a receipt is not before its message was sent");
            assert!(reply.hlc <= after + slack, "{} us late", hlc::microseconds(reply.hlc - after));
        }
    }
}

on_every_backend! {
    fn timestamps_grow_over_a_relaunch(bench: &Bench) {
        let engine = bench.builder().shards(1).build().unwrap();
        let mut last = 0;
        for _ in 0..5 {
            for stamp in timestamps(&engine, 20, 0, 2) {
                assert!(stamp > last);
                last = stamp;
            }
            engine.relaunch().unwrap();
        }
    }
}
