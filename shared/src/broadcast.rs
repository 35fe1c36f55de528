//! Broadcasts: one message for every actor of a kind that lives, in all shards.
//!
//! # Protocol
//! 1. Who broadcasts takes a *number* ([`Broadcasts::room`], [`Broadcast::busy`]); without one left, the message that wants to fails. It
//!    writes the message into the number's [`Broadcast`], and then, with Release, [`Broadcast::begun`].
//! 2. A *crier* goes to the sender's own shard: a letter of one slot ([`crier`]), in the engine's own key space. Behind its header
//!    it says which broadcast it is of, and how far it has come ([`Cursor`]). From there it goes to all shards, down a tree with
//!    [`BROADCAST_FANOUT`] branches ([`children`]).
//! 3. In each shard the crier is a message among others, alone in its window. It finds some of the living actors of the kind, sends each
//!    the message as a letter, and sends itself behind these, until it has been through the whole directory.
//! 4. The shard that ends last gives the number back.
//!
//! # A crier always has room
//! Of each mailbox one slot for each number is never given to letters ([`broadcasts_max`]). A shard has at most one crier of a broadcast:
//! it comes once, from one other shard, and sends itself only when it was read. So criers wait for nobody, and cannot be lost. What they
//! send to actors needs room as any letter does: without, the crier goes on later, from where it was.
//!
//! # Each actor once
//! A crier goes through the directory by the buckets at which lookups begin, not by those in which actors lie: an actor keeps the former
//! for as long as it lives, and comes back to it, while the latter changes when others leave. Those of one bucket come in the order of
//! their keys. So whoever is there from the beginning to the end is found once, and whoever comes or goes meanwhile once at most.

use bytemuck::{Pod, Zeroable};

use crate::frame::FRAME_WORDS_MAX;
use crate::header::{Flags, Header};
use crate::position::RingShape;
use crate::virtual_actors::{SPACE_ORDERS, kind_word};

/// Kind word of all criers, and of a client's request to broadcast: see [`broadcast_key`].
pub const BROADCAST_KIND: u16 = kind_word(2, SPACE_ORDERS);
/// Most broadcasts of an engine at a time: enough for bursts, and their criers take a small part of a mailbox of the default capacity.
pub const BROADCASTS_MAX: u32 = 64;
/// Shards to which a crier goes on from a shard: with 1,024 shards it takes five steps to the last.
pub const BROADCAST_FANOUT: u32 = 4;

/// Most broadcasts at a time in an engine whose mailboxes have this shape: an eighth of a mailbox at most is for their criers.
#[inline(always)]
pub const fn broadcasts_max(mailbox: RingShape) -> u32 {
    let eighth = mailbox.capacity() / 8;
    if eighth < BROADCASTS_MAX { eighth } else { BROADCASTS_MAX }
}

/// The key of a client's request to broadcast to the actors of `kind`; which shard begins follows from `salt`.
#[inline(always)]
pub const fn broadcast_key(kind: u16, salt: u64) -> u64 {
    salt << 16 | kind as u64
}

/// The kind in a [`broadcast_key`].
#[inline(always)]
pub const fn kind_in_key(key: u64) -> u16 {
    key as u16
}

/// The first of the places, counted from the one that began, to which shard place `place` passes a crier on; there are
/// [`BROADCAST_FANOUT`], as far as there are shards.
#[inline(always)]
pub const fn children(place: u32) -> u32 {
    place.wrapping_mul(BROADCAST_FANOUT).wrapping_add(1)
}

/// The shard at place `place`, below `shards`, counted from shard `root`, and the other way round.
#[inline(always)]
pub const fn shard_at(root: u32, place: u32, shards: u32) -> u32 {
    let shard = root.wrapping_add(place);
    if shard >= shards { shard.wrapping_sub(shards) } else { shard }
}

/// The place of a shard, counted from shard `root`: of [`shard_at`] the reverse.
#[inline(always)]
pub const fn place_of(root: u32, shard: u32, shards: u32) -> u32 {
    if shard >= root { shard.wrapping_sub(root) } else { shard.wrapping_add(shards).wrapping_sub(root) }
}

/// The numbers of broadcasts; behind it lie [`BROADCASTS_MAX`] [`Broadcast`]s.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Broadcasts {
    /// Numbers that nobody has, for a moment below zero (in two's complement).
    pub room: u64,
    /// Zero.
    pub reserved_room: [u64; 15],
    /// Broadcasts that ever began or tried to: the search for a number begins at the next place each time.
    pub tries: u64,
    /// How many numbers there are: [`broadcasts_max`].
    pub numbers: u64,
    /// Zero.
    pub reserved: [u64; 14],
}

impl Broadcasts {
    /// Of an engine whose mailboxes have this shape, in which nobody has broadcast.
    pub fn new(mailbox: RingShape) -> Self {
        let numbers = broadcasts_max(mailbox).into();
        Self { room: numbers, numbers, ..Self::zeroed() }
    }
}

