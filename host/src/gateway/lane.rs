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

use super::copying::{Copies, Copying, Large, LargePart, Read};
use super::counts::{GatewayCounts, GatewayUsage};
use super::flights::{Flights, Whose};
use super::spin::Expected;
use super::waiters::{Failure, NEVER, State, Waiters};
use crate::arena::{Blocks, frame_payload, reference_in};
use crate::backpressure::Backpressure;
use crate::lane::Lane;
use crate::lane_end::{LaneEnd, header_in};
use crate::port::Pending;
use crate::staging::{Admission, Leave, Staging};

/// Wakers to be called, and such to be dropped, when no lock is held; large payloads too are freed then.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    due: Few,
    done: Few,
    payloads: Vec<Vec<u8>>,
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
    /// Frees a payload when no lock is held.
    pub(super) fn free(&mut self, payload: Vec<u8>) {
        if payload.capacity() > 0 {
            self.payloads.push(payload);
        }
    }

    /// Calls the ones and drops the others.
    pub(super) fn wake_all(&mut self) {
        for waker in self.due.drain() {
            // A waker that panics must not take the other tasks' replies with it; its panic was printed by the hook.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
        self.done.drain().for_each(drop);
        self.payloads.clear();
    }
}

/// A request as its future hands it over.
#[derive(Debug)]
pub(super) struct Request<'r> {
    pub(super) header: Header,
    pub(super) payload: &'r [u8],
    pub(super) timeout: Option<Duration>,
    /// What goes by way of the arena; its lengths were checked.
    pub(super) large: Option<LargePart>,
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
    pub(super) waiters: Waiters,
    /// Places of those whose requests are not published, in order.
    pub(super) staging: Staging<u32>,
    pub(super) copying: Copying,
    strategy: Backpressure,
    pub(super) counts: GatewayCounts,
    is_closed: bool,
}

