//! Which collections a state has, and where: what is to be known to send an actor's pages away and to fill others with what was in them.
//!
//! A list is a constant of each plain type, put together by the derives: a type that holds no handle has an empty one.

use tourbillon_shared::pool::PAGE_BYTES;

use super::row::Row;
use super::table::{HEAD_BYTES, Table};
use crate::actor::STATE_BYTES_MAX;
use crate::plain::{Plain, layout};

/// Most collections of a state: as many handles as it has room for.
pub const COLLECTIONS_MAX: usize = STATE_BYTES_MAX / size_of::<Row>();

/// What sort of collection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Elements in order; the handle is a root and a length, a u32 each.
    Sequence,
    /// Entries in buckets, also of a set; the handle is a root, the number of buckets and the length, a u32 each.
    Map,
}

/// A collection of a state.
#[derive(Clone, Copy, Debug)]
pub struct Collection {
    /// Bytes of the state in front of its handle.
    pub offset: u32,
    /// What it is.
    pub sort: Sort,
    /// Bytes of an element, or of a key.
    pub key: u32,
    /// Bytes of an entry in front of its value.
    pub value_at: u32,
    /// Bytes of a value; 0 in a sequence.
    pub value: u32,
    /// Bytes from one element or entry to the next.
    pub stride: u32,
    /// How many are in a page.
    pub per_page: u32,
    /// Whether there are handles of other collections in its elements.
    pub is_nested: bool,
    /// A hash of the names of the fields that lead to it.
    pub name: u64,
    /// Hash of the layout ([`Plain::LAYOUT`]) of the handle's type, so of its elements'.
    pub layout: u64,
    /// The outermost of the fields that lead to it.
    #[cfg(not(target_arch = "nvptx64"))]
    pub field: &'static str,
    /// What tells whether bytes are an element, or a key, and whether they are a value.
    ///
    /// # Safety
    /// Of both: as many bytes are readable and set, and aligned to 16.
    #[cfg(not(target_arch = "nvptx64"))]
    pub are_valid: [unsafe fn(*const u8) -> bool; 2],
}

/// The collections of a type, in the order of its fields.
#[derive(Clone, Copy, Debug)]
pub struct Collections {
    items: [Collection; COLLECTIONS_MAX],
    count: usize,
}

/// [`Plain::is_valid`], of bytes.
///
/// # Safety
/// As there.
#[cfg(not(target_arch = "nvptx64"))]
unsafe fn is_valid<T: Plain>(at: *const u8) -> bool {
    // SAFETY: the caller vouches for the bytes.
    unsafe { T::is_valid(at.cast()) }
}

impl Collection {
    /// No collection: what stands in a list behind the last one.
    const NONE: Self = Self {
        offset: 0,
        sort: Sort::Sequence,
        key: 1,
        value_at: 1,
        value: 0,
        stride: 1,
        per_page: PAGE_BYTES as u32,
        is_nested: false,
        name: 0,
        layout: 0,
        #[cfg(not(target_arch = "nvptx64"))]
        field: "",
        #[cfg(not(target_arch = "nvptx64"))]
        are_valid: [is_valid::<()>, is_valid::<()>],
    };

    /// A sequence of `T`, which has this layout.
    pub(super) const fn sequence<T: Plain>(layout: u64) -> Self {
        let size = size_of::<T>() as u32;
        Self {
            key: size,
            value_at: size,
            stride: size,
            per_page: match (PAGE_BYTES as u32).checked_div(size) {
                Some(elements) => elements,
                None => 1,
            },
            is_nested: T::COLLECTIONS.count != 0,
            layout,
            #[cfg(not(target_arch = "nvptx64"))]
            are_valid: [is_valid::<T>, is_valid::<()>],
            ..Self::NONE
        }
    }

