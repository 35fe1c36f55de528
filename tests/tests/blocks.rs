//! Published blocks: what readers of other shards see while owners replace them, what failures leave, and that no page is lost or used
//! too soon.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tourbillon::actors::gazette::{GazetteError, Issue, Latest, Peruse, Perused, Withdraw};
use tourbillon::actors::hoard::Ending;
use tourbillon::store::MemoryStore;
use tourbillon::{
    BlockRef, CallError, Client, Context, Counter, Engine, EngineError, Handler, NoError, Plain, PoolError, State,
    actor, system,
};
use tourbillon_tests::bench::{client, counters, mixed};
use tourbillon_tests::{Bench, on_backends, on_every_backend};

/// An engine of gazettes.
fn engine(bench: &Bench, shards: u32, pages: u64) -> Engine {
    let bytes = 512 + pages * 276;
    let builder = bench.builder_for(tourbillon_press::image()).shards(shards).actors_per_shard(64);
    builder.pool_bytes_per_shard(bytes).build().unwrap()
}

/// Words that an issue of this many pages of data has, if it is more than one.
fn words(pages: u32) -> u32 {
    pages * 32
}

fn issue(
    client: &mut Client,
    key: u64,
    seed: u64,
    length: u32,
    keep: u32,
) -> Result<BlockRef<u64>, CallError<GazetteError>> {
    client.call(key, Issue { seed, length, keep, ending: Ending::Well, filler: 0 })
}

fn peruse(client: &mut Client, key: u64, issue: BlockRef<u64>) -> Result<Perused, CallError<GazetteError>> {
    client.call(key, Peruse { issue, ending: Ending::Well })
}

fn withdraw(client: &mut Client, key: u64, issue: BlockRef<u64>) -> Result<u64, CallError<GazetteError>> {
    client.call(key, Withdraw { issue, ending: Ending::Well })
}

fn seen(seed: u64, length: u32) -> Perused {
    Perused { seed, strays: 0, length: length.into() }
}

/// A reference of any words.
fn reference<T: Plain>(version: u64, shard: u32, page: u32, length: u32) -> BlockRef<T> {
    let words = [version as u32, (version >> 32) as u32, shard, page, length];
    BlockRef::from_bytes(words.as_bytes()).unwrap()
}

/// The words of a reference.
fn words_of(reference: &BlockRef<u64>) -> (u64, u32, u32, u32) {
    let words = <[u32; 5]>::from_bytes(reference.as_bytes()).unwrap();
    (u64::from(words[0]) | u64::from(words[1]) << 32, words[2], words[3], words[4])
}

/// Pages in use and pages that wait, of all shards; the counters agree with them.
fn usage(engine: &Engine) -> (u64, u64) {
    engine.pause().unwrap();
    let (pools, counters) = (engine.pools().unwrap(), counters(engine));
    engine.resume().unwrap();
    let in_use = pools.iter().map(|pool| u64::from(pool.in_use)).sum();
    let waiting = pools.iter().map(|pool| u64::from(pool.waiting)).sum();
    assert_eq!(counters[Counter::PagesTaken as usize].wrapping_sub(counters[Counter::PagesGiven as usize]), in_use);
    assert!(pools.iter().all(|pool| pool.waiting <= pool.in_use && pool.in_use <= pool.touched), "{pools:?}");
    let waiting_blocks = counters[Counter::BlocksRetired as usize] - counters[Counter::BlocksReclaimed as usize];
    assert_eq!(waiting == 0, waiting_blocks == 0, "{waiting} pages of {waiting_blocks} blocks");
    (in_use, waiting)
}

/// Published, taken back, and free again.
fn fates(engine: &Engine) -> [u64; 3] {
    let counters = counters(engine);
    [Counter::BlocksPublished, Counter::BlocksRetired, Counter::BlocksReclaimed]
        .map(|counter| counters[counter as usize])
}

