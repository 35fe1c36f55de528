//! The outbox of a lane: messages that an actor sends to a client without being asked, *notices*.
//!
//! # Protocol
//! A lane has a ring of its own for notices, which the device writes and the client reads. Many shards write it, so a slot is
//! written in three steps, each of them by whichever warp runs the handler that posts:
//!
//! 1. *Reserve* room: subtract from the lane's room counter in device memory ([`OutboxState::room`]), with Acquire; below zero, give
//!    back. What happens without room was chosen by the client ([`OutboxPolicy`]).
//! 2. Take a *ticket*: add to the lane's tail, with Acquire and Release. There is room behind every ticket, and nothing stops
//!    or fails from here on.
//! 3. *Write* the slots under their laps, as any slot that proves itself ([`crate::slot`]).
//!
//! The client reads the slots at its own position, then stores its [`Credit`] with Release: how far it has read, and who it is.
//! The control warp looks at that word, fences, and adds what is new to the room counter. So the only
//! word that goes back over the bus has one writer, and no read-modify-write crosses it.
//!
//! # Who is meant
//! A notice is posted to a [`Subscriber`]: a lane and a *generation*. Every opening of an outbox has the next generation, so that a
//! notice never reaches a later holder of the lane: the device drops, and counts, what is for another generation than the one that
//! it knows. It may learn late; therefore a frame carries the generation in its hint, and a reader throws away those of others.
//! Positions go on from holder to holder. So nobody waits for anybody when a lane changes hands.

use bytemuck::{Pod, Zeroable};

use crate::frame::{FRAME_SLOTS_MAX, FRAME_WORDS_MAX, PAYLOAD_BYTES_MAX, slots_for};
use crate::header::{Flags, HEADER_WORDS, Header};
use crate::lane::LINE_BYTES;
use crate::position::{RING_CAPACITY_MAX, RingShape};
use crate::ring::{Cells, read_slot};
use crate::slot::DATA_WORDS_PER_SLOT;

/// Most notices of one message: each lane of every warp has a buffer for so many in device memory, and a handler runs on one lane, so
/// what has many subscribers is better told in several messages.
pub const NOTICES_MAX: u32 = 4;
/// Smallest capacity of an outbox: room for all that one message may post, so that no message is refused for good.
pub const OUTBOX_CAPACITY_MIN: u32 = NOTICES_MAX * FRAME_SLOTS_MAX as u32;
/// Largest capacity of an outbox: that of a lane's other rings.
pub const OUTBOX_CAPACITY_MAX: u32 = RING_CAPACITY_MAX;
/// The last generation; the next is 1. A generation shares a half word with three bits.
pub const GENERATION_MAX: u32 = (1 << 29) - 1;
/// Lanes of a warp that may run handlers at once, as far as buffers are concerned.
pub const LANES_OF_WARP_MAX: u32 = 32;

/// To whom an actor posts notices: a lane, in one of its generations. Plain data, to be sent in messages and kept in states.
///
/// A client gets its own from its outbox. All zero is [`NOBODY`](Self::NOBODY).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Subscriber {
    /// Number of the lane in its engine.
    pub lane: u32,
    /// The opening of that lane's outbox, 1 to [`GENERATION_MAX`].
    pub generation: u32,
}

impl Subscriber {
    /// Nobody: a notice for it is dropped, and counted.
    pub const NOBODY: Self = Self { lane: 0, generation: 0 };

    /// Whether this is no subscriber at all.
    #[inline(always)]
    pub const fn is_nobody(self) -> bool {
        self.generation == 0
    }
}

/// What becomes of a notice for which an outbox has no room. The client chooses it when it opens the outbox.
///
/// Room that another message is about to give back counts as taken, so a notice may find none a moment before there is some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OutboxPolicy {
    /// It is dropped and counted; the message that posted it goes on.
    #[default]
    Drop,
    /// The message that would have posted it fails with [`FailureCode::OutboxFull`](crate::error::FailureCode) and leaves no trace,
    /// neither in its actor nor in any outbox: back-pressure.
    Refuse,
}

/// Who reads an outbox: the upper half of its [`Credit`].
///
/// | bits | content |
/// | --- | --- |
/// | 0 to 28 | generation |
/// | 29 | it serves host actors ([`crate::host_actors`]) |
/// | 30 | the outbox is open |
/// | 31 | notices without room are refused, not dropped |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner(pub u32);

