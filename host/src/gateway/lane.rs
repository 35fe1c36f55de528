//! One lane of a gateway: everything below its lock.
//!
//! Nothing here waits, calls a waker or drops one: wakers are handed out in [`Wakes`], for when the lock is free again. A
//! waker runs code of others, which may come back for the lock.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::Duration;

use tourbillon_shared::header::{Flags, Header};
use tourbillon_shared::mutant;

use super::counts::{GatewayCounts, GatewayUsage};
use super::flights::{Flights, Whose};
use super::waiters::{Failure, NEVER, State, Waiters};
use crate::backpressure::Backpressure;
use crate::lane::Lane;
use crate::lane_end::{LaneEnd, header_in};
use crate::port::Pending;
use crate::staging::{Admission, Leave, Staging};

/// Wakers to be called, and such to be dropped, when no lock is held.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    due: Few,
    done: Few,
}

/// A task's own step has one waker of each sort at most, for which nothing is allocated; the reaper has many, and keeps the memory.
#[derive(Debug, Default)]
struct Few {
    one: Option<Waker>,
    more: Vec<Waker>,
}

impl Few {
    fn put(&mut self, waker: Option<Waker>) {
        match (&mut self.one, waker) {
            (_, None) => {}
            (one @ None, waker) => *one = waker,
            (Some(_), Some(waker)) => self.more.push(waker),
        }
    }

    fn drain(&mut self) -> impl Iterator<Item = Waker> {
        self.one.take().into_iter().chain(self.more.drain(..))
    }
}

impl Wakes {
    /// Calls the ones and drops the others.
    pub(super) fn wake_all(&mut self) {
        for waker in self.due.drain() {
            // A waker that panics must not take the other tasks' replies with it; its panic was printed by the hook.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
        self.done.drain().for_each(drop);
    }
}

/// A request as its future hands it over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'r> {
    pub(super) header: Header,
    pub(super) payload: &'r [u8],
    pub(super) timeout: Option<Duration>,
}

/// How a request began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// It waits in this place.
    Waiting(u32),
    /// A tell that is published.
    Published,
    Failed(Failure),
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct LaneState {
    end: LaneEnd,
    flights: Flights,
    waiters: Waiters,
    /// Places of those whose requests are not published, in order.
    staging: Staging<u32>,
    strategy: Backpressure,
    counts: GatewayCounts,
    is_closed: bool,
}

