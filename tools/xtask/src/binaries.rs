//! Building with cargo and finding the programs that it built.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// A program that cargo built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    /// The package it is of.
    pub package: String,
    /// The package's folder, where cargo would run it.
    pub folder: PathBuf,
    /// Name of its target: that of the crate for unit tests, of the file for integration tests.
    pub target: String,
    /// Whether it is a test program.
    pub is_test: bool,
    /// The program.
    pub path: PathBuf,
}

/// Runs `cargo` with `arguments` in the workspace, shows its messages, and lists the programs that it built.
///
/// # Errors
/// When cargo cannot be run or fails.
pub fn build(workspace: &Path, arguments: &[&str]) -> Result<Vec<Binary>, Vec<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(workspace)
        .args(arguments)
        .args(["--locked", "--message-format=json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| vec![format!("cannot run cargo: {error}")])?;
    if !output.status.success() {
        return Err(vec![format!("cargo {} failed", arguments.join(" "))]);
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(binary).collect())
}

/// The program that a message of cargo tells of.
fn binary(message: &str) -> Option<Binary> {
    let message: Value = serde_json::from_str(message).ok()?;
    if message["reason"] != "compiler-artifact" {
        return None;
    }
    let path = PathBuf::from(message["executable"].as_str()?);
    let manifest = Path::new(message["manifest_path"].as_str()?);
    // An id ends in `#name@version`, or in `/name#version` when the folder has the package's name.
    let id = message["package_id"].as_str()?;
    let (place, version) = id.rsplit_once('#')?;
    let package = match version.split_once('@') {
        Some((name, _)) => name,
        None => place.rsplit('/').next()?,
    };
    Some(Binary {
        package: package.into(),
        folder: manifest.parent()?.into(),
        target: message["target"]["name"].as_str()?.into(),
        is_test: message["profile"]["test"] == true,
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_messages() {
        let message = |id: &str, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"{id}","manifest_path":"/w/tests/Cargo.toml",
                "target":{{"name":"rings"}},"profile":{{"test":true}},"executable":{executable}}}"#
            )
            .replace('\n', "")
        };
        let found = binary(&message("path+file:///w/tests#some-tests@0.1.0", "\"/t/rings-1\"")).unwrap();
        assert_eq!((found.package.as_str(), found.target.as_str(), found.is_test), ("some-tests", "rings", true));
        assert_eq!(found.folder, Path::new("/w/tests"));
        assert_eq!(binary(&message("path+file:///w/shared#0.1.0", "\"/t/x\"")).unwrap().package, "shared");
        assert_eq!(binary(&message("path+file:///w/tests#a@0.1.0", "null")), None);
        assert_eq!(binary(r#"{"reason":"build-finished","success":true}"#), None);
    }
}
