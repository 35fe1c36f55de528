//! What a gateway allocates: places for those who wait, while they are more than ever before, and nothing else.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use tourbillon::actors::echo::Ping64;
use tourbillon::{Ask, Gateway};
use tourbillon_tests::futures::{assert_nothing_is_lost, poll_once, poll_until_ready};
use tourbillon_tests::on_backends;

/// Counts what the whole process allocates.
struct Counting;

/// Allocations so far.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is passed on to the system's allocator as it comes; the count changes nothing about it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller vouches for the layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller vouches for both.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Asks of which some are answered at once, some staged, some given up while they are staged and some in flight.
fn round(gateway: &Gateway, asks: &mut Vec<Ask<Ping64>>, seed: u32) {
    asks.extend((0..100u32).map(|i| gateway.ask(u64::from(i % 9), Ping64 { words: [seed + i; 16] })));
    for ask in &mut *asks {
        let _ = poll_once(ask);
    }
    for i in (0..100).step_by(3).rev() {
        drop(asks.swap_remove(i));
    }
    asks.clear();
    assert_nothing_is_lost(gateway);
    asks.extend((0..20).map(|i| gateway.ask(i, Ping64 { words: [seed; 16] })));
    for mut ask in asks.drain(..) {
        assert_eq!(poll_until_ready(&mut ask), Ok(Ping64 { words: [seed; 16] }));
    }
}

on_backends! {
    [native_1]
    fn asks_allocate_nothing_once_there_are_places_for_them(bench: &Bench) {
        let engine = bench.builder().ring_capacity(64).build().unwrap();
        let gateway = Gateway::builder(&engine).lanes(2).staging(16).build().unwrap();
        let mut asks = Vec::with_capacity(100);
        // As many wait at once as ever will: nothing is answered in a pause.
        engine.pause().unwrap();
        asks.extend((0..100).map(|i| gateway.ask(i % 9, Ping64 { words: [1; 16] })));
        assert!(asks.iter_mut().all(|ask| poll_once(ask).is_pending()));
        asks.clear();
        engine.resume().unwrap();
        round(&gateway, &mut asks, 1);
        let (pooled, before) = (gateway.usage().pooled, ALLOCATIONS.load(Ordering::Relaxed));
        for seed in 0..200 {
            round(&gateway, &mut asks, seed + 100);
        }
        // 24,000 asks; what else lives in the process may allocate a little.
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        assert!(allocations < 200, "{allocations} allocations");
        assert_eq!(gateway.usage().pooled, pooled);
    }
}
