//! Where the words of a frame are while its handler runs: in a warp's scratch, or in registers.

use core::marker::PhantomData;

use tourbillon_shared::frame::payload_start;
use tourbillon_shared::geometry::EntryHeader;
use tourbillon_shared::header::{Flags, Header};
use tourbillon_shared::host_actors::Duty;
use tourbillon_shared::outbox::Subscriber;
use tourbillon_shared::slot::{Chunk, DATA_WORDS_PER_CHUNK, DATA_WORDS_PER_SLOT, Slot};

use crate::actor::Actor;
use crate::arch::Arch;
use crate::call::Outcome;
use crate::context::Context;
use crate::{mailbox, outbox};

/// Where the words of a frame are while its handler runs; a reply is written over its request.
#[doc(hidden)]
pub trait Words: Sized {
    /// Slots of the frame, where all frames of the sort have the same.
    const SPAN: Option<u32>;
    /// Whether the frame is a letter to which nobody waits for an answer, so that none is written; its handler may post and send.
    const LETTER: bool = false;

    /// The same words once more, where each handler is compiled with a call of its own.
    #[inline(always)]
    fn again(&self) -> Option<Self> {
        None
    }
    /// Data word `index`, which lies inside the frame.
    fn word(&self, index: u32) -> u32;
    /// Writes data word `index`, which lies inside the frame.
    fn set_word(&mut self, index: u32, word: u32);
    /// The data word at which the payload of a request with these flags begins.
    fn payload_start(flags: Flags) -> u32;
    /// The answer is complete.
    fn finish(&self);
    /// The state at `state`, if the frame brought it along.
    ///
    /// # Safety
    /// The frame's actor is of type `T`, and its bytes are a value: the actor is not new, or of a type that starts all zero.
    unsafe fn state<T: Actor>(&self) -> Option<T>;
    /// Copies a value of more than [`COPIED_AT_ONCE_MAX`] bytes, and what is behind it in its last chunk.
    ///
    /// # Safety
    /// Both are aligned to a chunk, valid for all their chunks, apart from each other, and nobody else accesses them meanwhile.
    unsafe fn copy<T>(from: *const T, to: *mut T);
    /// The copy of the actor's entry, with its state behind it, that whoever runs the frame has made for the handler to work on, and brings
    /// back when that has succeeded. The actor is not new then.
    #[inline(always)]
    fn copied(&self) -> Option<*mut EntryHeader> {
        None
    }
    /// Reserves room for what was posted and sent: [`Outcome::Done`], or how the message is to fail.
    fn reserve(&self, header: &Header, context: &Context) -> Outcome;
    /// Sends what was posted, for which room was reserved.
    fn send(&self, header: &Header, context: &Context);
    /// Who serves host actors; nobody on the short ways, where none is handed anything.
    fn server(&self, _context: &Context) -> Subscriber {
        Subscriber::NOBODY
    }
    /// Whether the first notice that was posted has room and will be sent.
    fn has_room_for_first(&self, _context: &Context) -> bool {
        false
    }
    /// Whether there may be such a duty to answer.
    fn is_possible(&self, _duty: &Duty, _context: &Context) -> bool {
        false
    }
    /// Notes that the duty to answer the frame is somebody else's now.
    fn leave_unanswered(&self, _header: &Header, _context: &Context) {}
}

/// Values of more bytes than this are copied chunk by chunk: a compiler for GPUs makes a loop over single bytes of an assignment, in which
/// every byte waits for the one before. (For 256 bytes that took 7 us on an H100.)
pub(crate) const COPIED_AT_ONCE_MAX: usize = 128;
/// Chunks that are on their way at a time then; and in the loop of the short way, which has no registers to spare.
const COPIED_TOGETHER: usize = 16;
const COPIED_TOGETHER_IN_LOOP: usize = 2;

/// As [`Words::copy`].
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn copy_chunks<A: Arch, T, const TOGETHER: usize>(from: *const T, to: *mut T) {
    let (from, to, chunks) =
        (from.cast::<Chunk>(), to.cast::<Chunk>(), const { size_of::<T>().div_ceil(size_of::<Chunk>()) });
    let mut first = 0;
    while first < chunks {
        let mut values = [Chunk { words: [0; 4] }; TOGETHER];
        let mut i = 0;
        while i < TOGETHER {
            if first.wrapping_add(i) < chunks {
                // SAFETY: the caller vouches for the chunk; `i` is below the array's length.
                unsafe { *values.get_unchecked_mut(i) = A::load_own(from.wrapping_add(first.wrapping_add(i))) };
            }
            i = i.wrapping_add(1);
        }
        let mut i = 0;
        while i < TOGETHER {
            if first.wrapping_add(i) < chunks {
                // SAFETY: as above.
                unsafe { to.wrapping_add(first.wrapping_add(i)).write(*values.get_unchecked(i)) };
            }
            i = i.wrapping_add(1);
        }
        first = first.wrapping_add(TOGETHER);
    }
}

