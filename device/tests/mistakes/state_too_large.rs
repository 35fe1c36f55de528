use tourbillon_device::{State};

#[repr(C)]
#[derive(Clone, Copy, State)]
struct Tally {
    sums: [u64; 33],
}

fn main() {}
