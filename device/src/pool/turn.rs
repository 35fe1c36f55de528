//! Before the handlers of a batch, and after them.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::geometry::KernelArguments;
use tourbillon_shared::mutant;
use tourbillon_shared::pool::{LanePool, pool_bytes};
use tourbillon_shared::telemetry::Counter;

use super::lane::Pool;
use crate::arch::Arch;
use crate::block::Block;
use crate::stats::Stats;
use crate::warp::Warp;

/// Opens the record of the calling lane for the block's shard `local`, an actor of which uses collections. Without pools, nothing.
///
/// # Safety
/// The warp holds the shard's turn, and its records were closed since the last batch.
#[inline(never)]
pub(crate) unsafe fn open<A: Arch>(scratch: *mut WarpScratch, block: &Block<'_>, local: u32) {
    // SAFETY: the scratch is the warp's; nobody writes the mail while the kernel runs.
    let records = unsafe { (*scratch).mail.pools } as *mut LanePool;
    if records.is_null() {
        return;
    }
    let record = records.wrapping_add(A::lane() as usize);
    // SAFETY: the record is this lane's alone while handlers run. Several lanes move the word from 0 to 1, one after the other.
    unsafe {
        prepare(record, block.arguments, block.shard(local));
        A::try_take_cta(&raw mut (*scratch).pool_open, 1);
    }
}

/// Says in a record which pool it is of: that of shard `shard`.
///
/// # Safety
/// The record is the caller's alone, and closed.
#[inline(always)]
pub(super) unsafe fn prepare(record: *mut LanePool, arguments: &KernelArguments, shard: u32) {
    let (geometry, layout) = (&arguments.geometry, &arguments.layout);
    let entries = u64::from(geometry.actors_per_shard).wrapping_mul(u64::from(geometry.entry_stride));
    // SAFETY: the caller vouches for the record.
    unsafe {
        (*record).pool = pool_of(arguments, shard);
        (*record).slab =
            arguments.memory.wrapping_add(layout.slabs).wrapping_add(u64::from(shard).wrapping_mul(entries));
        (*record).pages = geometry.pool_pages;
    }
}

/// Address of the pool of shard `shard`, of an engine with pools.
#[inline(always)]
pub(super) fn pool_of(arguments: &KernelArguments, shard: u32) -> u64 {
    let before = u64::from(shard).wrapping_mul(pool_bytes(arguments.geometry.pool_pages));
    arguments.memory.wrapping_add(arguments.layout.pools).wrapping_add(before)
}

/// After a batch, when all lanes that live have come back: closes all records of the warp, also those of lanes that panicked.
#[inline(never)]
pub(crate) fn close<A: Arch>(warp: &Warp<A, false>, scratch: *mut WarpScratch, stats: Stats) {
    // What the lanes did to their records, those that have left as well, comes before this.
    warp.sync();
    // SAFETY: nobody writes the word until all have read it.
    if unsafe { (*scratch).pool_open } == 0 {
        return;
    }
    // SAFETY: as in `open`.
    let records = unsafe { (*scratch).mail.pools } as *mut LanePool;
    let mut lane = warp.rank();
    while lane < A::LANES {
        // SAFETY: each record is one lane's here; no handler runs.
        let pool = unsafe { Pool::new(records.wrapping_add(lane as usize)) };
        let is_forgotten = mutant!("pool_lost_lanes_forgotten") && warp.size() < A::LANES;
        if pool.is_open() && !is_forgotten {
            let (taken, given) = pool.close();
            stats.add::<A>(Counter::PagesTaken, taken);
            stats.add::<A>(Counter::PagesGiven, given);
        }
        lane = lane.wrapping_add(warp.size());
    }
    warp.sync();
    if warp.rank() == 0 {
        // SAFETY: all lanes have read the word.
        unsafe { (*scratch).pool_open = 0 };
    }
    // The next handlers open their records after this.
    warp.sync();
}
