//! A client's end of its lane's arenas: handing out blocks, writing payloads, reading those of replies. The protocol is in
//! [`tourbillon_shared::arena`].
//!
//! A block belongs to one request from before its frame is published until its reply has come and was read, or was seen to come
//! where nobody waits for it any longer: a late reply must never land in another's block. A block is not `Copy`, so it is
//! given back once.
//!
//! Who has which block ([`Blocks`]) and what lies in it ([`ArenaMemory`]) are apart: the first is a list, behind a lock where a lane
//! has several users; the second copies up to 1 MiB, for which no lock is needed, because a block's bytes are its holder's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tourbillon_device::arch::native::store_chunk;
use tourbillon_shared::arena::{
    ARENA_HEAD_BYTES, ARENA_REF_WORDS, ArenaRef, LARGE_BYTES_MAX, block_bytes, payload_bytes_max,
};
use tourbillon_shared::frame::{PAYLOAD_BYTES_MAX, arena_start};
use tourbillon_shared::header::{Flags, Header};
use tourbillon_shared::mutant;
use tourbillon_shared::slot::Chunk;

use crate::extents::Extents;
use crate::lane::Lane;

/// Why there is no block for a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoBlock {
    /// Larger than any payload may be.
    TooLarge,
    /// Larger than the engine's arenas have room for.
    ArenaTooSmall { most: u32 },
    /// Other requests have what would be needed.
    Exhausted { bytes: u32, free: u32 },
}

/// A range of both arenas, for one request and its reply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    reference: ArenaRef,
}

impl Block {
    fn bytes(&self) -> u32 {
        block_bytes(self.reference.length, self.reference.room)
    }
}

/// The ticket after `ticket`; never 0.
fn next_ticket(ticket: u32) -> u32 {
    ticket.checked_add(1).unwrap_or(1)
}

/// Checks that a payload of `bytes` bytes and a reply's of up to `room` have room in arenas of `arena_bytes` bytes, when nothing else is
/// in them; both lengths as a block is reserved for them. More room than any payload needs is not taken.
pub(crate) fn check_lengths(arena_bytes: u32, bytes: usize, room: usize) -> Result<(u32, u32), NoBlock> {
    if bytes > LARGE_BYTES_MAX {
        return Err(NoBlock::TooLarge);
    }
    // Both are at most 1 MiB here.
    let (length, room) = (bytes as u32, room.min(LARGE_BYTES_MAX) as u32);
    if block_bytes(length, room) > arena_bytes {
        return Err(NoBlock::ArenaTooSmall { most: payload_bytes_max(arena_bytes) });
    }
    Ok((length, room))
}

/// What the payload of a request's frame is: the reference to the block, which is the only extension, then the message.
pub(crate) fn frame_payload(block: &Block, message: &[u8]) -> [u8; PAYLOAD_BYTES_MAX] {
    let mut payload = [0; PAYLOAD_BYTES_MAX];
    let (reference, rest) = payload.split_at_mut(ARENA_REF_WORDS as usize * 4);
    reference.copy_from_slice(bytemuck::cast_slice(&block.reference.encode().map(u32::to_le)));
    rest.iter_mut().zip(message).for_each(|(to, from)| *to = *from);
    payload
}

/// The reference in the words of a frame, if it has one.
pub(crate) fn reference_in(header: &Header, words: &[u32]) -> Option<ArenaRef> {
    if !header.flags.has(Flags::ARENA) {
        return None;
    }
    let reference = words.get(arena_start(header.flags) as usize..)?.first_chunk()?;
    Some(ArenaRef::decode(reference))
}

/// Both arenas of a lane, for its one holder.
#[derive(Debug)]
pub(crate) struct Arena {
    pub(crate) blocks: Blocks,
    pub(crate) memory: ArenaMemory,
}

/// Which parts are whose.
#[derive(Debug)]
pub(crate) struct Blocks {
    extents: Extents,
    /// The last ticket that was given: the lane's own count, so that its holders after each other go on counting.
    last_ticket: Arc<AtomicU32>,
}

