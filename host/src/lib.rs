//! Tourbillon: actors in a ring kernel, a dispatch loop that is launched once on a GPU or on CPU threads and then serves any
//! number of messages.
//!
//! ```
//! use tourbillon::actors::counter::Add;
//! use tourbillon::{Backend, Engine};
//!
//! let engine = Engine::builder().backend(Backend::Cpu).build()?;
//! let mut client = engine.client()?;
//! client.call(7, Add { amount: 5, sender: 0, sequence: 1 })?;
//! let reply = client.call(7, Add { amount: 1, sender: 0, sequence: 2 })?;
//! assert_eq!((reply.previous, reply.last_sequence), (5, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A crate of actors depends on this crate alone. When that is compiled for a GPU, this crate is no more than what actors are
//! made of ([`Handler`], [`Context`], [`actor!`], [`system!`]); all that follows is for hosts.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`engine`] | the engine and its lifecycle |
//! | [`config`] | what an engine is told, checked before anything starts |
//! | [`client`], [`pipeline`] | typed messages through a lane |
//! | `gateway` | the engine for async code; with the feature `async` |
//! | [`processing`] | how many messages are taken at once |
//! | [`options`] | what may be said beside a message: deadline, id, expected version |
//! | [`dead_letters`] | messages that could not be delivered |
//! | [`outbox`] | what actors send without being asked |
//! | [`host_actors`] | actors whose handlers are code of the host |
//! | [`keys`] | keys that are strings or wide ids |
//! | [`registry`] | names under which actors are found, also by patterns |
//! | [`topics`] | topics with subscribers, actors and host code alike |
//! | [`store`] | where actors are that the device has no room for |
//! | [`wait`] | how a client waits |
//! | [`backpressure`], [`staging`] | what happens when a lane is full |
//! | [`error`], [`call_error`] | what can go wrong |
//! | [`telemetry`] | the telemetry pages of running engines, for any process |
//! | [`lane`], [`shared_memory`] | what crosses the boundary of a process |

#![cfg_attr(target_arch = "nvptx64", no_std)]

#[cfg(not(target_arch = "nvptx64"))]
#[path = "host.rs"]
mod host;

#[cfg(not(target_arch = "nvptx64"))]
pub use host::*;
pub use tourbillon_actors as actors;
pub use tourbillon_actors::TopicRef;
/// What the derives and macros write paths to.
#[doc(hidden)]
pub use tourbillon_device as __device;
pub use tourbillon_device::{
    Actor, ActorRef, Addressee, Answered, Answers, AskError, BlockIter, BlockRef, BlockView, Child, ChildEvent,
    ChildEvents, ChildOrder, ChildOrders, Context, ErrorOf, Handler, Happened, HostActor, MapIter, Message, NoError,
    NotSent, Notice, ParentOrder, PoolError, PoolMap, PoolSet, PoolVec, Refusal, ReplyOf, Subscriber, VecIter, Verdict,
    Watch, actor, host_actor, system,
};
// The traits, and the derives of the same names as crates that depend on this one alone need them.
pub use tourbillon_derive::{Plain, State};
pub use tourbillon_device::plain::{Plain, State};
pub use tourbillon_shared::error::FailureCode;

/// The kernels that the build script of this package compiled ([`SystemImage::with_ptx`]); none where it found no device
/// toolchain, and then it said so.
///
/// `Mine::image().with_ptx(tourbillon::built_ptx!())`, in a package whose `build.rs` calls `tourbillon_build::system`.
#[cfg(not(target_arch = "nvptx64"))]
#[macro_export]
macro_rules! built_ptx {
    () => {
        include!(concat!(env!("OUT_DIR"), "/tourbillon_ptx.rs"))
    };
}
