//! Mailboxes: messages between actors, *letters*, without the host.
//!
//! # Protocol
//! Each shard has a *mailbox*, a ring in device memory that all shards write and the shard alone reads. As in an outbox
//! ([`crate::outbox`]) a slot is written in three steps, by the lane of the warp that runs the handler which sends:
//!
//! 1. *Reserve* room: subtract from the room of the target's mailbox ([`MailboxState::room`]), with Acquire; below zero, give back.
//!    This is the last point at which the sender's message may fail.
//! 2. When the handler has succeeded, take a *ticket*: add to [`MailboxState::tail`], with Acquire. There is room behind every ticket, and
//!    nothing stops or fails from here on.
//! 3. *Write* the slots under their laps, as any slot that proves itself ([`crate::slot`]).
//!
//! The reader takes the slots at its own position. It tells of them by an addition with Release of nothing to the tail, and then gives the
//! room back by one. So whoever has room from there takes his ticket behind that, and every later ticket sees that the slots were read, whoever
//! took it, for all of them are additions to the same word. A shard that sends to itself takes room and ticket without an order of its own:
//! it has read the slots. What takes other room than that for letters, as answers do, takes its ticket with Acquire and Release, and so does
//! what leads to it, a question: for that room is free as soon as an answer is handled, before its shard tells of it.
//!
//! # Without room
//! A letter that finds no room goes to the *overflow* of the sender's shard: a ring in device memory of which only that shard knows. The
//! shard takes its letters from there to their mailboxes when these have room again. While letters to a mailbox wait
//! there, later ones from the same shard to the same mailbox wait behind them ([`waiting_bucket`]), so that letters of one actor to
//! another never pass each other. When the overflow is full as well, the sender's message fails and leaves no trace. So a shard never
//! waits for another, always takes what is in its mailbox, and two shards whose mailboxes are full cannot stop each other.
//!
//! # Questions
//! A letter that wants an answer carries who asks ([`Flags::SENDER`](crate::header::Flags::SENDER)), and room for the answer was taken from the asker's own share for
//! answers ([`MailboxState::answers`]) when it was sent. So an answer always has room, and goes to the mailbox straight away. The share is
//! that of the mailbox itself: half of its slots are for letters, half for answers.
//!
//! # Hint
//! The hint of a letter is a [`ReturnAddress`](crate::header::ReturnAddress) only where the sender of a client's request has handed the duty to answer
//! on. Else its lap is 0, which no return address has, and the rest of it is a [`LetterHint`].

use bytemuck::{Pod, Zeroable};

use crate::broadcast::broadcasts_max;
use crate::frame::{FRAME_SLOTS_MAX, FRAME_WORDS_MAX};
use crate::outbox::LANES_OF_WARP_MAX;
use crate::position::{RING_CAPACITY_MAX, RingShape};
use crate::slot::SLOT_BYTES;

/// Most letters of one message: each lane of every warp has a buffer for so many in device memory. Who has more to tell says so in
/// several messages, the next of which may be one to itself.
pub const LETTERS_MAX: u32 = 4;
/// Smallest capacity of a mailbox: half of it is for letters, and must hold the longest frame besides the room that its reader has not
/// yet given back ([`slots_until_told`]), the criers of broadcasts and the letters by which actors go on, a quarter each.
pub const MAILBOX_CAPACITY_MIN: u32 = 32;
/// Largest capacity of a mailbox, that of other rings.
pub const MAILBOX_CAPACITY_MAX: u32 = RING_CAPACITY_MAX;
/// Smallest capacity of an overflow: all that one message may send, so that no message is refused for good.
pub const OVERFLOW_CAPACITY_MIN: u32 = LETTERS_MAX * FRAME_SLOTS_MAX as u32;
/// Largest capacity of an overflow, that of other rings.
pub const OVERFLOW_CAPACITY_MAX: u32 = RING_CAPACITY_MAX;
/// How often a message may be handed on before its origin gets a failure: enough for a chain of services, few enough that a circle ends
/// within a fraction of a millisecond.
pub const HOPS_MAX: u8 = 32;
/// Counts of letters that wait in an overflow, by mailbox: a power of two. With more shards than this some share a count, and then wait
/// for each other.
pub const WAITING_BUCKETS: usize = 64;

