//! The futures of a gateway. Neither allocates; each is as large as its message and some words.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tourbillon_device::{ErrorOf, Message, ReplyOf};
use tourbillon_shared::header::{Flags, Header};

use super::copying::LargePart;
use super::lane::{Begun, Request};
use super::waiters::Failure;
use super::{Core, Gateway, Place};
use crate::call_error::{CallError, SendError, reply_in};
use crate::client::header_of;
use crate::keys::Key;

/// A message and the actor that it goes to: what the gateway takes as a [`tower_service::Service`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyedMessage<M, K = u64> {
    /// Key of the actor: a u64, or a [`Key`].
    pub key: K,
    /// The message.
    pub message: M,
}

/// What asks and tells have in common: a request and where it waits.
pub(super) struct Pending<M> {
    pub(super) core: Arc<Core>,
    pub(super) key: Key,
    pub(super) message: M,
    pub(super) timeout: Option<Duration>,
    pub(super) stage: Stage,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    /// Not polled yet.
    Unsent,
    Waiting(Place),
    Done,
}

impl<M> Pending<M> {
    pub(super) fn new(core: Arc<Core>, key: Key, message: M, timeout: Option<Duration>) -> Self {
        Self { core, key, message, timeout, stage: Stage::Unsent }
    }
}

impl<M: Message> Pending<M> {
    /// Begins the request, with what `large` gives, or looks what became of it; `read` gets the words of the reply and its large payload,
    /// none for a tell.
    pub(super) fn poll<T>(
        &mut self,
        context: &Context<'_>,
        header: Header,
        large: impl FnOnce() -> Option<LargePart>,
        read: impl FnOnce(&[u32], Option<Vec<u8>>) -> T,
    ) -> Poll<Result<T, Failure>> {
        self.poll_body(context, header, None, large, read)
    }

    /// As [`poll`](Self::poll), with what follows the header where that is more than the message.
    #[inline(always)]
    pub(super) fn poll_body<T>(
        &mut self,
        context: &Context<'_>,
        header: Header,
        body: Option<&[u8]>,
        large: impl FnOnce() -> Option<LargePart>,
        read: impl FnOnce(&[u32], Option<Vec<u8>>) -> T,
    ) -> Poll<Result<T, Failure>> {
        let waker = context.waker();
        if let Stage::Unsent = self.stage {
            let large = large();
            let is_large = large.is_some();
            let payload = body.unwrap_or_else(|| self.message.as_bytes());
            let request = Request { header, payload, timeout: self.timeout, large };
            let result = match self.core.begin(request, waker) {
                (lane, Begun::Waiting(waiter)) => {
                    let place = Place { lane, waiter };
                    self.stage = Stage::Waiting(place);
                    // A large tell may have been published meanwhile.
                    if !is_large && !self.core.spin(place) {
                        return Poll::Pending;
                    }
                    None
                }
                (_, Begun::Published) => Some(Ok(())),
                (_, Begun::Failed(failure)) => Some(Err(failure)),
            };
            if let Some(result) = result {
                self.stage = Stage::Done;
                return Poll::Ready(result.map(|()| read(&[], None)));
            }
        }
        let polled = match self.stage {
            Stage::Waiting(place) => self.core.poll(place, waker, read),
            Stage::Unsent | Stage::Done => panic!("a future of a gateway was polled after it was ready"),
        };
        match polled {
            None => Poll::Pending,
            Some(result) => {
                self.stage = Stage::Done;
                Poll::Ready(result)
            }
        }
    }
}

impl<M> Drop for Pending<M> {
    fn drop(&mut self) {
        if let Stage::Waiting(place) = self.stage {
            self.core.cancel(place);
        }
    }
}

/// A future of an actor's reply. Made by [`Gateway::ask`].
#[must_use = "nothing is sent before it is polled"]
pub struct Ask<M> {
    pending: Pending<M>,
}

/// A future that is ready when its message is published. Made by [`Gateway::tell`].
#[must_use = "nothing is sent before it is polled"]
pub struct Tell<M> {
    pending: Pending<M>,
}

impl<M> Ask<M> {
    pub(super) fn new(core: Arc<Core>, key: Key, message: M, timeout: Option<Duration>) -> Self {
        Self { pending: Pending::new(core, key, message, timeout) }
    }

    /// How long this one waits for its reply, counted from its first poll; without a limit for `None`. Has no effect afterwards.
    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.pending.timeout = timeout;
        self
    }
}

impl<M> Tell<M> {
    pub(super) fn new(core: Arc<Core>, key: Key, message: M, timeout: Option<Duration>) -> Self {
        Self { pending: Pending::new(core, key, message, timeout) }
    }

    /// How long this one waits for being published, counted from its first poll; without a limit for `None`. Has no effect
    /// afterwards.
    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.pending.timeout = timeout;
        self
    }
}

// A message is plain data and nothing here points into the future itself.
impl<M> Unpin for Ask<M> {}
impl<M> Unpin for Tell<M> {}

impl<M: Message> Future for Ask<M> {
    /// What the handler returned, or why there is no reply.
    type Output = Result<ReplyOf<M>, CallError<ErrorOf<M>>>;

    /// # Panics
    /// When it was ready before.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let pending = &mut self.pending;
        let header = header_of::<M>(pending.key, 0);
        let read = |words: &[u32], _| reply_in::<ReplyOf<M>, ErrorOf<M>>(words).map_err(CallError::named::<M>);
        let polled = pending.poll(context, header, || None, read);
        polled.map(|result| result.unwrap_or_else(|failure| Err(pending.core.error(failure).into())))
    }
}

impl<M: Message> Future for Tell<M> {
    /// Why the message was not sent.
    type Output = Result<(), SendError>;

    /// # Panics
    /// When it was ready before.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let pending = &mut self.pending;
        let header = header_of::<M>(pending.key, Flags::TELL);
        let polled = pending.poll(context, header, || None, |_, _| ());
        polled.map(|result| result.map_err(|failure| pending.core.error(failure)))
    }
}

impl<M> fmt::Debug for Ask<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask").field("key", &self.pending.key).field("stage", &self.pending.stage).finish()
    }
}

impl<M> fmt::Debug for Tell<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tell").field("key", &self.pending.key).field("stage", &self.pending.stage).finish()
    }
}

/// Always ready, until the gateway is shut down: what cannot be sent at once waits in its future, bounded as the gateway was told.
impl<M: Message, K: Into<Key>> tower_service::Service<KeyedMessage<M, K>> for Gateway {
    type Response = ReplyOf<M>;
    type Error = CallError<ErrorOf<M>>;
    type Future = Ask<M>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(if self.is_closed() { Err(CallError::GatewayClosed) } else { Ok(()) })
    }

    fn call(&mut self, request: KeyedMessage<M, K>) -> Ask<M> {
        self.ask(request.key, request.message)
    }
}
