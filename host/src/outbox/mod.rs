//! What actors send to a client without being asked: *notices*.
//!
//! ```
//! use tourbillon::actors::herald::{Announce, News, Subscribe};
//! use tourbillon::{Backend, Engine, OutboxPolicy};
//!
//! let engine = Engine::builder().backend(Backend::Cpu).build()?;
//! let mut client = engine.client()?;
//! let mut outbox = client.outbox(OutboxPolicy::Drop)?;
//! client.call(7, Subscribe { subscriber: outbox.address() })?;
//! client.call(7, Announce { word: 42 })?;
//! let received = outbox.next().expect("the engine runs");
//! assert_eq!((received.key(), received.decode::<News>().map(|news| news.word)), (7, Some(42)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Protocol
//! The ring's is in [`tourbillon_shared::outbox`]. On this side one handle at a time reads a lane's outbox: it takes the frame at its
//! position when all of it has come, copies it, stores how far it has read, with Release, and throws away what was for an earlier
//! holder. Nothing that it does or leaves undone stops the device: without room a notice is dropped and counted, or the message
//! that posts it fails, as the reader chose when it opened the outbox.
//!
//! A lane is given to another client only when its outbox is closed, so the reader's words have one writer.

#[cfg(feature = "async")]
mod stream;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tourbillon_device::arch::ordering;
use tourbillon_device::{Actor, Notice, Subscriber};
use tourbillon_shared::frame::{FRAME_WORDS_MAX, PAYLOAD_BYTES_MAX, decode_payload};
use tourbillon_shared::header::Header;
use tourbillon_shared::outbox::{Credit, LaneNotices, LaneOutbox, Owner, is_notice_for, notice_number, read_frame};
use tourbillon_shared::position::RingShape;
use tourbillon_shared::virtual_actors::{kind_of, space_of};

#[cfg(feature = "async")]
pub use stream::OutboxStream;
pub use tourbillon_shared::outbox::{NOTICES_MAX, OutboxPolicy};

use crate::client::Client;
use crate::error::EngineError;
use crate::keys::Key;
use crate::lane::Lane;
use crate::shared::{Shared, TRANSITION_TIME_MAX};
use crate::wait::{Next, WaitStrategy, Waiter};

/// Pause between two looks at whether the device knows of an outbox.
const LOOK_PERIOD: Duration = Duration::from_micros(50);

/// Why there is no notice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// None came in time.
    #[error("no notice within {after:?}")]
    Timeout {
        /// How long was waited.
        after: Duration,
    },
    /// The engine stopped, was dropped or failed, and everything that it sent was read.
    #[error("the engine no longer serves ({reason}), and every notice was read")]
    EngineStopped {
        /// Why.
        reason: Arc<str>,
    },
}

/// What became of notices since an outbox was opened.
///
/// `received` and `discarded` are of this moment. The others are the device's, as of its last look: some milliseconds old while the
/// engine runs, exact once it is stopped. Then `posted` is `received` and what is still in the ring, but for notices to an earlier holder
/// that were on their way when the outbox was opened: those may be in `posted`, and are `discarded`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxCounts {
    /// Notices that were read.
    pub received: u64,
    /// Frames that were for earlier holders of the lane, and thrown away.
    pub discarded: u64,
    /// Notices that were sent.
    pub posted: u64,
    /// Notices that were dropped for want of room.
    pub dropped: u64,
    /// Messages that failed because this outbox had no room for what they would have posted.
    pub refused: u64,
    /// Notices that were dropped because they were for earlier holders of the lane.
    pub strayed: u64,
}

/// A notice as it came: a copy of its own.
#[derive(Clone, Copy)]
pub struct Received {
    header: Header,
    payload: [u8; PAYLOAD_BYTES_MAX],
}

impl Received {
    fn new(header: Header, words: &[u32; FRAME_WORDS_MAX]) -> Self {
        let mut payload = [0; PAYLOAD_BYTES_MAX];
        decode_payload(&header, words, &mut payload);
        Self { header, payload }
    }

    /// The key with this number of an actor of this kind word.
    pub(crate) fn key_of(kind_word: u16, number: u64) -> Key {
        Key::in_space(space_of(kind_word), number)
    }

    /// Kind word of the actor that posted it.
    pub(crate) fn kind_word(&self) -> u16 {
        self.header.kind
    }

    /// Kind of the actor that posted it.
    pub fn kind(&self) -> u16 {
        kind_of(self.header.kind)
    }

    /// Key of the actor that posted it, as its handlers see it: [`Key::number`].
    pub fn key(&self) -> u64 {
        self.header.key
    }

