//! Frames: 1 to 8 slots, one message.
//!
//! The data words of a frame's slots, one slot after the other, are its header, its extensions and its payload. A
//! request reserves as many slots as the larger of request and reply needs, its *span*; every slot of the span is written in
//! every lap, by the request and by the reply.

use crate::arena::ARENA_REF_WORDS;
use crate::error::FAILURE_WORDS;
use crate::header::{Flags, HEADER_WORDS, Header};
use crate::slot::DATA_WORDS_PER_SLOT;

/// Most slots of a frame.
pub const FRAME_SLOTS_MAX: usize = 8;
/// Data words of the largest frame.
pub const FRAME_WORDS_MAX: usize = FRAME_SLOTS_MAX * DATA_WORDS_PER_SLOT;
/// Payload bytes of the largest frame without extensions: 352.
pub const PAYLOAD_BYTES_MAX: usize = (FRAME_WORDS_MAX - HEADER_WORDS) * 4;
/// Payload bytes of a frame of one slot without extensions: 16.
pub const PAYLOAD_BYTES_OF_ONE_SLOT: usize = (DATA_WORDS_PER_SLOT - HEADER_WORDS) * 4;

/// Slots for a frame with `extension_words` words of extensions and `payload_bytes` of payload; more than
/// [`FRAME_SLOTS_MAX`] when it does not fit into a frame.
#[inline(always)]
pub const fn slots_for(extension_words: u32, payload_bytes: usize) -> u32 {
    let words = HEADER_WORDS + extension_words as usize + payload_bytes.div_ceil(4);
    words.div_ceil(DATA_WORDS_PER_SLOT) as u32
}

/// Slots that a call reserves: enough for the request, for the reply and for any failure.
///
/// `error_bytes` is the size of the actor's typed error.
#[inline(always)]
pub const fn span_of_call(extension_words: u32, request_bytes: usize, reply_bytes: usize, error_bytes: usize) -> u32 {
    let request = slots_for(extension_words, request_bytes);
    let failure_bytes = if error_bytes + 4 > FAILURE_WORDS * 4 { error_bytes + 4 } else { FAILURE_WORDS * 4 };
    let answer_bytes = if reply_bytes > failure_bytes { reply_bytes } else { failure_bytes };
    let answer = slots_for(0, answer_bytes);
    if request > answer { request } else { answer }
}

/// Whether a request's header agrees with itself: only flags that a client may set, a kind, and a payload inside the span.
#[inline(always)]
pub const fn is_well_formed(header: &Header) -> bool {
    let flags = header.flags;
    flags.0 & !Flags::OF_REQUESTS == 0
        && header.kind != 0
        && slots_for(flags.extension_words(), header.length as usize) <= flags.span()
}

/// First payload word of a frame with these flags, counted in data words.
#[inline(always)]
pub const fn payload_start(flags: Flags) -> u32 {
    HEADER_WORDS as u32 + flags.extension_words()
}

/// First word of a frame's arena reference, counted in data words; the flags have [`Flags::ARENA`]. It is the last extension.
#[inline(always)]
pub const fn arena_start(flags: Flags) -> u32 {
    payload_start(flags).wrapping_sub(ARENA_REF_WORDS)
}

/// Writes a frame without extensions into `words` and returns its data words per slot count (the span).
///
/// Payload bytes are little-endian in their words; the rest of the last word and of the span is zero.
///
/// # Errors
/// `FrameTooLarge` when header and payload do not fit into the span of the header's flags.
pub fn encode(header: &Header, payload: &[u8], words: &mut [u32; FRAME_WORDS_MAX]) -> Result<u32, FrameTooLarge> {
    let span = header.flags.span();
    let needed = slots_for(header.flags.extension_words(), payload.len());
    if needed > span {
        return Err(FrameTooLarge { payload_bytes: payload.len(), span });
    }
    words[..HEADER_WORDS].copy_from_slice(&header.encode());
    let start = payload_start(header.flags) as usize;
    let end = span as usize * DATA_WORDS_PER_SLOT;
    words[HEADER_WORDS..end].fill(0);
    for (word, bytes) in words[start..end].iter_mut().zip(payload.chunks(4)) {
        let mut padded = [0; 4];
        padded[..bytes.len()].copy_from_slice(bytes);
        *word = u32::from_le_bytes(padded);
    }
    Ok(span)
}

