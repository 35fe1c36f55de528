//! References to published blocks, and what a reader sees of one.

use core::marker::PhantomData;
use core::slice;

use tourbillon_shared::published::BlockShape;

use super::PoolError;
use super::publish::{Address, Found};
use crate::actor::ALIGNMENT_MAX;
use crate::context::Context;
use crate::plain::{Plain, layout};

/// A reference to a block of elements that an actor has published: plain data of 1 to 256 bytes each, up to 14,336 bytes together.
///
/// A published block never changes. Any actor of any shard that has the reference, in its state or in a message, may
/// [`read`](Self::read) it in place. The actor that published it may [`replace`](Self::replace) it, which publishes another and takes
/// this one back, or [`take_back`](Self::take_back) it without another; from then on the old reference is
/// [stale](PoolError::BlockStale). All of that happens when the message succeeds: one that fails has published nothing and taken
/// back nothing.
///
/// Twenty bytes of plain data; all zero is no block. Whatever words it has, nothing is read but what was published under them.
/// What is taken back is free when the handlers that may be reading it have returned.
///
/// ```
/// use tourbillon_device::{BlockRef, Context, Handler, NoError, Plain, State, actor};
///
/// /// Publishes tables, and reads those of others.
/// #[repr(C)]
/// #[derive(Clone, Copy, State)]
/// struct Tariff {
///     table: BlockRef<u64>,
/// }
///
/// /// The prices from now on; the reply is where others find them.
/// #[repr(C)]
/// #[derive(Clone, Copy, Plain)]
/// struct Set([u64; 4]);
///
/// /// The first price of a table, whose ever it is.
/// #[repr(C)]
/// #[derive(Clone, Copy, Plain)]
/// struct First(BlockRef<u64>);
///
/// impl Handler<Set> for Tariff {
///     type Reply = BlockRef<u64>;
///     fn handle(&mut self, message: &Set, context: &mut Context) -> Result<BlockRef<u64>, NoError> {
///         self.table.replace(context, &message.0)?;
///         Ok(self.table)
///     }
/// }
///
/// impl Handler<First> for Tariff {
///     type Reply = u64;
///     fn handle(&mut self, message: &First, context: &mut Context) -> Result<u64, NoError> {
///         Ok(message.0.read(context)?.get(0).copied().unwrap_or(0))
///     }
/// }
///
/// actor!(Tariff { kind: 901, blocks: true, error: NoError, messages: { #[outlined] 0: Set, #[outlined] 1: First } });
/// ```
#[repr(C)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct BlockRef<T> {
    address: Address,
    elements: PhantomData<T>,
}

impl<T> Clone for BlockRef<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for BlockRef<T> {}
impl<T> Default for BlockRef<T> {
    fn default() -> Self {
        Self::new()
    }
}
// SAFETY: five words without padding, any of which are a value: what they lead to is checked.
#[diagnostic::do_not_recommend]
unsafe impl<T: Plain> Plain for BlockRef<T> {
    const LAYOUT: u64 = layout::number(layout::begin("block", size_of::<Self>(), align_of::<Self>()), T::LAYOUT);
    const ZERO_IS_VALID: bool = true;

    #[inline(always)]
    unsafe fn is_valid(_at: *const Self) -> bool {
        true
    }
}

impl<T> BlockRef<T> {
    /// That of no block.
    #[inline]
    pub const fn new() -> Self {
        Self { address: Address { version: [0; 2], shard: 0, page: 0, length: 0 }, elements: PhantomData }
    }

    /// Whether it is that of no block.
    #[inline]
    pub const fn is_none(&self) -> bool {
        self.address.page == 0
    }

    /// Elements, as the reference has it: a block with another length is not found.
    #[inline]
    pub const fn len(&self) -> u32 {
        self.address.length
    }

    /// Whether there is no element.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.address.length == 0
    }
}

impl<T: Plain> BlockRef<T> {
    const SHAPE: BlockShape = {
        assert!(align_of::<T>() <= ALIGNMENT_MAX, "the element is aligned to more than 16 bytes");
        BlockShape::of(size_of::<T>())
    };
    /// Most elements of a block: those of [`BLOCK_PAGES_MAX`](tourbillon_shared::published::BLOCK_PAGES_MAX) pages.
    pub const LENGTH_MAX: u32 = Self::SHAPE.most();

