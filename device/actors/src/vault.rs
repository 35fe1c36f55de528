//! An account from which money goes to other accounts without the host: a saga of two steps with a compensation.

use tourbillon_device::{ActorRef, Context, Handler, Plain, State, actor};

/// An account of a bank, named by its key.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, State)]
pub struct Vault {
    /// What it has.
    pub balance: u64,
    /// Transfers that it sent off, whatever became of them.
    pub sent: u64,
    /// Transfers that reached it.
    pub received: u64,
    /// Transfers of its own that came back.
    pub refunded: u64,
    /// The most that it may have: what would lead past it is refused.
    pub most: u64,
}

/// Opens the account: what it has, and the most that it may have.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Open {
    /// What it has from now on.
    pub balance: u64,
    /// The most that it may have.
    pub most: u64,
}

/// Sends money to another account. Whoever ends the transfer answers: the other account with [`Transferred`], this one, when the other
/// has refused, with [`Declined`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Transfer {
    /// The other account.
    pub to: u64,
    /// How much.
    pub amount: u64,
}

/// The second step: what was taken from `from` is put in.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Credit {
    /// Whose money it was.
    pub from: u64,
    /// How much.
    pub amount: u64,
}

/// The compensation: what `to` refused is put back.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Refund {
    /// Who refused.
    pub to: u64,
    /// How much.
    pub amount: u64,
}

/// A transfer has ended well.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Plain)]
pub struct Transferred {
    /// What the receiver has now.
    pub balance: u64,
}

/// A transfer was not done, and all money is where it was.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Declined {
    /// The account that said no.
    pub by: u64,
}

/// Shows the account.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Statement {}

impl Handler<Open> for Vault {
    type Reply = ();

    fn handle(&mut self, open: &Open, _context: &mut Context) -> Result<(), Declined> {
        *self = Self { balance: open.balance, most: open.most, sent: 0, received: 0, refunded: 0 };
        Ok(())
    }
}

impl Handler<Transfer> for Vault {
    type Reply = Transferred;

    fn handle(&mut self, transfer: &Transfer, context: &mut Context) -> Result<Transferred, Declined> {
        let me = context.key();
        self.balance = self.balance.checked_sub(transfer.amount).ok_or(Declined { by: me })?;
        self.sent += 1;
        context.forward(ActorRef::<Self>::new(transfer.to), &Credit { from: me, amount: transfer.amount })
    }
}

impl Handler<Credit> for Vault {
    type Reply = Transferred;

    fn handle(&mut self, credit: &Credit, context: &mut Context) -> Result<Transferred, Declined> {
        match self.balance.checked_add(credit.amount).filter(|balance| *balance <= self.most) {
            Some(balance) => {
                self.balance = balance;
                self.received += 1;
                Ok(Transferred { balance })
            }
            None => {
                let refund = Refund { to: context.key(), amount: credit.amount };
                context.forward(ActorRef::<Self>::new(credit.from), &refund)
            }
        }
    }
}

impl Handler<Refund> for Vault {
    type Reply = Transferred;

    fn handle(&mut self, refund: &Refund, context: &mut Context) -> Result<Transferred, Declined> {
        self.balance += refund.amount;
        self.refunded += 1;
        // An error would take the refund back, so the answer is a message of its own.
        let me = ActorRef::<Self>::new(context.key());
        context.forward(me, &Decline { by: refund.to })
    }
}

/// The end of a transfer that was compensated.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Decline {
    /// The account that said no.
    pub by: u64,
}

impl Handler<Decline> for Vault {
    type Reply = Transferred;

    fn handle(&mut self, decline: &Decline, _context: &mut Context) -> Result<Transferred, Declined> {
        Err(Declined { by: decline.by })
    }
}

impl Handler<Statement> for Vault {
    type Reply = Vault;

    fn handle(&mut self, _message: &Statement, _context: &mut Context) -> Result<Vault, Declined> {
        Ok(*self)
    }
}

actor!(Vault {
    kind: 10,
    letters: true,
    error: Declined,
    messages: {
        #[outlined] 0: Open, #[outlined] 1: Transfer, #[outlined] 2: Credit, #[outlined] 3: Refund, #[outlined] 4: Decline,
        #[outlined] 5: Statement,
    },
});
