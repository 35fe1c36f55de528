//! Collectives: the instructions at which the lanes of a warp meet.
//!
//! A compiler that copies a collective into both arms of a branch makes lanes wait at different places, which is undefined
//! and mostly goes unnoticed. No text shows its source's number of call sites, because inlining multiplies them too;
//! so the counts of each kernel are recorded beside the texts and any change of them is a change to be looked at. Arms of
//! one branch that begin with the same collective (*twins*) are what a copied collective looks like; they are counted by
//! themselves.

use std::collections::BTreeMap;

use super::is_handler_boundary;
use tourbillon_build::module::{Function, Instruction, Module, Statement};

/// Opcodes of collectives, up to the part that names their type.
const COLLECTIVES: [&str; 9] = [
    "bar.warp.sync",
    "vote.sync",
    "match.any.sync",
    "match.all.sync",
    "shfl.sync",
    "redux.sync",
    "activemask",
    "barrier.sync",
    "bar.sync",
];

/// Counts by "kernel collective".
pub type Counts = BTreeMap<String, usize>;

/// The collective that an instruction is, if it is one.
fn collective(instruction: &Instruction) -> Option<&'static str> {
    COLLECTIVES
        .into_iter()
        .find(|name| instruction.opcode.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// No collective is guarded: the lanes whose guard is false would not come.
pub fn guarded(module: &Module) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, function) in &module.functions {
        for instruction in function.instructions() {
            if let (Some(guard), Some(_)) = (&instruction.guard, collective(instruction)) {
                faults
                    .push(format!("{name}: `@{guard} {}`: only some lanes reach this collective", instruction.opcode));
            }
        }
    }
    faults
}

/// A user's handler runs on its lane alone: nothing that it calls waits for other lanes.
pub fn in_handlers(module: &Module) -> Vec<String> {
    let mut faults = Vec::new();
    let boundaries = module.functions.keys().filter(|name| is_handler_boundary(name));
    for boundary in boundaries {
        for name in module.reachable(boundary, |_| false) {
            let Some(function) = module.functions.get(name) else { continue };
            if let Some(found) = function.instructions().find_map(collective) {
                faults.push(format!("{name}: `{found}` in what a handler calls"));
            }
        }
    }
    faults
}

/// The counts of collectives and of twins of every kernel, over all functions that it reaches.
pub fn counts(module: &Module) -> Counts {
    let mut counts = Counts::new();
    for (kernel, _) in module.functions.iter().filter(|(_, function)| function.is_entry) {
        for name in module.reachable(kernel, |_| false) {
            let Some(function) = module.functions.get(name) else { continue };
            for found in function.instructions().filter_map(collective) {
                *counts.entry(format!("{kernel} {found}")).or_default() += 1;
            }
            let twins = twins(function);
            if twins > 0 {
                *counts.entry(format!("{kernel} twins")).or_default() += twins;
            }
        }
    }
    counts
}

/// Branches both of whose arms begin with the same collective over the same lanes.
fn twins(function: &Function) -> usize {
    let statements = &function.statements;
    let label_at = |label: &str| {
        statements.iter().position(|statement| matches!(statement, Statement::Label(name) if name == label))
    };
    let mut found = 0;
    for (index, statement) in statements.iter().enumerate() {
        let Statement::Instruction(branch) = statement else { continue };
        if branch.guard.is_none() || branch.parts().next() != Some("bra") {
            continue;
        }
        // The compiler writes the other arm either right behind the branch or behind a plain branch that follows it.
        let other = match statements.get(index + 1) {
            Some(Statement::Instruction(next)) if next.guard.is_none() && next.parts().next() == Some("bra") => {
                label_at(&next.operands)
            }
            _ => Some(index + 1),
        };
        let (Some(taken), Some(other)) = (label_at(&branch.operands), other) else { continue };
        if taken == other {
            continue;
        }
        if let (Some(one), Some(two)) = (first_collective(statements, taken), first_collective(statements, other))
            && one == two
        {
            found += 1;
        }
    }
    found
}

/// The first collective of the block that begins at `start`, with the lanes that take part.
fn first_collective(statements: &[Statement], start: usize) -> Option<(&'static str, &str)> {
    for (offset, statement) in statements[start..].iter().enumerate() {
        match statement {
            Statement::Label(_) if offset > 0 => return None,
            Statement::Label(_) => {}
            Statement::Instruction(instruction) => {
                if let Some(name) = collective(instruction) {
                    let lanes = instruction.operands.rsplit(',').next().unwrap_or_default().trim();
                    return Some((name, lanes));
                }
                if matches!(instruction.parts().next(), Some("bra" | "ret" | "exit")) {
                    return None;
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::module;

    #[test]
    fn guarded_collectives_are_seen() {
        assert_eq!(guarded(&module(&[(".func f", "@%p1 bar.warp.sync -1;")])).len(), 1);
        assert_eq!(guarded(&module(&[(".func f", "@!%p1 shfl.sync.idx.b32 %r1, %r2, 0, 31, -1;")])).len(), 1);
        let good = "@%p1 bra $L; vote.sync.ballot.b32 %r1, %p2, -1; @%p1 mov.b32 %r1, 0;\n$L:\nret;";
        assert_eq!(guarded(&module(&[(".func f", good)])), [""; 0]);
    }

    #[test]
    fn collectives_of_handlers_are_seen() {
        let calls = (".func _ZN4turn11run_handler17h0E", "call.uni user, ();");
        assert_eq!(in_handlers(&module(&[calls, (".func user", "activemask.b32 %r1;")])).len(), 1);
        assert_eq!(in_handlers(&module(&[calls, (".func user", "ret;"), (".func engine", "bar.sync 0;")])), [""; 0]);
    }

    #[test]
    fn a_copied_collective_changes_the_counts() {
        let once = "@%p1 bra $A;\nmov.b32 %r1, 0;\n$A:\nbar.warp.sync -1;\nret;";
        let copied = "@%p1 bra $A;\nbar.warp.sync -1;\nbra.uni $B;\n$A:\nmov.b32 %r1, 1;\nbar.warp.sync -1;\n$B:\nret;";
        let far = "@%p1 bra $A;\nbra.uni $C;\n$A:\nbar.warp.sync -1;\nbra.uni $B;\n$C:\nbar.warp.sync -1;\n$B:\nret;";
        let kernel = |body| counts(&module(&[(".entry k", "call.uni f, ();"), (".func f", body)]));
        assert_eq!(kernel(once), Counts::from([("k bar.warp.sync".into(), 1)]));
        let twice = Counts::from([("k bar.warp.sync".into(), 2), ("k twins".into(), 1)]);
        assert_eq!(kernel(copied), twice);
        assert_eq!(kernel(far), twice);
    }

    #[test]
    fn different_lanes_are_no_twins() {
        let body =
            "@%p1 bra $A;\nvote.sync.ballot.b32 %r1, %p1, %r2;\nret;\n$A:\nvote.sync.ballot.b32 %r1, %p1, %r3;\nret;";
        assert!(!counts(&module(&[(".entry k", body)])).contains_key("k twins"));
    }
}
