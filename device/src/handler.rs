//! Running one handler: the only module of the engine from which user code is reached.

use core::mem::MaybeUninit;

use tourbillon_shared::block::{WINDOW_SLOTS, WarpScratch};
use tourbillon_shared::broadcast::BROADCAST_KIND;
use tourbillon_shared::dead_letter::is_dead;
use tourbillon_shared::error::{FailureCode, PanicPlace};
use tourbillon_shared::geometry::EntryHeader;
use tourbillon_shared::header::{Flags, Header, ReturnAddress};
use tourbillon_shared::mailbox::LETTERS_MAX;
use tourbillon_shared::mutant;
use tourbillon_shared::position::LAP_NEVER;
use tourbillon_shared::slot::{Chunk, SLOT_BYTES, Slot};
use tourbillon_shared::telemetry::Counter;
use tourbillon_shared::virtual_actors::{SPACE_ORDERS, errand, kind_of, space_of};

use crate::actor::STATE_BYTES_MAX;
use crate::arch::Arch;
use crate::call::{Call, Outcome, failure_of};
use crate::frames::{header_of, staged};
use crate::landing::{landing_buffer, refusal};
use crate::large::Large;
use crate::mailbox::{self, Near, Received, is_carried, is_handed_on};
use crate::options;
use crate::stats::Stats;
use crate::supervision;
use crate::system::System;
use crate::virtual_actors::{failure_in, is_order_done};
use crate::words::{Image, LoneLetter, OneSlot, Staged, Words};

/// Runs the handler of the staged frame at `frame` and writes its answer, or the failure that stands in its place.
///
/// # Safety
/// The frame, which `header` is that of, is staged in `scratch` and this lane's; `entry` is the actor's or says why there is none, and the warp holds the
/// turn. The payload of a frame with a reference has landed or was refused. A frame with options is alone in its window.
#[inline(always)]
pub(crate) unsafe fn run_frame<A: Arch, S: System>(
    stats: Stats,
    frame: *mut Slot,
    header: Header,
    entry: *mut EntryHeader,
    event_hlc: u64,
    scratch: *mut WarpScratch,
) {
    // SAFETY: the caller vouches for all of it.
    unsafe {
        if S::SUPERVISED {
            supervision::run::<A, S>(stats, frame, header, entry, event_hlc, scratch);
        } else {
            run_by_itself::<A, S>(stats, frame, header, entry, event_hlc, scratch);
        }
    }
}

/// As [`run_frame`], for an actor that nobody supervises.
///
/// # Safety
/// As for [`run_frame`].
#[inline(always)]
pub(crate) unsafe fn run_by_itself<A: Arch, S: System>(
    stats: Stats,
    frame: *mut Slot,
    header: Header,
    entry: *mut EntryHeader,
    event_hlc: u64,
    scratch: *mut WarpScratch,
) {
    // SAFETY: the caller vouches for all of it.
    unsafe {
        if S::LETTERS && is_letter(header.hint) {
            run_letter::<A, S>(stats, frame, entry, event_hlc, scratch);
        } else if header.flags.0 & Flags::OPTIONS != 0 {
            run_with_options::<A, S>(stats, frame, entry, event_hlc, scratch);
        } else {
            run_bare::<A, S>(stats, frame, header, entry, event_hlc, scratch);
        }
    }
}

/// Whether a frame with this hint comes from an actor.
#[inline(always)]
pub(crate) fn is_letter(hint: u64) -> bool {
    let address = ReturnAddress::decode(hint);
    address.lap == LAP_NEVER || address.span != 0
}

