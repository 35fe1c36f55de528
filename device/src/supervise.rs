//! Children of actors: what a handler does to have some, and what it hears of them.
//!
//! Most users need none of this: they send messages to the shipped `Supervisor`, which is written with it. See `docs/supervision.md`.
//!
//! ```
//! use tourbillon_device::{
//!     Child, ChildEvent, ChildEvents, Context, Handler, Happened, NoError, Plain, State, Verdict, actor,
//! };
//!
//! /// Does some work, and may fail.
//! #[repr(C)]
//! #[derive(Clone, Copy, State)]
//! struct Worker {
//!     done: u64,
//! }
//!
//! #[repr(C)]
//! #[derive(Clone, Copy, Plain)]
//! struct Divide(u64, u64);
//!
//! impl Handler<Divide> for Worker {
//!     type Reply = u64;
//!     fn handle(&mut self, message: &Divide, _context: &mut Context) -> Result<u64, NoError> {
//!         self.done += 1;
//!         Ok(message.0 / message.1)
//!     }
//! }
//! actor!(Worker { kind: 902, supervised: true, error: NoError, messages: { #[outlined] 0: Divide } });
//!
//! /// Has one child, and counts how often it failed.
//! #[repr(C)]
//! #[derive(Clone, Copy, State)]
//! struct Parent {
//!     failures: u64,
//! }
//!
//! #[repr(C)]
//! #[derive(Clone, Copy, Plain)]
//! struct Employ(Child);
//!
//! /// What it hears of its child.
//! #[repr(transparent)]
//! #[derive(Clone, Copy, Plain)]
//! struct News(ChildEvent);
//! impl ChildEvents for News {}
//!
//! impl Handler<Employ> for Parent {
//!     type Reply = ();
//!     fn handle(&mut self, employ: &Employ, context: &mut Context) -> Result<(), NoError> {
//!         context.start_child::<News>(&employ.0, 1);
//!         Ok(())
//!     }
//! }
//!
//! impl Handler<News> for Parent {
//!     type Reply = Verdict;
//!     fn handle(&mut self, news: &News, context: &mut Context) -> Result<Verdict, NoError> {
//!         if news.0.what() == Some(Happened::Failed) {
//!             self.failures += u64::from(news.0.failures());
//!             // It has begun anew already; from now on it tells of the next failure.
//!             context.let_child_go_on::<News>(&Child::of::<Worker>(news.0.key()), 1);
//!         }
//!         Ok(Verdict::Nothing)
//!     }
//! }
//! actor!(Parent { kind: 903, supervised: true, error: NoError, messages: { #[outlined] 0: Employ, #[outlined] 1: News } });
//! ```

use tourbillon_shared::error::FailureCode;
use tourbillon_shared::frame::slots_for;
use tourbillon_shared::mailbox::SENDER_WORDS;
use tourbillon_shared::supervision::{EVENT_WORDS, Event, Happened, Order, Refusal, TOKEN_MAX, order_hint, watch};
use tourbillon_shared::virtual_actors::KIND_MAX;

use crate::Plain;
use crate::actor::{Actor, Message, ReplyOf};
use crate::call::slots_for_answer;
use crate::context::Context;
use crate::mailbox::{self, Post};

/// Which failures of a child its parent hears of, and for which it begins anew, beside panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// None: a typed error is the answer to who asked, and nothing else.
    Panics,
    /// All typed errors.
    Errors,
    /// The typed errors whose first four bytes, as a u32, are this.
    Error(u32),
}

/// An actor that is to be a child, or is one, and how its parent watches it. Plain data, to be sent in messages and kept in states.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Plain)]
pub struct Child {
    key: u64,
    kind: u16,
    watch: u16,
    error: u32,
}

impl Child {
    /// The actor `A` of the number `key`, of whose panics alone its parent hears.
    #[inline]
    pub const fn of<A: Actor>(key: u64) -> Self {
        const { assert!(A::SUPERVISED, "the actor is no child of anybody: declare `supervised: true` in its `actor!`") };
        Self { key, kind: A::KIND, watch: 0, error: 0 }
    }

    /// An actor with children of its own, which carries out orders itself: they come to it as the message `O`.
    #[inline]
    pub const fn supervisor<O: ChildOrders>(key: u64) -> Self {
        const {
            assert!(size_of::<O>() == size_of::<ChildOrder>(), "an order's message has nothing but the `ChildOrder`");
            assert!(is_verdict::<ReplyOf<O>>(), "the reply to an order is a `Verdict`");
        }
        let watch = O::NUMBER as u16 + 1;
        Self { watch, ..Self::of::<O::Actor>(key) }
    }

