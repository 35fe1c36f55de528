//! A sequence of elements of any size: what [`PoolVec`](super::PoolVec) does, for all types at once.

use super::lane::Pool;
use super::{PoolError, bytes, tree};

/// The handle of a sequence.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Row {
    /// The only page, or the one from which the others are found; 0 for none.
    pub root: u32,
    /// Elements.
    pub length: u32,
}

/// What elements are like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Bytes of one.
    pub size: u32,
    /// How many are in a page.
    pub per_page: u32,
}

impl Shape {
    /// Pages of so many elements.
    #[inline(always)]
    pub fn pages(self, length: u32) -> u32 {
        // Rounded up, and not by an addition, which could overflow; a page has at least one element.
        match length.checked_sub(1) {
            None => 0,
            Some(last) => last.checked_div(self.per_page).unwrap_or(0).wrapping_add(1),
        }
    }

    /// The page of element `index`, and its place there.
    #[inline(always)]
    fn place(self, index: u32) -> (u32, u32) {
        let page = index.checked_div(self.per_page).unwrap_or(0);
        (page, index.wrapping_sub(page.wrapping_mul(self.per_page)))
    }

    #[inline(always)]
    fn offset(self, place: u32) -> usize {
        place.wrapping_mul(self.size) as usize
    }
}

/// Element `index`, which exists.
#[inline(never)]
pub(super) fn at(pool: Pool, row: &Row, shape: Shape, index: u32) -> Result<*const u8, PoolError> {
    let (page, place) = shape.place(index);
    Ok(tree::leaf(pool, row.root, shape.pages(row.length), page)?.wrapping_add(shape.offset(place)))
}

/// Element `index`, which exists, for writing.
#[inline(never)]
pub(super) fn at_mut(pool: Pool, row: &mut Row, shape: Shape, index: u32) -> Result<*mut u8, PoolError> {
    let (page, place) = shape.place(index);
    let pages = shape.pages(row.length);
    Ok(tree::leaf_mut(pool, &mut row.root, pages, page)?.wrapping_add(shape.offset(place)))
}

/// Makes room for one element more at the end: where it is to be written.
#[inline(never)]
pub(super) fn push(pool: Pool, row: &mut Row, shape: Shape) -> Result<*mut u8, PoolError> {
    let index = row.length;
    if index == u32::MAX {
        return Err(PoolError::Exhausted);
    }
    let ((page, place), pages) = (shape.place(index), shape.pages(index));
    let to = if place == 0 {
        tree::push(pool, &mut row.root, pages)?
    } else {
        tree::leaf_mut(pool, &mut row.root, pages, page)?
    };
    row.length = index.wrapping_add(1);
    Ok(to.wrapping_add(shape.offset(place)))
}

/// Forgets the elements from `length` on, and frees the pages that are empty then.
#[inline(never)]
pub(super) fn cut(pool: Pool, row: &mut Row, shape: Shape, length: u32) -> Result<(), PoolError> {
    let left = shape.pages(length);
    let mut pages = shape.pages(row.length);
    while pages > left {
        tree::pop(pool, &mut row.root, pages)?;
        pages = pages.wrapping_sub(1);
        row.length = pages.wrapping_mul(shape.per_page);
    }
    row.length = length;
    Ok(())
}

/// Makes the pages from that of element `index` on the message's own, so that writing them cannot fail.
#[inline(always)]
fn own_from(pool: Pool, row: &mut Row, shape: Shape, index: u32) -> Result<(), PoolError> {
    let (mut page, _) = shape.place(index);
    let pages = shape.pages(row.length);
    while page < pages {
        tree::leaf_mut(pool, &mut row.root, pages, page)?;
        page = page.wrapping_add(1);
    }
    Ok(())
}

/// Moves the elements from `index` on, which is at most the length, to the place behind theirs: where a new one is to be written.
#[inline(never)]
pub(super) fn make_room(pool: Pool, row: &mut Row, shape: Shape, index: u32) -> Result<*mut u8, PoolError> {
    own_from(pool, row, shape, index)?;
    // Nothing fails from here on but this, as long as nothing has changed.
    let mut to = push(pool, row, shape)?;
    let mut last = row.length.wrapping_sub(1);
    while last > index {
        last = last.wrapping_sub(1);
        let from = at(pool, row, shape, last)?.cast_mut();
        // SAFETY: both places are elements of pages that are the message's own.
        unsafe { bytes::copy(from, to, shape.size) };
        to = from;
    }
    Ok(to)
}

/// Removes element `index`, which exists, and moves those behind it to the place in front of theirs.
#[inline(never)]
pub(super) fn close_gap(pool: Pool, row: &mut Row, shape: Shape, index: u32) -> Result<(), PoolError> {
    own_from(pool, row, shape, index)?;
    let last = row.length.wrapping_sub(1);
    let mut to = at(pool, row, shape, index)?.cast_mut();
    let mut next = index;
    while next < last {
        next = next.wrapping_add(1);
        let from = at(pool, row, shape, next)?.cast_mut();
        // SAFETY: as in `make_room`.
        unsafe { bytes::copy(from, to, shape.size) };
        to = from;
    }
    cut(pool, row, shape, last)
}
