//! Where messages come from, who checks their replies, and what carries them.

use tourbillon::{CallError, ErrorOf, Message, Pipeline, ReplyOf, SendError};

/// What is known of a message in flight.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    /// Index of the key.
    pub key: usize,
    /// The message's number among those of this client to the key.
    pub number: u64,
    /// What the actor's check needs to know.
    pub expected: u64,
}

/// What a check of a reply found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The content is right; order is the judge's matter.
    Right,
    /// It is not; says how.
    Wrong(String),
}

/// Where messages of one type come from and who checks their replies.
pub trait Source<M: Message> {
    /// The next message and its key; nothing when there are no more.
    fn next(&mut self) -> Option<(u64, M, Ticket)>;
    /// The message made last was not sent.
    fn take_back(&mut self, ticket: Ticket);
    /// A reply came.
    fn check(&mut self, ticket: Ticket, reply: Result<ReplyOf<M>, CallError<ErrorOf<M>>>) -> Check;
}

/// What carries messages of one type and brings their replies in order.
pub trait Link<M: Message> {
    /// Sends a message; `false` when there is no room.
    ///
    /// # Errors
    /// Nothing more can be sent.
    fn push(&mut self, key: u64, message: &M) -> Result<bool, SendError>;
    /// The reply to the oldest message, if it has come.
    fn try_pop(&mut self) -> Option<Result<ReplyOf<M>, CallError<ErrorOf<M>>>>;
}

impl<M: Message> Link<M> for Pipeline<'_, M> {
    #[inline(always)]
    fn push(&mut self, key: u64, message: &M) -> Result<bool, SendError> {
        Pipeline::push(self, key, message)
    }

    #[inline(always)]
    fn try_pop(&mut self) -> Option<Result<ReplyOf<M>, CallError<ErrorOf<M>>>> {
        Pipeline::try_pop(self)
    }
}
