//! How a gateway ends, and what becomes of those who wait: with the engine, by a shutdown, with its last future.

use std::task::Poll;
use std::time::{Duration, Instant};

use tourbillon::actors::counter::{Add, CounterError, Get};
use tourbillon::{Ask, CallError, Counter, EngineError, Gateway};
use tourbillon_tests::bench::{REPLY_TIME_MAX, client, eventually};
use tourbillon_tests::futures::{a_moment, assert_nothing_is_lost, block_on, paused, poll_once, poll_until_ready};
use tourbillon_tests::on_every_backend;

fn add(sequence: u64) -> Add {
    Add { amount: 1, sender: 0, sequence }
}

/// Tasks that ask until they are told that it is over; how many asks were answered.
fn askers(gateway: &Gateway, tasks: u64) -> Vec<tokio::task::JoinHandle<(u64, CallError<CounterError>)>> {
    let ask_on = |task: u64| {
        let gateway = gateway.clone();
        tokio::spawn(async move {
            let mut answered = 0;
            loop {
                match gateway.ask(task % 7, Get {}).await {
                    Ok(_) => answered += 1,
                    Err(error) => return (answered, error),
                }
            }
        })
    };
    (0..tasks).map(ask_on).collect()
}

on_every_backend! {
    fn a_pause_and_a_relaunch_are_not_noticed_and_a_stop_is_told_to_all(bench: &Bench) {
        let engine = bench.builder().ring_capacity(16).build().unwrap();
        let gateway = Gateway::builder(&engine).lanes(2).staging(8).build().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        let tasks = {
            let _entered = runtime.enter();
            askers(&gateway, 100)
        };
        let progress = |what: &str| {
            let before = gateway.counts().answered;
            eventually(what, || gateway.counts().answered > before + 20);
        };
        for _ in 0..3 {
            progress("asks are answered");
            engine.relaunch().unwrap();
            progress("asks are answered after a relaunch");
            engine.pause().unwrap();
            eventually("everybody waits", || gateway.usage().waiting == 100);
            engine.resume().unwrap();
        }
        engine.pause().unwrap();
        let processed = || engine.device_counters().unwrap()[Counter::Processed as usize];
        // With requests that have no reply: all replies that came before the pause were taken.
        eventually("both rings are full", || {
            let usage = gateway.usage();
            usage.waiting == 100 && usage.free_slots == 0 && gateway.counts().answered == processed()
        });
        engine.stop().unwrap();
        let began = Instant::now();
        let mut answered = 0;
        for task in tasks {
            let (count, error) = runtime.block_on(task).unwrap();
            assert!(matches!(error, CallError::EngineStopped { .. }), "{error}");
            answered += count;
        }
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        let counts = gateway.counts();
        assert_eq!((counts.answered, counts.sent, gateway.usage().waiting), (answered, answered + counts.stopped, 0));
        assert!(counts.staging.ended > 0 && counts.stopped > 0, "{counts:?}");
    }
}

on_every_backend! {
    fn a_drain_answers_what_is_published_and_refuses_the_rest(bench: &Bench) {
        let engine = bench.builder().ring_capacity(16).build().unwrap();
        let gateway = Gateway::builder(&engine).lanes(1).staging(8).build().unwrap();
        block_on(async {
            let tasks = askers(&gateway, 50);
            while gateway.counts().answered < 100 {
                a_moment().await;
            }
            let report = engine.drain(REPLY_TIME_MAX).unwrap();
            assert!(report.is_complete(), "{report:?}");
            for task in tasks {
                let (_, error) = task.await.unwrap();
                assert!(matches!(error, CallError::EngineStopped { .. }), "{error}");
            }
        });
        assert_nothing_is_lost(&gateway);
        assert_eq!(gateway.counts().stopped, 0);
    }
}

on_every_backend! {
    fn an_engine_may_go_while_asks_are_in_flight(bench: &Bench) {
        let (engine, gateway) = paused(bench, 8);
        let mut asks: Vec<Ask<Add>> = (1..=40).map(|sequence| gateway.ask(1, add(sequence))).collect();
        assert!(asks.iter_mut().all(|ask| poll_once(ask).is_pending()));
        drop(engine);
        let ended = poll_until_ready(&mut asks[0]);
        assert!(matches!(ended, Err(CallError::EngineStopped { .. })), "{ended:?}");
        // Published and staged ones end under one hold of the lane's lock: where one has ended, so have all.
        for ask in &mut asks[1..] {
            let ended = poll_once(ask);
            assert!(matches!(ended, Poll::Ready(Err(CallError::EngineStopped { .. }))), "{ended:?}");
        }
        let (counts, usage) = (gateway.counts(), gateway.usage());
        assert_eq!((counts.stopped, counts.staging.ended, usage.waiting, usage.in_flight), (16, 24, 0, 0));
    }
}

on_every_backend! {
    fn a_shutdown_ends_all_waits_at_once_and_gives_the_lanes_back(bench: &Bench) {
        let engine = bench.builder().ring_capacity(16).lanes(1).build().unwrap();
        engine.pause().unwrap();
        let gateway = Gateway::builder(&engine).lanes(1).staging(4).build().unwrap();
        let mut asks: Vec<Ask<Add>> = (1..=30).map(|sequence| gateway.ask(1, add(sequence))).collect();
        assert!(asks.iter_mut().all(|ask| poll_once(ask).is_pending()));
        gateway.shutdown();
        gateway.shutdown();
        for ask in &mut asks {
            assert_eq!(poll_once(ask), Poll::Ready(Err(CallError::GatewayClosed)));
        }
        assert_eq!(block_on(gateway.ask(1, Get {})), Err(CallError::GatewayClosed));
        assert_eq!((gateway.counts().stopped, gateway.counts().staging.ended, gateway.usage().waiting), (16, 14, 0));
        let refused = engine.client();
        assert!(matches!(refused, Err(EngineError::NoFreeLane { lanes: 1, held: 0, waiting: 1 })), "{refused:?}");
        engine.resume().unwrap();
        eventually("the lane is free", || engine.client().is_ok());
        assert_eq!(client(&engine).call(1, Get {}), Ok(16), "what was published was executed, and nothing else");
        assert!(matches!(engine.gateway().map(|gateway| gateway.lanes()), Ok(1)));
    }
}

on_every_backend! {
    fn the_last_future_keeps_a_gateway_alive(bench: &Bench) {
        let engine = bench.builder().lanes(1).build().unwrap();
        let gateway = engine.gateway().unwrap();
        let ask = gateway.ask(1, add(1));
        drop(gateway);
        assert!(engine.client().is_err(), "the lane is held");
        assert_eq!(block_on(ask).unwrap().last_sequence, 0);
        eventually("the lane is free", || engine.client().is_ok());
    }
}
