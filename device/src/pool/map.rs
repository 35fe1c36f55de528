//! A map.

use core::marker::PhantomData;

use bytemuck::{Pod, Zeroable};
use tourbillon_shared::pool::{PAGE_BYTES, POOL_PAGES_MAX};

use super::lane::Pool;
use super::{PoolError, bytes, tree};
use crate::actor::ALIGNMENT_MAX;
use crate::context::Context;

/// Bytes of a bucket's page in front of its entries: how many there are, the next page of the bucket, and zero.
const HEAD_BYTES: usize = 16;
/// A bucket is split when the map has more entries than this share of the room in the first pages of all buckets, in eighths, ...
const SPLIT_EIGHTHS: u64 = 6;
/// ... and two are merged when it has fewer than this share: so far below that no few operations do both in turn.
const MERGE_EIGHTHS: u64 = 3;

/// A map in the pool of its actor's shard. Keys are plain data, equal when their bytes are; a key and its value have up to 240 bytes
/// together.
///
/// Twelve bytes of state; all zero is the empty map, which has no page. It is a table of buckets that are split and merged one at a
/// time as the map grows and shrinks (linear hashing; Litwin 1980), so that no operation rebuilds it. An entry is found in two to
/// five loads one after the other. The hash is fixed: the same operations in the same order make the same map on every machine,
/// but whoever chooses the keys can choose them so that all fall into one bucket, which is then searched from end to end.
///
/// An operation that fails leaves the map as it was ([`PoolError`]). Splitting and merging never makes one fail: without pages for
/// it, it is left to a later one.
#[repr(C)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct PoolMap<K, V> {
    /// The first bucket's page, or the one from which those of all buckets are found; 0 for none.
    root: u32,
    buckets: u32,
    length: u32,
    entries: PhantomData<(K, V)>,
}

impl<K, V> Clone for PoolMap<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K, V> Copy for PoolMap<K, V> {}
impl<K, V> Default for PoolMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}
// SAFETY: three words, any of which are valid: what they lead to is checked.
unsafe impl<K, V> Zeroable for PoolMap<K, V> {}
// SAFETY: as above; no padding, and no references.
unsafe impl<K: 'static, V: 'static> Pod for PoolMap<K, V> {}

impl<K, V> PoolMap<K, V> {
    /// The empty map.
    #[inline]
    pub const fn new() -> Self {
        Self { root: 0, buckets: 0, length: 0, entries: PhantomData }
    }

    /// Entries.
    #[inline]
    pub const fn len(&self) -> u32 {
        self.length
    }

    /// Whether there is none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// Where an entry is.
#[derive(Clone, Copy)]
struct Found {
    bucket: u32,
    /// Pages of the bucket in front of its own.
    hop: u32,
    page: *const u8,
    slot: u32,
}

/// The end of a bucket to which entries are added.
struct End {
    page: *mut u8,
    count: u32,
}

impl<K: Pod, V: Pod> PoolMap<K, V> {
    const VALUE_AT: usize = size_of::<K>().next_multiple_of(align_of::<V>());
    const STRIDE: usize = {
        let aligned = if align_of::<K>() > align_of::<V>() { align_of::<K>() } else { align_of::<V>() };
        (Self::VALUE_AT + size_of::<V>()).next_multiple_of(aligned)
    };
    /// Entries of a page.
    const PER_PAGE: u32 = {
        assert!(size_of::<K>() != 0, "a key has at least one byte");
        assert!(Self::STRIDE <= PAGE_BYTES - HEAD_BYTES, "a key and its value have up to 240 bytes");
        assert!(align_of::<K>() <= ALIGNMENT_MAX && align_of::<V>() <= ALIGNMENT_MAX, "aligned to more than 16 bytes");
        ((PAGE_BYTES - HEAD_BYTES) / Self::STRIDE) as u32
    };

    /// The bucket of a hash.
    #[inline(always)]
    fn bucket_of(hash: u32, buckets: u32) -> u32 {
        // Those split in this round are told apart by one more bit.
        let level = half_of(buckets);
        let bucket = hash & level.wrapping_mul(2).wrapping_sub(1);
        if bucket < buckets { bucket } else { bucket & level.wrapping_sub(1) }
    }

    #[inline(always)]
    fn key(page: *const u8, slot: u32) -> *const K {
        page.wrapping_add(HEAD_BYTES + (slot as usize).wrapping_mul(Self::STRIDE)).cast()
    }

