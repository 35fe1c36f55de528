//! A subscription of host code: what is read of it.

use std::marker::PhantomData;
use std::time::{Duration, Instant};

use tourbillon_actors::Topic;
use tourbillon_actors::topic::{Published, TopicRef, Urgency};
use tourbillon_device::{Notice, Plain};

use super::table::SubscriberId;
use super::{Topics, TopicsError};
use crate::outbox::{Outbox, OutboxCounts, OutboxError, Received};
use crate::wait::WaitStrategy;

/// A message as it was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Publication<P> {
    /// The topic; [`Topics::name_of`] says its name.
    pub topic: TopicRef,
    /// Its number among all that the topic has accepted, from 1 on.
    pub number: u64,
    /// Whether it went before others.
    pub urgency: Urgency,
    /// Timestamp ([`tourbillon_shared::hlc`]) of the topic when it was handed out.
    pub hlc: u64,
    /// What was published.
    pub message: P,
}

impl<P: Plain> Publication<P> {
    /// What a notice says that a topic has posted; nothing when it is another notice.
    pub(super) fn of(received: &Received) -> Option<Self> {
        if !received.is_from::<Topic>() || received.number() != Published::NUMBER {
            return None;
        }
        let published = Published::from_notice(received.payload())?;
        Some(Self {
            topic: TopicRef::new(received.key()),
            number: published.number,
            urgency: published.urgency,
            hlc: received.hlc(),
            message: published.decode()?,
        })
    }
}

/// Who is subscribed, until this is dropped.
#[derive(Debug)]
pub(super) struct Membership {
    topics: Topics,
    subscriber: SubscriberId,
}

impl Drop for Membership {
    fn drop(&mut self) {
        if !tourbillon_shared::mutant!("topics_dropped_subscription_stays") {
            self.topics.lock().leave_all(self.subscriber);
        }
    }
}

/// Reads what is published to the topics that this program has subscribed to. Made by [`Topics::subscribe`]; dropping it takes it back.
///
/// As an iterator it waits for the next message, and ends when the engine has stopped and everything was read.
#[derive(Debug)]
pub struct Subscription<P> {
    // Before the outbox: topics are told before it is closed.
    membership: Membership,
    outbox: Outbox,
    unreadable: u64,
    message: PhantomData<fn() -> P>,
}

impl<P: Plain> Subscription<P> {
    pub(super) fn new(topics: Topics, subscriber: SubscriberId, outbox: Outbox) -> Self {
        Self { membership: Membership { topics, subscriber }, outbox, unreadable: 0, message: PhantomData }
    }

    /// Gets, from now on, what is published to the topics of one more filter; each message once, however many filters fit.
    ///
    /// # Errors
    /// [`TopicsError`].
    pub fn add(&mut self, filter: &str) -> Result<(), TopicsError> {
        let Membership { topics, subscriber } = &self.membership;
        topics.lock().join(topics, filter, *subscriber)
    }

    /// Takes one filter back; the subscription stays, even without any.
    ///
    /// # Errors
    /// [`TopicsError`].
    pub fn remove(&mut self, filter: &str) -> Result<(), TopicsError> {
        let Membership { topics, subscriber } = &self.membership;
        topics.lock().part(topics, filter, *subscriber)
    }

    /// The next message, if one has come.
    pub fn try_next(&mut self) -> Option<Publication<P>> {
        loop {
            let received = self.outbox.try_next()?;
            match Publication::of(&received) {
                Some(publication) => return Some(publication),
                None => self.unreadable += 1,
            }
        }
    }

    /// The next message; waits for `timeout` at most.
    ///
    /// # Errors
    /// [`OutboxError`].
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Publication<P>, OutboxError> {
        let began = Instant::now();
        loop {
            let left = timeout.saturating_sub(began.elapsed());
            let received = self.outbox.next_timeout(left).map_err(|error| match error {
                OutboxError::Timeout { .. } => OutboxError::Timeout { after: timeout },
                ended => ended,
            })?;
            match Publication::of(&received) {
                Some(publication) => return Ok(publication),
                None => self.unreadable += 1,
            }
        }
    }

    /// How to wait; as the engine's clients do, without.
    pub fn set_wait(&mut self, strategy: WaitStrategy) {
        self.outbox.set_wait(strategy);
    }

    /// What became of messages: those that were read, dropped for want of room, and those that were not published for want of it
    /// ([`OutboxCounts::refused`]).
    pub fn counts(&self) -> OutboxCounts {
        self.outbox.counts()
    }

    /// Notices that were thrown away, for they were no messages of type `P` of a topic: somebody else posts to this subscription.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// As a stream, with a thread of its own that looks for messages while a task waits, as that of an outbox
    /// ([`Outbox::into_stream`]).
    ///
    /// # Errors
    /// [`EngineError::Io`](crate::EngineError::Io) when there is no thread; the subscription is taken back then.
    #[cfg(feature = "async")]
    pub fn into_stream(self) -> Result<super::SubscriptionStream<P>, crate::EngineError> {
        let Self { membership, outbox, .. } = self;
        Ok(super::SubscriptionStream::new(membership, outbox.into_stream()?))
    }
}

impl<P: Plain> Iterator for Subscription<P> {
    type Item = Publication<P>;

    fn next(&mut self) -> Option<Publication<P>> {
        loop {
            let received = self.outbox.next()?;
            match Publication::of(&received) {
                Some(publication) => return Some(publication),
                None => self.unreadable += 1,
            }
        }
    }
}
