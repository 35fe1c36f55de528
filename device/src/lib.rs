//! The ring kernel of Tourbillon and what actors are made of.
//!
//! One source runs on three machines: a GPU ([`arch`]'s `nvptx`, 32 lanes a warp), CPU threads (`native`, one lane a
//! warp) and, for tests, simulated warps of several lanes (`simt`). Everything above [`arch`] is written once.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`actor`](mod@actor) | what a user writes: states, messages, handlers |
//! | [`plain`] | data that travels, and states: what may be in them, and the hash of their layout |
//! | [`system`](mod@system) | the list of an engine's actors and the kernel's entry |
//! | [`call`], `context` | one message on its way through a handler; what the handler may know and do |
//! | `image`, `adopt` | a system as a host sees it; states that were kept outside, of this version or another |
//! | [`arch`] | lanes, collectives, memory operations with their ordering and scope |
//! | [`warp`] | a warp's living lanes and their collectives |
//! | [`block`] | a block's shared memory, loaded at launch and spilled at exit |
//! | [`clock`] | from the device clock to timestamps |
//! | [`look`] | reading a window of slots, all lanes together |
//! | [`frames`] | splitting a window into frames |
//! | [`gate`] | from the clients' lanes to the shards' rings |
//! | [`turn`] | the exclusive right to run a shard, and its four phases |
//! | `window` | the phases of the frames that a turn takes at once |
//! | `handler` | running one handler |
//! | `landing`, `large` | payloads from the clients' arenas; what a handler sees of them |
//! | [`tell`], `broadcast`, `mailbox` | letters: what a handler sends, to one actor or to all of a kind, and how it gets there |
//! | [`host_actor`](mod@host_actor) | actors whose handlers are code of the host |
//! | [`outbox`] | notices, from handlers to clients that did not ask |
//! | `options` | deadlines, message ids and expected versions; dead letters |
//! | `pool` | collections that grow, and blocks that others read, in the pools of the shards |
//! | `lone` | the short way of a message that comes alone |
//! | [`directory`] | from a key to an actor's place |
//! | `virtual_actors` | actors that come and go, with the store of the host |
//! | `probe` | each handler as a kernel of its own, for a build to find out what it takes |
//! | [`stats`] | what a warp counts |
//! | [`supervise`] | children of actors: what a user writes |
//! | `supervision` | bonds, orders and events: what the engine does for it |
//! | [`kernel`] | the dispatch loop |
//! | `control` | the control warp: orders, heartbeat, telemetry |

#![cfg_attr(target_arch = "nvptx64", no_std)]
#![cfg_attr(target_arch = "nvptx64", feature(asm_experimental_arch, link_llvm_intrinsics))]
#![cfg_attr(target_arch = "nvptx64", allow(internal_features))]

// The derives write paths that begin with the crate's name.
extern crate self as tourbillon_device;

pub mod actor;
#[cfg(not(target_arch = "nvptx64"))]
pub mod adopt;
pub mod arch;
pub mod block;
mod broadcast;
pub mod call;
pub mod clock;
mod context;
mod control;
pub mod directory;
pub mod frames;
pub mod gate;
mod handler;
pub mod host_actor;
#[cfg(not(target_arch = "nvptx64"))]
pub mod image;
pub mod kernel;
mod landing;
mod large;
mod lone;
pub mod look;
mod mailbox;
mod options;
#[doc(hidden)]
pub mod outbox;
#[cfg(not(target_arch = "nvptx64"))]
#[doc(hidden)]
pub mod panic_files;
pub mod plain;
mod pool;
#[doc(hidden)]
pub mod probe;
pub mod raw;
pub mod stats;
pub mod supervise;
mod supervision;
pub mod system;
pub mod tell;
pub mod turn;
mod virtual_actors;
pub mod warp;
mod window;
pub mod words;

#[doc(hidden)]
pub use tourbillon_shared as shared;

#[doc(hidden)]
pub use actor::zeroed;
pub use actor::{Actor, ErrorOf, Handler, Message, NoError, ReplyOf};
#[cfg(not(target_arch = "nvptx64"))]
pub use adopt::AdoptError;
pub use call::{Call, Outcome};
pub use context::Context;
pub use host_actor::HostActor;
#[cfg(not(target_arch = "nvptx64"))]
pub use image::{Kind, PtxText, SystemImage};
pub use outbox::Notice;
pub use plain::{Plain, State};
#[doc(hidden)]
pub use pool::contents;
pub use pool::{BlockIter, BlockRef, BlockView, MapIter, PoolError, PoolMap, PoolSet, PoolVec, VecIter};
pub use raw::{Addressee, NotSent};
pub use supervise::{Child, ChildEvent, ChildEvents, ChildOrder, ChildOrders, Verdict, Watch};
pub use system::System;
pub use tell::{ActorRef, Answered, Answers, AskError};
pub use tourbillon_derive::{PlainOfDevice as Plain, StateOfDevice as State};
pub use tourbillon_shared::outbox::Subscriber;
pub use tourbillon_shared::supervision::{Happened, Order as ParentOrder, Refusal};
#[doc(hidden)]
pub use words::Words;

/// The kind that a request is for, without the space of its key.
#[doc(hidden)]
#[inline(always)]
pub fn kind_of(header: &tourbillon_shared::header::Header) -> u16 {
    tourbillon_shared::virtual_actors::kind_of(header.kind)
}
