//! Blocks, warps, shards and memory of one engine.
//!
//! All truth of an engine lives in one range of device memory, laid out by [`DeviceLayout`]. What a block keeps in its own
//! shared memory while it runs is a copy that it spills back when the kernel stops.

use bytemuck::{Pod, Zeroable};

use crate::arena::{LARGE_BYTES_MAX, payload_bytes_max};
use crate::block::BlockLayout;
use crate::broadcast::BROADCASTS_BYTES;
use crate::dead_letter::{DEAD_LETTERS_MAX, DEAD_LETTERS_MIN, dead_letter_bytes};
use crate::dedup::{DEDUP_ENTRIES_MAX, DEDUP_ENTRIES_MIN, dedup_bytes};
use crate::epoch::epoch_bytes;
use crate::lane::{LANE_HEADER_BYTES, LANES_MAX, LaneHeader};
use crate::mailbox::{
    LETTER_BUFFER_BYTES, MAILBOX_CAPACITY_MAX, MAILBOX_CAPACITY_MIN, MailboxState, OVERFLOW_CAPACITY_MAX,
    OVERFLOW_CAPACITY_MIN, mailbox_bytes,
};
use crate::outbox::{
    LANES_OF_WARP_MAX, OUTBOX_CAPACITY_MAX, OUTBOX_CAPACITY_MIN, OutboxState, Outgoing, is_outbox_log2,
};
use crate::partition::{PARTITIONS, SHARDS_MAX};
use crate::pool::{LanePool, POOL_PAGES_MAX, pool_bytes};
use crate::position::{RING_CAPACITY_MAX, RING_CAPACITY_MIN, RingShape};
use crate::published::published_bytes;
use crate::slot::SLOT_BYTES;
use crate::telemetry::WarpStats;
use crate::virtual_actors::{WAITERS_MAX, store_ring_log2, virtual_bytes};

/// Most gate blocks: a warp looks at the rings of all gates to one shard with one load of each lane (8 slots of 4 chunks).
pub const GATES_MAX: u32 = 8;
/// Most warps of a block: their scratch must fit into the block's shared memory.
pub const WARPS_PER_BLOCK_MAX: u32 = 8;
/// Most blocks of an engine; the largest chips have under 200 multiprocessors.
pub const BLOCKS_MAX: u32 = 1024;
/// Most actors of a shard: so many that the directories of the largest engine still have 32-bit sizes.
pub const ACTORS_PER_SHARD_MAX: u32 = 1 << 24;
/// Shared memory of a block: the most that CUDA gives without an opt-in.
pub const BLOCK_MEMORY_BYTES: usize = 48 * 1024;

/// How one engine is spread over a device.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Geometry {
    /// Blocks of the launch, gate blocks included.
    pub blocks: u32,
    /// Blocks that poll lanes; blocks `0 .. gates`.
    pub gates: u32,
    /// Warps of every block.
    pub warps_per_block: u32,
    /// 1 when the one block is gate and shard block in one (CPU threads), else 0.
    pub combined: u32,
    /// Shards.
    pub shards: u32,
    /// Lanes.
    pub lanes: u32,
    /// Binary logarithm of the capacity of the ring from a gate to a shard, in slots.
    pub ring_log2: u32,
    /// Actors of one shard at most.
    pub actors_per_shard: u32,
    /// Bytes from one actor's [`EntryHeader`] to the next, a multiple of 16.
    pub entry_stride: u32,
    /// Binary logarithm of the directory buckets of one shard.
    pub directory_log2: u32,
    /// Bytes of a shard's landing buffer, a multiple of 256: the largest payload of an arena, 0 without arenas.
    pub landing_bytes: u32,
    /// Binary logarithm of the capacity of a lane's outbox, in slots; 0 without outboxes.
    pub outbox_log2: u32,
    /// Message ids that each shard remembers.
    pub dedup_entries: u32,
    /// Binary logarithm of the capacity of the queue of dead letters.
    pub dead_letters_log2: u32,
    /// Pages of a shard's pool; 0 without pools.
    pub pool_pages: u32,
    /// Frames that may wait in a shard for actors that come or go; 0 without a store.
    pub waiters: u32,
    /// Binary logarithm of the capacity of the ring for requests to the store, in slots; 0 without one.
    pub store_log2: u32,
    /// Binary logarithm of the capacity of a shard's mailbox, in slots; 0 without mailboxes.
    pub mailbox_log2: u32,
    /// Binary logarithm of the capacity of a shard's overflow, in slots; 0 without mailboxes.
    pub overflow_log2: u32,
    /// Pages of a shard's pool that may be pages of published blocks: all, or 0 where no actor publishes any.
    pub published_pages: u32,
}

