//! Pages, as the message that runs on one lane takes, copies and frees them.
//!
//! Nothing here waits, panics or meets other lanes, but for the words of [`PoolState`], which are only added to.

use tourbillon_shared::geometry::EntryHeader;
use tourbillon_shared::mutant;
use tourbillon_shared::pool::{
    LanePool, PAGE_BYTES, POOL_HEAD_BYTES, PageNote, PoolState, PoolWords, give_pages, holder_of, take_page,
};
use tourbillon_shared::slot::Chunk;

use super::PoolError;
use crate::arch::{Arch, Here};

/// The pool of the shard, as a lane uses it. A copy of it is the same lane's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pool(*mut LanePool);

impl Pool {
    /// That of a lane whose record is at `record`.
    ///
    /// # Safety
    /// The record is open, or all zero; while the value is used only the caller uses the record, the pages of the actor in it,
    /// and their notes. While one lane of the warp takes pages, none gives any.
    #[inline(always)]
    pub(crate) unsafe fn new(record: *mut LanePool) -> Self {
        Self(record)
    }

    /// The record. Every use of it ends before the next begins.
    #[inline(always)]
    pub(super) fn record<'a>(self) -> &'a mut LanePool {
        // SAFETY: `new` was told that the record is the caller's alone; no function here keeps the reference past a call of another.
        unsafe { &mut *self.0 }
    }

    /// Pages of the pool, none of which is used twice: the longest that any chain of pages can be.
    #[inline(always)]
    pub(super) fn pages(self) -> u32 {
        self.record().pages
    }

    #[inline(always)]
    fn state(self) -> *mut PoolState {
        self.record().pool as *mut PoolState
    }

    /// Address of page `id`, a number from 1 on.
    #[inline(always)]
    fn address(self, id: u32) -> *mut u8 {
        let before = u64::from(id.wrapping_sub(1)).wrapping_mul(PAGE_BYTES as u64);
        self.record().pool.wrapping_add(POOL_HEAD_BYTES).wrapping_add(before) as *mut u8
    }

    #[inline(always)]
    fn note(self, id: u32) -> *mut PageNote {
        let first = self.address(self.pages().wrapping_add(1)).cast::<PageNote>();
        first.wrapping_add(id.wrapping_sub(1) as usize)
    }

    /// Place `index` of the stack of free pages.
    #[inline(always)]
    fn place(self, index: u64) -> *mut u32 {
        let pages = self.pages();
        self.note(pages.wrapping_add(1)).cast::<u32>().wrapping_add(index as usize)
    }

    #[inline(always)]
    pub(super) fn read_note(self, id: u32) -> PageNote {
        let note = self.note(id);
        // SAFETY: callers check that the page exists. The words of pages of other actors may be written meanwhile, so both are
        // loaded as what they are: words that several lanes use.
        unsafe {
            PageNote {
                stamp: Here::load_pool(&raw const (*note).stamp),
                holder: Here::load_pool(&raw const (*note).holder),
            }
        }
    }

    #[inline(always)]
    pub(super) fn write_note(self, id: u32, stamp: u64, holder: u64) {
        let note = self.note(id);
        // SAFETY: the page exists, and is this lane's: its actor's, or one that it has just taken.
        unsafe {
            Here::store_pool(&raw mut (*note).stamp, stamp);
            Here::store_pool(&raw mut (*note).holder, holder);
        }
    }

    /// Begins a message of the actor at `entry`: undoes what the last one has left, if it has not succeeded.
    #[inline(never)]
    pub(crate) fn begin(self, entry: *const EntryHeader, stamp: u64) {
        self.undo();
        let record = self.record();
        record.stamp = stamp;
        record.holder = holder_of((entry as u64).wrapping_sub(record.slab));
    }

    /// The note of a page that is the actor's, and that its message has not freed.
    #[inline(always)]
    fn check(self, id: u32) -> Result<PageNote, PoolError> {
        let record = self.record();
        let (holder, retired) = (record.holder, !record.stamp);
        if id.wrapping_sub(1) >= record.pages {
            return Err(PoolError::Stale);
        }
        let note = self.read_note(id);
        let is_own = PageNote::holder_in(note.holder) == holder || mutant!("pool_holder_unchecked");
        if is_own && note.stamp != retired { Ok(note) } else { Err(PoolError::Stale) }
    }

