//! `cargo xtask licences`: the licences of all dependencies against the list in `deny.toml`.
//!
//! The file is one that `cargo deny` understands; this is the part of it that a fresh clone can check at once.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Checks every package that any target, feature or test of the workspace may use.
pub fn check(workspace: &Path) -> Result<(), Vec<String>> {
    let list =
        std::fs::read_to_string(workspace.join("deny.toml")).map_err(|error| vec![format!("deny.toml: {error}")])?;
    let allowed = allowed(&list);
    if allowed.is_empty() {
        return Err(vec!["deny.toml has no list `allow`".into()]);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(workspace)
        .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
        .output()
        .map_err(|error| vec![format!("cannot run cargo metadata: {error}")])?;
    if !output.status.success() {
        return Err(vec![String::from_utf8_lossy(&output.stderr).into_owned()]);
    }
    let metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| vec![format!("cargo metadata: {error}")])?;
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let faults: Vec<String> = packages.iter().filter_map(|package| fault(package, &allowed)).collect();
    if packages.is_empty() {
        return Err(vec!["cargo metadata listed no package".into()]);
    }
    if faults.is_empty() {
        println!("{} packages, all under allowed licences", packages.len());
        return Ok(());
    }
    Err(faults)
}

fn fault(package: &Value, allowed: &[String]) -> Option<String> {
    let name = package["name"].as_str().unwrap_or("a package without name");
    match package["license"].as_str() {
        Some(expression) if is_allowed(expression, allowed) => None,
        Some(expression) => Some(format!("{name}: {expression} is not allowed by deny.toml")),
        None => Some(format!("{name}: no licence expression")),
    }
}

/// The strings of the list `allow = [...]`.
fn allowed(list: &str) -> Vec<String> {
    let without_comments: String =
        list.lines().map(|line| line.split('#').next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let Some((_, rest)) = without_comments.split_once("\nallow = [") else { return Vec::new() };
    let list = rest.split(']').next().unwrap_or_default();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether a licence expression can be met with the allowed licences.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    // The slash is how packages wrote OR before there were expressions.
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    any_of(&mut rest, allowed) && rest.is_empty()
}

fn any_of(rest: &mut &[&str], allowed: &[String]) -> bool {
    let mut met = all_of(rest, allowed);
    while let ["OR", after @ ..] = *rest {
        *rest = after;
        met |= all_of(rest, allowed);
    }
    met
}

fn all_of(rest: &mut &[&str], allowed: &[String]) -> bool {
    let mut met = term(rest, allowed);
    while let ["AND", after @ ..] = *rest {
        *rest = after;
        met &= term(rest, allowed);
    }
    met
}

fn term(rest: &mut &[&str], allowed: &[String]) -> bool {
    match *rest {
        ["(", after @ ..] => {
            *rest = after;
            let met = any_of(rest, allowed);
            match *rest {
                [")", after @ ..] => {
                    *rest = after;
                    met
                }
                _ => false,
            }
        }
        [licence, "WITH", exception, after @ ..] => {
            *rest = after;
            let both = format!("{licence} WITH {exception}");
            allowed.contains(&both) || allowed.iter().any(|known| known == licence)
        }
        [licence, after @ ..] => {
            *rest = after;
            allowed.iter().any(|known| known == licence)
        }
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read() {
        let list = "[licenses]\nallow = [\n    \"MIT\", # short\n    \"Apache-2.0\",\n]\n[bans]\ndeny = [\"x\"]\n";
        assert_eq!(allowed(list), ["MIT", "Apache-2.0"]);
        assert_eq!(allowed("[licenses]\n"), [""; 0]);
    }

    #[test]
    fn expressions_are_judged() {
        let allowed: Vec<String> = ["MIT", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"].map(String::from).into();
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR GPL-3.0) AND Unicode-3.0",
            "MIT WITH exception",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(is_allowed(good, &allowed), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0", "(MIT", "", "MIT MIT"] {
            assert!(!is_allowed(bad, &allowed), "{bad}");
        }
    }
}
