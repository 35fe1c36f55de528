//! The queue of dead letters; [`tourbillon_shared::dead_letter`] has its protocol.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::dead_letter::{DEAD_LETTER_PAYLOAD_BYTES, DeadLetterRecord, DeadLetterState, LANE_OF_ACTORS};
use tourbillon_shared::error::FailureCode;
use tourbillon_shared::frame::payload_start;
use tourbillon_shared::geometry::KernelArguments;
use tourbillon_shared::header::{Flags, ReturnAddress};
use tourbillon_shared::mutant;
use tourbillon_shared::options::deadline_start;
use tourbillon_shared::position::LAP_NEVER;
use tourbillon_shared::slot::{DATA_WORDS_PER_SLOT, Slot};
use tourbillon_shared::telemetry::Counter;

use super::{arguments_of, double, id_in};
use crate::arch::Arch;
use crate::frames::header_of;
use crate::stats::Stats;
use crate::words::{Staged, Words};

/// Bytes of payload in one word of a record.
const WORD_BYTES: u32 = 8;

#[inline(always)]
fn state_of(arguments: &KernelArguments) -> *mut DeadLetterState {
    arguments.memory.wrapping_add(arguments.layout.dead_letters) as *mut DeadLetterState
}

/// Puts a message, as it came, into the queue of dead letters; when that is full, the letter is dropped and counted.
///
/// # Safety
/// The frame is staged in `scratch` and this lane's; nothing was written over it.
#[cold]
#[inline(never)]
pub(crate) unsafe fn bury<A: Arch>(
    stats: Stats,
    frame: *const Slot,
    scratch: *const WarpScratch,
    code: FailureCode,
    event_hlc: u64,
) {
    // SAFETY: the caller vouches for frame and scratch.
    let (arguments, header) = unsafe { (arguments_of(scratch), header_of(&*frame)) };
    // SAFETY: the words are read only.
    let words = unsafe { Staged::<A>::new(frame.cast_mut()) };
    let state = state_of(arguments);
    // SAFETY: the queue's head. Acquire pairs with the fence in front of the addition in `look_at_taken`.
    let before = unsafe { A::take_room_gpu(&raw mut (*state).room, 1) };
    if (before as i64) < 1 && !mutant!("dead_letters_unbounded") {
        // SAFETY: as above.
        unsafe { A::add_relaxed_gpu(&raw mut (*state).room, 1) };
        stats.add::<A>(Counter::DeadLettersDropped, 1);
        return;
    }
    // SAFETY: as above. Acquire and Release: this lane has seen the room that those before it have, as in an outbox.
    let position = unsafe { A::take_ticket_gpu(&raw mut (*state).tail, 1) };
    let mask = 1u64.wrapping_shl(arguments.geometry.dead_letters_log2).wrapping_sub(1);
    let record = state.wrapping_add(1).cast::<DeadLetterRecord>().wrapping_add((position & mask) as usize);
    let flags = header.flags;
    let deadline = if flags.has(Flags::DEADLINE) { double(&words, deadline_start(flags)) } else { 0 };
    let [a, b, c, d] = if flags.has(Flags::MESSAGE_ID) { id_in(&words, flags) } else { [0; 4] };
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let address = ReturnAddress::decode(header.hint);
    let lane = if address.lap == LAP_NEVER { LANE_OF_ACTORS } else { u32::from(address.lane) };
    let head = [
        event_hlc,
        header.key,
        // As they stand in the frame.
        double(&words, 2),
        pair(code as u32, lane),
        deadline,
        pair(a, b),
        pair(c, d),
    ];
    let to = record.cast::<u64>();
    let mut i = 0;
    while i < head.len() {
        // SAFETY: there is room for the record, which is this lane's; `i` is below the array's length.
        unsafe { A::store_relaxed_gpu(to.wrapping_add(1).wrapping_add(i), *head.get_unchecked(i)) };
        i = i.wrapping_add(1);
    }
    // A frame that its gate refused may say any length: what is kept lies inside its span.
    let (start, end) = (payload_start(flags), flags.span().wrapping_mul(DATA_WORDS_PER_SLOT as u32));
    let length = u32::from(header.length);
    let word_at = |byte: u32| {
        let at = start.wrapping_add(byte / 4);
        let left = length.saturating_sub(byte);
        if at >= end || left == 0 {
            0
        } else if left < 4 {
            // What stands behind the payload is not told.
            words.word(at) & 1u32.wrapping_shl(left.wrapping_mul(8)).wrapping_sub(1)
        } else {
            words.word(at)
        }
    };
    let mut byte = 0;
    while byte < DEAD_LETTER_PAYLOAD_BYTES as u32 {
        let word = pair(word_at(byte), word_at(byte.wrapping_add(4)));
        let at = head.len().wrapping_add(1).wrapping_add((byte / WORD_BYTES) as usize);
        // SAFETY: as above: the payload is the end of the record.
        unsafe { A::store_relaxed_gpu(to.wrapping_add(at), word) };
        byte = byte.wrapping_add(WORD_BYTES);
    }
    // SAFETY: as above. Release pairs with the host's fence between its two copies.
    unsafe { A::store_release_gpu(&raw mut (*record).sequence, position.wrapping_add(1)) };
    stats.add::<A>(Counter::DeadLetters, 1);
}

