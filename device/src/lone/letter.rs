//! The short way of a letter that comes alone to a shard's mailbox.
//!
//! As [`run`](super::run) it leaves out what only several messages need. One lane runs it from the header to the state, and whichever
//! letters to its own shard follow from it and are next: a collective behind a handler costs more than what it would share out, for the
//! lanes have to be brought together first. What was done is told to the others, once, in [`Row`](tourbillon_shared::block::Row).

use tourbillon_shared::block::{ROW_MAX, WarpScratch, row_note};
use tourbillon_shared::geometry::EntryHeader;
use tourbillon_shared::header::{Arrival, Flags, Header};
use tourbillon_shared::hlc;
use tourbillon_shared::mailbox::{LetterHint, MailboxState};
use tourbillon_shared::mutant;
use tourbillon_shared::partition::hash;
use tourbillon_shared::slot::Chunk;
use tourbillon_shared::telemetry::Counter;
use tourbillon_shared::virtual_actors::kind_of;

use super::hand::AtHand;
use super::run::{BASE, FRAME, Tried};
use crate::arch::Arch;
use crate::directory::Directory;
use crate::frames::{header_of, staged};
use crate::handler::{copy_at, run_letter, run_lone_letter};
use crate::look::staged_slot;
use crate::mailbox;
use crate::stats::Stats;
use crate::system::System;
use crate::warp::Warp;

/// Chunks that a lane copies together: a loop's first loads come back while the others are asked for.
const TOGETHER: usize = 8;
/// What stands for a chunk that is not there.
const NO_CHUNK: Chunk = Chunk { words: [0; 4] };
/// Chunks that come near with one: those of a sector of the cache.
const CHUNKS_PER_SECTOR: usize = 2;
/// Chunks of an entry that are brought near for the next letter: more would throw out what others need.
const NEAR_CHUNKS: usize = 33;

/// Chunks of an entry with its state.
const fn entry_chunks<S: System>() -> usize {
    (size_of::<EntryHeader>() + S::STATE_BYTES).div_ceil(size_of::<Chunk>())
}

/// Runs the staged letter, and those that follow from it, as far as each has one slot, its actor lives and nobody outside waits for a reply.
/// The warp holds the turn of the block's shard that `mailbox` is of, and its desk is that shard's. With it comes how many are done: the staged
/// one is the first that is not.
#[inline(always)]
pub(crate) fn run_lone<A: Arch, S: System, const WHOLE: bool>(
    warp: &mut Warp<A, WHOLE>,
    scratch: *mut WarpScratch,
    stats: Stats,
    mailbox: *mut MailboxState,
) -> (Tried, u32) {
    // SAFETY: the slot is staged, and only this warp uses its scratch, in which the watch has put what is at hand.
    let (slot, AtHand { directory, last, clock }) =
        unsafe { (staged_slot::<A>(scratch, BASE), AtHand::get::<A>(scratch)) };
    let header = header_of(&slot);
    // Lanes read the clock at different times: it is the runner's that counts. Only a later time makes a timestamp a later one.
    let began_ns = A::now_ns();
    let (physical, is_quick) = clock.physical_at_once(began_ns);
    // Worked out before it is needed: it is compiled into where the bucket is waited for.
    let is_later = (began_ns as u32).wrapping_sub(Arrival::decode(header.hlc).device_ns) as i32 >= 0;
    let (physical, is_timely) = (A::pin_u64(physical), A::pin_u64((is_quick & is_later).into()) != 0);
    // SAFETY: the warp holds the turn.
    let (entry, is_lone) = unsafe { find::<S>(&directory, &header) };
    if !is_lone {
        return (Tried::Left, 0);
    }
    if !is_small::<S>() {
        copy_together::<A, S, WHOLE>(warp, entry.cast_const().cast(), copy_at(scratch).cast());
    }
    // All lanes have copied, and have read the slot, over which the next one is staged.
    if !mutant!("slot_staged_over_while_read") {
        warp.sync();
    }
    if warp.runner() == 0 {
        // SAFETY: the warp holds the turn, and this lane alone works; the letter is staged, and the entry unless it is small.
        unsafe {
            if is_timely {
                run_row::<A, S>(stats, scratch, last, entry, physical);
            } else {
                (*scratch).row.note = row_note::LEFT;
            }
        }
    }
    let before = warp.live();
    let lost = warp.regather();
    // The runner has written what the others read.
    warp.sync();
    // SAFETY: the runner has come back or left.
    let (done, is_left) =
        unsafe { ((&raw const (*scratch).row.done).read(), (&raw const (*scratch).row.note).read() == row_note::LEFT) };
    if warp.rank() == 0 && done != 0 {
        // SAFETY: as above; `received` is that of the mailbox of the shard whose turn the warp holds.
        unsafe {
            if !mutant!("lone_letters_uncounted") {
                A::count_pool(&raw mut (*mailbox).received, done.into());
            }
            let row = &raw const (*scratch).row;
            let mut index = 0;
            while index < done as usize {
                stats.latency::<A>((&raw const (*row).waited_ns).cast::<u32>().wrapping_add(index).read().into());
                index = index.wrapping_add(1);
            }
            stats.add::<A>(Counter::Processed, done.into());
            stats.add::<A>(Counter::Turns, done.into());
            stats.add::<A>(Counter::BusyNs, (*row).ended_ns.wrapping_sub(began_ns as u32).into());
        }
    }
    let tried = if lost != 0 {
        Tried::Lost { before, lost }
    } else if is_left {
        Tried::Left
    } else {
        Tried::Done
    };
    (tried, done)
}

