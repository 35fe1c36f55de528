//! The control warp: the one warp that talks to the host for all others.
//!
//! A warp of the first gate block reads the control block over the bus, mirrors it in device memory, writes the heartbeat,
//! refreshes the telemetry page, and gives the room that clients have read of their outboxes back to those who post. Where there are few threads it serves as well.

use tourbillon_shared::control::ControlBlock;
use tourbillon_shared::geometry::KernelArguments;
use tourbillon_shared::telemetry::{COUNTERS, Counter, LATENCY_BUCKETS, WarpStats};

use crate::arch::Arch;
use crate::kernel::{EPOCH_OF_THE_DEPARTED, Orders, PAUSE_NS, mirror, obey, page, warps};
use crate::outbox::{look_at_credits, tell_counts};
use crate::warp::Warp;

/// How long the control warp waits for the others after a stop, before it leaves without their last counts.
const LAST_REFRESH_NS: u64 = 5_000_000;
/// Time between two looks at the credit of outboxes: that of a few round trips over the bus, so that a control warp that serves as
/// well has other things to do in between.
const CREDIT_NS: u64 = 5_000;

/// What the control warp remembers.
#[derive(Debug)]
pub(crate) struct Control {
    /// Chunk tags last mirrored: command, clock offset.
    mirrored: (u32, u32),
    /// The epoch that was last told to be obeyed by all.
    told: u32,
    beats: u64,
    next_beat_ns: u64,
    next_refresh_ns: u64,
    next_credit_ns: u64,
    refreshes: u64,
}

impl Control {
    /// At the kernel's start, which was at `now_ns`.
    pub(crate) fn new(now_ns: u64) -> Self {
        Self {
            mirrored: (0, 0),
            told: 0,
            beats: 0,
            next_beat_ns: now_ns,
            next_refresh_ns: now_ns,
            next_credit_ns: now_ns,
            refreshes: 0,
        }
    }

    /// Mirrors the control block and, when it is time, beats and refreshes.
    pub(crate) fn step<A: Arch, const WHOLE: bool>(
        &mut self,
        warp: &Warp<A, WHOLE>,
        arguments: &KernelArguments,
        orders: &Orders,
    ) {
        let now_ns = warp.broadcast_u64(A::now_ns(), 0);
        self.mirror_control(warp, arguments);
        // A machine that may sleep after this looks every time: the ring that tells of credit may have come before it announced its
        // sleep.
        if now_ns >= self.next_credit_ns || A::SLEEPS {
            self.next_credit_ns = now_ns.wrapping_add(CREDIT_NS);
            // SAFETY: this is the control warp; each of its lanes has a share of its own.
            unsafe { look_at_credits::<A>(arguments, warp.rank(), warp.size()) };
        }
        if now_ns < self.next_beat_ns {
            return;
        }
        self.next_beat_ns = now_ns.wrapping_add(arguments.beat_ns.into());
        let epoch = orders.command.epoch;
        let (all_obey, departed) = survey(warp, arguments, epoch, self.told != epoch);
        if all_obey {
            self.told = epoch;
        }
        let status = page(arguments);
        self.beats = self.beats.wrapping_add(1);
        if warp.rank() == 0 {
            // SAFETY: the page is mapped for the launch, and this lane is the only writer of its status.
            unsafe {
                A::store_relaxed_sys(&raw mut (*status).status.device_ns, now_ns);
                A::store_relaxed_sys(&raw mut (*status).status.heartbeat, self.beats);
                A::store_relaxed_sys(
                    &raw mut (*status).status.warps_running,
                    u64::from(warps(arguments).wrapping_sub(departed)),
                );
                A::store_relaxed_sys(&raw mut (*status).status.relaunch_wanted, departed.into());
                if all_obey {
                    A::store_release_sys(&raw mut (*status).status.epoch_obeyed, orders.command.epoch.into());
                }
            }
        }
        if now_ns >= self.next_refresh_ns {
            self.next_refresh_ns = now_ns.wrapping_add(arguments.refresh_ns.into());
            self.refresh(warp, arguments);
        }
    }

    /// Copies the control block to its mirror when it has changed.
    #[inline(always)]
    fn mirror_control<A: Arch, const WHOLE: bool>(&mut self, warp: &Warp<A, WHOLE>, arguments: &KernelArguments) {
        let control = arguments.control as *const ControlBlock;
        // SAFETY: the control block is mapped for the launch.
        let (command, offset) = unsafe {
            (A::load_chunk_sys(&raw const (*control).command), A::load_chunk_sys(&raw const (*control).clock_offset))
        };
        let tags = (warp.broadcast(command.tag(), 0), warp.broadcast(offset.tag(), 0));
        if tags == self.mirrored {
            return;
        }
        if warp.rank() == 0 {
            let mirror = mirror(arguments);
            // SAFETY: only this lane writes the mirror.
            unsafe {
                A::store_chunk_gpu(mirror.wrapping_add(1), offset);
                A::store_chunk_gpu(mirror, command);
            }
        }
        self.mirrored = tags;
    }

