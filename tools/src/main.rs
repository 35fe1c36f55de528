//! The program `tourbillon`.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tourbillon_tools::doctor::{self, DoctorOptions};
use tourbillon_tools::load::{self, options::LoadOptions};
use tourbillon_tools::new::{self, NewOptions};
use tourbillon_tools::top::{self, TopOptions};
use tracing_subscriber::EnvFilter;

/// Chooses what is logged.
const LOG_VARIABLE: &str = "TOURBILLON_LOG";

/// Actors in a ring kernel: load, doctor and a view of running engines.
#[derive(Debug, Parser)]
#[command(name = "tourbillon", version)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send messages in a closed loop or at a fixed rate, check every reply and print latency histograms.
    Load(Box<LoadOptions>),
    /// Say what this machine can do, and why not more.
    Doctor(DoctorOptions),
    /// Show the engines that run on this machine.
    Top(TopOptions),
    /// Write a package with actors of your own.
    New(NewOptions),
}

fn main() -> ExitCode {
    let program = Program::parse();
    let filter = match log_filter(std::env::var_os(LOG_VARIABLE)) {
        Ok(filter) => filter,
        Err(error) => return failed(&error),
    };
    // Logs go to standard error: standard output may be read by a program.
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let outcome = match program.command {
        Command::Load(options) => load::run(&options).map_err(|error| error.to_string()),
        Command::Doctor(options) => doctor::run(&options).map_err(|error| error.to_string()),
        Command::New(options) => new::run(&options).map(|()| true).map_err(|error| error.to_string()),
        Command::Top(options) => top::run(&options).map(|()| true).map_err(|error| error.to_string()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("tourbillon: {error}");
    ExitCode::FAILURE
}

/// A choice of logs that is none.
#[derive(Debug, thiserror::Error)]
enum LogError {
    #[error("{LOG_VARIABLE}={value}: {source}; write a level as `debug`, or `tourbillon=debug` for a part")]
    Filter { value: String, source: tracing_subscriber::filter::ParseError },
    #[error("{LOG_VARIABLE} is no text; write a level as `debug`, or `tourbillon=debug` for a part")]
    NoText,
}

/// What is logged: warnings, unless the environment asks for something else.
fn log_filter(wanted: Option<OsString>) -> Result<EnvFilter, LogError> {
    let Some(wanted) = wanted else { return Ok(EnvFilter::new("warn")) };
    let value = wanted.into_string().map_err(|_| LogError::NoText)?;
    EnvFilter::try_new(&value).map_err(|source| LogError::Filter { value, source })
}
