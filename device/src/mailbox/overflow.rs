//! From a shard's overflow to the mailboxes.
//!
//! The overflow is a ring in which letters lie in the order in which they were sent. A *pass* goes over it from its first letter to its
//! last, a window at a time, and sends each letter whose mailbox has room, unless an earlier one to the same mailbox was left in this
//! pass. What is sent is marked; what is marked at the ring's beginning is given back.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::frame::FRAME_SLOTS_MAX;
use tourbillon_shared::mailbox::{MailboxState, waiting_bucket};
use tourbillon_shared::mutant;
use tourbillon_shared::position::RingShape;
use tourbillon_shared::slot::{CHUNKS_PER_SLOT, Chunk, Slot};

use super::{overflow_of, ring_of, shard_of, state_of, take_room, take_ticket};
use crate::arch::Arch;
use crate::block::Block;
use crate::frames::{Frames, split, staged, staged_header};
use crate::look::{Way, look};
use crate::warp::{Warp, low_bits, lowest};

/// Windows of an overflow that one visit looks at: its mailbox is looked at between two.
const WINDOWS_MAX: u32 = 4;
/// The kind of a letter in the overflow that was sent: none.
const SENT: u16 = 0;
/// Data word of a header with the kind.
const KIND_WORD: usize = 2;

/// Sends what can be sent of the overflows of the block's shards whose turns nobody holds; whether any had letters. All lanes come.
#[inline(never)]
pub(crate) fn settle_some<A: Arch, const WHOLE: bool>(
    warp: &Warp<A, WHOLE>,
    block: &Block<'_>,
    scratch: *mut WarpScratch,
) -> bool {
    let mut found = false;
    let mut local = 0;
    while local < block.shards() {
        // SAFETY: a word of the block's memory.
        if warp.any(unsafe { A::load_cta(block.overflowing(local)) } != 0) {
            // SAFETY: the turn is a word of the block's memory.
            let got = unsafe { A::try_acquire_cta(block.turn(local), warp.rank() == 0) };
            if warp.any(got) {
                found = true;
                warp.sync();
                settle(warp, block, scratch, local);
                warp.sync();
                if warp.rank() == 0 {
                    // SAFETY: this warp holds the turn.
                    unsafe { A::release_cta(block.turn(local)) };
                }
            }
        }
        local = local.wrapping_add(1);
    }
    found
}

/// Whether the overflow of a shard of the block may have letters.
#[inline(always)]
pub(crate) fn has_overflowed<A: Arch, const WHOLE: bool>(warp: &Warp<A, WHOLE>, block: &Block<'_>) -> bool {
    let local = warp.rank();
    // SAFETY: a word of the block's memory.
    let mine = local < block.shards() && unsafe { A::load_cta(block.overflowing(local)) } != 0;
    warp.any(mine)
}

/// Sends what can be sent of the overflow of the block's shard `local`, whose turn the warp holds; the stage is filled anew.
#[cold]
#[inline(never)]
pub(crate) fn settle<A: Arch, const WHOLE: bool>(
    warp: &Warp<A, WHOLE>,
    block: &Block<'_>,
    scratch: *mut WarpScratch,
    local: u32,
) {
    let arguments = block.arguments;
    let shape = RingShape::from_log2(arguments.geometry.overflow_log2);
    let (state, ring) = (state_of(arguments, block.shard(local)), overflow_of(arguments, block.shard(local)));
    let mut windows = 0;
    while windows < WINDOWS_MAX {
        windows = windows.wrapping_add(1);
        // SAFETY: the state of the shard whose turn the warp holds; all lanes read what rank 0 wrote before a sync.
        let (head, tail, next) = unsafe {
            (
                A::load_pool(&raw const (*state).overflow_head),
                A::load_pool(&raw const (*state).overflow_tail),
                A::load_pool(&raw const (*state).overflow_next),
            )
        };
        if head == tail {
            warp.sync();
            if warp.rank() == 0 {
                // SAFETY: a word of the block's memory, which only handlers under this turn set.
                unsafe { A::store_cta(block.overflowing(local), 0) };
            }
            return;
        }
        let at = if next == tail { head } else { next };
        let wide = if warp.size() < FRAME_SLOTS_MAX as u32 { FRAME_SLOTS_MAX as u32 } else { warp.size() };
        let left = tail.wrapping_sub(at);
        let wide = if left < wide.into() { left as u32 } else { wide };
        // SAFETY: the scratch is the warp's own; positions are masked into the ring.
        let ready = unsafe {
            look(warp, scratch, Way::Cache, wide, |slot| {
                let position = at.wrapping_add(slot.into());
                (ring.cast_const().wrapping_add(shape.index(position) as usize), shape.lap(position))
            })
        };
        let slots = (!ready).trailing_zeros();
        // SAFETY: the look staged these slots.
        let frames = unsafe { split(warp, scratch, 0, if slots < wide { slots } else { wide }, false) };
        if frames.count == 0 {
            // The last letter's slots are on their way from another lane of an earlier turn: never, but not waited for either.
            return;
        }
        if warp.rank() == 0 && at == head {
            // SAFETY: as above; rank 0 alone writes. A pass begins.
            unsafe { A::store_pool(&raw mut (*state).blocked, 0) };
        }
        warp.sync();
        let sent = send_window(warp, block, scratch, state, &frames);
        let is_done = warp.rank() < frames.count && (sent || is_sent(scratch, &frames));
        if sent {
            let position = at.wrapping_add(frames.start.into());
            mark(ring, shape, position, scratch, frames.start);
        }
        // Letters at the beginning that are sent: up to the first that is not.
        let first_left = lowest(!warp.ballot(is_done) & low_bits(frames.count));
        let done_slots =
            if first_left >= frames.count { frames.slots } else { warp.broadcast(frames.start, first_left) };
        warp.sync();
        if warp.rank() == 0 {
            // SAFETY: as above; rank 0 alone writes the positions.
            unsafe {
                A::store_pool(&raw mut (*state).overflow_next, at.wrapping_add(frames.slots.into()));
                if at == head && done_slots != 0 {
                    A::store_pool(&raw mut (*state).overflow_head, head.wrapping_add(done_slots.into()));
                    A::add_pool(&raw mut (*state).overflow_room, done_slots.into());
                }
            }
        }
        warp.sync();
    }
}

