//! What a user writes: states, messages and handlers in plain Rust.
//!
//! ```
//! use tourbillon_device::{Context, Handler, NoError, actor};
//! use bytemuck::{Pod, Zeroable};
//!
//! /// A tally.
//! #[repr(C)]
//! #[derive(Clone, Copy, Pod, Zeroable)]
//! struct Tally {
//!     sum: u64,
//! }
//!
//! /// Adds to it.
//! #[repr(C)]
//! #[derive(Clone, Copy, Pod, Zeroable)]
//! struct Add(u64);
//!
//! impl Handler<Add> for Tally {
//!     type Reply = u64;
//!     fn handle(&mut self, message: &Add, _context: &mut Context) -> Result<u64, NoError> {
//!         self.sum += message.0;
//!         Ok(self.sum)
//!     }
//! }
//!
//! actor!(Tally { kind: 900, error: NoError, messages: { 0: Add } });
//! ```
//!
//! A handler that returns an error or panics leaves no trace: the state is what it was before the message.

use bytemuck::{CheckedBitPattern, NoUninit, Pod, Zeroable};

use crate::call::{Call, Outcome, Words};
use crate::context::Context;

/// Largest state, in bytes: a handler works on a copy, which must stay close to the registers.
pub const STATE_BYTES_MAX: usize = 256;
/// Largest alignment of states, messages and replies, in bytes: that of an entry in the slab.
pub const ALIGNMENT_MAX: usize = 16;

/// Data that travels in a message, a reply or an error: plain, without padding, checked when it comes in.
pub trait Plain: NoUninit + CheckedBitPattern + 'static {}
impl<T: NoUninit + CheckedBitPattern + 'static> Plain for T {}

/// The state of an actor of one kind. Implemented by [`actor!`](crate::actor!).
pub trait Actor: Pod {
    /// Number of the kind, unique in a system; not 0.
    const KIND: u16;
    /// Name of the kind.
    const NAME: &'static str;
    /// What handlers of this actor fail with.
    type Error: Plain;

    /// Whether that is all zero for every key, so that nobody has to ask whether a message is an actor's first.
    #[doc(hidden)]
    const STARTS_ZEROED: bool;

    /// The state of the actor `key` before its first message.
    fn activate(key: u64) -> Self;

    /// Runs the handler of the message in `call`, if it is one of this actor.
    ///
    /// # Safety
    /// `state` points to a valid state that nobody else accesses meanwhile.
    #[doc(hidden)]
    unsafe fn dispatch<W: Words>(state: *mut Self, call: &mut Call<W>) -> Outcome;
}

/// A message. Implemented by [`actor!`](crate::actor!).
pub trait Message: Plain {
    /// The actor that handles it.
    type Actor: Handler<Self>;
    /// Number of the message among those of its actor.
    const NUMBER: u8;
    /// Whether its handler stays out of the dispatch loop.
    #[doc(hidden)]
    const OUTLINED: bool;
}

/// Handles messages of type `M`.
pub trait Handler<M>: Actor {
    /// What the sender gets.
    type Reply: Plain;

    /// Handles one message.
    ///
    /// # Errors
    /// The actor's typed error, which becomes the reply; the state is then as before the message.
    fn handle(&mut self, message: &M, context: &mut Context) -> Result<Self::Reply, Self::Error>;
}

/// The reply to a message `M`.
pub type ReplyOf<M> = <<M as Message>::Actor as Handler<M>>::Reply;
/// The typed error of the actor that handles `M`.
pub type ErrorOf<M> = <<M as Message>::Actor as Actor>::Error;

/// The error of an actor whose handlers never fail; no value of it is ever made.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct NoError(());

impl core::fmt::Display for NoError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("no error")
    }
}

impl core::error::Error for NoError {}

