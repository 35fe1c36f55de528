//! A handler that never returns: everything that waits for it ends with an error that says so.
//!
//! Each test has a process of its own, for the handler ends with its process only.

use std::time::{Duration, Instant};

use tourbillon::actors::counter::Get;
use tourbillon::actors::faulty::{Fault, Trigger};
use tourbillon::{CallError, Engine, EngineError, Mode, QuiesceError, RunningEngine, TRANSITION_TIME_MAX};
use tourbillon_tests::bench::client;
use tourbillon_tests::{Bench, on_backends};

/// Far longer than an answer takes, far shorter than a transition waits.
const A_WHILE: Duration = Duration::from_millis(300);

/// An engine with a handler that never returns, which has begun.
fn stuck(bench: &Bench) -> Engine {
    let engine = bench.builder().shards(1).build().unwrap();
    let mut client = client(&engine);
    client.set_timeout(Some(A_WHILE));
    let endless = Trigger { fault: Fault::EndlessLoop, argument: 0 };
    assert_eq!(client.call(1, endless), Err(CallError::Timeout { after: A_WHILE }));
    // The shard waits for the handler, and so does who asks it.
    assert_eq!(client.call(2, Get {}), Err(CallError::Timeout { after: A_WHILE }));
    engine
}

fn assert_unusable(bench: &Bench) {
    let again = bench.builder().build().map(drop);
    assert!(matches!(again, Err(EngineError::DeviceUnusable { .. })), "{again:?}");
    assert!(again.unwrap_err().to_string().contains("end this process"));
}

on_backends! {
    apart [native_1, native_3, simt_4, simt_32, gpu]
    fn a_drop_leaves_the_kernel_behind_within_a_second(bench: &Bench) {
        let engine = stuck(bench);
        let mut other = client(&engine);
        let began = Instant::now();
        drop(engine);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(2), "the drop took {took:?}");
        assert!(matches!(other.call(3, Get {}), Err(CallError::EngineStopped { .. })));
        assert_unusable(bench);
    }
}

on_backends! {
    apart [native_3, simt_4, gpu]
    fn a_pause_and_a_stop_say_who_does_not_obey(bench: &Bench) {
        let engine = stuck(bench);
        let seen = RunningEngine::open(engine.telemetry_path()).unwrap();
        match engine.pause() {
            Err(EngineError::TransitionTimeout { mode, lagging, warps, after }) => {
                assert_eq!((mode, after), (Mode::Paused, TRANSITION_TIME_MAX));
                assert!(lagging >= 1 && lagging <= warps, "{lagging} of {warps}");
            }
            other => panic!("{other:?}"),
        }
        assert!(seen.is_alive() && seen.read().host.mode_commanded == Mode::Paused as u32);
        let stopped = engine.stop();
        assert!(matches!(stopped, Err(EngineError::NeedsProcessExit { .. })), "{stopped:?}");
        assert!(matches!(engine.client(), Err(EngineError::Stopped { .. })));
        drop(engine);
        assert_unusable(bench);
    }
}

on_backends! {
    apart [native_1, gpu]
    fn a_relaunch_fails_and_so_does_the_engine(bench: &Bench) {
        let engine = stuck(bench);
        let relaunched = engine.relaunch();
        assert!(matches!(relaunched, Err(EngineError::NeedsProcessExit { .. })), "{relaunched:?}");
        assert!(matches!(engine.client(), Err(EngineError::Stopped { .. })));
        assert_eq!(engine.launches(), 1);
        // What is under way stays so, and nobody waits for it.
        let quiet = engine.quiesce(A_WHILE);
        assert!(matches!(quiet, Err(QuiesceError::Engine(EngineError::Stopped { .. }))), "{quiet:?}");
        drop(engine);
        assert_unusable(bench);
    }
}
