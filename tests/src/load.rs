//! A load whose every message is accounted for: by its replies and by the state that it leaves on the device.

use std::sync::atomic::{AtomicBool, Ordering};

use tourbillon::actors::Counter as CounterActor;
use tourbillon::actors::counter::{Add, SENDERS};
use tourbillon::{Counter, Engine};

use crate::bench::{client, counters, mixed};

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Clients, each on a thread of its own; at most [`SENDERS`].
    pub clients: u32,
    /// Actors, which all clients share.
    pub keys: u64,
    /// Messages of each client.
    pub messages: u64,
    /// Distinguishes the keys of several loads on one engine.
    pub salt: u64,
}

/// Sums stay far below 2^64 and every amount depends on the whole message: a message that is lost, doubled or changed on its way
/// cannot leave the right sum.
const AMOUNT_MASK: u64 = (1 << 24) - 1;

impl Load {
    fn key(&self, index: u64) -> u64 {
        mixed(self.salt << 32 | index)
    }

    /// Message number `number` of a client and the index of its actor: the keys in turn, each with sequence numbers from 1.
    fn message(&self, sender: u32, number: u64) -> (u64, Add) {
        let (index, sequence) = (number % self.keys, number / self.keys + 1);
        let checksum = mixed(self.key(index) ^ mixed(u64::from(sender) << 40 | sequence));
        (index, Add { amount: (checksum & AMOUNT_MASK) as u32, sender, sequence })
    }

    /// Messages of all clients.
    pub fn total(&self) -> u64 {
        u64::from(self.clients) * self.messages
    }

    /// Sends everything while `meanwhile` runs, which is told when the last client is done; then compares the actors' states and the
    /// device's counters with what was sent.
    ///
    /// The engine must be active at the end; it has handled nothing else that `before` does not count.
    ///
    /// # Panics
    /// When anything was lost, doubled, changed, or came out of order.
    pub fn run(&self, engine: &Engine, before: &[u64], meanwhile: impl FnOnce(&AtomicBool)) {
        assert!(self.clients as usize <= SENDERS);
        let done = AtomicBool::new(false);
        let sums = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..self.clients).map(|sender| scope.spawn(move || self.send(engine, sender))).collect();
            let watcher = scope.spawn(|| {
                let ended: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
                // Relaxed: nothing is read on the strength of it.
                done.store(true, Ordering::Relaxed);
                ended
            });
            meanwhile(&done);
            let ended = watcher.join().expect("the watcher only waits");
            let mut sums = vec![0u64; self.keys as usize];
            for sent in ended {
                let sent = sent.unwrap_or_else(|cause| std::panic::resume_unwind(cause));
                sums.iter_mut().zip(sent).for_each(|(sum, sent)| *sum += sent);
            }
            sums
        });
        let after = counters(engine);
        let count = |counter: Counter| after[counter as usize] - before[counter as usize];
        assert_eq!(count(Counter::Claimed), self.total(), "taken");
        assert_eq!(count(Counter::Processed), self.total(), "answered");
        assert_eq!(count(Counter::Failed), 0, "failed");
        assert_eq!(count(Counter::Activated), self.keys.min(self.messages), "activated");
        assert_eq!(count(Counter::Dropped), 0, "dropped");
        for (index, sum) in sums.into_iter().enumerate() {
            self.check_state(engine, index as u64, sum);
        }
    }

    fn check_state(&self, engine: &Engine, index: u64, sum: u64) {
        let sent = (self.messages + self.keys - 1 - index) / self.keys;
        let found = engine.inspect::<CounterActor>(self.key(index)).expect("the actor is looked at");
        let Some((_, state)) = found else {
            assert_eq!(sent, 0, "actor {index} was never activated");
            return;
        };
        assert_eq!(state.value, sum, "the sum of actor {index}");
        for (sender, last) in state.last_sequence.into_iter().enumerate() {
            let expected = if (sender as u32) < self.clients { sent } else { 0 };
            assert_eq!(u64::from(last), expected, "the last message of client {sender} at actor {index}");
        }
    }

    /// Sends one client's messages, as many at a time as the lane holds, and checks every reply; returns the sum for each actor.
    fn send(&self, engine: &Engine, sender: u32) -> Vec<u64> {
        let mut client = client(engine);
        let mut pipeline = client.pipeline::<Add>();
        let mut sums = vec![0u64; self.keys as usize];
        let mut least = vec![0u64; self.keys as usize];
        let (mut sent, mut answered) = (0, 0);
        while answered < self.messages {
            while sent < self.messages {
                let (index, add) = self.message(sender, sent);
                if !pipeline.push(self.key(index), &add).expect("the engine accepts") {
                    break;
                }
                sums[index as usize] += u64::from(add.amount);
                sent += 1;
            }
            let mut reply = pipeline.pop();
            while let Some(added) = reply {
                let added = added.unwrap_or_else(|error| panic!("message {answered} of client {sender}: {error}"));
                let (index, add) = self.message(sender, answered);
                assert_eq!(
                    added.last_sequence,
                    add.sequence - 1,
                    "client {sender} at actor {index}: lost or out of order"
                );
                let least = &mut least[index as usize];
                assert!(added.previous >= *least, "client {sender} at actor {index}: a message of its own was undone");
                *least = added.previous + u64::from(add.amount);
                answered += 1;
                reply = pipeline.try_pop();
            }
        }
        sums
    }
}
