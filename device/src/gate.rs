//! Gates: from the clients' lanes to the shards' rings.
//!
//! Host memory is polled by a few warps only, those of the gate blocks, because every poll on the bus slows the others. Each
//! lane belongs to one gate block. A gate warp looks at the heads of its lanes; when it finds frames it claims them under the
//! block's lock: it takes room in the rings of the frames' shards and moves the lane's head in one critical section, so
//! that frames reach each shard in the order of their lane. Slots prove themselves, so the order of the
//! copies does not matter: those of a longer window follow outside the lock.
//!
//! How many a gate takes at once is the way of [`Processing`]: *adaptive*, single heads until a lane has a backlog, then windows,
//! and from a lane that has filled several in a row only full ones, as long as it goes on filling them soon; *continuous*, single heads always; *batch*, windows only, and what is less than a window waits, for a bounded time, for more.
//!
//! Between a gate and a shard runs a ring of their own, so room is the gate's tail, which its warps share in the block's
//! memory, against the position that the shard publishes. A frame whose shard has no room stays at the head of its
//! lane and holds up that lane alone.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::control::{Command, Processing};
use tourbillon_shared::frame::{FRAME_SLOTS_MAX, PAYLOAD_BYTES_OF_ONE_SLOT, is_well_formed};
use tourbillon_shared::geometry::LaneAddresses;
use tourbillon_shared::header::{Arrival, Flags, Header, ReturnAddress};
use tourbillon_shared::hlc;
use tourbillon_shared::partition::{hash, partition_of};
use tourbillon_shared::position::RingShape;
use tourbillon_shared::slot::{CHUNKS_PER_SLOT, Chunk, SLOT_BYTES, Slot};
use tourbillon_shared::telemetry::Counter;

use crate::arch::Arch;
use crate::block::Block;
use crate::clock::Clock;
use crate::frames::{Frames, split, staged, staged_flags, staged_header, staged_word};
use crate::lone::forward::LoneLane;
use crate::look::{Way, agreed, glance, look};
use crate::stats::Stats;
use crate::warp::{Warp, lowest};

mod claim;

const PARTS: u32 = CHUNKS_PER_SLOT as u32;
const NS_PER_US: u64 = 1_000;
/// Most warps that poll the same lane: more wait for each other on the bus.
const POLLERS_MAX: u32 = 2;

/// Windows that a lane must fill in a row for the next ones to be waited for: a backlog of hundreds, which takes much longer than the
/// wait. A shorter one is taken as it comes.
const DEEP_WINDOWS: u64 = 8;

/// What a gate warp remembers between two looks.
#[derive(Debug)]
pub struct Gate {
    /// Place among the warps of the block that poll.
    poller: u32,
    /// How many warps of the block poll.
    pollers: u32,
    /// The lanes that this warp polls.
    mine: u64,
    /// Of those, the ones behind which more is expected.
    backlog: u64,
    /// Lane to begin the next look with.
    next: u32,
    /// Lane to begin the next look at a backlog with. One for both would let the two looks, in turns, pass over the same
    /// lane for ever.
    next_backlog: u32,
    /// Alternates looks at a backlog with looks at all lanes.
    turn: u32,
    /// How many messages to take at once, ...
    processing: Processing,
    /// ... and for how long one waits for others at most, where they are taken in windows.
    wait_us: u32,
    routes: Routes,
}

/// What every frame needs of the arguments, kept at hand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Routes {
    /// The partition table, ...
    pub table: *const u16,
    /// ... whose shards are all below this number.
    pub shards: u32,
    /// This gate's ring to shard 0, behind which the others follow.
    rings: *const Slot,
    /// Their shape.
    pub ring_shape: RingShape,
}

impl Routes {
    /// The first slot of this gate's ring to `shard`.
    #[inline(always)]
    pub fn ring(&self, shard: u32) -> *const Slot {
        self.rings.wrapping_add((shard as usize).wrapping_shl(self.ring_shape.capacity_log2()))
    }
}

/// A lane, the position that was looked at, and where its slots are staged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit {
    pub lane: u32,
    /// Shape of the lane's rings.
    pub shape: RingShape,
    pub position: u64,
    pub base: u32,
    pub slots: u32,
}

