//! A shard's side of the short way: one message from its ring to its reply.

use tourbillon_shared::geometry::{LaneAddresses, WarpScratch};
use tourbillon_shared::header::{Arrival, ReturnAddress};
use tourbillon_shared::hlc;
use tourbillon_shared::partition::hash;
use tourbillon_shared::slot::{CHUNKS_PER_SLOT, Chunk, Slot};
use tourbillon_shared::telemetry::Counter;

use crate::arch::Arch;
use crate::block::Block;
use crate::call::Moment;
use crate::clock::Clock;
use crate::directory::Directories;
use crate::frames::{header_of, staged};
use crate::handler::{is_plain, run_plain};
use crate::look::{Way, glance};
use crate::stats::Stats;
use crate::system::System;
use crate::turn::{Ring, Visit, give_back, ring_slots};
use crate::warp::{Warp, lowest};

const PARTS: u32 = CHUNKS_PER_SLOT as u32;

/// Number of the only frame.
const FRAME: u32 = 0;

/// What running one message needs of the arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    directories: Directories,
    lanes: *const LaneAddresses,
}

impl Places {
    pub(crate) fn new(block: &Block<'_>) -> Self {
        Self { directories: Directories::new(block.arguments), lanes: block.arguments.lanes as *const LaneAddresses }
    }
}

/// What is found out of a message while the machine answers the try for its turn.
#[derive(Clone, Copy, Debug)]
struct Prepared {
    base: u32,
    slot: Slot,
    hashed: u64,
    began_ns: u64,
    /// The physical part of the clock then.
    physical: u64,
}

impl Prepared {
    /// # Safety
    /// The slot `base` is staged, and only this warp uses its scratch.
    #[inline(always)]
    unsafe fn new<A: Arch>(scratch: *mut WarpScratch, clock: &Clock, base: u32) -> Self {
        // SAFETY: the caller vouches for the slot.
        let slot = unsafe { staged(scratch, base).read() };
        let header = header_of(&slot);
        let began_ns = A::now_ns();
        let physical = A::pin_u64(clock.physical(began_ns));
        Self { base, slot, hashed: A::pin_u64(hash(header.kind, header.key)), began_ns, physical }
    }
}

/// How a try at the short way ended, under the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    /// The message is answered.
    Done,
    /// Nothing was done: the message is for the long way.
    Left,
    /// The handler panicked and its lane left; the message is still staged as it came.
    Lost {
        /// The lanes that lived before.
        before: u32,
        /// Those that left.
        lost: u32,
    },
}

/// Runs the staged slot `base`, which came to the block's shard `local`, when it is a plain frame to an actor that lives. The
/// warp holds the turn.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the loop's state, handed down and inlined")]
pub(crate) fn run_one<A: Arch, S: System, const WHOLE: bool>(
    warp: &mut Warp<A, WHOLE>,
    block: &Block<'_>,
    scratch: *mut WarpScratch,
    stats: Stats,
    clock: &Clock,
    places: &Places,
    local: u32,
    base: u32,
) -> Tried {
    // SAFETY: the slot is staged, and only this warp uses its scratch.
    let prepared = unsafe { Prepared::new::<A>(scratch, clock, base) };
    run_prepared::<A, S, WHOLE>(warp, block, scratch, stats, places, local, &prepared, true)
}

