//! From device sources to PTX text, and back from a text to the question whether it still fits its sources.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`chip`] | the chips that texts are written for, and the compiler flags of each |
//! | [`source`] | the hash over everything that a text is made from |
//! | [`text`] | the first line of a text, and its state: fresh, stale or missing |
//! | [`toolchain`] | finding a compiler that can do it |
//! | [`compile`] | running it |
//! | [`module`], [`calls`] | a text as functions and statements; which of them call themselves |
//! | [`places`] | the source files that its panics name |
//! | [`assembler`] | running `ptxas`; registers, stack and spills in what it says |
//! | [`system`](mod@system) | what a user's build script calls |
//! | [`report`] | what a system's kernel takes, and which handler takes the most |

pub mod assembler;
pub mod calls;
pub mod chip;
pub mod compile;
pub mod module;
pub mod places;
pub mod report;
pub mod source;
pub mod system;
pub mod text;
pub mod toolchain;

pub use chip::{Chip, SHIPPED};
pub use compile::{Compilation, CompileError, compile_ptx};
pub use places::panic_files;
pub use source::source_hash;
pub use system::{BuildError, Built, SystemBuild, system};
pub use text::{PtxHeader, PtxState, ptx_state};
pub use toolchain::{Toolchain, ToolchainError};
