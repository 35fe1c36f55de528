//! What a request may say beside its message: a deadline, an id, the version that its actor must have.
//!
//! Each is an extension of the frame. A shard acts on them, in this order, when the message is about to run:
//!
//! 1. *Message id*: is it in the shard's window ([`crate::dedup`])? Then the message was handled before, and is not run again. This
//!    comes first: whoever repeats a message wants to know what became of it, however late and whatever version the actor has
//!    meanwhile.
//! 2. *Deadline*: is it past? Then the message is worthless, and becomes a dead letter ([`crate::dead_letter`]).
//! 3. *Expected version*: is it the actor's? If not, the message would overwrite what its sender has not seen.
//!
//! Such a frame is alone in its window ([`Flags::APART`]), so that the window of ids has one user at a time.

use crate::frame::payload_start;
use crate::header::{Flags, HEADER_WORDS};

/// The expected version of a message that goes on whatever the version is, and only wants to be told.
pub const ANY_VERSION: u64 = u64::MAX;
/// Words of all options together.
pub const OPTION_WORDS_MAX: usize = 8;

/// The extensions of a request's options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// The timestamp ([`crate::hlc`]) after whose physical time the message is worthless.
    pub deadline: Option<u64>,
    /// The id under which the message is handled once.
    pub message_id: Option<u128>,
    /// The version that the actor must have; [`ANY_VERSION`] for any. The version of an actor that does not exist is 0.
    pub if_version: Option<u64>,
}

impl Extensions {
    /// The flags that announce them.
    pub const fn flags(&self) -> u16 {
        let deadline = if self.deadline.is_some() { Flags::DEADLINE } else { 0 };
        let message_id = if self.message_id.is_some() { Flags::MESSAGE_ID } else { 0 };
        let if_version = if self.if_version.is_some() { Flags::IF_VERSION } else { 0 };
        deadline | message_id | if_version
    }

    /// Writes them to `words`, in the order of a frame; how many words they take.
    pub fn encode(&self, words: &mut [u32; OPTION_WORDS_MAX]) -> usize {
        let pair = |value: u64| [value as u32, (value >> 32) as u32];
        let id = self.message_id.map(id_words);
        let parts = [
            self.deadline.map(pair),
            id.map(|id| [id[0], id[1]]),
            id.map(|id| [id[2], id[3]]),
            self.if_version.map(pair),
        ];
        let mut count = 0;
        for (to, word) in words.iter_mut().zip(parts.into_iter().flatten().flatten()) {
            *to = word;
            count += 1;
        }
        count
    }
}

/// An id in words, the lowest first.
pub const fn id_words(id: u128) -> [u32; 4] {
    [id as u32, (id >> 32) as u32, (id >> 64) as u32, (id >> 96) as u32]
}

/// The id in words.
pub const fn id_of(words: [u32; 4]) -> u128 {
    words[0] as u128 | (words[1] as u128) << 32 | (words[2] as u128) << 64 | (words[3] as u128) << 96
}

/// First word of a request's deadline, counted in data words; the flags have [`Flags::DEADLINE`].
#[inline(always)]
pub const fn deadline_start(_flags: Flags) -> u32 {
    HEADER_WORDS as u32
}

/// First word of a request's id; the flags have [`Flags::MESSAGE_ID`].
#[inline(always)]
pub const fn message_id_start(flags: Flags) -> u32 {
    if flags.has(Flags::DEADLINE) { HEADER_WORDS as u32 + 2 } else { HEADER_WORDS as u32 }
}

/// First word of the version that a request expects; the flags have [`Flags::IF_VERSION`]. Only an arena's reference stands behind it.
#[inline(always)]
pub const fn version_start(flags: Flags) -> u32 {
    let behind = if flags.has(Flags::ARENA) { crate::arena::ARENA_REF_WORDS + 2 } else { 2 };
    payload_start(flags).wrapping_sub(behind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn options_are_found_where_they_are_written(
            deadline: Option<u64>,
            message_id: Option<u128>,
            if_version: Option<u64>,
        ) {
            let extensions = Extensions { deadline, message_id, if_version };
            let flags = Flags::new(2, extensions.flags());
            let mut words = [0xffff_ffff; OPTION_WORDS_MAX];
            prop_assert_eq!(extensions.encode(&mut words), flags.extension_words() as usize);
            let at = |start: u32, i: usize| words[start as usize - HEADER_WORDS + i];
            let pair = |start: u32| u64::from(at(start, 0)) | u64::from(at(start, 1)) << 32;
            if let Some(deadline) = deadline {
                prop_assert_eq!(pair(deadline_start(flags)), deadline);
            }
            if let Some(id) = message_id {
                prop_assert_eq!(id_of(core::array::from_fn(|i| at(message_id_start(flags), i))), id);
            }
            if let Some(version) = if_version {
                prop_assert_eq!(pair(version_start(flags)), version);
                // The reference of an arena comes behind all of them.
                let with_arena = flags.with(Flags::ARENA);
                prop_assert_eq!(version_start(with_arena), version_start(flags));
                prop_assert_eq!(crate::frame::arena_start(with_arena), version_start(flags) + 2);
            }
        }
    }
}
