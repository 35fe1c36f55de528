//! The engine for async code: thousands of tasks that share a few lanes.
//!
//! ```
//! use tourbillon::actors::counter::Add;
//! use tourbillon::{Backend, Engine};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let engine = Engine::builder().backend(Backend::Cpu).build()?;
//! let gateway = engine.gateway()?;
//! gateway.tell(7, Add { amount: 5, sender: 0, sequence: 1 }).await?;
//! let reply = gateway.ask(7, Add { amount: 1, sender: 0, sequence: 2 }).await?;
//! assert_eq!((reply.previous, reply.last_sequence), (5, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Protocol
//! ```text
//!  task: ask().await                         reaper thread
//!  +--------------------+                    +---------------------------+
//!  | lane's lock:       | -- staging queue ->| publishes what is staged  |
//!  |  room? publish     | == request ring ==>|          (device)         |
//!  |  else stage        |                    | takes replies <== reply   |
//!  | poll: reply there? | <---- waker ------ | ends waits       ring     |
//!  +--------------------+                    +---------------------------+
//! ```
//!
//! - A key always goes to the same lane, so what one task sends to one actor is executed in the order in which its
//!   futures were first polled; so it is for all tasks whose polls are ordered. More is not promised.
//! - A task publishes by itself while there is room and nobody is before it. Else its request is staged, in the order of
//!   arrival, and the [`Backpressure`] decides when the staging queue is full.
//! - Everything that waits has a place in a pool with a bound, which holds its request and then its reply. Nothing else is
//!   allocated for a request without a large payload.
//! - A large payload goes by way of the lane's arena ([`Gateway::ask_large`]). Its request passes through the staging queue in any
//!   case: when it is the first there, a block is reserved, the payload is copied, and the request is published.
//!   Nothing that was staged after it goes before it, whether it waits for the block, for the copy or for the ring.
//! - A request that is published is executed, whoever waits. When its future is dropped or its time is over, its slots are used again
//!   only when its reply has come.
//! - Locks are held for as long as it takes to look at [`LOOKS_PER_HOLD`] slots, publish what the ring has room for, or copy one frame;
//!   never while anybody waits, nor while a large payload is copied. While the reaper copies, other lanes wait for it: for one
//!   payload of a request and less than 2 MiB of replies at a time, some tenths of a millisecond.
//!
//! The futures need no runtime of a certain make: time limits are the reaper's, so they work in any executor, and a program
//! without the feature `async` has nothing of this.

mod ask;
mod ask_large;
mod ask_with;
mod copying;
mod counts;
mod flights;
mod lane;
mod reaper;
mod spin;
mod waiters;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use tourbillon_device::Message;
use tourbillon_shared::header::Flags;
use tourbillon_shared::lane::LANES_MAX;

pub use ask::{Ask, KeyedMessage, Tell};
pub use ask_large::{AskLarge, TellLarge};
pub use ask_with::{AskWith, TellWith};
pub use counts::{GatewayCounts, GatewayUsage};
pub use spin::SPIN_MAX;

use crate::arena::{Arena, ArenaMemory};
use crate::backpressure::Backpressure;
use crate::call_error::SendError;
use crate::client::TIMEOUT_DEFAULT;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::keys::Key;
use crate::lane_end::LaneEnd;
use crate::shared::Shared;
use crate::staging::{STAGING_DEFAULT, check_bound};
use copying::Copies;
use lane::{Begun, LaneState, Request, Wakes};
use reaper::{Bell, Round};
use waiters::Failure;

/// Lanes of a gateway unless told otherwise, and unless that is more than a quarter of the engine's: as many as a GPU has gates by
/// default.
pub const GATEWAY_LANES_DEFAULT: u32 = 4;
/// Most that may wait at a time in one lane unless told otherwise; the places for them take 8 MiB once they were all used.
pub const WAITING_DEFAULT: u32 = 16_384;
/// Most that may be told: places are numbered with 32 bits, and a thousand million bytes is no reasonable pool.
pub const WAITING_MAX: u32 = 1 << 21;
/// Requests in flight that the reaper looks at before it lets others at the lane: a few microseconds.
pub const LOOKS_PER_HOLD: usize = 128;