/// Lets each shard look at what waits, often enough for all to be free: a message to each of `keys`.
fn settle(client: &mut Client, keys: impl Iterator<Item = u64> + Clone) {
    for _ in 0..4 {
        for key in keys.clone() {
            client.call(key, Latest {}).unwrap();
        }
    }
}

/// Keys of which there is at least one in each of a few shards.
const KEYS: u64 = 24;

on_every_backend! {
    /// Issues of every size, read by all actors of all shards, each of which sees just that.
    fn every_shard_reads_what_one_has_published(bench: &Bench) {
        let engine = engine(bench, 3, 400);
        let mut client = client(&engine);
        for (seed, length) in (1000..).zip([0, 1, 27, 28, 29, 32, 33, 64, 65, 700, words(56)]) {
            let key = seed % KEYS;
            let published = issue(&mut client, key, seed, length, 1).unwrap();
            assert_eq!((published.len(), published.is_none()), (length, false));
            let peruses: Vec<_> = (0..KEYS).map(|key| (key, Peruse { issue: published, ending: Ending::Well })).collect();
            let expected = seen(if length == 0 { 0 } else { seed }, length);
            for reply in client.call_many(peruses) {
                assert_eq!(reply, Ok(expected));
            }
            assert_eq!(client.call(key, Latest {}), Ok(published));
            let named = engine.key(format!("reader {seed}")).unwrap();
            assert_eq!(client.call(named, Peruse { issue: published, ending: Ending::Well }), Ok(expected));
            assert_eq!(withdraw(&mut client, key, published), Ok(0));
            assert_eq!(peruse(&mut client, 0, published), Err(CallError::BlockStale));
        }
        let error = issue(&mut client, 1, 5, words(56) + 1, 1).unwrap_err();
        assert_eq!(error, CallError::BlockTooLong { most: 14336 });
        assert!(error.to_string().contains("14336"), "{error}");
        settle(&mut client, 0..KEYS);
        assert_eq!(usage(&engine), (0, 0));
        assert_eq!(fates(&engine), [11; 3]);
    }
}

on_every_backend! {
    /// Owners replace at full rate what readers in all shards read: each reading is of one whole version, that of its reference, or is told
    /// that it is stale.
    fn readers_see_one_version_while_owners_replace_it(bench: &Bench) {
        const OWNERS: u64 = 4;
        // Few pages, so that they are used again soon.
        let engine = engine(bench, 3, 160);
        let latest: Vec<Mutex<(BlockRef<u64>, Perused)>> =
            (0..OWNERS).map(|_| Mutex::new((BlockRef::new(), seen(0, 0)))).collect();
        let mut first = client(&engine);
        let length_of = |seed: u64| 1 + (mixed(seed) % 300) as u32;
        for owner in 0..OWNERS {
            let published = issue(&mut first, owner, owner + 1, length_of(owner + 1), 1).unwrap();
            *latest[owner as usize].lock().unwrap() = (published, seen(owner + 1, length_of(owner + 1)));
        }
        let (is_over, read, stale) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let replaced = std::thread::scope(|scope| {
            for reader in 0..2u64 {
                let (engine, latest, is_over, read, stale) = (&engine, &latest, &is_over, &read, &stale);
                scope.spawn(move || {
                    let mut client = client(engine);
                    let mut round = reader << 32;
                    while !is_over.load(Ordering::Relaxed) {
                        // As many at once as run at once, of actors that are owners too and of others.
                        let wanted: Vec<_> = (0..16u64)
                            .map(|i| (mixed(round + i), *latest[(mixed(round ^ i) % OWNERS) as usize].lock().unwrap()))
                            .collect();
                        let peruses = wanted.iter().map(|(random, (issue, _))| {
                            (random % KEYS, Peruse { issue: *issue, ending: Ending::Well })
                        });
                        for (reply, (_, (_, expected))) in client.call_many(peruses.collect::<Vec<_>>()).into_iter().zip(&wanted) {
                            match reply {
                                Ok(perused) => {
                                    assert_eq!(perused, *expected);
                                    read.fetch_add(1, Ordering::Relaxed);
                                }
                                Err(CallError::BlockStale) => {
                                    stale.fetch_add(1, Ordering::Relaxed);
                                }
                                Err(error) => panic!("{error}"),
                            }
                        }
                        round += 16;
                    }
                });
            }
            let (mut seed, mut replaced) = (OWNERS, 0);
            let (replacements, enough) = (bench.scale(20_000, 250), bench.scale(2_000, 100));
            let began = Instant::now();
            while replaced < replacements || read.load(Ordering::Relaxed) < enough {
                seed += 1;
                let (owner, length) = (seed % OWNERS, length_of(seed));
                match issue(&mut first, owner, seed, length, 1) {
                    Ok(published) => {
                        replaced += 1;
                        *latest[owner as usize].lock().unwrap() = (published, seen(seed, length));
                    }
                    // For as long as readers keep old versions.
                    Err(CallError::PoolExhausted) => {}
                    Err(error) => panic!("{error}"),
                }
                assert!(began.elapsed() < Duration::from_secs(60), "{read:?} read, {stale:?} stale after {seed}");
            }
            is_over.store(true, Ordering::Relaxed);
            replaced
        });
        settle(&mut first, 0..KEYS);
        let [published, retired, reclaimed] = fates(&engine);
        assert_eq!((published, published - retired, reclaimed), (OWNERS + replaced, OWNERS, retired));
        for owner in 0..OWNERS {
            let (published, expected) = *latest[owner as usize].lock().unwrap();
            assert_eq!(peruse(&mut first, 9, published), Ok(expected));
            assert_eq!(withdraw(&mut first, owner, published), Ok(0));
        }
        settle(&mut first, 0..KEYS);
        assert_eq!(usage(&engine), (0, 0));
    }
}

