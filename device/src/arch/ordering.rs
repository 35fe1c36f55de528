//! The orderings of the operations between host, threads and warps, in one place.
//!
//! The machines of a host take them from here, and so do the models that loom explores. On a GPU the same orderings stand in the
//! assembly of `nvptx`, and a reading of the emitted PTX checks them. The functions are constant unless a fault is seeded.

use core::sync::atomic::Ordering;

use tourbillon_shared::mutant;

/// Store of a chunk's tag, after its words. Pairs with [`tag_load`].
#[inline(always)]
pub fn tag_store() -> Ordering {
    if mutant!("tag_store_relaxed") { Ordering::Relaxed } else { Ordering::Release }
}

/// Load of a chunk's tag, before its words. Pairs with [`tag_store`].
#[inline(always)]
pub fn tag_load() -> Ordering {
    if mutant!("tag_load_relaxed") { Ordering::Relaxed } else { Ordering::Acquire }
}

/// Fence between the load of a block's head in an arena and the loads of its payload. Pairs with [`tag_store`] of the head.
/// The same fence stands between the load of an outbox's credit and the addition to its room. Pairs with [`credit_store`] in front and [`room_take`] behind.
#[inline(always)]
pub fn arena_acquire() -> Option<Ordering> {
    if mutant!("arena_acquire_dropped") { None } else { Some(Ordering::AcqRel) }
}

/// Fence between the stores of a reply's payload in an arena and the store of its frame. Pairs with [`tag_load`] of the frame.
#[inline(always)]
pub fn arena_release() -> Option<Ordering> {
    if mutant!("arena_release_dropped") { None } else { Some(Ordering::AcqRel) }
}

/// Compare-and-swap that takes a turn or a gate's lock. Pairs with [`turn_give`].
#[inline(always)]
pub fn turn_take() -> Ordering {
    if mutant!("turn_take_relaxed") { Ordering::Relaxed } else { Ordering::Acquire }
}

/// Fence after a gate's lock that was taken relaxed. Pairs with [`turn_give`].
#[inline(always)]
pub fn turn_fence() -> Option<Ordering> {
    if mutant!("turn_fence_dropped") { None } else { Some(Ordering::Acquire) }
}

/// Store that gives a turn or a gate's lock back. Pairs with [`turn_take`].
#[inline(always)]
pub fn turn_give() -> Ordering {
    if mutant!("turn_give_relaxed") { Ordering::Relaxed } else { Ordering::Release }
}

/// Subtraction by each of several that end: the last one sees what all have done. Pairs with itself.
#[inline(always)]
pub fn countdown() -> Ordering {
    if mutant!("countdown_relaxed") { Ordering::Relaxed } else { Ordering::AcqRel }
}

/// Store of the position up to which a ring may be overwritten, after its slots were read. Pairs with [`freed_load`].
/// The same store publishes the version of a block, after its pages were written, which pairs with [`freed_load`] too, and says that a warp
/// no longer reads blocks, which pairs with [`epoch_fence`] behind a relaxed load.
#[inline(always)]
pub fn freed_store() -> Ordering {
    if mutant!("freed_store_relaxed") { Ordering::Relaxed } else { Ordering::Release }
}

/// Load of the position up to which a ring may be overwritten, before its slots are written. Pairs with [`freed_store`].
/// The same load is that of a block's version, before its pages are read, and of the epoch, which pairs with [`epoch_advance`].
#[inline(always)]
pub fn freed_load() -> Ordering {
    Ordering::Acquire
}

/// Subtraction from the room of an outbox or a mailbox, before its slots are written. Pairs with [`arena_acquire`], the fence of the
/// control warp in front of a relaxed addition, which makes a release of it, and with [`room_give`].
#[inline(always)]
pub fn room_take() -> Ordering {
    if mutant!("outbox_room_take_relaxed") { Ordering::Relaxed } else { Ordering::Acquire }
}

/// Addition to the room of a mailbox, after its slots were read. Pairs with [`room_take`].
#[inline(always)]
pub fn room_give() -> Ordering {
    if mutant!("mailbox_room_give_relaxed") { Ordering::Relaxed } else { Ordering::Release }
}

/// Addition of nothing to the tail of a mailbox, after its slots were read and before [`room_give`]. Pairs with [`place_take`].
#[inline(always)]
pub fn read_tell() -> Ordering {
    if mutant!("mailbox_read_told_relaxed") { Ordering::Relaxed } else { Ordering::Release }
}

/// Addition to the tail of a mailbox for a letter whose room was taken. Pairs with [`read_tell`] and [`ticket_take`].
#[inline(always)]
pub fn place_take() -> Ordering {
    if mutant!("mailbox_place_relaxed") { Ordering::Relaxed } else { Ordering::Acquire }
}

/// Addition to the tail of an outbox, or of a mailbox for what has other room than letters: who gets a place has seen the room of all who got one before. Pairs with itself.
#[inline(always)]
pub fn ticket_take() -> Ordering {
    if mutant!("outbox_ticket_relaxed") { Ordering::Relaxed } else { Ordering::AcqRel }
}

/// Store of an outbox's credit by its reader, after the slots were read. Pairs with [`arena_acquire`], a fence behind a relaxed load.
#[inline(always)]
pub fn credit_store() -> Ordering {
    if mutant!("outbox_credit_relaxed") { Ordering::Relaxed } else { Ordering::Release }
}

/// Compare-and-swap that moves the epoch of published blocks on. Pairs with [`freed_load`] of the epoch, and with itself.
#[inline(always)]
pub fn epoch_advance() -> Ordering {
    // The fence in front of it would be enough; a look at the epoch alone is not always behind one.
    Ordering::AcqRel
}

/// Fence of readers of published blocks, of who takes them back, and of who moves the epoch on. Pairs with itself.
#[inline(always)]
pub fn epoch_fence() -> Option<Ordering> {
    if mutant!("epoch_fence_dropped") { None } else { Some(Ordering::SeqCst) }
}

/// Store of the epoch that a warp, or the whole kernel, obeys, after everything it did before. Pairs with [`obeyed_load`].
#[inline(always)]
pub fn obeyed_store() -> Ordering {
    if mutant!("obeyed_store_relaxed") { Ordering::Relaxed } else { Ordering::Release }
}

/// Load of the epoch that a warp, or the whole kernel, obeys. Pairs with [`obeyed_store`].
#[inline(always)]
pub fn obeyed_load() -> Ordering {
    Ordering::Acquire
}
