//! Collections over a pool in plain memory, against those of the standard library, with every allocation failing in turn.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};

use bytemuck::Zeroable;
use proptest::prelude::*;
use tourbillon_shared::outbox::Mail;
use tourbillon_shared::pool::{LanePool, PAGE_BYTES, PoolState, pool_bytes};

use super::lane::Pool;
use super::{PoolError, PoolMap, PoolSet, PoolVec};
use crate::context::Context;
use crate::plain::Plain;

thread_local! {
    /// Pages that may still be taken out of the pool on this thread; no bound without.
    static FUSE: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Whether the thread's fuse is blown; else it is one page shorter.
pub(super) fn is_fuse_blown() -> bool {
    match FUSE.get() {
        None => false,
        Some(0) => true,
        Some(left) => {
            FUSE.set(Some(left - 1));
            false
        }
    }
}

#[repr(C, align(256))]
#[derive(Clone, Copy, Zeroable)]
struct Page([u8; PAGE_BYTES]);

/// The pool of a shard that does not run, and records for some lanes.
struct Shard {
    memory: Vec<Page>,
    records: Vec<LanePool>,
    pages: u32,
    stamp: u64,
}

/// Where the entries of the shard's actors would begin.
const SLAB: u64 = 1 << 20;
/// Bytes of an entry.
const STRIDE: u64 = 96;

impl Shard {
    fn new(pages: u32, lanes: usize) -> Self {
        // Anything may stand in pages that were never taken, and does.
        let mut memory = vec![Page([0xa5; PAGE_BYTES]); (pool_bytes(pages) / PAGE_BYTES as u64) as usize];
        memory[0] = Page::zeroed();
        memory[1 + pages as usize..].fill(Page::zeroed());
        Self { memory, records: vec![LanePool::zeroed(); lanes], pages, stamp: 1 << 40 }
    }

    fn open(&mut self, lane: usize) -> *mut LanePool {
        let pool = self.memory.as_mut_ptr() as u64;
        let record = &mut self.records[lane];
        (record.pool, record.slab, record.pages) = (pool, SLAB, self.pages);
        record
    }

    fn close(&mut self) {
        for record in &mut self.records {
            // SAFETY: nobody else uses it.
            let pool = unsafe { Pool::new(record) };
            if pool.is_open() {
                pool.close();
            }
        }
    }

    fn in_use(&self) -> u64 {
        // SAFETY: the state is at the beginning.
        let state = unsafe { self.memory.as_ptr().cast::<PoolState>().read() };
        state.begun - state.free
    }

    /// Runs a message of actor `actor` as the engine does: on a copy of the state, which is stored when it succeeds.
    fn message<S: Copy, R>(
        &mut self,
        actor: u64,
        state: &mut S,
        handle: impl FnOnce(&mut S, &mut Context) -> Result<R, PoolError>,
    ) -> Result<R, PoolError> {
        self.stamp += 1;
        let mail = Mail { pools: self.open(0) as u64, ..Mail::default() };
        let mut context = Context { mail: &mail, hlc: self.stamp, ..Context::of(actor) };
        // SAFETY: the record is open, and the memory lives.
        unsafe { context.open_pool((SLAB + actor * STRIDE) as *const _) };
        let mut copy = *state;
        let result = handle(&mut copy, &mut context);
        if result.is_ok() {
            *state = copy;
            context.commit_pool();
        }
        self.close();
        result
    }

    /// As [`message`](Self::message), with nothing to fail.
    fn look<S: Copy, R>(&mut self, actor: u64, state: &S, look: impl FnOnce(&S, &Context) -> R) -> R {
        self.message(actor, &mut state.clone(), |state, context| Ok(look(state, context))).unwrap()
    }
}

/// A made-up handle.
fn handle<T: Plain, const WORDS: usize>(words: [u32; WORDS]) -> T {
    T::from_bytes(words.as_bytes()).unwrap()
}

fn contents<T: Plain>(shard: &mut Shard, actor: u64, sequence: &PoolVec<T>) -> Vec<T> {
    shard.look(actor, sequence, |sequence, context| sequence.iter(context).map(|element| *element.unwrap()).collect())
}

fn entries<K: Plain, V: Plain>(shard: &mut Shard, actor: u64, map: &PoolMap<K, V>) -> Vec<(K, V)> {
    shard
        .look(actor, map, |map, context| map.iter(context).map(|entry| entry.map(|(k, v)| (*k, *v)).unwrap()).collect())
}

/// Pages of a row of so many leaves.
fn tree_pages(leaves: u64) -> u64 {
    let (mut pages, mut level) = (leaves, leaves);
    while level > 1 {
        level = level.div_ceil(64);
        pages += level;
    }
    pages
}

/// What is done to a sequence.
#[derive(Clone, Debug)]
enum Step {
    Push(u8),
    Many(u16),
    Pop,
    Insert(u16),
    Remove(u16),
    Swap(u16),
    Change(u16),
    Truncate(u16),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<u8>().prop_map(Step::Push),
        2 => (1..300u16).prop_map(Step::Many),
        3 => Just(Step::Pop),
        3 => any::<u16>().prop_map(Step::Insert),
        3 => any::<u16>().prop_map(Step::Remove),
        2 => any::<u16>().prop_map(Step::Swap),
        2 => any::<u16>().prop_map(Step::Change),
        1 => any::<u16>().prop_map(Step::Truncate),
        1 => Just(Step::Clear),
    ]
}

