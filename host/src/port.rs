//! A client's end of a lane: publishing requests, taking replies, and which slots may be used again.
//!
//! # Protocol
//! Positions from `freed` to `tail` hold requests whose replies were not all taken:
//!
//! ```text
//! freed            next                 tail             freed + capacity
//!   | pending ...    | run: taken in order |  free ...      |
//! ```
//!
//! A frame is *pending* when nobody waits for its reply: a tell, or a call whose caller gave up. Its slots are used
//! again only when its reply has come, so a late reply can never be mistaken for that of another request. The *run* are
//! the frames, all of one span, whose replies are taken in order. The next reply to a call is thus at `next` when nothing else
//! is in the run.
//!
//! A tell for which there is no room may lie in a *staging queue* in front of the ring; while one does, nothing else is published
//! before it.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::sync::Arc;

use tourbillon_device::Plain;
use tourbillon_device::arch::native::Doorbell;
use tourbillon_shared::frame::{FRAME_WORDS_MAX, PAYLOAD_BYTES_MAX, decode_payload};
use tourbillon_shared::header::{Flags, HEADER_WORDS, Header};
use tourbillon_shared::mutant;
use tourbillon_shared::slot::DATA_WORDS_PER_SLOT;

use crate::arena::{Arena, Block, NoBlock, frame_payload, reference_in};
use crate::backpressure::{Backpressure, StagingCounts};
use crate::call_error::{CallError, reply_in};
use crate::lane::{Lane, is_answered};
use crate::lane_end::{LaneEnd, header_in};
use crate::options::body_bytes;
use crate::staging::{Admission, Leave, STAGING_DEFAULT, Staging, Ticket};

/// A frame whose reply nobody waits for.
#[derive(Debug)]
pub(crate) struct Pending {
    position: u64,
    span: u32,
    is_tell: bool,
    /// Its block of the arena, if it has one, which is used again when the reply has come.
    block: Option<Block>,
}

impl Pending {
    /// A frame of `span` slots at `position`.
    #[cfg(feature = "async")]
    pub(crate) fn new(position: u64, span: u32, is_tell: bool) -> Self {
        Self { position, span, is_tell, block: None }
    }

    /// Whether its reply has come.
    pub(crate) fn is_answered(&self, lane: &Lane) -> bool {
        is_answered(&lane.replies(), lane.shape(), self.position, self.span)
    }
}

/// What became of messages that nobody waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCounts {
    /// Requests published, of any sort.
    pub sent: u64,
    /// Tells that were acknowledged.
    pub tells_done: u64,
    /// Tells that were answered with a failure.
    pub tells_failed: u64,
    /// Calls whose caller gave up.
    pub abandoned: u64,
    /// Replies that came after their caller gave up.
    pub late: u64,
    /// Requests with large payloads that were refused because others had what they would have needed of the arena.
    pub arena_exhausted: u64,
    /// What became of tells for which the ring had no room at once.
    pub staging: StagingCounts,
}

impl ClientCounts {
    /// The sums of both.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            tells_done: self.tells_done + other.tells_done,
            tells_failed: self.tells_failed + other.tells_failed,
            abandoned: self.abandoned + other.abandoned,
            late: self.late + other.late,
            arena_exhausted: self.arena_exhausted + other.arena_exhausted,
            staging: self.staging.plus(&other.staging),
        }
    }
}

/// A tell in the staging queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StagedTell {
    header: Header,
    payload: [u8; PAYLOAD_BYTES_MAX],
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Port {
    end: LaneEnd,
    /// Oldest reply of the run; equal to the tail when the run is empty.
    next: u64,
    /// Slots of every frame of the run.
    run_span: u32,
    pending: VecDeque<Pending>,
    arena: Arena,
    /// Blocks of the run, oldest first; none unless its frames have large payloads.
    blocks: VecDeque<Block>,
    staging: Staging<StagedTell>,
    counts: ClientCounts,
}

impl Port {
    /// Takes over a lane on which everything is answered.
    pub(crate) fn new(lane: Arc<Lane>, doorbell: Option<Arc<Doorbell>>) -> Self {
        Self::over(LaneEnd::new(lane, doorbell))
    }

    fn over(end: LaneEnd) -> Self {
        Self {
            next: end.tail(),
            run_span: 1,
            // A frame takes at least one slot, so this never grows.
            pending: VecDeque::with_capacity(end.lane().capacity() as usize),
            arena: end.arena(),
            blocks: VecDeque::new(),
            staging: Staging::new(STAGING_DEFAULT),
            counts: ClientCounts::default(),
            end,
        }
    }

