//! Message-passing litmus tests: what their kernels get, what a round's words are, and how an observer judges them.
//!
//! One side writes, the other observes. Every word tells the round that wrote it, so an observer needs nothing but what
//! it read: behind a tag that it has seen, no word may be older, and words that are written as one must be of one round.
//! A round is counted where it is observed, and so is an outcome that the orderings forbid.
//!
//! A writer that waits for nobody (`to_device`, `to_host`, `chunks`, `messages`) overwrites what is being read: words
//! may then be newer than the tag. Where the sides wait for each other, each word has one value that it may have.

use bytemuck::{Pod, Zeroable};

use crate::slot::{CHUNKS_PER_SLOT, Chunk, TAG_WORD};

/// Rounds of a channel, at most: tags never wrap, and a word that no round wrote is seen as one of no round.
pub const LITMUS_ROUNDS_MAX: u32 = 1 << 30;
/// Chunks of the payload behind a head: a slot's worth, in a line of their own.
pub const PAYLOAD_CHUNKS: u32 = CHUNKS_PER_SLOT as u32;
/// Chunks of a payload in the shape of an arena: 4 KiB.
pub const ARENA_CHUNKS: u32 = 256;
/// Words of a message between blocks.
pub const MESSAGE_WORDS: u32 = 2;
/// Locks, and groups that count down, of a block: one for each lane of a warp.
pub const GROUPS: u32 = 32;
/// Threads of a block in the shapes inside the GPU, at most.
pub const LITMUS_THREADS_MAX: u32 = 256;