on_every_backend! {
    /// A message that fails, however it does, publishes nothing and takes back nothing.
    fn failures_publish_nothing_and_take_back_nothing(bench: &Bench) {
        let engine = engine(bench, 1, 300);
        let mut client = client(&engine);
        let [old, other] = [(70, 100), (71, 20)].map(|(seed, length)| issue(&mut client, 1, seed, length, 2).unwrap());
        settle(&mut client, 0..2);
        let before = usage(&engine);
        let rounds = bench.scale(12, 4);
        for round in 0..rounds {
            for ending in [Ending::Error, Ending::Panic, Ending::Exhaust] {
                for keep in [1, 2] {
                    let failed = client.call(1, Issue { seed: 900 + round, length: 200, keep, ending, filler: 0 });
                    match ending {
                        Ending::Error => assert!(matches!(failed, Err(CallError::Handler(_))), "{failed:?}"),
                        Ending::Panic => assert!(matches!(failed, Err(CallError::Panicked { .. })), "{failed:?}"),
                        _ => assert_eq!(failed, Err(CallError::PoolExhausted)),
                    }
                }
                let failed = client.call(1, Withdraw { issue: old, ending });
                assert!(failed.is_err(), "{failed:?}");
                assert_eq!(peruse(&mut client, 2, old), Ok(seen(70, 100)));
                assert_eq!(peruse(&mut client, 3, other), Ok(seen(71, 20)));
                assert_eq!(client.call(1, Latest {}), Ok(other));
                assert_eq!(usage(&engine), before);
            }
        }
        assert_eq!(fates(&engine), [2, 0, 0]);
        // What a handler publishes and takes back itself was never there.
        let forgiven = client.call(1, Issue { seed: 72, length: 3, keep: 3, ending: Ending::Forgive, filler: 0 }).unwrap();
        assert_eq!(peruse(&mut client, 2, forgiven), Ok(seen(72, 3)));
        assert_eq!(fates(&engine), [3, 0, 0]);
        for (left, issue) in [(2, old), (1, other), (0, forgiven)] {
            assert_eq!(withdraw(&mut client, 1, issue), Ok(left));
        }
        settle(&mut client, 0..2);
        assert_eq!(usage(&engine), (0, 0));
    }
}

