//! The rules that the text of a device module must keep. Each returns what it found wrong.

pub mod assemble;
pub mod calls;
pub mod collectives;
pub mod memory;

use tourbillon_build::module::Module;

/// The entry of every system's ring kernel.
pub const RING_KERNEL: &str = "tourbillon_ring_kernel";
/// The function that runs a user's handler and nothing else. A part of its mangled name.
pub const HANDLER_BOUNDARY: &str = "11run_handler";

/// Everything wrong with a text, but for the counts of its collectives.
pub fn text(module: &Module) -> Vec<String> {
    let mut faults = memory::orderings(module);
    faults.extend(memory::chunks(module));
    faults.extend(memory::outboxes(module));
    faults.extend(calls::traps(module));
    faults.extend(calls::recursion(module));
    faults.extend(collectives::guarded(module));
    faults.extend(collectives::in_handlers(module));
    faults
}

/// What is wrong in a text with collections and published blocks, which is none of those that are shipped.
pub fn pooled(module: &Module) -> Vec<String> {
    let mut faults = memory::orderings(module);
    faults.extend(memory::pools(module));
    faults.extend(memory::published(module));
    faults.extend(calls::traps(module));
    faults.extend(calls::recursion(module));
    faults.extend(collectives::guarded(module));
    faults.extend(collectives::in_handlers(module));
    faults
}

/// Whether a function is the boundary between the engine and a user's handlers.
pub fn is_handler_boundary(name: &str) -> bool {
    name.contains(HANDLER_BOUNDARY)
}

#[cfg(test)]
pub mod testing {
    use tourbillon_build::module::Module;

    /// A module whose functions are given as `(head, body)`.
    pub fn module(functions: &[(&str, &str)]) -> Module {
        let text: String = functions.iter().map(|(head, body)| format!("{head}()\n{{\n{body}\n}}\n")).collect();
        Module::parse(&text).unwrap()
    }
}
