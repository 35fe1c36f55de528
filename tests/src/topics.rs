//! What the suites of topics share.

use std::time::Duration;

use tourbillon::actors::topic::Urgency;
use tourbillon::{Client, Engine, EngineBuilder, PublishError, Subscription, Topics};
use tourbillon_ticker::{Price, READ_MAX, Read};

use crate::Bench;

/// How long a test waits for the last letter.
pub const QUIET_TIME_MAX: Duration = Duration::from_secs(60);
/// How long a test waits for a message that has been handed out.
pub const NEXT_TIME_MAX: Duration = Duration::from_secs(15);

/// A builder for an engine with topics.
pub fn builder(bench: &Bench) -> EngineBuilder {
    bench.builder_for(tourbillon_ticker::image()).actors_per_shard(4096).lanes(16)
}

/// Waits until nothing is under way.
///
/// # Panics
/// When something still is after [`QUIET_TIME_MAX`].
pub fn quiet(engine: &Engine) {
    engine.quiesce(QUIET_TIME_MAX).expect("nothing is under way");
}

/// A price with this mark.
pub fn price(mark: u64) -> Price {
    Price { mark, cents: mark * 100 }
}

/// The marks that a board has seen.
///
/// # Panics
/// When it does not answer.
pub fn seen(client: &mut Client, board: u64) -> Vec<u64> {
    let mut marks = Vec::new();
    loop {
        let seen = client.call(board, Read { from: marks.len() as u32 }).expect("a board");
        let left = seen.count as usize - marks.len();
        marks.extend(&seen.marks[..left.min(READ_MAX)]);
        if left <= READ_MAX {
            return marks;
        }
    }
}

/// Publishes until the topic accepts it: what may be published again is.
///
/// # Panics
/// When it may not.
pub fn publish(topics: &Topics, client: &mut Client, name: &str, price: &Price, urgency: Urgency) {
    let topic = topics.topic(name).expect("a topic");
    loop {
        match topics.publish_to(client, topic, price, urgency) {
            Ok(_) => return,
            Err(PublishError::QueueFull | PublishError::MailboxFull) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// All that a subscription has got, which must be so many messages.
///
/// # Panics
/// When they are fewer or more.
pub fn drained(subscription: &mut Subscription<Price>, expected: usize) -> Vec<u64> {
    let next = |_| subscription.next_timeout(NEXT_TIME_MAX).expect("a message").message.mark;
    let marks: Vec<_> = (0..expected).map(next).collect();
    assert_eq!(subscription.try_next(), None);
    marks
}
