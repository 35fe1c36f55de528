//! Letters of every sort where actors fail and are stopped: letters by which they go on, broadcasts, what topics hand out, and letters that
//! come alone.

use std::time::Duration;

use tourbillon::actors::supervisor::{StartChild, StopChild, Strategy, Summarize, Supervise};
use tourbillon::{
    CallError, Child, Client, Counter, DeadLetter, Engine, EngineBuilder, FailureCode, Handler, Message, Watch,
};
use tourbillon_crew::Plodder;
use tourbillon_crew::plodder::{Meet, STOPPED, Walk, Whereabouts};
use tourbillon_crew::worker::{Ends, Job, Look};
use tourbillon_crew::{Supervisor, Worker};
use tourbillon_tests::bench::{client, counted, eventually};
use tourbillon_tests::{Bench, on_every_backend};

/// How long a test waits for the last letter.
const QUIET_TIME_MAX: Duration = Duration::from_secs(60);
/// The supervisor of most tests.
const BOSS: u64 = 100;
/// Failures in a minute that it lets pass.
const INTENSITY: u32 = 9;
/// How often an actor is asked that is stopped: whether a letter is met alone depends on what the warp of its shard does just then.
const ALONE: u32 = 12;

fn builder(bench: &Bench) -> EngineBuilder {
    bench.builder_for(tourbillon_crew::image()).actors_per_shard(256)
}

fn quiet(engine: &Engine) {
    engine.quiesce(QUIET_TIME_MAX).unwrap();
}

/// Gives a supervisor an order, again and again while there is no room for it.
fn insist<M: Message<Actor = Supervisor> + Copy>(client: &mut Client, message: M)
where
    Supervisor: Handler<M>,
{
    eventually("there is room for an order", || match client.call(BOSS, message) {
        Ok(_) => true,
        Err(CallError::MailboxFull { .. } | CallError::TooManyQuestions) => false,
        Err(error) => panic!("{error:?}"),
    });
}

/// A supervisor of these children, all of whose failures it hears of.
fn crew(engine: &Engine, client: &mut Client, children: impl IntoIterator<Item = Child>) {
    client.call(BOSS, Supervise::new(Strategy::OneForOne, INTENSITY, 60_000_000)).unwrap();
    for child in children {
        client.call(BOSS, StartChild(child.watching(Watch::Errors))).unwrap();
        quiet(engine);
    }
}

fn failures(client: &mut Client) -> u32 {
    client.call(BOSS, Summarize {}).unwrap().failures
}

/// Jobs that a worker has done since it began; nothing where it was stopped.
fn done(client: &mut Client, worker: u64) -> Option<u64> {
    match client.call(worker, Look {}) {
        Ok(looks) => Some(looks.done),
        Err(CallError::Stopped) => None,
        Err(error) => panic!("{error}"),
    }
}

/// So many dead letters, all of them because their actor was stopped.
fn stopped_letters(engine: &Engine, count: usize) -> Vec<DeadLetter> {
    let mut letters = Vec::new();
    eventually("there are dead letters", || {
        letters.extend(engine.dead_letters().unwrap());
        letters.len() >= count
    });
    assert_eq!(letters.len(), count);
    assert!(letters.iter().all(|letter| letter.reason() == FailureCode::Stopped), "{letters:?}");
    letters
}

on_every_backend! {
    /// An actor that fails or is stopped goes on no more, and leaves its place to others: a shard has four.
    fn who_goes_on_may_fail_and_be_stopped(bench: &Bench) {
        let engine = builder(bench).shards(1).mailbox_capacity(32).overflow_capacity(32).build().unwrap();
        let mut client = client(&engine);
        crew(&engine, &mut client, [Child::of::<Plodder>(1), Child::of::<Plodder>(2)]);
        for round in 0..4 {
            // The last round panics, which costs a GPU's warp a lane.
            let ends = if round == 3 { Ends::Panic } else { Ends::Error };
            for plodder in [1, 2] {
                client.call(plodder, Walk { steps: 40, fails_at: 10, ends }).unwrap();
            }
            quiet(&engine);
            for plodder in [1, 2] {
                assert_eq!(client.call(plodder, Whereabouts {}).unwrap().steps, 0, "it has begun anew");
            }
            assert_eq!(failures(&mut client), 2 * (round + 1));
        }
        let endless = Walk { steps: u32::MAX, fails_at: 0, ends: Ends::Well };
        client.call(3, Walk { steps: 25, ..endless }).unwrap();
        quiet(&engine);
        assert_eq!((client.call(3, Whereabouts {}).unwrap().steps, done(&mut client, 3)), (25, Some(25)));
        // Without an end workers are given more jobs than the pool has room to remember.
        for round in 1..=5 {
            client.call(1, endless).unwrap();
            insist(&mut client, StopChild(Child::of::<Plodder>(1)));
            quiet(&engine);
            assert_eq!(client.call(1, Whereabouts {}), Err(CallError::Stopped));
            let [letter] = &stopped_letters(&engine, 1)[..] else { unreachable!() };
            assert_eq!((letter.key(), letter.kind()), (1, 1403));
            insist(&mut client, StartChild(Child::of::<Plodder>(1).watching(Watch::Errors)));
            quiet(&engine);
            assert_eq!(client.call(1, Whereabouts {}).unwrap().steps, 0, "round {round}");
        }
        for plodder in [1, 2, 4, 5] {
            client.call(plodder, Walk { steps: 25, ..endless }).unwrap();
        }
        quiet(&engine);
        for plodder in [1, 2, 4, 5] {
            assert_eq!(client.call(plodder, Whereabouts {}).unwrap().steps, 25, "plodder {plodder}");
        }
    }
}

