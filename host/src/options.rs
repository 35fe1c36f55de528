//! What a caller may say beside a message: a deadline, an id, the version that the actor must have, a correlation id.
//!
//! ```
//! use std::time::Duration;
//! use tourbillon::actors::counter::Add;
//! use tourbillon::{Backend, CallError, Engine, Options};
//!
//! let engine = Engine::builder().backend(Backend::Cpu).build()?;
//! let mut client = engine.client()?;
//! let add = Add { amount: 5, sender: 0, sequence: 1 };
//!
//! // Sent twice under one id, handled once.
//! let once = Options::new().message_id(77).expires_in(Duration::from_secs(1));
//! let first = client.call_with(7, add, once)?;
//! let again = client.call_with(7, add, once)?;
//! assert_eq!((first.value, first.version, first.is_repeated), (again.value, 1, false));
//! assert!(again.is_repeated);
//!
//! // An update of what was read goes through only when nobody else was quicker.
//! client.call_with(7, add, Options::new().if_version(first.version))?;
//! let stale = client.call_with(7, add, Options::new().if_version(first.version));
//! assert_eq!(stale, Err(CallError::StaleVersion { current: 2 }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The device acts on them when the message is about to run: first the id, then the deadline, then the version. What each costs, and what
//! becomes of messages that are refused, stands in `docs/options.md`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tourbillon_device::{Actor, ErrorOf, Message, ReplyOf};
use tourbillon_shared::frame::{FRAME_SLOTS_MAX, PAYLOAD_BYTES_MAX, span_of_call};
use tourbillon_shared::header::{Flags, Header};
use tourbillon_shared::hlc;
use tourbillon_shared::mutant;
use tourbillon_shared::options::{ANY_VERSION, Extensions, OPTION_WORDS_MAX};

use crate::call_error::{CallError, SendError};
use crate::keys::Key;
use crate::telemetry::unix_ns;

/// Options of one message. Nothing is set at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "options do nothing until a message is sent with them"]
pub struct Options {
    extensions: Extensions,
    is_urgent: bool,
    correlation: Option<u64>,
}

/// A reply to a call with [`Options`], and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer<R> {
    /// What the handler returned.
    pub value: R,
    /// The actor's version after the message, for a repeated one after the first: how many it has handled without a failure. What
    /// [`Options::if_version`] of the next update needs.
    pub version: u64,
    /// Whether the message was handled before under its id, so that this is the answer of then.
    pub is_repeated: bool,
    /// What [`Options::correlation`] said; without it a number that no other call with options of this process has.
    pub correlation: u64,
    /// Timestamp ([`tourbillon_shared::hlc`]) of the message's receipt.
    pub hlc: u64,
}

/// A request with its options, as a lane takes it.
#[derive(Debug)]
pub(crate) struct OptionedRequest {
    pub(crate) header: Header,
    body: [u8; PAYLOAD_BYTES_MAX],
    length: usize,
}

impl OptionedRequest {
    /// What follows the header: extensions and message.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body[..self.length]
    }
}

impl Options {
    /// No option at all.
    pub const fn new() -> Self {
        Self {
            extensions: Extensions { deadline: None, message_id: None, if_version: None },
            is_urgent: false,
            correlation: None,
        }
    }

    /// The message is worthless when the device's clock has passed the physical time of this timestamp ([`tourbillon_shared::hlc`])
    /// before its handler begins: it is then not run, but answered with [`CallError::DeadlinePassed`], counted, and kept as a dead
    /// letter. Also when the deadline is past already when the message is sent: the device decides, and nobody else.
    ///
    /// Host and device clock are some microseconds apart. What waits in a staging queue, a ring, a pause or a relaunch grows old
    /// meanwhile; a handler that has begun is not ended.
    pub const fn deadline(mut self, hlc: u64) -> Self {
        self.extensions.deadline = Some(hlc);
        self
    }

