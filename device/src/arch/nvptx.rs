//! A GPU.
//!
//! Memory operations are written in assembly, because the compiler's own atomics are of system scope, or, where they read and modify,
//! relaxed and of device scope whatever they are told. Collectives come from compiler intrinsics, which it knows to be
//! convergent; written in assembly, it might duplicate them or sink them into a branch.

use core::arch::{asm, global_asm};
use core::panic::PanicInfo;

use tourbillon_shared::error::{PanicPlace, file_hash};
use tourbillon_shared::slot::Chunk;

use super::Arch;

/// A GPU of compute capability 8.0 or newer.
#[derive(Clone, Copy, Debug)]
pub struct Nvptx;

// The language has no shared memory. 48 KiB is `BLOCK_MEMORY_BYTES`.
global_asm!(".shared .align 128 .b8 tourbillon_block_memory[49152];");
const _: () = assert!(tourbillon_shared::geometry::BLOCK_MEMORY_BYTES == 49152);

unsafe extern "C" {
    #[link_name = "llvm.nvvm.vote.ballot.sync"]
    fn vote_ballot(mask: u32, predicate: bool) -> u32;
    #[link_name = "llvm.nvvm.match.any.sync.i64"]
    fn match_any_64(mask: u32, value: u64) -> u32;
    #[link_name = "llvm.nvvm.shfl.sync.idx.i32"]
    fn shuffle_index(mask: u32, value: u32, lane: u32, clamp: u32) -> u32;
    #[link_name = "llvm.nvvm.bar.warp.sync"]
    fn bar_warp(mask: u32);
    #[link_name = "llvm.nvvm.barrier0"]
    fn barrier_0();
}

macro_rules! special_register {
    ($name:literal) => {{
        let value: u32;
        // SAFETY: reads a register that never changes.
        unsafe { asm!(concat!("mov.u32 {0}, ", $name, ";"), out(reg32) value, options(pure, nomem, nostack)) };
        value
    }};
}

/// The end of a lane whose handler panicked: notes where, and leaves. Called by the module's panic handler.
pub fn leave_after_panic(info: &PanicInfo<'_>) -> ! {
    let place = info.location().map_or(PanicPlace { line: 0, column: 0, file: 0 }, |location| PanicPlace {
        line: location.line(),
        column: location.column(),
        file: file_hash(location.file()),
    });
    // SAFETY: handlers run only after the block was loaded; the word is this lane's own. The fence makes it and the note of
    // the running frame visible to the lanes that stay, which regather before they read.
    unsafe {
        crate::block::note_panic(Nvptx::block_memory(), Nvptx::warp(), Nvptx::lane(), place);
        asm!("fence.acq_rel.cta;", options(nostack));
    }
    Nvptx::exit_lane()
}

impl Arch for Nvptx {
    const LANES: u32 = 32;
    const SLEEPS: bool = false;
    const WATCH_ROUNDS: u32 = 64;
    const HOME_ROUNDS: u32 = 128;
    const BURST_NS: u64 = 2_000;

    #[inline(always)]
    fn lane() -> u32 {
        special_register!("%laneid")
    }
    #[inline(always)]
    fn warp() -> u32 {
        special_register!("%tid.x") / 32
    }
    #[inline(always)]
    fn block() -> u32 {
        special_register!("%ctaid.x")
    }
    #[inline(always)]
    fn block_memory() -> *mut u8 {
        let address: u64;
        // SAFETY: takes the generic address of the block's memory; touches nothing.
        unsafe {
            asm!(
                "mov.u64 {0}, tourbillon_block_memory; cvta.shared.u64 {0}, {0};",
                out(reg64) address,
                options(pure, nomem, nostack)
            );
        }
        address as *mut u8
    }
    #[inline(always)]
    fn block_barrier() {
        // SAFETY: only called at the kernel's start, by all threads of the block.
        unsafe { barrier_0() }
    }

    #[inline(always)]
    fn ballot(mask: u32, predicate: bool) -> u32 {
        // SAFETY: all living lanes of the mask come here, as the trait demands.
        unsafe { vote_ballot(mask, predicate) }
    }
    #[inline(always)]
    fn shuffle(mask: u32, value: u32, lane: u32) -> u32 {
        // SAFETY: as for `ballot`.
        unsafe { shuffle_index(mask, value, lane, 31) }
    }
    #[inline(always)]
    fn match_any(mask: u32, value: u64) -> u32 {
        // SAFETY: as for `ballot`.
        unsafe { match_any_64(mask, value) }
    }
    #[inline(always)]
    fn sync_warp(mask: u32) {
        // SAFETY: as for `ballot`.
        unsafe { bar_warp(mask) }
    }
    #[inline(always)]
    fn exit_lane() -> ! {
        // SAFETY: ends this lane; the others skip it in every collective.
        unsafe { asm!("exit;", options(nostack)) };
        // Never reached. Told that the assembly does not return, the compiler would put a `trap` behind it.
        loop {}
    }