/// As [`run_frame`] for a letter: whoever asked is answered by a letter.
///
/// # Safety
/// As for [`run_frame`].
#[inline(never)]
pub(crate) unsafe fn run_letter<A: Arch, S: System>(
    stats: Stats,
    frame: *mut Slot,
    entry: *mut EntryHeader,
    event_hlc: u64,
    scratch: *mut WarpScratch,
) {
    // SAFETY: the caller vouches for all of it.
    unsafe {
        let received = Received::of::<A>(frame);
        Received::prepare::<A>(frame, scratch);
        let header = header_of(&*frame);
        if S::GOES_ON && received.is_some_and(|received| received.goes_on()) {
            run_going_on::<A, S>(stats, frame, entry, event_hlc, scratch);
        } else if header.flags.0 & Flags::OPTIONS != 0 {
            run_with_options::<A, S>(stats, frame, entry, event_hlc, scratch);
        } else {
            run_bare::<A, S>(stats, frame, header, entry, event_hlc, scratch);
        }
        if let Some(received) = received
            && received.asks()
            && !is_handed_on(scratch, A::lane())
        {
            mailbox::answer::<A>(stats, &received, frame, event_hlc, scratch);
        }
    }
}

/// As [`run_frame`] for a letter by which its actor goes on: when there is no room for what its handler sends it is put back in line.
///
/// # Safety
/// As for [`run_frame`].
#[cold]
#[inline(never)]
unsafe fn run_going_on<A: Arch, S: System>(
    stats: Stats,
    frame: *mut Slot,
    entry: *mut EntryHeader,
    event_hlc: u64,
    scratch: *mut WarpScratch,
) {
    // SAFETY: the caller vouches for all of it. A message that failed so has written nothing, so the frame stands as it came.
    unsafe {
        let header = header_of(&*frame);
        let failure = attempt::<A, S>(stats, frame, header, entry, event_hlc, scratch).err();
        if failure == Some(FailureCode::MailboxFull) && mailbox::put_back::<A>(stats, frame, event_hlc, scratch) {
            return Call::new(Staged::<A>::new(frame), header, event_hlc).acknowledge();
        }
        if !is_carried(scratch, A::lane()) {
            mailbox::end_going::<A>(scratch);
        }
        if let Some(code) = failure {
            refuse::<A>(stats, frame, scratch, code, event_hlc);
        }
    }
}

/// As [`run_frame`] for a frame with options: acts on them before and after. Out of line, so that frames without options pay nothing, not
/// even in registers.
///
/// # Safety
/// As for [`run_frame`].
#[cold]
#[inline(never)]
unsafe fn run_with_options<A: Arch, S: System>(
    stats: Stats,
    frame: *mut Slot,
    entry: *mut EntryHeader,
    event_hlc: u64,
    scratch: *mut WarpScratch,
) {
    // SAFETY: the caller vouches for all of it. When the handler has succeeded there is an entry, and the reply stands in the frame.
    unsafe {
        let header = header_of(&*frame);
        if !options::answered::<A>(stats, frame, entry, event_hlc, scratch)
            && run_bare::<A, S>(stats, frame, header, entry, event_hlc, scratch)
        {
            options::settle::<A>(frame, header.flags, entry, scratch);
        }
    }
}

/// As [`run_frame`], whatever the options say; whether the message was handled without a failure.
///
/// # Safety
/// As for [`run_frame`].
#[inline(always)]
pub(crate) unsafe fn run_bare<A: Arch, S: System>(
    stats: Stats,
    frame: *mut Slot,
    header: Header,
    entry: *mut EntryHeader,
    event_hlc: u64,
    scratch: *mut WarpScratch,
) -> bool {
    // SAFETY: the caller vouches for all of it.
    unsafe {
        match attempt::<A, S>(stats, frame, header, entry, event_hlc, scratch) {
            Ok(is_done) => is_done,
            Err(code) => {
                refuse::<A>(stats, frame, scratch, code, event_hlc);
                false
            }
        }
    }
}

