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

/// A 64-bit hash of an actor's address.
///
/// One multiplication between two folds: the odd factor is that of Fibonacci hashing (Knuth, *The Art of Computer
/// Programming* 3, 6.4), after which the upper bits are the best ones. They choose the partition; folded onto the lower ones they
/// choose the directory bucket. Gate and shard compute it for every message, so every step of it is latency.
#[inline(always)]
pub const fn hash(kind: u16, key: u64) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut h = key ^ (kind as u64).wrapping_mul(FACTOR);
    h ^= h >> 32;
    h = h.wrapping_mul(FACTOR);
    h ^ (h >> 32)
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
    use std::vec;
    use std::vec::Vec;

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

    /// Keys as programs make them: counted, in steps of a power of two, in the upper half only, and mixed.
    #[test]
    fn buckets_are_used_evenly_by_keys_of_any_make() {
        const BUCKETS: usize = 1 << 12;
        let mut word = 1u64;
        let mut mixed = move || {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            word ^ word >> 29
        };
        let mixed: Vec<u64> = (0..BUCKETS / 2).map(|_| mixed()).collect();
        for step in [1u64, 2, 64, 4096, 1 << 20, 1 << 32, 1 << 40, 1 << 51, 0] {
            let keys = (0..BUCKETS / 2).map(|i| if step == 0 { mixed[i] } else { i as u64 * step });
            let (mut of_bucket, mut of_partition) = (vec![0u32; BUCKETS], vec![0u32; PARTITIONS / 16]);
            for key in keys {
                of_bucket[hash(7, key) as usize % BUCKETS] += 1;
                of_partition[partition_of(hash(7, key)) / 16] += 1;
            }
            // Half as many keys as buckets; a random hash puts 6 or 7 into the fullest.
            assert!(*of_bucket.iter().max().unwrap() <= 10, "keys in steps of {step}: a bucket is crowded");
            assert!(*of_partition.iter().max().unwrap() <= 16, "keys in steps of {step}: partitions are crowded");
        }
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
