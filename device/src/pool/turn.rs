//! Before the handlers of a batch, and after them.

use tourbillon_shared::block::WarpScratch;
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
    let (arguments, shard) = (block.arguments, u64::from(block.shard(local)));
    let (geometry, layout) = (&arguments.geometry, &arguments.layout);
    // SAFETY: the scratch is the warp's; nobody writes the mail while the kernel runs.
    let records = unsafe { (*scratch).mail.pools } as *mut LanePool;
    if records.is_null() {
        return;
    }
    let entries = u64::from(geometry.actors_per_shard).wrapping_mul(u64::from(geometry.entry_stride));
    let record = records.wrapping_add(A::lane() as usize);
    // SAFETY: the record is this lane's alone while handlers run. Several lanes move the word from 0 to 1, one after the other.
    unsafe {
        (*record).pool = arguments
            .memory
            .wrapping_add(layout.pools)
            .wrapping_add(shard.wrapping_mul(pool_bytes(geometry.pool_pages)));
        (*record).slab = arguments.memory.wrapping_add(layout.slabs).wrapping_add(shard.wrapping_mul(entries));
        (*record).pages = geometry.pool_pages;
        A::try_take_cta(&raw mut (*scratch).pool_open, 1);
    }
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