    /// Sums every warp's counters into the telemetry page, each lane its share of the words.
    fn refresh<A: Arch, const WHOLE: bool>(&mut self, warp: &Warp<A, WHOLE>, arguments: &KernelArguments) {
        const WORDS: u32 = (COUNTERS + LATENCY_BUCKETS) as u32;
        let stats = arguments.memory.wrapping_add(arguments.layout.stats) as *const WarpStats;
        let status = page(arguments);
        let mut word = warp.rank();
        while word < WORDS {
            let mut sum = 0u64;
            let mut index = 0;
            while index < warps(arguments) {
                // SAFETY: a word of a warp's statistics, which are words all through.
                let value = unsafe {
                    A::load_relaxed_gpu(stats.wrapping_add(index as usize).cast::<u64>().wrapping_add(word as usize))
                };
                sum = if word == Counter::LastFailure as u32 {
                    if value > sum { value } else { sum }
                } else {
                    sum.wrapping_add(value)
                };
                index = index.wrapping_add(1);
            }
            // SAFETY: the page is mapped, and this lane is the word's only writer.
            unsafe {
                let target = if word < COUNTERS as u32 {
                    (&raw mut (*status).counters).cast::<u64>().wrapping_add(word as usize)
                } else {
                    (&raw mut (*status).latency).cast::<u64>().wrapping_add((word as usize).wrapping_sub(COUNTERS))
                };
                A::store_relaxed_sys(target, sum);
            }
            word = word.wrapping_add(warp.size());
        }
        // SAFETY: as in `step`.
        unsafe { tell_counts::<A>(arguments, warp.rank(), warp.size()) };
        warp.sync();
        self.refreshes = self.refreshes.wrapping_add(1);
        if warp.rank() == 0 {
            // SAFETY: as in `step`.
            unsafe { A::store_relaxed_sys(&raw mut (*status).status.refreshes, self.refreshes) };
        }
    }

    /// After the stop: waits a little for the other warps' last counts, then writes them to the page.
    pub(crate) fn finish<A: Arch, const WHOLE: bool>(
        &mut self,
        warp: &Warp<A, WHOLE>,
        arguments: &KernelArguments,
        orders: &Orders,
    ) {
        let epoch = orders.command.epoch;
        obey(warp, arguments, 0, epoch);
        let until_ns = warp.broadcast_u64(A::now_ns(), 0).wrapping_add(LAST_REFRESH_NS);
        loop {
            let (all_obey, _) = survey(warp, arguments, epoch, true);
            if all_obey || warp.broadcast_u64(A::now_ns(), 0) >= until_ns {
                break;
            }
            A::relax(0);
            A::rest(PAUSE_NS);
        }
        self.refresh(warp, arguments);
        if warp.rank() == 0 {
            // SAFETY: as in `step`.
            unsafe { A::store_release_sys(&raw mut (*page(arguments)).status.epoch_obeyed, epoch.into()) };
        }
    }
}

/// Whether every warp that runs obeys the command of `epoch`, and how many warps have departed. Where it matters that what they did
/// before has happened, `acquires` says so.
fn survey<A: Arch, const WHOLE: bool>(
    warp: &Warp<A, WHOLE>,
    arguments: &KernelArguments,
    epoch: u32,
    acquires: bool,
) -> (bool, u32) {
    let obeyed = arguments.memory.wrapping_add(arguments.layout.obeyed) as *const u32;
    let (mut lags, mut departed) = (false, 0u32);
    let mut first = 0;
    while first < warps(arguments) {
        let index = first.wrapping_add(warp.rank());
        let mut value = epoch;
        if index < warps(arguments) {
            let word = obeyed.wrapping_add(index as usize);
            // SAFETY: the word of a warp of the launch.
            value = unsafe { if acquires { A::load_obeyed_gpu(word) } else { A::peek_obeyed_gpu(word) } };
        }
        lags |= value != epoch && value != EPOCH_OF_THE_DEPARTED;
        departed = departed.wrapping_add(warp.ballot(value == EPOCH_OF_THE_DEPARTED).count_ones());
        first = first.wrapping_add(warp.size());
    }
    (!warp.any(lags), departed)
}
