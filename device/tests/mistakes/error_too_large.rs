use tourbillon_device::{Context, Handler, Plain, State, actor};

#[repr(C)]
#[derive(Clone, Copy, State)]
struct Tally {
    sum: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Ask(u64);

impl Handler<Ask> for Tally {
    type Reply = u64;

    fn handle(&mut self, _message: &Ask, _context: &mut Context) -> Result<u64, [u32; 88]> {
        Ok(self.sum)
    }
}

actor!(Tally { kind: 900, error: [u32; 88], messages: { 0: Ask } });

fn main() {}