    #[inline(always)]
    fn value(page: *const u8, slot: u32) -> *const V {
        page.wrapping_add(HEAD_BYTES + Self::VALUE_AT + (slot as usize).wrapping_mul(Self::STRIDE)).cast()
    }

    /// Entries of the page, and the bucket's next page, 0 for none.
    ///
    /// # Safety
    /// The page is the actor's.
    #[inline(always)]
    unsafe fn head(page: *const u8) -> Result<(u32, u32), PoolError> {
        // SAFETY: the caller vouches for the page.
        let (count, next) = unsafe { (page.cast::<u32>().read(), page.cast::<u32>().wrapping_add(1).read()) };
        // A page of something else, which only a copied handle leads to, may say anything.
        if count <= Self::PER_PAGE { Ok((count, next)) } else { Err(PoolError::Stale) }
    }

    /// Writes the head of a page that is the message's own.
    ///
    /// # Safety
    /// That it is.
    #[inline(always)]
    unsafe fn set_head(page: *mut u8, count: u32, next: u32) {
        // SAFETY: the caller vouches for the page.
        unsafe { page.cast::<[u32; 4]>().write([count, next, 0, 0]) };
    }

    #[inline(always)]
    fn link(page: *mut u8) -> *mut u32 {
        page.cast::<u32>().wrapping_add(1)
    }

    /// Writes an entry into a page that is the message's own.
    ///
    /// # Safety
    /// That it is, and has room for so many entries.
    #[inline(always)]
    unsafe fn put(page: *mut u8, slot: u32, key: K, value: V) {
        // SAFETY: the caller vouches for the place.
        unsafe {
            Self::key(page, slot).cast_mut().write(key);
            Self::value(page, slot).cast_mut().write(value);
        }
    }

    /// Adds an entry to the end of a bucket, which is the message's own.
    ///
    /// # Safety
    /// That it is.
    #[inline(always)]
    unsafe fn append(pool: Pool, end: &mut End, key: K, value: V) -> Result<(), PoolError> {
        // SAFETY: the caller vouches for the page; a new one is the message's own as well.
        unsafe {
            if end.count == Self::PER_PAGE {
                let mut id = pool.take()?;
                let page = pool.page_mut(&raw mut id)?;
                Self::set_head(page, 0, 0);
                Self::set_head(end.page, end.count, id);
                *end = End { page, count: 0 };
            }
            Self::put(end.page, end.count, key, value);
            end.count = end.count.wrapping_add(1);
            end.page.cast::<u32>().write(end.count);
        }
        Ok(())
    }

    /// Looks a key up.
    #[inline(always)]
    fn find(&self, pool: Pool, key: &K) -> Result<Option<Found>, PoolError> {
        if self.buckets == 0 {
            return Ok(None);
        }
        let bucket = Self::bucket_of(bytes::hash(key), self.buckets);
        let mut page = tree::leaf(pool, self.root, self.buckets, bucket)?;
        let mut hop = 0;
        loop {
            // SAFETY: the page was found to be the actor's.
            let (count, next) = unsafe { Self::head(page)? };
            let mut slot = 0;
            while slot < count {
                // SAFETY: as above.
                if unsafe { bytes::equals(key, Self::key(page, slot).cast()) } {
                    return Ok(Some(Found { bucket, hop, page, slot }));
                }
                slot = slot.wrapping_add(1);
            }
            if next == 0 {
                return Ok(None);
            }
            (page, hop) = (pool.page(next)?, next_hop(pool, hop)?);
        }
    }

    /// Makes the pages of a bucket up to page `hop` the message's own; the last of them, and the link to it, null for the first.
    #[inline(never)]
    fn own(&mut self, pool: Pool, bucket: u32, hop: u32) -> Result<(*mut u8, *mut u32), PoolError> {
        let mut page = tree::leaf_mut(pool, &mut self.root, self.buckets, bucket)?;
        let (mut link, mut at) = (core::ptr::null_mut(), 0);
        while at < hop {
            // SAFETY: the page is the message's own.
            let (_, next) = unsafe { Self::head(page)? };
            if next == 0 {
                break;
            }
            link = Self::link(page);
            // SAFETY: as above.
            page = unsafe { pool.page_mut(link)? };
            at = next_hop(pool, at)?;
        }
        Ok((page, link))
    }

    /// Makes a whole bucket the message's own; its end.
    #[inline(always)]
    fn own_all(&mut self, pool: Pool, bucket: u32) -> Result<(End, *mut u32), PoolError> {
        let (page, link) = self.own(pool, bucket, u32::MAX)?;
        // SAFETY: the page is the message's own.
        let (count, _) = unsafe { Self::head(page)? };
        Ok((End { page, count }, link))
    }

