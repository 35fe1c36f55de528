//! Geometries side by side, so that defaults are chosen by measurement.

use std::time::Duration;

use tourbillon::{Engine, GpuGeometry};
use tourbillon_tools::environment::cores;

use crate::engine::{EngineResult, Setup, best_clients, rate, round_trips};

/// Calls of a geometry.
const TRIPS: u32 = 4_000;
/// Launches of a geometry: the phases between polls differ from launch to launch.
const LAUNCHES: u32 = 3;
/// Length of a run of the rate.
const RATE_TIME: Duration = Duration::from_millis(400);
/// Gate blocks tried.
const GATES: [u32; 5] = [1, 2, 4, 6, 8];
/// Warps of a block tried.
const WARPS: [u32; 3] = [2, 3, 4];
/// Shards tried, for each block that runs shards.
const SHARDS_PER_BLOCK: [u32; 3] = [1, 2, 4];

/// Prints a line for each geometry. A geometry that cannot be built is reported and left out.
pub fn run(setup: Setup, multiprocessors: Option<u32>) -> EngineResult<()> {
    let (clients, _) = best_clients(&setup.builder().build()?)?;
    println!(
        "{clients} client(s) with full pipelines for the rate; latencies with one client, median of {LAUNCHES} launches"
    );
    println!(
        "{:>6} {:>6} {:>7} {:>9} {:>9} {:>9} {:>12}",
        "gates", "warps", "shards", "p50 ns", "p90 ns", "p99 ns", "replies/s"
    );
    match multiprocessors {
        Some(blocks) => {
            for gates in GATES {
                for warps_per_block in WARPS {
                    for per_block in SHARDS_PER_BLOCK {
                        let shards = (blocks - gates.min(blocks - 1)) * per_block;
                        let geometry = GpuGeometry { gates, warps_per_block, blocks: None };
                        let built = setup.builder().geometry(geometry).shards(shards).build();
                        line([gates, warps_per_block, shards], built, clients);
                    }
                }
            }
        }
        None => {
            for threads in 1..=cores().saturating_sub(1).clamp(1, 8) as u32 {
                for shards in [1, 4, 16, 64] {
                    let built = setup.builder().cpu_threads(threads).shards(shards).build();
                    line([1, threads, shards], built, clients);
                }
            }
        }
    }
    Ok(())
}

fn line([gates, warps, shards]: [u32; 3], built: Result<Engine, tourbillon::EngineError>, clients: u32) {
    let measured = built.map_err(Into::into).and_then(|engine| {
        let trips = round_trips(&engine, LAUNCHES, TRIPS)?;
        let (per_second, _) = rate(&engine, clients, RATE_TIME, u64::MAX)?;
        Ok((trips, per_second))
    });
    match measured {
        Ok((trips, per_second)) => println!(
            "{gates:>6} {warps:>6} {shards:>7} {:>9} {:>9} {:>9} {per_second:>12.0}",
            trips.p50.value, trips.p90.value, trips.p99.value
        ),
        Err::<_, Box<dyn std::error::Error + Send + Sync>>(error) => {
            println!("{gates:>6} {warps:>6} {shards:>7} {error}");
        }
    }
}
