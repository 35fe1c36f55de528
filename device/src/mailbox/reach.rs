//! A crier in its shard: some of the living actors of its kind, from where it has come to, and a letter to each.

use tourbillon_shared::broadcast::{Broadcast, Cursor};
use tourbillon_shared::geometry::KernelArguments;
use tourbillon_shared::header::{Flags, HEADER_WORDS};
use tourbillon_shared::mailbox::MailboxState;
use tourbillon_shared::mutant;
use tourbillon_shared::partition::hash;
use tourbillon_shared::slot::{CHUNKS_PER_SLOT, Chunk, DATA_WORDS_PER_CHUNK};
use tourbillon_shared::virtual_actors::{kind_of, space_of};

use super::broadcast::arrival_of;
use super::{ring_of, state_of};
use crate::arch::Arch;
use crate::directory::Directory;

/// Letters of one step: what a whole warp handles at once, and the least that is worth a step.
const LETTERS_A_STEP: usize = 32;
/// Buckets at which one step looks, about: some ten microseconds of a GPU, for which the shard's other messages wait.
const LOOKS_A_STEP: u32 = 256;
/// Data word of a header with kind and message.
const ADDRESSEE: usize = 2;
/// First of the two data words of a header with the arrival.
const ARRIVAL: usize = 6;

/// An actor that was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Found {
    key: u64,
    kind_word: u16,
    /// The bucket at which lookups for it begin.
    home: u32,
}

impl Found {
    /// The cursor behind it.
    #[inline(always)]
    const fn behind(&self) -> Cursor {
        Cursor { home: self.home, space: space_of(self.kind_word).wrapping_add(1), key: self.key }
    }
}

/// The next actors of `kind` from `cursor` on, as many as `found` takes: how many, and where it goes on, unless that is the end. The
/// directory may have changed since the cursor was given.
///
/// # Safety
/// The caller's warp holds the shard's turn, and nobody writes the directory meanwhile.
#[inline(never)]
unsafe fn collect(directory: &Directory, kind: u16, cursor: Cursor, found: &mut [Found]) -> (usize, Option<Cursor>) {
    let (mut cursor, mut count, mut looks) = (cursor, 0, 0u32);
    while cursor.home <= directory.buckets_less_one() {
        if count >= found.len() || looks >= LOOKS_A_STEP {
            return (count, Some(cursor));
        }
        // Of those of this home, the first that is not in front of the cursor. They are between it and the next empty bucket.
        let mut first: Option<(u64, u16)> = None;
        let mut has_more = false;
        let mut index = cursor.home;
        loop {
            // SAFETY: the index is masked by `bucket`; the caller vouches for the turn.
            let bucket = unsafe { directory.bucket(index).read() };
            looks = looks.wrapping_add(1);
            if bucket.kind == 0 {
                break;
            }
            // An actor on its way to or from the store is one as well: should the store fail to keep it, it stays.
            let (key, kind_word) = (bucket.key, bucket.kind as u16);
            let is_of_kind = kind_of(kind_word) == kind || mutant!("broadcast_to_all_kinds");
            if is_of_kind && hash(kind_word, key) as u32 & directory.buckets_less_one() == cursor.home {
                let is_left = (key, space_of(kind_word)) >= (cursor.key, cursor.space);
                let is_first = first.is_none_or(|(least, word)| (key, kind_word) < (least, word));
                has_more |= is_left && first.is_some();
                if is_left && is_first {
                    first = Some((key, kind_word));
                }
            }
            index = index.wrapping_add(1);
        }
        let mut next = Cursor { home: cursor.home.wrapping_add(1), ..Cursor::default() };
        if let Some((key, kind_word)) = first {
            let one = Found { key, kind_word, home: cursor.home };
            if let Some(place) = found.get_mut(count) {
                *place = one;
            }
            count = count.wrapping_add(1);
            if has_more && !mutant!("broadcast_to_one_of_a_home") {
                next = one.behind();
            }
        }
        cursor = next;
    }
    (count, None)
}

