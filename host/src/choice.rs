//! Which machine an engine runs on.

use std::fmt;
use std::str::FromStr;

use crate::error::EngineError;

/// Which machine runs the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// A GPU if there is one that can be used, else CPU threads; [`Engine::fallback`](crate::Engine::fallback) then says why.
    #[default]
    Auto,
    /// A GPU or an error.
    Cuda,
    /// CPU threads.
    Cpu,
    /// Simulated warps on one thread, for tests.
    #[cfg(feature = "simt")]
    Simt {
        /// Lanes of a warp: 4 or 32.
        lanes: u32,
        /// Chooses the order in which lanes run.
        seed: u64,
        /// Whether stores become visible late and in any order.
        hostile_bus: bool,
    },
}

#[cfg(feature = "simt")]
const BACKENDS: &str = "auto, cuda, cpu, simt[:LANES[:SEED[:hostile]]]";
#[cfg(not(feature = "simt"))]
const BACKENDS: &str = "auto, cuda, cpu";

impl FromStr for Backend {
    type Err = EngineError;

    fn from_str(name: &str) -> Result<Self, EngineError> {
        let unknown = || EngineError::NoSuchBackend { name: name.to_owned(), known: BACKENDS };
        match name {
            "auto" => Ok(Self::Auto),
            "cuda" => Ok(Self::Cuda),
            "cpu" => Ok(Self::Cpu),
            #[cfg(feature = "simt")]
            _ => {
                let mut parts = name.split(':');
                if parts.next() != Some("simt") {
                    return Err(unknown());
                }
                let lanes = parts.next().map_or(Ok(4), str::parse).map_err(|_| unknown())?;
                let seed = parts.next().map_or(Ok(1), str::parse).map_err(|_| unknown())?;
                let hostile_bus = match parts.next() {
                    None => false,
                    Some("hostile") => true,
                    Some(_) => return Err(unknown()),
                };
                Ok(Self::Simt { lanes, seed, hostile_bus })
            }
            #[cfg(not(feature = "simt"))]
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cuda => f.write_str("cuda"),
            Self::Cpu => f.write_str("cpu"),
            #[cfg(feature = "simt")]
            Self::Simt { lanes, seed, hostile_bus } => {
                write!(f, "simt:{lanes}:{seed}{}", if *hostile_bus { ":hostile" } else { "" })
            }
        }
    }
}

/// What an engine runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackendKind {
    /// A GPU.
    Cuda,
    /// CPU threads.
    Cpu,
    /// Simulated warps.
    Simt,
}

impl BackendKind {
    /// The number in [`TelemetryHost::backend`](tourbillon_shared::telemetry::TelemetryHost).
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::Cuda => 1,
            Self::Cpu => 2,
            Self::Simt => 3,
        }
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cuda => "cuda",
            Self::Cpu => "cpu",
            Self::Simt => "simt",
        })
    }
}

/// Which GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceSelector {
    /// By the driver's index.
    Index(u32),
    /// By UUID: 32 hexadecimal digits, with or without `GPU-` and hyphens.
    Uuid(String),
}

impl fmt::Display for DeviceSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "{index}"),
            Self::Uuid(uuid) => f.write_str(uuid),
        }
    }
}
