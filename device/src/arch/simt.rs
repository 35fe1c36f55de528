//! Simulated warps, for tests of warp code without a GPU.
//!
//! Every lane is a coroutine. All of a grid run on one thread, in an order drawn from a seed, and switch at collectives, in
//! waiting loops and now and then at accesses to memory. A collective completes when every living lane of its mask has
//! reached the same call with the same mask; lanes that wait at different calls are an error that names both. A panic of a handler
//! ends its lane, as on a GPU; `shuffle` from a lane that has left gives poison.
//!
//! With a *hostile bus*, stored chunks are held back and delivered late and in any order (those for the same place stay in
//! order), which an x86 processor alone would hide.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::atomic::fence;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use tourbillon_shared::error::PanicPlace;
use tourbillon_shared::geometry::{BLOCK_MEMORY_BYTES, KernelArguments};
use tourbillon_shared::slot::Chunk;

use super::native::{
    double, guarded, host_memory_operations, load_chunk, load_payload, monotonic_ns, note_panics, noted_panic,
    store_chunk,
};
use super::{Arch, ordering};
use crate::system::System;

/// Bytes of a lane's stack: the loop is shallow and handlers are small.
const STACK_BYTES: usize = 256 * 1024;
/// One of so many accesses to memory switches to another lane.
const SWITCH_ONE_OF: u64 = 64;
/// Chunks that the hostile bus holds back at most.
const HELD_MAX: usize = 512;
/// Steps of warps between two yields of the thread, so that clients come in on machines with few cores.
const STEPS_PER_YIELD: u32 = 64;
/// What `shuffle` gives from a lane that has left.
const POISON: u32 = 0xdead_1a9e;

/// A machine with warps of `LANES` (4 or 32) simulated lanes.
#[derive(Clone, Copy, Debug)]
pub struct Simt<const LANES: u32>;

/// How to simulate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Seed of every choice.
    pub seed: u64,
    /// Whether stores are delivered late and in any order.
    pub hostile_bus: bool,
}

/// What a simulation found wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What, and where.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "simulated warp: {}", self.message)
    }
}

impl std::error::Error for Failure {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Ballot,
    Shuffle { lane: u32 },
    MatchAny,
    Sync,
}

impl Operation {
    fn is_like(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// May run.
    Ready,
    /// Waits in a collective.
    Collective { operation: Operation, mask: u32, value: u64, site: &'static Location<'static> },
    /// Waits for its block.
    Barrier,
    /// Has left.
    Left,
}

struct Lane {
    state: Cell<State>,
    result: Cell<u64>,
    yielder: Cell<*const Yielder<(), ()>>,
}

struct Machine {
    lanes_per_warp: u32,
    warps_per_block: u32,
    lanes: Vec<Lane>,
    memory: Vec<Box<BlockMemory>>,
    current: Cell<usize>,
    random: Cell<u64>,
    hostile: bool,
    held: RefCell<Vec<(*mut Chunk, Chunk)>>,
    failure: RefCell<Option<String>>,
}

#[repr(C, align(128))]
struct BlockMemory([Cell<u64>; BLOCK_MEMORY_BYTES / 8]);

/// Thrown to end a lane; never reported.
struct LaneExit;

thread_local! {
    static MACHINE: Cell<*const Machine> = const { Cell::new(std::ptr::null()) };
}

fn machine() -> &'static Machine {
    let machine = MACHINE.get();
    assert!(!machine.is_null(), "a simulated lane runs only inside `run_grid`");
    // SAFETY: set by `run_grid` to its own machine, and cleared before that goes.
    unsafe { &*machine }
}

