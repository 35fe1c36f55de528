//! Letters by which an actor goes on ([`Context::go_on`](crate::Context::go_on)): when there is no room for what the handler of one sends,
//! nobody else would wake the actor again, so the letter is put back in line.
//!
//! # They leave room for what they wait for
//! Such a letter stays in its shard's mailbox until its actor has done its work, so it must not take the room of letters that this work
//! sends. It goes to the mailbox alone, never to an overflow, and no more of them than [`slots_for_going_on`]: whoever would begin one
//! more fails with `MailboxFull`. Its room is reserved before that of what the same message sends besides, which has an overflow to go to. So an overflow has letters only that do not come back, mailboxes always have room for the longest of
//! those again, overflows become empty, and then somebody's handler has room for all that it sends.
//!
//! # Why who goes on always has room
//! The letter that runs is staged: its slot was read, and is counted as taken until the shard tells of its window. The letter that comes
//! after it, or it itself when it is put back, takes that slot's room, by a subtraction that asks nothing; for a moment the room may
//! be below zero, and the window's slots bring it back. So the last ticket is at most as many slots past what was told as the
//! window has slots of such letters, and all slots of the window were read before the first handler ran: what is overwritten was
//! read. Whoever else gets a ticket behind this one knows of that, for this ticket releases, and those of other shards acquire. Frames of
//! a window whose runners have all died are written back to the window's last slots, in front of which stand as many as were done, this
//! one among them: they do not meet.
//!
//! A letter that waited for its actor to come from a store runs from a copy, and its slot was given back long ago. It has to find room
//! as any other.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::geometry::KernelArguments;
use tourbillon_shared::header::{Arrival, Flags, Header};
use tourbillon_shared::mailbox::{
    Desk, LETTER_FATE, LETTER_KIND, LETTER_SHARD, LetterHint, MailboxState, letter_fate, slots_for_going_on,
};
use tourbillon_shared::mutant;
use tourbillon_shared::slot::{CHUNKS_PER_SLOT, Chunk, DATA_WORDS_PER_CHUNK, Slot};
use tourbillon_shared::telemetry::Counter;
use tourbillon_shared::virtual_actors::errand;

use super::letter::hlc_delta_of;
use super::notes::scratch_of;
use super::outgoing::Outgoing;
use super::{ring_of, state_of};
use crate::arch::Arch;
use crate::stats::Stats;

/// What stands in [`LETTER_KIND`] of a letter by which its actor goes on: no kind.
pub(super) const GOING_ON: u32 = u32::MAX - 1;
/// Slots of a letter by which an actor goes on.
const SLOTS: u64 = 1;
/// Data word of a header with the low half of when a letter was sent.
const ARRIVAL_LOW: usize = 6;
/// That with the high half.
const ARRIVAL_HIGH: usize = 7;

/// Takes room for one slot of a mailbox, of the letter that runs from there or else of what is free; whether there was any.
///
/// # Safety
/// `own` is the state of the mailbox of the shard whose turn the warp of `scratch` holds, which runs such a letter if it `carries`.
#[inline(always)]
unsafe fn take_room<A: Arch>(scratch: *const WarpScratch, own: *mut MailboxState, carries: bool) -> bool {
    // SAFETY: the caller vouches for both.
    unsafe {
        if carries && (*scratch).errand == errand::NONE {
            A::add_relaxed_gpu(&raw mut (*own).room, SLOTS.wrapping_neg());
            return true;
        }
        // Acquire pairs with the Release with which the reader gives room.
        let before = A::take_room_gpu(&raw mut (*own).room, SLOTS);
        if before as i64 >= SLOTS as i64 {
            return true;
        }
        A::add_relaxed_gpu(&raw mut (*own).room, SLOTS);
        false
    }
}

/// Reserves room for those of the first `count` letters by which the actor of the message `header` goes on; whether there was any for all of
/// them, and else nothing is reserved. One of them takes the place of the letter that runs, if that is such a one.
///
/// # Safety
/// `desk` is that of the warp, `own` the state of its shard's mailbox, `at` gives the letters of the calling lane's handler.
#[inline(never)]
pub(super) unsafe fn reserve_going<A: Arch>(
    desk: *const Desk,
    arguments: &KernelArguments,
    own: *mut MailboxState,
    header: &Header,
    count: u32,
    at: &impl Fn(u32) -> Outgoing,
) -> bool {
    let asks = header.flags.has(Flags::SENDER);
    let mut carries = LetterHint::decode(header.hint).is_some_and(|hint| hint.goes_on(asks));
    let most = u64::from(slots_for_going_on(arguments.geometry.mailbox_shape()));
    let mut index = 0;
    while index < count {
        let letter = at(index);
        // SAFETY: the caller vouches for the letter, for desk and state.
        unsafe {
            if letter.word(LETTER_KIND) == GOING_ON {
                let is_new = !core::mem::replace(&mut carries, false);
                let is_one_too_many =
                    is_new && A::add_pool(&raw mut (*own).going, 1) >= most && !mutant!("going_on_unbounded");
                if is_one_too_many || !take_room::<A>(scratch_of(desk), own, !is_new) {
                    if is_new {
                        A::add_pool(&raw mut (*own).going, 1u64.wrapping_neg());
                    }
                    give_up_going::<A>(own, index, at);
                    A::count_pool(&raw mut (*own).refused, 1);
                    return false;
                }
                letter.set(LETTER_SHARD, (*desk).shard);
                letter.set(LETTER_FATE, if is_new { letter_fate::DIRECT } else { letter_fate::CARRIED });
            }
        }
        index = index.wrapping_add(1);
    }
    true
}

