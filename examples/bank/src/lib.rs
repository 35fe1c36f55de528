//! A system of actors that send each other messages: [`Vault`], the account of a bank, and [`Courier`], [`Crier`] and [`Rover`], with which the
//! engine's tests and benchmarks drive traffic between actors. [`teller`] is a client of the bank.
//!
//! A package of its own, as a user's is: its build script compiles the system for GPUs.

#![no_std]

#[cfg(not(target_arch = "nvptx64"))]
extern crate std;

#[cfg(not(target_arch = "nvptx64"))]
pub mod teller;

pub use tourbillon::actors::{Courier, Crier, Rover, Vault};

tourbillon::system! {
    /// Actors that send each other messages.
    pub struct Bank = [Vault, Courier, Rover, Crier];
}

/// The system for an engine to be built from, with its kernels for GPUs where this package was built with a device toolchain.
#[cfg(not(target_arch = "nvptx64"))]
pub fn image() -> tourbillon::SystemImage {
    Bank::image().with_ptx(tourbillon::built_ptx!())
}
