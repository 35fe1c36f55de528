//! The telemetry page: written by the device loop, read live by anyone who can map it.
//!
//! Every u64 has one writer and is read and written as one; figures of one reading may differ in age by a refresh period.
//!
//! | bytes | owner | content |
//! | --- | --- | --- |
//! | 0 .. 128 | host | [`TelemetryHost`] |
//! | 128 .. 256 | device | [`TelemetryStatus`] |
//! | 256 .. 640 | device | counters, one u64 for each [`Counter`], with room for more |
//! | 640 .. 1152 | device | histogram of latency, 64 u64 |

use bytemuck::{Pod, Zeroable};

use crate::lane::LINE_BYTES;

/// First word of the page: "TBTELE01" in ASCII.
pub const TELEMETRY_MAGIC: u64 = u64::from_le_bytes(*b"TBTELE01");
/// Counters of a page and of a warp.
pub const COUNTERS: usize = 48;
/// Buckets of the latency histogram; bucket `i` counts latencies of `2^i` up to `2^(i+1)` ns, bucket 0 also those below 1 ns.
pub const LATENCY_BUCKETS: usize = 64;
/// Bytes of the page.
pub const TELEMETRY_BYTES: usize = 4096;

/// What the device counts.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counter {
    /// Frames that gates took from lanes.
    Claimed = 0,
    /// Frames that were answered, failures included.
    Processed = 1,
    /// Frames that were answered with a failure.
    Failed = 2,
    /// Handlers that panicked.
    Panicked = 3,
    /// Actors that were activated.
    Activated = 4,
    /// Nanoseconds that warps spent on turns with messages, summed over the warps.
    BusyNs = 5,
    /// Windows: what warps took from one ring at once, with at least one message. A turn has up to eight.
    Turns = 6,
    /// Visits of a gate that found frames and no room in the shard's ring.
    NoRoom = 7,
    /// Frames of lanes that contradicted themselves.
    Malformed = 8,
    /// Frames refused because of their timestamp.
    Drifted = 9,
    /// Frames that were thrown away unanswered; stays 0 unless a bound that the caller chose says otherwise.
    Dropped = 10,
    /// Lanes of warps that left after a panic.
    LanesLost = 11,
    /// Warps that left because too few lanes remained.
    WarpsRetired = 12,
    /// The last [`FailureCode`](crate::error::FailureCode) that was answered.
    LastFailure = 13,
    /// Notices that went to outboxes.
    Notices = 14,
    /// Notices that were dropped: without room, or for nobody who reads them.
    NoticesDropped = 15,
    /// How often gates took frames: [`Claimed`](Self::Claimed) over this is how many they took at once.
    Claims = 16,
    /// Letters that actors sent to actors, answers included.
    Letters = 17,
    /// Actors that left for the store.
    Evicted = 18,
    /// Actors that came back from it.
    Fetched = 19,
    /// Messages that wait at the moment for actors that come or go, or for room for them.
    Waiting = 20,
    /// Actors that the store failed to bring.
    FetchFailures = 21,
    /// Actors that the store failed to keep.
    EvictFailures = 22,
    /// Letters that found no room in their mailbox, and waited in the overflow of their sender's shard.
    LettersOverflowed = 23,
    /// Messages that came after their deadline, and were not run.
    Expired = 24,
    /// Messages whose id was that of an earlier one, and that were not run again.
    Duplicates = 25,
    /// Messages that expected another version of their actor, and were not run.
    StaleVersions = 26,
    /// Dead letters that were kept ([`crate::dead_letter`]).
    DeadLetters = 27,
    /// Dead letters for which the queue had no room.
    DeadLettersDropped = 28,
    /// Pages that were taken from pools: less [`PagesGiven`](Self::PagesGiven), the pages in use.
    PagesTaken = 29,
    /// Pages that were given back to pools.
    PagesGiven = 30,
    /// Messages that failed because their shard's pool had no page left.
    PoolExhausted = 31,
    /// Blocks that were published.
    BlocksPublished = 32,
    /// Blocks that were replaced or taken back.
    BlocksRetired = 33,
    /// Blocks of those whose pages are free again.
    BlocksReclaimed = 34,
    /// Letters by which an actor goes on that were put back in line, because there was no room for what their handler sent.
    LettersPutBack = 35,
    /// Times that a supervised actor began anew, because it failed or was ordered to.
    Restarts = 37,
    /// Times that a supervised actor was stopped.
    Stops = 38,
    /// Actors that are or were children of others: none of them is ever evicted.
    Supervised = 39,
    /// Searches for an actor to evict that passed over one whose collections are too large to go to the store.
    TooLargeToEvict = 40,
    /// Broadcasts that have gone through all shards.
    Broadcasts = 41,
    /// Letters that broadcasts sent to actors, one for each that they found.
    BroadcastLetters = 42,
}

