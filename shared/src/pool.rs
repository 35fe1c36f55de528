//! Pools: memory of a shard in pages, for collections in actors' states that grow.
//!
//! A state is plain data of a fixed size. What grows lies outside of it, in pages of its shard's pool, and the state holds a handle.
//! All pages have one size: so any free page serves any collection, nothing fragments, and a pool is exhausted exactly when every
//! page is in use.
//!
//! # Protocol
//! Only the warp that holds the shard's turn touches a pool, but while handlers run its lanes do so at the same time, divergent. So
//! two phases are kept apart:
//!
//! 1. While handlers run, lanes only *take* pages: one subtraction from [`PoolState::free`], behind which the lane owns an entry of
//!    the stack of free pages, or one addition to [`PoolState::begun`]. Neither is ever repeated: taking is wait-free, and no lane
//!    waits for another, which lanes of one warp could do for ever. Nothing is put on the stack meanwhile, so no entry is read
//!    while it is written, and none is taken twice.
//! 2. When they have all come back (Commit), pages are *given*: one addition to `free` for a lane's chain, whose places are then
//!    that lane's alone. Nothing is taken meanwhile.
//!
//! Until then each lane keeps the pages that its messages freed in a chain of its own, from which it takes first.
//!
//! # Undo
//! A message never writes a page that was there before it: it takes a *fresh* one, copies, and *retires* the old one. The state
//! that leads to the fresh pages is stored only when the handler has succeeded, and so nothing has to be restored when it has not:
//! its fresh pages are given back, its retired ones forgotten. Which is which stands in chains in device memory ([`LanePool`], [`PageNote`]),
//! so that other lanes can do it for one that panicked. Failure is the default: what is left in a lane's record when its
//! next message begins, or when the lanes have come back, is undone.

use bytemuck::{Pod, Zeroable};

use crate::mutant;

/// Bytes of a page: large enough that 64 page numbers, or a state-sized element, fit into one; small enough that a lane copies one in
/// sixteen accesses, and that an actor with one element does not waste much.
pub const PAGE_BYTES: usize = 256;
/// Most pages of a shard's pool: the number of one shares a word with its holder, who needs 38 bits.
pub const POOL_PAGES_MAX: u32 = (1 << 26) - 1;
/// Bytes that a pool takes for each page: the page, its note, and its place on the stack of free pages.
pub const POOL_BYTES_A_PAGE: u64 = (PAGE_BYTES + size_of::<PageNote>() + size_of::<u32>()) as u64;
/// Bytes of a pool in front of its first page.
pub const POOL_HEAD_BYTES: u64 = 256;

/// Pages of a pool that takes at most `bytes` bytes; 0 when not even one fits.
pub const fn pool_pages_for(bytes: u64) -> u64 {
    // The whole is rounded up to 256 bytes.
    (bytes & !255).saturating_sub(POOL_HEAD_BYTES) / POOL_BYTES_A_PAGE
}

/// Bytes from one shard's pool of so many pages to the next; 0 without pages.
#[inline(always)]
pub const fn pool_bytes(pages: u32) -> u64 {
    if pages == 0 {
        return 0;
    }
    let bytes = POOL_HEAD_BYTES.wrapping_add((pages as u64).wrapping_mul(POOL_BYTES_A_PAGE));
    bytes.wrapping_add(255) & !255
}

/// At the beginning of a shard's pool. Behind it are the pages, numbered from 1, then a [`PageNote`] for each, then the stack of free
/// pages, a u32 each. All zero is a pool of which nothing was ever taken.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct PoolState {
    /// Pages on the stack; for a moment below zero (in two's complement) while lanes find it empty.
    pub free: u64,
    /// Pages that were ever taken: numbers above it are free too, and not on the stack. For a moment above the number of pages.
    pub begun: u64,
    /// Zero.
    pub reserved: [u64; 14],
}

/// What is known of a page.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PageNote {
    /// The timestamp of the message that took it; its complement once a message has retired it, for as long as that message runs.
    pub stamp: u64,
    /// Upper 38 bits: the actor that holds it, 0 when it is free. Lower 26 bits: the next page of the chain that it is in.
    pub holder: u64,
}

/// What the lane of a warp that runs a handler knows of the pool: in device memory, so that others can undo what a panic left.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct LanePool {
    /// Address of the shard's [`PoolState`].
    pub pool: u64,
    /// Address of the shard's slab.
    pub slab: u64,
    /// Timestamp of the message that runs.
    pub stamp: u64,
    /// The actor that runs, as in [`PageNote::holder`].
    pub holder: u64,
    /// Pages of the pool.
    pub pages: u32,
    /// First of the chain of pages that the message took; 0 for none.
    pub fresh: u32,
    /// First of the chain of pages that the message replaced or freed.
    pub retired: u32,
    /// How many fresh pages the message has freed again.
    pub dropped: u32,
    /// First of the chain of pages that the lane may take, and gives back at the end.
    pub spare: u32,
    /// Its length.
    pub spares: u32,
    /// Pages taken from the pool since the lane's record was opened.
    pub taken: u64,
    /// Address of shard 0's [`PoolState`]; those of the others follow.
    pub pools: u64,
    /// Address of shard 0's [`ShardBlocks`](crate::published::ShardBlocks); those of the others follow. 0 where nothing can be published.
    pub published: u64,
    /// Shards.
    pub shards: u32,
    /// The shard.
    pub shard: u32,
    /// Head of the block that the message has published last; 0 for none.
    pub publishing: u32,
    /// First of the chain of heads of the blocks that the message takes back.
    pub retiring: u32,
    /// First of the chain of heads of the blocks that messages of the batch have taken back.
    pub limbo: u32,
    /// Blocks that messages of the batch have published.
    pub issued: u32,
    /// Blocks that messages of the batch have taken back.
    pub ended: u32,
    /// Zero.
    pub unused: u32,
    /// Zero.
    pub reserved: [u64; 2],
}

