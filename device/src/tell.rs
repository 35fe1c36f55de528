//! Messages from actors to actors: what a handler does to send them, and how it gets answers.
//!
//! ```
//! use tourbillon_device::{ActorRef, Answered, Answers, Context, Handler, NoError, Plain, State, actor};
//!
//! /// Keeps a stock, and asks its neighbour for what it has not.
//! #[repr(C)]
//! #[derive(Clone, Copy, State)]
//! struct Shop {
//!     stock: u64,
//!     borrowed: u64,
//! }
//!
//! /// Sell some.
//! #[repr(C)]
//! #[derive(Clone, Copy, Plain)]
//! struct Sell(u64);
//!
//! /// Lend some to another shop; the reply is how many.
//! #[repr(C)]
//! #[derive(Clone, Copy, Plain)]
//! struct Lend(u64);
//!
//! /// What a neighbour answers to `Lend`.
//! #[repr(transparent)]
//! #[derive(Clone, Copy, Plain)]
//! struct Lent(Answered<Lend>);
//!
//! impl Answers<Lend> for Lent {}
//!
//! impl Handler<Sell> for Shop {
//!     type Reply = bool;
//!     fn handle(&mut self, sell: &Sell, context: &mut Context) -> Result<bool, NoError> {
//!         let is_there = self.stock >= sell.0;
//!         if is_there {
//!             self.stock -= sell.0;
//!         } else {
//!             let neighbour = ActorRef::<Shop>::new(context.key() + 1);
//!             context.ask::<Lend, Lent>(neighbour, &Lend(sell.0), 7);
//!         }
//!         Ok(is_there)
//!     }
//! }
//!
//! impl Handler<Lend> for Shop {
//!     type Reply = u64;
//!     fn handle(&mut self, lend: &Lend, _context: &mut Context) -> Result<u64, NoError> {
//!         let lent = self.stock.min(lend.0);
//!         self.stock -= lent;
//!         Ok(lent)
//!     }
//! }
//!
//! impl Handler<Lent> for Shop {
//!     type Reply = ();
//!     fn handle(&mut self, answer: &Lent, _context: &mut Context) -> Result<(), NoError> {
//!         assert_eq!(answer.0.token(), 7);
//!         if let Ok(lent) = answer.0.result() {
//!             self.stock += lent;
//!             self.borrowed += lent;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! actor!(Shop { kind: 901, letters: true, error: NoError, messages: { 0: Sell, 1: Lend, 2: Lent } });
//! ```

use core::marker::PhantomData;
use core::mem::MaybeUninit;

use tourbillon_shared::error::FailureCode;
use tourbillon_shared::frame::{FRAME_SLOTS_MAX, slots_for};
use tourbillon_shared::hlc::LOGICAL_BITS;
use tourbillon_shared::mailbox::SENDER_WORDS;
use tourbillon_shared::mutant;

use crate::actor::{Actor, ErrorOf, Message, ReplyOf};
use crate::call::slots_for_answer;
use crate::context::Context;
use crate::mailbox::{self, Post};
use crate::plain::{Plain, layout};

/// Words of a deadline in front of a letter's payload.
const DEADLINE_WORDS: u32 = 2;

/// An actor of type `A`, by its key. Plain data, to be sent in messages and kept in states.
#[repr(transparent)]
pub struct ActorRef<A> {
    key: u64,
    actor: PhantomData<fn() -> A>,
}

impl<A> ActorRef<A> {
    /// The actor of the number `key`, whether it lives or not.
    #[inline(always)]
    pub const fn new(key: u64) -> Self {
        Self { key, actor: PhantomData }
    }

    /// Its key.
    #[inline(always)]
    pub const fn key(self) -> u64 {
        self.key
    }

    /// The actor `steps` further in a ring of the actors `0 .. size`, of which this is one; backwards when `steps` is below zero. This
    /// one where the ring is empty.
    #[inline]
    #[must_use]
    pub const fn neighbour(self, steps: i64, size: u64) -> Self {
        let Some(forward) = (match steps.unsigned_abs().checked_rem(size) {
            Some(steps_back) if steps < 0 => size.checked_sub(steps_back),
            other => other,
        }) else {
            return self;
        };
        let (sum, is_over) = self.key.overflowing_add(forward);
        Self::new(if is_over || sum >= size { sum.wrapping_sub(size) } else { sum })
    }

    /// The actor of `0 .. size` to which what has this hash belongs: every hash always to the same one, each to about as many. The actor
    /// 0 where there is none.
    #[inline]
    pub const fn owner_of(hash: u64, size: u64) -> Self {
        // The upper half of the product: without a division, and even (Lemire, "Fast random integer generation in an interval", 2019).
        Self::new(((hash as u128 * size as u128) >> 64) as u64)
    }
}

impl<A> Clone for ActorRef<A> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<A> Copy for ActorRef<A> {}
impl<A> PartialEq for ActorRef<A> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}
impl<A> Eq for ActorRef<A> {}
impl<A> core::fmt::Debug for ActorRef<A> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("ActorRef").field(&self.key).finish()
    }
}

