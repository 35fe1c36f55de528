//! Where the letters of a handler are until they go.

use core::mem::MaybeUninit;

use tourbillon_shared::frame::FRAME_WORDS_MAX;
use tourbillon_shared::header::Flags;
use tourbillon_shared::mailbox::{Desk, LETTERS_MAX, OUTGOING_LETTER_WORDS};
use tourbillon_shared::outbox::LANES_OF_WARP_MAX;
use tourbillon_shared::slot::{Chunk, DATA_WORDS_PER_SLOT};

/// Data word of a header with its flags and length.
pub(super) const SHAPE: usize = 3;

/// Words of a letter that are kept near: those of its first slot, ...
const NEAR_WORDS: usize = DATA_WORDS_PER_SLOT;
/// ... and, behind them, what is decided about it.
const NOTES: usize = OUTGOING_LETTER_WORDS - FRAME_WORDS_MAX;

/// The beginnings of the letters of one handler, on the stack of who runs it or in the stage: a GPU reads back at once what it has written
/// there; what it writes to other memory comes back from the second-level cache, and most letters have no more than one slot.
pub(crate) type Near = [MaybeUninit<NearLetter>; LETTERS_MAX as usize];

/// The beginning of one of them, aligned so that it is read in few accesses.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct NearLetter([u32; NEAR_WORDS + NOTES]);
const _: () = assert!(size_of::<NearLetter>() == (NEAR_WORDS + NOTES) * 4 && NEAR_WORDS.is_multiple_of(4));

/// A letter that a handler has written: its beginning, and the rest in the buffer of the lane.
#[derive(Clone, Copy)]
pub(super) struct Outgoing {
    near: *mut u32,
    far: *mut u32,
}

impl Outgoing {
    /// Letter `index`, below [`LETTERS_MAX`], of lane `lane`.
    #[inline(always)]
    pub(super) fn at(desk: &Desk, near: *mut Near, lane: u32, index: u32) -> Self {
        let words = (index as usize).wrapping_mul(OUTGOING_LETTER_WORDS * LANES_OF_WARP_MAX as usize);
        Self {
            near: near.cast::<NearLetter>().wrapping_add(index as usize).cast(),
            far: (desk.letters as *mut u32).wrapping_add(words).wrapping_add(lane as usize),
        }
    }

    #[inline(always)]
    fn word_at(self, word: usize) -> *mut u32 {
        if word < NEAR_WORDS {
            self.near.wrapping_add(word)
        } else if word >= FRAME_WORDS_MAX {
            self.near.wrapping_add(word.wrapping_sub(FRAME_WORDS_MAX - NEAR_WORDS))
        } else {
            self.far.wrapping_add(word.wrapping_mul(LANES_OF_WARP_MAX as usize))
        }
    }

    /// Word `word`, below [`OUTGOING_LETTER_WORDS`].
    ///
    /// # Safety
    /// The letter is that of the calling lane.
    #[inline(always)]
    pub(super) unsafe fn word(self, word: usize) -> u32 {
        // SAFETY: the caller vouches for the letter, which has the word.
        unsafe { self.word_at(word).read() }
    }

    /// Its first words.
    ///
    /// # Safety
    /// As for [`word`](Self::word).
    #[inline(always)]
    pub(super) unsafe fn near_words(self) -> [u32; NEAR_WORDS] {
        let mut words = [0; NEAR_WORDS];
        let mut at = 0;
        while at < NEAR_WORDS {
            // SAFETY: as in `word`; a letter's beginning is aligned to a chunk, and `at` is below the array's length.
            unsafe {
                let four = self.near.wrapping_add(at).cast::<Chunk>().read().words;
                words.as_mut_ptr().wrapping_add(at).cast::<[u32; 4]>().write(four);
            }
            at += 4;
        }
        words
    }

    /// Sets four of its first words, from `FIRST` on.
    ///
    /// # Safety
    /// As for [`word`](Self::word).
    #[inline(always)]
    pub(super) unsafe fn set_four<const FIRST: usize>(self, words: [u32; 4]) {
        const { assert!(FIRST.is_multiple_of(4) && FIRST + 4 <= NEAR_WORDS) };
        // SAFETY: as in `near_words`.
        unsafe { self.near.wrapping_add(FIRST).cast::<Chunk>().write(Chunk { words }) }
    }

    /// # Safety
    /// As for [`word`](Self::word).
    #[inline(always)]
    pub(super) unsafe fn set(self, word: usize, value: u32) {
        // SAFETY: as in `word`.
        unsafe { self.word_at(word).write(value) }
    }

    /// # Safety
    /// As for [`word`](Self::word).
    #[inline(always)]
    pub(super) unsafe fn flags(self) -> Flags {
        // SAFETY: the caller vouches for the letter.
        Flags((unsafe { self.word(SHAPE) } >> 16) as u16)
    }

    /// # Safety
    /// As for [`word`](Self::word).
    #[inline(always)]
    pub(super) unsafe fn length(self) -> usize {
        // SAFETY: the caller vouches for the letter.
        (unsafe { self.word(SHAPE) } & 0xffff) as usize
    }
}

/// Where a handler's letters are until they go: the desk of the warp, the runner's place for their beginnings, and the lane that runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutgoingOf {
    pub desk: *const Desk,
    pub near: *mut Near,
    pub lane: u32,
}
