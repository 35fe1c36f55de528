//! Topics and their subscribers, as the host keeps them: which subscribers each topic has, whatever wildcards they subscribed with.
//!
//! A topic gets a small number with its first use, so a message can carry it and a table on the device can be indexed with it. Whatever
//! comes or goes, the answer is what changes in that table, entry by entry; who applies all changes in order has the table.
//!
//! - A subscriber is in a topic's list once, however many of its filters fit, with the highest of their priorities.
//! - A change of a priority is told as a removal and an addition, one behind the other.
//! - An operation that fails changes nothing.
//! - The number of a topic that was forgotten is used again only when it was released: a message may still carry it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tourbillon_shared::pattern::{NameError, Pattern, check_name};

use super::filters::Filters;
use crate::name_index::NameIndex;

/// Most topics, those whose numbers are not released yet included: a number fits into 16 bits.
pub(crate) const TOPICS_MAX: u32 = 1 << 16;
/// Most subscriptions: as many as topics, as when each topic has one of its own.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 1 << 16;
/// Most filters of one subscriber: each is looked at when one of them goes.
pub(crate) const FILTERS_OF_ONE_MAX: usize = 256;
/// Most entries of all topics' lists together: of 8 bytes each they take 8 MiB.
pub(crate) const ENTRIES_MAX: usize = 1 << 20;

/// The higher comes first.
pub(crate) type Priority = u8;

/// A topic, numbered from 0 without gaps but for those that were forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TopicId(pub(crate) u32);

/// Who subscribes; the caller's own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SubscriberId(pub(crate) u32);

/// What changes in the list of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The subscriber, who is not in the list, comes into it.
    Added { topic: TopicId, subscriber: SubscriberId, priority: Priority },
    /// The subscriber, who is in the list, goes.
    Removed { topic: TopicId, subscriber: SubscriberId },
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TableError {
    /// The text is no topic's name, or no filter.
    #[error("`{text}`: {error}")]
    Name {
        text: String,
        #[source]
        error: NameError,
    },
    /// There is no such topic.
    #[error("there is no topic `{name}`; publish to it, or subscribe with a wildcard")]
    NoSuchTopic { name: String },
    /// The number is no forgotten topic's.
    #[error("topic number {} is in use, or free already; release one that was forgotten, once", topic.0)]
    NotForgotten { topic: TopicId },
    /// The subscriber has not subscribed so.
    #[error("subscriber {} has no subscription `{filter}`; unsubscribe with the filter that was subscribed", subscriber.0)]
    NotSubscribed { filter: String, subscriber: SubscriberId },
    /// There are as many topics as there may be.
    #[error("there are {most} topics already; forget some")]
    TooManyTopics { most: u32 },
    /// There are as many subscriptions as there may be.
    #[error("there are {most} subscriptions already; take some back, or use wildcards")]
    TooManySubscriptions { most: usize },
    /// The subscriber has as many filters as one may have.
    #[error("subscriber {} has {most} filters already; use wildcards", subscriber.0)]
    TooManyFilters { subscriber: SubscriberId, most: usize },
    /// The lists of all topics would be longer than they may be.
    #[error("the lists of all topics would have more than {most} entries; subscribe to less, or forget topics")]
    TooManyEntries { most: usize },
}

/// How much there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) topics: u32,
    pub(crate) subscriptions: usize,
    pub(crate) filters_of_one: usize,
    pub(crate) entries: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            topics: TOPICS_MAX,
            subscriptions: SUBSCRIPTIONS_MAX,
            filters_of_one: FILTERS_OF_ONE_MAX,
            entries: ENTRIES_MAX,
        }
    }
}

/// Topics and their subscribers.
#[derive(Debug, Default)]
pub(crate) struct Table {
    bounds: Bounds,
    names: NameIndex<TopicId>,
    /// By number.
    topics: Vec<Place>,
    /// Numbers that may be given.
    free: BTreeSet<u32>,
    filters: Filters,
    by_subscriber: BTreeMap<SubscriberId, BTreeMap<Arc<str>, Priority>>,
    subscriptions: usize,
    entries: usize,
}

/// What a number stands for.
#[derive(Debug)]
enum Place {
    Topic { name: Arc<str>, subscribers: BTreeMap<SubscriberId, Priority> },
    Forgotten,
    Free,
}

fn filter_in(text: &str) -> Result<Pattern<'_>, TableError> {
    Pattern::new(text).map_err(|error| TableError::Name { text: text.to_owned(), error })
}

impl Table {
    /// No topics yet, and these bounds.
    #[cfg(test)]
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// The number of a topic, if it has one.
    pub(crate) fn id_of(&self, name: &str) -> Option<TopicId> {
        self.names.get_key_value(name).map(|(_, id)| *id)
    }

    /// The name of a topic, if the number stands for one.
    pub(crate) fn name_of(&self, topic: TopicId) -> Option<&str> {
        match self.topics.get(topic.0 as usize)? {
            Place::Topic { name, .. } => Some(name),
            Place::Forgotten | Place::Free => None,
        }
    }

