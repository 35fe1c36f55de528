//! The telemetry page of an engine: where it lies, and how other processes find it.
//!
//! The page is a file in memory (`/dev/shm` on Linux, the directory for temporary files elsewhere) named
//! `tourbillon-<process>-<number>.telemetry`. Its engine holds a lock on it for as long as it lives, and the operating system
//! gives the lock back when the process dies, however it dies. So a reader that can lock a page has found a dead engine's and
//! removes it; a process id that was given out again deceives nobody.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytemuck::Zeroable;
use rustix::fs::{FlockOperation, OFlags, flock};
use tourbillon_shared::abi;
use tourbillon_shared::telemetry::{TELEMETRY_BYTES, TELEMETRY_MAGIC, TelemetryHost, TelemetryPage};

use crate::error::EngineError;
use crate::shared_memory::Mapping;

const PREFIX: &str = "tourbillon-";
const SUFFIX: &str = ".telemetry";

/// A mapped telemetry page.
#[derive(Debug)]
struct Page(Mapping);

impl Page {
    /// A copy, read word by word while the device goes on writing.
    fn read(&self) -> TelemetryPage {
        let mut page = TelemetryPage::zeroed();
        let words = bytemuck::cast_slice_mut::<TelemetryPage, u64>(std::slice::from_mut(&mut page));
        for (i, word) in words.iter_mut().enumerate() {
            // SAFETY: the mapping is at least as long as a page; every access to it is atomic by words.
            *word = unsafe { AtomicU64::from_ptr(self.0.as_ptr().cast::<u64>().add(i)) }.load(Ordering::Relaxed);
        }
        page
    }

    fn page(&self) -> *mut TelemetryPage {
        self.0.as_ptr().cast()
    }
}

/// The page of an engine of this process, removed when dropped.
#[derive(Debug)]
pub(crate) struct OwnPage {
    page: Page,
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

impl OwnPage {
    /// Makes the page with the host's figures in it and publishes it under a name of its own.
    pub(crate) fn create(host: &TelemetryHost) -> Result<Self, EngineError> {
        let io = |source| EngineError::Io { what: "making the telemetry page", source };
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let directory = directory();
        let name = loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{PREFIX}{}-{number}{SUFFIX}", std::process::id());
            // A dead process of the same id may have left some behind.
            if !directory.join(&name).exists() {
                break name;
            }
        };
        // Filled and locked under a hidden name first: a reader never sees half a page, nor one without its lock.
        let (hidden, path) = (directory.join(format!(".{name}")), directory.join(&name));
        let _ = std::fs::remove_file(&hidden);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&hidden).map_err(io)?;
        let made = Self::fill(&file, host).and_then(|page| std::fs::rename(&hidden, &path).map(|()| page));
        if made.is_err() {
            let _ = std::fs::remove_file(&hidden);
        }
        Ok(Self { page: made.map_err(io)?, path, _file: file })
    }

    fn fill(file: &File, host: &TelemetryHost) -> io::Result<Page> {
        flock(file, FlockOperation::NonBlockingLockExclusive)?;
        file.set_len(crate::shared_memory::PAGE_BYTES_MAX as u64)?;
        let mapping =
            Mapping::of_file(file.try_clone()?.into(), TELEMETRY_BYTES, crate::shared_memory::PAGE_BYTES_MAX, true)?;
        let page = Page(mapping);
        // SAFETY: nobody else has the file yet.
        unsafe { page.page().cast::<TelemetryHost>().write(*host) };
        Ok(page)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.page.0
    }

    pub(crate) fn read(&self) -> TelemetryPage {
        self.page.read()
    }

    /// The device clock at the last beat, nanoseconds.
    pub(crate) fn device_ns(&self) -> u64 {
        self.word(std::mem::offset_of!(TelemetryPage, status.device_ns)).load(Ordering::Relaxed)
    }

    /// How often the loop has beaten.
    pub(crate) fn heartbeat(&self) -> u64 {
        self.word(std::mem::offset_of!(TelemetryPage, status.heartbeat)).load(Ordering::Relaxed)
    }

    /// The epoch that every living warp has obeyed.
    pub(crate) fn epoch_obeyed(&self) -> u64 {
        self.word(std::mem::offset_of!(TelemetryPage, status.epoch_obeyed)).load(Ordering::Relaxed)
    }

    /// Whether the kernel asks to be launched anew.
    pub(crate) fn is_relaunch_wanted(&self) -> bool {
        self.relaunch_word().load(Ordering::Relaxed) != 0
    }

    /// Forgets the last launch's wish. Only between two launches, when the device writes nothing.
    pub(crate) fn clear_relaunch_wanted(&self) {
        self.relaunch_word().store(0, Ordering::Relaxed);
    }

    /// States the host's live figures: launches, copies of actor state, the mode commanded.
    pub(crate) fn state(&self, launches: u64, state_copies: u64, mode: u32) {
        use std::mem::offset_of;
        self.word(offset_of!(TelemetryPage, host.launches)).store(launches, Ordering::Relaxed);
        self.word(offset_of!(TelemetryPage, host.state_copies)).store(state_copies, Ordering::Relaxed);
        // SAFETY: the mapping is a telemetry page that lives as long as `self`; all accesses are atomic.
        unsafe { AtomicU32::from_ptr(&raw mut (*self.page.page()).host.mode_commanded) }.store(mode, Ordering::Relaxed);
    }

    fn relaunch_word(&self) -> &AtomicU64 {
        self.word(std::mem::offset_of!(TelemetryPage, status.relaunch_wanted))
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: every offset given is that of a u64 of the page, which lives as long as `self`; all accesses are atomic.
        unsafe { AtomicU64::from_ptr(self.page.0.as_ptr().add(offset).cast()) }
    }
}

