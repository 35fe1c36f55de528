use tourbillon_device::{Plain};

#[derive(Clone, Copy, Plain)]
struct Anyhow {
    one: u32,
    two: u32,
}

#[repr(C, packed)]
#[derive(Clone, Copy, Plain)]
struct Packed {
    short: u8,
    long: u32,
}

#[derive(Clone, Copy, Plain)]
enum AnySize {
    One,
    Two,
}

#[repr(u32)]
#[derive(Clone, Copy, Plain)]
enum WithFields {
    One(u32),
    Two,
}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
union Either {
    one: u32,
    two: f32,
}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Any<T> {
    one: T,
}

fn main() {}
