//! Messages that actors send without being asked: the outboxes of lanes.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tourbillon::abi::outbox::{GENERATION_MAX, NOTICES_MAX};
use tourbillon::actors::counter::Add;
use tourbillon::actors::herald::{
    Announce, Bulletin, Ending, News, Provoke, Publish, Refused, SUBSCRIBERS_MAX, Subscribe, Unsubscribe,
};
use tourbillon::actors::{Counter as Counting, Herald};
use tourbillon::{
    Actor, CallError, Client, Context, Counter, EngineError, Handler, Notice, Outbox, OutboxError, OutboxPolicy, Plain,
    State, Subscriber, actor, system,
};
use tourbillon_tests::bench::{REPLY_TIME_MAX, client, counted, counters, eventually, mixed};
use tourbillon_tests::outbox::{herald, news, next, subscribed};
use tourbillon_tests::{on_backends, on_every_backend};

on_every_backend! {
    /// A subscriber that never reads and loses what it has no room for: exactly that is counted, and other keys go on being
    /// served meanwhile.
    fn a_subscriber_that_never_reads_costs_counted_drops(bench: &Bench) {
        let capacity = 32;
        let engine = bench.builder().outbox_capacity(capacity).build().unwrap();
        let (mut client, mut outbox) = subscribed(&engine, OutboxPolicy::Drop, &[1]);
        let messages = bench.scale(1_000, 100);
        for word in 0..messages {
            assert_eq!(client.call(1, Announce { word }).unwrap().announced, word + 1);
            client.call(2, Add { amount: 1, sender: 0, sequence: word + 1 }).unwrap();
        }
        let room = u64::from(capacity);
        let totals = counters(&engine);
        assert_eq!(totals[Counter::Notices as usize], room);
        assert_eq!(totals[Counter::NoticesDropped as usize], messages - room);
        assert_eq!(totals[Counter::Failed as usize], 0);
        eventually("the counts are told", || outbox.counts().dropped == messages - room);
        let counts = outbox.counts();
        assert_eq!((counts.posted, counts.refused, counts.strayed, counts.received), (room, 0, 0, 0));
        // What there was room for is whole, in order; then there is room again.
        for sequence in 1..=room {
            assert_eq!(news(&next(&mut outbox)), News { word: sequence - 1, sequence });
        }
        assert!(outbox.try_next().is_none());
        let mut again = 0;
        eventually("there is room again", || {
            client.call(1, Announce { word: again }).unwrap();
            again += 1;
            outbox.try_next().is_some_and(|received| news(&received).sequence == messages + again)
        });
        assert_eq!(engine.inspect::<Counting>(2).unwrap().unwrap().0.version, messages);
    }
}

on_every_backend! {
    /// A subscriber that never reads and refuses to lose anything: messages that would post to it fail and leave no trace, at no
    /// other subscriber either, and other keys go on being served.
    fn a_subscriber_that_refuses_fails_messages_without_a_trace(bench: &Bench) {
        let capacity = 32;
        let engine = bench.builder().outbox_capacity(capacity).build().unwrap();
        // The one that reads comes first, so that something is reserved when the other refuses.
        let (mut client, mut reader) = subscribed(&engine, OutboxPolicy::Drop, &[1]);
        let (_, mut lazy) = subscribed(&engine, OutboxPolicy::Refuse, &[1]);
        let room = u64::from(capacity);
        for word in 0..room {
            assert_eq!(client.call(1, Announce { word }).unwrap().announced, word + 1);
            assert_eq!(news(&next(&mut reader)).sequence, word + 1);
        }
        let before = herald(&engine, 1);
        let version = engine.inspect::<Herald>(1).unwrap().unwrap().0.version;
        let refusals = bench.scale(300, 60);
        for word in 0..refusals {
            let refused = client.call(1, Announce { word });
            assert!(matches!(refused, Err(CallError::OutboxFull)), "{refused:?}");
            client.call(2, Add { amount: 1, sender: 0, sequence: word + 1 }).unwrap();
        }
        assert!(reader.try_next().is_none(), "a message that failed was sent to another subscriber");
        assert_eq!(herald(&engine, 1), before);
        assert_eq!(engine.inspect::<Herald>(1).unwrap().unwrap().0.version, version);
        let totals = counters(&engine);
        assert_eq!(totals[Counter::Notices as usize], 2 * room);
        assert_eq!(totals[Counter::NoticesDropped as usize], 0);
        assert_eq!(totals[Counter::Failed as usize], refusals);
        eventually("the counts are told", || lazy.counts().refused == refusals);
        assert_eq!((lazy.counts().posted, lazy.counts().dropped), (room, 0));
        // What was reserved for the reader was given back each time: it has room for as much as ever.
        assert_eq!(lazy.by_ref().take(room as usize).map(|received| news(&received).sequence).last(), Some(room));
        let mut sequence = room;
        eventually("there is room again", || client.call(1, Announce { word: 0 }).is_ok());
        for _ in 1..room {
            assert!(client.call(1, Announce { word: 0 }).is_ok());
        }
        for outbox in [&mut reader, &mut lazy] {
            sequence = room;
            for _ in 0..room {
                sequence += 1;
                assert_eq!(news(&next(outbox)).sequence, sequence);
            }
        }
        assert_eq!(sequence, 2 * room);
    }
}

