use tourbillon_device::{Plain};

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Between {
    short: u32,
    long: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Behind {
    long: u64,
    short: u32,
}

fn main() {}
