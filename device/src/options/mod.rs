//! The options of a message, acted on when it is about to run: [`tourbillon_shared::options`] says what they are, and in which
//! order they count.
//!
//! Everything here is off the way of messages without options: out of line, called by the long way for frames with
//! [`Flags::OPTIONS`], each of which is alone in its window. It runs divergent, as handlers do: no collective and no panic.

mod dead_letters;
mod dedup;

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::dead_letter::is_dead;
use tourbillon_shared::error::{FailureCode, PanicPlace};
use tourbillon_shared::geometry::{EntryHeader, KernelArguments};
use tourbillon_shared::header::{Flags, Header};
use tourbillon_shared::hlc;
use tourbillon_shared::mutant;
use tourbillon_shared::options::{ANY_VERSION, deadline_start, message_id_start, version_start};
use tourbillon_shared::slot::Slot;
use tourbillon_shared::telemetry::Counter;

use crate::arch::Arch;
use crate::call::Call;
use crate::frames::{header_of, staged};
use crate::handler::note_failure;
use crate::kernel::mirror;
use crate::stats::Stats;
use crate::virtual_actors::failure_in;
use crate::words::{Staged, Words};

pub(crate) use dead_letters::{bury, look_at_taken};
use dedup::Window;

/// First data word of a header's flags and length, and of its hint.
const SHAPE_WORD: u32 = 3;
const HINT_WORD: u32 = 4;

/// What the kernel was launched with.
///
/// # Safety
/// `scratch` is a warp's, whose mail was filled when the kernel began.
#[inline(always)]
unsafe fn arguments_of<'a>(scratch: *const WarpScratch) -> &'a KernelArguments {
    // SAFETY: the caller vouches for the mail; the arguments live as long as the kernel runs.
    unsafe { &*((*scratch).mail.arguments as *const KernelArguments) }
}

/// The physical part of a timestamp, now. Not that of the window, which may have begun some handlers ago.
#[inline(always)]
pub(crate) fn physical_now<A: Arch>(arguments: &KernelArguments) -> u64 {
    // SAFETY: the mirror's second chunk is the clock's offset.
    let [low, high, ..] = unsafe { A::load_chunk_gpu(mirror(arguments).wrapping_add(1)) }.words;
    hlc::physical_from_unix_ns(A::now_ns().wrapping_add(u64::from(low) | u64::from(high) << 32))
}

#[inline(always)]
fn double<A: Arch>(words: &Staged<A>, start: u32) -> u64 {
    u64::from(words.word(start)) | u64::from(words.word(start.wrapping_add(1))) << 32
}

#[inline(always)]
fn id_in<A: Arch>(words: &Staged<A>, flags: Flags) -> [u32; 4] {
    let start = message_id_start(flags);
    let word = |i: u32| words.word(start.wrapping_add(i));
    [word(0), word(1), word(2), word(3)]
}

/// Whether the deadline of a frame is past.
#[inline(always)]
fn is_late<A: Arch>(words: &Staged<A>, flags: Flags, arguments: &KernelArguments) -> bool {
    flags.has(Flags::DEADLINE)
        && physical_now::<A>(arguments) > double(words, deadline_start(flags))
        && !mutant!("deadline_unchecked")
}

/// Whether a frame expects another version than `version`.
#[inline(always)]
fn is_stale<A: Arch>(words: &Staged<A>, flags: Flags, version: u64) -> bool {
    if !flags.has(Flags::IF_VERSION) || mutant!("version_unchecked") {
        return false;
    }
    let expected = double(words, version_start(flags));
    expected != ANY_VERSION && expected != version
}

/// Whether frame `frame` of a window has options for which it is going to be refused at an actor that does not exist: such a frame takes
/// no room for one.
///
/// # Safety
/// The frame is staged, its start noted, and the warp holds the turn.
#[cold]
#[inline(never)]
pub(crate) unsafe fn wakes_nobody<A: Arch>(scratch: *mut WarpScratch, frame: u32) -> bool {
    // SAFETY: the caller vouches for the frame.
    let (words, flags, arguments) = unsafe {
        let start = (&raw const (*scratch).start).cast::<u32>().wrapping_add(frame as usize).read();
        let frame = staged(scratch, start);
        (Staged::<A>::new(frame), header_of(&*frame).flags, arguments_of(scratch))
    };
    (is_stale(&words, flags, 0) || is_late(&words, flags, arguments)) && !mutant!("refused_wakes_actor")
}

