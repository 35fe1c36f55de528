//! `cargo xtask mutants`: every seeded fault must make the test fail that its entry in the list names.
//!
//! The list holds one `[[mutant]]` for each fault, with four strings: `name`, as in `mutant!("name")`; `package` and
//! `target` of the test program, where the target of unit tests is the crate's name; `test`, the full name of the test.
//! With names behind it the task looks at those faults alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::binaries::{self, Binary};
use crate::{parallel, suites};

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
const LIMIT: (&str, &str) = ("TOURBILLON_TEST_SECONDS", "10");
/// A test that ran for so long did not notice that it hung, and nobody would know why: it has killed nothing.
const DEADLINE: Duration = Duration::from_secs(25);
/// How often a running test is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// A harmed test that has run for so long waits for something that will not come, and its threads mostly sleep: the next one begins
/// beside it. Tests that are quicker never run beside each other, so that none fails because of another.
const ALONE: Duration = Duration::from_secs(1);
/// Tests that may wait so at a time: what they still do while they wait must not add up.
const WAITING_MAX: usize = 6;
/// Suites whose tests are looked at in programs of their own: the program of all of them takes about as long as so many.
const SUITES_APART_MAX: usize = 4;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Mutant {
    name: String,
    package: String,
    target: String,
    test: String,
}

impl Mutant {
    /// Package, program and test that it must be killed by.
    fn place(&self) -> (&str, &str, &str) {
        (&self.package, &self.target, &self.test)
    }
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

/// A test that runs.
struct Running {
    child: Child,
    began: Instant,
}

/// A test that runs with its fault.
struct Trial<'m> {
    mutant: &'m Mutant,
    running: Running,
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
    let mutants = placed(mutants.into_iter().filter(is_chosen).collect(), &suites::names(workspace)?);

    let arguments = build_arguments(&mutants);
    let programs = binaries::build(workspace, &arguments.iter().map(String::as_str).collect::<Vec<_>>())?;

    // All of them before the first fault, so that nothing runs beside a harmed one; beside each other, as `cargo test` runs them.
    let tests: BTreeSet<_> = mutants.iter().map(Mutant::place).collect();
    let tests: Vec<_> = tests.into_iter().collect();
    let endings = parallel::map(&tests, |(package, target, test)| {
        let program = programs.iter().find(|program| is_program(program, package, target))?;
        Some(start(program, test, None).map_or(Ending::NotRun, |mut test| test.wait(DEADLINE)))
    });
    let unharmed: BTreeMap<_, _> = tests.into_iter().zip(endings).collect();
    let mut killed = 0;
    let mut judge = |trial: Trial<'_>, with: Ending, faults: &mut Vec<String>| {
        let Trial { mutant, running } = trial;
        let seconds = running.began.elapsed().as_secs_f32();
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
    };
    let mut trials = Vec::new();
    for mutant in &mutants {
        let program = programs.iter().find(|program| is_program(program, &mutant.package, &mutant.target));
        let (Some(program), Some(without)) = (program, unharmed.get(&mutant.place()).copied().flatten()) else {
            faults.push(format!("{}: no test program {} in {}", mutant.name, mutant.target, mutant.package));
            continue;
        };
        if without == Ending::Passed {
            trials.push((program, mutant));
        } else {
            faults.push(format!("{}: without the fault, {} ends as {without:?}", mutant.name, mutant.test));
        }
    }
    let mut waiting: VecDeque<Trial<'_>> = VecDeque::new();
    for (program, mutant) in trials {
        let Some(running) = start(program, &mutant.test, Some(&mutant.name)) else {
            faults.push(format!("{}: {} cannot be run", mutant.name, mutant.test));
            continue;
        };
        let mut trial = Trial { mutant, running };
        match trial.running.ending_by(ALONE) {
            Some(with) => judge(trial, with, &mut faults),
            None => waiting.push_back(trial),
        }
        if waiting.len() > WAITING_MAX
            && let Some(mut oldest) = waiting.pop_front()
        {
            let with = oldest.running.wait(DEADLINE);
            judge(oldest, with, &mut faults);
        }
    }
    for mut trial in waiting {
        let with = trial.running.wait(DEADLINE);
        judge(trial, with, &mut faults);
    }
    println!("{killed} of {} faults killed", mutants.len());
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// What builds the programs with these faults' tests, and no others: most suites have none, and each takes some seconds.
fn build_arguments(mutants: &[Mutant]) -> Vec<String> {
    let packages: BTreeSet<&str> = mutants.iter().map(|mutant| mutant.package.as_str()).collect();
    let features: Vec<String> = packages.iter().map(|package| format!("{package}/{FEATURE}")).collect();
    let mut arguments = vec!["test".to_owned(), "--no-run".to_owned(), "--features".to_owned(), features.join(",")];
    arguments.extend(packages.iter().flat_map(|package| ["-p".to_owned(), (*package).to_owned()]));
    let is_unit = |mutant: &Mutant| mutant.target == mutant.package.replace('-', "_");
    if mutants.iter().any(is_unit) {
        arguments.push("--lib".to_owned());
    }
    let targets: BTreeSet<&str> =
        mutants.iter().filter(|mutant| !is_unit(mutant)).map(|mutant| mutant.target.as_str()).collect();
    arguments.extend(targets.iter().flat_map(|target| ["--test".to_owned(), (*target).to_owned()]));
    arguments
}

