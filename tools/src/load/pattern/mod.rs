//! `tourbillon load --pattern`: traffic between actors, inside the engine.
//!
//! Couriers hand messages on to each other, by a pattern, for as long as the run takes; no host is in their way. What is known of it
//! afterwards comes from the device: its counters say how many hops there were in the measured time, and each courier's state how long the
//! hops to it took and which messages ended there. Every message has a number, and must have ended once.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`traffic`] | the engine, the messages, and what the couriers say of them |
//! | [`hops`] | how long hops took |
//! | [`report`] | what is printed |

pub mod hops;
pub mod report;
pub mod traffic;

use std::io::Write;

use serde::Serialize;
use tourbillon::actors::courier::Route;

use self::report::PatternReport;
use self::traffic::Traffic;
use super::error::LoadError;
use super::options::{ActorChoice, LoadOptions, OUTSTANDING_DEFAULT, PAYLOAD_DEFAULT};
use super::output::{Output, check_apart};
use super::run::take_interrupts;
use super::{apply_checks, parse_checks};
use crate::environment::Environment;

/// Messages under way, unless told otherwise or there are fewer couriers.
const IN_FLIGHT_DEFAULT: u64 = 1024;

/// To which courier a message goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pattern {
    /// To the next one in a ring of all.
    Ring,
    /// There and back between two.
    Pairs,
    /// To any.
    Random,
    /// Down a binary tree, and from its leaves to the root.
    Tree,
}

impl Pattern {
    /// How a message goes, and between how many couriers, as a courier is told it.
    fn route(self, keys: u32) -> (Route, u32) {
        match self {
            Self::Ring => (Route::Ring, keys),
            // The other one of a pair has the key that differs in the bits of half of this: the neighbour.
            Self::Pairs => (Route::Pair, 2),
            Self::Random => (Route::Random, keys),
            Self::Tree => (Route::Tree, keys),
        }
    }
}

/// What `--pattern` asks for, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The pattern.
    pub pattern: Pattern,
    /// Couriers.
    pub keys: u32,
    /// Messages under way.
    pub in_flight: u32,
    /// Slots of a mailbox that they need.
    pub mailbox_capacity: u32,
}

impl Wanted {
    /// What the options ask for.
    ///
    /// # Errors
    /// [`LoadError`] when they do not go together.
    pub fn of(options: &LoadOptions, pattern: Pattern) -> Result<Self, LoadError> {
        if let Some((option, cure)) = foreign(options) {
            return Err(LoadError::PatternWith { option, cure });
        }
        if pattern == Pattern::Pairs && !options.keys.is_multiple_of(2) {
            return Err(LoadError::OddPairs { keys: options.keys });
        }
        let in_flight = options.in_flight.unwrap_or(IN_FLIGHT_DEFAULT.min(options.keys));
        let mailbox_capacity = traffic::mailbox_capacity(options, pattern, in_flight)?;
        // Both are bounded by the options.
        Ok(Self { pattern, keys: options.keys as u32, in_flight: in_flight as u32, mailbox_capacity })
    }
}

/// An option that says something of messages from clients, and what to do in its place.
fn foreign(options: &LoadOptions) -> Option<(&'static str, &'static str)> {
    const OF_CLIENTS: &str = "leave it out, or leave out --pattern";
    const OF_FILES: &str = "use --json, whose document has the histogram";
    let given = [
        (options.actor != ActorChoice::Counter, "--actor", "couriers carry the messages: leave it out"),
        (
            options.distribution != super::keys::Distribution::Uniform,
            "--distribution",
            "the pattern says where they go: leave it out",
        ),
        (options.payload != PAYLOAD_DEFAULT, "--payload", "all messages have 16 bytes: leave it out"),
        (options.clients.is_some(), "--clients", OF_CLIENTS),
        (options.outstanding != OUTSTANDING_DEFAULT, "--outstanding", "say --in-flight for the messages under way"),
        (options.rate.is_some(), "--rate", "messages go on at once when they come: leave it out"),
        (options.sweep, "--sweep", OF_CLIENTS),
        (!options.pause_engine.is_empty(), "--pause-engine", OF_CLIENTS),
        (options.runs != 1, "--runs", "run the program several times"),
        (
            options.processing != tourbillon::Processing::Adaptive,
            "--processing",
            "only messages of clients go through gates: leave it out",
        ),
        (options.hgrm.is_some(), "--hgrm", OF_FILES),
        (options.hlog.is_some(), "--hlog", OF_FILES),
        (options.csv.is_some(), "--csv", OF_FILES),
        (options.svg.is_some(), "--svg", OF_FILES),
    ];
    given.into_iter().find_map(|(is_given, option, cure)| is_given.then_some((option, cure)))
}

