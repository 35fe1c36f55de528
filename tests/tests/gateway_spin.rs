//! A gateway whose polls look for their replies: what it saves, and that nobody is forgotten when it does not.

use std::task::Poll;
use std::time::{Duration, Instant};

use tourbillon::actors::counter::{Add, Added, Get};
use tourbillon::gateway::SPIN_MAX;
use tourbillon::{EngineError, Gateway};
use tourbillon_tests::bench::mixed;
use tourbillon_tests::futures::{assert_nothing_is_lost, block_on, poll_once};
use tourbillon_tests::on_every_backend;

fn add(sequence: u64) -> Add {
    Add { amount: 1, sender: 0, sequence }
}

on_every_backend! {
    fn a_reply_that_comes_in_time_is_there_at_the_first_poll(bench: &Bench) {
        let engine = bench.engine();
        let gateway = Gateway::builder(&engine).spin(SPIN_MAX).build().unwrap();
        let asks = bench.scale(300, 20);
        let mut at_once = 0;
        for before in 0..asks {
            let mut ask = gateway.ask(3, add(before + 1));
            let reply = match poll_once(&mut ask) {
                Poll::Ready(reply) => {
                    at_once += 1;
                    reply
                }
                Poll::Pending => block_on(ask),
            };
            assert_eq!(reply, Ok(Added { previous: before, last_sequence: before }));
        }
        // A simulation takes longer than that for an answer, and so may any machine now and then.
        assert!(bench.is_simulated() || at_once > 0, "{at_once} of {asks}");
        assert_nothing_is_lost(&gateway);
        assert_eq!(gateway.counts().answered, asks);
    }
}

on_every_backend! {
    fn who_looked_in_vain_is_woken(bench: &Bench) {
        let engine = bench.engine();
        engine.pause().unwrap();
        let gateway = Gateway::builder(&engine).spin(SPIN_MAX).build().unwrap();
        let began = Instant::now();
        let mut ask = gateway.ask(1, Get {});
        assert!(poll_once(&mut ask).is_pending());
        assert!(began.elapsed() >= SPIN_MAX, "it looked");
        std::thread::scope(|scope| {
            // Polled for the first time, and then only when it is woken.
            let waits = scope.spawn(|| block_on(gateway.ask(2, Get {})));
            std::thread::sleep(Duration::from_millis(20));
            engine.resume().unwrap();
            assert_eq!(waits.join().unwrap(), Ok(0));
            assert_eq!(block_on(ask), Ok(0));
        });
        assert_nothing_is_lost(&gateway);
    }
}

on_every_backend! {
    fn tasks_that_spin_give_up_and_share_a_lane_lose_nothing(bench: &Bench) {
        let engine = bench.builder().ring_capacity(16).build().unwrap();
        let gateway = Gateway::builder(&engine).lanes(1).staging(64).spin(Duration::from_micros(20)).build().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        let (tasks, asks) = (32, bench.scale(100, 5));
        let ask_on = |task: u64| {
            let gateway = gateway.clone();
            async move {
                for ask in 0..asks {
                    let reply = gateway.ask(task, Get {});
                    if mixed(task << 32 | ask).is_multiple_of(3) {
                        drop(tokio::time::timeout(Duration::from_micros(mixed(ask) % 100), reply).await);
                    } else {
                        assert_eq!(reply.await, Ok(0));
                    }
                }
            }
        };
        runtime.block_on(async {
            let running: Vec<_> = (0..tasks).map(|task| tokio::spawn(ask_on(task))).collect();
            for task in running {
                task.await.unwrap();
            }
        });
        assert_nothing_is_lost(&gateway);
    }
}

on_every_backend! {
    fn a_gateway_spins_within_bounds(bench: &Bench) {
        let engine = bench.engine();
        for time in [SPIN_MAX + Duration::from_nanos(1), Duration::MAX] {
            let refused = Gateway::builder(&engine).spin(time).build();
            assert!(matches!(refused, Err(EngineError::OutOfBounds { most: 1_000, .. })));
        }
    }
}