/// The count of letters to the mailbox of `shard` that wait in an overflow.
#[inline(always)]
pub const fn waiting_bucket(shard: u32) -> usize {
    shard as usize % WAITING_BUCKETS
}

/// Slots of a mailbox of `shape` that are for letters, criers of broadcasts included; the others are for answers.
#[inline(always)]
pub const fn slots_for_letters(shape: RingShape) -> u32 {
    shape.capacity() / 2
}

/// Most slots of a mailbox of `shape` that letters by which actors go on may take: each stays until its actor has done its work, so they must
/// leave room for what that work sends.
#[inline(always)]
pub const fn slots_for_going_on(shape: RingShape) -> u32 {
    slots_for_letters(shape) / 4
}

/// Slots of a mailbox of `shape` that its reader takes before it gives their room back: a quarter of those for letters, for that is dear,
/// but so few that the longest frame always finds room in the end, beside the criers of broadcasts and the letters by which actors go on.
#[inline(always)]
pub const fn slots_until_told(shape: RingShape) -> u32 {
    let letters = slots_for_letters(shape);
    let others = slots_for_going_on(shape) + broadcasts_max(shape) + FRAME_SLOTS_MAX as u32;
    let (quarter, spare) = (letters / 4, letters.saturating_sub(others) + 1);
    if quarter < spare { quarter } else { spare }
}

/// What the device keeps of a shard's mailbox and overflow.
///
/// The first line is written by all shards, the second by the shard's own warps and by those who send to it, the others by the shard's
/// own warps alone, under its turn or, while handlers run, by additions.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct MailboxState {
    /// Position after the last ticket.
    pub tail: u64,
    /// Zero.
    pub reserved_tail: [u64; 15],
    /// Slots for letters that are neither reserved nor unread: at most half of the capacity, less those for criers of
    /// broadcasts ([`broadcasts_max`]), for a moment below zero (in two's complement).
    pub room: u64,
    /// Zero.
    pub reserved_room: [u64; 15],
    /// Slots for answers that no question has taken, counted as `room` is.
    pub answers: u64,
    /// How far the shard has taken the mailbox, as of the last exit of the kernel; while it runs, the block keeps it.
    pub head: u64,
    /// Letters that the shard has sent, answers included, to mailboxes or to the overflow.
    pub sent: u64,
    /// Letters that the shard has taken from its mailbox.
    pub received: u64,
    /// Letters that waited in the overflow.
    pub overflowed: u64,
    /// Messages that failed because there was no room for what they sent.
    pub refused: u64,
    /// Slots of the overflow that are free, counted as `room` is.
    pub overflow_room: u64,
    /// Position after the last letter in the overflow.
    pub overflow_tail: u64,
    /// Position of the first letter in the overflow that is not sent.
    pub overflow_head: u64,
    /// Where the next look at the overflow begins, in `overflow_head ..= overflow_tail`.
    pub overflow_next: u64,
    /// The counts by mailbox, as bits, at whose mailbox this pass over the overflow has found no room.
    pub blocked: u64,
    /// Letters in the mailbox by which actors go on: at most [`slots_for_going_on`], but for a moment.
    pub going: u64,
    /// Zero.
    pub reserved: [u64; 4],
    /// Letters that wait in the overflow, by [`waiting_bucket`].
    pub waiting: [u64; WAITING_BUCKETS],
}

impl MailboxState {
    /// Of a mailbox of `shape` and an overflow of `overflow`, which nobody has used.
    pub fn new(shape: RingShape, overflow: RingShape) -> Self {
        let letters = slots_for_letters(shape);
        Self {
            room: (letters - broadcasts_max(shape)).into(),
            answers: (shape.capacity() - letters).into(),
            overflow_room: overflow.capacity().into(),
            ..Self::zeroed()
        }
    }
}

