//! A shard's side of the short way: one message from its ring to its reply.
//!
//! Where a block has as many warps as shards, each shard is the *home* of one or several of them. One of those holds the
//! shard's turn while it watches its rings, so that a message that comes need not be asked for: nobody else could run it
//! meanwhile. The others stand by.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::geometry::{EntryHeader, LaneAddresses};
use tourbillon_shared::header::{Arrival, ReturnAddress};
use tourbillon_shared::hlc;
use tourbillon_shared::mailbox::MailboxState;
use tourbillon_shared::partition::hash;
use tourbillon_shared::position::LAP_NEVER;
use tourbillon_shared::slot::{CHUNKS_PER_SLOT, Chunk, Slot};
use tourbillon_shared::telemetry::Counter;

use crate::arch::Arch;
use crate::block::Block;
use crate::clock::Clock;
use crate::directory::Directory;
use crate::frames::{header_of, staged};
use crate::handler::{Answered, is_plain, run_plain};
use crate::look::{full_nibbles, stage_chunk, staged_slot};
use crate::mailbox;
use crate::stats::Stats;
use crate::system::System;
use crate::turn::{Ring, Visit, advance, ring_slots};
use crate::warp::{Warp, lowest};
use crate::words::{IMAGE_CHUNKS, Image};

pub(super) const PARTS: u32 = CHUNKS_PER_SLOT as u32;

/// Number of the only frame.
pub(crate) const FRAME: u32 = 0;
/// The lowest bit of every nibble.
pub(super) const NIBBLES: u32 = 0x1111_1111;

/// Where in the stage a message is that came alone.
pub(crate) const BASE: u32 = 0;

/// How a try at the short way ended, under the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    /// The message is answered.
    Done,
    /// Nothing was done for the staged message, which is for the long way.
    Left,
    /// The handler panicked and its lane left; the message is still staged as it came.
    Lost {
        /// The lanes that lived before.
        before: u32,
        /// Those that left.
        lost: u32,
    },
}

/// The rings of the shard that is a warp's home, and what running its messages needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoneRings {
    /// The home, by its number in the block.
    pub(super) local: u32,
    /// The gate at whose ring this lane looks, or the mailbox, ...
    pub(super) gate: u32,
    /// ... whether it does, or only does as if, ...
    looks: bool,
    /// ... and the ring.
    pub(super) slots: *const Slot,
    /// How many slots behind the first one this lane looks: 1 where it looks whether a letter has come alone.
    pub(super) ahead: u32,
    /// The lanes that look at the head of the mailbox, above those that look at gates' rings.
    pub(super) mail: u32,
    pub(super) home: Home,
}

/// What running the messages of one shard needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Home {
    directory: Directory,
    /// The shard's last timestamp.
    clock: *mut u64,
    lanes: *const LaneAddresses,
    /// The shard's mailbox; in an engine without mailboxes nobody looks there.
    mailbox: *mut MailboxState,
}

impl Home {
    /// Of the block's shard `local`.
    pub(crate) fn new(block: &Block<'_>, local: u32) -> Self {
        Self {
            directory: Directory::new(block.arguments, block.shard(local)),
            clock: block.clock(local),
            lanes: block.arguments.lanes as *const LaneAddresses,
            mailbox: mailbox::state_of(block.arguments, block.shard(local)),
        }
    }

    /// The directory of the shard.
    #[inline(always)]
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The state of its mailbox.
    #[inline(always)]
    pub(crate) fn mailbox(&self) -> *mut MailboxState {
        self.mailbox
    }

    /// Where its last timestamp is.
    #[inline(always)]
    pub(crate) fn clock(&self) -> *mut u64 {
        self.clock
    }
}

/// What watching the rings led to. What comes with it is in [`Handed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looked {
    Nothing,
    /// Messages were answered, one now and then.
    Some,
    /// Another warp holds the turn.
    Taken,
    /// The turn is taken, and a staged message is for the long way.
    Held,
    /// The heads of several rings are staged, for the long way.
    Several,
    /// Nothing was watched: it is time for a look at all rings of the block.
    Others,
}

/// What a watch hands to the long way: written to memory where it ends, so that nothing of it is kept in registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handed {
    /// The staged message.
    pub visit: Visit,
    /// How the short way ended for it, if its handler was lost.
    pub lost: Option<Tried>,
    /// The rings whose heads are staged, the position at which this lane looked, and in which ring.
    pub several: (u32, u64, Ring),
}

