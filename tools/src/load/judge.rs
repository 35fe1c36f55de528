//! Whether messages were executed exactly once and in order, judged by what the actors' state says.
//!
//! # What is known
//! A client numbers its messages to one key 1, 2, 3… The actor remembers, for every client, the number of the last
//! message that it executed, and the reply to message `s` carries what it remembered just before: its *predecessor*.
//! In a faultless run the predecessor of `s` is `s - 1`. In general the replies describe a graph with an edge from
//! each answered message to its predecessor. If every message was executed once, in whatever order, that graph is one
//! path: no two messages have the same predecessor, and there is no cycle. So:
//!
//! - *lost*: sent and not answered; also answered, but missing from the actor's final count ([`Judge::audit`]);
//! - *duplicated*: a message answered twice; a message that is the predecessor of two others, or that lies on a
//!   cycle (each shows that it was executed more than once, and a repeated execution is counted once); also what
//!   the final count has too much;
//! - *out of order*: a message executed after a later one, so that its predecessor is a higher number, if that is not
//!   the trace of a duplicate. A swapped pair is one message out of order.
//!
//! A gap alone (`s` after `s - 2`) is not counted by itself: either the missing message was never answered, which
//! is a loss, or it came later, which is out of order, or it left no trace in the state, which makes two
//! successors of `s - 2`.
//!
//! Ordinary replies cost one comparison and no memory; only edges that are not ordinary are kept, up to a bound.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

/// Unordinary edges that are kept for one key: a run with more is broken anyway, and the rest counts as out of order.
pub const EDGES_MAX: usize = 4096;

/// The faults of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// Messages without an answer or without an effect.
    pub lost: u64,
    /// Executions or answers beyond the first.
    pub duplicated: u64,
    /// Messages executed after a later one.
    pub out_of_order: u64,
}

impl Faults {
    /// The sum with `other`.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            out_of_order: self.out_of_order + other.out_of_order,
        }
    }

    /// Whether there is none.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// The judge of one client's messages to a number of keys.
#[derive(Clone, Debug)]
pub struct Judge {
    keys: Vec<Stream>,
    troubles: HashMap<usize, Trouble>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    sent: u64,
    /// Highest number answered.
    answered: u64,
}

/// What is not ordinary about the messages to one key.
#[derive(Clone, Debug, Default)]
struct Trouble {
    /// Message to predecessor, where that is not the number before.
    edges: BTreeMap<u64, u64>,
    /// Below the highest answered number, and not answered.
    missing: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    answered_again: u64,
    beyond_bound: u64,
}

impl Judge {
    /// A judge for keys `0 .. keys`.
    pub fn new(keys: usize) -> Self {
        Self { keys: vec![Stream::default(); keys], troubles: HashMap::new() }
    }

    /// How many keys it judges.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// The number for the next message to `key`: 1, 2, 3…
    pub fn number_next(&mut self, key: usize) -> u64 {
        self.keys[key].sent += 1;
        self.keys[key].sent
    }

    /// Takes back the number that was given last for `key`: the message was not sent.
    pub fn unsend(&mut self, key: usize) {
        self.keys[key].sent -= 1;
    }

    /// Messages that were sent to `key`.
    pub fn sent(&self, key: usize) -> u64 {
        self.keys[key].sent
    }

    /// The reply to message `number` to `key` came and named `predecessor`.
    pub fn answered(&mut self, key: usize, number: u64, predecessor: u64) {
        let stream = &mut self.keys[key];
        if number == stream.answered + 1 && predecessor == stream.answered {
            stream.answered = number;
            return;
        }
        let trouble = self.troubles.entry(key).or_default();
        if number > stream.answered {
            trouble.missing.extend(stream.answered + 1..number);
            stream.answered = number;
        } else if !trouble.missing.remove(&number) {
            trouble.answered_again += 1;
            return;
        }
        // Refused messages leave no trace, so the one after them is ordinary when it follows the one before them.
        let is_ordinary =
            predecessor < number && (predecessor + 1..number).all(|between| trouble.refused.contains(&between));
        if !is_ordinary {
            if trouble.edges.len() < EDGES_MAX {
                trouble.edges.insert(number, predecessor);
            } else {
                trouble.beyond_bound += 1;
            }
        }
    }

    /// Message `number` to `key` was answered with a failure: answered, but not executed. Answers are expected in
    /// the order of the numbers then.
    pub fn refused(&mut self, key: usize, number: u64) {
        self.answered(key, number, number - 1);
        self.troubles.entry(key).or_default().refused.insert(number);
    }

