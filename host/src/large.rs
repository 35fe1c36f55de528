//! Messages with a payload beside them that is larger than a frame, by way of the lane's arena.

use std::marker::PhantomData;

use tourbillon_device::{ErrorOf, Message, ReplyOf};
use tourbillon_shared::arena::LARGE_BYTES_MAX;
use tourbillon_shared::frame::{FRAME_SLOTS_MAX, span_of_large_call};
use tourbillon_shared::header::{Flags, Header};

use crate::arena::{Block, NoBlock};
use crate::call_error::{CallError, SendError};
use crate::client::Client;
use crate::keys::Key;

/// What a call with a large payload comes to: the reply and what was read of its payload.
pub type LargeReply<M, T> = Result<(ReplyOf<M>, T), CallError<ErrorOf<M>>>;

/// Slots of a call with message `M` and a payload in the arena.
const fn span_of<M: Message>() -> u32 {
    let span = span_of_large_call(size_of::<M>(), size_of::<ReplyOf<M>>(), size_of::<ErrorOf<M>>());
    assert!(span as usize <= FRAME_SLOTS_MAX, "beside a payload, message and reply may have 336 bytes at most");
    span
}

/// The header of a request `M` to actor `key` with a payload in the arena.
pub(crate) fn header_of<M: Message>(key: Key, flags: u16) -> Header {
    let flags = Flags::new(const { span_of::<M>() }, flags | Flags::ARENA);
    Header { flags, ..crate::client::header_of::<M>(key, 0) }
}

/// The error of a payload that is never sent, or not now.
pub(crate) fn refusal(why: NoBlock, bytes: usize, room: usize) -> SendError {
    match why {
        NoBlock::TooLarge => SendError::PayloadTooLarge { bytes, most: LARGE_BYTES_MAX },
        NoBlock::ArenaTooSmall { most } => {
            SendError::ArenaTooSmall { bytes: bytes.max(room.min(LARGE_BYTES_MAX)), most: most as usize }
        }
        NoBlock::Exhausted { bytes, free } => SendError::ArenaExhausted { bytes: bytes as usize, free: free as usize },
    }
}

impl Client {
    /// As [`call`](Self::call), with a payload of up to 1 MiB beside the message and another beside the reply, which is copied into
    /// `reply`: the reply, and how many bytes its payload has.
    ///
    /// The handler sees the payload by [`Context::payload`](crate::Context::payload). No more room is reserved for the reply's than
    /// `reply` is long; 1 MiB is the most there ever is.
    ///
    /// # Errors
    /// As for [`call`](Self::call), and [`CallError::PayloadTooLarge`], [`CallError::ArenaTooSmall`],
    /// [`CallError::ArenaExhausted`]; [`CallError::ReplyTooLarge`] when the handler made more than `reply` has room for.
    pub fn call_large_into<M: Message>(
        &mut self,
        key: impl Into<Key>,
        message: M,
        payload: &[u8],
        reply: &mut [u8],
    ) -> LargeReply<M, usize> {
        let room = reply.len();
        self.call_large_with(key, message, payload, room, |bytes| {
            // The device keeps to the room, and what it says was checked; so this is all of it.
            reply.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            bytes.len()
        })
    }

    /// As [`call_large_into`](Self::call_large_into), with the reply's payload, of `reply_room` bytes at most, in memory of its own.
    ///
    /// ```
    /// use tourbillon::actors::blob::Mirror;
    /// use tourbillon::{Backend, Engine};
    ///
    /// let engine = Engine::builder().backend(Backend::Cpu).build()?;
    /// let mut client = engine.client()?;
    /// let payload = vec![7; 100_000];
    /// let (seen, back) = client.call_large(1, Mirror { word: 5 }, &payload, payload.len())?;
    /// assert_eq!((seen.word, seen.bytes, back), (5, 100_000, payload));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As there.
    pub fn call_large<M: Message>(
        &mut self,
        key: impl Into<Key>,
        message: M,
        payload: &[u8],
        reply_room: usize,
    ) -> LargeReply<M, Vec<u8>> {
        self.call_large_with(key, message, payload, reply_room, <[u8]>::to_vec)
    }

    /// As [`call_large_into`](Self::call_large_into), with the reply's payload read by `read` where it lies: in memory that the
    /// next request may be given.
    ///
    /// # Errors
    /// As there.
    pub fn call_large_with<M: Message, T>(
        &mut self,
        key: impl Into<Key>,
        message: M,
        payload: &[u8],
        reply_room: usize,
        read: impl FnOnce(&[u8]) -> T,
    ) -> LargeReply<M, T> {
        self.publish_large::<M>(header_of::<M>(key.into(), 0), &message, payload, reply_room)?;
        self.take_large::<M, T>(read)
    }

    /// As [`send`](Self::send), with a payload of up to 1 MiB beside the message. Waits for room in the lane, whatever
    /// [`set_backpressure`](Self::set_backpressure) says; not for room in the arena.
    ///
    /// # Errors
    /// [`SendError`] says why the message was not sent.
    pub fn send_large<M: Message>(&mut self, key: impl Into<Key>, message: M, payload: &[u8]) -> Result<(), SendError> {
        self.publish_large::<M>(header_of::<M>(key.into(), Flags::TELL), &message, payload, 0)?;
        self.port.tell_next();
        Ok(())
    }