/// Written by the host.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct TelemetryHost {
    /// [`TELEMETRY_MAGIC`].
    pub magic: u64,
    /// [`crate::abi::HASH`].
    pub abi_hash: u64,
    /// Process of the engine.
    pub process: u32,
    /// 1: GPU, 2: CPU threads, 3: simulated warps.
    pub backend: u32,
    /// Launches of the ring kernel since the engine was built.
    pub launches: u64,
    /// When the engine was built, Unix nanoseconds.
    pub started_unix_ns: u64,
    /// The mode last commanded, as a word.
    pub mode_commanded: u32,
    /// Warps of the engine.
    pub warps: u32,
    /// Shards of the engine.
    pub shards: u32,
    /// Lanes of the engine.
    pub lanes: u32,
    /// Copies of actor state between host and device.
    pub state_copies: u64,
    /// Name of the device in UTF-8, cut at 48 bytes, zero-padded.
    pub device_name: [u8; 48],
    /// Zero.
    pub reserved: [u32; 4],
}

/// Written by the device loop; between two launches the host clears `relaunch_wanted`.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct TelemetryStatus {
    /// Grows while the device loop turns; only the loop writes it.
    pub heartbeat: u64,
    /// The device clock at that beat, nanoseconds.
    pub device_ns: u64,
    /// Epoch of the last command that every living warp has obeyed.
    pub epoch_obeyed: u64,
    /// Warps that still run.
    pub warps_running: u64,
    /// Not 0: so many lanes of warps were lost that the kernel asks to be launched anew.
    pub relaunch_wanted: u64,
    /// Device clock at the first beat of this launch, nanoseconds.
    pub launched_device_ns: u64,
    /// Refreshes of the counters below; changes when they do.
    pub refreshes: u64,
    /// Zero.
    pub reserved: [u64; 9],
}

/// The whole page.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct TelemetryPage {
    /// Bytes 0 to 127.
    pub host: TelemetryHost,
    /// Bytes 128 to 255.
    pub status: TelemetryStatus,
    /// Bytes 256 to 639: counters by [`Counter`], zero behind the last.
    pub counters: [u64; COUNTERS],
    /// Bytes 640 to 1151: see [`LATENCY_BUCKETS`].
    pub latency: [u64; LATENCY_BUCKETS],
}

/// What one warp counts in device memory; only that warp writes it.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct WarpStats {
    /// Counters by [`Counter`].
    pub counters: [u64; COUNTERS],
    /// See [`LATENCY_BUCKETS`].
    pub latency: [u64; LATENCY_BUCKETS],
}

/// The histogram bucket of a latency.
#[inline(always)]
pub const fn latency_bucket(ns: u64) -> u32 {
    63u32.wrapping_sub((ns | 1).leading_zeros())
}

/// The latency below which `share` (0 to 1) of the histogram's samples lie, as the upper bound of a bucket in ns; 0 without
/// samples.
pub fn latency_quantile(histogram: &[u64; LATENCY_BUCKETS], share: f64) -> u64 {
    let total: u64 = histogram.iter().sum();
    let wanted = (total as f64 * share) as u64;
    let mut seen = 0;
    for (bucket, &count) in histogram.iter().enumerate() {
        seen += count;
        if count > 0 && seen > wanted.min(total - 1) {
            return 2u64.saturating_pow(bucket as u32 + 1);
        }
    }
    0
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<TelemetryHost>() == LINE_BYTES);
    assert!(size_of::<TelemetryStatus>() == LINE_BYTES);
    assert!(offset_of!(TelemetryPage, status) == 128);
    assert!(offset_of!(TelemetryPage, counters) == 256);
    assert!(offset_of!(TelemetryPage, latency) == 640);
    assert!(size_of::<TelemetryPage>() == 1152 && size_of::<TelemetryPage>() <= TELEMETRY_BYTES);
    assert!(size_of::<WarpStats>() == 896 && align_of::<WarpStats>() == LINE_BYTES);
    assert!((Counter::BlocksReclaimed as usize) < COUNTERS);
    assert!((Counter::TooLargeToEvict as usize) < COUNTERS);
    assert!((Counter::BroadcastLetters as usize) < COUNTERS);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_powers_of_two() {
        assert_eq!(latency_bucket(0), 0);
        assert_eq!(latency_bucket(1), 0);
        assert_eq!(latency_bucket(2), 1);
        assert_eq!(latency_bucket(1023), 9);
        assert_eq!(latency_bucket(1024), 10);
        assert_eq!(latency_bucket(u64::MAX), 63);
    }

    #[test]
    fn quantiles_are_bounds_of_buckets() {
        let mut histogram = [0; LATENCY_BUCKETS];
        assert_eq!(latency_quantile(&histogram, 0.5), 0);
        histogram[9] = 90;
        histogram[12] = 10;
        assert_eq!(latency_quantile(&histogram, 0.5), 1024);
        assert_eq!(latency_quantile(&histogram, 0.95), 8192);
        assert_eq!(latency_quantile(&histogram, 1.0), 8192);
    }
}
