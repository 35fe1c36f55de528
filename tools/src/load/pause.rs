//! Pauses of the engine at set times, to prove that waiting is counted.

use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;
use tourbillon::{Engine, EngineError};

use super::error::LoadError;
use super::options::{parse_duration, parse_time};

/// A pause: so long, at such a time of the measured run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Its length.
    pub length: Duration,
    /// Its beginning, from the beginning of the measured time.
    pub at: Duration,
}

impl FromStr for Pause {
    type Err = String;

    /// `200ms@1s`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (length, at) = text.split_once('@').ok_or_else(|| format!("`{text}` is no pause; try 200ms@1s"))?;
        Ok(Self { length: parse_duration(length)?, at: parse_time(at)? })
    }
}

impl std::fmt::Display for Pause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}@{:?}", self.length, self.at)
    }
}

/// A pause as it was.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Paused {
    /// When the engine was told, seconds from the beginning of the measured time.
    pub at_s: f64,
    /// From then until it was told to go on, seconds.
    pub length_s: f64,
}

/// What can be paused.
pub trait Pausable {
    /// Pauses.
    ///
    /// # Errors
    /// It cannot be paused now.
    fn pause(&self) -> Result<(), EngineError>;
    /// Goes on.
    ///
    /// # Errors
    /// It cannot go on.
    fn resume(&self) -> Result<(), EngineError>;
}

impl Pausable for Engine {
    fn pause(&self) -> Result<(), EngineError> {
        Engine::pause(self)
    }

    fn resume(&self) -> Result<(), EngineError> {
        Engine::resume(self)
    }
}

/// Carries out a plan of pauses. Times are from the beginning of the measured time.
#[derive(Debug)]
pub struct Pauser {
    /// By time.
    plan: Vec<Pause>,
    next: usize,
    since: Option<Duration>,
    done: Vec<Paused>,
}

impl Pauser {
    /// A plan for a run of which `measured` is measured.
    ///
    /// # Errors
    /// [`LoadError::PauseTooLate`], [`LoadError::PausesOverlap`].
    pub fn new(pauses: &[Pause], measured: Duration) -> Result<Self, LoadError> {
        let mut plan = pauses.to_vec();
        plan.sort_by_key(|pause| pause.at);
        if let Some(pause) = plan.iter().find(|pause| pause.at + pause.length > measured) {
            return Err(LoadError::PauseTooLate { pause: pause.to_string(), measured });
        }
        if let Some(pair) = plan.windows(2).find(|pair| pair[0].at + pair[0].length >= pair[1].at) {
            return Err(LoadError::PausesOverlap { first: pair[0].to_string(), second: pair[1].to_string() });
        }
        Ok(Self { plan, next: 0, since: None, done: Vec::new() })
    }

    /// The longest pause.
    pub fn longest(&self) -> Duration {
        self.plan.iter().map(|pause| pause.length).max().unwrap_or_default()
    }

    /// When [`step`](Self::step) has something to do next; nothing when all is done.
    pub fn next_at(&self) -> Option<Duration> {
        let pause = self.plan.get(self.next)?;
        Some(self.since.map_or(pause.at, |since| since + pause.length))
    }

    /// Does what is due at `now`.
    ///
    /// # Errors
    /// What pausing says.
    pub fn step(&mut self, now: Duration, engine: &impl Pausable) -> Result<(), EngineError> {
        if self.next_at().is_none_or(|at| now < at) {
            return Ok(());
        }
        if self.since.is_some() { self.go_on(now, engine) } else { self.pause(now, engine) }
    }

    /// Ends a pause that has not ended, and begins no more; the pauses as they were.
    ///
    /// # Errors
    /// What resuming says.
    pub fn finish(mut self, now: Duration, engine: &impl Pausable) -> Result<Vec<Paused>, EngineError> {
        if self.since.is_some() {
            self.go_on(now, engine)?;
        }
        Ok(self.done)
    }

    fn pause(&mut self, now: Duration, engine: &impl Pausable) -> Result<(), EngineError> {
        engine.pause()?;
        self.since = Some(now);
        Ok(())
    }

    fn go_on(&mut self, now: Duration, engine: &impl Pausable) -> Result<(), EngineError> {
        engine.resume()?;
        if let Some(since) = self.since.take() {
            self.done.push(Paused { at_s: since.as_secs_f64(), length_s: now.saturating_sub(since).as_secs_f64() });
        }
        self.next += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[derive(Default)]
    struct Log(RefCell<Vec<&'static str>>);

    impl Pausable for Log {
        fn pause(&self) -> Result<(), EngineError> {
            self.0.borrow_mut().push("pause");
            Ok(())
        }

        fn resume(&self) -> Result<(), EngineError> {
            self.0.borrow_mut().push("resume");
            Ok(())
        }
    }

    #[test]
    fn pauses_parse() {
        assert_eq!("200ms@1s".parse(), Ok(Pause { length: ms(200), at: ms(1_000) }));
        assert_eq!("1s@0s".parse(), Ok(Pause { length: ms(1_000), at: ms(0) }));
        for bad in ["", "200ms", "200ms@", "@1s", "0s@1s", "200ms@-1s", "1x@1s", "1s@1s@1s"] {
            assert!(bad.parse::<Pause>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_plan_is_carried_out_in_order_and_timed() {
        let plan = ["100ms@2s", "200ms@1s"].map(|text| text.parse().unwrap());
        let mut pauser = Pauser::new(&plan, ms(3_000)).unwrap();
        assert_eq!(pauser.longest(), ms(200));
        let log = Log::default();
        for (now, next) in [(0, 1_000), (1_000, 1_200), (1_100, 1_200), (1_210, 2_000), (2_005, 2_105)] {
            pauser.step(ms(now), &log).unwrap();
            assert_eq!(pauser.next_at(), Some(ms(next)), "after {now}");
        }
        assert_eq!(*log.0.borrow(), ["pause", "resume", "pause"]);
        let done = pauser.finish(ms(2_050), &log).unwrap();
        assert_eq!(log.0.borrow().len(), 4, "a pause does not outlive the run");
        let expected = [Paused { at_s: 1.0, length_s: 0.21 }, Paused { at_s: 2.005, length_s: 0.045 }];
        assert_eq!(done, expected);
    }

    #[test]
    fn impossible_plans_are_refused() {
        let pause = |text: &str| text.parse::<Pause>().unwrap();
        let late = Pauser::new(&[pause("200ms@900ms")], ms(1_000)).unwrap_err();
        assert!(matches!(late, LoadError::PauseTooLate { .. }) && late.to_string().contains("--duration"), "{late}");
        let overlap = Pauser::new(&[pause("200ms@100ms"), pause("1ms@300ms")], ms(1_000)).unwrap_err();
        assert!(matches!(overlap, LoadError::PausesOverlap { .. }), "{overlap}");
        assert!(Pauser::new(&[pause("200ms@800ms"), pause("199ms@600ms")], ms(1_000)).is_ok());
    }
}
