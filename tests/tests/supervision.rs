//! Children of supervisors: who begins anew when one fails, in which order they stop, and what becomes of their messages.

use std::time::Duration;

use tourbillon::abi::hlc;
use tourbillon::actors::supervisor::{
    CHILDREN_MAX, Children, INTENSITY_MAX, LISTED_MAX, Listing, Standing, StartChild, StartTree, StateOf, StopChild,
    StopTree, Strategy, Summarize, Summary, Supervise, SupervisorError,
};
use tourbillon::{CallError, Child, Client, Counter, Engine, EngineBuilder, EntryHeader, FailureCode, Watch};
use tourbillon_crew::worker::{Clerk, Ends, Give, Job, Look, Looks, Spoilt, Tally, badge_of};
use tourbillon_crew::{Supervisor, Worker};
use tourbillon_tests::bench::{client, counted, counters, eventually};
use tourbillon_tests::{Bench, on_every_backend};

/// How long a test waits for the last letter.
const QUIET_TIME_MAX: Duration = Duration::from_secs(60);
/// A window that no test outlasts.
const HOUR_US: u64 = 3_600_000_000;
/// The supervisor of most tests, far from the workers' keys.
const BOSS: u64 = 1_000_000;

fn builder(bench: &Bench) -> EngineBuilder {
    bench.builder_for(tourbillon_crew::image()).actors_per_shard(512)
}

/// Waits until nothing is under way, and checks that mailboxes have all of their room.
fn quiet(engine: &Engine) {
    engine.quiesce(QUIET_TIME_MAX).unwrap();
}

fn worker(key: u64) -> Child {
    Child::of::<Worker>(key)
}

fn supervise(client: &mut Client, boss: u64, strategy: Strategy, intensity: u32) {
    client.call(boss, Supervise::new(strategy, intensity, HOUR_US)).unwrap();
}

/// Starts children one after the other, and waits for the last.
fn start(engine: &Engine, client: &mut Client, boss: u64, children: &[Child]) {
    for child in children {
        client.call(boss, StartChild(*child)).unwrap();
    }
    quiet(engine);
    for child in children {
        assert_eq!(client.call(boss, StateOf(*child)), Ok(Standing::Running), "{child:?}");
    }
}

/// A supervisor with workers of the keys `0 .. workers`, each of which has done `jobs`.
fn crew(engine: &Engine, client: &mut Client, strategy: Strategy, intensity: u32, workers: u64, jobs: u64) {
    supervise(client, BOSS, strategy, intensity);
    let children: Vec<_> = (0..workers).map(worker).collect();
    start(engine, client, BOSS, &children);
    for key in 0..workers {
        for done in 1..=jobs {
            assert_eq!(client.call(key, Job::WELL), Ok(done));
        }
    }
}

fn summary(client: &mut Client, boss: u64) -> Summary {
    client.call(boss, Summarize {}).unwrap()
}

/// What a worker has done, or that it is stopped.
fn done(client: &mut Client, key: u64) -> Option<u64> {
    match client.call(key, Look {}) {
        Ok(Looks { done, badge, remembered }) => {
            assert_eq!((badge, remembered), (if badge == 0 { 0 } else { badge_of(key) }, done), "worker {key}");
            assert!(badge != 0 || key == u64::MAX, "worker {key} was not activated");
            Some(done)
        }
        Err(CallError::Stopped) => None,
        Err(error) => panic!("worker {key}: {error}"),
    }
}

fn panics(client: &mut Client, key: u64) {
    let answer = client.call(key, Job::PANIC);
    assert!(matches!(answer, Err(CallError::Panicked { .. })), "{answer:?}");
}

/// Of all workers what they have done.
fn all_done(client: &mut Client, workers: u64) -> Vec<Option<u64>> {
    (0..workers).map(|key| done(client, key)).collect()
}

fn is_settled(client: &mut Client, boss: u64) -> bool {
    summary(client, boss).is_settled == 1
}

