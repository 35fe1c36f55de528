//! Starts actors as its children, and decides what becomes of them when they fail.
//!
//! It is a list of children in the order in which they were started, and for each what is wanted of it and what it is. One step at a
//! time leads from the one to the other (module `tree`): an order to one child, whose answer leads to the next. So children are started and
//! restarted in their order, and stopped in reverse; a child that is a supervisor answers only when its own children are what they
//! should be.

mod tree;

use tourbillon_device::{
    Child, ChildEvent, ChildEvents, ChildOrder, ChildOrders, Context, Handler, Plain, PoolError, PoolVec, Refusal,
    State, Verdict, actor,
};

use tourbillon_device::shared::virtual_actors::KIND_MAX;

use tree::Then;

/// Most children of one supervisor: a set of them is one word. Whoever has more makes supervisors children of a supervisor.
pub const CHILDREN_MAX: usize = 64;
/// Most failures that may be let pass in a window: each has its time in the state.
pub const INTENSITY_MAX: u32 = 10;
/// Failures that a supervisor lets pass in a window, as long as nothing else is said; that of Erlang/OTP.
pub const INTENSITY_DEFAULT: u32 = 1;
/// The window, as long as nothing else is said, microseconds; that of Erlang/OTP.
pub const WINDOW_US_DEFAULT: u64 = 5_000_000;
/// Children in one [`Listing`], as many as a reply carries.
pub const LISTED_MAX: usize = 21;

/// Which children begin anew when one has failed.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Plain)]
pub enum Strategy {
    /// The one that failed.
    OneForOne = 0,
    /// All.
    OneForAll = 1,
    /// The one that failed, and those that were started after it.
    RestForOne = 2,
}

/// An actor with children.
#[repr(C)]
#[derive(Clone, Copy, Debug, State)]
pub struct Supervisor {
    /// The children, each at a place that it keeps.
    children: PoolVec<Child>,
    /// Places that are taken.
    used: u64,
    /// Children that run.
    live: u64,
    /// Children that should.
    wanted: u64,
    /// Children that are to begin anew.
    again: u64,
    /// Children that have failed and begun anew, and tell of no failure until they are told that they may go on, or were stopped.
    failed: u64,
    /// Children that are stopped, to be started again with the tree.
    kept: u64,
    /// Children that are to stop, though they are wanted: they are started when they have.
    ending: u64,
    /// When the last failures were, microseconds since 2020.
    failures_us: [u64; INTENSITY_MAX as usize],
    /// In what time no more than `intensity` failures may be, microseconds.
    window_us: u64,
    /// The child that was refused last, ...
    refused: Child,
    /// Failures of children.
    failures: u32,
    /// How often there were too many.
    escalations: u32,
    /// Places of the children in the order in which they were started.
    order: [u8; CHILDREN_MAX],
    /// How many are in it.
    count: u8,
    /// How many failures are noted.
    noted: u8,
    /// Failures that are let pass in the window.
    intensity: u8,
    /// The order that waits for its answer, 0 for none, ...
    open: u8,
    /// ... and the place of the child that got it.
    open_to: u8,
    /// ... why, as a [`Refusal`]; 0 for none.
    refusal: u8,
    strategy: Strategy,
    then: Then,
}

/// Says how failures are met. It holds for those that come later.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Supervise {
    /// In what time no more than `intensity` failures may be, microseconds of the engine's clock.
    pub window_us: u64,
    /// Failures that are let pass in that time, 1 to [`INTENSITY_MAX`]. With one more the supervisor stops all children, and has failed
    /// itself.
    pub intensity: u32,
    /// Who begins anew.
    pub strategy: Strategy,
    /// Zero.
    pub reserved: [u8; 3],
}

impl Supervise {
    /// A strategy that lets `intensity` failures in `window_us` microseconds pass.
    pub const fn new(strategy: Strategy, intensity: u32, window_us: u64) -> Self {
        Self { window_us, intensity, strategy, reserved: [0; 3] }
    }
}

/// Starts a child behind all others. The reply says that it will be; [`StateOf`] says when it is, or why not.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct StartChild(pub Child);

/// Stops a child, and forgets it. The reply says that it will be.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct StopChild(pub Child);

/// Stops all children, the last one first, each with its own children before it. The reply says that they will be.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct StopTree {}

/// Starts the children again that were stopped together, in their order. The reply says that they will be.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct StartTree {}

/// Shows children in the order in which they were started, from one on.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Children {
    /// The first one, from 0 on.
    pub from: u32,
}

/// Children of a supervisor.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Listing {
    /// How many there are in all.
    pub total: u32,
    /// How many are here.
    pub listed: u32,
    /// Those, and zero behind them.
    pub children: [Child; LISTED_MAX],
}

/// Says what a child is at.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct StateOf(pub Child);

