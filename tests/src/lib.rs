//! What the engine's tests share: one body that runs on every machine, deadlines, processes of their own, and a load whose
//! every message is accounted for.
//!
//! | machine | what it is |
//! | --- | --- |
//! | `native_1`, `native_3` | one and three CPU threads |
//! | `simt_4`, `simt_32` | simulated warps of 4 and 32 lanes |
//! | `simt_32_hostile` | the same behind a bus that delivers stores late and in any order |
//! | `gpu` | the first GPU; where there is none, the test says `SKIPPED` and passes |
//!
//! With `TOURBILLON_REQUIRE_GPU=1` in the environment a missing GPU is a failure.
//!
//! # What no frame carries is refused when it is compiled
//! A message of 352 bytes is the largest:
//! ```
//! # use tourbillon::{Context, Handler, NoError, Plain, State, actor};
//! #[repr(C)]
//! #[derive(Clone, Copy, Plain)]
//! struct Largest([u64; 44]);
//! # #[repr(C)]
//! # #[derive(Clone, Copy, State)]
//! # struct Sink { seen: u64 }
//! impl Handler<Largest> for Sink {
//!     type Reply = Largest;
//!     fn handle(&mut self, message: &Largest, _context: &mut Context) -> Result<Largest, NoError> {
//!         Ok(*message)
//!     }
//! }
//! actor!(Sink { kind: 900, error: NoError, messages: { 0: Largest } });
//! ```
//! One of 360 bytes does not compile:
//! ```compile_fail
//! # use tourbillon::{Context, Handler, NoError, Plain, State, actor};
//! #[repr(C)]
//! #[derive(Clone, Copy, Plain)]
//! struct TooLarge([u64; 45]);
//! # #[repr(C)]
//! # #[derive(Clone, Copy, State)]
//! # struct Sink { seen: u64 }
//! impl Handler<TooLarge> for Sink {
//!     type Reply = u64;
//!     fn handle(&mut self, _message: &TooLarge, _context: &mut Context) -> Result<u64, NoError> {
//!         Ok(0)
//!     }
//! }
//! actor!(Sink { kind: 900, error: NoError, messages: { 0: TooLarge } });
//! ```
//! Nor does a reply of that size:
//! ```compile_fail
//! # use tourbillon::{Context, Handler, NoError, Plain, State, actor};
//! #[repr(C)]
//! #[derive(Clone, Copy, Plain)]
//! struct Ask { size: u64 }
//! # #[repr(C)]
//! # #[derive(Clone, Copy, State)]
//! # struct Sink { seen: u64 }
//! impl Handler<Ask> for Sink {
//!     type Reply = [u64; 45];
//!     fn handle(&mut self, _message: &Ask, _context: &mut Context) -> Result<[u64; 45], NoError> {
//!         Ok([0; 45])
//!     }
//! }
//! actor!(Sink { kind: 900, error: NoError, messages: { 0: Ask } });
//! ```
//!
//! Beside a payload in the arena a message may have 336 bytes, for its frame carries a reference too:
//! ```compile_fail
//! # use tourbillon::{Client, Context, Handler, NoError, Plain, State, actor};
//! #[repr(C)]
//! #[derive(Clone, Copy, Plain)]
//! struct Full([u64; 43]);
//! # #[repr(C)]
//! # #[derive(Clone, Copy, State)]
//! # struct Sink { seen: u64 }
//! impl Handler<Full> for Sink {
//!     type Reply = u64;
//!     fn handle(&mut self, _message: &Full, _context: &mut Context) -> Result<u64, NoError> {
//!         Ok(0)
//!     }
//! }
//! actor!(Sink { kind: 900, error: NoError, messages: { 0: Full } });
//! # fn main() {
//! let send: fn(&mut Client, u64, Full, &[u8]) -> Result<(), tourbillon::SendError> = Client::send_large::<Full>;
//! # let _ = send;
//! # }
//! ```

/// The guide's code is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../docs/actors.md")]
#[derive(Debug)]
pub struct FirstActor;

/// The code of the chapter about stores is compiled, and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/virtual-actors.md")]
#[derive(Debug)]
pub struct VirtualActors;
/// So is that of the chapter on options.
#[cfg(doctest)]
#[doc = include_str!("../../docs/options.md")]
#[derive(Debug)]
pub struct MessageOptions;

/// And that of the chapter on names.
#[cfg(doctest)]
#[doc = include_str!("../../docs/registry.md")]
#[derive(Debug)]
pub struct NamesOfActors;

/// The code of the chapter on letters is compiled, and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/letters.md")]
#[derive(Debug)]
pub struct Letters;

/// So is that of the chapter on topics.
#[cfg(doctest)]
#[doc = include_str!("../../docs/topics.md")]
#[derive(Debug)]
pub struct TopicsOfActors;
/// The code of the chapter on supervisors is compiled, and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/supervision.md")]
#[derive(Debug)]
pub struct Supervision;

/// And that of the chapter on actors of the host.
#[cfg(doctest)]
#[doc = include_str!("../../docs/host-actors.md")]
#[derive(Debug)]
pub struct ActorsOfTheHost;

/// The code of the chapter on collections is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../docs/collections.md")]
#[derive(Debug)]
pub struct Collections;

pub mod bench;
pub mod child;
pub mod deadline;
pub mod futures;
pub mod host_actors;
pub mod house;
pub mod load;
pub mod outbox;
pub mod raw;
pub mod store;
pub mod topics;

pub use bench::{Bench, Place};

/// Makes one test on each named machine out of one body: `on_backends! { [native_1, gpu] fn name(bench: &Bench) { .. } }`.
///
/// The tests are called `name::native_1` and so on. With `apart` in front each runs in a process of its own, for what it does
/// to the process cannot be undone.
#[macro_export]
macro_rules! on_backends {
    ([$($place:ident),+ $(,)?] $(#[$attribute:meta])* fn $name:ident($bench:ident: &Bench) $body:block) => {
        $(#[$attribute])*
        mod $name {
            #[allow(unused_imports, reason = "a body may need nothing of its module")]
            use super::*;

            fn body($bench: &$crate::Bench) $body

            $(#[test]
            fn $place() {
                $crate::bench::run($crate::Place::$place(), body);
            })+
        }
    };
    (apart [$($place:ident),+ $(,)?] $(#[$attribute:meta])* fn $name:ident($bench:ident: &Bench) $body:block) => {
        $(#[$attribute])*
        mod $name {
            #[allow(unused_imports, reason = "a body may need nothing of its module")]
            use super::*;

            fn body($bench: &$crate::Bench) $body

            $(#[test]
            fn $place() {
                let name = concat!(module_path!(), "::", stringify!($place));
                $crate::child::run($crate::Place::$place(), name, body);
            })+
        }
    };
}

/// As [`on_backends`], on all machines.
#[macro_export]
macro_rules! on_every_backend {
    ($($rest:tt)+) => {
        $crate::on_backends! { [native_1, native_3, simt_4, simt_32, simt_32_hostile, gpu] $($rest)+ }
    };
}
