//! Actors that live on the host: declared with [`host_actor!`](crate::host_actor!), addressed as any other, handled by code of the host.
//!
//! The protocol is in [`tourbillon_shared::host_actors`]. What runs on the device in place of a handler is engine code: it hands
//! messages over, takes answers, and delivers them. All of it is out of line and reached by systems with such actors alone.
//!
//! ```
//! use tourbillon_device::{ActorRef, Answered, Answers, Context, Handler, NoError, Plain, State, actor, host_actor};
//!
//! /// Reads a row.
//! #[repr(C)]
//! #[derive(Clone, Copy, Plain)]
//! struct Get(u64);
//!
//! host_actor!(
//!     /// A table, which the host keeps.
//!     struct Table { kind: 904, error: NoError, messages: { 0: Get => u64 } }
//! );
//!
//! /// Asks the table.
//! #[repr(C)]
//! #[derive(Clone, Copy, State)]
//! struct Reader {
//!     last: u64,
//! }
//!
//! #[repr(C)]
//! #[derive(Clone, Copy, Plain)]
//! struct Read(u64);
//!
//! #[repr(transparent)]
//! #[derive(Clone, Copy, Plain)]
//! struct Got(Answered<Get>);
//! impl Answers<Get> for Got {}
//!
//! impl Handler<Read> for Reader {
//!     type Reply = ();
//!     fn handle(&mut self, read: &Read, context: &mut Context) -> Result<(), NoError> {
//!         context.ask::<Get, Got>(ActorRef::<Table>::new(1), &Get(read.0), 0);
//!         Ok(())
//!     }
//! }
//!
//! impl Handler<Got> for Reader {
//!     type Reply = ();
//!     fn handle(&mut self, got: &Got, _context: &mut Context) -> Result<(), NoError> {
//!         self.last = got.0.result().unwrap_or(0);
//!         Ok(())
//!     }
//! }
//!
//! actor!(Reader { kind: 905, letters: true, error: NoError, messages: { #[outlined] 0: Read, #[outlined] 1: Got } });
//! ```

use tourbillon_shared::error::{FailureCode, PanicPlace};
use tourbillon_shared::frame::{PAYLOAD_BYTES_MAX, payload_start, slots_for};
use tourbillon_shared::geometry::EntryHeader;
use tourbillon_shared::header::{Flags, HEADER_WORDS, ReturnAddress};
use tourbillon_shared::host_actors::{
    ANSWER, ANSWER_HEAD_WORDS, DELIVER, DELIVER_HEAD_WORDS, DUTY_WORDS, Duty, HANDED_HEAD_WORDS, WAITS,
};
use tourbillon_shared::mailbox::{ANSWER_HEAD_WORDS as LETTER_HEAD_WORDS, LetterHint, SENDER_WORDS, Sender};
use tourbillon_shared::mutant;

use crate::actor::Actor;
use crate::call::{Call, Outcome};
use crate::mailbox;
use crate::words::Words;

/// An actor that lives on the host. Implemented by [`host_actor!`](crate::host_actor!).
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not live on the host",
    label = "no host actor",
    note = "declare it with `host_actor!(struct {Self} {{ kind: .., error: .., messages: {{ 0: Message => Reply }} }})`"
)]
pub trait HostActor: Actor {
    /// Sizes of the message with this number; nothing when there is none.
    #[doc(hidden)]
    fn sizes(message: u8) -> Option<Sizes>;
}

/// Sizes of a message, bytes.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Of the message.
    pub message: u16,
    /// Of its reply.
    pub reply: u16,
    /// Of the typed error.
    pub error: u16,
}

/// Words that a frame's payload has room for.
const PAYLOAD_WORDS_MAX: usize = PAYLOAD_BYTES_MAX / 4;

