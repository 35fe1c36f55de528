//! What the directory must be able to do when actors leave: find those that are held, free a bucket, and find who was not used for long.

use tourbillon_shared::geometry::{Bucket, EntryHeader};
use tourbillon_shared::mutant;
use tourbillon_shared::partition::hash;
use tourbillon_shared::virtual_actors::{VirtualShard, holder};

use crate::arch::Arch;
use crate::directory::Directory;
use crate::warp::{Warp, lowest};

/// Whether an actor may be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It may.
    Fits,
    /// It may not, for its collections are too large.
    TooLarge,
    /// It is none of those that are looked for.
    Other,
}

/// Says which actors may be evicted.
pub(crate) trait Fits {
    /// Whether any may not; without, nothing is asked and nothing voted on.
    const SOME_DO_NOT: bool;

    /// Whether the actor of a bucket may.
    ///
    /// # Safety
    /// The caller's warp holds the shard's turn, nobody writes the entry, and it is that of the bucket's actor, which nobody holds.
    unsafe fn fit(&self, bucket: &Bucket, entry: *mut EntryHeader) -> Fit;
}

/// No bucket.
pub(crate) const NOWHERE: u32 = u32::MAX;

impl Directory {
    /// The bucket of the actor (`kind`, `key`), whether it is held or not, or the empty one where it would be.
    ///
    /// # Safety
    /// The caller's warp holds the shard's turn.
    pub(crate) unsafe fn locate(&self, hash: u64, kind: u16, key: u64) -> (u32, Bucket) {
        let mut index = hash as u32 & self.mask;
        loop {
            // SAFETY: the index is masked; the caller vouches for the turn.
            let bucket = unsafe { self.bucket(index).read() };
            // The table is at most half full, so a probe always ends at an empty bucket.
            if bucket.kind == 0 || (bucket.key == key && bucket.kind as u16 == kind) {
                return (index, bucket);
            }
            index = index.wrapping_add(1) & self.mask;
        }
    }

    /// Address of the bucket `index`, which is masked.
    #[inline(always)]
    pub(crate) fn bucket(&self, index: u32) -> *mut Bucket {
        self.buckets.wrapping_add((index & self.mask) as usize)
    }

    /// Empties a bucket, and moves those behind it that a lookup would no longer find: so the table is as if the actor had never been
    /// there, and does not fill up with what is gone.
    ///
    /// # Safety
    /// The caller's warp holds the shard's turn, and this lane alone uses the directory.
    #[inline(never)]
    pub(crate) unsafe fn remove(&self, index: u32) {
        let (mut hole, mut next) = (index & self.mask, index);
        loop {
            next = next.wrapping_add(1) & self.mask;
            // SAFETY: both indices are masked; the caller vouches for the rest.
            unsafe {
                let bucket = self.bucket(next).read();
                if bucket.kind == 0 {
                    break;
                }
                let home = hash(bucket.kind as u16, bucket.key) as u32 & self.mask;
                // How far a lookup for it goes, and how far the hole is before it: it may move if the lookup passes the hole.
                let (probe, back) = (next.wrapping_sub(home) & self.mask, next.wrapping_sub(hole) & self.mask);
                let may_move = if mutant!("directory_shift_passes_home") { true } else { probe >= back };
                if may_move {
                    self.bucket(hole).write(bucket);
                    hole = next;
                }
            }
        }
        // SAFETY: as above. An empty bucket names an entry of the slab, as the short way expects.
        unsafe { self.bucket(hole).write(Bucket { key: 0, kind: 0, entry: 0 }) };
    }