/// Odd, so that every word has one round: 2^32 divided by the golden ratio.
const MULTIPLIER: u32 = 0x9e37_79b9;
/// The number that undoes [`MULTIPLIER`].
const INVERSE: u32 = {
    // Newton's iteration doubles the right bits: 3, 6, 12, 24, 48.
    let (mut inverse, mut step) = (MULTIPLIER, 0);
    while step < 4 {
        inverse = inverse.wrapping_mul(2u32.wrapping_sub(MULTIPLIER.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
};
/// Tells the words of one round apart.
const SALT: u32 = 0x85eb_ca6b;

/// Word `index` of a round: another for every round, and for every index.
#[inline(always)]
pub const fn word_of(round: u32, index: u32) -> u32 {
    round.wrapping_mul(MULTIPLIER) ^ index.wrapping_mul(SALT)
}

/// The round whose word `index` this is.
#[inline(always)]
pub const fn round_of(word: u32, index: u32) -> u32 {
    (word ^ index.wrapping_mul(SALT)).wrapping_mul(INVERSE)
}

/// The head of a round: three words and the round as its tag.
#[inline(always)]
pub const fn head_of(round: u32) -> Chunk {
    Chunk::new([word_of(round, 0), word_of(round, 1), word_of(round, 2)], round)
}

/// Index of the first word of chunk `number` of a payload, behind those of the head.
#[inline(always)]
const fn payload_index(number: u32) -> u32 {
    number.wrapping_mul(4).wrapping_add(4)
}

/// Chunk `number` of the payload of a round.
#[inline(always)]
pub const fn payload_of(round: u32, number: u32) -> Chunk {
    let index = payload_index(number);
    Chunk {
        words: [
            word_of(round, index),
            word_of(round, index.wrapping_add(1)),
            word_of(round, index.wrapping_add(2)),
            word_of(round, index.wrapping_add(3)),
        ],
    }
}

/// What an arena's payload is answered with: made of what was read, and never equal to it.
#[inline(always)]
pub const fn answer_to(chunk: Chunk) -> Chunk {
    let [a, b, c, d] = chunk.words;
    Chunk { words: [!a, !b, !c, !d] }
}

/// Word `index` of a message of a round: the round and its word as one.
#[inline(always)]
pub const fn message_of(round: u32, index: u32) -> u64 {
    round as u64 | (word_of(round, index) as u64) << 32
}

/// Whether a round may be found behind tag `tag`: not older, and of those that are written.
#[inline(always)]
const fn may_follow(round: u32, tag: u32) -> bool {
    round >= tag && round <= LITMUS_ROUNDS_MAX
}

/// Whether a word that was read after the tag `tag` may be what it is.
#[inline(always)]
pub const fn is_fresh(word: u32, index: u32, tag: u32) -> bool {
    may_follow(round_of(word, index), tag)
}

/// Whether the words of a head, read after or with its tag, may be what they are while its writer goes on.
#[inline(always)]
pub const fn is_head_fresh(head: Chunk) -> bool {
    let [a, b, c, tag] = head.words;
    // Without a branch in between: what was read is judged as a whole.
    is_fresh(a, 0, tag) & is_fresh(b, 1, tag) & is_fresh(c, 2, tag)
}

/// Whether chunk `number` of a payload, read after tag `tag`, may be what it is while its writer goes on.
#[inline(always)]
pub const fn is_payload_fresh(chunk: Chunk, number: u32, tag: u32) -> bool {
    let ([a, b, c, d], index) = (chunk.words, payload_index(number));
    is_fresh(a, index, tag)
        & is_fresh(b, index.wrapping_add(1), tag)
        & is_fresh(c, index.wrapping_add(2), tag)
        & is_fresh(d, index.wrapping_add(3), tag)
}

/// Whether two chunks are the same, without a branch.
#[inline(always)]
pub const fn is_same(one: Chunk, other: Chunk) -> bool {
    let ((a, b), (c, d)) = (one.to_halves(), other.to_halves());
    (a ^ c) | (b ^ d) == 0
}

/// Whether all four words of a head are of the round that its tag names.
#[inline(always)]
pub const fn is_whole(head: Chunk) -> bool {
    is_same(head, head_of(head.words[TAG_WORD]))
}

/// Whether word `index` of a message, read after tag `tag`, may be what it is while its writer goes on.
#[inline(always)]
pub const fn is_message_fresh(word: u64, index: u32, tag: u32) -> bool {
    let round = word as u32;
    may_follow(round, tag) & ((word >> 32) as u32 == word_of(round, index))
}

/// What one observer saw.
#[repr(C, align(32))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct LitmusOutcome {
    /// Rounds observed.
    pub rounds: u64,
    /// Those of them that the orderings forbid.
    pub forbidden: u64,
    /// What a lock's guarded words counted in the end, where there is one.
    pub counted: u64,
    /// The tag that was seen last; 0 before the first.
    pub tag: u32,
    /// The tag of the first forbidden outcome; 0 without one.
    pub first_forbidden: u32,
}

impl LitmusOutcome {
    /// Whether a tag is another than the last one. One that goes back is forbidden: a place is never older than it was.
    #[inline(always)]
    pub fn meets(&mut self, tag: u32) -> bool {
        let (before, is_new) = (self.tag, tag != self.tag);
        self.tag = tag;
        if tag < before {
            self.judge(tag, false);
        }
        is_new && tag > before
    }

    /// Counts a round, and whether it was allowed.
    #[inline(always)]
    pub fn judge(&mut self, tag: u32, is_allowed: bool) {
        self.rounds = self.rounds.wrapping_add(1);
        if !is_allowed {
            self.forbidden = self.forbidden.wrapping_add(1);
            if self.first_forbidden == 0 {
                self.first_forbidden = tag;
            }
        }
    }
}

/// Rounds and forbidden outcomes of all observers of a shape.
pub fn total(outcomes: &[LitmusOutcome]) -> (u64, u64) {
    outcomes
        .iter()
        .fold((0, 0), |(rounds, forbidden), outcome| (rounds + outcome.rounds, forbidden + outcome.forbidden))
}

/// Updates that got lost under a lock: what was counted under it, beside the rounds of those who held it.
pub fn lost_updates(outcomes: &[LitmusOutcome]) -> u64 {
    let counted: u64 = outcomes.iter().map(|outcome| outcome.counted).sum();
    total(outcomes).0.abs_diff(counted)
}

/// What the litmus kernels get: one pointer to this. Addresses are those of the device.
///
/// A *channel* is a place for a head and one for a payload in each direction. Channel `c` has its head at
/// `heads_at + c * head_stride`, its payload at `payloads_at + c * payload_stride`, and what goes back likewise.
/// Every thread is the end of a channel, but in the shape of an arena, where every warp is. In the shapes between blocks
/// thread `t` of block `2 b` writes what thread `t` of block `2 b + 1` observes, both on channel `b * threads + t`.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct LitmusArguments {
    /// Address of the heads.
    pub heads_at: u64,
    /// Address of the payloads.
    pub payloads_at: u64,
    /// Address of the heads of what the device writes into host memory.
    pub replies_at: u64,
    /// Address of the payloads of what the device writes into host memory.
    pub reply_payloads_at: u64,
    /// Address of a [`LitmusOutcome`] for each thread, zeroed, in device memory. Written by those that observe.
    pub outcomes_at: u64,
    /// After so long by the device clock every loop ends, in nanoseconds.
    pub time_ns: u64,
    /// Rounds of a channel, at most [`LITMUS_ROUNDS_MAX`].
    pub rounds: u32,
    /// Looks of an observer, at most.
    pub looks: u32,
    /// Bytes from head to head, a multiple of 16.
    pub head_stride: u32,
    /// Bytes from payload to payload, a multiple of 16.
    pub payload_stride: u32,
    /// Not zero: without the fence or the order that the shape is about.
    pub is_control: u32,
    /// Zero.
    pub reserved: [u32; 3],
}

/// What `tourbillon_litmus_prices` gets: one pointer to this. Launched with one block of one warp.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PriceArguments {
    /// Address of [`PRICE_BYTES`] of device memory, zeroed.
    pub device_at: u64,
    /// Device address of [`PRICE_BYTES`] of host memory, zeroed.
    pub host_at: u64,
    /// Address of a u64 for each of [`Price::ALL`] in device memory: the nanoseconds that `rounds` of it took. Written.
    pub times_at: u64,
    /// After so long by the device clock every loop ends, and its time is 0, in nanoseconds.
    pub time_ns: u64,
    /// How often each is done, at least 1.
    pub rounds: u32,
    /// Zero.
    pub reserved: [u32; 3],
}

