//! An outbox as a stream.
//!
//! A device cannot wake a thread, so a thread of the stream looks at the ring while a task waits: without pause for
//! [`SPIN_TIME`](crate::wait::SPIN_TIME), then for [`YIELD_TIME`](crate::wait::YIELD_TIME) giving the processor away between two
//! looks, then sleeping between them, up to [`SLEEP_MAX`](crate::wait::SLEEP_MAX). So a task is woken at most
//! [`SLEEP_MAX`](crate::wait::SLEEP_MAX) and the system's timer slack after a notice came. While no task waits, the thread sleeps.
//!
//! # No wake is lost
//! A task looks at the ring and leaves its waker under one lock, under which the thread looks at the ring and takes the waker. What comes
//! after the task's look is found by the thread's next, for the waker is there by then.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use tourbillon_device::Subscriber;

use super::{Outbox, OutboxCounts, Received};
use crate::error::EngineError;
use crate::wait::{WaitStrategy, Waiter};

/// The notices of an [`Outbox`] as a stream, which ends when the engine has stopped and everything was read. Made by
/// [`Outbox::into_stream`].
///
/// It needs no runtime of a certain make. Dropping it closes the outbox and ends its thread, at most
/// [`SLEEP_MAX`](crate::wait::SLEEP_MAX) later.
pub struct OutboxStream {
    watched: Arc<Watched>,
    address: Subscriber,
}

/// What the stream shares with its thread.
struct Watched {
    state: Mutex<State>,
    /// Rings when a task waits, and when the stream is gone.
    bell: Condvar,
}

struct State {
    /// Nothing when the stream is gone.
    outbox: Option<Outbox>,
    /// The task that waits.
    waker: Option<Waker>,
}

impl OutboxStream {
    pub(super) fn start(outbox: Outbox) -> Result<Self, EngineError> {
        let address = outbox.address();
        let state = Mutex::new(State { outbox: Some(outbox), waker: None });
        let watched = Arc::new(Watched { state, bell: Condvar::new() });
        let stream = Self { watched: Arc::clone(&watched), address };
        std::thread::Builder::new()
            .name("tourbillon-outbox".into())
            .spawn(move || watch(&watched))
            .map_err(|source| EngineError::Io { what: "starting a thread", source })?;
        Ok(stream)
    }

    /// As [`Outbox::address`].
    pub fn address(&self) -> Subscriber {
        self.address
    }

    /// As [`Outbox::counts`].
    pub fn counts(&self) -> OutboxCounts {
        self.watched.lock().outbox.as_ref().map(Outbox::counts).unwrap_or_default()
    }
}

impl Watched {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change under the lock is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the task that waits when there is something for it, until the stream is gone.
fn watch(watched: &Watched) {
    let fresh = || Waiter::new(WaitStrategy::Park, None);
    let mut waiter = fresh();
    let mut state = watched.lock();
    loop {
        let State { outbox: Some(outbox), waker } = &mut *state else { return };
        if waker.is_none() {
            state = watched.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
            waiter = fresh();
            continue;
        }
        // When the engine has ended, the task is to see the end.
        if outbox.has_ended() || outbox.is_ready() {
            let waker = waker.take();
            drop(state);
            // Not under the lock: a waker is the executor's code. One that panics is no reason to forget the next one.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.into_iter().for_each(Waker::wake)));
            state = watched.lock();
            continue;
        }
        drop(state);
        waiter.pause();
        state = watched.lock();
    }
}

impl Stream for OutboxStream {
    type Item = Received;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Received>> {
        // A waker is the executor's code: not under the lock.
        let own = context.waker().clone();
        let mut state = self.watched.lock();
        let State { outbox: Some(outbox), waker } = &mut *state else { return Poll::Ready(None) };
        // Before the look: what came before the engine ended is seen by it.
        let has_ended = outbox.has_ended();
        if let Some(received) = outbox.try_next() {
            return Poll::Ready(Some(received));
        }
        if has_ended {
            return Poll::Ready(None);
        }
        let last = waker.replace(own);
        drop(state);
        // A waker is the executor's code, its drop as well.
        drop(last);
        if !tourbillon_shared::mutant!("outbox_bell_unrung") {
            self.watched.bell.notify_one();
        }
        Poll::Pending
    }
}

impl Drop for OutboxStream {
    fn drop(&mut self) {
        let mut state = self.watched.lock();
        let (outbox, waker) = (state.outbox.take(), state.waker.take());
        drop(state);
        self.watched.bell.notify_one();
        drop((outbox, waker));
    }
}

impl fmt::Debug for OutboxStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxStream").field("address", &self.address).finish_non_exhaustive()
    }
}
