//! A map.

use core::marker::PhantomData;

use tourbillon_shared::pool::PAGE_BYTES;

use super::contents::{Collection, Collections};
use super::table::{self, HEAD_BYTES, Shape, Table};
use super::{PoolError, tree};
use crate::actor::ALIGNMENT_MAX;
use crate::context::Context;
use crate::plain::{Plain, layout};

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
    table: Table,
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
// SAFETY: three words without padding, any of which are a value: what they lead to is checked.
#[diagnostic::do_not_recommend]
unsafe impl<K: Plain, V: Plain> Plain for PoolMap<K, V> {
    const LAYOUT: u64 = {
        let hash = layout::begin("map", size_of::<Self>(), align_of::<Self>());
        layout::number(layout::number(hash, K::LAYOUT), V::LAYOUT)
    };
    const ZERO_IS_VALID: bool = true;
    const COLLECTIONS: Collections = Collections::one(Self::collection(Self::LAYOUT));

    #[inline(always)]
    unsafe fn is_valid(_at: *const Self) -> bool {
        true
    }
}

impl<K, V> PoolMap<K, V> {
    /// The empty map.
    #[inline]
    pub const fn new() -> Self {
        Self { table: Table { root: 0, buckets: 0, length: 0 }, entries: PhantomData }
    }

    /// Entries.
    #[inline]
    pub const fn len(&self) -> u32 {
        self.table.length
    }

    /// Whether there is none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.table.length == 0
    }
}

impl<K: Plain, V: Plain> PoolMap<K, V> {
    const VALUE_AT: usize = size_of::<K>().next_multiple_of(align_of::<V>());
    const SHAPE: Shape = {
        let aligned = if align_of::<K>() > align_of::<V>() { align_of::<K>() } else { align_of::<V>() };
        let stride = (Self::VALUE_AT + size_of::<V>()).next_multiple_of(aligned);
        assert!(size_of::<K>() != 0, "a key has at least one byte");
        assert!(stride <= PAGE_BYTES - HEAD_BYTES, "a key and its value have up to 240 bytes");
        assert!(aligned <= ALIGNMENT_MAX, "the key or its value is aligned to more than 16 bytes");
        let per_page = ((PAGE_BYTES - HEAD_BYTES) / stride) as u32;
        Shape { key: size_of::<K>() as u32, stride: stride as u32, per_page }
    };

    /// What is to be known of it to move its pages; a set has another layout than the map that it is.
    pub(super) const fn collection(layout: u64) -> Collection {
        Collection::map::<K, V>(layout, Self::VALUE_AT, Self::SHAPE.stride, Self::SHAPE.per_page)
    }

    #[inline(always)]
    fn bytes(key: &K) -> *const u8 {
        core::ptr::from_ref(key).cast()
    }

    /// The value of an entry.
    #[inline(always)]
    fn value(entry: *const u8) -> *const V {
        entry.wrapping_add(Self::VALUE_AT).cast()
    }

