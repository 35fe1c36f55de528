//! Epochs: when memory that was taken away may be used again, though others may still read it.
//!
//! After Fraser, *Practical Lock-Freedom* (University of Cambridge, technical report UCAM-CL-TR-579, 2004), section 5.2.3, in the
//! shape that the crate `crossbeam-epoch` gives it. The words are in device memory, and in this version serve published blocks
//! ([`crate::published`]).
//!
//! # Protocol
//! There is one *epoch*, a number that grows. A warp *announces* the epoch that it finds before it runs handlers that may read, and
//! takes that back when all of them have returned. What is taken away is marked as gone, and behind a fence given the epoch of that
//! moment. The epoch goes from `e` to `e + 1` when every announcement there is says `e`. What was taken away in epoch `e` may be used
//! again in epoch `e + 2`.
//!
//! # Why that is enough
//! A reader announces, fences, and looks whether the memory is gone; who takes it away marks it, fences, and reads the epoch `e`. Both
//! fences are sequentially consistent, so one comes first. If it is that of the one who takes away, the reader sees the mark. If it is
//! the reader's, the announcement, of `e` or earlier, stands before the epoch is read, so before it becomes `e + 1`; and whoever
//! moves it from `e + 1` to `e + 2` fences between finding `e + 1` and looking at the announcements, so that the fence comes
//! behind both others: this one is seen, and is not `e + 1`. So the epoch stays below `e + 2` until the reader takes it back,
//! with Release, which the look at the announcements acquires, and hands on with the epoch.
//!
//! A warp that is idle has announced nothing, and holds up nobody; nor does a lane that a panic has cost, for the announcement is its
//! warp's, and is taken back by a lane that runs no handlers. A handler that does not return holds up the epoch for ever.
//!
//! Everything survives a relaunch; announcements do not, for nothing is read between two launches.

use bytemuck::{Pod, Zeroable};

use crate::mutant;

/// Epochs between taking away and using again. One is not enough: a reader may have announced the epoch before the one in which
/// something is taken away, and still find it.
pub const GRACE_EPOCHS: u64 = 2;

/// In device memory, in front of a u64 for each warp: its [`announcement`], 0 while it reads nothing.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct EpochState {
    /// The epoch. It only grows.
    pub epoch: u64,
    /// Zero.
    pub reserved: [u64; 15],
}

/// Bytes of the epoch and the announcements of so many warps.
pub const fn epoch_bytes(warps: u64) -> u64 {
    size_of::<EpochState>() as u64 + 8 * warps
}

/// What a warp announces that reads in `epoch`: never 0.
#[inline(always)]
pub const fn announcement(epoch: u64) -> u64 {
    epoch.wrapping_shl(1) | 1
}

/// Whether what a warp announces keeps `epoch` from ending.
#[inline(always)]
pub fn holds_up(announced: u64, epoch: u64) -> bool {
    announced != 0 && announced != announcement(epoch) && !mutant!("epoch_readers_overlooked")
}

/// Whether what was taken away in epoch `gone` may be used again in `epoch`.
#[inline(always)]
pub fn is_over(gone: u64, epoch: u64) -> bool {
    let grace = if mutant!("epoch_grace_of_one") { 1 } else { GRACE_EPOCHS };
    epoch.wrapping_sub(gone) as i64 >= grace as i64
}

/// The words of the protocol: device memory, or that of a model.
pub trait EpochWords {
    /// Loads the epoch, with Acquire, which pairs with [`advance`](Self::advance).
    fn epoch(&self) -> u64;
    /// Moves the epoch on from `epoch`, unless somebody else has: compare-and-swap, with Acquire and Release.
    fn advance(&self, epoch: u64);
    /// Loads what warp `warp` announces. The fence behind it makes an Acquire of it, which pairs with [`announce`](Self::announce).
    fn announced(&self, warp: u32) -> u64;
    /// Stores what warp `warp` announces, with Release.
    fn announce(&self, warp: u32, word: u64);
    /// A sequentially consistent fence.
    fn fence(&self);
}

/// Announces that warp `warp` reads: what it finds from now on stays until [`leave`].
#[inline(always)]
pub fn enter(words: &impl EpochWords, warp: u32) {
    let epoch = words.epoch();
    words.announce(warp, if mutant!("epoch_not_announced") { 0 } else { announcement(epoch) });
    words.fence();
}

/// Warp `warp` has read.
#[inline(always)]
pub fn leave(words: &impl EpochWords, warp: u32) {
    if !mutant!("epoch_never_left") {
        words.announce(warp, 0);
    }
}

/// The epoch of what was marked as gone before.
#[inline(always)]
pub fn epoch_of_the_gone(words: &impl EpochWords) -> u64 {
    words.fence();
    words.epoch()
}

/// Whether one of the warps `first`, `first + step` and so on, below `warps`, keeps `epoch`, which the caller has loaded, from ending. When
/// none of all does, it may [`advance`](EpochWords::advance).
#[inline(always)]
pub fn is_held_up(words: &impl EpochWords, epoch: u64, first: u32, step: u32, warps: u32) -> bool {
    words.fence();
    let mut held = false;
    let mut warp = first;
    while warp < warps {
        held |= holds_up(words.announced(warp), epoch);
        warp = warp.wrapping_add(step);
    }
    words.fence();
    held
}

const _: () = assert!(size_of::<EpochState>() == 128);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_readers_of_other_epochs_hold_up() {
        assert!(!holds_up(0, 0) && !holds_up(0, 9));
        assert!(!holds_up(announcement(0), 0) && !holds_up(announcement(9), 9));
        assert!(holds_up(announcement(8), 9) && holds_up(announcement(10), 9) && holds_up(announcement(0), 1));
    }

    #[test]
    fn two_epochs_later_it_is_over() {
        assert!(!is_over(7, 7) && !is_over(7, 8) && is_over(7, 9) && is_over(7, 100));
        // One that was read before another moved it on is not over.
        assert!(!is_over(8, 7));
    }
}
