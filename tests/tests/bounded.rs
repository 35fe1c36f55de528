//! Short runs through everything that touches the device's memory, for a memory checker that slows a kernel down fifty times.
//! It is run on the tests whose names begin with `bounded_`.

use std::time::Duration;

use tourbillon::abi::arena::ArenaRef;
use tourbillon::abi::error::FailureCode;
use tourbillon::actors::Counter as CounterActor;
use tourbillon::actors::blob::{Byte, Cut, Make, Mirror};
use tourbillon::actors::counter::{Add, Get};
use tourbillon::actors::echo::{Ping16, Ping64, Ping352};
use tourbillon::actors::faulty::{Fault, Trigger};
use tourbillon::{CallError, Client, Counter, Engine};
use tourbillon_tests::bench::counters;
use tourbillon_tests::raw::exchange_reference;
use tourbillon_tests::{Bench, on_backends};

/// Longer than anywhere else: the checker's own time comes on top.
const REPLY_TIME_MAX: Duration = Duration::from_secs(40);

/// A small engine, as quick to check as one can be, and a client.
fn small(bench: &Bench) -> (Engine, Client) {
    let engine = bench.builder().shards(8).lanes(2).ring_capacity(64).actors_per_shard(32).build().unwrap();
    let mut client = engine.client().unwrap();
    client.set_timeout(Some(REPLY_TIME_MAX));
    (engine, client)
}

on_backends! {
    [native_1, simt_32]
    fn frames_of_all_sizes(bench: &Bench) {
        exchange_frames(bench);
    }
}

on_backends! {
    [gpu]
    fn bounded_frames_of_all_sizes(bench: &Bench) {
        exchange_frames(bench);
    }
}

on_backends! {
    [native_1, simt_32]
    fn faults_full_directories_and_relaunches(bench: &Bench) {
        fail_fill_and_relaunch(bench);
    }
}

on_backends! {
    [gpu]
    fn bounded_faults_full_directories_and_relaunches(bench: &Bench) {
        fail_fill_and_relaunch(bench);
    }
}

on_backends! {
    [native_1, simt_32]
    fn payloads_and_hostile_references(bench: &Bench) {
        exchange_payloads(bench);
    }
}

on_backends! {
    [gpu]
    fn bounded_payloads_and_hostile_references(bench: &Bench) {
        exchange_payloads(bench);
    }
}

fn exchange_payloads(bench: &Bench) {
    let engine = bench.builder().shards(2).lanes(1).actors_per_shard(32).arena_bytes(16 << 10).build().unwrap();
    let mut client = engine.client().unwrap();
    client.set_timeout(Some(REPLY_TIME_MAX));
    let payload: Vec<u8> = (0..16_256u32).map(|i| (i * 31) as u8).collect();
    for length in [0, 1, 17, 4_000, payload.len()] {
        let part = &payload[..length];
        let (_, reply) = client.call_large(length as u64, Mirror { word: 0 }, part, length).unwrap();
        assert!(reply == part, "{length} bytes");
        let cut = Cut { first: length as u32 / 3, bytes: length as u32 / 2 };
        let (_, reply) = client.call_large(length as u64, cut, part, length).unwrap();
        assert!(reply == part[length / 3..length / 3 + length / 2], "{length} bytes");
        let make = Make { bytes: 16_256 - length as u32, seed: 3 };
        assert_eq!(client.call_large(length as u64, make, part, 16_256).unwrap().1.len(), 16_256 - length);
    }
    let panicked = client.call_large(1, Byte { index: 10 }, &payload[..10], 10);
    assert!(matches!(panicked, Err(CallError::Panicked { .. })), "{panicked:?}");
    for offset in [16 << 10, 1 << 31, u32::MAX - 127] {
        for length in [0, 1, 128, u32::MAX] {
            let reference = ArenaRef { offset, length, room: length, ticket: 1 };
            let (failure, _) = exchange_reference(&mut client, 1, &Mirror { word: 0 }, reference);
            assert_eq!(failure, Some(FailureCode::ArenaOutOfBounds), "{reference:?}");
        }
    }
    assert!(engine.drain(REPLY_TIME_MAX).unwrap().is_complete());
}

fn exchange_frames(bench: &Bench) {
    let (engine, mut client) = small(bench);
    for round in 0..60u32 {
        let (small, middle, large) =
            (Ping16 { words: [round; 4] }, Ping64 { words: [round; 16] }, Ping352 { words: [round; 88] });
        assert_eq!(client.call(u64::from(round), small), Ok(small));
        assert_eq!(client.call(u64::from(round), middle), Ok(middle));
        assert_eq!(client.call(u64::from(round), large), Ok(large));
    }
    assert_eq!(counters(&engine)[Counter::Processed as usize], 180);
}

fn fail_fill_and_relaunch(bench: &Bench) {
    let (engine, mut client) = small(bench);
    let faults = [Fault::Index, Fault::Divide, Fault::Overflow, Fault::Panic];
    let triggers = (0..24).map(|i| (i % 3, Trigger { fault: faults[i as usize % 4], argument: 0 }));
    for reply in client.call_many(triggers) {
        assert!(matches!(reply, Err(CallError::Panicked { line, .. }) if line > 0), "{reply:?}");
    }
    // Eight shards of 32 actors.
    let replies = client.call_many((0..400).map(|key| (key, Get {})));
    let full = replies.iter().filter(|reply| **reply == Err(CallError::DirectoryFull)).count();
    assert!(full >= 400 - 8 * 32, "{full}");
    for round in 1..=3 {
        client.call(0, Add { amount: 1, sender: 0, sequence: round }).unwrap();
        engine.relaunch().unwrap();
    }
    assert_eq!(engine.inspect::<CounterActor>(0).unwrap().unwrap().1.value, 3);
    assert!(engine.drain(REPLY_TIME_MAX).unwrap().is_complete());
}
