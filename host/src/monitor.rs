//! One thread an engine that looks after the kernel: relaunches it when it asks, notices when it fails, keeps its clock.

use std::sync::{Arc, Condvar, Mutex, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::clock::recalibrate;
use crate::error::EngineError;
use crate::shared::Shared;
use crate::telemetry::unix_ns;

/// Time between two rounds: a kernel that lost warps is launched anew within a few milliseconds, and 200 short rounds a second
/// cost far below 1 % of a processor.
const PERIOD: Duration = Duration::from_millis(5);
/// Rounds between two questions whether the kernel still runs; asking a driver costs some microseconds.
const ROUNDS_PER_CHECK: u32 = 2;
/// Time between two measurements of the device clock: crystals drift by some 10 us in it.
const RECALIBRATION_PERIOD: Duration = Duration::from_secs(10);
/// How long such a measurement may take: some beats of a parked CPU kernel.
const RECALIBRATION_TIME_MAX: Duration = Duration::from_millis(20);
/// A step of the host clock forward that is made known at once; far below the drift bound, far above a scheduling delay's share.
const CLOCK_STEP_NS: u64 = 20_000_000;

/// The thread, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Monitor {
    bell: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Monitor {
    pub(crate) fn start(shared: Arc<Shared>) -> Result<Self, EngineError> {
        let bell = Arc::new((Mutex::new(false), Condvar::new()));
        let heard = Arc::clone(&bell);
        let thread = std::thread::Builder::new()
            .name("tourbillon-monitor".into())
            .spawn(move || watch(&shared, &heard))
            .map_err(|source| EngineError::Io { what: "starting the monitor", source })?;
        Ok(Self { bell, thread: Some(thread) })
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        *self.bell.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic was printed by the hook; the engine goes on without a monitor.
            let _ = thread.join();
        }
    }
}

fn watch(shared: &Shared, bell: &(Mutex<bool>, Condvar)) {
    let mut clock = ClockWatch::new();
    let mut round = 0u32;
    loop {
        let ended = bell.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (ended, _) =
            bell.1.wait_timeout_while(ended, PERIOD, |ended| !*ended).unwrap_or_else(PoisonError::into_inner);
        if *ended || shared.status.is_ended() {
            return;
        }
        drop(ended);
        round = round.wrapping_add(1);
        look_after_kernel(shared, round);
        shared.lanes.reclaim(&shared.control);
        if clock.is_due() {
            recalibrate(shared, RECALIBRATION_TIME_MAX);
            clock = ClockWatch::new();
        }
    }
}

fn look_after_kernel(shared: &Shared, round: u32) {
    let mut core = match shared.core.try_lock() {
        Ok(core) => core,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return,
    };
    if core.relaunching.is_none() && shared.page.is_relaunch_wanted() {
        tracing::info!(device = %shared.device_name, "the kernel lost warps to panics and is launched anew");
        shared.begin_relaunch(&mut core);
    }
    if core.relaunching.is_some() {
        // A failure is noted where it happens.
        let _ = shared.advance_relaunch(&mut core);
    } else if round.is_multiple_of(ROUNDS_PER_CHECK) {
        shared.check_kernel(&mut core);
        shared.publish(&core);
    }
}

/// Tells when the device clock should be measured again.
#[derive(Debug)]
struct ClockWatch {
    began: Instant,
    unix_ns: u64,
}

impl ClockWatch {
    fn new() -> Self {
        Self { began: Instant::now(), unix_ns: unix_ns() }
    }

    fn is_due(&self) -> bool {
        let elapsed = self.began.elapsed();
        elapsed >= RECALIBRATION_PERIOD || self.has_stepped(elapsed, unix_ns())
    }

    /// Whether the host clock has run ahead of the time that has passed.
    fn has_stepped(&self, elapsed: Duration, unix_ns: u64) -> bool {
        unix_ns.saturating_sub(self.unix_ns) > elapsed.as_nanos() as u64 + CLOCK_STEP_NS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_the_host_clock_is_noticed() {
        let watch = ClockWatch { began: Instant::now(), unix_ns: 1_000_000_000 };
        let second = Duration::from_secs(1);
        assert!(!watch.has_stepped(second, 2_000_000_000));
        assert!(!watch.has_stepped(second, 1_500_000_000), "back");
        assert!(watch.has_stepped(second, 2_100_000_000));
        assert!(!ClockWatch::new().is_due());
    }
}
