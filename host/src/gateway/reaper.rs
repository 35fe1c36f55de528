//! The thread that takes a gateway's replies and wakes its tasks.
//!
//! A device cannot wake a thread, so the reaper looks: without pause for [`SPIN_TIME`], then for [`YIELD_TIME`] giving the processor
//! away between two looks, then sleeping between them, [`SLEEP_MIN`] at first and doubling up to [`SLEEP_MAX`]. So a reply is seen at
//! most [`SLEEP_MAX`] and the system's timer slack after it came. Whoever publishes rings a bell when the reaper sleeps:
//! a request that comes after a silence does not wait for the sleep's end. When nothing is published or staged, the reaper sleeps
//! until the bell rings.
//!
//! # No ring is lost
//! Before it sleeps the reaper announces it, then looks at every lane once more, under its lock. Whoever changes a lane does so under
//! the same lock and looks for the announcement afterwards. Of the two critical sections one is the first: if it is
//! the reaper's, the other side sees the announcement; if not, the reaper sees the change.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Inner;
use super::copying::Copies;
use super::lane::Wakes;
use crate::wait::{SLEEP_MAX, SLEEP_MIN, SPIN_TIME, YIELD_TIME};

/// Wakes the reaper.
#[derive(Debug, Default)]
pub(super) struct Bell {
    /// The reaper sleeps, or is about to.
    is_announced: AtomicBool,
    is_closed: AtomicBool,
    /// Whether it rang since the announcement.
    has_rung: Mutex<bool>,
    bell: Condvar,
}

impl Bell {
    /// Wakes the reaper if it sleeps. Call it after a lane was changed, without its lock.
    #[inline]
    pub(super) fn ring(&self) {
        // Relaxed: the lane's lock orders it, see the module's documentation.
        if self.is_announced.load(Ordering::Relaxed) && !tourbillon_shared::mutant!("gateway_bell_unrung") {
            self.ring_now();
        }
    }

    fn ring_now(&self) {
        let mut has_rung = self.lock();
        *has_rung = true;
        self.is_announced.store(false, Ordering::Relaxed);
        self.bell.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Ends the reaper.
    pub(super) fn close(&self) {
        // Relaxed: the lock below orders it for a reaper that sleeps; one that looks sees it in its next round.
        self.is_closed.store(true, Ordering::Relaxed);
        self.ring_now();
    }

    fn announce(&self) {
        let mut has_rung = self.lock();
        *has_rung = false;
        self.is_announced.store(true, Ordering::Relaxed);
    }

    fn take_back(&self) {
        self.is_announced.store(false, Ordering::Relaxed);
    }

    /// Sleeps until the bell rings, for `most` at most; whether it rang.
    fn sleep(&self, most: Option<Duration>) -> bool {
        let is_to_wait = |has_rung: &mut bool| !*has_rung && !self.is_closed();
        let has_rung = self.lock();
        let has_rung = match most {
            Some(most) => {
                let slept = self.bell.wait_timeout_while(has_rung, most, is_to_wait);
                *slept.unwrap_or_else(PoisonError::into_inner).0
            }
            None => *self.bell.wait_while(has_rung, is_to_wait).unwrap_or_else(PoisonError::into_inner),
        };
        self.take_back();
        has_rung
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        // A bool is never half written.
        self.has_rung.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a round over all lanes found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Round {
    /// Something was taken, published or ended.
    pub(super) has_moved: bool,
    /// Something is published or staged still.
    pub(super) is_busy: bool,
}

/// What the reaper does after a round that found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    Spin,
    Yield,
    Sleep(Duration),
}

/// How long nothing was found.
#[derive(Debug, Default)]
struct Pace {
    began: Option<Instant>,
    sleep: Option<Duration>,
}

impl Pace {
    fn next(&mut self) -> Pause {
        let elapsed = self.began.get_or_insert_with(Instant::now).elapsed();
        if elapsed < SPIN_TIME {
            Pause::Spin
        } else if elapsed < SPIN_TIME + YIELD_TIME {
            Pause::Yield
        } else {
            let sleep = self.sleep.map_or(SLEEP_MIN, |last| (last * 2).min(SLEEP_MAX));
            self.sleep = Some(sleep);
            Pause::Sleep(sleep)
        }
    }
}

/// Looks after a gateway's lanes until it is shut down.
pub(super) fn run(inner: &Inner) {
    let bell = &inner.bell;
    let (mut copies, mut wakes) = (Copies::default(), Wakes::default());
    let mut pace = Pace::default();
    while !bell.is_closed() {
        if inner.round(&mut copies, &mut wakes).has_moved {
            pace = Pace::default();
            continue;
        }
        match pace.next() {
            Pause::Spin => std::hint::spin_loop(),
            Pause::Yield => std::thread::yield_now(),
            Pause::Sleep(sleep) => {
                bell.announce();
                let round = inner.round(&mut copies, &mut wakes);
                if round.has_moved || bell.sleep(round.is_busy.then_some(sleep)) {
                    bell.take_back();
                    pace = Pace::default();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_spinning_to_sleeping() {
        let mut pace = Pace::default();
        assert_eq!(pace.next(), Pause::Spin);
        pace.began = Instant::now().checked_sub(SPIN_TIME);
        assert_eq!(pace.next(), Pause::Yield);
        pace.began = Instant::now().checked_sub(SPIN_TIME + YIELD_TIME);
        let sleeps: Vec<Pause> = (0..8).map(|_| pace.next()).collect();
        assert_eq!(sleeps[..2], [Pause::Sleep(SLEEP_MIN), Pause::Sleep(SLEEP_MIN * 2)]);
        assert_eq!(sleeps[7], Pause::Sleep(SLEEP_MAX));
    }

    #[test]
    fn a_bell_that_rang_before_the_sleep_ends_it() {
        let bell = Bell::default();
        bell.ring();
        bell.announce();
        assert!(
            !bell.sleep(Some(Duration::from_millis(1))),
            "what rang before the announcement is seen by the last look"
        );
        bell.announce();
        bell.ring();
        assert!(bell.sleep(None));
        bell.announce();
        bell.close();
        assert!(bell.sleep(None));
    }
}
