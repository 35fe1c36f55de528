//! What can go wrong with an engine: one variant a cause, with its cure.

use std::time::Duration;

use tourbillon_shared::control::Mode;
use tourbillon_shared::geometry::GeometryError;
use tourbillon_shared::lane::LaneError;
use tourbillon_shared::position::ShapeError;

/// Why an engine could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The driver's library is not on this machine.
    #[error("no NVIDIA driver (libcuda cannot be loaded); install driver 550 or newer, or choose the cpu backend")]
    NoDriver,
    /// The driver cannot take the kernel's PTX.
    #[error(
        "the NVIDIA driver speaks CUDA {}.{}, needed is {}.{}; install driver 550 or newer, or choose the cpu backend",
        found / 1000, found % 1000 / 10, needed / 1000, needed % 1000 / 10
    )]
    DriverTooOld {
        /// What the driver has: 1000 x major + 10 x minor.
        found: u32,
        /// What is needed.
        needed: u32,
    },
    /// No device of that index or UUID.
    #[error("no GPU {selector}; there are {count} (see `tourbillon doctor`)")]
    NoSuchDevice {
        /// What was asked for.
        selector: String,
        /// How many devices the driver shows.
        count: u32,
    },
    /// The device is older than the kernel's PTX.
    #[error(
        "{name} has compute capability {}.{}, needed is {}.{}; choose a newer GPU or the cpu backend",
        found / 10, found % 10, needed / 10, needed % 10
    )]
    DeviceTooOld {
        /// Name of the device.
        name: String,
        /// What it has: 10 x major + minor.
        found: u32,
        /// What is needed.
        needed: u32,
    },
    /// The device has no cooperative launch, or not enough room for all blocks at once.
    #[error(
        "{blocks} blocks cannot be resident at once, at most {resident} can; choose fewer blocks or warps per block"
    )]
    NotResident {
        /// Blocks of the geometry.
        blocks: u32,
        /// Blocks that fit at once.
        resident: u32,
    },
    /// Another engine of this process runs on the device.
    #[error(
        "{device} already runs an engine of this process; share that one's clients, drop it first, or choose another device"
    )]
    DeviceBusy {
        /// Name of the device.
        device: String,
    },
    /// An engine of this process left a kernel running on the device.
    #[error(
        "{device} still runs a kernel of an earlier engine of this process, or was poisoned by it; end this process"
    )]
    DeviceUnusable {
        /// Name of the device.
        device: String,
    },
    /// A store for a system with an actor that has collections in the elements of a collection: those cannot go to a store.
    #[error(
        "the elements of {field} of {actor} have collections in them, which cannot go to a store; leave `store` out, or give each of \
         them an actor of its own"
    )]
    StoreWithNestedCollections {
        /// Name of the actor.
        actor: &'static str,
        /// The field of its state.
        field: &'static str,
    },
    /// A store for a system whose actors publish blocks: others hold references to what an actor that left could no longer take back.
    #[error(
        "actors of {system} publish blocks, so none of them can go to a store; leave `store` out, or `blocks: true`"
    )]
    StoreWithBlocks {
        /// Name of the system.
        system: &'static str,
    },
    /// The engine was built without a store.
    #[error("the engine has no store that actors could go to; build it with `store`")]
    NoStore,
    /// The engine would not fit into the device's memory.
    #[error(
        "the engine needs {} MiB of device memory, {} MiB are free; lower `actors_per_shard` or `shards`",
        needed.div_ceil(1 << 20), free >> 20
    )]
    TooLittleMemory {
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// The kernel's PTX was made from other sources than this program.
    #[error("the kernel's PTX is stale: its sources have changed since it was made; {cure}")]
    StalePtx {
        /// What to run.
        cure: &'static str,
    },
    /// The system has no kernel for GPUs.
    #[error("the system `{system}` has no PTX for this GPU; {cure}")]
    NoPtx {
        /// Name of the system.
        system: &'static str,
        /// What to run.
        cure: &'static str,
    },
    /// The driver refused the kernel's PTX.
    #[error("the driver could not compile the kernel's PTX: {log}")]
    BadPtx {
        /// What the driver's compiler says.
        log: String,
    },
    /// A ring's capacity is out of bounds.
    #[error(transparent)]
    RingCapacity(#[from] ShapeError),
    /// The capacity of outboxes is no power of two, or out of bounds.
    #[error("outboxes of {slots} slots do not exist; choose a power of two from 32 to 65,536, or 0 for none")]
    OutboxCapacity {
        /// What was asked for.
        slots: u32,
    },
    /// A shard's pool of this size does not exist.
    #[error("a pool of {bytes} bytes does not exist; choose {least} to {most}, or 0 for none")]
    PoolBytes {
        /// What was asked for.
        bytes: u64,
        /// Bytes of a pool of one page.
        least: u64,
        /// Bytes of the largest.
        most: u64,
    },
    /// A capacity is no power of two.
    #[error("{figure} is {slots}, which is no power of two; choose one such as 2048")]
    NotPowerOfTwo {
        /// Which.
        figure: &'static str,
        /// What was asked for, in slots.
        slots: u32,
    },
    /// A figure of the geometry is out of bounds.
    #[error("geometry: {0}")]
    Geometry(#[from] GeometryError),
    /// A figure that is no part of the geometry is out of bounds.
    #[error("{figure} is {value}; choose {least} to {most}")]
    OutOfBounds {
        /// What it is.
        figure: &'static str,
        /// What was asked for.
        value: u32,
        /// The least.
        least: u32,
        /// The most.
        most: u32,
    },
    /// All lanes are taken.
    #[error(
        "no free lane: {held} of {lanes} are held by clients, {waiting} wait for replies to clients that are gone or have an \
         outbox that is still open; drop a client or an outbox, or raise `lanes`"
    )]
    NoFreeLane {
        /// Lanes of the engine.
        lanes: u32,
        /// Lanes that clients hold.
        held: u32,
        /// Lanes whose client is gone while some of its requests are unanswered or its outbox is open.
        waiting: u32,
    },
    /// The engine was built without outboxes.
    #[error("the engine has no outboxes; raise `outbox_capacity` of its builder")]
    NoOutboxes,
    /// The client's outbox is open already.
    #[error("the outbox of lane {lane} is open already; use that one, or drop it first")]
    OutboxOpen {
        /// Number of the lane.
        lane: u32,
    },
    /// The device did not learn in time that an outbox was opened.
    #[error("the device did not learn of the outbox within {after:?}; the kernel is stuck (see `tourbillon top`)")]
    OutboxTimeout {
        /// How long was waited.
        after: Duration,
    },
    /// Memory that was offered as a lane is none.
    #[error("lane: {0}")]
    Lane(#[from] LaneError),
    /// The engine no longer accepts anything.
    #[error("the engine is stopped ({reason}); build a new one")]
    Stopped {
        /// Why.
        reason: String,
    },
    /// The lifecycle has no such step.
    #[error("an engine that is {from} cannot become {to}")]
    NoTransition {
        /// The mode it is in.
        from: Mode,
        /// The mode that was asked for.
        to: Mode,
    },
    /// Some warps did not obey a command in time.
    #[error("{lagging} of {warps} warps did not become {mode} within {after:?}; a handler still runs")]
    TransitionTimeout {
        /// The mode commanded, which still stands.
        mode: Mode,
        /// Warps that have not obeyed.
        lagging: u32,
        /// Warps of the engine.
        warps: u32,
        /// How long was waited.
        after: Duration,
    },
    /// The kernel runs and does not beat.
    #[error("the kernel did not beat within {after:?} of its launch")]
    Silent {
        /// How long was waited.
        after: Duration,
    },
    /// The kernel does not exit: a handler never returns.
    #[error("the kernel did not exit within {after:?}: a handler does not return; only ending this process ends it")]
    NeedsProcessExit {
        /// How long was waited.
        after: Duration,
    },
    /// The kernel ended by itself.
    #[error("the kernel failed: {0}")]
    KernelFailed(String),
    /// A driver call failed.
    #[error("{call} failed: {name} ({code})")]
    Cuda {
        /// The driver's function.
        call: &'static str,
        /// Its result.
        code: u32,
        /// The result's name.
        name: String,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// A backend's name is unknown.
    #[error("no backend `{name}`; there are {known}")]
    NoSuchBackend {
        /// What was given.
        name: String,
        /// The names there are.
        known: &'static str,
    },
    /// A way of taking messages has an unknown name.
    #[error(
        "no way of processing `{name}`; there are adaptive, continuous, batch and batch:WAITus, such as batch:20us"
    )]
    NoSuchProcessing {
        /// What was given.
        name: String,
    },
    /// A warp width that the simulation does not have.
    #[error("simulated warps of {lanes} lanes do not exist; choose 4 or 32")]
    SimulatedLanes {
        /// What was asked for.
        lanes: u32,
    },
    /// A kind that the engine's system does not have.
    #[error("the system `{system}` has no kind {kind} (`{name}`); add it to the list of `system!`")]
    NoSuchKind {
        /// Name of the system.
        system: &'static str,
        /// Number of the kind.
        kind: u16,
        /// Name of the kind.
        name: &'static str,
    },
    /// What stands in device memory contradicts itself.
    #[error("device memory is damaged: {what}")]
    Damaged {
        /// What was found.
        what: &'static str,
    },
}