/// As [`run_one`], for a message that is prepared; only where `may` holds.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the loop's state, handed down and inlined")]
fn run_prepared<A: Arch, S: System, const WHOLE: bool>(
    warp: &mut Warp<A, WHOLE>,
    block: &Block<'_>,
    scratch: *mut WarpScratch,
    stats: Stats,
    places: &Places,
    local: u32,
    prepared: &Prepared,
    may: bool,
) -> Tried {
    let Prepared { slot, hashed, began_ns, .. } = prepared;
    let header = header_of(slot);
    let directory = places.directories.of(block.shard(local));
    // SAFETY: the warp holds the turn.
    let (entry, is_there) = unsafe { directory.find_at_home(*hashed, header.kind, header.key) };
    if !(may & is_plain(header.flags) & (header.kind != 0) & is_there) {
        return Tried::Left;
    }
    let arrival = Arrival::decode(header.hlc);
    let address = ReturnAddress::decode(header.hint);
    // SAFETY: a gate wrote the lane's number, which is below the table's length; nobody writes the table while the kernel runs.
    let replies = unsafe { (*places.lanes.wrapping_add(address.lane as usize)).replies as *mut Slot };
    // All lanes have read the request before the reply is written over it.
    warp.sync();
    let mut is_answered = false;
    if warp.runner() == 0 {
        // SAFETY: the warp holds the turn, and this lane alone works.
        unsafe {
            let last = A::load_cta(block.clock(local));
            (&raw mut (*scratch).running).cast::<u32>().wrapping_add(A::lane() as usize).write(FRAME + 1);
            let moment = Moment {
                last,
                remote: hlc::from_delta(arrival.hlc_delta, prepared.physical),
                physical: prepared.physical,
            };
            if run_plain::<A, S>(stats, staged(scratch, prepared.base), header, entry, moment) {
                A::store_cta(block.clock(local), moment.event_hlc());
                is_answered = true;
            }
        }
    }
    let before = warp.live();
    let lost = warp.regather();
    if lost != 0 {
        return Tried::Lost { before, lost };
    }
    // What the runner wrote comes before its reply is sent and the turn is given back.
    warp.sync();
    if !warp.any(is_answered) {
        return Tried::Left;
    }
    let target = replies.wrapping_add(address.index.into()).cast::<Chunk>();
    let mut part = warp.rank();
    while part < PARTS {
        // SAFETY: the runner staged the reply before the sync; a gate wrote the address of a slot of the lane's reply ring.
        unsafe {
            let [a, b, c, _] = staged(scratch, prepared.base).cast::<Chunk>().wrapping_add(part as usize).read().words;
            A::store_chunk_sys(target.wrapping_add(part as usize), Chunk::new([a, b, c], address.lap));
        }
        part = part.wrapping_add(warp.size());
    }
    if warp.rank() == 0 {
        let ended_ns = A::now_ns();
        stats.latency::<A>(ended_ns.wrapping_sub(arrival.full_ns(ended_ns)));
        stats.add::<A>(Counter::Processed, 1);
        stats.add::<A>(Counter::Turns, 1);
        stats.add::<A>(Counter::BusyNs, ended_ns.wrapping_sub(*began_ns));
    }
    Tried::Done
}

/// The rings of a block that one look covers, and what running needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoneRings {
    count: u32,
    /// The ring at which this lane looks.
    mine: Ring,
    /// Where its head is.
    head: *mut u64,
    places: Places,
}

/// What a look at the rings led to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Looked {
    Nothing,
    /// Messages were answered, one now and then.
    Some,
    /// The turn of this ring is taken; its staged head is for the long way, after the short way ended like this.
    Held(Visit, Tried),
    /// The heads of these rings are staged, for the long way; and the position at which this lane looked.
    Several(u32, u64),
}

impl LoneRings {
    /// Nothing when one look does not cover all rings of the block.
    pub(crate) fn new<A: Arch, const WHOLE: bool>(warp: &Warp<A, WHOLE>, block: &Block<'_>) -> Option<Self> {
        let gates = block.gates();
        let count = block.shards().wrapping_mul(gates);
        let room = if warp.size() < PARTS { 1 } else { warp.size() / PARTS };
        if count == 0 || count > room {
            return None;
        }
        let place = warp.rank() / PARTS;
        let index = if place < count { place } else { 0 };
        let (local, gate) = (index.checked_div(gates)?, index.checked_rem(gates)?);
        let mine = Ring { local, gate, slots: ring_slots(block, local, gate) };
        Some(Self { count, mine, head: block.ring_head(local, gate), places: Places::new(block) })
    }

