//! The queue of dead letters; [`tourbillon_shared::dead_letter`] has its protocol.

use tourbillon_shared::dead_letter::{DEAD_LETTER_PAYLOAD_BYTES, DeadLetterRecord, DeadLetterState};
use tourbillon_shared::error::FailureCode;
use tourbillon_shared::frame::payload_start;
use tourbillon_shared::geometry::{KernelArguments, WarpScratch};
use tourbillon_shared::header::{Flags, ReturnAddress};
use tourbillon_shared::mutant;
use tourbillon_shared::options::deadline_start;
use tourbillon_shared::slot::{DATA_WORDS_PER_SLOT, Slot};
use tourbillon_shared::telemetry::Counter;

use super::{arguments_of, double, id_in};
use crate::arch::Arch;
use crate::call::{Staged, Words};
use crate::frames::header_of;
use crate::stats::Stats;

/// Bytes of payload in one word of a record.
const WORD_BYTES: u32 = 8;

#[inline(always)]
fn state_of(arguments: &KernelArguments) -> *mut DeadLetterState {
    arguments.memory.wrapping_add(arguments.layout.dead_letters) as *mut DeadLetterState
}

/// Puts a message, as it came, into the queue of dead letters; when that is full, the letter is dropped and counted.
///
/// # Safety
/// The frame is staged in `scratch` and this lane's; nothing was written over it.
#[cold]
#[inline(never)]
pub(crate) unsafe fn bury<A: Arch>(
    stats: Stats,
    frame: *const Slot,
    scratch: *const WarpScratch,
    code: FailureCode,
    event_hlc: u64,
) {
    // SAFETY: the caller vouches for frame and scratch.
    let (arguments, header) = unsafe { (arguments_of(scratch), header_of(&*frame)) };
    // SAFETY: the words are read only.
    let words = unsafe { Staged::<A>::new(frame.cast_mut()) };
    let state = state_of(arguments);
    // SAFETY: the queue's head. Acquire pairs with the fence in front of the addition in `look_at_taken`.
    let before = unsafe { A::take_room_gpu(&raw mut (*state).room, 1) };
    if (before as i64) < 1 && !mutant!("dead_letters_unbounded") {
        // SAFETY: as above.
        unsafe { A::add_relaxed_gpu(&raw mut (*state).room, 1) };
        stats.add::<A>(Counter::DeadLettersDropped, 1);
        return;
    }
    // SAFETY: as above. Acquire and Release: this lane has seen the room that those before it have, as in an outbox.
    let position = unsafe { A::take_ticket_gpu(&raw mut (*state).tail, 1) };
    let mask = 1u64.wrapping_shl(arguments.geometry.dead_letters_log2).wrapping_sub(1);
    let record = state.wrapping_add(1).cast::<DeadLetterRecord>().wrapping_add((position & mask) as usize);
    let flags = header.flags;
    let deadline = if flags.has(Flags::DEADLINE) { double(&words, deadline_start(flags)) } else { 0 };
    let [a, b, c, d] = if flags.has(Flags::MESSAGE_ID) { id_in(&words, flags) } else { [0; 4] };
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let lane = u32::from(ReturnAddress::decode(header.hint).lane);
    let head = [
        event_hlc,
        header.key,
        // As they stand in the frame.
        double(&words, 2),
        pair(code as u32, lane),
        deadline,
        pair(a, b),
        pair(c, d),
    ];
    let to = record.cast::<u64>();
    let mut i = 0;
    while i < head.len() {
        // SAFETY: there is room for the record, which is this lane's; `i` is below the array's length.
        unsafe { A::store_relaxed_gpu(to.wrapping_add(1).wrapping_add(i), *head.get_unchecked(i)) };
        i = i.wrapping_add(1);
    }
    // A frame that its gate refused may say any length: what is kept lies inside its span.
    let (start, end) = (payload_start(flags), flags.span().wrapping_mul(DATA_WORDS_PER_SLOT as u32));
    let length = u32::from(header.length);
    let word_at = |byte: u32| {
        let at = start.wrapping_add(byte / 4);
        let left = length.saturating_sub(byte);
        if at >= end || left == 0 {
            0
        } else if left < 4 {
            // What stands behind the payload is not told.
            words.word(at) & 1u32.wrapping_shl(left.wrapping_mul(8)).wrapping_sub(1)
        } else {
            words.word(at)
        }
    };
    let mut byte = 0;
    while byte < DEAD_LETTER_PAYLOAD_BYTES as u32 {
        let word = pair(word_at(byte), word_at(byte.wrapping_add(4)));
        let at = head.len().wrapping_add(1).wrapping_add((byte / WORD_BYTES) as usize);
        // SAFETY: as above: the payload is the end of the record.
        unsafe { A::store_relaxed_gpu(to.wrapping_add(at), word) };
        byte = byte.wrapping_add(WORD_BYTES);
    }
    // SAFETY: as above. Release pairs with the host's fence between its two copies.
    unsafe { A::store_release_gpu(&raw mut (*record).sequence, position.wrapping_add(1)) };
    stats.add::<A>(Counter::DeadLetters, 1);
}

/// The control warp's look at what the host has taken: gives that room back.
///
/// # Safety
/// The arguments are those of the launch; one lane of the control warp calls this, and nobody else.
#[inline(never)]
pub(crate) unsafe fn look_at_taken<A: Arch>(arguments: &KernelArguments) {
    let state = state_of(arguments);
    // SAFETY: the queue's head; this lane alone writes `seen`.
    unsafe {
        let taken = A::load_relaxed_gpu(&raw const (*state).taken);
        let seen = A::load_relaxed_gpu(&raw const (*state).seen);
        if taken != seen && !mutant!("dead_letters_keep_room") {
            // Makes an acquire of the load above and a release of the addition below: what the host has read may be overwritten.
            A::fence_acquire_sys();
            A::store_relaxed_gpu(&raw mut (*state).seen, taken);
            A::add_relaxed_gpu(&raw mut (*state).room, taken.wrapping_sub(seen));
        }
    }
}

const _: () = {
    // The words of the head in `bury`, behind the sequence.
    use core::mem::offset_of;
    assert!(offset_of!(DeadLetterRecord, hlc) == 8 && offset_of!(DeadLetterRecord, key) == 16);
    assert!(offset_of!(DeadLetterRecord, reason) == 32 && offset_of!(DeadLetterRecord, lane) == 36);
    assert!(offset_of!(DeadLetterRecord, deadline) == 40 && offset_of!(DeadLetterRecord, message_id) == 48);
};
