//! Failure codes that travel in replies.

/// Why a request was answered with a failure.
///
/// The first payload word of a reply with [`Flags::FAILED`](crate::header::Flags::FAILED) set.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureCode {
    /// The handler returned its typed error; the error's bytes follow.
    Handler = 1,
    /// The handler panicked; a [`PanicPlace`] follows. The actor's state is as before the message.
    Panicked = 2,
    /// No actor of this kind is in the engine's system.
    UnknownKind = 3,
    /// The actor has no handler for this message.
    UnknownMessage = 4,
    /// The shard has no room for one more actor.
    DirectoryFull = 5,
    /// The frame contradicts itself: a length past its span, a reply in place of a request.
    MalformedFrame = 6,
    /// The sender's timestamp is further ahead than the drift bound.
    ClockDrift = 7,
    /// The payload's length is not that of the message, or its bytes are no valid value of it.
    InvalidPayload = 8,
    /// The reply would not fit into the slots, or its payload into the block of the arena, that the request reserved.
    ReplyTooLarge = 9,
    /// The reference to a payload leads out of the lane's arena, or breaks another of its bounds.
    ArenaOutOfBounds = 10,
    /// The block that the reference names holds another payload.
    ArenaStale = 11,
    /// The handler posted more notices than one message may; the state is as before the message, and none was sent.
    TooManyNotices = 12,
    /// A subscriber that does not want to lose notices has no room for one; the state is as before the message, and none was sent.
    OutboxFull = 13,
    /// The message came after its deadline; its handler was not run.
    DeadlinePassed = 14,
    /// A message with this id was handled before, and its answer was too large to be kept; the actor's version after that message
    /// follows in two words. The handler was not run again.
    Duplicate = 15,
    /// The actor has another version than the message expects; its version follows in two words. The handler was not run.
    StaleVersion = 16,
    /// There is no room for a letter that the handler sent, neither in its mailbox nor in the overflow of the sender's shard; the state is
    /// as before the message, and none was sent.
    MailboxFull = 17,
    /// The handler sent more letters than one message may; the state is as before the message, and none was sent.
    TooManyLetters = 18,
    /// The message was handed on more often than it may; the state is as before the message.
    TooManyHops = 19,
    /// So many questions of actors of the shard wait for their answers that there is no room for one more answer; the state is as before
    /// the message, and nothing was sent.
    TooManyQuestions = 23,
    /// The handler handed on what it cannot: a message with an id, an expected version or a payload in an arena, or two at once; the
    /// state is as before the message.
    CannotForward = 24,
    /// The actor sends letters without having declared it, or the answer of a question is for another kind of actor; the state is as before
    /// the message.
    LettersUndeclared = 25,
    /// The actor was stopped; its handler was not run.
    Stopped = 26,
    /// Of a supervisor, to its parent alone: its children failed more often than it lets them.
    TooManyRestarts = 27,
    /// So many broadcasts are under way that there is no number for one more; the state is as before the message, and nothing was sent.
    TooManyBroadcasts = 39,
    /// A request to broadcast has an id, an expected version or a payload in an arena, which belong to one actor; nothing was sent.
    CannotBroadcast = 40,
    /// The actor lives on the host, and nobody there serves it.
    HostAbsent = 41,
    /// The actor lives on the host, and what serves it ended before it answered; its handler may have run.
    HostEnded = 42,
    /// The actor lives on the host, which does not keep up: the outbox by which messages come there is full. Nothing was handed over.
    HostBusy = 43,
    /// The shard's pool has no page left for a collection; state and collections are as before the message.
    PoolExhausted = 28,
    /// The actor uses a collection without having declared it; state and collections are as before the message.
    PoolUndeclared = 29,
    /// A collection's handle leads to pages that are not this actor's; state and collections are as before the message.
    PoolStale = 30,
    /// The actor reads or publishes a block without having declared it; state and pool are as before the message.
    BlockUndeclared = 31,
    /// A reference leads to no block that was ever published, or to one of other elements; state and pool are as before the message.
    BlockUnknown = 32,
    /// The block was replaced or taken back; state and pool are as before the message.
    BlockStale = 33,
    /// The block is another actor's, who alone may replace it or take it back; state and pool are as before the message.
    BlockForeign = 34,
    /// The block would be longer than one can be; state and pool are as before the message.
    BlockTooLong = 35,
    /// The key is in a space that clients have no keys in.
    UnknownKeySpace = 20,
    /// So many messages wait already for actors that come or go that there is no place for one more.
    TooManyWaiting = 21,
    /// The store failed to bring the actor; the next message asks again.
    FetchFailed = 22,
}

