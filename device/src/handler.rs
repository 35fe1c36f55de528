//! Running one handler: the only place of the engine from which user code is reached.

use tourbillon_shared::error::{FailureCode, PanicPlace};
use tourbillon_shared::geometry::EntryHeader;
use tourbillon_shared::header::{Flags, Header};
use tourbillon_shared::slot::Slot;
use tourbillon_shared::telemetry::Counter;

use crate::arch::Arch;
use crate::call::{Call, Outcome, failure_of};
use crate::stats::Stats;
use crate::system::System;

/// What came of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Its outcome.
    Ended(Outcome),
    /// It panicked, on a machine where that does not end the lane.
    Panicked,
}

/// Bytes that a cache fetches at once.
const SECTOR: usize = 32;
/// Bytes of an entry that are asked for ahead: all of one with a small state.
const AHEAD: usize = 128;

/// Asks for an actor's entry, so that it is at hand when its handler runs.
#[inline(always)]
pub(crate) fn ask_for<A: Arch>(entry: *const EntryHeader) {
    let mut offset = 0;
    while offset < AHEAD {
        A::prefetch(entry.cast::<u8>().wrapping_add(offset));
        offset += SECTOR;
    }
}

/// Runs the handler of the frame at `frame` and writes its answer, or the failure that stands in its place.
///
/// # Safety
/// The frame, which `header` is that of, is staged and this lane's; `entry` is null or the actor's, and the warp holds the turn.
#[inline(always)]
pub(crate) unsafe fn run_frame<A: Arch, S: System>(
    stats: Stats,
    frame: *mut Slot,
    header: Header,
    entry: *mut EntryHeader,
    event_hlc: u64,
) {
    let flags = header.flags;
    let failure = if flags.has(Flags::MALFORMED) {
        Some(FailureCode::MalformedFrame)
    } else if flags.has(Flags::DRIFTED) {
        Some(FailureCode::ClockDrift)
    } else if !S::has_kind(header.kind) {
        Some(FailureCode::UnknownKind)
    } else if entry.is_null() {
        Some(FailureCode::DirectoryFull)
    } else {
        let mut verdict = Verdict::Panicked;
        // SAFETY: the warp holds the turn, and all frames of this actor are with this lane.
        let before = unsafe { entry.read() };
        let ended = A::guard(|| {
            let [key_low, key_high, addressee, shape, ..] = header.encode();
            let key = u64::from(key_low) | u64::from(key_high) << 32;
            // SAFETY: as above; the caller vouches for the frame. An actor whose timestamp is 0 has handled nothing yet.
            verdict = Verdict::Ended(unsafe {
                run_handler::<S>(entry, frame, key, addressee, shape, event_hlc, before.version, before.hlc == 0)
            });
        });
        match verdict {
            Verdict::Ended(Outcome::Failed) => {
                note_failure::<A>(stats, FailureCode::Handler);
                None
            }
            Verdict::Ended(outcome) if ended => {
                if outcome == Outcome::Done {
                    // SAFETY: as above.
                    unsafe { entry.write(EntryHeader { hlc: event_hlc, version: before.version.wrapping_add(1) }) };
                }
                failure_of(outcome)
            }
            _ => Some(FailureCode::Panicked),
        }
    };
    if let Some(code) = failure {
        let place = if code == FailureCode::Panicked { A::last_panic() } else { PanicPlace::default() };
        if code == FailureCode::Panicked {
            stats.add::<A>(Counter::Panicked, 1);
        }
        // SAFETY: the caller vouches for the frame.
        unsafe { Call::new(frame, header, event_hlc, 0) }.fail(code, place);
        note_failure::<A>(stats, code);
    }
}

/// Whether a frame is of one slot, without extensions, and was not refused by its gate.
#[inline(always)]
pub(crate) fn is_plain(flags: Flags) -> bool {
    flags.0 & !(Flags::TELL | Flags::URGENT) == 0
}

/// Runs one handler, and the actor's activation before its first message.
///
/// The only function of the kernel from which user code is reached, and so the only one below which a panic may be. It is kept
/// out of line so that a reading of the PTX can tell.
///
/// What it needs comes in registers: `addressee` and `shape` are data words 2 and 3 of the header.
///
/// # Safety
/// `entry` is the actor's entry and `frame` its staged message, which nobody else uses meanwhile.
#[inline(never)]
#[expect(clippy::too_many_arguments, reason = "a structure would travel through memory")]
unsafe fn run_handler<S: System>(
    entry: *mut EntryHeader,
    frame: *mut Slot,
    key: u64,
    addressee: u32,
    shape: u32,
    event_hlc: u64,
    version: u64,
    is_new: bool,
) -> Outcome {
    let state = entry.wrapping_add(1).cast::<u8>();
    let header = Header::decode(&[key as u32, (key >> 32) as u32, addressee, shape, 0, 0, 0, 0]);
    // SAFETY: the caller vouches for both; the state follows the entry's header.
    unsafe {
        let mut call = Call::new(frame, header, event_hlc, version);
        if is_new {
            S::activate(header.kind, key, state);
        }
        S::dispatch(header.kind, header.message, state, &mut call)
    }
}

#[inline(always)]
pub(crate) fn note_failure<A: Arch>(stats: Stats, code: FailureCode) {
    stats.add::<A>(Counter::Failed, 1);
    stats.set::<A>(Counter::LastFailure, code as u64);
}
