//! `tourbillon doctor`: what this machine can do, and why not more.

mod engine;
mod machine;
mod toolchain;

use std::io::Write;

use clap::Args;
use serde::Serialize;

use self::engine::Verdict;
use self::machine::{GpuProcesses, Limits, Memory};
use self::toolchain::Toolchain;
use crate::environment::{COMMIT, cores, cpu_model};
use crate::gpu::{Driver, Gpu};
use crate::latency::human_bytes;

/// Locked memory below this is too little where the system counts pinned memory against the limit: the lanes of
/// the default engine and their arenas take 36 MiB, `lanes * (4096 + 128 * ring_capacity + 2 * arena_bytes)`.
const MEMLOCK_BYTES_LEAST: u64 = 64 << 20;
/// `/dev/shm` below this is too small for the pages of many engines: 4 KiB each, and other programs want some.
const SHM_BYTES_LEAST: u64 = 16 << 20;

/// `tourbillon doctor`: what this machine can do, and why not more.
#[derive(Clone, Debug, Args)]
pub struct DoctorOptions {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// All findings.
#[derive(Debug, Serialize)]
struct Findings {
    commit: &'static str,
    version: &'static str,
    cpu: String,
    cores: usize,
    memory: Memory,
    limits: Limits,
    /// The driver and its devices; none without a driver.
    driver: Option<Driver>,
    /// Why there is no driver.
    no_driver: Option<String>,
    /// Programs on the GPUs.
    gpu_processes: GpuProcesses,
    /// Whether a Multi-Process Service answers for the GPUs of this user.
    mps: bool,
    device_toolchain: Toolchain,
    engine: Verdict,
    /// What should be looked after.
    advice: Vec<String>,
}

/// Runs the command; whether an engine could be built.
///
/// # Errors
/// The output could not be written.
pub fn run(options: &DoctorOptions) -> std::io::Result<bool> {
    let (driver, no_driver) = match Driver::query() {
        Ok(driver) => (Some(driver), None),
        Err(why) => (None, Some(why)),
    };
    let mut findings = Findings {
        commit: COMMIT,
        version: env!("CARGO_PKG_VERSION"),
        cpu: cpu_model(),
        cores: cores(),
        memory: Memory::read(),
        limits: Limits::read(),
        gpu_processes: if driver.is_some() { GpuProcesses::ask() } else { GpuProcesses::none() },
        driver,
        no_driver,
        mps: machine::has_mps(),
        device_toolchain: Toolchain::find(),
        engine: Verdict::of_default_engine(),
        advice: Vec::new(),
    };
    findings.advice = advice(&findings);
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&findings)?)?;
    } else {
        writeln!(out, "{}", text(&findings))?;
    }
    Ok(findings.engine.error.is_none())
}

/// What stands in the way of more.
fn advice(findings: &Findings) -> Vec<String> {
    let mut advice = Vec::new();
    if let Some(why) = &findings.no_driver {
        advice.push(format!("actors cannot run on a GPU: {why}"));
    }
    for gpu in findings.driver.iter().flat_map(|driver| &driver.gpus) {
        advice.extend(advice_on(gpu));
    }
    if findings.mps {
        advice.push("a Multi-Process Service runs: a fault of one of its clients ends the kernels of all".into());
    }
    if let Some(bytes) = findings.limits.memlock_bytes.filter(|&bytes| bytes < MEMLOCK_BYTES_LEAST) {
        advice.push(format!(
            "locked memory is limited to {}; if pinning lanes and arenas fails, raise it: ulimit -l {}; or lower `arena_bytes` or `lanes`",
            human_bytes(bytes),
            MEMLOCK_BYTES_LEAST >> 10
        ));
    }
    if let Some(bytes) = findings.limits.shm_free_bytes.filter(|&bytes| bytes < SHM_BYTES_LEAST) {
        advice.push(format!("/dev/shm has {} left; telemetry pages lie there: mount it larger", human_bytes(bytes)));
    }
    if let Some(install) = &findings.device_toolchain.install {
        advice
            .push(format!("no compiler for device code; needed only to build actors of your own for a GPU: {install}"));
    }
    if findings.cores < 3 {
        advice.push(
            "fewer than three cores: clients and the CPU backend's threads share them, and latencies show it".into(),
        );
    }
    if let Some(error) = &findings.engine.error {
        advice.push(format!("no engine could be built: {error}"));
    }
    advice
}

