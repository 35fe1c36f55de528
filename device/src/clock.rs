//! From the device clock to the physical part of timestamps.

use tourbillon_shared::hlc;

/// Nanoseconds of a microsecond, the unit of timestamps.
const NS_PER_US: u64 = 1_000;

/// The device clock, calibrated: timestamps without a long division, which is dear on a GPU.
///
/// Equal to [`hlc::physical_from_unix_ns`] of the time plus the offset, for every time. Times up to 2^32 ns after the base are
/// cheap; move the base now and then ([`keep_up`](Self::keep_up)).
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Nanoseconds from the device clock to the Unix time.
    offset_ns: u64,
    /// A device time whose Unix time is a whole microsecond.
    base_ns: u64,
    /// The physical part of a timestamp then.
    base: u64,
}

impl Clock {
    /// A clock that is `offset_ns` behind the Unix time, quick for the times from `now_ns` on.
    pub const fn new(offset_ns: u64, now_ns: u64) -> Self {
        let unix_ns = now_ns.wrapping_add(offset_ns);
        let base = hlc::physical_from_unix_ns(unix_ns);
        // Before the timestamps' epoch they stand still, so no base serves; nor soon after it, so that whoever takes the quick way may
        // go back a little: one that every time is far from.
        let back = if base >> u32::BITS == 0 { 1 << 63 } else { unix_ns % NS_PER_US };
        Self { offset_ns, base_ns: now_ns.wrapping_sub(back), base }
    }

    /// A device time, and the physical part of a timestamp then: the times that are quick come after it.
    pub(crate) const fn anchor(&self) -> [u64; 2] {
        [self.base_ns, self.base]
    }

    /// A clock that is good for [`physical_at_once`](Self::physical_at_once) alone, of the [anchor](Self::anchor) of another.
    #[inline(always)]
    pub(crate) const fn at_anchor([base_ns, base]: [u64; 2]) -> Self {
        Self { offset_ns: 0, base_ns, base }
    }

    /// The clock with this offset, and with a base that is close to `now_ns`.
    #[inline(always)]
    #[must_use]
    pub fn keep_up(self, offset_ns: u64, now_ns: u64) -> Self {
        let is_close = now_ns.wrapping_sub(self.base_ns) >> (u32::BITS - 1) == 0;
        if is_close && offset_ns == self.offset_ns { self } else { Self::new(offset_ns, now_ns) }
    }

    /// The physical part of a timestamp at device time `now_ns`.
    #[inline(always)]
    pub const fn physical(&self, now_ns: u64) -> u64 {
        match self.physical_at_once(now_ns) {
            (physical, true) => physical,
            (_, false) => hlc::physical_from_unix_ns(now_ns.wrapping_add(self.offset_ns)),
        }
    }

    /// As [`physical`](Self::physical), without a branch, and whether `now_ns` is close enough to the base for it.
    #[inline(always)]
    pub const fn physical_at_once(&self, now_ns: u64) -> (u64, bool) {
        let (physical, far) = self.physical_unless_far(now_ns);
        (physical, far == 0)
    }

    /// As [`physical_at_once`](Self::physical_at_once), where `now_ns` is close enough when the second number is 0.
    #[inline(always)]
    pub const fn physical_unless_far(&self, now_ns: u64) -> (u64, u32) {
        let since = now_ns.wrapping_sub(self.base_ns);
        let us = since as u32 / NS_PER_US as u32;
        (self.base.wrapping_add((us as u64) << hlc::LOGICAL_BITS), (since >> u32::BITS) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_the_long_way(
            offset in prop_oneof![Just(0u64), 0u64..4_000_000_000_000_000_000, 1_577_836_799_000_000_000u64..1_577_836_801_000_000_000],
            base in 0u64..4_000_000_000_000_000_000,
            later in prop_oneof![0u64..10_000, 0u64..1 << 34, 0u64..1 << 60],
        ) {
            let clock = Clock::new(offset, base);
            for now in [base, base + later, base.wrapping_sub(later % 5_000)] {
                prop_assert_eq!(clock.physical(now), hlc::physical_from_unix_ns(now.wrapping_add(offset)));
                let kept = clock.keep_up(offset ^ (later & 1), now);
                prop_assert_eq!(kept.physical(now), hlc::physical_from_unix_ns(now.wrapping_add(offset ^ (later & 1))));
            }
        }
    }
}
