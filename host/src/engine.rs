//! The engine: one device with its shards, from build to drop.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tourbillon_device::{Actor, SystemImage, panic_files};
use tourbillon_shared::control::Mode;
use tourbillon_shared::geometry::{EntryHeader, Geometry};
use tourbillon_shared::position::RingShape;
use tourbillon_shared::telemetry::{COUNTERS, Counter, TelemetryPage};
use tourbillon_shared::virtual_actors::STORE_LANE;

use crate::backend::cpu::Cpu;
use crate::backend::cuda::Cuda;
#[cfg(feature = "simt")]
use crate::backend::simt::Simt;
use crate::backend::{Copies, Machine};
use crate::choice::{Backend, BackendKind};
use crate::client::Client;
use crate::config::EngineBuilder;
use crate::control::Control;
use crate::dead_letters::{self, DeadLetter};
use crate::error::EngineError;
use crate::host_actors::HostActorsBuilder;
use crate::keys::{ActorKey, Key, KeyError, KeyName, Names};
use crate::lane::Lane;
use crate::lane_table::LaneTable;
use crate::memory::{device_bytes, memory_sum};
use crate::monitor::Monitor;
use crate::pools::PoolUsage;
use crate::prepare::{host_telemetry, prepare};
use crate::registry::Registry;
use crate::shared::{EXIT_TIME_MAX, Shared};
use crate::store::{Command, StoreCounts, StoreService};
use crate::telemetry::OwnPage;
use crate::topics::Topics;
use crate::wait::WaitStrategy;
use crate::{clock, inspect};

/// Pause between two looks at what a drain has left.
const DRAIN_PERIOD: Duration = Duration::from_micros(200);

/// One device with its shards: the ring kernel, its memory and its lanes.
///
/// ```text
/// build -> Resident -> Active <-> Paused -> Draining -> Stopped
/// ```
///
/// Dropping an engine stops it. A kernel that does not exit within a second, because a handler never returns, is left
/// behind with all the memory that it may use; the device is then unusable for this process.
#[derive(Debug)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
    monitor: Option<Monitor>,
    wait: WaitStrategy,
    batch_limit: u32,
    shape: RingShape,
    arena_bytes: u32,
    fallback: Option<EngineError>,
    store: Option<StoreService>,
    registry: Registry,
    topics: Topics,
}

/// What a drain has left.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// How long it took.
    pub took: Duration,
    /// Lanes with requests that are published and unanswered; empty when the drain is complete.
    pub lanes: Vec<LaneRemainder>,
    /// Frames that gates have taken since the engine was built, from device memory.
    pub claimed: u64,
    /// Frames that were answered since the engine was built, from device memory.
    pub processed: u64,
}

impl DrainReport {
    /// Whether everything that was published is answered.
    pub fn is_complete(&self) -> bool {
        self.lanes.is_empty()
    }
}

/// What a drain has left of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneRemainder {
    /// Number of the lane.
    pub lane: u32,
    /// Requests that are published and unanswered.
    pub unanswered: u64,
}

impl Engine {
    /// A builder for an engine of the actors that come with Tourbillon ([`crate::actors`]).
    pub fn builder() -> EngineBuilder {
        EngineBuilder::new(crate::shipped_image())
    }

    /// A builder for an engine of your own actors: `Name::image()` of a [`system!`](crate::system!).
    pub fn builder_for(image: SystemImage) -> EngineBuilder {
        EngineBuilder::new(image)
    }

    pub(crate) fn build(builder: EngineBuilder) -> Result<Self, EngineError> {
        builder.check()?;
        if !tourbillon_shared::mutant!("panic_files_of_texts_unnoted") {
            builder.image.ptx.iter().flat_map(|text| text.files).for_each(|file| panic_files::note(file));
        }
        match builder.backend {
            Backend::Cuda => Self::on_cuda(&builder),
            Backend::Cpu => Self::on_cpu(&builder),
            #[cfg(feature = "simt")]
            Backend::Simt { lanes, seed, hostile_bus } => {
                let machine = Simt::new(builder.image.clone(), lanes, seed, hostile_bus)?;
                Self::on(&builder, Box::new(machine), builder.simt_geometry()?)
            }
            Backend::Auto => match Self::on_cuda(&builder) {
                Err(error) if !error.is_of_configuration() => {
                    tracing::warn!(%error, "no GPU can be used; falling back to CPU threads");
                    let mut engine = Self::on_cpu(&builder)?;
                    engine.fallback = Some(error);
                    Ok(engine)
                }
                built => built,
            },
        }
    }

