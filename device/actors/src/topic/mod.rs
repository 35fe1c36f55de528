//! A topic: whoever is subscribed gets what is published, actors and clients alike.
//!
//! | message | what it does |
//! | --- | --- |
//! | [`Publish`], [`Brief`] | publishes; the reply is a [`Receipt`] |
//! | [`Subscribe`], [`Unsubscribe`] | adds and removes a subscriber |
//! | [`Show`] | how the topic stands |
//! | [`Step`] | by which the topic goes on; nobody else sends it |
//!
//! # Handing out
//! A message goes to one subscriber after the other, a few of them in each message that the topic handles, and the topic goes on by a
//! letter to itself ([`Context::go_on`]) until nothing waits. Meanwhile what comes waits in one of two queues. When the message that is
//! being handed out is with all subscribers, the first urgent one is next, or else the first other one.
//!
//! - *Exactly once.* The place in the list of subscribers is a part of the state, which changes with the letters that were sent or not
//!   at all. Who leaves is replaced by one on the same side of that place.
//! - *From when on.* Messages are numbered as they are accepted; a subscriber gets those with higher numbers than that of the last one
//!   before it came.
//! - *Without room* for a letter, in mailbox and overflow, the letter by which the topic goes on is put back in line, and the publisher
//!   whose message the topic handles gets `MailboxFull`, and nothing was published.
//! - *Clients that refuse to lose messages* get each message by the handler that accepts it, so without room in one of their outboxes
//!   nothing was published, and nobody gets it twice when it is published again. What they read is in the order of acceptance.
//! - *Stopped for good* by a failure that cannot be, a topic is helped by those who publish: one that finds a queue full
//!   hands out what its handler may.

mod messages;
mod queue;
mod topic_ref;

use tourbillon_device::shared::mailbox::LETTERS_MAX;
use tourbillon_device::shared::mutant;
use tourbillon_device::shared::outbox::NOTICES_MAX;
use tourbillon_device::{Addressee, Context, Handler, Notice, Plain, PoolVec, State, actor};

pub use self::messages::{
    BRIEF_PAYLOAD_MAX, Brief, Fate, Policy, Publish, Published, QUEUE_MAX, REFUSING_MAX, Receipt, Refusal,
    SUBSCRIBERS_MAX, Show, Standing, Step, Subscribe, TOPIC_PAYLOAD_MAX, Unsubscribe, Urgency, addressee_of,
};
use self::messages::{client_in, is_somebody};
pub use self::queue::Queue;
pub use self::topic_ref::TopicRef;

/// Most subscribers that one message looks at, so that a topic whose subscribers read another layout holds its shard up for some
/// microseconds only.
const LOOKS_MAX: u32 = 64;

/// A subscriber.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Entry {
    /// Who.
    pub who: Addressee,
    /// What it reads.
    pub layout: u64,
    /// The last message that was accepted before it came.
    pub since: u64,
}

/// A client that refuses to lose messages; nobody in free places.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Refusing {
    /// Who.
    pub who: Addressee,
    /// What it reads.
    pub layout: u64,
}

/// A topic. Its key is its number.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, State)]
pub struct Topic {
    /// Who gets messages one after the other.
    subscribers: PoolVec<Entry>,
    /// What waits and is not urgent.
    normal: Queue,
    /// What waits and is urgent.
    urgent: Queue,
    /// Clients that refuse to lose messages.
    refusing: [Refusing; REFUSING_MAX],
    accepted: u64,
    handed_out: u64,
    unheard: u64,
    refused: u64,
    unreadable: u64,
    /// Of which queue the first message is being handed out: [`NONE`](Self::NONE), or one more than an [`Urgency`].
    handing: u32,
    /// The next subscriber for it.
    next: u32,
    /// Whether a letter is under way by which the topic goes on.
    is_going: u32,
    /// How often it has begun to go on.
    round: u32,
}

/// What one message may still do.
struct Budget {
    letters: u32,
    notices: u32,
    looks: u32,
}

impl Budget {
    /// That of a message which posts so many notices besides. One letter is left by which to go on.
    #[inline(always)]
    const fn after(notices: u32) -> Self {
        Self { letters: LETTERS_MAX - 1, notices: NOTICES_MAX.saturating_sub(notices), looks: LOOKS_MAX }
    }

    /// What is left of one sort; whether there was something, of which one is gone.
    #[inline(always)]
    const fn take(left: &mut u32) -> bool {
        let is_there = *left != 0;
        *left = left.saturating_sub(1);
        is_there
    }
}

impl Topic {
    /// Nothing is being handed out.
    const NONE: u32 = 0;

    fn standing(&self) -> Standing {
        Standing {
            accepted: self.accepted,
            handed_out: self.handed_out,
            unheard: self.unheard,
            refused: self.refused,
            unreadable: self.unreadable,
            waiting: self.normal.len().wrapping_add(self.urgent.len()),
            subscribers: self.count(),
        }
    }