impl FailureCode {
    /// The code of a payload word, if it is one.
    pub const fn from_word(word: u32) -> Option<Self> {
        Some(match word {
            1 => Self::Handler,
            2 => Self::Panicked,
            3 => Self::UnknownKind,
            4 => Self::UnknownMessage,
            5 => Self::DirectoryFull,
            6 => Self::MalformedFrame,
            7 => Self::ClockDrift,
            8 => Self::InvalidPayload,
            9 => Self::ReplyTooLarge,
            10 => Self::ArenaOutOfBounds,
            11 => Self::ArenaStale,
            12 => Self::TooManyNotices,
            13 => Self::OutboxFull,
            14 => Self::DeadlinePassed,
            15 => Self::Duplicate,
            16 => Self::StaleVersion,
            17 => Self::MailboxFull,
            18 => Self::TooManyLetters,
            19 => Self::TooManyHops,
            23 => Self::TooManyQuestions,
            24 => Self::CannotForward,
            25 => Self::LettersUndeclared,
            26 => Self::Stopped,
            27 => Self::TooManyRestarts,
            39 => Self::TooManyBroadcasts,
            40 => Self::CannotBroadcast,
            41 => Self::HostAbsent,
            42 => Self::HostEnded,
            43 => Self::HostBusy,
            28 => Self::PoolExhausted,
            29 => Self::PoolUndeclared,
            30 => Self::PoolStale,
            31 => Self::BlockUndeclared,
            32 => Self::BlockUnknown,
            33 => Self::BlockStale,
            34 => Self::BlockForeign,
            35 => Self::BlockTooLong,
            20 => Self::UnknownKeySpace,
            21 => Self::TooManyWaiting,
            22 => Self::FetchFailed,
            _ => return None,
        })
    }
}

impl core::fmt::Display for FailureCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Handler => "the handler returned an error",
            Self::Panicked => "the handler panicked; the actor's state is as before the message",
            Self::UnknownKind => "the engine's system has no actor of this kind; add it to the system's list",
            Self::UnknownMessage => "the actor has no handler for this message",
            Self::DirectoryFull => "the shard has no room for one more actor; raise `actors_per_shard`",
            Self::MalformedFrame => "the frame contradicts itself",
            Self::ClockDrift => "the sender's clock is too far ahead; check the host's clock",
            Self::InvalidPayload => "the payload is no valid value of the message",
            Self::ReplyTooLarge => "the reply does not fit into what the request reserved for it",
            Self::ArenaOutOfBounds => "the reference to the payload leads out of the lane's arena",
            Self::ArenaStale => "the arena holds another payload where the reference leads",
            Self::TooManyNotices => "the handler posted more notices than one message may",
            Self::OutboxFull => "a subscriber's outbox has no room, and it wants to lose nothing",
            Self::DeadlinePassed => "the message came after its deadline; its handler was not run",
            Self::Duplicate => "a message with this id was handled before; its handler was not run again",
            Self::StaleVersion => "the actor has another version than the message expects; its handler was not run",
            Self::MailboxFull => {
                "there is no room for what the handler sends; raise `mailbox_capacity` or `overflow_capacity`"
            }
            Self::TooManyLetters => "the handler sent more letters than one message may",
            Self::TooManyHops => "the message was handed on more often than it may; is there a circle?",
            Self::TooManyQuestions => "too many questions wait for answers; raise `mailbox_capacity`",
            Self::CannotForward => {
                "the handler handed on what it cannot: an id, an expected version, a payload, or twice"
            }
            Self::LettersUndeclared => "the actor sends letters; declare `letters: true` in its `actor!`",
            Self::Stopped => "the actor was stopped; start it again as a child of a supervisor",
            Self::TooManyRestarts => "the supervisor's children failed more often than it lets them",
            Self::TooManyBroadcasts => "too many broadcasts are under way; wait for some, or raise `mailbox_capacity`",
            Self::CannotBroadcast => "a broadcast has no id, no expected version and no payload in an arena",
            Self::HostAbsent => "nobody on the host serves the actor; register its kind with `Engine::host_actors`",
            Self::HostEnded => "what serves host actors ended before it answered; the handler may have run",
            Self::HostBusy => {
                "host actors do not keep up; send less at once, give them threads, or raise `outbox_capacity`"
            }
            Self::PoolExhausted => "the shard's pool has no page left; raise `pool_bytes_per_shard`",
            Self::PoolUndeclared => "the actor uses a collection; declare `pools: true` in its `actor!`",
            Self::PoolStale => "the handle of a collection was copied, and leads to pages that are not its own",
            Self::BlockUndeclared => "the actor uses published blocks; declare `blocks: true` in its `actor!`",
            Self::BlockUnknown => "the reference leads to no published block of such elements",
            Self::BlockStale => "the block was replaced or taken back; ask its actor for the latest",
            Self::BlockForeign => "the block is another actor's, who alone may replace it or take it back",
            Self::BlockTooLong => "a block has at most 56 pages of data, 14,336 bytes; publish several",
            Self::UnknownKeySpace => "clients have no keys in this key space",
            Self::TooManyWaiting => "too many messages of the shard wait for actors that come or go; raise `waiters`",
            Self::FetchFailed => "the store failed to bring the actor; the next message asks again",
        })
    }
}

/// Where a handler panicked.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct PanicPlace {
    /// Line, from 1; 0 when it is not known.
    pub line: u32,
    /// Column, from 1; 0 when it is not known.
    pub column: u32,
    /// [`file_hash`] of the source file's name, 0 when it is not known.
    pub file: u32,
}

/// Words of a failure payload that every request must leave room for: the code and a [`PanicPlace`].
pub const FAILURE_WORDS: usize = 1 + size_of::<PanicPlace>() / 4;

const _: () = assert!(FAILURE_WORDS == 4);

/// FNV-1a (Fowler, Noll, Vo) over a file's name: names do not fit into a failure, this does.
pub const fn file_hash(name: &str) -> u32 {
    let bytes = name.as_bytes();
    let mut hash = 0x811c_9dc5u32;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u32).wrapping_mul(0x0100_0193);
        i += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip() {
        for word in 0..100 {
            if let Some(code) = FailureCode::from_word(word) {
                assert_eq!(code as u32, word);
            }
        }
        assert_eq!(FailureCode::from_word(0), None);
    }
}