    /// The address of a page that is the actor's: aligned to 16, and valid for reads of a page until the message frees it.
    #[inline(always)]
    pub(super) fn page(self, id: u32) -> Result<*const u8, PoolError> {
        self.check(id)?;
        Ok(self.address(id).cast_const())
    }

    /// The address of a page that the message has taken, by its number: nothing is checked.
    #[inline(always)]
    pub(super) fn own_page(self, id: u32) -> *mut u8 {
        self.address(id)
    }

    /// The address of the page whose number is at `link`, for writing. A page that was there before the message is copied, and the
    /// copy's number is put in its place.
    ///
    /// # Safety
    /// `link` is valid for reads and writes, and nobody else uses it meanwhile.
    #[inline(always)]
    pub(super) unsafe fn page_mut(self, link: *mut u32) -> Result<*mut u8, PoolError> {
        // SAFETY: the caller vouches for the link.
        let id = unsafe { link.read() };
        let note = self.check(id)?;
        if note.stamp == self.record().stamp || mutant!("pool_written_in_place") {
            return Ok(self.address(id));
        }
        let (copy, address) = self.take()?;
        let (from, to) = (self.address(id).cast::<Chunk>(), address.cast::<Chunk>());
        let mut chunk = 0;
        while chunk < PAGE_BYTES / size_of::<Chunk>() {
            // SAFETY: both pages are the actor's, aligned to 16, and not the same.
            unsafe { to.wrapping_add(chunk).write(from.wrapping_add(chunk).read()) };
            chunk = chunk.wrapping_add(1);
        }
        self.retire(id, note);
        // SAFETY: as above.
        unsafe { link.write(copy) };
        Ok(address)
    }

    /// Takes a page, whose content is anything, for the message: its number and its address.
    #[inline(always)]
    pub(super) fn take(self) -> Result<(u32, *mut u8), PoolError> {
        self.take_for(self.record().holder)
    }

    /// As [`take`](Self::take), for `holder`.
    #[inline(always)]
    pub(super) fn take_for(self, holder: u64) -> Result<(u32, *mut u8), PoolError> {
        let mut id = self.record().spare;
        if id == 0 {
            let Some(pulled) = self.pull() else { return Err(PoolError::Exhausted) };
            id = pulled;
        } else {
            let next = PageNote::next_in(self.read_note(id).holder);
            let record = self.record();
            (record.spare, record.spares) = (next, record.spares.wrapping_sub(1));
        }
        let record = self.record();
        let (stamp, fresh) = (record.stamp, record.fresh);
        record.fresh = id;
        self.write_note(id, stamp, PageNote::held(holder, fresh));
        Ok((id, self.address(id)))
    }

    /// Makes sure that the next `pages` pages can be taken.
    #[inline(never)]
    pub(crate) fn reserve(self, pages: u32) -> Result<(), PoolError> {
        while self.record().spares < pages {
            let Some(id) = self.pull() else { return Err(PoolError::Exhausted) };
            self.keep(id);
        }
        Ok(())
    }

    /// Hands over the chain of pages that the lane may take: its first page and its length.
    pub(crate) fn take_spares(self) -> (u32, u32) {
        let record = self.record();
        (core::mem::take(&mut record.spare), core::mem::take(&mut record.spares))
    }

    /// Takes such a chain back, where the lane has none.
    pub(crate) fn put_spares(self, (first, pages): (u32, u32)) {
        let record = self.record();
        (record.spare, record.spares) = (first, pages);
    }

    /// Takes a page out of the shard's pool; nothing when there is none, which is then true for all lanes until pages are given back.
    #[inline(always)]
    fn pull(self) -> Option<u32> {
        #[cfg(test)]
        if super::tests::is_fuse_blown() {
            return None;
        }
        let page = take_page(&self, self.pages())?;
        let record = self.record();
        record.taken = record.taken.wrapping_add(1);
        Some(page)
    }

    /// Puts a page that nobody holds into the lane's chain.
    #[inline(always)]
    fn keep(self, id: u32) {
        let record = self.record();
        let next = record.spare;
        record.spare = id;
        record.spares = record.spares.wrapping_add(1);
        self.write_note(id, 0, PageNote::held(0, next));
    }

    /// Frees a page of the actor: when, and only when, the message succeeds.
    #[inline(never)]
    pub(super) fn free(self, id: u32) -> Result<(), PoolError> {
        let note = self.check(id)?;
        let stamp = self.record().stamp;
        if note.stamp != stamp {
            self.retire(id, note);
            return Ok(());
        }
        self.drop_fresh(id, note.holder);
        Ok(())
    }