on_every_backend! {
    /// The one that failed begins anew, before its next message; and its collections are given back.
    fn one_for_one_restarts_the_one_that_failed(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        crew(&engine, &mut client, Strategy::OneForOne, 10, 4, 3);
        let pages = |counters: [u64; tourbillon::abi::telemetry::COUNTERS]| {
            counters[Counter::PagesTaken as usize] - counters[Counter::PagesGiven as usize]
        };
        let before = pages(counters(&engine));
        for round in 1..=5 {
            panics(&mut client, 1);
            // Not one message sees what was there before.
            assert_eq!(done(&mut client, 1), Some(0), "round {round}");
            assert_eq!(client.call(1, Job::WELL), Ok(1));
            quiet(&engine);
        }
        assert_eq!(all_done(&mut client, 4), [Some(3), Some(1), Some(3), Some(3)]);
        assert_eq!(summary(&mut client, BOSS), Summary { children: 4, running: 4, failures: 5, escalations: 0, is_settled: 1 });
        let counters = counters(&engine);
        assert_eq!(pages(counters), before, "a worker with jobs has a page, whether it began anew or not");
        assert_eq!((counters[Counter::Restarts as usize], counters[Counter::Supervised as usize]), (5, 4));
    }
}

on_every_backend! {
    fn one_for_all_restarts_all(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        crew(&engine, &mut client, Strategy::OneForAll, 3, 5, 2);
        panics(&mut client, 3);
        quiet(&engine);
        assert_eq!(all_done(&mut client, 5), [Some(0); 5]);
        assert_eq!(summary(&mut client, BOSS).failures, 1);
        assert_eq!(counted(&engine, Counter::Restarts), 5);
    }
}

on_every_backend! {
    fn rest_for_one_restarts_those_that_were_started_later(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        crew(&engine, &mut client, Strategy::RestForOne, 5, 5, 2);
        panics(&mut client, 2);
        quiet(&engine);
        assert_eq!(all_done(&mut client, 5), [Some(2), Some(2), Some(0), Some(0), Some(0)]);
        // One that is stopped and started again is the last one.
        client.call(BOSS, StopChild(worker(0))).unwrap();
        quiet(&engine);
        start(&engine, &mut client, BOSS, &[worker(0)]);
        for key in 0..5 {
            client.call(key, Job::WELL).unwrap();
        }
        panics(&mut client, 4);
        quiet(&engine);
        assert_eq!(all_done(&mut client, 5), [Some(0), Some(3), Some(1), Some(1), Some(0)]);
    }
}

on_every_backend! {
    /// A typed error is a failure when the supervisor was told so; for all others it is an answer.
    fn errors_are_failures_where_they_are_watched(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        supervise(&mut client, BOSS, Strategy::OneForOne, 10);
        let children = [worker(0), worker(1).watching(Watch::Errors), worker(2).watching(Watch::Error(77))];
        start(&engine, &mut client, BOSS, &children);
        for (code, expected) in [(5, [Some(1), Some(0), Some(1)]), (77, [Some(2), Some(0), Some(0)])] {
            for key in 0..3 {
                client.call(key, Job::WELL).unwrap();
                let answer = client.call(key, Job { ends: Ends::Error, code });
                assert_eq!(answer, Err(CallError::Handler(Spoilt { code })));
            }
            quiet(&engine);
            assert_eq!(all_done(&mut client, 3), expected, "code {code}");
        }
        assert_eq!(summary(&mut client, BOSS).failures, 3);
    }
}

on_every_backend! {
    /// Without a parent everything is as it was: a failure leaves no trace, and nobody hears of it.
    fn unsupervised_actors_keep_their_state(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        for round in 1..=3 {
            assert_eq!(client.call(1, Job::WELL), Ok(round));
            panics(&mut client, 1);
            assert_eq!(done(&mut client, 1), Some(round));
        }
        quiet(&engine);
        let counters = counters(&engine);
        assert_eq!(counters[Counter::Letters as usize], 0);
        assert_eq!(counters[Counter::Restarts as usize], 0);
    }
}

