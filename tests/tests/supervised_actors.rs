//! Parents and children of a user's own, right and wrong ones; and children where actors come and go.

use std::sync::Arc;

use tourbillon::actors::supervisor::{News, Ordered, StartChild, StopTree, Strategy, Summarize, Supervise};
use tourbillon::{CallError, Child, Counter, FailureCode, Happened, ParentOrder, Plain, Refusal};
use tourbillon_crew::worker::{Job, Look};
use tourbillon_tests::bench::{client, counted, eventually};
use tourbillon_tests::house::{Give, Home, Manner, Parent, QUIET_TIME_MAX, TOKEN, parent, times, watched, worker};
use tourbillon_tests::raw::{exchange, header_of};
use tourbillon_tests::store::{ToldStore, evict, settled_places};
use tourbillon_tests::{on_backends, on_every_backend};

on_backends! { [native_1, native_3, simt_4, simt_32, simt_32_hostile]
    /// A child tells of one failure, counts the others until it may go on, and tells of those together.
    fn failures_are_counted_until_the_child_may_go_on(bench: &Bench) {
        let mut home = Home::new(bench);
        assert_eq!(times(&home.give(9, ParentOrder::Start, worker(1), 1)), [1, 0, 0, 0, 0]);
        assert_eq!(home.taken(), 1, "there is room for one failure");
        for _ in 0..4 {
            home.panics(1);
            assert_eq!(home.client.call(1, Job::WELL), Ok(1), "it begins anew in any case");
        }
        let shown = home.shown(9);
        assert_eq!((times(&shown), shown.failures, shown.token), ([1, 1, 0, 0, 0], 1, TOKEN));
        assert_eq!(home.taken(), 0);
        let shown = home.give(9, ParentOrder::GoOn, worker(1), 1);
        assert_eq!((times(&shown), shown.failures), ([1, 2, 1, 0, 0], 4));
        assert_eq!(shown.code, FailureCode::Panicked as u32);
        assert_eq!(home.taken(), 0, "it has told, and waits");
        home.give(9, ParentOrder::GoOn, worker(1), 1);
        assert_eq!(home.taken(), 1);
    }
}

on_backends! { [native_1, native_3, simt_4, simt_32, simt_32_hostile]
    /// Orders that nobody needs do no harm: each is answered, and no room is taken twice or given back twice.
    fn orders_that_nobody_needs_do_no_harm(bench: &Bench) {
        let mut home = Home::new(bench);
        // The second is refused, for it is a child already.
        let shown = home.give(9, ParentOrder::Start, worker(1), 2);
        assert_eq!((times(&shown), shown.code), ([1, 0, 0, 0, 1], Refusal::AlreadyChild as u32));
        assert_eq!(home.taken(), 1);
        assert_eq!(times(&home.give(9, ParentOrder::GoOn, worker(1), 4)), [1, 0, 4, 0, 1]);
        assert_eq!(times(&home.give(9, ParentOrder::Restart, worker(1), 3)), [1, 0, 7, 0, 1]);
        assert_eq!(home.taken(), 1);
        home.panics(1);
        assert_eq!(times(&home.shown(9)), [1, 1, 7, 0, 1]);
        // One that is stopped is nobody's child, and orders to it are those of a stranger.
        let shown = home.give(9, ParentOrder::Stop, worker(1), 3);
        assert_eq!((times(&shown), shown.code), ([1, 1, 7, 1, 3], Refusal::NotYours as u32));
        assert_eq!(home.taken(), 0);
        assert_eq!(home.client.call(1, Look {}), Err(CallError::Stopped));
    }
}

