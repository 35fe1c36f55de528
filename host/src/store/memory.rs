//! A store in memory.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Store, StoreError, StoredActor};
use crate::keys::ActorKey;

/// Keeps actors in the memory of the process: for more actors than a device has room for, and for tests.
#[derive(Debug, Default)]
pub struct MemoryStore {
    actors: Mutex<HashMap<(u16, ActorKey), StoredActor>>,
}

impl MemoryStore {
    /// Actors that were kept.
    pub fn len(&self) -> usize {
        self.actors().len()
    }

    /// Whether none was kept yet.
    pub fn is_empty(&self) -> bool {
        self.actors().is_empty()
    }

    /// What was last kept of an actor.
    pub fn get(&self, kind: u16, key: &ActorKey) -> Option<StoredActor> {
        self.actors().get(&(kind, key.clone())).cloned()
    }

    fn actors(&self) -> MutexGuard<'_, HashMap<(u16, ActorKey), StoredActor>> {
        // The map is whole after every step of it.
        self.actors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn evict(&self, actor: &StoredActor) -> Result<(), StoreError> {
        self.actors().insert((actor.kind, actor.key.clone()), actor.clone());
        Ok(())
    }

    fn fetch(&self, kind: u16, key: &ActorKey) -> Result<Option<StoredActor>, StoreError> {
        Ok(self.get(kind, key))
    }
}
