//! A sequence.

use core::marker::PhantomData;

use bytemuck::{Pod, Zeroable};
use tourbillon_shared::pool::PAGE_BYTES;

use super::lane::Pool;
use super::{PoolError, tree};
use crate::actor::ALIGNMENT_MAX;
use crate::context::Context;

/// A sequence of elements in the pool of its actor's shard: plain data of 1 to 256 bytes each.
///
/// Eight bytes of state; all zero is the empty sequence, which has no page. Elements lie in order, as many to a page of 256 bytes as fit.
/// An element is found in one to five loads one after the other, so in two for up to 64 pages. See [`PoolError`] for how
/// operations fail; one that fails leaves the sequence as it was.
///
/// ```
/// use bytemuck::{Pod, Zeroable};
/// use tourbillon_device::{Context, Handler, NoError, PoolVec, actor};
///
/// /// The last words that it was told.
/// #[repr(C)]
/// #[derive(Clone, Copy, Pod, Zeroable)]
/// struct Log {
///     words: PoolVec<u64>,
/// }
///
/// /// One more.
/// #[repr(C)]
/// #[derive(Clone, Copy, Pod, Zeroable)]
/// struct Note(u64);
///
/// impl Handler<Note> for Log {
///     type Reply = u32;
///     fn handle(&mut self, message: &Note, context: &mut Context) -> Result<u32, NoError> {
///         self.words.push(context, message.0)?;
///         Ok(self.words.len())
///     }
/// }
///
/// actor!(Log { kind: 901, pools: true, error: NoError, messages: { 0: Note } });
/// ```
#[repr(C)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct PoolVec<T> {
    /// The only page, or the one from which the others are found; 0 for none.
    root: u32,
    length: u32,
    elements: PhantomData<T>,
}

impl<T> Clone for PoolVec<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for PoolVec<T> {}
impl<T> Default for PoolVec<T> {
    fn default() -> Self {
        Self::new()
    }
}
// SAFETY: two words, any of which are valid: what they lead to is checked.
unsafe impl<T> Zeroable for PoolVec<T> {}
// SAFETY: as above; no padding, and no references.
unsafe impl<T: 'static> Pod for PoolVec<T> {}

impl<T> PoolVec<T> {
    /// The empty sequence.
    #[inline]
    pub const fn new() -> Self {
        Self { root: 0, length: 0, elements: PhantomData }
    }

    /// Elements.
    #[inline]
    pub const fn len(&self) -> u32 {
        self.length
    }

    /// Whether there is none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl<T: Pod> PoolVec<T> {
    /// Elements of a page.
    const PER_PAGE: u32 = {
        assert!(size_of::<T>() != 0 && size_of::<T>() <= PAGE_BYTES, "an element has 1 to 256 bytes");
        assert!(align_of::<T>() <= ALIGNMENT_MAX, "the element is aligned to more than 16 bytes");
        (PAGE_BYTES / size_of::<T>()) as u32
    };

    /// Pages of so many elements.
    #[inline(always)]
    const fn pages(length: u32) -> u32 {
        // Not rounded up by an addition, which could overflow.
        (length / Self::PER_PAGE).wrapping_add(if length.is_multiple_of(Self::PER_PAGE) { 0 } else { 1 })
    }

    /// Elements of page `page` of a sequence of `length`.
    #[inline(always)]
    fn in_page(page: u32, length: u32) -> u32 {
        let before = page.wrapping_mul(Self::PER_PAGE);
        let left = length.saturating_sub(before);
        if left < Self::PER_PAGE { left } else { Self::PER_PAGE }
    }

    /// Element `index`, which exists.
    #[inline(always)]
    fn at(&self, pool: Pool, index: u32) -> Result<*const T, PoolError> {
        let page = tree::leaf(pool, self.root, Self::pages(self.length), index / Self::PER_PAGE)?;
        Ok(page.cast::<T>().wrapping_add((index % Self::PER_PAGE) as usize))
    }

    /// Page `page`, which exists, for writing.
    #[inline(always)]
    fn page_mut(&mut self, pool: Pool, page: u32) -> Result<*mut T, PoolError> {
        Ok(tree::leaf_mut(pool, &mut self.root, Self::pages(self.length), page)?.cast())
    }

    /// Makes the pages from that of element `index` on the message's own, so that writing them cannot fail.
    #[inline(always)]
    fn own_from(&mut self, pool: Pool, index: u32) -> Result<(), PoolError> {
        let mut page = index / Self::PER_PAGE;
        while page < Self::pages(self.length) {
            self.page_mut(pool, page)?;
            page = page.wrapping_add(1);
        }
        Ok(())
    }

