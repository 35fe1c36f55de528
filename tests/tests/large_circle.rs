//! Pairs of actors that send each other all that there is room for, at scale. Ignored by default, for it takes some seconds.

use std::time::{Duration, Instant};

use tourbillon::actors::courier::{Report, Roam, Route};
use tourbillon_tests::Bench;
use tourbillon_tests::bench::{client, mixed};

/// Messages that are under way in each. The smallest mailbox has room for twelve letters, and the smallest overflow for 32.
const UNDER_WAY: u64 = 4;
/// How long it may take until all have made their hops.
const QUIET_TIME_MAX: Duration = Duration::from_secs(80);

/// `messages` between pairs of actors in mailboxes and overflows of the smallest size: each is in a state, and each shard has taken what
/// was sent to it.
fn circles_at_scale(bench: &Bench, messages: u64) {
    let builder = bench.builder_for(tourbillon_bank::image()).actors_per_shard(256);
    let engine = builder.mailbox_capacity(32).overflow_capacity(32).build().unwrap();
    let mut client = client(&engine);
    // About one actor a shard.
    let pairs = 1u32 << (engine.geometry().shards / 2).max(1).ilog2();
    let roams = UNDER_WAY * u64::from(pairs);
    let hops = (messages.div_ceil(roams) - 1) as u32;
    let began = Instant::now();
    // The other one of a pair has a key that is higher by their number.
    for roam in 0..roams {
        client.call(roam % (2 * u64::from(pairs)), Roam::new(hops, Route::Pair, 2 * pairs, mixed(roam))).unwrap();
    }
    let traffic = engine.quiesce(QUIET_TIME_MAX).unwrap();
    let took = began.elapsed();
    let received: u64 = (0..2 * u64::from(pairs)).map(|key| client.call(key, Report {}).unwrap().received).sum();
    let messages = roams * (u64::from(hops) + 1);
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
        "{messages} messages between {pairs} pairs of actors in {busy} shards, {roams} under way: {:.1} s, {:.0} a second, {} by way of an \
         overflow",
        took.as_secs_f64(),
        messages as f64 / took.as_secs_f64(),
        sum(|mailbox| mailbox.overflowed),
    );
    assert!(busy > 1, "all actors are in one shard");
}

#[test]
#[ignore = "takes some seconds"]
fn large_circle_gpu() {
    tourbillon_tests::bench::run(tourbillon_tests::Place::gpu(), |bench| circles_at_scale(bench, 100_000_000));
}

#[test]
#[ignore = "takes some seconds"]
fn large_circle_native() {
    tourbillon_tests::bench::run(tourbillon_tests::Place::native_3(), |bench| circles_at_scale(bench, 1_000_000));
}