/// Sends the message to living actors of the kind from `cursor` on, as many as a step takes and as there is room for; where it goes on,
/// unless all have it, and how many were sent.
///
/// # Safety
/// The warp holds the turn of `shard`, and this lane alone works; the broadcast's message is there.
#[inline(always)]
pub(super) unsafe fn reach<A: Arch>(
    arguments: &KernelArguments,
    shard: u32,
    about: &Broadcast,
    cursor: Cursor,
    event_hlc: u64,
) -> (Option<Cursor>, u64) {
    let directory = Directory::new(arguments, shard);
    let mut found = [Found::default(); LETTERS_A_STEP];
    // SAFETY: the caller vouches for the turn.
    let (count, next) = unsafe { collect(&directory, about.kind as u16, cursor, &mut found) };
    let own = state_of(arguments, shard);
    let [_, _, _, shape, ..] = about.frame;
    let span = u64::from(Flags((shape >> 16) as u16).span());
    // SAFETY: the state of the shard whose turn the warp holds.
    let room = if count == 0 { 0 } else { unsafe { take_room::<A>(own, count as u64, span) } };
    if room != 0 {
        // SAFETY: as above; there is room behind the ticket.
        unsafe {
            let first = A::take_ticket_gpu(&raw mut (*own).tail, room.wrapping_mul(span));
            write::<A>(arguments, shard, about, (first, span), found.iter().take(room as usize), event_hlc);
        }
    }
    if room == count as u64 || mutant!("broadcast_passes_whom_there_was_no_room_for") {
        return (next, room);
    }
    // The others have their turn when there is room.
    let last = (room as usize).checked_sub(1).and_then(|last| found.get(last));
    (Some(last.map_or(cursor, Found::behind)), room)
}

/// Takes room for as many of `count` letters of `span` slots as there is room for; how many.
///
/// # Safety
/// The state of a shard.
#[inline(always)]
unsafe fn take_room<A: Arch>(own: *mut MailboxState, count: u64, span: u64) -> u64 {
    let mut letters = count;
    let mut tries = 0u32;
    // All of them, else as many as there seemed to be room for.
    while letters != 0 && tries < 2 {
        let slots = letters.wrapping_mul(span);
        // SAFETY: the caller vouches for the state. Acquire pairs with the Release with which the reader gives room.
        let before = unsafe { A::take_room_gpu(&raw mut (*own).room, slots) } as i64;
        if before >= slots as i64 {
            return letters;
        }
        // SAFETY: as above.
        unsafe { A::add_relaxed_gpu(&raw mut (*own).room, slots) };
        letters = if before <= 0 { 0 } else { (before as u64).checked_div(span).unwrap_or(0) };
        tries = tries.wrapping_add(1);
    }
    0
}

/// Writes the letters to `actors` into the mailbox, from position `first` on, each in `span` slots.
///
/// # Safety
/// The slots are those of a ticket; the broadcast's message is there.
#[inline(always)]
unsafe fn write<'f, A: Arch>(
    arguments: &KernelArguments,
    shard: u32,
    about: &Broadcast,
    (first, span): (u64, u64),
    actors: impl Iterator<Item = &'f Found>,
    event_hlc: u64,
) {
    let (ring, shape) = (ring_of(arguments, shard), arguments.geometry.mailbox_shape());
    let arrival = arrival_of::<A>(arguments, event_hlc);
    let mut at = first;
    for actor in actors {
        let (mut slot, mut word) = (0, 0usize);
        while slot < span {
            let to = ring.wrapping_add(shape.index(at) as usize).cast::<Chunk>();
            let mut chunk = 0;
            while chunk < CHUNKS_PER_SLOT {
                let mut data = [0; DATA_WORDS_PER_CHUNK];
                for value in &mut data {
                    let of_frame = about.frame.get(word).copied().unwrap_or_default();
                    *value = match word {
                        0 => actor.key as u32,
                        1 => (actor.key >> 32) as u32,
                        ADDRESSEE => (of_frame & !0xffff) | u32::from(actor.kind_word),
                        ARRIVAL => arrival as u32,
                        _ if word == ARRIVAL.wrapping_add(1) => (arrival >> 32) as u32,
                        _ => of_frame,
                    };
                    word = word.wrapping_add(1);
                }
                // SAFETY: the caller vouches for the slot.
                unsafe { A::store_chunk_gpu(to.wrapping_add(chunk), Chunk::new(data, shape.lap(at))) };
                chunk = chunk.wrapping_add(1);
            }
            at = at.wrapping_add(1);
            slot = slot.wrapping_add(1);
        }
    }
}

