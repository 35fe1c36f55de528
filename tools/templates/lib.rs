//! The actors: plain data and handlers, compiled for CPU and GPU alike.

#![no_std]

use tourbillon::{Context, Handler, NoError, Plain, State, actor, system};

#[repr(C)]
#[derive(Clone, Copy, State)]
pub struct Account {
    balance: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
pub struct Deposit {
    pub amount: u64,
}

impl Handler<Deposit> for Account {
    type Reply = u64;
    fn handle(&mut self, deposit: &Deposit, _context: &mut Context) -> Result<u64, NoError> {
        self.balance += deposit.amount;
        Ok(self.balance)
    }
}

actor!(Account { kind: 1000, error: NoError, messages: { 0: Deposit } });
system! { pub struct Mine = [Account]; }
