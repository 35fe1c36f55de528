//! What a figure was measured on.

use serde::Serialize;
use tourbillon_shared::geometry::Geometry;

use crate::gpu::Driver;

/// The commit that the program was built from, `-dirty` behind it when the tree differed, or `unknown`.
pub const COMMIT: &str = env!("TOURBILLON_COMMIT");

/// The machine and the program.
#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    /// The GPU in use; none on the CPU backend.
    pub gpu: Option<String>,
    /// Version of its driver.
    pub driver: Option<String>,
    /// Newest CUDA version of the driver.
    pub cuda: Option<String>,
    /// How the GPU is attached.
    pub link: Option<String>,
    /// Model of the CPU.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Operating system and its version.
    pub system: String,
    /// [`COMMIT`].
    pub commit: &'static str,
    /// Version of the program.
    pub version: &'static str,
    /// The compiler of the host crates.
    pub compiler: &'static str,
    /// Whether the program was built with optimisation.
    pub profile: &'static str,
}

impl Environment {
    /// The environment of a run on the device called `device_name`; no GPU is asked for when `on_gpu` is false.
    pub fn gather(on_gpu: bool, device_name: &str) -> Self {
        let driver = if on_gpu { Driver::query().ok() } else { None };
        let gpu = driver.as_ref().and_then(|driver| driver.gpus.iter().find(|gpu| gpu.name == device_name));
        Self {
            gpu: on_gpu.then(|| device_name.to_owned()),
            driver: driver.as_ref().and_then(|driver| driver.version.clone()),
            cuda: driver.as_ref().map(|driver| driver.cuda.clone()),
            link: gpu.and_then(|gpu| gpu.link.clone()),
            cpu: cpu_model(),
            cores: cores(),
            system: system(),
            commit: COMMIT,
            version: env!("CARGO_PKG_VERSION"),
            compiler: env!("TOURBILLON_COMPILER"),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" },
        }
    }
}

/// Cores that this process may use, at least 1.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Model of the CPU, or its architecture where the system does not tell.
pub fn cpu_model() -> String {
    std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| model_in(&text))
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn model_in(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn system() -> String {
    let name = rustix::system::uname();
    format!("{} {}", name.sysname().to_string_lossy(), name.release().to_string_lossy())
}

/// A geometry in a line.
pub fn geometry_text(geometry: &Geometry) -> String {
    if geometry.combined == 0 {
        format!(
            "{} shards on {} blocks of {} warps, {} gate(s), {} lanes",
            geometry.shards,
            geometry.shard_blocks(),
            geometry.warps_per_block,
            geometry.gates,
            geometry.lanes
        )
    } else {
        format!("{} shards on {} thread(s), {} lanes", geometry.shards, geometry.warps_per_block, geometry.lanes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_found() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2.0 GHz\nflags: a b";
        assert_eq!(model_in(text).as_deref(), Some("Some CPU @ 2.0 GHz"));
        assert_eq!(model_in("processor: 0"), None);
    }

    #[test]
    fn the_environment_of_the_cpu_names_no_gpu() {
        let environment = Environment::gather(false, "CPU");
        assert!(environment.gpu.is_none() && environment.driver.is_none());
        assert!(environment.cores >= 1 && !environment.cpu.is_empty() && !environment.commit.is_empty());
    }
}
