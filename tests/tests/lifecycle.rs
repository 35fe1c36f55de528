//! From resident to stopped: what each mode does and refuses, and that every step ends.

use std::time::{Duration, Instant};

use tourbillon::actors::Counter as CounterActor;
use tourbillon::actors::counter::{Add, Get};
use tourbillon::actors::echo::Ping16;
use tourbillon::{CallError, Counter, EngineError, Mode, SendError};
use tourbillon_tests::bench::{client, counted, eventually};
use tourbillon_tests::{on_backends, on_every_backend};

/// Long enough for a kernel that does what it must not do to be seen doing it.
const A_WHILE: Duration = Duration::from_millis(30);

fn add(sequence: u64) -> Add {
    Add { amount: 1, sender: 0, sequence }
}

/// Whether the step was refused as one that the lifecycle does not have.
fn is_refused(step: Result<(), EngineError>, from: Mode, to: Mode) -> bool {
    matches!(step, Err(EngineError::NoTransition { from: f, to: t }) if (f, t) == (from, to))
}

on_every_backend! {
    fn a_resident_engine_handles_nothing_until_it_is_activated(bench: &Bench) {
        let engine = bench.builder().resident(true).build().unwrap();
        assert_eq!((engine.mode(), engine.launches()), (Mode::Resident, 1));
        let mut client = client(&engine);
        for sequence in 1..=5 {
            client.send(1, add(sequence)).unwrap();
        }
        std::thread::sleep(A_WHILE);
        let counters = engine.device_counters().unwrap();
        assert_eq!((counters[Counter::Claimed as usize], counters[Counter::Processed as usize]), (0, 0));
        assert!(engine.inspect::<CounterActor>(1).unwrap().is_none());
        assert!(is_refused(engine.pause(), Mode::Resident, Mode::Paused));
        assert!(is_refused(engine.drain(A_WHILE).map(drop), Mode::Resident, Mode::Draining));
        engine.activate().unwrap();
        client.flush(Duration::from_secs(10)).unwrap();
        assert_eq!(client.counts().tells_done, 5);
        assert_eq!(engine.inspect::<CounterActor>(1).unwrap().unwrap().1.value, 5);
    }
}

on_every_backend! {
    fn every_mode_takes_its_steps_and_refuses_the_others(bench: &Bench) {
        let engine = bench.engine();
        let mut client = client(&engine);
        assert_eq!(engine.mode(), Mode::Active);
        engine.activate().unwrap();
        for round in 1..=10 {
            client.call(1, add(round)).unwrap();
            engine.pause().unwrap();
            engine.pause().unwrap();
            assert_eq!(engine.mode(), Mode::Paused);
            engine.resume().unwrap();
        }
        // A paused engine may be launched anew, and stays paused.
        engine.pause().unwrap();
        engine.relaunch().unwrap();
        assert_eq!((engine.mode(), engine.launches()), (Mode::Paused, 2));
        client.set_timeout(Some(A_WHILE));
        assert_eq!(client.call(1, Get {}), Err(CallError::Timeout { after: A_WHILE }));
        client.set_timeout(Some(Duration::from_secs(10)));
        engine.resume().unwrap();
        assert_eq!(client.call(1, Get {}), Ok(10), "the call that was given up stands in nobody's way");
        assert!(engine.drain(Duration::from_secs(10)).unwrap().is_complete());
        assert_eq!(engine.mode(), Mode::Draining);
        assert!(is_refused(engine.activate(), Mode::Draining, Mode::Active));
        assert!(is_refused(engine.pause(), Mode::Draining, Mode::Paused));
        assert!(matches!(engine.inspect::<CounterActor>(1), Err(EngineError::NoTransition { .. })));
        assert!(engine.drain(Duration::from_secs(10)).unwrap().is_complete(), "once more changes nothing");
        engine.stop().unwrap();
        engine.stop().unwrap();
        assert_eq!(engine.mode(), Mode::Stopped);
        for step in [engine.activate(), engine.pause(), engine.relaunch()] {
            assert!(matches!(step, Err(EngineError::Stopped { .. })), "{step:?}");
        }
        assert!(matches!(engine.drain(A_WHILE), Err(EngineError::NoTransition { from: Mode::Stopped, .. })));
        // What was counted and kept can still be read.
        assert_eq!(engine.device_counters().unwrap()[Counter::Processed as usize], 12);
        assert_eq!(engine.inspect::<CounterActor>(1).unwrap().unwrap().1.value, 10);
    }
}

