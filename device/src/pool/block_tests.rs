//! Published blocks over pools in plain memory, against a map of what was published.

use std::collections::HashMap;
use std::marker::PhantomData;

use bytemuck::Zeroable;
use proptest::prelude::*;
use tourbillon_shared::epoch::{self, EpochState, EpochWords, epoch_of_the_gone};
use tourbillon_shared::outbox::Mail;
use tourbillon_shared::pool::{LanePool, PAGE_BYTES, PoolState, pool_bytes};
use tourbillon_shared::published::{ShardBlocks, published_bytes};
use tourbillon_shared::telemetry::WarpStats;

use super::epoch::{Epochs, Limbo};
use super::lane::Pool;
use super::{BlockRef, BlockView, PoolError, PoolVec};
use crate::arch::native::Native;
use crate::context::Context;
use crate::plain::Plain;
use crate::stats::Stats;
use crate::warp::Warp;

#[repr(C, align(256))]
#[derive(Clone, Copy, Zeroable)]
struct Page([u8; PAGE_BYTES]);

/// Few pages, so that they are soon used again.
const PAGES: u32 = 40;
const SHARDS: usize = 2;
/// Actors of each shard.
const ACTORS: usize = 3;
/// Warps that may read: the one that runs all messages, and one that holds on to what it has found.
const WARPS: u32 = 2;
/// Where the entries of the shards' actors would begin.
const SLAB: u64 = 1 << 20;

/// Shards that do not run.
struct World {
    pools: Vec<Page>,
    blocks: Vec<Page>,
    epochs: Vec<Page>,
    stats: Box<WarpStats>,
    record: Box<LanePool>,
    stamp: u64,
}

impl World {
    fn new() -> Self {
        let pages = |bytes: u64| bytes.div_ceil(PAGE_BYTES as u64) as usize;
        // Anything may stand in pages that were never taken, and does; the rest of a pool begins as zero.
        let mut pools = vec![Page::zeroed(); pages(pool_bytes(PAGES)) * SHARDS];
        for shard in 0..SHARDS {
            pools[shard * pages(pool_bytes(PAGES)) + 1..][..PAGES as usize].fill(Page([0xa5; PAGE_BYTES]));
        }
        Self {
            pools,
            blocks: vec![Page::zeroed(); pages(published_bytes(PAGES) * SHARDS as u64)],
            epochs: vec![Page::zeroed(); 1],
            stats: Box::new(WarpStats::zeroed()),
            record: Box::new(LanePool::zeroed()),
            stamp: 1 << 40,
        }
    }

    fn epochs(&mut self) -> Epochs<Native> {
        Epochs { state: self.epochs.as_mut_ptr().cast::<EpochState>(), arch: PhantomData }
    }

    fn limbo(&mut self, shard: usize) -> Limbo {
        let blocks = self.blocks.as_mut_ptr() as u64 + published_bytes(PAGES) * shard as u64;
        let pool = self.pools.as_mut_ptr() as u64 + pool_bytes(PAGES) * shard as u64;
        Limbo { blocks: blocks as *mut ShardBlocks, pool, pages: PAGES }
    }

    fn waiting(&mut self, shard: usize) -> ShardBlocks {
        // SAFETY: nobody else uses it.
        unsafe { self.limbo(shard).blocks.read() }
    }

    fn in_use(&mut self, shard: usize) -> u64 {
        // SAFETY: the state is at the beginning of the pool.
        let state = unsafe { (self.limbo(shard).pool as *const PoolState).read() };
        state.begun - state.free
    }

    /// What happens before a batch of the shard.
    fn reclaim(&mut self, shard: usize) {
        let (limbo, epochs) = (self.limbo(shard), self.epochs());
        if self.waiting(shard).first != 0 {
            let stats = Stats::at(&raw mut *self.stats as u64);
            limbo.reclaim(&Warp::<Native, true>::whole().damaged(), &epochs, WARPS, stats);
        }
    }