impl Owner {
    const SERVES_HOSTS: u32 = 1 << 29;
    const OPEN: u32 = 1 << 30;
    const REFUSES: u32 = 1 << 31;

    /// The holder of an outbox that has just been opened.
    pub const fn new(generation: u32, policy: OutboxPolicy) -> Self {
        let refuses = if matches!(policy, OutboxPolicy::Refuse) { Self::REFUSES } else { 0 };
        Self((generation & GENERATION_MAX) | Self::OPEN | refuses)
    }

    /// The same holder as the one that serves host actors.
    #[must_use]
    pub const fn serving_hosts(self) -> Self {
        Self(self.0 | Self::SERVES_HOSTS)
    }

    /// Whether it serves host actors, or did before it closed the outbox.
    #[inline(always)]
    pub const fn serves_hosts(self) -> bool {
        self.0 & Self::SERVES_HOSTS != 0
    }

    /// Whether the outbox is open.
    #[inline(always)]
    pub const fn is_open(self) -> bool {
        self.0 & Self::OPEN != 0
    }

    /// The same holder after it has closed the outbox.
    #[must_use]
    pub const fn closed(self) -> Self {
        Self(self.0 & !Self::OPEN)
    }

    /// Number of the opening, 0 before the first.
    #[inline(always)]
    pub const fn generation(self) -> u32 {
        self.0 & GENERATION_MAX
    }

    /// The generation after this one.
    pub const fn next_generation(self) -> u32 {
        if self.generation() == GENERATION_MAX { 1 } else { self.generation() + 1 }
    }

    /// Whether the outbox is open for notices of `generation`, which is any word.
    #[inline(always)]
    pub const fn is(self, generation: u32) -> bool {
        generation & !GENERATION_MAX == 0 && self.0 & !(Self::REFUSES | Self::SERVES_HOSTS) == generation | Self::OPEN
    }

    /// Whether notices without room are refused.
    #[inline(always)]
    pub const fn refuses(self) -> bool {
        self.0 & Self::REFUSES != 0
    }
}

/// The client's word: how far it has read, and who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    /// Low 32 bits of the position up to which the ring may be overwritten.
    pub read: u32,
    /// Who reads.
    pub owner: Owner,
}

impl Credit {
    /// The word.
    #[inline(always)]
    pub const fn encode(self) -> u64 {
        self.read as u64 | (self.owner.0 as u64) << 32
    }

    /// The credit in a word. Any word is one.
    #[inline(always)]
    pub const fn decode(word: u64) -> Self {
        Self { read: word as u32, owner: Owner((word >> 32) as u32) }
    }
}

/// A line of the lane's head, written by the client alone.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct LaneOutbox {
    /// A [`Credit`], stored with Release after the slots were read.
    pub credit: u64,
    /// The whole position up to which the ring was read, stored after `credit`. For the next holder; the device never reads it.
    pub read: u64,
    /// Zero.
    pub reserved: [u64; 14],
}

impl LaneOutbox {
    /// The position up to which the ring was read, from both words: the first is never behind the second.
    pub const fn position(credit: Credit, read: u64) -> u64 {
        read.wrapping_add(credit.read.wrapping_sub(read as u32) as u64)
    }
}

/// A line of the lane's head, written by the control warp alone: what became of notices, as of its last refresh.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct LaneNotices {
    /// The [`Owner`] that the device knows, stored with Release: handlers that begin later go by it.
    pub owner: u64,
    /// Notices that were sent.
    pub posted: u64,
    /// Notices that were dropped for want of room.
    pub dropped: u64,
    /// Messages that failed for want of room.
    pub refused: u64,
    /// Notices that were dropped because they were for another generation, or for an outbox that is closed.
    pub strayed: u64,
    /// Zero.
    pub reserved: [u64; 11],
}

