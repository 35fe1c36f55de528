use tourbillon_device::{Context, Handler, NoError, Plain, State, actor};

#[repr(C)]
#[derive(Clone, Copy, State)]
struct Tally {
    sum: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Add(u64);

impl Handler<Add> for Tally {
    type Reply = u64;

    fn handle(&mut self, _message: &Add, _context: &mut Context) -> Result<u64, NoError> {
        Ok(self.sum)
    }
}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Put(u64);

impl Handler<Put> for Tally {
    type Reply = u64;

    fn handle(&mut self, _message: &Put, _context: &mut Context) -> Result<u64, NoError> {
        Ok(self.sum)
    }
}

actor!(Tally { kind: 900, error: NoError, messages: { 0: Add, 0: Put } });

fn main() {}
