use tourbillon_device::{Plain};

/// For as long as the program runs, and yet only in its own memory.
#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Name {
    text: &'static str,
}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Borrowed<'a> {
    bytes: &'a [u8; 4],
}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Pointer {
    items: [*const u32; 2],
}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Callback(fn());

fn main() {}
