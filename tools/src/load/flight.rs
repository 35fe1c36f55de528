//! Messages in flight, and what becomes of each reply: the part that closed and open loop have in common.

use std::collections::VecDeque;

use tourbillon::{CallError, ErrorOf, Message, ReplyOf};

use super::source::{Check, Source, Ticket};
use super::tally::Tally;

/// A message in flight; times are nanoseconds since the start of the run.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// What its check needs.
    pub ticket: Ticket,
    /// When it was intended to be sent; in a closed loop when it was sent.
    pub intended_ns: u64,
    /// When it was pushed.
    pub sent_ns: u64,
}

/// No more replies will come; the tally says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMoreReplies;

/// The messages in flight, oldest first.
#[derive(Debug)]
pub struct Flight {
    queue: VecDeque<Sent>,
}

impl Flight {
    /// Nothing in flight, with memory for `capacity` messages.
    pub fn new(capacity: usize) -> Self {
        Self { queue: VecDeque::with_capacity(capacity) }
    }

    /// Messages in flight.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// A message was sent.
    #[inline(always)]
    pub fn push(&mut self, sent: Sent) {
        self.queue.push_back(sent);
    }

    /// Checks and counts the reply to the oldest message; that message if the reply is right.
    ///
    /// # Errors
    /// The engine ended: what is in flight stays unanswered, which the judge calls lost.
    #[inline]
    pub fn take<M: Message, S: Source<M>>(
        &mut self,
        source: &mut S,
        reply: Result<ReplyOf<M>, CallError<ErrorOf<M>>>,
        tally: &mut Tally,
    ) -> Result<Option<Sent>, NoMoreReplies> {
        let Some(sent) = self.queue.pop_front() else {
            tally.ended_by = Some("a reply came to a message that was never sent".into());
            return Err(NoMoreReplies);
        };
        if let Err(error @ (CallError::EngineStopped { .. } | CallError::Timeout { .. })) = &reply {
            tally.ended_by.get_or_insert_with(|| error.to_string());
            return Err(NoMoreReplies);
        }
        match source.check(sent.ticket, reply) {
            Check::Right => {
                tally.received += 1;
                Ok(Some(sent))
            }
            Check::Wrong(how) => {
                tally.failed += 1;
                tally.first_failure.get_or_insert(how);
                Ok(None)
            }
        }
    }
}
