//! Letters and notices of types that their sender does not know: for actors that hand on what others have made, and for work that goes on
//! from message to message.
//!
//! ```
//! use tourbillon_device::{ActorRef, Addressee, Context, Handler, Message, NoError, Plain, State, actor};
//!
//! /// Hands words on to whoever it was told of.
//! #[repr(C)]
//! #[derive(Clone, Copy, State)]
//! struct Relay {
//!     to: Addressee,
//! }
//!
//! /// From now on to this message of that actor.
//! #[repr(C)]
//! #[derive(Clone, Copy, Plain)]
//! struct Connect(Addressee);
//!
//! #[repr(C)]
//! #[derive(Clone, Copy, Plain)]
//! struct Pass([u64; 2]);
//!
//! impl Handler<Connect> for Relay {
//!     type Reply = ();
//!     fn handle(&mut self, connect: &Connect, _context: &mut Context) -> Result<(), NoError> {
//!         self.to = connect.0;
//!         Ok(())
//!     }
//! }
//!
//! impl Handler<Pass> for Relay {
//!     type Reply = bool;
//!     fn handle(&mut self, pass: &Pass, context: &mut Context) -> Result<bool, NoError> {
//!         Ok(context.tell_bytes(self.to, pass.as_bytes()).is_ok())
//!     }
//! }
//!
//! actor!(Relay { kind: 902, letters: true, error: NoError, messages: { 0: Connect, 1: Pass } });
//!
//! # let to = Addressee::of::<Pass>(ActorRef::new(5));
//! # assert_eq!((to.key, to.kind, to.message), (5, 902, Pass::NUMBER.into()));
//! ```

use tourbillon_shared::frame::{PAYLOAD_BYTES_MAX, slots_for};
use tourbillon_shared::outbox::Subscriber;
use tourbillon_shared::virtual_actors::{SPACE_ORDERS, kind_of, space_of};

use crate::actor::{Actor, Message};
use crate::call::slots_for_answer;
use crate::context::Context;
use crate::mailbox::{self, Post};
use crate::outbox;
use crate::plain::{Plain, layout};
use crate::tell::ActorRef;

/// A message of an actor, by numbers: to whom bytes go, and as what. Plain data, to be sent in messages and kept in states. The default
/// is nobody.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Addressee {
    /// The actor's key, or the number of the name that is its key.
    pub key: u64,
    /// The kind word: the actor's kind, and in its upper two bits the key space, 0 for keys that are numbers themselves.
    pub kind: u16,
    /// Number of the message among those of the actor; above 255 no message at all.
    pub message: u16,
    /// Zero.
    pub filler: u32,
}

impl Addressee {
    /// The message `M` of the actor `to`.
    #[inline(always)]
    pub const fn of<M: Message>(to: ActorRef<M::Actor>) -> Self {
        Self { key: to.key(), kind: <M::Actor as Actor>::KIND, message: M::NUMBER as u16, filler: 0 }
    }

    /// The number of a message to which letters may go: of an actor's kind, in a space of keys that actors have.
    #[inline(always)]
    fn number(self) -> Option<u8> {
        let is_an_actors = kind_of(self.kind) != 0 && space_of(self.kind) != SPACE_ORDERS;
        u8::try_from(self.message).ok().filter(|_| is_an_actors)
    }
}

// SAFETY: numbers without padding, any of which are a value.
#[diagnostic::do_not_recommend]
unsafe impl Plain for Addressee {
    const LAYOUT: u64 = {
        let hash = layout::begin("struct", size_of::<Self>(), align_of::<Self>());
        let hash = layout::field(hash, "key", 0, u64::LAYOUT);
        let hash = layout::field(hash, "kind", 8, u16::LAYOUT);
        let hash = layout::field(hash, "message", 10, u16::LAYOUT);
        layout::field(hash, "filler", 12, u32::LAYOUT)
    };
    const ZERO_IS_VALID: bool = true;

    #[inline(always)]
    unsafe fn is_valid(_at: *const Self) -> bool {
        true
    }
}

const _: () = assert!(size_of::<Addressee>() == 16);

/// Why bytes were not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// There are more of them than a frame carries.
    TooLong,
    /// No actor has such a message: the kind is none, the message's number is above 255, or the key is in the engine's own space.
    NoMessage,
}

impl core::fmt::Display for NotSent {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::TooLong => "a frame carries 352 bytes at most; send them in parts",
            Self::NoMessage => "no actor has such a message; take the addressee from `Addressee::of`",
        })
    }
}

impl core::error::Error for NotSent {}

impl Context {
    /// As [`tell`](Self::tell), of bytes that are taken to be the message `to` says. The receiver checks them as it checks what clients
    /// send: what is no value of the message becomes a dead letter.
    ///
    /// # Errors
    /// [`NotSent`]; nothing is counted then.
    #[inline]
    pub fn tell_bytes(&mut self, to: Addressee, bytes: &[u8]) -> Result<(), NotSent> {
        if bytes.len() > PAYLOAD_BYTES_MAX {
            return Err(NotSent::TooLong);
        }
        let Some(message) = to.number() else { return Err(NotSent::NoMessage) };
        self.send_bytes(&Post { key: to.key, kind: to.kind, message, ..Post::default() }, bytes);
        Ok(())
    }