impl Handed {
    pub(crate) const fn nothing() -> Self {
        let visit = Visit { ring: Ring::NONE, position: 0, base: 0, others_staged: false };
        Self { visit, lost: None, several: (0, 0, Ring::NONE) }
    }
}

impl LoneRings {
    /// Nothing where the block has fewer warps than shards, or a shard more rings than one look covers.
    pub(crate) fn new<A: Arch, S: System, const WHOLE: bool>(
        warp: &Warp<A, WHOLE>,
        block: &Block<'_>,
        in_block: u32,
    ) -> Option<Self> {
        let (shards, sources) = (block.shards(), block.sources());
        let covers = A::LANES >= PARTS && sources <= A::LANES / PARTS;
        if !covers || shards > block.arguments.geometry.warps_per_block {
            return None;
        }
        let local = in_block.checked_rem(shards)?;
        let place = warp.rank() / PARTS;
        // The lanes behind those of the mailbox, which is the last source, look at its second slot.
        let has_mailbox = S::LETTERS && sources != block.gates();
        let is_ahead = has_mailbox && place == sources;
        let gate = if place < sources {
            place
        } else if is_ahead {
            block.gates()
        } else {
            0
        };
        Some(Self {
            local,
            gate,
            looks: place < sources,
            slots: ring_slots(block, local, gate),
            ahead: is_ahead.into(),
            mail: if has_mailbox { 0xf_u32.wrapping_shl(block.gates().wrapping_mul(PARTS)) } else { 0 },
            home: Home::new(block, local),
        })
    }

    /// The ring at which this lane looks.
    #[inline(always)]
    pub(super) fn mine(&self) -> Ring {
        Ring { local: self.local, gate: self.gate, slots: self.slots }
    }

    /// Takes the turn, looks at the heads of all rings for `rounds` rounds, and runs the messages that come alone. The turn is
    /// given back, unless the result says otherwise.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "the loop's state, handed down and inlined")]
    pub(crate) fn watch<A: Arch, S: System, const WHOLE: bool>(
        &self,
        warp: &mut Warp<A, WHOLE>,
        block: &Block<'_>,
        scratch: *mut WarpScratch,
        stats: Stats,
        clock: &Clock,
        rounds: u32,
        handed: &mut Handed,
    ) -> Looked {
        let turn = block.turn(self.local);
        // SAFETY: the turn is a word of the block's memory.
        let got = unsafe { A::try_acquire_cta(turn, warp.rank() == 0) };
        if !warp.any(got) {
            return Looked::Taken;
        }
        // All lanes read after rank 0 has the turn.
        warp.sync();
        let looked = if S::LETTERS {
            warp.lend(|warp| self.watch_with_mail::<A, S, WHOLE>(warp, block, scratch, stats, clock, rounds, handed))
        } else {
            self.watch_mine::<A, S, WHOLE>(warp, block, scratch, stats, clock, rounds, handed)
        };
        if looked == Looked::Held {
            return looked;
        }
        // What every lane wrote comes before the turn is given back.
        warp.sync();
        if warp.rank() == 0 {
            // SAFETY: the warp holds the turn.
            unsafe { A::release_cta(turn) };
        }
        looked
    }

