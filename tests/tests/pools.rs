//! Collections in actors' states: what is in them, what failures leave of them, and that no page of a pool is lost.

use std::collections::{BTreeMap, VecDeque};

use tourbillon::actors::Hoard;
use tourbillon::actors::book::{BookError, Cancel, Limit, Look, Placed, Side, Standing};
use tourbillon::actors::hoard::{Audit, Audited, Ending, Fetch, HoardError, Stow};
use tourbillon::{
    CallError, Client, Context, Counter, Engine, EngineError, Handler, NoError, Plain, PoolMap, PoolSet, PoolVec,
    State, actor, system,
};
use tourbillon_tests::bench::{client, counters, mixed};
use tourbillon_tests::{Bench, on_backends, on_every_backend};

/// Pages of the small pools here.
const PAGES: u64 = 96;

/// An engine of hoards and books, with one shard, so that all of them share one pool of `pages`.
fn engine(bench: &Bench, pages: u64) -> Engine {
    let image = tourbillon_market::image();
    let bytes = 512 + pages * 276;
    let engine = bench.builder_for(image).shards(1).actors_per_shard(256).pool_bytes_per_shard(bytes).build().unwrap();
    assert!(engine.pools().unwrap()[0].pages.abs_diff(pages as u32) <= 1);
    engine
}

/// Pages in use, by the pools themselves; as the counters have it as well.
fn in_use(engine: &Engine) -> u64 {
    let counters = counters(engine);
    engine.pause().unwrap();
    let pools = engine.pools().unwrap();
    engine.resume().unwrap();
    let sum = pools.iter().map(|pool| u64::from(pool.in_use)).sum();
    assert_eq!(counters[Counter::PagesTaken as usize].wrapping_sub(counters[Counter::PagesGiven as usize]), sum);
    assert!(pools.iter().all(|pool| pool.in_use <= pool.touched && pool.touched <= pool.pages));
    sum
}

fn stow(client: &mut Client, key: u64, first: u64, count: u32, ending: Ending) -> Result<u64, CallError<HoardError>> {
    client.call(key, Stow { first, count, ending })
}

/// What a hoard of these words says of itself.
fn audited(words: &[u64], handled: u64) -> Audited {
    let sum = words.iter().fold(0, |sum: u64, word| sum.wrapping_add(*word));
    Audited { words: words.len() as u64, sum, strays: 0, handled }
}

on_every_backend! {
    /// The pool ends in the middle of a handler that has changed pages, freed some and taken many.
    fn an_exhausted_pool_in_the_middle_of_a_handler_is_undone(bench: &Bench) {
        let engine = engine(bench, PAGES);
        let mut client = client(&engine);
        assert_eq!(stow(&mut client, 1, 100, 200, Ending::Well), Ok(200));
        assert_eq!(stow(&mut client, 2, 900, 3, Ending::Well), Ok(3));
        let words: Vec<u64> = (100..300).collect();
        let before = in_use(&engine);
        assert!(before > 20 && before < PAGES, "{before} pages");
        for round in 1..=4 {
            assert_eq!(stow(&mut client, 1, 5000, 10, Ending::Exhaust), Err(CallError::PoolExhausted));
            let fetch = client.call(1, Fetch { count: 150, ending: Ending::Exhaust });
            assert_eq!(fetch, Err(CallError::PoolExhausted));
            assert_eq!(in_use(&engine), before);
            assert_eq!(client.call(1, Audit {}), Ok(audited(&words, 1)));
            let counters = counters(&engine);
            assert_eq!(counters[Counter::PoolExhausted as usize], 2 * round);
            assert_eq!(counters[Counter::Failed as usize], 2 * round);
            assert_eq!(counters[Counter::Panicked as usize], 0);
        }
        // A handler with an answer of its own goes on, and what it does then lasts.
        assert_eq!(stow(&mut client, 1, 300, 1, Ending::Forgive), Ok(201));
        assert_eq!(client.call(1, Audit {}), Ok(audited(&(100..301).collect::<Vec<u64>>(), 2)));
        assert_eq!(client.call(2, Audit {}), Ok(audited(&[900, 901, 902], 1)));
        for key in [1, 2] {
            assert_eq!(client.call(key, Fetch { count: 1000, ending: Ending::Well }), Ok(0));
        }
        assert_eq!(in_use(&engine), 0);
        assert_eq!(engine.inspect::<Hoard>(1).unwrap().unwrap().1, Hoard { words: PoolVec::new(), set: PoolSet::new(), map: PoolMap::new(), handled: 3 });
    }
}