impl Gate {
    /// The gate warp that is number `poller` of `pollers` in its block.
    pub fn new(block: &Block<'_>, poller: u32, pollers: u32) -> Self {
        let (arguments, layout) = (block.arguments, &block.arguments.layout);
        let ring_shape = arguments.geometry.ring_shape();
        let ring_bytes = (SLOT_BYTES as u64).wrapping_shl(ring_shape.capacity_log2());
        let before = u64::from(block.number.wrapping_mul(arguments.geometry.shards)).wrapping_mul(ring_bytes);
        Self {
            poller,
            pollers,
            mine: 0,
            backlog: 0,
            next: 0,
            next_backlog: 0,
            turn: 0,
            processing: Processing::Adaptive,
            wait_us: 0,
            routes: Routes {
                table: arguments.memory.wrapping_add(layout.table) as *const u16,
                shards: arguments.geometry.shards,
                rings: arguments.memory.wrapping_add(layout.rings).wrapping_add(before) as *const Slot,
                ring_shape,
            },
        }
    }

    /// Does as a command says.
    pub fn follow(&mut self, block: &Block<'_>, command: &Command) {
        self.processing = command.processing;
        self.wait_us = command.batch_wait_us;
        self.assign(block, command.lanes);
    }

    /// The lane that this warp polls, when it is the only one, nothing more is expected behind its head, and messages are taken as
    /// they come.
    pub(crate) fn lone_lane<A: Arch, const WHOLE: bool>(
        &self,
        warp: &Warp<A, WHOLE>,
        block: &Block<'_>,
    ) -> Option<LoneLane> {
        let is_alone = self.mine.is_power_of_two() && self.backlog == 0 && self.processing != Processing::Batch;
        is_alone.then(|| LoneLane::new(warp, block, self.mine.trailing_zeros(), self.routes))
    }

    /// Notes that more is expected from the only lane that this warp polls.
    pub(crate) fn expect_more(&mut self) {
        self.expect_behind(self.mine);
    }

    /// Notes that more is expected from these lanes, where that makes a difference.
    #[inline(always)]
    fn expect_behind(&mut self, lanes: u64) {
        if self.processing != Processing::Continuous {
            self.backlog |= lanes;
        }
    }

    /// Chooses this warp's lanes among the block's lanes that clients hold.
    ///
    /// As long as there are fewer lanes than warps, several warps poll the same one: whichever sees a frame first claims it.
    fn assign(&mut self, block: &Block<'_>, held: u64) {
        let gates = block.arguments.geometry.gates;
        let mut of_block = 0u64;
        let mut lane = block.number;
        while lane < block.arguments.geometry.lanes {
            of_block |= held & 1u64.wrapping_shl(lane);
            lane = lane.wrapping_add(gates);
        }
        let count = of_block.count_ones();
        self.mine = 0;
        let (mut rest, mut index) = (of_block, 0u32);
        while rest != 0 {
            let bit = rest & rest.wrapping_neg();
            let is_mine = if count >= self.pollers {
                index.checked_rem(self.pollers) == Some(self.poller)
            } else {
                self.poller.checked_rem(count) == Some(index)
                    && self.poller.checked_div(count).is_some_and(|others| others < POLLERS_MAX)
            };
            if is_mine {
                self.mine |= bit;
            }
            rest &= !bit;
            index = index.wrapping_add(1);
        }
        self.backlog &= self.mine;
    }

