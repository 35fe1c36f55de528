//! Far more actors than there is room for, at scale. Ignored by default, for it takes up to a minute.

use std::sync::Arc;

use tourbillon::Counter;
use tourbillon::actors::counter::{Add, Get};
use tourbillon::store::MemoryStore;
use tourbillon_tests::Bench;
use tourbillon_tests::bench::{client, counted, mixed};
use tourbillon_tests::store::settled_places;

/// Clients of the large churn.
const CHURNERS: u64 = 8;

/// Messages over keys of which some are called far more often than others (the number of calls of a key is inverse to its rank), in room
/// for a tenth of them; every reply and every sum is compared.
fn churn_at_scale(bench: &Bench, keys: u64, messages: u64) {
    let store = Arc::new(MemoryStore::default());
    let builder = bench.builder().lanes(CHURNERS as u32).arena_bytes(0).outbox_capacity(0).waiters(1024);
    let shards = builder.clone().build().unwrap().geometry().shards;
    let room = (keys / 10).div_ceil(shards.into()) as u32;
    let engine = builder.shards(shards).actors_per_shard(room).store(Arc::clone(&store)).build().unwrap();
    let began = std::time::Instant::now();
    let sums: Vec<Vec<u32>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CHURNERS)
            .map(|number| {
                let mut client = client(&engine);
                scope.spawn(move || {
                    let mut counts = vec![0u32; keys as usize];
                    let mut in_flight = std::collections::VecDeque::new();
                    let mut pipeline = client.pipeline();
                    let (mut sent, mut answered) = (0, 0);
                    while answered < messages / CHURNERS {
                        while sent < messages / CHURNERS {
                            let share = mixed(sent * CHURNERS + number) as f64 / u64::MAX as f64;
                            let rank = ((keys as f64).powf(share) as u64 - 1).min(keys - 1);
                            let count = &mut counts[rank as usize];
                            let sequence = u64::from(*count) + 1;
                            let add = Add { amount: 1, sender: number as u32, sequence };
                            if in_flight.len() >= 900 || !pipeline.push(mixed(rank), &add).unwrap() {
                                break;
                            }
                            *count += 1;
                            in_flight.push_back(sequence);
                            sent += 1;
                        }
                        let mut reply = pipeline.pop();
                        while let Some(got) = reply {
                            let sequence: u64 = in_flight.pop_front().unwrap();
                            assert_eq!(got.unwrap().last_sequence, sequence - 1, "a message was lost or overtaken");
                            answered += 1;
                            reply = pipeline.try_pop();
                        }
                    }
                    counts
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let took = began.elapsed();
    let total_of = |rank: usize| sums.iter().map(|counts| u64::from(counts[rank])).sum::<u64>();
    let mut client = client(&engine);
    let called: Vec<usize> = (0..keys as usize).filter(|rank| total_of(*rank) != 0).collect();
    for part in called.chunks(10_000) {
        let replies = client.call_many(part.iter().map(|rank| (mixed(*rank as u64), Get {})));
        for (rank, reply) in part.iter().zip(replies) {
            assert_eq!(reply, Ok(total_of(*rank)), "actor of rank {rank}");
        }
    }
    settled_places(&engine);
    let counts = engine.store_counts();
    println!(
        "{messages} messages to {} actors in room for {}: {:.1} s, {:.0} a second, {} kept, {} fetched",
        called.len(),
        u64::from(room) * u64::from(shards),
        took.as_secs_f64(),
        messages as f64 / took.as_secs_f64(),
        counts.kept,
        counts.fetched,
    );
    assert!(counts.kept > keys / 10 && counts.fetch_failures == 0);
    assert_eq!(counted(&engine, Counter::Failed), 0);
}

#[test]
#[ignore = "takes up to a minute"]
fn large_churn_gpu() {
    tourbillon_tests::bench::run(tourbillon_tests::Place::gpu(), |bench| churn_at_scale(bench, 1_000_000, 10_000_000));
}

#[test]
#[ignore = "takes some seconds"]
fn large_churn_native() {
    tourbillon_tests::bench::run(tourbillon_tests::Place::native_3(), |bench| {
        churn_at_scale(bench, 100_000, 1_000_000)
    });
}
