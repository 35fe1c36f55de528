//! What an engine is told before it is built. Nothing is started before all of it is checked.

use std::sync::Arc;
use std::time::Duration;

use tourbillon_device::SystemImage;
use tourbillon_shared::arena::{ARENA_BYTES_MAX, ARENA_GRANULE, LARGE_BYTES_MAX};
use tourbillon_shared::dead_letter::{DEAD_LETTERS_MAX, DEAD_LETTERS_MIN};
use tourbillon_shared::dedup::{DEDUP_ENTRIES_MAX, DEDUP_ENTRIES_MIN};
use tourbillon_shared::geometry::{
    ACTORS_PER_SHARD_MAX, BLOCKS_MAX, GATES_MAX, Geometry, GeometryError, WARPS_PER_BLOCK_MAX,
};
use tourbillon_shared::lane::LANES_MAX;
use tourbillon_shared::mailbox::{
    MAILBOX_CAPACITY_MAX, MAILBOX_CAPACITY_MIN, OVERFLOW_CAPACITY_MAX, OVERFLOW_CAPACITY_MIN,
};
use tourbillon_shared::outbox::is_outbox_log2;
use tourbillon_shared::partition::SHARDS_MAX;
use tourbillon_shared::pool::{POOL_PAGES_MAX, pool_bytes, pool_pages_for};
use tourbillon_shared::position::RingShape;
use tourbillon_shared::virtual_actors::{WAITERS_MAX, store_ring_log2};

use crate::choice::{Backend, DeviceSelector};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::keys::KEY_NAMES_DEFAULT;
use crate::memory::{memory_sum, most_actors};
use crate::processing::Processing;
use crate::store::{Clock, Store, StoreConfig};
use crate::wait::WaitStrategy;

/// Slots of a lane's rings unless told otherwise: deep enough that one client keeps a GPU busy over the bus.
pub const RING_CAPACITY_DEFAULT: u32 = 1024;
/// Bytes of each of a lane's two arenas unless told otherwise: one payload of the largest size, and some of a few KiB. 16 lanes then
/// pin 34 MiB.
pub const ARENA_BYTES_DEFAULT: u32 = LARGE_BYTES_MAX as u32 + (64 << 10);
/// Slots of a lane's outbox unless told otherwise: enough for a burst while its reader sleeps for a millisecond. 16 lanes then pin
/// 256 KiB.
pub const OUTBOX_CAPACITY_DEFAULT: u32 = 256;
/// Message ids that a shard remembers unless told otherwise: the most, 68 KiB of device memory a shard.
pub const DEDUP_WINDOW_DEFAULT: u32 = DEDUP_ENTRIES_MAX;
/// Dead letters that an engine keeps unless told otherwise: 128 KiB of device memory.
pub const DEAD_LETTERS_DEFAULT: u32 = 1024;
/// Bytes of each shard's pool unless told otherwise, in an engine whose system has an actor with collections: 948 pages. 256 shards then
/// take 64 MiB.
pub const POOL_BYTES_DEFAULT: u64 = 256 << 10;
/// Most bytes of a shard's pool: those of the most pages that can be numbered.
pub const POOL_BYTES_MAX: u64 = pool_bytes(POOL_PAGES_MAX);
/// Slots of a shard's mailbox unless told otherwise, in an engine whose system has an actor that sends letters: some windows for each
/// warp while its handlers run. 256 shards then take 32 MiB.
pub const MAILBOX_CAPACITY_DEFAULT: u32 = 2048;
/// Slots of a shard's overflow unless told otherwise: as many letters again as its mailbox has room for, so that a burst to one actor is
/// taken up. 256 shards then take 32 MiB.
pub const OVERFLOW_CAPACITY_DEFAULT: u32 = 2048;
/// Lanes of an engine unless told otherwise.
pub const LANES_DEFAULT: u32 = 16;
/// Most threads that the CPU backend takes by itself; more is for the user to say.
pub const CPU_THREADS_DEFAULT_MAX: usize = 4;
/// Messages of one batch unless told otherwise: a caller that sends more at once should use a pipeline, whose replies need not
/// all be held at the same time.
pub(crate) const BATCH_LIMIT_DEFAULT: u32 = 10_000;
/// Shards of a CPU engine unless told otherwise: a few for each thread, so that none waits for another's turn.
pub const CPU_SHARDS_DEFAULT: u32 = 16;
/// Device memory that a GPU engine's default number of actors aims at.
pub const GPU_MEMORY_DEFAULT: u64 = 512 << 20;
/// Memory that a CPU engine's default number of actors aims at; pages that no actor uses are never touched.
pub const CPU_MEMORY_DEFAULT: u64 = 128 << 20;
/// Shards for each block that runs shards, on a GPU: the warps of a block work on different ones.
pub const SHARDS_PER_GPU_BLOCK: u32 = 2;
/// Gate blocks of a GPU engine unless told otherwise.
pub const GPU_GATES_DEFAULT: u32 = 4;
/// Binary logarithm of the ring from a gate to a shard, in slots.
const RING_LOG2: u32 = 8;
/// Warps of a block unless told otherwise, and below which number of multiprocessors fewer are taken.
const GPU_WARPS_DEFAULT: (u32, u32, u32) = (4, 2, 16);

