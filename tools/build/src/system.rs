//! What a build script calls: a package's system of actors, compiled for GPUs.
//!
//! All of `build.rs`: `fn main() { tourbillon_build::system("Mine"); }`
//!
//! The package's library is compiled once more, by the device toolchain, as a dependency of a crate that this module writes: the
//! kernel's entry around the system, with the profile that a kernel needs. So the package itself needs neither the toolchain's
//! features nor a profile of its own. What comes out is taken in by `tourbillon::built_ptx!()`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::assembler::{self, ASSEMBLER_VARIABLE};
use crate::calls;
use crate::chip::Chip;
use crate::compile::{Compilation, CompileError, compile_with};
use crate::module::Module;
use crate::places::panic_files;
use crate::report::{self, Report};
use crate::toolchain::{Toolchain, ToolchainError};

/// The file in the build script's output folder that `tourbillon::built_ptx!()` includes.
pub const TEXTS_FILE: &str = "tourbillon_ptx.rs";
/// The package that is written around the system.
const KERNEL_PACKAGE: &str = "tourbillon-built-kernel";
/// The package that is written around its handlers, each as a kernel of its own.
const PROBES_PACKAGE: &str = "tourbillon-built-probes";
/// The entry of every system's kernel.
const RING_KERNEL: &str = "tourbillon_ring_kernel";
/// Handlers that are looked at one by one; each takes the assembler some milliseconds.
const PROBES_MAX: usize = 128;
/// The architecture of the device.
const DEVICE_ARCHITECTURE: &str = "nvptx64";
/// Levels from a build script's output folder up to the target folder: `target/PROFILE/build/PACKAGE/out`.
const LEVELS_TO_TARGET: usize = 4;

/// Compiles the system `name`, such as `Mine` or `inner::Mine`, of the library of the package whose build script calls this.
///
/// - Without a device toolchain it warns, in three lines, how to get one; the package then has no kernels and runs on CPU threads.
/// - When the package is compiled for a device itself it does nothing.
/// - When the library does not compile for a device, or a handler calls itself, it says why, and ends the build.
/// - Where there is `ptxas` a warning says what the kernel takes of registers, stack and spills, which handler takes the most, and where the
///   whole [report] lies; without, a warning says that this is not known.
pub fn system(name: &str) {
    if let Err(error) = SystemBuild::new(name).build() {
        for line in error.to_string().lines() {
            println!("cargo::error={line}");
        }
        std::process::exit(1);
    }
}

/// Tells how to compile a system of actors.
#[derive(Clone, Debug)]
pub struct SystemBuild {
    name: String,
    library: Option<String>,
    chips: Vec<Chip>,
    is_reported: bool,
}

/// What became of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Built {
    /// Texts for these chips, as compute capabilities times ten.
    Texts(Vec<u32>),
    /// There is no device toolchain, and a warning said how to get one.
    NoToolchain,
    /// The package is being compiled for a device, as part of an outer call.
    Nothing,
}

/// Why there are no kernels.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The caller is no build script.
    #[error("{variable} is not set: this is for build scripts, called by cargo")]
    NoBuildScript {
        /// What cargo sets for build scripts.
        variable: &'static str,
    },
    /// The package does not depend on `tourbillon`.
    #[error("the package does not depend on `tourbillon`, or on one without device sources; add it to [dependencies]")]
    NoTourbillon,
    /// The name is no path of a type.
    #[error("`{name}` is no path of a system in the library; write it as in `use`, such as Mine or inner::Mine")]
    BadName {
        /// What was given.
        name: String,
    },
    /// The package has no library.
    #[error("{} has no src/lib.rs: actors that live on a GPU stand in the package's library, the program beside it", package.display())]
    NoLibrary {
        /// Folder of the package.
        package: PathBuf,
    },
    /// No chip was named.
    #[error("no chip to compile for")]
    NoChip,
    /// The library does not compile for a device.
    #[error("the actors do not compile for a GPU, where there is no std and no allocator:\n{0}")]
    Compile(#[from] CompileError),
    /// A function calls itself.
    #[error(
        "a handler calls itself: {cycle}\n\
         A GPU's thread has a small stack, whose size must be known before the kernel starts: write a loop, and keep what is still to \
         do in an array."
    )]
    Recursion {
        /// From the function to itself.
        cycle: String,
    },
    /// The text that the compiler wrote is none.
    #[error("the device compiler wrote a text that cannot be read: {0}")]
    NoModule(String),
    /// The assembler refused the text.
    #[error("the kernel does not assemble, so no driver will take it: {0}")]
    Assemble(String),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What cargo tells a build script.
