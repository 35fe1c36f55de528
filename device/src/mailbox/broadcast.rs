//! Broadcasts: numbers, how one begins, and criers on their way. The protocol is in [`tourbillon_shared::broadcast`].
//!
//! All of it runs on one lane, as a handler does: no collective, no panic, and nothing that waits for anybody. A frame of a broadcast is
//! alone in its window, so the turn gives that lane the directory of the shard.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::broadcast::{
    BROADCAST_FANOUT, BROADCASTS_MAX, Broadcast, Broadcasts, CRIER_WORDS, Cursor, children, crier, crier_says,
    kind_in_key, place_of, shard_at,
};
use tourbillon_shared::error::FailureCode;
use tourbillon_shared::frame::{FRAME_WORDS_MAX, payload_start, slots_for};
use tourbillon_shared::geometry::{KernelArguments, broadcasts_offset};
use tourbillon_shared::header::{Arrival, Flags, HEADER_WORDS, Header};
use tourbillon_shared::mailbox::LetterHint;
use tourbillon_shared::mutant;
use tourbillon_shared::slot::{CHUNKS_PER_SLOT, Chunk, DATA_WORDS_PER_CHUNK, Slot};
use tourbillon_shared::telemetry::Counter;

use super::letter::hlc_delta_of;
use super::reach::reach;
use super::{ring_of, state_of};
use crate::arch::Arch;
use crate::call::Call;
use crate::frames::header_of;
use crate::stats::Stats;
use crate::system::System;
use crate::words::{Staged, Words};

/// How often the search for a number goes round. One that has room finds one at once, unless others give numbers back just then.
const ROUNDS: u32 = 4;

/// When a letter is sent, and how its sender's timestamp stands to that, in the place of a timestamp.
#[inline(always)]
pub(super) fn arrival_of<A: Arch>(arguments: &KernelArguments, event_hlc: u64) -> u64 {
    let hlc_delta = hlc_delta_of::<A>(arguments, event_hlc);
    Arrival { device_ns: A::now_ns() as u32, hlc_delta }.encode()
}

/// The numbers; the engine has mailboxes.
#[inline(always)]
fn numbers_of(arguments: &KernelArguments) -> *mut Broadcasts {
    let at = broadcasts_offset(&arguments.layout, &arguments.geometry);
    arguments.memory.wrapping_add(at) as *mut Broadcasts
}

/// The broadcast with a number, which is taken modulo [`BROADCASTS_MAX`].
#[inline(always)]
fn broadcast_of(arguments: &KernelArguments, number: u32) -> *mut Broadcast {
    let first = numbers_of(arguments).wrapping_add(1).cast::<Broadcast>();
    first.wrapping_add((number % BROADCASTS_MAX) as usize)
}

/// Takes a number for a broadcast; nothing when as many are under way as may.
///
/// # Safety
/// The arguments are those of the launch, of an engine with mailboxes.
#[inline(never)]
pub(super) unsafe fn take_number<A: Arch>(arguments: &KernelArguments) -> Option<u32> {
    let all = numbers_of(arguments);
    // SAFETY: the numbers and all broadcasts are device memory; how many there are nobody writes while the kernel runs.
    unsafe {
        // Acquire pairs with the Release with which numbers are given back.
        let before = A::take_room_gpu(&raw mut (*all).room, 1);
        if (before as i64) < 1 {
            A::add_relaxed_gpu(&raw mut (*all).room, 1);
            return None;
        }
        let count = (*all).numbers as u32;
        let first = A::take_ticket_gpu(&raw mut (*all).tries, 1);
        let mut step = 0;
        while step < count.wrapping_mul(ROUNDS) {
            let number = (first as u32).wrapping_add(step) & count.wrapping_sub(1);
            let about = broadcast_of(arguments, number);
            // The first of those who try it has it. Acquire pairs with the Release with which it was given back.
            if A::take_ticket_gpu(&raw mut (*about).busy, 1) == 0 || mutant!("broadcast_number_shared") {
                (*about).ticket = first.wrapping_add(1);
                return Some(number);
            }
            A::add_relaxed_gpu(&raw mut (*about).busy, 1u64.wrapping_neg());
            step = step.wrapping_add(1);
        }
        A::add_relaxed_gpu(&raw mut (*all).room, 1);
    }
    None
}

