//! Slots over any memory.
//!
//! # Protocol
//! One writer a slot. The writer stores the four chunks of a slot, each under the lap of the slot's position, in any
//! order. The reader loads the four chunks and has the slot when all four tags equal the lap that it expects; else
//! it has nothing and looks again. A frame of several slots is complete when every slot of its span is.
//!
//! There is no other word: no index is published beside the slots. What keeps a writer from overwriting a slot that the
//! reader has not read is a *credit* that comes back another way: in a lane the reply that stands at the same index, between gate and
//! shard a position that the reader publishes with Release and the writer reads with Acquire.
//!
//! The memory is a [`Cells`]: raw memory, loom's atomics, or a seeded store buffer that delivers chunks late and in any
//! order.

use crate::position::RingShape;
use crate::slot::{CHUNKS_PER_SLOT, Chunk, DATA_WORDS_PER_CHUNK, DATA_WORDS_PER_SLOT};

/// Memory that holds the chunks of a ring.
///
/// An implementation must be *chunk-atomic*: a `load` that returns the tag of some `store` returns the data words of that
/// same `store`.
pub trait Cells {
    /// Loads chunk `chunk` (0 to 3) of the slot at `index`.
    fn load(&self, index: u32, chunk: u32) -> Chunk;
    /// Stores chunk `chunk` (0 to 3) of the slot at `index`.
    fn store(&self, index: u32, chunk: u32, value: Chunk);
}

/// Writes the slot at `position`.
#[inline]
pub fn write_slot<C: Cells + ?Sized>(cells: &C, shape: RingShape, position: u64, data: &[u32; DATA_WORDS_PER_SLOT]) {
    let (index, lap) = (shape.index(position), shape.lap(position));
    let mut chunk = 0;
    while chunk < CHUNKS_PER_SLOT {
        let first = chunk * DATA_WORDS_PER_CHUNK;
        cells.store(index, chunk as u32, Chunk::new([data[first], data[first + 1], data[first + 2]], lap));
        chunk += 1;
    }
}

/// Reads the slot at `position`, or nothing when it has not all come.
#[inline]
pub fn read_slot<C: Cells + ?Sized>(cells: &C, shape: RingShape, position: u64) -> Option<[u32; DATA_WORDS_PER_SLOT]> {
    let (index, lap) = (shape.index(position), shape.lap(position));
    let mut data = [0; DATA_WORDS_PER_SLOT];
    let mut chunk = 0;
    while chunk < CHUNKS_PER_SLOT {
        let value = cells.load(index, chunk as u32);
        if value.tag() != lap && !(crate::mutant!("tag_of_first_chunk_only") && chunk > 0) {
            return None;
        }
        let first = chunk * DATA_WORDS_PER_CHUNK;
        data[first] = value.words[0];
        data[first + 1] = value.words[1];
        data[first + 2] = value.words[2];
        chunk += 1;
    }
    Some(data)
}

/// Whether `span` more slots fit in front of `tail` when everything before `freed` may be overwritten.
#[inline(always)]
pub fn has_room(shape: RingShape, tail: u64, freed: u64, span: u32) -> bool {
    if crate::mutant!("skipped_credit") {
        return true;
    }
    // No more than a capacity apart, so the lower halves tell.
    (tail as u32).wrapping_add(span).wrapping_sub(freed as u32) <= shape.capacity()
}
