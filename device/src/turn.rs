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

use tourbillon_shared::error::{FailureCode, PanicPlace};
use tourbillon_shared::geometry::{EntryHeader, WarpScratch};
use tourbillon_shared::header::{Arrival, Flags, Header, ReturnAddress};
use tourbillon_shared::hlc;
use tourbillon_shared::partition::hash;
use tourbillon_shared::position::{RingShape, lap_after};
use tourbillon_shared::slot::{CHUNKS_PER_SLOT, Chunk, SLOT_BYTES, Slot};
use tourbillon_shared::telemetry::Counter;

use crate::arch::Arch;
use crate::block::Block;
use crate::call::{Call, Outcome, failure_of};
use crate::directory::{Directory, Place};
use crate::frames::{Frames, split, staged, staged_flags, staged_header};
use crate::gate::{copy_out, lane_addresses};
use crate::look::{Way, look};
use crate::stats::Stats;
use crate::system::System;
use crate::warp::{Warp, low_bits, lowest};

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
struct Ring {
    local: u32,
    gate: u32,
    /// Its first slot.
    slots: *const Slot,
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

/// What came of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Its outcome.
    Ended(Outcome),
    /// It panicked, on a machine where that does not end the lane.
    Panicked,
}

impl Turns {
    /// The shard warp number `warp` of its block.
    pub fn new(warp: u32) -> Self {
        let nothing = Ring { local: 0, gate: 0, slots: core::ptr::null() };
        Self { next: warp, first: u32::MAX, mine: nothing }
    }

