//! Asks and tells with options.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tourbillon_device::{ErrorOf, Message, ReplyOf};
use tourbillon_shared::header::Flags;

use super::ask::{Pending, Stage};
use super::{Core, Gateway};
use crate::call_error::{CallError, SendError, reply_in};
use crate::keys::Key;
use crate::lane_end::header_in;
use crate::options::{Answer, Options, answer_of};

/// A request and its options.
struct Optioned<M> {
    pending: Pending<M>,
    options: Options,
}

impl<M> Optioned<M> {
    fn new(core: &Arc<Core>, key: Key, message: M, options: Options) -> Self {
        let timeout = core.inner.timeout;
        Self { pending: Pending::new(Arc::clone(core), key, message, timeout), options }
    }
}

impl<M: Message> Optioned<M> {
    fn poll<T>(
        &mut self,
        context: &Context<'_>,
        role: u16,
        read: impl FnOnce(&[u32]) -> T,
    ) -> Poll<Result<T, SendError>> {
        let Self { pending, options } = self;
        let request = match options.request(pending.key, &pending.message, role) {
            Ok(request) => request,
            Err(error) => {
                pending.stage = Stage::Done;
                return Poll::Ready(Err(error));
            }
        };
        let inner = &pending.core.inner;
        if request.header.flags.has(Flags::URGENT) && !inner.has_urgent() {
            pending.stage = Stage::Done;
            return Poll::Ready(Err(SendError::NoUrgentLane { lanes: inner.shared.geometry.lanes }));
        }
        let read = |words: &[u32], _| read(words);
        let polled = pending.poll_body(context, request.header, Some(request.body()), || None, read);
        polled.map(|result| result.map_err(|failure| pending.core.error(failure)))
    }
}

impl<M> fmt::Debug for Optioned<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pending, options } = self;
        let mut optioned = f.debug_struct("Optioned");
        optioned.field("key", &pending.key).field("stage", &pending.stage).field("options", options).finish()
    }
}

/// A future of an actor's reply to a message with options. Made by [`Gateway::ask_with`].
#[derive(Debug)]
#[must_use = "nothing is sent before it is polled"]
pub struct AskWith<M> {
    optioned: Optioned<M>,
    correlation: u64,
}

/// A future that is ready when its message with options is published. Made by [`Gateway::tell_with`].
#[derive(Debug)]
#[must_use = "nothing is sent before it is polled"]
pub struct TellWith<M> {
    optioned: Optioned<M>,
}

impl Gateway {
    /// As [`ask`](Self::ask), with [`Options`]; the answer tells the actor's version.
    ///
    /// # Errors
    /// The future's: as for [`ask`](Self::ask), and [`CallError::DeadlinePassed`], [`CallError::Duplicate`],
    /// [`CallError::StaleVersion`]; at its first poll [`CallError::PayloadTooLarge`] when the message does not fit beside its options,
    /// and [`CallError::NoUrgentLane`].
    pub fn ask_with<M: Message>(&self, key: impl Into<Key>, message: M, options: Options) -> AskWith<M> {
        let mut options = options;
        let correlation = options.correlate();
        AskWith { optioned: Optioned::new(&self.core, key.into(), message, options), correlation }
    }

    /// As [`tell`](Self::tell), with [`Options`].
    ///
    /// # Errors
    /// The future's: as for [`tell`](Self::tell), and at its first poll [`SendError::PayloadTooLarge`] when the message does not fit
    /// beside its options.
    pub fn tell_with<M: Message>(&self, key: impl Into<Key>, message: M, options: Options) -> TellWith<M> {
        TellWith { optioned: Optioned::new(&self.core, key.into(), message, options) }
    }
}

impl<M> AskWith<M> {
    /// How long this one waits for its reply, counted from its first poll; without a limit for `None`. Has no effect afterwards, and none
    /// on the device: that is what [`Options::deadline`] is for.
    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.optioned.pending.timeout = timeout;
        self
    }

    /// The number that its answer will have as [`Answer::correlation`].
    pub fn correlation(&self) -> u64 {
        self.correlation
    }
}

impl<M> TellWith<M> {
    /// How long this one waits for being published, counted from its first poll; without a limit for `None`. Has no effect
    /// afterwards.
    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.optioned.pending.timeout = timeout;
        self
    }
}

// A message is plain data and nothing here points into the future itself.
impl<M> Unpin for AskWith<M> {}
impl<M> Unpin for TellWith<M> {}

impl<M: Message> Future for AskWith<M> {
    /// What the handler returned and what is known of it, or why there is no reply.
    type Output = Result<Answer<ReplyOf<M>>, CallError<ErrorOf<M>>>;

    /// # Panics
    /// When it was ready before.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let correlation = self.correlation;
        let polled = self.optioned.poll(context, 0, |words| {
            let value = reply_in::<ReplyOf<M>, ErrorOf<M>>(words).map_err(CallError::named::<M>)?;
            answer_of(value, &header_in(words), correlation)
        });
        polled.map(|result| result.unwrap_or_else(|error| Err(error.into())))
    }
}

impl<M: Message> Future for TellWith<M> {
    /// Why the message was not sent.
    type Output = Result<(), SendError>;

    /// # Panics
    /// When it was ready before.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.optioned.poll(context, Flags::TELL, |_| ())
    }
}
