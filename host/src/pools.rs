//! How full the shards' pools are.

use tourbillon_shared::pool::{PAGE_BYTES, PoolState, pool_bytes};

use crate::backend::Purpose;
use crate::error::EngineError;
use crate::shared::Shared;

/// How full the pool of one shard is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUsage {
    /// Pages of the pool, of 256 bytes each.
    pub pages: u32,
    /// Pages that collections use.
    pub in_use: u32,
    /// Pages that were ever in use: the most that were at the same time, as seen between two batches, or more.
    pub touched: u32,
}

impl PoolUsage {
    /// Bytes of the pages that collections use.
    pub fn bytes_in_use(&self) -> u64 {
        u64::from(self.in_use) * PAGE_BYTES as u64
    }
}

/// The usage of each shard's pool; nothing without pools.
pub(crate) fn usage(shared: &Shared) -> Result<Vec<PoolUsage>, EngineError> {
    let (pages, shards) = (shared.geometry.pool_pages, shared.geometry.shards);
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
        all.push(PoolUsage { pages, in_use: touched - free, touched });
    }
    Ok(all)
}
