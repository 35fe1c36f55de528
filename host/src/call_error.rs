//! How a call or a send can fail.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tourbillon_device::{Actor, Message, Plain, panic_files};
use tourbillon_shared::broadcast::BROADCASTS_MAX;
use tourbillon_shared::error::{FAILURE_WORDS, FailureCode};
use tourbillon_shared::frame::{PAYLOAD_BYTES_MAX, decode_payload};
use tourbillon_shared::header::{Flags, Header};
use tourbillon_shared::mailbox::{HOPS_MAX, LETTERS_MAX};
use tourbillon_shared::mutant;
use tourbillon_shared::outbox::NOTICES_MAX;
use tourbillon_shared::published::BLOCK_BYTES_MAX;

use crate::lane_end::header_in;

/// Why a call has no reply of its message's type. `E` is the actor's own error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError<E> {
    /// The handler returned its typed error; the actor's state is as before the message.
    #[error("the handler returned its error; see the value in `CallError::Handler`")]
    Handler(E),
    /// The handler panicked; the actor's state is as before the message.
    #[error(
        "the handler of {message} of actor {actor} {key} panicked at {}; correct it there",
        Place { file: file.as_deref(), line: *line, column: *column, hash: *file_hash }
    )]
    Panicked {
        /// Name of the actor's kind.
        actor: &'static str,
        /// Number of its key.
        key: u64,
        /// The message's type.
        message: &'static str,
        /// Line, from 1; 0 when it is not known.
        line: u32,
        /// Column, from 1; 0 when it is not known.
        column: u32,
        /// The source file as the compiler was given it, where this program can know it; two with an "or" where they have one hash. It
        /// knows those that stand in the PTX texts of its engines, and those in which a handler panicked on a machine of its own.
        file: Option<Arc<str>>,
        /// [`file_hash`](tourbillon_shared::error::file_hash) of the source file's name; 0 when it is not known.
        file_hash: u32,
    },
    /// No actor of this kind is in the engine's system.
    #[error("the engine's system has no actor of this kind; add it to the list of `system!`")]
    UnknownKind,
    /// The actor has no handler for this message.
    #[error("the actor has no handler for this message; build client and engine from the same actors")]
    UnknownMessage,
    /// The shard has no room for one more actor.
    #[error("the shard has no room for one more actor; raise `actors_per_shard`")]
    DirectoryFull,
    /// The key is in the engine's own space.
    #[error("clients have no keys in this key space")]
    UnknownKeySpace,
    /// Too many messages of the shard wait for actors on their way to or from the store.
    #[error(
        "too many messages wait for actors on their way to or from the store; raise `waiters`, or send less at a time"
    )]
    TooManyWaiters,
    /// The store failed to bring the actor.
    #[error("the store failed to bring the actor; the next message asks again")]
    FetchFailed,
    /// The request contradicts itself.
    #[error("the request contradicts itself: flags, span and length do not fit each other")]
    MalformedFrame,
    /// The request's timestamp is too far ahead of the engine's clock.
    #[error("the request's timestamp is further ahead than the drift bound; check this machine's clock")]
    ClockDrift,
    /// The payload is no valid value of the message.
    #[error("the payload is no valid value of the message; build client and engine from the same actors")]
    InvalidPayload,
    /// A payload of this size is never sent: by a frame, or beside the message by way of the arena.
    #[error("a payload of {bytes} bytes is larger than can be sent ({most} bytes); send it in parts")]
    PayloadTooLarge {
        /// Size of the payload.
        bytes: usize,
        /// The most that can be sent in this way.
        most: usize,
    },
    /// The engine's arenas are too small for the payload or for the room for its reply, or there are none; it was not sent.
    #[error(
        "{bytes} bytes are larger than the engine's arenas carry ({most} bytes); raise `arena_bytes` of its builder, or send less \
         at once"
    )]
    ArenaTooSmall {
        /// The larger of the payload and the room for its reply.
        bytes: usize,
        /// The most that the arenas carry; 0 without arenas.
        most: usize,
    },
    /// Other requests of this client have what the payload would need of the arena; it was not sent.
    #[error(
        "{bytes} bytes of the lane's arena are needed and {free} are free at once; take replies first, or raise \
         `arena_bytes` of the engine's builder"
    )]
    ArenaExhausted {
        /// Bytes that are needed.
        bytes: usize,
        /// The longest part that is free.
        free: usize,
    },
    /// The reference to the payload led out of the lane's arena; nothing was done.
    #[error("the reference to the payload leads out of the lane's arena; build client and engine from one release")]
    ArenaOutOfBounds,
    /// The arena held another payload where the request's reference led; nothing was done.
    #[error("the arena held another payload where the reference led; use each lane from one place only")]
    ArenaStale,
    /// The handler posted more notices than one message may; the actor's state is as before the message, and none was sent.
    #[error("the handler posted more than {most} notices; post them from several messages")]
    TooManyNotices {
        /// How many one message may post.
        most: u32,
    },
    /// A subscriber that chose [`OutboxPolicy::Refuse`](crate::OutboxPolicy::Refuse) has no room for a notice; the actor's state is as
    /// before the message, and nothing was sent to anybody.
    #[error(
        "the outbox of a subscriber is full, and it wants to lose nothing; send the message again when it has read"
    )]
    OutboxFull,
    /// There is no room for a letter that the handler sent, neither in the mailbox of its receiver's shard nor in the overflow of its own;
    /// the actor's state is as before the message, and nothing was sent to anybody. What actors did that handed the message on before
    /// stays done: with `hops` 0 nothing has happened.
    #[error(
        "there is no room for a letter that the handler sent, after the message was handed on {hops} times; send again later what that \
         handler was to do, or raise `mailbox_capacity` or `overflow_capacity` of the engine's builder"
    )]
    MailboxFull {
        /// How often the message had been handed on when it came to the handler that found no room.
        hops: u32,
    },
    /// The handler sent more letters than one message may; the actor's state is as before the message, and nothing was sent.
    #[error("the handler sent more than {most} letters; send them from several messages")]
    TooManyLetters {
        /// How many one message may send.
        most: u32,
    },
    /// The message was handed on from actor to actor as often as it may be; the last one's state is as before the message.
    #[error("the message was handed on {most} times without an answer; do the actors hand it on in a circle?")]
    TooManyHops {
        /// How often a message may be handed on.
        most: u32,
    },
    /// So many questions of the shard's actors wait for their answers that there is no room for one more answer; the actor's state is as
    /// before the message, and nothing was sent.
    #[error(
        "too many questions of the shard's actors wait for answers; send the message again later, or raise \
         `mailbox_capacity` of the engine's builder"
    )]
    TooManyQuestions,
    /// As many broadcasts are under way as may be; nothing was sent, and the state of the actor whose handler wanted to is as before the
    /// message.
    #[error(
        "as many broadcasts are under way as may be ({BROADCASTS_MAX}, fewer with a `mailbox_capacity` below 512); send it again when some \
         have ended, or raise `mailbox_capacity` of the engine's builder"
    )]
    TooManyBroadcasts,
    /// A request to broadcast has an id, an expected version or a payload in an arena; nothing was sent.
    #[error(
        "a broadcast has no id, no expected version and no payload beside it, which belong to one actor; leave them out"
    )]
    CannotBroadcast,
    /// The engine has no mailboxes, for no actor of its system sends letters; nothing was sent.
    #[error(
        "no actor of the engine's system sends letters, so there are no mailboxes; declare `letters: true` in the `actor!` of one"
    )]
    NoMailboxes,
    /// The handler handed on a message that has an id, an expected version or a payload in an arena, or handed it on twice; the
    /// actor's state is as before the message.
    #[error(
        "the handler handed the message on, which it cannot: send it without an id, an expected version or a payload, and \
         hand it on once"
    )]
    CannotForward,
    /// The actor sends letters without having declared it, or asks for an answer that is for another kind of actor.
    #[error("the actor sends letters; declare `letters: true` in its `actor!`, and take answers in its own messages")]
    LettersUndeclared,
    /// The actor lives on the host, and nobody there serves its kind; nothing was done.
    #[error(
        "nobody serves this actor, which lives on the host; register its kind with `Engine::host_actors`, and start that"
    )]
    HostAbsent,
    /// The actor lives on the host, and what serves it ended before it answered; its handler may have run.
    #[error(
        "what serves host actors ended before it answered, and the handler may have run; start it again, and ask the actor"
    )]
    HostEnded,
    /// The actor lives on the host, which does not keep up; nothing was done.
    #[error(
        "host actors do not keep up with what they are sent; send the message again later, serve them with more `threads`, or raise \
         `outbox_capacity` of the engine's builder"
    )]
    HostBusy,
    /// The actor was stopped by its supervisor; its handler was not run.
    #[error("the actor was stopped, and was not run; start it again as a child of a supervisor")]
    Stopped,
    /// The message came after its deadline; its handler was not run, and it is a dead letter.
    #[error("the message came after its deadline, and was not handled; give it more time, or send less at once")]
    DeadlinePassed,
    /// A message with this id was handled before, and the answer was too large to be kept, or was that of another message; the handler
    /// was not run again.
    #[error(
        "a message with this id was handled before (the actor then had version {version}), and its answer was not kept; ask the          actor for its state, or use another id"
    )]
    Duplicate {
        /// The actor's version after the message that was handled.
        version: u64,
    },
    /// The actor has another version than the message expects; its handler was not run.
    #[error(
        "the actor has version {current}, not the one that the message expects; read it again, and repeat the update"
    )]
    StaleVersion {
        /// The actor's version; 0 when it does not exist.
        current: u64,
    },
    /// The shard's pool has no page left for a collection; the actor's state and its collections are as before the message.
    #[error(
        "the pool of the actor's shard has no page left; raise `pool_bytes_per_shard` of the engine's builder, let actors of the \
         shard give some back, or, with a store, send it again when idle ones have left"
    )]
    PoolExhausted,
    /// The actor uses a collection without having declared it; its state is as before the message.
    #[error("the actor uses a collection; declare `pools: true` in its `actor!`, behind `kind`")]
    PoolUndeclared,
    /// A collection's handle leads to pages that are not its actor's; state and collections are as before the message.
    #[error("the handle of a collection was copied; keep each in one place, and move elements instead")]
    PoolStale,
    /// The actor reads or publishes a block without having declared it; its state is as before the message.
    #[error("the actor uses published blocks; declare `blocks: true` in its `actor!`, behind `kind`")]
    BlockUndeclared,
    /// A reference leads to no block that was ever published, or to one of other elements; the actor's state is as before the message.
    #[error(
        "the reference leads to no published block of such elements; send on what `BlockRef::publish` gave, to the same engine"
    )]
    BlockUnknown,
    /// The block was replaced or taken back; the state of the actor that read it is as before the message.
    #[error("the block was replaced or taken back; ask the actor that publishes it for the latest")]
    BlockStale,
    /// The block is another actor's; state and block are as before the message.
    #[error("the block is another actor's; only the one that published it may replace it or take it back")]
    BlockForeign,
    /// The block would be longer than one can be; the actor's state is as before the message.
    #[error("a block has at most {most} bytes, less where pages cannot be filled up; publish several")]
    BlockTooLong {
        /// Most bytes of a block.
        most: u32,
    },
    /// The message is past the limit of a batch; it was not sent.
    #[error("a batch has at most {limit} messages; send the rest in another, or raise `batch_limit`")]
    BatchTooLarge {
        /// Messages of a batch.
        limit: u32,
    },
    /// The ring and the staging queue are full, and the caller chose [`Backpressure::Reject`](crate::Backpressure::Reject);
    /// it was not sent.
    #[error("the lane and its staging queue are full; send less at once, or choose `Backpressure::Block`")]
    Rejected,
    /// It was in the staging queue and made room for a newer message, as
    /// [`Backpressure::DropOldest`](crate::Backpressure::DropOldest) says; it was not sent.
    #[error("dropped from the staging queue for a newer message; send less at once, or raise the queue's bound")]
    Dropped,
    /// The ring and the staging queue are full, and the caller chose
    /// [`Backpressure::DropNewest`](crate::Backpressure::DropNewest); it was not sent.
    #[error("dropped, because the lane and its staging queue are full; send less at once, or raise the queue's bound")]
    DroppedNewest,
    /// As many wait in one lane of the gateway as may; it was not sent.
    #[error("{limit} callers wait in this lane of the gateway already; raise `waiting` or `lanes` of its builder")]
    TooManyWaiting {
        /// How many may.
        limit: u32,
    },
    /// No lane is free for urgent messages; it was not sent.
    #[error(
        "no lane is free for urgent messages ({lanes} in all); raise `lanes` of the engine's builder, or give a gateway `urgent_lanes`"
    )]
    NoUrgentLane {
        /// Lanes of the engine.
        lanes: u32,
    },
    /// The gateway was shut down. A request that was published already may have been executed.
    #[error(
        "the gateway was shut down; a request that was published already may have been executed; ask the engine for another"
    )]
    GatewayClosed,
    /// The reply does not fit into the slots that the request reserved, or its payload into the room that was reserved in the
    /// arena; the actor's state is as before the message.
    #[error(
        "the reply does not fit into what the request reserved; reserve more room for its payload, or, without one, \
         build client and engine from the same actors"
    )]
    ReplyTooLarge,
    /// The reply's bytes are no value of the reply's type.
    #[error("the reply is no valid value of its type; build client and engine from the same actors")]
    InvalidReply,
    /// The engine drains, stopped, was dropped or failed before it answered. A request that was published already may have been
    /// executed.
    #[error("the engine no longer serves ({reason}); a request that was published already may have been executed")]
    EngineStopped {
        /// Why.
        reason: Arc<str>,
    },
    /// No reply, or no room for the request, in time. When published, the request may still be executed; its reply is thrown away.
    #[error("no reply within {after:?}; the engine is paused, overloaded or stuck (see `tourbillon top`)")]
    Timeout {
        /// How long was waited.
        after: Duration,
    },
}

