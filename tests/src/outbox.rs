//! Heralds and those who listen to them.

use tourbillon::actors::Herald;
use tourbillon::actors::herald::{News, Subscribe};
use tourbillon::{Client, Engine, Outbox, OutboxPolicy, Received};

use crate::bench::{REPLY_TIME_MAX, client};

/// A client with an open outbox to which the heralds `keys` are subscribed.
///
/// # Panics
/// When there is no lane, no outbox, or no place in a herald's list.
pub fn subscribed(engine: &Engine, policy: OutboxPolicy, keys: &[u64]) -> (Client, Outbox) {
    let mut client = client(engine);
    let outbox = client.outbox(policy).expect("an outbox");
    for key in keys {
        client.call(*key, Subscribe { subscriber: outbox.address() }).expect("subscribed");
    }
    (client, outbox)
}

/// The next notice.
///
/// # Panics
/// When none comes within [`REPLY_TIME_MAX`].
pub fn next(outbox: &mut Outbox) -> Received {
    outbox.next_timeout(REPLY_TIME_MAX).expect("a notice")
}

/// The news in a notice.
///
/// # Panics
/// When it is something else.
pub fn news(received: &Received) -> News {
    received.decode::<News>().expect("news")
}

/// What a herald remembers.
///
/// # Panics
/// When it was never told anything, or cannot be read.
pub fn herald(engine: &Engine, key: u64) -> Herald {
    engine.inspect::<Herald>(key).expect("readable").expect("active").1
}