    /// Looks once at this warp's lanes and forwards what it finds; whether it found anything.
    #[inline(always)]
    pub(crate) fn step<A: Arch, const WHOLE: bool>(
        &mut self,
        warp: &Warp<A, WHOLE>,
        block: &Block<'_>,
        scratch: *mut WarpScratch,
        stats: Stats,
        clock: &Clock,
    ) -> bool {
        if self.mine == 0 {
            return false;
        }
        self.turn = self.turn.wrapping_add(1);
        // Where all lanes have a backlog there are no other heads to look at; and another warp that polls the same lane would take
        // its head away from under the wide look.
        let only_backlog = self.backlog == self.mine && !tourbillon_shared::mutant!("heads_before_backlog");
        if self.backlog != 0 && (only_backlog || self.turn & 1 == 0) {
            let lane = self.after(self.backlog, self.next_backlog);
            self.next_backlog = lane.wrapping_add(1);
            // Behind a frame that is longer than a look at its head.
            let slots = if self.processing == Processing::Continuous { 1 } else { warp.size() };
            return self.visit_backlog(warp, block, scratch, stats, clock, lane, slots);
        }
        // A look that fits into one round of loads: the heads of a quarter as many lanes as the warp has.
        let room = if warp.size() < PARTS { 1 } else { warp.size() / PARTS };
        let lanes = min(self.mine.count_ones(), room);
        // Slot `i` of the look is the head of the lane `i` places after `next`.
        let mut left = min(warp.rank() / PARTS, lanes.wrapping_sub(1));
        let mut lane = self.after(self.mine, self.next);
        while left != 0 {
            lane = self.after(self.mine, lane.wrapping_add(1));
            left = left.wrapping_sub(1);
        }
        // SAFETY: a position of the block's memory.
        let position = unsafe { A::load_cta(block.lane_head(lane)) };
        let addresses = lane_addresses(block, lane);
        let (requests, shape) = (addresses.requests as *const Slot, RingShape::from_log2(addresses.capacity_log2));
        // SAFETY: the scratch is the warp's own; positions are masked into the lane's ring.
        let ready = unsafe { glance(warp, scratch, Way::Bus, lanes, |_| request_slot(requests, shape, position)) };
        let mut rest = agreed(warp, ready, position, warp.rank().wrapping_sub(warp.rank() % PARTS));
        let mut found = false;
        while rest != 0 {
            let base = lowest(rest);
            rest &= rest.wrapping_sub(1);
            // Ask the lane that looked there for what it looked at.
            let from = min(base.wrapping_mul(PARTS), warp.size().wrapping_sub(1));
            let shape = RingShape::from_log2(warp.broadcast(shape.capacity_log2(), from));
            let (lane, position) = (warp.broadcast(lane, from), warp.broadcast_u64(position, from));
            self.next = lane.wrapping_add(1);
            if self.processing == Processing::Batch {
                // A look at a window overwrites the heads; the other lanes that have something come in the next rounds.
                return self.visit_backlog(warp, block, scratch, stats, clock, lane, warp.size());
            }
            found |= self.visit(warp, block, scratch, stats, clock, Visit { lane, shape, position, base, slots: 1 });
            self.expect_behind(1u64.wrapping_shl(lane));
        }
        if lanes < self.mine.count_ones() && !found {
            self.next = warp.broadcast(lane, warp.size().wrapping_sub(1)).wrapping_add(1);
        }
        found
    }

    /// The first lane of `lanes` from `from` on, round and round; `lanes` is not empty.
    #[inline(always)]
    fn after(&self, lanes: u64, from: u32) -> u32 {
        let above = if from >= u64::BITS { 0 } else { lanes & u64::MAX.wrapping_shl(from) };
        let chosen = if above != 0 { above } else { lanes };
        chosen.trailing_zeros()
    }