fn advice_on(gpu: &Gpu) -> Vec<String> {
    let mut advice = Vec::new();
    if gpu.has_kernel_time_limit {
        advice.push(format!(
            "{} drives a display: its kernels are ended after seconds, a ring kernel too; use a GPU without one",
            gpu.name
        ));
    }
    if gpu.compute_mode == "prohibited" {
        advice.push(format!("{} is set to compute mode prohibited: nvidia-smi -i {} -c DEFAULT", gpu.name, gpu.index));
    }
    if !gpu.is_new_enough {
        advice.push(format!("{} has compute capability {}; 8.0 or newer is needed", gpu.name, gpu.compute_capability));
    }
    advice
}

fn text(findings: &Findings) -> String {
    let mut lines = vec![
        format!("program     tourbillon {}, commit {}", findings.version, findings.commit),
        format!("machine     {}, {} cores", findings.cpu, findings.cores),
        format!("memory      {}", findings.memory),
        format!("limits      {}", findings.limits),
    ];
    match &findings.driver {
        None => lines.push(format!("driver      none: {}", findings.no_driver.as_deref().unwrap_or("unknown"))),
        Some(driver) => {
            let version = driver.version.as_deref().unwrap_or("unknown version");
            lines.push(format!("driver      {version}, CUDA {}", driver.cuda));
            lines.extend(driver.gpus.iter().flat_map(gpu_lines));
            lines.push(format!("            processes on GPUs: {}", findings.gpu_processes));
            lines.push(format!("            Multi-Process Service: {}", if findings.mps { "yes" } else { "no" }));
        }
    }
    lines.push(format!("toolchain   {}", findings.device_toolchain));
    lines.extend(findings.engine.lines());
    if findings.advice.is_empty() {
        lines.push("nothing to complain about".into());
    } else {
        lines.push(String::new());
        lines.extend(findings.advice.iter().map(|advice| format!("* {advice}")));
    }
    lines.join("\n")
}

fn gpu_lines(gpu: &Gpu) -> Vec<String> {
    let free = gpu.free_bytes.map_or_else(|| "free unknown".to_owned(), |bytes| format!("{} free", human_bytes(bytes)));
    vec![
        format!(
            "GPU {}       {}, {}, compute capability {}, {} multiprocessors",
            gpu.index, gpu.name, gpu.uuid, gpu.compute_capability, gpu.multiprocessors
        ),
        format!(
            "            {} memory, {free}; {}; link {}; kernel time limit: {}; atomics on host memory: {}",
            human_bytes(gpu.memory_bytes),
            gpu.compute_mode,
            gpu.link.as_deref().unwrap_or("unknown"),
            if gpu.has_kernel_time_limit { "YES" } else { "no" },
            if gpu.has_host_atomics { "yes" } else { "no" }
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu() -> Gpu {
        Gpu {
            index: 1,
            name: "A GPU".into(),
            uuid: "GPU-0".into(),
            compute_capability: "9.0".into(),
            is_new_enough: true,
            multiprocessors: 132,
            memory_bytes: 1 << 37,
            free_bytes: None,
            has_kernel_time_limit: false,
            compute_mode: "shared",
            has_cooperative_launch: true,
            has_host_atomics: false,
            pci: "0000:01:00.0".into(),
            link: None,
        }
    }

    #[test]
    fn the_limit_that_is_advised_is_enough_for_the_default_engine() {
        let pinned = |builder: tourbillon::EngineBuilder| {
            let sum = builder.planned_memory(Some(132)).unwrap();
            sum.iter().filter(|(name, _)| name.ends_with("(host)")).map(|(_, bytes)| bytes).sum::<u64>()
        };
        let default = pinned(tourbillon::Engine::builder());
        assert!(default > MEMLOCK_BYTES_LEAST / 2 && default <= MEMLOCK_BYTES_LEAST / 4 * 3, "{default}");
        assert!(pinned(tourbillon::Engine::builder().arena_bytes(0)) < 4 << 20);
    }

    #[test]
    fn a_good_gpu_needs_no_advice_and_a_bad_one_gets_each() {
        assert!(advice_on(&gpu()).is_empty());
        let bad = Gpu {
            has_kernel_time_limit: true,
            compute_mode: "prohibited",
            compute_capability: "7.5".into(),
            is_new_enough: false,
            ..gpu()
        };
        let advice = advice_on(&bad).join("\n");
        for word in ["display", "prohibited", "7.5"] {
            assert!(advice.contains(word), "{advice}");
        }
        assert!(gpu_lines(&bad)[1].contains("kernel time limit: YES"));
    }
}
