//! Options of messages: deadlines, ids that make a message be handled once, expected versions.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tourbillon::abi::dedup::{DEDUP_ENTRIES_MAX, DEDUP_ENTRIES_MIN};
use tourbillon::abi::error::FailureCode;
use tourbillon::abi::header::Flags;
use tourbillon::actors::counter::{Add, CounterError, Get};
use tourbillon::actors::echo::{Ping16, Ping64, Ping352};
use tourbillon::actors::faulty::{Fault, FaultyError, Trigger};
use tourbillon::actors::{Counter as Counting, Echo, Faulty};
use tourbillon::{Answer, CallError, Client, Counter, Engine, EngineError, Options, Plain, SendError};
use tourbillon_tests::bench::{REPLY_TIME_MAX, client, counted, counters, eventually, mixed};
use tourbillon_tests::futures::{block_on, paused, poll_once, poll_until_ready};
use tourbillon_tests::on_every_backend;
use tourbillon_tests::raw::{exchange, header_of};
use tourbillon_tests::store::{ToldStore, evict, roomy};

/// A deadline that is past, whatever the clocks say.
const LONG_AGO: u64 = 1;
/// More than a test takes.
const LATER: Duration = Duration::from_secs(600);

fn add(amount: u32) -> Add {
    Add { amount, sender: 0, sequence: 1 }
}

fn value(engine: &Engine, key: u64) -> Option<(u64, u64)> {
    engine.inspect::<Counting>(key).unwrap().map(|(header, counter)| (counter.value, header.version))
}

on_every_backend! {
    /// What is late is not run, wakes no actor, and is counted; what is not late is run as ever.
    fn a_message_after_its_deadline_is_not_run(bench: &Bench) {
        let engine = bench.engine();
        let mut client = client(&engine);
        for deadline in [LONG_AGO, client.hlc(), 0] {
            let late = client.call_with(1, add(1), Options::new().deadline(deadline));
            assert_eq!(late, Err(CallError::DeadlinePassed));
        }
        assert_eq!(value(&engine, 1), None, "a message that is refused wakes no actor");
        let soon = client.call_with(1, add(7), Options::new().expires_in(LATER)).unwrap();
        assert_eq!((soon.value.previous, soon.version), (0, 1));
        let never = client.call_with(1, add(7), Options::new().deadline(u64::MAX)).unwrap();
        assert_eq!((never.value.previous, never.version), (7, 2));
        let late = client.call_with(1, add(1), Options::new().deadline(LONG_AGO));
        assert_eq!(late, Err(CallError::DeadlinePassed));
        assert_eq!(value(&engine, 1), Some((14, 2)));
        let totals = counters(&engine);
        assert_eq!((totals[Counter::Expired as usize], totals[Counter::Failed as usize]), (4, 4));
    }
}

on_every_backend! {
    /// The device decides when the message is about to run, after all waiting: in a ring, and in a queue in front of it.
    fn a_message_that_waited_too_long_is_not_run(bench: &Bench) {
        let engine = bench.builder().ring_capacity(16).build().unwrap();
        let mut client = client(&engine);
        client.set_backpressure(tourbillon::Backpressure::Reject, 100).unwrap();
        engine.pause().unwrap();
        // More than the ring has room for: some are staged. Each amount is a bit of its own.
        for bit in 0..30 {
            let options = match bit % 3 {
                0 => Options::new().expires_in(Duration::from_millis(30)),
                1 => Options::new().expires_in(LATER),
                _ => Options::new(),
            };
            let message = Add { amount: 1 << bit, sender: bit % 3, sequence: 1 + u64::from(bit) };
            client.send_with(3, message, options).unwrap();
        }
        std::thread::sleep(Duration::from_millis(60));
        engine.resume().unwrap();
        client.flush(REPLY_TIME_MAX).unwrap();
        let ran = (0..30).filter(|bit| bit % 3 != 0).map(|bit| 1 << bit).sum::<u64>();
        assert_eq!(value(&engine, 3), Some((ran, 20)));
        // The whole of each message came through the queue.
        let last = engine.inspect::<Counting>(3).unwrap().unwrap().1.last_sequence;
        assert_eq!(last[..3], [0, 29, 30]);
        assert_eq!(counted(&engine, Counter::Expired), 10);
        assert_eq!((client.counts().tells_done, client.counts().tells_failed), (20, 10));
    }
}

