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
//! | module | what it holds |
//! | --- | --- |
//! | [`engine`] | the engine and its lifecycle |
//! | [`config`] | what an engine is told, checked before anything starts |
//! | [`client`], [`pipeline`] | typed messages through a lane |
//! | `gateway` | the engine for async code; with the feature `async` |
//! | [`outbox`] | what actors send without being asked |
//! | [`wait`] | how a client waits |
//! | [`backpressure`], [`staging`] | what happens when a lane is full |
//! | [`error`], [`call_error`] | what can go wrong |
//! | [`telemetry`] | the telemetry pages of running engines, for any process |
//! | [`lane`], [`shared_memory`] | what crosses the boundary of a process |

pub mod backpressure;
pub mod call_error;
pub mod client;
pub mod config;
pub mod engine;
pub mod error;
#[cfg(feature = "async")]
pub mod gateway;
pub mod lane;
pub mod outbox;
pub mod pipeline;
pub mod shared_memory;
pub mod staging;
pub mod telemetry;
pub mod wait;

mod arena;
mod backend;
mod clock;
mod control;
mod extents;
mod inspect;
mod lane_end;
mod lane_table;
mod large;
mod memory;
mod monitor;
mod port;
mod ptx;
mod shared;
mod status;

pub use tourbillon_actors as actors;
pub use tourbillon_device::{
    Actor, Context, ErrorOf, Handler, Kind, Message, NoError, Notice, PtxText, ReplyOf, Subscriber, SystemImage, actor,
    system,
};
pub use tourbillon_shared as abi;
pub use tourbillon_shared::control::Mode;
pub use tourbillon_shared::geometry::EntryHeader;
pub use tourbillon_shared::telemetry::{Counter, TelemetryPage};

pub use backend::Copies;
pub use backend::cuda::probe::{ComputeMode, DeviceInfo, DriverInfo, probe_devices};
pub use backpressure::{Backpressure, StagingCounts};
pub use call_error::{CallError, SendError};
pub use client::Client;
pub use config::{Backend, BackendKind, DeviceSelector, EngineBuilder, GpuGeometry};
pub use engine::{DrainReport, Engine, LaneRemainder};
pub use error::EngineError;
#[cfg(feature = "async")]
pub use gateway::{Ask, Gateway, GatewayBuilder, GatewayCounts, GatewayUsage, KeyedMessage, Tell};
pub use large::{LargePipeline, LargeReply};
#[cfg(feature = "async")]
pub use outbox::OutboxStream;
pub use outbox::{Outbox, OutboxCounts, OutboxError, OutboxPolicy, Received};
pub use pipeline::Pipeline;
pub use port::ClientCounts;
pub use ptx::shipped_image;
pub use shared::{DROP_TIME_MAX, EXIT_TIME_MAX, TRANSITION_TIME_MAX};
pub use telemetry::{RunningEngine, running_engines};
pub use wait::WaitStrategy;
