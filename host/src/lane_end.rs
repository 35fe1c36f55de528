//! What every client's end of a lane does, whatever it keeps of its frames: writing requests, reading replies, giving
//! timestamps.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tourbillon_device::arch::native::Doorbell;
use tourbillon_shared::frame::FRAME_WORDS_MAX;
use tourbillon_shared::header::{HEADER_WORDS, Header};
use tourbillon_shared::hlc;
use tourbillon_shared::position::RingShape;
use tourbillon_shared::ring::{has_room, read_slot, write_slot};
use tourbillon_shared::slot::DATA_WORDS_PER_SLOT;

use crate::arena::Arena;
use crate::lane::{Lane, RingMemory, is_answered};
use crate::telemetry::unix_ns;

/// Messages between two readings of the clock in a row of messages: a reading costs as much as some messages, and a timestamp only
/// has to be ordered, not fresh.
const MESSAGES_PER_CLOCK: u32 = 64;

/// The words of one frame.
pub(crate) type FrameWords = [u32; FRAME_WORDS_MAX];

/// The writing and reading end of a lane, for its one holder.
///
/// Positions from `freed` to `tail` may not be written: their replies were not all taken.
#[derive(Debug)]
pub(crate) struct LaneEnd {
    requests: RingMemory,
    replies: RingMemory,
    shape: RingShape,
    /// Everything before may be overwritten.
    freed: u64,
    /// After the last published request.
    tail: u64,
    /// Messages until the clock is read again.
    until_clock: u32,
    /// Last timestamp given or seen.
    hlc: u64,
    /// Physical part of the clock when it was last read.
    physical: u64,
    /// Requests published.
    sent: u64,
    doorbell: Option<Arc<Doorbell>>,
    lane: Arc<Lane>,
}

// SAFETY: an end is the only client of its lane, whose memory it keeps mapped; it may be used by one thread after another.
unsafe impl Send for LaneEnd {}

impl LaneEnd {
    /// Takes over a lane on which everything is answered.
    pub(crate) fn new(lane: Arc<Lane>, doorbell: Option<Arc<Doorbell>>) -> Self {
        let tail = lane.published().load(Ordering::Relaxed);
        Self {
            requests: lane.requests(),
            replies: lane.replies(),
            shape: lane.shape(),
            freed: tail,
            tail,
            until_clock: 0,
            hlc: 0,
            physical: 0,
            sent: 0,
            doorbell,
            lane,
        }
    }

    pub(crate) fn shared_lane(&self) -> Arc<Lane> {
        Arc::clone(&self.lane)
    }

    pub(crate) fn lane(&self) -> &Lane {
        &self.lane
    }

    /// The lane's arenas, on which everything is answered.
    pub(crate) fn arena(&self) -> Arena {
        Arena::new(&self.lane)
    }

    #[inline(always)]
    pub(crate) fn shape(&self) -> RingShape {
        self.shape
    }

    /// After the last published request.
    #[inline(always)]
    pub(crate) fn tail(&self) -> u64 {
        self.tail
    }

    /// Requests published since the lane was taken.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// The last timestamp given or seen.
    pub(crate) fn hlc(&self) -> u64 {
        self.hlc
    }

    /// Whether a frame of `span` slots has room.
    #[inline(always)]
    pub(crate) fn has_room(&self, span: u32) -> bool {
        has_room(self.shape, self.tail, self.freed, span)
    }

    /// Slots that may be written.
    #[cfg(feature = "async")]
    pub(crate) fn free_slots(&self) -> u64 {
        u64::from(self.shape.capacity()) - self.tail.wrapping_sub(self.freed).min(self.shape.capacity().into())
    }

    /// Lets the next message read the clock.
    #[inline(always)]
    pub(crate) fn forget_clock(&mut self) {
        self.until_clock = 0;
    }