    /// The value of a key, if it is there.
    ///
    /// # Errors
    /// [`PoolError::Undeclared`], [`PoolError::Stale`].
    #[inline]
    pub fn get<'c>(&self, context: &'c Context, key: &K) -> Result<Option<&'c V>, PoolError> {
        context.with_pool(|pool| {
            let (entry, ..) = table::find(pool, &self.table, Self::SHAPE, Self::bytes(key))?;
            if entry.is_null() {
                return Ok(None);
            }
            let value = Self::value(entry);
            // SAFETY: the entry lies in a page of the actor, which only changes through a borrow of the context; its bytes were found to
            // be a value, and it is aligned as the page's beginning is.
            unsafe { if V::is_valid(value) { Ok(Some(&*value)) } else { Err(PoolError::Stale) } }
        })
    }

    /// The value of a key, if it is there, to be changed. Takes the pages that lead to it.
    ///
    /// # Errors
    /// [`PoolError`].
    #[inline]
    pub fn get_mut<'c>(&mut self, context: &'c mut Context, key: &K) -> Result<Option<&'c mut V>, PoolError> {
        context.with_pool(|pool| {
            let entry = table::find_mut(pool, &mut self.table, Self::SHAPE, Self::bytes(key))?;
            if entry.is_null() {
                return Ok(None);
            }
            let value = Self::value(entry).cast_mut();
            // SAFETY: as in `get`; the page is the message's own, and the borrow of the context makes this its only use.
            unsafe { if V::is_valid(value) { Ok(Some(&mut *value)) } else { Err(PoolError::Stale) } }
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
        if let Some(held) = self.get_mut(context, &key)? {
            return Ok(Some(core::mem::replace(held, value)));
        }
        context.with_pool(|pool| {
            let entry = table::add(pool, &mut self.table, Self::SHAPE, Self::bytes(&key))?;
            // SAFETY: a place for an entry in a page that is the message's own.
            unsafe {
                entry.cast::<K>().write(key);
                Self::value(entry).cast_mut().write(value);
            }
            table::grow(pool, &mut self.table, Self::SHAPE);
            Ok(None)
        })
    }

    /// Removes a key; the value that it had. Takes the pages of its bucket.
    ///
    /// # Errors
    /// [`PoolError`].
    #[inline]
    pub fn remove(&mut self, context: &mut Context, key: &K) -> Result<Option<V>, PoolError> {
        let Some(removed) = self.get(context, key)?.copied() else { return Ok(None) };
        context.with_pool(|pool| table::remove(pool, &mut self.table, Self::SHAPE, Self::bytes(key)))?;
        Ok(Some(removed))
    }

    /// Removes all entries. Takes no page.
    ///
    /// # Errors
    /// [`PoolError::Undeclared`], [`PoolError::Stale`].
    #[inline]
    pub fn clear(&mut self, context: &mut Context) -> Result<(), PoolError> {
        context.with_pool(|pool| table::clear(pool, &mut self.table, Self::SHAPE))
    }

    /// The entries, in the order in which they lie: that follows from the operations that made the map, and is the same on every machine,
    /// but is neither that of the keys nor that in which they came.
    #[inline]
    pub fn iter<'c>(&self, context: &'c Context) -> MapIter<'c, K, V> {
        MapIter { map: *self, context, bucket: 0, page: core::ptr::null(), slot: 0, count: 0, next: 0, hops: 0 }
    }
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
    /// Pages of the bucket in front of it.
    hops: u32,
}

impl<K: Plain, V: Plain> MapIter<'_, K, V> {
    /// Moves to the next page; whether there is one.
    fn turn(&mut self) -> Result<bool, PoolError> {
        let (of, context) = (self.map.table, self.context);
        if self.next == 0 && self.bucket >= of.buckets {
            return Ok(false);
        }
        context.with_pool(|pool| {
            self.page = if self.next == 0 {
                (self.bucket, self.hops) = (self.bucket.wrapping_add(1), 0);
                tree::leaf(pool, of.root, of.buckets, self.bucket.wrapping_sub(1))?
            } else {
                self.hops = table::next_hop(pool, self.hops)?;
                pool.page(self.next)?
            };
            // SAFETY: the page was found to be the actor's.
            (self.count, self.next) = unsafe { PoolMap::<K, V>::SHAPE.head(self.page)? };
            self.slot = 0;
            Ok(true)
        })
    }
}

impl<'c, K: Plain, V: Plain> Iterator for MapIter<'c, K, V> {
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
        let entry = PoolMap::<K, V>::SHAPE.entry(self.page, self.slot);
        self.slot = self.slot.wrapping_add(1);
        let (key, value) = (entry.cast::<K>(), PoolMap::<K, V>::value(entry));
        // SAFETY: as in `PoolMap::get`; the context is borrowed, so the page has not changed since it was found.
        Some(unsafe {
            if K::is_valid(key) && V::is_valid(value) { Ok((&*key, &*value)) } else { Err(PoolError::Stale) }
        })
    }
}
