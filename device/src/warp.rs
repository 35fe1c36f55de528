//! A warp's living lanes and their collectives.
//!
//! A panic costs a lane. What is left of the warp goes on, so everything above this module counts lanes by *rank*: the
//! living lanes in order, `0 .. size`. Collectives take and return masks of ranks. While all lanes live, ranks are lanes
//! and nothing is translated: that is a type of its own, `Warp<A, true>`, so that the code of a warp without losses, which is
//! nearly every warp, contains no translation. A warp that loses a lane finishes its window and goes on as `Warp<A, false>`.
//!
//! The token is never given to user code, which runs divergent and must not call a collective.

use core::marker::PhantomData;

use crate::arch::Arch;

/// The living lanes of the warp that runs.
#[derive(Debug)]
pub struct Warp<A: Arch, const WHOLE: bool> {
    /// Physical lanes that live. Never empty.
    live: u32,
    /// This lane's place among them.
    rank: u32,
    /// How many they are, at least 1.
    size: u32,
    arch: PhantomData<A>,
}

/// The lowest `count` bits, for counts of 0 to 32.
#[inline(always)]
pub const fn low_bits(count: u32) -> u32 {
    if count >= u32::BITS { u32::MAX } else { 1u32.wrapping_shl(count).wrapping_sub(1) }
}

/// Index of the lowest set bit; 32 without one.
#[inline(always)]
pub const fn lowest(mask: u32) -> u32 {
    mask.trailing_zeros()
}

/// The bits of `mask` at the set bits of `live`, moved together.
const fn compress(mask: u32, live: u32) -> u32 {
    let (mut result, mut rest, mut rank) = (0, live, 0);
    while rest != 0 {
        let lane = rest.trailing_zeros();
        result |= (mask.wrapping_shr(lane) & 1).wrapping_shl(rank);
        rank = rank.wrapping_add(1);
        rest &= rest.wrapping_sub(1);
    }
    result
}

/// The lane of `rank` among the set bits of `live`.
#[inline(always)]
pub const fn lane_of_rank(live: u32, rank: u32) -> u32 {
    let (mut rest, mut left) = (live, rank);
    while left != 0 {
        rest &= rest.wrapping_sub(1);
        left = left.wrapping_sub(1);
    }
    rest.trailing_zeros()
}

impl<A: Arch> Warp<A, true> {
    /// The warp at the kernel's start, when all lanes live.
    pub fn whole() -> Self {
        Self { live: Self::ALL, rank: A::lane(), size: A::LANES, arch: PhantomData }
    }
}

impl<A: Arch, const WHOLE: bool> Warp<A, WHOLE> {
    /// Runs `f`, which is not compiled into its caller, on the warp.
    ///
    /// The token is handed over by value: one whose address is taken would live in memory ever after, and the loop reads it at
    /// every step.
    #[inline(always)]
    pub fn lend<R>(&mut self, f: impl FnOnce(&mut Self) -> R) -> R {
        let mut lent = Self { live: self.live, rank: self.rank, size: self.size, arch: PhantomData };
        let result = f(&mut lent);
        (self.live, self.rank, self.size) = (lent.live, lent.rank, lent.size);
        result
    }
}

impl<A: Arch, const WHOLE: bool> Warp<A, WHOLE> {
    /// The mask of every collective. Lanes that have left are skipped, as PTX says of its `.sync` instructions, and a constant mask
    /// makes each of them one machine instruction in place of a dozen.
    const ALL: u32 = low_bits(A::LANES);
    /// Fewest lanes with which a warp goes on: a quarter, for below that the other warps of its block are faster, and two where
    /// a panic costs a lane, for one never runs handlers.
    const SIZE_MIN: u32 = if A::LANES >= 8 {
        A::LANES / 4
    } else if A::LANES > 1 {
        2
    } else {
        1
    };

    /// This lane's place among the living.
    #[inline(always)]
    pub fn rank(&self) -> u32 {
        if A::LANES == 1 { 0 } else { self.rank }
    }

    /// How many lanes live; in a warp that was whole, how many lived before [`regather`](Self::regather) found some missing.
    #[inline(always)]
    pub fn size(&self) -> u32 {
        if WHOLE { A::LANES } else { self.size }
    }

    /// The physical lanes that live.
    #[inline(always)]
    pub fn live(&self) -> u32 {
        self.live
    }

    /// Whether lanes are missing. A warp that was whole may then only give back what it holds and become [`damaged`](Self::damaged):
    /// rank 0 never runs handlers and is still there, other ranks may not be.
    #[inline(always)]
    pub fn has_losses(&self) -> bool {
        self.live != Self::ALL
    }