impl Geometry {
    /// The directory size for `actors_per_shard` actors: at most half full, so that probes stay short.
    pub const fn directory_log2_for(actors_per_shard: u32) -> u32 {
        (actors_per_shard as u64 * 2).next_power_of_two().trailing_zeros()
    }

    /// Bytes of a landing buffer where the lanes have arenas of `arena_bytes` bytes.
    pub const fn landing_bytes_for(arena_bytes: u32) -> u32 {
        payload_bytes_max(arena_bytes).next_multiple_of(256)
    }

    /// Blocks that run shards.
    #[inline(always)]
    pub const fn shard_blocks(&self) -> u32 {
        if self.combined != 0 { 1 } else { self.blocks.wrapping_sub(self.gates) }
    }

    /// Most shards of any one block.
    pub const fn shards_per_block(&self) -> u32 {
        self.shards.div_ceil(self.shard_blocks())
    }

    /// Rings from which each shard takes messages: those of the gates, and its mailbox.
    #[inline(always)]
    pub const fn sources(&self) -> u32 {
        if self.mailbox_log2 == 0 { self.gates } else { self.gates.wrapping_add(1) }
    }

    /// Shape of a shard's mailbox, where there are mailboxes.
    #[inline(always)]
    pub const fn mailbox_shape(&self) -> RingShape {
        RingShape::from_log2(self.mailbox_log2)
    }

    /// Shape of a ring from a gate to a shard.
    #[inline(always)]
    pub const fn ring_shape(&self) -> RingShape {
        RingShape::from_log2(self.ring_log2)
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`GeometryError`] names the figure, its value and its bounds.
    pub const fn check(&self) -> Result<(), GeometryError> {
        macro_rules! within {
            ($field:ident, $least:expr, $most:expr) => {
                let (value, least, most) = (self.$field as u64, $least as u64, $most as u64);
                if value < least || value > most {
                    return Err(GeometryError { figure: stringify!($field), value, least, most });
                }
            };
        }
        within!(blocks, 1, BLOCKS_MAX);
        within!(gates, 1, if self.mailbox_log2 == 0 { GATES_MAX } else { GATES_MAX - 1 });
        within!(warps_per_block, 1, WARPS_PER_BLOCK_MAX);
        if self.combined > 1 {
            return Err(GeometryError { figure: "combined", value: self.combined as u64, least: 0, most: 1 });
        }
        within!(shards, 1, SHARDS_MAX);
        within!(lanes, 1, LANES_MAX);
        within!(ring_log2, RING_CAPACITY_MIN.trailing_zeros(), RING_CAPACITY_MAX.trailing_zeros());
        within!(actors_per_shard, 1, ACTORS_PER_SHARD_MAX);
        within!(entry_stride, size_of::<EntryHeader>() as u32, 1 << 16);
        within!(
            directory_log2,
            Self::directory_log2_for(self.actors_per_shard),
            Self::directory_log2_for(ACTORS_PER_SHARD_MAX)
        );
        within!(landing_bytes, 0, LARGE_BYTES_MAX);
        within!(pool_pages, 0, POOL_PAGES_MAX);
        if self.published_pages != 0 {
            within!(published_pages, self.pool_pages, self.pool_pages);
        }
        if !is_outbox_log2(self.outbox_log2) {
            within!(outbox_log2, OUTBOX_CAPACITY_MIN.trailing_zeros(), OUTBOX_CAPACITY_MAX.trailing_zeros());
        }
        within!(dedup_entries, DEDUP_ENTRIES_MIN, DEDUP_ENTRIES_MAX);
        within!(dead_letters_log2, DEAD_LETTERS_MIN.trailing_zeros(), DEAD_LETTERS_MAX.trailing_zeros());
        within!(waiters, 0, WAITERS_MAX);
        if self.waiters != 0 {
            within!(store_log2, store_ring_log2(self.shards), OUTBOX_CAPACITY_MAX.trailing_zeros());
        }
        if self.mailbox_log2 != 0 || self.overflow_log2 != 0 {
            within!(mailbox_log2, MAILBOX_CAPACITY_MIN.trailing_zeros(), MAILBOX_CAPACITY_MAX.trailing_zeros());
            within!(overflow_log2, OVERFLOW_CAPACITY_MIN.trailing_zeros(), OVERFLOW_CAPACITY_MAX.trailing_zeros());
        }
        if self.combined == 1 {
            within!(blocks, 1, 1);
        } else {
            within!(blocks, self.gates + 1, BLOCKS_MAX);
        }
        let block = BlockLayout::new(self);
        if block.total_bytes as usize > BLOCK_MEMORY_BYTES {
            return Err(GeometryError {
                figure: "block memory",
                value: block.total_bytes as u64,
                least: 0,
                most: BLOCK_MEMORY_BYTES as u64,
            });
        }
        Ok(())
    }
}

