//! Assembling a text for real chips with `ptxas`, and reading what it says.

use std::path::Path;

use tourbillon_build::assembler;

use super::RING_KERNEL;

/// Bytes that the ring kernel may save in memory: the state of reconvergence, stored around the dispatch loops and calls out of them, and
/// a few more words across the handlers that are compiled into the short way, which functions called elsewhere leave fewer registers for. A
/// round trip was measured with and without them, within 2 % of each other; the watches' loops, read as machine code for sm_90, save nothing.
/// The bound keeps it from growing unseen: sm_120 comes up to it, sm_90 to 56.
const SPILL_BYTES_MAX: u32 = 84;

/// Assembles a text for one chip: the registers of the ring kernel, or what is wrong.
pub fn assemble(assembler: &Path, text: &Path, chip: u32) -> Result<String, Vec<String>> {
    let said = assembler::assemble(assembler, text, chip).map_err(|error| vec![error])?;
    let faults: Vec<String> = faults(&said).into_iter().map(|fault| format!("sm_{chip}: {fault}")).collect();
    if faults.is_empty() { Ok(registers(&said)) } else { Err(faults) }
}

/// What is wrong in the assembler's words about a text that it accepted.
fn faults(said: &str) -> Vec<String> {
    let mut faults: Vec<String> =
        said.lines().filter(|line| line.contains("warning")).map(|line| line.trim().to_owned()).collect();
    let properties = format!("Function properties for {RING_KERNEL}");
    let mut lines = said.lines().skip_while(|line| !line.trim_end().ends_with(&properties));
    match (lines.next(), lines.next()) {
        (Some(_), Some(figures)) => {
            let bytes = |what: &str| {
                let figure = figures.split(',').find_map(|figure| figure.trim().strip_suffix(what))?;
                figure.trim().parse::<u32>().ok()
            };
            let is_small = |what| bytes(what).is_some_and(|bytes| bytes <= SPILL_BYTES_MAX);
            if !is_small("bytes spill stores") || !is_small("bytes spill loads") {
                faults.push(format!("{RING_KERNEL} spills registers: {}", figures.trim()));
            }
        }
        _ => faults.push(format!("the assembler said nothing about {RING_KERNEL}")),
    }
    faults
}

/// The line about the ring kernel's registers.
fn registers(said: &str) -> String {
    let properties = format!("Function properties for {RING_KERNEL}");
    said.lines()
        .skip_while(|line| !line.trim_end().ends_with(&properties))
        .find_map(|line| Some(line.split_once("Used ")?.1.to_owned()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
ptxas info    : Compiling entry function 'tourbillon_floor_gate' for 'sm_80'
ptxas info    : Function properties for tourbillon_floor_gate
    8 bytes stack frame, 8 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 37 registers, used 1 barriers
ptxas info    : Compiling entry function 'tourbillon_ring_kernel' for 'sm_80'
ptxas info    : Function properties for tourbillon_ring_kernel
    40 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 90 registers, used 1 barriers";

    #[test]
    fn spills_of_the_ring_kernel_are_seen() {
        assert_eq!(faults(GOOD), [""; 0]);
        assert_eq!(registers(GOOD), "90 registers, used 1 barriers");
        let with = |what: &str, bytes: u32| GOOD.replace(&format!("0 bytes {what}"), &format!("{bytes} bytes {what}"));
        assert_eq!(faults(&with("spill stores", SPILL_BYTES_MAX)), [""; 0]);
        assert_eq!(faults(&with("spill stores", SPILL_BYTES_MAX + 4)).len(), 1);
        assert_eq!(faults(&with("spill loads", SPILL_BYTES_MAX + 4)).len(), 1);
        assert_eq!(faults(&GOOD.replace("spill loads", "something")).len(), 1);
    }

    #[test]
    fn silence_and_warnings_are_seen() {
        assert_eq!(faults(&GOOD.replace(RING_KERNEL, "another_kernel")).len(), 1);
        let warned = format!("{GOOD}\nptxas warning : Stack size for entry function cannot be statically determined");
        assert_eq!(faults(&warned).len(), 1);
    }
}
