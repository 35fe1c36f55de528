//! An NVIDIA GPU: the only module that calls the driver.
//!
//! # Launch discipline
//! Some driver calls wait for every kernel of the context: loading and unloading modules, freeing memory, unregistering host
//! memory. None of them is made while the ring kernel runs: everything is loaded, allocated and registered before the first
//! launch and freed after the last exit. What runs beside the kernel goes through a second stream, which, like the
//! kernel's, does not synchronise with any other. Reads go through a pinned buffer, because a copy to pageable memory may
//! wait.

mod driver;
mod module;
pub(crate) mod probe;

use std::ffi::c_void;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cudarc::driver::sys::{
    self, CU_MEMHOSTALLOC_PORTABLE, CU_MEMHOSTREGISTER_DEVICEMAP, CU_MEMHOSTREGISTER_PORTABLE, CUcontext,
    CUdevice_attribute, CUdeviceptr, CUfunction, CUmodule, CUresult, CUstream, CUstream_flags,
};
use tourbillon_device::SystemImage;
use tourbillon_device::arch::native::Doorbell;
use tourbillon_shared::geometry::Geometry;

use self::driver::{Device, driver};
use super::{Copies, DeviceClaim, Machine, Purpose, mark_unusable};
use crate::choice::{BackendKind, DeviceSelector};
use crate::error::EngineError;
use crate::shared_memory::Mapping;

/// Bytes of the pinned buffer for reads and writes: the counters of the largest chip in one piece.
const BOUNCE_BYTES: usize = 1 << 20;
/// How long a copy of one buffer may take: thousands of times what it needs, far below what a user waits for.
const COPY_TIME_MAX: Duration = Duration::from_secs(5);
/// Threads of a warp.
const WARP_THREADS: u32 = 32;

/// One GPU with the kernel's module.
#[derive(Debug)]
pub(crate) struct Cuda {
    device: Device,
    context: CUcontext,
    module: CUmodule,
    kernel: CUfunction,
    /// The ring kernel's stream, and that of copies.
    streams: [CUstream; 2],
    bounce: *mut u8,
    memory: CUdeviceptr,
    memory_bytes: u64,
    registered: Vec<*mut c_void>,
    is_running: bool,
    is_leaked: bool,
    copies: Copies,
    launches: u64,
    /// Given back last, when everything else is freed: what outlives its engine, a client or a gateway, holds no device.
    claim: Option<DeviceClaim>,
}

// SAFETY: the driver's handles may be used from any thread that makes the context current, which every method does; this
// value is used by one thread at a time.
unsafe impl Send for Cuda {}

const KERNEL: usize = 0;
const COPIES: usize = 1;

impl Cuda {
    /// Opens a device and loads the image's kernel.
    ///
    /// # Errors
    /// Every cause for which a GPU cannot be used, each with its own variant.
    pub(crate) fn new(image: &SystemImage, selector: &DeviceSelector) -> Result<Self, EngineError> {
        driver::load()?;
        let device = driver::select(selector)?;
        let claim = DeviceClaim::new(device.id(), &device.name)?;
        let text = module::choose(image, &device)?;
        let mut context = std::ptr::null_mut();
        driver!(cuDevicePrimaryCtxRetain(&mut context, device.handle))?;
        // From here on dropping the value gives back what was taken.
        let mut cuda = Self {
            device,
            context,
            module: std::ptr::null_mut(),
            kernel: std::ptr::null_mut(),
            streams: [std::ptr::null_mut(); 2],
            bounce: std::ptr::null_mut(),
            memory: 0,
            memory_bytes: 0,
            registered: Vec::new(),
            is_running: false,
            is_leaked: false,
            copies: Copies::default(),
            launches: 0,
            claim: Some(claim),
        };
        cuda.enter()?;
        (cuda.module, cuda.kernel) = module::load(text)?;
        for stream in &mut cuda.streams {
            driver!(cuStreamCreate(stream, CUstream_flags::CU_STREAM_NON_BLOCKING as u32))?;
        }
        let mut bounce = std::ptr::null_mut();
        driver!(cuMemHostAlloc(&mut bounce, BOUNCE_BYTES, CU_MEMHOSTALLOC_PORTABLE))?;
        cuda.bounce = bounce.cast();
        Ok(cuda)
    }

