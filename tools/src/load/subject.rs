//! What was measured on what.

use serde::Serialize;

use super::options::{ActorChoice, LoadOptions};
use super::run::Outcome;
use crate::environment::Environment;

/// The parameters of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Parameters {
    /// The actor.
    pub actor: ActorChoice,
    /// Keys.
    pub keys: u64,
    /// Distribution over the keys.
    pub distribution: String,
    /// Payload bytes of a request.
    pub payload_bytes: usize,
    /// Clients.
    pub clients: u32,
    /// Messages that each client has in flight; none in an open loop.
    pub outstanding: Option<u64>,
    /// Time that was measured, without warm-up, seconds; of all runs together.
    pub measured_s: f64,
    /// Time in front of it, seconds, of each run.
    pub warmup_s: f64,
    /// How many messages gates took at once.
    pub processing: String,
    /// Seed.
    pub seed: u64,
    /// The engine's geometry.
    pub geometry: String,
    /// What the clock resolves, nanoseconds; none in a closed loop.
    pub clock_resolution_ns: Option<u64>,
}

impl Parameters {
    /// The parameters of runs that found `outcomes`, which are of one kind.
    pub fn of(options: &LoadOptions, clients: u32, outcomes: &[&Outcome], clock_resolution_ns: Option<u64>) -> Self {
        let first = outcomes.first();
        Self {
            actor: options.actor,
            keys: options.keys,
            distribution: options.distribution.to_string(),
            payload_bytes: super::payload_bytes(options),
            clients,
            outstanding: clock_resolution_ns.is_none().then_some(options.outstanding),
            measured_s: outcomes.iter().map(|outcome| outcome.measured.as_secs_f64()).sum(),
            warmup_s: first.map_or(0.0, |outcome| outcome.warmup.as_secs_f64()),
            processing: options.processing.to_string(),
            seed: options.seed,
            geometry: first.map_or_else(String::new, |outcome| outcome.geometry.clone()),
            clock_resolution_ns,
        }
    }

    fn line(&self) -> String {
        let pace = self.outstanding.map_or_else(String::new, |outstanding| format!(" with {outstanding} in flight"));
        format!(
            "load         {:?}, {} keys ({}), {} client(s){pace}, payload {} B, {}",
            self.actor, self.keys, self.distribution, self.clients, self.payload_bytes, self.processing
        )
    }
}

/// What was measured on what.
#[derive(Clone, Debug, Serialize)]
pub struct Subject {
    /// `cuda` or `cpu`.
    pub backend: String,
    /// Name of the device.
    pub device: String,
    /// Why the backend is not the one preferred.
    pub fallback: Option<String>,
    /// Parameters.
    pub parameters: Parameters,
    /// Machine and program.
    pub environment: Environment,
}

impl Subject {
    /// The subject of runs of one kind that found `outcomes`.
    pub fn of(outcomes: &[&Outcome], parameters: Parameters, environment: Environment) -> Self {
        let first = outcomes.first();
        Self {
            backend: first.map_or_else(String::new, |outcome| outcome.backend.to_string()),
            device: first.map_or_else(String::new, |outcome| outcome.device.clone()),
            fallback: first.and_then(|outcome| outcome.fallback.clone()),
            parameters,
            environment,
        }
    }

    /// The subject of no run: for looking at the names of its figures.
    pub fn template(options: &LoadOptions, is_open: bool) -> Self {
        let parameters = Parameters::of(options, 0, &[], is_open.then_some(0));
        Self::of(&[], parameters, Environment::gather(false, ""))
    }

    /// The head of a report.
    pub(super) fn lines(&self) -> Vec<String> {
        let (e, parameters) = (&self.environment, &self.parameters);
        let mut lines = vec![format!("backend      {} on {}", self.backend, self.device)];
        if let Some(why) = &self.fallback {
            lines.push(format!("             no GPU: {why}"));
        }
        if let Some(driver) = &e.driver {
            let link = e.link.as_deref().unwrap_or("link unknown");
            lines.push(format!("driver       {driver}, CUDA {}, {link}", e.cuda.as_deref().unwrap_or("unknown")));
        }
        lines.push(format!("machine      {}, {} cores, {}", e.cpu, e.cores, e.system));
        lines.push(format!("engine       {}", parameters.geometry));
        lines.push(format!("program      {} {}, commit {}", e.version, e.profile, e.commit));
        lines.push(parameters.line());
        lines.push(String::new());
        lines
    }

    /// The title of a picture.
    pub(super) fn title(&self) -> String {
        let parameters = &self.parameters;
        format!("{}: {:?}, {} keys, {} client(s)", self.device, parameters.actor, parameters.keys, parameters.clients)
    }
}