/// Asks and tells as futures. Cheap to clone; all clones share lanes, bounds and counts.
///
/// Made by [`Engine::gateway`] or [`Gateway::builder`]. It holds lanes of the engine, as clients do, until
/// [`shutdown`](Self::shutdown) or until the last clone and the last future are gone. It may outlive its engine; everything then
/// ends with an error.
#[derive(Clone)]
pub struct Gateway {
    core: Arc<Core>,
}

/// Tells a gateway what it shall be. Made by [`Gateway::builder`].
#[derive(Debug)]
#[must_use = "a gateway is built by `build`"]
pub struct GatewayBuilder<'e> {
    engine: &'e Engine,
    lanes: Option<u32>,
    urgent_lanes: u32,
    strategy: Backpressure,
    staging: u32,
    waiting: u32,
    timeout: Option<Duration>,
    spin: Duration,
}

/// What clones and futures share: shuts the gateway down when the last of them goes.
pub(crate) struct Core {
    inner: Arc<Inner>,
}

/// What the reaper shares with them.
struct Inner {
    shared: Arc<Shared>,
    /// First those of ordinary messages, then those of urgent ones.
    lanes: Box<[PaddedLane]>,
    /// How many are of the first sort.
    ordinary: u32,
    bell: Bell,
    timeout: Option<Duration>,
    /// How long the poll that sends a request looks for its reply.
    spin: Duration,
    /// Moments are counted from here.
    began: Instant,
}

/// Tasks on one lane do not disturb those on another.
#[repr(align(128))]
struct PaddedLane {
    state: Mutex<LaneState>,
    /// The bytes of its arena, which are copied without the lock.
    memory: ArenaMemory,
}

impl Gateway {
    /// A builder for a gateway to `engine`.
    pub fn builder(engine: &Engine) -> GatewayBuilder<'_> {
        GatewayBuilder {
            engine,
            lanes: None,
            urgent_lanes: 0,
            strategy: Backpressure::Block { timeout: TIMEOUT_DEFAULT },
            staging: STAGING_DEFAULT,
            waiting: WAITING_DEFAULT,
            timeout: Some(TIMEOUT_DEFAULT),
            spin: Duration::ZERO,
        }
    }

    /// Sends `message` to the actor `key`; a future of the reply. Nothing is sent before it is polled.
    ///
    /// Dropping the future gives the request up: it is taken back while it is staged; once published it is executed, and its reply is
    /// thrown away.
    pub fn ask<M: Message>(&self, key: impl Into<Key>, message: M) -> Ask<M> {
        Ask::new(Arc::clone(&self.core), key.into(), message, self.core.inner.timeout)
    }

    /// Sends `message` to the actor `key`; a future that is ready when the message is published. Nothing is sent before it is polled.
    ///
    /// The acknowledgement is counted later ([`counts`](Self::counts)). Dropping the future takes the message back unless it is
    /// published.
    pub fn tell<M: Message>(&self, key: impl Into<Key>, message: M) -> Tell<M> {
        Tell::new(Arc::clone(&self.core), key.into(), message, self.core.inner.timeout)
    }

    /// Ends all waits with [`CallError::GatewayClosed`](crate::CallError::GatewayClosed), refuses everything from now on and gives the
    /// lanes back, each when the replies to what is published there have come. At once, without waiting for anything; a
    /// second call does nothing.
    pub fn shutdown(&self) {
        self.core.inner.close();
    }

    /// What became of all requests so far.
    pub fn counts(&self) -> GatewayCounts {
        self.core.inner.lanes.iter().fold(GatewayCounts::default(), |sum, lane| sum.plus(&lane.lock().counts()))
    }

    /// What is held right now. Exact for each lane, whose figures are of one moment.
    pub fn usage(&self) -> GatewayUsage {
        self.core.inner.lanes.iter().fold(GatewayUsage::default(), |sum, lane| sum.plus(&lane.lock().usage()))
    }

    /// Whether it was shut down.
    pub fn is_closed(&self) -> bool {
        self.core.inner.bell.is_closed()
    }

    /// How many lanes it holds, those of urgent messages included.
    pub fn lanes(&self) -> u32 {
        self.core.inner.lanes.len() as u32
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("lanes", &self.lanes()).field("timeout", &self.core.inner.timeout).finish()
    }
}

