//! The dispatch loop.
//!
//! Launched once, the loop never exits by itself. Every warp looks at the mirror of the control block every few rounds and
//! obeys it between two windows. One warp of the first gate block, the control warp (module `control`), keeps that mirror.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::control::{Command, Mode};
use tourbillon_shared::geometry::KernelArguments;
use tourbillon_shared::slot::{CHUNKS_PER_SLOT, Chunk};
use tourbillon_shared::telemetry::{Counter, TelemetryPage};

use crate::arch::Arch;
use crate::block::Block;
use crate::clock::Clock;
use crate::control::Control;
use crate::gate::Gate;
use crate::lone::forward::Watched;
use crate::lone::run::{Handed, LoneRings, Looked};
use crate::mailbox;
use crate::stats::Stats;
use crate::system::System;
use crate::turn::{Ring, Turns, run_ring};
use crate::warp::Warp;

/// Rounds of a serving warp between two looks at the mirror. A look costs a load from the second-level cache; the answer to a
/// command takes some of them, or one watch, which is longer.
const ROUNDS_PER_COMMAND: u32 = 16;
/// What a warp that left notes in place of the epoch it obeys.
pub const EPOCH_OF_THE_DEPARTED: u32 = u32::MAX;
/// Watches of its home after which a warp looks at all rings of its block once, for a home may have lost its warps. A
/// watch of idle rings takes some tens of microseconds.
const WATCHES_PER_WIDE_LOOK: u32 = 8;
/// How long a warp rests whose home another one watches.
const STANDBY_NS: u32 = 1_000;
/// How long a paused warp rests between two looks at the mirror.
pub(crate) const PAUSE_NS: u32 = 2_000;

/// Rounds for which a warp watches its home. Twice as many where there are letters: one that comes between two watches waits for what is
/// done there, which takes a tenth as long as such a watch.
const fn home_rounds<A: Arch, S: System>() -> u32 {
    if S::LETTERS { A::HOME_ROUNDS.wrapping_mul(2) } else { A::HOME_ROUNDS }
}

/// The control words as a warp sees them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Orders {
    pub(crate) command: Command,
    pub(crate) mode: Mode,
    pub(crate) clock_offset: u64,
}

/// The kernel's body: every lane of every warp runs it until the kernel is stopped.
///
/// # Safety
/// `arguments` and all that they point to are those of a launch, set up as [`KernelArguments`] says, and stay valid until
/// every lane has returned.
#[inline(always)]
pub unsafe fn run<A: Arch, S: System>(arguments: *const KernelArguments) {
    // SAFETY: the caller vouches for the arguments, which nobody writes while the kernel runs.
    let arguments = unsafe { &*arguments };
    if arguments.abi_hash != tourbillon_shared::abi::HASH {
        return;
    }
    let geometry = &arguments.geometry;
    let block = Block::new::<A>(arguments);
    let mut warp = Warp::<A, true>::whole();
    block.load(&warp);

    let in_block = A::warp();
    let in_grid = block.number.wrapping_mul(geometry.warps_per_block).wrapping_add(in_block);
    // A control warp of its own, where there are warps to spare.
    let spares = geometry.combined == 0 && geometry.warps_per_block > 1;
    let is_control = in_grid == 0;
    let first_poller = u32::from(block.number == 0 && spares);
    let pollers = geometry.warps_per_block.wrapping_sub(first_poller);
    // Every lane reads another time: what the warp branches on must be one of them.
    let now_ns = warp.broadcast_u64(A::now_ns(), 0);
    let mut server = Server {
        block,
        in_grid,
        stats: Stats::new(arguments, in_grid),
        scratch: block.scratch(in_block),
        is_control,
        is_control_only: is_control && spares,
        gate: Gate::new(&block, in_block.wrapping_sub(first_poller), pollers),
        turns: Turns::new(in_block),
        lone_rings: LoneRings::new::<A, S, true>(&warp, &block, in_block),
        handed: Handed::nothing(),
        until_wide: WATCHES_PER_WIDE_LOOK,
        clock: Clock::new(0, now_ns),
        idle: 0,
        until_orders: 0,
        control: Control::new(now_ns),
        orders: Orders { command: Command::of(Mode::Resident), mode: Mode::Resident, clock_offset: 0 },
    };
    if is_control && warp.rank() == 0 {
        // SAFETY: the page is mapped, and this lane its only writer.
        unsafe { A::store_relaxed_sys(&raw mut (*page(arguments)).status.launched_device_ns, now_ns) };
    }
    server.serve::<A, S, true>(&mut warp);
    if warp.has_losses() {
        server.serve_damaged::<A, S>(&mut warp.damaged());
    } else {
        server.leave(&warp);
    }
}

