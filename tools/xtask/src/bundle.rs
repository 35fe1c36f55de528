//! `cargo xtask bundle`: everything that a machine with a GPU needs to test and measure, in one folder.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::{binaries, metadata, suites};

/// The folder, below the target folder of the workspace.
const FOLDER: &str = "target/gpu-bundle";
/// The script that runs the bundle, relative to the workspace.
const SCRIPT: &str = "ci/gpu-run.sh";
/// The bundle must travel to a machine without a network.
const BYTES_MAX: u64 = 40 << 20;
/// Packages whose test programs drive a GPU.
const TESTED: [&str; 2] = ["tourbillon", "tourbillon-tests"];
/// What the names of tests that drive a GPU have in them, as the script has it.
const OF_A_GPU: [&str; 3] = ["gpu", "cuda", "bounded_"];
/// Programs beside the tests, as (package, program).
const PROGRAMS: [(&str, &str); 2] = [("tourbillon-tools", "tourbillon"), ("tourbillon-benches", "latency")];

/// Builds the programs and lays them out.
pub fn write(workspace: &Path) -> Result<(), Vec<String>> {
    let folder = workspace.join(FOLDER);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|error| vec![format!("{}: {error}", folder.display())])?;
    }
    let apart = apart(&metadata::packages(workspace, &["--no-deps"])?, &suites::names(workspace)?);
    // So that the engine is in the bundle once and not with each suite.
    let mut arguments = vec!["test", "--no-run", "--lib", "--test", suites::PROGRAM];
    apart.iter().for_each(|target| arguments.extend(["--test", target]));
    TESTED.iter().for_each(|package| arguments.extend(["-p", package]));
    for program in binaries::build(workspace, &arguments)?.iter().filter(|program| program.is_test) {
        if !has_tests_for_a_gpu(&program.path)? {
            continue;
        }
        let name = format!("{}.{}", program.package, program.target);
        place(&program.path, &folder.join("tests"), &name)?;
    }
    let mut arguments = vec!["build", "--release", "--bins"];
    PROGRAMS.iter().for_each(|(package, _)| arguments.extend(["-p", package]));
    let built = binaries::build(workspace, &arguments)?;
    for (package, name) in PROGRAMS {
        let program = built.iter().find(|program| program.package == package && program.target == name);
        let program = program.ok_or_else(|| vec![format!("cargo built no program {name} of {package}")])?;
        place(&program.path, &folder.join("bin"), name)?;
    }
    let script = folder.join("run.sh");
    std::fs::copy(workspace.join(SCRIPT), &script).map_err(|error| vec![format!("{SCRIPT}: {error}")])?;
    let commit = folder.join("commit");
    std::fs::write(&commit, commit_of(workspace)).map_err(|error| vec![format!("{}: {error}", commit.display())])?;

    let bytes = bytes_of(&folder).map_err(|error| vec![format!("{}: {error}", folder.display())])?;
    println!("{FOLDER}: {:.1} MiB", bytes as f64 / (1 << 20) as f64);
    if bytes > BYTES_MAX {
        return Err(vec![format!(
            "{FOLDER} has {bytes} bytes, allowed are {BYTES_MAX}; programs of their own beside {}: {}. \
             Name them in {} if they are many",
            suites::PROGRAM,
            apart.join(", "),
            suites::SOURCE
        )]);
    }
    Ok(())
}

/// The integration tests of the tested packages that are not among the suites and so are programs of their own.
fn apart(packages: &[Value], suites: &[String]) -> Vec<String> {
    let tested = packages.iter().filter(|package| TESTED.iter().any(|name| package["name"] == *name));
    let targets = tested.flat_map(|package| package["targets"].as_array().into_iter().flatten());
    targets
        .filter(|target| target["kind"][0] == "test")
        .filter_map(|target| target["name"].as_str())
        .filter(|name| *name != suites::PROGRAM && !suites.iter().any(|suite| suite == name))
        .map(str::to_owned)
        .collect()
}

/// Whether a test program has any test that drives a GPU; the others need not travel.
fn has_tests_for_a_gpu(program: &Path) -> Result<bool, Vec<String>> {
    let about = |error: std::io::Error| vec![format!("{}: {error}", program.display())];
    let output = Command::new(program).args(["--list", "--format=terse"]).output().map_err(about)?;
    let names = String::from_utf8_lossy(&output.stdout);
    Ok(names.lines().any(|line| OF_A_GPU.iter().any(|word| line.contains(word))))
}

/// Copies a program without its symbols.
fn place(program: &Path, folder: &Path, name: &str) -> Result<(), Vec<String>> {
    let to = folder.join(name);
    let about = |error: std::io::Error| vec![format!("{}: {error}", to.display())];
    std::fs::create_dir_all(folder).map_err(about)?;
    std::fs::copy(program, &to).map_err(about)?;
    let status = Command::new("strip").arg(&to).status().map_err(about)?;
    if !status.success() {
        return Err(vec![format!("strip {} failed", to.display())]);
    }
    // A bundle has a bound, and programs with kernels in them shrink to a quarter; the script unpacks them.
    let status = Command::new("gzip").args(["--best", "--no-name", "--force"]).arg(&to).status().map_err(about)?;
    if status.success() { Ok(()) } else { Err(vec![format!("gzip {} failed", to.display())]) }
}

/// The commit that the programs were built from, with a mark when a tracked file differs from it.
fn commit_of(workspace: &Path) -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(workspace).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(head) = git(&["rev-parse", "HEAD"]) else { return "unknown".into() };
    let is_clean = git(&["--no-optional-locks", "status", "--porcelain", "--untracked-files=no"])
        .is_some_and(|changes| changes.is_empty());
    if is_clean { head } else { head + "-dirty" }
}

fn bytes_of(folder: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_of(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_test_is_left_out_of_the_bundle() {
        let target = |name: &str, kind: &str| serde_json::json!({ "name": name, "kind": [kind] });
        let targets = ["suites", "named", "unnamed", "other"]
            .map(|name| target(name, "test"))
            .into_iter()
            .chain([target("x", "lib")]);
        let packages = [
            serde_json::json!({ "name": "tourbillon-tests", "targets": targets.collect::<Vec<_>>() }),
            serde_json::json!({ "name": "tourbillon", "targets": [target("of_the_host", "test")] }),
            serde_json::json!({ "name": "tourbillon-shared", "targets": [target("documents", "test")] }),
        ];
        let suites = ["named".to_owned(), "unnamed_as_well".to_owned()];
        assert_eq!(apart(&packages, &suites), ["unnamed", "other", "of_the_host"]);
    }
}
