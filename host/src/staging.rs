//! The staging queue in front of a request ring.
//!
//! ```text
//!   admit -> [ blocked ... ] -> [ staged ... ] -> pop -> request ring
//!             no bound here      at most `bound`
//! ```
//!
//! Two lists in one slab of nodes, so that anything can leave from anywhere in constant time: a caller that gives up
//! takes its message with it. Only [`Backpressure::Block`] uses the list of blocked messages; it is as long as there are
//! callers that wait, and whoever owns the queue bounds those. A message is blocked only while the queue is full: one
//! that leaves the queue lets the first blocked one in.

use tourbillon_shared::mutant;

use crate::backpressure::{Backpressure, StagingCounts};
use crate::error::EngineError;

/// Most messages of a staging queue: as many as the largest ring has slots.
pub const STAGING_MAX: u32 = 1 << 16;
/// Messages of a staging queue unless told otherwise: about a default ring's worth, so that a burst of twice the ring is taken
/// in.
pub const STAGING_DEFAULT: u32 = 1024;
/// No node.
const NONE: u32 = u32::MAX;

/// Names an item that was admitted, also after it has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    node: u32,
    /// That of the node when it was taken: a node is used again.
    generation: u32,
}

/// What became of an item.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission<T> {
    /// It is in the queue, or waits for a place in it.
    Queued(Ticket),
    /// It is in the queue, and this one, the oldest, is no longer.
    Replaced(Ticket, T),
    /// [`Backpressure::Reject`] gives it back.
    Rejected(T),
    /// [`Backpressure::DropNewest`] gives it back.
    DroppedNewest(T),
}

/// Why an item leaves without being published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// No place in time.
    Timeout,
    /// Its caller gave it up.
    #[cfg(any(test, feature = "async"))]
    Withdrawn,
    /// Nothing is published any longer.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Free,
    Staged,
    Blocked,
}

#[derive(Debug)]
struct Node<T> {
    item: Option<T>,
    place: Place,
    generation: u32,
    /// Towards the front.
    before: u32,
    /// Towards the back; of a free node the next free one.
    after: u32,
}

/// A list through the nodes.
#[derive(Clone, Copy, Debug)]
struct List {
    front: u32,
    back: u32,
    length: u32,
}

const EMPTY: List = List { front: NONE, back: NONE, length: 0 };

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Staging<T> {
    nodes: Vec<Node<T>>,
    free: u32,
    /// As long as `bound`, unless the bound was lowered meanwhile.
    staged: List,
    /// Empty unless `staged` is full.
    blocked: List,
    bound: u32,
    counts: StagingCounts,
}

/// Checks the bound of a staging queue.
///
/// # Errors
/// [`EngineError::OutOfBounds`].
pub(crate) fn check_bound(bound: u32) -> Result<(), EngineError> {
    EngineError::check_bounds("the staging queue's bound", bound, 1, STAGING_MAX)
}

impl<T> Staging<T> {
    /// An empty queue of at most `bound` items, 1 or more. Nodes are made when they are needed first, and kept.
    pub(crate) fn new(bound: u32) -> Self {
        debug_assert!(bound > 0);
        Self { nodes: Vec::new(), free: NONE, staged: EMPTY, blocked: EMPTY, bound, counts: StagingCounts::default() }
    }

    /// Another bound, while nothing is blocked. What is staged stays, be it more.
    pub(crate) fn set_bound(&mut self, bound: u32) {
        debug_assert!(self.blocked.length == 0 && bound > 0);
        self.bound = bound;
    }

    pub(crate) fn bound(&self) -> u32 {
        self.bound
    }

    pub(crate) fn counts(&self) -> StagingCounts {
        self.counts
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.staged.length == 0
    }

    /// Items in the queue.
    #[cfg(any(test, feature = "async"))]
    pub(crate) fn staged(&self) -> u32 {
        self.staged.length
    }

    /// Items that wait for a place in it.
    #[cfg(any(test, feature = "async"))]
    pub(crate) fn blocked(&self) -> u32 {
        self.blocked.length
    }