/// What a warp knows while it serves.
#[derive(Debug)]
struct Server<'k> {
    block: Block<'k>,
    in_grid: u32,
    stats: Stats,
    scratch: *mut WarpScratch,
    is_control: bool,
    is_control_only: bool,
    gate: Gate,
    turns: Turns,
    lone_rings: Option<LoneRings>,
    handed: Handed,
    /// Watches of the warp's home until the next look at all rings of the block.
    until_wide: u32,
    clock: Clock,
    /// Rounds, or watches, since the last that found something.
    idle: u32,
    /// Rounds until the next look at the mirror.
    until_orders: u32,
    control: Control,
    orders: Orders,
}

impl Server<'_> {
    /// The dispatch loop: ends when the kernel is stopped, when too few lanes are left, and, for a warp that was whole, when it
    /// has lost a lane.
    ///
    /// Lone messages are served by the short ways, which are compiled into the loop; everything else is left to one call out of
    /// it, across which nothing needs to be kept in registers.
    #[inline(always)]
    fn serve<A: Arch, S: System, const WHOLE: bool>(&mut self, warp: &mut Warp<A, WHOLE>) {
        let polls = self.block.is_gate() && !self.is_control_only;
        let runs = self.block.shards() != 0;
        let has_short_ways = WHOLE && A::LANES >= CHUNKS_PER_SLOT as u32;
        if !warp.lend(|warp| self.look_up(warp, true, 0)) {
            return;
        }
        match (polls, runs) {
            (true, false) if has_short_ways => loop {
                let watched = self.watch_lane(warp);
                if !warp.lend(|warp| self.after_lane(warp, watched)) {
                    return;
                }
            },
            (false, true) if has_short_ways => loop {
                let looked = self.watch_home::<A, S, WHOLE>(warp);
                if !warp.lend(|warp| self.after_home::<A, S, WHOLE>(warp, looked)) {
                    return;
                }
            },
            _ => while warp.lend(|warp| self.look_at_all::<A, S, WHOLE>(warp, polls, runs)) {},
        }
    }

    /// Polls the only lane of this warp for some rounds, if it has only one and nothing is expected from it.
    #[inline(always)]
    fn watch_lane<A: Arch, const WHOLE: bool>(&mut self, warp: &Warp<A, WHOLE>) -> Watched {
        let Some(lane) = self.gate.lone_lane(warp, &self.block) else { return Watched::Others };
        let Self { block, scratch, stats, clock, .. } = *self;
        lane.watch(warp, &block, scratch, stats, &clock, A::WATCH_ROUNDS)
    }

    /// Does what watching the lane has left to be done; whether the warp goes on.
    #[inline(never)]
    fn after_lane<A: Arch, const WHOLE: bool>(&mut self, warp: &mut Warp<A, WHOLE>, watched: Watched) -> bool {
        let found = match watched {
            Watched::Nothing => false,
            Watched::Some => true,
            Watched::Burst => {
                self.gate.expect_more();
                true
            }
            Watched::Left(visit) => {
                let found = self.gate.visit(warp, &self.block, self.scratch, self.stats, &self.clock, visit);
                if found {
                    self.gate.expect_more();
                }
                found
            }
            Watched::Others => self.poll_lanes(warp),
        };
        self.look_up(warp, found, if matches!(watched, Watched::Nothing | Watched::Some) { A::WATCH_ROUNDS } else { 1 })
    }

    /// Watches the rings of the warp's home for some rounds.
    #[inline(always)]
    fn watch_home<A: Arch, S: System, const WHOLE: bool>(&mut self, warp: &mut Warp<A, WHOLE>) -> Looked {
        let Self { block, scratch, stats, clock, .. } = *self;
        match self.lone_rings {
            Some(rings) if self.until_wide != 0 => {
                let rounds = home_rounds::<A, S>();
                rings.watch::<A, S, WHOLE>(warp, &block, scratch, stats, &clock, rounds, &mut self.handed)
            }
            _ => Looked::Others,
        }
    }

    /// Does what watching the home has left to be done; whether the warp goes on.
    #[inline(never)]
    fn after_home<A: Arch, S: System, const WHOLE: bool>(&mut self, warp: &mut Warp<A, WHOLE>, looked: Looked) -> bool {
        self.until_wide = self.until_wide.saturating_sub(1);
        let found = match looked {
            Looked::Nothing => false,
            Looked::Some => true,
            Looked::Taken => {
                A::rest(STANDBY_NS);
                self.until_wide = 0;
                false
            }
            Looked::Several => {
                let (ready, position, ring) = self.handed.several;
                self.serve_rings::<A, S, WHOLE>(warp, ready, position, ring);
                true
            }
            Looked::Held => {
                let Self { block, scratch, stats, clock, handed, .. } = self;
                run_ring::<A, S, WHOLE>(warp, block, *scratch, *stats, clock, handed.visit, handed.lost);
                true
            }
            Looked::Others => {
                self.until_wide = WATCHES_PER_WIDE_LOOK;
                self.look_at_rings::<A, S, WHOLE>(warp)
            }
        };
        if S::LETTERS && mailbox::has_overflowed(warp, &self.block) {
            self.until_wide = 0;
        }
        let watched = matches!(looked, Looked::Nothing | Looked::Some);
        self.look_up(warp, found, if watched { home_rounds::<A, S>() } else { 1 })
    }

    /// One round of a warp without the short ways; whether it goes on.
    #[inline(never)]
    fn look_at_all<A: Arch, S: System, const WHOLE: bool>(
        &mut self,
        warp: &mut Warp<A, WHOLE>,
        polls: bool,
        runs: bool,
    ) -> bool {
        let mut found = polls && self.poll_lanes(warp);
        if runs {
            found |= self.look_at_rings::<A, S, WHOLE>(warp);
        }
        self.look_up(warp, found, 1)
    }

    /// What a warp does between two looks, the last of which took `rounds` rounds: follows orders now and then, and rests
    /// while the engine does; whether it goes on.
    #[inline(never)]
    fn look_up<A: Arch, const WHOLE: bool>(&mut self, warp: &Warp<A, WHOLE>, found: bool, rounds: u32) -> bool {
        if !warp.is_viable() || (WHOLE && warp.has_losses()) {
            return false;
        }
        self.until_orders = self.until_orders.saturating_sub(rounds);
        if found {
            self.idle = 0;
        } else {
            self.idle = self.idle.wrapping_add(1);
            A::relax(self.idle);
        }
        loop {
            if self.is_control {
                self.control.step(warp, self.block.arguments, &self.orders);
            }
            let is_slow = !self.orders.mode.serves() || (A::SLEEPS && self.idle > ROUNDS_PER_COMMAND);
            if is_slow || self.until_orders == 0 {
                self.until_orders = ROUNDS_PER_COMMAND;
                self.follow_orders(warp);
                self.clock = self.clock.keep_up(self.orders.clock_offset, A::now_ns());
                if self.orders.mode == Mode::Stopped && !tourbillon_shared::mutant!("lost_stop_check") {
                    return false;
                }
            }
            if self.is_control_only {
                self.until_orders = 0;
                A::rest(self.block.arguments.beat_ns / 2);
            } else if self.orders.mode.serves() {
                return true;
            } else {
                self.idle = self.idle.wrapping_add(1);
                A::relax(self.idle);
                A::rest(PAUSE_NS);
            }
        }
    }

    /// Looks at the mirror, and obeys a new command.
    #[inline(always)]
    fn follow_orders<A: Arch, const WHOLE: bool>(&mut self, warp: &Warp<A, WHOLE>) {
        let arguments = self.block.arguments;
        let before = self.orders.command;
        // Lanes may see different mirrors; all go by rank 0's.
        self.orders = agree(warp, read_mirror::<A>(arguments));
        if self.orders.command != before {
            self.gate.follow(&self.block, &self.orders.command);
            obey(warp, arguments, self.in_grid, self.orders.command.epoch);
        }
    }

    /// Looks at several lanes, or at more of one.
    #[inline(always)]
    fn poll_lanes<A: Arch, const WHOLE: bool>(&mut self, warp: &Warp<A, WHOLE>) -> bool {
        self.gate.step(warp, &self.block, self.scratch, self.stats, &self.clock)
    }

    /// Looks at some rings of the block.
    #[inline(always)]
    fn look_at_rings<A: Arch, S: System, const WHOLE: bool>(&mut self, warp: &mut Warp<A, WHOLE>) -> bool {
        // First what waits for room, so that nothing that is sent now could pass it for long.
        let settled = S::LETTERS && mailbox::settle_some(warp, &self.block, self.scratch);
        self.turns.step::<A, S, WHOLE>(warp, &self.block, self.scratch, self.stats, &self.clock) | settled
    }

    /// Works off the rings that a look found ready.
    #[inline(always)]
    fn serve_rings<A: Arch, S: System, const WHOLE: bool>(
        &mut self,
        warp: &mut Warp<A, WHOLE>,
        ready: u32,
        position: u64,
        ring: Ring,
    ) {
        let Self { block, scratch, stats, clock, .. } = self;
        self.turns.serve::<A, S, WHOLE>(warp, block, *scratch, *stats, clock, ready, position, ring);
    }

    /// The loop of a warp that has lost lanes, and its end. Kept out of the way of warps that have not.
    #[cold]
    #[inline(never)]
    fn serve_damaged<A: Arch, S: System>(&mut self, warp: &mut Warp<A, false>) {
        if !tourbillon_shared::mutant!("ranks_unmoved") {
            self.turns.forget();
        }
        if warp.is_viable() && self.orders.mode != Mode::Stopped {
            self.serve::<A, S, false>(warp);
        }
        self.leave(warp);
    }

    /// The end of a warp: the last one of a block spills, the control warp sees to the telemetry.
    fn leave<A: Arch, const WHOLE: bool>(&mut self, warp: &Warp<A, WHOLE>) {
        let arguments = self.block.arguments;
        if self.is_control {
            self.control.finish(warp, arguments, &self.orders);
        }
        self.block.leave(warp);
        if !warp.is_viable() {
            if warp.rank() == 0 {
                self.stats.add::<A>(Counter::WarpsRetired, 1);
            }
            obey(warp, arguments, self.in_grid, EPOCH_OF_THE_DEPARTED);
        }
    }
}

