//! Money that cannot be overdrawn.

use tourbillon_device::{Context, Handler, Plain, State, actor};

/// An account.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, State)]
pub struct Account {
    /// What is in it, in the smallest unit of the currency.
    pub balance: u64,
}

/// Puts money in; the reply is the new balance.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Deposit {
    /// How much.
    pub amount: u64,
}

/// Takes money out; the reply is the new balance.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Withdraw {
    /// How much.
    pub amount: u64,
}

/// Asks for the balance.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Balance {}

/// Why an account refused.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub enum Refusal {
    /// There is less in the account than was asked for.
    InsufficientFunds = 1,
    /// The account cannot hold that much.
    TooMuch = 2,
}

/// A refusal, and what is in the account.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct AccountError {
    /// Why.
    pub refusal: Refusal,
    /// The balance, unchanged.
    pub balance: u64,
}

impl core::fmt::Display for AccountError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.refusal {
            Refusal::InsufficientFunds => write!(f, "insufficient funds: the balance is {}", self.balance),
            Refusal::TooMuch => write!(f, "the account cannot hold that much: the balance is {}", self.balance),
        }
    }
}

impl core::error::Error for AccountError {}

impl Account {
    fn change(&mut self, next: Option<u64>, refusal: Refusal) -> Result<u64, AccountError> {
        self.balance = next.ok_or(AccountError { refusal, balance: self.balance })?;
        Ok(self.balance)
    }
}

impl Handler<Deposit> for Account {
    type Reply = u64;

    fn handle(&mut self, message: &Deposit, _context: &mut Context) -> Result<u64, AccountError> {
        self.change(self.balance.checked_add(message.amount), Refusal::TooMuch)
    }
}

impl Handler<Withdraw> for Account {
    type Reply = u64;

    fn handle(&mut self, message: &Withdraw, _context: &mut Context) -> Result<u64, AccountError> {
        self.change(self.balance.checked_sub(message.amount), Refusal::InsufficientFunds)
    }
}

impl Handler<Balance> for Account {
    type Reply = u64;

    fn handle(&mut self, _message: &Balance, _context: &mut Context) -> Result<u64, AccountError> {
        Ok(self.balance)
    }
}

actor!(Account { kind: 3, error: AccountError, messages: { 0: Deposit, 1: Withdraw, 2: Balance } });
