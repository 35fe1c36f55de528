//! A hash table of entries of any size: what [`PoolMap`](super::PoolMap) does, for all types at once.

use tourbillon_shared::pool::POOL_PAGES_MAX;

use super::lane::Pool;
use super::{PoolError, bytes, tree};

/// Bytes of a bucket's page in front of its entries: how many there are, the next page of the bucket, and zero.
pub(super) const HEAD_BYTES: usize = 16;
/// A bucket is split when the map has more entries than this share of the room in the first pages of all buckets, in eighths, ...
const SPLIT_EIGHTHS: u64 = 6;
/// ... and two are merged when it has fewer than this share: so far below that no few operations do both in turn.
const MERGE_EIGHTHS: u64 = 3;

/// The handle of a table.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Table {
    /// The first bucket's page, or the one from which those of all buckets are found; 0 for none.
    pub root: u32,
    pub buckets: u32,
    /// Entries.
    pub length: u32,
}

/// What entries are like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Bytes of a key, with which an entry begins.
    pub key: u32,
    /// Bytes from one entry to the next.
    pub stride: u32,
    /// How many are in a page.
    pub per_page: u32,
}

/// The end of a bucket to which entries are added.
#[derive(Clone, Copy)]
struct End {
    page: *mut u8,
    count: u32,
}

impl Shape {
    /// Entry `slot` of a page.
    #[inline(always)]
    pub fn entry(self, page: *const u8, slot: u32) -> *const u8 {
        page.wrapping_add(HEAD_BYTES).wrapping_add(slot.wrapping_mul(self.stride) as usize)
    }

    /// Entries of the page, and the bucket's next page, 0 for none.
    ///
    /// # Safety
    /// The page is the actor's.
    #[inline(always)]
    pub unsafe fn head(self, page: *const u8) -> Result<(u32, u32), PoolError> {
        // SAFETY: the caller vouches for the page.
        let (count, next) = unsafe { (page.cast::<u32>().read(), page.cast::<u32>().wrapping_add(1).read()) };
        // A page of something else, which only a copied handle leads to, may say anything.
        if count <= self.per_page { Ok((count, next)) } else { Err(PoolError::Stale) }
    }

    /// Makes room for one entry more in a bucket, which is the message's own: where it is to be written.
    ///
    /// # Safety
    /// That it is.
    #[inline(never)]
    unsafe fn append(self, pool: Pool, end: &mut End) -> Result<*mut u8, PoolError> {
        // SAFETY: the caller vouches for the page; a new one is the message's own as well.
        unsafe {
            if end.count == self.per_page {
                let (id, page) = pool.take()?;
                set_head(page, 0, 0);
                set_head(end.page, end.count, id);
                *end = End { page, count: 0 };
            }
            let entry = self.entry(end.page, end.count).cast_mut();
            end.count = end.count.wrapping_add(1);
            end.page.cast::<u32>().write(end.count);
            Ok(entry)
        }
    }
}

/// Writes the head of a page that is the message's own.
///
/// # Safety
/// That it is.
#[inline(always)]
pub(super) unsafe fn set_head(page: *mut u8, count: u32, next: u32) {
    // SAFETY: the caller vouches for the page.
    unsafe { page.cast::<[u32; 4]>().write([count, next, 0, 0]) };
}

#[inline(always)]
fn link(page: *mut u8) -> *mut u32 {
    page.cast::<u32>().wrapping_add(1)
}

/// The greatest power of two that is not above `buckets`, which is at least 1: the buckets at the beginning of this round.
#[inline(always)]
const fn half_of(buckets: u32) -> u32 {
    1u32.wrapping_shl(31u32.wrapping_sub(buckets.leading_zeros()))
}

/// The bucket of a hash.
#[inline(always)]
pub(super) fn bucket_of(hash: u32, buckets: u32) -> u32 {
    // Those split in this round are told apart by one more bit.
    let level = half_of(buckets);
    let bucket = hash & level.wrapping_mul(2).wrapping_sub(1);
    if bucket < buckets { bucket } else { bucket & level.wrapping_sub(1) }
}

