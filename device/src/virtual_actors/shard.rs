//! What a shard keeps of actors that come and go, and the steps that change it.
//!
//! Every function here is called by one lane of the warp that holds the shard's turn, and by no other meanwhile: that is what
//! "the turn" stands for in the lines on safety.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::error::FailureCode;
use tourbillon_shared::geometry::{Bucket, EntryHeader, KernelArguments};
use tourbillon_shared::header::Header;
use tourbillon_shared::mutant;
use tourbillon_shared::partition::hash;
use tourbillon_shared::slot::Chunk;
use tourbillon_shared::telemetry::Counter;
use tourbillon_shared::virtual_actors::{
    Ask, REQUESTS_MAX, StoreRequest, VirtualShard, WaitingFrame, errand, held, holder, phase, virtual_bytes,
};

use super::ask::send;
use super::collections::{Evictable, pages_of};
use super::no_entry;
use super::places::NOWHERE;
use crate::arch::Arch;
use crate::block::Block;
use crate::directory::Directory;
use crate::frames::{staged, staged_flags};
use crate::stats::Stats;
use crate::system::System;
use crate::warp::{Warp, lowest};

/// What can be done next for those who wait.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing, until something comes.
    Nothing = 0,
    /// Something was done, and there may be more.
    Again = 1,
    /// The actor used least recently is to make room.
    Room = 2,
    /// The actor used least recently is to leave, because the host said so.
    Wanted = 3,
    /// Who was not used for long is to leave.
    Sweep = 4,
    /// The actor used least recently of those with collections is to make room in the pool.
    Pages = 5,
}

/// A shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Virtual<'k> {
    pub(crate) arguments: &'k KernelArguments,
    pub(crate) number: u32,
    pub(crate) scratch: *mut WarpScratch,
    pub(crate) state: *mut VirtualShard,
    nodes: *mut WaitingFrame,
    pub(crate) directory: Directory,
}

impl<'k> Virtual<'k> {
    /// The block's shard `local`, whose directory is `directory`, for the warp whose scratch is `scratch`.
    pub(crate) fn new(block: &Block<'k>, scratch: *mut WarpScratch, local: u32, directory: Directory) -> Self {
        let (arguments, number) = (block.arguments, block.shard(local));
        let before = virtual_bytes(arguments.geometry.waiters).wrapping_mul(number.into());
        let at = arguments.memory.wrapping_add(arguments.layout.virtuals).wrapping_add(before);
        let state = at as *mut VirtualShard;
        Self { arguments, number, scratch, state, nodes: state.wrapping_add(1).cast(), directory }
    }

    /// Request `index`, which is below [`REQUESTS_MAX`] or taken modulo that.
    #[inline(always)]
    pub(crate) fn request(&self, index: u32) -> *mut StoreRequest {
        // SAFETY: only an address inside the shard's state.
        let first = unsafe { (&raw mut (*self.state).requests).cast::<StoreRequest>() };
        first.wrapping_add((index % REQUESTS_MAX) as usize)
    }

    /// Node `node`, which is not 0.
    #[inline(always)]
    pub(crate) fn node(&self, node: u32) -> *mut WaitingFrame {
        self.nodes.wrapping_add(node.wrapping_sub(1) as usize)
    }

