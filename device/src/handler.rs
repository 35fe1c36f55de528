//! Running one handler: the only place of the engine from which user code is reached.

use tourbillon_shared::error::{FailureCode, PanicPlace};
use tourbillon_shared::geometry::EntryHeader;
use tourbillon_shared::header::{Flags, Header};
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

/// Runs the handler of one frame and writes its answer, or the failure that stands in its place.
#[inline(always)]
pub(crate) fn run_call<A: Arch, S: System>(stats: Stats, call: &mut Call, entry: *mut EntryHeader, event_hlc: u64) {
    let flags = call.header().flags;
    let failure = if flags.has(Flags::MALFORMED) {
        Some(FailureCode::MalformedFrame)
    } else if flags.has(Flags::DRIFTED) {
        Some(FailureCode::ClockDrift)
    } else if !S::has_kind(call.header().kind) {
        Some(FailureCode::UnknownKind)
    } else if entry.is_null() {
        Some(FailureCode::DirectoryFull)
    } else {
        let mut verdict = Verdict::Panicked;
        let ended = A::guard(|| {
            // SAFETY: the warp holds the turn, and all frames of this actor are with this lane.
            verdict = Verdict::Ended(unsafe { run_handler::<S>(entry, call) });
        });
        match verdict {
            Verdict::Ended(Outcome::Failed) => {
                note_failure::<A>(stats, FailureCode::Handler);
                None
            }
            Verdict::Ended(outcome) if ended => {
                if outcome == Outcome::Done {
                    // SAFETY: as above.
                    unsafe {
                        (*entry).hlc = event_hlc;
                        (*entry).version = (*entry).version.wrapping_add(1);
                    }
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
        call.fail(code, place);
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
/// # Safety
/// `entry` is the actor's entry, which nobody else uses meanwhile.
#[inline(never)]
unsafe fn run_handler<S: System>(entry: *mut EntryHeader, call: &mut Call) -> Outcome {
    let state = entry.wrapping_add(1).cast::<u8>();
    let Header { kind, key, message, .. } = *call.header();
    // SAFETY: the caller vouches for the entry, whose state follows its header. An actor whose timestamp is 0 has handled
    // nothing yet.
    unsafe {
        if (*entry).hlc == 0 {
            S::activate(kind, key, state);
        }
        S::dispatch(kind, message, state, call)
    }
}

#[inline(always)]
pub(crate) fn note_failure<A: Arch>(stats: Stats, code: FailureCode) {
    stats.add::<A>(Counter::Failed, 1);
    stats.set::<A>(Counter::LastFailure, code as u64);
}
