//! What a handler may know and do beside its own state.

use core::cell::Cell;
use core::ops::Range;

use tourbillon_shared::frame::PAYLOAD_BYTES_MAX;
use tourbillon_shared::geometry::EntryHeader;
use tourbillon_shared::mailbox::{Desk, LETTERS_MAX};
use tourbillon_shared::outbox::{Mail, NOTICES_MAX, Subscriber};
use tourbillon_shared::pool::LanePool;

use crate::arch::{Arch, Here};
use crate::large::Large;
use crate::mailbox::{Near, OutgoingOf};
use crate::outbox::{self, Notice};
use crate::pool::PoolError;
use crate::pool::lane::Pool;

/// Where in the word of what was posted the count of letters begins.
const LETTERS_SHIFT: u32 = 16;

/// What an actor has declared to use of its shard's pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Declared {
    /// Nothing.
    Nothing,
    /// Collections.
    Pools,
    /// Collections and published blocks.
    Blocks,
}

/// What a handler may know and do beside its own state.
#[derive(Debug)]
pub struct Context {
    pub(crate) key: u64,
    pub(crate) hlc: u64,
    pub(crate) version: u64,
    /// Low 32 bits of the device clock, nanoseconds, when the message came to the device, or was sent by an actor.
    pub(crate) sent_ns: u32,
    /// Null for a message without a payload in an arena; else the message's own for as long as the handler runs. A pointer, because
    /// nearly all messages have none.
    pub(crate) large: *mut Large,
    /// Whether the handler asked for a larger reply than there is room for.
    pub(crate) is_over: bool,
    /// Where posting finds what it needs; null on the short way of a lone message, which leaves a handler that posts to the long one.
    pub(crate) mail: *const Mail,
    /// The lane of the warp.
    pub(crate) lane: u32,
    /// Where sending letters finds what it needs; null as `mail` is.
    pub(crate) desk: *const Desk,
    /// Where letters begin to be written; null as `mail` is, and where no actor of the system sends any.
    pub(crate) near: *mut Near,
    /// Notices posted, in the lower half, and letters sent, in the upper one, each as far as they were counted. One word, for all that the
    /// short way asks is whether there are any.
    pub(crate) posted: u32,
    /// The lane's record of the shard's pool; null where the actor uses no collections, or the engine has no pools.
    pub(crate) pool: *mut LanePool,
    /// What the actor has declared.
    pub(crate) declared: Declared,
    /// The first [`PoolError`] of the message that was not forgiven, as a word; 0 for none.
    pub(crate) pool_error: Cell<u32>,
}

impl Context {
    /// That of a message to the actor `key`, of which nothing else is known yet.
    #[inline(always)]
    pub(crate) const fn of(key: u64) -> Self {
        Self {
            key,
            hlc: 0,
            version: 0,
            sent_ns: 0,
            large: core::ptr::null_mut(),
            is_over: false,
            mail: core::ptr::null(),
            desk: core::ptr::null(),
            near: core::ptr::null_mut(),
            lane: 0,
            posted: 0,
            pool: core::ptr::null_mut(),
            declared: Declared::Nothing,
            pool_error: Cell::new(0),
        }
    }

    /// Notices posted.
    #[inline(always)]
    pub(crate) const fn notices(&self) -> u32 {
        self.posted & 0xffff
    }

    /// Letters sent.
    #[inline(always)]
    pub(crate) const fn letters(&self) -> u32 {
        self.posted >> LETTERS_SHIFT
    }

    /// Where they are.
    #[inline(always)]
    pub(crate) const fn outgoing(&self) -> OutgoingOf {
        OutgoingOf { desk: self.desk, near: self.near, lane: self.lane }
    }

    /// Counts a letter; its index.
    #[inline(always)]
    pub(crate) const fn count_letter(&mut self) -> u32 {
        let index = self.letters();
        if index <= LETTERS_MAX {
            self.posted = self.posted.wrapping_add(1 << LETTERS_SHIFT);
        }
        index
    }

    /// Counts a notice; its index.
    #[inline(always)]
    pub(crate) const fn count_notice(&mut self) -> u32 {
        let index = self.notices();
        // More than one message may post is not counted any further.
        self.posted = self.posted.wrapping_add((index <= NOTICES_MAX) as u32);
        index
    }

