//! Keys of actors: a u64 of the caller's own, a string, or an id of 128 bits.
//!
//! A frame has room for 64 bits of key. A string or a wide id therefore gets a number from its engine's directory, in a key space of its
//! own ([`tourbillon_shared::virtual_actors`]). The directory is an exact map in both directions, so two names never share an actor, and
//! no name meets a native key. A number belongs to its engine, and to one life of it: what a store keeps goes by the name
//! ([`ActorKey`]).
//!
//! ```
//! use tourbillon::actors::counter::Add;
//! use tourbillon::{Backend, Engine};
//!
//! let engine = Engine::builder().backend(Backend::Cpu).build()?;
//! let mut client = engine.client()?;
//! let alice = engine.key("alice")?;
//! client.call(alice, Add { amount: 5, sender: 0, sequence: 1 })?;
//! assert_eq!(client.call(alice.number(), Add { amount: 1, sender: 0, sequence: 1 })?.previous, 0, "another actor");
//! assert_eq!(engine.name_of(alice).map(|name| name.to_string()), Some("alice".to_owned()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tourbillon_shared::virtual_actors::{SPACE_NATIVE, SPACE_STRING, SPACE_WIDE, kind_word};

/// Most bytes of a string that is a key: names are kept for as long as the engine lives, and a key is no place for content.
pub const KEY_BYTES_MAX: usize = 1024;
/// Names that an engine knows at most unless told otherwise: some 150 MiB where they are short.
pub const KEY_NAMES_DEFAULT: u64 = 1 << 20;
/// Parts of each map of a directory, each with a lock of its own: far more than threads that ask for names at the same time.
const PARTS: usize = 64;

/// The key of an actor, as a client sends it. A u64 is one as it is; [`Engine::key`](crate::Engine::key) makes one of a string or of an
/// id of 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    space: u16,
    number: u64,
}

impl Key {
    /// The key with this number in a space of [`tourbillon_shared::virtual_actors`], whether it has a name or not.
    pub(crate) fn in_space(space: u16, number: u64) -> Self {
        Self { space, number }
    }

    /// What the actor's handlers see as [`Context::key`](crate::Context::key): a native key itself, else the number of the name.
    #[inline(always)]
    pub fn number(self) -> u64 {
        self.number
    }

    /// Whether the key is a u64 of the caller's own.
    #[inline(always)]
    pub fn is_native(self) -> bool {
        self.space == SPACE_NATIVE
    }

    /// The kind word of an actor of `kind` under this key.
    #[inline(always)]
    pub(crate) fn kind_word(self, kind: u16) -> u16 {
        kind_word(kind, self.space)
    }

    /// The key space.
    pub(crate) fn space(self) -> u16 {
        self.space
    }
}

impl From<u64> for Key {
    #[inline(always)]
    fn from(number: u64) -> Self {
        Self { space: SPACE_NATIVE, number }
    }
}

/// What an actor is called outside its engine: the same in every life of an engine, so what a store files it under.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ActorKey {
    /// A key of the caller's own.
    Native(u64),
    /// A string.
    Name(Arc<str>),
    /// An id of 128 bits.
    Wide(u128),
}

impl fmt::Display for ActorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native(key) => write!(f, "{key}"),
            Self::Name(name) => f.write_str(name),
            Self::Wide(id) => write!(f, "{id:032x}"),
        }
    }
}

/// Why there is no key for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The string is too long.
    #[error("a key of {bytes} bytes is too long, at most {most} are allowed; use a digest of it")]
    TooLong {
        /// Bytes of the string.
        bytes: usize,
        /// The most that is allowed.
        most: usize,
    },
    /// The engine knows as many names as it may.
    #[error("the engine knows {most} names already; raise `key_names`")]
    TooManyNames {
        /// The bound.
        most: u64,
    },
}

/// What a key can be made of: a string or an id of 128 bits.
pub trait KeyName {
    /// The key of this name in a directory.
    #[doc(hidden)]
    fn key_in(&self, directory: &Names) -> Result<Key, KeyError>;
}

