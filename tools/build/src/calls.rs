//! What calls what: recursion, and calls whose target is known only at run time.

use std::collections::BTreeSet;

use crate::module::Module;

/// Functions that call through a pointer: nobody can tell where that leads, so not how much stack it takes either.
pub fn by_pointer(module: &Module) -> Vec<&str> {
    let calls = |name: &&String| {
        module
            .functions
            .get(*name)
            .is_some_and(|function| function.instructions().any(|i| matches!(i.callee(), Some(Err(_)))))
    };
    module.functions.keys().filter(calls).map(String::as_str).collect()
}

/// The ways on which functions come to call themselves, each from a function to the same one again: a lane's stack is bounded only
/// without such.
pub fn cycles(module: &Module) -> Vec<Vec<&str>> {
    let mut done = BTreeSet::new();
    module.functions.keys().filter_map(|name| cycle_from(module, name, &mut Vec::new(), &mut done)).collect()
}

fn cycle_from<'a>(
    module: &'a Module,
    name: &'a str,
    path: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<Vec<&'a str>> {
    if let Some(first) = path.iter().position(|known| *known == name) {
        return Some(path[first..].iter().copied().chain([name]).collect());
    }
    if done.contains(name) {
        return None;
    }
    path.push(name);
    let callees = module.functions.get(name).map(|function| function.callees()).unwrap_or_default();
    let cycle = callees.into_iter().find_map(|callee| cycle_from(module, callee, path, done));
    path.pop();
    done.insert(name);
    cycle
}

/// The name of a function as its author wrote it, without the compiler's hashes.
pub fn readable(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(functions: &[(&str, &str)]) -> Module {
        let text: String = functions.iter().map(|(name, body)| format!(".func {name}()\n{{\n{body}\n}}\n")).collect();
        Module::parse(&text).unwrap()
    }

    #[test]
    fn cycles_are_found_with_their_way() {
        assert_eq!(cycles(&module(&[("f", "call.uni f, ();")])), [["f", "f"]]);
        let mutual = module(&[("f", "call.uni g, ();"), ("g", "call.uni h, ();"), ("h", "call.uni g, ();")]);
        assert_eq!(cycles(&mutual), [["g", "h", "g"]]);
        let diamond = module(&[("f", "call.uni g, (); call.uni h, ();"), ("g", "call.uni h, ();"), ("h", "ret;")]);
        assert_eq!(cycles(&diamond).len(), 0);
    }

    #[test]
    fn calls_by_pointer_are_found() {
        let pointer = module(&[("f", "call (retval0), %rd1, (param0), prototype_0;"), ("g", "call.uni f, ();")]);
        assert_eq!(by_pointer(&pointer), ["f"]);
    }

    #[test]
    fn names_are_readable() {
        let name = "_RNvXs7_NtCsfPL0wQNRL05_17tourbillon_actors6heraldNtB5_6HeraldINtNtCsiFQSujKEK0w_17tourbillon_device5actor7HandlerNtB5_7PublishE6handle";
        let expected = "<tourbillon_actors::herald::Herald as tourbillon_device::actor::Handler<tourbillon_actors::herald::Publish>>::handle";
        assert_eq!(readable(name), expected);
        assert_eq!(readable("tourbillon_ring_kernel"), "tourbillon_ring_kernel");
    }
}
