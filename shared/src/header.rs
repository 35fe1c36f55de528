//! The header of a frame: 32 bytes, the first eight data words of its first slot.
//!
//! | data word | content |
//! | --- | --- |
//! | 0, 1 | key of the actor, low word first |
//! | 2 | kind (low 16 bits), message number (8 bits), hops (upper 8 bits) |
//! | 3 | payload length in bytes (low 16 bits), flags (upper 16 bits) |
//! | 4, 5 | hint: a guess of the actor's place from the sender; between gate and shard the [`ReturnAddress`] |
//! | 6, 7 | the sender's timestamp ([`crate::hlc`]); between gate and shard an [`Arrival`] |
//!
//! After the header come the extensions that the flags announce, in the order of their flags, but that of [`Flags::ARENA`] last of all;
//! then the payload. In a reply the hint may carry the actor's version ([`Flags::VERSION`]).

/// Words of a header.
pub const HEADER_WORDS: usize = 8;

/// Flags of a frame.
///
/// The lowest three bits are the span minus one: how many slots request and reply both take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Flags {
    const SPAN_MASK: u16 = 0b111;
    /// The sender does not wait for the content of the reply, only for the reply's coming, which frees the slots.
    pub const TELL: u16 = 1 << 3;
    /// Of the higher of two priorities.
    pub const URGENT: u16 = 1 << 4;
    /// Extension of 2 words: the timestamp after which the message is worthless.
    pub const DEADLINE: u16 = 1 << 5;
    /// Extension of 4 words: an id for deduplication.
    pub const MESSAGE_ID: u16 = 1 << 6;
    /// Extension of 4 words: the sending actor: key (2), kind (1), correlation (1).
    pub const SENDER: u16 = 1 << 7;
    /// Extension of 6 words: trace id (4), span id (2).
    pub const TRACE: u16 = 1 << 8;
    /// Extension of 16 words: a vector clock of 16 members.
    pub const CAUSAL: u16 = 1 << 9;
    /// Extension of 4 words, in replies too: an [`ArenaRef`](crate::arena::ArenaRef) to a payload that is larger than a frame.
    pub const ARENA: u16 = 1 << 10;
    /// A reply.
    pub const REPLY: u16 = 1 << 11;
    /// A reply that reports a failure.
    pub const FAILED: u16 = 1 << 12;
    /// A reply that says: the answer comes later, elsewhere. Never sent yet.
    pub const DEFERRED: u16 = 1 << 13;
    /// In requests. Extension of 2 words: the version that the actor must have, or [`ANY_VERSION`](crate::options::ANY_VERSION). The
    /// reply says the version ([`VERSION`](Self::VERSION)). The bit is that of [`DEFERRED`](Self::DEFERRED), which only replies have.
    pub const IF_VERSION: u16 = 1 << 13;
    /// In replies: the hint is the actor's version after the message. The bit is that of [`URGENT`](Self::URGENT).
    pub const VERSION: u16 = Self::URGENT;
    /// In replies: the answer to an earlier message with the same id; this one was not run. The bit is that of
    /// [`MESSAGE_ID`](Self::MESSAGE_ID).
    pub const REPEATED: u16 = Self::MESSAGE_ID;
    /// Set by a gate, never accepted from a client: see [`FailureCode::MalformedFrame`](crate::error::FailureCode).
    pub const MALFORMED: u16 = 1 << 14;
    /// Set by a gate, never accepted from a client: see [`FailureCode::ClockDrift`](crate::error::FailureCode).
    pub const DRIFTED: u16 = 1 << 15;
    /// A message from an actor that its reader did not ask for ([`crate::outbox`]): no reply has [`TELL`](Self::TELL).
    pub const NOTICE: u16 = Self::REPLY | Self::TELL;
    /// What a client may set in a request.
    pub const OF_REQUESTS: u16 = Self::SPAN_MASK
        | Self::TELL
        | Self::URGENT
        | Self::DEADLINE
        | Self::MESSAGE_ID
        | Self::SENDER
        | Self::TRACE
        | Self::CAUSAL
        | Self::ARENA
        | Self::IF_VERSION;
    /// Options on which the shard acts ([`crate::options`]); a frame without them costs nothing for them.
    pub const OPTIONS: u16 = Self::DEADLINE | Self::MESSAGE_ID | Self::IF_VERSION;
    /// Any of these makes a frame a window of its own.
    pub const APART: u16 = Self::OPTIONS | Self::ARENA;

    /// The flags of a frame of `span` slots (1 to 8) with the bits `others`.
    #[inline(always)]
    pub const fn new(span: u32, others: u16) -> Self {
        Self((others & !Self::SPAN_MASK) | (span.wrapping_sub(1) as u16 & Self::SPAN_MASK))
    }

    /// Slots of the frame, 1 to 8.
    #[inline(always)]
    pub const fn span(self) -> u32 {
        (self.0 & Self::SPAN_MASK) as u32 + 1
    }

    /// Whether all bits of `bits` are set.
    #[inline(always)]
    pub const fn has(self, bits: u16) -> bool {
        self.0 & bits == bits
    }

    /// These flags and `bits`.
    #[inline(always)]
    #[must_use]
    pub const fn with(self, bits: u16) -> Self {
        Self(self.0 | bits)
    }

    /// Words of all extensions that these flags announce; of those, replies have that of [`ARENA`](Self::ARENA) alone.
    #[inline(always)]
    pub const fn extension_words(self) -> u32 {
        const EXTENSIONS: u16 = Flags::OPTIONS | Flags::SENDER | Flags::TRACE | Flags::CAUSAL | Flags::ARENA;
        if self.0 & EXTENSIONS == 0 {
            return 0;
        }
        let mut words = 0;
        if self.has(Self::ARENA) {
            words += crate::arena::ARENA_REF_WORDS;
        }
        if self.has(Self::REPLY) {
            return words;
        }
        if self.has(Self::DEADLINE) {
            words += 2;
        }
        if self.has(Self::MESSAGE_ID) {
            words += 4;
        }
        if self.has(Self::SENDER) {
            words += 4;
        }
        if self.has(Self::TRACE) {
            words += 6;
        }
        if self.has(Self::CAUSAL) {
            words += 16;
        }
        if self.has(Self::IF_VERSION) {
            words += 2;
        }
        words
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Key of the actor.
    pub key: u64,
    /// Kind of the actor; 0 is no kind.
    pub kind: u16,
    /// Number of the message among those of the kind.
    pub message: u8,
    /// How often the message was forwarded.
    pub hops: u8,
    /// Payload length in bytes.
    pub length: u16,
    /// Span, extensions and role.
    pub flags: Flags,
    /// See the module's table.
    pub hint: u64,
    /// See the module's table.
    pub hlc: u64,
}