/// Takes back what was reserved for those of the first `count` letters by which their actor goes on.
///
/// # Safety
/// As for [`reserve_going`], which has reserved it.
#[cold]
#[inline(always)]
pub(super) unsafe fn give_up_going<A: Arch>(own: *mut MailboxState, count: u32, at: &impl Fn(u32) -> Outgoing) {
    let mut index = 0;
    while index < count {
        let letter = at(index);
        // SAFETY: the caller vouches for letter and state.
        unsafe {
            if letter.word(LETTER_KIND) == GOING_ON {
                A::add_relaxed_gpu(&raw mut (*own).room, SLOTS);
                if letter.word(LETTER_FATE) == letter_fate::DIRECT {
                    A::add_pool(&raw mut (*own).going, 1u64.wrapping_neg());
                }
            }
        }
        index = index.wrapping_add(1);
    }
}

/// Counts that a letter by which an actor went on has none in its place.
///
/// # Safety
/// `scratch` is the warp's, which holds the turn of the letter's shard.
#[cold]
#[inline(never)]
pub(crate) unsafe fn end_going<A: Arch>(scratch: *const WarpScratch) {
    if mutant!("going_on_never_ends") {
        return;
    }
    // SAFETY: the caller vouches for the scratch; the arguments live as long as the kernel runs.
    unsafe {
        let arguments = &*((*scratch).mail.arguments as *const KernelArguments);
        A::add_pool(&raw mut (*state_of(arguments, (*scratch).desk.shard)).going, 1u64.wrapping_neg());
    }
}

/// Puts a letter of one slot back in line in the mailbox that it came from; whether it could, which it always can unless it waited for its
/// actor.
///
/// # Safety
/// The letter is staged at `frame` as it came, and the calling lane's; `scratch` is the warp's, which holds the turn of the letter's
/// shard; the mailbox is that shard's.
#[cold]
#[inline(never)]
pub(crate) unsafe fn put_back<A: Arch>(
    stats: Stats,
    frame: *const Slot,
    event_hlc: u64,
    scratch: *const WarpScratch,
) -> bool {
    if mutant!("go_on_lost_without_room") {
        return false;
    }
    // SAFETY: the caller vouches for frame and scratch; the arguments live as long as the kernel runs.
    unsafe {
        let arguments = &*((*scratch).mail.arguments as *const KernelArguments);
        let shard = (*scratch).desk.shard;
        let state = state_of(arguments, shard);
        if !take_room::<A>(scratch, state, true) {
            return false;
        }
        let position = A::take_ticket_gpu(&raw mut (*state).tail, SLOTS);
        let shape = arguments.geometry.mailbox_shape();
        let to = ring_of(arguments, shard).wrapping_add(shape.index(position) as usize).cast::<Chunk>();
        let (from, lap) = (frame.cast::<Chunk>(), shape.lap(position));
        let hlc_delta = hlc_delta_of::<A>(arguments, event_hlc);
        let arrival = Arrival { device_ns: A::now_ns() as u32, hlc_delta }.encode();
        let (mut chunk, mut at) = (0, 0usize);
        while chunk < CHUNKS_PER_SLOT {
            let [a, b, c, _] = from.wrapping_add(chunk).read().words;
            let word = |index: usize, word: u32| match index {
                ARRIVAL_LOW => arrival as u32,
                ARRIVAL_HIGH => (arrival >> 32) as u32,
                _ => word,
            };
            let data = [word(at, a), word(at.wrapping_add(1), b), word(at.wrapping_add(2), c)];
            A::store_chunk_gpu(to.wrapping_add(chunk), Chunk::new(data, lap));
            at = at.wrapping_add(DATA_WORDS_PER_CHUNK);
            chunk = chunk.wrapping_add(1);
        }
        A::count_pool(&raw mut (*state).sent, 1);
    }
    stats.add::<A>(Counter::Letters, 1);
    stats.add::<A>(Counter::LettersPutBack, 1);
    true
}

const _: () = assert!(DATA_WORDS_PER_CHUNK == 3);
