//! A client: typed messages through a lane.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tourbillon_device::{Actor, ErrorOf, Message, NoError, ReplyOf};
use tourbillon_shared::frame::{PAYLOAD_BYTES_MAX, span_of_call};
use tourbillon_shared::header::{Flags, Header};
use tourbillon_shared::slot::DATA_WORDS_PER_SLOT;

use crate::backpressure::Backpressure;
use crate::call_error::{CallError, SendError};
use crate::config::BATCH_LIMIT_DEFAULT;
use crate::error::EngineError;
use crate::keys::Key;
use crate::lane::Lane;
use crate::outbox::{Outbox, OutboxPolicy};
use crate::pipeline::Pipeline;
use crate::port::{ClientCounts, Port};
use crate::shared::Shared;
use crate::staging::{Admission, Leave, check_bound};
use crate::wait::{Next, WaitStrategy, Waiter};

/// How long a client waits unless [`Client::set_timeout`] says otherwise: far longer than a pause or a relaunch takes, short enough
/// that a stuck engine is noticed.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// One client of an engine, with a lane of its own.
///
/// A client may move to another thread but is used by one at a time; take one per thread. Requests to one actor are
/// executed in the order in which they were sent. Dropping a client gives its lane back when all of its requests are
/// answered. Waiting survives a pause and a relaunch; when the engine stops or fails it ends with
/// [`CallError::EngineStopped`].
#[derive(Debug)]
pub struct Client {
    pub(crate) port: Port,
    /// The lane of urgent messages, once there was one.
    pub(crate) urgent: Option<Box<Port>>,
    pub(crate) shared: Arc<Shared>,
    strategy: WaitStrategy,
    timeout: Option<Duration>,
    /// What was chosen for tells; nothing for waiting as long as `timeout`.
    backpressure: Option<Backpressure>,
    batch_limit: u32,
    /// Whether it calls nothing but answers.
    answers: bool,
}

/// Why a wait ended without what it waited for.
#[derive(Debug)]
pub(crate) enum Ended {
    Timeout(Duration),
    Stopped(Arc<str>),
}

impl<E> From<Ended> for CallError<E> {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Timeout(after) => Self::Timeout { after },
            Ended::Stopped(reason) => Self::EngineStopped { reason },
        }
    }
}

impl From<Ended> for SendError {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Timeout(after) => Self::Timeout { after },
            Ended::Stopped(reason) => Self::EngineStopped { reason },
        }
    }
}

/// Slots of a call with message `M`.
pub(crate) const fn span_of<M: Message>() -> u32 {
    span_of_call(0, size_of::<M>(), size_of::<ReplyOf<M>>(), size_of::<ErrorOf<M>>())
}

/// The header of a request `M` to actor `key`; the timestamp is left to the port.
#[inline(always)]
pub(crate) fn header_of<M: Message>(key: Key, flags: u16) -> Header {
    Header {
        key: key.number(),
        kind: key.kind_word(<M::Actor as Actor>::KIND),
        message: M::NUMBER,
        hops: 0,
        length: size_of::<M>() as u16,
        flags: Flags::new(const { span_of::<M>() }, flags),
        hint: 0,
        hlc: 0,
    }
}

impl Client {
    /// A client with a lane of its own.
    pub(crate) fn connect(shared: &Arc<Shared>, strategy: WaitStrategy, batch_limit: u32) -> Result<Self, EngineError> {
        if !shared.status.is_open() {
            return Err(shared.stopped());
        }
        let lane = shared.lanes.take(&shared.control)?;
        shared.ring();
        let port = Port::new(lane, shared.doorbell.clone());
        Ok(Self::new(port, Arc::clone(shared), strategy, batch_limit))
    }

    fn new(port: Port, shared: Arc<Shared>, strategy: WaitStrategy, batch_limit: u32) -> Self {
        Self {
            port,
            urgent: None,
            shared,
            strategy,
            timeout: Some(TIMEOUT_DEFAULT),
            backpressure: None,
            batch_limit,
            answers: false,
        }
    }