/// As [`run_bare`], but leaves the frame as it came where a failure is to stand in place of the answer; that failure.
///
/// # Safety
/// As for [`run_frame`].
#[inline(always)]
unsafe fn attempt<A: Arch, S: System>(
    stats: Stats,
    frame: *mut Slot,
    header: Header,
    entry: *mut EntryHeader,
    event_hlc: u64,
    scratch: *mut WarpScratch,
) -> Result<bool, FailureCode> {
    let flags = header.flags;
    let failure = if flags.has(Flags::MALFORMED) {
        Some(FailureCode::MalformedFrame)
    } else if flags.has(Flags::DRIFTED) {
        Some(FailureCode::ClockDrift)
    } else if let Some(code) = if flags.has(Flags::ARENA) { refusal(scratch) } else { None } {
        Some(code)
    } else if space_of(header.kind) == SPACE_ORDERS {
        if is_order_done(entry) {
            // SAFETY: the caller vouches for the frame.
            unsafe { Call::new(Staged::<A>::new(frame), header, event_hlc) }.acknowledge();
            None
        } else if S::LETTERS && header.kind == BROADCAST_KIND {
            // SAFETY: the caller vouches for frame, scratch and turn; a frame of this kind is alone in its window.
            unsafe { mailbox::run_broadcast::<A, S>(stats, frame, event_hlc, scratch) }
        } else {
            Some(FailureCode::UnknownKeySpace)
        }
    } else if !S::has_kind(kind_of(header.kind)) {
        Some(FailureCode::UnknownKind)
    } else if let Some(code) = failure_in(entry) {
        Some(code)
    } else {
        let [key_low, key_high, addressee, shape, ..] = header.encode();
        let key = u64::from(key_low) | u64::from(key_high) << 32;
        let mut outcome = None;
        let ended = A::guard(|| {
            // SAFETY: the caller vouches for entry and frame; all frames of this actor are with this lane. A frame that landed is a
            // window of its own, and the turn gives this warp the buffer.
            outcome = Some(unsafe { run_handler::<A, S>(entry, frame, key, addressee, shape, event_hlc, scratch) });
        });
        let outcome = outcome.filter(|_| ended);
        if outcome == Some(Outcome::Done) {
            return Ok(true);
        }
        judge::<A>(stats, outcome)
    };
    match failure {
        Some(code) => Err(code),
        None => Ok(false),
    }
}

/// Answers a staged frame with a failure that no handler returned; one that no handler was run for becomes a dead letter, if it is one.
///
/// # Safety
/// As for [`run_frame`].
#[cold]
#[inline(never)]
pub(crate) unsafe fn refuse<A: Arch>(
    stats: Stats,
    frame: *mut Slot,
    scratch: *mut WarpScratch,
    code: FailureCode,
    event_hlc: u64,
) {
    // SAFETY: the caller vouches for the frame; what is dead was not run, so it stands as it came.
    unsafe {
        let header = header_of(&*frame);
        if code == FailureCode::PoolExhausted && (*scratch).errand < errand::ORDER_DONE {
            // A handler's, and not that of an actor which did not come. Several lanes may move it, one after the other.
            A::try_take_cta(&raw mut (*scratch).pool_short, 1);
        }
        if is_dead(code, header.flags.has(Flags::TELL)) {
            options::bury::<A>(stats, frame, scratch, code, event_hlc);
        }
        let mut call = Call::new(Staged::<A>::new(frame), header, event_hlc);
        fail::<A, _>(stats, &mut call, code);
    }
}

/// Where the answer to a plain frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// Nowhere: the frame is not just what one of the handlers takes, and nothing was done.
    Not,
    /// In place of the request, for all lanes to send.
    Staged,
    /// Sent.
    Sent,
}

