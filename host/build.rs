//! Takes the checked-in PTX texts into the program and notes whether they fit the sources beside them.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use tourbillon_build::source::{FILES, FOLDERS};
use tourbillon_build::{PtxState, panic_files, ptx_state};

/// The texts, and the chips they were written for.
const TEXTS: [(u32, &str); 2] = [(80, "device/ptx/tourbillon_sm80.ptx"), (90, "device/ptx/tourbillon_sm90.ptx")];
/// Where the texts lie; watched as a whole, so that a text that was missing is noticed.
const TEXTS_FOLDER: &str = "device/ptx";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("..");
    // For `tourbillon_build::system` in the build scripts of crates that depend on this one.
    println!("cargo::metadata=root={}", root.canonicalize()?.display());
    if std::env::var("CARGO_CFG_TARGET_ARCH")? == "nvptx64" {
        // Compiled for a GPU the crate holds no texts.
        return Ok(());
    }
    let mut source = String::from("/// The checked-in PTX, oldest chip first.\nstatic PTX_TEXTS: &[PtxText] = &[\n");
    for (chip, file) in TEXTS {
        let path = root.join(file);
        let is_fresh = match ptx_state(&root, &path) {
            PtxState::Fresh => true,
            PtxState::Stale { .. } => {
                println!("cargo::warning={file} is stale: the cuda backend is off until `cargo xtask ptx` has run");
                false
            }
            // A program without it still runs on CPU threads; the cuda backend names the cure.
            PtxState::Missing => continue,
        };
        let path = path.canonicalize()?;
        let files = panic_files(&std::fs::read_to_string(&path)?);
        writeln!(
            source,
            "PtxText {{ compute_capability: {chip}, is_fresh: {is_fresh}, files: &{files:?}, text: include_str!({path:?}) }},"
        )?;
    }
    source.push_str("];\n");
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("ptx_texts.rs"), source)?;
    println!("cargo::rerun-if-changed=build.rs");
    for path in FOLDERS.iter().chain(&FILES).chain([&TEXTS_FOLDER]) {
        println!("cargo::rerun-if-changed=../{path}");
    }
    Ok(())
}
