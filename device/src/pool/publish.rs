//! Published blocks, as the message that runs on one lane makes them, takes them back, and finds those of any shard.
//!
//! The protocol is in [`tourbillon_shared::published`]. Nothing here waits, panics or meets other lanes, but for version words, of
//! which each is written under the turn of its shard.

use tourbillon_shared::mutant;
use tourbillon_shared::pool::{PAGE_BYTES, POOL_HEAD_BYTES, PageNote, pool_bytes};
use tourbillon_shared::published::{
    BLOCK_HEAD_BYTES, BLOCK_HOLDER, BlockHead, BlockShape, ShardBlocks, Standing, VERSION_LOOKS_MAX, published_bytes,
    standing, taken_back, version_of,
};

use super::PoolError;
use super::lane::Pool;
use crate::arch::{Arch, Here};

/// Where a block is: the words of a reference, whatever they are.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address {
    /// Lower and upper half of the version, so that a reference is aligned to a word.
    pub version: [u32; 2],
    /// The shard.
    pub shard: u32,
    /// Number of the head's page; 0 for no block.
    pub page: u32,
    /// Elements.
    pub length: u32,
}

impl Address {
    #[inline(always)]
    fn version(&self) -> u64 {
        u64::from(self.version[0]) | u64::from(self.version[1]) << 32
    }
}

/// A block that is there: where its head is, and page 1 of its pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub head: *const BlockHead,
    pub pages: *const u8,
}

impl Found {
    /// Where the elements of chunk `chunk` begin: of those that follow the head there is one chunk, else one for each page.
    ///
    /// # Safety
    /// The block is there, and has that chunk.
    #[inline(always)]
    pub unsafe fn chunk(self, is_in_head: bool, chunk: u32) -> *const u8 {
        let behind = self.head.cast::<u8>().wrapping_add(BLOCK_HEAD_BYTES);
        if is_in_head {
            return behind;
        }
        // SAFETY: behind the head are the numbers of the block's pages, of which the caller vouches for this one.
        let page = unsafe { behind.cast::<u32>().wrapping_add(chunk as usize).read() };
        self.pages.wrapping_add((page.wrapping_sub(1) as usize).wrapping_mul(PAGE_BYTES))
    }
}

/// The version word of page `page` of a shard whose blocks are at `blocks`.
#[inline(always)]
pub(super) fn version_word(blocks: u64, page: u32) -> *mut u64 {
    (blocks as *mut ShardBlocks).wrapping_add(1).cast::<u64>().wrapping_add(page.wrapping_sub(1) as usize)
}

impl Pool {
    /// Begins with what a message does to blocks.
    #[inline(always)]
    pub(crate) fn begin_blocks(self) {
        let record = self.record();
        (record.publishing, record.retiring) = (0, 0);
    }

    /// Who holds the pages of the actor's blocks.
    #[inline(always)]
    fn block_holder(self) -> u64 {
        self.record().holder | BLOCK_HOLDER
    }

    /// The version word of a page of shard `shard`. Both are in range.
    #[inline(always)]
    fn version_word_of(self, shard: u32, page: u32) -> *mut u64 {
        let record = self.record();
        version_word(record.published.wrapping_add(published_bytes(record.pages).wrapping_mul(shard.into())), page)
    }

    #[inline(always)]
    fn head(self, id: u32) -> *mut BlockHead {
        self.own_page(id).cast()
    }

    /// Takes pages for a block of `length` elements, and writes its head: its number. Nobody knows of it before [`issue`](Self::issue).
    #[inline(never)]
    pub(super) fn draft(self, layout: u64, length: u32, shape: BlockShape) -> Result<u32, PoolError> {
        let Some(pages) = shape.pages(length) else { return Err(PoolError::BlockTooLong) };
        self.reserve(pages.wrapping_add(1))?;
        let holder = self.block_holder();
        let (id, address) = self.take_for(holder)?;
        let numbers = address.wrapping_add(BLOCK_HEAD_BYTES).cast::<u32>();
        let mut index = 0;
        while index < pages {
            let (page, _) = self.take_for(holder)?;
            // SAFETY: the head's page is the message's own, and has room for the numbers of as many pages as a block may have.
            unsafe { numbers.wrapping_add(index as usize).write(page) };
            index = index.wrapping_add(1);
        }
        let head = BlockHead { layout, length, size: shape.size, pages, link: 0, reserved: [0; 2] };
        // SAFETY: as above.
        unsafe { address.cast::<BlockHead>().write(head) };
        Ok(id)
    }