    /// Runs a message as the engine does: on a copy of the state, which is stored when it succeeds. It fails in the end when it is to.
    fn message<S: Copy, R>(
        &mut self,
        shard: usize,
        actor: usize,
        state: &mut S,
        fails: bool,
        handle: impl FnOnce(&mut S, &mut Context) -> Result<R, PoolError>,
    ) -> Result<R, PoolError> {
        self.reclaim(shard);
        self.stamp += 1;
        let (limbo, epochs, stamp) = (self.limbo(shard), self.epochs(), self.stamp);
        let (pools, published) = (self.limbo(0).pool, self.limbo(0).blocks as u64);
        let record = &raw mut *self.record;
        let mail = Mail { pools: record as u64, ..Mail::default() };
        let mut context = Context { mail: &mail, hlc: stamp, ..Context::of(actor as u64) };
        epoch::enter(&epochs, 0);
        // SAFETY: the record is this test's, and the memory lives.
        unsafe {
            ((*record).pool, (*record).slab, (*record).pages) = (limbo.pool, SLAB, PAGES);
            ((*record).pools, (*record).published) = (pools, published);
            ((*record).shards, (*record).shard) = (SHARDS as u32, shard as u32);
            context.open_blocks((SLAB + 96 * actor as u64) as *const _);
        }
        let mut copy = *state;
        let result = handle(&mut copy, &mut context);
        if result.is_ok() && !fails {
            context.disclose_blocks();
            *state = copy;
            context.commit_pool();
            context.commit_blocks();
        }
        // SAFETY: as above.
        unsafe {
            limbo.append(record, epoch_of_the_gone(&epochs));
            Pool::new(record).close();
        }
        epoch::leave(&epochs, 0);
        result
    }
}

/// A state: a block of its own, and a collection beside it.
#[derive(Clone, Copy, Default)]
struct Author {
    block: BlockRef<Element>,
    words: PoolVec<u64>,
}

/// Twenty bytes, so that pages have room left.
type Element = [u32; 5];

fn element(seed: u32, index: u32) -> Element {
    [seed, index, seed ^ index, !seed, 7]
}

/// A block that is published, as the map knows it.
type Known = HashMap<BlockRef<Element>, (u32, u32)>;

fn is_whole(view: &BlockView<'_, Element>, (seed, length): (u32, u32)) -> bool {
    let by_chunks: Vec<Element> = (0..view.chunks()).flat_map(|chunk| view.chunk(chunk).iter().copied()).collect();
    let expected: Vec<Element> = (0..length).map(|index| element(seed, index)).collect();
    by_chunks == expected
        && view.iter().copied().eq(expected.iter().copied())
        && view.len() == length
        && view.get(length).is_none()
        && view.chunk(view.chunks()).is_empty()
}

#[derive(Clone, Debug)]
enum Step {
    Replace {
        length: u16,
        fails: bool,
    },
    TakeBack {
        fails: bool,
    },
    Push,
    /// Reads the block of any reference that there ever was, from any shard.
    Read {
        which: u16,
    },
    /// Tries to take back a block that is another's.
    Steal {
        which: u16,
    },
    /// A warp begins to read all that there is, and holds on to it.
    Hold,
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..240u16, prop::bool::weighted(0.2)).prop_map(|(length, fails)| Step::Replace { length, fails }),
        2 => prop::bool::weighted(0.3).prop_map(|fails| Step::TakeBack { fails }),
        2 => Just(Step::Push),
        6 => any::<u16>().prop_map(|which| Step::Read { which }),
        2 => any::<u16>().prop_map(|which| Step::Steal { which }),
        1 => Just(Step::Hold),
        2 => Just(Step::Release),
    ]
}

/// What the other warp holds on to: addresses of elements, and what stands there.
type Held = Vec<(*const Element, Element)>;