type Element = [u32; 6];

/// Does a step to a sequence and to the oracle; the oracle is only touched when the sequence was.
fn apply(
    step: &Step,
    sequence: &mut PoolVec<Element>,
    oracle: &mut Vec<Element>,
    context: &mut Context,
) -> Result<(), PoolError> {
    let element = |seed: u32| std::array::from_fn(|i| seed * 7 + i as u32);
    let within = |place: u16, least: usize| usize::from(place) % (oracle.len() + least).max(1);
    match *step {
        Step::Push(seed) => {
            sequence.push(context, element(seed.into()))?;
            oracle.push(element(seed.into()));
        }
        Step::Many(count) => {
            for seed in 0..count.into() {
                sequence.push(context, element(seed))?;
                oracle.push(element(seed));
            }
        }
        Step::Pop => {
            let popped = sequence.pop(context)?;
            assert_eq!(popped, oracle.pop());
        }
        Step::Insert(place) => {
            let place = within(place, 1);
            assert!(sequence.insert(context, place as u32, element(9))?);
            oracle.insert(place, element(9));
            assert!(!sequence.insert(context, oracle.len() as u32 + 1, element(1))?);
        }
        Step::Remove(place) if !oracle.is_empty() => {
            let place = within(place, 0);
            let removed = sequence.remove(context, place as u32)?;
            assert_eq!(removed, Some(oracle.remove(place)));
        }
        Step::Swap(place) if !oracle.is_empty() => {
            let place = within(place, 0);
            let removed = sequence.swap_remove(context, place as u32)?;
            assert_eq!(removed, Some(oracle.swap_remove(place)));
        }
        Step::Change(place) if !oracle.is_empty() => {
            let place = within(place, 0);
            let changed = sequence.get_mut(context, place as u32)?.unwrap();
            changed[0] += 1;
            oracle[place][0] += 1;
        }
        Step::Truncate(place) => {
            let length = within(place, 1);
            sequence.truncate(context, length as u32)?;
            oracle.truncate(length);
        }
        Step::Clear => {
            sequence.clear(context)?;
            oracle.clear();
        }
        Step::Remove(_) | Step::Swap(_) | Step::Change(_) => {
            assert_eq!(sequence.remove(context, 0)?, None);
            assert_eq!(sequence.get(context, 0)?, None);
        }
    }
    assert_eq!(sequence.len() as usize, oracle.len());
    assert_eq!(sequence.last(context)?, oracle.last());
    assert_eq!(sequence.first(context)?, oracle.first());
    Ok(())
}

