//! The driver: found at run time, initialised once, every call checked in one place.

use std::ffi::CStr;
use std::sync::OnceLock;

use cudarc::driver::sys::{self, CUdevice, CUdevice_attribute, CUresult};

use crate::choice::DeviceSelector;
use crate::error::EngineError;

/// CUDA version of the oldest driver that takes PTX 8.4.
pub(crate) const DRIVER_VERSION_MIN: u32 = 12040;
/// The oldest chip that has 128-bit single-copy-atomic accesses.
pub(crate) const COMPUTE_CAPABILITY_MIN: u32 = 80;

/// The result of a driver call as an error of this crate.
pub(super) fn check(call: &'static str, result: CUresult) -> Result<(), EngineError> {
    if result == CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let mut name = std::ptr::null();
    // SAFETY: the driver writes a pointer to a constant string, or leaves null for a result it does not know.
    let named = unsafe { sys::cuGetErrorName(result, &mut name) };
    let name = if named == CUresult::CUDA_SUCCESS && !name.is_null() {
        // SAFETY: the driver's names are constant C strings.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    } else {
        "unknown result".to_owned()
    };
    Err(EngineError::Cuda { call, code: result as u32, name })
}

/// Calls a driver function and checks its result: `driver!(cuInit(0))`.
macro_rules! driver {
    ($function:ident($($argument:expr),* $(,)?)) => {
        $crate::backend::cuda::driver::check(
            stringify!($function),
            // SAFETY: every pointer given is valid for what the function's documentation says; what a call needs beyond that
            // is said where it stands.
            unsafe { cudarc::driver::sys::$function($($argument),*) },
        )
    };
}
pub(super) use driver;

/// Loads and initialises the driver, once in a process; returns its CUDA version.
///
/// # Errors
/// [`EngineError::NoDriver`], [`EngineError::DriverTooOld`], or what initialising it says.
pub(crate) fn load() -> Result<u32, EngineError> {
    let version = version()?;
    if version < DRIVER_VERSION_MIN {
        return Err(EngineError::DriverTooOld { found: version, needed: DRIVER_VERSION_MIN });
    }
    static INITIALISED: OnceLock<CUresult> = OnceLock::new();
    let result = *INITIALISED.get_or_init(|| {
        if std::env::var_os("CUDA_MODULE_LOADING").is_none() {
            // SAFETY: the driver reads its environment in the call below. A program that changes its environment from other
            // threads while it builds its first engine breaks the rule of `set_var`, which `Engine::build` passes on.
            unsafe { std::env::set_var("CUDA_MODULE_LOADING", "EAGER") };
        }
        // SAFETY: no pointers.
        unsafe { sys::cuInit(0) }
    });
    check("cuInit", result)?;
    Ok(version)
}

/// The CUDA version of the driver, without initialising it.
///
/// # Errors
/// [`EngineError::NoDriver`].
pub(crate) fn version() -> Result<u32, EngineError> {
    static PRESENT: OnceLock<bool> = OnceLock::new();
    // SAFETY: loading the driver's library runs its initialisers and nothing else.
    if !PRESENT.get_or_init(|| unsafe { sys::is_culib_present() }) {
        return Err(EngineError::NoDriver);
    }
    let mut version = 0;
    driver!(cuDriverGetVersion(&mut version))?;
    Ok(version.max(0) as u32)
}

/// One device of the driver.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) index: u32,
    pub(super) handle: CUdevice,
    pub(crate) name: String,
    /// `GPU-` and 32 hexadecimal digits in groups.
    pub(crate) uuid: String,
    /// 10 x major + minor.
    pub(crate) compute_capability: u32,
    pub(crate) multiprocessors: u32,
}

