//! A handler's failure is a reply and a counter: the actor keeps its state, and everybody else is served.

use std::sync::atomic::{AtomicBool, Ordering};

use tourbillon::actors::Faulty;
use tourbillon::actors::counter::Add;
use tourbillon::actors::faulty::{Fault, FaultyError, Trigger};
use tourbillon::{CallError, Counter, Engine};
use tourbillon_tests::bench::{client, counters, mixed};
use tourbillon_tests::on_every_backend;

const PLAN: [Fault; 6] = [Fault::Index, Fault::Nothing, Fault::Divide, Fault::Overflow, Fault::Error, Fault::Panic];
const KEYS: u64 = 8;
/// Actors of the test of damaged warps: so many that each of its shards has some.
const ACTORS: u64 = 16;
/// Longest wait for a reply there: far more than any takes, and less than it would take until lost lanes come back.
const LOOK_ROUND: std::time::Duration = std::time::Duration::from_secs(5);

#[derive(Debug, Default)]
struct Told {
    panicked: u64,
    refused: u64,
    handled: [u64; KEYS as usize],
}

/// Message number `number`: its actor, and how it fails.
fn trigger(number: u64) -> (u64, Trigger) {
    let fault = PLAN[(mixed(number) % PLAN.len() as u64) as usize];
    (number % KEYS, Trigger { fault, argument: number as u32 })
}

fn check(number: u64, reply: Result<u64, CallError<FaultyError>>, told: &mut Told) {
    let (key, Trigger { fault, argument }) = trigger(number);
    match (fault, reply) {
        (Fault::Nothing, Ok(handled)) => {
            told.handled[key as usize] += 1;
            assert_eq!(handled, told.handled[key as usize], "message {number}: a failure left its trace");
        }
        (Fault::Error, Err(CallError::Handler(error))) => {
            told.refused += 1;
            assert_eq!(error, FaultyError { argument });
        }
        (
            Fault::Index | Fault::Divide | Fault::Overflow | Fault::Panic,
            Err(CallError::Panicked { actor, key: named, message, line, column, file_hash, .. }),
        ) => {
            told.panicked += 1;
            assert_eq!((actor, named), ("Faulty", key), "message {number}");
            assert!(message.ends_with("::Trigger"), "message {number}: {message}");
            assert!(line > 0 && column > 0 && file_hash != 0, "message {number}: {fault:?} at {line}:{column}");
        }
        (fault, reply) => panic!("message {number}: {fault:?} was answered with {reply:?}"),
    }
}

fn fail(engine: &Engine, messages: u64) -> Told {
    let mut client = client(engine);
    let mut pipeline = client.pipeline();
    let mut told = Told::default();
    let (mut sent, mut answered) = (0, 0);
    while answered < messages {
        while sent < messages {
            let (key, trigger) = trigger(sent);
            if !pipeline.push(key, &trigger).unwrap() {
                break;
            }
            sent += 1;
        }
        let mut reply = pipeline.pop();
        while let Some(got) = reply {
            check(answered, got, &mut told);
            answered += 1;
            reply = pipeline.try_pop();
        }
    }
    told
}

