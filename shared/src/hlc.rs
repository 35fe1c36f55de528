//! The hybrid logical clock.
//!
//! After Kulkarni, Demirbas, Madappa, Avva and Leone, *Logical Physical Clocks* (OPODIS 2014), in one u64: 52 bits of
//! microseconds since 2020-01-01 00:00 UTC above 12 logical bits. Adding one to a value whose logical bits are full
//! carries into the microseconds, so the clock never stalls and never goes back.

/// Logical bits below the microseconds.
pub const LOGICAL_BITS: u32 = 12;
/// 2020-01-01 00:00 UTC in microseconds of the Unix epoch.
pub const EPOCH_UNIX_US: u64 = 1_577_836_800_000_000;
/// How far ahead of the receiver's clock a remote timestamp may be, in microseconds, before it is refused.
pub const DRIFT_US_MAX: u64 = 100_000;

/// The physical part of a timestamp from Unix nanoseconds; zero before 2020.
#[inline(always)]
pub const fn physical_from_unix_ns(unix_ns: u64) -> u64 {
    (unix_ns / 1000).saturating_sub(EPOCH_UNIX_US) << LOGICAL_BITS
}

/// Microseconds since 2020 of a timestamp.
#[inline(always)]
pub const fn microseconds(hlc: u64) -> u64 {
    hlc >> LOGICAL_BITS
}

/// Logical counter of a timestamp.
#[inline(always)]
pub const fn logical(hlc: u64) -> u32 {
    hlc as u32 & ((1 << LOGICAL_BITS) - 1)
}

/// The timestamp of a local event: after `last`, and not before `physical`.
#[inline(always)]
pub const fn tick(last: u64, physical: u64) -> u64 {
    max(last.saturating_add(1), physical)
}

/// The timestamp of a receipt: after `last` and `remote`, and not before `physical`.
#[inline(always)]
pub fn update(last: u64, remote: u64, physical: u64) -> u64 {
    if crate::mutant!("hlc_ignores_remote") {
        return tick(last, physical);
    }
    max(max(last, remote).saturating_add(1), physical)
}

/// Whether `remote` is further ahead of `physical` than [`DRIFT_US_MAX`].
#[inline(always)]
pub const fn is_beyond_drift(remote: u64, physical: u64) -> bool {
    remote > physical && remote.wrapping_sub(physical) > DRIFT_US_MAX << LOGICAL_BITS
}

/// How far `remote` is from `physical`, held in 31 bits and a sign.
///
/// The gate sends this on in place of the full timestamp. What is further behind than the range is as good as the
/// range's end, for the receiver's own clock outweighs it; what is further ahead was refused
/// ([`is_beyond_drift`]).
#[inline(always)]
pub const fn delta(remote: u64, physical: u64) -> i32 {
    let difference = remote.wrapping_sub(physical) as i64;
    if difference < i32::MIN as i64 {
        i32::MIN
    } else if difference > i32::MAX as i64 {
        i32::MAX
    } else {
        difference as i32
    }
}

/// As [`delta`], without a branch, and a number that is 0 when it is exact and not [beyond the drift bound](is_beyond_drift): so it
/// is for clocks that agree to half a second.
#[inline(always)]
pub const fn delta_unless_far(remote: u64, physical: u64) -> (i32, u32) {
    const BEHIND: u64 = 1 << 31;
    const MOST: u32 = (BEHIND + (DRIFT_US_MAX << LOGICAL_BITS)) as u32;
    let shifted = remote.wrapping_sub(physical).wrapping_add(BEHIND);
    let far = (shifted >> 32) as u32 | (shifted as u32 > MOST) as u32;
    (shifted as u32 as i32 ^ i32::MIN, far)
}

/// The timestamp that [`delta`] was taken from, given the same `physical`; with a later one, a later timestamp.
#[inline(always)]
pub const fn from_delta(delta: i32, physical: u64) -> u64 {
    physical.saturating_add_signed(delta as i64)
}

