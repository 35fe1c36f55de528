//! A client of the bank: many transfers at once, each of which is brought to an end, whatever comes in between.
//!
//! A transfer is a chain of steps, each of which may find no room for the next one ([`CallError::MailboxFull`]). The steps before it are
//! done then: the money may have left its account and not have come to another. So the teller does not begin such a transfer anew but
//! repeats the step at which it stands, and by that the chain goes on:
//!
//! | step | to | message | ends the transfer | else hands on |
//! | --- | --- | --- | --- | --- |
//! | 0 | the paying account | [`Transfer`] | it has too little: [`Declined`] | [`Credit`] |
//! | 1 | the paid account | [`Credit`] | done: [`Transferred`] | [`Refund`] |
//! | 2 | the paying account | [`Refund`] | | [`Decline`] |
//! | 3 | the paying account | [`Decline`] | [`Declined`] | |

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::vec::Vec;

use tourbillon::actors::vault::{Credit, Decline, Declined, Refund, Transfer, Transferred};
use tourbillon::{CallError, Client, ErrorOf, Message, ReplyOf, SendError};

/// Transfers that stand still at a later step, past which the teller begins no new one but brings those to an end: money that is nowhere
/// is to be little, and where so many find no room more of them would not help.
pub const STALLED_MAX: usize = 256;

/// What is to be done: money from one account to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The account that pays.
    pub from: u64,
    /// The account that is paid, another one.
    pub to: u64,
    /// How much, at least 1.
    pub amount: u64,
}

/// How a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The money is in the other account.
    Done,
    /// The paying account has too little. All is as it was.
    Unpaid,
    /// The other account would have more than it may, and the money is back.
    Refunded,
}

/// What a teller did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Transfers that ended [`Done`](Ending::Done).
    pub done: u64,
    /// Transfers that ended [`Unpaid`](Ending::Unpaid).
    pub unpaid: u64,
    /// Transfers that ended [`Refunded`](Ending::Refunded).
    pub refunded: u64,
    /// Steps that found no room, and were sent again: first steps, ...
    pub begun_again: u64,
    /// ... and later ones, of transfers in the middle of which there was no room.
    pub resumed: u64,
}

impl Tally {
    /// Transfers that ended.
    pub fn ended(&self) -> u64 {
        self.done + self.unpaid + self.refunded
    }

    /// What this and another teller did.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            done: self.done + other.done,
            unpaid: self.unpaid + other.unpaid,
            refunded: self.refunded + other.refunded,
            begun_again: self.begun_again + other.begun_again,
            resumed: self.resumed + other.resumed,
        }
    }
}

/// Why a teller gave up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TellerError {
    /// A transfer could not be sent; it has not begun.
    Send(SendError),
    /// A step of a transfer failed in a way that no repetition helps against, or was not answered in time.
    Failed {
        /// The transfer.
        order: Order,
        /// The step that was sent.
        step: u32,
        /// How it failed.
        error: CallError<Declined>,
    },
    /// The answer is none that a transfer has: another's, or one that nobody wrote.
    WrongAnswer {
        /// The transfer.
        order: Order,
        /// What came.
        answer: Result<Transferred, CallError<Declined>>,
    },
}

impl fmt::Display for TellerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(error) => write!(f, "a transfer could not be sent: {error}"),
            Self::Failed { order, step, error } => write!(
                f,
                "step {step} of a transfer of {} from {} to {} failed: {error}; where its money is, the two accounts' statements say",
                order.amount, order.from, order.to
            ),
            Self::WrongAnswer { order, answer } => write!(
                f,
                "{answer:?} is no answer to a transfer of {} from {} to {}; build client and engine from the same actors",
                order.amount, order.from, order.to
            ),
        }
    }
}

impl std::error::Error for TellerError {}

impl From<SendError> for TellerError {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

/// Carries out transfers, as many at a time as the client's lane holds, and tells of each once, in any order, when it has ended.
///
/// # Errors
/// [`TellerError`]; transfers that are under way go on nevertheless, and nobody is told of them.
pub fn carry_out(
    client: &mut Client,
    orders: impl IntoIterator<Item = Order>,
    ended: impl FnMut(Order, Ending),
) -> Result<Tally, TellerError> {
    let mut orders = orders.into_iter();
    let mut desk = Desk { ended, tally: Tally::default(), again: Vec::new(), stalled: Vec::new() };
    loop {
        desk.flow(client, &mut orders)?;
        if desk.stalled.is_empty() {
            return Ok(desk.tally);
        }
        desk.resume(client)?;
    }
}

/// Transfers between their beginning and their end.
struct Desk<F> {
    ended: F,
    tally: Tally,
    /// Those whose first step found no room.
    again: Vec<Order>,
    /// Those that stand still, and at which step.
    stalled: Vec<(Order, u32)>,
}

impl<F: FnMut(Order, Ending)> Desk<F> {
    /// Sends first steps until there are no more or too many transfers stand still, and takes all answers to them.
    fn flow(&mut self, client: &mut Client, orders: &mut impl Iterator<Item = Order>) -> Result<(), TellerError> {
        let mut pipeline = client.pipeline::<Transfer>();
        let mut under_way = VecDeque::new();
        loop {
            while self.stalled.len() < STALLED_MAX {
                let Some(order) = self.again.pop().or_else(|| orders.next()) else { break };
                if pipeline.push(order.from, &Transfer { to: order.to, amount: order.amount })? {
                    under_way.push_back(order);
                } else if under_way.is_empty() {
                    // The client has other messages under way: a call waits for them.
                    self.stalled.push((order, 0));
                    break;
                } else {
                    self.again.push(order);
                    break;
                }
            }
            let mut answer = pipeline.pop();
            if answer.is_none() {
                return Ok(());
            }
            while let Some(came) = answer {
                let Some(order) = under_way.pop_front() else { return Ok(()) };
                self.take(order, 0, came)?;
                answer = pipeline.try_pop();
            }
        }
    }

