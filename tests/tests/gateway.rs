//! The gateway: what it answers, what it loses (nothing), and how it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as Task, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tourbillon::actors::Counter as CounterActor;
use tourbillon::actors::counter::{Add, CounterError, Get};
use tourbillon::actors::echo::{Ping16, Ping352};
use tourbillon::actors::faulty::{Fault, Trigger};
use tourbillon::{
    Ask, Backpressure, CallError, Context, Counter, EngineError, Gateway, Handler, KeyedMessage, NoError, Plain,
    SendError, State, actor, system,
};
use tourbillon_tests::bench::{client, counted, eventually, mixed};
use tourbillon_tests::futures::{assert_nothing_is_lost, block_on, paused, poll_once, poll_until_ready, touch};
use tourbillon_tests::{Bench, on_backends, on_every_backend};

/// Far shorter than any pause of these tests.
const SHORT: Duration = Duration::from_millis(3);

fn add(sequence: u64) -> Add {
    Add { amount: 1, sender: 0, sequence }
}

/// Answers more than its impostor expects.
#[repr(C)]
#[derive(Clone, Copy, Debug, State)]
struct Talker {
    asked: u64,
}

/// What a program thinks of the talker that was built from other sources.
#[repr(C)]
#[derive(Clone, Copy, Debug, State)]
struct Impostor {
    asked: u64,
}

macro_rules! messages {
    ($($name:ident: $actor:ident, $payload:ty => $reply:ty;)+) => {
        $(
            #[repr(C)]
            #[derive(Clone, Copy, Debug, Plain)]
            struct $name($payload);

            impl Handler<$name> for $actor {
                type Reply = $reply;

                fn handle(&mut self, _message: &$name, _context: &mut Context) -> Result<$reply, NoError> {
                    self.asked += 1;
                    Ok(bytemuck::Zeroable::zeroed())
                }
            }
        )+
    };
}

messages! {
    TellMuch: Talker, u32 => [u32; 40];
    TellLittle: Talker, u32 => u32;
    TellSome: Talker, u32 => [u32; 4];
    ExpectLittle: Impostor, u32 => u32;
    SendMore: Impostor, u64 => u32;
    ExpectLess: Impostor, u32 => u32;
    SayNothing: Impostor, u32 => u32;
}

actor!(Talker { kind: 500, error: NoError, messages: { 0: TellMuch, 1: TellLittle, 2: TellSome } });
actor!(Impostor { kind: 500, error: NoError, messages: { 0: ExpectLittle, 1: SendMore, 2: ExpectLess, 3: SayNothing } });

system! {
    /// What the engine of these tests serves.
    struct Talking = [Talker, tourbillon::actors::Counter, tourbillon::actors::Faulty];
}

// A system of its own has no text for a GPU.
on_backends! {
    [native_1, native_3, simt_4, simt_32]
    /// Each way in which an ask can end, but those that a typed message cannot provoke.
    fn every_failure_has_its_error(bench: &Bench) {
        let engine = bench.builder_for(Talking::image()).shards(1).actors_per_shard(3).lanes(2).build().unwrap();
        let gateway = engine.gateway().unwrap();
        block_on(async {
            assert_eq!(gateway.ask(1, add(1)).await.unwrap().last_sequence, 0);
            let refused = gateway.ask(1, Add { amount: 1, sender: 14, sequence: 2 }).await;
            assert_eq!(refused, Err(CallError::Handler(CounterError::SenderOutOfRange)));
            let panicked = gateway.ask(1, Trigger { fault: Fault::Panic, argument: 0 }).await;
            assert!(matches!(panicked, Err(CallError::Panicked { line, .. }) if line > 0), "{panicked:?}");
            assert_eq!(gateway.ask(1, Ping16 { words: [1; 4] }).await, Err(CallError::UnknownKind));
            assert_eq!(gateway.ask(1, SayNothing(0)).await, Err(CallError::UnknownMessage));
            assert_eq!(gateway.ask(1, SendMore(0)).await, Err(CallError::InvalidPayload));
            assert_eq!(gateway.ask(1, ExpectLittle(0)).await, Err(CallError::ReplyTooLarge));
            assert_eq!(gateway.ask(1, ExpectLess(0)).await, Err(CallError::InvalidReply));
            assert_eq!(gateway.ask(2, Get {}).await, Err(CallError::DirectoryFull), "three actors are active");
            assert_eq!(gateway.tell(1, Add { amount: 1, sender: 14, sequence: 2 }).await, Ok(()));
        });
        assert_nothing_is_lost(&gateway);
        assert_eq!(gateway.counts().tells_failed, 1);
        engine.pause().unwrap();
        let mut late = gateway.ask(1, Get {}).timeout(Some(SHORT));
        assert!(poll_once(&mut late).is_pending());
        assert_eq!(poll_until_ready(&mut late), Err(CallError::Timeout { after: SHORT }));
        engine.stop().unwrap();
        let refused = block_on(gateway.ask(1, Get {}));
        assert!(matches!(refused, Err(CallError::EngineStopped { .. })), "{refused:?}");
        let refused = block_on(gateway.tell(1, Get {}));
        assert!(matches!(refused, Err(SendError::EngineStopped { .. })), "{refused:?}");
        gateway.shutdown();
        assert_eq!(block_on(gateway.ask(1, Get {})), Err(CallError::GatewayClosed));
        assert_eq!(block_on(gateway.tell(1, Get {})), Err(SendError::GatewayClosed));
    }
}