on_every_backend! {
    /// Several heralds, several subscribers, several clients that make them announce: every notice reaches every subscriber exactly
    /// once, and those of one herald in order.
    fn notices_arrive_exactly_once_and_in_order(bench: &Bench) {
        let engine = bench.builder().outbox_capacity(1_024).shards(3).build().unwrap();
        let keys = [11, 12, 13, 14, 15];
        let (mut first, mut one) = subscribed(&engine, OutboxPolicy::Refuse, &keys);
        let (mut second, mut two) = subscribed(&engine, OutboxPolicy::Refuse, &keys);
        // Two of each make more than 10^5 where it is not simulated.
        let rounds = bench.scale(12_000, 40);
        let read = |outbox: &mut Outbox| {
            let mut last = [0; 5];
            for _ in 0..2 * rounds * keys.len() as u64 {
                let received = next(outbox);
                assert!(received.is_from::<Herald>() && received.kind() == Herald::KIND);
                let place = (received.key() - keys[0]) as usize;
                last[place] += 1;
                let News { word, sequence } = news(&received);
                assert_eq!(sequence, last[place], "herald {}", received.key());
                assert_eq!(word % 5, place as u64);
            }
            assert!(outbox.try_next().is_none());
        };
        let announce = |client: &mut Client| {
            let mut pipeline = client.pipeline::<Announce>();
            let (mut todo, mut sent) = (std::collections::VecDeque::new(), std::collections::VecDeque::new());
            todo.extend((0..rounds * 5).map(|i| i % 5));
            while !(todo.is_empty() && sent.is_empty()) {
                while let Some(place) = todo.front().copied() {
                    if sent.len() >= 64 || !pipeline.push(keys[place as usize], &Announce { word: place }).unwrap() {
                        break;
                    }
                    todo.pop_front();
                    sent.push_back(place);
                }
                let place = sent.pop_front().unwrap();
                match pipeline.pop().unwrap() {
                    Ok(_) => {}
                    // Back-pressure: the same again.
                    Err(CallError::OutboxFull) => todo.push_back(place),
                    Err(error) => panic!("{error}"),
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| read(&mut one));
            scope.spawn(|| read(&mut two));
            scope.spawn(|| announce(&mut first));
            scope.spawn(|| announce(&mut second));
        });
        let total = 2 * rounds * keys.len() as u64;
        for key in keys {
            assert_eq!(herald(&engine, key).announced, 2 * rounds);
        }
        let totals = counters(&engine);
        assert_eq!((totals[Counter::Notices as usize], totals[Counter::NoticesDropped as usize]), (2 * total, 0));
        for outbox in [&one, &two] {
            eventually("the counts are told", || outbox.counts().posted == total);
            assert_eq!((outbox.counts().received, outbox.counts().discarded), (total, 0));
        }
    }
}

on_every_backend! {
    /// Notices of every length, in a ring whose laps pass from the last to the first.
    fn laps_wrap(bench: &Bench) {
        let engine = bench.builder().outbox_capacity(32).first_lap(u32::MAX - 2).build().unwrap();
        let (mut client, mut outbox) = subscribed(&engine, OutboxPolicy::Refuse, &[3]);
        for round in 0..bench.scale(400, 60) {
            let word = mixed(round);
            let is_long = round % 3 == 0;
            // The control warp may not have seen yet what was read.
            eventually("there is room", || match is_long {
                true => client.call(3, Publish { word }).is_ok(),
                false => client.call(3, Announce { word }).is_ok(),
            });
            let expected = News { word, sequence: round + 1 };
            let received = next(&mut outbox);
            if is_long {
                assert_eq!(received.decode::<Bulletin>(), Some(Bulletin::of(expected)));
                assert_eq!((received.decode::<News>(), received.payload().len()), (None, 352));
            } else {
                assert_eq!((received.decode::<News>(), received.decode::<Bulletin>()), (Some(expected), None));
            }
        }
    }
}

