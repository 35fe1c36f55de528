//! The options of `tourbillon load`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;
use tourbillon::{Backend, Processing};

use super::error::LoadError;
use super::keys::Distribution;
use super::pattern::Pattern;
use super::pause::Pause;
use super::schedule::Rate;

/// Longest time without any reply before a client gives up on what it has in flight.
pub const STALL: Duration = Duration::from_secs(10);
/// Most keys: the judge keeps 16 bytes a key and client.
pub const KEYS_MAX: u64 = 1 << 22;
/// Most messages that one client has in flight: a lane's ring of the largest capacity would hold more.
pub const OUTSTANDING_MAX: u64 = 4096;
/// Payload bytes, unless told otherwise.
pub const PAYLOAD_DEFAULT: usize = 16;
/// Messages that a client has in flight, unless told otherwise.
pub const OUTSTANDING_DEFAULT: u64 = 8;
/// Most messages under way between actors: each has a number, and their starting takes about a second.
pub const IN_FLIGHT_MAX: u64 = 1 << 22;
/// Longest run.
const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// A run without `--duration`. Of its 9 s that are measured, a pause of 200 ms is more than 2 %, and seen at 99 %.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);
/// A sweep without `--duration`: a second for each step.
const SWEEP_DEFAULT: Duration = Duration::from_secs(30);
/// Least runs of which a spread says anything.
const RUNS_LEAST: u32 = 3;
/// Most runs: each builds an engine.
const RUNS_MAX: u32 = 100;
/// Longest warm-up that is chosen without asking.
const WARMUP_DEFAULT: Duration = Duration::from_secs(1);

/// Which of the shipped actors gets the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ActorChoice {
    /// Adds; its state shows loss, duplication and order.
    Counter,
    /// Sends the payload back.
    Echo,
    /// Deposits and withdrawals, some refused with a typed error.
    Account,
}

