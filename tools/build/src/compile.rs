//! Running the device toolchain.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::chip::Chip;
use crate::toolchain::{Toolchain, ToolchainError};

/// Environment variables that the compiler run inherits. Everything else stays outside: a build script's environment
/// holds the host compiler's flags, wrapper, target and package.
const INHERITED: [&str; 16] = [
    "PATH",
    "HOME",
    "USER",
    "TMPDIR",
    "CARGO_HOME",
    "CARGO_HTTP_CAINFO",
    "CARGO_HTTP_PROXY",
    "CARGO_NET_OFFLINE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
];

/// What to compile.
#[derive(Clone, Debug)]
pub struct Compilation<'a> {
    /// Folder of a package of crate type `cdylib` that is compiled with fat link-time optimisation, one codegen unit and
    /// `panic = "abort"`, and has a lock file.
    pub package: &'a Path,
    /// Name of its library.
    pub library: &'a str,
    /// The chip to write for.
    pub chip: Chip,
    /// Folder for what is built; each chip gets a folder of its own in it.
    pub target: &'a Path,
    /// A program that is run in place of the compiler, with the compiler's path as its first argument.
    pub wrapper: Option<&'a Path>,
    /// Further environment variables, for the wrapper.
    pub environment: &'a [(&'a str, &'a Path)],
    /// Whether the package's lock file must fit it as it is; else cargo completes it.
    pub is_locked: bool,
}

/// Why there is no PTX.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// There is no device toolchain.
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    /// The compiler could not be started.
    #[error("cannot run {program}: {source}")]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The compiler refused the sources.
    #[error("the device compiler failed:\n{messages}")]
    Failed {
        /// What it said.
        messages: String,
    },
    /// The compiler succeeded, but its text is not there.
    #[error(
        "the device compiler wrote no {file}; is the package a cdylib of that name, with lto = \"fat\"? ({source})"
    )]
    NoText {
        /// The file that was expected.
        file: PathBuf,
        /// Why it could not be read.
        source: std::io::Error,
    },
}

/// Compiles a package to PTX with a device toolchain that it finds; the text and that toolchain.
///
/// # Errors
/// [`CompileError`] with the cause; when no toolchain was found it says how to get one.
pub fn compile_ptx(compilation: &Compilation<'_>) -> Result<(String, Toolchain), CompileError> {
    let toolchain = Toolchain::find()?;
    let text = compile_with(&toolchain, compilation)?;
    Ok((text, toolchain))
}

/// [`compile_ptx`] with a toolchain that was found before.
///
/// # Errors
/// [`CompileError`] with the cause.
pub fn compile_with(toolchain: &Toolchain, compilation: &Compilation<'_>) -> Result<String, CompileError> {
    // The text's file name does not depend on the flags, so two chips in one folder would overwrite each other unseen.
    let target = compilation.target.join(compilation.chip.name());
    let mut flags = compilation.chip.flags();
    flags.push(format!("-Clinker={}", idle_linker().display()));

    let mut command = Command::new(&toolchain.cargo);
    command.env_clear().envs(INHERITED.iter().filter_map(|name| std::env::var_os(name).map(|value| (name, value))));
    command
        .current_dir(compilation.package)
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_WRAPPER", compilation.wrapper.unwrap_or(Path::new("")))
        // The library sources and the PTX features are unstable; a distribution's release refuses them otherwise.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("CARGO_TARGET_DIR", &target)
        .envs(compilation.environment.iter().copied())
        .args(["build", "--release", "--quiet", "-Zbuild-std=core", "--target", "nvptx64-nvidia-cuda"])
        .args(compilation.is_locked.then_some("--locked"));
    let output = command.output().map_err(|source| CompileError::Start { program: toolchain.cargo.clone(), source })?;
    if !output.status.success() {
        return Err(CompileError::Failed { messages: String::from_utf8_lossy(&output.stderr).into_owned() });
    }
    let file =
        target.join("nvptx64-nvidia-cuda/release/deps").join(format!("{}.s", compilation.library.replace('-', "_")));
    std::fs::read_to_string(&file).map_err(|source| CompileError::NoText { file, source })
}

/// A program that does nothing and succeeds.
fn idle_linker() -> &'static Path {
    ["/bin/true", "/usr/bin/true"].map(Path::new).into_iter().find(|path| path.exists()).unwrap_or(Path::new("true"))
}