impl GatewayBuilder<'_> {
    /// Lanes, 1 to [`LANES_MAX`], which must be free. Without: as many as are free of a quarter of the engine's, at most
    /// [`GATEWAY_LANES_DEFAULT`] and at least one.
    pub fn lanes(mut self, lanes: u32) -> Self {
        self.lanes = Some(lanes);
        self
    }

    /// Lanes for urgent messages ([`Options::urgent`](crate::Options::urgent)), up to [`LANES_MAX`], beside the others; none without, and
    /// then urgent messages are refused with [`CallError::NoUrgentLane`](crate::CallError::NoUrgentLane).
    pub fn urgent_lanes(mut self, lanes: u32) -> Self {
        self.urgent_lanes = lanes;
        self
    }

    /// What happens when a ring and its staging queue are full; [`Backpressure::Block`] for [`TIMEOUT_DEFAULT`] without.
    pub fn backpressure(mut self, strategy: Backpressure) -> Self {
        self.strategy = strategy;
        self
    }

    /// Requests that may be staged in front of each lane, 1 to [`STAGING_MAX`](crate::staging::STAGING_MAX);
    /// [`STAGING_DEFAULT`] without.
    pub fn staging(mut self, requests: u32) -> Self {
        self.staging = requests;
        self
    }

    /// Asks and tells that may wait at a time in each lane, blocked, staged and published ones together, 1 to [`WAITING_MAX`];
    /// [`WAITING_DEFAULT`] without. What is past it gets [`CallError::TooManyWaiting`](crate::CallError::TooManyWaiting) at once.
    pub fn waiting(mut self, requests: u32) -> Self {
        self.waiting = requests;
        self
    }

    /// How long an ask waits for its reply, and a tell for being published, counted from the first poll; without a limit for `None`.
    /// [`TIMEOUT_DEFAULT`] without a call of this.
    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long the poll that sends an ask looks for its reply before it lets the task sleep; up to [`SPIN_MAX`]. Not at all without.
    ///
    /// A few microseconds save a program with few requests at a time the wake-up of its task, which takes longer than the reply. The
    /// thread of the executor does nothing else meanwhile: with many tasks that is the wrong trade. Large payloads and tells do not
    /// spin; but where others ask with large payloads, such a poll may copy some of their replies, as the reaper does.
    pub fn spin(mut self, time: Duration) -> Self {
        self.spin = time;
        self
    }

    /// Takes the lanes and starts the reaper.
    ///
    /// # Errors
    /// [`EngineError::OutOfBounds`], [`EngineError::NoFreeLane`], [`EngineError::Stopped`], [`EngineError::Io`] when there is no
    /// thread.
    pub fn build(self) -> Result<Gateway, EngineError> {
        check_bound(self.staging)?;
        EngineError::check_bounds("the number of those who may wait", self.waiting, 1, WAITING_MAX)?;
        let spin_us = u32::try_from(self.spin.as_nanos().div_ceil(1_000)).unwrap_or(u32::MAX);
        EngineError::check_bounds("a gateway's spinning in microseconds", spin_us, 0, SPIN_MAX.as_micros() as u32)?;
        EngineError::check_bounds("the gateway's number of lanes", self.lanes.unwrap_or(1), 1, LANES_MAX)?;
        EngineError::check_bounds(
            "the gateway's number of lanes for urgent messages",
            self.urgent_lanes,
            0,
            LANES_MAX,
        )?;
        let shared = self.engine.shared();
        if !shared.status.is_open() {
            return Err(shared.stopped());
        }
        let mut ends = Vec::new();
        let most = self.lanes.unwrap_or((shared.geometry.lanes / 4).clamp(1, GATEWAY_LANES_DEFAULT));
        let urgent = self.urgent_lanes as usize;
        while ends.len() < urgent + most as usize {
            match shared.lanes.take(&shared.control) {
                Ok(lane) => ends.push(LaneEnd::new(lane, shared.doorbell.clone())),
                Err(_) if self.lanes.is_none() && ends.len() > urgent => break,
                Err(error) => {
                    for end in ends {
                        shared.lanes.give_back(end.lane(), Default::default(), &shared.control);
                    }
                    return Err(error);
                }
            }
        }
        shared.ring();
        let lane = |end: LaneEnd| {
            let Arena { blocks, memory } = end.arena();
            let state = LaneState::new(end, blocks, self.strategy, self.staging, self.waiting);
            PaddedLane { state: Mutex::new(state), memory }
        };
        let inner = Arc::new(Inner {
            shared: Arc::clone(shared),
            ordinary: ends.len() as u32 - self.urgent_lanes,
            lanes: ends.into_iter().map(lane).collect(),
            bell: Bell::default(),
            timeout: self.timeout,
            spin: self.spin,
            began: Instant::now(),
        });
        // From here on dropping it gives the lanes back.
        let core = Core { inner };
        let inner = Arc::clone(&core.inner);
        std::thread::Builder::new()
            .name("tourbillon-reaper".into())
            .spawn(move || reaper::run(&inner))
            .map_err(|source| EngineError::Io { what: "starting the reaper of a gateway", source })?;
        Ok(Gateway { core: Arc::new(core) })
    }
}