    /// Sends `message` to the actor `key` and waits for the reply.
    ///
    /// # Errors
    /// [`CallError`]: what the handler returned, or why there is no reply.
    #[inline]
    pub fn call<M: Message>(&mut self, key: impl Into<Key>, message: M) -> Result<ReplyOf<M>, CallError<ErrorOf<M>>> {
        let span = const { span_of::<M>() };
        self.publish(header_of::<M>(key.into(), 0), message.as_bytes())?;
        let taken = self.wait(self.timeout, |port| port.try_take::<ReplyOf<M>, ErrorOf<M>>(span));
        match taken {
            Ok(reply) => reply.map_err(CallError::named::<M>),
            Err(ended) => {
                self.port.abandon_next();
                Err(ended.into())
            }
        }
    }

    /// Sends `message` to the actor `key` and goes on; a *tell*.
    ///
    /// The acknowledgement is counted later ([`counts`](Self::counts)). When the lane is full, what
    /// [`set_backpressure`](Self::set_backpressure) says happens; without it, this waits for room.
    ///
    /// # Errors
    /// [`SendError`] says why the message was not sent.
    #[inline]
    pub fn send<M: Message>(&mut self, key: impl Into<Key>, message: M) -> Result<(), SendError> {
        self.tell(header_of::<M>(key.into(), Flags::TELL), message.as_bytes())
    }

    /// Sends a tell.
    #[inline(always)]
    pub(crate) fn tell(&mut self, header: Header, payload: &[u8]) -> Result<(), SendError> {
        self.port.end_run();
        if !self.port.can_publish(header.flags.span()) || !self.shared.status.is_open() {
            return self.send_behind(header, payload);
        }
        self.publish_now(header, payload);
        self.port.tell_next();
        Ok(())
    }

    /// Sends a tell for which there may be no room.
    #[cold]
    fn send_behind(&mut self, header: Header, payload: &[u8]) -> Result<(), SendError> {
        let shared = Arc::clone(&self.shared);
        let stopped = || SendError::EngineStopped { reason: shared.status.reason() };
        if !shared.status.is_open() {
            return Err(stopped());
        }
        self.port.settle();
        self.port.publish_staged();
        if self.port.can_publish(header.flags.span()) {
            self.publish_now(header, payload);
            self.port.tell_next();
            return Ok(());
        }
        // Without a choice a tell waits for as long as everything else of this client.
        let timeout = match self.backpressure {
            Some(Backpressure::Block { timeout }) => Some(timeout),
            Some(_) | None => self.timeout,
        };
        let strategy = self.backpressure.unwrap_or(Backpressure::Block { timeout: timeout.unwrap_or(Duration::MAX) });
        let ticket = match self.port.stage(header, payload, strategy) {
            Admission::Queued(ticket) => ticket,
            Admission::Replaced(..) => return Ok(()),
            Admission::Rejected(_) => return Err(SendError::Rejected),
            Admission::DroppedNewest(_) => return Err(SendError::DroppedNewest),
        };
        if !matches!(strategy, Backpressure::Block { .. }) {
            return Ok(());
        }
        let published = |port: &mut Port| {
            port.settle();
            if !shared.status.is_open() {
                return Some(false);
            }
            port.publish_staged();
            (!port.is_staged(ticket)).then_some(true)
        };
        match self.wait(timeout, published) {
            Ok(true) => Ok(()),
            Ok(false) | Err(Ended::Stopped(_)) => {
                self.port.unstage(ticket, Leave::Ended);
                Err(stopped())
            }
            Err(timeout) => {
                self.port.unstage(ticket, Leave::Timeout);
                Err(timeout.into())
            }
        }
    }

