//! Turns: the exclusive right to run a shard, and what is done with it.
//!
//! A turn is one word in the block's memory, taken with acquire, given back with release, held by one warp. So no lock ever
//! guards an actor, and the warps of a block work on different shards. A turn has four phases:
//!
//! 1. *Take* (uniform): frames are staged and grouped by actor; all frames of one actor go to one lane, in order.
//! 2. *Resolve* (uniform): actors are looked up, new ones get room.
//! 3. *Run* (divergent): handlers. A handler touches its own actor and its own frame, nothing shared, and calls no
//!    collective.
//! 4. *Commit* (uniform): replies are stored over the bus, counters bumped.
//!
//! Only *Run* can panic. On a GPU a panic costs the lane that ran the handler: what is left of the warp answers the frame with a
//! failure, runs the rest of that lane's frames and goes on. One lane of a warp never runs handlers, so that there is always
//! somebody left.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::header::Flags;
use tourbillon_shared::mailbox::slots_until_told;
use tourbillon_shared::position::RingShape;
use tourbillon_shared::slot::{CHUNKS_PER_SLOT, SLOT_BYTES, Slot};

use crate::arch::Arch;
use crate::block::Block;
use crate::clock::Clock;
use crate::directory::Directory;
use crate::frames::{Frames, split, staged_flags};
use crate::handler::is_plain;
use crate::landing::land;
use crate::lone::run::{Home, Tried, run_one};
use crate::look::{Way, agreed, glance, look};
use crate::mailbox;
use crate::stats::Stats;
use crate::system::System;
use crate::virtual_actors::{
    STEP_FIRST, STEP_HELD, STEP_LARGE, STEP_OVER, STEP_SLOTS, are_on, is_order, progress, step_of_order,
};
use crate::warp::{Warp, lowest};
use crate::window::{Window, recover, run_groups, take};

const PARTS: u32 = CHUNKS_PER_SLOT as u32;
/// Windows that a warp works on before it gives the turn back, so that the gates' rings of a shard get their share each.
const WINDOWS_MAX: u32 = 8;

/// What a shard warp remembers between two looks.
#[derive(Debug)]
pub struct Turns {
    /// Ring (shard of the block and gate) to begin the next look with.
    next: u32,
    /// The first ring of the look that `mine` was found for; `u32::MAX` before the first look.
    first: u32,
    /// The ring at which this lane looks.
    mine: Ring,
}

/// One ring of a shard of this block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ring {
    pub local: u32,
    /// The gate that writes it; one past the last gate for the shard's mailbox.
    pub gate: u32,
    /// Its first slot.
    pub slots: *const Slot,
}

/// A ring whose head was found staged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit {
    pub ring: Ring,
    /// What was looked at.
    pub position: u64,
    /// Where it is staged.
    pub base: u32,
    /// Whether heads of other rings are staged behind it.
    pub others_staged: bool,
}

impl Ring {
    /// No ring.
    pub(crate) const NONE: Self = Self { local: 0, gate: 0, slots: core::ptr::null() };

    /// Ring `gate` of the block's shard `local`, or its mailbox.
    #[inline(always)]
    pub(crate) fn new(block: &Block<'_>, local: u32, gate: u32) -> Self {
        Self { local, gate, slots: ring_slots(block, local, gate) }
    }

    /// Whether it is the shard's mailbox: never in a system without letters.
    #[inline(always)]
    pub(crate) fn is_mailbox<S: System>(&self, block: &Block<'_>) -> bool {
        S::LETTERS && self.gate == block.gates()
    }

    /// Its shape.
    #[inline(always)]
    pub(crate) fn shape<S: System>(&self, block: &Block<'_>) -> RingShape {
        if S::LETTERS { block.shape_of(self.gate) } else { block.ring_shape() }
    }

    /// The ring at which the lane of rank `from` looks, which looks at this one.
    #[inline(always)]
    pub(crate) fn of_lane<A: Arch, const WHOLE: bool>(
        &self,
        warp: &Warp<A, WHOLE>,
        block: &Block<'_>,
        from: u32,
    ) -> Self {
        if A::LANES == 1 {
            return *self;
        }
        // Shards of a block and gates have numbers below 2^16.
        let both = warp.broadcast(self.local | self.gate << 16, from);
        let (local, gate) = (both & 0xffff, both >> 16);
        Self::new(block, local, gate)
    }
}