    /// Publishes a block of these elements.
    ///
    /// # Errors
    /// [`PoolError::Exhausted`], [`PoolError::BlockTooLong`], [`PoolError::BlockUndeclared`].
    #[inline]
    pub fn publish(context: &mut Context, elements: &[T]) -> Result<Self, PoolError> {
        // A longer slice has a length that no block has.
        let length = if elements.len() > u32::MAX as usize { u32::MAX } else { elements.len() as u32 };
        let first = elements.as_ptr();
        // SAFETY: the index is below the length.
        Self::publish_with(context, length, |_, index| Ok(unsafe { *first.wrapping_add(index as usize) }))
    }

    /// Publishes a block of `length` elements, which `element` makes one after the other, from 0 on: so that none of them has to lie
    /// anywhere before.
    ///
    /// # Errors
    /// As for [`publish`](Self::publish), and what `element` fails with; nothing is published then.
    #[inline]
    pub fn publish_with(
        context: &mut Context,
        length: u32,
        mut element: impl FnMut(&Context, u32) -> Result<T, PoolError>,
    ) -> Result<Self, PoolError> {
        let shape = Self::SHAPE;
        let id = context.with_blocks(PoolError::Exhausted, |pool| pool.draft(T::LAYOUT, length, shape))?;
        let found = context.with_blocks(PoolError::Exhausted, |pool| Ok(pool.drafted(id)))?;
        let is_in_head = length <= shape.in_head;
        let per_chunk = if is_in_head { shape.in_head } else { shape.per_page };
        let (mut index, mut chunk) = (0, 0);
        while index < length {
            // SAFETY: the draft has the chunks of all its elements.
            let to = unsafe { found.chunk(is_in_head, chunk) }.cast_mut().cast::<T>();
            let mut place = 0;
            while place < per_chunk && index < length {
                match element(context, index) {
                    // SAFETY: the page is the message's own, aligned as elements are, and has room for as many.
                    Ok(element) => unsafe { to.wrapping_add(place as usize).write(element) },
                    Err(error) => {
                        context.with_blocks(PoolError::Exhausted, |pool| {
                            pool.discard(id);
                            Ok(())
                        })?;
                        return Err(error);
                    }
                }
                place = place.wrapping_add(1);
                index = index.wrapping_add(1);
            }
            chunk = chunk.wrapping_add(1);
        }
        let address = context.with_blocks(PoolError::Exhausted, |pool| Ok(pool.issue(id, length)))?;
        Ok(Self { address, elements: PhantomData })
    }

    /// Publishes a block of these elements in place of this one, which is taken back; in place of none it is the first.
    ///
    /// The pool needs room for both until the old one's readers have returned.
    ///
    /// # Errors
    /// As for [`publish`](Self::publish) and [`take_back`](Self::take_back); the reference, and what it leads to, are as they were.
    #[inline]
    pub fn replace(&mut self, context: &mut Context, elements: &[T]) -> Result<(), PoolError> {
        let new = Self::publish(context, elements)?;
        self.put(context, new)
    }

    /// As [`replace`](Self::replace), with elements as for [`publish_with`](Self::publish_with).
    ///
    /// # Errors
    /// As for [`replace`](Self::replace), and what `element` fails with.
    #[inline]
    pub fn replace_with(
        &mut self,
        context: &mut Context,
        length: u32,
        element: impl FnMut(&Context, u32) -> Result<T, PoolError>,
    ) -> Result<(), PoolError> {
        let new = Self::publish_with(context, length, element)?;
        self.put(context, new)
    }

    /// Puts a block that was just published in place of this one.
    #[inline]
    fn put(&mut self, context: &mut Context, new: Self) -> Result<(), PoolError> {
        if !self.is_none() {
            let (old, address) = (self.address, new.address);
            context.with_blocks(PoolError::BlockUnknown, |pool| {
                pool.take_back(&old).inspect_err(|_| pool.discard(address.page))
            })?;
        }
        *self = new;
        Ok(())
    }

