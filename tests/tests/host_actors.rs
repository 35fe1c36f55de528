//! Actors that live on the host: told and asked by actors of the device, by clients and by each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tourbillon::{CallError, HostContext};
use tourbillon_archive::{Attest, Call, Errand, Fetch, Keep, Load, Missing, Notary, Note, Pass, Show};
use tourbillon_tests::bench::{client, eventually};
use tourbillon_tests::host_actors::{all, answered, archive, archives, builder, errand};
use tourbillon_tests::on_backends;

on_backends! {
    [native_1, native_3, simt_4, simt_32, simt_32_hostile, gpu]
    fn actors_of_the_device_tell_and_ask_the_host(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let hosts = archives(&engine).start().unwrap();
        let mut client = client(&engine);
        for clerk in 0..4 {
            for id in 0..3 {
                client.call(clerk, Note { archive: archive(clerk), keep: Keep { id, value: 100 * clerk + id } }).unwrap();
            }
            for id in 0..4 {
                client.call(clerk, Fetch { archive: archive(clerk), id, within_us: 0 }).unwrap();
            }
        }
        for clerk in 0..4 {
            // What it was told came before what it was asked, and the fourth is not there.
            let stands = answered(&mut client, clerk, 4);
            assert_eq!((stands.answers, stands.missing, stands.failure), (4, 1, 0), "{clerk}");
            assert_eq!(stands.sum, 300 * clerk + 3);
        }
        // The duty to answer a client goes by way of two actors.
        let record = client.call(1, Pass { archive: archive(2), id: 1 }).unwrap();
        assert_eq!((record.id, record.words[0], record.words[38]), (1, 201, 201));
        assert_eq!(client.call(1, Pass { archive: archive(2), id: 9 }), Err(CallError::Handler(Missing { id: 9 })));
        let counts = hosts.counts();
        assert_eq!((counts.received, counts.handled, counts.failed), (30, 25, 5), "{counts:?}");
        assert_eq!((counts.refused, counts.late, counts.unsent, counts.waiting), (0, 0, 0, 0), "{counts:?}");
        assert!(engine.dead_letters().unwrap().is_empty());
    }
}

on_backends! {
    [native_1, native_3, simt_4, simt_32, gpu]
    fn clients_call_host_actors_in_order(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let hosts = all(&engine).threads(3).start().unwrap();
        let (mut client, mut other) = (client(&engine), client(&engine));
        for id in 0..20 {
            client.send(3, Keep { id, value: id }).unwrap();
            client.send(4, Keep { id, value: id }).unwrap();
        }
        // Behind what was sent.
        assert_eq!(client.call(3, Keep { id: 20, value: 0 }), Ok(21));
        assert_eq!(other.call(4, Load { id: 7 }).map(|record| record.words[5]), Ok(7));
        assert_eq!(client.call(5, Load { id: 7 }), Err(CallError::Handler(Missing { id: 7 })));
        // Many at once, of which each has its own reply.
        let replies = client.call_many((0..64).map(|word| (word % 5, Attest(word))));
        let expected: Vec<_> = (1..=64).map(Ok).collect();
        assert_eq!(replies, expected);
        // Names are keys as well, and other actors than numbers.
        let name = engine.key("an archive").unwrap();
        assert_eq!(client.call(name, Keep { id: 1, value: 8 }), Ok(1));
        assert_eq!(client.call(name, Load { id: 1 }).map(|record| record.words[0]), Ok(8));
        assert_eq!(client.call(name, Errand { what: errand::RETIRE, with: 0 }), Ok(0));
        assert_eq!(client.call(name, Keep { id: 2, value: 8 }), Ok(1));
        assert_eq!(hosts.counts().refused, 0);
    }
}

on_backends! {
    [native_1, native_3, simt_4, gpu]
    fn host_actors_tell_and_ask_others(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let hosts = all(&engine).start().unwrap();
        let mut client = client(&engine);
        let mut send = |key, what, with| client.call(key, Errand { what, with });
        assert_eq!(send(1, errand::ASK_CLERK, 9), Ok(1));
        assert_eq!(send(2, errand::ASK_CLERK, 9), Ok(2));
        assert_eq!(send(1, errand::ASK_ARCHIVE, 2), Ok(1));
        assert_eq!(send(3, errand::ASK_ARCHIVE, 2), Ok(2));
        assert_eq!(send(1, errand::ASK_NOTARY, 70), Ok(71));
        assert_eq!(send(1, errand::ASK_ITSELF, 0), Ok(1));
        assert_eq!(send(1, 99, 0), Err(CallError::Handler(Missing { id: 99 })));
        assert_eq!(send(1, errand::TELL_CLERK, 8), Ok(3));
        eventually("credits come", || client.call(8, Show {}).unwrap().credit == 3);
        assert_eq!(client.call(8, Show {}).unwrap().disorder, 0);
        let counts = hosts.counts();
        assert_eq!((counts.tells_failed, counts.waiting), (0, 0), "{counts:?}");
    }
}

on_backends! {
    [native_3, simt_4, gpu]
    /// An actor is run by one thread at a time, whichever, and others meanwhile.
    fn an_actor_is_run_by_one_thread_at_a_time(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let (is_inside, overlaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (inside, overlapping) = (Arc::clone(&is_inside), Arc::clone(&overlaps));
        let hosts = archives(&engine).threads(4).serve::<Notary, u64>(
            |key| key.number(),
            |notary| {
                notary.on(move |last: &mut u64, attest: &Attest, _: &mut HostContext<'_>| {
                    overlapping.fetch_add(u64::from(inside.swap(true, Ordering::AcqRel)), Ordering::Relaxed);
                    std::thread::yield_now();
                    std::thread::sleep(std::time::Duration::from_micros(50));
                    inside.store(false, Ordering::Release);
                    let before = std::mem::replace(last, attest.0);
                    Ok(before)
                });
            },
        );
        let hosts = hosts.start().unwrap();
        let mut client = client(&engine);
        let replies = client.call_many((1..=100).map(|word| (0, Attest(word))));
        // Each saw the one before.
        let expected: Vec<_> = (0..100).map(Ok).collect();
        assert_eq!(replies, expected);
        for word in 0..4 {
            client.call(word, Call { notary: tourbillon::ActorRef::new(0), word: 7 }).unwrap();
        }
        eventually("the notary was told", || hosts.counts().handled == 104);
        assert_eq!(overlaps.load(Ordering::Relaxed), 0);
    }
}
