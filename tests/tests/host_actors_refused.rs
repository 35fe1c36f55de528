//! Host actors: what cannot be is refused with a reason, and every question has one answer whatever ends it.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tourbillon::abi::header::{Flags, Header};
use tourbillon::abi::host_actors::{ANSWER, DELIVER, HANDED_HEAD_WORDS};
use tourbillon::actors::Counter as Stranger;
use tourbillon::{Actor, CallError, Engine, FailureCode, HostActors, HostActorsError, HostContext, Outbox, Received};
use tourbillon_archive::{Archive, Attest, Call, Clerk, Errand, Fetch, Keep, Notary, Note, Pass, Show};
use tourbillon_tests::bench::{client, eventually};
use tourbillon_tests::host_actors::{all, answered, archive, archives, builder, errand};
use tourbillon_tests::on_backends;

/// The reasons of all dead letters, by number.
fn dead(engine: &Engine) -> Vec<FailureCode> {
    let mut reasons: Vec<_> = engine.dead_letters().unwrap().iter().map(|letter| letter.reason()).collect();
    reasons.sort_by_key(|reason| *reason as u32);
    reasons
}

/// Serves notaries that stop in their handler, and say so, until they are told to go on.
fn held(engine: &Engine, queue: u32) -> (HostActors, Receiver<u64>, Sender<()>) {
    let ((inside, is_inside), (go, goes)) = (channel(), channel());
    let goes = Mutex::new(goes);
    let hosts = archives(engine).threads(1).queue(queue).serve::<Notary, ()>(
        |_key| (),
        move |notary| {
            notary.on(move |_: &mut (), attest: &Attest, _: &mut HostContext<'_>| {
                let _ = inside.send(attest.0);
                // When nobody is left to say so, it goes on.
                let _ = goes.lock().unwrap().recv();
                Ok(attest.0)
            });
        },
    );
    (hosts.start().unwrap(), is_inside, go)
}

on_backends! {
    [native_1, simt_4, gpu]
    fn nobody_serves(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        let note = Note { archive: archive(1), keep: Keep { id: 1, value: 1 } };
        assert_eq!(client.call(1, Keep { id: 1, value: 1 }), Err(CallError::HostAbsent));
        client.call(1, note).unwrap();
        client.call(1, Fetch { archive: archive(1), id: 1, within_us: 0 }).unwrap();
        assert_eq!(answered(&mut client, 1, 1).failure, FailureCode::HostAbsent as u64);
        assert_eq!(client.call(1, Pass { archive: archive(1), id: 1 }), Err(CallError::HostAbsent));
        engine.quiesce(Duration::from_secs(10)).unwrap();
        assert_eq!(dead(&engine), [FailureCode::HostAbsent; 4]);
        // Archives are served, notaries are not.
        let hosts = archives(&engine).start().unwrap();
        assert_eq!(client.call(1, Keep { id: 1, value: 1 }), Ok(1));
        assert_eq!(client.call(1, Attest(1)), Err(CallError::HostAbsent));
        assert_eq!(client.call(1, Errand { what: errand::ASK_NOTARY, with: 3 }), Ok(404));
        client.call(1, Call { notary: tourbillon::ActorRef::new(1), word: 1 }).unwrap();
        eventually("what nobody serves is counted", || hosts.counts().refused == 3);
        // One at a time serves.
        assert!(matches!(archives(&engine).start(), Err(HostActorsError::Served)));
        drop(hosts);
        assert_eq!(client.call(1, Keep { id: 1, value: 1 }), Err(CallError::HostAbsent));
        // The next begins anew, with actors that do.
        let _hosts = all(&engine).start().unwrap();
        assert_eq!(client.call(1, Keep { id: 2, value: 1 }), Ok(1));
        assert_eq!(client.call(1, Attest(1)), Ok(2));
    }
}

