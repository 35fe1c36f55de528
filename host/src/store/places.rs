//! What shards keep of actors that come and go, read from device memory: for tests, which count what must not grow.

use tourbillon_shared::geometry::{Bucket, EntryHeader, ShardState};
use tourbillon_shared::virtual_actors::{VirtualShard, holder, virtual_bytes};

use crate::backend::Purpose;
use crate::engine::Engine;
use crate::error::EngineError;

/// The places of a shard.
#[derive(Clone, Copy, Debug)]
#[doc(hidden)]
pub struct ShardPlaces {
    /// What the shard says of itself.
    pub state: VirtualShard,
    /// Entries of the slab that were ever used.
    pub slab_used: u32,
    /// Buckets that are not empty.
    pub buckets_used: u32,
    /// Of those, the ones whose actors are on their way.
    pub buckets_held: u32,
    /// Entries in the list of free ones, walked.
    pub free_list: u32,
    /// Whether every actor is found from its home on without an empty bucket in between.
    pub is_probeable: bool,
}

impl Engine {
    /// The places of all shards; exact while the engine is paused. Only with a store.
    ///
    /// # Errors
    /// [`EngineError::NoStore`], what copying says.
    #[doc(hidden)]
    pub fn shard_places(&self) -> Result<Vec<ShardPlaces>, EngineError> {
        let shared = self.shared();
        let (geometry, layout) = (&shared.geometry, &shared.layout);
        if geometry.waiters == 0 {
            return Err(EngineError::NoStore);
        }
        let mut core = shared.core();
        if core.is_closed {
            return Err(shared.stopped());
        }
        let mut read = |offset: u64, bytes: u64| -> Result<Vec<u64>, EngineError> {
            let mut words = vec![0; (bytes / 8) as usize];
            core.machine.read(offset, &mut words, Purpose::Other)?;
            Ok(words)
        };
        let (stride, buckets) = (u64::from(geometry.entry_stride), 1u64 << geometry.directory_log2);
        let (slab_bytes, table_bytes) = (stride * u64::from(geometry.actors_per_shard), buckets * 16);
        let mut places = Vec::new();
        for shard in 0..u64::from(geometry.shards) {
            let at = layout.virtuals + shard * virtual_bytes(geometry.waiters);
            let words = read(at, size_of::<VirtualShard>() as u64)?;
            let state: VirtualShard = bytemuck::pod_read_unaligned(bytemuck::cast_slice(&words));
            let words = read(layout.shards + shard * 128, size_of::<ShardState>() as u64)?;
            let used: ShardState = bytemuck::pod_read_unaligned(bytemuck::cast_slice(&words));
            let words = read(layout.directories + shard * table_bytes, table_bytes)?;
            let table: Vec<Bucket> =
                words.chunks_exact(2).map(|pair| bytemuck::pod_read_unaligned(bytemuck::cast_slice(pair))).collect();
            let slab = read(layout.slabs + shard * slab_bytes, slab_bytes)?;
            let (mut free, mut free_list) = (state.free_entry, 0);
            while free != 0 && free_list <= geometry.actors_per_shard {
                let word = (u64::from(free - 1) * stride / 8) as usize;
                let Some(header) = slab.get(word..word + 2) else {
                    return Err(EngineError::Damaged { what: "the list of free entries leads outside its slab" });
                };
                let header: EntryHeader = bytemuck::pod_read_unaligned(bytemuck::cast_slice(header));
                (free, free_list) = (header.version as u32, free_list + 1);
            }
            let is_found = |(index, bucket): (usize, &Bucket)| {
                let home =
                    tourbillon_shared::partition::hash(bucket.kind as u16, bucket.key) as usize & (table.len() - 1);
                bucket.kind == 0
                    || (0..table.len())
                        .map(|step| (home + step) & (table.len() - 1))
                        .take_while(|at| *at != index)
                        .all(|at| table[at].kind != 0)
            };
            places.push(ShardPlaces {
                state,
                slab_used: used.actors,
                buckets_used: table.iter().filter(|bucket| bucket.kind != 0).count() as u32,
                buckets_held: table.iter().filter(|bucket| holder(bucket.kind).is_some()).count() as u32,
                free_list,
                is_probeable: table.iter().enumerate().all(is_found),
            });
        }
        Ok(places)
    }
}