impl PaddedLane {
    fn lock(&self) -> MutexGuard<'_, LaneState> {
        // What may panic below the lock is a message's own check of its bits, after the state was put in order.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Whether there are lanes for urgent messages.
    fn has_urgent(&self) -> bool {
        self.lanes.len() > self.ordinary as usize
    }

    /// The lane of a key, for messages of either priority; urgent ones come only where there are lanes for them.
    fn lane_of(&self, key: u64, is_urgent: bool) -> u32 {
        let (first, lanes) = match is_urgent {
            true => (self.ordinary, self.lanes.len() as u32 - self.ordinary),
            false => (0, self.ordinary),
        };
        // The upper half of a product with an odd number depends on all bits of the key.
        let mixed = (key ^ key >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        first + ((mixed * u64::from(lanes)) >> 32) as u32
    }

    /// Looks at every lane once: takes replies, publishes what is staged, ends what is to end.
    fn round(&self, copies: &mut Copies, wakes: &mut Wakes) -> Round {
        let mut round = Round::default();
        // Before the looks: what came before the engine ended is seen by them.
        let (is_ended, is_open) = (self.shared.status.is_ended(), self.shared.status.is_open());
        let now = self.now();
        for lane in &self.lanes {
            let mut left = usize::MAX;
            while left > 0 {
                let mut state = lane.lock();
                if state.is_closed() {
                    break;
                }
                left = left.min(state.flights());
                round.has_moved |= state.look(LOOKS_PER_HOLD, copies, wakes);
                left = left.saturating_sub(LOOKS_PER_HOLD);
                if is_open {
                    round.has_moved |= state.publish_staged(wakes);
                    state.next_write(None, copies);
                } else {
                    state.end_staged(Failure::Stopped, wakes);
                }
                if left == 0 {
                    round.has_moved |= state.expire(now, wakes);
                    if is_ended {
                        state.end_all(Failure::Stopped, wakes);
                    }
                    round.is_busy |= !state.is_idle();
                }
                drop(state);
                wakes.wake_all();
                round.has_moved |= self.copy(lane, copies, wakes);
            }
        }
        round
    }

    /// Copies large payloads without the lane's lock, and publishes what waited for that; whether there were any.
    fn copy(&self, lane: &PaddedLane, copies: &mut Copies, wakes: &mut Wakes) -> bool {
        if copies.is_empty() {
            return false;
        }
        copies.run(&lane.memory);
        let is_open = self.shared.status.is_open();
        let mut state = lane.lock();
        if let Some(pending) = state.finish_copies(copies, wakes) {
            self.shared.lanes.give_back(state.lane(), pending, &self.shared.control);
        } else if is_open {
            state.publish_staged(wakes);
        }
        drop(state);
        wakes.wake_all();
        true
    }

    fn close(&self) {
        let mut wakes = Wakes::default();
        for lane in &self.lanes {
            let mut state = lane.lock();
            if let Some(pending) = state.close(&mut wakes) {
                self.shared.lanes.give_back(state.lane(), pending, &self.shared.control);
            }
            drop(state);
            wakes.wake_all();
        }
        self.bell.close();
    }
}

impl Core {
    /// Begins a request; its lane and how it began.
    fn begin(&self, request: Request<'_>, waker: &Waker) -> (u32, Begun) {
        let inner = &*self.inner;
        let lane = inner.lane_of(request.header.key, request.header.flags.has(Flags::URGENT));
        let (mut copies, mut wakes) = (Copies::default(), Wakes::default());
        let is_large = request.large.is_some();
        let is_open = inner.shared.status.is_open();
        let begun = {
            let mut state = inner.lanes[lane as usize].lock();
            let begun = match is_open || state.is_closed() {
                true => state.begin(request, inner.now(), waker, &mut wakes),
                false => Begun::Failed(Failure::Stopped),
            };
            if let (true, Begun::Waiting(index)) = (is_large, begun) {
                state.next_write(Some(index), &mut copies);
            }
            begun
        };
        wakes.wake_all();
        inner.copy(&inner.lanes[lane as usize], &mut copies, &mut wakes);
        inner.bell.ring();
        (lane, begun)
    }

