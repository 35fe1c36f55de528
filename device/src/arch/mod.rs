//! The machine under the ring kernel: lanes, collectives, and memory operations with their ordering and scope.
//!
//! The same names in three files: `nvptx` (a GPU), [`native`] (CPU threads, one lane a warp) and `simt` (simulated warps,
//! for tests).
//!
//! # Ordering and scope
//! | operation | ordering | scope | pairs with |
//! | --- | --- | --- | --- |
//! | [`load_chunk_sys`](Arch::load_chunk_sys) | relaxed, 16 bytes single-copy atomic | system | the tag inside, stored last with Release by the host |
//! | [`store_chunk_sys`](Arch::store_chunk_sys) | relaxed, 16 bytes single-copy atomic | system | the tag inside, loaded first with Acquire by the host |
//! | [`load_chunk_gpu`](Arch::load_chunk_gpu), [`store_chunk_gpu`](Arch::store_chunk_gpu) | relaxed, 16 bytes single-copy atomic | device | each other |
//! | [`load_payload_sys`](Arch::load_payload_sys), [`store_payload_sys`](Arch::store_payload_sys) | relaxed, by words | system | nothing: ordered by the fences |
//! | [`fence_acquire_sys`](Arch::fence_acquire_sys) | acquire and release | system | makes an acquire of the load of a block's head in an arena, whose tag the host stores with Release |
//! | [`fence_release_sys`](Arch::fence_release_sys) | acquire and release | system | makes a release of the store of a reply, whose tags the host loads with Acquire; also between a block's version and what carries its reference |
//! | [`load_acquire_gpu`](Arch::load_acquire_gpu) | acquire | device | [`store_release_gpu`](Arch::store_release_gpu), also of a published block's version, and of what a broadcast has begun as; [`advance_gpu`](Arch::advance_gpu) |
//! | [`store_release_gpu`](Arch::store_release_gpu) | release | device | [`load_acquire_gpu`](Arch::load_acquire_gpu); of an announcement that is taken back: the fence behind [`load_relaxed_gpu`](Arch::load_relaxed_gpu) |
//! | [`load_relaxed_gpu`](Arch::load_relaxed_gpu), [`store_relaxed_gpu`](Arch::store_relaxed_gpu), [`add_relaxed_gpu`](Arch::add_relaxed_gpu) | relaxed | device | nothing: counters; room that is given back, behind a fence |
//! | [`take_room_gpu`](Arch::take_room_gpu) | acquire subtraction | device | [`fence_acquire_sys`](Arch::fence_acquire_sys) in front of an [`add_relaxed_gpu`](Arch::add_relaxed_gpu), also by way of other additions; [`give_room_gpu`](Arch::give_room_gpu), also of a broadcast's number |
//! | [`take_place_gpu`](Arch::take_place_gpu) | acquire addition | device | [`tell_read_gpu`](Arch::tell_read_gpu) and [`take_ticket_gpu`](Arch::take_ticket_gpu) of the same mailbox, also by way of other additions |
//! | [`tell_read_gpu`](Arch::tell_read_gpu) | release addition of nothing | device | [`take_place_gpu`](Arch::take_place_gpu) and [`take_ticket_gpu`](Arch::take_ticket_gpu) |
//! | [`add_own_gpu`](Arch::add_own_gpu) | relaxed addition | device | nothing: what the shard has read comes before by its turn; it carries on what others have released there |
//! | [`give_room_gpu`](Arch::give_room_gpu) | release addition | device | [`take_room_gpu`](Arch::take_room_gpu), also by way of other additions; [`take_ticket_gpu`](Arch::take_ticket_gpu) of a broadcast's number |
//! | [`take_ticket_gpu`](Arch::take_ticket_gpu) | acquire and release addition | device | the other tickets of the same outbox or mailbox; [`give_room_gpu`](Arch::give_room_gpu) of a broadcast's number; of the shards that have not ended one, each other |
//! | [`load_relaxed_sys`](Arch::load_relaxed_sys), then [`fence_acquire_sys`](Arch::fence_acquire_sys) | relaxed, 8 bytes; acquire and release | system | the host's Release of an outbox's credit; [`take_room_gpu`](Arch::take_room_gpu) |
//! | [`advance_gpu`](Arch::advance_gpu) | acquire and release compare-and-swap | device | [`load_acquire_gpu`](Arch::load_acquire_gpu) of the epoch, and itself |
//! | [`fence_sc_gpu`](Arch::fence_sc_gpu) | sequentially consistent | device | itself: announcing a reader and looking for blocks, taking back blocks and reading the epoch, reading the epoch and looking at announcements |
//! | [`load_obeyed_gpu`](Arch::load_obeyed_gpu) | acquire | device | [`store_obeyed_gpu`](Arch::store_obeyed_gpu) |
//! | [`peek_obeyed_gpu`](Arch::peek_obeyed_gpu) | relaxed | device | nothing: a count |
//! | [`store_obeyed_gpu`](Arch::store_obeyed_gpu) | release | device | [`load_obeyed_gpu`](Arch::load_obeyed_gpu) |
//! | [`store_release_sys`](Arch::store_release_sys) | release, 8 bytes | system | the host's Acquire of the epoch obeyed, and of who reads an outbox |
//! | [`store_relaxed_sys`](Arch::store_relaxed_sys) | relaxed, 8 bytes | system | nothing: telemetry |
//! | [`try_acquire_cta`](Arch::try_acquire_cta) | acquire compare-and-swap from 0 to 1 | block | [`release_cta`](Arch::release_cta) |
//! | [`try_take_cta`](Arch::try_take_cta), then [`acquire_fence_cta`](Arch::acquire_fence_cta) | relaxed compare-and-swap, acquire fence | block | [`release_cta`](Arch::release_cta) |
//! | [`release_cta`](Arch::release_cta) | release store of 0 | block | [`try_acquire_cta`](Arch::try_acquire_cta), [`acquire_fence_cta`](Arch::acquire_fence_cta) |
//! | [`decrement_cta`](Arch::decrement_cta) | acquire and release | block | the other decrements of the same word |
//! | [`load_pool`](Arch::load_pool), [`store_pool`](Arch::store_pool), [`add_pool`](Arch::add_pool) | relaxed | block | nothing: ordered by the turn and the warp's syncs |
//! | [`count_pool`](Arch::count_pool) | relaxed | device, for the machine's sake | nothing: as above |
//! | [`load_early`](Arch::load_early) | none, 16 bytes | device | ordered by the turn |
//! | [`bring_near`](Arch::bring_near) | none, 16 bytes | device | nothing: nobody reads the copy |
//! | [`load_staged`](Arch::load_staged), [`store_staged`](Arch::store_staged), [`store_staged_if`](Arch::store_staged_if) | none, 16 bytes | block | ordered by the warp's syncs |
//! | [`load_cta`](Arch::load_cta), [`store_cta`](Arch::store_cta) | relaxed | block | ordered by the lock around them; elsewhere a hint |
//!
//! rustc's own read-modify-write atomics are not used: compiled for a GPU they are relaxed and of device scope whatever
//! ordering they are given.

