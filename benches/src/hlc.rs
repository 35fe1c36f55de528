//! What a timestamp costs on the GPU: the engine's own steps for the clock of a window, and nothing else.

use std::time::Duration;

use tourbillon_shared::header::Arrival;
use tourbillon_shared::hlc::{EPOCH_UNIX_US, LOGICAL_BITS, from_delta};
use tourbillon_shared::hlc_bench::{ARRIVALS, HlcArguments, STAMPED_FRAMES_MAX};
use tourbillon_tools::random::Random;

use crate::cuda::{Context, CudaError, CudaResult, DeviceMemory, Module, Pinned, Stream};
use tourbillon_benches::results::Figure;

/// Batches of a launch: tens of milliseconds, so that the steps of the device clock do not show.
const BATCHES: u32 = 1 << 17;
/// Launches of each kind, after one that warms up.
const LAUNCHES: u32 = 5;
/// Longest wait for a launch: a kernel that takes longer is broken.
const LAUNCH_TIME_MAX: Duration = Duration::from_secs(5);
/// The device clock's distance from the Unix time, made up: any does.
const CLOCK_OFFSET_NS: u64 = 77_123_456_789;

/// Nanoseconds of an update.
#[derive(Clone, Copy, Debug)]
pub struct HlcPrice {
    /// Of each frame of a batch of 32.
    pub batch: Figure,
    /// Of a message that comes alone.
    pub single: Figure,
}

/// Measures both; all timestamps are compared with an oracle's.
pub fn measure(context: &Context, module: &Module<'_>) -> CudaResult<HlcPrice> {
    let arrivals = arrivals();
    let figure = |frames| {
        let mut prices = Vec::new();
        for number in 0..=LAUNCHES {
            let price = launch(context, module, &arrivals, frames)?;
            if number > 0 {
                prices.push(price);
            }
        }
        Ok(Figure::median_of(&prices))
    };
    Ok(HlcPrice { batch: figure(STAMPED_FRAMES_MAX)?, single: figure(1)? })
}

/// Arrivals as a gate writes them: of senders a little behind, of a few far behind, and now and then of one that is
/// ahead, so seldom that the shard's clock is sometimes its own, sometimes a sender's and sometimes the time of day.
fn arrivals() -> Vec<u64> {
    const MICROSECOND: u64 = 1 << LOGICAL_BITS;
    let mut random = Random::new(11, 0);
    let mut arrival = |_| {
        let hlc_delta = match random.below(256) {
            0 => random.below(2 * MICROSECOND) as i32,
            1..8 => i32::MIN,
            _ => -(random.below(50 * MICROSECOND) as i32),
        };
        Arrival { device_ns: 0, hlc_delta }.encode()
    };
    (0..ARRIVALS).map(&mut arrival).collect()
}

/// One launch; nanoseconds of each frame.
fn launch(context: &Context, module: &Module<'_>, arrivals: &[u64], frames: u32) -> CudaResult<f64> {
    let words = |count: usize| DeviceMemory::new(context, count * size_of::<u64>());
    let (clock, times) = (words(1)?, words(2)?);
    let (readings, stamps) = (words(BATCHES as usize)?, words(STAMPED_FRAMES_MAX as usize)?);
    let staged = DeviceMemory::of(context, arrivals)?;
    let arguments = HlcArguments {
        clock_at: clock.address(),
        arrivals_at: staged.address(),
        readings_at: readings.address(),
        stamps_at: stamps.address(),
        times_at: times.address(),
        clock_offset_ns: CLOCK_OFFSET_NS,
        batches: BATCHES,
        frames,
        ..HlcArguments::default()
    };
    let arguments = DeviceMemory::of(context, &[arguments])?;
    let stream = Stream::new(context)?;
    let kernel = module.function(c"tourbillon_hlc_updates")?;
    stream.launch(kernel, 1, STAMPED_FRAMES_MAX, Some(arguments.address()))?;
    stream.synchronize_within(LAUNCH_TIME_MAX)?;
    let read = |memory: &DeviceMemory<'_>, count: usize| -> CudaResult<Vec<u64>> {
        let pinned = Pinned::new(context, count * size_of::<u64>())?;
        stream.copy_out(&pinned, memory.address())?;
        stream.synchronize()?;
        // SAFETY: so many words, page-aligned, which the device has written and does not touch any more.
        Ok((0..count).map(|i| unsafe { pinned.host().cast::<u64>().add(i).read_volatile() }).collect())
    };
    let found = Stamped { clock: read(&clock, 1)?[0], stamps: read(&stamps, STAMPED_FRAMES_MAX as usize)? };
    found.compare(&Stamped::foretold(&read(&readings, BATCHES as usize)?, arrivals, frames)).map_err(CudaError)?;
    let times = read(&times, 2)?;
    Ok(times[1].saturating_sub(times[0]) as f64 / (f64::from(BATCHES) * f64::from(frames)))
}