    /// The lane, for somebody who holds it as well.
    pub(crate) fn shared_lane(&self) -> Arc<Lane> {
        self.end.shared_lane()
    }

    pub(crate) fn lane(&self) -> &Lane {
        self.end.lane()
    }

    pub(crate) fn counts(&self) -> ClientCounts {
        ClientCounts { sent: self.end.sent(), staging: self.staging.counts(), ..self.counts }
    }

    /// The last timestamp given or seen.
    pub(crate) fn hlc(&self) -> u64 {
        self.end.hlc()
    }

    /// Takes note of a timestamp.
    pub(crate) fn observe(&mut self, hlc: u64) {
        self.end.merge(hlc);
    }

    /// Whether every reply of the run was taken.
    #[inline(always)]
    pub(crate) fn is_idle(&self) -> bool {
        self.next == self.end.tail()
    }

    /// Frames of the run whose replies were not taken.
    pub(crate) fn in_flight(&self) -> u64 {
        self.end.tail().wrapping_sub(self.next) / u64::from(self.run_span)
    }

    /// Frames whose replies nobody waits for and that have not been seen to come.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether a frame of `span` slots has room.
    #[inline(always)]
    pub(crate) fn has_room(&self, span: u32) -> bool {
        self.end.has_room(span)
    }

    /// Whether a frame of `span` slots may be published now: it has room, and no tell is staged before it.
    #[inline(always)]
    pub(crate) fn can_publish(&self, span: u32) -> bool {
        self.staging.is_empty() && self.has_room(span)
    }

    /// Whether tells are staged.
    pub(crate) fn is_behind(&self) -> bool {
        !self.staging.is_empty()
    }

    /// How many tells may be staged.
    pub(crate) fn staging_bound(&self) -> u32 {
        self.staging.bound()
    }

    /// Sets how many tells may be staged.
    pub(crate) fn set_staging_bound(&mut self, bound: u32) {
        self.staging.set_bound(bound);
    }

    /// Puts a tell into the staging queue, or does what `strategy` says.
    pub(crate) fn stage(&mut self, header: Header, payload: &[u8], strategy: Backpressure) -> Admission<StagedTell> {
        let mut staged = StagedTell { header, payload: [0; PAYLOAD_BYTES_MAX] };
        staged.payload.iter_mut().zip(payload).for_each(|(to, from)| *to = *from);
        self.staging.admit(staged, strategy)
    }

    /// Whether a tell is still staged.
    pub(crate) fn is_staged(&self, ticket: Ticket) -> bool {
        self.staging.contains(ticket)
    }

    /// Takes a tell out of the staging queue, unless it was published.
    pub(crate) fn unstage(&mut self, ticket: Ticket, why: Leave) {
        self.staging.remove(ticket, why);
    }

    /// Takes all tells out of the staging queue, because nothing is published any longer; how many.
    pub(crate) fn end_staged(&mut self) -> u32 {
        std::iter::from_fn(|| self.staging.end_next()).count() as u32
    }

    /// Publishes staged tells, oldest first, as far as there is room. The run must be empty, and stays so.
    pub(crate) fn publish_staged(&mut self) {
        debug_assert!(self.is_idle());
        let span_of_run = self.run_span;
        while self.staging.front().is_some_and(|staged| self.has_room(staged.header.flags.span())) {
            let Some(StagedTell { header, payload }) = self.staging.pop() else { break };
            self.run_span = header.flags.span();
            self.publish(header, &payload[..body_bytes(&header).min(PAYLOAD_BYTES_MAX)]);
            self.tell_next();
        }
        self.run_span = span_of_run;
    }

    /// Lets the next message read the clock.
    #[inline(always)]
    pub(crate) fn forget_clock(&mut self) {
        self.end.forget_clock();
    }

    /// Begins a run of frames of `span` slots.
    #[inline(always)]
    pub(crate) fn begin_run(&mut self, span: u32) {
        debug_assert!(self.next == self.end.tail());
        self.run_span = span;
    }

    /// Gives up the frames of the run that were not taken.
    pub(crate) fn end_run(&mut self) {
        while self.next != self.end.tail() {
            self.abandon_next();
        }
    }

    /// Gives up the oldest frame of the run; its slots are used again when its reply has come.
    pub(crate) fn abandon_next(&mut self) {
        self.counts.abandoned += 1;
        self.postpone_next(false);
    }