/// What the device keeps of a lane's outbox, in its own memory.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct OutboxState {
    /// The [`Owner`] that the control warp saw last; it alone writes the word.
    pub owner: u64,
    /// Slots that are neither reserved nor unread: at most the capacity, for a moment below zero (in two's complement).
    pub room: u64,
    /// Position after the last ticket.
    pub tail: u64,
    /// Low 32 bits of the position up to which the client had read when the control warp looked last; it alone writes the word.
    pub seen: u64,
    /// See [`LaneNotices`]; so for the others.
    pub posted: u64,
    /// Dropped for want of room.
    pub dropped: u64,
    /// Messages that were refused.
    pub refused: u64,
    /// For another generation, or for an outbox that is closed.
    pub strayed: u64,
    /// In the state of the first lane: who serves host actors ([`decode_server`](crate::host_actors::decode_server)); 0 for nobody, and in
    /// all others. The control warp alone writes the word.
    pub hosts: u64,
    /// Zero.
    pub reserved: [u64; 7],
}

impl OutboxState {
    /// Of a ring of `shape` that nobody has used, which begins at `first_position`.
    pub fn new(shape: RingShape, first_position: u64) -> Self {
        Self {
            room: shape.capacity().into(),
            tail: first_position,
            seen: u64::from(first_position as u32),
            ..Self::zeroed()
        }
    }
}

/// What became of a notice in the buffer.
pub mod fate {
    /// Its subscriber's lane does not exist.
    pub const NOWHERE: u32 = 0;
    /// For another generation, or for an outbox that is closed.
    pub const STRAYED: u32 = 1;
    /// There is no room.
    pub const DROPPED: u32 = 2;
    /// Room is reserved.
    pub const RESERVED: u32 = 3;
    /// There is no room, and its message fails.
    pub const REFUSED: u32 = 4;
}

/// A notice between its handler and its outbox.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct OutgoingNotice {
    /// For whom.
    pub subscriber: Subscriber,
    /// Its number.
    pub number: u16,
    /// Bytes of its payload.
    pub length: u16,
    /// See [`fate`].
    pub fate: u32,
    /// The payload, in whole words.
    pub payload: [u32; PAYLOAD_BYTES_MAX / 4],
}

/// Buffer for the notices of the handler that one lane of a warp runs.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Outgoing {
    /// In the order in which they were posted.
    pub notices: [OutgoingNotice; NOTICES_MAX as usize],
}

/// How a warp's handlers find what posting needs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// Address of the kernel's arguments.
    pub arguments: u64,
    /// Address of the [`Outgoing`] of the warp's first lane; 0 where the engine has no outboxes.
    pub outgoing: u64,
    /// Address of the warp's [`WarpStats`](crate::telemetry::WarpStats).
    pub stats: u64,
    /// Address of the [`LanePool`](crate::pool::LanePool) of the warp's first lane; 0 where the engine has no pools.
    pub pools: u64,
}

/// Bytes of an outbox ring whose capacity has this binary logarithm; 0 stands for no outbox.
pub const fn outbox_bytes(outbox_log2: u32) -> u64 {
    if outbox_log2 == 0 { 0 } else { (crate::slot::SLOT_BYTES as u64) << outbox_log2 }
}

/// Whether an outbox may have a capacity of this binary logarithm; 0 stands for no outbox.
pub const fn is_outbox_log2(outbox_log2: u32) -> bool {
    outbox_log2 == 0
        || (outbox_log2 >= OUTBOX_CAPACITY_MIN.trailing_zeros() && outbox_log2 <= OUTBOX_CAPACITY_MAX.trailing_zeros())
}

/// The header of a notice `number` of `length` bytes from the actor (`kind`, `key`), for a reader of `generation`.
#[inline(always)]
pub const fn notice_header(kind: u16, key: u64, number: u16, length: u16, generation: u32, hlc: u64) -> Header {
    Header {
        key,
        kind,
        message: number as u8,
        hops: (number >> 8) as u8,
        length,
        flags: Flags::new(slots_for(0, length as usize), Flags::NOTICE),
        hint: generation as u64,
        hlc,
    }
}

/// The number of a notice with this header.
#[inline(always)]
pub const fn notice_number(header: &Header) -> u16 {
    header.message as u16 | (header.hops as u16) << 8
}

/// Whether a frame is a notice for the reader of `generation` that agrees with itself.
pub fn is_notice_for(header: &Header, generation: u32) -> bool {
    let flags = header.flags;
    flags.0 == Flags::new(flags.span(), Flags::NOTICE).0
        && slots_for(0, header.length as usize) == flags.span()
        && (header.hint == generation as u64 || crate::mutant!("outbox_reads_other_generations"))
}

