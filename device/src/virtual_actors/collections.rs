//! Collections of actors that come and go: their pages cross in pieces, and take room in the shard's pool that others may have to make.
//!
//! Reached only where the system has actors with collections. As everywhere below `shard`, one lane works at a time, under the turn.

use core::marker::PhantomData;

use tourbillon_shared::geometry::{Bucket, EntryHeader};
use tourbillon_shared::mutant;
use tourbillon_shared::telemetry::Counter;
use tourbillon_shared::virtual_actors::{
    Ask, CHUNK_WORDS, EVICTED_PAGES_MAX, PIECE_BROKEN, PIECE_LAST, PIECE_NUMBER, PIECE_WORDS, REQUESTS_MAX,
    StoreRequest, chunk_head, chunk_of, kind_of, phase,
};

use super::ask::send;
use super::places::{Fit, Fits};
use super::shard::{Step, Virtual};
use crate::arch::Arch;
use crate::contents::Collection;
use crate::pool::lane::Pool;
use crate::pool::moving::{self, Cursor, FILLING, LEAVING, next_page, put_page};
use crate::stats::Stats;
use crate::supervision;
use crate::system::System;

/// Of the pool, the part that a shard makes free when a handler found it exhausted, beside what is free: a handler that is tried again
/// some times gets what it needs, and one that needs little does not send everybody away.
const PRESSURE_SHARE: u32 = 8;
/// How often an actor that is short of pages waits for what others bring when nobody could make room: every other request has had its
/// turn some times by then.
const SHORT_WAITS_MAX: u32 = 8 * REQUESTS_MAX;
/// Pieces of an actor: each bucket of its maps has a page, and no more further ones than the bound.
const PIECES_MAX: u32 = 2 * EVICTED_PAGES_MAX;

/// The pages of an actor at `entry` of the kind in `kind_word`, as [`Collection::pages`] counts them; those of kinds without are 0.
///
/// # Safety
/// The entry is one of such an actor, and nobody writes it meanwhile.
#[inline(always)]
pub(super) unsafe fn pages_of<S: System>(kind_word: u16, entry: *mut EntryHeader) -> u64 {
    if !S::POOLS {
        return 0;
    }
    // SAFETY: the caller vouches for the entry, behind whose head the state lies.
    unsafe { moving::pages(S::collections(kind_of(kind_word)), entry.wrapping_add(1).cast()) }
}

/// The actors of a system that may be evicted: all that are nobody's child and not too large, or, `for_pages`, those of them that have some
/// to give back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evictable<S> {
    for_pages: bool,
    system: PhantomData<S>,
}

impl<S> Evictable<S> {
    pub(super) fn new(for_pages: bool) -> Self {
        Self { for_pages, system: PhantomData }
    }
}

impl<S: System> Fits for Evictable<S> {
    const SOME_DO_NOT: bool = S::POOLS || S::SUPERVISED;

    #[inline(always)]
    unsafe fn fit(&self, bucket: &Bucket, entry: *mut EntryHeader) -> Fit {
        // SAFETY: the caller vouches for it.
        let is_bound = S::SUPERVISED && unsafe { supervision::is_bound::<S>(entry) };
        if is_bound && !mutant!("children_evicted") {
            return Fit::Other;
        }
        // SAFETY: as above.
        let pages = unsafe { pages_of::<S>(bucket.kind as u16, entry) };
        if !moving::may_leave(pages) {
            Fit::TooLarge
        } else if self.for_pages && pages == 0 {
            Fit::Other
        } else {
            Fit::Fits
        }
    }
}

