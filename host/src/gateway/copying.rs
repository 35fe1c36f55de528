//! Large payloads in one lane of a gateway: blocks of its arena, and what is copied into and out of them without the lane's lock.
//!
//! ```text
//!  request  Unwritten --- turn has come, a block is free ---> Writing ----> Written ---> published
//!              |          (copied without the lock)              |             |
//!              +---- given up: nothing to undo                   |             +--- given up: block back at once
//!                                                                +--- given up: block back when the copy has ended
//!  reply    published --- reply has come ---> being read ----> Reply, block back
//!              |          (copied without the lock)  |
//!              |                                     +--- given up: block back when the copy has ended, reply thrown away
//!              +---- given up: block back when the reply has come
//! ```
//!
//! A block is asked for only when a request is the first in the staging queue, so blocks are had in the order of the queue and nobody
//! starves. A reply leaves the arena when it has come, not when its future is polled: a future that nobody polls holds no
//! block, so that whoever waits for one waits for the device alone.

use std::collections::VecDeque;

use tourbillon_shared::arena::{ArenaRef, LARGE_BYTES_MAX};
use tourbillon_shared::mutant;

use super::lane::{LaneState, Wakes};
use super::waiters::State;
use crate::arena::{ArenaMemory, Block, Blocks};
use crate::port::Pending;
use crate::staging::Ticket;

/// Replies' payloads that are read between two holds of a lane's lock end with the one that brings them to this: the reaper
/// is away from the other lanes for less than 2 MiB of replies and 1 MiB of a request, some tenths of a millisecond.
const READ_BYTES_PER_HOLD: usize = LARGE_BYTES_MAX;

/// The payload of a request as its future hands it over.
#[derive(Debug)]
pub(super) struct LargePart {
    pub(super) payload: Vec<u8>,
    /// Most bytes of the reply's.
    pub(super) room: usize,
}

/// What a place holds beside its frame.
#[derive(Debug, Default)]
pub(super) enum Large {
    /// Nothing: a small message, or all of it is elsewhere.
    #[default]
    Nothing,
    /// A request's payload that has no block yet.
    Unwritten {
        part: LargePart,
        /// Its turn came while others had what it needs.
        has_waited: bool,
    },
    /// Somebody copies the payload into its block, and has both.
    Writing,
    /// The payload is in its block.
    Written(Block),
    /// A reply's payload.
    Reply(Vec<u8>),
}

impl Large {
    /// Whether a request may be published with it.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self, Self::Nothing | Self::Written(_))
    }
}

/// A payload that is to be copied into its block.
#[derive(Debug)]
pub(super) struct Write {
    index: u32,
    /// Tells whether the place is still this request's.
    ticket: Ticket,
    block: Block,
    payload: Vec<u8>,
}

/// A reply's payload that is to be copied out of its block.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) index: u32,
    /// Number of the flight: tells whether the place is still this request's.
    pub(super) number: u64,
    pub(super) block: Block,
    pub(super) reference: ArenaRef,
}

/// What is to be copied without the lock, then what was. Whoever got it from a lane must give it back by
/// [`LaneState::finish_copies`].
#[derive(Debug, Default)]
pub(super) struct Copies {
    write: Option<Write>,
    reads: Vec<Read>,
    /// Of `reads`, in their order; nothing for a reply that is none of its request's.
    replies: Vec<Option<Vec<u8>>>,
    read_bytes: usize,
}

impl Copies {
    pub(super) fn is_empty(&self) -> bool {
        self.write.is_none() && self.reads.is_empty()
    }

    /// Whether no more replies are to be read in this hold.
    pub(super) fn is_full(&self) -> bool {
        self.read_bytes >= READ_BYTES_PER_HOLD
    }

    pub(super) fn read(&mut self, read: Read) {
        self.read_bytes += read.reference.length as usize;
        self.reads.push(read);
    }

    /// Copies everything. No lock is held.
    pub(super) fn run(&mut self, memory: &ArenaMemory) {
        if let Some(write) = &mut self.write {
            memory.write(&mut write.block, &write.payload);
            // Freed here, where nobody waits for it.
            write.payload = Vec::new();
        }
        let read = |read: &Read| memory.read(&read.block, read.reference).map(<[u8]>::to_vec);
        self.replies.extend(self.reads.iter().map(read));
    }
}

/// The arena of one lane, and what is copied in it.
#[derive(Debug)]
pub(super) struct Copying {
    pub(super) blocks: Blocks,
    /// Payloads that are being written without the lock.
    writing: u32,
    /// Replies that are being read without the lock; their flights have landed.
    reading: u32,
    /// The lane was given up while something was copied: what is unanswered, for whoever watches it from the last copy's end on.
    leaving: Option<VecDeque<Pending>>,
}

