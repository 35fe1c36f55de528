//! Published blocks: data in the pool of a shard that actors of all shards may read, and that never changes.
//!
//! A block is a *head* page and up to [`BLOCK_PAGES_MAX`] pages of data; what is small lies in the head. Whoever publishes one gets a
//! reference: the shard, the head's page, the length, and the *version*, which follows from the timestamp of the message that
//! published it, and so is never that of another block in the same page.
//!
//! # Protocol
//! 1. A message writes a block into pages that it has just taken, and that nobody else knows.
//! 2. When its handler has succeeded, the version is stored into the *version word* of the head's page, with Release at device scope.
//! 3. A reader loads the version word with Acquire. Only when it is that of the reference, the page is looked at: so whatever words a
//!    reference has, nothing is read but what was published, all of it.
//! 4. A block that is replaced or taken back is marked in the version word when the message has succeeded, and waits in the *limbo* of
//!    its shard, a queue, with the [epoch](crate::epoch) of that moment. Its pages are free two epochs later.
//!
//! The pages of a block have a holder that no actor is ([`BLOCK_HOLDER`]), so no collection's handle leads to them.

use bytemuck::{Pod, Zeroable};

use crate::pool::PAGE_BYTES;

/// Bytes of a [`BlockHead`]: behind it in the head's page are the elements, or the numbers of the pages that hold them, a u32 each.
pub const BLOCK_HEAD_BYTES: usize = 32;
/// Most pages of data of a block: as many numbers as the head's page has room for, so that each element is found in two loads.
pub const BLOCK_PAGES_MAX: u32 = ((PAGE_BYTES - BLOCK_HEAD_BYTES) / size_of::<u32>()) as u32;
/// Most bytes of a block, where pages can be filled up: one lane writes them all, 16 at a time, in some ten microseconds.
pub const BLOCK_BYTES_MAX: u32 = BLOCK_PAGES_MAX * PAGE_BYTES as u32;
/// Set in the holder of a page ([`PageNote`](crate::pool::PageNote)) that is one of a block.
pub const BLOCK_HOLDER: u64 = 1 << 37;
/// How often a reader looks at the version word, when it finds one that is older than that of the reference: what the publisher stored
/// is in device memory before the reference leaves it, so the first look finds it, and the others are for what nobody has measured.
pub const VERSION_LOOKS_MAX: u32 = 8;

/// At the beginning of the first page of a block.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockHead {
    /// The hash of the layout of its elements.
    pub layout: u64,
    /// Elements.
    pub length: u32,
    /// Bytes of one.
    pub size: u32,
    /// Pages of data; 0 when the elements follow the head.
    pub pages: u32,
    /// While its message runs: the head of the block that the same message has published before.
    pub link: u32,
    /// Zero.
    pub reserved: [u32; 2],
}

/// What a shard keeps of its blocks, in front of a version word, a u64, for each page of its pool; read and written under the shard's
/// turn, but for the version words.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct ShardBlocks {
    /// Head of the block that waits longest in the limbo; 0 when none does. The next ones follow in their notes.
    pub first: u32,
    /// Head of the block that came last.
    pub last: u32,
    /// Blocks that wait.
    pub blocks: u32,
    /// Their pages.
    pub pages: u32,
    /// Zero.
    pub reserved: [u32; 28],
}

/// Bytes that a shard needs for its blocks whose pool has so many pages; 0 without pages.
#[inline(always)]
pub const fn published_bytes(pages: u32) -> u64 {
    if pages == 0 {
        return 0;
    }
    let bytes = (size_of::<ShardBlocks>() as u64).wrapping_add((pages as u64).wrapping_mul(8));
    bytes.wrapping_add(127) & !127
}

/// How elements of a size lie in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockShape {
    /// Bytes of an element, 1 to [`PAGE_BYTES`].
    pub size: u32,
    /// Elements of a page.
    pub per_page: u32,
    /// Most elements that follow the head.
    pub in_head: u32,
}

impl BlockShape {
    /// That of elements of `size` bytes, which is 1 to [`PAGE_BYTES`].
    pub const fn of(size: usize) -> Self {
        assert!(size != 0 && size <= PAGE_BYTES, "an element has 1 to 256 bytes");
        Self {
            size: size as u32,
            per_page: (PAGE_BYTES / size) as u32,
            in_head: ((PAGE_BYTES - BLOCK_HEAD_BYTES) / size) as u32,
        }
    }