    /// Frees a page that the message has taken, whose note's holder is `holder`. It stays in the chain of what the message took.
    #[inline(always)]
    pub(super) fn drop_fresh(self, id: u32, holder: u64) {
        let record = self.record();
        record.dropped = record.dropped.wrapping_add(1);
        self.write_note(id, !record.stamp, holder);
    }

    /// Notes that the actor needs a page no more that it had before the message.
    #[inline(always)]
    fn retire(self, id: u32, note: PageNote) {
        if mutant!("pool_freed_before_commit") {
            return self.keep(id);
        }
        let record = self.record();
        let (next, stamp) = (record.retired, record.stamp);
        record.retired = id;
        self.write_note(id, !stamp, PageNote::held(PageNote::holder_in(note.holder), next));
    }

    /// The message has succeeded, and its state is stored: what it took is its actor's, and what it freed is free.
    #[inline(never)]
    pub(crate) fn commit(self) {
        let retired = if mutant!("pool_retired_forgotten") { 0 } else { self.record().retired };
        self.keep_chain(retired, false);
        if self.record().dropped != 0 {
            self.keep_chain(self.record().fresh, true);
        }
        self.forget();
    }

    /// What a message has taken and not committed is free, and what it has freed is not.
    #[inline(never)]
    fn undo(self) {
        let fresh = if mutant!("pool_kept_by_failures") { 0 } else { self.record().fresh };
        self.keep_chain(fresh, false);
        self.forget();
    }

    #[inline(always)]
    fn forget(self) {
        let record = self.record();
        (record.fresh, record.retired, record.dropped) = (0, 0, 0);
    }

    /// Puts the pages of the chain that begins with `first` into the lane's own: all, or those that were dropped.
    #[inline(always)]
    fn keep_chain(self, first: u32, only_dropped: bool) {
        let dropped = !self.record().stamp;
        let mut id = first;
        while id != 0 {
            let note = self.read_note(id);
            if !only_dropped || note.stamp == dropped {
                self.keep(id);
            }
            id = PageNote::next_in(note.holder);
        }
    }

    /// Ends the lane's turn at the pool, when no lane takes pages any more: undoes what is left of a message, and gives back what the
    /// lane has. Returns how many pages it took, and gave back.
    pub(crate) fn close(self) -> (u64, u64) {
        self.undo();
        let record = self.record();
        let (mut id, spares, taken) = (record.spare, u64::from(record.spares), record.taken);
        (record.spare, record.spares, record.taken) = (0, 0, 0);
        if spares != 0 {
            // No lane takes meanwhile, so the places behind what was there are this lane's alone, as many as it gives.
            let mut index = give_pages(&self, spares);
            while id != 0 {
                self.write_place(index, id);
                index = index.wrapping_add(1);
                id = PageNote::next_in(self.read_note(id).holder);
            }
        }
        self.record().pool = 0;
        (taken, spares)
    }

    /// Whether the record is open.
    #[inline(always)]
    pub(crate) fn is_open(self) -> bool {
        self.record().pool != 0
    }
}

impl PoolWords for Pool {
    #[inline(always)]
    fn free(&self) -> u64 {
        // SAFETY: a word of the shard's pool; so below.
        unsafe { Here::load_pool(&raw const (*self.state()).free) }
    }
    #[inline(always)]
    fn add_free(&self, pages: u64) -> u64 {
        // SAFETY: as above.
        unsafe { Here::add_pool(&raw mut (*self.state()).free, pages) }
    }
    #[inline(always)]
    fn begun(&self) -> u64 {
        // SAFETY: as above.
        unsafe { Here::load_pool(&raw const (*self.state()).begun) }
    }
    #[inline(always)]
    fn add_begun(&self, pages: u64) -> u64 {
        // SAFETY: as above.
        unsafe { Here::add_pool(&raw mut (*self.state()).begun, pages) }
    }
    #[inline(always)]
    fn read_place(&self, index: u64) -> u32 {
        // SAFETY: the stack has a place for each page, and callers ask for those alone; nobody writes it meanwhile.
        unsafe { self.place(index).read() }
    }
    #[inline(always)]
    fn write_place(&self, index: u64, page: u32) {
        // SAFETY: as above; the place is this lane's.
        unsafe { self.place(index).write(page) };
    }
}