impl Copying {
    pub(super) fn new(blocks: Blocks) -> Self {
        Self { blocks, writing: 0, reading: 0, leaving: None }
    }

    /// Replies that have come and are being read.
    pub(super) fn reading(&self) -> u32 {
        self.reading
    }

    /// Payloads that are being copied, in either direction.
    pub(super) fn under_way(&self) -> u32 {
        self.writing + self.reading
    }

    pub(super) fn begin_read(&mut self) {
        self.reading += 1;
    }

    /// The lane is given up: `pending` again when that may be at once. Else the last copy's end hands it out, for the next holder's
    /// payloads lie where these are copied.
    pub(super) fn leave(&mut self, pending: VecDeque<Pending>) -> Option<VecDeque<Pending>> {
        if self.under_way() == 0 || mutant!("gateway_lane_left_early") {
            return Some(pending);
        }
        self.leaving = Some(pending);
        None
    }
}

impl LaneState {
    /// What is to be copied for the first in the staging queue, if it needs a block and there is one; nothing for others when `only` is
    /// given.
    pub(super) fn next_write(&mut self, only: Option<u32>, copies: &mut Copies) {
        let Some(&index) = self.staging.front() else { return };
        if only.is_some_and(|only| only != index) || copies.write.is_some() {
            return;
        }
        let waiter = self.waiters.get_mut(index);
        let (Large::Unwritten { part, has_waited }, State::Staged(ticket)) = (&mut waiter.large, waiter.state) else {
            return;
        };
        let Ok(block) = self.copying.blocks.reserve(part.payload.len(), part.room) else {
            // What can never fit was refused before: others have it.
            if !std::mem::replace(has_waited, true) {
                self.counts.arena_exhausted += 1;
            }
            return;
        };
        let payload = std::mem::take(&mut part.payload);
        waiter.large = Large::Writing;
        self.copying.writing += 1;
        copies.write = Some(Write { index, ticket, block, payload });
    }

    /// Takes note of what was copied; what is unanswered, if the lane was given up and waited for this.
    pub(super) fn finish_copies(&mut self, copies: &mut Copies, wakes: &mut Wakes) -> Option<VecDeque<Pending>> {
        if let Some(Write { index, ticket, block, .. }) = copies.write.take() {
            self.copying.writing -= 1;
            let waiter = self.waiters.get_mut(index);
            if waiter.state == State::Staged(ticket) || mutant!("gateway_write_after_drop") {
                waiter.large = Large::Written(block);
            } else {
                self.give_back(block);
            }
        }
        copies.read_bytes = 0;
        for (Read { index, number, block, .. }, reply) in copies.reads.drain(..).zip(copies.replies.drain(..)) {
            self.copying.reading -= 1;
            self.copying.blocks.give_back(block);
            if self.waiters.get(index).state == State::Reading(number) {
                self.counts.answered += 1;
                // Without one the future says that the reply is invalid.
                self.waiters.get_mut(index).large = reply.map_or(Large::Nothing, Large::Reply);
                self.finish(index, State::Answered, wakes);
            } else {
                self.counts.late += 1;
                wakes.free(reply.unwrap_or_default());
            }
        }
        if self.copying.under_way() == 0 { self.copying.leaving.take() } else { None }
    }

    /// Takes back the block of a request that was never published.
    fn give_back(&mut self, block: Block) {
        if !mutant!("gateway_block_lost") {
            self.copying.blocks.give_back(block);
        }
    }

