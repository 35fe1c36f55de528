//! Actors that come and go: key spaces, and the protocol between a shard and the store of the host.
//!
//! # Key spaces
//! The upper two bits of a header's kind are the *space* of its key ([`space_of`]). Natively a key is the caller's own u64; in the
//! other spaces it is a number that a directory of the host gave to a string or to an id of 128 bits. Directory, hash and grouping
//! compare the whole word, so keys of different spaces never meet. The last space is the engine's own: what comes in it is an
//! *order*, which only the lane [`STORE_LANE`] may send; from others it is refused.
//!
//! # Places
//! | place | in the directory | who may run it |
//! | --- | --- | --- |
//! | Active | yes, the bucket holds the kind word alone | the shard |
//! | Evicting | yes, [`held`] by a request; the entry keeps its state | nobody: it is on its way to the store |
//! | Fetching | yes, held by a request; the entry is there, and empty | nobody: the shard waits for the store |
//! | Short | as Fetching; the store has it, but the pool has no room for its collections | nobody: others are evicted first |
//! | Filling | as Fetching; its collections come in pieces | nobody |
//! | Waking | as before, until those who waited have run | they alone |
//! | Out | no | the next message fetches it |
//!
//! # Requests and orders
//! A shard asks by *requests*, frames in a ring of host memory which all shards write and one thread of the host reads in order: it is
//! the outbox ring of the lane [`STORE_LANE`], of a capacity of its own. The host answers by *orders* in that lane's request ring,
//! routed to the shard by a key that hashes there. A shard has at most [`REQUESTS_MAX`] requests without an answer, and the ring has
//! room for those of all shards ([`store_ring_log2`]); the host answers what it has read. So a place in the ring is never asked for:
//! whoever takes a ticket has room, for among any `capacity` tickets before it there is one that was answered, and so read.
//!
//! A request has a number, the order names it, and an order for another than the one that waits does nothing. So an order may be
//! carried out again after a stop in the middle of it.
//!
//! # Collections
//! What an actor has in pages of its shard's pool crosses in *pieces*, frames with as many whole *chunks* as fit: the used bytes of one
//! page behind [`CHUNK_WORDS`] words that say of which collection it is. No page's number is in them. A request has one frame without an
//! answer as ever: [`Ask::Evict`] says whether pieces follow, and each is asked for by [`Order::More`]. The other way the pieces follow
//! [`Order::Fetched`] in order, without being asked for, and a shard that has no pages for them lets them pass: it makes room, and asks
//! once more. Pieces are numbered, so that an order which is carried out again does nothing twice.
//!
//! The pages of an actor that leaves are its own until the order [`Order::Evicted`] comes; those of one that comes back are taken, all
//! of them or none, before its first piece.

use bytemuck::{Pod, Zeroable};

use crate::frame::{FRAME_SLOTS_MAX, PAYLOAD_BYTES_MAX, slots_for};
use crate::header::{Flags, Header};
use crate::outbox::{OUTBOX_CAPACITY_MAX, OUTBOX_CAPACITY_MIN};
use crate::slot::{CHUNKS_PER_SLOT, Chunk};

/// Where the key space begins in a kind word.
pub const KEY_SPACE_SHIFT: u32 = 14;
/// The largest number of a kind: what is left of 16 bits beside the key space.
pub const KIND_MAX: u16 = (1 << KEY_SPACE_SHIFT) - 1;
/// Space of keys that are the caller's own u64.
pub const SPACE_NATIVE: u16 = 0;
/// Space of numbers that stand for strings.
pub const SPACE_STRING: u16 = 1;
/// Space of numbers that stand for ids of 128 bits.
pub const SPACE_WIDE: u16 = 2;
/// The engine's own space.
pub const SPACE_ORDERS: u16 = 3;

/// The key space of a kind word.
#[inline(always)]
pub const fn space_of(kind_word: u16) -> u16 {
    kind_word >> KEY_SPACE_SHIFT
}

/// The kind in a kind word.
#[inline(always)]
pub fn kind_of(kind_word: u16) -> u16 {
    if crate::mutant!("kind_keeps_its_space") { kind_word } else { kind_word & KIND_MAX }
}

/// The kind word of a kind, at most [`KIND_MAX`], in a space.
#[inline(always)]
pub const fn kind_word(kind: u16, space: u16) -> u16 {
    kind | space << KEY_SPACE_SHIFT
}

