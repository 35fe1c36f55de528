//! `cargo xtask ptx`: writing and checking the texts in `device/ptx`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use tourbillon_build::assembler;
use tourbillon_build::compile::compile_with;
use tourbillon_build::{Chip, Compilation, PtxHeader, PtxState, SHIPPED, Toolchain, ptx_state, source_hash};

use crate::check::collectives::Counts;
use crate::check::{self, assemble, calls, collectives};
use crate::parallel;
use crate::wrapper::ROOT_VARIABLE;
use tourbillon_build::module::Module;

/// The folder of the texts.
const FOLDER: &str = "device/ptx";
/// The shipped kernels, and those of a system that never panics.
const KERNEL: &str = "kernel";
const QUIET: &str = "quiet";
/// The reviewed counts of collectives, beside the texts.
const RECORD: &str = "collectives.txt";
const CURE: &str =
    "run `cargo xtask ptx` (it needs the device toolchain: ci/setup-device-toolchain.sh) and commit device/ptx";

type Outcome = Result<(), Vec<String>>;

/// Compiles the shipped kernels and writes their texts. Changed counts of collectives are an error, unless `accept`.
pub fn write(workspace: &Path, accept: bool) -> Outcome {
    let toolchain = Toolchain::find().map_err(one)?;
    let mut faults = Vec::new();
    let mut record = String::new();
    for chip in SHIPPED {
        let body = compile(workspace, &toolchain, chip, KERNEL)?;
        let flags = chip.flags();
        let source = source_hash(workspace, &toolchain.version, &flags).map_err(one)?;
        let header = PtxHeader { source, toolchain: toolchain.version.clone(), flags: flags.join(" ") };
        let file = workspace.join(FOLDER).join(chip.file_name);
        std::fs::write(&file, format!("{}\n{body}", header.line())).map_err(|error| about(&file, error))?;
        println!("wrote {FOLDER}/{} ({} lines)", chip.file_name, body.lines().count());
        let module = Module::parse(&body).map_err(|error| about(&file, error))?;
        faults.extend(check::text(&module).into_iter().map(|fault| format!("{}: {fault}", chip.file_name)));
        record.push_str(&recorded(chip, &collectives::counts(&module)));
    }
    let file = workspace.join(FOLDER).join(RECORD);
    match std::fs::read_to_string(&file) {
        Ok(before) if before == record => {}
        Ok(before) if !accept => {
            faults.extend(changes(&before, &record));
            faults
                .push("the collectives changed: look at every line above, then run `cargo xtask ptx --accept`".into());
        }
        _ => {
            std::fs::write(&file, &record).map_err(|error| about(&file, error))?;
            println!("wrote {FOLDER}/{RECORD}");
        }
    }
    done(faults)
}

