//! Messages that could not be delivered, read out of device memory while the kernel runs.
//!
//! The protocol is in [`tourbillon_shared::dead_letter`]. The host's side is two copies and a third that gives the room back: nothing
//! stops for it, and a host that never reads costs letters, which are counted, and nobody's time.

use std::fmt;
use std::sync::atomic::{Ordering, fence};

use bytemuck::Zeroable;
use tourbillon_shared::dead_letter::{DEAD_LETTER_PAYLOAD_BYTES, DeadLetterRecord, DeadLetterState, LANE_OF_ACTORS};
use tourbillon_shared::error::FailureCode;
use tourbillon_shared::header::Flags;
use tourbillon_shared::mutant;
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

    /// The lane by which it came; nothing when an actor sent it.
    pub fn lane(&self) -> Option<u32> {
        (self.record.lane != LANE_OF_ACTORS).then_some(self.record.lane)
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
        record.sequence == state.taken.wrapping_add(*i as u64).wrapping_add(1) || mutant!("dead_letters_believed")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Copies;
    use crate::choice::BackendKind;
    use crate::shared_memory::Mapping;
    use std::sync::Arc;
    use tourbillon_device::arch::native::Doorbell;
    use tourbillon_shared::geometry::Geometry;

    const LOG2: u32 = 4;

    /// Device memory that holds a queue and nothing else.
    #[derive(Debug)]
    struct Queue(Vec<u64>);

    impl Queue {
        fn new(tail: u64, taken: u64) -> Self {
            let mut words = vec![0; (size_of::<DeadLetterState>() + (size_of::<DeadLetterRecord>() << LOG2)) / 8];
            (words[1], words[2]) = (tail, taken);
            Self(words)
        }

        /// Writes the record at `position`; whole, or without its sequence.
        fn put(&mut self, position: u64, is_whole: bool) {
            let record = DeadLetterRecord {
                sequence: if is_whole { position + 1 } else { 0 },
                key: position,
                reason: FailureCode::UnknownKind as u32,
                ..DeadLetterRecord::zeroed()
            };
            let at = 16 + (position as usize & 15) * RECORD_WORDS;
            self.0[at..at + RECORD_WORDS].copy_from_slice(bytemuck::cast_slice(&[record]));
        }

        fn take(&mut self) -> Vec<u64> {
            take_from(self, 0, LOG2).unwrap().iter().map(DeadLetter::key).collect()
        }
    }

    impl Machine for Queue {
        fn read(&mut self, offset: u64, into: &mut [u64], _purpose: Purpose) -> Result<(), EngineError> {
            let from = offset as usize / 8;
            into.copy_from_slice(&self.0[from..from + into.len()]);
            Ok(())
        }
        fn write(&mut self, offset: u64, from: &[u64]) -> Result<(), EngineError> {
            self.0[offset as usize / 8..][..from.len()].copy_from_slice(from);
            Ok(())
        }
        fn kind(&self) -> BackendKind {
            BackendKind::Cpu
        }
        fn device_name(&self) -> &str {
            "a queue"
        }
        fn device_id(&self) -> String {
            String::new()
        }
        fn doorbell(&self) -> Option<Arc<Doorbell>> {
            None
        }
        fn free_bytes(&mut self) -> Result<u64, EngineError> {
            Ok(0)
        }
        fn map_host(&mut self, _mapping: &Mapping) -> Result<u64, EngineError> {
            Ok(0)
        }
        fn allocate(&mut self, _bytes: u64) -> Result<u64, EngineError> {
            Ok(0)
        }
        fn start(&mut self, _geometry: &Geometry, _arguments: u64) -> Result<(), EngineError> {
            Ok(())
        }
        fn has_exited(&mut self) -> Result<bool, EngineError> {
            Ok(true)
        }
        fn copies(&self) -> Copies {
            Copies::default()
        }
        fn release(&mut self) {}
        fn leak(&mut self) {}
    }

    #[test]
    fn only_what_is_whole_is_taken_and_in_order() {
        let mut queue = Queue::new(0, 0);
        assert!(queue.take().is_empty());
        // Over the ring's end, with a hole where a shard has its ticket and has not written yet.
        queue = Queue::new(20, 10);
        for position in 10..20 {
            queue.put(position, position != 17);
        }
        assert_eq!(queue.take(), (10..17).collect::<Vec<_>>());
        assert_eq!(queue.0[2], 17);
        assert!(queue.take().is_empty(), "nothing passes the hole");
        queue.put(17, true);
        assert_eq!(queue.take(), [17, 18, 19]);
        assert_eq!(queue.0[2], 20);
    }

    #[test]
    fn what_an_earlier_lap_left_is_not_taken_again() {
        let mut queue = Queue::new(17, 16);
        queue.put(0, true);
        assert!(queue.take().is_empty());
        queue.put(16, true);
        assert_eq!(queue.take(), [16]);
    }
}
