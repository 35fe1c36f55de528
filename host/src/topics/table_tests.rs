//! Topics and their changes, against a list of subscriptions that is searched whole.

use super::*;

use proptest::prelude::*;

/// The table that a device would have: made of changes alone.
#[derive(Debug, Default, PartialEq, Eq)]
struct Applied {
    lists: BTreeMap<TopicId, BTreeMap<SubscriberId, Priority>>,
}

impl Applied {
    /// Applies changes that must fit what there is.
    fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match *change {
                Change::Added { topic, subscriber, priority } => {
                    let before = self.lists.entry(topic).or_default().insert(subscriber, priority);
                    assert_eq!(before, None, "{change:?}");
                }
                Change::Removed { topic, subscriber } => {
                    let list = self.lists.get_mut(&topic).expect("a list with a subscriber");
                    assert!(list.remove(&subscriber).is_some(), "{change:?}");
                    if list.is_empty() {
                        self.lists.remove(&topic);
                    }
                }
            }
        }
    }
}

/// The rules as they are written down.
#[derive(Clone, Debug, Default)]
struct Oracle {
    topics: BTreeMap<String, TopicId>,
    forgotten: BTreeSet<TopicId>,
    subscriptions: Vec<(String, SubscriberId, Priority)>,
}

fn fits(pattern: &[&str], name: &[&str]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        (["**", rest @ ..], _) => (0..=name.len()).any(|taken| fits(rest, &name[taken..])),
        ([first, rest @ ..], [segment, others @ ..]) => (*first == "*" || first == segment) && fits(rest, others),
        _ => false,
    }
}

impl Oracle {
    fn list(&self, name: &str) -> BTreeMap<SubscriberId, Priority> {
        let name: Vec<&str> = name.split('/').collect();
        let mut list = BTreeMap::new();
        for (filter, subscriber, priority) in &self.subscriptions {
            if fits(&filter.split('/').collect::<Vec<_>>(), &name) {
                let highest = list.entry(*subscriber).or_insert(0);
                *highest = (*priority).max(*highest);
            }
        }
        list
    }

    fn entries(&self) -> usize {
        self.topics.keys().map(|name| self.list(name).len()).sum()
    }

    fn subscribe(&mut self, filter: &str, subscriber: SubscriberId, priority: Priority) {
        self.unsubscribe(filter, subscriber);
        self.subscriptions.push((filter.to_owned(), subscriber, priority));
    }

    fn unsubscribe(&mut self, filter: &str, subscriber: SubscriberId) -> bool {
        let before = self.subscriptions.len();
        self.subscriptions.retain(|(has, who, _)| !(has == filter && *who == subscriber));
        self.subscriptions.len() < before
    }

