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

use tourbillon_shared::geometry::WarpScratch;
use tourbillon_shared::header::{Arrival, ReturnAddress};
use tourbillon_shared::hlc;
use tourbillon_shared::partition::hash;
use tourbillon_shared::slot::{CHUNKS_PER_SLOT, Chunk, SLOT_BYTES, Slot};
use tourbillon_shared::telemetry::Counter;

use crate::arch::Arch;
use crate::block::Block;
use crate::directory::{Directory, Place};
use crate::frames::{Frames, split, staged, staged_flags, staged_header};
use crate::gate::lane_addresses;
use crate::handler::{ask_for, is_plain, run_frame};
use crate::look::{Way, look};
use crate::stats::Stats;
use crate::system::System;
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
    pub gate: u32,
    /// Its first slot.
    pub slots: *const Slot,
}

/// A ring whose head was found staged.
#[derive(Clone, Copy, Debug)]
struct Visit {
    ring: Ring,
    /// What was looked at.
    position: u64,
    /// Where it is staged.
    base: u32,
    /// Whether heads of other rings are staged behind it.
    others_staged: bool,
}

impl Turns {
    /// The shard warp number `warp` of its block.
    pub fn new(warp: u32) -> Self {
        let nothing = Ring { local: 0, gate: 0, slots: core::ptr::null() };
        Self { next: warp, first: u32::MAX, mine: nothing }
    }

