//! The telemetry page as another program sees it: by its path, without asking the engine for anything.

use std::time::Duration;

use tourbillon::abi::telemetry::TELEMETRY_MAGIC;
use tourbillon::actors::counter::Add;
use tourbillon::actors::faulty::{Fault, Trigger};
use tourbillon::{Counter, Engine, Mode, RunningEngine, running_engines};
use tourbillon_tests::bench::{client, eventually};
use tourbillon_tests::{on_backends, on_every_backend};

fn page_of(engine: &Engine) -> RunningEngine {
    RunningEngine::open(engine.telemetry_path()).unwrap()
}

on_every_backend! {
    fn the_page_counts_what_was_answered(bench: &Bench) {
        let engine = bench.builder().batch_limit(u32::MAX).build().unwrap();
        let seen = page_of(&engine);
        let mut client = client(&engine);
        let messages = bench.scale(20_000, 1_000);
        let adds = (0..messages).map(|i| (i % 10, Add { amount: 1, sender: 0, sequence: i / 10 + 1 }));
        assert!(client.call_many(adds).iter().all(Result::is_ok));
        assert!(client.call(1, Trigger { fault: Fault::Error, argument: 3 }).is_err());
        let expected = messages + 1;
        eventually("the page is refreshed", || {
            let page = seen.read();
            page.counters[Counter::Processed as usize] == expected && page.latency.iter().sum::<u64>() == expected
        });
        let page = seen.read();
        assert_eq!(page.counters[Counter::Claimed as usize], expected);
        assert_eq!(page.counters[Counter::Failed as usize], 1);
        assert_eq!(page.counters[Counter::LastFailure as usize], 1, "the handler's own error");
        assert_eq!(page.counters[Counter::Activated as usize], 11);
        let turns = page.counters[Counter::Turns as usize];
        assert!(turns > 0 && turns <= expected, "{turns} turns");
        assert!(page.counters[Counter::BusyNs as usize] > 0);
        assert_eq!((page.host.magic, page.host.process), (TELEMETRY_MAGIC, std::process::id()));
        assert_eq!((page.host.launches, page.host.state_copies), (1, 0));
        let geometry = engine.geometry();
        assert_eq!(page.host.warps, geometry.blocks * geometry.warps_per_block);
        assert_eq!(page.status.warps_running, u64::from(page.host.warps));
    }
}

on_every_backend! {
    fn the_heart_beats_in_every_mode_until_the_stop(bench: &Bench) {
        let engine = bench.builder().resident(true).build().unwrap();
        let seen = page_of(&engine);
        let beats = |mode: Mode| {
            assert_eq!(seen.read().host.mode_commanded, mode as u32);
            let before = seen.read().status;
            eventually("a beat", || seen.read().status.heartbeat > before.heartbeat);
            eventually("the device clock", || seen.read().status.device_ns > before.device_ns);
        };
        beats(Mode::Resident);
        engine.activate().unwrap();
        beats(Mode::Active);
        engine.pause().unwrap();
        beats(Mode::Paused);
        assert!(engine.drain(Duration::from_secs(5)).unwrap().is_complete());
        beats(Mode::Draining);
        engine.stop().unwrap();
        let stopped = seen.read();
        assert_eq!(stopped.host.mode_commanded, Mode::Stopped as u32);
        std::thread::sleep(Duration::from_millis(10));
        assert_eq!(seen.read().status.heartbeat, stopped.status.heartbeat, "nobody beats any more");
        assert!(seen.is_alive(), "the engine is stopped, and not gone");
        drop(engine);
        assert!(!seen.is_alive());
    }
}

on_every_backend! {
    fn the_page_goes_on_counting_over_relaunches(bench: &Bench) {
        let engine = bench.engine();
        let seen = page_of(&engine);
        let mut client = client(&engine);
        for round in 1..=5 {
            client.call(1, Add { amount: 1, sender: 0, sequence: round }).unwrap();
            engine.relaunch().unwrap();
            eventually("the count", || seen.read().counters[Counter::Processed as usize] == round);
            assert_eq!(seen.read().host.launches, 1 + round);
            assert_eq!(seen.read().status.relaunch_wanted, 0);
        }
    }
}

on_backends! {
    [native_1, simt_4]
    fn running_engines_are_found_and_told_apart(bench: &Bench) {
        let engines = [bench.engine(), bench.engine()];
        let found = running_engines().unwrap();
        for engine in &engines {
            let one = found.iter().filter(|found| found.path() == engine.telemetry_path()).count();
            assert_eq!(one, 1);
        }
        assert_ne!(engines[0].telemetry_path(), engines[1].telemetry_path());
        let path = engines[0].telemetry_path().to_owned();
        drop(engines);
        assert!(running_engines().unwrap().iter().all(|found| found.path() != path));
    }
}
