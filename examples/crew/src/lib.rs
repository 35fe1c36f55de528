//! A system of actors that fail, and of supervisors that start them anew: [`Worker`] fails on demand, [`Plodder`] in the middle of what
//! it goes on with, [`Supervisor`] decides what becomes of them and of the others. Jobs come from clients, from actors and from topics.
//!
//! A package of its own, as a user's is: its build script compiles the system for GPUs.

#![no_std]

pub mod plodder;
pub mod worker;

use tourbillon::actors::Topic;

pub use plodder::Plodder;
pub use tourbillon::actors::Supervisor;
pub use worker::Worker;

tourbillon::system! {
    /// Supervisors, their workers and plodders, and actors that nobody supervises.
    pub struct Crew = [Supervisor, Worker, Plodder, worker::Clerk, Topic];
}

/// The system for an engine to be built from, with its kernels for GPUs where this package was built with a device toolchain.
#[cfg(not(target_arch = "nvptx64"))]
pub fn image() -> tourbillon::SystemImage {
    Crew::image().with_ptx(tourbillon::built_ptx!())
}
