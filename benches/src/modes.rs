//! The ways of taking messages, each with one message in flight and with thousands: what one gives for the other.

use std::time::Duration;

use tourbillon::{BackendKind, Engine, Processing};
use tourbillon_benches::results::{Figure, Results, Rtt};
use tourbillon_tools::environment::cores;

use crate::engine::{EngineResult, Setup, Streams, note, stream};

/// Messages in flight, all clients together.
const DEPTHS: [u32; 2] = [1, 4096];
/// Most clients that share the depth: as many as take a lane each of all default gates twice, and leave cores to others.
const CLIENTS_MAX: usize = 8;
/// Length of a run.
const TIME: Duration = Duration::from_millis(500);
/// Runs of each way and depth; the ways take turns, so that what the machine does meanwhile hits all.
const RUNS: u32 = 5;

/// The ways and their names in results.
fn ways() -> [(&'static str, Processing); 3] {
    [("continuous", Processing::Continuous), ("batch", Processing::batch()), ("adaptive", Processing::Adaptive)]
}

/// How many clients share a depth: fewer than half the cores, and so that each has as many in flight.
fn clients_for(depth: u32, cores: usize) -> u32 {
    let most = (cores / 2).clamp(1, CLIENTS_MAX).min(depth as usize);
    // A power of two divides the depth.
    1 << most.ilog2()
}

/// An engine on whose lanes the greatest depth has room.
fn build(setup: Setup) -> EngineResult<Engine> {
    let deepest = DEPTHS[DEPTHS.len() - 1] / clients_for(DEPTHS[DEPTHS.len() - 1], cores());
    // With room for one more window, so that a full lane never is what a rate is made of.
    Ok(setup.builder().ring_capacity((deepest + 32).next_power_of_two()).build()?)
}

/// Rates and round trips of all ways and depths.
pub fn measure(setup: Setup, results: &mut Results) -> EngineResult<()> {
    let engine = build(setup)?;
    note(&engine, results);
    for depth in DEPTHS {
        measure_depth(&engine, depth, TIME, results)?;
    }
    if engine.backend() != BackendKind::Cuda {
        println!("  (threads of a CPU take frames one by one: ways differ in their waits only)");
    }
    Ok(())
}

fn measure_depth(engine: &Engine, depth: u32, time: Duration, results: &mut Results) -> EngineResult<()> {
    let clients = clients_for(depth, cores());
    let streams = Streams { clients, outstanding: (depth / clients) as usize, is_timed: true };
    results.env.insert(format!("modes_depth_{depth}_clients"), clients.into());
    let mut taken: [(Vec<f64>, Vec<f64>, Vec<f64>); 3] = Default::default();
    for _ in 0..RUNS {
        for ((_, processing), (rates, p50, p99)) in ways().into_iter().zip(&mut taken) {
            engine.set_processing(processing)?;
            let streamed = stream(engine, &streams, time, u64::MAX)?;
            rates.push(streamed.per_second);
            p50.push(streamed.times.value_at_quantile(0.5) as f64);
            p99.push(streamed.times.value_at_quantile(0.99) as f64);
        }
    }
    for ((name, _), (rates, p50, p99)) in ways().into_iter().zip(&taken) {
        let rtt = Rtt { p50: Figure::median_of(p50).value, p99: Figure::median_of(p99).value };
        results.add_rate(&format!("rtt_and_rate_{name}_depth_{depth}"), Figure::median_of(rates), rtt, None);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Map;
    use tourbillon::Backend;

    #[test]
    fn clients_share_a_depth_evenly() {
        for (depth, cores, clients) in
            [(1, 16, 1), (4096, 16, 8), (4096, 128, 8), (4096, 6, 2), (4096, 2, 1), (4096, 1, 1)]
        {
            assert_eq!(clients_for(depth, cores), clients);
            assert_eq!(depth % clients_for(depth, cores), 0);
        }
    }

    #[test]
    fn every_way_is_measured_at_its_depth() {
        let engine = Setup { backend: Backend::Cpu, device: 0 }.builder().cpu_threads(1).build().unwrap();
        let mut results = Results::new(Map::new(), "none");
        measure_depth(&engine, 1, Duration::from_millis(20), &mut results).unwrap();
        let value = |name: &str| results.get(&format!("rtt_and_rate_{name}_depth_1")).unwrap();
        for (name, _) in ways() {
            let entry = value(name);
            assert!(entry.value > 0.0 && entry.rtt_ns.is_some_and(|rtt| rtt.p50 > 0.0 && rtt.p50 <= rtt.p99));
        }
        assert!(value("batch").rtt_ns.unwrap().p50 >= 20_000.0, "a lone message waits for others");
    }
}
