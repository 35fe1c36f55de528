//! Letters as their receiver sees them: what they say of answers, and the answers to those that ask.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::error::FailureCode;
use tourbillon_shared::frame::{payload_start, slots_for};
use tourbillon_shared::geometry::KernelArguments;
use tourbillon_shared::header::{Arrival, Flags, HEADER_WORDS, Header, ReturnAddress};
use tourbillon_shared::mailbox::{ANSWER_HEAD_WORDS, LetterHint, MailboxState, SENDER_WORDS, Sender};
use tourbillon_shared::mutant;
use tourbillon_shared::slot::{CHUNKS_PER_SLOT, Chunk, DATA_WORDS_PER_CHUNK, Slot};
use tourbillon_shared::supervision::is_order;
use tourbillon_shared::telemetry::Counter;
use tourbillon_shared::virtual_actors::errand;

use super::letter::hlc_delta_of;
use super::{ring_of, shard_of, state_of};
use crate::arch::Arch;
use crate::frames::header_of;
use crate::stats::Stats;
use crate::words::{Staged, Words};

/// Data word of a header with its flags and length.
const SHAPE: u32 = 3;

/// What a staged letter says of answers, read before its handler runs, whose reply is written over it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    sender: Sender,
    hint: LetterHint,
    asks: bool,
}

impl Received {
    /// Of the staged frame; nothing when it is no letter, or one that answers a client.
    ///
    /// # Safety
    /// The frame is staged, and the caller's.
    #[inline(always)]
    pub(crate) unsafe fn of<A: Arch>(frame: *mut Slot) -> Option<Self> {
        // SAFETY: the caller vouches for the frame.
        let (header, words) = unsafe { (header_of(&*frame), Staged::<A>::new(frame)) };
        let hint = LetterHint::decode(header.hint)?;
        let asks = header.flags.has(Flags::SENDER);
        let mut sender = [0; SENDER_WORDS];
        if asks {
            let from = payload_start(header.flags).wrapping_sub(SENDER_WORDS as u32);
            let mut word = 0;
            while word < SENDER_WORDS {
                // SAFETY: `word` is below the array's length.
                unsafe { *sender.get_unchecked_mut(word) = words.word(from.wrapping_add(word as u32)) };
                word = word.wrapping_add(1);
            }
        }
        Some(Self { sender: Sender::decode(&sender), hint, asks })
    }

    /// Who sent it, where it wants an answer.
    #[inline(always)]
    pub(crate) fn sender(&self) -> Sender {
        self.sender
    }

    /// Whether it wants an answer.
    #[inline(always)]
    pub(crate) fn asks(&self) -> bool {
        self.asks
    }

    /// Whether its actor goes on by it.
    #[inline(always)]
    pub(crate) fn goes_on(&self) -> bool {
        self.hint.goes_on(self.asks)
    }

    /// Makes a staged letter, before it is run, what its handler expects: a frame of as many slots as the reply has; and gives the slots
    /// of an answer back to the share that they are from.
    ///
    /// # Safety
    /// The frame is staged, and the caller's; the warp holds the turn.
    #[inline(always)]
    pub(crate) unsafe fn prepare<A: Arch>(frame: *mut Slot, scratch: *const WarpScratch) {
        // SAFETY: the caller vouches for frame and scratch.
        unsafe {
            let header: Header = header_of(&*frame);
            match LetterHint::decode(header.hint) {
                Some(hint) if hint.is_answer => {
                    let (slots, arguments) = (u64::from(header.flags.span()), arguments_of(scratch));
                    let state = state_of(arguments, (*scratch).desk.shard);
                    if !mutant!("answers_keep_room") {
                        if (*scratch).errand == errand::NONE {
                            take_as_answer::<A>(state, slots);
                        }
                        A::add_pool(&raw mut (*state).answers, slots);
                    }
                }
                Some(_) => {}
                None => {
                    let span = ReturnAddress::decode(header.hint).span;
                    if span != 0 {
                        let flags = Flags::new(span.into(), header.flags.0);
                        let shape = u32::from(header.length) | u32::from(flags.0) << 16;
                        Staged::<A>::new(frame).set_word(SHAPE, shape);
                    }
                }
            }
        }
    }
}

/// Notes that `slots` slots which the shard has taken were of an answer: when it tells of what it has taken, it counts all as slots of
/// letters.
///
/// # Safety
/// The state is that of the mailbox of the shard whose turn the warp holds.
#[inline(always)]
pub(crate) unsafe fn take_as_answer<A: Arch>(state: *mut MailboxState, slots: u64) {
    // SAFETY: the caller vouches for the state.
    unsafe { A::add_relaxed_gpu(&raw mut (*state).room, slots.wrapping_neg()) };
}