on_every_backend! {
    /// Whatever words a reference has, nothing is read but what was published under them, and nothing is taken back but by its actor.
    fn hostile_references_are_refused(bench: &Bench) {
        let engine = engine(bench, 2, 64);
        let mut client = client(&engine);
        let mut there: HashMap<BlockRef<u64>, Perused> = HashMap::new();
        let mut issues = Vec::new();
        for seed in 1..=6u64 {
            let published = issue(&mut client, seed, seed, 20 * seed as u32, 1).unwrap();
            issues.push((seed, published));
            there.insert(published, seen(seed, 20 * seed as u32));
        }
        // Some are gone, and their pages perhaps used again.
        for (seed, gone) in issues.iter().take(2) {
            withdraw(&mut client, *seed, *gone).unwrap();
            there.remove(gone);
        }
        let counts = |engine: &Engine| counters(engine)[Counter::Panicked as usize];
        let hostile = bench.scale(20_000, 500);
        let known: Vec<_> = issues.iter().map(|(_, issue)| words_of(issue)).collect();
        for number in 0..hostile {
            let random = mixed(number);
            let (mut version, mut shard, mut page, mut length) = known[(random % 6) as usize];
            let odd = (random >> 8) as u32;
            // One or two words are others.
            for change in [random >> 40 & 7, random >> 44 & 7] {
                match change {
                    0 => version = mixed(random),
                    1 => version ^= 1 << (odd % 64),
                    2 => shard = [1 - shard.min(1), 2, 3, u32::MAX, odd][odd as usize % 5],
                    3 => page = odd % 80,
                    4 => page = [0, 64, 65, 1 << 26, u32::MAX, odd][odd as usize % 6],
                    5 => length = [0, length.wrapping_add(1), length.wrapping_sub(1), 1 << 20, u32::MAX, odd][odd as usize % 6],
                    6 => version = [0, 1, u64::MAX, version | 1, version.wrapping_add(2)][odd as usize % 5],
                    _ => {}
                }
            }
            let made_up = reference(version, shard, page, length);
            let reader = random >> 50 & 15;
            match (peruse(&mut client, reader, made_up), there.get(&made_up)) {
                (Ok(perused), Some(expected)) => assert_eq!(perused, *expected),
                (Err(CallError::BlockUnknown | CallError::BlockStale), None) => {}
                (reply, expected) => panic!("{version:x} {shard} {page} {length}: {reply:?} in place of {expected:?}"),
            }
            // An actor that has published nothing takes nothing back. Its own length is all that it may lie about.
            match withdraw(&mut client, 40 + random % 8, made_up) {
                Err(CallError::BlockUnknown | CallError::BlockStale | CallError::BlockForeign) => {}
                // That of no block is taken back without anything being done.
                Ok(0) if page == 0 => {}
                reply => panic!("{version:x} {shard} {page} {length}: {reply:?}"),
            }
        }
        for (issue, expected) in &there {
            assert_eq!(peruse(&mut client, 9, *issue), Ok(*expected));
        }
        assert_eq!(counts(&engine), 0);
        for (owner, issue) in issues.iter().skip(2) {
            assert_eq!(withdraw(&mut client, *owner, *issue), Ok(0));
            assert_eq!(withdraw(&mut client, *owner, *issue), Err(CallError::BlockStale));
        }
    }
}

