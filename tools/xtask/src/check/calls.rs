//! What calls what: traps, recursion, panics.

use super::RING_KERNEL;
use tourbillon_build::module::Module;

/// Parts of the mangled names of functions through which every panic goes.
const PANICS: [&str; 4] = ["9panicking", "rust_begin_unwind", "panic_fmt", "leave_after_panic"];

/// No trap: after one, every call of the process to the driver fails, for good.
pub fn traps(module: &Module) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, function) in &module.functions {
        let count = function.instructions().filter(|i| matches!(i.parts().next(), Some("trap" | "brkpt"))).count();
        if count > 0 {
            faults.push(format!(
                "{name}: {count} x `trap`; end in a loop that watches the stop word, or let the lane exit"
            ));
        }
    }
    faults
}

/// No function calls itself, and none by a pointer: see [`tourbillon_build::calls`].
pub fn recursion(module: &Module) -> Vec<String> {
    let mut faults: Vec<String> = tourbillon_build::calls::by_pointer(module)
        .into_iter()
        .map(|name| format!("{name}: a call through a pointer; device code calls by name only"))
        .collect();
    let cycles = tourbillon_build::calls::cycles(module);
    faults.extend(cycles.into_iter().map(|cycle| format!("recursion: {}", cycle.join(" -> "))));
    faults
}

/// The ring kernel of a system whose handlers never panic reaches no panic: then neither does the engine of any other, for it is
/// the same source.
pub fn panics(module: &Module) -> Vec<String> {
    if !module.functions.contains_key(RING_KERNEL) {
        return vec![format!("there is no entry {RING_KERNEL}")];
    }
    let mut faults = Vec::new();
    for name in module.reachable(RING_KERNEL, |_| false) {
        let Some(function) = module.functions.get(name) else { continue };
        for callee in function.callees() {
            // A panic function that calls another one is reported by its own caller.
            if is_panic(callee) && !is_panic(name) {
                faults.push(format!("{name} may panic ({callee}); only handlers may"));
            }
        }
    }
    faults
}

fn is_panic(name: &str) -> bool {
    PANICS.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::module;

    const KERNEL: &str = ".visible .entry tourbillon_ring_kernel";

    #[test]
    fn traps_are_seen() {
        assert_eq!(traps(&module(&[(".func f", "trap; exit;")])).len(), 1);
        assert_eq!(traps(&module(&[(".func f", "@%p1 trap;")])).len(), 1);
        assert_eq!(traps(&module(&[(".func f", "exit;")])), [""; 0]);
    }

    #[test]
    fn recursion_is_seen() {
        let own = module(&[(".func f", "call.uni f, ();")]);
        assert_eq!(recursion(&own), ["recursion: f -> f"]);
        let mutual =
            module(&[(".func f", "call.uni g, ();"), (".func g", "call.uni h, ();"), (".func h", "call.uni g, ();")]);
        assert_eq!(recursion(&mutual), ["recursion: g -> h -> g"]);
        let pointer = module(&[(".func f", "call (retval0), %rd1, (param0), prototype_0;")]);
        assert_eq!(recursion(&pointer).len(), 1);
        let diamond = module(&[
            (".func f", "call.uni g, (); call.uni h, ();"),
            (".func g", "call.uni h, ();"),
            (".func h", "ret;"),
        ]);
        assert_eq!(recursion(&diamond), [""; 0]);
    }

    #[test]
    fn panics_of_the_engine_are_seen() {
        let good = module(&[(KERNEL, "call.uni take, ();"), (".func take", "ret;")]);
        assert_eq!(panics(&good), [""; 0]);
        let bad = module(&[
            (KERNEL, "call.uni take, ();"),
            (".func take", "call.uni _ZN4core9panicking9panic_fmt17h2E, ();"),
            (".func _ZN4core9panicking9panic_fmt17h2E", "call.uni rust_begin_unwind, ();"),
        ]);
        assert_eq!(panics(&bad).len(), 1);
        assert!(panics(&bad)[0].starts_with("take may panic"));
        assert_eq!(panics(&module(&[(".func f", "ret;")])).len(), 1);
    }
}