impl Turns {
    /// The shard warp number `warp` of its block.
    pub fn new(warp: u32) -> Self {
        Self { next: warp, first: u32::MAX, mine: Ring::NONE }
    }

    /// Forgets which ring this lane looks at: to be called when ranks have moved.
    pub(crate) fn forget(&mut self) {
        self.first = u32::MAX;
    }

    /// Looks once at rings of the block's shards and runs what it finds; whether it found anything.
    #[inline(always)]
    pub(crate) fn step<A: Arch, S: System, const WHOLE: bool>(
        &mut self,
        warp: &mut Warp<A, WHOLE>,
        block: &Block<'_>,
        scratch: *mut WarpScratch,
        stats: Stats,
        clock: &Clock,
    ) -> bool {
        let sources = block.sources();
        let rings = block.shards().wrapping_mul(sources);
        if rings == 0 {
            return false;
        }
        let room = if warp.size() < PARTS { 1 } else { warp.size() / PARTS };
        let count = if rings < room { rings } else { room };
        // Where one look covers all rings, it always begins with the same.
        let first = if count == rings { 0 } else { self.next.checked_rem(rings).unwrap_or(0) };
        self.next = first.wrapping_add(count);
        if first != self.first {
            // Slot `i` of the look is the head of the ring `i` places on. Divisions are dear: found once for each `first`.
            let place = warp.rank() / PARTS;
            let index = first.wrapping_add(if place < count { place } else { 0 });
            let index = if index >= rings { index.wrapping_sub(rings) } else { index };
            let (local, gate) = (index.checked_div(sources).unwrap_or(0), index.checked_rem(sources).unwrap_or(0));
            self.mine = Ring::new(block, local, gate);
            self.first = first;
        }
        let ring = self.mine;
        // SAFETY: a position of the block's memory.
        let position = unsafe { A::load_cta(block.ring_head(ring.local, ring.gate)) };
        // SAFETY: the scratch is the warp's own; positions are masked into the ring.
        let ready = unsafe { glance(warp, scratch, Way::Cache, count, |_| ring_slot::<S>(block, &ring, position)) };
        ready != 0 && self.serve::<A, S, WHOLE>(warp, block, scratch, stats, clock, ready, position, ring)
    }

    /// Works off the rings whose heads stand ready in the stage; whether there was anything. This lane looked at `position` of
    /// `ring`.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "the loop's state, handed down and inlined")]
    pub(crate) fn serve<A: Arch, S: System, const WHOLE: bool>(
        &mut self,
        warp: &mut Warp<A, WHOLE>,
        block: &Block<'_>,
        scratch: *mut WarpScratch,
        stats: Stats,
        clock: &Clock,
        ready: u32,
        position: u64,
        ring: Ring,
    ) -> bool {
        let mut found = false;
        let mut rest = agreed(warp, ready, position, warp.rank().wrapping_sub(warp.rank() % PARTS));
        while rest != 0 {
            let base = lowest(rest);
            rest &= rest.wrapping_sub(1);
            let from = base.wrapping_mul(PARTS);
            let from = if from < warp.size() { from } else { 0 };
            let visit = Visit {
                ring: ring.of_lane(warp, block, from),
                position: warp.broadcast_u64(position, from),
                base,
                others_staged: rest != 0,
            };
            // SAFETY: the turn is a word of the block's memory.
            let got = unsafe { A::try_acquire_cta(block.turn(visit.ring.local), warp.rank() == 0) };
            if !warp.any(got) {
                continue;
            }
            let live = warp.live();
            let (some, looked) = run_ring::<A, S, WHOLE>(warp, block, scratch, stats, clock, visit, None);
            found |= some;
            if looked || live != warp.live() {
                // The stage holds another look now, or the ranks moved: what the first look found stands nowhere any more.
                if self.first != u32::MAX {
                    self.next = self.first.wrapping_add(base).wrapping_add(1);
                }
                if live != warp.live() {
                    self.forget();
                }
                break;
            }
        }
        found
    }
}

/// Works off a ring whose turn this warp holds, and gives the turn back; whether there was anything, and whether the stage was
/// filled anew. `lost` is how the short way ended for the staged head, if a handler was lost there.
#[inline(always)]
pub(crate) fn run_ring<A: Arch, S: System, const WHOLE: bool>(
    warp: &mut Warp<A, WHOLE>,
    block: &Block<'_>,
    scratch: *mut WarpScratch,
    stats: Stats,
    clock: &Clock,
    visit: Visit,
    lost: Option<Tried>,
) -> (bool, bool) {
    let ring = visit.ring;
    let (found, looked, order) = run_to_order::<A, S, WHOLE>(warp, block, scratch, stats, clock, visit, lost);
    if order == NO_ORDER {
        return (found, looked);
    }
    // Those who waited for it are staged over what the look found.
    (run_order::<A, S, WHOLE>(warp, block, scratch, stats, clock, ring, order) || found, true)
}

