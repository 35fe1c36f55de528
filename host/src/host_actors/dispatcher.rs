//! From the outbox to handlers, and from there to those that wait.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tourbillon_shared::error::FailureCode;
use tourbillon_shared::frame::slots_for;
use tourbillon_shared::header::{Flags, Header};
use tourbillon_shared::hlc::{LOGICAL_BITS, physical_from_unix_ns};
use tourbillon_shared::host_actors::{ANSWER, DUTY_WORDS, Duty, HANDED_HEAD_WORDS, WAITS};
use tourbillon_shared::mutant;
use tourbillon_shared::virtual_actors::kind_of;

use super::HostActorCounts;
use super::context::HostContext;
use super::handlers::{AnyState, Ended, ServedKind};
use crate::client::Client;
use crate::outbox::{Outbox, OutboxError, Received};
use crate::telemetry::unix_ns;

/// How long the reader waits for the next message, before it looks whether it shall end, and which deadlines have passed.
const READ_PERIOD: Duration = Duration::from_millis(5);
/// How long nothing may come, after the device knows that nobody serves, until what was on its way then has come: far longer than a notice
/// takes between its reservation and its slots.
const QUIET_PERIOD: Duration = Duration::from_millis(20);
/// Pause before an answer is sent again for which there was no room.
const RETRY_PERIOD: Duration = Duration::from_micros(100);
/// How long an answer is sent again for want of room: mailboxes that stay full for so long are those of actors that do nothing.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Kind word and key of an actor.
type Who = (u16, u64);

/// What was chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) queue: usize,
    pub(super) ask_time: Duration,
}

/// A message that was handed over.
#[derive(Debug)]
struct Handed {
    /// Its number in the table of duties; 0 where nobody waits.
    id: u64,
    message: u8,
    hlc: u64,
    deadline: u64,
    bytes: Vec<u8>,
}

/// A duty that nobody has done yet.
#[derive(Clone, Copy, Debug)]
struct Open {
    duty: Duty,
    who: Who,
    message: u8,
    deadline: u64,
}

/// An actor.
#[derive(Default)]
struct Place {
    /// Its state; none before the first message, while a thread runs it, and after a panic.
    state: Option<AnyState>,
    mail: VecDeque<Handed>,
    /// Whether a thread runs it, or will when it comes to it.
    is_taken: bool,
}

#[derive(Default)]
struct Queues {
    actors: HashMap<Who, Place>,
    /// Actors that have mail and are run by nobody.
    ready: VecDeque<Who>,
    /// Messages that no handler was run for yet.
    waiting: usize,
    open: HashMap<u64, Open>,
    /// Those of the open ones that have a deadline.
    deadlines: BTreeSet<(u64, u64)>,
    last_id: u64,
    is_ending: bool,
}

impl Queues {
    /// Takes the duty of a message, if nobody has.
    fn claim(&mut self, id: u64) -> Option<Open> {
        let open = if mutant!("host_answers_twice") { self.open.get(&id).copied() } else { self.open.remove(&id) }?;
        self.deadlines.remove(&(open.deadline, id));
        Some(open)
    }
}

#[derive(Debug, Default)]
struct Counts {
    received: AtomicU64,
    handled: AtomicU64,
    failed: AtomicU64,
    panicked: AtomicU64,
    refused: AtomicU64,
    expired: AtomicU64,
    late: AtomicU64,
    unsent: AtomicU64,
    tells_failed: AtomicU64,
    dropped: AtomicU64,
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// See the module's documentation.
pub(super) struct Dispatcher {
    /// Whose lane the outbox is; it alone may answer.
    client: Mutex<Client>,
    kinds: HashMap<u16, ServedKind>,
    limits: Limits,
    queues: Mutex<Queues>,
    /// There is an actor to be run, or this ends.
    work: Condvar,
    /// A message less waits, or this ends.
    room: Condvar,
    counts: Counts,
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatcher").field("kinds", &self.kinds).field("counts", &self.counts).finish_non_exhaustive()
    }
}

/// Now, as a timestamp.
fn now() -> u64 {
    physical_from_unix_ns(unix_ns())
}

impl Dispatcher {
    pub(super) fn new(client: Client, kinds: HashMap<u16, ServedKind>, limits: Limits) -> Self {
        Self {
            client: Mutex::new(client),
            kinds,
            limits,
            queues: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
            counts: Counts::default(),
        }
    }

    /// No user code runs under the lock, and every step leaves the queues whole.
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn counts(&self) -> HostActorCounts {
        let (waiting, counts) = (self.queues().waiting as u64, &self.counts);
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HostActorCounts {
            received: of(&counts.received),
            handled: of(&counts.handled),
            failed: of(&counts.failed),
            panicked: of(&counts.panicked),
            refused: of(&counts.refused),
            expired: of(&counts.expired),
            late: of(&counts.late),
            unsent: of(&counts.unsent),
            tells_failed: of(&counts.tells_failed),
            dropped: of(&counts.dropped),
            waiting,
        }
    }