    /// Looks once at rings of the block's shards and runs what it finds; whether it found anything.
    #[inline(always)]
    pub fn step<A: Arch, S: System, const WHOLE: bool>(
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
                    let done =
                        self.run_window::<A, S, WHOLE>(warp, block, scratch, stats, clock_offset, ring, position, base, frames);
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
                let entry = if S::has_kind(header.kind) {
                    let hashed = hash(header.kind, header.key);
                    match directory.find(hashed, header.kind, header.key) {
                        Place::Found(found) => found,
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
                let shard = directory.shard();
                let event = hlc::update((*shard).hlc, hlc::from_delta(arrival.hlc_delta, physical), physical);
                (*shard).hlc = event;
                (&raw mut (*scratch).running).cast::<u32>().wrapping_add(A::lane() as usize).write(1);
                let version = if entry.is_null() { 0 } else { (*entry).version };
                let mut call = Call::new(staged(scratch, base), header, event, version);
                run_call::<A, S>(stats, &mut call, entry, event);
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

/// A window whose frames are grouped.
#[derive(Clone, Copy, Debug)]
struct Window {
    ring: Ring,
    position: u64,
    base: u32,
    frames: Frames,
    groups: u32,
    /// Timestamp of frame 0.
    first_hlc: u64,
    began_ns: u64,
    directory: Directory,
}

/// Phases two to four for the groups from `first` on; how many slots are done.
#[inline(always)]
fn run_groups<A: Arch, S: System, const WHOLE: bool>(
    warp: &mut Warp<A, WHOLE>,
    block: &Block<'_>,
    scratch: *mut WarpScratch,
    stats: Stats,
    window: &Window,
    first: u32,
) -> u32 {
    let (frames, groups) = (window.frames, window.groups);
    let mut next = first;
    while next < groups && warp.runners() != 0 {
        let batch = next;
        let mine = batch.wrapping_add(warp.runner());
        let has_work = warp.runner() < warp.runners() && mine < groups;
        let end = batch.wrapping_add(warp.runners());
        next = if end < groups { end } else { groups };
        // SAFETY: `take` filled the groups before a sync.
        let todo = if has_work { unsafe { read_word(&raw const (*scratch).group, mine) } } else { 0 };
        let entry = resolve::<A, S, WHOLE>(warp, scratch, &window.directory, stats, todo);
        if todo != 0 {
            run_frames::<A, S>(scratch, stats, todo, entry, window.first_hlc);
        }
        let runners = warp.live();
        let lost = warp.regather();
        if lost != 0 {
            if WHOLE {
                let mut damaged = warp.damaged();
                next = recover(&damaged, scratch, stats, runners, lost, batch, next, window.first_hlc);
                let done = finish_damaged::<A, S>(&mut damaged, block, scratch, stats, window, next);
                // More may have been lost since.
                warp.regather();
                return done;
            }
            next = recover(warp, scratch, stats, runners, lost, batch, next, window.first_hlc);
        }
        warp.sync();
    }
    let (left, left_slots) = if next < groups {
        put_back(warp, block, scratch, window.ring, window.position, frames, next, groups)
    } else {
        (0, 0)
    };
    // SAFETY: `take` set the targets; the replies are staged.
    unsafe { copy_out(warp, scratch, Way::Bus, window.base, frames.slots) };
    let ended_ns = A::now_ns();
    let mut frame = warp.rank();
    while frame < frames.count {
        if left & 1u32.wrapping_shl(frame) == 0 {
            // SAFETY: `take` noted every frame's arrival.
            let arrival = unsafe { read_word(&raw const (*scratch).arrival, frame) };
            let arrival = Arrival { device_ns: arrival, hlc_delta: 0 };
            stats.latency::<A>(ended_ns.wrapping_sub(arrival.full_ns(ended_ns)));
        }
        frame = frame.wrapping_add(warp.size());
    }
    if warp.rank() == 0 {
        stats.add::<A>(Counter::Processed, frames.count.wrapping_sub(left.count_ones()).into());
        stats.add::<A>(Counter::Turns, 1);
        stats.add::<A>(Counter::BusyNs, ended_ns.wrapping_sub(window.began_ns));
    }
    // The stage may be filled again.
    warp.sync();
    frames.slots.wrapping_sub(left_slots)
}

/// What is left of a window after a warp that was whole has lost lanes. Kept out of the way of warps that have not.
#[cold]
#[inline(never)]
fn finish_damaged<A: Arch, S: System>(
    warp: &mut Warp<A, false>,
    block: &Block<'_>,
    scratch: *mut WarpScratch,
    stats: Stats,
    window: &Window,
    next: u32,
) -> u32 {
    run_groups::<A, S, false>(warp, block, scratch, stats, window, next)
}

/// Answers the frames whose handlers panicked, and puts what those lanes had not begun back in line.
///
/// Returns the first group that is still to be run.
#[cold]
#[inline(never)]
#[expect(clippy::too_many_arguments, reason = "what the window it belongs to knows")]
fn recover<A: Arch, const WHOLE: bool>(
    warp: &Warp<A, WHOLE>,
    scratch: *mut WarpScratch,
    stats: Stats,
    before: u32,
    lost: u32,
    batch: u32,
    next: u32,
    first_hlc: u64,
) -> u32 {
    let mut next = next;
    let mut rest = lost;
    while rest != 0 {
        // The highest first: what is put back fills the batch from its end, where nothing is looked up any more.
        let lane = 31u32.wrapping_sub(rest.leading_zeros());
        rest &= !1u32.wrapping_shl(lane);
        // The runner of rank `r` had the group `r - 1` of the batch.
        let rank = (before & low_bits(lane)).count_ones();
        let group = batch.wrapping_add(rank.wrapping_sub(1));
        // SAFETY: the lane wrote its words before it left; regathering ordered that before this.
        let (frame, frames) = unsafe {
            (read_word(&raw const (*scratch).running, lane).wrapping_sub(1), read_word(&raw const (*scratch).group, group))
        };
        let left = frames & !low_bits(frame.wrapping_add(1));
        if left != 0 {
            // Groups below `next` are done, so their places are free.
            next = next.wrapping_sub(1);
        }
        warp.sync();
        if warp.rank() == 0 {
            // SAFETY: rank 0 alone writes between the two syncs.
            unsafe {
                if left != 0 {
                    (&raw mut (*scratch).group).cast::<u32>().wrapping_add(next as usize).write(left);
                }
                let place = (&raw const (*scratch).panic).cast::<PanicPlace>().wrapping_add(lane as usize).read();
                let mut call = call_of(scratch, frame, first_hlc, 0);
                call.fail(FailureCode::Panicked, place);
            }
            note_failure::<A>(stats, FailureCode::Panicked);
            stats.add::<A>(Counter::Panicked, 1);
            stats.add::<A>(Counter::LanesLost, 1);
        }
        warp.sync();
    }
    next
}

/// When so many handlers panicked at once that no lane is left to run the rest of the window: addresses the frames of the groups
/// `next .. groups` back to the ring, behind those that are done, for another warp. Returns which frames, and their slots.
///
/// The gate cannot write there before this window is given back, and the stage still holds the frames as they came.
#[expect(clippy::too_many_arguments, reason = "called once, from the window it belongs to")]
fn put_back<A: Arch, const WHOLE: bool>(
    warp: &Warp<A, WHOLE>,
    block: &Block<'_>,
    scratch: *mut WarpScratch,
    ring: Ring,
    position: u64,
    frames: Frames,
    next: u32,
    groups: u32,
) -> (u32, u32) {
    let (mut left, mut left_slots) = (0, 0u32);
    let mut group = next;
    while group < groups {
        // SAFETY: `take` or `recover` filled the group before a sync.
        left |= unsafe { read_word(&raw const (*scratch).group, group) };
        group = group.wrapping_add(1);
    }
    // Two passes over the frames: how many slots, then where each goes.
    let mut pass = 0u32;
    let mut at = position;
    while pass < 2 {
        let mut rest = left;
        while rest != 0 {
            let frame = lowest(rest);
            rest &= rest.wrapping_sub(1);
            // SAFETY: `take` noted the start of every frame; the frame is staged.
            let start = unsafe { read_word(&raw const (*scratch).start, frame) };
            // SAFETY: as above.
            let span = unsafe { staged_header(scratch, start) }.flags.span();
            let mut slot = 0;
            while slot < span {
                if pass == 0 {
                    left_slots = left_slots.wrapping_add(1);
                } else if warp.rank() == 0 {
                    let (target, lap) = ring_slot(block, &ring, at);
                    let index = start.wrapping_add(slot) as usize;
                    // SAFETY: the slots of a frame lie inside the stage; rank 0 alone writes.
                    unsafe {
                        (&raw mut (*scratch).target).cast::<u64>().wrapping_add(index).write(target as u64);
                        (&raw mut (*scratch).target_lap).cast::<u32>().wrapping_add(index).write(lap);
                    }
                }
                at = at.wrapping_add(u64::from(pass));
                slot = slot.wrapping_add(1);
            }
        }
        at = position.wrapping_add(frames.slots.wrapping_sub(left_slots).into());
        pass = pass.wrapping_add(1);
    }
    warp.sync();
    (left, left_slots)
}

/// Bytes of a cache line: an entry of a small state begins in one and mostly ends in the next.
const LINE: usize = 64;

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
fn ring_slot(block: &Block<'_>, ring: &Ring, position: u64) -> (*const Slot, u32) {
    let shape = block.arguments.geometry.ring_shape();
    (ring.slots.wrapping_add(shape.index(position) as usize), shape.lap(position))
}

/// Word `index` of an array of the scratch.
///
/// # Safety
/// `index` is inside the array, and no other lane writes the word meanwhile.
#[inline(always)]
unsafe fn read_word<const N: usize>(array: *const [u32; N], index: u32) -> u32 {
    // SAFETY: the caller vouches for it.
    unsafe { array.cast::<u32>().wrapping_add(index as usize).read() }
}

/// Phase one: notes where every frame is, came from and goes, groups the frames by actor, and gives them timestamps.
///
/// Returns the number of groups and the timestamp of frame 0; frame `f` has that plus `f`.
#[inline(always)]
fn take<A: Arch, const WHOLE: bool>(
    warp: &Warp<A, WHOLE>,
    block: &Block<'_>,
    scratch: *mut WarpScratch,
    directory: &Directory,
    now_ns: u64,
    clock_offset: u64,
    frames: Frames,
) -> (u32, u64) {
    let rank = warp.rank();
    let is_mine = rank < frames.count;
    let mut remote = 0;
    let mut header = Header::default();
    let physical = hlc::physical_from_unix_ns(now_ns.wrapping_add(clock_offset));
    if is_mine {
        // SAFETY: the frame is staged and this lane's.
        header = unsafe { staged_header(scratch, frames.start) };
        let arrival = Arrival::decode(header.hlc);
        // Relative to now in place of the arrival: as late as the sender's or later, and still inside the drift bound.
        remote = hlc::from_delta(arrival.hlc_delta, physical);
        let address = ReturnAddress::decode(header.hint);
        let lane = lane_addresses(block, address.lane.into());
        let capacity = RingShape::from_log2(lane.capacity_log2).capacity();
        let (mut index, mut lap) = (u32::from(address.index), address.lap);
        let mut slot = 0;
        while slot < header.flags.span() {
            let target = lane.replies.wrapping_add(u64::from(index).wrapping_mul(SLOT_BYTES as u64));
            let at = frames.start.wrapping_add(slot) as usize;
            // SAFETY: the slots of a frame lie inside the stage, and are this lane's.
            unsafe {
                (&raw mut (*scratch).target).cast::<u64>().wrapping_add(at).write(target);
                (&raw mut (*scratch).target_lap).cast::<u32>().wrapping_add(at).write(lap);
            }
            index = index.wrapping_add(1);
            if index == capacity {
                (index, lap) = (0, lap_after(lap));
            }
            slot = slot.wrapping_add(1);
        }
        // SAFETY: every lane writes its own words.
        unsafe {
            (&raw mut (*scratch).start).cast::<u32>().wrapping_add(rank as usize).write(frames.start);
            (&raw mut (*scratch).arrival).cast::<u32>().wrapping_add(rank as usize).write(arrival.device_ns);
        }
    }
    let (groups, most) = if frames.count == 1 {
        if rank == 0 {
            // SAFETY: rank 0 alone writes.
            unsafe { (&raw mut (*scratch).group).cast::<u32>().write(1) };
        }
        (1, warp.broadcast_u64(remote, 0))
    } else {
        // Same key, then same kind: exact, whatever the hash does. A lane without a frame is in no group.
        let of_frames = low_bits(frames.count);
        let peers = warp.match_any(header.key) & warp.match_any(header.kind.into()) & of_frames;
        let is_first = is_mine && (tourbillon_shared::mutant!("groups_split") || lowest(peers) == rank);
        let firsts = warp.ballot(is_first);
        if is_first {
            let group = (firsts & low_bits(rank)).count_ones();
            let frames = if tourbillon_shared::mutant!("groups_split") { 1u32.wrapping_shl(rank) } else { peers };
            // SAFETY: every first frame writes the word of its own group.
            unsafe { (&raw mut (*scratch).group).cast::<u32>().wrapping_add(group as usize).write(frames) };
        }
        (firsts.count_ones(), warp.max_u64(remote))
    };
    let shard = directory.shard();
    // SAFETY: the turn makes this warp the only one that uses the shard's state.
    let last = unsafe { (*shard).hlc };
    let first = hlc::update(last, most, physical);
    warp.sync();
    if rank == 0 {
        // SAFETY: as above; every lane read it before the sync.
        unsafe { (*shard).hlc = first.wrapping_add(u64::from(frames.count.wrapping_sub(1))) };
    }
    (groups, first)
}

/// Phase two: the entry of the actor of the frames `todo`; null when it has none.
#[inline(always)]
fn resolve<A: Arch, S: System, const WHOLE: bool>(
    warp: &Warp<A, WHOLE>,
    scratch: *mut WarpScratch,
    directory: &Directory,
    stats: Stats,
    todo: u32,
) -> *mut EntryHeader {
    let mut entry = core::ptr::null_mut();
    let mut missing = false;
    let mut header = Header::default();
    let mut hashed = 0;
    if todo != 0 {
        // SAFETY: `take` noted the start of every frame; the frame is staged.
        header = unsafe { staged_header(scratch, read_word(&raw const (*scratch).start, lowest(todo))) };
        if S::has_kind(header.kind) {
            hashed = hash(header.kind, header.key);
            // SAFETY: the warp holds the turn.
            match unsafe { directory.find(hashed, header.kind, header.key) } {
                Place::Found(found) => {
                    entry = found;
                    A::prefetch(found.cast());
                    A::prefetch(found.cast::<u8>().wrapping_add(LINE));
                }
                Place::Missing(_) => missing = true,
            }
        }
    }
    let mut new = warp.ballot(missing);
    while new != 0 {
        if warp.rank() == lowest(new) {
            // SAFETY: the warp holds the turn, and one lane after the other comes here.
            if let Some(made) = unsafe { directory.insert(hashed, header.kind, header.key) } {
                entry = made;
                stats.add::<A>(Counter::Activated, 1);
            }
        }
        new &= new.wrapping_sub(1);
        warp.sync();
    }
    entry
}

/// Phase three: runs the handlers of the frames `todo` of one actor, in order.
///
/// Between two frames nothing is kept that a panic could lose: the state and the reply of one frame are stored before the next
/// begins.
#[inline(always)]
fn run_frames<A: Arch, S: System>(
    scratch: *mut WarpScratch,
    stats: Stats,
    todo: u32,
    entry: *mut EntryHeader,
    first_hlc: u64,
) {
    let lane = A::lane() as usize;
    let mut rest = todo;
    while rest != 0 {
        let frame = lowest(rest);
        rest &= rest.wrapping_sub(1);
        // SAFETY: the word is this lane's own.
        unsafe { (&raw mut (*scratch).running).cast::<u32>().wrapping_add(lane).write(frame.wrapping_add(1)) };
        // SAFETY: the frame is staged and this lane's while it runs.
        let mut call = unsafe { call_of(scratch, frame, first_hlc, if entry.is_null() { 0 } else { (*entry).version }) };
        run_call::<A, S>(stats, &mut call, entry, first_hlc.wrapping_add(frame.into()));
    }
}

/// Runs the handler of one frame and writes its answer, or the failure that stands in its place.
#[inline(always)]
fn run_call<A: Arch, S: System>(stats: Stats, call: &mut Call, entry: *mut EntryHeader, event_hlc: u64) {
    let flags = call.header().flags;
    let failure = if flags.has(Flags::MALFORMED) {
        Some(FailureCode::MalformedFrame)
    } else if flags.has(Flags::DRIFTED) {
        Some(FailureCode::ClockDrift)
    } else if !S::has_kind(call.header().kind) {
        Some(FailureCode::UnknownKind)
    } else if entry.is_null() {
        Some(FailureCode::DirectoryFull)
    } else {
        let mut verdict = Verdict::Panicked;
        let ended = A::guard(|| {
            // SAFETY: the warp holds the turn, and all frames of this actor are with this lane.
            verdict = Verdict::Ended(unsafe { run_handler::<S>(entry, call) });
        });
        match verdict {
            Verdict::Ended(Outcome::Failed) => {
                note_failure::<A>(stats, FailureCode::Handler);
                None
            }
            Verdict::Ended(outcome) if ended => {
                if outcome == Outcome::Done {
                    // SAFETY: as above.
                    unsafe {
                        (*entry).hlc = event_hlc;
                        (*entry).version = (*entry).version.wrapping_add(1);
                    }
                }
                failure_of(outcome)
            }
            _ => Some(FailureCode::Panicked),
        }
    };
    if let Some(code) = failure {
        let place = if code == FailureCode::Panicked { A::last_panic() } else { PanicPlace::default() };
        if code == FailureCode::Panicked {
            stats.add::<A>(Counter::Panicked, 1);
        }
        call.fail(code, place);
        note_failure::<A>(stats, code);
    }
}

/// Whether a frame is of one slot, without extensions, and was not refused by its gate.
#[inline(always)]
fn is_plain(flags: Flags) -> bool {
    flags.0 & !(Flags::TELL | Flags::URGENT) == 0
}

/// Runs one handler, and the actor's activation before its first message.
///
/// The only function of the kernel from which user code is reached, and so the only one below which a panic may be. It is kept
/// out of line so that a reading of the PTX can tell.
///
/// # Safety
/// `entry` is the actor's entry, which nobody else uses meanwhile.
#[inline(never)]
unsafe fn run_handler<S: System>(entry: *mut EntryHeader, call: &mut Call) -> Outcome {
    let state = entry.wrapping_add(1).cast::<u8>();
    let Header { kind, key, message, .. } = *call.header();
    // SAFETY: the caller vouches for the entry, whose state follows its header. An actor whose timestamp is 0 has handled
    // nothing yet.
    unsafe {
        if (*entry).hlc == 0 {
            S::activate(kind, key, state);
        }
        S::dispatch(kind, message, state, call)
    }
}

/// The call of frame `frame`.
///
/// # Safety
/// `take` noted the frame's start, and the frame is the lane's.
#[inline(always)]
unsafe fn call_of(scratch: *mut WarpScratch, frame: u32, first_hlc: u64, version: u64) -> Call {
    // SAFETY: the caller vouches for it.
    unsafe {
        let start = read_word(&raw const (*scratch).start, frame);
        let header = staged_header(scratch, start);
        Call::new(staged(scratch, start), header, first_hlc.wrapping_add(frame.into()), version)
    }
}

#[inline(always)]
fn note_failure<A: Arch>(stats: Stats, code: FailureCode) {
    stats.add::<A>(Counter::Failed, 1);
    stats.set::<A>(Counter::LastFailure, code as u64);
}