    /// Looks once at rings of the block's shards and runs what it finds; whether it found anything.
    #[inline(always)]
    pub(crate) fn step<A: Arch, S: System, const WHOLE: bool>(
        &mut self,
        warp: &mut Warp<A, WHOLE>,
        block: &Block<'_>,
        scratch: *mut WarpScratch,
        stats: Stats,
        clock_offset: u64,
    ) -> bool {
        let gates = block.arguments.geometry.gates;
        let rings = block.shards().wrapping_mul(gates);
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
            let (local, gate) = (index.checked_div(gates).unwrap_or(0), index.checked_rem(gates).unwrap_or(0));
            self.mine = Ring { local, gate, slots: ring_slots(block, local, gate) };
            self.first = first;
        }
        let ring = self.mine;
        // SAFETY: a position of the block's memory.
        let position = unsafe { A::load_cta(block.ring_head(ring.local, ring.gate)) };
        // SAFETY: the scratch is the warp's own; positions are masked into the ring.
        let ready = unsafe { look(warp, scratch, Way::Cache, count, |_| ring_slot(block, &ring, position)) };
        let mut found = false;
        let mut rest = ready;
        while rest != 0 {
            let base = lowest(rest);
            rest &= rest.wrapping_sub(1);
            let from = base.wrapping_mul(PARTS);
            let from = if from < warp.size() { from } else { 0 };
            let ring = Ring {
                local: warp.broadcast(ring.local, from),
                gate: warp.broadcast(ring.gate, from),
                slots: warp.broadcast_u64(ring.slots as u64, from) as *const Slot,
            };
            let position = warp.broadcast_u64(position, from);
            let live = warp.live();
            let visit = Visit { ring, position, base, others_staged: rest != 0 };
            let (some, looked) = self.run_ring::<A, S, WHOLE>(warp, block, scratch, stats, clock_offset, visit);
            found |= some;
            if looked || live != warp.live() {
                // The stage holds another look now, or the ranks moved: what the first look found stands nowhere any more.
                self.next = first.wrapping_add(base).wrapping_add(1);
                if live != warp.live() {
                    self.first = u32::MAX;
                }
                break;
            }
        }
        found
    }

    /// Takes the turn of the ring's shard, if it is free, and works off the ring; whether there was anything, and whether the stage
    /// was filled anew.
    #[inline(always)]
    fn run_ring<A: Arch, S: System, const WHOLE: bool>(
        &self,
        warp: &mut Warp<A, WHOLE>,
        block: &Block<'_>,
        scratch: *mut WarpScratch,
        stats: Stats,
        clock_offset: u64,
        visit: Visit,
    ) -> (bool, bool) {
        let ring = visit.ring;
        // SAFETY: the turn is a word of the block's memory.
        let got = warp.rank() == 0 && unsafe { A::try_acquire_cta(block.turn(ring.local)) };
        if !warp.any(got) {
            return (false, false);
        }
        warp.sync();
        let head = block.ring_head(ring.local, ring.gate);
        let (mut found, mut looked) = (false, false);
        // SAFETY: a position of the block's memory, under the turn.
        if unsafe { A::load_cta(head) } == visit.position {
            let (mut position, mut base, mut slots) = (visit.position, visit.base, 1);
            let mut windows = 0u32;
            loop {
                // SAFETY: the look staged these slots; only this warp uses its scratch.
                let plain = WHOLE && slots == 1 && is_plain(unsafe { staged_flags(scratch, base) });
                // SAFETY: as above.
                let frames = if plain { Frames::ONE } else { unsafe { split(warp, scratch, base, slots) } };
                if plain {
                    found = true;
                    let done =
                        self.run_one::<A, S, WHOLE>(warp, block, scratch, stats, clock_offset, ring, position, base);
                    position = position.wrapping_add(done.into());
                    self.advance(warp, block, ring, position);
                    windows = windows.wrapping_add(1);
                } else if frames.count != 0 {
                    found = true;
                    let done = self.run_window::<A, S, WHOLE>(
                        warp,
                        block,
                        scratch,
                        stats,
                        clock_offset,
                        ring,
                        position,
                        base,
                        frames,
                    );
                    position = position.wrapping_add(done.into());
                    self.advance(warp, block, ring, position);
                    windows = windows.wrapping_add(1);
                }
                if windows >= WINDOWS_MAX || !warp.is_viable() || (WHOLE && warp.has_losses()) {
                    break;
                }
                // A look for more would overwrite what the first look found in other rings; those come first, unless this
                // ring's frame is longer than that look.
                let keeps_stage = visit.others_staged && frames.count != 0;
                if keeps_stage && !tourbillon_shared::mutant!("stage_overwritten") {
                    break;
                }
                looked = !tourbillon_shared::mutant!("stage_overwritten");
                let wide = if warp.size() < FRAME_SLOTS { FRAME_SLOTS } else { warp.size() };
                let capacity = block.arguments.geometry.ring_shape().capacity();
                let wide = if wide < capacity { wide } else { capacity };
                let at = position;
                // SAFETY: as above; positions are masked into the ring.
                let ready = unsafe {
                    look(warp, scratch, Way::Cache, wide, |slot| ring_slot(block, &ring, at.wrapping_add(slot.into())))
                };
                base = 0;
                slots = (!ready).trailing_zeros();
                // A gate writes the slots of a frame in one go: the rest is on its way, and the next look finds it.
                if slots == 0 || (frames.count == 0 && slots < frames.needs) {
                    break;
                }
            }
        }
        warp.sync();
        if warp.rank() == 0 {
            // SAFETY: this warp holds the turn.
            unsafe { A::release_cta(block.turn(ring.local)) };
        }
        (found, looked)
    }

    /// Moves the head of a ring, and tells its gate now and then.
    #[inline(always)]
    fn advance<A: Arch, const WHOLE: bool>(&self, warp: &Warp<A, WHOLE>, block: &Block<'_>, ring: Ring, position: u64) {
        if warp.rank() != 0 {
            return;
        }
        // A release at device scope is dear, and a gate needs to know only when it comes round.
        let quarter = u64::from(block.arguments.geometry.ring_shape().capacity() / 4);
        let published = block.ring_published(ring.local, ring.gate);
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

    /// The four phases for one plain frame at `position`, the case that decides the latency of a lone request; how many slots are
    /// done. One lane does all of it, so that nothing is handed from lane to lane.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "the loop's state, handed down and inlined")]
    fn run_one<A: Arch, S: System, const WHOLE: bool>(
        &self,
        warp: &mut Warp<A, WHOLE>,
        block: &Block<'_>,
        scratch: *mut WarpScratch,
        stats: Stats,
        clock_offset: u64,
        ring: Ring,
        position: u64,
        base: u32,
    ) -> u32 {
        // SAFETY: the slot is staged, and only this warp uses its scratch.
        let header = unsafe { staged_header(scratch, base) };
        let began_ns = A::now_ns();
        // All lanes have the request's header before the reply is written over it.
        warp.sync();
        if warp.runner() == 0 {
            let directory = Directory::new(block.arguments, block.shard(ring.local));
            // SAFETY: the warp holds the turn, and this lane alone works.
            unsafe {
                // Asked for before it is needed: the loads of the look-up below take their time.
                let last = (*directory.shard()).hlc;
                let entry = if S::has_kind(header.kind) {
                    let hashed = hash(header.kind, header.key);
                    match directory.find(hashed, header.kind, header.key) {
                        Place::Found(found) => {
                            ask_for::<A>(found);
                            found
                        }
                        Place::Missing(_) => {
                            let made = directory.insert(hashed, header.kind, header.key);
                            if made.is_some() {
                                stats.add::<A>(Counter::Activated, 1);
                            }
                            made.unwrap_or(core::ptr::null_mut())
                        }
                    }
                } else {
                    core::ptr::null_mut()
                };
                let arrival = Arrival::decode(header.hlc);
                let physical = hlc::physical_from_unix_ns(began_ns.wrapping_add(clock_offset));
                let event = hlc::update(last, hlc::from_delta(arrival.hlc_delta, physical), physical);
                (*directory.shard()).hlc = event;
                (&raw mut (*scratch).running).cast::<u32>().wrapping_add(A::lane() as usize).write(1);
                run_frame::<A, S>(stats, staged(scratch, base), header, entry, event);
            }
        }
        let runners = warp.live();
        let lost = warp.regather();
        if lost != 0 {
            return self.finish_one::<A, S>(
                &mut warp.damaged(),
                block,
                scratch,
                stats,
                clock_offset,
                (ring, position, base),
                (runners, lost),
            );
        }
        warp.sync();
        let address = ReturnAddress::decode(header.hint);
        let replies = lane_addresses(block, address.lane.into()).replies as *mut Slot;
        let target = replies.wrapping_add(address.index.into()).cast::<Chunk>();
        let mut part = warp.rank();
        while part < PARTS {
            // SAFETY: the gate wrote the address of a slot of the lane's reply ring; the reply is staged.
            unsafe {
                let [a, b, c, _] = staged(scratch, base).cast::<Chunk>().wrapping_add(part as usize).read().words;
                A::store_chunk_sys(target.wrapping_add(part as usize), Chunk::new([a, b, c], address.lap));
            }
            part = part.wrapping_add(warp.size());
        }
        if warp.rank() == 0 {
            let ended_ns = A::now_ns();
            stats.latency::<A>(ended_ns.wrapping_sub(Arrival::decode(header.hlc).full_ns(ended_ns)));
            stats.add::<A>(Counter::Processed, 1);
            stats.add::<A>(Counter::Turns, 1);
            stats.add::<A>(Counter::BusyNs, ended_ns.wrapping_sub(began_ns));
        }
        1
    }

    /// The end of [`run_one`](Self::run_one) when its handler panicked: the long way, which knows how to tell of it.
    #[cold]
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "what the window it belongs to knows")]
    fn finish_one<A: Arch, S: System>(
        &self,
        warp: &mut Warp<A, false>,
        block: &Block<'_>,
        scratch: *mut WarpScratch,
        stats: Stats,
        clock_offset: u64,
        (ring, position, base): (Ring, u64, u32),
        (runners, lost): (u32, u32),
    ) -> u32 {
        let began_ns = warp.broadcast_u64(A::now_ns(), 0);
        let directory = Directory::new(block.arguments, block.shard(ring.local));
        let frames = Frames { start: base, ..Frames::ONE };
        let (groups, first_hlc) = take(warp, block, scratch, &directory, began_ns, clock_offset, frames);
        let window = Window { ring, position, base, frames, groups, first_hlc, began_ns, directory };
        let next = recover(warp, scratch, stats, runners, lost, 0, groups, first_hlc);
        run_groups::<A, S, false>(warp, block, scratch, stats, &window, next)
    }

    /// The four phases for one window, whose first slot is at `position`; how many slots of it are done.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "the loop's state, handed down and inlined")]
    fn run_window<A: Arch, S: System, const WHOLE: bool>(
        &self,
        warp: &mut Warp<A, WHOLE>,
        block: &Block<'_>,
        scratch: *mut WarpScratch,
        stats: Stats,
        clock_offset: u64,
        ring: Ring,
        position: u64,
        base: u32,
        frames: Frames,
    ) -> u32 {
        // Every lane reads another time: timestamps must come from one of them.
        let began_ns = warp.broadcast_u64(A::now_ns(), 0);
        let directory = Directory::new(block.arguments, block.shard(ring.local));
        let (groups, first_hlc) = take(warp, block, scratch, &directory, began_ns, clock_offset, frames);
        let window = Window { ring, position, base, frames, groups, first_hlc, began_ns, directory };
        run_groups::<A, S, WHOLE>(warp, block, scratch, stats, &window, 0)
    }
}

/// Slots of the longest frame.
const FRAME_SLOTS: u32 = tourbillon_shared::frame::FRAME_SLOTS_MAX as u32;

/// The first slot of the ring from `gate` to the block's shard `local`.
fn ring_slots(block: &Block<'_>, local: u32, gate: u32) -> *const Slot {
    let (arguments, shape) = (block.arguments, block.arguments.geometry.ring_shape());
    let pair = gate.wrapping_mul(arguments.geometry.shards).wrapping_add(block.shard(local));
    let bytes = (SLOT_BYTES as u64).wrapping_shl(shape.capacity_log2());
    let rings = arguments.memory.wrapping_add(arguments.layout.rings);
    rings.wrapping_add(u64::from(pair).wrapping_mul(bytes)) as *const Slot
}

/// The slot of a ring at `position`, and its lap.
#[inline(always)]
pub(crate) fn ring_slot(block: &Block<'_>, ring: &Ring, position: u64) -> (*const Slot, u32) {
    let shape = block.arguments.geometry.ring_shape();
    (ring.slots.wrapping_add(shape.index(position) as usize), shape.lap(position))
}