    /// Reads what is handed over until it is told to end, and then all that was on its way. The outbox is no longer open for more when
    /// this returns it.
    pub(super) fn read(&self, mut outbox: Outbox) -> Outbox {
        while self.has_room() {
            match outbox.next_timeout(self.until_deadline()) {
                Ok(received) => self.take(&received),
                Err(OutboxError::Timeout { .. }) => {}
                Err(OutboxError::EngineStopped { .. }) => {
                    self.end();
                    return outbox;
                }
            }
            self.expire();
        }
        outbox.refuse_more();
        while let Ok(received) = outbox.next_timeout(QUIET_PERIOD) {
            self.take(&received);
        }
        outbox
    }

    /// Waits until there is room for one message more; whether this goes on.
    fn has_room(&self) -> bool {
        let mut queues = self.queues();
        while !queues.is_ending && queues.waiting >= self.limits.queue && !mutant!("host_queue_unbounded") {
            // Deadlines pass meanwhile.
            let (again, timeout) = self.room.wait_timeout(queues, READ_PERIOD).unwrap_or_else(PoisonError::into_inner);
            queues = again;
            if timeout.timed_out() {
                drop(queues);
                self.expire();
                queues = self.queues();
            }
        }
        !queues.is_ending
    }

    /// How long to wait for a message: until the next deadline, but not for long.
    fn until_deadline(&self) -> Duration {
        let next = self.queues().deadlines.first().map(|(deadline, _)| deadline.saturating_sub(now()) >> LOGICAL_BITS);
        next.map_or(READ_PERIOD, |microseconds| READ_PERIOD.min(Duration::from_micros(microseconds)))
    }

    /// Puts a message in line.
    fn take(&self, received: &Received) {
        count(&self.counts.received, 1);
        let payload = received.payload();
        let Some((head, bytes)) = payload.split_at_checked(4 * HANDED_HEAD_WORDS) else {
            count(&self.counts.refused, 1);
            return;
        };
        let mut words = [0; HANDED_HEAD_WORDS];
        for (word, bytes) in words.iter_mut().zip(head.chunks_exact(4)) {
            *word = bytes.try_into().map_or(0, u32::from_le_bytes);
        }
        let [duty @ .., low, high] = words;
        const { assert!(HANDED_HEAD_WORDS == DUTY_WORDS + 2) };
        let (duty, deadline) = (Duty::decode(&duty), u64::from(low) | u64::from(high) << 32);
        let (who, message) = ((received.kind_word(), received.key()), received.number() as u8);
        let mut queues = self.queues();
        let id = if received.number() & WAITS == 0 {
            0
        } else {
            queues.last_id += 1;
            let id = queues.last_id;
            queues.open.insert(id, Open { duty, who, message, deadline });
            if deadline != 0 {
                queues.deadlines.insert((deadline, id));
            }
            id
        };
        queues.waiting += 1;
        let place = queues.actors.entry(who).or_default();
        place.mail.push_back(Handed { id, message, hlc: received.hlc(), deadline, bytes: bytes.to_vec() });
        if !std::mem::replace(&mut place.is_taken, true) || mutant!("host_actors_run_twice_at_once") {
            queues.ready.push_back(who);
            self.work.notify_one();
        }
    }

    /// Answers what is past its deadline.
    fn expire(&self) {
        let now = now();
        loop {
            let mut queues = self.queues();
            let due = queues.deadlines.first().copied().filter(|(deadline, _)| *deadline < now);
            if mutant!("host_deadlines_forgotten") {
                return;
            }
            let Some((_, id)) = due else { return };
            let open = queues.claim(id);
            drop(queues);
            if let Some(open) = open {
                count(&self.counts.expired, 1);
                self.answer(&open, &Ended::failed(FailureCode::DeadlinePassed));
            }
        }
    }