/// Checks the texts in the workspace. `strict`: a missing toolchain or assembler is an error rather than a note.
pub fn check(workspace: &Path, strict: bool) -> Outcome {
    let mut faults = Vec::new();
    let absent = |what: String| {
        println!("SKIPPED: {what}");
        if strict { Some(format!("--strict: {what}")) } else { None }
    };
    let toolchain = match Toolchain::find() {
        Ok(toolchain) => Some(toolchain),
        Err(error) => {
            faults.extend(absent(format!("compiling afresh: {error}")));
            None
        }
    };
    let assembler = assembler::find(Some(workspace));
    if assembler.is_none() {
        faults.extend(absent(
            "assembling: no ptxas; ci/setup-device-toolchain.sh fetches one, or name it in PTXAS".into(),
        ));
    }
    // What takes longest is begun first; it is told of in the order of the chips.
    let mut tasks: Vec<Task<'_>> = SHIPPED.iter().rev().map(|chip| Task::Compile(*chip)).collect();
    for (assembler, chip) in assembler.iter().flat_map(|assembler| SHIPPED.map(|chip| (assembler, chip))) {
        tasks.extend(chip.assembles_for.iter().map(|target| Task::Assemble { assembler, chip, target: *target }));
    }
    let done_by = parallel::map(&tasks, |task| match task {
        Task::Compile(chip) => {
            let mut said = check_text(workspace, *chip, toolchain.as_ref());
            // In the folder of the last chip, which has the library already.
            if let (Some(toolchain), true) = (&toolchain, SHIPPED.last() == Some(chip)) {
                said.faults.extend(check_quiet(workspace, toolchain, *chip).err().unwrap_or_default());
            }
            said
        }
        Task::Assemble { assembler, chip, target } => check_assembly(workspace, *chip, *target, assembler),
    });
    let mut record = String::new();
    for said in done_by.iter().take(SHIPPED.len()).rev().chain(done_by.iter().skip(SHIPPED.len())) {
        said.notes.iter().for_each(|note| println!("{note}"));
        faults.extend(said.faults.iter().cloned());
        record.push_str(&said.record);
    }
    let file = workspace.join(FOLDER).join(RECORD);
    match std::fs::read_to_string(&file) {
        Ok(reviewed) if reviewed == record => {}
        Ok(reviewed) => {
            faults.extend(changes(&reviewed, &record));
            faults
                .push(format!("the collectives are not those of {FOLDER}/{RECORD}: run `cargo xtask ptx` and review"));
        }
        Err(error) => faults.extend(about(&file, error)),
    }
    done(faults)
}

/// A part of the check that needs none of the others.
enum Task<'a> {
    /// A text is what the sources compile to, and keeps the rules.
    Compile(Chip),
    /// A text assembles for a chip.
    Assemble { assembler: &'a Path, chip: Chip, target: u32 },
}

/// What came of a part.
#[derive(Default)]
struct Said {
    /// To be shown.
    notes: Vec<String>,
    /// The text's lines of the record.
    record: String,
    faults: Vec<String>,
}

impl Said {
    /// That something is wrong with the text for a chip.
    fn wrong(chip: Chip, faults: Vec<String>) -> Self {
        let faults = faults.into_iter().map(|fault| format!("{}: {fault}", chip.file_name)).collect();
        Self { faults, ..Self::default() }
    }
}

fn check_text(workspace: &Path, chip: Chip, toolchain: Option<&Toolchain>) -> Said {
    let mut notes = Vec::new();
    let mut record = String::new();
    let result = compare_text(workspace, chip, toolchain, &mut record, &mut notes);
    Said { notes, record, ..Said::wrong(chip, result.err().unwrap_or_default()) }
}

fn check_assembly(workspace: &Path, chip: Chip, target: u32, assembler: &Path) -> Said {
    match assemble::assemble(assembler, &workspace.join(FOLDER).join(chip.file_name), target) {
        Ok(registers) => {
            Said { notes: vec![format!("{} for sm_{target}: {registers}", chip.file_name)], ..Said::default() }
        }
        Err(wrong) => Said::wrong(chip, wrong),
    }
}

fn compare_text(
    workspace: &Path,
    chip: Chip,
    toolchain: Option<&Toolchain>,
    record: &mut String,
    notes: &mut Vec<String>,
) -> Outcome {
    let file = workspace.join(FOLDER).join(chip.file_name);
    let mut faults = Vec::new();
    let is_fresh = match ptx_state(workspace, &file) {
        PtxState::Fresh => true,
        PtxState::Missing => return Err(vec![format!("missing; {CURE}")]),
        PtxState::Stale { found, expected } => {
            faults.push(format!("stale: made from {found}, the sources are {expected}; {CURE}"));
            false
        }
    };
    let text = std::fs::read_to_string(&file).map_err(|error| about(&file, error))?;
    let module = Module::parse(&text).map_err(one)?;
    faults.extend(check::text(&module));
    record.push_str(&recorded(chip, &collectives::counts(&module)));

    if let (Some(toolchain), Some(header), true) = (toolchain, PtxHeader::of(&text), is_fresh) {
        let body = compile(workspace, toolchain, chip, KERNEL)?;
        if toolchain.version == header.toolchain {
            let checked_in = text.split_once('\n').map_or("", |(_, body)| body);
            faults.extend(first_difference(checked_in, &body));
        } else {
            notes.push(format!(
                "{}: compiled by {}, checked in from {}; not compared",
                chip.file_name, toolchain.version, header.toolchain
            ));
            faults.extend(Module::parse(&body).map_err(one).map(|module| check::text(&module))?);
        }
    }
    done(faults)
}