/// The broadcast that has a number; all zero at first.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Broadcast {
    /// 0 when the number is free; how many have or try it.
    pub busy: u64,
    /// Shards that have not ended.
    pub left: u64,
    /// The `tries` of the one that has the number, plus one, stored when the message is written: what its criers say.
    pub begun: u64,
    /// What `begun` will be, from the taking of the number on.
    pub ticket: u64,
    /// The shard that began.
    pub root: u32,
    /// The kind of the actors.
    pub kind: u32,
    /// Zero.
    pub reserved: [u64; 11],
    /// The message as a letter to an actor, of which key, space and arrival are left to be filled in.
    pub frame: [u32; FRAME_WORDS_MAX],
}

/// How far a crier has come in a shard: to those at bucket `home` whose (key, space) is at least this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The bucket at which lookups for the actors begin.
    pub home: u32,
    /// The key space, ...
    pub space: u16,
    /// ... and the key.
    pub key: u64,
}

/// Words of a crier: one slot.
pub const CRIER_WORDS: usize = crate::slot::DATA_WORDS_PER_SLOT;
/// Bytes behind its header: `begun` (2 words), the cursor's home, and its space.
const CRIER_BYTES: u16 = 16;

/// A crier of broadcast `number`, which began as `begun`: a frame of one slot. Its `hops` are 0 when it comes to a shard, and 1 when it was
/// there before; `arrival` is that of any letter.
#[inline(always)]
pub const fn crier(number: u32, begun: u64, cursor: Cursor, was_here: bool, arrival: u64) -> [u32; CRIER_WORDS] {
    let header = Header {
        key: cursor.key,
        kind: BROADCAST_KIND,
        message: number as u8,
        hops: was_here as u8,
        length: CRIER_BYTES,
        flags: Flags::new(1, Flags::TELL),
        hint: 0,
        hlc: arrival,
    };
    let [a, b, c, d, e, f, g, h] = header.encode();
    [a, b, c, d, e, f, g, h, begun as u32, (begun >> 32) as u32, cursor.home, cursor.space as u32]
}

/// What the words behind the header of a crier say: `begun`, and the cursor.
#[inline(always)]
pub const fn crier_says(header: &Header, words: [u32; 4]) -> (u64, Cursor) {
    let cursor = Cursor { home: words[2], space: words[3] as u16, key: header.key };
    (words[0] as u64 | (words[1] as u64) << 32, cursor)
}

/// Bytes of the numbers and all broadcasts.
pub const BROADCASTS_BYTES: u64 = (size_of::<Broadcasts>() + BROADCASTS_MAX as usize * size_of::<Broadcast>()) as u64;

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Broadcasts>() == 256);
    assert!(offset_of!(Broadcasts, tries) == 128);
    assert!(size_of::<Broadcast>() == 512);
    assert!(offset_of!(Broadcast, frame) == 128);
    assert!(BROADCASTS_MAX.is_power_of_two() && BROADCASTS_MAX <= u8::MAX as u32);
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::HEADER_WORDS;
    use crate::mailbox::{LetterHint, MAILBOX_CAPACITY_MAX};
    use proptest::prelude::*;

    proptest! {
        /// From any shard, each shard gets a crier once.
        #[test]
        fn the_tree_reaches_each_shard_once(shards in 1u32..=1024, root in 0u32..1024) {
            let root = root % shards;
            let mut reached = std::vec![0; shards as usize];
            reached[root as usize] += 1;
            for shard in 0..shards {
                let place = place_of(root, shard, shards);
                prop_assert_eq!(shard_at(root, place, shards), shard);
                for child in children(place)..children(place) + BROADCAST_FANOUT {
                    if child < shards {
                        reached[shard_at(root, child, shards) as usize] += 1;
                    }
                }
            }
            prop_assert!(reached.iter().all(|times| *times == 1), "{reached:?}");
        }

        #[test]
        fn criers_say_what_they_were_told(number in 0..BROADCASTS_MAX, begun: u64, home: u32, space in 0u16..4, key: u64, was_here: bool) {
            let cursor = Cursor { home, space, key };
            let words = crier(number, begun, cursor, was_here, 7);
            let header = Header::decode(words.first_chunk::<HEADER_WORDS>().unwrap());
            let rest = *words.last_chunk::<4>().unwrap();
            prop_assert_eq!(crier_says(&header, rest), (begun, cursor));
            prop_assert_eq!((header.message.into(), header.hops, header.hlc), (number, u8::from(was_here), 7));
            prop_assert_eq!(LetterHint::decode(header.hint), Some(LetterHint::default()));
        }

        #[test]
        fn keys_of_requests_name_the_kind(kind: u16, salt: u64) {
            prop_assert_eq!(kind_in_key(broadcast_key(kind, salt)), kind);
        }
    }

    #[test]
    fn small_mailboxes_have_few_numbers() {
        assert_eq!(broadcasts_max(RingShape::from_log2(5)), 4);
        assert_eq!(broadcasts_max(RingShape::from_log2(11)), BROADCASTS_MAX);
        assert_eq!(broadcasts_max(RingShape::from_log2(MAILBOX_CAPACITY_MAX.trailing_zeros())), BROADCASTS_MAX);
        assert_eq!(Broadcasts::new(RingShape::from_log2(6)).room, 8);
    }
}