/// The bytes. Whoever has a block of the same arena, and nobody else, may write and read its part.
#[derive(Debug)]
pub(crate) struct ArenaMemory {
    /// First byte of the request arena.
    requests: *mut u8,
    /// First byte of the reply arena.
    replies: *const u8,
    /// Bytes of each.
    #[cfg(feature = "async")]
    bytes: u32,
    /// Keeps the memory mapped.
    _lane: Arc<Lane>,
}

// SAFETY: the memory stays mapped wherever this is, and no thread owns it.
unsafe impl Send for ArenaMemory {}
// SAFETY: what is touched is the part of a block that the caller has, exclusively where it is written; two blocks share no byte.
unsafe impl Sync for ArenaMemory {}

impl Arena {
    /// The arenas of a lane on which everything is answered.
    pub(crate) fn new(lane: &Arc<Lane>) -> Self {
        let (requests, replies, bytes) = lane.arenas();
        Self {
            blocks: Blocks { extents: Extents::new(bytes), last_ticket: Arc::clone(lane.last_ticket()) },
            memory: ArenaMemory {
                requests,
                replies,
                #[cfg(feature = "async")]
                bytes,
                _lane: Arc::clone(lane),
            },
        }
    }
}

impl Blocks {
    /// Bytes of each arena.
    pub(crate) fn bytes(&self) -> u32 {
        self.extents.length()
    }

    /// Bytes that are in no block.
    #[cfg(any(test, feature = "async"))]
    pub(crate) fn free_bytes(&self) -> u32 {
        self.extents.free_bytes()
    }

    /// Takes a block for a payload of `bytes` bytes and a reply's of up to `room`; more room than any payload needs is not taken.
    pub(crate) fn reserve(&mut self, bytes: usize, room: usize) -> Result<Block, NoBlock> {
        let (length, room) = check_lengths(self.bytes(), bytes, room)?;
        let needed = block_bytes(length, room);
        let Some(offset) = self.extents.take(needed) else {
            return Err(NoBlock::Exhausted { bytes: needed, free: self.extents.longest() });
        };
        // Relaxed: the holder of the lane alone counts, and a lane changes hands under a lock.
        let ticket = next_ticket(self.last_ticket.load(Ordering::Relaxed));
        self.last_ticket.store(ticket, Ordering::Relaxed);
        Ok(Block { reference: ArenaRef { offset, length, room, ticket } })
    }

    /// Gives a block back whose reply has come, or whose request was never published.
    pub(crate) fn give_back(&mut self, block: Block) {
        self.extents.give(block.reference.offset, block.bytes());
    }
}

impl ArenaMemory {
    /// Bytes of each arena.
    #[cfg(feature = "async")]
    pub(crate) fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Writes a payload, which is as long as the block was reserved for; then the head, so that whoever finds it finds the payload.
    /// The frame is published afterwards by whoever this call happens before.
    pub(crate) fn write(&self, block: &mut Block, payload: &[u8]) {
        let reference = block.reference;
        debug_assert_eq!(payload.len(), reference.length as usize);
        let at = self.requests.wrapping_add(reference.offset as usize);
        let length = payload.len().min(reference.length as usize);
        // SAFETY: the block has room for so many bytes behind its head. It is this request's alone, and the device reads it only
        // when it has found the head.
        unsafe {
            let to = at.wrapping_add(ARENA_HEAD_BYTES as usize);
            std::ptr::copy_nonoverlapping(payload.as_ptr(), to, length);
        }
        // SAFETY: blocks lie inside the arena and are aligned to a line. Release pairs with the device's load of the head and the fence
        // behind it.
        unsafe { store_chunk(at.cast::<Chunk>(), reference.head()) };
    }

