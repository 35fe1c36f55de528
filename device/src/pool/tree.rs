//! Pages in a row, found by number: a tree whose inner pages are numbers of 64 pages each.
//!
//! Its shape follows from the number of leaves alone, so that is all that a handle has to say beside the root. What is behind the
//! last leaf in an inner page was left by earlier ones, and is never looked at.

use tourbillon_shared::pool::PAGE_BYTES;

use super::PoolError;
use super::lane::Pool;

/// Binary logarithm of the children of an inner page.
const FAN_LOG2: u32 = 6;
/// Most levels of inner pages: five of them lead to more leaves than a pool has pages.
const HEIGHT_MAX: usize = 5;

const _: () = assert!(PAGE_BYTES == size_of::<u32>() << FAN_LOG2);
const _: () = assert!((HEIGHT_MAX as u32) * FAN_LOG2 > tourbillon_shared::pool::POOL_PAGES_MAX.ilog2());

/// Levels of inner pages above so many leaves.
#[inline(always)]
fn height(leaves: u32) -> u32 {
    let bits = 32u32.wrapping_sub(leaves.saturating_sub(1).leading_zeros());
    bits.wrapping_add(FAN_LOG2 - 1) / FAN_LOG2
}

/// Pages of a tree of so many leaves, with them.
pub(super) fn pages(leaves: u32) -> u64 {
    let (mut level, mut sum) = (u64::from(leaves), u64::from(leaves));
    while level > 1 {
        level = level.wrapping_add((1 << FAN_LOG2) - 1) >> FAN_LOG2;
        sum = sum.wrapping_add(level);
    }
    sum
}

/// The child under which leaf `leaf` is, in an inner page with `level` levels of inner pages below it.
#[inline(always)]
fn child(leaf: u32, level: u32) -> usize {
    (leaf.wrapping_shr(level.wrapping_mul(FAN_LOG2)) & ((1 << FAN_LOG2) - 1)) as usize
}

/// Whether leaf `leaf` is the first one below its page of `level`.
#[inline(always)]
fn is_first(leaf: u32, level: u32) -> bool {
    leaf & 1u32.wrapping_shl(level.wrapping_mul(FAN_LOG2)).wrapping_sub(1) == 0
}

/// Page `leaf` of a row of `leaves`.
#[inline(never)]
pub(super) fn leaf(pool: Pool, root: u32, leaves: u32, leaf: u32) -> Result<*const u8, PoolError> {
    let (mut id, mut level) = (root, height(leaves));
    while level != 0 {
        level = level.wrapping_sub(1);
        let page = pool.page(id)?.cast::<u32>();
        // SAFETY: an inner page is 64 words, and `child` is below that.
        id = unsafe { page.wrapping_add(child(leaf, level)).read() };
    }
    pool.page(id)
}

/// As [`leaf`](fn@leaf), for writing: the pages that lead there are the message's own afterwards.
#[inline(never)]
pub(super) fn leaf_mut(pool: Pool, root: &mut u32, leaves: u32, leaf: u32) -> Result<*mut u8, PoolError> {
    let (mut link, mut level): (*mut u32, u32) = (root, height(leaves));
    loop {
        // SAFETY: the root is the caller's, and every other link lies in a page that is the message's own.
        let page = unsafe { pool.page_mut(link)? };
        if level == 0 {
            return Ok(page);
        }
        level = level.wrapping_sub(1);
        link = page.cast::<u32>().wrapping_add(child(leaf, level));
    }
}

/// Adds a page, whose content is anything, to a row of `leaves`.
#[inline(never)]
pub(super) fn push(pool: Pool, root: &mut u32, leaves: u32) -> Result<*mut u8, PoolError> {
    let (low, high) = (height(leaves), height(leaves.wrapping_add(1)));
    let mut link: *mut u32 = root;
    let mut level = low;
    if leaves != 0 && high == low {
        // To where the new pages branch off.
        loop {
            // SAFETY: as in `leaf_mut`.
            let page = unsafe { pool.page_mut(link)? };
            level = level.wrapping_sub(1);
            link = page.cast::<u32>().wrapping_add(child(leaves, level));
            if is_first(leaves, level) || level == 0 {
                break;
            }
        }
    }
    // From here on nothing fails. A new root above the old one, pages down to the leaf, and the leaf.
    let rises = leaves != 0 && high != low;
    pool.reserve(level.wrapping_add(1).wrapping_add(u32::from(rises)))?;
    if rises {
        let (id, page) = pool.take()?;
        // SAFETY: the page is the message's own.
        unsafe { page.cast::<u32>().write(*root) };
        link = page.cast::<u32>().wrapping_add(1);
        *root = id;
    }
    loop {
        let (id, page) = pool.take()?;
        // SAFETY: as in `leaf_mut`.
        unsafe { link.write(id) };
        if level == 0 {
            return Ok(page);
        }
        level = level.wrapping_sub(1);
        link = page.cast();
    }
}

/// Frees the last page of a row of `leaves`, at least one. Takes no page.
#[inline(never)]
pub(super) fn pop(pool: Pool, root: &mut u32, leaves: u32) -> Result<(), PoolError> {
    let last = leaves.wrapping_sub(1);
    let top = height(leaves);
    let falls = last != 0 && height(last) != top;
    // The way down, before anything is changed.
    let mut way = [0; HEIGHT_MAX + 1];
    let mut level = top as usize;
    let mut id = *root;
    let mut first = id;
    loop {
        match way.get_mut(level) {
            Some(place) => *place = id,
            // No pool has so many pages.
            None => return Err(PoolError::Stale),
        }
        let page = pool.page(id)?.cast::<u32>();
        if level == 0 {
            break;
        }
        if level == top as usize {
            // SAFETY: an inner page is 64 words.
            first = unsafe { page.read() };
        }
        level = level.wrapping_sub(1);
        // SAFETY: as above; `child` is below 64.
        id = unsafe { page.wrapping_add(child(last, level as u32)).read() };
    }
    if falls {
        pool.page(first)?;
    }
    let mut level = 0;
    for id in way {
        if level <= top && is_first(last, level) && (level != top || last == 0) {
            pool.free(id)?;
        }
        level = level.wrapping_add(1);
    }
    if falls {
        if let Some(id) = way.get(top as usize) {
            pool.free(*id)?;
        }
        *root = first;
    }
    if last == 0 {
        *root = 0;
    }
    Ok(())
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn trees_are_as_high_as_they_must_be() {
        let heights =
            [(0, 0), (1, 0), (2, 1), (64, 1), (65, 2), (4096, 2), (4097, 3), (1 << 24, 4), ((1 << 24) + 1, 5)];
        for (leaves, expected) in heights {
            assert_eq!(height(leaves), expected, "{leaves}");
        }
    }
}
