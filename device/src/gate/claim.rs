//! The critical section of a gate: which frames of a look are taken, and where they go.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::control::Processing;
use tourbillon_shared::frame::FRAME_SLOTS_MAX;
use tourbillon_shared::header::Flags;
use tourbillon_shared::position::{RING_CAPACITY_MAX, RING_CAPACITY_MIN};
use tourbillon_shared::ring::has_room;

use super::{Gate, Visit};
use crate::arch::Arch;
use crate::block::Block;
use crate::frames::{Frames, staged_flags};
use crate::warp::{Warp, low_bits, lowest};

/// Slots of a shard's ring of `capacity` slots that only urgent frames may take: those of the longest frame, and an eighth of a small
/// ring. A shard tells of room by quarters of its ring, so the longest frame must find its room although less than a quarter more
/// seems taken than is.
const fn urgent_room(capacity: u32) -> u32 {
    let eighth = capacity / 8;
    if eighth < FRAME_SLOTS_MAX as u32 { eighth } else { FRAME_SLOTS_MAX as u32 }
}

const _: () = {
    let mut capacity = RING_CAPACITY_MIN;
    while capacity <= RING_CAPACITY_MAX {
        assert!(FRAME_SLOTS_MAX as u32 + urgent_room(capacity) + capacity / 4 <= capacity);
        capacity *= 2;
    }
};

impl Gate {
    /// The critical section: takes room for as many frames as have it, in order, and moves the lane's head past them.
    ///
    /// Returns how many frames and slots were taken and where in the shard's ring this lane's frame goes; when another warp was
    /// faster, how far that one took the lane.
    #[inline(always)]
    pub(super) fn claim<A: Arch, const WHOLE: bool>(
        &self,
        warp: &Warp<A, WHOLE>,
        block: &Block<'_>,
        scratch: *mut WarpScratch,
        visit: Visit,
        frames: Frames,
        shard: u32,
    ) -> Result<(u32, u32, u64), u64> {
        let rank = warp.rank();
        let is_mine = rank < frames.count;
        // SAFETY: every lane writes its own word of the warp's scratch.
        unsafe { (&raw mut (*scratch).start).cast::<u32>().wrapping_add(rank as usize).write(frames.start) };
        // Frames of one shard; a lane without a frame is alone.
        let peers = if frames.count == 1 {
            low_bits(1)
        } else {
            warp.match_any(if is_mine { shard.into() } else { (1u64 << 32) | u64::from(rank) })
        };
        self.lock(warp, block);
        let lane_head = block.lane_head(visit.lane);
        // SAFETY: a position of the block's memory, under the lock.
        let head = unsafe { A::load_cta(lane_head) };
        if head != visit.position && !tourbillon_shared::mutant!("double_claim") {
            self.unlock(warp, block);
            return Err(head);
        }
        let ring_shape = self.routes.ring_shape;
        let (span, needed) = if is_mine { self.needs_of(scratch, frames.start) } else { (0, 0) };
        let before = peers & low_bits(rank);
        let ahead = if frames.count == frames.slots { before.count_ones() } else { self.spans_of(scratch, before) };
        let mut fits = false;
        let mut tail = 0;
        if is_mine {
            // SAFETY: positions of the block's memory, under the lock.
            tail = unsafe { A::load_cta(block.ring_tail(shard)) }.wrapping_add(ahead.into());
            // SAFETY: as above.
            let mut freed = unsafe { A::load_cta(block.ring_freed(shard)) };
            if !has_room(ring_shape, tail, freed, needed) {
                let published = block.pair(block.arguments.layout.ring_freed, block.number, shard);
                // SAFETY: a word of device memory. Acquire pairs with the shard's Release after it has read the slots.
                freed = unsafe { A::load_acquire_gpu(published) };
                // SAFETY: as above. Peers may write different values, each of them true.
                unsafe { A::store_cta(block.ring_freed(shard), freed) };
            }
            fits = has_room(ring_shape, tail, freed, needed);
        }
        let stuck = !warp.ballot(fits) & low_bits(frames.count);
        let taken = if stuck == 0 { frames.count } else { lowest(stuck) };
        let slots = if taken == frames.count {
            frames.slots
        } else {
            warp.broadcast(frames.start, taken).wrapping_sub(visit.base)
        };
        // The last taken frame of each shard moves the tail for all of them.
        let last = 31u32.wrapping_sub((peers & low_bits(taken)).leading_zeros());
        if rank < taken && rank == last {
            // SAFETY: a position of the block's memory, under the lock.
            unsafe { A::store_cta(block.ring_tail(shard), tail.wrapping_add(span.into())) };
        }
        if rank == 0 {
            // SAFETY: as above.
            unsafe { A::store_cta(lane_head, visit.position.wrapping_add(slots.into())) };
            // What a claim leaves of a look has waited as long as what it took, and goes next.
            let is_used_up = slots == visit.slots || tourbillon_shared::mutant!("batch_waits_anew");
            if self.processing != Processing::Continuous && is_used_up {
                // SAFETY: as above.
                unsafe { A::store_cta(block.lane_wait(visit.lane), 0) };
            }
        }
        self.unlock(warp, block);
        Ok((taken, slots, tail))
    }

    /// Takes the block's lock; held for a few hundred cycles and never while waiting for anything.
    #[inline(always)]
    fn lock<A: Arch, const WHOLE: bool>(&self, warp: &Warp<A, WHOLE>, block: &Block<'_>) {
        loop {
            // SAFETY: the lock is a word of the block's memory.
            let got = unsafe { A::try_acquire_cta(block.gate_lock(), warp.rank() == 0) };
            if warp.any(got) {
                break;
            }
            A::relax(0);
        }
        warp.sync();
    }

    #[inline(always)]
    fn unlock<A: Arch, const WHOLE: bool>(&self, warp: &Warp<A, WHOLE>, block: &Block<'_>) {
        warp.sync();
        if warp.rank() == 0 {
            // SAFETY: the warp holds the lock.
            unsafe { A::release_cta(block.gate_lock()) };
        }
    }

    /// Slots of a frame, and room that its shard's ring must have for it: urgent ones find some that others leave them, for a lane
    /// with a backlog takes what there is.
    #[inline(always)]
    fn needs_of(&self, scratch: *mut WarpScratch, start: u32) -> (u32, u32) {
        // SAFETY: as in `span_of`.
        let flags = unsafe { staged_flags(scratch, start) };
        let span = flags.span();
        (
            span,
            if flags.has(Flags::URGENT) {
                span
            } else {
                span.wrapping_add(urgent_room(self.routes.ring_shape.capacity()))
            },
        )
    }

    #[inline(always)]
    fn span_of(&self, scratch: *mut WarpScratch, start: u32) -> u32 {
        // SAFETY: the slot is staged and only this warp uses its scratch.
        unsafe { staged_flags(scratch, start) }.span()
    }

    /// Slots of the frames in `frames`.
    fn spans_of(&self, scratch: *mut WarpScratch, frames: u32) -> u32 {
        let (mut rest, mut slots) = (frames, 0u32);
        while rest != 0 {
            // SAFETY: the lock's sync made every lane's `start` visible.
            let start =
                unsafe { (&raw const (*scratch).start).cast::<u32>().wrapping_add(lowest(rest) as usize).read() };
            slots = slots.wrapping_add(self.span_of(scratch, start));
            rest &= rest.wrapping_sub(1);
        }
        slots
    }
}
