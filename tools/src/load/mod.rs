//! `tourbillon load`: a closed loop of checked messages, with a latency histogram.
//!
//! Counts cover the whole run; rate and latencies the time after the warm-up. A latency is that of one message,
//! from the push into the lane to the pop of its reply.

mod account;
mod counter;
mod echo;
pub mod judge;
pub mod keys;
pub mod options;
pub mod pump;
pub mod report;

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tourbillon::{Client, DeviceSelector, Engine, EngineError};

use self::counter::{Adds, Audit, SENDERS_PER_KEY};
use self::judge::Faults;
use self::keys::KeyChooser;
use self::options::{ActorChoice, LoadOptions};
use self::pump::{Phase, Tally, pump};
use self::report::{Parameters, Report};
use crate::environment::{Environment, cores, geometry_text};
use crate::jitter::{Duty, Jitter};
use crate::latency::{Percentiles, human_count, human_rate};

/// Time between two looks at the clients' progress.
const TICK: Duration = Duration::from_millis(50);
/// Every default engine has room for so many, however uneven its shards are.
const ACTORS_OF_ANY_ENGINE: u64 = 1 << 18;
/// Shards are not filled evenly; actors are given room for this many times their even share.
const UNEVENNESS: u64 = 2;
/// Room for actors beside those of even shares: small numbers are the most uneven.
const ACTORS_SPARE: u64 = 256;