/// The faults with their tests where they are built: those of many suites in the program of all of them.
fn placed(mut mutants: Vec<Mutant>, suites: &[String]) -> Vec<Mutant> {
    let is_suite = |mutant: &Mutant| mutant.package == suites::PACKAGE && suites.contains(&mutant.target);
    let named: BTreeSet<&str> =
        mutants.iter().filter(|mutant| is_suite(mutant)).map(|mutant| mutant.target.as_str()).collect();
    if named.len() > SUITES_APART_MAX {
        for mutant in mutants.iter_mut().filter(|mutant| is_suite(mutant)) {
            mutant.test = format!("{}::{}", mutant.target, mutant.test);
            mutant.target = suites::PROGRAM.into();
        }
    }
    mutants
}

fn is_program(program: &Binary, package: &str, target: &str) -> bool {
    program.is_test && program.package == package && program.target == target
}

/// Starts a test, with a fault or without.
fn start(program: &Binary, test: &str, mutant: Option<&str>) -> Option<Running> {
    let mut command = Command::new(&program.path);
    command.current_dir(&program.folder).args(["--exact", test, "--include-ignored"]);
    command.env_remove(CHOICE_VARIABLE).env(LIMIT.0, LIMIT.1);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    if let Some(name) = mutant {
        command.env(CHOICE_VARIABLE, name);
    }
    Some(Running { child: command.spawn().ok()?, began: Instant::now() })
}

impl Running {
    /// How it ended, if it has when it has run for `time`.
    fn ending_by(&mut self, time: Duration) -> Option<Ending> {
        loop {
            match self.child.try_wait() {
                // What a passing test's harness prints fits into the pipe. A failing one that prints more than that hangs until
                // the deadline, which is a failure as well.
                Ok(Some(status)) => {
                    let mut said = Vec::new();
                    let read = self.child.stdout.take().map(|mut stdout| stdout.read_to_end(&mut said));
                    let has_read = matches!(read, Some(Ok(_)));
                    let ended = ending(status.success(), &String::from_utf8_lossy(&said));
                    return Some(if has_read { ended } else { Ending::NotRun });
                }
                Ok(None) if self.began.elapsed() < time => std::thread::sleep(LOOK),
                Ok(None) => return None,
                Err(_) => return Some(Ending::NotRun),
            }
        }
    }

    /// How it ended; one that has run for `deadline` is ended.
    fn wait(&mut self, deadline: Duration) -> Ending {
        self.ending_by(deadline).unwrap_or_else(|| {
            // The process is ours; that it may just have ended by itself does not matter.
            let _ = self.child.kill();
            let _ = self.child.wait();
            Ending::OutOfTime
        })
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
        if !field.is_empty() {
            return Err(vec![format!(
                "{LIST}:{number}: `{}` is there twice: begin each entry with `[[mutant]]`",
                key.trim()
            )]);
        }
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
        assert!(parse(&format!("{LINES}name = \"b\"\n")).is_err(), "a second name in one entry");
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
    fn only_programs_with_a_listed_test_are_built() {
        let mut unit = parse(LINES).unwrap().remove(0);
        (unit.package, unit.target) = ("a-b".into(), "a_b".into());
        let suite = Mutant { target: "rings".into(), ..unit.clone() };
        let arguments = build_arguments(&[unit, suite.clone(), suite.clone()]).join(" ");
        assert_eq!(arguments, "test --no-run --features a-b/mutants -p a-b --lib --test rings");
        assert!(!build_arguments(&[suite]).contains(&"--lib".to_owned()));
    }

    #[test]
    fn tests_of_many_suites_are_looked_for_in_one_program() {
        let of = |suite: &str| Mutant {
            name: "a".into(),
            package: suites::PACKAGE.into(),
            target: suite.into(),
            test: "works".into(),
        };
        let all: Vec<Mutant> = ["a", "b", "c", "d", "e", "apart"].map(of).into();
        let suites: Vec<String> = all[..5].iter().map(|mutant| mutant.target.clone()).collect();
        assert_eq!(placed(all[1..].to_vec(), &suites), all[1..]);
        let together = placed(all.clone(), &suites);
        assert_eq!((together[0].target.as_str(), together[0].test.as_str()), (suites::PROGRAM, "a::works"));
        assert_eq!(together[5], all[5]);
        let elsewhere: Vec<Mutant> = all.iter().map(|of| Mutant { package: "other".into(), ..of.clone() }).collect();
        assert_eq!(placed(elsewhere.clone(), &suites), elsewhere);
    }

    #[test]
    fn a_test_that_did_not_run_has_not_passed() {
        assert_eq!(ending(true, "running 1 test\ntest result: ok"), Ending::Passed);
        assert_eq!(ending(false, "running 1 test\nFAILED"), Ending::Failed);
        assert_eq!(ending(true, "running 0 tests\ntest result: ok"), Ending::NotRun);
        assert_eq!(ending(false, "no such option"), Ending::NotRun);
    }
}