    /// As [`watch`](Self::watch), under the turn, where there are no letters.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "the loop's state, handed down and inlined")]
    fn watch_mine<A: Arch, S: System, const WHOLE: bool>(
        &self,
        warp: &mut Warp<A, WHOLE>,
        block: &Block<'_>,
        scratch: *mut WarpScratch,
        stats: Stats,
        clock: &Clock,
        rounds: u32,
        handed: &mut Handed,
    ) -> Looked {
        let shape = self.mine().shape::<S>(block);
        // SAFETY: a position of the block's memory, under the turn.
        let mut position = unsafe { A::load_cta(block.ring_head(self.local, self.gate)) };
        let part = (warp.rank() % PARTS) as usize;
        let chunk_at =
            |position| self.slots.wrapping_add(shape.index(position) as usize).cast::<Chunk>().wrapping_add(part);
        let (mut from, mut lap) = (chunk_at(position), shape.lap(position));
        let (mut found, mut found_last) = (false, false);
        let mut left = rounds;
        // The next look begins when the last is there, before it is known what that found: a look is a round trip to the second-level
        // cache, and what it found is looked into meanwhile. A lane without a ring looks at another's: a load on a condition is
        // compiled into a wait for its tag right behind it.
        // SAFETY: a chunk of a slot of a ring.
        let mut next = unsafe { A::load_chunk_gpu(from) };
        while left != 0 {
            left = left.wrapping_sub(1);
            let chunk = next;
            // SAFETY: as above.
            next = unsafe { A::load_chunk_gpu(from) };
            let (began_ns, physical) = Self::times::<A>(clock);
            // A slower lane may still read what the last look staged.
            warp.sync();
            let has_come = self.looks & (chunk.tag() == lap);
            let votes = warp.ballot(has_come);
            if votes == 0 {
                found_last = false;
                continue;
            }
            // One slot: four lanes that belong together.
            let first = votes & votes.wrapping_neg();
            let is_one = (first & NIBBLES != 0) & (votes == first.wrapping_mul(0xf));
            if !is_one | found_last {
                let ready = full_nibbles(votes);
                if ready == 0 {
                    continue;
                }
                if has_come {
                    // SAFETY: the stage has a chunk for every lane.
                    unsafe { stage_chunk::<A>(scratch, warp.rank(), chunk) };
                }
                warp.sync();
                handed.several = (ready, position, self.mine());
                return Looked::Several;
            }
            if has_come {
                // SAFETY: these four lanes have one of the slot's chunks each.
                unsafe { stage_chunk::<A>(scratch, BASE.wrapping_mul(PARTS).wrapping_add(part as u32), chunk) };
            }
            warp.sync();
            let tried = run_one::<A, S, WHOLE, true>(warp, scratch, stats, &self.home, BASE, began_ns, physical);
            if tried != Tried::Done {
                // Not those of above, which would be kept all the way; of them at most a lane that is not the lowest is lost.
                let votes = warp.ballot(has_come);
                warp.lend(|warp| self.hand_over(warp, block, handed, votes, position, tried));
                return Looked::Held;
            }
            if has_come {
                position = position.wrapping_add(1);
                if part == 0 {
                    advance::<A, S>(block, self.mine(), position);
                }
            }
            (from, lap) = (chunk_at(position), shape.lap(position));
            (found, found_last) = (true, true);
            // The one under way is for the slot before.
            // SAFETY: as above.
            next = unsafe { A::load_chunk_gpu(from) };
        }
        if found { Looked::Some } else { Looked::Nothing }
    }

    /// The time, and the physical part of a timestamp then with whether it was found the quick way.
    #[inline(always)]
    pub(super) fn times<A: Arch>(clock: &Clock) -> (u64, (u64, bool)) {
        let began_ns = A::now_ns();
        let (physical, is_quick) = clock.physical_at_once(began_ns);
        (began_ns, (A::pin_u64(physical), is_quick))
    }

    /// Hands the staged message, which the lanes `votes` looked at, to the long way.
    #[cold]
    #[inline(never)]
    pub(super) fn hand_over<A: Arch, const WHOLE: bool>(
        &self,
        warp: &Warp<A, WHOLE>,
        block: &Block<'_>,
        handed: &mut Handed,
        votes: u32,
        position: u64,
        tried: Tried,
    ) {
        let from = lowest(votes);
        let ring = self.mine().of_lane(warp, block, from);
        let position = warp.broadcast_u64(position, from);
        handed.visit = Visit { ring, position, base: BASE, others_staged: false };
        handed.lost = if tried == Tried::Left { None } else { Some(tried) };
    }
}