    /// Puts `item` at the back, or does what `strategy` says.
    pub(crate) fn admit(&mut self, item: T, strategy: Backpressure) -> Admission<T> {
        if self.staged.length < self.bound {
            self.counts.queued += 1;
            return Admission::Queued(self.push(item, Place::Staged));
        }
        match strategy {
            Backpressure::Block { .. } => {
                self.counts.queued += 1;
                self.counts.blocked += 1;
                Admission::Queued(self.push(item, Place::Blocked))
            }
            Backpressure::Reject => {
                self.counts.rejected += 1;
                Admission::Rejected(item)
            }
            Backpressure::DropNewest => {
                self.counts.dropped_newest += 1;
                Admission::DroppedNewest(item)
            }
            Backpressure::DropOldest => {
                let victim = if mutant!("staging_drops_newest") { self.staged.back } else { self.staged.front };
                let Some(oldest) = self.take(victim) else {
                    // A full queue has a front.
                    return Admission::Rejected(item);
                };
                if !mutant!("staging_drop_uncounted") {
                    self.counts.dropped_oldest += 1;
                }
                self.counts.queued += 1;
                Admission::Replaced(self.push(item, Place::Staged), oldest)
            }
        }
    }

    /// The item that is published next.
    #[inline]
    pub(crate) fn front(&self) -> Option<&T> {
        self.nodes.get(self.staged.front as usize).and_then(|node| node.item.as_ref())
    }

