//! The engine: round trips, rate, messages of one launch, copies of state. Every reply is compared.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tourbillon::actors::counter::{Add, Added, Counter, SENDERS};
use tourbillon::{Backend, BackendKind, Client, DeviceSelector, Engine, EngineBuilder};
use tourbillon_shared::telemetry;
use tourbillon_tools::environment::{cores, geometry_text};
use tourbillon_tools::latency::new_histogram;
use tourbillon_tools::random::{Random, mix};

use tourbillon_benches::results::{Figure, Results};

/// Actors that a client calls: enough that all shards live, few enough that they stay in the caches, as the
/// floors' words do.
pub const KEYS: u64 = 1024;
/// Messages of one round of calls.
pub const TRIPS: u32 = 20_000;
/// Calls before those that are measured.
pub const WARMUP_TRIPS: u32 = 2_000;
/// Launches of the latency measurement.
pub const LAUNCHES: u32 = 10;
/// Messages that a client has in flight: most of a lane's ring.
const OUTSTANDING: usize = 960;
/// Length of a run of the rate.
const RATE_TIME: Duration = Duration::from_secs(2);
/// Runs of the rate.
const RATE_RUNS: u32 = 5;
/// Length of a run while numbers of clients are compared.
const TRIAL_TIME: Duration = Duration::from_millis(500);
/// Messages that one launch must serve.
const MESSAGES: u64 = 12_000_000;
/// Longest time for them.
const MESSAGES_TIME_MAX: Duration = Duration::from_secs(30);
/// States read back by the control run.
const INSPECTIONS: u64 = 16;
/// Longest wait for a reply: an engine that takes longer is broken.
pub const REPLY_TIME_MAX: Duration = Duration::from_secs(5);
/// Rounds without a reply before a client yields its core.
const SPIN_ROUNDS: u32 = 4096;

/// Why a measurement has no result.
pub type EngineResult<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What to build.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The backend; never one that falls back.
    pub backend: Backend,
    /// The GPU, by index.
    pub device: u32,
}

impl Setup {
    /// A builder of the default engine of this backend.
    pub fn builder(self) -> EngineBuilder {
        Engine::builder().backend(self.backend).device(DeviceSelector::Index(self.device))
    }
}

/// The actor's key for an index, apart from those of other clients.
pub fn key_of(client: u32, index: u64) -> u64 {
    mix(u64::from(client) << 32 | index)
}

/// A client and what it knows of its counters: nobody else adds to them.
struct Caller {
    client: Client,
    number: u32,
    counts: Vec<u32>,
    random: Random,
}

impl Caller {
    fn new(engine: &Engine, number: u32) -> EngineResult<Self> {
        let mut client = engine.client()?;
        client.set_timeout(Some(REPLY_TIME_MAX));
        Ok(Self { client, number, counts: vec![0; KEYS as usize], random: Random::new(7, u64::from(number)) })
    }

    fn sender(&self) -> u32 {
        self.number % SENDERS as u32
    }

    /// One call; its time.
    fn call(&mut self) -> EngineResult<Duration> {
        let index = self.random.below(KEYS);
        let before = self.counts[index as usize];
        let message = Add { amount: 1, sender: self.sender(), sequence: u64::from(before) + 1 };
        let key = key_of(self.number, index);
        let begin = Instant::now();
        let reply = self.client.call(key, message);
        let time = begin.elapsed();
        check(reply?, before)?;
        self.counts[index as usize] += 1;
        Ok(time)
    }

