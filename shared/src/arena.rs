//! The arena of a lane: payloads that are larger than a frame.
//!
//! # Protocol
//! Behind its rings a lane has two ranges of equal length: the *request arena*, which the client writes, and the *reply
//! arena*, which the device writes. A *block* is a range of both, at the same offset: replies mirror requests here too, so a
//! reply needs no allocation, and every word has one writer. A frame with [`Flags::ARENA`](crate::header::Flags::ARENA) carries an
//! [`ArenaRef`] as its last extension.
//!
//! 1. The client writes the payload behind the block's head, then the head ([`ArenaRef::head`]), a chunk whose tag is the
//!    block's ticket, with Release; then the frame.
//! 2. The device checks that the reference is inside the arena, loads the head until it is the one that the reference
//!    asks for, fences (acquire and release, system scope), and copies the payload to device memory, where it is used.
//! 3. It writes the reply's payload to the same place of the reply arena, fences, and stores the reply's frame, which
//!    carries a reference of its own.
//! 4. The client reads the reply's frame with Acquire, then its payload. Only then may the block be used again.
//!
//! The ticket tells blocks apart that stood in the same place: a reference whose block was given to another payload finds
//! another head.

use crate::slot::Chunk;

/// The largest payload, of a request as of a reply: 1 MiB.
pub const LARGE_BYTES_MAX: usize = 1 << 20;
/// Blocks begin and end at multiples of this: one line, so that two blocks never share one.
pub const ARENA_GRANULE: u32 = 128;
/// In front of the payload: one line, so that the payload is aligned like one.
pub const ARENA_HEAD_BYTES: u32 = 128;
/// The longest arena of one direction: references have 32 bits, and every length stays far from their end.
pub const ARENA_BYTES_MAX: u32 = 1 << 30;
/// Words of a reference.
pub const ARENA_REF_WORDS: u32 = 4;

/// Where a payload is: an extension of four words.
///
/// | word | in a request | in a reply |
/// | --- | --- | --- |
/// | 0 | offset of the block in both arenas | the same |
/// | 1 | bytes of the payload | bytes of the reply's payload |
/// | 2 | bytes that are reserved for the reply's | undefined |
/// | 3 | the block's ticket, not 0 | the same |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArenaRef {
    /// Byte offset of the block, a multiple of [`ARENA_GRANULE`].
    pub offset: u32,
    /// Bytes of the payload, at most [`LARGE_BYTES_MAX`].
    pub length: u32,
    /// Bytes for the reply's payload, at most [`LARGE_BYTES_MAX`].
    pub room: u32,
    /// Number of the block among those of its lane; never 0.
    pub ticket: u32,
}

impl ArenaRef {
    /// The reference's words.
    #[inline(always)]
    pub const fn encode(&self) -> [u32; ARENA_REF_WORDS as usize] {
        [self.offset, self.length, self.room, self.ticket]
    }

    /// The reference of these words. Any words make one; [`is_inside`](Self::is_inside) tells whether to follow it.
    #[inline(always)]
    pub const fn decode(words: &[u32; ARENA_REF_WORDS as usize]) -> Self {
        let [offset, length, room, ticket] = *words;
        Self { offset, length, room, ticket }
    }

    /// The chunk at the block's beginning in the request arena.
    #[inline(always)]
    pub const fn head(&self) -> Chunk {
        Chunk::new([self.offset, self.length, self.room], self.ticket)
    }

    /// Whether the block lies inside arenas of `arena_bytes` bytes and keeps every bound; holds for no reference when there is
    /// no arena.
    #[inline(always)]
    pub const fn is_inside(&self, arena_bytes: u32) -> bool {
        let longer = if self.length > self.room { self.length } else { self.room };
        // In 64 bits, where the sum of three 32-bit numbers cannot overflow.
        let end = (self.offset as u64).wrapping_add(ARENA_HEAD_BYTES as u64).wrapping_add(longer as u64);
        self.ticket != 0
            && self.offset & (ARENA_GRANULE - 1) == 0
            && longer as usize <= LARGE_BYTES_MAX
            && end <= arena_bytes as u64
    }
}