// SAFETY: one word, any of which is a value.
#[diagnostic::do_not_recommend]
unsafe impl<A: 'static> Plain for ActorRef<A> {
    const LAYOUT: u64 = {
        let hash = layout::begin("struct", size_of::<Self>(), align_of::<Self>());
        layout::field(hash, "key", 0, u64::LAYOUT)
    };
    const ZERO_IS_VALID: bool = true;

    #[inline(always)]
    unsafe fn is_valid(_at: *const Self) -> bool {
        true
    }
}

/// The answer to a question `M`, as it comes to the actor that asked: a message of that actor wraps it, see
/// [`Context::ask`](crate::Context::ask).
#[repr(C, packed)]
pub struct Answered<M: Message> {
    token: u32,
    code: u32,
    value: Value<M>,
}

/// A reply or an error, whichever the code says; what is behind the shorter of the two is zero.
#[repr(C, packed)]
union Value<M: Message> {
    reply: ReplyOf<M>,
    error: ErrorOf<M>,
}

impl<M: Message> Clone for Value<M> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<M: Message> Copy for Value<M> {}

/// Why a question has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskError<E> {
    /// The handler returned its typed error.
    Handler(E),
    /// It was not handled, or its handler failed in another way.
    Failed(FailureCode),
    /// What came is no value of the reply, nor of the error.
    Invalid,
}

impl<M: Message> Answered<M> {
    /// What was given to [`Context::ask`](crate::Context::ask).
    #[inline(always)]
    pub fn token(&self) -> u32 {
        self.token
    }

    /// The reply.
    ///
    /// # Errors
    /// [`AskError`]: why there is none.
    #[inline]
    pub fn result(&self) -> Result<ReplyOf<M>, AskError<ErrorOf<M>>> {
        let value = (&raw const self.value).cast::<u8>();
        // SAFETY: the value has as many bytes as the larger of the two, all of them set, for answers are made from frames only.
        let (reply, error) = unsafe { (read::<ReplyOf<M>>(value), read::<ErrorOf<M>>(value)) };
        let code = self.code;
        match code {
            0 => reply.ok_or(AskError::Invalid),
            code if code == FailureCode::Handler as u32 => Err(error.map_or(AskError::Invalid, AskError::Handler)),
            code => Err(FailureCode::from_word(code).map_or(AskError::Invalid, AskError::Failed)),
        }
    }
}

/// The value whose bytes are there, if they are one.
///
/// # Safety
/// As many bytes as a value has are readable there and set.
#[inline(always)]
unsafe fn read<T: Plain>(at: *const u8) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the caller vouches for the bytes; all of the value are written, and they were found to be one.
    unsafe {
        value.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(at, size_of::<T>());
        T::is_valid(value.as_ptr()).then(|| value.assume_init())
    }
}

impl<M: Message> Clone for Answered<M> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<M: Message> Copy for Answered<M> {}
impl<M: Message> core::fmt::Debug for Answered<M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (token, code) = (self.token, self.code);
        f.debug_struct("Answered").field("token", &token).field("code", &code).finish_non_exhaustive()
    }
}

// SAFETY: it has no padding, being packed; any bytes are a value, for `result` checks what it gives out.
#[diagnostic::do_not_recommend]
unsafe impl<M: Message> Plain for Answered<M> {
    const LAYOUT: u64 = {
        let hash = layout::begin("answer", size_of::<Self>(), align_of::<Self>());
        layout::number(layout::number(hash, ReplyOf::<M>::LAYOUT), ErrorOf::<M>::LAYOUT)
    };
    const ZERO_IS_VALID: bool = true;

    #[inline(always)]
    unsafe fn is_valid(_at: *const Self) -> bool {
        true
    }
}

/// A message as which the answer to `M` comes: a struct with `#[repr(transparent)]` around [`Answered<M>`](Answered).
pub trait Answers<M: Message>: Message {}

impl Context {
    /// Tells an actor something: sends it a message to which nobody waits for an answer.
    ///
    /// It is sent when the handler has succeeded, never when it fails or panics. What one actor tells another comes in that order, exactly
    /// once. When there is no room for it, the message whose handler this is fails with
    /// [`MailboxFull`](FailureCode::MailboxFull) and leaves no trace. One message may send
    /// [`LETTERS_MAX`](tourbillon_shared::mailbox::LETTERS_MAX) letters.
    #[inline]
    pub fn tell<M: Message>(&mut self, to: ActorRef<M::Actor>, message: &M) {
        self.send(to, message, Post::default());
    }