/// Where a handler panicked, in words.
struct Place<'a> {
    file: Option<&'a str>,
    line: u32,
    column: u32,
    hash: u32,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, hash } = self;
        match file {
            Some(file) => write!(f, "{file}:{line}:{column}"),
            None if *hash == 0 => f.write_str("a place that the compiler left out"),
            None => write!(
                f,
                "line {line}, column {column} of a file that this program does not know (its path has the hash {hash:#010x}), as in a \
                 dependency or an actor of another program"
            ),
        }
    }
}

impl<E: Plain> CallError<E> {
    /// This error as that of message `M`, which [`of_failure`](Self::of_failure) does not know.
    pub(crate) fn named<M: Message>(self) -> Self {
        match self {
            Self::Panicked { key, line, column, file, file_hash, .. } => {
                let (actor, message) = (<M::Actor as Actor>::NAME, std::any::type_name::<M>());
                Self::Panicked { actor, key, message, line, column, file, file_hash }
            }
            other => other,
        }
    }

    /// The error of the failure reply with this header and payload.
    #[cold]
    pub(crate) fn of_failure(header: &Header, payload: &[u8]) -> Self {
        let word = |i: usize| {
            payload.get(i * 4..i * 4 + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
        };
        let version = || u64::from(word(1)) | u64::from(word(2)) << 32;
        match FailureCode::from_word(word(0)) {
            Some(FailureCode::Handler) => {
                payload.get(4..).and_then(E::from_bytes).map_or(Self::InvalidReply, Self::Handler)
            }
            Some(FailureCode::Panicked) if payload.len() >= FAILURE_WORDS * 4 => {
                let (line, column, file_hash) = (word(1), word(2), word(3));
                let file = panic_files::path_of(file_hash);
                Self::Panicked { actor: "", key: header.key, message: "", line, column, file, file_hash }
            }
            Some(FailureCode::UnknownKind) => Self::UnknownKind,
            Some(FailureCode::UnknownMessage) => Self::UnknownMessage,
            Some(FailureCode::DirectoryFull) => Self::DirectoryFull,
            Some(FailureCode::UnknownKeySpace) => Self::UnknownKeySpace,
            Some(FailureCode::TooManyWaiting) => Self::TooManyWaiters,
            Some(FailureCode::FetchFailed) => Self::FetchFailed,
            Some(FailureCode::MalformedFrame) => Self::MalformedFrame,
            Some(FailureCode::ClockDrift) => Self::ClockDrift,
            Some(FailureCode::InvalidPayload) => Self::InvalidPayload,
            Some(FailureCode::ReplyTooLarge) => Self::ReplyTooLarge,
            Some(FailureCode::ArenaOutOfBounds) => Self::ArenaOutOfBounds,
            Some(FailureCode::ArenaStale) => Self::ArenaStale,
            Some(FailureCode::TooManyNotices) => Self::TooManyNotices { most: NOTICES_MAX },
            Some(FailureCode::OutboxFull) => Self::OutboxFull,
            Some(FailureCode::DeadlinePassed) => Self::DeadlinePassed,
            Some(FailureCode::Duplicate) => Self::Duplicate { version: version() },
            Some(FailureCode::StaleVersion) => Self::StaleVersion { current: version() },
            Some(FailureCode::MailboxFull) => {
                Self::MailboxFull { hops: if mutant!("hops_untold") { 0 } else { header.hops.into() } }
            }
            Some(FailureCode::TooManyLetters) => Self::TooManyLetters { most: LETTERS_MAX },
            Some(FailureCode::TooManyHops) => Self::TooManyHops { most: HOPS_MAX.into() },
            Some(FailureCode::TooManyQuestions) => Self::TooManyQuestions,
            Some(FailureCode::TooManyBroadcasts) => Self::TooManyBroadcasts,
            Some(FailureCode::CannotBroadcast) => Self::CannotBroadcast,
            Some(FailureCode::CannotForward) => Self::CannotForward,
            Some(FailureCode::LettersUndeclared) => Self::LettersUndeclared,
            Some(FailureCode::HostAbsent) => Self::HostAbsent,
            Some(FailureCode::HostEnded) => Self::HostEnded,
            Some(FailureCode::HostBusy) => Self::HostBusy,
            Some(FailureCode::PoolExhausted) => Self::PoolExhausted,
            Some(FailureCode::PoolUndeclared) => Self::PoolUndeclared,
            Some(FailureCode::PoolStale) => Self::PoolStale,
            Some(FailureCode::BlockUndeclared) => Self::BlockUndeclared,
            Some(FailureCode::BlockUnknown) => Self::BlockUnknown,
            Some(FailureCode::BlockStale) => Self::BlockStale,
            Some(FailureCode::BlockForeign) => Self::BlockForeign,
            Some(FailureCode::BlockTooLong) => Self::BlockTooLong { most: BLOCK_BYTES_MAX },
            Some(FailureCode::Stopped) => Self::Stopped,
            // What a parent hears of a supervisor is no answer to anybody.
            Some(FailureCode::Panicked | FailureCode::TooManyRestarts) | None => Self::InvalidReply,
        }
    }
}

/// The reply of a frame that was copied whole: the value, or why there is none.
pub(crate) fn reply_in<R: Plain, E: Plain>(words: &[u32]) -> Result<R, CallError<E>> {
    let header = header_in(words);
    let mut payload = [0; PAYLOAD_BYTES_MAX];
    let length = decode_payload(&header, words, &mut payload);
    let payload = payload.get(..length).unwrap_or_default();
    if !header.flags.has(Flags::REPLY) {
        return Err(CallError::InvalidReply);
    }
    if header.flags.has(Flags::FAILED) {
        return Err(CallError::of_failure(&header, payload));
    }
    R::from_bytes(payload).ok_or(CallError::InvalidReply)
}

/// Why a message could not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The engine drains, stopped, was dropped or failed; the message was not sent.
    #[error("the engine accepts nothing new ({reason})")]
    EngineStopped {
        /// Why.
        reason: Arc<str>,
    },
    /// No room in the lane in time; the message was not sent.
    #[error("no room in the lane within {after:?}; the engine is paused, overloaded or stuck (see `tourbillon top`)")]
    Timeout {
        /// How long was waited.
        after: Duration,
    },
    /// The ring and the staging queue are full, and the caller chose [`Backpressure::Reject`](crate::Backpressure::Reject);
    /// the message was not sent.
    #[error("the lane and its staging queue are full; send less at once, or choose `Backpressure::Block`")]
    Rejected,
    /// The message was in the staging queue and made room for a newer one, as
    /// [`Backpressure::DropOldest`](crate::Backpressure::DropOldest) says; it was not sent.
    #[error("dropped from the staging queue for a newer message; send less at once, or raise the queue's bound")]
    Dropped,
    /// The ring and the staging queue are full, and the caller chose
    /// [`Backpressure::DropNewest`](crate::Backpressure::DropNewest); the message was not sent.
    #[error("dropped, because the lane and its staging queue are full; send less at once, or raise the queue's bound")]
    DroppedNewest,
    /// As many wait in one lane of the gateway as may; the message was not sent.
    #[error("{limit} callers wait in this lane of the gateway already; raise `waiting` or `lanes` of its builder")]
    TooManyWaiting {
        /// How many may.
        limit: u32,
    },
    /// No lane is free for urgent messages; it was not sent.
    #[error(
        "no lane is free for urgent messages ({lanes} in all); raise `lanes` of the engine's builder, or give a gateway `urgent_lanes`"
    )]
    NoUrgentLane {
        /// Lanes of the engine.
        lanes: u32,
    },
    /// The gateway was shut down; the message was not sent.
    #[error("the gateway was shut down; ask the engine for another")]
    GatewayClosed,
    /// A payload of this size is never sent; the message was not sent.
    #[error("a payload of {bytes} bytes is larger than can be sent ({most} bytes); send it in parts")]
    PayloadTooLarge {
        /// Size of the payload.
        bytes: usize,
        /// The most that can be sent in this way.
        most: usize,
    },
    /// The engine's arenas are too small for the payload or for the room for its reply, or there are none; the message was not
    /// sent.
    #[error(
        "{bytes} bytes are larger than the engine's arenas carry ({most} bytes); raise `arena_bytes` of its builder, or send less \
         at once"
    )]
    ArenaTooSmall {
        /// The larger of the payload and the room for its reply.
        bytes: usize,
        /// The most that the arenas carry; 0 without arenas.
        most: usize,
    },
    /// Other requests of this client have what the payload would need of the arena; the message was not sent.
    #[error(
        "{bytes} bytes of the lane's arena are needed and {free} are free at once; take replies first, or raise \
         `arena_bytes` of the engine's builder"
    )]
    ArenaExhausted {
        /// Bytes that are needed.
        bytes: usize,
        /// The longest part that is free.
        free: usize,
    },
}

impl<E> From<SendError> for CallError<E> {
    fn from(error: SendError) -> Self {
        match error {
            SendError::EngineStopped { reason } => Self::EngineStopped { reason },
            SendError::Timeout { after } => Self::Timeout { after },
            SendError::Rejected => Self::Rejected,
            SendError::Dropped => Self::Dropped,
            SendError::DroppedNewest => Self::DroppedNewest,
            SendError::TooManyWaiting { limit } => Self::TooManyWaiting { limit },
            SendError::GatewayClosed => Self::GatewayClosed,
            SendError::NoUrgentLane { lanes } => Self::NoUrgentLane { lanes },
            SendError::PayloadTooLarge { bytes, most } => Self::PayloadTooLarge { bytes, most },
            SendError::ArenaTooSmall { bytes, most } => Self::ArenaTooSmall { bytes, most },
            SendError::ArenaExhausted { bytes, free } => Self::ArenaExhausted { bytes, free },
        }
    }
}

#[cfg(test)]
#[path = "call_error_tests.rs"]
mod tests;
