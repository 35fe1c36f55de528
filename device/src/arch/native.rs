//! CPU threads: one lane a warp, one warp a thread, one block.
//!
//! A thread with nothing to do spins a little, then yields, then parks with a timeout. Whoever publishes work rings the
//! [`Doorbell`]; work that comes in another way is seen after [`PARK_MAX`] at the latest.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Barrier, Condvar, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use tourbillon_shared::error::{PanicPlace, file_hash};
use tourbillon_shared::geometry::{BLOCK_MEMORY_BYTES, KernelArguments};
use tourbillon_shared::slot::{Chunk, TAG_WORD};

use super::{Arch, ordering};
use crate::system::System;

/// Longest park of an idle thread, and so the longest that a message of another process waits. At 250 wake-ups a second an idle
/// engine stays far below 2 % of a core.
pub const PARK_MAX: Duration = Duration::from_millis(4);
/// Idle rounds that only spin: a few microseconds, in which a busy caller comes back.
const SPIN_ROUNDS: u32 = 64;
/// Idle rounds after which a thread parks; those before it yield to other threads.
const YIELD_ROUNDS: u32 = 512;
/// Rounds between the announcement of a park and the park: enough for a look at every lane.
const SWEEP_ROUNDS: u32 = 2 * tourbillon_shared::lane::LANES_MAX;

/// CPU threads.
#[derive(Clone, Copy, Debug)]
pub struct Native;

/// Wakes the threads of an engine.
///
/// A thread announces that it will park, looks everywhere once more, then parks unless the bell rang since.
#[derive(Debug, Default)]
pub struct Doorbell {
    announced: AtomicU32,
    rung: Mutex<u64>,
    bell: Condvar,
}

impl Doorbell {
    /// Wakes all parked threads. Call it after publishing work.
    #[inline]
    pub fn ring(&self) {
        // SeqCst pairs with the fence in `announce`: either this sees the announcement, or the look that follows the
        // announcement sees the work.
        fence(Ordering::SeqCst);
        if self.announced.load(Ordering::Relaxed) != 0 {
            let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
            *rung = rung.wrapping_add(1);
            self.bell.notify_all();
        }
    }

    /// Announces a park; returns what [`park`](Self::park) needs.
    fn announce(&self) -> u64 {
        self.announced.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Parks for [`PARK_MAX`] at most, unless the bell rang since the announcement, which it takes back.
    fn park(&self, announcement: u64) {
        let guard = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        if *guard == announcement {
            drop(self.bell.wait_timeout(guard, PARK_MAX));
        }
        self.announced.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the threads of one engine share.
#[derive(Debug)]
pub struct Grid {
    memory: Box<BlockMemory>,
    barrier: Barrier,
    doorbell: Arc<Doorbell>,
}

#[derive(Debug)]
#[repr(C, align(128))]
struct BlockMemory([AtomicU64; BLOCK_MEMORY_BYTES / 8]);

impl Grid {
    /// The grid for one launch with `warps` threads.
    pub fn new(warps: u32, doorbell: Arc<Doorbell>) -> Self {
        Self {
            memory: Box::new(BlockMemory([const { AtomicU64::new(0) }; BLOCK_MEMORY_BYTES / 8])),
            barrier: Barrier::new(warps as usize),
            doorbell,
        }
    }
}

struct Current {
    warp: u32,
    memory: *mut u8,
    grid: *const Grid,
}

thread_local! {
    static CURRENT: Cell<Option<&'static Current>> = const { Cell::new(None) };
    static PANIC: RefCell<PanicPlace> = const { RefCell::new(PanicPlace { line: 0, column: 0, file: 0 }) };
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static ANNOUNCEMENT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Runs warp `warp` of the grid on the calling thread until the kernel is stopped.
///
/// # Safety
/// See [`SystemImage::run_native`](crate::SystemImage::run_native).
pub unsafe fn run_warp<S: System>(arguments: *const KernelArguments, grid: &Grid, warp: u32) {
    note_panics();
    let current = Current { warp, memory: grid.memory.0.as_ptr().cast_mut().cast(), grid };
    let lasting: *const Current = &current;
    // SAFETY: the reference is taken out of the thread's cell again before `current` goes; the kernel below never unwinds
    // out of `run`, because every handler runs under `guard`.
    CURRENT.set(Some(unsafe { &*lasting }));
    // SAFETY: the caller vouches for the arguments.
    unsafe { crate::kernel::run::<Native, S>(arguments) };
    CURRENT.set(None);
}

/// Makes panics of handlers silent, for they are answered to the sender, and notes where they happened. Panics elsewhere go to the
/// hook that was there before.
pub(super) fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                return before(info);
            }
            let place = info.location().map_or(PanicPlace::default(), |location| PanicPlace {
                line: location.line(),
                column: location.column(),
                file: file_hash(location.file()),
            });
            PANIC.set(place);
            if let Some(location) = info.location()
                && !tourbillon_shared::mutant!("panic_file_unnoted")
            {
                crate::panic_files::note(location.file());
            }
        }));
    });
}