on_backends! { [native_1, native_3, simt_4, simt_32]
    fn orders_of_strangers_are_refused(bench: &Bench) {
        let mut home = Home::new(bench);
        home.give(9, ParentOrder::Start, worker(1), 1);
        home.client.call(1, Job::WELL).unwrap();
        for order in [ParentOrder::GoOn, ParentOrder::Restart, ParentOrder::Stop] {
            let shown = home.give(8, order, worker(1), 1);
            assert_eq!((shown.code, shown.heard[Happened::Refused as usize]), (Refusal::NotYours as u32, order as u32 - 1));
        }
        let shown = home.give(8, ParentOrder::Start, worker(1), 1);
        assert_eq!(shown.code, Refusal::AlreadyChild as u32);
        // The parent itself, by another number.
        let give = Give { child: worker(1), order: ParentOrder::Stop as u32, token: 1, times: 1, reserved: 0 };
        home.client.call(9, give).unwrap();
        home.quiet();
        assert_eq!(home.shown(9).code, Refusal::NotYours as u32);
        assert_eq!(home.client.call(1, Job::WELL), Ok(2));
        assert_eq!(home.taken(), 1);
    }
}

on_backends! { [native_1, native_3, simt_4, simt_32, simt_32_hostile]
    /// A supervisor of a user's own says when it has done what it was ordered, that it does not, or panics.
    fn supervisors_of_ones_own_answer_orders(bench: &Bench) {
        let mut home = Home::new(bench);
        home.be(1, Manner::Refuses);
        let shown = home.give(9, ParentOrder::Start, parent(1), 1);
        assert_eq!((times(&shown), shown.code), ([0, 0, 0, 0, 1], Refusal::HasChildren as u32));
        home.be(1, Manner::Panics);
        let shown = home.give(9, ParentOrder::Start, parent(1), 1);
        assert_eq!((times(&shown), shown.code), ([0, 0, 0, 0, 2], Refusal::HandlerFailed as u32));
        assert_eq!((home.taken(), counted(&home.engine, Counter::Supervised)), (0, 0));
        home.be(1, Manner::Does);
        assert_eq!(times(&home.give(9, ParentOrder::Start, parent(1), 1)), [1, 0, 0, 0, 2]);
        assert_eq!(counted(&home.engine, Counter::Supervised), 1);
        assert_eq!(times(&home.give(9, ParentOrder::Restart, parent(1), 1)), [1, 0, 1, 0, 2]);
        // It keeps its state, for it has begun anew as it has seen fit; its panic is a failure of which the parent hears.
        assert_eq!(home.shown(1).orders, 4 + 1);
        home.be(1, Manner::Panics);
        let shown = home.give(9, ParentOrder::Restart, parent(1), 1);
        assert_eq!((times(&shown), shown.failures), ([1, 1, 1, 0, 3], 1));
        // What it has not done yet is open, and nothing else comes between.
        home.be(1, Manner::Waits);
        assert_eq!(times(&home.give(9, ParentOrder::Stop, parent(1), 1)), [1, 1, 1, 0, 3]);
        let shown = home.give(9, ParentOrder::Restart, parent(1), 1);
        assert_eq!((times(&shown), shown.code), ([1, 1, 1, 0, 4], Refusal::Busy as u32));
        // What it hears says that it is done.
        assert_eq!(home.taken(), 1, "the open order has room for its answer, and the child none");
    }
}

on_backends! { [native_1, native_3, simt_4, simt_32]
    /// A supervisor that fails while it is started, and then is no child after all, gives back what it has taken, once.
    fn room_of_a_start_that_fails_is_given_back_once(bench: &Bench) {
        let mut home = Home::new(bench);
        home.give(1, ParentOrder::Start, watched(2), 1);
        home.be(1, Manner::Waits);
        home.give(9, ParentOrder::Start, parent(1), 1);
        home.be(1, Manner::CannotHear);
        home.errs(2);
        let shown = home.shown(9);
        assert_eq!((times(&shown), shown.failures), ([0, 1, 0, 0, 0], 1));
        home.be(1, Manner::Declines);
        home.give(1, ParentOrder::GoOn, watched(2), 1);
        let shown = home.shown(9);
        assert_eq!((times(&shown), shown.code), ([0, 1, 0, 0, 1], Refusal::HasChildren as u32));
        assert_eq!(home.taken(), 1, "its own child is armed");
    }
}