    /// See [`LaneState::poll`].
    fn poll<T>(
        &self,
        place: Place,
        waker: &Waker,
        read: impl FnOnce(&[u32], Option<Vec<u8>>) -> T,
    ) -> Option<Result<T, Failure>> {
        let mut wakes = Wakes::default();
        let polled = self.inner.lanes[place.lane as usize].lock().poll(place.waiter, waker, &mut wakes, read);
        wakes.wake_all();
        polled
    }

    /// See [`LaneState::cancel`].
    fn cancel(&self, place: Place) {
        let mut wakes = Wakes::default();
        self.inner.lanes[place.lane as usize].lock().cancel(place.waiter, &mut wakes);
        // What was behind it may have room now.
        self.inner.bell.ring();
        wakes.wake_all();
    }

    /// The error of a request that has no reply.
    fn error(&self, failure: Failure) -> SendError {
        match failure {
            Failure::Timeout(after) => SendError::Timeout { after },
            Failure::Rejected => SendError::Rejected,
            Failure::Dropped => SendError::Dropped,
            Failure::DroppedNewest => SendError::DroppedNewest,
            Failure::TooMany(limit) => SendError::TooManyWaiting { limit },
            Failure::Stopped => SendError::EngineStopped { reason: self.inner.shared.status.reason() },
            Failure::Closed => SendError::GatewayClosed,
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.inner.close();
    }
}

/// Where a future waits.
#[derive(Clone, Copy, Debug)]
struct Place {
    lane: u32,
    waiter: u32,
}