/// How a GPU engine is spread over the chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuGeometry {
    /// Blocks that poll lanes.
    pub gates: u32,
    /// Warps of every block.
    pub warps_per_block: u32,
    /// Blocks in all; one a multiprocessor without.
    pub blocks: Option<u32>,
}

/// Tells an engine what it shall be. Made by [`Engine::builder`].
#[derive(Clone, Debug)]
#[must_use = "an engine is built by `build`"]
pub struct EngineBuilder {
    pub(crate) image: SystemImage,
    pub(crate) backend: Backend,
    pub(crate) device: DeviceSelector,
    pub(crate) wait: WaitStrategy,
    pub(crate) batch_limit: u32,
    pub(crate) is_resident: bool,
    pub(crate) processing: Processing,
    pub(crate) store: StoreConfig,
    pub(crate) key_names: u64,
    shards: Option<u32>,
    ring_capacity: u32,
    lanes: u32,
    arena_bytes: u32,
    outbox_capacity: u32,
    dedup_window: u32,
    dead_letters: u32,
    pool_bytes: Option<u64>,
    mailbox_capacity: u32,
    overflow_capacity: u32,
    actors_per_shard: Option<u32>,
    cpu_threads: Option<u32>,
    gpu: Option<GpuGeometry>,
    first_lap: u32,
}

impl EngineBuilder {
    pub(crate) fn new(image: SystemImage) -> Self {
        Self {
            image,
            backend: Backend::Auto,
            device: DeviceSelector::Index(0),
            wait: WaitStrategy::default(),
            batch_limit: BATCH_LIMIT_DEFAULT,
            is_resident: false,
            processing: Processing::default(),
            store: StoreConfig::default(),
            key_names: KEY_NAMES_DEFAULT,
            shards: None,
            ring_capacity: RING_CAPACITY_DEFAULT,
            lanes: LANES_DEFAULT,
            arena_bytes: ARENA_BYTES_DEFAULT,
            outbox_capacity: OUTBOX_CAPACITY_DEFAULT,
            dedup_window: DEDUP_WINDOW_DEFAULT,
            dead_letters: DEAD_LETTERS_DEFAULT,
            pool_bytes: None,
            mailbox_capacity: MAILBOX_CAPACITY_DEFAULT,
            overflow_capacity: OVERFLOW_CAPACITY_DEFAULT,
            actors_per_shard: None,
            cpu_threads: None,
            gpu: None,
            first_lap: 1,
        }
    }

    /// Which machine; [`Backend::Auto`] without.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// Which GPU; the first without.
    pub fn device(mut self, device: DeviceSelector) -> Self {
        self.device = device;
        self
    }

    /// Shards, 1 to [`SHARDS_MAX`]. Without: on a GPU [`SHARDS_PER_GPU_BLOCK`] for each block that runs shards, else
    /// [`CPU_SHARDS_DEFAULT`].
    pub fn shards(mut self, shards: u32) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Slots of each lane's two rings, a power of two from 16 to 65,536; [`RING_CAPACITY_DEFAULT`] without.
    pub fn ring_capacity(mut self, slots: u32) -> Self {
        self.ring_capacity = slots;
        self
    }

    /// Lanes, and so clients at a time, 1 to [`LANES_MAX`]; [`LANES_DEFAULT`] without.
    pub fn lanes(mut self, lanes: u32) -> Self {
        self.lanes = lanes;
        self
    }