    #[inline(always)]
    fn guard(f: impl FnOnce()) -> bool {
        // A panic ends the lane in `leave_after_panic`: whoever comes back has not panicked.
        f();
        true
    }
    #[inline(always)]
    fn last_panic() -> PanicPlace {
        PanicPlace { line: 0, column: 0, file: 0 }
    }

    #[inline(always)]
    unsafe fn load_chunk_sys(from: *const Chunk) -> Chunk {
        let (low, high);
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            asm!("{{ .reg .b128 x; ld.relaxed.sys.global.b128 x, [{2}]; mov.b128 {{{0}, {1}}}, x; }}",
                out(reg64) low, out(reg64) high, in(reg64) from, options(nostack));
        }
        Chunk::from_halves(low, high)
    }
    #[inline(always)]
    unsafe fn store_chunk_sys(to: *mut Chunk, chunk: Chunk) {
        let (low, high) = chunk.to_halves();
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            asm!("{{ .reg .b128 x; mov.b128 x, {{{0}, {1}}}; st.relaxed.sys.global.b128 [{2}], x; }}",
                in(reg64) low, in(reg64) high, in(reg64) to, options(nostack));
        }
    }
    #[inline(always)]
    unsafe fn load_payload_sys(from: *const Chunk) -> Chunk {
        let (a, b, c, d);
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            asm!("ld.relaxed.sys.global.v4.u32 {{{0}, {1}, {2}, {3}}}, [{4}];",
                out(reg32) a, out(reg32) b, out(reg32) c, out(reg32) d, in(reg64) from, options(nostack));
        }
        Chunk { words: [a, b, c, d] }
    }
    #[inline(always)]
    unsafe fn store_payload_sys(to: *mut Chunk, bytes: Chunk) {
        let [a, b, c, d] = bytes.words;
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            asm!("st.relaxed.sys.global.v4.u32 [{4}], {{{0}, {1}, {2}, {3}}};",
                in(reg32) a, in(reg32) b, in(reg32) c, in(reg32) d, in(reg64) to, options(nostack));
        }
    }
    #[inline(always)]
    fn fence_acquire_sys() {
        // SAFETY: orders memory accesses.
        unsafe { asm!("fence.acq_rel.sys;", options(nostack)) };
    }
    #[inline(always)]
    fn fence_release_sys() {
        // SAFETY: orders memory accesses.
        unsafe { asm!("fence.acq_rel.sys;", options(nostack)) };
    }

    #[inline(always)]
    unsafe fn load_chunk_gpu(from: *const Chunk) -> Chunk {
        let (low, high);
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            asm!("{{ .reg .b128 x; ld.relaxed.gpu.global.b128 x, [{2}]; mov.b128 {{{0}, {1}}}, x; }}",
                out(reg64) low, out(reg64) high, in(reg64) from, options(nostack));
        }
        Chunk::from_halves(low, high)
    }
    #[inline(always)]
    unsafe fn store_chunk_gpu(to: *mut Chunk, chunk: Chunk) {
        let (low, high) = chunk.to_halves();
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            asm!("{{ .reg .b128 x; mov.b128 x, {{{0}, {1}}}; st.relaxed.gpu.global.b128 [{2}], x; }}",
                in(reg64) low, in(reg64) high, in(reg64) to, options(nostack));
        }
    }

    #[inline(always)]
    unsafe fn load_acquire_gpu(from: *const u64) -> u64 {
        let value;
        // SAFETY: the caller vouches for the pointer.
        unsafe { asm!("ld.acquire.gpu.global.u64 {0}, [{1}];", out(reg64) value, in(reg64) from, options(nostack)) };
        value
    }
    #[inline(always)]
    unsafe fn store_release_gpu(to: *mut u64, value: u64) {
        // SAFETY: the caller vouches for the pointer.
        unsafe { asm!("st.release.gpu.global.u64 [{0}], {1};", in(reg64) to, in(reg64) value, options(nostack)) };
    }
    #[inline(always)]
    unsafe fn load_relaxed_gpu(from: *const u64) -> u64 {
        let value;
        // SAFETY: the caller vouches for the pointer.
        unsafe { asm!("ld.relaxed.gpu.global.u64 {0}, [{1}];", out(reg64) value, in(reg64) from, options(nostack)) };
        value
    }
    #[inline(always)]
    unsafe fn store_relaxed_gpu(to: *mut u64, value: u64) {
        // SAFETY: the caller vouches for the pointer.
        unsafe { asm!("st.relaxed.gpu.global.u64 [{0}], {1};", in(reg64) to, in(reg64) value, options(nostack)) };
    }
    #[inline(always)]
    unsafe fn load_obeyed_gpu(from: *const u32) -> u32 {
        let value;
        // SAFETY: the caller vouches for the pointer.
        unsafe { asm!("ld.acquire.gpu.global.u32 {0}, [{1}];", out(reg32) value, in(reg64) from, options(nostack)) };
        value
    }
    #[inline(always)]
    unsafe fn peek_obeyed_gpu(from: *const u32) -> u32 {
        let value;
        // SAFETY: the caller vouches for the pointer.
        unsafe { asm!("ld.relaxed.gpu.global.u32 {0}, [{1}];", out(reg32) value, in(reg64) from, options(nostack)) };
        value
    }
    #[inline(always)]
    unsafe fn store_obeyed_gpu(to: *mut u32, value: u32) {
        // SAFETY: the caller vouches for the pointer.
        unsafe { asm!("st.release.gpu.global.u32 [{0}], {1};", in(reg64) to, in(reg32) value, options(nostack)) };
    }
    #[inline(always)]
    unsafe fn add_relaxed_gpu(to: *mut u64, value: u64) {
        // SAFETY: the caller vouches for the pointer.
        unsafe { asm!("red.relaxed.gpu.global.add.u64 [{0}], {1};", in(reg64) to, in(reg64) value, options(nostack)) };
    }
    #[inline(always)]
    unsafe fn take_room_gpu(room: *mut u64, slots: u64) -> u64 {
        let before;
        // SAFETY: the caller vouches for the pointer. Adding the complement subtracts.
        unsafe {
            asm!("atom.acquire.gpu.global.add.u64 {0}, [{1}], {2};",
                out(reg64) before, in(reg64) room, in(reg64) slots.wrapping_neg(), options(nostack));
        }
        before
    }
    #[inline(always)]
    unsafe fn add_own_gpu(word: *mut u64, value: u64) -> u64 {
        let before;
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            asm!("atom.relaxed.gpu.global.add.u64 {0}, [{1}], {2};",
                out(reg64) before, in(reg64) word, in(reg64) value, options(nostack));
        }
        before
    }
    #[inline(always)]
    unsafe fn take_place_gpu(tail: *mut u64, slots: u64) -> u64 {
        let before;
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            asm!("atom.acquire.gpu.global.add.u64 {0}, [{1}], {2};",
                out(reg64) before, in(reg64) tail, in(reg64) slots, options(nostack));
        }
        before
    }
    #[inline(always)]
    unsafe fn tell_read_gpu(tail: *mut u64) {
        // SAFETY: the caller vouches for the pointer.
        unsafe { asm!("red.release.gpu.global.add.u64 [{0}], 0;", in(reg64) tail, options(nostack)) };
    }
    #[inline(always)]
    unsafe fn give_room_gpu(room: *mut u64, slots: u64) {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            asm!("red.release.gpu.global.add.u64 [{0}], {1};", in(reg64) room, in(reg64) slots, options(nostack))
        };
    }
    #[inline(always)]
    unsafe fn take_ticket_gpu(tail: *mut u64, slots: u64) -> u64 {
        let before;
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            asm!("atom.acq_rel.gpu.global.add.u64 {0}, [{1}], {2};",
                out(reg64) before, in(reg64) tail, in(reg64) slots, options(nostack));
        }
        before
    }
    #[inline(always)]
    unsafe fn advance_gpu(word: *mut u64, from: u64) {
        let to = from.wrapping_add(1);
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            asm!("{{ .reg .u64 a; atom.acq_rel.gpu.global.cas.b64 a, [{0}], {1}, {2}; }}",
                in(reg64) word, in(reg64) from, in(reg64) to, options(nostack));
        }
    }
    #[inline(always)]
    fn fence_sc_gpu() {
        // SAFETY: orders memory accesses, makes none.
        unsafe { asm!("fence.sc.gpu;", options(nostack)) };
    }
    #[inline(always)]
    unsafe fn load_relaxed_sys(from: *const u64) -> u64 {
        let value;
        // SAFETY: the caller vouches for the pointer.
        unsafe { asm!("ld.relaxed.sys.global.u64 {0}, [{1}];", out(reg64) value, in(reg64) from, options(nostack)) };
        value
    }
    #[inline(always)]
    unsafe fn store_relaxed_sys(to: *mut u64, value: u64) {
        // SAFETY: the caller vouches for the pointer.
        unsafe { asm!("st.relaxed.sys.global.u64 [{0}], {1};", in(reg64) to, in(reg64) value, options(nostack)) };
    }

    #[inline(always)]
    unsafe fn store_release_sys(to: *mut u64, value: u64) {
        // SAFETY: the caller vouches for the pointer.
        unsafe { asm!("st.release.sys.global.u64 [{0}], {1};", in(reg64) to, in(reg64) value, options(nostack)) };
    }

    #[inline(always)]
    unsafe fn try_take_cta(word: *mut u32, to: u32) -> u32 {
        let old;
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            asm!("{{ .reg .u64 a; cvta.to.shared.u64 a, {1}; atom.relaxed.cta.shared.cas.b32 {0}, [a], 0, {2}; }}",
                out(reg32) old, in(reg64) word, in(reg32) to, options(nostack));
        }
        old
    }
    #[inline(always)]
    fn acquire_fence_cta() {
        // SAFETY: orders memory accesses, makes none.
        unsafe { asm!("fence.acq_rel.cta;", options(nostack)) };
    }
    #[inline(always)]
    unsafe fn load_early(from: *const Chunk) -> Chunk {
        let (a, b, c, d);
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            asm!("ld.global.v4.u32 {{{0}, {1}, {2}, {3}}}, [{4}];",
                out(reg32) a, out(reg32) b, out(reg32) c, out(reg32) d, in(reg64) from, options(nostack));
        }
        Chunk { words: [a, b, c, d] }
    }
    #[inline(always)]
    unsafe fn bring_near(from: *const Chunk, to: *mut Chunk) {
        // SAFETY: the caller vouches for the pointers.
        unsafe {
            asm!("{{ .reg .u64 a; cvta.to.shared.u64 a, {1}; cp.async.ca.shared.global [a], [{0}], 16; }}",
                in(reg64) from, in(reg64) to, options(nostack));
        }
    }
    #[inline(always)]
    unsafe fn load_own(from: *const Chunk) -> Chunk {
        let (a, b, c, d);
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            asm!("ld.v4.u32 {{{0}, {1}, {2}, {3}}}, [{4}];",
                out(reg32) a, out(reg32) b, out(reg32) c, out(reg32) d, in(reg64) from, options(nostack));
        }
        Chunk { words: [a, b, c, d] }
    }
    #[inline(always)]
    unsafe fn load_staged(from: *const Chunk) -> Chunk {
        let (a, b, c, d);
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            asm!("{{ .reg .u64 a; cvta.to.shared.u64 a, {4}; ld.shared.v4.u32 {{{0}, {1}, {2}, {3}}}, [a]; }}",
                out(reg32) a, out(reg32) b, out(reg32) c, out(reg32) d, in(reg64) from, options(nostack));
        }
        Chunk { words: [a, b, c, d] }
    }
    #[inline(always)]
    unsafe fn store_staged(to: *mut Chunk, chunk: Chunk) {
        let [a, b, c, d] = chunk.words;
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            asm!("{{ .reg .u64 a; cvta.to.shared.u64 a, {4}; st.shared.v4.u32 [a], {{{0}, {1}, {2}, {3}}}; }}",
                in(reg32) a, in(reg32) b, in(reg32) c, in(reg32) d, in(reg64) to, options(nostack));
        }
    }
    #[inline(always)]
    unsafe fn store_staged_if(stores: bool, to: *mut Chunk, chunk: Chunk) {
        let [a, b, c, d] = chunk.words;
        // SAFETY: the caller vouches for the pointer where it stores.
        unsafe {
            asm!("{{ .reg .u64 a; .reg .pred p; cvta.to.shared.u64 a, {4}; setp.ne.u32 p, {5}, 0;",
                "@p st.shared.v4.u32 [a], {{{0}, {1}, {2}, {3}}}; }}",
                in(reg32) a, in(reg32) b, in(reg32) c, in(reg32) d, in(reg64) to, in(reg32) u32::from(stores), options(nostack));
        }
    }

    #[inline(always)]
    unsafe fn try_acquire_cta(word: *mut u32, tries: bool) -> bool {
        let old: u32;
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            asm!(
                "{{ .reg .u64 a; .reg .pred p; cvta.to.shared.u64 a, {1}; setp.ne.u32 p, {2}, 0; mov.u32 {0}, 1;",
                "@p atom.acquire.cta.shared.cas.b32 {0}, [a], 0, 1; }}",
                out(reg32) old, in(reg64) word, in(reg32) u32::from(tries), options(nostack)
            );
        }
        old == 0
    }
    #[inline(always)]
    unsafe fn release_cta(word: *mut u32) {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            asm!("{{ .reg .u64 a; cvta.to.shared.u64 a, {0}; st.release.cta.shared.u32 [a], {1}; }}", in(reg64) word, in(reg32) 0u32, options(nostack))
        };
    }
    #[inline(always)]
    unsafe fn decrement_cta(word: *mut u32) -> u32 {
        let old;
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            asm!("{{ .reg .u64 a; cvta.to.shared.u64 a, {1}; atom.acq_rel.cta.shared.add.u32 {0}, [a], {2}; }}",
                out(reg32) old, in(reg64) word, in(reg32) u32::MAX, options(nostack));
        }
        old
    }
    #[inline(always)]
    unsafe fn load_cta(from: *const u64) -> u64 {
        let value;
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            asm!("{{ .reg .u64 a; cvta.to.shared.u64 a, {1}; ld.relaxed.cta.shared.u64 {0}, [a]; }}", out(reg64) value, in(reg64) from, options(nostack))
        };
        value
    }
    #[inline(always)]
    unsafe fn store_cta(to: *mut u64, value: u64) {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            asm!("{{ .reg .u64 a; cvta.to.shared.u64 a, {0}; st.relaxed.cta.shared.u64 [a], {1}; }}", in(reg64) to, in(reg64) value, options(nostack))
        };
    }

    #[inline(always)]
    unsafe fn load_pool(from: *const u64) -> u64 {
        let value;
        // SAFETY: the caller vouches for the pointer.
        unsafe { asm!("ld.relaxed.cta.global.u64 {0}, [{1}];", out(reg64) value, in(reg64) from, options(nostack)) };
        value
    }
    #[inline(always)]
    unsafe fn store_pool(to: *mut u64, value: u64) {
        // SAFETY: the caller vouches for the pointer.
        unsafe { asm!("st.relaxed.cta.global.u64 [{0}], {1};", in(reg64) to, in(reg64) value, options(nostack)) };
    }
    #[inline(always)]
    unsafe fn add_pool(to: *mut u64, value: u64) -> u64 {
        let before;
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            asm!("atom.relaxed.cta.global.add.u64 {0}, [{1}], {2};",
                out(reg64) before, in(reg64) to, in(reg64) value, options(nostack));
        }
        before
    }
    #[inline(always)]
    unsafe fn count_pool(to: *mut u64, value: u64) {
        // SAFETY: the caller vouches for the pointer. At the scope of the device, for at that of a block the machine answers.
        unsafe { asm!("red.relaxed.gpu.global.add.u64 [{0}], {1};", in(reg64) to, in(reg64) value, options(nostack)) };
    }

    #[inline(always)]
    fn pin_u64(value: u64) -> u64 {
        let pinned;
        // SAFETY: moves a register.
        unsafe { asm!("mov.u64 {0}, {1};", out(reg64) pinned, in(reg64) value, options(nostack)) };
        pinned
    }

    #[inline(always)]
    fn now_ns() -> u64 {
        let value;
        // SAFETY: reads a clock.
        unsafe { asm!("mov.u64 {0}, %globaltimer;", out(reg64) value, options(nomem, nostack)) };
        value
    }
    #[inline(always)]
    fn relax(_idle_rounds: u32) {
        // Waiting in the second-level cache costs nothing, and a rest would cost the next message its latency.
    }
    #[inline(always)]
    fn wait_until(at_ns: u64) {
        while Self::now_ns() < at_ns {}
    }
    #[inline(always)]
    fn rest(ns: u32) {
        // SAFETY: waits.
        unsafe { asm!("nanosleep.u32 {0};", in(reg32) ns, options(nomem, nostack)) };
    }
}