/// What the hint of a letter says whose lap is 0: bits 32 to 47 of the hint, where a return address has its index.
///
/// | bits | content |
/// | --- | --- |
/// | 0 to 14 | of a question: bytes that the answer has; of another letter 0, or [`LetterHint::GOES_ON`] |
/// | 15 | it is an answer |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LetterHint {
    /// Bytes of the answer that is expected, below 2^15.
    pub answer_bytes: u16,
    /// Whether it is an answer, whose slots are those of answers.
    pub is_answer: bool,
}

impl LetterHint {
    const ANSWER: u16 = 1 << 15;
    /// In place of the bytes of an answer, in a letter that asks nothing: an actor goes on by it. When there is no room for what its
    /// handler sends it is put back in line, in the room that it came from, and handled again. More bytes than any answer has.
    pub const GOES_ON: u16 = Self::ANSWER - 1;

    /// Of a letter, `asks` of which says whether it is a question: whether its actor goes on by it.
    #[inline(always)]
    pub const fn goes_on(self, asks: bool) -> bool {
        self.answer_bytes == Self::GOES_ON && !asks && !self.is_answer
    }

    /// The hint.
    #[inline(always)]
    pub const fn encode(self) -> u64 {
        let bits = if self.is_answer { self.answer_bytes | Self::ANSWER } else { self.answer_bytes };
        (bits as u64) << 32
    }

    /// What a hint says; nothing when it is the return address of a client's request.
    #[inline(always)]
    pub const fn decode(hint: u64) -> Option<Self> {
        if hint as u32 != 0 {
            return None;
        }
        let bits = (hint >> 32) as u16;
        Some(Self { answer_bytes: bits & !Self::ANSWER, is_answer: bits & Self::ANSWER != 0 })
    }
}

/// Who asks: the extension of a letter that wants an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// Key of the actor that asks.
    pub key: u64,
    /// Kind word of that actor.
    pub kind: u16,
    /// Number of the message as which the answer comes to it.
    pub message: u8,
    /// Comes back with the answer.
    pub token: u32,
}

/// Words of a [`Sender`].
pub const SENDER_WORDS: usize = 4;

impl Sender {
    /// The extension's words.
    #[inline(always)]
    pub const fn encode(&self) -> [u32; SENDER_WORDS] {
        [self.key as u32, (self.key >> 32) as u32, self.kind as u32 | (self.message as u32) << 16, self.token]
    }

    /// The sender in an extension. Any words are one.
    #[inline(always)]
    pub const fn decode(words: &[u32; SENDER_WORDS]) -> Self {
        Self {
            key: words[0] as u64 | (words[1] as u64) << 32,
            kind: words[2] as u16,
            message: (words[2] >> 16) as u8,
            token: words[3],
        }
    }
}

/// Words in front of the reply or the typed error in an answer: the token, and 0 or the
/// [`FailureCode`](crate::error::FailureCode).
pub const ANSWER_HEAD_WORDS: u32 = 2;

/// What becomes of a letter in the buffer.
pub mod letter_fate {
    /// There is room in its mailbox.
    pub const DIRECT: u32 = 1;
    /// There is room in the overflow.
    pub const OVERFLOW: u32 = 2;
    /// It is to be broadcast, and has a number, which stands in place of the shard.
    pub const BROADCAST: u32 = 3;
    /// It is for the own mailbox, and takes the place of the letter that runs.
    pub const CARRIED: u32 = 4;
}

/// Words of a letter in the buffer: those of the longest frame, and what is decided about it.
pub const OUTGOING_LETTER_WORDS: usize = FRAME_WORDS_MAX + 4;
/// Word of a letter in the buffer: the shard of its mailbox.
pub const LETTER_SHARD: usize = FRAME_WORDS_MAX;
/// Word of a letter in the buffer: its [`letter_fate`].
pub const LETTER_FATE: usize = FRAME_WORDS_MAX + 1;
/// Word of a letter in the buffer: the kind of actor to which the answer may go, 0 for any.
pub const LETTER_KIND: usize = FRAME_WORDS_MAX + 2;

