//! Finding a compiler that can turn device crates into PTX.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Names a device compiler in place of the search: the path of its `rustc`, with `cargo` beside it.
pub const COMPILER_VARIABLE: &str = "TOURBILLON_DEVICE_RUSTC";
/// Older compilers do not treat device functions as convergent by default, and move collectives into divergent code.
pub const OLDEST_DATE: &str = "2026-04-01";
/// The first release after [`OLDEST_DATE`].
pub const OLDEST_MINOR: u32 = 96;

/// A compiler that can turn device crates into PTX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// Its `rustc`.
    pub rustc: PathBuf,
    /// Its `cargo`.
    pub cargo: PathBuf,
    /// The line of `rustc -V`.
    pub version: String,
}

/// Why there is no device toolchain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no device toolchain ({tried}).\n\
     Debian: run ci/setup-device-toolchain.sh, which installs rustc-web cargo-web rust-web-src rust-web-llvm.\n\
     rustup: rustup toolchain install nightly --component rust-src (of April 2026 or later).\n\
     Else name a rustc 1.96 or newer with its library sources in {COMPILER_VARIABLE}."
)]
pub struct ToolchainError {
    /// What was looked at and why it was refused.
    pub tried: String,
}

impl Toolchain {
    /// Finds one: the one that [`COMPILER_VARIABLE`] names, else the system's, else a nightly of rustup.
    ///
    /// # Errors
    /// [`ToolchainError`] says what was tried, and in three lines how to get one.
    pub fn find() -> Result<Self, ToolchainError> {
        let candidates = match std::env::var_os(COMPILER_VARIABLE) {
            Some(path) => vec![PathBuf::from(path)],
            None => candidates(),
        };
        let mut tried = Vec::new();
        for rustc in candidates {
            match Self::of(&rustc) {
                Ok(toolchain) => return Ok(toolchain),
                Err(reason) => tried.push(format!("{}: {reason}", rustc.display())),
            }
        }
        if tried.is_empty() {
            tried.push("found no rustc in /usr/bin and no nightly of rustup".into());
        }
        Err(ToolchainError { tried: tried.join("; ") })
    }

    /// The toolchain whose compiler is `rustc`, or why it will not do.
    fn of(rustc: &Path) -> Result<Self, String> {
        let verbose = output(Command::new(rustc).arg("-Vv"))?;
        check_version(&verbose)?;
        let sysroot = output(Command::new(rustc).args(["--print", "sysroot"]))?;
        let core = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs");
        if !core.is_file() {
            return Err("has no library sources".into());
        }
        let cargo = rustc.with_file_name("cargo");
        if !cargo.is_file() {
            return Err("has no cargo beside it".into());
        }
        let version = verbose.lines().next().unwrap_or_default().trim().to_owned();
        Ok(Self { rustc: rustc.to_owned(), cargo, version })
    }
}

fn candidates() -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/usr/bin/rustc")];
    let rustup = std::env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".rustup")));
    let toolchains = rustup.and_then(|home| std::fs::read_dir(home.join("toolchains")).ok());
    let mut nightlies: Vec<PathBuf> = toolchains
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("nightly"))
        .map(|entry| entry.path().join("bin/rustc"))
        .collect();
    nightlies.sort();
    found.extend(nightlies);
    found.retain(|rustc| rustc.is_file());
    found
}

fn output(command: &mut Command) -> Result<String, String> {
    // A build script passes its own compiler on in these; a rustup proxy would then not be the one that was named.
    let output = command.env_remove("RUSTUP_TOOLCHAIN").output().map_err(|error| format!("does not run ({error})"))?;
    if !output.status.success() {
        return Err(format!("failed ({})", output.status));
    }
    String::from_utf8(output.stdout).map_err(|_| "printed no text".into())
}

/// Whether the compiler that printed `verbose` (`rustc -Vv`) is new enough.
fn check_version(verbose: &str) -> Result<(), String> {
    let field = |name: &str| verbose.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let release = field("release:").ok_or("printed no release")?;
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    // Distributions may leave the date out; a release of this number was made after it in any case.
    let date = field("commit-date:").filter(|date| *date != "unknown");
    let is_dated = date.map_or(!release.contains("nightly"), |date| date >= OLDEST_DATE);
    if (major, minor) < (1, OLDEST_MINOR) || !is_dated {
        return Err(format!(
            "is {release} of {}, too old: needed is 1.{OLDEST_MINOR} of {OLDEST_DATE} or later",
            date.unwrap_or("an unknown date")
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verbose(release: &str, date: &str) -> String {
        format!("rustc {release}\nbinary: rustc\ncommit-date: {date}\nhost: x\nrelease: {release}\n")
    }

    #[test]
    fn compilers_that_are_too_old_are_refused() {
        assert_eq!(check_version(&verbose("1.96.0", "2026-05-25")), Ok(()));
        assert_eq!(check_version(&verbose("1.96.0", "unknown")), Ok(()));
        assert_eq!(check_version(&verbose("1.97.0-nightly", "2026-05-19")), Ok(()));
        assert!(check_version(&verbose("1.95.0", "2026-04-14")).is_err());
        assert!(check_version(&verbose("1.96.0-nightly", "2026-03-31")).is_err());
        assert!(check_version(&verbose("1.97.0-nightly", "unknown")).is_err());
        assert!(check_version("").is_err());
    }

    #[test]
    fn a_path_that_is_no_compiler_is_refused() {
        let reason = Toolchain::of(Path::new("/nonexistent/rustc")).unwrap_err();
        assert!(reason.contains("does not run"), "{reason}");
    }

    #[test]
    fn the_error_says_how_to_get_one() {
        let text = ToolchainError { tried: "x".into() }.to_string();
        assert_eq!(text.lines().count(), 4);
        assert!(text.contains("apt") || text.contains("rustc-web"));
        assert!(text.contains("rustup") && text.contains(COMPILER_VARIABLE));
    }
}
