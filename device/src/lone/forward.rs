//! A gate's side of the short way: from the one lane that a warp polls to a shard's ring.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::frame::PAYLOAD_BYTES_OF_ONE_SLOT;
use tourbillon_shared::header::{Arrival, Flags, Header, ReturnAddress};
use tourbillon_shared::hlc;
use tourbillon_shared::partition::{hash, partition_of};
use tourbillon_shared::position::RingShape;
use tourbillon_shared::ring::has_room;
use tourbillon_shared::slot::{CHUNKS_PER_SLOT, Chunk, Slot};
use tourbillon_shared::telemetry::Counter;

use crate::arch::Arch;
use crate::block::Block;
use crate::clock::Clock;
use crate::gate::{Routes, Visit, lane_addresses, request_slot};
use crate::look::stage_chunk;
use crate::stats::Stats;
use crate::warp::{Warp, low_bits};

const PARTS: u32 = CHUNKS_PER_SLOT as u32;
/// The lane that holds key, kind and message; the one that holds length, flags and hint; and the one of the timestamp.
const NAME: u32 = 0;
const SHAPE: u32 = 1;
const TIME: u32 = 2;

/// How long after the look that found a frame the same warp's next one begins, at the earliest: a client that waits for each reply
/// cannot send before that.
const LONE_PAUSE_NS: u64 = 250;
/// How long after a look at the lane's head the next one begins, at the earliest, whichever warp's it is. A look is a round trip over
/// the bus, some 800 ns, and two warps that look at one head halve the wait for a frame only when their looks are evenly spread: left
/// to themselves they fall into any step, and keep it. Less than half of a round trip, so that no look is held up by the same warp's
/// own. Measured on an H100, where it and the pause take 60 to 90 ns off a median with looks that are not spread and a pause of
/// 450 ns: 300 and 400 ns are alike, 200 and 500 ns are no better than none, and a third warp makes it worse, for looks at one line
/// wait for each other.
const LOOKS_APART_NS: u64 = 300;

/// The only lane that a gate warp polls, and what forwarding needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoneLane {
    lane: u32,
    requests: *const Slot,
    shape: RingShape,
    head: *mut u64,
    /// When the last look of any warp began.
    look: *mut u64,
    routes: Routes,
    /// All ones in the lanes that hold a chunk, in the one of the flags, and in the one of the timestamp.
    has_part: u32,
    has_shape: u32,
    has_time: u32,
}

/// What came of watching the lane.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Watched {
    Nothing,
    /// Frames were forwarded, one now and then.
    Some,
    /// Two frames came one soon after the other: more will follow.
    Burst,
    /// These staged slots are for the long way.
    Left(Visit),
    /// The warp polls no lane, or several, or one with a backlog: nothing was watched.
    Others,
}

/// The frame at the lane's head: every one of the first lanes holds a chunk.
#[derive(Clone, Copy, Debug)]
struct Found {
    position: u64,
    chunk: Chunk,
    now_ns: u64,
    /// The physical part of a timestamp then, and 0 if it was found the quick way.
    physical: (u64, u32),
}

