//! Stores for tests: they fail, forget and take their time when they are told, and notice what no store should ever see.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tourbillon::store::{Clock, MemoryStore, ShardPlaces, Store, StoreError, StoredActor};
use tourbillon::{ActorKey, Counter, Engine, EngineBuilder};

use crate::Bench;
use crate::bench::{REPLY_TIME_MAX, counters, eventually};

/// What a store was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To keep an actor.
    Evict(ActorKey),
    /// To bring one.
    Fetch(ActorKey),
}

/// A store in memory that does as it is told.
#[derive(Debug, Default)]
pub struct ToldStore {
    /// What it has.
    pub kept: MemoryStore,
    /// Whether it fails to keep.
    pub fails_to_keep: AtomicBool,
    /// Whether it fails to bring.
    pub fails_to_bring: AtomicBool,
    /// Whether it says that it knows nothing.
    pub forgets: AtomicBool,
    /// How long each call takes, microseconds.
    pub takes_us: AtomicU64,
    log: Mutex<Vec<Asked>>,
    held: Mutex<bool>,
    released: Condvar,
    faults: Mutex<Vec<String>>,
}

impl ToldStore {
    /// A store that knows nothing yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Lets no call return until the hold is dropped.
    pub fn hold(&self) -> Hold<'_> {
        *locked(&self.held) = true;
        Hold(self)
    }

    /// What it was asked so far.
    pub fn log(&self) -> Vec<Asked> {
        locked(&self.log).clone()
    }

    /// Waits until it was asked this.
    ///
    /// # Panics
    /// When it is not in time.
    pub fn wait_for(&self, asked: &Asked) {
        eventually("the store is asked", || locked(&self.log).contains(asked));
    }

    /// Actors that came back older than they went, or twice in one piece.
    pub fn faults(&self) -> Vec<String> {
        locked(&self.faults).clone()
    }

    fn note(&self, asked: Asked) {
        locked(&self.log).push(asked);
        let takes = self.takes_us.load(Ordering::Relaxed);
        if takes != 0 {
            std::thread::sleep(Duration::from_micros(takes));
        }
        let held = locked(&self.held);
        let (held, _) = self
            .released
            .wait_timeout_while(held, REPLY_TIME_MAX, |held| *held)
            .unwrap_or_else(PoisonError::into_inner);
        drop(held);
    }
}

/// Ends a [`ToldStore::hold`].
#[derive(Debug)]
pub struct Hold<'s>(&'s ToldStore);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        *locked(&self.0.held) = false;
        self.0.released.notify_all();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store for ToldStore {
    fn evict(&self, actor: &StoredActor) -> Result<(), StoreError> {
        self.note(Asked::Evict(actor.key.clone()));
        if self.fails_to_keep.load(Ordering::Relaxed) {
            return Err("told to fail".into());
        }
        if let Some(before) = self.kept.get(actor.kind, &actor.key)
            && (before.version > actor.version || before.hlc > actor.hlc)
        {
            locked(&self.faults).push(format!("{before:?} came back as {actor:?}"));
        }
        self.kept.evict(actor)
    }

    fn fetch(&self, kind: u16, key: &ActorKey) -> Result<Option<StoredActor>, StoreError> {
        self.note(Asked::Fetch(key.clone()));
        if self.fails_to_bring.load(Ordering::Relaxed) {
            return Err("told to fail".into());
        }
        if self.forgets.load(Ordering::Relaxed) {
            return Ok(None);
        }
        self.kept.fetch(kind, key)
    }
}

/// A clock that stands still until it is set.
#[derive(Debug)]
pub struct Hands(Mutex<SystemTime>);

impl Hands {
    /// A clock that shows the present time.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(SystemTime::now())))
    }

    /// Moves it forward.
    pub fn advance(&self, time: Duration) {
        *locked(&self.0) += time;
    }
}

impl Clock for Hands {
    fn now(&self) -> SystemTime {
        *locked(&self.0)
    }
}

/// The places of all shards, when nothing is on its way any more: checked against each other.
///
/// # Panics
/// When something was lost, or has grown.
pub fn settled_places(engine: &Engine) -> Vec<ShardPlaces> {
    let mut places = Vec::new();
    eventually("nothing is on its way", || {
        engine.pause().expect("the engine pauses");
        places = engine.shard_places().expect("the places are read");
        engine.resume().expect("the engine goes on");
        places.iter().all(|shard| shard.state.asked == 0 && shard.state.waiting == 0)
    });
    let geometry = engine.geometry();
    for shard in &places {
        let state = &shard.state;
        assert_eq!(shard.buckets_used, state.places, "buckets and places: {shard:?}");
        assert_eq!(
            (shard.buckets_held, state.evicting, state.queue_frames, state.queue_actors),
            (0, 0, 0, 0),
            "{shard:?}"
        );
        assert_eq!(shard.free_list, state.free_entries, "the list of free entries: {shard:?}");
        assert_eq!(shard.slab_used, state.places + shard.free_list, "entries are used or free: {shard:?}");
        assert!(shard.slab_used <= geometry.actors_per_shard, "{shard:?}");
        assert!(state.nodes_used <= geometry.waiters, "{shard:?}");
        assert!(shard.is_probeable, "an actor cannot be found: {shard:?}");
    }
    places
}

/// Pages in use, by the pools themselves; as the counters have it as well. Nothing is on its way any more.
///
/// # Panics
/// When the two differ.
pub fn pages_in_use(engine: &Engine) -> u64 {
    settled_places(engine);
    let counters = counters(engine);
    engine.pause().expect("the engine answers");
    let pools = engine.pools().expect("the engine answers");
    engine.resume().expect("the engine answers");
    let sum = pools.iter().map(|pool| u64::from(pool.in_use)).sum();
    assert_eq!(counters[Counter::PagesTaken as usize].wrapping_sub(counters[Counter::PagesGiven as usize]), sum);
    sum
}

/// Sends everybody to the store: afterwards no page is in use.
///
/// # Panics
/// When one is, or when they do not go.
pub fn evict_all(engine: &Engine) {
    eventually("all have gone", || {
        engine.evict(u64::from(u32::MAX)).expect("the engine answers");
        settled_places(engine).iter().all(|shard| shard.state.places == 0)
    });
    assert_eq!(pages_in_use(engine), 0, "pages of actors that have gone");
}

/// Evicts so many actors of an engine of one shard, and waits until they have gone.
///
/// # Panics
/// When they do not go.
pub fn evict(engine: &Engine, count: u64) {
    let before = engine.store_counts().kept;
    engine.evict(count).expect("the engine answers");
    eventually("they have gone", || engine.store_counts().kept >= before + count);
    settled_places(engine);
}

/// A builder with room for `actors` in each of `shards`, and a store.
pub fn roomy(bench: &Bench, shards: u32, actors: u32, store: &Arc<ToldStore>) -> EngineBuilder {
    bench.builder().shards(shards).actors_per_shard(actors).arena_bytes(64 << 10).store(Arc::clone(store))
}
