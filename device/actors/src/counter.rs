//! Counts, and shows in which order messages came.

use tourbillon_device::{Context, Handler, Plain, State, actor};

/// Senders that one counter tells apart; as many as keep the state at 64 bytes.
pub const SENDERS: usize = 14;

/// A sum, and the last sequence number of every sender.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, State)]
pub struct Counter {
    /// The sum of all amounts, modulo 2^64.
    pub value: u64,
    /// The sequence number that came last from each sender.
    pub last_sequence: [u32; SENDERS],
}

/// Adds an amount.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Added {
    /// The sum before this amount.
    pub previous: u64,
    /// The sequence number of this sender's message before; 0 when it is the first.
    pub last_sequence: u64,
}

/// Asks for the sum.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Get {}

/// Why a counter refused.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
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

/// The item at `index`: halves the items by one bit of the index after the other, which takes registers and few steps.
#[inline]
fn choose<const N: usize, T: Copy>(items: &[T; N], index: u32) -> T {
    let mut left = *items;
    let (mut bit, mut count) = (1, N);
    while count > 1 {
        count = count.div_ceil(2);
        for i in 0..count {
            // Nobody asks for what an odd number of items lacks.
            let (even, odd) = (left[2 * i], left[if 2 * i + 1 < N { 2 * i + 1 } else { 2 * i }]);
            left[i] = if index & bit == 0 { even } else { odd };
        }
        bit *= 2;
    }
    left[0]
}

impl Handler<Add> for Counter {
    type Reply = Added;

    fn handle(&mut self, message: &Add, _context: &mut Context) -> Result<Added, CounterError> {
        let sender = message.sender;
        if sender >= SENDERS as u32 {
            return Err(CounterError::SenderOutOfRange);
        }
        let sequence = u32::try_from(message.sequence).map_err(|_| CounterError::SequenceTooLarge)?;
        // Steps in place of an index, which only memory has: so the state stays in registers. Two numbers at a time take half as
        // many comparisons.
        let pairs: [[u32; 2]; SENDERS / 2] = bytemuck::cast(self.last_sequence);
        let [first, second] = choose(&pairs, sender / 2);
        let is_first = sender.is_multiple_of(2);
        let added = Added { previous: self.value, last_sequence: if is_first { first } else { second }.into() };
        let new = if is_first { [sequence, second] } else { [first, sequence] };
        let place = sender / 2;
        self.last_sequence = bytemuck::cast::<[[u32; 2]; SENDERS / 2], _>(core::array::from_fn(|of| {
            if of as u32 == place { new } else { pairs[of] }
        }));
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