/// A figure of a [`Geometry`] that is out of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeometryError {
    /// Its name.
    pub figure: &'static str,
    /// Its value.
    pub value: u64,
    /// The least that is allowed.
    pub least: u64,
    /// The most that is allowed.
    pub most: u64,
}

impl core::fmt::Display for GeometryError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} is {}, allowed are {} to {}", self.figure, self.value, self.least, self.most)
    }
}

impl core::error::Error for GeometryError {}

/// One bucket of a shard's directory.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Bucket {
    /// Key of the actor.
    pub key: u64,
    /// Kind word of the actor, above it the request that [holds](crate::virtual_actors::held) it; 0 when the bucket is empty.
    pub kind: u32,
    /// Index of the actor's entry in the shard's slab.
    pub entry: u32,
}

/// What the engine keeps in front of every actor's state.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct EntryHeader {
    /// Timestamp of the last message that the actor handled.
    pub hlc: u64,
    /// Messages that the actor handled without a failure.
    pub version: u64,
}

/// What the engine keeps for a shard, read and written by the holder of the shard's turn.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct ShardState {
    /// Last timestamp that the shard gave, as of the last exit of the kernel; while it runs, the block keeps it.
    pub hlc: u64,
    /// Entries of the slab that were ever used; without a store, actors in the directory.
    pub actors: u32,
    /// Zero.
    pub reserved: [u32; 29],
}

/// Device addresses of one lane's rings.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct LaneAddresses {
    /// Address of the request ring.
    pub requests: u64,
    /// Address of the reply ring.
    pub replies: u64,
    /// Binary logarithm of both capacities.
    pub capacity_log2: u32,
    /// Bytes of the request arena, which follows the reply ring, and of the reply arena, which follows that.
    pub arena_bytes: u32,
    /// Zero.
    pub reserved: [u32; 2],
}

impl LaneAddresses {
    /// Address of the request arena.
    #[inline(always)]
    pub const fn request_arena(&self) -> u64 {
        self.replies.wrapping_add((SLOT_BYTES as u64).wrapping_shl(self.capacity_log2))
    }

    /// Address of the lane's head.
    #[inline(always)]
    pub const fn head(&self) -> *mut LaneHeader {
        self.requests.wrapping_sub(LANE_HEADER_BYTES as u64) as *mut LaneHeader
    }

    /// Address of the outbox ring, where there is one.
    #[inline(always)]
    pub const fn outbox(&self) -> u64 {
        self.reply_arena().wrapping_add(self.arena_bytes as u64)
    }

    /// Address of the reply arena.
    #[inline(always)]
    pub const fn reply_arena(&self) -> u64 {
        self.request_arena().wrapping_add(self.arena_bytes as u64)
    }
}

/// What the kernel gets: one pointer to this. Addresses are those of the device.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct KernelArguments {
    /// [`crate::abi::HASH`] of the host; a kernel with another one exits at once.
    pub abi_hash: u64,
    /// Address of the [`ControlBlock`](crate::control::ControlBlock) in host memory.
    pub control: u64,
    /// Address of the [`TelemetryPage`](crate::telemetry::TelemetryPage) in host memory.
    pub telemetry: u64,
    /// Address of `lanes` [`LaneAddresses`] in device memory.
    pub lanes: u64,
    /// Address of the range that [`DeviceLayout`] lays out.
    pub memory: u64,
    /// Where in that range things are.
    pub layout: DeviceLayout,
    /// The geometry.
    pub geometry: Geometry,
    /// Nanoseconds between two refreshes of the telemetry page.
    pub refresh_ns: u32,
    /// Nanoseconds between two beats and looks at the control block.
    pub beat_ns: u32,
    /// Zero.
    pub reserved: [u32; 2],
}