on_every_backend! {
    /// Messages that wait behind the one that fails find an actor that has begun anew; none is lost.
    fn messages_wait_through_a_restart(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        crew(&engine, &mut client, Strategy::OneForOne, 10, 1, 0);
        let jobs = bench.scale(600, 60);
        let panic_at = |job: u64| job % 200 == 30;
        let mut pipeline = client.pipeline();
        let (mut sent, mut expected) = (0, 0);
        for job in 0..jobs {
            while sent < jobs && pipeline.push(0, if panic_at(sent) { &Job::PANIC } else { &Job::WELL }).unwrap() {
                sent += 1;
            }
            let answer = pipeline.pop().unwrap();
            if panic_at(job) {
                assert!(matches!(answer, Err(CallError::Panicked { .. })), "job {job}: {answer:?}");
                expected = 0;
            } else {
                expected += 1;
                assert_eq!(answer, Ok(expected), "job {job}");
            }
        }
        drop(pipeline);
        quiet(&engine);
        assert_eq!(summary(&mut client, BOSS).failures as u64, (0..jobs).filter(|job| panic_at(*job)).count() as u64);
    }
}

/// When a stopped actor was stopped.
fn stopped_at<A: tourbillon::Actor>(engine: &Engine, key: u64) -> u64 {
    let (EntryHeader { hlc, .. }, _) = engine.inspect::<A>(key).unwrap().unwrap();
    hlc
}

on_every_backend! {
    /// The last one first, and everybody after its own children.
    fn a_tree_stops_in_reverse_order(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        for boss in [BOSS, BOSS + 1, BOSS + 2] {
            supervise(&mut client, boss, Strategy::OneForOne, 5);
        }
        start(&engine, &mut client, BOSS, &[worker(0), Supervisor::child(BOSS + 1), worker(5)]);
        start(&engine, &mut client, BOSS + 1, &[worker(1), Supervisor::child(BOSS + 2), worker(4)]);
        start(&engine, &mut client, BOSS + 2, &[worker(2), worker(3)]);
        client.call(BOSS, StopTree {}).unwrap();
        quiet(&engine);
        assert_eq!(all_done(&mut client, 6), [None; 6]);
        assert_eq!(client.call(BOSS + 1, Summarize {}), Err(CallError::Stopped));
        let [first, second, third, fourth, fifth, sixth] = [5, 4, 3, 2, 1, 0].map(|key| stopped_at::<Worker>(&engine, key));
        let [inner, outer] = [BOSS + 2, BOSS + 1].map(|key| stopped_at::<Supervisor>(&engine, key));
        let times = [first, second, third, fourth, inner, fifth, outer, sixth];
        assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
        assert_eq!(summary(&mut client, BOSS), Summary { children: 3, running: 0, failures: 0, escalations: 0, is_settled: 1 });
        assert_eq!(counted(&engine, Counter::Stops), 8);
        // All of it comes back, in the order of its start.
        client.call(BOSS, StartTree {}).unwrap();
        quiet(&engine);
        assert_eq!(all_done(&mut client, 6), [Some(0); 6]);
        assert_eq!(summary(&mut client, BOSS + 2).running, 2);
    }
}

/// Calls in a row that go by the new clock, until it is believed that every warp does: each looks at it in its own time.
const CALLS_AFTER_A_JUMP: u32 = 40;

/// Lets the engine's clock jump, and waits until the shards of the supervisor and of the workers go by it.
fn jump(engine: &Engine, client: &mut Client, boss: u64, workers: u64, by: Duration) {
    engine.advance_clock(by);
    let then_us = engine.telemetry().status.device_ns.wrapping_add_signed(engine.clock_offset_ns()) / 1000;
    let then_us = then_us.saturating_sub(hlc::EPOCH_UNIX_US);
    let mut in_a_row = 0;
    eventually("the clock has jumped", || {
        // A gate whose clock has not jumped takes this client, whose clock has, for one from the future.
        let of_workers = (0..workers).all(|key| client.call(key, Look {}).is_ok());
        let is_so = of_workers && client.call(boss, Summarize {}).is_ok() && hlc::microseconds(client.hlc()) >= then_us;
        in_a_row = if is_so { in_a_row + 1 } else { 0 };
        in_a_row >= CALLS_AFTER_A_JUMP
    });
}

