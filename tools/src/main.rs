//! The program `tourbillon`.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tourbillon_tools::doctor::{self, DoctorOptions};
use tourbillon_tools::load::{self, options::LoadOptions};
use tourbillon_tools::top::{self, TopOptions};
use tracing_subscriber::EnvFilter;

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
}

fn main() -> ExitCode {
    // Logs go to standard error: standard output may be read by a program.
    let filter = EnvFilter::try_from_env("TOURBILLON_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let outcome = match Program::parse().command {
        Command::Load(options) => load::run(&options).map_err(|error| error.to_string()),
        Command::Doctor(options) => doctor::run(&options).map_err(|error| error.to_string()),
        Command::Top(options) => top::run(&options).map(|()| true).map_err(|error| error.to_string()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tourbillon: {error}");
            ExitCode::FAILURE
        }
    }
}
