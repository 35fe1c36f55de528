//! Orders that cross: what becomes of a tree whose children fail, stop and are wanted again while one still does what it was ordered.

use tourbillon::actors::supervisor::{
    Standing, StartChild, StartTree, StateOf, StopChild, StopTree, Strategy, Summary,
};
use tourbillon::{CallError, FailureCode, ParentOrder, Watch};
use tourbillon_crew::worker::{Job, Look};
use tourbillon_tests::house::{BOSS, Give, Home, Manner, OUTSIDER, Show, TOKEN, TOP, parent, times, watched, worker};
use tourbillon_tests::on_backends;

on_backends! { [native_1, native_3, simt_4, simt_32]
    /// A supervisor of whose children too many fail while it carries out an order has carried it out, and has failed.
    fn supervisors_escalate_while_an_order_is_open(bench: &Bench) {
        let mut home = Home::new(bench);
        home.give(9, ParentOrder::Start, parent(1), 1);
        home.give(1, ParentOrder::Start, watched(2), 1);
        home.be(1, Manner::Waits);
        assert_eq!(times(&home.give(9, ParentOrder::Restart, parent(1), 1)), [1, 0, 0, 0, 0]);
        home.be(1, Manner::Escalates);
        home.errs(2);
        let shown = home.shown(9);
        assert_eq!((times(&shown), shown.failures, shown.code), ([1, 1, 1, 0, 0], 1, FailureCode::TooManyRestarts as u32));
        assert_eq!(home.taken(), 0);
        // One that stops has nothing left to fail at.
        home.be(1, Manner::Waits);
        home.give(9, ParentOrder::Stop, parent(1), 1);
        home.be(1, Manner::Escalates);
        let go_on = Give { child: watched(2), order: ParentOrder::GoOn as u32, token: TOKEN, times: 1, reserved: 0 };
        home.client.call(1, go_on).unwrap();
        home.quiet();
        let shown = home.shown(9);
        assert_eq!((times(&shown), shown.failures), ([1, 1, 1, 1, 0], 1));
        assert_eq!(home.client.call(1, Show {}).unwrap_err(), CallError::Stopped);
        assert_eq!(home.taken(), 1, "its own child is armed");
    }
}

on_backends! { [native_1, native_3, simt_4, simt_32]
    /// The same of the shipped one, which is started anew thereupon.
    fn trees_come_back_when_too_many_fail_during_a_restart(bench: &Bench) {
        let mut home = Home::new(bench);
        home.crew(Strategy::OneForOne, 1, &[parent(1), watched(2), watched(3)]);
        home.be(1, Manner::Waits);
        home.errs(OUTSIDER);
        // The supervisor is to begin anew, and waits for its first child.
        home.errs(2);
        home.errs(3);
        assert_eq!((home.summary(BOSS).escalations, home.summary(TOP).is_settled), (1, 0));
        home.finish(1);
        let all = Summary { children: 3, running: 3, failures: 2, escalations: 1, is_settled: 1 };
        assert_eq!(home.summary(BOSS), all);
        let above = Summary { children: 2, running: 2, failures: 2, escalations: 0, is_settled: 1 };
        assert_eq!(home.summary(TOP), above);
    }
}

on_backends! { [native_1, native_3, simt_4, simt_32]
    /// A child that is to stop and to run again before it could stop does both: it begins anew, is watched as was said last, and tells of
    /// failures, though it failed meanwhile.
    fn children_that_are_wanted_again_stop_first(bench: &Bench) {
        for is_tree in [true, false] {
            let mut home = Home::new(bench);
            let watching = |code| worker(2).watching(Watch::Error(code));
            home.crew(Strategy::OneForOne, 5, &[watching(1), parent(1)]);
            home.be(1, Manner::Waits);
            if is_tree {
                home.client.call(BOSS, StopTree {}).unwrap();
            } else {
                home.client.call(BOSS, StopChild(parent(1))).unwrap();
                home.client.call(BOSS, StopChild(watching(1))).unwrap();
            }
            home.quiet();
            home.errs(2);
            assert_eq!(home.client.call(2, Job::WELL), Ok(1));
            let code = if is_tree {
                home.client.call(BOSS, StartTree {}).unwrap();
                1
            } else {
                home.client.call(BOSS, StartChild(watching(5))).unwrap();
                5
            };
            assert_eq!(home.client.call(BOSS, StateOf(worker(2))), Ok(Standing::Restarting));
            home.finish(1);
            let running = if is_tree { 2 } else { 1 };
            let all = Summary { children: running, running, failures: 1, escalations: 0, is_settled: 1 };
            assert_eq!(home.summary(BOSS), all, "tree: {is_tree}");
            assert_eq!(home.client.call(2, Look {}).unwrap().done, 0, "tree: {is_tree}");
            home.errs_with(2, code);
            assert_eq!(home.summary(BOSS), Summary { failures: 2, ..all }, "tree: {is_tree}");
            assert_eq!(home.taken(), u64::from(running) + 2, "each child of both supervisors is armed; tree: {is_tree}");
        }
    }
}

on_backends! { [native_1, native_3, simt_4, simt_32]
    /// Who has failed when all are to stop, or while they do, may go on when they are to run after all, and tells of its next failure.
    fn failures_are_told_after_a_stop_that_became_a_restart(bench: &Bench) {
        let mut home = Home::new(bench);
        home.crew(Strategy::OneForAll, 10, &[parent(1), watched(2), watched(3), watched(4), parent(5)]);
        home.be(1, Manner::Waits);
        home.be(5, Manner::Waits);
        home.errs(4);
        // The first one is to begin anew, and waits.
        home.errs(2);
        home.client.call(BOSS, StopTree {}).unwrap();
        home.finish(1);
        // The last one is to stop, and waits.
        home.errs(3);
        home.errs(OUTSIDER);
        home.finish(5);
        let all = Summary { children: 5, running: 5, failures: 3, escalations: 0, is_settled: 1 };
        assert_eq!(home.summary(BOSS), all);
        for (failures, key) in [(4, 2), (5, 3), (6, 4)] {
            home.errs(key);
            assert_eq!(home.summary(BOSS), Summary { failures, ..all }, "worker {key}");
        }
        assert_eq!(home.taken(), 5 + 2, "all are armed");
    }
}

on_backends! { [native_1, native_3, simt_4, simt_32]
    /// As before, where the last failure was the one too many.
    fn the_failure_too_many_is_not_the_last_to_be_told(bench: &Bench) {
        let mut home = Home::new(bench);
        home.crew(Strategy::OneForOne, 1, &[watched(2), parent(5)]);
        home.be(5, Manner::Waits);
        home.errs(2);
        home.errs(2);
        // All are to stop, and the last one waits, when the supervisor is to begin anew.
        home.errs(OUTSIDER);
        home.finish(5);
        let all = Summary { children: 2, running: 2, failures: 2, escalations: 1, is_settled: 1 };
        assert_eq!(home.summary(BOSS), all);
        home.errs(2);
        assert_eq!(home.summary(BOSS), Summary { failures: 3, ..all });
        assert_eq!(home.taken(), 2 + 2, "all are armed");
    }
}
