//! Actors that live on the host: kinds of a system whose handlers are ordinary code of this process.
//!
//! ```
//! use tourbillon::{Backend, Engine, HostContext, NoError, Plain, host_actor, system};
//!
//! /// Adds a line; the reply is how many there are.
//! #[repr(C)]
//! #[derive(Clone, Copy, Plain)]
//! pub struct Append(pub u64);
//!
//! host_actor!(
//!     /// A log, which the host keeps.
//!     pub struct Log { kind: 1030, error: NoError, messages: { 0: Append => u64 } }
//! );
//! system! { pub struct Logs = [Log]; }
//!
//! let engine = Engine::builder_for(Logs::image()).backend(Backend::Cpu).build()?;
//! let hosts = engine.host_actors().serve::<Log, Vec<u64>>(
//!     |_key| Vec::new(),
//!     |log| {
//!         log.on(|lines: &mut Vec<u64>, append: &Append, _: &mut HostContext<'_>| {
//!             lines.push(append.0);
//!             Ok(lines.len() as u64)
//!         });
//!     },
//! );
//! let hosts = hosts.start()?;
//! let mut client = engine.client()?;
//! assert_eq!(client.call(7, Append(3))?, 1);
//! assert_eq!(client.call(7, Append(4))?, 2);
//! drop(hosts);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it works
//! The protocol is in [`tourbillon_shared::host_actors`]. One thread reads what shards hand over, in order, and sorts it by actor; others
//! run handlers, each actor's on one of them at a time. What is handed over is bounded by the outbox and by
//! [`queue`](HostActorsBuilder::queue): behind that, messages fail with `HostBusy`, and no shard waits. Each duty to answer stands in a
//! table until it is answered, by the handler, by its deadline, or by the end of all this, whichever is first; the others find it gone.
//!
//! `docs/host-actors.md` has examples and bounds.

mod context;
mod dispatcher;
mod error;
mod handlers;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tourbillon_device::{Actor, HostActor};

pub use self::context::{HostAskError, HostContext};
use self::dispatcher::{Dispatcher, Limits};
pub use self::error::HostActorsError;
pub use self::handlers::HostHandlers;
use self::handlers::ServedKind;
use crate::client::Client;
use crate::error::EngineError;
use crate::keys::Key;
use crate::outbox::{Outbox, OutboxPolicy};
use crate::shared::Shared;
use crate::wait::WaitStrategy;

/// Threads that run handlers, unless told otherwise: one that waits does not hold up all actors.
pub const HOST_THREADS_DEFAULT: u32 = 2;
/// Most threads that run handlers: each has a lane.
pub const HOST_THREADS_MAX: u32 = 64;
/// Messages that wait on the host, unless told otherwise: some 2 MB at most.
pub const HOST_QUEUE_DEFAULT: u32 = 4_096;
/// Most messages that may wait on the host: half a GB at most.
pub const HOST_QUEUE_MAX: u32 = 1 << 20;
/// How long a question of a handler waits for its answer, unless told otherwise: short enough that two actors that wait for each other
/// go on soon.
pub const HOST_ASK_TIME_DEFAULT: Duration = Duration::from_secs(5);
/// How long the end waits for handlers that run.
pub const HOST_END_TIME_MAX: Duration = Duration::from_secs(5);
/// Pause between two looks at whether they have ended.
const LOOK_PERIOD: Duration = Duration::from_micros(200);

/// What serves host actors is told before it starts. Made by [`Engine::host_actors`](crate::Engine::host_actors).
#[derive(Debug)]
#[must_use = "nothing is served before `start`"]
pub struct HostActorsBuilder {
    shared: Arc<Shared>,
    wait: WaitStrategy,
    batch_limit: u32,
    kinds: HashMap<u16, ServedKind>,
    twice: Option<&'static str>,
    threads: u32,
    queue: u32,
    ask_time: Duration,
}

impl HostActorsBuilder {
    pub(crate) fn new(shared: Arc<Shared>, wait: WaitStrategy, batch_limit: u32) -> Self {
        Self {
            shared,
            wait,
            batch_limit,
            kinds: HashMap::new(),
            twice: None,
            threads: HOST_THREADS_DEFAULT,
            queue: HOST_QUEUE_DEFAULT,
            ask_time: HOST_ASK_TIME_DEFAULT,
        }
    }