    /// Takes the block back; the reference is then that of no block, and those that others have are stale. Of none, nothing.
    ///
    /// # Errors
    /// [`PoolError::BlockForeign`] when another actor has published it, [`PoolError::BlockStale`], [`PoolError::BlockUnknown`],
    /// [`PoolError::BlockUndeclared`].
    #[inline]
    pub fn take_back(&mut self, context: &mut Context) -> Result<(), PoolError> {
        if !self.is_none() {
            let old = self.address;
            context.with_blocks(PoolError::BlockUnknown, |pool| pool.take_back(&old))?;
        }
        *self = Self::new();
        Ok(())
    }

    /// The block, to be read where it lies, until the handler returns.
    ///
    /// # Errors
    /// [`PoolError::BlockStale`] when it was replaced or taken back, [`PoolError::BlockUnknown`] when the reference leads to none that
    /// was published, or to one of other elements or another length, [`PoolError::BlockUndeclared`].
    #[inline]
    pub fn read<'c>(&self, context: &'c Context) -> Result<BlockView<'c, T>, PoolError> {
        let found = context
            .with_blocks(PoolError::BlockUnknown, |pool| pool.find(&self.address, T::LAYOUT, Self::SHAPE.size))?;
        Ok(BlockView { found, length: self.address.length, elements: PhantomData })
    }
}

/// A published block, as a handler reads it.
///
/// What is small is one chunk; else each page of 256 bytes is one, all full but the last.
#[derive(Clone, Copy, Debug)]
pub struct BlockView<'c, T> {
    found: Found,
    length: u32,
    elements: PhantomData<&'c T>,
}

impl<'c, T: Plain> BlockView<'c, T> {
    const SHAPE: BlockShape = BlockRef::<T>::SHAPE;

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

    #[inline(always)]
    fn is_in_head(&self) -> bool {
        self.length <= Self::SHAPE.in_head
    }

    /// Element `index`, if there is one: two loads one after the other, one where the block is small.
    #[inline]
    pub fn get(&self, index: u32) -> Option<&'c T> {
        if index >= self.length {
            return None;
        }
        let (chunk, place) = if self.is_in_head() {
            (0, index)
        } else {
            (index / const { Self::SHAPE.per_page }, index % const { Self::SHAPE.per_page })
        };
        // SAFETY: the block has that chunk, and in it that element, which was written as a value of a type with this layout; nobody
        // writes it while the handler runs.
        unsafe { Some(&*self.found.chunk(self.is_in_head(), chunk).cast::<T>().wrapping_add(place as usize)) }
    }

    /// How many chunks there are.
    #[inline]
    pub fn chunks(&self) -> u32 {
        if self.is_in_head() { 1 } else { self.length.div_ceil(const { Self::SHAPE.per_page }) }
    }

    /// Chunk `chunk`: elements that follow each other in memory; empty past the last. In order they are all elements.
    #[inline]
    pub fn chunk(&self, chunk: u32) -> &'c [T] {
        if chunk >= self.chunks() {
            return &[];
        }
        let (first, most) = if self.is_in_head() {
            (0, self.length)
        } else {
            (chunk.wrapping_mul(Self::SHAPE.per_page), Self::SHAPE.per_page)
        };
        let left = self.length.wrapping_sub(first);
        let count = if left < most { left } else { most };
        // SAFETY: as in `get`.
        unsafe { slice::from_raw_parts(self.found.chunk(self.is_in_head(), chunk).cast::<T>(), count as usize) }
    }

    /// All elements in order.
    #[inline]
    pub fn iter(&self) -> BlockIter<'c, T> {
        BlockIter { view: *self, next: 0 }
    }
}

impl<'c, T: Plain> IntoIterator for BlockView<'c, T> {
    type Item = &'c T;
    type IntoIter = BlockIter<'c, T>;
    fn into_iter(self) -> BlockIter<'c, T> {
        self.iter()
    }
}

/// The elements of a published block in order.
#[derive(Clone, Debug)]
pub struct BlockIter<'c, T> {
    view: BlockView<'c, T>,
    next: u32,
}

impl<'c, T: Plain> Iterator for BlockIter<'c, T> {
    type Item = &'c T;

    #[inline]
    fn next(&mut self) -> Option<&'c T> {
        let element = self.view.get(self.next)?;
        self.next = self.next.wrapping_add(1);
        Some(element)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.view.length.wrapping_sub(self.next) as usize;
        (left, Some(left))
    }
}

impl<T: Plain> ExactSizeIterator for BlockIter<'_, T> {}
