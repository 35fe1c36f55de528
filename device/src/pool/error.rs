//! How an operation on a collection can fail.

use tourbillon_shared::error::FailureCode;

use crate::actor::NoError;

/// Why an operation on a collection failed; the collection is as it was.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolError {
    /// The shard's pool has no page left, or there are no pools.
    Exhausted = 1,
    /// The actor has not declared that it uses collections.
    Undeclared = 2,
    /// The handle leads to pages that are not, or no longer, this actor's.
    Stale = 3,
}

impl PoolError {
    /// The error of a word, if it is one.
    #[inline(always)]
    pub(crate) const fn from_word(word: u32) -> Option<Self> {
        match word {
            1 => Some(Self::Exhausted),
            2 => Some(Self::Undeclared),
            3 => Some(Self::Stale),
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