/// Runs a whole grid until it is stopped.
///
/// # Errors
/// [`Failure`] when lanes reached different collectives, or engine code panicked.
///
/// # Safety
/// See [`SystemImage::run_native`](crate::SystemImage::run_native).
pub unsafe fn run_grid<S: System, const LANES: u32>(
    arguments: *const KernelArguments,
    options: &Options,
) -> Result<(), Failure> {
    note_panics();
    // SAFETY: the caller vouches for the arguments.
    let geometry = unsafe { (*arguments).geometry };
    let count = (geometry.blocks * geometry.warps_per_block * LANES) as usize;
    let machine = Machine {
        lanes_per_warp: LANES,
        warps_per_block: geometry.warps_per_block,
        lanes: (0..count)
            .map(|_| Lane {
                state: Cell::new(State::Ready),
                result: Cell::new(0),
                yielder: Cell::new(std::ptr::null()),
            })
            .collect(),
        // A GPU does not clear the memory of a block, so neither does this.
        memory: (0..geometry.blocks)
            .map(|_| Box::new(BlockMemory([const { Cell::new(0xa5a5_a5a5_5a5a_5a5a) }; BLOCK_MEMORY_BYTES / 8])))
            .collect(),
        current: Cell::new(0),
        random: Cell::new(options.seed),
        hostile: options.hostile_bus,
        held: RefCell::new(Vec::new()),
        failure: RefCell::new(None),
    };
    let arguments = arguments as usize;
    let mut coroutines = Vec::with_capacity(count);
    for index in 0..count {
        let stack = DefaultStack::new(STACK_BYTES)
            .map_err(|error| Failure { message: format!("no memory for the stack of lane {index}: {error}") })?;
        coroutines.push(Coroutine::with_stack(stack, move |yielder: &Yielder<(), ()>, ()| {
            let lane = &self::machine().lanes[index];
            lane.yielder.set(yielder);
            let run = AssertUnwindSafe(|| {
                // SAFETY: the caller of `run_grid` vouches for the arguments.
                unsafe { crate::kernel::run::<Simt<LANES>, S>(arguments as *const KernelArguments) }
            });
            if let Err(thrown) = catch_unwind(run)
                && !thrown.is::<LaneExit>()
            {
                self::machine().fail(format!("lane {index} of the grid panicked in the engine: {}", text_of(&*thrown)));
            }
            lane.state.set(State::Left);
        }));
    }
    MACHINE.set(&machine);
    machine.schedule(&mut coroutines);
    machine.deliver_all();
    let failure = machine.failure.borrow_mut().take();
    // What is suspended unwinds here, while the machine still stands.
    drop(coroutines);
    MACHINE.set(std::ptr::null());
    failure.map_or(Ok(()), |message| Err(Failure { message }))
}

fn text_of(thrown: &(dyn Any + Send)) -> &str {
    thrown
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| thrown.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("?")
}

impl Machine {
    /// A number below `bound`, from the seed (splitmix64; Steele, Lea and Flood 2014).
    fn random(&self, bound: u64) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn fail(&self, message: String) {
        self.failure.borrow_mut().get_or_insert(message);
    }

    /// Runs warps in random order until all lanes have left or something is wrong.
    fn schedule(&self, coroutines: &mut [Coroutine<(), (), ()>]) {
        let per_warp = self.lanes_per_warp as usize;
        let warps = self.lanes.len() / per_warp;
        let mut steps = 0u32;
        loop {
            let living: Vec<usize> = (0..warps)
                .filter(|warp| self.warp(*warp).iter().any(|lane| !matches!(lane.state.get(), State::Left)))
                .collect();
            if living.is_empty() {
                return;
            }
            // A pass over about as many warps as there are, so that the list need not be made for every step.
            for _ in 0..living.len() {
                let warp = living[self.random(living.len() as u64) as usize];
                self.step(warp, coroutines);
                if self.failure.borrow().is_some() {
                    return;
                }
                steps = steps.wrapping_add(1);
                if steps.is_multiple_of(STEPS_PER_YIELD) {
                    std::thread::yield_now();
                }
            }
            self.deliver_some();
        }
    }

    fn warp(&self, warp: usize) -> &[Lane] {
        let per_warp = self.lanes_per_warp as usize;
        &self.lanes[warp * per_warp..(warp + 1) * per_warp]
    }

    /// Lets every ready lane of a warp run on to its next switch, in random order, then completes the collective that they may
    /// have reached.
    fn step(&self, warp: usize, coroutines: &mut [Coroutine<(), (), ()>]) {
        let per_warp = self.lanes_per_warp as usize;
        let mut order: [u8; 32] = std::array::from_fn(|lane| lane as u8);
        for last in (1..per_warp).rev() {
            order.swap(last, self.random(last as u64 + 1) as usize);
        }
        for lane in order.into_iter().map(usize::from).filter(|lane| *lane < per_warp) {
            let index = warp * per_warp + lane;
            if matches!(self.lanes[index].state.get(), State::Ready) {
                self.current.set(index);
                if let CoroutineResult::Return(()) = coroutines[index].resume(()) {
                    self.lanes[index].state.set(State::Left);
                }
            }
        }
        self.complete_barrier(warp);
        self.complete_collective(warp);
    }

