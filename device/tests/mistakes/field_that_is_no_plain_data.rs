use tourbillon_device::{Plain};

#[derive(Clone, Copy)]
struct Inner(u32);

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Outer {
    inner: Inner,
}

fn main() {}