    /// The actor that was used least recently among those that nobody holds and that fit: its bucket, or [`NOWHERE`]; and whether one was
    /// passed over because it is too large. All lanes look at a part each.
    ///
    /// # Safety
    /// The caller's warp holds the shard's turn, and nobody writes the directory meanwhile.
    #[inline(never)]
    pub(crate) unsafe fn oldest<A: Arch, F: Fits>(&self, warp: &Warp<A, false>, fits: &F) -> (u32, bool) {
        let (mut index, mut best, mut at) = (warp.rank(), u64::MAX, NOWHERE);
        let mut is_too_large = false;
        while index <= self.mask {
            // SAFETY: the index is inside the table; the caller vouches for the turn.
            let bucket = unsafe { self.bucket(index).read() };
            if bucket.kind != 0 && holder(bucket.kind).is_none() {
                // SAFETY: a bucket that is not empty names the actor's entry.
                let hlc = unsafe { (*self.entry(bucket.entry)).hlc };
                let is_older = if mutant!("evicts_the_latest") { hlc > best } else { hlc < best };
                if is_older || at == NOWHERE {
                    let mut fit = Fit::Fits;
                    if F::SOME_DO_NOT {
                        // SAFETY: as above.
                        fit = unsafe { fits.fit(&bucket, self.entry(bucket.entry)) };
                    }
                    match fit {
                        Fit::Fits => (best, at) = (hlc, index),
                        Fit::TooLarge => is_too_large = true,
                        Fit::Other => {}
                    }
                }
            }
            index = index.wrapping_add(warp.size());
        }
        let has_one = at != NOWHERE;
        // The least of all lanes' timestamps; of lanes without one, nothing is less.
        let least = !warp.max_u64(if has_one { !best } else { 0 });
        let votes = warp.ballot(has_one && best == least);
        let is_too_large = F::SOME_DO_NOT && warp.any(is_too_large);
        (if votes == 0 { NOWHERE } else { warp.broadcast(at, lowest(votes)) }, is_too_large)
    }

    /// The first actor from bucket `from` on, among `buckets` of them, that nobody holds, that was last used before `before`, and that
    /// fits: its bucket, or [`NOWHERE`]; and whether one was passed over because it is too large.
    ///
    /// # Safety
    /// As for [`oldest`](Self::oldest).
    #[inline(never)]
    pub(crate) unsafe fn idle_from<A: Arch, F: Fits>(
        &self,
        warp: &Warp<A, false>,
        (from, buckets): (u32, u32),
        before: u64,
        fits: &F,
    ) -> (u32, bool) {
        let (mut done, mut is_too_large) = (0u32, false);
        while done < buckets {
            let mine = done.wrapping_add(warp.rank());
            let index = from.wrapping_add(mine) & self.mask;
            let mut is_idle = false;
            if mine < buckets {
                // SAFETY: the index is masked; the caller vouches for the turn.
                let bucket = unsafe { self.bucket(index).read() };
                if bucket.kind != 0 && holder(bucket.kind).is_none() {
                    // SAFETY: a bucket that is not empty names the actor's entry.
                    is_idle = unsafe { (*self.entry(bucket.entry)).hlc } < before;
                }
                if F::SOME_DO_NOT && is_idle {
                    // SAFETY: as above.
                    let fit = unsafe { fits.fit(&bucket, self.entry(bucket.entry)) };
                    is_idle = fit == Fit::Fits;
                    is_too_large |= fit == Fit::TooLarge;
                }
            }
            let votes = warp.ballot(is_idle);
            if votes != 0 {
                return (warp.broadcast(index, lowest(votes)), F::SOME_DO_NOT && warp.any(is_too_large));
            }
            done = done.wrapping_add(warp.size());
        }
        (NOWHERE, F::SOME_DO_NOT && warp.any(is_too_large))
    }

    /// Number of buckets minus one.
    #[inline(always)]
    pub(crate) fn buckets_less_one(&self) -> u32 {
        self.mask
    }

    /// An entry for one more actor, all zero; the first of the list of free ones or one that was never used.
    ///
    /// # Safety
    /// The caller's warp holds the shard's turn, and this lane alone uses the slab's accounts.
    pub(crate) unsafe fn take_entry(&self, state: *mut VirtualShard) -> Option<u32> {
        // SAFETY: the caller vouches for the turn; entries of the list are entries of the slab.
        unsafe {
            let first = (*state).free_entry;
            if first != 0 {
                let index = first.wrapping_sub(1);
                let entry = self.entry(index);
                (*state).free_entry = (*entry).version as u32;
                (*state).free_entries = (*state).free_entries.wrapping_sub(1);
                if !mutant!("entry_reused_as_it_was") {
                    self.clear_entry(index);
                }
                return Some(index);
            }
            let used = (*self.shard).actors;
            if used >= self.capacity {
                return None;
            }
            (*self.shard).actors = used.wrapping_add(1);
            Some(used)
        }
    }

    /// Makes an entry all zero.
    ///
    /// # Safety
    /// As for [`take_entry`](Self::take_entry); the entry is one of the slab, and nobody else uses it.
    pub(crate) unsafe fn clear_entry(&self, index: u32) {
        let words = self.entry(index).cast::<u64>();
        let mut word = 0;
        while word < (self.stride / 8) as usize {
            // SAFETY: the caller vouches for the entry, which has as many words.
            unsafe { words.wrapping_add(word).write(0) };
            word = word.wrapping_add(1);
        }
    }

