//! A system as a host sees it: what an engine is built from.

use tourbillon_shared::geometry::KernelArguments;

use crate::actor::Actor;
use crate::adopt::{self, Adopt, AdoptError};
use crate::arch::native;
#[cfg(feature = "simt")]
use crate::arch::simt;
use crate::contents::Collection;
use crate::system::System;

/// One kind of actor.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Number of the kind.
    pub number: u16,
    /// Name of the state type.
    pub name: &'static str,
    /// Bytes of the state.
    pub state_bytes: usize,
    /// Version of the state's schema ([`Plain::SCHEMA`](crate::Plain::SCHEMA)).
    pub schema: u32,
    /// Hash of the state's layout ([`Plain::LAYOUT`](crate::Plain::LAYOUT)).
    pub layout: u64,
    /// The collections in the state, where the kind uses any.
    #[doc(hidden)]
    pub collections: &'static [Collection],
    /// Takes over a state that was kept outside.
    pub(crate) adopt: Adopt,
}

impl Kind {
    /// The kind of the actor `A`.
    #[doc(hidden)]
    pub const fn of<A: Actor>() -> Self {
        Self {
            number: A::KIND,
            name: A::NAME,
            state_bytes: size_of::<A>(),
            schema: A::SCHEMA,
            layout: A::LAYOUT,
            collections: if A::POOLS { const { &A::COLLECTIONS }.as_slice() } else { &[] },
            adopt: adopt::adopt::<A>,
        }
    }
}

/// The kernel of a system as PTX text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PtxText {
    /// The chip the text was written for, such as 80 for `sm_80`; it runs on that one and newer ones.
    pub compute_capability: u32,
    /// Whether the sources it was made from are those of this build.
    pub is_fresh: bool,
    /// The source files that its panics name, as the compiler writes them: a device answers with a hash of one
    /// ([`file_hash`](tourbillon_shared::error::file_hash)).
    pub files: &'static [&'static str],
    /// The text.
    pub text: &'static str,
}

/// What an engine is built from: made by `Name::image()` of a [`system!`](crate::system!).
#[derive(Clone, Debug)]
pub struct SystemImage {
    /// Name of the system.
    pub name: &'static str,
    /// Its kinds.
    pub kinds: &'static [Kind],
    /// Bytes from one actor's entry to the next.
    pub entry_stride: u32,
    /// Whether any of its kinds uses collections.
    pub has_pools: bool,
    /// Whether any of its kinds publishes or reads blocks.
    pub has_blocks: bool,
    /// Whether any of its kinds sends letters.
    pub has_letters: bool,
    /// Its kernel for GPUs, for several chips; empty when there is none.
    pub ptx: &'static [PtxText],
    native: NativeRun,
    #[cfg(feature = "simt")]
    simt_4: SimtRun,
    #[cfg(feature = "simt")]
    simt_32: SimtRun,
}

type NativeRun = unsafe fn(*const KernelArguments, &native::Grid, u32);
#[cfg(feature = "simt")]
type SimtRun = unsafe fn(*const KernelArguments, &simt::Options) -> Result<(), simt::Failure>;

impl SystemImage {
    /// The image of `S`, whose kinds are `kinds`, without PTX.
    #[doc(hidden)]
    pub fn new<S: System>(kinds: &'static [Kind]) -> Self {
        Self {
            name: S::NAME,
            kinds,
            entry_stride: crate::supervision::entry_stride::<S>(),
            has_pools: S::POOLS,
            has_blocks: S::BLOCKS,
            has_letters: S::LETTERS,
            ptx: &[],
            native: native::run_warp::<S>,
            #[cfg(feature = "simt")]
            simt_4: simt::run_grid::<S, 4>,
            #[cfg(feature = "simt")]
            simt_32: simt::run_grid::<S, 32>,
        }
    }

    /// This image with PTX texts for GPUs.
    #[must_use]
    pub fn with_ptx(self, ptx: &'static [PtxText]) -> Self {
        Self { ptx, ..self }
    }

    /// Takes over the state of an actor of kind `kind` that was kept outside of an engine, as bytes of a state whose
    /// [`SCHEMA`](crate::Plain::SCHEMA) and [`LAYOUT`](crate::Plain::LAYOUT) were `schema` and `layout`: the bytes of the same state in
    /// this system, as long as the kind's `state_bytes`. They are those that were given where the version is that of this system, and
    /// what the actor's `upgrade` makes of them where it is another.
    ///
    /// Whatever is given, what comes back is a value of the state. This runs on the calling thread, user code included, and never on a
    /// device.
    ///
    /// # Errors
    /// [`AdoptError`] with the cause.
    pub fn adopt(&self, kind: u16, schema: u32, layout: u64, bytes: &[u8]) -> Result<Vec<u8>, AdoptError> {
        let found = self.kinds.iter().find(|known| known.number == kind);
        let found = found.ok_or(AdoptError::UnknownKind { system: self.name, kind })?;
        (found.adopt)(schema, layout, bytes)
    }

    /// Runs warp `warp` of block 0 on the calling thread until the kernel is stopped.
    ///
    /// # Safety
    /// `arguments` and everything that it points to stays valid and is used by nobody else but by the protocol, until
    /// every warp of `grid` has returned; each warp of the geometry runs exactly once.
    pub unsafe fn run_native(&self, arguments: *const KernelArguments, grid: &native::Grid, warp: u32) {
        // SAFETY: the caller vouches for it.
        unsafe { (self.native)(arguments, grid, warp) }
    }

    /// Runs the whole grid with simulated warps of `lanes` lanes (4 or 32) on the calling thread until it is stopped.
    ///
    /// # Errors
    /// What the simulation found wrong: lanes that reached different collectives, say.
    ///
    /// # Safety
    /// As for [`run_native`](Self::run_native).
    #[cfg(feature = "simt")]
    pub unsafe fn run_simt(
        &self,
        lanes: u32,
        arguments: *const KernelArguments,
        options: &simt::Options,
    ) -> Result<(), simt::Failure> {
        let run = if lanes == 32 { self.simt_32 } else { self.simt_4 };
        // SAFETY: the caller vouches for it.
        unsafe { run(arguments, options) }
    }
}
