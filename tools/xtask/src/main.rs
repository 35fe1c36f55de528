//! Chores of the workspace; `cargo xtask` lists them.

mod binaries;
mod bundle;
mod check;
mod licences;
mod metadata;
mod mutants;
mod parallel;
mod ptx;
mod suites;
mod wrapper;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <task>
  ptx                     compile the shipped kernels and write device/ptx
  ptx --accept            the same, and record changed counts of collectives as reviewed
  ptx --check             check the texts in device/ptx against the sources and the rules for device code
  ptx --check --strict    the same, and fail when the device toolchain or ptxas is not there
  mutants [NAME..]        build with the seeded faults and see each one killed by its test, or those named
  bundle                  lay out target/gpu-bundle for a machine with a GPU
  licences                check the licences of all dependencies against deny.toml";

fn main() -> ExitCode {
    if let Some(code) = wrapper::run_if_asked() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["ptx"] => ptx::write(&workspace(), false),
        ["ptx", "--accept"] => ptx::write(&workspace(), true),
        ["ptx", "--check"] => ptx::check(&workspace(), false),
        ["ptx", "--check", "--strict"] => ptx::check(&workspace(), true),
        ["mutants", names @ ..] => mutants::check(&workspace(), names),
        ["bundle"] => bundle::write(&workspace()),
        ["licences"] => licences::check(&workspace()),
        _ => Err(vec![USAGE.into()]),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(faults) => {
            for fault in faults {
                eprintln!("{fault}");
            }
            ExitCode::FAILURE
        }
    }
}

/// The workspace's folder: cargo tells where this package lies, two folders below.
fn workspace() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&package).ancestors().nth(2).unwrap_or(Path::new(".")).to_owned()
}
