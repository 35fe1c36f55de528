//! Positions, laps and capacities.
//!
//! A *position* is a slot's number since the ring was made, a u64 that never wraps in practice. Its index in the ring
//! is the position modulo the capacity, its *lap* says how often the ring has gone round: a u32 that starts at 1, never
//! takes the value 0 (the tag of memory that nobody wrote) and wraps from `u32::MAX` to 1.

/// Smallest capacity: a frame of 8 slots must fit twice, so that one can be written while one is read.
pub const RING_CAPACITY_MIN: u32 = 16;
/// Largest capacity: a return address keeps 16 bits for the index.
pub const RING_CAPACITY_MAX: u32 = 1 << 16;
/// A lap that no writer ever uses.
pub const LAP_NEVER: u32 = 0;

/// The capacity of a ring, a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingShape {
    /// In `4 ..= 16`: see [`RING_CAPACITY_MIN`] and [`RING_CAPACITY_MAX`].
    capacity_log2: u32,
}

impl RingShape {
    /// The shape of a ring of `capacity` slots.
    ///
    /// # Errors
    /// [`ShapeError`] when `capacity` is no power of two or out of range.
    pub const fn new(capacity: u32) -> Result<Self, ShapeError> {
        if capacity == 0 || !capacity.is_power_of_two() {
            return Err(ShapeError::NotPowerOfTwo { capacity });
        }
        if capacity < RING_CAPACITY_MIN || capacity > RING_CAPACITY_MAX {
            return Err(ShapeError::OutOfRange { capacity });
        }
        Ok(Self { capacity_log2: capacity.trailing_zeros() })
    }

    /// The shape whose capacity is two to the power of `capacity_log2`; only for a value that came out of
    /// [`capacity_log2`](Self::capacity_log2).
    #[inline(always)]
    pub const fn from_log2(capacity_log2: u32) -> Self {
        Self { capacity_log2 }
    }

    /// Binary logarithm of the capacity.
    #[inline(always)]
    pub const fn capacity_log2(self) -> u32 {
        self.capacity_log2
    }

    /// Slots of the ring.
    #[inline(always)]
    pub const fn capacity(self) -> u32 {
        1u32.wrapping_shl(self.capacity_log2)
    }

    /// Index of the slot at `position`.
    #[inline(always)]
    pub const fn index(self, position: u64) -> u32 {
        position as u32 & self.capacity().wrapping_sub(1)
    }

    /// Lap of the slot at `position`, never [`LAP_NEVER`].
    #[inline(always)]
    pub fn lap(self, position: u64) -> u32 {
        let turns = position.wrapping_shr(self.capacity_log2);
        if crate::mutant!("lap_off_by_one") {
            return turns as u32;
        }
        // `1 + turns mod (2^32 - 1)`: 2^32 is congruent to 1, so adding the halves, and what is carried, keeps the remainder.
        let (sum, carry) = (turns as u32).overflowing_add((turns >> 32) as u32);
        let next = sum.wrapping_add(carry as u32).wrapping_add(1);
        // A remainder of 0 may stand as `u32::MAX`, too.
        if next == LAP_NEVER { 1 } else { next }
    }

    /// The smallest position whose lap is `lap`.
    ///
    /// For tests that begin close to the wrap of the laps.
    pub const fn position_of_lap(self, lap: u32) -> u64 {
        (lap.saturating_sub(1) as u64) << self.capacity_log2
    }
}

/// The lap after `lap`: `u32::MAX` is followed by 1.
#[inline(always)]
pub const fn lap_after(lap: u32) -> u32 {
    if lap == u32::MAX { 1 } else { lap.wrapping_add(1) }
}

/// Why a capacity was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShapeError {
    /// Zero, or not a power of two.
    NotPowerOfTwo {
        /// The capacity that was asked for, in slots.
        capacity: u32,
    },
    /// Outside [`RING_CAPACITY_MIN`] to [`RING_CAPACITY_MAX`].
    OutOfRange {
        /// The capacity that was asked for, in slots.
        capacity: u32,
    },
}

impl core::fmt::Display for ShapeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotPowerOfTwo { capacity } => {
                write!(f, "ring capacity {capacity} is no power of two; choose one such as 1024")
            }
            Self::OutOfRange { capacity } => {
                write!(f, "ring capacity {capacity} is outside {RING_CAPACITY_MIN} to {RING_CAPACITY_MAX} slots")
            }
        }
    }
}

impl core::error::Error for ShapeError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn capacities_are_checked() {
        assert_eq!(RingShape::new(0), Err(ShapeError::NotPowerOfTwo { capacity: 0 }));
        assert_eq!(RingShape::new(48), Err(ShapeError::NotPowerOfTwo { capacity: 48 }));
        assert_eq!(RingShape::new(8), Err(ShapeError::OutOfRange { capacity: 8 }));
        assert_eq!(RingShape::new(1 << 17), Err(ShapeError::OutOfRange { capacity: 1 << 17 }));
        assert_eq!(RingShape::new(1024).map(RingShape::capacity), Ok(1024));
    }

    #[test]
    fn laps_wrap_past_zero() {
        let shape = RingShape::new(16).unwrap();
        let mut position = shape.position_of_lap(u32::MAX - 3);
        let laps: [u32; 6] = core::array::from_fn(|_| {
            let lap = shape.lap(position);
            position += 16;
            lap
        });
        assert_eq!(laps, [u32::MAX - 3, u32::MAX - 2, u32::MAX - 1, u32::MAX, 1, 2]);
    }

    proptest! {
        #[test]
        fn lap_is_the_remainder_plus_one(position: u64, log2 in 4u32..=16) {
            let shape = RingShape::from_log2(log2);
            let expected = ((position >> log2) % u64::from(u32::MAX)) as u32 + 1;
            prop_assert_eq!(shape.lap(position), expected);
            prop_assert_ne!(shape.lap(position), LAP_NEVER);
        }

        #[test]
        fn laps_follow_each_other(position in 0u64..u64::MAX - (1 << 16), log2 in 4u32..=16) {
            let shape = RingShape::from_log2(log2);
            let next = position + u64::from(shape.capacity());
            prop_assert_eq!(shape.lap(next), lap_after(shape.lap(position)));
            prop_assert_eq!(shape.index(next), shape.index(position));
        }
    }
}
