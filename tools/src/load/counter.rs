//! Load on `Counter`: each client adds 1, and what the actor says about the add before shows order and exactly-once.

use tourbillon::CallError;
use tourbillon::actors::counter::{Add, Added, Get, SENDERS};
use tourbillon::{ErrorOf, ReplyOf};

use super::judge::Judge;
use super::keys::{KeyChooser, key_of};
use super::source::{Check, Source, Ticket};
use crate::random::Random;

/// Senders that one counter tells apart; clients beyond that use keys of their own.
pub const SENDERS_PER_KEY: u32 = SENDERS as u32;
/// Most messages of a client to one key: a counter keeps 32 bits of their numbers.
const NUMBER_MAX: u64 = u32::MAX as u64;

/// The adds of one client.
#[derive(Debug)]
pub struct Adds {
    /// Judges this client's messages.
    pub judge: Judge,
    /// Clients of one group share keys.
    pub group: u32,
    sender: u32,
    seed: u64,
    chooser: KeyChooser,
    random: Random,
}

impl Adds {
    /// The adds of client `client` among `keys` keys.
    pub fn new(client: u32, keys: u64, chooser: KeyChooser, seed: u64) -> Self {
        Self {
            judge: Judge::new(keys as usize),
            group: client / SENDERS_PER_KEY,
            sender: client % SENDERS_PER_KEY,
            seed,
            chooser,
            random: Random::new(seed, u64::from(client)),
        }
    }
}

impl Source<Add> for Adds {
    fn next(&mut self) -> Option<(u64, Add, Ticket)> {
        let keys = self.judge.keys();
        let mut key = self.chooser.next(&mut self.random) as usize;
        if self.judge.sent(key) >= NUMBER_MAX {
            key = (0..keys).find(|&other| self.judge.sent(other) < NUMBER_MAX)?;
        }
        let number = self.judge.number_next(key);
        let message = Add { amount: 1, sender: self.sender, sequence: number };
        Some((key_of(self.seed, self.group, key as u64), message, Ticket { key, number, expected: number - 1 }))
    }

    fn take_back(&mut self, ticket: Ticket) {
        self.judge.unsend(ticket.key);
    }

    fn check(&mut self, ticket: Ticket, reply: Result<ReplyOf<Add>, CallError<ErrorOf<Add>>>) -> Check {
        match reply {
            Ok(Added { previous, last_sequence }) => {
                self.judge.answered(ticket.key, ticket.number, last_sequence);
                // All earlier adds of this client are in the value, if they came before this one.
                if last_sequence == ticket.expected && previous < ticket.expected {
                    return Check::Wrong(format!("add {} found the value {previous}", ticket.number));
                }
                Check::Right
            }
            Err(error) => {
                self.judge.refused(ticket.key, ticket.number);
                Check::Wrong(error.to_string())
            }
        }
    }
}

/// Reads the counters of one group and compares them with what its clients were told.
#[derive(Debug)]
pub struct Audit<'a> {
    judges: Vec<&'a Judge>,
    group: u32,
    seed: u64,
    next_key: usize,
    keys: usize,
    /// What the replies did not show.
    pub faults: super::judge::Faults,
    /// Counters compared.
    pub compared: u64,
}

impl<'a> Audit<'a> {
    /// The audit of the clients `adds`, which are all of one group (at least one).
    pub fn new(adds: &[&'a Adds], keys: u64) -> Self {
        Self {
            judges: adds.iter().map(|adds| &adds.judge).collect(),
            group: adds[0].group,
            seed: adds[0].seed,
            next_key: 0,
            keys: keys as usize,
            faults: super::judge::Faults::default(),
            compared: 0,
        }
    }
}

impl Source<Get> for Audit<'_> {
    fn next(&mut self) -> Option<(u64, Get, Ticket)> {
        let is_touched = |key: &usize| self.judges.iter().any(|judge| judge.sent(*key) > 0);
        let key = (self.next_key..self.keys).find(is_touched)?;
        self.next_key = key + 1;
        Some((key_of(self.seed, self.group, key as u64), Get {}, Ticket { key, number: 1, expected: 0 }))
    }

    fn take_back(&mut self, ticket: Ticket) {
        self.next_key = ticket.key;
    }

    fn check(&mut self, ticket: Ticket, reply: Result<ReplyOf<Get>, CallError<ErrorOf<Get>>>) -> Check {
        match reply {
            Ok(value) => {
                self.faults = self.faults.plus(Judge::audit(&self.judges, ticket.key, value));
                self.compared += 1;
                Check::Right
            }
            Err(error) => Check::Wrong(error.to_string()),
        }
    }
}