const PER_PAGE: u64 = (PAGE_BYTES / size_of::<Element>()) as u64;

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Messages of several steps, of which some fail at their end, some at an allocation, and some live on with a step that failed.
    #[test]
    fn sequences_are_those_of_the_standard_library(
        messages in prop::collection::vec((prop::collection::vec(step(), 1..5), 0..4u8, 0..40u32), 1..24)
    ) {
        let mut shard = Shard::new(600, 1);
        let (mut sequence, mut oracle) = (PoolVec::<Element>::new(), Vec::new());
        for (steps, ending, fuse) in messages {
            let mut after = oracle.clone();
            FUSE.set((ending >= 2).then_some(fuse));
            let result = shard.message(3, &mut sequence, |sequence, context| {
                for step in &steps {
                    let before = after.clone();
                    if let Err(error) = apply(step, sequence, &mut after, context) {
                        assert_eq!(error, PoolError::Exhausted);
                        if ending == 2 {
                            return Err(error);
                        }
                        // The step is as if it had not been, but for the pushes of `Many` that went well.
                        assert_eq!(context.forgive(), Some(error));
                        if !matches!(step, Step::Many(_)) {
                            assert_eq!(after, before);
                        }
                        let seen: Vec<_> = sequence.iter(context).map(|element| *element.unwrap()).collect();
                        assert_eq!(seen, after);
                    }
                }
                if ending == 1 { Err(PoolError::Stale) } else { Ok(()) }
            });
            FUSE.set(None);
            if result.is_ok() {
                oracle = after;
            }
            prop_assert_eq!(&contents(&mut shard, 3, &sequence), &oracle);
            prop_assert_eq!(shard.in_use(), tree_pages((oracle.len() as u64).div_ceil(PER_PAGE)));
        }
    }

    /// The same for a map, a set, and a map whose bucket pages hold one entry each.
    #[test]
    fn maps_are_those_of_the_standard_library(
        messages in prop::collection::vec(
            (prop::collection::vec((0..6u8, 0..400u16, any::<u32>()), 1..40), 0..4u8, 0..60u32), 1..20)
    ) {
        type State = (PoolMap<u16, u32>, PoolSet<[u8; 3]>, PoolMap<u16, [u64; 25]>);
        let mut shard = Shard::new(1200, 1);
        let mut state: State = (PoolMap::new(), PoolSet::new(), PoolMap::new());
        type Oracle = (BTreeMap<u16, u32>, HashSet<[u8; 3]>, HashMap<u16, [u64; 25]>);
        let mut oracle = Oracle::default();
        let set_key = |key: u16| [key as u8, (key >> 8) as u8, 7];
        for (steps, ending, fuse) in messages {
            let mut after = oracle.clone();
            FUSE.set((ending >= 2).then_some(fuse));
            let result = shard.message(5, &mut state, |(map, set, wide), context| {
                for &(what, key, value) in &steps {
                    let mut tried = after.clone();
                    let did: Result<(), PoolError> = (|| {
                        match what {
                            0..=2 => {
                                assert_eq!(map.insert(context, key, value)?, tried.0.insert(key, value));
                                assert_eq!(map.get(context, &key)?, Some(&value));
                            }
                            3 => {
                                assert_eq!(map.remove(context, &key)?, tried.0.remove(&key));
                                assert!(!map.contains_key(context, &key)?);
                            }
                            4 => if value % 3 == 0 {
                                assert_eq!(set.remove(context, &set_key(key))?, tried.1.remove(&set_key(key)));
                            } else {
                                assert_eq!(set.insert(context, set_key(key))?, tried.1.insert(set_key(key)));
                                assert!(set.contains(context, &set_key(key))?);
                            },
                            _ => {
                                let key = key % 40;
                                match value % 4 {
                                    0 => assert_eq!(wide.remove(context, &key)?, tried.2.remove(&key)),
                                    1 => if let Some(held) = wide.get_mut(context, &key)? {
                                        held[24] ^= 1;
                                        tried.2.get_mut(&key).unwrap()[24] ^= 1;
                                    } else {
                                        assert!(!tried.2.contains_key(&key));
                                    },
                                    _ => {
                                        let value = [u64::from(value); 25];
                                        assert_eq!(wide.insert(context, key, value)?, tried.2.insert(key, value));
                                    }
                                }
                            }
                        }
                        Ok(())
                    })();
                    match did {
                        Ok(()) => after = tried,
                        Err(error) if ending == 2 => return Err(error),
                        Err(error) => assert_eq!(context.forgive(), Some(error)),
                    }
                    assert_eq!((map.len() as usize, set.len() as usize), (after.0.len(), after.1.len()));
                    assert_eq!(wide.len() as usize, after.2.len());
                }
                if ending == 1 { Err(PoolError::Stale) } else { Ok(()) }
            });
            FUSE.set(None);
            if result.is_ok() {
                oracle = after;
            }
            let seen: BTreeMap<_, _> = entries(&mut shard, 5, &state.0).into_iter().collect();
            prop_assert_eq!(&seen, &oracle.0);
            prop_assert_eq!(state.0.len() as usize, seen.len());
            let seen: HashMap<_, _> = entries(&mut shard, 5, &state.2).into_iter().collect();
            prop_assert_eq!(&seen, &oracle.2);
            let seen: HashSet<_> = shard.look(5, &state.1, |set, context| {
                set.iter(context).map(|key| *key.unwrap()).collect()
            });
            prop_assert_eq!(&seen, &oracle.1);
            let is_empty = oracle.0.is_empty() && oracle.1.is_empty() && oracle.2.is_empty();
            prop_assert_eq!(shard.in_use() == 0, is_empty);
        }
        shard.message(5, &mut state, |(map, set, wide), context| {
            map.clear(context)?;
            set.clear(context)?;
            wide.clear(context)
        }).unwrap();
        prop_assert_eq!(shard.in_use(), 0);
        prop_assert_eq!(state, State::default());
    }

    /// Handles with any words, and copies of handles that have changed: errors, and nobody else's pages.
    #[test]
    fn forged_handles_touch_nobody_else(words in prop::collection::vec((0..24u32, 0..3000u32, 0..300u32), 1..30)) {
        let mut shard = Shard::new(40, 1);
        let mut theirs = PoolVec::<u64>::new();
        shard.message(1, &mut theirs, |sequence, context| {
            (0..200).try_for_each(|word| sequence.push(context, word))
        }).unwrap();
        let mut own: (PoolVec<u64>, PoolMap<u32, u32>) = Default::default();
        let _ = shard.message(2, &mut own, |(sequence, map), context| {
            (0..70).try_for_each(|word| sequence.push(context, word))?;
            (0..40).try_for_each(|word| map.insert(context, word, word).map(drop))
        });
        for (root, length, buckets) in words {
            let mut forged: (PoolVec<u64>, PoolMap<u32, u32>) =
                (handle([root, length]), handle([root, buckets, length]));
            // Fails or does anything to the actor's own pages.
            let _ = shard.message(2, &mut forged, |(sequence, map), context| {
                let _ = sequence.get(context, length / 2);
                let _ = map.get(context, &length);
                let _ = sequence.push(context, 1);
                let _ = map.insert(context, length, 1);
                let _ = sequence.remove(context, 0);
                let _ = map.remove(context, &3);
                let _ = map.iter(context).take(5000).count();
                let _ = sequence.iter(context).take(5000).count();
                let _ = map.clear(context);
                let _ = sequence.clear(context);
                Ok(())
            });
            let expected: Vec<u64> = (0..200).collect();
            prop_assert_eq!(contents(&mut shard, 1, &theirs), expected);
        }
    }
}