/// Gives a number back.
///
/// # Safety
/// As for [`take_number`], which gave it; nobody uses its broadcast any more.
#[inline(never)]
pub(super) unsafe fn give_number<A: Arch>(arguments: &KernelArguments, number: u32) {
    if mutant!("broadcast_number_kept") {
        return;
    }
    // SAFETY: the caller vouches for the number. Release pairs with the Acquires of whoever takes it.
    unsafe {
        A::give_room_gpu(&raw mut (*broadcast_of(arguments, number)).busy, 1u64.wrapping_neg());
        A::give_room_gpu(&raw mut (*numbers_of(arguments)).room, 1);
    }
}

/// What begins: as which number, in which shard, and the message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begins {
    pub number: u32,
    /// The shard whose turn the warp holds.
    pub root: u32,
    /// Of the actors.
    pub kind: u32,
    pub message: u8,
    /// Bytes of the payload.
    pub length: u32,
}

/// Begins a broadcast: nothing here can stop or fail. `payload` gives the payload's words.
///
/// # Safety
/// The number was taken for it, the warp holds the turn of the root, and the payload fits into a frame.
#[inline(always)]
pub(super) unsafe fn begin<A: Arch>(
    arguments: &KernelArguments,
    begins: &Begins,
    event_hlc: u64,
    payload: impl Fn(usize) -> u32,
) {
    let about = broadcast_of(arguments, begins.number);
    let header = Header {
        key: 0,
        kind: begins.kind as u16,
        message: begins.message,
        hops: 0,
        length: begins.length as u16,
        flags: Flags::new(slots_for(0, begins.length as usize), Flags::TELL),
        hint: LetterHint::default().encode(),
        hlc: 0,
    }
    .encode();
    // SAFETY: whoever has the number alone uses its broadcast until the first crier.
    unsafe {
        (*about).root = begins.root;
        (*about).kind = begins.kind;
        let frame = (&raw mut (*about).frame).cast::<u32>();
        let payload_words = begins.length.div_ceil(4) as usize;
        let mut word = 0;
        while word < FRAME_WORDS_MAX {
            let in_payload = word.wrapping_sub(HEADER_WORDS);
            let value = match header.get(word) {
                Some(value) => *value,
                None if in_payload < payload_words => payload(in_payload),
                None => 0,
            };
            frame.wrapping_add(word).write(value);
            word = word.wrapping_add(1);
        }
        A::store_relaxed_gpu(&raw mut (*about).left, arguments.geometry.shards.into());
        let begun = (*about).ticket;
        // Release pairs with the Acquire of its criers.
        A::store_release_gpu(&raw mut (*about).begun, begun);
        send_crier::<A>(arguments, begins.root, begins.number, begun, Cursor::default(), false, event_hlc);
    }
}

/// Sends a crier to a shard: its slot is there for it.
///
/// # Safety
/// The shard has no crier of this broadcast, or only the one that runs.
#[inline(never)]
unsafe fn send_crier<A: Arch>(
    arguments: &KernelArguments,
    shard: u32,
    number: u32,
    begun: u64,
    cursor: Cursor,
    was_here: bool,
    event_hlc: u64,
) {
    let words: [u32; CRIER_WORDS] = crier(number, begun, cursor, was_here, arrival_of::<A>(arguments, event_hlc));
    let shape = arguments.geometry.mailbox_shape();
    // SAFETY: the state and the ring of a shard that exists; the caller vouches for the room.
    unsafe {
        let position = A::take_ticket_gpu(&raw mut (*state_of(arguments, shard)).tail, 1);
        let to = ring_of(arguments, shard).wrapping_add(shape.index(position) as usize).cast::<Chunk>();
        let mut chunk = 0;
        while chunk < CHUNKS_PER_SLOT {
            let first = words.as_ptr().wrapping_add(chunk.wrapping_mul(DATA_WORDS_PER_CHUNK));
            let data = first.cast::<[u32; DATA_WORDS_PER_CHUNK]>().read();
            A::store_chunk_gpu(to.wrapping_add(chunk), Chunk::new(data, shape.lap(position)));
            chunk = chunk.wrapping_add(1);
        }
    }
}

