//! The bare floors of the latency bench: messages answered with the engine's slots and nothing else of it.
//!
//! A warp looks at the next slots of a ring with one load, four lanes a slot, sees by their tags which have come, and
//! claims those by compare-and-swap of the ring's head in the block's memory, so that several warps may poll one
//! ring. The loads and stores are relaxed: the tag inside each chunk says that all of it is there, and the winner of
//! a claim uses only what it loaded itself. The stop word rides along in lane 31 of such a load.

use core::arch::{asm, global_asm, nvptx};

use tourbillon_shared::floor::{
    FLOOR_SHARDS_MAX, FloorArguments, FloorStop, OFFLOAD_WORDS, OffloadArguments, SHARD_WORD,
};
use tourbillon_shared::geometry::LaneAddresses;
use tourbillon_shared::lane::LANES_MAX;
use tourbillon_shared::position::RingShape;
use tourbillon_shared::slot::{CHUNKS_PER_SLOT, Chunk, DATA_WORDS_PER_CHUNK, SLOT_BYTES};

use crate::machine::{
    ballot, block_barrier, compare_exchange_cta, fetch_add_cta, load_chunk_gpu, load_chunk_sys, load_cta, shuffle,
    shuffle_u64, store_chunk_gpu, store_chunk_sys, store_cta,
};

// Heads of lanes (or of inboxes), then tails of inboxes: u64 each.
global_asm!(".shared .align 128 .b8 TOURBILLON_FLOOR_MEMORY[2560];");

const HEAD_WORDS: u32 = LANES_MAX;
const MEMORY_WORDS: u32 = HEAD_WORDS + FLOOR_SHARDS_MAX;
const _: () = assert!(MEMORY_WORDS * 8 == 2560, "the declaration above must have room for every word");

/// The lane whose part of a load is the stop word; lanes below `4 * POLL_SLOTS_MAX` load slots.
const STOP_LANE: u32 = 31;
/// The chunk that carries the return address between the blocks.
const RETURN_CHUNK: u32 = CHUNKS_PER_SLOT as u32 - 1;
/// A polling warp asks the host for the stop word once in so many rounds: a few hundred microseconds, seldom enough
/// not to show in the figures.
const STOP_ROUNDS: u32 = 256;

/// What a warp found in a ring and took.
struct Claim {
    /// Position of the first slot looked at.
    head: u64,
    /// Slots taken, from `head` on.
    count: u32,
    /// The lane's chunk: number `lane % 4` of slot `head + lane / 4`.
    chunk: Chunk,
}

/// The address of word `word` of the block's memory.
#[inline(always)]
fn memory_word(word: u32) -> u32 {
    let base: u32;
    // SAFETY: takes an address, accesses nothing.
    unsafe { asm!("mov.u32 {0}, TOURBILLON_FLOOR_MEMORY;", out(reg32) base, options(pure, nomem)) };
    base + word * 8
}

#[inline(always)]
fn thread() -> u32 {
    // SAFETY: reads a register.
    unsafe { nvptx::_thread_idx_x() as u32 }
}

#[inline(always)]
fn block() -> u32 {
    // SAFETY: reads a register.
    unsafe { nvptx::_block_idx_x() as u32 }
}

/// Empties the block's memory; every thread of the block calls it first.
#[inline(always)]
fn clear_memory() {
    // SAFETY: reads a register.
    let threads = unsafe { nvptx::_block_dim_x() as u32 };
    let mut word = thread();
    while word < MEMORY_WORDS {
        // SAFETY: the word is inside the declared memory.
        unsafe { store_cta(memory_word(word), 0) };
        word += threads;
    }
    block_barrier();
}

/// Looks at the next slots of a lane and takes those that have come; nothing when the stop word was seen.
///
/// # Safety
/// `requests` is a ring of `shape`, `head_at` the address of its head in the block's memory.
#[inline(always)]
unsafe fn look(
    arguments: &FloorArguments,
    requests: u64,
    shape: RingShape,
    head_at: u32,
    read_stop: bool,
) -> Option<Claim> {
    let lane = thread() & 31;
    let looks = lane < arguments.poll_slots * CHUNKS_PER_SLOT as u32;
    // SAFETY: the caller vouches for the head.
    let head = shuffle_u64(unsafe { load_cta(head_at) }, 0);
    let position = head + u64::from(lane / CHUNKS_PER_SLOT as u32);
    let stops = read_stop && lane == STOP_LANE;
    let mut chunk = Chunk::default();
    if looks || stops {
        let from = if stops { arguments.stop_at } else { requests + chunk_offset(shape, position, lane) };
        // SAFETY: the stop word is a whole line, the chunk lies inside the ring.
        chunk = unsafe { load_chunk_sys(from) };
    }
    let votes = ballot(if stops { chunk.words[0] != 0 } else { looks && chunk.tag() == shape.lap(position) });
    if votes >> STOP_LANE != 0 {
        return None;
    }
    let mut count = votes.trailing_ones() / CHUNKS_PER_SLOT as u32;
    if count != 0 {
        let mut won = false;
        if lane == 0 {
            // SAFETY: the caller vouches for the head.
            won = unsafe { compare_exchange_cta(head_at, head, head + u64::from(count)) };
        }
        if ballot(won) == 0 {
            count = 0;
        }
    }
    Some(Claim { head, count, chunk })
}

