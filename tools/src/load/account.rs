//! Load on `Account`: every client has accounts of its own and knows what each balance must be.
//!
//! Deposits and withdrawals alternate in runs, because a pipeline carries messages of one type. Some withdrawals
//! ask for too much and must be refused with the actor's typed error. A message lost, doubled or swapped shows as
//! a wrong balance, in that reply and in all later ones of the account.

use tourbillon::actors::account::{AccountError, Deposit, Refusal, Withdraw};
use tourbillon::{CallError, Client};

use super::keys::{KeyChooser, key_of};
use super::options::LoadOptions;
use super::pump::{Drive, pump};
use super::source::{Check, Source, Ticket};
use crate::random::Random;

/// Payload bytes of a request.
pub(super) const PAYLOAD_BYTES: usize = size_of::<Deposit>();
/// Messages of one type in a run: enough to keep a pipeline filled.
const RUN_MESSAGES: u64 = 4096;
/// Largest deposit; withdrawals ask for up to one and a half times as much, so that some are refused.
const DEPOSIT_MAX: u64 = 1000;
const WITHDRAWAL_MAX: u64 = 1500;
/// Set in [`Ticket::expected`] beside the balance when the message must be refused.
const REFUSED: u64 = 1 << 63;

/// Runs one client until the run ends. Between two types of message its lane runs empty.
pub(super) fn run(client: &mut Client, number: u32, options: &LoadOptions, chooser: KeyChooser, drive: &mut Drive<'_>) {
    let mut book = Book::new(number, options.keys, options.seed, chooser);
    loop {
        book.left = RUN_MESSAGES;
        if !pump::<Deposit, _>(client, &mut book, drive) || drive.is_over() {
            return;
        }
        book.left = RUN_MESSAGES;
        if !pump::<Withdraw, _>(client, &mut book, drive) || drive.is_over() {
            return;
        }
    }
}

/// What one client knows of its accounts.
#[derive(Debug)]
struct Book {
    balances: Vec<u64>,
    client: u32,
    seed: u64,
    chooser: KeyChooser,
    random: Random,
    /// Messages that may still be made.
    left: u64,
    /// The balance before the message made last.
    before: u64,
}

impl Book {
    fn new(client: u32, keys: u64, seed: u64, chooser: KeyChooser) -> Self {
        let random = Random::new(seed, u64::from(client));
        Self { balances: vec![0; keys as usize], client, seed, chooser, random, left: 0, before: 0 }
    }

    /// An account, an amount in `1 ..= most`, and the ticket with the result that `change` gives.
    fn make(&mut self, most: u64, change: impl Fn(u64, u64) -> Option<u64>) -> Option<(u64, u64, Ticket)> {
        self.left = self.left.checked_sub(1)?;
        let key = self.chooser.next(&mut self.random) as usize;
        let amount = 1 + self.random.below(most);
        self.before = self.balances[key];
        let expected = match change(self.before, amount) {
            Some(balance) => {
                self.balances[key] = balance;
                balance
            }
            None => self.before | REFUSED,
        };
        Some((key_of(self.seed, self.client, key as u64), amount, Ticket { key, number: 0, expected }))
    }

    fn undo(&mut self, ticket: Ticket) {
        self.balances[ticket.key] = self.before;
        self.left += 1;
    }
}

fn check(ticket: Ticket, reply: Result<u64, CallError<AccountError>>) -> Check {
    let expected = ticket.expected & !REFUSED;
    match reply {
        Ok(balance) if ticket.expected == balance => Check::Right,
        Err(CallError::Handler(error))
            if ticket.expected & REFUSED != 0
                && error == (AccountError { refusal: Refusal::InsufficientFunds, balance: expected }) =>
        {
            Check::Right
        }
        Ok(balance) => Check::Wrong(format!("the balance is {balance}, {expected} was expected")),
        Err(CallError::Handler(error)) => Check::Wrong(format!("{error}, {expected} was expected")),
        Err(error) => Check::Wrong(error.to_string()),
    }
}

impl Source<Deposit> for Book {
    fn next(&mut self) -> Option<(u64, Deposit, Ticket)> {
        let (key, amount, ticket) = self.make(DEPOSIT_MAX, u64::checked_add)?;
        Some((key, Deposit { amount }, ticket))
    }

    fn take_back(&mut self, ticket: Ticket) {
        self.undo(ticket);
    }

    fn check(&mut self, ticket: Ticket, reply: Result<u64, CallError<AccountError>>) -> Check {
        check(ticket, reply)
    }
}

impl Source<Withdraw> for Book {
    fn next(&mut self) -> Option<(u64, Withdraw, Ticket)> {
        let (key, amount, ticket) = self.make(WITHDRAWAL_MAX, u64::checked_sub)?;
        Some((key, Withdraw { amount }, ticket))
    }

    fn take_back(&mut self, ticket: Ticket) {
        self.undo(ticket);
    }

    fn check(&mut self, ticket: Ticket, reply: Result<u64, CallError<AccountError>>) -> Check {
        check(ticket, reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::keys::Distribution;

    fn book() -> Book {
        Book { left: 10_000, ..Book::new(3, 1, 1, KeyChooser::new(1, Distribution::Uniform)) }
    }

    #[test]
    fn a_faultless_account_passes_and_some_withdrawals_are_refused() {
        let (mut book, mut balance, mut refused) = (book(), 0u64, 0);
        for round in 0..2_000 {
            let deposit: (u64, Deposit, Ticket) = book.next().unwrap();
            balance += deposit.1.amount;
            assert_eq!(check(deposit.2, Ok(balance)), Check::Right, "{round}");
            let withdrawal: (u64, Withdraw, Ticket) = book.next().unwrap();
            let reply = match balance.checked_sub(withdrawal.1.amount) {
                Some(left) => {
                    balance = left;
                    Ok(left)
                }
                None => {
                    refused += 1;
                    Err(CallError::Handler(AccountError { refusal: Refusal::InsufficientFunds, balance }))
                }
            };
            assert_eq!(check(withdrawal.2, reply), Check::Right, "{round}");
        }
        assert!(refused > 100, "{refused}");
    }

    #[test]
    fn wrong_balances_and_wrong_refusals_are_seen() {
        let mut book = book();
        let (_, Deposit { amount }, ticket) = Source::<Deposit>::next(&mut book).unwrap();
        assert_eq!(check(ticket, Ok(amount)), Check::Right);
        assert_ne!(check(ticket, Ok(2 * amount)), Check::Right);
        let refusal = |balance| Err(CallError::Handler(AccountError { refusal: Refusal::InsufficientFunds, balance }));
        assert_ne!(check(ticket, refusal(amount)), Check::Right);
        let must_fail = Ticket { expected: amount | REFUSED, ..ticket };
        assert_eq!(check(must_fail, refusal(amount)), Check::Right);
        assert_ne!(check(must_fail, refusal(amount + 1)), Check::Right);
        assert_ne!(check(must_fail, Ok(amount)), Check::Right);
    }

    #[test]
    fn what_was_not_sent_changes_nothing() {
        let mut book = book();
        let (_, _, ticket) = Source::<Deposit>::next(&mut book).unwrap();
        Source::<Deposit>::take_back(&mut book, ticket);
        assert_eq!((book.balances[0], book.left), (0, 10_000));
        book.left = 0;
        assert!(Source::<Withdraw>::next(&mut book).is_none());
    }
}