    /// Where the block is that the message has drafted.
    #[inline(always)]
    pub(super) fn drafted(self, id: u32) -> Found {
        Found { head: self.head(id).cast_const(), pages: self.own_page(1).cast_const() }
    }

    /// Publishes the block with head `id`, which the message has drafted and written, when it succeeds.
    #[inline(never)]
    pub(super) fn issue(self, id: u32, length: u32) -> Address {
        let head = self.head(id);
        let record = self.record();
        // SAFETY: the page is the message's own.
        unsafe { (*head).link = record.publishing };
        record.publishing = id;
        if mutant!("block_disclosed_at_once") {
            self.disclose();
        }
        let record = self.record();
        let version = version_of(record.stamp);
        Address { version: [version as u32, (version >> 32) as u32], shard: record.shard, page: id, length }
    }

    /// Drops a block that the message has drafted.
    #[inline(never)]
    pub(super) fn discard(self, id: u32) {
        let head = self.head(id);
        // SAFETY: the page is the message's own, and its head written.
        let pages = unsafe { (*head).pages };
        let numbers = head.wrapping_add(1).cast::<u32>();
        let mut index = 0;
        while index < pages {
            // SAFETY: as above; behind the head are the numbers of its pages.
            let page = unsafe { numbers.wrapping_add(index as usize).read() };
            self.drop_fresh(page, self.read_note(page).holder);
            index = index.wrapping_add(1);
        }
        self.drop_fresh(id, self.read_note(id).holder);
    }

    /// Whether the message has published the block with head `id` itself, and not dropped it since.
    #[inline(always)]
    fn is_draft(self, id: u32) -> bool {
        let (mut next, stamp) = (self.record().publishing, self.record().stamp);
        while next != 0 {
            if next == id {
                return self.read_note(id).stamp == stamp;
            }
            // SAFETY: a head that the message has published.
            next = unsafe { (*self.head(next)).link };
        }
        false
    }

    /// Whether the words of a reference are in range.
    #[inline(always)]
    fn is_in_range(self, at: &Address) -> bool {
        let record = self.record();
        record.published != 0 && at.shard < record.shards && at.page.wrapping_sub(1) < record.pages
    }

    /// Finds the block that a reference leads to, of any shard, if it is one of elements with this layout and size.
    #[inline(never)]
    pub(super) fn find(self, at: &Address, layout: u64, size: u32) -> Result<Found, PoolError> {
        if !self.is_in_range(at) {
            return Err(PoolError::BlockUnknown);
        }
        let (own, stamp, pools, pages) = {
            let record = self.record();
            (record.shard, record.stamp, record.pools, record.pages)
        };
        if at.shard != own || at.version() != version_of(stamp) || !self.is_draft(at.page) {
            let word = self.version_word_of(at.shard, at.page);
            let mut looks = 1;
            // SAFETY: a version word. Acquire pairs with the Release of `disclose`: what the block consists of comes before.
            while let found = standing(unsafe { Here::load_acquire_gpu(word) }, at.version())
                && found != Standing::There
                && !mutant!("block_version_unchecked")
            {
                if found == Standing::Gone {
                    return Err(PoolError::BlockStale);
                }
                if looks == VERSION_LOOKS_MAX {
                    return Err(PoolError::BlockUnknown);
                }
                looks = looks.wrapping_add(1);
            }
        }
        let first = pools.wrapping_add(pool_bytes(pages).wrapping_mul(at.shard.into())).wrapping_add(POOL_HEAD_BYTES);
        let first = first as *const u8;
        let head = first.wrapping_add((at.page.wrapping_sub(1) as usize).wrapping_mul(PAGE_BYTES)).cast::<BlockHead>();
        // SAFETY: the version word says that the page is the head of a published block, whose pages nobody writes before this warp has
        // left the epoch, or it is the message's own.
        let (found, length, bytes) = unsafe { ((*head).layout, (*head).length, (*head).size) };
        let is_such = found == layout && bytes == size && length == at.length;
        if is_such || mutant!("block_layout_unchecked") {
            Ok(Found { head, pages: first })
        } else {
            Err(PoolError::BlockUnknown)
        }
    }