const _: () = assert!(ARRIVAL + 1 < HEADER_WORDS);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtual_actors::Memory;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};
    use tourbillon_shared::geometry::Bucket;
    use tourbillon_shared::virtual_actors::{SPACE_STRING, held, kind_word};

    const KIND: u16 = 1;
    /// Actors of which the tests know: as many as the directory has room for.
    const ACTORS: usize = 16;

    /// Kind word and key of actor `number`: most are of the kind, half of those begin at the same few buckets, and some have the number of
    /// another as their name.
    fn actor(directory: &Directory, number: usize) -> (u16, u64) {
        let homes = |key: &u64| hash(KIND, *key) as u32 & directory.buckets_less_one() < 2;
        let crowded = (0..).filter(homes).nth(number / 2).unwrap();
        match number % 4 {
            0 | 2 => (KIND, crowded),
            1 => (kind_word(KIND, SPACE_STRING), number as u64 / 4),
            _ => (if number == 7 { 2 } else { KIND }, number as u64 / 4),
        }
    }

    proptest! {
        /// Against a set: actors come, go and are held between any two steps, each step takes as many as there happens to be room for. Who
        /// is there all the time is found once, who is not once at most, and nobody of another kind.
        #[test]
        fn each_actor_is_found_once(
            at_first in proptest::collection::btree_set(0usize..ACTORS, 0..ACTORS),
            steps in proptest::collection::vec((1usize..4, 0usize..4, proptest::collection::vec(0usize..ACTORS, 0..3)), 1..40),
        ) {
            let memory = Memory::new();
            let directory = memory.directory;
            let toggle = |number: usize| {
                let (kind_word, key) = actor(&directory, number);
                // SAFETY: the directory lies in memory of this test, which alone uses it.
                unsafe {
                    let (index, bucket) = directory.locate(hash(kind_word, key), kind_word, key);
                    if bucket.kind != 0 {
                        directory.remove(index);
                    } else {
                        let kind = if number.is_multiple_of(3) { held(kind_word, 2) } else { kind_word.into() };
                        directory.bucket(index).write(Bucket { key, kind, entry: number as u32 });
                    }
                }
            };
            at_first.iter().for_each(|number| toggle(*number));
            let (mut there, mut all_the_time, mut ever) = (at_first.clone(), at_first.clone(), at_first);
            let mut times = BTreeMap::<(u16, u64), u32>::new();
            let mut cursor = Some(Cursor::default());
            let mut rest = steps.into_iter();
            while let Some(from) = cursor {
                // Steps without an end after those that were given.
                let (takes, room, changes) = rest.next().unwrap_or((3, 3, Vec::new()));
                let mut found = [Found::default(); 3];
                // SAFETY: as above.
                let (count, next) = unsafe { collect(&directory, KIND, from, &mut found[..takes]) };
                prop_assert!(count <= takes);
                let sent = count.min(room);
                for one in &found[..sent] {
                    *times.entry((one.kind_word, one.key)).or_default() += 1;
                }
                cursor = if sent == count { next } else { Some(found[..sent].last().map_or(from, Found::behind)) };
                for number in changes {
                    toggle(number);
                    if there.remove(&number) {
                        all_the_time.remove(&number);
                    } else {
                        there.insert(number);
                        ever.insert(number);
                    }
                }
            }
            let keys = |numbers: &BTreeSet<usize>| -> BTreeSet<(u16, u64)> {
                numbers.iter().map(|number| actor(&directory, *number)).filter(|(word, _)| kind_of(*word) == KIND).collect()
            };
            let found: BTreeSet<_> = times.keys().copied().collect();
            prop_assert!(times.values().all(|times| *times == 1), "{times:?}");
            prop_assert!(keys(&all_the_time).is_subset(&found), "{found:?}");
            prop_assert!(found.is_subset(&keys(&ever)), "{found:?}");
        }
    }
}