    /// Writes a request at the tail; there must be room for its span. The timestamp of `header` is kept unless it is 0.
    #[inline(always)]
    pub(crate) fn publish(&mut self, mut header: Header, payload: &[u8]) {
        let span = header.flags.span();
        debug_assert!(self.has_room(span) || cfg!(feature = "mutants"));
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
        self.sent += 1;
        // Relaxed: nobody takes a request on the strength of it; each slot proves itself.
        self.lane.published().store(self.tail, Ordering::Relaxed);
        if let Some(doorbell) = &self.doorbell {
            doorbell.ring();
        }
    }

    /// Slot of the reply at `position`, if it has come.
    #[inline(always)]
    pub(crate) fn reply_slot(&self, position: u64) -> Option<[u32; DATA_WORDS_PER_SLOT]> {
        read_slot(&self.replies, self.shape, position)
    }

    /// Whether every slot of the reply at `position` has come.
    #[inline]
    pub(crate) fn is_answered(&self, position: u64, span: u32) -> bool {
        is_answered(&self.replies, self.shape, position, span)
    }

    /// Copies the reply of `span` slots at `position`; whether all of it has come.
    #[inline]
    pub(crate) fn copy_reply(&self, position: u64, span: u32, words: &mut FrameWords) -> bool {
        for (slot, part) in words.chunks_exact_mut(DATA_WORDS_PER_SLOT).take(span as usize).enumerate() {
            let Some(data) = self.reply_slot(position.wrapping_add(slot as u64)) else { return false };
            part.copy_from_slice(&data);
        }
        true
    }

    /// Allows everything before `position` to be overwritten.
    #[inline(always)]
    pub(crate) fn free_to(&mut self, position: u64) {
        self.freed = position;
        // Relaxed: for onlookers.
        self.lane.freed().store(position, Ordering::Relaxed);
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
    pub(crate) fn merge(&mut self, remote: u64) {
        self.hlc = hlc::update(self.hlc, remote, self.physical);
    }
}

/// The header in the first words of a frame.
#[inline(always)]
pub(crate) fn header_in(words: &[u32]) -> Header {
    let mut head = [0; HEADER_WORDS];
    head.copy_from_slice(&words[..HEADER_WORDS]);
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

/// What unit tests of a lane's users need: a device that answers when it is told.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use tourbillon_shared::header::Flags;

    /// An end of a lane of its own.
    pub(crate) fn end(capacity: u32, first_position: u64) -> LaneEnd {
        let lane = Lane::create(0, RingShape::new(capacity).unwrap(), first_position, 1 << 14, 5).unwrap();
        LaneEnd::new(Arc::new(lane), None)
    }

    /// Answers the request at `position` as a shard would.
    pub(crate) fn answer(end: &LaneEnd, position: u64, span: u32, role: u16, payload: &[u8]) {
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
            write_slot(&end.replies, end.shape, position + slot as u64, &data);
        }
    }

    /// Slot of the request at `position`, if it was published.
    pub(crate) fn request_slot(end: &LaneEnd, position: u64) -> Option<[u32; DATA_WORDS_PER_SLOT]> {
        read_slot(&end.requests, end.shape, position)
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{end, request_slot};
    use super::*;
    use tourbillon_shared::header::Flags;

    #[test]
    fn requests_are_written_as_the_codec_writes_them() {
        let mut end = end(16, 0);
        let payload: Vec<u8> = (0..61).collect();
        let header = Header { key: 9, kind: 1, hlc: 5, length: 61, flags: Flags::new(3, 0), ..Header::default() };
        end.publish(header, &payload);
        let mut words = [0; FRAME_WORDS_MAX];
        tourbillon_shared::frame::encode(&header, &payload, &mut words).unwrap();
        for slot in 0..3 {
            assert_eq!(request_slot(&end, slot).unwrap(), words[slot as usize * 12..][..12]);
        }
        assert!(request_slot(&end, 3).is_none());
        assert_eq!((end.lane().published().load(Ordering::Relaxed), end.sent()), (3, 1));
    }

    #[test]
    fn timestamps_grow_with_every_message() {
        let mut end = end(64, 0);
        let mut last = 0;
        for _ in 0..200 {
            let stamp = end.stamp();
            assert!(stamp > last);
            last = stamp;
        }
    }
}
