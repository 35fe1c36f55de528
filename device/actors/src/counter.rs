//! Counts, and shows in which order messages came.

use bytemuck::{CheckedBitPattern, NoUninit, Pod, Zeroable};
use tourbillon_device::{Context, Handler, actor};

/// Senders that one counter tells apart; as many as keep the state at 64 bytes.
pub const SENDERS: usize = 14;

/// A sum, and the last sequence number of every sender.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Counter {
    /// The sum of all amounts, modulo 2^64.
    pub value: u64,
    /// The sequence number that came last from each sender.
    pub last_sequence: [u32; SENDERS],
}

/// Adds an amount.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Add {
    /// What to add.
    pub amount: u32,
    /// Who sends, below [`SENDERS`].
    pub sender: u32,
    /// The sender's number of this message at this counter; below 2^32.
    pub sequence: u64,
}

/// What the counter was before.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Added {
    /// The sum before this amount.
    pub previous: u64,
    /// The sequence number of this sender's message before; 0 when it is the first.
    pub last_sequence: u64,
}

/// Asks for the sum.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Get {}

/// Why a counter refused.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub enum CounterError {
    /// The sender's number is not below [`SENDERS`].
    SenderOutOfRange = 1,
    /// The sequence number needs more than 32 bits.
    SequenceTooLarge = 2,
}

impl core::fmt::Display for CounterError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::SenderOutOfRange => write!(f, "the sender's number is not below {SENDERS}"),
            Self::SequenceTooLarge => f.write_str("the sequence number needs more than 32 bits"),
        }
    }
}

impl core::error::Error for CounterError {}

/// The number at `index`: halves the numbers four times, by one bit of the index each, which takes registers and few steps.
#[inline]
fn choose(numbers: &[u32; SENDERS], index: usize) -> u32 {
    const HALVES: usize = SENDERS.next_power_of_two();
    let mut left = [0; HALVES];
    left[..SENDERS].copy_from_slice(numbers);
    let (mut bit, mut count) = (1, HALVES);
    while count > 1 {
        count /= 2;
        for i in 0..count {
            left[i] = if index & bit == 0 { left[2 * i] } else { left[2 * i + 1] };
        }
        bit *= 2;
    }
    left[0]
}

impl Handler<Add> for Counter {
    type Reply = Added;

    fn handle(&mut self, message: &Add, _context: &mut Context) -> Result<Added, CounterError> {
        let sender = message.sender as usize;
        if sender >= SENDERS {
            return Err(CounterError::SenderOutOfRange);
        }
        let sequence = u32::try_from(message.sequence).map_err(|_| CounterError::SequenceTooLarge)?;
        let added = Added { previous: self.value, last_sequence: choose(&self.last_sequence, sender).into() };
        // A loop in place of an index: unrolled, it keeps the state in registers, which have no addresses. Each number is
        // written, so that there is nothing to branch on.
        for (of, last) in self.last_sequence.iter_mut().enumerate() {
            *last = if of == sender { sequence } else { *last };
        }
        self.value = self.value.wrapping_add(message.amount.into());
        Ok(added)
    }
}

impl Handler<Get> for Counter {
    type Reply = u64;

    fn handle(&mut self, _message: &Get, _context: &mut Context) -> Result<u64, CounterError> {
        Ok(self.value)
    }
}

actor!(Counter { kind: 2, error: CounterError, messages: { 0: Add, 1: Get } });