    /// The same, watched in this way.
    #[inline]
    #[must_use]
    pub const fn watching(self, watch: Watch) -> Self {
        let (bits, error) = match watch {
            Watch::Panics => (watch::PANICS, 0),
            Watch::Errors => (watch::ERRORS, 0),
            Watch::Error(error) => (watch::ONE_ERROR, error),
        };
        Self { watch: self.watch & watch::ORDERS_AS | bits << watch::SHIFT, error, ..self }
    }

    /// Its key.
    #[inline]
    pub const fn key(&self) -> u64 {
        self.key
    }

    /// Number of its kind.
    #[inline]
    pub const fn kind(&self) -> u16 {
        self.kind
    }

    /// Whether it carries out orders itself.
    #[inline]
    pub const fn is_supervisor(&self) -> bool {
        self.watch & watch::ORDERS_AS != 0
    }

    /// Whether both are the same actor, however they are watched.
    #[inline]
    pub const fn is_same(&self, other: &Self) -> bool {
        self.key == other.key && self.kind == other.kind
    }
}

/// What happened to a child.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct ChildEvent {
    words: [u32; EVENT_WORDS],
}

impl ChildEvent {
    #[inline(always)]
    const fn event(&self) -> Event {
        Event::decode(&self.words)
    }

    /// What it is; nothing where somebody else than the engine has sent it.
    #[inline]
    pub const fn what(&self) -> Option<Happened> {
        Happened::from_number(self.event().what)
    }

    /// Key of the child.
    #[inline]
    pub const fn key(&self) -> u64 {
        self.event().key
    }

    /// Kind of the child.
    #[inline]
    pub const fn kind(&self) -> u16 {
        self.event().kind
    }

    /// The number that the parent gave the child.
    #[inline]
    pub const fn token(&self) -> u32 {
        self.event().token
    }

    /// How often the child failed since its parent heard of it the last time.
    #[inline]
    pub const fn failures(&self) -> u32 {
        self.event().count as u32
    }

    /// How it failed the last time.
    #[inline]
    pub const fn failure(&self) -> Option<FailureCode> {
        FailureCode::from_word(self.event().code as u32)
    }

    /// Why it did not do what it was ordered.
    #[inline]
    pub const fn refusal(&self) -> Option<Refusal> {
        Refusal::from_number(self.event().code)
    }
}

/// A message as which an actor hears of its children: a struct with `#[repr(transparent)]` around [`ChildEvent`]. The reply of its
/// handler is a [`Verdict`], and the typed error of its actor has 12 bytes at most:
///
/// ```compile_fail
/// use tourbillon_device::{Child, ChildEvent, ChildEvents, Context, Handler, Plain, State, Verdict, actor};
/// # #[repr(C)]
/// # #[derive(Clone, Copy, State)]
/// # struct Parent { failures: u64 }
/// # #[repr(transparent)]
/// # #[derive(Clone, Copy, Plain)]
/// # struct News(ChildEvent);
/// # impl ChildEvents for News {}
/// # #[repr(C)]
/// # #[derive(Clone, Copy, Plain)]
/// # struct Employ(Child);
/// # impl Handler<News> for Parent {
/// #     type Reply = Verdict;
/// #     fn handle(&mut self, _news: &News, _context: &mut Context) -> Result<Verdict, [u32; 4]> {
/// #         Ok(Verdict::Nothing)
/// #     }
/// # }
/// impl Handler<Employ> for Parent {
///     type Reply = ();
///     fn handle(&mut self, employ: &Employ, context: &mut Context) -> Result<(), [u32; 4]> {
///         context.start_child::<News>(&employ.0, 1);
///         Ok(())
///     }
/// }
/// // An error of 16 bytes.
/// actor!(Parent { kind: 903, supervised: true, error: [u32; 4], messages: { 0: Employ, 1: News } });
/// # fn main() {
/// let handle: fn(&mut Parent, &Employ, &mut Context) -> Result<(), [u32; 4]> = <Parent as Handler<Employ>>::handle;
/// # let _ = handle;
/// # }
/// ```
pub trait ChildEvents: Message {}

/// What the parent of a supervisor orders.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct ChildOrder {
    /// The order's number.
    pub(crate) order: u32,
    /// The parent's number for the supervisor.
    pub(crate) token: u32,
}

impl ChildOrder {
    /// What is ordered; nothing where somebody else than the engine has sent it.
    #[inline]
    pub const fn order(&self) -> Option<Order> {
        Order::from_number(self.order)
    }

    /// The parent's number for the supervisor.
    #[inline]
    pub const fn token(&self) -> u32 {
        self.token
    }
}