/// As [`run_frame`] for a plain frame whose actor is at `entry` and looks like `image`, in registers all through and compiled into the caller. The
/// answer is `SENT` to `reply` under the tag `lap`, or staged.
///
/// # Safety
/// `slot` is the frame, which is staged at `frame` and this lane's; `entry` is the actor's, and the warp holds the turn; `reply`
/// is the slot for the reply.
#[inline(always)]
pub(crate) unsafe fn run_plain<A: Arch, S: System, const SENT: bool>(
    stats: Stats,
    slot: &Slot,
    frame: *mut Slot,
    (entry, image): (*mut EntryHeader, Image),
    event_hlc: u64,
    (reply, lap): (*mut Chunk, u32),
) -> Answered {
    let header = header_of(slot);
    let to = if SENT { reply } else { frame.cast() };
    let mut outcome = None;
    let ended = A::guard(|| {
        // SAFETY: the caller vouches for entry and answer; the state follows the entry's header.
        outcome = Some(unsafe {
            let mut call = Call::new(OneSlot::<A, SENT>::new(slot, image, to, lap), header, event_hlc);
            call.find(entry, image.header);
            S::dispatch(entry.wrapping_add(1).cast(), &mut call)
        });
    });
    let outcome = outcome.filter(|_| ended);
    let answered = if SENT { Answered::Sent } else { Answered::Staged };
    if outcome == Some(Outcome::Done) {
        return answered;
    }
    if outcome.is_some_and(|outcome| outcome != Outcome::Failed) {
        return Answered::Not;
    }
    let Some(code) = judge::<A>(stats, outcome) else { return answered };
    // SAFETY: the caller vouches for the frame.
    let mut call = Call::new(unsafe { Staged::<A>::new(frame) }, header, event_hlc);
    fail::<A, _>(stats, &mut call, code);
    Answered::Staged
}

/// Where in the stage, of which a lone letter takes the first slot, the letters are that its handler sends, ...
pub(crate) const LETTERS_AT: u32 = 1;
/// ... and the copy of the state that it works on; in front of that is the copy of the entry's header.
const STATE_AT: u32 = LETTERS_AT + size_of::<Near>().div_ceil(SLOT_BYTES) as u32 + 1;
const _: () = assert!(STATE_AT as usize + STATE_BYTES_MAX.div_ceil(SLOT_BYTES) <= WINDOW_SLOTS);
const _: () = assert!(size_of::<EntryHeader>() <= SLOT_BYTES);

/// Where in the stage the copy of an entry is that [`run_lone_letter`] works on.
#[inline(always)]
pub(crate) fn copy_at(scratch: *mut WarpScratch) -> *mut EntryHeader {
    let state_at = if mutant!("lone_state_over_letters") { LETTERS_AT } else { STATE_AT };
    staged(scratch, state_at).cast::<EntryHeader>().wrapping_sub(1)
}

/// As [`run_plain`] for a letter to which nobody waits for an answer, and whose handler may send: whether it is done, and if so whether the
/// copy of the entry is to be brought back. Nothing was done otherwise, but for a panic.
///
/// # Safety
/// The letter of `header` is staged as the first slot of `scratch`, and with the rest of the stage this lane's; `entry` is the actor's, which is
/// not new and copied at [`copy_at`], and the warp holds the turn; `lane` is the calling one.
#[inline(always)]
pub(crate) unsafe fn run_lone_letter<A: Arch, S: System>(
    stats: Stats,
    header: Header,
    frame: *mut Slot,
    entry: *mut EntryHeader,
    event_hlc: u64,
    (scratch, lane): (*mut WarpScratch, u32),
) -> (bool, bool) {
    let mut outcome = None;
    // Shared memory answers sooner than a stack, of which a lane alone uses a line for every word.
    let near = staged(scratch, LETTERS_AT).cast::<Near>();
    let copied = copy_at(scratch);
    let ended = A::guard(|| {
        // SAFETY: the caller vouches for entry, copy and frame.
        outcome = Some(unsafe {
            let mut call = Call::new(LoneLetter::<A>::new(frame, copied), header, event_hlc);
            call.find(entry, copied.read());
            call.deliver(&raw const (*scratch).mail, &raw const (*scratch).desk, lane);
            call.lend(near);
            S::dispatch(entry.wrapping_add(1).cast(), &mut call)
        });
    });
    match outcome.filter(|_| ended) {
        Some(Outcome::Done) => (true, true),
        // Nobody is told of its error.
        Some(Outcome::Failed) => {
            note_failure::<A>(stats, FailureCode::Handler);
            (true, false)
        }
        _ => (false, false),
    }
}