/// Kind word of all orders.
pub const ORDER_KIND: u16 = kind_word(1, SPACE_ORDERS);
/// The lane that gives orders, where an engine has a store; clients never hold it.
pub const STORE_LANE: u32 = 0;
/// Requests of one shard without an answer: enough to hide the host's round trip, and few enough that the ring for those of
/// [`SHARDS_MAX`](crate::partition::SHARDS_MAX) shards is no longer than any other ring.
pub const REQUESTS_MAX: u32 = 8;
/// Most frames that may wait in one shard.
pub const WAITERS_MAX: u32 = 1 << 14;
/// Requests that failed one after the other, without one that did not, before those who wait for room are refused: every request
/// that may be without an answer has then had its turn.
pub const FAILURES_MAX: u32 = REQUESTS_MAX;

/// Most pages that the contents of an evicted actor's collections may take: a quarter of a mebibyte, some milliseconds on its way, and few
/// enough that the host can put together those of all requests. An actor with more stays.
pub const EVICTED_PAGES_MAX: u32 = 1024;
/// A piece's number, in payload word 3 of its frame: the first is 1.
pub const PIECE_NUMBER: u32 = (1 << 30) - 1;
/// Beside a piece's number: its collections cannot be read, and no more follows.
pub const PIECE_BROKEN: u32 = 1 << 30;
/// Beside a piece's number: none follows.
pub const PIECE_LAST: u32 = 1 << 31;
/// Words in front of a page's bytes: [`chunk_head`], and how many elements or entries there are.
pub const CHUNK_WORDS: u32 = 2;
/// Words of chunks that a piece has room for.
pub const PIECE_WORDS: usize = PAYLOAD_BYTES_MAX / 4 - ENTRY_WORD as usize;

/// The first word of a chunk: which of the state's collections the page is of, and whether it is a further one of a map's bucket.
#[inline(always)]
pub const fn chunk_head(collection: u32, is_further: bool) -> u32 {
    collection << 1 | is_further as u32
}

/// What [`chunk_head`] was made of.
#[inline(always)]
pub const fn chunk_of(head: u32) -> (u32, bool) {
    (head >> 1, head & 1 != 0)
}

/// Binary logarithm of the capacity of the ring for the requests of `shards` shards.
pub const fn store_ring_log2(shards: u32) -> u32 {
    let slots = shards * REQUESTS_MAX * FRAME_SLOTS_MAX as u32;
    let slots = if slots < OUTBOX_CAPACITY_MIN { OUTBOX_CAPACITY_MIN } else { slots };
    slots.next_power_of_two().trailing_zeros()
}

/// What a shard asks of the store: [`Header::message`] of its frame.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// To keep the state that follows.
    Evict = 1,
    /// To bring the state of the actor.
    Fetch = 2,
    /// To keep these pages as well.
    Piece = 3,
    /// To be told that it asked: it is about no actor.
    Nothing = 4,
}

impl Ask {
    /// The request of this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Evict),
            2 => Some(Self::Fetch),
            3 => Some(Self::Piece),
            4 => Some(Self::Nothing),
            _ => None,
        }
    }
}

/// What the host orders: payload word 0 of the frame.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The store has the actor: its place is free.
    Evicted = 1,
    /// The store failed to keep the actor, which stays.
    EvictFailed = 2,
    /// The actor's entry follows.
    Fetched = 3,
    /// The store does not know the actor: it begins anew.
    Unknown = 4,
    /// The store failed to bring the actor.
    FetchFailed = 5,
    /// Evict all that were last used before the timestamp in payload words 2 and 3.
    Sweep = 6,
    /// Evict so many, the least recently used first; the number is payload word 2.
    Evict = 7,
    /// Send the piece behind the one whose number is payload word 3.
    More = 8,
    /// Pages of the actor that was [`Fetched`](Self::Fetched).
    Piece = 9,
    /// The answer to [`Ask::Nothing`]: who waits for room is told that there is none.
    NoRoom = 10,
}

impl Order {
    /// The order of this word.
    #[inline(always)]
    pub const fn from_word(word: u32) -> Option<Self> {
        match word {
            1 => Some(Self::Evicted),
            2 => Some(Self::EvictFailed),
            3 => Some(Self::Fetched),
            4 => Some(Self::Unknown),
            5 => Some(Self::FetchFailed),
            6 => Some(Self::Sweep),
            7 => Some(Self::Evict),
            8 => Some(Self::More),
            9 => Some(Self::Piece),
            10 => Some(Self::NoRoom),
            _ => None,
        }
    }
}

/// Words in front of the entry, or of the chunks, in the payload of a request and of an order: of a request the shard, the request's
/// place and its number; of an order the order, the place, the number. Then, of [`Ask::Evict`], whether pieces follow; of
/// [`Order::Fetched`], how many pages they take; of pieces their number; of others 0.
pub const ENTRY_WORD: u32 = 4;