    /// Finds the place of the actor of `header` for the frames `todo`: its entry, or what stands there instead, and the frames that are
    /// left to be run.
    ///
    /// # Safety
    /// The turn; the frames are staged, and this lane's.
    pub(crate) unsafe fn settle<A: Arch>(
        &self,
        scratch: *mut WarpScratch,
        stats: Stats,
        header: &Header,
        hashed: u64,
        todo: u32,
    ) -> (*mut EntryHeader, u32) {
        // SAFETY: the caller vouches for the turn; the scratch is the warp's.
        unsafe {
            let (_, bucket) = self.directory.locate(hashed, header.kind, header.key);
            let request = match holder(bucket.kind) {
                // Another lane cannot have found it since: nobody is let in during a window.
                None if bucket.kind != 0 => return (self.directory.entry(bucket.entry), todo),
                None => None,
                Some(index) => {
                    let runs = (*scratch).errand == errand::OF_REQUEST.wrapping_add(index);
                    if runs || mutant!("waiting_actor_runs_at_once") {
                        return (self.directory.entry(bucket.entry), todo);
                    }
                    Some(self.request(index))
                }
            };
            let state = self.state;
            let is_queued = request.is_some() || self.is_queued(header.kind, header.key);
            let (mut parked, mut rest) = (0, todo);
            while rest != 0 {
                let frame = lowest(rest);
                let node = self.take_node();
                if node == 0 {
                    break;
                }
                rest &= rest.wrapping_sub(1);
                parked |= 1u32.wrapping_shl(frame);
                self.fill(scratch, node, header, frame);
                match request {
                    Some(request) => self.append(&raw mut (*request).first, &raw mut (*request).last, node),
                    None => {
                        self.append(&raw mut (*state).queue_first, &raw mut (*state).queue_last, node);
                        (*state).queue_frames = (*state).queue_frames.wrapping_add(1);
                    }
                }
                (*state).waiting = (*state).waiting.wrapping_add(1);
                stats.add::<A>(Counter::Waiting, 1);
            }
            if !is_queued && parked != 0 {
                (*state).queue_actors = (*state).queue_actors.wrapping_add(1);
            }
            let noted = &raw mut (*scratch).parked;
            noted.write(noted.read() | parked);
            (no_entry(FailureCode::TooManyWaiting as u32), rest)
        }
    }

    /// Whether a frame for the actor waits for room.
    unsafe fn is_queued(&self, kind: u16, key: u64) -> bool {
        // SAFETY: the turn; nodes of a list are nodes.
        unsafe {
            let mut node = (*self.state).queue_first;
            while node != 0 {
                let waiting = self.node(node);
                if (*waiting).key == key && (*waiting).kind == u32::from(kind) {
                    return true;
                }
                node = (*waiting).next;
            }
        }
        false
    }

    /// A node that nobody uses, 0 where there is none.
    unsafe fn take_node(&self) -> u32 {
        // SAFETY: the turn.
        unsafe {
            let state = self.state;
            let first = (*state).free_node;
            if first != 0 {
                (*state).free_node = (*self.node(first)).next;
                return first;
            }
            let used = (*state).nodes_used;
            if used >= self.arguments.geometry.waiters {
                return 0;
            }
            (*state).nodes_used = used.wrapping_add(1);
            used.wrapping_add(1)
        }
    }

    /// Copies the staged frame `frame` into a node, and sees to it that nothing is sent in its place.
    unsafe fn fill(&self, scratch: *mut WarpScratch, node: u32, header: &Header, frame: u32) {
        // SAFETY: `take` noted the frame's start; the slots of a frame lie inside the stage, and a node has room for the longest.
        unsafe {
            let to = self.node(node);
            (*to).key = header.key;
            (*to).kind = u32::from(header.kind);
            (*to).next = 0;
            let start = (&raw const (*scratch).start).cast::<u32>().wrapping_add(frame as usize).read();
            let span = staged_flags(scratch, start).span();
            let from = staged(scratch, start).cast::<Chunk>();
            let slots = (&raw mut (*to).slots).cast::<Chunk>();
            let mut chunk = 0;
            while chunk < span.wrapping_mul(4) as usize {
                slots.wrapping_add(chunk).write(from.wrapping_add(chunk).read());
                chunk = chunk.wrapping_add(1);
            }
            let mut slot = 0;
            while slot < span {
                let at = start.wrapping_add(slot) as usize;
                (&raw mut (*scratch).target).cast::<u64>().wrapping_add(at).write(0);
                slot = slot.wrapping_add(1);
            }
        }
    }