    /// Element `index`, if there is one.
    ///
    /// # Errors
    /// [`PoolError::Undeclared`], [`PoolError::Stale`].
    #[inline]
    pub fn get<'c>(&self, context: &'c Context, index: u32) -> Result<Option<&'c T>, PoolError> {
        context.with_pool(|pool| {
            if index >= self.length {
                return Ok(None);
            }
            // SAFETY: the element lies in a page of the actor, which only changes through a borrow of the context; any bytes are a
            // value of it, and it is aligned as the page's beginning is.
            self.at(pool, index).map(|element| Some(unsafe { &*element }))
        })
    }

    /// Element `index`, if there is one, to be changed. Takes the pages that lead to it.
    ///
    /// # Errors
    /// [`PoolError`].
    #[inline]
    pub fn get_mut<'c>(&mut self, context: &'c mut Context, index: u32) -> Result<Option<&'c mut T>, PoolError> {
        context.with_pool(|pool| {
            if index >= self.length {
                return Ok(None);
            }
            let page = self.page_mut(pool, index / Self::PER_PAGE)?;
            // SAFETY: as in `get`; the page is the message's own, and the borrow of the context makes this its only use.
            Ok(Some(unsafe { &mut *page.wrapping_add((index % Self::PER_PAGE) as usize) }))
        })
    }

    /// The first element, if there is one.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[inline]
    pub fn first<'c>(&self, context: &'c Context) -> Result<Option<&'c T>, PoolError> {
        self.get(context, 0)
    }

    /// The last element, if there is one.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[inline]
    pub fn last<'c>(&self, context: &'c Context) -> Result<Option<&'c T>, PoolError> {
        // The empty sequence has no element of this number either.
        self.get(context, self.length.wrapping_sub(1))
    }

    /// Adds an element at the end.
    ///
    /// # Errors
    /// [`PoolError`]; exhausted, too, is a sequence of `u32::MAX` elements.
    #[inline]
    pub fn push(&mut self, context: &mut Context, element: T) -> Result<(), PoolError> {
        context.with_pool(|pool| self.push_in(pool, element))
    }

    #[inline(always)]
    fn push_in(&mut self, pool: Pool, element: T) -> Result<(), PoolError> {
        let (index, pages) = (self.length, Self::pages(self.length));
        if index == u32::MAX {
            return Err(PoolError::Exhausted);
        }
        let page = if index.is_multiple_of(Self::PER_PAGE) {
            tree::push(pool, &mut self.root, pages)?.cast()
        } else {
            self.page_mut(pool, pages.wrapping_sub(1))?
        };
        // SAFETY: the page is the message's own, and has room for as many elements.
        unsafe { page.wrapping_add((index % Self::PER_PAGE) as usize).write(element) };
        self.length = index.wrapping_add(1);
        Ok(())
    }

    /// Removes the last element, if there is one. Takes no page.
    ///
    /// # Errors
    /// [`PoolError::Undeclared`], [`PoolError::Stale`].
    #[inline]
    pub fn pop(&mut self, context: &mut Context) -> Result<Option<T>, PoolError> {
        context.with_pool(|pool| {
            let Some(last) = self.length.checked_sub(1) else { return Ok(None) };
            // SAFETY: as in `get`.
            let element = unsafe { self.at(pool, last)?.read() };
            self.cut(pool, last)?;
            Ok(Some(element))
        })
    }

    /// Forgets the elements from `length` on, and frees the pages that are empty then.
    #[inline(always)]
    fn cut(&mut self, pool: Pool, length: u32) -> Result<(), PoolError> {
        while Self::pages(self.length) > Self::pages(length) {
            let pages = Self::pages(self.length);
            tree::pop(pool, &mut self.root, pages)?;
            self.length = pages.wrapping_sub(1).wrapping_mul(Self::PER_PAGE);
        }
        self.length = length;
        Ok(())
    }

    /// Removes the elements from `length` on. Takes no page.
    ///
    /// # Errors
    /// As [`pop`](Self::pop).
    #[inline]
    pub fn truncate(&mut self, context: &mut Context, length: u32) -> Result<(), PoolError> {
        context.with_pool(|pool| if length < self.length { self.cut(pool, length) } else { Ok(()) })
    }

    /// Removes all elements. Takes no page.
    ///
    /// # Errors
    /// As [`pop`](Self::pop).
    #[inline]
    pub fn clear(&mut self, context: &mut Context) -> Result<(), PoolError> {
        self.truncate(context, 0)
    }

    /// Puts an element in front of element `index`, or at the end; whether `index` is inside, without which nothing is done. Moves
    /// the elements behind it, and takes their pages.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    #[inline]
    pub fn insert(&mut self, context: &mut Context, index: u32, element: T) -> Result<bool, PoolError> {
        context.with_pool(|pool| {
            let length = self.length;
            if index > length {
                return Ok(false);
            }
            self.own_from(pool, index)?;
            self.push_in(pool, element)?;
            // Nothing fails from here on. What one page loses the next one gets.
            let (mut page, mut place, mut carried) = (index / Self::PER_PAGE, index % Self::PER_PAGE, element);
            while page < Self::pages(self.length) {
                let elements = self.page_mut(pool, page)?;
                let held = Self::in_page(page, self.length);
                // SAFETY: places below `held` are in the page, which is the message's own.
                unsafe {
                    let lost = elements.wrapping_add(held.wrapping_sub(1) as usize).read();
                    let mut to = held.wrapping_sub(1);
                    while to > place {
                        let from = to.wrapping_sub(1);
                        elements.wrapping_add(to as usize).write(elements.wrapping_add(from as usize).read());
                        to = from;
                    }
                    elements.wrapping_add(place as usize).write(carried);
                    carried = lost;
                }
                (page, place) = (page.wrapping_add(1), 0);
            }
            Ok(true)
        })
    }

    /// Removes element `index`, if there is one. Moves the elements behind it, and takes their pages.
    ///
    /// # Errors
    /// [`PoolError`].
    #[inline]
    pub fn remove(&mut self, context: &mut Context, index: u32) -> Result<Option<T>, PoolError> {
        context.with_pool(|pool| {
            if index >= self.length {
                return Ok(None);
            }
            self.own_from(pool, index)?;
            // SAFETY: as in `get`.
            let removed = unsafe { self.at(pool, index)?.read() };
            let (mut page, mut place) = (index / Self::PER_PAGE, index % Self::PER_PAGE);
            let mut elements = self.page_mut(pool, page)?;
            loop {
                let last = Self::in_page(page, self.length).wrapping_sub(1);
                // SAFETY: as in `insert`.
                unsafe {
                    while place < last {
                        let next = place.wrapping_add(1);
                        elements.wrapping_add(place as usize).write(elements.wrapping_add(next as usize).read());
                        place = next;
                    }
                    page = page.wrapping_add(1);
                    if page >= Self::pages(self.length) {
                        break;
                    }
                    let following = self.page_mut(pool, page)?;
                    elements.wrapping_add(last as usize).write(following.read());
                    (elements, place) = (following, 0);
                }
            }
            self.cut(pool, self.length.wrapping_sub(1))?;
            Ok(Some(removed))
        })
    }

    /// Removes element `index`, if there is one, and puts the last one in its place.
    ///
    /// # Errors
    /// [`PoolError`].
    #[inline]
    pub fn swap_remove(&mut self, context: &mut Context, index: u32) -> Result<Option<T>, PoolError> {
        context.with_pool(|pool| {
            if index >= self.length {
                return Ok(None);
            }
            let last = self.length.wrapping_sub(1);
            // SAFETY: as in `get`.
            let (removed, moved) = unsafe { (self.at(pool, index)?.read(), self.at(pool, last)?.read()) };
            if index != last {
                let page = self.page_mut(pool, index / Self::PER_PAGE)?;
                // SAFETY: as in `get_mut`.
                unsafe { page.wrapping_add((index % Self::PER_PAGE) as usize).write(moved) };
            }
            self.cut(pool, last)?;
            Ok(Some(removed))
        })
    }

    /// The number of elements in front of the first for which `is_before` does not hold, where it holds for none behind that:
    /// the place of an element in a sorted sequence.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[inline]
    pub fn partition_point(
        &self,
        context: &Context,
        mut is_before: impl FnMut(&T) -> bool,
    ) -> Result<u32, PoolError> {
        let (mut low, mut high) = (0, self.length);
        while low < high {
            let middle = low.wrapping_add(high.wrapping_sub(low) / 2);
            match self.get(context, middle)? {
                Some(element) if is_before(element) => low = middle.wrapping_add(1),
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// The elements in order.
    #[inline]
    pub fn iter<'c>(&self, context: &'c Context) -> VecIter<'c, T> {
        VecIter { sequence: *self, context, page: core::ptr::null(), index: 0 }
    }
}

/// The elements of a [`PoolVec`] in order; after an error nothing more comes.
#[derive(Debug)]
pub struct VecIter<'c, T> {
    sequence: PoolVec<T>,
    context: &'c Context,
    /// The page of the element before `index`.
    page: *const T,
    index: u32,
}

impl<'c, T: Pod> Iterator for VecIter<'c, T> {
    type Item = Result<&'c T, PoolError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let index = self.index;
        if index >= self.sequence.length {
            return None;
        }
        let place = index % PoolVec::<T>::PER_PAGE;
        if place == 0 {
            match self.context.with_pool(|pool| self.sequence.at(pool, index)) {
                Ok(page) => self.page = page,
                Err(error) => {
                    self.index = u32::MAX;
                    return Some(Err(error));
                }
            }
        }
        self.index = index.wrapping_add(1);
        // SAFETY: as in `PoolVec::get`; the context is borrowed, so the page has not changed since it was found.
        Some(Ok(unsafe { &*self.page.wrapping_add(place as usize) }))
    }
}