/// One page further: no bucket has more pages than the pool, unless a copied handle leads round in circles.
#[inline(always)]
pub(super) fn next_hop(pool: Pool, hop: u32) -> Result<u32, PoolError> {
    if hop < pool.pages() { Ok(hop.wrapping_add(1)) } else { Err(PoolError::Stale) }
}

/// Looks a key up: its entry, null when it is not there; then the pages of its bucket in front of that entry's, and its slot there.
#[inline(never)]
pub(super) fn find(
    pool: Pool,
    table: &Table,
    shape: Shape,
    key: *const u8,
) -> Result<(*const u8, u32, u32), PoolError> {
    if table.buckets == 0 {
        return Ok((core::ptr::null(), 0, 0));
    }
    // SAFETY: the caller's key is one of this shape.
    let bucket = bucket_of(unsafe { bytes::hash(key, shape.key) }, table.buckets);
    let mut page = tree::leaf(pool, table.root, table.buckets, bucket)?;
    let mut hop = 0;
    loop {
        // SAFETY: the page was found to be the actor's.
        let (count, next) = unsafe { shape.head(page)? };
        let mut slot = 0;
        while slot < count {
            let entry = shape.entry(page, slot);
            // SAFETY: as above.
            if unsafe { bytes::equal(key, entry, shape.key) } {
                return Ok((entry, hop, slot));
            }
            slot = slot.wrapping_add(1);
        }
        if next == 0 {
            return Ok((core::ptr::null(), 0, 0));
        }
        (page, hop) = (pool.page(next)?, next_hop(pool, hop)?);
    }
}

/// Makes the pages of a bucket up to page `hop` the message's own; the last of them, and the link to it, null for the first.
#[inline(never)]
fn own(pool: Pool, table: &mut Table, shape: Shape, bucket: u32, hop: u32) -> Result<(*mut u8, *mut u32), PoolError> {
    let mut page = tree::leaf_mut(pool, &mut table.root, table.buckets, bucket)?;
    let (mut to, mut at) = (core::ptr::null_mut(), 0);
    while at < hop {
        // SAFETY: the page is the message's own.
        let (_, next) = unsafe { shape.head(page)? };
        if next == 0 {
            break;
        }
        to = link(page);
        // SAFETY: as above.
        page = unsafe { pool.page_mut(to)? };
        at = next_hop(pool, at)?;
    }
    Ok((page, to))
}

/// Makes a whole bucket the message's own; its end, and the link to its last page.
#[inline(always)]
fn own_all(pool: Pool, table: &mut Table, shape: Shape, bucket: u32) -> Result<(End, *mut u32), PoolError> {
    let (page, link) = own(pool, table, shape, bucket, u32::MAX)?;
    // SAFETY: the page is the message's own.
    let (count, _) = unsafe { shape.head(page)? };
    Ok((End { page, count }, link))
}

/// The entry of a key for writing; null when it is not there.
#[inline(never)]
pub(super) fn find_mut(pool: Pool, table: &mut Table, shape: Shape, key: *const u8) -> Result<*mut u8, PoolError> {
    let (entry, hop, slot) = find(pool, table, shape, key)?;
    if entry.is_null() {
        return Ok(core::ptr::null_mut());
    }
    // SAFETY: as in `find`.
    let bucket = bucket_of(unsafe { bytes::hash(key, shape.key) }, table.buckets);
    let (page, _) = own(pool, table, shape, bucket, hop)?;
    Ok(shape.entry(page, slot).cast_mut())
}

/// Adds an entry for a key that is not there: where it, key and value, is to be written.
#[inline(never)]
pub(super) fn add(pool: Pool, table: &mut Table, shape: Shape, key: *const u8) -> Result<*mut u8, PoolError> {
    if table.length == u32::MAX {
        return Err(PoolError::Exhausted);
    }
    if table.buckets == 0 {
        let page = tree::push(pool, &mut table.root, 0)?;
        // SAFETY: the page is the message's own.
        unsafe { set_head(page, 0, 0) };
        table.buckets = 1;
    }
    // SAFETY: as in `find`.
    let bucket = bucket_of(unsafe { bytes::hash(key, shape.key) }, table.buckets);
    let (mut end, _) = own_all(pool, table, shape, bucket)?;
    // SAFETY: the bucket is the message's own.
    let entry = unsafe { shape.append(pool, &mut end)? };
    table.length = table.length.wrapping_add(1);
    Ok(entry)
}

