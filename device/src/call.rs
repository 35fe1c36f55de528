//! One message on its way through a handler.

use core::mem::MaybeUninit;

use tourbillon_shared::arena::{ARENA_REF_WORDS, ArenaRef};
use tourbillon_shared::error::{FailureCode, PanicPlace};
use tourbillon_shared::frame::{PAYLOAD_BYTES_OF_ONE_SLOT, arena_start, payload_start, slots_for};
use tourbillon_shared::geometry::EntryHeader;
use tourbillon_shared::header::{Flags, Header};
use tourbillon_shared::mailbox::{Desk, LetterHint};
use tourbillon_shared::mutant;
use tourbillon_shared::outbox::{Mail, NOTICES_MAX};
use tourbillon_shared::virtual_actors::kind_of;

use crate::actor::{Actor, Handler, Message};
use crate::context::Context;
use crate::large::Large;
use crate::mailbox::Near;
use crate::plain::Plain;
use crate::pool::PoolError;
use crate::words::{COPIED_AT_ONCE_MAX, Words};

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Handled; the reply is written and the state stored.
    Done,
    /// The handler returned its typed error; that is the reply.
    Failed,
    /// The actor has no such message.
    Unknown,
    /// The payload is no value of the message.
    Invalid,
    /// The reply would not fit into the frame, or its payload into the arena.
    TooLarge,
    /// Nothing was done, because the handler posts notices, or its actor has not declared that it uses collections, and this is the
    /// short way.
    Posts,
    /// The handler posted more notices than it may.
    TooManyNotices,
    /// A subscriber that refuses to lose notices has no room.
    OutboxFull,
    /// An operation on a collection failed, and the handler with it.
    Pool(PoolError),
    /// The handler sent more letters than it may.
    TooManyLetters,
    /// There is no room for a letter that it sent.
    MailboxFull,
    /// There is no number for a broadcast that it wants to begin.
    TooManyBroadcasts,
    /// There is no room for the answer to a question that it asked.
    TooManyQuestions,
    /// It handed on a message that was handed on as often as it may be.
    TooManyHops,
    /// It handed on what it cannot.
    CannotForward,
    /// Its actor has not declared that it sends letters, or is not the one that the answer is for.
    LettersUndeclared,
    /// The actor lives on the host, where nobody serves it.
    HostAbsent,
    /// The actor lives on the host, which has no room for the message.
    HostBusy,
}

/// A message on its way through its handler.
#[derive(Debug)]
pub struct Call<W> {
    pub(crate) words: W,
    pub(crate) header: Header,
    /// The timestamp of the receipt.
    pub(crate) event_hlc: u64,
    /// The actor's entry.
    pub(crate) entry: *mut EntryHeader,
    /// Whether the actor handled nothing yet.
    is_new: bool,
    pub(crate) context: Context,
}

impl<W: Words> Call<W> {
    /// A call for the frame of `header` whose words are `words`.
    #[inline(always)]
    pub(crate) fn new(words: W, header: Header, event_hlc: u64) -> Self {
        let context = Context { hlc: event_hlc, sent_ns: header.hlc as u32, ..Context::of(header.key) };
        Self { words, header, event_hlc, entry: core::ptr::null_mut(), is_new: false, context }
    }

    /// Says where the actor's entry is, in front of its state, and what stands there.
    ///
    /// # Safety
    /// `entry` is valid and nobody else accesses it while the call lives.
    #[inline(always)]
    pub(crate) unsafe fn find(&mut self, entry: *mut EntryHeader, before: EntryHeader) {
        self.entry = entry;
        self.context.version = before.version;
        self.is_new = before.hlc == 0;
    }

    /// The reference of the frame, which has one.
    #[inline(always)]
    pub(crate) fn reference(&self) -> ArenaRef {
        let start = arena_start(self.header.flags);
        let mut words = [0; ARENA_REF_WORDS as usize];
        let mut i = 0;
        while i < ARENA_REF_WORDS {
            // SAFETY: `i` is below the array's length; the frame was found well-formed, so its extensions lie inside it.
            unsafe { *words.get_unchecked_mut(i as usize) = self.words.word(start.wrapping_add(i)) };
            i = i.wrapping_add(1);
        }
        ArenaRef::decode(&words)
    }

    /// Gives the handler the payload of the frame's reference.
    ///
    /// # Safety
    /// `large` is valid while the call lives, and nobody else uses it.
    #[inline(always)]
    pub(crate) unsafe fn receive(&mut self, large: *mut Large) {
        self.context.large = large;
    }

