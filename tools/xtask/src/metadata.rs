//! What cargo says about the packages of a workspace.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Runs `cargo metadata` with `arguments` in the workspace that `folder` belongs to and lists the packages.
///
/// # Errors
/// When cargo cannot be run, fails, or lists no package.
pub fn packages(folder: &Path, arguments: &[&str]) -> Result<Vec<Value>, Vec<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(folder)
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(arguments)
        .output()
        .map_err(|error| vec![format!("cannot run cargo metadata in {}: {error}", folder.display())])?;
    if !output.status.success() {
        return Err(vec![String::from_utf8_lossy(&output.stderr).into_owned()]);
    }
    let mut metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| vec![format!("cargo metadata: {error}")])?;
    match metadata["packages"].take() {
        Value::Array(packages) if !packages.is_empty() => Ok(packages),
        _ => Err(vec![format!("cargo metadata listed no package in {}", folder.display())]),
    }
}