/// Bytes of a block for payloads of `length` and `room` bytes, neither above [`LARGE_BYTES_MAX`].
pub const fn block_bytes(length: u32, room: u32) -> u32 {
    let longer = if length > room { length } else { room };
    (ARENA_HEAD_BYTES + longer).next_multiple_of(ARENA_GRANULE)
}

/// Largest payload for which an arena of `arena_bytes` bytes has room: 0 without an arena.
pub const fn payload_bytes_max(arena_bytes: u32) -> u32 {
    let most = arena_bytes.saturating_sub(ARENA_HEAD_BYTES);
    if most as usize > LARGE_BYTES_MAX { LARGE_BYTES_MAX as u32 } else { most }
}

/// Whether arenas may be of this length.
pub const fn is_arena_length(bytes: u32) -> bool {
    bytes <= ARENA_BYTES_MAX && bytes.is_multiple_of(ARENA_GRANULE)
}

const _: () = {
    assert!(ARENA_GRANULE.is_power_of_two() && ARENA_HEAD_BYTES.is_multiple_of(ARENA_GRANULE));
    assert!(size_of::<ArenaRef>() == ARENA_REF_WORDS as usize * 4);
    assert!(core::mem::offset_of!(ArenaRef, length) == 4 && core::mem::offset_of!(ArenaRef, ticket) == 12);
    assert!(size_of::<Chunk>() <= ARENA_HEAD_BYTES as usize);
    assert!(is_arena_length(ARENA_BYTES_MAX) && LARGE_BYTES_MAX < ARENA_BYTES_MAX as usize);
    assert!(block_bytes(0, 0) == 128 && block_bytes(1, 129) == 384);
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Small figures as well as any, so that both sides of every bound are met.
    fn figure() -> impl Strategy<Value = u32> {
        prop_oneof![any::<u32>(), 0u32..4096, Just(u32::MAX), (1u32 << 20) - 2..(1 << 20) + 2, Just(1 << 30)]
    }

    proptest! {
        #[test]
        fn references_round_trip(words: [u32; 4]) {
            prop_assert_eq!(ArenaRef::decode(&words).encode(), words);
        }

        /// Against sums that cannot overflow.
        #[test]
        fn what_is_inside_is_inside(
            (offset, length, room, ticket) in (figure(), figure(), figure(), 0u32..3),
            arena in figure(),
            is_aligned: bool,
        ) {
            let offset = if is_aligned { offset / ARENA_GRANULE * ARENA_GRANULE } else { offset };
            let reference = ArenaRef { offset, length, room, ticket };
            let end = u128::from(offset) + 128 + u128::from(length.max(room));
            let expected = ticket != 0
                && offset % 128 == 0
                && length <= 1 << 20
                && room <= 1 << 20
                && end <= u128::from(arena);
            prop_assert_eq!(reference.is_inside(arena), expected);
        }

        #[test]
        fn blocks_hold_both_payloads(length in 0u32..=1 << 20, room in 0u32..=1 << 20) {
            let bytes = block_bytes(length, room);
            prop_assert!(bytes.is_multiple_of(ARENA_GRANULE) && bytes >= 128 + length.max(room));
            prop_assert!(bytes < 256 + length.max(room));
            let reference = ArenaRef { offset: 0, length, room, ticket: 1 };
            prop_assert!(reference.is_inside(bytes));
            prop_assert!(length.max(room) <= payload_bytes_max(bytes));
        }
    }

    #[test]
    fn without_an_arena_nothing_is_inside() {
        let smallest = ArenaRef { offset: 0, length: 0, room: 0, ticket: 1 };
        assert!(!smallest.is_inside(0) && smallest.is_inside(128));
        assert_eq!((payload_bytes_max(0), payload_bytes_max(128), payload_bytes_max(u32::MAX)), (0, 0, 1 << 20));
        assert!(!is_arena_length(1) && is_arena_length(0) && !is_arena_length((1 << 30) + 128));
    }
}
