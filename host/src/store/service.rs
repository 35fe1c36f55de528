//! The thread that stands between the device and a store.
//!
//! It reads the requests of all shards in order, calls the store, and answers with orders in a lane of its own. It never waits for a shard
//! but for room in that lane, which shards give without waiting for it; so neither can hold up the other for ever.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tourbillon_device::Kind;
use tourbillon_shared::frame::{FRAME_WORDS_MAX, PAYLOAD_BYTES_MAX, decode_payload, slots_for};
use tourbillon_shared::geometry::EntryHeader;
use tourbillon_shared::header::{Flags, Header};
use tourbillon_shared::hlc;
use tourbillon_shared::outbox::read_frame;
use tourbillon_shared::partition::{even_table, hash, partition_of};
use tourbillon_shared::position::RingShape;
use tourbillon_shared::virtual_actors::{Ask, ENTRY_WORD, ORDER_KIND, Order, PIECE_NUMBER, kind_of, space_of};

use super::collections::{CollectionsError, Page, decode, empty_handles, encode};
use super::pieces::{Gathering, cut};
use super::{Clock, Counted, Store, StoreConfig, StoreError, StoredActor};
use crate::error::EngineError;
use crate::keys::{ActorKey, Key};
use crate::lane::Lane;
use crate::lane_end::LaneEnd;
use crate::shared::Shared;

/// How long the thread looks without a pause after it had something to do: longer than a shard takes from an answer to its next request.
const SPIN_TIME: Duration = Duration::from_micros(50);
/// How long it then gives way between two looks, ...
const YIELD_TIME: Duration = Duration::from_micros(500);
/// ... before it sleeps between them, so long at first ...
const SLEEP_FIRST: Duration = Duration::from_micros(50);
/// ... and so long at most: how late a request can be seen.
const SLEEP_MAX: Duration = Duration::from_millis(1);
/// Bytes in front of the entry in a payload.
const FRONT_BYTES: usize = ENTRY_WORD as usize * 4;

/// What the engine asks of its store's thread.
#[derive(Debug)]
pub(crate) enum Command {
    /// Evict so many actors; the sender is told when all shards know.
    Evict(u64, Sender<()>),
}

/// The thread, which ends when the engine has, or when this is dropped.
#[derive(Debug)]
pub(crate) struct StoreService {
    counted: Arc<Counted>,
    commands: Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

impl StoreService {
    /// Starts the thread, which holds `lane`.
    pub(crate) fn start(
        shared: &Arc<Shared>,
        lane: Arc<Lane>,
        store: Arc<dyn Store>,
        config: &StoreConfig,
    ) -> Result<Self, EngineError> {
        let Some(shape) = lane.constants().outbox_shape() else { return Err(EngineError::NoOutboxes) };
        let (commands, orders) = channel();
        let counted = Arc::new(Counted::default());
        let mut server = Server {
            position: lane.constants().first_outbox_position(),
            shape,
            routes: routes(shared.geometry.shards),
            pending: VecDeque::new(),
            end: LaneEnd::new(Arc::clone(&lane), shared.doorbell.clone()),
            lane,
            shared: Arc::clone(shared),
            store,
            counted: Arc::clone(&counted),
            commands: orders,
            gatherings: HashMap::new(),
            sweeps: Sweeps::new(config),
        };
        let thread = std::thread::Builder::new()
            .name("tourbillon-store".into())
            .spawn(move || server.serve())
            .map_err(|source| EngineError::Io { what: "starting the store's thread", source })?;
        Ok(Self { counted, commands, thread: Some(thread) })
    }

    pub(crate) fn counted(&self) -> &Counted {
        &self.counted
    }

    /// Hands a command over; whether the thread is there to take it.
    pub(crate) fn command(&self, command: Command) -> bool {
        self.commands.send(command).is_ok()
    }

    /// Waits for the thread, which ends with its engine.
    pub(crate) fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic of it was printed by the hook.
            let _ = thread.join();
        }
    }
}

/// A key for each shard under which orders come to it.
fn routes(shards: u32) -> Vec<u64> {
    let table = even_table(shards);
    let mut routes = vec![None; shards as usize];
    let mut left = shards;
    // Keys are dealt out evenly, so this ends after some thousand.
    for key in 0u64.. {
        let shard = usize::from(table[partition_of(hash(ORDER_KIND, key))]);
        if let Some(route) = routes.get_mut(shard)
            && route.is_none()
        {
            *route = Some(key);
            left -= 1;
            if left == 0 {
                break;
            }
        }
    }
    routes.into_iter().flatten().collect()
}

