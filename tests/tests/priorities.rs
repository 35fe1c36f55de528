//! Two priorities: what is urgent passes what is not, and keeps its own order.
//!
//! How many ordinary messages come before is not asked where several CPU threads poll the lanes: which of them runs is for the
//! operating system.

use std::time::Duration;

use tourbillon::actors::counter::{Add, Added, Get};
use tourbillon::{Answer, Backpressure, CallError, Client, Counter, Engine, Gateway, Options, SendError};
use tourbillon_tests::bench::{REPLY_TIME_MAX, client, counters};
use tourbillon_tests::futures::{block_on, poll_once, poll_until_ready};
use tourbillon_tests::{Bench, on_backends, on_every_backend};

/// Slots of a ring from a gate to a shard, which urgent messages do not pass.
const SHARD_RING: u64 = 256;
const KEY: u64 = 5;
const URGENT: Options = Options::new().urgent();

fn ordinary(sequence: u64) -> Add {
    Add { amount: 1, sender: 0, sequence }
}

/// Adds nothing, so that what it finds are the ordinary messages before it.
fn urgent(sequence: u64) -> Add {
    Add { amount: 0, sender: 1, sequence }
}

/// Publishes an urgent call to a paused engine, and does not wait for its reply, ...
fn publish_call(client: &mut Client, sequence: u64) {
    client.set_timeout(Some(Duration::from_millis(1)));
    let id = URGENT.message_id(sequence.into());
    assert!(matches!(client.call_with(KEY, urgent(sequence), id), Err(CallError::Timeout { .. })));
    client.set_timeout(Some(REPLY_TIME_MAX));
}

/// ... and asks for it by its id.
fn its_answer(client: &mut Client, sequence: u64) -> Answer<Added> {
    let answer = client.call_with(KEY, urgent(sequence), URGENT.message_id(sequence.into())).unwrap();
    assert!(answer.is_repeated);
    answer
}

/// A paused engine, and a client with a backlog of so many messages to one actor: half in its ring, half staged.
fn backlog(bench: &Bench, messages: u64) -> (Engine, Client) {
    let ring = (messages / 2).next_power_of_two() as u32;
    let engine = bench.builder().ring_capacity(ring).arena_bytes(0).build().unwrap();
    let mut client = client(&engine);
    client.set_backpressure(Backpressure::Reject, messages as u32).unwrap();
    client.urgent_lane().unwrap();
    engine.pause().unwrap();
    for sequence in 1..=messages {
        client.send(KEY, ordinary(sequence)).unwrap();
    }
    (engine, client)
}

/// Most ordinary messages of `messages` that may come before an urgent one. Where there are several gates, one may hear of the end of a
/// pause before the other.
fn most_before(engine: &Engine, messages: u64) -> u64 {
    if engine.geometry().gates == 1 { 3 * SHARD_RING } else { messages / 4 }
}

fn deep(bench: &Bench) -> u64 {
    bench.scale(16_000, 2_000)
}

on_backends! {
    [native_1, simt_4, simt_32, simt_32_hostile, gpu]
    /// Sent last, answered first: before all but what may have gone to the shard.
    fn an_urgent_message_passes_a_backlog(bench: &Bench) {
        let messages = deep(bench);
        let (engine, mut client) = backlog(bench, messages);
        for sequence in 1..=20 {
            client.send_with(KEY, urgent(sequence), URGENT).unwrap();
        }
        publish_call(&mut client, 21);
        engine.resume().unwrap();
        let first = its_answer(&mut client, 21);
        let passed = messages - first.value.previous;
        assert!(first.value.previous <= most_before(&engine, messages), "{} of {messages} came before", first.value.previous);
        assert!(passed >= messages / 2);
        assert_eq!(first.value.last_sequence, 20, "urgent messages keep their order");
        assert_eq!(first.version, first.value.previous + 21);
        client.flush(REPLY_TIME_MAX).unwrap();
        // Nothing was lost, and each priority kept its order.
        let state = engine.inspect::<tourbillon::actors::Counter>(KEY).unwrap().unwrap().1;
        assert_eq!((state.value, state.last_sequence[..2].to_vec()), (messages, vec![messages as u32, 21]));
        let counts = client.counts();
        assert_eq!((counts.sent, counts.tells_done, counts.tells_failed), (messages + 22, messages + 20, 0));
        assert_eq!(counters(&engine)[Counter::Failed as usize], 0);
    }
}

