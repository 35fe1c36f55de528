//! What one client counted.

use hdrhistogram::Histogram;

use super::intervals::Recorder;
use super::lateness::Lateness;
use crate::latency::new_histogram;

/// What one client counted.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Messages sent.
    pub sent: u64,
    /// Replies with the right content.
    pub received: u64,
    /// Replies that were failures or had wrong content.
    pub failed: u64,
    /// Right replies that came in the measured time.
    pub measured: u64,
    /// From push to pop, nanoseconds, in the measured time.
    pub service: Histogram<u64>,
    /// From the intended time to the pop, nanoseconds, of the messages intended in the measured time; empty in a closed
    /// loop.
    pub response: Histogram<u64>,
    /// The samples of both once more, by interval, where a log is wanted.
    pub recorder: Option<Box<Recorder>>,
    /// Messages of an open loop whose intended time had come and that were never sent.
    pub unsent: u64,
    /// Messages that were sent late because there was no room.
    pub stalls: Lateness,
    /// Messages that were sent late though there was room.
    pub late_sends: Lateness,
    /// The first failure.
    pub first_failure: Option<String>,
    /// Why the client ended early.
    pub ended_by: Option<String>,
}

impl Tally {
    /// All zero.
    pub fn new() -> Self {
        Self {
            sent: 0,
            received: 0,
            failed: 0,
            measured: 0,
            service: new_histogram(),
            response: new_histogram(),
            recorder: None,
            unsent: 0,
            stalls: Lateness::new(),
            late_sends: Lateness::new(),
            first_failure: None,
            ended_by: None,
        }
    }

    /// Takes the times of a right reply at `now_ns` since the start of the run.
    #[inline]
    pub fn record(&mut self, now_ns: u64, service_ns: u64, response_ns: Option<u64>) {
        self.service.saturating_record(service_ns);
        if let Some(response_ns) = response_ns {
            self.response.saturating_record(response_ns);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.record(now_ns, service_ns, response_ns);
        }
    }

    /// Adds what another client counted.
    pub fn merge(&mut self, other: Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.failed += other.failed;
        self.measured += other.measured;
        // All histograms have the same bounds, so the sums always fit.
        let _ = self.service.add(&other.service);
        let _ = self.response.add(&other.response);
        self.unsent += other.unsent;
        self.stalls = self.stalls.plus(other.stalls);
        self.late_sends = self.late_sends.plus(other.late_sends);
        self.first_failure = self.first_failure.take().or(other.first_failure);
        self.ended_by = self.ended_by.take().or(other.ended_by);
    }

    /// The first failure, or why the client ended early.
    pub fn failure(&self) -> Option<String> {
        self.first_failure.clone().or(self.ended_by.clone())
    }

    /// Messages that were never answered.
    pub fn unanswered(&self) -> u64 {
        self.sent - self.received - self.failed
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}
