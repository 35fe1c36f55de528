//! The machines that run the kernel, behind one trait.

pub(crate) mod cpu;
pub(crate) mod cuda;
mod host_memory;
#[cfg(feature = "simt")]
pub(crate) mod simt;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use tourbillon_device::arch::native::Doorbell;
use tourbillon_shared::geometry::Geometry;

use crate::choice::BackendKind;
use crate::error::EngineError;
use crate::shared_memory::Mapping;

/// Copies between host and device memory since the engine was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// Of actors' state.
    pub state: u64,
    /// Of anything else: tables, arguments, counters.
    pub other: u64,
}

impl Copies {
    fn count(&mut self, purpose: Purpose) {
        match purpose {
            Purpose::State => self.state += 1,
            Purpose::Other => self.other += 1,
        }
    }
}

/// What a copy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Actors' state.
    State,
    /// Anything else.
    Other,
}

/// A machine with memory of its own on which one kernel at a time runs.
///
/// Used by one thread at a time. Nothing here waits for a kernel that runs.
pub(crate) trait Machine: Debug + Send {
    fn kind(&self) -> BackendKind;
    /// Name of the device for people.
    fn device_name(&self) -> &str;
    /// Name of the device in this process.
    fn device_id(&self) -> String;
    /// What wakes the machine when there is work; nothing for one that never sleeps.
    fn doorbell(&self) -> Option<Arc<Doorbell>>;
    /// Device memory that is free, bytes.
    fn free_bytes(&mut self) -> Result<u64, EngineError>;
    /// Makes host memory accessible; returns the device's address of its first byte. Before the first start.
    fn map_host(&mut self, mapping: &Mapping) -> Result<u64, EngineError>;
    /// Allocates zeroed device memory, once; returns its address, a multiple of 256.
    fn allocate(&mut self, bytes: u64) -> Result<u64, EngineError>;
    /// Starts the kernel with arguments at a device address. Not while it runs.
    fn start(&mut self, geometry: &Geometry, arguments: u64) -> Result<(), EngineError>;
    /// Whether no kernel runs. An error, once, when it failed; warps of it may still run on CPU threads.
    fn has_exited(&mut self) -> Result<bool, EngineError>;
    /// Reads device memory at `offset`, a multiple of 8, also while the kernel runs.
    fn read(&mut self, offset: u64, into: &mut [u64], purpose: Purpose) -> Result<(), EngineError>;
    /// Writes device memory at `offset`, a multiple of 8. While the kernel runs only a word that it expects to change.
    fn write(&mut self, offset: u64, from: &[u64]) -> Result<(), EngineError>;
    /// Copies so far.
    fn copies(&self) -> Copies;
    /// Frees everything. Not while the kernel runs.
    fn release(&mut self);
    /// Lets go of everything and frees nothing, because a kernel still runs.
    fn leak(&mut self);
}

static UNUSABLE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Notes that a kernel still runs on the device, or that its context is poisoned: only a new process can use it.
pub(crate) fn mark_unusable(device_id: String) {
    UNUSABLE.lock().unwrap_or_else(PoisonError::into_inner).insert(device_id);
}

/// Refuses a device that was marked.
pub(crate) fn check_usable(device_id: &str, name: &str) -> Result<(), EngineError> {
    if UNUSABLE.lock().unwrap_or_else(PoisonError::into_inner).contains(device_id) {
        return Err(EngineError::DeviceUnusable { device: name.to_owned() });
    }
    Ok(())
}

static IN_USE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The right to use a device, given back when it is dropped.
///
/// One engine a device and process: loading a module or freeing memory for a second one would wait for the first one's kernel, which
/// never ends by itself.
#[derive(Debug)]
pub(crate) struct DeviceClaim {
    device_id: String,
}

impl DeviceClaim {
    /// Claims a device.
    ///
    /// # Errors
    /// [`EngineError::DeviceUnusable`], [`EngineError::DeviceBusy`].
    pub(crate) fn new(device_id: String, name: &str) -> Result<Self, EngineError> {
        check_usable(&device_id, name)?;
        if !IN_USE.lock().unwrap_or_else(PoisonError::into_inner).insert(device_id.clone()) {
            return Err(EngineError::DeviceBusy { device: name.to_owned() });
        }
        Ok(Self { device_id })
    }
}

impl Drop for DeviceClaim {
    fn drop(&mut self) {
        IN_USE.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.device_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_claimed_once() {
        let first = DeviceClaim::new("test:2".into(), "Test").unwrap();
        assert!(matches!(DeviceClaim::new("test:2".into(), "Test"), Err(EngineError::DeviceBusy { .. })));
        drop(first);
        assert!(DeviceClaim::new("test:2".into(), "Test").is_ok());
    }

    #[test]
    fn marked_devices_are_refused() {
        assert!(check_usable("test:0", "Test").is_ok());
        mark_unusable("test:0".into());
        assert!(matches!(check_usable("test:0", "Test"), Err(EngineError::DeviceUnusable { .. })));
        assert!(check_usable("test:1", "Test").is_ok());
    }
}