/// `tourbillon load`: sends messages in a closed loop or at a fixed rate, checks every reply, prints a latency
/// histogram.
#[derive(Clone, Debug, Args)]
pub struct LoadOptions {
    /// The actor that gets the messages.
    #[arg(long, value_enum, default_value = "counter")]
    pub actor: ActorChoice,
    /// Traffic between actors in place of that of clients: messages that go on from courier to courier until the run ends.
    #[arg(long, value_enum)]
    pub pattern: Option<Pattern>,
    /// With `--pattern`: messages under way [default: 1024, or one for each courier where there are fewer].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=IN_FLIGHT_MAX))]
    pub in_flight: Option<u64>,
    /// Number of keys, each an actor of its own; with `--pattern` the couriers.
    #[arg(long, visible_alias = "actors", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=KEYS_MAX))]
    pub keys: u64,
    /// How messages spread over the keys: `uniform`, `zipf` or `zipf:EXPONENT`.
    #[arg(long, default_value = "uniform")]
    pub distribution: Distribution,
    /// Payload bytes of `--actor echo`: 16, 64 or 352; or 353 to 1048576 by way of the arena.
    #[arg(long, default_value_t = PAYLOAD_DEFAULT)]
    pub payload: usize,
    /// Clients, each with a thread and a lane of its own [default: 2, or 1 on two cores and fewer].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub clients: Option<u32>,
    /// Messages that each client has in flight in a closed loop.
    #[arg(long, default_value_t = OUTSTANDING_DEFAULT, value_parser = clap::value_parser!(u64).range(1..=OUTSTANDING_MAX))]
    #[arg(conflicts_with_all = ["rate", "sweep"])]
    pub outstanding: u64,
    /// Open loop: send so many messages a second, all clients together, each at its intended time, and measure from
    /// that time: `100000`, `100k`, `1.5M`. In a sweep the first rate.
    #[arg(long)]
    pub rate: Option<Rate>,
    /// Find the knee: open loops at rising rates, until the rate is not reached or the response time grows.
    #[arg(long, conflicts_with_all = ["runs", "pause_engine"])]
    pub sweep: bool,
    /// Pause the engine for a time, at a time of the measured run: `200ms@1s`; may be given several times.
    #[arg(long, value_name = "LENGTH@TIME")]
    pub pause_engine: Vec<Pause>,
    /// Run so many times, each with a new engine, and show how the runs differ.
    #[arg(long, default_value_t = 1, value_parser = parse_runs)]
    pub runs: u32,
    /// How long to run, warm-up included: `10s`, `500ms`, `2m`; the longest that all steps of a sweep take [default:
    /// 10s, a sweep 30s].
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Time at the start that is checked, but not in rate and latencies [default: a fifth of the duration, 1 s at
    /// most]. In a sweep that of each step.
    #[arg(long, value_parser = parse_duration)]
    pub warmup: Option<Duration>,
    /// `auto`, `cuda` or `cpu`; `cuda` never falls back.
    #[arg(long, default_value = "auto")]
    pub backend: Backend,
    /// GPU, by index or UUID.
    #[arg(long)]
    pub device: Option<String>,
    /// Shards [default: the engine's].
    #[arg(long)]
    pub shards: Option<u32>,
    /// How many messages gates take at once: `adaptive`, `continuous`, `batch` or `batch:WAITus`.
    #[arg(long, default_value = "adaptive")]
    pub processing: Processing,
    /// Chooses keys and payloads; the same seed sends the same messages.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write the result as JSON to this file; `-` is standard output, alone.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the percentiles of response time (closed loop: service time) to this file, as HdrHistogram text.
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// Write the histograms of every run or step to this file, in the log format of HdrHistogram, one for each interval.
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,
    /// Length of an interval of that log: `1s`, `100ms`.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration, requires = "hlog")]
    pub hlog_interval: Duration,
    /// Write the histograms to this file, or the steps of a sweep.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Draw the histograms into this file, and the curve of a sweep.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Fail when a figure of the result compares so: `response_p99_ns>3000`, with `>`, `>=`, `<` or `<=`; may be given
    /// several times. A field that there is not is answered with a list of all.
    #[arg(long, value_name = "EXPRESSION")]
    pub fail_if: Vec<String>,
    /// No progress bar and no report; errors are still printed.
    #[arg(short, long)]
    pub quiet: bool,
}

impl LoadOptions {
    /// Length of an interval of the log, if there is to be one.
    pub fn log_interval(&self) -> Option<Duration> {
        self.hlog.as_ref().map(|_| self.hlog_interval)
    }

    /// The number of clients on a machine of `cores` cores.
    pub fn clients_on(&self, cores: usize) -> u32 {
        self.clients.unwrap_or(if cores > 2 { 2 } else { 1 })
    }

    /// How long to run; of a sweep, all its steps together.
    pub fn run_time(&self) -> Duration {
        self.duration.unwrap_or(if self.sweep { SWEEP_DEFAULT } else { DURATION_DEFAULT })
    }

    /// The warm-up of a run, or of a step of a sweep, that takes `run`.
    ///
    /// # Errors
    /// It leaves nothing to measure.
    pub fn warmup_time(&self, run: Duration) -> Result<Duration, LoadError> {
        let warmup = self.warmup.unwrap_or_else(|| WARMUP_DEFAULT.min(run / 5));
        if warmup >= run {
            return Err(LoadError::WarmupTooLong { warmup, run });
        }
        Ok(warmup)
    }

    /// Whether the result goes to standard output.
    pub fn json_on_stdout(&self) -> bool {
        self.json.as_ref().is_some_and(|path| path.as_os_str() == "-")
    }
}

/// Parses `10s`, `1.5s`, `500ms`, `2m`, `1h`; a bare number is seconds.
///
/// # Errors
/// The text is none of these, or the time is zero or longer than a week.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let time = parse_time(text)?;
    if time.is_zero() {
        return Err(format!("`{text}` is no time above zero"));
    }
    Ok(time)
}

