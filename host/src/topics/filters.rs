//! Filters as a tree of their segments, which tells those that fit a name without a look at the others.
//!
//! A name is walked through the tree segment by segment with the set of all nodes that it may stand at. A node of `**` stays in the set
//! whatever comes. The set has no node twice, so the time is at most the product of segments and nodes, and mostly a few nodes a
//! segment.

use std::collections::BTreeMap;
use std::sync::Arc;

use tourbillon_shared::pattern::{MANY, ONE, Pattern, segments};

use super::table::{Priority, SubscriberId};

/// Filters with their subscribers.
#[derive(Debug, Default)]
pub(super) struct Filters {
    root: Node,
}

/// What a filter is after some of its segments.
#[derive(Debug, Default)]
struct Node {
    /// By the next segment; no name has one that is a wildcard.
    children: BTreeMap<Arc<str>, Node>,
    /// Whether the last segment was `**`.
    is_many: bool,
    /// Who subscribed to the filter that ends here.
    subscribers: BTreeMap<SubscriberId, Priority>,
}

/// Nodes by where they lie, so that none is in a set twice.
type Nodes<'a> = BTreeMap<*const Node, &'a Node>;

impl Node {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.subscribers.is_empty()
    }

    /// Puts this node into a set, and what a `**` behind it, which may stand for nothing, leads to.
    fn enter<'a>(&'a self, nodes: &mut Nodes<'a>) {
        nodes.insert(self, self);
        if let Some(many) = self.children.get(MANY) {
            many.enter(nodes);
        }
    }

    fn remove(&mut self, mut segments: std::str::Split<'_, char>, subscriber: SubscriberId) -> Option<Priority> {
        let Some(segment) = segments.next() else { return self.subscribers.remove(&subscriber) };
        let child = self.children.get_mut(segment)?;
        let removed = child.remove(segments, subscriber);
        if child.is_empty() {
            self.children.remove(segment);
        }
        removed
    }
}

impl Filters {
    /// Adds a subscription, or gives it another priority; the one that it had.
    pub(super) fn insert(
        &mut self,
        filter: &Pattern<'_>,
        subscriber: SubscriberId,
        priority: Priority,
    ) -> Option<Priority> {
        let mut node = &mut self.root;
        for segment in filter.segments() {
            node = node.children.entry(segment.into()).or_default();
            node.is_many = segment == MANY;
        }
        node.subscribers.insert(subscriber, priority)
    }

    /// Takes a subscription out; the priority that it had.
    pub(super) fn remove(&mut self, filter: &Pattern<'_>, subscriber: SubscriberId) -> Option<Priority> {
        self.root.remove(filter.segments(), subscriber)
    }

    /// All subscribers with a filter that fits `name`, each with its highest priority.
    pub(super) fn subscribers(&self, name: &str) -> BTreeMap<SubscriberId, Priority> {
        let mut nodes = Nodes::new();
        self.root.enter(&mut nodes);
        for segment in segments(name) {
            let mut next = Nodes::new();
            for node in nodes.values() {
                if node.is_many && !tourbillon_shared::mutant!("topics_many_takes_none") {
                    node.enter(&mut next);
                }
                for child in [segment, ONE].into_iter().filter_map(|segment| node.children.get(segment)) {
                    child.enter(&mut next);
                }
            }
            nodes = next;
        }
        let mut found = BTreeMap::new();
        for (subscriber, priority) in nodes.values().flat_map(|node| &node.subscribers) {
            let highest = found.entry(*subscriber).or_insert(*priority);
            *highest = (*highest).max(*priority);
        }
        found
    }

    /// Whether nothing is left, not even a node.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern() -> impl Strategy<Value = String> {
        let segment = prop_oneof![Just("a"), Just("b"), Just("*"), Just("**")];
        proptest::collection::vec(segment, 1..6).prop_map(|segments| segments.join("/"))
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_matches(
            given in proptest::collection::vec((pattern(), 0..4u32, 0..3u8), 0..30),
            gone in proptest::collection::vec(any::<prop::sample::Index>(), 0..10),
            name in "(a|b)(/(a|b|c)){0,5}",
        ) {
            let (mut filters, mut oracle) = (Filters::default(), BTreeMap::new());
            for (text, subscriber, priority) in &given {
                let before = filters.insert(&Pattern::new(text).unwrap(), SubscriberId(*subscriber), *priority);
                prop_assert_eq!(before, oracle.insert((text.clone(), SubscriberId(*subscriber)), *priority));
            }
            for index in &gone {
                if let Some((text, subscriber, _)) = given.get(index.index(given.len().max(1))) {
                    let key = (text.clone(), SubscriberId(*subscriber));
                    let removed = filters.remove(&Pattern::new(text).unwrap(), key.1);
                    prop_assert_eq!(removed, oracle.remove(&key));
                }
            }
            let mut expected = BTreeMap::new();
            for ((text, subscriber), priority) in &oracle {
                if Pattern::new(text).unwrap().matches(&name) {
                    let highest = expected.entry(*subscriber).or_insert(*priority);
                    *highest = (*highest).max(*priority);
                }
            }
            prop_assert_eq!(filters.subscribers(&name), expected);
            for (text, subscriber) in oracle.keys() {
                filters.remove(&Pattern::new(text).unwrap(), *subscriber);
            }
            prop_assert!(filters.is_empty());
        }
    }

    /// Many filters of many `**`, and a name that fits none: the time is no power of their number.
    #[test]
    fn the_worst_filters_are_quick() {
        let mut filters = Filters::default();
        for subscriber in 0..15 {
            let text = "**/a/".repeat(subscriber as usize) + "**/b";
            filters.insert(&Pattern::new(&text).unwrap(), SubscriberId(subscriber), 0);
        }
        let name = "a/".repeat(31) + "a";
        assert!((0..200).all(|_| filters.subscribers(&name).is_empty()));
    }
}
