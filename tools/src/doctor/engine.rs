//! Which engine this machine gets: found out by building one and calling an actor.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tourbillon::Engine;
use tourbillon::actors::echo::Ping16;

use crate::environment::geometry_text;
use crate::latency::human_bytes;

/// How long building and calling may take: the first compilation of a kernel by the driver takes seconds.
const TRY_TIME_MAX: Duration = Duration::from_secs(60);
/// The key that is called.
const KEY: u64 = 1;

/// A part of an engine's memory.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Part {
    name: String,
    bytes: u64,
}

/// What came of building the default engine.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Verdict {
    /// `cuda` or `cpu`.
    backend: Option<String>,
    device: Option<String>,
    /// Why this backend and no other.
    because: Option<String>,
    geometry: Option<String>,
    /// Time to build the engine, milliseconds.
    build_ms: Option<u64>,
    /// Where its memory goes.
    memory: Vec<Part>,
    memory_bytes: u64,
    /// Whether an actor answered.
    answers: bool,
    /// Why there is no engine.
    pub(super) error: Option<String>,
}

impl Verdict {
    /// Builds an engine with the default options, calls an actor, and stops the engine.
    pub(super) fn of_default_engine() -> Self {
        let (sender, receiver) = mpsc::channel();
        // In a thread of its own: a driver that hangs must not hang the doctor.
        let spawned = std::thread::Builder::new().name("engine".into()).spawn(move || {
            // The receiver may have given up; then nobody wants the result.
            let _ = sender.send(Self::try_engine());
        });
        let found = match spawned {
            Ok(_) => receiver.recv_timeout(TRY_TIME_MAX).map_err(|error| match error {
                RecvTimeoutError::Timeout => format!("it was not built and called within {TRY_TIME_MAX:?}"),
                RecvTimeoutError::Disconnected => "building it panicked".to_owned(),
            }),
            Err(error) => Err(error.to_string()),
        };
        found.unwrap_or_else(|error| Self { error: Some(error), ..Self::default() })
    }

    fn try_engine() -> Self {
        let begin = Instant::now();
        let engine = match Engine::builder().build() {
            Ok(engine) => engine,
            Err(error) => return Self { error: Some(error.to_string()), ..Self::default() },
        };
        let build_ms = begin.elapsed().as_millis() as u64;
        let memory: Vec<Part> =
            engine.memory_sum().into_iter().map(|(name, bytes)| Part { name: name.to_string(), bytes }).collect();
        let because = match engine.fallback() {
            Some(error) => format!("no GPU can be used: {error}"),
            None => "the first choice, and it works".to_owned(),
        };
        let ping = Ping16 { words: [1, 2, 3, 4] };
        let answer = engine.client().map_err(|error| error.to_string()).and_then(|mut client| {
            client.set_timeout(Some(TRY_TIME_MAX / 2));
            client.call(KEY, ping).map_err(|error| error.to_string())
        });
        let error = match &answer {
            Ok(pong) if *pong == ping => None,
            Ok(_) => Some("an actor answered something else than it was asked to".to_owned()),
            Err(error) => Some(error.clone()),
        };
        Self {
            backend: Some(engine.backend().to_string()),
            device: Some(engine.device_name().to_owned()),
            because: Some(because),
            geometry: Some(geometry_text(&engine.geometry())),
            build_ms: Some(build_ms),
            memory_bytes: memory.iter().map(|part| part.bytes).sum(),
            memory,
            answers: error.is_none(),
            error,
        }
    }

    /// The verdict for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let (Some(backend), Some(device)) = (&self.backend, &self.device) else {
            return vec![format!("engine      none: {}", self.error.as_deref().unwrap_or("unknown"))];
        };
        let mut lines = vec![
            format!("engine      {backend} on {device}: {}", self.because.as_deref().unwrap_or_default()),
            format!(
                "            {}; built in {} ms; a call to an actor {}",
                self.geometry.as_deref().unwrap_or_default(),
                self.build_ms.unwrap_or_default(),
                if self.answers { "was answered" } else { "FAILED" }
            ),
        ];
        lines.push(format!("            memory {}:", human_bytes(self.memory_bytes)));
        lines.extend(
            self.memory.iter().map(|part| format!("              {:<28} {}", part.name, human_bytes(part.bytes))),
        );
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_engine_of_this_machine_answers() {
        let verdict = Verdict::of_default_engine();
        assert_eq!(verdict.error, None);
        assert!(verdict.answers && verdict.memory_bytes > 0);
        assert!(verdict.lines().len() > 2);
    }
}