    /// Takes the oldest frame of the run as a tell.
    pub(crate) fn tell_next(&mut self) {
        self.postpone_next(true);
    }

    #[inline]
    fn postpone_next(&mut self, is_tell: bool) {
        debug_assert!(self.next != self.end.tail() && self.pending.len() < self.end.shape().capacity() as usize);
        let mut block = self.blocks.pop_front();
        if mutant!("arena_freed_early")
            && let Some(block) = block.take()
        {
            self.arena.blocks.give_back(block);
        }
        self.pending.push_back(Pending { position: self.next, span: self.run_span, is_tell, block });
        self.next = self.next.wrapping_add(u64::from(self.run_span));
    }

    /// What is still unanswered, for whoever watches the lane after this client.
    pub(crate) fn take_pending(&mut self) -> VecDeque<Pending> {
        self.end_run();
        self.settle();
        std::mem::take(&mut self.pending)
    }

    /// As [`LaneEnd::publish`], as the next frame of the run.
    #[inline(always)]
    pub(crate) fn publish(&mut self, header: Header, payload: &[u8]) {
        self.end.publish(header, payload);
    }

    /// Takes a block of the arena for a payload of `bytes` bytes and a reply's of up to `room`.
    pub(crate) fn reserve(&mut self, bytes: usize, room: usize) -> Result<Block, NoBlock> {
        self.arena.blocks.reserve(bytes, room)
    }

    /// Counts a request that was refused for want of a block.
    pub(crate) fn note_exhausted(&mut self) {
        self.counts.arena_exhausted += 1;
    }

    /// Writes `payload` into its block and publishes the request, as the next frame of a run of such. The header's span has room for
    /// the reference and the message.
    pub(crate) fn publish_large(&mut self, header: Header, message: &[u8], payload: &[u8], mut block: Block) {
        self.arena.memory.write(&mut block, payload);
        self.end.publish(header, &frame_payload(&block, message));
        self.blocks.push_back(block);
    }