    /// Subscribers.
    fn count(&self) -> u32 {
        self.subscribers.len().wrapping_add(self.count_refusing())
    }

    fn count_refusing(&self) -> u32 {
        self.refusing.iter().filter(|place| is_somebody(place.who)).count() as u32
    }

    #[inline(always)]
    fn queue(&mut self, urgency: Urgency) -> &mut Queue {
        match urgency {
            Urgency::Normal => &mut self.normal,
            Urgency::Urgent => &mut self.urgent,
        }
    }

    /// Accepts a message, or says why not.
    #[inline(never)]
    fn accept(&mut self, context: &mut Context, mut message: Published) -> Result<Receipt, Refusal> {
        let subscribers = self.count();
        let not = |fate| Receipt { number: 0, fate, subscribers };
        if subscribers == 0 {
            self.unheard = self.unheard.wrapping_add(1);
            return Ok(not(Fate::NoSubscribers));
        }
        let mut budget = Budget::after(self.count_refusing());
        if self.queue(message.urgency).is_full() {
            // Whoever goes on is slow, or was stopped.
            if self.hand_out(context, &mut budget)? {
                self.is_going = 0;
            }
            if self.queue(message.urgency).is_full() {
                self.refused = self.refused.wrapping_add(1);
                return Ok(not(Fate::QueueFull));
            }
        }
        self.accepted = self.accepted.wrapping_add(1);
        message.number = self.accepted;
        self.post_to_refusing(context, &message);
        let is_first = self.is_going == 0;
        if is_first {
            self.next = 0;
            if self.hand(context, &message, &mut budget)? {
                return Ok(Receipt { number: message.number, fate: Fate::Accepted, subscribers });
            }
            self.handing = message.urgency as u32 + 1;
        }
        self.queue(message.urgency).push(context, &message)?;
        if is_first {
            self.is_going = 1;
            self.round = self.round.wrapping_add(1);
            self.go_on(context);
        }
        Ok(Receipt { number: message.number, fate: Fate::Accepted, subscribers })
    }

    #[inline(always)]
    fn go_on(&self, context: &mut Context) {
        context.go_on(&Step { round: self.round, filler: 0 });
    }

    /// Posts a message to the clients that refuse to lose it: without room for it the handler fails.
    fn post_to_refusing(&mut self, context: &mut Context, message: &Published) {
        for place in self.refusing {
            let Some(client) = client_in(place.who).filter(|client| !client.is_nobody()) else { continue };
            if place.layout != message.layout {
                self.unreadable = self.unreadable.wrapping_add(1);
            } else if context.post_bytes(client, Published::NUMBER, message.notice()).is_ok() {
                self.handed_out = self.handed_out.wrapping_add(1);
            }
        }
    }

    /// Hands out what waits, as far as the budget allows; whether nothing is left.
    #[inline(never)]
    fn hand_out(&mut self, context: &mut Context, budget: &mut Budget) -> Result<bool, Refusal> {
        loop {
            if self.handing == Self::NONE {
                self.next = 0;
                self.handing = if !self.urgent.is_empty() && !mutant!("topics_urgent_last") {
                    Urgency::Urgent as u32 + 1
                } else if !self.normal.is_empty() {
                    Urgency::Normal as u32 + 1
                } else if !self.urgent.is_empty() {
                    Urgency::Urgent as u32 + 1
                } else {
                    return Ok(true);
                };
            }
            let urgency = if self.handing == Urgency::Urgent as u32 + 1 { Urgency::Urgent } else { Urgency::Normal };
            if let Some(message) = self.queue(urgency).front(context)? {
                if !self.hand(context, &message, budget)? {
                    return Ok(false);
                }
                self.queue(urgency).pop(context)?;
            }
            self.handing = Self::NONE;
        }
    }

    /// Hands a message to the subscribers that have not got it yet, as far as the budget allows; whether all have got it.
    #[inline(never)]
    fn hand(&mut self, context: &mut Context, message: &Published, budget: &mut Budget) -> Result<bool, Refusal> {
        let count = self.subscribers.len();
        while self.next < count {
            if !Budget::take(&mut budget.looks) {
                return Ok(false);
            }
            let Some(entry) = self.subscribers.get(context, self.next)?.copied() else { break };
            let is_late = entry.since >= message.number && !mutant!("topics_late_comers_get_all");
            if is_late || (entry.layout != message.layout && !mutant!("topics_layouts_mixed")) {
                self.next = self.next.wrapping_add(1);
                self.unreadable = self.unreadable.wrapping_add(u64::from(!is_late));
                continue;
            }
            let client = client_in(entry.who);
            if !Budget::take(if client.is_some() { &mut budget.notices } else { &mut budget.letters }) {
                return Ok(false);
            }
            self.next = self.next.wrapping_add(1);
            let is_sent = match client {
                Some(client) => context.post_bytes(client, Published::NUMBER, message.notice()).is_ok(),
                None => context.tell_bytes(entry.who, message.bytes()).is_ok(),
            };
            self.handed_out = self.handed_out.wrapping_add(u64::from(is_sent));
        }
        Ok(true)
    }