on_every_backend! {
    /// What is for an earlier opening of an outbox is dropped and counted, and never reaches the later one: whether the device knew
    /// already or the reader throws it away.
    fn an_earlier_generation_gets_nothing(bench: &Bench) {
        let engine = bench.builder().lanes(2).outbox_capacity(64).build().unwrap();
        let mut teller = client(&engine);
        let mut last = Subscriber::NOBODY;
        let mut announced = 0;
        for round in 0..bench.scale(20, 6) {
            let (holder, mut outbox) = subscribed(&engine, OutboxPolicy::Drop, &[4]);
            let address = outbox.address();
            assert_eq!(address.lane, holder.lane().number());
            assert!(address.generation != last.generation && !address.is_nobody());
            // For the last holder, who is still in the herald's list, and for this one.
            for _ in 0..3 {
                teller.call(4, Announce { word: round }).unwrap();
                announced += 1;
                assert_eq!(news(&next(&mut outbox)), News { word: round, sequence: announced });
            }
            assert!(outbox.try_next().is_none());
            let strayed = if last.is_nobody() { 0 } else { 3 };
            eventually("the counts are told", || outbox.counts().strayed == strayed && outbox.counts().posted == 3);
            assert_eq!(outbox.counts().discarded, u64::from(!last.is_nobody()), "what the last holder left unread");
            if !last.is_nobody() {
                teller.call(4, Unsubscribe { subscriber: last }).unwrap();
            }
            // Left unread for the next holder, who throws it away.
            teller.call(4, Announce { word: round }).unwrap();
            announced += 1;
            last = address;
            drop((holder, outbox));
        }
        let (_holder, mut outbox) = subscribed(&engine, OutboxPolicy::Drop, &[5]);
        teller.call(5, Announce { word: 9 }).unwrap();
        assert_eq!(news(&next(&mut outbox)).word, 9);
        assert_eq!((outbox.counts().received, outbox.counts().discarded), (1, 1));
    }
}

on_every_backend! {
    /// One opening at a time; a closed outbox is nobody's, and its lane waits for it.
    fn an_outbox_is_open_once_and_outlives_its_client(bench: &Bench) {
        let engine = bench.builder().lanes(2).build().unwrap();
        let mut teller = client(&engine);
        let (holder, mut outbox) = subscribed(&engine, OutboxPolicy::Refuse, &[6]);
        let lane = holder.lane().number();
        assert!(matches!(holder.outbox(OutboxPolicy::Drop), Err(EngineError::OutboxOpen { lane: open }) if open == lane));
        drop(holder);
        assert!(matches!(engine.client(), Err(EngineError::NoFreeLane { lanes: 2, held: 1, waiting: 1 })));
        teller.call(6, Announce { word: 1 }).unwrap();
        assert_eq!(news(&next(&mut outbox)).word, 1);
        drop(outbox);
        // The lane is free at once; the device learns that the outbox is closed, and drops, whatever the policy was.
        let next_holder = client(&engine);
        assert_eq!(next_holder.lane().number(), lane);
        eventually("the device knows that the outbox is closed", || {
            let before = counted(&engine, Counter::NoticesDropped);
            teller.call(6, Announce { word: 2 }).unwrap();
            counted(&engine, Counter::NoticesDropped) == before + 1
        });
        let mut again = next_holder.outbox(OutboxPolicy::Drop).unwrap();
        assert!(again.try_next().is_none());
        let closed = bench.builder().outbox_capacity(0);
        // One engine a GPU.
        drop((again, next_holder, teller, engine));
        let engine = closed.build().unwrap();
        let mut client = client(&engine);
        assert!(matches!(client.outbox(OutboxPolicy::Drop), Err(EngineError::NoOutboxes)));
        // Posting is no failure there either.
        client.call(6, Subscribe { subscriber: Subscriber { lane: 0, generation: 1 } }).unwrap();
        assert_eq!(client.call(6, Announce { word: 3 }).unwrap().announced, 1);
        assert_eq!(counted(&engine, Counter::NoticesDropped), 1);
        let many = client.call(6, Provoke { times: NOTICES_MAX + 1, ending: Ending::Well });
        assert!(matches!(many, Err(CallError::TooManyNotices { most: NOTICES_MAX })), "{many:?}");
    }
}