/// Runs the staged slot `base` when it is a plain frame to an actor that lives, and, for `ALONE`, when it came alone: the
/// reply is then sent by the lane that runs the handler, which is quicker, otherwise by all lanes together, which takes less of
/// the bus. The warp holds the turn of `home`; `physical` is the physical part of a timestamp at `began_ns`, and whether it was
/// found the quick way.
#[inline(always)]
pub(crate) fn run_one<A: Arch, S: System, const WHOLE: bool, const ALONE: bool>(
    warp: &mut Warp<A, WHOLE>,
    scratch: *mut WarpScratch,
    stats: Stats,
    home: &Home,
    base: u32,
    began_ns: u64,
    (physical, is_quick): (u64, bool),
) -> Tried {
    // SAFETY: the slot is staged, and only this warp uses its scratch.
    let slot = unsafe { staged_slot::<A>(scratch, base) };
    let header = header_of(&slot);
    let address = ReturnAddress::decode(header.hint);
    // SAFETY: a gate wrote the lane's number, which is below the table's length; nobody writes the table while the kernel runs.
    let replies = A::pin_u64(unsafe { (*home.lanes.wrapping_add(address.lane as usize)).replies });
    let hashed = hash(header.kind, header.key);
    // SAFETY: the warp holds the turn.
    let (entry, is_there) = unsafe { home.directory.find_at_home(hashed, header.kind, header.key) };
    if !(is_plain(header.flags)
        & (header.kind != 0)
        & is_there
        & if ALONE { address.is_alone } else { !S::LETTERS | (address.lap != LAP_NEVER) })
    {
        return Tried::Left;
    }
    let arrival = Arrival::decode(header.hlc);
    let target = (replies as *mut Slot).wrapping_add(address.index.into()).cast::<Chunk>();
    // The sender's timestamp is known relative to the arrival: only a later time makes it a later one.
    let is_later = (began_ns as u32).wrapping_sub(arrival.device_ns) as i32 >= 0;
    let mut answered = Answered::Not;
    // All lanes have read the request before the reply is written over it.
    warp.sync();
    // Lanes read the clock at different times: it is the runner's that counts.
    if (warp.runner() == 0) & is_quick & is_later {
        // SAFETY: the warp holds the turn, and this lane alone works; a gate wrote the address of a slot of the lane's reply ring.
        unsafe {
            let image = Image::load::<A>(entry, S::STATE_BYTES);
            let last = A::load_cta(home.clock);
            (&raw mut (*scratch).running).cast::<u32>().wrapping_add(A::lane() as usize).write(FRAME + 1);
            let event_hlc = hlc::update_by(last, arrival.hlc_delta, physical);
            let (frame, reply) = (staged(scratch, base), (target, address.lap));
            answered = run_plain::<A, S, ALONE>(stats, &slot, frame, (entry, image), event_hlc, reply);
            if answered != Answered::Not {
                A::store_cta(home.clock, event_hlc);
            }
        }
    }
    let before = warp.live();
    let lost = warp.regather();
    if lost != 0 {
        return Tried::Lost { before, lost };
    }
    if warp.any(answered == Answered::Staged) {
        // What the runner wrote comes before its reply is sent.
        warp.sync();
        let mut part = warp.rank();
        while part < PARTS {
            // SAFETY: the runner staged the reply before the sync; a gate wrote the address of a slot of the lane's reply ring.
            unsafe {
                let [a, b, c, _] = staged(scratch, base).cast::<Chunk>().wrapping_add(part as usize).read().words;
                A::store_chunk_sys(target.wrapping_add(part as usize), Chunk::new([a, b, c], address.lap));
            }
            part = part.wrapping_add(warp.size());
        }
    } else if !warp.any(answered == Answered::Sent) {
        return Tried::Left;
    }
    if ALONE {
        bring_near::<A, S, WHOLE, IMAGE_CHUNKS>(warp, scratch, entry);
    }
    if warp.rank() == 0 {
        let ended_ns = A::now_ns();
        stats.latency::<A>(ended_ns.wrapping_sub(arrival.full_ns(ended_ns)));
        stats.add::<A>(Counter::Processed, 1);
        stats.add::<A>(Counter::Turns, 1);
        stats.add::<A>(Counter::BusyNs, ended_ns.wrapping_sub(began_ns));
    }
    Tried::Done
}

/// Brings the entry that the runner has stored back into the block's cache, from which a GPU's stores push what they write: the next
/// message to the actor would wait a round trip to the second-level cache for it. Of the state no more than `CHUNKS`, and as there are lanes.
#[inline(always)]
pub(crate) fn bring_near<A: Arch, S: System, const WHOLE: bool, const CHUNKS: usize>(
    warp: &Warp<A, WHOLE>,
    scratch: *mut WarpScratch,
    entry: *const EntryHeader,
) {
    const HEADER_CHUNKS: usize = size_of::<EntryHeader>() / size_of::<Chunk>();
    let state_chunks = S::STATE_BYTES.div_ceil(size_of::<Chunk>());
    let chunks = HEADER_CHUNKS + if state_chunks < CHUNKS { state_chunks } else { CHUNKS };
    let chunk = warp.rank() as usize;
    // What the runner stored comes before.
    warp.sync();
    if chunk < chunks {
        // SAFETY: a chunk of an entry, whose state takes as many, and one of the scratch that is there for this.
        unsafe { A::bring_near(entry.cast::<Chunk>().wrapping_add(chunk), &raw mut (*scratch).near) };
    }
}
