//! How many messages an engine takes at once: the trade between latency and rate.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tourbillon_shared::control::{self, BATCH_WAIT_US_MAX};

use crate::config::EngineBuilder;
use crate::engine::Engine;
use crate::error::EngineError;

/// How long [`Processing::Batch`] lets a message wait for others unless told otherwise: some round trips over the bus, so that the
/// requests of many clients meet, and less than launching a kernel for them would take twice.
pub const BATCH_WAIT_DEFAULT: Duration = Duration::from_micros(20);
/// How long [`Processing::Adaptive`] lets a message wait for others when those before it filled windows: a few times what a client
/// takes to send a window that sends as fast as it can.
const ADAPTIVE_WAIT_US: u32 = 20;
/// The longest that it may be told: a second, less what its word of the protocol has no room for.
pub const BATCH_WAIT_MAX: Duration = Duration::from_micros(BATCH_WAIT_US_MAX as u64);

/// How an engine's gates take messages from lanes. What order, exactly-once and backpressure promise is the same in all of them;
/// what each costs stands in `docs/performance.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Processing {
    /// One at a time while they come one at a time, in windows of up to 32 slots when a queue stands behind them. When hundreds stood
    /// there, a window that is not full waits up to 20 us for others, as in a batch.
    #[default]
    Adaptive,
    /// One at a time, always: the way of a message never depends on what stands behind it, and the rate of a lane is bounded by the
    /// bus's round trip.
    Continuous,
    /// In windows: a message waits until 32 slots of its lane are filled, or for `wait`, whatever comes first. The bus and the device
    /// have the least work for each message; a lone one pays with its latency.
    Batch {
        /// The longest wait of a message for others, up to [`BATCH_WAIT_MAX`], in whole microseconds, rounded up.
        wait: Duration,
    },
}

impl Processing {
    /// Batches that wait for [`BATCH_WAIT_DEFAULT`] at most.
    pub const fn batch() -> Self {
        Self::Batch { wait: BATCH_WAIT_DEFAULT }
    }

    /// The words of the command.
    pub(crate) fn to_command(self) -> Result<(control::Processing, u32), EngineError> {
        Ok(match self {
            Self::Adaptive => (control::Processing::Adaptive, ADAPTIVE_WAIT_US),
            Self::Continuous => (control::Processing::Continuous, 0),
            Self::Batch { wait } => {
                let us = u32::try_from(wait.as_nanos().div_ceil(1_000)).unwrap_or(u32::MAX);
                EngineError::check_bounds("the wait of a batch in microseconds", us, 0, BATCH_WAIT_US_MAX)?;
                (control::Processing::Batch, us)
            }
        })
    }

    /// What the words of a command say.
    pub(crate) fn from_command(processing: control::Processing, batch_wait_us: u32) -> Self {
        match processing {
            control::Processing::Adaptive => Self::Adaptive,
            control::Processing::Continuous => Self::Continuous,
            control::Processing::Batch => Self::Batch { wait: Duration::from_micros(batch_wait_us.into()) },
        }
    }
}

impl fmt::Display for Processing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adaptive => f.write_str("adaptive"),
            Self::Continuous => f.write_str("continuous"),
            Self::Batch { wait } => write!(f, "batch:{}us", wait.as_nanos().div_ceil(1_000)),
        }
    }
}

impl FromStr for Processing {
    type Err = EngineError;

    fn from_str(name: &str) -> Result<Self, EngineError> {
        let unknown = || EngineError::NoSuchProcessing { name: name.to_owned() };
        let processing = match name.split_once(':') {
            None if name == "adaptive" => Self::Adaptive,
            None if name == "continuous" => Self::Continuous,
            None if name == "batch" => Self::batch(),
            Some(("batch", wait)) => {
                let us: u32 = wait.strip_suffix("us").and_then(|us| us.parse().ok()).ok_or_else(unknown)?;
                Self::Batch { wait: Duration::from_micros(us.into()) }
            }
            _ => return Err(unknown()),
        };
        processing.to_command()?;
        Ok(processing)
    }
}

impl EngineBuilder {
    /// How messages are taken; [`Processing::Adaptive`] without. [`Engine::set_processing`] changes it while the engine runs.
    pub fn processing(mut self, processing: Processing) -> Self {
        self.processing = processing;
        self
    }
}

impl Engine {
    /// Takes messages another way from now on, and waits until every warp does. In any mode but stopped; what is on its way is not
    /// touched.
    ///
    /// # Errors
    /// [`EngineError::OutOfBounds`], [`EngineError::TransitionTimeout`], [`EngineError::Stopped`].
    pub fn set_processing(&self, processing: Processing) -> Result<(), EngineError> {
        let (processing, batch_wait_us) = processing.to_command()?;
        let _steps = self.shared().steps();
        self.shared().steer(processing, batch_wait_us)
    }

    /// How messages are taken.
    pub fn processing(&self) -> Processing {
        let (processing, batch_wait_us) = self.shared().control.processing();
        Processing::from_command(processing, batch_wait_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::Backend;

    #[test]
    fn ways_have_names() {
        for name in ["adaptive", "continuous", "batch:20us", "batch:0us", "batch:1048575us"] {
            assert_eq!(name.parse::<Processing>().unwrap().to_string(), name);
        }
        assert_eq!("batch".parse::<Processing>().unwrap(), Processing::batch());
        for bad in ["", "Batch", "batch:", "batch:20", "batch:-1us", "batch:20ms", "adaptive:1us"] {
            let error = bad.parse::<Processing>().unwrap_err();
            assert!(matches!(&error, EngineError::NoSuchProcessing { name } if name == bad), "{error}");
            assert!(error.to_string().contains("continuous"), "{error}");
        }
        assert!(matches!("batch:1048576us".parse::<Processing>(), Err(EngineError::OutOfBounds { .. })));
    }

    #[test]
    fn waits_are_whole_microseconds_within_their_bound() {
        let command = |wait| Processing::Batch { wait }.to_command();
        assert_eq!(command(Duration::from_nanos(1)).unwrap(), (control::Processing::Batch, 1));
        assert_eq!(command(BATCH_WAIT_MAX).unwrap().1, BATCH_WAIT_US_MAX);
        for wait in [BATCH_WAIT_MAX + Duration::from_nanos(1), Duration::MAX] {
            assert!(matches!(command(wait), Err(EngineError::OutOfBounds { most: BATCH_WAIT_US_MAX, .. })));
        }
        for processing in [Processing::Adaptive, Processing::Continuous, Processing::batch()] {
            let (way, us) = processing.to_command().unwrap();
            assert_eq!(Processing::from_command(way, us), processing);
        }
    }

    #[test]
    fn a_wait_out_of_bounds_is_refused_before_anything_starts() {
        let builder = Engine::builder().backend(Backend::Cpu).processing(Processing::Batch { wait: Duration::MAX });
        assert!(matches!(builder.build(), Err(EngineError::OutOfBounds { .. })));
    }
}
