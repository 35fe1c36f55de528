//! A client's lane: one block of shared memory with a request ring and a reply ring of equal capacity.
//!
//! # Protocol
//! The client writes a request frame at its `published` position and moves on by the frame's span. A gate of the ring
//! kernel takes frames in order. Whichever shard runs a frame writes the reply over the same positions of the
//! reply ring, under the same laps. Having read a reply, the client may reuse those positions; it publishes no further
//! than one capacity ahead of its oldest unread reply (`freed`). So a reply always has room, and a client that stops
//! reading stops nobody but itself.
//!
//! # Layout
//! | bytes | owner | content |
//! | --- | --- | --- |
//! | 0 .. 128 | creator, constant | [`LaneConstants`] |
//! | 128 .. 256 | client | [`LaneClient`] |
//! | 256 .. 384 | client | [`LaneOutbox`] |
//! | 384 .. 512 | device | [`LaneNotices`] |
//! | 512 .. 4096 | nobody | reserved: a second priority, a completion ring |
//! | `request_offset` .. | client | request ring, 64 bytes a slot |
//! | `reply_offset` .. | device | reply ring, 64 bytes a slot |
//! | `arena_offset` .. | client | request arena, `arena_bytes` bytes ([`crate::arena`]) |
//! | `arena_offset + arena_bytes` .. | device | reply arena, as long |
//! | `outbox_offset` .. | device | outbox ring, 64 bytes a slot ([`crate::outbox`]) |

use bytemuck::{Pod, Zeroable};

use crate::arena::is_arena_length;
use crate::outbox::{LaneNotices, LaneOutbox, is_outbox_log2, outbox_bytes};
use crate::position::RingShape;
use crate::slot::SLOT_BYTES;

/// First word of a lane: "TBLANE01" in ASCII.
pub const LANE_MAGIC: u64 = u64::from_le_bytes(*b"TBLANE01");
/// Version of the layout.
pub const LANE_VERSION: u32 = 3;
/// Most lanes of one engine: one bit each in the control word.
pub const LANES_MAX: u32 = 64;
/// Bytes in front of the rings.
pub const LANE_HEADER_BYTES: usize = 4096;
/// What one side reads often never shares 128 bytes with what the other side writes often.
pub const LINE_BYTES: usize = 128;

/// Written once by the creator, before anybody else sees the lane.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct LaneConstants {
    /// [`LANE_MAGIC`].
    pub magic: u64,
    /// [`crate::abi::HASH`] of the creator.
    pub abi_hash: u64,
    /// [`LANE_VERSION`].
    pub version: u32,
    /// Binary logarithm of both rings' capacity.
    pub capacity_log2: u32,
    /// Bytes of the whole lane.
    pub total_bytes: u64,
    /// Byte offset of the request ring.
    pub request_offset: u64,
    /// Byte offset of the reply ring.
    pub reply_offset: u64,
    /// Position at which the lane began; 0 but in tests of the laps' wrap.
    pub first_position: u64,
    /// Number of the lane in its engine.
    pub lane: u32,
    /// Bytes of the request arena and of the reply arena each; 0 without them.
    pub arena_bytes: u32,
    /// Byte offset of the request arena.
    pub arena_offset: u64,
    /// Byte offset of the outbox ring.
    pub outbox_offset: u64,
    /// Binary logarithm of the outbox ring's capacity; 0 without an outbox.
    pub outbox_log2: u32,
    /// Zero.
    pub reserved: [u32; 11],
}

/// Written by the client alone.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct LaneClient {
    /// Position after the last published request. For the next holder of the lane and for onlookers; the device never
    /// reads it.
    pub published: u64,
    /// Position of the oldest unread reply.
    pub freed: u64,
    /// Process id of the holder, 0 when the lane is free.
    pub process: u32,
    /// Zero.
    pub reserved: [u32; 27],
}

/// The whole head of a lane.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct LaneHeader {
    /// Bytes 0 to 127.
    pub constants: LaneConstants,
    /// Bytes 128 to 255.
    pub client: LaneClient,
    /// Bytes 256 to 383.
    pub outbox: LaneOutbox,
    /// Bytes 384 to 511.
    pub notices: LaneNotices,
}

