//! Topics: whoever is subscribed to one gets what is published to it, actors and host code alike.
//!
//! A topic is an actor, [`Topic`], which the system lists as its others; the messages that it handles, and what they promise, are in
//! [`crate::actors::topic`]. Here is what a host adds: names, filters with wildcards ([`tourbillon_shared::pattern`]), and
//! subscriptions that are read.
//!
//! - A filter stands for all topics whose names fit, those to come included. The host keeps who subscribed to what (`table`), and tells
//!   each topic who comes and who goes, in order, by a client of its own under one lock.
//! - However many of its filters fit a topic, a subscriber is there once, and gets each message once.
//! - A topic comes into being when it is [asked for](Topics::topic), or published to while a filter fits. Its number stays the same for as
//!   long as the engine lives.
//!
//! `docs/topics.md` has examples.

mod error;
mod filters;
mod subscription;
#[cfg(feature = "async")]
mod subscription_stream;
mod table;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tourbillon_actors::Topic;
use tourbillon_actors::topic::{
    Brief, Fate, Policy, Publish, Receipt, Refusal, Show, Standing, Subscribe, TOPIC_PAYLOAD_MAX, TopicRef,
    Unsubscribe, Urgency, addressee_of,
};
use tourbillon_device::{Actor, ActorRef, Addressee, Message, Plain};
use tourbillon_shared::mutant;
use tourbillon_shared::pattern::check_name;

use self::table::{Change, SubscriberId, Table, TopicId};
use crate::call_error::CallError;
use crate::client::Client;
use crate::error::EngineError;
use crate::keys::Key;
use crate::outbox::{Outbox, OutboxPolicy};
use crate::shared::Shared;
use crate::wait::WaitStrategy;

pub use error::{PublishError, TopicsError};
pub use subscription::{Publication, Subscription};
#[cfg(feature = "async")]
pub use subscription_stream::SubscriptionStream;

/// Most changes that are told to topics at once: enough that a lane is busy, few enough that those of a refused subscription are taken back
/// soon.
const CHANGES_AT_ONCE: usize = 256;
/// Of all subscriptions: which of two subscribers gets a message first is not theirs to say.
const PRIORITY: table::Priority = 0;

/// The topics of an engine. Clones are the same topics, for any thread.
#[derive(Clone)]
pub struct Topics {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    wait: WaitStrategy,
    batch_limit: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    table: Table,
    subscribers: HashMap<SubscriberId, Subscribe>,
    ids: HashMap<Addressee, SubscriberId>,
    /// The subscriber before the next.
    last: u32,
    /// Who tells topics of changes, once there was one.
    client: Option<Client>,
}

impl fmt::Debug for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topics").field("system", &self.inner.shared.image.name).finish_non_exhaustive()
    }
}

impl Topics {
    pub(crate) fn new(shared: Arc<Shared>, wait: WaitStrategy, batch_limit: u32) -> Self {
        Self { inner: Arc::new(Inner { shared, wait, batch_limit, state: Mutex::default() }) }
    }