on_backends! { [native_1, native_3, simt_4, simt_32]
    /// A parent that panics at what it hears has heard it: no room stays behind, and nobody waits.
    fn parents_may_fail_at_what_they_hear(bench: &Bench) {
        let mut home = Home::new(bench);
        home.give(9, ParentOrder::Start, worker(1), 1);
        home.be(9, Manner::CannotHear);
        home.panics(1);
        home.give(9, ParentOrder::GoOn, worker(1), 1);
        assert_eq!(times(&home.shown(9)), [1, 0, 0, 0, 0]);
        assert_eq!(home.taken(), 1);
        home.be(9, Manner::Does);
        assert_eq!(times(&home.give(9, ParentOrder::Stop, worker(1), 1)), [1, 0, 0, 1, 0]);
        assert_eq!(home.taken(), 0);
        // Whoever is nobody's child cannot escalate.
        home.be(9, Manner::Escalates);
        home.give(9, ParentOrder::Start, worker(1), 1);
        home.panics(1);
        assert_eq!(home.taken(), 0);
    }
}

on_backends! { [native_1, simt_4, simt_32]
    /// What a client makes up as an event or an order of the engine is answered, and changes no bond.
    fn events_of_clients_are_no_events(bench: &Bench) {
        let mut home = Home::new(bench);
        let boss = 50;
        home.client.call(boss, Supervise::new(Strategy::OneForAll, 1, 1_000_000)).unwrap();
        home.client.call(boss, StartChild(worker(1))).unwrap();
        home.quiet();
        home.client.call(1, Job::WELL).unwrap();
        for word in [0u32, 1, 1 << 16, 2 << 16 | 1401, u32::MAX] {
            let payload: Vec<u8> = [9u32, 0, word, word].iter().flat_map(|word| word.to_le_bytes()).collect();
            let (_, failure, _) = exchange(&mut home.client, header_of::<News>(boss), &payload);
            assert_eq!(failure, None);
            let (_, failure, _) = exchange(&mut home.client, header_of::<Ordered>(boss), &[9; 8]);
            assert_eq!(failure, None);
        }
        home.quiet();
        let summary = home.client.call(boss, Summarize {}).unwrap();
        assert_eq!((summary.running, summary.failures, summary.is_settled), (1, 0, 1));
        assert_eq!(home.client.call(1, Job::WELL), Ok(2));
        assert_eq!(home.taken(), 1);
    }
}

on_backends! { [native_1, native_3, simt_4, simt_32]
    /// A child without an `activate` begins anew with zeros, whatever it was told before.
    fn what_begins_anew_is_zero(bench: &Bench) {
        let mut home = Home::new(bench);
        let child = Child::of::<Parent>(1);
        home.give(9, ParentOrder::Start, child, 1);
        home.be(1, Manner::Waits);
        assert_ne!(home.shown(1), Parent::from_bytes(&[0; size_of::<Parent>()]).unwrap());
        let (before, _) = home.engine.inspect::<Parent>(1).unwrap().unwrap();
        assert_eq!(times(&home.give(9, ParentOrder::Restart, child, 1)), [1, 0, 1, 0, 0]);
        let (after, _) = home.engine.inspect::<Parent>(1).unwrap().unwrap();
        assert!(after.version > before.version, "what expects the version of before is stale");
        assert_eq!(home.shown(1), Parent::from_bytes(&[0; size_of::<Parent>()]).unwrap());
    }
}