/// The entry that the first bucket of a letter's actor names, and whether that is this actor and the letter one for the short way.
///
/// # Safety
/// The caller's warp holds the turn of the shard.
#[inline(always)]
unsafe fn find<S: System>(directory: &Directory, header: &Header) -> (*mut EntryHeader, bool) {
    let hashed = hash(header.kind, header.key);
    // SAFETY: the caller vouches for the turn.
    let (entry, is_there) = unsafe { directory.find_at_home(hashed, header.kind, header.key) };
    let is_simple = header.flags.0 & !(Flags::TELL | Flags::URGENT | Flags::SENDER) == 0
        && LetterHint::decode(header.hint).is_some()
        && !(S::POOLS && S::has_pools(kind_of(header.kind)))
        && !(S::SUPERVISED && S::is_supervised(kind_of(header.kind)) && !mutant!("lone_letters_unsupervised"));
    (entry, is_simple & is_there & (header.kind != 0))
}

/// Whether an entry with its state is so small that the lane which runs the handler reads it sooner alone.
const fn is_small<S: System>() -> bool {
    entry_chunks::<S>() <= TOGETHER
}

/// Runs the staged letter to the actor at `entry`, which is copied unless it is small, and those that follow from it. `physical` is the
/// physical part of the time now, `last` where the last timestamp of the shard is. One lane calls it, and the others wait.
///
/// # Safety
/// The warp holds the turn of the shard whose mailbox it watches, this lane may use its scratch, and [`mailbox::expect`] was called before.
#[inline(always)]
unsafe fn run_row<A: Arch, S: System>(
    stats: Stats,
    scratch: *mut WarpScratch,
    last: *mut u64,
    entry: *mut EntryHeader,
    physical: u64,
) {
    let lane = A::lane();
    let scratch_at = scratch as u64;
    let (mut entry, mut physical, mut done) = (entry, physical, 0u32);
    // SAFETY: the caller vouches for the scratch and the turn: nobody else uses what is read and written here.
    unsafe {
        loop {
            // Addresses are found where they are needed: in front of the loop they would be found for every letter as well, and kept.
            let scratch = A::pin_u64(scratch_at) as *mut WarpScratch;
            let row = &raw mut (*scratch).row;
            let copied = copy_at(scratch).cast::<Chunk>();
            // On its way while the letter is looked into.
            let loaded = if is_small::<S>() {
                load_chunks::<A, S, false>(entry.cast_const().cast(), 0)
            } else {
                [NO_CHUNK; TOGETHER]
            };
            // For each anew: what sending notes in it is of one letter.
            if done == 0 || !mutant!("row_notes_kept") {
                (&raw mut (*scratch).running).cast::<u32>().wrapping_add(lane as usize).write(FRAME + 1);
            }
            let header = header_of(&staged_slot::<A>(scratch, BASE));
            let arrival = Arrival::decode(header.hlc);
            let [a, b, ..] = if is_small::<S>() {
                store_chunks::<A, S, false>(&loaded, copied, 0);
                let [first, ..] = loaded;
                first.words
            } else {
                A::load_staged(copied).words
            };
            // How an actor begins is for the long way.
            if a | b == 0 {
                break (*row).note = row_note::LEFT;
            }
            let event_hlc = hlc::update_by(A::load_cta(last), arrival.hlc_delta, physical);
            A::store_cta(last, event_hlc);
            let hint = LetterHint::decode(header.hint).unwrap_or_default();
            let goes_on = S::GOES_ON && hint.goes_on(header.flags.has(Flags::SENDER));
            let frame = staged(scratch, BASE);
            if header.flags.has(Flags::SENDER) || hint.is_answer || goes_on {
                run_letter::<A, S>(stats, frame, entry, event_hlc, scratch);
            } else {
                let (is_done, is_changed) =
                    run_lone_letter::<A, S>(stats, header, frame, entry, event_hlc, (scratch, lane));
                if !is_done {
                    break (*row).note = row_note::LEFT;
                }
                if is_changed {
                    copy_alone::<A, S, true>(copied, entry.cast());
                }
            }
            let ended_ns = A::now_ns();
            (&raw mut (*row).waited_ns)
                .cast::<u32>()
                .wrapping_add(done as usize)
                .write(ended_ns.wrapping_sub(arrival.full_ns(ended_ns)) as u32);
            done = done.wrapping_add(1);
            ((*row).done, (*row).ended_ns) = (done, ended_ns as u32);
            let is_next = mailbox::is_kept(scratch) && (done as usize) < ROW_MAX;
            // What sending has thrown out of the block's cache, and storing: the next message to the actor would wait for it.
            bring_near::<A, S>(scratch, entry.cast_const().cast());
            let AtHand { directory, clock, .. } = AtHand::get::<A>(scratch);
            if !is_next {
                let bucket = directory.home_of(hash(header.kind, header.key));
                break A::bring_near(bucket.cast(), &raw mut (*scratch).near);
            }
            // The next letter is staged already.
            mailbox::expect_next(scratch);
            let header = header_of(&staged_slot::<A>(scratch, BASE));
            let (found, is_lone) = find::<S>(&directory, &header);
            let (next_physical, is_quick) = clock.physical_at_once(ended_ns);
            if !(is_lone & is_quick) {
                break (*row).note = row_note::LEFT;
            }
            if !is_small::<S>() {
                copy_alone::<A, S, false>(found.cast_const().cast(), copied);
            }
            (entry, physical) = (found, next_physical);
        }
    }
}