/// The first `bytes` bytes of these words, at most all of them.
#[inline(always)]
fn bytes_of(words: &[u32; PAYLOAD_WORDS_MAX], bytes: usize) -> &[u8] {
    let bytes = if bytes < PAYLOAD_BYTES_MAX { bytes } else { PAYLOAD_BYTES_MAX };
    // SAFETY: so many bytes are in the array, all of them set.
    unsafe { core::slice::from_raw_parts(words.as_ptr().cast(), bytes) }
}

impl<W: Words> Call<W> {
    /// What stands in the place of handlers for an actor that lives on the host.
    ///
    /// # Safety
    /// The entry is the actor's, and nobody else accesses it meanwhile; the frame is on the long way.
    #[doc(hidden)]
    #[inline(never)]
    pub unsafe fn serve_by_host<A: HostActor>(&mut self) -> Outcome {
        let outcome = match self.header.message {
            ANSWER => self.take_answer::<A>(),
            DELIVER => self.deliver_answer(),
            _ => self.hand_over::<A>(),
        };
        if matches!(outcome, Outcome::Done) {
            let version = self.context.version.wrapping_add(1);
            // SAFETY: the caller vouches for the entry.
            unsafe { self.entry.write(EntryHeader { hlc: self.event_hlc, version }) };
        }
        outcome
    }

    /// Whether the frame is a letter, by an actor or in the place of a client's request that was handed on.
    #[inline(always)]
    fn is_letter(&self) -> bool {
        LetterHint::decode(self.header.hint).is_some() || ReturnAddress::decode(self.header.hint).span != 0
    }

    /// Copies so many words of the payload, from word `from` of it on, to `to`, as far as there is room.
    #[inline(always)]
    fn copy_payload(&self, from: u32, words: usize, to: &mut [u32]) {
        let start = payload_start(self.header.flags).wrapping_add(from);
        for (word, place) in (0..words as u32).zip(to) {
            *place = self.words.word(start.wrapping_add(word));
        }
    }

    /// The duty to answer the frame, and whether anybody waits for it.
    #[inline(always)]
    fn duty(&self) -> (Duty, bool) {
        let flags = self.header.flags;
        let Some(hint) = LetterHint::decode(self.header.hint) else {
            let address = ReturnAddress::decode(self.header.hint);
            let span = if address.span == 0 { flags.span() as u8 } else { address.span };
            let hint = ReturnAddress { span, is_alone: false, ..address }.encode();
            return (Duty { hint, sender: Sender::default() }, !flags.has(Flags::TELL));
        };
        let mut sender = [0; SENDER_WORDS];
        if flags.has(Flags::SENDER) {
            let from = payload_start(flags).wrapping_sub(SENDER_WORDS as u32);
            for (word, place) in (0..).zip(&mut sender) {
                *place = self.words.word(from.wrapping_add(word));
            }
        }
        let hint = LetterHint { is_answer: false, ..hint }.encode();
        (Duty { hint, sender: Sender::decode(&sender) }, flags.has(Flags::SENDER))
    }

