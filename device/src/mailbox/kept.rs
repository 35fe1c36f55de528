//! A letter to the own shard that is taken next: nobody has to look for it.
//!
//! It is in the mailbox as any other. But when the handler of a lone letter has written it, the same warp takes it next, and knows where it
//! reads: so the letter is left in the stage as well, over the one whose handler has sent it, and is taken from there. That spares the way to the second-level cache and back.

use tourbillon_shared::block::{WarpScratch, row_note};
use tourbillon_shared::mutant;
use tourbillon_shared::slot::{Chunk, Slot};

use super::notes::scratch_of;
use super::outgoing::OutgoingOf;
use crate::arch::Arch;
use crate::frames::staged;
use crate::handler::LETTERS_AT;
use crate::lone::run::BASE;

/// Says where the shard takes its next letter, and that nothing is done yet: the one lane that `says` so, before a sync after which a lone
/// letter is run.
///
/// # Safety
/// The scratch is the warp's, and no other lane uses these words meanwhile.
#[inline(always)]
pub(crate) unsafe fn expect<A: Arch>(says: bool, scratch: *mut WarpScratch, next: u64) {
    let begun = Chunk { words: [next as u32, (next >> u32::BITS) as u32, 0, row_note::NONE] };
    // SAFETY: the caller vouches for the scratch, whose row begins with a chunk of these words.
    unsafe { A::store_staged_if(says, (&raw mut (*scratch).row).cast(), begun) };
}

/// Says where the letter is behind the one that was left in the stage, which is run now.
///
/// # Safety
/// As for [`expect`].
#[inline(always)]
pub(crate) unsafe fn expect_next(scratch: *mut WarpScratch) {
    // SAFETY: the caller vouches for the scratch.
    unsafe {
        let row = &raw mut (*scratch).row;
        ((*row).note, (*row).next_letter) = (row_note::NONE, (*row).next_letter.wrapping_add(1));
    }
}

/// Whether the lone letter that was run last has left the next one in its place.
///
/// # Safety
/// The scratch is the warp's, and the calling lane ran the letter.
#[inline(always)]
pub(crate) unsafe fn is_kept(scratch: *const WarpScratch) -> bool {
    // SAFETY: the caller vouches for the scratch.
    unsafe { (&raw const (*scratch).row.note).read() == row_note::KEPT }
}

/// Where the first slot of a letter of `slots` slots is left that goes to `position` of the mailbox of `shard`; null where it is not.
///
/// # Safety
/// `outgoing` is what its runner gave the handler that has written the letter.
#[inline(always)]
pub(super) unsafe fn place_of(outgoing: OutgoingOf, shard: u32, position: u64, slots: u64) -> *mut Chunk {
    let scratch = scratch_of(outgoing.desk);
    // Only who runs alone has lent a place in the stage, and has said what is taken next.
    let is_alone = outgoing.near.cast::<Slot>() == staged(scratch, LETTERS_AT);
    // SAFETY: the desk is that of the scratch, which is the calling lane's alone where it runs alone.
    unsafe {
        let is_next = (*scratch).row.next_letter == position || mutant!("kept_out_of_line");
        if is_alone && is_next && shard == (*scratch).desk.shard && slots == 1 {
            (*scratch).row.note = row_note::KEPT;
            // What was there was read when its handler was called.
            return staged(scratch, BASE).cast();
        }
    }
    core::ptr::null_mut()
}
