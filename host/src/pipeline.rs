//! Many outstanding messages of one type.

use std::marker::PhantomData;

use tourbillon_device::{ErrorOf, Message, ReplyOf};

use crate::call_error::{CallError, SendError};
use crate::client::{Client, header_of, span_of};
use crate::keys::Key;

/// Many outstanding messages of one type, with their replies in the order of the messages.
///
/// Neither [`push`](Self::push) nor [`try_pop`](Self::try_pop) allocates, waits or enters the operating system but for a reading of
/// the clock every 64 messages. Dropping a pipeline gives up the replies that were not popped; the messages are
/// executed nevertheless.
#[derive(Debug)]
pub struct Pipeline<'c, M: Message> {
    pub(crate) client: &'c mut Client,
    pub(crate) message: PhantomData<fn(M)>,
}

impl<M: Message> Pipeline<'_, M> {
    const SPAN: u32 = span_of::<M>();

    /// Sends `message` to the actor `key`; `false`, and nothing is sent, when the lane is full.
    ///
    /// # Errors
    /// [`SendError::EngineStopped`]: nothing was sent.
    #[inline(always)]
    pub fn push(&mut self, key: impl Into<Key>, message: &M) -> Result<bool, SendError> {
        if !self.client.shared.status.is_open() {
            return Err(self.stopped());
        }
        if !self.client.port.can_publish(Self::SPAN) && !self.settle() {
            return Ok(false);
        }
        self.client.port.publish(header_of::<M>(key.into(), 0), message.as_bytes());
        Ok(true)
    }

    /// The reply to the oldest message, if it has come; nothing when it has not, or when nothing is outstanding.
    ///
    /// When the engine stopped, each outstanding message yields [`CallError::EngineStopped`].
    #[inline(always)]
    pub fn try_pop(&mut self) -> Option<Result<ReplyOf<M>, CallError<ErrorOf<M>>>> {
        if self.client.port.is_idle() {
            return None;
        }
        // Before the look: what came before the engine ended is seen by it.
        let has_ended = self.client.shared.status.is_ended();
        match self.client.port.try_take(Self::SPAN) {
            None if has_ended => Some(Err(self.abandon_stopped())),
            taken => taken.map(|reply| reply.map_err(CallError::named::<M>)),
        }
    }

    /// Waits for the reply to the oldest message; nothing when nothing is outstanding.
    ///
    /// After [`CallError::Timeout`] that message is given up.
    pub fn pop(&mut self) -> Option<Result<ReplyOf<M>, CallError<ErrorOf<M>>>> {
        if self.client.port.is_idle() {
            return None;
        }
        let timeout = self.client.timeout();
        let taken = self.client.wait(timeout, |port| port.try_take(Self::SPAN));
        Some(match taken {
            Ok(reply) => reply.map_err(CallError::named::<M>),
            Err(ended) => {
                self.client.port.abandon_next();
                Err(ended.into())
            }
        })
    }

    /// Messages whose replies were not popped.
    #[inline(always)]
    pub fn in_flight(&self) -> u64 {
        self.client.port.in_flight()
    }

    pub(crate) fn wait_for_room(&mut self) -> Result<(), SendError> {
        self.client.wait_for_room(Self::SPAN)
    }

    /// Frees what earlier messages of the client hold, and publishes what it staged; whether that made room.
    #[cold]
    fn settle(&mut self) -> bool {
        let port = &mut self.client.port;
        port.settle();
        // While a tell is staged nothing else is published, so the run is empty.
        if port.is_behind() && port.is_idle() {
            port.publish_staged();
        }
        port.can_publish(Self::SPAN)
    }

    #[cold]
    fn stopped(&self) -> SendError {
        SendError::EngineStopped { reason: self.client.shared.status.reason() }
    }

    #[cold]
    fn abandon_stopped(&mut self) -> CallError<ErrorOf<M>> {
        self.client.port.abandon_next();
        self.stopped().into()
    }
}

impl<M: Message> Drop for Pipeline<'_, M> {
    fn drop(&mut self) {
        self.client.port.end_run();
    }
}