    /// Lets the handler post, and send letters, for which it is to be lent a place.
    ///
    /// # Safety
    /// `mail` and `desk` are those of the warp, and valid while the call lives; `lane` is the lane that runs.
    #[inline(always)]
    pub(crate) unsafe fn deliver(&mut self, mail: *const Mail, desk: *const Desk, lane: u32) {
        (self.context.mail, self.context.desk, self.context.lane) = (mail, desk, lane);
    }

    /// Gives the handler a place to write letters to.
    ///
    /// # Safety
    /// `near` is valid while the call lives, and nobody else uses it.
    #[inline(always)]
    pub(crate) unsafe fn lend(&mut self, near: *mut Near) {
        self.context.near = near;
    }

    /// Whether it is a letter to which nobody waits for an answer: a reply that is larger than the frame is not written.
    #[inline(always)]
    fn is_answered_to_nobody(&self) -> bool {
        W::LETTER || (self.header.flags.has(Flags::TELL) && LetterHint::decode(self.header.hint).is_some())
    }

    /// Whether the payload of the frame, and of its reply, is in an arena.
    #[inline(always)]
    fn is_large(&self) -> bool {
        W::SPAN.is_none() && self.header.flags.has(Flags::ARENA)
    }

    /// Whether the frame is of message `M` to actor `A`, as far as a frame of its sort has to be asked.
    ///
    /// One slot in registers says all of it in one word, so that one comparison finds the handler; what does not fit that
    /// pattern is for the long way, which knows why.
    #[doc(hidden)]
    #[inline(always)]
    pub fn is<A: Handler<M>, M: Message>(&self) -> bool {
        if W::SPAN.is_none() {
            return kind_of(self.header.kind) == A::KIND && self.header.message == M::NUMBER;
        }
        let fits = const {
            let (message, reply, error) = (size_of::<M>(), size_of::<A::Reply>(), size_of::<A::Error>() + 4);
            let is_answer_short = slots_for(0, reply) == 1 && slots_for(0, error) == 1;
            slots_for(0, message) == 1 && (W::LETTER || is_answer_short && !M::OUTLINED) && !A::POOLS && !A::SUPERVISED
        };
        fits && self.selector() == const { selector(A::KIND, M::NUMBER, size_of::<M>()) }
    }

    /// [`is`](Self::is) for the actor of message `M`.
    #[doc(hidden)]
    #[inline(always)]
    pub fn takes<M: Message>(&self) -> bool {
        self.is::<M::Actor, M>()
    }

    /// Runs the handler of message `M`, which the frame is.
    ///
    /// # Safety
    /// As for [`answer`](Self::answer).
    #[doc(hidden)]
    #[inline(always)]
    pub unsafe fn run<M: Message>(&mut self, state: *mut M::Actor) -> Outcome {
        // SAFETY: the caller vouches for `state`.
        unsafe {
            if M::OUTLINED && !W::LETTER {
                self.answer_apart::<M::Actor, M>(state)
            } else {
                self.answer::<M::Actor, M>(state)
            }
        }
    }

    #[inline(always)]
    fn selector(&self) -> u32 {
        selector(self.header.kind, self.header.message, self.header.length as usize)
    }

    /// The request's header.
    #[inline(always)]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Slots of the frame.
    #[inline(always)]
    fn span(&self) -> u32 {
        match W::SPAN {
            Some(span) => span,
            None => self.header.flags.span(),
        }
    }

    /// Decodes the message, runs its handler on a copy of the state, and stores the state only when the handler succeeded.
    ///
    /// # Safety
    /// `state` points to a valid state that nobody else accesses meanwhile.
    #[inline]
    #[doc(hidden)]
    pub unsafe fn answer<A: Handler<M>, M: Message>(&mut self, state: *mut A) -> Outcome {
        let Some(words) = self.words.again() else {
            // SAFETY: the caller vouches for `state`.
            return unsafe { self.answer_here::<A, M>(state) };
        };
        // A call of its own for each handler: one whose address is taken by any of them would be kept in memory, for all.
        let Context { hlc, version, sent_ns, mail, lane, desk, near, .. } = self.context;
        let context = Context { hlc, version, sent_ns, mail, lane, desk, near, ..Context::of(self.header.key) };
        // Field by field: what is copied as a whole is put together from its words again.
        let Header { key, kind, message, hops, length, flags, hint, hlc } = self.header;
        let header = Header { key, kind, message, hops, length, flags, hint, hlc };
        let (event_hlc, entry, is_new) = (self.event_hlc, self.entry, self.is_new);
        // SAFETY: the caller vouches for `state`.
        unsafe { Call { words, header, event_hlc, entry, is_new, context }.answer_here::<A, M>(state) }
    }

