//! A system with topics: [`Topic`], [`Feed`], which publishes prices, and [`Board`], which watches topics and remembers what came.
//!
//! A package of its own, as a user's is: its build script compiles the system for GPUs.

#![no_std]

use tourbillon::actors::topic::{Fate, Publish, Urgency};
pub use tourbillon::actors::{Topic, TopicRef};
use tourbillon::{
    ActorRef, Answered, Answers, AskError, Context, Handler, NoError, Plain, PoolVec, State, actor, system,
};

/// Most entries of a board that one reply has.
pub const READ_MAX: usize = 32;

/// A price, as it is published: small enough for the shortest letter.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Price {
    /// Tells prices apart.
    pub mark: u64,
    /// What it is.
    pub cents: u64,
}

/// News, as they are published: of another layout than a price, and longer.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Headline {
    /// Tells headlines apart.
    pub mark: u64,
    /// The text, in UTF-8, and zeros.
    pub text: [u8; 200],
}

/// Watches topics, and remembers the marks of what came, in order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, State)]
pub struct Board {
    seen: PoolVec<u64>,
    /// Not 0: marks are no longer remembered.
    counts_only: u64,
    /// Prices that came.
    pub prices: u64,
    /// The last price.
    pub last: Price,
    /// Headlines that came.
    pub headlines: u64,
}

/// Gets the prices of a topic from now on.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Watch(pub TopicRef);

/// Gets them no longer.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Forget(pub TopicRef);

/// Remembers no more marks from now on: the board counts what comes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct CountOnly {}

/// Reads what a board has seen, from an entry on.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Read {
    /// The first entry.
    pub from: u32,
}

/// What a board has seen.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Seen {
    /// All entries that there are.
    pub count: u64,
    /// Prices that came, remembered or not.
    pub prices: u64,
    /// Those from the one that was asked for on, as far as they are there, and zeros.
    pub marks: [u64; READ_MAX],
}

impl Handler<Price> for Board {
    type Reply = ();
    fn handle(&mut self, price: &Price, context: &mut Context) -> Result<(), NoError> {
        if self.counts_only == 0 {
            self.seen.push(context, price.mark)?;
        }
        self.prices += 1;
        self.last = *price;
        Ok(())
    }
}

impl Handler<Headline> for Board {
    type Reply = ();
    fn handle(&mut self, headline: &Headline, context: &mut Context) -> Result<(), NoError> {
        if self.counts_only == 0 {
            self.seen.push(context, headline.mark)?;
        }
        self.headlines += 1;
        Ok(())
    }
}

impl Handler<Watch> for Board {
    type Reply = ();
    fn handle(&mut self, watch: &Watch, context: &mut Context) -> Result<(), NoError> {
        let me = ActorRef::new(context.key());
        watch.0.subscribe::<Price>(context, me);
        Ok(())
    }
}

impl Handler<Forget> for Board {
    type Reply = ();
    fn handle(&mut self, forget: &Forget, context: &mut Context) -> Result<(), NoError> {
        let me = ActorRef::new(context.key());
        forget.0.unsubscribe::<Price>(context, me);
        Ok(())
    }
}

impl Handler<CountOnly> for Board {
    type Reply = ();
    fn handle(&mut self, _message: &CountOnly, _context: &mut Context) -> Result<(), NoError> {
        self.counts_only = 1;
        Ok(())
    }
}

impl Handler<Read> for Board {
    type Reply = Seen;
    fn handle(&mut self, read: &Read, context: &mut Context) -> Result<Seen, NoError> {
        let mut seen = Seen { count: self.seen.len().into(), prices: self.prices, marks: [0; READ_MAX] };
        for (index, mark) in (read.from..).zip(&mut seen.marks) {
            *mark = self.seen.get(context, index)?.copied().unwrap_or(0);
        }
        Ok(seen)
    }
}

actor!(Board {
    kind: 1020,
    pools: true,
    letters: true,
    error: NoError,
    messages: {
        #[outlined] 0: Price, #[outlined] 1: Headline, #[outlined] 2: Watch, #[outlined] 3: Forget, #[outlined] 4: Read,
        #[outlined] 5: CountOnly,
    },
});

