//! What running lone letters needs to know of the shard, in the block's memory: the loop that watches has no registers left for it, and
//! from there it comes together with the letter itself. It stands where orders are staged: who watches carries out none.

use tourbillon_shared::block::{AT_HAND_CHUNKS, WarpScratch};
use tourbillon_shared::slot::Chunk;

use super::run::Home;
use crate::arch::Arch;
use crate::clock::Clock;
use crate::directory::Directory;

/// What is at hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct AtHand {
    /// The shard's directory, good for [`Directory::find_at_home`].
    pub directory: Directory,
    /// Where the shard's last timestamp is.
    pub last: *mut u64,
    /// The clock, good for [`Clock::physical_at_once`].
    pub clock: Clock,
}

const fn chunk_of(low: u64, high: u64) -> Chunk {
    Chunk { words: [low as u32, (low >> u32::BITS) as u32, high as u32, (high >> u32::BITS) as u32] }
}

const fn halves_of(chunk: Chunk) -> (u64, u64) {
    let [a, b, c, d] = chunk.words;
    (a as u64 | (b as u64) << u32::BITS, c as u64 | (d as u64) << u32::BITS)
}

impl AtHand {
    /// Writes it. One lane calls it, before a sync.
    ///
    /// # Safety
    /// The scratch is the warp's, and no other lane uses it meanwhile.
    pub(super) unsafe fn put<A: Arch>(scratch: *mut WarpScratch, home: &Home, clock: &Clock) {
        let directory = home.directory();
        let [base_ns, base] = clock.anchor();
        let chunks: [Chunk; AT_HAND_CHUNKS] = [
            chunk_of(directory.buckets as u64, directory.slab as u64),
            chunk_of(u64::from(directory.mask) | u64::from(directory.stride) << u32::BITS, home.clock() as u64),
            chunk_of(base_ns, base),
        ];
        let mut i = 0;
        while i < AT_HAND_CHUNKS {
            // SAFETY: the caller vouches for the scratch; `i` is below both lengths.
            unsafe {
                let to = (&raw mut (*scratch).order).cast::<Chunk>().wrapping_add(i);
                A::store_staged(to, *chunks.get_unchecked(i));
            }
            i = i.wrapping_add(1);
        }
    }

    /// Reads it.
    ///
    /// # Safety
    /// It was [`put`](Self::put) into this scratch, a sync came since, and no order is carried out meanwhile.
    #[inline(always)]
    pub(super) unsafe fn get<A: Arch>(scratch: *const WarpScratch) -> Self {
        // SAFETY: the caller vouches for the scratch.
        let [places, more, time] = unsafe {
            let first = (&raw const (*scratch).order).cast::<Chunk>();
            [0, 1, 2].map(|i| A::load_staged(first.wrapping_add(i)))
        };
        let ((buckets, slab), (mask_and_stride, last), (base_ns, base)) =
            (halves_of(places), halves_of(more), halves_of(time));
        let directory =
            Directory::at_home(buckets as _, mask_and_stride as u32, slab as _, (mask_and_stride >> u32::BITS) as u32);
        Self { directory, last: last as *mut u64, clock: Clock::at_anchor([base_ns, base]) }
    }
}