    /// The reply at the head of a run with large payloads, if it has come; `read` gets its payload, which it must copy.
    pub(crate) fn try_take_large<R, E, T>(
        &mut self,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Option<Result<(R, T), CallError<E>>>
    where
        R: Plain,
        E: Plain,
    {
        let span = self.run_span;
        let mut words = [0; FRAME_WORDS_MAX];
        if !self.end.copy_reply(self.next, span, &mut words) {
            return None;
        }
        let header = header_in(&words);
        let block = self.blocks.pop_front();
        let reply = reply_in::<R, E>(&words[..span as usize * DATA_WORDS_PER_SLOT]).and_then(|reply| {
            let payload =
                block.as_ref().and_then(|block| self.arena.memory.read(block, reference_in(&header, &words)?));
            payload.map(|payload| (reply, read(payload))).ok_or(CallError::InvalidReply)
        });
        if let Some(block) = block.filter(|_| reply.is_ok() || !mutant!("arena_block_lost")) {
            self.arena.blocks.give_back(block);
        }
        self.end.merge(header.hlc);
        self.next = self.next.wrapping_add(u64::from(span));
        self.free();
        Some(reply)
    }

    /// As [`LaneEnd::publish_slots`], as the next frame of the run.
    pub(crate) fn publish_slots(&mut self, slots: &[[u32; DATA_WORDS_PER_SLOT]]) {
        self.end.publish_slots(slots);
    }

    /// The reply at the head of the run, if it has come; `span` is that of the run.
    #[inline(always)]
    pub(crate) fn try_take<R, E>(&mut self, span: u32) -> Option<Result<R, CallError<E>>>
    where
        R: Plain,
        E: Plain,
    {
        debug_assert_eq!(span, self.run_span);
        let data = self.end.reply_slot(self.next)?;
        let mut value = MaybeUninit::<R>::zeroed();
        let target = value.as_mut_ptr().cast::<u8>();
        let mut word = 0;
        while word < DATA_WORDS_PER_SLOT - HEADER_WORDS {
            // SAFETY: `value` has the size of `R`, which is what `put_word` is told.
            unsafe { put_word(target, size_of::<R>(), word, data[HEADER_WORDS + word]) };
            word += 1;
        }
        let mut slot = 1;
        while slot < span as usize {
            let more = self.end.reply_slot(self.next.wrapping_add(slot as u64))?;
            let mut i = 0;
            while i < DATA_WORDS_PER_SLOT {
                let word = slot * DATA_WORDS_PER_SLOT + i - HEADER_WORDS;
                // SAFETY: as above.
                unsafe { put_word(target, size_of::<R>(), word, more[i]) };
                i += 1;
            }
            slot += 1;
        }
        let header = header_in(&data);
        let is_value = header.flags.has(Flags::REPLY)
            && header.flags.0 & Flags::FAILED == 0
            && usize::from(header.length) == size_of::<R>()
            // SAFETY: all bytes were set, to zero at least.
            && unsafe { R::is_valid(value.as_ptr()) };
        let reply = if is_value {
            // SAFETY: its bytes were found to be a value.
            Ok(unsafe { value.assume_init() })
        } else {
            Err(self.failure(span))
        };
        self.end.merge(header.hlc);
        self.next = self.next.wrapping_add(u64::from(span));
        self.free();
        Some(reply)
    }

    /// As [`try_take`](Self::try_take), with the reply's header, for a run of one frame with options.
    pub(crate) fn try_take_answer<R, E>(&mut self) -> Option<Result<(R, Header), CallError<E>>>
    where
        R: Plain,
        E: Plain,
    {
        let span = self.run_span;
        let mut words = [0; FRAME_WORDS_MAX];
        if !self.end.copy_reply(self.next, span, &mut words) {
            return None;
        }
        let header = header_in(&words);
        let reply = reply_in::<R, E>(&words[..span as usize * DATA_WORDS_PER_SLOT]);
        self.end.merge(header.hlc);
        self.next = self.next.wrapping_add(u64::from(span));
        self.free();
        Some(reply.map(|value| (value, header)))
    }

    /// The reply at the head of the run as it is, if it has come.
    pub(crate) fn try_take_raw(&mut self) -> Option<(Header, Vec<u8>)> {
        let (span, next) = (self.run_span, self.next);
        if !self.end.is_answered(next, span) {
            return None;
        }
        let (header, payload) = self.read_frame(span);
        self.end.merge(header.hlc);
        self.next = next.wrapping_add(u64::from(span));
        self.free();
        Some((header, payload))
    }

    #[cold]
    fn failure<E: Plain>(&self, span: u32) -> CallError<E> {
        let (header, payload) = self.read_frame(span);
        if header.flags.has(Flags::REPLY | Flags::FAILED) {
            CallError::of_failure(&header, &payload)
        } else {
            CallError::InvalidReply
        }
    }

    /// Header and payload of the complete reply at `next`.
    fn read_frame(&self, span: u32) -> (Header, Vec<u8>) {
        let mut words = [0; FRAME_WORDS_MAX];
        self.end.copy_reply(self.next, span, &mut words);
        let header = header_in(&words);
        let mut payload = vec![0; usize::from(header.length)];
        let length = decode_payload(&header, &words[..span as usize * DATA_WORDS_PER_SLOT], &mut payload);
        payload.truncate(length);
        (header, payload)
    }

    /// Takes the replies that nobody waits for and that have come, oldest first.
    pub(crate) fn settle(&mut self) {
        while self.pending.front().is_some_and(|pending| pending.is_answered(self.end.lane())) {
            let Some(pending) = self.pending.pop_front() else { break };
            if let Some(data) = self.end.reply_slot(pending.position) {
                let header = header_in(&data);
                self.end.merge(header.hlc);
                match (pending.is_tell, header.flags.has(Flags::FAILED)) {
                    (true, false) => self.counts.tells_done += 1,
                    (true, true) => self.counts.tells_failed += 1,
                    (false, _) => self.counts.late += 1,
                }
            }
            if let Some(block) = pending.block {
                self.arena.blocks.give_back(block);
            }
        }
        self.free();
    }

    /// Moves `freed` over what was taken.
    #[inline(always)]
    fn free(&mut self) {
        let freed = self.pending.front().map_or(self.next, |pending| pending.position);
        self.end.free_to(freed);
    }
}

/// Writes word `i` of a payload of `bytes` bytes at `target`; nothing past its end.
///
/// # Safety
/// `target` is valid for writes of `bytes` bytes.
#[inline(always)]
unsafe fn put_word(target: *mut u8, bytes: usize, i: usize, word: u32) {
    let at = i * 4;
    if at + 4 <= bytes {
        // SAFETY: four bytes at `at` lie inside what the caller vouches for.
        unsafe { target.add(at).cast::<[u8; 4]>().write(word.to_le_bytes()) };
    } else if at < bytes {
        // SAFETY: the bytes from `at` to the end, fewer than four, lie inside what the caller vouches for.
        unsafe { std::ptr::copy_nonoverlapping(word.to_le_bytes().as_ptr(), target.add(at), bytes - at) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane_end::testing::{self, end};
    use std::sync::atomic::Ordering;
    use tourbillon_shared::error::FailureCode;
    use tourbillon_shared::position::RingShape;

    fn port(capacity: u32, first_position: u64) -> Port {
        Port::over(end(capacity, first_position))
    }

    fn request(key: u64, span: u32) -> Header {
        Header { key, kind: 1, flags: Flags::new(span, 0), ..Header::default() }
    }

    fn answer(port: &Port, position: u64, span: u32, role: u16, payload: &[u8]) {
        testing::answer(&port.end, position, span, role, payload);
    }

    fn send(port: &mut Port, span: u32) -> u64 {
        assert!(port.has_room(span));
        port.begin_run(span);
        port.publish(request(1, span), &[1, 2, 3, 4, 5]);
        port.end.tail() - u64::from(span)
    }

    #[test]
    fn replies_are_taken_when_all_of_them_has_come() {
        let mut port = port(16, RingShape::new(16).unwrap().position_of_lap(u32::MAX) + 14);
        for value in 0..40u64 {
            let position = send(&mut port, 3);
            assert!(port.try_take::<[u64; 7], u32>(3).is_none());
            answer(&port, position, 2, 0, &[0; 4]);
            assert!(port.try_take::<[u64; 7], u32>(3).is_none(), "a slot is missing");
            let reply = [value; 7];
            answer(&port, position, 3, 0, bytemuck::bytes_of(&reply));
            assert_eq!(port.try_take::<[u64; 7], u32>(3), Some(Ok(reply)));
            assert_eq!(port.in_flight(), 0);
        }
        assert!(port.hlc() > 77 << 40, "the client's clock follows the replies");
    }

    #[test]
    fn odd_sizes_and_failures_are_decoded() {
        let mut port = port(16, 0);
        let position = send(&mut port, 1);
        answer(&port, position, 1, 0, &[9, 8, 7]);
        assert_eq!(port.try_take::<[u8; 3], u32>(1), Some(Ok([9, 8, 7])));
        let position = send(&mut port, 1);
        answer(&port, position, 1, Flags::FAILED, bytemuck::bytes_of(&[FailureCode::Handler as u32, 42]));
        assert_eq!(port.try_take::<[u8; 3], u32>(1), Some(Err(CallError::Handler(42))));
        let position = send(&mut port, 1);
        answer(&port, position, 1, 0, &[2]);
        assert_eq!(port.try_take::<bool, u32>(1), Some(Err(CallError::InvalidReply)));
        let position = send(&mut port, 1);
        answer(&port, position, 1, 0, &[0; 2]);
        assert_eq!(port.try_take::<u64, u32>(1), Some(Err(CallError::InvalidReply)), "of another length");
    }

    #[test]
    fn slots_of_an_abandoned_call_are_not_used_before_its_reply_came() {
        let mut port = port(16, 0);
        let abandoned = send(&mut port, 1);
        port.end_run();
        for _ in 0..15 {
            let position = send(&mut port, 1);
            answer(&port, position, 1, 0, &7u32.to_le_bytes());
            assert_eq!(port.try_take::<u32, u32>(1), Some(Ok(7)));
        }
        assert!(!port.has_room(1));
        port.settle();
        assert!(!port.has_room(1), "the oldest reply has not come");
        answer(&port, abandoned, 1, 0, &1u32.to_le_bytes());
        port.settle();
        assert!(port.has_room(16));
        assert_eq!((port.counts().abandoned, port.counts().late), (1, 1));
    }

    #[test]
    fn tells_are_counted_by_how_they_ended() {
        let mut port = port(16, 0);
        let positions: Vec<u64> = (0..3)
            .map(|_| {
                let position = send(&mut port, 2);
                port.tell_next();
                position
            })
            .collect();
        answer(&port, positions[1], 2, Flags::FAILED, &[3, 0, 0, 0]);
        port.settle();
        assert_eq!(port.pending(), 3, "in order");
        answer(&port, positions[0], 2, 0, &[]);
        port.settle();
        assert_eq!((port.counts().tells_done, port.counts().tells_failed, port.pending()), (1, 1, 1));
        assert_eq!(port.lane().freed().load(Ordering::Relaxed), positions[2]);
    }
}
