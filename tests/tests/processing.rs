//! How many messages gates take at once, by what the device counted, and that nothing else depends on it.

use std::time::{Duration, Instant};

use tourbillon::actors::Counter as CounterActor;
use tourbillon::actors::counter::{Add, Added, Get};
use tourbillon::actors::echo::{Ping64, Ping352};
use tourbillon::{Counter, Engine, EngineError, GpuGeometry, Processing};
use tourbillon_tests::bench::{client, counters, eventually, mixed};
use tourbillon_tests::{Bench, on_backends, on_every_backend};

/// Longer than any test takes.
const FOR_EVER: Duration = Duration::from_secs(1);
/// Short enough for a lone message, long enough to be told from none.
const A_WHILE: Duration = Duration::from_millis(40);

fn add(sequence: u64) -> Add {
    Add { amount: 1, sender: 0, sequence }
}

/// Frames that gates took, and how often they took some.
fn claimed(engine: &Engine) -> (u64, u64) {
    let counters = counters(engine);
    (counters[Counter::Claimed as usize], counters[Counter::Claims as usize])
}

/// Sends `messages` adds, `KEYS` actors by turns, while the engine is paused, and lets it take them all.
fn take_a_queue(engine: &Engine, messages: u64) -> (u64, u64) {
    let mut client = client(engine);
    let before = claimed(engine);
    engine.pause().unwrap();
    for i in 0..messages {
        client.send(mixed(i % KEYS), add(i / KEYS + 1)).unwrap();
    }
    engine.resume().unwrap();
    client.flush(Duration::from_secs(15)).unwrap();
    assert_eq!((client.counts().tells_done, client.counts().tells_failed), (messages, 0));
    for key in 0..KEYS.min(messages) {
        let sent = messages / KEYS + u64::from(key < messages % KEYS);
        let counter = engine.inspect::<CounterActor>(mixed(key)).unwrap().unwrap().1;
        assert_eq!((counter.value, u64::from(counter.last_sequence[0])), (sent, sent));
    }
    let after = claimed(engine);
    (after.0 - before.0, after.1 - before.1)
}

const KEYS: u64 = 64;

/// In how many claims a warp takes a queue at most when it takes windows. A window of 4 lanes is full after 4 frames, and nearly all
/// are; those of 32 lanes find less than they have room for at the beginning and at the end.
fn most_claims(bench: &Bench, messages: u64) -> u64 {
    if bench.is_narrow() { messages * 3 / 10 } else { messages / 4 }
}

on_every_backend! {
    fn continuous_takes_one_at_a_time(bench: &Bench) {
        let messages = bench.scale(900, 200);
        let engine = bench.builder().processing(Processing::Continuous).build().unwrap();
        assert_eq!(take_a_queue(&engine, messages), (messages, messages));
    }
}

// A CPU thread is a warp of one lane, and a warp takes a frame a lane at most.
on_backends! {
    [simt_4, simt_32, simt_32_hostile, gpu]
    fn batch_and_adaptive_take_windows(bench: &Bench) {
        let messages = bench.scale(900, 200);
        for processing in [Processing::batch(), Processing::Adaptive] {
            let engine = bench.builder().processing(processing).build().unwrap();
            let (frames, claims) = take_a_queue(&engine, messages);
            assert_eq!(frames, messages);
            assert!(claims <= most_claims(bench, messages), "{processing}: {messages} messages were taken in {claims} claims");
        }
    }
}

on_backends! {
    [simt_4, simt_32, simt_32_hostile, gpu]
    fn warps_that_poll_one_lane_do_not_take_it_from_each_other(bench: &Bench) {
        // A control warp and three more, of which two poll the lane.
        let geometry = GpuGeometry { gates: 1, warps_per_block: 4, blocks: None };
        let messages = bench.scale(900, 200);
        for processing in [Processing::Adaptive, Processing::batch()] {
            let engine = bench.builder().geometry(geometry).processing(processing).build().unwrap();
            let (frames, claims) = take_a_queue(&engine, messages);
            assert_eq!(frames, messages);
            assert!(claims <= most_claims(bench, messages), "{processing}: {messages} messages were taken in {claims} claims");
        }
    }
}

on_every_backend! {
    fn a_batch_waits_for_a_full_window_or_for_its_time(bench: &Bench) {
        let engine = bench.builder().processing(Processing::Batch { wait: FOR_EVER }).build().unwrap();
        let mut client = client(&engine);
        // Less than any machine's window, and nothing comes behind it.
        let lone = client.pipeline::<Add>().push(1, &add(1)).unwrap();
        assert!(lone);
        std::thread::sleep(A_WHILE);
        assert_eq!(claimed(&engine).0, 0, "it waits for others");
        // More than any machine's window.
        let mut pipeline = client.pipeline::<Add>();
        for sequence in 2..=64 {
            assert!(pipeline.push(1, &add(sequence)).unwrap());
        }
        let began = Instant::now();
        for before in 1..32 {
            assert_eq!(pipeline.pop().unwrap(), Ok(Added { previous: before, last_sequence: before }));
        }
        assert!(began.elapsed() < FOR_EVER, "a full window does not wait");
        // What is left of them is no full window perhaps, and comes when its time is over.
        while pipeline.pop().is_some_and(|reply| reply.is_ok()) {}
        drop(pipeline);
        assert_eq!(client.call(1, Get {}).unwrap(), 64);
    }
}

