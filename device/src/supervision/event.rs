//! Events: from a child to its parent, in room that was taken for them.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::frame::slots_for;
use tourbillon_shared::header::{Arrival, Flags, HEADER_WORDS, Header};
use tourbillon_shared::mutant;
use tourbillon_shared::slot::{CHUNKS_PER_SLOT, Chunk, DATA_WORDS_PER_CHUNK, DATA_WORDS_PER_SLOT, Slot};
use tourbillon_shared::supervision::{EVENT_WORDS, Event, Happened, event_hint};
use tourbillon_shared::telemetry::Counter;
use tourbillon_shared::virtual_actors::{errand, kind_of};

use super::bond::{Bonded, arguments_of};
use crate::arch::Arch;
use crate::mailbox::{hlc_delta_of, is_lent, ring_of, shard_of, state_of, take_as_answer};
use crate::stats::Stats;
use crate::words::{Staged, Words};

/// Data word of a header with flags and length, and the first of its hint and its timestamp.
const SHAPE: usize = 3;
const HINT: usize = 4;
const HLC: usize = 6;

/// Word of an event's payload that says what happened.
pub(super) const WHAT: usize = 2;

/// What happened, by that word.
#[inline(always)]
pub(super) const fn what_of(word: u32) -> u8 {
    (word >> 16) as u8
}

/// To whom an event goes, and as what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who {
    /// Key of the parent.
    pub key: u64,
    /// Its kind word.
    pub kind: u16,
    /// The message as which it comes.
    pub message: u8,
    /// The parent's number for the child.
    pub token: u32,
}

/// When an event is sent, and how its sender's timestamp stands to that, in the place of a timestamp.
///
/// # Safety
/// `scratch` is a warp's, whose mail was filled when the kernel began.
#[inline(always)]
unsafe fn arrival_of<A: Arch>(scratch: *const WarpScratch, event_hlc: u64) -> u64 {
    // SAFETY: the caller vouches for the scratch.
    let hlc_delta = hlc_delta_of::<A>(unsafe { arguments_of(scratch) }, event_hlc);
    Arrival { device_ns: A::now_ns() as u32, hlc_delta }.encode()
}

/// Tells a parent what happened to a child, with a code and a count. Nothing here can stop or fail.
///
/// # Safety
/// `scratch` is the warp's, which holds the turn of its desk's shard; in the parent's mailbox there is room for the event, of which `room`
/// slots are given back when it is handled.
#[cold]
#[inline(never)]
pub(crate) unsafe fn send<A: Arch>(
    stats: Stats,
    scratch: *const WarpScratch,
    child: &Bonded,
    parent: &Who,
    (what, code, count): (Happened, u8, u8),
    room: u32,
    event_hlc: u64,
) {
    let event = Event { key: child.key, kind: kind_of(child.kind), what: what as u8, code, token: parent.token, count }
        .encode();
    let header = Header {
        key: parent.key,
        kind: parent.kind,
        message: parent.message,
        hops: 0,
        length: (EVENT_WORDS * 4) as u16,
        flags: Flags::new(1, Flags::TELL),
        hint: event_hint(room).encode(),
        // SAFETY: the caller vouches for the scratch.
        hlc: unsafe { arrival_of::<A>(scratch, event_hlc) },
    }
    .encode();
    let mut words = [0; DATA_WORDS_PER_SLOT];
    let mut word = 0;
    while word < HEADER_WORDS {
        // SAFETY: both arrays have the word; so below.
        unsafe { *words.get_unchecked_mut(word) = *header.get_unchecked(word) };
        word = word.wrapping_add(1);
    }
    word = 0;
    while word < EVENT_WORDS {
        // SAFETY: as above.
        unsafe { *words.get_unchecked_mut(HEADER_WORDS.wrapping_add(word)) = *event.get_unchecked(word) };
        word = word.wrapping_add(1);
    }
    // SAFETY: the caller vouches for room and scratch.
    unsafe { put::<A>(stats, scratch, parent.kind, parent.key, &words) };
}

