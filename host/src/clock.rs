//! The device clock measured against the host's.
//!
//! The device writes its clock with every beat. Whoever sees the word change between two readings of the host clock knows that
//! the beat was made not long before the second, so that host minus device lies between the two differences, the time that a
//! write takes to cross the bus aside. The first statement takes the upper end: a timestamp restored with it is
//! never too early. Later statements take the lower end and only ever move forward: the offset has grown for certain.
//!
//! A GPU's clock shows the Unix time as well, a fraction of a millisecond beside the host's: behind it or ahead of it.

use std::time::{Duration, Instant};

use tourbillon_shared::mutant;

use crate::error::EngineError;
use crate::shared::Shared;
use crate::telemetry::unix_ns;

/// How long a first beat may take after a launch: compiling and loading are over by then.
const FIRST_BEAT_MAX: Duration = Duration::from_secs(5);
/// Beats that are watched; the tightest one counts.
const SAMPLES: u32 = 4;

/// Host minus device clock, nanoseconds: below zero where the device is ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) least_ns: i64,
    pub(crate) most_ns: i64,
}

impl Bounds {
    /// Of a beat at `device_ns` between two readings of the host clock.
    fn between(before_ns: u64, after_ns: u64, device_ns: u64) -> Self {
        // Wrapping: the difference of two such times is far below 2^63.
        let past = |host_ns: u64| {
            if mutant!("device_ahead_unseen") {
                return host_ns.saturating_sub(device_ns) as i64;
            }
            host_ns.wrapping_sub(device_ns) as i64
        };
        Self { least_ns: past(before_ns), most_ns: past(after_ns) }
    }

    /// How far they are apart, nanoseconds.
    fn width_ns(self) -> u64 {
        self.most_ns.abs_diff(self.least_ns)
    }
}

/// Watches some beats, for `limit` at most; nothing when the device did not beat.
pub(crate) fn measure(shared: &Shared, limit: Duration) -> Option<Bounds> {
    let began = Instant::now();
    let mut best: Option<Bounds> = None;
    let mut samples = 0;
    // A kernel that parks wakes up for this.
    shared.ring();
    let (mut before_ns, mut last) = (unix_ns(), shared.page.device_ns());
    while samples < SAMPLES {
        let device_ns = shared.page.device_ns();
        let after_ns = unix_ns();
        if device_ns != last {
            let bounds = Bounds::between(before_ns, after_ns, device_ns);
            if best.is_none_or(|best| bounds.width_ns() < best.width_ns()) {
                best = Some(bounds);
            }
            samples += 1;
            last = device_ns;
            shared.ring();
        } else if began.elapsed() >= limit || shared.status.is_ended() {
            break;
        } else if began.elapsed() > Duration::from_millis(1) {
            // Few processors: the kernel's thread may wait for this one.
            std::thread::yield_now();
        }
        before_ns = after_ns;
    }
    best
}

/// States the offset for the first time, before anything is handled.
///
/// # Errors
/// [`EngineError::Silent`] when the kernel does not beat; [`EngineError::Stopped`] when it failed meanwhile.
pub(crate) fn calibrate(shared: &Shared) -> Result<(), EngineError> {
    let began = Instant::now();
    let first = shared.page.heartbeat();
    while shared.page.heartbeat() == first {
        shared.check_kernel(&mut shared.core());
        if shared.status.is_ended() {
            return Err(EngineError::KernelFailed(shared.status.reason().to_string()));
        }
        if began.elapsed() >= FIRST_BEAT_MAX {
            return Err(EngineError::Silent { after: FIRST_BEAT_MAX });
        }
        shared.ring();
        std::thread::yield_now();
    }
    let Some(bounds) = measure(shared, FIRST_BEAT_MAX) else {
        return Err(EngineError::Silent { after: FIRST_BEAT_MAX });
    };
    tracing::debug!(width_ns = bounds.width_ns(), "device clock calibrated");
    shared.control.advance_clock_offset(bounds.most_ns);
    Ok(())
}

/// States the offset again when it has certainly grown.
pub(crate) fn recalibrate(shared: &Shared, limit: Duration) {
    if let Some(bounds) = measure(shared, limit) {
        shared.control.advance_clock_offset(bounds.least_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_may_be_behind_or_ahead() {
        assert_eq!(Bounds::between(1_000, 1_300, 400), Bounds { least_ns: 600, most_ns: 900 });
        let ahead = Bounds::between(1_000, 1_300, 1_100);
        assert_eq!((ahead, ahead.width_ns()), (Bounds { least_ns: -100, most_ns: 200 }, 300));
        let far_ahead = Bounds::between(1_000, 1_300, 158_000);
        assert_eq!((far_ahead, far_ahead.width_ns()), (Bounds { least_ns: -157_000, most_ns: -156_700 }, 300));
    }
}
