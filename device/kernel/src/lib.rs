//! The kernels of the shipped system: the ring kernel of its actors, the bare floors of the latency bench, and litmus tests
//! of the memory operations.
//!
//! Compiled by `cargo xtask ptx` into the texts in `device/ptx`.

#![no_std]
#![feature(abi_ptx, stdarch_nvptx, asm_experimental_arch, link_llvm_intrinsics)]
#![allow(internal_features)]

mod floor;
mod hlc;
mod hop;
mod litmus;
mod machine;
mod prices;

tourbillon_actors::shipped!();
tourbillon_device::kernel_entry!(Shipped);