on_every_backend! {
    /// With a full pool nothing can be published; one block taken back makes room for the next, and what nobody can read is free at once.
    fn an_exhausted_pool_is_reclaimed_first(bench: &Bench) {
        let engine = engine(bench, 1, 64);
        let mut client = client(&engine);
        let mut issues = Vec::new();
        let exhausted = loop {
            match issue(&mut client, 1, issues.len() as u64, words(6), 100) {
                Ok(published) => issues.push(published),
                Err(error) => break error,
            }
        };
        assert_eq!(exhausted, CallError::PoolExhausted);
        // Each takes 7 pages, and the list of issues a few.
        assert!(issues.len() >= 7, "{}", issues.len());
        for round in 0..bench.scale(500, 30) {
            let oldest = issues.remove(0);
            // There is room for the list's copy: it is smaller than a block, of which one did not fit.
            let left = withdraw(&mut client, 1, oldest).unwrap();
            assert_eq!(left, issues.len() as u64);
            let published = issue(&mut client, 1, round, words(6), 100).unwrap_or_else(|error| panic!("{round}: {error}"));
            assert_eq!(peruse(&mut client, 2, published), Ok(seen(round, words(6))));
            assert_eq!(peruse(&mut client, 2, oldest), Err(CallError::BlockStale));
            issues.push(published);
        }
        assert!(engine.pools().unwrap()[0].touched <= 64);
    }
}

on_every_backend! {
    /// Readers and owners that panic hold up nothing, whatever lanes it costs.
    fn readers_that_panic_hold_up_nothing(bench: &Bench) {
        let engine = engine(bench, 2, 80);
        let mut client = client(&engine);
        let mut latest = issue(&mut client, 1, 0, words(8), 1).unwrap();
        let rounds = bench.scale(100, 24);
        for round in 1..=rounds {
            let peruses: Vec<_> = (0..6)
                .map(|i| (10 + i, Peruse { issue: latest, ending: if i % 3 == 1 { Ending::Panic } else { Ending::Well } }))
                .collect();
            for (i, reply) in client.call_many(peruses).into_iter().enumerate() {
                match reply {
                    Ok(perused) => assert_eq!(perused, seen(round - 1, words(8))),
                    Err(CallError::Panicked { .. }) => assert_eq!(i % 3, 1),
                    Err(error) => panic!("{error}"),
                }
            }
            // Ten pages for each round, of which there are eighty.
            latest = issue(&mut client, 1, round, words(8), 1).unwrap_or_else(|error| panic!("{round}: {error}"));
        }
        assert_eq!(counters(&engine)[Counter::Panicked as usize], 2 * rounds);
        assert_eq!(withdraw(&mut client, 1, latest), Ok(0));
        settle(&mut client, 0..KEYS);
        assert_eq!(usage(&engine), (0, 0));
    }
}

on_every_backend! {
    /// Warps that have read and are idle since hold up nothing: owners go on for much longer than there are pages.
    fn idle_readers_hold_up_nothing(bench: &Bench) {
        let engine = engine(bench, 3, 80);
        let mut client = client(&engine);
        let first = issue(&mut client, 1, 0, words(8), 1).unwrap();
        for reader in 0..KEYS {
            assert_eq!(peruse(&mut client, reader, first), Ok(seen(0, words(8))));
        }
        for seed in 1..bench.scale(2_000, 100) {
            issue(&mut client, 1, seed, words(8), 1).unwrap_or_else(|error| panic!("{seed}: {error}"));
        }
        assert_eq!(peruse(&mut client, 2, first), Err(CallError::BlockStale));
    }
}

on_every_backend! {
    /// Blocks, references, what waits and the epoch survive a relaunch.
    fn a_relaunch_keeps_blocks_and_what_waits(bench: &Bench) {
        let engine = engine(bench, 2, 200);
        let mut client = client(&engine);
        let mut issues: Vec<BlockRef<u64>> = Vec::new();
        for round in 0..6u64 {
            issues.push(issue(&mut client, 5, round, 40 + round as u32, 3).unwrap());
            let before = usage(&engine);
            engine.relaunch().unwrap();
            assert_eq!(usage(&engine), before);
            for (number, issue) in (0..).zip(&issues) {
                let reply = peruse(&mut client, number, *issue);
                let is_there = number + 3 > round;
                let expected = if is_there { Ok(seen(number, 40 + number as u32)) } else { Err(CallError::BlockStale) };
                assert_eq!(reply, expected, "issue {number} after {round}");
            }
        }
        for issue in &issues[3..] {
            withdraw(&mut client, 5, *issue).unwrap();
        }
        engine.relaunch().unwrap();
        settle(&mut client, 0..KEYS);
        assert_eq!(usage(&engine), (0, 0));
        assert_eq!(fates(&engine), [6; 3]);
    }
}