/// Runs the staged frame at `frame`, of the kind of broadcasts: a crier, or a client's request to broadcast. How a request fails, if it
/// does; its answer else stands in the frame.
///
/// # Safety
/// The frame is staged in `scratch`, is this lane's and alone in its window; the warp holds the turn.
#[cold]
#[inline(never)]
pub(crate) unsafe fn run<A: Arch, S: System>(
    stats: Stats,
    frame: *mut Slot,
    event_hlc: u64,
    scratch: *mut WarpScratch,
) -> Option<FailureCode> {
    // SAFETY: the caller vouches for frame and scratch; the arguments live as long as the kernel runs.
    let (header, arguments, shard) = unsafe {
        let arguments = &*((*scratch).mail.arguments as *const KernelArguments);
        (header_of(&*frame), arguments, (*scratch).desk.shard)
    };
    if arguments.geometry.mailbox_log2 == 0 {
        return Some(FailureCode::UnknownKeySpace);
    }
    // SAFETY: the caller vouches for the frame.
    let words = unsafe { Staged::<A>::new(frame) };
    if LetterHint::decode(header.hint).is_some() {
        let says = [8, 9, 10, 11].map(|word| words.word(word));
        // SAFETY: no client's request has such a hint, so a crier it is; the caller vouches for the turn.
        unsafe { cry::<A>(stats, arguments, shard, &header, says, event_hlc) };
        return None;
    }
    let kind = kind_in_key(header.key);
    if header.flags.0 & (Flags::MESSAGE_ID | Flags::IF_VERSION | Flags::ARENA) != 0 {
        return Some(FailureCode::CannotBroadcast);
    }
    if !S::has_kind(kind) && !mutant!("broadcast_kind_unchecked") {
        return Some(FailureCode::UnknownKind);
    }
    // SAFETY: the engine has mailboxes; the payload of a well-formed frame lies in its slots.
    unsafe {
        let Some(number) = take_number::<A>(arguments) else { return Some(FailureCode::TooManyBroadcasts) };
        let begins =
            Begins { number, root: shard, kind: kind.into(), message: header.message, length: header.length.into() };
        let start = payload_start(header.flags);
        begin::<A>(arguments, &begins, event_hlc, |word| words.word(start.wrapping_add(word as u32)));
        A::count_pool(&raw mut (*state_of(arguments, shard)).sent, 1);
        stats.add::<A>(Counter::Letters, 1);
        Call::new(Staged::<A>::new(frame), header, event_hlc).acknowledge();
    }
    None
}

/// Does a step of the crier `header`, which says so, in `shard`.
///
/// # Safety
/// The warp holds the turn, and this lane alone works; the crier was taken from the mailbox.
#[inline(always)]
unsafe fn cry<A: Arch>(
    stats: Stats,
    arguments: &KernelArguments,
    shard: u32,
    header: &Header,
    says: [u32; 4],
    event_hlc: u64,
) {
    let (begun, cursor) = crier_says(header, says);
    let number = u32::from(header.message);
    let (about, own) = (broadcast_of(arguments, number), state_of(arguments, shard));
    let (mut sent, mut reached) = (0u64, 0u64);
    // SAFETY: the state of the shard whose turn the warp holds. While a crier runs, its broadcast has the number.
    unsafe {
        // When the shard tells of the slots that it has taken, it counts this as one of letters.
        if !mutant!("crier_slots_given_to_letters") {
            A::add_relaxed_gpu(&raw mut (*own).room, 1u64.wrapping_neg());
        }
        // Acquire pairs with the Release of whoever began. The crier may be here before that is seen; then it comes again.
        let is_told = A::load_acquire_gpu(&raw const (*about).begun) == begun;
        let mut goes_on = Some((cursor, header.hops != 0));
        if is_told {
            if header.hops == 0 {
                sent = pass_on::<A>(arguments, shard, number, &*about, begun, event_hlc);
            }
            let (next, letters) = reach::<A>(arguments, shard, &*about, cursor, event_hlc);
            (reached, sent) = (letters, sent.wrapping_add(letters));
            goes_on = next.map(|next| (next, true));
        }
        if let Some((next, was_here)) = goes_on {
            send_crier::<A>(arguments, shard, number, begun, next, was_here, event_hlc);
            sent = sent.wrapping_add(1);
        }
        A::count_pool(&raw mut (*own).sent, sent);
        // Acquire and Release: the last one knows that all others are done with it.
        if goes_on.is_none() && A::take_ticket_gpu(&raw mut (*about).left, 1u64.wrapping_neg()) == 1 {
            stats.add::<A>(Counter::Broadcasts, 1);
            give_number::<A>(arguments, number);
        }
    }
    stats.add::<A>(Counter::Letters, sent);
    stats.add::<A>(Counter::BroadcastLetters, reached);
}

