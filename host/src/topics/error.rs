//! How subscribing and publishing can fail.

use std::sync::Arc;

use tourbillon_actors::topic::{QUEUE_MAX, Refusal};
use tourbillon_shared::pattern::NameError;

use super::table::TableError;
use crate::call_error::CallError;
use crate::error::EngineError;

/// Why nothing was subscribed, unsubscribed or found. What was there before is as it was.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopicsError {
    /// The text is no topic's name, or no filter.
    #[error("`{text}`: {error}")]
    Name {
        /// What was given.
        text: String,
        /// What is wrong with it.
        #[source]
        error: NameError,
    },
    /// The engine's system has no topics.
    #[error("the system `{system}` has no topics; add `tourbillon::actors::Topic` to the list of `system!`")]
    NoTopics {
        /// Name of the system.
        system: &'static str,
    },
    /// The engine's system has no actors of the subscriber's kind.
    #[error("the system `{system}` has no kind {kind} (`{name}`); add it to the list of `system!`")]
    NoSuchKind {
        /// Name of the system.
        system: &'static str,
        /// Number of the kind.
        kind: u16,
        /// Name of the kind.
        name: &'static str,
    },
    /// There is no such topic.
    #[error(
        "there is no topic `{name}`; topics come into being when they are asked for, or published to with a subscriber"
    )]
    NoSuchTopic {
        /// What was asked for.
        name: String,
    },
    /// There is no such subscription.
    #[error("there is no subscription `{filter}` of this subscriber; unsubscribe with the filter that was subscribed")]
    NotSubscribed {
        /// The filter.
        filter: String,
    },
    /// There are as many topics as there may be.
    #[error("there are {most} topics already; use fewer names")]
    TooManyTopics {
        /// The bound.
        most: u32,
    },
    /// There are as many subscriptions as there may be.
    #[error("there are {most} subscriptions already; take some back, or use wildcards")]
    TooManySubscriptions {
        /// The bound.
        most: usize,
    },
    /// The subscriber has as many filters as one may have.
    #[error("the subscriber has {most} filters already; use wildcards")]
    TooManyFilters {
        /// The bound.
        most: usize,
    },
    /// The lists of all topics would be longer than they may be.
    #[error("the lists of all topics would have more than {most} entries; subscribe to less")]
    TooManyEntries {
        /// The bound.
        most: usize,
    },
    /// A topic did not take the subscriber; no other topic has it by this call.
    #[error("the topic `{topic}` has not taken the subscriber: {refusal}")]
    Refused {
        /// Name of the topic.
        topic: Arc<str>,
        /// Why.
        refusal: Refusal,
    },
    /// A topic did not answer as it should.
    #[error("the topic `{topic}` has not answered: {error}")]
    Unanswered {
        /// Name of the topic.
        topic: Arc<str>,
        /// Why.
        #[source]
        error: Box<CallError<Refusal>>,
    },
    /// There is no lane, no outbox or no engine for it.
    #[error(transparent)]
    Engine(Arc<EngineError>),
}

impl TopicsError {
    pub(super) fn of_call(topic: Arc<str>, error: CallError<Refusal>) -> Self {
        match error {
            CallError::Handler(refusal) => Self::Refused { topic, refusal },
            error => Self::Unanswered { topic, error: Box::new(error) },
        }
    }
}

impl From<EngineError> for TopicsError {
    fn from(error: EngineError) -> Self {
        Self::Engine(Arc::new(error))
    }
}

impl From<TableError> for TopicsError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Name { text, error } => Self::Name { text, error },
            TableError::NoSuchTopic { name } => Self::NoSuchTopic { name },
            TableError::NotForgotten { topic } => Self::NoSuchTopic { name: topic.0.to_string() },
            TableError::NotSubscribed { filter, .. } => Self::NotSubscribed { filter },
            TableError::TooManyTopics { most } => Self::TooManyTopics { most },
            TableError::TooManySubscriptions { most } => Self::TooManySubscriptions { most },
            TableError::TooManyFilters { most, .. } => Self::TooManyFilters { most },
            TableError::TooManyEntries { most } => Self::TooManyEntries { most },
        }
    }
}

/// Why a message was not published. No subscriber has got it, so it may be published again, unless the error says otherwise.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Nobody is subscribed to the topic.
    #[error("nobody is subscribed to the topic; subscribe first, or publish when there is somebody to hear it")]
    NoSubscribers,
    /// As many messages of this urgency wait in the topic as may.
    #[error("{QUEUE_MAX} messages of this urgency wait in the topic; publish again, or have fewer subscribers a topic")]
    QueueFull,
    /// A client that refuses to lose messages has no room in its outbox.
    #[error(
        "a subscriber that refuses to lose messages has no room; publish again when it has read, or let it drop messages"
    )]
    SubscriberFull,
    /// There is no room for letters to the subscribers.
    #[error("there is no room for letters to the subscribers; publish again, or raise `mailbox_capacity`")]
    MailboxFull,
    /// The topic could not be found, or made.
    #[error(transparent)]
    Topics(#[from] TopicsError),
    /// The topic did not answer as it should. After [`CallError::Timeout`] and [`CallError::EngineStopped`] the message may have been
    /// published.
    #[error("the topic has not answered: {0}")]
    Unanswered(#[source] Box<CallError<Refusal>>),
}

impl From<CallError<Refusal>> for PublishError {
    fn from(error: CallError<Refusal>) -> Self {
        match error {
            CallError::OutboxFull => Self::SubscriberFull,
            CallError::MailboxFull { hops: 0 } => Self::MailboxFull,
            error => Self::Unanswered(Box::new(error)),
        }
    }
}
