//! Orders of the host, and those who waited for them.

use tourbillon_shared::error::FailureCode;
use tourbillon_shared::geometry::{EntryHeader, WarpScratch};
use tourbillon_shared::header::{Flags, HEADER_WORDS, ReturnAddress};
use tourbillon_shared::mutant;
use tourbillon_shared::slot::Chunk;
use tourbillon_shared::telemetry::Counter;
use tourbillon_shared::virtual_actors::{
    ENTRY_WORD, FAILURES_MAX, ORDER_KIND, Order, STORE_LANE, WaitingFrame, errand, phase,
};

use super::shard::Virtual;
use super::{are_on, progress};
use crate::arch::Arch;
use crate::block::Block;
use crate::clock::Clock;
use crate::directory::Directory;
use crate::frames::{Frames, staged, staged_flags, staged_header, staged_word};
use crate::kernel::serves;
use crate::look::{Way, look};
use crate::stats::Stats;
use crate::system::System;
use crate::turn::{FRAME_SLOTS, Ring, ring_slot, run_window};
use crate::warp::Warp;

/// Whether the only frame of a window, staged at `base`, is an order of the host that may give orders.
///
/// # Safety
/// The frame is staged, and a gate wrote its header.
#[inline(always)]
pub(crate) unsafe fn is_order(block: &Block<'_>, scratch: *mut WarpScratch, base: u32) -> bool {
    if !are_on(block) {
        return false;
    }
    // SAFETY: the caller vouches for the frame.
    let header = unsafe { staged_header(scratch, base) };
    let is_stores = u32::from(ReturnAddress::decode(header.hint).lane) == STORE_LANE || mutant!("orders_from_anybody");
    header.kind == ORDER_KIND && !header.flags.has(Flags::ARENA) && is_stores
}

/// What rank 0 found to do next.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Nothing = 0,
    /// The frame that was staged is to be run, and is the first behind the request.
    OfRequest = 1,
    /// As before, but the first of the queue for room.
    OfQueue = 2,
}

/// Carries out the order staged at `base`, which stands at `position` of `ring`: changes the actor's place, runs those who waited, and
/// answers. How many slots are done: none when the warp, or the kernel, must stop first; the order then stays where it is.
#[inline(never)]
#[expect(clippy::too_many_arguments, reason = "the loop's state, handed down")]
pub(crate) fn run_order<A: Arch, S: System, const WHOLE: bool>(
    warp: &mut Warp<A, WHOLE>,
    block: &Block<'_>,
    scratch: *mut WarpScratch,
    stats: Stats,
    clock: &Clock,
    ring: Ring,
    position: u64,
    base: u32,
) -> u32 {
    let directory = Directory::new(block.arguments, block.shard(ring.local));
    let shard = Virtual::new(block, ring.local, directory);
    let mut index = 0;
    if warp.rank() == 0 {
        // SAFETY: the warp holds the turn, and this lane alone works; the order is staged.
        index = unsafe { carry_out::<A>(&shard, block, scratch, stats, ring.local, base) };
    }
    loop {
        // The stage is free for the next frame, and every lane has read what the last one was about.
        warp.sync();
        if !serves(warp, block.arguments) {
            return 0;
        }
        let mut next = Next::Nothing;
        if warp.rank() == 0 {
            // SAFETY: as above.
            next = unsafe { stage_next(&shard, scratch, index) };
        }
        let next = warp.broadcast(next as u32, 0);
        if next == Next::Nothing as u32 {
            break;
        }
        // SAFETY: rank 0 staged a frame before the broadcast, behind which all see it.
        let flags = unsafe {
            warp.sync();
            staged_flags(scratch, 0)
        };
        let frames = Frames { count: 1, slots: flags.span(), start: 0, needs: 1 };
        let is_large = flags.has(Flags::ARENA);
        let done = run_window::<A, S, WHOLE>(warp, block, scratch, stats, clock, ring, position, 0, frames, is_large);
        if warp.rank() == 0 {
            // SAFETY: as above.
            unsafe {
                (&raw mut (*scratch).errand).write(errand::NONE);
                if done == 0 {
                    // A large payload, before which the kernel is to stop.
                } else if next == Next::OfRequest as u32 {
                    shard.pop::<A>(stats, &raw mut (*shard.request(index)).first);
                } else {
                    shard.pop_refused::<A>(stats);
                }
            }
        }
        if done == 0 || !warp.is_viable() || (WHOLE && warp.has_losses()) {
            return 0;
        }
    }
    // SAFETY: the warp, which has all its lanes or counts those it has, holds the turn, and no window is under way.
    unsafe { progress(&warp.damaged(), block, stats, ring.local) };
    // Those who waited were staged over the order.
    let wide = if FRAME_SLOTS < block.ring_shape().capacity() { FRAME_SLOTS } else { block.ring_shape().capacity() };
    // SAFETY: the scratch is the warp's own; positions are masked into the ring. What was ready there still is.
    let ready = unsafe {
        look(warp, scratch, Way::Cache, wide, |slot| ring_slot(block, &ring, position.wrapping_add(slot.into())))
    };
    // SAFETY: the look staged the order's first slot.
    let span = unsafe { staged_flags(scratch, 0) }.span();
    if (!ready).trailing_zeros() < span {
        return 0;
    }
    if warp.rank() == 0 {
        // SAFETY: the scratch is the warp's own.
        unsafe { (&raw mut (*scratch).errand).write(errand::ORDER_DONE) };
    }
    warp.sync();
    let frames = Frames { count: 1, slots: span, start: 0, needs: 1 };
    let done = run_window::<A, S, WHOLE>(warp, block, scratch, stats, clock, ring, position, 0, frames, false);
    if warp.rank() == 0 {
        // SAFETY: as above.
        unsafe { (&raw mut (*scratch).errand).write(errand::NONE) };
    }
    warp.sync();
    done
}

