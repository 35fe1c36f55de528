//! Message-passing litmus tests: the engine's own memory operations in the shapes in which it relies on them, and
//! nothing else of it.
//!
//! Words, judging and channels are described in `tourbillon_shared::litmus`. Every loop ends after so many looks or
//! rounds, and at a deadline by the device clock, whatever the other side does. A kernel told to be a *control* leaves
//! out the fence or the order that its shape is about: it shows whether this hardware makes the difference visible.

use core::arch::nvptx;

use tourbillon_device::arch::Arch;
use tourbillon_device::arch::nvptx::Nvptx;
use tourbillon_shared::geometry::BLOCK_MEMORY_BYTES;
use tourbillon_shared::litmus::{
    ARENA_CHUNKS, GROUPS, LITMUS_THREADS_MAX, LitmusArguments, LitmusOutcome, MESSAGE_WORDS, PAYLOAD_CHUNKS, answer_to,
    head_of, is_head_fresh, is_message_fresh, is_payload_fresh, is_same, is_whole, message_of, payload_of,
};
use tourbillon_shared::slot::Chunk;

/// Every lane of a warp: none leaves before the others.
const ALL_LANES: u32 = u32::MAX;
/// Looks between two readings of the clock: at a microsecond a look over the bus, a deadline is kept to a tenth of a
/// millisecond.
const LOOKS_PER_CLOCK: u32 = 64;

// The block's memory in the shape of a lock: a line for each.
const LOCK_BYTES: usize = 128;
/// The guarded words, behind the lock.
const GUARDED_AT: usize = 64;
const _: () = assert!(GROUPS as usize * LOCK_BYTES <= BLOCK_MEMORY_BYTES);

// The block's memory where groups count down: counters, rounds that have begun, a word for each thread.
const BEGUN_AT: usize = GROUPS as usize * size_of::<u32>();
const WORDS_AT: usize = BEGUN_AT + GROUPS as usize * size_of::<u64>();
const _: () = assert!(WORDS_AT + LITMUS_THREADS_MAX as usize * size_of::<u64>() <= BLOCK_MEMORY_BYTES);

/// An end to a loop.
struct Watch {
    looks: u32,
    until_ns: u64,
}

impl Watch {
    #[inline(always)]
    fn new(arguments: &LitmusArguments) -> Self {
        Self { looks: arguments.looks, until_ns: Nvptx::now_ns().wrapping_add(arguments.time_ns) }
    }

    /// Whether there is another look.
    #[inline(always)]
    fn goes_on(&mut self) -> bool {
        self.looks = self.looks.wrapping_sub(1);
        self.looks != 0 && (self.looks & (LOOKS_PER_CLOCK - 1) != 0 || Nvptx::now_ns() < self.until_ns)
    }
}

#[inline(always)]
fn threads() -> u32 {
    // SAFETY: reads a register.
    unsafe { nvptx::_block_dim_x() as u32 }
}

/// The thread in its block.
#[inline(always)]
fn thread() -> u32 {
    // SAFETY: reads a register.
    unsafe { nvptx::_thread_idx_x() as u32 }
}

/// The thread in the grid.
#[inline(always)]
fn thread_in_grid() -> u32 {
    Nvptx::block().wrapping_mul(threads()).wrapping_add(thread())
}

/// Place `index` behind `base`.
#[inline(always)]
fn place<T>(base: u64, index: u32, stride: u32) -> *mut T {
    base.wrapping_add(u64::from(index).wrapping_mul(u64::from(stride))) as *mut T
}

/// Writes what the observer saw.
///
/// # Safety
/// The arguments have an outcome for each thread of the grid.
#[inline(always)]
unsafe fn report(arguments: &LitmusArguments, outcome: LitmusOutcome) {
    let to: *mut LitmusOutcome = place(arguments.outcomes_at, thread_in_grid(), size_of::<LitmusOutcome>() as u32);
    // SAFETY: the caller vouches for the outcomes; this one is the thread's own.
    unsafe { to.write(outcome) };
}