    pub(crate) fn multiprocessors(&self) -> u32 {
        self.device.multiprocessors
    }

    /// Makes the context that of the calling thread.
    fn enter(&self) -> Result<(), EngineError> {
        driver!(cuCtxSetCurrent(self.context))
    }

    /// Blocks of the kernel that can be resident at once.
    fn resident_blocks(&self, threads: u32) -> Result<u32, EngineError> {
        if self.device.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH)? == 0 {
            return Ok(0);
        }
        let mut each = 0;
        driver!(cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut each, self.kernel, threads as i32, 0))?;
        Ok(each.max(0) as u32 * self.device.multiprocessors)
    }

    /// Launches the kernel and counts it. The one place where anything is launched.
    fn launch(&mut self, geometry: &Geometry, arguments: u64) -> Result<(), EngineError> {
        let threads = WARP_THREADS * geometry.warps_per_block;
        let resident = self.resident_blocks(threads)?;
        if geometry.blocks > resident {
            return Err(EngineError::NotResident { blocks: geometry.blocks, resident });
        }
        let mut argument = arguments;
        let mut parameters = [(&raw mut argument).cast::<c_void>()];
        // The driver copies the parameter during the call.
        driver!(cuLaunchCooperativeKernel(
            self.kernel,
            geometry.blocks,
            1,
            1,
            threads,
            1,
            1,
            0,
            self.streams[KERNEL],
            parameters.as_mut_ptr()
        ))?;
        self.launches += 1;
        Ok(())
    }

    /// Copies between the bounce buffer and device memory at `offset`, waits for it and counts it. The one place where anything
    /// is copied.
    fn copy(&mut self, direction: Direction, offset: u64, bytes: usize, purpose: Purpose) -> Result<(), EngineError> {
        debug_assert!(bytes <= BOUNCE_BYTES);
        if offset.checked_add(bytes as u64).is_none_or(|end| end > self.memory_bytes) {
            return Err(EngineError::Damaged { what: "an offset outside device memory" });
        }
        let (device, stream) = (self.memory + offset, self.streams[COPIES]);
        // The bounce buffer is pinned and lives until `release`; only this thread uses it until the stream is idle.
        match direction {
            Direction::ToHost => driver!(cuMemcpyDtoHAsync_v2(self.bounce.cast(), device, bytes, stream))?,
            Direction::ToDevice => driver!(cuMemcpyHtoDAsync_v2(device, self.bounce.cast(), bytes, stream))?,
        }
        self.copies.count(purpose);
        self.wait_for_copies()
    }

    /// Waits until the stream of copies is idle, by looking: a call that waits might wait for the kernel too.
    fn wait_for_copies(&self) -> Result<(), EngineError> {
        let began = Instant::now();
        loop {
            // SAFETY: the stream lives until `release`.
            match unsafe { sys::cuStreamQuery(self.streams[COPIES]) } {
                CUresult::CUDA_SUCCESS => return Ok(()),
                CUresult::CUDA_ERROR_NOT_READY if began.elapsed() < COPY_TIME_MAX => std::thread::yield_now(),
                result => return driver::check("cuStreamQuery", result),
            }
        }
    }

    /// Gives everything back, in reverse order. What fails is logged: there is nothing else to do about it.
    fn free(&mut self) {
        if self.is_leaked || self.context.is_null() {
            return;
        }
        debug_assert!(!self.is_running);
        let log = |result: Result<(), EngineError>| {
            if let Err(error) = result {
                tracing::warn!(%error, "a device resource could not be given back");
            }
        };
        log(self.enter());
        for start in self.registered.drain(..) {
            log(driver!(cuMemHostUnregister(start)));
        }
        if self.memory != 0 {
            log(driver!(cuMemFree_v2(self.memory)));
        }
        if !self.bounce.is_null() {
            log(driver!(cuMemFreeHost(self.bounce.cast())));
        }
        for stream in self.streams.into_iter().filter(|stream| !stream.is_null()) {
            log(driver!(cuStreamDestroy_v2(stream)));
        }
        if !self.module.is_null() {
            log(driver!(cuModuleUnload(self.module)));
        }
        log(driver!(cuDevicePrimaryCtxRelease_v2(self.device.handle)));
        self.context = std::ptr::null_mut();
        self.claim = None;
    }
}

