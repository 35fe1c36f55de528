//! The clock of a run, and how fine it is.

use std::time::Instant;

/// Differences of readings that are looked at.
const SAMPLES: usize = 2_000;
/// Most readings: a clock that hardly ever moves must not hold up the program.
const READINGS_MAX: usize = 1_000_000;

/// Nanoseconds since the start of a run.
pub trait Clock {
    /// Now.
    fn now_ns(&self) -> u64;
}

/// The system's monotonic clock; 0 before the start.
#[derive(Clone, Copy, Debug)]
pub struct RunClock {
    /// The start of the run.
    pub start: Instant,
}

impl Clock for RunClock {
    #[inline(always)]
    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

/// What the monotonic clock resolves, in nanoseconds: the median of the differences, zero left out, between a reading
/// and the next. It is the time that a reading takes, or the clock's step if that is longer.
pub fn resolution_ns() -> u64 {
    let start = Instant::now();
    median_difference((0..READINGS_MAX).map(|_| start.elapsed().as_nanos() as u64))
}

fn median_difference(readings: impl Iterator<Item = u64>) -> u64 {
    let mut last = None;
    let mut differences: Vec<u64> = readings
        .filter_map(|reading| last.replace(reading).map(|before| reading.saturating_sub(before)))
        .filter(|&difference| difference > 0)
        .take(SAMPLES)
        .collect();
    differences.sort_unstable();
    differences.get(differences.len() / 2).copied().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_this_machine_is_fine_enough_for_a_million_a_second() {
        assert!((1..1_000).contains(&resolution_ns()), "{}", resolution_ns());
    }

    #[test]
    fn a_coarse_clock_is_known_by_its_step_and_a_preemption_does_not_count() {
        assert_eq!(median_difference((0..10_000).map(|i| i / 7 * 100)), 100);
        assert_eq!(median_difference((0..10_000).map(|i| i * 20 + if i > 50 { 1_000_000 } else { 0 })), 20);
        assert_eq!(median_difference([5; 100].into_iter()), u64::MAX, "a clock that stands still resolves nothing");
    }
}
