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

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytemuck::{CheckedBitPattern, Zeroable};
use tourbillon_device::arch::native::Doorbell;
use tourbillon_shared::frame::{FRAME_WORDS_MAX, decode_payload};
use tourbillon_shared::header::{Flags, HEADER_WORDS, Header};
use tourbillon_shared::hlc;
use tourbillon_shared::position::RingShape;
use tourbillon_shared::ring::{has_room, read_slot, write_slot};
use tourbillon_shared::slot::DATA_WORDS_PER_SLOT;

use crate::call_error::CallError;
use crate::lane::{Lane, RingMemory, is_answered};
use crate::telemetry::unix_ns;

/// Messages between two readings of the clock in a pipeline: a reading costs as much as some messages, and a timestamp only has
/// to be ordered, not fresh.
const MESSAGES_PER_CLOCK: u32 = 64;

/// A frame whose reply nobody waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    position: u64,
    span: u32,
    is_tell: bool,
}

impl Pending {
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
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Port {
    requests: RingMemory,
    replies: RingMemory,
    shape: RingShape,
    /// Everything before may be overwritten.
    freed: u64,
    /// Oldest reply of the run; equal to `tail` when the run is empty.
    next: u64,
    /// After the last published request.
    tail: u64,
    /// Slots of every frame of the run.
    run_span: u32,
    /// Messages until the clock is read again.
    until_clock: u32,
    /// Last timestamp given or seen.
    hlc: u64,
    /// Physical part of the clock when it was last read.
    physical: u64,
    pending: VecDeque<Pending>,
    counts: ClientCounts,
    doorbell: Option<Arc<Doorbell>>,
    lane: Arc<Lane>,
}

// SAFETY: a port is the only client of its lane, whose memory it keeps mapped; it may be used by one thread after another.
unsafe impl Send for Port {}

impl Port {
    /// Takes over a lane on which everything is answered.
    pub(crate) fn new(lane: Arc<Lane>, doorbell: Option<Arc<Doorbell>>) -> Self {
        let tail = lane.published().load(Ordering::Relaxed);
        Self {
            requests: lane.requests(),
            replies: lane.replies(),
            shape: lane.shape(),
            freed: tail,
            next: tail,
            tail,
            run_span: 1,
            until_clock: 0,
            hlc: 0,
            physical: 0,
            // A frame takes at least one slot, so this never grows.
            pending: VecDeque::with_capacity(lane.capacity() as usize),
            counts: ClientCounts::default(),
            doorbell,
            lane,
        }
    }

    pub(crate) fn lane(&self) -> &Lane {
        &self.lane
    }

    pub(crate) fn counts(&self) -> ClientCounts {
        self.counts
    }

    /// The last timestamp given or seen.
    pub(crate) fn hlc(&self) -> u64 {
        self.hlc
    }

    /// Whether every reply of the run was taken.
    #[inline(always)]
    pub(crate) fn is_idle(&self) -> bool {
        self.next == self.tail
    }

    /// Frames of the run whose replies were not taken.
    pub(crate) fn in_flight(&self) -> u64 {
        self.tail.wrapping_sub(self.next) / u64::from(self.run_span)
    }

    /// Frames whose replies nobody waits for and that have not been seen to come.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether a frame of `span` slots has room.
    #[inline(always)]
    pub(crate) fn has_room(&self, span: u32) -> bool {
        has_room(self.shape, self.tail, self.freed, span)
    }

    /// Lets the next message read the clock.
    #[inline(always)]
    pub(crate) fn forget_clock(&mut self) {
        self.until_clock = 0;
    }

    /// Begins a run of frames of `span` slots.
    #[inline(always)]
    pub(crate) fn begin_run(&mut self, span: u32) {
        debug_assert!(self.next == self.tail);
        self.run_span = span;
    }