    fn complete_barrier(&self, warp: usize) {
        let per_block = (self.lanes_per_warp * self.warps_per_block) as usize;
        let block = warp / self.warps_per_block as usize;
        let lanes = &self.lanes[block * per_block..(block + 1) * per_block];
        if lanes.iter().all(|lane| matches!(lane.state.get(), State::Barrier)) {
            lanes.iter().for_each(|lane| lane.state.set(State::Ready));
        }
    }

    fn complete_collective(&self, warp: usize) {
        let lanes = self.warp(warp);
        let alive = (0..lanes.len() as u32)
            .filter(|lane| !matches!(lanes[*lane as usize].state.get(), State::Left))
            .fold(0, |mask, lane| mask | 1 << lane);
        let waiting: Vec<(u32, Operation, u32, &'static Location<'static>)> = (0..lanes.len() as u32)
            .filter_map(|lane| match lanes[lane as usize].state.get() {
                State::Collective { operation, mask, site, .. } => Some((lane, operation, mask, site)),
                _ => None,
            })
            .collect();
        let Some(&(first, operation, mask, site)) = waiting.first() else { return };
        let came = waiting.iter().fold(0, |all, (lane, ..)| all | 1 << lane);
        let expected = mask & alive;
        if came & expected != expected {
            // Some are still on their way, unless they can never come.
            let can_come =
                (0..lanes.len()).any(|lane| !matches!(lanes[lane].state.get(), State::Collective { .. } | State::Left));
            if !can_come {
                self.fail(format!(
                    "lane {first} waits in {operation:?} at {site} for lanes {:#x} that never come",
                    expected & !came
                ));
            }
            return;
        }
        for &(lane, other, other_mask, other_site) in &waiting {
            if expected & (1 << lane) != 0 && (!other.is_like(operation) || other_site != site || other_mask != mask) {
                self.fail(format!(
                    "lane {first} is in {operation:?} at {site} with mask {mask:#x}, \
                     lane {lane} in {other:?} at {other_site} with mask {other_mask:#x}"
                ));
                return;
            }
        }
        let value = |lane: u32| match lanes.get(lane as usize).map(|lane| lane.state.get()) {
            Some(State::Collective { value, .. }) if expected & (1 << lane) != 0 => Some(value),
            _ => None,
        };
        let results: Vec<(u32, u64)> = (0..lanes.len() as u32)
            .filter(|lane| expected & (1 << lane) != 0)
            .map(|lane| {
                let State::Collective { operation, value: own, .. } = lanes[lane as usize].state.get() else {
                    return (lane, 0);
                };
                let all = |test: &dyn Fn(u64) -> bool| {
                    (0..lanes.len() as u32)
                        .filter(|other| value(*other).is_some_and(test))
                        .fold(0u64, |mask, other| mask | 1 << other)
                };
                let result = match operation {
                    Operation::Ballot => all(&|value| value != 0),
                    Operation::MatchAny => all(&|value| value == own),
                    Operation::Shuffle { lane: from } => value(from).unwrap_or(POISON.into()),
                    Operation::Sync => 0,
                };
                (lane, result)
            })
            .collect();
        for (lane, result) in results {
            lanes[lane as usize].result.set(result);
            lanes[lane as usize].state.set(State::Ready);
        }
    }

    fn store(&self, to: *mut Chunk, chunk: Chunk) {
        if !self.hostile {
            // SAFETY: the caller of the store vouches for the pointer.
            return unsafe { store_chunk(to, chunk) };
        }
        self.held.borrow_mut().push((to, chunk));
        if self.held.borrow().len() >= HELD_MAX {
            self.deliver_some();
        }
    }

    /// Delivers about half of what is held back, in random order.
    fn deliver_some(&self) {
        let count = self.held.borrow().len();
        for _ in 0..count.div_ceil(2) {
            self.deliver_one();
        }
    }

    fn deliver_one(&self) {
        let mut held = self.held.borrow_mut();
        if held.is_empty() {
            return;
        }
        let chosen = self.random(held.len() as u64) as usize;
        // Coherence: the oldest store to the same place first.
        let place = held[chosen].0;
        let oldest = held.iter().position(|(to, _)| *to == place).unwrap_or(chosen);
        let (to, chunk) = held.remove(oldest);
        // SAFETY: the caller of the store vouched for the pointer for as long as the kernel runs.
        unsafe { store_chunk(to, chunk) };
    }

    fn deliver_all(&self) {
        while !self.held.borrow().is_empty() {
            self.deliver_one();
        }
    }
}

