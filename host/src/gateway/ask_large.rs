//! Asks and tells with payloads that are larger than a frame.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tourbillon_device::{ErrorOf, Message, ReplyOf};
use tourbillon_shared::header::Flags;

use super::ask::{Pending, Stage};
use super::copying::LargePart;
use super::{Core, Gateway};
use crate::arena::check_lengths;
use crate::call_error::{CallError, SendError, reply_in};
use crate::keys::Key;
use crate::large::{LargeReply, header_of, refusal};

/// A request that is not begun yet: its payload is handed over at the first poll.
struct Beside<M> {
    pending: Pending<M>,
    payload: Vec<u8>,
    room: usize,
}

impl<M> Beside<M> {
    fn new(core: &Arc<Core>, key: Key, message: M, payload: Vec<u8>, room: usize) -> Self {
        let timeout = core.inner.timeout;
        Self { pending: Pending::new(Arc::clone(core), key, message, timeout), payload, room }
    }
}

impl<M: Message> Beside<M> {
    fn poll<T>(
        &mut self,
        context: &Context<'_>,
        role: u16,
        read: impl FnOnce(&[u32], Option<Vec<u8>>) -> T,
    ) -> Poll<Result<T, SendError>> {
        let Self { pending, payload, room } = self;
        let (bytes, room) = (payload.len(), *room);
        if let Stage::Unsent = pending.stage
            && let Err(why) = check_lengths(pending.core.arena_bytes(pending.key), bytes, room)
        {
            pending.stage = Stage::Done;
            return Poll::Ready(Err(refusal(why, bytes, room)));
        }
        let large = || Some(LargePart { payload: std::mem::take(payload), room });
        let polled = pending.poll(context, header_of::<M>(pending.key, role), large, read);
        polled.map(|result| result.map_err(|failure| pending.core.error(failure)))
    }
}

impl<M> fmt::Debug for Beside<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pending, payload, room } = self;
        let mut beside = f.debug_struct("Beside");
        beside.field("key", &pending.key).field("stage", &pending.stage);
        beside.field("bytes", &payload.len()).field("room", room).finish()
    }
}

/// A future of an actor's reply and the payload beside it. Made by [`Gateway::ask_large`].
#[derive(Debug)]
#[must_use = "nothing is sent before it is polled"]
pub struct AskLarge<M> {
    beside: Beside<M>,
}

/// A future that is ready when its message is published with the payload beside it. Made by [`Gateway::tell_large`].
#[derive(Debug)]
#[must_use = "nothing is sent before it is polled"]
pub struct TellLarge<M> {
    beside: Beside<M>,
}

impl Gateway {
    /// As [`ask`](Self::ask), with a payload of up to 1 MiB beside the message and another, of `reply_room` bytes at most, beside the
    /// reply.
    ///
    /// The payload belongs to the future, and from its first poll to the gateway; a vector or a boxed slice is taken over as it is,
    /// borrowed bytes are copied here. No more room is reserved for the reply's than `reply_room`; 1 MiB is the most
    /// there ever is.
    ///
    /// Such a request passes through the lane's staging queue, and waits there for room in the lane's arena as for room in its
    /// ring: what comes later to the lane waits behind it, and the gateway's [`Backpressure`](crate::Backpressure) decides when the
    /// queue is full. So there is no error for an arena that others fill; [`counts`](Self::counts) says how often that was.
    /// Payloads are copied without the lane's lock, a request's by the task where it need not wait, all else by the reaper.
    ///
    /// ```
    /// use tourbillon::actors::blob::Mirror;
    /// use tourbillon::{Backend, Engine};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let engine = Engine::builder().backend(Backend::Cpu).build()?;
    /// let gateway = engine.gateway()?;
    /// let (seen, back) = gateway.ask_large(1, Mirror { word: 5 }, vec![7; 100_000], 100_000).await?;
    /// assert_eq!((seen.word, seen.bytes, back), (5, 100_000, vec![7; 100_000]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The future's, at its first poll when the payload can never be sent: as for [`ask`](Self::ask), and
    /// [`CallError::PayloadTooLarge`], [`CallError::ArenaTooSmall`]; [`CallError::ReplyTooLarge`] when the handler made more than there
    /// is room for.
    pub fn ask_large<M: Message>(
        &self,
        key: impl Into<Key>,
        message: M,
        payload: impl Into<Vec<u8>>,
        reply_room: usize,
    ) -> AskLarge<M> {
        AskLarge { beside: Beside::new(&self.core, key.into(), message, payload.into(), reply_room) }
    }

    /// As [`tell`](Self::tell), with a payload of up to 1 MiB beside the message, which is handed over as for
    /// [`ask_large`](Self::ask_large).
    ///
    /// # Errors
    /// The future's: as for [`tell`](Self::tell), and [`SendError::PayloadTooLarge`], [`SendError::ArenaTooSmall`].
    pub fn tell_large<M: Message>(&self, key: impl Into<Key>, message: M, payload: impl Into<Vec<u8>>) -> TellLarge<M> {
        TellLarge { beside: Beside::new(&self.core, key.into(), message, payload.into(), 0) }
    }
}

impl Core {
    /// Bytes of the arena of a key's lane, of one direction.
    fn arena_bytes(&self, key: Key) -> u32 {
        self.inner.lanes[self.inner.lane_of(key.number(), false) as usize].memory.bytes()
    }
}

impl<M> AskLarge<M> {
    /// How long this one waits for its reply, counted from its first poll; without a limit for `None`. Has no effect afterwards.
    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.beside.pending.timeout = timeout;
        self
    }
}

impl<M> TellLarge<M> {
    /// How long this one waits for being published, counted from its first poll; without a limit for `None`. Has no effect
    /// afterwards.
    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.beside.pending.timeout = timeout;
        self
    }
}

// A message is plain data, the payload is on the heap, and nothing here points into the future itself.
impl<M> Unpin for AskLarge<M> {}
impl<M> Unpin for TellLarge<M> {}

impl<M: Message> Future for AskLarge<M> {
    /// What the handler returned and the payload beside it, or why there is no reply.
    type Output = LargeReply<M, Vec<u8>>;

    /// # Panics
    /// When it was ready before.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.beside.poll(context, 0, |words, payload| {
            let reply = reply_in::<ReplyOf<M>, ErrorOf<M>>(words).map_err(CallError::named::<M>)?;
            Ok((reply, payload.ok_or(CallError::InvalidReply)?))
        });
        polled.map(|result| result.unwrap_or_else(|error| Err(error.into())))
    }
}

impl<M: Message> Future for TellLarge<M> {
    /// Why the message was not sent.
    type Output = Result<(), SendError>;

    /// # Panics
    /// When it was ready before.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.beside.poll(context, Flags::TELL, |_, _| ())
    }
}