/// Byte offset in a ring of the chunk that `lane` handles of the slot at `position`.
#[inline(always)]
fn chunk_offset(shape: RingShape, position: u64, lane: u32) -> u64 {
    u64::from(shape.index(position) * SLOT_BYTES as u32 + (lane % CHUNKS_PER_SLOT as u32) * size_of::<Chunk>() as u32)
}

/// One block that polls lane 0 with all its warps and answers it.
///
/// # Safety
/// `arguments` points to valid [`FloorArguments`] whose memory outlives the kernel.
#[unsafe(no_mangle)]
pub unsafe extern "ptx-kernel" fn tourbillon_floor_direct(arguments: *const FloorArguments) {
    // SAFETY: the caller vouches for the arguments and what they point to.
    let (arguments, addresses) = unsafe {
        let arguments = arguments.read();
        (arguments, (arguments.lanes_at as *const LaneAddresses).read())
    };
    let shape = RingShape::from_log2(arguments.capacity_log2);
    let lane = thread() & 31;
    clear_memory();
    let mut round = 0u32;
    loop {
        round = round.wrapping_add(1);
        // SAFETY: the ring is the lane's, its head the first word of the block's memory.
        let claim = unsafe { look(&arguments, addresses.requests, shape, memory_word(0), round % STOP_ROUNDS == 0) };
        let Some(claim) = claim else { return };
        let slot = lane / CHUNKS_PER_SLOT as u32;
        if slot < claim.count {
            let to = addresses.replies + chunk_offset(shape, claim.head + u64::from(slot), lane);
            // SAFETY: the chunk lies inside the reply ring.
            unsafe { store_chunk_sys(to, claim.chunk) };
        }
    }
}

/// Gate blocks that poll the lanes and forward each message to the shard block that it names, which answers.
///
/// # Safety
/// As for [`tourbillon_floor_direct`]; the grid has `gates + shards` blocks.
#[unsafe(no_mangle)]
pub unsafe extern "ptx-kernel" fn tourbillon_floor_gate(arguments: *const FloorArguments) {
    // SAFETY: the caller vouches for the arguments.
    let arguments = unsafe { arguments.read() };
    clear_memory();
    // SAFETY: the caller vouches for what they point to, and for the grid.
    unsafe {
        if block() < arguments.gates {
            run_gate(&arguments, block());
        } else {
            run_shard(&arguments, block() - arguments.gates);
        }
    }
}

/// The inbox of shard `shard` behind gate `gate`.
#[inline(always)]
fn inbox(arguments: &FloorArguments, gate: u32, shard: u32) -> u64 {
    let ring = gate * arguments.shards + shard;
    arguments.inbox_at + ((u64::from(ring) * SLOT_BYTES as u64) << arguments.capacity_log2)
}

/// The word in device memory where gate `gate` repeats the stop word.
#[inline(always)]
fn mirror(arguments: &FloorArguments, gate: u32) -> u64 {
    arguments.mirror_at + u64::from(gate) * size_of::<FloorStop>() as u64
}