/// Compiles the ring kernel of a system without a panic, and looks for one.
fn check_quiet(workspace: &Path, toolchain: &Toolchain, chip: Chip) -> Outcome {
    let body = compile(workspace, toolchain, chip, QUIET)?;
    let module = Module::parse(&body).map_err(one)?;
    let mut faults = calls::panics(&module);
    // The only text that is checked in which an actor has collections and publishes blocks.
    faults.extend(check::pooled(&module));
    done(faults.into_iter().map(|fault| format!("{QUIET}: {fault}")).collect())
}

/// Compiles the kernels of the folder `device/{name}` so that the text depends on nothing but sources, flags and compiler.
fn compile(workspace: &Path, toolchain: &Toolchain, chip: Chip, name: &str) -> Result<String, Vec<String>> {
    let wrapper = std::env::current_exe().map_err(one)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let compilation = Compilation {
        package: &workspace.join("device").join(name),
        library: &format!("tourbillon-{name}"),
        chip,
        target: &target.join("device"),
        wrapper: Some(&wrapper),
        environment: &[(ROOT_VARIABLE, workspace)],
        is_locked: true,
    };
    compile_with(toolchain, &compilation).map_err(one)
}

/// The lines of the record for one text.
fn recorded(chip: Chip, counts: &Counts) -> String {
    counts.iter().fold(String::new(), |mut lines, (key, count)| {
        let _ = writeln!(lines, "{} {key} {count}", chip.file_name);
        lines
    })
}

/// The lines that only one of two records has.
fn changes(before: &str, after: &str) -> Vec<String> {
    let only = |sign, these: &str, those: &str| {
        these
            .lines()
            .filter(|line| !those.lines().any(|other| other == *line))
            .map(|line| format!("{sign} {line}"))
            .collect::<Vec<_>>()
    };
    let mut lines = only('-', before, after);
    lines.extend(only('+', after, before));
    lines
}

fn first_difference(checked_in: &str, compiled: &str) -> Option<String> {
    if checked_in == compiled {
        return None;
    }
    let place = checked_in.lines().zip(compiled.lines()).position(|(one, other)| one != other);
    let line = place.unwrap_or_else(|| checked_in.lines().count().min(compiled.lines().count()));
    Some(format!("not what the sources compile to, from line {} on; {CURE}", line + 2))
}

fn done(faults: Vec<String>) -> Outcome {
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn one(error: impl ToString) -> Vec<String> {
    vec![error.to_string()]
}

fn about(file: &Path, error: impl std::fmt::Display) -> Vec<String> {
    vec![format!("{}: {error}", file.display())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_counts_are_shown() {
        let before = "a.ptx k bar.warp.sync 1\na.ptx k vote.sync 2\n";
        let after = "a.ptx k bar.warp.sync 2\na.ptx k vote.sync 2\n";
        assert_eq!(changes(before, after), ["- a.ptx k bar.warp.sync 1", "+ a.ptx k bar.warp.sync 2"]);
        assert_eq!(changes(before, before), [""; 0]);
    }

    #[test]
    fn other_texts_are_seen() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert!(first_difference("a\nb\n", "a\nc\n").is_some_and(|fault| fault.contains("line 3")));
        assert!(first_difference("a\n", "a\nc\n").is_some());
    }
}
