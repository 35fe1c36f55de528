//! The open loop of one client: every message has an intended time, and nothing that happens to others moves it.
//!
//! *Response time* is from the intended time to the reply, *service time* from the push to the reply. When a message
//! finds no room the intended times go on: it and all behind it are sent as soon as there is room, and the time that
//! they waited counts. So a server that stalls cannot make its clients ask less often and thereby look better than it
//! is (*coordinated omission*).
//!
//! After the end of the schedule the backlog is still sent, until the run is told to stop; what was not sent by then is
//! counted.

use std::sync::atomic::{AtomicU64, Ordering};

use tourbillon::Message;

use super::clock::Clock;
use super::flight::{Flight, Sent};
use super::lateness::LatenessMeter;
use super::pump::Phase;
use super::schedule::Schedule;
use super::source::{Link, Source};
use super::tally::Tally;

/// Messages sent before replies are looked for: a backlog must not let replies wait long for their time to be taken.
const SENDS_PER_ROUND: u32 = 16;
/// Replies taken before the schedule is looked at; more than are sent, so that replies never pile up.
const REPLIES_PER_ROUND: u32 = 64;

/// Where one client is in its schedule.
#[derive(Clone, Debug)]
pub struct Open {
    schedule: Schedule,
    lateness: LatenessMeter,
}

impl Open {
    /// At the beginning of `schedule`.
    pub fn new(schedule: Schedule) -> Self {
        Self { schedule, lateness: LatenessMeter::new() }
    }

    /// Whether the schedule has come to its end.
    pub(super) fn is_at_end(&self, phase: &Phase) -> bool {
        self.schedule.next_ns() >= phase.measure_until_ns
    }

    /// Adds to `tally` what was late, and what was intended before `end_ns` and never sent.
    pub(super) fn finish(mut self, end_ns: u64, tally: &mut Tally) {
        tally.unsent += self.schedule.count_before(end_ns).saturating_sub(self.schedule.passed());
        let (stalls, late_sends) = self.lateness.finish();
        tally.stalls = tally.stalls.plus(stalls);
        tally.late_sends = tally.late_sends.plus(late_sends);
    }
}

/// Runs the loop; whether everything was answered. At most `slots` messages can be in flight.
#[allow(clippy::too_many_arguments, reason = "what one loop works on; a struct would be made for this call alone")]
pub(super) fn run<M: Message, L: Link<M>, S: Source<M>, C: Clock>(
    link: &mut L,
    source: &mut S,
    open: &mut Open,
    slots: usize,
    clock: &C,
    phase: &Phase,
    progress: &AtomicU64,
    tally: &mut Tally,
) -> bool {
    let Open { schedule, lateness } = open;
    let patience_ns = phase.patience.as_nanos() as u64;
    let mut flight = Flight::new(slots);
    let mut now_ns = clock.now_ns();
    let mut alive_ns = now_ns;
    // Made before its time, so that making it does not delay it.
    let mut held = source.next();
    let mut can_send = true;
    loop {
        let may_send = can_send && held.is_some() && !phase.stop.load(Ordering::Relaxed);
        let mut sent = 0;
        while may_send && sent < SENDS_PER_ROUND {
            let intended_ns = schedule.next_ns();
            if intended_ns >= phase.measure_until_ns {
                break;
            }
            if intended_ns > now_ns {
                lateness.on_time();
                break;
            }
            let Some((key, message, ticket)) = &held else { break };
            match link.push(*key, message) {
                Ok(true) => {
                    flight.push(Sent { ticket: *ticket, intended_ns, sent_ns: now_ns });
                    schedule.advance();
                    tally.sent += 1;
                    sent += 1;
                    if phase.is_measured(intended_ns) {
                        lateness.sent(intended_ns, now_ns);
                    }
                    held = source.next();
                }
                Ok(false) => {
                    lateness.no_room();
                    break;
                }
                Err(error) => {
                    tally.ended_by = Some(error.to_string());
                    can_send = false;
                    break;
                }
            }
            now_ns = clock.now_ns();
        }
        let mut popped = 0;
        while popped < REPLIES_PER_ROUND
            && let Some(reply) = link.try_pop()
        {
            now_ns = clock.now_ns();
            match flight.take(source, reply, tally) {
                Err(_) => {
                    take_back(source, held);
                    return false;
                }
                Ok(None) => {}
                Ok(Some(sent)) => {
                    if phase.is_measured(sent.intended_ns) {
                        let response_ns = now_ns.saturating_sub(sent.intended_ns);
                        tally.record(now_ns, now_ns.saturating_sub(sent.sent_ns), Some(response_ns));
                    }
                    tally.measured += u64::from(phase.is_measured(now_ns));
                }
            }
            popped += 1;
        }
        if popped > 0 {
            alive_ns = now_ns;
            // One writer: the count is for the progress bar alone.
            progress.store(tally.received, Ordering::Relaxed);
        } else if flight.is_empty() {
            alive_ns = now_ns;
            if !may_send || schedule.next_ns() >= phase.measure_until_ns {
                take_back(source, held);
                return tally.ended_by.is_none();
            }
        } else if now_ns - alive_ns > patience_ns {
            let why = format!("no reply for {:?} with {} messages in flight", phase.patience, flight.len());
            tally.ended_by.get_or_insert(why);
            take_back(source, held);
            return false;
        }
        if sent == 0 && popped == 0 {
            if phase.is_crowded {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        now_ns = clock.now_ns();
    }
}

/// What was made and not sent is not missed by its judge.
fn take_back<M: Message, S: Source<M>>(source: &mut S, held: Option<(u64, M, super::source::Ticket)>) {
    if let Some((_, _, ticket)) = held {
        source.take_back(ticket);
    }
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