    /// Asks an actor: sends it a message, and gets its reply, or why there is none, as the message `C` to the actor that runs. The
    /// `token` comes back with it. Every question gets exactly one answer.
    ///
    /// Room for the answer is taken now: when so many questions of the shard's actors are open that there is none, the message whose
    /// handler this is fails with [`TooManyQuestions`](FailureCode::TooManyQuestions). For the rest it is as [`tell`](Self::tell).
    #[inline]
    pub fn ask<M: Message, C: Answers<M>>(&mut self, to: ActorRef<M::Actor>, message: &M, token: u32) {
        self.ask_until::<M, C>(to, message, token, 0);
    }

    /// As [`ask`](Self::ask); a question that is not handled `microseconds` after the timestamp of the message that runs is answered with
    /// [`DeadlinePassed`](FailureCode::DeadlinePassed) and not handled any more.
    #[inline]
    pub fn ask_within<M: Message, C: Answers<M>>(
        &mut self,
        to: ActorRef<M::Actor>,
        message: &M,
        token: u32,
        microseconds: u32,
    ) {
        let deadline = self.hlc.saturating_add(u64::from(microseconds) << LOGICAL_BITS);
        self.ask_until::<M, C>(to, message, token, deadline);
    }

    #[inline(always)]
    fn ask_until<M: Message, C: Answers<M>>(&mut self, to: ActorRef<M::Actor>, message: &M, token: u32, deadline: u64) {
        const {
            assert!(
                slots_for(SENDER_WORDS as u32 + DEADLINE_WORDS, size_of::<M>()) <= FRAME_SLOTS_MAX as u32,
                "the question is larger than a letter with its sender carries (328 bytes)"
            );
            assert!(size_of::<C>() == size_of::<Answered<M>>(), "an answer's message has nothing but the `Answered`");
        }
        let post = Post {
            answer_bytes: size_of::<C>() as u16,
            answer_as: Some((C::NUMBER, <C::Actor as Actor>::KIND)),
            token,
            deadline: if mutant!("questions_without_deadline") { 0 } else { deadline },
            ..Post::default()
        };
        self.send(to, message, post);
    }

    /// Hands the message that runs on: another actor answers whoever waits for the answer. To be returned by the handler:
    ///
    /// `return context.forward(bank, &Credit { .. });`
    ///
    /// What this returns is never sent. A message may be handed on [`HOPS_MAX`](tourbillon_shared::mailbox::HOPS_MAX) times, then its
    /// origin gets [`TooManyHops`](FailureCode::TooManyHops). One with an id, an expected version or a payload in an arena cannot be
    /// handed on: [`CannotForward`](FailureCode::CannotForward). For the rest it is as [`tell`](Self::tell).
    ///
    /// # Errors
    /// None: the type is that of the handler, so that the reply and the error of both are the same.
    #[inline]
    pub fn forward<M: Message>(&mut self, to: ActorRef<M::Actor>, message: &M) -> Result<ReplyOf<M>, ErrorOf<M>> {
        const {
            assert!(
                slots_for(SENDER_WORDS as u32, size_of::<M>()) <= FRAME_SLOTS_MAX as u32,
                "what is handed on is larger than a letter with its sender carries (336 bytes)"
            );
            assert!(
                ReplyOf::<M>::ZERO_IS_VALID,
                "all zero must be a value of a reply that may come from another actor"
            );
        }
        self.send(to, message, Post { hands_on: true, ..Post::default() });
        // SAFETY: asserted above.
        Ok(unsafe { core::mem::zeroed() })
    }

    #[inline(always)]
    fn send<M: Message>(&mut self, to: ActorRef<M::Actor>, message: &M, post: Post) {
        let index = self.count_letter();
        if self.near.is_null() {
            return;
        }
        let reply_slots = const { slots_for_answer::<M::Actor, M>(0) };
        let post = Post { key: to.key, kind: <M::Actor as Actor>::KIND, message: M::NUMBER, reply_slots, ..post };
        // SAFETY: the engine told of the desk, the place and the lane; a message fits into a frame, with extensions as asserted.
        unsafe { mailbox::store(self.outgoing(), index, &post, self.key, message.as_bytes()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn neighbours_are_in_the_ring(key in 0u64..1_000, size in 1u64..1_000, steps in -5_000i64..5_000) {
            let at = ActorRef::<()>::new(key % size);
            let expected = (at.key() as i64 + steps).rem_euclid(size as i64) as u64;
            prop_assert_eq!(at.neighbour(steps, size).key(), expected);
            prop_assert_eq!(at.neighbour(steps, 0), at);
        }

        #[test]
        fn owners_exist(hash: u64, size in 1u64..) {
            prop_assert!(ActorRef::<()>::owner_of(hash, size).key() < size);
        }
    }

    #[test]
    fn ends_of_the_numbers() {
        let last = ActorRef::<()>::new(u64::MAX - 1);
        assert_eq!(last.neighbour(1, u64::MAX).key(), 0);
        assert_eq!(last.neighbour(i64::MIN, u64::MAX).key(), u64::MAX - 1 - (1 << 63));
        assert_eq!(ActorRef::<()>::owner_of(u64::MAX, 1 << 20).key(), (1 << 20) - 1);
    }
}