on_every_backend! {
    /// A handler that fails, panics or posts too much sends nothing and leaves no trace, alone or in a window with others.
    fn failing_handlers_send_nothing(bench: &Bench) {
        let engine = bench.builder().shards(2).build().unwrap();
        let (mut client, mut outbox) = subscribed(&engine, OutboxPolicy::Refuse, &[7]);
        let mut sent = 0;
        for round in 0..bench.scale(20, 5) {
            let plan = [
                Provoke { times: 2, ending: Ending::Well },
                Provoke { times: 3, ending: Ending::Error },
                Provoke { times: NOTICES_MAX, ending: Ending::Well },
                Provoke { times: 1, ending: Ending::Panic },
                Provoke { times: NOTICES_MAX + 1 + round as u32, ending: Ending::Well },
                Provoke { times: NOTICES_MAX + 1, ending: Ending::Error },
                Provoke { times: 0, ending: Ending::Well },
            ];
            let replies = if round % 2 == 0 {
                plan.map(|provoke| client.call(7, provoke)).to_vec()
            } else {
                client.call_many(plan.map(|provoke| (7, provoke)))
            };
            let replies: Vec<_> = replies.into_iter().map(|reply| reply.map(|standing| standing.announced)).collect();
            let failed = Err(CallError::Handler(Refused { subscribers: 1 }));
            assert_eq!(replies[0], Ok(sent + 2));
            assert_eq!(replies[1], failed);
            assert_eq!(replies[2], Ok(sent + 6));
            assert!(matches!(replies[3], Err(CallError::Panicked { .. })), "{:?}", replies[3]);
            assert_eq!(replies[4], Err(CallError::TooManyNotices { most: NOTICES_MAX }));
            assert_eq!(replies[5], failed);
            assert_eq!(replies[6], Ok(sent + 6));
            for word in [0, 1, 0, 1, 2, 3] {
                sent += 1;
                assert_eq!(news(&next(&mut outbox)), News { word, sequence: sent });
            }
            assert!(outbox.try_next().is_none());
        }
        assert_eq!(herald(&engine, 7).announced, sent);
        assert_eq!(counted(&engine, Counter::Notices), sent);
    }
}

/// An actor whose every message is of one slot, so that it is tried on the short way.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, State)]
struct Hasty {
    handled: u64,
}

/// Posts a few times, then ends as it is told: 0 well, 1 with an error, 2 with a panic.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
struct Hurry {
    subscriber: Subscriber,
    times: u32,
    ending: u32,
}

/// Tells how often.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
struct Told {
    handled: u64,
}

impl Notice for Told {
    const NUMBER: u16 = 3;
}

impl Handler<Hurry> for Hasty {
    type Reply = u64;

    fn handle(&mut self, message: &Hurry, context: &mut Context) -> Result<u64, u64> {
        self.handled += 1;
        for _ in 0..message.times {
            context.post(message.subscriber, &Told { handled: self.handled });
        }
        match message.ending {
            0 => Ok(self.handled),
            1 => Err(self.handled),
            _ => panic!("in a hurry"),
        }
    }
}

actor!(Hasty { kind: 901, error: u64, messages: { 0: Hurry } });
system! {
    struct Haste = [Hasty];
}

on_backends! {
    [native_1, native_3, simt_4, simt_32, simt_32_hostile]
    /// The short way of a lone message leaves a handler that posts to the long one: it is handled once, and what fails on either way
    /// sends nothing.
    fn the_short_way_leaves_posting_to_the_long_one(bench: &Bench) {
        let engine = bench.builder_for(Haste::image()).build().unwrap();
        let mut client = client(&engine);
        let mut outbox = client.outbox(OutboxPolicy::Refuse).unwrap();
        let subscriber = outbox.address();
        let mut handled = 0;
        for _ in 0..bench.scale(50, 8) {
            for times in [1, 0, NOTICES_MAX] {
                handled += 1;
                assert_eq!(client.call(1, Hurry { subscriber, times, ending: 0 }), Ok(handled));
                for _ in 0..times {
                    assert_eq!(next(&mut outbox).decode(), Some(Told { handled }));
                }
            }
            let too_many = client.call(1, Hurry { subscriber, times: NOTICES_MAX + 1, ending: 0 });
            assert_eq!(too_many, Err(CallError::TooManyNotices { most: NOTICES_MAX }));
            let failed = client.call(1, Hurry { subscriber, times: 2, ending: 1 });
            assert_eq!(failed, Err(CallError::Handler(handled + 1)));
            let panicked = client.call(1, Hurry { subscriber, times: 2, ending: 2 });
            assert!(matches!(panicked, Err(CallError::Panicked { .. })), "{panicked:?}");
            assert!(outbox.try_next().is_none());
        }
        assert_eq!(engine.inspect::<Hasty>(1).unwrap().unwrap().1.handled, handled);
    }
}

