//! Goes from actor to actor, and leaves a trace: the smallest actor that has traffic, for benchmarks.

use tourbillon_device::{ActorRef, Context, Handler, NoError, Plain, State, actor};

/// An actor that messages pass through.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, State)]
pub struct Rover {
    /// Messages that came.
    pub received: u64,
    /// Sum of their random numbers, wrapping.
    pub digest: u64,
}

/// Goes to another rover at random.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Rove {
    /// Hops that are left.
    pub left: u32,
    /// How many rovers there are, keys from 0 on; the highest bit says that some of them are met far more often than others.
    pub rovers: u32,
    /// The state of its random numbers.
    pub seed: u64,
}

impl Rove {
    /// The bit of `rovers` that makes the traffic skewed.
    pub const SKEWED: u32 = 1 << 31;

    /// The next random number, and the rover that it leads to.
    #[inline(always)]
    pub const fn next(&self) -> (u64, u64) {
        // Knuth's MMIX generator; its upper bits, mixed, are the random ones.
        let seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = (seed ^ seed >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let rovers = (self.rovers & !Self::SKEWED) as u64;
        let to = if self.rovers & Self::SKEWED == 0 {
            ActorRef::<Rover>::owner_of(random, rovers).key()
        } else {
            // Log-uniform, whose density falls as that of Zipf's law with exponent 1 does: as often below 2^n as between 2^n and 2^(n+1).
            let bits = ((u64::BITS - rovers.leading_zeros()) as u64 * (random >> 32)) >> 32;
            let low = 1u64 << bits;
            let at = (low | (random & (low - 1))) - 1;
            if at < rovers { at } else { at - rovers }
        };
        (seed, to)
    }
}

/// Shows the rover.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Seen {}

impl Handler<Rove> for Rover {
    type Reply = ();

    #[inline]
    fn handle(&mut self, rove: &Rove, context: &mut Context) -> Result<(), NoError> {
        self.received = self.received.wrapping_add(1);
        self.digest = self.digest.wrapping_add(rove.seed);
        if rove.left != 0 {
            let (seed, to) = rove.next();
            context.tell(ActorRef::<Self>::new(to), &Rove { left: rove.left - 1, seed, ..*rove });
        }
        Ok(())
    }
}

impl Handler<Seen> for Rover {
    type Reply = Rover;

    fn handle(&mut self, _message: &Seen, _context: &mut Context) -> Result<Rover, NoError> {
        Ok(*self)
    }
}

actor!(Rover { kind: 12, letters: true, error: NoError, messages: { #[outlined] 0: Rove, #[outlined] 1: Seen } });