/// Copies the payload of a frame of `words` into `payload`; returns the bytes copied: the smaller of the frame's length and
/// `payload`'s.
pub fn decode_payload(header: &Header, words: &[u32], payload: &mut [u8]) -> usize {
    let start = payload_start(header.flags) as usize;
    let available = words.len().saturating_sub(start) * 4;
    let length = payload.len().min(usize::from(header.length)).min(available);
    for (i, byte) in payload[..length].iter_mut().enumerate() {
        *byte = words[start + i / 4].to_le_bytes()[i % 4];
    }
    length
}

/// The payload does not fit into the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameTooLarge {
    /// Size of the payload.
    pub payload_bytes: usize,
    /// Slots of the frame.
    pub span: u32,
}

impl core::fmt::Display for FrameTooLarge {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "a payload of {} bytes does not fit into {} slots; a frame carries at most {PAYLOAD_BYTES_MAX} bytes",
            self.payload_bytes, self.span
        )
    }
}

impl core::error::Error for FrameTooLarge {}

/// Slots that a call with a payload in the arena reserves, where the reply has a reference as well.
#[inline(always)]
pub const fn span_of_large_call(request_bytes: usize, reply_bytes: usize, error_bytes: usize) -> u32 {
    let reference = ARENA_REF_WORDS as usize * 4;
    span_of_call(0, request_bytes + reference, reply_bytes + reference, error_bytes)
}