impl Virtual<'_> {
    /// The collections of a request's actor, and its state.
    unsafe fn contents<S: System>(&self, request: *const StoreRequest) -> (&'static [Collection], *mut u8) {
        // SAFETY: a request of this shard; the state lies behind its entry's head.
        unsafe {
            let collections = S::collections(kind_of((*request).kind as u16));
            (collections, self.directory.entry((*request).entry).wrapping_add(1).cast())
        }
    }

    /// Opens the lane's record of the pool for the actor of a request.
    unsafe fn open<A: Arch>(&self, request: *const StoreRequest, stamp: u64) -> Option<Pool> {
        // SAFETY: the turn, and no handler runs.
        unsafe {
            let entry = self.directory.entry((*request).entry);
            moving::open::<A>(self.scratch, self.arguments, self.number, entry, stamp)
        }
    }

    /// Sends the piece behind number `after` of the actor that leaves by request `index`, unless that was done before.
    ///
    /// # Safety
    /// The turn; the request is an eviction.
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn send_piece<A: Arch, S: System>(&self, stats: Stats, index: u32, after: u32) {
        let request = self.request(index);
        // SAFETY: the turn.
        unsafe {
            if after != (*request).piece && !mutant!("pieces_sent_twice") {
                return;
            }
            let number = (*request).piece.wrapping_add(1);
            (*request).piece = number;
            let (collections, state) = self.contents::<S>(request);
            let mut words = [0u32; PIECE_WORDS];
            let (mut used, mut mark) = (0u32, 0);
            let Some(pool) = self.open::<A>(request, LEAVING) else {
                // Without pools there are no pages that could be read.
                return self.send_words::<A>(index, number | PIECE_BROKEN, &words, 0);
            };
            let mut cursor =
                Cursor { collection: (*request).collection, page: (*request).page, further: (*request).further };
            loop {
                let before = cursor;
                match next_page(pool, collections, state, &mut cursor) {
                    Ok(Some(page)) => {
                        let whole = page.bytes.wrapping_add(3) / 4;
                        if used.wrapping_add(CHUNK_WORDS).wrapping_add(whole) > PIECE_WORDS as u32 {
                            cursor = before;
                            break;
                        }
                        let to = words.as_mut_ptr().wrapping_add(used as usize);
                        // SAFETY: the chunk fits into the words, as was just asked; a page has whole words.
                        to.write(chunk_head(page.collection, page.is_further));
                        to.wrapping_add(1).write(page.count);
                        let mut word = 0;
                        while word < whole as usize {
                            let from = page.at.cast::<u32>().wrapping_add(word);
                            to.wrapping_add(CHUNK_WORDS as usize).wrapping_add(word).write(from.read());
                            word = word.wrapping_add(1);
                        }
                        used = used.wrapping_add(CHUNK_WORDS).wrapping_add(whole);
                    }
                    Ok(None) => {
                        mark = PIECE_LAST;
                        break;
                    }
                    Err(_) => {
                        mark = PIECE_BROKEN;
                        break;
                    }
                }
            }
            // Only copied handles lead round in circles.
            if number >= PIECES_MAX && mark == 0 {
                mark = PIECE_BROKEN;
            }
            ((*request).collection, (*request).page, (*request).further) =
                (cursor.collection, cursor.page, cursor.further);
            if mutant!("pages_freed_before_acknowledgement") && mark == PIECE_LAST {
                moving::clear(pool, collections, state);
            }
            moving::close::<A>(pool, stats, true);
            self.send_words::<A>(index, number | mark, &words, used);
        }
    }

    /// Sends chunks of request `index`.
    unsafe fn send_words<A: Arch>(&self, index: u32, piece: u32, words: &[u32; PIECE_WORDS], used: u32) {
        // SAFETY: the turn; the request has no frame without an answer but this one.
        unsafe {
            let request = &*self.request(index);
            send::<A>(self.arguments, self.number, index, request, Ask::Piece, piece, words.as_ptr(), used);
        }
    }

    /// Frees the pages of the actor of request `index`, which the store has.
    ///
    /// # Safety
    /// The turn; the request is an eviction that succeeded.
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn free_pages_of<A: Arch, S: System>(&self, stats: Stats, index: u32) {
        let request = self.request(index);
        // SAFETY: the turn.
        unsafe {
            if (*request).pages == 0 {
                return;
            }
            if let Some(pool) = self.open::<A>(request, LEAVING) {
                let (collections, state) = self.contents::<S>(request);
                moving::clear(pool, collections, state);
                moving::close::<A>(pool, stats, true);
            }
        }
    }

    /// An eviction is over, whether it succeeded or not: its pages are no longer on their way.
    ///
    /// # Safety
    /// The turn.
    pub(super) unsafe fn has_left(&self, request: *mut StoreRequest) {
        // SAFETY: the turn.
        unsafe {
            (*self.state).leaving = (*self.state).leaving.wrapping_sub((*request).pages);
            (*request).pages = 0;
        }
    }

    /// Takes `pages` pages for the actor of a request, all or none; whether it has them.
    unsafe fn take_pages<A: Arch>(&self, stats: Stats, request: *mut StoreRequest, pages: u32) -> bool {
        // SAFETY: the turn.
        unsafe {
            if moving::free_pages(self.arguments, self.number) < pages {
                return false;
            }
            let Some(pool) = self.open::<A>(request, FILLING) else { return false };
            let is_done = pool.reserve(pages).is_ok();
            if is_done {
                ((*request).spare, (*request).spares) = pool.take_spares();
            }
            moving::close::<A>(pool, stats, is_done);
            is_done
        }
    }

    /// Gives back what was taken for the actor of request `index` and not used.
    ///
    /// # Safety
    /// The turn.
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn give_spares<A: Arch>(&self, stats: Stats, index: u32) {
        let request = self.request(index);
        // SAFETY: the turn.
        unsafe {
            if (*request).spares != 0
                && let Some(pool) = self.open::<A>(request, FILLING)
            {
                pool.put_spares(((*request).spare, (*request).spares));
                moving::close::<A>(pool, stats, true);
            }
            ((*request).spare, (*request).spares) = (0, 0);
        }
    }

    /// What becomes of the actor that the store has brought by request `index`, whose collections need `pages` pages: the phase.
    ///
    /// # Safety
    /// The turn; the request is a fetch, and the entry is written.
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn begin_filling<A: Arch>(&self, stats: Stats, index: u32, pages: u32) -> u32 {
        let request = self.request(index);
        // SAFETY: the turn.
        unsafe {
            ((*request).piece, (*request).pages) = (0, 0);
            if (*request).spares < pages {
                // The store brought more than the last time.
                self.give_spares::<A>(stats, index);
                if !self.take_pages::<A>(stats, request, pages) {
                    if (*request).was_short != 0 || mutant!("short_of_pages_gives_up") {
                        return phase::STARVING;
                    }
                    (*request).pages = pages;
                    // It may be that the store does not know it the next time.
                    self.directory.clear_entry((*request).entry);
                    return phase::SHORT;
                }
            }
            phase::FILLING
        }
    }

    /// Fills pages of the actor of request `index` with the chunks of piece `piece`, `used` words, unless that was done before; the phase
    /// that the request is in then.
    ///
    /// # Safety
    /// The turn; the request is being filled.
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn fill_pages<A: Arch, S: System>(
        &self,
        stats: Stats,
        index: u32,
        piece: u32,
        words: &[u32; PIECE_WORDS],
        used: u32,
    ) -> u32 {
        let request = self.request(index);
        // SAFETY: the turn; what a chunk says is checked against the words that there are.
        unsafe {
            if piece & PIECE_NUMBER != (*request).piece.wrapping_add(1) && !mutant!("pieces_filled_twice") {
                return phase::FILLING;
            }
            (*request).piece = piece & PIECE_NUMBER;
            let (collections, state) = self.contents::<S>(request);
            let Some(pool) = self.open::<A>(request, FILLING) else { return phase::STARVING };
            pool.put_spares(((*request).spare, (*request).spares));
            ((*request).spare, (*request).spares) = (0, 0);
            let used = if used < PIECE_WORDS as u32 { used } else { PIECE_WORDS as u32 };
            let (mut at, mut is_whole) = (0u32, true);
            while is_whole && used.wrapping_sub(at) >= CHUNK_WORDS {
                let from = words.as_ptr().wrapping_add(at as usize);
                let (collection, is_further) = chunk_of(from.read());
                let what = (collection, is_further, from.wrapping_add(1).read());
                let rest = used.wrapping_sub(at).wrapping_sub(CHUNK_WORDS);
                match put_page(pool, collections, state, what, from.wrapping_add(CHUNK_WORDS as usize), rest) {
                    Ok(taken) => at = at.wrapping_add(CHUNK_WORDS).wrapping_add(taken),
                    Err(_) => is_whole = false,
                }
            }
            let is_last = piece & PIECE_LAST != 0;
            if is_whole && !is_last {
                ((*request).spare, (*request).spares) = pool.take_spares();
            }
            moving::close::<A>(pool, stats, is_whole);
            match (is_whole, is_last) {
                (true, true) => phase::WAKING,
                (true, false) => phase::FILLING,
                _ => {
                    // Never with chunks of this engine's host: the actor is as if it had not been brought.
                    if let Some(pool) = self.open::<A>(request, LEAVING) {
                        moving::clear(pool, collections, state);
                        moving::close::<A>(pool, stats, true);
                    }
                    phase::STARVING
                }
            }
        }
    }

    /// Evictions were refused so often that nobody waits for more of them.
    ///
    /// # Safety
    /// The turn.
    pub(super) unsafe fn give_up_room(&self) {
        // SAFETY: the turn.
        unsafe {
            (*self.state).pressure = 0;
            let mut index = 0;
            while index < REQUESTS_MAX {
                let request = self.request(index);
                (*request).was_short |= u32::from((*request).phase == phase::SHORT);
                index = index.wrapping_add(1);
            }
        }
    }

    /// A handler has found the pool exhausted: room is to be made.
    ///
    /// # Safety
    /// The turn.
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn feel_pressure(&self) {
        if mutant!("pool_pressure_unfelt") {
            return;
        }
        let pages = self.arguments.geometry.pool_pages;
        // SAFETY: the turn, and no handler runs.
        let free = unsafe { moving::free_pages(self.arguments, self.number) };
        let wanted = free.wrapping_add(pages / PRESSURE_SHARE).wrapping_add(1);
        // SAFETY: the turn.
        unsafe { (*self.state).pressure = if wanted < pages { wanted } else { pages } };
    }

    /// The request that has been short of pages for longest, or null.
    unsafe fn shortest(&self) -> (*mut StoreRequest, u32) {
        let (mut found, mut at, mut index) = (core::ptr::null_mut::<StoreRequest>(), 0, 0);
        while index < REQUESTS_MAX {
            let request = self.request(index);
            // SAFETY: the turn.
            unsafe {
                // Numbers come round after 2^32 of them.
                let is_first = found.is_null() || ((*request).number.wrapping_sub((*found).number) as i32) < 0;
                if (*request).phase == phase::SHORT && is_first {
                    (found, at) = (request, index);
                }
            }
            index = index.wrapping_add(1);
        }
        (found, at)
    }

    /// Asks the store once more for the actor of request `index`, which was short of pages.
    unsafe fn ask_again<A: Arch>(&self, index: u32) {
        // SAFETY: the turn; a request that is short has no frame without an answer.
        unsafe {
            let (state, request) = (self.state, self.request(index));
            (*state).number = (*state).number.wrapping_add(1);
            // Pieces of the first time are on their way still.
            (*request).number = (*state).number;
            (*request).phase = phase::FETCHING;
            (*request).was_short = 1;
            send::<A>(self.arguments, self.number, index, &*request, Ask::Fetch, 0, core::ptr::null(), 0);
        }
    }

    /// Does a step for those who need pages, or says what it takes; nothing when there is none to be done.
    ///
    /// # Safety
    /// The turn, and no handler runs.
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn step_for_pages<A: Arch>(&self, stats: Stats) -> Option<Step> {
        // SAFETY: the turn.
        unsafe {
            let state = self.state;
            let (request, index) = self.shortest();
            if request.is_null() && (*state).pressure == 0 {
                return None;
            }
            let free = moving::free_pages(self.arguments, self.number);
            if (*state).pressure <= free {
                (*state).pressure = 0;
            }
            let mut wanted = (*state).pressure;
            if !request.is_null() {
                let pages = (*request).pages;
                if (*request).was_short != 0 || self.take_pages::<A>(stats, request, pages) {
                    self.ask_again::<A>(index);
                    return Some(Step::Again);
                }
                wanted = if pages > wanted { pages } else { wanted };
            }
            let is_enough = free.saturating_add((*state).leaving) >= wanted;
            if is_enough || (*state).asked >= REQUESTS_MAX { None } else { Some(Step::Pages) }
        }
    }

    /// Nobody is left that could make room for those who need pages; whether there may be more to do.
    ///
    /// # Safety
    /// The turn.
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn has_no_pages_to_free(&self) -> bool {
        // SAFETY: the turn.
        unsafe {
            let state = self.state;
            (*state).pressure = 0;
            let (request, _) = self.shortest();
            if request.is_null() {
                return true;
            }
            // What another request is about leaves, or is there soon and may leave then: the answer to it goes on from here.
            let mut index = 0;
            while index < REQUESTS_MAX {
                let phase = (*self.request(index)).phase;
                if phase != phase::FREE && phase != phase::SHORT && (*request).page < SHORT_WAITS_MAX {
                    (*request).page = (*request).page.wrapping_add(1);
                    return false;
                }
                index = index.wrapping_add(1);
            }
            (*request).was_short = 1;
            true
        }
    }

    /// Sees to it that who waits for room is told, when no actor may leave and nothing is on its way that could change it: the
    /// host is asked for an order, for only those run windows.
    ///
    /// # Safety
    /// The turn.
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn refuse_for_want_of_room<A: Arch>(&self) {
        // SAFETY: the turn; no request is open, so one is free.
        unsafe {
            if (*self.state).asked == 0 {
                let index = self.take_request(0, 0, 0, phase::FULL);
                let request = &*self.request(index);
                send::<A>(self.arguments, self.number, index, request, Ask::Nothing, 0, core::ptr::null(), 0);
            }
        }
    }

    /// Counts searches that passed over an actor which is too large.
    pub(super) fn note_too_large<A: Arch>(stats: Stats) {
        stats.add::<A>(Counter::TooLargeToEvict, 1);
    }
}