    /// Every step leaves the state whole, or such that what is told twice does no harm.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self) -> Result<Client, EngineError> {
        let Inner { shared, wait, batch_limit, .. } = &*self.inner;
        Client::connect(shared, *wait, *batch_limit)
    }

    fn check(&self) -> Result<(), TopicsError> {
        let image = &self.inner.shared.image;
        match image.kinds.iter().any(|kind| kind.number == Topic::KIND) {
            true => Ok(()),
            false => Err(TopicsError::NoTopics { system: image.name }),
        }
    }

    /// The topic of this name, for actors and for [`publish_to`](Self::publish_to). It comes into being if it is not there.
    ///
    /// # Errors
    /// [`TopicsError`].
    pub fn topic(&self, name: &str) -> Result<TopicRef, TopicsError> {
        self.check()?;
        let mut state = self.lock();
        state.topic(self, name)
    }

    /// The topic of this name, if it is there.
    ///
    /// # Errors
    /// [`TopicsError::NoSuchTopic`].
    pub fn find(&self, name: &str) -> Result<TopicRef, TopicsError> {
        match self.lock().table.id_of(name) {
            Some(topic) => Ok(reference(topic)),
            None => Err(TopicsError::NoSuchTopic { name: name.to_owned() }),
        }
    }

    /// The name of a topic; nothing when it has none.
    pub fn name_of(&self, topic: TopicRef) -> Option<Arc<str>> {
        let number = u32::try_from(topic.number()).ok()?;
        self.lock().table.name_of(TopicId(number)).map(Arc::from)
    }

    /// Has the actor at `key` get, as its message `M`, what is published to all topics that `filter` stands for, from now on. What has
    /// another layout than `M` it does not get; the topic counts that ([`Standing::unreadable`]).
    ///
    /// Returns when all topics know of it. One that does so already gets nothing twice.
    ///
    /// # Errors
    /// [`TopicsError`].
    pub fn subscribe_actor<M: Message>(&self, filter: &str, key: impl Into<Key>) -> Result<(), TopicsError> {
        self.check()?;
        let image = &self.inner.shared.image;
        let kind = <M::Actor as Actor>::KIND;
        if !image.kinds.iter().any(|known| known.number == kind) {
            return Err(TopicsError::NoSuchKind { system: image.name, kind, name: <M::Actor as Actor>::NAME });
        }
        let mut state = self.lock();
        let subscriber = state.subscriber(Subscribe::of::<M>(message_of::<M>(key.into()), Policy::Drop))?;
        let joined = state.join(self, filter, subscriber);
        state.forget_without_subscription(subscriber);
        joined
    }

    /// Takes a subscription of an actor back: what is not handed out to it yet it does not get, unless another filter of it fits.
    ///
    /// # Errors
    /// [`TopicsError`].
    pub fn unsubscribe_actor<M: Message>(&self, filter: &str, key: impl Into<Key>) -> Result<(), TopicsError> {
        self.check()?;
        let mut state = self.lock();
        let not_subscribed = || TopicsError::NotSubscribed { filter: filter.to_owned() };
        let subscriber = state.ids.get(&message_of::<M>(key.into())).copied().ok_or_else(not_subscribed)?;
        let parted = state.part(self, filter, subscriber);
        state.forget_without_subscription(subscriber);
        parted
    }

    /// Subscribes this program to all topics that `filter` stands for, from now on; `policy` says what becomes of a message for which the
    /// subscription has no room, because nobody reads it.
    ///
    /// - [`OutboxPolicy::Drop`]: it is lost, and counted ([`Subscription::counts`]). Others get it.
    /// - [`OutboxPolicy::Refuse`]: it is not published, its publisher gets [`PublishError::SubscriberFull`], and nobody gets it. A
    ///   topic has [`REFUSING_MAX`](crate::actors::topic::REFUSING_MAX) such subscribers at most.
    ///
    /// It takes one of the engine's lanes ([`EngineBuilder::lanes`](crate::EngineBuilder::lanes)) until it is dropped, which takes it back.
    /// Room is [`outbox_capacity`](crate::EngineBuilder::outbox_capacity) slots; a message of up to 40 bytes takes two, the longest
    /// six.
    ///
    /// # Errors
    /// [`TopicsError`].
    pub fn subscribe<P: Plain>(&self, filter: &str, policy: OutboxPolicy) -> Result<Subscription<P>, TopicsError> {
        self.check()?;
        let outbox: Outbox = self.connect()?.outbox(policy)?;
        let policy = match policy {
            OutboxPolicy::Drop => Policy::Drop,
            OutboxPolicy::Refuse => Policy::Refuse,
        };
        let who = addressee_of(outbox.address());
        let mut state = self.lock();
        let subscriber = state.subscriber(Subscribe::of::<P>(who, policy))?;
        let joined = state.join(self, filter, subscriber);
        state.forget_without_subscription(subscriber);
        drop(state);
        joined.map(|()| Subscription::new(self.clone(), subscriber, outbox))
    }

    /// Publishes a message, of up to 224 bytes, to the topic of this name; what the topic says of it.
    ///
    /// When it returns without an error every subscriber of that moment gets the message, or has got it: exactly once, behind what was
    /// published before it with the same urgency.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn publish<P: Plain>(&self, client: &mut Client, name: &str, message: &P) -> Result<Receipt, PublishError> {
        self.publish_to(client, self.heard(name)?, message, Urgency::Normal)
    }

    /// As [`publish`](Self::publish), before all that wait in the topic and are not urgent.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn publish_urgent<P: Plain>(
        &self,
        client: &mut Client,
        name: &str,
        message: &P,
    ) -> Result<Receipt, PublishError> {
        self.publish_to(client, self.heard(name)?, message, Urgency::Urgent)
    }

    /// As [`publish`](Self::publish), to a topic that was asked for before: without a look at names, and without a lock.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn publish_to<P: Plain>(
        &self,
        client: &mut Client,
        topic: TopicRef,
        message: &P,
        urgency: Urgency,
    ) -> Result<Receipt, PublishError> {
        self.check()?;
        let receipt = match Brief::of(message, urgency) {
            Some(brief) => client.call(topic.number(), brief)?,
            None => client.call(topic.number(), Publish::of(message, urgency))?,
        };
        match receipt.fate {
            Fate::Accepted => Ok(receipt),
            Fate::NoSubscribers => Err(PublishError::NoSubscribers),
            Fate::QueueFull => Err(PublishError::QueueFull),
        }
    }

    /// How a topic stands: messages, subscribers, and what was refused.
    ///
    /// # Errors
    /// [`PublishError`], as for publishing.
    pub fn standing(&self, client: &mut Client, topic: TopicRef) -> Result<Standing, PublishError> {
        self.check()?;
        Ok(client.call(topic.number(), Show {})?)
    }

    /// The topic that somebody publishes to.
    fn heard(&self, name: &str) -> Result<TopicRef, PublishError> {
        self.check()?;
        let mut state = self.lock();
        if check_name(name).is_ok() && !state.table.may_be_heard(name) {
            // A name that is wrong by a letter takes no number.
            return Err(PublishError::NoSubscribers);
        }
        Ok(state.topic(self, name)?)
    }
}