impl Header {
    /// The header's words.
    #[inline(always)]
    pub const fn encode(&self) -> [u32; HEADER_WORDS] {
        [
            self.key as u32,
            (self.key >> 32) as u32,
            self.kind as u32 | (self.message as u32) << 16 | (self.hops as u32) << 24,
            self.length as u32 | (self.flags.0 as u32) << 16,
            self.hint as u32,
            (self.hint >> 32) as u32,
            self.hlc as u32,
            (self.hlc >> 32) as u32,
        ]
    }

    /// The header of these words. Any words make a header; whether it makes sense is for
    /// [`frame::is_well_formed`](crate::frame::is_well_formed).
    #[inline(always)]
    pub const fn decode(words: &[u32; HEADER_WORDS]) -> Self {
        Self {
            key: words[0] as u64 | (words[1] as u64) << 32,
            kind: words[2] as u16,
            message: (words[2] >> 16) as u8,
            hops: (words[2] >> 24) as u8,
            length: words[3] as u16,
            flags: Flags((words[3] >> 16) as u16),
            hint: words[4] as u64 | (words[5] as u64) << 32,
            hlc: words[6] as u64 | (words[7] as u64) << 32,
        }
    }
}

/// Where a reply goes: the same index and lap of the lane's reply ring.
///
/// A gate writes it over the hint: bits 0 to 31 lap, 32 to 47 index, 48 to 63 lane (48 to 55 its number, 56 to 59 the span, 63 whether the
/// frame came alone). A letter that hands on the duty to answer has it as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReturnAddress {
    /// Number of the lane in the engine.
    pub lane: u16,
    /// Index of the frame's first slot.
    pub index: u16,
    /// Lap of the frame's first slot.
    pub lap: u32,
    /// Whether the frame came alone, so that its reply shall go the quickest way, not the one that takes least of the bus.
    pub is_alone: bool,
    /// Slots that the reply has; 0: as many as the frame.
    pub span: u8,
}