    /// Gives up the frames of the run that were not taken.
    pub(crate) fn end_run(&mut self) {
        while self.next != self.tail {
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
        debug_assert!(self.next != self.tail && self.pending.len() < self.shape.capacity() as usize);
        self.pending.push_back(Pending { position: self.next, span: self.run_span, is_tell });
        self.next = self.next.wrapping_add(u64::from(self.run_span));
    }

    /// What is still unanswered, for whoever watches the lane after this client.
    pub(crate) fn take_pending(&mut self) -> VecDeque<Pending> {
        self.end_run();
        self.settle();
        std::mem::take(&mut self.pending)
    }

    /// Writes a request at the tail; there must be room for its span. The timestamp of `header` is kept unless it is 0.
    #[inline(always)]
    pub(crate) fn publish(&mut self, mut header: Header, payload: &[u8]) {
        let span = header.flags.span();
        debug_assert!(has_room(self.shape, self.tail, self.freed, span) || cfg!(feature = "mutants"));
        if header.hlc == 0 {
            header.hlc = self.stamp();
        }
        let head = header.encode();
        let mut slot = 0;
        while slot < span as usize {
            let mut data = [0; DATA_WORDS_PER_SLOT];
            let mut i = 0;
            while i < DATA_WORDS_PER_SLOT {
                let word = slot * DATA_WORDS_PER_SLOT + i;
                data[i] = if word < HEADER_WORDS { head[word] } else { payload_word(payload, word - HEADER_WORDS) };
                i += 1;
            }
            write_slot(&self.requests, self.shape, self.tail.wrapping_add(slot as u64), &data);
            slot += 1;
        }
        self.announce(span);
    }

    /// Writes slots at the tail as they are: for tests of what a hostile client may do.
    pub(crate) fn publish_slots(&mut self, slots: &[[u32; DATA_WORDS_PER_SLOT]]) {
        for (slot, data) in slots.iter().enumerate() {
            write_slot(&self.requests, self.shape, self.tail.wrapping_add(slot as u64), data);
        }
        self.announce(slots.len() as u32);
    }

    #[inline(always)]
    fn announce(&mut self, span: u32) {
        self.tail = self.tail.wrapping_add(u64::from(span));
        self.counts.sent += 1;
        // Relaxed: nobody takes a request on the strength of it; each slot proves itself.
        self.lane.published().store(self.tail, Ordering::Relaxed);
        if let Some(doorbell) = &self.doorbell {
            doorbell.ring();
        }
    }

    /// The reply at the head of the run, if it has come; `span` is that of the run.
    #[inline(always)]
    pub(crate) fn try_take<R, E>(&mut self, span: u32) -> Option<Result<R, CallError<E>>>
    where
        R: CheckedBitPattern,
        E: CheckedBitPattern,
    {
        debug_assert_eq!(span, self.run_span);
        let data = read_slot(&self.replies, self.shape, self.next)?;
        let mut bits = R::Bits::zeroed();
        let target = (&raw mut bits).cast::<u8>();
        let mut word = 0;
        while word < DATA_WORDS_PER_SLOT - HEADER_WORDS {
            // SAFETY: `bits` has the size of `R`, which is what `put_word` is told.
            unsafe { put_word(target, size_of::<R>(), word, data[HEADER_WORDS + word]) };
            word += 1;
        }
        let mut slot = 1;
        while slot < span as usize {
            let more = read_slot(&self.replies, self.shape, self.next.wrapping_add(slot as u64))?;
            let mut i = 0;
            while i < DATA_WORDS_PER_SLOT {
                let word = slot * DATA_WORDS_PER_SLOT + i - HEADER_WORDS;
                // SAFETY: as above.
                unsafe { put_word(target, size_of::<R>(), word, more[i]) };
                i += 1;
            }
            slot += 1;
        }
        let header = header_of(&data);
        let is_value = header.flags.has(Flags::REPLY)
            && header.flags.0 & Flags::FAILED == 0
            && usize::from(header.length) == size_of::<R>()
            && R::is_valid_bit_pattern(&bits);
        let reply = if is_value {
            // SAFETY: `bits` has the size of `R` and was found to be a valid value of it, which is what
            // `CheckedBitPattern` promises to suffice.
            Ok(unsafe { (&raw const bits).cast::<R>().read() })
        } else {
            Err(self.failure(span))
        };
        self.merge(header.hlc);
        self.next = self.next.wrapping_add(u64::from(span));
        self.free();
        Some(reply)
    }

    /// The reply at the head of the run as it is, if it has come.
    pub(crate) fn try_take_raw(&mut self) -> Option<(Header, Vec<u8>)> {
        let (span, shape, next) = (self.run_span, self.shape, self.next);
        if !is_answered(&self.replies, shape, next, span) {
            return None;
        }
        let (header, payload) = self.read_frame(span);
        self.merge(header.hlc);
        self.next = next.wrapping_add(u64::from(span));
        self.free();
        Some((header, payload))
    }

    #[cold]
    fn failure<E: CheckedBitPattern>(&self, span: u32) -> CallError<E> {
        let (header, payload) = self.read_frame(span);
        if header.flags.has(Flags::REPLY | Flags::FAILED) {
            CallError::of_failure(&payload)
        } else {
            CallError::InvalidReply
        }
    }

    /// Header and payload of the complete reply at `next`.
    fn read_frame(&self, span: u32) -> (Header, Vec<u8>) {
        let mut words = [0; FRAME_WORDS_MAX];
        for slot in 0..span as usize {
            let at = slot * DATA_WORDS_PER_SLOT;
            if let Some(data) = read_slot(&self.replies, self.shape, self.next.wrapping_add(slot as u64)) {
                words[at..at + DATA_WORDS_PER_SLOT].copy_from_slice(&data);
            }
        }
        let mut data = [0; DATA_WORDS_PER_SLOT];
        data.copy_from_slice(&words[..DATA_WORDS_PER_SLOT]);
        let header = header_of(&data);
        let mut payload = vec![0; usize::from(header.length)];
        let length = decode_payload(&header, &words[..span as usize * DATA_WORDS_PER_SLOT], &mut payload);
        payload.truncate(length);
        (header, payload)
    }

    /// Takes the replies that nobody waits for and that have come, oldest first.
    pub(crate) fn settle(&mut self) {
        while let Some(pending) = self.pending.front().copied() {
            if !pending.is_answered(&self.lane) {
                break;
            }
            if let Some(data) = read_slot(&self.replies, self.shape, pending.position) {
                let header = header_of(&data);
                self.merge(header.hlc);
                match (pending.is_tell, header.flags.has(Flags::FAILED)) {
                    (true, false) => self.counts.tells_done += 1,
                    (true, true) => self.counts.tells_failed += 1,
                    (false, _) => self.counts.late += 1,
                }
            }
            self.pending.pop_front();
        }
        self.free();
    }

    /// Moves `freed` over what was taken.
    #[inline(always)]
    fn free(&mut self) {
        let freed = self.pending.front().map_or(self.next, |pending| pending.position);
        self.freed = freed;
        // Relaxed: for onlookers.
        self.lane.freed().store(freed, Ordering::Relaxed);
    }

    /// A timestamp for a request.
    #[inline(always)]
    fn stamp(&mut self) -> u64 {
        if self.until_clock == 0 {
            self.until_clock = MESSAGES_PER_CLOCK;
            self.physical = hlc::physical_from_unix_ns(unix_ns());
        }
        self.until_clock -= 1;
        self.hlc = hlc::tick(self.hlc, self.physical);
        self.hlc
    }

    /// Takes note of a reply's timestamp.
    #[inline(always)]
    fn merge(&mut self, remote: u64) {
        self.hlc = hlc::update(self.hlc, remote, self.physical);
    }
}

#[inline(always)]
fn header_of(data: &[u32; DATA_WORDS_PER_SLOT]) -> Header {
    let mut head = [0; HEADER_WORDS];
    head.copy_from_slice(&data[..HEADER_WORDS]);
    Header::decode(&head)
}

/// Word `i` of a payload, zero past its end.
#[inline(always)]
fn payload_word(payload: &[u8], i: usize) -> u32 {
    let at = i * 4;
    match payload.len().saturating_sub(at) {
        0 => 0,
        1 => u32::from(payload[at]),
        2 => u32::from_le_bytes([payload[at], payload[at + 1], 0, 0]),
        3 => u32::from_le_bytes([payload[at], payload[at + 1], payload[at + 2], 0]),
        _ => u32::from_le_bytes([payload[at], payload[at + 1], payload[at + 2], payload[at + 3]]),
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
    use tourbillon_shared::error::FailureCode;

    fn port(capacity: u32, first_position: u64) -> Port {
        let lane = Lane::create(0, RingShape::new(capacity).unwrap(), first_position).unwrap();
        Port::new(Arc::new(lane), None)
    }

    fn request(key: u64, span: u32) -> Header {
        Header { key, kind: 1, flags: Flags::new(span, 0), ..Header::default() }
    }

    /// Answers the request at `position` as a shard would.
    fn answer(port: &Port, position: u64, span: u32, role: u16, payload: &[u8]) {
        let header = Header {
            flags: Flags::new(span, Flags::REPLY | role),
            length: payload.len() as u16,
            hlc: 77 << 40,
            ..Header::default()
        };
        let mut words = [0; FRAME_WORDS_MAX];
        tourbillon_shared::frame::encode(&header, payload, &mut words).unwrap();
        for slot in 0..span as usize {
            let mut data = [0; DATA_WORDS_PER_SLOT];
            data.copy_from_slice(&words[slot * DATA_WORDS_PER_SLOT..][..DATA_WORDS_PER_SLOT]);
            write_slot(&port.replies, port.shape, position + slot as u64, &data);
        }
    }

    fn send(port: &mut Port, span: u32) -> u64 {
        assert!(port.has_room(span));
        port.begin_run(span);
        port.publish(request(1, span), &[1, 2, 3, 4, 5]);
        port.tail - u64::from(span)
    }

    #[test]
    fn requests_are_written_as_the_codec_writes_them() {
        let mut port = port(16, 0);
        let payload: Vec<u8> = (0..61).collect();
        let header = Header { hlc: 5, length: 61, ..request(9, 3) };
        port.begin_run(3);
        port.publish(header, &payload);
        let mut words = [0; FRAME_WORDS_MAX];
        tourbillon_shared::frame::encode(&header, &payload, &mut words).unwrap();
        for slot in 0..3 {
            let data = read_slot(&port.requests, port.shape, slot).unwrap();
            assert_eq!(data, words[slot as usize * 12..][..12]);
        }
        assert!(read_slot(&port.requests, port.shape, 3).is_none());
        assert_eq!(port.lane.published().load(Ordering::Relaxed), 3);
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
        assert_eq!(port.lane.freed().load(Ordering::Relaxed), positions[2]);
    }

    #[test]
    fn timestamps_grow_with_every_message() {
        let mut port = port(64, 0);
        let mut last = 0;
        for _ in 0..200 {
            let stamp = port.stamp();
            assert!(stamp > last);
            last = stamp;
        }
    }
}
