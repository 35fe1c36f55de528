//! What the engine does for supervised actors: the protocol is in [`tourbillon_shared::supervision`], what a user writes in
//! [`supervise`](crate::supervise).
//!
//! | module | what it does |
//! | --- | --- |
//! | `bond` | whose child an actor is; beginning anew, stopping, failing |
//! | `order` | what parents want of their children |
//! | `event` | what parents are told, in room that was taken for it |
//!
//! All of it is out of line, and reached where a frame is run ([`run`]) or its lane was lost ([`note_lost`]), in systems with supervised
//! actors alone. It runs divergent, as the handlers do: no collective, no panic, and nothing that waits.

mod bond;
mod event;
mod order;

pub(crate) use bond::{entry_stride, is_bound};

use bond::Bonded;

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::error::{FailureCode, PanicPlace};
use tourbillon_shared::frame::payload_start;
use tourbillon_shared::geometry::EntryHeader;
use tourbillon_shared::header::{Flags, HEADER_WORDS, Header};
use tourbillon_shared::mailbox::LetterHint;
use tourbillon_shared::mutant;
use tourbillon_shared::partition::hash;
use tourbillon_shared::slot::Slot;
use tourbillon_shared::supervision::{Bond, Refusal, bond as state, is_event, is_order, watch};
use tourbillon_shared::virtual_actors::kind_of;

use crate::arch::Arch;
use crate::call::Call;
use crate::directory::Directory;
use crate::frames::header_of;
use crate::handler::{is_letter, note_failure, refuse, run_bare, run_by_itself};
use crate::mailbox::{self, Received};
use crate::stats::Stats;
use crate::supervise::Verdict;
use crate::system::System;
use crate::virtual_actors::failure_in;
use crate::words::{Staged, Words};
use bond::arguments_of;
use event::Came;

/// How the message in a frame has ended, by the answer that stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Without a failure; the first word of the reply.
    Well(u32),
    /// There was no room for what the handler sends, or for the actor: it may be tried again.
    ForWantOfRoom,
    /// With a failure, and the first word of the typed error, if it is one.
    Badly { code: u32, error: u32 },
}

/// How the message in the frame has ended.
///
/// # Safety
/// The frame is staged and the caller's, and its message was run or refused.
#[inline(always)]
unsafe fn ended_as<A: Arch>(frame: *mut Slot) -> Ended {
    const NO_MAILBOX: u32 = FailureCode::MailboxFull as u32;
    const NO_ANSWER: u32 = FailureCode::TooManyQuestions as u32;
    // SAFETY: the caller vouches for the frame.
    let (flags, words) = unsafe { (header_of(&*frame).flags, Staged::<A>::new(frame)) };
    let start = payload_start(Flags(0));
    let first = words.word(start);
    if !flags.has(Flags::FAILED) {
        return Ended::Well(first);
    }
    match first {
        NO_MAILBOX | NO_ANSWER => Ended::ForWantOfRoom,
        code => Ended::Badly { code, error: words.word(start.wrapping_add(1)) },
    }
}

/// Whether a child's parent hears of this failure.
#[inline(always)]
fn is_watched(bond: &Bond, code: u32, error: u32) -> bool {
    if code == FailureCode::Panicked as u32 {
        return true;
    }
    let watch = bond.watch >> watch::SHIFT;
    code == FailureCode::Handler as u32
        && (watch == watch::ERRORS
            || (watch == watch::ONE_ERROR && (error == bond.error || mutant!("all_errors_watched"))))
}

/// As [`run_frame`](crate::handler::run_frame), in a system with supervised actors.
///
/// # Safety
/// As there.
#[inline(never)]
pub(crate) unsafe fn run<A: Arch, S: System>(
    stats: Stats,
    frame: *mut Slot,
    header: Header,
    entry: *mut EntryHeader,
    event_hlc: u64,
    scratch: *mut WarpScratch,
) {
    let hint = LetterHint::decode(header.hint);
    if hint.and_then(is_order).is_some() {
        // SAFETY: the caller vouches for all of it.
        return unsafe { order::obey::<A, S>(stats, frame, header, entry, event_hlc, scratch) };
    }
    let kind = kind_of(header.kind);
    let is_there = S::is_supervised(kind) && failure_in(entry).is_none();
    // SAFETY: the caller vouches for the entry; where it is none, nothing is made of this.
    let actor = unsafe { Bonded::new::<S>(entry, kind, header.key) };
    let is_stopped = is_there && actor.bond().state == state::STOPPED;
    // SAFETY: the caller vouches for frame and scratch.
    unsafe {
        if let Some(room) = hint.and_then(is_event) {
            if is_stopped {
                refuse::<A>(stats, frame, scratch, FailureCode::Stopped, event_hlc);
                let came = Came::take::<A>(frame, room, scratch);
                return came.give_back::<A>(scratch);
            }
            return hear::<A, S>(stats, frame, room, (is_there, entry, &actor), event_hlc, scratch);
        }
        if is_stopped {
            return refuse_stopped::<A>(stats, frame, &header, event_hlc, scratch);
        }
        run_by_itself::<A, S>(stats, frame, header, entry, event_hlc, scratch);
        if is_there {
            look_at_failure::<A, S>(&actor, stats, frame, event_hlc, scratch);
        }
    }
}

