//! Every message is executed once and answered once, in the order of its client: with one launch for all of them, through
//! pauses and through relaunches.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tourbillon::{Counter, Mode};
use tourbillon_tests::bench::counters;
use tourbillon_tests::load::Load;
use tourbillon_tests::{on_backends, on_every_backend};

on_backends! {
    [native_1, gpu]
    /// The ten million.
    fn ten_million_messages_are_executed_once_in_one_launch(bench: &Bench) {
        let engine = bench.engine();
        let load = Load { clients: 4, keys: 64, messages: 2_500_000, salt: 1 };
        load.run(&engine, &counters(&engine), |_| ());
        assert_eq!(engine.launches(), 1);
    }
}

on_every_backend! {
    fn messages_are_executed_once_in_one_launch(bench: &Bench) {
        let engine = bench.engine();
        let load = Load { clients: 4, keys: 37, messages: bench.scale(250_000, 5_000), salt: 2 };
        let before = counters(&engine);
        let copies = engine.copies().state;
        load.run(&engine, &before, |_| assert_eq!(engine.copies().state, copies));
        assert_eq!(copies, 0);
        assert_eq!(engine.copies().state, load.keys, "the looks at the states, and nothing else");
        assert_eq!(engine.launches(), 1);
    }
}

on_every_backend! {
    fn nothing_is_lost_by_pauses_under_load(bench: &Bench) {
        let engine = bench.engine();
        let load = Load { clients: 3, keys: 16, messages: bench.scale(200_000, 3_000), salt: 3 };
        let before = counters(&engine);
        let mut pauses = 0;
        load.run(&engine, &before, |done| {
            while !done.load(Ordering::Relaxed) {
                engine.pause().unwrap();
                assert_eq!(engine.mode(), Mode::Paused);
                let paused = engine.device_counters().unwrap();
                let beats = engine.telemetry().status.heartbeat;
                std::thread::sleep(Duration::from_millis(3));
                let still = engine.device_counters().unwrap();
                assert_eq!(paused[Counter::Processed as usize], still[Counter::Processed as usize], "handled in a pause");
                assert_eq!(paused[Counter::Claimed as usize], still[Counter::Claimed as usize], "taken in a pause");
                assert!(engine.telemetry().status.heartbeat >= beats);
                engine.resume().unwrap();
                std::thread::sleep(Duration::from_millis(2));
                pauses += 1;
            }
        });
        assert!(pauses > 0, "the load ended before the first pause");
    }
}

on_every_backend! {
    fn nothing_is_lost_by_relaunches_under_load(bench: &Bench) {
        let engine = bench.engine();
        let before = counters(&engine);
        let relaunches = bench.scale(100, 20);
        let mut made = 0;
        // As many loads as it takes until all relaunches were made under one.
        let mut salt = 100;
        let mut before = before;
        while made < relaunches {
            let load = Load { clients: 3, keys: 16, messages: bench.scale(100_000, 2_000), salt };
            load.run(&engine, &before, |done| {
                while !done.load(Ordering::Relaxed) && made < relaunches {
                    engine.relaunch().unwrap();
                    made += 1;
                }
            });
            before = counters(&engine);
            salt += 1;
        }
        assert_eq!(engine.launches(), 1 + relaunches);
        assert_eq!(engine.mode(), Mode::Active);
    }
}
