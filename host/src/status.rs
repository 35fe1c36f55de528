//! Whether an engine serves, as its clients see it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// New requests are accepted.
const OPEN: u32 = 0;
/// Nothing new is accepted; what is published is still answered.
const DRAINING: u32 = 1;
/// Nothing is answered any longer.
const ENDED: u32 = 2;

/// Grows from open over draining to ended, never back.
#[derive(Debug, Default)]
pub(crate) struct Status {
    state: AtomicU32,
    reason: Mutex<Option<Arc<str>>>,
}

impl Status {
    /// Whether new requests are accepted.
    #[inline(always)]
    pub(crate) fn is_open(&self) -> bool {
        // Relaxed: nothing is read on the strength of it.
        self.state.load(Ordering::Relaxed) == OPEN
    }

    /// Whether nothing is answered any longer. What was answered before is visible to the caller.
    #[inline(always)]
    pub(crate) fn is_ended(&self) -> bool {
        // Acquire pairs with the Release in `advance`: the last replies came before it.
        self.state.load(Ordering::Acquire) == ENDED
    }

    /// Accepts nothing new.
    pub(crate) fn drain(&self) {
        self.advance(DRAINING, "it drains");
    }

    /// Ends service, for the first `reason` that is given.
    pub(crate) fn end(&self, reason: &str) {
        self.advance(ENDED, reason);
    }

    fn advance(&self, state: u32, reason: &str) {
        let mut kept = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        if self.state.load(Ordering::Relaxed) < state {
            *kept = Some(reason.into());
            // Release pairs with the Acquire in `is_ended`.
            self.state.store(state, Ordering::Release);
        }
    }

    /// Why nothing (new) is accepted.
    pub(crate) fn reason(&self) -> Arc<str> {
        let kept = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clone().unwrap_or_else(|| "it serves".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_to_end_stays() {
        let status = Status::default();
        assert!(status.is_open() && !status.is_ended());
        status.drain();
        assert!(!status.is_open() && !status.is_ended());
        status.end("first");
        status.end("second");
        status.drain();
        assert!(status.is_ended());
        assert_eq!(&*status.reason(), "first");
    }
}