on_every_backend! {
    fn a_drain_answers_what_was_published_and_accepts_nothing_more(bench: &Bench) {
        let engine = bench.engine();
        let mut client = client(&engine);
        engine.pause().unwrap();
        let published = 200;
        for sequence in 1..=published {
            client.send(sequence % 7, add(sequence)).unwrap();
        }
        let report = engine.drain(Duration::from_secs(20)).unwrap();
        assert!(report.is_complete(), "{report:?}");
        assert!(matches!(client.send(1, add(999)), Err(SendError::EngineStopped { .. })));
        assert!(matches!(client.call(1, Get {}), Err(CallError::EngineStopped { .. })));
        assert!(matches!(client.pipeline().push(1, &add(999)), Err(SendError::EngineStopped { .. })));
        assert!(matches!(engine.client(), Err(EngineError::Stopped { .. })));
        assert_eq!(client.counts().tells_done, published);
        engine.stop().unwrap();
        let counters = engine.device_counters().unwrap();
        assert_eq!(counters[Counter::Claimed as usize], published);
        assert_eq!(counters[Counter::Processed as usize], published);
        let sum: u64 = (0..7).map(|key| engine.inspect::<CounterActor>(key).unwrap().unwrap().1.value).sum();
        assert_eq!(sum, published);
    }
}

on_every_backend! {
    /// A frame of two slots of which only one was published can never be answered.
    fn a_drain_reports_what_it_leaves(bench: &Bench) {
        let engine = bench.engine();
        let mut client = client(&engine);
        let header = tourbillon_tests::raw::header_of::<tourbillon::actors::echo::Ping64>(1);
        let mut slot = [0; 12];
        slot[..8].copy_from_slice(&header.encode());
        client.publish_slots(&[slot]).unwrap();
        let report = engine.drain(A_WHILE).unwrap();
        assert!(!report.is_complete() && report.took >= A_WHILE);
        assert_eq!(report.lanes.len(), 1);
        assert_eq!((report.lanes[0].lane, report.lanes[0].unanswered), (client.lane().number(), 1));
        assert_eq!((report.claimed, report.processed), (0, 0));
    }
}

on_every_backend! {
    fn a_stop_under_load_ends_and_every_waiting_client_hears_of_it(bench: &Bench) {
        let engine = bench.engine();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|sender| {
                    let mut client = client(&engine);
                    scope.spawn(move || {
                        let mut answered = 0u64;
                        loop {
                            match client.call(sender, Ping16 { words: [answered as u32; 4] }) {
                                Ok(_) => answered += 1,
                                Err(CallError::EngineStopped { .. }) => return answered,
                                Err(error) => panic!("client {sender}: {error}"),
                            }
                        }
                    })
                })
                .collect();
            eventually("some are answered", || engine.device_counters().unwrap()[Counter::Processed as usize] > 20);
            let began = Instant::now();
            engine.stop().unwrap();
            let took = began.elapsed();
            assert!(took < Duration::from_secs(3), "the stop took {took:?}");
            let answered: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
            let processed = engine.device_counters().unwrap()[Counter::Processed as usize];
            assert!((answered..=answered + 3).contains(&processed), "{processed} handled, {answered} answered");
        });
    }
}

on_every_backend! {
    /// The stop is seen also by a gate that waits for room which a reader does not make.
    fn an_idle_or_congested_engine_stops(bench: &Bench) {
        let idle = bench.engine();
        std::thread::sleep(A_WHILE);
        idle.stop().unwrap();
        drop(idle);
        let engine = bench.builder().shards(1).ring_capacity(4096).build().unwrap();
        let mut client = client(&engine);
        let mut pipeline = client.pipeline();
        while pipeline.push(1, &add(1)).unwrap() {}
        engine.stop().unwrap();
        let mut ended = 0;
        while let Some(reply) = pipeline.try_pop() {
            ended += u64::from(reply.is_err());
        }
        let processed = engine.device_counters().unwrap()[Counter::Processed as usize];
        assert_eq!(processed + ended, 4096, "each is answered or ends with an error");
    }
}

on_backends! {
    [native_1, native_3, simt_4, simt_32, gpu]
    /// Sixty engines one after the other: nothing of one stays for the next.
    fn engines_come_and_go(bench: &Bench) {
        for round in 0..bench.scale(60, 10) {
            let engine = bench.builder().shards(3).build().unwrap();
            let mut client = client(&engine);
            let reply = client.call(round, add(1)).unwrap();
            assert_eq!((reply.previous, reply.last_sequence), (0, 0), "the state of an engine before");
            assert_eq!(counted(&engine, Counter::Processed), 1);
        }
    }
}