/// A topic as actors know it.
fn reference(topic: TopicId) -> TopicRef {
    TopicRef::new(topic.0.into())
}

/// The message `M` of the actor at `key`.
fn message_of<M: Message>(key: Key) -> Addressee {
    const { assert!(size_of::<M>() <= TOPIC_PAYLOAD_MAX, "what is published has 224 bytes at most") };
    Addressee { kind: key.kind_word(<M::Actor as Actor>::KIND), ..Addressee::of::<M>(ActorRef::new(key.number())) }
}

impl State {
    /// The number of a subscriber, a new one if it has none.
    fn subscriber(&mut self, subscribe: Subscribe) -> Result<SubscriberId, TopicsError> {
        if let Some(known) = self.ids.get(&subscribe.who) {
            return Ok(*known);
        }
        let most = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
        self.last = self.last.checked_add(1).ok_or(TopicsError::TooManySubscriptions { most })?;
        let subscriber = SubscriberId(self.last);
        self.ids.insert(subscribe.who, subscriber);
        self.subscribers.insert(subscriber, subscribe);
        Ok(subscriber)
    }

    /// Forgets the number of a subscriber that has no subscription.
    fn forget_without_subscription(&mut self, subscriber: SubscriberId) {
        if !self.table.has_subscription(subscriber)
            && let Some(subscribe) = self.subscribers.remove(&subscriber)
        {
            self.ids.remove(&subscribe.who);
        }
    }