const _: () = {
    assert!(PAYLOAD_BYTES_MAX == 352);
    // A message without bytes and its reference fill one slot.
    assert!(span_of_large_call(0, 0, 0) == 1);
    assert!(PAYLOAD_BYTES_OF_ONE_SLOT == 16);
    assert!(slots_for(0, PAYLOAD_BYTES_MAX) == 8);
    assert!(slots_for(0, PAYLOAD_BYTES_MAX + 1) == 9);
    assert!(slots_for(0, PAYLOAD_BYTES_OF_ONE_SLOT) == 1);
    // Any failure fits into one slot, so that even the smallest request can be refused.
    assert!(FAILURE_WORDS * 4 <= PAYLOAD_BYTES_OF_ONE_SLOT);
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::RingShape;
    use crate::ring::{Cells, read_slot, write_slot};
    use crate::slot::{Chunk, Slot};
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::vec::Vec;

    struct Memory(RefCell<Vec<Slot>>);

    impl Cells for Memory {
        fn load(&self, index: u32, chunk: u32) -> Chunk {
            self.0.borrow()[index as usize].chunks[chunk as usize]
        }
        fn store(&self, index: u32, chunk: u32, value: Chunk) {
            self.0.borrow_mut()[index as usize].chunks[chunk as usize] = value;
        }
    }

    fn header(span: u32, length: usize, flags: u16) -> Header {
        Header { key: 7, kind: 1, length: length as u16, flags: Flags::new(span, flags), ..Header::default() }
    }

    proptest! {
        /// Any payload, at any position, close to the ring's end and close to the laps' wrap.
        #[test]
        fn frames_round_trip_through_a_ring(
            payload in proptest::collection::vec(any::<u8>(), 0..=PAYLOAD_BYTES_MAX),
            more in 0u32..8,
            turn in 0u32..12,
            offset in 0u64..16,
        ) {
            let shape = RingShape::new(16).unwrap();
            let ring = Memory(RefCell::new(std::vec![Slot::default(); 16]));
            let position = shape.position_of_lap((u32::MAX - 3).wrapping_add(turn).max(1)) + offset;
            let span = (slots_for(0, payload.len()) + more).min(8);
            let header = header(span, payload.len(), 0);
            let mut words = [0xffff_ffff; FRAME_WORDS_MAX];
            prop_assert_eq!(encode(&header, &payload, &mut words), Ok(span));
            for slot in 0..span {
                let at = slot as usize * DATA_WORDS_PER_SLOT;
                prop_assert!(read_slot(&ring, shape, position + u64::from(slot)).is_none());
                let data = words[at..at + DATA_WORDS_PER_SLOT].try_into().unwrap();
                write_slot(&ring, shape, position + u64::from(slot), data);
            }
            let mut read = Vec::new();
            for slot in 0..span {
                read.extend(read_slot(&ring, shape, position + u64::from(slot)).unwrap());
                // The same slot is nothing in the next lap and was nothing in the last.
                prop_assert!(read_slot(&ring, shape, position + u64::from(slot) + 16).is_none());
            }
            let decoded = Header::decode(read[..HEADER_WORDS].try_into().unwrap());
            prop_assert_eq!(decoded, header);
            prop_assert!(is_well_formed(&decoded));
            let mut bytes = std::vec![0; payload.len()];
            prop_assert_eq!(decode_payload(&decoded, &read, &mut bytes), payload.len());
            prop_assert_eq!(bytes, payload);
        }

        /// Bytes from a hostile client decode to something that either is inside its span or is refused.
        #[test]
        fn hostile_headers_stay_inside_their_span(words: [u32; HEADER_WORDS]) {
            let header = Header::decode(&words);
            if is_well_formed(&header) {
                let end = payload_start(header.flags) as usize + usize::from(header.length).div_ceil(4);
                prop_assert!(end <= header.flags.span() as usize * DATA_WORDS_PER_SLOT);
                prop_assert!(header.flags.0 & !Flags::OF_REQUESTS == 0);
            }
            let frame = [0u32; FRAME_WORDS_MAX];
            let mut payload = [0u8; PAYLOAD_BYTES_MAX];
            prop_assert!(decode_payload(&header, &frame, &mut payload) <= PAYLOAD_BYTES_MAX);
        }

        #[test]
        fn a_span_holds_request_reply_and_failure(request in 0usize..=352, reply in 0usize..=352, error in 0usize..=348) {
            let span = span_of_call(0, request, reply, error);
            prop_assert!((1..=8).contains(&span));
            prop_assert!(slots_for(0, request) <= span && slots_for(0, reply) <= span);
            prop_assert!(slots_for(0, error + 4) <= span && slots_for(0, FAILURE_WORDS * 4) <= span);
        }
    }

    #[test]
    fn too_large_is_refused_not_cut() {
        let mut words = [0; FRAME_WORDS_MAX];
        assert!(encode(&header(1, 17, 0), &[0; 17], &mut words).is_err());
        assert!(encode(&header(8, 353, 0), &[0; 353], &mut words).is_err());
        assert_eq!(encode(&header(8, 352, 0), &[0; 352], &mut words), Ok(8));
        assert_eq!(encode(&header(1, 0, 0), &[], &mut words), Ok(1));
    }

    #[test]
    fn requests_that_contradict_themselves_are_not_well_formed() {
        assert!(is_well_formed(&header(1, 16, 0)));
        assert!(!is_well_formed(&header(1, 17, 0)));
        assert!(!is_well_formed(&header(1, 16, Flags::DEADLINE)));
        assert!(is_well_formed(&header(2, 16, Flags::DEADLINE)));
        assert!(!is_well_formed(&header(1, 0, Flags::REPLY)));
        assert!(is_well_formed(&header(1, 0, Flags::ARENA)) && !is_well_formed(&header(1, 1, Flags::ARENA)));
        assert!(!is_well_formed(&header(1, 0, Flags::MALFORMED)));
        assert!(!is_well_formed(&Header { kind: 0, ..header(1, 0, 0) }));
    }
}