    /// Calls with so many messages in flight until `stop`; counts right replies, and notes in `times` how long each took, if asked.
    fn stream(
        &mut self,
        outstanding: usize,
        stop: &AtomicBool,
        counted: &AtomicU64,
        mut times: Option<&mut Histogram<u64>>,
    ) -> EngineResult<()> {
        let sender = self.sender();
        // In flight, oldest first: the key's index, the count before the message, and when it was sent.
        let mut in_flight: VecDeque<(u32, u32, Option<Instant>)> = VecDeque::with_capacity(outstanding);
        let mut pipeline = self.client.pipeline::<Add>();
        let (mut right, mut idle_rounds, mut idle_since) = (0u64, 0u32, Instant::now());
        loop {
            let stopping = stop.load(Ordering::Relaxed);
            while !stopping && in_flight.len() < outstanding {
                let index = self.random.below(KEYS) as u32;
                let before = self.counts[index as usize];
                let message = Add { amount: 1, sender, sequence: u64::from(before) + 1 };
                let sent = times.is_some().then(Instant::now);
                if !pipeline.push(key_of(self.number, u64::from(index)), &message)? {
                    break;
                }
                self.counts[index as usize] += 1;
                in_flight.push_back((index, before, sent));
            }
            let mut popped = false;
            while let Some(reply) = pipeline.try_pop() {
                let (_, before, sent) = in_flight.pop_front().ok_or("a reply to nothing")?;
                check(reply?, before)?;
                if let (Some(times), Some(sent)) = (times.as_deref_mut(), sent) {
                    times.saturating_record(sent.elapsed().as_nanos() as u64);
                }
                right += 1;
                popped = true;
            }
            if popped {
                idle_rounds = 0;
                // One writer; read by whoever takes the rate.
                counted.store(right, Ordering::Relaxed);
                continue;
            }
            if stopping && in_flight.is_empty() {
                return Ok(());
            }
            if idle_rounds == 0 {
                idle_since = Instant::now();
            }
            idle_rounds = idle_rounds.saturating_add(1);
            if idle_rounds < SPIN_ROUNDS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
                if idle_since.elapsed() > REPLY_TIME_MAX {
                    return Err(format!("no reply within {REPLY_TIME_MAX:?}, {} in flight", in_flight.len()).into());
                }
            }
        }
    }
}

/// Refuses a reply to the add after `before` others that is not what it must be.
pub fn check(reply: Added, before: u32) -> EngineResult<()> {
    let before = u64::from(before);
    if reply == (Added { previous: before, last_sequence: before }) {
        return Ok(());
    }
    Err(format!("add {} was answered with {reply:?}", before + 1).into())
}

/// Medians and tails of calls to counters.
#[derive(Clone, Debug)]
pub struct Trips {
    /// Median of each launch, nanoseconds.
    pub p50: Figure,
    /// 90 % of each launch.
    pub p90: Figure,
    /// 99 % of each launch.
    pub p99: Figure,
}

/// Takes times by `run`, over `launches` launches of one engine.
pub fn over_launches(
    engine: &Engine,
    launches: u32,
    mut run: impl FnMut() -> EngineResult<Histogram<u64>>,
) -> EngineResult<Trips> {
    let (mut p50, mut p90, mut p99) = (Vec::new(), Vec::new(), Vec::new());
    for launch in 0..launches {
        if launch > 0 {
            engine.relaunch()?;
        }
        let times = run()?;
        p50.push(times.value_at_quantile(0.5) as f64);
        p90.push(times.value_at_quantile(0.9) as f64);
        p99.push(times.value_at_quantile(0.99) as f64);
    }
    Ok(Trips { p50: Figure::median_of(&p50), p90: Figure::median_of(&p90), p99: Figure::median_of(&p99) })
}

/// Calls a counter and waits, again and again, over `launches` launches of one engine.
pub fn round_trips(engine: &Engine, launches: u32, trips: u32) -> EngineResult<Trips> {
    let mut caller = Caller::new(engine, 0)?;
    over_launches(engine, launches, || {
        let mut times = new_histogram();
        for _ in 0..WARMUP_TRIPS.min(trips) {
            caller.call()?;
        }
        for _ in 0..trips {
            times.saturating_record(caller.call()?.as_nanos() as u64);
        }
        Ok(times)
    })
}

/// Clients with full pipelines for `time`, or until `enough` replies: replies a second, and replies in all.
pub fn rate(engine: &Engine, clients: u32, time: Duration, enough: u64) -> EngineResult<(f64, u64)> {
    let streamed = stream(engine, &Streams { clients, outstanding: OUTSTANDING, is_timed: false }, time, enough)?;
    Ok((streamed.per_second, streamed.replies))
}