    fn on_cuda(builder: &EngineBuilder) -> Result<Self, EngineError> {
        let machine = Cuda::new(&builder.image, &builder.device)?;
        let geometry = builder.gpu_geometry(machine.multiprocessors())?;
        Self::on(builder, Box::new(machine), geometry)
    }

    fn on_cpu(builder: &EngineBuilder) -> Result<Self, EngineError> {
        let geometry = builder.cpu_geometry()?;
        Self::on(builder, Box::new(Cpu::new(builder.image.clone())?), geometry)
    }

    /// Allocates and maps everything, then launches.
    fn on(builder: &EngineBuilder, mut machine: Box<dyn Machine>, geometry: Geometry) -> Result<Self, EngineError> {
        let shape = builder.ring_shape()?;
        let (needed, free) = (device_bytes(&geometry), machine.free_bytes()?);
        if needed > free {
            return Err(EngineError::TooLittleMemory { needed, free });
        }
        let (first_position, arena_bytes) = (builder.first_position()?, builder.arena_length());
        let lanes: Vec<Lane> = (0..geometry.lanes)
            .map(|lane| {
                // The ring for requests to the store is the outbox ring of the lane that answers them.
                let is_stores = geometry.waiters != 0 && lane == STORE_LANE;
                let outbox_log2 = if is_stores { geometry.store_log2 } else { geometry.outbox_log2 };
                Lane::create(lane, shape, first_position, arena_bytes, outbox_log2)
            })
            .collect::<Result<_, _>>()?;
        let control = Control::create()?;
        let (processing, batch_wait_us) = builder.processing.to_command()?;
        control.set_processing(processing, batch_wait_us);
        let page = OwnPage::create(&host_telemetry(&*machine, &geometry))?;
        // What the machine has mapped must be given back before the mappings go: here on an error, later in `Shared::close`.
        let prepared = prepare(&mut *machine, &geometry, &control, &page, &lanes, first_position);
        let memory = match prepared {
            Ok(memory) => memory,
            Err(error) => {
                machine.release();
                return Err(error);
            }
        };

        let lanes = LaneTable::new(lanes);
        // Before any client: the device knows the store's lane by its number.
        let stores = builder.store.store.clone().map(|store| Ok::<_, EngineError>((store, lanes.take(&control)?)));
        let stores = stores.transpose()?;
        let names = Names::new(builder.key_names);
        let shared =
            Arc::new(Shared::new(builder.image.clone(), geometry, machine, control, lanes, page, names, memory));
        let topics = Topics::new(Arc::clone(&shared), builder.wait, builder.batch_limit);
        // From here on dropping the engine stops the kernel and takes everything back.
        let mut engine = Self {
            shared,
            topics,
            monitor: None,
            wait: builder.wait,
            batch_limit: builder.batch_limit,
            shape,
            arena_bytes,
            fallback: None,
            store: None,
            registry: Registry::new(&builder.image),
        };
        engine.shared.launch(&mut engine.shared.core())?;
        clock::calibrate(&engine.shared)?;
        engine.monitor = Some(Monitor::start(Arc::clone(&engine.shared))?);
        if let Some((store, lane)) = stores {
            engine.store = Some(StoreService::start(&engine.shared, lane, store, &builder.store)?);
        }
        if !builder.is_resident {
            engine.activate()?;
        }
        Ok(engine)
    }

    /// A new client with a lane of its own.
    ///
    /// # Errors
    /// [`EngineError::NoFreeLane`], [`EngineError::Stopped`].
    pub fn client(&self) -> Result<Client, EngineError> {
        Client::connect(&self.shared, self.wait, self.batch_limit)
    }