impl Drop for OwnPage {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the telemetry page could not be removed");
        }
    }
}

/// A running engine of any process of this machine, seen through its telemetry page.
#[derive(Debug)]
pub struct RunningEngine {
    path: PathBuf,
    page: Page,
    file: File,
}

impl RunningEngine {
    /// A copy of the page as it is now; the engine is not disturbed, and need not be responsive.
    pub fn read(&self) -> TelemetryPage {
        self.page.read()
    }

    /// Where the page lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the engine still exists. A hung one does.
    pub fn is_alive(&self) -> bool {
        !is_abandoned(&self.file)
    }

    /// Maps the page at `path`.
    ///
    /// # Errors
    /// What the operating system says; `InvalidData` when the file is no telemetry page of this program's binary interface;
    /// `NotFound` when its engine is dead.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        if is_abandoned(&file) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the engine of this telemetry page is dead"));
        }
        let metadata = file.metadata()?;
        let foreign = || io::Error::new(io::ErrorKind::InvalidData, "no telemetry page of this release");
        if !metadata.is_file() || metadata.len() < TELEMETRY_BYTES as u64 {
            return Err(foreign());
        }
        let page = Page(Mapping::of_file(file.try_clone()?.into(), TELEMETRY_BYTES, TELEMETRY_BYTES, false)?);
        let host = page.read().host;
        if host.magic != TELEMETRY_MAGIC || host.abi_hash != abi::HASH {
            return Err(foreign());
        }
        Ok(Self { path: path.to_owned(), page, file })
    }
}

/// The running engines of this machine whose telemetry pages this user may read, in order of their start. Pages that dead
/// processes left behind are removed.
///
/// # Errors
/// When the directory of the pages cannot be listed.
pub fn running_engines() -> io::Result<Vec<RunningEngine>> {
    engines_in(&directory())
}

fn engines_in(directory: &Path) -> io::Result<Vec<RunningEngine>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_page = name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
        if !is_page {
            continue;
        }
        match RunningEngine::open(&entry.path()) {
            Ok(engine) => found.push(engine),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Another reader may have removed it first.
                let _ = std::fs::remove_file(entry.path());
            }
            Err(error) => tracing::debug!(path = %entry.path().display(), %error, "skipped a telemetry page"),
        }
    }
    found.sort_by_key(|engine| engine.read().host.started_unix_ns);
    Ok(found)
}

/// Whether no engine holds the lock.
fn is_abandoned(file: &File) -> bool {
    let is_free = flock(file, FlockOperation::NonBlockingLockShared).is_ok();
    if is_free {
        let _ = flock(file, FlockOperation::Unlock);
    }
    is_free
}

/// Where telemetry pages lie.
fn directory() -> PathBuf {
    if cfg!(target_os = "linux") && Path::new("/dev/shm").is_dir() {
        return PathBuf::from("/dev/shm");
    }
    let directory = std::env::temp_dir().join("tourbillon");
    // Failing to make it shows when a page is made in it.
    let _ = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
    directory
}

/// Unix time, nanoseconds; 0 on a clock before 1970.
#[inline]
pub(crate) fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> TelemetryHost {
        TelemetryHost {
            magic: TELEMETRY_MAGIC,
            abi_hash: abi::HASH,
            process: std::process::id(),
            started_unix_ns: unix_ns(),
            ..TelemetryHost::zeroed()
        }
    }

    #[test]
    fn a_page_is_found_while_its_engine_lives() {
        let own = OwnPage::create(&host()).unwrap();
        own.state(7, 3, 2);
        let path = own.path().to_owned();
        let found = running_engines().unwrap().into_iter().find(|engine| engine.path() == path).unwrap();
        let seen = found.read().host;
        assert_eq!((seen.launches, seen.state_copies, seen.mode_commanded), (7, 3, 2));
        assert!(found.is_alive());
        drop(own);
        assert!(!path.exists() && !found.is_alive());
    }

    #[test]
    fn pages_of_the_dead_are_removed_and_foreign_files_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let dead = directory.path().join("tourbillon-1-0.telemetry");
        let other = directory.path().join("something.telemetry");
        std::fs::write(&dead, vec![0; TELEMETRY_BYTES]).unwrap();
        std::fs::write(&other, b"x").unwrap();
        assert!(engines_in(directory.path()).unwrap().is_empty());
        assert!(!dead.exists() && other.exists());
    }

    #[test]
    fn locked_files_that_are_no_pages_are_skipped() {
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in [("tourbillon-1-1.telemetry", 10), ("tourbillon-1-2.telemetry", TELEMETRY_BYTES)] {
            let path = directory.path().join(name);
            std::fs::write(&path, vec![1; bytes]).unwrap();
            let file = File::open(&path).unwrap();
            flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
            assert_eq!(RunningEngine::open(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
            assert!(engines_in(directory.path()).unwrap().is_empty());
            assert!(path.exists());
        }
    }
}