    /// Repeats the step of each transfer that stands still.
    fn resume(&mut self, client: &mut Client) -> Result<(), TellerError> {
        for (order, step) in std::mem::take(&mut self.stalled) {
            let Order { from, to, amount } = order;
            let answer = match step {
                0 => client.call(from, Transfer { to, amount }),
                1 => client.call(to, Credit { from, amount }),
                2 => client.call(from, Refund { to, amount }),
                _ => client.call(from, Decline { by: to }),
            };
            self.take(order, step, answer)?;
        }
        Ok(())
    }

    /// Takes the answer to step `step` of a transfer.
    fn take(
        &mut self,
        order: Order,
        step: u32,
        answer: Result<Transferred, CallError<Declined>>,
    ) -> Result<(), TellerError> {
        let ending = match answer {
            // What was put in is there: a reply of zeros is that of an account which has handed the transfer on.
            Ok(Transferred { balance }) if balance >= order.amount => Ending::Done,
            Err(CallError::Handler(Declined { by })) if by == order.from => Ending::Unpaid,
            Err(CallError::Handler(Declined { by })) if by == order.to => Ending::Refunded,
            Ok(_) | Err(CallError::Handler(_)) => return Err(TellerError::WrongAnswer { order, answer }),
            Err(CallError::MailboxFull { hops }) => {
                match step + hops {
                    0 => {
                        self.tally.begun_again += 1;
                        self.again.push(order);
                    }
                    at => {
                        self.tally.resumed += 1;
                        self.stalled.push((order, at));
                    }
                }
                return Ok(());
            }
            Err(error) => return Err(TellerError::Failed { order, step, error }),
        };
        match ending {
            Ending::Done => self.tally.done += 1,
            Ending::Unpaid => self.tally.unpaid += 1,
            Ending::Refunded => self.tally.refunded += 1,
        }
        (self.ended)(order, ending);
        Ok(())
    }
}

/// Sends one message to each of the actors `keys`, as many at a time as the client's lane holds; their replies, by key.
///
/// # Errors
/// As [`Client::call`], for the first one that fails.
pub fn call_each<M: Message + Copy>(
    client: &mut Client,
    keys: Range<u64>,
    message: M,
) -> Result<Vec<ReplyOf<M>>, CallError<ErrorOf<M>>> {
    let mut pipeline = client.pipeline::<M>();
    let mut replies = Vec::with_capacity((keys.end.saturating_sub(keys.start)) as usize);
    let mut next = keys.start;
    while next < keys.end || pipeline.in_flight() != 0 {
        while next < keys.end && pipeline.push(next, &message)? {
            next += 1;
        }
        let mut reply = pipeline.pop();
        while let Some(came) = reply {
            replies.push(came?);
            reply = pipeline.try_pop();
        }
    }
    Ok(replies)
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    const ORDER: Order = Order { from: 1, to: 2, amount: 10 };

    fn took(answers: &[(u32, Result<Transferred, CallError<Declined>>)]) -> (Tally, Vec<Order>, Vec<(Order, u32)>) {
        let mut endings = 0;
        let ended = |order, _| {
            assert_eq!(order, ORDER);
            endings += 1;
        };
        let mut desk = Desk { ended, tally: Tally::default(), again: Vec::new(), stalled: Vec::new() };
        for (step, answer) in answers {
            desk.take(ORDER, *step, answer.clone()).unwrap();
        }
        let Desk { tally, again, stalled, .. } = desk;
        assert_eq!(endings, tally.ended());
        (tally, again, stalled)
    }

    #[test]
    fn answers_are_endings() {
        let declined = |by| Err(CallError::Handler(Declined { by }));
        let (tally, again, stalled) = took(&[(0, Ok(Transferred { balance: 10 })), (0, declined(1)), (2, declined(2))]);
        assert_eq!(tally, Tally { done: 1, unpaid: 1, refunded: 1, ..Tally::default() });
        assert!(again.is_empty() && stalled.is_empty());
    }

    #[test]
    fn a_transfer_goes_on_where_it_stands() {
        let full = |hops| Err(CallError::MailboxFull { hops });
        let (tally, again, stalled) = took(&[(0, full(0)), (0, full(1)), (0, full(2)), (1, full(0)), (1, full(1))]);
        assert_eq!(again, [ORDER]);
        assert_eq!(stalled.iter().map(|stalled| stalled.1).collect::<Vec<_>>(), [1, 2, 1, 2]);
        assert_eq!((tally.begun_again, tally.resumed, tally.ended()), (1, 4, 0));
    }

    #[test]
    fn what_no_transfer_answers_is_refused() {
        let mut desk = Desk { ended: |_, _| (), tally: Tally::default(), again: Vec::new(), stalled: Vec::new() };
        for answer in [
            Ok(Transferred { balance: 0 }),
            Ok(Transferred { balance: 9 }),
            Err(CallError::Handler(Declined { by: 3 })),
        ] {
            let error = desk.take(ORDER, 0, answer.clone()).unwrap_err();
            assert_eq!(error, TellerError::WrongAnswer { order: ORDER, answer });
        }
        let error = desk.take(ORDER, 1, Err(CallError::DirectoryFull)).unwrap_err();
        assert_eq!(error, TellerError::Failed { order: ORDER, step: 1, error: CallError::DirectoryFull });
        assert!(error.to_string().contains("step 1 of a transfer of 10 from 1 to 2"), "{error}");
        assert_eq!(desk.tally, Tally::default());
    }
}