    /// The subscribers of a topic, the highest priority first, and by number where it is the same.
    #[cfg(test)]
    pub(crate) fn subscribers(&self, topic: TopicId) -> Vec<(SubscriberId, Priority)> {
        let mut list: Vec<_> = self.list(topic).into_iter().flatten().map(|(id, priority)| (*id, *priority)).collect();
        list.sort_by_key(|(subscriber, priority)| (std::cmp::Reverse(*priority), *subscriber));
        list
    }

    /// Whether a message to a topic of this name could have subscribers: the topic has a number, or a filter fits it.
    pub(crate) fn may_be_heard(&self, name: &str) -> bool {
        self.id_of(name).is_some() || !self.filters.subscribers(name).is_empty()
    }

    /// Whether the subscriber has a subscription.
    pub(crate) fn has_subscription(&self, subscriber: SubscriberId) -> bool {
        self.by_subscriber.contains_key(&subscriber)
    }

    fn list(&self, topic: TopicId) -> Option<&BTreeMap<SubscriberId, Priority>> {
        match self.topics.get(topic.0 as usize)? {
            Place::Topic { subscribers, .. } => Some(subscribers),
            Place::Forgotten | Place::Free => None,
        }
    }

    /// The number of a topic, the lowest free one if it is new; and what changes by that.
    ///
    /// # Errors
    /// [`TableError::Name`], [`TableError::TooManyTopics`], [`TableError::TooManyEntries`].
    pub(crate) fn topic(&mut self, name: &str) -> Result<(TopicId, Vec<Change>), TableError> {
        if let Some(topic) = self.id_of(name) {
            return Ok((topic, Vec::new()));
        }
        check_name(name).map_err(|error| TableError::Name { text: name.to_owned(), error })?;
        let number = self.free.first().copied().unwrap_or(self.topics.len() as u32);
        if number >= self.bounds.topics {
            return Err(TableError::TooManyTopics { most: self.bounds.topics });
        }
        let subscribers = self.filters.subscribers(name);
        if self.entries + subscribers.len() > self.bounds.entries {
            return Err(TableError::TooManyEntries { most: self.bounds.entries });
        }
        let (topic, name): (_, Arc<str>) = (TopicId(number), name.into());
        let added = |(subscriber, priority): (&SubscriberId, &Priority)| Change::Added {
            topic,
            subscriber: *subscriber,
            priority: *priority,
        };
        let changes = subscribers.iter().map(added).collect();
        self.entries += subscribers.len();
        self.names.insert(Arc::clone(&name), topic);
        self.free.remove(&number);
        let place = Place::Topic { name, subscribers };
        match self.topics.get_mut(number as usize) {
            Some(free) => *free = place,
            None => self.topics.push(place),
        }
        Ok((topic, changes))
    }

    /// Forgets a topic. Its number stays taken until it is [released](Self::release).
    ///
    /// # Errors
    /// [`TableError::NoSuchTopic`].
    pub(crate) fn forget(&mut self, name: &str) -> Result<(TopicId, Vec<Change>), TableError> {
        let removed = self.names.remove(name);
        let (_, topic) = removed.ok_or_else(|| TableError::NoSuchTopic { name: name.to_owned() })?;
        let mut changes = Vec::new();
        if let Some(place) = self.topics.get_mut(topic.0 as usize)
            && let Place::Topic { subscribers, .. } = std::mem::replace(place, Place::Forgotten)
        {
            self.entries -= subscribers.len();
            changes.extend(subscribers.into_keys().map(|subscriber| Change::Removed { topic, subscriber }));
        }
        if tourbillon_shared::mutant!("topics_number_used_again_at_once") {
            self.free.insert(topic.0);
        }
        Ok((topic, changes))
    }

    /// Lets the number of a forgotten topic be used again, when nothing carries it any longer.
    ///
    /// # Errors
    /// [`TableError::NotForgotten`].
    pub(crate) fn release(&mut self, topic: TopicId) -> Result<(), TableError> {
        match self.topics.get_mut(topic.0 as usize) {
            Some(place @ Place::Forgotten) => *place = Place::Free,
            _ => return Err(TableError::NotForgotten { topic }),
        }
        self.free.insert(topic.0);
        Ok(())
    }

    /// Subscribes to all topics that `filter` stands for, those to come included; or gives the subscription another priority.
    ///
    /// # Errors
    /// [`TableError::Name`], [`TableError::TooManySubscriptions`], [`TableError::TooManyFilters`], [`TableError::TooManyEntries`].
    pub(crate) fn subscribe(
        &mut self,
        filter: &str,
        subscriber: SubscriberId,
        priority: Priority,
    ) -> Result<Vec<Change>, TableError> {
        let pattern = filter_in(filter)?;
        let own = self.by_subscriber.get(&subscriber);
        let before = own.and_then(|own| own.get(filter)).copied();
        if before.is_none() {
            if self.subscriptions >= self.bounds.subscriptions {
                return Err(TableError::TooManySubscriptions { most: self.bounds.subscriptions });
            }
            let most = self.bounds.filters_of_one;
            if own.map_or(0, BTreeMap::len) >= most {
                return Err(TableError::TooManyFilters { subscriber, most });
            }
        }
        let others: Vec<_> = self.others(subscriber, filter);
        let changes = self.changes(&pattern, subscriber, |name, was| match before {
            // All filters that fit are in what it was already.
            None => Some(was.map_or(priority, |was| was.max(priority))),
            Some(_) => Some(highest(&others, name).map_or(priority, |other| other.max(priority))),
        })?;
        self.filters.insert(&pattern, subscriber, priority);
        self.by_subscriber.entry(subscriber).or_default().insert(filter.into(), priority);
        self.subscriptions += usize::from(before.is_none());
        self.apply(&changes);
        Ok(changes)
    }