    /// As [`deadline`](Self::deadline), so long after now: after this call, not after the message is sent.
    pub fn expires_in(self, time: Duration) -> Self {
        let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.deadline(hlc::physical_from_unix_ns(unix_ns().saturating_add(time_ns)))
    }

    /// The message is handled once under this id, however often it is sent, by whomever, as long as its shard remembers the id: among
    /// its last [`dedup_window`](crate::EngineBuilder::dedup_window) messages with an id. The id counts together with the
    /// actor, so ids of messages to different actors never meet.
    ///
    /// A repeated message is answered with the first one's reply ([`Answer::is_repeated`]), or with [`CallError::Duplicate`] where that
    /// was larger than 16 bytes. Only what succeeded is remembered: a message that failed left no trace, and may be sent again under
    /// the same id. An id that the shard has forgotten is new.
    pub const fn message_id(mut self, id: u128) -> Self {
        self.extensions.message_id = Some(id);
        self
    }

    /// The message is handled only when the actor's version is this one; else it is answered with [`CallError::StaleVersion`], which
    /// tells the version, and its handler is not run. An actor that does not exist has version 0, and comes into being only by a
    /// message that expects that. `u64::MAX` stands for any version.
    pub const fn if_version(mut self, version: u64) -> Self {
        self.extensions.if_version = Some(version);
        self
    }

    /// The message is of the higher of two priorities: it passes all others of its client or gateway that wait in a staging queue, in
    /// a ring, or for room in their shard's. What a gate has handed to the shard already comes first: at most the 256 slots of
    /// their ring. Urgent messages keep their order among each other, for each actor; there is none between the two priorities.
    ///
    /// They have a lane of their own, which a client takes for its first one ([`Client::urgent_lane`](crate::Client::urgent_lane)), and
    /// a gateway when it is built with `urgent_lanes`.
    pub const fn urgent(mut self) -> Self {
        self.is_urgent = true;
        self
    }

    /// A number of the caller's, which comes back in [`Answer::correlation`]. It stays on the host.
    pub const fn correlation(mut self, id: u64) -> Self {
        self.correlation = Some(id);
        self
    }