    /// As [`answer`](Self::answer), which says where the call is.
    ///
    /// # Safety
    /// As for [`answer`](Self::answer).
    #[inline(always)]
    unsafe fn answer_here<A: Handler<M>, M: Message>(&mut self, state: *mut A) -> Outcome {
        let slots = if self.is_large() {
            const { slots_for_answer::<A, M>(ARENA_REF_WORDS as usize * 4) }
        } else {
            const { slots_for_answer::<A, M>(0) }
        };
        let is_read = !W::LETTER && (W::SPAN.is_some() || slots <= self.span());
        if !is_read && (!self.is_answered_to_nobody() || mutant!("unread_replies_refused")) {
            return Outcome::TooLarge;
        }
        let Some(message) = self.message::<M>() else { return Outcome::Invalid };
        let state = state.cast::<Entry<A>>();
        let mut on_stack = MaybeUninit::<Entry<A>>::uninit();
        let place = on_stack.as_mut_ptr();
        let copied = self.words.copied();
        let mut small;
        // SAFETY: the caller vouches for `state`, which stands in an entry of the slab, so is aligned like one, and is a value where it is read.
        let copy = unsafe {
            let is_activated = !A::STARTS_ZEROED && self.is_new && !W::LETTER;
            if is_activated {
                // Not before: where all zero is no value there is none to copy yet.
                activate_at(state, self.header.key);
            }
            if let Some(entry) = copied {
                &mut (*entry.wrapping_add(1).cast::<Entry<A>>()).0
            } else if const { is_large::<A>() } {
                W::copy(state.cast_const(), place);
                &mut (*place).0
            } else {
                small = if is_activated { (*state).0 } else { self.words.state::<A>().unwrap_or_else(|| (*state).0) };
                &mut small
            }
        };
        // SAFETY: messages of such actors come on the long way, which opened this lane's record.
        unsafe {
            if A::BLOCKS {
                self.context.open_blocks(self.entry);
            } else if A::POOLS {
                self.context.open_pool(self.entry);
            }
        }
        match copy.handle(&message, &mut self.context) {
            // What the handler did to the state is thrown away with its copy. Nobody reads the reply to a tell.
            Ok(_) if self.context.is_over && !self.header.flags.has(Flags::TELL) => Outcome::TooLarge,
            Ok(_) if W::SPAN.is_some() && !W::LETTER && self.context.posted != 0 => Outcome::Posts,
            Ok(_) if self.context.notices() > NOTICES_MAX && !mutant!("outbox_bound_unchecked") => {
                Outcome::TooManyNotices
            }
            Ok(_) if self.context.letters() != 0 && !A::LETTERS => Outcome::LettersUndeclared,
            Ok(reply) => {
                if self.context.posted != 0 {
                    // The last point at which the message may fail.
                    let outcome = self.words.reserve(&self.header, &self.context);
                    if outcome != Outcome::Done {
                        return outcome;
                    }
                    if A::BLOCKS {
                        // When nothing can fail any more, and before a reference to one of them leaves.
                        self.context.disclose_blocks();
                    }
                    self.words.send(&self.header, &self.context);
                } else if A::BLOCKS {
                    self.context.disclose_blocks();
                }
                let (extension, role) = if self.is_large() {
                    self.write_reference();
                    (ARENA_REF_WORDS, Flags::REPLY | Flags::ARENA)
                } else {
                    (0, Flags::REPLY)
                };
                if is_read {
                    self.write_payload(extension, reply.as_bytes());
                    self.write_header(role, size_of::<A::Reply>() as u16);
                }
                // Before the state, for which nobody waits: whoever runs the actor next comes after both.
                self.words.finish();
                // SAFETY: as above; `find` was told the entry. A handler that panics never gets here.
                unsafe {
                    if copied.is_some() {
                        // It is brought back as it is.
                    } else if const { is_large::<A>() } {
                        W::copy(place.cast_const(), state);
                    } else {
                        (*state).0 = *copy;
                    }
                    let version = self.context.version.wrapping_add(1);
                    copied.unwrap_or(self.entry).write(EntryHeader { hlc: self.event_hlc, version });
                }
                if A::POOLS {
                    self.context.commit_pool();
                }
                if A::BLOCKS {
                    self.context.commit_blocks();
                }
                Outcome::Done
            }
            Err(error) => {
                if let Some(failure) = self.context.pool_failure() {
                    return if W::SPAN.is_some() { Outcome::Posts } else { Outcome::Pool(failure) };
                }
                if mutant!("outbox_sent_by_failures")
                    && self.context.posted != 0
                    && self.words.reserve(&self.header, &self.context) == Outcome::Done
                {
                    self.words.send(&self.header, &self.context);
                }
                if is_read {
                    self.write_word(0, FailureCode::Handler as u32);
                    self.write_payload(1, error.as_bytes());
                    self.write_header(Flags::REPLY | Flags::FAILED, size_of::<A::Error>() as u16 + 4);
                } else if A::SUPERVISED && !mutant!("unread_errors_unnoticed") {
                    // Nobody waits for it, but whoever watches the actor looks for the code and for the error's first word.
                    self.write_word(0, FailureCode::Handler as u32);
                    let bytes = error.as_bytes();
                    self.write_payload(1, bytes.get(..4).unwrap_or(bytes));
                    self.write_header(Flags::REPLY | Flags::FAILED, 8);
                }
                self.words.finish();
                Outcome::Failed
            }
        }
    }

