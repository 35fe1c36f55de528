//! `cargo xtask licences`: the licences of all dependencies against the list in `deny.toml`.
//!
//! The file is one that `cargo deny` understands; this is the part of it that a fresh clone can check at once.

use std::path::Path;

use serde_json::Value;

use crate::metadata;

/// Folders of workspaces, each with a lock file of its own, relative to the main one.
const WORKSPACES: [&str; 2] = [".", "benches/peers"];

/// Checks every package that any target, feature or test of the workspaces may use.
pub fn check(workspace: &Path) -> Result<(), Vec<String>> {
    let list =
        std::fs::read_to_string(workspace.join("deny.toml")).map_err(|error| vec![format!("deny.toml: {error}")])?;
    let allowed = allowed(&list);
    if allowed.is_empty() {
        return Err(vec!["deny.toml has no list `allow`".into()]);
    }
    let mut faults = Vec::new();
    for folder in WORKSPACES {
        let packages = metadata::packages(&workspace.join(folder), &["--all-features"])?;
        let found: Vec<String> = packages.iter().filter_map(|package| fault(package, &allowed)).collect();
        if found.is_empty() {
            println!("{folder}: {} packages, all under allowed licences", packages.len());
        }
        faults.extend(found.into_iter().map(|fault| format!("{folder}: {fault}")));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
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