/// Chunks of a state that a message brings along in registers: those of a state of 64 bytes.
pub(crate) const IMAGE_CHUNKS: usize = 4;

/// The beginning of an entry: its header, and the state as far as it is that small. Loaded before it is known which handler takes
/// the message, so that the way to the second-level cache is not waited for.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    pub(crate) header: EntryHeader,
    chunks: [Chunk; IMAGE_CHUNKS],
}

impl Image {
    /// Of the entry at `entry`, which has room for `STATE_BYTES` of state.
    ///
    /// # Safety
    /// `entry` is an entry of the slab, and the caller holds its shard's turn.
    #[inline(always)]
    pub(crate) unsafe fn load<A: Arch>(entry: *const EntryHeader, state_bytes: usize) -> Self {
        let from = entry.cast::<Chunk>();
        let mut chunks = [Chunk { words: [0; 4] }; IMAGE_CHUNKS];
        // SAFETY: the caller vouches for the entry, whose state begins after the header and takes `state_bytes`.
        unsafe {
            let mut i = 0;
            while i < IMAGE_CHUNKS && i * size_of::<Chunk>() < state_bytes {
                *chunks.get_unchecked_mut(i) = A::load_early(from.wrapping_add(1 + i));
                i += 1;
            }
            let [a, b, c, d] = A::load_early(from).words;
            let header =
                EntryHeader { hlc: u64::from(a) | u64::from(b) << 32, version: u64::from(c) | u64::from(d) << 32 };
            Self { header, chunks }
        }
    }

    /// The state, when it is small enough to have come along.
    ///
    /// # Safety
    /// As for [`Words::state`].
    #[inline(always)]
    unsafe fn state<T: Actor>(&self) -> Option<T> {
        let fits = size_of::<T>() <= size_of::<[Chunk; IMAGE_CHUNKS]>() && align_of::<T>() <= align_of::<Chunk>();
        // SAFETY: the chunks are at least as large as the state, whose bytes they begin with and are, the
        // caller vouches, a value.
        fits.then(|| unsafe { (&raw const self.chunks).cast::<T>().read() })
    }
}

const _: () = assert!(size_of::<EntryHeader>() == size_of::<Chunk>());

/// The words of a frame of any length in a warp's scratch memory.
#[derive(Debug)]
pub struct Staged<A>(*mut Slot, PhantomData<A>);

impl<A> Staged<A> {
    /// The frame at `frame`.
    ///
    /// # Safety
    /// The slots of the frame's span are this caller's alone while the value lives.
    #[inline(always)]
    pub unsafe fn new(frame: *mut Slot) -> Self {
        Self(frame, PhantomData)
    }

    /// Address of data word `index` of the frame.
    #[inline(always)]
    fn at(&self, index: u32) -> *mut u32 {
        // A frame's word `3 c + i` is word `i` of chunk `c`; chunks follow each other in memory, four words each.
        let chunk = index / DATA_WORDS_PER_CHUNK as u32;
        self.0.cast::<u32>().wrapping_add(index.wrapping_add(chunk) as usize)
    }
}

impl<A: Arch> Words for Staged<A> {
    const SPAN: Option<u32> = None;

