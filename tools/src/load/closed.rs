//! The closed loop of one client: so many messages in flight, each reply checked when it comes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tourbillon::Message;

use super::clock::Clock;
use super::flight::{Flight, Sent};
use super::pump::Phase;
use super::source::{Link, Source};
use super::tally::Tally;

/// Rounds without a reply before the thread yields its core.
const SPIN_ROUNDS: u32 = 256;
/// Rounds without a reply before it sleeps between looks: some tenths of a millisecond of yielding.
const YIELD_ROUNDS: u32 = 20_000;
/// Length of such a sleep, short against what made the wait long.
const SLEEP: Duration = Duration::from_micros(50);
/// Rounds between two looks at the clock while waiting.
const CLOCK_ROUNDS: u32 = 1024;

/// How a client waits for replies.
#[derive(Debug)]
struct Wait {
    rounds: u32,
    spin_rounds: u32,
    since: Instant,
    patience: Duration,
}

impl Wait {
    fn new(phase: &Phase) -> Self {
        let spin_rounds = if phase.is_crowded { 0 } else { SPIN_ROUNDS };
        Self { rounds: 0, spin_rounds, since: Instant::now(), patience: phase.patience }
    }

    /// Waits a little; whether there has been nothing for longer than the patience.
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
        (self.rounds > YIELD_ROUNDS || self.rounds.is_multiple_of(CLOCK_ROUNDS)) && self.since.elapsed() > self.patience
    }
}

/// Runs the loop; whether everything was answered.
pub(super) fn run<M: Message, L: Link<M>, S: Source<M>>(
    link: &mut L,
    source: &mut S,
    outstanding: usize,
    phase: &Phase,
    progress: &AtomicU64,
    tally: &mut Tally,
) -> bool {
    let clock = &phase.clock;
    let mut flight = Flight::new(outstanding);
    let mut wait = Wait::new(phase);
    let mut has_more = true;
    loop {
        let stopping = phase.stop.load(Ordering::Relaxed);
        while has_more && !stopping && flight.len() < outstanding {
            let Some((key, message, ticket)) = source.next() else {
                has_more = false;
                break;
            };
            let sent_ns = clock.now_ns();
            match link.push(key, &message) {
                Ok(true) => {
                    tally.sent += 1;
                    flight.push(Sent { ticket, intended_ns: sent_ns, sent_ns });
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
        while let Some(reply) = link.try_pop() {
            let now_ns = clock.now_ns();
            match flight.take(source, reply, tally) {
                Err(_) => return false,
                Ok(None) => {}
                Ok(Some(sent)) => {
                    if now_ns >= phase.measure_from_ns && !stopping {
                        tally.measured += 1;
                        tally.record(now_ns, now_ns - sent.sent_ns, None);
                    }
                }
            }
            popped = true;
        }
        if popped {
            wait.rounds = 0;
            // One writer: the count is for the progress bar alone.
            progress.store(tally.received, Ordering::Relaxed);
            continue;
        }
        if flight.is_empty() {
            if stopping || !has_more {
                return tally.ended_by.is_none();
            }
        } else if wait.once() {
            let why = format!("no reply for {:?} with {} messages in flight", phase.patience, flight.len());
            tally.ended_by.get_or_insert(why);
            return false;
        }
    }
}