impl LaneConstants {
    /// The constants of lane `lane` with rings of `shape` that begin at `first_position`, arenas of `arena_bytes` bytes, which is
    /// a length that arenas may have, and an outbox whose capacity has the binary logarithm `outbox_log2`, 0 for none.
    pub const fn new(lane: u32, shape: RingShape, first_position: u64, arena_bytes: u32, outbox_log2: u32) -> Self {
        let ring_bytes = shape.capacity() as u64 * SLOT_BYTES as u64;
        let arena_offset = LANE_HEADER_BYTES as u64 + 2 * ring_bytes;
        let outbox_offset = arena_offset + 2 * arena_bytes as u64;
        Self {
            magic: LANE_MAGIC,
            abi_hash: crate::abi::HASH,
            version: LANE_VERSION,
            capacity_log2: shape.capacity_log2(),
            total_bytes: outbox_offset + outbox_bytes(outbox_log2),
            request_offset: LANE_HEADER_BYTES as u64,
            reply_offset: LANE_HEADER_BYTES as u64 + ring_bytes,
            first_position,
            lane,
            arena_bytes,
            arena_offset,
            outbox_offset,
            outbox_log2,
            reserved: [0; 11],
        }
    }

    /// Shape of the outbox ring, if there is one. The constants were checked.
    pub const fn outbox_shape(&self) -> Option<RingShape> {
        if self.outbox_log2 == 0 { None } else { Some(RingShape::from_log2(self.outbox_log2)) }
    }

    /// Position at which the outbox ring begins: in the same lap as the others.
    pub fn first_outbox_position(&self) -> u64 {
        let lap = RingShape::from_log2(self.capacity_log2).lap(self.first_position);
        self.outbox_shape().map_or(0, |shape| shape.position_of_lap(lap))
    }

    /// Checks constants that come from somebody else, for a mapping of `mapped_bytes` bytes.
    ///
    /// # Errors
    /// [`LaneError`] names the first thing that does not fit.
    pub fn check(&self, mapped_bytes: u64) -> Result<RingShape, LaneError> {
        if self.magic != LANE_MAGIC {
            return Err(LaneError::NoLane { magic: self.magic });
        }
        if self.version != LANE_VERSION {
            return Err(LaneError::OtherVersion { version: self.version });
        }
        if self.abi_hash != crate::abi::HASH {
            return Err(LaneError::OtherAbi { hash: self.abi_hash });
        }
        let capacity = 1u32.checked_shl(self.capacity_log2).unwrap_or(0);
        let shape = RingShape::new(capacity).map_err(|_| LaneError::BadLayout)?;
        if !is_arena_length(self.arena_bytes) || !is_outbox_log2(self.outbox_log2) {
            return Err(LaneError::BadLayout);
        }
        let expected = Self::new(self.lane, shape, self.first_position, self.arena_bytes, self.outbox_log2);
        if *self != expected || self.total_bytes > mapped_bytes {
            return Err(LaneError::BadLayout);
        }
        Ok(shape)
    }
}

/// Why memory was not accepted as a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneError {
    /// The memory does not begin like a lane.
    NoLane {
        /// The word found in place of [`LANE_MAGIC`].
        magic: u64,
    },
    /// A lane of another version of the layout.
    OtherVersion {
        /// The version found.
        version: u32,
    },
    /// A lane made by a program with another binary interface.
    OtherAbi {
        /// The hash found.
        hash: u64,
    },
    /// Offsets, capacity or length contradict each other or the mapping.
    BadLayout,
}

impl core::fmt::Display for LaneError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoLane { magic } => write!(f, "not a Tourbillon lane (first word {magic:#018x})"),
            Self::OtherVersion { version } => write!(
                f,
                "lane layout version {version}, this program speaks {LANE_VERSION}; use the same release on both sides"
            ),
            Self::OtherAbi { hash } => write!(
                f,
                "lane of another binary interface ({hash:#018x}, this program has {:#018x}); build both sides from one release",
                crate::abi::HASH
            ),
            Self::BadLayout => f.write_str("the lane's offsets, capacity and length contradict each other"),
        }
    }
}