#[cfg(not(target_arch = "nvptx64"))]
pub mod native;
#[cfg(target_arch = "nvptx64")]
pub mod nvptx;
#[cfg(not(target_arch = "nvptx64"))]
pub mod ordering;
#[cfg(all(feature = "simt", not(target_arch = "nvptx64")))]
pub mod simt;

use tourbillon_shared::slot::Chunk;

/// The machine that this is compiled for: for operations that do not ask which lane runs, in code that users call and that is
/// therefore not generic over machines. Simulated warps do them as threads do.
#[cfg(target_arch = "nvptx64")]
pub(crate) type Here = nvptx::Nvptx;
/// The machine that this is compiled for: for operations that do not ask which lane runs, in code that users call and that is
/// therefore not generic over machines. Simulated warps do them as threads do.
#[cfg(not(target_arch = "nvptx64"))]
pub(crate) type Here = native::Native;

/// The operations that the three machines have in common.
///
/// Collectives take the mask of the lanes that take part; all of them that have not left the kernel reach the same call with the same
/// mask. Lanes that have left are skipped.
pub trait Arch: Copy + 'static {
    /// Lanes of a whole warp, at most 32.
    const LANES: u32;
    /// Whether [`relax`](Self::relax) may sleep, so that a round of an idle warp can take milliseconds.
    const SLEEPS: bool;

    /// Looks at its only lane for which a gate's warp watches it before it looks up. What a warp does between two watches takes as long
    /// as some looks, and whatever comes meanwhile waits for it; a command waits for the end of the watch.
    const WATCH_ROUNDS: u32;
    /// As many looks of a shard's warp at the rings of its home, which take a fraction of one over the bus. Where there are letters a warp
    /// looks twice as often.
    const HOME_ROUNDS: u32;
    /// Two frames of one lane within this time are a burst: a client that waits for each reply takes longer, and one that is
    /// served in bursts has them. A simulation takes about a thousand times as long for a look.
    const BURST_NS: u64;

    /// The lane that runs, `0 .. LANES`.
    fn lane() -> u32;
    /// The warp in its block.
    fn warp() -> u32;
    /// The block in the grid.
    fn block() -> u32;
    /// The shared memory of the block, [`BLOCK_MEMORY_BYTES`](tourbillon_shared::geometry::BLOCK_MEMORY_BYTES) bytes, aligned
    /// to 128.
    fn block_memory() -> *mut u8;
    /// Waits until all threads of the block have come; orders their accesses to the block's memory. Only at the kernel's start,
    /// while all lanes live.
    fn block_barrier();

    /// The lanes of `mask` whose `predicate` holds.
    fn ballot(mask: u32, predicate: bool) -> u32;
    /// The value of lane `lane`; undefined when that lane has left.
    fn shuffle(mask: u32, value: u32, lane: u32) -> u32;
    /// The lanes of `mask` with the same value as the caller.
    fn match_any(mask: u32, value: u64) -> u32;
    /// Waits for the lanes of `mask`; orders their accesses to the block's memory.
    fn sync_warp(mask: u32);
    /// The lane leaves the kernel.
    fn exit_lane() -> !;

    /// Runs user code that may panic; whether it came to its end. On machines where a panic ends the lane, it does not return
    /// then.
    fn guard(f: impl FnOnce()) -> bool;
    /// Where the last code under [`guard`](Self::guard) panicked, on machines where it returns; else nothing.
    fn last_panic() -> tourbillon_shared::error::PanicPlace;

    /// Loads a chunk that another side of the bus may write.
    ///
    /// # Safety
    /// `from` is aligned to 16 and valid for reads of a chunk.
    unsafe fn load_chunk_sys(from: *const Chunk) -> Chunk;
    /// Stores a chunk that another side of the bus may read.
    ///
    /// # Safety
    /// `to` is aligned to 16 and valid for writes of a chunk.
    unsafe fn store_chunk_sys(to: *mut Chunk, chunk: Chunk);
    /// Loads sixteen bytes of a payload in an arena of host memory, not as one.
    ///
    /// # Safety
    /// As for [`load_chunk_sys`](Self::load_chunk_sys).
    unsafe fn load_payload_sys(from: *const Chunk) -> Chunk;
    /// Stores sixteen bytes of a payload in an arena of host memory, not as one.
    ///
    /// # Safety
    /// As for [`store_chunk_sys`](Self::store_chunk_sys).
    unsafe fn store_payload_sys(to: *mut Chunk, bytes: Chunk);
    /// What this lane loaded from host memory before is older than what it loads after.
    fn fence_acquire_sys();
    /// What this lane, and by a sync before it its warp, stored in host memory is seen by whoever sees what it stores after.
    fn fence_release_sys();

    /// Loads a chunk that another block may write.
    ///
    /// # Safety
    /// As for [`load_chunk_sys`](Self::load_chunk_sys).
    unsafe fn load_chunk_gpu(from: *const Chunk) -> Chunk;
    /// Stores a chunk that another block may read.
    ///
    /// # Safety
    /// As for [`store_chunk_sys`](Self::store_chunk_sys).
    unsafe fn store_chunk_gpu(to: *mut Chunk, chunk: Chunk);

    /// Loads a word with acquire at device scope.
    ///
    /// # Safety
    /// `from` is valid and aligned.
    unsafe fn load_acquire_gpu(from: *const u64) -> u64;
    /// Stores a word with release at device scope.
    ///
    /// # Safety
    /// `to` is valid and aligned.
    unsafe fn store_release_gpu(to: *mut u64, value: u64);
    /// Loads a counter of device memory.
    ///
    /// # Safety
    /// `from` is valid and aligned.
    unsafe fn load_relaxed_gpu(from: *const u64) -> u64;
    /// Stores a counter of device memory.
    ///
    /// # Safety
    /// `to` is valid and aligned.
    unsafe fn store_relaxed_gpu(to: *mut u64, value: u64);
    /// Loads the epoch that a warp obeys, with acquire at device scope.
    ///
    /// # Safety
    /// `from` is valid and aligned.
    unsafe fn load_obeyed_gpu(from: *const u32) -> u32;
    /// As [`load_obeyed_gpu`](Self::load_obeyed_gpu), relaxed: says nothing of what the warp did before. An acquire at device scope empties
    /// the first-level cache of the whole multiprocessor.
    ///
    /// # Safety
    /// `from` is valid and aligned.
    unsafe fn peek_obeyed_gpu(from: *const u32) -> u32;
    /// Stores the epoch that a warp obeys, with release at device scope.
    ///
    /// # Safety
    /// `to` is valid and aligned.
    unsafe fn store_obeyed_gpu(to: *mut u32, value: u32);
    /// Adds to a counter of device memory; what it was before is not returned, so nobody waits for it.
    ///
    /// # Safety
    /// `to` is valid and aligned.
    unsafe fn add_relaxed_gpu(to: *mut u64, value: u64);
    /// Subtracts from a counter of room, with acquire at device scope; the value before.
    ///
    /// # Safety
    /// `room` is valid and aligned.
    unsafe fn take_room_gpu(room: *mut u64, slots: u64) -> u64;
    /// Adds to a counter without any order; the value before. For room and tail of the shard's own mailbox, under its turn.
    ///
    /// # Safety
    /// `word` is valid and aligned.
    unsafe fn add_own_gpu(word: *mut u64, value: u64) -> u64;
    /// Adds to the tail of a mailbox, with acquire at device scope; the value before.
    ///
    /// # Safety
    /// `tail` is valid and aligned.
    unsafe fn take_place_gpu(tail: *mut u64, slots: u64) -> u64;
    /// Says at the tail of a mailbox that slots were read, with release at device scope: adds nothing to it. Nobody waits for it.
    ///
    /// # Safety
    /// `tail` is valid and aligned.
    unsafe fn tell_read_gpu(tail: *mut u64);
    /// Adds to a counter of room, with release at device scope; what it was before is not returned, so nobody waits for it.
    ///
    /// # Safety
    /// `room` is valid and aligned.
    unsafe fn give_room_gpu(room: *mut u64, slots: u64);
    /// Adds to the tail of a ring with many writers, with acquire and release at device scope; the value before.
    ///
    /// # Safety
    /// `tail` is valid and aligned.
    unsafe fn take_ticket_gpu(tail: *mut u64, slots: u64) -> u64;
    /// Moves a word that only grows on by one, with acquire and release at device scope, if it is still `from`.
    ///
    /// # Safety
    /// `word` is valid and aligned.
    unsafe fn advance_gpu(word: *mut u64, from: u64);
    /// A sequentially consistent fence at device scope: of two such fences one comes first, and what stands in front of it is seen behind
    /// the other.
    fn fence_sc_gpu();
    /// Loads a word of host memory, as one.
    ///
    /// # Safety
    /// `from` is valid and aligned.
    unsafe fn load_relaxed_sys(from: *const u64) -> u64;
    /// Stores a word of host memory.
    ///
    /// # Safety
    /// `to` is valid and aligned.
    unsafe fn store_relaxed_sys(to: *mut u64, value: u64);

    /// Stores a word of host memory with release at system scope.
    ///
    /// # Safety
    /// `to` is valid and aligned.
    unsafe fn store_release_sys(to: *mut u64, value: u64);

    /// Waits, where waiting is looking at the clock, until `now_ns` is `at_ns`; elsewhere not at all.
    fn wait_until(at_ns: u64);
    /// Moves a lock from 0 to `to`, relaxed; what it was before. For 0 this changes nothing: so lanes that ask for nothing can do what
    /// one lane does that asks, each with a word of its own, and no branch waits for the answer.
    ///
    /// # Safety
    /// `word` is aligned and leads to a word of the block's memory.
    unsafe fn try_take_cta(word: *mut u32, to: u32) -> u32;
    /// Orders what follows after a lock that [`try_take_cta`](Self::try_take_cta) found to be 0.
    fn acquire_fence_cta();
    /// Loads 16 bytes of device memory, which nobody writes meanwhile, here and not where they are needed.
    ///
    /// # Safety
    /// `from` is aligned and valid for reads.
    unsafe fn load_early(from: *const Chunk) -> Chunk;
    /// Brings a chunk of device memory into the cache that is nearest to this block, where a machine has one that stores push out of
    /// it, by copying it to `to`, which nobody reads. Nobody waits for it.
    ///
    /// # Safety
    /// `from` is aligned and valid for reads, and what was written there comes before this call by the warp's syncs; `to` is an
    /// aligned chunk of the block's memory that is used for nothing else.
    unsafe fn bring_near(from: *const Chunk, to: *mut Chunk);
    /// Loads a chunk of any memory, which nobody writes meanwhile: an instruction of its own on a GPU, where plain copies of more than
    /// 128 bytes are compiled into loops over single bytes.
    ///
    /// # Safety
    /// `from` is aligned and valid for reads.
    unsafe fn load_own(from: *const Chunk) -> Chunk;
    /// Loads a chunk of the block's memory, which nobody writes meanwhile.
    ///
    /// # Safety
    /// `from` is aligned and leads to a chunk of the block's memory.
    unsafe fn load_staged(from: *const Chunk) -> Chunk;
    /// Stores a chunk of the block's memory, which nobody else accesses meanwhile.
    ///
    /// # Safety
    /// As for [`load_staged`](Self::load_staged).
    unsafe fn store_staged(to: *mut Chunk, chunk: Chunk);
    /// The same, or nothing: a condition in place of a branch, after which the lanes would have to come together.
    ///
    /// # Safety
    /// As for [`store_staged`](Self::store_staged) where it `stores`.
    unsafe fn store_staged_if(stores: bool, to: *mut Chunk, chunk: Chunk);
    /// Takes a lock word of the block's memory: from 0 to 1, with acquire; whether that succeeded. Does nothing unless `tries`: a
    /// condition in place of a branch, behind which nothing could be done until the answer comes.
    ///
    /// # Safety
    /// `word` is a valid, aligned word of the block's memory.
    unsafe fn try_acquire_cta(word: *mut u32, tries: bool) -> bool;
    /// Gives a lock word back, with release.
    ///
    /// # Safety
    /// As for [`try_acquire_cta`](Self::try_acquire_cta), and the caller holds the lock.
    unsafe fn release_cta(word: *mut u32);
    /// Subtracts one from a word of the block's memory, with acquire and release; the value before.
    ///
    /// # Safety
    /// As for [`try_acquire_cta`](Self::try_acquire_cta).
    unsafe fn decrement_cta(word: *mut u32) -> u32;
    /// Loads a position of the block's memory.
    ///
    /// # Safety
    /// `from` is a valid, aligned word of the block's memory.
    unsafe fn load_cta(from: *const u64) -> u64;
    /// Stores a position of the block's memory.
    ///
    /// # Safety
    /// `to` is a valid, aligned word of the block's memory.
    unsafe fn store_cta(to: *mut u64, value: u64);

    /// Loads a word of a shard's pool: device memory that only warps of the shard's own block use.
    ///
    /// # Safety
    /// `from` is a valid, aligned word of device memory.
    unsafe fn load_pool(from: *const u64) -> u64;
    /// Stores a word of a shard's pool.
    ///
    /// # Safety
    /// As for [`load_pool`](Self::load_pool).
    unsafe fn store_pool(to: *mut u64, value: u64);
    /// Adds to a word of a shard's pool; the value before.
    ///
    /// # Safety
    /// As for [`load_pool`](Self::load_pool).
    unsafe fn add_pool(to: *mut u64, value: u64) -> u64;

    /// As [`add_pool`](Self::add_pool), where nobody asks what was there: a GPU waits for the answer of an addition where the function
    /// ends that asked for it, be it needed or not.
    ///
    /// # Safety
    /// As for [`add_pool`](Self::add_pool).
    unsafe fn count_pool(to: *mut u64, value: u64);

    /// The value, which is found where this stands: what is needed only behind a branch may be found in front of it, while the machine
    /// waits for something else.
    fn pin_u64(value: u64) -> u64;

    /// The device clock, nanoseconds from an arbitrary origin.
    fn now_ns() -> u64;
    /// A hint in a loop that waits for another warp of the same block or for the other side, when there was nothing to do
    /// `idle_rounds` times in a row.
    fn relax(idle_rounds: u32);
    /// Rests for about `ns` nanoseconds, where nobody waits for an answer.
    fn rest(ns: u32);
}
