//! Running `ptxas`, and reading what it says of registers, stack and spills.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::module::Module;

/// Names the assembler in place of the search.
pub const ASSEMBLER_VARIABLE: &str = "PTXAS";
/// Where `ci/setup-device-toolchain.sh` puts the assembler, relative to the workspace.
const ASSEMBLER_OF_SETUP: &str = "target/device-toolchain/nvidia/cu13/bin/ptxas";
/// Where NVIDIA's packages put it.
const ASSEMBLER_OF_TOOLKIT: &str = "/usr/local/cuda/bin/ptxas";

/// What a function takes of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Registers of 32 bits, what it calls included; only kernels have them.
    pub registers: Option<u32>,
    /// Bytes of stack; of a kernel, with what it calls.
    pub stack: u32,
    /// Bytes of registers that are stored to memory because there are too few, ...
    pub spill_stores: u32,
    /// ... and loaded again.
    pub spill_loads: u32,
}

/// The assembler, if there is one: the one that [`ASSEMBLER_VARIABLE`] names and no other, or that of the device toolchain in the checkout
/// at `workspace`, the one on the path, that of a CUDA toolkit.
pub fn find(workspace: Option<&Path>) -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(ASSEMBLER_VARIABLE) {
        return Some(PathBuf::from(named)).filter(|path| path.is_file());
    }
    let on_path = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).map(|folder| folder.join("ptxas")).collect::<Vec<_>>());
    workspace
        .map(|workspace| workspace.join(ASSEMBLER_OF_SETUP))
        .into_iter()
        .chain(on_path.unwrap_or_default())
        .chain([PathBuf::from(ASSEMBLER_OF_TOOLKIT)])
        .find(|path| path.is_file())
}

/// Assembles a text for one chip, as compute capability times ten: what the assembler said.
///
/// # Errors
/// What it said when it refused the text, or why it could not be run.
pub fn assemble(assembler: &Path, text: &Path, chip: u32) -> Result<String, String> {
    let output = Command::new(assembler)
        .args(["-v", "-arch", &format!("sm_{chip}"), "-o", "/dev/null"])
        .arg(text)
        .output()
        .map_err(|error| format!("cannot run {}: {error}", assembler.display()))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        Ok(said)
    } else {
        Err(format!("{} does not assemble for sm_{chip}:\n{said}", text.display()))
    }
}

/// The figures of every function that the assembler named, by its mangled name.
pub fn figures(said: &str) -> BTreeMap<String, Figures> {
    let mut all = BTreeMap::<String, Figures>::new();
    let mut last: Option<String> = None;
    for line in said.lines() {
        if let Some((_, name)) = line.split_once("Function properties for ") {
            last = Some(name.trim().to_owned());
            all.entry(name.trim().to_owned()).or_default();
        } else if line.contains("Compiling entry function") {
            // What follows belongs to another one.
            last = None;
        }
        let Some(of) = last.as_ref().and_then(|name| all.get_mut(name)) else { continue };
        if line.contains("bytes stack frame") {
            let figure = |what: &str| number_before(line, what).unwrap_or(0);
            of.stack = figure("bytes stack frame");
            of.spill_stores = figure("bytes spill stores");
            of.spill_loads = figure("bytes spill loads");
        } else if let Some((_, used)) = line.split_once("Used ") {
            of.registers = number_before(used, "registers");
            of.stack = number_before(used, "bytes cumulative stack size").unwrap_or(of.stack);
            // The line is the last of its kernel.
            last = None;
        }
    }
    all
}

/// The figures of a kernel with everything that it calls: its registers and its stack, which the assembler tells for all of it, and the
/// spills of each function, which it tells apart. Nothing when the assembler did not name the kernel.
pub fn figures_with_callees(all: &BTreeMap<String, Figures>, module: &Module, kernel: &str) -> Option<Figures> {
    let own = *all.get(kernel)?;
    let reached = module.reachable(kernel, |_| false);
    let callees = reached.into_iter().filter(|name| *name != kernel).filter_map(|name| all.get(name));
    Some(callees.fold(own, |sum, callee| Figures {
        spill_stores: sum.spill_stores.saturating_add(callee.spill_stores),
        spill_loads: sum.spill_loads.saturating_add(callee.spill_loads),
        ..sum
    }))
}

/// The number in front of `what` in a list that commas separate.
fn number_before(line: &str, what: &str) -> Option<u32> {
    line.split(',').find_map(|part| part.trim().strip_suffix(what)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As ptxas 13.0 put it for a user's system, shortened.
    const RECORDED: &str = include_str!("../tests/ptxas_13_0.txt");

    fn of(registers: Option<u32>, stack: u32, spill_stores: u32, spill_loads: u32) -> Figures {
        Figures { registers, stack, spill_stores, spill_loads }
    }

    #[test]
    fn recorded_words_are_read() {
        let figures = figures(RECORDED);
        assert_eq!(figures["tourbillon_ring_kernel"], of(Some(255), 1936, 8, 4));
        assert_eq!(figures["tourbillon_handler_0"], of(Some(26), 0, 0, 0));
        let function = figures.iter().find(|(name, _)| name.contains("10after_home")).unwrap().1;
        assert_eq!(*function, of(None, 0, 4, 4));
        assert_eq!(figures.len(), 3);
    }

    #[test]
    fn the_stack_of_what_is_called_counts() {
        let said = "Function properties for f\n 8 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n\
                    Used 9 registers, 40 bytes cumulative stack size";
        assert_eq!(figures(said)["f"], of(Some(9), 40, 0, 0));
    }

    #[test]
    fn spills_of_what_is_called_count() {
        let text = ".entry k()\n{\ncall.uni f, ();\ncall.uni g, ();\n}\n.func f()\n{\ncall.uni g, ();\n}\n\
                    .func g()\n{\nret;\n}\n.func h()\n{\nret;\n}\n";
        let all = ["k", "f", "g", "h"].map(|name| (name.to_owned(), of((name == "k").then_some(7), 1, 8, 4))).into();
        let module = Module::parse(text).unwrap();
        assert_eq!(figures_with_callees(&all, &module, "k"), Some(of(Some(7), 1, 24, 12)));
        assert_eq!(figures_with_callees(&all, &module, "other"), None);
    }

    #[test]
    fn silence_and_garbage_have_no_figures() {
        assert_eq!(figures(""), BTreeMap::new());
        assert_eq!(figures("ptxas info : Used 3 registers"), BTreeMap::new());
        let cut = figures("ptxas info    : Function properties for f\n    lots of bytes stack frame");
        assert_eq!(cut["f"], Figures::default());
        // Words of one kernel are not taken for those of the one before.
        let two = "Function properties for f\n 8 bytes stack frame\nCompiling entry function 'g'\nUsed 9 registers";
        assert_eq!(figures(two)["f"], of(None, 8, 0, 0));
    }

    #[test]
    fn an_assembler_that_is_none_says_so() {
        let error = assemble(Path::new("/nonexistent/ptxas"), Path::new("a.ptx"), 80).unwrap_err();
        assert!(error.contains("cannot run /nonexistent/ptxas"), "{error}");
    }
}