/// Parses what [`parse_duration`] does, and zero.
///
/// # Errors
/// The text is no time, or one longer than a week.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds_per_unit = match unit {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("`{unit}` is no unit of time; use ms, s, m or h")),
    };
    let number: f64 = number.trim().parse().map_err(|_| format!("`{text}` is no duration; try 10s or 500ms"))?;
    let seconds = number * seconds_per_unit;
    if !(0.0..=DURATION_MAX.as_secs_f64()).contains(&seconds) {
        return Err(format!("`{text}` is not between zero and a week"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Parses the number of runs: one, or enough for a spread.
fn parse_runs(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(1) => Ok(1),
        Ok(runs @ RUNS_LEAST..=RUNS_MAX) => Ok(runs),
        _ => Err(format!("`{text}` is not 1 or {RUNS_LEAST} to {RUNS_MAX}; fewer than {RUNS_LEAST} show no spread")),
    }
}

#[cfg(test)]
impl LoadOptions {
    /// What these arguments say.
    pub(super) fn parsed(arguments: &[&str]) -> Result<Self, clap::Error> {
        use clap::{Args, FromArgMatches};
        let matches =
            Self::augment_args(clap::Command::new("load")).try_get_matches_from([&["load"], arguments].concat())?;
        Self::from_arg_matches(&matches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_parse() {
        for (text, ms) in
            [("10s", 10_000), ("500ms", 500), ("2m", 120_000), ("3", 3_000), ("1.5s", 1_500), ("1h", 3_600_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "s", "0", "0s", "-1s", "10x", "1e300s", "nan", "8000000h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_time("0s"), Ok(Duration::ZERO));
        assert!(parse_time("-1s").is_err() && parse_time("nan").is_err());
    }

    #[test]
    fn no_options_end_within_fifteen_seconds() {
        let options = LoadOptions::parsed(&[]).unwrap();
        assert!(options.run_time() <= Duration::from_secs(12) && options.rate.is_none() && !options.sweep);
        assert_eq!(options.warmup_time(options.run_time()).unwrap(), Duration::from_secs(1));
        assert_eq!((options.clients_on(1), options.clients_on(2), options.clients_on(16)), (1, 1, 2));
    }

    #[test]
    fn bad_options_are_refused() {
        for bad in [
            &["--keys", "0"][..],
            &["--keys", "5000000"],
            &["--clients", "0"],
            &["--clients", "65"],
            &["--outstanding", "0"],
            &["--distribution", "normal"],
            &["--duration", "0s"],
            &["--backend", "abacus"],
            &["--actor", "nobody"],
            &["--rate", "0"],
            &["--rate", "fast"],
            &["--rate", "1000", "--outstanding", "4"],
            &["--sweep", "--outstanding", "4"],
            &["--sweep", "--runs", "3"],
            &["--sweep", "--pause-engine", "200ms@1s"],
            &["--pause-engine", "200ms"],
            &["--processing", "sometimes"],
            &["--processing", "batch:2000000us"],
            &["--runs", "2"],
            &["--runs", "0"],
            &["--runs", "101"],
        ] {
            assert!(LoadOptions::parsed(bad).is_err(), "{bad:?}");
        }
        let late = LoadOptions::parsed(&["--duration", "1s", "--warmup", "1s"]).unwrap();
        assert!(matches!(late.warmup_time(late.run_time()), Err(LoadError::WarmupTooLong { .. })));
    }

    #[test]
    fn standard_output_is_a_dash() {
        assert!(LoadOptions::parsed(&["--json", "-"]).unwrap().json_on_stdout());
        assert!(!LoadOptions::parsed(&["--json", "result.json"]).unwrap().json_on_stdout());
        assert!(!LoadOptions::parsed(&[]).unwrap().json_on_stdout());
    }
}
