//! The device clock measured against the host's.
//!
//! The device writes its clock with every beat. Whoever sees the word change between two readings of the host clock knows that
//! the beat was made not long before the second, so that host minus device lies between the two differences, the time that a
//! write takes to cross the bus aside. The first statement takes the upper end: a timestamp restored with it is
//! never too early. Later statements take the lower end and only ever move forward: the offset has grown for certain.

use std::time::{Duration, Instant};

use crate::error::EngineError;
use crate::shared::Shared;
use crate::telemetry::unix_ns;

/// How long a first beat may take after a launch: compiling and loading are over by then.
const FIRST_BEAT_MAX: Duration = Duration::from_secs(5);
/// Beats that are watched; the tightest one counts.
const SAMPLES: u32 = 4;

/// Host minus device clock, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) least_ns: u64,
    pub(crate) most_ns: u64,
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
            let bounds =
                Bounds { least_ns: before_ns.saturating_sub(device_ns), most_ns: after_ns.saturating_sub(device_ns) };
            let width = |bounds: Bounds| bounds.most_ns.saturating_sub(bounds.least_ns);
            if best.is_none_or(|best| width(bounds) < width(best)) {
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
    tracing::debug!(width_ns = bounds.most_ns - bounds.least_ns, "device clock calibrated");
    shared.control.advance_clock_offset(bounds.most_ns);
    Ok(())
}

/// States the offset again when it has certainly grown.
pub(crate) fn recalibrate(shared: &Shared, limit: Duration) {
    if let Some(bounds) = measure(shared, limit) {
        shared.control.advance_clock_offset(bounds.least_ns);
    }
}
