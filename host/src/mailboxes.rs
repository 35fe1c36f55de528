//! Messages between actors, as a host sees them: how full mailboxes are, and whether anything is still under way.

use std::time::{Duration, Instant};

use tourbillon_shared::mailbox::MailboxState;
use tourbillon_shared::mutant;
use tourbillon_shared::telemetry::Counter;

use crate::backend::Purpose;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::shared::Shared;

/// Time between two looks at the counters: a look copies those of all warps, so it is not for nothing.
const LOOK_EVERY: Duration = Duration::from_micros(200);

/// The mailbox of one shard. Exact while the engine is paused; while it runs, each figure is of another moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailboxUsage {
    /// Letters that the shard's actors have sent, answers included.
    pub sent: u64,
    /// Letters that the shard has taken from its mailbox.
    pub received: u64,
    /// Slots of letters and answers that were ever put into the mailbox.
    pub slots_put: u64,
    /// Slots of those that were taken.
    pub slots_taken: u64,
    /// Letters that found no room in their mailbox and went to this shard's overflow first.
    pub overflowed: u64,
    /// Letters that wait in this shard's overflow.
    pub waiting: u64,
    /// Messages that failed because there was no room for what their handlers sent.
    pub refused: u64,
    /// Slots of the mailbox that are free for letters, ...
    pub room: u64,
    /// ... those that are free for answers to questions of the shard's actors, ...
    pub answer_room: u64,
    /// ... and those of the overflow.
    pub overflow_room: u64,
}

/// What the engine has done when nothing was under way any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages that came from clients.
    pub claimed: u64,
    /// Letters that actors have sent to actors.
    pub letters: u64,
    /// Messages and letters that were handled, or answered with a failure.
    pub processed: u64,
}

impl Traffic {
    /// Messages and letters that are not handled yet.
    pub fn under_way(&self) -> u64 {
        (self.claimed + self.letters).saturating_sub(self.processed)
    }

    fn of(shared: &Shared) -> Result<Self, EngineError> {
        let mut traffic = Self::default();
        for stats in shared.warp_stats()? {
            let [claimed, letters, processed] = [Counter::Claimed, Counter::Letters, Counter::Processed]
                .map(|counter| stats.counters[counter as usize]);
            traffic.claimed += claimed;
            traffic.letters += letters;
            traffic.processed += processed;
        }
        Ok(traffic)
    }
}

/// Why an engine was not found quiet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuiesceError {
    /// Messages were under way all the time.
    #[error(
        "{} messages are under way after {after:?} ({} from clients, {} letters, {} handled); do actors send each other messages for ever?",
        .traffic.under_way(), .traffic.claimed, .traffic.letters, .traffic.processed
    )]
    Timeout {
        /// How long was waited.
        after: Duration,
        /// As of the last look.
        traffic: Traffic,
        /// The mailboxes, by shard; empty where no actor of the system sends letters.
        mailboxes: Vec<MailboxUsage>,
    },
    /// The engine does not serve.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Engine {
    /// The mailbox of each shard, read from device memory: exact while the engine is paused. Empty where no actor of the system sends
    /// letters.
    ///
    /// # Errors
    /// What copying says.
    pub fn mailboxes(&self) -> Result<Vec<MailboxUsage>, EngineError> {
        usage(&self.shared)
    }

    /// Waits until nothing is under way on the device: every message that a gate has taken from a client is handled, and every letter
    /// that a handler has sent, whatever these led to. What clients have published and no gate has taken is not seen, nor what they
    /// send meanwhile.
    ///
    /// Two looks at the counters must show the same sums, as many messages begun as ended: then nothing was under way when the first look
    /// ended (Mattern, "Algorithms for distributed termination detection", 1987, the four-counter method).
    ///
    /// # Errors
    /// [`QuiesceError::Timeout`] with a report; [`QuiesceError::Engine`] as soon as the engine has ended or failed with messages under way.
    pub fn quiesce(&self, timeout: Duration) -> Result<Traffic, QuiesceError> {
        let began = Instant::now();
        let mut last = None;
        loop {
            // Of one that had ended before, nothing changes any more.
            let has_ended = self.shared.status.is_ended();
            let traffic = Traffic::of(&self.shared)?;
            if traffic.under_way() == 0 && (has_ended || last == Some(traffic)) {
                return Ok(traffic);
            }
            if has_ended && !mutant!("ended_engines_awaited") {
                return Err(self.shared.stopped().into());
            }
            last = Some(traffic);
            if began.elapsed() >= timeout {
                return Err(QuiesceError::Timeout { after: timeout, traffic, mailboxes: self.mailboxes()? });
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// The usage of each shard's mailbox; nothing without mailboxes.
fn usage(shared: &Shared) -> Result<Vec<MailboxUsage>, EngineError> {
    const BYTES: u64 = size_of::<MailboxState>() as u64;
    let shards = if shared.geometry.mailbox_log2 == 0 { 0 } else { shared.geometry.shards };
    let mut core = shared.core();
    if core.is_closed {
        return Err(shared.stopped());
    }
    let mut all = Vec::new();
    for shard in 0..shards {
        let mut words = [0u64; BYTES as usize / 8];
        core.machine.read(shared.layout.mailboxes + u64::from(shard) * BYTES, &mut words, Purpose::Other)?;
        let state: MailboxState = bytemuck::cast(words);
        all.push(MailboxUsage {
            sent: state.sent,
            received: state.received,
            slots_put: state.tail,
            slots_taken: state.head,
            overflowed: state.overflowed,
            waiting: state.waiting.iter().sum(),
            refused: state.refused,
            // While handlers run it may be below zero for a moment.
            room: (state.room as i64).max(0) as u64,
            answer_room: (state.answers as i64).max(0) as u64,
            overflow_room: (state.overflow_room as i64).max(0) as u64,
        });
    }
    Ok(all)
}
