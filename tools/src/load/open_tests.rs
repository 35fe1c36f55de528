//! A simulated clock and a simulated server, against an oracle that knows nothing of loops.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use proptest::prelude::*;
use tourbillon::actors::counter::{Add, Added};
use tourbillon::{CallError, ErrorOf, ReplyOf, SendError};

use super::*;
use crate::latency::new_histogram;
use crate::load::clock::RunClock;
use crate::load::counter::Adds;
use crate::load::keys::{Distribution, KeyChooser};
use crate::load::schedule::Rate;

/// Every reading takes so long, so that time passes.
const READING_NS: u64 = 50;
/// What a message costs the server.
const SERVICE_NS: u64 = 2_000;
/// One round of the loop, with all sends and replies that it may have: times are that coarse.
const ROUND_NS: u64 = READING_NS * (SENDS_PER_ROUND + REPLIES_PER_ROUND + 2) as u64;

#[derive(Clone)]
struct SimClock {
    now_ns: Rc<Cell<u64>>,
    /// Ends the run at that time.
    stop: Option<(u64, Rc<Phase>)>,
}

impl Clock for SimClock {
    fn now_ns(&self) -> u64 {
        let now_ns = self.now_ns.get() + READING_NS;
        self.now_ns.set(now_ns);
        if let Some((at_ns, phase)) = &self.stop
            && now_ns >= *at_ns
        {
            phase.stop.store(true, Ordering::Relaxed);
        }
        now_ns
    }
}

/// When a server that does nothing in `stalls` (sorted, apart) is done with a message begun at `start_ns`.
fn served(start_ns: u64, stalls: &[(u64, u64)]) -> u64 {
    let (mut at_ns, mut left_ns) = (start_ns, SERVICE_NS);
    for &(from, to) in stalls {
        if at_ns + left_ns <= from {
            break;
        }
        if at_ns < to {
            left_ns -= from.saturating_sub(at_ns);
            at_ns = to;
        }
    }
    at_ns + left_ns
}

/// Serves adds one after the other; a ring of `capacity` messages lies before it.
struct Server {
    now_ns: Rc<Cell<u64>>,
    capacity: usize,
    stalls: Vec<(u64, u64)>,
    free_ns: u64,
    ring: VecDeque<(u64, Added)>,
    counters: HashMap<u64, Added>,
    /// Refuses from that time on.
    ends_ns: u64,
}

impl Server {
    fn new(clock: &SimClock, capacity: usize, stalls: Vec<(u64, u64)>) -> Self {
        let now_ns = Rc::clone(&clock.now_ns);
        let (ring, counters) = (VecDeque::new(), HashMap::new());
        Self { now_ns, capacity, stalls, free_ns: 0, ring, counters, ends_ns: u64::MAX }
    }
}

impl Link<Add> for Server {
    fn push(&mut self, key: u64, message: &Add) -> Result<bool, SendError> {
        if self.now_ns.get() >= self.ends_ns {
            return Err(SendError::EngineStopped { reason: Arc::from("the test says so") });
        }
        if self.ring.len() == self.capacity {
            return Ok(false);
        }
        self.free_ns = served(self.free_ns.max(self.now_ns.get()), &self.stalls);
        let counter = self.counters.entry(key).or_insert(Added { previous: 0, last_sequence: 0 });
        self.ring.push_back((self.free_ns, *counter));
        *counter = Added { previous: counter.previous + 1, last_sequence: message.sequence };
        Ok(true)
    }

    fn try_pop(&mut self) -> Option<Result<ReplyOf<Add>, CallError<ErrorOf<Add>>>> {
        let (_, reply) = self.ring.pop_front_if(|(ready_ns, _)| *ready_ns <= self.now_ns.get())?;
        Some(Ok(reply))
    }
}

struct Setting {
    rate: Rate,
    run_ns: u64,
    capacity: usize,
    stalls: Vec<(u64, u64)>,
    stop_ns: Option<u64>,
    ends_ns: u64,
    patience: Duration,
}

