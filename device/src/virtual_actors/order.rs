//! Orders of the host, and those who waited for them.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::error::FailureCode;
use tourbillon_shared::geometry::EntryHeader;
use tourbillon_shared::header::{Flags, HEADER_WORDS, ReturnAddress};
use tourbillon_shared::mutant;
use tourbillon_shared::slot::{CHUNKS_PER_SLOT, Chunk};
use tourbillon_shared::telemetry::Counter;
use tourbillon_shared::virtual_actors::{
    ENTRY_WORD, FAILURES_MAX, ORDER_KIND, Order, PIECE_WORDS, REQUESTS_MAX, STORE_LANE, WaitingFrame, errand, phase,
};

use super::shard::Virtual;
use super::{are_on, progress};
use crate::arch::Arch;
use crate::block::Block;
use crate::directory::Directory;
use crate::frames::{staged, staged_flags, staged_header, staged_word};
use crate::kernel::serves;
use crate::stats::Stats;
use crate::system::System;
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

/// What is to be done for an order: run the staged frame of so many slots.
pub(crate) const STEP_SLOTS: u32 = 0xf;
/// The payload of that frame is in an arena.
pub(crate) const STEP_LARGE: u32 = 1 << 4;
/// The order must be left for later, for the warp or the kernel is to stop first.
pub(crate) const STEP_HELD: u32 = 1 << 5;
/// The order is answered.
pub(crate) const STEP_OVER: u32 = 0;
/// In place of what the last frame has done, before the first one.
pub(crate) const STEP_FIRST: u32 = u32::MAX;

/// Takes the next step for the order staged at `base`, for the block's shard `local`: changes the actor's place, then stages
/// those who waited, one after the other, and the order itself at last, for the caller to run as a window. `done` is how many slots
/// of the last one are done, or [`STEP_FIRST`].
///
/// The caller runs the windows, not this: under one more function the handlers would have too few registers.
#[cold]
#[inline(never)]
pub(crate) fn step_of_order<A: Arch, S: System, const WHOLE: bool>(
    warp: &Warp<A, WHOLE>,
    block: &Block<'_>,
    scratch: *mut WarpScratch,
    stats: Stats,
    local: u32,
    base: u32,
    done: u32,
) -> u32 {
    let directory = Directory::new(block.arguments, block.shard(local));
    let shard = Virtual::new(block, scratch, local, directory);
    // SAFETY: words of the warp's scratch, written by rank 0 before a sync.
    let was_answered = unsafe { (&raw const (*scratch).errand).read() } == errand::ORDER_DONE;
    // Every lane has read it.
    warp.sync();
    if warp.rank() == 0 {
        // SAFETY: the warp holds the turn, and this lane alone works; at first the order is staged.
        unsafe {
            if done == STEP_FIRST {
                copy_slot(staged(scratch, base).cast(), (&raw mut (*scratch).order).cast());
                let index = carry_out::<A, S>(&shard, block, scratch, stats, local, base);
                (&raw mut (*scratch).answered).write(index);
            } else {
                finish::<A>(&shard, scratch, stats, done);
            }
        }
    }
    if was_answered && done != STEP_FIRST {
        warp.sync();
        return STEP_OVER;
    }
    if done == 0 || !warp.is_viable() || (WHOLE && warp.has_losses()) {
        return STEP_HELD;
    }
    // The stage is free for the next frame.
    warp.sync();
    if !serves(warp, block.arguments) {
        return STEP_HELD;
    }
    let mut is_staged = false;
    if warp.rank() == 0 {
        // SAFETY: as above.
        is_staged = unsafe { stage_next(&shard, scratch) };
    }
    if warp.any(is_staged) {
        warp.sync();
        // SAFETY: rank 0 staged a frame before the sync.
        let flags = unsafe { staged_flags(scratch, 0) };
        return flags.span() | if flags.has(Flags::ARENA) { STEP_LARGE } else { 0 };
    }
    // SAFETY: the warp, of which all lanes that live are here, holds the turn, and no window is under way.
    unsafe { progress::<A, S>(&warp.damaged(), block, scratch, stats, local) };
    if warp.rank() == 0 {
        // SAFETY: the scratch is the warp's own. A reply to an order needs no more of it than its header.
        unsafe {
            copy_slot((&raw const (*scratch).order).cast(), staged(scratch, 0).cast());
            (&raw mut (*scratch).errand).write(errand::ORDER_DONE);
        }
    }
    warp.sync();
    // SAFETY: rank 0 staged it before the sync.
    unsafe { staged_flags(scratch, 0) }.span()
}

/// Copies the chunks of a slot.
///
/// # Safety
/// Both are those of a slot.
unsafe fn copy_slot(from: *const Chunk, to: *mut Chunk) {
    let mut chunk = 0;
    while chunk < CHUNKS_PER_SLOT {
        // SAFETY: the caller vouches for both.
        unsafe { to.wrapping_add(chunk).write(from.wrapping_add(chunk).read()) };
        chunk = chunk.wrapping_add(1);
    }
}