/// Byte offsets in the engine's device memory.
///
/// The sum: `warps * 896 + gates * shards * (ring * 64 + 24) + shards * (128 + buckets * 16 + actors * stride + landing)`, with
/// outboxes `warps * 47104 + lanes * 128`, for message ids `shards * (128 + 64 * entries + 2 * buckets)`, for dead letters `128 * (1 +
/// capacity)`, with pools `warps * 4096 + shards * pages * 276`, with published blocks `warps * 8 + shards * (128 + pages * 8)`, with a store
/// `shards * (384 + waiters * 528)`, with mailboxes `33024 + warps * 51200 + shards * (896 + 64 * (mailbox + overflow))`, and a little.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct DeviceLayout {
    /// The mirror of the control block: a command and a clock offset.
    pub mirror: u64,
    /// [`PARTITIONS`] shard numbers, u16.
    pub table: u64,
    /// A word for each warp: the epoch that it has obeyed; `u32::MAX` when the warp has left.
    pub obeyed: u64,
    /// A [`WarpStats`] for each warp.
    pub stats: u64,
    /// A position for each lane: how far its gate has claimed.
    pub lane_heads: u64,
    /// A position for each gate and shard: how far the gate has written the shard's ring.
    pub ring_tails: u64,
    /// A position for each gate and shard: how far the shard has taken the ring.
    pub ring_heads: u64,
    /// A position for each gate and shard: how far the gate may overwrite, published by the shard while it runs.
    pub ring_freed: u64,
    /// The rings, for each gate and shard.
    pub rings: u64,
    /// A [`ShardState`] for each shard.
    pub shards: u64,
    /// An [`OutboxState`] for each lane.
    pub outboxes: u64,
    /// The directory of each shard.
    pub directories: u64,
    /// The slab of each shard.
    pub slabs: u64,
    /// The landing buffer of each shard: where payloads from arenas are while their handlers run.
    pub landings: u64,
    /// With outboxes an [`Outgoing`] for each of the 32 lanes of each warp.
    pub outgoing: u64,
    /// The window of message ids of each shard ([`crate::dedup`]).
    pub dedups: u64,
    /// The queue of dead letters ([`crate::dead_letter`]).
    pub dead_letters: u64,
    /// The pool of each shard: a [`PoolState`](crate::pool::PoolState), pages, notes, the stack of free pages.
    pub pools: u64,
    /// With pools a [`LanePool`] for each of the 32 lanes of each warp.
    pub lane_pools: u64,
    /// With a store a [`VirtualShard`](crate::virtual_actors::VirtualShard) for each shard, and behind each its
    /// [`WaitingFrame`](crate::virtual_actors::WaitingFrame)s.
    pub virtuals: u64,
    /// With mailboxes a [`MailboxState`] for each shard, and behind them the [`Broadcasts`](crate::broadcast::Broadcasts) with a
    /// [`Broadcast`](crate::broadcast::Broadcast) for each number.
    pub mailboxes: u64,
    /// The ring of each shard's mailbox.
    pub mail_rings: u64,
    /// The ring of each shard's overflow.
    pub overflows: u64,
    /// With mailboxes the buffer of each warp for letters ([`LETTER_BUFFER_BYTES`]).
    pub letters: u64,
    /// With published blocks the [`EpochState`](crate::epoch::EpochState), and a u64 for each warp.
    pub epochs: u64,
    /// With published blocks a [`ShardBlocks`](crate::published::ShardBlocks) for each shard, and behind each a u64 for each page of its pool.
    pub published: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// Offset of the [`Broadcasts`](crate::broadcast::Broadcasts) in device memory, where there are mailboxes: behind the states of those.
#[inline(always)]
pub const fn broadcasts_offset(layout: &DeviceLayout, geometry: &Geometry) -> u64 {
    layout.mailboxes.wrapping_add((geometry.shards as u64).wrapping_mul(size_of::<MailboxState>() as u64))
}

