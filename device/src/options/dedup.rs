//! A shard's window of message ids, in device memory; [`tourbillon_shared::dedup`] has its layout.

use tourbillon_shared::dedup::{DEDUP_PAYLOAD_BYTES, DedupEntry, DedupState, dedup_bucket, dedup_buckets, dedup_bytes};
use tourbillon_shared::geometry::KernelArguments;
use tourbillon_shared::header::{Flags, Header};
use tourbillon_shared::mutant;
use tourbillon_shared::partition::{hash, partition_of};

/// The window of one shard. Its methods are for the holder of the shard's turn, one lane at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    state: *mut DedupState,
    entries: u32,
}

impl Window {
    /// That of the shard of an actor.
    #[inline(always)]
    pub(super) fn of(arguments: &KernelArguments, kind: u16, key: u64) -> Self {
        let table = arguments.memory.wrapping_add(arguments.layout.table) as *const u16;
        // SAFETY: a partition is inside the table, which nobody writes while the kernel runs.
        let shard = unsafe { table.wrapping_add(partition_of(hash(kind, key))).read() };
        let entries = arguments.geometry.dedup_entries;
        let before = u64::from(shard).wrapping_mul(dedup_bytes(entries));
        Self::at(arguments.memory.wrapping_add(arguments.layout.dedups).wrapping_add(before), entries)
    }

    #[inline(always)]
    fn at(address: u64, entries: u32) -> Self {
        Self { state: address as *mut DedupState, entries }
    }

    #[inline(always)]
    fn entry(&self, index: u32) -> *mut DedupEntry {
        self.state.wrapping_add(1).cast::<DedupEntry>().wrapping_add(index as usize)
    }

    /// The word that leads to the first entry of the bucket of `id`.
    #[inline(always)]
    fn head(&self, id: &[u32; 4]) -> *mut u16 {
        let bucket = dedup_bucket(id, dedup_buckets(self.entries));
        self.entry(self.entries).cast::<u16>().wrapping_add(bucket as usize)
    }

    /// The entry of a message; null when it is not in the window.
    ///
    /// # Safety
    /// The caller holds the turn.
    #[inline(always)]
    pub(super) unsafe fn find(&self, kind: u16, key: u64, id: &[u32; 4]) -> *const DedupEntry {
        // SAFETY: the word is one of the window's, and so is every entry that it or another leads to.
        unsafe {
            let mut next = self.head(id).read();
            while next != 0 {
                let entry = self.entry(u32::from(next).wrapping_sub(1));
                let is_other_actor = (*entry).kind != kind || (*entry).key != key;
                if (*entry).id == *id && (!is_other_actor || mutant!("dedup_ignores_actor")) {
                    return entry;
                }
                next = (*entry).next;
            }
        }
        core::ptr::null()
    }

    /// Notes which message is about to run: its reply will be written over its id.
    ///
    /// # Safety
    /// As for [`find`](Self::find).
    #[inline(always)]
    pub(super) unsafe fn prepare(&self, header: &Header, id: &[u32; 4]) {
        // SAFETY: the state is the window's.
        unsafe {
            let pending = &raw mut (*self.state).pending;
            (*pending).id = *id;
            (*pending).key = header.key;
            (*pending).kind = header.kind;
            (*pending).message = header.message;
            if mutant!("dedup_remembers_failures") {
                self.remember(&Header { length: u16::MAX, ..*header }, 0, [0; 4]);
            }
        }
    }

    /// Enters the message that ran, in place of the oldest. `reply` is the header of its reply, `payload` the beginning of that.
    ///
    /// # Safety
    /// As for [`find`](Self::find); [`prepare`](Self::prepare) was called for the message, which is not in the window.
    #[inline(always)]
    pub(super) unsafe fn remember(&self, reply: &Header, version: u64, payload: [u32; DEDUP_PAYLOAD_BYTES / 4]) {
        // SAFETY: the state is the window's, `oldest` is below the number of entries, and words lead to entries of the window.
        unsafe {
            let index = (*self.state).oldest;
            let entry = self.entry(index);
            let number = index.wrapping_add(1);
            if (*entry).kind != 0 {
                self.unlink(entry, number as u16);
            }
            let mut new = (*self.state).pending;
            let is_kept = reply.length as usize <= DEDUP_PAYLOAD_BYTES && !reply.flags.has(Flags::ARENA);
            new.is_kept = is_kept.into();
            (new.version, new.length, new.payload) = (version, reply.length, payload);
            let head = self.head(&new.id);
            new.next = head.read();
            entry.write(new);
            head.write(number as u16);
            let is_last = number == self.entries || (mutant!("dedup_window_short") && number == self.entries / 2);
            (*self.state).oldest = if is_last { 0 } else { number };
        }
    }

    /// Takes the entry of this number, which is in the window, out of its chain.
    #[inline(always)]
    unsafe fn unlink(&self, entry: *const DedupEntry, number: u16) {
        // SAFETY: the caller, as above.
        unsafe {
            let mut from = self.head(&(*entry).id);
            loop {
                let next = from.read();
                if next == 0 {
                    return;
                }
                if next == number {
                    from.write((*entry).next);
                    return;
                }
                from = &raw mut (*self.entry(u32::from(next).wrapping_sub(1))).next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[repr(C, align(128))]
    #[derive(Clone, Copy)]
    struct Line([u64; 16]);

    proptest! {
        /// Ids that collide, actors that share ids, windows of every size: what is found is what a list of the last messages has.
        #[test]
        fn a_window_is_a_list_of_the_last_messages(
            entries in prop_oneof![Just(16u32), Just(17), Just(31), Just(1024), 16u32..100],
            steps in proptest::collection::vec((0u32..60, 1u16..3, 0u64..2, 0u16..20), 0..400),
        ) {
            let mut memory = vec![Line([0; 16]); dedup_bytes(entries) as usize / 128];
            let window = Window::at(memory.as_mut_ptr() as u64, entries);
            let mut oracle: VecDeque<((u32, u16, u64), u64, u16)> = VecDeque::new();
            for (number, (id, kind, key, length)) in steps.into_iter().enumerate() {
                let words = [id, 0, id % 3, 0];
                let header = Header { kind, key, message: 3, length, ..Header::default() };
                // SAFETY: the memory is a window's, and this thread's alone.
                let found = unsafe { window.find(kind, key, &words).as_ref() };
                let known = oracle.iter().find(|(message, ..)| *message == (id, kind, key));
                prop_assert_eq!(found.map(|entry| (entry.version, entry.length)), known.map(|(_, version, length)| (*version, *length)));
                if let Some(entry) = found {
                    prop_assert_eq!(entry.is_kept == 1, entry.length <= 16);
                    prop_assert_eq!((entry.message, entry.payload), (3, [entry.version as u32; 4]));
                    continue;
                }
                let version = number as u64;
                // SAFETY: as above.
                unsafe {
                    window.prepare(&header, &words);
                    window.remember(&header, version, [number as u32; 4]);
                }
                oracle.push_front(((id, kind, key), version, length));
                oracle.truncate(entries as usize);
            }
        }
    }
}