/// Bytes of the buffer of one warp: word by word, each for all lanes, so that lanes that send at the same time write lines.
pub const LETTER_BUFFER_BYTES: u64 = (LETTERS_MAX * LANES_OF_WARP_MAX) as u64 * OUTGOING_LETTER_WORDS as u64 * 4;

/// What the handlers of a window need to send letters, in the warp's scratch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Desk {
    /// Address of the warp's buffer; 0 where the engine has no mailboxes.
    pub letters: u64,
    /// Address of the word in block memory that says that the shard's overflow has letters.
    pub overflowing: u64,
    /// The shard whose turn the warp holds.
    pub shard: u32,
    /// Zero.
    pub reserved: u32,
}

/// Bytes of the ring of a mailbox or an overflow whose capacity has this binary logarithm; 0 stands for none.
pub const fn mailbox_bytes(log2: u32) -> u64 {
    if log2 == 0 { 0 } else { (SLOT_BYTES as u64) << log2 }
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<MailboxState>() == 896);
    assert!(offset_of!(MailboxState, room) == 128);
    assert!(offset_of!(MailboxState, answers) == 256);
    assert!(offset_of!(MailboxState, waiting) == 384);
    assert!(size_of::<Desk>() == 24);
    assert!(WAITING_BUCKETS.is_power_of_two() && WAITING_BUCKETS <= u64::BITS as usize);
    // A frame fits beside what the reader has not given back yet, the criers, and the letters by which actors go on, which stay.
    let mut log2 = MAILBOX_CAPACITY_MIN.trailing_zeros();
    while 1 << log2 <= MAILBOX_CAPACITY_MAX {
        let shape = RingShape::from_log2(log2);
        let kept = slots_for_going_on(shape) + broadcasts_max(shape) + slots_until_told(shape) - 1;
        assert!(slots_until_told(shape) > 0 && kept + FRAME_SLOTS_MAX as u32 <= slots_for_letters(shape));
        log2 += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::ReturnAddress;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hints_of_letters_are_no_return_addresses(bytes in 0u16..1 << 15, is_answer: bool, lane in 0u16..64, index: u16, lap in 1u32.., is_alone: bool) {
            let hint = LetterHint { answer_bytes: bytes, is_answer };
            prop_assert_eq!(LetterHint::decode(hint.encode()), Some(hint));
            // Whoever takes it for a return address finds a lane that exists, and no place there.
            let address = ReturnAddress::decode(hint.encode());
            prop_assert_eq!((address.lane, address.lap, address.is_alone), (0, 0, false));
            prop_assert_eq!(LetterHint::decode(ReturnAddress { lane, index, lap, is_alone, span: 0 }.encode()), None);
        }

        #[test]
        fn senders_survive(key: u64, kind: u16, message: u8, token: u32) {
            let sender = Sender { key, kind, message, token };
            prop_assert_eq!(Sender::decode(&sender.encode()), sender);
        }
    }

    #[test]
    fn actors_go_on_by_letters_that_ask_nothing() {
        let hint = LetterHint { answer_bytes: LetterHint::GOES_ON, is_answer: false };
        assert_eq!(LetterHint::decode(hint.encode()), Some(hint));
        assert!(hint.goes_on(false) && !hint.goes_on(true));
        assert!(!LetterHint { is_answer: true, ..hint }.goes_on(false) && !LetterHint::default().goes_on(false));
        // More than any answer has.
        assert!(usize::from(LetterHint::GOES_ON) > crate::frame::PAYLOAD_BYTES_MAX);
        let smallest = RingShape::from_log2(MAILBOX_CAPACITY_MIN.ilog2());
        assert_eq!((slots_for_letters(smallest), slots_for_going_on(smallest)), (16, 4));
    }

    #[test]
    fn a_new_mailbox_is_free() {
        let state = MailboxState::new(RingShape::from_log2(5), RingShape::from_log2(6));
        assert_eq!((state.room, state.answers, state.overflow_room), (12, 16, 64));
    }
}