    /// Most elements of a block.
    #[inline(always)]
    pub const fn most(self) -> u32 {
        self.per_page.wrapping_mul(BLOCK_PAGES_MAX)
    }

    /// Pages of data of a block of `length` elements, 0 when they fit beside the head; nothing when they are too many.
    #[inline(always)]
    pub const fn pages(self, length: u32) -> Option<u32> {
        if length > self.most() {
            return None;
        }
        if length <= self.in_head {
            return Some(0);
        }
        let rounded = length.wrapping_add(self.per_page.wrapping_sub(1));
        // `per_page` is never 0; a division that can panic would be one more path in the kernel.
        rounded.checked_div(self.per_page)
    }
}

/// The version of a block that the message with this timestamp published: even, and not 0.
#[inline(always)]
pub const fn version_of(stamp: u64) -> u64 {
    stamp.wrapping_shl(1)
}

/// What is stored in place of a version when its block is taken back.
#[inline(always)]
pub const fn taken_back(version: u64) -> u64 {
    version | 1
}

/// What a version word says of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// That block is there.
    There,
    /// It was replaced or taken back, if it was ever there.
    Gone,
    /// It was never there, or is not seen yet.
    Never,
}

/// What the version word `word` says of `version`. Versions of one page only grow.
#[inline(always)]
pub const fn standing(word: u64, version: u64) -> Standing {
    if version == 0 || version & 1 != 0 {
        Standing::Never
    } else if word == version {
        Standing::There
    } else if word > version {
        Standing::Gone
    } else {
        Standing::Never
    }
}

const _: () = {
    use crate::geometry::ACTORS_PER_SHARD_MAX;
    use crate::pool::holder_of;
    assert!(size_of::<BlockHead>() == BLOCK_HEAD_BYTES && size_of::<ShardBlocks>() == 128);
    assert!(BLOCK_PAGES_MAX == 56 && BLOCK_BYTES_MAX == 14336);
    // No actor's number has the bit, and with it the number still fits beside that of a page.
    assert!(holder_of((ACTORS_PER_SHARD_MAX as u64) << 16) < BLOCK_HOLDER && BLOCK_HOLDER < 1 << 38);
    // Elements behind the head are aligned as those of a page.
    assert!(BLOCK_HEAD_BYTES.is_multiple_of(16));
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_has_its_pages() {
        let words = BlockShape::of(8);
        assert_eq!((words.most(), words.in_head), (1792, 28));
        let pages = [0, 28, 29, 32, 33, 1792, 1793, u32::MAX].map(|length| words.pages(length));
        assert_eq!(pages, [Some(0), Some(0), Some(1), Some(1), Some(2), Some(56), None, None]);
        let large = BlockShape::of(256);
        assert_eq!([0, 1, 56, 57].map(|length| large.pages(length)), [Some(0), Some(1), Some(56), None]);
        assert_eq!(BlockShape::of(1).most(), BLOCK_BYTES_MAX);
        // Elements of 129 bytes are alone in their pages.
        assert_eq!((BlockShape::of(129).most(), BlockShape::of(129).pages(2)), (56, Some(2)));
    }

    #[test]
    fn a_version_word_knows_all_that_came_before() {
        let [old, new] = [version_of(5), version_of(6)];
        assert_eq!(standing(0, old), Standing::Never);
        assert_eq!(standing(old, old), Standing::There);
        assert_eq!(standing(taken_back(old), old), Standing::Gone);
        assert_eq!(standing(new, old), Standing::Gone);
        assert_eq!(standing(taken_back(old), new), Standing::Never);
        for word in [0, old, taken_back(old), u64::MAX] {
            assert_eq!(standing(word, 0), Standing::Never);
            assert_eq!(standing(word, taken_back(old)), Standing::Never);
        }
    }

    #[test]
    fn a_shard_has_a_word_for_each_page() {
        assert_eq!(published_bytes(0), 0);
        for pages in [1, 16, 17, 948] {
            let bytes = published_bytes(pages);
            assert!(
                bytes >= 128 + 8 * u64::from(pages) && bytes.is_multiple_of(128) && bytes < 256 + 8 * u64::from(pages)
            );
        }
    }
}