    /// The value of a key, if it is there.
    ///
    /// # Errors
    /// [`PoolError::Undeclared`], [`PoolError::Stale`].
    #[inline]
    pub fn get<'c>(&self, context: &'c Context, key: &K) -> Result<Option<&'c V>, PoolError> {
        context.with_pool(|pool| {
            let found = self.find(pool, key)?;
            // SAFETY: the value lies in a page of the actor, which only changes through a borrow of the context; any bytes are one.
            Ok(found.map(|found| unsafe { &*Self::value(found.page, found.slot) }))
        })
    }

    /// The value of a key, if it is there, to be changed. Takes the pages that lead to it.
    ///
    /// # Errors
    /// [`PoolError`].
    #[inline]
    pub fn get_mut<'c>(&mut self, context: &'c mut Context, key: &K) -> Result<Option<&'c mut V>, PoolError> {
        context.with_pool(|pool| {
            let Some(found) = self.find(pool, key)? else { return Ok(None) };
            let (page, _) = self.own(pool, found.bucket, found.hop)?;
            // SAFETY: as in `get`; the page is the message's own, and the borrow of the context makes this its only use.
            Ok(Some(unsafe { &mut *Self::value(page, found.slot).cast_mut() }))
        })
    }

    /// Whether a key is there.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[inline]
    pub fn contains_key(&self, context: &Context, key: &K) -> Result<bool, PoolError> {
        Ok(self.get(context, key)?.is_some())
    }

    /// Gives a key a value; the one that it had before.
    ///
    /// # Errors
    /// [`PoolError`]; exhausted, too, is a map of `u32::MAX` entries.
    #[inline]
    pub fn insert(&mut self, context: &mut Context, key: K, value: V) -> Result<Option<V>, PoolError> {
        context.with_pool(|pool| self.insert_in(pool, key, value))
    }

    #[inline(never)]
    fn insert_in(&mut self, pool: Pool, key: K, value: V) -> Result<Option<V>, PoolError> {
        if let Some(found) = self.find(pool, &key)? {
            let (page, _) = self.own(pool, found.bucket, found.hop)?;
            // SAFETY: the page is the message's own, and the entry is in it.
            return Ok(Some(unsafe { Self::value(page, found.slot).cast_mut().replace(value) }));
        }
        if self.length == u32::MAX {
            return Err(PoolError::Exhausted);
        }
        if self.buckets == 0 {
            let page = tree::push(pool, &mut self.root, 0)?;
            // SAFETY: the page is the message's own.
            unsafe { Self::set_head(page, 0, 0) };
            self.buckets = 1;
        }
        let bucket = Self::bucket_of(bytes::hash(&key), self.buckets);
        let (mut end, _) = self.own_all(pool, bucket)?;
        // SAFETY: the bucket is the message's own.
        unsafe { Self::append(pool, &mut end, key, value)? };
        self.length = self.length.wrapping_add(1);
        if self.load_eighths() > self.room().wrapping_mul(SPLIT_EIGHTHS) && self.buckets < POOL_PAGES_MAX {
            // Without pages for it the map is only slower.
            let _ = self.split(pool);
        }
        Ok(None)
    }

    /// Entries, times eight.
    #[inline(always)]
    fn load_eighths(&self) -> u64 {
        u64::from(self.length).wrapping_mul(8)
    }

    /// Entries for which the first pages of all buckets have room.
    #[inline(always)]
    fn room(&self) -> u64 {
        u64::from(self.buckets).wrapping_mul(u64::from(Self::PER_PAGE))
    }

    /// Makes one bucket more: the entries of one are told apart by one more bit of their hashes.
    #[inline(never)]
    fn split(&mut self, pool: Pool) -> Result<(), PoolError> {
        let added = self.buckets;
        let low = added.wrapping_sub(half_of(added));
        self.own_all(pool, low)?;
        let (first, _) = self.own(pool, low, 0)?;
        let pages = Self::pages_of(pool, first)?;
        let new = tree::push(pool, &mut self.root, added)?;
        // As many pages as the bucket has are enough for any part of it.
        if let Err(error) = pool.reserve(pages.wrapping_sub(1)) {
            tree::pop(pool, &mut self.root, added.wrapping_add(1))?;
            return Err(error);
        }
        // Nothing fails from here on.
        self.buckets = added.wrapping_add(1);
        // SAFETY: all pages of both buckets are the message's own. What stays is moved to the front, to places that were read.
        unsafe {
            Self::set_head(new, 0, 0);
            let mut end = End { page: new, count: 0 };
            let (mut kept, mut kept_slot) = (first, 0u32);
            let mut page = first;
            loop {
                let (count, next) = Self::head(page)?;
                let mut slot = 0;
                while slot < count {
                    let (key, value) = (Self::key(page, slot).read(), Self::value(page, slot).read());
                    if Self::bucket_of(bytes::hash(&key), self.buckets) == added {
                        Self::append(pool, &mut end, key, value)?;
                    } else {
                        if kept_slot == Self::PER_PAGE {
                            kept.cast::<u32>().write(kept_slot);
                            (kept, kept_slot) = (pool.page_mut(Self::link(kept))?, 0);
                        }
                        Self::put(kept, kept_slot, key, value);
                        kept_slot = kept_slot.wrapping_add(1);
                    }
                    slot = slot.wrapping_add(1);
                }
                if next == 0 {
                    break;
                }
                page = pool.page_mut(Self::link(page))?;
            }
            let (_, rest) = Self::head(kept)?;
            Self::set_head(kept, kept_slot, 0);
            Self::free_chain(pool, rest)
        }
    }

    /// Pages of the bucket whose first page is at `first`.
    #[inline(always)]
    fn pages_of(pool: Pool, first: *const u8) -> Result<u32, PoolError> {
        let (mut page, mut pages) = (first, 1);
        loop {
            // SAFETY: the page was found to be the actor's.
            let (_, next) = unsafe { Self::head(page)? };
            if next == 0 {
                return Ok(pages);
            }
            (page, pages) = (pool.page(next)?, next_hop(pool, pages)?);
        }
    }

    /// Frees the page `first` and those behind it.
    #[inline(always)]
    fn free_chain(pool: Pool, first: u32) -> Result<(), PoolError> {
        let mut id = first;
        while id != 0 {
            // SAFETY: the page was found to be the actor's.
            let (_, next) = unsafe { Self::head(pool.page(id)?)? };
            pool.free(id)?;
            id = next;
        }
        Ok(())
    }

    /// Puts the entries of the last bucket back to those that they were split from.
    #[inline(never)]
    fn merge(&mut self, pool: Pool) -> Result<(), PoolError> {
        let last = self.buckets.wrapping_sub(1);
        let low = last.wrapping_sub(half_of(last));
        let (mut end, _) = self.own_all(pool, low)?;
        let first = tree::leaf(pool, self.root, self.buckets, last)?;
        // As many pages as the bucket has are enough for all of it.
        pool.reserve(Self::pages_of(pool, first)?)?;
        // Nothing fails from here on.
        let mut page = first;
        let rest = loop {
            // SAFETY: the page was found to be the actor's, and nothing has changed since.
            let (count, next) = unsafe { Self::head(page)? };
            let mut slot = 0;
            while slot < count {
                // SAFETY: as above; the other bucket is the message's own.
                unsafe {
                    let (key, value) = (Self::key(page, slot).read(), Self::value(page, slot).read());
                    Self::append(pool, &mut end, key, value)?;
                }
                slot = slot.wrapping_add(1);
            }
            if next == 0 {
                // SAFETY: as above.
                break unsafe { Self::head(first)? }.1;
            }
            page = pool.page(next)?;
        };
        Self::free_chain(pool, rest)?;
        tree::pop(pool, &mut self.root, self.buckets)?;
        self.buckets = last;
        Ok(())
    }

    /// Removes a key; the value that it had. Takes the pages of its bucket.
    ///
    /// # Errors
    /// [`PoolError`].
    #[inline]
    pub fn remove(&mut self, context: &mut Context, key: &K) -> Result<Option<V>, PoolError> {
        context.with_pool(|pool| self.remove_in(pool, key))
    }

    #[inline(never)]
    fn remove_in(&mut self, pool: Pool, key: &K) -> Result<Option<V>, PoolError> {
        let Some(found) = self.find(pool, key)? else { return Ok(None) };
        let (end, link) = self.own_all(pool, found.bucket)?;
        let (hole, _) = self.own(pool, found.bucket, found.hop)?;
        let Some(last) = end.count.checked_sub(1) else { return Err(PoolError::Stale) };
        // SAFETY: all pages of the bucket are the message's own; the last entry fills the hole, and may be it.
        let removed = unsafe {
            let removed = Self::value(hole, found.slot).read();
            let (key, value) = (Self::key(end.page, last).read(), Self::value(end.page, last).read());
            Self::put(hole, found.slot, key, value);
            end.page.cast::<u32>().write(last);
            if last == 0 && !link.is_null() {
                pool.free(link.read())?;
                link.write(0);
            }
            removed
        };
        self.length = self.length.wrapping_sub(1);
        if self.length == 0 {
            self.clear_in(pool)?;
        } else if self.buckets > 1 && self.load_eighths() < self.room().wrapping_mul(MERGE_EIGHTHS) {
            // Without pages for it the map is only larger than it must be.
            let _ = self.merge(pool);
        }
        Ok(Some(removed))
    }

    /// Removes all entries. Takes no page.
    ///
    /// # Errors
    /// [`PoolError::Undeclared`], [`PoolError::Stale`].
    #[inline]
    pub fn clear(&mut self, context: &mut Context) -> Result<(), PoolError> {
        context.with_pool(|pool| self.clear_in(pool))
    }

    #[inline(never)]
    fn clear_in(&mut self, pool: Pool) -> Result<(), PoolError> {
        while let Some(last) = self.buckets.checked_sub(1) {
            let first = tree::leaf(pool, self.root, self.buckets, last)?;
            // SAFETY: the page was found to be the actor's.
            let (_, rest) = unsafe { Self::head(first)? };
            Self::free_chain(pool, rest)?;
            tree::pop(pool, &mut self.root, self.buckets)?;
            self.buckets = last;
        }
        self.length = 0;
        Ok(())
    }

    /// The entries, in the order in which they lie: that follows from the operations that made the map, and is the same on every machine,
    /// but is neither that of the keys nor that in which they came.
    #[inline]
    pub fn iter<'c>(&self, context: &'c Context) -> MapIter<'c, K, V> {
        MapIter { map: *self, context, bucket: 0, page: core::ptr::null(), slot: 0, count: 0, next: 0 }
    }
}

