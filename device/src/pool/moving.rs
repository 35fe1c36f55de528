//! Collections on their way to the store and back: pages read one after the other, filled one after the other, and freed.
//!
//! One lane works here, no handler runs, and the actor is held by a request: so nothing of it changes between two pages.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::geometry::{EntryHeader, KernelArguments};
use tourbillon_shared::mutant;
use tourbillon_shared::pool::{LanePool, PAGE_BYTES, PoolState};
use tourbillon_shared::telemetry::Counter;
use tourbillon_shared::virtual_actors::EVICTED_PAGES_MAX;

use super::contents::{Collection, Sort};
use super::lane::Pool;
use super::row::Row;
use super::table::Table;
use super::{PoolError, row, table, tree, turn};
use crate::arch::Arch;
use crate::stats::Stats;

/// Stamp of the pages of an actor that comes back: no message's, so the first message that changes one copies it; and the same for all
/// of its pieces, so that the pages of one are filled further by the next.
pub(crate) const FILLING: u64 = 0;
/// Stamp under which the pages of an actor that has left are freed: neither a message's nor [`FILLING`], so all of them are retired.
pub(crate) const LEAVING: u64 = 1;

/// Where the reading of an actor's pages has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    /// The collection.
    pub collection: u32,
    /// The page of a sequence, or the bucket of a map.
    pub page: u32,
    /// The further page of the bucket before that, 0 for none.
    pub further: u32,
}

/// A page that was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filled {
    /// The collection that it is of.
    pub collection: u32,
    /// Whether it is not the first one of its bucket.
    pub is_further: bool,
    /// Elements or entries in it.
    pub count: u32,
    /// What they take.
    pub bytes: u32,
    /// Where they begin.
    pub at: *const u8,
}

/// The handle of a collection in a state.
///
/// # Safety
/// The state is one of the type that the collection is of, and the caller alone uses it.
#[inline(always)]
fn handle<H>(collection: &Collection, state: *mut u8) -> *mut H {
    state.wrapping_add(collection.offset as usize).cast()
}

/// Pages of all that the collections of a state hold, as [`Collection::pages`] has it.
///
/// # Safety
/// The state is one of the type that has these collections, and nobody writes it meanwhile.
#[inline(never)]
pub(crate) unsafe fn pages(collections: &[Collection], state: *mut u8) -> u64 {
    let mut sum = 0u64;
    for collection in collections {
        // SAFETY: the caller vouches for the state, in which the handle lies.
        let (length, buckets) = unsafe {
            match collection.sort {
                Sort::Sequence => ((*handle::<Row>(collection, state)).length, 0),
                Sort::Map => {
                    let table = handle::<Table>(collection, state).read();
                    (table.length, table.buckets)
                }
            }
        };
        sum = sum.wrapping_add(collection.pages(length, buckets));
    }
    sum
}

/// Opens the record of the calling lane for the actor at `entry`; nothing without pools. [`close`] ends it.
///
/// # Safety
/// The warp holds the turn of shard `shard`, no handler runs, and this lane alone works.
#[inline(never)]
pub(crate) unsafe fn open<A: Arch>(
    scratch: *mut WarpScratch,
    arguments: &KernelArguments,
    shard: u32,
    entry: *const EntryHeader,
    stamp: u64,
) -> Option<Pool> {
    // SAFETY: the scratch is the warp's; nobody writes the mail while the kernel runs.
    let records = unsafe { (*scratch).mail.pools } as *mut LanePool;
    if records.is_null() {
        return None;
    }
    let record = records.wrapping_add(A::lane() as usize);
    // SAFETY: the record is this lane's, and closed.
    unsafe {
        turn::prepare(record, arguments, shard);
        let pool = Pool::new(record);
        pool.begin(entry, stamp);
        Some(pool)
    }
}

/// Makes what was done last, if all of it succeeded, and closes the record: what its lane still has to take from is given back.
#[inline(never)]
pub(crate) fn close<A: Arch>(pool: Pool, stats: Stats, is_done: bool) {
    if is_done {
        pool.commit();
    }
    let (taken, given) = pool.close();
    stats.add::<A>(Counter::PagesTaken, taken);
    stats.add::<A>(Counter::PagesGiven, given);
}

/// Pages of the shard's pool that nobody has; 0 without pools.
///
/// # Safety
/// As for [`open`].
#[inline(never)]
pub(crate) unsafe fn free_pages(arguments: &KernelArguments, shard: u32) -> u32 {
    let pages = arguments.geometry.pool_pages;
    if pages == 0 {
        return 0;
    }
    let state = turn::pool_of(arguments, shard) as *const PoolState;
    // SAFETY: the shard's pool, to which nobody gives and from which nobody takes meanwhile: both words are within their bounds.
    let free = unsafe { (*state).free.wrapping_add(u64::from(pages)).wrapping_sub((*state).begun) };
    if free > u64::from(pages) { 0 } else { free as u32 }
}