/// Writes a letter of one slot into the mailbox of the actor (`kind`, `key`).
///
/// # Safety
/// There is room for it; `scratch` is the warp's, which holds the turn of its desk's shard.
#[inline(never)]
unsafe fn put<A: Arch>(
    stats: Stats,
    scratch: *const WarpScratch,
    kind: u16,
    key: u64,
    words: &[u32; DATA_WORDS_PER_SLOT],
) {
    // SAFETY: the caller vouches for the scratch, and for a place behind the ticket: what was there is read, as of any answer's.
    unsafe {
        let arguments = arguments_of(scratch);
        let shard = shard_of(arguments, kind, key);
        let shape = arguments.geometry.mailbox_shape();
        let position = A::take_ticket_gpu(&raw mut (*state_of(arguments, shard)).tail, 1);
        let to = ring_of(arguments, shard).wrapping_add(shape.index(position) as usize).cast::<Chunk>();
        let mut chunk = 0;
        while chunk < CHUNKS_PER_SLOT {
            let first = chunk.wrapping_mul(DATA_WORDS_PER_CHUNK);
            let word = |i: usize| *words.get_unchecked(first.wrapping_add(i));
            let value = Chunk::new([word(0), word(1), word(2)], shape.lap(position));
            A::store_chunk_gpu(to.wrapping_add(chunk), value);
            chunk = chunk.wrapping_add(1);
        }
        A::count_pool(&raw mut (*state_of(arguments, (*scratch).desk.shard)).sent, 1);
    }
    stats.add::<A>(Counter::Letters, 1);
}

/// An event as it came, for it may have to come again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Came {
    words: [u32; DATA_WORDS_PER_SLOT],
}

impl Came {
    /// The staged event, which gives back `room` slots: all but one now. Makes it a message that nobody has told, so that it is no dead
    /// letter when it has to come again.
    ///
    /// # Safety
    /// The event is staged at `frame`, and the caller's; `scratch` is the warp's, which holds the turn.
    #[inline(always)]
    pub(crate) unsafe fn take<A: Arch>(frame: *mut Slot, room: u32, scratch: *const WarpScratch) -> Self {
        // SAFETY: the caller vouches for frame and scratch; an event has one slot.
        unsafe {
            let mut staged = Staged::<A>::new(frame);
            let mut words = [0; DATA_WORDS_PER_SLOT];
            let mut word = 0;
            while word < DATA_WORDS_PER_SLOT {
                *words.get_unchecked_mut(word) = staged.word(word as u32);
                word = word.wrapping_add(1);
            }
            staged.set_word(SHAPE as u32, (EVENT_WORDS * 4) as u32 | u32::from(Flags::new(1, 0).0) << 16);
            if (*scratch).errand == errand::NONE {
                take_as_answer::<A>(state_of(arguments_of(scratch), (*scratch).desk.shard), 1);
            }
            if room > 1 {
                give_back::<A>(room.wrapping_sub(1), scratch);
            }
            let hint = event_hint(1).encode();
            (words[HINT], words[HINT + 1]) = (hint as u32, (hint >> 32) as u32);
            Self { words }
        }
    }

    /// What happened.
    #[inline(always)]
    pub(crate) fn what(&self) -> u8 {
        what_of(self.words[HEADER_WORDS + WHAT])
    }

    /// Gives back the slot that it has, unless what its handler has asked took it: it is handled.
    ///
    /// # Safety
    /// As for [`take`](Self::take); the calling lane has run it.
    #[inline(always)]
    pub(crate) unsafe fn give_back<A: Arch>(&self, scratch: *const WarpScratch) {
        // SAFETY: the caller vouches for the scratch.
        unsafe {
            if !is_lent(scratch, A::lane()) || mutant!("lent_room_given_back") {
                give_back::<A>(1, scratch);
            }
        }
    }

    /// Lets it come again, behind all that is in the mailbox, in the room that it has.
    ///
    /// # Safety
    /// As for [`take`](Self::take).
    #[cold]
    #[inline(never)]
    pub(crate) unsafe fn again<A: Arch>(&self, stats: Stats, scratch: *const WarpScratch, event_hlc: u64) {
        if mutant!("event_lost_without_room") {
            // SAFETY: the caller vouches for the scratch.
            return unsafe { self.give_back::<A>(scratch) };
        }
        let mut words = self.words;
        // SAFETY: as above.
        let arrival = unsafe { arrival_of::<A>(scratch, event_hlc) };
        let header = Header::decode(&[words[0], words[1], words[2], 0, 0, 0, 0, 0]);
        (words[HLC], words[HLC + 1]) = (arrival as u32, (arrival >> 32) as u32);
        // SAFETY: the caller vouches for the scratch; the event keeps its room.
        unsafe { put::<A>(stats, scratch, header.kind, header.key, &words) };
    }
}

/// Gives back `room` slots of an event that was taken.
///
/// # Safety
/// `scratch` is the warp's, which holds the turn of its desk's shard.
#[inline(always)]
pub(crate) unsafe fn give_back<A: Arch>(room: u32, scratch: *const WarpScratch) {
    if mutant!("event_keeps_room") {
        return;
    }
    // SAFETY: the caller vouches for the scratch.
    unsafe {
        let state = state_of(arguments_of(scratch), (*scratch).desk.shard);
        A::add_pool(&raw mut (*state).answers, room.into());
    }
}

const _: () = assert!(slots_for(0, EVENT_WORDS * 4) == 1);