    /// The faults of one key.
    pub fn faults_of(&self, key: usize) -> Faults {
        let stream = self.keys[key];
        let mut faults = Faults { lost: stream.sent - stream.answered, ..Faults::default() };
        if let Some(trouble) = self.troubles.get(&key) {
            faults.lost += trouble.missing.len() as u64;
            let repeated = trouble.repeated(stream.answered);
            faults.duplicated += trouble.answered_again + repeated.executions;
            faults.out_of_order += trouble.beyond_bound
                + trouble
                    .edges
                    .iter()
                    .filter(|&(number, predecessor)| predecessor > number && !repeated.messages.contains(number))
                    .count() as u64;
        }
        faults
    }

    /// The faults of all keys.
    pub fn faults(&self) -> Faults {
        (0..self.keys.len()).map(|key| self.faults_of(key)).fold(Faults::default(), Faults::plus)
    }

    /// Compares the number of executions that an actor counted, `executed`, with what the judges of all clients of
    /// that key know. Returns the faults that the replies alone do not show.
    pub fn audit(judges: &[&Self], key: usize, executed: u64) -> Faults {
        let sum = |f: &dyn Fn(&Self) -> u64| judges.iter().map(|judge| f(judge)).sum::<u64>();
        let sent = sum(&|judge| judge.keys[key].sent);
        let faults = judges.iter().map(|judge| judge.faults_of(key)).fold(Faults::default(), Faults::plus);
        let refused = sum(&|judge| judge.troubles.get(&key).map_or(0, |trouble| trouble.refused.len() as u64));
        let answered = sent - faults.lost - refused;
        // An unanswered message may have been executed or not; an execution that is known to be a repetition was
        // counted.
        let (least, most) = (answered, answered + faults.lost + faults.duplicated);
        Faults { lost: least.saturating_sub(executed), duplicated: executed.saturating_sub(most), out_of_order: 0 }
    }
}

/// Messages that were executed more than once.
struct Repeated {
    messages: BTreeSet<u64>,
    executions: u64,
}

impl Trouble {
    /// The predecessor of an answered message.
    fn predecessor(&self, number: u64) -> u64 {
        self.edges.get(&number).copied().unwrap_or(number - 1)
    }

    fn is_answered(&self, number: u64, highest: u64) -> bool {
        (1..=highest).contains(&number) && !self.missing.contains(&number)
    }

    /// Finds branchings and cycles of the graph of predecessors.
    fn repeated(&self, highest: u64) -> Repeated {
        let mut repeated = Repeated { messages: BTreeSet::new(), executions: 0 };
        let mut successors: BTreeMap<u64, u64> = BTreeMap::new();
        for &predecessor in self.edges.values() {
            *successors.entry(predecessor).or_default() += 1;
        }
        for (&message, count) in &mut successors {
            let next = message.saturating_add(1);
            if self.is_answered(next, highest) && self.predecessor(next) == message {
                *count += 1;
            }
            if *count > 1 {
                repeated.executions += *count - 1;
                repeated.messages.insert(message);
            }
        }
        self.count_cycles(highest, &mut repeated);
        repeated
    }

    /// Counts the cycles on which no message is known as repeated yet. Every cycle has an edge to a higher number
    /// (or to itself), which is one of `edges`; ordinary edges lead down by one, so a walk jumps from one of
    /// `edges` to the next below.
    fn count_cycles(&self, highest: u64, repeated: &mut Repeated) {
        let mut done = BTreeSet::new();
        for &start in self.edges.keys() {
            let mut walk = Vec::new();
            let mut at = Some(start);
            while let Some(message) = at.filter(|&message| done.insert(message)) {
                walk.push(message);
                at = self.next_edge(message, highest);
            }
            // The walk stopped at an end of the path, at a message of an earlier walk, or where it had been: a cycle.
            let Some(first) = walk.iter().position(|&message| Some(message) == at) else { continue };
            let cycle = &walk[first..];
            if !self.touches_repeated(cycle, repeated) {
                repeated.executions += 1;
                repeated.messages.extend(cycle);
            }
        }
    }

    /// The message of `edges` that the path from `message` meets next; nothing when it ends before.
    fn next_edge(&self, message: u64, highest: u64) -> Option<u64> {
        let to = self.edges[&message];
        let (&below, _) = self.edges.range(..=to).next_back()?;
        // Between `to` and `below` the path runs down by one, unless a message without an answer ends it.
        (to <= highest && self.missing.range(below..=to).next().is_none()).then_some(below)
    }