on_every_backend! {
    fn faults_are_answered_while_other_keys_are_served(bench: &Bench) {
        let engine = bench.engine();
        // One in six does not fail: that leaves ten thousand and more.
        let messages = bench.scale(12_500, 360);
        let failing = AtomicBool::new(true);
        let (told, served) = std::thread::scope(|scope| {
            let others = scope.spawn(|| {
                let mut client = client(&engine);
                let mut sequence = 0;
                // Relaxed: nothing is read on the strength of it.
                while failing.load(Ordering::Relaxed) || sequence == 0 {
                    sequence += 1;
                    let added = client.call(77, Add { amount: 2, sender: 1, sequence }).unwrap();
                    assert_eq!((added.previous, added.last_sequence), (2 * (sequence - 1), sequence - 1));
                }
                sequence
            });
            let told = scope.spawn(|| fail(&engine, messages)).join();
            failing.store(false, Ordering::Relaxed);
            (told.unwrap(), others.join().unwrap())
        });
        let counters = counters(&engine);
        assert_eq!(counters[Counter::Panicked as usize], told.panicked);
        assert_eq!(counters[Counter::Failed as usize], told.panicked + told.refused);
        assert_eq!(counters[Counter::Processed as usize], messages + served);
        assert!(told.panicked + told.refused >= bench.scale(10_000, 250));
        for key in 0..KEYS {
            let (_, state) = engine.inspect::<Faulty>(key).unwrap().unwrap();
            let handled = told.handled[key as usize];
            assert_eq!(state, Faulty { handled, scratch: 0, table: [0; 4] }, "actor {key}");
        }
        if bench.loses_lanes() {
            assert!(counters[Counter::LanesLost as usize] > 0);
            assert!(engine.launches() > 1, "lost lanes come back by a relaunch");
        } else {
            assert_eq!(engine.launches(), 1);
        }
        assert_eq!(client(&engine).call(77, Add { amount: 0, sender: 2, sequence: 1 }).unwrap().previous, 2 * served);
    }
}

on_every_backend! {
    /// Nothing but faults, all on one actor.
    fn an_actor_that_only_panics_stays_as_it_was(bench: &Bench) {
        let engine = bench.engine();
        let mut client = client(&engine);
        let faults = [Fault::Index, Fault::Divide, Fault::Overflow, Fault::Panic];
        assert_eq!(client.call(3, Trigger { fault: Fault::Nothing, argument: 0 }), Ok(1));
        let count = bench.scale(400, 40);
        let messages = (0..count).map(|i| (3, Trigger { fault: faults[i as usize % 4], argument: 0 }));
        let mut lines = std::collections::BTreeSet::new();
        for reply in client.call_many(messages) {
            match reply {
                Err(CallError::Panicked { line, .. }) => lines.insert(line),
                other => panic!("{other:?}"),
            };
        }
        assert_eq!(lines.len(), faults.len(), "each panic names its own line: {lines:?}");
        assert_eq!(client.call(3, Trigger { fault: Fault::Nothing, argument: 0 }), Ok(2));
        let (_, state) = engine.inspect::<Faulty>(3).unwrap().unwrap();
        assert_eq!(state, Faulty { handled: 2, scratch: 0, table: [0; 4] });
        assert_eq!(counters(&engine)[Counter::Panicked as usize], count);
    }
}

on_every_backend! {
    /// Warps that have looked round before they lose a lane see every ring afterwards, and nothing mixed.
    fn warps_that_lost_a_lane_serve_all_their_rings(bench: &Bench) {
        // Few actors on few shards, but every ring in use: a client for each gate.
        let engine = bench.builder().shards(4).build().unwrap();
        let mut clients: Vec<_> = (0..4).map(|_| client(&engine)).collect();
        for client in &mut clients {
            client.set_timeout(Some(LOOK_ROUND));
        }
        std::thread::sleep(std::time::Duration::from_millis(bench.scale(100, 400)));
        let mut handled = [0; ACTORS as usize];
        // In every round one panic a client: after a few, every warp has lost a lane, and none enough to leave.
        for round in 0..8u64 {
            for (number, client) in clients.iter_mut().enumerate() {
                let panicking = mixed(round * 4 + number as u64) % ACTORS;
                let reply = client.call(panicking, Trigger { fault: Fault::Panic, argument: 0 });
                assert!(matches!(reply, Err(CallError::Panicked { .. })), "round {round}: {reply:?}");
                for key in 0..ACTORS {
                    handled[key as usize] += 1;
                    let reply = client.call(key, Trigger { fault: Fault::Nothing, argument: 0 });
                    assert_eq!(reply, Ok(handled[key as usize]), "round {round}, client {number}, actor {key}");
                }
            }
        }
        assert_eq!(counters(&engine)[Counter::Panicked as usize], 8 * 4);
    }
}