on_every_backend! {
    /// Replacing for a long time takes no more pages than replacing a few times.
    fn replacing_does_not_grow(bench: &Bench) {
        const OWNERS: u64 = 8;
        // Room for a full batch of new versions beside the old ones, and as many that wait.
        let engine = engine(bench, 1, 600);
        let mut client = client(&engine);
        let replacements = bench.scale(100_000, 1_200);
        let mut after_some = 0;
        let mut round = 0;
        while round * 32 < replacements {
            let batch: Vec<_> = (0..32u64)
                .map(|i| (i % OWNERS, Issue { seed: round * 32 + i, length: words(2), keep: 1, ending: Ending::Well, filler: 0 }))
                .collect();
            for reply in client.call_many(batch) {
                reply.unwrap();
            }
            round += 1;
            if round == 30 {
                after_some = engine.pools().unwrap()[0].touched;
            }
        }
        let pool = engine.pools().unwrap()[0];
        assert!(after_some > 0 && pool.touched <= after_some + 100, "{pool:?}, {after_some} at first");
        let [published, retired, reclaimed] = fates(&engine);
        assert_eq!((published, retired), (round * 32, round * 32 - OWNERS));
        assert!(retired - reclaimed <= 200, "{} blocks wait", retired - reclaimed);
        settle(&mut client, 0..OWNERS);
        // One block and one page of the list for each.
        assert_eq!(usage(&engine), (OWNERS * 4, 0));
    }
}

/// An actor that has forgotten to declare blocks, though it has collections.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, State)]
struct Forgetful {
    block: BlockRef<u64>,
}

