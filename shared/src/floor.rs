//! What the bare floor kernels of the latency bench get.
//!
//! The floors answer messages with the engine's slots and laps, but without dispatch, state, directory or clock: what
//! stands between their figure and the engine's is what the engine itself costs. `direct` is one block that polls and
//! answers; `gate` is the engine's shape, a gate block that polls and shard blocks that answer.
//!
//! # Message
//! One slot. Words `0 ..` [`ECHOED_WORDS`] of its data come back as they were sent; word [`SHARD_WORD`] names the shard
//! that answers under `gate`. The words behind them carry the return address between the blocks, and come back undefined.

use bytemuck::{Pod, Zeroable};

use crate::lane::LANES_MAX;
use crate::slot::SLOT_BYTES;

/// Data words of a slot that a floor answers unchanged: those of its first three chunks.
pub const ECHOED_WORDS: usize = 9;
/// The data word that names the shard.
pub const SHARD_WORD: usize = 0;
/// Most slots that a warp looks at with one load: 256 bytes, more made every poll slower.
pub const POLL_SLOTS_MAX: u32 = 4;
/// Most gate blocks: a shard's warp looks at one slot of every gate's ring with one load.
pub const FLOOR_GATES_MAX: u32 = 4;
/// Most shard blocks, one per multiprocessor and some to spare.
pub const FLOOR_SHARDS_MAX: u32 = 256;
/// Words that an offload kernel reads, adds to and writes: one slot's worth.
pub const OFFLOAD_WORDS: usize = SLOT_BYTES / 4;

/// A word that ends a floor kernel when it is not zero. In host memory, aligned so that a chunk load reads it.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FloorStop {
    /// Not zero: leave.
    pub stop: u32,
    /// Zero.
    pub reserved: [u32; 31],
}

/// What `tourbillon_floor_direct` and `tourbillon_floor_gate` get: one pointer to this. Addresses are those of the
/// device.
///
/// `direct` is launched with one block and uses lane 0. `gate` is launched with `gates + shards` blocks; lane `l` belongs
/// to gate `l % gates`.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FloorArguments {
    /// Address of `lanes` [`LaneAddresses`](crate::geometry::LaneAddresses), all of one capacity.
    pub lanes_at: u64,
    /// Address of a [`FloorStop`] in host memory.
    pub stop_at: u64,
    /// Address of `gates` [`FloorStop`] in device memory, zeroed: where gates repeat the stop word for the shards.
    pub mirror_at: u64,
    /// Address of [`inbox_bytes`](Self::inbox_bytes) bytes of device memory, zeroed, aligned to 128.
    pub inbox_at: u64,
    /// Lanes, `1 ..= LANES_MAX`.
    pub lanes: u32,
    /// Gate blocks, `1 ..= FLOOR_GATES_MAX`.
    pub gates: u32,
    /// Shard blocks, `1 ..= FLOOR_SHARDS_MAX`.
    pub shards: u32,
    /// Binary logarithm of the capacity of every ring, lanes and inboxes alike.
    ///
    /// A client has at most one capacity in flight, so with `lanes <= gates` an inbox always has room; clients of
    /// further lanes share it and must bound what they have in flight together.
    pub capacity_log2: u32,
    /// Slots that one poll of a lane looks at: 1, 2 or 4.
    pub poll_slots: u32,
    /// Zero.
    pub reserved: [u32; 3],
}

impl FloorArguments {
    /// Bytes of all inboxes: one ring for each pair of gate and shard.
    pub const fn inbox_bytes(&self) -> u64 {
        (self.gates as u64 * self.shards as u64 * SLOT_BYTES as u64) << self.capacity_log2
    }

    /// Whether every figure is within its bounds.
    pub const fn is_valid(&self) -> bool {
        self.lanes >= 1
            && self.lanes <= LANES_MAX
            && self.gates >= 1
            && self.gates <= FLOOR_GATES_MAX
            && self.shards >= 1
            && self.shards <= FLOOR_SHARDS_MAX
            && self.capacity_log2 >= crate::position::RING_CAPACITY_MIN.trailing_zeros()
            && self.capacity_log2 <= crate::position::RING_CAPACITY_MAX.trailing_zeros()
            && self.poll_slots.is_power_of_two()
            && self.poll_slots <= POLL_SLOTS_MAX
    }
}

/// What `tourbillon_offload` gets: one pointer to this.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct OffloadArguments {
    /// Device address of [`OFFLOAD_WORDS`] words to read.
    pub input_at: u64,
    /// Device address of [`OFFLOAD_WORDS`] words to write: each that was read plus `addend`.
    pub output_at: u64,
    /// What is added to each word, wrapping.
    pub addend: u32,
    /// Zero.
    pub reserved: [u32; 3],
}

/// Chunks between the two of a bare hop: lines that never meet.
pub const HOP_CHUNKS_APART: usize = 64;

/// What `tourbillon_floor_hop` gets: one pointer to this. Launched with two blocks of one warp.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct HopArguments {
    /// Device address of two chunks, zero, [`HOP_CHUNKS_APART`] apart.
    pub chunks_at: u64,
    /// Device address of a u64: the nanoseconds of all rounds, written when they are done.
    pub took_at: u64,
    /// Nanoseconds after which the kernel gives up.
    pub time_ns: u64,
    /// Rounds of two hops, at least 1.
    pub rounds: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<HopArguments>() == 32);
    assert!(size_of::<FloorArguments>() == 64 && offset_of!(FloorArguments, lanes) == 32);
    assert!(size_of::<FloorStop>() == 128 && size_of::<OffloadArguments>() == 32);
    assert!(SHARD_WORD < ECHOED_WORDS);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_out_of_bounds_are_seen() {
        let good = FloorArguments {
            lanes: 1,
            gates: 2,
            shards: 3,
            capacity_log2: 10,
            poll_slots: 2,
            ..FloorArguments::default()
        };
        assert!(good.is_valid());
        assert_eq!(good.inbox_bytes(), 6 * 1024 * 64);
        for bad in [
            FloorArguments { lanes: 0, ..good },
            FloorArguments { gates: FLOOR_GATES_MAX + 1, ..good },
            FloorArguments { shards: FLOOR_SHARDS_MAX + 1, ..good },
            FloorArguments { capacity_log2: 3, ..good },
            FloorArguments { poll_slots: 3, ..good },
            FloorArguments { poll_slots: 8, ..good },
        ] {
            assert!(!bad.is_valid(), "{bad:?}");
        }
    }
}
