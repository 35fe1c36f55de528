//! Payloads from the clients' arenas: into device memory before their handler runs, and back after it.
//!
//! A frame with a payload in an arena is a window of its own, so one landing buffer a shard is enough: whoever holds the shard's
//! turn has it. All lanes of the warp copy together, several loads in flight each, for a single round trip over the bus
//! fetches sixteen bytes a lane. See [`tourbillon_shared::arena`] for the protocol.

use tourbillon_shared::arena::{ARENA_HEAD_BYTES, ARENA_REF_WORDS, ArenaRef};
use tourbillon_shared::block::{Landing, WarpScratch};
use tourbillon_shared::error::FailureCode;
use tourbillon_shared::frame::{arena_start, payload_start};
use tourbillon_shared::geometry::LaneAddresses;
use tourbillon_shared::header::{Flags, Header, ReturnAddress};
use tourbillon_shared::mutant;
use tourbillon_shared::slot::Chunk;

use crate::arch::Arch;
use crate::block::Block;
use crate::frames::{staged_header, staged_word};
use crate::gate::lane_addresses;
use crate::kernel::serves;
use crate::warp::Warp;

/// Bytes that a lane copies at once.
const PIECE_BYTES: u32 = size_of::<Chunk>() as u32;
/// Loads that a lane keeps in flight: 32 lanes fetch 4 KiB in one round trip over the bus.
const ROUNDS: usize = 8;
/// Looks at a block's head before its reference counts as stale. The client wrote it before the frame, so the first look finds it
/// wherever memory keeps to that order without being asked.
const HEAD_LOOKS_MAX: u32 = 16;

/// The warp's note of where its large payload is.
#[inline(always)]
fn note(scratch: *mut WarpScratch) -> *mut Landing {
    // SAFETY: only an address inside the warp's scratch.
    unsafe { &raw mut (*scratch).landing }
}

/// Why the payload of the frame with a reference that this warp runs was refused, if it was.
#[inline(always)]
pub(crate) fn refusal(scratch: *mut WarpScratch) -> Option<FailureCode> {
    // SAFETY: `land` wrote the note before a sync, and nobody writes it while the frame runs.
    FailureCode::from_word(unsafe { (*note(scratch)).failure })
}

/// The buffer in which that payload has landed.
#[inline(always)]
pub(crate) fn landing_buffer(scratch: *mut WarpScratch) -> *mut u8 {
    // SAFETY: as in `refusal`.
    unsafe { (*note(scratch)).buffer as *mut u8 }
}

/// The reference of the frame that begins at the staged slot `base`.
///
/// # Safety
/// The frame is staged, well-formed, and has a reference.
#[inline(always)]
unsafe fn staged_reference(scratch: *mut WarpScratch, base: u32, first: u32) -> ArenaRef {
    let mut words = [0; ARENA_REF_WORDS as usize];
    let mut i = 0;
    while i < ARENA_REF_WORDS {
        // SAFETY: the slots of a frame follow each other in the stage; the caller vouches for the rest.
        unsafe { *words.get_unchecked_mut(i as usize) = staged_word(scratch, base, first.wrapping_add(i)).read() };
        i = i.wrapping_add(1);
    }
    ArenaRef::decode(&words)
}

