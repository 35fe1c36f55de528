//! Names for actors that programs find by looking: `bank/eu/teller-1` stands for an actor, and `bank/*/teller-1` or `bank/**` for all
//! whose names fit ([`tourbillon_shared::pattern`] has the rules).
//!
//! A name here says where somebody is to be found, and may change hands; a [`Key`] made of a string ([`Engine::key`](crate::Engine::key))
//! is who an actor is. So one actor may have several names or none, and to register it does not bring it to life: its first
//! message does.
//!
//! ```
//! use tourbillon::actors::counter::{Add, Get};
//! use tourbillon::actors::Counter;
//! use tourbillon::{Backend, Engine};
//!
//! let engine = Engine::builder().backend(Backend::Cpu).build()?;
//! let registry = engine.registry();
//! registry.register::<Counter>("bank/eu/teller-1", 7)?;
//! registry.register::<Counter>("bank/us/teller-1", engine.key("alice")?)?;
//!
//! let mut client = engine.client()?;
//! client.call(registry.key_of::<Counter>("bank/eu/teller-1")?, Add { amount: 5, sender: 0, sequence: 1 })?;
//! for found in registry.matching("bank/*/teller-1")? {
//!     client.call(found.key, Get {})?;
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tourbillon_device::{Actor, Kind, SystemImage};
use tourbillon_shared::pattern::{NameError, Pattern, check_name};

use crate::keys::Key;
use crate::name_index::NameIndex;

/// Most names of a registry, some 20 MiB where they are long: it is for actors that somebody looks for. Millions of actors have keys of
/// their own, which need no registry.
pub const REGISTRY_NAMES_MAX: usize = 1 << 16;

/// The names of an engine's actors. Clones are the same registry, for any thread; it outlives its engine, and begins empty with each.
///
/// Readers share a lock and do not wait for each other; who registers waits for those who read at the time, a reader for the one change
/// in front of it. Each call sees the registry as it is at one moment.
#[derive(Clone, Debug)]
pub struct Registry {
    names: Arc<RwLock<NameIndex<Target>>>,
    system: &'static str,
    kinds: &'static [Kind],
}

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
struct Target {
    kind: u16,
    kind_name: &'static str,
    key: Key,
}

/// An actor with a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Registered {
    /// The name.
    pub name: Arc<str>,
    /// Number of the actor's kind.
    pub kind: u16,
    /// Name of the actor's kind.
    pub kind_name: &'static str,
    /// The actor's key.
    pub key: Key,
}

impl Registered {
    fn new((name, target): (&Arc<str>, &Target)) -> Self {
        Self { name: Arc::clone(name), kind: target.kind, kind_name: target.kind_name, key: target.key }
    }

    /// Whether the actor is of kind `A`.
    pub fn is_a<A: Actor>(&self) -> bool {
        self.kind == A::KIND
    }
}

/// Why a registry did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The text is no name, or no pattern.
    #[error("`{text}`: {error}")]
    Name {
        /// What was given.
        text: String,
        /// What is wrong with it.
        #[source]
        error: NameError,
    },
    /// Another registration has the name.
    #[error("`{}` stands for the {} {} already; unregister it first, or use `replace`", by.name, by.kind_name, by.key.number())]
    Taken {
        /// What it stands for.
        by: Registered,
    },
    /// Nobody has the name.
    #[error("nobody is registered as `{name}`; register it, or look for it with a pattern")]
    NotRegistered {
        /// What was asked for.
        name: String,
    },
    /// The name stands for an actor of another kind.
    #[error("`{}` stands for an actor of kind {}, not {wanted}; ask for the former", found.name, found.kind_name)]
    OtherKind {
        /// What it stands for.
        found: Registered,
        /// Name of the kind that was asked for.
        wanted: &'static str,
    },
    /// The engine's system has no such kind.
    #[error("the system `{system}` has no kind {kind} (`{name}`); add it to the list of `system!`")]
    NoSuchKind {
        /// Name of the system.
        system: &'static str,
        /// Number of the kind.
        kind: u16,
        /// Name of the kind.
        name: &'static str,
    },
    /// There are as many names as there may be.
    #[error("the registry has {most} names already; unregister some, or find actors by their keys")]
    TooManyNames {
        /// The bound.
        most: usize,
    },
}

