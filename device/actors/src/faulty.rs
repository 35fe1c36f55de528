//! Fails on demand, in every way that a handler can.

use tourbillon_device::{Context, Handler, Plain, State, actor};

/// An actor that fails on demand.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, State)]
pub struct Faulty {
    /// Messages that were handled well.
    pub handled: u64,
    /// 0 between two messages. A handler writes here before it fails: a failure that leaves a trace is seen.
    pub scratch: u64,
    /// What [`Fault::Index`] reads out of bounds.
    pub table: [u32; 4],
}

/// A way to fail.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Plain)]
pub enum Fault {
    /// Does not fail.
    Nothing = 0,
    /// Reads past an array's end.
    Index = 1,
    /// Divides by zero.
    Divide = 2,
    /// Overflows an addition.
    Overflow = 3,
    /// Panics with a text.
    Panic = 4,
    /// Returns the typed error.
    Error = 5,
    /// Never returns.
    EndlessLoop = 6,
}

/// Fails in the named way.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Trigger {
    /// How to fail.
    pub fault: Fault,
    /// What [`FaultyError`] returns; otherwise without meaning.
    pub argument: u32,
}

/// The typed error of [`Fault::Error`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct FaultyError {
    /// The argument of the message.
    pub argument: u32,
}

impl core::fmt::Display for FaultyError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "failed on demand with argument {}", self.argument)
    }
}

impl core::error::Error for FaultyError {}

impl Handler<Trigger> for Faulty {
    /// How many messages the actor has handled well, this one included.
    type Reply = u64;

    fn handle(&mut self, message: &Trigger, _context: &mut Context) -> Result<u64, FaultyError> {
        self.scratch = u64::MAX;
        // Each operand comes from the message, so that no compiler can know that it fails.
        let fault = message.fault as u32;
        match message.fault {
            Fault::Nothing => {}
            Fault::Index => self.scratch = u64::from(self.table[self.table.len() + fault as usize]),
            Fault::Divide => self.scratch = u64::from(message.argument / (fault - Fault::Divide as u32)),
            Fault::Overflow => self.scratch = u64::from(u32::MAX - 1 + fault),
            Fault::Panic => panic!("on demand"),
            Fault::Error => return Err(FaultyError { argument: message.argument }),
            Fault::EndlessLoop => loop {
                core::hint::spin_loop();
            },
        }
        self.scratch = 0;
        self.handled += 1;
        Ok(self.handled)
    }
}

actor!(Faulty { kind: 4, error: FaultyError, messages: { 0: Trigger } });