/// Clients that keep messages in flight.
#[derive(Clone, Copy, Debug)]
pub struct Streams {
    /// How many clients.
    pub clients: u32,
    /// Messages that each has in flight.
    pub outstanding: usize,
    /// Whether to note how long each message took.
    pub is_timed: bool,
}

/// What came of them.
#[derive(Debug)]
pub struct Streamed {
    /// Replies a second.
    pub per_second: f64,
    /// Replies in all, warm-up included.
    pub replies: u64,
    /// Times from push to pop, nanoseconds, of all replies; empty unless asked for.
    pub times: Histogram<u64>,
}

/// Lets clients keep messages in flight for `time`, or until `enough` replies.
pub fn stream(engine: &Engine, streams: &Streams, time: Duration, enough: u64) -> EngineResult<Streamed> {
    /// Time at the start that does not count.
    const WARMUP: Duration = Duration::from_millis(100);
    /// Time between two looks at the counts.
    const TICK: Duration = Duration::from_millis(2);
    let &Streams { clients, outstanding, is_timed } = streams;
    let stop = AtomicBool::new(false);
    let counts: Vec<AtomicU64> = (0..clients).map(|_| AtomicU64::new(0)).collect();
    let sum = || counts.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>();
    // Numbers of other runs on the same engine must not come again, for their counters have other values.
    static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);
    let mut callers = Vec::new();
    for _ in 0..clients {
        callers.push(Caller::new(engine, NEXT_NUMBER.fetch_add(1, Ordering::Relaxed) as u32)?);
    }
    let mut histograms: Vec<Histogram<u64>> = (0..clients).map(|_| new_histogram()).collect();
    let (per_second, replies) = std::thread::scope(|scope| {
        let threads: Vec<_> = callers
            .iter_mut()
            .zip(&counts)
            .zip(&mut histograms)
            .map(|((caller, count), times)| {
                let stop = &stop;
                scope.spawn(move || caller.stream(outstanding, stop, count, is_timed.then_some(times)))
            })
            .collect();
        std::thread::sleep(WARMUP);
        let (begin, before) = (Instant::now(), sum());
        while begin.elapsed() < time && sum() < enough && !threads.iter().any(|thread| thread.is_finished()) {
            std::thread::sleep(TICK);
        }
        let (after, elapsed) = (sum(), begin.elapsed());
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| "a client's thread panicked")??;
        }
        EngineResult::Ok(((after - before) as f64 / elapsed.as_secs_f64(), sum()))
    })?;
    let mut times = new_histogram();
    for histogram in &histograms {
        times.add(histogram)?;
    }
    Ok(Streamed { per_second, replies, times })
}