    /// Key of the actor that posted it, to send to it or to ask for its name ([`Engine::name_of`](crate::Engine::name_of)).
    pub fn sender(&self) -> Key {
        Self::key_of(self.header.kind, self.header.key)
    }

    /// Whether an actor `A` posted it.
    pub fn is_from<A: Actor>(&self) -> bool {
        self.kind() == A::KIND
    }

    /// [`Notice::NUMBER`] of its type.
    pub fn number(&self) -> u16 {
        notice_number(&self.header)
    }

    /// Timestamp ([`tourbillon_shared::hlc`]) of the message whose handler posted it. The client's clock knows of it only when
    /// [`Client::observe`](crate::Client::observe) was told.
    pub fn hlc(&self) -> u64 {
        self.header.hlc
    }

    /// Its bytes.
    pub fn payload(&self) -> &[u8] {
        self.payload.get(..usize::from(self.header.length)).unwrap_or_default()
    }

    /// The notice, if it is one of type `N`.
    pub fn decode<N: Notice>(&self) -> Option<N> {
        if self.number() == N::NUMBER { N::from_bytes(self.payload()) } else { None }
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("kind", &self.kind())
            .field("key", &self.key())
            .field("number", &self.number())
            .field("hlc", &self.hlc())
            .field("payload", &self.payload())
            .finish()
    }
}

/// Reads the notices that actors post to one client. Made by [`Client::outbox`](crate::Client::outbox); closed when it is dropped.
///
/// As an iterator it waits for the next notice, and ends when the engine has stopped and everything was read.
#[derive(Debug)]
pub struct Outbox {
    lane: Arc<Lane>,
    shared: Arc<Shared>,
    shape: RingShape,
    /// The next frame; everything before it may be overwritten.
    position: u64,
    owner: Owner,
    /// The device's counts when it learned of this outbox.
    before: LaneNotices,
    received: u64,
    discarded: u64,
    strategy: WaitStrategy,
    /// Slots read since a thread of the device was last woken for them.
    unrung: u64,
}

impl Outbox {
    /// Opens the outbox of a lane whose holder asks for it.
    pub(crate) fn open(
        lane: Arc<Lane>,
        shared: Arc<Shared>,
        policy: OutboxPolicy,
        strategy: WaitStrategy,
    ) -> Result<Self, EngineError> {
        Self::open_as(lane, shared, policy, strategy, |owner| owner)
    }

    /// Opens the outbox of a client as the one to which messages for host actors are handed.
    pub(crate) fn open_for_hosts(
        client: &Client,
        policy: OutboxPolicy,
        strategy: WaitStrategy,
    ) -> Result<Self, EngineError> {
        let (lane, shared) = (client.port.shared_lane(), Arc::clone(&client.shared));
        Self::open_as(lane, shared, policy, strategy, Owner::serving_hosts)
    }

    fn open_as(
        lane: Arc<Lane>,
        shared: Arc<Shared>,
        policy: OutboxPolicy,
        strategy: WaitStrategy,
        role: impl FnOnce(Owner) -> Owner,
    ) -> Result<Self, EngineError> {
        let Some(shape) = lane.constants().outbox_shape() else { return Err(EngineError::NoOutboxes) };
        if !shared.status.is_open() {
            return Err(shared.stopped());
        }
        if !lane.take_outbox() {
            return Err(EngineError::OutboxOpen { lane: lane.number() });
        }
        // Relaxed: this process's last reader wrote both before it gave the outbox back.
        let last = Credit::decode(lane.credit().load(Ordering::Relaxed));
        let position = LaneOutbox::position(last, lane.outbox_read().load(Ordering::Relaxed));
        let generation = if tourbillon_shared::mutant!("outbox_generation_kept") && last.owner.generation() != 0 {
            last.owner.generation()
        } else {
            last.owner.next_generation()
        };
        let owner = role(Owner::new(generation, policy));
        let before = lane.notices();
        // From here on dropping it closes it.
        let mut outbox =
            Self { lane, shared, shape, position, owner, before, received: 0, discarded: 0, strategy, unrung: 0 };
        outbox.tell_owner()?;
        outbox.before = outbox.lane.notices();
        Ok(outbox)
    }

    /// Says who reads, and waits until the device knows.
    fn tell_owner(&self) -> Result<(), EngineError> {
        self.free();
        self.shared.ring();
        let began = Instant::now();
        loop {
            let has_ended = self.has_ended();
            if self.lane.notices().owner == u64::from(self.owner.0) {
                return Ok(());
            }
            if has_ended {
                return Err(self.shared.stopped());
            }
            if began.elapsed() >= TRANSITION_TIME_MAX {
                return Err(EngineError::OutboxTimeout { after: TRANSITION_TIME_MAX });
            }
            std::thread::sleep(LOOK_PERIOD);
        }
    }

