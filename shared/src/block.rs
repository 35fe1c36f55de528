//! What a block keeps in its shared memory while it runs.

use bytemuck::{Pod, Zeroable};

use crate::geometry::Geometry;
use crate::mailbox::Desk;
use crate::outbox::Mail;

/// Byte offsets in the shared memory of a block.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLayout {
    /// [`BlockWords`].
    pub words: u32,
    /// A turn word (u32) for each shard of the block.
    pub turns: u32,
    /// A position for each lane: how far it is claimed. Gate blocks.
    pub lane_heads: u32,
    /// For each lane: the device time (u64, ns) at which its oldest message was seen to wait for others; 0 when none does. Gate
    /// blocks.
    pub lane_waits: u32,
    /// For each lane: how many windows (u64) in a row it filled. Gate blocks.
    pub lane_fulls: u32,
    /// For each lane: the device time (u64, ns) at which the last look at its head alone began. Gate blocks.
    pub lane_looks: u32,
    /// A position for each shard: how far this gate has written. Gate blocks.
    pub ring_tails: u32,
    /// A position for each shard: what the gate last read of `ring_freed`. Gate blocks.
    pub ring_freed: u32,
    /// A position for each shard of the block and each of its rings, the gates' and its mailbox: how far it is taken. Shard blocks.
    pub ring_heads: u32,
    /// Published `ring_freed`, as `ring_heads`. Shard blocks.
    pub ring_published: u32,
    /// The last timestamp (u64) of each shard of the block. Shard blocks.
    pub clocks: u32,
    /// A word (u64) for each shard of the block: not 0 while its overflow may have letters. Shard blocks.
    pub overflowing: u32,
    /// [`WarpScratch`] of each warp.
    pub scratch: u32,
    /// Bytes in all.
    pub total_bytes: u32,
}

impl BlockLayout {
    /// The layout of every block of `geometry`.
    #[inline]
    pub const fn new(geometry: &Geometry) -> Self {
        #[inline(always)]
        const fn place(next: &mut u32, bytes: u32) -> u32 {
            let offset = (*next).wrapping_add(127) & !127;
            *next = offset.wrapping_add(bytes);
            offset
        }
        let shard_blocks = geometry.shard_blocks();
        // Rounded up by hand: `div_ceil` has a panicking path, and the device code may not.
        let local_shards = match (geometry.shards.wrapping_add(shard_blocks).wrapping_sub(1)).checked_div(shard_blocks)
        {
            Some(shards) => shards,
            None => geometry.shards,
        };
        let local_rings = local_shards.wrapping_mul(geometry.sources());
        let mut next = 0;
        let words = place(&mut next, size_of::<BlockWords>() as u32);
        let turns = place(&mut next, local_shards.wrapping_mul(4));
        let lane_heads = place(&mut next, geometry.lanes.wrapping_mul(8));
        let lane_waits = place(&mut next, geometry.lanes.wrapping_mul(8));
        let lane_fulls = place(&mut next, geometry.lanes.wrapping_mul(8));
        let lane_looks = place(&mut next, geometry.lanes.wrapping_mul(8));
        let gate_tails = place(&mut next, geometry.shards.wrapping_mul(8));
        let gate_freed = place(&mut next, geometry.shards.wrapping_mul(8));
        let ring_heads = place(&mut next, local_rings.wrapping_mul(8));
        let ring_published = place(&mut next, local_rings.wrapping_mul(8));
        let clocks = place(&mut next, local_shards.wrapping_mul(8));
        let overflowing = place(&mut next, if geometry.mailbox_log2 == 0 { 0 } else { local_shards.wrapping_mul(8) });
        let scratch = place(&mut next, geometry.warps_per_block.wrapping_mul(size_of::<WarpScratch>() as u32));
        Self {
            words,
            turns,
            lane_heads,
            lane_waits,
            lane_fulls,
            lane_looks,
            ring_tails: gate_tails,
            ring_freed: gate_freed,
            ring_heads,
            ring_published,
            clocks,
            overflowing,
            scratch,
            total_bytes: next,
        }
    }
}

/// Words that the warps of a block share.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockWords {
    /// 0: free, 1: a warp of the gate claims.
    pub gate_lock: u32,
    /// Warps that still run.
    pub warps_running: u32,
    /// Where the warps' scratch begins, for a panicking lane, which has no arguments at hand.
    pub scratch_offset: u32,
    /// Zero.
    pub reserved: [u32; 29],
}

