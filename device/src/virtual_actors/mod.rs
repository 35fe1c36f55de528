//! Actors that come and go, where the engine has a store: the protocol is in [`tourbillon_shared::virtual_actors`].
//!
//! All of it is on the long way: a bucket whose actor is held by a request matches no message, so the short way leaves it alone, and an
//! engine without a store never comes here.
//!
//! - *Resolve* ([`settle`]): a message whose actor is not there is parked, with all of its group, in device memory of the shard: behind
//!   the request that holds the actor, or in the queue for room. Nothing else is decided meanwhile, for the actors that other lanes of
//!   the warp found must stay where they are until they have run.
//! - When the window has run ([`progress`]): who waits for room gets it where there is some, and a fetch is sent; else the actors least
//!   recently used are sent to the store. Orders to evict are carried on there, too.
//! - An order of the host ([`step_of_order`]) is a window of its own. It changes the place, runs those who waited, each as a window, before
//!   anything else of the shard, and is answered when that is done. Left in the middle, by a stop or a panic, it stays at the head of its
//!   ring, and whoever comes next goes on.
//!
//! Actors with collections are one module more, `collections`: pieces, room in the pool, and who has to make it.
//!
//! Only the holder of the shard's turn is here, and of its warp one lane at a time. What is parked takes a bounded number of nodes; an
//! entry of the slab is used again only when the store has said that it has the state.

mod ask;
mod collections;
mod order;
mod places;
mod shard;

pub(crate) use order::{STEP_FIRST, STEP_HELD, STEP_LARGE, STEP_OVER, STEP_SLOTS, is_order, step_of_order};

#[cfg(test)]
pub(crate) use places::tests::Memory;

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::error::FailureCode;
use tourbillon_shared::geometry::EntryHeader;
use tourbillon_shared::header::Header;
use tourbillon_shared::virtual_actors::errand;

use crate::arch::Arch;
use crate::block::Block;
use crate::directory::Directory;
use crate::stats::Stats;
use crate::system::System;
use crate::warp::{Warp, lowest};
use shard::{Step, Virtual};

/// Addresses below this are no entries: what stands in place of one is a [`FailureCode`], or [`errand::ORDER_DONE`].
const ENTRIES_FROM: usize = 256;

/// Whether the engine has a store.
#[inline(always)]
pub(crate) fn are_on(block: &Block<'_>) -> bool {
    block.arguments.geometry.waiters != 0
}

/// In place of an entry: why there is none.
#[inline(always)]
pub(crate) fn no_entry(word: u32) -> *mut EntryHeader {
    core::ptr::without_provenance_mut(word as usize)
}

/// Why there is no entry, if there is none.
#[inline(always)]
pub(crate) fn failure_in(entry: *mut EntryHeader) -> Option<FailureCode> {
    if entry.addr() >= ENTRIES_FROM {
        return None;
    }
    match FailureCode::from_word(entry.addr() as u32) {
        Some(code) => Some(code),
        None => Some(FailureCode::DirectoryFull),
    }
}

/// Whether what stands in place of an entry says that an order was carried out.
#[inline(always)]
pub(crate) fn is_order_done(entry: *mut EntryHeader) -> bool {
    entry.addr() == errand::ORDER_DONE as usize
}

/// What takes the place of an entry in a window that an errand is about, whose frames are not looked up.
#[inline(always)]
pub(crate) fn entry_of_errand(scratch: *mut WarpScratch) -> Option<*mut EntryHeader> {
    // SAFETY: a word of the warp's scratch, written before a sync.
    let errand = unsafe { (&raw const (*scratch).errand).read() };
    if errand >= errand::REFUSE {
        Some(no_entry(errand.wrapping_sub(errand::REFUSE)))
    } else if errand == errand::ORDER_DONE {
        Some(no_entry(errand))
    } else {
        None
    }
}

/// Finds the places of the groups that a plain lookup did not find, one lane after the other: `new` are the ranks that have one. The
/// entry, or what stands in its place, and the frames of this lane that are left to be run; the others wait.
///
/// # Safety
/// The warp holds the turn of the block's shard `local`; where the lane's bit is in `new`, `header` is that of the frames `todo`, which
/// are staged and this lane's, `hashed` its hash.
#[cold]
#[inline(never)]
#[expect(clippy::too_many_arguments, reason = "what the phase it belongs to knows")]
pub(crate) unsafe fn settle<A: Arch, const WHOLE: bool>(
    warp: &Warp<A, WHOLE>,
    block: &Block<'_>,
    scratch: *mut WarpScratch,
    stats: Stats,
    local: u32,
    new: u32,
    (header, hashed): (Header, u64),
    (entry, todo): (*mut EntryHeader, u32),
) -> (*mut EntryHeader, u32) {
    let (mut entry, mut todo) = (entry, todo);
    let directory = Directory::new(block.arguments, block.shard(local));
    let shard = Virtual::new(block, scratch, local, directory);
    let mut new = new;
    while new != 0 {
        if warp.rank() == lowest(new) {
            // SAFETY: the warp holds the turn, and one lane after the other comes here.
            (entry, todo) = unsafe { shard.settle::<A>(scratch, stats, &header, hashed, todo) };
        }
        new &= new.wrapping_sub(1);
        warp.sync();
    }
    (entry, todo)
}

/// Does what can be done for those who wait for room, and for orders to evict that are not carried out.
///
/// # Safety
/// The warp, of which all lanes that live come here, holds the turn of the block's shard `local`, and no window is under way.
#[cold]
#[inline(never)]
pub(crate) unsafe fn progress<A: Arch, S: System>(
    warp: &Warp<A, false>,
    block: &Block<'_>,
    scratch: *mut WarpScratch,
    stats: Stats,
    local: u32,
) {
    let directory = Directory::new(block.arguments, block.shard(local));
    let shard = Virtual::new(block, scratch, local, directory);
    if S::POOLS {
        // All lanes have seen the word by which they came here.
        warp.sync();
        if warp.rank() == 0 {
            // SAFETY: the warp holds the turn, and this lane alone works.
            unsafe {
                if (&raw mut (*scratch).pool_short).replace(0) != 0 {
                    shard.feel_pressure();
                }
            }
        }
    }
    loop {
        // Every lane sees what the last step wrote.
        warp.sync();
        let mut step = Step::Nothing;
        if warp.rank() == 0 {
            // SAFETY: the warp holds the turn, and this lane alone works.
            step = unsafe { shard.step::<A, S>(stats) };
        }
        let step = warp.broadcast(step as u32, 0);
        if step == Step::Nothing as u32 {
            break;
        }
        if step == Step::Again as u32 {
            continue;
        }
        // SAFETY: as above; the words that the search goes by are written between two searches only.
        let (found, is_passed_over) = unsafe {
            if step == Step::Sweep as u32 {
                shard.idle::<A, S>(warp)
            } else {
                shard.oldest::<A, S>(warp, step == Step::Pages as u32)
            }
        };
        let mut goes_on = true;
        if warp.rank() == 0 {
            if S::POOLS && is_passed_over {
                Virtual::note_too_large::<A>(stats);
            }
            // SAFETY: as above.
            goes_on = unsafe { shard.evict_found::<A, S>(stats, step, found) };
        }
        if warp.broadcast(u32::from(goes_on), 0) == 0 {
            break;
        }
    }
    warp.sync();
}