/// No order stands at a ring's head.
const NO_ORDER: (u64, u32) = (u64::MAX, 0);

/// Carries out the order that stands at a position of `ring` and is staged there, unless another warp does or has done so; whether it
/// is done. Not under [`run_to_order`], for the handlers that it runs need the registers.
#[cold]
#[inline(never)]
fn run_order<A: Arch, S: System, const WHOLE: bool>(
    warp: &mut Warp<A, WHOLE>,
    block: &Block<'_>,
    scratch: *mut WarpScratch,
    stats: Stats,
    clock: &Clock,
    ring: Ring,
    (position, base): (u64, u32),
) -> bool {
    // SAFETY: the turn is a word of the block's memory.
    let got = unsafe { A::try_acquire_cta(block.turn(ring.local), warp.rank() == 0) };
    if !warp.any(got) {
        return false;
    }
    warp.sync();
    let mut done = 0;
    // SAFETY: a position of the block's memory, under the turn. While it stands there, the order is what it was.
    let head = warp.broadcast_u64(unsafe { A::load_cta(block.ring_head(ring.local, ring.gate)) }, 0);
    if head == position {
        done = STEP_FIRST;
        loop {
            let step = step_of_order::<A, S, WHOLE>(warp, block, scratch, stats, ring.local, base, done);
            if step == STEP_OVER {
                break;
            }
            if step == STEP_HELD {
                done = 0;
                break;
            }
            let frames = Frames { slots: step & STEP_SLOTS, start: 0, ..Frames::ONE };
            let is_large = step & STEP_LARGE != 0;
            done = run_window::<A, S, WHOLE>(warp, block, scratch, stats, clock, ring, position, 0, frames, is_large);
        }
    }
    if warp.rank() == 0 && done != 0 {
        advance::<A, S>(block, ring, position.wrapping_add(done.into()));
    }
    warp.sync();
    if warp.rank() == 0 {
        // SAFETY: this warp holds the turn.
        unsafe { A::release_cta(block.turn(ring.local)) };
    }
    done != 0
}