impl LaneState {
    pub(super) fn new(end: LaneEnd, strategy: Backpressure, bound: u32, waiting: u32) -> Self {
        Self {
            flights: Flights::new(end.lane().capacity()),
            end,
            waiters: Waiters::new(waiting),
            staging: Staging::new(bound),
            strategy,
            counts: GatewayCounts::default(),
            is_closed: false,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub(super) fn lane(&self) -> &Lane {
        self.end.lane()
    }

    pub(super) fn counts(&self) -> GatewayCounts {
        GatewayCounts { sent: self.end.sent(), staging: self.staging.counts(), ..self.counts }
    }

    pub(super) fn usage(&self) -> GatewayUsage {
        GatewayUsage {
            waiting: self.waiters.in_use().into(),
            pooled: self.waiters.pooled().into(),
            staged: self.staging.staged().into(),
            blocked: self.staging.blocked().into(),
            in_flight: self.flights.in_flight() as u64,
            free_slots: self.end.free_slots(),
            slots: self.end.lane().capacity().into(),
        }
    }

    /// Whether there is nothing to look after.
    pub(super) fn is_idle(&self) -> bool {
        self.flights.length() == 0 && self.staging.is_empty()
    }

    /// Flights that a whole look goes through.
    pub(super) fn flights(&self) -> usize {
        self.flights.length()
    }

    /// Publishes a request if there is room and nobody is before it; else stages it, or does what the strategy says.
    pub(super) fn begin(&mut self, request: &Request<'_>, now: u64, waker: &Waker, wakes: &mut Wakes) -> Begun {
        if self.is_closed {
            return Begun::Failed(Failure::Closed);
        }
        let Request { header, payload, timeout } = *request;
        let span = header.flags.span();
        let is_tell = header.flags.has(Flags::TELL);
        let is_first = self.staging.is_empty() || mutant!("gateway_overtakes");
        let has_room = is_first && self.end.has_room(span);
        if has_room && is_tell {
            self.publish(header, payload, Whose::Tell);
            return Begun::Published;
        }
        let Some(index) = self.waiters.take() else {
            self.counts.too_many += 1;
            return Begun::Failed(Failure::TooMany(self.waiters.limit()));
        };
        let state = if has_room {
            Ok(State::Flying(self.publish(header, payload, Whose::Waiter(index))))
        } else {
            self.stage(index, header, payload, now, wakes)
        };
        let waiter = self.waiters.get_mut(index);
        waiter.state = state.unwrap_or_else(State::Failed);
        if let Err(failure) = state {
            wakes.done.put(self.waiters.give(index));
            return Begun::Failed(failure);
        }
        waiter.waker = Some(waker.clone());
        waiter.timeout = timeout.unwrap_or_default();
        if let Some(timeout) = timeout {
            self.waiters.set_deadline(index, after(now, timeout));
        }
        Begun::Waiting(index)
    }

    /// Puts the request of a place into the staging queue.
    fn stage(
        &mut self,
        index: u32,
        header: Header,
        payload: &[u8],
        now: u64,
        wakes: &mut Wakes,
    ) -> Result<State, Failure> {
        let waiter = self.waiters.get_mut(index);
        waiter.keep(header, payload);
        waiter.block_until = match self.strategy {
            Backpressure::Block { timeout } => after(now, timeout),
            Backpressure::Reject | Backpressure::DropOldest | Backpressure::DropNewest => NEVER,
        };
        match self.staging.admit(index, self.strategy) {
            Admission::Queued(ticket) => Ok(State::Staged(ticket)),
            Admission::Replaced(ticket, oldest) => {
                self.finish(oldest, State::Failed(Failure::Dropped), wakes);
                Ok(State::Staged(ticket))
            }
            Admission::Rejected(_) => Err(Failure::Rejected),
            Admission::DroppedNewest(_) => Err(Failure::DroppedNewest),
        }
    }

    /// Publishes a request for which there is room; the number of its flight.
    fn publish(&mut self, header: Header, payload: &[u8], whose: Whose) -> u64 {
        if self.flights.length() == 0 {
            self.end.forget_clock();
        }
        let position = self.end.tail();
        self.end.publish(header, payload);
        self.flights.push(position, header.flags.span(), whose)
    }

    /// Ends the wait in a place and wakes its future.
    fn finish(&mut self, index: u32, state: State, wakes: &mut Wakes) {
        self.waiters.set_deadline(index, NEVER);
        let waiter = self.waiters.get_mut(index);
        waiter.state = state;
        wakes.due.put(waiter.waker.take());
    }

    /// What became of the request in a place: its reply through `read`, or why there is none; for a tell that was published `read` gets
    /// nothing. The place is free afterwards. Nothing while it waits; then `waker` is called later.
    pub(super) fn poll<T>(
        &mut self,
        index: u32,
        waker: &Waker,
        wakes: &mut Wakes,
        read: impl FnOnce(&[u32]) -> T,
    ) -> Option<Result<T, Failure>> {
        let waiter = self.waiters.get_mut(index);
        let state = waiter.state;
        match state {
            State::Answered | State::Published | State::Failed(_) => {}
            State::Free | State::Staged(_) | State::Flying(_) => {
                if !waiter.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
                    wakes.done.put(waiter.waker.replace(waker.clone()));
                }
                return None;
            }
        }
        wakes.done.put(self.waiters.give(index));
        Some(match state {
            State::Failed(failure) => Err(failure),
            State::Published => Ok(read(&[])),
            _ => Ok(read(&self.waiters.get(index).words)),
        })
    }

    /// The future of a place is gone.
    pub(super) fn cancel(&mut self, index: u32, wakes: &mut Wakes) {
        match self.waiters.get(index).state {
            State::Staged(ticket) if !mutant!("gateway_staged_after_drop") => {
                self.staging.remove(ticket, Leave::Withdrawn);
            }
            State::Flying(number) => self.abandon(number),
            State::Answered if mutant!("gateway_place_lost") => return,
            State::Free | State::Staged(_) | State::Answered | State::Published | State::Failed(_) => {}
        }
        wakes.done.put(self.waiters.give(index));
    }

    fn abandon(&mut self, number: u64) {
        self.flights.abandon(number);
        self.counts.abandoned += 1;
    }

    /// Takes the replies that have come, of up to `most` flights; whether there were any.
    pub(super) fn look(&mut self, most: usize, wakes: &mut Wakes) -> bool {
        let Self { end, flights, waiters, counts, .. } = self;
        // What is published from now on reads the clock again.
        end.forget_clock();
        let landed = flights.look(end, most, |end, flight| {
            let header = match flight.whose {
                Whose::Waiter(index) => {
                    let waiter = waiters.get_mut(index);
                    if !end.copy_reply(flight.position, flight.span, &mut waiter.words) {
                        return false;
                    }
                    waiter.state = State::Answered;
                    if !mutant!("gateway_wake_lost") {
                        wakes.due.put(waiter.waker.take());
                    }
                    let header = header_in(&waiter.words);
                    waiters.set_deadline(index, NEVER);
                    counts.answered += 1;
                    header
                }
                Whose::Nobody | Whose::Tell => {
                    if !end.is_answered(flight.position, flight.span) {
                        return false;
                    }
                    let Some(first) = end.reply_slot(flight.position) else { return false };
                    let header = header_in(&first);
                    match (flight.whose, header.flags.has(Flags::FAILED)) {
                        (Whose::Tell, false) => counts.tells_done += 1,
                        (Whose::Tell, true) => counts.tells_failed += 1,
                        _ if mutant!("gateway_late_uncounted") => {}
                        _ => counts.late += 1,
                    }
                    header
                }
            };
            end.merge(header.hlc);
            true
        });
        landed > 0
    }

    /// Publishes what is staged, oldest first, as far as there is room; whether there was.
    pub(super) fn publish_staged(&mut self, wakes: &mut Wakes) -> bool {
        let mut has_published = false;
        while let Some(index) = self.staging.front().copied() {
            let waiter = self.waiters.get(index);
            let header = waiter.header;
            if !self.end.has_room(header.flags.span()) {
                break;
            }
            self.staging.pop();
            has_published = true;
            if self.flights.length() == 0 {
                self.end.forget_clock();
            }
            let position = self.end.tail();
            self.end.publish(header, waiter.payload());
            if header.flags.has(Flags::TELL) {
                self.flights.push(position, header.flags.span(), Whose::Tell);
                self.finish(index, State::Published, wakes);
            } else {
                let number = self.flights.push(position, header.flags.span(), Whose::Waiter(index));
                self.waiters.get_mut(index).state = State::Flying(number);
            }
        }
        has_published
    }

    /// Ends the waits whose time is over; whether there were any.
    pub(super) fn expire(&mut self, now: u64, wakes: &mut Wakes) -> bool {
        let mut has_expired = false;
        // All have waited equally long when their time is over, so the one in front is the first.
        while let Some((ticket, &index)) = self.staging.front_blocked()
            && self.waiters.get(index).block_until <= now
        {
            self.staging.remove(ticket, Leave::Timeout);
            let after = match self.strategy {
                Backpressure::Block { timeout } => timeout,
                _ => Duration::ZERO,
            };
            self.finish(index, State::Failed(Failure::Timeout(after)), wakes);
            has_expired = true;
        }
        if !self.waiters.is_due(now) {
            return has_expired;
        }
        let mut from = 0;
        while let Some(index) = self.waiters.due_from(from, now) {
            from = index + 1;
            let waiter = self.waiters.get(index);
            let timeout = waiter.timeout;
            match waiter.state {
                State::Staged(ticket) => drop(self.staging.remove(ticket, Leave::Withdrawn)),
                State::Flying(number) => self.abandon(number),
                State::Free | State::Answered | State::Published | State::Failed(_) => continue,
            }
            self.finish(index, State::Failed(Failure::Timeout(timeout)), wakes);
            has_expired = true;
        }
        self.waiters.find_earliest();
        has_expired
    }

    /// Ends the waits of all whose requests are not published.
    pub(super) fn end_staged(&mut self, failure: Failure, wakes: &mut Wakes) {
        if mutant!("gateway_staged_outlive_the_engine") {
            return;
        }
        while let Some(index) = self.staging.end_next() {
            self.finish(index, State::Failed(failure), wakes);
        }
    }

    /// Ends all waits; what is unanswered, for whoever watches the lane from now on.
    pub(super) fn end_all(&mut self, failure: Failure, wakes: &mut Wakes) -> VecDeque<Pending> {
        self.end_staged(failure, wakes);
        let Self { flights, waiters, counts, .. } = self;
        flights.clear(|flight| {
            counts.stopped += 1;
            if let Whose::Waiter(index) = flight.whose {
                let waiter = waiters.get_mut(index);
                waiter.state = State::Failed(failure);
                wakes.due.put(waiter.waker.take());
                waiters.set_deadline(index, NEVER);
            }
        })
    }

    /// Accepts nothing any longer and ends all waits; nothing if that was done before.
    pub(super) fn close(&mut self, wakes: &mut Wakes) -> Option<VecDeque<Pending>> {
        if std::mem::replace(&mut self.is_closed, true) {
            return None;
        }
        Some(self.end_all(Failure::Closed, wakes))
    }
}

/// The moment `timeout` after `now`, in nanoseconds.
fn after(now: u64, timeout: Duration) -> u64 {
    u64::try_from(timeout.as_nanos()).map_or(NEVER, |timeout| now.saturating_add(timeout))
}
