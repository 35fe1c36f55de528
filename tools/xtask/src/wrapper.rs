//! This program in the place of the device compiler, so that a text does not depend on where the workspace lies.
//!
//! Cargo hashes the path of a package outside its workspace into every symbol, and the compiler writes the paths of
//! sources into panic locations. Both would make two clones produce different texts. So symbols are hashed over
//! the package's name and version, and paths begin at the workspace or at the package.

use std::path::Path;
use std::process::{Command, ExitCode};

/// Names the workspace's folder, and tells this program that it stands for the compiler.
pub const ROOT_VARIABLE: &str = "TOURBILLON_WRAPPED_ROOT";

/// Runs the compiler when the environment asks for it.
pub fn run_if_asked() -> Option<ExitCode> {
    let root = std::env::var_os(ROOT_VARIABLE)?;
    let mut arguments = std::env::args_os().skip(1);
    let compiler = arguments.next()?;
    let arguments: Vec<String> = arguments.map(|argument| argument.to_string_lossy().into_owned()).collect();
    let variable = |name| std::env::var(name).ok();
    let package = match (variable("CARGO_PKG_NAME"), variable("CARGO_PKG_VERSION"), variable("CARGO_MANIFEST_DIR")) {
        (Some(name), Some(version), Some(folder)) => Some(Package { name, version, folder }),
        _ => None,
    };
    let arguments = match package {
        Some(package) if arguments.iter().any(|argument| argument.contains("nvptx64")) => {
            rewrite(arguments, &package, Path::new(&root))
        }
        _ => arguments,
    };
    match Command::new(&compiler).args(arguments).status() {
        Ok(status) => Some(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        Err(error) => {
            eprintln!("cannot run {}: {error}", Path::new(&compiler).display());
            Some(ExitCode::FAILURE)
        }
    }
}

/// The package that is being compiled.
struct Package {
    name: String,
    version: String,
    folder: String,
}

fn rewrite(arguments: Vec<String>, package: &Package, root: &Path) -> Vec<String> {
    let mut rewritten: Vec<String> = arguments
        .into_iter()
        .map(|argument| match argument.strip_prefix("metadata=") {
            Some(_) => format!("metadata={}-{}", package.name, package.version),
            None => argument,
        })
        .collect();
    let from_root = Path::new(&package.folder).starts_with(root);
    rewritten.push(if from_root {
        format!("--remap-path-prefix={}=", root.display())
    } else {
        format!("--remap-path-prefix={}={}-{}", package.folder, package.name, package.version)
    });
    rewritten
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(folder: &str) -> Vec<String> {
        let package = Package { name: "a".into(), version: "1.2.3".into(), folder: folder.into() };
        let arguments = ["-C", "metadata=0123", "-C", "extra-filename=-0123"].map(String::from).to_vec();
        rewrite(arguments, &package, Path::new("/clone"))
    }

    #[test]
    fn nothing_of_the_place_is_left() {
        assert_eq!(
            rewritten("/clone/shared"),
            ["-C", "metadata=a-1.2.3", "-C", "extra-filename=-0123", "--remap-path-prefix=/clone="]
        );
        assert_eq!(rewritten("/home/registry/a-1.2.3")[4], "--remap-path-prefix=/home/registry/a-1.2.3=a-1.2.3");
    }
}