/// What the kernel leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamped {
    /// The shard's clock.
    clock: u64,
    /// Timestamps of the last batch, 0 past its frames.
    stamps: Vec<u64>,
}

impl Stamped {
    /// What must be left behind, by the definition of the clock: the greatest of three for each batch.
    fn foretold(readings: &[u64], arrivals: &[u64], frames: u32) -> Self {
        let (mut clock, mut first, mut number) = (0u64, 0, 0usize);
        for reading in readings {
            let us = reading.wrapping_add(CLOCK_OFFSET_NS) / 1_000;
            let physical = us.saturating_sub(EPOCH_UNIX_US) << LOGICAL_BITS;
            let remote = |i| from_delta(Arrival::decode(arrivals[(number + i) % ARRIVALS]).hlc_delta, physical);
            let most = (0..frames as usize).map(remote).max().unwrap_or(0);
            first = physical.max(clock + 1).max(most + 1);
            clock = first + u64::from(frames) - 1;
            number += frames as usize;
        }
        let stamp = |frame| if frame < frames { first + u64::from(frame) } else { 0 };
        Self { clock, stamps: (0..STAMPED_FRAMES_MAX).map(stamp).collect() }
    }

    /// Whether it is what was foretold.
    fn compare(&self, expected: &Self) -> Result<(), String> {
        if self == expected {
            return Ok(());
        }
        Err(format!("timestamps of the last batch are {self:?}, not {expected:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tourbillon_shared::hlc::DRIFT_US_MAX;

    /// The device time at which it is so many microseconds after the epoch.
    fn reading(us: u64) -> u64 {
        (EPOCH_UNIX_US + us) * 1_000 - CLOCK_OFFSET_NS
    }

    fn arrivals_of(delta: i32) -> Vec<u64> {
        vec![Arrival { device_ns: 7, hlc_delta: delta }.encode(); ARRIVALS]
    }

    #[test]
    fn the_oracle_takes_the_greatest_of_three() {
        // The clock itself, when time stands still.
        let now = 5 << LOGICAL_BITS;
        let still = Stamped::foretold(&[reading(5), reading(5)], &arrivals_of(-1), 1);
        assert_eq!((still.clock, still.stamps[0], still.stamps[1]), (now + 1, now + 1, 0));
        // Physical time, when it moved on.
        let moved = Stamped::foretold(&[reading(5), reading(9)], &arrivals_of(-1), 32);
        assert_eq!((moved.stamps[0], moved.stamps[31]), (9 << LOGICAL_BITS, (9 << LOGICAL_BITS) + 31));
        assert_eq!(moved.clock, moved.stamps[31]);
        // A sender that is ahead.
        let ahead = Stamped::foretold(&[reading(5)], &arrivals_of(100), 2);
        assert_eq!(ahead.stamps[..3], [now + 101, now + 102, 0]);
    }

    #[test]
    fn arrivals_are_of_all_sorts_and_within_the_drift_bound() {
        let deltas: Vec<i64> = arrivals().iter().map(|word| Arrival::decode(*word).hlc_delta.into()).collect();
        assert_eq!(deltas.len(), ARRIVALS);
        assert!(deltas.iter().all(|delta| *delta <= (DRIFT_US_MAX << LOGICAL_BITS) as i64));
        assert!(deltas.iter().any(|delta| *delta > 0) && deltas.contains(&i32::MIN.into()));
    }

    #[test]
    fn wrong_timestamps_are_refused() {
        let right = Stamped::foretold(&[reading(1)], &arrivals_of(0), 4);
        assert!(right.compare(&right).is_ok());
        assert!(Stamped { clock: right.clock + 1, ..right.clone() }.compare(&right).is_err());
        let mut wrong = right.clone();
        wrong.stamps[3] -= 1;
        assert!(wrong.compare(&right).is_err());
    }
}
