//! What `tourbillon doctor` asks about GPUs. Starts nothing but the driver, and a context to ask for free memory.

use cudarc::driver::sys::{CUdevice_attribute as Attribute, CUdeviceptr};

use super::driver::{self, COMPUTE_CAPABILITY_MIN, DRIVER_VERSION_MIN, Device, driver};
use crate::error::EngineError;

/// One GPU as the driver sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// The driver's index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// `GPU-` and the UUID.
    pub uuid: String,
    /// 10 x major + minor.
    pub compute_capability: u32,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Memory in all, bytes.
    pub total_bytes: u64,
    /// Memory that is free, bytes; nothing when no context could be made to ask.
    pub free_bytes: Option<u64>,
    /// The device's address on the PCI bus.
    pub bus_id: String,
    /// Generation and width of the PCI link as the operating system reports them, such as "32.0 GT/s PCIe x16".
    pub link: Option<String>,
    /// Whether a display's time limit ends long kernels; a ring kernel needs a device without.
    pub has_kernel_time_limit: bool,
    /// Whether the device takes contexts of several processes.
    pub compute_mode: ComputeMode,
    /// Whether the device supports sharing through the driver's multi-process service.
    pub supports_mps: bool,
    /// Whether all blocks of a launch can be made resident at once.
    pub has_cooperative_launch: bool,
    /// Whether read-modify-write may cross the link. The engine needs it nowhere.
    pub has_host_native_atomics: bool,
    /// Whether an engine can run on it, as far as its age is concerned.
    pub is_new_enough: bool,
}

/// Who may use a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComputeMode {
    /// Any process.
    Shared,
    /// Nobody.
    Prohibited,
    /// One process at a time.
    ExclusiveProcess,
    /// A mode that this release does not know.
    Unknown,
}

/// The driver and its GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DriverInfo {
    /// CUDA version: 1000 x major + 10 x minor.
    pub version: u32,
    /// The version that the engine needs.
    pub version_needed: u32,
    /// The GPUs, by index.
    pub devices: Vec<DeviceInfo>,
}

/// Asks the driver what there is.
///
/// # Errors
/// [`EngineError::NoDriver`], [`EngineError::DriverTooOld`], or what the driver says.
pub fn probe_devices() -> Result<DriverInfo, EngineError> {
    let version = driver::load()?;
    let devices = driver::devices()?.iter().map(describe).collect::<Result<_, _>>()?;
    Ok(DriverInfo { version, version_needed: DRIVER_VERSION_MIN, devices })
}

fn describe(device: &Device) -> Result<DeviceInfo, EngineError> {
    let flag = |attribute| device.attribute(attribute).map(|value| value != 0);
    let bus_id = device.bus_id()?;
    Ok(DeviceInfo {
        index: device.index,
        name: device.name.clone(),
        uuid: device.uuid.clone(),
        compute_capability: device.compute_capability,
        multiprocessors: device.multiprocessors,
        total_bytes: device.total_bytes()?,
        free_bytes: free_bytes(device).ok(),
        link: link(&bus_id),
        bus_id,
        has_kernel_time_limit: flag(Attribute::CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT)?,
        compute_mode: match device.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_MODE)? {
            0 => ComputeMode::Shared,
            2 => ComputeMode::Prohibited,
            3 => ComputeMode::ExclusiveProcess,
            _ => ComputeMode::Unknown,
        },
        supports_mps: flag(Attribute::CU_DEVICE_ATTRIBUTE_MPS_ENABLED).unwrap_or(false),
        has_cooperative_launch: flag(Attribute::CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH)?,
        has_host_native_atomics: flag(Attribute::CU_DEVICE_ATTRIBUTE_HOST_NATIVE_ATOMIC_SUPPORTED)?,
        is_new_enough: device.compute_capability >= COMPUTE_CAPABILITY_MIN,
    })
}

/// Free memory of a device. Makes a context when this process has none on it; where an engine runs there is one already, so
/// nothing here waits for its kernel.
fn free_bytes(device: &Device) -> Result<u64, EngineError> {
    super::super::check_usable(&device.id(), &device.name)?;
    let mut context = std::ptr::null_mut();
    driver!(cuDevicePrimaryCtxRetain(&mut context, device.handle))?;
    let asked = driver!(cuCtxPushCurrent_v2(context)).and_then(|()| {
        let (mut free, mut total) = (0, 0);
        let asked = driver!(cuMemGetInfo_v2(&mut free, &mut total));
        let mut popped = std::ptr::null_mut();
        driver!(cuCtxPopCurrent_v2(&mut popped))?;
        asked.map(|()| free as u64)
    });
    driver!(cuDevicePrimaryCtxRelease_v2(device.handle))?;
    asked
}

/// Speed and width of the link in use.
fn link(bus_id: &str) -> Option<String> {
    let attribute = |name: &str| {
        let text = std::fs::read_to_string(format!("/sys/bus/pci/devices/{bus_id}/{name}")).ok()?;
        Some(text.trim().to_owned())
    };
    Some(format!("{} x{}", attribute("current_link_speed")?, attribute("current_link_width")?))
}

/// Addresses of the driver are 64 bits wide, like those in kernel arguments.
const _: () = assert!(size_of::<CUdeviceptr>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_driver_the_probe_says_so() {
        match probe_devices() {
            Err(EngineError::NoDriver) => {}
            Ok(found) => assert!(found.version >= DRIVER_VERSION_MIN),
            Err(EngineError::DriverTooOld { found, needed }) => assert!(found < needed),
            // A driver without a device, or in a container that hides it.
            Err(EngineError::Cuda { call, .. }) => assert!(call.starts_with("cu")),
            Err(other) => panic!("{other}"),
        }
    }
}