/// The page at `cursor`, which moves behind it; nothing when there is none left.
///
/// # Safety
/// The state is that of the actor for which `pool` was opened, and has these collections.
#[inline(never)]
pub(crate) unsafe fn next_page(
    pool: Pool,
    collections: &[Collection],
    state: *mut u8,
    cursor: &mut Cursor,
) -> Result<Option<Filled>, PoolError> {
    while let Some(collection) = collections.get(cursor.collection as usize) {
        let number = cursor.collection;
        // SAFETY: the caller vouches for the state; what pages say is checked.
        let found = unsafe {
            match collection.sort {
                Sort::Sequence => {
                    let row = handle::<Row>(collection, state).read();
                    let shape = row_shape(collection);
                    let pages = shape.pages(row.length);
                    if cursor.page < pages {
                        let at = tree::leaf(pool, row.root, pages, cursor.page)?;
                        let before = cursor.page.wrapping_mul(collection.per_page);
                        let left = row.length.wrapping_sub(before);
                        let count = if left < collection.per_page { left } else { collection.per_page };
                        cursor.page = cursor.page.wrapping_add(1);
                        Some((at, count, false))
                    } else {
                        None
                    }
                }
                Sort::Map => {
                    let table = handle::<Table>(collection, state).read();
                    let further = cursor.further;
                    let page = if further != 0 {
                        Some(pool.page(further)?)
                    } else if cursor.page < table.buckets {
                        let at = tree::leaf(pool, table.root, table.buckets, cursor.page)?;
                        cursor.page = cursor.page.wrapping_add(1);
                        Some(at)
                    } else {
                        None
                    };
                    match page {
                        Some(page) => {
                            let (count, next) = table_shape(collection).head(page)?;
                            cursor.further = next;
                            Some((page.wrapping_add(collection.head_bytes()), count, further != 0))
                        }
                        None => None,
                    }
                }
            }
        };
        if let Some((at, count, is_further)) = found {
            let bytes = count.wrapping_mul(collection.stride);
            return Ok(Some(Filled { collection: number, is_further, count, bytes, at }));
        }
        *cursor = Cursor { collection: number.wrapping_add(1), page: 0, further: 0 };
    }
    Ok(None)
}

/// Adds a page to a collection, which holds what the next `count` elements or entries are, in the words from `from` on, `words` of them.
/// The words of it, which are no more than those.
///
/// # Safety
/// As for [`next_page`]; `from` is valid for reads of `words` words.
#[inline(never)]
pub(crate) unsafe fn put_page(
    pool: Pool,
    collections: &[Collection],
    state: *mut u8,
    (number, is_further, count): (u32, bool, u32),
    from: *const u32,
    words: u32,
) -> Result<u32, PoolError> {
    let Some(collection) = collections.get(number as usize) else { return Err(PoolError::Stale) };
    let bytes = count.wrapping_mul(collection.stride);
    let used = bytes.wrapping_add(3) / 4;
    if count > collection.per_page || used > words {
        return Err(PoolError::Stale);
    }
    // SAFETY: the caller vouches for the state; the pages are the actor's, filled by this and the pieces before.
    unsafe {
        let page = match collection.sort {
            Sort::Sequence => {
                let row = &mut *handle::<Row>(collection, state);
                let page = tree::push(pool, &mut row.root, row_shape(collection).pages(row.length))?;
                row.length = row.length.wrapping_add(count);
                page
            }
            Sort::Map => {
                let table = &mut *handle::<Table>(collection, state);
                let page = if is_further {
                    table::extend(pool, table, table_shape(collection))?
                } else {
                    let page = tree::push(pool, &mut table.root, table.buckets)?;
                    table.buckets = table.buckets.wrapping_add(1);
                    page
                };
                table::set_head(page, count, 0);
                table.length = table.length.wrapping_add(count);
                page
            }
        };
        let to = page.wrapping_add(collection.head_bytes());
        let room = PAGE_BYTES.wrapping_sub(collection.head_bytes()) / 4;
        let mut word = 0;
        while word < used as usize && word < room {
            to.cast::<u32>().wrapping_add(word).write(from.wrapping_add(word).read());
            word = word.wrapping_add(1);
        }
    }
    Ok(used)
}

/// Frees all pages of a state's collections, which are empty afterwards. What a copied handle leads to is left alone.
///
/// # Safety
/// As for [`next_page`]; the pool was opened under [`LEAVING`].
#[inline(never)]
pub(crate) unsafe fn clear(pool: Pool, collections: &[Collection], state: *mut u8) {
    if mutant!("pages_of_evicted_actors_kept") {
        return;
    }
    for collection in collections {
        // SAFETY: the caller vouches for the state.
        unsafe {
            match collection.sort {
                Sort::Sequence => {
                    let row = &mut *handle::<Row>(collection, state);
                    // Two handles of the same pages: the first one has freed them.
                    let _ = row::cut(pool, row, row_shape(collection), 0);
                    *row = Row { root: 0, length: 0 };
                }
                Sort::Map => {
                    let table = &mut *handle::<Table>(collection, state);
                    let _ = table::clear(pool, table, table_shape(collection));
                    *table = Table { root: 0, buckets: 0, length: 0 };
                }
            }
        }
    }
}

/// Whether an actor with so many pages may go to the store.
#[inline(always)]
pub(crate) fn may_leave(pages: u64) -> bool {
    pages <= u64::from(EVICTED_PAGES_MAX) || mutant!("evicts_whatever_the_size")
}

#[inline(always)]
fn row_shape(collection: &Collection) -> row::Shape {
    row::Shape { size: collection.stride, per_page: collection.per_page }
}

#[inline(always)]
fn table_shape(collection: &Collection) -> table::Shape {
    table::Shape { key: collection.key, stride: collection.stride, per_page: collection.per_page }
}
