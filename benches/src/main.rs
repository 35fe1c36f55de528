//! `latency`: in one run the bare floors, what one does without a persistent kernel, and the engine.
//!
//! The phases follow each other; the engine's kernel and the others never run at the same time. After each phase the
//! results file is written anew, so that a run that is cut short leaves what it has.

mod asks;
mod bulk;
mod comings;
mod cuda;
mod engine;
mod floor;
mod hlc;
mod letters;
mod litmus;
mod litmus_host;
mod modes;
mod offload;
mod render;
mod sweep;
mod topics;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tourbillon::Backend;
use tourbillon_device::PtxText;
use tourbillon_tools::environment::Environment;
use tourbillon_tools::gpu::{Driver, Gpu};

use crate::cuda::{Context, Module};
use crate::engine::Setup;
use crate::floor::Kind;
use tourbillon_benches::program::{Command, exit_code, give_up_after};
use tourbillon_benches::results::Results;

/// What it is called in its messages.
const PROGRAM: &str = "latency";
/// A run that takes longer has met something that hangs, and ends.
const RUN_TIME_MAX: Duration = Duration::from_secs(345);
/// Compiling the kernels once takes a second or two.
const JIT_TIME_MAX: Duration = Duration::from_secs(60);
/// A sweep builds dozens of engines.
const SWEEP_TIME_MAX: Duration = Duration::from_secs(580);

/// What is measured, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Phase {
    /// Bare floors, what one does without a persistent kernel, timestamps; on a GPU only.
    Floors,
    /// Litmus tests of the memory operations, and what each ordering costs; on a GPU only.
    Litmus,
    /// One call at a time.
    Calls,
    /// One ask at a time, through a gateway.
    Asks,
    /// Full pipelines.
    Rate,
    /// The ways of processing.
    Modes,
    /// Actors that come: first messages, and fetches from a store.
    #[value(name = "virtual")]
    Comings,
    /// Payloads of 1 MiB.
    Payloads,
    /// Messages between actors.
    Letters,
    /// Topics, with a reader that stalls.
    Topics,
}

/// Latency and rate of the engine, beside the bare floors.
#[derive(Debug, Parser)]
#[command(name = "latency", version)]
struct Program {
    #[command(subcommand)]
    command: Option<Command>,
    /// Write the results to this file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// `auto`, `cuda` or `cpu`.
    #[arg(long, default_value = "auto")]
    backend: Backend,
    /// GPU, by index.
    #[arg(long, default_value_t = 0)]
    device: u32,
    /// Measure this only; may be given several times. What other phases would have said, as floors, is then not there.
    #[arg(long, value_name = "PHASE")]
    only: Vec<Phase>,
    /// How long the litmus tests run, all together.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=60))]
    litmus_seconds: u32,
    /// Compare geometries of the engine instead.
    #[arg(long)]
    sweep: bool,
    /// Compile the kernels and say how many milliseconds it took: for this program itself, in a process of its own.
    #[arg(long = litmus::JIT_OPTION, hide = true)]
    jit: bool,
}

fn main() -> ExitCode {
    let program = Program::parse();
    exit_code(
        PROGRAM,
        match &program.command {
            Some(command) => command.run(render::tables, render::MARKS),
            None => run(&program),
        },
    )
}