    /// Puts a node at the end of a list.
    unsafe fn append(&self, first: *mut u32, last: *mut u32, node: u32) {
        // SAFETY: the turn; the words are those of a list of this shard.
        unsafe {
            if first.read() == 0 {
                first.write(node);
                last.write(node);
            } else if mutant!("waiters_last_first") {
                (*self.node(node)).next = first.read();
                first.write(node);
            } else {
                (*self.node(last.read())).next = node;
                last.write(node);
            }
        }
    }

    /// Takes the first node, which has been dealt with, from a list, and frees it.
    pub(crate) unsafe fn pop<A: Arch>(&self, stats: Stats, first: *mut u32) {
        // SAFETY: the turn; the list is not empty.
        unsafe {
            let node = first.read();
            let waiting = self.node(node);
            first.write((*waiting).next);
            (*waiting).next = (*self.state).free_node;
            (*self.state).free_node = node;
            (*self.state).waiting = (*self.state).waiting.wrapping_sub(1);
            stats.add::<A>(Counter::Waiting, u64::MAX);
        }
    }

    /// As [`pop`](Self::pop), of the queue for room.
    pub(crate) unsafe fn pop_refused<A: Arch>(&self, stats: Stats) {
        // SAFETY: the turn; the queue is not empty.
        unsafe {
            let state = self.state;
            let waiting = self.node((*state).queue_first);
            let (kind, key) = ((*waiting).kind as u16, (*waiting).key);
            self.pop::<A>(stats, &raw mut (*state).queue_first);
            (*state).queue_frames = (*state).queue_frames.wrapping_sub(1);
            (*state).refused = (*state).refused.wrapping_sub(1);
            if !self.is_queued(kind, key) {
                (*state).queue_actors = (*state).queue_actors.wrapping_sub(1);
            }
        }
    }

    /// Does a step for those who wait for room, or says what it takes.
    #[inline(never)]
    pub(crate) unsafe fn step<A: Arch, S: System>(&self, stats: Stats) -> Step {
        // SAFETY: the turn.
        unsafe {
            let state = self.state;
            if S::POOLS
                && let Some(step) = self.step_for_pages::<A>(stats)
            {
                return step;
            }
            if (*state).asked >= REQUESTS_MAX {
                return Step::Nothing;
            }
            // Fetches may be short of pages, for which there must be a request left to evict by.
            let fetches = (*state).asked.wrapping_sub((*state).evicting);
            let may_fetch = !S::POOLS || fetches < REQUESTS_MAX.wrapping_sub(1) || mutant!("fetches_take_all_requests");
            if (*state).queue_frames != 0 && (*state).refused == 0 && may_fetch {
                if let Some(entry) = self.directory.take_entry(state) {
                    self.admit::<A>(entry);
                    return Step::Again;
                }
                if (*state).evicting < (*state).queue_actors {
                    return Step::Room;
                }
            }
            if (*state).wanted != 0 {
                return Step::Wanted;
            }
            if (*state).sweep_left != 0 { Step::Sweep } else { Step::Nothing }
        }
    }

    /// Gives `entry` to the actor whose message has waited longest for room, and asks the store for it.
    unsafe fn admit<A: Arch>(&self, entry: u32) {
        // SAFETY: the turn; the queue is not empty, and there is a request without use.
        unsafe {
            let state = self.state;
            let head = self.node((*state).queue_first);
            let (kind, key) = ((*head).kind as u16, (*head).key);
            let index = self.take_request(kind, key, entry, phase::FETCHING);
            let request = self.request(index);
            // All that wait for the actor wait behind its request from now on, in the order in which they came.
            let (mut from, mut last) = ((*state).queue_first, 0u32);
            ((*state).queue_first, (*state).queue_last) = (0, 0);
            while from != 0 {
                let waiting = self.node(from);
                let next = (*waiting).next;
                (*waiting).next = 0;
                let is_actors = (*waiting).key == key && (*waiting).kind == u32::from(kind);
                // One that stayed in the queue would be overtaken by those that come when the actor is there.
                let stays = mutant!("queued_frames_left_behind") && (*request).first != 0;
                if is_actors && !stays {
                    self.append(&raw mut (*request).first, &raw mut (*request).last, from);
                    (*state).queue_frames = (*state).queue_frames.wrapping_sub(1);
                } else {
                    if last == 0 {
                        (*state).queue_first = from;
                    } else {
                        (*self.node(last)).next = from;
                    }
                    last = from;
                }
                from = next;
            }
            (*state).queue_last = last;
            (*state).queue_actors = (*state).queue_actors.wrapping_sub(1);
            (*state).places = (*state).places.wrapping_add(1);
            let (bucket, _) = self.directory.locate(hash(kind, key), kind, key);
            self.directory.bucket(bucket).write(Bucket { key, kind: held(kind, index), entry });
            send::<A>(self.arguments, self.number, index, &*request, Ask::Fetch, 0, core::ptr::null(), 0);
        }
    }