impl KeyName for str {
    fn key_in(&self, directory: &Names) -> Result<Key, KeyError> {
        if self.len() > KEY_BYTES_MAX {
            return Err(KeyError::TooLong { bytes: self.len(), most: KEY_BYTES_MAX });
        }
        Ok(Key::in_space(SPACE_STRING, directory.strings.number(self, || Arc::from(self), &directory.bound)?))
    }
}

impl KeyName for &str {
    fn key_in(&self, directory: &Names) -> Result<Key, KeyError> {
        (**self).key_in(directory)
    }
}

impl KeyName for String {
    fn key_in(&self, directory: &Names) -> Result<Key, KeyError> {
        self.as_str().key_in(directory)
    }
}

impl KeyName for u128 {
    fn key_in(&self, directory: &Names) -> Result<Key, KeyError> {
        Ok(Key::in_space(SPACE_WIDE, directory.wides.number(self, || *self, &directory.bound)?))
    }
}

/// The names that an engine knows. Shared by all that is made from it.
#[derive(Debug)]
#[doc(hidden)]
pub struct Names {
    strings: Space<Arc<str>>,
    wides: Space<u128>,
    bound: Bound,
}

impl Names {
    pub(crate) fn new(most: u64) -> Self {
        Self { strings: Space::default(), wides: Space::default(), bound: Bound { most, known: AtomicU64::new(0) } }
    }

    /// What the actor with this key is called; nothing where the number stands for no name.
    pub(crate) fn name_of(&self, key: Key) -> Option<ActorKey> {
        match key.space() {
            SPACE_NATIVE => Some(ActorKey::Native(key.number())),
            SPACE_STRING => self.strings.name(key.number()).map(ActorKey::Name),
            SPACE_WIDE => self.wides.name(key.number()).map(ActorKey::Wide),
            _ => None,
        }
    }

    /// Names that it knows.
    pub(crate) fn known(&self) -> u64 {
        self.bound.known.load(Ordering::Relaxed)
    }
}

/// How many names there are, in all spaces, and how many there may be.
#[derive(Debug)]
struct Bound {
    most: u64,
    known: AtomicU64,
}

impl Bound {
    /// Takes a place for one more.
    fn take(&self) -> Result<(), KeyError> {
        // Relaxed: a count that nothing is read on the strength of.
        let taken = self
            .known
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |known| (known < self.most).then_some(known + 1));
        taken.map(|_| ()).map_err(|_| KeyError::TooManyNames { most: self.most })
    }
}

/// One part of a map.
type Part<K, V, S> = RwLock<HashMap<K, V, S>>;

/// The names of one key space. Readers of a part share its lock; it is held alone only while a new name is noted.
#[derive(Debug)]
struct Space<N, S = RandomState> {
    numbers: Box<[Part<N, u64, S>]>,
    names: Box<[Part<u64, N, S>]>,
    hasher: S,
    last: AtomicU64,
}

impl<N, S: BuildHasher + Clone + Default> Default for Space<N, S> {
    fn default() -> Self {
        let hasher = S::default();
        Self {
            numbers: (0..PARTS).map(|_| RwLock::new(HashMap::with_hasher(hasher.clone()))).collect(),
            names: (0..PARTS).map(|_| RwLock::new(HashMap::with_hasher(hasher.clone()))).collect(),
            hasher,
            last: AtomicU64::new(0),
        }
    }
}