impl LanePool {
    /// A record for the pool of `pages` pages at address `pool`, of which only pages, notes and the stack are used: no message runs.
    pub const fn at_rest(pool: u64, pages: u32) -> Self {
        Self {
            pool,
            slab: 0,
            stamp: 0,
            holder: 0,
            pages,
            fresh: 0,
            retired: 0,
            dropped: 0,
            spare: 0,
            spares: 0,
            taken: 0,
            pools: 0,
            published: 0,
            shards: 0,
            shard: 0,
            publishing: 0,
            retiring: 0,
            limbo: 0,
            issued: 0,
            ended: 0,
            unused: 0,
            reserved: [0; 2],
        }
    }
}

/// Bits of a page's number in [`PageNote::holder`].
const PAGE_BITS: u32 = POOL_PAGES_MAX.trailing_ones();

impl PageNote {
    /// The word of a page of `holder` in front of page `next` in its chain.
    #[inline(always)]
    pub const fn held(holder: u64, next: u32) -> u64 {
        holder.wrapping_shl(PAGE_BITS) | next as u64
    }

    /// Who holds the page.
    #[inline(always)]
    pub const fn holder_in(word: u64) -> u64 {
        word >> PAGE_BITS
    }

    /// The next page of the chain.
    #[inline(always)]
    pub const fn next_in(word: u64) -> u32 {
        word as u32 & POOL_PAGES_MAX
    }
}

/// The number by which a pool knows the actor whose entry begins `offset` bytes behind the shard's slab: never 0.
#[inline(always)]
pub const fn holder_of(offset: u64) -> u64 {
    // Entries are multiples of 16 bytes apart.
    (offset >> 4).wrapping_add(1)
}

/// The words of a pool that lanes share: device memory, or that of a model.
pub trait PoolWords {
    /// Loads [`PoolState::free`].
    fn free(&self) -> u64;
    /// Adds to [`PoolState::free`]; the value before.
    fn add_free(&self, pages: u64) -> u64;
    /// Loads [`PoolState::begun`].
    fn begun(&self) -> u64;
    /// Adds to [`PoolState::begun`]; the value before.
    fn add_begun(&self, pages: u64) -> u64;
    /// Reads place `index` of the stack of free pages, which nobody writes meanwhile.
    fn read_place(&self, index: u64) -> u32;
    /// Writes place `index` of the stack of free pages, which nobody else uses meanwhile.
    fn write_place(&self, index: u64, page: u32);
}

/// Takes a page out of a pool of `pages`, from which others take at the same time, and to which nobody gives any: its number, or
/// nothing when there is none, which then stays true until pages are given back.
#[inline(always)]
pub fn take_page(words: &impl PoolWords, pages: u32) -> Option<u32> {
    // What the words say is left can only become less meanwhile, so a lane that sees nothing need not try.
    if words.free() as i64 > 0 {
        let before = words.add_free(u64::MAX);
        if before as i64 > 0 || mutant!("pool_free_unchecked") {
            return Some(words.read_place(before.wrapping_sub(1)));
        }
        // The word was not above zero and is not after this: nobody finds a page for it.
        words.add_free(1);
    }
    if words.begun() < pages as u64 {
        let before = words.add_begun(1);
        if before < pages as u64 || mutant!("pool_begun_unchecked") {
            return Some(before.wrapping_add(1) as u32);
        }
        words.add_begun(u64::MAX);
    }
    None
}

/// Makes room for `pages` pages on the stack, to which others give at the same time, and from which nobody takes: the first place.
#[inline(always)]
pub fn give_pages(words: &impl PoolWords, pages: u64) -> u64 {
    if mutant!("pool_places_shared") {
        let before = words.free();
        words.add_free(pages);
        return before;
    }
    words.add_free(pages)
}

const _: () = {
    use crate::geometry::ACTORS_PER_SHARD_MAX;
    assert!(size_of::<PoolState>() == 128 && size_of::<PageNote>() == 16 && size_of::<LanePool>() == 128);
    assert!(size_of::<PoolState>() as u64 <= POOL_HEAD_BYTES);
    assert!(PAGE_BITS == 26 && PAGE_BYTES.is_power_of_two());
    // The last entry of the largest slab has a number that fits beside a page's.
    assert!(holder_of((ACTORS_PER_SHARD_MAX as u64) << 16) < 1 << (64 - PAGE_BITS));
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_fit_into_what_they_may_take() {
        assert_eq!((pool_bytes(0), pool_pages_for(0), pool_pages_for(531)), (0, 0, 0));
        for bytes in [768, 4096, 1 << 18, (1 << 20) + 17, 1 << 30] {
            let pages = pool_pages_for(bytes);
            assert!(pages > 0 && pool_bytes(pages as u32) <= bytes, "{bytes}");
            assert!(pool_bytes(pages as u32 + 2) > bytes, "{bytes}");
        }
    }

    #[test]
    fn holders_and_chains_share_a_word() {
        let word = PageNote::held((1 << 38) - 1, POOL_PAGES_MAX);
        assert_eq!((PageNote::holder_in(word), PageNote::next_in(word)), ((1 << 38) - 1, POOL_PAGES_MAX));
        let word = PageNote::held(holder_of(0), 0);
        assert_eq!((PageNote::holder_in(word), PageNote::next_in(word)), (1, 0));
        assert_eq!(holder_of(96), 7);
    }
}
