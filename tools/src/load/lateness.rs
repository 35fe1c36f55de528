//! Messages of an open loop that were sent later than intended, and why.

use serde::Serialize;

/// A message sent by more than this after its intended time is late. Longer than a loop with room takes, far shorter
/// than a pause or a time slice of the scheduler.
pub const LATE_NS: u64 = 100_000;

/// Late messages of one cause, of those intended in the measured time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lateness {
    /// A message that was sent by more than so many nanoseconds after its intended time counts.
    pub bound_ns: u64,
    /// Such messages.
    pub count: u64,
    /// Time that passed with such messages: of each series of them, from the intended time of the first to the sending
    /// of the last, in nanoseconds; the sum over all clients.
    pub total_ns: u64,
    /// The latest of them, in nanoseconds after its intended time.
    pub longest_ns: u64,
}

impl Lateness {
    /// None yet.
    pub fn new() -> Self {
        Self { bound_ns: LATE_NS, ..Self::default() }
    }

    /// The sum with what another client saw.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            bound_ns: self.bound_ns.max(other.bound_ns),
            count: self.count + other.count,
            total_ns: self.total_ns + other.total_ns,
            longest_ns: self.longest_ns.max(other.longest_ns),
        }
    }
}

/// Why the messages of now are late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// The sender itself came too late: it was not running, or had other messages to send and check.
    Sender,
    /// A message found no room; it and all behind it, until the sender is on time again.
    Room,
}

/// Sorts the messages of one client.
#[derive(Clone, Debug)]
pub struct LatenessMeter {
    cause: Cause,
    /// Intended time of the first and sending of the last message of the series.
    series: Option<(u64, u64)>,
    stalls: Lateness,
    own: Lateness,
}

impl LatenessMeter {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self { cause: Cause::Sender, series: None, stalls: Lateness::new(), own: Lateness::new() }
    }

    /// A message that was due found no room.
    #[inline]
    pub fn no_room(&mut self) {
        if self.cause != Cause::Room {
            self.end_series();
            self.cause = Cause::Room;
        }
    }

    /// A message of the measured time was sent.
    #[inline]
    pub fn sent(&mut self, intended_ns: u64, sent_ns: u64) {
        let late_ns = sent_ns.saturating_sub(intended_ns);
        if late_ns <= LATE_NS {
            return;
        }
        let lateness = self.of_cause();
        lateness.count += 1;
        lateness.longest_ns = lateness.longest_ns.max(late_ns);
        let first = self.series.map_or(intended_ns, |(first, _)| first);
        self.series = Some((first, sent_ns));
    }

    /// Nothing is due: the sender is on time.
    #[inline(always)]
    pub fn on_time(&mut self) {
        if self.series.is_some() || self.cause == Cause::Room {
            self.end_series();
            self.cause = Cause::Sender;
        }
    }

    /// Ends the series; messages that were late because there was no room (*stalls*), and the others.
    pub fn finish(&mut self) -> (Lateness, Lateness) {
        self.end_series();
        (self.stalls, self.own)
    }

    fn of_cause(&mut self) -> &mut Lateness {
        match self.cause {
            Cause::Sender => &mut self.own,
            Cause::Room => &mut self.stalls,
        }
    }

    #[cold]
    fn end_series(&mut self) {
        if let Some((first, last)) = self.series.take() {
            self.of_cause().total_ns += last - first;
        }
    }
}

impl Default for LatenessMeter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_behind_one_without_room_are_stalled_until_the_sender_is_on_time() {
        let mut meter = LatenessMeter::new();
        meter.sent(1_000, 1_050);
        meter.no_room();
        meter.no_room();
        meter.sent(2_000, 302_000);
        meter.sent(3_000, 303_000);
        // Late by no more than the bound.
        meter.sent(250_000, 304_000);
        meter.on_time();
        // The sender was away.
        meter.sent(1_000_000, 1_200_000);
        meter.on_time();
        let (stalls, own) = meter.finish();
        let bound_ns = LATE_NS;
        assert_eq!(stalls, Lateness { bound_ns, count: 2, total_ns: 301_000, longest_ns: 300_000 });
        assert_eq!(own, Lateness { bound_ns, count: 1, total_ns: 200_000, longest_ns: 200_000 });
    }

    #[test]
    fn a_series_that_ran_into_a_full_lane_is_split_by_cause() {
        let mut meter = LatenessMeter::new();
        meter.sent(0, 500_000);
        meter.no_room();
        meter.sent(1_000, 900_000);
        let (stalls, own) = meter.finish();
        assert_eq!((own.count, own.total_ns), (1, 500_000));
        assert_eq!((stalls.count, stalls.total_ns), (1, 899_000));
        assert_eq!(stalls.plus(own).longest_ns, 899_000);
    }
}