/// Makes a state type an [`Actor`](crate::Actor) and types its messages.
///
/// `kind` is the kind's number (1 to 16,383), `messages` gives each message its number (0 to 255). Both are part of the
/// protocol between programs and must not change. `activate` is optional: a function from the key to the first state,
/// all zero without it.
///
/// Handlers of small messages are compiled into the dispatch loop, where each takes its share of a few registers. A heavy one, or one
/// whose latency does not matter, is left out of it, and made a function of its own, by `#[outlined]`:
/// `messages: { 0: Add, #[outlined] 1: Recompute }`.
#[macro_export]
macro_rules! actor {
    ($actor:ident { kind: $kind:literal, error: $error:ty, messages: { $($(#[$outlined:ident])? $number:literal : $message:ty),+ $(,)? } $(,)? }) => {
        $crate::actor!(@ true, $actor {
            kind: $kind, error: $error, messages: { $($(#[$outlined])? $number : $message),+ }, activate: |_key: u64| $crate::zeroed()
        });
    };
    ($actor:ident {
        kind: $kind:literal, error: $error:ty, messages: { $($(#[$outlined:ident])? $number:literal : $message:ty),+ $(,)? }, activate: $activate:expr $(,)?
    }) => {
        $crate::actor!(@ false, $actor {
            kind: $kind, error: $error, messages: { $($(#[$outlined])? $number : $message),+ }, activate: $activate
        });
    };
    (@ $zeroed:literal, $actor:ident {
        kind: $kind:literal, error: $error:ty, messages: { $($(#[$outlined:ident])? $number:literal : $message:ty),+ }, activate: $activate:expr
    }) => {
        impl $crate::Actor for $actor {
            const KIND: u16 = $kind;
            const NAME: &'static str = stringify!($actor);
            type Error = $error;
            const STARTS_ZEROED: bool = $zeroed;

            #[inline]
            fn activate(key: u64) -> Self {
                let activate: fn(u64) -> Self = $activate;
                activate(key)
            }

            #[inline]
            unsafe fn dispatch<W: $crate::Words>(
                state: *mut Self,
                call: &mut $crate::Call<W>,
            ) -> $crate::Outcome {
                $(if call.is::<Self, $message>() {
                    // SAFETY: the caller vouches for `state`.
                    return unsafe {
                        if <$message as $crate::Message>::OUTLINED {
                            call.answer_apart::<Self, $message>(state)
                        } else {
                            call.answer::<Self, $message>(state)
                        }
                    };
                })+
                $crate::Outcome::Unknown
            }
        }

        $(impl $crate::Message for $message {
            type Actor = $actor;
            const NUMBER: u8 = $number;
            const OUTLINED: bool = $crate::is_outlined!($($outlined)?);
        })+

        const _: () = {
            assert!($kind != 0, "kind 0 is reserved");
            assert!(
                $kind <= $crate::shared::virtual_actors::KIND_MAX,
                "a kind is at most 16,383: the two bits above it are the key space"
            );
            assert!(size_of::<$actor>() <= $crate::actor::STATE_BYTES_MAX, "the state is larger than STATE_BYTES_MAX");
            assert!(align_of::<$actor>() <= $crate::actor::ALIGNMENT_MAX, "the state is aligned to more than 16 bytes");
            $($crate::actor::check_message::<$message>();)+
        };
    };
}

/// Whether the attribute of a message is there: `outlined`, the only one that there is.
#[doc(hidden)]
#[macro_export]
macro_rules! is_outlined {
    () => {
        false
    };
    (outlined) => {
        true
    };
}

/// Refuses messages that no frame can carry, at compile time.
#[doc(hidden)]
pub const fn check_message<M: Message>() {
    use tourbillon_shared::frame::PAYLOAD_BYTES_MAX;
    assert!(size_of::<M>() <= PAYLOAD_BYTES_MAX, "the message is larger than a frame carries (352 bytes)");
    assert!(size_of::<ReplyOf<M>>() <= PAYLOAD_BYTES_MAX, "the reply is larger than a frame carries (352 bytes)");
    assert!(size_of::<ErrorOf<M>>() + 4 <= PAYLOAD_BYTES_MAX, "the error is larger than a frame carries (348 bytes)");
    assert!(align_of::<M>() <= ALIGNMENT_MAX && align_of::<ReplyOf<M>>() <= ALIGNMENT_MAX, "aligned to more than 16");
}