impl RegistryError {
    fn not_registered(name: &str) -> Self {
        Self::NotRegistered { name: name.to_owned() }
    }
}

impl Registry {
    pub(crate) fn new(image: &SystemImage) -> Self {
        Self { names: Arc::default(), system: image.name, kinds: image.kinds }
    }

    /// The index is whole after every step of it, so a panic elsewhere under the lock leaves nothing half done.
    fn read(&self) -> RwLockReadGuard<'_, NameIndex<Target>> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, NameIndex<Target>> {
        self.names.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a free name to the actor `A` at `key`, whether it has been used or not.
    ///
    /// # Errors
    /// [`RegistryError::Taken`], also where the name stands for this actor already; [`RegistryError::Name`],
    /// [`RegistryError::NoSuchKind`], [`RegistryError::TooManyNames`].
    pub fn register<A: Actor>(&self, name: &str, key: impl Into<Key>) -> Result<(), RegistryError> {
        let target = self.checked::<A>(name, key.into())?;
        let mut names = self.write();
        if let Some(taken) = names.get_key_value(name)
            && !tourbillon_shared::mutant!("registry_takes_over")
        {
            return Err(RegistryError::Taken { by: Registered::new(taken) });
        }
        Self::insert(&mut names, name, target).map(|_| ())
    }

    /// Gives a name to the actor `A` at `key`, whoever has it; the one who had it.
    ///
    /// # Errors
    /// [`RegistryError::Name`], [`RegistryError::NoSuchKind`], and for a name that is free [`RegistryError::TooManyNames`].
    pub fn replace<A: Actor>(&self, name: &str, key: impl Into<Key>) -> Result<Option<Registered>, RegistryError> {
        let target = self.checked::<A>(name, key.into())?;
        Self::insert(&mut self.write(), name, target)
    }

    /// What a name is to stand for, if it may.
    fn checked<A: Actor>(&self, name: &str, key: Key) -> Result<Target, RegistryError> {
        check_name(name).map_err(|error| RegistryError::Name { text: name.to_owned(), error })?;
        if !self.kinds.iter().any(|kind| kind.number == A::KIND) {
            return Err(RegistryError::NoSuchKind { system: self.system, kind: A::KIND, name: A::NAME });
        }
        Ok(Target { kind: A::KIND, kind_name: A::NAME, key })
    }

    /// Sets a name within the bound; what it stood for.
    fn insert(names: &mut NameIndex<Target>, name: &str, target: Target) -> Result<Option<Registered>, RegistryError> {
        let before = names.get_key_value(name).map(Registered::new);
        if before.is_none() && names.len() >= REGISTRY_NAMES_MAX {
            return Err(RegistryError::TooManyNames { most: REGISTRY_NAMES_MAX });
        }
        let kept = before.as_ref().map_or_else(|| name.into(), |before| Arc::clone(&before.name));
        names.insert(kept, target);
        Ok(before)
    }

    /// Takes a name away; what it stood for. The actor stays as it is.
    ///
    /// # Errors
    /// [`RegistryError::NotRegistered`], also for what can be no name.
    pub fn unregister(&self, name: &str) -> Result<Registered, RegistryError> {
        let removed = self.write().remove(name);
        removed
            .map(|(name, target)| Registered::new((&name, &target)))
            .ok_or_else(|| RegistryError::not_registered(name))
    }

    /// What a name stands for; nothing where nobody has it, and for what can be no name.
    pub fn get(&self, name: &str) -> Option<Registered> {
        self.read().get_key_value(name).map(Registered::new)
    }

    /// The key of the actor of kind `A` that a name stands for.
    ///
    /// # Errors
    /// [`RegistryError::NotRegistered`], [`RegistryError::OtherKind`].
    pub fn key_of<A: Actor>(&self, name: &str) -> Result<Key, RegistryError> {
        let found = self.get(name).ok_or_else(|| RegistryError::not_registered(name))?;
        if found.is_a::<A>() { Ok(found.key) } else { Err(RegistryError::OtherKind { found, wanted: A::NAME }) }
    }

