//! How serving host actors can fail.

use crate::error::EngineError;

/// Why host actors are not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostActorsError {
    /// Somebody serves the host actors of this engine already.
    #[error(
        "the host actors of this engine are served already; register all kinds in one place, or drop the other handle first"
    )]
    Served,
    /// A kind was registered twice.
    #[error("the kind `{name}` is registered twice; register each once")]
    Twice {
        /// Name of the kind.
        name: &'static str,
    },
    /// The engine's system has no such kind.
    #[error("the system `{system}` has no kind {kind} (`{name}`); add it to the list of `system!`")]
    NoSuchKind {
        /// Name of the system.
        system: &'static str,
        /// Number of the kind.
        kind: u16,
        /// Name of the kind.
        name: &'static str,
    },
    /// The engine cannot: no lane is free, it has no outboxes, it stopped, a figure is out of its bounds.
    #[error(transparent)]
    Engine(#[from] EngineError),
}
