//! One run: an engine, its clients, and the audit of what they were told.

use std::cell::OnceCell;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tourbillon::{BackendKind, Client, DeviceSelector, Engine, EngineError};

use super::account;
use super::bulk;
use super::clock::RunClock;
use super::counter::{Adds, Audit, SENDERS_PER_KEY};
use super::echo;
use super::error::LoadError;
use super::intervals::{Interval, Log};
use super::judge::Faults;
use super::keys::KeyChooser;
use super::open::Open;
use super::options::{ActorChoice, LoadOptions, STALL};
use super::pause::{Pause, Paused, Pauser};
use super::pump::{Drive, Pace, Phase, pump};
use super::schedule::{Rate, Schedule};
use super::tally::Tally;
use crate::environment::{Environment, cores, geometry_text};
use crate::jitter::{Duty, Jitter};
use crate::latency::{Percentiles, human_count, human_rate};

/// Longest time between two looks at the clients' progress.
const TICK: Duration = Duration::from_millis(50);
/// An open loop begins so long after its threads were started, so that all are there for their first message.
const LEAD: Duration = Duration::from_millis(20);
/// Every default engine has room for so many, however uneven its shards are.
const ACTORS_OF_ANY_ENGINE: u64 = 1 << 18;
/// Shards are not filled evenly; actors are given room for this many times their even share.
const UNEVENNESS: u64 = 2;
/// Room for actors beside those of even shares: small numbers are the most uneven.
const ACTORS_SPARE: u64 = 256;
/// Messages that the audit has in flight.
const AUDIT_OUTSTANDING: usize = 64;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// The rate of an open loop; none is a closed loop.
    pub rate: Option<Rate>,
    /// How long, warm-up included.
    pub run: Duration,
    /// Time in front that is not measured.
    pub warmup: Duration,
    /// Pauses of the engine.
    pub pauses: &'a [Pause],
    /// How long the backlog of an open loop is still sent after its end.
    pub flush: Duration,
    /// What stands in the progress bar.
    pub label: String,
}

/// What one run found.
#[derive(Debug)]
pub struct Outcome {
    /// Which machine ran.
    pub backend: BackendKind,
    /// Name of the device.
    pub device: String,
    /// Why it is not the one preferred.
    pub fallback: Option<String>,
    /// The engine's geometry in a line.
    pub geometry: String,
    /// The rate of an open loop.
    pub rate: Option<Rate>,
    /// What all clients counted.
    pub tally: Tally,
    /// The samples by interval, where a log is wanted.
    pub intervals: Vec<Interval>,
    /// What their judges and the audit found.
    pub faults: Faults,
    /// Counters that were compared.
    pub audited_keys: u64,
    /// When the run began.
    pub began: SystemTime,
    /// Time that was measured.
    pub measured: Duration,
    /// Time before it.
    pub warmup: Duration,
    /// Pauses of the engine as they were.
    pub pauses: Vec<Paused>,
    /// What a thread that only reads the clock saw; no samples where no core was left for it.
    pub control_thread: Percentiles,
}

/// What one client brings home.
struct Ended {
    client: Client,
    tally: Tally,
    adds: Option<Adds>,
    faults: Faults,
}

/// What the clients of one run did together.
struct Together {
    ended: Vec<Ended>,
    measured: Duration,
    pauses: Vec<Paused>,
    intervals: Vec<Interval>,
}

/// Runs plans with the same options.
#[derive(Debug)]
pub struct Runner<'a> {
    options: &'a LoadOptions,
    clients: u32,
    interrupted: Arc<AtomicBool>,
    environment: OnceCell<Environment>,
}

impl<'a> Runner<'a> {
    /// A runner, which takes over Ctrl-C: the first ends the run and prints what there is, the second ends the program.
    ///
    /// # Errors
    /// [`LoadError::Io`] when the system has no handler to give.
    pub fn new(options: &'a LoadOptions) -> Result<Self, LoadError> {
        let interrupted = take_interrupts()?;
        Ok(Self { options, clients: options.clients_on(cores()), interrupted, environment: OnceCell::new() })
    }

    /// Whether the user wants an end.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// What the runs are measured on.
    pub fn environment(&self, outcome: &Outcome) -> Environment {
        let gather = || Environment::gather(outcome.backend == BackendKind::Cuda, &outcome.device);
        self.environment.get_or_init(gather).clone()
    }

