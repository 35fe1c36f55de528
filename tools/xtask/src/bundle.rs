//! `cargo xtask bundle`: everything that a machine with a GPU needs to test and measure, in one folder.

use std::path::Path;
use std::process::Command;

use crate::binaries;

/// The folder, below the target folder of the workspace.
const FOLDER: &str = "target/gpu-bundle";
/// The script that runs the bundle, relative to the workspace.
const SCRIPT: &str = "ci/gpu-run.sh";
/// The bundle must travel to a machine without a network.
const BYTES_MAX: u64 = 40 << 20;
/// Packages whose test programs drive a GPU.
const TESTED: [&str; 2] = ["tourbillon", "tourbillon-tests"];
/// Programs beside the tests, as (package, program).
const PROGRAMS: [(&str, &str); 2] = [("tourbillon-tools", "tourbillon"), ("tourbillon-benches", "latency")];

/// Builds the programs and lays them out.
pub fn write(workspace: &Path) -> Result<(), Vec<String>> {
    let folder = workspace.join(FOLDER);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|error| vec![format!("{}: {error}", folder.display())])?;
    }
    let mut arguments = vec!["test", "--no-run", "--lib", "--tests"];
    TESTED.iter().for_each(|package| arguments.extend(["-p", package]));
    for program in binaries::build(workspace, &arguments)?.iter().filter(|program| program.is_test) {
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
        return Err(vec![format!("{FOLDER} has {bytes} bytes, allowed are {BYTES_MAX}")]);
    }
    Ok(())
}

/// Copies a program without its symbols.
fn place(program: &Path, folder: &Path, name: &str) -> Result<(), Vec<String>> {
    let to = folder.join(name);
    let about = |error: std::io::Error| vec![format!("{}: {error}", to.display())];
    std::fs::create_dir_all(folder).map_err(about)?;
    std::fs::copy(program, &to).map_err(about)?;
    let status = Command::new("strip").arg(&to).status().map_err(about)?;
    if status.success() { Ok(()) } else { Err(vec![format!("strip {} failed", to.display())]) }
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