/// Hands the thread back to the scheduler; the lane goes on when its state is `Ready` again.
fn switch(state: State) {
    let machine = machine();
    let index = machine.current.get();
    let lane = &machine.lanes[index];
    lane.state.set(state);
    // SAFETY: the lane runs, so its yielder is set, and it lives as long as the coroutine.
    unsafe { &*lane.yielder.get() }.suspend(());
    machine.current.set(index);
}

fn switch_sometimes() {
    if machine().random(SWITCH_ONE_OF) == 0 {
        switch(State::Ready);
    }
}

#[track_caller]
fn collective(operation: Operation, mask: u32, value: u64) -> u64 {
    switch(State::Collective { operation, mask, value, site: Location::caller() });
    let machine = machine();
    machine.lanes[machine.current.get()].result.get()
}

impl<const LANES: u32> Arch for Simt<LANES> {
    const LANES: u32 = LANES;
    const SLEEPS: bool = false;
    const WATCH_ROUNDS: u32 = 2;
    const HOME_ROUNDS: u32 = 2;
    const BURST_NS: u64 = 2_000_000;

    fn lane() -> u32 {
        machine().current.get() as u32 % LANES
    }
    fn warp() -> u32 {
        machine().current.get() as u32 / LANES % machine().warps_per_block
    }
    fn block() -> u32 {
        machine().current.get() as u32 / LANES / machine().warps_per_block
    }
    fn block_memory() -> *mut u8 {
        machine().memory[Self::block() as usize].0.as_ptr().cast_mut().cast()
    }
    fn block_barrier() {
        switch(State::Barrier);
    }

    #[track_caller]
    fn ballot(mask: u32, predicate: bool) -> u32 {
        collective(Operation::Ballot, mask, predicate.into()) as u32
    }
    #[track_caller]
    fn shuffle(mask: u32, value: u32, lane: u32) -> u32 {
        collective(Operation::Shuffle { lane }, mask, value.into()) as u32
    }
    #[track_caller]
    fn match_any(mask: u32, value: u64) -> u32 {
        collective(Operation::MatchAny, mask, value) as u32
    }
    #[track_caller]
    fn sync_warp(mask: u32) {
        collective(Operation::Sync, mask, 0);
    }
    fn exit_lane() -> ! {
        resume_unwind(Box::new(LaneExit))
    }

    fn guard(f: impl FnOnce()) -> bool {
        if catch_unwind(AssertUnwindSafe(|| guarded(f))).is_err() {
            // SAFETY: handlers run only after the block was loaded; the lane is the calling one.
            unsafe { crate::block::note_panic(Self::block_memory(), Self::warp(), Self::lane(), noted_panic()) };
            Self::exit_lane();
        }
        true
    }
    fn last_panic() -> PanicPlace {
        PanicPlace::default()
    }

    unsafe fn load_chunk_sys(from: *const Chunk) -> Chunk {
        switch_sometimes();
        // SAFETY: the caller vouches for the pointer.
        unsafe { load_chunk(from) }
    }
    unsafe fn store_chunk_sys(to: *mut Chunk, chunk: Chunk) {
        machine().store(to, chunk);
    }
    unsafe fn load_payload_sys(from: *const Chunk) -> Chunk {
        switch_sometimes();
        // SAFETY: the caller vouches for the pointer.
        unsafe { load_payload(from) }
    }
    unsafe fn store_payload_sys(to: *mut Chunk, bytes: Chunk) {
        machine().store(to, bytes);
    }
    fn fence_release_sys() {
        if let Some(ordering) = ordering::arena_release() {
            // What the warp stored before is delivered before.
            machine().deliver_all();
            // Pairs with the Acquire of the reply's tags by the host.
            fence(ordering);
        }
    }
    unsafe fn load_chunk_gpu(from: *const Chunk) -> Chunk {
        switch_sometimes();
        // SAFETY: the caller vouches for the pointer.
        unsafe { load_chunk(from) }
    }
    unsafe fn store_chunk_gpu(to: *mut Chunk, chunk: Chunk) {
        machine().store(to, chunk);
    }
    unsafe fn store_release_gpu(to: *mut u64, value: u64) {
        // What the warp stored before is delivered before.
        machine().deliver_all();
        // SAFETY: the caller vouches for the pointer. Release pairs with `load_acquire_gpu`.
        unsafe { double(to) }.store(value, ordering::freed_store());
    }

    host_memory_operations!();

    fn now_ns() -> u64 {
        monotonic_ns()
    }
    fn relax(_idle_rounds: u32) {
        switch(State::Ready);
    }
    fn wait_until(_at_ns: u64) {}
    #[inline(always)]
    fn rest(_ns: u32) {
        switch(State::Ready);
    }
}