impl Device {
    fn open(index: u32) -> Result<Self, EngineError> {
        let mut handle = 0;
        driver!(cuDeviceGet(&mut handle, index as i32))?;
        let mut name = [0; 128];
        driver!(cuDeviceGetName(name.as_mut_ptr(), name.len() as i32, handle))?;
        let mut uuid = sys::CUuuid { bytes: [0; 16] };
        driver!(cuDeviceGetUuid_v2(&mut uuid, handle))?;
        let mut device = Self {
            index,
            handle,
            name: text(&name),
            uuid: uuid_text(&uuid),
            compute_capability: 0,
            multiprocessors: 0,
        };
        let major = device.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = device.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        device.compute_capability = (major * 10 + minor).max(0) as u32;
        device.multiprocessors =
            device.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?.max(0) as u32;
        Ok(device)
    }

    pub(super) fn attribute(&self, attribute: CUdevice_attribute) -> Result<i32, EngineError> {
        let mut value = 0;
        driver!(cuDeviceGetAttribute(&mut value, attribute, self.handle))?;
        Ok(value)
    }

    /// Bytes of memory in all.
    pub(super) fn total_bytes(&self) -> Result<u64, EngineError> {
        let mut bytes = 0;
        driver!(cuDeviceTotalMem_v2(&mut bytes, self.handle))?;
        Ok(bytes as u64)
    }

    /// The device's address on the PCI bus, as the operating system writes it.
    pub(super) fn bus_id(&self) -> Result<String, EngineError> {
        let mut id = [0; 32];
        driver!(cuDeviceGetPCIBusId(id.as_mut_ptr(), id.len() as i32, self.handle))?;
        Ok(text(&id).to_lowercase())
    }

    /// Name of the device in this process.
    pub(crate) fn id(&self) -> String {
        format!("cuda:{}", self.uuid)
    }
}

/// All devices that the driver shows.
pub(crate) fn devices() -> Result<Vec<Device>, EngineError> {
    let mut count = 0;
    driver!(cuDeviceGetCount(&mut count))?;
    (0..count.max(0) as u32).map(Device::open).collect()
}

/// The device of a selector.
///
/// # Errors
/// [`EngineError::NoSuchDevice`].
pub(crate) fn select(selector: &DeviceSelector) -> Result<Device, EngineError> {
    let devices = devices()?;
    let count = devices.len() as u32;
    let wanted = |device: &Device| match selector {
        DeviceSelector::Index(index) => device.index == *index,
        DeviceSelector::Uuid(uuid) => is_same_uuid(&device.uuid, uuid),
    };
    let missing = || EngineError::NoSuchDevice { selector: selector.to_string(), count };
    devices.into_iter().find(wanted).ok_or_else(missing)
}

/// Whether two UUIDs have the same digits.
fn is_same_uuid(a: &str, b: &str) -> bool {
    let digits = |uuid: &str| -> String {
        let uuid = uuid.trim();
        let uuid = uuid.strip_prefix("GPU-").or_else(|| uuid.strip_prefix("gpu-")).unwrap_or(uuid);
        uuid.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect()
    };
    digits(a) == digits(b)
}

fn uuid_text(uuid: &sys::CUuuid) -> String {
    let digits: String = uuid.bytes.iter().map(|byte| format!("{:02x}", *byte as u8)).collect();
    format!("GPU-{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..])
}

/// The text in a buffer that the driver filled.
fn text(buffer: &[std::ffi::c_char]) -> String {
    let bytes: Vec<u8> = buffer.iter().map(|c| *c as u8).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_compared_by_their_digits() {
        let uuid = uuid_text(&sys::CUuuid { bytes: [-1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15] });
        assert_eq!(uuid, "GPU-ff010203-0405-0607-0809-0a0b0c0d0e0f");
        assert!(is_same_uuid(&uuid, "FF010203-0405-0607-0809-0A0B0C0D0E0F"));
        assert!(is_same_uuid(&uuid, "GPU-ff0102030405060708090a0b0c0d0e0f"));
        assert!(!is_same_uuid(&uuid, "GPU-ff01"));
    }

    #[test]
    fn texts_end_at_their_nul() {
        assert_eq!(text(&[72, 50, 0, 9]), "H2");
    }
}
