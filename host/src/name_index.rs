//! A map from names to values that answers patterns: in the order of the names' bytes, and without a look at names that a pattern
//! cannot stand for because they begin otherwise.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use tourbillon_shared::pattern::{Pattern, SEPARATOR};

/// The character behind [`SEPARATOR`]: where names that begin with a segment end.
const BEHIND_SEPARATOR: char = '0';
const _: () = assert!(BEHIND_SEPARATOR as u32 == SEPARATOR as u32 + 1);

/// Names with their values.
#[derive(Debug)]
pub(crate) struct NameIndex<V> {
    names: BTreeMap<Arc<str>, V>,
}

impl<V> Default for NameIndex<V> {
    fn default() -> Self {
        Self { names: BTreeMap::new() }
    }
}

impl<V> NameIndex<V> {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// The name as it is kept, and its value.
    pub(crate) fn get_key_value(&self, name: &str) -> Option<(&Arc<str>, &V)> {
        self.names.get_key_value(name)
    }

    /// Gives a name this value; the one that it had.
    pub(crate) fn insert(&mut self, name: Arc<str>, value: V) -> Option<V> {
        self.names.insert(name, value)
    }

    /// Takes a name out; the value that it had.
    pub(crate) fn remove(&mut self, name: &str) -> Option<(Arc<str>, V)> {
        self.names.remove_entry(name)
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &V)> {
        self.names.iter()
    }

    /// Those that the pattern stands for, in order. What it costs are the names that begin as the pattern does.
    pub(crate) fn matching(&self, pattern: &Pattern<'_>) -> impl Iterator<Item = (&Arc<str>, &V)> {
        self.candidates(pattern).filter(|(name, _)| pattern.matches(name))
    }

    /// Those that begin as the pattern does: its root, and what lies below it. A name that sorts between the two, as `bank-2` does
    /// between `bank` and `bank/eu`, is not among them.
    fn candidates(&self, pattern: &Pattern<'_>) -> impl Iterator<Item = (&Arc<str>, &V)> {
        let root = pattern.root();
        let itself = if tourbillon_shared::mutant!("name_root_missed") && !pattern.is_name() {
            None
        } else {
            self.names.get_key_value(root)
        };
        let (from, to) = (format!("{root}{SEPARATOR}"), format!("{root}{BEHIND_SEPARATOR}"));
        let bounds: (Bound<&str>, Bound<&str>) = if pattern.is_name() {
            // Nothing lies below what stands for itself alone.
            (Bound::Included(&from), Bound::Excluded(&from))
        } else if root.is_empty() || tourbillon_shared::mutant!("name_index_scans") {
            (Bound::Unbounded, Bound::Unbounded)
        } else {
            (Bound::Included(&from), Bound::Excluded(&to))
        };
        itself.into_iter().chain(self.names.range::<str, _>(bounds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index(names: &[&str]) -> NameIndex<usize> {
        let mut index = NameIndex::default();
        for (number, name) in names.iter().enumerate() {
            index.insert((*name).into(), number);
        }
        index
    }

    fn names<'a>(found: impl Iterator<Item = (&'a Arc<str>, &'a usize)>) -> Vec<&'a str> {
        found.map(|(name, _)| &**name).collect()
    }

    #[test]
    fn only_names_with_the_patterns_beginning_are_looked_at() {
        let others: Vec<String> = (0..1_000).map(|i| format!("bank/eu{}{i}", ["-", "0", ".", "x/"][i % 4])).collect();
        let mut index = index(&["bank", "bank/eu", "bank/eu/1", "bank/eu/2", "bank/eu/2/a", "bank/us", "z"]);
        for other in &others {
            index.insert(other.as_str().into(), 0);
        }
        for (pattern, candidates, found) in [
            ("bank/eu/*", &["bank/eu", "bank/eu/1", "bank/eu/2", "bank/eu/2/a"][..], &["bank/eu/1", "bank/eu/2"][..]),
            ("bank/eu/**/a", &["bank/eu", "bank/eu/1", "bank/eu/2", "bank/eu/2/a"], &["bank/eu/2/a"]),
            ("bank/eu", &["bank/eu"], &["bank/eu"]),
            ("bank/nowhere/*", &[], &[]),
            ("nobody", &[], &[]),
        ] {
            let pattern = Pattern::new(pattern).unwrap();
            assert_eq!(names(index.candidates(&pattern)), candidates, "{pattern}");
            assert_eq!(names(index.matching(&pattern)), found, "{pattern}");
        }
        assert_eq!(index.matching(&Pattern::new("**").unwrap()).count(), index.len());
    }

    fn name() -> impl Strategy<Value = String> {
        proptest::collection::vec(prop_oneof![Just("a"), Just("a-"), Just("a0"), Just("b")], 1..5)
            .prop_map(|s| s.join("/"))
    }

    fn pattern() -> impl Strategy<Value = String> {
        let segment = prop_oneof![Just("a"), Just("a-"), Just("b"), Just("*"), Just("**")];
        proptest::collection::vec(segment, 1..5).prop_map(|segments| segments.join("/"))
    }

    proptest! {
        #[test]
        fn what_matches_is_found_once_and_in_order(
            given in proptest::collection::vec((name(), any::<bool>()), 0..40),
            patterns in proptest::collection::vec(pattern(), 1..10),
        ) {
            let (mut index, mut oracle) = (NameIndex::default(), BTreeMap::new());
            for (number, (name, is_kept)) in given.iter().enumerate() {
                if *is_kept {
                    prop_assert_eq!(index.insert(name.as_str().into(), number), oracle.insert(name.clone(), number));
                } else {
                    prop_assert_eq!(index.remove(name).map(|(_, value)| value), oracle.remove(name));
                }
            }
            prop_assert_eq!(index.len(), oracle.len());
            for pattern in &patterns {
                let pattern = Pattern::new(pattern).unwrap();
                let found: Vec<(String, usize)> =
                    index.matching(&pattern).map(|(name, value)| (name.to_string(), *value)).collect();
                let expected: Vec<(String, usize)> = oracle
                    .iter()
                    .filter(|(name, _)| pattern.matches(name))
                    .map(|(name, value)| (name.clone(), *value))
                    .collect();
                prop_assert_eq!(found, expected, "{}", pattern);
            }
        }
    }
}
