//! From a key to an actor's place.
//!
//! Open addressing with linear probing in device memory, one table for each shard, written only by the holder of the shard's
//! turn. The table has at least twice as many buckets as the shard may have actors, so a probe always ends at an empty one. What
//! actors that leave need of it is in the module `virtual_actors`.

use tourbillon_shared::geometry::{Bucket, EntryHeader, KernelArguments, ShardState};

/// The directory and the slab of one shard.
#[derive(Clone, Copy, Debug)]
pub struct Directory {
    pub(crate) buckets: *mut Bucket,
    /// Number of buckets minus one.
    pub(crate) mask: u32,
    pub(crate) slab: *mut u8,
    pub(crate) stride: u32,
    pub(crate) capacity: u32,
    pub(crate) shard: *mut ShardState,
}

/// Where a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At the actor.
    Found(*mut EntryHeader),
    /// At the empty bucket of this index, where the actor would be.
    Missing(u32),
}

impl Directory {
    /// The directory of shard `shard`.
    #[inline(always)]
    pub fn new(arguments: &KernelArguments, shard: u32) -> Self {
        let (geometry, layout) = (&arguments.geometry, &arguments.layout);
        let at = |base: u64, bytes: u64| {
            arguments.memory.wrapping_add(base).wrapping_add(u64::from(shard).wrapping_mul(bytes))
        };
        let entries = u64::from(geometry.actors_per_shard).wrapping_mul(u64::from(geometry.entry_stride));
        let buckets = (size_of::<Bucket>() as u64).wrapping_shl(geometry.directory_log2);
        Self {
            buckets: at(layout.directories, buckets) as *mut Bucket,
            mask: 1u32.wrapping_shl(geometry.directory_log2).wrapping_sub(1),
            slab: at(layout.slabs, entries) as *mut u8,
            stride: geometry.entry_stride,
            capacity: geometry.actors_per_shard,
            shard: at(layout.shards, size_of::<ShardState>() as u64) as *mut ShardState,
        }
    }

    #[inline(always)]
    pub(crate) fn entry(&self, index: u32) -> *mut EntryHeader {
        let offset = u64::from(index).wrapping_mul(u64::from(self.stride));
        self.slab.wrapping_add(offset as usize).cast()
    }

    /// A directory that is good for [`find_at_home`](Self::find_at_home) alone: where its buckets are, their number minus one, where its
    /// entries are, and their distance.
    #[inline(always)]
    pub(crate) const fn at_home(buckets: *mut Bucket, mask: u32, slab: *mut u8, stride: u32) -> Self {
        Self { buckets, mask, slab, stride, capacity: 0, shard: core::ptr::null_mut() }
    }

    /// The first bucket of an actor whose hash is `hash`.
    #[inline(always)]
    pub(crate) fn home_of(&self, hash: u64) -> *const Bucket {
        self.buckets.wrapping_add((hash as u32 & self.mask) as usize)
    }

    /// Looks the actor (`kind`, `key`), whose hash is `hash`, up in its first bucket only, where most actors are: whose entry that
    /// bucket names, and whether that is this actor.
    ///
    /// # Safety
    /// The caller's warp holds the shard's turn.
    #[inline(always)]
    pub unsafe fn find_at_home(&self, hash: u64, kind: u16, key: u64) -> (*mut EntryHeader, bool) {
        // SAFETY: the index is masked; the turn orders this after every insertion.
        let bucket = unsafe { self.home_of(hash).read() };
        (self.entry(bucket.entry), (bucket.key == key) & (bucket.kind == u32::from(kind)))
    }

    /// Looks the actor (`kind`, `key`) up, whose hash is `hash`.
    ///
    /// # Safety
    /// The caller's warp holds the shard's turn.
    #[inline(always)]
    pub unsafe fn find(&self, hash: u64, kind: u16, key: u64) -> Place {
        let mut index = hash as u32 & self.mask;
        loop {
            // SAFETY: the index is masked; the turn orders this after every insertion.
            let bucket = unsafe { self.buckets.wrapping_add(index as usize).read() };
            if bucket.kind == 0 {
                return Place::Missing(index);
            }
            if bucket.key == key && bucket.kind == u32::from(kind) {
                return Place::Found(self.entry(bucket.entry));
            }
            index = index.wrapping_add(1) & self.mask;
        }
    }

    /// Makes room for the actor (`kind`, `key`), which is not in the directory; nothing when the shard is full.
    ///
    /// # Safety
    /// The caller's warp holds the shard's turn, and no other lane inserts at the same time.
    #[inline(always)]
    pub unsafe fn insert(&self, hash: u64, kind: u16, key: u64) -> Option<*mut EntryHeader> {
        // SAFETY: the turn makes this warp, and the caller this lane, the only one.
        unsafe {
            let entry = (*self.shard).actors;
            if entry >= self.capacity {
                return None;
            }
            // Another lane may have filled the bucket that an earlier probe ended at.
            match self.find(hash, kind, key) {
                Place::Found(entry) => Some(entry),
                Place::Missing(index) => {
                    (*self.shard).actors = entry.wrapping_add(1);
                    self.buckets.wrapping_add(index as usize).write(Bucket { key, kind: u32::from(kind), entry });
                    Some(self.entry(entry))
                }
            }
        }
    }
}