on_every_backend! {
    /// On machines where a panic costs a lane, others undo what it has done.
    fn a_panic_in_the_middle_of_a_handler_is_undone(bench: &Bench) {
        let engine = engine(bench, 200);
        let mut client = client(&engine);
        assert_eq!(stow(&mut client, 1, 0, 300, Ending::Well), Ok(300));
        let words: Vec<u64> = (0..300).collect();
        let before = in_use(&engine);
        let panics = bench.scale(40, 12);
        for round in 0..panics {
            let reply = if round % 2 == 0 {
                stow(&mut client, 1, 5000, 40, Ending::Panic)
            } else {
                client.call(1, Fetch { count: 120, ending: Ending::Panic })
            };
            assert!(matches!(reply, Err(CallError::Panicked { .. })), "{reply:?}");
            assert_eq!(in_use(&engine), before, "after {} panics", round + 1);
        }
        assert_eq!(client.call(1, Audit {}), Ok(audited(&words, 1)));
        assert_eq!(counters(&engine)[Counter::Panicked as usize], panics);
        assert_eq!(client.call(1, Fetch { count: 1000, ending: Ending::Well }), Ok(0));
        assert_eq!(in_use(&engine), 0);
    }
}

on_every_backend! {
    /// Hoards of one shard, whose handlers run side by side on the lanes of a warp; most messages fail in one of all ways.
    fn faults_leak_nothing(bench: &Bench) {
        const KEYS: u64 = 12;
        let engine = engine(bench, 1_000);
        let mut client = client(&engine);
        let mut hoards: BTreeMap<u64, (Vec<u64>, u64)> = BTreeMap::new();
        let messages = bench.scale(12_000, 420);
        let mut faults = 0;
        let mut number = 0;
        while number < messages {
            // As many at once as lanes may run at once, and some more.
            let batch: Vec<(u64, Stow)> = (number..messages.min(number + 48))
                .map(|number| {
                    let random = mixed(number);
                    let ending = match random >> 8 & 15 {
                        0 | 1 => Ending::Well,
                        2..=7 => Ending::Error,
                        8..=13 => Ending::Panic,
                        _ => Ending::Exhaust,
                    };
                    let count = (random >> 16) as u32 % 24;
                    (random % KEYS, Stow { first: number << 8, count, ending })
                })
                .collect();
            let replies = client.call_many(batch.iter().copied());
            for ((key, message), reply) in batch.iter().zip(replies) {
                let (words, handled) = hoards.entry(*key).or_default();
                match (message.ending, reply) {
                    (Ending::Well, Ok(count)) => {
                        words.extend((0..u64::from(message.count)).map(|i| message.first + i));
                        *handled += 1;
                        assert_eq!(count, words.len() as u64);
                        continue;
                    }
                    // Others may have all pages for a while.
                    (_, Err(CallError::PoolExhausted)) => {}
                    (Ending::Error, Err(CallError::Handler(error))) => {
                        assert_eq!(error.words, words.len() as u64 + u64::from(message.count));
                    }
                    (Ending::Panic, Err(CallError::Panicked { .. })) => {}
                    (ending, reply) => panic!("{ending:?}: {reply:?}"),
                }
                faults += 1;
            }
            number += batch.len() as u64;
            // Room for those to come.
            for (key, (words, handled)) in &mut hoards {
                if words.len() > 200 {
                    let keep = words.len() - 150;
                    match client.call(*key, Fetch { count: 150, ending: Ending::Well }) {
                        Ok(left) => {
                            assert_eq!(left, keep as u64);
                            words.truncate(keep);
                            *handled += 1;
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
        assert!(faults >= bench.scale(10_000, 300), "{faults} faults");
        for (key, (words, handled)) in &hoards {
            assert_eq!(client.call(*key, Audit {}), Ok(audited(words, *handled)), "hoard {key}");
        }
        let held: usize = hoards.values().map(|(words, _)| words.len()).sum();
        assert!(held == 0 || in_use(&engine) > 0);
        for key in hoards.keys() {
            assert_eq!(client.call(*key, Fetch { count: u32::MAX, ending: Ending::Well }), Ok(0));
        }
        assert_eq!(in_use(&engine), 0);
    }
}

on_every_backend! {
    /// Actors that are called by strings have collections as any others.
    fn named_actors_have_collections(bench: &Bench) {
        let engine = engine(bench, 200);
        let mut client = client(&engine);
        for (count, name) in (5..).zip(["alice", "bob", "carol"]) {
            let key = engine.key(name).unwrap();
            assert_eq!(client.call(key, Stow { first: 7, count, ending: Ending::Well }), Ok(count.into()));
            assert_eq!(client.call(key, Audit {}), Ok(audited(&(7..7 + u64::from(count)).collect::<Vec<_>>(), 1)));
        }
        assert!(in_use(&engine) > 0);
        for name in ["alice", "bob", "carol"] {
            let fetched = client.call(engine.key(name).unwrap(), Fetch { count: 1000, ending: Ending::Well });
            assert_eq!(fetched, Ok(0));
        }
        assert_eq!(in_use(&engine), 0);
    }
}

on_every_backend! {
    fn a_relaunch_keeps_everything(bench: &Bench) {
        let engine = engine(bench, 300);
        let mut client = client(&engine);
        let mut words: Vec<u64> = Vec::new();
        let mut pages = 0;
        for round in 0..4u64 {
            let added = stow(&mut client, 5, round * 1000, 60, Ending::Well).unwrap();
            words.extend(round * 1000..round * 1000 + 60);
            assert_eq!(added, words.len() as u64);
            assert!(matches!(stow(&mut client, 5, 9, 30, Ending::Error), Err(CallError::Handler(_))));
            let before = in_use(&engine);
            assert!(before > pages);
            pages = before;
            engine.relaunch().unwrap();
            assert_eq!(in_use(&engine), before);
            assert_eq!(client.call(5, Audit {}), Ok(audited(&words, round + 1)));
        }
        assert_eq!(client.call(5, Fetch { count: 1000, ending: Ending::Well }), Ok(0));
        assert_eq!(in_use(&engine), 0);
    }
}

on_every_backend! {
    /// Coming and going for much longer than the pool has pages: as many pages at the end as after the first round.
    fn churn_does_not_grow(bench: &Bench) {
        let engine = engine(bench, 120);
        let mut client = client(&engine);
        let rounds = bench.scale(400, 40);
        let mut after_first = 0;
        for round in 0..rounds {
            for key in 0..3 {
                assert_eq!(stow(&mut client, key, round * 100, 60, Ending::Well), Ok(60));
                assert_eq!(client.call(key, Fetch { count: 60, ending: Ending::Well }), Ok(0));
            }
            let pools = { engine.pause().unwrap(); let pools = engine.pools().unwrap(); engine.resume().unwrap(); pools };
            assert_eq!(pools[0].in_use, 0);
            if round == 0 {
                after_first = pools[0].touched;
            }
            assert!(pools[0].touched <= after_first * 2, "round {round}: {pools:?}, {after_first} at first");
        }
        assert!(counters(&engine)[Counter::PagesTaken as usize] > 120 * bench.scale(10, 2));
    }
}

on_every_backend! {
    /// Without pools, an actor that has declared collections is told what to raise, and loses nothing.
    fn an_engine_without_pools_says_what_to_raise(bench: &Bench) {
        let engine = bench.builder_for(tourbillon_market::image()).pool_bytes_per_shard(0).build().unwrap();
        assert!(engine.pools().unwrap().is_empty());
        let mut client = client(&engine);
        let error = stow(&mut client, 1, 0, 1, Ending::Well).unwrap_err();
        assert_eq!(error, CallError::PoolExhausted);
        assert!(error.to_string().contains("pool_bytes_per_shard"), "{error}");
        // What is empty can be looked at without a pool.
        assert_eq!(client.call(1, Audit {}), Ok(audited(&[], 0)));
    }
}

/// An actor that has forgotten to declare its collection.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, State)]
struct Forgetful {
    words: PoolVec<u64>,
    copy: PoolVec<u64>,
    handled: u64,
}

/// As [`Forgetful`], but declared.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, State)]
struct Careless {
    words: PoolVec<u64>,
    copy: PoolVec<u64>,
    handled: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Keep(u64);

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Add(u64);

impl Handler<Keep> for Forgetful {
    type Reply = u32;
    fn handle(&mut self, message: &Keep, context: &mut Context) -> Result<u32, NoError> {
        self.handled += 1;
        self.words.push(context, message.0)?;
        Ok(self.words.len())
    }
}

impl Handler<Add> for Careless {
    type Reply = u32;
    fn handle(&mut self, message: &Add, context: &mut Context) -> Result<u32, NoError> {
        self.words.push(context, message.0)?;
        // Shares its pages from here on, until one of the two changes.
        if message.0 == 0 {
            self.copy = self.words;
        } else {
            self.copy.get(context, 0)?;
        }
        self.handled += 1;
        Ok(self.words.len())
    }
}

actor!(Forgetful { kind: 901, error: NoError, messages: { 0: Keep } });
actor!(Careless { kind: 902, pools: true, error: NoError, messages: { 0: Add } });
system! { struct Sloppy = [Forgetful, Careless]; }

on_backends! {
    [native_1, simt_4, simt_32]
    /// Programs that are wrong get errors that say how.
    fn wrong_uses_are_named(bench: &Bench) {
        let engine = bench.builder_for(Sloppy::image()).shards(1).build().unwrap();
        let mut client = client(&engine);
        let error = client.call(1, Keep(7)).unwrap_err();
        assert_eq!(error, CallError::PoolUndeclared);
        assert!(error.to_string().contains("pools: true"), "{error}");
        let untouched = Forgetful { words: PoolVec::new(), copy: PoolVec::new(), handled: 0 };
        assert_eq!(engine.inspect::<Forgetful>(1).unwrap().unwrap().1, untouched);
        assert_eq!(client.call(1, Add(0)), Ok(1));
        // The page of the copy was given back when the original changed.
        assert_eq!(client.call(1, Add(1)), Err(CallError::PoolStale));
        assert_eq!(engine.inspect::<Careless>(1).unwrap().unwrap().1.handled, 1);
        assert_eq!(counters(&engine)[Counter::Failed as usize], 2);
    }
}

#[test]
fn pools_out_of_bounds_are_refused() {
    for bytes in [1, 511, tourbillon::config::POOL_BYTES_MAX + 1, u64::MAX] {
        let error = Engine::builder_for(tourbillon_market::image()).pool_bytes_per_shard(bytes).build().unwrap_err();
        assert!(matches!(error, EngineError::PoolBytes { bytes: told, .. } if told == bytes), "{error}");
        assert!(error.to_string().contains("768 to"), "{error}");
    }
}

/// The simplest order book.
#[derive(Debug, Default)]
struct Oracle {
    /// By price, oldest first: number and quantity.
    sides: [BTreeMap<u64, VecDeque<(u64, u64)>>; 2],
    trades: u64,
    volume: u64,
}

impl Oracle {
    fn limit(&mut self, order: &Limit) -> Result<Placed, BookError> {
        if self.find(order.order).is_some() {
            return Err(BookError::Duplicate);
        }
        let mut placed = Placed { filled: 0, rested: order.quantity, value: 0, trades: 0 };
        let side = order.side as usize;
        while placed.rested > 0 {
            let best = if side == 0 { self.sides[1].first_entry() } else { self.sides[0].last_entry() };
            let Some(mut level) = best else { break };
            let price = *level.key();
            if if side == 0 { price > order.price } else { price < order.price } {
                break;
            }
            let (_, quantity) = level.get_mut().front_mut().unwrap();
            let traded = (*quantity).min(placed.rested);
            *quantity -= traded;
            placed = Placed {
                filled: placed.filled + traded,
                rested: placed.rested - traded,
                value: placed.value + traded * price,
                trades: placed.trades + 1,
            };
            if *quantity == 0 {
                level.get_mut().pop_front();
                if level.get().is_empty() {
                    level.remove();
                }
            }
        }
        if placed.rested > 0 {
            self.sides[side].entry(order.price).or_default().push_back((order.order, placed.rested));
        }
        self.trades += placed.trades;
        self.volume += placed.filled;
        Ok(placed)
    }

    fn find(&self, order: u64) -> Option<(usize, u64)> {
        (0..2).find_map(|side| {
            let has = |(_, queue): &(&u64, &VecDeque<(u64, u64)>)| queue.iter().any(|(number, _)| *number == order);
            self.sides[side].iter().find(has).map(|(price, _)| (side, *price))
        })
    }

    fn cancel(&mut self, order: u64) -> Result<u64, BookError> {
        let (side, price) = self.find(order).ok_or(BookError::NotFound)?;
        let queue = self.sides[side].get_mut(&price).unwrap();
        let place = queue.iter().position(|(number, _)| *number == order).unwrap();
        let (_, quantity) = queue.remove(place).unwrap();
        if queue.is_empty() {
            self.sides[side].remove(&price);
        }
        Ok(quantity)
    }

    fn standing(&self) -> Standing {
        let at = |level: Option<(&u64, &VecDeque<(u64, u64)>)>| {
            level.map_or((0, 0), |(price, queue)| (*price, queue.iter().map(|(_, quantity)| quantity).sum()))
        };
        let (bid, ask) = (at(self.sides[0].last_key_value()), at(self.sides[1].first_key_value()));
        Standing {
            bid: bid.0,
            bid_quantity: bid.1,
            ask: ask.0,
            ask_quantity: ask.1,
            orders: self.sides.iter().flat_map(|side| side.values()).map(|queue| queue.len() as u64).sum(),
            trades: self.trades,
            volume: self.volume,
        }
    }
}

on_every_backend! {
    /// Random orders on a few markets of one shard, each reply compared with the oracle's.
    fn books_are_those_of_the_oracle(bench: &Bench) {
        const MARKETS: u64 = 3;
        let engine = engine(bench, 2_000);
        let mut client = client(&engine);
        let mut oracles: [Oracle; MARKETS as usize] = Default::default();
        let messages = bench.scale(6_000, 500);
        for number in 1..=messages {
            let random = mixed(number);
            let (market, oracle) = (random % MARKETS, &mut oracles[(random % MARKETS) as usize]);
            match random >> 8 & 7 {
                0 | 1 => {
                    let order = number.saturating_sub(random >> 16 & 63);
                    let expected = oracle.cancel(order).map_err(CallError::Handler);
                    assert_eq!(client.call(market, Cancel { order }), expected, "message {number}");
                }
                kind => {
                    let side = if random >> 12 & 1 == 0 { Side::Buy } else { Side::Sell };
                    let order = if kind == 7 { number.saturating_sub(9).max(1) } else { number };
                    let limit = Limit { order, side, price: 90 + (random >> 20) % 20, quantity: 1 + (random >> 32) % 50 };
                    let expected = oracle.limit(&limit).map_err(CallError::Handler);
                    assert_eq!(client.call(market, limit), expected, "message {number}: {limit:?}");
                }
            }
            if number % 16 == 0 {
                assert_eq!(client.call(market, Look {}), Ok(oracle.standing()), "message {number}");
            }
        }
        // What is taken out again is given back.
        for (market, oracle) in oracles.iter_mut().enumerate() {
            let all = oracle.sides.iter().flat_map(|side| side.values().flatten());
            for order in all.map(|(order, _)| *order).collect::<Vec<_>>() {
                let expected = oracle.cancel(order).map_err(CallError::Handler);
                assert_eq!(client.call(market as u64, Cancel { order }), expected);
            }
        }
        assert_eq!(in_use(&engine), 0);
        let malformed = Limit { order: 0, side: Side::Buy, price: 1, quantity: 1 };
        assert_eq!(client.call(1, malformed), Err(CallError::Handler(BookError::Malformed)));
    }
}
