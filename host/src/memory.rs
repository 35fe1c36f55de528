//! How much memory an engine takes, and for what.

use tourbillon_shared::control::ControlBlock;
use tourbillon_shared::geometry::{ACTORS_PER_SHARD_MAX, DeviceLayout, Geometry, KernelArguments, LaneAddresses};
use tourbillon_shared::lane::LaneConstants;
use tourbillon_shared::position::RingShape;
use tourbillon_shared::slot::SLOT_BYTES;
use tourbillon_shared::telemetry::TELEMETRY_BYTES;

/// The most actors a shard may have so that everything stays below `memory` bytes; at least one.
///
/// A directory of `2^d` buckets serves up to `2^(d-1)` actors, so for each size of it the rest of the memory is filled with
/// actors; the largest size that is then still needed wins.
pub(crate) fn most_actors(geometry: &Geometry, memory: u64) -> u32 {
    let total = |actors: u64, directory_log2: u32| {
        DeviceLayout::new(&Geometry { actors_per_shard: actors as u32, directory_log2, ..*geometry }).total_bytes
    };
    let per_actor = u64::from(geometry.shards) * u64::from(geometry.entry_stride);
    for directory_log2 in (2..=Geometry::directory_log2_for(ACTORS_PER_SHARD_MAX)).rev() {
        let bare = total(0, directory_log2);
        let actors = (memory.saturating_sub(bare) / per_actor.max(1)).min(1 << (directory_log2 - 1));
        if actors > 1 << (directory_log2 - 2) {
            return actors as u32;
        }
    }
    1
}

/// Bytes of an engine by purpose. What ends in "(host)" is pinned memory of the host, the rest is device memory, its sum
/// [`device_bytes`].
pub(crate) fn memory_sum(geometry: &Geometry, shape: RingShape, arena_bytes: u32) -> Vec<(&'static str, u64)> {
    let layout = DeviceLayout::new(geometry);
    let lane = LaneConstants::new(0, shape, 0, arena_bytes, geometry.outbox_log2);
    let lanes = u64::from(geometry.lanes);
    vec![
        ("partition table and control mirror", layout.obeyed - layout.mirror),
        ("warp statistics", layout.lane_heads - layout.obeyed),
        ("ring positions", layout.rings - layout.lane_heads),
        ("rings from gates to shards", layout.shards - layout.rings),
        ("shard states", layout.outboxes - layout.shards),
        ("outboxes", layout.directories - layout.outboxes),
        ("directories", layout.slabs - layout.directories),
        ("actors", layout.landings - layout.slabs),
        ("landing buffers", layout.outgoing - layout.landings),
        ("notices of running handlers", layout.dedups - layout.outgoing),
        ("message ids", layout.dead_letters - layout.dedups),
        ("dead letters", layout.pools - layout.dead_letters),
        ("pools of collections", layout.virtuals - layout.pools),
        ("messages that wait for actors", layout.mailboxes - layout.virtuals),
        ("mailboxes", layout.overflows - layout.mailboxes),
        ("overflows of mailboxes", layout.letters - layout.overflows),
        ("letters of running handlers", layout.epochs - layout.letters),
        ("versions of published blocks", layout.total_bytes - layout.epochs),
        ("arguments", device_bytes(geometry) - layout.total_bytes),
        ("lanes (host)", lane.arena_offset * lanes),
        ("arenas (host)", (lane.outbox_offset - lane.arena_offset) * lanes),
        ("outbox rings (host)", (lane.total_bytes - lane.outbox_offset) * (lanes - u64::from(geometry.waiters != 0))),
        (
            "requests to the store (host)",
            if geometry.waiters == 0 { 0 } else { (SLOT_BYTES as u64) << geometry.store_log2 },
        ),
        ("control block and telemetry (host)", (size_of::<ControlBlock>() + TELEMETRY_BYTES) as u64),
    ]
}

/// Offset of the kernel's arguments in device memory: behind what [`DeviceLayout`] lays out.
pub(crate) fn arguments_offset(geometry: &Geometry) -> u64 {
    DeviceLayout::new(geometry).total_bytes
}

/// Offset of the array of [`LaneAddresses`] in device memory.
pub(crate) fn lanes_offset(geometry: &Geometry) -> u64 {
    arguments_offset(geometry) + size_of::<KernelArguments>().next_multiple_of(256) as u64
}

/// All device memory of an engine.
pub(crate) fn device_bytes(geometry: &Geometry) -> u64 {
    lanes_offset(geometry) + (size_of::<LaneAddresses>() * geometry.lanes as usize).next_multiple_of(256) as u64
}
