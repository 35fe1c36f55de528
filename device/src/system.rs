//! The list of an engine's actors, and the kernel's entry.
//!
//! They are two macros, because the list stands in a crate of actors, which any compiler takes, and the entry in the crate that
//! becomes the module, which needs features of the device compiler.

use crate::call::{Call, Outcome};
use crate::contents::Collection;
use crate::probe::{HandlerName, Probe};
use crate::words::Words;

/// The actors of an engine. Implemented by [`system!`](crate::system!).
pub trait System: 'static {
    /// Name of the system.
    const NAME: &'static str;
    /// Bytes of the largest state.
    const STATE_BYTES: usize;
    /// Whether any of them uses collections.
    const POOLS: bool;
    /// Whether any of them publishes or reads blocks.
    const BLOCKS: bool;

    /// Whether any of them sends letters.
    const LETTERS: bool;
    /// Whether any of them goes on by letters to itself that are never lost.
    const GOES_ON: bool;
    /// Whether any of them is supervised, or supervises.
    const SUPERVISED: bool;

    /// Its actors by name with their handlers, for builds.
    #[doc(hidden)]
    const HANDLERS: &'static [(&'static str, &'static [HandlerName])];

    /// Runs the handler at a place of that list, if there is one.
    ///
    /// # Safety
    /// As for [`Probe::run`].
    #[doc(hidden)]
    unsafe fn probe(index: usize, probe: &mut Probe);

    /// Whether the system has a kind of this number.
    fn has_kind(kind: u16) -> bool;
    /// Whether the actors of this kind use collections.
    fn has_pools(kind: u16) -> bool;
    /// The collections in the states of this kind, where it uses any.
    #[doc(hidden)]
    fn collections(kind: u16) -> &'static [Collection];
    /// Whether the actors of this kind publish or read blocks.
    fn has_blocks(kind: u16) -> bool;
    /// Whether the actors of this kind may be children of others.
    fn is_supervised(kind: u16) -> bool;

    /// Runs the handler for the message in `call`.
    ///
    /// # Safety
    /// `state` points to `STATE_BYTES` bytes, aligned to 16, of an actor of this kind, that nobody else accesses meanwhile.
    unsafe fn dispatch<W: Words>(state: *mut u8, call: &mut Call<W>) -> Outcome;
}

