//! Elements and keys as bytes: what collections do with them is compiled once for all types. Generic code would be compiled into every
//! handler, and takes more registers there than the dispatch loop has left.

/// Bytes that are looked at as one.
const WORD: u32 = size_of::<u32>() as u32;
/// The odd number that partitions are hashed with as well: 2^64 over the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Copies an element.
///
/// # Safety
/// Both are valid for `bytes` bytes, which nobody else accesses meanwhile, and not the same in part; when `bytes` is a multiple of four,
/// both are aligned to four.
#[inline(always)]
pub(super) unsafe fn copy(from: *const u8, to: *mut u8, bytes: u32) {
    let mut at = 0;
    // SAFETY: the caller vouches for both.
    unsafe {
        if bytes.is_multiple_of(WORD) {
            while at < bytes {
                to.wrapping_add(at as usize).cast::<u32>().write(from.wrapping_add(at as usize).cast::<u32>().read());
                at = at.wrapping_add(WORD);
            }
        } else {
            while at < bytes {
                to.wrapping_add(at as usize).write(from.wrapping_add(at as usize).read());
                at = at.wrapping_add(1);
            }
        }
    }
}

/// Word `at / 4` of a key: the last one is filled up with zeros.
///
/// # Safety
/// `key` is valid for reads of `bytes` bytes, of which the word begins inside.
#[inline(always)]
unsafe fn word(key: *const u8, bytes: u32, at: u32) -> u32 {
    // SAFETY: the caller vouches for what is read, which ends before `bytes`.
    unsafe {
        let (mut word, mut byte) = (0, 0);
        while byte < WORD && at.wrapping_add(byte) < bytes {
            let next = key.wrapping_add(at.wrapping_add(byte) as usize).read();
            word |= u32::from(next).wrapping_shl(byte.wrapping_mul(8));
            byte = byte.wrapping_add(1);
        }
        word
    }
}

/// The hash of a key: 32 well-mixed bits.
///
/// # Safety
/// `key` is valid for reads of `bytes` bytes.
#[inline(never)]
pub(super) unsafe fn hash(key: *const u8, bytes: u32) -> u32 {
    let mut hash = u64::from(bytes);
    let mut at = 0;
    while at < bytes {
        // SAFETY: the word begins inside the key.
        hash = (hash ^ u64::from(unsafe { word(key, bytes, at) })).wrapping_mul(FACTOR);
        hash ^= hash >> 32;
        at = at.wrapping_add(WORD);
    }
    // Once more, so that the low bits depend on all of the last word.
    (hash.wrapping_mul(FACTOR) >> 32) as u32
}

/// Whether two keys are the same.
///
/// # Safety
/// Both are valid for reads of `bytes` bytes.
#[inline(always)]
pub(super) unsafe fn equal(one: *const u8, two: *const u8, bytes: u32) -> bool {
    let mut at = 0;
    while at < bytes {
        // SAFETY: the word begins inside both.
        if unsafe { word(one, bytes, at) != word(two, bytes, at) } {
            return false;
        }
        at = at.wrapping_add(WORD);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of<K: crate::Plain>(key: &K) -> u32 {
        // SAFETY: the key's own bytes.
        unsafe { hash(core::ptr::from_ref(key).cast(), size_of::<K>() as u32) }
    }

    #[test]
    fn hashes_are_the_same_for_ever() {
        // Iteration depends on them, and what is recorded on one machine is compared with another.
        let hashes = [hash_of(&0u64), hash_of(&7u32), hash_of(&[1u8, 2, 3, 4, 5])];
        assert_eq!(hashes, [0xd218_1254, 2_734_173_173, 908_478_418]);
    }

    #[test]
    fn every_byte_counts() {
        let keys: Vec<[u8; 7]> = (0..7).map(|i| std::array::from_fn(|j| u8::from(i == j))).collect();
        for (i, one) in keys.iter().enumerate() {
            for (j, two) in keys.iter().enumerate() {
                // SAFETY: keys of seven bytes.
                assert_eq!(unsafe { equal(one.as_ptr(), two.as_ptr(), 7) }, i == j);
                assert_eq!(hash_of(one) == hash_of(two), i == j);
            }
        }
    }
}