    /// Runs actors until this ends.
    pub(super) fn work(&self, mut client: Client) {
        let mut queues = self.queues();
        loop {
            if queues.is_ending {
                return;
            }
            let Some(who) = queues.ready.pop_front() else {
                queues = self.work.wait(queues).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let Some(place) = queues.actors.get_mut(&who) else { continue };
            let (mut state, handed) = (place.state.take(), place.mail.pop_front());
            queues.waiting -= usize::from(handed.is_some());
            drop(queues);
            self.room.notify_one();
            if let Some(handed) = &handed {
                self.run(&mut client, who, &mut state, handed);
            }
            queues = self.queues();
            let Some(place) = queues.actors.get_mut(&who) else { continue };
            place.state = state;
            if !place.mail.is_empty() {
                // Behind the others.
                queues.ready.push_back(who);
                self.work.notify_one();
            } else if place.state.is_none() {
                queues.actors.remove(&who);
            } else {
                place.is_taken = false;
            }
        }
    }

    /// Runs the handler of a message, and answers it.
    fn run(&self, client: &mut Client, who: Who, state: &mut Option<AnyState>, handed: &Handed) {
        let waits = handed.id != 0;
        if waits && !self.queues().open.contains_key(&handed.id) {
            // Its deadline has passed, and it is answered.
            return;
        }
        if !waits && handed.deadline != 0 && handed.deadline < now() {
            count(&self.counts.expired, 1);
            return;
        }
        let ended = self.handle(client, who, state, handed);
        if !waits {
            return;
        }
        let open = self.queues().claim(handed.id);
        match open {
            Some(open) => self.answer(&open, &ended),
            None => count(&self.counts.late, 1),
        }
    }

    fn handle(&self, client: &mut Client, who: Who, state: &mut Option<AnyState>, handed: &Handed) -> Ended {
        let refused = |code| {
            count(&self.counts.refused, 1);
            Ended::failed(code)
        };
        let Some(kind) = self.kinds.get(&kind_of(who.0)) else {
            tracing::warn!(kind = kind_of(who.0), "a message came to a host actor of a kind that nobody serves");
            return refused(FailureCode::HostAbsent);
        };
        let Some(handler) = kind.handlers.get(&handed.message) else { return refused(FailureCode::UnknownMessage) };
        let key = Received::key_of(who.0, who.1);
        let failed_before = client.counts().tells_failed;
        let mut context = HostContext::new(client, who.0, key, handed.hlc, handed.id != 0, self.limits.ask_time);
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let state = state.get_or_insert_with(|| (kind.begin)(key));
            handler(state, &handed.bytes, &mut context)
        }));
        let (has_told, retires) = (context.has_told, context.retires);
        if has_told {
            // Another thread may run this actor next, by another lane: what it tells then must not come before this.
            if client.flush(self.limits.ask_time).is_err() {
                tracing::warn!(kind = kind.name, "what a host actor told was not acknowledged in time");
            }
            count(&self.counts.tells_failed, client.counts().tells_failed - failed_before);
        }
        if (ended.is_err() || retires) && catch_unwind(AssertUnwindSafe(|| *state = None)).is_err() {
            tracing::warn!(kind = kind.name, "the state of a host actor panicked when it was dropped");
        }
        let Ok(ended) = ended else {
            count(&self.counts.panicked, 1);
            return Ended::failed(FailureCode::Panicked);
        };
        let counter = match ended.code {
            0 => &self.counts.handled,
            code if code == FailureCode::Handler as u32 => &self.counts.failed,
            _ => &self.counts.refused,
        };
        count(counter, 1);
        ended
    }

    /// Sends an answer; again while there is no room for it.
    fn answer(&self, open: &Open, ended: &Ended) {
        let words = open.duty.encode().into_iter().chain([ended.code, open.message.into()]);
        let payload: Vec<u8> = words.flat_map(u32::to_le_bytes).chain(ended.bytes.iter().copied()).collect();
        let header = Header {
            key: open.who.1,
            kind: open.who.0,
            message: ANSWER,
            hops: 0,
            length: payload.len() as u16,
            flags: Flags::new(slots_for(0, payload.len()), 0),
            hint: 0,
            hlc: 0,
        };
        let began = Instant::now();
        loop {
            let replied = self.client.lock().unwrap_or_else(PoisonError::into_inner).call_raw(header, &payload);
            let code = match replied {
                Ok((header, _)) if !header.flags.has(Flags::FAILED) => return,
                Ok((_, reply)) => {
                    let word = reply.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
                    FailureCode::from_word(word)
                }
                Err(_) => None,
            };
            if code != Some(FailureCode::MailboxFull) || began.elapsed() >= ANSWER_TIME_MAX {
                count(&self.counts.unsent, 1);
                tracing::warn!(
                    kind = kind_of(open.who.0),
                    key = open.who.1,
                    ?code,
                    "the answer of a host actor could not be sent"
                );
                return;
            }
            std::thread::sleep(RETRY_PERIOD);
        }
    }

    /// Has threads end when they are done with what they do.
    pub(super) fn end(&self) {
        self.queues().is_ending = true;
        self.work.notify_all();
        self.room.notify_all();
    }

    /// Answers all that nobody has answered, for nobody will; counts what is thrown away.
    pub(super) fn answer_rest(&self) {
        let mut queues = self.queues();
        let rest = std::mem::take(&mut queues.open);
        queues.deadlines.clear();
        let mails = queues.actors.values().flat_map(|place| &place.mail);
        let dropped = mails.filter(|handed| handed.id == 0).count() as u64;
        queues.actors.clear();
        (queues.waiting, queues.ready) = (0, VecDeque::new());
        drop(queues);
        if dropped > 0 {
            count(&self.counts.dropped, dropped);
            tracing::warn!(dropped, "host actors ended with messages in line that nobody waits for");
        }
        for open in rest.values() {
            if !mutant!("host_end_unanswered") {
                self.answer(open, &Ended::failed(FailureCode::HostEnded));
            }
        }
    }
}
