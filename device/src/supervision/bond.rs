//! Whose child an actor is: the bond behind its state, and what becomes of the state when it begins anew or is stopped.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::geometry::{EntryHeader, KernelArguments};
use tourbillon_shared::mutant;
use tourbillon_shared::pool::LanePool;
use tourbillon_shared::supervision::{BOND_BYTES, Bond, FAILURES_TOLD_MAX, Happened, bond, watch};
use tourbillon_shared::telemetry::Counter;

use super::event::{Who, send};
use crate::arch::Arch;
use crate::pool::lane::Pool;
use crate::pool::moving::{self, LEAVING};
use crate::stats::Stats;
use crate::system::System;

/// Bytes of a sector of a GPU's cache: what is stored goes out of the block's cache with its sector.
const SECTOR_BYTES: usize = 32;

/// Bytes from one actor's entry to the next: its header, the largest state, and, where actors are supervised, the bond. Where there are
/// letters no two entries share a sector: actors of a shard that write to each other would wait for each other's stores.
pub(crate) const fn entry_stride<S: System>() -> u32 {
    let bond = if S::SUPERVISED { BOND_BYTES } else { 0 };
    let bytes = size_of::<EntryHeader>() + S::STATE_BYTES.next_multiple_of(16) + bond;
    (if S::LETTERS { bytes.next_multiple_of(SECTOR_BYTES) } else { bytes }) as u32
}

/// What the kernel was launched with.
///
/// # Safety
/// `scratch` is a warp's, whose mail was filled when the kernel began.
#[inline(always)]
pub(super) unsafe fn arguments_of<'a>(scratch: *const WarpScratch) -> &'a KernelArguments {
    // SAFETY: the caller vouches for the mail; the arguments live as long as the kernel runs.
    unsafe { &*((*scratch).mail.arguments as *const KernelArguments) }
}

/// Whether the actor at an entry is or was somebody's child, or has children: then it is not evicted.
///
/// # Safety
/// The entry is one of a slab of the system `S`, of which some are supervised, and nobody writes it meanwhile.
#[inline(always)]
pub(crate) unsafe fn is_bound<S: System>(entry: *mut EntryHeader) -> bool {
    // SAFETY: the caller vouches for the entry. Who it is has no part in this.
    let bond = unsafe { Bonded::new::<S>(entry, 0, 0) }.bond();
    bond.state != bond::FREE || bond.children != 0
}

/// A supervised actor: its entry, and who it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bonded {
    entry: *mut EntryHeader,
    bond: *mut Bond,
    /// Its key.
    pub key: u64,
    /// Its kind.
    pub kind: u16,
}

impl Bonded {
    /// The actor (`kind`, `key`) at `entry`.
    ///
    /// # Safety
    /// The entry is that of the actor in a slab of the system `S`, of which some are supervised; the warp holds the shard's turn, and this
    /// lane alone uses the actor.
    #[inline(always)]
    pub(crate) unsafe fn new<S: System>(entry: *mut EntryHeader, kind: u16, key: u64) -> Self {
        let before = (entry_stride::<S>() as usize).wrapping_sub(BOND_BYTES);
        Self { entry, bond: entry.cast::<u8>().wrapping_add(before).cast(), key, kind }
    }

    /// Its bond.
    #[inline(always)]
    pub(crate) fn bond(&self) -> Bond {
        // SAFETY: `new` was told of the entry.
        unsafe { self.bond.read() }
    }

    /// Changes its bond.
    #[inline(always)]
    pub(crate) fn set_bond(&self, bond: Bond) {
        // SAFETY: as in `bond`.
        unsafe { self.bond.write(bond) };
    }

    /// Its parent, as which events go to it.
    #[inline(always)]
    pub(crate) fn parent(&self) -> Who {
        let bond = self.bond();
        Who { key: bond.parent, kind: bond.parent_kind, message: bond.events_as, token: bond.token }
    }

    /// Its state is what it was before the first message; the version grows, for nothing that was read of it holds any more.
    ///
    /// # Safety
    /// As for [`new`](Self::new); `scratch` is the warp's.
    #[inline(never)]
    pub(crate) unsafe fn begin_anew<A: Arch, S: System>(&self, stats: Stats, scratch: *mut WarpScratch) {
        // SAFETY: the caller vouches for the actor; between header and bond there is nothing but its state and what fills it up.
        unsafe {
            self.free_pages::<A, S>(stats, scratch);
            let state = self.entry.wrapping_add(1).cast::<u64>();
            let words = (entry_stride::<S>() as usize).wrapping_sub(BOND_BYTES + size_of::<EntryHeader>()) / 8;
            let mut word = 0;
            while word < words && !mutant!("restart_keeps_the_state") {
                state.wrapping_add(word).write(0);
                word = word.wrapping_add(1);
            }
            // Without a timestamp it is activated before its next message.
            self.entry.write(EntryHeader { hlc: 0, version: (*self.entry).version.wrapping_add(1) });
        }
    }

