//! A window: frames that a warp took from one ring, and the phases that they go through.
//!
//! See [`turn`](crate::turn) for the four phases, and for what a panic costs.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::error::{FailureCode, PanicPlace};
use tourbillon_shared::geometry::EntryHeader;
use tourbillon_shared::header::{Arrival, Flags, Header, ReturnAddress};
use tourbillon_shared::hlc;
use tourbillon_shared::mailbox::LetterHint;
use tourbillon_shared::mutant;
use tourbillon_shared::partition::hash;
use tourbillon_shared::position::{RingShape, lap_after};
use tourbillon_shared::slot::SLOT_BYTES;
use tourbillon_shared::telemetry::Counter;
use tourbillon_shared::virtual_actors::{SPACE_ORDERS, kind_of, space_of};

use crate::arch::Arch;
use crate::block::Block;
use crate::call::Call;
use crate::clock::Clock;
use crate::directory::{Directory, Place};
use crate::frames::{Frames, staged, staged_flags, staged_header};
use crate::gate::{copy_out, lane_addresses};
use crate::handler::{note_failure, run_frame};
use crate::landing::{depart, refusal};
use crate::look::Way;
use crate::mailbox::{self, Received};
use crate::options::wakes_nobody;
use crate::pool;
use crate::stats::Stats;
use crate::supervision;
use crate::system::System;
use crate::turn::{Ring, ring_slot};
use crate::virtual_actors::{are_on, entry_of_errand, no_entry, settle};
use crate::warp::{Warp, low_bits, lowest};
use crate::words::Staged;

/// A window whose frames are grouped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub ring: Ring,
    pub position: u64,
    pub base: u32,
    pub frames: Frames,
    pub groups: u32,
    /// Timestamp of frame 0.
    pub first_hlc: u64,
    pub began_ns: u64,
    pub directory: Directory,
}

