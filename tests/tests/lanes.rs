//! Lanes: order, rings that are full, frames over a ring's end, laps over their last number, clients and engines that go in any
//! order.

use std::time::Duration;

use tourbillon::actors::Counter as CounterActor;
use tourbillon::actors::counter::{Add, Get};
use tourbillon::actors::echo::{Ping16, Ping64, Ping352};
use tourbillon::{CallError, Client, Counter, EngineError, SendError};
use tourbillon_tests::bench::{client, counted, eventually, mixed};
use tourbillon_tests::on_every_backend;

fn add(sequence: u64) -> Add {
    Add { amount: 1, sender: 0, sequence }
}

fn words<const N: usize>(seed: u64) -> [u32; N] {
    std::array::from_fn(|i| mixed(seed << 8 | i as u64) as u32)
}

/// Pings of all three sizes, so that the large one begins at every offset of the ring in turn.
fn ping(client: &mut Client, round: u64) {
    let large = Ping352 { words: words(round) };
    assert_eq!(client.call(mixed(round), large), Ok(large), "round {round}");
    let small = Ping16 { words: words(round) };
    assert_eq!(client.call(round % 3, small), Ok(small), "round {round}");
    let middle = Ping64 { words: words(round) };
    assert_eq!(client.call(round % 5, middle), Ok(middle), "round {round}");
}

on_every_backend! {
    fn frames_lie_over_the_end_of_the_smallest_ring_and_the_last_lap(bench: &Bench) {
        for first_lap in [1, u32::MAX - 2, u32::MAX] {
            let engine = bench.builder().ring_capacity(16).shards(2).lanes(1).first_lap(first_lap).build().unwrap();
            let mut client = client(&engine);
            let rounds = bench.scale(100, 24);
            for round in 0..rounds {
                ping(&mut client, round);
                if round % 20 == 10 {
                    engine.relaunch().unwrap();
                }
            }
            assert_eq!(counted(&engine, Counter::Processed), 3 * rounds);
            assert_eq!(counted(&engine, Counter::Malformed), 0);
        }
    }
}

on_every_backend! {
    fn many_large_frames_in_flight_keep_their_contents(bench: &Bench) {
        let engine = bench.builder().ring_capacity(64).first_lap(u32::MAX - 1).build().unwrap();
        let mut client = client(&engine);
        // The ring's length is no multiple of nine, so a slot between the rounds moves every frame.
        for round in 0..bench.scale(60, 12) {
            let messages: Vec<_> = (0..40).map(|i| (i % 6, Ping352 { words: words(round << 8 | i) })).collect();
            let replies = client.call_many(messages.iter().copied());
            assert_eq!(replies.len(), messages.len());
            for ((_, sent), got) in messages.into_iter().zip(replies) {
                assert_eq!(got, Ok(sent));
            }
            let small = Ping16 { words: words(round) };
            assert_eq!(client.call(1, small), Ok(small));
        }
    }
}

on_every_backend! {
    fn a_client_that_does_not_read_stops_nobody_else(bench: &Bench) {
        let engine = bench.builder().ring_capacity(64).shards(1).lanes(2).build().unwrap();
        let mut deaf = client(&engine);
        let mut pipeline = deaf.pipeline();
        let mut unread = 0;
        while pipeline.push(1, &add(unread + 1)).unwrap() {
            unread += 1;
        }
        assert_eq!(unread, 64);
        let mut reader = client(&engine);
        let calls = bench.scale(5_000, 300);
        for sequence in 1..=calls {
            // The same shard, and the same actor.
            let added = reader.call(1, Add { amount: 0, sender: 1, sequence }).unwrap();
            assert_eq!(added.last_sequence, sequence - 1);
        }
        assert!(!pipeline.push(1, &add(unread + 1)).unwrap(), "its ring is still full");
        assert_eq!(counted(&engine, Counter::Processed), unread + calls);
        for sequence in 1..=unread {
            assert_eq!(pipeline.pop().unwrap().unwrap().last_sequence, sequence - 1, "every reply was kept");
        }
        assert!(pipeline.push(1, &add(unread + 1)).unwrap());
        assert_eq!(pipeline.pop().unwrap().unwrap().previous, unread);
    }
}

on_every_backend! {
    /// Half a frame at the head of a lane is looked at again and again: every other lane must still have its turn.
    fn clients_that_died_in_the_middle_of_a_frame_stop_nobody(bench: &Bench) {
        let engine = bench.builder().lanes(6).build().unwrap();
        let mut clients: Vec<_> = (0..6).map(|_| client(&engine)).collect();
        let mut half = [0; 12];
        half[..8].copy_from_slice(&tourbillon_tests::raw::header_of::<Ping352>(1).encode());
        let mut calls = 0;
        while clients.len() > 1 {
            clients.remove(0).publish_slots(&[half, half]).unwrap();
            for (key, client) in (10..).zip(&mut clients) {
                for _ in 0..bench.scale(50, 5) {
                    client.call(key, Get {}).unwrap();
                    calls += 1;
                }
            }
        }
        assert_eq!(counted(&engine, Counter::Processed), calls);
    }
}

