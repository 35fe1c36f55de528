//! One message on its way through a handler.

use bytemuck::{CheckedBitPattern, Zeroable};
use tourbillon_shared::error::{FailureCode, PanicPlace};
use tourbillon_shared::frame::{payload_start, slots_for};
use tourbillon_shared::header::{Flags, Header};
use tourbillon_shared::slot::{DATA_WORDS_PER_CHUNK, Slot};

use crate::actor::{Actor, Handler, Message};

/// What a handler may know and do beside its own state.
#[derive(Debug)]
pub struct Context {
    key: u64,
    hlc: u64,
    version: u64,
}

impl Context {
    /// The key of the actor that runs.
    #[inline]
    pub fn key(&self) -> u64 {
        self.key
    }

    /// The timestamp of this message's receipt ([`tourbillon_shared::hlc`]): unique in the shard, later than the sender's and
    /// than every earlier one of the shard.
    #[inline]
    pub fn hlc(&self) -> u64 {
        self.hlc
    }

    /// How many messages the actor handled before this one without a failure.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version
    }
}

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Handled; the reply is written and the state stored.
    Done,
    /// The handler returned its typed error; that is the reply.
    Failed,
    /// The actor has no such message.
    Unknown,
    /// The payload is no value of the message.
    Invalid,
    /// The reply would not fit into the frame.
    TooLarge,
}

/// A frame in a warp's scratch memory, whose reply is written over its request.
#[derive(Debug)]
pub struct Call {
    /// First of `header.flags.span()` slots.
    frame: *mut Slot,
    header: Header,
    context: Context,
}

impl Call {
    /// A call for the frame at `frame`.
    ///
    /// # Safety
    /// `frame` points to the slots of `header`'s span, which nobody else accesses while the call lives.
    #[inline(always)]
    pub unsafe fn new(frame: *mut Slot, header: Header, hlc: u64, version: u64) -> Self {
        Self { frame, header, context: Context { key: header.key, hlc, version } }
    }

    /// The request's header.
    #[inline(always)]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Address of data word `index` of the frame.
    #[inline(always)]
    fn word(&self, index: u32) -> *mut u32 {
        // A frame's word `3 c + i` is word `i` of chunk `c`; chunks follow each other in memory, four words each.
        let chunk = index / DATA_WORDS_PER_CHUNK as u32;
        let offset = index.wrapping_add(chunk);
        self.frame.cast::<u32>().wrapping_add(offset as usize)
    }

    /// Decodes the message, runs its handler on a copy of the state, and stores the state only when the handler succeeded.
    ///
    /// # Safety
    /// `state` points to a valid state that nobody else accesses meanwhile.
    #[inline]
    #[doc(hidden)]
    pub unsafe fn answer<A: Handler<M>, M: Message>(&mut self, state: *mut A) -> Outcome {
        let span = self.header.flags.span();
        let answer_bytes = const {
            let (reply, error) = (size_of::<A::Reply>(), size_of::<A::Error>() + 4);
            if reply > error { reply } else { error }
        };
        if slots_for(0, answer_bytes) > span {
            return Outcome::TooLarge;
        }
        let Some(message) = self.message::<M>() else { return Outcome::Invalid };
        // SAFETY: the caller vouches for `state`.
        let mut copy = unsafe { state.read() };
        match copy.handle(&message, &mut self.context) {
            Ok(reply) => {
                // SAFETY: as above. The store comes last: a handler that panics never gets here.
                unsafe { state.write(copy) };
                self.write_payload(0, bytemuck::bytes_of(&reply));
                self.write_header(Flags::REPLY, size_of::<A::Reply>() as u16);
                Outcome::Done
            }
            Err(error) => {
                self.write_word(0, FailureCode::Handler as u32);
                self.write_payload(1, bytemuck::bytes_of(&error));
                self.write_header(Flags::REPLY | Flags::FAILED, size_of::<A::Error>() as u16 + 4);
                Outcome::Failed
            }
        }
    }

