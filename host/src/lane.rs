//! A lane in shared memory as its holder sees it; the layout and protocol are in [`tourbillon_shared::lane`].

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use tourbillon_device::arch::native::{load_chunk, store_chunk};
use tourbillon_shared::frame::FRAME_SLOTS_MAX;
use tourbillon_shared::header::{HEADER_WORDS, Header};
use tourbillon_shared::lane::{LaneConstants, LaneError, LaneHeader};
use tourbillon_shared::outbox::{Credit, LaneNotices, OutboxState, Owner};
use tourbillon_shared::position::RingShape;
use tourbillon_shared::ring::{Cells, read_slot};
use tourbillon_shared::slot::{Chunk, SLOT_BYTES, Slot};

use crate::error::EngineError;
use crate::shared_memory::Mapping;

/// A lane in shared memory.
#[derive(Debug)]
pub struct Lane {
    mapping: Mapping,
    shape: RingShape,
    constants: LaneConstants,
    /// Whether an outbox of this process reads the lane's.
    has_outbox: AtomicBool,
    /// The last ticket of a block in the arenas: holders of the lane after each other go on counting.
    last_ticket: Arc<AtomicU32>,
}

/// The slots of one ring in memory that stays mapped for as long as this is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RingMemory {
    first: *mut Slot,
}

impl Cells for RingMemory {
    #[inline(always)]
    fn load(&self, index: u32, chunk: u32) -> Chunk {
        // SAFETY: an index is below the ring's capacity and a chunk below 4, so this lies inside the ring; slots are aligned
        // to 64.
        unsafe { load_chunk(self.chunk(index, chunk)) }
    }
    #[inline(always)]
    fn store(&self, index: u32, chunk: u32, value: Chunk) {
        // SAFETY: as in `load`.
        unsafe { store_chunk(self.chunk(index, chunk), value) }
    }
}

impl RingMemory {
    #[inline(always)]
    fn chunk(&self, index: u32, chunk: u32) -> *mut Chunk {
        self.first.wrapping_add(index as usize).cast::<Chunk>().wrapping_add(chunk as usize)
    }
}

impl Lane {
    /// Makes lane `number` with rings of `shape`, the first position of which is `first_position`, and arenas of `arena_bytes` bytes
    /// each, a length that arenas may have, and an outbox of two to the power of `outbox_log2` slots, 0 for none.
    ///
    /// # Errors
    /// [`EngineError::Io`] when there is no shared memory for it.
    pub(crate) fn create(
        number: u32,
        shape: RingShape,
        first_position: u64,
        arena_bytes: u32,
        outbox_log2: u32,
    ) -> Result<Self, EngineError> {
        let constants = LaneConstants::new(number, shape, first_position, arena_bytes, outbox_log2);
        let mapping = Mapping::shared("tourbillon-lane", constants.total_bytes as usize)
            .map_err(|source| EngineError::Io { what: "mapping a lane", source })?;
        // SAFETY: the mapping is page-aligned, has room for a lane's head, and nobody else sees it yet.
        unsafe { mapping.as_ptr().cast::<LaneConstants>().write(constants) };
        let lane = Self { mapping, shape, constants, has_outbox: AtomicBool::new(false), last_ticket: Arc::default() };
        lane.published().store(first_position, Ordering::Relaxed);
        lane.freed().store(first_position, Ordering::Relaxed);
        let position = constants.first_outbox_position();
        let credit = Credit { read: position as u32, owner: Owner::default() };
        lane.credit().store(credit.encode(), Ordering::Relaxed);
        lane.outbox_read().store(position, Ordering::Relaxed);
        Ok(lane)
    }