impl ReturnAddress {
    /// The bit of `is_alone`, above those of the lane's number.
    const ALONE: u16 = 1 << 15;
    /// The bits of the lane's number.
    const LANE: u16 = 0xff;
    const SPAN_SHIFT: u32 = 8;
    const SPAN_MASK: u16 = 0xf;

    /// The address as a hint.
    #[inline(always)]
    pub const fn encode(self) -> u64 {
        let lane = if self.is_alone { self.lane | Self::ALONE } else { self.lane };
        let lane = lane | (self.span as u16) << Self::SPAN_SHIFT;
        (lane as u64) << 48 | (self.index as u64) << 32 | self.lap as u64
    }

    /// The address in a hint.
    #[inline(always)]
    pub const fn decode(hint: u64) -> Self {
        let lane = (hint >> 48) as u16;
        Self {
            lane: lane & Self::LANE,
            index: (hint >> 32) as u16,
            lap: hint as u32,
            is_alone: lane & Self::ALONE != 0,
            span: (lane >> Self::SPAN_SHIFT & Self::SPAN_MASK) as u8,
        }
    }
}

const _: () = assert!(crate::lane::LANES_MAX <= ReturnAddress::LANE as u32 + 1);

/// When a frame came, and the sender's timestamp relative to that. A shard adds the difference to its own later time: the result is
/// never before the sender's timestamp.
///
/// A gate writes it over the timestamp, so that a shard knows how long the frame waited: bits 0 to 31 are the low bits
/// of the device clock in nanoseconds, 32 to 63 the [`delta`](crate::hlc::delta) of the sender's timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Low 32 bits of the device clock, nanoseconds.
    pub device_ns: u32,
    /// The sender's timestamp minus the physical time of arrival, in units of the timestamp.
    pub hlc_delta: i32,
}

impl Arrival {
    /// The arrival in the place of a timestamp.
    #[inline(always)]
    pub const fn encode(self) -> u64 {
        self.device_ns as u64 | (self.hlc_delta as u32 as u64) << 32
    }

    /// The arrival that stands in the place of a timestamp.
    #[inline(always)]
    pub const fn decode(word: u64) -> Self {
        Self { device_ns: word as u32, hlc_delta: (word >> 32) as i32 }
    }

    /// The full device time of arrival, nanoseconds, for a frame that waited less than 2^32 ns.
    ///
    /// A frame that waited longer seems to have come later than it did, never later than `now_ns`.
    #[inline(always)]
    pub const fn full_ns(self, now_ns: u64) -> u64 {
        now_ns.wrapping_sub((now_ns as u32).wrapping_sub(self.device_ns) as u64)
    }
}

const _: () = {
    assert!(HEADER_WORDS * 4 == 32);
    assert!(crate::position::RING_CAPACITY_MAX <= 1 << 16);
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_words_round_trip(words: [u32; HEADER_WORDS]) {
            prop_assert_eq!(Header::decode(&words).encode(), words);
        }

        #[test]
        fn return_addresses_round_trip(lane in 0..crate::lane::LANES_MAX as u16, index: u16, lap: u32, is_alone: bool, span in 0u8..=8) {
            let address = ReturnAddress { lane, index, lap, is_alone, span };
            prop_assert_eq!(ReturnAddress::decode(address.encode()), address);
        }

        #[test]
        fn arrivals_are_restored(came in 0u64..u64::MAX / 2, waited in 0u64..u64::from(u32::MAX), hlc_delta: i32) {
            let arrival = Arrival { device_ns: came as u32, hlc_delta };
            prop_assert_eq!(Arrival::decode(arrival.encode()), arrival);
            prop_assert_eq!(arrival.full_ns(came + waited), came);
        }

        #[test]
        fn spans_do_not_touch_other_flags(span in 1u32..=8, others: u16) {
            let flags = Flags::new(span, others);
            prop_assert_eq!(flags.span(), span);
            prop_assert_eq!(flags.0 >> 3, others >> 3);
        }
    }

    #[test]
    fn extensions_add_up() {
        assert_eq!(Flags::new(1, 0).extension_words(), 0);
        let all = Flags::DEADLINE | Flags::MESSAGE_ID | Flags::SENDER | Flags::TRACE | Flags::CAUSAL | Flags::ARENA;
        assert_eq!(Flags::new(1, all).extension_words(), 36);
        assert_eq!(Flags::new(1, all | Flags::IF_VERSION).extension_words(), 38);
        assert_eq!(Flags::new(1, Flags::REPLY | all | Flags::DEFERRED).extension_words(), 4, "only the reference");
    }
}