on_backends! {
    [native_1, simt_4, simt_32, simt_32_hostile, gpu]
    /// While a backlog goes on, in rings that are full all the time: every urgent call is answered long before it.
    fn urgent_messages_find_room_in_full_rings(bench: &Bench) {
        let engine = bench.builder().shards(1).ring_capacity(4096).arena_bytes(0).build().unwrap();
        let mut caller = client(&engine);
        caller.urgent_lane().unwrap();
        engine.pause().unwrap();
        let messages = bench.scale(4_000, 800);
        let mut clients: Vec<_> = (0..3).map(|_| client(&engine)).collect();
        for client in &mut clients {
            for sequence in 1..=messages {
                client.send(KEY, ordinary(sequence)).unwrap();
            }
        }
        publish_call(&mut caller, 1);
        engine.resume().unwrap();
        let first = its_answer(&mut caller, 1);
        let total = 3 * messages;
        let before = first.value.previous;
        assert!(before <= most_before(&engine, total), "{before} of {total} came before");
        for client in &mut clients {
            client.flush(REPLY_TIME_MAX).unwrap();
        }
        assert_eq!(client(&engine).call(KEY, Get {}), Ok(total));
    }
}

on_backends! {
    [native_1, simt_4, simt_32, simt_32_hostile, gpu]
    /// A gateway has lanes for urgent messages when it was told so.
    fn a_gateway_has_urgent_lanes(bench: &Bench) {
        let messages = bench.scale(8_000, 1_500);
        let engine = bench.builder().ring_capacity(1024).arena_bytes(0).build().unwrap();
        engine.pause().unwrap();
        let staging = messages as u32;
        let gateway = Gateway::builder(&engine).lanes(1).urgent_lanes(1).staging(staging).build().unwrap();
        assert_eq!(gateway.lanes(), 2);
        let mut tells: Vec<_> = (1..=messages).map(|sequence| gateway.tell(KEY, ordinary(sequence))).collect();
        for tell in &mut tells {
            let _ = poll_once(tell).is_ready();
        }
        let mut ask = gateway.ask_with(KEY, urgent(1), URGENT);
        assert!(poll_once(&mut ask).is_pending());
        engine.resume().unwrap();
        let answer = poll_until_ready(&mut ask).unwrap();
        assert!(answer.value.previous <= most_before(&engine, messages), "{} of {messages} came before", answer.value.previous);
        for tell in &mut tells {
            // Some were ready at once.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| poll_until_ready(tell)));
        }
        assert_eq!(block_on(gateway.ask(KEY, Get {})), Ok(messages));
        gateway.shutdown();
    }
}

on_every_backend! {
    /// Without a lane for them urgent messages are refused, and nothing is sent.
    fn urgent_messages_need_a_lane(bench: &Bench) {
        let engine = bench.builder().lanes(2).build().unwrap();
        let mut first = client(&engine);
        let gateway = Gateway::builder(&engine).lanes(1).build().unwrap();
        let refused = first.call_with(1, Get {}, URGENT);
        assert_eq!(refused, Err(CallError::NoUrgentLane { lanes: 2 }));
        assert_eq!(first.send_with(1, Get {}, URGENT), Err(SendError::NoUrgentLane { lanes: 2 }));
        assert_eq!(block_on(gateway.ask_with(1, Get {}, URGENT)), Err(CallError::NoUrgentLane { lanes: 2 }));
        assert_eq!(first.call(1, Get {}), Ok(0));
        gateway.shutdown();
        drop(gateway);
        // Now there is one; it comes back with the client.
        let answer = first.call_with(1, Get {}, URGENT.correlation(3)).unwrap();
        assert_eq!((answer.value, answer.version, answer.correlation), (0, 2, 3));
        assert!(engine.client().is_err());
        let lane = first.urgent_lane().unwrap().number();
        assert_ne!(lane, first.lane().number());
        drop(first);
        let _both = (client(&engine), client(&engine));
    }
}