/// As [`update`] with the timestamp that [`delta`] was taken from, given a `physical` that is not before that of the delta, in
/// fewer steps. `delta` is not beyond the drift bound.
#[inline(always)]
pub fn update_by(last: u64, delta: i32, physical: u64) -> u64 {
    if crate::mutant!("hlc_ignores_remote") {
        return tick(last, physical);
    }
    // What is not ahead changes nothing; what is has its successor. No clock comes near the end of the range.
    let ahead = delta.wrapping_add(1);
    let ahead = if ahead < 0 { 0 } else { ahead as u32 };
    max(last.wrapping_add(1), physical.wrapping_add(ahead as u64))
}

#[inline(always)]
const fn max(a: u64, b: u64) -> u64 {
    if a > b { a } else { b }
}

// A remote timestamp at the drift bound must survive `delta`.
const _: () = assert!((DRIFT_US_MAX << LOGICAL_BITS) < i32::MAX as u64);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn near_deltas_are_deltas(physical in 0u64..1 << 63, by: i64, remote: u64) {
            for remote in [remote, physical.wrapping_add_signed(by), physical.wrapping_add_signed(by >> 30)] {
                let (delta_, far) = delta_unless_far(remote, physical);
                if far == 0 {
                    prop_assert_eq!(delta_, delta(remote, physical));
                    prop_assert!(!is_beyond_drift(remote, physical));
                } else {
                    let far_behind = physical.wrapping_sub(remote) > 1 << 31 && remote < physical;
                    prop_assert!(is_beyond_drift(remote, physical) || far_behind);
                }
            }
        }
    }

    #[test]
    fn epoch_is_2020() {
        assert_eq!(physical_from_unix_ns(EPOCH_UNIX_US * 1000), 0);
        assert_eq!(physical_from_unix_ns(0), 0);
        assert_eq!(microseconds(physical_from_unix_ns((EPOCH_UNIX_US + 7) * 1000)), 7);
    }

    #[test]
    fn a_full_logical_part_carries() {
        let last = (41 << LOGICAL_BITS) | 0xfff;
        let next = tick(last, 0);
        assert_eq!((microseconds(next), logical(next)), (42, 0));
    }

    proptest! {
        #[test]
        fn update_is_after_all(last in 0u64..u64::MAX / 2, remote in 0u64..u64::MAX / 2, physical in 0u64..u64::MAX / 2) {
            let next = update(last, remote, physical);
            prop_assert!(next > last && next > remote && next >= physical);
            prop_assert!(next == last + 1 || next == remote + 1 || next == physical);
        }

        #[test]
        fn updates_by_a_delta_are_updates(
            physical in 1u64 << 32..1u64 << 60,
            last in 0u64..1 << 61,
            near in -5i64..5,
            delta_ in i32::MIN..=(DRIFT_US_MAX << LOGICAL_BITS) as i32,
        ) {
            for delta in [delta_, near as i32] {
                for last in [last, physical.wrapping_add_signed(near), physical.wrapping_add_signed(delta_.into())] {
                    prop_assert_eq!(update_by(last, delta, physical), update(last, from_delta(delta, physical), physical));
                }
            }
        }

        #[test]
        fn delta_keeps_what_the_clock_accepts(physical in 1u64 << 40..1u64 << 60, ahead in 0u64..=DRIFT_US_MAX << LOGICAL_BITS) {
            let remote = physical + ahead;
            prop_assert!(!is_beyond_drift(remote, physical));
            prop_assert_eq!(from_delta(delta(remote, physical), physical), remote);
            prop_assert!(is_beyond_drift(physical + (DRIFT_US_MAX << LOGICAL_BITS) + 1, physical));
        }

        #[test]
        fn delta_of_the_past_stays_in_the_past(physical in 1u64 << 40..1u64 << 60, behind in 0u64..1 << 40) {
            let restored = from_delta(delta(physical - behind, physical), physical);
            prop_assert!(restored <= physical && restored >= physical - behind);
        }
    }
}
