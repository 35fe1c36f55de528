//! Parents and children of a user's own, right and wrong ones; and children where actors come and go.

use std::sync::Arc;
use std::time::Duration;

use tourbillon::actors::Supervisor;
use tourbillon::actors::supervisor::{News, Ordered, StartChild, StopTree, Strategy, Summarize, Summary, Supervise};
use tourbillon::{
    CallError, Child, ChildEvent, ChildEvents, ChildOrder, ChildOrders, Client, Context, Counter, Engine, FailureCode,
    Handler, Happened, MailboxUsage, NoError, ParentOrder, Plain, Refusal, State, Verdict, Watch, actor, system,
};
use tourbillon_crew::Worker;
use tourbillon_crew::worker::{Ends, Job, Look, Spoilt};
use tourbillon_tests::bench::{client, counted, eventually};
use tourbillon_tests::raw::{exchange, header_of};
use tourbillon_tests::store::{ToldStore, evict, settled_places};
use tourbillon_tests::{Bench, on_backends, on_every_backend};

/// How long a test waits for the last letter.
const QUIET_TIME_MAX: Duration = Duration::from_secs(60);
/// The number that parents give their children.
const TOKEN: u32 = 0xabcdef;
/// A supervisor, the one above it, and another child of that.
const BOSS: u64 = 50;
const TOP: u64 = 60;
const OUTSIDER: u64 = 70;

/// Gives orders as it is told, right or wrong, and remembers what it has heard.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, State)]
struct Parent {
    /// What it has heard, by the number of what happened.
    heard: [u32; 6],
    /// Failures that were told.
    failures: u32,
    /// Code of the last failure or refusal.
    code: u32,
    token: u32,
    /// Orders that came from its own parent.
    orders: u32,
    manner: Manner,
}

/// How a parent takes what it is ordered.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
enum Manner {
    Does = 0,
    Panics = 1,
    Refuses = 2,
    Waits = 3,
    /// It panics at what it hears of its children.
    CannotHear = 4,
    /// It says that it cannot help.
    Escalates = 5,
    /// It does what it is ordered, and says at what it hears that it has done what was open.
    Finishes = 6,
    /// It says at what it hears that it has children already.
    Declines = 7,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Plain)]
struct Give {
    child: Child,
    order: u32,
    token: u32,
    times: u32,
    reserved: u32,
}

#[repr(transparent)]
#[derive(Clone, Copy, Debug, Plain)]
struct Heard(ChildEvent);
impl ChildEvents for Heard {}

#[repr(transparent)]
#[derive(Clone, Copy, Debug, Plain)]
struct Told(ChildOrder);
impl ChildOrders for Told {}

#[repr(C)]
#[derive(Clone, Copy, Debug, Plain)]
struct Show {}

#[repr(C)]
#[derive(Clone, Copy, Debug, Plain)]
struct Be(Manner);

impl Handler<Give> for Parent {
    type Reply = ();
    fn handle(&mut self, give: &Give, context: &mut Context) -> Result<(), NoError> {
        for _ in 0..give.times {
            match give.order {
                1 => context.start_child::<Heard>(&give.child, give.token),
                2 => context.let_child_go_on::<Heard>(&give.child, give.token),
                3 => context.restart_child::<Heard>(&give.child, give.token),
                _ => context.stop_child::<Heard>(&give.child, give.token),
            }
        }
        Ok(())
    }
}

impl Handler<Heard> for Parent {
    type Reply = Verdict;
    fn handle(&mut self, heard: &Heard, _context: &mut Context) -> Result<Verdict, NoError> {
        assert!(self.manner != Manner::CannotHear, "on demand");
        let event = heard.0;
        self.heard[event.what().map_or(0, |what| what as usize)] += 1;
        self.failures += event.failures();
        self.code = match event.what() {
            Some(Happened::Failed) => event.failure().map_or(0, |code| code as u32),
            _ => event.refusal().map_or(0, |why| why as u32),
        };
        self.token = event.token();
        Ok(match self.manner {
            Manner::Escalates => Verdict::Escalate,
            Manner::Finishes => Verdict::Done,
            Manner::Declines => Verdict::HasChildren,
            _ => Verdict::Nothing,
        })
    }
}

impl Handler<Told> for Parent {
    type Reply = Verdict;
    fn handle(&mut self, told: &Told, _context: &mut Context) -> Result<Verdict, NoError> {
        assert!(self.manner != Manner::Panics, "on demand");
        self.orders += told.0.order().map_or(100, |order: ParentOrder| order as u32);
        Ok(match self.manner {
            Manner::Refuses => Verdict::HasChildren,
            Manner::Waits => Verdict::Nothing,
            _ => Verdict::Done,
        })
    }
}

impl Handler<Show> for Parent {
    type Reply = Parent;
    fn handle(&mut self, _message: &Show, _context: &mut Context) -> Result<Parent, NoError> {
        Ok(*self)
    }
}