    /// All names that `pattern` stands for, in the order of their bytes: `*` is one segment, `**` any number of them, also none. Names
    /// that begin otherwise than the pattern does before its first wildcard are not looked at.
    ///
    /// # Errors
    /// [`RegistryError::Name`] where it is no pattern.
    pub fn matching(&self, pattern: &str) -> Result<Vec<Registered>, RegistryError> {
        let checked = Pattern::new(pattern).map_err(|error| RegistryError::Name { text: pattern.to_owned(), error })?;
        Ok(self.read().matching(&checked).map(Registered::new).collect())
    }

    /// All names, in the order of their bytes.
    pub fn list(&self) -> Vec<Registered> {
        self.read().iter().map(Registered::new).collect()
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::Barrier;

    use proptest::prelude::*;
    use tourbillon_actors::{Book, Counter, Echo};

    fn registry() -> Registry {
        Registry::new(&crate::shipped_image())
    }

    #[test]
    fn a_name_has_one_actor_until_it_is_replaced() {
        let registry = registry();
        registry.register::<Counter>("a/b", 1).unwrap();
        let first = registry.get("a/b").unwrap();
        assert_eq!((&*first.name, first.kind, first.kind_name, first.key), ("a/b", Counter::KIND, "Counter", 1.into()));
        for _ in 0..2 {
            assert_eq!(registry.register::<Echo>("a/b", 2), Err(RegistryError::Taken { by: first.clone() }));
        }
        assert_eq!(registry.register::<Counter>("a/b", 1), Err(RegistryError::Taken { by: first.clone() }));
        assert_eq!(registry.replace::<Echo>("a/b", 2), Ok(Some(first)));
        assert_eq!(registry.key_of::<Echo>("a/b"), Ok(2.into()));
        let other = registry.key_of::<Counter>("a/b").unwrap_err();
        assert!(other.to_string().contains("`a/b` stands for an actor of kind Echo, not Counter"), "{other}");
        // One actor under a second name.
        registry.register::<Echo>("a/c", 2).unwrap();
        assert_eq!(registry.list().len(), 2);
        assert_eq!(registry.unregister("a/b").map(|gone| gone.key), Ok(2.into()));
        let name = || "a/b".to_owned();
        assert_eq!(registry.unregister("a/b"), Err(RegistryError::NotRegistered { name: name() }));
        assert_eq!(registry.key_of::<Echo>("a/b"), Err(RegistryError::NotRegistered { name: name() }));
        assert_eq!((registry.get("a/b"), registry.len(), registry.is_empty()), (None, 1, false));
        assert_eq!(registry.replace::<Echo>("a/b", 3), Ok(None), "a free name as well");
    }

    #[test]
    fn bad_names_kinds_and_patterns_are_refused() {
        let registry = registry();
        for (name, error) in [
            ("", NameError::Empty),
            ("a//b", NameError::EmptySegment { segment: 2 }),
            ("a/*", NameError::Wildcard { segment: 2 }),
            (&*"x".repeat(300), NameError::TooLong { bytes: 300 }),
        ] {
            let refused = RegistryError::Name { text: name.to_owned(), error };
            assert_eq!(registry.register::<Echo>(name, 1), Err(refused.clone()));
            assert_eq!(registry.replace::<Echo>(name, 1), Err(refused));
            assert!(registry.unregister(name).is_err() && registry.get(name).is_none());
        }
        for (pattern, error) in [
            ("", NameError::Empty),
            ("a/", NameError::EmptySegment { segment: 2 }),
            ("a/b*", NameError::PartOfSegment { segment: 2 }),
        ] {
            assert_eq!(registry.matching(pattern), Err(RegistryError::Name { text: pattern.to_owned(), error }));
        }
        let refused = registry.register::<Book>("a", 1).unwrap_err();
        assert!(matches!(refused, RegistryError::NoSuchKind { name: "Book", .. }), "{refused}");
        assert!(registry.is_empty());
    }

    #[test]
    fn there_is_a_bound() {
        let registry = registry();
        for i in 0..REGISTRY_NAMES_MAX as u64 {
            registry.register::<Echo>(&format!("all/{i}"), i).unwrap();
        }
        let full = Err(RegistryError::TooManyNames { most: REGISTRY_NAMES_MAX });
        assert_eq!(registry.register::<Echo>("one/more", 1), full);
        assert_eq!(registry.replace::<Echo>("one/more", 1).map(|_| ()), full);
        assert!(registry.replace::<Echo>("all/7", 1).is_ok(), "no name more");
        registry.unregister("all/8").unwrap();
        assert_eq!(registry.register::<Echo>("one/more", 1), Ok(()));
        assert_eq!(registry.len(), REGISTRY_NAMES_MAX);
    }

    #[test]
    fn of_several_who_want_a_name_one_gets_it() {
        let registry = registry();
        let (threads, names) = (4u64, 200u64);
        let barrier = Barrier::new(threads as usize);
        let won: Vec<Vec<u64>> = std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads)
                .map(|thread| {
                    let (registry, barrier) = (registry.clone(), &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        let take = |name: &u64| {
                            // A name that somebody has is complete, and among those that match.
                            let has = registry.register::<Echo>(&format!("n/{name}"), thread).is_ok();
                            let found = registry.matching(&format!("*/{name}")).unwrap();
                            assert_eq!((found.len(), &*found[0].name), (1, &*format!("n/{name}")));
                            assert!(!has || found[0].key == thread.into());
                            has
                        };
                        (0..names).filter(take).collect()
                    })
                })
                .collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (thread, won) in won.iter().enumerate() {
            for name in won {
                assert_eq!(registry.key_of::<Echo>(&format!("n/{name}")), Ok((thread as u64).into()));
            }
        }
        assert_eq!(won.iter().map(Vec::len).sum::<usize>(), names as usize);
    }

    /// Two who read at the same time: each holds what it reads while the other begins.
    #[test]
    fn readers_do_not_wait_for_each_other() {
        let registry = registry();
        registry.register::<Echo>("a", 1).unwrap();
        let held = registry.read();
        let (tell, told) = std::sync::mpsc::channel();
        let other = registry.clone();
        std::thread::spawn(move || tell.send(other.matching("**").unwrap().len()));
        assert_eq!(told.recv_timeout(std::time::Duration::from_secs(20)), Ok(1));
        assert_eq!(held.len(), 1);
    }

    fn name() -> impl Strategy<Value = String> {
        proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("c-")], 1..4).prop_map(|parts| parts.join("/"))
    }

    proptest! {
        #[test]
        fn a_registry_is_a_map_with_patterns(
            steps in proptest::collection::vec((0..3u8, name(), 0..5u64), 0..60),
            patterns in proptest::collection::vec("(a|b|\\*|\\*\\*)(/(a|b|c-|\\*|\\*\\*)){0,3}", 1..6),
        ) {
            let (registry, mut oracle) = (registry(), BTreeMap::<String, u64>::new());
            for (step, name, key) in &steps {
                match step {
                    0 => {
                        let is_free = !oracle.contains_key(name);
                        prop_assert_eq!(registry.register::<Echo>(name, *key).is_ok(), is_free);
                        oracle.entry(name.clone()).or_insert(*key);
                    }
                    1 => {
                        let before = registry.replace::<Echo>(name, *key).unwrap().map(|before| before.key.number());
                        prop_assert_eq!(before, oracle.insert(name.clone(), *key));
                    }
                    _ => {
                        let gone = registry.unregister(name).ok().map(|gone| gone.key.number());
                        prop_assert_eq!(gone, oracle.remove(name));
                    }
                }
            }
            let told = |all: Vec<Registered>| -> Vec<(String, u64)> {
                all.into_iter().map(|one| (one.name.to_string(), one.key.number())).collect()
            };
            prop_assert_eq!(told(registry.list()), oracle.clone().into_iter().collect::<Vec<_>>());
            for pattern in &patterns {
                let wanted: Vec<&str> = pattern.split('/').collect();
                let fits = |name: &str| fits(&wanted, &name.split('/').collect::<Vec<_>>());
                let expected: Vec<_> = oracle.iter().filter(|(name, _)| fits(name)).map(|(n, k)| (n.clone(), *k)).collect();
                prop_assert_eq!(told(registry.matching(pattern).unwrap()), expected, "{}", pattern);
            }
        }
    }

    /// The rules as they are written down.
    fn fits(pattern: &[&str], name: &[&str]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            (["**", rest @ ..], _) => (0..=name.len()).any(|taken| fits(rest, &name[taken..])),
            ([first, rest @ ..], [segment, others @ ..]) => (*first == "*" || first == segment) && fits(rest, others),
            _ => false,
        }
    }
}