impl Setting {
    fn new(rate: f64, run_ns: u64) -> Self {
        let (stalls, ends_ns, patience) = (Vec::new(), u64::MAX, Duration::from_secs(1));
        Self { rate: Rate::new(rate), run_ns, capacity: 64, stalls, stop_ns: None, ends_ns, patience }
    }

    /// Runs the loop; what was counted and whether it says that everything was answered.
    fn run(&self) -> (Tally, bool) {
        let phase = Rc::new(Phase {
            stop: AtomicBool::new(false),
            clock: RunClock { start: Instant::now() },
            measure_from_ns: 0,
            measure_until_ns: self.run_ns,
            patience: self.patience,
            is_crowded: false,
            sink: None,
        });
        let clock =
            SimClock { now_ns: Rc::new(Cell::new(0)), stop: self.stop_ns.map(|at_ns| (at_ns, Rc::clone(&phase))) };
        let mut server = Server { ends_ns: self.ends_ns, ..Server::new(&clock, self.capacity, self.stalls.clone()) };
        let mut adds = Adds::new(0, 16, KeyChooser::new(16, Distribution::Uniform), 1);
        let mut open = Open::new(Schedule::new(self.rate, 0, 1));
        let mut tally = Tally::new();
        let progress = AtomicU64::new(0);
        let all = run(&mut server, &mut adds, &mut open, self.capacity, &clock, &phase, &progress, &mut tally);
        let end_ns = clock.now_ns.get().min(self.run_ns);
        open.finish(end_ns, &mut tally);
        assert_eq!(adds.judge.faults().lost, tally.unanswered(), "what was made and not sent is not lost");
        (tally, all)
    }

    /// The response times of a server with a queue without bounds, from intended times alone.
    fn oracle(&self) -> Histogram<u64> {
        let (mut responses, mut free_ns) = (new_histogram(), 0);
        let mut schedule = Schedule::new(self.rate, 0, 1);
        while schedule.next_ns() < self.run_ns {
            free_ns = served(schedule.next_ns().max(free_ns), &self.stalls);
            responses.saturating_record(free_ns - schedule.next_ns());
            schedule.advance();
        }
        responses
    }
}

/// Compares response times of messages every `interval_ns`, which met `edges` stalls.
fn assert_equal(found: &Histogram<u64>, oracle: &Histogram<u64>, interval_ns: u64, edges: u64) {
    assert_eq!(found.len(), oracle.len());
    for quantile in [0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0] {
        let (value, expected) = (found.value_at_quantile(quantile), oracle.value_at_quantile(quantile));
        // Two steps of the histogram and the length of a round, which may also put a message on the other side of a stall's edge: then
        // all that wait for it are one interval off.
        let tolerance = expected / 500 + ROUND_NS + edges * interval_ns;
        assert!(value.abs_diff(expected) <= tolerance, "quantile {quantile}: {value}, the oracle says {expected}");
    }
}

#[test]
fn without_stalls_response_is_service() {
    let setting = Setting::new(100_000.0, 20_000_000);
    let (tally, all) = setting.run();
    assert!(all && tally.sent == 2_000 && tally.received == 2_000 && tally.unsent == 0, "{tally:?}");
    assert_equal(&tally.response, &setting.oracle(), 10_000, 0);
    assert!(tally.response.max() <= SERVICE_NS + ROUND_NS && tally.stalls.count == 0);
}

