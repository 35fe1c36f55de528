//! Messages that could not be delivered, read out of device memory while the kernel runs.
//!
//! The protocol is in [`tourbillon_shared::dead_letter`]. The host's side is two copies and a third that gives the room back: nothing
//! stops for it, and a host that never reads costs letters, which are counted, and nobody's time.

use std::fmt;
use std::sync::atomic::{Ordering, fence};

use bytemuck::Zeroable;
use tourbillon_shared::dead_letter::{DEAD_LETTER_PAYLOAD_BYTES, DeadLetterRecord, DeadLetterState};
use tourbillon_shared::error::FailureCode;
use tourbillon_shared::header::Flags;
use tourbillon_shared::options::id_of;

use crate::backend::{Machine, Purpose};
use crate::error::EngineError;
use crate::shared::Shared;

/// Words of a record.
const RECORD_WORDS: usize = size_of::<DeadLetterRecord>() / 8;

/// A message that could not be delivered. Read by [`Engine::dead_letters`](crate::Engine::dead_letters).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DeadLetter {
    record: DeadLetterRecord,
    reason: FailureCode,
}

impl DeadLetter {
    fn new(record: DeadLetterRecord) -> Option<Self> {
        Some(Self { reason: FailureCode::from_word(record.reason)?, record })
    }

    /// Why: also what its sender was answered.
    pub fn reason(&self) -> FailureCode {
        self.reason
    }

    /// Timestamp ([`tourbillon_shared::hlc`]) at which its shard refused it.
    pub fn hlc(&self) -> u64 {
        self.record.hlc
    }

    /// Key of the actor that it was for.
    pub fn key(&self) -> u64 {
        self.record.key
    }

    /// Kind of the actor that it was for; 0 when the frame was refused by its gate, which believes nothing of it but the key.
    pub fn kind(&self) -> u16 {
        self.record.kind
    }

    /// Number of the message.
    pub fn message(&self) -> u8 {
        self.record.message
    }

    /// The lane by which it came.
    pub fn lane(&self) -> u32 {
        self.record.lane
    }

    /// Whether nobody waited for its answer.
    pub fn is_tell(&self) -> bool {
        self.flags().has(Flags::TELL)
    }

    /// Its deadline, if it had one.
    pub fn deadline(&self) -> Option<u64> {
        self.flags().has(Flags::DEADLINE).then_some(self.record.deadline)
    }

    /// Its id, if it had one.
    pub fn message_id(&self) -> Option<u128> {
        self.flags().has(Flags::MESSAGE_ID).then(|| id_of(self.record.message_id))
    }

    /// Bytes of its payload, as its header said.
    pub fn length(&self) -> usize {
        self.record.length.into()
    }

    /// The first bytes of its payload, 64 at most.
    pub fn payload(&self) -> &[u8] {
        let bytes: &[u8] = bytemuck::cast_slice(&self.record.payload);
        &bytes[..self.length().min(DEAD_LETTER_PAYLOAD_BYTES)]
    }

    fn flags(&self) -> Flags {
        Flags(self.record.flags)
    }
}

impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut letter = f.debug_struct("DeadLetter");
        letter.field("reason", &self.reason).field("kind", &self.kind()).field("key", &self.key());
        letter.field("message", &self.message()).field("is_tell", &self.is_tell()).field("lane", &self.lane());
        letter.field("message_id", &self.message_id()).field("deadline", &self.deadline()).field("hlc", &self.hlc());
        letter.field("length", &self.length()).field("payload", &self.payload()).finish()
    }
}

/// Takes all letters that are there, oldest first.
pub(crate) fn take(shared: &Shared) -> Result<Vec<DeadLetter>, EngineError> {
    let mut core = shared.core();
    if core.is_closed {
        return Err(shared.stopped());
    }
    let letters = take_from(&mut *core.machine, shared.layout.dead_letters, shared.geometry.dead_letters_log2)?;
    drop(core);
    if !letters.is_empty() {
        // Threads of the device that sleep see that there is room.
        shared.ring();
    }
    Ok(letters)
}

fn take_from(machine: &mut dyn Machine, queue: u64, log2: u32) -> Result<Vec<DeadLetter>, EngineError> {
    let mut state = DeadLetterState::zeroed();
    machine.read(queue, bytemuck::cast_slice_mut(std::slice::from_mut(&mut state)), Purpose::Other)?;
    let capacity = 1u64 << log2;
    let waiting = state.tail.wrapping_sub(state.taken).min(capacity);
    if waiting == 0 {
        return Ok(Vec::new());
    }
    let mut records = vec![DeadLetterRecord::zeroed(); waiting as usize];
    read_ring(machine, queue, capacity, state.taken, &mut records)?;
    let is_whole = |(i, record): &(usize, &DeadLetterRecord)| {
        record.sequence == state.taken.wrapping_add(*i as u64).wrapping_add(1)
    };
    let whole = records.iter().enumerate().take_while(is_whole).count();
    records.truncate(whole);
    // Acquire pairs with the shard's Release of the sequences that were found: the second copy has what was written before them.
    fence(Ordering::Acquire);
    read_ring(machine, queue, capacity, state.taken, &mut records)?;
    let taken = state.taken.wrapping_add(whole as u64);
    machine.write(queue + std::mem::offset_of!(DeadLetterState, taken) as u64, &[taken])?;
    Ok(records.into_iter().filter_map(DeadLetter::new).collect())
}

/// Copies the records from `position` on.
fn read_ring(
    machine: &mut dyn Machine,
    queue: u64,
    capacity: u64,
    position: u64,
    records: &mut [DeadLetterRecord],
) -> Result<(), EngineError> {
    let index = position & (capacity - 1);
    let until_end = (capacity - index).min(records.len() as u64) as usize;
    let first = queue + size_of::<DeadLetterState>() as u64;
    let words: &mut [u64] = bytemuck::cast_slice_mut(records);
    let (head, rest) = words.split_at_mut(until_end * RECORD_WORDS);
    for (at, words) in [(first + index * size_of::<DeadLetterRecord>() as u64, head), (first, rest)] {
        if !words.is_empty() {
            machine.read(at, words, Purpose::Other)?;
        }
    }
    Ok(())
}