on_every_backend! {
    /// One id, one run: sent again by the same client, by another, while the first is under way, and after a relaunch.
    fn a_message_id_is_handled_once(bench: &Bench) {
        let engine = bench.engine();
        let (mut first, mut second) = (client(&engine), client(&engine));
        let id = Options::new().message_id(1 << 100 | 5);
        let answer = first.call_with(4, add(9), id).unwrap();
        assert_eq!((answer.value.previous, answer.version, answer.is_repeated), (0, 1, false));
        first.call(4, add(100)).unwrap();
        for client in [&mut first, &mut second] {
            let again = client.call_with(4, add(9), id).unwrap();
            assert_eq!((again.value, again.version, again.is_repeated), (answer.value, 1, true));
            assert!(again.hlc > answer.hlc);
        }
        engine.relaunch().unwrap();
        assert!(second.call_with(4, add(9), id).unwrap().is_repeated, "the window survives a relaunch");
        // Whoever repeats wants to know what became of it: neither deadline nor version stands before the id.
        let late = first.call_with(4, add(9), id.deadline(LONG_AGO).if_version(77)).unwrap();
        assert!(late.is_repeated);
        assert_eq!(value(&engine, 4), Some((109, 2)));

        // Many under way at once, of few ids, by two lanes.
        let rounds = bench.scale(400, 60);
        for round in 0..rounds {
            for client in [&mut first, &mut second] {
                let number = mixed(round) % (rounds / 4);
                client.send_with(5, add(1 + number as u32), Options::new().message_id(number.into())).unwrap();
                client.send(5, Get {}).unwrap();
            }
        }
        for client in [&mut first, &mut second] {
            client.flush(REPLY_TIME_MAX).unwrap();
            assert_eq!(client.counts().tells_failed, 0, "a repeated message is no failure");
        }
        let ids: std::collections::BTreeSet<_> = (0..rounds).map(|round| mixed(round) % (rounds / 4)).collect();
        let once = ids.iter().map(|number| number + 1).sum::<u64>();
        assert_eq!(value(&engine, 5), Some((once, ids.len() as u64 + 2 * rounds)));
        assert_eq!(counted(&engine, Counter::Duplicates), 4 + 2 * rounds - ids.len() as u64);
    }
}

on_every_backend! {
    /// The same id at another actor is another message; an answer that was not kept is told as such.
    fn ids_belong_to_actors_and_small_answers_are_kept(bench: &Bench) {
        let engine = bench.builder().shards(1).build().unwrap();
        let mut client = client(&engine);
        let id = Options::new().message_id(3);
        assert_eq!(client.call_with(1, add(1), id).unwrap().version, 1);
        assert_eq!(client.call_with(2, add(1), id).unwrap().version, 1);
        let ping = Ping16 { words: [1, 2, 3, 4] };
        let pong = client.call_with(1, ping, id).unwrap();
        assert_eq!((pong.value, pong.version, pong.is_repeated), (ping, 1, false));
        // What was kept is the first answer, whatever the second message says.
        let again = client.call_with(1, Ping16 { words: [9; 4] }, id).unwrap();
        assert_eq!((again.value, again.version, again.is_repeated), (ping, 1, true));
        let large = Ping64 { words: [7; 16] };
        let second = Options::new().message_id(4);
        assert_eq!(client.call_with(1, large, second).unwrap().value, large);
        assert_eq!(client.call_with(1, large, second), Err(CallError::Duplicate { version: 2 }));
        // Another message of the same actor under the same id: no answer of its type is known.
        assert_eq!(client.call_with(1, Get {}, id), Err(CallError::Duplicate { version: 1 }));
        assert_eq!(engine.inspect::<Echo>(1).unwrap().unwrap().1.returned, 2);
        let totals = counters(&engine);
        assert_eq!((totals[Counter::Duplicates as usize], totals[Counter::Failed as usize]), (3, 2));
    }
}