    /// Empties a place of what lies beside its frame.
    pub(super) fn drop_large(&mut self, index: u32, wakes: &mut Wakes) {
        match std::mem::take(&mut self.waiters.get_mut(index).large) {
            Large::Nothing | Large::Writing => {}
            Large::Unwritten { part, .. } => wakes.free(part.payload),
            Large::Written(block) => self.give_back(block),
            Large::Reply(payload) => wakes.free(payload),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::Duration;

    use super::*;
    use crate::arena::Arena;
    use crate::backpressure::Backpressure;
    use crate::gateway::lane::{Begun, Request};
    use crate::gateway::waiters::Failure;
    use crate::lane_end::testing::end;
    use tourbillon_shared::header::{Flags, Header};

    /// Bytes of the arena of [`end`].
    const ARENA: u64 = 1 << 14;
    const BLOCK: Backpressure = Backpressure::Block { timeout: Duration::from_secs(9) };

    fn lane(strategy: Backpressure, bound: u32) -> (LaneState, ArenaMemory) {
        let end = end(16, 0);
        let Arena { blocks, memory } = end.arena();
        (LaneState::new(end, blocks, strategy, bound, 64), memory)
    }

    fn begin(state: &mut LaneState, bytes: usize) -> Begun {
        let header = Header { kind: 1, length: 8, flags: Flags::new(1, Flags::ARENA), ..Header::default() };
        let large = Some(LargePart { payload: vec![7; bytes], room: 0 });
        let request = Request { header, payload: &[1; 8], timeout: None, large };
        state.begin(request, 0, Waker::noop(), &mut Wakes::default())
    }

    fn begun(state: &mut LaneState, bytes: usize) -> u32 {
        match begin(state, bytes) {
            Begun::Waiting(index) => index,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_given_up_while_it_is_copied_is_not_published_and_its_block_comes_back() {
        let (mut state, memory) = lane(BLOCK, 4);
        let (mut copies, mut wakes) = (Copies::default(), Wakes::default());
        let first = begun(&mut state, 5_000);
        state.next_write(Some(first), &mut copies);
        assert_eq!((state.usage().copying, state.usage().arena_free), (1, ARENA - 5_248));
        state.cancel(first, &mut wakes);
        // Its place is the next one's already.
        let second = begun(&mut state, 100);
        assert_eq!(second, first);
        copies.run(&memory);
        assert!(state.finish_copies(&mut copies, &mut wakes).is_none());
        assert!(!state.publish_staged(&mut wakes), "the second has not been copied");
        assert_eq!((state.usage().copying, state.usage().arena_free), (0, ARENA));
        state.next_write(None, &mut copies);
        copies.run(&memory);
        state.finish_copies(&mut copies, &mut wakes);
        assert!(state.publish_staged(&mut wakes));
        assert_eq!((state.usage().in_flight, state.counts().staging.withdrawn), (1, 1));
    }

    #[test]
    fn what_is_dropped_while_it_is_copied_is_told_at_once() {
        let (mut state, memory) = lane(Backpressure::DropOldest, 1);
        let (mut copies, mut wakes) = (Copies::default(), Wakes::default());
        let first = begun(&mut state, 5_000);
        state.next_write(Some(first), &mut copies);
        let second = begun(&mut state, 10);
        let told = state.poll(first, Waker::noop(), &mut wakes, |_, _| ());
        assert_eq!(told, Some(Err(Failure::Dropped)));
        copies.run(&memory);
        state.finish_copies(&mut copies, &mut wakes);
        assert_eq!(state.usage().arena_free, ARENA);
        state.next_write(Some(second), &mut copies);
        assert!(!copies.is_empty());
    }

    #[test]
    fn written_and_given_up_before_it_is_published_gives_its_block_back_at_once() {
        let (mut state, memory) = lane(BLOCK, 4);
        let (mut copies, mut wakes) = (Copies::default(), Wakes::default());
        let first = begun(&mut state, 5_000);
        state.next_write(None, &mut copies);
        copies.run(&memory);
        state.finish_copies(&mut copies, &mut wakes);
        assert_eq!(state.usage().arena_free, ARENA - 5_248);
        state.cancel(first, &mut wakes);
        assert_eq!((state.usage().arena_free, state.usage().waiting), (ARENA, 0));
    }

    #[test]
    fn a_lane_is_left_when_nothing_is_copied_any_longer() {
        let (mut state, memory) = lane(BLOCK, 4);
        let (mut copies, mut wakes) = (Copies::default(), Wakes::default());
        let first = begun(&mut state, 5_000);
        state.next_write(None, &mut copies);
        assert!(state.close(&mut wakes).is_none(), "the payload is being copied");
        assert_eq!(state.poll(first, Waker::noop(), &mut wakes, |_, _| ()), Some(Err(Failure::Closed)));
        copies.run(&memory);
        assert_eq!(state.finish_copies(&mut copies, &mut wakes).map(|pending| pending.len()), Some(0));
        assert!(state.close(&mut wakes).is_none() && state.finish_copies(&mut copies, &mut wakes).is_none());
    }

    #[test]
    fn only_the_first_in_the_queue_asks_for_a_block_and_exhaustion_is_counted_once() {
        let (mut state, memory) = lane(BLOCK, 4);
        let (mut copies, mut wakes) = (Copies::default(), Wakes::default());
        for bytes in [9_000, 9_000, 10] {
            begun(&mut state, bytes);
        }
        state.next_write(Some(1), &mut copies);
        assert!(copies.is_empty(), "the second has to wait for its turn");
        state.next_write(None, &mut copies);
        copies.run(&memory);
        state.finish_copies(&mut copies, &mut wakes);
        state.publish_staged(&mut wakes);
        for _ in 0..3 {
            state.next_write(None, &mut copies);
            assert!(copies.is_empty() && !state.publish_staged(&mut wakes), "and the third behind it");
        }
        assert_eq!((state.counts().arena_exhausted, state.usage().staged), (1, 2));
        assert_eq!(begin(&mut state, 1), Begun::Waiting(3));
    }
}
