//! What a gateway counts, and what it holds.

use crate::backpressure::StagingCounts;

/// What became of a gateway's requests, since it was built.
///
/// `sent` is at any time the sum of `answered`, `tells_done`, `tells_failed`, `late`, `stopped` and
/// [`GatewayUsage::in_flight`]; and `abandoned` that of `late` and the abandoned ones that are in flight or were stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GatewayCounts {
    /// Requests published, asks and tells.
    pub sent: u64,
    /// Replies that came while their asks waited, failures included.
    pub answered: u64,
    /// Tells that were acknowledged.
    pub tells_done: u64,
    /// Tells that were answered with a failure.
    pub tells_failed: u64,
    /// Asks that were given up after they were published: their future was dropped, or their time was over.
    pub abandoned: u64,
    /// Replies that came after that.
    pub late: u64,
    /// Requests that were published and whose replies nobody took, because the engine ended or the gateway was shut down.
    pub stopped: u64,
    /// Requests refused because too many waited already.
    pub too_many: u64,
    /// Requests with large payloads whose turn came while others had what they needed of the arena, so that they had to wait.
    pub arena_exhausted: u64,
    /// What became of requests for which the ring had no room at once, and of all that have large payloads.
    pub staging: StagingCounts,
}

impl GatewayCounts {
    /// The sums of both.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            answered: self.answered + other.answered,
            tells_done: self.tells_done + other.tells_done,
            tells_failed: self.tells_failed + other.tells_failed,
            abandoned: self.abandoned + other.abandoned,
            late: self.late + other.late,
            stopped: self.stopped + other.stopped,
            too_many: self.too_many + other.too_many,
            arena_exhausted: self.arena_exhausted + other.arena_exhausted,
            staging: self.staging.plus(&other.staging),
        }
    }
}

/// What a gateway holds at a moment. When nobody waits and every reply has come, `free_slots` is `slots`, `arena_free` is `arena_bytes`,
/// and everything else but `pooled` is 0 again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GatewayUsage {
    /// Asks and tells that wait: for a place, for being published, for a reply, for being polled.
    pub waiting: u64,
    /// Places for those that were made so far; they are used again, and freed with the gateway.
    pub pooled: u64,
    /// Requests in the staging queues.
    pub staged: u64,
    /// Requests that wait for a place in them.
    pub blocked: u64,
    /// Requests that are published and whose replies have not been taken.
    pub in_flight: u64,
    /// Slots of the request rings that may be written.
    pub free_slots: u64,
    /// Slots of the request rings.
    pub slots: u64,
    /// Payloads that are being copied into the lanes' arenas or out of them.
    pub copying: u64,
    /// Bytes of the arenas, of one direction, that no request holds.
    pub arena_free: u64,
    /// Bytes of the arenas, of one direction.
    pub arena_bytes: u64,
}

impl GatewayUsage {
    /// The sums of both.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            waiting: self.waiting + other.waiting,
            pooled: self.pooled + other.pooled,
            staged: self.staged + other.staged,
            blocked: self.blocked + other.blocked,
            in_flight: self.in_flight + other.in_flight,
            free_slots: self.free_slots + other.free_slots,
            slots: self.slots + other.slots,
            copying: self.copying + other.copying,
            arena_free: self.arena_free + other.arena_free,
            arena_bytes: self.arena_bytes + other.arena_bytes,
        }
    }
}
