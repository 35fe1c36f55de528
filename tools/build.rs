//! Compiles the commit of the sources into the programs, because a program may run on a machine that has no sources.

use std::path::Path;
use std::process::Command;

/// What decides whether the tree differs from its commit; relative to this crate.
const SOURCES: [&str; 7] =
    ["../Cargo.toml", "../Cargo.lock", "../shared", "../device", "../host", "../tools", "../benches"];
/// Files of the repository that change with a commit or a staged change.
const REPOSITORY: [&str; 3] = ["../.git/HEAD", "../.git/index", "../.git/logs/HEAD"];

fn main() {
    for path in SOURCES.iter().chain(&REPOSITORY).filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rerun-if-env-changed=TOURBILLON_COMMIT");
    // A build outside a repository (an unpacked archive) may say what it was made from.
    let commit = std::env::var("TOURBILLON_COMMIT").ok().or_else(commit_of_tree);
    println!("cargo::rustc-env=TOURBILLON_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    println!("cargo::rustc-env=TOURBILLON_COMPILER={}", compiler().as_deref().unwrap_or("unknown"));
}

/// The compiler's name of itself.
fn compiler() -> Option<String> {
    let output = Command::new(std::env::var_os("RUSTC")?).arg("--version").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The commit of the tree, with `-dirty` behind it when a tracked file differs from it.
fn commit_of_tree() -> Option<String> {
    let head = git(&["rev-parse", "HEAD"])?;
    // Without optional locks: a build must not touch the index that it watches.
    let changes = git(&["--no-optional-locks", "status", "--porcelain", "--untracked-files=no"])?;
    Some(if changes.is_empty() { head } else { format!("{head}-dirty") })
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg("..").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