/// When to look for idle actors.
struct Sweeps {
    clock: Arc<dyn Clock>,
    idle_after: Duration,
    check: Duration,
    last: SystemTime,
}

impl Sweeps {
    fn new(config: &StoreConfig) -> Self {
        let last = config.clock.now();
        Self { clock: Arc::clone(&config.clock), idle_after: config.idle_after, check: config.idle_check, last }
    }

    /// The timestamp before which an actor is idle, when it is time to look.
    fn due(&mut self) -> Option<u64> {
        let now = self.clock.now();
        // A clock that was set back begins anew.
        let Ok(elapsed) = now.duration_since(self.last) else {
            self.last = now;
            return None;
        };
        if elapsed < self.check {
            return None;
        }
        self.last = now;
        let since_epoch = now.checked_sub(self.idle_after)?.duration_since(UNIX_EPOCH).ok()?;
        Some(hlc::physical_from_unix_ns(u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// See the module's documentation.
struct Server {
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    end: LaneEnd,
    /// Orders that are not answered: position and slots.
    pending: VecDeque<(u64, u32)>,
    /// The next request, and the shape of their ring.
    position: u64,
    shape: RingShape,
    routes: Vec<u64>,
    store: Arc<dyn Store>,
    counted: Arc<Counted>,
    commands: Receiver<Command>,
    sweeps: Sweeps,
    /// Actors whose pages are on their way here, by shard and place of the request: no more than shards have requests.
    gatherings: HashMap<(u32, u32), Gathering>,
}

impl Server {
    fn serve(&mut self) {
        let mut idle_since = Instant::now();
        let mut sleep = SLEEP_FIRST;
        while !self.shared.status.is_ended() {
            if self.look() {
                idle_since = Instant::now();
                sleep = SLEEP_FIRST;
                continue;
            }
            let idle = idle_since.elapsed();
            if idle < SPIN_TIME {
                std::hint::spin_loop();
            } else if idle < YIELD_TIME {
                std::thread::yield_now();
            } else {
                std::thread::sleep(sleep);
                sleep = (sleep * 2).min(SLEEP_MAX);
            }
        }
    }

    /// Does what there is to do; whether there was anything.
    fn look(&mut self) -> bool {
        self.settle();
        let mut found = false;
        let mut words = [0; FRAME_WORDS_MAX];
        while let Some((header, span)) = read_frame(&self.lane.outbox_ring(), self.shape, self.position, &mut words) {
            self.position = self.position.wrapping_add(span.into());
            self.answer(&header, &words);
            found = true;
            if self.shared.status.is_ended() {
                return true;
            }
        }
        match self.commands.try_recv() {
            Ok(Command::Evict(count, done)) => {
                self.evict(count);
                // Whoever asked may have gone.
                let _ = done.send(());
                found = true;
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
        }
        if let Some(before) = self.sweeps.due() {
            self.counted.sweeps.fetch_add(1, Ordering::Relaxed);
            for shard in 0..self.routes.len() {
                self.order(shard as u32, [Order::Sweep as u32, 0, before as u32, (before >> 32) as u32], &[]);
            }
            found = true;
        }
        found
    }

    /// Answers a request of a shard.
    fn answer(&mut self, header: &Header, words: &[u32; FRAME_WORDS_MAX]) {
        let mut payload = [0; PAYLOAD_BYTES_MAX];
        let length = decode_payload(header, words, &mut payload);
        let word = |index: usize| {
            let bytes = payload.get(index * 4..index * 4 + 4).and_then(|bytes| bytes.try_into().ok());
            u32::from_le_bytes(bytes.unwrap_or_default())
        };
        let (shard, place, number, mark) = (word(0), word(1), word(2), word(3));
        let behind = payload.get(FRONT_BYTES..length).unwrap_or_default();
        let answer = |order: Order, word: u32| [order as u32, place, number, word];
        match Ask::from_number(header.message) {
            Some(Ask::Evict) if mark != 0 => {
                self.gatherings.insert((shard, place), Gathering::new(number, behind));
                self.order(shard, answer(Order::More, 0), &[]);
            }
            Some(Ask::Evict) => {
                let order = self.keep(header, Ok(Gathering::new(number, behind)));
                self.order(shard, answer(order, 0), &[]);
            }
            Some(Ask::Piece) => {
                let (order, last) = self.gather(header, (shard, place), number, mark, behind);
                self.order(shard, answer(order, last), &[]);
            }
            Some(Ask::Fetch) => self.fetch(header, shard, answer),
            Some(Ask::Nothing) => self.order(shard, answer(Order::NoRoom, 0), &[]),
            None => self.order(shard, answer(Order::FetchFailed, 0), &[]),
        }
    }

    /// Takes a piece of an actor that leaves: the order that answers it, and its last word.
    fn gather(&mut self, header: &Header, at: (u32, u32), number: u32, mark: u32, chunks: &[u8]) -> (Order, u32) {
        let kind = self.kind_of(header);
        let gathering = self.gatherings.get_mut(&at).filter(|gathering| gathering.number == number);
        let added = match (gathering, kind) {
            (Some(gathering), Some(kind)) => gathering.add(&kind, mark, chunks),
            _ => Err(CollectionsError::Damaged { actor: "an actor", what: "a piece came of what was not begun" }),
        };
        if added == Ok(false) {
            return (Order::More, mark & PIECE_NUMBER);
        }
        let gathered = self.gatherings.remove(&at);
        (self.keep(header, added.map(|_| gathered.unwrap_or_else(|| Gathering::new(number, &[])))), 0)
    }

    /// Brings an actor to a shard, and what is in its collections behind it.
    fn fetch(&mut self, header: &Header, shard: u32, answer: impl Fn(Order, u32) -> [u32; ENTRY_WORD as usize]) {
        let mut brought = Brought::default();
        let order = self.bring(header, &mut brought);
        self.order(shard, answer(order, brought.pages_needed), &brought.entry);
        for (mark, chunks) in cut(&brought.pages) {
            self.order(shard, answer(Order::Piece, mark), &chunks);
        }
    }

    /// The kind of the actor that a request is about.
    fn kind_of(&self, header: &Header) -> Option<Kind> {
        let number = kind_of(header.kind);
        self.shared.image.kinds.iter().find(|known| known.number == number).copied()
    }

    /// The actor that a request is about: its kind and key; nothing where the engine has no such kind, or the key no name.
    fn subject(&self, header: &Header) -> Option<(Kind, ActorKey)> {
        let kind = self.kind_of(header)?;
        let key = self.shared.names.name_of(Key::in_space(space_of(header.kind), header.key))?;
        Some((kind, key))
    }

    /// Has the store keep what has come of an actor.
    fn keep(&self, header: &Header, gathered: Result<Gathering, CollectionsError>) -> Order {
        let kept =
            self.subject(header).ok_or_else(|| StoreError::from("the key has no name")).and_then(|(kind, key)| {
                let gathered = gathered?;
                let (head, state) = gathered.entry.split_at_checked(size_of::<EntryHeader>()).unwrap_or_default();
                let head: EntryHeader = bytemuck::try_pod_read_unaligned(head).unwrap_or_default();
                let mut state = state.get(..kind.state_bytes).unwrap_or_default().to_vec();
                let collections = encode(&kind, &state, &gathered.pages)?;
                empty_handles(&kind, &mut state);
                let actor = StoredActor {
                    kind: kind.number,
                    key,
                    version: head.version,
                    hlc: head.hlc,
                    schema_version: kind.schema,
                    layout_hash: kind.layout,
                    state,
                    collections,
                };
                guarded(|| self.store.evict(&actor))
            });
        match kept {
            Ok(()) => {
                count(&self.counted.kept);
                Order::Evicted
            }
            Err(error) => {
                tracing::warn!(device = %self.shared.device_name, %error, "the store did not keep an actor, which stays");
                count(&self.counted.keep_failures);
                Order::EvictFailed
            }
        }
    }

    /// Puts what the store has of the actor into `brought`.
    fn bring(&self, header: &Header, brought: &mut Brought) -> Order {
        let fetched =
            self.subject(header).ok_or_else(|| StoreError::from("the key has no name")).and_then(|(kind, key)| {
                let Some(mut actor) = guarded(|| self.store.fetch(kind.number, &key))? else { return Ok(None) };
                let (schema, layout) = (actor.schema_version, actor.layout_hash);
                // The user's `upgrade` runs here.
                let state = guarded(|| Ok(self.shared.image.adopt(kind.number, schema, layout, &actor.state)?))?;
                actor.state = state;
                // Whatever the store or `upgrade` says, it leads to no page.
                empty_handles(&kind, &mut actor.state);
                (brought.pages, brought.pages_needed) = decode(&kind, &actor.collections)?;
                Ok(Some(actor))
            });
        match fetched {
            Ok(Some(actor)) => {
                count(&self.counted.fetched);
                // An actor without a timestamp is one that has handled nothing.
                let head = EntryHeader { hlc: actor.hlc.max(1), version: actor.version };
                brought.entry.extend_from_slice(bytemuck::bytes_of(&head));
                brought.entry.extend_from_slice(&actor.state);
                Order::Fetched
            }
            Ok(None) => {
                count(&self.counted.unknown);
                Order::Unknown
            }
            Err(error) => {
                tracing::warn!(device = %self.shared.device_name, %error, "the store did not bring an actor");
                count(&self.counted.fetch_failures);
                Order::FetchFailed
            }
        }
    }

    /// Tells every shard its share of evictions.
    fn evict(&mut self, count: u64) {
        let shards = self.routes.len() as u64;
        for shard in 0..shards {
            let share = count / shards + u64::from(shard < count % shards);
            let share = u32::try_from(share).unwrap_or(u32::MAX);
            if share != 0 {
                self.order(shard as u32, [Order::Evict as u32, 0, share, 0], &[]);
            }
        }
    }

    /// Gives an order to a shard; waits for room, unless the engine ends.
    fn order(&mut self, shard: u32, front: [u32; ENTRY_WORD as usize], entry: &[u8]) {
        let Some(&key) = self.routes.get(shard as usize) else { return };
        let mut payload = [0; PAYLOAD_BYTES_MAX];
        let length = FRONT_BYTES + entry.len();
        for (to, word) in payload.chunks_exact_mut(4).zip(front) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        if let Some(to) = payload.get_mut(FRONT_BYTES..length) {
            to.copy_from_slice(entry);
        }
        let span = slots_for(0, length);
        while !self.end.has_room(span) {
            if self.shared.status.is_ended() {
                return;
            }
            std::thread::yield_now();
            self.settle();
        }
        let position = self.end.tail();
        let flags = Flags::new(span, 0);
        // An order has the oldest timestamp there is: a gate must not refuse it when the host's clock has stepped, for the shard waits for it.
        let header = Header { key, kind: ORDER_KIND, length: length as u16, flags, hlc: 1, ..Header::default() };
        self.end.publish(header, payload.get(..length).unwrap_or_default());
        self.pending.push_back((position, span));
    }

    /// Frees what was answered.
    fn settle(&mut self) {
        while let Some(&(position, span)) = self.pending.front() {
            if !self.end.is_answered(position, span) {
                return;
            }
            self.pending.pop_front();
            self.end.free_to(position.wrapping_add(span.into()));
        }
    }
}

/// An actor that the store has brought.
#[derive(Default)]
struct Brought {
    entry: Vec<u8>,
    pages: Vec<Page>,
    /// Pages of the pool that these take.
    pages_needed: u32,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Calls the store; a panic is an error.
fn guarded<T>(call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    // What a store leaves half done when it panics is its own; nothing of the engine is touched in between.
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| Err("the store panicked".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn every_shard_has_a_route() {
        for shards in [1, 3, 256, 1024] {
            let routes = routes(shards);
            assert_eq!(routes.len(), shards as usize);
            let table = even_table(shards);
            for (shard, key) in routes.iter().enumerate() {
                assert_eq!(usize::from(table[partition_of(hash(ORDER_KIND, *key))]), shard);
            }
        }
    }

    struct Hands(Mutex<SystemTime>);

    impl Clock for Hands {
        fn now(&self) -> SystemTime {
            *self.0.lock().unwrap()
        }
    }

    #[test]
    fn sweeps_go_by_the_clock_that_they_were_given() {
        let start = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let hands = Arc::new(Hands(Mutex::new(start)));
        let config = StoreConfig {
            clock: Arc::clone(&hands) as Arc<dyn Clock>,
            idle_after: Duration::from_secs(100),
            idle_check: Duration::from_secs(10),
            ..StoreConfig::default()
        };
        let mut sweeps = Sweeps::new(&config);
        let mut set = |seconds: u64| {
            *hands.0.lock().unwrap() = start + Duration::from_secs(seconds);
            sweeps.due()
        };
        let before = |seconds: u64| Some(hlc::physical_from_unix_ns((1_800_000_000 - 100 + seconds) * 1_000_000_000));
        assert_eq!((set(0), set(9)), (None, None));
        assert_eq!(set(10), before(10));
        assert_eq!(set(19), None);
        assert_eq!(set(1_000), before(1_000));
        // Set back, it begins anew.
        assert_eq!((set(500), set(509), set(510)), (None, None, before(510)));
    }

    #[test]
    fn a_store_that_panics_has_failed() {
        let error = guarded::<()>(|| panic!("the store's")).unwrap_err();
        assert!(error.to_string().contains("panicked"));
        assert!(guarded(|| Ok(1)).is_ok());
    }
}
