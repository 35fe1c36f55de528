//! Key to partition to shard.
//!
//! A key hashes to one of 16,384 partitions; a table maps partitions to shards. Host and device hold the same table.
//! Moving work changes the table, never the hash.

/// Number of partitions; small enough that a table of them stays in a first-level cache.
pub const PARTITIONS: usize = 1 << PARTITION_BITS;
/// Bits of a partition number.
pub const PARTITION_BITS: u32 = 14;
/// Most shards of one engine: a block's ring positions for all of them must fit in its shared memory.
pub const SHARDS_MAX: u32 = 1024;

/// A table from partition to shard.
pub type PartitionTable = [u16; PARTITIONS];

/// A well-mixed 64-bit hash of an actor's address.
///
/// The finalizer of MurmurHash3 (Appleby, public domain), with the kind folded in first. The upper bits choose the
/// partition, the lower ones the directory bucket.
#[inline(always)]
pub const fn hash(kind: u16, key: u64) -> u64 {
    let mut h = key ^ (kind as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    h ^= h >> 33;
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 33;
    h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

/// The partition of a hash.
#[inline(always)]
pub const fn partition_of(hash: u64) -> usize {
    (hash >> (u64::BITS - PARTITION_BITS)) as usize
}

/// The table of a fresh engine: partitions dealt out evenly.
///
/// `shards` must be in `1 ..= SHARDS_MAX`.
pub fn even_table(shards: u32) -> [u16; PARTITIONS] {
    core::array::from_fn(|partition| (partition as u32 % shards.max(1)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_used_evenly() {
        let mut counts = std::vec![0u32; PARTITIONS];
        for key in 0..PARTITIONS as u64 * 64 {
            counts[partition_of(hash(1, key))] += 1;
        }
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(*least > 24 && *most < 120, "{least} to {most} keys a partition, 64 expected");
    }

    #[test]
    fn kinds_are_apart() {
        assert_ne!(hash(1, 7), hash(2, 7));
    }

    #[test]
    fn the_first_table_is_even() {
        let table = even_table(96);
        let mut counts = [0u32; 96];
        table.iter().for_each(|&shard| counts[usize::from(shard)] += 1);
        assert!(counts.iter().all(|&n| n == 170 || n == 171));
    }
}
