//! What the machine itself does to a thread: a control thread that only reads the clock.
//!
//! Its longest gaps are those that no engine can avoid on this machine: interrupts, the scheduler, a hypervisor. A
//! tail latency below them is luck, one far above them is ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::latency::{Percentiles, new_histogram};

/// How much of a core the control thread may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// All of it: the machine has cores to spare.
    Continuous,
    /// Short bursts, [`BURST`] of every [`PERIOD`], so as not to disturb what is measured.
    Bursts,
}

/// Length of a burst: longer than the gaps that a scheduler tick makes.
pub const BURST: Duration = Duration::from_millis(2);
/// Time from one burst to the next: 4 % of a core.
pub const PERIOD: Duration = Duration::from_millis(50);

impl Duty {
    /// The duty on a machine of `cores` cores of which `busy` threads spin.
    pub fn for_cores(cores: usize, busy: usize) -> Self {
        if cores > busy + 1 { Self::Continuous } else { Self::Bursts }
    }
}

/// A running control thread.
#[derive(Debug)]
pub struct Jitter {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Histogram<u64>>,
}

impl Jitter {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system refused a thread.
    pub fn start(duty: Duty) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("jitter".into()).spawn(move || watch(&seen, duty))?;
        Ok(Self { stop, thread })
    }

    /// Ends the thread; the gaps between two readings of the clock, in nanoseconds.
    pub fn stop(self) -> Percentiles {
        // Relaxed: the flag carries no data, the join below orders the rest.
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_or_else(|_| Percentiles::default(), |histogram| Percentiles::of(&histogram))
    }
}

fn watch(stop: &AtomicBool, duty: Duty) -> Histogram<u64> {
    let mut gaps = new_histogram();
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let mut last = begin;
        while last - begin < BURST {
            let now = Instant::now();
            gaps.saturating_record((now - last).as_nanos() as u64);
            last = now;
        }
        if duty == Duty::Bursts {
            std::thread::sleep(PERIOD - BURST);
        }
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_measured() {
        let jitter = Jitter::start(Duty::Bursts).unwrap();
        std::thread::sleep(Duration::from_millis(120));
        let gaps = jitter.stop();
        assert!(gaps.count > 100, "{gaps:?}");
        assert!(gaps.p50 <= gaps.p99 && gaps.p99 <= gaps.max, "{gaps:?}");
        // A gap cannot be longer than the test ran; a stalled machine may stretch that.
        assert!(gaps.max < 60_000_000_000);
    }

    #[test]
    fn small_machines_get_bursts() {
        assert_eq!(Duty::for_cores(2, 2), Duty::Bursts);
        assert_eq!(Duty::for_cores(2, 1), Duty::Bursts);
        assert_eq!(Duty::for_cores(16, 3), Duty::Continuous);
    }
}