    /// Serves the actors of the kind `A`: `begin` makes the state of one before its first message, and again after a handler panicked or
    /// [retired](HostContext::retire) it; `handlers` says what handles its messages.
    pub fn serve<A: HostActor, S: Send + 'static>(
        mut self,
        begin: impl Fn(Key) -> S + Send + Sync + 'static,
        handlers: impl FnOnce(&mut HostHandlers<A, S>),
    ) -> Self {
        let mut served = HostHandlers::<A, S>::new(begin);
        handlers(&mut served);
        if self.kinds.insert(<A as Actor>::KIND, served.into_kind()).is_some() {
            self.twice = Some(A::NAME);
        }
        self
    }

    /// Threads that run handlers, 1 to [`HOST_THREADS_MAX`]; [`HOST_THREADS_DEFAULT`] unless told otherwise. Each takes one of the engine's
    /// lanes, and one more is taken besides.
    pub fn threads(mut self, threads: u32) -> Self {
        self.threads = threads;
        self
    }

    /// Messages that may wait on the host, 1 to [`HOST_QUEUE_MAX`]; [`HOST_QUEUE_DEFAULT`] unless told otherwise. Behind them as many
    /// wait as the lane's outbox holds, and what comes then fails with `HostBusy`.
    pub fn queue(mut self, messages: u32) -> Self {
        self.queue = messages;
        self
    }

    /// How long [`HostContext::ask`] waits; [`HOST_ASK_TIME_DEFAULT`] unless told otherwise.
    pub fn ask_time(mut self, most: Duration) -> Self {
        self.ask_time = most;
        self
    }

    /// Begins to serve: messages to these kinds are handled from now on, until the handle is dropped.
    ///
    /// # Errors
    /// [`HostActorsError`]; nothing is served then.
    pub fn start(self) -> Result<HostActors, HostActorsError> {
        let image = &self.shared.image;
        if let Some(name) = self.twice {
            return Err(HostActorsError::Twice { name });
        }
        for (&kind, served) in &self.kinds {
            if !image.kinds.iter().any(|known| known.number == kind) {
                return Err(HostActorsError::NoSuchKind { system: image.name, kind, name: served.name });
            }
        }
        EngineError::check_bounds("`threads` of host actors", self.threads, 1, HOST_THREADS_MAX)?;
        EngineError::check_bounds("`queue` of host actors", self.queue, 1, HOST_QUEUE_MAX)?;
        let serving = Serving::begin(&self.shared)?;
        let connect = || Client::connect(&self.shared, self.wait, self.batch_limit);
        let clients = (0..self.threads).map(|_| connect()).collect::<Result<Vec<_>, _>>()?;
        let mut client = connect()?;
        // It answers: an engine that is paused is waited for, one that stops ends the wait.
        client.set_timeout(None);
        client.answer_only();
        let outbox = Outbox::open_for_hosts(&client, OutboxPolicy::Refuse, self.wait)?;
        let limits = Limits { queue: self.queue as usize, ask_time: self.ask_time };
        let dispatcher = Arc::new(Dispatcher::new(client, self.kinds, limits));
        let mut hosts = HostActors { dispatcher, reader: None, workers: Vec::new(), _serving: serving };
        // What was started so far ends with the handle.
        let reader = Arc::clone(&hosts.dispatcher);
        let spawned = std::thread::Builder::new().name("tb-hosts".to_owned()).spawn(move || reader.read(outbox));
        hosts.reader = Some(spawned.map_err(no_thread)?);
        for (number, client) in clients.into_iter().enumerate() {
            let worker = Arc::clone(&hosts.dispatcher);
            let spawned =
                std::thread::Builder::new().name(format!("tb-host-{number}")).spawn(move || worker.work(client));
            hosts.workers.push(spawned.map_err(no_thread)?);
        }
        Ok(hosts)
    }
}

fn no_thread(source: std::io::Error) -> EngineError {
    EngineError::Io { what: "starting a thread", source }
}

/// That host actors of an engine are served, by one at a time.
#[derive(Debug)]
struct Serving(Arc<Shared>);

impl Serving {
    fn begin(shared: &Arc<Shared>) -> Result<Self, HostActorsError> {
        match shared.serves_hosts.swap(true, Ordering::Acquire) {
            true => Err(HostActorsError::Served),
            false => Ok(Self(Arc::clone(shared))),
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Release pairs with the Acquire of the next one's swap: the outbox of this one is closed.
        self.0.serves_hosts.store(false, Ordering::Release);
    }
}

/// What became of messages to host actors, since they are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostActorCounts {
    /// Messages that were handed over.
    pub received: u64,
    /// Messages whose handler succeeded.
    pub handled: u64,
    /// Messages whose handler returned its typed error.
    pub failed: u64,
    /// Messages whose handler panicked.
    pub panicked: u64,
    /// Messages that no handler was run for, because their kind is not served, has no handler for them, or they are no value.
    pub refused: u64,
    /// Messages that were past their deadline before a handler was done with them.
    pub expired: u64,
    /// Answers that handlers gave when nobody waited for them any longer.
    pub late: u64,
    /// Answers that could not be sent.
    pub unsent: u64,
    /// Messages that handlers sent and that failed.
    pub tells_failed: u64,
    /// Messages to which nobody waited for an answer and which were not handled, because all this ended.
    pub dropped: u64,
    /// Messages that wait now.
    pub waiting: u64,
}

/// Host actors that are served. Dropping it ends that: handlers that run are waited for, for
/// [`HOST_END_TIME_MAX`] at most; who waits for answers to other messages gets `HostEnded`, and messages that come later fail with
/// `HostAbsent`.
#[derive(Debug)]
pub struct HostActors {
    dispatcher: Arc<Dispatcher>,
    reader: Option<JoinHandle<Outbox>>,
    workers: Vec<JoinHandle<()>>,
    _serving: Serving,
}

impl HostActors {
    /// What became of messages so far.
    pub fn counts(&self) -> HostActorCounts {
        self.dispatcher.counts()
    }
}

impl Drop for HostActors {
    fn drop(&mut self) {
        self.dispatcher.end();
        // Its outbox is closed when nothing is answered any more.
        let outbox = self.reader.take().map(JoinHandle::join);
        let began = Instant::now();
        while self.workers.iter().any(|worker| !worker.is_finished()) && began.elapsed() < HOST_END_TIME_MAX {
            std::thread::sleep(LOOK_PERIOD);
        }
        let stuck = self.workers.iter().filter(|worker| !worker.is_finished()).count();
        if stuck > 0 {
            tracing::warn!(stuck, "handlers of host actors still run; their threads are left behind");
        }
        self.dispatcher.answer_rest();
        drop(outbox);
    }
}
