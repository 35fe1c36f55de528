//! Reading a window of slots, all lanes together.
//!
//! Lane `r` reads chunk `r` of the window, so that a warp's loads are coalesced and all in flight before the first is looked at:
//! a look costs one round trip, over the bus or to the second-level cache, whatever it finds. What was read is staged in
//! the warp's scratch; a slot is ready when all four of its tags were those of the expected lap.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::slot::{CHUNKS_PER_SLOT, Chunk, Slot};

use crate::arch::Arch;
use crate::warp::Warp;

/// Loads that a lane keeps in flight.
const ROUNDS: u32 = 4;
const PARTS: u32 = CHUNKS_PER_SLOT as u32;

/// Over which way the slots come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From host memory.
    Bus,
    /// From device memory.
    Cache,
}

/// The four bits of every nibble of `mask` that is full, gathered: bit `i` for nibble `i`.
#[inline(always)]
pub(crate) const fn full_nibbles(mask: u32) -> u32 {
    let pairs = mask & (mask >> 1);
    let full = pairs & (pairs >> 2) & 0x1111_1111;
    let full = (full | (full >> 3)) & 0x0303_0303;
    let full = (full | (full >> 6)) & 0x000f_000f;
    (full | (full >> 12)) & 0xff
}

/// Reads `slots` (1 to 32) slots into the warp's stage; returns a bit for each that is ready.
///
/// `locate` gives address and expected lap of the window's slot `i`. Every lane calls this with the same `slots`.
///
/// # Safety
/// `scratch` is the warp's own; `locate` returns valid addresses of slots for all `i < slots`.
#[inline(never)]
#[track_caller]
pub unsafe fn look<A: Arch, const WHOLE: bool>(
    warp: &Warp<A, WHOLE>,
    scratch: *mut WarpScratch,
    way: Way,
    slots: u32,
    locate: impl Fn(u32) -> (*const Slot, u32),
) -> u32 {
    let chunks = slots.wrapping_mul(PARTS);
    let size = warp.size();
    // SAFETY: only an address inside the warp's scratch.
    let stage = unsafe { (&raw mut (*scratch).stage).cast::<Chunk>() };
    // A bit for each chunk of up to 32 slots.
    let mut ready = 0u32;
    let mut found = 0u128;
    let mut first = 0u32;
    // A slower lane may still read what the last look staged.
    warp.sync();
    while first < chunks {
        let mut value = [Chunk { words: [0; 4] }; ROUNDS as usize];
        let mut lap = [0u32; ROUNDS as usize];
        // Two passes: a tag is looked at only after every load is on its way.
        let mut round = 0;
        while round < ROUNDS {
            let chunk = first.wrapping_add(round.wrapping_mul(size)).wrapping_add(warp.rank());
            if chunk < chunks {
                let (slot, expected) = locate(chunk / PARTS);
                let from = slot.cast::<Chunk>().wrapping_add((chunk % PARTS) as usize);
                // SAFETY: the caller vouches for the slot.
                let loaded = unsafe {
                    match way {
                        Way::Bus => A::load_chunk_sys(from),
                        Way::Cache => A::load_chunk_gpu(from),
                    }
                };
                // SAFETY: `round` is below ROUNDS.
                unsafe {
                    *value.get_unchecked_mut(round as usize) = loaded;
                    *lap.get_unchecked_mut(round as usize) = expected;
                }
            }
            round = round.wrapping_add(1);
        }
        let mut round = 0;
        while round < ROUNDS {
            let base = first.wrapping_add(round.wrapping_mul(size));
            if base < chunks {
                let chunk = base.wrapping_add(warp.rank());
                // SAFETY: `round` is below ROUNDS.
                let (value, lap) =
                    unsafe { (*value.get_unchecked(round as usize), *lap.get_unchecked(round as usize)) };
                // Memory that was never loaded has lap 0, which no slot has.
                let is_expected = value.tag() == lap && lap != 0;
                if is_expected {
                    // SAFETY: `chunk` is below `chunks`, so inside the stage.
                    unsafe { stage.add(chunk as usize).write(value) };
                }
                let ballot = warp.ballot(is_expected);
                if size == u32::BITS {
                    ready |= full_nibbles(ballot).wrapping_shl(base / PARTS);
                } else {
                    found |= u128::from(ballot).wrapping_shl(base);
                }
            }
            round = round.wrapping_add(1);
        }
        first = first.wrapping_add(ROUNDS.wrapping_mul(size));
    }
    if size != u32::BITS {
        let mut word = 0;
        while word < 4 {
            let nibbles = full_nibbles(found.wrapping_shr(word * 32) as u32);
            ready |= nibbles.wrapping_shl(word * 8);
            word += 1;
        }
    }
    warp.sync();
    ready
}

