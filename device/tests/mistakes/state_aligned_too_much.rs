use tourbillon_device::{State};

#[repr(C, align(32))]
#[derive(Clone, Copy, State)]
struct Tally {
    sum: [u64; 4],
}

fn main() {}