fn run(program: &Program) -> Result<(), String> {
    if program.jit {
        return compile(program.device).map_err(|error| error.to_string());
    }
    let time = if program.sweep { SWEEP_TIME_MAX } else { RUN_TIME_MAX };
    give_up_after(time, PROGRAM, "what was measured so far stands in the results file").map_err(|e| e.to_string())?;
    let gpu = choose_gpu(program)?;
    let backend = if gpu.is_some() { Backend::Cuda } else { Backend::Cpu };
    let setup = Setup { backend, device: program.device };
    if program.sweep {
        return sweep::run(setup, gpu.map(|gpu| gpu.multiprocessors)).map_err(|error| error.to_string());
    }
    let device_name = gpu.as_ref().map_or("CPU", |gpu| gpu.name.as_str());
    let environment = Environment::gather(gpu.is_some(), device_name);
    let mut results = Results::on(&environment).map_err(|error| error.to_string())?;
    let out = program.out.as_deref();
    for phase in Phase::value_variants() {
        if !program.only.is_empty() && !program.only.contains(phase) {
            continue;
        }
        let measured = match phase {
            Phase::Floors | Phase::Litmus if gpu.is_none() => continue,
            Phase::Floors => measure_floors(program.device, &mut results),
            Phase::Litmus => measure_litmus(program.device, program.litmus_seconds, &mut results),
            Phase::Calls => engine::measure_round_trips(setup, &mut results),
            Phase::Asks => asks::measure(setup, &mut results),
            Phase::Rate => engine::measure_rate(setup, &mut results),
            Phase::Modes => modes::measure(setup, &mut results),
            Phase::Comings => comings::measure(setup, &mut results),
            Phase::Letters => letters::measure(setup, &mut results),
            Phase::Topics => topics::measure(setup, &mut results),
            Phase::Payloads => bulk::measure(setup, &mut results),
        };
        // What a phase that failed had found by then is evidence too.
        results.write(out).map_err(|error| error.to_string())?;
        measured.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The GPU to measure on; none when the CPU backend is measured, which is said loudly.
fn choose_gpu(program: &Program) -> Result<Option<Gpu>, String> {
    let found = match program.backend {
        Backend::Cpu => Err("the CPU backend was asked for".to_owned()),
        _ => Driver::query().and_then(|driver| {
            let count = driver.gpus.len();
            let wanted = driver.gpus.into_iter().nth(program.device as usize);
            wanted.ok_or_else(|| format!("no GPU {}; there are {count}", program.device))
        }),
    };
    match (found, program.backend) {
        (Ok(gpu), _) => Ok(Some(gpu)),
        (Err(why), Backend::Cuda) => Err(why),
        (Err(why), _) => {
            println!("*** NO GPU FIGURES: {why}. The engine is measured on CPU threads. ***");
            Ok(None)
        }
    }
}

/// The text of the shipped kernels for the context's GPU.
fn shipped_text(context: &Context) -> engine::EngineResult<&'static PtxText> {
    let texts = tourbillon::shipped_image().ptx.iter();
    let fitting = texts.filter(|text| text.compute_capability <= context.compute_capability);
    let best = fitting.max_by_key(|text| text.compute_capability);
    Ok(best.ok_or("no kernel text for this GPU is compiled in")?)
}

/// Compiles the kernels and prints how many milliseconds it took.
fn compile(device: u32) -> engine::EngineResult<()> {
    give_up_after(JIT_TIME_MAX, PROGRAM, "the kernels are not compiled")?;
    let context = Context::new(device)?;
    println!("{}", litmus::jit(&context, shipped_text(&context)?.text)?);
    Ok(())
}

fn measure_litmus(device: u32, seconds: u32, results: &mut Results) -> engine::EngineResult<()> {
    results.add("jit_ms", litmus::measure_jit(device)?, "ms", None);
    let context = Context::new(device)?;
    let module = Module::load(&context, shipped_text(&context)?.text)?;
    litmus::measure(&context, &module, f64::from(seconds), results)?;
    Ok(())
}

fn measure_floors(device: u32, results: &mut Results) -> engine::EngineResult<()> {
    let context = Context::new(device)?;
    let ptx = shipped_text(&context)?;
    results.env.insert("ptx".into(), format!("sm_{}", ptx.compute_capability).into());
    let module = Module::load(&context, ptx.text)?;
    println!("floors: kernels for sm_{}", ptx.compute_capability);
    for (kind, name) in [(Kind::Direct, "floor_direct"), (Kind::Gate, "floor_gate")] {
        let floor = floor::measure(&context, &module, kind)?;
        let geometry = format!(
            "{} block(s) of {} warp(s), {} slot(s) a poll",
            floor.blocks, floor.geometry.warps, floor.geometry.poll_slots
        );
        println!("{name}: best with {geometry}");
        results.env.insert(name.into(), geometry.into());
        results.add(&format!("{name}_p50"), floor.p50, "ns", None);
        results.add(&format!("{name}_p99"), floor.p99, "ns", None);
    }
    let offload = offload::measure(&context, &module)?;
    results.add("launch_sync_p50", offload.launch_sync, "ns", None);
    results.add("offload_copy_launch_p50", offload.copy_launch, "ns", None);
    results.add("graph_launch_p50", offload.graph, "ns", None);
    let price = hlc::measure(&context, &module)?;
    results.add("hlc_update_ns", price.batch, "ns", None);
    results.add("hlc_update_single_ns", price.single, "ns", None);
    results.add("floor_hop_ns", letters::measure_floor(&context, &module)?, "ns", None);
    results.add("floor_copy_bytes_per_s", bulk::measure_floor(&context)?, "B/s", None);
    Ok(())
}
