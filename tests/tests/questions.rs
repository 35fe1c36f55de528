//! Questions between actors whose answer comes late, or when who asked has gone to the store meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tourbillon::actors::courier::{Courier, Ending, Inquire, InquireWithin, Report};
use tourbillon::{ActorKey, Client, Engine, FailureCode};
use tourbillon_tests::Bench;
use tourbillon_tests::bench::{client, eventually};
use tourbillon_tests::on_every_backend;
use tourbillon_tests::store::{Asked, Hold, ToldStore, evict};

/// How long it may take until nothing is under way.
const QUIET_TIME_MAX: Duration = Duration::from_secs(60);
/// Actors that there is room for.
const ROOM: u32 = 3;
/// Who asks.
const WHO: u64 = 1;
/// Who is asked.
const WHOM: u64 = 2;

fn engine(bench: &Bench, store: &Arc<ToldStore>) -> Engine {
    let builder = bench.builder_for(tourbillon_bank::image()).shards(1).actors_per_shard(ROOM).arena_bytes(64 << 10);
    builder.store(Arc::clone(store)).build().unwrap()
}

fn fetch(key: u64) -> Asked {
    Asked::Fetch(ActorKey::Native(key))
}

fn report(client: &mut Client, key: u64) -> Courier {
    client.call(key, Report {}).unwrap()
}

/// Sends whom is asked to the store, from which nobody comes back until the hold is dropped.
fn asleep<'s>(engine: &Engine, client: &mut Client, store: &'s ToldStore) -> Hold<'s> {
    report(client, WHOM);
    report(client, WHO);
    // Whoever was used least recently goes.
    evict(engine, 1);
    assert_eq!(store.log().last(), Some(&Asked::Evict(ActorKey::Native(WHOM))));
    store.hold()
}

on_every_backend! {
    fn questions_in_time_are_answered(bench: &Bench) {
        let store = ToldStore::new();
        let engine = engine(bench, &store);
        let mut client = client(&engine);
        drop(asleep(&engine, &mut client, &store));
        client.call(WHO, InquireWithin { of: WHOM, word: 5, within_us: 60_000_000 }).unwrap();
        engine.quiesce(QUIET_TIME_MAX).unwrap();
        let courier = report(&mut client, WHO);
        assert_eq!((courier.answers, courier.failures, courier.answer_digest), (1, 0, 10));
        assert_eq!(report(&mut client, WHOM).asked, 1);
    }
}

on_every_backend! {
    /// Who is asked comes from the store when the time is over: it is not asked any more, and who asked is told.
    fn questions_that_come_too_late_are_not_handled(bench: &Bench) {
        let store = ToldStore::new();
        let engine = engine(bench, &store);
        let mut client = client(&engine);
        let hold = asleep(&engine, &mut client, &store);
        client.call(WHO, InquireWithin { of: WHOM, word: 5, within_us: 1_000 }).unwrap();
        store.wait_for(&fetch(WHOM));
        std::thread::sleep(Duration::from_millis(3));
        drop(hold);
        engine.quiesce(QUIET_TIME_MAX).unwrap();
        let courier = report(&mut client, WHO);
        assert_eq!((courier.answers, courier.failures), (1, 1));
        assert_eq!(courier.last_failure, FailureCode::DeadlinePassed as u64);
        assert_eq!(report(&mut client, WHOM).asked, 0);
    }
}

on_every_backend! {
    /// Who asked is on its way to the store when the answer comes: the answer brings it back.
    fn answers_bring_back_who_asked(bench: &Bench) {
        let store = ToldStore::new();
        let engine = engine(bench, &store);
        let mut client = client(&engine);
        let hold = asleep(&engine, &mut client, &store);
        client.call(WHO, Inquire { of: WHOM, word: 5, ending: Ending::Reply }).unwrap();
        store.wait_for(&fetch(WHOM));
        // There is room for one more, and not for two: who was used least recently is who asked.
        std::thread::scope(|scope| {
            let engine = &engine;
            for key in [3, 4] {
                let mut other = tourbillon_tests::bench::client(engine);
                scope.spawn(move || report(&mut other, key));
            }
            eventually("who asked leaves", || {
                engine.pause().unwrap();
                let evicting = engine.shard_places().unwrap()[0].state.evicting;
                engine.resume().unwrap();
                evicting == 1
            });
            drop(hold);
        });
        engine.quiesce(QUIET_TIME_MAX).unwrap();
        assert!(store.log().contains(&fetch(WHO)), "{:?}", store.log());
        let courier = report(&mut client, WHO);
        assert_eq!((courier.answers, courier.failures, courier.answer_digest), (1, 0, 10));
        assert_eq!(store.faults(), [""; 0]);
    }
}
