//! PTX text as functions and statements: as much of the language as the checks need.

use std::collections::{BTreeMap, BTreeSet};

/// A module: its functions by name.
#[derive(Debug, Default)]
pub struct Module {
    /// Functions that have a body.
    pub functions: BTreeMap<String, Function>,
}

/// A function or kernel.
#[derive(Debug)]
pub struct Function {
    /// Whether a host can launch it.
    pub is_entry: bool,
    /// Its body in order.
    pub statements: Vec<Statement>,
}

/// One statement of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Statement {
    /// The target of a branch.
    Label(String),
    /// An instruction or a directive.
    Instruction(Instruction),
}

/// One instruction or directive.
#[derive(Debug, PartialEq, Eq)]
pub struct Instruction {
    /// The guard, such as `%p1` or `!%p1`, when there is one.
    pub guard: Option<String>,
    /// Such as `ld.relaxed.sys.global.b128`.
    pub opcode: String,
    /// What follows the opcode, blanks collapsed.
    pub operands: String,
}

impl Instruction {
    /// The parts of the opcode between the dots.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.opcode.split('.')
    }

    /// The function that is called: nothing when this is no call, `Some(Err)` when the target is only known at run time.
    pub fn callee(&self) -> Option<Result<&str, &str>> {
        if self.parts().next() != Some("call") {
            return None;
        }
        let rest = match self.operands.strip_prefix('(') {
            Some(results) => results.split_once(')').map_or("", |(_, rest)| rest).trim_start_matches([',', ' ']),
            None => &self.operands,
        };
        let target = rest.split(',').next().unwrap_or_default().trim();
        Some(if target.starts_with('%') || target.is_empty() { Err(&self.operands) } else { Ok(target) })
    }
}

impl Function {
    /// The instructions in order, without labels.
    pub fn instructions(&self) -> impl Iterator<Item = &Instruction> {
        self.statements.iter().filter_map(|statement| match statement {
            Statement::Instruction(instruction) => Some(instruction),
            Statement::Label(_) => None,
        })
    }

    /// The functions that it calls by name.
    pub fn callees(&self) -> BTreeSet<&str> {
        self.instructions().filter_map(|instruction| instruction.callee()?.ok()).collect()
    }
}

impl Module {
    /// Reads a text.
    ///
    /// # Errors
    /// When a body has no end, or when there is no function at all.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut module = Self::default();
        let mut lines = text.lines().map(without_comment);
        let mut head = String::new();
        while let Some(line) = lines.next() {
            let line = line.trim_end();
            if !head.is_empty() || line.contains(".func") || line.contains(".entry") {
                if line != "{" {
                    head.push_str(line);
                    head.push(' ');
                    if line.ends_with(';') {
                        head.clear(); // A declaration: its body stands elsewhere.
                    }
                    continue;
                }
                let (name, is_entry) = name_of(&head)?;
                let mut body = String::new();
                loop {
                    match lines.next() {
                        Some("}") => break,
                        Some(line) => body.push_str(&format!("{line}\n")),
                        None => return Err(format!("the body of {name} has no end")),
                    }
                }
                module.functions.insert(name, Function { is_entry, statements: statements(&body) });
                head.clear();
            }
        }
        if module.functions.is_empty() {
            return Err("the text holds no function".into());
        }
        Ok(module)
    }

    /// The functions reached from `start` by calls, itself included, without entering those for which `stops` holds.
    pub fn reachable<'a>(&'a self, start: &'a str, stops: impl Fn(&str) -> bool) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let mut open = vec![start];
        while let Some(name) = open.pop() {
            if stops(name) || !found.insert(name) {
                continue;
            }
            if let Some(function) = self.functions.get(name) {
                open.extend(function.callees());
            }
        }
        found
    }
}

