//! `peers`: other ways to ask an actor, beside the engine. Same bytes, same work, same counts, one run; every reply is
//! checked.
//!
//! The peers take turns, so that what else happens on the machine meets all of them alike.

mod channels;
mod engine;
mod on_actix;
mod on_kameo;
mod on_ractor;
mod on_tokio;
mod others;
mod peers;
mod plan;
mod render;
mod ring_buffer;
mod task;
mod threads;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tourbillon_benches::program::{Command, exit_code, give_up_after};
use tourbillon_benches::results::{Figure, Results};
use tourbillon_tools::environment::Environment;

use crate::others::Quiet;
use crate::peers::{PEERS, Peer};
use crate::plan::{Measured, Plan};
use crate::render::{QUANTILES, rate_id, trips_id};

/// What it is called in its messages.
const PROGRAM: &str = "peers";
/// A program that takes longer, patience aside, has met something that hangs, and ends.
const RUN_TIME_MAX: Duration = Duration::from_secs(300);
/// The versions of all packages.
const LOCK_FILE: &str = include_str!("../Cargo.lock");

/// Other ways to ask an actor, beside the engine.
#[derive(Debug, Parser)]
#[command(name = "peers", version)]
struct Program {
    #[command(subcommand)]
    command: Option<Command>,
    /// Write the results to this file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Measure the engine on the first GPU too.
    #[arg(long)]
    gpu: bool,
    /// Threads of each peer while the rate is taken: a power of two. Round trips always have two.
    #[arg(long, default_value_t = 2)]
    threads: u32,
    /// Requests outstanding while the rate is taken: a multiple of 64.
    #[arg(long, default_value_t = 512)]
    outstanding: u32,
    /// Runs; the median of them counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=20))]
    runs: u32,
    /// Seconds to spend on waiting until nobody else uses the machine, and on repeating what was disturbed.
    #[arg(long, default_value_t = 180, value_parser = clap::value_parser!(u64).range(0..=3600))]
    patience: u64,
}

fn main() -> ExitCode {
    let program = Program::parse();
    exit_code(
        PROGRAM,
        match &program.command {
            Some(command) => command.run(render::tables, render::MARKS),
            None => run(&program).map_err(|error| error.to_string()),
        },
    )
}

fn run(program: &Program) -> Measured<()> {
    give_up_after(RUN_TIME_MAX + Duration::from_secs(program.patience), PROGRAM, "nothing is written")?;
    let plan = Plan::new(program.threads, program.outstanding)?;
    let mut results = empty_results(program, &plan)?;
    let peers: Vec<Peer> = PEERS.into_iter().filter(|peer| program.gpu || !peer.on_gpu).collect();
    let mut found: Vec<Found> = peers.iter().map(|_| Found::default()).collect();
    let mut quiet = Quiet::new(Duration::from_secs(program.patience));
    for number in 1..=program.runs {
        for (peer, found) in peers.iter().zip(&mut found) {
            let once = || Ok(((peer.round_trips)(&plan)?, (peer.rate)(&plan)?));
            let (times, rate) = quiet.run(once).map_err(|error| format!("{}: {error}", peer.name))?;
            for (values, (_, quantile, _)) in found.trips.iter_mut().zip(QUANTILES) {
                values.push(times.value_at_quantile(quantile) as f64);
            }
            found.rates.push(rate);
            let p50 = times.value_at_quantile(0.5);
            println!("run {number} of {}: {}: {p50} ns, {rate:.0} replies/s", program.runs, peer.name);
        }
    }
    println!("{} runs were repeated because others used the machine", quiet.repeated);
    results.env.insert("others_percent_max".into(), quiet.share_max.map(percent).into());
    results.env.insert("repeated_runs".into(), quiet.repeated.into());
    for (peer, found) in peers.iter().zip(&found) {
        for (values, (quantile, _, _)) in found.trips.iter().zip(QUANTILES) {
            results.add(&trips_id(peer.id, quantile), Figure::median_of(values), "ns", None);
        }
        results.add(&rate_id(peer.id), Figure::median_of(&found.rates), "1/s", None);
    }
    Ok(results.write(program.out.as_deref())?)
}

/// A share as a percentage with one digit behind the point.
fn percent(share: f64) -> f64 {
    (share * 1_000.0).round() / 10.0
}

/// What the runs of one peer found.
#[derive(Debug, Default)]
struct Found {
    /// For each of the quantiles, the times of all runs.
    trips: [Vec<f64>; QUANTILES.len()],
    rates: Vec<f64>,
}

/// Results that name what they are measured on and with.
fn empty_results(program: &Program, plan: &Plan) -> Measured<Results> {
    let gpu = if program.gpu { Some(engine::gpu_name()?) } else { None };
    let mut results = Results::on(&Environment::gather(gpu.is_some(), gpu.as_deref().unwrap_or("CPU")))?;
    let env = &mut results.env;
    env.insert("threads".into(), plan.threads().into());
    env.insert("outstanding".into(), plan.outstanding.into());
    env.insert("actors".into(), task::ACTORS.into());
    env.insert("trips_of_a_run".into(), plan.trips.into());
    for package in PEERS.iter().filter_map(|peer| peer.package).chain(["tokio"]) {
        env.insert(package.into(), locked_version(LOCK_FILE, package).into());
    }
    Ok(results)
}

/// The version of a package in a lock file.
fn locked_version(lock: &str, package: &str) -> Option<String> {
    let entry = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?.1;
    entry.split_once('"').map(|(version, _)| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let lock =
            "[[package]]\nname = \"a\"\nversion = \"1.2.3\"\n\n[[package]]\nname = \"ab\"\nversion = \"4.5.6\"\n";
        assert_eq!(locked_version(lock, "ab").as_deref(), Some("4.5.6"));
        assert_eq!(locked_version(lock, "b"), None);
        for package in PEERS.iter().filter_map(|peer| peer.package) {
            assert!(locked_version(LOCK_FILE, package).is_some(), "{package}");
        }
    }

    #[test]
    fn bad_arguments_are_refused() {
        assert!(Program::try_parse_from(["peers", "--runs", "0"]).is_err());
        assert!(Program::try_parse_from(["peers", "render"]).is_err());
        let program = Program::try_parse_from(["peers", "--threads", "3"]).unwrap();
        assert!(run(&program).unwrap_err().to_string().contains("power of two"));
        assert_eq!(percent(0.123_46), 12.3);
    }
}
