use tourbillon_device::{State};

#[repr(C)]
#[derive(Clone, Copy, State)]
#[schema(0)]
struct Zeroth {
    sum: u64,
}

#[repr(C)]
#[derive(Clone, Copy, State)]
#[schema = 2]
struct Second {
    sum: u64,
}

#[repr(C)]
#[derive(Clone, Copy, State)]
#[schema(2)]
#[schema(3)]
struct Both {
    sum: u64,
}

fn main() {}