    /// As [`answer`](Self::answer), as a function of its own.
    ///
    /// # Safety
    /// As for [`answer`](Self::answer).
    #[inline(never)]
    #[doc(hidden)]
    pub unsafe fn answer_apart<A: Handler<M>, M: Message>(&mut self, state: *mut A) -> Outcome {
        // SAFETY: the caller vouches for it.
        unsafe { self.answer::<A, M>(state) }
    }

    /// The message in the frame, or nothing when its bytes are no value of `M`.
    #[inline(always)]
    fn message<M: Plain>(&self) -> Option<M> {
        // In a frame of one slot `is` found the length.
        if W::SPAN.is_none() && self.header.length as usize != size_of::<M>() {
            return None;
        }
        let mut message = MaybeUninit::<M>::uninit();
        let target = message.as_mut_ptr().cast::<u8>();
        let start = W::payload_start(self.header.flags);
        let words = size_of::<M>() / 4;
        let mut i = 0;
        while i < words {
            // SAFETY: the header was found well-formed, so its length lies inside the frame; `message` has `words` whole
            // words, written byte-wise because it may be aligned to less than four.
            unsafe { target.add(i * 4).cast::<u32>().write_unaligned(self.words.word(start.wrapping_add(i as u32))) };
            i += 1;
        }
        if !size_of::<M>().is_multiple_of(4) {
            // The frame's payload is padded to whole words.
            let last = self.words.word(start.wrapping_add(words as u32));
            let mut byte = words * 4;
            while byte < size_of::<M>() {
                // SAFETY: `byte` is below the size of `message`.
                unsafe { target.add(byte).write((last >> (byte % 4 * 8)) as u8) };
                byte += 1;
            }
        }
        let unchecked = match W::SPAN {
            Some(_) => mutant!("values_unchecked_in_one_slot"),
            None => mutant!("values_unchecked_on_the_long_way"),
        };
        // SAFETY: all bytes of `message` were written, and are taken for a value only when they are one.
        unsafe { (M::is_valid(message.as_ptr()) || unchecked).then(|| message.assume_init()) }
    }

    /// Writes bytes as payload of the answer, from payload word `first` on; answers have no extensions.
    #[inline(always)]
    fn write_payload(&mut self, first: u32, bytes: &[u8]) {
        let words = bytes.len() / 4;
        let source = bytes.as_ptr();
        let mut i = 0;
        while i < words {
            // SAFETY: `i` counts whole words of `bytes`.
            let word = unsafe { source.add(i * 4).cast::<u32>().read_unaligned() };
            self.write_word(first.wrapping_add(i as u32), word);
            i += 1;
        }
        if !bytes.len().is_multiple_of(4) {
            let mut last = 0u32;
            let mut byte = words * 4;
            while byte < bytes.len() {
                // SAFETY: `byte` is below the length.
                last |= u32::from(unsafe { source.add(byte).read() }) << (byte % 4 * 8);
                byte += 1;
            }
            self.write_word(first.wrapping_add(words as u32), last);
        }
    }

    /// Writes the reference of the reply's payload, in front of which nothing but the header stands.
    #[inline(always)]
    fn write_reference(&mut self) {
        // SAFETY: as in `Context::payload`.
        let Some(large) = (unsafe { self.context.large.as_ref() }) else { return };
        let words = large.reply_reference().encode();
        let mut i = 0;
        while i < ARENA_REF_WORDS {
            // SAFETY: `i` is below the array's length.
            self.write_word(i, unsafe { *words.get_unchecked(i as usize) });
            i = i.wrapping_add(1);
        }
    }

