//! The kernel's module: which PTX text, and loading it.

use std::ffi::{CString, c_void};

use cudarc::driver::sys::{CUfunction, CUjit_option, CUmodule};
use tourbillon_device::{PtxText, SystemImage};

use super::driver::{COMPUTE_CAPABILITY_MIN, Device, driver};
use crate::error::EngineError;

/// The kernel's name in the module.
const ENTRY: &std::ffi::CStr = c"tourbillon_ring_kernel";
/// Room for what the driver's compiler says.
const LOG_BYTES: usize = 16 * 1024;
const CURE: &str = "run `cargo xtask ptx` (the device toolchain comes with ci/setup-device-toolchain.sh), or choose the \
                    cpu backend";

/// The text for a chip: the newest that it can run.
///
/// # Errors
/// [`EngineError::DeviceTooOld`], [`EngineError::NoPtx`], [`EngineError::StalePtx`].
pub(super) fn choose(image: &SystemImage, device: &Device) -> Result<&'static PtxText, EngineError> {
    if device.compute_capability < COMPUTE_CAPABILITY_MIN {
        return Err(EngineError::DeviceTooOld {
            name: device.name.clone(),
            found: device.compute_capability,
            needed: COMPUTE_CAPABILITY_MIN,
        });
    }
    let fitting = image.ptx.iter().filter(|text| text.compute_capability <= device.compute_capability);
    let Some(text) = fitting.max_by_key(|text| text.compute_capability) else {
        return Err(EngineError::NoPtx { system: image.name, cure: CURE });
    };
    if !text.is_fresh {
        return Err(EngineError::StalePtx { cure: CURE });
    }
    Ok(text)
}

/// Loads the text into the current context; returns the module and its kernel.
///
/// # Errors
/// [`EngineError::BadPtx`] with the compiler's log.
pub(super) fn load(text: &PtxText) -> Result<(CUmodule, CUfunction), EngineError> {
    let source = CString::new(text.text).map_err(|_| EngineError::BadPtx { log: "the text contains a NUL".into() })?;
    let mut log = vec![0u8; LOG_BYTES];
    let mut options = [CUjit_option::CU_JIT_ERROR_LOG_BUFFER, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    let mut values = [log.as_mut_ptr().cast::<c_void>(), std::ptr::without_provenance_mut(LOG_BYTES)];
    let mut module = std::ptr::null_mut();
    // The buffers live through the call, and the text ends with a NUL.
    let loaded = driver!(cuModuleLoadDataEx(
        &mut module,
        source.as_ptr().cast(),
        options.len() as u32,
        options.as_mut_ptr(),
        values.as_mut_ptr()
    ));
    if let Err(error) = loaded {
        let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
        let log = String::from_utf8_lossy(&log[..end]).trim().to_owned();
        return Err(if log.is_empty() { error } else { EngineError::BadPtx { log: format!("{error}: {log}") } });
    }
    let mut kernel = std::ptr::null_mut();
    if let Err(error) = driver!(cuModuleGetFunction(&mut kernel, module, ENTRY.as_ptr())) {
        let _ = driver!(cuModuleUnload(module));
        return Err(error);
    }
    Ok((module, kernel))
}

#[cfg(test)]
mod tests {
    use super::*;

    static TEXTS: [PtxText; 2] = [
        PtxText { compute_capability: 80, is_fresh: true, files: &[], text: "a" },
        PtxText { compute_capability: 90, is_fresh: false, files: &[], text: "b" },
    ];

    fn device(compute_capability: u32) -> Device {
        Device { index: 0, handle: 0, name: "Test".into(), uuid: String::new(), compute_capability, multiprocessors: 1 }
    }

    #[test]
    fn the_newest_text_that_fits_is_chosen() {
        let image = crate::shipped_image().with_ptx(&TEXTS);
        assert_eq!(choose(&image, &device(89)).map(|text| text.compute_capability).ok(), Some(80));
        assert!(matches!(choose(&image, &device(90)), Err(EngineError::StalePtx { .. })));
        assert!(matches!(choose(&image, &device(75)), Err(EngineError::DeviceTooOld { found: 75, needed: 80, .. })));
        let error = choose(&image.with_ptx(&[]), &device(90)).unwrap_err();
        assert!(matches!(error, EngineError::NoPtx { .. }) && error.to_string().contains("cargo xtask ptx"), "{error}");
    }
}