    /// A request that is free, for an actor. There is one.
    pub(super) unsafe fn take_request(&self, kind: u16, key: u64, entry: u32, phase: u32) -> u32 {
        // SAFETY: the turn.
        unsafe {
            let state = self.state;
            let mut index = 0;
            while index < REQUESTS_MAX.wrapping_sub(1) && (*self.request(index)).phase != phase::FREE {
                index = index.wrapping_add(1);
            }
            let number = (*state).number.wrapping_add(1);
            (*state).number = number;
            (*state).asked = (*state).asked.wrapping_add(1);
            let request = StoreRequest { key, kind: kind.into(), entry, phase, number, ..StoreRequest::default() };
            self.request(index).write(request);
            index
        }
    }

    /// The first actor that the sweep finds from where it is: its bucket, or [`NOWHERE`].
    ///
    /// # Safety
    /// All lanes of the warp, which has the turn, come here, and nobody writes the state meanwhile.
    pub(crate) unsafe fn idle<A: Arch, S: System>(&self, warp: &Warp<A, false>) -> (u32, bool) {
        // SAFETY: the caller vouches for it; the directory names an actor's own entry.
        unsafe {
            let state = self.state;
            let range = ((*state).sweep_next, (*state).sweep_left);
            self.directory.idle_from(warp, range, (*state).sweep_before, &Evictable::<S>::new(false))
        }
    }

    /// The actor used least recently that may leave, or, `for_pages`, that of those with pages: its bucket, or [`NOWHERE`].
    ///
    /// # Safety
    /// As for [`idle`](Self::idle).
    pub(crate) unsafe fn oldest<A: Arch, S: System>(&self, warp: &Warp<A, false>, for_pages: bool) -> (u32, bool) {
        // SAFETY: as above.
        unsafe { self.directory.oldest(warp, &Evictable::<S>::new(for_pages)) }
    }

    /// Evicts the actor of bucket `found`, which `step` asked for; whether there may be more to do.
    #[inline(never)]
    pub(crate) unsafe fn evict_found<A: Arch, S: System>(&self, stats: Stats, step: u32, found: u32) -> bool {
        // SAFETY: the turn; the bucket is that of an actor that nobody holds.
        unsafe {
            let state = self.state;
            if step == Step::Sweep as u32 {
                self.advance_sweep(found);
            } else if found == NOWHERE {
                if S::POOLS && step == Step::Pages as u32 {
                    return self.has_no_pages_to_free();
                }
                if step == Step::Wanted as u32 {
                    (*state).wanted = 0;
                    return true;
                }
                // Every actor is held by a request, and the answer to one goes on from here; or none may leave.
                if S::POOLS || S::SUPERVISED {
                    self.refuse_for_want_of_room::<A>();
                }
                return false;
            } else if step == Step::Wanted as u32 {
                (*state).wanted = (*state).wanted.wrapping_sub(1);
            }
            if found != NOWHERE {
                self.evict::<A, S>(stats, found);
            }
            true
        }
    }

