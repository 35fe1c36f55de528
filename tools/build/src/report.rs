//! What a system's kernel takes of the registers and the memory of a GPU's threads, and which handler takes the most.
//!
//! Three things are assembled by `ptxas`, each as it would be for an engine: the system's kernel; the engine around an actor that does
//! nothing; and each handler as a kernel of its own, which loads what the handler works on, runs it, and stores what comes out.
//! The assembler tells registers, stack and spills of a kernel with everything that it calls. So a handler's figures are its own, not a
//! part of the kernel's: registers are shared by all that is not live at the same time, and what is compiled into the dispatch loop
//! meets what the loop keeps.

use std::fmt::Write as _;

use crate::assembler::Figures;

/// Registers that a thread can have.
pub const REGISTERS_MAX: u32 = 255;
/// The name in the texts of the list of handlers.
const LIST: &str = "TOURBILLON_HANDLERS[";

/// What a system's kernel takes, on one chip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The system.
    pub system: String,
    /// The chip, such as `sm_80`.
    pub chip: String,
    /// The system's kernel.
    pub kernel: Figures,
    /// The engine around an actor that does nothing.
    pub engine: Figures,
    /// Each handler, as a kernel of its own.
    pub handlers: Vec<Handler>,
    /// Handlers that were not looked at, because there are so many.
    pub unseen: usize,
}

/// A handler, and what it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handler {
    /// Name of its actor.
    pub actor: String,
    /// Name of its message.
    pub message: String,
    /// Whether it is `#[outlined]`, so not compiled into the dispatch loop.
    pub is_outlined: bool,
    /// What it takes by itself.
    pub figures: Figures,
}

impl Handler {
    fn name(&self) -> String {
        format!("{} / {}", self.actor, self.message)
    }
}

/// A quantity, by which handlers are compared.
#[derive(Clone, Copy)]
struct Quantity {
    what: &'static str,
    of: fn(&Figures) -> u32,
}

const QUANTITIES: [Quantity; 3] = [
    Quantity { what: "registers", of: |figures| figures.registers.unwrap_or(0) },
    Quantity { what: "bytes of stack", of: |figures| figures.stack },
    Quantity { what: "bytes of spills", of: |figures| figures.spill_stores },
];

impl Report {
    /// Who sets a quantity of the kernel.
    fn setter(&self, quantity: Quantity) -> String {
        let Quantity { what, of } = quantity;
        let (kernel, engine) = (of(&self.kernel), of(&self.engine));
        if kernel == 0 {
            return format!("{what}: none");
        }
        if kernel <= engine {
            return format!("{what}: {kernel}, which the engine takes without any handler");
        }
        let more = format!("{what}: {kernel}, {} more than the engine without handlers", kernel - engine);
        match self.handlers.iter().max_by_key(|handler| of(&handler.figures)) {
            Some(most) if of(&most.figures) > 0 => {
                format!("{more}; by itself {} takes the most: {}", most.name(), of(&most.figures))
            }
            _ => format!("{more}; no handler has any by itself, so it is their being in one loop with the engine"),
        }
    }

    /// One line: what the kernel takes, and of whom.
    pub fn summary(&self) -> String {
        let setters = QUANTITIES.map(|quantity| self.setter(quantity));
        format!("the kernel of {} on {}, a thread: {}", self.system, self.chip, setters.join("; "))
    }

    /// The whole report as a text.
    pub fn text(&self) -> String {
        let mut text =
            format!("What the kernel of {} takes of a thread on {}, as ptxas says\n\n", self.system, self.chip);
        for quantity in QUANTITIES {
            let _ = writeln!(text, "{}", self.setter(quantity));
        }
        let _ = writeln!(text, "\n{:>9} {:>6} {:>7} {:>7}", "registers", "stack", "stored", "loaded");
        let row = |figures: &Figures, what: &str| {
            let registers = figures.registers.map_or("?".into(), |registers| registers.to_string());
            format!(
                "{registers:>9} {:>6} {:>7} {:>7}  {what}\n",
                figures.stack, figures.spill_stores, figures.spill_loads
            )
        };
        text += &row(&self.kernel, "the kernel");
        text += &row(&self.engine, "the engine around an actor that does nothing");
        let mut handlers: Vec<&Handler> = self.handlers.iter().collect();
        handlers.sort_by_key(|handler| {
            (std::cmp::Reverse((handler.figures.registers, handler.figures.stack)), handler.name())
        });
        for handler in handlers {
            let outlined = if handler.is_outlined { ", outlined" } else { "" };
            text += &row(&handler.figures, &format!("{}{outlined}", handler.name()));
        }
        if self.unseen > 0 {
            let _ = writeln!(text, "{} more handlers were not looked at.", self.unseen);
        }
        let _ = write!(
            text,
            "\nA thread has {REGISTERS_MAX} registers at most; what does not fit is stored to memory and loaded again (spills, in bytes).\n\
             A handler's row is what it takes as a kernel that runs it once, with all that it calls. The rows do not add up: registers\n\
             and stack are used again by what comes later. A handler that takes much, and whose latency does not matter, may leave the\n\
             dispatch loop: `#[outlined]` in front of its number in `actor!`.\n"
        );
        text
    }
}

