//! Around the handlers of a batch that may read published blocks: the epoch, and the blocks that wait for it.
//!
//! See [`tourbillon_shared::epoch`] and [`tourbillon_shared::published`].

use core::marker::PhantomData;

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::epoch::{self, EpochState, EpochWords, GRACE_EPOCHS, epoch_of_the_gone, is_held_up, is_over};
use tourbillon_shared::geometry::KernelArguments;
use tourbillon_shared::mutant;
use tourbillon_shared::pool::{LanePool, PAGE_BYTES, POOL_HEAD_BYTES, PageNote, PoolWords, give_pages, pool_bytes};
use tourbillon_shared::published::{BLOCK_PAGES_MAX, BlockHead, ShardBlocks, published_bytes};
use tourbillon_shared::telemetry::Counter;

use super::lane::Pool;
use crate::arch::Arch;
use crate::block::Block;
use crate::stats::Stats;
use crate::warp::{Warp, lowest};

/// The epoch in device memory, and what warps announce.
#[derive(Debug)]
pub(super) struct Epochs<A> {
    pub(super) state: *mut EpochState,
    pub(super) arch: PhantomData<A>,
}

impl<A: Arch> Epochs<A> {
    /// Those of an engine with published blocks.
    fn of(arguments: &KernelArguments) -> Self {
        let state = arguments.memory.wrapping_add(arguments.layout.epochs) as *mut EpochState;
        Self { state, arch: PhantomData }
    }

    fn word(&self, warp: u32) -> *mut u64 {
        self.state.wrapping_add(1).cast::<u64>().wrapping_add(warp as usize)
    }
}

impl<A: Arch> EpochWords for Epochs<A> {
    fn epoch(&self) -> u64 {
        // SAFETY: a word of device memory, as are all here. Pairs with `advance`.
        unsafe { A::load_acquire_gpu(&raw const (*self.state).epoch) }
    }
    fn advance(&self, epoch: u64) {
        // SAFETY: as above.
        unsafe { A::advance_gpu(&raw mut (*self.state).epoch, epoch) }
    }
    fn announced(&self, warp: u32) -> u64 {
        // SAFETY: as above; callers ask for warps of the grid.
        unsafe { A::load_relaxed_gpu(self.word(warp)) }
    }
    fn announce(&self, warp: u32, word: u64) {
        // SAFETY: as above. Release pairs with the fence behind `announced`.
        unsafe { A::store_release_gpu(self.word(warp), word) }
    }
    fn fence(&self) {
        A::fence_sc_gpu();
    }
}

/// The calling warp's number in the grid.
fn in_grid<A: Arch>(block: &Block<'_>) -> u32 {
    block.number.wrapping_mul(block.arguments.geometry.warps_per_block).wrapping_add(A::warp())
}

fn warps(arguments: &KernelArguments) -> u32 {
    arguments.geometry.blocks.wrapping_mul(arguments.geometry.warps_per_block)
}

/// Says in the calling lane's record, which was opened for the block's shard `local`, where blocks are. Without pools, nothing.
///
/// # Safety
/// As for [`turn::open`](super::turn::open).
#[inline(never)]
pub(crate) unsafe fn open<A: Arch>(scratch: *mut WarpScratch, block: &Block<'_>, local: u32) {
    let arguments = block.arguments;
    let (geometry, layout) = (&arguments.geometry, &arguments.layout);
    // SAFETY: the scratch is the warp's; nobody writes the mail while the kernel runs.
    let records = unsafe { (*scratch).mail.pools } as *mut LanePool;
    if records.is_null() {
        return;
    }
    let record = records.wrapping_add(A::lane() as usize);
    let published = if geometry.published_pages == 0 { 0 } else { arguments.memory.wrapping_add(layout.published) };
    // SAFETY: the record is this lane's alone while handlers run.
    unsafe {
        (*record).pools = arguments.memory.wrapping_add(layout.pools);
        (*record).published = published;
        ((*record).shards, (*record).shard) = (geometry.shards, block.shard(local));
    }
}

/// Before the handlers of a batch, of which this lane runs one of an actor with collections when `takes`, and of one that uses
/// published blocks when `reads`: frees what no one can read any longer, and announces that the warp reads; whether it does.
///
/// # Safety
/// The warp holds the turn of the block's shard `local`, and its records are closed.
#[inline(never)]
pub(crate) unsafe fn enter<A: Arch>(
    warp: &Warp<A, false>,
    block: &Block<'_>,
    stats: Stats,
    local: u32,
    (takes, reads): (bool, bool),
) -> bool {
    if block.arguments.geometry.published_pages == 0 || !warp.any(takes) {
        return false;
    }
    let limbo = Limbo::of(block, local);
    // SAFETY: the warp holds the turn, so nobody writes the word.
    if unsafe { (*limbo.blocks).first } != 0 {
        limbo.reclaim(warp, &Epochs::<A>::of(block.arguments), warps(block.arguments), stats);
    }
    if !warp.any(reads) {
        return false;
    }
    if warp.rank() == 0 {
        epoch::enter(&Epochs::<A>::of(block.arguments), in_grid::<A>(block));
    }
    // Rank 0's fence comes before what any lane reads.
    warp.sync();
    true
}