    /// Bytes of each of a lane's two arenas, for payloads of requests and of replies that are larger than a frame: 0 for none, at
    /// most 1 GiB, rounded up to whole lines of 128 bytes; [`ARENA_BYTES_DEFAULT`] without.
    ///
    /// A request takes the larger of its payload and the room for its reply's, and 128 bytes. Both arenas are pinned for a
    /// GPU, and each shard has a buffer of up to 1 MiB in device memory while there are any.
    pub fn arena_bytes(mut self, bytes: u32) -> Self {
        self.arena_bytes = bytes;
        self
    }

    /// Slots of each lane's outbox ([`Client::outbox`](crate::Client::outbox)), a power of two from 32 to 65,536, or 0 for none;
    /// [`OUTBOX_CAPACITY_DEFAULT`] without. A notice of up to 16 bytes takes one slot, a longer one up to 8.
    ///
    /// While there are outboxes, each warp has 46 KiB of device memory for the notices of its running handlers.
    pub fn outbox_capacity(mut self, slots: u32) -> Self {
        self.outbox_capacity = slots;
        self
    }

    /// Ids that each shard remembers of the messages that it handled ([`Options::message_id`](crate::Options::message_id)), 16 to 1,024;
    /// [`DEDUP_WINDOW_DEFAULT`] without. Each takes 66 bytes of device memory.
    pub fn dedup_window(mut self, ids: u32) -> Self {
        self.dedup_window = ids;
        self
    }

    /// Messages that could not be delivered that the engine keeps until [`Engine::dead_letters`] takes them, 16 to 65,536, rounded up to a
    /// power of two; [`DEAD_LETTERS_DEFAULT`] without. Each takes 128 bytes of device memory.
    pub fn dead_letters(mut self, letters: u32) -> Self {
        self.dead_letters = letters;
        self
    }

    /// Bytes of each shard's pool, which the collections in its actors' states share ([`PoolVec`](crate::PoolVec) and others): at most
    /// [`POOL_BYTES_MAX`], 0 for none. Without: [`POOL_BYTES_DEFAULT`] where an actor of the system uses collections, else none.
    ///
    /// A page of 256 bytes takes 276, and a message that changes a page has the old one beside the new one until its batch ends.
    /// While there are pools, each warp has 4 KiB of device memory more; where an actor publishes blocks
    /// ([`BlockRef`](crate::BlockRef)), each page takes 8 bytes more.
    pub fn pool_bytes_per_shard(mut self, bytes: u64) -> Self {
        self.pool_bytes = Some(bytes);
        self
    }

    /// Slots of each shard's mailbox, where letters from other actors lie until they are handled: a power of two from
    /// [`MAILBOX_CAPACITY_MIN`] to 65,536; [`MAILBOX_CAPACITY_DEFAULT`] without. A letter of up to 16 bytes takes one slot, a longer one up
    /// to 8. Half of the slots are for letters, half for the answers to questions that the shard's own actors have asked.
    ///
    /// There are mailboxes where an actor of the system sends letters; each warp then has 50 KiB of device memory for the letters of
    /// its running handlers.
    pub fn mailbox_capacity(mut self, slots: u32) -> Self {
        self.mailbox_capacity = slots;
        self
    }

    /// Slots of each shard's overflow, where letters of its actors wait that found a full mailbox: a power of two from
    /// [`OVERFLOW_CAPACITY_MIN`] to 65,536; [`OVERFLOW_CAPACITY_DEFAULT`] without. When it is full as well, the message whose
    /// handler sends is answered with [`CallError::MailboxFull`](crate::CallError::MailboxFull).
    pub fn overflow_capacity(mut self, slots: u32) -> Self {
        self.overflow_capacity = slots;
        self
    }

    /// Actors of one shard at most. Without: what [`GPU_MEMORY_DEFAULT`] or [`CPU_MEMORY_DEFAULT`] has room for.
    pub fn actors_per_shard(mut self, actors: u32) -> Self {
        self.actors_per_shard = Some(actors);
        self
    }

    /// Where actors go that the device has no room for, or that nobody has asked for in a while, and where they come from: see
    /// [`store`](crate::store). Without, every actor stays for as long as the engine lives, and a shard that is full answers
    /// [`CallError::DirectoryFull`](crate::CallError::DirectoryFull).
    ///
    /// It takes one lane beside those for clients, which are then at most [`LANES_MAX`] less one. Collections of an actor go with
    /// it, unless their elements have collections in them: a system with such an actor cannot have a store.
    pub fn store(mut self, store: Arc<impl Store + 'static>) -> Self {
        self.store.store = Some(store);
        self
    }

