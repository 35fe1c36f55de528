//! What sending letters leaves in the sender's scratch: that nobody is to answer its message.

use core::mem::offset_of;

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::mailbox::Desk;
use tourbillon_shared::mutant;
use tourbillon_shared::slot::Slot;

/// In a lane's word of what runs: its message was handed on, so nobody is to answer it.
const FORWARDED: u32 = 1 << 31;

/// Notes that the duty to answer the staged frame was handed on: nothing is sent in its place, and [`is_handed_on`] says so to whoever
/// runs it.
///
/// # Safety
/// The desk is that of the warp, `lane` the calling lane, which runs the staged frame of `span` slots at `frame`.
#[inline(always)]
pub(crate) unsafe fn note_handed_on(desk: *const Desk, lane: u32, frame: *const Slot, span: u32) {
    let scratch = desk.cast_mut().cast::<u8>().wrapping_sub(offset_of!(WarpScratch, desk)).cast::<WarpScratch>();
    // SAFETY: the desk is that of a scratch, in whose stage the frame lies; the frame's slots are this lane's, as is its word.
    unsafe {
        let stage = (&raw const (*scratch).stage).cast::<Slot>();
        let first = frame.addr().wrapping_sub(stage.addr()) / size_of::<Slot>();
        let mut slot = 0;
        while slot < span as usize && !mutant!("handed_on_answered") {
            (&raw mut (*scratch).target).cast::<u64>().wrapping_add(first.wrapping_add(slot)).write(0);
            slot = slot.wrapping_add(1);
        }
        let running = (&raw mut (*scratch).running).cast::<u32>().wrapping_add(lane as usize);
        running.write(running.read() | FORWARDED);
    }
}

/// Whether the message that the calling lane has run was handed on.
///
/// # Safety
/// `scratch` is the warp's, `lane` the calling lane, whose handler has returned.
#[inline(always)]
pub(crate) unsafe fn is_handed_on(scratch: *const WarpScratch, lane: u32) -> bool {
    // SAFETY: the word is this lane's.
    unsafe { (&raw const (*scratch).running).cast::<u32>().wrapping_add(lane as usize).read() & FORWARDED != 0 }
}
