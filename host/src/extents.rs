//! Which parts of a range are free: first fit, with neighbours joined.
//!
//! One owner, no lock, and after a while no allocation: the list has at most one entry more than there are parts in use.

use tourbillon_shared::mutant;

/// A free part: begin and end, both multiples of the caller's granule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    begin: u32,
    end: u32,
}

/// The free parts of the range `0 .. length`, in order, never empty, never touching each other.
#[derive(Debug)]
pub(crate) struct Extents {
    free: Vec<Extent>,
    length: u32,
}

impl Extents {
    /// A range of `length` bytes, all of it free.
    pub(crate) fn new(length: u32) -> Self {
        let free = if length == 0 { Vec::new() } else { vec![Extent { begin: 0, end: length }] };
        Self { free, length }
    }

    /// Length of the whole range.
    pub(crate) fn length(&self) -> u32 {
        self.length
    }

    /// Length of the longest free part.
    pub(crate) fn longest(&self) -> u32 {
        self.free.iter().map(|extent| extent.end - extent.begin).max().unwrap_or(0)
    }

    /// Length of all free parts together.
    #[cfg(any(test, feature = "async"))]
    pub(crate) fn free_bytes(&self) -> u32 {
        self.free.iter().map(|extent| extent.end - extent.begin).sum()
    }

    /// Takes the first free part that has room for `bytes` bytes, more than 0; where it begins.
    pub(crate) fn take(&mut self, bytes: u32) -> Option<u32> {
        debug_assert!(bytes > 0);
        let at = self.free.iter().position(|extent| extent.end - extent.begin >= bytes)?;
        let begin = self.free[at].begin;
        self.free[at].begin += bytes;
        if self.free[at].begin == self.free[at].end {
            self.free.remove(at);
        }
        Some(begin)
    }

    /// Gives back what [`take`](Self::take) gave.
    pub(crate) fn give(&mut self, begin: u32, bytes: u32) {
        let end = begin + bytes;
        let at = self.free.partition_point(|extent| extent.begin < begin);
        debug_assert!(end <= self.length);
        debug_assert!(at == 0 || self.free[at - 1].end <= begin, "given back twice");
        debug_assert!(self.free.get(at).is_none_or(|next| end <= next.begin), "given back twice");
        let joins_before = at > 0 && self.free[at - 1].end == begin;
        let joins_after = self.free.get(at).is_some_and(|next| next.begin == end) && !mutant!("extents_not_joined");
        match (joins_before, joins_after) {
            (true, true) => {
                self.free[at - 1].end = self.free[at].end;
                self.free.remove(at);
            }
            (true, false) => self.free[at - 1].end = end,
            (false, true) => self.free[at].begin = begin,
            (false, false) => self.free.insert(at, Extent { begin, end }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is in use, byte by byte.
    #[derive(Default)]
    struct Map(Vec<bool>);

    impl Map {
        /// The first free part of `bytes` bytes.
        fn find(&self, bytes: usize) -> Option<usize> {
            (0..=self.0.len().checked_sub(bytes)?).find(|at| !self.0[*at..at + bytes].contains(&true))
        }

        fn longest(&self) -> usize {
            self.0.split(|used| *used).map(<[bool]>::len).max().unwrap_or(0)
        }
    }

    proptest! {
        /// Against a map of bytes: the same places are given out, nothing overlaps, nothing is lost.
        #[test]
        fn parts_are_as_a_map_says(
            length in 0u32..300,
            steps in proptest::collection::vec((any::<bool>(), 1u32..90, any::<prop::sample::Index>()), 0..200),
        ) {
            let mut extents = Extents::new(length);
            let mut map = Map(vec![false; length as usize]);
            let mut used: Vec<(u32, u32)> = Vec::new();
            for (takes, bytes, which) in steps {
                if takes || used.is_empty() {
                    let taken = extents.take(bytes);
                    prop_assert_eq!(taken.map(|at| at as usize), map.find(bytes as usize));
                    if let Some(at) = taken {
                        map.0[at as usize..(at + bytes) as usize].fill(true);
                        used.push((at, bytes));
                    }
                } else {
                    let (at, bytes) = used.swap_remove(which.index(used.len()));
                    extents.give(at, bytes);
                    map.0[at as usize..(at + bytes) as usize].fill(false);
                }
                prop_assert_eq!(extents.longest() as usize, map.longest());
                prop_assert_eq!(extents.free_bytes() as usize, map.0.iter().filter(|used| !**used).count());
                prop_assert!(extents.free.len() <= used.len() + 1);
                prop_assert!(extents.free.windows(2).all(|pair| pair[0].end < pair[1].begin));
            }
            for (at, bytes) in used {
                extents.give(at, bytes);
            }
            prop_assert_eq!(extents.longest(), length);
        }
    }
}
