//! Mappings: memory that a device, another thread or another process may use at the same time.
//!
//! On Linux shared memory is a memfd sealed against resizing, so that no holder can shrink it under another one; elsewhere
//! an anonymous shared mapping. A driver can register either for a GPU, which it refuses for a file on disk.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// Granularity to which mappings are rounded up: the largest page size in common use (aarch64), a multiple of all others.
pub const PAGE_BYTES_MAX: usize = 64 * 1024;

/// Memory that stays at its address until it is dropped. Zero at first.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    /// What the caller asked for.
    bytes: usize,
    /// What is mapped; at least `bytes`.
    mapped_bytes: usize,
    /// What is behind it, when it can be handed to another process.
    file: Option<OwnedFd>,
}

// SAFETY: a mapping is an address range; who may access what in it is the protocol of its users.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Shared memory of `bytes` bytes; `name` shows up in listings of the process's mappings.
    ///
    /// # Errors
    /// What the operating system says: no memory, too many descriptors.
    #[cfg(target_os = "linux")]
    pub fn shared(name: &str, bytes: usize) -> io::Result<Self> {
        use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
        let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mapped_bytes = rounded(bytes)?;
        ftruncate(&file, mapped_bytes as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Self::of_file(file, bytes, mapped_bytes, true)
    }

    /// Shared memory of `bytes` bytes.
    ///
    /// # Errors
    /// What the operating system says: no memory.
    #[cfg(not(target_os = "linux"))]
    pub fn shared(_name: &str, bytes: usize) -> io::Result<Self> {
        Self::anonymous(bytes, MapFlags::SHARED)
    }

    /// Memory of this process alone; the operating system provides pages when they are first touched.
    ///
    /// # Errors
    /// What the operating system says: no memory.
    pub fn private(bytes: usize) -> io::Result<Self> {
        Self::anonymous(bytes, MapFlags::PRIVATE)
    }

    /// Maps `bytes` bytes of `file`, which must not become shorter while the mapping lives.
    ///
    /// # Errors
    /// What the operating system says: no memory, no right to the file.
    pub(crate) fn of_file(file: OwnedFd, bytes: usize, mapped_bytes: usize, writable: bool) -> io::Result<Self> {
        let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a new mapping at an address of the system's choice overlaps nothing.
        let start = unsafe { mmap(std::ptr::null_mut(), mapped_bytes, protection, MapFlags::SHARED, &file, 0)? };
        Self::at(start, bytes, mapped_bytes, Some(file))
    }

    fn anonymous(bytes: usize, flags: MapFlags) -> io::Result<Self> {
        let mapped_bytes = rounded(bytes)?;
        // SAFETY: a new mapping at an address of the system's choice overlaps nothing.
        let start =
            unsafe { mmap_anonymous(std::ptr::null_mut(), mapped_bytes, ProtFlags::READ | ProtFlags::WRITE, flags)? };
        Self::at(start, bytes, mapped_bytes, None)
    }

    fn at(start: *mut std::ffi::c_void, bytes: usize, mapped_bytes: usize, file: Option<OwnedFd>) -> io::Result<Self> {
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        Ok(Self { start, bytes, mapped_bytes, file })
    }

    /// First byte.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Bytes that were asked for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that are mapped: what a driver registers.
    pub fn mapped_bytes(&self) -> usize {
        self.mapped_bytes
    }

    /// What another process maps to see the same memory; nothing for memory that cannot be handed over.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by this value and nobody may use it any longer.
        if let Err(error) = unsafe { munmap(self.start.as_ptr().cast(), self.mapped_bytes) } {
            tracing::error!(%error, "a mapping could not be taken back");
        }
    }
}

/// `bytes` rounded up to [`PAGE_BYTES_MAX`], at least one page.
fn rounded(bytes: usize) -> io::Result<usize> {
    bytes.max(1).checked_next_multiple_of(PAGE_BYTES_MAX).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_mappings_of_one_descriptor_are_the_same_memory() {
        let first = Mapping::shared("test", 100).unwrap();
        assert_eq!((first.bytes(), first.mapped_bytes()), (100, PAGE_BYTES_MAX));
        let Some(descriptor) = first.descriptor() else { return };
        let file = descriptor.try_clone_to_owned().unwrap();
        let second = Mapping::of_file(file, 100, first.mapped_bytes(), true).unwrap();
        // SAFETY: both mappings are 100 bytes and only this thread uses them.
        unsafe {
            assert_eq!(first.as_ptr().add(99).read_volatile(), 0);
            first.as_ptr().add(99).write_volatile(7);
            assert_eq!(second.as_ptr().add(99).read_volatile(), 7);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn shared_memory_cannot_be_resized() {
        let mapping = Mapping::shared("test", 100).unwrap();
        let descriptor = mapping.descriptor().unwrap();
        assert!(rustix::fs::ftruncate(descriptor, 0).is_err());
        assert!(rustix::fs::ftruncate(descriptor, 1 << 20).is_err());
        assert!(rustix::fs::fcntl_add_seals(descriptor, rustix::fs::SealFlags::WRITE).is_err());
    }

    #[test]
    fn absurd_sizes_are_refused() {
        assert!(Mapping::private(usize::MAX).is_err());
        assert!(Mapping::private(1 << 60).is_err());
    }
}
