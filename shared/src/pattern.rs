//! Names in segments, such as `bank/eu/teller-1`, and patterns that stand for many of them.
//!
//! | in a pattern | stands for |
//! | --- | --- |
//! | `*` | any one segment |
//! | `**` | any number of segments, also none: `bank/**` stands for `bank`, `bank/eu` and `bank/eu/teller-1` |
//! | anything else | itself |
//!
//! A wildcard is a whole segment, wherever in the pattern; a name has none. Case counts, and nothing is normalised: two names are the
//! same when their bytes are. Nothing here allocates.

use core::fmt;
use core::str::Split;

/// Between two segments.
pub const SEPARATOR: char = '/';
/// Most bytes of a name or pattern: room for what people read, and a name with its length fits into a frame.
pub const NAME_BYTES_MAX: usize = 255;
/// Most segments: what bounds the depth of whatever is built of names.
pub const SEGMENTS_MAX: usize = 32;
/// Any one segment.
pub const ONE: &str = "*";
/// Any number of segments.
pub const MANY: &str = "**";

/// Why a text is no name or no pattern. Segments are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// It is empty.
    Empty,
    /// A segment is empty: the text begins or ends with a separator, or has two in a row.
    EmptySegment {
        /// Which.
        segment: usize,
    },
    /// It has more than [`NAME_BYTES_MAX`] bytes.
    TooLong {
        /// How many.
        bytes: usize,
    },
    /// It has more than [`SEGMENTS_MAX`] segments.
    TooManySegments {
        /// How many.
        segments: usize,
    },
    /// A name has a `*`.
    Wildcard {
        /// In which segment.
        segment: usize,
    },
    /// A pattern has a `*` that is not the whole of its segment.
    PartOfSegment {
        /// Which segment.
        segment: usize,
    },
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a name has one segment at least; write one, such as `bank`"),
            Self::EmptySegment { segment } => {
                write!(
                    f,
                    "segment {segment} is empty; write one `{SEPARATOR}` between two segments, and none at the ends"
                )
            }
            Self::TooLong { bytes } => {
                write!(f, "{bytes} bytes are too long for a name (at most {NAME_BYTES_MAX}); shorten it")
            }
            Self::TooManySegments { segments } => {
                write!(f, "{segments} segments are too many for a name (at most {SEGMENTS_MAX}); join some")
            }
            Self::Wildcard { segment } => {
                write!(f, "segment {segment} has a `*`, which is for patterns; a name has none: leave it out")
            }
            Self::PartOfSegment { segment } => write!(
                f,
                "segment {segment} has a `*` beside other characters; `{ONE}` and `{MANY}` stand for whole segments: divide it with \
                 `{SEPARATOR}`"
            ),
        }
    }
}

impl core::error::Error for NameError {}

/// Whether `name` is one.
///
/// # Errors
/// [`NameError`] says why not.
pub fn check_name(name: &str) -> Result<(), NameError> {
    check(name, |segment, text| if text.contains('*') { Err(NameError::Wildcard { segment }) } else { Ok(()) })
}

fn check(text: &str, segment: impl Fn(usize, &str) -> Result<(), NameError>) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong { bytes: text.len() });
    }
    let segments = segments(text).count();
    if segments > SEGMENTS_MAX {
        return Err(NameError::TooManySegments { segments });
    }
    for (number, text) in (1..).zip(self::segments(text)) {
        if text.is_empty() {
            return Err(NameError::EmptySegment { segment: number });
        }
        segment(number, text)?;
    }
    Ok(())
}

/// The segments of a name or pattern.
pub fn segments(text: &str) -> Split<'_, char> {
    text.split(SEPARATOR)
}

/// A pattern that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern<'a> {
    text: &'a str,
}

impl<'a> Pattern<'a> {
    /// The pattern in `text`; a name is one that stands for itself.
    ///
    /// # Errors
    /// [`NameError`] says what is wrong with it.
    pub fn new(text: &'a str) -> Result<Self, NameError> {
        check(text, |segment, text| match text {
            ONE | MANY => Ok(()),
            _ if text.contains('*') => Err(NameError::PartOfSegment { segment }),
            _ => Ok(()),
        })?;
        Ok(Self { text })
    }

