//! How full the shards' pools are.

use tourbillon_shared::pool::{PAGE_BYTES, PoolState, pool_bytes};
use tourbillon_shared::published::{ShardBlocks, published_bytes};

use crate::backend::Purpose;
use crate::error::EngineError;
use crate::shared::Shared;

/// How full the pool of one shard is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUsage {
    /// Pages of the pool, of 256 bytes each.
    pub pages: u32,
    /// Pages that collections and published blocks use, those that wait included.
    pub in_use: u32,
    /// Pages that were ever in use: the most that were at the same time, as seen between two batches, or more.
    pub touched: u32,
    /// Pages of blocks that were replaced or taken back, and wait until nobody can be reading them. They are looked at before each
    /// batch of messages of the shard to actors with collections, and are free two looks later at the earliest, sooner when half of
    /// the pool is in use.
    pub waiting: u32,
}

impl PoolUsage {
    /// Bytes of the pages that are in use.
    pub fn bytes_in_use(&self) -> u64 {
        u64::from(self.in_use) * PAGE_BYTES as u64
    }
}

/// The usage of each shard's pool; nothing without pools.
pub(crate) fn usage(shared: &Shared) -> Result<Vec<PoolUsage>, EngineError> {
    let (pages, shards) = (shared.geometry.pool_pages, shared.geometry.shards);
    let published = shared.geometry.published_pages;
    let mut all = Vec::new();
    let mut core = shared.core();
    if core.is_closed {
        return Err(shared.stopped());
    }
    for shard in 0..if pages == 0 { 0 } else { shards } {
        let mut words = [0u64; size_of::<PoolState>() / 8];
        core.machine.read(shared.layout.pools + u64::from(shard) * pool_bytes(pages), &mut words, Purpose::Other)?;
        let state: PoolState = bytemuck::cast(words);
        // While handlers run both may be past their bounds for a moment.
        let touched = state.begun.min(pages.into()) as u32;
        let free = (state.free as i64).clamp(0, touched.into()) as u32;
        let in_use = touched - free;
        let mut waiting = 0;
        if published != 0 {
            let mut words = [0u64; size_of::<ShardBlocks>() / 8];
            let at = shared.layout.published + u64::from(shard) * published_bytes(published);
            core.machine.read(at, &mut words, Purpose::Other)?;
            waiting = bytemuck::cast::<_, ShardBlocks>(words).pages.min(in_use);
        }
        all.push(PoolUsage { pages, in_use, touched, waiting });
    }
    Ok(all)
}