    /// A gateway for async code, with the defaults of [`Gateway::builder`](crate::gateway::Gateway::builder).
    ///
    /// # Errors
    /// As for [`GatewayBuilder::build`](crate::gateway::GatewayBuilder::build).
    #[cfg(feature = "async")]
    pub fn gateway(&self) -> Result<crate::gateway::Gateway, EngineError> {
        crate::gateway::Gateway::builder(self).build()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// From resident or paused to active; waits until every warp has obeyed.
    ///
    /// # Errors
    /// [`EngineError::NoTransition`], [`EngineError::TransitionTimeout`], [`EngineError::Stopped`].
    pub fn activate(&self) -> Result<(), EngineError> {
        let _steps = self.shared.steps();
        self.shared.transition(Mode::Active)
    }

    /// From active to paused; waits until every warp has obeyed, handlers that run included. Nothing is lost: requests wait in their
    /// lanes.
    ///
    /// # Errors
    /// As for [`activate`](Self::activate).
    pub fn pause(&self) -> Result<(), EngineError> {
        let _steps = self.shared.steps();
        self.shared.transition(Mode::Paused)
    }

    /// From paused to active.
    ///
    /// # Errors
    /// As for [`activate`](Self::activate).
    pub fn resume(&self) -> Result<(), EngineError> {
        self.activate()
    }

    /// Accepts nothing new, and waits until everything published is answered, by host actors as well, for `timeout` at most. The engine
    /// then stays as it is until [`stop`](Self::stop).
    ///
    /// # Errors
    /// As for [`activate`](Self::activate). What is left when the time is over is no error: it is in the report.
    pub fn drain(&self, timeout: Duration) -> Result<DrainReport, EngineError> {
        let began = Instant::now();
        let _steps = self.shared.steps();
        let mode = self.shared.mode();
        if mode != Mode::Draining && !mode.may_become(Mode::Draining) {
            return Err(EngineError::NoTransition { from: mode, to: Mode::Draining });
        }
        self.shared.status.drain();
        self.shared.transition(Mode::Draining)?;
        loop {
            let lanes = self.remainders();
            if lanes.is_empty() || began.elapsed() >= timeout || self.shared.status.is_ended() {
                let counters = self.device_counters()?;
                let count = |counter: Counter| counters[counter as usize];
                let (claimed, processed) = (count(Counter::Claimed), count(Counter::Processed));
                return Ok(DrainReport { took: began.elapsed(), lanes, claimed, processed });
            }
            std::thread::sleep(DRAIN_PERIOD);
        }
    }

    /// Lanes with requests that are published and unanswered.
    fn remainders(&self) -> Vec<LaneRemainder> {
        let remainder = |lane: &Arc<Lane>| LaneRemainder { lane: lane.number(), unanswered: lane.unanswered() };
        self.shared.lanes.lanes().iter().map(remainder).filter(|remainder| remainder.unanswered > 0).collect()
    }

    /// Stops the kernel and waits for its exit. Requests that are not answered end with an error at their client. Device memory
    /// stays as it is until the engine is dropped.
    ///
    /// # Errors
    /// [`EngineError::NeedsProcessExit`] when a handler does not return.
    pub fn stop(&self) -> Result<(), EngineError> {
        self.shared.stop(EXIT_TIME_MAX, "it was stopped")
    }

    /// Stops the kernel and launches it anew on the same device memory, in the same mode. Nothing is lost; clients see
    /// a pause.
    ///
    /// # Errors
    /// [`EngineError::NeedsProcessExit`] when a handler does not return; the engine has then failed. Else what launching says.
    pub fn relaunch(&self) -> Result<(), EngineError> {
        let _steps = self.shared.steps();
        self.shared.relaunch()
    }

    /// The mode commanded last.
    pub fn mode(&self) -> Mode {
        self.shared.mode()
    }

    /// What the engine runs on.
    pub fn backend(&self) -> BackendKind {
        self.shared.kind
    }

    /// Why [`Backend::Auto`] runs on CPU threads; nothing when it does not.
    pub fn fallback(&self) -> Option<&EngineError> {
        self.fallback.as_ref()
    }

    /// Name of the device for people.
    pub fn device_name(&self) -> &str {
        &self.shared.device_name
    }

    /// How the engine is spread over the device.
    pub fn geometry(&self) -> Geometry {
        self.shared.geometry
    }

    /// Launches of the kernel since the engine was built.
    pub fn launches(&self) -> u64 {
        self.shared.launches.load(Ordering::Relaxed)
    }

    /// A copy of the telemetry page, which the device refreshes every few milliseconds.
    pub fn telemetry(&self) -> TelemetryPage {
        self.shared.page.read()
    }

    /// Where the telemetry page lies, for other processes.
    pub fn telemetry_path(&self) -> &Path {
        self.shared.page.path()
    }

    /// The device's counters by [`Counter`], summed over its warps, read from device memory: never older than the call.
    ///
    /// # Errors
    /// What copying says.
    pub fn device_counters(&self) -> Result<[u64; COUNTERS], EngineError> {
        let mut sums = [0u64; COUNTERS];
        for stats in self.shared.warp_stats()? {
            for (i, (sum, count)) in sums.iter_mut().zip(stats.counters).enumerate() {
                *sum = if i == Counter::LastFailure as usize { count.max(*sum) } else { sum.wrapping_add(count) };
            }
        }
        Ok(sums)
    }

    /// How full the pool of each shard is, read from device memory: exact while the engine is paused. Empty without pools.
    ///
    /// # Errors
    /// What copying says.
    pub fn pools(&self) -> Result<Vec<PoolUsage>, EngineError> {
        crate::pools::usage(&self.shared)
    }

    /// Takes the messages that could not be delivered since the last call, oldest first: those that no handler was run for, with the
    /// reason. `docs/options.md` says which. Also while the engine runs, is paused or has stopped; nothing stops for it.
    ///
    /// The queue has room for as many as [`EngineBuilder::dead_letters`] says. Past that letters are dropped, and counted
    /// as [`Counter::DeadLettersDropped`].
    ///
    /// # Errors
    /// [`EngineError::Stopped`], what copying says.
    pub fn dead_letters(&self) -> Result<Vec<DeadLetter>, EngineError> {
        dead_letters::take(&self.shared)
    }

    /// Copies between host and device memory since the engine was built.
    pub fn copies(&self) -> Copies {
        self.shared.core().machine.copies()
    }

    /// Host clock (Unix) minus device clock as the device was told, nanoseconds: below zero where the device is ahead. It never decreases.
    pub fn clock_offset_ns(&self) -> i64 {
        self.shared.control.clock_offset_ns()
    }

    /// Lets the engine's clock jump ahead, for tests of what depends on it: timestamps, deadlines, the windows of supervisors. Soon the
    /// device goes by it; it never goes back.
    #[doc(hidden)]
    pub fn advance_clock(&self, by: Duration) {
        let by_ns = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        self.shared.control.advance_clock_offset(self.clock_offset_ns().saturating_add(by_ns));
        self.shared.ring();
    }

    /// The state of the actor `A` at `key` and what the engine keeps of it; nothing when it was never activated.
    ///
    /// Pauses an active engine meanwhile, and counts as a copy of state.
    ///
    /// # Errors
    /// [`EngineError::NoSuchKind`], [`EngineError::TransitionTimeout`], [`EngineError::Stopped`], what copying says.
    pub fn inspect<A: Actor>(&self, key: impl Into<Key>) -> Result<Option<(EntryHeader, A)>, EngineError> {
        inspect::inspect(&self.shared, key.into())
    }

    /// The key of an actor that is called by a string of at most [`KEY_BYTES_MAX`](crate::keys::KEY_BYTES_MAX) bytes, or by an id of 128
    /// bits (`u128`). The same name has the same key for as long as the engine lives, in whatever thread; keep it, for this looks it up.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn key(&self, name: impl KeyName) -> Result<Key, KeyError> {
        name.key_in(&self.shared.names)
    }