/// An actor that takes references for what they are not.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, State)]
struct Mistaken {
    handled: u64,
    block: BlockRef<u64>,
    filler: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Put(u64);

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Own(u64);

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Misread([u32; 5]);

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Ask([u32; 5]);

impl Handler<Put> for Forgetful {
    type Reply = BlockRef<u64>;
    fn handle(&mut self, message: &Put, context: &mut Context) -> Result<BlockRef<u64>, NoError> {
        self.block.replace(context, &[message.0])?;
        Ok(self.block)
    }
}

impl Handler<Own> for Mistaken {
    type Reply = BlockRef<u64>;
    fn handle(&mut self, message: &Own, context: &mut Context) -> Result<BlockRef<u64>, NoError> {
        self.handled += 1;
        self.block.replace(context, &[message.0, 7])?;
        // A handler reads what it has just published, and what it has just taken back it cannot take back again.
        let own = *self.block.read(context)?.get(1).unwrap();
        assert_eq!(own, 7);
        let mut second = BlockRef::publish(context, &[1u64])?;
        let copy = second;
        second.take_back(context)?;
        assert!(second.is_none() && copy.read(context).is_err());
        assert_eq!(
            context.forgive().map(|error| error.failure()),
            Some(tourbillon::abi::error::FailureCode::BlockUnknown)
        );
        let gone =
            BlockRef::publish_with(context, 100, |_, index| if index < 70 { Ok(index) } else { Err(PoolError::Stale) });
        assert!(gone.is_err());
        Ok(self.block)
    }
}

/// As what a reference of `u64` is taken for.
#[repr(u8)]
#[derive(Clone, Copy, Plain)]
enum Only {
    Zero = 0,
}

impl Handler<Misread> for Mistaken {
    type Reply = u64;
    fn handle(&mut self, message: &Misread, context: &mut Context) -> Result<u64, NoError> {
        let as_halves = BlockRef::<[u32; 2]>::from_bytes(message.0.as_bytes()).unwrap();
        let as_signed = BlockRef::<i64>::from_bytes(message.0.as_bytes()).unwrap();
        let as_enums = BlockRef::<[Only; 8]>::from_bytes(message.0.as_bytes()).unwrap();
        assert!(as_halves.read(context).is_err());
        assert!(as_signed.read(context).is_err());
        assert!(as_enums.read(context).is_err());
        if let Some(error) = context.forgive()
            && error != PoolError::BlockUnknown
        {
            assert_eq!(error, PoolError::BlockStale);
        }
        let right = BlockRef::<u64>::from_bytes(message.0.as_bytes()).unwrap();
        Ok(*right.read(context)?.get(0).unwrap())
    }
}

impl Handler<Ask> for Forgetful {
    type Reply = u64;
    fn handle(&mut self, message: &Ask, context: &mut Context) -> Result<u64, NoError> {
        let block = BlockRef::<u64>::from_bytes(message.0.as_bytes()).unwrap();
        Ok(*block.read(context)?.get(0).unwrap())
    }
}

actor!(Forgetful { kind: 903, pools: true, error: NoError, messages: { 0: Put, 1: Ask } });
actor!(Mistaken { kind: 904, pools: true, blocks: true, error: NoError, messages: { 0: Own, 1: Misread } });
system! { struct Sloppy = [Forgetful, Mistaken]; }

on_backends! {
    [native_1, simt_4, simt_32]
    /// Programs that are wrong get errors that say how.
    fn wrong_uses_are_named(bench: &Bench) {
        let engine = bench.builder_for(Sloppy::image()).shards(2).build().unwrap();
        let mut client = client(&engine);
        let published = client.call(1, Own(41)).unwrap();
        let words = <[u32; 5]>::from_bytes(published.as_bytes()).unwrap();
        for key in 0..8 {
            assert_eq!(client.call(key, Misread(words)), Ok(41));
        }
        for error in [client.call(1, Put(7)).unwrap_err(), client.call(1, Ask(words)).map(|_| BlockRef::<u64>::new()).unwrap_err()] {
            assert_eq!(error, CallError::BlockUndeclared);
            assert!(error.to_string().contains("blocks: true"), "{error}");
        }
        assert_eq!(client.call(1, Misread([0; 5])), Err(CallError::BlockUnknown));
        assert_eq!(client.call(1, Own(42)).map(|block| block.is_none()), Ok(false));
        assert_eq!(client.call(1, Misread(words)), Err(CallError::BlockStale));
        settle_sloppy(&mut client, published);
        assert_eq!(fates(&engine), [2, 1, 1]);
        assert_eq!(usage(&engine), (1, 0));
        let bare = bench.builder_for(Sloppy::image()).pool_bytes_per_shard(0).build().unwrap();
        let mut client = tourbillon_tests::bench::client(&bare);
        assert_eq!(client.call(1, Own(1)).map(|_| ()), Err(CallError::PoolExhausted));
        assert_eq!(client.call(1, Misread(words)), Err(CallError::BlockUnknown));
    }
}

/// As [`settle`] for the system of wrong actors.
fn settle_sloppy(client: &mut Client, gone: BlockRef<u64>) {
    let words = <[u32; 5]>::from_bytes(gone.as_bytes()).unwrap();
    for key in (0..8).cycle().take(32) {
        assert_eq!(client.call(key, Misread(words)), Err(CallError::BlockStale));
    }
}

#[test]
fn an_engine_with_a_store_publishes_nothing() {
    let builder = Engine::builder_for(tourbillon_press::image()).store(std::sync::Arc::new(MemoryStore::default()));
    let error = builder.build().map(drop).unwrap_err();
    assert!(matches!(error, EngineError::StoreWithBlocks { system: "Press" }), "{error}");
    assert!(error.to_string().contains("`blocks: true`"), "{error}");
}
