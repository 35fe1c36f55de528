//! Letters: messages from actors to actors, by way of the mailboxes of their shards.
//!
//! The protocol is in [`tourbillon_shared::mailbox`].
//!
//! | module | what it does |
//! | --- | --- |
//! | `letter` | from a handler to a mailbox or the overflow: the buffer, reserving room, sending |
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
mod letter;
mod notes;
mod overflow;
mod post;
mod question;
mod reach;

pub(crate) use again::{end_going, put_back};
pub(crate) use broadcast::run as run_broadcast;
pub(crate) use deferred::store_answer;
pub(crate) use letter::{Near, OutgoingOf, hlc_delta_of, reserve, send, store};
pub(crate) use notes::{is_carried, is_handed_on, is_lent, note_handed_on};
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
    unsafe { A::add_pool(&raw mut (*state).received, letters.into()) };
}

/// Tells of slots of the mailbox of the block's shard `local` that were taken: their room is free again. One lane calls it, under the
/// turn, when all have read them.
#[inline(never)]
pub(crate) fn give_back<A: Arch>(block: &Block<'_>, local: u32, slots: u64) {
    let state = state_of(block.arguments, block.shard(local));
    if mutant!("mailbox_room_kept") {
        return;
    }
    // SAFETY: the state of a shard. Release pairs with the Acquire with which senders take room: what the ring held was read.
    unsafe { A::give_room_gpu(&raw mut (*state).room, slots) };
}