/// As [`run_ring`], up to the first order: its position, and where it is staged, or [`NO_ORDER`].
#[inline(never)]
fn run_to_order<A: Arch, S: System, const WHOLE: bool>(
    warp: &mut Warp<A, WHOLE>,
    block: &Block<'_>,
    scratch: *mut WarpScratch,
    stats: Stats,
    clock: &Clock,
    visit: Visit,
    lost: Option<Tried>,
) -> (bool, bool, (u64, u32)) {
    let ring = visit.ring;
    let mut lost = lost;
    let mut order = NO_ORDER;
    warp.sync();
    let head = block.ring_head(ring.local, ring.gate);
    let (mut found, mut looked) = (false, false);
    // SAFETY: a position of the block's memory, under the turn.
    if unsafe { A::load_cta(head) } == visit.position {
        let (mut position, mut base, mut slots) = (visit.position, visit.base, 1);
        let mut windows = 0u32;
        let home = Home::new(block, ring.local);
        loop {
            // SAFETY: the look staged these slots; only this warp uses its scratch.
            let plain =
                WHOLE && slots == 1 && !ring.is_mailbox::<S>(block) && is_plain(unsafe { staged_flags(scratch, base) });
            let result = match lost.take() {
                Some(result) => result,
                None if plain => {
                    let began_ns = A::now_ns();
                    let physical = clock.physical_at_once(began_ns);
                    one::<A, S, WHOLE>(warp, scratch, stats, &home, base, began_ns, physical)
                }
                None => Tried::Left,
            };
            let frames = match result {
                // A frame of one slot needs no splitting.
                Tried::Done => Frames::ONE,
                // SAFETY: as above.
                _ => unsafe { split(warp, scratch, base, slots, !tourbillon_shared::mutant!("arena_not_apart")) },
            };
            // SAFETY: as above. Such a frame is alone.
            let is_large = frames.count == 1 && unsafe { staged_flags(scratch, base) }.has(Flags::ARENA);
            // SAFETY: as above; so is an order.
            let is_order = frames.count == 1 && result == Tried::Left && unsafe { is_order(block, scratch, base) };
            if is_order {
                order = (position, base);
                break;
            }
            let mut is_held = false;
            if frames.count != 0 {
                let done = match result {
                    Tried::Done => 1,
                    Tried::Left => run_window::<A, S, WHOLE>(
                        warp, block, scratch, stats, clock, ring, position, base, frames, is_large,
                    ),
                    Tried::Lost { before, lost } => finish_one::<A, S>(
                        &mut warp.damaged(),
                        block,
                        scratch,
                        stats,
                        clock,
                        (ring, position, base),
                        (before, lost),
                    ),
                };
                is_held = done == 0;
                found |= !is_held;
                position = position.wrapping_add(done.into());
                if warp.rank() == 0 {
                    advance::<A, S>(block, ring, position);
                }
                windows = windows.wrapping_add(1);
            }
            // A large payload takes as long as many windows.
            if is_large
                || is_order
                || is_held
                || windows >= WINDOWS_MAX
                || !warp.is_viable()
                || (WHOLE && warp.has_losses())
            {
                break;
            }
            // A look for more would overwrite what the first look found in other rings; those come first, unless this
            // ring's frame is longer than that look.
            let keeps_stage = visit.others_staged && frames.count != 0;
            if keeps_stage && !tourbillon_shared::mutant!("stage_overwritten") {
                break;
            }
            looked = !tourbillon_shared::mutant!("stage_overwritten");
            // Letters mostly are for as many actors: more than there are lanes that run handlers would take a second batch.
            let wide = if ring.is_mailbox::<S>(block) { warp.runners() } else { warp.size() };
            let wide = if wide < FRAME_SLOTS { FRAME_SLOTS } else { wide };
            let capacity = ring.shape::<S>(block).capacity();
            let wide = if wide < capacity { wide } else { capacity };
            let at = position;
            // SAFETY: as above; positions are masked into the ring.
            let ready = unsafe {
                look(warp, scratch, Way::Cache, wide, |slot| ring_slot::<S>(block, &ring, at.wrapping_add(slot.into())))
            };
            base = 0;
            slots = (!ready).trailing_zeros();
            // A gate writes the slots of a frame in one go: the rest is on its way, and the next look finds it.
            if slots == 0 || (frames.count == 0 && slots < frames.needs) {
                break;
            }
            // One by one they are quicker by themselves.
            if WHOLE && A::LANES >= PARTS && slots == 1 && found && ring.is_mailbox::<S>(block) {
                break;
            }
        }
    }
    warp.sync();
    if warp.rank() == 0 {
        // SAFETY: this warp holds the turn.
        unsafe { A::release_cta(block.turn(ring.local)) };
    }
    (found, looked, order)
}

/// Moves the head of a ring, and tells its gate now and then. One lane calls it, under the turn, when all have read the slots
/// before `position`.
#[inline(always)]
pub(crate) fn advance<A: Arch, S: System>(block: &Block<'_>, ring: Ring, position: u64) {
    // A release at device scope is dear, and a gate needs to know only when it comes round.
    let published = block.ring_published(ring.local, ring.gate);
    if ring.is_mailbox::<S>(block) {
        // SAFETY: positions of the block's memory, under the turn.
        unsafe {
            A::store_cta(block.ring_head(ring.local, ring.gate), position);
            A::store_pool(mailbox::head_of(block, ring.local), position);
            let slots = position.wrapping_sub(A::load_cta(published));
            if slots >= u64::from(slots_until_told(ring.shape::<S>(block))) {
                A::store_cta(published, position);
                mailbox::give_back::<A>(block, ring.local, slots);
            }
        }
        return;
    }
    let quarter = u64::from(ring.shape::<S>(block).capacity() / 4);
    // SAFETY: positions of the block's memory, under the turn.
    unsafe {
        A::store_cta(block.ring_head(ring.local, ring.gate), position);
        if position.wrapping_sub(A::load_cta(published)) >= quarter {
            let layout = &block.arguments.layout;
            let freed = block.pair(layout.ring_freed, ring.gate, block.shard(ring.local));
            // Release pairs with the gate's Acquire in `claim`; the slots before `position` are read.
            A::store_release_gpu(freed, position);
            A::store_cta(published, position);
        }
    }
}