impl EngineError {
    /// Whether a figure is in its bounds.
    pub(crate) fn check_bounds(figure: &'static str, value: u32, least: u32, most: u32) -> Result<(), Self> {
        if (least..=most).contains(&value) { Ok(()) } else { Err(Self::OutOfBounds { figure, value, least, most }) }
    }

    /// Whether the fault lies in what the builder was told rather than in a device.
    pub(crate) fn is_of_configuration(&self) -> bool {
        matches!(
            self,
            Self::RingCapacity(_)
                | Self::OutboxCapacity { .. }
                | Self::PoolBytes { .. }
                | Self::NotPowerOfTwo { .. }
                | Self::Geometry(_)
                | Self::SimulatedLanes { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_cause_and_cure() {
        let cases = [
            (EngineError::NoDriver, ["no NVIDIA driver", "choose the cpu backend"]),
            (EngineError::DriverTooOld { found: 11080, needed: 12040 }, ["CUDA 11.8, needed is 12.4", "driver 550"]),
            (EngineError::DeviceTooOld { name: "T4".into(), found: 75, needed: 80 }, ["7.5, needed is 8.0", "choose"]),
            (EngineError::TooLittleMemory { needed: 3 << 20, free: 2 << 20 }, ["3 MiB", "2 MiB are free; lower"]),
            (EngineError::StalePtx { cure: "run it" }, ["stale", "run it"]),
            (EngineError::NoFreeLane { lanes: 16, held: 15, waiting: 1 }, ["15 of 16", "raise `lanes`"]),
            (
                EngineError::OutOfBounds { figure: "the bound", value: 0, least: 1, most: 9 },
                ["the bound is 0", "1 to 9"],
            ),
            (EngineError::NeedsProcessExit { after: Duration::from_secs(1) }, ["1s", "ending this process"]),
        ];
        for (error, parts) in cases {
            let text = error.to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
    }
}
