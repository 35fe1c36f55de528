//! What the GPU driver says about itself and its devices, as it is printed.

use serde::Serialize;
use tourbillon::{ComputeMode, DeviceInfo, probe_devices};

/// A GPU as its driver describes it.
#[derive(Clone, Debug, Serialize)]
pub struct Gpu {
    /// Number by which `--device` takes it.
    pub index: u32,
    /// Product name.
    pub name: String,
    /// `GPU-` and the UUID.
    pub uuid: String,
    /// Such as `9.0`.
    pub compute_capability: String,
    /// Whether it is new enough for an engine.
    pub is_new_enough: bool,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// All of its memory, in bytes.
    pub memory_bytes: u64,
    /// Memory that is free now, in bytes; unknown where no context could be made.
    pub free_bytes: Option<u64>,
    /// Whether the driver ends kernels that run for seconds, because the device drives a display.
    pub has_kernel_time_limit: bool,
    /// Who may use the device: `shared`, `exclusive process`, `prohibited`, `unknown`.
    pub compute_mode: &'static str,
    /// Whether all blocks of a launch can be made resident at once.
    pub has_cooperative_launch: bool,
    /// Whether atomics of the device work on host memory.
    pub has_host_atomics: bool,
    /// PCI address.
    pub pci: String,
    /// How the device is attached, such as `32.0 GT/s PCIe x16`.
    pub link: Option<String>,
}

/// What the driver says.
#[derive(Clone, Debug, Serialize)]
pub struct Driver {
    /// Version of the kernel driver, such as `580.95.05`; unknown where the system does not tell.
    pub version: Option<String>,
    /// Newest CUDA version that it serves, such as `13.0`.
    pub cuda: String,
    /// Its devices.
    pub gpus: Vec<Gpu>,
}

impl Driver {
    /// Asks the driver. Makes a context on each device for a moment, to learn how much memory is free: 0.1 to 0.3
    /// s each.
    ///
    /// # Errors
    /// There is no driver, or it refuses to work; the text says why.
    pub fn query() -> Result<Self, String> {
        let found = probe_devices().map_err(|error| error.to_string())?;
        Ok(Self {
            version: driver_version(),
            cuda: format!("{}.{}", found.version / 1000, found.version % 1000 / 10),
            gpus: found.devices.into_iter().map(Gpu::of).collect(),
        })
    }
}

impl Gpu {
    fn of(device: DeviceInfo) -> Self {
        Self {
            index: device.index,
            name: device.name,
            uuid: device.uuid,
            compute_capability: format!("{}.{}", device.compute_capability / 10, device.compute_capability % 10),
            is_new_enough: device.is_new_enough,
            multiprocessors: device.multiprocessors,
            memory_bytes: device.total_bytes,
            free_bytes: device.free_bytes,
            has_kernel_time_limit: device.has_kernel_time_limit,
            compute_mode: match device.compute_mode {
                ComputeMode::Shared => "shared",
                ComputeMode::Prohibited => "prohibited",
                ComputeMode::ExclusiveProcess => "exclusive process",
                ComputeMode::Unknown => "unknown",
            },
            has_cooperative_launch: device.has_cooperative_launch,
            has_host_atomics: device.has_host_native_atomics,
            pci: device.bus_id,
            link: device.link,
        }
    }
}

/// Version of the kernel driver, from the system.
fn driver_version() -> Option<String> {
    version_in(&std::fs::read_to_string("/proc/driver/nvidia/version").ok()?)
}

/// The first word of the driver's version text that looks like a version.
fn version_in(text: &str) -> Option<String> {
    let is_version = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.lines().next()?.split_whitespace().find(is_version).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn driver_versions_are_found() {
        let text =
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\nGCC version: 12.2.0";
        assert_eq!(version_in(text).as_deref(), Some("580.95.05"));
        assert_eq!(version_in("nothing"), None);
    }

    #[test]
    fn a_machine_without_a_driver_is_told_so() {
        match Driver::query() {
            Ok(driver) => assert!(driver.gpus.iter().all(|gpu| gpu.uuid.starts_with("GPU-") && gpu.memory_bytes > 0)),
            Err(why) => assert!(why.contains("driver"), "{why}"),
        }
    }
}
