//! The slot: 64 bytes that prove themselves.
//!
//! A slot is four chunks of 16 bytes. A chunk holds 12 bytes of data and a 4-byte tag, the *lap* that the reader
//! expects ([`crate::position`]). A reader that finds the expected tag in a chunk has all of that chunk, because a
//! chunk crosses the bus as one single-copy-atomic access (device side) or with its tag written last (host side).
//! So one bus round trip both finds a message and reads it; no flag is read before a payload.

use bytemuck::{Pod, Zeroable};

/// Bytes of a slot: one PCIe-friendly half of a 128-byte line.
pub const SLOT_BYTES: usize = 64;
/// Chunks of a slot.
pub const CHUNKS_PER_SLOT: usize = 4;
/// Data words (u32) of a chunk; the fourth word is the tag.
pub const DATA_WORDS_PER_CHUNK: usize = 3;
/// Data words (u32) of a slot.
pub const DATA_WORDS_PER_SLOT: usize = CHUNKS_PER_SLOT * DATA_WORDS_PER_CHUNK;
/// Index of the tag among the words of a chunk.
pub const TAG_WORD: usize = 3;

/// Sixteen bytes that are read and written as one.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Chunk {
    /// Three data words, then the tag.
    pub words: [u32; 4],
}

impl Chunk {
    /// A chunk of three data words under `tag`.
    #[inline(always)]
    pub const fn new(data: [u32; DATA_WORDS_PER_CHUNK], tag: u32) -> Self {
        Self { words: [data[0], data[1], data[2], tag] }
    }

    /// The tag.
    #[inline(always)]
    pub const fn tag(&self) -> u32 {
        self.words[TAG_WORD]
    }

    /// The two 64-bit halves, low words first.
    #[inline(always)]
    pub const fn to_halves(self) -> (u64, u64) {
        let w = self.words;
        (w[0] as u64 | (w[1] as u64) << 32, w[2] as u64 | (w[3] as u64) << 32)
    }

    /// The chunk of two 64-bit halves, low words first.
    #[inline(always)]
    pub const fn from_halves(low: u64, high: u64) -> Self {
        Self { words: [low as u32, (low >> 32) as u32, high as u32, (high >> 32) as u32] }
    }
}

/// One slot of a ring.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Slot {
    /// The chunks, in order of their data.
    pub chunks: [Chunk; CHUNKS_PER_SLOT],
}

const _: () = {
    assert!(size_of::<Chunk>() == 16 && align_of::<Chunk>() == 16);
    assert!(size_of::<Slot>() == SLOT_BYTES && align_of::<Slot>() == SLOT_BYTES);
    assert!(DATA_WORDS_PER_SLOT == 12);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_trip() {
        let chunk = Chunk { words: [1, 2, 3, u32::MAX] };
        let (low, high) = chunk.to_halves();
        assert_eq!(low, 0x2_0000_0001);
        assert_eq!(Chunk::from_halves(low, high), chunk);
    }
}