on_every_backend! {
    fn a_future_that_was_never_polled_has_sent_nothing(bench: &Bench) {
        let engine = bench.engine();
        let gateway = engine.gateway().unwrap();
        drop((gateway.ask(1, add(1)), gateway.tell(1, add(1))));
        assert_nothing_is_lost(&gateway);
        assert_eq!((gateway.counts().sent, gateway.usage().pooled), (0, 0));
    }
}

on_every_backend! {
    fn an_ask_that_is_dropped_while_staged_is_never_executed(bench: &Bench) {
        let (engine, gateway) = paused(bench, 4);
        let mut asks: Vec<Ask<Add>> = (1..=24).map(|sequence| gateway.ask(1, add(sequence))).collect();
        assert!(asks.iter_mut().all(|ask| poll_once(ask).is_pending()));
        let usage = gateway.usage();
        assert_eq!((usage.in_flight, usage.staged, usage.blocked, usage.waiting), (16, 4, 4, 24));
        // Two that are staged, the first of them included, and two that are blocked.
        for index in [23, 21, 18, 16] {
            drop(asks.remove(index));
        }
        let usage = gateway.usage();
        assert_eq!((usage.in_flight, usage.staged, usage.blocked, usage.waiting), (16, 4, 0, 20));
        engine.resume().unwrap();
        let replies: Vec<u64> = asks.iter_mut().map(|ask| poll_until_ready(ask).unwrap().last_sequence).collect();
        assert_eq!(replies[15..], [15, 16, 18, 20, 21], "those after the 16th are the 18th, 20th, 21st and 23rd");
        assert_eq!(engine.inspect::<CounterActor>(1).unwrap().unwrap().1.value, 20);
        assert_nothing_is_lost(&gateway);
        assert_eq!((gateway.counts().sent, gateway.counts().staging.withdrawn), (20, 4));
    }
}

on_every_backend! {
    /// The ring goes round several times while replies of abandoned asks are outstanding: none is taken for another's.
    fn slots_of_an_abandoned_ask_are_used_again_when_its_reply_has_come(bench: &Bench) {
        let (engine, gateway) = paused(bench, 64);
        for round in 0..4u32 {
            let ping = |i: u32| Ping16 { words: [round, i, i * i, 7] };
            let mut asks: Vec<_> = (0..16).map(|i| gateway.ask(u64::from(i), ping(i))).collect();
            assert!(asks.iter_mut().all(|ask| poll_once(ask).is_pending()));
            asks.retain(|_| false);
            assert_eq!((gateway.usage().in_flight, gateway.usage().waiting, gateway.usage().free_slots), (16, 0, 0));
            let mut others: Vec<_> = (100..140).map(|i| gateway.ask(u64::from(i), ping(i))).collect();
            assert!(others.iter_mut().all(|ask| poll_once(ask).is_pending()));
            std::thread::sleep(SHORT);
            assert_eq!((gateway.usage().staged, gateway.usage().free_slots), (40, 0), "no slot is free before its reply");
            engine.resume().unwrap();
            for (i, ask) in (100..).zip(&mut others) {
                assert_eq!(poll_until_ready(ask), Ok(ping(i)));
            }
            assert_nothing_is_lost(&gateway);
            let counts = gateway.counts();
            let rounds = u64::from(round) + 1;
            assert_eq!((counts.sent, counts.abandoned, counts.late), (56 * rounds, 16 * rounds, 16 * rounds));
            engine.pause().unwrap();
        }
    }
}