#[derive(Clone, Debug)]
struct Script {
    package: PathBuf,
    name: String,
    out: PathBuf,
    architecture: String,
    /// Where `tourbillon` lies; it says so itself.
    tourbillon: Option<PathBuf>,
}

impl Script {
    fn of_environment() -> Result<Self, BuildError> {
        let variable =
            |variable: &'static str| std::env::var_os(variable).ok_or(BuildError::NoBuildScript { variable });
        let text = |name| Ok::<_, BuildError>(variable(name)?.to_string_lossy().into_owned());
        Ok(Self {
            package: variable("CARGO_MANIFEST_DIR")?.into(),
            name: text("CARGO_PKG_NAME")?,
            out: variable("OUT_DIR")?.into(),
            architecture: text("CARGO_CFG_TARGET_ARCH")?,
            tourbillon: std::env::var_os("DEP_TOURBILLON_ROOT").map(PathBuf::from),
        })
    }
}

impl SystemBuild {
    /// The system `name` of the package's library, for compute capability 8.0 and newer.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), library: None, chips: vec![Chip::OLDEST], is_reported: true }
    }

    /// Name of the library where it is not that of the package.
    #[must_use]
    pub fn library(mut self, library: &str) -> Self {
        self.library = Some(library.to_owned());
        self
    }

    /// The chips to write texts for; an engine takes the newest that fits its GPU. [`Chip::OLDEST`] without.
    #[must_use]
    pub fn chips(mut self, chips: &[Chip]) -> Self {
        self.chips = chips.to_vec();
        self
    }

    /// Does not look for what the kernel takes, which costs some seconds.
    #[must_use]
    pub fn without_report(mut self) -> Self {
        self.is_reported = false;
        self
    }

    /// Compiles the texts, and tells cargo when to do it again.
    ///
    /// # Errors
    /// [`BuildError`]; a missing toolchain is none.
    pub fn build(&self) -> Result<Built, BuildError> {
        let script = Script::of_environment()?;
        // Cargo watches the whole package when nothing is named, and compiles its dependencies anew by itself.
        for variable in [crate::toolchain::COMPILER_VARIABLE, ASSEMBLER_VARIABLE] {
            println!("cargo::rerun-if-env-changed={variable}");
        }
        for path in ["src", "build.rs", "Cargo.toml"] {
            println!("cargo::rerun-if-changed={path}");
        }
        if let Some(root) = &script.tourbillon {
            for folder in crate::source::FOLDERS {
                println!("cargo::rerun-if-changed={}", root.join(folder).display());
            }
        }
        self.build_for(&script, Toolchain::find())
    }

    fn build_for(&self, script: &Script, toolchain: Result<Toolchain, ToolchainError>) -> Result<Built, BuildError> {
        if script.architecture == DEVICE_ARCHITECTURE {
            return Ok(Built::Nothing);
        }
        let is_path = |name: &str| {
            name.split("::").all(|part| {
                part.starts_with(|c: char| c.is_alphabetic() || c == '_')
                    && part.chars().all(|c| c.is_alphanumeric() || c == '_')
            })
        };
        if !is_path(&self.name) || self.library.as_deref().is_some_and(|library| !is_path(library)) {
            return Err(BuildError::BadName { name: self.name.clone() });
        }
        let device = script.tourbillon.as_ref().map(|root| root.join("device"));
        let device = device.filter(|device| device.join("Cargo.toml").is_file()).ok_or(BuildError::NoTourbillon)?;
        if !script.package.join("src/lib.rs").is_file() && self.library.is_none() {
            return Err(BuildError::NoLibrary { package: script.package.clone() });
        }
        if self.chips.is_empty() {
            return Err(BuildError::NoChip);
        }
        let toolchain = match toolchain {
            Ok(toolchain) => toolchain,
            Err(error) => {
                println!("cargo::warning=the actors of {} run on CPU threads only:", script.name);
                for line in error.to_string().lines() {
                    println!("cargo::warning={line}");
                }
                write(&script.out.join(TEXTS_FILE), "&[]\n")?;
                return Ok(Built::NoToolchain);
            }
        };
        let kernel = self.write_kernel(script, &device)?;
        let probes = self.write_probes(script, &device)?;
        let workspace = script.tourbillon.as_deref();
        let assembler = self.is_reported.then(|| assembler::find(workspace));
        let target = script.out.ancestors().nth(LEVELS_TO_TARGET).unwrap_or(&script.out).join("tourbillon-device");
        let mut texts = String::from("&[\n");
        for chip in &self.chips {
            let compile = |package: &Path, library| {
                let target = &target.join(&script.name);
                let (chip, environment) = (*chip, &[][..]);
                let compilation =
                    Compilation { package, library, chip, target, wrapper: None, environment, is_locked: false };
                compile_with(&toolchain, &compilation)
            };
            let text = compile(&kernel, KERNEL_PACKAGE)?;
            check(&text)?;
            let file = script.out.join(format!("tourbillon_{}.ptx", chip.name()));
            write(&file, &text)?;
            let _ = writeln!(
                texts,
                "::tourbillon::PtxText {{ compute_capability: {}, is_fresh: true, files: &{:?}, text: include_str!({file:?}) }},",
                chip.compute_capability,
                panic_files(&text),
            );
            if let Some(Some(assembler)) = &assembler {
                self.report(script, *chip, assembler, (&file, &text), &compile(&probes, PROBES_PACKAGE)?)?;
            }
        }
        if assembler == Some(None) {
            println!(
                "cargo::warning=no ptxas, so what the kernel of {} takes of registers, stack and spills is not known: put one on the \
                 PATH, or name it in {ASSEMBLER_VARIABLE}",
                self.name
            );
        }
        texts.push_str("]\n");
        write(&script.out.join(TEXTS_FILE), &texts)?;
        Ok(Built::Texts(self.chips.iter().map(|chip| chip.compute_capability).collect()))
    }

    /// Says what a kernel takes, in a file and in short.
    fn report(
        &self,
        script: &Script,
        chip: Chip,
        assembler: &Path,
        (kernel, text): (&Path, &str),
        probes: &str,
    ) -> Result<(), BuildError> {
        let file = script.out.join(format!("tourbillon_probes_{}.ptx", chip.name()));
        write(&file, probes)?;
        let assemble = |file: &Path, text: &str| {
            let said = assembler::assemble(assembler, file, chip.compute_capability).map_err(BuildError::Assemble)?;
            let module = Module::parse(text).map_err(BuildError::NoModule)?;
            let all = assembler::figures(&said);
            Ok::<_, BuildError>(move |name: &str| {
                assembler::figures_with_callees(&all, &module, name).unwrap_or_default()
            })
        };
        let (of_kernel, of_probes) = (assemble(kernel, text)?, assemble(&file, probes)?);
        let mut handlers = report::listed(probes).unwrap_or_default();
        let unseen = handlers.len().saturating_sub(PROBES_MAX);
        handlers.truncate(PROBES_MAX);
        for (index, handler) in handlers.iter_mut().enumerate() {
            handler.figures = of_probes(&probe(index));
        }
        let (kernel, engine) = (of_kernel(RING_KERNEL), of_probes(RING_KERNEL));
        let report = Report { system: self.name.clone(), chip: chip.name(), kernel, engine, handlers, unseen };
        let file = script.out.join(format!("tourbillon_{}.txt", chip.name()));
        write(&file, &report.text())?;
        println!("cargo::warning={}; all of it: {}", report.summary(), file.display());
        Ok(())
    }

    /// The library's name as a path.
    fn library_of(&self, script: &Script) -> String {
        self.library.clone().unwrap_or_else(|| script.name.replace('-', "_"))
    }

    /// Writes the crate around the system; its folder.
    fn write_kernel(&self, script: &Script, device: &Path) -> Result<PathBuf, BuildError> {
        let entry = format!("tourbillon_device::kernel_entry!({}::{});\n", self.library_of(script), self.name);
        self.write_crate(script, device, ("kernel", KERNEL_PACKAGE), &entry)
    }

    /// Writes the crate around the handlers; its folder.
    fn write_probes(&self, script: &Script, device: &Path) -> Result<PathBuf, BuildError> {
        let system = format!("{}::{}", self.library_of(script), self.name);
        let mut entries = format!("tourbillon_device::handler_probes!({system});\n");
        for index in 0..PROBES_MAX {
            let _ = writeln!(entries, "tourbillon_device::handler_probe!({system}, {index}, {});", probe(index));
        }
        self.write_crate(script, device, ("probes", PROBES_PACKAGE), &entries)
    }

    /// Writes a crate that is compiled, in the folder and under the name that are given; its folder.
    fn write_crate(
        &self,
        script: &Script,
        device: &Path,
        (folder, crate_name): (&str, &str),
        entries: &str,
    ) -> Result<PathBuf, BuildError> {
        let folder = script.out.join(folder);
        let (package, name) = (&script.package, &script.name);
        let manifest = format!(
            "[package]\nname = \"{crate_name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\npublish = false\n\n\
             [workspace]\n\n\
             [lib]\ncrate-type = [\"cdylib\"]\n\n\
             [dependencies]\n\
             {name} = {{ path = {package:?} }}\n\
             tourbillon-device = {{ path = {device:?} }}\n\n\
             # Handlers are user code, and an overflow in them must fail as loudly as on a CPU; the engine's own arithmetic wraps\n\
             # where it must and is bounded elsewhere.\n\
             [profile.release]\nopt-level = 3\nlto = \"fat\"\ncodegen-units = 1\npanic = \"abort\"\ndebug = false\n\
             overflow-checks = true\n\n\
             [profile.release.package.tourbillon-device]\noverflow-checks = false\n\n\
             [profile.release.package.tourbillon-shared]\noverflow-checks = false\n"
        );
        write(&folder.join("Cargo.toml"), &manifest)?;
        let source = format!(
            "//! Written by tourbillon-build.\n#![no_std]\n\
             #![feature(abi_ptx, stdarch_nvptx, asm_experimental_arch, link_llvm_intrinsics)]\n\
             #![allow(internal_features)]\n\n{entries}"
        );
        write(&folder.join("src/lib.rs"), &source)?;
        // The same versions as the host's, so that both compile the same sources; what is not needed is left out by cargo.
        if let Some(lock) = package.ancestors().map(|folder| folder.join("Cargo.lock")).find(|lock| lock.is_file()) {
            let text = std::fs::read_to_string(&lock).map_err(|source| BuildError::Io { path: lock, source })?;
            write(&folder.join("Cargo.lock"), &text)?;
        }
        Ok(folder)
    }
}