on_every_backend! {
    /// Three failures in ten seconds are let pass, a fourth is not; those before are forgotten one by one.
    fn more_failures_than_are_let_pass_stop_all(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        crew(&engine, &mut client, Strategy::OneForOne, 10, 3, 0);
        client.call(BOSS, Supervise::new(Strategy::OneForOne, 3, 100_000_000)).unwrap();
        let seconds = Duration::from_secs;
        // At 0, 40 and 80 seconds; at 120 the first one is out of the window, at 160 the second.
        for after in [0, 40, 40, 40, 40] {
            jump(&engine, &mut client, BOSS, 3, seconds(after));
            panics(&mut client, after % 3);
            quiet(&engine);
            assert_eq!(summary(&mut client, BOSS).running, 3);
        }
        // Those at 80, 120 and 160 are in it still.
        panics(&mut client, 2);
        quiet(&engine);
        assert_eq!(all_done(&mut client, 3), [None; 3]);
        assert_eq!(summary(&mut client, BOSS), Summary { children: 3, running: 0, failures: 6, escalations: 1, is_settled: 1 });
        // Whoever starts them again begins to count anew.
        client.call(BOSS, StartTree {}).unwrap();
        quiet(&engine);
        for _ in 0..3 {
            panics(&mut client, 1);
            quiet(&engine);
        }
        assert_eq!(all_done(&mut client, 3), [Some(0); 3]);
    }
}

on_every_backend! {
    /// A supervisor that has had too many failures is a child that failed, and so on up to the one that knows a way.
    fn failures_go_up_through_three_levels(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        let [top, middle, low] = [BOSS, BOSS + 1, BOSS + 2];
        supervise(&mut client, top, Strategy::OneForAll, 2);
        supervise(&mut client, middle, Strategy::OneForOne, 1);
        supervise(&mut client, low, Strategy::OneForOne, 1);
        start(&engine, &mut client, top, &[worker(0), Supervisor::child(middle)]);
        start(&engine, &mut client, middle, &[worker(1), Supervisor::child(low)]);
        start(&engine, &mut client, low, &[worker(2), worker(3)]);
        let work = |client: &mut Client| (0..4).for_each(|key| assert!(client.call(key, Job::WELL).is_ok()));
        work(&mut client);
        // One is let pass below: nobody else is touched.
        panics(&mut client, 2);
        quiet(&engine);
        assert_eq!(all_done(&mut client, 4), [Some(1), Some(1), Some(0), Some(1)]);
        // The second is one of the middle's, which starts the lowest anew, with its workers.
        panics(&mut client, 3);
        quiet(&engine);
        assert_eq!(all_done(&mut client, 4), [Some(1), Some(1), Some(0), Some(0)]);
        assert_eq!([top, middle, low].map(|boss| summary(&mut client, boss).failures), [0, 1, 2]);
        // Two more are the middle's second, and so the top's first: all begin anew.
        for key in [2, 2] {
            panics(&mut client, key);
            quiet(&engine);
        }
        assert_eq!(all_done(&mut client, 4), [Some(0); 4]);
        let running = [top, middle, low].map(|boss| { let s = summary(&mut client, boss); (s.running, s.failures, s.escalations) });
        assert_eq!(running, [(2, 1, 0), (2, 2, 1), (2, 4, 2)]);
        // At the top's end all are stopped, and stay so.
        for _ in 0..8 {
            if matches!(client.call(2, Job::PANIC), Err(CallError::Stopped)) {
                break;
            }
            quiet(&engine);
        }
        assert_eq!(all_done(&mut client, 4), [None; 4]);
        let last = summary(&mut client, top);
        assert_eq!((last.running, last.failures, last.escalations, last.is_settled), (0, 3, 1, 1));
        client.call(top, StartTree {}).unwrap();
        quiet(&engine);
        assert_eq!(all_done(&mut client, 4), [Some(0); 4]);
    }
}