    /// Hands the message to the host, and the duty to answer with it.
    #[inline(never)]
    fn hand_over<A: HostActor>(&mut self) -> Outcome {
        let Some(sizes) = A::sizes(self.header.message) else { return Outcome::Unknown };
        let flags = self.header.flags;
        if self.header.length != sizes.message {
            return Outcome::Invalid;
        }
        if flags.0 & (Flags::MESSAGE_ID | Flags::IF_VERSION | Flags::ARENA) != 0 {
            return Outcome::CannotForward;
        }
        let (duty, waits) = self.duty();
        let is_clients = LetterHint::decode(duty.hint).is_none();
        if waits && is_clients && slots_for_answer(sizes) > u32::from(ReturnAddress::decode(duty.hint).span) {
            return Outcome::TooLarge;
        }
        let server = self.words.server(&self.context);
        if server.is_nobody() {
            return Outcome::HostAbsent;
        }
        let mut handed = [0; PAYLOAD_WORDS_MAX];
        let deadline = if flags.has(Flags::DEADLINE) {
            [self.words.word(HEADER_WORDS as u32), self.words.word(HEADER_WORDS as u32 + 1)]
        } else {
            [0; 2]
        };
        for (place, word) in handed.iter_mut().zip(duty.encode().into_iter().chain(deadline)) {
            *place = word;
        }
        if let Some(message) = handed.get_mut(HANDED_HEAD_WORDS..) {
            self.copy_payload(0, (sizes.message as usize).div_ceil(4), message);
        }
        let number = u16::from(self.header.message) | if waits { WAITS } else { 0 };
        let bytes = bytes_of(&handed, HANDED_HEAD_WORDS.wrapping_mul(4).wrapping_add(sizes.message.into()));
        if self.context.post_bytes(server, number, bytes).is_err() {
            return Outcome::Invalid;
        }
        match self.words.reserve(&self.header, &self.context) {
            Outcome::Done => {}
            Outcome::OutboxFull => return Outcome::HostBusy,
            other => return other,
        }
        // Where nobody serves any longer the notice would stray.
        if !self.words.has_room_for_first(&self.context) && !mutant!("host_absence_unnoticed") {
            return Outcome::HostAbsent;
        }
        self.words.send(&self.header, &self.context);
        if waits && !mutant!("host_duty_kept") {
            self.words.leave_unanswered(&self.header, &self.context);
        } else {
            self.acknowledge();
        }
        self.words.finish();
        Outcome::Done
    }

    /// Takes an answer from the host, and sends it on its way.
    #[inline(never)]
    fn take_answer<A: HostActor>(&mut self) -> Outcome {
        let server = self.words.server(&self.context);
        let lane = u32::from(ReturnAddress::decode(self.header.hint).lane);
        let is_servers = !self.is_letter() && !server.is_nobody() && server.lane == lane;
        if !is_servers && !mutant!("host_answers_of_anybody") {
            return Outcome::Unknown;
        }
        let (mut duty, mut told) = ([0; DUTY_WORDS], [0; ANSWER_HEAD_WORDS - DUTY_WORDS]);
        let Some(length) = self.header.length.checked_sub((ANSWER_HEAD_WORDS * 4) as u16) else {
            return Outcome::Invalid;
        };
        self.copy_payload(0, DUTY_WORDS, &mut duty);
        self.copy_payload(DUTY_WORDS as u32, told.len(), &mut told);
        let (duty, [code, message]) = (Duty::decode(&duty), told);
        let Some(sizes) = u8::try_from(message).ok().and_then(A::sizes) else { return Outcome::Invalid };
        let expected = match code {
            0 => sizes.reply,
            code if code == FailureCode::Handler as u32 => sizes.error,
            code if FailureCode::from_word(code).is_some() => 0,
            _ => return Outcome::Invalid,
        };
        let fits = match LetterHint::decode(duty.hint) {
            Some(hint) => u32::from(length).wrapping_add(LETTER_HEAD_WORDS.wrapping_mul(4)) <= hint.answer_bytes.into(),
            None => slots_for_answer(sizes) <= ReturnAddress::decode(duty.hint).span.into(),
        };
        let is_right = length == expected && fits || mutant!("host_answers_unchecked");
        if !is_right || !self.words.is_possible(&duty, &self.context) {
            return Outcome::Invalid;
        }
        let mut answer = [0; PAYLOAD_WORDS_MAX];
        let [first, reply @ ..] = &mut answer;
        *first = code;
        self.copy_payload(ANSWER_HEAD_WORDS as u32, (length as usize).div_ceil(4), reply);
        let bytes = bytes_of(&answer, DELIVER_HEAD_WORDS.wrapping_mul(4).wrapping_add(length.into()));
        let index = self.context.count_letter();
        if self.context.near.is_null() {
            return Outcome::Unknown;
        }
        let to = (self.header.kind, self.context.key);
        // SAFETY: the engine told of the desk, the place and the lane; the bytes fit into a frame, with who asks beside them.
        unsafe { mailbox::store_answer(self.context.outgoing(), index, &duty, to, bytes) };
        let outcome = self.words.reserve(&self.header, &self.context);
        if outcome != Outcome::Done {
            return outcome;
        }
        self.words.send(&self.header, &self.context);
        self.acknowledge();
        self.words.finish();
        Outcome::Done
    }