    #[inline(always)]
    fn word(&self, index: u32) -> u32 {
        // SAFETY: the word lies inside the frame, which is the caller's, as `new` was told.
        unsafe { self.at(index).read() }
    }
    #[inline(always)]
    fn set_word(&mut self, index: u32, word: u32) {
        // SAFETY: as in `word`.
        unsafe { self.at(index).write(word) }
    }
    #[inline(always)]
    fn payload_start(flags: Flags) -> u32 {
        payload_start(flags)
    }
    #[inline(always)]
    fn finish(&self) {}
    #[inline(always)]
    unsafe fn state<T: Actor>(&self) -> Option<T> {
        None
    }
    #[inline(always)]
    unsafe fn copy<T>(from: *const T, to: *mut T) {
        // SAFETY: the caller vouches for both.
        unsafe { copy_chunks::<A, T, COPIED_TOGETHER>(from, to) };
    }
    #[inline(always)]
    fn reserve(&self, header: &Header, context: &Context) -> Outcome {
        reserve::<A>(self, header, context)
    }
    #[inline(always)]
    fn send(&self, header: &Header, context: &Context) {
        send::<A>(self, header, context);
    }
    #[inline(always)]
    fn server(&self, context: &Context) -> Subscriber {
        // SAFETY: `deliver` told of the mail of this lane's warp.
        unsafe { outbox::server_of_hosts::<A>(context.mail) }
    }
    #[inline(always)]
    fn has_room_for_first(&self, context: &Context) -> bool {
        // SAFETY: as above; room was reserved.
        unsafe { outbox::has_room(context.mail, context.lane, 0) }
    }
    #[inline(always)]
    fn is_possible(&self, duty: &Duty, context: &Context) -> bool {
        // SAFETY: as above.
        unsafe { outbox::is_possible(context.mail, duty) }
    }
    #[inline(always)]
    fn leave_unanswered(&self, header: &Header, context: &Context) {
        // SAFETY: `deliver` told of the desk of this lane's warp; the frame is this lane's.
        unsafe {
            mailbox::note_handed_on(context.desk, context.lane, self.0.cast_const(), header.flags.span());
        }
    }
}

/// [`Words::reserve`] of a handler that may post and send, whose frame is staged.
#[inline(always)]
fn reserve<A: Arch>(frame: &Staged<A>, header: &Header, context: &Context) -> Outcome {
    let (notices, letters) = (context.notices(), context.letters());
    // SAFETY: `deliver` told of the mail of this lane's warp; no more than the most was posted.
    if notices != 0 && !unsafe { outbox::reserve::<A>(context.mail, context.lane, notices) } {
        return Outcome::OutboxFull;
    }
    if letters == 0 {
        return Outcome::Done;
    }
    // Copies: a call of which a part was lent out would be kept in memory as a whole.
    let (header, frame) = (*header, Staged(frame.0, PhantomData));
    // SAFETY: as above; so it did of the desk.
    let outcome = unsafe { mailbox::reserve::<A>(context.outgoing(), context.mail, letters, &header, &frame) };
    if outcome != Outcome::Done && notices != 0 {
        // SAFETY: as above; their room was reserved.
        unsafe { outbox::give_up::<A>(context.mail, context.lane, notices) };
    }
    outcome
}

/// [`Words::send`], as [`reserve`].
#[inline(always)]
fn send<A: Arch>(frame: &Staged<A>, header: &Header, context: &Context) {
    // SAFETY: as above; room was reserved.
    unsafe {
        let (mail, lane) = (context.mail, context.lane);
        if context.notices() != 0 {
            outbox::send::<A>(mail, lane, context.notices(), header.kind, context.key, context.hlc);
        }
        if context.letters() != 0 {
            let frame = (frame.0.cast_const(), header.flags.span());
            mailbox::send::<A>(context.outgoing(), mail, context.letters(), context.hlc, frame);
        }
    }
}

/// The words of a frame of one slot without extensions, held in registers: every index is a constant once the handler is
/// inlined. The answer is stored when it is complete: over the bus when it is `SENT`, otherwise into the stage.
#[derive(Debug)]
pub struct OneSlot<A, const SENT: bool> {
    words: [u32; DATA_WORDS_PER_SLOT],
    image: Image,
    to: *mut Chunk,
    lap: u32,
    arch: PhantomData<A>,
}

impl<A: Arch, const SENT: bool> OneSlot<A, SENT> {
    /// The words of a slot, which is for an actor of this image and whose answer goes to `to`, under the tag `lap`.
    ///
    /// # Safety
    /// `to` is the place of a slot that nobody else writes while the value lives.
    #[inline(always)]
    pub(crate) unsafe fn new(slot: &Slot, image: Image, to: *mut Chunk, lap: u32) -> Self {
        Self { words: words_of(slot), image, to, lap, arch: PhantomData }
    }
}

/// The data words of a slot.
#[inline(always)]
fn words_of(slot: &Slot) -> [u32; DATA_WORDS_PER_SLOT] {
    let [a, b, c, d] = slot.chunks.map(|chunk| chunk.words);
    [a[0], a[1], a[2], b[0], b[1], b[2], c[0], c[1], c[2], d[0], d[1], d[2]]
}