/// The handlers that a text of probes lists, in the order of their entries, without figures yet: nothing when there is no list.
pub fn listed(text: &str) -> Option<Vec<Handler>> {
    let (_, rest) = text.split_once(LIST)?;
    let (_, rest) = rest.split_once('{')?;
    let (bytes, _) = rest.split_once('}')?;
    let bytes: Option<Vec<u8>> = bytes.split(',').map(|byte| byte.trim().parse().ok()).collect();
    let list = String::from_utf8(bytes?).ok()?;
    list.lines()
        .map(|line| {
            let (actor, rest) = line.split_once(' ')?;
            let (message, place) = rest.rsplit_once(' ')?;
            let figures = Figures::default();
            Some(Handler { actor: actor.into(), message: message.into(), is_outlined: place == "+", figures })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(registers: u32, stack: u32, spills: u32) -> Figures {
        Figures { registers: Some(registers), stack, spill_stores: spills, spill_loads: spills }
    }

    fn handler(message: &str, of: Figures) -> Handler {
        Handler { actor: "Account".into(), message: message.into(), is_outlined: message == "Audit", figures: of }
    }

    fn report(kernel: Figures, engine: Figures) -> Report {
        let handlers = vec![
            handler("Deposit", figures(20, 0, 0)),
            handler("Audit", figures(90, 64, 0)),
            handler("Close", figures(30, 128, 0)),
        ];
        Report { system: "Mine".into(), chip: "sm_80".into(), kernel, engine, handlers, unseen: 0 }
    }

    #[test]
    fn the_engine_is_named_when_it_takes_as_much_alone() {
        let summary = report(figures(200, 1000, 0), figures(200, 1000, 0)).summary();
        assert_eq!(
            summary,
            "the kernel of Mine on sm_80, a thread: registers: 200, which the engine takes without any handler; \
             bytes of stack: 1000, which the engine takes without any handler; bytes of spills: none"
        );
    }

    #[test]
    fn each_quantity_names_its_own_handler() {
        let report = report(figures(255, 1100, 8), figures(200, 1000, 0));
        let expected = [
            "registers: 255, 55 more than the engine without handlers; by itself Account / Audit takes the most: 90",
            "bytes of stack: 1100, 100 more than the engine without handlers; by itself Account / Close takes the most: 128",
            "bytes of spills: 8, 8 more than the engine without handlers; no handler has any by itself, so it is their being in one \
             loop with the engine",
        ];
        assert_eq!(QUANTITIES.map(|quantity| report.setter(quantity)), expected);
    }

    #[test]
    fn the_text_has_a_row_for_each_the_heaviest_first() {
        let text = Report { unseen: 3, ..report(figures(255, 1100, 8), figures(200, 1000, 0)) }.text();
        let rows: Vec<&str> =
            text.lines().filter(|line| line.contains("  ") && !line.contains("stored ")).map(str::trim).collect();
        let expected = [
            "255   1100       8       8  the kernel",
            "200   1000       0       0  the engine around an actor that does nothing",
            "90     64       0       0  Account / Audit, outlined",
            "30    128       0       0  Account / Close",
            "20      0       0       0  Account / Deposit",
        ];
        assert_eq!(rows, expected, "{text}");
        assert!(text.contains("3 more handlers were not looked at"), "{text}");
    }

    #[test]
    fn lists_are_read_out_of_texts() {
        let bytes: Vec<String> = b"Account Deposit -\nAccount [u8; 4] +\n".iter().map(u8::to_string).collect();
        let text = format!(".visible .global .align 1 .b8 {LIST}36] = {{{}}};\n.entry f", bytes.join(", "));
        let listed = listed(&text).unwrap();
        let names: Vec<_> = listed.iter().map(|handler| (handler.name(), handler.is_outlined)).collect();
        assert_eq!(names, [("Account / Deposit".to_owned(), false), ("Account / [u8; 4]".to_owned(), true)]);
        assert_eq!(super::listed("no list"), None);
        assert_eq!(super::listed(&format!("{LIST}2] = {{300, 1}}")), None);
    }
}