    /// As it was written.
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// Its segments.
    pub fn segments(&self) -> Split<'a, char> {
        segments(self.text)
    }

    /// Whether it has no wildcard, and so stands for one name.
    pub fn is_name(&self) -> bool {
        !self.text.contains('*')
    }

    /// The segments in front of its first wildcard, without the separator behind them: every name that it stands for is this, or begins
    /// with this and a separator. Empty where it begins with a wildcard.
    pub fn root(&self) -> &'a str {
        let end = self.text.find('*').unwrap_or(self.text.len());
        let root = self.text.get(..end).unwrap_or_default();
        root.strip_suffix(SEPARATOR).unwrap_or(root)
    }

    /// Whether it stands for this name.
    ///
    /// Each `**` takes as few segments as it can, and only the last one reached has to be tried again with one more: whatever an earlier
    /// one could take, the last one can take as well. So the time is at most the product of both numbers of segments.
    pub fn matches(&self, name: &str) -> bool {
        let (mut wanted, mut found) = (self.segments(), segments(name));
        // Behind the last `**`: what is wanted there, and the first segment that it has not taken.
        let mut again: Option<(Split<'_, char>, Split<'_, char>)> = None;
        loop {
            let fits = match wanted.next() {
                Some(MANY) => {
                    if crate::mutant!("pattern_many_takes_one") {
                        found.next();
                    }
                    again = Some((wanted.clone(), found.clone()));
                    true
                }
                Some(segment) => found.next().is_some_and(|text| segment == ONE || segment == text),
                None if found.next().is_none() => return true,
                None => false,
            };
            if fits {
                continue;
            }
            match &mut again {
                Some((behind, rest)) if !crate::mutant!("pattern_never_again") => {
                    if rest.next().is_none() {
                        return false;
                    }
                    (wanted, found) = (behind.clone(), rest.clone());
                }
                _ => return false,
            }
        }
    }
}