    /// Looks at up to `slots` slots of one lane.
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "the loop's state, handed down and inlined")]
    fn visit_backlog<A: Arch, const WHOLE: bool>(
        &mut self,
        warp: &Warp<A, WHOLE>,
        block: &Block<'_>,
        scratch: *mut WarpScratch,
        stats: Stats,
        clock: &Clock,
        lane: u32,
        slots: u32,
    ) -> bool {
        // One lane of a warp alone must still see a whole frame.
        let slots = if slots < FRAME_SLOTS_MAX as u32 { FRAME_SLOTS_MAX as u32 } else { slots };
        let addresses = lane_addresses(block, lane);
        let (requests, shape) = (addresses.requests as *const Slot, RingShape::from_log2(addresses.capacity_log2));
        let slots = min(slots, shape.capacity());
        // SAFETY: a position of the block's memory; rank 0's view counts, for another warp may be claiming.
        let position = warp.broadcast_u64(unsafe { A::load_cta(block.lane_head(lane)) }, 0);
        // SAFETY: the scratch is the warp's own; positions are masked into the lane's ring.
        let ready = unsafe {
            look(warp, scratch, Way::Bus, slots, |slot| {
                request_slot(requests, shape, position.wrapping_add(slot.into()))
            })
        };
        let ready = (!ready).trailing_zeros();
        let bit = 1u64.wrapping_shl(lane);
        if ready == 0 {
            self.backlog &= !bit;
            return false;
        }
        if self.processing == Processing::Batch {
            if ready < slots && self.waits(warp, block, lane) {
                self.backlog &= !bit;
                return true;
            }
            self.backlog |= bit;
        } else if self.processing == Processing::Continuous {
            self.backlog &= !bit;
        } else if self.waits_for_more(warp, block, lane, ready == slots) {
            return true;
        }
        self.visit(warp, block, scratch, stats, clock, Visit { lane, shape, position, base: 0, slots: ready })
    }

    /// Whether the messages of a lane with a backlog shall wait for others, because it filled windows so far and this one is not full:
    /// a window costs the bus and the gate the same, however many messages are in it. Two warps that poll one lane count together,
    /// and may miss one of each other's.
    #[inline(always)]
    fn waits_for_more<A: Arch, const WHOLE: bool>(
        &self,
        warp: &Warp<A, WHOLE>,
        block: &Block<'_>,
        lane: u32,
        is_full: bool,
    ) -> bool {
        if A::LANES == 1 {
            // A thread takes messages one by one, and gains nothing by it.
            return false;
        }
        let full = block.lane_full(lane);
        // SAFETY: a word of the block's memory; rank 0's view counts.
        let before = warp.broadcast_u64(unsafe { A::load_cta(full) }, 0);
        if !is_full
            && before >= DEEP_WINDOWS
            && !tourbillon_shared::mutant!("deep_not_waited_for")
            && self.waits(warp, block, lane)
        {
            return true;
        }
        let after = if is_full { before.saturating_add(1) } else { 0 };
        if warp.rank() == 0 && after != before {
            // SAFETY: as above.
            unsafe { A::store_cta(full, after) };
        }
        false
    }

    /// Whether the messages of a lane that do not fill a window shall wait for others. The time is that of the first look that found
    /// one, and forgotten when one is claimed; two warps that poll one lane may disturb each other's, which cuts a wait short.
    fn waits<A: Arch, const WHOLE: bool>(&self, warp: &Warp<A, WHOLE>, block: &Block<'_>, lane: u32) -> bool {
        let since = block.lane_wait(lane);
        let now_ns = warp.broadcast_u64(A::now_ns(), 0);
        // SAFETY: a word of the block's memory; rank 0's view counts.
        let since_ns = warp.broadcast_u64(unsafe { A::load_cta(since) }, 0);
        if since_ns == 0 {
            if warp.rank() == 0 {
                // SAFETY: as above.
                unsafe { A::store_cta(since, now_ns) };
            }
            return self.wait_us != 0;
        }
        now_ns.wrapping_sub(since_ns) < u64::from(self.wait_us).wrapping_mul(NS_PER_US)
            || tourbillon_shared::mutant!("batch_waits_for_ever")
    }

    /// Claims the frames in the staged slots of one lane and forwards them; whether any was.
    #[inline(never)]
    pub(crate) fn visit<A: Arch, const WHOLE: bool>(
        &mut self,
        warp: &Warp<A, WHOLE>,
        block: &Block<'_>,
        scratch: *mut WarpScratch,
        stats: Stats,
        clock: &Clock,
        visit: Visit,
    ) -> bool {
        let mut visit = visit;
        let (frames, header, shard, (taken, slots, tail)) = loop {
            // SAFETY: the look staged these slots; only this warp uses its scratch.
            let mut frames = unsafe { split(warp, scratch, visit.base, visit.slots, false) };
            if self.processing == Processing::Continuous
                && frames.count > 1
                && !tourbillon_shared::mutant!("continuous_takes_windows")
            {
                // Behind a frame that was longer than a look at its head, others may have been staged.
                // SAFETY: as above.
                let slots = unsafe { staged_flags(scratch, visit.base) }.span();
                frames = Frames { count: 1, slots, ..frames };
            }
            if frames.count == 0 {
                // The frame is longer than the look: the next look at this lane takes enough.
                self.backlog |= 1u64.wrapping_shl(visit.lane);
                return false;
            }
            let now_ns = A::now_ns();
            let start = if warp.rank() < frames.count { frames.start } else { visit.base };
            // SAFETY: as above; lanes beyond the frames read some staged slot and ignore it.
            let header = unsafe { staged_header(scratch, start) };
            let (header, shard) = self.admit(now_ns, clock, header);
            match self.claim(warp, block, scratch, visit, frames, shard) {
                Ok(claimed) => break (frames, header, shard, claimed),
                Err(head) => {
                    // Another warp was faster, and took whole frames: what it left of the look is still to be claimed.
                    let gone = head.wrapping_sub(visit.position);
                    if gone >= u64::from(visit.slots) {
                        return false;
                    }
                    visit.position = head;
                    if !tourbillon_shared::mutant!("claims_what_is_gone") {
                        visit.base = visit.base.wrapping_add(gone as u32);
                    }
                    visit.slots = visit.slots.wrapping_sub(gone as u32);
                }
            }
        };
        if taken < frames.count {
            self.backlog |= 1u64.wrapping_shl(visit.lane);
            if warp.rank() == 0 {
                stats.add::<A>(Counter::NoRoom, 1);
            }
        }
        if taken == 0 {
            return false;
        }
        if warp.rank() < taken {
            if header.kind == 0 {
                // Counted by the warp that claimed it, not by every warp that saw it.
                note_refusal::<A>(stats, header.flags);
            }
            let shape = visit.shape;
            let at = visit.position.wrapping_add(u64::from(frames.start.wrapping_sub(visit.base)));
            let (lane, index, lap) = (visit.lane as u16, shape.index(at) as u16, shape.lap(at));
            let address = ReturnAddress { lane, index, lap, is_alone: false, span: 0 };
            let forwarded = Header { hint: address.encode(), ..header };
            self.address_frame(scratch, frames.start, &forwarded, shard, tail);
        }
        warp.sync();
        // SAFETY: the targets of the taken slots were written by their frames' lanes before the sync.
        unsafe { copy_out(warp, scratch, Way::Cache, visit.base, slots) };
        if warp.rank() == 0 {
            stats.add::<A>(Counter::Claimed, u64::from(taken));
            stats.add::<A>(Counter::Claims, 1);
        }
        true
    }

    /// The header to forward, with the arrival in place of the timestamp, and the shard that it goes to. A frame that is refused
    /// gets kind 0 and a flag that says why, and its shard answers it.
    #[inline(always)]
    fn admit(&self, now_ns: u64, clock: &Clock, header: Header) -> (Header, u32) {
        let mut header = header;
        let span = header.flags.span();
        let physical = clock.physical(now_ns);
        // Mostly a frame of one slot with nothing special, which needs no arithmetic to be seen as well-formed.
        let is_plain = header.flags.0 & !(Flags::TELL | Flags::URGENT) == 0
            && header.length as usize <= PAYLOAD_BYTES_OF_ONE_SLOT
            && header.kind != 0;
        if !is_plain && !is_well_formed(&header) {
            header.kind = 0;
            header.flags = Flags::new(span, Flags::MALFORMED);
            // A timestamp that was refused must not move the shard's clock.
            header.hlc = 0;
        } else if hlc::is_beyond_drift(header.hlc, physical) {
            header.kind = 0;
            header.flags = Flags::new(span, Flags::DRIFTED);
            if !tourbillon_shared::mutant!("refused_moves_clock") {
                header.hlc = 0;
            }
        }
        header.hlc = Arrival { device_ns: now_ns as u32, hlc_delta: hlc::delta(header.hlc, physical) }.encode();
        let partition = partition_of(hash(header.kind, header.key));
        // SAFETY: a partition is inside the table, which nobody writes while the kernel runs.
        let shard = unsafe { self.routes.table.wrapping_add(partition).read() };
        (header, shard.into())
    }

    /// Writes the forwarded header over the staged one, and the targets of the frame's slots.
    #[inline(always)]
    fn address_frame(&self, scratch: *mut WarpScratch, start: u32, header: &Header, shard: u32, tail: u64) {
        let shape = self.routes.ring_shape;
        let words = header.encode();
        let mut i = 0;
        while i < words.len() {
            // SAFETY: the frame is staged and this lane's; `i` is below the array's length.
            unsafe { staged_word(scratch, start, i as u32).write(*words.get_unchecked(i)) };
            i += 1;
        }
        let ring = self.routes.ring(shard) as u64;
        let mut slot = 0;
        while slot < header.flags.span() {
            let at = tail.wrapping_add(slot.into());
            let target = ring.wrapping_add(u64::from(shape.index(at)).wrapping_mul(SLOT_BYTES as u64));
            let index = start.wrapping_add(slot) as usize;
            // SAFETY: the slots of a frame lie inside the stage.
            unsafe {
                (&raw mut (*scratch).target).cast::<u64>().wrapping_add(index).write(target);
                (&raw mut (*scratch).target_lap).cast::<u32>().wrapping_add(index).write(shape.lap(at));
            }
            slot = slot.wrapping_add(1);
        }
    }
}

