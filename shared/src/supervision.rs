//! Supervision: actors that are children of others, what their parents order, and what they are told.
//!
//! # Bond
//! In a system with supervised actors each entry of a slab ends with a [`Bond`], behind the largest state: whose child the actor is, and as
//! what its parent hears of it. All zero is an actor that is nobody's child. Only the holder of the shard's turn reads or writes it.
//!
//! # Orders
//! A parent orders by a letter that asks ([`crate::mailbox`]): its message number is an [`Order`], its hint says that it is one
//! ([`is_order`]), the sender is the parent with the message as which it hears of children, the token is the child's number, and the
//! payload the child as the parent has it. The child's shard carries it out before any later message; a child that is a supervisor
//! itself gets it as a message of its own, for it has children of its own to see to.
//!
//! # Events
//! A child tells its parent by an *event*, a letter of one slot whose hint says so: an [`Event`] in 16 bytes. An order is answered by
//! one, and a failure is one that nobody asked for. Events cannot fail, so there is room for each before it is needed, from the parent's share
//! for answers:
//!
//! - Every order takes room for its answer ([`order_room`]), and [`Order::Start`] and [`Order::GoOn`] take room for one more event: they
//!   *arm* the child, for its next failure. A child that fails while it is not armed counts its failures, and tells of them together.
//! - An event says how much room it gives back ([`is_event`]): its own, and what will not be needed.
//! - `Start` takes one slot more, and gives it back. So beside all armed children there is room for one `GoOn`, once whatever else was
//!   asked is answered: a parent can always help.
//!
//! An event whose handler finds no room for what it sends goes to the end of its mailbox again, in the room that it has: it is handled
//! when there is room, and never lost.

use bytemuck::{Pod, Zeroable};

use crate::frame::slots_for;
use crate::mailbox::LetterHint;

/// Most slots that an event gives back: those of [`Order::Start`].
pub const EVENT_ROOM_MAX: u32 = 3;
/// Failures of a child that are told of at once, at most; more are not counted.
pub const FAILURES_TOLD_MAX: u32 = 255;
/// Largest number that a parent may give a child.
pub const TOKEN_MAX: u32 = (1 << 24) - 1;

/// Bytes that the answer of an order which takes `room` slots seems to have, 1 to [`EVENT_ROOM_MAX`].
const fn answer_bytes(room: u32) -> u16 {
    match room {
        1 => 8,
        2 => 24,
        _ => 72,
    }
}

/// Slots that an order takes of its sender's share for answers.
#[inline(always)]
pub const fn order_room(order: Order) -> u32 {
    match order {
        Order::Start => 3,
        Order::GoOn => 2,
        Order::Restart | Order::Stop => 1,
    }
}

/// The hint of an order: of an answer of as many bytes as take its room, which no answer says of itself.
#[inline(always)]
pub const fn order_hint(order: Order) -> LetterHint {
    LetterHint { answer_bytes: answer_bytes(order_room(order)), is_answer: true }
}

/// How many slots the order of this hint took, if it is one.
#[inline(always)]
pub const fn is_order(hint: LetterHint) -> Option<u32> {
    if !hint.is_answer || hint.answer_bytes < answer_bytes(1) {
        return None;
    }
    Some(slots_for(0, hint.answer_bytes as usize))
}

/// The hint of an event that gives back `room` slots, 1 to [`EVENT_ROOM_MAX`].
#[inline(always)]
pub const fn event_hint(room: u32) -> LetterHint {
    LetterHint { answer_bytes: room as u16, is_answer: true }
}

/// How many slots the event of this hint gives back, if it is one.
#[inline(always)]
pub const fn is_event(hint: LetterHint) -> Option<u32> {
    if hint.is_answer && hint.answer_bytes != 0 && hint.answer_bytes as u32 <= EVENT_ROOM_MAX {
        Some(hint.answer_bytes as u32)
    } else {
        None
    }
}

/// What a parent orders: the message number of the letter.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// To be its child from now on. One that was stopped begins anew.
    Start = 1,
    /// To go on after a failure that was told, and to tell of the next: it is armed.
    GoOn = 2,
    /// To begin anew.
    Restart = 3,
    /// To stop: whatever else comes is answered with [`Stopped`](crate::error::FailureCode::Stopped).
    Stop = 4,
}

impl Order {
    /// The order of this number.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Start,
            2 => Self::GoOn,
            3 => Self::Restart,
            4 => Self::Stop,
            _ => return None,
        })
    }
}