pub(crate) fn page(arguments: &KernelArguments) -> *mut TelemetryPage {
    arguments.telemetry as *mut TelemetryPage
}

pub(crate) fn mirror(arguments: &KernelArguments) -> *mut Chunk {
    arguments.memory.wrapping_add(arguments.layout.mirror) as *mut Chunk
}

/// The mirror of the control block.
#[inline(always)]
fn read_mirror<A: Arch>(arguments: &KernelArguments) -> Orders {
    let mirror = mirror(arguments);
    // SAFETY: two chunks at the beginning of the engine's memory.
    let (command, offset) = unsafe { (A::load_chunk_gpu(mirror), A::load_chunk_gpu(mirror.wrapping_add(1))) };
    let [low, high, ..] = offset.words;
    let clock_offset = u64::from(low) | u64::from(high) << 32;
    let command = Command::decode(command);
    Orders { command, mode: mode_of(&command, clock_offset), clock_offset }
}

/// The mode of a command, for a warp that knows of this clock offset. The mirror's two chunks are not ordered: a command that comes
/// before the offset, after a launch, must wait for it, for by a clock that shows the wrong decade everything would be refused.
#[inline(always)]
fn mode_of(command: &Command, clock_offset: u64) -> Mode {
    match Mode::from_word(command.mode) {
        Some(mode) if !mode.serves() || clock_offset != 0 => mode,
        _ => Mode::Resident,
    }
}