on_every_backend! {
    /// What is sent to a stopped actor is answered, whoever sends it and however; started again it begins anew.
    fn stopped_actors_answer_that_they_are(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        crew(&engine, &mut client, Strategy::OneForOne, 3, 2, 4);
        client.call(BOSS, StopChild(worker(1))).unwrap();
        quiet(&engine);
        assert!(engine.dead_letters().unwrap().is_empty());
        // A client that waits.
        assert_eq!(client.call(1, Job::WELL), Err(CallError::Stopped));
        let with = client.call_with(1, Job::WELL, tourbillon::Options::new().message_id(9));
        assert_eq!(with.map(|answer| answer.value), Err(CallError::Stopped));
        assert!(engine.dead_letters().unwrap().is_empty());
        // An actor that asks.
        client.call(500, Give { to: 1, workers: 1, jobs: 3, panics: 0, tells: 0 }).unwrap();
        quiet(&engine);
        assert_eq!(client.call(500, Tally {}), Ok(Clerk { done: 0, stopped: 3, failed: 0, given: 3 }));
        // Nobody who waits.
        client.send(1, Job::WELL).unwrap();
        client.call(500, Give { to: 1, workers: 1, jobs: 2, panics: 0, tells: 1 }).unwrap();
        quiet(&engine);
        let mut letters = Vec::new();
        eventually("they are dead letters", || {
            letters.extend(engine.dead_letters().unwrap());
            letters.len() >= 3
        });
        assert_eq!(letters.len(), 3);
        for letter in &letters {
            assert_eq!((letter.reason(), letter.key(), letter.kind()), (FailureCode::Stopped, 1, 1401));
        }
        assert_eq!(client.call(BOSS, StateOf(worker(1))), Err(CallError::Handler(SupervisorError::UnknownChild)));
        start(&engine, &mut client, BOSS, &[worker(1)]);
        assert_eq!(all_done(&mut client, 2), [Some(4), Some(0)]);
        // Another one may have it as well.
        client.call(BOSS, StopChild(worker(1))).unwrap();
        quiet(&engine);
        start(&engine, &mut client, BOSS + 1, &[worker(1)]);
        assert_eq!(client.call(1, Job::WELL), Ok(1));
    }
}

on_every_backend! {
    /// Trees stop while their workers are asked for much: every message is answered, with what was done or that nobody does it any more.
    fn a_tree_stops_under_load(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        let (workers, clerks, jobs) = (6, 4, bench.scale(2_000, 80) as u32);
        crew(&engine, &mut client, Strategy::OneForAll, 10, workers, 0);
        for clerk in 0..clerks {
            let give = Give { to: 0, workers: workers as u32, jobs, panics: jobs / 2 + 1, tells: 0 };
            client.call(500 + clerk, give).unwrap();
        }
        for _ in 0..3 {
            client.call(BOSS, StopTree {}).unwrap();
            client.call(BOSS, StartTree {}).unwrap();
            engine.relaunch().unwrap();
        }
        client.call(BOSS, StopTree {}).unwrap();
        quiet(&engine);
        assert_eq!(all_done(&mut client, workers), vec![None; workers as usize]);
        for clerk in 0..clerks {
            let tally = client.call(500 + clerk, Tally {}).unwrap();
            assert_eq!(tally.given, u64::from(jobs));
            assert_eq!(tally.done + tally.stopped + tally.failed, u64::from(jobs), "{tally:?}");
        }
        assert!(is_settled(&mut client, BOSS));
    }
}

