//! `cargo xtask mutants`: every seeded fault must make the test fail that its entry in the list names.
//!
//! The list holds one `[[mutant]]` for each fault, with four strings: `name`, as in `mutant!("name")`; `package` and
//! `target` of the test program, where the target of unit tests is the crate's name; `test`, the full name of the test.
//! With names behind it the task looks at those faults alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::binaries::{self, Binary};

/// Where the list stands, relative to the workspace.
const LIST: &str = "tests/mutants/mutants.toml";
/// Folders whose sources may hold faults, relative to the workspace.
const SOURCES: [&str; 3] = ["shared/src", "device", "host/src"];
/// The feature that compiles the faults in: every package with a test in the list has it and passes it on.
const FEATURE: &str = "mutants";
/// Chooses the fault at run time.
const CHOICE_VARIABLE: &str = "TOURBILLON_MUTANT";
/// Tells the tests when to give up and say so, seconds: a fault may make its test hang. The slowest one takes a tenth of it
/// unharmed.
const LIMIT: (&str, &str) = ("TOURBILLON_TEST_SECONDS", "20");
/// A test that ran for so long did not notice that it hung, and nobody would know why: it has killed nothing.
const DEADLINE: Duration = Duration::from_secs(40);
/// How often a running test is looked at.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Mutant {
    name: String,
    package: String,
    target: String,
    test: String,
}

/// How a run of one test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Passed,
    Failed,
    OutOfTime,
    /// The program knows no such test.
    NotRun,
}

/// Builds once, then runs each fault's test without and with the fault; of the faults in `chosen` alone, unless that is empty.
pub fn check(workspace: &Path, chosen: &[&str]) -> Result<(), Vec<String>> {
    let list = std::fs::read_to_string(workspace.join(LIST)).map_err(|error| vec![format!("{LIST}: {error}")])?;
    let mutants = parse(&list)?;
    let seeded = seeded(workspace).map_err(|error| vec![format!("reading the sources: {error}")])?;
    let mut faults = compare(&mutants, &seeded);
    let unknown = chosen.iter().filter(|name| !mutants.iter().any(|mutant| mutant.name == **name));
    faults.extend(unknown.map(|name| format!("{LIST} has no fault {name}")));
    let is_chosen = |mutant: &Mutant| chosen.is_empty() || chosen.contains(&mutant.name.as_str());
    let mutants: Vec<Mutant> = mutants.into_iter().filter(is_chosen).collect();

    let packages: BTreeSet<&str> = mutants.iter().map(|mutant| mutant.package.as_str()).collect();
    let features = packages.iter().map(|package| format!("{package}/{FEATURE}")).collect::<Vec<_>>().join(",");
    let mut arguments = vec!["test", "--no-run", "--features", &features];
    packages.iter().for_each(|package| arguments.extend(["-p", package]));
    let programs = binaries::build(workspace, &arguments)?;

    let mut unharmed = BTreeMap::new();
    let mut killed = 0;
    for mutant in &mutants {
        let Some(program) = programs.iter().find(|program| is_program_of(program, mutant)) else {
            faults.push(format!("{}: no test program {} in {}", mutant.name, mutant.target, mutant.package));
            continue;
        };
        let without = *unharmed
            .entry((&mutant.package, &mutant.target, &mutant.test))
            .or_insert_with(|| run(program, &mutant.test, None));
        if without != Ending::Passed {
            faults.push(format!("{}: without the fault, {} ends as {without:?}", mutant.name, mutant.test));
            continue;
        }
        let began = Instant::now();
        let with = run(program, &mutant.test, Some(&mutant.name));
        let seconds = began.elapsed().as_secs_f32();
        match with {
            Ending::Failed => {
                killed += 1;
                println!("killed   {:28} by {} ({seconds:.1} s)", mutant.name, mutant.test);
            }
            Ending::Passed | Ending::OutOfTime | Ending::NotRun => {
                println!("SURVIVED {:28} {} ({with:?} after {seconds:.1} s)", mutant.name, mutant.test);
                faults.push(format!("{} survived {}: {with:?}", mutant.name, mutant.test));
            }
        }
    }
    println!("{killed} of {} faults killed", mutants.len());
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn is_program_of(program: &Binary, mutant: &Mutant) -> bool {
    program.is_test && program.package == mutant.package && program.target == mutant.target
}

fn run(program: &Binary, test: &str, mutant: Option<&str>) -> Ending {
    let mut command = Command::new(&program.path);
    command.current_dir(&program.folder).args(["--exact", test, "--include-ignored"]);
    command.env_remove(CHOICE_VARIABLE).env(LIMIT.0, LIMIT.1);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    if let Some(name) = mutant {
        command.env(CHOICE_VARIABLE, name);
    }
    let Ok(mut child) = command.spawn() else { return Ending::NotRun };
    let began = Instant::now();
    // What a passing test's harness prints fits into the pipe. A failing one that prints more than that hangs until the
    // deadline, which is a failure as well.
    loop {
        match child.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if began.elapsed() < DEADLINE => std::thread::sleep(LOOK),
            _ => {
                // The process is ours; that it may just have ended by itself does not matter.
                let _ = child.kill();
                let _ = child.wait();
                return Ending::OutOfTime;
            }
        }
    }
    match child.wait_with_output() {
        Ok(output) => ending(output.status.success(), &String::from_utf8_lossy(&output.stdout)),
        Err(_) => Ending::NotRun,
    }
}

