//! Orderings, scopes and widths of memory accesses.

use super::RING_KERNEL;
use tourbillon_build::module::Module;

const ORDERINGS: [&str; 4] = ["relaxed", "acquire", "release", "acq_rel"];
const SCOPES: [&str; 4] = ["cta", "cluster", "gpu", "sys"];
/// What slots are read and written with: on the bus, and between blocks.
const CHUNK_ACCESSES: [&str; 4] = [
    "ld.relaxed.sys.global.b128",
    "st.relaxed.sys.global.b128",
    "ld.relaxed.gpu.global.b128",
    "st.relaxed.gpu.global.b128",
];
/// What reserves room in an outbox, and what gives a place in it: their orderings are what keeps unread slots from being overwritten.
const OUTBOX_ACCESSES: [&str; 2] = ["atom.acquire.gpu.global.add.u64", "atom.acq_rel.gpu.global.add.u64"];

/// What takes pages out of a pool and gives them back, and reads whose they are: words that lanes of one block use at the same time.
const POOL_ACCESSES: [&str; 3] =
    ["atom.relaxed.cta.global.add.u64", "ld.relaxed.cta.global.u64", "st.relaxed.cta.global.u64"];

/// What publishes a block and finds it, and what tells when nobody reads it any longer: between blocks of the grid.
const BLOCK_ACCESSES: [&str; 4] =
    ["st.release.gpu.global.u64", "ld.acquire.gpu.global.u64", "fence.sc.gpu", "atom.acq_rel.gpu.global.cas.b64"];

/// Every read-modify-write names its ordering and its scope.
///
/// Without them it is relaxed and of device scope, which is what the compiler makes of the language's own atomics
/// whatever they ask for.
pub fn orderings(module: &Module) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, function) in &module.functions {
        for instruction in function.instructions() {
            let parts: Vec<&str> = instruction.parts().collect();
            let has = |set: &[&str]| parts.iter().any(|part| set.contains(part));
            if matches!(parts[0], "atom" | "red") && !(has(&ORDERINGS) && has(&SCOPES)) {
                faults.push(format!(
                    "{name}: `{}` names no ordering or no scope; use an operation of `arch`",
                    instruction.opcode
                ));
            }
        }
    }
    faults
}

/// The ring kernel reads and writes slots in whole chunks, on the bus and between blocks.
pub fn chunks(module: &Module) -> Vec<String> {
    missing(module, &CHUNK_ACCESSES, "slots are no longer accessed as whole chunks")
}

/// The ring kernel, of which an actor posts notices, reserves room and takes places with the orderings that this needs.
pub fn outboxes(module: &Module) -> Vec<String> {
    missing(module, &OUTBOX_ACCESSES, "unread notices may be overwritten")
}

/// The ring kernel, of which an actor has collections, uses the words of pools as what they are.
pub fn pools(module: &Module) -> Vec<String> {
    missing(module, &POOL_ACCESSES, "lanes may take the same page")
}

/// The ring kernel, of which an actor publishes blocks, orders versions, announcements and the epoch as this needs.
pub fn published(module: &Module) -> Vec<String> {
    missing(module, &BLOCK_ACCESSES, "pages of published blocks may be used again under their readers")
}

/// Accesses that the ring kernel lacks, and what that means.
fn missing(module: &Module, accesses: &[&str], meaning: &str) -> Vec<String> {
    if !module.functions.contains_key(RING_KERNEL) {
        return vec![format!("there is no entry {RING_KERNEL}")];
    }
    let reached = module.reachable(RING_KERNEL, |_| false);
    let mut faults = Vec::new();
    for access in accesses {
        let functions = reached.iter().filter_map(|name| module.functions.get(*name));
        if !functions.flat_map(|function| function.instructions()).any(|instruction| instruction.opcode == *access) {
            faults.push(format!("{RING_KERNEL} has no `{access}`: {meaning}"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::module;

    #[test]
    fn bare_atomics_are_seen() {
        for bad in [
            "atom.add.u32 %r1, [%rd1], 1;",
            "atom.relaxed.global.add.u32 %r1, [%rd1], 1;",
            "red.gpu.add.u64 [%rd1], 1;",
        ] {
            assert_eq!(orderings(&module(&[(".func f", bad)])).len(), 1, "{bad}");
        }
        let good = "atom.relaxed.cta.shared.cas.b32 %r1, [%r2], 0, 1; red.relaxed.gpu.global.add.u64 [%rd1], %rd2;\
                    redux.sync.add.s32 %r1, %r2, -1;";
        assert_eq!(orderings(&module(&[(".func f", good)])), [""; 0]);
    }

    #[test]
    fn narrow_slot_accesses_are_seen() {
        let all = CHUNK_ACCESSES.map(|access| format!("{access} x;")).concat();
        let call = [(".visible .entry tourbillon_ring_kernel", "call.uni f, ();"), (".func f", all.as_str())];
        assert_eq!(chunks(&module(&call)), [""; 0]);
        for access in CHUNK_ACCESSES {
            let narrow = all.replace(access, &access.replace("b128", "v4.b32"));
            let kernel = [(".visible .entry tourbillon_ring_kernel", narrow.as_str())];
            assert_eq!(chunks(&module(&kernel)).len(), 1, "{access}");
        }
    }

    #[test]
    fn weaker_orderings_of_outboxes_are_seen() {
        let all = OUTBOX_ACCESSES.map(|access| format!("{access} x;")).concat();
        let kernel = |body: &str| outboxes(&module(&[(".visible .entry tourbillon_ring_kernel", body)]));
        assert_eq!(kernel(&all), [""; 0]);
        assert_eq!(kernel(&all.replace("acquire", "relaxed")).len(), 1);
        assert_eq!(kernel(&all.replace("acq_rel", "acquire")).len(), 1);
    }

    #[test]
    fn accesses_of_other_kernels_do_not_count() {
        let all = CHUNK_ACCESSES.map(|access| format!("{access} x;")).concat();
        let floors = [(".entry tourbillon_floor_gate", all.as_str()), (".entry tourbillon_ring_kernel", "ret;")];
        assert_eq!(chunks(&module(&floors)).len(), 4);
        assert_eq!(chunks(&module(&floors[..1])).len(), 1);
    }

    #[test]
    fn pools_without_their_accesses_are_seen() {
        let all = POOL_ACCESSES.map(|access| format!("{access} x;")).concat();
        assert_eq!(pools(&module(&[(".entry tourbillon_ring_kernel", all.as_str())])), [""; 0]);
        let weaker = all.replace("atom.relaxed.cta", "atom.relaxed.gpu");
        assert_eq!(pools(&module(&[(".entry tourbillon_ring_kernel", weaker.as_str())])).len(), 1);
    }

    #[test]
    fn weaker_orderings_of_blocks_are_seen() {
        let all = BLOCK_ACCESSES.map(|access| format!("{access} x;")).concat();
        let kernel = |body: &str| published(&module(&[(".entry tourbillon_ring_kernel", body)]));
        assert_eq!(kernel(&all), [""; 0]);
        for (strong, weak) in
            [("fence.sc", "fence.acq_rel"), ("st.release", "st.relaxed"), ("acq_rel.gpu", "acq_rel.cta")]
        {
            assert_eq!(kernel(&all.replace(strong, weak)).len(), 1, "{strong}");
        }
    }
}