/// What becomes of an actor whose message has ended in the staged frame, if it is a child.
///
/// # Safety
/// As for [`run`]; the actor is that of the frame.
#[inline(always)]
unsafe fn look_at_failure<A: Arch, S: System>(
    actor: &Bonded,
    stats: Stats,
    frame: *mut Slot,
    event_hlc: u64,
    scratch: *mut WarpScratch,
) {
    // SAFETY: the caller vouches for all of it.
    unsafe {
        if let Ended::Badly { code, error } = ended_as::<A>(frame) {
            let bond = actor.bond();
            if bond.state == state::CHILD && is_watched(&bond, code, error) {
                actor.fail::<A, S>(stats, scratch, code, event_hlc);
            }
        }
    }
}

/// Runs the handler of a parent for the staged event, which has `room`.
///
/// # Safety
/// As for [`run`]; the actor is that of the frame, if it `is_there`.
#[cold]
#[inline(never)]
unsafe fn hear<A: Arch, S: System>(
    stats: Stats,
    frame: *mut Slot,
    room: u32,
    (is_there, entry, actor): (bool, *mut EntryHeader, &Bonded),
    event_hlc: u64,
    scratch: *mut WarpScratch,
) {
    // SAFETY: the caller vouches for all of it.
    unsafe {
        let came = Came::take::<A>(frame, room, scratch);
        if !is_there {
            // The store has not brought the parent, or nobody more may wait for it.
            // It comes again, so it is no dead letter.
            let code = failure_in(entry).unwrap_or(FailureCode::UnknownKind);
            Call::new(Staged::<A>::new(frame), header_of(&*frame), event_hlc).fail(code, PanicPlace::default());
            note_failure::<A>(stats, code);
            return came.again::<A>(stats, scratch, event_hlc);
        }
        run_bare::<A, S>(stats, frame, header_of(&*frame), entry, event_hlc, scratch);
        match ended_as::<A>(frame) {
            Ended::ForWantOfRoom => return came.again::<A>(stats, scratch, event_hlc),
            Ended::Well(word) => {
                order::judge::<A, S>(actor, Verdict::from_word(word), stats, scratch, event_hlc);
            }
            Ended::Badly { .. } => look_at_failure::<A, S>(actor, stats, frame, event_hlc, scratch),
        }
        actor.count_child(came.what());
        came.give_back::<A>(scratch);
    }
}

/// Answers what was sent to a stopped actor.
///
/// # Safety
/// As for [`run`].
#[cold]
#[inline(never)]
unsafe fn refuse_stopped<A: Arch>(
    stats: Stats,
    frame: *mut Slot,
    header: &Header,
    event_hlc: u64,
    scratch: *mut WarpScratch,
) {
    // SAFETY: the caller vouches for all of it.
    unsafe {
        let received = Received::of::<A>(frame);
        if is_letter(header.hint) {
            Received::prepare::<A>(frame, scratch);
        }
        refuse::<A>(stats, frame, scratch, FailureCode::Stopped, event_hlc);
        let Some(received) = received else { return };
        if received.goes_on() && !mutant!("stopped_actor_goes_on") {
            mailbox::end_going::<A>(scratch);
        }
        if received.asks() && !mutant!("stopped_questions_unanswered") {
            mailbox::answer::<A>(stats, &received, frame, event_hlc, scratch);
        }
    }
}

/// The lane that ran the staged frame is lost, for its handler panicked: what its actor's parent has to hear of, and what the frame
/// took, if it was an event or an order.
///
/// # Safety
/// The frame is staged and nobody else's; `scratch` is the warp's, which holds the turn, and of which this lane alone works.
#[cold]
#[inline(never)]
pub(crate) unsafe fn note_lost<A: Arch, S: System>(
    stats: Stats,
    frame: *mut Slot,
    event_hlc: u64,
    scratch: *mut WarpScratch,
) {
    // SAFETY: the caller vouches for all of it; an actor whose handler ran is in the directory, and stays there while the window runs.
    unsafe {
        let header = header_of(&*frame);
        let hint = LetterHint::decode(header.hint);
        let room = hint.and_then(is_event);
        if room.is_some() {
            // The others it gave back when it came.
            event::give_back::<A>(1, scratch);
        }
        let kind = kind_of(header.kind);
        if !S::is_supervised(kind) || mutant!("lost_children_unnoticed") {
            return;
        }
        let directory = Directory::new(arguments_of(scratch), (*scratch).desk.shard);
        let (_, bucket) = directory.locate(hash(header.kind, header.key), header.kind, header.key);
        if bucket.kind == 0 {
            return;
        }
        let actor = Bonded::new::<S>(directory.entry(bucket.entry), kind, header.key);
        if room.is_some() {
            let word = (HEADER_WORDS + event::WHAT) as u32;
            actor.count_child(event::what_of(Staged::<A>::new(frame).word(word)));
        }
        if hint.and_then(is_order).is_some() {
            order::give_up::<A>(&actor, Refusal::HandlerFailed, stats, scratch, event_hlc);
        }
        if actor.bond().state == state::CHILD {
            actor.fail::<A, S>(stats, scratch, FailureCode::Panicked as u32, event_hlc);
        }
    }
}