#[inline(always)]
fn min(a: u32, b: u32) -> u32 {
    if a < b { a } else { b }
}

/// The addresses of a lane's rings.
#[inline(always)]
pub fn lane_addresses(block: &Block<'_>, lane: u32) -> LaneAddresses {
    let lanes = block.arguments.lanes as *const LaneAddresses;
    // SAFETY: gates and shards know lanes below the geometry's count only; nobody writes the table while the kernel runs.
    unsafe { lanes.wrapping_add(lane as usize).read() }
}

/// The slot of a request ring at `position`, and its lap.
#[inline(always)]
pub(crate) fn request_slot(requests: *const Slot, shape: RingShape, position: u64) -> (*const Slot, u32) {
    (requests.wrapping_add(shape.index(position) as usize), shape.lap(position))
}

fn note_refusal<A: Arch>(stats: Stats, flags: Flags) {
    stats.add::<A>(if flags.has(Flags::MALFORMED) { Counter::Malformed } else { Counter::Drifted }, 1);
}

/// Stores the staged slots `base .. base + slots` to their targets, all lanes together, each chunk under its target's lap; those
/// that go over the bus and have no target stay.
///
/// # Safety
/// Targets and laps of these slots are set, and targets null or valid for writes; the slots are the warp's alone.
#[inline(always)]
#[track_caller]
pub unsafe fn copy_out<A: Arch, const WHOLE: bool>(
    warp: &Warp<A, WHOLE>,
    scratch: *mut WarpScratch,
    way: Way,
    base: u32,
    slots: u32,
) {
    let chunks = slots.wrapping_mul(PARTS);
    let mut chunk = warp.rank();
    while chunk < chunks {
        let index = base.wrapping_add(chunk / PARTS);
        let part = (chunk % PARTS) as usize;
        // SAFETY: the caller vouches for targets and slots.
        unsafe {
            let target = (&raw const (*scratch).target).cast::<u64>().wrapping_add(index as usize).read() as *mut Chunk;
            let lap = (&raw const (*scratch).target_lap).cast::<u32>().wrapping_add(index as usize).read();
            if matches!(way, Way::Bus) && target.is_null() {
                // A slot of a frame that waits for its actor: such frames are a shard's alone.
                chunk = chunk.wrapping_add(warp.size());
                continue;
            }
            let [a, b, c, _] = staged(scratch, index).cast::<Chunk>().wrapping_add(part).read().words;
            let value = Chunk::new([a, b, c], lap);
            match way {
                Way::Bus => A::store_chunk_sys(target.wrapping_add(part), value),
                Way::Cache => A::store_chunk_gpu(target.wrapping_add(part), value),
            }
        }
        chunk = chunk.wrapping_add(warp.size());
    }
    warp.sync();
}
