//! The short way of a letter that comes alone to a shard's mailbox.
//!
//! As [`run`](super::run) it leaves out what only several messages need. It is one call out of the loop, for handlers that send letters
//! are not compiled into it.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::header::{Arrival, Flags};
use tourbillon_shared::hlc;
use tourbillon_shared::mailbox::LetterHint;
use tourbillon_shared::mutant;
use tourbillon_shared::partition::hash;
use tourbillon_shared::telemetry::Counter;
use tourbillon_shared::virtual_actors::kind_of;

use super::run::{BASE, FRAME, Home, Tried, bring_near};
use crate::arch::Arch;
use crate::block::Block;
use crate::frames::{header_of, staged};
use crate::handler::{run_letter, run_lone_letter};
use crate::look::staged_slot;
use crate::mailbox;
use crate::stats::Stats;
use crate::system::System;
use crate::warp::Warp;
use crate::words::Image;

/// Chunks of a state that are brought near for the next letter: as far as a warp's lanes reach.
const NEAR_CHUNKS: usize = 31;

/// Runs the staged letter when it has one slot, its actor lives and nobody outside waits for a reply. The warp holds the turn of the
/// block's shard `local`, whose messages `home` is for; `physical` is the physical part of a timestamp at `began_ns`, and whether it was
/// found the quick way.
#[inline(never)]
#[expect(clippy::too_many_arguments, reason = "the loop's state, handed down")]
pub(crate) fn run_lone<A: Arch, S: System, const WHOLE: bool>(
    warp: &mut Warp<A, WHOLE>,
    block: &Block<'_>,
    scratch: *mut WarpScratch,
    stats: Stats,
    home: &Home,
    local: u32,
    began_ns: u64,
    (physical, is_quick): (u64, bool),
) -> Tried {
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
    let (Some(hint), true) = (hint, is_simple & is_there & (header.kind != 0)) else { return Tried::Left };
    let arrival = Arrival::decode(header.hlc);
    let is_later = (began_ns as u32).wrapping_sub(arrival.device_ns) as i32 >= 0;
    let mut is_done = false;
    // All lanes have read the letter before an answer is written over it.
    warp.sync();
    if (warp.runner() == 0) & is_quick & is_later {
        // SAFETY: the warp holds the turn, and this lane alone works; the letter is staged.
        unsafe {
            let image = Image::load::<A>(entry, S::STATE_BYTES);
            (*scratch).desk.shard = block.shard(local);
            (*scratch).desk.overflowing = block.overflowing(local) as u64;
            (&raw mut (*scratch).running).cast::<u32>().wrapping_add(A::lane() as usize).write(FRAME + 1);
            let event_hlc = hlc::update_by(A::load_cta(home.clock()), arrival.hlc_delta, physical);
            A::store_cta(home.clock(), event_hlc);
            let frame = staged(scratch, BASE);
            let goes_on = S::GOES_ON && hint.goes_on(header.flags.has(Flags::SENDER));
            if header.flags.has(Flags::SENDER) || hint.is_answer || goes_on {
                run_letter::<A, S>(stats, frame, entry, event_hlc, scratch);
                is_done = true;
            } else {
                is_done = run_lone_letter::<A, S>(stats, &slot, frame, (entry, image), event_hlc, scratch);
            }
        }
    }
    let before = warp.live();
    let lost = warp.regather();
    if lost != 0 {
        return Tried::Lost { before, lost };
    }
    if !warp.any(is_done) {
        return Tried::Left;
    }
    // What sending has thrown out of the block's cache.
    bring_near::<A, S, WHOLE, NEAR_CHUNKS>(warp, scratch, entry);
    if warp.rank() == 0 {
        // SAFETY: a bucket of the directory, and a chunk of the scratch that is there for this.
        unsafe { A::bring_near(directory.home_of(hashed).cast(), &raw mut (*scratch).near) };
    }
    if warp.rank() == 0 {
        if !mutant!("lone_letters_uncounted") {
            mailbox::count_received::<A>(block, local, 1);
        }
        let ended_ns = A::now_ns();
        stats.latency::<A>(ended_ns.wrapping_sub(arrival.full_ns(ended_ns)));
        stats.add::<A>(Counter::Processed, 1);
        stats.add::<A>(Counter::Turns, 1);
        stats.add::<A>(Counter::BusyNs, ended_ns.wrapping_sub(began_ns));
    }
    Tried::Done
}
