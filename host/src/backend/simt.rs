//! Simulated warps of several lanes, on one thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tourbillon_device::SystemImage;
use tourbillon_device::arch::native::Doorbell;
use tourbillon_device::arch::simt::Options;
use tourbillon_shared::geometry::{Geometry, KernelArguments};

use super::host_memory::{HostMemory, available_bytes};
use super::{Copies, Machine, Purpose};
use crate::choice::BackendKind;
use crate::error::EngineError;
use crate::shared_memory::Mapping;

/// A simulated GPU.
#[derive(Debug)]
pub(crate) struct Simt {
    image: SystemImage,
    lanes: u32,
    options: Options,
    name: String,
    memory: HostMemory,
    launch: Option<Launch>,
}

#[derive(Debug)]
struct Launch {
    thread: JoinHandle<()>,
    has_ended: Arc<AtomicBool>,
    failure: Arc<Mutex<Option<String>>>,
}

const DEVICE_ID: &str = "simt";

impl Simt {
    pub(crate) fn new(image: SystemImage, lanes: u32, seed: u64, hostile_bus: bool) -> Result<Self, EngineError> {
        let name = format!("simulated warps of {lanes} lanes, seed {seed}");
        super::check_usable(DEVICE_ID, &name)?;
        let options = Options { seed, hostile_bus };
        Ok(Self { image, lanes, options, name, memory: HostMemory::default(), launch: None })
    }
}

impl Machine for Simt {
    fn kind(&self) -> BackendKind {
        BackendKind::Simt
    }
    fn device_name(&self) -> &str {
        &self.name
    }
    fn device_id(&self) -> String {
        DEVICE_ID.into()
    }
    fn doorbell(&self) -> Option<Arc<Doorbell>> {
        None
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

    fn start(&mut self, _geometry: &Geometry, arguments: u64) -> Result<(), EngineError> {
        let (image, lanes, options, memory) = (self.image.clone(), self.lanes, self.options, self.memory.mapping());
        let has_ended = Arc::new(AtomicBool::new(false));
        let failure = Arc::new(Mutex::new(None));
        let (ended, failed) = (Arc::clone(&has_ended), Arc::clone(&failure));
        let body = move || {
            // SAFETY: the arguments lie in `memory`, which this thread holds; what they point to is kept by the engine
            // until this thread has left or, when it does not, for ever.
            let run = || unsafe { image.run_simt(lanes, arguments as *const KernelArguments, &options) };
            let text = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
                Ok(Ok(())) => None,
                Ok(Err(failure)) => Some(failure.message),
                Err(_) => Some("the simulation panicked".to_owned()),
            };
            *failed.lock().unwrap_or_else(PoisonError::into_inner) = text;
            drop(memory);
            // Release pairs with the Acquire in `has_exited`.
            ended.store(true, Ordering::Release);
        };
        let thread = std::thread::Builder::new()
            .name("tourbillon-simt".into())
            .spawn(body)
            .map_err(|source| EngineError::Io { what: "starting a thread", source })?;
        self.launch = Some(Launch { thread, has_ended, failure });
        Ok(())
    }

    fn has_exited(&mut self) -> Result<bool, EngineError> {
        // Acquire pairs with the Release at the thread's end.
        let Some(launch) = self.launch.take_if(|launch| launch.has_ended.load(Ordering::Acquire)) else {
            return Ok(self.launch.is_none());
        };
        // A panic was noted in `failure`.
        let _ = launch.thread.join();
        let failure = launch.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.map_or(Ok(true), |text| Err(EngineError::KernelFailed(text)))
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
        self.launch = None;
        self.memory.release();
    }
}