    /// Publishes all staged tells, and waits until all tells are acknowledged and all replies that were given up have come, for
    /// `timeout` at most.
    ///
    /// # Errors
    /// [`SendError`]; what was published is executed nevertheless. When the engine no longer accepts what is staged,
    /// [`SendError::EngineStopped`], and the tells are gone; [`counts`](Self::counts) says how many.
    pub fn flush(&mut self, timeout: Duration) -> Result<(), SendError> {
        let began = Instant::now();
        self.with_urgent(|client| client.flush_lane(timeout)).transpose()?;
        self.flush_lane(timeout.saturating_sub(began.elapsed()))
    }

    fn flush_lane(&mut self, timeout: Duration) -> Result<(), SendError> {
        self.port.end_run();
        let shared = Arc::clone(&self.shared);
        let mut lost = 0;
        let settled = |port: &mut Port| {
            port.settle();
            match shared.status.is_open() {
                true => port.publish_staged(),
                false => lost += port.end_staged(),
            }
            (port.pending() == 0 && !port.is_behind()).then_some(())
        };
        self.wait(Some(timeout), settled)?;
        if lost == 0 { Ok(()) } else { Err(SendError::EngineStopped { reason: shared.status.reason() }) }
    }

    /// What a tell does for which the lane has no room, and how many tells may be staged meanwhile, 1 to
    /// [`STAGING_MAX`](crate::staging::STAGING_MAX). Without a call of this a tell waits for as long as
    /// [`set_timeout`](Self::set_timeout) says.
    ///
    /// With [`Backpressure::Block`] a tell is published when [`send`](Self::send) returns. With the other strategies it may be
    /// staged: later calls of any method that sends or counts publish it, in order, and so does [`flush`](Self::flush);
    /// no thread does so behind the caller's back. A tell that [`Backpressure::DropOldest`] drops is counted, for its caller has gone on.
    /// Only tells are staged; a call waits behind them.
    ///
    /// # Errors
    /// [`EngineError::OutOfBounds`].
    pub fn set_backpressure(&mut self, strategy: Backpressure, bound: u32) -> Result<(), EngineError> {
        check_bound(bound)?;
        self.port.set_staging_bound(bound);
        if let Some(urgent) = &mut self.urgent {
            urgent.set_staging_bound(bound);
        }
        self.backpressure = Some(strategy);
        Ok(())
    }

    /// Sends all messages, as many at a time as the lane holds, and waits for all replies, which are in order.
    ///
    /// The timeout counts for each reply. Messages past the engine's
    /// [`batch_limit`](crate::EngineBuilder::batch_limit) are not sent; each of them has [`CallError::BatchTooLarge`] in
    /// its place.
    pub fn call_many<M: Message>(
        &mut self,
        messages: impl IntoIterator<Item = (impl Into<Key>, M)>,
    ) -> Vec<Result<ReplyOf<M>, CallError<ErrorOf<M>>>> {
        let messages = messages.into_iter();
        let limit = self.batch_limit;
        // The hint is the caller's code and may say anything.
        let mut replies = Vec::with_capacity(messages.size_hint().0.min(limit.min(BATCH_LIMIT_DEFAULT) as usize));
        let mut left = limit;
        let mut pipeline = self.pipeline::<M>();
        for (key, message) in messages {
            let key = key.into();
            if left == 0 {
                replies.extend(std::iter::from_fn(|| pipeline.pop()));
                replies.push(Err(CallError::BatchTooLarge { limit }));
                continue;
            }
            left -= 1;
            let refused = loop {
                match pipeline.push(key, &message) {
                    Ok(true) => break None,
                    Err(error) => break Some(error),
                    Ok(false) => match pipeline.pop() {
                        Some(reply) => replies.push(reply),
                        // Only frames that nobody waits for are in the way.
                        None => match pipeline.wait_for_room() {
                            Ok(()) => {}
                            Err(error) => break Some(error),
                        },
                    },
                }
            };
            if let Some(error) = refused {
                replies.extend(std::iter::from_fn(|| pipeline.pop()));
                replies.push(Err(error.into()));
            }
        }
        replies.extend(std::iter::from_fn(|| pipeline.pop()));
        replies
    }

