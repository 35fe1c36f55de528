//! Round trips through a gateway: one task asks and awaits, one request at a time. Every reply is compared.
//!
//! The same engine, keys and number of calls as the blocking round trips, which are the floor: what is above it is the price of
//! a future, the reaper's look, and waking a task on a thread that sleeps; then the same with polls that look for their replies.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::runtime::Builder;
use tourbillon::actors::counter::Add;
use tourbillon::{Engine, Gateway};
use tourbillon_tools::latency::new_histogram;
use tourbillon_tools::random::Random;

use crate::engine::{
    EngineResult, KEYS, LAUNCHES, REPLY_TIME_MAX, Setup, TRIPS, Trips, WARMUP_TRIPS, check, key_of, over_launches,
};
use tourbillon_benches::results::Results;

/// How long polls look for their replies, where they do: twice what a reply takes.
const SPIN: Duration = Duration::from_micros(6);

/// What the task knows of its counters: nobody else adds to them.
struct Asker {
    gateway: Gateway,
    /// Stands for a client in the keys.
    number: u32,
    counts: Vec<u32>,
    random: Random,
}

impl Asker {
    /// Asks `trips` times, after some that do not count; their times.
    async fn ask(&mut self, trips: u32) -> EngineResult<Histogram<u64>> {
        let mut times = new_histogram();
        let warmup = WARMUP_TRIPS.min(trips);
        for trip in 0..warmup + trips {
            let index = self.random.below(KEYS);
            let before = self.counts[index as usize];
            let message = Add { amount: 1, sender: 0, sequence: u64::from(before) + 1 };
            let begin = Instant::now();
            let reply = self.gateway.ask(key_of(self.number, index), message).await;
            let time = begin.elapsed();
            check(reply?, before)?;
            self.counts[index as usize] += 1;
            if trip >= warmup {
                times.saturating_record(time.as_nanos() as u64);
            }
        }
        Ok(times)
    }
}

/// Asks and awaits, again and again, over `launches` launches of one engine.
fn round_trips(engine: &Engine, launches: u32, trips: u32, number: u32, spin: Duration) -> EngineResult<Trips> {
    let runtime = Builder::new_current_thread().build()?;
    let gateway = Gateway::builder(engine).timeout(Some(REPLY_TIME_MAX)).spin(spin).build()?;
    let random = Random::new(7, u64::from(number));
    let mut asker = Some(Asker { gateway, number, counts: vec![0; KEYS as usize], random });
    over_launches(engine, launches, || {
        let mut own = asker.take().ok_or("an earlier launch failed")?;
        // A task as a program has them: spawned, and woken through the runtime's queue.
        let task = async move { own.ask(trips).await.map(|times| (own, times)) };
        let (own, times) = runtime.block_on(async { tokio::spawn(task).await })??;
        asker = Some(own);
        Ok(times)
    })
}

/// Asks, one at a time; the blocking calls must have been measured before.
pub fn measure(setup: Setup, results: &mut Results) -> EngineResult<()> {
    let engine = setup.builder().build()?;
    let floor = |results: &Results, id: &str| results.get(id).map(|entry| entry.value);
    let (p50, p99) = (floor(results, "rtt_64b_p50"), floor(results, "rtt_64b_p99"));
    for (number, name, spin) in [(0, "rtt_async_64b", Duration::ZERO), (1, "rtt_async_spin_64b", SPIN)] {
        let trips = round_trips(&engine, LAUNCHES, TRIPS, number, spin)?;
        results.add(&format!("{name}_p50"), trips.p50, "ns", p50);
        results.add(&format!("{name}_p99"), trips.p99, "ns", p99);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tourbillon::Backend;

    #[test]
    fn asks_are_compared_over_launches() {
        let engine = Setup { backend: Backend::Cpu, device: 0 }.builder().cpu_threads(1).build().unwrap();
        let trips = round_trips(&engine, 2, 100, 0, SPIN).unwrap();
        assert!(trips.p50.value > 0.0 && trips.p50.value <= trips.p99.value);
        assert_eq!((engine.launches(), trips.p50.runs), (2, 2));
        assert!(round_trips(&engine, 1, 100, 1, Duration::ZERO).is_ok(), "other actors");
        // Each ask was counted once: another one that begins anew finds counters that are not zero.
        let again = round_trips(&engine, 1, 100, 0, Duration::ZERO).map(|_| ());
        assert!(again.is_err_and(|error| error.to_string().contains("was answered with")));
    }
}