    /// After how long without a message an actor goes to the store; [`IDLE_AFTER_DEFAULT`](crate::store::IDLE_AFTER_DEFAULT) without.
    pub fn idle_after(mut self, time: Duration) -> Self {
        self.store.idle_after = time;
        self
    }

    /// How often is looked for actors that were idle for so long; [`IDLE_CHECK_DEFAULT`](crate::store::IDLE_CHECK_DEFAULT) without.
    pub fn idle_check(mut self, period: Duration) -> Self {
        self.store.idle_check = period;
        self
    }

    /// The clock by which actors are idle; that of the machine without.
    pub fn clock(mut self, clock: Arc<impl Clock + 'static>) -> Self {
        self.store.clock = clock;
        self
    }

    /// Messages that may wait in each shard for actors on their way to or from the store, 1 to [`WAITERS_MAX`];
    /// [`WAITERS_DEFAULT`](crate::store::WAITERS_DEFAULT) without. One more is answered with
    /// [`CallError::TooManyWaiters`](crate::CallError::TooManyWaiters). Each has 528 bytes of device memory, where there is a store.
    pub fn waiters(mut self, messages: u32) -> Self {
        self.store.waiters = messages;
        self
    }

    /// Strings and wide ids that the engine may know as keys; [`KEY_NAMES_DEFAULT`] without.
    pub fn key_names(mut self, names: u64) -> Self {
        self.key_names = names;
        self
    }

    /// Threads of the CPU backend, 1 to 8. Without: processors minus one, at least one and at most [`CPU_THREADS_DEFAULT_MAX`].
    pub fn cpu_threads(mut self, threads: u32) -> Self {
        self.cpu_threads = Some(threads);
        self
    }

    /// Most messages of one [`Client::call_many`](crate::Client::call_many), 1 or more; 10,000 without. What is past it is not sent.
    pub fn batch_limit(mut self, messages: u32) -> Self {
        self.batch_limit = messages;
        self
    }

    /// How clients wait; [`WaitStrategy::Park`] without.
    pub fn wait(mut self, strategy: WaitStrategy) -> Self {
        self.wait = strategy;
        self
    }

    /// Whether the engine stays resident, handling nothing, until [`Engine::activate`]; active at once without.
    pub fn resident(mut self, is_resident: bool) -> Self {
        self.is_resident = is_resident;
        self
    }

    /// How a GPU engine, or a simulated one, is spread over the chip; measured defaults without.
    pub fn geometry(mut self, geometry: GpuGeometry) -> Self {
        self.gpu = Some(geometry);
        self
    }

    /// The lap in which lanes begin: for tests of the laps' wrap.
    #[doc(hidden)]
    pub fn first_lap(mut self, lap: u32) -> Self {
        self.first_lap = lap;
        self
    }

    /// Starts the engine.
    ///
    /// # Errors
    /// [`EngineError`]: one variant a cause. Whatever was begun is taken back.
    pub fn build(self) -> Result<Engine, EngineError> {
        Engine::build(self)
    }

    /// The memory that an engine built from this would take, in bytes by purpose: on a GPU of so many multiprocessors, or
    /// on CPU threads for `None`. The sum of [`memory_sum`](crate::Engine::memory_sum), without building anything.
    ///
    /// # Errors
    /// [`EngineError::RingCapacity`], [`EngineError::Geometry`].
    pub fn planned_memory(&self, multiprocessors: Option<u32>) -> Result<Vec<(&'static str, u64)>, EngineError> {
        let geometry = match multiprocessors {
            Some(multiprocessors) => self.gpu_geometry(multiprocessors)?,
            None => self.cpu_geometry()?,
        };
        Ok(memory_sum(&geometry, self.ring_shape()?, self.arena_length()))
    }

