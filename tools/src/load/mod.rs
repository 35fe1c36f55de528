//! `tourbillon load`: checked messages in a closed or an open loop, with latency histograms.
//!
//! Counts cover the whole run; rate and latencies the time after the warm-up. *Service time* is from the push into the
//! lane to the pop of the reply. In an open loop messages have intended times, and *response time* is counted from
//! those.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`options`], [`error`] | what is asked for, and why it cannot be had |
//! | [`mod@run`] | an engine, its clients, and the audit |
//! | [`pump`] | one client: the closed loop (`closed`), the open loop (`open`), what both do with replies (`flight`) |
//! | [`schedule`], [`clock`], [`lateness`] | intended times; what the clock resolves; who was late and why |
//! | [`source`], [`keys`] | where messages come from; `counter`, `echo`, `account` |
//! | [`judge`] | what was lost, doubled or reordered |
//! | [`pause`], [`sweep`] | pauses of the engine; finding the knee |
//! | [`tally`], [`figures`], [`subject`], [`report`], [`sweep_report`], [`plot`] | from counts to what is printed |
//! | [`pattern`] | traffic between actors, in place of that of clients |
//! | [`check`], [`output`], [`intervals`], [`export`] | `--fail-if`; files and their formats |

mod account;
mod bulk;
pub mod check;
pub mod clock;
mod closed;
mod counter;
mod echo;
pub mod error;
pub mod export;
pub mod figures;
pub mod flight;
pub mod intervals;
pub mod judge;
pub mod keys;
pub mod lateness;
pub mod open;
pub mod options;
pub mod output;
pub mod pattern;
pub mod pause;
pub mod plot;
pub mod pump;
pub mod report;
pub mod run;
pub mod schedule;
pub mod source;
pub mod subject;
pub mod sweep;
pub mod sweep_report;
pub mod tally;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use self::check::{Check, Checked};
pub use self::error::LoadError;
use self::export::hlog::Interval;
use self::export::{Series, csv, hgrm, hlog, svg};
use self::figures::{Counts, Figures};
use self::intervals::{INTERVALS_MAX, Packed};
use self::options::{ActorChoice, LoadOptions};
use self::output::Output;
use self::report::Report;
use self::run::{Outcome, Plan, Runner};
use self::schedule::Rate;
use self::subject::{Parameters, Subject};
use self::sweep::{EndedBy, FIRST_RATE, Found, MESSAGES_LEAST, STEP_MIN, STEPS_MAX};
use self::sweep_report::SweepReport;
use self::tally::Tally;
use crate::environment::cores;

/// How long the backlog of an open loop is still sent after its end; longer by the longest pause of the engine.
const FLUSH: Duration = Duration::from_secs(2);
/// A sweep may take this many times its duration, which its steps alone would take, for engines and audits.
const SWEEP_TIME_FACTOR: u32 = 2;

/// Files that were asked for.
struct Outputs {
    json: Option<Output>,
    hgrm: Option<Output>,
    hlog: Option<Output>,
    csv: Option<Output>,
    svg: Option<Output>,
}

impl Outputs {
    fn open(options: &LoadOptions) -> Result<Self, LoadError> {
        let json = options.json.as_deref().filter(|_| !options.json_on_stdout());
        let named: Vec<(&'static str, &Path)> = [
            ("--json", json),
            ("--hgrm", options.hgrm.as_deref()),
            ("--hlog", options.hlog.as_deref()),
            ("--csv", options.csv.as_deref()),
            ("--svg", options.svg.as_deref()),
        ]
        .into_iter()
        .filter_map(|(option, path)| Some((option, path?)))
        .collect();
        output::check_apart(&named)?;
        let open = |option, path: Option<&Path>| path.map(|path| Output::open(option, path)).transpose();
        Ok(Self {
            json: open("--json", json)?,
            hgrm: open("--hgrm", options.hgrm.as_deref())?,
            hlog: open("--hlog", options.hlog.as_deref())?,
            csv: open("--csv", options.csv.as_deref())?,
            svg: open("--svg", options.svg.as_deref())?,
        })
    }
}