/// Runs `f` with panics silenced and noted; for the machines on a host.
pub(super) fn guarded<T>(f: impl FnOnce() -> T) -> T {
    struct Reset(bool);
    impl Drop for Reset {
        fn drop(&mut self) {
            GUARDED.set(self.0);
        }
    }
    let _reset = Reset(GUARDED.replace(true));
    f()
}

/// Where the last panic under [`guarded`] was.
pub(super) fn noted_panic() -> PanicPlace {
    PANIC.with_borrow(|place| *place)
}

fn current() -> &'static Current {
    CURRENT.get().expect("the dispatch loop runs on a thread of an engine")
}

/// Loads a chunk: the tag with acquire, then the words.
///
/// # Safety
/// `from` is aligned to 16 and valid for reads.
#[inline(always)]
pub unsafe fn load_chunk(from: *const Chunk) -> Chunk {
    // SAFETY: the caller vouches for `from`; every access to ring memory on a host is atomic by words.
    let words = unsafe { &*from.cast::<[AtomicU32; 4]>() };
    // Acquire pairs with the Release of the tag in `store_chunk`.
    let tag = words[TAG_WORD].load(ordering::tag_load());
    let [a, b, c, _] = words;
    Chunk::new([a.load(Ordering::Relaxed), b.load(Ordering::Relaxed), c.load(Ordering::Relaxed)], tag)
}

/// Stores a chunk: the words, then the tag with release.
///
/// # Safety
/// `to` is aligned to 16 and valid for writes.
#[inline(always)]
pub unsafe fn store_chunk(to: *mut Chunk, chunk: Chunk) {
    // SAFETY: as in `load_chunk`.
    let words = unsafe { &*to.cast::<[AtomicU32; 4]>() };
    if tourbillon_shared::mutant!("tag_first") {
        words[TAG_WORD].store(chunk.tag(), Ordering::Relaxed);
        for (word, value) in words.iter().zip(chunk.words).take(TAG_WORD) {
            std::thread::yield_now();
            word.store(value, Ordering::Relaxed);
        }
        return;
    }
    for (word, value) in words.iter().zip(chunk.words).take(TAG_WORD) {
        word.store(value, Ordering::Relaxed);
    }
    // Release pairs with the Acquire of the tag in `load_chunk`.
    words[TAG_WORD].store(chunk.tag(), ordering::tag_store());
}

/// Loads sixteen bytes by double words.
///
/// # Safety
/// `from` is aligned to 16 and valid for reads.
#[inline(always)]
pub(super) unsafe fn load_payload(from: *const Chunk) -> Chunk {
    // SAFETY: the caller vouches for `from`; an arena is only accessed atomically by the kernel.
    let [low, high] = unsafe { &*from.cast::<[AtomicU64; 2]>() };
    Chunk::from_halves(low.load(Ordering::Relaxed), high.load(Ordering::Relaxed))
}

