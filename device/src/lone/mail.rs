//! The watch of a shard that has a mailbox beside its gates' rings.
//!
//! It differs from [that of a shard without](super::run) in what it is quick at: letters come first, requests are fewer. And a look begins
//! only when it is known that the last found nothing. One under way would take as long as ever to come back, and a machine waits for that
//! before it uses the registers again which the look will fill, so that the letter that was found would wait as well.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::slot::Chunk;

use super::hand::AtHand;
use super::letter::run_lone;
use super::run::{BASE, Handed, LoneRings, Looked, NIBBLES, PARTS, Tried, run_one};
use crate::arch::Arch;
use crate::block::Block;
use crate::clock::Clock;
use crate::look::{full_nibbles, stage_chunk, stage_chunk_if};
use crate::mailbox;
use crate::stats::Stats;
use crate::system::System;
use crate::turn::advance;
use crate::warp::Warp;

/// What came to a shard, where it is not a letter alone.
enum Heard {
    /// Only a part of a slot.
    Part,
    /// The heads of several rings, which are staged, or one where more is expected.
    Several(u32),
    /// One message, and how the try at the short way ended.
    One(Tried),
}

impl LoneRings {
    /// As [`watch`](Self::watch), under the turn, as a function with registers of its own, for what runs letters takes many.
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "the loop's state, handed down")]
    pub(super) fn watch_with_mail<A: Arch, S: System, const WHOLE: bool>(
        &self,
        warp: &mut Warp<A, WHOLE>,
        block: &Block<'_>,
        scratch: *mut WarpScratch,
        stats: Stats,
        clock: &Clock,
        rounds: u32,
        handed: &mut Handed,
    ) -> Looked {
        if warp.rank() == 0 {
            // SAFETY: the warp's own scratch; whoever uses it comes after a sync.
            unsafe {
                (*scratch).desk.shard = block.shard(self.local);
                (*scratch).desk.overflowing = block.overflowing(self.local) as u64;
                AtHand::put::<A>(scratch, &self.home, clock);
            }
        }
        // A copy, which is kept in registers.
        let rings = *self;
        warp.lend(|warp| rings.watch_letters::<A, S, WHOLE>(warp, block, scratch, stats, clock, (self, rounds), handed))
    }

    /// The loop of [`watch_with_mail`](Self::watch_with_mail), for so many rounds. `self` comes twice: a copy for the loop, and `kept` in
    /// memory, for the functions that it calls.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "the loop's state, handed down and inlined")]
    fn watch_letters<A: Arch, S: System, const WHOLE: bool>(
        self,
        warp: &mut Warp<A, WHOLE>,
        block: &Block<'_>,
        scratch: *mut WarpScratch,
        stats: Stats,
        clock: &Clock,
        (kept, rounds): (&Self, u32),
        handed: &mut Handed,
    ) -> Looked {
        let mailbox = self.home.mailbox();
        let shape = self.mine().shape::<S>(block);
        // SAFETY: a position of the block's memory, under the turn.
        let mut position = unsafe { A::load_cta(block.ring_head(self.local, self.gate)) };
        let (rank, part) = (warp.rank(), (warp.rank() % PARTS) as usize);
        position = position.wrapping_add(self.ahead.into());
        let chunk_at =
            |position| self.slots.wrapping_add(shape.index(position) as usize).cast::<Chunk>().wrapping_add(part);
        let (mut from, mut lap) = (chunk_at(position), shape.lap(position));
        // How many rounds were left when the last look found something.
        let mut left_found = u32::MAX;
        let mut left = rounds;
        while left != 0 {
            // Looks until something has come, in as few steps as there can be: a letter comes at any time of one.
            let (chunk, mail, full) = loop {
                // A lane without a ring looks at another's: a load on a condition is compiled into a wait for its tag right behind it.
                // SAFETY: a chunk of a slot of a ring.
                let chunk = unsafe { A::load_chunk_gpu(from) };
                // Found anew in each round, while the chunk is on its way: what is known before the loop would come from memory, for it
                // has no registers left. Behind the lanes of the mailbox are those that look at its second slot, unless no lanes are left
                // for that: of letters it is known whether another one has come, for an actor that sends to its own shard has done so
                // before the next look.
                let mail = A::pin_u64(self.mail.into()) as u32;
                let lookers = mail | mail.wrapping_sub(1);
                // A slower lane may still read what the last look staged, and what was noted of it.
                warp.sync();
                let full = warp.ballot(chunk.tag() == lap);
                left = left.wrapping_sub(1);
                if (full & lookers != 0) | (left == 0) {
                    break (chunk, mail, full);
                }
            };
            let (lookers, next) = (mail | mail.wrapping_sub(1), mail.wrapping_shl(PARTS));
            if full & lookers == 0 {
                break;
            }
            let heard = full & (lookers | next);
            let found_last = left_found == left.wrapping_add(1);
            let (tried, done, has_come);
            if (heard == mail) & ((next != 0) | !found_last) {
                has_come = mail.wrapping_shr(rank) & 1 != 0;
                let scratch = A::pin_u64(scratch as u64) as *mut WarpScratch;
                // SAFETY: these four lanes have one of the slot's chunks each, and the first of them the row.
                unsafe {
                    stage_chunk_if::<A>(has_come, scratch, BASE.wrapping_mul(PARTS).wrapping_add(part as u32), chunk);
                    mailbox::expect::<A>(has_come & (part == 0), scratch, position.wrapping_add(1));
                }
                warp.sync();
                (tried, done) = run_lone::<A, S, WHOLE>(warp, scratch, stats, mailbox);
                left = left.saturating_sub(done.saturating_sub(1));
            } else {
                let votes = full & lookers;
                has_come = votes.wrapping_shr(rank) & 1 != 0;
                let what = (chunk, votes, found_last);
                match warp.lend(|warp| kept.hear_others::<A, S, WHOLE>(warp, scratch, stats, clock, what)) {
                    Heard::Part => continue,
                    Heard::Several(ready) => {
                        handed.several = (ready, position, self.mine());
                        return Looked::Several;
                    }
                    Heard::One(its) => (tried, done) = (its, (its == Tried::Done).into()),
                }
            }
            // Of several letters some may be done where the last one is not.
            if (done != 0) & (has_come | ((heard == mail) & (self.ahead != 0))) {
                position = position.wrapping_add(done.into());
                if has_come & (part == 0) {
                    advance::<A, S>(block, self.mine(), position);
                }
            }
            if tried != Tried::Done {
                // Not those of above, which would be kept all the way; of them at most a lane that is not the lowest is lost.
                let votes = warp.ballot(has_come);
                warp.lend(|warp| kept.hand_over(warp, block, handed, votes, position, tried));
                return Looked::Held;
            }
            (from, lap) = (chunk_at(position), shape.lap(position));
            left_found = left;
        }
        if left_found == u32::MAX { Looked::Nothing } else { Looked::Some }
    }

    /// Looks into what came that is not a letter alone, and runs it where it is one message: a function with registers of its own. With it
    /// come this lane's chunk, the lanes that found theirs, and whether the last look found something.
    #[cold]
    #[inline(never)]
    fn hear_others<A: Arch, S: System, const WHOLE: bool>(
        &self,
        warp: &mut Warp<A, WHOLE>,
        scratch: *mut WarpScratch,
        stats: Stats,
        clock: &Clock,
        (chunk, votes, found_last): (Chunk, u32, bool),
    ) -> Heard {
        let (rank, has_come) = (warp.rank(), votes.wrapping_shr(warp.rank()) & 1 != 0);
        let ready = full_nibbles(votes);
        if ready == 0 {
            return Heard::Part;
        }
        // One slot: four lanes that belong together.
        let first = votes & votes.wrapping_neg();
        let is_one = (first & NIBBLES != 0) & (votes == first.wrapping_mul(0xf)) & (votes != self.mail);
        let is_alone = is_one & !found_last;
        if has_come {
            let index = if is_alone { BASE.wrapping_mul(PARTS).wrapping_add(rank % PARTS) } else { rank };
            // SAFETY: the stage has a chunk for every lane.
            unsafe { stage_chunk::<A>(scratch, index, chunk) };
        }
        warp.sync();
        if !is_alone {
            return Heard::Several(ready);
        }
        let (began_ns, physical) = Self::times::<A>(clock);
        Heard::One(run_one::<A, S, WHOLE, true>(warp, scratch, stats, &self.home, BASE, began_ns, physical))
    }
}