/// Publishes prices one after the other: the next when the topic has said what became of the one before.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, State)]
pub struct Feed {
    topic: u64,
    /// The mark of the next price.
    pub next: u64,
    end: u64,
    urgency: u64,
    /// Prices that were accepted.
    pub accepted: u64,
    /// Prices that nobody was subscribed to.
    pub unheard: u64,
    /// Times that a price was published again, for too many waited.
    pub again: u64,
    /// Why it stopped before the end: the word of a failure, or all ones for another error; 0 where it did not.
    pub stopped: u64,
}

/// Publishes `count` prices with the marks from `first` on.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Begin {
    /// Where.
    pub topic: TopicRef,
    /// The first mark.
    pub first: u64,
    /// How many.
    pub count: u32,
    /// Whether they go before others.
    pub urgency: Urgency,
}

/// What became of a price.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Plain)]
pub struct Heard(pub Answered<Publish>);

impl Answers<Publish> for Heard {}

/// Shows the feed.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Progress {}

/// Publishes many prices at once, as one message after the other that waits for nothing: up to the letters that it may send.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Burst {
    /// Where.
    pub topic: TopicRef,
    /// The first mark; the last price is urgent.
    pub first: u64,
    /// How many, 4 at most.
    pub count: u64,
}

impl Feed {
    fn publish_next(&self, context: &mut Context) {
        if self.next < self.end {
            let urgency = if self.urgency == 0 { Urgency::Normal } else { Urgency::Urgent };
            let price = Price { mark: self.next, cents: self.next * 100 };
            TopicRef::new(self.topic).ask::<Price, Heard>(context, &price, urgency, 0);
        }
    }
}

impl Handler<Begin> for Feed {
    type Reply = ();
    fn handle(&mut self, begin: &Begin, context: &mut Context) -> Result<(), NoError> {
        self.topic = begin.topic.number();
        (self.next, self.end) = (begin.first, begin.first + u64::from(begin.count));
        (self.urgency, self.stopped) = (begin.urgency as u64, 0);
        self.publish_next(context);
        Ok(())
    }
}

impl Handler<Heard> for Feed {
    type Reply = ();
    fn handle(&mut self, heard: &Heard, context: &mut Context) -> Result<(), NoError> {
        match heard.0.result().map(|receipt| receipt.fate) {
            Ok(Fate::Accepted) => (self.accepted, self.next) = (self.accepted + 1, self.next + 1),
            Ok(Fate::NoSubscribers) => (self.unheard, self.next) = (self.unheard + 1, self.next + 1),
            Ok(Fate::QueueFull) => self.again += 1,
            Err(error) => {
                self.stopped = match error {
                    AskError::Failed(code) => code as u64,
                    _ => u64::MAX,
                };
                return Ok(());
            }
        }
        self.publish_next(context);
        Ok(())
    }
}

impl Handler<Burst> for Feed {
    type Reply = ();
    fn handle(&mut self, burst: &Burst, context: &mut Context) -> Result<(), NoError> {
        for mark in burst.first..burst.first + burst.count {
            let price = Price { mark, cents: 1 };
            match mark + 1 == burst.first + burst.count {
                true => burst.topic.publish_urgent(context, &price),
                false => burst.topic.publish(context, &price),
            }
        }
        Ok(())
    }
}

impl Handler<Progress> for Feed {
    type Reply = Feed;
    fn handle(&mut self, _progress: &Progress, _context: &mut Context) -> Result<Feed, NoError> {
        Ok(*self)
    }
}

actor!(Feed {
    kind: 1021,
    letters: true,
    error: NoError,
    messages: { #[outlined] 0: Begin, #[outlined] 1: Heard, #[outlined] 2: Burst, #[outlined] 3: Progress },
});

system! {
    /// Topics, and actors that publish and watch.
    pub struct Ticker = [Topic, Board, Feed];
}

/// The system for an engine to be built from, with its kernels for GPUs where this package was built with a device toolchain.
#[cfg(not(target_arch = "nvptx64"))]
pub fn image() -> tourbillon::SystemImage {
    Ticker::image().with_ptx(tourbillon::built_ptx!())
}