    /// A map from `K` to `V`, which has this layout and entries of this size.
    pub(super) const fn map<K: Plain, V: Plain>(layout: u64, value_at: usize, stride: u32, per_page: u32) -> Self {
        Self {
            sort: Sort::Map,
            key: size_of::<K>() as u32,
            value_at: value_at as u32,
            value: size_of::<V>() as u32,
            stride,
            per_page,
            is_nested: K::COLLECTIONS.count != 0 || V::COLLECTIONS.count != 0,
            layout,
            #[cfg(not(target_arch = "nvptx64"))]
            are_valid: [is_valid::<K>, is_valid::<V>],
            ..Self::NONE
        }
    }

    /// Bytes of its handle.
    pub const fn handle_bytes(&self) -> usize {
        match self.sort {
            Sort::Sequence => size_of::<Row>(),
            Sort::Map => size_of::<Table>(),
        }
    }

    /// Bytes of a page in front of what it holds.
    pub const fn head_bytes(&self) -> usize {
        match self.sort {
            Sort::Sequence => 0,
            Sort::Map => HEAD_BYTES,
        }
    }

    /// Pages that `length` elements or entries in `buckets` buckets (0 in a sequence) take at most, without those that only lead to others.
    #[inline(always)]
    pub const fn pages(&self, length: u32, buckets: u32) -> u64 {
        let full = match length.checked_div(self.per_page) {
            Some(pages) => pages as u64,
            None => length as u64,
        };
        match self.sort {
            // The last one may have some in it.
            Sort::Sequence if length as u64 > full.wrapping_mul(self.per_page as u64) => full.wrapping_add(1),
            Sort::Sequence => full,
            // Of each bucket all pages but the last are full.
            Sort::Map => full.wrapping_add(buckets as u64),
        }
    }

    /// Elements or entries, and buckets (0 of a sequence), as the handle in a state of these bytes has it; nothing when they are too few.
    #[cfg(not(target_arch = "nvptx64"))]
    pub fn lengths(&self, state: &[u8]) -> Option<(u32, u32)> {
        let handle = state.get(self.offset as usize..)?.get(..self.handle_bytes())?;
        let mut words = handle.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap_or_default()));
        let (_root, second, third) = (words.next()?, words.next()?, words.next());
        Some(third.map_or((second, 0), |length| (length, second)))
    }
}

impl Collections {
    /// Those of a type without handles.
    pub const NONE: Self = Self { items: [Collection::NONE; COLLECTIONS_MAX], count: 0 };

    /// Those of a handle.
    pub(super) const fn one(collection: Collection) -> Self {
        let mut all = Self::NONE;
        all.items[0] = collection;
        all.count = 1;
        all
    }

    /// How many.
    #[expect(clippy::len_without_is_empty, reason = "a constant of the macros; nobody asks")]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// The list.
    pub const fn as_slice(&self) -> &[Collection] {
        self.items.split_at(self.count).0
    }

    /// The list, of which the length is known: what a system keeps of it.
    pub const fn exactly<const N: usize>(&self) -> [Collection; N] {
        let mut some = [Collection::NONE; N];
        let mut i = 0;
        while i < N && i < self.count {
            some[i] = self.items[i];
            i += 1;
        }
        some
    }

    /// These, and those of the field `name` at `offset`, whose type has the collections `of`.
    #[must_use]
    pub const fn with(self, name: &'static str, offset: usize, of: &Self) -> Self {
        let mut all = self;
        let mut i = 0;
        // A type with more of them than a state has room for is the state of no actor.
        while i < of.count && all.count < COLLECTIONS_MAX {
            let item = of.items[i];
            all.items[all.count] = Collection {
                offset: item.offset + offset as u32,
                name: layout::field(0, name, i, item.name),
                #[cfg(not(target_arch = "nvptx64"))]
                field: name,
                ..item
            };
            all.count += 1;
            i += 1;
        }
        all
    }

    /// Those of `count` items in a row, `stride` bytes apart, each of which has the collections `of`.
    pub(crate) const fn repeated(count: usize, stride: usize, of: &Self) -> Self {
        let mut all = Self::NONE;
        let mut i = 0;
        while of.count != 0 && i < count {
            let before = all.count;
            all = all.with("", i * stride, of);
            let mut j = before;
            while j < all.count {
                all.items[j].name = layout::number(all.items[j].name, i as u64);
                j += 1;
            }
            if before == all.count {
                break;
            }
            i += 1;
        }
        all
    }
}