on_every_backend! {
    /// When the answers' share of a mailbox has room for no more children, those that there are can still be helped, and stopped.
    fn a_shard_full_of_children_helps_them(bench: &Bench) {
        let builder = bench.builder_for(tourbillon_crew::image()).shards(1).actors_per_shard(64);
        let engine = builder.mailbox_capacity(32).build().unwrap();
        let mut client = client(&engine);
        // So many that there is not room for all to help a child at the same time.
        let bosses = 50..57;
        for boss in bosses.clone() {
            client.call(boss, Supervise::new(Strategy::OneForOne, 10, 3_600_000_000)).unwrap();
        }
        let mut children = 0;
        let refused = loop {
            match client.call(50 + children % 7, StartChild(worker(children))) {
                Ok(()) => children += 1,
                Err(error) => break error,
            }
            engine.quiesce(QUIET_TIME_MAX).unwrap();
        };
        // Of 16 slots two are left: one for an order, and one to arm a child again.
        assert_eq!((refused, children), (CallError::TooManyQuestions, 14));
        {
            let mut pipeline = client.pipeline();
            for key in 0..children {
                assert!(pipeline.push(key, &Job::PANIC).unwrap());
            }
            while pipeline.pop().is_some() {}
            drop(pipeline);
            engine.quiesce(QUIET_TIME_MAX).unwrap();
            for boss in bosses.clone() {
                let summary = client.call(boss, Summarize {}).unwrap();
                assert_eq!((summary.failures as u64, summary.running, summary.is_settled), (2, 2, 1));
            }
        }
        for boss in bosses {
            // There is room for two to begin with it; whoever finds none asks again.
            eventually("the tree stops", || match client.call(boss, StopTree {}) {
                Ok(()) => true,
                Err(error) => {
                    assert_eq!(error, CallError::TooManyQuestions);
                    false
                }
            });
        }
        engine.quiesce(QUIET_TIME_MAX).unwrap();
        assert!((0..children).all(|key| client.call(key, Look {}) == Err(CallError::Stopped)));
        engine.pause().unwrap();
        assert_eq!(engine.mailboxes().unwrap()[0].answer_room, 16);
    }
}

on_every_backend! {
    /// Children, and those that have some, stay where they are when others go to the store; and so does what is stopped.
    fn children_are_not_evicted(bench: &Bench) {
        let store = ToldStore::new();
        let builder = bench.builder_for(tourbillon_crew::image()).shards(1).actors_per_shard(8);
        let engine = builder.arena_bytes(64 << 10).store(Arc::clone(&store)).build().unwrap();
        let mut client = client(&engine);
        let boss = 50;
        client.call(boss, Supervise::new(Strategy::OneForOne, 5, 3_600_000_000)).unwrap();
        for key in 0..3 {
            client.call(boss, StartChild(worker(key))).unwrap();
            engine.quiesce(QUIET_TIME_MAX).unwrap();
            client.call(key, Job::WELL).unwrap();
        }
        // Many others come and go in the places that are left.
        for key in 100..100 + bench.scale(60, 16) {
            assert_eq!(client.call(key, Job::WELL), Ok(1));
        }
        evict(&engine, 2);
        engine.evict(u64::from(u32::MAX)).unwrap();
        eventually("those who may have gone", || settled_places(&engine)[0].state.places == 4);
        assert_eq!(counted(&engine, Counter::Supervised), 3);
        assert!(client.call(1, Job::PANIC).is_err());
        engine.quiesce(QUIET_TIME_MAX).unwrap();
        assert_eq!(client.call(boss, Summarize {}).unwrap().failures, 1);
        assert_eq!([0, 1, 2].map(|key| client.call(key, Look {}).unwrap().done), [1, 0, 1]);
        // As many more as there are places; the next one finds none, for nobody may leave.
        for key in 3..7 {
            client.call(boss, StartChild(worker(key))).unwrap();
            engine.quiesce(QUIET_TIME_MAX).unwrap();
        }
        assert_eq!(client.call(200, Job::WELL), Err(CallError::DirectoryFull));
        client.call(boss, StopTree {}).unwrap();
        engine.quiesce(QUIET_TIME_MAX).unwrap();
        assert_eq!(client.call(3, Look {}), Err(CallError::Stopped));
        // The supervisor has no child that runs: it may leave, and comes back with what it knows.
        engine.evict(1).unwrap();
        eventually("it has gone", || settled_places(&engine)[0].state.places == 7);
        let summary = client.call(boss, Summarize {}).unwrap();
        assert_eq!((summary.children, summary.running), (7, 0));
        assert_eq!(store.faults(), Vec::<String>::new());
    }
}