/// Name of the kernel that runs the handler of this place in the list.
fn probe(index: usize) -> String {
    format!("tourbillon_handler_{index}")
}

/// Refuses a text in which a function calls itself, and warns of calls that lead nobody knows where.
fn check(text: &str) -> Result<(), BuildError> {
    let module = Module::parse(text).map_err(BuildError::NoModule)?;
    if let Some(cycle) = calls::cycles(&module).first() {
        let names: Vec<String> = cycle.iter().map(|name| calls::readable(name)).collect();
        return Err(BuildError::Recursion { cycle: names.join(", which calls ") });
    }
    for name in calls::by_pointer(&module) {
        println!(
            "cargo::warning={} calls a function through a pointer or `dyn`: how much stack that takes cannot be known; call it by name",
            calls::readable(name)
        );
    }
    Ok(())
}

/// Writes a file unless it has that content: cargo looks at times.
fn write(path: &Path, content: &str) -> Result<(), BuildError> {
    if std::fs::read_to_string(path).is_ok_and(|before| before == content) {
        return Ok(());
    }
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(path, content));
    written.map_err(|source| BuildError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(folder: &Path) -> Script {
        let write = |file: &str| {
            let path = folder.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        ["tourbillon/device/Cargo.toml", "package/src/lib.rs"].iter().for_each(|file| write(file));
        std::fs::write(folder.join("package/Cargo.lock"), "version = 4\n").unwrap();
        Script {
            package: folder.join("package"),
            name: "my-actors".into(),
            out: folder.join("target/debug/build/my-actors-0/out"),
            architecture: "x86_64".into(),
            tourbillon: Some(folder.join("tourbillon")),
        }
    }

    fn none() -> Result<Toolchain, ToolchainError> {
        Err(ToolchainError { tried: "none here".into() })
    }

    #[test]
    fn without_a_toolchain_the_package_has_no_kernels() {
        let folder = tempfile::tempdir().unwrap();
        let script = script(folder.path());
        assert_eq!(SystemBuild::new("Mine").build_for(&script, none()).unwrap(), Built::NoToolchain);
        assert_eq!(std::fs::read_to_string(script.out.join(TEXTS_FILE)).unwrap(), "&[]\n");
    }

    #[test]
    fn compiled_for_a_device_it_does_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let script = Script { architecture: "nvptx64".into(), tourbillon: None, ..script(folder.path()) };
        assert_eq!(SystemBuild::new("Mine").build_for(&script, none()).unwrap(), Built::Nothing);
        assert!(!script.out.exists());
    }

    #[test]
    fn mistakes_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let script = script(folder.path());
        for name in ["", "Mine;", "my::", "1", "a b", "\"quoted\""] {
            let error = SystemBuild::new(name).build_for(&script, none()).unwrap_err();
            assert!(matches!(error, BuildError::BadName { .. }), "{name}: {error}");
        }
        let without = Script { tourbillon: None, ..script.clone() };
        let error = SystemBuild::new("Mine").build_for(&without, none()).unwrap_err();
        assert!(matches!(error, BuildError::NoTourbillon), "{error}");
        let error = SystemBuild::new("Mine").chips(&[]).build_for(&script, none()).unwrap_err();
        assert!(matches!(error, BuildError::NoChip), "{error}");
        std::fs::remove_file(script.package.join("src/lib.rs")).unwrap();
        let error = SystemBuild::new("Mine").build_for(&script, none()).unwrap_err();
        assert!(error.to_string().contains("src/lib.rs"), "{error}");
    }

    #[test]
    fn the_kernel_is_written_around_the_system() {
        let folder = tempfile::tempdir().unwrap();
        let script = script(folder.path());
        let build = SystemBuild::new("inner::Mine");
        let kernel = build.write_kernel(&script, Path::new("/there/device")).unwrap();
        let source = std::fs::read_to_string(kernel.join("src/lib.rs")).unwrap();
        assert!(source.contains("kernel_entry!(my_actors::inner::Mine);"), "{source}");
        let manifest = std::fs::read_to_string(kernel.join("Cargo.toml")).unwrap();
        assert!(manifest.contains("tourbillon-device = { path = \"/there/device\" }"), "{manifest}");
        assert_eq!(std::fs::read_to_string(kernel.join("Cargo.lock")).unwrap(), "version = 4\n");
    }
}
