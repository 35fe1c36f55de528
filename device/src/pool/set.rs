//! A set.

use super::contents::Collections;
use super::{MapIter, PoolError, PoolMap};
use crate::context::Context;
use crate::plain::{Plain, layout};

/// A set of keys in the pool of its actor's shard: a [`PoolMap`] without values, of which all that is said there holds.
#[repr(C)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct PoolSet<K> {
    map: PoolMap<K, ()>,
}

impl<K> Clone for PoolSet<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for PoolSet<K> {}
impl<K> Default for PoolSet<K> {
    fn default() -> Self {
        Self::new()
    }
}
// SAFETY: a map, which is plain data, and nothing else.
#[diagnostic::do_not_recommend]
unsafe impl<K: Plain> Plain for PoolSet<K> {
    const LAYOUT: u64 = layout::number(layout::begin("set", size_of::<Self>(), align_of::<Self>()), K::LAYOUT);
    const ZERO_IS_VALID: bool = true;
    const COLLECTIONS: Collections = Collections::one(PoolMap::<K, ()>::collection(Self::LAYOUT));

    #[inline(always)]
    unsafe fn is_valid(_at: *const Self) -> bool {
        true
    }
}

impl<K> PoolSet<K> {
    /// The empty set.
    #[inline]
    pub const fn new() -> Self {
        Self { map: PoolMap::new() }
    }

    /// Keys.
    #[inline]
    pub const fn len(&self) -> u32 {
        self.map.len()
    }

    /// Whether there is none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
}

impl<K: Plain> PoolSet<K> {
    /// Whether a key is in the set.
    ///
    /// # Errors
    /// As [`PoolMap::get`].
    #[inline]
    pub fn contains(&self, context: &Context, key: &K) -> Result<bool, PoolError> {
        self.map.contains_key(context, key)
    }

    /// Adds a key; whether it was not there before.
    ///
    /// # Errors
    /// As [`PoolMap::insert`].
    #[inline]
    pub fn insert(&mut self, context: &mut Context, key: K) -> Result<bool, PoolError> {
        Ok(self.map.insert(context, key, ())?.is_none())
    }

    /// Removes a key; whether it was there.
    ///
    /// # Errors
    /// As [`PoolMap::remove`].
    #[inline]
    pub fn remove(&mut self, context: &mut Context, key: &K) -> Result<bool, PoolError> {
        Ok(self.map.remove(context, key)?.is_some())
    }

    /// Removes all keys. Takes no page.
    ///
    /// # Errors
    /// As [`PoolMap::clear`].
    #[inline]
    pub fn clear(&mut self, context: &mut Context) -> Result<(), PoolError> {
        self.map.clear(context)
    }

    /// The keys, in the order of [`PoolMap::iter`].
    #[inline]
    pub fn iter<'c>(&self, context: &'c Context) -> impl Iterator<Item = Result<&'c K, PoolError>> {
        let entries: MapIter<'c, K, ()> = self.map.iter(context);
        entries.map(|entry| entry.map(|(key, ())| key))
    }
}