/// Rank 0's view of the mirror, for all lanes.
#[inline(always)]
fn agree<A: Arch, const WHOLE: bool>(warp: &Warp<A, WHOLE>, orders: Orders) -> Orders {
    if A::LANES == 1 {
        return orders;
    }
    let [first, low, high, epoch] = orders.command.encode().words;
    let lanes = warp.broadcast_u64(u64::from(low) | u64::from(high) << 32, 0);
    let words = [warp.broadcast(first, 0), lanes as u32, (lanes >> 32) as u32];
    let command = Command::decode(Chunk::new(words, warp.broadcast(epoch, 0)));
    let clock_offset = warp.broadcast_u64(orders.clock_offset, 0);
    Orders { command, mode: mode_of(&command, clock_offset), clock_offset }
}

/// Whether the kernel is still commanded to serve: for work that is too long to be begun before a stop.
pub(crate) fn serves<A: Arch, const WHOLE: bool>(warp: &Warp<A, WHOLE>, arguments: &KernelArguments) -> bool {
    // SAFETY: the mirror is two chunks at the beginning of the engine's memory.
    let command = Command::decode(unsafe { A::load_chunk_gpu(mirror(arguments)) });
    Mode::from_word(warp.broadcast(command.mode, 0)).is_some_and(Mode::serves)
}

/// Notes that this warp acts by the command of `epoch`.
pub(crate) fn obey<A: Arch, const WHOLE: bool>(
    warp: &Warp<A, WHOLE>,
    arguments: &KernelArguments,
    in_grid: u32,
    epoch: u32,
) {
    warp.sync();
    if warp.rank() == 0 {
        let obeyed = arguments.memory.wrapping_add(arguments.layout.obeyed) as *mut u32;
        // SAFETY: the word of this warp, which only it writes.
        unsafe { A::store_obeyed_gpu(obeyed.wrapping_add(in_grid as usize), epoch) };
    }
}

/// Warps of the launch.
pub(crate) fn warps(arguments: &KernelArguments) -> u32 {
    arguments.geometry.blocks.wrapping_mul(arguments.geometry.warps_per_block)
}