/// A message as which orders come to a supervisor that is a child itself: a struct with `#[repr(transparent)]` around [`ChildOrder`]. The
/// reply of its handler is a [`Verdict`].
pub trait ChildOrders: Message {}

/// What an actor with children says of an order, or of what it has heard: the reply of its handler.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub enum Verdict {
    /// Nothing yet.
    Nothing = 0,
    /// What it was ordered is done.
    Done = 1,
    /// It is not going to be a child, for it has children already.
    HasChildren = 2,
    /// It cannot help its children: it has failed, and its parent is to hear of it.
    Escalate = 3,
}

impl Verdict {
    /// The verdict of this word.
    #[inline(always)]
    pub(crate) const fn from_word(word: u32) -> Self {
        match word {
            1 => Self::Done,
            2 => Self::HasChildren,
            3 => Self::Escalate,
            _ => Self::Nothing,
        }
    }
}

/// Whether a type is [`Verdict`], as far as its layout tells.
const fn is_verdict<R: Plain>() -> bool {
    R::LAYOUT == Verdict::LAYOUT
}

impl Context {
    /// Makes an actor a child of the one that runs, if it is nobody's. The message `E` tells what came of it, and later when the child
    /// fails; `token`, at most [`TOKEN_MAX`], comes back with all of it.
    ///
    /// An actor that was stopped begins anew; one that was not stays what it is. For room it is as [`ask`](Self::ask), for three answers;
    /// the other orders are as for two, or one.
    #[inline]
    pub fn start_child<E: ChildEvents>(&mut self, child: &Child, token: u32) {
        self.order::<E>(Order::Start, child, token);
    }

    /// Lets a child that has failed, and has begun anew, tell of its next failure. Until then it counts them.
    #[inline]
    pub fn let_child_go_on<E: ChildEvents>(&mut self, child: &Child, token: u32) {
        self.order::<E>(Order::GoOn, child, token);
    }

    /// Lets a child begin anew before its next message.
    #[inline]
    pub fn restart_child<E: ChildEvents>(&mut self, child: &Child, token: u32) {
        self.order::<E>(Order::Restart, child, token);
    }

    /// Stops a child: its later messages are answered with [`Stopped`](FailureCode::Stopped), and it is nobody's child any more.
    #[inline]
    pub fn stop_child<E: ChildEvents>(&mut self, child: &Child, token: u32) {
        self.order::<E>(Order::Stop, child, token);
    }

    #[inline(always)]
    fn order<E: ChildEvents>(&mut self, order: Order, child: &Child, token: u32) {
        const {
            assert!(
                <E::Actor as Actor>::SUPERVISED,
                "the actor has no children: declare `supervised: true` in its `actor!`"
            );
            assert!(size_of::<E>() == size_of::<ChildEvent>(), "an event's message has nothing but the `ChildEvent`");
            assert!(is_verdict::<ReplyOf<E>>(), "the reply to an event is a `Verdict`");
            assert!(
                slots_for_answer::<E::Actor, E>(0) == 1,
                "an event is answered in one slot: the error of an actor with children has 12 bytes at most"
            );
        }
        let index = self.count_letter();
        if self.near.is_null() {
            return;
        }
        let post = Post {
            key: child.key,
            // Children have keys of their own numbers: no letter goes to the engine's key space.
            kind: child.kind & KIND_MAX,
            message: order as u8,
            answer_bytes: order_hint(order).answer_bytes,
            answer_as: Some((E::NUMBER, <E::Actor as Actor>::KIND)),
            token: token & TOKEN_MAX,
            is_order: true,
            ..Post::default()
        };
        // SAFETY: the engine told of the desk and the lane, and lent a place; an order fits into two slots.
        unsafe { mailbox::store(self.outgoing(), index, &post, self.key, child.as_bytes()) };
    }
}

const _: () = assert!(size_of::<Child>() == 16 && size_of::<ChildEvent>() == EVENT_WORDS * 4 && KIND_MAX < 1 << 14);
// The short way is for letters of one slot: an order never takes it, even to an actor that is not supervised.
const _: () = assert!(slots_for(SENDER_WORDS as u32, size_of::<Child>()) == 2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_does_not_touch_what_is_said_of_orders() {
        let child = Child { key: 1, kind: 2, watch: 256, error: 0 };
        for (watch, bits, error) in
            [(Watch::Panics, 0, 0), (Watch::Errors, 1, 0), (Watch::Error(77), 2, 77), (Watch::Panics, 0, 0)]
        {
            let watched = child.watching(watch).watching(watch);
            assert_eq!((watched.watch & watch::ORDERS_AS, watched.watch >> watch::SHIFT), (256, bits));
            assert_eq!(watched.error, error);
            assert!(watched.is_supervisor() && watched.is_same(&child));
        }
    }
}