/// The bucket of a key's bytes in a map of `buckets` buckets, which is at least 1.
#[cfg(not(target_arch = "nvptx64"))]
pub fn bucket_of(key: &[u8], buckets: u32) -> u32 {
    // SAFETY: the bytes of the slice.
    super::table::bucket_of(unsafe { super::bytes::hash(key.as_ptr(), key.len() as u32) }, buckets.max(1))
}

/// Pages of a tree of so many leaves, with them.
pub fn tree_pages(leaves: u32) -> u64 {
    super::tree::pages(leaves)
}

#[cfg(test)]
mod unit {
    use super::*;
    use crate::pool::{PoolMap, PoolSet, PoolVec};
    use crate::{Plain, State};

    #[repr(C)]
    #[derive(Clone, Copy, Plain)]
    struct Inner {
        filler: u32,
        words: [PoolVec<u16>; 2],
    }

    #[repr(C)]
    #[derive(Clone, Copy, State)]
    struct Outer {
        first: PoolMap<u8, u64>,
        inner: Inner,
        last: PoolSet<[u8; 5]>,
    }

    #[test]
    fn collections_are_found_where_they_are() {
        let all = Outer::COLLECTIONS;
        let found: Vec<_> =
            all.as_slice().iter().map(|one| (one.field, one.offset, one.sort, one.key, one.value)).collect();
        let expected = [
            ("first", 0, Sort::Map, 1, 8),
            ("inner", 16, Sort::Sequence, 2, 0),
            ("inner", 24, Sort::Sequence, 2, 0),
            ("last", 32, Sort::Map, 5, 0),
        ];
        assert_eq!(found, expected);
        let first = all.as_slice()[0];
        assert_eq!((first.value_at, first.stride, first.per_page), (8, 16, 15));
        // Each has a name of its own, which says nothing of where it lies.
        for (i, one) in all.as_slice().iter().enumerate() {
            assert!(all.as_slice()[..i].iter().all(|other| other.name != one.name), "{i}");
        }
        #[repr(C)]
        #[derive(Clone, Copy, State)]
        struct Moved {
            last: PoolSet<[u8; 5]>,
            first: PoolMap<u8, u64>,
        }
        assert_eq!(Moved::COLLECTIONS.as_slice()[0].name, all.as_slice()[3].name);
        assert_eq!(Moved::COLLECTIONS.as_slice()[1].layout, all.as_slice()[0].layout);
        assert!(!all.as_slice().iter().any(|one| one.is_nested));
    }

    #[test]
    fn collections_of_collections_are_noticed() {
        #[repr(C)]
        #[derive(Clone, Copy, State)]
        struct Nested {
            rows: PoolVec<Inner>,
            columns: PoolMap<u32, PoolSet<u32>>,
            plain: PoolVec<u8>,
        }
        let nested: Vec<_> = Nested::COLLECTIONS.as_slice().iter().map(|one| one.is_nested).collect();
        assert_eq!(nested, [true, true, false]);
        assert_eq!(<[u64; 100_000]>::COLLECTIONS.len(), 0);
    }

    #[test]
    fn pages_are_counted_from_lengths() {
        let words = PoolVec::<u64>::COLLECTIONS.as_slice()[0];
        let counts = [0, 1, 32, 33, u32::MAX].map(|length| words.pages(length, 0));
        assert_eq!(counts, [0, 1, 1, 2, 1 << 27]);
        let map = PoolMap::<u64, u64>::COLLECTIONS.as_slice()[0];
        assert_eq!((map.pages(0, 0), map.pages(15, 1), map.pages(14, 3)), (0, 2, 3));
        assert_eq!([0, 1, 2, 64, 65, 4096, 4097].map(tree_pages), [0, 1, 3, 65, 68, 4161, 4097 + 65 + 2 + 1]);
    }
}