on_every_backend! {
    /// Words that no outbox gave: dropped and counted, never followed.
    fn hostile_subscribers_are_counted_drops(bench: &Bench) {
        let engine = bench.builder().lanes(3).build().unwrap();
        let (mut client, mut outbox) = subscribed(&engine, OutboxPolicy::Refuse, &[]);
        let Subscriber { lane, generation } = outbox.address();
        let hostile = [
            Subscriber { lane: 3, generation },
            Subscriber { lane: u32::MAX, generation },
            Subscriber { lane: 1 << 31, generation: u32::MAX },
            Subscriber { lane, generation: generation + 1 },
            Subscriber { lane, generation: generation | 1 << 30 },
            Subscriber { lane, generation: generation | 1 << 31 },
            Subscriber { lane, generation: generation | 3 << 30 },
            Subscriber { lane, generation: GENERATION_MAX },
            Subscriber { lane: (lane + 1) % 3, generation: 1 },
            Subscriber { lane: u32::MAX, generation: 0 },
        ];
        let mut dropped = 0;
        for (key, subscribers) in (20..).zip(hostile.chunks(SUBSCRIBERS_MAX)) {
            let mut live = 0;
            for subscriber in subscribers {
                client.call(key, Subscribe { subscriber: *subscriber }).unwrap();
                live += u64::from(!subscriber.is_nobody());
            }
            for word in 0..5 {
                assert_eq!(client.call(key, Announce { word }).unwrap().announced, 2 * word + 1);
                assert_eq!(client.call(key, Publish { word }).unwrap().announced, 2 * word + 2);
                dropped += 2 * live;
            }
        }
        assert_eq!(counted(&engine, Counter::NoticesDropped), dropped);
        assert_eq!(counted(&engine, Counter::Notices), 0);
        assert!(outbox.try_next().is_none());
    }
}