/// Entries, times eight, and those for which the first pages of all buckets have room.
#[inline(always)]
fn load(table: &Table, shape: Shape) -> (u64, u64) {
    (u64::from(table.length).wrapping_mul(8), u64::from(table.buckets).wrapping_mul(shape.per_page.into()))
}

/// Splits a bucket, if there are many entries. Without pages for it, it is left to a later time.
#[inline(always)]
pub(super) fn grow(pool: Pool, table: &mut Table, shape: Shape) {
    let (eighths, room) = load(table, shape);
    if eighths > room.wrapping_mul(SPLIT_EIGHTHS) && table.buckets < POOL_PAGES_MAX {
        let _ = split(pool, table, shape);
    }
}

/// Makes one bucket more: the entries of one are told apart by one more bit of their hashes.
#[inline(never)]
fn split(pool: Pool, table: &mut Table, shape: Shape) -> Result<(), PoolError> {
    let added = table.buckets;
    let low = added.wrapping_sub(half_of(added));
    own_all(pool, table, shape, low)?;
    let (first, _) = own(pool, table, shape, low, 0)?;
    let pages = pages_of(pool, shape, first)?;
    let new = tree::push(pool, &mut table.root, added)?;
    // As many pages as the bucket has are enough for any part of it.
    if let Err(error) = pool.reserve(pages.wrapping_sub(1)) {
        tree::pop(pool, &mut table.root, added.wrapping_add(1))?;
        return Err(error);
    }
    // Nothing fails from here on.
    table.buckets = added.wrapping_add(1);
    // SAFETY: all pages of both buckets are the message's own. What stays is moved to the front, to places that were read.
    unsafe {
        set_head(new, 0, 0);
        let mut end = End { page: new, count: 0 };
        let (mut kept, mut kept_slot) = (first, 0u32);
        let mut page = first;
        loop {
            let (count, next) = shape.head(page)?;
            let mut slot = 0;
            while slot < count {
                let entry = shape.entry(page, slot);
                let to = if bucket_of(bytes::hash(entry, shape.key), table.buckets) == added {
                    shape.append(pool, &mut end)?
                } else {
                    if kept_slot == shape.per_page {
                        kept.cast::<u32>().write(kept_slot);
                        (kept, kept_slot) = (pool.own_page(link(kept).read()), 0);
                    }
                    kept_slot = kept_slot.wrapping_add(1);
                    shape.entry(kept, kept_slot.wrapping_sub(1)).cast_mut()
                };
                bytes::copy(entry, to, shape.stride);
                slot = slot.wrapping_add(1);
            }
            if next == 0 {
                break;
            }
            page = pool.own_page(next);
        }
        let rest = link(kept).read();
        set_head(kept, kept_slot, 0);
        free_chain(pool, shape, rest)
    }
}

/// Pages of the bucket whose first page is at `first`.
#[inline(always)]
fn pages_of(pool: Pool, shape: Shape, first: *const u8) -> Result<u32, PoolError> {
    let (mut page, mut pages) = (first, 1);
    loop {
        // SAFETY: the page was found to be the actor's.
        let (_, next) = unsafe { shape.head(page)? };
        if next == 0 {
            return Ok(pages);
        }
        (page, pages) = (pool.page(next)?, next_hop(pool, pages)?);
    }
}

/// Frees the page `first` and those behind it.
#[inline(never)]
fn free_chain(pool: Pool, shape: Shape, first: u32) -> Result<(), PoolError> {
    let mut id = first;
    while id != 0 {
        // SAFETY: the page was found to be the actor's.
        let (_, next) = unsafe { shape.head(pool.page(id)?)? };
        pool.free(id)?;
        id = next;
    }
    Ok(())
}