/// The end of [`run_one`] when its handler panicked: the long way, which knows how to tell of it.
#[cold]
#[inline(never)]
fn finish_one<A: Arch, S: System>(
    warp: &mut Warp<A, false>,
    block: &Block<'_>,
    scratch: *mut WarpScratch,
    stats: Stats,
    clock: &Clock,
    (ring, position, base): (Ring, u64, u32),
    (runners, lost): (u32, u32),
) -> u32 {
    let began_ns = warp.broadcast_u64(A::now_ns(), 0);
    let directory = Directory::new(block.arguments, block.shard(ring.local));
    let frames = Frames { start: base, ..Frames::ONE };
    let (groups, first_hlc) = take::<A, S, _>(warp, block, scratch, ring.local, began_ns, clock, frames);
    let window = Window { ring, position, base, frames, groups, first_hlc, began_ns, directory };
    let next = recover::<A, S, false>(warp, scratch, stats, runners, lost, 0, groups, first_hlc);
    run_groups::<A, S, false>(warp, block, scratch, stats, &window, next)
}

/// [`run_one`] for a message of a window.
#[inline(never)]
fn one<A: Arch, S: System, const WHOLE: bool>(
    warp: &mut Warp<A, WHOLE>,
    scratch: *mut WarpScratch,
    stats: Stats,
    home: &Home,
    base: u32,
    began_ns: u64,
    physical: (u64, bool),
) -> Tried {
    run_one::<A, S, WHOLE, false>(warp, scratch, stats, home, base, began_ns, physical)
}

/// The four phases for one window, whose first slot is at `position`; how many slots of it are done: none when it holds a large
/// payload and the kernel is about to stop serving.
///
/// Out of the loop of [`run_ring`], as [`one`] is, for together they need more registers than there are.
#[inline(never)]
#[expect(clippy::too_many_arguments, reason = "the loop's state, handed down")]
pub(crate) fn run_window<A: Arch, S: System, const WHOLE: bool>(
    warp: &mut Warp<A, WHOLE>,
    block: &Block<'_>,
    scratch: *mut WarpScratch,
    stats: Stats,
    clock: &Clock,
    ring: Ring,
    position: u64,
    base: u32,
    frames: Frames,
    is_large: bool,
) -> u32 {
    if is_large && !land(warp, block, scratch, ring.local, base) {
        return 0;
    }
    // Every lane reads another time: timestamps must come from one of them.
    let began_ns = warp.broadcast_u64(A::now_ns(), 0);
    let directory = Directory::new(block.arguments, block.shard(ring.local));
    let (groups, first_hlc) = take::<A, S, _>(warp, block, scratch, ring.local, began_ns, clock, frames);
    let window = Window { ring, position, base, frames, groups, first_hlc, began_ns, directory };
    let done = run_groups::<A, S, WHOLE>(warp, block, scratch, stats, &window, 0);
    // SAFETY: words of the warp's scratch, written before a sync.
    let is_short = S::POOLS && unsafe { (&raw const (*scratch).pool_short).read() } != 0 && are_on(block);
    // SAFETY: as above.
    if is_short || unsafe { (&raw const (*scratch).parked).read() } != 0 {
        // SAFETY: the warp holds the turn, and the window is done.
        unsafe { progress::<A, S>(&warp.damaged(), block, scratch, stats, ring.local) };
    }
    done
}

/// Slots of the longest frame.
const FRAME_SLOTS: u32 = tourbillon_shared::frame::FRAME_SLOTS_MAX as u32;

/// The first slot of the ring from `gate` to the block's shard `local`, or of its mailbox.
pub(crate) fn ring_slots(block: &Block<'_>, local: u32, gate: u32) -> *const Slot {
    let (arguments, shape) = (block.arguments, block.ring_shape());
    if gate == block.gates() {
        return mailbox::ring_of(arguments, block.shard(local));
    }
    let pair = gate.wrapping_mul(arguments.geometry.shards).wrapping_add(block.shard(local));
    let bytes = (SLOT_BYTES as u64).wrapping_shl(shape.capacity_log2());
    let rings = arguments.memory.wrapping_add(arguments.layout.rings);
    rings.wrapping_add(u64::from(pair).wrapping_mul(bytes)) as *const Slot
}

/// The slot of a ring at `position`, and its lap.
#[inline(always)]
pub(crate) fn ring_slot<S: System>(block: &Block<'_>, ring: &Ring, position: u64) -> (*const Slot, u32) {
    let shape = ring.shape::<S>(block);
    (ring.slots.wrapping_add(shape.index(position) as usize), shape.lap(position))
}
