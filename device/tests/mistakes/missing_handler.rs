use tourbillon_device::{NoError, Plain, State, actor};

#[repr(C)]
#[derive(Clone, Copy, State)]
struct Tally {
    sum: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Add(u64);

actor!(Tally { kind: 900, error: NoError, messages: { 0: Add } });

fn main() {}