    /// The key of the actor that runs.
    #[inline]
    pub fn key(&self) -> u64 {
        self.key
    }

    /// The timestamp of this message's receipt ([`tourbillon_shared::hlc`]): unique in the shard, later than the sender's and
    /// than every earlier one of the shard.
    #[inline]
    pub fn hlc(&self) -> u64 {
        self.hlc
    }

    /// Nanoseconds since the message came to the device, or since it was sent by an actor, on the device's clock, which has steps (32 ns on an
    /// H100); for messages that waited less than four seconds.
    #[inline]
    pub fn waited_ns(&self) -> u64 {
        u64::from((Here::now_ns() as u32).wrapping_sub(self.sent_ns))
    }

    /// How many messages the actor handled before this one without a failure.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The payload that came beside the message by way of the client's arena, up to 1 MiB, in device memory; empty without one.
    ///
    /// A handler runs on one lane of a warp: what it does with every byte takes a GPU milliseconds. Handing bytes on
    /// ([`reply_with`](Self::reply_with)) is the work of the whole warp.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        // SAFETY: null, or what `receive` was told of.
        match unsafe { self.large.as_ref() } {
            Some(large) => large.payload(),
            None => &[],
        }
    }

    /// Bytes that the caller has reserved for the payload of the reply.
    #[inline]
    pub fn reply_room(&self) -> usize {
        // SAFETY: as in `payload`.
        match unsafe { self.large.as_ref() } {
            Some(large) => large.room(),
            None => 0,
        }
    }

    /// Makes these bytes of the payload the payload of the reply; the whole warp copies them when the handler has succeeded. When
    /// they are more than [`reply_room`](Self::reply_room), a caller gets a failure for too large a reply, and the message leaves
    /// no trace; to a tell, whose reply nobody reads, they are simply not sent.
    ///
    /// # Panics
    /// When the range is not inside the payload.
    #[inline]
    pub fn reply_with(&mut self, range: Range<usize>) {
        let length = self.payload()[range.clone()].len();
        // SAFETY: as in `payload`.
        if let Some(large) = unsafe { self.large.as_mut() } {
            self.is_over |= !large.reply_with(range.start, length);
        }
    }

    /// Makes `bytes` bytes the payload of the reply, for the handler to write. They begin as the payload of the message, and are
    /// zero behind its end; [`payload`](Self::payload) shows them from now on. Nothing when they are more than
    /// [`reply_room`](Self::reply_room): a caller then gets a failure for too large a reply, and the message leaves no trace; to
    /// a tell there is no room, and its message is handled nevertheless.
    #[inline]
    pub fn reply_mut(&mut self, bytes: usize) -> Option<&mut [u8]> {
        // SAFETY: as in `payload`; the borrow of `self` keeps the reply the only access.
        let reply = match unsafe { self.large.as_mut() } {
            Some(large) => large.reply_mut(bytes),
            None if bytes == 0 => Some(Default::default()),
            None => None,
        };
        self.is_over |= reply.is_none();
        reply
    }

    /// Forgets that an operation on a collection or a published block has failed, and says how the first one did; nothing when none has.
    ///
    /// Without this a handler that returns an error, any error, is answered with the failure of that operation
    /// ([`PoolError::failure`]) in place of its error. After it the handler's own error is sent.
    #[inline]
    pub fn forgive(&mut self) -> Option<PoolError> {
        PoolError::from_word(self.pool_error.replace(0))
    }

    /// The first failure of an operation on a collection, unless it was forgiven.
    #[inline(always)]
    pub(crate) fn pool_failure(&self) -> Option<PoolError> {
        PoolError::from_word(self.pool_error.get())
    }

    /// Runs an operation on a collection, and notes how it fails.
    #[inline(always)]
    pub(crate) fn with_pool<R>(&self, operation: impl FnOnce(Pool) -> Result<R, PoolError>) -> Result<R, PoolError> {
        let result = if !self.pool.is_null() {
            // SAFETY: `open_pool` was told that the record is this lane's, and open; the actor that runs is in it.
            operation(unsafe { Pool::new(self.pool) })
        } else if self.declared != Declared::Nothing {
            Err(PoolError::Exhausted)
        } else {
            Err(PoolError::Undeclared)
        };
        self.note(result)
    }

    /// As [`with_pool`](Self::with_pool) for an operation on published blocks, which fails with `without` where there is no pool.
    #[inline(always)]
    pub(crate) fn with_blocks<R>(
        &self,
        without: PoolError,
        operation: impl FnOnce(Pool) -> Result<R, PoolError>,
    ) -> Result<R, PoolError> {
        let result = if self.declared != Declared::Blocks {
            Err(PoolError::BlockUndeclared)
        } else if self.pool.is_null() {
            Err(without)
        } else {
            // SAFETY: as in `with_pool`.
            operation(unsafe { Pool::new(self.pool) })
        };
        self.note(result)
    }

    /// Notes how an operation fails, if it is the first of the message.
    #[inline(always)]
    fn note<R>(&self, result: Result<R, PoolError>) -> Result<R, PoolError> {
        if let Err(error) = result
            && self.pool_error.get() == 0
        {
            self.pool_error.set(error as u32);
        }
        result
    }

    /// Lets the handler use collections, for an actor at `entry` that has declared it.
    ///
    /// # Safety
    /// The mail is that of the warp, or null; the record of the lane is open, and nobody else uses it while the context lives.
    #[inline(always)]
    pub(crate) unsafe fn open_pool(&mut self, entry: *const EntryHeader) {
        self.declared = Declared::Pools;
        if self.mail.is_null() {
            return;
        }
        // SAFETY: the caller vouches for the mail.
        let records = unsafe { (*self.mail).pools } as *mut LanePool;
        if !records.is_null() {
            self.pool = records.wrapping_add(self.lane as usize);
            // SAFETY: the caller vouches for the record.
            unsafe { Pool::new(self.pool) }.begin(entry, self.hlc);
        }
    }

    /// As [`open_pool`](Self::open_pool), for an actor that has declared that it uses published blocks.
    ///
    /// # Safety
    /// As for `open_pool`; the record says where blocks are, and the warp has announced that it reads.
    #[inline(always)]
    pub(crate) unsafe fn open_blocks(&mut self, entry: *const EntryHeader) {
        // SAFETY: the caller vouches for it.
        unsafe { self.open_pool(entry) };
        self.declared = Declared::Blocks;
        if !self.pool.is_null() {
            // SAFETY: as in `with_pool`.
            unsafe { Pool::new(self.pool) }.begin_blocks();
        }
    }

    /// Makes the blocks that the message has published be there: it can no longer fail, and nothing has left it yet.
    #[inline(always)]
    pub(crate) fn disclose_blocks(&self) {
        if !self.pool.is_null() {
            // SAFETY: as in `with_pool`.
            unsafe { Pool::new(self.pool) }.disclose();
        }
    }

    /// Makes the blocks that the message has taken back be gone.
    #[inline(always)]
    pub(crate) fn commit_blocks(&self) {
        if !self.pool.is_null() {
            // SAFETY: as in `with_pool`.
            unsafe { Pool::new(self.pool) }.commit_blocks();
        }
    }

    /// Makes what the message did to its collections last.
    #[inline(always)]
    pub(crate) fn commit_pool(&self) {
        if !self.pool.is_null() {
            // SAFETY: as in `with_pool`.
            unsafe { Pool::new(self.pool) }.commit();
        }
    }

    /// Posts a notice: a message to a client that did not ask for it. It is sent when the handler has succeeded, never when it fails or
    /// panics; notices of one actor reach a subscriber in the order in which they were posted.
    ///
    /// One message may post [`NOTICES_MAX`](tourbillon_shared::outbox::NOTICES_MAX); with more it fails and leaves no trace. What
    /// happens when the subscriber has no room was chosen by the subscriber: the notice is dropped and counted, or the message
    /// fails and leaves no trace. What is for a subscriber that is gone is dropped and counted. A notice larger than a frame's
    /// payload of 352 bytes does not compile.
    #[inline]
    pub fn post<N: Notice>(&mut self, subscriber: Subscriber, notice: &N) {
        const {
            assert!(size_of::<N>() <= PAYLOAD_BYTES_MAX, "the notice is larger than a frame carries (352 bytes)");
        }
        let index = self.count_notice();
        if !self.mail.is_null() {
            // SAFETY: the engine told of the mail and the lane; the size was checked above.
            unsafe { outbox::store(self.mail, self.lane, index, subscriber, N::NUMBER, notice.as_bytes()) };
        }
    }
}