#[test]
fn every_allocation_may_fail() {
    type State = (PoolVec<[u64; 8]>, PoolMap<u64, u64>, PoolSet<u32>);
    let mut shard = Shard::new(4000, 1);
    let mut state = State::default();
    let mut failures = 0;
    for round in 0..40u64 {
        let message = |(sequence, map, set): &mut State, context: &mut Context| {
            for i in 0..9 {
                sequence.insert(context, sequence.len() / 3, [round * 100 + i; 8])?;
                map.insert(context, round * 9 + i, i)?;
                set.insert(context, (round * 5 + i) as u32)?;
            }
            for i in 0..round {
                map.remove(context, &(i * 8 + round % 8))?;
            }
            sequence.remove(context, sequence.len() / 2)?;
            map.get_mut(context, &(round * 9 + 1))?.into_iter().for_each(|value| *value += 1);
            Ok(())
        };
        let (before, in_use) = (state, shard.in_use());
        let all = |shard: &mut Shard, state: &State| (contents(shard, 8, &state.0), entries(shard, 8, &state.1));
        let held = all(&mut shard, &before);
        for fuse in 0.. {
            FUSE.set(Some(fuse));
            let result = shard.message(8, &mut state, message);
            FUSE.set(None);
            if result.is_ok() {
                break;
            }
            failures += 1;
            assert_eq!(result, Err(PoolError::Exhausted));
            assert_eq!((state, shard.in_use()), (before, in_use), "round {round}, page {fuse}");
            assert_eq!(all(&mut shard, &state), held, "round {round}, page {fuse}");
        }
    }
    assert!(failures > 400, "{failures}");
    shard
        .message(8, &mut state, |(a, b, c), context| a.clear(context).and(b.clear(context)).and(c.clear(context)))
        .unwrap();
    assert_eq!(shard.in_use(), 0);
}