on_backends! {
    [native_1]
    fn what_cannot_be_served_is_refused(bench: &Bench) {
        let engine = builder(bench).lanes(3).build().unwrap();
        let twice = archives(&engine).serve::<Archive, ()>(|_key| (), |_| {}).start();
        assert!(matches!(twice, Err(HostActorsError::Twice { name: "Archive" })));
        for hosts in [archives(&engine).threads(0), archives(&engine).threads(65), archives(&engine).queue(0)] {
            assert!(matches!(hosts.start(), Err(HostActorsError::Engine(_))));
        }
        // More lanes than there are; what was taken is given back.
        assert!(matches!(archives(&engine).threads(3).start(), Err(HostActorsError::Engine(_))));
        drop(archives(&engine).threads(2).start().unwrap());
        let without = builder(bench).outbox_capacity(0).build().unwrap();
        assert!(matches!(archives(&without).start(), Err(HostActorsError::Engine(_))));
        assert_eq!(client(&without).call(1, Attest(1)), Err(CallError::HostAbsent));
        let other = Engine::builder().backend(tourbillon::Backend::Cpu).build().unwrap();
        assert!(matches!(archives(&other).start(), Err(HostActorsError::NoSuchKind { kind: 1030, .. })));
        assert_eq!(Stranger::NAME, "Counter");
        engine.stop().unwrap();
        assert!(matches!(archives(&engine).start(), Err(HostActorsError::Engine(_))));
    }
}

on_backends! {
    [native_1, simt_4, gpu]
    fn panics_are_answered_and_the_actor_begins_anew(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let hosts = archives(&engine).start().unwrap();
        let mut client = client(&engine);
        assert_eq!(client.call(1, Keep { id: 1, value: 1 }), Ok(1));
        assert_eq!(client.call(2, Keep { id: 1, value: 1 }), Ok(1));
        for _ in 0..2 {
            let ended = client.call(1, Errand { what: errand::PANIC, with: 0 });
            assert!(matches!(ended, Err(CallError::Panicked { actor: "Archive", key: 1, .. })), "{ended:?}");
        }
        assert_eq!(client.call(1, Keep { id: 2, value: 1 }), Ok(1));
        assert_eq!(client.call(2, Keep { id: 2, value: 1 }), Ok(2));
        let counts = hosts.counts();
        assert_eq!((counts.panicked, counts.handled), (2, 4), "{counts:?}");
    }
}

on_backends! {
    [native_1, simt_4, gpu]
    fn a_question_that_is_not_answered_in_time_is_answered_once(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let hosts = archives(&engine).threads(1).start().unwrap();
        let mut client = client(&engine);
        for keep in [Keep { id: 1, value: 5 }, Keep { id: 2, value: 7 }] {
            client.call(1, Note { archive: archive(1), keep }).unwrap();
        }
        eventually("both are kept", || hosts.counts().handled == 2);
        // Behind a handler that takes long, and no other thread.
        client.send(2, Errand { what: errand::SLEEP_MS, with: 300 }).unwrap();
        client.call(1, Fetch { archive: archive(1), id: 1, within_us: 50_000 }).unwrap();
        let stands = answered(&mut client, 1, 1);
        assert_eq!((stands.failure, stands.sum), (FailureCode::DeadlinePassed as u64, 0));
        // It is the only answer: what comes next is the answer of the next question, which is another.
        client.call(1, Fetch { archive: archive(1), id: 2, within_us: 10_000_000 }).unwrap();
        let stands = answered(&mut client, 1, 2);
        assert_eq!((stands.answers, stands.sum), (2, 7));
        let counts = hosts.counts();
        assert_eq!((counts.expired, counts.late, counts.waiting), (1, 0, 0), "{counts:?}");
    }
}

on_backends! {
    [native_1, simt_4, gpu]
    fn the_end_answers_what_is_open(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let (hosts, is_inside, go) = held(&engine, 100);
        let mut client = client(&engine);
        let mut calls = client.pipeline::<Attest>();
        for word in 0..5 {
            assert!(calls.push(1, &Attest(word)).unwrap());
        }
        assert_eq!(is_inside.recv().unwrap(), 0);
        client_of_clerk(&engine, 2);
        eventually("all have come", || hosts.counts().received == 6);
        let ending = std::thread::spawn(move || drop(hosts));
        std::thread::sleep(Duration::from_millis(100));
        drop(go);
        ending.join().unwrap();
        // The one that ran is answered by its handler.
        let replies: Vec<_> = std::iter::from_fn(|| calls.pop()).collect();
        assert_eq!(replies[0], Ok(0));
        assert_eq!(replies[1..], vec![Err(CallError::HostEnded); 4]);
        drop(calls);
        assert_eq!(answered(&mut client, 2, 1).failure, FailureCode::HostEnded as u64);
        assert_eq!(client.call(1, Attest(1)), Err(CallError::HostAbsent));
    }
}