/// Why a run did not come to its end.
#[derive(Debug)]
pub enum LoadError {
    /// An option that makes no sense with the others.
    Option(String),
    /// The engine could not be built or used.
    Engine(EngineError),
    /// A file, a thread or a signal handler could not be had.
    Io(std::io::Error),
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Option(why) => f.write_str(why),
            Self::Engine(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<EngineError> for LoadError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<std::io::Error> for LoadError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// What one client brings home.
struct Ended {
    client: Client,
    tally: Tally,
    adds: Option<Adds>,
    faults: Faults,
}

/// Runs the load and prints what came of it; whether the run was faultless.
///
/// # Errors
/// When there is no run to speak of.
pub fn run(options: &LoadOptions) -> Result<bool, LoadError> {
    let clients = options.clients_on(cores());
    let warmup = options.warmup_time().map_err(LoadError::Option)?;
    echo::check_payload(options).map_err(LoadError::Option)?;
    let engine = build_engine(options, clients)?;
    let on_gpu = engine.backend() == tourbillon::BackendKind::Cuda;
    let environment = Environment::gather(on_gpu, engine.device_name());
    let geometry = engine.geometry();
    let kernel_threads = if on_gpu { 0 } else { geometry.warps_per_block as usize };
    let busy = clients as usize + kernel_threads;

    let interrupted = Arc::new(AtomicBool::new(false));
    watch_interrupts(&interrupted)?;
    let jitter = Jitter::start(Duty::for_cores(cores(), busy))?;
    let begin = Instant::now();
    let phase = Arc::new(Phase {
        stop: AtomicBool::new(false),
        measure_from: begin + warmup,
        outstanding: options.outstanding as usize,
        is_crowded: busy > cores(),
    });
    let (ended, measured) = run_clients(&engine, options, clients, &phase, &interrupted, begin)?;
    let control_thread = jitter.stop();

    let mut tally = Tally::new();
    let (mut faults, mut holders, mut adds) = (Faults::default(), Vec::new(), Vec::new());
    for end in ended {
        tally.merge(end.tally);
        faults = faults.plus(end.faults);
        holders.push(end.client);
        adds.extend(end.adds);
    }
    let mut audited_keys = 0;
    if let Some(client) = holders.first_mut().filter(|_| tally.ended_by.is_none()) {
        let (found, compared, failure) = audit(client, &adds, options.keys, &phase);
        faults = faults.plus(found);
        audited_keys = compared;
        tally.first_failure = tally.first_failure.take().or(failure);
    }
    let report = Report {
        backend: engine.backend().to_string(),
        device: engine.device_name().to_owned(),
        mode: "closed",
        sent: tally.sent,
        received: tally.received,
        lost: faults.lost,
        duplicated: faults.duplicated,
        out_of_order: faults.out_of_order,
        failed: tally.failed,
        rate_achieved: tally.measured as f64 / measured.as_secs_f64().max(f64::MIN_POSITIVE),
        service_ns: Percentiles::of(&tally.latency),
        control_thread_ns: control_thread,
        audited_keys,
        fallback: engine.fallback().map(ToString::to_string),
        first_failure: tally.first_failure.or(tally.ended_by),
        interrupted: interrupted.load(Ordering::Relaxed),
        parameters: Parameters {
            actor: options.actor,
            keys: options.keys,
            distribution: options.distribution.to_string(),
            payload_bytes: payload_bytes(options),
            clients,
            outstanding: options.outstanding,
            measured_s: measured.as_secs_f64(),
            warmup_s: warmup.as_secs_f64(),
            seed: options.seed,
            geometry: geometry_text(&geometry),
        },
        environment,
    };
    print(options, &report, &tally.latency)?;
    Ok(report.is_faultless())
}

fn payload_bytes(options: &LoadOptions) -> usize {
    match options.actor {
        ActorChoice::Counter => size_of::<tourbillon::actors::counter::Add>(),
        ActorChoice::Account => account::PAYLOAD_BYTES,
        ActorChoice::Echo => options.payload,
    }
}

fn build_engine(options: &LoadOptions, clients: u32) -> Result<Engine, LoadError> {
    /// Lanes of an engine that nobody asked for more.
    const LANES: u32 = 16;
    /// Shards of an engine whose builder was not told, at least; only room is reckoned with it.
    const SHARDS_LEAST: u64 = 16;
    let groups = match options.actor {
        ActorChoice::Counter => u64::from(clients.div_ceil(SENDERS_PER_KEY)),
        ActorChoice::Echo => 1,
        ActorChoice::Account => u64::from(clients),
    };
    let shards = options.shards.map_or(SHARDS_LEAST, u64::from).max(1);
    let actors = options.keys * groups;
    let mut builder = Engine::builder().backend(options.backend).lanes(clients.max(LANES));
    if actors > ACTORS_OF_ANY_ENGINE {
        let room = actors.div_ceil(shards) * UNEVENNESS + ACTORS_SPARE;
        builder = builder.actors_per_shard(u32::try_from(room).unwrap_or(u32::MAX));
    }
    if let Some(shards) = options.shards {
        builder = builder.shards(shards);
    }
    if let Some(device) = &options.device {
        builder = builder.device(match device.parse() {
            Ok(index) => DeviceSelector::Index(index),
            Err(_) => DeviceSelector::Uuid(device.clone()),
        });
    }
    Ok(builder.build()?)
}

/// The first Ctrl-C ends the run and prints what there is, the second ends the program.
fn watch_interrupts(interrupted: &Arc<AtomicBool>) -> Result<(), LoadError> {
    let flag = Arc::clone(interrupted);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .map_err(|error| LoadError::Io(std::io::Error::other(error)))
}

/// Runs all clients to their end; what they bring home, and the length of the measured time.
fn run_clients(
    engine: &Engine,
    options: &LoadOptions,
    clients: u32,
    phase: &Arc<Phase>,
    interrupted: &AtomicBool,
    begin: Instant,
) -> Result<(Vec<Ended>, Duration), LoadError> {
    let progress: Arc<[AtomicU64]> = (0..clients).map(|_| AtomicU64::new(0)).collect();
    let chooser = KeyChooser::new(options.keys, options.distribution);
    // Every client is taken before the first one starts: a refusal then leaves nothing running.
    let holders = (0..clients).map(|_| engine.client()).collect::<Result<Vec<_>, _>>()?;
    let mut threads = Vec::new();
    for (number, client) in holders.into_iter().enumerate() {
        let (phase, progress, chooser, options) =
            (Arc::clone(phase), Arc::clone(&progress), chooser.clone(), options.clone());
        let run = move || run_client(client, number as u32, &options, chooser, &phase, &progress[number]);
        threads.push(std::thread::Builder::new().name(format!("client-{number}")).spawn(run)?);
    }
    let bar = progress_bar(options);
    while begin.elapsed() < options.duration
        && !interrupted.load(Ordering::Relaxed)
        && threads.iter().any(|thread| !thread.is_finished())
    {
        std::thread::sleep(TICK.min(options.duration.saturating_sub(begin.elapsed())));
        let received: u64 = progress.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        let elapsed = begin.elapsed();
        bar.set_position(elapsed.as_millis() as u64);
        bar.set_message(format!(
            "{} replies, {}",
            human_count(received),
            human_rate(received as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE))
        ));
    }
    phase.stop.store(true, Ordering::Relaxed);
    let measured = phase.measure_from.elapsed();
    bar.finish_and_clear();
    let mut ended = Vec::new();
    for thread in threads {
        ended.push(thread.join().map_err(|_| LoadError::Io(std::io::Error::other("a client's thread panicked")))?);
    }
    Ok((ended, measured))
}

fn run_client(
    mut client: Client,
    number: u32,
    options: &LoadOptions,
    chooser: KeyChooser,
    phase: &Phase,
    progress: &AtomicU64,
) -> Ended {
    let mut tally = Tally::new();
    match options.actor {
        ActorChoice::Counter => {
            let mut adds = Adds::new(number, options.keys, chooser, options.seed);
            pump(&mut client, &mut adds, phase, progress, &mut tally);
            let faults = adds.judge.faults();
            Ended { client, tally, adds: Some(adds), faults }
        }
        ActorChoice::Echo => {
            let faults = echo::run(&mut client, number, options, chooser, phase, progress, &mut tally);
            Ended { client, tally, adds: None, faults }
        }
        ActorChoice::Account => {
            account::run(&mut client, number, options, chooser, phase, progress, &mut tally);
            let faults = Faults { lost: tally.unanswered(), ..Faults::default() };
            Ended { client, tally, adds: None, faults }
        }
    }
}

/// Reads every counter that was touched; the faults found, how many were compared, and the first failure.
fn audit(client: &mut Client, adds: &[Adds], keys: u64, phase: &Phase) -> (Faults, u64, Option<String>) {
    let (mut faults, mut compared, mut failure) = (Faults::default(), 0, None);
    let reading = Phase {
        stop: AtomicBool::new(false),
        measure_from: phase.measure_from,
        outstanding: phase.outstanding.max(64),
        is_crowded: phase.is_crowded,
    };
    let groups = adds.iter().map(|adds| adds.group + 1).max().unwrap_or(0);
    for group in 0..groups {
        let members: Vec<&Adds> = adds.iter().filter(|adds| adds.group == group).collect();
        let mut audit = Audit::new(&members, keys);
        let mut tally = Tally::new();
        pump(client, &mut audit, &reading, &AtomicU64::new(0), &mut tally);
        faults = faults.plus(audit.faults);
        compared += audit.compared;
        failure = failure.or(tally.first_failure).or(tally.ended_by);
    }
    (faults, compared, failure)
}

fn progress_bar(options: &LoadOptions) -> ProgressBar {
    let target = if options.quiet || !std::io::stderr().is_terminal() {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    };
    let bar = ProgressBar::with_draw_target(Some(options.duration.as_millis() as u64), target);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar
}

fn print(options: &LoadOptions, report: &Report, latency: &hdrhistogram::Histogram<u64>) -> Result<(), LoadError> {
    let json = || serde_json::to_string_pretty(report).map_err(std::io::Error::other);
    match &options.json {
        Some(_) if options.json_on_stdout() => {
            writeln!(std::io::stdout().lock(), "{}", json()?)?;
            if !options.quiet {
                writeln!(std::io::stderr().lock(), "{}", report.text(latency))?;
            }
        }
        path => {
            if let Some(path) = path {
                std::fs::write(path, json()? + "\n")?;
            }
            if !options.quiet {
                writeln!(std::io::stdout().lock(), "{}", report.text(latency))?;
            }
        }
    }
    if !report.is_faultless() {
        eprintln!(
            "FAULTY: lost {}, duplicated {}, out of order {}, failed {}{}",
            report.lost,
            report.duplicated,
            report.out_of_order,
            report.failed,
            report.first_failure.as_ref().map_or(String::new(), |why| format!(" ({why})"))
        );
    }
    Ok(())
}
