//! What of this crate is for hosts: all but what actors are made of.
//!
//! A module of its own so that the crate can be compiled for a GPU as well, as a dependency of a crate of actors; its modules are
//! those of the crate.

pub mod backpressure;
pub mod call_error;
pub mod choice;
pub mod client;
pub mod config;
pub mod dead_letters;
pub mod engine;
pub mod error;
#[cfg(feature = "async")]
pub mod gateway;
pub mod host_actors;
pub mod keys;
pub mod lane;
pub mod options;
pub mod outbox;
pub mod pipeline;
pub mod processing;
pub mod registry;
pub mod shared_memory;
pub mod staging;
pub mod store;
pub mod telemetry;
pub mod topics;
pub mod wait;

pub(crate) mod arena;
pub(crate) mod backend;
pub(crate) mod broadcast;
pub(crate) mod clock;
pub(crate) mod control;
pub(crate) mod extents;
pub(crate) mod inspect;
pub(crate) mod lane_end;
pub(crate) mod lane_table;
pub(crate) mod large;
pub(crate) mod mailboxes;
pub(crate) mod memory;
pub(crate) mod monitor;
pub(crate) mod name_index;
pub(crate) mod pools;
pub(crate) mod port;
pub(crate) mod prepare;
pub(crate) mod priority;
pub(crate) mod ptx;
pub(crate) mod shared;
pub(crate) mod status;

pub use tourbillon_device::{AdoptError, Kind, PtxText, SystemImage};
pub use tourbillon_shared as abi;
pub use tourbillon_shared::control::Mode;
pub use tourbillon_shared::geometry::EntryHeader;
pub use tourbillon_shared::pattern::NameError;
pub use tourbillon_shared::telemetry::{Counter, TelemetryPage};

pub use backend::Copies;
pub use backend::cuda::probe::{ComputeMode, DeviceInfo, DriverInfo, probe_devices};
pub use backpressure::{Backpressure, StagingCounts};
pub use call_error::{CallError, SendError};
pub use choice::{Backend, BackendKind, DeviceSelector};
pub use client::Client;
pub use config::{EngineBuilder, GpuGeometry};
pub use dead_letters::DeadLetter;
pub use engine::{DrainReport, Engine, LaneRemainder};
pub use error::EngineError;
#[cfg(feature = "async")]
pub use gateway::{
    Ask, AskLarge, AskWith, Gateway, GatewayBuilder, GatewayCounts, GatewayUsage, KeyedMessage, Tell, TellLarge,
    TellWith,
};
pub use host_actors::{
    HostActorCounts, HostActors, HostActorsBuilder, HostActorsError, HostAskError, HostContext, HostHandlers,
};
pub use keys::{ActorKey, Key, KeyError, KeyName};
pub use large::{LargePipeline, LargeReply};
pub use mailboxes::{MailboxUsage, QuiesceError, Traffic};
pub use options::{Answer, Options};
#[cfg(feature = "async")]
pub use outbox::OutboxStream;
pub use outbox::{Outbox, OutboxCounts, OutboxError, OutboxPolicy, Received};
pub use pipeline::Pipeline;
pub use pools::PoolUsage;
pub use port::ClientCounts;
pub use processing::Processing;
pub use ptx::shipped_image;
pub use registry::{Registered, Registry, RegistryError};
pub use shared::{DROP_TIME_MAX, EXIT_TIME_MAX, TRANSITION_TIME_MAX};
pub use store::{Store, StoreCounts, StoreError, StoredActor};
pub use telemetry::{RunningEngine, running_engines};
#[cfg(feature = "async")]
pub use topics::SubscriptionStream;
pub use topics::{Publication, PublishError, Subscription, Topics, TopicsError};
pub use wait::WaitStrategy;