    /// The payload of a reply whose frame was read and carries `reply`; nothing when that is not the reference of this block's reply.
    pub(crate) fn read<'a>(&'a self, block: &'a Block, reply: ArenaRef) -> Option<&'a [u8]> {
        let own = block.reference;
        let is_own = reply.offset == own.offset && reply.ticket == own.ticket;
        if (!is_own && !mutant!("arena_reply_of_another")) || reply.length > own.room {
            return None;
        }
        let at = self.replies.wrapping_add((own.offset + ARENA_HEAD_BYTES) as usize);
        // SAFETY: the block lies inside the arena and has room for so many bytes. The device wrote them before it released the
        // frame, which was read with Acquire before this, and writes no more until the block is given to another request, which
        // whoever lends it here rules out.
        Some(unsafe { std::slice::from_raw_parts(at, reply.length as usize) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tourbillon_shared::position::RingShape;

    fn arena(bytes: u32, last_ticket: u32) -> Arena {
        let lane = Lane::create(0, RingShape::new(16).unwrap(), 0, bytes, 5).unwrap();
        lane.last_ticket().store(last_ticket, Ordering::Relaxed);
        Arena::new(&Arc::new(lane))
    }

    #[test]
    fn holders_after_each_other_give_no_ticket_twice() {
        let lane = Arc::new(Lane::create(0, RingShape::new(16).unwrap(), 0, 4096, 5).unwrap());
        let take = || Arena::new(&lane).blocks.reserve(0, 0).unwrap().reference.ticket;
        // Nothing was published meanwhile.
        assert_eq!([take(), take(), take()], [1, 2, 3]);
    }

    #[test]
    fn blocks_run_out_and_come_back() {
        let mut arena = arena(4096, 0);
        let first = arena.blocks.reserve(1000, 10).unwrap();
        let second = arena.blocks.reserve(10, 2000).unwrap();
        assert_eq!((first.reference.offset, second.reference.offset), (0, 1152));
        assert_eq!(arena.blocks.reserve(1000, 0), Err(NoBlock::Exhausted { bytes: 1152, free: 768 }));
        let third = arena.blocks.reserve(640, 0).unwrap();
        assert_eq!(arena.blocks.reserve(0, 0), Err(NoBlock::Exhausted { bytes: 128, free: 0 }));
        arena.blocks.give_back(first);
        let fourth = arena.blocks.reserve(1000, 0).unwrap();
        assert_eq!((fourth.reference.offset, fourth.reference.ticket), (0, 4), "another ticket in the same place");
        for block in [third, fourth, second] {
            arena.blocks.give_back(block);
        }
        assert_eq!(arena.blocks.free_bytes(), 4096);
    }

    #[test]
    fn what_can_never_fit_is_told_apart() {
        let mut small = arena(4096, 0);
        assert_eq!(small.blocks.reserve((1 << 20) + 1, 0), Err(NoBlock::TooLarge));
        assert_eq!(small.blocks.reserve(3969, 0), Err(NoBlock::ArenaTooSmall { most: 3968 }));
        assert_eq!(small.blocks.reserve(0, 1 << 40), Err(NoBlock::ArenaTooSmall { most: 3968 }));
        assert!(small.blocks.reserve(3968, 3968).is_ok());
        assert_eq!(arena(0, 0).blocks.reserve(0, 0), Err(NoBlock::ArenaTooSmall { most: 0 }));
    }

    #[test]
    fn replies_to_other_requests_are_refused() {
        let mut arena = arena(4096, u32::MAX - 1);
        let mut block = arena.blocks.reserve(3, 200).unwrap();
        arena.memory.write(&mut block, &[1, 2, 3]);
        let own = block.reference;
        assert_eq!(own.ticket, u32::MAX);
        assert_eq!(arena.memory.read(&block, ArenaRef { length: 200, ..own }).map(<[u8]>::len), Some(200));
        for other in [
            ArenaRef { length: 201, ..own },
            ArenaRef { offset: 128, ..own },
            ArenaRef { ticket: own.ticket - 1, ..own },
            ArenaRef { length: u32::MAX, ..own },
        ] {
            assert_eq!(arena.memory.read(&block, other), None, "{other:?}");
        }
        let tickets: Vec<u32> = (0..3).map(|_| arena.blocks.reserve(0, 0).unwrap().reference.ticket).collect();
        assert_eq!(tickets, [1, 2, 3], "0 is the ticket of no block");
    }
}
