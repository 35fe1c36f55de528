//! Messages of one urgency that wait to be handed out.

use tourbillon_device::shared::mutant;
use tourbillon_device::{Context, Plain, PoolError, PoolVec};

use super::messages::{Published, QUEUE_MAX};

/// A queue of at most [`QUEUE_MAX`] messages; the empty one has no page.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Queue {
    /// The messages, as a ring of [`QUEUE_MAX`] places, of which the last may not be there yet.
    held: PoolVec<Published>,
    /// Place of the first.
    first: u32,
    /// How many there are.
    count: u32,
}

impl Queue {
    /// Messages in it.
    #[inline(always)]
    pub const fn len(&self) -> u32 {
        self.count
    }

    /// Whether there is none.
    #[inline(always)]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether there is no place for one more.
    #[inline(always)]
    pub const fn is_full(&self) -> bool {
        self.count >= QUEUE_MAX
    }

    /// The first message, if there is one.
    #[inline]
    pub(super) fn front(&self, context: &Context) -> Result<Option<Published>, PoolError> {
        if self.is_empty() {
            return Ok(None);
        }
        Ok(self.held.get(context, self.first)?.copied())
    }

    /// Puts a message behind the others; the queue must not be full.
    #[inline]
    pub(super) fn push(&mut self, context: &mut Context, message: &Published) -> Result<(), PoolError> {
        let place = self.first.wrapping_add(self.count) % QUEUE_MAX;
        match self.held.get_mut(context, place)? {
            Some(held) => *held = *message,
            // Places come into being in order.
            None => self.held.push(context, *message)?,
        }
        self.count = self.count.wrapping_add(1);
        Ok(())
    }

    /// Removes the first message. Takes no page; the last one to go gives all back.
    #[inline]
    pub(super) fn pop(&mut self, context: &mut Context) -> Result<(), PoolError> {
        let gone = if mutant!("topics_pop_two") && self.count > 1 { 2 } else { 1 };
        self.first = self.first.wrapping_add(gone) % QUEUE_MAX;
        self.count = self.count.saturating_sub(gone);
        if self.is_empty() {
            self.first = 0;
            self.held.clear(context)?;
        }
        Ok(())
    }
}