/// Numbers of clients worth a try on this machine, kernel threads of the CPU backend considered.
fn client_numbers(engine: &Engine) -> Vec<u32> {
    let kernel_threads =
        if engine.backend() == BackendKind::Cuda { 0 } else { engine.geometry().warps_per_block as usize };
    let free = cores().saturating_sub(kernel_threads).clamp(1, engine.geometry().lanes as usize) as u32;
    let mut numbers: Vec<u32> = [2, 4, 6, 8, 12, free].into_iter().filter(|&n| n <= free).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// The number of clients with the best rate, and the replies that were compared to find it.
pub fn best_clients(engine: &Engine) -> EngineResult<(u32, u64)> {
    let (mut best, mut compared) = ((0.0, 1), 0);
    for clients in client_numbers(engine) {
        let (per_second, replies) = rate(engine, clients, TRIAL_TIME, u64::MAX)?;
        compared += replies;
        println!("  {clients} client(s): {per_second:.0} replies/s");
        if per_second > best.0 {
            best = (per_second, clients);
        }
    }
    Ok((best.1, compared))
}

/// Calls, one at a time.
pub fn measure_round_trips(setup: Setup, results: &mut Results) -> EngineResult<()> {
    let engine = setup.builder().build()?;
    note(&engine, results);
    let trips = round_trips(&engine, LAUNCHES, TRIPS)?;
    let floor = |results: &Results, id: &str| results.get(id).map(|entry| entry.value);
    let (p50, p99) = (floor(results, "floor_gate_p50"), floor(results, "floor_gate_p99"));
    results.add("rtt_64b_p50", trips.p50, "ns", p50);
    results.add("rtt_64b_p90", trips.p90, "ns", None);
    results.add("rtt_64b_p99", trips.p99, "ns", p99);
    Ok(())
}

/// Rate, messages in one launch, and copies of state, with one engine that is never launched again.
pub fn measure_rate(setup: Setup, results: &mut Results) -> EngineResult<()> {
    let engine = setup.builder().build()?;
    note(&engine, results);
    let (clients, mut compared) = best_clients(&engine)?;
    results.env.insert("throughput_clients".into(), clients.into());
    results.env.insert("throughput_outstanding".into(), OUTSTANDING.into());
    let copies_before = engine.copies().state;
    let mut rates = Vec::new();
    for _ in 0..RATE_RUNS {
        let (per_second, replies) = rate(&engine, clients, RATE_TIME, u64::MAX)?;
        rates.push(per_second);
        compared += replies;
    }
    results.add("throughput_64b", Figure::median_of(&rates), "1/s", None);

    let processed = telemetry::Counter::Processed as usize;
    let answered_before = engine.device_counters()?[processed];
    if answered_before < MESSAGES {
        let missing = MESSAGES - answered_before;
        compared += rate(&engine, clients, MESSAGES_TIME_MAX, missing)?.1;
    }
    let state_copies = engine.copies().state - copies_before;
    let (messages, launches) = (engine.device_counters()?[processed], engine.launches());
    // Beside the device's own count, what the clients compared: the two must tell the same story.
    results.env.insert("replies_compared".into(), compared.into());
    results.add("messages_in_launch", Figure::once(messages as f64), "count", None);
    results.add("launches", Figure::once(launches as f64), "count", None);
    results.add("state_copies", Figure::once(state_copies as f64), "count", None);

    // The control: the same counter does count when state is read back.
    let mut caller = Caller::new(&engine, u32::MAX)?;
    let before = engine.copies().state;
    for index in 0..INSPECTIONS {
        let key = key_of(caller.number, index);
        let sequence = u64::from(caller.counts[index as usize]) + 1;
        caller.client.call(key, Add { amount: 1, sender: 0, sequence })?;
        match engine.inspect::<Counter>(key)? {
            Some((_, counter)) if counter.value == 1 && counter.last_sequence[0] == 1 => {}
            other => return Err(format!("a counter that was called once reads back as {other:?}").into()),
        }
    }
    results.add("state_copies_control", Figure::once((engine.copies().state - before) as f64), "count", None);
    Ok(())
}

pub fn note(engine: &Engine, results: &mut Results) {
    let geometry = geometry_text(&engine.geometry());
    println!("engine: {} on {}, {geometry}", engine.backend(), engine.device_name());
    results.env.insert("backend".into(), engine.backend().to_string().into());
    results.env.insert("geometry".into(), geometry.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_streams_are_compared() {
        let engine = Setup { backend: Backend::Cpu, device: 0 }.builder().cpu_threads(1).build().unwrap();
        let trips = round_trips(&engine, 2, 200).unwrap();
        assert!(trips.p50.value > 0.0 && trips.p50.value <= trips.p99.value);
        assert_eq!(engine.launches(), 2);
        let (per_second, replies) = rate(&engine, 1, Duration::from_millis(200), u64::MAX).unwrap();
        assert!(per_second > 0.0 && replies > 0);
    }

    #[test]
    fn wrong_replies_are_refused() {
        assert!(check(Added { previous: 3, last_sequence: 3 }, 3).is_ok());
        assert!(check(Added { previous: 4, last_sequence: 3 }, 3).is_err());
        assert!(check(Added { previous: 3, last_sequence: 2 }, 3).is_err());
    }
}
