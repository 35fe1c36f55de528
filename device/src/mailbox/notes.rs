//! What sending letters leaves in the sender's scratch: that nobody is to answer its message, or whose room was taken.

use core::mem::offset_of;

use tourbillon_shared::block::{WINDOW_SLOTS, WarpScratch};
use tourbillon_shared::mailbox::Desk;
use tourbillon_shared::mutant;
use tourbillon_shared::slot::Slot;

/// In a lane's word of what runs: its message was handed on, so nobody is to answer it.
const FORWARDED: u32 = 1 << 31;
/// In the same word: its actor goes on by another letter, which has taken over the room of this one.
const CARRIED: u32 = 1 << 30;
/// In the same word: what its handler asks has taken the room of the event that it was run for.
const LENT: u32 = 1 << 29;

/// Notes that the duty to answer the staged frame was handed on: nothing is sent in its place, and [`is_handed_on`] says so to whoever
/// runs it.
///
/// # Safety
/// The desk is that of the warp, `lane` the calling lane, which runs the staged frame of `span` slots at `frame`.
#[inline(always)]
pub(crate) unsafe fn note_handed_on(desk: *const Desk, lane: u32, frame: *const Slot, span: u32) {
    let scratch = scratch_of(desk);
    // SAFETY: the desk is that of a scratch, in whose stage the frame lies; the frame's slots are this lane's, as is its word.
    unsafe {
        let stage = (&raw const (*scratch).stage).cast::<Slot>();
        let first = frame.addr().wrapping_sub(stage.addr()) / size_of::<Slot>();
        let mut slot = 0;
        while slot < span as usize && !mutant!("handed_on_answered") {
            (&raw mut (*scratch).target).cast::<u64>().wrapping_add(first.wrapping_add(slot)).write(0);
            slot = slot.wrapping_add(1);
        }
        note(desk, lane, FORWARDED);
    }
}

/// The scratch that a desk is a part of.
#[inline(always)]
pub(super) fn scratch_of(desk: *const Desk) -> *mut WarpScratch {
    desk.cast_mut().cast::<u8>().wrapping_sub(offset_of!(WarpScratch, desk)).cast()
}

/// Notes in the calling lane's word of what runs.
///
/// # Safety
/// The desk is that of the warp, `lane` the calling lane.
#[inline(always)]
unsafe fn note(desk: *const Desk, lane: u32, what: u32) {
    let scratch = scratch_of(desk);
    // SAFETY: the desk is that of a scratch, in which the word is this lane's.
    unsafe {
        let running = (&raw mut (*scratch).running).cast::<u32>().wrapping_add(lane as usize);
        running.write(running.read() | what);
    }
}

/// Notes that the letter which the calling lane runs has another in its place.
///
/// # Safety
/// The desk is that of the warp, `lane` the calling lane.
#[inline(always)]
pub(super) unsafe fn note_carried(desk: *const Desk, lane: u32) {
    // SAFETY: the caller vouches for both.
    unsafe { note(desk, lane, CARRIED) };
}

/// Notes that what the handler of an event has asked took the event's room.
///
/// # Safety
/// The desk is that of the warp, `lane` the calling lane.
#[inline(always)]
pub(super) unsafe fn note_lent(desk: *const Desk, lane: u32) {
    // SAFETY: the caller vouches for both.
    unsafe { note(desk, lane, LENT) };
}

/// Whether this was noted of what the calling lane runs.
///
/// # Safety
/// `scratch` is the warp's, `lane` the calling lane, whose handler has returned.
#[inline(always)]
unsafe fn is_noted(scratch: *const WarpScratch, lane: u32, what: u32) -> bool {
    // SAFETY: the word is this lane's.
    unsafe { (&raw const (*scratch).running).cast::<u32>().wrapping_add(lane as usize).read() & what != 0 }
}

/// Whether the message that the calling lane has run was handed on.
///
/// # Safety
/// `scratch` is the warp's, `lane` the calling lane, whose handler has returned.
#[inline(always)]
pub(crate) unsafe fn is_handed_on(scratch: *const WarpScratch, lane: u32) -> bool {
    // SAFETY: the caller vouches for both.
    unsafe { is_noted(scratch, lane, FORWARDED) }
}

/// Whether the letter that the calling lane has run has another in its place.
///
/// # Safety
/// As for [`is_handed_on`].
#[inline(always)]
pub(crate) unsafe fn is_carried(scratch: *const WarpScratch, lane: u32) -> bool {
    // SAFETY: as there.
    unsafe { is_noted(scratch, lane, CARRIED) }
}

/// Whether what the handler of an event has asked took the event's room.
///
/// # Safety
/// As for [`is_handed_on`].
#[inline(always)]
pub(crate) unsafe fn is_lent(scratch: *const WarpScratch, lane: u32) -> bool {
    // SAFETY: as there.
    unsafe { is_noted(scratch, lane, LENT) }
}

// Each has a bit of its own, above the number of the frame, which is one of a window.
const _: () = {
    let all = FORWARDED | CARRIED | LENT;
    assert!(FORWARDED.count_ones() + CARRIED.count_ones() + LENT.count_ones() == all.count_ones());
    assert!(all & (2 * WINDOW_SLOTS as u32 - 1) == 0);
};