impl LaneState {
    pub(super) fn new(end: LaneEnd, blocks: Blocks, strategy: Backpressure, bound: u32, waiting: u32) -> Self {
        Self {
            flights: Flights::new(end.lane().capacity()),
            end,
            waiters: Waiters::new(waiting),
            staging: Staging::new(bound),
            copying: Copying::new(blocks),
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
            in_flight: self.flights.in_flight() as u64 + u64::from(self.copying.reading()),
            copying: self.copying.under_way().into(),
            arena_free: self.copying.blocks.free_bytes().into(),
            arena_bytes: self.copying.blocks.bytes().into(),
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

    /// Publishes a request if there is room and nobody is before it; else stages it, or does what the strategy says. One with a large
    /// payload is always staged, for its payload has to be copied first.
    pub(super) fn begin(&mut self, request: Request<'_>, now: u64, waker: &Waker, wakes: &mut Wakes) -> Begun {
        if self.is_closed {
            return Begun::Failed(Failure::Closed);
        }
        let Request { header, payload, timeout, large } = request;
        let span = header.flags.span();
        let is_tell = header.flags.has(Flags::TELL);
        let is_first = self.staging.is_empty()
            || mutant!("gateway_overtakes")
            || (mutant!("gateway_large_overtaken") && self.is_front_unwritten());
        let has_room = is_first && large.is_none() && self.end.has_room(span);
        if has_room && is_tell {
            self.publish(header, payload, Whose::Tell);
            return Begun::Published;
        }
        let Some(index) = self.waiters.take() else {
            self.counts.too_many += 1;
            wakes.free(large.map(|part| part.payload).unwrap_or_default());
            return Begun::Failed(Failure::TooMany(self.waiters.limit()));
        };
        let state = if has_room {
            Ok(State::Flying(self.publish(header, payload, Whose::Waiter(index))))
        } else {
            self.waiters.get_mut(index).large =
                large.map_or(Large::Nothing, |part| Large::Unwritten { part, has_waited: false });
            self.stage(index, header, payload, now, wakes)
        };
        self.waiters.get_mut(index).state = state.unwrap_or_else(State::Failed);
        if let Err(failure) = state {
            self.release(index, wakes);
            return Begun::Failed(failure);
        }
        let waiter = self.waiters.get_mut(index);
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
        self.flights.push(position, header.flags.span(), whose, None)
    }

    /// Whether what is published next has no block yet.
    fn is_front_unwritten(&self) -> bool {
        self.staging.front().is_some_and(|index| !self.waiters.get(*index).large.is_ready())
    }

    /// Takes a place back, with what is in it.
    fn release(&mut self, index: u32, wakes: &mut Wakes) {
        self.drop_large(index, wakes);
        wakes.done.put(self.waiters.give(index));
    }

    /// Ends the wait in a place and wakes its future.
    pub(super) fn finish(&mut self, index: u32, state: State, wakes: &mut Wakes) {
        if let State::Failed(_) = state {
            self.drop_large(index, wakes);
        }
        self.waiters.set_deadline(index, NEVER);
        let waiter = self.waiters.get_mut(index);
        waiter.state = state;
        wakes.due.put(waiter.waker.take());
    }

    /// What became of the request in a place: its reply's words and large payload through `read`, or why there is none; for a tell that
    /// was published `read` gets nothing. The place is free afterwards. Nothing while it waits; then `waker` is called later.
    pub(super) fn poll<T>(
        &mut self,
        index: u32,
        waker: &Waker,
        wakes: &mut Wakes,
        read: impl FnOnce(&[u32], Option<Vec<u8>>) -> T,
    ) -> Option<Result<T, Failure>> {
        let waiter = self.waiters.get_mut(index);
        let state = waiter.state;
        match state {
            State::Answered | State::Published | State::Failed(_) => {}
            State::Free | State::Staged(_) | State::Flying(_) | State::Reading(_) => {
                if !waiter.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
                    wakes.done.put(waiter.waker.replace(waker.clone()));
                }
                return None;
            }
        }
        let payload = match std::mem::take(&mut waiter.large) {
            Large::Reply(payload) => Some(payload),
            _ => None,
        };
        wakes.done.put(self.waiters.give(index));
        Some(match state {
            State::Failed(failure) => Err(failure),
            State::Published => Ok(read(&[], None)),
            _ => Ok(read(&self.waiters.get(index).words, payload)),
        })
    }

    /// Where the reply to the request in a place will be, if that is published and unanswered. Its task runs, so it is not to be woken
    /// until it polls again.
    pub(super) fn expect(&mut self, index: u32, wakes: &mut Wakes) -> Option<Expected> {
        let State::Flying(number) = self.waiters.get(index).state else { return None };
        let (position, span) = self.flights.place(number)?;
        wakes.done.put(self.waiters.get_mut(index).waker.take());
        Some(Expected { lane: self.end.shared_lane(), position, span })
    }

    /// The future of a place is gone.
    pub(super) fn cancel(&mut self, index: u32, wakes: &mut Wakes) {
        match self.waiters.get(index).state {
            State::Staged(ticket) if !mutant!("gateway_staged_after_drop") => {
                self.staging.remove(ticket, Leave::Withdrawn);
            }
            State::Flying(number) => self.abandon(number),
            // Whoever reads its reply finds that nobody waits for it.
            State::Reading(_) => self.counts.abandoned += 1,
            State::Answered if mutant!("gateway_place_lost") => return,
            State::Free | State::Staged(_) | State::Answered | State::Published | State::Failed(_) => {}
        }
        self.release(index, wakes);
    }

    fn abandon(&mut self, number: u64) {
        let block = self.flights.abandon(number);
        if mutant!("gateway_block_freed_early")
            && let Some(block) = block.and_then(Option::take)
        {
            self.copying.blocks.give_back(block);
        }
        self.counts.abandoned += 1;
    }

    /// Takes the replies that have come, of up to `most` flights; whether there were any. Large ones are in `copies` then.
    pub(super) fn look(&mut self, most: usize, copies: &mut Copies, wakes: &mut Wakes) -> bool {
        let Self { end, flights, waiters, counts, copying, .. } = self;
        // What is published from now on reads the clock again.
        end.forget_clock();
        let landed = flights.look(end, most, |end, flight| {
            let header = match flight.whose {
                Whose::Waiter(index) => {
                    if flight.block.is_some() && copies.is_full() {
                        return false;
                    }
                    let waiter = waiters.get_mut(index);
                    if !end.copy_reply(flight.position, flight.span, &mut waiter.words) {
                        return false;
                    }
                    let header = header_in(&waiter.words);
                    let reference = reference_in(&header, &waiter.words);
                    match (flight.block.take(), reference, waiter.state) {
                        (Some(block), Some(reference), State::Flying(number)) => {
                            waiter.state = State::Reading(number);
                            copying.begin_read();
                            copies.read(Read { index, number, block, reference });
                        }
                        (block, ..) => {
                            // A failure, or small.
                            if let Some(block) = block {
                                copying.blocks.give_back(block);
                            }
                            waiter.state = State::Answered;
                            if !mutant!("gateway_wake_lost") {
                                wakes.due.put(waiter.waker.take());
                            }
                            counts.answered += 1;
                        }
                    }
                    waiters.set_deadline(index, NEVER);
                    header
                }
                Whose::Nobody | Whose::Tell => {
                    if !end.is_answered(flight.position, flight.span) {
                        return false;
                    }
                    let Some(first) = end.reply_slot(flight.position) else { return false };
                    let header = header_in(&first);
                    if let Some(block) = flight.block.take() {
                        copying.blocks.give_back(block);
                    }
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

    /// Publishes what is staged, oldest first, as far as there is room and payloads are in their blocks; whether there was.
    pub(super) fn publish_staged(&mut self, wakes: &mut Wakes) -> bool {
        let mut has_published = false;
        while let Some(index) = self.staging.front().copied() {
            let waiter = self.waiters.get_mut(index);
            let header = waiter.header;
            if !self.end.has_room(header.flags.span()) || !waiter.large.is_ready() {
                break;
            }
            let block = match std::mem::take(&mut waiter.large) {
                Large::Written(block) => Some(block),
                _ => None,
            };
            self.staging.pop();
            has_published = true;
            if self.flights.length() == 0 {
                self.end.forget_clock();
            }
            let position = self.end.tail();
            match &block {
                Some(block) => self.end.publish(header, &frame_payload(block, waiter.payload())),
                None => self.end.publish(header, waiter.payload()),
            }
            if header.flags.has(Flags::TELL) {
                self.flights.push(position, header.flags.span(), Whose::Tell, block);
                self.finish(index, State::Published, wakes);
            } else {
                let number = self.flights.push(position, header.flags.span(), Whose::Waiter(index), block);
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
                State::Free | State::Reading(_) | State::Answered | State::Published | State::Failed(_) => continue,
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

    /// Accepts nothing any longer and ends all waits; nothing if that was done before, or while something is copied
    /// ([`LaneState::finish_copies`]).
    pub(super) fn close(&mut self, wakes: &mut Wakes) -> Option<VecDeque<Pending>> {
        if std::mem::replace(&mut self.is_closed, true) {
            return None;
        }
        let pending = self.end_all(Failure::Closed, wakes);
        self.copying.leave(pending)
    }
}

/// The moment `timeout` after `now`, in nanoseconds.
fn after(now: u64, timeout: Duration) -> u64 {
    u64::try_from(timeout.as_nanos()).map_or(NEVER, |timeout| now.saturating_add(timeout))
}