impl fmt::Display for Pattern<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::{String, ToString};
    use std::vec::Vec;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(name)
    }

    #[test]
    fn wildcards_stand_for_what_they_say() {
        for (pattern, names, others) in [
            ("bank/eu", &["bank/eu"][..], &["bank", "bank/eu/1", "bank/e", "bank/EU"][..]),
            ("bank/*", &["bank/eu", "bank/-"], &["bank", "bank/eu/1", "banks/eu"]),
            ("*/eu", &["bank/eu"], &["eu", "a/bank/eu"]),
            ("*", &["bank"], &["bank/eu"]),
            ("**", &["bank", "bank/eu/1"], &[]),
            ("bank/**", &["bank", "bank/eu", "bank/eu/1"], &["banks", "a/bank"]),
            ("**/1", &["1", "bank/eu/1"], &["bank/1/eu", "11"]),
            ("bank/**/1", &["bank/1", "bank/eu/1", "bank/1/1", "bank/eu/1/1"], &["bank", "bank/1/eu", "1"]),
            ("bank/*/**", &["bank/eu", "bank/eu/1"], &["bank"]),
            ("bank/**/*", &["bank/eu", "bank/eu/1"], &["bank"]),
            ("**/a/**/b", &["a/b", "x/a/y/b", "a/a/b/b", "b/a/b"], &["a", "b", "b/a", "a/b/a"]),
            ("**/**", &["a", "a/b"], &[]),
        ] {
            assert!(names.iter().all(|name| matches(pattern, name)), "{pattern}");
            assert!(!others.iter().any(|name| matches(pattern, name)), "{pattern}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for (text, error) in [
            ("", NameError::Empty),
            ("/", NameError::EmptySegment { segment: 1 }),
            ("/bank", NameError::EmptySegment { segment: 1 }),
            ("bank/", NameError::EmptySegment { segment: 2 }),
            ("bank//eu", NameError::EmptySegment { segment: 2 }),
        ] {
            assert_eq!(check_name(text), Err(error), "{text}");
            assert_eq!(Pattern::new(text), Err(error), "{text}");
        }
        for text in ["bank/*", "bank/te*r", "**"] {
            assert!(matches!(check_name(text), Err(NameError::Wildcard { .. })), "{text}");
        }
        for text in ["bank/te*", "*a", "***", "bank/**a/b"] {
            assert!(matches!(Pattern::new(text), Err(NameError::PartOfSegment { .. })), "{text}");
        }
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        assert_eq!(check_name(&long), Err(NameError::TooLong { bytes: NAME_BYTES_MAX + 1 }));
        assert_eq!(check_name(&long[1..]), Ok(()));
        let deep = "x/".repeat(SEGMENTS_MAX) + "x";
        assert_eq!(check_name(&deep), Err(NameError::TooManySegments { segments: SEGMENTS_MAX + 1 }));
        assert_eq!(check_name(&deep[2..]), Ok(()));
        assert_eq!(check_name("größe/ä ö.#+"), Ok(()));
    }

    #[test]
    fn texts_name_cause_and_cure() {
        for (error, parts) in [
            (NameError::Empty, ["one segment at least", "write one"]),
            (NameError::EmptySegment { segment: 2 }, ["segment 2 is empty", "write one `/`"]),
            (NameError::TooLong { bytes: 300 }, ["300", "shorten"]),
            (NameError::TooManySegments { segments: 40 }, ["40", "join"]),
            (NameError::Wildcard { segment: 3 }, ["segment 3", "leave it out"]),
            (NameError::PartOfSegment { segment: 3 }, ["segment 3", "whole segments"]),
        ] {
            let text = error.to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
    }

    #[test]
    fn roots_end_before_the_first_wildcard() {
        for (pattern, root, is_name) in [
            ("bank/eu", "bank/eu", true),
            ("bank/eu/*", "bank/eu", false),
            ("bank/**/1", "bank", false),
            ("*/eu", "", false),
            ("**", "", false),
        ] {
            let pattern = Pattern::new(pattern).unwrap();
            assert_eq!((pattern.root(), pattern.is_name()), (root, is_name), "{pattern}");
        }
    }

    /// A pattern of many `**` that fits nowhere: the time is no power of their number.
    #[test]
    fn the_worst_pattern_is_quick() {
        let pattern = "**/a/".repeat(SEGMENTS_MAX / 2 - 1) + "**/b";
        let name = "a/".repeat(SEGMENTS_MAX - 1) + "a";
        assert!((0..10_000).all(|_| !matches(&pattern, &name)));
    }

    /// The rules as they are written down.
    fn oracle(pattern: &[&str], name: &[&str]) -> bool {
        match pattern {
            [] => name.is_empty(),
            [MANY, rest @ ..] => (0..=name.len()).any(|taken| oracle(rest, &name[taken..])),
            [first, rest @ ..] => {
                name.first().is_some_and(|segment| *first == ONE || first == segment) && oracle(rest, &name[1..])
            }
        }
    }

    fn joined(segments: &[&str]) -> String {
        segments.join("/")
    }

    proptest! {
        #[test]
        fn matching_is_that_of_the_oracle(
            pattern in proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("*"), Just("**")], 1..8),
            name in proptest::collection::vec(prop_oneof![Just("a"), Just("b")], 1..10),
        ) {
            let (text, joined_name) = (joined(&pattern), joined(&name));
            let checked = Pattern::new(&text).unwrap();
            let is_meant = oracle(&pattern, &name);
            prop_assert_eq!(checked.matches(&joined_name), is_meant);
            let root = checked.root();
            if is_meant && !root.is_empty() {
                let rest = joined_name.strip_prefix(root);
                prop_assert!(rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(SEPARATOR)));
            }
        }

        #[test]
        fn no_text_is_too_odd(text in "[a*/ \u{e9}]{0,12}", name in "[a/]{0,6}") {
            let segments: Vec<&str> = text.split('/').collect();
            let is_pattern = !text.is_empty()
                && segments.iter().all(|segment| !segment.is_empty() && (["*", "**"].contains(segment) || !segment.contains('*')));
            prop_assert_eq!(Pattern::new(&text).is_ok(), is_pattern);
            prop_assert_eq!(check_name(&text).is_ok(), is_pattern && !text.contains('*'));
            if let Ok(pattern) = Pattern::new(&text) {
                pattern.matches(&name);
                prop_assert!(!pattern.is_name() || pattern.matches(&text));
            }
        }
    }
}
