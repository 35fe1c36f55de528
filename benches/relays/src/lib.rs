//! The system with which hops between actors are measured: [`Relay`] alone, so that nothing else takes registers of its kernel, and its
//! state is all that an entry has room for.
//!
//! A package of its own, as a user's is: its build script compiles the system for GPUs.

#![no_std]

#[cfg(not(target_arch = "nvptx64"))]
extern crate std;

pub use tourbillon::actors::Relay;

tourbillon::system! {
    /// Actors that hand a message to and fro.
    pub struct Relays = [Relay];
}

/// The system for an engine to be built from, with its kernels for GPUs where this package was built with a device toolchain.
#[cfg(not(target_arch = "nvptx64"))]
pub fn image() -> tourbillon::SystemImage {
    Relays::image().with_ptx(tourbillon::built_ptx!())
}