    /// The correlation id, chosen now if the caller has not chosen one.
    pub(crate) fn correlate(&mut self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Relaxed: only that numbers differ matters.
        *self.correlation.get_or_insert_with(|| NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The request of `message` to the actor `key`: a call, or a tell where `role` says so.
    pub(crate) fn request<M: Message>(
        &self,
        key: impl Into<Key>,
        message: &M,
        role: u16,
    ) -> Result<OptionedRequest, SendError> {
        let key: Key = key.into();
        let mut extensions = self.extensions;
        if role & Flags::TELL == 0 {
            // Who waits for an answer gets the version.
            extensions.if_version.get_or_insert(ANY_VERSION);
        }
        let mut words = [0; OPTION_WORDS_MAX];
        let count = extensions.encode(&mut words);
        let message = message.as_bytes();
        let span = span_of_call(count as u32, message.len(), size_of::<ReplyOf<M>>(), size_of::<ErrorOf<M>>());
        let before = count * 4;
        let most = PAYLOAD_BYTES_MAX - before;
        if span > FRAME_SLOTS_MAX as u32 || message.len() > most {
            return Err(SendError::PayloadTooLarge { bytes: message.len(), most });
        }
        let header = Header {
            key: key.number(),
            kind: key.kind_word(<M::Actor as Actor>::KIND),
            message: M::NUMBER,
            length: message.len() as u16,
            flags: Flags::new(span, role | extensions.flags() | if self.is_urgent { Flags::URGENT } else { 0 }),
            ..Header::default()
        };
        let length = before + message.len();
        let mut body = [0; PAYLOAD_BYTES_MAX];
        for (to, word) in body.chunks_exact_mut(4).zip(&words[..count]) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        body[before..length].copy_from_slice(message);
        Ok(OptionedRequest { header, body, length })
    }
}

/// The answer in a reply to a call with options.
pub(crate) fn answer_of<R, E>(value: R, header: &Header, correlation: u64) -> Result<Answer<R>, CallError<E>> {
    if !header.flags.has(Flags::VERSION) {
        return Err(CallError::InvalidReply);
    }
    let is_repeated = header.flags.has(Flags::REPEATED);
    Ok(Answer { value, version: header.hint, is_repeated, correlation, hlc: header.hlc })
}

/// Bytes of what follows a request's header, without what leads to an arena.
pub(crate) fn body_bytes(header: &Header) -> usize {
    let options = Flags(header.flags.0 & Flags::OPTIONS).extension_words();
    let options = if mutant!("staged_options_cut") { 0 } else { options };
    usize::from(header.length) + options as usize * 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use tourbillon_device::NoError;
    use tourbillon_shared::frame::{FRAME_WORDS_MAX, decode_payload, is_well_formed};

    use tourbillon_actors::counter::Get;
    use tourbillon_actors::echo::{Ping64, Ping352};

    #[test]
    fn requests_carry_their_options_in_front_of_the_message() {
        let all = Options::new().deadline(3 << 40).message_id(5 << 100).if_version(9);
        let ping = Ping64 { words: [0; 16] };
        let request = all.request::<Ping64>(4, &ping, 0).unwrap();
        assert!(is_well_formed(&request.header));
        assert_eq!(request.body().len(), 32 + size_of::<Ping64>());
        assert_eq!(body_bytes(&request.header), request.body().len());
        let mut words = [0; FRAME_WORDS_MAX];
        for (i, bytes) in request.body().chunks(4).enumerate() {
            words[8 + i] = u32::from_le_bytes(bytes.try_into().unwrap());
        }
        let mut payload = [1; size_of::<Ping64>()];
        assert_eq!(decode_payload(&request.header, &words, &mut payload), size_of::<Ping64>());
        assert_eq!(payload, [0; size_of::<Ping64>()]);
        assert_eq!((words[9], words[10], words[13], words[14]), (3 << 8, 0, 5 << 4, 9));
    }

    #[test]
    fn a_call_asks_for_the_version_and_a_tell_does_not() {
        let call = Options::new().request::<Get>(1, &Get {}, 0).unwrap();
        assert_eq!((call.header.flags.0 & Flags::OPTIONS, call.body()), (Flags::IF_VERSION, &[0xff; 8][..]));
        let tell = Options::new().request::<Get>(1, &Get {}, Flags::TELL).unwrap();
        assert_eq!((tell.header.flags.0 & Flags::OPTIONS, tell.body().len()), (0, 0));
    }

    #[test]
    fn what_no_frame_carries_is_refused_with_the_most_that_fits() {
        let ping = Ping352 { words: [0; 88] };
        let refused = Options::new().message_id(1).request::<Ping352>(1, &ping, 0).unwrap_err();
        assert_eq!(refused, SendError::PayloadTooLarge { bytes: 352, most: 328 });
        assert!(Options::new().request::<Ping352>(1, &ping, Flags::TELL).is_ok());
    }

    #[test]
    fn correlation_ids_are_the_callers_or_of_their_own() {
        let mut chosen = Options::new().correlation(0);
        assert_eq!(chosen.correlate(), 0);
        assert_ne!(Options::new().correlate(), Options::new().correlate());
    }

    #[test]
    fn an_answer_without_a_version_is_none() {
        let header = Header { flags: Flags::new(1, Flags::REPLY), ..Header::default() };
        assert_eq!(answer_of::<u8, NoError>(1, &header, 2), Err(CallError::InvalidReply));
        let flags = Flags::new(1, Flags::REPLY | Flags::VERSION | Flags::REPEATED);
        let header = Header { flags, hint: 8, hlc: 4, ..header };
        let answer = Answer { value: 1, version: 8, is_repeated: true, correlation: 2, hlc: 4 };
        assert_eq!(answer_of::<u8, NoError>(1, &header, 2), Ok(answer));
    }
}