/// The header of a request about the actor (`kind_word`, `key`), with `bytes` of its entry or of chunks.
#[inline(always)]
pub const fn ask_header(ask: Ask, kind_word: u16, key: u64, bytes: u32) -> Header {
    let length = ENTRY_WORD * 4 + bytes;
    Header {
        key,
        kind: kind_word,
        message: ask as u8,
        hops: 0,
        length: length as u16,
        flags: Flags::new(slots_for(0, length as usize), Flags::NOTICE),
        hint: 0,
        hlc: 0,
    }
}

/// What a request of a shard is at.
pub mod phase {
    /// Nothing: it may be used.
    pub const FREE: u32 = 0;
    /// The store was asked to keep the actor.
    pub const EVICTING: u32 = 1;
    /// The store was asked to bring it.
    pub const FETCHING: u32 = 2;
    /// The state is there, and those who waited run.
    pub const WAKING: u32 = 3;
    /// It will not come, and those who waited are told.
    pub const FAILING: u32 = 4;
    /// The store has it, and the pool has no room for its collections: others leave first.
    pub const SHORT: u32 = 5;
    /// Its pages are taken, and what is in them comes in pieces.
    pub const FILLING: u32 = 6;
    /// There was no room to be made in the pool, and those who waited are told.
    pub const STARVING: u32 = 7;
    /// No actor may leave, and whoever waits for room is told so when the answer comes: only then are there windows to be run.
    pub const FULL: u32 = 8;
}

/// The kind of a bucket whose actor is held by request `request` of its shard: no lookup for a message finds it.
#[inline(always)]
pub const fn held(kind_word: u16, request: u32) -> u32 {
    kind_word as u32 | request.wrapping_add(1) << 16
}

/// The request that holds the actor of a bucket of this kind, if one does.
#[inline(always)]
pub const fn holder(bucket_kind: u32) -> Option<u32> {
    if bucket_kind >> 16 == 0 { None } else { Some((bucket_kind >> 16).wrapping_sub(1)) }
}

/// A request of a shard to the store. Nodes are counted from 1, 0 is none.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct StoreRequest {
    /// Key of the actor.
    pub key: u64,
    /// Its kind word.
    pub kind: u32,
    /// Index of its entry.
    pub entry: u32,
    /// See [`phase`].
    pub phase: u32,
    /// Number of the request, which its answer names.
    pub number: u32,
    /// The frame that has waited longest.
    pub first: u32,
    /// The one that came last.
    pub last: u32,
    /// Pages: of an actor that leaves, what its collections have; of one that is short of them, what they need.
    pub pages: u32,
    /// First of the chain of pages that were taken for its collections; 0 for none.
    pub spare: u32,
    /// Length of that chain.
    pub spares: u32,
    /// Number of the last piece.
    pub piece: u32,
    /// Where the next piece begins: the collection, ...
    pub collection: u32,
    /// ... the page of a sequence or the bucket of a map behind the last one, ... Of an actor that is short of pages, how often
    /// nobody could make room.
    pub page: u32,
    /// ... and the further page of that bucket, 0 for none.
    pub further: u32,
    /// Not 0: it was short of pages before, and is not a second time.
    pub was_short: u32,
}

/// What a shard keeps of actors that come and go. Read and written by the holder of the shard's turn; all zero at first.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct VirtualShard {
    /// The requests without an answer.
    pub requests: [StoreRequest; REQUESTS_MAX as usize],
    /// Number of the last request.
    pub number: u32,
    /// The first free entry of the slab plus one, which names the next one in its version; 0 for none.
    pub free_entry: u32,
    /// Entries in that list.
    pub free_entries: u32,
    /// Actors in the directory, those that are held included.
    pub places: u32,
    /// The frame that has waited longest for room.
    pub queue_first: u32,
    /// The one that came last.
    pub queue_last: u32,
    /// Frames that wait for room.
    pub queue_frames: u32,
    /// Actors that these are for.
    pub queue_actors: u32,
    /// Of those frames, the first so many are to be refused.
    pub refused: u32,
    /// The first free node, 0 for none.
    pub free_node: u32,
    /// Nodes that were ever used.
    pub nodes_used: u32,
    /// Frames that wait in all.
    pub waiting: u32,
    /// Requests without an answer.
    pub asked: u32,
    /// Of those, evictions.
    pub evicting: u32,
    /// Evictions that failed since one did not.
    pub failures: u32,
    /// Evictions that were ordered and not begun.
    pub wanted: u32,
    /// Actors last used before this are evicted by the sweep.
    pub sweep_before: u64,
    /// Bucket at which the sweep goes on.
    pub sweep_next: u32,
    /// Buckets that it has left in this round, 0 when there is no sweep.
    pub sweep_left: u32,
    /// Whether this round found any: another follows then, for buckets move when one is freed.
    pub sweep_found: u32,
    /// Pages that are to be free in the pool, for a handler found it exhausted; 0 when none did.
    pub pressure: u32,
    /// Pages of those that are on their way to the store.
    pub leaving: u32,
    /// Zero.
    pub reserved: [u32; 9],
}