/// What happened to a child.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// It was started.
    Started = 1,
    /// Its handler failed; how often, and how the last time, is told. Unless it is a supervisor, it has begun anew.
    Failed = 2,
    /// It goes on, or has begun anew, as it was ordered.
    Obeyed = 3,
    /// It was stopped, and is nobody's child any more.
    Stopped = 4,
    /// It did not do what it was ordered; why is told.
    Refused = 5,
}

impl Happened {
    /// What has this number.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Started,
            2 => Self::Failed,
            3 => Self::Obeyed,
            4 => Self::Stopped,
            5 => Self::Refused,
            _ => return None,
        })
    }
}

/// Why an order was not carried out.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The actor is somebody's child already.
    AlreadyChild = 1,
    /// The actor is not this parent's child.
    NotYours = 2,
    /// The actor has not declared that it may be supervised, or there is no such kind.
    Undeclared = 3,
    /// The actor has children already: a supervisor becomes a child before it has any, so that no circle is ever closed.
    HasChildren = 4,
    /// There is no room for the actor in its shard, or the store failed to bring it.
    NoPlace = 5,
    /// The handler of the supervisor to which the order was failed.
    HandlerFailed = 6,
    /// The supervisor has another order to carry out.
    Busy = 7,
    /// There is no room for what the supervisor's handler sends: it may do so later.
    NoRoom = 8,
}

impl Refusal {
    /// The reason of this number.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::AlreadyChild,
            2 => Self::NotYours,
            3 => Self::Undeclared,
            4 => Self::HasChildren,
            5 => Self::NoPlace,
            6 => Self::HandlerFailed,
            7 => Self::Busy,
            8 => Self::NoRoom,
            _ => return None,
        })
    }
}

/// The bits of [`Bond::watch`], which are those of a child's: which failures beside panics are told.
pub mod watch {
    /// Where in [`Bond::watch`](super::Bond::watch) the watch begins, above what is said of orders.
    pub const SHIFT: u32 = 12;
    /// Panics alone.
    pub const PANICS: u16 = 0;
    /// Typed errors as well, whichever they are.
    pub const ERRORS: u16 = 1;
    /// Of typed errors, those whose first four bytes are [`Bond::error`](super::Bond::error).
    pub const ONE_ERROR: u16 = 2;
    /// Below the watch: the number of the message as which orders come to the actor, plus one; 0 where the engine carries them out.
    pub const ORDERS_AS: u16 = 0x1ff;
}

/// What stands in [`Bond::state`].
pub mod bond {
    /// The actor is nobody's child.
    pub const FREE: u8 = 0;
    /// It is a child.
    pub const CHILD: u8 = 1;
    /// It was stopped.
    pub const STOPPED: u8 = 2;
}

/// Whose child an actor is, and whether it has some, at the end of its entry.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Bond {
    /// Key of the parent.
    pub parent: u64,
    /// Kind word of the parent.
    pub parent_kind: u16,
    /// Number of the parent's message as which events come to it.
    pub events_as: u8,
    /// See [`bond`].
    pub state: u8,
    /// The parent's number for the child.
    pub token: u32,
    /// See [`watch`].
    pub watch: u16,
    /// Not 0: there is room for one event in the parent's mailbox.
    pub is_armed: u8,
    /// What the actor, a supervisor, was ordered and has not done yet, as an [`OpenOrder`]; 0 for nothing.
    pub open: u8,
    /// The typed error that is watched, where one is.
    pub error: u32,
    /// Failures that the parent was not told of yet.
    pub failures: u32,
    /// Code of the last of them.
    pub code: u32,
    /// Children that the actor has itself, as far as it was told.
    pub children: u32,
    /// Zero.
    pub reserved: [u32; 3],
}

/// An order that a supervisor carries out by messages of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOrder {
    /// The [`Order`].
    pub order: u8,
    /// Slots that its answer gives back, at most 3.
    pub room: u8,
    /// What [`Bond::state`] was before.
    pub before: u8,
}

impl OpenOrder {
    /// The order as a byte, which is not 0.
    #[inline(always)]
    pub const fn encode(self) -> u8 {
        self.order | self.room << 3 | self.before << 5
    }

    /// The order in a byte.
    #[inline(always)]
    pub const fn decode(byte: u8) -> Self {
        Self { order: byte & 0b111, room: byte >> 3 & 0b11, before: byte >> 5 }
    }
}