on_every_backend! {
    fn a_reply_that_nobody_polls_for_holds_no_slot_and_its_place_comes_back(bench: &Bench) {
        let engine = bench.builder().ring_capacity(16).build().unwrap();
        let gateway = Gateway::builder(&engine).lanes(1).build().unwrap();
        let mut asks: Vec<Ask<Add>> = (1..=40).map(|sequence| gateway.ask(1, add(sequence))).collect();
        for ask in &mut asks {
            let _ = poll_once(ask);
        }
        eventually("every reply comes", || gateway.usage().in_flight == 0 && gateway.counts().answered == 40);
        assert_eq!((gateway.usage().free_slots, gateway.usage().staged), (16, 0));
        drop(asks);
        assert_nothing_is_lost(&gateway);
        assert_eq!(gateway.counts().abandoned, 0, "they were answered");
    }
}

on_every_backend! {
    fn a_timeout_in_flight_gives_the_ask_up_and_its_reply_is_thrown_away(bench: &Bench) {
        let (engine, gateway) = paused(bench, 8);
        let mut asks: Vec<Ask<Add>> =
            (1..=20).map(|sequence| gateway.ask(1, add(sequence)).timeout(Some(SHORT))).collect();
        assert!(asks.iter_mut().all(|ask| poll_once(ask).is_pending()));
        for ask in &mut asks {
            assert_eq!(poll_until_ready(ask), Err(CallError::Timeout { after: SHORT }));
        }
        assert_eq!((gateway.counts().abandoned, gateway.counts().staging.withdrawn), (16, 4));
        engine.resume().unwrap();
        assert_eq!(poll_until_ready(&mut gateway.ask(1, Get {})), Ok(16), "what was published was executed");
        assert_nothing_is_lost(&gateway);
    }
}

on_every_backend! {
    /// After a silence the reaper sleeps without a limit: each of these asks has to wake it.
    fn an_ask_after_a_silence_wakes_the_reaper(bench: &Bench) {
        let engine = bench.engine();
        let gateway = engine.gateway().unwrap();
        block_on(async {
            for sequence in 1..=5 {
                tokio::time::sleep(Duration::from_millis(10)).await;
                let began = Instant::now();
                let ask = gateway.ask(sequence % 2, add(sequence)).timeout(None);
                let added = tokio::time::timeout(Duration::from_secs(3), ask).await.expect("the reaper looks");
                assert!(added.is_ok());
                // A task that nobody wakes is polled for the last time when its time is over.
                assert!(began.elapsed() < Duration::from_secs(2), "nobody woke the task");
            }
        });
    }
}

on_every_backend! {
    fn requests_to_one_actor_keep_their_order(bench: &Bench) {
        let engine = bench.builder().ring_capacity(16).build().unwrap();
        let gateway = Gateway::builder(&engine).lanes(2).staging(5).build().unwrap();
        block_on(async {
            for round in 0..bench.scale(100, 10) {
                let mut asks = Vec::new();
                for i in 1..=50 {
                    for key in 0..3 {
                        let mut ask = gateway.ask(key, add(round * 50 + i));
                        let early = touch(&mut ask).await;
                        asks.push((round * 50 + i - 1, ask, early));
                    }
                }
                for (before, ask, early) in asks {
                    let reply = match early {
                        Some(reply) => reply,
                        None => ask.await,
                    };
                    assert_eq!(reply.unwrap().last_sequence, before);
                }
            }
        });
        assert_nothing_is_lost(&gateway);
    }
}

on_every_backend! {
    fn a_small_request_does_not_overtake_a_large_one_that_is_staged(bench: &Bench) {
        let (engine, gateway) = paused(bench, 8);
        let mut small: Vec<Ask<Add>> = (1..=12).map(|sequence| gateway.ask(1, add(sequence))).collect();
        assert!(small.iter_mut().all(|ask| poll_once(ask).is_pending()));
        let message = Ping352 { words: [7; 88] };
        let mut large = gateway.ask(1, message);
        assert!(poll_once(&mut large).is_pending());
        let mut last = gateway.ask(1, add(13));
        assert!(poll_once(&mut last).is_pending());
        let mut tell = gateway.tell(1, add(14));
        assert!(poll_once(&mut tell).is_pending());
        let usage = gateway.usage();
        assert_eq!((usage.in_flight, usage.free_slots, usage.staged), (12, 4, 3));
        engine.resume().unwrap();
        assert_eq!(poll_until_ready(&mut large), Ok(message));
        assert_eq!(poll_until_ready(&mut last).unwrap().last_sequence, 12);
        assert_eq!(poll_until_ready(&mut tell), Ok(()));
        drop(small);
        assert_nothing_is_lost(&gateway);
    }
}

