//! A gate's side of the short way: from the one lane that a warp polls to a shard's ring.

use tourbillon_shared::frame::PAYLOAD_BYTES_OF_ONE_SLOT;
use tourbillon_shared::geometry::WarpScratch;
use tourbillon_shared::header::{Arrival, Flags, ReturnAddress};
use tourbillon_shared::hlc;
use tourbillon_shared::partition::{hash, partition_of};
use tourbillon_shared::position::RingShape;
use tourbillon_shared::ring::has_room;
use tourbillon_shared::slot::{CHUNKS_PER_SLOT, Chunk, Slot};
use tourbillon_shared::telemetry::Counter;

use crate::arch::Arch;
use crate::block::Block;
use crate::clock::Clock;
use crate::frames::{header_of, staged};
use crate::gate::{Routes, Visit, lane_addresses, request_slot};
use crate::look::{Way, glance};
use crate::stats::Stats;
use crate::warp::Warp;

const PARTS: u32 = CHUNKS_PER_SLOT as u32;
/// Slots that a look takes from the lane. More find a burst sooner, but make every look longer.
const SLOTS: u32 = 1;

/// The only lane that a gate warp polls, and what forwarding needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoneLane {
    lane: u32,
    requests: *const Slot,
    shape: RingShape,
    head: *mut u64,
    routes: Routes,
}

/// What came of watching the lane.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Watched {
    Nothing,
    /// Frames were forwarded, one now and then.
    Some,
    /// Two looks in a row found a frame: more will follow.
    Burst,
    /// These staged slots are for the long way.
    Left(Visit),
}

/// Whether a frame was claimed.
#[derive(Clone, Copy, Debug)]
enum Claimed {
    Yes,
    /// Another warp that polls the lane was faster.
    ByAnother,
    /// It is for the long way.
    Left,
}

impl LoneLane {
    pub(crate) fn new(block: &Block<'_>, lane: u32, routes: Routes) -> Self {
        let addresses = lane_addresses(block, lane);
        Self {
            lane,
            requests: addresses.requests as *const Slot,
            shape: RingShape::from_log2(addresses.capacity_log2),
            head: block.lane_head(lane),
            routes,
        }
    }

    /// Looks at the lane for `rounds` rounds and forwards the frames that it finds.
    #[inline(always)]
    pub(crate) fn watch<A: Arch, const WHOLE: bool>(
        &self,
        warp: &Warp<A, WHOLE>,
        block: &Block<'_>,
        scratch: *mut WarpScratch,
        stats: Stats,
        clock: &Clock,
        rounds: u32,
    ) -> Watched {
        let (mut found, mut found_last) = (false, false);
        let mut left = rounds;
        while left != 0 {
            left = left.wrapping_sub(1);
            match self.poll(warp, block, scratch, stats, clock) {
                Watched::Nothing => found_last = false,
                Watched::Some if !found_last => (found, found_last) = (true, true),
                Watched::Some => return Watched::Burst,
                other => return other,
            }
        }
        if found { Watched::Some } else { Watched::Nothing }
    }

    #[inline(always)]
    fn poll<A: Arch, const WHOLE: bool>(
        &self,
        warp: &Warp<A, WHOLE>,
        block: &Block<'_>,
        scratch: *mut WarpScratch,
        stats: Stats,
        clock: &Clock,
    ) -> Watched {
        // SAFETY: a position of the block's memory.
        let position = unsafe { A::load_cta(self.head) };
        // SAFETY: the scratch is the warp's own; positions are masked into the lane's ring.
        let ready = unsafe {
            glance(warp, scratch, Way::Bus, SLOTS, |slot| {
                request_slot(self.requests, self.shape, position.wrapping_add(slot.into()))
            })
        };
        let slots = (!ready).trailing_zeros();
        if slots == 0 {
            return Watched::Nothing;
        }
        let first = if A::LANES == 1 { position } else { warp.broadcast_u64(position, 0) };
        // Lanes that looked at other slots than rank 0 staged chunks of those.
        let differs = position as u32 != first as u32;
        let claimed =
            if slots == 1 { self.forward(warp, block, scratch, stats, clock, first, differs) } else { Claimed::Left };
        match claimed {
            Claimed::Yes => Watched::Some,
            Claimed::Left if !warp.any(differs) => {
                Watched::Left(Visit { lane: self.lane, shape: self.shape, position, base: 0, slots })
            }
            _ => Watched::Nothing,
        }
    }

