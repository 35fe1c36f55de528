//! Load with payloads larger than a frame: each is made from its actor's key and its message's number, goes to a `Blob`, and must
//! come back as it went.

use std::collections::VecDeque;

use tourbillon::abi::arena::{LARGE_BYTES_MAX, block_bytes};
use tourbillon::actors::blob::{Mirror, Seen};
use tourbillon::{CallError, Client, ErrorOf, LargePipeline, ReplyOf, SendError};

use super::judge::{Faults, Judge};
use super::keys::{KeyChooser, key_of};
use super::options::LoadOptions;
use super::pump::{Drive, pump_over};
use super::source::{Check, Link, Source, Ticket};
use crate::random::{Random, mix};

/// Longest arena of a lane that is asked for: with all lanes of an engine and both directions still far below what a machine has.
const ARENA_MOST: u32 = 64 << 20;

/// Bytes of a lane's arenas for `outstanding` payloads of `bytes` bytes; as many as fit into [`ARENA_MOST`].
pub(super) fn arena_bytes(bytes: usize, outstanding: u64) -> u32 {
    let block = block_bytes(bytes.min(LARGE_BYTES_MAX) as u32, bytes.min(LARGE_BYTES_MAX) as u32);
    let wanted = u64::from(block) * outstanding;
    wanted.clamp(block.into(), ARENA_MOST.into()) as u32
}

/// Runs one client; its faults.
pub(super) fn run(
    client: &mut Client,
    number: u32,
    options: &LoadOptions,
    chooser: KeyChooser,
    drive: &mut Drive<'_>,
) -> Faults {
    let mut mirrors = Mirrors {
        judge: Judge::new(options.keys as usize),
        seed: options.seed,
        chooser,
        random: Random::new(options.seed, u64::from(number)),
        client: number,
    };
    let slots = client.lane().capacity() as usize;
    let buffer = vec![0; options.payload];
    let link = Carrier { pipeline: client.large_pipeline(), in_flight: VecDeque::new(), buffer };
    pump_over(link, slots, &mut mirrors, drive);
    mirrors.judge.faults()
}

/// What follows from a key and a message's word.
fn fill(bytes: &mut [u8], key: u64, word: u64) {
    let start = mix(key ^ mix(word));
    for (i, part) in (0u64..).zip(bytes.chunks_mut(8)) {
        let value = start.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        part.copy_from_slice(&value.to_le_bytes()[..part.len()]);
    }
}

/// Makes payloads and compares what comes back.
struct Carrier<'c> {
    pipeline: LargePipeline<'c, Mirror>,
    /// Key and word of each message in flight, oldest first.
    in_flight: VecDeque<(u64, u64)>,
    /// For making a payload, and for making it again.
    buffer: Vec<u8>,
}

impl Link<Mirror> for Carrier<'_> {
    fn push(&mut self, key: u64, message: &Mirror) -> Result<bool, SendError> {
        fill(&mut self.buffer, key, message.word);
        let is_sent = self.pipeline.push(key, message, &self.buffer, self.buffer.len())?;
        if is_sent {
            self.in_flight.push_back((key, message.word));
        }
        Ok(is_sent)
    }

    fn try_pop(&mut self) -> Option<Result<ReplyOf<Mirror>, CallError<ErrorOf<Mirror>>>> {
        let &(key, word) = self.in_flight.front()?;
        let buffer = &mut self.buffer;
        let taken = self.pipeline.try_pop_with(|payload| {
            fill(buffer, key, word);
            payload == &**buffer
        })?;
        self.in_flight.pop_front();
        Some(taken.and_then(|(seen, is_same)| if is_same { Ok(seen) } else { Err(CallError::InvalidReply) }))
    }
}

struct Mirrors {
    judge: Judge,
    seed: u64,
    chooser: KeyChooser,
    random: Random,
    client: u32,
}

impl Mirrors {
    /// The word of a message: that of no other message of any client to the key.
    fn word(&self, number: u64) -> u64 {
        (number << 8) | u64::from(self.client)
    }
}

impl Source<Mirror> for Mirrors {
    fn next(&mut self) -> Option<(u64, Mirror, Ticket)> {
        let key = self.chooser.next(&mut self.random) as usize;
        let number = self.judge.number_next(key);
        let message = Mirror { word: self.word(number) };
        Some((key_of(self.seed, 0, key as u64), message, Ticket { key, number, expected: number - 1 }))
    }

    fn take_back(&mut self, ticket: Ticket) {
        self.judge.unsend(ticket.key);
    }

    fn check(&mut self, ticket: Ticket, reply: Result<Seen, CallError<ErrorOf<Mirror>>>) -> Check {
        match reply {
            Ok(seen) if seen.word == self.word(ticket.number) => {
                self.judge.answered(ticket.key, ticket.number, ticket.expected);
                Check::Right
            }
            Ok(seen) => {
                self.judge.refused(ticket.key, ticket.number);
                Check::Wrong(format!("message {} was answered with the reply to word {}", ticket.number, seen.word))
            }
            Err(CallError::InvalidReply) => {
                self.judge.refused(ticket.key, ticket.number);
                Check::Wrong(format!("the payload of message {} came back with other bytes", ticket.number))
            }
            Err(error) => {
                self.judge.refused(ticket.key, ticket.number);
                Check::Wrong(error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arenas_have_room_for_what_is_outstanding() {
        assert_eq!(arena_bytes(1000, 8), 8 * 1152);
        assert_eq!(arena_bytes(LARGE_BYTES_MAX, 4096), ARENA_MOST);
        assert_eq!(arena_bytes(LARGE_BYTES_MAX, 1), block_bytes(1 << 20, 1 << 20));
    }

    #[test]
    fn payloads_differ() {
        let made = |key, word| {
            let mut bytes = [0; 37];
            fill(&mut bytes, key, word);
            bytes
        };
        assert_eq!(made(1, 2), made(1, 2));
        assert_ne!(made(1, 2), made(1, 3));
        assert_ne!(made(1, 2), made(2, 2));
    }
}