/// The greatest power of two that is not above `buckets`, which is at least 1: the buckets at the beginning of this round.
#[inline(always)]
const fn half_of(buckets: u32) -> u32 {
    1u32.wrapping_shl(31u32.wrapping_sub(buckets.leading_zeros()))
}

/// One page further: no bucket has more pages than the pool, unless a copied handle leads round in circles.
#[inline(always)]
fn next_hop(pool: Pool, hop: u32) -> Result<u32, PoolError> {
    if hop < pool.pages() { Ok(hop.wrapping_add(1)) } else { Err(PoolError::Stale) }
}

/// The entries of a [`PoolMap`]; after an error nothing more comes.
#[derive(Debug)]
pub struct MapIter<'c, K, V> {
    map: PoolMap<K, V>,
    context: &'c Context,
    /// The bucket after that of `page`.
    bucket: u32,
    page: *const u8,
    slot: u32,
    /// Entries of `page`.
    count: u32,
    /// The page behind it in its bucket.
    next: u32,
}

impl<K: Pod, V: Pod> MapIter<'_, K, V> {
    /// Moves to the next page; whether there is one.
    fn turn(&mut self) -> Result<bool, PoolError> {
        let (map, context) = (self.map, self.context);
        if self.next == 0 && self.bucket >= map.buckets {
            return Ok(false);
        }
        context.with_pool(|pool| {
            self.page = if self.next == 0 {
                self.bucket = self.bucket.wrapping_add(1);
                tree::leaf(pool, map.root, map.buckets, self.bucket.wrapping_sub(1))?
            } else {
                pool.page(self.next)?
            };
            // SAFETY: the page was found to be the actor's.
            (self.count, self.next) = unsafe { PoolMap::<K, V>::head(self.page)? };
            self.slot = 0;
            Ok(true)
        })
    }
}

impl<'c, K: Pod, V: Pod> Iterator for MapIter<'c, K, V> {
    type Item = Result<(&'c K, &'c V), PoolError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.slot >= self.count {
            match self.turn() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    (self.bucket, self.next, self.count) = (u32::MAX, 0, 0);
                    return Some(Err(error));
                }
            }
        }
        let slot = self.slot;
        self.slot = slot.wrapping_add(1);
        // SAFETY: as in `PoolMap::get`; the context is borrowed, so the page has not changed since it was found.
        Some(Ok(unsafe { (&*PoolMap::<K, V>::key(self.page, slot), &*PoolMap::<K, V>::value(self.page, slot)) }))
    }
}