#[derive(Clone, Copy, Debug)]
enum Direction {
    ToHost,
    ToDevice,
}

impl Machine for Cuda {
    fn kind(&self) -> BackendKind {
        BackendKind::Cuda
    }
    fn device_name(&self) -> &str {
        &self.device.name
    }
    fn device_id(&self) -> String {
        self.device.id()
    }
    fn doorbell(&self) -> Option<Arc<Doorbell>> {
        None
    }

    fn free_bytes(&mut self) -> Result<u64, EngineError> {
        self.enter()?;
        let (mut free, mut total) = (0, 0);
        driver!(cuMemGetInfo_v2(&mut free, &mut total))?;
        Ok(free as u64)
    }

    fn map_host(&mut self, mapping: &Mapping) -> Result<u64, EngineError> {
        self.enter()?;
        let start = mapping.as_ptr().cast::<c_void>();
        let flags = CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP;
        // The mapping outlives the registration: it is dropped after `release`, or never when the kernel does not exit.
        driver!(cuMemHostRegister_v2(start, mapping.mapped_bytes(), flags))?;
        self.registered.push(start);
        let mut address = 0;
        driver!(cuMemHostGetDevicePointer_v2(&mut address, start, 0))?;
        Ok(address)
    }

    fn allocate(&mut self, bytes: u64) -> Result<u64, EngineError> {
        self.enter()?;
        driver!(cuMemAlloc_v2(&mut self.memory, bytes as usize))?;
        self.memory_bytes = bytes;
        driver!(cuMemsetD8Async(self.memory, 0, bytes as usize, self.streams[COPIES]))?;
        self.wait_for_copies()?;
        Ok(self.memory)
    }

    fn start(&mut self, geometry: &Geometry, arguments: u64) -> Result<(), EngineError> {
        self.enter()?;
        self.launch(geometry, arguments)?;
        self.is_running = true;
        tracing::debug!(device = %self.device.name, launches = self.launches, "ring kernel launched");
        Ok(())
    }

    fn has_exited(&mut self) -> Result<bool, EngineError> {
        if !self.is_running {
            return Ok(true);
        }
        self.enter()?;
        // SAFETY: the stream lives until `release`.
        match unsafe { sys::cuStreamQuery(self.streams[KERNEL]) } {
            CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            CUresult::CUDA_SUCCESS => {
                self.is_running = false;
                Ok(true)
            }
            result => {
                // A fault on the device ends the kernel and poisons the context for this process.
                self.is_running = false;
                mark_unusable(self.device_id());
                driver::check("cuStreamQuery", result).map(|()| true)
            }
        }
    }

    fn read(&mut self, offset: u64, into: &mut [u64], purpose: Purpose) -> Result<(), EngineError> {
        self.enter()?;
        for (i, words) in into.chunks_mut(BOUNCE_BYTES / 8).enumerate() {
            self.copy(Direction::ToHost, offset + (i * BOUNCE_BYTES) as u64, words.len() * 8, purpose)?;
            // SAFETY: the buffer holds what was just copied, is aligned to a page, and nobody else uses it now.
            words.copy_from_slice(unsafe { std::slice::from_raw_parts(self.bounce.cast::<u64>(), words.len()) });
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, from: &[u64]) -> Result<(), EngineError> {
        self.enter()?;
        for (i, words) in from.chunks(BOUNCE_BYTES / 8).enumerate() {
            // SAFETY: the buffer has room for a piece, is aligned to a page, and nobody else uses it now.
            unsafe { std::slice::from_raw_parts_mut(self.bounce.cast::<u64>(), words.len()) }.copy_from_slice(words);
            let at = offset + (i * BOUNCE_BYTES) as u64;
            self.copy(Direction::ToDevice, at, words.len() * 8, Purpose::Other)?;
        }
        Ok(())
    }

    fn copies(&self) -> Copies {
        self.copies
    }
    fn release(&mut self) {
        self.free();
    }
    fn leak(&mut self) {
        self.is_leaked = true;
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        if self.is_running {
            // Freeing would wait for the kernel, for ever perhaps.
            self.leak();
        }
        self.free();
    }
}
