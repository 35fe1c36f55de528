//! A block's shared memory: loaded at launch, spilled at exit.
//!
//! A block keeps ring positions, locks and the warps' scratch in memory that only its own warps can reach, because that is an
//! order of magnitude nearer than device memory. The truth at rest is in device memory: the first warp loads the positions
//! when the kernel starts, the last warp that leaves spills them.

use tourbillon_shared::block::{BlockLayout, BlockWords, WarpScratch};
use tourbillon_shared::geometry::{KernelArguments, ShardState};
use tourbillon_shared::position::RingShape;

use crate::arch::Arch;
use crate::mailbox;
use crate::outbox::fill_mails;
use crate::warp::Warp;

/// The block that runs.
#[derive(Clone, Copy, Debug)]
pub struct Block<'k> {
    /// The launch's arguments.
    pub arguments: &'k KernelArguments,
    /// This block's number.
    pub number: u32,
    memory: *mut u8,
    layout: BlockLayout,
    /// Shards of this block.
    shards: u32,
    /// Of the geometry, kept at hand: gate blocks, ...
    gates: u32,
    /// ... rings of a shard, its mailbox included, ...
    sources: u32,
    /// ... the shape of a ring from a gate to a shard, ...
    ring_shape: RingShape,
    /// ... this block's first shard and the step to its next ones.
    first_shard: u32,
    shard_step: u32,
}

impl<'k> Block<'k> {
    /// The block of the calling thread.
    pub fn new<A: Arch>(arguments: &'k KernelArguments) -> Self {
        let geometry = &arguments.geometry;
        let number = A::block();
        let (step, offset) = (geometry.shard_blocks(), Self::shard_offset_of(arguments, number));
        let shards = match offset {
            // Shards `offset, offset + step, ...` below the total.
            Some(offset) if offset < geometry.shards => {
                let beyond = geometry.shards.wrapping_sub(offset).wrapping_add(step).wrapping_sub(1);
                beyond.checked_div(step).unwrap_or(0)
            }
            _ => 0,
        };
        Self {
            arguments,
            number,
            memory: A::block_memory(),
            layout: BlockLayout::new(geometry),
            shards,
            gates: geometry.gates,
            sources: geometry.sources(),
            ring_shape: geometry.ring_shape(),
            first_shard: offset.unwrap_or(0),
            shard_step: step,
        }
    }

    fn shard_offset_of(arguments: &KernelArguments, block: u32) -> Option<u32> {
        let geometry = &arguments.geometry;
        if geometry.combined != 0 { Some(0) } else { block.checked_sub(geometry.gates) }
    }

    /// Whether the block polls lanes.
    #[inline(always)]
    pub fn is_gate(&self) -> bool {
        self.number < self.gates
    }

    /// Gate blocks of the engine.
    #[inline(always)]
    pub fn gates(&self) -> u32 {
        self.gates
    }

    /// Rings from which each shard takes messages: those of the gates, and behind them its mailbox, where there is one.
    #[inline(always)]
    pub fn sources(&self) -> u32 {
        self.sources
    }

    /// Shape of ring `source` of a shard.
    #[inline(always)]
    pub fn shape_of(&self, source: u32) -> RingShape {
        if source == self.gates { self.arguments.geometry.mailbox_shape() } else { self.ring_shape }
    }

    /// Shape of a ring from a gate to a shard.
    #[inline(always)]
    pub fn ring_shape(&self) -> RingShape {
        self.ring_shape
    }

    /// How many shards the block runs.
    #[inline(always)]
    pub fn shards(&self) -> u32 {
        self.shards
    }

    /// The engine's number of the block's shard `local`.
    #[inline(always)]
    pub fn shard(&self, local: u32) -> u32 {
        self.first_shard.wrapping_add(local.wrapping_mul(self.shard_step))
    }

    #[inline(always)]
    fn at<T>(&self, offset: u32, index: u32) -> *mut T {
        self.memory.wrapping_add(offset as usize).cast::<T>().wrapping_add(index as usize)
    }

    #[inline(always)]
    fn words(&self) -> *mut BlockWords {
        self.at(self.layout.words, 0)
    }

    /// The lock under which gate warps claim.
    #[inline(always)]
    pub fn gate_lock(&self) -> *mut u32 {
        // SAFETY: only the address is taken, inside the block's memory.
        unsafe { &raw mut (*self.words()).gate_lock }
    }

    /// The turn of the block's shard `local`.
    #[inline(always)]
    pub fn turn(&self, local: u32) -> *mut u32 {
        self.at(self.layout.turns, local)
    }

    /// How far lane `lane` is claimed.
    #[inline(always)]
    pub fn lane_head(&self, lane: u32) -> *mut u64 {
        self.at(self.layout.lane_heads, lane)
    }

