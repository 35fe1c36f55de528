//! The host's end of the litmus tests: writes and observes as a client of the engine does.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use tourbillon_device::arch::native::{load_chunk, store_chunk};
use tourbillon_shared::litmus::{
    ARENA_CHUNKS, LITMUS_ROUNDS_MAX, LitmusOutcome, PAYLOAD_CHUNKS, answer_to, head_of, is_head_fresh,
    is_payload_fresh, is_same, is_whole, payload_of,
};
use tourbillon_shared::slot::Chunk;

/// Sweeps over all channels between two readings of the clock.
const SWEEPS_PER_CLOCK: u32 = 64;

/// What the host does on every channel of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Writes payload and head, and waits for nobody.
    Send,
    /// Observes heads and payloads of a device that waits for nobody.
    Watch,
    /// Writes heads one at a time and observes what comes back.
    Echo,
    /// The same with payloads of 4 KiB, as by way of an arena.
    Arena,
}

/// One channel, in memory that the other side sees.
#[derive(Debug)]
pub struct Channel {
    head: *mut Chunk,
    payload: *mut Chunk,
    reply: *const Chunk,
    reply_payload: *const Chunk,
    /// The round that was sent last.
    round: u32,
    /// What this end observed.
    pub outcome: LitmusOutcome,
}

// SAFETY: the memory is accessed by atomic operations only, and each place is written by one side.
unsafe impl Send for Channel {}

impl Channel {
    /// A channel whose places are these.
    ///
    /// # Safety
    /// All are aligned to 16 and stay valid while the channel is used: heads for a chunk, payloads for as many as the shape
    /// has. What is behind the first two is written by nobody else.
    pub unsafe fn new(head: *mut Chunk, payload: *mut Chunk, reply: *const Chunk, reply_payload: *const Chunk) -> Self {
        Self { head, payload, reply, reply_payload, round: 0, outcome: LitmusOutcome::default() }
    }

    /// Does one step; never waits.
    fn step(&mut self, end: End) {
        match end {
            End::Send => self.send(PAYLOAD_CHUNKS),
            End::Watch => self.watch(),
            End::Echo => self.exchange(0),
            End::Arena => self.exchange(ARENA_CHUNKS),
        }
    }

    /// Writes the next round: so many chunks of payload, then the head, whose tag is stored last with Release.
    fn send(&mut self, chunks: u32) {
        if self.round == LITMUS_ROUNDS_MAX {
            return;
        }
        self.round += 1;
        for number in 0..chunks {
            // SAFETY: inside the payload, as `new` demands.
            unsafe { store_words(self.payload.add(number as usize), payload_of(self.round, number)) };
        }
        // SAFETY: as `new` demands.
        unsafe { store_chunk(self.head, head_of(self.round)) };
    }

    /// Looks at the head, whose tag is loaded first with Acquire, and judges what is behind it.
    fn watch(&mut self) {
        // SAFETY: as `new` demands.
        let head = unsafe { load_chunk(self.reply) };
        if !self.outcome.meets(head.tag()) {
            return;
        }
        let mut is_fresh = is_head_fresh(head);
        for number in 0..PAYLOAD_CHUNKS {
            // SAFETY: inside the payload, as `new` demands.
            let chunk = unsafe { load_words(self.reply_payload.add(number as usize)) };
            is_fresh &= is_payload_fresh(chunk, number, head.tag());
        }
        self.outcome.judge(head.tag(), is_fresh);
    }

    /// Sends a round when the last one was answered, and judges the answer.
    fn exchange(&mut self, chunks: u32) {
        if self.round > 0 {
            // SAFETY: as `new` demands.
            let head = unsafe { load_chunk(self.reply) };
            if !self.outcome.meets(head.tag()) {
                return;
            }
            let mut is_right = is_whole(head) && head.tag() == self.round;
            for number in 0..chunks {
                // SAFETY: inside the payload, as `new` demands.
                let chunk = unsafe { load_words(self.reply_payload.add(number as usize)) };
                is_right &= is_same(chunk, answer_to(payload_of(self.round, number)));
            }
            self.outcome.judge(head.tag(), is_right);
        }
        self.send(chunks);
    }
}

/// Steps all channels in turn until `stop` is set, or until `deadline`.
pub fn serve(end: End, channels: &mut [Channel], stop: &AtomicBool, deadline: Instant) {
    let mut sweeps = 0u32;
    // Relaxed: the word says nothing but stop.
    while !stop.load(Ordering::Relaxed) {
        for channel in &mut *channels {
            channel.step(end);
        }
        sweeps = sweeps.wrapping_add(1);
        if sweeps.is_multiple_of(SWEEPS_PER_CLOCK) && Instant::now() >= deadline {
            return;
        }
    }
}

/// Loads a chunk of a payload by words, relaxed.
///
/// # Safety
/// `from` is aligned and valid for reads.
unsafe fn load_words(from: *const Chunk) -> Chunk {
    // SAFETY: the caller vouches for the pointer; every access to a payload is atomic by words.
    let words = unsafe { &*from.cast::<[AtomicU32; 4]>() };
    Chunk { words: std::array::from_fn(|word| words[word].load(Ordering::Relaxed)) }
}

