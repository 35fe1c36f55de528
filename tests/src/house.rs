//! Parents of a test's own, which do as they are told, right or wrong; with workers and the shipped supervisor, for the suites of
//! supervision.

use std::time::Duration;

use tourbillon::actors::Supervisor;
use tourbillon::actors::supervisor::{StartChild, Strategy, Summarize, Summary, Supervise};
use tourbillon::{
    CallError, Child, ChildEvent, ChildEvents, ChildOrder, ChildOrders, Client, Context, Engine, Handler, Happened,
    MailboxUsage, NoError, ParentOrder, Plain, State, Verdict, Watch, actor, system,
};
use tourbillon_crew::Worker;
use tourbillon_crew::worker::{Ends, Job, Spoilt};

use crate::Bench;
use crate::bench::client;

/// How long a test waits for the last letter.
pub const QUIET_TIME_MAX: Duration = Duration::from_secs(60);
/// The number that parents give their children.
pub const TOKEN: u32 = 0xabcdef;
/// A supervisor ...
pub const BOSS: u64 = 50;
/// ... the one above it ...
pub const TOP: u64 = 60;
/// ... and a worker that is another child of that.
pub const OUTSIDER: u64 = 70;

/// Gives orders as it is told, right or wrong, and remembers what it has heard.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, State)]
pub struct Parent {
    /// What it has heard, by the number of what happened.
    pub heard: [u32; 6],
    /// Failures that were told.
    pub failures: u32,
    /// Code of the last failure or refusal.
    pub code: u32,
    /// The number of the child of which it has heard last.
    pub token: u32,
    /// Orders that came from its own parent.
    pub orders: u32,
    /// How it takes what it is ordered.
    pub manner: Manner,
}

/// How a parent takes what it is ordered.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub enum Manner {
    /// It does at once what it is ordered.
    Does = 0,
    /// It panics at orders.
    Panics = 1,
    /// It says at orders that it has children already.
    Refuses = 2,
    /// It has not done yet what it is ordered.
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

/// Gives an order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Plain)]
pub struct Give {
    /// To whom.
    pub child: Child,
    /// The order's number.
    pub order: u32,
    /// The parent's number for the child.
    pub token: u32,
    /// How often.
    pub times: u32,
    /// Zero.
    pub reserved: u32,
}

/// What a parent hears of its children.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Plain)]
pub struct Heard(pub ChildEvent);
impl ChildEvents for Heard {}

/// What a parent is ordered by its own.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Plain)]
pub struct Told(pub ChildOrder);
impl ChildOrders for Told {}

/// Shows the parent.
#[repr(C)]
#[derive(Clone, Copy, Debug, Plain)]
pub struct Show {}

/// Says how the parent takes what it is ordered.
#[repr(C)]
#[derive(Clone, Copy, Debug, Plain)]
pub struct Be(pub Manner);

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
system! {
    /// Parents, workers and supervisors.
    pub struct House = [Parent, Worker, Supervisor];
}

/// The engine of a test, and a client.
#[derive(Debug)]
pub struct Home {
    /// The engine.
    pub engine: Engine,
    /// The client.
    pub client: Client,
}

impl Home {
    /// An engine of the bench's machine.
    pub fn new(bench: &Bench) -> Self {
        let builder = bench.builder_for(House::image()).actors_per_shard(256).mailbox_capacity(256);
        let engine = builder.build().unwrap();
        let client = client(&engine);
        Self { engine, client }
    }

    /// Waits for the last letter.
    pub fn quiet(&self) {
        self.engine.quiesce(QUIET_TIME_MAX).unwrap();
    }

    /// Lets a parent give an order so many times in one message, and waits for what comes of it.
    pub fn give(&mut self, parent: u64, order: ParentOrder, child: Child, times: u32) -> Parent {
        let give = Give { child, order: order as u32, token: TOKEN, times, reserved: 0 };
        self.client.call(parent, give).unwrap();
        self.quiet();
        self.shown(parent)
    }

    /// What a parent shows of itself.
    pub fn shown(&mut self, parent: u64) -> Parent {
        self.client.call(parent, Show {}).unwrap()
    }

    /// Says how a parent takes what it is ordered.
    pub fn be(&mut self, parent: u64, manner: Manner) {
        self.client.call(parent, Be(manner)).unwrap();
    }

    /// A child of a supervisor is started, and `quiet` is waited for.
    pub fn start(&mut self, boss: u64, child: Child) {
        self.client.call(boss, StartChild(child)).unwrap();
        self.quiet();
    }

    /// How the tree of a supervisor is.
    pub fn summary(&mut self, boss: u64) -> Summary {
        self.client.call(boss, Summarize {}).unwrap()
    }

    /// A worker fails with the typed error, which costs no machine a lane.
    pub fn errs(&mut self, worker: u64) {
        self.errs_with(worker, 1);
    }

    /// A worker fails with this code.
    pub fn errs_with(&mut self, worker: u64, code: u32) {
        let answer = self.client.call(worker, Job { ends: Ends::Error, code });
        assert_eq!(answer, Err(CallError::Handler(Spoilt { code })));
        self.quiet();
    }

    /// A tree of two levels: `BOSS` has these children, of whom parents have a worker of their own.
    pub fn crew(&mut self, strategy: Strategy, intensity: u32, children: &[Child]) {
        self.client.call(BOSS, Supervise::new(strategy, intensity, 3_600_000_000)).unwrap();
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
    pub fn finish(&mut self, parent: u64) {
        self.be(parent, Manner::Finishes);
        self.errs(own(parent));
    }

    /// A worker panics.
    pub fn panics(&mut self, worker: u64) {
        let answer = self.client.call(worker, Job::PANIC);
        assert!(matches!(answer, Err(CallError::Panicked { .. })), "{answer:?}");
        self.quiet();
    }

    /// Slots of answers that are taken, in all mailboxes.
    pub fn taken(&self) -> u64 {
        self.quiet();
        self.engine.pause().unwrap();
        let mailboxes = self.engine.mailboxes().unwrap();
        self.engine.resume().unwrap();
        let taken = |mailbox: &MailboxUsage| 128 - mailbox.answer_room;
        assert_eq!(mailboxes.iter().map(|mailbox| mailbox.waiting).sum::<u64>(), 0);
        mailboxes.iter().map(taken).sum()
    }
}

/// A worker of whose panics alone is heard.
pub fn worker(key: u64) -> Child {
    Child::of::<Worker>(key)
}

/// A worker of whose typed errors is heard.
pub fn watched(key: u64) -> Child {
    worker(key).watching(Watch::Errors)
}

/// The worker of a parent.
pub fn own(parent: u64) -> u64 {
    parent + 100
}

/// A parent that carries out orders itself.
pub fn parent(key: u64) -> Child {
    Child::supervisor::<Told>(key)
}

const PLACES: [Happened; 5] =
    [Happened::Started, Happened::Failed, Happened::Obeyed, Happened::Stopped, Happened::Refused];

/// How often a parent has heard of each.
pub fn times(parent: &Parent) -> [u32; 5] {
    assert_eq!(parent.heard[0], 0, "events of the engine are ones");
    PLACES.map(|what| parent.heard[what as usize])
}