/// Bytes that the priced loads and stores touch: a chunk for each lane of a warp.
pub const PRICE_BYTES: usize = 32 * size_of::<Chunk>();

/// What has a price: in the order of the times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Price {
    /// The loop around each of the others.
    Nothing,
    /// A fence of system scope, with nothing under way.
    FenceSys,
    /// A fence of device scope, with nothing under way.
    FenceGpu,
    /// A fence of block scope.
    FenceCta,
    /// A chunk into host memory and a fence of system scope behind it: what a reply with a payload pays.
    StoreFenceSys,
    /// A chunk into device memory and a fence of device scope behind it.
    StoreFenceGpu,
    /// A load from device memory.
    LoadRelaxedGpu,
    /// The same with acquire.
    LoadAcquireGpu,
    /// The same with release.
    StoreReleaseGpu,
    /// A load from host memory, over the bus.
    LoadRelaxedSys,
    /// The same with acquire.
    LoadAcquireSys,
    /// The same with release.
    StoreReleaseSys,
    /// A chunk from device memory.
    LoadChunkGpu,
    /// A chunk from host memory, over the bus.
    LoadChunkSys,
}

impl Price {
    /// All of them, in their order.
    pub const ALL: [Self; 14] = [
        Self::Nothing,
        Self::FenceSys,
        Self::FenceGpu,
        Self::FenceCta,
        Self::StoreFenceSys,
        Self::StoreFenceGpu,
        Self::LoadRelaxedGpu,
        Self::LoadAcquireGpu,
        Self::StoreReleaseGpu,
        Self::LoadRelaxedSys,
        Self::LoadAcquireSys,
        Self::StoreReleaseSys,
        Self::LoadChunkGpu,
        Self::LoadChunkSys,
    ];

