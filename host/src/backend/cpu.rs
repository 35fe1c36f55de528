//! CPU threads: one warp a thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use tourbillon_device::SystemImage;
use tourbillon_device::arch::native::{Doorbell, Grid};
use tourbillon_shared::geometry::{Geometry, KernelArguments};

use super::host_memory::{HostMemory, available_bytes};
use super::{Copies, Machine, Purpose};
use crate::choice::BackendKind;
use crate::error::EngineError;
use crate::shared_memory::Mapping;

/// Threads of this process.
#[derive(Debug)]
pub(crate) struct Cpu {
    image: SystemImage,
    name: String,
    memory: HostMemory,
    doorbell: Arc<Doorbell>,
    launch: Option<Launch>,
}

#[derive(Debug)]
struct Launch {
    threads: Vec<JoinHandle<()>>,
    /// Threads that have not left the kernel.
    running: Arc<AtomicU32>,
    failure: Arc<Mutex<Option<String>>>,
}

/// One for all: what marks it unusable is a thread that cannot be ended.
pub(crate) const DEVICE_ID: &str = "cpu";

impl Cpu {
    pub(crate) fn new(image: SystemImage) -> Result<Self, EngineError> {
        let name = processor_name();
        super::check_usable(DEVICE_ID, &name)?;
        Ok(Self { image, name, memory: HostMemory::default(), doorbell: Arc::default(), launch: None })
    }
}

impl Machine for Cpu {
    fn kind(&self) -> BackendKind {
        BackendKind::Cpu
    }
    fn device_name(&self) -> &str {
        &self.name
    }
    fn device_id(&self) -> String {
        DEVICE_ID.into()
    }
    fn doorbell(&self) -> Option<Arc<Doorbell>> {
        Some(Arc::clone(&self.doorbell))
    }
    fn free_bytes(&mut self) -> Result<u64, EngineError> {
        Ok(available_bytes())
    }
    fn map_host(&mut self, mapping: &Mapping) -> Result<u64, EngineError> {
        Ok(mapping.as_ptr() as u64)
    }
    fn allocate(&mut self, bytes: u64) -> Result<u64, EngineError> {
        self.memory.allocate(bytes)
    }

    fn start(&mut self, geometry: &Geometry, arguments: u64) -> Result<(), EngineError> {
        let warps = geometry.warps_per_block;
        let grid = Arc::new(Grid::new(warps, Arc::clone(&self.doorbell)));
        let running = Arc::new(AtomicU32::new(warps));
        let failure = Arc::new(Mutex::new(None));
        // Nobody begins before all threads exist: a kernel that lacks a warp waits for it for ever.
        let go = Arc::new(OnceLock::<bool>::new());
        let mut threads = Vec::with_capacity(warps as usize);
        for warp in 0..warps {
            let (image, grid, memory) = (self.image.clone(), Arc::clone(&grid), self.memory.mapping());
            let (running, failure, started) = (Arc::clone(&running), Arc::clone(&failure), Arc::clone(&go));
            let body = move || {
                if *started.wait() {
                    // SAFETY: the arguments lie in `memory`, which this thread holds; what they point to is kept by the
                    // engine until every thread has left or, when one does not, for ever. Each warp runs once.
                    let run = || unsafe { image.run_native(arguments as *const KernelArguments, &grid, warp) };
                    if catch_unwind(AssertUnwindSafe(run)).is_err() {
                        let text = format!("warp {warp} panicked outside a handler");
                        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
                    }
                }
                drop(memory);
                // Release pairs with the Acquire in `has_exited`: what the warp wrote is seen by whoever sees it gone.
                running.fetch_sub(1, Ordering::Release);
            };
            match std::thread::Builder::new().name(format!("tourbillon-warp-{warp}")).spawn(body) {
                Ok(thread) => threads.push(thread),
                Err(source) => {
                    let _ = go.set(false);
                    return Err(EngineError::Io { what: "starting a thread", source });
                }
            }
        }
        let _ = go.set(true);
        self.launch = Some(Launch { threads, running, failure });
        Ok(())
    }

    fn has_exited(&mut self) -> Result<bool, EngineError> {
        let Some(launch) = &mut self.launch else { return Ok(true) };
        let failure = launch.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(text) = failure {
            return Err(EngineError::KernelFailed(text));
        }
        // Acquire pairs with the Release of each thread's end.
        if launch.running.load(Ordering::Acquire) != 0 {
            return Ok(false);
        }
        for thread in launch.threads.drain(..) {
            // A panic was noted above.
            let _ = thread.join();
        }
        self.launch = None;
        Ok(true)
    }

    fn read(&mut self, offset: u64, into: &mut [u64], purpose: Purpose) -> Result<(), EngineError> {
        self.memory.read(offset, into, purpose)
    }
    fn write(&mut self, offset: u64, from: &[u64]) -> Result<(), EngineError> {
        self.memory.write(offset, from)
    }
    fn copies(&self) -> Copies {
        self.memory.copies
    }
    fn release(&mut self) {
        self.memory.release();
    }
    fn leak(&mut self) {
        // The threads hold what they need; only their handles are let go.
        self.launch = None;
        self.memory.release();
    }
}

/// What the operating system calls the processor.
fn processor_name() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        text.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim().to_owned()))
    });
    format!("{} ({cores} cores)", model.as_deref().unwrap_or(std::env::consts::ARCH))
}