on_every_backend! {
    /// A message that failed left no trace, and none in the window: it may be sent again.
    fn a_failed_message_is_not_remembered(bench: &Bench) {
        let engine = bench.engine();
        let mut client = client(&engine);
        let mut handled = 0;
        for (number, fault) in [Fault::Error, Fault::Panic, Fault::Nothing, Fault::Divide].into_iter().enumerate() {
            let id = Options::new().message_id(number as u128);
            let failed = client.call_with(6, Trigger { fault, argument: 5 }, id);
            match fault {
                Fault::Nothing => handled += 1,
                Fault::Error => assert_eq!(failed, Err(CallError::Handler(FaultyError { argument: 5 }))),
                _ => assert!(matches!(failed, Err(CallError::Panicked { .. })), "{failed:?}"),
            }
            let again = client.call_with(6, Trigger { fault: Fault::Nothing, argument: 0 }, id).unwrap();
            handled += u64::from(fault != Fault::Nothing);
            let expected = (handled, handled, fault == Fault::Nothing);
            assert_eq!((again.value, again.version, again.is_repeated), expected, "{fault:?}");
        }
        // So does one that was late or stale.
        let id = Options::new().message_id(99);
        assert_eq!(client.call_with(8, add(1), id.deadline(LONG_AGO)), Err(CallError::DeadlinePassed));
        assert_eq!(client.call_with(8, add(1), id.if_version(4)), Err(CallError::StaleVersion { current: 0 }));
        assert!(!client.call_with(8, add(1), id).unwrap().is_repeated);
        assert_eq!(engine.inspect::<Faulty>(6).unwrap().unwrap().1.handled, 4);
        assert_eq!(counted(&engine, Counter::Duplicates), 1);
    }
}

on_every_backend! {
    /// The window is as large as was asked for, and a reused id that it has forgotten is new.
    fn an_id_outside_the_window_is_run_again(bench: &Bench) {
        for window in [DEDUP_ENTRIES_MIN, 21] {
            let engine = bench.builder().shards(1).dedup_window(window).build().unwrap();
            let mut client = client(&engine);
            let mut send = |key, number: u32| {
                client.call_with(key, add(1), Options::new().message_id(number.into())).unwrap().is_repeated
            };
            let messages = window * bench.scale(20, 3) as u32;
            for number in 0..messages {
                // Of several actors of the shard: the window is the shard's.
                assert!(!send(u64::from(number % 3), number), "{number} is new");
                let oldest = number.saturating_sub(window - 1);
                for known in [number, oldest, (number + oldest) / 2] {
                    assert!(send(u64::from(known % 3), known), "{known} of {number} is in the window");
                }
            }
            let forgotten = messages - 1 - window;
            assert!(!send(u64::from(forgotten % 3), forgotten), "reused outside the window");
            let total = (0..3).map(|key| value(&engine, key).unwrap().0).sum::<u64>();
            assert_eq!(total, u64::from(messages) + 1);
        }
    }
}

on_every_backend! {
    fn bounds_of_windows_and_queues_are_named(bench: &Bench) {
        let figure = |built: Result<Engine, EngineError>| match built {
            Err(EngineError::Geometry(error)) => (error.figure, error.least, error.most),
            other => panic!("{other:?}"),
        };
        for window in [0, 1, DEDUP_ENTRIES_MIN - 1, DEDUP_ENTRIES_MAX + 1, u32::MAX] {
            assert_eq!(figure(bench.builder().dedup_window(window).build()), ("dedup_window", 16, 1024));
        }
        for letters in [0, 15, 65_537, u32::MAX] {
            assert_eq!(figure(bench.builder().dead_letters(letters).build()), ("dead_letters", 16, 65_536));
        }
    }
}

on_every_backend! {
    /// An update of a version that is gone is refused and says which version there is.
    fn an_update_of_a_stale_version_is_refused(bench: &Bench) {
        let engine = bench.engine();
        let mut client = client(&engine);
        // An actor that does not exist has version 0, and is not made by a message that expects another.
        let stale = client.call_with(1, add(1), Options::new().if_version(3));
        assert_eq!(stale, Err(CallError::StaleVersion { current: 0 }));
        assert_eq!(value(&engine, 1), None);
        let made = client.call_with(1, add(1), Options::new().if_version(0)).unwrap();
        assert_eq!(made.version, 1);
        assert_eq!(client.call_with(1, add(1), Options::new().if_version(0)), Err(CallError::StaleVersion { current: 1 }));
        let next = client.call_with(1, add(5), Options::new().if_version(made.version)).unwrap();
        assert_eq!((next.value.previous, next.version), (1, 2));
        // A handler that fails changes no version.
        let failed = client.call_with(1, Add { amount: 1, sender: 99, sequence: 1 }, Options::new().if_version(2));
        assert_eq!(failed, Err(CallError::Handler(CounterError::SenderOutOfRange)));
        let any = client.call_with(1, Get {}, Options::new().correlation(12)).unwrap();
        assert_eq!((any.value, any.version, any.is_repeated, any.correlation), (6, 3, false, 12));
        assert_eq!(client.call_with(1, Get {}, Options::new().if_version(u64::MAX)).unwrap().version, 4);
        let large = client.call_with(2, Ping64 { words: [3; 16] }, Options::new()).unwrap();
        assert_eq!((large.value, large.version), (Ping64 { words: [3; 16] }, 1));
        assert_eq!((counted(&engine, Counter::StaleVersions), value(&engine, 1)), (2, Some((6, 4))));
    }
}