    /// Gives the pages of its collections back.
    ///
    /// # Safety
    /// As for [`begin_anew`](Self::begin_anew).
    #[inline(always)]
    unsafe fn free_pages<A: Arch, S: System>(&self, stats: Stats, scratch: *mut WarpScratch) {
        let collections = if S::POOLS { S::collections(self.kind) } else { &[] };
        if collections.is_empty() || mutant!("restart_keeps_the_pages") {
            return;
        }
        // SAFETY: the caller vouches for the scratch and for the state. The record is this lane's: open where the batch that runs has
        // opened it for the actor, else closed.
        unsafe {
            let records = (*scratch).mail.pools as *mut LanePool;
            if records.is_null() {
                return;
            }
            let state = self.entry.wrapping_add(1).cast::<u8>();
            let open = Pool::new(records.wrapping_add(A::lane() as usize));
            if open.is_open() {
                open.begin(self.entry, LEAVING);
                moving::clear(open, collections, state);
                open.commit();
            } else if let Some(pool) =
                moving::open::<A>(scratch, arguments_of(scratch), (*scratch).desk.shard, self.entry, LEAVING)
            {
                moving::clear(pool, collections, state);
                moving::close::<A>(pool, stats, true);
            }
        }
    }

    /// Its parent has stopped it.
    ///
    /// # Safety
    /// As for [`begin_anew`](Self::begin_anew).
    #[inline(never)]
    pub(crate) unsafe fn stop<A: Arch, S: System>(&self, stats: Stats, scratch: *mut WarpScratch, event_hlc: u64) {
        let was = self.bond();
        // A supervisor keeps what it knows of its children, to start them when it is started again.
        if was.watch & watch::ORDERS_AS == 0 {
            // SAFETY: the caller vouches for all of it.
            unsafe { self.begin_anew::<A, S>(stats, scratch) };
        }
        // SAFETY: as above.
        unsafe { (*self.entry).hlc = event_hlc };
        let state = if mutant!("stopped_actor_runs") { bond::FREE } else { bond::STOPPED };
        self.set_bond(Bond { state, children: was.children, ..Bond::default() });
        stats.add::<A>(Counter::Stops, 1);
    }

    /// It was told of a child: that it was started, or has stopped.
    #[inline(always)]
    pub(crate) fn count_child(&self, what: u8) {
        let mut bond = self.bond();
        if what == Happened::Started as u8 {
            bond.children = bond.children.saturating_add(1);
        } else if what == Happened::Stopped as u8 {
            bond.children = bond.children.saturating_sub(1);
        }
        self.set_bond(bond);
    }

    /// A stopped actor is started: it begins anew.
    #[inline(always)]
    pub(crate) fn wake(&self) {
        // SAFETY: `new` was told of the entry, which this lane alone uses.
        unsafe { (*self.entry).hlc = 0 };
    }

    /// Its handler has failed with `code`: it begins anew, unless it is a supervisor, and its parent hears of it.
    ///
    /// # Safety
    /// As for [`begin_anew`](Self::begin_anew); the actor is a child.
    #[inline(never)]
    pub(crate) unsafe fn fail<A: Arch, S: System>(
        &self,
        stats: Stats,
        scratch: *mut WarpScratch,
        code: u32,
        event_hlc: u64,
    ) {
        let mut bond = self.bond();
        if bond.watch & watch::ORDERS_AS == 0 {
            // SAFETY: the caller vouches for all of it.
            unsafe { self.begin_anew::<A, S>(stats, scratch) };
            stats.add::<A>(Counter::Restarts, 1);
        }
        if bond.failures < FAILURES_TOLD_MAX {
            bond.failures = bond.failures.wrapping_add(1);
        }
        bond.code = code;
        self.set_bond(bond);
        // SAFETY: as above.
        unsafe { self.tell_failures::<A>(stats, scratch, event_hlc) };
    }

    /// Tells the parent of failures, if there are any and the parent has room for it.
    ///
    /// # Safety
    /// As for [`begin_anew`](Self::begin_anew).
    #[inline(never)]
    pub(crate) unsafe fn tell_failures<A: Arch>(&self, stats: Stats, scratch: *mut WarpScratch, event_hlc: u64) {
        let bond = self.bond();
        if bond.failures == 0 || (bond.is_armed == 0 && !mutant!("failures_told_without_room")) {
            return;
        }
        let told = if mutant!("failures_told_as_one") { 1 } else { bond.failures as u8 };
        // SAFETY: the caller vouches for the scratch; an armed child has room for an event.
        unsafe {
            send::<A>(stats, scratch, self, &self.parent(), (Happened::Failed, bond.code as u8, told), 1, event_hlc)
        };
        let is_armed = u8::from(mutant!("child_stays_armed"));
        self.set_bond(Bond { failures: 0, is_armed, ..bond });
    }
}