    /// Gives an entry to the list of free ones.
    ///
    /// # Safety
    /// As for [`take_entry`](Self::take_entry); nobody uses the entry any more.
    pub(crate) unsafe fn give_entry(&self, state: *mut VirtualShard, index: u32) {
        // SAFETY: the caller vouches for both.
        unsafe {
            self.entry(index).write(EntryHeader { hlc: 0, version: u64::from((*state).free_entry) });
            (*state).free_entry = index.wrapping_add(1);
            (*state).free_entries = (*state).free_entries.wrapping_add(1);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::directory::Place;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use tourbillon_shared::geometry::{DeviceLayout, Geometry, KernelArguments, LaneAddresses};
    use tourbillon_shared::virtual_actors::held;

    const ACTORS: u32 = 16;

    /// The directory of a shard in memory of the test.
    #[derive(Debug)]
    pub(crate) struct Memory {
        _words: Vec<u128>,
        pub(crate) directory: Directory,
    }

    impl Memory {
        /// One shard with room for 16 actors.
        pub(crate) fn geometry() -> Geometry {
            Geometry {
                blocks: 1,
                gates: 1,
                warps_per_block: 1,
                combined: 1,
                shards: 1,
                lanes: 1,
                ring_log2: 4,
                actors_per_shard: ACTORS,
                entry_stride: 32,
                directory_log2: Geometry::directory_log2_for(ACTORS),
                landing_bytes: 0,
                outbox_log2: 0,
                dedup_entries: 16,
                dead_letters_log2: 4,
                pool_pages: 0,
                published_pages: 0,
                waiters: 0,
                store_log2: 0,
                mailbox_log2: 0,
                overflow_log2: 0,
            }
        }

        /// Without an actor.
        pub(crate) fn new() -> Self {
            let geometry = Self::geometry();
            let layout = DeviceLayout::new(&geometry);
            let mut words = vec![0u128; layout.total_bytes as usize / 16];
            let arguments = KernelArguments {
                abi_hash: 0,
                control: 0,
                telemetry: 0,
                lanes: core::ptr::null::<LaneAddresses>() as u64,
                memory: words.as_mut_ptr() as u64,
                layout,
                geometry,
                refresh_ns: 0,
                beat_ns: 0,
                reserved: [0; 2],
            };
            let directory = Directory::new(&arguments, 0);
            Self { _words: words, directory }
        }
    }

    proptest! {
        /// Against a map: actors come and go, and are held, in any order; at most as many as there is room for. Keys are few, and half
        /// of them begin at the same few buckets.
        #[test]
        fn the_directory_is_a_map_from_which_actors_leave(steps in proptest::collection::vec((0u64..40, 0u32..4), 1..300)) {
            let memory = Memory::new();
            let directory = memory.directory;
            let mut oracle = BTreeMap::new();
            // Keys whose homes are among four buckets, and others.
            let crowded: Vec<u64> = (0..100_000).filter(|key| hash(1, *key) as u32 & directory.mask < 4).take(20).collect();
            let key_of = |number: u64| crowded.get(number as usize).copied().unwrap_or(number << 40);
            for (number, what) in steps {
                let key = key_of(number);
                // SAFETY: the directory lies in memory of this test, which alone uses it.
                unsafe {
                    let (index, bucket) = directory.locate(hash(1, key), 1, key);
                    prop_assert_eq!(bucket.kind != 0, oracle.contains_key(&key));
                    match what {
                        0 | 1 if bucket.kind == 0 && oracle.len() < ACTORS as usize => {
                            let kind = if what == 0 { 1 } else { held(1, 3) };
                            directory.bucket(index).write(Bucket { key, kind, entry: number as u32 % ACTORS });
                            oracle.insert(key, kind);
                        }
                        2 if bucket.kind != 0 => {
                            directory.remove(index);
                            oracle.remove(&key);
                        }
                        _ => {}
                    }
                    for number in 0..40 {
                        let key = key_of(number);
                        let (_, bucket) = directory.locate(hash(1, key), 1, key);
                        prop_assert_eq!(bucket.kind, oracle.get(&key).copied().unwrap_or(0));
                        // A lookup for a message finds those alone that nobody holds.
                        let found = matches!(directory.find(hash(1, key), 1, key), Place::Found(_));
                        prop_assert_eq!(found, bucket.kind == 1);
                    }
                    let used = (0..=directory.mask).filter(|index| directory.bucket(*index).read().kind != 0).count();
                    prop_assert_eq!(used, oracle.len());
                }
            }
        }
    }
}
