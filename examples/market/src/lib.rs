//! A system of actors with collections that grow: [`Book`], and [`Hoard`], with which the engine's tests find out what failures leave.
//!
//! A package of its own, as a user's is: its build script compiles the system for GPUs.

#![no_std]

pub use tourbillon::actors::{Book, Hoard};

tourbillon::system! {
    /// Actors with collections.
    pub struct Market = [Book, Hoard];
}

/// The system for an engine to be built from, with its kernels for GPUs where this package was built with a device toolchain.
#[cfg(not(target_arch = "nvptx64"))]
pub fn image() -> tourbillon::SystemImage {
    Market::image().with_ptx(tourbillon::built_ptx!())
}
