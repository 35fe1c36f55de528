//! The closed loop of one client: so many messages in flight, each reply checked when it comes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tourbillon::{CallError, Client, ErrorOf, Message, ReplyOf};

use super::options::STALL;
use crate::latency::new_histogram;

/// Rounds without a reply before the thread yields its core.
const SPIN_ROUNDS: u32 = 256;
/// Rounds without a reply before it sleeps between looks: some tenths of a millisecond of yielding.
const YIELD_ROUNDS: u32 = 20_000;
/// Length of such a sleep, short against what made the wait long.
const SLEEP: Duration = Duration::from_micros(50);
/// Rounds between two looks at the clock while waiting.
const CLOCK_ROUNDS: u32 = 1024;

/// What is known of a message in flight.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    /// Index of the key.
    pub key: usize,
    /// The message's number among those of this client to the key.
    pub number: u64,
    /// What the actor's check needs to know.
    pub expected: u64,
}

/// What a check of a reply found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The content is right; order is the judge's matter.
    Right,
    /// It is not; says how.
    Wrong(String),
}

/// Where messages of one type come from and who checks their replies.
pub trait Source<M: Message> {
    /// The next message and its key; nothing when there are no more.
    fn next(&mut self) -> Option<(u64, M, Ticket)>;
    /// The message made last could not be sent.
    fn take_back(&mut self, ticket: Ticket);
    /// A reply came.
    fn check(&mut self, ticket: Ticket, reply: Result<ReplyOf<M>, CallError<ErrorOf<M>>>) -> Check;
}

/// What all clients share while they run.
#[derive(Debug)]
pub struct Phase {
    /// Set when nothing more shall be sent.
    pub stop: AtomicBool,
    /// From then on rates and latencies count.
    pub measure_from: Instant,
    /// How many messages each client keeps in flight.
    pub outstanding: usize,
    /// Whether threads outnumber cores: then a waiting client yields at once.
    pub is_crowded: bool,
}

/// What one client counted.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Messages sent.
    pub sent: u64,
    /// Replies with the right content.
    pub received: u64,
    /// Replies that were failures or had wrong content.
    pub failed: u64,
    /// Right replies in the measured time.
    pub measured: u64,
    /// From push to pop, nanoseconds, in the measured time.
    pub latency: Histogram<u64>,
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
            latency: new_histogram(),
            first_failure: None,
            ended_by: None,
        }
    }

    /// Adds what another client counted.
    pub fn merge(&mut self, other: Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.failed += other.failed;
        self.measured += other.measured;
        // Both histograms have the same bounds, so the sum always fits.
        let _ = self.latency.add(&other.latency);
        self.first_failure = self.first_failure.take().or(other.first_failure);
        self.ended_by = self.ended_by.take().or(other.ended_by);
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

/// How a client waits for replies.
#[derive(Debug)]
struct Wait {
    rounds: u32,
    spin_rounds: u32,
    since: Instant,
}

impl Wait {
    fn new(is_crowded: bool) -> Self {
        Self { rounds: 0, spin_rounds: if is_crowded { 0 } else { SPIN_ROUNDS }, since: Instant::now() }
    }

    /// Waits a little; whether there has been nothing for [`STALL`].
    fn once(&mut self) -> bool {
        if self.rounds == 0 {
            self.since = Instant::now();
        }
        self.rounds = self.rounds.saturating_add(1);
        if self.rounds <= self.spin_rounds {
            std::hint::spin_loop();
        } else if self.rounds <= YIELD_ROUNDS {
            std::thread::yield_now();
        } else {
            std::thread::sleep(SLEEP);
        }
        (self.rounds > YIELD_ROUNDS || self.rounds.is_multiple_of(CLOCK_ROUNDS)) && self.since.elapsed() > STALL
    }
}

/// Sends what `source` gives until it has no more or the phase stops, then waits for what is in flight. Whether
/// everything was answered; if not, `tally` says why.
pub fn pump<M: Message, S: Source<M>>(
    client: &mut Client,
    source: &mut S,
    phase: &Phase,
    progress: &AtomicU64,
    tally: &mut Tally,
) -> bool {
    let mut in_flight: VecDeque<(Ticket, Instant)> = VecDeque::with_capacity(phase.outstanding);
    let mut wait = Wait::new(phase.is_crowded);
    let mut pipeline = client.pipeline::<M>();
    let mut has_more = true;
    loop {
        let stopping = phase.stop.load(Ordering::Relaxed);
        while has_more && !stopping && in_flight.len() < phase.outstanding {
            let Some((key, message, ticket)) = source.next() else {
                has_more = false;
                break;
            };
            let sent_at = Instant::now();
            match pipeline.push(key, &message) {
                Ok(true) => {
                    tally.sent += 1;
                    in_flight.push_back((ticket, sent_at));
                }
                Ok(false) => {
                    source.take_back(ticket);
                    break;
                }
                Err(error) => {
                    source.take_back(ticket);
                    tally.ended_by = Some(error.to_string());
                    has_more = false;
                }
            }
        }
        let mut popped = false;
        while let Some(reply) = pipeline.try_pop() {
            let now = Instant::now();
            let Some((ticket, sent_at)) = in_flight.pop_front() else {
                tally.ended_by = Some("a reply came to a message that was never sent".into());
                return false;
            };
            if let Err(error @ (CallError::EngineStopped { .. } | CallError::Timeout { .. })) = &reply {
                // No answer, and none will come: what is in flight stays unanswered, which the judge calls lost.
                tally.ended_by.get_or_insert_with(|| error.to_string());
                return false;
            }
            popped = true;
            match source.check(ticket, reply) {
                Check::Right => {
                    tally.received += 1;
                    if now >= phase.measure_from && !stopping {
                        tally.measured += 1;
                        tally.latency.saturating_record((now - sent_at).as_nanos() as u64);
                    }
                }
                Check::Wrong(how) => {
                    tally.failed += 1;
                    tally.first_failure.get_or_insert(how);
                }
            }
        }
        if popped {
            wait.rounds = 0;
            // One writer: the count is for the progress bar alone.
            progress.store(tally.received, Ordering::Relaxed);
            continue;
        }
        if in_flight.is_empty() {
            if stopping || !has_more {
                return tally.ended_by.is_none();
            }
        } else if wait.once() {
            let why = format!("no reply for {} s with {} messages in flight", STALL.as_secs(), in_flight.len());
            tally.ended_by.get_or_insert(why);
            return false;
        }
    }
}
