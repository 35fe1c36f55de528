//! What a user writes: states, messages and handlers in plain Rust.
//!
//! ```
//! use tourbillon_device::{Context, Handler, NoError, Plain, State, actor};
//!
//! /// A tally.
//! #[repr(C)]
//! #[derive(Clone, Copy, State)]
//! struct Tally {
//!     sum: u64,
//! }
//!
//! /// Adds to it.
//! #[repr(C)]
//! #[derive(Clone, Copy, Plain)]
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

use tourbillon_shared::frame::PAYLOAD_BYTES_MAX;

use crate::call::{Call, Outcome};
use crate::context::Context;
use crate::probe::{HandlerName, Probe};
use crate::words::Words;
use crate::{Plain, State};

/// Largest state, in bytes: a handler works on a copy, which must stay close to the registers.
pub const STATE_BYTES_MAX: usize = 256;
/// Largest alignment of states, messages and replies, in bytes: that of an entry in the slab.
pub const ALIGNMENT_MAX: usize = 16;

/// Makes a state of this version out of the bytes of another one, which has that schema and that layout; nothing when it cannot.
pub type Upgrade<A> = fn(schema: u32, layout: u64, bytes: &[u8]) -> Option<A>;

/// The state of an actor of one kind. Implemented by [`actor!`](crate::actor!).
///
/// Schema and layout of the state are those that it has as [`Plain`] data: `A::SCHEMA`, `A::LAYOUT`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no actor",
    label = "no actor",
    note = "list it with its messages: `actor!({Self} {{ kind: .., error: .., messages: {{ 0: .. }} }})`"
)]
pub trait Actor: State {
    /// Number of the kind, unique in a system; not 0.
    const KIND: u16;
    /// Name of the kind.
    const NAME: &'static str;
    /// What handlers of this actor fail with.
    type Error: Plain;

    /// Whether that is all zero for every key, so that nobody has to ask whether a message is an actor's first.
    #[doc(hidden)]
    const STARTS_ZEROED: bool;

    /// Whether its handlers use collections ([`PoolVec`](crate::PoolVec) and others), so that its messages never take the short way, where
    /// there is no pool.
    const POOLS: bool;
    /// Whether its handlers publish, read or take back blocks ([`BlockRef`](crate::BlockRef)): then [`POOLS`](Self::POOLS) holds as well.
    const BLOCKS: bool;
    /// Whether its handlers send letters ([`Context::tell`](crate::Context::tell) and others).
    const LETTERS: bool;
    /// Whether its handlers go on by letters to itself that are never lost ([`Context::go_on`](crate::Context::go_on)).
    const GOES_ON: bool;
    /// Whether it may be a child of another actor, or have children ([`Context::start_child`](crate::Context::start_child)): then
    /// [`LETTERS`](Self::LETTERS) holds as well, and its messages never take the short way.
    const SUPERVISED: bool;
    /// What takes over the bytes of other versions, for hosts.
    const UPGRADE: Option<Upgrade<Self>>;

    /// Its handlers, in the order of `messages`, for builds.
    #[doc(hidden)]
    const HANDLERS: &'static [HandlerName];

    /// Runs the handler at a place of that list, if there is one.
    ///
    /// # Safety
    /// As for [`Probe::run`].
    #[doc(hidden)]
    unsafe fn probe(index: usize, probe: &mut Probe);

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
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no message of an actor",
    label = "no message",
    note = "give it a number among the messages of its actor: `actor!(.. {{ .., messages: {{ 0: {Self} }} }})`"
)]
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
#[diagnostic::on_unimplemented(
    message = "the actor `{Self}` has no handler for its message `{M}`",
    label = "no handler for `{M}`",
    note = "write `impl Handler<{M}> for {Self}`, or take `{M}` out of the messages of `actor!`"
)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct NoError(());

impl NoError {
    /// What stands in for an error that is not sent.
    pub(crate) const VALUE: Self = Self(());
}

impl core::fmt::Display for NoError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("no error")
    }
}

impl core::error::Error for NoError {}