    /// The message in the frame, or nothing when its bytes are no value of `M`.
    #[inline(always)]
    fn message<M: CheckedBitPattern>(&self) -> Option<M> {
        if self.header.length as usize != size_of::<M>() {
            return None;
        }
        let mut bits = M::Bits::zeroed();
        let target = (&raw mut bits).cast::<u8>();
        let start = payload_start(self.header.flags);
        let words = size_of::<M>() / 4;
        let mut i = 0;
        while i < words {
            // SAFETY: the header was found well-formed, so its length lies inside the frame; `bits` has `words` whole
            // words, written byte-wise because it may be aligned to less than four.
            unsafe { target.add(i * 4).cast::<u32>().write_unaligned(self.word(start.wrapping_add(i as u32)).read()) };
            i += 1;
        }
        if !size_of::<M>().is_multiple_of(4) {
            // SAFETY: as above; the frame's payload is padded to whole words.
            let last = unsafe { self.word(start.wrapping_add(words as u32)).read() };
            let mut byte = words * 4;
            while byte < size_of::<M>() {
                // SAFETY: `byte` is below the size of `bits`.
                unsafe { target.add(byte).write((last >> (byte % 4 * 8)) as u8) };
                byte += 1;
            }
        }
        if !M::is_valid_bit_pattern(&bits) {
            return None;
        }
        // SAFETY: `bits` has the size of `M` and was found to be a valid value of it, which is what `CheckedBitPattern`
        // promises to suffice.
        Some(unsafe { (&raw const bits).cast::<M>().read() })
    }

    /// Writes bytes as payload of the answer, from payload word `first` on; answers have no extensions.
    #[inline(always)]
    fn write_payload(&mut self, first: u32, bytes: &[u8]) {
        let words = bytes.len() / 4;
        let source = bytes.as_ptr();
        let mut i = 0;
        while i < words {
            // SAFETY: `i` counts whole words of `bytes`.
            let word = unsafe { source.add(i * 4).cast::<u32>().read_unaligned() };
            self.write_word(first.wrapping_add(i as u32), word);
            i += 1;
        }
        if !bytes.len().is_multiple_of(4) {
            let mut last = 0u32;
            let mut byte = words * 4;
            while byte < bytes.len() {
                // SAFETY: `byte` is below the length.
                last |= u32::from(unsafe { source.add(byte).read() }) << (byte % 4 * 8);
                byte += 1;
            }
            self.write_word(first.wrapping_add(words as u32), last);
        }
    }

    /// Writes one payload word of the answer.
    #[inline(always)]
    fn write_word(&mut self, index: u32, word: u32) {
        let at = payload_start(Flags(0)).wrapping_add(index);
        // SAFETY: every caller checked that its answer fits into the span.
        unsafe { self.word(at).write(word) };
    }

    /// Writes the header of the answer over that of the request.
    #[inline(always)]
    fn write_header(&mut self, role: u16, length: u16) {
        let flags = Flags::new(self.header.flags.span(), role);
        let words = Header { length, flags, hint: 0, hlc: self.context.hlc, ..self.header }.encode();
        let mut i = 0;
        while i < words.len() {
            // SAFETY: every frame has room for a header.
            unsafe { self.word(i as u32).write(*words.as_ptr().add(i)) };
            i += 1;
        }
    }

    /// Answers with a failure that no handler caused.
    #[inline(always)]
    pub fn fail(&mut self, code: FailureCode, place: PanicPlace) {
        self.write_word(0, code as u32);
        self.write_word(1, place.line);
        self.write_word(2, place.column);
        self.write_word(3, place.file);
        let length = (tourbillon_shared::error::FAILURE_WORDS * 4) as u16;
        self.write_header(Flags::REPLY | Flags::FAILED, length);
    }
}

/// The failure of an outcome that is no answer yet.
#[inline(always)]
pub(crate) fn failure_of(outcome: Outcome) -> Option<FailureCode> {
    match outcome {
        Outcome::Done | Outcome::Failed => None,
        Outcome::Unknown => Some(FailureCode::UnknownMessage),
        Outcome::Invalid => Some(FailureCode::InvalidPayload),
        Outcome::TooLarge => Some(FailureCode::ReplyTooLarge),
    }
}

/// All zero: the first state of an actor without an `activate` of its own.
#[doc(hidden)]
#[inline(always)]
pub fn zeroed<A: Actor>() -> A {
    A::zeroed()
}
