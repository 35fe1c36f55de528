//! Models of pools: pages taken and given by several lanes, and blocks that others read.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, Ordering};
use tourbillon_device::arch::ordering;
use tourbillon_shared::epoch::{self, EpochWords, epoch_of_the_gone, is_held_up, is_over};
use tourbillon_shared::pool::{PoolWords, give_pages, take_page};
use tourbillon_shared::published::{Standing, standing, taken_back, version_of};

use super::explore;

/// A pool of three pages.
struct Pages {
    free: AtomicU64,
    begun: AtomicU64,
    /// Plain memory: loom reports any access that nothing orders.
    stack: [UnsafeCell<u32>; 3],
}

impl PoolWords for Pages {
    fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }
    fn add_free(&self, pages: u64) -> u64 {
        self.free.fetch_add(pages, Ordering::Relaxed)
    }
    fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }
    fn add_begun(&self, pages: u64) -> u64 {
        self.begun.fetch_add(pages, Ordering::Relaxed)
    }
    fn read_place(&self, index: u64) -> u32 {
        // SAFETY: nobody writes while pages are taken.
        self.stack[index as usize].with(|page| unsafe { *page })
    }
    fn write_place(&self, index: u64, page: u32) {
        // SAFETY: the place is the caller's.
        self.stack[index as usize].with_mut(|place| unsafe { *place = page });
    }
}

/// Lanes take pages at the same time, more than there are, and all come back; then they give them at the same time, and all come back:
/// no page is held twice or lost, and no lane goes without while there is one.
#[test]
fn pages_are_taken_and_given_once() {
    explore(|| {
        const PAGES: u32 = 3;
        let pool = Arc::new(Pages {
            free: AtomicU64::new(1),
            begun: AtomicU64::new(1),
            stack: [UnsafeCell::new(1), UnsafeCell::new(0), UnsafeCell::new(0)],
        });
        let both = |step: fn(&Pages, Vec<u32>) -> Vec<u32>, mine: Vec<u32>, theirs: Vec<u32>| {
            let other = {
                let pool = Arc::clone(&pool);
                loom::thread::spawn(move || step(&pool, theirs))
            };
            let mine = step(&pool, mine);
            (mine, other.join().unwrap())
        };
        for _ in 0..2 {
            let take = |pool: &Pages, _| (0..2).map_while(|_| take_page(pool, PAGES)).collect();
            let (mine, theirs) = both(take, Vec::new(), Vec::new());
            let mut all = [mine.clone(), theirs.clone()].concat();
            all.sort_unstable();
            assert_eq!(all, [1, 2, 3]);
            let give = |pool: &Pages, pages: Vec<u32>| {
                let first = give_pages(pool, pages.len() as u64);
                (first..).zip(&pages).for_each(|(index, page)| pool.write_place(index, *page));
                Vec::new()
            };
            both(give, mine, theirs);
            assert_eq!((pool.free(), pool.begun()), (3, 3));
        }
    });
}

/// The epoch, and what one warp announces.
struct Epoch {
    epoch: AtomicU64,
    announced: AtomicU64,
}

impl EpochWords for Epoch {
    fn epoch(&self) -> u64 {
        self.epoch.load(ordering::freed_load())
    }
    fn advance(&self, epoch: u64) {
        let _ = self.epoch.compare_exchange(epoch, epoch + 1, ordering::epoch_advance(), Ordering::Relaxed);
    }
    fn announced(&self, _warp: u32) -> u64 {
        self.announced.load(Ordering::Relaxed)
    }
    fn announce(&self, _warp: u32, word: u64) {
        self.announced.store(word, ordering::freed_store());
    }
    fn fence(&self) {
        if let Some(ordering) = ordering::epoch_fence() {
            loom::sync::atomic::fence(ordering);
        }
    }
}

impl Epoch {
    /// Moves the epoch on, if nobody holds it up.
    fn try_advance(&self) {
        let epoch = self.epoch();
        if !is_held_up(self, epoch, 0, 1, 1) {
            self.advance(epoch);
        }
    }
}

/// An owner publishes a block and takes it back, while a warp reads it if it finds it, and another moves the epoch on as the owner
/// does. The page is used again only when nobody reads it: it is plain memory, and loom reports any access that nothing orders.
#[test]
fn a_page_is_used_again_when_nobody_reads_it() {
    static FOUND: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    static USED_AGAIN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    let std_relaxed = std::sync::atomic::Ordering::Relaxed;
    explore(move || {
        let version = version_of(5);
        let shared = Arc::new((
            Epoch { epoch: AtomicU64::new(0), announced: AtomicU64::new(0) },
            AtomicU64::new(0),
            UnsafeCell::new(0u64),
        ));
        let reader = {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || {
                let (words, word, page) = &*shared;
                epoch::enter(words, 0);
                if standing(word.load(ordering::freed_load()), version) == Standing::There {
                    // SAFETY: the block was found, and the warp has announced that it reads.
                    assert_eq!(page.with(|page| unsafe { *page }), 7);
                    FOUND.store(true, std_relaxed);
                }
                epoch::leave(words, 0);
            })
        };
        let helper = {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || shared.0.try_advance())
        };
        let (words, word, page) = &*shared;
        // SAFETY: nobody knows of the page.
        page.with_mut(|page| unsafe { *page = 7 });
        word.store(version, ordering::freed_store());
        word.store(taken_back(version), Ordering::Relaxed);
        let gone = epoch_of_the_gone(words);
        words.try_advance();
        words.try_advance();
        if is_over(gone, words.epoch()) {
            // SAFETY: two epochs have ended.
            page.with_mut(|page| unsafe { *page = 9 });
            USED_AGAIN.store(true, std_relaxed);
        }
        reader.join().unwrap();
        helper.join().unwrap();
    });
    assert!(FOUND.load(std_relaxed) && USED_AGAIN.load(std_relaxed));
}
