//! The payload of a message that came by way of an arena, as its handler sees it, and the room for that of the reply.

use tourbillon_shared::arena::ArenaRef;
use tourbillon_shared::mutant;

/// Bytes that are cleared at once.
const WIDE: usize = 16;

/// A payload in the shard's landing buffer.
///
/// The buffer is the message's alone: the warp that runs it holds the shard's turn, and nothing of it is shared with the client,
/// who may write its arena at any time.
#[derive(Debug)]
pub(crate) struct Large {
    /// The landing buffer, aligned to 16; dangling for a message without a payload in an arena.
    buffer: *mut u8,
    /// Length and room are at most the buffer's length; both 0 where it is dangling.
    reference: ArenaRef,
    /// Bytes of the buffer that stem from this message: what is behind them stems from earlier ones, and is cleared before
    /// anybody sees it. At least the payload's length.
    filled: u32,
    /// First byte of the reply's payload in the buffer, and how many; start and length together are at most `filled`.
    reply: (u32, u32),
}

impl Large {
    /// That of a message without a payload in an arena.
    pub(crate) const NONE: Self = Self {
        buffer: core::ptr::dangling_mut::<u128>().cast(),
        reference: ArenaRef { offset: 0, length: 0, room: 0, ticket: 0 },
        filled: 0,
        reply: (0, 0),
    };

    /// The payload of `reference`, which has landed in `buffer`.
    ///
    /// # Safety
    /// The buffer is aligned to 16, has room for length and room of the reference, holds the payload, and is the message's alone
    /// while this value lives.
    #[inline(always)]
    pub(crate) unsafe fn new(buffer: *mut u8, reference: ArenaRef) -> Self {
        Self { buffer, reference, filled: reference.length, ..Self::NONE }
    }

    /// The reference under which the reply's payload goes; its third word says where in the buffer that begins.
    #[inline(always)]
    pub(crate) fn reply_reference(&self) -> ArenaRef {
        ArenaRef { length: self.reply.1, room: self.reply.0, ..self.reference }
    }

    #[inline(always)]
    pub(crate) fn payload(&self) -> &[u8] {
        // SAFETY: so many bytes have landed in the buffer, which is the message's alone; or there are none.
        unsafe { core::slice::from_raw_parts(self.buffer, self.reference.length as usize) }
    }

    #[inline(always)]
    pub(crate) fn room(&self) -> usize {
        self.reference.room as usize
    }

    /// Makes `length` bytes of the payload from byte `start` on, which lie inside it, the reply's payload; whether there is room.
    #[inline]
    pub(crate) fn reply_with(&mut self, start: usize, length: usize) -> bool {
        if length > self.room() && !mutant!("arena_room_unchecked") {
            return false;
        }
        // Both lie inside a payload, whose length has 32 bits.
        self.reply = (start as u32, length as u32);
        true
    }

    /// Makes the first `bytes` bytes of the buffer the reply's payload; nothing when there is no room.
    #[inline]
    pub(crate) fn reply_mut(&mut self, bytes: usize) -> Option<&mut [u8]> {
        if bytes > self.room() {
            return None;
        }
        if bytes > self.filled as usize && !mutant!("arena_buffer_uncleared") {
            // SAFETY: both lie inside the buffer, which has room for the reply.
            unsafe { clear(self.buffer, self.filled as usize, bytes) };
            self.filled = bytes as u32;
        }
        self.reply = (0, bytes as u32);
        // SAFETY: the bytes lie inside the buffer and stem from this message; the borrow makes this the only access.
        Some(unsafe { core::slice::from_raw_parts_mut(self.buffer, bytes) })
    }
}

/// Clears the bytes `from .. to` behind `buffer`.
///
/// # Safety
/// They are valid for writes, and `buffer` is aligned to 16.
unsafe fn clear(buffer: *mut u8, from: usize, to: usize) {
    let mut at = from;
    while at < to {
        if at.is_multiple_of(WIDE) && to.wrapping_sub(at) >= WIDE {
            // SAFETY: `at` is aligned, and so many bytes follow it.
            unsafe { buffer.add(at).cast::<u128>().write(0) };
            at = at.wrapping_add(WIDE);
        } else {
            // SAFETY: `at` is below `to`.
            unsafe { buffer.add(at).write(0) };
            at = at.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(16))]
    struct Buffer([u8; 256]);

    fn large(buffer: &mut Buffer, length: u32, room: u32) -> Large {
        let reference = ArenaRef { offset: 128, length, room, ticket: 7 };
        // SAFETY: the callers keep to the buffer's length.
        unsafe { Large::new(buffer.0.as_mut_ptr(), reference) }
    }

    #[test]
    fn a_part_of_the_payload_becomes_the_reply() {
        let mut buffer = Buffer(std::array::from_fn(|i| i as u8));
        let mut large = large(&mut buffer, 100, 50);
        assert_eq!((large.payload().len(), large.payload()[99], large.room()), (100, 99, 50));
        assert!(large.reply_with(3, 50));
        assert!(!large.reply_with(3, 51));
        assert_eq!(large.reply_reference(), ArenaRef { offset: 128, length: 50, room: 3, ticket: 7 });
    }

    #[test]
    fn what_earlier_messages_left_is_never_seen() {
        let mut buffer = Buffer([0xee; 256]);
        for (length, bytes) in [(5, 90), (0, 256), (37, 38), (16, 16), (64, 20)] {
            buffer.0.fill(0xee);
            let mut large = large(&mut buffer, length, 256);
            let reply = large.reply_mut(bytes).unwrap();
            let seen = reply.iter().take_while(|byte| **byte == 0xee).count();
            assert_eq!(seen, bytes.min(length as usize));
            assert!(reply[seen..].iter().all(|byte| *byte == 0));
            reply.fill(1);
            // A second look clears nothing that the handler wrote.
            assert!(large.reply_mut(bytes).unwrap().iter().all(|byte| *byte == 1));
        }
    }

    #[test]
    fn without_an_arena_there_is_no_room() {
        let mut none = Large::NONE;
        assert!(none.payload().is_empty() && none.reply_mut(0).is_some_and(|bytes| bytes.is_empty()));
        assert!(none.reply_mut(1).is_none() && !none.reply_with(0, 1));
    }
}
