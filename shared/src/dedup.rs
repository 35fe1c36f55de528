//! The window of message ids of a shard: which messages were handled, and with what answer.
//!
//! A window remembers the last [`dedup_entries`](crate::geometry::Geometry::dedup_entries) messages with an id that the shard handled
//! *without a failure*, whoever sent them. Its key is actor and id: the same id at another actor is another message. A message that
//! fails or panics leaves no trace in its actor, and none here: it may be sent again under the same id, and is run again. An id
//! that fell out of the window is forgotten, and its message run again.
//!
//! Entries stand in a ring in the order in which they came. To find one without looking at all, those of one bucket are chained:
//! `heads` has the first entry of each bucket, every entry the next, both as index plus one.

use bytemuck::{Pod, Zeroable};

/// Fewest ids that a window may have.
pub const DEDUP_ENTRIES_MIN: u32 = 16;
/// Most ids that a window may have: some 68 KiB of device memory for each shard.
pub const DEDUP_ENTRIES_MAX: u32 = 1024;
/// Bytes of the largest answer that an entry keeps: that of a reply of one slot.
pub const DEDUP_PAYLOAD_BYTES: usize = crate::frame::PAYLOAD_BYTES_OF_ONE_SLOT;

/// A message that was handled.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct DedupEntry {
    /// Its id, the lowest word first.
    pub id: [u32; 4],
    /// Key of its actor.
    pub key: u64,
    /// The actor's version after it.
    pub version: u64,
    /// Kind of its actor; 0 when the entry is empty.
    pub kind: u16,
    /// Number of the message.
    pub message: u8,
    /// 1 when `payload` is its reply, 0 when that was too large.
    pub is_kept: u8,
    /// Payload bytes of the reply.
    pub length: u16,
    /// Index of the next entry of the same bucket, plus one; 0 at the end.
    pub next: u16,
    /// Zero.
    pub reserved: u64,
    /// Payload of the reply.
    pub payload: [u32; DEDUP_PAYLOAD_BYTES / 4],
}

/// What a shard keeps in front of its entries. Read and written by the holder of the shard's turn.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct DedupState {
    /// The message that runs: entered when it has succeeded.
    pub pending: DedupEntry,
    /// Index of the entry that is overwritten next.
    pub oldest: u32,
    /// Zero.
    pub reserved: [u32; 15],
}

/// Buckets of a window of `entries` entries: a power of two.
#[inline(always)]
pub const fn dedup_buckets(entries: u32) -> u32 {
    // By hand: the library's has a panicking path, and the device code may not.
    1u32.wrapping_shl(u32::BITS.wrapping_sub(entries.wrapping_sub(1).leading_zeros()))
}

/// Bytes of a shard's window: its state, its entries, and a u16 for each bucket.
#[inline(always)]
pub const fn dedup_bytes(entries: u32) -> u64 {
    let heads = dedup_buckets(entries) as u64 * 2;
    let bytes = size_of::<DedupState>() as u64 + entries as u64 * size_of::<DedupEntry>() as u64 + heads;
    bytes.next_multiple_of(128)
}

/// The bucket of an id, among `buckets`. Ids of one sender are often consecutive numbers.
#[inline(always)]
pub const fn dedup_bucket(id: &[u32; 4], buckets: u32) -> u32 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let low = id[0] as u64 | (id[1] as u64) << 32;
    let high = id[2] as u64 | (id[3] as u64) << 32;
    let mixed = (low ^ high.rotate_left(32).wrapping_mul(FACTOR)).wrapping_mul(FACTOR);
    (mixed >> 32) as u32 & buckets.wrapping_sub(1)
}

const _: () = {
    assert!(size_of::<DedupEntry>() == 64);
    assert!(size_of::<DedupState>() == 128);
    // An index plus one is a u16.
    assert!(DEDUP_ENTRIES_MAX < u16::MAX as u32);
    assert!(DEDUP_ENTRIES_MIN > 0);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_of_the_largest_size_is_as_large_as_is_said() {
        assert_eq!(dedup_bytes(DEDUP_ENTRIES_MAX), 128 + 65_536 + 2_048);
        assert_eq!(dedup_bytes(17) % 128, 0);
        for entries in DEDUP_ENTRIES_MIN..=DEDUP_ENTRIES_MAX {
            assert_eq!(dedup_buckets(entries), entries.next_power_of_two());
        }
    }

    #[test]
    fn consecutive_ids_spread() {
        let mut used = std::collections::BTreeSet::new();
        for id in 0..1024u32 {
            used.insert(dedup_bucket(&[id, 0, 0, 0], 1024));
            assert!(dedup_bucket(&[id, 7, 9, u32::MAX], 16) < 16);
        }
        assert!(used.len() > 500, "{}", used.len());
    }
}
