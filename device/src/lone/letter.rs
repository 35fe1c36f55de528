//! The short way of a letter that comes alone to a shard's mailbox.
//!
//! As [`run`](super::run) it leaves out what only several messages need. All lanes together copy the actor's entry to where the handler works
//! on it, and back.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::geometry::EntryHeader;
use tourbillon_shared::header::{Arrival, Flags};
use tourbillon_shared::hlc;
use tourbillon_shared::mailbox::LetterHint;
use tourbillon_shared::mutant;
use tourbillon_shared::partition::hash;
use tourbillon_shared::slot::Chunk;
use tourbillon_shared::telemetry::Counter;
use tourbillon_shared::virtual_actors::kind_of;

use super::run::{BASE, FRAME, Home, Tried, bring_near};
use crate::arch::Arch;
use crate::frames::{header_of, staged};
use crate::handler::{copy_at, run_letter, run_lone_letter};
use crate::look::staged_slot;
use crate::mailbox;
use crate::stats::Stats;
use crate::system::System;
use crate::warp::Warp;

/// Chunks of a state that are brought near for the next letter: as far as a warp's lanes reach.
const NEAR_CHUNKS: usize = 31;

/// Runs the staged letter when it has one slot, its actor lives and nobody outside waits for a reply. The warp holds the turn of the
/// block's shard that `home` is for, and its desk is that shard's; `physical` is the physical part of a timestamp at `began_ns`, and whether
/// it was found the quick way. With it comes whether the letter that the shard takes next is staged in its place.
#[inline(always)]
pub(crate) fn run_lone<A: Arch, S: System, const WHOLE: bool>(
    warp: &mut Warp<A, WHOLE>,
    scratch: *mut WarpScratch,
    stats: Stats,
    home: &Home,
    began_ns: u64,
    (physical, is_quick): (u64, bool),
) -> (Tried, bool) {
    // SAFETY: the slot is staged, and only this warp uses its scratch.
    let slot = unsafe { staged_slot::<A>(scratch, BASE) };
    let header = header_of(&slot);
    let hashed = hash(header.kind, header.key);
    let directory = home.directory();
    // SAFETY: the warp holds the turn.
    let (entry, is_there) = unsafe { directory.find_at_home(hashed, header.kind, header.key) };
    let hint = LetterHint::decode(header.hint);
    let is_simple = header.flags.0 & !(Flags::TELL | Flags::URGENT | Flags::SENDER) == 0
        && !(S::POOLS && S::has_pools(kind_of(header.kind)))
        && !(S::SUPERVISED && S::is_supervised(kind_of(header.kind)) && !mutant!("lone_letters_unsupervised"));
    let (Some(hint), true) = (hint, is_simple & is_there & (header.kind != 0)) else { return (Tried::Left, false) };
    let copied = copy_at(scratch);
    let first = copy_entry::<A, S, WHOLE>(warp, entry.cast_const().cast(), copied.cast());
    // How an actor begins is for the long way. The lane that has the header knows.
    let [a, b, ..] = first.words;
    if warp.any((warp.rank() == 0) & (a | b == 0)) {
        return (Tried::Left, false);
    }
    let arrival = Arrival::decode(header.hlc);
    let is_later = (began_ns as u32).wrapping_sub(arrival.device_ns) as i32 >= 0;
    let (mut is_done, mut is_changed) = (false, false);
    // All lanes have copied, and have read the letter before an answer is written over it.
    warp.sync();
    if (warp.runner() == 0) & is_quick & is_later {
        // SAFETY: the warp holds the turn, and this lane alone works; letter and entry are staged.
        unsafe {
            let frame = staged(scratch, BASE);
            let goes_on = S::GOES_ON && hint.goes_on(header.flags.has(Flags::SENDER));
            let lane = warp.lane();
            (&raw mut (*scratch).running).cast::<u32>().wrapping_add(lane as usize).write(FRAME + 1);
            let event_hlc = hlc::update_by(A::load_cta(home.clock()), arrival.hlc_delta, physical);
            A::store_cta(home.clock(), event_hlc);
            if header.flags.has(Flags::SENDER) || hint.is_answer || goes_on {
                run_letter::<A, S>(stats, frame, entry, event_hlc, scratch);
                is_done = true;
            } else {
                (is_done, is_changed) =
                    run_lone_letter::<A, S>(stats, header, frame, entry, event_hlc, (scratch, lane));
            }
        }
    }
    let before = warp.live();
    let lost = warp.regather();
    if lost != 0 {
        return (Tried::Lost { before, lost }, false);
    }
    if !warp.any(is_done) {
        return (Tried::Left, false);
    }
    let is_changed = warp.any(is_changed);
    // The runner has written what the others read.
    warp.sync();
    if is_changed {
        copy_entry::<A, S, WHOLE>(warp, copied.cast_const().cast(), entry.cast());
    }
    // SAFETY: the runner has come back, and `expect` was called before.
    let is_kept = unsafe { mailbox::is_kept(scratch) };
    if !is_kept {
        // What sending has thrown out of the block's cache; a letter that is at hand does not wait for that.
        bring_near::<A, S, WHOLE, NEAR_CHUNKS>(warp, scratch, entry);
        if warp.rank() == 0 {
            // SAFETY: a bucket of the directory, and a chunk of the scratch that is there for this.
            unsafe { A::bring_near(directory.home_of(hashed).cast(), &raw mut (*scratch).near) };
        }
    }
    if warp.rank() == 0 {
        if !mutant!("lone_letters_uncounted") {
            // SAFETY: the state of the mailbox of the shard whose turn the warp holds.
            unsafe { A::add_pool(&raw mut (*home.mailbox()).received, 1) };
        }
        let ended_ns = A::now_ns();
        stats.latency::<A>(ended_ns.wrapping_sub(arrival.full_ns(ended_ns)));
        stats.add::<A>(Counter::Processed, 1);
        stats.add::<A>(Counter::Turns, 1);
        stats.add::<A>(Counter::BusyNs, ended_ns.wrapping_sub(began_ns));
    }
    (Tried::Done, is_kept)
}

/// Copies an entry with its state, each lane its chunks; the first of this lane's.
#[inline(always)]
fn copy_entry<A: Arch, S: System, const WHOLE: bool>(
    warp: &Warp<A, WHOLE>,
    from: *const Chunk,
    to: *mut Chunk,
) -> Chunk {
    let chunks = const { (size_of::<EntryHeader>() + S::STATE_BYTES).div_ceil(size_of::<Chunk>()) } as u32;
    let mut chunk = warp.rank();
    let mut first = Chunk { words: [0; 4] };
    while chunk < chunks {
        // SAFETY: both are an entry with a state of the system's: the one in the slab, under the turn, the other in the stage; each chunk is
        // one lane's.
        unsafe {
            let copied = A::load_own(from.wrapping_add(chunk as usize));
            if chunk < warp.size() {
                first = copied;
            }
            to.wrapping_add(chunk as usize).write(copied);
        }
        chunk = chunk.wrapping_add(warp.size());
    }
    first
}
