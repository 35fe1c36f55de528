//! Actors that come and go: a store keeps the state of those that the device has no room for, or that nobody has asked for in a while.
//!
//! Without a store an engine keeps every actor that was ever activated, and a full shard answers `DirectoryFull`. With one
//! ([`EngineBuilder::store`](crate::EngineBuilder::store)) the device holds those that are used; all others are with the store:
//!
//! - The first message to an actor that the device does not have fetches it. One that the store does not know begins anew.
//! - A shard without room for it sends its least recently used actor to the store.
//! - What was not used for a while ([`EngineBuilder::idle_after`](crate::EngineBuilder::idle_after)) goes there as well, and
//!   [`Engine::evict`](crate::Engine::evict) sends more.
//!
//! Messages to an actor on its way wait in device memory, in order, and run before any that come later. A store that fails costs no state:
//! an actor that it does not take stays, one that it does not bring is asked for again by the next message.
//!
//! ```
//! use std::sync::Arc;
//! use tourbillon::actors::counter::Add;
//! use tourbillon::store::MemoryStore;
//! use tourbillon::{Backend, Engine};
//!
//! let store = Arc::new(MemoryStore::default());
//! let engine =
//!     Engine::builder().backend(Backend::Cpu).shards(1).actors_per_shard(2).store(Arc::clone(&store)).build()?;
//! let mut client = engine.client()?;
//! for round in 0..3 {
//!     // Five actors in room for two.
//!     for key in 0..5 {
//!         let reply = client.call(key, Add { amount: 1, sender: 0, sequence: round + 1 })?;
//!         assert_eq!(reply.previous, round);
//!     }
//! }
//! assert!(store.len() >= 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Collections in pools go and come with their actors: `collections` has the format of their bytes.
//!
//! One thread of the engine, `tourbillon-store`, calls the store: so an actor is never fetched before it was kept. What it does is in
//! `service`; what it says to the device in [`tourbillon_shared::virtual_actors`].

mod collections;
mod memory;
mod pieces;
mod places;
mod service;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

pub use collections::CollectionsError;
pub use memory::MemoryStore;
#[doc(hidden)]
pub use places::ShardPlaces;
pub(crate) use service::{Command, StoreService};

use crate::keys::ActorKey;

/// After how long without a message an actor goes to the store, unless told otherwise.
pub const IDLE_AFTER_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);
/// How often is looked for such actors, unless told otherwise.
pub const IDLE_CHECK_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// Messages of one shard that may wait for actors unless told otherwise: the depth of a client's lane for each four shards.
pub const WAITERS_DEFAULT: u32 = 256;

/// Why a store did not do what it was asked.
pub type StoreError = Box<dyn std::error::Error + Send + Sync>;

/// An actor as a store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredActor {
    /// Number of its kind.
    pub kind: u16,
    /// Its key.
    pub key: ActorKey,
    /// Messages that it handled without a failure.
    pub version: u64,
    /// Timestamp ([`tourbillon_shared::hlc`]) of the last of them.
    pub hlc: u64,
    /// Version of the schema of its state ([`Plain::SCHEMA`](tourbillon_device::Plain::SCHEMA)).
    pub schema_version: u32,
    /// Hash of the layout of its state ([`Plain::LAYOUT`](tourbillon_device::Plain::LAYOUT)).
    pub layout_hash: u64,
    /// Its state, as many bytes as the state of the kind has. One of another version is taken over as
    /// [`SystemImage::adopt`](crate::SystemImage::adopt) does it, when the actor is fetched. Handles of collections in it are all zero.
    pub state: Vec<u8>,
    /// What is in its collections; nothing where it has none, or all are empty. The bytes name each collection by its field and say what
    /// layout its elements have, and no pages: so another engine takes them, whatever its geometry. They go to the collections of
    /// the same names in the state, also in one that `upgrade` has made; one that has no such name, or other elements, is a
    /// [`CollectionsError`].
    pub collections: Vec<u8>,
}

/// Where actors are that the device does not have.
///
/// Called by one thread of the engine, one call after the other: while a call takes its time, other actors that are on their way wait, those
/// on the device do not. A call that panics counts as one that failed.
pub trait Store: Send + Sync {
    /// Keeps an actor, in place of what was kept of it before. When this returns, the device forgets it.
    ///
    /// # Errors
    /// Whatever the reason is that it was not kept: it stays on the device, and the error is counted and logged.
    fn evict(&self, actor: &StoredActor) -> Result<(), StoreError>;

    /// Brings an actor, or nothing when it was never kept. What is returned is not taken out: the device may be lost before it gives the
    /// actor back.
    ///
    /// # Errors
    /// Whatever the reason is that it is not known: the messages that wait fail with
    /// [`CallError::FetchFailed`](crate::CallError::FetchFailed), and the next message asks again.
    fn fetch(&self, kind: u16, key: &ActorKey) -> Result<Option<StoredActor>, StoreError>;
}

/// What tells how long actors were idle. [`HostClock`] unless told otherwise; a test has one of its own.
pub trait Clock: Send + Sync {
    /// The time. Actors remember when they were last used by the clock of the machine, so this is to be compared with that.
    fn now(&self) -> SystemTime;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostClock;

impl Clock for HostClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// What became of actors that came and went, counted on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounts {
    /// Actors that the store has taken.
    pub kept: u64,
    /// Actors that it failed to take.
    pub keep_failures: u64,
    /// Actors that it has brought.
    pub fetched: u64,
    /// Actors that it did not know.
    pub unknown: u64,
    /// Actors that it failed to bring, or brought with a state that the engine's system does not take over.
    pub fetch_failures: u64,
    /// Looks for idle actors.
    pub sweeps: u64,
}

/// [`StoreCounts`], counted by the store's thread alone.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) kept: AtomicU64,
    pub(crate) keep_failures: AtomicU64,
    pub(crate) fetched: AtomicU64,
    pub(crate) unknown: AtomicU64,
    pub(crate) fetch_failures: AtomicU64,
    pub(crate) sweeps: AtomicU64,
}

impl Counted {
    pub(crate) fn read(&self) -> StoreCounts {
        // Relaxed: figures for onlookers.
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        StoreCounts {
            kept: read(&self.kept),
            keep_failures: read(&self.keep_failures),
            fetched: read(&self.fetched),
            unknown: read(&self.unknown),
            fetch_failures: read(&self.fetch_failures),
            sweeps: read(&self.sweeps),
        }
    }
}

/// What a builder knows of the store.
#[derive(Clone)]
pub(crate) struct StoreConfig {
    pub(crate) store: Option<Arc<dyn Store>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) idle_after: Duration,
    pub(crate) idle_check: Duration,
    pub(crate) waiters: u32,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            store: None,
            clock: Arc::new(HostClock),
            idle_after: IDLE_AFTER_DEFAULT,
            idle_check: IDLE_CHECK_DEFAULT,
            waiters: WAITERS_DEFAULT,
        }
    }
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig")
            .field("has_store", &self.store.is_some())
            .field("idle_after", &self.idle_after)
            .field("idle_check", &self.idle_check)
            .field("waiters", &self.waiters)
            .finish_non_exhaustive()
    }
}