    /// Notes how far the sweep has come, which found the bucket `found`.
    unsafe fn advance_sweep(&self, found: u32) {
        // SAFETY: the turn.
        unsafe {
            let state = self.state;
            let mask = self.directory.buckets_less_one();
            if found != NOWHERE {
                let steps = (found.wrapping_sub((*state).sweep_next) & mask).wrapping_add(1);
                (*state).sweep_next = found.wrapping_add(1) & mask;
                (*state).sweep_left = (*state).sweep_left.wrapping_sub(steps);
                (*state).sweep_found = 1;
            } else {
                (*state).sweep_left = 0;
            }
            if (*state).sweep_left == 0 && (*state).sweep_found != 0 {
                // Buckets may have moved past it: it ends with a round that finds nothing.
                (*state).sweep_found = 0;
                (*state).sweep_left = mask.wrapping_add(1);
            }
        }
    }

    /// Sends the actor of a bucket to the store; one that has handled nothing is just forgotten.
    unsafe fn evict<A: Arch, S: System>(&self, stats: Stats, index: u32) {
        // SAFETY: the turn; the bucket is that of an actor that nobody holds.
        unsafe {
            let state = self.state;
            let bucket = self.directory.bucket(index).read();
            let entry = self.directory.entry(bucket.entry);
            if (*entry).hlc == 0 {
                self.directory.remove(index);
                self.free_entry(bucket.entry);
                stats.add::<A>(Counter::Evicted, 1);
                return;
            }
            let kind = bucket.kind as u16;
            let request = self.take_request(kind, bucket.key, bucket.entry, phase::EVICTING);
            (*state).evicting = (*state).evicting.wrapping_add(1);
            (*self.directory.bucket(index)).kind = held(kind, request);
            let pages = pages_of::<S>(kind, entry) as u32;
            (*self.request(request)).pages = pages;
            (*state).leaving = (*state).leaving.wrapping_add(pages);
            let (words, has_pieces) = (self.directory.stride / 4, u32::from(pages != 0));
            let about = &*self.request(request);
            send::<A>(self.arguments, self.number, request, about, Ask::Evict, has_pieces, entry.cast(), words);
            if mutant!("slot_reused_before_its_acknowledgement") {
                self.directory.give_entry(state, bucket.entry);
            }
        }
    }

    /// Frees the entry of an actor that has left the directory.
    unsafe fn free_entry(&self, entry: u32) {
        // SAFETY: the turn.
        unsafe {
            let state = self.state;
            self.directory.give_entry(state, entry);
            (*state).places = (*state).places.wrapping_sub(1);
        }
    }

    /// The request `index` is over: its actor is there for everybody, or, unless it `stays`, nowhere.
    pub(crate) unsafe fn release(&self, index: u32, stays: bool) {
        // SAFETY: the turn; the request holds an actor of the directory.
        unsafe {
            let (state, request) = (self.state, self.request(index));
            let (kind, key) = ((*request).kind as u16, (*request).key);
            let (bucket, _) = self.directory.locate(hash(kind, key), kind, key);
            if stays {
                (*self.directory.bucket(bucket)).kind = u32::from(kind);
            } else {
                self.directory.remove(bucket);
                self.free_entry((*request).entry);
            }
            (*request).phase = phase::FREE;
            (*state).asked = (*state).asked.wrapping_sub(1);
        }
    }

    /// Lets those who waited for the actor of request `index`, which has left, wait for room behind all others.
    pub(crate) unsafe fn requeue(&self, index: u32) {
        // SAFETY: the turn.
        unsafe {
            let (state, request) = (self.state, self.request(index));
            let mut node = (*request).first;
            if node != 0 {
                (*state).queue_actors = (*state).queue_actors.wrapping_add(1);
            }
            while node != 0 {
                let next = (*self.node(node)).next;
                (*self.node(node)).next = 0;
                self.append(&raw mut (*state).queue_first, &raw mut (*state).queue_last, node);
                (*state).queue_frames = (*state).queue_frames.wrapping_add(1);
                node = next;
            }
            ((*request).first, (*request).last) = (0, 0);
        }
    }
}