/// Runs the load, prints what came of it and writes what was asked for; whether the run was faultless and no
/// `--fail-if` held.
///
/// # Errors
/// When there is no run to speak of, or when its result cannot be written.
pub fn run(options: &LoadOptions) -> Result<bool, LoadError> {
    if let Some(pattern) = options.pattern {
        return pattern::run(options, pattern);
    }
    if options.in_flight.is_some() {
        return Err(LoadError::InFlightWithoutPattern);
    }
    echo::check_payload(options)?;
    // Everything that can be refused is refused before the first message.
    if options.sweep { run_sweep(options) } else { run_plain(options) }
}

fn run_plain(options: &LoadOptions) -> Result<bool, LoadError> {
    let run = options.run_time();
    let warmup = options.warmup_time(run)?;
    check_intervals(options, run * options.runs)?;
    let clients = options.clients_on(cores());
    let resolution_ns = match options.rate {
        None => None,
        Some(rate) => {
            let resolution_ns = check_rate_resolved(rate, clients)?;
            check_rate_measured(rate, run - warmup, 1)?;
            Some(resolution_ns)
        }
    };
    let pauser = pause::Pauser::new(&options.pause_engine, run - warmup)?;
    let flush = FLUSH + pauser.longest();
    let checks = parse_checks(options, &Report::template(options, options.rate.is_some()))?;
    let outputs = Outputs::open(options)?;

    let runner = Runner::new(options)?;
    let mut outcomes = Vec::new();
    for number in 1..=options.runs {
        let label = if options.runs > 1 { format!("run {number} of {}: ", options.runs) } else { String::new() };
        let plan = Plan { rate: options.rate, run, warmup, pauses: &options.pause_engine, flush, label };
        outcomes.push(runner.run(&plan)?);
        if runner.is_interrupted() {
            break;
        }
    }
    let all: Vec<&Outcome> = outcomes.iter().collect();
    let parameters = Parameters::of(options, clients, &all, resolution_ns);
    let subject = Subject::of(&all, parameters, runner.environment(all[0]));
    let mut report = Report::of(&all, subject, runner.is_interrupted());
    report.checks = apply_checks(&checks, &report)?;
    let mut tally = Tally::new();
    outcomes.iter().for_each(|outcome| tally.merge(outcome.tally.clone()));

    let series = series_of(&tally, options.rate.is_some());
    let intervals: Vec<Interval<'_>> = outcomes.iter().flat_map(|outcome| intervals_of(outcome, "")).collect();
    write_outputs(
        options,
        outputs,
        &report,
        &report.text(&tally),
        &Exports {
            intervals: &intervals,
            series: &series,
            csv: &|writer| csv::write_histograms(writer, &series),
            svg: &|writer| svg::write_histograms(writer, &report.subject.title(), &series),
        },
    )?;
    Ok(conclude(&report.figures.counts, report.first_failure.as_deref(), &report.checks))
}

fn run_sweep(options: &LoadOptions) -> Result<bool, LoadError> {
    let (time, clients) = (options.run_time(), options.clients_on(cores()));
    check_intervals(options, time)?;
    let step = time / STEPS_MAX;
    if step < STEP_MIN {
        return Err(LoadError::SweepTooShort { steps: STEPS_MAX, least: STEP_MIN });
    }
    let warmup = options.warmup_time(step)?;
    let first = options.rate.unwrap_or(Rate::new(FIRST_RATE));
    let resolution_ns = check_rate_resolved(first, clients)?;
    check_rate_measured(first, step - warmup, MESSAGES_LEAST)?;
    let checks = parse_checks(options, &SweepReport::template(options))?;
    let outputs = Outputs::open(options)?;

    let runner = Runner::new(options)?;
    let begin = Instant::now();
    let mut outcomes = Vec::new();
    let found = sweep::search(first, highest_rate(clients, resolution_ns), |rate| {
        if runner.is_interrupted() {
            return Ok(Err(EndedBy::Interrupt));
        }
        if begin.elapsed() > time * SWEEP_TIME_FACTOR {
            return Ok(Err(EndedBy::Time));
        }
        let label = format!("step {}, {rate}: ", outcomes.len() + 1);
        // A rate that is too high leaves a backlog, and that is all there is to know of it.
        let plan = Plan { rate: Some(rate), run: step, warmup, pauses: &[], flush: Duration::ZERO, label };
        let outcome = runner.run(&plan)?;
        // A step that was cut short says nothing of its rate.
        if runner.is_interrupted() && !outcomes.is_empty() {
            return Ok(Err(EndedBy::Interrupt));
        }
        let figures = Figures::of(&outcome);
        outcomes.push(outcome);
        Ok::<_, LoadError>(Ok(figures))
    })?;
    if outcomes.is_empty() {
        // Interrupted before the first step.
        return Ok(true);
    }
    write_sweep(options, &runner, clients, resolution_ns, &found, &outcomes, &checks, outputs)
}