#[test]
fn a_message_that_stops_in_the_middle_is_undone() {
    // What a panic leaves: a record with chains, and no commit.
    let mut shard = Shard::new(100, 2);
    let mut sequence = PoolVec::<u64>::new();
    shard.message(1, &mut sequence, |sequence, context| (0..500).try_for_each(|i| sequence.push(context, i))).unwrap();
    let in_use = shard.in_use();
    for lane in [0, 1] {
        shard.stamp += 1;
        let mail = Mail { pools: shard.open(lane) as u64, ..Mail::default() };
        let mut context = Context { mail: &mail, hlc: shard.stamp, ..Context::of(1) };
        // SAFETY: as in `message`.
        unsafe { context.open_pool((SLAB + STRIDE) as *const _) };
        let mut copy = sequence;
        copy.truncate(&mut context, 100).unwrap();
        (0..300).for_each(|i| copy.push(&mut context, 1000 + i).unwrap());
        *copy.get_mut(&mut context, 0).unwrap().unwrap() = 77;
        // The other lanes close the record.
        shard.close();
        assert_eq!(shard.in_use(), in_use);
        assert_eq!(contents(&mut shard, 1, &sequence), (0..500).collect::<Vec<u64>>());
    }
}

#[test]
fn full_pools_are_usable_to_the_last_page() {
    let mut shard = Shard::new(66, 1);
    let mut sequence = PoolVec::<[u8; 256]>::new();
    // 64 leaves and their root; the 65th leaf would need another root, and one above both.
    shard.message(1, &mut sequence, |s, c| (0..64).try_for_each(|i| s.push(c, [i; 256]))).unwrap();
    assert_eq!((sequence.len(), shard.in_use()), (64, 65));
    assert_eq!(shard.message(1, &mut sequence, |s, c| s.push(c, [9; 256])), Err(PoolError::Exhausted));
    // One page is left, and a change needs two: one for the root, one for the leaf.
    assert_eq!(shard.message(1, &mut sequence, |s, c| s.get_mut(c, 5).map(drop)), Err(PoolError::Exhausted));
    // Less always works.
    for left in (0..64).rev() {
        let popped = shard.message(1, &mut sequence, |s, c| s.pop(c)).unwrap();
        assert_eq!(popped, Some([left; 256]));
    }
    assert_eq!((shard.in_use(), sequence), (0, PoolVec::new()));
}

#[test]
fn churn_does_not_grow() {
    let mut shard = Shard::new(300, 1);
    let mut state: (PoolMap<u64, u64>, PoolVec<u64>) = Default::default();
    let mut most = 0;
    for round in 0..2_000u64 {
        shard
            .message(4, &mut state, |(map, sequence), context| {
                map.insert(context, round, round)?;
                if round >= 300 {
                    assert_eq!(map.remove(context, &(round - 300))?, Some(round - 300));
                    sequence.remove(context, 0)?;
                }
                sequence.push(context, round)
            })
            .unwrap();
        most = most.max(shard.in_use());
        if round >= 300 {
            assert_eq!((state.0.len(), state.1.len()), (300, 300));
        }
    }
    // 300 entries fill 20 pages when none has room left; three eighths of that are the least that a bucket is filled to.
    assert!(most < 100, "{most}");
}

