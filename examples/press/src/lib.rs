//! A system of actors that publish blocks: [`Gazette`], which reads those of others too.
//!
//! A package of its own, as a user's is: its build script compiles the system for GPUs.

#![no_std]

pub use tourbillon::actors::Gazette;

tourbillon::system! {
    /// Actors that publish, and read what others have published.
    pub struct Press = [Gazette];
}

/// The system for an engine to be built from, with its kernels for GPUs where this package was built with a device toolchain.
#[cfg(not(target_arch = "nvptx64"))]
pub fn image() -> tourbillon::SystemImage {
    Press::image().with_ptx(tourbillon::built_ptx!())
}