on_every_backend! {
    /// Also where a warp takes fewer frames than it looks at: what a claim leaves has waited as long.
    fn a_batch_waits_once(bench: &Bench) {
        let wait = Duration::from_millis(400);
        let engine = bench.builder().processing(Processing::Batch { wait }).build().unwrap();
        let mut client = client(&engine);
        let mut pipeline = client.pipeline::<Add>();
        for sequence in 1..=7 {
            assert!(pipeline.push(1, &add(sequence)).unwrap());
        }
        let began = Instant::now();
        for before in 0..7 {
            assert_eq!(pipeline.pop().unwrap(), Ok(Added { previous: before, last_sequence: before }));
        }
        let took = began.elapsed();
        assert!(took < 2 * wait, "{took:?}");
    }
}

on_every_backend! {
    fn continuous_takes_one_at_a_time_also_behind_a_long_frame(bench: &Bench) {
        let engine = bench.builder().processing(Processing::Continuous).build().unwrap();
        let mut client = client(&engine);
        let before = claimed(&engine);
        engine.pause().unwrap();
        for i in 0..40 {
            if i % 5 == 0 {
                client.send(7, Ping352 { words: [i; 88] }).unwrap();
            }
            client.send(7, Ping64 { words: [i; 16] }).unwrap();
            client.send(8, add(u64::from(i) + 1)).unwrap();
        }
        engine.resume().unwrap();
        client.flush(Duration::from_secs(15)).unwrap();
        let after = claimed(&engine);
        assert_eq!((after.0 - before.0, after.1 - before.1), (88, 88));
    }
}

on_every_backend! {
    fn the_way_changes_while_messages_flow(bench: &Bench) {
        let engine = bench.engine();
        assert_eq!(engine.processing(), Processing::Adaptive);
        let rounds = bench.scale(300, 20);
        let ways = [Processing::Continuous, Processing::batch(), Processing::Adaptive];
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let mut client = client(&engine);
                let mut pipeline = client.pipeline::<Add>();
                let (mut sent, mut received) = (0u64, 0u64);
                while received < 64 * rounds {
                    while sent < 64 * rounds && sent - received < 100 && pipeline.push(9, &add(sent + 1)).unwrap() {
                        sent += 1;
                    }
                    let reply = pipeline.pop().unwrap().unwrap();
                    assert_eq!(reply, Added { previous: received, last_sequence: received });
                    received += 1;
                }
            });
            let mut turns = 0;
            while !sender.is_finished() {
                let way = ways[turns % ways.len()];
                engine.set_processing(way).unwrap();
                assert_eq!(engine.processing(), way);
                turns += 1;
            }
            sender.join().unwrap();
        });
        engine.set_processing(Processing::batch()).unwrap();
        engine.pause().unwrap();
        engine.set_processing(Processing::Continuous).unwrap();
        engine.relaunch().unwrap();
        engine.resume().unwrap();
        assert_eq!(take_a_queue(&engine, 100), (100, 100), "a relaunch keeps the way");
        let refused = engine.set_processing(Processing::Batch { wait: Duration::from_secs(2) });
        assert!(matches!(refused, Err(EngineError::OutOfBounds { .. })));
        assert_eq!(engine.processing(), Processing::Continuous);
        engine.stop().unwrap();
        assert!(matches!(engine.set_processing(Processing::Adaptive), Err(EngineError::Stopped { .. })));
    }
}

on_every_backend! {
    fn frames_of_all_sizes_pass_in_every_way(bench: &Bench) {
        for processing in [Processing::Continuous, Processing::Batch { wait: Duration::from_micros(1) }] {
            let engine = bench.builder().ring_capacity(16).processing(processing).build().unwrap();
            let mut clients: Vec<_> = (0..3).map(|_| client(&engine)).collect();
            for round in 0..bench.scale(200, 20) as u32 {
                for (number, client) in clients.iter_mut().enumerate() {
                    let words = std::array::from_fn(|i| round << 16 | (number as u32) << 8 | i as u32);
                    assert_eq!(client.call(mixed(number as u64), Ping352 { words }).unwrap().words, words);
                    client.send(number as u64, add(u64::from(round) + 1)).unwrap();
                }
            }
            for (number, client) in clients.iter_mut().enumerate() {
                client.flush(Duration::from_secs(15)).unwrap();
                assert_eq!(client.call(number as u64, Get {}), Ok(bench.scale(200, 20)));
            }
        }
    }
}

on_every_backend! {
    fn a_message_that_waits_for_others_survives_a_relaunch_and_a_drain(bench: &Bench) {
        let engine = bench.builder().processing(Processing::Batch { wait: A_WHILE }).build().unwrap();
        let mut client = client(&engine);
        client.send(1, add(1)).unwrap();
        engine.relaunch().unwrap();
        eventually("the message", || {
            client.counts().tells_done == 1
        });
        client.send(1, add(2)).unwrap();
        assert!(engine.drain(Duration::from_secs(10)).unwrap().is_complete());
        assert_eq!(engine.inspect::<CounterActor>(1).err().map(|_| ()), Some(()), "a draining engine is not paused");
        engine.stop().unwrap();
        assert_eq!(engine.inspect::<CounterActor>(1).unwrap().unwrap().1.value, 2);
    }
}