/// What a child is at.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub enum Standing {
    /// It is being started.
    Starting = 0,
    /// It runs.
    Running = 1,
    /// It is to begin anew, or has done so and is not counted as running yet.
    Restarting = 2,
    /// It is being stopped.
    Stopping = 3,
    /// It was stopped with the others, and is started again with them.
    Stopped = 4,
}

/// Says how the whole tree is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Summarize {}

/// How a tree is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Summary {
    /// Children, stopped ones included.
    pub children: u32,
    /// Of those, how many run.
    pub running: u32,
    /// Failures of children since the supervisor began.
    pub failures: u32,
    /// How often there were more than it lets pass, so that it stopped all children.
    pub escalations: u32,
    /// 1 when all children are what they should be, 0 when something is under way.
    pub is_settled: u32,
}

/// What it hears of its children, from the engine alone.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct News(ChildEvent);
impl ChildEvents for News {}

/// What its own parent orders, from the engine alone.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Ordered(ChildOrder);
impl ChildOrders for Ordered {}

/// Why a supervisor does not do what it is asked.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Plain)]
pub enum SupervisorError {
    /// No failure at all would be let pass.
    IntensityZero = 0,
    /// It does not count so many failures.
    IntensityTooHigh = 1,
    /// The window is empty.
    WindowZero = 2,
    /// It has as many children as it may.
    TooManyChildren = 3,
    /// It is no child of its own.
    Itself = 4,
    /// The actor is its child already.
    AlreadyIts = 5,
    /// The actor is another one's child.
    AlreadyChild = 6,
    /// The actor has not declared that it may be supervised, or there is no such kind.
    Undeclared = 7,
    /// The supervisor has children already, so that it might come to stand above itself.
    HasChildren = 8,
    /// There is no room for the actor in its shard.
    NoPlace = 9,
    /// It is none of its children.
    UnknownChild = 10,
    /// The shard's pool has no page for one more child.
    NoRoom = 11,
    /// The handler of the child, a supervisor, failed at the order.
    HandlerFailed = 12,
}

impl core::fmt::Display for SupervisorError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::IntensityZero => "an intensity of 0 lets no failure pass: use 1 to 10",
            Self::IntensityTooHigh => "an intensity above 10 is not counted: use 1 to 10, and a shorter window",
            Self::WindowZero => "no failure lies in a window of 0 microseconds: give it a length",
            Self::TooManyChildren => {
                "the supervisor has 64 children: make supervisors its children, and start them there"
            }
            Self::Itself => "a supervisor is no child of its own: start it below another one",
            Self::AlreadyIts => "the actor is a child of this supervisor already",
            Self::AlreadyChild => "the actor is a child of another supervisor: stop it there first",
            Self::Undeclared => {
                "the actor may not be supervised: declare `supervised: true` in its `actor!`, and list it"
            }
            Self::HasChildren => "the supervisor has children: start it below another one before it gets any",
            Self::NoPlace => {
                "there is no room for the actor in its shard: raise `actors_per_shard`, or look at the store"
            }
            Self::UnknownChild => "the actor is no child of this supervisor",
            Self::NoRoom => "the shard's pool has no page for one more child: raise `pool_bytes_per_shard`",
            Self::HandlerFailed => "the handler of the child for orders failed",
        })
    }
}

impl core::error::Error for SupervisorError {}

/// The engine answers with the pool's failure in place of this value.
impl From<PoolError> for SupervisorError {
    fn from(_: PoolError) -> Self {
        Self::NoRoom
    }
}

impl From<Refusal> for SupervisorError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::AlreadyChild => Self::AlreadyChild,
            Refusal::Undeclared => Self::Undeclared,
            Refusal::HasChildren => Self::HasChildren,
            Refusal::NoPlace => Self::NoPlace,
            Refusal::NotYours => Self::UnknownChild,
            Refusal::HandlerFailed | Refusal::Busy | Refusal::NoRoom => Self::HandlerFailed,
        }
    }
}

impl Supervisor {
    /// A supervisor as the child of another one.
    pub const fn child(key: u64) -> Child {
        Child::supervisor::<Ordered>(key)
    }

    fn new(_key: u64) -> Self {
        Self {
            children: PoolVec::new(),
            used: 0,
            live: 0,
            wanted: 0,
            again: 0,
            failed: 0,
            kept: 0,
            ending: 0,
            failures_us: [0; INTENSITY_MAX as usize],
            window_us: WINDOW_US_DEFAULT,
            refused: Child::default(),
            failures: 0,
            escalations: 0,
            order: [0; CHILDREN_MAX],
            count: 0,
            noted: 0,
            intensity: INTENSITY_DEFAULT as u8,
            open: 0,
            open_to: 0,
            refusal: 0,
            strategy: Strategy::OneForOne,
            then: Then::Nothing,
        }
    }
}

