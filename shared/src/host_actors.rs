//! Actors whose handlers are code of the host.
//!
//! # Protocol
//! A system lists such an actor as its others, and messages come to its shard as to any. There no handler runs: the shard hands the
//! message to the host, as a *notice* ([`crate::outbox`]) to the lane that serves host actors, and with it the [`Duty`] to answer. It
//! does not answer itself where somebody waits, as where a message is handed on.
//!
//! 1. *Handing over.* The notice's payload begins with the words of the duty and of the deadline ([`HANDED_HEAD_WORDS`]), its number is
//!    that of the message, and [`WAITS`] where somebody waits. Which lane serves is in the first lane's
//!    [`OutboxState::hosts`](crate::outbox::OutboxState::hosts). Without one, or without room in its outbox, the message fails.
//! 2. *Answering.* The host sends the actor a request with the number [`ANSWER`]: the duty, 0 or a
//!    [`FailureCode`](crate::error::FailureCode), the number of the message that is answered, and the reply or the typed error. It is
//!    taken from the lane that serves alone.
//! 3. *Delivering.* The shard makes a letter of it, to the same actor, with the number [`DELIVER`], which has the duty as if it had been
//!    handed on. Running it writes the reply, which goes to a client's lane or to the actor that asked, as any.
//!
//! Answering fails when there is no room for the letter, and may then be tried again. That each duty is answered once is the host's to
//! see to.

use crate::frame::{FRAME_SLOTS_MAX, PAYLOAD_BYTES_MAX};
use crate::header::ReturnAddress;
use crate::mailbox::{LetterHint, SENDER_WORDS, Sender};
use crate::outbox::Subscriber;

/// Number of the message by which the host answers.
pub const ANSWER: u8 = 255;
/// Number of the letter by which an answer comes to its duty.
pub const DELIVER: u8 = 254;
/// The highest number that a message of a host actor may have.
pub const HOST_MESSAGE_MAX: u8 = 253;
/// In the number of a notice that hands a message over: somebody waits for the answer.
pub const WAITS: u16 = 1 << 8;
/// Words of a [`Duty`].
pub const DUTY_WORDS: usize = 2 + SENDER_WORDS;
/// Words in front of the message in a notice: its duty, and the deadline, 0 for none.
pub const HANDED_HEAD_WORDS: usize = DUTY_WORDS + 2;
/// Words in front of the reply in an [`ANSWER`]: its duty, 0 or a failure code, and the number of the message that is answered.
pub const ANSWER_HEAD_WORDS: usize = DUTY_WORDS + 2;
/// Words in front of the reply in a [`DELIVER`]: 0 or a failure code.
pub const DELIVER_HEAD_WORDS: usize = 1;
/// Most bytes of a message to a host actor, of its replies, and of its typed errors: what a frame carries behind the words above.
pub const HOST_PAYLOAD_MAX: usize = PAYLOAD_BYTES_MAX - 4 * HANDED_HEAD_WORDS;

/// The duty to answer a message: who waits for the answer, and where it goes. Without meaning where nobody waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Duty {
    /// The hint of the message: a [`ReturnAddress`] with the span of the reply, or a [`LetterHint`].
    pub hint: u64,
    /// The actor that asked, where the hint is that of a letter.
    pub sender: Sender,
}

impl Duty {
    /// Its words.
    #[inline(always)]
    pub const fn encode(&self) -> [u32; DUTY_WORDS] {
        let [a, b, c, d] = self.sender.encode();
        [self.hint as u32, (self.hint >> 32) as u32, a, b, c, d]
    }

    /// The duty in those words. Any words are one.
    #[inline(always)]
    pub const fn decode(words: &[u32; DUTY_WORDS]) -> Self {
        let [low, high, a, b, c, d] = *words;
        Self { hint: low as u64 | (high as u64) << 32, sender: Sender::decode(&[a, b, c, d]) }
    }

    /// Whether an answer to it goes to an actor, or to a place of a lane, that there may be, in an engine of so many lanes:
    /// `lane_capacity` says of how many slots the rings of one are.
    #[inline(always)]
    pub fn is_possible(&self, lanes: u32, lane_capacity: impl FnOnce(u32) -> u32) -> bool {
        match LetterHint::decode(self.hint) {
            Some(hint) => !hint.is_answer && hint.answer_bytes as usize <= PAYLOAD_BYTES_MAX,
            None => {
                let address = ReturnAddress::decode(self.hint);
                let lane = address.lane as u32;
                lane < lanes
                    && address.span != 0
                    && address.span as usize <= FRAME_SLOTS_MAX
                    && (address.index as u32) < lane_capacity(lane)
            }
        }
    }
}

/// Who serves host actors, as a word; nobody is 0.
#[inline(always)]
pub const fn encode_server(server: Subscriber) -> u64 {
    server.lane as u64 | (server.generation as u64) << 32
}

/// Who serves host actors, from a word.
#[inline(always)]
pub const fn decode_server(word: u64) -> Subscriber {
    Subscriber { lane: word as u32, generation: (word >> 32) as u32 }
}

const _: () = {
    assert!(HOST_PAYLOAD_MAX == 320 && ANSWER_HEAD_WORDS <= HANDED_HEAD_WORDS);
    // A typed error has its code in front, which the head counts already; a letter has who asks beside it.
    assert!(4 * (DELIVER_HEAD_WORDS + SENDER_WORDS) + HOST_PAYLOAD_MAX <= PAYLOAD_BYTES_MAX);
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn duties_survive(hint: u64, key: u64, kind: u16, message: u8, token: u32) {
            let duty = Duty { hint, sender: Sender { key, kind, message, token } };
            prop_assert_eq!(Duty::decode(&duty.encode()), duty);
        }

        #[test]
        fn impossible_duties_are_found(hint: u64, lanes in 1u32..256, log2 in 3u32..16) {
            let duty = Duty { hint, sender: Sender::default() };
            let is_possible = duty.is_possible(lanes, |lane| { assert!(lane < lanes); 1 << log2 });
            match LetterHint::decode(hint) {
                Some(letter) => prop_assert_eq!(is_possible, !letter.is_answer && letter.answer_bytes <= 352),
                None => {
                    let address = ReturnAddress::decode(hint);
                    let fits = u32::from(address.lane) < lanes && u32::from(address.index) < 1 << log2;
                    prop_assert_eq!(is_possible, fits && (1..=8).contains(&address.span));
                }
            }
        }

        #[test]
        fn servers_survive(lane: u32, generation: u32) {
            let server = Subscriber { lane, generation };
            prop_assert_eq!(decode_server(encode_server(server)), server);
        }
    }
}