    /// Forwards the first staged slot, if it is a plain frame that is still to be claimed and whose shard has room.
    ///
    /// All lanes know all of the frame, so nothing is handed from lane to lane.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "the loop's state, handed down and inlined")]
    fn forward<A: Arch, const WHOLE: bool>(
        &self,
        warp: &Warp<A, WHOLE>,
        block: &Block<'_>,
        scratch: *mut WarpScratch,
        stats: Stats,
        clock: &Clock,
        position: u64,
        differs: bool,
    ) -> Claimed {
        let rank = warp.rank();
        // Tried first: its answer takes as long as all that is found out meanwhile.
        // SAFETY: the lock is a word of the block's memory.
        let has_lock = unsafe { A::try_acquire_cta(block.gate_lock(), rank == 0) };
        // SAFETY: the slot is staged, and only this warp uses its scratch.
        let slot = unsafe { staged(scratch, 0).read() };
        let header = header_of(&slot);
        let now_ns = A::now_ns();
        let (physical, is_quick) = clock.physical_at_once(now_ns);
        let (hlc_delta, is_near) = hlc::delta_if_near(header.hlc, physical);
        // SAFETY: a partition is inside the table, which nobody writes while the kernel runs.
        let shard = unsafe { self.routes.table.wrapping_add(partition_of(hash(header.kind, header.key))).read() };
        let shard = u32::from(shard);
        let is_special = differs
            | (header.flags.0 & !(Flags::TELL | Flags::URGENT) != 0)
            | (header.length as usize > PAYLOAD_BYTES_OF_ONE_SLOT)
            | (header.kind == 0)
            // Never; but so the table is read while the lock is asked for.
            | (shard >= self.routes.shards)
            | !is_quick
            | !is_near;
        let arrival = Arrival { device_ns: now_ns as u32, hlc_delta }.encode();
        // Lanes read the clock at different times: the frame is plain when none of them finds that it is not.
        let votes = warp.ballot(if rank == 0 { has_lock && !is_special } else { is_special });
        if votes != 1 {
            if has_lock {
                // SAFETY: this lane took the lock.
                unsafe { A::release_cta(block.gate_lock()) };
            }
            return Claimed::Left;
        }
        let ring_tail = block.ring_tail(shard);
        // SAFETY: positions of the block's memory, under the lock.
        let (head, tail, freed) =
            unsafe { (A::load_cta(self.head), A::load_cta(ring_tail), A::load_cta(block.ring_freed(shard))) };
        let is_first = head == position || tourbillon_shared::mutant!("double_claim");
        let has_room = has_room(self.routes.ring_shape, tail, freed, 1);
        let forwards = is_first & has_room;
        if forwards {
            let (index, lap) = (self.shape.index(position) as u16, slot.chunks[0].tag());
            let hint = ReturnAddress { lane: self.lane as u16, index, lap }.encode();
            self.store::<A, WHOLE>(warp, &slot, shard, tail, hint, arrival);
        }
        // The other lanes have read slot and positions before rank 0 changes them.
        warp.sync();
        if rank == 0 {
            // SAFETY: positions of the block's memory, under the lock, which this warp holds.
            unsafe {
                if forwards {
                    A::store_cta(ring_tail, tail.wrapping_add(1));
                    A::store_cta(self.head, head.wrapping_add(1));
                }
                A::release_cta(block.gate_lock());
            }
            if forwards {
                stats.add::<A>(Counter::Claimed, 1);
            }
        }
        match (forwards, is_first) {
            (true, _) => Claimed::Yes,
            (false, true) => Claimed::Left,
            (false, false) => Claimed::ByAnother,
        }
    }

    /// Stores the slot at `tail` of the shard's ring, with return address and arrival in the places of hint and timestamp.
    #[inline(always)]
    fn store<A: Arch, const WHOLE: bool>(
        &self,
        warp: &Warp<A, WHOLE>,
        slot: &Slot,
        shard: u32,
        tail: u64,
        hint: u64,
        arrival: u64,
    ) {
        let shape = self.routes.ring_shape;
        let target = self.routes.ring(shard).wrapping_add(shape.index(tail) as usize).cast_mut().cast::<Chunk>();
        let lap = shape.lap(tail);
        let mut part = warp.rank();
        while part < PARTS {
            let [first, second, third, fourth] = slot.chunks;
            // Chosen without a branch. Words 4 and 5 are the hint, 6 and 7 the timestamp.
            let of = |is: [u32; 4]| {
                let low = if part & 1 == 0 { is[0] } else { is[1] };
                let high = if part & 1 == 0 { is[2] } else { is[3] };
                if part & 2 == 0 { low } else { high }
            };
            let data = [
                of([first.words[0], second.words[0], arrival as u32, fourth.words[0]]),
                of([first.words[1], hint as u32, (arrival >> 32) as u32, fourth.words[1]]),
                of([first.words[2], (hint >> 32) as u32, third.words[2], fourth.words[2]]),
            ];
            // SAFETY: the shard's ring has room for the slot, which the lock gave to this warp.
            unsafe { A::store_chunk_gpu(target.wrapping_add(part as usize), Chunk::new(data, lap)) };
            part = part.wrapping_add(warp.size());
        }
    }
}
