use tourbillon_device::{Plain};

type Name = &'static u8;

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Named {
    name: Name,
}

fn main() {}
