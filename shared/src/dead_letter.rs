//! Dead letters: messages that could not be delivered, with the reason.
//!
//! A message is *dead* when its handler was never run for a reason that lies in the message or in the engine, as [`is_dead`] says.
//! A message whose handler was run is not, whatever came of it: the handler's error or panic is its answer. Nor is a duplicate, for
//! its message was run.
//!
//! # Protocol
//! One queue for an engine, a ring in device memory that all shards write and the host reads while the kernel runs:
//!
//! 1. A shard takes *room*: subtracts one from [`DeadLetterState::room`], with Acquire; below zero it gives that back, and the letter
//!    is dropped and counted. Nobody waits.
//! 2. It takes a *ticket*: adds one to the tail, with Acquire and Release; writes the record's words; and stores its `sequence`, the
//!    ticket plus one, with Release.
//! 3. The host copies the records from `taken` to the tail, twice: what has its sequence in the first copy is whole in the second. Then it
//!    writes `taken`, by a copy that begins when the others have ended.
//! 4. The control warp sees `taken`, fences, and adds what is new to the room.

use bytemuck::{Pod, Zeroable};

use crate::error::FailureCode;

/// Fewest letters that the queue may have room for.
pub const DEAD_LETTERS_MIN: u32 = 16;
/// Most letters that the queue may have room for: 8 MiB.
pub const DEAD_LETTERS_MAX: u32 = 1 << 16;
/// In place of the lane of a message that came from an actor.
pub const LANE_OF_ACTORS: u32 = u32::MAX;
/// Payload bytes of a letter that are kept.
pub const DEAD_LETTER_PAYLOAD_BYTES: usize = 64;

/// The head of the queue.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct DeadLetterState {
    /// Records that are neither written nor about to be, for a moment below zero (in two's complement).
    pub room: u64,
    /// Position after the last ticket.
    pub tail: u64,
    /// Position up to which the host has read; it alone writes the word.
    pub taken: u64,
    /// What of `taken` was given to the room; the control warp alone writes the word.
    pub seen: u64,
    /// Zero.
    pub reserved: [u64; 12],
}

impl DeadLetterState {
    /// Of a queue that nobody has used.
    pub fn new(dead_letters_log2: u32) -> Self {
        Self { room: 1 << dead_letters_log2, ..Self::zeroed() }
    }
}

/// One dead letter.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct DeadLetterRecord {
    /// Its position plus one, stored last; anything else: not written yet.
    pub sequence: u64,
    /// Timestamp ([`crate::hlc`]) at which its shard refused it.
    pub hlc: u64,
    /// Key of the actor.
    pub key: u64,
    /// Kind of the actor; 0 when a gate refused the frame.
    pub kind: u16,
    /// Number of the message.
    pub message: u8,
    /// How often it was forwarded.
    pub hops: u8,
    /// Bytes of the whole payload.
    pub length: u16,
    /// Flags of the frame; of one that a gate refused, the span and why.
    pub flags: u16,
    /// The [`FailureCode`].
    pub reason: u32,
    /// The lane by which it came, or [`LANE_OF_ACTORS`].
    pub lane: u32,
    /// Its deadline; 0 without.
    pub deadline: u64,
    /// Its id, the lowest word first; zero without.
    pub message_id: [u32; 4],
    /// The first bytes of its payload, zero behind its end.
    pub payload: [u32; DEAD_LETTER_PAYLOAD_BYTES / 4],
}

/// Whether a message that was answered with this failure is dead; `is_tell` when nobody waits for the answer.
///
/// Who waits for the answer to an update of a stale version reads, and tries again: that is how things go, and the queue is not
/// filled with it. Of a tell nobody would ever know. The same holds where there was no room for what the handler sent, and it was
/// undone.
#[inline(always)]
pub const fn is_dead(code: FailureCode, is_tell: bool) -> bool {
    match code {
        FailureCode::UnknownKind
        | FailureCode::UnknownMessage
        | FailureCode::DirectoryFull
        | FailureCode::MalformedFrame
        | FailureCode::ClockDrift
        | FailureCode::InvalidPayload
        | FailureCode::ArenaOutOfBounds
        | FailureCode::ArenaStale
        | FailureCode::UnknownKeySpace
        | FailureCode::TooManyWaiting
        | FailureCode::FetchFailed
        | FailureCode::HostAbsent
        | FailureCode::DeadlinePassed => true,
        FailureCode::StaleVersion
        | FailureCode::MailboxFull
        | FailureCode::TooManyLetters
        | FailureCode::TooManyHops
        | FailureCode::TooManyQuestions
        | FailureCode::TooManyBroadcasts
        | FailureCode::CannotBroadcast
        | FailureCode::CannotForward
        | FailureCode::HostBusy
        | FailureCode::LettersUndeclared
        | FailureCode::Stopped => is_tell,
        FailureCode::Handler
        | FailureCode::Panicked
        | FailureCode::ReplyTooLarge
        | FailureCode::TooManyNotices
        | FailureCode::OutboxFull
        | FailureCode::HostEnded
        | FailureCode::PoolExhausted
        | FailureCode::PoolUndeclared
        | FailureCode::PoolStale
        | FailureCode::BlockUndeclared
        | FailureCode::BlockUnknown
        | FailureCode::BlockStale
        | FailureCode::BlockForeign
        | FailureCode::BlockTooLong
        | FailureCode::TooManyRestarts
        | FailureCode::Duplicate => false,
    }
}

/// Bytes of the queue.
pub const fn dead_letter_bytes(dead_letters_log2: u32) -> u64 {
    size_of::<DeadLetterState>() as u64 + ((size_of::<DeadLetterRecord>() as u64) << dead_letters_log2)
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<DeadLetterState>() == 128);
    assert!(size_of::<DeadLetterRecord>() == 128);
    // Data words 2 and 3 of a header lie in the record as they are in a frame.
    assert!(offset_of!(DeadLetterRecord, kind) == 24 && offset_of!(DeadLetterRecord, length) == 28);
    assert!(offset_of!(DeadLetterRecord, payload) == 64);
};