on_every_backend! {
    /// In mailboxes that are full nearly all the time every failure is told, once, and every order is carried out.
    fn failures_are_told_through_full_mailboxes(bench: &Bench) {
        let engine = builder(bench).mailbox_capacity(128).overflow_capacity(64).build().unwrap();
        let mut client = client(&engine);
        let bosses = bench.scale(6, 3);
        for boss in 0..bosses {
            supervise(&mut client, BOSS + boss, Strategy::OneForAll, INTENSITY_MAX);
            let children: Vec<_> = (0..5).map(|child| worker(boss * 8 + child)).collect();
            start(&engine, &mut client, BOSS + boss, &children);
        }
        // Traffic that fills mailboxes and overflows; what finds no room is answered so.
        for clerk in 0..4 {
            let give = Give { to: 0, workers: bosses as u32 * 8, jobs: bench.scale(1_500, 100) as u32, panics: 0, tells: 1 };
            client.call(500 + clerk, give).unwrap();
        }
        let mut pipeline = client.pipeline();
        for _ in 0..2 {
            for boss in 0..bosses {
                for child in 0..5 {
                    while !pipeline.push(boss * 8 + child, &Job::PANIC).unwrap() {
                        pipeline.pop().unwrap().unwrap_err();
                    }
                }
            }
        }
        while let Some(answer) = pipeline.pop() {
            assert!(matches!(answer, Err(CallError::Panicked { .. })), "{answer:?}");
        }
        drop(pipeline);
        quiet(&engine);
        for boss in 0..bosses {
            let expected = Summary { children: 5, running: 5, failures: 10, escalations: 0, is_settled: 1 };
            assert_eq!(summary(&mut client, BOSS + boss), expected, "supervisor {boss}");
        }
        // All room that was taken for events is there again, but for that with which children are armed.
        engine.pause().unwrap();
        let mailboxes = engine.mailboxes().unwrap();
        engine.resume().unwrap();
        let armed: u64 = mailboxes.iter().map(|mailbox| 64 - mailbox.answer_room).sum();
        assert_eq!(armed, bosses * 5);
        for boss in 0..bosses {
            client.call(BOSS + boss, StopTree {}).unwrap();
        }
        quiet(&engine);
        engine.pause().unwrap();
        let mailboxes = engine.mailboxes().unwrap();
        engine.resume().unwrap();
        assert!(mailboxes.iter().all(|mailbox| mailbox.answer_room == 64), "{mailboxes:?}");
    }
}