/// Notes that the window of the last step has run, of which `done` slots are done.
///
/// # Safety
/// The warp holds the turn, and this lane alone works.
#[inline(never)]
unsafe fn finish<A: Arch>(shard: &Virtual<'_>, scratch: *mut WarpScratch, stats: Stats, done: u32) {
    const OF_QUEUE: u32 = errand::REFUSE.wrapping_add(FailureCode::DirectoryFull as u32);
    // SAFETY: the caller vouches for it; the frame that has run is the first of its list.
    unsafe {
        let about = (&raw mut (*scratch).errand).replace(errand::NONE);
        match about {
            // A large payload, before which the kernel is to stop; or the order itself.
            _ if done == 0 => {}
            errand::ORDER_DONE => {}
            OF_QUEUE => shard.pop_refused::<A>(stats),
            _ => shard.pop::<A>(stats, &raw mut (*shard.request((*scratch).answered)).first),
        }
    }
}

/// Does what the order says, unless that was done before; the request that it answers.
///
/// # Safety
/// The warp holds the turn, and this lane alone works; the order is staged at `base`.
#[inline(never)]
unsafe fn carry_out<A: Arch, S: System>(
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
        let waits_for = match order {
            Order::Evicted | Order::EvictFailed | Order::More => phase::EVICTING,
            Order::Piece => phase::FILLING,
            Order::NoRoom => phase::FULL,
            _ => phase::FETCHING,
        };
        let is_open = (*request).phase == waits_for || mutant!("orders_carried_out_twice");
        if !is_open || (*request).number != word(2) {
            return index;
        }
        let entry = shard.directory.entry((*request).entry);
        match order {
            Order::Evicted => {
                (*state).evicting = (*state).evicting.wrapping_sub(1);
                (*state).failures = 0;
                if S::POOLS {
                    shard.free_pages_of::<A, S>(stats, index);
                    shard.has_left(request);
                }
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
                if S::POOLS {
                    shard.has_left(request);
                }
                if (*state).failures >= FAILURES_MAX {
                    if S::POOLS {
                        shard.give_up_room();
                    }
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
                if S::POOLS && word(3) != 0 {
                    (*request).phase = shard.begin_filling::<A>(stats, index, word(3));
                } else {
                    stats.add::<A>(Counter::Fetched, 1);
                }
            }
            Order::More => {
                if S::POOLS {
                    shard.send_piece::<A, S>(stats, index, word(3));
                }
            }
            Order::Piece => {
                if S::POOLS {
                    let mut words = [0; PIECE_WORDS];
                    let used = u32::from(staged_header(scratch, base).length) / 4;
                    let used = used.saturating_sub(ENTRY_WORD);
                    let mut i = 0;
                    while i < used && i < PIECE_WORDS as u32 {
                        // SAFETY: `i` is below the array's length.
                        *words.get_unchecked_mut(i as usize) = word(ENTRY_WORD.wrapping_add(i));
                        i = i.wrapping_add(1);
                    }
                    (*request).phase = shard.fill_pages::<A, S>(stats, index, word(3), &words, used);
                    if (*request).phase == phase::WAKING {
                        stats.add::<A>(Counter::Fetched, 1);
                    }
                }
            }
            Order::NoRoom => {
                (*request).phase = phase::FREE;
                (*state).asked = (*state).asked.wrapping_sub(1);
                (*state).refused = (*state).queue_frames;
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
        // What was taken for an actor that did not come after all, or came with less.
        if S::POOLS && (*request).spares != 0 && (*request).phase != phase::FILLING {
            shard.give_spares::<A>(stats, index);
        }
        index
    }
}

/// Stages the next frame that the request which the order answers has to do with, or that is to be refused for want of room, and notes
/// what it is about; ends the request when there is none. Whether there is one.
///
/// # Safety
/// As for [`carry_out`].
#[inline(never)]
unsafe fn stage_next(shard: &Virtual<'_>, scratch: *mut WarpScratch) -> bool {
    // SAFETY: the caller vouches for the turn; a list holds nodes of the shard.
    unsafe {
        let index = (*scratch).answered;
        let (state, request) = (shard.state, shard.request(index));
        let wakes = (*request).phase == phase::WAKING;
        let starves = (*request).phase == phase::STARVING;
        if wakes || starves || (*request).phase == phase::FAILING {
            let node = (*request).first;
            if node != 0 {
                let about = if wakes {
                    errand::OF_REQUEST.wrapping_add(index % REQUESTS_MAX)
                } else {
                    let code = if starves { FailureCode::PoolExhausted } else { FailureCode::FetchFailed };
                    errand::REFUSE.wrapping_add(code as u32)
                };
                stage(scratch, shard.node(node), about);
                return true;
            }
            shard.release(index, wakes);
        }
        if (*state).refused == 0 {
            return false;
        }
        let about = errand::REFUSE.wrapping_add(FailureCode::DirectoryFull as u32);
        stage(scratch, shard.node((*state).queue_first), about);
        true
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
