//! Actors of a user whose handlers stand in a module of their own.

use tourbillon::{Context, Handler, NoError, Plain, State, actor, system};

/// Panics where it is told to.
#[repr(C)]
#[derive(Clone, Copy, Debug, State)]
pub struct Careless {
    pub handled: u64,
}

/// In which file: in this one for 0, in the library's for 1.
#[repr(C)]
#[derive(Clone, Copy, Debug, Plain)]
pub struct Slip {
    pub whose: u32,
}

impl Handler<Slip> for Careless {
    type Reply = u64;
    fn handle(&mut self, slip: &Slip, _context: &mut Context) -> Result<u64, NoError> {
        if slip.whose == 0 {
            panic!("here");
        }
        // Steps of 0 are refused in the library, which does not name its caller.
        self.handled += (0..8u64).step_by(slip.whose as usize - 1).count() as u64;
        Ok(self.handled)
    }
}

actor!(Careless { kind: 1300, error: NoError, messages: { 0: Slip } });
system! { pub struct Users = [Careless]; }
