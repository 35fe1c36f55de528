//! The options of `tourbillon load`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;
use tourbillon::Backend;

use super::keys::Distribution;

/// Longest time without any reply before a client gives up on what it has in flight.
pub const STALL: Duration = Duration::from_secs(10);
/// Most keys: the judge keeps 16 bytes a key and client.
pub const KEYS_MAX: u64 = 1 << 22;
/// Most messages that one client has in flight: a lane's ring of the largest capacity would hold more.
pub const OUTSTANDING_MAX: u64 = 4096;
/// Longest run.
const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
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

/// `tourbillon load`: sends messages in a closed loop, checks every reply, prints a latency histogram.
#[derive(Clone, Debug, Args)]
pub struct LoadOptions {
    /// The actor that gets the messages.
    #[arg(long, value_enum, default_value = "counter")]
    pub actor: ActorChoice,
    /// Number of keys, each an actor of its own.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=KEYS_MAX))]
    pub keys: u64,
    /// How messages spread over the keys: `uniform`, `zipf` or `zipf:EXPONENT`.
    #[arg(long, default_value = "uniform")]
    pub distribution: Distribution,
    /// Payload bytes of `--actor echo`: 16, 64 or 352.
    #[arg(long, default_value_t = 16)]
    pub payload: usize,
    /// Clients, each with a thread and a lane of its own [default: 2, or 1 on two cores and fewer].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub clients: Option<u32>,
    /// Messages that each client has in flight.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=OUTSTANDING_MAX))]
    pub outstanding: u64,
    /// How long to run, warm-up included: `10s`, `500ms`, `2m`.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Time at the start that is checked, but not in rate and latencies [default: a fifth of the duration, 1 s at
    /// most].
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
    /// Chooses keys and payloads; the same seed sends the same messages.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write the result as JSON to this file; `-` is standard output, alone.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// No progress bar and no report; errors are still printed.
    #[arg(short, long)]
    pub quiet: bool,
}

impl LoadOptions {
    /// The number of clients on a machine of `cores` cores.
    pub fn clients_on(&self, cores: usize) -> u32 {
        self.clients.unwrap_or(if cores > 2 { 2 } else { 1 })
    }

    /// The warm-up.
    ///
    /// # Errors
    /// It leaves nothing to measure.
    pub fn warmup_time(&self) -> Result<Duration, String> {
        let warmup = self.warmup.unwrap_or_else(|| WARMUP_DEFAULT.min(self.duration / 5));
        if warmup >= self.duration {
            return Err(format!(
                "a warm-up of {warmup:?} leaves nothing of {:?}; choose a longer --duration",
                self.duration
            ));
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
    if !(seconds > 0.0 && seconds <= DURATION_MAX.as_secs_f64()) {
        return Err(format!("`{text}` is not above zero and up to a week"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        options: LoadOptions,
    }

    fn parse(arguments: &[&str]) -> Result<LoadOptions, clap::Error> {
        Program::try_parse_from([&["load"], arguments].concat()).map(|program| program.options)
    }

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
    }

    #[test]
    fn no_options_end_within_fifteen_seconds() {
        let options = parse(&[]).unwrap();
        assert!(options.duration <= Duration::from_secs(12));
        assert_eq!(options.warmup_time(), Ok(Duration::from_secs(1)));
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
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        let late = parse(&["--duration", "1s", "--warmup", "1s"]).unwrap();
        assert!(late.warmup_time().is_err());
    }

    #[test]
    fn standard_output_is_a_dash() {
        assert!(parse(&["--json", "-"]).unwrap().json_on_stdout());
        assert!(!parse(&["--json", "result.json"]).unwrap().json_on_stdout());
        assert!(!parse(&[]).unwrap().json_on_stdout());
    }
}