    /// Maps a lane that somebody else made, from its descriptor.
    ///
    /// # Errors
    /// [`EngineError::Lane`] when the memory is no lane of this program's binary interface, contradicts itself, or can still
    /// be resized by others; [`EngineError::Io`] when it cannot be mapped.
    pub fn attach(descriptor: impl AsFd) -> Result<Self, EngineError> {
        let io = |source: std::io::Error| EngineError::Io { what: "attaching to a lane", source };
        let file = descriptor.as_fd().try_clone_to_owned().map_err(io)?;
        let bytes = rustix::fs::fstat(&file).map_err(|error| io(error.into()))?.st_size.max(0) as usize;
        if bytes < size_of::<LaneHeader>() || !is_sealed(file.as_fd()) {
            return Err(EngineError::Lane(LaneError::BadLayout));
        }
        Self::accept(Mapping::of_file(file, bytes, bytes, true).map_err(io)?)
    }

    /// Takes a mapping for a lane if its constants check out.
    fn accept(mapping: Mapping) -> Result<Self, EngineError> {
        // SAFETY: the caller made sure that the mapping has room for a lane's head. The creator wrote the constants
        // before it gave the lane away; a hostile one that goes on writing can only make the check below fail, because what
        // is used from here on is the copy.
        let constants = unsafe { mapping.as_ptr().cast::<LaneConstants>().read_volatile() };
        let shape = constants.check(mapping.bytes() as u64)?;
        Ok(Self { mapping, shape, constants, has_outbox: AtomicBool::new(false), last_ticket: Arc::default() })
    }

    /// Number of the lane in its engine.
    pub fn number(&self) -> u32 {
        self.constants.lane
    }

    /// Slots of each of its two rings.
    pub fn capacity(&self) -> u32 {
        self.shape.capacity()
    }

    /// Bytes of each of its two arenas; 0 without.
    pub fn arena_bytes(&self) -> u32 {
        self.constants.arena_bytes
    }