#[inline(always)]
unsafe fn run_gate(arguments: &FloorArguments, gate: u32) {
    let shape = RingShape::from_log2(arguments.capacity_log2);
    let lanes = arguments.lanes_at as *const LaneAddresses;
    let lane = thread() & 31;
    let part = lane % CHUNKS_PER_SLOT as u32;
    if gate >= arguments.lanes {
        // Nothing to poll; the shards watch gate 0's word.
        return;
    }
    let mut served = gate;
    // SAFETY: `served` is a lane's number.
    let mut addresses = unsafe { lanes.add(served as usize).read() };
    let mut round = 0u32;
    loop {
        round = round.wrapping_add(1);
        // SAFETY: the ring is the lane's, its head the lane's word of the block's memory.
        let claim =
            unsafe { look(arguments, addresses.requests, shape, memory_word(served), round % STOP_ROUNDS == 0) };
        let Some(mut claim) = claim else {
            // SAFETY: the mirror has a line for each gate.
            unsafe { store_chunk_gpu(mirror(arguments, gate), Chunk { words: [1, 0, 0, 0] }) };
            return;
        };
        if claim.count != 0 {
            let position = claim.head + u64::from(lane / CHUNKS_PER_SLOT as u32);
            let taken = lane / (CHUNKS_PER_SLOT as u32) < claim.count;
            let first = lane - part;
            let named = shuffle(claim.chunk.words[SHARD_WORD], first);
            let shard = if named < arguments.shards { named } else { 0 };
            let mut tail = 0;
            if taken && part == 0 {
                // SAFETY: the shard's word of the block's memory.
                tail = unsafe { fetch_add_cta(memory_word(HEAD_WORDS + shard), 1) };
            }
            tail = shuffle_u64(tail, first);
            if part == RETURN_CHUNK {
                let back = addresses.replies + chunk_offset(shape, position, 0);
                claim.chunk = Chunk::new([back as u32, (back >> 32) as u32, shape.lap(position)], 0);
            }
            if taken {
                let w = claim.chunk.words;
                let to = inbox(arguments, gate, shard) + chunk_offset(shape, tail, lane);
                // SAFETY: the chunk lies inside the inbox.
                unsafe { store_chunk_gpu(to, Chunk::new([w[0], w[1], w[2]], shape.lap(tail))) };
            }
        }
        if arguments.lanes > arguments.gates {
            served = if served + arguments.gates < arguments.lanes { served + arguments.gates } else { gate };
            // SAFETY: `served` is a lane's number.
            addresses = unsafe { lanes.add(served as usize).read() };
        }
    }
}

#[inline(always)]
unsafe fn run_shard(arguments: &FloorArguments, shard: u32) {
    let shape = RingShape::from_log2(arguments.capacity_log2);
    let lane = thread() & 31;
    let part = lane % CHUNKS_PER_SLOT as u32;
    let gate = lane / CHUNKS_PER_SLOT as u32;
    let looks = gate < arguments.gates;
    let head_at = memory_word(if looks { gate } else { 0 });
    // Gate 0 always has a lane, so it always repeats the stop word.
    let stop_at = mirror(arguments, 0);
    let ring = if looks { inbox(arguments, gate, shard) } else { stop_at };
    loop {
        // SAFETY: a word of the block's memory.
        let head = shuffle_u64(unsafe { load_cta(head_at) }, lane - part);
        let from = if looks { ring + chunk_offset(shape, head, lane) } else { stop_at };
        // SAFETY: a chunk of the inbox, or the mirror of the stop word.
        let chunk = unsafe { load_chunk_gpu(from) };
        let votes =
            ballot(if looks { chunk.tag() == shape.lap(head) } else { lane == STOP_LANE && chunk.words[0] != 0 });
        if votes >> STOP_LANE != 0 {
            return;
        }
        if votes == 0 {
            continue;
        }
        const WHOLE: u32 = (1 << CHUNKS_PER_SLOT) - 1;
        let mut won = false;
        if looks && part == 0 && (votes >> lane) & WHOLE == WHOLE {
            // SAFETY: the inbox's word of the block's memory.
            won = unsafe { compare_exchange_cta(head_at, head, head + 1) };
        }
        let winners = ballot(won);
        let back_lane = lane - part + RETURN_CHUNK;
        let back = u64::from(shuffle(chunk.words[0], back_lane)) | u64::from(shuffle(chunk.words[1], back_lane)) << 32;
        let lap = shuffle(chunk.words[DATA_WORDS_PER_CHUNK - 1], back_lane);
        if looks && (winners >> (lane - part)) & 1 != 0 {
            let to = back + u64::from(part) * size_of::<Chunk>() as u64;
            let w = chunk.words;
            // SAFETY: the gate took the address from the lane's reply ring.
            unsafe { store_chunk_sys(to, Chunk::new([w[0], w[1], w[2]], lap)) };
        }
    }
}

/// Does nothing: what a launch costs.
#[unsafe(no_mangle)]
pub extern "ptx-kernel" fn tourbillon_empty() {}

/// Reads a message, adds to each word and writes it: the work of one offloaded request.
///
/// # Safety
/// `arguments` points to valid [`OffloadArguments`].
#[unsafe(no_mangle)]
pub unsafe extern "ptx-kernel" fn tourbillon_offload(arguments: *const OffloadArguments) {
    let word = thread() as usize;
    if word < OFFLOAD_WORDS {
        // SAFETY: the caller vouches for both ranges.
        unsafe {
            let arguments = arguments.read();
            let value = (arguments.input_at as *const u32).add(word).read();
            (arguments.output_at as *mut u32).add(word).write(value.wrapping_add(arguments.addend));
        }
    }
}