on_backends! {
    [native_1, simt_4, gpu]
    fn a_drain_waits_for_answers(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let (hosts, is_inside, go) = held(&engine, 100);
        let mut client = client(&engine);
        let mut calls = client.pipeline::<Attest>();
        for word in 0..3 {
            assert!(calls.push(1, &Attest(word)).unwrap());
        }
        assert_eq!(is_inside.recv().unwrap(), 0);
        let report = engine.drain(Duration::from_millis(50)).unwrap();
        assert_eq!(report.lanes.iter().map(|lane| lane.unanswered).sum::<u64>(), 3, "{report:?}");
        drop(go);
        let report = engine.drain(Duration::from_secs(5)).unwrap();
        assert!(report.is_complete(), "{report:?}");
        let replies: Vec<_> = std::iter::from_fn(|| calls.pop()).collect();
        assert_eq!(replies, [Ok(0), Ok(1), Ok(2)]);
        let counts = hosts.counts();
        assert_eq!((counts.handled, counts.unsent), (3, 0), "{counts:?}");
    }
}

/// Has a clerk ask the archive 1, which the only thread does not come to.
fn client_of_clerk(engine: &Engine, clerk: u64) {
    client(engine).call(clerk, Fetch { archive: archive(1), id: 1, within_us: 0 }).unwrap();
}

on_backends! {
    [native_1, simt_4, gpu]
    fn without_room_messages_fail_and_none_is_lost(bench: &Bench) {
        let engine = builder(bench).outbox_capacity(32).build().unwrap();
        let (hosts, is_inside, go) = held(&engine, 2);
        let mut client = client(&engine);
        client.send(1, Attest(0)).unwrap();
        assert_eq!(is_inside.recv().unwrap(), 0);
        // Until nothing is taken any more, also after the device has seen what was read.
        const SENT: u64 = 20;
        let (mut sent, mut word, mut refused, mut calm) = (0, 0, 0, 0);
        while calm < 4 {
            for _ in 0..SENT {
                word += 1;
                client.send(1, Attest(word)).unwrap();
            }
            sent += SENT;
            assert!(sent < 1000 * SENT && hosts.counts().waiting <= 2, "what waits is bounded");
            client.flush(Duration::from_secs(10)).unwrap();
            let before = std::mem::replace(&mut refused, client.counts().tells_failed);
            calm = if hosts.counts().waiting == 2 && refused - before == SENT { calm + 1 } else { 0 };
            std::thread::sleep(Duration::from_millis(5));
        }
        // One that runs, two in line, and what 32 slots hold, of two each.
        assert_eq!(sent - refused, 2 + 16);
        // The shards go on, and who waits is told.
        assert_eq!(client.call(9, Show {}).unwrap().answers, 0);
        assert_eq!(client.call(1, Attest(0)), Err(CallError::HostBusy));
        drop(go);
        eventually("the rest is handled", || hosts.counts().handled == 1 + sent - refused);
        assert_eq!(dead(&engine), vec![FailureCode::HostBusy; refused as usize]);
        assert_eq!(client.call(1, Attest(7)), Ok(7));
    }
}

/// What a dispatcher knows of a message, and its answer to it.
struct Answerer<'a> {
    client: &'a mut tourbillon::Client,
    handed: Received,
}

impl Answerer<'_> {
    /// Answers with a code, in the place of a message, `bytes`; the failure.
    fn answer(&mut self, change: impl FnOnce(&mut [u32]), bytes: &[u8]) -> Option<FailureCode> {
        let words = self.handed.payload()[..4 * (HANDED_HEAD_WORDS - 2)].chunks_exact(4);
        let mut words: Vec<u32> = words.map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
        words.extend([0, u32::from(self.handed.number() as u8)]);
        change(&mut words);
        let payload: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).chain(bytes.iter().copied()).collect();
        failure_of(self.client, ANSWER, self.handed.kind(), self.handed.key(), &payload)
    }
}