    /// When the oldest message of lane `lane` was seen to wait for others, device time; 0 when none does.
    #[inline(always)]
    pub fn lane_wait(&self, lane: u32) -> *mut u64 {
        self.at(self.layout.lane_waits, lane)
    }

    /// How many windows in a row lane `lane` filled.
    #[inline(always)]
    pub fn lane_full(&self, lane: u32) -> *mut u64 {
        self.at(self.layout.lane_fulls, lane)
    }

    /// When the last look at the head of lane `lane` alone began, device time.
    #[inline(always)]
    pub fn lane_look(&self, lane: u32) -> *mut u64 {
        self.at(self.layout.lane_looks, lane)
    }

    /// How far this gate has written the ring of `shard`.
    #[inline(always)]
    pub fn ring_tail(&self, shard: u32) -> *mut u64 {
        self.at(self.layout.ring_tails, shard)
    }

    /// What this gate last knew of how far the ring of `shard` may be overwritten.
    #[inline(always)]
    pub fn ring_freed(&self, shard: u32) -> *mut u64 {
        self.at(self.layout.ring_freed, shard)
    }

    #[inline(always)]
    fn local_ring(&self, local: u32, gate: u32) -> u32 {
        local.wrapping_mul(self.sources).wrapping_add(gate)
    }

    /// Not 0 while the overflow of the block's shard `local` may have letters; only where there are mailboxes.
    #[inline(always)]
    pub fn overflowing(&self, local: u32) -> *mut u64 {
        self.at(self.layout.overflowing, local)
    }

    /// How far the block's shard `local` has taken the ring of `gate`, or its mailbox.
    #[inline(always)]
    pub fn ring_head(&self, local: u32, gate: u32) -> *mut u64 {
        self.at(self.layout.ring_heads, self.local_ring(local, gate))
    }

    /// How far the block told `gate` that it may overwrite the ring of shard `local`.
    #[inline(always)]
    pub fn ring_published(&self, local: u32, gate: u32) -> *mut u64 {
        self.at(self.layout.ring_published, self.local_ring(local, gate))
    }

    /// The last timestamp of the block's shard `local`.
    #[inline(always)]
    pub fn clock(&self, local: u32) -> *mut u64 {
        self.at(self.layout.clocks, local)
    }

    /// The last timestamp of the block's shard `local` in device memory.
    fn stored_clock(&self, local: u32) -> *mut u64 {
        let first = self.arguments.memory.wrapping_add(self.arguments.layout.shards) as *mut ShardState;
        let shard = first.wrapping_add(self.shard(local) as usize);
        // SAFETY: only the address is taken, inside the array of the shards' states.
        unsafe { &raw mut (*shard).hlc }
    }

    /// The scratch of warp `warp` of this block.
    #[inline(always)]
    pub fn scratch(&self, warp: u32) -> *mut WarpScratch {
        self.at(self.layout.scratch, warp)
    }

    /// The position word of (`gate`, `shard`) in one of the arrays of device memory.
    #[inline(always)]
    pub fn pair(&self, array: u64, gate: u32, shard: u32) -> *mut u64 {
        let index = gate.wrapping_mul(self.arguments.geometry.shards).wrapping_add(shard);
        (self.arguments.memory.wrapping_add(array) as *mut u64).wrapping_add(index as usize)
    }

    /// The position word of `lane` in device memory.
    #[inline(always)]
    fn stored_lane_head(&self, lane: u32) -> *mut u64 {
        (self.arguments.memory.wrapping_add(self.arguments.layout.lane_heads) as *mut u64).wrapping_add(lane as usize)
    }

    /// Copies the positions and clocks between the block's memory and device memory, all lanes of one warp together.
    fn copy_positions<A: Arch, const WHOLE: bool>(&self, warp: &Warp<A, WHOLE>, copy: impl Fn(*mut u64, *mut u64)) {
        let geometry = &self.arguments.geometry;
        let (layout, step) = (&self.arguments.layout, warp.size());
        if self.is_gate() {
            let mut lane = warp.rank();
            while lane < geometry.lanes {
                if lane.checked_rem(geometry.gates) == Some(self.number) {
                    copy(self.lane_head(lane), self.stored_lane_head(lane));
                }
                lane = lane.wrapping_add(step);
            }
            let mut shard = warp.rank();
            while shard < geometry.shards {
                copy(self.ring_tail(shard), self.pair(layout.ring_tails, self.number, shard));
                shard = shard.wrapping_add(step);
            }
        }
        let mut local = warp.rank();
        while local < self.shards {
            copy(self.clock(local), self.stored_clock(local));
            let mut gate = 0;
            while gate < geometry.gates {
                copy(self.ring_head(local, gate), self.pair(layout.ring_heads, gate, self.shard(local)));
                gate = gate.wrapping_add(1);
            }
            if self.sources != self.gates {
                let state = mailbox::state_of(self.arguments, self.shard(local));
                // SAFETY: only the address is taken, inside the array of the mailboxes' states.
                copy(self.ring_head(local, self.gates), unsafe { &raw mut (*state).head });
            }
            local = local.wrapping_add(step);
        }
    }

