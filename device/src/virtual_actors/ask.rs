//! From a shard to the store: requests in the ring of host memory.

use tourbillon_shared::frame::FRAME_SLOTS_MAX;
use tourbillon_shared::geometry::{EntryHeader, KernelArguments, LaneAddresses};
use tourbillon_shared::header::HEADER_WORDS;
use tourbillon_shared::outbox::OutboxState;
use tourbillon_shared::position::RingShape;
use tourbillon_shared::slot::{CHUNKS_PER_SLOT, Chunk, DATA_WORDS_PER_CHUNK, Slot};
use tourbillon_shared::virtual_actors::{Ask, ENTRY_WORD, STORE_LANE, StoreRequest, ask_header};

use crate::arch::Arch;

/// Sends request `index` of shard `shard`, with the entry where there is one to keep.
///
/// # Safety
/// The arguments are those of the launch, of an engine with a store; the caller's warp holds the shard's turn, and the shard has no more
/// requests without an answer than it may.
#[inline(never)]
pub(crate) unsafe fn send<A: Arch>(
    arguments: &KernelArguments,
    shard: u32,
    index: u32,
    request: &StoreRequest,
    ask: Ask,
    entry: *const EntryHeader,
) {
    let entry_bytes = if ask as u8 == Ask::Evict as u8 { arguments.geometry.entry_stride } else { 0 };
    let header = ask_header(ask, request.kind as u16, request.key, entry_bytes);
    let head = header.encode();
    let front = [shard, index, request.number, 0];
    let entry_words = entry_bytes / 4;
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
                let in_entry = in_payload.wrapping_sub(ENTRY_WORD);
                let value = match (head.get(word as usize), front.get(in_payload as usize)) {
                    (Some(value), _) | (None, Some(value)) => *value,
                    // SAFETY: the word lies inside the entry, which is the caller's by the turn.
                    _ if in_entry < entry_words => unsafe {
                        entry.cast::<u32>().wrapping_add(in_entry as usize).read()
                    },
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