#[allow(clippy::too_many_arguments, reason = "all that a sweep has found, once")]
fn write_sweep(
    options: &LoadOptions,
    runner: &Runner<'_>,
    clients: u32,
    resolution_ns: u64,
    found: &Found,
    outcomes: &[Outcome],
    checks: &[Check],
    outputs: Outputs,
) -> Result<bool, LoadError> {
    let all: Vec<&Outcome> = outcomes.iter().collect();
    let parameters = Parameters::of(options, clients, &all, Some(resolution_ns));
    let mut report = SweepReport::of(found, &all, Subject::of(&all, parameters, runner.environment(all[0])));
    report.checks = apply_checks(checks, &report)?;
    let knee = &outcomes[found.knee.unwrap_or(0)];
    let series = series_of(&knee.tally, true);
    let name = |outcome: &Outcome| outcome.rate.map_or_else(String::new, |rate| format!("-{}", rate.per_second()));
    let intervals: Vec<Interval<'_>> =
        outcomes.iter().flat_map(|outcome| intervals_of(outcome, &name(outcome))).collect();
    let title = report.subject.title();
    write_outputs(
        options,
        outputs,
        &report,
        &report.text(),
        &Exports {
            intervals: &intervals,
            series: &series,
            csv: &|writer| csv::write_sweep(writer, &report.points),
            svg: &|writer| svg::write_sweep(writer, &title, &report.points, report.rate_intended, &series),
        },
    )?;
    Ok(conclude(&report.counts, report.first_failure.as_deref(), &report.checks))
}

/// The highest rate that the clock resolves: one message of a client for each step of the clock.
fn highest_rate(clients: u32, resolution_ns: u64) -> Rate {
    Rate::new((f64::from(clients) * 1e9 / resolution_ns as f64).floor())
}

/// What the clock resolves, in nanoseconds; refuses a rate that is higher.
fn check_rate_resolved(rate: Rate, clients: u32) -> Result<u64, LoadError> {
    let resolution_ns = clock::resolution_ns();
    let highest = highest_rate(clients, resolution_ns);
    if rate > highest {
        let interval_ns = f64::from(clients) * 1e9 / rate.per_second();
        return Err(LoadError::RateTooHigh { rate, clients, interval_ns, resolution_ns, highest });
    }
    Ok(resolution_ns)
}

/// Refuses a log with more intervals than memory is meant for.
fn check_intervals(options: &LoadOptions, time: Duration) -> Result<(), LoadError> {
    let Some(interval) = options.log_interval() else { return Ok(()) };
    let intervals = u64::try_from(time.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u64::MAX);
    if intervals > INTERVALS_MAX {
        return Err(LoadError::TooManyIntervals { intervals, most: INTERVALS_MAX });
    }
    Ok(())
}

/// Refuses a rate with fewer than `least` messages in the measured time.
fn check_rate_measured(rate: Rate, measured: Duration, least: u64) -> Result<(), LoadError> {
    let messages = rate.per_second() * measured.as_secs_f64();
    if messages < least as f64 {
        return Err(LoadError::RateTooLow { rate, measured, messages, least });
    }
    Ok(())
}

fn parse_checks(options: &LoadOptions, template: &impl Serialize) -> Result<Vec<Check>, LoadError> {
    if options.fail_if.is_empty() {
        return Ok(Vec::new());
    }
    let template = json_of(template)?;
    options.fail_if.iter().map(|expression| Check::parse(expression, &template)).collect()
}