/// Puts the entries of the last bucket back to those that they were split from.
#[inline(never)]
fn merge(pool: Pool, table: &mut Table, shape: Shape) -> Result<(), PoolError> {
    let last = table.buckets.wrapping_sub(1);
    let low = last.wrapping_sub(half_of(last));
    let (mut end, _) = own_all(pool, table, shape, low)?;
    let first = tree::leaf(pool, table.root, table.buckets, last)?;
    // As many pages as the bucket has are enough for all of it.
    pool.reserve(pages_of(pool, shape, first)?)?;
    // Nothing fails from here on.
    let (mut page, mut rest) = (first, 0);
    loop {
        // SAFETY: the page was found to be the actor's, and nothing has changed since.
        let (count, next) = unsafe { shape.head(page)? };
        if page == first {
            rest = next;
        }
        let mut slot = 0;
        while slot < count {
            // SAFETY: as above; the other bucket is the message's own.
            unsafe { bytes::copy(shape.entry(page, slot), shape.append(pool, &mut end)?, shape.stride) };
            slot = slot.wrapping_add(1);
        }
        if next == 0 {
            break;
        }
        page = pool.page(next)?;
    }
    free_chain(pool, shape, rest)?;
    tree::pop(pool, &mut table.root, table.buckets)?;
    table.buckets = last;
    Ok(())
}

/// Removes the entry of a key; whether it was there.
#[inline(never)]
pub(super) fn remove(pool: Pool, table: &mut Table, shape: Shape, key: *const u8) -> Result<bool, PoolError> {
    let (entry, hop, slot) = find(pool, table, shape, key)?;
    if entry.is_null() {
        return Ok(false);
    }
    // SAFETY: as in `find`.
    let bucket = bucket_of(unsafe { bytes::hash(key, shape.key) }, table.buckets);
    let (end, link) = own_all(pool, table, shape, bucket)?;
    let (hole, _) = own(pool, table, shape, bucket, hop)?;
    let Some(last) = end.count.checked_sub(1) else { return Err(PoolError::Stale) };
    let (from, to) = (shape.entry(end.page, last), shape.entry(hole, slot).cast_mut());
    // SAFETY: all pages of the bucket are the message's own; the last entry fills the hole, unless it is it.
    unsafe {
        if from != to {
            bytes::copy(from, to, shape.stride);
        }
        end.page.cast::<u32>().write(last);
        if last == 0 && !link.is_null() {
            pool.free(link.read())?;
            link.write(0);
        }
    }
    table.length = table.length.wrapping_sub(1);
    let (eighths, room) = load(table, shape);
    if eighths == 0 {
        clear(pool, table, shape)?;
    } else if table.buckets > 1 && eighths < room.wrapping_mul(MERGE_EIGHTHS) {
        // Without pages for it the map is only larger than it must be.
        let _ = merge(pool, table, shape);
    }
    Ok(true)
}

/// Adds a page, whose content is anything, to the end of the last bucket, which is the message's own.
#[inline(never)]
pub(super) fn extend(pool: Pool, table: &mut Table, shape: Shape) -> Result<*mut u8, PoolError> {
    let Some(last) = table.buckets.checked_sub(1) else { return Err(PoolError::Stale) };
    let (end, _) = own_all(pool, table, shape, last)?;
    let (id, page) = pool.take()?;
    // SAFETY: the bucket is the message's own.
    unsafe { link(end.page).write(id) };
    Ok(page)
}

/// Frees everything.
#[inline(never)]
pub(super) fn clear(pool: Pool, table: &mut Table, shape: Shape) -> Result<(), PoolError> {
    while let Some(last) = table.buckets.checked_sub(1) {
        let first = tree::leaf(pool, table.root, table.buckets, last)?;
        // SAFETY: the page was found to be the actor's.
        let (_, rest) = unsafe { shape.head(first)? };
        free_chain(pool, shape, rest)?;
        tree::pop(pool, &mut table.root, table.buckets)?;
        table.buckets = last;
    }
    table.length = 0;
    Ok(())
}