/// How a test ended whose program succeeded or not and printed `said`.
fn ending(succeeded: bool, said: &str) -> Ending {
    match (succeeded, said.contains("running 1 test")) {
        (_, false) => Ending::NotRun,
        (true, true) => Ending::Passed,
        (false, true) => Ending::Failed,
    }
}

/// What the list lacks, and what it has too much.
fn compare(mutants: &[Mutant], seeded: &BTreeSet<String>) -> Vec<String> {
    let listed: BTreeSet<String> = mutants.iter().map(|mutant| mutant.name.clone()).collect();
    let missing = seeded.difference(&listed).map(|name| format!("{name} is seeded, but not in {LIST}"));
    let stray = listed.difference(seeded).map(|name| format!("{name} is in {LIST}, but nowhere seeded"));
    missing.chain(stray).collect()
}

/// The names of all faults in the sources.
fn seeded(workspace: &Path) -> std::io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut open: Vec<PathBuf> = SOURCES.iter().map(|folder| workspace.join(folder)).collect();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                names.extend(names_in(&std::fs::read_to_string(path)?));
            }
        }
    }
    Ok(names)
}

fn names_in(source: &str) -> Vec<String> {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    code.split("mutant!(")
        .skip(1)
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
        .map(str::to_owned)
        .collect()
}

fn parse(list: &str) -> Result<Vec<Mutant>, Vec<String>> {
    let mut mutants: Vec<Mutant> = Vec::new();
    for (number, line) in list.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line == "[[mutant]]" {
            mutants.push(Mutant::default());
            continue;
        }
        let wrong = || vec![format!("{LIST}:{number}: expected `[[mutant]]` or `key = \"value\"`, found `{line}`")];
        let (key, value) = line.split_once('=').ok_or_else(wrong)?;
        let value = value.trim().strip_prefix('"').and_then(|value| value.strip_suffix('"')).ok_or_else(wrong)?;
        let mutant = mutants.last_mut().ok_or_else(wrong)?;
        let field = match key.trim() {
            "name" => &mut mutant.name,
            "package" => &mut mutant.package,
            "target" => &mut mutant.target,
            "test" => &mut mutant.test,
            _ => return Err(wrong()),
        };
        *field = value.to_owned();
    }
    let is_whole = |mutant: &Mutant| {
        ![&mutant.name, &mutant.package, &mutant.target, &mutant.test].into_iter().any(String::is_empty)
    };
    match mutants.iter().find(|mutant| !is_whole(mutant)) {
        Some(mutant) => Err(vec![format!("{LIST}: an entry lacks name, package, target or test: {mutant:?}")]),
        None if mutants.is_empty() => Err(vec![format!("{LIST} is empty")]),
        None => Ok(mutants),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "# why\n[[mutant]]\nname = \"a\"\npackage = \"p\"\ntarget = \"t\"\ntest = \"m::works\"\n";

    #[test]
    fn lists_are_read() {
        let mutants = parse(LINES).unwrap();
        assert_eq!(mutants.len(), 1);
        assert_eq!(mutants[0].test, "m::works");
        assert!(parse("").is_err());
        assert!(parse("name = \"a\"").is_err());
        assert!(parse("[[mutant]]\nname = \"a\"\n").is_err());
        assert!(parse(&LINES.replace("target", "aim")).is_err());
        assert!(parse(&LINES.replace("\"a\"", "a")).is_err());
    }

    #[test]
    fn every_fault_must_be_listed_and_every_entry_seeded() {
        let source =
            "if crate::mutant!(\"a\") {}\n/// mutant!(\"c\")\nlet x = mutant!(\n    \"b\"\n);\n($name:literal)";
        let names: BTreeSet<String> = names_in(source).into_iter().collect();
        assert_eq!(names, BTreeSet::from(["a".into(), "b".into()]));
        let mutants = parse(LINES).unwrap();
        assert_eq!(compare(&mutants, &names).len(), 1);
        assert_eq!(compare(&mutants, &BTreeSet::new()).len(), 1);
        assert_eq!(compare(&mutants, &BTreeSet::from(["a".into()])), [""; 0]);
    }

    #[test]
    fn a_test_that_did_not_run_has_not_passed() {
        assert_eq!(ending(true, "running 1 test\ntest result: ok"), Ending::Passed);
        assert_eq!(ending(false, "running 1 test\nFAILED"), Ending::Failed);
        assert_eq!(ending(true, "running 0 tests\ntest result: ok"), Ending::NotRun);
        assert_eq!(ending(false, "no such option"), Ending::NotRun);
    }
}