fn without_comment(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

/// The name in the head of a function, and whether it is an entry.
fn name_of(head: &str) -> Result<(String, bool), String> {
    let (rest, is_entry) = match (head.split_once(".entry"), head.split_once(".func")) {
        (Some((_, rest)), _) => (rest, true),
        (None, Some((_, rest))) => (rest, false),
        (None, None) => return Err(format!("no function head: {head}")),
    };
    let rest = match rest.trim_start().strip_prefix('(') {
        Some(results) => results.split_once(')').map_or("", |(_, rest)| rest),
        None => rest,
    };
    let name: String = rest.trim_start().chars().take_while(|c| !c.is_whitespace() && *c != '(').collect();
    if name.is_empty() { Err(format!("no name in: {head}")) } else { Ok((name, is_entry)) }
}

fn statements(body: &str) -> Vec<Statement> {
    let mut found = Vec::new();
    for piece in body.split(';') {
        let mut piece = piece.split_whitespace().collect::<Vec<_>>().join(" ");
        loop {
            // Braces at the start of a statement open or close a scope; operands' braces come after an opcode.
            let rest = piece.trim_start_matches(['{', '}', ' ']);
            let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
            match word.strip_suffix(':') {
                Some(label) => {
                    found.push(Statement::Label(label.into()));
                    piece = after.into();
                }
                None => {
                    piece = rest.into();
                    break;
                }
            }
        }
        if piece.is_empty() {
            continue;
        }
        let (guard, rest) = match piece.strip_prefix('@').and_then(|rest| rest.split_once(' ')) {
            Some((guard, rest)) => (Some(guard.to_owned()), rest),
            None => (None, piece.as_str()),
        };
        let (opcode, operands) = rest.split_once(' ').unwrap_or((rest, ""));
        found.push(Statement::Instruction(Instruction { guard, opcode: opcode.into(), operands: operands.into() }));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
.version 8.4
.shared .align 128 .b8 MEMORY[64];
.func (.param .b32 func_retval0) other
(
	.param .b64 other_param_0
)
;
	// .globl	kernel
.visible .entry kernel(
	.param .u64 .ptr .align 1 kernel_param_0
)
{
	.reg .pred 	%p<3>;
$L__BB0_1:
	@!%p1 bra 	$L__BB0_2; // a comment; with a semicolon
	{ .reg .b128 x; ld.relaxed.sys.global.b128 x, [%rd1]; mov.b128 {%rd2, %rd3}, x; }
$L__BB0_2:
	{ // callseq 0, 0
	.param .b64 param0;
	call.uni (retval0), 
	other, 
	(
	param0
	);
	} // callseq 0
	call.uni 	third, (param0);
	call 	(retval0), %rd5, (param0), prototype_0;
	ret;
}
.func  (.param .b32 func_retval0) other(
	.param .b64 other_param_0
)
{
	ret;
}
";

    #[test]
    fn functions_are_found() {
        let module = Module::parse(TEXT).unwrap();
        assert_eq!(module.functions.keys().collect::<Vec<_>>(), ["kernel", "other"]);
        assert!(module.functions["kernel"].is_entry);
        assert!(!module.functions["other"].is_entry);
    }

    #[test]
    fn statements_are_taken_apart() {
        let module = Module::parse(TEXT).unwrap();
        let kernel = &module.functions["kernel"];
        let opcodes: Vec<_> = kernel.instructions().map(|i| i.opcode.as_str()).collect();
        assert_eq!(
            opcodes,
            [
                ".reg",
                "bra",
                ".reg",
                "ld.relaxed.sys.global.b128",
                "mov.b128",
                ".param",
                "call.uni",
                "call.uni",
                "call",
                "ret"
            ]
        );
        let branch = kernel.instructions().find(|i| i.opcode == "bra").unwrap();
        assert_eq!((branch.guard.as_deref(), branch.operands.as_str()), (Some("!%p1"), "$L__BB0_2"));
        assert_eq!(kernel.statements.iter().filter(|s| matches!(s, Statement::Label(_))).count(), 2);
    }

    #[test]
    fn calls_are_followed() {
        let module = Module::parse(TEXT).unwrap();
        let kernel = &module.functions["kernel"];
        assert_eq!(kernel.callees().into_iter().collect::<Vec<_>>(), ["other", "third"]);
        assert!(kernel.instructions().any(|i| matches!(i.callee(), Some(Err(_)))));
        assert_eq!(module.reachable("kernel", |_| false).len(), 3);
        assert_eq!(module.reachable("kernel", |name| name == "other").len(), 2);
    }

    #[test]
    fn broken_texts_are_refused() {
        assert!(Module::parse("").is_err());
        assert!(Module::parse(".entry k()\n{\n ret;\n").is_err());
    }
}