/// A kernel of the module: one shape, or the shape and its control.
macro_rules! litmus_kernel {
    ($(#[$doc:meta])* $name:ident: $run:expr) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// `arguments` points to valid [`LitmusArguments`] whose memory outlives the kernel.
        #[unsafe(no_mangle)]
        pub unsafe extern "ptx-kernel" fn $name(arguments: *const LitmusArguments) {
            // SAFETY: the caller vouches for the arguments and what they point to.
            unsafe { $run(&arguments.read()) };
        }
    };
    ($(#[$doc:meta])* $name:ident: $run:ident, control) => {
        litmus_kernel! {
            $(#[$doc])*
            $name: |arguments: &LitmusArguments| {
                if arguments.is_control == 0 { $run::<false>(arguments) } else { $run::<true>(arguments) }
            }
        }
    };
}

litmus_kernel! {
    /// The host writes a payload, then the head; whoever sees the head and fences sees the payload.
    tourbillon_litmus_to_device: to_device, control
}
litmus_kernel! {
    /// The mirror image: what is written before the fence is seen by a host that has seen the head.
    tourbillon_litmus_to_host: to_host, control
}
litmus_kernel! {
    /// Heads there and back, one at a time: all four words belong together, both ways.
    tourbillon_litmus_echo: echo
}
litmus_kernel! {
    /// A payload of 4 KiB behind a head, and another back, as by way of an arena.
    tourbillon_litmus_arena: arena, control
}
litmus_kernel! {
    /// Chunks from block to block: whole, whatever their writer does meanwhile.
    tourbillon_litmus_chunks: chunks, control
}
litmus_kernel! {
    /// Words from block to block, published by a release and found by an acquire.
    tourbillon_litmus_messages: messages, control
}
litmus_kernel! {
    /// Plain words of the block's memory, guarded by a lock.
    tourbillon_litmus_lock: lock
}
litmus_kernel! {
    /// Groups of a thread of each warp that count down: the last one sees what all have written.
    tourbillon_litmus_countdown: countdown
}

#[inline(always)]
unsafe fn to_device<const CONTROL: bool>(arguments: &LitmusArguments) {
    let channel = thread_in_grid();
    let head: *const Chunk = place(arguments.heads_at, channel, arguments.head_stride);
    let payload: *const Chunk = place(arguments.payloads_at, channel, arguments.payload_stride);
    let mut outcome = LitmusOutcome::default();
    let mut watch = Watch::new(arguments);
    let is_fresh_behind = |tag: u32| {
        let (mut is_fresh, mut number) = (true, 0);
        while number < PAYLOAD_CHUNKS {
            // SAFETY: inside the channel's payload.
            let chunk = unsafe { Nvptx::load_payload_sys(payload.wrapping_add(number as usize)) };
            is_fresh &= is_payload_fresh(chunk, number, tag);
            number = number.wrapping_add(1);
        }
        is_fresh
    };
    while watch.goes_on() && outcome.tag < arguments.rounds {
        // SAFETY: the channel's head.
        let found = unsafe { Nvptx::load_chunk_sys(head) };
        // The control reads on before it knows the tag: a branch in between would keep the order by itself.
        let is_early_fresh = CONTROL && is_fresh_behind(found.tag());
        if outcome.meets(found.tag()) {
            let is_fresh = if CONTROL {
                is_early_fresh
            } else {
                Nvptx::fence_acquire_sys();
                is_fresh_behind(found.tag())
            };
            outcome.judge(found.tag(), is_head_fresh(found) & is_fresh);
        }
    }
    // SAFETY: the caller vouches for the outcomes.
    unsafe { report(arguments, outcome) };
}

#[inline(always)]
unsafe fn to_host<const CONTROL: bool>(arguments: &LitmusArguments) {
    let channel = thread_in_grid();
    let head: *mut Chunk = place(arguments.replies_at, channel, arguments.head_stride);
    let payload: *mut Chunk = place(arguments.reply_payloads_at, channel, arguments.payload_stride);
    let mut round = 0;
    let mut watch = Watch::new(arguments);
    while watch.goes_on() && round < arguments.rounds {
        round = round.wrapping_add(1);
        let mut number = 0;
        while number < PAYLOAD_CHUNKS {
            // SAFETY: inside the channel's payload.
            unsafe { Nvptx::store_payload_sys(payload.wrapping_add(number as usize), payload_of(round, number)) };
            number = number.wrapping_add(1);
        }
        if !CONTROL {
            Nvptx::fence_release_sys();
        }
        // SAFETY: the channel's head.
        unsafe { Nvptx::store_chunk_sys(head, head_of(round)) };
    }
}

#[inline(always)]
unsafe fn echo(arguments: &LitmusArguments) {
    let channel = thread_in_grid();
    let from: *const Chunk = place(arguments.heads_at, channel, arguments.head_stride);
    let to: *mut Chunk = place(arguments.replies_at, channel, arguments.head_stride);
    let mut outcome = LitmusOutcome::default();
    let mut round = 0u32;
    let mut watch = Watch::new(arguments);
    while watch.goes_on() && outcome.tag < arguments.rounds {
        // SAFETY: the channel's head.
        let found = unsafe { Nvptx::load_chunk_sys(from) };
        if outcome.meets(found.tag()) {
            round = round.wrapping_add(1);
            outcome.judge(found.tag(), is_whole(found) & (found.tag() == round));
            // SAFETY: the channel's head of the other direction.
            unsafe { Nvptx::store_chunk_sys(to, found) };
        }
    }
    // SAFETY: the caller vouches for the outcomes.
    unsafe { report(arguments, outcome) };
}

#[inline(always)]
unsafe fn arena<const CONTROL: bool>(arguments: &LitmusArguments) {
    let (channel, lane) = (thread_in_grid() / Nvptx::LANES, Nvptx::lane());
    let head: *const Chunk = place(arguments.heads_at, channel, arguments.head_stride);
    let payload: *const Chunk = place(arguments.payloads_at, channel, arguments.payload_stride);
    let reply: *mut Chunk = place(arguments.replies_at, channel, arguments.head_stride);
    let reply_payload: *mut Chunk = place(arguments.reply_payloads_at, channel, arguments.payload_stride);
    let mut outcome = LitmusOutcome::default();
    let mut round = 1u32;
    let mut watch = Watch::new(arguments);
    while Nvptx::ballot(ALL_LANES, !watch.goes_on()) == 0 && round <= arguments.rounds {
        // SAFETY: the channel's head.
        let found = unsafe { Nvptx::load_chunk_sys(head) };
        if Nvptx::ballot(ALL_LANES, found.tag() == round) == ALL_LANES {
            if !CONTROL {
                Nvptx::fence_acquire_sys();
            }
            let mut is_right = is_whole(found);
            let mut number = lane;
            while number < ARENA_CHUNKS {
                // SAFETY: inside the channel's payloads.
                unsafe {
                    let chunk = Nvptx::load_payload_sys(payload.wrapping_add(number as usize));
                    is_right &= is_same(chunk, payload_of(round, number));
                    Nvptx::store_payload_sys(reply_payload.wrapping_add(number as usize), answer_to(chunk));
                }
                number = number.wrapping_add(Nvptx::LANES);
            }
            outcome.judge(round, Nvptx::ballot(ALL_LANES, !is_right) == 0);
            Nvptx::sync_warp(ALL_LANES);
            if !CONTROL {
                Nvptx::fence_release_sys();
            }
            if lane == 0 {
                // SAFETY: the channel's head of the other direction.
                unsafe { Nvptx::store_chunk_sys(reply, head_of(round)) };
            }
            round = round.wrapping_add(1);
        }
    }
    if lane == 0 {
        // SAFETY: the caller vouches for the outcomes.
        unsafe { report(arguments, outcome) };
    }
}

/// The channel of a thread between two blocks, and whether it writes.
#[inline(always)]
fn end_between_blocks() -> (u32, bool) {
    let block = Nvptx::block();
    ((block / 2).wrapping_mul(threads()).wrapping_add(thread()), block.is_multiple_of(2))
}

#[inline(always)]
unsafe fn chunks<const CONTROL: bool>(arguments: &LitmusArguments) {
    let (channel, writes) = end_between_blocks();
    let head: *mut Chunk = place(arguments.heads_at, channel, arguments.head_stride);
    let mut outcome = LitmusOutcome::default();
    let mut round = 0u32;
    let mut watch = Watch::new(arguments);
    while watch.goes_on() && outcome.tag < arguments.rounds && round < arguments.rounds {
        // SAFETY: the channel's head.
        unsafe {
            if writes {
                round = round.wrapping_add(1);
                if CONTROL {
                    // In two halves, the one with the tag last.
                    let (low, high) = head_of(round).to_halves();
                    Nvptx::store_relaxed_gpu(head.cast(), low);
                    Nvptx::store_relaxed_gpu(head.cast::<u64>().wrapping_add(1), high);
                } else {
                    Nvptx::store_chunk_gpu(head, head_of(round));
                }
            } else {
                let found = Nvptx::load_chunk_gpu(head);
                if outcome.meets(found.tag()) {
                    outcome.judge(found.tag(), is_whole(found));
                }
            }
        }
    }
    // SAFETY: the caller vouches for the outcomes.
    unsafe { report(arguments, outcome) };
}

#[inline(always)]
unsafe fn messages<const CONTROL: bool>(arguments: &LitmusArguments) {
    let (channel, writes) = end_between_blocks();
    let flag: *mut u64 = place(arguments.heads_at, channel, arguments.head_stride);
    let words: *mut u64 = place(arguments.payloads_at, channel, arguments.payload_stride);
    let mut outcome = LitmusOutcome::default();
    let mut round = 0u32;
    let mut watch = Watch::new(arguments);
    while watch.goes_on() && outcome.tag < arguments.rounds && round < arguments.rounds {
        // SAFETY: the channel's flag and words.
        unsafe {
            if writes {
                round = round.wrapping_add(1);
                let mut index = 0;
                while index < MESSAGE_WORDS {
                    Nvptx::store_relaxed_gpu(words.wrapping_add(index as usize), message_of(round, index));
                    index = index.wrapping_add(1);
                }
                if CONTROL {
                    Nvptx::store_relaxed_gpu(flag, round.into());
                } else {
                    Nvptx::store_release_gpu(flag, round.into());
                }
            } else {
                let tag = if CONTROL { Nvptx::load_relaxed_gpu(flag) } else { Nvptx::load_acquire_gpu(flag) } as u32;
                // Read at every look and not only after a new flag: a branch in between would order them.
                let mut is_fresh = true;
                let mut index = 0;
                while index < MESSAGE_WORDS {
                    let word = Nvptx::load_relaxed_gpu(words.wrapping_add(index as usize));
                    is_fresh &= is_message_fresh(word, index, tag);
                    index = index.wrapping_add(1);
                }
                if outcome.meets(tag) {
                    outcome.judge(tag, is_fresh);
                }
            }
        }
    }
    // SAFETY: the caller vouches for the outcomes.
    unsafe { report(arguments, outcome) };
}

#[inline(always)]
unsafe fn lock(arguments: &LitmusArguments) {
    let base = Nvptx::block_memory();
    let lane = Nvptx::lane();
    let word = |number: u32| base.wrapping_add((number & (GROUPS - 1)) as usize * LOCK_BYTES).cast::<u32>();
    let guarded = |number: u32| word(number).cast::<u8>().wrapping_add(GUARDED_AT).cast::<u64>();
    if Nvptx::warp() == 0 {
        // SAFETY: inside the block's memory; nobody else touches it before the barrier.
        unsafe {
            word(lane).write(0);
            guarded(lane).write(0);
            guarded(lane).wrapping_add(1).write(message_of(0, lane));
        }
    }
    Nvptx::block_barrier();
    let mut outcome = LitmusOutcome::default();
    let mut turn = 0u32;
    let mut watch = Watch::new(arguments);
    while watch.goes_on() && (outcome.rounds as u32) < arguments.rounds {
        // The lanes of a warp want different locks, and in every turn others.
        let number = lane.wrapping_add(turn) & (GROUPS - 1);
        turn = turn.wrapping_add(1);
        // SAFETY: the lock is a word of the block's memory; what it guards is touched only while it is held.
        unsafe {
            if Nvptx::try_acquire_cta(word(number), true) {
                let (counter, beside) = (guarded(number), guarded(number).wrapping_add(1));
                let count = counter.read();
                outcome.judge(count as u32, beside.read() == message_of(count as u32, number));
                counter.write(count.wrapping_add(1));
                beside.write(message_of((count as u32).wrapping_add(1), number));
                Nvptx::release_cta(word(number));
            }
        }
    }
    Nvptx::sync_warp(ALL_LANES);
    Nvptx::block_barrier();
    if Nvptx::warp() == 0 {
        // SAFETY: the barrier ordered the last update before this.
        outcome.counted = unsafe { guarded(lane).read() };
    }
    // SAFETY: the caller vouches for the outcomes.
    unsafe { report(arguments, outcome) };
}

#[inline(always)]
unsafe fn countdown(arguments: &LitmusArguments) {
    let base = Nvptx::block_memory();
    let (lane, warp, warps) = (Nvptx::lane(), Nvptx::warp(), threads() / Nvptx::LANES);
    let count = base.cast::<u32>().wrapping_add(lane as usize);
    let begun = base.wrapping_add(BEGUN_AT).cast::<u64>().wrapping_add(lane as usize);
    let word_of_warp = |warp: u32| {
        let index = warp.wrapping_mul(Nvptx::LANES).wrapping_add(lane);
        base.wrapping_add(WORDS_AT).cast::<u64>().wrapping_add(index as usize)
    };
    // SAFETY: inside the block's memory; each thread its own word, the first warp the groups'.
    unsafe {
        word_of_warp(warp).write(0);
        if warp == 0 {
            count.write(warps);
            begun.write(1);
        }
    }
    Nvptx::block_barrier();
    let mut outcome = LitmusOutcome::default();
    let mut round = 1u32;
    let mut watch = Watch::new(arguments);
    while watch.goes_on() && round <= arguments.rounds {
        // SAFETY: words of the block's memory. A thread writes its own after the round has begun; the last one to count
        // down reads them all, and begins the next.
        unsafe {
            if Nvptx::load_cta(begun) as u32 == round {
                Nvptx::acquire_fence_cta();
                word_of_warp(warp).write(message_of(round, warp));
                if Nvptx::decrement_cta(count) == 1 {
                    let mut is_right = true;
                    let mut other = 0;
                    while other < warps {
                        is_right &= word_of_warp(other).read() == message_of(round, other);
                        other = other.wrapping_add(1);
                    }
                    outcome.judge(round, is_right);
                    count.write(warps);
                    // Acquire and release: the count is seen by whoever sees that the round has begun.
                    Nvptx::acquire_fence_cta();
                    Nvptx::store_cta(begun, u64::from(round).wrapping_add(1));
                }
                round = round.wrapping_add(1);
            }
        }
    }
    // SAFETY: the caller vouches for the outcomes.
    unsafe { report(arguments, outcome) };
}
