//! The machine operations of the floors, each one instruction.
//!
//! The ring kernel's own stand in `tourbillon_device::arch`; a floor may not depend on the engine that it is the measure of.

use core::arch::asm;

use tourbillon_shared::slot::Chunk;

/// Every lane of a warp.
pub const FULL_MASK: u32 = u32::MAX;

unsafe extern "C" {
    #[link_name = "llvm.nvvm.vote.ballot.sync"]
    fn vote_ballot_sync(mask: u32, predicate: bool) -> u32;
    #[link_name = "llvm.nvvm.shfl.sync.idx.i32"]
    fn shfl_sync_idx(mask: u32, value: u32, lane: u32, clamp: u32) -> u32;
    #[link_name = "llvm.nvvm.barrier.cta.sync.all"]
    fn barrier_cta_sync_all(barrier: u32);
}

/// The lanes whose `predicate` holds; all lanes of the warp take part.
#[inline(always)]
pub fn ballot(predicate: bool) -> u32 {
    // SAFETY: no lane of a floor's warp leaves before the others, so the full mask names living lanes only.
    unsafe { vote_ballot_sync(FULL_MASK, predicate) }
}

/// The value of lane `lane`; all lanes of the warp take part.
#[inline(always)]
pub fn shuffle(value: u32, lane: u32) -> u32 {
    const CLAMP_NONE: u32 = 31;
    // SAFETY: as for `ballot`.
    unsafe { shfl_sync_idx(FULL_MASK, value, lane, CLAMP_NONE) }
}

/// [`shuffle`] of 64 bits.
#[inline(always)]
pub fn shuffle_u64(value: u64, lane: u32) -> u64 {
    u64::from(shuffle(value as u32, lane)) | u64::from(shuffle((value >> 32) as u32, lane)) << 32
}

/// Waits for every thread of the block; orders their accesses to the block's memory.
#[inline(always)]
pub fn block_barrier() {
    // SAFETY: called by every thread of the block, at the kernel's start.
    unsafe { barrier_cta_sync_all(0) }
}

macro_rules! chunk_access {
    ($load:ident, $store:ident, $scope:literal) => {
        /// Loads a chunk, relaxed and single-copy atomic.
        ///
        /// # Safety
        /// `from` is aligned to 16 and valid for reads.
        #[inline(always)]
        pub unsafe fn $load(from: u64) -> Chunk {
            let (low, high): (u64, u64);
            // SAFETY: the caller vouches for the address.
            unsafe {
                asm!(
                    concat!("{{ .reg .b128 x; ld.relaxed.", $scope, ".global.b128 x, [{2}]; mov.b128 {{{0}, {1}}}, x; }}"),
                    out(reg64) low, out(reg64) high, in(reg64) from
                );
            }
            Chunk::from_halves(low, high)
        }

        /// Stores a chunk, relaxed and single-copy atomic.
        ///
        /// # Safety
        /// `to` is aligned to 16 and valid for writes.
        #[inline(always)]
        pub unsafe fn $store(to: u64, chunk: Chunk) {
            let (low, high) = chunk.to_halves();
            // SAFETY: the caller vouches for the address.
            unsafe {
                asm!(
                    concat!("{{ .reg .b128 x; mov.b128 x, {{{0}, {1}}}; st.relaxed.", $scope, ".global.b128 [{2}], x; }}"),
                    in(reg64) low, in(reg64) high, in(reg64) to
                );
            }
        }
    };
}

chunk_access!(load_chunk_sys, store_chunk_sys, "sys");
chunk_access!(load_chunk_gpu, store_chunk_gpu, "gpu");

/// Loads a word of the block's memory, relaxed.
///
/// # Safety
/// `at` is the address of an aligned u64 in the block's memory.
#[inline(always)]
pub unsafe fn load_cta(at: u32) -> u64 {
    let value: u64;
    // SAFETY: the caller vouches for the address.
    unsafe { asm!("ld.relaxed.cta.shared.u64 {0}, [{1}];", out(reg64) value, in(reg32) at) };
    value
}

/// Stores a word of the block's memory, relaxed.
///
/// # Safety
/// As for [`load_cta`].
#[inline(always)]
pub unsafe fn store_cta(at: u32, value: u64) {
    // SAFETY: the caller vouches for the address.
    unsafe { asm!("st.relaxed.cta.shared.u64 [{0}], {1};", in(reg32) at, in(reg64) value) };
}

/// Moves a word of the block's memory from `expected` to `new`, relaxed; whether it was `expected`.
///
/// # Safety
/// As for [`load_cta`].
#[inline(always)]
pub unsafe fn compare_exchange_cta(at: u32, expected: u64, new: u64) -> bool {
    let before: u64;
    // SAFETY: the caller vouches for the address.
    unsafe {
        asm!(
            "atom.relaxed.cta.shared.cas.b64 {0}, [{1}], {2}, {3};",
            out(reg64) before, in(reg32) at, in(reg64) expected, in(reg64) new
        );
    }
    before == expected
}

/// Adds to a word of the block's memory, relaxed; what it was before.
///
/// # Safety
/// As for [`load_cta`].
#[inline(always)]
pub unsafe fn fetch_add_cta(at: u32, value: u64) -> u64 {
    let before: u64;
    // SAFETY: the caller vouches for the address.
    unsafe {
        asm!("atom.relaxed.cta.shared.add.u64 {0}, [{1}], {2};", out(reg64) before, in(reg32) at, in(reg64) value);
    }
    before
}