/// Lists the actors of a system; they may come from several crates.
///
/// `system! { pub struct Name = [Actor, other_crate::Actor]; }` declares the unit struct `Name` and implements
/// [`System`](crate::System) for it. Compiled for a host, `Name::image()` is what an engine is built from.
#[macro_export]
macro_rules! system {
    ($(#[$attribute:meta])* $visibility:vis struct $name:ident = [$($actor:ty),+ $(,)?];) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug)]
        $visibility struct $name;

        impl $crate::System for $name {
            const NAME: &'static str = stringify!($name);
            const STATE_BYTES: usize = {
                let mut most = 0;
                $(if size_of::<$actor>() > most { most = size_of::<$actor>(); })+
                most
            };

            const POOLS: bool = false $(|| <$actor as $crate::Actor>::POOLS)+;
            const BLOCKS: bool = false $(|| <$actor as $crate::Actor>::BLOCKS)+;
            const LETTERS: bool = false $(|| <$actor as $crate::Actor>::LETTERS)+;
            const GOES_ON: bool = false $(|| <$actor as $crate::Actor>::GOES_ON)+;
            const SUPERVISED: bool = false $(|| <$actor as $crate::Actor>::SUPERVISED)+;
            const HANDLERS: &'static [(&'static str, &'static [$crate::probe::HandlerName])] =
                &[$((<$actor as $crate::Actor>::NAME, <$actor as $crate::Actor>::HANDLERS)),+];

            #[inline(always)]
            unsafe fn probe(index: usize, probe: &mut $crate::probe::Probe) {
                let mut _first = 0;
                $(
                    let count = <$actor as $crate::Actor>::HANDLERS.len();
                    if index >= _first && index < _first + count {
                        // SAFETY: the caller vouches for it.
                        return unsafe { <$actor as $crate::Actor>::probe(index - _first, probe) };
                    }
                    _first += count;
                )+
            }

            #[inline]
            fn has_kind(kind: u16) -> bool {
                false $(|| kind == <$actor as $crate::Actor>::KIND)+
            }

            #[inline]
            fn has_pools(kind: u16) -> bool {
                false $(|| (<$actor as $crate::Actor>::POOLS && kind == <$actor as $crate::Actor>::KIND))+
            }

            #[inline]
            fn collections(kind: u16) -> &'static [$crate::contents::Collection] {
                $(if <$actor as $crate::Actor>::POOLS && kind == <$actor as $crate::Actor>::KIND {
                    const OF_STATE: $crate::contents::Collections = <$actor as $crate::Plain>::COLLECTIONS;
                    return const { &OF_STATE.exactly::<{ OF_STATE.len() }>() };
                })+
                &[]
            }

            #[inline]
            fn has_blocks(kind: u16) -> bool {
                false $(|| (<$actor as $crate::Actor>::BLOCKS && kind == <$actor as $crate::Actor>::KIND))+
            }

            #[inline]
            fn is_supervised(kind: u16) -> bool {
                false $(|| (<$actor as $crate::Actor>::SUPERVISED && kind == <$actor as $crate::Actor>::KIND))+
            }

            #[inline]
            unsafe fn dispatch<W: $crate::Words>(state: *mut u8, call: &mut $crate::Call<W>) -> $crate::Outcome {
                $(if W::SPAN.is_some() || $crate::kind_of(call.header()) == <$actor as $crate::Actor>::KIND {
                    // SAFETY: the caller vouches that the state is one of the message's kind and that nobody else uses it.
                    let outcome = unsafe { <$actor as $crate::Actor>::dispatch(state.cast(), call) };
                    if W::SPAN.is_none() || outcome != $crate::Outcome::Unknown {
                        return outcome;
                    }
                })+
                $crate::Outcome::Unknown
            }
        }

        const _: () = {
            let kinds = [$(<$actor as $crate::Actor>::KIND),+];
            let mut i = 0;
            while i < kinds.len() {
                let mut j = i + 1;
                while j < kinds.len() {
                    assert!(
                        kinds[i] != kinds[j],
                        concat!(
                            "two actors of the system `", stringify!($name),
                            "` have the same kind: it is listed twice, or two have one number in `kind:`; give each its own"
                        )
                    );
                    j += 1;
                }
                i += 1;
            }
        };

        #[cfg(not(target_arch = "nvptx64"))]
        impl $name {
            /// The system for a host to build an engine from.
            $visibility fn image() -> $crate::SystemImage {
                $crate::SystemImage::new::<Self>(
                    const { &[$($crate::Kind::of::<$actor>()),+] },
                )
            }
        }
    };
}

/// Emits, in the crate that is compiled to a module for GPUs, the entry `tourbillon_ring_kernel` of a system's kernel, and the
/// panic handler. That crate has the features `abi_ptx` and `asm_experimental_arch`.
///
/// `kernel_entry!(my_actors::Mine);`
#[cfg(target_arch = "nvptx64")]
#[macro_export]
macro_rules! kernel_entry {
    ($system:ty) => {
        /// The ring kernel.
        ///
        /// # Safety
        /// `arguments` points to the arguments of a launch of this module, which stay valid while it runs.
        #[unsafe(no_mangle)]
        pub unsafe extern "ptx-kernel" fn tourbillon_ring_kernel(
            arguments: *const $crate::shared::geometry::KernelArguments,
        ) {
            // SAFETY: the caller vouches for the arguments.
            unsafe { $crate::kernel::run::<$crate::arch::nvptx::Nvptx, $system>(arguments) }
        }

        #[panic_handler]
        fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
            $crate::arch::nvptx::leave_after_panic(info)
        }
    };
}
