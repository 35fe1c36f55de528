//! A subscription as a stream.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use tourbillon_device::Plain;

use super::Publication;
use super::subscription::Membership;
use crate::outbox::{OutboxCounts, OutboxStream};

/// The messages of a [`Subscription`](super::Subscription) as a stream, which ends when the engine has stopped and everything was read.
/// Made by [`Subscription::into_stream`](super::Subscription::into_stream).
///
/// It needs no runtime of a certain make. Dropping it takes the subscription back.
pub struct SubscriptionStream<P> {
    // Before the outbox: topics are told before it is closed.
    _membership: Membership,
    outbox: OutboxStream,
    message: PhantomData<fn() -> P>,
}

impl<P> SubscriptionStream<P> {
    pub(super) fn new(membership: Membership, outbox: OutboxStream) -> Self {
        Self { _membership: membership, outbox, message: PhantomData }
    }

    /// As [`Subscription::counts`](super::Subscription::counts).
    pub fn counts(&self) -> OutboxCounts {
        self.outbox.counts()
    }
}

impl<P: Plain> Stream for SubscriptionStream<P> {
    type Item = Publication<P>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Publication<P>>> {
        loop {
            match Pin::new(&mut self.outbox).poll_next(context) {
                Poll::Ready(Some(received)) => {
                    if let Some(publication) = Publication::of(&received) {
                        return Poll::Ready(Some(publication));
                    }
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<P> fmt::Debug for SubscriptionStream<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionStream").field("outbox", &self.outbox).finish_non_exhaustive()
    }
}