    /// Takes back the block that a reference leads to, when the message succeeds.
    #[inline(never)]
    pub(super) fn take_back(self, at: &Address) -> Result<(), PoolError> {
        if !self.is_in_range(at) {
            return Err(PoolError::BlockUnknown);
        }
        let (own, stamp) = (self.record().shard, self.record().stamp);
        if at.shard == own && at.version() == version_of(stamp) && self.is_draft(at.page) {
            self.discard(at.page);
            return Ok(());
        }
        // SAFETY: a version word. Nothing is read behind it but what is its shard's.
        match standing(unsafe { Here::load_relaxed_gpu(self.version_word_of(at.shard, at.page)) }, at.version()) {
            Standing::There => {}
            Standing::Gone => return Err(PoolError::BlockStale),
            Standing::Never => return Err(PoolError::BlockUnknown),
        }
        if at.shard != own {
            return Err(PoolError::BlockForeign);
        }
        let note = self.read_note(at.page);
        if PageNote::holder_in(note.holder) != self.block_holder() && !mutant!("block_owner_unchecked") {
            return Err(PoolError::BlockForeign);
        }
        if note.stamp == !stamp {
            return Err(PoolError::BlockStale);
        }
        if mutant!("block_taken_back_at_once") {
            let word = self.version_word_of(own, at.page);
            // SAFETY: as in `commit_blocks`.
            unsafe { Here::store_relaxed_gpu(word, taken_back(at.version())) };
        }
        let next = self.record().retiring;
        self.write_note(at.page, !stamp, PageNote::held(PageNote::holder_in(note.holder), next));
        self.record().retiring = at.page;
        Ok(())
    }

    /// The message can no longer fail: what it has published is there, for all that its reply or its notices lead to.
    #[inline(never)]
    pub(crate) fn disclose(self) {
        let (mut id, stamp) = (self.record().publishing, self.record().stamp);
        if id == 0 {
            return;
        }
        self.record().publishing = 0;
        while id != 0 {
            if self.read_note(id).stamp == stamp {
                let word = self.version_word_of(self.record().shard, id);
                // SAFETY: the version word of a page of this shard, whose turn the warp holds. Release pairs with the Acquire of `find`.
                unsafe { Here::store_release_gpu(word, version_of(stamp)) };
                let record = self.record();
                record.issued = record.issued.wrapping_add(1);
            }
            // SAFETY: a head that the message has published.
            id = unsafe { (*self.head(id)).link };
        }
        // Whoever gets the reference by way of the host finds the version word as it is now.
        Here::fence_release_sys();
    }

    /// The message has succeeded, and its state is stored: the blocks that it took back are gone for all who look from now on.
    #[inline(never)]
    pub(crate) fn commit_blocks(self) {
        let mut id = self.record().retiring;
        self.record().retiring = 0;
        while id != 0 {
            let next = PageNote::next_in(self.read_note(id).holder);
            let word = self.version_word_of(self.record().shard, id);
            // SAFETY: as in `disclose`. The fence in front of the epoch of the gone orders this.
            unsafe { Here::store_relaxed_gpu(word, taken_back(Here::load_relaxed_gpu(word))) };
            let limbo = self.record().limbo;
            self.write_note(id, 0, PageNote::held(0, limbo));
            let record = self.record();
            (record.limbo, record.ended) = (id, record.ended.wrapping_add(1));
            id = next;
        }
    }
}
