//! How an operation on a collection or a published block can fail.

use tourbillon_shared::error::FailureCode;

use crate::actor::NoError;

/// Why an operation on a collection or a published block failed; both are as they were.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolError {
    /// The shard's pool has no page left, also after what could be reclaimed was, or there are no pools.
    Exhausted = 1,
    /// The actor has not declared that it uses collections.
    Undeclared = 2,
    /// The handle leads to pages that are not, or no longer, this actor's.
    Stale = 3,
    /// The actor has not declared that it uses published blocks.
    BlockUndeclared = 31,
    /// The reference leads to no block that was published, or to one of other elements.
    BlockUnknown = 32,
    /// The block was replaced or taken back.
    BlockStale = 33,
    /// The block is another actor's, who alone may replace it or take it back.
    BlockForeign = 34,
    /// The block would be longer than one can be ([`BlockRef::LENGTH_MAX`](crate::BlockRef::LENGTH_MAX)).
    BlockTooLong = 35,
}

impl PoolError {
    /// The error of a word, if it is one.
    #[inline(always)]
    pub(crate) const fn from_word(word: u32) -> Option<Self> {
        match word {
            1 => Some(Self::Exhausted),
            2 => Some(Self::Undeclared),
            3 => Some(Self::Stale),
            31 => Some(Self::BlockUndeclared),
            32 => Some(Self::BlockUnknown),
            33 => Some(Self::BlockStale),
            34 => Some(Self::BlockForeign),
            35 => Some(Self::BlockTooLong),
            _ => None,
        }
    }

    /// How a message fails whose handler does not forgive the error.
    #[inline(always)]
    pub const fn failure(self) -> FailureCode {
        match self {
            Self::Exhausted => FailureCode::PoolExhausted,
            Self::Undeclared => FailureCode::PoolUndeclared,
            Self::Stale => FailureCode::PoolStale,
            Self::BlockUndeclared => FailureCode::BlockUndeclared,
            Self::BlockUnknown => FailureCode::BlockUnknown,
            Self::BlockStale => FailureCode::BlockStale,
            Self::BlockForeign => FailureCode::BlockForeign,
            Self::BlockTooLong => FailureCode::BlockTooLong,
        }
    }
}

impl core::fmt::Display for PoolError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(&self.failure(), f)
    }
}

impl core::error::Error for PoolError {}

/// So that handlers without errors of their own can use `?`: the engine answers with the failure in place of this value.
impl From<PoolError> for NoError {
    fn from(_: PoolError) -> Self {
        Self::VALUE
    }
}