    /// Writes an answer in the place of the letter by which it came, which has the duty.
    #[inline(never)]
    fn deliver_answer(&mut self) -> Outcome {
        if !self.is_letter() {
            return Outcome::Unknown;
        }
        let Some(length) = self.header.length.checked_sub((DELIVER_HEAD_WORDS * 4) as u16) else {
            return Outcome::Invalid;
        };
        let start = payload_start(self.header.flags);
        let code = self.words.word(start);
        // What is written in front of the reply is never longer than what it came behind, so words move down or stay.
        let (head, role) = match code {
            0 => (0, Flags::REPLY),
            code if code == FailureCode::Handler as u32 => (1, Flags::REPLY | Flags::FAILED),
            code => {
                self.fail(FailureCode::from_word(code).unwrap_or(FailureCode::InvalidPayload), PanicPlace::default());
                self.words.finish();
                return Outcome::Failed;
            }
        };
        if head != 0 {
            self.write_word(0, code);
        }
        let words = u32::from(length).div_ceil(4);
        let mut word = 0u32;
        while word < words {
            let value = self.words.word(start.wrapping_add(DELIVER_HEAD_WORDS as u32).wrapping_add(word));
            self.write_word(word.wrapping_add(head), value);
            word = word.wrapping_add(1);
        }
        self.write_header(role, length.wrapping_add((head as u16).wrapping_mul(4)));
        self.words.finish();
        if head == 0 { Outcome::Done } else { Outcome::Failed }
    }
}

/// Slots of the larger of reply and typed error.
#[inline(always)]
const fn slots_for_answer(sizes: Sizes) -> u32 {
    let (reply, error) = (sizes.reply as usize, (sizes.error as usize).wrapping_add(4));
    slots_for(0, if reply > error { reply } else { error })
}

