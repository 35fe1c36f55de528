//! Device memory of machines whose device is the host.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Copies, Purpose};
use crate::error::EngineError;
use crate::shared_memory::Mapping;

/// Memory of the process in the role of device memory. Threads that run the kernel share it.
#[derive(Debug, Default)]
pub(super) struct HostMemory {
    mapping: Option<Arc<Mapping>>,
    pub(super) copies: Copies,
}

impl HostMemory {
    pub(super) fn allocate(&mut self, bytes: u64) -> Result<u64, EngineError> {
        let io = |source| EngineError::Io { what: "allocating device memory", source };
        let mapping = Mapping::private(usize::try_from(bytes).unwrap_or(usize::MAX)).map_err(io)?;
        let address = mapping.as_ptr() as u64;
        self.mapping = Some(Arc::new(mapping));
        Ok(address)
    }

    /// What a thread holds for as long as it may access the memory.
    pub(super) fn mapping(&self) -> Option<Arc<Mapping>> {
        self.mapping.clone()
    }

    pub(super) fn read(&mut self, offset: u64, into: &mut [u64], purpose: Purpose) -> Result<(), EngineError> {
        self.copies.count(purpose);
        let words = self.words(offset, into.len())?;
        for (i, value) in into.iter_mut().enumerate() {
            // SAFETY: `words` checked that so many aligned words lie inside the mapping. The kernel accesses them
            // atomically or, in a pause, not at all.
            *value = unsafe { AtomicU64::from_ptr(words.add(i)) }.load(Ordering::Relaxed);
        }
        Ok(())
    }

    pub(super) fn write(&mut self, offset: u64, from: &[u64]) -> Result<(), EngineError> {
        self.copies.count(Purpose::Other);
        let words = self.words(offset, from.len())?;
        for (i, value) in from.iter().enumerate() {
            // SAFETY: as in `read`.
            unsafe { AtomicU64::from_ptr(words.add(i)) }.store(*value, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(super) fn release(&mut self) {
        self.mapping = None;
    }

    /// The words at `offset`, all inside the memory.
    fn words(&self, offset: u64, count: usize) -> Result<*mut u64, EngineError> {
        let damaged = EngineError::Damaged { what: "an offset outside device memory" };
        let Some(mapping) = &self.mapping else { return Err(damaged) };
        let end = (count as u64).checked_mul(8).and_then(|bytes| bytes.checked_add(offset));
        if !offset.is_multiple_of(8) || end.is_none_or(|end| end > mapping.bytes() as u64) {
            return Err(damaged);
        }
        Ok(mapping.as_ptr().wrapping_add(offset as usize).cast())
    }
}

/// Memory that the operating system could give, bytes; unknown is unlimited.
pub(super) fn available_bytes() -> u64 {
    let Ok(text) = std::fs::read_to_string("/proc/meminfo") else { return u64::MAX };
    text.lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .map_or(u64::MAX, |kib| kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_stay_inside() {
        let mut memory = HostMemory::default();
        assert!(memory.read(0, &mut [0], Purpose::Other).is_err());
        assert_eq!(memory.allocate(64).unwrap() % 256, 0);
        memory.write(56, &[7]).unwrap();
        let mut words = [1; 2];
        memory.read(48, &mut words, Purpose::State).unwrap();
        assert_eq!(words, [0, 7]);
        for (offset, count) in [(64, 1), (56, 2), (4, 1), (u64::MAX - 7, 1)] {
            assert!(memory.read(offset, &mut vec![0; count], Purpose::Other).is_err());
        }
        assert_eq!(memory.copies.state, 1);
    }
}