on_every_backend! {
    /// A broadcast reaches those that live; the stopped ones refuse it, and it ends all the same.
    fn broadcasts_pass_over_the_stopped(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        crew(&engine, &mut client, (0..6).map(Child::of::<Worker>));
        for worker in 20..23 {
            assert_eq!(client.call(worker, Job::WELL), Ok(1));
        }
        for worker in [1, 4] {
            client.call(BOSS, StopChild(Child::of::<Worker>(worker))).unwrap();
            quiet(&engine);
        }
        client.broadcast(&Job::WELL).unwrap();
        quiet(&engine);
        let all = [0, 1, 2, 3, 4, 5, 20, 21, 22].map(|worker| done(&mut client, worker));
        assert_eq!(all, [Some(1), None, Some(1), Some(1), None, Some(1), Some(2), Some(2), Some(2)]);
        let mut keys: Vec<_> = stopped_letters(&engine, 2).iter().map(DeadLetter::key).collect();
        keys.sort_unstable();
        assert_eq!(keys, [1, 4]);
        // One that all of them fail at: the children begin anew, and the others stay what they are.
        client.broadcast(&Job { ends: Ends::Error, code: 5 }).unwrap();
        quiet(&engine);
        assert_eq!(failures(&mut client), 4);
        assert_eq!([0, 2, 3, 5, 20].map(|worker| done(&mut client, worker)), [Some(0), Some(0), Some(0), Some(0), Some(2)]);
        stopped_letters(&engine, 2);
        assert_eq!(counted(&engine, Counter::Broadcasts), 2);
    }
}

on_every_backend! {
    /// A topic goes on whatever becomes of its subscribers; who starts again is subscribed still.
    fn topics_go_on_while_subscribers_fail_and_stop(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        crew(&engine, &mut client, (0..3).map(Child::of::<Worker>));
        let topics = engine.topics();
        for worker in 0..3u64 {
            topics.subscribe_actor::<Job>("work", worker).unwrap();
        }
        client.call(BOSS, StopChild(Child::of::<Worker>(1))).unwrap();
        quiet(&engine);
        for _ in 0..5 {
            topics.publish(&mut client, "work", &Job::WELL).unwrap();
        }
        quiet(&engine);
        assert_eq!([0, 1, 2].map(|worker| done(&mut client, worker)), [Some(5), None, Some(5)]);
        assert!(stopped_letters(&engine, 5).iter().all(|letter| letter.key() == 1));
        client.call(BOSS, StartChild(Child::of::<Worker>(1).watching(Watch::Errors))).unwrap();
        quiet(&engine);
        for job in [Job::WELL, Job { ends: Ends::Error, code: 3 }, Job::WELL, Job::WELL] {
            topics.publish(&mut client, "work", &job).unwrap();
            quiet(&engine);
        }
        assert_eq!([0, 1, 2].map(|worker| done(&mut client, worker)), [Some(2); 3]);
        assert_eq!(failures(&mut client), 3);
        assert_eq!(engine.dead_letters().unwrap().len(), 0);
    }
}

on_every_backend! {
    /// A letter that comes alone is no other than those that come together: its failure is heard of, and who is stopped does not run.
    fn letters_that_come_alone_are_supervised(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        crew(&engine, &mut client, [Child::of::<Plodder>(1)]);
        client.call(1, Walk { steps: 7, fails_at: 0, ends: Ends::Well }).unwrap();
        quiet(&engine);
        let heard = |client: &mut Client| {
            client.call(2, Meet { other: 1, trips: 0, code: 0 }).unwrap();
            quiet(&engine);
            client.call(2, Whereabouts {}).unwrap().heard
        };
        assert_eq!(heard(&mut client), 7);
        // Nobody waits for an answer, and the reply would be longer than the letter.
        client.call(2, Meet { other: 1, trips: 1, code: 77 }).unwrap();
        quiet(&engine);
        assert_eq!(failures(&mut client), 1);
        assert_eq!(heard(&mut client), 0, "it has begun anew");
        client.call(1, Walk { steps: 3, fails_at: 0, ends: Ends::Well }).unwrap();
        quiet(&engine);
        client.call(BOSS, StopChild(Child::of::<Plodder>(1))).unwrap();
        quiet(&engine);
        for _ in 0..ALONE {
            assert_eq!(heard(&mut client), STOPPED);
        }
        client.call(2, Meet { other: 1, trips: 1, code: 77 }).unwrap();
        quiet(&engine);
        assert_eq!(failures(&mut client), 1);
        assert_eq!(stopped_letters(&engine, 1)[0].key(), 1);
    }
}

on_every_backend! {
    /// An error is watched by its code also where nobody reads it.
    fn unread_errors_are_told_apart(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        client.call(BOSS, StartChild(Child::of::<Plodder>(1).watching(Watch::Error(77)))).unwrap();
        quiet(&engine);
        for (code, expected) in [(76, 0), (77, 1), (78, 1)] {
            client.call(2, Meet { other: 1, trips: 1, code }).unwrap();
            quiet(&engine);
            assert_eq!(failures(&mut client), expected, "code {code}");
        }
    }
}
