//! A sequence.

use core::marker::PhantomData;

use tourbillon_shared::pool::PAGE_BYTES;

use super::PoolError;
use super::contents::{Collection, Collections};
use super::row::{self, Row, Shape};
use crate::actor::ALIGNMENT_MAX;
use crate::context::Context;
use crate::plain::{Plain, layout};

/// A sequence of elements in the pool of its actor's shard: plain data of 1 to 256 bytes each.
///
/// Eight bytes of state; all zero is the empty sequence, which has no page. Elements lie in order, as many to a page of 256 bytes as fit.
/// An element is found in one to five loads one after the other, so in two for up to 64 pages. See [`PoolError`] for how
/// operations fail; one that fails leaves the sequence as it was.
///
/// ```
/// use tourbillon_device::{Context, Handler, NoError, Plain, PoolVec, State, actor};
///
/// /// The last words that it was told.
/// #[repr(C)]
/// #[derive(Clone, Copy, State)]
/// struct Log {
///     words: PoolVec<u64>,
/// }
///
/// /// One more.
/// #[repr(C)]
/// #[derive(Clone, Copy, Plain)]
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
/// Larger elements do not compile:
/// ```compile_fail
/// use tourbillon_device::{Context, PoolError, PoolVec};
///
/// fn push(words: &mut PoolVec<[u64; 33]>, context: &mut Context) -> Result<(), PoolError> {
///     words.push(context, [0; 33])
/// }
///
/// let compiled: fn(&mut PoolVec<[u64; 33]>, &mut Context) -> Result<(), PoolError> = push;
/// # let _ = compiled;
/// ```
#[repr(C)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct PoolVec<T> {
    row: Row,
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
// SAFETY: two words without padding, any of which are a value: what they lead to is checked.
#[diagnostic::do_not_recommend]
unsafe impl<T: Plain> Plain for PoolVec<T> {
    const LAYOUT: u64 = layout::number(layout::begin("sequence", size_of::<Self>(), align_of::<Self>()), T::LAYOUT);
    const ZERO_IS_VALID: bool = true;
    const COLLECTIONS: Collections = Collections::one(Collection::sequence::<T>(Self::LAYOUT));

    #[inline(always)]
    unsafe fn is_valid(_at: *const Self) -> bool {
        true
    }
}

impl<T> PoolVec<T> {
    /// The empty sequence.
    #[inline]
    pub const fn new() -> Self {
        Self { row: Row { root: 0, length: 0 }, elements: PhantomData }
    }

    /// Elements.
    #[inline]
    pub const fn len(&self) -> u32 {
        self.row.length
    }

    /// Whether there is none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.row.length == 0
    }
}

impl<T: Plain> PoolVec<T> {
    const SHAPE: Shape = {
        assert!(size_of::<T>() != 0 && size_of::<T>() <= PAGE_BYTES, "an element has 1 to 256 bytes");
        assert!(align_of::<T>() <= ALIGNMENT_MAX, "the element is aligned to more than 16 bytes");
        Shape { size: size_of::<T>() as u32, per_page: (PAGE_BYTES / size_of::<T>()) as u32 }
    };

