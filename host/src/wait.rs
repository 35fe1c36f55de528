//! How a client waits for a reply.

use std::time::{Duration, Instant};

/// How a client waits for a reply.
///
/// A GPU cannot wake a thread, so all waiting is looking; the strategies differ in what happens between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitStrategy {
    /// Looks without pause: the lowest latency, for a processor per client.
    Spin,
    /// Spins for [`SPIN_TIME`], then gives the processor away between two looks.
    Yield,
    /// Spins for [`SPIN_TIME`], yields for [`YIELD_TIME`], then sleeps between two looks, [`SLEEP_MIN`] at first and doubling up to
    /// [`SLEEP_MAX`]. A reply is seen at most [`SLEEP_MAX`] and the system's timer slack after it came.
    #[default]
    Park,
}

/// How long a wait spins: some round trips to a GPU.
pub const SPIN_TIME: Duration = Duration::from_micros(20);
/// How long a wait yields after that, before it sleeps.
pub const YIELD_TIME: Duration = Duration::from_micros(500);
/// The first sleep.
pub const SLEEP_MIN: Duration = Duration::from_micros(50);
/// The longest sleep.
pub const SLEEP_MAX: Duration = Duration::from_millis(1);
/// Looks between two readings of the clock while spinning.
const LOOKS_PER_CHECK: u32 = 32;
/// Looks at the beginning of a wait without anything in between: some microseconds, more than a round trip to a GPU takes. A pause of the
/// processor takes up to 50 ns on some, and a reading of the clock as long; either would come on top of a reply that is just there.
const EAGER_LOOKS: u32 = 2048;

/// One wait.
#[derive(Debug)]
pub(crate) struct Waiter {
    strategy: WaitStrategy,
    timeout: Option<Duration>,
    looks: u32,
    began: Option<Instant>,
    sleep: Duration,
}

/// What the waiting one shall do after [`Waiter::pause`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Look again.
    Look,
    /// Look again, and whether the engine still lives.
    LookAround,
    /// The time is over.
    GiveUp,
}

impl Waiter {
    /// A wait of at most `timeout`.
    #[inline]
    pub(crate) fn new(strategy: WaitStrategy, timeout: Option<Duration>) -> Self {
        Self { strategy, timeout, looks: 0, began: None, sleep: SLEEP_MIN }
    }

    /// Waits a little after a look that found nothing.
    #[inline]
    pub(crate) fn pause(&mut self) -> Next {
        self.looks = self.looks.wrapping_add(1);
        if self.looks < EAGER_LOOKS && self.began.is_none() {
            return Next::Look;
        }
        if !self.looks.is_multiple_of(LOOKS_PER_CHECK) && self.sleep == SLEEP_MIN {
            std::hint::spin_loop();
            return Next::Look;
        }
        self.pause_longer()
    }

    #[cold]
    fn pause_longer(&mut self) -> Next {
        let elapsed = self.began.get_or_insert_with(Instant::now).elapsed();
        if self.timeout.is_some_and(|timeout| elapsed >= timeout) {
            return Next::GiveUp;
        }
        match self.strategy {
            _ if elapsed < SPIN_TIME => std::hint::spin_loop(),
            WaitStrategy::Spin => std::hint::spin_loop(),
            WaitStrategy::Yield => self.yield_now(),
            WaitStrategy::Park if elapsed < SPIN_TIME + YIELD_TIME => self.yield_now(),
            WaitStrategy::Park => {
                let left = self.timeout.map_or(SLEEP_MAX, |timeout| timeout.saturating_sub(elapsed));
                std::thread::sleep(self.sleep.min(left));
                self.sleep = (self.sleep * 2).min(SLEEP_MAX);
            }
        }
        Next::LookAround
    }

    /// Gives the processor away, and lets the next look be followed by another such pause.
    fn yield_now(&mut self) {
        std::thread::yield_now();
        self.looks = LOOKS_PER_CHECK - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks_within(strategy: WaitStrategy, timeout: Duration) -> (u64, Duration) {
        let mut waiter = Waiter::new(strategy, Some(timeout));
        let began = Instant::now();
        let mut looks = 1;
        while waiter.pause() != Next::GiveUp {
            looks += 1;
        }
        (looks, began.elapsed())
    }

    #[test]
    fn every_strategy_keeps_its_timeout() {
        for strategy in [WaitStrategy::Spin, WaitStrategy::Yield, WaitStrategy::Park] {
            let (_, took) = looks_within(strategy, Duration::from_millis(20));
            assert!(took >= Duration::from_millis(20) && took < Duration::from_secs(5), "{strategy:?}: {took:?}");
        }
    }

    #[test]
    fn parking_looks_far_less_often_than_spinning() {
        let (spun, _) = looks_within(WaitStrategy::Spin, Duration::from_millis(100));
        let (parked, _) = looks_within(WaitStrategy::Park, Duration::from_millis(100));
        assert!(parked * 4 < spun, "{parked} looks parked, {spun} spinning");
    }

    #[test]
    fn a_wait_without_a_timeout_looks_around() {
        let mut waiter = Waiter::new(WaitStrategy::Spin, None);
        assert!((0..EAGER_LOOKS + LOOKS_PER_CHECK).any(|_| waiter.pause() == Next::LookAround));
    }
}
