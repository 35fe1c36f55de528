//! `tourbillon new`: a package with actors of its own that builds and runs as it is.

use std::path::{Path, PathBuf};

use clap::Args;

/// The files of the package, with the marks `{{name}}`, `{{library}}`, `{{tourbillon}}` and `{{build}}`.
const FILES: [(&str, &str); 5] = [
    ("Cargo.toml", include_str!("../templates/Cargo.toml.txt")),
    ("build.rs", include_str!("../templates/build.rs")),
    ("src/lib.rs", include_str!("../templates/lib.rs")),
    ("src/main.rs", include_str!("../templates/main.rs")),
    (".gitignore", "/target/\n"),
];
/// The checkout that this program was built from, which mostly is the one that it is run from.
const OWN_CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// The longest name of a package: that of a folder on every file system.
const NAME_LENGTH_MAX: usize = 64;

/// Writes a package with an actor, a program and a build script that compiles the actor for GPUs.
#[derive(Clone, Debug, Args)]
pub struct NewOptions {
    /// Folder to write; its last part is the package's name: letters, digits, `-` and `_`.
    pub folder: PathBuf,
    /// The checkout of Tourbillon that the package uses [default: the one that this program was built from].
    #[arg(long, value_name = "CHECKOUT")]
    pub path: Option<PathBuf>,
}

/// Why there is no package.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// The name is none that a package can have.
    #[error(
        "`{name}` is no name of a package: a letter first, then letters, digits, `-` and `_`, {NAME_LENGTH_MAX} at most"
    )]
    BadName {
        /// What was given.
        name: String,
    },
    /// The name is that of a package that the new one needs.
    #[error("`{name}` is a package that the new one depends on; choose another name")]
    TakenName {
        /// What was given.
        name: String,
    },
    /// There is something already.
    #[error("{} exists already; choose another folder", folder.display())]
    Exists {
        /// The folder.
        folder: PathBuf,
    },
    /// The checkout is none.
    #[error("{} is no checkout of Tourbillon (it has no host/Cargo.toml); name one with --path", path.display())]
    NoCheckout {
        /// What was given, or where the program was built.
        path: PathBuf,
    },
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Writes the package and says how to go on.
///
/// # Errors
/// [`NewError`] with the cause; then nothing is left of it, unless a file could not be written.
pub fn run(options: &NewOptions) -> Result<(), NewError> {
    let checkout = write(options)?;
    let folder = options.folder.display();
    println!("wrote {folder}, which uses {}", checkout.display());
    println!("next: cd {folder} && cargo run                      # a GPU if there is one, else CPU threads");
    println!("      cargo run --release -- --backend cuda         # a GPU or an error");
    Ok(())
}

fn write(options: &NewOptions) -> Result<PathBuf, NewError> {
    let name = options.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= NAME_LENGTH_MAX
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if !is_name {
        return Err(NewError::BadName { name });
    }
    // Its library would have the name of one of those, or of what the compiler brings along.
    if name.starts_with("tourbillon") || ["bytemuck", "core", "alloc", "std", "test"].contains(&name.as_str()) {
        return Err(NewError::TakenName { name });
    }
    if options.folder.exists() {
        return Err(NewError::Exists { folder: options.folder.clone() });
    }
    let path = options.path.clone().unwrap_or_else(|| PathBuf::from(OWN_CHECKOUT));
    let checkout = path.canonicalize().ok().filter(|path| path.join("host/Cargo.toml").is_file());
    let checkout = checkout.ok_or(NewError::NoCheckout { path })?;
    let dependency = |folder: &str| format!("{{ path = {:?} }}", checkout.join(folder).display().to_string());
    for (file, template) in FILES {
        let text = template
            .replace("{{name}}", &name)
            .replace("{{library}}", &name.replace('-', "_"))
            .replace("{{tourbillon}}", &dependency("host"))
            .replace("{{build}}", &dependency("tools/build"));
        write_file(&options.folder.join(file), &text)?;
    }
    // The versions that Tourbillon is tested with, so that nothing has to be looked up; cargo leaves out what is not needed.
    let lock = checkout.join("Cargo.lock");
    if let Ok(text) = std::fs::read_to_string(&lock) {
        write_file(&options.folder.join("Cargo.lock"), &text)?;
    }
    Ok(checkout)
}

fn write_file(path: &Path, text: &str) -> Result<(), NewError> {
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(path, text));
    written.map_err(|source| NewError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of code that somebody who adds actors to a package writes.
    const USER_LINES_MAX: usize = 40;

    #[test]
    fn packages_are_written_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let options = |name: &str, path: Option<&str>| NewOptions {
            folder: folder.path().join(name),
            path: path.map(PathBuf::from),
        };
        let checkout = write(&options("my-actors", None)).unwrap();
        let read = |file: &str| std::fs::read_to_string(folder.path().join("my-actors").join(file)).unwrap();
        assert!(read("Cargo.toml").contains(&checkout.join("host").display().to_string()));
        assert!(read("src/main.rs").contains("use my_actors::"));
        assert!(read("Cargo.lock").contains("name = \"bytemuck\""));
        for (file, _) in FILES {
            assert!(!read(file).contains("{{"), "{file}");
        }
        assert!(matches!(write(&options("my-actors", None)), Err(NewError::Exists { .. })));
        for name in ["1st", "a b", "ä", "a.b", ".."] {
            assert!(matches!(write(&options(name, None)), Err(NewError::BadName { .. })), "{name}");
        }
        for name in ["tourbillon", "tourbillon-device", "bytemuck", "core"] {
            assert!(matches!(write(&options(name, None)), Err(NewError::TakenName { .. })), "{name}");
        }
        assert!(matches!(write(&options("other", Some("/"))), Err(NewError::NoCheckout { .. })));
        assert!(!folder.path().join("other").exists());
    }

    #[test]
    fn a_user_writes_few_lines() {
        let code = |text: &str| {
            text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with("//")).count()
        };
        let lines: usize = FILES.iter().filter(|(file, _)| file.ends_with(".rs")).map(|(_, text)| code(text)).sum();
        assert!(lines <= USER_LINES_MAX, "{lines} lines");
    }
}