    fn touches_repeated(&self, cycle: &[u64], repeated: &Repeated) -> bool {
        cycle.iter().any(|message| {
            let to = self.edges[message];
            let below = self.edges.range(..=to).next_back().map_or(to, |(&number, _)| number);
            repeated.messages.range(below..=to).next().is_some()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Executes the messages of `order` as a counter would, sends the first reply of each message (or its last, where
    /// `last_reply` says so) in the order of the numbers, and judges.
    fn judge(sent: u64, order: &[u64], last_reply: bool) -> (Judge, u64) {
        let mut judge = Judge::new(1);
        (0..sent).for_each(|_| {
            judge.number_next(0);
        });
        let mut replies = BTreeMap::new();
        let mut last = 0;
        for &number in order {
            if last_reply || !replies.contains_key(&number) {
                replies.insert(number, last);
            }
            last = number;
        }
        for (&number, &predecessor) in &replies {
            judge.answered(0, number, predecessor);
        }
        (judge, order.len() as u64)
    }

    fn faults(sent: u64, order: &[u64]) -> [Faults; 2] {
        [false, true].map(|last_reply| {
            let (judge, executed) = judge(sent, order, last_reply);
            judge.faults().plus(Judge::audit(&[&judge], 0, executed))
        })
    }

    const NONE: Faults = Faults { lost: 0, duplicated: 0, out_of_order: 0 };

    #[test]
    fn a_faultless_stream_has_no_faults() {
        assert_eq!(faults(6, &[1, 2, 3, 4, 5, 6]), [NONE; 2]);
        assert_eq!(faults(0, &[]), [NONE; 2]);
    }

    #[test]
    fn a_lost_message_is_lost() {
        let expected = [Faults { lost: 1, ..NONE }; 2];
        assert_eq!(faults(5, &[1, 3, 4, 5]), expected);
        assert_eq!(faults(5, &[2, 3, 4, 5]), expected);
        assert_eq!(faults(5, &[1, 2, 3, 4]), expected);
        assert_eq!(faults(6, &[1, 2, 5, 6]), [Faults { lost: 2, ..NONE }; 2]);
    }

    #[test]
    fn a_lost_reply_is_lost() {
        let mut judge = Judge::new(1);
        (0..4).for_each(|_| {
            judge.number_next(0);
        });
        judge.answered(0, 1, 0);
        judge.answered(0, 3, 2);
        judge.answered(0, 4, 3);
        assert_eq!(judge.faults(), Faults { lost: 1, ..NONE });
        assert!(Judge::audit(&[&judge], 0, 4).is_none() && Judge::audit(&[&judge], 0, 3).is_none());
    }

    #[test]
    fn a_duplicated_message_is_duplicated() {
        let expected = [Faults { duplicated: 1, ..NONE }; 2];
        assert_eq!(faults(4, &[1, 2, 2, 3, 4]), expected, "at once");
        assert_eq!(faults(4, &[1, 2, 3, 2, 4]), expected, "later");
        assert_eq!(faults(4, &[1, 2, 3, 4, 4]), expected, "the last");
        assert_eq!(faults(4, &[1, 2, 3, 4, 2]), expected, "an early one at the end");
        assert_eq!(faults(4, &[1, 1, 2, 3, 4]), expected, "the first");
        assert_eq!(faults(4, &[1, 2, 2, 2, 3, 4]), [Faults { duplicated: 2, ..NONE }; 2], "twice");
    }

    #[test]
    fn a_message_answered_twice_is_duplicated() {
        let mut judge = Judge::new(1);
        for number in 1..=3 {
            assert_eq!(judge.number_next(0), number);
            judge.answered(0, number, number - 1);
        }
        judge.answered(0, 2, 1);
        assert_eq!(judge.faults(), Faults { duplicated: 1, ..NONE });
    }

    #[test]
    fn a_swapped_pair_is_out_of_order() {
        let expected = [Faults { out_of_order: 1, ..NONE }; 2];
        assert_eq!(faults(5, &[1, 3, 2, 4, 5]), expected);
        assert_eq!(faults(5, &[2, 1, 3, 4, 5]), expected);
        assert_eq!(faults(5, &[1, 2, 3, 5, 4]), expected);
        assert_eq!(faults(6, &[2, 1, 3, 4, 6, 5]), [Faults { out_of_order: 2, ..NONE }; 2]);
        assert_eq!(faults(5, &[4, 1, 2, 3, 5]), expected, "one message overtook three: one descent");
    }

    #[test]
    fn answers_in_another_order_are_judged_by_execution() {
        let mut judge = Judge::new(1);
        (0..3).for_each(|_| {
            judge.number_next(0);
        });
        for (number, predecessor) in [(3, 2), (1, 0), (2, 1)] {
            judge.answered(0, number, predecessor);
        }
        assert_eq!(judge.faults(), NONE);
    }

    #[test]
    fn all_three_at_once() {
        // 2 is executed twice, 4 and 5 change places, 7 never comes.
        let [first, last] = faults(8, &[1, 2, 2, 3, 5, 4, 6, 8]);
        assert_eq!(last, Faults { lost: 1, duplicated: 1, out_of_order: 1 });
        // With the first reply of 2 only the actor's count is one too many, which 7 might explain.
        assert_eq!(first, Faults { lost: 1, duplicated: 0, out_of_order: 1 });
    }

    #[test]
    fn refused_messages_are_answered_and_leave_no_gap() {
        let mut judge = Judge::new(1);
        (0..5).for_each(|_| {
            judge.number_next(0);
        });
        judge.answered(0, 1, 0);
        judge.refused(0, 2);
        judge.refused(0, 3);
        judge.answered(0, 4, 1);
        judge.answered(0, 5, 4);
        assert_eq!(judge.faults(), NONE);
        assert!(Judge::audit(&[&judge], 0, 3).is_none());
        assert_eq!(Judge::audit(&[&judge], 0, 4), Faults { duplicated: 1, ..NONE });
        assert_eq!(Judge::audit(&[&judge], 0, 2), Faults { lost: 1, ..NONE });
    }

    #[test]
    fn effects_that_the_state_lacks_are_lost_and_surplus_is_duplicated() {
        let (judge, _) = judge(5, &[1, 2, 3, 4, 5], false);
        assert_eq!(Judge::audit(&[&judge], 0, 4), Faults { lost: 1, ..NONE });
        assert_eq!(Judge::audit(&[&judge], 0, 6), Faults { duplicated: 1, ..NONE });
        assert_eq!(Judge::audit(&[&judge, &judge], 0, 10), NONE);
        assert_eq!(Judge::audit(&[&judge, &judge], 0, 11), Faults { duplicated: 1, ..NONE });
    }

    #[test]
    fn a_path_with_a_gap_is_no_cycle() {
        // Executed 1, 2, 4, 5, 3; the reply to 4 was lost.
        let mut judge = Judge::new(1);
        (0..5).for_each(|_| {
            judge.number_next(0);
        });
        for (number, predecessor) in [(1, 0), (2, 1), (3, 5), (5, 4)] {
            judge.answered(0, number, predecessor);
        }
        assert_eq!(judge.faults(), Faults { lost: 1, duplicated: 0, out_of_order: 1 });
    }

    #[test]
    fn impossible_predecessors_are_faults_and_not_panics() {
        let mut judge = Judge::new(1);
        judge.number_next(0);
        judge.answered(0, 1, u64::MAX);
        assert_eq!(judge.faults(), Faults { out_of_order: 1, ..NONE });
    }

    #[test]
    fn troubles_are_bounded_and_still_counted() {
        let mut judge = Judge::new(1);
        let pairs = 2 * EDGES_MAX as u64;
        for pair in 0..pairs {
            let low = 2 * pair + 1;
            judge.number_next(0);
            judge.number_next(0);
            // Each pair was swapped: low ran after low + 1, which ran after the pair before.
            judge.answered(0, low, low + 1);
            judge.answered(0, low + 1, if pair == 0 { 0 } else { low - 2 });
        }
        let faults = judge.faults();
        assert!(faults.out_of_order >= pairs && faults.lost == 0, "{faults:?}");
        assert!(judge.troubles[&0].edges.len() <= EDGES_MAX);
    }

    #[test]
    fn keys_are_apart_and_unsent_numbers_are_given_again() {
        let mut judge = Judge::new(2);
        assert_eq!((judge.number_next(0), judge.number_next(1), judge.number_next(0)), (1, 1, 2));
        judge.unsend(0);
        assert_eq!((judge.number_next(0), judge.sent(0), judge.sent(1)), (2, 2, 1));
        judge.answered(0, 1, 0);
        judge.answered(0, 2, 1);
        assert_eq!(judge.faults(), Faults { lost: 1, ..NONE });
    }

    /// Every order of five executions of messages 1 to 4 (each at least once but for one loss): nothing faulty
    /// passes, nothing faultless is blamed.
    #[test]
    fn no_faulty_order_of_executions_passes() {
        let mut orders = vec![Vec::new()];
        for length in 1..=5 {
            let shorter: Vec<Vec<u64>> = orders.iter().filter(|order| order.len() == length - 1).cloned().collect();
            orders.extend(
                shorter.iter().flat_map(|order| {
                    (1..=4).map(move |next| order.iter().copied().chain([next]).collect::<Vec<u64>>())
                }),
            );
        }
        for order in orders {
            let faultless = order == [1, 2, 3, 4];
            for found in faults(4, &order) {
                assert_eq!(found.is_none(), faultless, "{order:?}: {found:?}");
            }
        }
    }
}
