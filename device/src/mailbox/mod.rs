//! Letters: messages from actors to actors, by way of the mailboxes of their shards.
//!
//! The protocol is in [`tourbillon_shared::mailbox`].
//!
//! | module | what it does |
//! | --- | --- |
//! | `outgoing` | where a handler's letters are until they go |
//! | `letter` | from a handler to a mailbox or the overflow: writing them down, reserving room, sending |
//! | `kept` | a letter to the own shard that is taken next, at hand for its reader |
//! | `notes` | what sending leaves in the sender's scratch |
//! | `post` | what a handler says of a letter |
//! | `question` | letters that want an answer, and the answers |
//! | `deferred` | answers that come later than the handler of their message returns |
//! | `overflow` | from a shard's overflow to the mailboxes |
//! | `broadcast` | one message to every living actor of a kind: numbers, and how criers go from shard to shard |
//! | `reach` | a crier in its shard: who is there, and letters to those |
//! | `again` | letters by which an actor goes on, put back in line when there is no room for what it sends |
//!
//! A shard reads its mailbox as it reads the rings of the gates: it is one more of its rings, with a shape of its own and many
//! writers ([`Ring`](crate::turn::Ring)).

mod again;
mod broadcast;
mod deferred;
mod kept;
mod letter;
mod notes;
mod outgoing;
mod overflow;
mod post;
mod question;
mod reach;

pub(crate) use again::{end_going, put_back};
pub(crate) use broadcast::run as run_broadcast;
pub(crate) use deferred::store_answer;
pub(crate) use kept::{expect, expect_next, is_kept};
pub(crate) use letter::{hlc_delta_of, reserve, send, store};
pub(crate) use notes::{is_carried, is_handed_on, is_lent, note_handed_on};
pub(crate) use outgoing::{Near, OutgoingOf};
pub(crate) use overflow::{has_overflowed, settle_some};
pub(crate) use post::Post;
pub(crate) use question::{Received, answer, note_waiting, take_as_answer};

use tourbillon_shared::geometry::KernelArguments;
use tourbillon_shared::mailbox::{LETTER_BUFFER_BYTES, MailboxState, mailbox_bytes};
use tourbillon_shared::mutant;
use tourbillon_shared::slot::Slot;

use crate::arch::Arch;
use crate::block::Block;

/// The buffer of warp `in_grid`; 0 where the engine has no mailboxes.
pub(crate) fn buffer(arguments: &KernelArguments, in_grid: u32) -> u64 {
    if arguments.geometry.mailbox_log2 == 0 {
        return 0;
    }
    let before = u64::from(in_grid).wrapping_mul(LETTER_BUFFER_BYTES);
    arguments.memory.wrapping_add(arguments.layout.letters).wrapping_add(before)
}

/// The state of the mailbox of `shard`; the engine has mailboxes.
#[inline(always)]
pub(crate) fn state_of(arguments: &KernelArguments, shard: u32) -> *mut MailboxState {
    (arguments.memory.wrapping_add(arguments.layout.mailboxes) as *mut MailboxState).wrapping_add(shard as usize)
}

/// The ring of the mailbox of `shard`.
#[inline(always)]
pub(crate) fn ring_of(arguments: &KernelArguments, shard: u32) -> *mut Slot {
    let bytes = mailbox_bytes(arguments.geometry.mailbox_log2);
    let first = arguments.memory.wrapping_add(arguments.layout.mail_rings);
    first.wrapping_add(u64::from(shard).wrapping_mul(bytes)) as *mut Slot
}

/// The ring of the overflow of `shard`.
#[inline(always)]
pub(crate) fn overflow_of(arguments: &KernelArguments, shard: u32) -> *mut Slot {
    let bytes = mailbox_bytes(arguments.geometry.overflow_log2);
    let first = arguments.memory.wrapping_add(arguments.layout.overflows);
    first.wrapping_add(u64::from(shard).wrapping_mul(bytes)) as *mut Slot
}

/// The shard of an actor.
#[inline(always)]
pub(crate) fn shard_of(arguments: &KernelArguments, kind: u16, key: u64) -> u32 {
    use tourbillon_shared::partition::{hash, partition_of};
    let table = arguments.memory.wrapping_add(arguments.layout.table) as *const u16;
    // SAFETY: a partition is inside the table, which nobody writes while the kernel runs.
    unsafe { table.wrapping_add(partition_of(hash(kind, key))).read() }.into()
}

/// Where is told how far the block's shard `local` has taken its mailbox.
#[inline(always)]
pub(crate) fn head_of(block: &Block<'_>, local: u32) -> *mut u64 {
    let state = state_of(block.arguments, block.shard(local));
    // SAFETY: only the address is taken, inside the array of the mailboxes' states.
    unsafe { &raw mut (*state).head }
}

/// Counts letters that the block's shard `local` has taken. One lane calls it, under the turn.
#[inline(never)]
pub(crate) fn count_received<A: Arch>(block: &Block<'_>, local: u32, letters: u32) {
    let state = state_of(block.arguments, block.shard(local));
    // SAFETY: the state of a shard whose turn the warp holds.
    unsafe { A::count_pool(&raw mut (*state).received, letters.into()) };
}

/// Tells of slots of the mailbox of the block's shard `local` that were taken: their room is free again. One lane calls it, under the
/// turn, when all have read them.
#[inline(never)]
pub(crate) fn give_back<A: Arch>(block: &Block<'_>, local: u32, slots: u64) {
    let state = state_of(block.arguments, block.shard(local));
    if mutant!("mailbox_room_kept") {
        return;
    }
    // SAFETY: the state of a shard. Release pairs with the Acquire with which senders take room: what the ring held was read. The same for
    // those who take a ticket, and first: whoever has room from here takes his ticket behind this. Both are needed for that, the Acquire of
    // the room as well, though no test can show it: on a host's machines and in the models additions come in the order of the program.
    unsafe {
        A::tell_read_gpu(&raw mut (*state).tail);
        A::give_room_gpu(&raw mut (*state).room, slots);
    }
}

/// Takes room for a letter of `slots` slots in a mailbox, which is the shard's `own` whose turn the warp holds or another's; whether there was any.
///
/// # Safety
/// The state of a shard that exists.
#[inline(always)]
unsafe fn take_room<A: Arch>(state: *mut MailboxState, slots: u64, own: bool) -> bool {
    // SAFETY: the caller vouches for the state. Acquire pairs with the Release with which the reader gives room; the shard's own warps come
    // after what was read by the turn.
    unsafe {
        let room = &raw mut (*state).room;
        let before = if own { A::add_own_gpu(room, slots.wrapping_neg()) } else { A::take_room_gpu(room, slots) };
        if before as i64 >= slots as i64 {
            return true;
        }
        A::add_relaxed_gpu(room, slots);
    }
    false
}

/// Takes the ticket of a letter for which [`take_room`] has taken room: its position.
///
/// Its place was read before: either that was told of in front of this in the tail's order, by the reader ([`give_back`]) or by the ticket of
/// an answer, or the reader is this shard.
///
/// # Safety
/// As for [`take_room`].
#[inline(always)]
unsafe fn take_ticket<A: Arch>(state: *mut MailboxState, slots: u64, own: bool) -> u64 {
    // SAFETY: the caller vouches for the state. Acquire pairs with the Release in `give_back`, and with that of the tickets of answers.
    unsafe {
        let tail = &raw mut (*state).tail;
        if own { A::add_own_gpu(tail, slots) } else { A::take_place_gpu(tail, slots) }
    }
}
