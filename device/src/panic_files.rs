//! Names of source files by their hash, for the places of panics: a failure has room for [`file_hash`] alone.
//!
//! One table for the process, for a path is no matter of an engine. Two ways lead into it: the PTX texts of an engine's system bring
//! the paths that stand in them, and a handler that panics on a machine of the host brings its own.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use tourbillon_shared::error::file_hash;

/// Paths that are remembered at most: far more than a system has source files, and no leak where somebody makes paths up.
pub const PANIC_FILES_MAX: usize = 4_096;

static FILES: RwLock<Files> = RwLock::new(Files { paths: BTreeSet::new() });

/// Remembers a path as the compiler writes it into panics; past [`PANIC_FILES_MAX`] it is not remembered, and its panics have a hash
/// only.
pub fn note(path: &str) {
    // The table is whole after every step, so a panic elsewhere under the lock leaves nothing half done.
    FILES.write().unwrap_or_else(PoisonError::into_inner).note(file_hash(path), path);
}

/// The path with this hash, if it is known; all of them, with "or" between, where several have it.
pub fn path_of(hash: u32) -> Option<Arc<str>> {
    FILES.read().unwrap_or_else(PoisonError::into_inner).path_of(hash)
}

#[derive(Debug)]
struct Files {
    /// The hash in front, so that the paths of one hash stand together.
    paths: BTreeSet<(u32, Arc<str>)>,
}

impl Files {
    fn note(&mut self, hash: u32, path: &str) {
        let key = (hash, Arc::from(path));
        if self.paths.len() < PANIC_FILES_MAX || self.paths.contains(&key) {
            self.paths.insert(key);
        }
    }

    fn path_of(&self, hash: u32) -> Option<Arc<str>> {
        let from_hash = self.paths.range((hash, Arc::from(""))..);
        let mut paths = from_hash.take_while(|(of, _)| *of == hash).map(|(_, path)| path);
        let first = Arc::clone(paths.next()?);
        if tourbillon_shared::mutant!("panic_file_first_of_hash") {
            return Some(first);
        }
        let others: String = paths.map(|path| format!(" or {path}")).collect();
        Some(if others.is_empty() { first } else { format!("{first}{others}").into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn files() -> Files {
        Files { paths: BTreeSet::new() }
    }

    #[test]
    fn a_path_is_found_by_its_hash_alone() {
        note("actors/of/this/test.rs");
        note("actors/of/this/test.rs");
        let hash = file_hash("actors/of/this/test.rs");
        assert_eq!(path_of(hash).as_deref(), Some("actors/of/this/test.rs"));
        assert_eq!(path_of(hash ^ 1), None);
        let mut files = files();
        for (hash, path) in [(0, "zero.rs"), (7, "seven.rs"), (u32::MAX, "last.rs")] {
            files.note(hash, path);
            assert_eq!(files.path_of(hash).as_deref(), Some(path));
        }
        assert_eq!(files.path_of(8), None);
    }

    /// Whoever reads the error must not be sent to the wrong file.
    #[test]
    fn all_paths_of_a_hash_are_named() {
        let mut seen = HashMap::new();
        let (first, second) = (0..2_000_000u32)
            .find_map(|i| {
                let path = format!("src/{i}.rs");
                let before = seen.insert(file_hash(&path), path.clone());
                before.map(|before| (before, path))
            })
            .expect("some two of so many have one hash");
        let mut files = files();
        files.note(file_hash(&first), &first);
        files.note(file_hash(&second), &second);
        let named = files.path_of(file_hash(&first)).unwrap();
        assert!(named.contains(&first) && named.contains(&second) && named.contains(" or "), "{named}");
    }

    #[test]
    fn there_is_a_bound() {
        let mut files = files();
        for i in 0..PANIC_FILES_MAX as u32 + 10 {
            files.note(i, "a.rs");
        }
        assert_eq!(files.paths.len(), PANIC_FILES_MAX);
        files.note(3, "a.rs");
        assert_eq!(files.path_of(3).as_deref(), Some("a.rs"));
        assert_eq!(files.path_of(PANIC_FILES_MAX as u32), None);
    }
}