/// Bytes of a bond.
pub const BOND_BYTES: usize = size_of::<Bond>();

/// Words of the payload of an event.
pub const EVENT_WORDS: usize = 4;

/// What an event tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Key of the child.
    pub key: u64,
    /// Kind of the child.
    pub kind: u16,
    /// A [`Happened`].
    pub what: u8,
    /// Of a failure the [`FailureCode`](crate::error::FailureCode), of a refusal the [`Refusal`].
    pub code: u8,
    /// The parent's number for the child, at most [`TOKEN_MAX`].
    pub token: u32,
    /// Failures, at most [`FAILURES_TOLD_MAX`].
    pub count: u8,
}

impl Event {
    /// The payload's words.
    #[inline(always)]
    pub const fn encode(&self) -> [u32; EVENT_WORDS] {
        [
            self.key as u32,
            (self.key >> 32) as u32,
            self.kind as u32 | (self.what as u32) << 16 | (self.code as u32) << 24,
            (self.token & TOKEN_MAX) | (self.count as u32) << 24,
        ]
    }

    /// The event of these words. Any words are one.
    #[inline(always)]
    pub const fn decode(words: &[u32; EVENT_WORDS]) -> Self {
        Self {
            key: words[0] as u64 | (words[1] as u64) << 32,
            kind: words[2] as u16,
            what: (words[2] >> 16) as u8,
            code: (words[2] >> 24) as u8,
            token: words[3] & TOKEN_MAX,
            count: (words[3] >> 24) as u8,
        }
    }
}

const _: () = {
    use core::mem::offset_of;
    assert!(BOND_BYTES == 48 && align_of::<Bond>() == 16);
    assert!(offset_of!(Bond, state) == 11 && offset_of!(Bond, watch) == 16 && offset_of!(Bond, failures) == 24);
    let mut room = 1;
    while room <= EVENT_ROOM_MAX {
        assert!(slots_for(0, answer_bytes(room) as usize) == room);
        room += 1;
    }
    // An event takes one slot, and is told from an order by its hint.
    assert!(slots_for(0, EVENT_WORDS * 4) == 1 && (answer_bytes(1) as u32) > EVENT_ROOM_MAX);
    // The number of a message plus one lies below the watch.
    assert!(watch::ORDERS_AS as u32 > u8::MAX as u32 && (watch::ORDERS_AS as u32) < 1 << watch::SHIFT);
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn events_survive(key: u64, kind: u16, what: u8, code: u8, token in 0..=TOKEN_MAX, count: u8) {
            let event = Event { key, kind, what, code, token, count };
            prop_assert_eq!(Event::decode(&event.encode()), event);
        }
    }

    #[test]
    fn hints_of_orders_and_events_are_told_apart_from_those_of_letters() {
        for order in [Order::Start, Order::GoOn, Order::Restart, Order::Stop] {
            assert_eq!(is_order(order_hint(order)), Some(order_room(order)));
            assert_eq!(is_event(order_hint(order)), None);
            assert!(order_room(order) <= EVENT_ROOM_MAX);
        }
        for room in 1..=EVENT_ROOM_MAX {
            assert_eq!((is_event(event_hint(room)), is_order(event_hint(room))), (Some(room), None));
        }
        for answer_bytes in [0, 1, 2, 3, 8, 24, 72] {
            let letter = LetterHint { answer_bytes, is_answer: false };
            assert_eq!((is_order(letter), is_event(letter)), (None, None));
        }
        let answer = LetterHint { answer_bytes: 0, is_answer: true };
        assert_eq!((is_order(answer), is_event(answer)), (None, None));
    }

    #[test]
    fn open_orders_survive() {
        for (order, room, before) in [(1, 1, bond::FREE), (4, EVENT_ROOM_MAX as u8, bond::STOPPED), (3, 2, bond::CHILD)]
        {
            let open = OpenOrder { order, room, before };
            assert_eq!(OpenOrder::decode(open.encode()), open);
            assert_ne!(open.encode(), 0);
        }
    }

    #[test]
    fn numbers_round_trip() {
        for number in 0..=u8::MAX {
            assert!(Order::from_number(number.into()).is_none_or(|order| order as u8 == number));
            assert!(Happened::from_number(number).is_none_or(|what| what as u8 == number));
            assert!(Refusal::from_number(number).is_none_or(|why| why as u8 == number));
        }
    }
}
