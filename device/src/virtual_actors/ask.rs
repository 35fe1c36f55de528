//! From a shard to the store: requests in the ring of host memory.

use tourbillon_shared::frame::FRAME_SLOTS_MAX;
use tourbillon_shared::geometry::{KernelArguments, LaneAddresses};
use tourbillon_shared::header::HEADER_WORDS;
use tourbillon_shared::outbox::OutboxState;
use tourbillon_shared::position::RingShape;
use tourbillon_shared::slot::{CHUNKS_PER_SLOT, Chunk, DATA_WORDS_PER_CHUNK, Slot};
use tourbillon_shared::virtual_actors::{Ask, ENTRY_WORD, STORE_LANE, StoreRequest, ask_header};

use crate::arch::Arch;

/// Sends request `index` of shard `shard`, with word 3 of its payload and the `words` words from `from` on behind that.
///
/// # Safety
/// `from` is valid for reads of as many words. The arguments are those of the launch, of an engine with a store; the
/// caller's warp holds the shard's turn, and the shard has no more requests without an answer than it may.
#[inline(never)]
#[expect(clippy::too_many_arguments, reason = "a frame's fields, once")]
pub(crate) unsafe fn send<A: Arch>(
    arguments: &KernelArguments,
    shard: u32,
    index: u32,
    request: &StoreRequest,
    ask: Ask,
    word_3: u32,
    from: *const u32,
    words: u32,
) {
    let header = ask_header(ask, request.kind as u16, request.key, words.wrapping_mul(4));
    let head = header.encode();
    let front = [shard, index, request.number, word_3];
    let shape = RingShape::from_log2(arguments.geometry.store_log2);
    let state = arguments.memory.wrapping_add(arguments.layout.outboxes) as *mut OutboxState;
    let slots = header.flags.span();
    // SAFETY: the lane exists, and nobody writes the table of lanes while the kernel runs; the ring's state is device memory.
    let (ring, mut position) = unsafe {
        let lanes = arguments.lanes as *const LaneAddresses;
        let ring = (*lanes.wrapping_add(STORE_LANE as usize)).outbox() as *mut Slot;
        let tail = &raw mut (*state.wrapping_add(STORE_LANE as usize)).tail;
        // Acquire and Release: what those before this one know of slots that were read, this one knows too.
        (ring, A::take_ticket_gpu(tail, slots.into()))
    };
    let (mut word, mut slot) = (0u32, 0u32);
    while slot < slots && slot < FRAME_SLOTS_MAX as u32 {
        let to = ring.wrapping_add(shape.index(position) as usize).cast::<Chunk>();
        let lap = shape.lap(position);
        let mut chunk = 0;
        while chunk < CHUNKS_PER_SLOT {
            let mut data = [0; DATA_WORDS_PER_CHUNK];
            let mut i = 0;
            while i < DATA_WORDS_PER_CHUNK {
                let in_payload = word.wrapping_sub(HEADER_WORDS as u32);
                let behind = in_payload.wrapping_sub(ENTRY_WORD);
                let value = match (head.get(word as usize), front.get(in_payload as usize)) {
                    (Some(value), _) | (None, Some(value)) => *value,
                    // SAFETY: the caller vouches for so many words.
                    _ if behind < words => unsafe { from.wrapping_add(behind as usize).read() },
                    _ => 0,
                };
                // SAFETY: `i` is below the array's length.
                unsafe { *data.get_unchecked_mut(i) = value };
                word = word.wrapping_add(1);
                i = i.wrapping_add(1);
            }
            // SAFETY: a chunk of a slot of the ring, which is read: there is room behind every ticket.
            unsafe { A::store_chunk_sys(to.wrapping_add(chunk), Chunk::new(data, lap)) };
            chunk = chunk.wrapping_add(1);
        }
        position = position.wrapping_add(1);
        slot = slot.wrapping_add(1);
    }
}