/// Whether the letter that is this lane's was sent in an earlier pass.
#[inline(always)]
fn is_sent(scratch: *mut WarpScratch, frames: &Frames) -> bool {
    // SAFETY: the frame is staged and this lane's.
    unsafe { staged_header(scratch, frames.start) }.kind == SENT
}

/// Sends this lane's letter of a window, if it may go; whether it went.
#[inline(always)]
fn send_window<A: Arch, const WHOLE: bool>(
    warp: &Warp<A, WHOLE>,
    block: &Block<'_>,
    scratch: *mut WarpScratch,
    state: *mut MailboxState,
    frames: &Frames,
) -> bool {
    let arguments = block.arguments;
    let is_mine = warp.rank() < frames.count && !is_sent(scratch, frames);
    let (mut shard, mut slots) = (0, 0u64);
    if is_mine {
        // SAFETY: the frame is staged and this lane's.
        let header = unsafe { staged_header(scratch, frames.start) };
        shard = shard_of(arguments, header.kind, header.key);
        slots = header.flags.span().into();
    }
    let bucket = waiting_bucket(shard);
    // Letters that must keep their order: one after the other, until one has no room.
    let peers = warp.match_any(if is_mine { bucket as u64 } else { (1 << 32) | u64::from(warp.rank()) });
    let mut waits = is_mine;
    let mut sent = false;
    // SAFETY: as in `settle`: written before a sync.
    let mut blocked = unsafe { A::load_pool(&raw const (*state).blocked) };
    let mut turn = 0u32;
    while warp.any(waits) {
        let is_next = waits && (peers & low_bits(warp.rank())).count_ones() == turn;
        let is_free = blocked & 1u64.wrapping_shl(bucket as u32) == 0 || mutant!("overflow_passes_itself");
        if is_next && is_free {
            let target = state_of(arguments, shard);
            // SAFETY: the state of a shard.
            sent = unsafe { take_room::<A>(target, slots, target == state) };
        }
        waits &= !is_next;
        // Who found no room holds up those behind it that share its count.
        let mut refused = warp.ballot(is_next && !sent);
        while refused != 0 {
            blocked |= 1u64.wrapping_shl(warp.broadcast(bucket as u32, lowest(refused)));
            refused &= refused.wrapping_sub(1);
        }
        turn = turn.wrapping_add(1);
    }
    // Tickets in the order of the letters: peers one after the other, the others side by side.
    let mut turn = 0u32;
    let mut rest = sent;
    while warp.any(rest) {
        if rest && (peers & low_bits(warp.rank())).count_ones() == turn {
            // SAFETY: room is reserved in the mailbox of a shard that exists; the frame is staged and this lane's.
            unsafe {
                let position = take_ticket::<A>(state_of(arguments, shard), slots, false);
                copy::<A>(
                    ring_of(arguments, shard),
                    arguments.geometry.mailbox_shape(),
                    position,
                    scratch,
                    frames.start,
                    slots as u32,
                );
                A::add_pool((&raw mut (*state).waiting).cast::<u64>().wrapping_add(bucket), 1u64.wrapping_neg());
            }
            rest = false;
        }
        turn = turn.wrapping_add(1);
    }
    warp.sync();
    if warp.rank() == 0 {
        // SAFETY: as above; rank 0 alone writes.
        unsafe { A::store_pool(&raw mut (*state).blocked, blocked) };
    }
    sent
}

/// Copies a staged letter into a mailbox.
///
/// # Safety
/// The slots of `ring` from `position` on are this letter's, which is staged at `start`.
#[inline(always)]
unsafe fn copy<A: Arch>(
    ring: *mut Slot,
    shape: RingShape,
    position: u64,
    scratch: *mut WarpScratch,
    start: u32,
    slots: u32,
) {
    let mut slot = 0;
    while slot < slots {
        let at = position.wrapping_add(slot.into());
        let to = ring.wrapping_add(shape.index(at) as usize).cast::<Chunk>();
        let from = staged(scratch, start.wrapping_add(slot)).cast::<Chunk>();
        let mut chunk = 0;
        while chunk < CHUNKS_PER_SLOT {
            // SAFETY: the caller vouches for both.
            unsafe {
                let [a, b, c, _] = from.wrapping_add(chunk).read().words;
                A::store_chunk_gpu(to.wrapping_add(chunk), Chunk::new([a, b, c], shape.lap(at)));
            }
            chunk = chunk.wrapping_add(1);
        }
        slot = slot.wrapping_add(1);
    }
}

/// Marks the letter at `position` of the overflow, which is staged at `start`, as sent: its kind is none.
#[inline(always)]
fn mark(ring: *mut Slot, shape: RingShape, position: u64, scratch: *mut WarpScratch, start: u32) {
    const { assert!(KIND_WORD < CHUNKS_PER_SLOT - 1) };
    // SAFETY: the letter's first chunk, staged and in the ring, is this lane's.
    unsafe {
        let [a, b, c, tag] = staged(scratch, start).cast::<Chunk>().read().words;
        let to = ring.wrapping_add(shape.index(position) as usize).cast::<Chunk>();
        // The next look at it comes after this by the turn.
        to.write(Chunk { words: [a, b, c & !0xffff, tag] });
    }
}