/// Copies an entry with its state to where the handler works on it, each lane its chunks.
#[inline(always)]
fn copy_together<A: Arch, S: System, const WHOLE: bool>(warp: &Warp<A, WHOLE>, from: *const Chunk, to: *mut Chunk) {
    let chunks = const { entry_chunks::<S>() } as u32;
    let mut chunk = warp.rank();
    while chunk < chunks {
        // SAFETY: both are an entry with a state of the system's: the one in the slab, under the turn, the other in the stage; each chunk is
        // one lane's.
        unsafe {
            let copied = A::load_own(from.wrapping_add(chunk as usize));
            A::store_staged(to.wrapping_add(chunk as usize), copied);
        }
        chunk = chunk.wrapping_add(warp.size());
    }
}

/// Copies an entry with its state, from the stage when it goes `BACK`, and otherwise to it. One lane does it.
///
/// # Safety
/// Both are an entry with a state of the system's, the one in the slab, under the turn, the other in the stage, and the calling lane's.
#[inline(always)]
unsafe fn copy_alone<A: Arch, S: System, const BACK: bool>(from: *const Chunk, to: *mut Chunk) {
    // Found where they are needed: a dozen addresses that are known before the loop would be kept in memory.
    let (from, to) = (A::pin_u64(from as u64) as *const Chunk, A::pin_u64(to as u64) as *mut Chunk);
    let mut first = 0;
    while first < const { entry_chunks::<S>() } {
        // SAFETY: the caller vouches for the chunks.
        unsafe {
            let values = load_chunks::<A, S, BACK>(from, first);
            store_chunks::<A, S, BACK>(&values, to, first);
        }
        first = first.wrapping_add(TOGETHER);
    }
}

/// The chunks from the `first` on of an entry with its state, from the stage when it goes `BACK`.
///
/// # Safety
/// As for [`copy_alone`].
#[inline(always)]
unsafe fn load_chunks<A: Arch, S: System, const BACK: bool>(from: *const Chunk, first: usize) -> [Chunk; TOGETHER] {
    let mut values = [NO_CHUNK; TOGETHER];
    let mut i = 0;
    while i < TOGETHER {
        let chunk = first.wrapping_add(i);
        if chunk < const { entry_chunks::<S>() } {
            // SAFETY: the caller vouches for the chunk; `i` is below the array's length.
            unsafe {
                let from = from.wrapping_add(chunk);
                *values.get_unchecked_mut(i) = if BACK { A::load_staged(from) } else { A::load_own(from) };
            }
        }
        i = i.wrapping_add(1);
    }
    values
}

/// Stores what [`load_chunks`] has loaded.
///
/// # Safety
/// As for [`copy_alone`].
#[inline(always)]
unsafe fn store_chunks<A: Arch, S: System, const BACK: bool>(values: &[Chunk; TOGETHER], to: *mut Chunk, first: usize) {
    let mut i = 0;
    while i < TOGETHER {
        let chunk = first.wrapping_add(i);
        if chunk < const { entry_chunks::<S>() } {
            // SAFETY: the caller vouches for the chunk; `i` is below the array's length.
            unsafe {
                let (to, value) = (to.wrapping_add(chunk), *values.get_unchecked(i));
                if BACK { to.write(value) } else { A::store_staged(to, value) }
            }
        }
        i = i.wrapping_add(1);
    }
}

/// Brings an entry that was stored back into the block's cache, from which a GPU's stores push what they write.
///
/// # Safety
/// The entry is one of the system's, and the scratch the calling lane's.
#[inline(always)]
unsafe fn bring_near<A: Arch, S: System>(scratch: *mut WarpScratch, entry: *const Chunk) {
    let chunks = const { if entry_chunks::<S>() < NEAR_CHUNKS { entry_chunks::<S>() } else { NEAR_CHUNKS } };
    let entry = A::pin_u64(entry as u64) as *const Chunk;
    let mut chunk = 0;
    while chunk < chunks {
        // SAFETY: the caller vouches for the entry; the chunk of the scratch is there for this.
        unsafe { A::bring_near(entry.wrapping_add(chunk), &raw mut (*scratch).near) };
        chunk = chunk.wrapping_add(CHUNKS_PER_SECTOR);
    }
}