impl Handler<Supervise> for Supervisor {
    type Reply = ();

    fn handle(&mut self, say: &Supervise, _context: &mut Context) -> Result<(), SupervisorError> {
        if say.intensity == 0 {
            return Err(SupervisorError::IntensityZero);
        }
        if say.intensity > INTENSITY_MAX {
            return Err(SupervisorError::IntensityTooHigh);
        }
        if say.window_us == 0 {
            return Err(SupervisorError::WindowZero);
        }
        (self.strategy, self.intensity, self.window_us) = (say.strategy, say.intensity as u8, say.window_us);
        // Those that were noted are more than may be now, maybe.
        self.noted = 0;
        Ok(())
    }
}

impl Handler<StartChild> for Supervisor {
    type Reply = ();

    fn handle(&mut self, start: &StartChild, context: &mut Context) -> Result<(), SupervisorError> {
        let child = start.0;
        if child.kind() == <Self as tourbillon_device::Actor>::KIND && child.key() == context.key() {
            return Err(SupervisorError::Itself);
        }
        if child.kind() == 0 || child.kind() > KIND_MAX {
            return Err(SupervisorError::Undeclared);
        }
        self.add(child, context)?;
        self.step(context)?;
        Ok(())
    }
}

impl Handler<StopChild> for Supervisor {
    type Reply = ();

    fn handle(&mut self, stop: &StopChild, context: &mut Context) -> Result<(), SupervisorError> {
        let place = self.place_of(&stop.0, context)?.ok_or(SupervisorError::UnknownChild)?;
        self.let_go(place);
        self.step(context)?;
        Ok(())
    }
}

impl Handler<StopTree> for Supervisor {
    type Reply = ();

    fn handle(&mut self, _stop: &StopTree, context: &mut Context) -> Result<(), SupervisorError> {
        self.stop_all();
        self.step(context)?;
        Ok(())
    }
}

impl Handler<StartTree> for Supervisor {
    type Reply = ();

    fn handle(&mut self, _start: &StartTree, context: &mut Context) -> Result<(), SupervisorError> {
        self.start_all();
        self.step(context)?;
        Ok(())
    }
}

impl Handler<Children> for Supervisor {
    type Reply = Listing;

    fn handle(&mut self, message: &Children, context: &mut Context) -> Result<Listing, SupervisorError> {
        let mut listing = Listing { total: self.count.into(), listed: 0, children: [Child::default(); LISTED_MAX] };
        let from = (message.from as usize).min(CHILDREN_MAX);
        for (listed, place) in listing.children.iter_mut().zip(self.order.iter().take(self.count.into()).skip(from)) {
            *listed = self.child_at((*place).into(), context)?;
            listing.listed += 1;
        }
        Ok(listing)
    }
}

impl Handler<StateOf> for Supervisor {
    type Reply = Standing;

    fn handle(&mut self, message: &StateOf, context: &mut Context) -> Result<Standing, SupervisorError> {
        match self.place_of(&message.0, context)? {
            Some(place) => Ok(self.standing(place)),
            None if self.refused.is_same(&message.0) => {
                Err(Refusal::from_number(self.refusal).map_or(SupervisorError::UnknownChild, SupervisorError::from))
            }
            None => Err(SupervisorError::UnknownChild),
        }
    }
}

impl Handler<Summarize> for Supervisor {
    type Reply = Summary;

    fn handle(&mut self, _message: &Summarize, _context: &mut Context) -> Result<Summary, SupervisorError> {
        Ok(Summary {
            children: self.count.into(),
            running: self.live.count_ones(),
            failures: self.failures,
            escalations: self.escalations,
            is_settled: u32::from(self.is_settled()),
        })
    }
}

impl Handler<News> for Supervisor {
    type Reply = Verdict;

    fn handle(&mut self, news: &News, context: &mut Context) -> Result<Verdict, SupervisorError> {
        self.hear(&news.0, context)?;
        self.step(context)
    }
}

impl Handler<Ordered> for Supervisor {
    type Reply = Verdict;

    fn handle(&mut self, ordered: &Ordered, context: &mut Context) -> Result<Verdict, SupervisorError> {
        if !self.take_order(&ordered.0) {
            return Ok(Verdict::HasChildren);
        }
        self.step(context)
    }
}

actor!(Supervisor {
    kind: 14,
    pools: true,
    letters: true,
    supervised: true,
    error: SupervisorError,
    messages: {
        #[outlined] 0: Supervise, #[outlined] 1: StartChild, #[outlined] 2: StopChild, #[outlined] 3: StopTree,
        #[outlined] 4: StartTree, #[outlined] 5: Children, #[outlined] 6: StateOf, #[outlined] 7: Summarize,
        #[outlined] 8: News, #[outlined] 9: Ordered,
    },
    activate: Supervisor::new,
});