/// Answers a frame with options that is not to be run; whether it was answered. `entry` is that of the frame's actor, null where there is
/// none yet, or says why there is none: then the version is not known, and whoever runs the frame refuses it.
///
/// # Safety
/// The frame is staged in `scratch`, is this lane's and alone in its window, and the warp holds the turn.
#[cold]
#[inline(never)]
pub(crate) unsafe fn answered<A: Arch>(
    stats: Stats,
    frame: *mut Slot,
    entry: *mut EntryHeader,
    event_hlc: u64,
    scratch: *mut WarpScratch,
) -> bool {
    // SAFETY: the caller vouches for all of it; what is no failure is the actor's entry.
    let (words, header, arguments, version) = unsafe {
        let version = if entry.is_null() {
            Some(0)
        } else if failure_in(entry).is_some() && !mutant!("refusals_read_as_entries") {
            None
        } else {
            Some((*entry).version)
        };
        (Staged::<A>::new(frame), header_of(&*frame), arguments_of(scratch), version)
    };
    let flags = header.flags;
    if flags.has(Flags::MESSAGE_ID) {
        let window = Window::of(arguments, header.kind, header.key);
        let id = id_in(&words, flags);
        // SAFETY: the turn gives this warp the shard's window, and the frame is alone.
        if unsafe { repeat::<A>(stats, frame, &header, &window, &id, event_hlc) } {
            return true;
        }
        // SAFETY: as above.
        unsafe { window.prepare(&header, &id) };
    }
    let (code, counter, place) = if is_late(&words, flags, arguments) {
        (FailureCode::DeadlinePassed, Counter::Expired, PanicPlace::default())
    } else if let Some(version) = version.filter(|version| is_stale(&words, flags, *version)) {
        (FailureCode::StaleVersion, Counter::StaleVersions, version_place(version))
    } else {
        return false;
    };
    stats.add::<A>(counter, 1);
    if is_dead(code, flags.has(Flags::TELL)) {
        // SAFETY: the frame stands as it came.
        unsafe { bury::<A>(stats, frame, scratch, code, event_hlc) };
    }
    // SAFETY: as above.
    let mut call = Call::new(unsafe { Staged::<A>::new(frame) }, header, event_hlc);
    call.fail(code, place);
    note_failure::<A>(stats, code);
    true
}

/// A version where a failure has the place of a panic.
#[inline(always)]
fn version_place(version: u64) -> PanicPlace {
    PanicPlace { line: version as u32, column: (version >> 32) as u32, file: 0 }
}

/// Answers a message that was handled before; whether it was.
///
/// # Safety
/// As for [`answered`].
#[inline(always)]
unsafe fn repeat<A: Arch>(
    stats: Stats,
    frame: *mut Slot,
    header: &Header,
    window: &Window,
    id: &[u32; 4],
    event_hlc: u64,
) -> bool {
    // SAFETY: the caller vouches for the window.
    let found = unsafe { window.find(header.kind, header.key, id) };
    if found.is_null() || mutant!("dedup_forgets") {
        return false;
    }
    stats.add::<A>(Counter::Duplicates, 1);
    // SAFETY: the entry is one of the window's; the frame is this lane's.
    let (entry, words) = unsafe { (found.read(), Staged::<A>::new(frame)) };
    let mut call = Call::new(words, *header, event_hlc);
    if entry.is_kept == 0 || entry.message != header.message {
        call.fail(FailureCode::Duplicate, version_place(entry.version));
        note_failure::<A>(stats, FailureCode::Duplicate);
        return true;
    }
    let [a, b, c, d] = entry.payload;
    call.write_word(0, a);
    call.write_word(1, b);
    call.write_word(2, c);
    call.write_word(3, d);
    call.write_header(Flags::REPLY | Flags::REPEATED, entry.length);
    if header.flags.has(Flags::IF_VERSION) {
        // SAFETY: as above.
        tell_version(&mut unsafe { Staged::<A>::new(frame) }, entry.version);
    }
    true
}

/// Writes the actor's version into a reply.
#[inline(always)]
fn tell_version<A: Arch>(words: &mut Staged<A>, version: u64) {
    words.set_word(HINT_WORD, version as u32);
    words.set_word(HINT_WORD.wrapping_add(1), (version >> 32) as u32);
    let shape = words.word(SHAPE_WORD);
    words.set_word(SHAPE_WORD, shape | u32::from(Flags::VERSION) << 16);
}

/// After a frame with the options of `flags` was handled without a failure: says the version in its reply, and remembers its id.
///
/// # Safety
/// As for [`answered`], which was called for the frame; its reply stands in its place, and `entry` is its actor's.
#[cold]
#[inline(never)]
pub(crate) unsafe fn settle<A: Arch>(
    frame: *mut Slot,
    flags: Flags,
    entry: *const EntryHeader,
    scratch: *mut WarpScratch,
) {
    // SAFETY: the caller vouches for all of it.
    let (mut words, header, version) = unsafe { (Staged::<A>::new(frame), header_of(&*frame), (*entry).version) };
    if flags.has(Flags::IF_VERSION) {
        tell_version(&mut words, version);
    }
    if flags.has(Flags::MESSAGE_ID) {
        let start = tourbillon_shared::frame::payload_start(Flags(0));
        let word = |i: u32| words.word(start.wrapping_add(i));
        // SAFETY: as in `answered`.
        unsafe {
            let window = Window::of(arguments_of(scratch), header.kind, header.key);
            window.remember(&header, version, [word(0), word(1), word(2), word(3)]);
        }
    }
}