fn check_held(held: &Held) {
    for (at, expected) in held {
        // SAFETY: memory of the test, in which anything may have been written if the engine is wrong.
        assert_eq!(unsafe { at.read() }, *expected, "a page was used again while a reader had it");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 500, ..ProptestConfig::default() })]

    /// Whatever is published, replaced, taken back and read, by messages that succeed and fail: each reference leads to what was published
    /// under it for as long as it is there, and to an error afterwards; nothing that a warp has found changes while it reads; and in
    /// the end no page is lost.
    #[test]
    fn blocks_are_what_was_published(steps in prop::collection::vec((0..SHARDS, 0..ACTORS, step()), 1..120)) {
        let mut world = World::new();
        let mut authors = [[Author::default(); ACTORS]; SHARDS];
        let (mut known, mut ever, mut held) = (Known::new(), Vec::new(), Held::new());
        for (number, (shard, actor, step)) in (1..).zip(&steps) {
            let (shard, actor) = (*shard, *actor);
            let author = &mut authors[shard][actor];
            let old = author.block;
            match *step {
                Step::Replace { length, fails } => {
                    let length = u32::from(length);
                    let result = world.message(shard, actor, author, fails, |author, context| {
                        author.block.replace_with(context, length, |_, index| Ok(element(number, index)))?;
                        // Its own block is there for itself at once.
                        assert!(is_whole(&author.block.read(context)?, (number, length)));
                        Ok(author.block)
                    });
                    match result {
                        Ok(new) => {
                            ever.push(new);
                            if !fails {
                                prop_assert_eq!(known.remove(&old).is_some(), !old.is_none());
                                prop_assert!(known.insert(new, (number, length)).is_none());
                            }
                        }
                        Err(error) => prop_assert_eq!(error, PoolError::Exhausted),
                    }
                }
                Step::TakeBack { fails } => {
                    let result = world.message(shard, actor, author, fails, |author, context| {
                        let mut again = author.block;
                        author.block.take_back(context)?;
                        assert!(again.is_none() || again.take_back(context) == Err(PoolError::BlockStale));
                        Ok(())
                    });
                    prop_assert_eq!(result, Ok(()));
                    if !fails {
                        known.remove(&old);
                    }
                }
                Step::Push => {
                    let result = world.message(shard, actor, author, false, |author, context| author.words.push(context, 5));
                    prop_assert!(result.is_ok() || result == Err(PoolError::Exhausted));
                }
                Step::Read { which } if !ever.is_empty() => {
                    let reference = ever[usize::from(which) % ever.len()];
                    let expected = known.get(&reference).copied();
                    let found = world.message(shard, actor, author, false, |_, context| {
                        Ok(reference.read(context).map(|view| is_whole(&view, expected.unwrap_or((0, 0)))))
                    });
                    let found = found.unwrap();
                    match expected {
                        Some(_) => prop_assert_eq!(found, Ok(true)),
                        None => prop_assert!(
                            matches!(found, Err(PoolError::BlockStale | PoolError::BlockUnknown)), "{:?}", found
                        ),
                    }
                }
                Step::Steal { which } if !ever.is_empty() => {
                    let mut reference = ever[usize::from(which) % ever.len()];
                    let is_there = known.contains_key(&reference);
                    if reference == author.block {
                        continue;
                    }
                    let result = world.message(shard, actor, author, false, |_, context| Ok(reference.take_back(context)));
                    match result.unwrap() {
                        Err(PoolError::BlockForeign) => prop_assert!(is_there),
                        Err(PoolError::BlockStale | PoolError::BlockUnknown) => prop_assert!(!is_there),
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
                Step::Hold if held.is_empty() => {
                    let epochs = world.epochs();
                    epoch::enter(&epochs, 1);
                    for (reference, expected) in &known {
                        let seen = world.message(shard, actor, author, false, |_, context| {
                            let view = reference.read(context)?;
                            assert!(is_whole(&view, *expected));
                            Ok(view.iter().map(|at| (std::ptr::from_ref(at), *at)).collect::<Held>())
                        });
                        held.extend(seen.unwrap());
                    }
                }
                Step::Release => {
                    check_held(&held);
                    held.clear();
                    world.epochs().announce(1, 0);
                }
                _ => {}
            }
            check_held(&held);
        }
        world.epochs().announce(1, 0);
        for (shard, authors) in authors.iter_mut().enumerate() {
            for (actor, author) in authors.iter_mut().enumerate() {
                let result = world.message(shard, actor, author, false, |author, context| {
                    author.words.clear(context)?;
                    author.block.take_back(context)
                });
                prop_assert_eq!(result, Ok(()));
            }
        }
        for shard in 0..SHARDS {
            for _ in 0..3 {
                world.reclaim(shard);
            }
            prop_assert_eq!(world.in_use(shard), 0);
            prop_assert_eq!(world.waiting(shard), ShardBlocks::zeroed());
        }
    }

    /// References of any words lead to nothing that was not published under them, also when they are nearly right.
    #[test]
    fn references_of_any_words_are_refused(words in any::<[u32; 5]>(), place in 0..5usize, is_near in any::<bool>()) {
        let mut world = World::new();
        let mut author = Author::default();
        let published = world.message(1, 0, &mut author, false, |author, context| {
            author.block.replace(context, &[element(1, 2); 30])?;
            Ok(author.block)
        });
        let published = published.unwrap();
        let mut made_up = <[u32; 5]>::from_bytes(published.as_bytes()).unwrap();
        if is_near {
            made_up[place] = words[place];
        } else {
            made_up = words;
        }
        let reference = BlockRef::<Element>::from_bytes(made_up.as_bytes()).unwrap();
        for shard in 0..SHARDS {
            world.message(shard, 1, &mut Author::default(), false, |_, context| {
                assert_eq!(reference.read(context).is_ok(), reference == published);
                // Of another actor's, nothing is taken back.
                let mut taken = reference;
                assert!(taken.take_back(context).is_err() || reference.is_none());
                Ok(())
            }).unwrap();
        }
        world.message(0, 0, &mut author, false, |_, context| {
            assert!(is_same(&published.read(context)?));
            Ok(())
        }).unwrap();
    }
}

fn is_same(view: &BlockView<'_, Element>) -> bool {
    view.len() == 30 && view.iter().all(|at| *at == element(1, 2))
}

/// A handle of a collection that leads to a block of the same actor changes nothing of it.
#[test]
fn no_collection_leads_to_a_block() {
    let mut world = World::new();
    let mut author = Author::default();
    world
        .message(0, 0, &mut author, false, |author, context| {
            author.words.push(context, 1)?;
            author.block.replace(context, &[element(1, 2); 30])
        })
        .unwrap();
    for page in 0..PAGES + 2 {
        let mut handle = PoolVec::<u64>::from_bytes([page, 20].as_bytes()).unwrap();
        let is_own = handle == author.words;
        let result = world.message(0, 0, &mut author, false, |_, context| {
            Ok((handle.get(context, 3).is_ok(), handle.get_mut(context, 3).is_ok(), handle.clear(context).is_ok()))
        });
        let found = result.unwrap();
        // The page of the actor's own sequence is its own, whatever length the handle has.
        assert!(is_own || found == (false, false, false) || page == 1, "{page}: {found:?}");
    }
    let block = author.block;
    let is_whole = world.message(1, 0, &mut author, false, |_, context| Ok(is_same(&block.read(context)?)));
    assert_eq!(is_whole, Ok(true));
}

/// What an element's closure fails with is the publication's failure, and no page stays with it.
#[test]
fn a_block_that_is_not_finished_is_none() {
    let mut world = World::new();
    let mut author = Author::default();
    for most in [0, 1, 11, 12, 13, 100] {
        let result = world.message(0, 0, &mut author, false, |author, context| {
            let made = |_: &Context, index| if index < most { Ok(element(1, index)) } else { Err(PoolError::Stale) };
            assert_eq!(author.block.replace_with(context, 101, made), Err(PoolError::Stale));
            assert_eq!(BlockRef::publish(context, &[[0u64; 32]; 57]), Err(PoolError::BlockTooLong));
            Ok(author.block.is_none())
        });
        assert_eq!((result, world.in_use(0)), (Ok(true), 0));
    }
}

/// An actor that has only declared collections, and one without a pool.
#[test]
fn without_a_declaration_or_a_pool_there_are_no_blocks() {
    let mut context = Context::of(1);
    assert_eq!(BlockRef::publish(&mut context, &[1u8]), Err(PoolError::BlockUndeclared));
    assert_eq!(BlockRef::<u8>::new().read(&context).err(), Some(PoolError::BlockUndeclared));
    context.declared = crate::context::Declared::Pools;
    assert_eq!(BlockRef::publish(&mut context, &[1u8]), Err(PoolError::BlockUndeclared));
    context.declared = crate::context::Declared::Blocks;
    assert_eq!(BlockRef::publish(&mut context, &[1u8]), Err(PoolError::Exhausted));
    assert_eq!(BlockRef::<u8>::new().read(&context).err(), Some(PoolError::BlockUnknown));
    assert_eq!(context.forgive(), Some(PoolError::BlockUndeclared));
}

/// As elements that they are not, or in another number, blocks are not found.
#[test]
fn a_block_of_other_elements_is_not_found() {
    let mut world = World::new();
    let mut author = Author::default();
    let publish = |author: &mut Author, context: &mut Context| author.block.replace(context, &[element(1, 2); 30]);
    world.message(1, 0, &mut author, false, publish).unwrap();
    let words = <[u32; 5]>::from_bytes(author.block.as_bytes()).unwrap();
    fn found<T: Plain>(words: [u32; 5], context: &Context) -> Option<PoolError> {
        BlockRef::<T>::from_bytes(words.as_bytes()).unwrap().read(context).err()
    }
    let result = world.message(0, 1, &mut author, false, |_, context| {
        let [a, b, c, d, length] = words;
        Ok([
            found::<Element>(words, context),
            found::<[i32; 5]>(words, context),
            found::<u32>(words, context),
            found::<[bool; 20]>(words, context),
            found::<Element>([a, b, c, d, length + 1], context),
            found::<Element>([a, b, c, d, 0], context),
        ])
    });
    let unknown = Some(PoolError::BlockUnknown);
    assert_eq!(result, Ok([None, unknown, unknown, unknown, unknown, unknown]));
}

/// While a warp reads, what it has found is not used again, however often it is replaced; when it has left, all of it is.
#[test]
fn what_a_reader_has_found_does_not_change() {
    let mut world = World::new();
    let mut author = Author::default();
    let publish = |seed| {
        move |author: &mut Author, context: &mut Context| {
            author.block.replace_with(context, 70, |_, index| Ok(element(seed, index)))
        }
    };
    world.message(0, 0, &mut author, false, publish(1)).unwrap();
    epoch::enter(&world.epochs(), 1);
    let block = author.block;
    let held = world.message(1, 0, &mut author, false, |_, context| {
        Ok(block.read(context)?.iter().map(|at| (std::ptr::from_ref(at), *at)).collect::<Held>())
    });
    let held = held.unwrap();
    let replaced = (2..20).filter(|seed| world.message(0, 0, &mut author, false, publish(*seed)).is_ok()).count();
    check_held(&held);
    // Seven pages each, of forty; the others wait for the reader.
    assert_eq!((replaced, world.waiting(0).blocks), (4, 4));
    epoch::leave(&world.epochs(), 1);
    for seed in 20..60 {
        world.message(0, 0, &mut author, false, publish(seed)).unwrap();
    }
    assert!(world.in_use(0) <= 21);
}