impl DeviceLayout {
    /// The layout for a geometry that passed [`Geometry::check`].
    pub const fn new(geometry: &Geometry) -> Self {
        const fn place(next: &mut u64, bytes: u64) -> u64 {
            let offset = next.next_multiple_of(256);
            *next = offset + bytes;
            offset
        }
        let warps = geometry.blocks as u64 * geometry.warps_per_block as u64;
        let shards = geometry.shards as u64;
        let pairs = geometry.gates as u64 * shards;
        let mut next = 0;
        let mirror = place(&mut next, 128);
        let table = place(&mut next, PARTITIONS as u64 * 2);
        let obeyed = place(&mut next, warps * 4);
        let stats = place(&mut next, warps * size_of::<WarpStats>() as u64);
        let lane_heads = place(&mut next, geometry.lanes as u64 * 8);
        let ring_tails = place(&mut next, pairs * 8);
        let ring_heads = place(&mut next, pairs * 8);
        let ring_freed = place(&mut next, pairs * 8);
        let rings = place(&mut next, pairs * ((SLOT_BYTES as u64) << geometry.ring_log2));
        let shard_states = place(&mut next, shards * size_of::<ShardState>() as u64);
        let outboxes = place(&mut next, geometry.lanes as u64 * size_of::<OutboxState>() as u64);
        let directories = place(&mut next, shards * ((size_of::<Bucket>() as u64) << geometry.directory_log2));
        let slabs = place(&mut next, shards * geometry.actors_per_shard as u64 * geometry.entry_stride as u64);
        let landings = place(&mut next, shards * geometry.landing_bytes as u64);
        let posting_warps = if geometry.outbox_log2 == 0 { 0 } else { warps };
        let outgoing = place(&mut next, posting_warps * (LANES_OF_WARP_MAX as u64 * size_of::<Outgoing>() as u64));
        let dedups = place(&mut next, shards * dedup_bytes(geometry.dedup_entries));
        let dead_letters = place(&mut next, dead_letter_bytes(geometry.dead_letters_log2));
        let pools = place(&mut next, shards * pool_bytes(geometry.pool_pages));
        let pooling_warps = if geometry.pool_pages == 0 { 0 } else { warps };
        let lane_pools = place(&mut next, pooling_warps * (LANES_OF_WARP_MAX as u64 * size_of::<LanePool>() as u64));
        let virtuals = place(&mut next, shards * virtual_bytes(geometry.waiters));
        let (mail_shards, mail_warps) = if geometry.mailbox_log2 == 0 { (0, 0) } else { (shards, warps) };
        let broadcasts = if geometry.mailbox_log2 == 0 { 0 } else { BROADCASTS_BYTES };
        let mailboxes = place(&mut next, mail_shards * size_of::<MailboxState>() as u64 + broadcasts);
        let mail_rings = place(&mut next, mail_shards * mailbox_bytes(geometry.mailbox_log2));
        let overflows = place(&mut next, mail_shards * mailbox_bytes(geometry.overflow_log2));
        let letters = place(&mut next, mail_warps * LETTER_BUFFER_BYTES);
        let epochs = place(&mut next, if geometry.published_pages == 0 { 0 } else { epoch_bytes(warps) });
        let published = place(&mut next, shards * published_bytes(geometry.published_pages));
        Self {
            mirror,
            table,
            obeyed,
            stats,
            lane_heads,
            ring_tails,
            ring_heads,
            ring_freed,
            rings,
            shards: shard_states,
            outboxes,
            directories,
            slabs,
            landings,
            outgoing,
            dedups,
            dead_letters,
            pools,
            lane_pools,
            virtuals,
            mailboxes,
            mail_rings,
            overflows,
            letters,
            epochs,
            published,
            total_bytes: next.next_multiple_of(256),
        }
    }

