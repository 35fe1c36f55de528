//! The system between whose actors `tourbillon load --pattern` drives traffic: [`Courier`] alone, so that nothing else takes registers of
//! its kernel.
//!
//! A package of its own, as a user's is: its build script compiles the system for GPUs.

#![no_std]

#[cfg(not(target_arch = "nvptx64"))]
extern crate std;

pub use tourbillon::actors::Courier;

tourbillon::system! {
    /// Actors that carry messages to each other.
    pub struct Patterns = [Courier];
}

/// The system for an engine to be built from, with its kernels for GPUs where this package was built with a device toolchain.
#[cfg(not(target_arch = "nvptx64"))]
pub fn image() -> tourbillon::SystemImage {
    Patterns::image().with_ptx(tourbillon::built_ptx!())
}