/// A frame that waits.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct WaitingFrame {
    /// Key of its actor.
    pub key: u64,
    /// Kind word of its actor.
    pub kind: u32,
    /// The node that follows.
    pub next: u32,
    /// The frame as its gate forwarded it.
    pub slots: [[Chunk; CHUNKS_PER_SLOT]; FRAME_SLOTS_MAX],
}

/// What a warp does for an actor that comes or goes, in [`WarpScratch`](crate::block::WarpScratch): so that the window which it runs
/// meanwhile is told from others.
pub mod errand {
    /// Nothing.
    pub const NONE: u32 = 0;
    /// The window is a frame that waited, for the actor of this request less one.
    pub const OF_REQUEST: u32 = 1;
    /// The window is an order that was carried out.
    pub const ORDER_DONE: u32 = 64;
    /// The window is a frame that is refused with the failure code added to this.
    pub const REFUSE: u32 = 128;
}

/// Bytes of a shard with so many waiting frames at most; none without a store.
pub const fn virtual_bytes(waiters: u32) -> u64 {
    if waiters == 0 {
        return 0;
    }
    let bytes = size_of::<VirtualShard>() as u64 + waiters as u64 * size_of::<WaitingFrame>() as u64;
    bytes.next_multiple_of(128)
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<StoreRequest>() == 64);
    assert!(size_of::<VirtualShard>() == 640);
    assert!(offset_of!(VirtualShard, number) == 512 && offset_of!(VirtualShard, sweep_before) == 576);
    // The longest chunk fits into a piece, and an actor has fewer pages than pieces have numbers.
    assert!(CHUNK_WORDS as usize + crate::pool::PAGE_BYTES / 4 <= PIECE_WORDS);
    // Each bucket of a map is a page, which further ones make at most twice as many.
    assert!(2 * EVICTED_PAGES_MAX < PIECE_NUMBER);
    assert!(size_of::<WaitingFrame>() == 528);
    // A shard's requests all have room in the longest ring.
    assert!(1 << store_ring_log2(crate::partition::SHARDS_MAX) <= OUTBOX_CAPACITY_MAX);
    assert!(REQUESTS_MAX < errand::ORDER_DONE);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_and_kinds_share_a_word() {
        for kind in [1, 77, KIND_MAX] {
            for space in [SPACE_NATIVE, SPACE_STRING, SPACE_WIDE, SPACE_ORDERS] {
                let word = kind_word(kind, space);
                assert_eq!((kind_of(word), space_of(word)), (kind, space));
            }
            assert_eq!(kind_word(kind, SPACE_NATIVE), kind);
        }
    }

    #[test]
    fn a_held_bucket_is_no_actors() {
        for request in 0..REQUESTS_MAX {
            assert_eq!(holder(held(7, request)), Some(request));
            assert_ne!(held(7, request), 7);
            assert_eq!(held(7, request) as u16, 7);
        }
        assert_eq!(holder(7), None);
        assert_eq!(holder(0), None);
    }

    #[test]
    fn the_ring_has_room_for_all_requests() {
        for shards in [1, 3, 256, 1024] {
            assert!(1 << store_ring_log2(shards) >= shards * REQUESTS_MAX * FRAME_SLOTS_MAX as u32);
        }
    }

    #[test]
    fn a_chunk_says_what_it_is_of() {
        for (collection, is_further) in [(0, false), (0, true), (31, false), (31, true)] {
            assert_eq!(chunk_of(chunk_head(collection, is_further)), (collection, is_further));
        }
        assert_eq!(PIECE_NUMBER & (PIECE_BROKEN | PIECE_LAST), 0);
    }

    #[test]
    fn numbers_round_trip() {
        for word in 0..100 {
            if let Some(order) = Order::from_word(word) {
                assert_eq!(order as u32, word);
            }
            if let Some(ask) = Ask::from_number(word as u8) {
                assert_eq!(ask as u8, word as u8);
            }
        }
    }
}
