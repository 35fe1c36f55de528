//! Hands a message to and fro, and notes how long it was under way: the smallest actor with which a hop can be measured.

use tourbillon_device::{ActorRef, Context, Handler, NoError, Plain, State, actor};

/// Counts of a [`Relay`].
pub const STEPS: usize = 12;

/// An actor that hands messages on, with a state of 64 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, State)]
pub struct Relay {
    /// Messages that came.
    pub received: u64,
    /// Sum of how long they were under way, nanoseconds, wrapping.
    pub waited_ns: u64,
    /// How many were under way how long, by [`Pass::step`]; wrapping.
    pub steps: [u32; STEPS],
}

/// Goes to and fro between two relays.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Pass {
    /// Hops that are left.
    pub left: u32,
    /// In which bits the key of the other relay differs.
    pub other: u32,
    /// Where the steps begin, nanoseconds; what was quicker is counted with the first.
    pub from_ns: u32,
    /// Binary logarithm of how long a step is, nanoseconds; what took longer is counted with the last.
    pub step_log2: u32,
}

impl Pass {
    /// The step in which a time is counted.
    #[inline(always)]
    pub const fn step(&self, waited_ns: u64) -> usize {
        let step = waited_ns.saturating_sub(self.from_ns as u64) >> (self.step_log2 & 63);
        if step < STEPS as u64 { step as usize } else { STEPS - 1 }
    }

    /// The time at which a step begins, nanoseconds.
    pub const fn step_from(&self, step: usize) -> u64 {
        self.from_ns as u64 + ((step as u64) << (self.step_log2 & 63))
    }
}

/// Shows the relay.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Passed {}

impl Handler<Pass> for Relay {
    type Reply = ();

    #[inline]
    fn handle(&mut self, pass: &Pass, context: &mut Context) -> Result<(), NoError> {
        let waited_ns = context.waited_ns();
        if let Some(count) = self.steps.get_mut(pass.step(waited_ns)) {
            *count = count.wrapping_add(1);
        }
        self.received = self.received.wrapping_add(1);
        self.waited_ns = self.waited_ns.wrapping_add(waited_ns);
        if let Some(left) = pass.left.checked_sub(1) {
            let other = ActorRef::<Self>::new(context.key() ^ u64::from(pass.other));
            context.tell(other, &Pass { left, ..*pass });
        }
        Ok(())
    }
}

impl Handler<Passed> for Relay {
    type Reply = Relay;

    fn handle(&mut self, _message: &Passed, _context: &mut Context) -> Result<Relay, NoError> {
        Ok(*self)
    }
}

actor!(Relay { kind: 16, letters: true, error: NoError, messages: { 0: Pass, #[outlined] 1: Passed } });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_holds_what_lies_between_it_and_the_next() {
        let pass = Pass { left: 0, other: 1, from_ns: 500, step_log2: 5 };
        for step in 0..STEPS {
            assert_eq!((pass.step(pass.step_from(step)), pass.step(pass.step_from(step) + 31)), (step, step));
        }
        assert_eq!((pass.step(0), pass.step(499), pass.step(u64::MAX)), (0, 0, STEPS - 1));
        assert_eq!(size_of::<Relay>(), 64);
    }
}
