use tourbillon_device::{Context, Handler, NoError, Plain, State, actor};

#[repr(C)]
#[derive(Clone, Copy, State)]
struct Tally {
    sum: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Ask(u64);

impl Handler<Ask> for Tally {
    type Reply = [u64; 45];

    fn handle(&mut self, _message: &Ask, _context: &mut Context) -> Result<[u64; 45], NoError> {
        Ok([0; 45])
    }
}

actor!(Tally { kind: 900, error: NoError, messages: { 0: Ask } });

fn main() {}