/// After a batch for which [`enter`] has announced the warp, when all lanes that live have come back: puts what they have taken back
/// into the shard's limbo, and takes back the announcement.
///
/// # Safety
/// As for [`enter`]; the records are still as the handlers left them.
#[inline(never)]
pub(crate) unsafe fn leave<A: Arch>(
    warp: &Warp<A, false>,
    scratch: *mut WarpScratch,
    block: &Block<'_>,
    stats: Stats,
    local: u32,
) {
    // What the lanes did, those that have left as well, comes before this.
    warp.sync();
    // SAFETY: the scratch is the warp's; nobody writes the mail while the kernel runs.
    let records = unsafe { (*scratch).mail.pools } as *mut LanePool;
    let epochs = Epochs::<A>::of(block.arguments);
    let mut has_limbo = false;
    let mut lane = warp.rank();
    while lane < A::LANES {
        // SAFETY: each record is one lane's here; no handler runs.
        unsafe {
            let record = &mut *records.wrapping_add(lane as usize);
            has_limbo |= record.limbo != 0;
            if record.issued | record.ended != 0 {
                stats.add::<A>(Counter::BlocksPublished, record.issued.into());
                stats.add::<A>(Counter::BlocksRetired, record.ended.into());
                (record.issued, record.ended) = (0, 0);
            }
        }
        lane = lane.wrapping_add(warp.size());
    }
    let mut rest = warp.ballot(has_limbo);
    if rest != 0 {
        let limbo = Limbo::of(block, local);
        let gone = if warp.rank() == 0 { epoch_of_the_gone(&epochs) } else { 0 };
        let gone = warp.broadcast_u64(gone, 0);
        while rest != 0 {
            if warp.rank() == lowest(rest) {
                let mut lane = warp.rank();
                while lane < A::LANES {
                    // SAFETY: as above; one lane after the other comes here.
                    unsafe { limbo.append(records.wrapping_add(lane as usize), gone) };
                    lane = lane.wrapping_add(warp.size());
                }
            }
            rest &= rest.wrapping_sub(1);
            warp.sync();
        }
    }
    if warp.rank() == 0 {
        // What all lanes have read comes before, by the sync above.
        epoch::leave(&epochs, in_grid::<A>(block));
    }
}

/// The blocks of a shard that were taken back, and wait until nobody can read them: a queue, oldest first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limbo {
    pub(super) blocks: *mut ShardBlocks,
    /// Address of the shard's pool.
    pub(super) pool: u64,
    /// Its pages.
    pub(super) pages: u32,
}

impl Limbo {
    /// That of the block's shard `local`.
    fn of(block: &Block<'_>, local: u32) -> Self {
        let (arguments, shard) = (block.arguments, u64::from(block.shard(local)));
        let pages = arguments.geometry.pool_pages;
        let blocks = arguments.layout.published.wrapping_add(published_bytes(pages).wrapping_mul(shard));
        let pool = arguments.layout.pools.wrapping_add(pool_bytes(pages).wrapping_mul(shard));
        Self {
            blocks: arguments.memory.wrapping_add(blocks) as *mut ShardBlocks,
            pool: arguments.memory.wrapping_add(pool),
            pages,
        }
    }

    /// A record of the shard's pool, through which its words are used here.
    fn record(&self) -> LanePool {
        LanePool::at_rest(self.pool, self.pages)
    }

    fn head(&self, id: u32) -> *const BlockHead {
        let before = u64::from(id.wrapping_sub(1)).wrapping_mul(PAGE_BYTES as u64);
        self.pool.wrapping_add(POOL_HEAD_BYTES).wrapping_add(before) as *const BlockHead
    }