/// Phases two to four for the groups from `first` on; how many slots are done.
#[inline(always)]
pub(crate) fn run_groups<A: Arch, S: System, const WHOLE: bool>(
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
        let (entry, todo) = resolve::<A, S, WHOLE>(warp, block, scratch, window, stats, todo);
        let reads = S::BLOCKS && enter_epoch::<A, S, WHOLE>(warp, block, scratch, stats, window.ring.local, todo);
        if todo != 0 {
            if S::POOLS {
                open_pool::<A, S>(scratch, block, window.ring.local, todo);
            }
            run_frames::<A, S>(scratch, stats, todo, entry, window.first_hlc);
        }
        let runners = warp.live();
        let lost = warp.regather();
        if reads {
            // SAFETY: the warp holds the turn, and the handlers have returned.
            unsafe { pool::epoch::leave::<A>(&warp.damaged(), scratch, block, stats, window.ring.local) };
        }
        if S::POOLS {
            pool::turn::close(&warp.damaged(), scratch, stats);
        }
        if lost != 0 {
            if WHOLE {
                let mut damaged = warp.damaged();
                next = recover::<A, S, false>(&damaged, scratch, stats, runners, lost, batch, next, window.first_hlc);
                let done = finish_damaged::<A, S>(&mut damaged, block, scratch, stats, window, next);
                // More may have been lost since.
                warp.regather();
                return done;
            }
            next = recover::<A, S, WHOLE>(warp, scratch, stats, runners, lost, batch, next, window.first_hlc);
        }
        warp.sync();
    }
    let (left, left_slots) = if next < groups {
        put_back::<A, S, WHOLE>(warp, block, scratch, window.ring, window.position, frames, next, groups)
    } else {
        (0, 0)
    };
    if warp.rank() == 0 && window.ring.is_mailbox::<S>(block) {
        mailbox::count_received::<A>(block, window.ring.local, frames.count.wrapping_sub(left.count_ones()));
    }
    // Who waits for an actor is answered when it comes.
    // SAFETY: a word of the scratch, written before a sync.
    let left = left | unsafe { (&raw const (*scratch).parked).read() };
    // SAFETY: the window is staged; a frame with a payload in an arena is alone in it.
    if frames.count == 1 && unsafe { staged_flags(scratch, window.base) }.has(Flags::REPLY | Flags::ARENA) {
        depart(warp, scratch, window.base);
    }
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
pub(crate) fn finish_damaged<A: Arch, S: System>(
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
pub(crate) fn recover<A: Arch, S: System, const WHOLE: bool>(
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
        let highest = 31u32.wrapping_sub(rest.leading_zeros());
        let lane = if tourbillon_shared::mutant!("panics_lowest_first") { lowest(rest) } else { highest };
        rest &= !1u32.wrapping_shl(lane);
        // The runner of rank `r` had the group `r - 1` of the batch.
        let rank = (before & low_bits(lane)).count_ones();
        let group = batch.wrapping_add(rank.wrapping_sub(1));
        // SAFETY: the lane wrote its words before it left; regathering ordered that before this.
        let (frame, frames) = unsafe {
            (
                read_word(&raw const (*scratch).running, lane).wrapping_sub(1),
                read_word(&raw const (*scratch).group, group),
            )
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
                let staged = staged(scratch, read_word(&raw const (*scratch).start, frame));
                // The handler has written nothing, so the frame still says who asked.
                let received = Received::of::<A>(staged);
                if S::SUPERVISED {
                    supervision::note_lost::<A, S>(stats, staged, first_hlc.wrapping_add(frame.into()), scratch);
                }
                if received.is_some_and(|received| received.goes_on()) {
                    mailbox::end_going::<A>(scratch);
                }
                let mut call = call_of::<A>(scratch, frame, first_hlc);
                call.fail(FailureCode::Panicked, place);
                if let Some(received) = received
                    && received.asks()
                    && (*scratch).desk.letters != 0
                {
                    mailbox::answer::<A>(stats, &received, staged, first_hlc.wrapping_add(frame.into()), scratch);
                }
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
fn put_back<A: Arch, S: System, const WHOLE: bool>(
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
                    let (target, lap) = ring_slot::<S>(block, &ring, at);
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

/// Word `index` of an array of the scratch.
///
/// # Safety
/// `index` is inside the array, and no other lane writes the word meanwhile.
#[inline(always)]
unsafe fn read_word<const N: usize>(array: *const [u32; N], index: u32) -> u32 {
    // SAFETY: the caller vouches for it.
    unsafe { array.cast::<u32>().wrapping_add(index as usize).read() }
}

/// Notes that nothing is sent in place of the staged slots `start .. start + span`, which are the calling lane's.
#[inline(always)]
fn target_nothing(scratch: *mut WarpScratch, start: u32, span: u32) {
    let mut slot = 0;
    while slot < span {
        let at = start.wrapping_add(slot) as usize;
        // SAFETY: the slots of a frame lie inside the stage, and are this lane's.
        unsafe { (&raw mut (*scratch).target).cast::<u64>().wrapping_add(at).write(0) };
        slot = slot.wrapping_add(1);
    }
}

/// Notes where the reply goes that takes the place of the frame of `header`, which is staged at `start` and the calling lane's.
#[inline(always)]
fn target_reply<S: System>(block: &Block<'_>, scratch: *mut WarpScratch, start: u32, header: &Header) {
    let address = ReturnAddress::decode(header.hint);
    let lane = lane_addresses(block, address.lane.into());
    let capacity = RingShape::from_log2(lane.capacity_log2).capacity();
    let (mut index, mut lap) = (u32::from(address.index), address.lap);
    // A letter that hands on the duty to answer may have more slots than the reply.
    let replied = if !S::LETTERS || address.span == 0 { header.flags.span() } else { address.span.into() };
    let mut slot = 0;
    while slot < header.flags.span() {
        let target = lane.replies.wrapping_add(u64::from(index).wrapping_mul(SLOT_BYTES as u64));
        let at = start.wrapping_add(slot) as usize;
        // SAFETY: the slots of a frame lie inside the stage, and are this lane's.
        unsafe {
            let target = if slot < replied { target } else { 0 };
            (&raw mut (*scratch).target).cast::<u64>().wrapping_add(at).write(target);
            (&raw mut (*scratch).target_lap).cast::<u32>().wrapping_add(at).write(lap);
        }
        index = index.wrapping_add(1);
        if index == capacity {
            (index, lap) = (0, lap_after(lap));
        }
        slot = slot.wrapping_add(1);
    }
}

/// Phase one: notes where every frame is, came from and goes, groups the frames by actor, and gives them timestamps.
///
/// Returns the number of groups and the timestamp of frame 0; frame `f` has that plus `f`.
#[inline(always)]
pub(crate) fn take<A: Arch, S: System, const WHOLE: bool>(
    warp: &Warp<A, WHOLE>,
    block: &Block<'_>,
    scratch: *mut WarpScratch,
    local: u32,
    now_ns: u64,
    clock: &Clock,
    frames: Frames,
) -> (u32, u64) {
    let rank = warp.rank();
    let is_mine = rank < frames.count;
    let mut remote = 0;
    let mut header = Header::default();
    let physical = clock.physical(now_ns);
    if is_mine {
        // SAFETY: the frame is staged and this lane's.
        header = unsafe { staged_header(scratch, frames.start) };
        let arrival = Arrival::decode(header.hlc);
        // Relative to now in place of the arrival: as late as the sender's or later, and still inside the drift bound.
        remote = hlc::from_delta(arrival.hlc_delta, physical);
        if S::LETTERS && LetterHint::decode(header.hint).is_some() {
            // Nobody waits for a reply; where one answers a letter, that is another letter.
            target_nothing(scratch, frames.start, header.flags.span());
        } else {
            target_reply::<S>(block, scratch, frames.start, &header);
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
    let shard_clock = block.clock(local);
    // SAFETY: a word of the block's memory; the turn makes this warp the only one that uses it.
    let last = unsafe { A::load_cta(shard_clock) };
    let first = hlc::update(last, most, physical);
    if rank == 0 {
        // SAFETY: words of the warp's scratch, which rank 0 alone writes.
        unsafe {
            (&raw mut (*scratch).parked).write(0);
            if S::LETTERS && block.sources() != block.gates() {
                (*scratch).desk.shard = block.shard(local);
                (*scratch).desk.overflowing = block.overflowing(local) as u64;
            }
        }
    }
    warp.sync();
    if rank == 0 {
        // SAFETY: as above; every lane read it before the sync.
        unsafe { A::store_cta(shard_clock, first.wrapping_add(u64::from(frames.count.wrapping_sub(1)))) };
    }
    (groups, first)
}

/// Phase two: the entry of the actor of the frames `todo`, or why there is none; and those of the frames that are to be run or
/// answered, for others may have to wait.
#[inline(always)]
fn resolve<A: Arch, S: System, const WHOLE: bool>(
    warp: &Warp<A, WHOLE>,
    block: &Block<'_>,
    scratch: *mut WarpScratch,
    window: &Window,
    stats: Stats,
    todo: u32,
) -> (*mut EntryHeader, u32) {
    let directory = &window.directory;
    let mut entry = no_entry(0);
    let mut missing = false;
    let mut header = Header::default();
    let mut hashed = 0;
    if todo != 0 {
        // SAFETY: `take` noted the start of every frame; the frame is staged.
        header = unsafe { staged_header(scratch, read_word(&raw const (*scratch).start, lowest(todo))) };
        // A message whose payload was refused wakes no actor.
        let is_refused = header.flags.has(Flags::ARENA) && refusal(scratch).is_some();
        let is_known = S::has_kind(kind_of(header.kind)) && space_of(header.kind) != SPACE_ORDERS;
        if let Some(instead) = entry_of_errand(scratch) {
            entry = instead;
        } else if is_known && !is_refused {
            hashed = hash(header.kind, header.key);
            // SAFETY: the warp holds the turn.
            match unsafe { directory.find(hashed, header.kind, header.key) } {
                Place::Found(found) => entry = found,
                Place::Missing(_) => missing = true,
            }
        }
    }
    let mut new = warp.ballot(missing);
    if new != 0 && are_on(block) {
        let (local, found) = (window.ring.local, (entry, todo));
        // SAFETY: the warp holds the turn; the frames are staged, and grouped by actor.
        return unsafe { settle(warp, block, scratch, stats, local, new, (header, hashed), found) };
    }
    while new != 0 {
        if warp.rank() == lowest(new) {
            // SAFETY: the warp holds the turn, and one lane after the other comes here; the frames are staged.
            let made = unsafe {
                if wakes_nobody::<A>(scratch, lowest(todo)) {
                    None
                } else {
                    directory.insert(hashed, header.kind, header.key)
                }
            };
            if let Some(made) = made {
                entry = made;
                stats.add::<A>(Counter::Activated, 1);
            }
        }
        new &= new.wrapping_sub(1);
        warp.sync();
    }
    (entry, todo)
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
        // SAFETY: `take` noted the frame's start; the frame is staged and this lane's while it runs.
        unsafe {
            let start = read_word(&raw const (*scratch).start, frame);
            let event_hlc = first_hlc.wrapping_add(frame.into());
            run_frame::<A, S>(stats, staged(scratch, start), staged_header(scratch, start), entry, event_hlc, scratch);
        }
    }
}

/// Opens this lane's record of the shard's pool, if the actor of the frames `todo` uses collections.
#[inline(always)]
fn open_pool<A: Arch, S: System>(scratch: *mut WarpScratch, block: &Block<'_>, local: u32, todo: u32) {
    // SAFETY: `take` noted the start of every frame, which is staged; the records were closed after the last batch.
    unsafe {
        let header = staged_header(scratch, read_word(&raw const (*scratch).start, lowest(todo)));
        // Names are actors of the same kind.
        if S::has_pools(if mutant!("pool_of_names_unopened") { header.kind } else { kind_of(header.kind) }) {
            pool::turn::open::<A>(scratch, block, local);
            if S::BLOCKS {
                pool::epoch::open::<A>(scratch, block, local);
            }
        }
    }
}

/// Frees what published blocks no longer need, and announces that the warp reads some, as far as the frames of the batch, of which `todo`
/// are this lane's, are such; whether it did.
#[inline(always)]
fn enter_epoch<A: Arch, S: System, const WHOLE: bool>(
    warp: &Warp<A, WHOLE>,
    block: &Block<'_>,
    scratch: *mut WarpScratch,
    stats: Stats,
    local: u32,
    todo: u32,
) -> bool {
    let mut uses = (false, false);
    if todo != 0 {
        // SAFETY: `take` noted the start of every frame, which is staged.
        let header = unsafe { staged_header(scratch, read_word(&raw const (*scratch).start, lowest(todo))) };
        let kind = kind_of(header.kind);
        uses = (S::has_pools(kind), S::has_blocks(kind));
    }
    // SAFETY: the warp holds the turn; the records were closed after the last batch.
    unsafe { pool::epoch::enter::<A>(&warp.damaged(), block, stats, local, uses) }
}

/// The call of frame `frame`.
///
/// # Safety
/// `take` noted the frame's start, and the frame is the lane's.
#[inline(always)]
unsafe fn call_of<A: Arch>(scratch: *mut WarpScratch, frame: u32, first_hlc: u64) -> Call<Staged<A>> {
    // SAFETY: the caller vouches for it.
    unsafe {
        let start = read_word(&raw const (*scratch).start, frame);
        let header = staged_header(scratch, start);
        Call::new(Staged::new(staged(scratch, start)), header, first_hlc.wrapping_add(frame.into()))
    }
}