    /// Element `index`, if there is one.
    ///
    /// # Errors
    /// [`PoolError::Undeclared`], [`PoolError::Stale`].
    #[inline]
    pub fn get<'c>(&self, context: &'c Context, index: u32) -> Result<Option<&'c T>, PoolError> {
        context.with_pool(|pool| {
            if index >= self.row.length {
                return Ok(None);
            }
            let element = row::at(pool, &self.row, Self::SHAPE, index)?.cast();
            // SAFETY: the element lies in a page of the actor, which only changes through a borrow of the context; its bytes were found
            // to be a value, and it is aligned as the page's beginning is.
            unsafe { if T::is_valid(element) { Ok(Some(&*element)) } else { Err(PoolError::Stale) } }
        })
    }

    /// Element `index`, if there is one, to be changed. Takes the pages that lead to it.
    ///
    /// # Errors
    /// [`PoolError`].
    #[inline]
    pub fn get_mut<'c>(&mut self, context: &'c mut Context, index: u32) -> Result<Option<&'c mut T>, PoolError> {
        context.with_pool(|pool| {
            if index >= self.row.length {
                return Ok(None);
            }
            let element = row::at_mut(pool, &mut self.row, Self::SHAPE, index)?.cast();
            // SAFETY: as in `get`; the page is the message's own, and the borrow of the context makes this its only use.
            unsafe { if T::is_valid(element) { Ok(Some(&mut *element)) } else { Err(PoolError::Stale) } }
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
        self.get(context, self.row.length.wrapping_sub(1))
    }

    /// Adds an element at the end.
    ///
    /// # Errors
    /// [`PoolError`]; exhausted, too, is a sequence of `u32::MAX` elements.
    #[inline]
    pub fn push(&mut self, context: &mut Context, element: T) -> Result<(), PoolError> {
        context.with_pool(|pool| {
            let place = row::push(pool, &mut self.row, Self::SHAPE)?;
            // SAFETY: a place for an element in a page that is the message's own.
            unsafe { place.cast::<T>().write(element) };
            Ok(())
        })
    }

    /// Removes the last element, if there is one. Takes no page.
    ///
    /// # Errors
    /// [`PoolError::Undeclared`], [`PoolError::Stale`].
    #[inline]
    pub fn pop(&mut self, context: &mut Context) -> Result<Option<T>, PoolError> {
        let last = self.row.length.wrapping_sub(1);
        let Some(element) = self.get(context, last)?.copied() else { return Ok(None) };
        self.truncate(context, last)?;
        Ok(Some(element))
    }

    /// Removes the elements from `length` on. Takes no page.
    ///
    /// # Errors
    /// As [`pop`](Self::pop).
    #[inline]
    pub fn truncate(&mut self, context: &mut Context, length: u32) -> Result<(), PoolError> {
        context.with_pool(|pool| {
            if length < self.row.length { row::cut(pool, &mut self.row, Self::SHAPE, length) } else { Ok(()) }
        })
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
            if index > self.row.length {
                return Ok(false);
            }
            let place = row::make_room(pool, &mut self.row, Self::SHAPE, index)?;
            // SAFETY: as in `push`.
            unsafe { place.cast::<T>().write(element) };
            Ok(true)
        })
    }

    /// Removes element `index`, if there is one. Moves the elements behind it, and takes their pages.
    ///
    /// # Errors
    /// [`PoolError`].
    #[inline]
    pub fn remove(&mut self, context: &mut Context, index: u32) -> Result<Option<T>, PoolError> {
        let Some(removed) = self.get(context, index)?.copied() else { return Ok(None) };
        context.with_pool(|pool| row::close_gap(pool, &mut self.row, Self::SHAPE, index))?;
        Ok(Some(removed))
    }

    /// Removes element `index`, if there is one, and puts the last one in its place.
    ///
    /// # Errors
    /// [`PoolError`].
    #[inline]
    pub fn swap_remove(&mut self, context: &mut Context, index: u32) -> Result<Option<T>, PoolError> {
        let Some(moved) = self.last(context)?.copied() else { return Ok(None) };
        let Some(place) = self.get_mut(context, index)? else { return Ok(None) };
        let removed = core::mem::replace(place, moved);
        self.truncate(context, self.row.length.wrapping_sub(1))?;
        Ok(Some(removed))
    }

    /// The number of elements in front of the first for which `is_before` does not hold, where it holds for none behind that:
    /// the place of an element in a sorted sequence.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[inline]
    pub fn partition_point(&self, context: &Context, mut is_before: impl FnMut(&T) -> bool) -> Result<u32, PoolError> {
        let (mut low, mut high) = (0, self.row.length);
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

impl<'c, T: Plain> Iterator for VecIter<'c, T> {
    type Item = Result<&'c T, PoolError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let index = self.index;
        if index >= self.sequence.row.length {
            return None;
        }
        let place = index % (PAGE_BYTES / size_of::<T>()) as u32;
        if place == 0 {
            match self.sequence.get(self.context, index) {
                Ok(page) => self.page = page.map_or(core::ptr::null(), core::ptr::from_ref),
                Err(error) => {
                    self.index = u32::MAX;
                    return Some(Err(error));
                }
            }
        }
        self.index = index.wrapping_add(1);
        let element = self.page.wrapping_add(place as usize);
        // SAFETY: as in `PoolVec::get`; the element begins its page, or follows one that does, and the context is borrowed, so the
        // page has not changed since it was found.
        Some(unsafe { if T::is_valid(element) { Ok(&*element) } else { Err(PoolError::Stale) } })
    }
}