    /// The ring at which this lane looks.
    #[inline(always)]
    pub(crate) fn mine(&self) -> Ring {
        self.mine
    }

    /// Looks at the heads of all rings for `rounds` rounds, and runs the messages that come alone.
    #[inline(always)]
    pub(crate) fn watch<A: Arch, S: System, const WHOLE: bool>(
        &self,
        warp: &mut Warp<A, WHOLE>,
        block: &Block<'_>,
        scratch: *mut WarpScratch,
        stats: Stats,
        clock: &Clock,
        rounds: u32,
    ) -> Looked {
        let (mut found, mut found_last) = (false, false);
        let mut left = rounds;
        while left != 0 {
            left = left.wrapping_sub(1);
            match self.poll::<A, S, WHOLE>(warp, block, scratch, stats, clock, found_last) {
                Looked::Nothing => found_last = false,
                Looked::Some => (found, found_last) = (true, true),
                other => return other,
            }
        }
        if found { Looked::Some } else { Looked::Nothing }
    }

    /// As [`watch`](Self::watch) for one round; leaves what it finds to the long way after a round that `found_last` something.
    #[inline(always)]
    fn poll<A: Arch, S: System, const WHOLE: bool>(
        &self,
        warp: &mut Warp<A, WHOLE>,
        block: &Block<'_>,
        scratch: *mut WarpScratch,
        stats: Stats,
        clock: &Clock,
        found_last: bool,
    ) -> Looked {
        let shape = block.ring_shape();
        // SAFETY: a position of the block's memory.
        let position = unsafe { A::load_cta(self.head) };
        // SAFETY: the scratch is the warp's own; positions are masked into the ring.
        let ready = unsafe {
            glance(warp, scratch, Way::Cache, self.count, |_| {
                (self.mine.slots.wrapping_add(shape.index(position) as usize), shape.lap(position))
            })
        };
        if ready == 0 {
            return Looked::Nothing;
        }
        if ready & ready.wrapping_sub(1) != 0 || found_last {
            return Looked::Several(ready, position);
        }
        let base = lowest(ready);
        let from = base.wrapping_mul(PARTS);
        let from = if from < warp.size() { from } else { 0 };
        let ring = self.mine.of_lane(warp, block, from);
        let looked_at = if A::LANES == 1 { position } else { warp.broadcast_u64(position, from) };
        // Lanes that looked at other slots of the ring than its first lane staged chunks of those.
        let differs = warp.rank() / PARTS == base && position as u32 != looked_at as u32;
        let visit = Visit { ring, position: looked_at, base, others_staged: false };
        // SAFETY: the turn is a word of the block's memory.
        let got = unsafe { A::try_acquire_cta(block.turn(ring.local), warp.rank() == 0) };
        // SAFETY: the slot is staged, and only this warp uses its scratch.
        let prepared = unsafe { Prepared::new::<A>(scratch, clock, base) };
        let votes = warp.ballot(if warp.rank() == 0 { got } else { differs });
        if votes != 1 {
            if got {
                // SAFETY: this lane took the turn.
                unsafe { A::release_cta(block.turn(ring.local)) };
            }
            return Looked::Nothing;
        }
        // SAFETY: a position of the block's memory, under the turn.
        let head = unsafe { A::load_cta(block.ring_head(ring.local, ring.gate)) };
        let places = &self.places;
        match run_prepared::<A, S, WHOLE>(warp, block, scratch, stats, places, ring.local, &prepared, head == looked_at)
        {
            Tried::Done => {
                give_back(warp, block, ring, looked_at.wrapping_add(1));
                Looked::Some
            }
            // Another warp worked the slot off since the look.
            Tried::Left if head != looked_at => {
                if warp.rank() == 0 {
                    // SAFETY: this warp holds the turn.
                    unsafe { A::release_cta(block.turn(ring.local)) };
                }
                Looked::Nothing
            }
            other => Looked::Held(visit, other),
        }
    }
}