on_every_backend! {
    /// Each client's messages reach each actor in the order in which they were published, whatever other clients and keys do.
    fn order_holds_for_each_lane_and_key(bench: &Bench) {
        let engine = bench.builder().ring_capacity(64).batch_limit(u32::MAX).build().unwrap();
        let (clients, keys, rounds) = (5, 9, bench.scale(2_000, 60));
        std::thread::scope(|scope| {
            for sender in 0..clients {
                let mut client = client(&engine);
                scope.spawn(move || {
                    let messages = (0..rounds * keys)
                        .map(|i| (i % keys, Add { amount: 1, sender, sequence: i / keys + 1 }));
                    for (i, reply) in client.call_many(messages).into_iter().enumerate() {
                        assert_eq!(reply.unwrap().last_sequence, i as u64 / keys, "client {sender}");
                    }
                });
            }
        });
        for key in 0..keys {
            let (_, state) = engine.inspect::<CounterActor>(key).unwrap().unwrap();
            assert_eq!(state.value, u64::from(clients) * rounds);
            assert_eq!(state.last_sequence[..clients as usize], [rounds as u32; 5]);
        }
    }
}

on_every_backend! {
    /// What gathered in a pause comes all at once: a warp then finds the rings of several shards filled in one look.
    fn bursts_for_several_shards_are_told_apart(bench: &Bench) {
        let engine = bench.builder().shards(16).ring_capacity(256).build().unwrap();
        let mut client = client(&engine);
        let keys = 24;
        for round in 0..bench.scale(200, 25) {
            engine.pause().unwrap();
            let mut pipeline = client.pipeline();
            for i in 0..4 * keys {
                let add = Add { amount: 1, sender: 0, sequence: round * 4 + i / keys + 1 };
                assert!(pipeline.push(mixed(i % keys), &add).unwrap());
            }
            engine.resume().unwrap();
            for i in 0..4 * keys {
                let added = pipeline.pop().unwrap().unwrap();
                let before = round * 4 + i / keys;
                assert_eq!((added.previous, added.last_sequence), (before, before), "round {round}, message {i}");
            }
        }
    }
}

on_every_backend! {
    fn a_client_may_outlive_its_engine(bench: &Bench) {
        let engine = bench.engine();
        let mut client = client(&engine);
        client.call(1, add(1)).unwrap();
        drop(engine);
        assert!(matches!(client.call(1, Get {}), Err(CallError::EngineStopped { .. })));
        assert!(matches!(client.send(1, add(2)), Err(SendError::EngineStopped { .. })));
        assert!(client.flush(Duration::from_secs(1)).is_ok(), "nothing is outstanding");
        assert!(client.call_many([(1, Get {}), (2, Get {})]).iter().all(Result::is_err));
    }
}

on_every_backend! {
    fn an_engine_may_go_with_requests_in_flight(bench: &Bench) {
        for paused in [false, true] {
            let engine = bench.engine();
            let mut client = client(&engine);
            if paused {
                engine.pause().unwrap();
            }
            let mut pipeline = client.pipeline();
            for sequence in 1..=50 {
                assert!(pipeline.push(1, &add(sequence)).unwrap());
            }
            drop(engine);
            let replies: Vec<_> = std::iter::from_fn(|| pipeline.pop()).collect();
            assert_eq!(replies.len(), 50, "each ends, one way or the other");
            let answered = replies.iter().take_while(|reply| reply.is_ok()).count();
            assert!(replies[answered..].iter().all(|reply| matches!(reply, Err(CallError::EngineStopped { .. }))));
            assert!(!paused || answered == 0);
        }
    }
}

on_every_backend! {
    fn a_lane_is_used_again_when_the_requests_of_its_last_client_are_answered(bench: &Bench) {
        let engine = bench.builder().lanes(1).ring_capacity(64).build().unwrap();
        let rounds = bench.scale(30, 6);
        for round in 0..rounds {
            engine.pause().unwrap();
            let mut first = client(&engine);
            let mut pipeline = first.pipeline();
            for i in 1..=40 {
                assert!(pipeline.push(1, &add(round * 40 + i)).unwrap());
            }
            drop(pipeline);
            drop(first);
            let refused = engine.client();
            assert!(matches!(refused, Err(EngineError::NoFreeLane { lanes: 1, held: 0, waiting: 1 })), "{refused:?}");
            engine.resume().unwrap();
            let mut second = None;
            eventually("the lane is free", || {
                second = engine.client().ok();
                second.is_some()
            });
            let mut second = second.unwrap();
            assert_eq!(second.call(1, Get {}), Ok((round + 1) * 40), "all of them were executed, and no reply is mistaken");
        }
        assert_eq!(counted(&engine, Counter::Processed), rounds * 41);
    }
}

on_every_backend! {
    fn clients_and_engines_go_in_any_order(bench: &Bench) {
        for order in 0..6 {
            let mut engines = [Some(bench.engine())];
            let mut clients = [0, 1].map(|_| Some(client(engines[0].as_ref().unwrap())));
            for client in clients.iter_mut().flatten() {
                client.send(1, add(1)).unwrap();
            }
            for place in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]][order] {
                match place {
                    0 => engines = [None],
                    client => clients[client - 1] = None,
                }
            }
            assert!(engines[0].is_none() && clients.iter().all(Option::is_none));
        }
    }
}

on_every_backend! {
    fn tells_are_executed_and_acknowledged(bench: &Bench) {
        let engine = bench.builder().ring_capacity(64).build().unwrap();
        let mut client = client(&engine);
        let tells = bench.scale(5_000, 400);
        for sequence in 1..=tells {
            client.send(4, add(sequence)).unwrap();
        }
        // One that the actor refuses.
        client.send(4, Add { amount: 1, sender: 99, sequence: 1 }).unwrap();
        client.flush(Duration::from_secs(20)).unwrap();
        let counts = client.counts();
        assert_eq!((counts.tells_done, counts.tells_failed, counts.sent), (tells, 1, tells + 1));
        let (_, state) = engine.inspect::<CounterActor>(4).unwrap().unwrap();
        assert_eq!((state.value, u64::from(state.last_sequence[0])), (tells, tells));
    }
}