/// Does what the order says, unless that was done before; the request that it answers.
///
/// # Safety
/// The warp holds the turn, and this lane alone works; the order is staged at `base`.
unsafe fn carry_out<A: Arch>(
    shard: &Virtual<'_>,
    block: &Block<'_>,
    scratch: *mut WarpScratch,
    stats: Stats,
    local: u32,
    base: u32,
) -> u32 {
    // SAFETY: the caller vouches for the order, whose payload of four words lies in its first slot.
    let word = |index: u32| unsafe { staged_word(scratch, base, (HEADER_WORDS as u32).wrapping_add(index)).read() };
    let Some(order) = Order::from_word(word(0)) else { return 0 };
    let state = shard.state;
    // SAFETY: the caller vouches for the turn.
    unsafe {
        match order {
            Order::Sweep => {
                (*state).sweep_before = u64::from(word(2)) | u64::from(word(3)) << 32;
                (*state).sweep_left = shard.directory.buckets_less_one().wrapping_add(1);
                (*state).sweep_found = 0;
                return 0;
            }
            Order::Evict => {
                (*state).wanted = (*state).wanted.saturating_add(word(2));
                return 0;
            }
            _ => {}
        }
        let index = word(1);
        let request = shard.request(index);
        let waits_for =
            if matches!(order, Order::Evicted | Order::EvictFailed) { phase::EVICTING } else { phase::FETCHING };
        let is_open = (*request).phase == waits_for || mutant!("orders_carried_out_twice");
        if !is_open || (*request).number != word(2) {
            return index;
        }
        let entry = shard.directory.entry((*request).entry);
        match order {
            Order::Evicted => {
                (*state).evicting = (*state).evicting.wrapping_sub(1);
                (*state).failures = 0;
                shard.requeue(index);
                shard.release(index, false);
                stats.add::<A>(Counter::Evicted, 1);
            }
            Order::EvictFailed => {
                (*state).evicting = (*state).evicting.wrapping_sub(1);
                // Others are tried before it comes to be the oldest again.
                (*entry).hlc = A::load_cta(block.clock(local));
                (*request).phase = phase::WAKING;
                (*state).failures = (*state).failures.wrapping_add(1);
                if (*state).failures >= FAILURES_MAX {
                    (*state).failures = 0;
                    (*state).refused = (*state).queue_frames;
                    (*state).wanted = 0;
                }
                stats.add::<A>(Counter::EvictFailures, 1);
            }
            Order::Fetched => {
                let bytes = staged_header(scratch, base).length;
                let words = (u32::from(bytes) / 4).wrapping_sub(ENTRY_WORD);
                let most = block.arguments.geometry.entry_stride / 4;
                let words = if words < most { words } else { most };
                let to = entry.cast::<u32>();
                let mut i = 0;
                while i < words {
                    to.wrapping_add(i as usize).write(word(ENTRY_WORD.wrapping_add(i)));
                    i = i.wrapping_add(1);
                }
                (*request).phase = phase::WAKING;
                stats.add::<A>(Counter::Fetched, 1);
            }
            Order::Unknown => {
                entry.write(EntryHeader { hlc: 0, version: 0 });
                (*request).phase = phase::WAKING;
                stats.add::<A>(Counter::Activated, 1);
            }
            _ => {
                (*request).phase = phase::FAILING;
                stats.add::<A>(Counter::FetchFailures, 1);
            }
        }
        index
    }
}

/// Stages the next frame that request `index` has to do with, or that is to be refused for want of room, and notes what it is about;
/// ends the request when there is none.
///
/// # Safety
/// As for [`carry_out`].
unsafe fn stage_next(shard: &Virtual<'_>, scratch: *mut WarpScratch, index: u32) -> Next {
    // SAFETY: the caller vouches for the turn; a list holds nodes of the shard.
    unsafe {
        let (state, request) = (shard.state, shard.request(index));
        let wakes = (*request).phase == phase::WAKING;
        if wakes || (*request).phase == phase::FAILING {
            let node = (*request).first;
            if node == 0 {
                shard.release(index, wakes);
            } else {
                let about = if wakes {
                    errand::OF_REQUEST.wrapping_add(index)
                } else {
                    errand::REFUSE.wrapping_add(FailureCode::FetchFailed as u32)
                };
                stage(scratch, shard.node(node), about);
                return Next::OfRequest;
            }
        }
        if (*state).refused == 0 {
            return Next::Nothing;
        }
        let about = errand::REFUSE.wrapping_add(FailureCode::DirectoryFull as u32);
        stage(scratch, shard.node((*state).queue_first), about);
        Next::OfQueue
    }
}

/// Copies a frame that waited into the stage.
unsafe fn stage(scratch: *mut WarpScratch, node: *const WaitingFrame, about: u32) {
    // SAFETY: the caller vouches for the node, and that the stage is free; both have room for the longest frame.
    unsafe {
        let (from, to) = ((&raw const (*node).slots).cast::<Chunk>(), staged(scratch, 0).cast::<Chunk>());
        to.write(from.read());
        to.wrapping_add(1).write(from.wrapping_add(1).read());
        let chunks = staged_flags(scratch, 0).span().wrapping_mul(4) as usize;
        let mut chunk = 2;
        while chunk < chunks {
            to.wrapping_add(chunk).write(from.wrapping_add(chunk).read());
            chunk = chunk.wrapping_add(1);
        }
        (&raw mut (*scratch).errand).write(about);
    }
}