    /// What another process maps to hold this lane; nothing where shared memory has no descriptor.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.mapping.descriptor()
    }

    pub(crate) fn shape(&self) -> RingShape {
        self.shape
    }

    pub(crate) fn constants(&self) -> &LaneConstants {
        &self.constants
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    pub(crate) fn requests(&self) -> RingMemory {
        self.ring(self.constants.request_offset)
    }

    pub(crate) fn replies(&self) -> RingMemory {
        self.ring(self.constants.reply_offset)
    }

    fn ring(&self, offset: u64) -> RingMemory {
        debug_assert!(offset as usize + self.capacity() as usize * SLOT_BYTES <= self.mapping.bytes());
        RingMemory { first: self.mapping.as_ptr().wrapping_add(offset as usize).cast() }
    }

    /// The outbox ring, where there is one.
    pub(crate) fn outbox_ring(&self) -> RingMemory {
        RingMemory { first: self.mapping.as_ptr().wrapping_add(self.constants.outbox_offset as usize).cast() }
    }

    /// What a device keeps of the outbox at first, if there is one.
    pub(crate) fn new_outbox(&self) -> Option<OutboxState> {
        let shape = self.constants.outbox_shape()?;
        Some(OutboxState::new(shape, self.constants.first_outbox_position()))
    }

    /// The last ticket that a holder of the lane gave to a block of its arenas.
    pub(crate) fn last_ticket(&self) -> &Arc<AtomicU32> {
        &self.last_ticket
    }

    /// Takes the right to read the outbox; whether nobody of this process has it.
    pub(crate) fn take_outbox(&self) -> bool {
        // Acquire pairs with the Release in `give_outbox_back`: what the last reader wrote in the lane's head is seen.
        self.has_outbox.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Gives it back.
    pub(crate) fn give_outbox_back(&self) {
        // Release pairs with the Acquire in `take_outbox`.
        self.has_outbox.store(false, Ordering::Release);
    }

    /// Whether somebody of this process has it.
    pub(crate) fn has_outbox(&self) -> bool {
        self.has_outbox.load(Ordering::Acquire)
    }

    /// The reader's word: a [`Credit`].
    pub(crate) fn credit(&self) -> &AtomicU64 {
        // SAFETY: as in `published`.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.head()).outbox.credit) }
    }

    /// The reader's word: how far the outbox was read.
    pub(crate) fn outbox_read(&self) -> &AtomicU64 {
        // SAFETY: as in `published`.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.head()).outbox.read) }
    }

    /// What the device tells of the outbox: words of its own, which it stores one by one. The owner comes first, with Acquire.
    pub(crate) fn notices(&self) -> LaneNotices {
        let told = self.head();
        // SAFETY: as in `published`; the line is written by words.
        let word = |at: *mut u64, ordering| unsafe { AtomicU64::from_ptr(at) }.load(ordering);
        // SAFETY: only addresses inside the lane's head.
        unsafe {
            LaneNotices {
                // Acquire pairs with the Release by which the control warp tells whom it knows: the counts are those of then, or later.
                owner: word(&raw mut (*told).notices.owner, Ordering::Acquire),
                posted: word(&raw mut (*told).notices.posted, Ordering::Relaxed),
                dropped: word(&raw mut (*told).notices.dropped, Ordering::Relaxed),
                refused: word(&raw mut (*told).notices.refused, Ordering::Relaxed),
                strayed: word(&raw mut (*told).notices.strayed, Ordering::Relaxed),
                reserved: [0; 11],
            }
        }
    }

    /// First bytes of the request arena and of the reply arena, and the length of each.
    pub(crate) fn arenas(&self) -> (*mut u8, *const u8, u32) {
        let (offset, bytes) = (self.constants.arena_offset as usize, self.constants.arena_bytes);
        debug_assert!(offset + 2 * bytes as usize <= self.mapping.bytes());
        let requests = self.mapping.as_ptr().wrapping_add(offset);
        (requests, requests.wrapping_add(bytes as usize), bytes)
    }

    /// The client's word: position after the last published request.
    pub(crate) fn published(&self) -> &AtomicU64 {
        // SAFETY: the mapping begins with a lane's head, which lives as long as `self`; the word is only accessed
        // atomically.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.head()).client.published) }
    }

    /// The client's word: position of the oldest unread reply.
    pub(crate) fn freed(&self) -> &AtomicU64 {
        // SAFETY: as in `published`.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.head()).client.freed) }
    }

    /// The client's word: process of the holder, 0 when the lane is free.
    pub(crate) fn process(&self) -> &AtomicU32 {
        // SAFETY: as in `published`.
        unsafe { AtomicU32::from_ptr(&raw mut (*self.head()).client.process) }
    }

    fn head(&self) -> *mut LaneHeader {
        self.mapping.as_ptr().cast()
    }

    /// Requests that are published and not answered: walks the frames between the client's two words.
    ///
    /// Exact while the client publishes nothing new; else a figure of some moment of the walk. Reads at most one capacity of
    /// slots, whatever the lane holds.
    pub(crate) fn unanswered(&self) -> u64 {
        let published = self.published().load(Ordering::Relaxed);
        let mut position = self.freed().load(Ordering::Relaxed);
        let mut count = 0;
        while published.wrapping_sub(position).wrapping_sub(1) < u64::from(self.capacity()) {
            let Some(words) = read_slot(&self.requests(), self.shape, position) else { break };
            let mut head = [0; HEADER_WORDS];
            head.copy_from_slice(&words[..HEADER_WORDS]);
            let span = Header::decode(&head).flags.span();
            debug_assert!((1..=FRAME_SLOTS_MAX as u32).contains(&span));
            count += u64::from(!is_answered(&self.replies(), self.shape, position, span));
            position = position.wrapping_add(u64::from(span));
        }
        count
    }
}

/// Whether every slot of the reply at `position` has come.
#[inline]
pub(crate) fn is_answered(replies: &RingMemory, shape: RingShape, position: u64, span: u32) -> bool {
    (0..u64::from(span)).all(|slot| read_slot(replies, shape, position.wrapping_add(slot)).is_some())
}

/// Whether nobody can shrink the memory under its users.
#[cfg(target_os = "linux")]
fn is_sealed(file: BorrowedFd<'_>) -> bool {
    rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(rustix::fs::SealFlags::SHRINK))
}