impl LoneLane {
    /// The lane number `lane`; only for warps that have a lane for every chunk of a slot.
    pub(crate) fn new<A: Arch, const WHOLE: bool>(
        warp: &Warp<A, WHOLE>,
        block: &Block<'_>,
        lane: u32,
        routes: Routes,
    ) -> Self {
        let addresses = lane_addresses(block, lane);
        let ones = |is: bool| u32::from(is).wrapping_neg();
        Self {
            lane,
            requests: addresses.requests as *const Slot,
            shape: RingShape::from_log2(addresses.capacity_log2),
            head: block.lane_head(lane),
            look: block.lane_look(lane),
            routes,
            has_part: ones(warp.rank() < PARTS),
            has_shape: ones(warp.rank() == SHAPE),
            has_time: ones(warp.rank() == TIME),
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
        let mut found_ns = None;
        let mut left = rounds;
        while left != 0 {
            left = left.wrapping_sub(1);
            match self.poll(warp, block, scratch, stats, clock) {
                (Watched::Nothing, _) => {}
                (Watched::Some, at_ns) => {
                    if found_ns.is_some_and(|last_ns| at_ns.wrapping_sub(last_ns) < A::BURST_NS) {
                        return Watched::Burst;
                    }
                    found_ns = Some(at_ns);
                }
                (other, _) => return other,
            }
        }
        if found_ns.is_some() { Watched::Some } else { Watched::Nothing }
    }

    #[inline(always)]
    fn poll<A: Arch, const WHOLE: bool>(
        &self,
        warp: &Warp<A, WHOLE>,
        block: &Block<'_>,
        scratch: *mut WarpScratch,
        stats: Stats,
        clock: &Clock,
    ) -> (Watched, u64) {
        let rank = warp.rank();
        // SAFETY: words of the block's memory. Two warps that begin at once overwrite each other's time, which is the same.
        unsafe {
            A::wait_until(A::load_cta(self.look).wrapping_add(LOOKS_APART_NS));
            if rank == 0 {
                A::store_cta(self.look, A::now_ns());
            }
        }
        warp.sync();
        // SAFETY: a position of the block's memory.
        let position = unsafe { A::load_cta(self.head) };
        let (slot, lap) = request_slot(self.requests, self.shape, position);
        // Lap 0 is that of no slot.
        let mut chunk = Chunk { words: [0; 4] };
        if rank < PARTS {
            // SAFETY: a chunk of a slot of the lane's ring.
            chunk = unsafe { A::load_chunk_sys(slot.cast::<Chunk>().wrapping_add(rank as usize)) };
        }
        // The load is on its way meanwhile: a frame counts as come when the look that finds it began.
        let now_ns = A::now_ns();
        let (physical, far) = clock.physical_unless_far(now_ns);
        let physical = (A::pin_u64(physical), far);
        if warp.ballot(chunk.tag() == lap) != low_bits(PARTS) {
            return (Watched::Nothing, now_ns);
        }
        let watched = self.forward(warp, block, scratch, stats, Found { position, chunk, now_ns, physical });
        // Every lane reads another time: what the warp branches on must be one of them.
        (watched, warp.broadcast_u64(now_ns, 0))
    }

    /// Forwards the frame that was found, if it is a plain one that is still to be claimed and whose shard has room.
    ///
    /// No chunk is moved: what all lanes need of the frame is handed round, and each of the first four stores the chunk that it
    /// loaded.
    #[inline(always)]
    fn forward<A: Arch, const WHOLE: bool>(
        &self,
        warp: &Warp<A, WHOLE>,
        block: &Block<'_>,
        scratch: *mut WarpScratch,
        stats: Stats,
        found: Found,
    ) -> Watched {
        let Found { position, chunk, now_ns, physical: (physical, far) } = found;
        let rank = warp.rank();
        // Asked for first: the answer takes as long as all that is found out meanwhile. A lane that asks for nothing needs a word of
        // its own: any that nobody else uses now.
        // SAFETY: only the address is taken, inside the warp's scratch; the lock is a word of the block's memory.
        let before = unsafe {
            let own = (&raw mut (*scratch).start).cast::<u32>().wrapping_add(rank as usize);
            A::try_take_cta(if rank == 0 { block.gate_lock() } else { own }, u32::from(rank == 0))
        };
        let [first, second, third, _] = chunk.words;
        let mut name = [0; tourbillon_shared::header::HEADER_WORDS];
        (name[0], name[1], name[2]) =
            (warp.broadcast(first, NAME), warp.broadcast(second, NAME), warp.broadcast(third, NAME));
        let Header { key, kind, .. } = Header::decode(&name);
        // Another warp may have moved the head between the looks of two lanes, which then hold chunks of two slots.
        let differs = (position as u32 ^ warp.broadcast(position as u32, 0)) & self.has_part;
        // SAFETY: a partition is inside the table, which nobody writes while the kernel runs.
        let shard = unsafe { self.routes.table.wrapping_add(partition_of(hash(kind, key))).read() };
        let shard = u32::from(shard);
        // Numbers that are 0 when nothing is special, for a predicate is dearer than a word. Word 3 is the length below the flags;
        // words 6 and 7 are the timestamp.
        let length_left = (PAYLOAD_BYTES_OF_ONE_SLOT as u32).wrapping_sub(first & 0xffff);
        let bad_shape = (first >> 16) & !u32::from(Flags::TELL | Flags::URGENT) | length_left >> (u32::BITS - 1);
        let (hlc_delta, bad_time) = hlc::delta_unless_far(u64::from(first) | u64::from(second) << 32, physical);
        let special = differs
            | bad_shape & self.has_shape
            | (bad_time | far) & self.has_time
            | u32::from(kind == 0)
            // Never; but so the table is read while the lock is asked for.
            | u32::from(shard >= self.routes.shards);
        A::acquire_fence_cta();
        let has_lock = (rank == 0) & (before == 0);
        let (ring_tail, ring_freed) = (block.ring_tail(shard), block.ring_freed(shard));
        let (mut head, mut tail, mut freed) = (0, 0, 0);
        if rank == 0 {
            // SAFETY: positions of the block's memory. What is read without the lock is not used.
            (head, tail, freed) = unsafe { (A::load_cta(self.head), A::load_cta(ring_tail), A::load_cta(ring_freed)) };
        }
        let is_first = head == position || tourbillon_shared::mutant!("double_claim");
        let has_room = has_room(self.routes.ring_shape, tail, freed, 1);
        // Ordered by the lock: only rank 0 reads the positions, after it asked for the lock.
        let at = warp.broadcast_u64(tail, 0);
        let is_special = (special != 0) | ((rank == 0) & !(has_lock & is_first & has_room));
        if warp.any(is_special) {
            return self.leave(warp, block, scratch, position, chunk, has_lock, is_first, differs != 0);
        }
        if rank < PARTS {
            let (index, lap) = (self.shape.index(position) as u16, self.shape.lap(position));
            let hint = ReturnAddress { lane: self.lane as u16, index, lap, is_alone: true, span: 0 }.encode();
            let arrival = Arrival { device_ns: now_ns as u32, hlc_delta }.encode();
            // Words 4 and 5 are the hint.
            let data = [
                if rank == TIME { arrival as u32 } else { first },
                if rank == SHAPE {
                    hint as u32
                } else if rank == TIME {
                    (arrival >> 32) as u32
                } else {
                    second
                },
                if rank == SHAPE { (hint >> 32) as u32 } else { third },
            ];
            let shape = self.routes.ring_shape;
            let target = self.routes.ring(shard).wrapping_add(shape.index(at) as usize).cast_mut().cast::<Chunk>();
            // SAFETY: the shard's ring has room for the slot, which the lock gave to this warp.
            unsafe { A::store_chunk_gpu(target.wrapping_add(rank as usize), Chunk::new(data, shape.lap(at))) };
        }
        if rank == 0 {
            // SAFETY: positions of the block's memory, under the lock, which this warp holds.
            unsafe {
                A::store_cta(ring_tail, tail.wrapping_add(1));
                A::store_cta(self.head, position.wrapping_add(1));
                A::release_cta(block.gate_lock());
            }
            stats.add::<A>(Counter::Claimed, 1);
            stats.add::<A>(Counter::Claims, 1);
        }
        A::wait_until(now_ns.wrapping_add(LONE_PAUSE_NS));
        warp.sync();
        Watched::Some
    }

    /// Gives the lock back, and stages the frame for the long way, unless another warp claimed it.
    #[cold]
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "what the short way found out")]
    fn leave<A: Arch, const WHOLE: bool>(
        &self,
        warp: &Warp<A, WHOLE>,
        block: &Block<'_>,
        scratch: *mut WarpScratch,
        position: u64,
        chunk: Chunk,
        has_lock: bool,
        is_first: bool,
        differs: bool,
    ) -> Watched {
        if has_lock {
            // SAFETY: this lane took the lock.
            unsafe { A::release_cta(block.gate_lock()) };
        }
        let was_faster = has_lock && !is_first;
        if warp.any(was_faster | differs) {
            return Watched::Nothing;
        }
        // A slower lane may still read what an earlier look staged.
        warp.sync();
        if warp.rank() < PARTS {
            // SAFETY: only this warp uses its scratch.
            unsafe { stage_chunk::<A>(scratch, warp.rank(), chunk) };
        }
        warp.sync();
        // Other lanes may have seen another head, and looked at nothing.
        let position = warp.broadcast_u64(position, 0);
        Watched::Left(Visit { lane: self.lane, shape: self.shape, position, base: 0, slots: 1 })
    }
}
