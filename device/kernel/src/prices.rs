//! What each ordering costs: the engine's memory operations, many times over in one warp, by the device clock.
//!
//! Loads depend on each other, so that their price is how long one takes; stores and fences follow each other as fast as
//! they go. Every lane has a word of its own.

use core::arch::asm;

use tourbillon_device::arch::Arch;
use tourbillon_device::arch::nvptx::Nvptx;
use tourbillon_shared::litmus::{Price, PriceArguments};
use tourbillon_shared::slot::Chunk;

/// Rounds between two looks whether the time is up.
const ROUNDS_PER_LOOK: u32 = 256;

/// Does `$work` so many times; the nanoseconds that it took, or 0 when the time was up before.
macro_rules! timed {
    ($arguments:expr, $until_ns:expr, $work:expr) => {{
        let began_ns = Nvptx::now_ns();
        let mut round = 0u32;
        let mut is_late = false;
        while round < $arguments.rounds && !is_late {
            $work;
            round = round.wrapping_add(1);
            is_late = round & (ROUNDS_PER_LOOK - 1) == 0 && Nvptx::now_ns() >= $until_ns;
        }
        let took_ns = Nvptx::now_ns().wrapping_sub(began_ns);
        if is_late { 0 } else { took_ns }
    }};
}

/// Times each of [`Price::ALL`].
///
/// # Safety
/// `arguments` points to valid [`PriceArguments`]; the grid is one block of one warp.
#[unsafe(no_mangle)]
pub unsafe extern "ptx-kernel" fn tourbillon_litmus_prices(arguments: *const PriceArguments) {
    // SAFETY: the caller vouches for the arguments.
    let arguments = unsafe { arguments.read() };
    let until_ns = Nvptx::now_ns().wrapping_add(arguments.time_ns);
    let lane = Nvptx::lane();
    let device = (arguments.device_at as *mut Chunk).wrapping_add(lane as usize);
    let host = (arguments.host_at as *mut Chunk).wrapping_add(lane as usize);
    let note = |price: Price, took_ns: u64| {
        // The lanes are together again before the next is timed.
        Nvptx::sync_warp(u32::MAX);
        if lane == 0 {
            // SAFETY: the caller vouches for a time for each price.
            unsafe { (arguments.times_at as *mut u64).wrapping_add(price as usize).write(took_ns) };
        }
        Nvptx::sync_warp(u32::MAX);
    };
    // What was loaded last: 0, which only the memory knows; added to the next address.
    let mut loaded = 0u64;
    // SAFETY: every access is to the lane's own chunk, which holds zeros and is written with zeros.
    unsafe {
        note(Price::Nothing, timed!(arguments, until_ns, asm!("", options(nostack))));
        note(Price::FenceSys, timed!(arguments, until_ns, Nvptx::fence_release_sys()));
        note(Price::FenceGpu, timed!(arguments, until_ns, asm!("fence.acq_rel.gpu;", options(nostack))));
        note(Price::FenceCta, timed!(arguments, until_ns, Nvptx::acquire_fence_cta()));
        note(
            Price::StoreFenceSys,
            timed!(arguments, until_ns, {
                Nvptx::store_chunk_sys(host, Chunk::default());
                Nvptx::fence_release_sys();
            }),
        );
        note(
            Price::StoreFenceGpu,
            timed!(arguments, until_ns, {
                Nvptx::store_chunk_gpu(device, Chunk::default());
                asm!("fence.acq_rel.gpu;", options(nostack));
            }),
        );
        note(
            Price::LoadRelaxedGpu,
            timed!(arguments, until_ns, loaded = Nvptx::load_relaxed_gpu(behind(device, loaded))),
        );
        note(
            Price::LoadAcquireGpu,
            timed!(arguments, until_ns, loaded = Nvptx::load_acquire_gpu(behind(device, loaded))),
        );
        note(Price::StoreReleaseGpu, timed!(arguments, until_ns, Nvptx::store_release_gpu(device.cast(), 0)));
        note(
            Price::LoadRelaxedSys,
            timed!(arguments, until_ns, loaded = Nvptx::load_relaxed_sys(behind(host, loaded))),
        );
        note(Price::LoadAcquireSys, timed!(arguments, until_ns, loaded = load_acquire_sys(behind(host, loaded))));
        note(Price::StoreReleaseSys, timed!(arguments, until_ns, Nvptx::store_release_sys(host.cast(), 0)));
        note(
            Price::LoadChunkGpu,
            timed!(arguments, until_ns, loaded = Nvptx::load_chunk_gpu(behind(device, loaded).cast()).to_halves().1),
        );
        note(
            Price::LoadChunkSys,
            timed!(arguments, until_ns, loaded = Nvptx::load_chunk_sys(behind(host, loaded).cast()).to_halves().1),
        );
        // Used after all, or the assembler leaves the loads out whose values nobody needs.
        note(
            Price::Nothing,
            loaded.wrapping_add((arguments.times_at as *const u64).wrapping_add(Price::Nothing as usize).read()),
        );
    }
}

/// The address of `chunk`, which is not known before `loaded`, a zero, has come.
#[inline(always)]
fn behind(chunk: *mut Chunk, loaded: u64) -> *const u64 {
    chunk.cast::<u8>().wrapping_add(loaded as usize).cast()
}

/// A load that the engine has no use for: it fences behind a relaxed one, once for all lanes.
///
/// # Safety
/// `from` is valid and aligned.
#[inline(always)]
unsafe fn load_acquire_sys(from: *const u64) -> u64 {
    let value;
    // SAFETY: the caller vouches for the pointer.
    unsafe { asm!("ld.acquire.sys.global.u64 {0}, [{1}];", out(reg64) value, in(reg64) from, options(nostack)) };
    value
}