/// Counts a failure that the handler answered itself; the failure that stands in for an answer where there is none. No outcome
/// means a panic, on a machine where that does not end the lane.
#[inline(always)]
fn judge<A: Arch>(stats: Stats, outcome: Option<Outcome>) -> Option<FailureCode> {
    let Some(outcome) = outcome else { return Some(FailureCode::Panicked) };
    if outcome == Outcome::Failed {
        note_failure::<A>(stats, FailureCode::Handler);
    }
    failure_of(outcome)
}

/// Answers with a failure that no handler returned.
#[inline(always)]
fn fail<A: Arch, W: Words>(stats: Stats, call: &mut Call<W>, code: FailureCode) {
    let place = if code == FailureCode::Panicked { A::last_panic() } else { PanicPlace::default() };
    if code == FailureCode::Panicked {
        stats.add::<A>(Counter::Panicked, 1);
    }
    if code == FailureCode::PoolExhausted {
        stats.add::<A>(Counter::PoolExhausted, 1);
    }
    call.fail(code, place);
    note_failure::<A>(stats, code);
}

/// Whether a frame is of one slot, without extensions, and was not refused by its gate.
#[inline(always)]
pub(crate) fn is_plain(flags: Flags) -> bool {
    flags.0 & !(Flags::TELL | Flags::URGENT) == 0
}

/// Runs one handler, and the actor's activation before its first message.
///
/// It is the copy of the handlers for windows, kept out of line so that a reading of the PTX can tell what they call; the copy for
/// the short way is compiled into the loops ([`run_plain`]).
///
/// What it needs comes in registers: `addressee` and `shape` are data words 2 and 3 of the header.
///
/// # Safety
/// `entry` is the actor's entry and `frame` its staged message, which nobody else uses meanwhile; `scratch` is the
/// warp's, which has noted where what a reference leads to has landed.
#[inline(never)]
unsafe fn run_handler<A: Arch, S: System>(
    entry: *mut EntryHeader,
    frame: *mut Slot,
    key: u64,
    addressee: u32,
    shape: u32,
    event_hlc: u64,
    scratch: *mut WarpScratch,
) -> Outcome {
    let mut header = Header::decode(&[key as u32, (key >> 32) as u32, addressee, shape, 0, 0, 0, 0]);
    // SAFETY: the caller vouches for both; the state follows the entry's header.
    unsafe {
        // When it came; and where its answer goes, should the handler hand it on.
        let Header { hint, hlc, .. } = header_of(&*frame);
        (header.hint, header.hlc) = (hint, hlc);
        let mut call = Call::new(Staged::<A>::new(frame), header, event_hlc);
        call.find(entry, entry.read());
        call.deliver(&raw const (*scratch).mail, &raw const (*scratch).desk, A::lane());
        let mut near: Near;
        if S::LETTERS {
            near = [MaybeUninit::uninit(); LETTERS_MAX as usize];
            call.lend(&raw mut near);
        }
        let mut large;
        if header.flags.has(Flags::ARENA) {
            large = Large::new(landing_buffer(scratch), call.reference());
            call.receive(&raw mut large);
        }
        S::dispatch(entry.wrapping_add(1).cast(), &mut call)
    }
}

#[inline(always)]
pub(crate) fn note_failure<A: Arch>(stats: Stats, code: FailureCode) {
    stats.add::<A>(Counter::Failed, 1);
    stats.set::<A>(Counter::LastFailure, code as u64);
}
