use tourbillon_device::{Context, Handler, NoError, Plain, State, actor};

#[repr(u64)]
#[derive(Clone, Copy, Plain)]
enum Side {
    Buy = 1,
    Sell = 2,
}

#[repr(C)]
#[derive(Clone, Copy, State)]
struct Tally {
    side: Side,
}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Ask(u64);

impl Handler<Ask> for Tally {
    type Reply = u64;

    fn handle(&mut self, _message: &Ask, _context: &mut Context) -> Result<u64, NoError> {
        Ok(self.side as u64)
    }
}

actor!(Tally { kind: 900, error: NoError, messages: { 0: Ask } });

fn main() {}