/// Makes a state type an [`Actor`](crate::Actor) and types its messages.
///
/// `kind` is the kind's number (1 to 16,383), `messages` gives each message its number (0 to 255). Both are part of the
/// protocol between programs and must not change. Two more are optional, behind the messages and in this order:
///
/// - `activate`: a function from the key to the first state; without it that is all zero, which must then be a value of the state.
/// - `upgrade`: a function that makes a state out of the bytes of another version ([`Upgrade`](crate::actor::Upgrade)), when a host
///   brings a state back that an older program kept. `#[schema(2)]` at the state says that it is another version.
///
/// Handlers of small messages are compiled into the dispatch loop, where each takes its share of a few registers. A heavy one, or one
/// whose latency does not matter, is left out of it, and made a function of its own, by `#[outlined]`:
/// `messages: { 0: Add, #[outlined] 1: Recompute }`. For letters that come alone all handlers of a system are compiled into one function.
///
/// An actor whose state has collections says so behind its kind: `kind: 7, pools: true, error: ..`. Without it every operation on a
/// collection fails with [`PoolError::Undeclared`](crate::PoolError). Its messages all take the long way, and should be `#[outlined]`.
///
/// One that publishes blocks or reads those of others says `blocks: true`, in place of `pools: true` or behind it: it may have collections as
/// well. Without it every operation on a block fails with [`PoolError::BlockUndeclared`](crate::PoolError).
///
/// An actor whose handlers send letters to other actors says `letters: true`, behind those. Without it they fail with
/// [`LettersUndeclared`](tourbillon_shared::error::FailureCode::LettersUndeclared). One that goes on with its work by letters to itself which
/// must not be lost ([`Context::go_on`](crate::Context::go_on)) says `goes_on: true`, behind that or in place of it.
///
/// An actor that may be a child of a supervisor says `supervised: true`, behind those; so does one that has children itself. It may send
/// letters as well, its messages all take the long way, and it cannot publish blocks: what begins anew does not know of them any more.
///
/// What cannot be is refused when it is compiled: a message without a handler or larger than a frame, two of the same number, kind 0.
#[macro_export]
macro_rules! actor {
    ($actor:ident {
        kind: $kind:literal,
        $(pools: $pools:literal,)?
        $(blocks: $blocks:literal,)?
        $(letters: $letters:literal,)?
        $(goes_on: $goes_on:literal,)?
        $(supervised: $supervised:literal,)?
        error: $error:ty,
        messages: { $($(#[$outlined:ident])? $number:literal : $message:ty),+ $(,)? }
        $(, activate: $activate:expr)?
        $(, upgrade: $upgrade:expr)?
        $(,)?
    }) => {
        impl $crate::Actor for $actor {
            const KIND: u16 = $kind;
            const NAME: &'static str = stringify!($actor);
            type Error = $error;
            const STARTS_ZEROED: bool = $crate::is_absent!($($activate)?);
            const POOLS: bool = false $(|| $pools)? $(|| $blocks)?;
            const BLOCKS: bool = false $(|| $blocks)?;
            const LETTERS: bool = false $(|| $letters)? $(|| $goes_on)? $(|| $supervised)?;
            const GOES_ON: bool = false $(|| $goes_on)?;
            const SUPERVISED: bool = false $(|| $supervised)?;
            const UPGRADE: ::core::option::Option<$crate::actor::Upgrade<Self>> = $crate::optional!($($upgrade)?);

            const HANDLERS: &'static [$crate::probe::HandlerName] = &[
                $($crate::probe::HandlerName {
                    message: stringify!($message),
                    is_outlined: $crate::is_outlined!($($outlined)?),
                }),+
            ];

            #[inline(always)]
            unsafe fn probe(index: usize, probe: &mut $crate::probe::Probe) {
                let mut _place = 0;
                $(
                    if index == _place {
                        // SAFETY: the caller vouches for it.
                        return unsafe { probe.run::<$message>() };
                    }
                    _place += 1;
                )+
            }

            #[inline]
            fn activate(key: u64) -> Self {
                let activate: fn(u64) -> Self = $crate::activation!($actor $(, $activate)?);
                activate(key)
            }

            #[inline]
            unsafe fn dispatch<W: $crate::Words>(
                state: *mut Self,
                call: &mut $crate::Call<W>,
            ) -> $crate::Outcome {
                $(if call.takes::<$message>() {
                    // SAFETY: the caller vouches for `state`.
                    return unsafe { call.run::<$message>(state) };
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
            use $crate::actor::check;
            assert!($kind != 0, concat!("kind 0 means no kind: give `", stringify!($actor), "` a number from 1 to 16383"));
            assert!(
                $kind <= $crate::shared::virtual_actors::KIND_MAX,
                concat!("the kind of `", stringify!($actor), "` is above 16383: the two bits above that are the key space")
            );
            assert!(
                !(<$actor as $crate::Actor>::SUPERVISED && <$actor as $crate::Actor>::BLOCKS),
                concat!(
                    "`", stringify!($actor), "` is supervised and publishes blocks: when it begins anew nobody could take them back; \
                     let another actor publish"
                )
            );
            assert!(
                check::are_different(&[$($number),+]),
                concat!("two messages of `", stringify!($actor), "` have the same number: give each one of its own")
            );
            assert!(
                !<$actor as $crate::Actor>::STARTS_ZEROED || check::may_be_zero::<$actor>(),
                concat!(
                    "all zero is no value of the state `", stringify!($actor),
                    "`: say how an actor begins, with `activate: |key| ..` behind the messages, or give each of its enums a variant 0"
                )
            );
            assert!(
                check::error_fits::<$actor>(),
                concat!("the error of `", stringify!($actor), "` is larger than a frame carries: 348 bytes are the most")
            );
            $(
                assert!(
                    check::message_fits::<$message>(),
                    concat!(
                        "the message `", stringify!($message), "` is larger than a frame carries: 352 bytes are the most; \
                         send what is longer as a payload beside it"
                    )
                );
                assert!(
                    check::reply_fits::<$message>(),
                    concat!(
                        "the reply to `", stringify!($message), "` is larger than a frame carries: 352 bytes are the most; \
                         answer with a payload beside it"
                    )
                );
                assert!(
                    check::is_aligned::<$message>(),
                    concat!("`", stringify!($message), "`, its reply or its error is aligned to more than 16 bytes: leave `align` out")
                );
            )+
        };
    };
}

/// Whether there is no expression.
#[doc(hidden)]
#[macro_export]
macro_rules! is_absent {
    () => {
        true
    };
    ($expression:expr) => {
        false
    };
}

/// An expression that may be absent.
#[doc(hidden)]
#[macro_export]
macro_rules! optional {
    () => {
        ::core::option::Option::None
    };
    ($expression:expr) => {
        ::core::option::Option::Some($expression)
    };
}

/// How an actor begins.
#[doc(hidden)]
#[macro_export]
macro_rules! activation {
    ($actor:ident) => {
        |_key: u64| $crate::zeroed::<$actor>()
    };
    ($actor:ident, $activate:expr) => {
        $activate
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

/// All zero: the first state of an actor without an `activate` of its own.
#[doc(hidden)]
#[inline(always)]
pub const fn zeroed<A: Actor>() -> A {
    const { assert!(A::ZERO_IS_VALID, "all zero is no value of this state") };
    // SAFETY: asserted above.
    unsafe { core::mem::zeroed() }
}

/// What [`actor!`](crate::actor!) asks when it is compiled. The texts of what it refuses stand there, where names are known.
#[doc(hidden)]
pub mod check {
    use super::{ALIGNMENT_MAX, ErrorOf, Message, PAYLOAD_BYTES_MAX, Plain, ReplyOf};
    use crate::Actor;

    // The figures in the texts.
    const _: () = assert!(PAYLOAD_BYTES_MAX == 352 && ALIGNMENT_MAX == 16);

    pub const fn message_fits<M: Message>() -> bool {
        size_of::<M>() <= PAYLOAD_BYTES_MAX
    }

    pub const fn reply_fits<M: Message>() -> bool {
        size_of::<ReplyOf<M>>() <= PAYLOAD_BYTES_MAX
    }

    /// In front of an error stands its code.
    pub const fn error_fits<A: Actor>() -> bool {
        size_of::<A::Error>() + 4 <= PAYLOAD_BYTES_MAX
    }

    pub const fn is_aligned<M: Message>() -> bool {
        align_of::<M>() <= ALIGNMENT_MAX
            && align_of::<ReplyOf<M>>() <= ALIGNMENT_MAX
            && align_of::<ErrorOf<M>>() <= ALIGNMENT_MAX
    }

    pub const fn may_be_zero<A: Plain>() -> bool {
        A::ZERO_IS_VALID
    }

    pub const fn are_different(numbers: &[u8]) -> bool {
        let mut i = 0;
        while i < numbers.len() {
            let mut j = i + 1;
            while j < numbers.len() {
                if numbers[i] == numbers[j] {
                    return false;
                }
                j += 1;
            }
            i += 1;
        }
        true
    }
}
