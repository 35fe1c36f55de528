//! What drives one client: its pace, and what it shares with the others.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tourbillon::{Client, Message};

use super::clock::{Clock, RunClock};
use super::closed;
use super::intervals::Sink;
use super::open::{self, Open};
use super::source::{Link, Source};
use super::tally::Tally;

/// What all clients share while they run. Times are nanoseconds since the start of the run.
#[derive(Debug)]
pub struct Phase {
    /// Set when nothing more shall be sent.
    pub stop: AtomicBool,
    /// The clock of the run.
    pub clock: RunClock,
    /// From then on rates and latencies count.
    pub measure_from_ns: u64,
    /// The end of the measured time. A closed loop measures until it is told to stop.
    pub measure_until_ns: u64,
    /// Longest time without any reply before a client gives up on what it has in flight.
    pub patience: Duration,
    /// Whether threads outnumber cores: then a waiting client yields at once.
    pub is_crowded: bool,
    /// Where samples go by interval, where a log is wanted.
    pub sink: Option<Sink>,
}

impl Phase {
    /// Whether a time lies in the measured time.
    #[inline(always)]
    pub fn is_measured(&self, at_ns: u64) -> bool {
        (self.measure_from_ns..self.measure_until_ns).contains(&at_ns)
    }
}

/// When messages are sent.
#[derive(Debug)]
pub enum Pace {
    /// So many in flight; the next one waits for a reply.
    Closed {
        /// How many.
        outstanding: usize,
    },
    /// At intended times, whatever becomes of them.
    Open(Open),
}

/// One client's loop, kept from one [`pump`] to the next.
#[derive(Debug)]
pub struct Drive<'a> {
    /// What all clients share.
    pub phase: &'a Phase,
    /// Right replies so far, for the progress bar.
    pub progress: &'a AtomicU64,
    /// When to send.
    pub pace: Pace,
    /// What was counted.
    pub tally: Tally,
}

impl<'a> Drive<'a> {
    /// A drive that has sent nothing.
    pub fn new(phase: &'a Phase, progress: &'a AtomicU64, pace: Pace) -> Self {
        let recorder = phase.sink.as_ref().map(|sink| Box::new(sink.recorder()));
        Self { phase, progress, pace, tally: Tally { recorder, ..Tally::new() } }
    }

    /// Whether nothing more shall be sent.
    pub fn is_over(&self) -> bool {
        let is_at_end = matches!(&self.pace, Pace::Open(open) if open.is_at_end(self.phase));
        is_at_end || self.phase.stop.load(Ordering::Relaxed)
    }

    /// What was counted, with what an open loop could not send.
    pub fn finish(mut self) -> Tally {
        if let Some(recorder) = self.tally.recorder.take() {
            recorder.finish();
        }
        if let Pace::Open(open) = self.pace {
            open.finish(self.phase.clock.now_ns().min(self.phase.measure_until_ns), &mut self.tally);
        }
        self.tally
    }
}

/// Sends what `source` gives until it has no more or the run ends, then waits for what is in flight. Whether everything
/// was answered; if not, the tally says why.
pub fn pump<M: Message, S: Source<M>>(client: &mut Client, source: &mut S, drive: &mut Drive<'_>) -> bool {
    let slots = client.lane().capacity() as usize;
    pump_over(client.pipeline::<M>(), slots, source, drive)
}

/// As [`pump`], over a link that has at most `slots` messages in flight.
pub fn pump_over<M: Message, S: Source<M>, L: Link<M>>(
    mut link: L,
    slots: usize,
    source: &mut S,
    drive: &mut Drive<'_>,
) -> bool {
    let Drive { phase, progress, pace, tally } = drive;
    match pace {
        Pace::Closed { outstanding } => closed::run(&mut link, source, *outstanding, phase, progress, tally),
        Pace::Open(open) => open::run(&mut link, source, open, slots, &phase.clock, phase, progress, tally),
    }
}
