//! Load on `Echo`: each payload names its client, its key and its number, and must come back as it went.

use tourbillon::abi::arena::LARGE_BYTES_MAX;
use tourbillon::actors::echo::{Echo, Ping16, Ping64, Ping352};
use tourbillon::{CallError, Client, ErrorOf, Handler, Message, ReplyOf};

use super::error::LoadError;
use super::judge::{Faults, Judge};
use super::keys::{KeyChooser, key_of};
use super::options::{ActorChoice, LoadOptions};
use super::pump::{Drive, pump};
use super::source::{Check, Source, Ticket};
use crate::random::{Random, mix};

/// The payload sizes that `Echo` has messages for.
const SIZES: [usize; 3] = [size_of::<Ping16>(), size_of::<Ping64>(), size_of::<Ping352>()];

/// Refuses payload sizes that no message has; those larger than a frame go to another actor by way of the arena.
pub(super) fn check_payload(options: &LoadOptions) -> Result<(), LoadError> {
    if options.actor != ActorChoice::Echo || SIZES.contains(&options.payload) || is_bulk(options) {
        return Ok(());
    }
    Err(LoadError::NoSuchPayload { bytes: options.payload, sizes: SIZES, most: LARGE_BYTES_MAX })
}

/// Whether the payloads are larger than a frame.
pub(super) fn is_bulk(options: &LoadOptions) -> bool {
    options.actor == ActorChoice::Echo && (SIZES[2] + 1..=LARGE_BYTES_MAX).contains(&options.payload)
}

/// Runs one client with the chosen payload; its faults.
pub(super) fn run(
    client: &mut Client,
    number: u32,
    options: &LoadOptions,
    chooser: KeyChooser,
    drive: &mut Drive<'_>,
) -> Faults {
    let mut pings = Pings {
        judge: Judge::new(options.keys as usize),
        client: number,
        seed: options.seed,
        chooser,
        random: Random::new(options.seed, u64::from(number)),
    };
    match options.payload {
        size if size == SIZES[0] => pump::<Ping16, _>(client, &mut pings, drive),
        size if size == SIZES[1] => pump::<Ping64, _>(client, &mut pings, drive),
        _ => pump::<Ping352, _>(client, &mut pings, drive),
    };
    pings.judge.faults()
}

struct Pings {
    judge: Judge,
    client: u32,
    seed: u64,
    chooser: KeyChooser,
    random: Random,
}

/// Bytes 0 to 3 are the client, 4 to 7 the key's index, 8 to 15 the number; the rest follows from these.
fn fill(bytes: &mut [u8], client: u32, key: usize, number: u64) {
    bytes[..4].copy_from_slice(&client.to_le_bytes());
    bytes[4..8].copy_from_slice(&(key as u32).to_le_bytes());
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    for (i, word) in bytes[16..].chunks_mut(8).enumerate() {
        let value = mix(number ^ mix((key as u64) << 32 | u64::from(client)).wrapping_add(i as u64));
        word.copy_from_slice(&value.to_le_bytes()[..word.len()]);
    }
}

/// The ping of this client, key and number.
fn filled<M: Message<Actor = Echo>>(client: u32, key: usize, number: u64) -> M {
    let mut bytes = [0; SIZES[2]];
    let bytes = &mut bytes[..size_of::<M>()];
    fill(bytes, client, key, number);
    M::from_bytes(bytes).expect("any words are a ping")
}

impl<M> Source<M> for Pings
where
    M: Message<Actor = Echo> + PartialEq,
    Echo: Handler<M, Reply = M>,
{
    fn next(&mut self) -> Option<(u64, M, Ticket)> {
        let key = self.chooser.next(&mut self.random) as usize;
        let number = self.judge.number_next(key);
        let message = filled(self.client, key, number);
        Some((key_of(self.seed, 0, key as u64), message, Ticket { key, number, expected: number - 1 }))
    }

    fn take_back(&mut self, ticket: Ticket) {
        self.judge.unsend(ticket.key);
    }

    fn check(&mut self, ticket: Ticket, reply: Result<ReplyOf<M>, CallError<ErrorOf<M>>>) -> Check {
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                self.judge.refused(ticket.key, ticket.number);
                return Check::Wrong(error.to_string());
            }
        };
        if reply == filled(self.client, ticket.key, ticket.number) {
            // Echo has no state: that the replies come in the order of the requests is all that can be seen.
            self.judge.answered(ticket.key, ticket.number, ticket.expected);
            return Check::Right;
        }
        let answered = reply.as_bytes()[8..16].try_into().map_or(0, u64::from_le_bytes);
        if reply == filled(self.client, ticket.key, answered) && (1..=self.judge.sent(ticket.key)).contains(&answered) {
            // The whole reply to another message of this key.
            self.judge.answered(ticket.key, answered, answered - 1);
            return Check::Wrong(format!("message {} was answered with the reply to {answered}", ticket.number));
        }
        self.judge.refused(ticket.key, ticket.number);
        Check::Wrong(format!("message {} came back with other bytes", ticket.number))
    }
}