    /// Puts the blocks that a record has taken back, in epoch `gone`, at the end.
    ///
    /// # Safety
    /// The record is the caller's alone, and so is the limbo.
    pub(super) unsafe fn append(&self, record: *mut LanePool, gone: u64) {
        // SAFETY: the caller vouches for both.
        let (record, blocks) = unsafe { (&mut *record, &mut *self.blocks) };
        let mut own = self.record();
        // SAFETY: a record of this lane.
        let pool = unsafe { Pool::new(&raw mut own) };
        let mut id = record.limbo;
        record.limbo = 0;
        while id != 0 {
            let next = PageNote::next_in(pool.read_note(id).holder);
            pool.write_note(id, gone, PageNote::held(0, 0));
            if blocks.last == 0 {
                blocks.first = id;
            } else {
                let stamp = pool.read_note(blocks.last).stamp;
                pool.write_note(blocks.last, stamp, PageNote::held(0, id));
            }
            blocks.last = if mutant!("block_limbo_cut") { 0 } else { id };
            blocks.blocks = blocks.blocks.wrapping_add(1);
            // SAFETY: the head of a block, which nobody writes.
            blocks.pages = blocks.pages.wrapping_add(unsafe { (*self.head(id)).pages }).wrapping_add(1);
            id = next;
        }
    }

    /// Whether half of the pool is in use or more, so that it is worth moving the epoch as far as it goes.
    fn is_scarce(&self) -> bool {
        let mut own = self.record();
        // SAFETY: a record of this lane.
        let pool = unsafe { Pool::new(&raw mut own) };
        let left = u64::from(self.pages).saturating_sub(pool.begun()).wrapping_add(PoolWords::free(&pool));
        left < u64::from(self.pages / 2) && !mutant!("block_scarcity_unseen")
    }

    /// Moves the epoch on if nobody holds it up, once, and as often as it takes when pages are scarce; gives back the pages of the
    /// blocks that have waited long enough.
    pub(super) fn reclaim<A: Arch>(&self, warp: &Warp<A, false>, epochs: &Epochs<A>, warps: u32, stats: Stats) {
        let mut own = self.record();
        // SAFETY: a record of this lane; under the turn nobody takes pages.
        let pool = unsafe { Pool::new(&raw mut own) };
        let first = |limbo: &Self| unsafe {
            // SAFETY: only rank 0 writes the word, in front of a sync.
            (*limbo.blocks).first
        };
        let mut epoch = warp.broadcast_u64(epochs.epoch(), 0);
        let advances = if self.is_scarce() { GRACE_EPOCHS } else { 1 };
        let mut advanced = 0;
        while advanced < advances && !is_over(pool.read_note(first(self)).stamp, epoch) {
            if warp.any(is_held_up(epochs, epoch, warp.rank(), warp.size(), warps)) {
                break;
            }
            if warp.rank() == 0 {
                epochs.advance(epoch);
            }
            warp.sync();
            epoch = warp.broadcast_u64(epochs.epoch(), 0);
            advanced = advanced.wrapping_add(1);
        }
        let mut reclaimed = (0u64, 0u64);
        loop {
            let id = first(self);
            if id == 0 {
                break;
            }
            let note = pool.read_note(id);
            if !is_over(note.stamp, epoch) && !mutant!("block_reclaimed_at_once") {
                break;
            }
            let head = self.head(id);
            // SAFETY: the head of a block, which nobody writes.
            let pages = unsafe { (*head).pages };
            // So that no lane ever looks past the numbers of a head.
            let pages = if pages < BLOCK_PAGES_MAX { pages } else { BLOCK_PAGES_MAX };
            let given = u64::from(pages).wrapping_add(1);
            let place = if warp.rank() == 0 { give_pages(&pool, given) } else { 0 };
            let place = warp.broadcast_u64(place, 0);
            // All have read the note before it changes.
            warp.sync();
            let mut index = warp.rank();
            while index <= pages {
                let page = if index == 0 {
                    id
                } else {
                    // SAFETY: the numbers of the block's pages follow its head.
                    unsafe { head.wrapping_add(1).cast::<u32>().wrapping_add(index.wrapping_sub(1) as usize).read() }
                };
                pool.write_note(page, 0, PageNote::held(0, 0));
                pool.write_place(place.wrapping_add(index.into()), page);
                index = index.wrapping_add(warp.size());
            }
            if warp.rank() == 0 {
                let next = PageNote::next_in(note.holder);
                // SAFETY: rank 0 alone writes, between two syncs.
                let blocks = unsafe { &mut *self.blocks };
                blocks.first = next;
                if next == 0 {
                    blocks.last = 0;
                }
                blocks.blocks = blocks.blocks.wrapping_sub(1);
                blocks.pages = blocks.pages.wrapping_sub(given as u32);
            }
            reclaimed = (reclaimed.0.wrapping_add(1), reclaimed.1.wrapping_add(given));
            warp.sync();
        }
        if warp.rank() == 0 {
            stats.add::<A>(Counter::BlocksReclaimed, reclaimed.0);
            stats.add::<A>(Counter::PagesGiven, reclaimed.1);
        }
    }
}