#[test]
fn copies_of_handles_are_found_out() {
    let mut shard = Shard::new(100, 1);
    let mut sequence = PoolVec::<u64>::new();
    shard.message(1, &mut sequence, |s, c| (0..100).try_for_each(|i| s.push(c, i))).unwrap();
    let copy = sequence;
    // Another actor with the same handle.
    assert_eq!(shard.message(2, &mut sequence.clone(), |s, c| s.get(c, 5).map(drop)), Err(PoolError::Stale));
    assert_eq!(shard.message(2, &mut sequence.clone(), |s, c| s.push(c, 5)), Err(PoolError::Stale));
    assert_eq!(shard.message(2, &mut sequence.clone(), |s, c| s.clear(c)), Err(PoolError::Stale));
    // The same actor, in the message that frees and afterwards.
    let both = shard.message(1, &mut sequence, |s, c| {
        let copy = *s;
        s.clear(c)?;
        Ok(copy.get(c, 5).map(drop))
    });
    assert_eq!(both, Ok(Err(PoolError::Stale)));
    assert_eq!(shard.message(1, &mut copy.clone(), |s, c| s.get(c, 5).map(drop)), Err(PoolError::Stale));
    assert_eq!(shard.message(1, &mut copy.clone(), |s, c| s.clear(c)), Err(PoolError::Stale));
    assert_eq!(shard.in_use(), 0);
}

/// A bucket whose page leads to itself, which only a made-up handle finds.
#[test]
fn circles_end() {
    let mut shard = Shard::new(40, 1);
    let mut own: (PoolVec<[u32; 64]>, PoolMap<u32, u32>) = Default::default();
    shard
        .message(3, &mut own, |(sequence, _), context| {
            let mut page = [0; 64];
            // No entries, and the next page of the bucket is page 1, which is this one.
            page[1] = 1;
            sequence.push(context, page)
        })
        .unwrap();
    own.1 = handle([1, 1, 5]);
    shard.look(3, &own, |(_, map), context| {
        assert_eq!(map.get(context, &1), Err(PoolError::Stale));
        assert_eq!(map.iter(context).last(), Some(Err(PoolError::Stale)));
    });
    let result = shard.message(3, &mut own, |(_, map), context| map.insert(context, 1, 1));
    assert_eq!(result, Err(PoolError::Stale));
}

#[test]
fn without_a_pool_the_cause_is_named() {
    let mut context = Context::of(1);
    assert_eq!(PoolVec::new().push(&mut context, 1u64), Err(PoolError::Undeclared));
    assert_eq!(PoolMap::<u8, u8>::new().get(&context, &1), Err(PoolError::Undeclared));
    // SAFETY: there is no mail.
    unsafe { context.open_pool(std::ptr::null()) };
    assert_eq!(context.forgive(), Some(PoolError::Undeclared));
    assert_eq!(context.forgive(), None);
    assert_eq!(PoolSet::new().insert(&mut context, 1u64), Err(PoolError::Exhausted));
    assert_eq!(context.pool_failure(), Some(PoolError::Exhausted));
}

/// Lanes as threads: all take at the same time, then all give, over and over; no page is held twice, and none is lost.
#[test]
fn lanes_take_at_the_same_time() {
    const LANES: usize = 4;
    let mut shard = Shard::new(50, LANES);
    for round in 0..300 {
        let records: Vec<_> = (0..LANES).map(|lane| shard.open(lane) as usize).collect();
        let taken: Vec<Vec<u32>> = std::thread::scope(|scope| {
            let lanes: Vec<_> = records
                .iter()
                .enumerate()
                .map(|(lane, &record)| {
                    scope.spawn(move || {
                        // SAFETY: a record for each thread; the shard outlives the scope.
                        let pool = unsafe { Pool::new(record as *mut LanePool) };
                        pool.begin((SLAB + lane as u64 * STRIDE) as *const _, 1 + round);
                        (0..20).map_while(|_| pool.take().ok()).map(|(page, _)| page).collect()
                    })
                })
                .collect();
            lanes.into_iter().map(|lane| lane.join().unwrap()).collect()
        });
        let all: HashSet<u32> = taken.iter().flatten().copied().collect();
        // 80 were wanted: all there are, and no lane went without while there were any.
        assert_eq!((all.len(), taken.iter().map(Vec::len).sum::<usize>()), (50, 50));
        assert!(all.iter().all(|page| (1..=50).contains(page)));
        std::thread::scope(|scope| {
            for &record in &records {
                // SAFETY: as above.
                scope.spawn(move || unsafe { Pool::new(record as *mut LanePool) }.close());
            }
        });
        assert_eq!(shard.in_use(), 0);
    }
}