/// Other systems have no seals: their shared memory objects keep their size while mapped.
#[cfg(not(target_os = "linux"))]
fn is_sealed(_file: BorrowedFd<'_>) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane() -> Lane {
        Lane::create(3, RingShape::new(16).unwrap(), 0, 4096, 5).unwrap()
    }

    /// Writes constants over those of a lane that is only used to be attached to.
    fn forged(change: impl FnOnce(&mut LaneConstants)) -> Result<Lane, EngineError> {
        let lane = lane();
        // SAFETY: only this test uses the mapping.
        change(unsafe { &mut *lane.mapping.as_ptr().cast::<LaneConstants>() });
        Lane::attach(lane.descriptor().expect("Linux gives shared memory a descriptor"))
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_lane_is_attached_to_by_its_descriptor() {
        let other = forged(|_| ()).unwrap();
        assert_eq!((other.number(), other.capacity()), (3, 16));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn foreign_lanes_are_refused() {
        use LaneError::{BadLayout, NoLane, OtherAbi, OtherVersion};
        let error = |result: Result<Lane, EngineError>| match result {
            Err(EngineError::Lane(error)) => error,
            other => panic!("{other:?}"),
        };
        assert_eq!(error(forged(|c| c.magic = 5)), NoLane { magic: 5 });
        assert_eq!(error(forged(|c| c.version = 9)), OtherVersion { version: 9 });
        assert_eq!(error(forged(|c| c.abi_hash = 1)), OtherAbi { hash: 1 });
        assert_eq!(error(forged(|c| c.capacity_log2 = 16)), BadLayout);
        assert_eq!(error(forged(|c| c.reply_offset = 1 << 40)), BadLayout);
        assert_eq!(error(forged(|c| c.arena_offset = 0)), BadLayout);
        assert_eq!(error(forged(|c| c.outbox_offset = 0)), BadLayout);
        assert_eq!(error(forged(|c| c.outbox_log2 = 16)), BadLayout);
        assert_eq!(
            error(forged(|c| (c.arena_bytes, c.outbox_offset, c.total_bytes) =
                (1 << 20, c.arena_offset + (2 << 20), c.arena_offset + (3 << 20)))),
            BadLayout
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_others_may_shrink_is_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        assert!(matches!(Lane::attach(&file), Err(EngineError::Lane(LaneError::BadLayout))));
        let empty = tempfile::tempfile().unwrap();
        assert!(matches!(Lane::attach(&empty), Err(EngineError::Lane(LaneError::BadLayout))));
    }

    #[test]
    fn unanswered_requests_are_counted_and_hostile_words_end_the_walk() {
        use tourbillon_shared::header::Flags;
        use tourbillon_shared::ring::write_slot;
        let lane = lane();
        let mut words = [0; 12];
        for (position, span) in [(0, 1), (1, 2), (2, 2), (3, 1)] {
            let header = Header { kind: 1, flags: Flags::new(span, 0), ..Header::default() };
            words[..HEADER_WORDS].copy_from_slice(&header.encode());
            write_slot(&lane.requests(), lane.shape, position, &words);
        }
        lane.published().store(4, Ordering::Relaxed);
        assert_eq!(lane.unanswered(), 3);
        write_slot(&lane.replies(), lane.shape, 1, &words);
        assert_eq!(lane.unanswered(), 3, "half a reply is none");
        write_slot(&lane.replies(), lane.shape, 2, &words);
        assert_eq!(lane.unanswered(), 2);
        lane.published().store(u64::MAX, Ordering::Relaxed);
        assert_eq!(lane.unanswered(), 0, "words that contradict each other");
    }
}
