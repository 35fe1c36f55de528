//! The ring kernel of a system whose handlers never panic.
//!
//! Handlers are compiled into the engine's loops, where nobody can tell their panics from the engine's own. Here none of them has
//! any: `cargo xtask ptx --check` compiles this module and accepts no panic in its text. It is never run.

#![no_std]
#![feature(abi_ptx, stdarch_nvptx, asm_experimental_arch, link_llvm_intrinsics)]
#![allow(internal_features)]

tourbillon_device::system! {
    /// Actors without a panic.
    pub struct Quiet = [tourbillon_actors::Echo, tourbillon_actors::Counter, tourbillon_actors::Account];
}

tourbillon_device::kernel_entry!(Quiet);