    /// Strings and wide ids that the engine knows as keys.
    pub fn key_names(&self) -> u64 {
        self.shared.names.known()
    }

    /// What the actor with this key is called; nothing where no name has this key.
    pub fn name_of(&self, key: impl Into<Key>) -> Option<ActorKey> {
        self.shared.names.name_of(key.into())
    }

    /// The names under which actors of this engine are found; a handle that any thread may keep.
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// The topics of this engine; a handle that any thread may keep.
    pub fn topics(&self) -> Topics {
        self.topics.clone()
    }

    /// To serve actors that live on the host ([`host_actor!`](crate::host_actor!)): their handlers are code of this process.
    pub fn host_actors(&self) -> HostActorsBuilder {
        HostActorsBuilder::new(Arc::clone(&self.shared), self.wait, self.batch_limit)
    }

    /// Sends `count` actors to the store, those that were used least recently of each shard, which have equal shares; fewer when there are
    /// not so many. Returns when every shard has been told; [`store_counts`](Self::store_counts) says how many have gone.
    ///
    /// # Errors
    /// [`EngineError::NoStore`], [`EngineError::Stopped`].
    pub fn evict(&self, count: u64) -> Result<(), EngineError> {
        let store = self.store.as_ref().ok_or(EngineError::NoStore)?;
        let (done, told) = std::sync::mpsc::channel();
        if !store.command(Command::Evict(count, done)) || told.recv().is_err() {
            return Err(self.shared.stopped());
        }
        Ok(())
    }