/// Reads the frame at `position` into `words`; its header and its slots, or nothing when it has not all come.
pub fn read_frame<C: Cells + ?Sized>(
    cells: &C,
    shape: RingShape,
    position: u64,
    words: &mut [u32; FRAME_WORDS_MAX],
) -> Option<(Header, u32)> {
    let mut head = [0; HEADER_WORDS];
    let (mut span, mut slot) = (1, 0);
    while slot < span {
        let data = read_slot(cells, shape, position.wrapping_add(slot.into()))?;
        if slot == 0 {
            head.copy_from_slice(&data[..HEADER_WORDS]);
            span = Header::decode(&head).flags.span();
        }
        words[slot as usize * DATA_WORDS_PER_SLOT..][..DATA_WORDS_PER_SLOT].copy_from_slice(&data);
        slot += 1;
    }
    Some((Header::decode(&head), span))
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Subscriber>() == 8);
    assert!(size_of::<LaneOutbox>() == LINE_BYTES && align_of::<LaneOutbox>() == LINE_BYTES);
    assert!(size_of::<LaneNotices>() == LINE_BYTES && align_of::<LaneNotices>() == LINE_BYTES);
    assert!(size_of::<OutboxState>() == LINE_BYTES);
    assert!(size_of::<OutgoingNotice>() == 16 + PAYLOAD_BYTES_MAX);
    assert!(offset_of!(OutgoingNotice, payload) == 16);
    assert!(size_of::<Outgoing>() == 1472);
    assert!(OUTBOX_CAPACITY_MIN.is_power_of_two() && OUTBOX_CAPACITY_MIN >= crate::position::RING_CAPACITY_MIN);
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn credits_round_trip(word: u64) {
            prop_assert_eq!(Credit::decode(word).encode(), word);
        }

        #[test]
        fn an_owner_is_its_own_generation_and_no_other(generation in 1..=GENERATION_MAX, other: u32, refuses: bool) {
            let policy = if refuses { OutboxPolicy::Refuse } else { OutboxPolicy::Drop };
            let owner = Owner::new(generation, policy);
            prop_assert_eq!((owner.generation(), owner.refuses()), (generation, refuses));
            prop_assert!(owner.is(generation) && !owner.closed().is(generation));
            prop_assert_eq!(owner.is(other), other == generation);
            // Words that no outbox ever gives.
            for bits in [1 << 29, 1 << 30, 1 << 31, 3 << 30] {
                prop_assert!(!owner.is(generation | bits));
            }
            let serving = owner.serving_hosts();
            prop_assert!(serving.is(generation) && serving.serves_hosts() && serving.is_open() && !owner.serves_hosts());
            prop_assert!(serving.refuses() == refuses && serving.generation() == generation && !serving.closed().is_open());
            prop_assert!((1..=GENERATION_MAX).contains(&owner.next_generation()));
        }

        /// The next holder finds the position, whichever of the two words was stored last.
        #[test]
        fn positions_are_restored(read in 0u64..1 << 50, more in 0u64..1 << 16) {
            let credit = Credit { read: (read + more) as u32, owner: Owner::default() };
            prop_assert_eq!(LaneOutbox::position(credit, read), read + more);
        }

        #[test]
        fn notices_are_for_one_generation(number: u16, length in 0u16..=352, generation in 1..=GENERATION_MAX) {
            let header = notice_header(9, 7, number, length, generation, 5);
            prop_assert_eq!(notice_number(&header), number);
            prop_assert!(is_notice_for(&header, generation) && !is_notice_for(&header, generation + 1));
            let longer = Header { length: 353, ..header };
            prop_assert!(!is_notice_for(&longer, generation));
            let reply = Header { flags: Flags::new(header.flags.span(), Flags::REPLY), ..header };
            prop_assert!(!is_notice_for(&reply, generation));
        }
    }

    #[test]
    fn nobody_owns_a_zeroed_outbox() {
        assert!(!Owner::default().is(0) && !Owner::default().is(1));
        assert!(Subscriber::NOBODY.is_nobody() && !Owner::new(1, OutboxPolicy::Drop).is(0));
        assert_eq!(Owner::new(GENERATION_MAX, OutboxPolicy::Drop).next_generation(), 1);
    }
}
