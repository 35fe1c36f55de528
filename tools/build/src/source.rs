//! The hash over everything that a PTX text is made from.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Folders whose Rust files make the text, relative to the workspace.
pub const FOLDERS: [&str; 5] =
    ["device/src", "device/actors/src", "device/derive/src", "device/kernel/src", "shared/src"];
/// Further files that make the text, relative to the workspace.
pub const FILES: [&str; 6] = [
    "device/Cargo.toml",
    "device/actors/Cargo.toml",
    "device/derive/Cargo.toml",
    "device/kernel/Cargo.toml",
    "device/kernel/Cargo.lock",
    "shared/Cargo.toml",
];

/// All files that make the text, relative to `workspace`, in a fixed order.
///
/// # Errors
/// When a folder cannot be read.
pub fn source_files(workspace: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = FILES.iter().map(PathBuf::from).collect();
    for folder in FOLDERS {
        collect(workspace, Path::new(folder), &mut files)?;
    }
    files.sort();
    Ok(files)
}

fn collect(workspace: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(workspace.join(folder))? {
        let entry = entry?;
        let relative = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            collect(workspace, &relative, files)?;
        } else if relative.extension().is_some_and(|extension| extension == "rs") {
            files.push(relative);
        }
    }
    Ok(())
}

/// The SHA-256 in hexadecimal over the sources below `workspace`, the compiler's version and its flags.
///
/// It depends on the files' contents and on their paths below the workspace, on nothing else: not on where the workspace
/// lies, not on times or on the order in which a folder lists its files.
///
/// # Errors
/// When a source cannot be read.
pub fn source_hash(workspace: &Path, toolchain: &str, flags: &[String]) -> io::Result<String> {
    let mut hash = Sha256::new();
    // Every part is preceded by its length: no two different inputs run together into the same bytes.
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for file in source_files(workspace)? {
        let name: Vec<_> = file.iter().map(|part| part.to_string_lossy()).collect();
        part(name.join("/").as_bytes());
        part(&std::fs::read(workspace.join(&file))?);
    }
    part(toolchain.as_bytes());
    for flag in flags {
        part(flag.as_bytes());
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A workspace with one file in each place.
    pub(crate) fn workspace() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in FILES.iter().map(|f| f.to_string()).chain(FOLDERS.iter().map(|f| format!("{f}/lib.rs"))) {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "one").unwrap();
        }
        folder
    }

    fn hash(folder: &tempfile::TempDir) -> String {
        source_hash(folder.path(), "rustc 1", &["-a".into()]).unwrap()
    }

    #[test]
    fn it_does_not_depend_on_the_place() {
        assert_eq!(hash(&workspace()), hash(&workspace()));
        assert_eq!(hash(&workspace()).len(), 64);
    }

    #[test]
    fn every_source_counts() {
        let folder = workspace();
        let before = hash(&folder);
        for file in source_files(folder.path()).unwrap() {
            let path = folder.path().join(&file);
            std::fs::write(&path, "two").unwrap();
            assert_ne!(hash(&folder), before, "{}", file.display());
            std::fs::write(&path, "one").unwrap();
        }
        assert_eq!(hash(&folder), before);
    }

    #[test]
    fn new_files_names_compiler_and_flags_count() {
        let folder = workspace();
        let before = hash(&folder);
        let inner = folder.path().join("device/src/arch");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(inner.join("notes.txt"), "no source").unwrap();
        assert_eq!(hash(&folder), before);
        std::fs::write(inner.join("a.rs"), "").unwrap();
        let with_a = hash(&folder);
        assert_ne!(with_a, before);
        std::fs::rename(inner.join("a.rs"), inner.join("b.rs")).unwrap();
        assert_ne!(hash(&folder), with_a);
        assert_ne!(source_hash(folder.path(), "rustc 2", &["-a".into()]).unwrap(), hash(&folder));
        assert_ne!(source_hash(folder.path(), "rustc 1", &["-b".into()]).unwrap(), hash(&folder));
    }

    #[test]
    fn a_missing_source_is_an_error() {
        let folder = workspace();
        std::fs::remove_file(folder.path().join("shared/Cargo.toml")).unwrap();
        assert!(source_hash(folder.path(), "", &[]).is_err());
    }
}