/// As [`look`] for at most a quarter as many slots as lanes, or one slot: for the looks of an idle loop, which mostly find
/// nothing.
///
/// # Safety
/// As for [`look`].
#[inline(always)]
#[track_caller]
pub unsafe fn glance<A: Arch, const WHOLE: bool>(
    warp: &Warp<A, WHOLE>,
    scratch: *mut WarpScratch,
    way: Way,
    slots: u32,
    locate: impl Fn(u32) -> (*const Slot, u32),
) -> u32 {
    if !WHOLE || A::LANES < PARTS {
        // SAFETY: the caller vouches for it.
        return unsafe { look(warp, scratch, way, slots, locate) };
    }
    let rank = warp.rank();
    let (slot, lap) = locate(rank / PARTS);
    let from = slot.cast::<Chunk>().wrapping_add((rank % PARTS) as usize);
    // Lap 0 is that of no slot.
    let mut value = Chunk { words: [0; 4] };
    if rank < slots.wrapping_mul(PARTS) {
        // SAFETY: the caller vouches for the slot.
        value = unsafe {
            match way {
                Way::Bus => A::load_chunk_sys(from),
                Way::Cache => A::load_chunk_gpu(from),
            }
        };
    }
    // A slower lane may still read what the last look staged. The load is on its way meanwhile.
    warp.sync();
    let is_expected = value.tag() == lap;
    let ballot = warp.ballot(is_expected);
    if ballot == 0 {
        return 0;
    }
    if is_expected {
        // SAFETY: the stage has a chunk for every lane.
        unsafe { (&raw mut (*scratch).stage).cast::<Chunk>().add(rank as usize).write(value) };
    }
    warp.sync();
    full_nibbles(ballot)
}

/// Puts a chunk into the warp's stage, which begins with the four of the first slot.
///
/// # Safety
/// `scratch` is the warp's own and `index` below four times its slots; no other lane accesses the chunk meanwhile.
#[inline(always)]
pub(crate) unsafe fn stage_chunk<A: Arch>(scratch: *mut WarpScratch, index: u32, chunk: Chunk) {
    // SAFETY: the caller vouches for it.
    unsafe { A::store_staged((&raw mut (*scratch).stage).cast::<Chunk>().wrapping_add(index as usize), chunk) };
}

/// The same, where it `stages`, without a branch.
///
/// # Safety
/// As for [`stage_chunk`] where it stages.
#[inline(always)]
pub(crate) unsafe fn stage_chunk_if<A: Arch>(stages: bool, scratch: *mut WarpScratch, index: u32, chunk: Chunk) {
    // SAFETY: the caller vouches for it.
    unsafe {
        A::store_staged_if(stages, (&raw mut (*scratch).stage).cast::<Chunk>().wrapping_add(index as usize), chunk);
    };
}

/// The staged slot `index`.
///
/// # Safety
/// As for [`stage_chunk`], with `index` below the stage's slots.
#[inline(always)]
pub(crate) unsafe fn staged_slot<A: Arch>(scratch: *mut WarpScratch, index: u32) -> Slot {
    // SAFETY: the caller vouches for it.
    unsafe {
        let first = (&raw mut (*scratch).stage).cast::<Slot>().wrapping_add(index as usize).cast::<Chunk>();
        let [a, b, c, d] = [0, 1, 2, 3].map(|part| A::load_staged(first.wrapping_add(part)));
        Slot { chunks: [a, b, c, d] }
    }
}

/// The slots of `ready` at which all lanes looked that should have looked at the same: `position` is where this lane did, `of` the
/// rank that it goes by.
///
/// Every lane reads a ring's head for itself. Between two of them another warp may have moved it, and then the stage
/// holds chunks of two slots.
#[inline(always)]
#[track_caller]
pub fn agreed<A: Arch, const WHOLE: bool>(warp: &Warp<A, WHOLE>, ready: u32, position: u64, of: u32) -> u32 {
    if A::LANES == 1 || ready == 0 {
        return ready;
    }
    let differs = position as u32 != warp.broadcast(position as u32, of);
    let lanes = warp.ballot(differs);
    if lanes == 0 { ready } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nibbles_are_gathered(mask: u32) {
            let expected = (0..8).filter(|i| (mask >> (4 * i)) & 0xf == 0xf).fold(0, |all, i| all | 1 << i);
            prop_assert_eq!(full_nibbles(mask), expected);
        }
    }
}