/// Fetches the payload of the frame at the staged slot `base`, all lanes together, and notes where it is or why it was refused. The
/// warp holds the turn of the block's shard `local`. Nothing, and `false`, when the kernel is about to stop serving: a copy of
/// 1 MiB is long, and what waits for the next launch or for the end of a pause need not be begun.
#[inline(never)]
pub(crate) fn land<A: Arch, const WHOLE: bool>(
    warp: &Warp<A, WHOLE>,
    block: &Block<'_>,
    scratch: *mut WarpScratch,
    local: u32,
    base: u32,
) -> bool {
    if !serves(warp, block.arguments) && !mutant!("arena_begun_at_a_pause") {
        return false;
    }
    // SAFETY: the frame is staged, and a gate found it well-formed.
    let (header, reference): (Header, ArenaRef) = unsafe {
        let header = staged_header(scratch, base);
        (header, staged_reference(scratch, base, arena_start(header.flags)))
    };
    let lane = lane_addresses(block, ReturnAddress::decode(header.hint).lane.into());
    let arguments = block.arguments;
    let before = u64::from(block.shard(local)).wrapping_mul(arguments.geometry.landing_bytes.into());
    let buffer = arguments.memory.wrapping_add(arguments.layout.landings).wrapping_add(before);
    let request = lane.request_arena().wrapping_add(reference.offset.into());
    let reply = lane.reply_arena().wrapping_add(reference.offset.into()).wrapping_add(ARENA_HEAD_BYTES.into());
    // SAFETY: the reference was checked against the lane's arena and the buffer's length before anything is read.
    let refused = unsafe { fetch_checked(warp, &lane, arguments.geometry.landing_bytes, reference, request, buffer) };
    if warp.rank() == 0 {
        let failure = match refused {
            Some(code) => code as u32,
            None => 0,
        };
        // SAFETY: rank 0 alone writes, and the others read after the sync.
        unsafe { note(scratch).write(Landing { buffer, reply, failure, reserved: 0 }) };
    }
    // The handler's lane sees what the others fetched.
    warp.sync();
    true
}

/// Checks a reference, waits for its block's head and fetches its payload; or why not.
///
/// # Safety
/// `request` is the address that `reference` leads to in the request arena of `lane`; `buffer` that of a landing buffer of
/// `landing_bytes` bytes which is the warp's.
#[inline(always)]
unsafe fn fetch_checked<A: Arch, const WHOLE: bool>(
    warp: &Warp<A, WHOLE>,
    lane: &LaneAddresses,
    landing_bytes: u32,
    reference: ArenaRef,
    request: u64,
    buffer: u64,
) -> Option<FailureCode> {
    let fits = reference.length <= landing_bytes && reference.room <= landing_bytes;
    let is_sound = fits && reference.is_inside(lane.arena_bytes);
    if !is_sound && !mutant!("arena_bounds_unchecked") {
        return Some(FailureCode::ArenaOutOfBounds);
    }
    // Every lane loads the head for itself, so that the fence makes an acquire of its own load.
    let mut looks = 0u32;
    loop {
        // SAFETY: the block lies inside the lane's request arena, and is aligned.
        let head = unsafe { A::load_chunk_sys(request as *const Chunk) };
        if !warp.any(head != reference.head()) || mutant!("arena_stale_unchecked") {
            break;
        }
        looks = looks.wrapping_add(1);
        if looks == HEAD_LOOKS_MAX {
            return Some(FailureCode::ArenaStale);
        }
    }
    A::fence_acquire_sys();
    let payload = request.wrapping_add(ARENA_HEAD_BYTES.into()) as *const Chunk;
    // SAFETY: the payload lies inside the lane's request arena, which ends at a multiple of a piece; the buffer has room for it
    // and is this warp's.
    unsafe { fetch(warp, payload, buffer as *mut Chunk, reference.length) };
    None
}

/// Copies `bytes` bytes, rounded up to whole pieces, out of an arena.
///
/// # Safety
/// Both are aligned to 16 and valid for so many bytes; `to` is the warp's alone.
#[inline(always)]
unsafe fn fetch<A: Arch, const WHOLE: bool>(warp: &Warp<A, WHOLE>, from: *const Chunk, to: *mut Chunk, bytes: u32) {
    let pieces = bytes.wrapping_add(PIECE_BYTES - 1) / PIECE_BYTES;
    // SAFETY: the caller vouches for the pieces.
    let load = |piece: u32| unsafe { A::load_payload_sys(from.wrapping_add(piece as usize)) };
    // SAFETY: as above.
    copy_pieces(warp, pieces, load, |piece, value| unsafe { to.wrapping_add(piece as usize).write(value) });
}