    /// A pipeline of messages of one type: many outstanding at once, replies in order.
    #[inline]
    pub fn pipeline<M: Message>(&mut self) -> Pipeline<'_, M> {
        self.port.end_run();
        self.port.begin_run(const { span_of::<M>() });
        self.port.forget_clock();
        Pipeline { client: self, message: PhantomData }
    }

    /// How long to wait for room or for one reply; without a limit for `None`. [`TIMEOUT_DEFAULT`] at first.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// How to wait.
    pub fn set_wait(&mut self, strategy: WaitStrategy) {
        self.strategy = strategy;
    }

    /// What became of messages that nobody waited for; brings the figures up to date.
    pub fn counts(&mut self) -> ClientCounts {
        let urgent = self.with_urgent(Self::count_lane).unwrap_or_default();
        self.count_lane().plus(&urgent)
    }

    fn count_lane(&mut self) -> ClientCounts {
        self.port.settle();
        if self.port.is_behind() && self.shared.status.is_open() {
            self.port.end_run();
            self.port.publish_staged();
        }
        self.port.counts()
    }

    /// Opens the client's outbox: what actors send without being asked to those who know its [`address`](Outbox::address). The policy
    /// says what becomes of notices for which there is no room.
    ///
    /// It is a handle of its own, which may be used on another thread and may outlive the client; the lane is given away again when
    /// both are gone. Waits until the device knows of it, some microseconds on a GPU and at most a few milliseconds on CPU
    /// threads that sleep; no notice that is posted after that is missed.
    ///
    /// # Errors
    /// [`EngineError::NoOutboxes`], [`EngineError::OutboxOpen`], [`EngineError::OutboxTimeout`], [`EngineError::Stopped`].
    pub fn outbox(&self, policy: OutboxPolicy) -> Result<Outbox, EngineError> {
        Outbox::open(self.port.shared_lane(), Arc::clone(&self.shared), policy, self.strategy)
    }

    /// Opens the client's outbox as the one to which messages for host actors are handed, without anything that answers them: for tests of
    /// the protocol.
    ///
    /// # Errors
    /// As for [`outbox`](Self::outbox).
    #[doc(hidden)]
    pub fn outbox_for_hosts(&self) -> Result<Outbox, EngineError> {
        Outbox::open_for_hosts(self, OutboxPolicy::Refuse, self.strategy)
    }

    /// The client's clock ([`tourbillon_shared::hlc`]): the last timestamp that it gave or saw.
    pub fn hlc(&self) -> u64 {
        self.port.hlc()
    }

    /// Takes note of a timestamp that was seen elsewhere, such as a notice's: what the client sends from now on is later.
    pub fn observe(&mut self, hlc: u64) {
        self.port.observe(hlc);
    }

    /// The lane.
    pub fn lane(&self) -> &Lane {
        self.port.lane()
    }

    /// Sends a request as it is given, sensible or not, and waits for the reply: header and payload. For tests of the
    /// protocol.
    ///
    /// A timestamp of 0 is replaced by the client's. The payload is cut at the span that the header's flags name.
    ///
    /// # Errors
    /// [`CallError::PayloadTooLarge`], [`CallError::EngineStopped`], [`CallError::Timeout`].
    #[doc(hidden)]
    pub fn call_raw(&mut self, header: Header, payload: &[u8]) -> Result<(Header, Vec<u8>), CallError<NoError>> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(CallError::PayloadTooLarge { bytes: payload.len(), most: PAYLOAD_BYTES_MAX });
        }
        self.publish(header, payload)?;
        let taken = self.wait(self.timeout, Port::try_take_raw);
        taken.map_err(|ended| {
            self.port.abandon_next();
            ended.into()
        })
    }

    /// Publishes slots as they are and expects no reply to them: for tests of what a hostile client may do. The lane may be unusable
    /// afterwards.
    ///
    /// # Errors
    /// [`SendError`] says why nothing was published.
    #[doc(hidden)]
    pub fn publish_slots(&mut self, slots: &[[u32; DATA_WORDS_PER_SLOT]]) -> Result<(), SendError> {
        self.port.end_run();
        self.wait_for_room(slots.len() as u32)?;
        self.port.begin_run(slots.len().max(1) as u32);
        self.port.publish_slots(slots);
        self.port.end_run();
        Ok(())
    }

    /// Publishes one request as the whole of the run.
    #[inline(always)]
    pub(crate) fn publish(&mut self, header: Header, payload: &[u8]) -> Result<(), SendError> {
        self.port.end_run();
        let span = header.flags.span();
        if !self.port.can_publish(span) || !self.shared.status.is_open() {
            self.wait_for_room(span)?;
        }
        self.publish_now(header, payload);
        Ok(())
    }

    /// Publishes one request as the whole of the run, for which there is room.
    #[inline(always)]
    fn publish_now(&mut self, header: Header, payload: &[u8]) {
        self.port.begin_run(header.flags.span());
        self.port.forget_clock();
        self.port.publish(header, payload);
    }

    /// Says that what this client calls are answers, for which a drain waits: they are accepted until the engine has ended.
    pub(crate) fn answer_only(&mut self) {
        self.answers = !tourbillon_shared::mutant!("host_answers_refused_by_drains");
    }

    /// Waits until nothing is staged and `span` slots have room, while the engine accepts requests. The run must be empty.
    #[cold]
    pub(crate) fn wait_for_room(&mut self, span: u32) -> Result<(), SendError> {
        let shared = Arc::clone(&self.shared);
        let refused = || SendError::EngineStopped { reason: shared.status.reason() };
        let answers = self.answers;
        let accepts = || shared.status.is_open() || answers && !shared.status.is_ended();
        if !accepts() {
            return Err(refused());
        }
        let has_room = |port: &mut Port| {
            port.settle();
            if !accepts() {
                return Some(());
            }
            port.publish_staged();
            port.can_publish(span).then_some(())
        };
        self.wait(self.timeout, has_room)?;
        if accepts() { Ok(()) } else { Err(refused()) }
    }

    /// Waits until `look` finds something.
    #[inline(always)]
    pub(crate) fn wait<T>(
        &mut self,
        timeout: Option<Duration>,
        mut look: impl FnMut(&mut Port) -> Option<T>,
    ) -> Result<T, Ended> {
        if let Some(found) = look(&mut self.port) {
            return Ok(found);
        }
        let mut waiter = Waiter::new(self.strategy, timeout);
        loop {
            let next = waiter.pause();
            // Before the last look: what came before the engine ended is seen by it.
            let has_ended = next != Next::Look && self.shared.status.is_ended();
            if let Some(found) = look(&mut self.port) {
                return Ok(found);
            }
            if has_ended {
                return Err(Ended::Stopped(self.shared.status.reason()));
            }
            if next == Next::GiveUp {
                return Err(Ended::Timeout(timeout.unwrap_or_default()));
            }
        }
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.leave_lane();
        if let Some(urgent) = self.urgent.take() {
            self.port = *urgent;
            self.leave_lane();
        }
    }
}

impl Client {
    /// Gives the lane back; nothing is sent by it any longer.
    fn leave_lane(&mut self) {
        self.port.end_run();
        self.port.settle();
        if self.port.is_behind() && self.shared.status.is_open() {
            self.port.publish_staged();
        }
        let lost = self.port.end_staged();
        if lost > 0 {
            tracing::warn!(lost, "a client was dropped with tells in its staging queue; flush it first");
        }
        let pending = self.port.take_pending();
        self.shared.lanes.give_back(self.port.lane(), pending, &self.shared.control);
    }
}
