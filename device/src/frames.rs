//! Splitting a window of ready slots into frames.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::header::{Flags, HEADER_WORDS, Header};
use tourbillon_shared::slot::{DATA_WORDS_PER_CHUNK, Slot};
use tourbillon_shared::virtual_actors::{SPACE_ORDERS, space_of};

use crate::arch::Arch;
use crate::warp::Warp;

/// Whole frames at the beginning of a window.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    /// How many; at most one for each lane.
    pub count: u32,
    /// Slots that they take together.
    pub slots: u32,
    /// First staged slot of this lane's frame; lane of rank `f` has frame `f`.
    pub start: u32,
    /// When `count` is 0: slots that the first frame needs.
    pub needs: u32,
}

impl Frames {
    /// One frame of one slot, where only rank 0 needs to know where.
    pub const ONE: Self = Self { count: 1, slots: 1, start: 0, needs: 1 };
}

/// The staged slot `index`.
#[inline(always)]
pub(crate) fn staged(scratch: *mut WarpScratch, index: u32) -> *mut Slot {
    // SAFETY: only an address; callers stay below the stage's length.
    unsafe { (&raw mut (*scratch).stage).cast::<Slot>().wrapping_add(index as usize) }
}

/// Address of data word `word` of the staged slot `index`.
#[inline(always)]
pub(crate) fn staged_word(scratch: *mut WarpScratch, index: u32, word: u32) -> *mut u32 {
    let chunk = word / DATA_WORDS_PER_CHUNK as u32;
    staged(scratch, index).cast::<u32>().wrapping_add(word.wrapping_add(chunk) as usize)
}

/// The flags of the frame that begins at the staged slot `index`.
///
/// # Safety
/// The slot is staged and nobody writes it meanwhile.
#[inline(always)]
pub unsafe fn staged_flags(scratch: *mut WarpScratch, index: u32) -> Flags {
    // SAFETY: the caller vouches for the slot.
    Flags((unsafe { staged_word(scratch, index, 3).read() } >> 16) as u16)
}

/// The header of the frame that begins at the staged slot `index`.
///
/// # Safety
/// As for [`staged_flags`].
#[inline(always)]
pub unsafe fn staged_header(scratch: *mut WarpScratch, index: u32) -> Header {
    let mut words = [0; HEADER_WORDS];
    let mut i = 0;
    while i < HEADER_WORDS {
        // SAFETY: the caller vouches for the slot; `i` is below the array's length.
        unsafe { *words.get_unchecked_mut(i) = staged_word(scratch, index, i as u32).read() };
        i += 1;
    }
    Header::decode(&words)
}

/// The header of the frame that begins with `slot`.
#[inline(always)]
pub(crate) fn header_of(slot: &Slot) -> Header {
    let [a, b, c, _] = slot.chunks;
    let ([k, l, m, _], [n, o, p, _], [q, r, ..]) = (a.words, b.words, c.words);
    Header::decode(&[k, l, m, n, o, p, q, r])
}

/// Whether the frame that begins at the staged slot `index` is to be alone in its window: its payload is in an arena, it has options,
/// or it is an order.
///
/// # Safety
/// As for [`staged_flags`].
#[inline(always)]
unsafe fn is_for_itself(scratch: *mut WarpScratch, index: u32, flags: Flags) -> bool {
    // SAFETY: the caller vouches for the slot.
    let kind = unsafe { staged_word(scratch, index, 2).read() } as u16;
    flags.0 & Flags::APART != 0 || space_of(kind) == SPACE_ORDERS
}

/// Finds the frames in the `slots` ready slots from `base` on. With `apart`, a frame whose payload is in an arena is alone, and so
/// is one with options ([`Flags::APART`]), or an order.
///
/// # Safety
/// The slots are staged and nobody writes them meanwhile.
#[inline(always)]
#[track_caller]
pub unsafe fn split<A: Arch, const WHOLE: bool>(
    warp: &Warp<A, WHOLE>,
    scratch: *mut WarpScratch,
    base: u32,
    slots: u32,
    apart: bool,
) -> Frames {
    let size = warp.size();
    let rank = warp.rank();
    if slots <= size {
        // Mostly every frame is one slot. When each slot would be a frame of one slot if it began a frame, then each does:
        // the first begins one, and so on.
        // SAFETY: the caller vouches for the slots.
        let is_other = unsafe {
            let index = base.wrapping_add(if rank < slots { rank } else { 0 });
            let flags = staged_flags(scratch, index);
            rank < slots && (flags.span() != 1 || (apart && is_for_itself(scratch, index, flags)))
        };
        if !warp.any(is_other) {
            return Frames { count: slots, slots, start: base.wrapping_add(rank), needs: 1 };
        }
    }
    let mut frames = Frames { count: 0, slots: 0, start: base, needs: 1 };
    while frames.slots < slots && frames.count < size {
        // SAFETY: the caller vouches for the slots.
        let (span, is_apart) = unsafe {
            let index = base.wrapping_add(frames.slots);
            let flags = staged_flags(scratch, index);
            (flags.span(), apart && is_for_itself(scratch, index, flags))
        };
        if is_apart && frames.count != 0 {
            break;
        }
        if frames.slots.wrapping_add(span) > slots {
            frames.needs = span;
            break;
        }
        if frames.count == rank {
            frames.start = base.wrapping_add(frames.slots);
        }
        frames.slots = frames.slots.wrapping_add(span);
        frames.count = frames.count.wrapping_add(1);
        if is_apart {
            break;
        }
    }
    frames
}
