//! The bare hop: sixteen bytes from one block to another through the second-level cache, found by a tag that is in them.

use tourbillon_device::arch::Arch;
use tourbillon_device::arch::nvptx::Nvptx;
use tourbillon_shared::floor::{HOP_CHUNKS_APART, HopArguments};
use tourbillon_shared::slot::Chunk;

/// Sends a chunk to and fro between two blocks, `rounds` times.
///
/// # Safety
/// `arguments` points to valid [`HopArguments`]; the grid is two blocks of one warp, which run at the same time.
#[unsafe(no_mangle)]
pub unsafe extern "ptx-kernel" fn tourbillon_floor_hop(arguments: *const HopArguments) {
    // SAFETY: the caller vouches for the arguments.
    let arguments = unsafe { arguments.read() };
    if Nvptx::lane() != 0 {
        return;
    }
    let is_first = Nvptx::block() == 0;
    let chunks = arguments.chunks_at as *mut Chunk;
    let (mine, other) = (chunks, chunks.wrapping_add(HOP_CHUNKS_APART));
    let (mine, other) = if is_first { (mine, other) } else { (other, mine) };
    let began_ns = Nvptx::now_ns();
    let until_ns = began_ns.wrapping_add(arguments.time_ns);
    let mut round = 1u32;
    while round <= arguments.rounds {
        if is_first {
            // SAFETY: the caller vouches for the chunks; each has one writer.
            unsafe { Nvptx::store_chunk_gpu(other, Chunk::new([round, 0, 0], round)) };
        }
        // SAFETY: as above.
        while unsafe { Nvptx::load_chunk_gpu(mine) }.tag() != round {
            if Nvptx::now_ns() >= until_ns {
                return;
            }
        }
        if !is_first {
            // SAFETY: as above.
            unsafe { Nvptx::store_chunk_gpu(other, Chunk::new([round, 0, 0], round)) };
        }
        round = round.wrapping_add(1);
    }
    if is_first {
        // SAFETY: the caller vouches for the word.
        unsafe { (arguments.took_at as *mut u64).write(Nvptx::now_ns().wrapping_sub(began_ns)) };
    }
}