    fn table(&self) -> Applied {
        let lists = self.topics.iter().map(|(name, topic)| (*topic, self.list(name)));
        Applied { lists: lists.filter(|(_, list)| !list.is_empty()).collect() }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Topic(String),
    Forget(String),
    Release(u32),
    Subscribe(String, u32, u8),
    Unsubscribe(String, u32),
    Leave(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let name = || "(a|b)(/(a|b|c)){0,2}";
    let filter = || "(a|b|\\*|\\*\\*)(/(a|b|c|\\*|\\*\\*)){0,2}";
    prop_oneof![
        4 => name().prop_map(Step::Topic),
        1 => name().prop_map(Step::Forget),
        1 => (0..6u32).prop_map(Step::Release),
        6 => (filter(), 0..4u32, 0..3u8).prop_map(|(filter, who, priority)| Step::Subscribe(filter, who, priority)),
        2 => (filter(), 0..4u32).prop_map(|(filter, who)| Step::Unsubscribe(filter, who)),
        1 => (0..4u32).prop_map(Step::Leave),
    ]
}

/// One step in both; what changes, or why nothing does.
fn take(topics: &mut Table, oracle: &mut Oracle, step: &Step) -> Result<Vec<Change>, TableError> {
    let bounds = topics.bounds;
    match step {
        Step::Topic(name) => {
            let known = oracle.topics.get(name).copied();
            let taken: BTreeSet<TopicId> = oracle.topics.values().chain(&oracle.forgotten).copied().collect();
            let lowest = (0..).map(TopicId).find(|topic| !taken.contains(topic)).unwrap();
            let mut with = oracle.clone();
            with.topics.insert(name.clone(), known.unwrap_or(lowest));
            let expected = if known.is_none() && lowest.0 >= bounds.topics {
                Err(TableError::TooManyTopics { most: bounds.topics })
            } else if with.entries() > bounds.entries {
                Err(TableError::TooManyEntries { most: bounds.entries })
            } else {
                *oracle = with;
                Ok(known.unwrap_or(lowest))
            };
            let got = topics.topic(name);
            assert_eq!(got.as_ref().map(|(topic, _)| *topic), expected.as_ref().copied());
            assert_eq!(got.as_ref().err(), expected.as_ref().err());
            got.map(|(_, changes)| changes)
        }
        Step::Forget(name) => {
            let known = oracle.topics.remove(name);
            oracle.forgotten.extend(known);
            let got = topics.forget(name);
            assert_eq!(got.as_ref().ok().map(|(topic, _)| *topic), known);
            got.map(|(_, changes)| changes)
        }
        Step::Release(number) => {
            let topic = TopicId(*number);
            assert_eq!(topics.release(topic).is_ok(), oracle.forgotten.remove(&topic));
            Ok(Vec::new())
        }
        Step::Subscribe(filter, who, priority) => {
            let who = SubscriberId(*who);
            let is_new = !oracle.subscriptions.iter().any(|(has, one, _)| has == filter && *one == who);
            let own = oracle.subscriptions.iter().filter(|(_, one, _)| *one == who).count();
            let mut with = oracle.clone();
            with.subscribe(filter, who, *priority);
            let expected = if is_new && oracle.subscriptions.len() >= bounds.subscriptions {
                Err(TableError::TooManySubscriptions { most: bounds.subscriptions })
            } else if is_new && own >= bounds.filters_of_one {
                Err(TableError::TooManyFilters { subscriber: who, most: bounds.filters_of_one })
            } else if with.entries() > bounds.entries {
                Err(TableError::TooManyEntries { most: bounds.entries })
            } else {
                *oracle = with;
                Ok(())
            };
            let got = topics.subscribe(filter, who, *priority);
            assert_eq!(got.as_ref().map(|_| ()), expected.as_ref().copied());
            got
        }
        Step::Unsubscribe(filter, who) => {
            let who = SubscriberId(*who);
            let was_there = oracle.unsubscribe(filter, who);
            let got = topics.unsubscribe(filter, who);
            assert_eq!(got.is_ok(), was_there);
            got
        }
        Step::Leave(who) => {
            oracle.subscriptions.retain(|(_, one, _)| one.0 != *who);
            Ok(topics.leave(SubscriberId(*who)))
        }
    }
}

proptest! {
    /// After each step the table made of changes, the lists, and what a search of all subscriptions finds are the same; a refused step
    /// is refused for its bound, and changes nothing.
    #[test]
    fn changes_lead_to_what_a_search_finds(
        steps in proptest::collection::vec(step(), 1..60),
        (most_topics, subscriptions, filters_of_one, entries) in (2..12u32, 2..14usize, 1..6usize, 3..40usize),
    ) {
        let mut topics = Table::new(Bounds { topics: most_topics, subscriptions, filters_of_one, entries });
        let (mut oracle, mut table) = (Oracle::default(), Applied::default());
        for step in &steps {
            if let Ok(changes) = take(&mut topics, &mut oracle, step) {
                table.apply(&changes);
            }
            prop_assert_eq!(&table, &oracle.table(), "{:?}", step);
            prop_assert_eq!((topics.entries, topics.subscriptions), (oracle.entries(), oracle.subscriptions.len()));
            for (name, topic) in &oracle.topics {
                prop_assert_eq!(topics.id_of(name), Some(*topic));
                prop_assert_eq!(topics.name_of(*topic), Some(name.as_str()));
                let mut expected: Vec<_> = oracle.list(name).into_iter().collect();
                expected.sort_by_key(|(subscriber, priority)| (255 - priority, *subscriber));
                prop_assert_eq!(topics.subscribers(*topic), expected);
            }
        }
        for subscriber in 0..4 {
            table.apply(&topics.leave(SubscriberId(subscriber)));
        }
        prop_assert_eq!(table, Applied::default());
        prop_assert!(topics.filters.is_empty() && topics.by_subscriber.is_empty() && topics.subscriptions == 0);
    }
}

const ALICE: SubscriberId = SubscriberId(1);
const BOB: SubscriberId = SubscriberId(2);

#[test]
fn a_subscriber_is_in_a_list_once_with_its_highest_priority() {
    let mut topics = Table::default();
    let (topic, changes) = topics.topic("price/eu/1").unwrap();
    assert_eq!((topic, changes), (TopicId(0), vec![]));
    let added = |subscriber, priority| Change::Added { topic, subscriber, priority };
    let removed = |subscriber| Change::Removed { topic, subscriber };
    assert_eq!(topics.subscribe("price/**", ALICE, 1), Ok(vec![added(ALICE, 1)]));
    assert_eq!(topics.subscribe("price/*/1", ALICE, 1), Ok(vec![]));
    assert_eq!(topics.subscribe("**", ALICE, 7), Ok(vec![removed(ALICE), added(ALICE, 7)]));
    assert_eq!(topics.subscribe("**", BOB, 9), Ok(vec![added(BOB, 9)]));
    assert_eq!(topics.subscribers(topic), [(BOB, 9), (ALICE, 7)]);
    // The same subscription with less: the others count again.
    assert_eq!(topics.subscribe("**", ALICE, 0), Ok(vec![removed(ALICE), added(ALICE, 1)]));
    assert_eq!(topics.unsubscribe("price/**", ALICE), Ok(vec![]));
    assert_eq!(topics.unsubscribe("price/*/1", ALICE), Ok(vec![removed(ALICE), added(ALICE, 0)]));
    assert_eq!(topics.leave(ALICE), [removed(ALICE)]);
    assert_eq!((topics.leave(ALICE), topics.subscribers(topic)), (vec![], vec![(BOB, 9)]));
    // Subscriptions hold for topics to come.
    let (other, changes) = topics.topic("news").unwrap();
    assert_eq!((other, changes), (TopicId(1), vec![Change::Added { topic: other, subscriber: BOB, priority: 9 }]));
    assert_eq!(topics.topic("news"), Ok((other, vec![])));
}

/// A message under way may carry the number of a topic that was forgotten: it must not reach the subscribers of another.
#[test]
fn a_number_is_used_again_when_it_was_released() {
    let mut topics = Table::new(Bounds { topics: 3, ..Bounds::default() });
    topics.subscribe("**", ALICE, 0).unwrap();
    for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
        assert_eq!(topics.topic(name).map(|(topic, _)| topic), Ok(TopicId(number as u32)));
    }
    let gone = TopicId(1);
    assert_eq!(topics.release(gone), Err(TableError::NotForgotten { topic: gone }));
    assert_eq!(topics.forget("b"), Ok((gone, vec![Change::Removed { topic: gone, subscriber: ALICE }])));
    assert_eq!((topics.id_of("b"), topics.name_of(gone), topics.subscribers(gone)), (None, None, vec![]));
    assert_eq!(topics.topic("d"), Err(TableError::TooManyTopics { most: 3 }));
    assert_eq!(topics.release(gone), Ok(()));
    assert_eq!(topics.release(gone), Err(TableError::NotForgotten { topic: gone }));
    assert_eq!(topics.topic("d").map(|(topic, changes)| (topic, changes.len())), Ok((gone, 1)));
    assert!(topics.release(TopicId(u32::MAX)).is_err());
}

#[test]
fn bad_input_is_refused_with_the_cure() {
    let mut topics = Table::default();
    let told = |error: TableError| error.to_string();
    for (error, parts) in [
        (told(topics.topic("a/*").unwrap_err()), ["`a/*`: segment 2 has a `*`", "leave it out"]),
        (told(topics.topic("").unwrap_err()), ["one segment at least", "write one"]),
        (told(topics.subscribe("a/b*", ALICE, 0).unwrap_err()), ["`a/b*`: segment 2", "whole segments"]),
        (
            told(topics.unsubscribe("a", ALICE).unwrap_err()),
            ["subscriber 1 has no subscription `a`", "unsubscribe with"],
        ),
        (told(topics.unsubscribe("a/", ALICE).unwrap_err()), ["no subscription `a/`", "unsubscribe with"]),
        (told(topics.forget("a").unwrap_err()), ["no topic `a`", "publish"]),
    ] {
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    assert_eq!((topics.subscriptions, topics.entries, topics.names.len()), (0, 0, 0));
}

/// The bounds that hold unless told otherwise are reached, and not passed.
#[test]
fn the_default_bounds_are_reached() {
    let mut topics = Table::default();
    for filter in 0..FILTERS_OF_ONE_MAX {
        topics.subscribe(&format!("{filter}"), ALICE, 0).unwrap();
    }
    let full = Err(TableError::TooManyFilters { subscriber: ALICE, most: FILTERS_OF_ONE_MAX });
    assert_eq!(topics.subscribe("more", ALICE, 0), full);
    assert_eq!(topics.subscribe("7", ALICE, 3), Ok(vec![]), "one that it has");
    let each = ENTRIES_MAX / TOPICS_MAX as usize;
    for subscriber in 0..each as u32 {
        topics.subscribe("t/**", SubscriberId(100 + subscriber), 0).unwrap();
    }
    for topic in 0..TOPICS_MAX {
        assert_eq!(topics.topic(&format!("t/{topic}")).map(|(id, changes)| (id.0, changes.len())), Ok((topic, each)));
    }
    assert_eq!(topics.topic("t/more"), Err(TableError::TooManyTopics { most: TOPICS_MAX }));
    assert_eq!(topics.subscribe("t/3", BOB, 0), Err(TableError::TooManyEntries { most: ENTRIES_MAX }));
    assert_eq!(topics.entries, ENTRIES_MAX);
}