    /// What became of actors that came and went; all zero without a store. The device's own counts are in its
    /// [`telemetry`](Self::telemetry).
    pub fn store_counts(&self) -> StoreCounts {
        self.store.as_ref().map(|store| store.counted().read()).unwrap_or_default()
    }

    /// The engine's memory in bytes by purpose; what ends in "(host)" is pinned host memory, the rest device memory.
    ///
    /// Device memory is `warps * 768 + gates * shards * (ring * 64 + 24) + shards * (128 + buckets * 16 + actors * stride + landing)`,
    /// where a ring has 256 slots, `buckets` is the power of two from twice `actors_per_shard` on, `stride` is 16 bytes and
    /// the largest state, with 48 bytes more where actors are supervised, and a multiple of 32 where they send letters, and `landing` is the largest payload of an arena, 1 MiB unless arenas are shorter; the partition
    /// table takes 32 KiB; with outboxes come `warps * 47104 + lanes * 128`, with a store `shards * (384 + waiters * 528)`, for message ids
    /// `shards * (128 + 64 * window + 2 * buckets)`, and for dead letters 128 bytes each. Pinned memory is
    /// `lanes * (4096 + 128 * ring_capacity + 2 * arena_bytes + 64 * outbox_capacity)` and two pages.
    pub fn memory_sum(&self) -> Vec<(&'static str, u64)> {
        memory_sum(&self.shared.geometry, self.shape, self.arena_bytes)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.monitor = None;
        if !self.shared.close() {
            // The kernel that was left behind goes on using lanes, control block and telemetry page.
            std::mem::forget(Arc::clone(&self.shared));
        }
        if let Some(store) = &mut self.store {
            // The engine has ended, and so does the thread, when the store returns.
            store.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::unix_ns;

    #[test]
    fn without_a_gpu_cuda_is_refused_and_auto_falls_back() {
        // One engine a GPU: the first is gone before the second comes.
        let cuda = Engine::builder().backend(Backend::Cuda).build().map(|engine| engine.backend());
        let auto = Engine::builder().build().unwrap();
        match cuda {
            Ok(backend) => {
                assert_eq!((backend, auto.backend()), (BackendKind::Cuda, BackendKind::Cuda));
                assert!(auto.fallback().is_none());
            }
            Err(error) => {
                assert_eq!(auto.backend(), BackendKind::Cpu);
                let reason = auto.fallback().map(ToString::to_string);
                assert_eq!(reason, Some(error.to_string()), "the same cause");
                if crate::probe_devices().is_err_and(|error| matches!(error, EngineError::NoDriver)) {
                    assert!(matches!(error, EngineError::NoDriver), "{error}");
                }
            }
        }
    }

    #[test]
    fn the_lifecycle_refuses_what_it_has_no_step_for() {
        let engine = Engine::builder().backend(Backend::Cpu).resident(true).build().unwrap();
        assert_eq!((engine.mode(), engine.launches()), (Mode::Resident, 1));
        assert!(matches!(engine.pause(), Err(EngineError::NoTransition { from: Mode::Resident, to: Mode::Paused })));
        engine.activate().unwrap();
        engine.pause().unwrap();
        assert!(engine.drain(Duration::from_secs(1)).unwrap().is_complete());
        assert!(matches!(engine.client(), Err(EngineError::Stopped { .. })));
        assert!(matches!(engine.activate(), Err(EngineError::NoTransition { .. })));
        engine.stop().unwrap();
        assert_eq!(engine.mode(), Mode::Stopped);
        assert!(matches!(engine.activate(), Err(EngineError::Stopped { .. })));
        engine.stop().unwrap();
    }

    #[test]
    fn the_clock_is_stated_before_anything_is_handled() {
        let engine = Engine::builder().backend(Backend::Cpu).resident(true).build().unwrap();
        let page = engine.telemetry();
        let unix = page.status.device_ns.wrapping_add_signed(engine.clock_offset_ns());
        let error_ns = unix_ns().abs_diff(unix);
        assert!(error_ns < 100_000_000, "{error_ns} ns apart");
    }
}