/// Notes that the letter `header` waits for its actor. It runs from a copy, with others and while nobody reads the mailbox, so what its
/// slots were is noted now: else its shard would tell of room that there is not.
///
/// # Safety
/// The warp holds the turn of `shard`, and the frame came by a ring, not from among those that wait.
#[cold]
#[inline(never)]
pub(crate) unsafe fn note_waiting<A: Arch>(arguments: &KernelArguments, shard: u32, header: &Header) {
    let Some(hint) = LetterHint::decode(header.hint) else { return };
    // Orders are letters.
    if hint.is_answer && is_order(hint).is_none() && !mutant!("waiting_answers_keep_room") {
        // SAFETY: the caller vouches for the shard, which exists.
        unsafe { take_as_answer::<A>(state_of(arguments, shard), header.flags.span().into()) };
    }
}

/// What the kernel was launched with.
///
/// # Safety
/// `scratch` is a warp's, whose mail was filled when the kernel began.
#[inline(always)]
unsafe fn arguments_of<'a>(scratch: *const WarpScratch) -> &'a KernelArguments {
    // SAFETY: the caller vouches for the mail; the arguments live as long as the kernel runs.
    unsafe { &*((*scratch).mail.arguments as *const KernelArguments) }
}

/// Sends the reply that stands in the staged frame, or the failure, to the actor that asked. Its room was taken when the question was
/// sent: nothing here can stop or fail.
///
/// # Safety
/// The frame is staged and the caller's, and was the letter `received`, which asks; `scratch` is the warp's, which holds the turn.
#[cold]
#[inline(never)]
pub(crate) unsafe fn answer<A: Arch>(
    stats: Stats,
    received: &Received,
    frame: *mut Slot,
    event_hlc: u64,
    scratch: *const WarpScratch,
) {
    // SAFETY: the caller vouches for frame and scratch.
    unsafe {
        let arguments = arguments_of(scratch);
        let (reply, words, sender) = (header_of(&*frame), Staged::<A>::new(frame), received.sender);
        let is_failed = reply.flags.has(Flags::FAILED);
        let start = payload_start(Flags(0));
        let code = if is_failed { words.word(start) } else { 0 };
        // Of a failure that no handler returned nothing but its code is told.
        let (from, length) = if !is_failed {
            (start, u32::from(reply.length))
        } else if code == FailureCode::Handler as u32 {
            (start.wrapping_add(1), u32::from(reply.length).wrapping_sub(4))
        } else {
            (start, 0)
        };
        let value_words = length.div_ceil(4);
        let span = slots_for(0, received.hint.answer_bytes.into());
        let header = Header {
            key: sender.key,
            kind: sender.kind,
            message: sender.message,
            hops: 0,
            length: received.hint.answer_bytes,
            flags: Flags::new(span, Flags::TELL),
            hint: LetterHint { answer_bytes: 0, is_answer: true }.encode(),
            hlc: Arrival { device_ns: A::now_ns() as u32, hlc_delta: hlc_delta_of::<A>(arguments, event_hlc) }.encode(),
        }
        .encode();
        let shard = shard_of(arguments, sender.kind, sender.key);
        let state = state_of(arguments, shard);
        let (ring, shape) = (ring_of(arguments, shard), arguments.geometry.mailbox_shape());
        let mut position = A::take_ticket_gpu(&raw mut (*state).tail, span.into());
        let (mut slot, mut at) = (0, 0u32);
        while slot < span {
            let to = ring.wrapping_add(shape.index(position) as usize).cast::<Chunk>();
            let lap = shape.lap(position);
            let mut chunk = 0;
            while chunk < CHUNKS_PER_SLOT {
                let mut data = [0; DATA_WORDS_PER_CHUNK];
                let mut i = 0;
                while i < DATA_WORDS_PER_CHUNK {
                    let in_value = at.wrapping_sub(HEADER_WORDS as u32 + ANSWER_HEAD_WORDS);
                    *data.get_unchecked_mut(i) = match header.get(at as usize) {
                        Some(word) => *word,
                        None if at == HEADER_WORDS as u32 => sender.token,
                        None if at == HEADER_WORDS as u32 + 1 => code,
                        None if in_value < value_words => words.word(from.wrapping_add(in_value)),
                        None => 0,
                    };
                    at = at.wrapping_add(1);
                    i = i.wrapping_add(1);
                }
                A::store_chunk_gpu(to.wrapping_add(chunk), Chunk::new(data, lap));
                chunk = chunk.wrapping_add(1);
            }
            position = position.wrapping_add(1);
            slot = slot.wrapping_add(1);
        }
        let own = state_of(arguments, (*scratch).desk.shard);
        A::count_pool(&raw mut (*own).sent, 1);
    }
    stats.add::<A>(Counter::Letters, 1);
}