    /// Runs a plan with an engine of its own.
    ///
    /// # Errors
    /// When there is no run to speak of.
    pub fn run(&self, plan: &Plan<'_>) -> Result<Outcome, LoadError> {
        let pauser = Pauser::new(plan.pauses, plan.run - plan.warmup)?;
        let engine = self.build_engine()?;
        let geometry = engine.geometry();
        let kernel_threads = if engine.backend() == BackendKind::Cuda { 0 } else { geometry.warps_per_block as usize };
        let busy = self.clients as usize + kernel_threads;
        // Where no core is left the control thread would take what an open loop's punctuality is measured by.
        let duty = Some(Duty::for_cores(cores(), busy)).filter(|duty| plan.rate.is_none() || *duty == Duty::Continuous);
        let jitter = duty.map(Jitter::start).transpose()?;
        let log = self.options.log_interval().map(|interval| Log::new(plan.warmup, interval));
        let began = SystemTime::now();
        let start = Instant::now() + if plan.rate.is_some() { LEAD } else { Duration::ZERO };
        let phase = Arc::new(Phase {
            stop: AtomicBool::new(false),
            clock: RunClock { start },
            measure_from_ns: plan.warmup.as_nanos() as u64,
            measure_until_ns: plan.rate.map_or(u64::MAX, |_| plan.run.as_nanos() as u64),
            patience: STALL + pauser.longest(),
            is_crowded: busy > cores(),
            sink: log.as_ref().map(Log::sink),
        });
        let together = self.run_clients(&engine, plan, &phase, pauser, log)?;
        let control_thread = jitter.map(Jitter::stop).unwrap_or_default();

        let mut tally = Tally::new();
        let (mut faults, mut holders, mut adds) = (Faults::default(), Vec::new(), Vec::new());
        for end in together.ended {
            tally.merge(end.tally);
            faults = faults.plus(end.faults);
            holders.push(end.client);
            adds.extend(end.adds);
        }
        let mut audited_keys = 0;
        if let Some(client) = holders.first_mut().filter(|_| tally.ended_by.is_none()) {
            let (found, compared, failure) = audit(client, &adds, self.options.keys, &phase);
            faults = faults.plus(found);
            audited_keys = compared;
            tally.first_failure = tally.first_failure.take().or(failure);
        }
        Ok(Outcome {
            backend: engine.backend(),
            device: engine.device_name().to_owned(),
            fallback: engine.fallback().map(ToString::to_string),
            geometry: geometry_text(&geometry),
            rate: plan.rate,
            tally,
            intervals: together.intervals,
            faults,
            audited_keys,
            began,
            measured: together.measured,
            warmup: plan.warmup,
            pauses: together.pauses,
            control_thread,
        })
    }

    fn build_engine(&self) -> Result<Engine, EngineError> {
        /// Lanes of an engine that nobody asked for more.
        const LANES: u32 = 16;
        /// Shards of an engine whose builder was not told, at least; only room is reckoned with it.
        const SHARDS_LEAST: u64 = 16;
        let options = self.options;
        let groups = match options.actor {
            ActorChoice::Counter => u64::from(self.clients.div_ceil(SENDERS_PER_KEY)),
            ActorChoice::Echo => 1,
            ActorChoice::Account => u64::from(self.clients),
        };
        let shards = options.shards.map_or(SHARDS_LEAST, u64::from).max(1);
        let actors = options.keys * groups;
        let mut builder = Engine::builder().backend(options.backend).processing(options.processing);
        builder = builder.lanes(self.clients.max(LANES));
        if actors > ACTORS_OF_ANY_ENGINE {
            let room = actors.div_ceil(shards) * UNEVENNESS + ACTORS_SPARE;
            builder = builder.actors_per_shard(u32::try_from(room).unwrap_or(u32::MAX));
        }
        if let Some(shards) = options.shards {
            builder = builder.shards(shards);
        }
        if echo::is_bulk(options) {
            // No lane more than clients: each pins its arenas.
            let arena_bytes = bulk::arena_bytes(options.payload, options.outstanding);
            builder = builder.lanes(self.clients).arena_bytes(arena_bytes);
        }
        if let Some(device) = &options.device {
            builder = builder.device(device_of(device));
        }
        builder.build()
    }