on_every_backend! {
    /// Many children fail at once, over and over, while others are served and the kernel is launched anew.
    fn others_are_served_while_children_fail(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        let (rounds, workers) = (bench.scale(4, 2), 20);
        for boss in 0..4 {
            supervise(&mut client, BOSS + boss, Strategy::OneForOne, INTENSITY_MAX);
            let children: Vec<_> = (0..workers / 4).map(|child| worker(boss * 5 + child)).collect();
            start(&engine, &mut client, BOSS + boss, &children);
        }
        for round in 1..=rounds.min(2) {
            let mut pipeline = client.pipeline();
            let mut others = 0;
            for key in 0..workers {
                assert!(pipeline.push(key, &Job::PANIC).unwrap());
                assert!(pipeline.push(900 + key, &Job::WELL).unwrap());
            }
            while let Some(answer) = pipeline.pop() {
                match answer {
                    Ok(done) => {
                        assert_eq!(done, round);
                        others += 1;
                    }
                    Err(CallError::Panicked { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(others, workers);
            engine.relaunch().unwrap();
        }
        quiet(&engine);
        let failures: u32 = (0..4).map(|boss| summary(&mut client, BOSS + boss).failures).sum();
        assert_eq!(u64::from(failures), rounds.min(2) * workers);
        assert_eq!(all_done(&mut client, workers), vec![Some(0); workers as usize]);
    }
}

fn refused(client: &mut Client, boss: u64, message: Supervise) -> SupervisorError {
    match client.call(boss, message) {
        Err(CallError::Handler(error)) => error,
        other => panic!("{other:?}"),
    }
}

on_every_backend! {
    fn what_cannot_be_is_refused(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        use SupervisorError as Error;
        let one = Strategy::OneForOne;
        assert_eq!(refused(&mut client, BOSS, Supervise::new(one, 0, 1)), Error::IntensityZero);
        assert_eq!(refused(&mut client, BOSS, Supervise::new(one, INTENSITY_MAX + 1, 1)), Error::IntensityTooHigh);
        assert_eq!(refused(&mut client, BOSS, Supervise::new(one, 1, 0)), Error::WindowZero);

        let try_start = |client: &mut Client, boss: u64, child: Child| {
            let answer = client.call(boss, StartChild(child));
            quiet(&engine);
            match answer.and_then(|()| client.call(boss, StateOf(child))) {
                Ok(standing) => panic!("{standing:?}"),
                Err(CallError::Handler(error)) => error,
                Err(error) => panic!("{error}"),
            }
        };
        let [a, b, c] = [BOSS, BOSS + 1, BOSS + 2];
        assert_eq!(try_start(&mut client, a, Supervisor::child(a)), Error::Itself);
        client.call(a, StartChild(worker(1))).unwrap();
        assert_eq!(try_start(&mut client, a, worker(1)), Error::AlreadyIts);
        assert_eq!(try_start(&mut client, b, worker(1)), Error::AlreadyChild);
        // A circle: whoever has children is nobody's child any more.
        client.call(a, StartChild(Supervisor::child(b))).unwrap();
        quiet(&engine);
        assert_eq!(try_start(&mut client, b, Supervisor::child(a)), Error::HasChildren);
        assert_eq!(try_start(&mut client, c, Supervisor::child(a)), Error::HasChildren);
        // Two that want each other at the same time.
        for (boss, child) in [(c, BOSS + 3), (BOSS + 3, c)] {
            client.send(boss, StartChild(Supervisor::child(child))).unwrap();
        }
        quiet(&engine);
        let [one, other] = [c, BOSS + 3].map(|boss| summary(&mut client, boss).running);
        assert!(one + other <= 1, "a circle of two: {one} {other}");
        // Kinds that are not supervised, and kinds that are none.
        assert_eq!(try_start(&mut client, a, odd_child(1402)), Error::Undeclared);
        assert_eq!(client.call(a, StartChild(Child::default())), Err(CallError::Handler(Error::Undeclared)));
        assert_eq!(try_start(&mut client, a, odd_child(77)), Error::Undeclared);
        assert_eq!(try_start(&mut client, a, odd_child(0xC001)), Error::Undeclared);
        let unknown = client.call(a, StopChild(worker(9)));
        assert_eq!(unknown, Err(CallError::Handler(Error::UnknownChild)));
        // As many as there is room for.
        let many: Vec<_> = (0..CHILDREN_MAX as u64).map(|key| worker(100 + key)).collect();
        start(&engine, &mut client, BOSS + 9, &many);
        assert_eq!(try_start(&mut client, BOSS + 9, worker(99)), Error::TooManyChildren);
    }
}

/// A child of a kind that its type would not let be one.
fn odd_child(kind: u16) -> Child {
    use tourbillon::Plain;
    let mut bytes = worker(3).as_bytes().to_vec();
    bytes[8..10].copy_from_slice(&kind.to_le_bytes());
    Child::from_bytes(&bytes).unwrap()
}

on_every_backend! {
    fn children_are_listed_in_the_order_of_their_start(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        let many: Vec<_> = (0..30).map(|key| worker(100 - key)).collect();
        start(&engine, &mut client, BOSS, &many);
        client.call(BOSS, StopChild(many[4])).unwrap();
        quiet(&engine);
        start(&engine, &mut client, BOSS, &[many[4]]);
        let mut expected = many.clone();
        expected.remove(4);
        expected.push(many[4]);
        let mut listed = Vec::new();
        while listed.len() < 30 {
            let Listing { total, listed: here, children } = client.call(BOSS, Children { from: listed.len() as u32 }).unwrap();
            assert_eq!((total, here as usize), (30, LISTED_MAX.min(30 - listed.len())));
            listed.extend_from_slice(&children[..here as usize]);
        }
        assert_eq!(listed, expected);
        assert_eq!(client.call(BOSS, Children { from: u32::MAX }).unwrap().listed, 0);
    }
}