    /// Whether enough lanes are left to go on.
    #[inline(always)]
    pub fn is_viable(&self) -> bool {
        self.live.count_ones() >= Self::SIZE_MIN
    }

    /// How many lanes may run user code at once. One never does, so that somebody is left to tell of a panic.
    #[inline(always)]
    pub fn runners(&self) -> u32 {
        if A::LANES == 1 { 1 } else { self.size().wrapping_sub(1) }
    }

    /// This lane's place among the runners; out of their range for the lane that is none.
    #[inline(always)]
    pub fn runner(&self) -> u32 {
        if A::LANES == 1 { 0 } else { self.rank.wrapping_sub(1) }
    }

    /// Gathers the lanes again after user code; returns the physical lanes that were lost.
    #[inline(always)]
    #[track_caller]
    pub fn regather(&mut self) -> u32 {
        if A::LANES == 1 {
            return 0;
        }
        let before = self.live;
        self.live = A::ballot(Self::ALL, true);
        if !WHOLE && self.live != before {
            self.size = self.live.count_ones();
            self.rank = (self.live & low_bits(A::lane())).count_ones();
        }
        before & !self.live
    }

    /// The warp as one whose lanes are counted by rank.
    #[inline(always)]
    pub fn damaged(&self) -> Warp<A, false> {
        let rank = (self.live & low_bits(A::lane())).count_ones();
        Warp { live: self.live, rank, size: self.live.count_ones(), arch: PhantomData }
    }

    /// The ranks whose `predicate` holds.
    #[inline(always)]
    #[track_caller]
    pub fn ballot(&self, predicate: bool) -> u32 {
        let lanes = A::ballot(Self::ALL, predicate);
        if WHOLE { lanes } else { compress(lanes, self.live) }
    }

    /// Whether `predicate` holds for any lane.
    #[inline(always)]
    #[track_caller]
    pub fn any(&self, predicate: bool) -> bool {
        A::ballot(Self::ALL, predicate) != 0
    }

    /// The value of the lane of rank `rank`, which must be below the size.
    #[inline(always)]
    #[track_caller]
    pub fn broadcast(&self, value: u32, rank: u32) -> u32 {
        let lane = if WHOLE { rank } else { lane_of_rank(self.live, rank) };
        A::shuffle(Self::ALL, value, lane)
    }

    /// As [`broadcast`](Self::broadcast), for 64 bits.
    #[inline(always)]
    #[track_caller]
    pub fn broadcast_u64(&self, value: u64, rank: u32) -> u64 {
        let low = self.broadcast(value as u32, rank);
        let high = self.broadcast((value >> 32) as u32, rank);
        u64::from(low) | u64::from(high) << 32
    }

    /// The ranks with the same value as this lane.
    #[inline(always)]
    #[track_caller]
    pub fn match_any(&self, value: u64) -> u32 {
        let lanes = A::match_any(Self::ALL, value);
        if WHOLE { lanes } else { compress(lanes, self.live) }
    }

    /// The greatest of all lanes' values.
    #[inline(always)]
    #[track_caller]
    pub fn max_u64(&self, value: u64) -> u64 {
        let mut most = value;
        // After the last round rank 0 has the greatest of all, for any size.
        let mut distance = A::LANES / 2;
        while distance != 0 {
            let from = self.rank.wrapping_add(distance);
            let inside = from < self.size();
            let other = self.broadcast_u64(most, if inside { from } else { self.rank });
            if inside && other > most {
                most = other;
            }
            distance /= 2;
        }
        self.broadcast_u64(most, 0)
    }

    /// Waits for all lanes; what each wrote to memory before, all see after.
    #[inline(always)]
    #[track_caller]
    pub fn sync(&self) {
        A::sync_warp(Self::ALL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_skip_the_dead() {
        assert_eq!(compress(0b1010_1010, 0b1111_0010), 0b1_0101);
        assert_eq!(compress(0b1000_0000, 0b1111_0010), 0b1_0000);
        assert_eq!(compress(u32::MAX, u32::MAX), u32::MAX);
        assert_eq!(lane_of_rank(0b1111_0010, 0), 1);
        assert_eq!(lane_of_rank(0b1111_0010, 2), 5);
        for rank in 0..5 {
            let live = 0b1011_0101;
            assert_eq!(compress(1 << lane_of_rank(live, rank), live), 1 << rank);
        }
    }

    #[test]
    fn low_bits_cover_all_counts() {
        assert_eq!((low_bits(0), low_bits(1), low_bits(31), low_bits(32)), (0, 1, u32::MAX >> 1, u32::MAX));
    }
}