    fn topic(&mut self, topics: &Topics, name: &str) -> Result<TopicRef, TopicsError> {
        let (topic, changes) = self.table.topic(name)?;
        if let Err(error) = self.tell(topics, &changes) {
            // It was never there: nobody else has its number.
            let _ = self.table.forget(name).map(|(topic, _)| self.table.release(topic));
            return Err(error);
        }
        Ok(reference(topic))
    }

    fn join(&mut self, topics: &Topics, filter: &str, subscriber: SubscriberId) -> Result<(), TopicsError> {
        let changes = self.table.subscribe(filter, subscriber, PRIORITY)?;
        self.tell(topics, &changes).inspect_err(|_| {
            let _ = self.table.unsubscribe(filter, subscriber);
        })
    }

    fn part(&mut self, topics: &Topics, filter: &str, subscriber: SubscriberId) -> Result<(), TopicsError> {
        let changes = self.table.unsubscribe(filter, subscriber)?;
        self.tell(topics, &changes).inspect_err(|_| {
            let _ = self.table.subscribe(filter, subscriber, PRIORITY);
        })
    }

    /// Takes all subscriptions of a subscriber back, and waits for nobody: as far as the engine still takes messages.
    fn leave_all(&mut self, subscriber: SubscriberId) {
        let changes = self.table.leave(subscriber);
        if let (Some(subscribe), Some(client)) = (self.subscribers.get(&subscriber), &mut self.client) {
            for change in changes {
                let (Change::Added { topic, .. } | Change::Removed { topic, .. }) = change;
                if client.send(reference(topic).number(), Unsubscribe { who: subscribe.who }).is_err() {
                    break;
                }
            }
        }
        self.forget_without_subscription(subscriber);
    }

    /// Tells topics of changes that the table has made, of which each is of another topic or subscriber; when one of them does not
    /// take its change, what the others took is taken back, and the caller takes back what the table did.
    fn tell(&mut self, topics: &Topics, changes: &[Change]) -> Result<(), TopicsError> {
        let at_once = CHANGES_AT_ONCE.min(topics.inner.batch_limit.max(1) as usize);
        for (chunk, some) in changes.chunks(at_once).enumerate() {
            let answers = self.tell_some(topics, some, false)?;
            let refused = some.iter().zip(answers).find_map(|(change, answer)| Some((*change, answer.err()?)));
            let Some((change, error)) = refused else { continue };
            let (Change::Added { topic, .. } | Change::Removed { topic, .. }) = change;
            let name = self.table.name_of(topic).unwrap_or_default().into();
            let told = changes.len().min((chunk + 1) * at_once);
            for undone in changes.get(..told).unwrap_or_default().chunks(at_once) {
                if mutant!("topics_half_subscribed") {
                    break;
                }
                // Who does not answer now has not answered before, or the engine has ended.
                let _ = self.tell_some(topics, undone, true);
            }
            return Err(TopicsError::of_call(name, error));
        }
        Ok(())
    }

    /// Tells topics of changes, or of their opposites.
    fn tell_some(
        &mut self,
        topics: &Topics,
        changes: &[Change],
        is_opposite: bool,
    ) -> Result<Vec<Result<Standing, CallError<Refusal>>>, TopicsError> {
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(topics.connect()?),
        };
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        let mut is_added = Vec::with_capacity(changes.len());
        for change in changes {
            let (Change::Added { topic, subscriber, .. } | Change::Removed { topic, subscriber }) = *change;
            let Some(subscribe) = self.subscribers.get(&subscriber) else { continue };
            let adds = matches!(change, Change::Added { .. }) != is_opposite;
            is_added.push(adds);
            match adds {
                true => added.push((reference(topic).number(), *subscribe)),
                false => removed.push((reference(topic).number(), Unsubscribe { who: subscribe.who })),
            }
        }
        let mut added = client.call_many(added).into_iter();
        let mut removed = client.call_many(removed).into_iter();
        let next = |adds: bool| if adds { added.next() } else { removed.next() };
        Ok(is_added.into_iter().filter_map(next).collect())
    }
}