    /// Closes the outbox for what is posted from now on, and waits until the device knows, if it still runs. What was on its way can be
    /// read.
    pub(crate) fn refuse_more(&mut self) {
        self.owner = self.owner.closed();
        if let Err(error) = self.tell_owner() {
            tracing::debug!(%error, "the device did not learn that an outbox is closed");
        }
    }

    /// What actors need to know to post to this outbox: send it to them in a message. It is good until the outbox is closed.
    pub fn address(&self) -> Subscriber {
        Subscriber { lane: self.lane.number(), generation: self.owner.generation() }
    }

    /// How to wait; as the client did when it opened the outbox, without.
    pub fn set_wait(&mut self, strategy: WaitStrategy) {
        self.strategy = strategy;
    }

    /// The next notice, if one has come.
    pub fn try_next(&mut self) -> Option<Received> {
        let mut words = [0; FRAME_WORDS_MAX];
        loop {
            let found = read_frame(&self.lane.outbox_ring(), self.shape, self.position, &mut words);
            let Some((header, span)) = found else {
                self.wake_device();
                return None;
            };
            self.position = self.position.wrapping_add(span.into());
            self.free();
            self.unrung += u64::from(span);
            if self.unrung >= u64::from(self.shape.capacity() / 4) {
                self.wake_device();
            }
            if is_notice_for(&header, self.owner.generation()) {
                self.received += 1;
                return Some(Received::new(header, &words));
            }
            self.discarded += 1;
        }
    }

    /// The next notice; waits for `timeout` at most.
    ///
    /// # Errors
    /// [`OutboxError`].
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Received, OutboxError> {
        self.wait(Some(timeout))
    }

    /// What became of notices since the outbox was opened.
    pub fn counts(&self) -> OutboxCounts {
        let (now, before) = (self.lane.notices(), &self.before);
        OutboxCounts {
            received: self.received,
            discarded: self.discarded,
            posted: now.posted.wrapping_sub(before.posted),
            dropped: now.dropped.wrapping_sub(before.dropped),
            refused: now.refused.wrapping_sub(before.refused),
            strayed: now.strayed.wrapping_sub(before.strayed),
        }
    }

    /// As a stream, with a thread of its own that looks for notices while a task waits: a device cannot wake a thread. See
    /// [`OutboxStream`].
    ///
    /// # Errors
    /// [`EngineError::Io`] when there is no thread.
    #[cfg(feature = "async")]
    pub fn into_stream(self) -> Result<OutboxStream, EngineError> {
        OutboxStream::start(self)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<Received, OutboxError> {
        if let Some(received) = self.try_next() {
            return Ok(received);
        }
        let mut waiter = Waiter::new(self.strategy, timeout);
        loop {
            let next = waiter.pause();
            // Before the last look: what came before the engine ended is seen by it.
            let has_ended = next != Next::Look && self.has_ended();
            if let Some(received) = self.try_next() {
                return Ok(received);
            }
            if has_ended {
                return Err(OutboxError::EngineStopped { reason: self.shared.status.reason() });
            }
            if next == Next::GiveUp {
                return Err(OutboxError::Timeout { after: timeout.unwrap_or_default() });
            }
        }
    }

    /// Whether nothing comes any more.
    fn has_ended(&self) -> bool {
        self.shared.status.is_ended()
    }

    /// Whether a frame has come, whoever it is for.
    #[cfg(feature = "async")]
    fn is_ready(&self) -> bool {
        read_frame(&self.lane.outbox_ring(), self.shape, self.position, &mut [0; FRAME_WORDS_MAX]).is_some()
    }

    /// Gives everything that was read back, and says who reads.
    fn free(&self) {
        let credit = Credit { read: self.position as u32, owner: self.owner };
        // Release pairs with the fence of the control warp behind its load: what was read may be overwritten.
        self.lane.credit().store(credit.encode(), ordering::credit_store());
        self.lane.outbox_read().store(self.position, Ordering::Relaxed);
    }

    /// Lets threads of the device that sleep see what was read.
    fn wake_device(&mut self) {
        if self.unrung != 0 {
            self.unrung = 0;
            self.shared.ring();
        }
    }
}

impl Iterator for Outbox {
    type Item = Received;

    fn next(&mut self) -> Option<Received> {
        self.wait(None).ok()
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.owner = self.owner.closed();
        self.free();
        self.lane.give_outbox_back();
        self.shared.lanes.reclaim(&self.shared.control);
        self.shared.ring();
    }
}