    /// Takes the item that is published next.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let item = self.take(self.staged.front)?;
        self.counts.published += 1;
        Some(item)
    }

    /// The blocked item that has waited for longest.
    #[cfg(any(test, feature = "async"))]
    pub(crate) fn front_blocked(&self) -> Option<(Ticket, &T)> {
        let node = self.nodes.get(self.blocked.front as usize)?;
        let ticket = Ticket { node: self.blocked.front, generation: node.generation };
        node.item.as_ref().map(|item| (ticket, item))
    }

    /// Whether the item of `ticket` is here.
    pub(crate) fn contains(&self, ticket: Ticket) -> bool {
        let node = self.nodes.get(ticket.node as usize);
        node.is_some_and(|node| node.generation == ticket.generation && node.place != Place::Free)
    }

    /// Takes out the item of `ticket`, unless it has left.
    pub(crate) fn remove(&mut self, ticket: Ticket, why: Leave) -> Option<T> {
        let item = if self.contains(ticket) { self.take(ticket.node)? } else { return None };
        match why {
            Leave::Timeout => self.counts.timeouts += 1,
            #[cfg(any(test, feature = "async"))]
            Leave::Withdrawn => self.counts.withdrawn += 1,
            Leave::Ended => self.counts.ended += 1,
        }
        Some(item)
    }

    /// Takes out the oldest item, because nothing is published any longer.
    pub(crate) fn end_next(&mut self) -> Option<T> {
        let item = self.take(self.staged.front)?;
        self.counts.ended += 1;
        Some(item)
    }

    fn push(&mut self, item: T, place: Place) -> Ticket {
        let index = self.free;
        let index = match self.nodes.get_mut(index as usize) {
            Some(node) => {
                self.free = node.after;
                node.item = Some(item);
                index
            }
            None => {
                let node = Node { item: Some(item), place, generation: 0, before: NONE, after: NONE };
                self.nodes.push(node);
                self.nodes.len() as u32 - 1
            }
        };
        self.link(index, place);
        Ticket { node: index, generation: self.nodes[index as usize].generation }
    }

    /// Takes an item out of wherever it is, and lets the first blocked one into the queue.
    fn take(&mut self, index: u32) -> Option<T> {
        let place = self.nodes.get(index as usize)?.place;
        if place == Place::Free {
            return None;
        }
        self.unlink(index);
        let free = self.free;
        let node = &mut self.nodes[index as usize];
        node.place = Place::Free;
        node.generation = node.generation.wrapping_add(1);
        node.after = free;
        let item = node.item.take();
        self.free = index;
        let first = self.blocked.front;
        if place == Place::Staged && first != NONE {
            self.unlink(first);
            self.link(first, Place::Staged);
        }
        item
    }

    fn list(&mut self, place: Place) -> &mut List {
        if place == Place::Blocked { &mut self.blocked } else { &mut self.staged }
    }

    /// Puts a node at the back of a list.
    fn link(&mut self, index: u32, place: Place) {
        let list = self.list(place);
        let back = std::mem::replace(&mut list.back, index);
        list.length += 1;
        if back == NONE {
            list.front = index;
        } else {
            self.nodes[back as usize].after = index;
        }
        let node = &mut self.nodes[index as usize];
        (node.place, node.before, node.after) = (place, back, NONE);
    }

    /// Takes a node out of its list.
    fn unlink(&mut self, index: u32) {
        let Node { place, before, after, .. } = self.nodes[index as usize];
        match before {
            NONE => self.list(place).front = after,
            _ => self.nodes[before as usize].after = after,
        }
        match after {
            NONE => self.list(place).back = before,
            _ => self.nodes[after as usize].before = before,
        }
        self.list(place).length -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::time::Duration;

    const BLOCK: Backpressure = Backpressure::Block { timeout: Duration::from_secs(1) };

    fn queued<T: std::fmt::Debug>(admission: Admission<T>) -> Ticket {
        match admission {
            Admission::Queued(ticket) | Admission::Replaced(ticket, _) => ticket,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_full_queue_does_what_the_strategy_says() {
        for (strategy, expected) in [
            (Backpressure::Reject, vec![0, 1]),
            (Backpressure::DropNewest, vec![0, 1]),
            (Backpressure::DropOldest, vec![1, 2]),
            (BLOCK, vec![0, 1, 2]),
        ] {
            let mut staging = Staging::new(2);
            queued(staging.admit(0, strategy));
            queued(staging.admit(1, strategy));
            match (strategy, staging.admit(2, strategy)) {
                (Backpressure::Reject, Admission::Rejected(2))
                | (Backpressure::DropNewest, Admission::DroppedNewest(2)) => {}
                (Backpressure::DropOldest, Admission::Replaced(_, 0)) => {}
                (Backpressure::Block { .. }, Admission::Queued(ticket)) => {
                    assert_eq!((staging.staged(), staging.blocked()), (2, 1));
                    assert_eq!(staging.front_blocked(), Some((ticket, &2)));
                }
                (_, other) => panic!("{strategy:?}: {other:?}"),
            }
            let order: Vec<_> = std::iter::from_fn(|| staging.pop()).collect();
            assert_eq!(order, expected, "{strategy:?}");
            assert_eq!(staging.counts().published, expected.len() as u64);
        }
    }

    #[test]
    fn a_ticket_is_good_for_its_own_item_only() {
        let mut staging = Staging::new(1);
        let first = queued(staging.admit(1, BLOCK));
        assert_eq!(staging.pop(), Some(1));
        let second = queued(staging.admit(2, BLOCK));
        assert_eq!(staging.remove(first, Leave::Withdrawn), None, "it has left, and its node is used again");
        assert_eq!(staging.remove(second, Leave::Withdrawn), Some(2));
        assert_eq!(staging.remove(second, Leave::Withdrawn), None);
        assert_eq!(staging.counts().withdrawn, 1);
    }

    #[test]
    fn a_blocked_item_takes_the_place_of_any_that_leaves() {
        let mut staging = Staging::new(2);
        let tickets: Vec<_> = (0..4).map(|item| queued(staging.admit(item, BLOCK))).collect();
        assert_eq!(staging.remove(tickets[1], Leave::Withdrawn), Some(1));
        assert_eq!((staging.staged(), staging.blocked()), (2, 1));
        assert_eq!(staging.remove(tickets[3], Leave::Timeout), Some(3));
        assert_eq!((staging.staged(), staging.blocked()), (2, 0));
        assert_eq!((staging.pop(), staging.end_next(), staging.pop()), (Some(0), Some(2), None));
        let counts = staging.counts();
        assert_eq!((counts.queued, counts.blocked), (4, 2));
        assert_eq!((counts.withdrawn, counts.timeouts, counts.published, counts.ended), (1, 1, 1, 1));
    }

    #[test]
    fn nodes_are_used_again() {
        let mut staging = Staging::new(3);
        for round in 0..1000 {
            let tickets = [0, 1, 2, 3, 4].map(|item| queued(staging.admit(item + round, BLOCK)));
            for ticket in [tickets[4], tickets[0], tickets[2]] {
                staging.remove(ticket, Leave::Withdrawn).unwrap();
            }
            assert_eq!((staging.pop(), staging.pop(), staging.pop()), (Some(1 + round), Some(3 + round), None));
        }
        assert_eq!(staging.nodes.len(), 5);
    }

    /// A queue as one writes it when speed does not matter: the first `bound` are staged, the others blocked.
    #[derive(Default)]
    struct Oracle {
        items: VecDeque<u32>,
        counts: StagingCounts,
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Admit(Backpressure),
        Pop,
        EndNext,
        Remove(usize, Leave),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let strategy = prop_oneof![
            Just(BLOCK),
            Just(Backpressure::Reject),
            Just(Backpressure::DropOldest),
            Just(Backpressure::DropNewest)
        ];
        let leave = prop_oneof![Just(Leave::Timeout), Just(Leave::Withdrawn), Just(Leave::Ended)];
        let step = prop_oneof![
            4 => strategy.prop_map(Step::Admit),
            2 => Just(Step::Pop),
            1 => Just(Step::EndNext),
            2 => (any::<usize>(), leave).prop_map(|(which, why)| Step::Remove(which, why)),
        ];
        proptest::collection::vec(step, 0..200)
    }

    impl Oracle {
        fn admit(&mut self, item: u32, bound: usize, strategy: Backpressure) {
            let is_full = self.items.len() >= bound;
            match strategy {
                Backpressure::Reject if is_full => return self.counts.rejected += 1,
                Backpressure::DropNewest if is_full => return self.counts.dropped_newest += 1,
                Backpressure::Block { .. } if is_full => self.counts.blocked += 1,
                Backpressure::DropOldest if is_full => {
                    self.counts.dropped_oldest += 1;
                    self.items.pop_front();
                }
                _ => {}
            }
            self.counts.queued += 1;
            self.items.push_back(item);
        }

        fn remove(&mut self, item: u32, why: Leave) -> Option<u32> {
            let place = self.items.iter().position(|other| *other == item)?;
            match why {
                Leave::Timeout => self.counts.timeouts += 1,
                Leave::Withdrawn => self.counts.withdrawn += 1,
                Leave::Ended => self.counts.ended += 1,
            }
            self.items.remove(place)
        }
    }

    proptest! {
        #[test]
        fn it_does_what_a_simple_queue_does(bound in 1u32..6, steps in steps()) {
            let (mut staging, mut oracle) = (Staging::new(bound), Oracle::default());
            let mut tickets = Vec::new();
            for step in steps {
                match step {
                    Step::Admit(strategy) => {
                        let item = tickets.len() as u32;
                        // A strategy is chosen once for a queue; with blocked items in it only blocking makes sense.
                        let strategy = if staging.blocked() > 0 { BLOCK } else { strategy };
                        let admission = staging.admit(item, strategy);
                        oracle.admit(item, bound as usize, strategy);
                        tickets.push(match admission {
                            Admission::Queued(ticket) | Admission::Replaced(ticket, _) => Some(ticket),
                            Admission::Rejected(_) | Admission::DroppedNewest(_) => None,
                        });
                    }
                    Step::Pop => {
                        let expected = oracle.items.pop_front();
                        oracle.counts.published += u64::from(expected.is_some());
                        prop_assert_eq!(staging.front().copied(), expected);
                        prop_assert_eq!(staging.pop(), expected);
                    }
                    Step::EndNext => {
                        let expected = oracle.items.pop_front();
                        oracle.counts.ended += u64::from(expected.is_some());
                        prop_assert_eq!(staging.end_next(), expected);
                    }
                    Step::Remove(which, why) => {
                        let Some(item) = which.checked_rem(tickets.len()) else { continue };
                        let Some(ticket) = tickets[item] else { continue };
                        prop_assert_eq!(staging.remove(ticket, why), oracle.remove(item as u32, why));
                    }
                }
                let staged = oracle.items.len().min(bound as usize);
                prop_assert_eq!(staging.staged() as usize, staged);
                prop_assert_eq!(staging.blocked() as usize, oracle.items.len() - staged);
                prop_assert_eq!(staging.front_blocked().map(|(_, item)| *item), oracle.items.get(staged).copied());
                let counts = staging.counts();
                prop_assert_eq!(counts, oracle.counts);
                let left = counts.published + counts.dropped_oldest + counts.timeouts + counts.withdrawn + counts.ended;
                prop_assert_eq!(counts.queued, left + oracle.items.len() as u64);
            }
        }
    }
}
