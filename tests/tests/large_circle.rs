//! Two actors that send each other all that there is room for, at scale. Ignored by default, for it takes up to a minute.

use std::time::{Duration, Instant};

use tourbillon::Actor;
use tourbillon::abi::partition::{even_table, hash, partition_of};
use tourbillon::actors::courier::{Courier, Report, Roam, Route};
use tourbillon_tests::Bench;
use tourbillon_tests::bench::{client, mixed};

/// Messages that are under way: half the slots of the smallest mailbox are for letters.
const UNDER_WAY: u64 = 16;
/// How long it may take until all have made their hops.
const QUIET_TIME_MAX: Duration = Duration::from_secs(80);

/// `messages` between two actors in mailboxes and overflows of the smallest size: each is in a state, and each shard has taken what
/// was sent to it.
fn circle_at_scale(bench: &Bench, messages: u64) {
    let builder = bench.builder_for(tourbillon_bank::image()).actors_per_shard(64);
    let engine = builder.mailbox_capacity(32).overflow_capacity(32).build().unwrap();
    let mut client = client(&engine);
    // The other one of the pair is in another shard.
    let table = even_table(engine.geometry().shards);
    let shard = |key: u64| table[partition_of(hash(Courier::KIND, key))];
    let other = (1u32..).find(|key| shard((*key).into()) != shard(0)).unwrap();
    let hops = (messages / UNDER_WAY - 1) as u32;
    let began = Instant::now();
    for roam in 0..UNDER_WAY {
        let from = if roam % 2 == 0 { 0 } else { other.into() };
        client.call(from, Roam::new(hops, Route::Pair, 2 * other, mixed(roam))).unwrap();
    }
    let traffic = engine.quiesce(QUIET_TIME_MAX).unwrap();
    let took = began.elapsed();
    let received: u64 = [0, other.into()].map(|key: u64| client.call(key, Report {}).unwrap().received).iter().sum();
    assert_eq!(received, messages);
    let mailboxes = engine.mailboxes().unwrap();
    let sum = |figure: fn(&tourbillon::MailboxUsage) -> u64| mailboxes.iter().map(figure).sum::<u64>();
    assert_eq!(sum(|mailbox| mailbox.sent), traffic.letters);
    assert_eq!(sum(|mailbox| mailbox.received), traffic.letters);
    let mut busy = 0;
    for (shard, mailbox) in mailboxes.iter().enumerate() {
        assert_eq!(mailbox.slots_put, mailbox.slots_taken, "shard {shard}: {mailbox:?}");
        busy += u32::from(mailbox.received != 0);
    }
    println!(
        "{messages} messages between two actors of {busy} shard(s), {UNDER_WAY} under way: {:.1} s, {:.0} a second, {} by way of an \
         overflow",
        took.as_secs_f64(),
        messages as f64 / took.as_secs_f64(),
        sum(|mailbox| mailbox.overflowed),
    );
    assert_eq!(busy, 2, "the two actors were to be in different shards");
}

#[test]
#[ignore = "takes up to a minute"]
fn large_circle_gpu() {
    tourbillon_tests::bench::run(tourbillon_tests::Place::gpu(), |bench| circle_at_scale(bench, 100_000_000));
}

#[test]
#[ignore = "takes some seconds"]
fn large_circle_native() {
    tourbillon_tests::bench::run(tourbillon_tests::Place::native_3(), |bench| circle_at_scale(bench, 1_000_000));
}