/// Adds one `times` times by reading and writing what was read plus one; how often it was too late.
fn write(client: &mut Client, key: u64, writer: u64, times: u64) -> u64 {
    let (mut done, mut stale, mut seed) = (0, 0, writer);
    while done < times {
        let Answer { value, version, .. } = client.call_with(key, Get {}, Options::new()).unwrap();
        let update = Add { amount: 1, sender: (writer % 14) as u32, sequence: done + 1 };
        match client.call_with(key, update, Options::new().if_version(version)) {
            Ok(added) => {
                assert_eq!((added.value.previous, added.version), (value, version + 1), "written over unseen");
                done += 1;
            }
            Err(CallError::StaleVersion { current }) => {
                assert!(current > version);
                stale += 1;
                // Not all at the same time again.
                seed = mixed(seed);
                std::thread::sleep(Duration::from_micros(seed % 200));
            }
            Err(error) => panic!("{error}"),
        }
    }
    stale
}

on_every_backend! {
    /// Many read and write one actor at once, each by a lane of its own: no update is lost, and every one that came too late is counted.
    fn racing_writers_lose_nothing(bench: &Bench) {
        let (writers, times) = (bench.scale(64, 8), bench.scale(8, 3));
        let engine = bench.builder().lanes(64).arena_bytes(0).build().unwrap();
        let stale = AtomicU64::new(0);
        let start = Barrier::new(writers as usize);
        std::thread::scope(|scope| {
            for writer in 0..writers {
                let mut client = client(&engine);
                let (stale, start) = (&stale, &start);
                scope.spawn(move || {
                    start.wait();
                    // Relaxed: read after all have ended.
                    stale.fetch_add(write(&mut client, 5, writer, times), Ordering::Relaxed)
                });
            }
        });
        let stale = stale.into_inner();
        assert!(stale > 0, "nobody raced");
        let (sum, version) = value(&engine, 5).unwrap();
        assert_eq!((sum, version), (writers * times, 2 * writers * times + stale), "each try has read once");
        let totals = counters(&engine);
        assert_eq!((totals[Counter::StaleVersions as usize], totals[Counter::Failed as usize]), (stale, stale));
    }
}

on_every_backend! {
    /// The same by futures, also of those that had to wait in the staging queue.
    fn a_gateway_takes_options(bench: &Bench) {
        let (engine, gateway) = paused(bench, 64);
        let mut asks: Vec<_> = (0..12u32)
            .map(|number| {
                let id = Options::new().message_id(u128::from(number / 2) << 64).correlation(number.into());
                gateway.ask_with(1, add(1 << number), id.expires_in(LATER))
            })
            .collect();
        let mut late = gateway.ask_with(1, add(1 << 20), Options::new().expires_in(Duration::from_millis(5)));
        let mut tells: Vec<_> =
            [0, 77].map(|version| gateway.tell_with(2, add(1), Options::new().if_version(version))).into();
        for ask in &mut asks {
            assert!(poll_once(ask).is_pending());
        }
        assert!(poll_once(&mut late).is_pending());
        for tell in &mut tells {
            let _ = poll_once(tell).is_pending();
        }
        assert!(gateway.usage().staged > 0);
        let mut too_large = gateway.ask_with(1, Ping352 { words: [0; 88] }, Options::new());
        assert_eq!(poll_until_ready(&mut too_large), Err(CallError::PayloadTooLarge { bytes: 352, most: 344 }));
        std::thread::sleep(Duration::from_millis(20));
        engine.resume().unwrap();
        for (number, ask) in asks.iter_mut().enumerate() {
            assert_eq!(ask.correlation(), number as u64);
            let answer = poll_until_ready(ask).unwrap();
            let expected = (number as u64, number % 2 == 1, number as u64 / 2 + 1);
            assert_eq!((answer.correlation, answer.is_repeated, answer.version), expected);
        }
        assert_eq!(poll_until_ready(&mut late), Err(CallError::DeadlinePassed));
        let stale = block_on(gateway.ask_with(1, add(1), Options::new().if_version(5)));
        assert_eq!(stale, Err(CallError::StaleVersion { current: 6 }));
        assert_eq!(block_on(gateway.ask_with(2, Get {}, Options::new())).unwrap().value, 1);
        let counts = gateway.counts();
        assert_eq!((counts.tells_done, counts.tells_failed), (1, 1));
        assert_eq!(value(&engine, 1), Some((0b0101_0101_0101, 6)));
    }
}