impl Handler<Be> for Parent {
    type Reply = ();
    fn handle(&mut self, be: &Be, _context: &mut Context) -> Result<(), NoError> {
        self.manner = be.0;
        Ok(())
    }
}

actor!(Parent {
    kind: 1500,
    supervised: true,
    error: NoError,
    messages: {
        #[outlined] 0: Give, #[outlined] 1: Heard, #[outlined] 2: Told, #[outlined] 3: Show, #[outlined] 4: Be,
    },
});
system! { struct House = [Parent, Worker, Supervisor]; }

/// The engine of a test, and a client.
struct Home {
    engine: Engine,
    client: Client,
}

impl Home {
    fn new(bench: &Bench) -> Self {
        let builder = bench.builder_for(House::image()).actors_per_shard(256).mailbox_capacity(256);
        let engine = builder.build().unwrap();
        let client = client(&engine);
        Self { engine, client }
    }

    fn quiet(&self) {
        self.engine.quiesce(QUIET_TIME_MAX).unwrap();
    }

    /// Lets a parent give an order so many times in one message, and waits for what comes of it.
    fn give(&mut self, parent: u64, order: ParentOrder, child: Child, times: u32) -> Parent {
        let give = Give { child, order: order as u32, token: TOKEN, times, reserved: 0 };
        self.client.call(parent, give).unwrap();
        self.quiet();
        self.shown(parent)
    }

    fn shown(&mut self, parent: u64) -> Parent {
        self.client.call(parent, Show {}).unwrap()
    }

    fn be(&mut self, parent: u64, manner: Manner) {
        self.client.call(parent, Be(manner)).unwrap();
    }

    /// A child of a supervisor is started, and `quiet` is waited for.
    fn start(&mut self, boss: u64, child: Child) {
        self.client.call(boss, StartChild(child)).unwrap();
        self.quiet();
    }

    fn summary(&mut self, boss: u64) -> Summary {
        self.client.call(boss, Summarize {}).unwrap()
    }

    /// A worker fails with the typed error, which costs no machine a lane.
    fn errs(&mut self, worker: u64) {
        let answer = self.client.call(worker, Job { ends: Ends::Error, code: 1 });
        assert_eq!(answer, Err(CallError::Handler(Spoilt { code: 1 })));
        self.quiet();
    }

    /// A tree of two levels: `BOSS` has these children, of whom parents have a worker of their own.
    fn crew(&mut self, strategy: Strategy, children: &[Child]) {
        self.client.call(BOSS, Supervise::new(strategy, 1, 3_600_000_000)).unwrap();
        self.client.call(TOP, Supervise::new(Strategy::OneForAll, 10, 3_600_000_000)).unwrap();
        self.start(TOP, Supervisor::child(BOSS));
        self.start(TOP, watched(OUTSIDER));
        for child in children {
            self.start(BOSS, *child);
            if child.is_supervisor() {
                self.give(child.key(), ParentOrder::Start, watched(own(child.key())), 1);
            }
        }
    }

    /// A parent that waited has done what it was ordered, for it hears of its own worker.
    fn finish(&mut self, parent: u64) {
        self.be(parent, Manner::Finishes);
        self.errs(own(parent));
    }

    fn panics(&mut self, worker: u64) {
        let answer = self.client.call(worker, Job::PANIC);
        assert!(matches!(answer, Err(CallError::Panicked { .. })), "{answer:?}");
        self.quiet();
    }

    /// Slots of answers that are taken, in all mailboxes.
    fn taken(&self) -> u64 {
        self.quiet();
        self.engine.pause().unwrap();
        let mailboxes = self.engine.mailboxes().unwrap();
        self.engine.resume().unwrap();
        let taken = |mailbox: &MailboxUsage| 128 - mailbox.answer_room;
        assert_eq!(mailboxes.iter().map(|mailbox| mailbox.waiting).sum::<u64>(), 0);
        mailboxes.iter().map(taken).sum()
    }
}

fn worker(key: u64) -> Child {
    Child::of::<Worker>(key)
}

/// A worker of whose typed errors is heard.
fn watched(key: u64) -> Child {
    worker(key).watching(Watch::Errors)
}

/// The worker of a parent.
fn own(parent: u64) -> u64 {
    parent + 100
}

fn parent(key: u64) -> Child {
    Child::supervisor::<Told>(key)
}

const PLACES: [Happened; 5] =
    [Happened::Started, Happened::Failed, Happened::Obeyed, Happened::Stopped, Happened::Refused];

/// How often a parent has heard of each.
fn times(parent: &Parent) -> [u32; 5] {
    assert_eq!(parent.heard[0], 0, "events of the engine are ones");
    PLACES.map(|what| parent.heard[what as usize])
}

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
        assert_eq!(home.taken(), 0);
        home.be(1, Manner::Does);
        assert_eq!(times(&home.give(9, ParentOrder::Start, parent(1), 1)), [1, 0, 0, 0, 2]);
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
        home.crew(Strategy::OneForOne, &[parent(1), watched(2), watched(3)]);
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