    /// Checks what does not depend on a device.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        self.ring_shape()?;
        self.processing.to_command()?;
        let of_store = u32::from(self.store.store.is_some());
        within("lanes", self.lanes, 1, LANES_MAX - of_store)?;
        within("waiters", self.store.waiters, 1, WAITERS_MAX)?;
        within("first_lap", self.first_lap, 1, u32::MAX)?;
        within("arena_bytes", self.arena_bytes, 0, ARENA_BYTES_MAX)?;
        self.outbox_log2()?;
        within("dedup_window", self.dedup_window, DEDUP_ENTRIES_MIN, DEDUP_ENTRIES_MAX)?;
        within("dead_letters", self.dead_letters, DEAD_LETTERS_MIN, DEAD_LETTERS_MAX)?;
        if self.image.has_blocks && self.store.store.is_some() {
            return Err(EngineError::StoreWithBlocks { system: self.image.name });
        }
        self.mailbox_log2()?;
        self.pool_pages()?;
        if self.store.store.is_some() {
            let mut nested = self
                .image
                .kinds
                .iter()
                .filter_map(|kind| Some((kind.name, kind.collections.iter().find(|one| one.is_nested)?)));
            if let Some((actor, collection)) = nested.next() {
                return Err(EngineError::StoreWithNestedCollections { actor, field: collection.field });
            }
        }
        if let Some(shards) = self.shards {
            within("shards", shards, 1, SHARDS_MAX)?;
        }
        if let Some(actors) = self.actors_per_shard {
            within("actors_per_shard", actors, 1, ACTORS_PER_SHARD_MAX)?;
        }
        within("batch_limit", self.batch_limit, 1, u32::MAX)?;
        if let Some(threads) = self.cpu_threads {
            within("cpu_threads", threads, 1, WARPS_PER_BLOCK_MAX)?;
        }
        if let Some(gpu) = self.gpu {
            within("gates", gpu.gates, 1, GATES_MAX)?;
            within("warps_per_block", gpu.warps_per_block, 1, WARPS_PER_BLOCK_MAX)?;
            if let Some(blocks) = gpu.blocks {
                within("blocks", blocks, gpu.gates + 1, BLOCKS_MAX)?;
            }
        }
        #[cfg(feature = "simt")]
        if let Backend::Simt { lanes, .. } = self.backend
            && !matches!(lanes, 4 | 32)
        {
            return Err(EngineError::SimulatedLanes { lanes });
        }
        Ok(())
    }

    pub(crate) fn ring_shape(&self) -> Result<RingShape, EngineError> {
        Ok(RingShape::new(self.ring_capacity)?)
    }

    /// Length of each arena, which was checked.
    pub(crate) fn arena_length(&self) -> u32 {
        self.arena_bytes.next_multiple_of(ARENA_GRANULE)
    }

    /// Binary logarithm of an outbox's capacity; 0 for none.
    fn outbox_log2(&self) -> Result<u32, EngineError> {
        let slots = self.outbox_capacity;
        match slots.checked_ilog2() {
            None => Ok(0),
            Some(log2) if slots.is_power_of_two() && log2 != 0 && is_outbox_log2(log2) => Ok(log2),
            Some(_) => Err(EngineError::OutboxCapacity { slots }),
        }
    }

    /// Binary logarithms of the capacities of a shard's mailbox and of its overflow; zeros where no actor sends.
    fn mailbox_log2(&self) -> Result<(u32, u32), EngineError> {
        let check = |figure, slots: u32, least, most| {
            within(figure, slots, least, most)?;
            match slots.is_power_of_two() {
                true => Ok(slots.trailing_zeros()),
                false => Err(EngineError::NotPowerOfTwo { figure, slots }),
            }
        };
        let mailbox = check("mailbox_capacity", self.mailbox_capacity, MAILBOX_CAPACITY_MIN, MAILBOX_CAPACITY_MAX)?;
        let overflow =
            check("overflow_capacity", self.overflow_capacity, OVERFLOW_CAPACITY_MIN, OVERFLOW_CAPACITY_MAX)?;
        Ok(if self.image.has_letters { (mailbox, overflow) } else { (0, 0) })
    }

    /// Pages of a shard's pool.
    fn pool_pages(&self) -> Result<u32, EngineError> {
        let default = if self.image.has_pools { POOL_BYTES_DEFAULT } else { 0 };
        let bytes = self.pool_bytes.unwrap_or(default);
        match u32::try_from(pool_pages_for(bytes)) {
            Ok(0) if bytes != 0 => Err(EngineError::PoolBytes { bytes, least: pool_bytes(1), most: POOL_BYTES_MAX }),
            Ok(pages) if bytes <= POOL_BYTES_MAX => Ok(pages),
            _ => Err(EngineError::PoolBytes { bytes, least: pool_bytes(1), most: POOL_BYTES_MAX }),
        }
    }

    /// Position at which every lane begins.
    pub(crate) fn first_position(&self) -> Result<u64, EngineError> {
        Ok(self.ring_shape()?.position_of_lap(self.first_lap))
    }

    /// The geometry on a GPU of so many multiprocessors.
    pub(crate) fn gpu_geometry(&self, multiprocessors: u32) -> Result<Geometry, EngineError> {
        let (many, few, threshold) = GPU_WARPS_DEFAULT;
        let warps_per_block = if multiprocessors < threshold { few } else { many };
        // A small chip keeps most of its blocks for shards.
        let gates = GPU_GATES_DEFAULT.min(multiprocessors / 4).max(1);
        let gpu = self.gpu.unwrap_or(GpuGeometry { gates, warps_per_block, blocks: None });
        let blocks = gpu.blocks.unwrap_or(multiprocessors);
        let shards = blocks.saturating_sub(gpu.gates).saturating_mul(SHARDS_PER_GPU_BLOCK).clamp(1, SHARDS_MAX);
        self.finish(
            Geometry { blocks, gates: gpu.gates, warps_per_block: gpu.warps_per_block, combined: 0, ..EMPTY },
            shards,
            GPU_MEMORY_DEFAULT,
        )
    }

    /// The geometry on CPU threads.
    pub(crate) fn cpu_geometry(&self) -> Result<Geometry, EngineError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.cpu_threads.unwrap_or(cores.saturating_sub(1).clamp(1, CPU_THREADS_DEFAULT_MAX) as u32);
        self.finish(
            Geometry { blocks: 1, gates: 1, warps_per_block: threads, combined: 1, ..EMPTY },
            CPU_SHARDS_DEFAULT,
            CPU_MEMORY_DEFAULT,
        )
    }

    /// The geometry of simulated warps: that of a GPU if one was given, else a gate block and two shard blocks of two warps each.
    #[cfg(feature = "simt")]
    pub(crate) fn simt_geometry(&self) -> Result<Geometry, EngineError> {
        let gpu = self.gpu.unwrap_or(GpuGeometry { gates: 1, warps_per_block: 2, blocks: None });
        let blocks = gpu.blocks.unwrap_or(gpu.gates + 2);
        let base = Geometry { blocks, gates: gpu.gates, warps_per_block: gpu.warps_per_block, combined: 0, ..EMPTY };
        self.finish(base, 4, 8 << 20)
    }

    fn finish(&self, base: Geometry, shards: u32, memory: u64) -> Result<Geometry, EngineError> {
        self.check()?;
        let mut geometry = Geometry {
            shards: self.shards.unwrap_or(shards),
            lanes: self.lanes + u32::from(self.store.store.is_some()),
            ring_log2: RING_LOG2,
            entry_stride: self.image.entry_stride,
            outbox_log2: self.outbox_log2()?,
            dedup_entries: self.dedup_window,
            dead_letters_log2: self.dead_letters.next_power_of_two().trailing_zeros(),
            ..base
        };
        if self.store.store.is_some() {
            (geometry.waiters, geometry.store_log2) = (self.store.waiters, store_ring_log2(geometry.shards));
        }
        geometry.actors_per_shard = self.actors_per_shard.unwrap_or_else(|| most_actors(&geometry, memory));
        geometry.directory_log2 = Geometry::directory_log2_for(geometry.actors_per_shard);
        // Beside what the default number of actors aims at.
        geometry.landing_bytes = Geometry::landing_bytes_for(self.arena_length());
        geometry.pool_pages = self.pool_pages()?;
        geometry.published_pages = if self.image.has_blocks { geometry.pool_pages } else { 0 };
        (geometry.mailbox_log2, geometry.overflow_log2) = self.mailbox_log2()?;
        geometry.check()?;
        Ok(geometry)
    }
}

const EMPTY: Geometry = Geometry {
    blocks: 0,
    gates: 0,
    warps_per_block: 0,
    combined: 0,
    shards: 0,
    lanes: 0,
    ring_log2: 0,
    actors_per_shard: 0,
    entry_stride: 0,
    directory_log2: 0,
    landing_bytes: 0,
    outbox_log2: 0,
    waiters: 0,
    store_log2: 0,
    dedup_entries: 0,
    dead_letters_log2: 0,
    pool_pages: 0,
    published_pages: 0,
    mailbox_log2: 0,
    overflow_log2: 0,
};

fn within(figure: &'static str, value: u32, least: u32, most: u32) -> Result<(), GeometryError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(GeometryError { figure, value: value.into(), least: least.into(), most: most.into() })
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