/// Slots that a warp works on at once: one for each of 32 lanes.
pub const WINDOW_SLOTS: usize = 32;

/// What one warp needs in its block's shared memory.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug)]
pub struct WarpScratch {
    /// Slots as they were read; a reply is written over its request.
    pub stage: [crate::slot::Slot; WINDOW_SLOTS],
    /// Where each staged slot goes: address of the target slot.
    pub target: [u64; WINDOW_SLOTS],
    /// The tag under which it goes there.
    pub target_lap: [u32; WINDOW_SLOTS],
    /// For each lane: the frame whose handler runs, plus one; 0 when none does.
    pub running: [u32; WINDOW_SLOTS],
    /// For each group of frames of one actor: which frames.
    pub group: [u32; WINDOW_SLOTS],
    /// For each frame: its first slot in `stage`.
    pub start: [u32; WINDOW_SLOTS],
    /// For each frame: low bits of the device clock when its gate took it.
    pub arrival: [u32; WINDOW_SLOTS],
    /// For each lane: where its handler panicked.
    pub panic: [crate::error::PanicPlace; WINDOW_SLOTS],
    /// Of a frame whose payload is in an arena, which is alone in its window.
    pub landing: Landing,
    /// What posting needs; the same for as long as the kernel runs.
    pub mail: Mail,
    /// What sending letters needs.
    pub desk: Desk,
    /// Not 0: a lane has opened its record of the shard's pool since the last time that all came back.
    pub pool_open: u32,
    /// What the window is about, if it is about an actor that comes or goes: see [`errand`](crate::virtual_actors::errand).
    pub errand: u32,
    /// The frames of the window that wait now, for such an actor.
    pub parked: u32,
    /// The request that the order answers which is carried out.
    pub answered: u32,
    /// Not 0: a message of the window failed because the shard's pool had no page left.
    pub pool_short: u32,
    /// Copies of an entry's chunks, over each other, that nobody reads: what brings them near ends here, some time.
    pub near: crate::slot::Chunk,
    /// The first slot of the order that is carried out: what it led to is staged over it. While a warp watches a mailbox, when it carries out
    /// none, the first [`AT_HAND_CHUNKS`] are what running lone letters needs to know of the shard.
    pub order: [crate::slot::Chunk; crate::slot::CHUNKS_PER_SLOT],
    /// Of lone letters that one lane runs one after the other.
    pub row: Row,
}

/// Chunks of what running lone letters needs to know of a shard: the places of its directory, of its clock, and the time.
pub const AT_HAND_CHUNKS: usize = 3;

/// Lone letters that one lane runs one after the other: few, for clients wait at the shard's rings.
pub const ROW_MAX: usize = 6;

/// What the lane that runs lone letters notes, and tells the others of its warp. Its first chunk is written at once when a letter comes.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Position at which the shard takes its next letter.
    pub next_letter: u64,
    /// How many are done.
    pub done: u32,
    /// What there is to know of the staged letter: see [`row_note`].
    pub note: u32,
    /// Low bits of the device clock when the last of them was done.
    pub ended_ns: u32,
    /// How long each was under way, nanoseconds.
    pub waited_ns: [u32; ROW_MAX],
}

/// Values of [`Row::note`].
pub mod row_note {
    /// It came as others do.
    pub const NONE: u32 = 0;
    /// The letter that was run last has left it there, and the shard takes it next.
    pub const KEPT: u32 = 1;
    /// It is not done, and for the long way.
    pub const LEFT: u32 = 2;
}

/// Where the payload of a frame is while its handler runs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Landing {
    /// Address of the shard's landing buffer, which holds the payload.
    pub buffer: u64,
    /// Address in the lane's reply arena to which the payload of the reply goes.
    pub reply: u64,
    /// The [`FailureCode`](crate::error::FailureCode) of a payload that was refused, else 0.
    pub failure: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<BlockWords>() == 128);
    assert!(size_of::<WarpScratch>() == 3584);
    assert!(offset_of!(WarpScratch, near).is_multiple_of(16));
    assert!(offset_of!(WarpScratch, row).is_multiple_of(16));
    assert!(offset_of!(WarpScratch, order).is_multiple_of(16) && AT_HAND_CHUNKS <= crate::slot::CHUNKS_PER_SLOT);
    assert!(offset_of!(Row, note) + size_of::<u32>() == size_of::<crate::slot::Chunk>());
};