impl<A: Arch, const SENT: bool> Words for OneSlot<A, SENT> {
    const SPAN: Option<u32> = Some(1);

    #[inline(always)]
    fn word(&self, index: u32) -> u32 {
        // Never out of range; an index that could panic would be one more way out of the kernel.
        self.words.get(index as usize).copied().unwrap_or(0)
    }
    #[inline(always)]
    fn set_word(&mut self, index: u32, word: u32) {
        if let Some(place) = self.words.get_mut(index as usize) {
            *place = word;
        }
    }
    #[inline(always)]
    fn payload_start(_flags: Flags) -> u32 {
        payload_start(Flags(0))
    }
    #[inline(always)]
    fn finish(&self) {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = self.words;
        let chunks = [[a, b, c], [d, e, f], [g, h, i], [j, k, l]];
        let mut part = 0;
        while part < chunks.len() {
            // SAFETY: `part` is below the array's length; `new` was told of the place.
            unsafe {
                let (to, chunk) = (self.to.wrapping_add(part), Chunk::new(*chunks.get_unchecked(part), self.lap));
                if SENT { A::store_chunk_sys(to, chunk) } else { A::store_staged(to, chunk) }
            }
            part += 1;
        }
    }
    #[inline(always)]
    unsafe fn state<T: Actor>(&self) -> Option<T> {
        // SAFETY: the caller vouches for it.
        unsafe { self.image.state() }
    }
    #[inline(always)]
    unsafe fn copy<T>(from: *const T, to: *mut T) {
        // SAFETY: the caller vouches for both.
        unsafe { copy_chunks::<A, T, COPIED_TOGETHER_IN_LOOP>(from, to) };
    }
    #[inline(always)]
    fn reserve(&self, _header: &Header, _context: &Context) -> Outcome {
        // A handler that posts is left to the long way.
        Outcome::Posts
    }
    #[inline(always)]
    fn send(&self, _header: &Header, _context: &Context) {}
}

/// The words of a letter of one slot without extensions to which nobody waits for an answer. The frame stays staged as it came; the
/// actor's entry is staged as well.
#[derive(Debug)]
pub struct LoneLetter<A> {
    staged: Staged<A>,
    copied: *mut EntryHeader,
}

impl<A: Arch> LoneLetter<A> {
    /// The words of the letter staged at `frame`, for an actor whose entry is copied at `copied`.
    ///
    /// # Safety
    /// As for [`Staged::new`]; and the copy, which is that of an actor that is not new, is this caller's alone too.
    #[inline(always)]
    pub(crate) unsafe fn new(frame: *mut Slot, copied: *mut EntryHeader) -> Self {
        // SAFETY: the caller vouches for the frame.
        Self { staged: unsafe { Staged::new(frame) }, copied }
    }
}

impl<A: Arch> Words for LoneLetter<A> {
    const SPAN: Option<u32> = Some(1);
    const LETTER: bool = true;

    #[inline(always)]
    fn again(&self) -> Option<Self> {
        let (Staged(frame, _), copied) = (&self.staged, self.copied);
        Some(Self { staged: Staged(*frame, PhantomData), copied })
    }
    #[inline(always)]
    fn word(&self, index: u32) -> u32 {
        self.staged.word(index)
    }
    #[inline(always)]
    fn set_word(&mut self, _index: u32, _word: u32) {}
    #[inline(always)]
    fn payload_start(_flags: Flags) -> u32 {
        payload_start(Flags(0))
    }
    #[inline(always)]
    fn finish(&self) {}
    #[inline(always)]
    unsafe fn state<T: Actor>(&self) -> Option<T> {
        None
    }
    #[inline(always)]
    unsafe fn copy<T>(from: *const T, to: *mut T) {
        // SAFETY: the caller vouches for both.
        unsafe { copy_chunks::<A, T, COPIED_TOGETHER>(from, to) };
    }
    #[inline(always)]
    fn copied(&self) -> Option<*mut EntryHeader> {
        Some(self.copied)
    }
    #[inline(always)]
    fn reserve(&self, header: &Header, context: &Context) -> Outcome {
        reserve::<A>(&self.staged, header, context)
    }
    #[inline(always)]
    fn send(&self, header: &Header, context: &Context) {
        send::<A>(&self.staged, header, context);
    }
}
