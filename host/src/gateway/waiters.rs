//! The places of those who wait in one lane of a gateway: pooled, bounded, each with room for one frame.
//!
//! A place holds its request until that is published and its reply from then on. It belongs to one future from
//! [`Waiters::take`] until that future gives it back; nobody else frees it.

use std::task::Waker;
use std::time::Duration;

use tourbillon_shared::frame::FRAME_WORDS_MAX;
use tourbillon_shared::header::Header;

use super::copying::Large;
use crate::lane_end::FrameWords;
use crate::options::body_bytes;
use crate::staging::Ticket;

/// Places that are made at a time: some 30 KiB, so that making them under the lane's lock is short.
const CHUNK: usize = 64;
/// No deadline.
pub(super) const NEVER: u64 = u64::MAX;

/// Why a request ended without a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Timeout(Duration),
    Rejected,
    Dropped,
    DroppedNewest,
    TooMany(u32),
    /// The engine no longer accepts it, or no longer answers.
    Stopped,
    /// The gateway was shut down.
    Closed,
}

/// Where a request is.
///
/// ```text
/// Staged -> Flying -> Answered     an ask; with a large reply Reading stands before the last
/// Staged -> Published              a tell; one that need not wait has no place
///   any but Reading and the last -> Failed
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Free,
    /// In the staging queue or before it.
    Staged(Ticket),
    /// Published; the number of its flight.
    Flying(u64),
    /// Its reply has come; the payload of it, of the flight of this number, is being copied.
    Reading(u64),
    /// Its reply has come.
    Answered,
    Published,
    Failed(Failure),
}

/// One place.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) state: State,
    pub(super) waker: Option<Waker>,
    pub(super) header: Header,
    /// The request's payload, then the reply's frame.
    pub(super) words: FrameWords,
    /// What goes by way of the arena.
    pub(super) large: Large,
    /// When it has waited in vain for a place in the staging queue, nanoseconds since the gateway began.
    pub(super) block_until: u64,
    /// Its caller's time limit, for the error.
    pub(super) timeout: Duration,
}

impl Waiter {
    fn new() -> Self {
        Self {
            state: State::Free,
            waker: None,
            header: Header::default(),
            words: [0; FRAME_WORDS_MAX],
            large: Large::Nothing,
            block_until: NEVER,
            timeout: Duration::ZERO,
        }
    }

    /// Keeps a request.
    pub(super) fn keep(&mut self, header: Header, payload: &[u8]) {
        self.header = header;
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.words);
        bytes.iter_mut().zip(payload).for_each(|(to, from)| *to = *from);
    }

    /// The payload of the request that it keeps.
    pub(super) fn payload(&self) -> &[u8] {
        let bytes: &[u8] = bytemuck::cast_slice(&self.words);
        bytes.get(..body_bytes(&self.header)).unwrap_or_default()
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Waiters {
    chunks: Vec<Box<[Waiter]>>,
    free: Vec<u32>,
    /// Of every place, nanoseconds since the gateway began; apart from the places, so that a look at all of them is short.
    deadlines: Vec<u64>,
    /// No deadline is earlier.
    earliest: u64,
    in_use: u32,
    limit: u32,
}

impl Waiters {
    /// At most `limit` places; none are made yet.
    pub(super) fn new(limit: u32) -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), deadlines: Vec::new(), earliest: NEVER, in_use: 0, limit }
    }

    pub(super) fn in_use(&self) -> u32 {
        self.in_use
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    /// Places that were made.
    pub(super) fn pooled(&self) -> u32 {
        self.deadlines.len() as u32
    }

    /// A free place, or nothing when as many are in use as may be.
    pub(super) fn take(&mut self) -> Option<u32> {
        if self.in_use == self.limit {
            return None;
        }
        if self.free.is_empty() {
            let first = self.deadlines.len();
            let more = CHUNK.min(self.limit as usize - first);
            self.chunks.push((0..more).map(|_| Waiter::new()).collect());
            self.deadlines.resize(first + more, NEVER);
            self.free.extend((first..first + more).rev().map(|index| index as u32));
        }
        let index = self.free.pop()?;
        self.in_use += 1;
        Some(index)
    }

    /// Takes a place back, in which nothing large is; its waker is to be dropped where no lock is held.
    #[must_use]
    pub(super) fn give(&mut self, index: u32) -> Option<Waker> {
        self.deadlines[index as usize] = NEVER;
        self.free.push(index);
        self.in_use -= 1;
        let waiter = self.get_mut(index);
        debug_assert!(waiter.state != State::Free && matches!(waiter.large, Large::Nothing));
        waiter.state = State::Free;
        waiter.waker.take()
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> &Waiter {
        &self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> &mut Waiter {
        &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    pub(super) fn set_deadline(&mut self, index: u32, deadline: u64) {
        self.deadlines[index as usize] = deadline;
        self.earliest = self.earliest.min(deadline);
    }

    /// Whether a deadline may be over.
    #[inline]
    pub(super) fn is_due(&self, now: u64) -> bool {
        self.earliest <= now
    }

    /// The first place from `from` on whose deadline is over.
    pub(super) fn due_from(&self, from: u32, now: u64) -> Option<u32> {
        let deadlines = self.deadlines.get(from as usize..)?;
        deadlines.iter().position(|deadline| *deadline <= now).map(|offset| from + offset as u32)
    }

    /// Finds out which deadline is the earliest.
    pub(super) fn find_earliest(&mut self) {
        self.earliest = self.deadlines.iter().copied().min().unwrap_or(NEVER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_used_again() {
        let mut waiters = Waiters::new(100);
        let taken: Vec<u32> = std::iter::from_fn(|| {
            let index = waiters.take()?;
            waiters.get_mut(index).state = State::Answered;
            Some(index)
        })
        .collect();
        assert_eq!((taken.len(), waiters.in_use(), waiters.pooled()), (100, 100, 100));
        for index in &taken {
            assert!(waiters.give(*index).is_none());
        }
        assert_eq!((waiters.in_use(), waiters.pooled()), (0, 100));
        assert!(waiters.take().is_some());
        assert_eq!(waiters.pooled(), 100);
    }

    #[test]
    fn deadlines_are_found_and_forgotten() {
        let mut waiters = Waiters::new(100);
        for deadline in [50, 20, NEVER, 70] {
            let index = waiters.take().unwrap();
            waiters.get_mut(index).state = State::Flying(0);
            waiters.set_deadline(index, deadline);
        }
        assert!(!waiters.is_due(19) && waiters.is_due(20));
        assert_eq!(
            (waiters.due_from(0, 60), waiters.due_from(1, 60), waiters.due_from(2, 60)),
            (Some(0), Some(1), None)
        );
        let _ = waiters.give(1);
        waiters.find_earliest();
        assert!(!waiters.is_due(49) && waiters.is_due(50));
    }

    #[test]
    fn a_place_keeps_a_request() {
        let mut waiter = Waiter::new();
        waiter.keep(Header { length: 5, ..Header::default() }, &[1, 2, 3, 4, 5]);
        assert_eq!(waiter.payload(), [1, 2, 3, 4, 5]);
    }
}