on_every_backend! {
    fn no_task_starves(bench: &Bench) {
        let engine = bench.builder().ring_capacity(16).build().unwrap();
        let gateway = Gateway::builder(&engine).lanes(1).staging(16).build().unwrap();
        let goal = bench.scale(200, 20);
        let done: Arc<Vec<AtomicU64>> = Arc::new((0..100).map(|_| AtomicU64::new(0)).collect());
        block_on(async {
            let (stop, stopped) = tokio::sync::watch::channel(false);
            let stop = Arc::new(stop);
            let tasks: Vec<_> = (0..done.len())
                .map(|task| {
                    let (gateway, done) = (gateway.clone(), Arc::clone(&done));
                    let (stop, stopped) = (Arc::clone(&stop), stopped.clone());
                    tokio::spawn(async move {
                        while !*stopped.borrow() {
                            gateway.ask(task as u64, Get {}).await.unwrap();
                            if done[task].fetch_add(1, Ordering::Relaxed) + 1 == goal {
                                stop.send_replace(true);
                            }
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        // Relaxed: the tasks have ended.
        let least = done.iter().map(|done| done.load(Ordering::Relaxed)).min();
        assert!(least >= Some(goal / 2), "one task made {least:?} asks while another made {goal}");
        assert_nothing_is_lost(&gateway);
    }
}

/// One task of the storm: asks that are awaited, dropped in any state, or given hardly any time; how many were awaited.
async fn storm(gateway: Gateway, task: u64, asks: u64) -> u64 {
    let mut awaited = 0;
    for i in 0..asks {
        let random = mixed(task << 24 | i);
        let key = random % 500;
        let words = [task as u32, i as u32, random as u32, 1];
        if random >> 60 == 0 {
            let message = Ping352 { words: std::array::from_fn(|word| words[word % 4]) };
            assert_eq!(gateway.ask(key, message).await, Ok(message), "task {task}, ask {i}");
            awaited += 1;
            continue;
        }
        let message = Ping16 { words };
        let mut ask = gateway.ask(key, message);
        match random >> 32 & 15 {
            0 => drop(ask),
            1 => drop(touch(&mut ask).await),
            2 | 3 => {
                let mut reply = touch(&mut ask).await;
                for _ in 0..random >> 36 & 7 {
                    if reply.is_none() {
                        tokio::task::yield_now().await;
                        reply = touch(&mut ask).await;
                    }
                }
                assert!(reply.is_none_or(|reply| reply == Ok(message)), "task {task}, ask {i}");
            }
            4 => match ask.timeout(Some(Duration::from_micros(random >> 36 & 1023))).await {
                Ok(reply) => assert_eq!(reply, message, "task {task}, ask {i}"),
                Err(error) => assert!(matches!(error, CallError::Timeout { .. }), "task {task}, ask {i}: {error}"),
            },
            5 => assert_eq!(gateway.tell(key, message).await, Ok(())),
            _ => {
                assert_eq!(ask.await, Ok(message), "task {task}, ask {i}");
                awaited += 1;
            }
        }
    }
    awaited
}

fn weather_the_storm(bench: &Bench, tasks: u64, asks: u64) {
    let engine = bench.builder().ring_capacity(256).build().unwrap();
    let gateway = Gateway::builder(&engine).lanes(2).staging(512).build().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let awaited = runtime.block_on(async {
        let tasks: Vec<_> = (0..tasks).map(|task| tokio::spawn(storm(gateway.clone(), task, asks))).collect();
        let mut awaited = 0;
        for task in tasks {
            awaited += task.await.unwrap();
        }
        awaited
    });
    assert_nothing_is_lost(&gateway);
    let counts = gateway.counts();
    assert!(counts.answered >= awaited && counts.abandoned > 0, "{counts:?}");
    // An engine may be so fast that nothing has to wait.
    assert!(counts.staging.withdrawn > 0 || counts.staging.queued < 1000, "{counts:?}");
    // A task has one request at a time, in either lane; places are made 64 at a time.
    assert!(gateway.usage().pooled <= 2 * (tasks + 64), "places are used again: {:?}", gateway.usage());
    // What was published was executed, each once, and nothing else.
    assert_eq!(counted(&engine, Counter::Processed), counts.sent);
    assert_eq!(counted(&engine, Counter::Failed), 0);
}

on_backends! {
    [native_1, gpu]
    fn a_million_asks_with_random_cancellation_lose_nothing(bench: &Bench) {
        weather_the_storm(bench, 10_000, 100);
    }
}

on_backends! {
    [native_3, simt_4, simt_32, simt_32_hostile]
    fn asks_with_random_cancellation_lose_nothing(bench: &Bench) {
        weather_the_storm(bench, bench.scale(2_000, 1_500), bench.scale(50, 5));
    }
}

on_every_backend! {
    fn more_than_may_wait_are_refused(bench: &Bench) {
        let engine = bench.builder().ring_capacity(16).build().unwrap();
        engine.pause().unwrap();
        let gateway = Gateway::builder(&engine).lanes(1).staging(1).waiting(70).build().unwrap();
        let mut asks: Vec<Ask<Add>> = (1..=72).map(|sequence| gateway.ask(1, add(sequence))).collect();
        let refused: Vec<_> = asks.iter_mut().map(poll_once).filter(Poll::is_ready).collect();
        assert_eq!(refused, [const { Poll::Ready(Err(CallError::TooManyWaiting { limit: 70 })) }; 2]);
        assert_eq!(gateway.counts().too_many, 2);
        engine.resume().unwrap();
        for ask in &mut asks[..70] {
            assert!(poll_until_ready(ask).is_ok());
        }
        assert_nothing_is_lost(&gateway);
    }
}

on_every_backend! {
    fn it_is_a_service(bench: &Bench) {
        use tower_service::Service;
        let engine = bench.engine();
        let mut gateway = engine.gateway().unwrap();
        block_on(async {
            let ready = std::future::poll_fn(|context| Service::<KeyedMessage<Add>>::poll_ready(&mut gateway, context));
            assert_eq!(ready.await, Ok(()));
            let reply = tokio::spawn(gateway.call(KeyedMessage { key: 3, message: add(1) })).await.unwrap();
            assert_eq!(reply.unwrap().last_sequence, 0);
        });
        gateway.shutdown();
        let context = &mut Task::from_waker(Waker::noop());
        let ready = Service::<KeyedMessage<Add>>::poll_ready(&mut gateway, context);
        assert_eq!(ready, Poll::Ready(Err(CallError::GatewayClosed)));
    }
}

/// A waker as no runtime has it.
struct Furious;

impl Wake for Furious {
    fn wake(self: Arc<Self>) {
        panic!("woken");
    }
}

on_backends! {
    [native_1]
    fn a_waker_that_panics_harms_nobody_else(bench: &Bench) {
        let (engine, gateway) = paused(bench, 8);
        let mut first = gateway.ask(1, add(1));
        let waker = Waker::from(Arc::new(Furious));
        assert!(Pin::new(&mut first).poll(&mut Task::from_waker(&waker)).is_pending());
        let mut second = gateway.ask(1, add(2));
        assert!(poll_once(&mut second).is_pending());
        engine.resume().unwrap();
        assert_eq!(poll_until_ready(&mut second).unwrap().last_sequence, 1);
        assert_eq!(poll_until_ready(&mut first).unwrap().last_sequence, 0);
        assert_eq!(poll_until_ready(&mut gateway.ask(1, Get {})), Ok(2));
    }
}

on_backends! {
    [native_1]
    fn a_gateway_takes_the_lanes_that_are_free(bench: &Bench) {
        let engine = bench.builder().lanes(16).build().unwrap();
        let first = engine.gateway().unwrap();
        let clients: Vec<_> = (0..10).map(|_| client(&engine)).collect();
        let second = engine.gateway().unwrap();
        assert_eq!((first.lanes(), second.lanes(), clients.len()), (4, 2, 10));
        let strategy = Backpressure::Reject;
        let refused = Gateway::builder(&engine).backpressure(strategy).build();
        assert!(matches!(refused, Err(EngineError::NoFreeLane { held: 16, .. })), "{refused:?}");
    }
}