    /// As [`post`](Self::post), of bytes that are taken to be the notice of this number.
    ///
    /// # Errors
    /// [`NotSent::TooLong`]; nothing is counted then.
    #[inline]
    pub fn post_bytes(&mut self, subscriber: Subscriber, number: u16, bytes: &[u8]) -> Result<(), NotSent> {
        if bytes.len() > PAYLOAD_BYTES_MAX {
            return Err(NotSent::TooLong);
        }
        let index = self.count_notice();
        if !self.mail.is_null() {
            // SAFETY: the engine told of the mail and the lane; the size was checked above.
            unsafe { outbox::store(self.mail, self.lane, index, subscriber, number, bytes) };
        }
        Ok(())
    }

    /// Goes on with the actor's work in another message, to the actor itself. As [`tell`](Self::tell), but where the handler of that
    /// message finds no room for what it sends, the message is not lost: it is put back in line, behind what waits for the shard by
    /// then, and handled again, until there is room. So an actor that has more to send than one message may needs nobody to wake it.
    ///
    /// Whatever else its handler fails with, it fails as any message does. It may pass other letters that the actor has sent itself. A
    /// shard has a bounded number of actors that go on at the same time, an eighth of the slots of its mailbox: the message that would
    /// begin one more fails with [`MailboxFull`](tourbillon_shared::error::FailureCode::MailboxFull).
    ///
    /// The message and its reply have 16 bytes at most, its actor says `goes_on: true` in [`actor!`](crate::actor!), and the actor that
    /// runs is `M`'s, under a key that is a number.
    ///
    /// ```compile_fail
    /// use tourbillon_device::{Context, Handler, NoError, Plain, State, actor};
    /// # #[repr(C)]
    /// # #[derive(Clone, Copy, State)]
    /// # struct Digger { depth: u64 }
    /// # #[repr(C)]
    /// # #[derive(Clone, Copy, Plain)]
    /// # struct Dig {}
    /// impl Handler<Dig> for Digger {
    ///     type Reply = ();
    ///     fn handle(&mut self, dig: &Dig, context: &mut Context) -> Result<(), NoError> {
    ///         context.go_on(dig);
    ///         Ok(())
    ///     }
    /// }
    /// // Without `goes_on: true`.
    /// actor!(Digger { kind: 903, letters: true, error: NoError, messages: { 0: Dig } });
    /// # fn main() {
    /// let handle: fn(&mut Digger, &Dig, &mut Context) -> Result<(), NoError> = <Digger as Handler<Dig>>::handle;
    /// # let _ = handle;
    /// # }
    /// ```
    #[inline]
    pub fn go_on<M: Message>(&mut self, message: &M) {
        const {
            assert!(<M::Actor as Actor>::GOES_ON, "who goes on says so in `actor!`: `goes_on: true`");
            assert!(slots_for(0, size_of::<M>()) == 1, "a message by which an actor goes on has 16 bytes at most");
            assert!(
                slots_for_answer::<M::Actor, M>(0) == 1,
                "the reply to a message by which an actor goes on has 16 bytes at most, its error 12"
            );
        }
        let post = Post {
            key: self.key,
            kind: <M::Actor as Actor>::KIND,
            message: M::NUMBER,
            goes_on: true,
            ..Post::default()
        };
        self.send_bytes(&post, message.as_bytes());
    }

    /// Sends a letter without extensions, of at most [`PAYLOAD_BYTES_MAX`] bytes.
    #[inline(always)]
    fn send_bytes(&mut self, post: &Post, bytes: &[u8]) {
        let index = self.count_letter();
        if !self.near.is_null() {
            // SAFETY: the engine told of the desk, the place and the lane; every caller has checked the size.
            unsafe { mailbox::store(self.outgoing(), index, post, self.key, bytes) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tourbillon_shared::virtual_actors::{KIND_MAX, SPACE_STRING, SPACE_WIDE, kind_word};

    #[test]
    fn letters_go_to_actors_alone() {
        let to = |kind, message| Addressee { kind, message, ..Addressee::default() }.number();
        assert_eq!(to(1, 0), Some(0));
        assert_eq!(to(KIND_MAX, 255), Some(255));
        assert_eq!(to(kind_word(7, SPACE_STRING), 3), Some(3));
        assert_eq!(to(kind_word(7, SPACE_WIDE), 3), Some(3));
        assert_eq!(to(kind_word(1, SPACE_ORDERS), 1), None);
        assert_eq!(to(0, 1), None);
        assert_eq!(to(1, 256), None);
    }

    #[test]
    fn what_is_too_long_is_not_counted() {
        let mut context = Context::of(1);
        let to = Addressee { kind: 1, ..Addressee::default() };
        assert_eq!(context.tell_bytes(to, &[0; PAYLOAD_BYTES_MAX + 1]), Err(NotSent::TooLong));
        assert_eq!(context.post_bytes(Subscriber::NOBODY, 1, &[0; PAYLOAD_BYTES_MAX + 1]), Err(NotSent::TooLong));
        assert_eq!(context.tell_bytes(Addressee::default(), &[]), Err(NotSent::NoMessage));
        assert_eq!((context.letters(), context.notices()), (0, 0));
        assert_eq!(context.tell_bytes(to, &[0; PAYLOAD_BYTES_MAX]), Ok(()));
        assert_eq!(context.post_bytes(Subscriber::NOBODY, 1, &[]), Ok(()));
        assert_eq!((context.letters(), context.notices()), (1, 1));
    }
}
