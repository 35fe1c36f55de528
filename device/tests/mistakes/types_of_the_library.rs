use tourbillon_device::{Plain};

#[repr(C)]
#[derive(Clone, Plain)]
struct Text {
    text: String,
}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Count {
    count: usize,
}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Maybe {
    maybe: Option<u32>,
}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Pair {
    pair: (u32, u32),
}

fn main() {}