    /// The place of a subscriber in the list.
    fn find(&self, context: &Context, who: Addressee) -> Result<Option<u32>, Refusal> {
        for (place, entry) in (0..).zip(self.subscribers.iter(context)) {
            if entry?.who == who {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Puts the entry at `from` in the place of that at `to`.
    fn move_entry(&mut self, context: &mut Context, from: u32, to: u32) -> Result<(), Refusal> {
        if from != to
            && let Some(entry) = self.subscribers.get(context, from)?.copied()
            && let Some(place) = self.subscribers.get_mut(context, to)?
        {
            *place = entry;
        }
        Ok(())
    }

    /// Removes a subscriber, if it is there.
    fn remove(&mut self, context: &mut Context, who: Addressee) -> Result<(), Refusal> {
        for place in self.refusing.iter_mut().filter(|place| place.who == who) {
            *place = Refusing { who: Addressee::default(), layout: 0 };
        }
        let Some(mut gap) = self.find(context, who)? else { return Ok(()) };
        if gap < self.next && !mutant!("topics_place_kept_by_removal") {
            // Those before the place have got the message, those behind it have not.
            self.next = self.next.wrapping_sub(1);
            self.move_entry(context, self.next, gap)?;
            gap = self.next;
        }
        let last = self.subscribers.len().wrapping_sub(1);
        self.move_entry(context, last, gap)?;
        self.subscribers.truncate(context, last)?;
        Ok(())
    }
}

impl Handler<Publish> for Topic {
    type Reply = Receipt;

    fn handle(&mut self, publish: &Publish, context: &mut Context) -> Result<Receipt, Refusal> {
        let message = Published::new(publish.layout, publish.length, publish.urgency, &publish.payload);
        self.accept(context, message.ok_or(Refusal::Malformed)?)
    }
}

impl Handler<Brief> for Topic {
    type Reply = Receipt;

    fn handle(&mut self, brief: &Brief, context: &mut Context) -> Result<Receipt, Refusal> {
        let message = Published::new(brief.layout, brief.length, brief.urgency, &brief.payload);
        self.accept(context, message.ok_or(Refusal::Malformed)?)
    }
}

impl Handler<Step> for Topic {
    type Reply = ();

    fn handle(&mut self, step: &Step, context: &mut Context) -> Result<(), Refusal> {
        if self.is_going != 0 && step.round == self.round {
            if self.hand_out(context, &mut Budget::after(0))? {
                self.is_going = 0;
            } else {
                self.go_on(context);
            }
        }
        Ok(())
    }
}

impl Handler<Subscribe> for Topic {
    type Reply = Standing;

    fn handle(&mut self, subscribe: &Subscribe, context: &mut Context) -> Result<Standing, Refusal> {
        let Subscribe { who, layout, policy, .. } = *subscribe;
        if !is_somebody(who) {
            return Err(Refusal::Malformed);
        }
        if policy == Policy::Refuse && client_in(who).is_some() {
            if !self.refusing.iter().any(|place| place.who == who) {
                if self.count_refusing() >= REFUSING_MAX as u32 {
                    return Err(Refusal::TooManyRefusing);
                }
                // It may have been one that does not refuse.
                self.remove(context, who)?;
                if let Some(free) = self.refusing.iter_mut().find(|place| !is_somebody(place.who)) {
                    *free = Refusing { who, layout };
                }
            }
        } else if self.find(context, who)?.is_none() {
            if self.subscribers.len() >= SUBSCRIBERS_MAX {
                return Err(Refusal::TooManySubscribers);
            }
            self.remove(context, who)?;
            self.subscribers.push(context, Entry { who, layout, since: self.accepted })?;
        }
        Ok(self.standing())
    }
}

impl Handler<Unsubscribe> for Topic {
    type Reply = Standing;

    fn handle(&mut self, unsubscribe: &Unsubscribe, context: &mut Context) -> Result<Standing, Refusal> {
        self.remove(context, unsubscribe.who)?;
        Ok(self.standing())
    }
}

impl Handler<Show> for Topic {
    type Reply = Standing;

    fn handle(&mut self, _show: &Show, _context: &mut Context) -> Result<Standing, Refusal> {
        Ok(self.standing())
    }
}

actor!(Topic {
    kind: 13,
    pools: true,
    letters: true,
    goes_on: true,
    error: Refusal,
    messages: {
        #[outlined] 0: Publish, #[outlined] 1: Brief, #[outlined] 2: Step, #[outlined] 3: Subscribe, #[outlined] 4: Unsubscribe,
        #[outlined] 5: Show,
    },
});