fn apply_checks(checks: &[Check], report: &impl Serialize) -> Result<Vec<Checked>, LoadError> {
    if checks.is_empty() {
        return Ok(Vec::new());
    }
    let json = json_of(report)?;
    Ok(checks.iter().map(|check| check.apply(&json)).collect())
}

fn json_of(report: &impl Serialize) -> Result<Value, LoadError> {
    serde_json::to_value(report).map_err(|error| LoadError::Io(std::io::Error::other(error)))
}

/// The histograms of a run, the one that matters most first.
fn series_of(tally: &Tally, is_open: bool) -> Vec<Series<'_>> {
    let response = Series { name: "response", histogram: &tally.response };
    let service = Series { name: "service", histogram: &tally.service };
    if is_open { vec![response, service] } else { vec![service] }
}

/// The intervals of a run in the order of their times, with one or two histograms each.
fn intervals_of<'o>(outcome: &'o Outcome, suffix: &str) -> Vec<Interval<'o>> {
    let (begin, is_open) = (outcome.began + outcome.warmup, outcome.rate.is_some());
    let histograms = |interval: &'o intervals::Interval| {
        let of = |name: &str, histogram: &'o Packed| Interval {
            tag: format!("{name}{suffix}"),
            begin: begin + interval.begin,
            length: interval.length,
            histogram,
        };
        let response = is_open.then(|| of("response", &interval.response));
        response.into_iter().chain([of("service", &interval.service)])
    };
    outcome.intervals.iter().flat_map(histograms).collect()
}

type Write1<'a> = &'a dyn Fn(&mut dyn Write) -> Result<(), LoadError>;

/// What goes into the files.
struct Exports<'a> {
    intervals: &'a [Interval<'a>],
    series: &'a [Series<'a>],
    csv: Write1<'a>,
    svg: Write1<'a>,
}

fn write_outputs(
    options: &LoadOptions,
    outputs: Outputs,
    report: &impl Serialize,
    text: &str,
    exports: &Exports<'_>,
) -> Result<(), LoadError> {
    let json = || serde_json::to_string_pretty(report).map_err(std::io::Error::other);
    if options.json_on_stdout() {
        writeln!(std::io::stdout().lock(), "{}", json()?)?;
        if !options.quiet {
            writeln!(std::io::stderr().lock(), "{text}")?;
        }
    } else if !options.quiet {
        writeln!(std::io::stdout().lock(), "{text}")?;
    }
    let write = |output: Option<Output>, write: Write1<'_>| output.map_or(Ok(()), |output| output.write(write));
    write(outputs.json, &|writer| Ok(writeln!(writer, "{}", json()?)?))?;
    write(outputs.hgrm, &|writer| hgrm::write(writer, exports.series[0].histogram))?;
    write(outputs.hlog, &|writer| hlog::write(writer, exports.intervals))?;
    write(outputs.csv, exports.csv)?;
    write(outputs.svg, exports.svg)
}

/// Says on standard error what is wrong; whether nothing is.
fn conclude(counts: &Counts, first_failure: Option<&str>, checks: &[Checked]) -> bool {
    if !counts.is_faultless() {
        eprintln!(
            "FAULTY: lost {}, duplicated {}, out of order {}, failed {}{}",
            counts.faults.lost,
            counts.faults.duplicated,
            counts.faults.out_of_order,
            counts.failed,
            first_failure.map_or(String::new(), |why| format!(" ({why})"))
        );
    }
    for check in checks.iter().filter(|check| check.has_failed) {
        let value = check.value.map_or("nothing".to_owned(), |value| value.to_string());
        eprintln!("FAILED: --fail-if '{}': it is {value}", check.expression);
    }
    counts.is_faultless() && !checks.iter().any(|check| check.has_failed)
}

fn payload_bytes(options: &LoadOptions) -> usize {
    match options.actor {
        ActorChoice::Counter => size_of::<tourbillon::actors::counter::Add>(),
        ActorChoice::Account => account::PAYLOAD_BYTES,
        ActorChoice::Echo => options.payload,
    }
}