impl core::error::Error for LaneError {}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<LaneConstants>() == LINE_BYTES && align_of::<LaneConstants>() == LINE_BYTES);
    assert!(size_of::<LaneClient>() == LINE_BYTES);
    assert!(size_of::<LaneHeader>() <= LANE_HEADER_BYTES);
    assert!(offset_of!(LaneHeader, client) == LINE_BYTES);
    assert!(offset_of!(LaneConstants, abi_hash) == 8);
    assert!(offset_of!(LaneConstants, version) == 16);
    assert!(offset_of!(LaneConstants, capacity_log2) == 20);
    assert!(offset_of!(LaneConstants, total_bytes) == 24);
    assert!(offset_of!(LaneConstants, request_offset) == 32);
    assert!(offset_of!(LaneConstants, reply_offset) == 40);
    assert!(offset_of!(LaneConstants, first_position) == 48);
    assert!(offset_of!(LaneConstants, lane) == 56);
    assert!(offset_of!(LaneConstants, arena_bytes) == 60);
    assert!(offset_of!(LaneConstants, arena_offset) == 64);
    assert!(offset_of!(LaneConstants, outbox_offset) == 72);
    assert!(offset_of!(LaneConstants, outbox_log2) == 80);
    assert!(offset_of!(LaneHeader, outbox) == 2 * LINE_BYTES && offset_of!(LaneHeader, notices) == 3 * LINE_BYTES);
    // Arenas are aligned like their blocks.
    assert!(
        (LANE_HEADER_BYTES + 2 * SLOT_BYTES * crate::position::RING_CAPACITY_MIN as usize).is_multiple_of(LINE_BYTES)
    );
    assert!(offset_of!(LaneClient, freed) == 8);
    assert!(offset_of!(LaneClient, process) == 16);
};

#[cfg(test)]
mod tests {
    use super::*;

    fn lane() -> LaneConstants {
        LaneConstants::new(3, RingShape::new(64).unwrap(), 0, 1 << 16, 5)
    }

    #[test]
    fn a_lane_of_this_program_is_accepted() {
        let constants = lane();
        assert_eq!(constants.arena_offset, 4096 + 2 * 64 * 64);
        assert_eq!(constants.outbox_offset, constants.arena_offset + (2 << 16));
        assert_eq!(constants.total_bytes, constants.outbox_offset + (64 << 5));
        assert_eq!(constants.check(constants.total_bytes).unwrap().capacity(), 64);
    }

    #[test]
    fn foreign_lanes_are_refused() {
        let bytes = lane().total_bytes;
        let zero = LaneConstants { magic: 0, ..lane() };
        assert_eq!(zero.check(bytes), Err(LaneError::NoLane { magic: 0 }));
        let older = LaneConstants { version: 0, ..lane() };
        assert_eq!(older.check(bytes), Err(LaneError::OtherVersion { version: 0 }));
        let other = LaneConstants { abi_hash: 1, ..lane() };
        assert_eq!(other.check(bytes), Err(LaneError::OtherAbi { hash: 1 }));
        for bad in [
            LaneConstants { capacity_log2: 40, ..lane() },
            LaneConstants { capacity_log2: 3, ..lane() },
            LaneConstants { request_offset: u64::MAX, ..lane() },
            LaneConstants { reply_offset: 4096, ..lane() },
            LaneConstants { total_bytes: 1, ..lane() },
            LaneConstants { arena_offset: 4096, ..lane() },
            LaneConstants { arena_bytes: u32::MAX, ..lane() },
            LaneConstants { outbox_log2: 4, ..lane() },
            LaneConstants { outbox_log2: u32::MAX, ..lane() },
            LaneConstants { outbox_log2: 0, ..lane() },
            LaneConstants { outbox_offset: 4096, ..lane() },
            LaneConstants { arena_bytes: 100, total_bytes: lane().arena_offset + 200, ..lane() },
        ] {
            assert_eq!(bad.check(bytes), Err(LaneError::BadLayout));
        }
        assert_eq!(lane().check(bytes - 1), Err(LaneError::BadLayout));
    }
}