/// Copies pieces, all lanes together, each with [`ROUNDS`] loads on their way before the first is stored. Every lane has an
/// equal share; no lane waits for another.
#[inline(always)]
fn copy_pieces<A: Arch, const WHOLE: bool>(
    warp: &Warp<A, WHOLE>,
    pieces: u32,
    load: impl Fn(u32) -> Chunk,
    store: impl Fn(u32, Chunk),
) {
    let step = warp.size();
    let mut first = warp.rank();
    while first < pieces {
        let mut values = [Chunk { words: [0; 4] }; ROUNDS];
        let mut piece = first;
        let mut round = 0;
        while round < ROUNDS {
            // Past the end the last piece is loaded once more: cheaper than a branch between two loads.
            let inside = if piece < pieces { piece } else { pieces.wrapping_sub(1) };
            // SAFETY: `round` is below ROUNDS.
            unsafe { *values.get_unchecked_mut(round) = load(inside) };
            piece = piece.wrapping_add(step);
            round += 1;
        }
        let mut piece = first;
        let mut round = 0;
        while round < ROUNDS {
            if piece < pieces {
                // SAFETY: as above.
                store(piece, unsafe { *values.get_unchecked(round) });
            }
            piece = piece.wrapping_add(step);
            round += 1;
        }
        first = piece;
    }
}

/// Sends the payload of the staged reply at `base` back, all lanes together. What is stored afterwards is seen after it.
#[inline(never)]
pub(crate) fn depart<A: Arch, const WHOLE: bool>(warp: &Warp<A, WHOLE>, scratch: *mut WarpScratch, base: u32) {
    // A reply has no other extension.
    // SAFETY: the frame is staged, and its lane has left it before a sync; so has rank 0 the note.
    let (reference, landing) =
        unsafe { (staged_reference(scratch, base, payload_start(Flags(0))), note(scratch).read()) };
    let (length, from) = (reference.length, (landing.buffer as *const u8).wrapping_add(reference.room as usize));
    let to = landing.reply as *mut Chunk;
    // SAFETY: the block has room for the reply in whole pieces.
    let store = |piece: u32, value| unsafe { A::store_payload_sys(to.wrapping_add(piece as usize), value) };
    let is_aligned = (from as usize).is_multiple_of(PIECE_BYTES as usize);
    let whole = if is_aligned { length / PIECE_BYTES } else { 0 };
    // SAFETY: the reply lies inside the buffer, which is this warp's, and so do its whole pieces.
    let load = |piece: u32| unsafe { from.cast::<Chunk>().wrapping_add(piece as usize).read() };
    copy_pieces(warp, whole, load, store);
    // What is left: the end, or all of a reply that begins in the middle of a piece.
    let mut piece = whole.wrapping_add(warp.rank());
    while piece.wrapping_mul(PIECE_BYTES) < length {
        let at = piece.wrapping_mul(PIECE_BYTES);
        // SAFETY: as above.
        store(piece, unsafe { piece_at(from.wrapping_add(at as usize), length.wrapping_sub(at)) });
        piece = piece.wrapping_add(warp.size());
    }
    // All lanes have stored; then each makes a release of its own stores to come.
    warp.sync();
    A::fence_release_sys();
}

/// The piece at `from`, byte by byte, of which `left` bytes are the reply's; zero behind them, for there stand bytes of other
/// messages.
///
/// # Safety
/// So many bytes, and at most those of a piece, are valid for reads.
#[inline(always)]
unsafe fn piece_at(from: *const u8, left: u32) -> Chunk {
    let mut piece = Chunk { words: [0; 4] };
    let is_whole = left >= PIECE_BYTES || mutant!("arena_tail_sent");
    let bytes = if is_whole { PIECE_BYTES } else { left };
    let mut i = 0u32;
    while i < bytes {
        // SAFETY: the caller vouches for byte `i`; `i / 4` is below four.
        unsafe {
            let byte = u32::from(from.wrapping_add(i as usize).read());
            *piece.words.get_unchecked_mut((i / 4) as usize) |= byte.wrapping_shl(i % 4 * 8);
        }
        i = i.wrapping_add(1);
    }
    piece
}