    /// Writes one payload word of the answer.
    #[inline(always)]
    pub(crate) fn write_word(&mut self, index: u32, word: u32) {
        // Every caller checked that its answer fits into the span.
        self.words.set_word(payload_start(Flags(0)).wrapping_add(index), word);
    }

    /// Writes the header of the answer over that of the request.
    #[inline(always)]
    pub(crate) fn write_header(&mut self, role: u16, length: u16) {
        let flags = Flags::new(self.span(), role);
        let words = Header { length, flags, hint: 0, hlc: self.event_hlc, ..self.header }.encode();
        let mut i = 0;
        while i < words.len() {
            // SAFETY: `i` is below the array's length.
            self.words.set_word(i as u32, unsafe { *words.get_unchecked(i) });
            i += 1;
        }
    }

    /// Answers that what no handler is for was done.
    #[inline(always)]
    pub(crate) fn acknowledge(&mut self) {
        self.write_header(Flags::REPLY, 0);
    }

    /// Answers with a failure that no handler caused.
    #[inline(always)]
    pub fn fail(&mut self, code: FailureCode, place: PanicPlace) {
        self.write_word(0, code as u32);
        self.write_word(1, place.line);
        self.write_word(2, place.column);
        self.write_word(3, place.file);
        let length = (tourbillon_shared::error::FAILURE_WORDS * 4) as u16;
        self.write_header(Flags::REPLY | Flags::FAILED, length);
    }
}

/// Slots of the larger of reply and typed error, where the reply has `extension_bytes` bytes of extensions.
pub(crate) const fn slots_for_answer<A: Handler<M>, M>(extension_bytes: usize) -> u32 {
    let (reply, error) = (size_of::<A::Reply>() + extension_bytes, size_of::<A::Error>() + 4);
    slots_for(0, if reply > error { reply } else { error })
}

/// Writes the first state of the actor `key`.
///
/// # Safety
/// `state` is valid for writes, and nobody else accesses it meanwhile.
#[cold]
#[inline(never)]
unsafe fn activate_at<A: Actor>(state: *mut Entry<A>, key: u64) {
    // SAFETY: the caller vouches for it.
    unsafe { (*state).0 = A::activate(key) };
}

/// A state in its place: aligned like the slab's entries, so that a copy takes few accesses.
#[repr(C, align(16))]
struct Entry<A>(A);

/// Whether a state is copied chunk by chunk.
const fn is_large<A>() -> bool {
    size_of::<Entry<A>>() > COPIED_AT_ONCE_MAX
}

const _: () = assert!(align_of::<Entry<u8>>() == align_of::<EntryHeader>());
const _: () = assert!(PAYLOAD_BYTES_OF_ONE_SLOT <= u8::MAX as usize);

/// Kind, message and length of a frame of one slot, whose length is below 256, in one word.
#[inline(always)]
const fn selector(kind: u16, message: u8, length: usize) -> u32 {
    kind as u32 | (message as u32) << 16 | (length as u32) << 24
}

/// The failure of an outcome that is no answer yet.
#[inline(always)]
pub(crate) fn failure_of(outcome: Outcome) -> Option<FailureCode> {
    match outcome {
        Outcome::Done | Outcome::Failed => None,
        Outcome::Unknown => Some(FailureCode::UnknownMessage),
        Outcome::Invalid => Some(FailureCode::InvalidPayload),
        Outcome::TooLarge => Some(FailureCode::ReplyTooLarge),
        // Never on the long way, which is the one that answers with failures.
        Outcome::Posts => Some(FailureCode::UnknownMessage),
        Outcome::TooManyNotices => Some(FailureCode::TooManyNotices),
        Outcome::OutboxFull => Some(FailureCode::OutboxFull),
        Outcome::Pool(error) => Some(error.failure()),
        Outcome::TooManyLetters => Some(FailureCode::TooManyLetters),
        Outcome::MailboxFull => Some(FailureCode::MailboxFull),
        Outcome::TooManyBroadcasts => Some(FailureCode::TooManyBroadcasts),
        Outcome::TooManyQuestions => Some(FailureCode::TooManyQuestions),
        Outcome::TooManyHops => Some(FailureCode::TooManyHops),
        Outcome::CannotForward => Some(FailureCode::CannotForward),
        Outcome::LettersUndeclared => Some(FailureCode::LettersUndeclared),
        Outcome::HostAbsent => Some(FailureCode::HostAbsent),
        Outcome::HostBusy => Some(FailureCode::HostBusy),
    }
}
