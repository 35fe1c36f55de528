//! Which suites of the engine's tests are in one program.

use std::path::Path;

/// The package of the suites.
pub const PACKAGE: &str = "tourbillon-tests";
/// The program that is made of many suites.
pub const PROGRAM: &str = "suites";
/// Its source, relative to the workspace.
pub const SOURCE: &str = "tests/suites.rs";

/// The suites in that program, each a module of it.
///
/// # Errors
/// When its source cannot be read.
pub fn names(workspace: &Path) -> Result<Vec<String>, Vec<String>> {
    let source = std::fs::read_to_string(workspace.join(SOURCE)).map_err(|error| vec![format!("{SOURCE}: {error}")])?;
    Ok(names_in(&source))
}

/// The modules that a source declares in files of their own.
fn names_in(source: &str) -> Vec<String> {
    source.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn modules_are_suites() {
        assert_eq!(names_in("//! mod no;\n#[path = \"tests/a.rs\"]\nmod a;\nmod b {\n}\nmod c;\n"), ["a", "c"]);
    }

    /// What is in the program and not left out elsewhere would run twice; what is left out and not in the program, never.
    #[test]
    fn every_suite_runs_once() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let manifest = std::fs::read_to_string(workspace.join("tests/Cargo.toml")).unwrap();
        let targets = manifest.split("\n[").filter_map(|part| part.strip_prefix("[test]]\n"));
        let left_out = targets.filter(|target| target.lines().any(|line| line == "test = false"));
        let left_out: BTreeSet<String> = left_out
            .map(|target| {
                target.lines().find_map(|line| line.strip_prefix("name = ")).unwrap().trim_matches('"').into()
            })
            .collect();
        let together: BTreeSet<String> = names(&workspace).unwrap().into_iter().collect();
        let twice: Vec<_> = together.difference(&left_out).collect();
        assert!(twice.is_empty(), "in {SOURCE}, but without `test = false` in tests/Cargo.toml: {twice:?}");
        let never: Vec<_> = left_out.difference(&together).collect();
        assert!(never.is_empty(), "`test = false` in tests/Cargo.toml, but not in {SOURCE}: {never:?}");
    }
}