/// Stores sixteen bytes by double words.
///
/// # Safety
/// `to` is aligned to 16 and valid for writes.
#[inline(always)]
pub(super) unsafe fn store_payload(to: *mut Chunk, bytes: Chunk) {
    // SAFETY: as in `load_payload`.
    let [low, high] = unsafe { &*to.cast::<[AtomicU64; 2]>() };
    let halves = bytes.to_halves();
    low.store(halves.0, Ordering::Relaxed);
    high.store(halves.1, Ordering::Relaxed);
}

/// A word as an atomic.
///
/// # Safety
/// `at` is valid and aligned for as long as the reference is used.
#[inline(always)]
pub(super) unsafe fn word<'a>(at: *const u32) -> &'a AtomicU32 {
    // SAFETY: the caller vouches for it.
    unsafe { &*at.cast() }
}

/// A double word as an atomic.
///
/// # Safety
/// `at` is valid and aligned for as long as the reference is used.
#[inline(always)]
pub(super) unsafe fn double<'a>(at: *const u64) -> &'a AtomicU64 {
    // SAFETY: the caller vouches for it.
    unsafe { &*at.cast() }
}

/// Nanoseconds since the first call in this process.
pub(super) fn monotonic_ns() -> u64 {
    static ORIGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    ORIGIN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

macro_rules! host_memory_operations {
    () => {
        #[inline(always)]
        fn pin_u64(value: u64) -> u64 {
            value
        }
        #[inline(always)]
        fn fence_acquire_sys() {
            // Pairs with the Release of the head's tag by the host.
            if let Some(ordering) = $crate::arch::ordering::arena_acquire() {
                std::sync::atomic::fence(ordering);
            }
        }
        #[inline(always)]
        unsafe fn load_acquire_gpu(from: *const u64) -> u64 {
            // SAFETY: the caller vouches for the pointer. Acquire pairs with `store_release_gpu`.
            unsafe { $crate::arch::native::double(from) }.load($crate::arch::ordering::freed_load())
        }
        #[inline(always)]
        unsafe fn load_relaxed_gpu(from: *const u64) -> u64 {
            // SAFETY: the caller vouches for the pointer.
            unsafe { $crate::arch::native::double(from) }.load(std::sync::atomic::Ordering::Relaxed)
        }
        #[inline(always)]
        unsafe fn store_relaxed_gpu(to: *mut u64, value: u64) {
            // SAFETY: the caller vouches for the pointer.
            unsafe { $crate::arch::native::double(to) }.store(value, std::sync::atomic::Ordering::Relaxed)
        }
        #[inline(always)]
        unsafe fn peek_obeyed_gpu(from: *const u32) -> u32 {
            // SAFETY: the caller vouches for the pointer.
            unsafe { $crate::arch::native::word(from) }.load(std::sync::atomic::Ordering::Relaxed)
        }
        #[inline(always)]
        unsafe fn load_obeyed_gpu(from: *const u32) -> u32 {
            // SAFETY: the caller vouches for the pointer.
            unsafe { $crate::arch::native::word(from) }.load($crate::arch::ordering::obeyed_load())
        }
        #[inline(always)]
        unsafe fn store_obeyed_gpu(to: *mut u32, value: u32) {
            // SAFETY: the caller vouches for the pointer.
            unsafe { $crate::arch::native::word(to) }.store(value, $crate::arch::ordering::obeyed_store())
        }
        #[inline(always)]
        unsafe fn store_release_sys(to: *mut u64, value: u64) {
            // SAFETY: the caller vouches for the pointer.
            unsafe { $crate::arch::native::double(to) }.store(value, $crate::arch::ordering::obeyed_store())
        }
        #[inline(always)]
        unsafe fn add_relaxed_gpu(to: *mut u64, value: u64) {
            // SAFETY: the caller vouches for the pointer.
            unsafe { $crate::arch::native::double(to) }.fetch_add(value, std::sync::atomic::Ordering::Relaxed);
        }
        #[inline(always)]
        unsafe fn take_room_gpu(room: *mut u64, slots: u64) -> u64 {
            // SAFETY: the caller vouches for the pointer. Acquire pairs with the fence in `fence_acquire_sys`
            // that stands in front of the control warp's addition.
            unsafe { $crate::arch::native::double(room) }.fetch_sub(slots, $crate::arch::ordering::room_take())
        }
        #[inline(always)]
        unsafe fn add_own_gpu(word: *mut u64, value: u64) -> u64 {
            // SAFETY: the caller vouches for the pointer.
            unsafe { $crate::arch::native::double(word) }.fetch_add(value, std::sync::atomic::Ordering::Relaxed)
        }
        #[inline(always)]
        unsafe fn take_place_gpu(tail: *mut u64, slots: u64) -> u64 {
            // SAFETY: the caller vouches for the pointer. Acquire pairs with the Release in `tell_read_gpu` and `take_ticket_gpu`.
            unsafe { $crate::arch::native::double(tail) }.fetch_add(slots, $crate::arch::ordering::place_take())
        }
        #[inline(always)]
        unsafe fn tell_read_gpu(tail: *mut u64) {
            // SAFETY: the caller vouches for the pointer. Release pairs with the Acquire in `take_place_gpu`.
            unsafe { $crate::arch::native::double(tail) }.fetch_add(0, $crate::arch::ordering::read_tell());
        }
        #[inline(always)]
        unsafe fn give_room_gpu(room: *mut u64, slots: u64) {
            // SAFETY: the caller vouches for the pointer. Release pairs with the Acquire in `take_room_gpu`.
            unsafe { $crate::arch::native::double(room) }.fetch_add(slots, $crate::arch::ordering::room_give());
        }
        #[inline(always)]
        unsafe fn take_ticket_gpu(tail: *mut u64, slots: u64) -> u64 {
            // SAFETY: the caller vouches for the pointer. Each ticket's Release pairs with the Acquire of the next.
            unsafe { $crate::arch::native::double(tail) }.fetch_add(slots, $crate::arch::ordering::ticket_take())
        }
        #[inline(always)]
        unsafe fn advance_gpu(word: *mut u64, from: u64) {
            use std::sync::atomic::Ordering::Relaxed;
            let to = from.wrapping_add(1);
            // SAFETY: the caller vouches for the pointer. Acquire and Release pair with themselves; Release pairs with the
            // Acquire of `load_acquire_gpu` of the epoch. Somebody else may have moved it on.
            let word = unsafe { $crate::arch::native::double(word) };
            let _ = word.compare_exchange(from, to, $crate::arch::ordering::epoch_advance(), Relaxed);
        }
        #[inline(always)]
        fn fence_sc_gpu() {
            if let Some(ordering) = $crate::arch::ordering::epoch_fence() {
                std::sync::atomic::fence(ordering);
            }
        }
        #[inline(always)]
        unsafe fn load_relaxed_sys(from: *const u64) -> u64 {
            // SAFETY: the caller vouches for the pointer.
            unsafe { $crate::arch::native::double(from) }.load(std::sync::atomic::Ordering::Relaxed)
        }
        #[inline(always)]
        unsafe fn store_relaxed_sys(to: *mut u64, value: u64) {
            // SAFETY: the caller vouches for the pointer.
            unsafe { $crate::arch::native::double(to) }.store(value, std::sync::atomic::Ordering::Relaxed)
        }
        #[inline(always)]
        unsafe fn try_take_cta(word: *mut u32, to: u32) -> u32 {
            use std::sync::atomic::Ordering::Relaxed;
            // SAFETY: the caller vouches for the pointer.
            let taken = unsafe { $crate::arch::native::word(word) }.compare_exchange(0, to, Relaxed, Relaxed);
            taken.unwrap_or_else(|before| before)
        }
        #[inline(always)]
        fn acquire_fence_cta() {
            // Pairs with the Release in `release_cta`.
            if let Some(ordering) = $crate::arch::ordering::turn_fence() {
                std::sync::atomic::fence(ordering);
            }
        }
        #[inline(always)]
        unsafe fn bring_near(_from: *const Chunk, _to: *mut Chunk) {}
        #[inline(always)]
        unsafe fn load_early(from: *const Chunk) -> Chunk {
            // SAFETY: the caller vouches for the pointer.
            unsafe { from.read() }
        }
        #[inline(always)]
        unsafe fn load_own(from: *const Chunk) -> Chunk {
            // SAFETY: the caller vouches for the pointer.
            unsafe { from.read() }
        }
        #[inline(always)]
        unsafe fn load_staged(from: *const Chunk) -> Chunk {
            // SAFETY: the caller vouches for the pointer.
            unsafe { from.read() }
        }
        #[inline(always)]
        unsafe fn store_staged(to: *mut Chunk, chunk: Chunk) {
            // SAFETY: the caller vouches for the pointer.
            unsafe { to.write(chunk) };
        }
        #[inline(always)]
        unsafe fn store_staged_if(stores: bool, to: *mut Chunk, chunk: Chunk) {
            if stores {
                // SAFETY: the caller vouches for the pointer.
                unsafe { to.write(chunk) };
            }
        }
        #[inline(always)]
        unsafe fn try_acquire_cta(lock: *mut u32, tries: bool) -> bool {
            use std::sync::atomic::Ordering;
            if !tries {
                return false;
            }
            if tourbillon_shared::mutant!("turn_without_lock") {
                return true;
            }
            // SAFETY: the caller vouches for the pointer. Acquire pairs with the Release in `release_cta`.
            unsafe { $crate::arch::native::word(lock) }
                .compare_exchange(0, 1, $crate::arch::ordering::turn_take(), Ordering::Relaxed)
                .is_ok()
        }
        #[inline(always)]
        unsafe fn release_cta(lock: *mut u32) {
            // SAFETY: the caller vouches for the pointer. Release pairs with the Acquire in `try_acquire_cta`.
            unsafe { $crate::arch::native::word(lock) }.store(0, $crate::arch::ordering::turn_give());
        }
        #[inline(always)]
        unsafe fn decrement_cta(at: *mut u32) -> u32 {
            // SAFETY: the caller vouches for the pointer. Each decrement's Release pairs with the Acquire of the last.
            unsafe { $crate::arch::native::word(at) }.fetch_sub(1, $crate::arch::ordering::countdown())
        }
        #[inline(always)]
        unsafe fn load_cta(from: *const u64) -> u64 {
            // SAFETY: the caller vouches for the pointer.
            unsafe { $crate::arch::native::double(from) }.load(std::sync::atomic::Ordering::Relaxed)
        }
        #[inline(always)]
        unsafe fn store_cta(to: *mut u64, value: u64) {
            // SAFETY: the caller vouches for the pointer.
            unsafe { $crate::arch::native::double(to) }.store(value, std::sync::atomic::Ordering::Relaxed)
        }
        #[inline(always)]
        unsafe fn load_pool(from: *const u64) -> u64 {
            // SAFETY: the caller vouches for the pointer.
            unsafe { $crate::arch::native::double(from) }.load(std::sync::atomic::Ordering::Relaxed)
        }
        #[inline(always)]
        unsafe fn store_pool(to: *mut u64, value: u64) {
            // SAFETY: the caller vouches for the pointer.
            unsafe { $crate::arch::native::double(to) }.store(value, std::sync::atomic::Ordering::Relaxed)
        }
        #[inline(always)]
        unsafe fn add_pool(to: *mut u64, value: u64) -> u64 {
            // SAFETY: the caller vouches for the pointer.
            unsafe { $crate::arch::native::double(to) }.fetch_add(value, std::sync::atomic::Ordering::Relaxed)
        }
        #[inline(always)]
        unsafe fn count_pool(to: *mut u64, value: u64) {
            // SAFETY: the caller vouches for the pointer.
            unsafe { Self::add_pool(to, value) };
        }
    };
}
#[cfg_attr(not(feature = "simt"), allow(unused_imports, reason = "the simulated machine uses it too"))]
pub(super) use host_memory_operations;

impl Arch for Native {
    const LANES: u32 = 1;
    const SLEEPS: bool = true;
    const WATCH_ROUNDS: u32 = 1;
    const HOME_ROUNDS: u32 = 1;
    const BURST_NS: u64 = 2_000;

    fn lane() -> u32 {
        0
    }
    fn warp() -> u32 {
        current().warp
    }
    fn block() -> u32 {
        0
    }
    fn block_memory() -> *mut u8 {
        current().memory
    }
    fn block_barrier() {
        // SAFETY: the grid outlives the run that set it.
        unsafe { &*current().grid }.barrier.wait();
    }

    #[inline(always)]
    fn ballot(mask: u32, predicate: bool) -> u32 {
        mask & u32::from(predicate)
    }
    #[inline(always)]
    fn shuffle(_mask: u32, value: u32, _lane: u32) -> u32 {
        value
    }
    #[inline(always)]
    fn match_any(mask: u32, _value: u64) -> u32 {
        mask
    }
    #[inline(always)]
    fn sync_warp(_mask: u32) {}
    fn exit_lane() -> ! {
        unreachable!("a CPU thread catches panics and never loses its lane")
    }

    fn guard(f: impl FnOnce()) -> bool {
        // A handler works on a copy of the state, which the unwinding throws away: nothing half-written remains.
        catch_unwind(AssertUnwindSafe(|| guarded(f))).is_ok()
    }
    fn last_panic() -> PanicPlace {
        noted_panic()
    }

    #[inline(always)]
    unsafe fn load_chunk_sys(from: *const Chunk) -> Chunk {
        // SAFETY: the caller vouches for the pointer.
        unsafe { load_chunk(from) }
    }
    #[inline(always)]
    unsafe fn store_chunk_sys(to: *mut Chunk, chunk: Chunk) {
        // SAFETY: the caller vouches for the pointer.
        unsafe { store_chunk(to, chunk) }
    }
    #[inline(always)]
    unsafe fn load_payload_sys(from: *const Chunk) -> Chunk {
        // SAFETY: the caller vouches for the pointer.
        unsafe { load_payload(from) }
    }
    #[inline(always)]
    unsafe fn store_payload_sys(to: *mut Chunk, bytes: Chunk) {
        // SAFETY: the caller vouches for the pointer.
        unsafe { store_payload(to, bytes) }
    }
    #[inline(always)]
    fn fence_release_sys() {
        // Pairs with the Acquire of the reply's tags by the host.
        if let Some(ordering) = ordering::arena_release() {
            fence(ordering);
        }
    }
    #[inline(always)]
    unsafe fn load_chunk_gpu(from: *const Chunk) -> Chunk {
        // SAFETY: the caller vouches for the pointer.
        unsafe { load_chunk(from) }
    }
    #[inline(always)]
    unsafe fn store_chunk_gpu(to: *mut Chunk, chunk: Chunk) {
        // SAFETY: the caller vouches for the pointer.
        unsafe { store_chunk(to, chunk) }
    }
    #[inline(always)]
    unsafe fn store_release_gpu(to: *mut u64, value: u64) {
        // SAFETY: the caller vouches for the pointer. Release pairs with `load_acquire_gpu`.
        unsafe { double(to) }.store(value, ordering::freed_store());
    }

    host_memory_operations!();

    fn now_ns() -> u64 {
        monotonic_ns()
    }

    fn relax(idle_rounds: u32) {
        if idle_rounds < SPIN_ROUNDS {
            core::hint::spin_loop();
        } else if idle_rounds < YIELD_ROUNDS {
            std::thread::yield_now();
        } else {
            // SAFETY: the grid outlives the run that set it.
            let doorbell = &unsafe { &*current().grid }.doorbell;
            match (idle_rounds - YIELD_ROUNDS) % SWEEP_ROUNDS {
                0 if ANNOUNCEMENT.get().is_none() => ANNOUNCEMENT.set(Some(doorbell.announce())),
                round if round == SWEEP_ROUNDS - 1 => {
                    if let Some(announcement) = ANNOUNCEMENT.take() {
                        doorbell.park(announcement);
                    }
                }
                _ => core::hint::spin_loop(),
            }
        }
    }

    fn wait_until(_at_ns: u64) {}
    #[inline(always)]
    fn rest(_ns: u32) {
        std::thread::yield_now();
    }
}