/// Stores a chunk of a payload by words, relaxed.
///
/// # Safety
/// `to` is aligned and valid for writes.
unsafe fn store_words(to: *mut Chunk, chunk: Chunk) {
    // SAFETY: as in `load_words`.
    let words = unsafe { &*to.cast::<[AtomicU32; 4]>() };
    for (word, value) in words.iter().zip(chunk.words) {
        word.store(value, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Places of one channel: heads first, then payloads.
    struct Memory(Box<[Chunk]>);

    const HEADS: usize = 2;
    const CHUNKS: usize = ARENA_CHUNKS as usize;

    impl Memory {
        fn new() -> Self {
            Self(vec![Chunk::default(); HEADS + 2 * CHUNKS].into_boxed_slice())
        }

        /// Head and payload of a direction.
        fn direction(&mut self, number: usize) -> (*mut Chunk, *mut Chunk) {
            let base = self.0.as_mut_ptr();
            (base.wrapping_add(number), base.wrapping_add(HEADS + number * CHUNKS))
        }

        /// A channel that writes into direction `out` and reads the other.
        fn channel(&mut self, out: usize) -> Channel {
            let ((head, payload), (reply, reply_payload)) = (self.direction(out), self.direction(1 - out));
            // SAFETY: the places are apart and aligned; every test keeps the memory longer than the channel.
            unsafe { Channel::new(head, payload, reply, reply_payload) }
        }
    }

    /// What a device answers to an arena's round, right but for chunk `wrong`.
    fn answer(channel: &mut Channel, round: u32, wrong: Option<u32>) {
        for number in 0..ARENA_CHUNKS {
            let of_round = if wrong == Some(number) { round - 1 } else { round };
            // SAFETY: inside the payload.
            unsafe { store_words(channel.payload.add(number as usize), answer_to(payload_of(of_round, number))) };
        }
        // SAFETY: the head's place.
        unsafe { store_chunk(channel.head, head_of(round)) };
    }

    #[test]
    fn a_payload_older_than_its_tag_is_counted() {
        let mut memory = Memory::new();
        let (mut device, mut host) = (memory.channel(0), memory.channel(1));
        device.send(PAYLOAD_CHUNKS);
        host.step(End::Watch);
        assert_eq!((host.outcome.rounds, host.outcome.forbidden), (1, 0));
        // The next head comes without its payload, as if its fence were left out.
        // SAFETY: the head's place.
        unsafe { store_chunk(device.head, head_of(2)) };
        host.step(End::Watch);
        host.step(End::Watch);
        assert_eq!((host.outcome.rounds, host.outcome.forbidden, host.outcome.first_forbidden), (2, 1, 2));
        // A payload that is ahead of its tag is no fault.
        // SAFETY: the payload's place.
        unsafe {
            (0..PAYLOAD_CHUNKS).for_each(|n| store_words(device.payload.add(n as usize), payload_of(9, n)));
            store_chunk(device.head, head_of(3));
        }
        host.step(End::Watch);
        assert_eq!((host.outcome.rounds, host.outcome.forbidden), (3, 1));
    }

    #[test]
    fn an_echo_that_is_torn_or_of_another_round_is_counted() {
        let mut memory = Memory::new();
        let (device, mut host) = (memory.channel(0), memory.channel(1));
        let mut reply = |chunk| {
            host.step(End::Echo);
            // SAFETY: the head's place.
            unsafe { store_chunk(device.head, chunk) };
            host.step(End::Echo);
            (host.outcome.rounds, host.outcome.forbidden)
        };
        assert_eq!(reply(head_of(1)), (1, 0));
        let mut torn = head_of(2);
        torn.words[1] = head_of(1).words[1];
        assert_eq!(reply(torn), (2, 1));
        assert_eq!(reply(head_of(4)), (3, 2), "round 3 was sent");
    }

    #[test]
    fn one_old_chunk_of_an_arena_is_counted() {
        let mut memory = Memory::new();
        let (mut device, mut host) = (memory.channel(0), memory.channel(1));
        host.step(End::Arena);
        host.step(End::Arena);
        assert_eq!(host.outcome.rounds, 0, "nothing was answered");
        answer(&mut device, 1, None);
        host.step(End::Arena);
        assert_eq!((host.outcome.rounds, host.outcome.forbidden), (1, 0));
        answer(&mut device, 2, Some(ARENA_CHUNKS - 1));
        host.step(End::Arena);
        assert_eq!((host.outcome.rounds, host.outcome.forbidden), (2, 1));
    }

    /// The two ends on two threads: allowed outcomes only, and with a writer that turns the order round others too.
    #[test]
    fn two_threads_show_what_the_order_is_for() {
        const TIME: Duration = Duration::from_secs(20);
        /// Rounds after which a right pair may stop.
        const ROUNDS: u64 = 2_000;
        let run = |is_turned_round: bool| {
            let mut memory = Memory::new();
            let (mut device, mut host) = (memory.channel(0), memory.channel(1));
            let (stop, deadline) = (AtomicBool::new(false), Instant::now() + TIME);
            std::thread::scope(|scope| {
                let (stop, device) = (&stop, &mut device);
                scope.spawn(move || {
                    if !is_turned_round {
                        return serve(End::Send, std::slice::from_mut(device), stop, deadline);
                    }
                    while !stop.load(Ordering::Relaxed) {
                        // SAFETY: the head's place. The payload of the same round comes after it.
                        unsafe { store_chunk(device.head, head_of(device.round + 1)) };
                        std::thread::yield_now();
                        device.send(PAYLOAD_CHUNKS);
                    }
                });
                let is_done = |outcome: &LitmusOutcome| {
                    if is_turned_round { outcome.forbidden > 0 } else { outcome.rounds >= ROUNDS }
                };
                while !is_done(&host.outcome) && Instant::now() < deadline {
                    host.step(End::Watch);
                    std::thread::yield_now();
                }
                stop.store(true, Ordering::Relaxed);
            });
            host.outcome
        };
        let right = run(false);
        assert!(right.rounds > 0 && right.forbidden == 0, "{right:?}");
        let turned_round = run(true);
        assert!(turned_round.forbidden > 0, "{turned_round:?}");
    }
}