/// The control warp's look at what the host has taken: gives that room back.
///
/// # Safety
/// The arguments are those of the launch; one lane of the control warp calls this, and nobody else.
#[inline(never)]
pub(crate) unsafe fn look_at_taken<A: Arch>(arguments: &KernelArguments) {
    let state = state_of(arguments);
    // SAFETY: the queue's head; this lane alone writes `seen`.
    unsafe {
        let taken = A::load_relaxed_gpu(&raw const (*state).taken);
        let seen = A::load_relaxed_gpu(&raw const (*state).seen);
        if taken != seen && !mutant!("dead_letters_keep_room") {
            // Makes an acquire of the load above and a release of the addition below: what the host has read may be overwritten.
            A::fence_acquire_sys();
            A::store_relaxed_gpu(&raw mut (*state).seen, taken);
            A::add_relaxed_gpu(&raw mut (*state).room, taken.wrapping_sub(seen));
        }
    }
}

const _: () = {
    // The words of the head in `bury`, behind the sequence.
    use core::mem::offset_of;
    assert!(offset_of!(DeadLetterRecord, hlc) == 8 && offset_of!(DeadLetterRecord, key) == 16);
    assert!(offset_of!(DeadLetterRecord, reason) == 32 && offset_of!(DeadLetterRecord, lane) == 36);
    assert!(offset_of!(DeadLetterRecord, deadline) == 40 && offset_of!(DeadLetterRecord, message_id) == 48);
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::native::Native;
    use bytemuck::Zeroable;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use tourbillon_shared::geometry::{DeviceLayout, Geometry};
    use tourbillon_shared::header::Header;
    use tourbillon_shared::outbox::Mail;
    use tourbillon_shared::telemetry::WarpStats;

    const LOG2: u32 = 4;

    #[repr(C, align(256))]
    #[derive(Clone, Copy, Zeroable)]
    struct Page([u64; 32]);

    /// Device memory of an engine that does not run, and a warp's scratch.
    struct Memory {
        _arguments: Box<KernelArguments>,
        scratch: Box<WarpScratch>,
        state: *mut DeadLetterState,
        stats: Stats,
        _device: Vec<Page>,
    }

    impl Memory {
        fn new() -> Self {
            let geometry = Geometry {
                blocks: 1,
                gates: 1,
                warps_per_block: 1,
                combined: 1,
                shards: 1,
                lanes: 1,
                ring_log2: 4,
                actors_per_shard: 1,
                entry_stride: 32,
                directory_log2: 1,
                landing_bytes: 0,
                outbox_log2: 0,
                waiters: 0,
                store_log2: 0,
                mailbox_log2: 0,
                overflow_log2: 0,
                dedup_entries: 16,
                dead_letters_log2: LOG2,
                pool_pages: 0,
                published_pages: 0,
            };
            let layout = DeviceLayout::new(&geometry);
            let mut device = vec![Page::zeroed(); layout.total_bytes.div_ceil(256) as usize];
            let memory = device.as_mut_ptr() as u64;
            let arguments = Box::new(KernelArguments { memory, layout, geometry, ..Zeroable::zeroed() });
            // SAFETY: words and arrays of words all through.
            let mut scratch: Box<WarpScratch> = Box::new(unsafe { std::mem::zeroed() });
            scratch.mail = Mail { arguments: &raw const *arguments as u64, ..Mail::default() };
            let state = state_of(&arguments);
            // SAFETY: the queue's head, and a warp's statistics, lie inside the memory.
            let stats = unsafe {
                state.write(DeadLetterState::new(LOG2));
                Stats::at((memory + layout.stats) as *mut WarpStats as u64)
            };
            Self { _arguments: arguments, scratch, state, stats, _device: device }
        }

        fn bury(&mut self, header: &Header, words: &[u32]) {
            let mut frame = [Slot::default(); 8];
            // SAFETY: the frame is this test's alone.
            let mut staged = unsafe { Staged::<Native>::new(frame.as_mut_ptr()) };
            for (at, word) in header.encode().iter().chain(words).enumerate() {
                staged.set_word(at as u32, *word);
            }
            // SAFETY: as above; the mail leads to the arguments.
            unsafe {
                bury::<Native>(self.stats, frame.as_ptr(), &raw const *self.scratch, FailureCode::UnknownKind, 7)
            };
        }

        /// Takes up to `most` records as the host does.
        fn take(&mut self, most: u64) -> Vec<DeadLetterRecord> {
            // SAFETY: the queue lies inside the memory, and no other thread uses it.
            unsafe {
                let (tail, taken) = ((*self.state).tail, (*self.state).taken);
                let end = taken + most.min(tail - taken);
                (*self.state).taken = end;
                let first = self.state.add(1).cast::<DeadLetterRecord>();
                (taken..end).map(|position| first.add(position as usize & 15).read()).collect()
            }
        }

        fn look(&mut self) {
            // SAFETY: one thread does everything.
            unsafe { look_at_taken::<Native>(arguments_of(&raw const *self.scratch)) };
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Bury(u16, u32),
        Take(u64),
        Look,
    }

    proptest! {
        /// Any order of writing, reading and giving back: what is read is what was written while there was room, in order and whole.
        #[test]
        fn the_queue_is_a_bounded_list(steps in proptest::collection::vec(prop_oneof![
            4 => (0u16..=352, any::<u32>()).prop_map(|(length, seed)| Step::Bury(length, seed)),
            1 => (0u64..20).prop_map(Step::Take),
            1 => Just(Step::Look),
        ], 0..200)) {
            let mut memory = Memory::new();
            let (mut list, mut room, mut owed) = (VecDeque::new(), 1u64 << LOG2, 0);
            let (mut written, mut number) = (0u64, 0u64);
            for step in steps {
                match step {
                    Step::Bury(length, seed) => {
                        number += 1;
                        let flags = Flags::new(8, Flags::TELL);
                        let hint = ReturnAddress { lane: 3, index: 9, lap: 1, is_alone: true, span: 0 }.encode();
                        let header = Header { key: number, kind: 5, message: 2, hops: 1, length, flags, hint, hlc: 0 };
                        let words: Vec<u32> = (0..88u32).map(|i| seed.wrapping_mul(i | 1)).collect();
                        memory.bury(&header, &words);
                        if room > 0 {
                            room -= 1;
                            let kept = usize::from(length).min(DEAD_LETTER_PAYLOAD_BYTES);
                            let mut payload = [0u8; DEAD_LETTER_PAYLOAD_BYTES];
                            payload[..kept].copy_from_slice(&bytemuck::cast_slice(&words)[..kept]);
                            written += 1;
                            list.push_back(DeadLetterRecord {
                                sequence: written,
                                hlc: 7,
                                key: number,
                                kind: 5,
                                message: 2,
                                hops: 1,
                                length,
                                flags: flags.0,
                                reason: FailureCode::UnknownKind as u32,
                                lane: 3,
                                payload: bytemuck::cast(payload),
                                ..DeadLetterRecord::zeroed()
                            });
                        }
                    }
                    Step::Take(most) => {
                        let taken = memory.take(most);
                        owed += taken.len() as u64;
                        for record in taken {
                            prop_assert_eq!(Some(record), list.pop_front());
                        }
                    }
                    Step::Look => {
                        memory.look();
                        room += std::mem::take(&mut owed);
                    }
                }
                // SAFETY: as in `take`.
                prop_assert_eq!(unsafe { (*memory.state).room }, room);
            }
            prop_assert_eq!(memory.take(u64::MAX), Vec::from(list));
        }
    }
}