on_every_backend! {
    /// Extensions that the engine does not act on are stepped over; a message that is too large beside its options is not sent.
    fn options_stand_among_other_extensions(bench: &Bench) {
        let engine = bench.engine();
        let mut client = client(&engine);
        let refused = client.call_with(1, Ping352 { words: [0; 88] }, Options::new().message_id(1).deadline(u64::MAX));
        assert_eq!(refused, Err(CallError::PayloadTooLarge { bytes: 352, most: 320 }));
        let refused = client.send_with(1, Ping352 { words: [0; 88] }, Options::new().message_id(1));
        assert_eq!(refused, Err(SendError::PayloadTooLarge { bytes: 352, most: 336 }));
        // Deadline, id, sender, trace, version: 2, 4, 4, 6 and 2 words, then the message.
        let bits = Flags::DEADLINE | Flags::MESSAGE_ID | Flags::SENDER | Flags::TRACE | Flags::IF_VERSION;
        let message = add(3).as_bytes().to_vec();
        let mut request = |words: [u32; 18]| {
            let header = header_of::<Add>(9);
            let header = tourbillon::abi::header::Header { flags: Flags::new(3, bits), ..header };
            let payload = [bytemuck::cast_slice(&words), &message[..]].concat();
            exchange(&mut client, header, &payload)
        };
        let mut words = [0xdead_beef; 18];
        (words[0], words[1]) = (u32::MAX, u32::MAX);
        (words[16], words[17]) = (1, 0);
        let (reply, failure, payload) = request(words);
        assert_eq!((failure, reply.flags.has(Flags::VERSION)), (Some(FailureCode::StaleVersion), false));
        assert_eq!(payload[4..12], [0; 8]);
        words[16] = 0;
        let (reply, failure, _) = request(words);
        assert_eq!((failure, reply.hint, reply.flags.has(Flags::VERSION)), (None, 1, true));
        let (reply, failure, _) = request(words);
        assert_eq!((failure, reply.hint), (None, 1));
        assert!(reply.flags.has(Flags::VERSION | Flags::REPEATED));
        assert_eq!(value(&engine, 9), Some((3, 1)));
    }
}

on_every_backend! {
    /// Options of messages to an actor that does not come, or for which nobody more may wait: the failure is told, and a message that was
    /// handled before is answered as it was.
    fn options_of_who_does_not_come_are_refused(bench: &Bench) {
        let store = ToldStore::new();
        let engine = roomy(bench, 1, 2, &store).waiters(1).build().unwrap();
        let mut client = client(&engine);
        let id = Options::new().message_id(77);
        let first = client.call_with(1, add(1), id).unwrap();
        evict(&engine, 1);
        store.fails_to_bring.store(true, Ordering::Relaxed);
        for options in [Options::new().if_version(3), Options::new().expires_in(LATER), Options::new().message_id(78)] {
            assert_eq!(client.call_with(1, add(1), options), Err(CallError::FetchFailed), "{options:?}");
        }
        assert_eq!(client.call_with(1, add(1), Options::new().deadline(LONG_AGO)), Err(CallError::DeadlinePassed));
        store.fails_to_bring.store(false, Ordering::Relaxed);
        assert_eq!(client.call_with(1, add(1), id).unwrap().value, first.value);
        evict(&engine, 1);
        // One may wait, and one does.
        std::thread::scope(|scope| {
            let hold = store.hold();
            let mut other = tourbillon_tests::bench::client(&engine);
            scope.spawn(move || other.call(1, Get {}).unwrap());
            eventually("one waits", || counters(&engine)[Counter::Waiting as usize] == 1);
            for options in [Options::new().if_version(3), Options::new().expires_in(LATER), Options::new().message_id(79)] {
                assert_eq!(client.call_with(1, add(1), options), Err(CallError::TooManyWaiters), "{options:?}");
            }
            drop(hold);
        });
        assert_eq!(client.call_with(1, Get {}, Options::new().if_version(2)).unwrap().value, 1);
    }
}