/// Runs the traffic, prints what came of it and writes what was asked for; whether nothing was lost or doubled, and no `--fail-if` held.
///
/// # Errors
/// When there is no run to speak of, or when its result cannot be written.
pub fn run(options: &LoadOptions, pattern: Pattern) -> Result<bool, LoadError> {
    let wanted = Wanted::of(options, pattern)?;
    let time = options.run_time();
    let warmup = options.warmup_time(time)?;
    let checks = parse_checks(options, &PatternReport::template(options, wanted))?;
    let json = options.json.as_deref().filter(|_| !options.json_on_stdout());
    check_apart(&json.map(|path| ("--json", path)).into_iter().collect::<Vec<_>>())?;
    let json = json.map(|path| Output::open("--json", path)).transpose()?;

    let interrupted = take_interrupts()?;
    let traffic = Traffic::drive(options, wanted, (time, warmup), &interrupted)?;
    let environment = Environment::gather(traffic.backend == tourbillon::BackendKind::Cuda, &traffic.device);
    let mut report = PatternReport::of(options, wanted, &traffic, environment);
    report.checks = apply_checks(&checks, &report)?;

    let document = || serde_json::to_string_pretty(&report).map_err(std::io::Error::other);
    if options.json_on_stdout() {
        writeln!(std::io::stdout().lock(), "{}", document()?)?;
    }
    if !options.quiet {
        let text = report.text();
        if options.json_on_stdout() {
            writeln!(std::io::stderr().lock(), "{text}")?;
        } else {
            writeln!(std::io::stdout().lock(), "{text}")?;
        }
    }
    if let Some(output) = json {
        output.write(|writer| Ok(writeln!(writer, "{}", document()?)?))?;
    }
    Ok(report.conclude())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(arguments: &[&str]) -> Result<Wanted, LoadError> {
        let options = LoadOptions::parsed(arguments).unwrap();
        Wanted::of(&options, options.pattern.unwrap())
    }

    #[test]
    fn defaults_fit() {
        for pattern in ["ring", "pairs", "random", "tree"] {
            let wanted = wanted(&["--pattern", pattern]).unwrap();
            assert_eq!((wanted.keys, wanted.in_flight), (1024, 1024), "{pattern}");
        }
        assert_eq!(wanted(&["--pattern", "ring", "--keys", "10"]).unwrap().in_flight, 10);
    }

    #[test]
    fn what_does_not_go_together_is_told_with_its_cure() {
        for (option, value) in [
            ("--actor", "echo"),
            ("--distribution", "zipf"),
            ("--payload", "64"),
            ("--clients", "3"),
            ("--outstanding", "4"),
            ("--rate", "1000"),
            ("--sweep", ""),
            ("--pause-engine", "200ms@1s"),
            ("--runs", "3"),
            ("--processing", "batch"),
            ("--hgrm", "x"),
            ("--hlog", "x"),
            ("--csv", "x"),
            ("--svg", "x"),
        ] {
            let arguments: Vec<_> =
                ["--pattern", "ring", option, value].into_iter().filter(|text| !text.is_empty()).collect();
            let error = wanted(&arguments).unwrap_err();
            assert!(
                matches!(&error, LoadError::PatternWith { option: told, .. } if *told == option),
                "{option}: {error}"
            );
            assert!(error.to_string().contains(option), "{error}");
        }
        let odd = wanted(&["--pattern", "pairs", "--keys", "7"]).unwrap_err();
        assert!(matches!(odd, LoadError::OddPairs { keys: 7 }) && odd.to_string().contains('8'), "{odd}");
        let many = wanted(&["--pattern", "tree", "--in-flight", "100000"]).unwrap_err();
        assert!(matches!(many, LoadError::TooManyInFlight { in_flight: 100_000, .. }), "{many}");
        for bad in [&["--pattern", "star"][..], &["--pattern", "ring", "--in-flight", "0"]] {
            assert!(LoadOptions::parsed(bad).is_err(), "{bad:?}");
        }
    }
}