    /// Bytes in front of the directories: what the host writes or clears with a few copies. The whole range must be zero
    /// before the first launch.
    pub const fn head_bytes(&self) -> u64 {
        self.directories
    }
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Geometry>() == 80);
    assert!(size_of::<Bucket>() == 16 && size_of::<EntryHeader>() == 16);
    assert!(size_of::<ShardState>() == 128);
    assert!(size_of::<LaneAddresses>() == 32);
    assert!(size_of::<DeviceLayout>() == 216);
    assert!(size_of::<KernelArguments>() == 352);
    assert!(offset_of!(KernelArguments, layout) == 40);
    assert!(offset_of!(KernelArguments, geometry) == 256);
    assert!(LANES_MAX == 64);
};

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry() -> Geometry {
        Geometry {
            blocks: 132,
            gates: 4,
            warps_per_block: 4,
            combined: 0,
            shards: 256,
            lanes: 32,
            ring_log2: 8,
            actors_per_shard: 1 << 13,
            entry_stride: 96,
            directory_log2: 14,
            landing_bytes: 1 << 20,
            outbox_log2: 8,
            dedup_entries: 1024,
            dead_letters_log2: 10,
            pool_pages: 0,
            published_pages: 0,
            waiters: 0,
            store_log2: 0,
            mailbox_log2: 0,
            overflow_log2: 0,
        }
    }

    #[test]
    fn a_full_chip_fits() {
        geometry().check().unwrap();
        let layout = DeviceLayout::new(&geometry());
        assert!(layout.total_bytes < (1 << 30) + (256 << 20));
        assert!(layout.mirror < layout.table && layout.rings < layout.shards && layout.slabs < layout.total_bytes);
    }

    #[test]
    fn pools_lie_behind_everything_else() {
        let without = DeviceLayout::new(&geometry());
        assert_eq!((without.pools, without.lane_pools), (without.total_bytes, without.total_bytes));
        let with = DeviceLayout::new(&Geometry { pool_pages: 1000, ..geometry() });
        assert_eq!(with.pools, without.total_bytes);
        assert_eq!(with.lane_pools - with.pools, 256 * pool_bytes(1000));
        assert_eq!(with.total_bytes - with.lane_pools, 132 * 4 * 32 * 128);
        assert!(pool_bytes(1000).is_multiple_of(256));
    }

    #[test]
    fn blocks_are_published_in_all_pages_or_none() {
        let with = Geometry { pool_pages: 1000, published_pages: 1000, ..geometry() };
        with.check().unwrap();
        let layout = DeviceLayout::new(&with);
        assert_eq!(layout.published - layout.epochs, (128 + 132 * 4 * 8_u64).next_multiple_of(256));
        assert_eq!(layout.total_bytes - layout.published, 256 * published_bytes(1000));
        for published_pages in [1, 999, 1001] {
            let error = Geometry { published_pages, ..with }.check().unwrap_err();
            assert_eq!((error.figure, error.least), ("published_pages", 1000));
        }
    }

    #[test]
    fn figures_out_of_bounds_are_named() {
        let bad = [
            (Geometry { shards: 0, ..geometry() }, "shards"),
            (Geometry { shards: SHARDS_MAX + 1, ..geometry() }, "shards"),
            (Geometry { lanes: 65, ..geometry() }, "lanes"),
            (Geometry { gates: 0, ..geometry() }, "gates"),
            (Geometry { blocks: 4, ..geometry() }, "blocks"),
            (Geometry { directory_log2: 13, ..geometry() }, "directory_log2"),
            (Geometry { combined: 1, ..geometry() }, "blocks"),
            (Geometry { ring_log2: 3, ..geometry() }, "ring_log2"),
            (Geometry { outbox_log2: 3, ..geometry() }, "outbox_log2"),
            (Geometry { pool_pages: POOL_PAGES_MAX + 1, ..geometry() }, "pool_pages"),
            (Geometry { outbox_log2: 17, ..geometry() }, "outbox_log2"),
            (Geometry { dedup_entries: 15, ..geometry() }, "dedup_entries"),
            (Geometry { dedup_entries: 1025, ..geometry() }, "dedup_entries"),
            (Geometry { dead_letters_log2: 3, ..geometry() }, "dead_letters_log2"),
            (Geometry { dead_letters_log2: 17, ..geometry() }, "dead_letters_log2"),
            (Geometry { waiters: WAITERS_MAX + 1, ..geometry() }, "waiters"),
            (Geometry { waiters: 64, store_log2: 13, ..geometry() }, "store_log2"),
            (Geometry { landing_bytes: (1 << 20) + 256, ..geometry() }, "landing_bytes"),
            (Geometry { mailbox_log2: 4, overflow_log2: 5, ..geometry() }, "mailbox_log2"),
            (Geometry { mailbox_log2: 5, overflow_log2: 4, ..geometry() }, "overflow_log2"),
            (Geometry { mailbox_log2: 0, overflow_log2: 5, ..geometry() }, "mailbox_log2"),
            (Geometry { mailbox_log2: 5, overflow_log2: 5, gates: 8, ..geometry() }, "gates"),
        ];
        for (geometry, figure) in bad {
            assert_eq!(geometry.check().map_err(|e| e.figure), Err(figure));
        }
    }

    #[test]
    fn block_memory_is_bounded() {
        let large = Geometry { shards: 1024, warps_per_block: 8, blocks: 5, gates: 4, ..geometry() };
        assert_eq!(large.check().map_err(|e| e.figure), Err("block memory"));
    }
}