impl<N: Clone + Eq + Hash, S: BuildHasher> Space<N, S> {
    /// The number of a name, a new one if it has none.
    fn number<Q>(&self, name: &Q, owned: impl FnOnce() -> N, bound: &Bound) -> Result<u64, KeyError>
    where
        N: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let part = &self.numbers[self.hasher.hash_one(name) as usize % PARTS];
        // A map is whole after every step of it, so a panic elsewhere under the lock leaves nothing half done.
        if let Some(number) = part.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(*number);
        }
        let mut numbers = part.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = numbers.get(name) {
            return Ok(*number);
        }
        bound.take()?;
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let owned = owned();
        // Way back first: whoever has the number finds the name.
        let back = &self.names[number as usize % PARTS];
        back.write().unwrap_or_else(PoisonError::into_inner).insert(number, owned.clone());
        numbers.insert(owned, number);
        Ok(number)
    }

    fn name(&self, number: u64) -> Option<N> {
        let part = &self.names[number as usize % PARTS];
        part.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::hash::{BuildHasherDefault, Hasher};

    /// Every name has the same hash.
    #[derive(Clone, Default)]
    struct Same;

    impl Hasher for Same {
        fn finish(&self) -> u64 {
            7
        }
        fn write(&mut self, _bytes: &[u8]) {}
    }

    #[test]
    fn names_whose_hashes_collide_have_numbers_of_their_own() {
        let space: Space<Arc<str>, BuildHasherDefault<Same>> = Space::default();
        let bound = Bound { most: 1_000, known: AtomicU64::new(0) };
        let number = |name: &str| space.number(name, || Arc::from(name), &bound).unwrap();
        let numbers: Vec<u64> = (0..200).map(|i| number(&format!("name {i}"))).collect();
        for (i, first) in numbers.iter().enumerate() {
            assert_eq!(number(&format!("name {i}")), *first);
            assert_eq!(space.name(*first).as_deref(), Some(format!("name {i}").as_str()));
            assert!(numbers[i + 1..].iter().all(|other| other != first));
        }
        assert_eq!(bound.known.load(Ordering::Relaxed), 200);
    }

    #[test]
    fn what_is_too_long_or_too_much_is_refused() {
        let names = Names::new(2);
        let long = "x".repeat(KEY_BYTES_MAX + 1);
        assert_eq!(long.key_in(&names), Err(KeyError::TooLong { bytes: KEY_BYTES_MAX + 1, most: KEY_BYTES_MAX }));
        assert!(long[1..].key_in(&names).is_ok());
        assert!(7u128.key_in(&names).is_ok());
        assert_eq!("one more".key_in(&names), Err(KeyError::TooManyNames { most: 2 }));
        assert_eq!((long[1..].key_in(&names).is_ok(), names.known()), (true, 2));
    }

    #[test]
    fn spaces_never_meet() {
        let names = Names::new(10);
        let (name, wide) = ("1".key_in(&names).unwrap(), 1u128.key_in(&names).unwrap());
        assert_eq!((name.number(), wide.number()), (1, 1));
        assert!(name != wide && name != Key::from(1) && wide != Key::from(1));
        assert_eq!(names.name_of(name), Some(ActorKey::Name("1".into())));
        assert_eq!(names.name_of(wide), Some(ActorKey::Wide(1)));
        assert_eq!(names.name_of(1.into()), Some(ActorKey::Native(1)));
        assert_eq!(names.name_of(Key::in_space(SPACE_STRING, 2)), None);
    }

    #[test]
    fn threads_agree_on_numbers() {
        let names = Names::new(10_000);
        let found: Vec<Vec<Key>> = std::thread::scope(|scope| {
            let find = || (0..1_000u128).map(|id| id.key_in(&names).unwrap()).collect();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(find)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(found.iter().all(|keys| *keys == found[0]));
        assert_eq!(names.known(), 1_000);
    }

    proptest! {
        #[test]
        fn the_directory_is_a_map_both_ways(words in proptest::collection::vec("[a-c]{0,3}", 0..60)) {
            let names = Names::new(1_000);
            let mut oracle = std::collections::BTreeMap::new();
            for word in &words {
                let key = word.key_in(&names).unwrap();
                prop_assert_eq!(*oracle.entry(word.clone()).or_insert(key), key);
                prop_assert_eq!(names.name_of(key), Some(ActorKey::Name(word.as_str().into())));
            }
            prop_assert_eq!(names.known(), oracle.len() as u64);
        }
    }
}