    /// Runs all clients to their end, and pauses the engine meanwhile.
    fn run_clients(
        &self,
        engine: &Engine,
        plan: &Plan<'_>,
        phase: &Arc<Phase>,
        mut pauser: Pauser,
        mut log: Option<Log>,
    ) -> Result<Together, LoadError> {
        let clients = self.clients;
        let progress: Arc<[AtomicU64]> = (0..clients).map(|_| AtomicU64::new(0)).collect();
        let chooser = KeyChooser::new(self.options.keys, self.options.distribution);
        // Every client is taken before the first one starts: a refusal then leaves nothing running.
        let holders = (0..clients).map(|_| engine.client()).collect::<Result<Vec<_>, _>>()?;
        let mut threads = Vec::new();
        for (number, client) in (0..clients).zip(holders) {
            let (shared, progress, chooser, options) =
                (Arc::clone(phase), Arc::clone(&progress), chooser.clone(), self.options.clone());
            let pace = match plan.rate {
                None => Pace::Closed { outstanding: options.outstanding as usize },
                Some(rate) => Pace::Open(Open::new(Schedule::new(rate, number, clients))),
            };
            let run = move || {
                let drive = Drive::new(&shared, &progress[number as usize], pace);
                run_client(client, number, &options, chooser, drive)
            };
            let thread = std::thread::Builder::new().name(format!("client-{number}")).spawn(run);
            // Those that run already end with the phase.
            threads.push(thread.inspect_err(|_| phase.stop.store(true, Ordering::Relaxed))?);
        }

        let bar = progress_bar(self.options, plan.run);
        let (start, last) = (phase.clock.start, plan.run + plan.rate.map_or(Duration::ZERO, |_| plan.flush));
        let (mut paused, mut gathered) = (Ok(()), Ok(()));
        while paused.is_ok()
            && gathered.is_ok()
            && start.elapsed() < last
            && !self.is_interrupted()
            && threads.iter().any(|thread| !thread.is_finished())
        {
            let until_pause = pauser.next_at().map_or(TICK, |at| (plan.warmup + at).saturating_sub(start.elapsed()));
            std::thread::sleep(TICK.min(until_pause).min(last.saturating_sub(start.elapsed())));
            let elapsed = start.elapsed();
            if let Some(now) = elapsed.checked_sub(plan.warmup) {
                paused = pauser.step(now, engine);
            }
            gathered = log.as_mut().map_or(Ok(()), Log::gather);
            let received: u64 = progress.iter().map(|count| count.load(Ordering::Relaxed)).sum();
            let rate = received as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
            bar.set_position(elapsed.as_millis() as u64);
            bar.set_message(format!("{}{} replies, {}", plan.label, human_count(received), human_rate(rate)));
        }
        let pauses = pauser.finish(start.elapsed().saturating_sub(plan.warmup), engine);
        phase.stop.store(true, Ordering::Relaxed);
        let end = if plan.rate.is_some() { start.elapsed().min(plan.run) } else { start.elapsed() };
        bar.finish_and_clear();
        let ended: Vec<_> = threads.into_iter().map(std::thread::JoinHandle::join).collect();
        paused?;
        gathered?;
        let pauses = pauses?;
        let mut homes = Vec::new();
        for (number, home) in ended.into_iter().enumerate() {
            homes.push(home.map_err(|_| LoadError::ClientPanicked(number))?);
        }
        let measured = end.saturating_sub(plan.warmup);
        // Replies to an open loop's messages are sampled after its end too.
        let log_end = plan.rate.is_none().then_some(measured);
        let intervals = log.map_or(Ok(Vec::new()), |log| log.finish(log_end))?;
        Ok(Together { ended: homes, measured, pauses, intervals })
    }
}

/// Takes over Ctrl-C: the first sets what this returns, the second ends the program.
///
/// # Errors
/// [`LoadError::Io`] when the system has no handler to give.
pub(super) fn take_interrupts() -> Result<Arc<AtomicBool>, LoadError> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    let handler = move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    ctrlc::set_handler(handler).map_err(std::io::Error::other)?;
    Ok(interrupted)
}

/// The GPU that `--device` names, by index or UUID.
pub(super) fn device_of(text: &str) -> DeviceSelector {
    text.parse().map_or_else(|_| DeviceSelector::Uuid(text.to_owned()), DeviceSelector::Index)
}

fn run_client(
    mut client: Client,
    number: u32,
    options: &LoadOptions,
    chooser: KeyChooser,
    mut drive: Drive<'_>,
) -> Ended {
    match options.actor {
        ActorChoice::Counter => {
            let mut adds = Adds::new(number, options.keys, chooser, options.seed);
            pump(&mut client, &mut adds, &mut drive);
            let faults = adds.judge.faults();
            Ended { client, tally: drive.finish(), adds: Some(adds), faults }
        }
        ActorChoice::Echo => {
            let run = if echo::is_bulk(options) { bulk::run } else { echo::run };
            let faults = run(&mut client, number, options, chooser, &mut drive);
            Ended { client, tally: drive.finish(), adds: None, faults }
        }
        ActorChoice::Account => {
            account::run(&mut client, number, options, chooser, &mut drive);
            let tally = drive.finish();
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
        clock: phase.clock,
        measure_from_ns: u64::MAX,
        measure_until_ns: u64::MAX,
        patience: phase.patience,
        is_crowded: phase.is_crowded,
        sink: None,
    };
    let groups = adds.iter().map(|adds| adds.group + 1).max().unwrap_or(0);
    for group in 0..groups {
        let members: Vec<&Adds> = adds.iter().filter(|adds| adds.group == group).collect();
        let mut audit = Audit::new(&members, keys);
        let progress = AtomicU64::new(0);
        let mut drive = Drive::new(&reading, &progress, Pace::Closed { outstanding: AUDIT_OUTSTANDING });
        pump(client, &mut audit, &mut drive);
        faults = faults.plus(audit.faults);
        compared += audit.compared;
        failure = failure.or(drive.tally.first_failure).or(drive.tally.ended_by);
    }
    (faults, compared, failure)
}

pub(super) fn progress_bar(options: &LoadOptions, run: Duration) -> ProgressBar {
    let target = if options.quiet || !std::io::stderr().is_terminal() {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    };
    let bar = ProgressBar::with_draw_target(Some(run.as_millis() as u64), target);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar
}