    /// Takes a subscription back.
    ///
    /// # Errors
    /// [`TableError::NotSubscribed`], also for what can be no filter.
    pub(crate) fn unsubscribe(&mut self, filter: &str, subscriber: SubscriberId) -> Result<Vec<Change>, TableError> {
        if !self.by_subscriber.get(&subscriber).is_some_and(|own| own.contains_key(filter)) {
            return Err(TableError::NotSubscribed { filter: filter.to_owned(), subscriber });
        }
        let pattern = filter_in(filter)?;
        let others = self.others(subscriber, filter);
        // Less or as much as there was, so no bound is in the way.
        let changes = self.changes(&pattern, subscriber, |name, _| highest(&others, name))?;
        self.filters.remove(&pattern, subscriber);
        if let Some(own) = self.by_subscriber.get_mut(&subscriber) {
            own.remove(filter);
            if own.is_empty() {
                self.by_subscriber.remove(&subscriber);
            }
        }
        self.subscriptions -= 1;
        self.apply(&changes);
        Ok(changes)
    }

    /// Takes all subscriptions of a subscriber back; nothing happens where it has none.
    pub(crate) fn leave(&mut self, subscriber: SubscriberId) -> Vec<Change> {
        let mut topics = BTreeSet::new();
        for filter in self.by_subscriber.remove(&subscriber).unwrap_or_default().into_keys() {
            self.subscriptions -= 1;
            if let Ok(pattern) = Pattern::new(&filter) {
                self.filters.remove(&pattern, subscriber);
                topics.extend(self.names.matching(&pattern).map(|(_, topic)| *topic));
            }
        }
        let changes: Vec<_> = topics.into_iter().map(|topic| Change::Removed { topic, subscriber }).collect();
        self.apply(&changes);
        changes
    }

    /// The filters of a subscriber but one, with their priorities.
    fn others(&self, subscriber: SubscriberId, but: &str) -> Vec<(Arc<str>, Priority)> {
        let own = self.by_subscriber.get(&subscriber).into_iter().flatten();
        own.filter(|(filter, _)| &***filter != but).map(|(filter, priority)| (Arc::clone(filter), *priority)).collect()
    }

    /// What changes for a subscriber in the topics that `filter` stands for, when its priority in each shall be what `wanted` makes of the
    /// topic's name and the priority that it has.
    fn changes(
        &self,
        filter: &Pattern<'_>,
        subscriber: SubscriberId,
        wanted: impl Fn(&str, Option<Priority>) -> Option<Priority>,
    ) -> Result<Vec<Change>, TableError> {
        let (mut changes, mut entries) = (Vec::new(), self.entries);
        for (name, topic) in self.names.matching(filter) {
            let topic = *topic;
            let was = self.list(topic).and_then(|list| list.get(&subscriber)).copied();
            let is = wanted(name, was);
            if was == is {
                continue;
            }
            if was.is_some() {
                entries -= 1;
                changes.push(Change::Removed { topic, subscriber });
            }
            if let Some(priority) = is {
                entries += 1;
                changes.push(Change::Added { topic, subscriber, priority });
            }
            if entries > self.bounds.entries {
                return Err(TableError::TooManyEntries { most: self.bounds.entries });
            }
        }
        Ok(changes)
    }

    /// Does to the lists what the changes say.
    fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            let (Change::Added { topic, .. } | Change::Removed { topic, .. }) = change;
            let Some(Place::Topic { subscribers, .. }) = self.topics.get_mut(topic.0 as usize) else { continue };
            match change {
                Change::Added { subscriber, priority, .. } => {
                    subscribers.insert(*subscriber, *priority);
                    self.entries += 1;
                }
                Change::Removed { subscriber, .. } => {
                    subscribers.remove(subscriber);
                    self.entries -= 1;
                }
            }
        }
    }
}

/// The highest priority of the filters that fit a name.
fn highest(filters: &[(Arc<str>, Priority)], name: &str) -> Option<Priority> {
    let fits = |filter: &str| Pattern::new(filter).is_ok_and(|filter| filter.matches(name));
    let fitting = filters.iter().filter(|(filter, _)| fits(filter)).map(|(_, priority)| *priority);
    if tourbillon_shared::mutant!("topics_lowest_priority") { fitting.min() } else { fitting.max() }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