    /// Fills the block's memory at the kernel's start. Every warp calls it; all have what it loads when it returns.
    pub fn load<A: Arch, const WHOLE: bool>(&self, warp: &Warp<A, WHOLE>) {
        if A::warp() == 0 {
            self.copy_positions(warp, |near, far| {
                // SAFETY: both lead to words of their arrays; nobody else runs before the barrier below.
                unsafe { near.write(far.read()) };
            });
            let mut shard = if self.is_gate() { warp.rank() } else { u32::MAX };
            while shard < self.arguments.geometry.shards {
                let far = self.pair(self.arguments.layout.ring_freed, self.number, shard);
                // SAFETY: as above.
                unsafe { self.ring_freed(shard).write(far.read()) };
                shard = shard.wrapping_add(warp.size());
            }
            let mut lane = warp.rank();
            while lane < self.arguments.geometry.lanes {
                // SAFETY: as above. A wait that was cut short begins anew.
                unsafe {
                    self.lane_wait(lane).write(0);
                    self.lane_full(lane).write(0);
                    self.lane_look(lane).write(0);
                }
                lane = lane.wrapping_add(warp.size());
            }
            let mut local = warp.rank();
            while local < self.shards {
                let mut gate = 0;
                while gate < self.sources {
                    // SAFETY: as above. What was taken before the last exit was published with it.
                    unsafe { self.ring_published(local, gate).write(self.ring_head(local, gate).read()) };
                    gate = gate.wrapping_add(1);
                }
                // SAFETY: as above. Whether the overflow has letters is found out by the first look at it.
                unsafe {
                    self.turn(local).write(0);
                    if self.sources != self.gates {
                        self.overflowing(local).write(1);
                    }
                }
                local = local.wrapping_add(warp.size());
            }
            // SAFETY: as above; every warp of the block has a scratch.
            unsafe { fill_mails(self.arguments, self.number, self.scratch(0), warp.rank(), warp.size()) };
            if warp.rank() == 0 {
                // SAFETY: as above.
                unsafe {
                    (*self.words()).gate_lock = 0;
                    (*self.words()).warps_running = self.arguments.geometry.warps_per_block;
                    (*self.words()).scratch_offset = self.layout.scratch;
                }
            }
        }
        A::block_barrier();
    }

    /// Called by every warp that leaves; the last one of the block spills.
    pub fn leave<A: Arch, const WHOLE: bool>(&self, warp: &Warp<A, WHOLE>) {
        warp.sync();
        let mut is_last = false;
        if warp.rank() == 0 {
            // SAFETY: a word of the block's memory. Its release and acquire order the other warps' positions before the
            // spill.
            is_last = unsafe { A::decrement_cta(&raw mut (*self.words()).warps_running) } == 1;
        }
        if !warp.any(is_last) || tourbillon_shared::mutant!("no_spill") {
            return;
        }
        warp.sync();
        self.copy_positions(warp, |near, far| {
            // SAFETY: both lead to words of their arrays; no other warp of the block runs any more.
            unsafe { far.write(near.read()) };
        });
        // What a shard has taken, its gates may overwrite after the next launch, and those who send letters.
        let geometry = &self.arguments.geometry;
        let mut local = warp.rank();
        while local < self.shards {
            let mut gate = 0;
            while gate < geometry.gates {
                let freed = self.pair(self.arguments.layout.ring_freed, gate, self.shard(local));
                // SAFETY: as above; the gate reads this word with acquire, should it still run.
                unsafe { A::store_release_gpu(freed, self.ring_head(local, gate).read()) };
                gate = gate.wrapping_add(1);
            }
            if self.sources != self.gates {
                // SAFETY: as above.
                let slots = unsafe {
                    self.ring_head(local, self.gates).read().wrapping_sub(self.ring_published(local, self.gates).read())
                };
                mailbox::give_back::<A>(self, local, slots);
            }
            local = local.wrapping_add(warp.size());
        }
    }
}

/// Notes where lane `lane` of warp `warp` panicked, for the lanes that stay.
///
/// # Safety
/// `memory` is the memory of a block that [`Block::load`] has filled, `lane` is the calling lane's own.
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
pub unsafe fn note_panic(memory: *mut u8, warp: u32, lane: u32, place: tourbillon_shared::error::PanicPlace) {
    // SAFETY: the caller vouches for the memory, at whose beginning the words stand.
    unsafe {
        let offset = (*memory.cast::<BlockWords>()).scratch_offset;
        let scratch = memory.wrapping_add(offset as usize).cast::<WarpScratch>().wrapping_add(warp as usize);
        (&raw mut (*scratch).panic)
            .cast::<tourbillon_shared::error::PanicPlace>()
            .wrapping_add(lane as usize)
            .write(place);
    }
}