/// Declares an actor that lives on the host: a kind with keys and messages as any other, whose handlers are code of the host, which is
/// told of them with `Engine::host_actors`.
///
/// ```
/// # use tourbillon_device::{NoError, Plain, host_actor};
/// # #[repr(C)] #[derive(Clone, Copy, Plain)] struct Get(u64);
/// # #[repr(C)] #[derive(Clone, Copy, Plain)] struct Put(u64, u64);
/// host_actor!(
///     /// A table in a database.
///     pub struct Table { kind: 904, error: NoError, messages: { 0: Get => u64, 1: Put => () } }
/// );
/// ```
///
/// `kind` is the kind's number (1 to 16,383), `messages` gives each message its number (0 to 253) and its reply. Messages, replies and
/// the error have 320 bytes at most. The actor is listed in `system!` as others; its first message takes a place in a shard's directory,
/// with a state of 8 bytes, and no message runs anything of the user's on the device.
///
/// A message that is too large does not compile:
/// ```compile_fail
/// # use tourbillon_device::{NoError, Plain, host_actor};
/// # #[repr(C)] #[derive(Clone, Copy, Plain)] struct Long([u64; 41]);
/// host_actor!(pub struct Table { kind: 904, error: NoError, messages: { 0: Long => u64 } });
/// ```
#[macro_export]
macro_rules! host_actor {
    ($(#[$attribute:meta])* $visibility:vis struct $actor:ident {
        kind: $kind:literal,
        error: $error:ty,
        messages: { $($number:literal : $message:ty => $reply:ty),+ $(,)? }
        $(,)?
    }) => {
        $(#[$attribute])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $visibility struct $actor {
            reserved: u64,
        }

        // SAFETY: a number, any of which is a value.
        unsafe impl $crate::Plain for $actor {
            const LAYOUT: u64 = $crate::plain::layout::begin("host actor", size_of::<Self>(), align_of::<Self>());
            const ZERO_IS_VALID: bool = true;

            #[inline(always)]
            unsafe fn is_valid(_at: *const Self) -> bool {
                true
            }
        }
        impl $crate::State for $actor {}

        impl $crate::Actor for $actor {
            const KIND: u16 = $kind;
            const NAME: &'static str = stringify!($actor);
            type Error = $error;
            const STARTS_ZEROED: bool = true;
            const POOLS: bool = false;
            const BLOCKS: bool = false;
            const LETTERS: bool = true;
            const GOES_ON: bool = false;
            const SUPERVISED: bool = false;
            const UPGRADE: ::core::option::Option<$crate::actor::Upgrade<Self>> = ::core::option::Option::None;
            const HANDLERS: &'static [$crate::probe::HandlerName] = &[];

            #[inline(always)]
            unsafe fn probe(_index: usize, _probe: &mut $crate::probe::Probe) {}

            #[inline]
            fn activate(_key: u64) -> Self {
                Self { reserved: 0 }
            }

            #[inline]
            unsafe fn dispatch<W: $crate::Words>(_state: *mut Self, call: &mut $crate::Call<W>) -> $crate::Outcome {
                if W::SPAN.is_some() {
                    // The short ways leave it to the long one.
                    return $crate::Outcome::Unknown;
                }
                // SAFETY: the caller vouches for the state, so for its entry.
                unsafe { call.serve_by_host::<Self>() }
            }
        }

        impl $crate::HostActor for $actor {
            #[inline]
            fn sizes(message: u8) -> ::core::option::Option<$crate::host_actor::Sizes> {
                let error = size_of::<$error>() as u16;
                $(if message == $number {
                    let (message, reply) = (size_of::<$message>() as u16, size_of::<$reply>() as u16);
                    return ::core::option::Option::Some($crate::host_actor::Sizes { message, reply, error });
                })+
                ::core::option::Option::None
            }
        }

        $(
            impl $crate::Handler<$message> for $actor {
                type Reply = $reply;

                /// Never called: the host handles it.
                fn handle(
                    &mut self,
                    _message: &$message,
                    _context: &mut $crate::Context,
                ) -> ::core::result::Result<$reply, $error> {
                    ::core::unreachable!("messages of host actors are handed to the host")
                }
            }

            impl $crate::Message for $message {
                type Actor = $actor;
                const NUMBER: u8 = $number;
                const OUTLINED: bool = true;
            }
        )+

        const _: () = {
            use $crate::actor::check;
            assert!($kind != 0, concat!("kind 0 means no kind: give `", stringify!($actor), "` a number from 1 to 16383"));
            assert!(
                $kind <= $crate::shared::virtual_actors::KIND_MAX,
                concat!("the kind of `", stringify!($actor), "` is above 16383: the two bits above that are the key space")
            );
            assert!(
                check::are_different(&[$($number),+]),
                concat!("two messages of `", stringify!($actor), "` have the same number: give each one of its own")
            );
            const MOST: usize = $crate::shared::host_actors::HOST_PAYLOAD_MAX;
            assert!(
                size_of::<$error>() <= MOST,
                concat!("the error of `", stringify!($actor), "` is larger than a host actor's may be: 320 bytes are the most")
            );
            $(
                assert!(
                    $number <= $crate::shared::host_actors::HOST_MESSAGE_MAX,
                    concat!("the number of `", stringify!($message), "` is above 253, which are the engine's: give it another")
                );
                assert!(
                    size_of::<$message>() <= MOST && size_of::<$reply>() <= MOST,
                    concat!("`", stringify!($message), "` or its reply is larger than a host actor's may be: 320 bytes are the most")
                );
                assert!(
                    check::is_aligned::<$message>(),
                    concat!("`", stringify!($message), "`, its reply or its error is aligned to more than 16 bytes: leave `align` out")
                );
            )+
        };
    };
}
