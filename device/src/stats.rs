//! What a warp counts.
//!
//! Every warp has counters of its own in device memory, so an addition meets nobody. Additions return nothing and are never
//! waited for.

use tourbillon_shared::geometry::KernelArguments;
use tourbillon_shared::telemetry::{Counter, WarpStats, latency_bucket};

use crate::arch::Arch;

/// The counters of the warp that runs.
#[derive(Clone, Copy, Debug)]
pub struct Stats {
    stats: *mut WarpStats,
}

impl Stats {
    /// The counters of warp `warp` of the grid.
    pub fn new(arguments: &KernelArguments, warp: u32) -> Self {
        let first = arguments.memory.wrapping_add(arguments.layout.stats) as *mut WarpStats;
        Self { stats: first.wrapping_add(warp as usize) }
    }

    /// The counters at an address: those of the warp that runs.
    pub(crate) fn at(address: u64) -> Self {
        Self { stats: address as *mut WarpStats }
    }

    /// Adds to a counter.
    #[inline(always)]
    pub fn add<A: Arch>(self, counter: Counter, value: u64) {
        // SAFETY: the pointer leads into the engine's device memory; the counter's number is inside the array.
        unsafe { A::add_relaxed_gpu(self.counter(counter), value) };
    }

    /// Sets a counter that says what came last.
    #[inline(always)]
    pub fn set<A: Arch>(self, counter: Counter, value: u64) {
        // SAFETY: as in `add`.
        unsafe { A::store_relaxed_gpu(self.counter(counter), value) };
    }

    /// Counts one message that took `ns` from the gate to its reply.
    #[inline(always)]
    pub fn latency<A: Arch>(self, ns: u64) {
        // SAFETY: as in `add`; a bucket is below 64.
        unsafe {
            A::add_relaxed_gpu((&raw mut (*self.stats).latency).cast::<u64>().add(latency_bucket(ns) as usize), 1)
        };
    }

    #[inline(always)]
    fn counter(self, counter: Counter) -> *mut u64 {
        // SAFETY: no access happens here; the place lies inside the statistics.
        unsafe { (&raw mut (*self.stats).counters).cast::<u64>().add(counter as usize) }
    }
}
