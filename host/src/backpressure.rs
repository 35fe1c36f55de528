//! What happens to a message for which the request ring has no room.
//!
//! In front of the ring stands a bounded *staging queue* on the host. It is skipped while it is empty and the ring has
//! room, so that the order of a lane is kept and an engine that keeps up costs nothing. When the queue too is full, the
//! caller's [`Backpressure`] decides. What is published in the ring is never taken back.

use std::time::Duration;

/// What happens to a message when both the ring and the staging queue are full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backpressure {
    /// It waits for a place, in the order of arrival, and its caller gets
    /// [`CallError::Timeout`](crate::CallError::Timeout) when none comes in time. In a gateway only the task waits, never its thread.
    Block {
        /// How long.
        timeout: Duration,
    },
    /// Its caller gets [`CallError::Rejected`](crate::CallError::Rejected).
    Reject,
    /// It takes the place of the message that has been in the queue for longest, whose caller gets
    /// [`CallError::Dropped`](crate::CallError::Dropped).
    DropOldest,
    /// It is dropped itself, and its caller gets [`CallError::DroppedNewest`](crate::CallError::DroppedNewest).
    DropNewest,
}

/// What became of the messages for which the request ring had no room at once.
///
/// `queued` is at any time the sum of `published`, `dropped_oldest`, `timeouts`, `withdrawn`, `ended` and what is in the queue or waits
/// for a place in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StagingCounts {
    /// Messages that entered the queue, or had to wait for a place in it.
    pub queued: u64,
    /// Of these, the ones that had to wait for a place.
    pub blocked: u64,
    /// Messages that left the queue into the ring.
    pub published: u64,
    /// Refused by [`Backpressure::Reject`].
    pub rejected: u64,
    /// Dropped from the queue by [`Backpressure::DropOldest`].
    pub dropped_oldest: u64,
    /// Dropped on arrival by [`Backpressure::DropNewest`].
    pub dropped_newest: u64,
    /// Messages that waited in vain for a place, as long as [`Backpressure::Block`] says.
    pub timeouts: u64,
    /// Messages that their callers took back before they were published, by dropping the future or by a timeout of their own.
    pub withdrawn: u64,
    /// Messages that were not published when the engine stopped accepting or the gateway was shut down.
    pub ended: u64,
}

impl StagingCounts {
    /// The sums of both.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            queued: self.queued + other.queued,
            blocked: self.blocked + other.blocked,
            published: self.published + other.published,
            rejected: self.rejected + other.rejected,
            dropped_oldest: self.dropped_oldest + other.dropped_oldest,
            dropped_newest: self.dropped_newest + other.dropped_newest,
            timeouts: self.timeouts + other.timeouts,
            withdrawn: self.withdrawn + other.withdrawn,
            ended: self.ended + other.ended,
        }
    }
}