    /// A pipeline of messages of one type with large payloads: many outstanding at once, replies in order.
    pub fn large_pipeline<M: Message>(&mut self) -> LargePipeline<'_, M> {
        self.port.end_run();
        self.port.begin_run(const { span_of::<M>() });
        self.port.forget_clock();
        LargePipeline { client: self, message: PhantomData }
    }

    /// A block of the arena; what late replies hold is looked at again before it is refused.
    fn reserve(&mut self, bytes: usize, room: usize) -> Result<Block, NoBlock> {
        match self.port.reserve(bytes, room) {
            Err(NoBlock::Exhausted { .. }) => {
                self.port.settle();
                self.port.reserve(bytes, room)
            }
            reserved => reserved,
        }
    }

    /// Publishes a request with a payload as the whole of the run.
    fn publish_large<M: Message>(
        &mut self,
        header: Header,
        message: &M,
        payload: &[u8],
        room: usize,
    ) -> Result<(), SendError> {
        self.port.end_run();
        let span = header.flags.span();
        if !self.port.can_publish(span) || !self.shared.status.is_open() {
            self.wait_for_room(span)?;
        }
        let block = self.reserve(payload.len(), room).map_err(|why| {
            if let NoBlock::Exhausted { .. } = why {
                self.port.note_exhausted();
            }
            refusal(why, payload.len(), room)
        })?;
        self.port.begin_run(span);
        self.port.forget_clock();
        self.port.publish_large(header, message.as_bytes(), payload, block);
        Ok(())
    }

    /// Waits for the reply to the oldest request of a run with payloads.
    fn take_large<M: Message, T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> LargeReply<M, T> {
        let mut read = Some(read);
        let taken = self.wait(self.timeout(), |port| {
            port.try_take_large::<ReplyOf<M>, ErrorOf<M>, _>(|payload| read.take().map(|read| read(payload)))
        });
        match taken {
            // It is read once, for then the wait is over.
            Ok(reply) => {
                let reply = reply.and_then(|(reply, read)| Ok((reply, read.ok_or(CallError::InvalidReply)?)));
                reply.map_err(CallError::named::<M>)
            }
            Err(ended) => {
                self.port.abandon_next();
                Err(ended.into())
            }
        }
    }
}

/// Many outstanding messages of one type with large payloads, with their replies in the order of the messages.
///
/// Dropping it gives up the replies that were not popped; the messages are executed nevertheless.
#[derive(Debug)]
pub struct LargePipeline<'c, M: Message> {
    client: &'c mut Client,
    message: PhantomData<fn(M)>,
}

impl<M: Message> LargePipeline<'_, M> {
    /// Sends `message` with `payload` to the actor `key`, with `reply_room` bytes reserved for the reply's payload; `false`, and
    /// nothing is sent, when the lane or its arena is full.
    ///
    /// # Errors
    /// [`SendError::PayloadTooLarge`], [`SendError::ArenaTooSmall`], [`SendError::EngineStopped`]: nothing was sent.
    pub fn push(
        &mut self,
        key: impl Into<Key>,
        message: &M,
        payload: &[u8],
        reply_room: usize,
    ) -> Result<bool, SendError> {
        let client = &mut *self.client;
        if !client.shared.status.is_open() {
            return Err(SendError::EngineStopped { reason: client.shared.status.reason() });
        }
        let span = const { span_of::<M>() };
        if !client.port.can_publish(span) {
            client.port.settle();
            // While a tell is staged nothing else is published, so the run is empty.
            if client.port.is_behind() && client.port.is_idle() {
                client.port.publish_staged();
            }
            if !client.port.can_publish(span) {
                return Ok(false);
            }
        }
        match client.reserve(payload.len(), reply_room) {
            Ok(block) => {
                client.port.publish_large(header_of::<M>(key.into(), 0), message.as_bytes(), payload, block);
                Ok(true)
            }
            Err(NoBlock::Exhausted { .. }) => Ok(false),
            Err(why) => Err(refusal(why, payload.len(), reply_room)),
        }
    }

    /// The reply to the oldest message, if it has come; nothing when it has not, or when nothing is outstanding. `read` gets its
    /// payload where it lies.
    ///
    /// When the engine stopped, each outstanding message yields [`CallError::EngineStopped`].
    pub fn try_pop_with<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> Option<LargeReply<M, T>> {
        let client = &mut *self.client;
        if client.port.is_idle() {
            return None;
        }
        // Before the look: what came before the engine ended is seen by it.
        let has_ended = client.shared.status.is_ended();
        match client.port.try_take_large(read) {
            None if has_ended => {
                client.port.abandon_next();
                Some(Err(CallError::EngineStopped { reason: client.shared.status.reason() }))
            }
            taken => taken.map(|reply| reply.map_err(CallError::named::<M>)),
        }
    }

    /// Waits for the reply to the oldest message; nothing when nothing is outstanding. `read` gets its payload where it lies.
    ///
    /// After [`CallError::Timeout`] that message is given up.
    pub fn pop_with<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> Option<LargeReply<M, T>> {
        if self.client.port.is_idle() {
            return None;
        }
        Some(self.client.take_large::<M, T>(read))
    }

    /// Messages whose replies were not popped.
    pub fn in_flight(&self) -> u64 {
        self.client.port.in_flight()
    }
}

impl<M: Message> Drop for LargePipeline<'_, M> {
    fn drop(&mut self) {
        self.client.port.end_run();
    }
}
