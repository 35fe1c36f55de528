//! Keys by their bytes: equal when those are, hashed the same on every machine.

use bytemuck::Pod;

/// Bytes that are looked at as one.
const WORD: usize = size_of::<u32>();
/// The odd number that partitions are hashed with as well: 2^64 over the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Word `index` of a key: the last one is filled up with zeros.
///
/// # Safety
/// `key` is valid for reads of `bytes` bytes, of which word `index` begins inside.
#[inline(always)]
unsafe fn word(key: *const u8, bytes: usize, index: usize) -> u32 {
    let at = index.wrapping_mul(WORD);
    // SAFETY: the caller vouches for what is read, which ends before `bytes`.
    unsafe {
        if at.wrapping_add(WORD) <= bytes {
            return key.wrapping_add(at).cast::<u32>().read_unaligned();
        }
        let (mut word, mut byte) = (0, at);
        while byte < bytes {
            word |= u32::from(key.wrapping_add(byte).read()).wrapping_shl((byte % WORD * 8) as u32);
            byte = byte.wrapping_add(1);
        }
        word
    }
}

/// The hash of a key: 32 well-mixed bits.
#[inline(always)]
pub(super) fn hash<K: Pod>(key: &K) -> u32 {
    let from = core::ptr::from_ref(key).cast::<u8>();
    let mut hash = size_of::<K>() as u64;
    let mut index = 0;
    while index < size_of::<K>().div_ceil(WORD) {
        // SAFETY: the word begins inside the key, which is plain data without padding.
        hash = (hash ^ u64::from(unsafe { word(from, size_of::<K>(), index) })).wrapping_mul(FACTOR);
        hash ^= hash >> 32;
        index = index.wrapping_add(1);
    }
    // Once more, so that the low bits depend on all of the last word.
    (hash.wrapping_mul(FACTOR) >> 32) as u32
}

/// Whether a key has the bytes of the one at `other`.
///
/// # Safety
/// `other` is valid for reads of a key.
#[inline(always)]
pub(super) unsafe fn equals<K: Pod>(key: &K, other: *const u8) -> bool {
    let from = core::ptr::from_ref(key).cast::<u8>();
    let mut index = 0;
    while index < size_of::<K>().div_ceil(WORD) {
        // SAFETY: as in `hash`; the caller vouches for the other key.
        let (one, two) = unsafe { (word(from, size_of::<K>(), index), word(other, size_of::<K>(), index)) };
        if one != two {
            return false;
        }
        index = index.wrapping_add(1);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_the_same_for_ever() {
        // Iteration depends on them, and what is recorded on one machine is compared with another.
        assert_eq!([hash(&0u64), hash(&7u32), hash(&[1u8, 2, 3, 4, 5])], [0xd218_1254, 0, 0]);
    }

    #[test]
    fn every_byte_counts() {
        let keys: Vec<[u8; 7]> = (0..7).map(|i| std::array::from_fn(|j| u8::from(i == j))).collect();
        for (i, one) in keys.iter().enumerate() {
            for (j, two) in keys.iter().enumerate() {
                // SAFETY: a key.
                assert_eq!(unsafe { equals(one, two.as_ptr()) }, i == j);
                assert_eq!(hash(one) == hash(two), i == j);
            }
        }
    }
}
