//! How much of everything, the same for all peers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use thiserror::Error;
use tourbillon_tools::latency::new_histogram;

use crate::task::{ACTORS, Asker, Reply, Request, SENDERS, WrongReply, keys_of_pair};

/// Why a peer has no figures.
pub type Measured<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Most requests that may be outstanding: every actor tells so many senders apart.
pub const OUTSTANDING_MAX: u32 = ACTORS as u32 * SENDERS as u32;
/// Most threads: two for each actor.
pub const THREADS_MAX: u32 = 2 * ACTORS as u32;
/// Places of a channel or ring between two threads: all that is outstanding, and then some.
pub const CAPACITY: usize = 1024;
const _: () = assert!(OUTSTANDING_MAX as usize <= CAPACITY);

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Round trips that count.
    pub trips: u32,
    /// Round trips before them.
    pub warmup_trips: u32,
    /// How long the rate is taken.
    pub rate_time: Duration,
    /// Pairs of threads while the rate is taken: one asks, one answers.
    pub pairs: u32,
    /// Requests that are outstanding while the rate is taken, all askers together.
    pub outstanding: u32,
}

/// A plan that cannot be followed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// Threads come in pairs, and each pair has as many actors as the others.
    #[error("{0} threads cannot share the work evenly; choose a power of two, 2 to {THREADS_MAX}")]
    Threads(u32),
    /// Every thread and every actor must have something to do, and no actor more senders than it tells apart.
    #[error("{asked} outstanding requests: choose a multiple of {ACTORS}, up to {OUTSTANDING_MAX}")]
    Outstanding {
        /// How many were asked for.
        asked: u32,
    },
}

impl Plan {
    /// The plan for so many threads and outstanding requests while the rate is taken; round trips have two threads.
    ///
    /// # Errors
    /// [`PlanError`] says what to choose instead.
    pub fn new(threads: u32, outstanding: u32) -> Result<Self, PlanError> {
        if !threads.is_power_of_two() || !(2..=THREADS_MAX).contains(&threads) {
            return Err(PlanError::Threads(threads));
        }
        if outstanding == 0 || outstanding > OUTSTANDING_MAX || !outstanding.is_multiple_of(ACTORS as u32) {
            return Err(PlanError::Outstanding { asked: outstanding });
        }
        Ok(Self {
            trips: 20_000,
            warmup_trips: 2_000,
            rate_time: Duration::from_millis(500),
            pairs: threads / 2,
            outstanding,
        })
    }

    /// Threads while the rate is taken.
    pub fn threads(&self) -> u32 {
        self.pairs * 2
    }

    /// Requests that each of the pairs has outstanding.
    pub fn outstanding_of_pair(&self) -> usize {
        (self.outstanding / self.pairs).max(1) as usize
    }

    /// The askers of peers with a task for each outstanding request.
    pub fn sharing_askers(&self) -> impl Iterator<Item = Asker> + use<> {
        let actors = ACTORS as u32;
        (0..self.outstanding).map(move |task| Asker::sharing(task / actors, u64::from(task % actors)))
    }

    /// The asker of a pair.
    pub fn asker_of_pair(&self, pair: u32) -> Asker {
        Asker::alone(keys_of_pair(pair.into(), self.pairs.into()))
    }
}

/// Round trips, one after the other.
#[derive(Debug)]
pub struct Trips {
    asker: Asker,
    warmup: u32,
    left: u32,
    times: Histogram<u64>,
}

impl Trips {
    /// The round trips of a plan, to all actors in turn.
    pub fn new(plan: &Plan) -> Self {
        let (warmup, left) = (plan.warmup_trips, plan.trips);
        Self { asker: Asker::alone(0..ACTORS), warmup, left, times: new_histogram() }
    }

    /// The next request; nothing after the last.
    pub fn next(&mut self) -> Option<Request> {
        (self.warmup + self.left > 0).then(|| self.asker.request())
    }

    /// Checks a reply and keeps its time.
    ///
    /// # Errors
    /// The reply is wrong.
    pub fn record(&mut self, time: Duration, request: &Request, reply: &Reply) -> Result<(), WrongReply> {
        self.asker.check(request, reply)?;
        if self.warmup > 0 {
            self.warmup -= 1;
        } else {
            self.left -= 1;
            self.times.saturating_record(time.as_nanos() as u64);
        }
        Ok(())
    }

