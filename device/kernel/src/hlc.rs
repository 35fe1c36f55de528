//! The price of a timestamp: what the engine does for the clock of a window, and nothing else of it.
//!
//! Made of the engine's own parts, so that it follows their changes: the warp and its greatest value, the device
//! clock, the update. Frames, directory and handlers are left out. The shard's clock and the arrivals lie in the
//! block's memory, where the engine has the clock and its staged frames.

use tourbillon_device::arch::Arch;
use tourbillon_device::arch::nvptx::Nvptx;
use tourbillon_device::clock::Clock;
use tourbillon_device::warp::Warp;
use tourbillon_shared::geometry::BLOCK_MEMORY_BYTES;
use tourbillon_shared::header::Arrival;
use tourbillon_shared::hlc;
use tourbillon_shared::hlc_bench::{ARRIVALS, HlcArguments, STAMPED_FRAMES_MAX};

/// Words of the block's memory: the arrivals, the stamps of a batch, the shard's clock.
const STAMPS_AT: usize = ARRIVALS;
const CLOCK_AT: usize = STAMPS_AT + STAMPED_FRAMES_MAX as usize;
const _: () = assert!((CLOCK_AT + 1) * 8 <= BLOCK_MEMORY_BYTES);

/// What a batch works on.
#[derive(Clone, Copy)]
struct Places {
    /// The arrivals, in the block's memory.
    arrivals: *const u64,
    /// The timestamps of a batch, in the block's memory.
    stamps: *mut u64,
    /// The shard's clock, in the block's memory.
    clock: *mut u64,
    /// The readings of the device clock, in device memory.
    readings: *mut u64,
}

/// Stamps batch after batch, and notes when it began and ended.
///
/// # Safety
/// `arguments` points to valid [`HlcArguments`]; the grid is one block of one warp.
#[unsafe(no_mangle)]
pub unsafe extern "ptx-kernel" fn tourbillon_hlc_updates(arguments: *const HlcArguments) {
    // SAFETY: the caller vouches for the arguments.
    let arguments = unsafe { arguments.read() };
    let warp = Warp::<Nvptx, true>::whole();
    let arrivals = Nvptx::block_memory().cast::<u64>();
    let (stamps, shard) = (arrivals.wrapping_add(STAMPS_AT), arrivals.wrapping_add(CLOCK_AT));
    let places = Places { arrivals, stamps, clock: shard, readings: arguments.readings_at as *mut u64 };
    let mut index = warp.rank() as usize;
    while index < ARRIVALS {
        // SAFETY: inside the arrivals, whose places in the block's memory are this lane's until the sync.
        unsafe { arrivals.wrapping_add(index).write((arguments.arrivals_at as *const u64).wrapping_add(index).read()) };
        index = index.wrapping_add(warp.size() as usize);
    }
    // SAFETY: the stamp is this lane's own, and until the sync the clock is rank 0's; the caller vouches for its word.
    unsafe {
        stamps.wrapping_add(warp.rank() as usize).write(0);
        if warp.rank() == 0 {
            Nvptx::store_cta(shard, (arguments.clock_at as *const u64).read());
        }
    }
    warp.sync();
    let began_ns = warp.broadcast_u64(Nvptx::now_ns(), 0);
    let clock = Clock::new(arguments.clock_offset_ns, began_ns);
    // SAFETY: all places are filled; the caller vouches for the readings.
    unsafe {
        if arguments.frames == 1 {
            stamp_lone(&warp, &arguments, &clock, places);
        } else {
            stamp_batches(&warp, &arguments, &clock, places);
        }
    }
    warp.sync();
    let ended_ns = Nvptx::now_ns();
    // SAFETY: the caller vouches for all three; every lane writes its own stamp.
    unsafe {
        let stamp = stamps.wrapping_add(warp.rank() as usize).read();
        (arguments.stamps_at as *mut u64).wrapping_add(warp.rank() as usize).write(stamp);
        if warp.rank() == 0 {
            let times = arguments.times_at as *mut u64;
            times.write(began_ns);
            times.wrapping_add(1).write(ended_ns);
            (arguments.clock_at as *mut u64).write(Nvptx::load_cta(shard));
        }
    }
}

/// Batches of several frames, as a window is stamped: all lanes together, one update for all frames.
///
/// # Safety
/// The places are filled, and no other warp uses them; the readings have room for every batch.
#[inline(always)]
unsafe fn stamp_batches(warp: &Warp<Nvptx, true>, arguments: &HlcArguments, clock: &Clock, places: Places) {
    let rank = warp.rank();
    let mut batch = 0;
    while batch < arguments.batches {
        // Every lane reads another time: timestamps must come from one of them.
        let now_ns = warp.broadcast_u64(Nvptx::now_ns(), 0);
        let physical = clock.physical(now_ns);
        let mut remote = 0;
        if rank < arguments.frames {
            // SAFETY: inside the arrivals.
            let arrival =
                unsafe { arrival_of(places.arrivals, batch.wrapping_mul(arguments.frames).wrapping_add(rank)) };
            remote = hlc::from_delta(arrival.hlc_delta, physical);
        }
        let most = warp.max_u64(remote);
        // SAFETY: rank 0 writes the clock, between the two syncs only.
        let first = hlc::update(unsafe { Nvptx::load_cta(places.clock) }, most, physical);
        warp.sync();
        // SAFETY: every lane has read the clock; a reading for each batch and a stamp for each frame have room.
        unsafe {
            if rank == 0 {
                Nvptx::store_cta(places.clock, first.wrapping_add(arguments.frames.wrapping_sub(1).into()));
                places.readings.wrapping_add(batch as usize).write(now_ns);
            }
            if rank < arguments.frames {
                places.stamps.wrapping_add(rank as usize).write(first.wrapping_add(rank.into()));
            }
        }
        warp.sync();
        batch = batch.wrapping_add(1);
    }
}

/// Batches of one frame, as a lone message is stamped: by one lane, which the others wait for.
///
/// # Safety
/// As for [`stamp_batches`].
#[inline(always)]
unsafe fn stamp_lone(warp: &Warp<Nvptx, true>, arguments: &HlcArguments, clock: &Clock, places: Places) {
    let mut batch = 0;
    while batch < arguments.batches {
        let now_ns = Nvptx::now_ns();
        if warp.rank() == 0 {
            // SAFETY: this lane alone works on the clock, and a reading for each batch has room.
            unsafe {
                let last = Nvptx::load_cta(places.clock);
                let arrival = arrival_of(places.arrivals, batch);
                let physical = clock.physical(now_ns);
                let event = hlc::update(last, hlc::from_delta(arrival.hlc_delta, physical), physical);
                Nvptx::store_cta(places.clock, event);
                places.readings.wrapping_add(batch as usize).write(now_ns);
                places.stamps.write(event);
            }
        }
        // The next message finds the clock in memory.
        warp.sync();
        batch = batch.wrapping_add(1);
    }
}

/// Arrival number `number`, going round.
///
/// # Safety
/// `arrivals` points to [`ARRIVALS`] of them.
#[inline(always)]
unsafe fn arrival_of(arrivals: *const u64, number: u32) -> Arrival {
    // SAFETY: the caller vouches for the arrivals; the mask keeps the index inside.
    Arrival::decode(unsafe { arrivals.wrapping_add(number as usize & (ARRIVALS - 1)).read() })
}