on_every_backend! {
    /// Relaunches come between notices, and pauses; none is lost, doubled or out of order.
    fn notices_survive_relaunches_under_load(bench: &Bench) {
        let engine = bench.builder().outbox_capacity(64).build().unwrap();
        let (mut client, mut outbox) = subscribed(&engine, OutboxPolicy::Refuse, &[8]);
        let stop = AtomicBool::new(false);
        let relaunches = bench.scale(8, 3);
        std::thread::scope(|scope| {
            let teller = scope.spawn(|| {
                let mut told = 0;
                while !stop.load(Ordering::Relaxed) {
                    match client.call(8, Announce { word: told }) {
                        Ok(standing) => {
                            told += 1;
                            assert_eq!(standing.announced, told);
                        }
                        Err(CallError::OutboxFull) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                told
            });
            let reader = scope.spawn(|| {
                let mut read = 0;
                loop {
                    match outbox.next_timeout(Duration::from_millis(300)) {
                        Ok(received) => {
                            read += 1;
                            assert_eq!(news(&received), News { word: read - 1, sequence: read });
                        }
                        Err(OutboxError::Timeout { .. }) if stop.load(Ordering::Relaxed) => return (read, outbox),
                        Err(OutboxError::Timeout { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
            for round in 0..relaunches {
                std::thread::sleep(Duration::from_millis(20));
                engine.relaunch().unwrap();
                if round % 2 == 1 {
                    engine.pause().unwrap();
                    engine.resume().unwrap();
                }
            }
            stop.store(true, Ordering::Relaxed);
            let told = teller.join().expect("the teller");
            let (read, outbox) = reader.join().expect("the reader");
            assert!(told > 0);
            assert_eq!((read, outbox.counts().discarded), (told, 0));
        });
        assert_eq!(engine.launches(), 1 + relaunches);
    }
}

on_backends! {
    [native_1, native_3, simt_32, gpu]
    /// An engine that is paused can be subscribed to; one that stops ends its readers when they have read everything.
    fn readers_end_with_the_engine(bench: &Bench) {
        let engine = bench.engine();
        let (mut client, outbox) = subscribed(&engine, OutboxPolicy::Drop, &[9]);
        engine.pause().unwrap();
        let other = tourbillon_tests::bench::client(&engine).outbox(OutboxPolicy::Drop).expect("also in a pause");
        engine.resume().unwrap();
        for word in 0..5 {
            client.call(9, Announce { word }).unwrap();
        }
        let waiting = std::thread::spawn(move || {
            let mut other = other;
            other.next()
        });
        engine.stop().unwrap();
        assert_eq!(outbox.counts().posted, 5, "exact once the kernel has exited");
        let words: Vec<u64> = outbox.map(|received| news(&received).word).collect();
        assert_eq!(words, [0, 1, 2, 3, 4]);
        assert!(waiting.join().unwrap().is_none());
        assert!(matches!(client.outbox(OutboxPolicy::Drop), Err(EngineError::Stopped { .. })));
    }
}

/// The next item of a stream.
async fn next_of<S: futures_core::Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    std::future::poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}

on_every_backend! {
    /// A stream in a runtime of one thread, which sleeps while nothing comes: every notice wakes it.
    fn a_stream_wakes_its_task(bench: &Bench) {
        let engine = bench.builder().outbox_capacity(64).build().unwrap();
        let (mut client, outbox) = subscribed(&engine, OutboxPolicy::Refuse, &[10]);
        let address = outbox.address();
        let mut stream = outbox.into_stream().unwrap();
        assert_eq!(stream.address(), address);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let rounds = bench.scale(300, 30);
        let teller = std::thread::spawn(move || {
            for word in 0..rounds {
                // Now at once, now when the stream's thread sleeps.
                if word % 10 == 0 {
                    std::thread::sleep(Duration::from_millis(3));
                }
                let began = Instant::now();
                while let Err(error) = client.call(10, Announce { word }) {
                    assert!(matches!(error, CallError::OutboxFull) && began.elapsed() < REPLY_TIME_MAX, "{error}");
                }
            }
            client
        });
        runtime.block_on(async {
            for word in 0..rounds {
                let received = next_of(&mut stream).await.expect("the engine runs");
                assert_eq!(news(&received), News { word, sequence: word + 1 });
            }
        });
        let mut client = teller.join().unwrap();
        eventually("the counts are told", || stream.counts().posted == rounds);
        assert_eq!(stream.counts().received, rounds);
        // Dropped: the outbox is closed, and may be opened again.
        drop(stream);
        let again = client.outbox(OutboxPolicy::Drop).unwrap();
        client.call(10, Subscribe { subscriber: again.address() }).unwrap();
        client.call(10, Announce { word: 77 }).unwrap();
        let mut stream = again.into_stream().unwrap();
        engine.stop().unwrap();
        let words = runtime.block_on(async {
            let mut words = Vec::new();
            while let Some(received) = next_of(&mut stream).await {
                words.push(news(&received).word);
            }
            words
        });
        assert_eq!(words, [77]);
        assert!(runtime.block_on(next_of(&mut stream)).is_none(), "and stays ended");
    }
}

/// Threads of this process that look after streams.
#[cfg(target_os = "linux")]
fn watchers() -> usize {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0 };
    let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    // The system keeps 15 bytes of a name.
    tasks.flatten().map(name).filter(|name| name.starts_with("tourbillon-outb")).count()
}

#[cfg(target_os = "linux")]
on_backends! {
    apart [native_1, simt_4, gpu]
    /// The thread of a stream ends with it, whether a task waits or not.
    fn the_thread_of_a_stream_ends_with_it(bench: &Bench) {
        let engine = bench.engine();
        let client = client(&engine);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        for round in 0..20 {
            let mut stream = client.outbox(OutboxPolicy::Drop).unwrap().into_stream().unwrap();
            if round % 2 == 0 {
                use futures_core::Stream;
                assert!(Pin::new(&mut stream).poll_next(&mut context).is_pending());
            }
            eventually("it has a thread", || watchers() == 1);
            drop(stream);
            eventually("the thread has ended", || watchers() == 0);
        }
    }
}