#[test]
fn waiting_for_a_stalled_server_is_counted() {
    // 200,000 a second for 100 ms; the server stands still for 10 ms, a tenth of the messages.
    let setting = Setting { stalls: vec![(30_000_000, 40_000_000)], ..Setting::new(200_000.0, 100_000_000) };
    let (tally, all) = setting.run();
    assert!(all && tally.received == 20_000, "{tally:?}");
    assert_equal(&tally.response, &setting.oracle(), 5_000, 1);
    assert!(tally.response.value_at_quantile(0.99) > 9_000_000, "{}", tally.response.value_at_quantile(0.99));
    // Who measures from the sending sees 64 messages that waited, of 20,000.
    assert!(tally.service.value_at_quantile(0.5) < 2 * SERVICE_NS + ROUND_NS);
    assert!(tally.service.value_at_quantile(0.9) < 65 * SERVICE_NS + ROUND_NS);
    // All but the 64 that had room waited, until the backlog was gone.
    assert!(tally.stalls.count > 1_900 && tally.stalls.longest_ns > 9_000_000, "{:?}", tally.stalls);
    assert!((10_000_000..20_000_000).contains(&tally.stalls.total_ns), "{:?}", tally.stalls);
    assert_eq!(tally.late_sends.count, 0);
}

#[test]
fn a_message_at_the_edge_of_a_stall_may_fall_into_it() {
    let stalls = [(1_387_516, 517_901), (10_725_202, 143)].map(|(from, length)| (from, from + length)).to_vec();
    let setting = Setting { capacity: 4, stalls, ..Setting::new(1e9 / 11_643.0, 20_000_000) };
    let (tally, all) = setting.run();
    assert!(all && tally.failed == 0 && tally.unsent == 0);
    assert_equal(&tally.response, &setting.oracle(), 11_643, 2);
}

#[test]
fn a_backlog_is_sent_after_the_end_or_counted() {
    // Twice what the server can do.
    let overload = Setting::new(1_000_000.0, 10_000_000);
    let (tally, all) = overload.run();
    assert!(all && tally.sent == 10_000 && tally.unsent == 0);
    assert_equal(&tally.response, &overload.oracle(), 1_000, 0);
    assert!(tally.response.max() > 9_000_000);

    let (tally, all) = Setting { stop_ns: Some(10_000_000), ..overload }.run();
    assert!(all && tally.sent + tally.unsent == 10_000 && tally.received == tally.sent, "{tally:?}");
    assert!((4_500..5_200).contains(&tally.unsent), "{}", tally.unsent);
}

#[test]
fn an_interrupted_run_misses_only_what_was_due() {
    let (tally, all) = Setting { stop_ns: Some(5_000_000), ..Setting::new(100_000.0, 10_000_000) }.run();
    assert!(all && tally.sent + tally.unsent <= 502 && tally.sent >= 499, "{} and {}", tally.sent, tally.unsent);
}

#[test]
fn a_server_that_never_answers_ends_the_run_with_a_reason() {
    let stalls = vec![(1_000_000, u64::MAX / 2)];
    let (tally, all) =
        Setting { stalls, patience: Duration::from_millis(5), ..Setting::new(100_000.0, 10_000_000) }.run();
    assert!(!all && tally.unanswered() == 64, "{tally:?}");
    assert!(tally.ended_by.unwrap().contains("no reply for 5ms with 64"));
    assert!(tally.unsent > 400, "{}", tally.unsent);
}

#[test]
fn an_engine_that_ends_is_the_reason_and_what_was_due_is_unsent() {
    let (tally, all) = Setting { ends_ns: 5_000_000, ..Setting::new(100_000.0, 10_000_000) }.run();
    assert!(!all && tally.ended_by.unwrap().contains("the test says so"));
    assert!(tally.unsent <= 2 && tally.received == tally.sent);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn response_times_are_those_of_the_oracle(
        interval_ns in 2_500..20_000u64,
        capacity in 4..200usize,
        first in (1_000_000..4_000_000u64, 1..5_000_000u64),
        second in (10_000_000..12_000_000u64, 1..3_000_000u64),
    ) {
        let stalls = [first, second].map(|(from, length)| (from, from + length)).to_vec();
        let setting = Setting { capacity, stalls, ..Setting::new(1e9 / interval_ns as f64, 20_000_000) };
        let (tally, all) = setting.run();
        prop_assert!(all && tally.failed == 0 && tally.unsent == 0);
        assert_equal(&tally.response, &setting.oracle(), interval_ns, 2);
    }
}
