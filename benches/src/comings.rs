//! Actors that come: the first message to an actor that nobody has called, and the first to one that is with the store. Every reply is
//! compared.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tourbillon::actors::counter::{Add, Added};
use tourbillon::store::MemoryStore;
use tourbillon::{Client, Engine};
use tourbillon_tools::latency::new_histogram;

use crate::engine::{EngineResult, REPLY_TIME_MAX, Setup, check, key_of, over_launches};
use tourbillon_benches::results::{Figure, Results};

/// First messages of one launch, one at a time.
const FIRSTS: u32 = 5_000;
/// Launches of the latency of first messages and of fetches.
const LAUNCHES: u32 = 5;
/// First messages of one run of the rate: a quarter of what the smallest default engine has room for, so that no shard is full.
const ACTIVATIONS: u64 = 60_000;
/// Runs of the rate.
const RATE_RUNS: u32 = 5;
/// Actors that are fetched in one launch.
const FETCHES: u32 = 2_000;
/// How long all of them may take to get to the store.
const EVICTION_TIME_MAX: Duration = Duration::from_secs(10);
/// Stands for a client in the keys of the rate, whose actors are others than those of the latency.
const RATE_CLIENT: u32 = 1 << 16;

fn client(engine: &Engine) -> EngineResult<Client> {
    let mut client = engine.client()?;
    client.set_timeout(Some(REPLY_TIME_MAX));
    Ok(client)
}

/// One add to the actor `key`, which has had `before` of them; its time.
fn call(client: &mut Client, key: u64, before: u32) -> EngineResult<u64> {
    let message = Add { amount: 1, sender: 0, sequence: u64::from(before) + 1 };
    let begin = Instant::now();
    let reply = client.call(key, message);
    let time = begin.elapsed();
    check(reply?, before)?;
    Ok(time.as_nanos() as u64)
}

/// First messages to `firsts` actors whose keys begin with those of `number`.
fn first_messages(client: &mut Client, number: u32, firsts: u32) -> EngineResult<Histogram<u64>> {
    let mut times = new_histogram();
    for index in 0..firsts {
        times.saturating_record(call(client, key_of(number, index.into()), 0)?);
    }
    Ok(times)
}

/// First messages to `actors` actors, as many at a time as a lane holds; how many a second.
fn activations(client: &mut Client, number: u32, actors: u64) -> EngineResult<f64> {
    let begin = Instant::now();
    let mut pipeline = client.pipeline::<Add>();
    let (mut sent, mut answered) = (0, 0);
    while answered < actors {
        while sent < actors && pipeline.push(key_of(number, sent), &Add { amount: 1, sender: 0, sequence: 1 })? {
            sent += 1;
        }
        let mut reply = pipeline.pop();
        while let Some(got) = reply {
            if got? != (Added { previous: 0, last_sequence: 0 }) {
                return Err("an actor was not new".into());
            }
            answered += 1;
            reply = pipeline.try_pop();
        }
    }
    Ok(actors as f64 / begin.elapsed().as_secs_f64())
}

/// Calls `actors` actors, each of which had `before` adds and is with the store.
fn fetches(engine: &Engine, client: &mut Client, actors: u32, before: u32) -> EngineResult<Histogram<u64>> {
    let kept = engine.store_counts().kept;
    engine.evict(u64::MAX)?;
    let began = Instant::now();
    while engine.store_counts().kept < kept + u64::from(actors) {
        if began.elapsed() > EVICTION_TIME_MAX {
            return Err(format!("{} of {actors} actors got to the store", engine.store_counts().kept - kept).into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut times = new_histogram();
    for index in 0..actors {
        times.saturating_record(call(client, key_of(0, index.into()), before)?);
    }
    Ok(times)
}

fn measure_activations(engine: &Engine, firsts: u32, actors: u64, results: &mut Results) -> EngineResult<()> {
    let mut client = client(engine)?;
    let mut number = 0;
    let trips = over_launches(engine, LAUNCHES, || {
        number += 1;
        first_messages(&mut client, number, firsts)
    })?;
    let floor = results.get("rtt_64b_p50").map(|entry| entry.value);
    results.add("activation_p50", trips.p50, "ns", floor);
    let rates: EngineResult<Vec<f64>> =
        (0..RATE_RUNS).map(|run| activations(&mut client, RATE_CLIENT + run, actors)).collect();
    results.add("activations_per_s", Figure::median_of(&rates?), "1/s", None);
    Ok(())
}

fn measure_fetches(engine: &Engine, actors: u32, results: &mut Results) -> EngineResult<()> {
    let mut client = client(engine)?;
    for index in 0..actors {
        call(&mut client, key_of(0, index.into()), 0)?;
    }
    let mut before = 0;
    let trips = over_launches(engine, LAUNCHES, || {
        before += 1;
        fetches(engine, &mut client, actors, before)
    })?;
    let floor = results.get("rtt_64b_p50").map(|entry| entry.value);
    results.add("fetch_p50", trips.p50, "ns", floor);
    Ok(())
}

/// First messages, then fetches from a store in memory; round trips, if they were measured before, stand beside them.
pub fn measure(setup: Setup, results: &mut Results) -> EngineResult<()> {
    measure_activations(&setup.builder().build()?, FIRSTS, ACTIVATIONS, results)?;
    let store = Arc::new(MemoryStore::default());
    measure_fetches(&setup.builder().store(store).build()?, FETCHES, results)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Map;
    use tourbillon::Backend;

    #[test]
    fn comings_are_measured_and_compared() {
        let builder = || Setup { backend: Backend::Cpu, device: 0 }.builder().cpu_threads(1);
        let mut results = Results::new(Map::new(), "none");
        let engine = builder().build().unwrap();
        measure_activations(&engine, 50, 500, &mut results).unwrap();
        assert!(results.get("activation_p50").unwrap().value > 0.0);
        assert!(results.get("activations_per_s").unwrap().value > 0.0);
        // An actor that was called before is not new.
        let again = activations(&mut client(&engine).unwrap(), RATE_CLIENT, 10);
        assert!(again.is_err_and(|error| error.to_string().contains("not new")));
        drop(engine);
        let engine = builder().store(Arc::new(MemoryStore::default())).build().unwrap();
        measure_fetches(&engine, 40, &mut results).unwrap();
        assert!(results.get("fetch_p50").unwrap().value > 0.0);
        assert_eq!(engine.store_counts().fetched, 40 * u64::from(LAUNCHES), "each call was a fetch");
    }
}