    /// What it is called in results; nothing for the loop, which is taken off the others.
    pub const fn id(self) -> Option<&'static str> {
        Some(match self {
            Self::Nothing => return None,
            Self::FenceSys => "fence_sys_ns",
            Self::FenceGpu => "fence_gpu_ns",
            Self::FenceCta => "fence_cta_ns",
            Self::StoreFenceSys => "store_fence_sys_ns",
            Self::StoreFenceGpu => "store_fence_gpu_ns",
            Self::LoadRelaxedGpu => "load_relaxed_gpu_ns",
            Self::LoadAcquireGpu => "load_acquire_gpu_ns",
            Self::StoreReleaseGpu => "store_release_gpu_ns",
            Self::LoadRelaxedSys => "load_relaxed_sys_ns",
            Self::LoadAcquireSys => "load_acquire_sys_ns",
            Self::StoreReleaseSys => "store_release_sys_ns",
            Self::LoadChunkGpu => "load_chunk_gpu_ns",
            Self::LoadChunkSys => "load_chunk_sys_ns",
        })
    }
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<LitmusArguments>() == 80 && offset_of!(LitmusArguments, rounds) == 48);
    assert!(size_of::<PriceArguments>() == 48 && size_of::<LitmusOutcome>() == 32);
    assert!(MULTIPLIER.wrapping_mul(INVERSE) == 1);
    assert!(Price::ALL.len() == Price::LoadChunkSys as usize + 1);
    assert!(ARENA_CHUNKS as usize * size_of::<Chunk>() == 4096);
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A chunk with one word of another round.
    fn torn(mut chunk: Chunk, word: usize, other: Chunk) -> Chunk {
        chunk.words[word] = other.words[word];
        chunk
    }

    proptest! {
        #[test]
        fn words_tell_their_round(round: u32, index: u32) {
            prop_assert_eq!(round_of(word_of(round, index), index), round);
        }

        /// A word from before the tag is refused wherever it stands, one from after it is not.
        #[test]
        fn older_words_are_forbidden(tag in 2..LITMUS_ROUNDS_MAX, age in 1u32..1000, word in 0usize..4, number in 0u32..ARENA_CHUNKS) {
            let older = tag.saturating_sub(age);
            prop_assert!(is_payload_fresh(payload_of(tag, number), number, tag));
            prop_assert!(is_payload_fresh(torn(payload_of(tag, number), word, payload_of(tag + 1, number)), number, tag));
            prop_assert!(!is_payload_fresh(torn(payload_of(tag, number), word, payload_of(older, number)), number, tag));
            let message = message_of(older, word as u32);
            prop_assert!(!is_message_fresh(message, word as u32, tag) && is_message_fresh(message, word as u32, older));
        }

        #[test]
        fn torn_heads_are_forbidden(tag in 2..LITMUS_ROUNDS_MAX, word in 0usize..3) {
            let (head, before, after) = (head_of(tag), head_of(tag - 1), head_of(tag + 1));
            prop_assert!(is_whole(head) && is_head_fresh(head));
            prop_assert!(!is_whole(torn(head, word, before)) && !is_head_fresh(torn(head, word, before)));
            // A host's words come in front of their tag: newer ones are no fault while its writer goes on.
            prop_assert!(!is_whole(torn(head, word, after)) && is_head_fresh(torn(head, word, after)));
        }

        #[test]
        fn answers_are_made_of_what_was_read(round: u32, number in 0u32..ARENA_CHUNKS) {
            let chunk = payload_of(round, number);
            prop_assert!(!is_same(answer_to(chunk), chunk) && is_same(answer_to(answer_to(chunk)), chunk));
        }
    }

    #[test]
    fn words_of_other_places_and_of_nobody_are_forbidden() {
        assert!(!is_payload_fresh(payload_of(7, 1), 0, 7) && !is_payload_fresh(Chunk::default(), 0, 7));
        assert!(!is_message_fresh(message_of(7, 1), 0, 7) && !is_message_fresh(0, 0, 7));
        assert!(!is_fresh(word_of(LITMUS_ROUNDS_MAX + 1, 3), 3, 7));
        for word in 0..4 {
            assert!(!is_same(head_of(7), torn(head_of(7), word, Chunk { words: [9; 4] })), "{word}");
        }
    }

    #[test]
    fn an_observer_counts_rounds_and_what_is_forbidden() {
        let mut outcome = LitmusOutcome::default();
        assert!(!outcome.meets(0), "nothing has come yet");
        assert!(outcome.meets(3) && !outcome.meets(3));
        outcome.judge(3, true);
        assert!(outcome.meets(4));
        outcome.judge(4, false);
        outcome.judge(5, false);
        assert_eq!((outcome.rounds, outcome.forbidden, outcome.first_forbidden), (3, 2, 4));
    }

    #[test]
    fn a_tag_that_goes_back_is_forbidden() {
        let mut outcome = LitmusOutcome::default();
        assert!(outcome.meets(9) && !outcome.meets(8));
        assert_eq!((outcome.rounds, outcome.forbidden, outcome.first_forbidden), (1, 1, 8));
    }

    #[test]
    fn lost_updates_are_counted() {
        let outcome = |rounds, counted| LitmusOutcome { rounds, counted, ..LitmusOutcome::default() };
        assert_eq!(lost_updates(&[outcome(3, 7), outcome(4, 0)]), 0);
        assert_eq!(lost_updates(&[outcome(3, 5), outcome(4, 0)]), 2);
        assert_eq!(total(&[outcome(3, 5), LitmusOutcome { forbidden: 2, ..outcome(4, 0) }]), (7, 2));
    }

    #[test]
    fn prices_stand_in_their_order_and_have_names_of_their_own() {
        for (index, price) in Price::ALL.iter().enumerate() {
            assert_eq!(*price as usize, index);
            assert!(Price::ALL[..index].iter().all(|other| other.id() != price.id()), "{price:?}");
        }
    }
}