/// Sends a message that no library does; its failure.
fn failure_of(
    client: &mut tourbillon::Client,
    message: u8,
    kind: u16,
    key: u64,
    payload: &[u8],
) -> Option<FailureCode> {
    let slots = tourbillon::abi::frame::slots_for(0, payload.len());
    let flags = Flags::new(slots, 0);
    let header = Header { key, kind, message, hops: 0, length: payload.len() as u16, flags, hint: 0, hlc: 0 };
    let (reply, bytes) = client.call_raw(header, payload).unwrap();
    reply
        .flags
        .has(Flags::FAILED)
        .then(|| FailureCode::from_word(u32::from_le_bytes(bytes[..4].try_into().unwrap())).unwrap())
}

fn next(outbox: &mut Outbox) -> Received {
    outbox.next_timeout(Duration::from_secs(15)).unwrap()
}

on_backends! {
    [native_1, simt_4, gpu]
    /// A dispatcher that lies is told so, and nobody else gets what it says.
    fn answers_are_checked(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let (mut serving, mut other, mut asking) = (client(&engine), client(&engine), client(&engine));
        let mut outbox = serving.outbox_for_hosts().unwrap();
        asking.call(1, Fetch { archive: archive(3), id: 1, within_us: 0 }).unwrap();
        let handed = next(&mut outbox);
        assert_eq!((handed.key(), handed.kind()), (3, Archive::KIND));
        let zeros = [0; 320];
        // Who does not serve may not answer, nor deliver.
        let mut stranger = Answerer { client: &mut other, handed };
        assert_eq!(stranger.answer(|_| {}, &zeros), Some(FailureCode::UnknownMessage));
        for kind in [Archive::KIND, Clerk::KIND] {
            assert_eq!(failure_of(&mut other, DELIVER, kind, 3, &[0; 16]), Some(FailureCode::UnknownMessage));
        }
        let mut server = Answerer { client: &mut serving, handed };
        let invalid = Some(FailureCode::InvalidPayload);
        // Too short, too long, of a message or with a failure that there is not, a failure with more than its code.
        assert_eq!(failure_of(server.client, ANSWER, Archive::KIND, 3, &[0; 28]), invalid);
        assert_eq!(server.answer(|_| {}, &zeros[..312]), invalid);
        assert_eq!(server.answer(|words| words[7] = 0, &zeros), invalid);
        assert_eq!(server.answer(|words| words[7] = 77, &zeros), invalid);
        assert_eq!(server.answer(|words| words[7] = 257, &zeros), invalid);
        assert_eq!(server.answer(|words| words[6] = 9999, &[]), invalid);
        assert_eq!(server.answer(|words| words[6] = FailureCode::HostEnded as u32, &[0; 4]), invalid);
        // To a place of a lane that there is not, or is too short; to an actor, as an answer of an answer.
        for hint in [0x01ff_0000_0000_0001_u64, 0x0100_ffff_0000_0001, 0x0900_0000_0000_0001, 0x0001_0000_0000_0001, 0x8148 << 32] {
            let place = |words: &mut [u32]| (words[0], words[1]) = (hint as u32, (hint >> 32) as u32);
            assert_eq!(server.answer(place, &zeros), invalid, "{hint:#x}");
        }
        assert_eq!(asking.call(1, Show {}).unwrap().answers, 0);
        // And the right one.
        assert_eq!(server.answer(|words| words[6] = FailureCode::HostEnded as u32, &[]), None);
        assert_eq!(answered(&mut asking, 1, 1).failure, FailureCode::HostEnded as u64);
        assert_eq!(outbox.try_next().map(|received| received.number()), None);
    }
}

on_backends! {
    [native_1]
    /// What a host keeps of actors and questions that are done with is nothing.
    fn an_engine_that_stops_ends_what_serves(bench: &Bench) {
        let engine = Arc::new(builder(bench).build().unwrap());
        let (hosts, is_inside, go) = held(&engine, 100);
        let asking = Arc::clone(&engine);
        let asked = std::thread::spawn(move || client(&asking).call(1, Attest(3)));
        assert_eq!(is_inside.recv().unwrap(), 3);
        engine.stop().unwrap();
        assert!(matches!(asked.join().unwrap(), Err(CallError::EngineStopped { .. })));
        drop(go);
        drop(hosts);
        assert!(matches!(archives(&engine).start(), Err(HostActorsError::Engine(_))));
    }
}