/// Sends criers to the shards to which `shard` passes the broadcast on; how many.
///
/// # Safety
/// The crier has come to this shard.
#[inline(always)]
unsafe fn pass_on<A: Arch>(
    arguments: &KernelArguments,
    shard: u32,
    number: u32,
    about: &Broadcast,
    begun: u64,
    event_hlc: u64,
) -> u64 {
    let shards = arguments.geometry.shards;
    let first = children(place_of(about.root, shard, shards));
    let (mut branch, mut sent) = (0, 0u64);
    while branch < BROADCAST_FANOUT {
        let place = first.wrapping_add(branch);
        if place < shards && !(mutant!("broadcast_branch_forgotten") && branch == 1) {
            let to = shard_at(about.root, place, shards);
            // SAFETY: each shard but the root is passed to from one other.
            unsafe { send_crier::<A>(arguments, to, number, begun, Cursor::default(), false, event_hlc) };
            sent = sent.wrapping_add(1);
        }
        branch = branch.wrapping_add(1);
    }
    sent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::native::Native;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use tourbillon_shared::geometry::{DeviceLayout, Geometry};
    use tourbillon_shared::mailbox::{MAILBOX_CAPACITY_MIN, OVERFLOW_CAPACITY_MIN};

    /// Device memory is aligned to lines.
    #[repr(align(128))]
    #[derive(Clone, Copy)]
    struct Line(#[expect(dead_code, reason = "used by its address")] [u8; 128]);

    /// What a kernel of one shard with mailboxes is launched with, in memory of the test.
    fn arguments(memory: &mut Vec<Line>) -> KernelArguments {
        let geometry = Geometry {
            mailbox_log2: MAILBOX_CAPACITY_MIN.trailing_zeros(),
            overflow_log2: OVERFLOW_CAPACITY_MIN.trailing_zeros(),
            ..crate::virtual_actors::Memory::geometry()
        };
        let layout = DeviceLayout::new(&geometry);
        memory.resize(layout.total_bytes as usize / size_of::<Line>(), Line([0; 128]));
        KernelArguments { memory: memory.as_mut_ptr() as u64, layout, geometry, ..bytemuck::Zeroable::zeroed() }
    }

    proptest! {
        /// Against a set: numbers are taken and given back in any order. Nobody gets one that another has, and who wants one gets one while
        /// there is one.
        #[test]
        fn a_number_is_one_holders(steps in proptest::collection::vec(0usize..6, 1..100)) {
            let mut memory = Vec::new();
            let arguments = arguments(&mut memory);
            let numbers = Broadcasts::new(arguments.geometry.mailbox_shape());
            // SAFETY: the memory is this test's, which alone uses it.
            unsafe { numbers_of(&arguments).write(numbers) };
            let mut held = BTreeSet::new();
            for step in steps {
                // SAFETY: as above.
                unsafe {
                    match held.iter().nth(step).copied() {
                        Some(number) => {
                            held.remove(&number);
                            give_number::<Native>(&arguments, number);
                        }
                        None => match take_number::<Native>(&arguments) {
                            Some(number) => prop_assert!(u64::from(number) < numbers.numbers && held.insert(number)),
                            None => prop_assert_eq!(held.len() as u64, numbers.numbers),
                        },
                    }
                    let room = (*numbers_of(&arguments)).room;
                    prop_assert_eq!(room, numbers.numbers - held.len() as u64);
                }
            }
        }
    }
}