    /// All round trips, each made by `ask`.
    ///
    /// # Errors
    /// What `ask` says, or a wrong reply.
    pub fn run(mut self, mut ask: impl FnMut(&Request) -> Measured<Reply>) -> Measured<Histogram<u64>> {
        while let Some(request) = self.next() {
            let begin = Instant::now();
            let reply = ask(&request)?;
            self.record(begin.elapsed(), &request, &reply)?;
        }
        Ok(self.done())
    }

    /// The times.
    pub fn done(self) -> Histogram<u64> {
        self.times
    }
}

/// Checked replies of one asker, alone in its cache lines.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Count(AtomicU64);

/// What the askers of a rate share.
#[derive(Debug)]
pub struct Tallied {
    stop: AtomicBool,
    counts: Vec<Count>,
}

impl Tallied {
    /// For so many askers.
    pub fn new(askers: usize) -> Self {
        Self { stop: AtomicBool::new(false), counts: (0..askers).map(|_| Count::default()).collect() }
    }

    /// Whether to send nothing more.
    pub fn is_over(&self) -> bool {
        // Relaxed, here and below: nothing is read on the strength of these words.
        self.stop.load(Ordering::Relaxed)
    }

    /// Asker number `asker` has so many checked replies by now.
    pub fn note(&self, asker: usize, replies: u64) {
        self.counts[asker].0.store(replies, Ordering::Relaxed);
    }

    /// Ends it without a rate.
    pub fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits, and ends it: checked replies a second.
    pub fn rate(&self, time: Duration) -> f64 {
        /// Time at the start that does not count.
        const WARMUP: Duration = Duration::from_millis(100);
        let sum = || self.counts.iter().map(|count| count.0.load(Ordering::Relaxed)).sum::<u64>();
        std::thread::sleep(WARMUP);
        let (begin, before) = (Instant::now(), sum());
        std::thread::sleep(time);
        let (after, elapsed) = (sum(), begin.elapsed());
        self.end();
        (after - before) as f64 / elapsed.as_secs_f64()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::task::Table;

    /// A plan for tests.
    pub(crate) fn short(threads: u32) -> Plan {
        let plan = Plan::new(threads, 64).unwrap();
        Plan { trips: 200, warmup_trips: 10, rate_time: Duration::from_millis(50), ..plan }
    }

    #[test]
    fn bad_plans_are_refused() {
        for threads in [0, 1, 3, 6, 256] {
            assert_eq!(Plan::new(threads, 512).unwrap_err(), PlanError::Threads(threads));
        }
        for asked in [0, 1, 100, 960] {
            assert_eq!(Plan::new(2, asked).unwrap_err(), PlanError::Outstanding { asked });
        }
        let text = Plan::new(3, 512).unwrap_err().to_string();
        assert!(text.contains("power of two") && text.contains("128"), "{text}");
        assert_eq!(Plan::new(4, 512).unwrap().outstanding_of_pair(), 256);
    }

    #[test]
    fn trips_are_counted_and_checked() {
        let mut table = Table::of_pair(0, 1);
        let times = Trips::new(&short(2)).run(|request| Ok(table.add(request))).unwrap();
        assert_eq!(times.len(), 200);
        let forgetful = Trips::new(&short(2)).run(|request| Ok(Table::of_pair(0, 1).add(request)));
        assert!(forgetful.unwrap_err().to_string().contains("was answered with"));
    }

    #[test]
    fn no_actor_has_more_senders_than_it_tells_apart() {
        let plan = Plan::new(2, OUTSTANDING_MAX).unwrap();
        let mut requests: Vec<_> = plan.sharing_askers().map(|mut asker| asker.request()).collect();
        assert!(requests.iter().all(|request| (request.sender as usize) < SENDERS && request.key < ACTORS));
        requests.sort_unstable_by_key(|request| (request.key, request.sender));
        requests.dedup_by_key(|request| (request.key, request.sender));
        assert_eq!(requests.len(), OUTSTANDING_MAX as usize);
    }

    #[test]
    fn rates_are_of_the_time_that_was_measured() {
        let tallied = Tallied::new(2);
        let rate = std::thread::scope(|scope| {
            scope.spawn(|| {
                for count in 1.. {
                    tallied.note(1, count);
                    std::thread::sleep(Duration::from_millis(1));
                    if tallied.is_over() {
                        return;
                    }
                }
            });
            tallied.rate(Duration::from_millis(200))
        });
        assert!(rate > 0.0 && rate < 1_100.0, "{rate}: one in a millisecond, and fewer on a busy machine");
    }
}
