//! What a run found, as JSON and for people.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::environment::Environment;
use crate::latency::{Percentiles, human_count, human_ns, human_rate};

/// The parameters of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Parameters {
    /// The actor.
    pub actor: super::options::ActorChoice,
    /// Keys.
    pub keys: u64,
    /// Distribution over the keys.
    pub distribution: String,
    /// Payload bytes of a request.
    pub payload_bytes: usize,
    /// Clients.
    pub clients: u32,
    /// Messages that each client has in flight.
    pub outstanding: u64,
    /// Time that was measured, without warm-up, seconds.
    pub measured_s: f64,
    /// Time in front of it, seconds.
    pub warmup_s: f64,
    /// Seed.
    pub seed: u64,
    /// The engine's geometry.
    pub geometry: String,
}

/// The result of a run. Counts are those of the whole run; rate and latencies those of the measured time.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `cuda` or `cpu`.
    pub backend: String,
    /// Name of the device.
    pub device: String,
    /// `closed`: the next message waits for a reply.
    pub mode: &'static str,
    /// Messages sent.
    pub sent: u64,
    /// Replies with the right content.
    pub received: u64,
    /// Messages without an answer or without an effect.
    pub lost: u64,
    /// Executions or answers beyond the first.
    pub duplicated: u64,
    /// Messages executed after a later one.
    pub out_of_order: u64,
    /// Replies that were failures or had wrong content.
    pub failed: u64,
    /// Right replies a second.
    pub rate_achieved: f64,
    /// From push to pop of a message, nanoseconds.
    pub service_ns: Percentiles,
    /// Between two readings of the clock on a thread that does nothing else, nanoseconds.
    pub control_thread_ns: Percentiles,
    /// Counters whose final value was compared with what their clients were told.
    pub audited_keys: u64,
    /// Why the backend is not the one preferred.
    pub fallback: Option<String>,
    /// The first failure, or why a client ended early.
    pub first_failure: Option<String>,
    /// Whether the run was ended by the user.
    pub interrupted: bool,
    /// Parameters.
    pub parameters: Parameters,
    /// Machine and program.
    pub environment: Environment,
}

impl Report {
    /// Whether every message was answered once, in order, with the right content.
    pub fn is_faultless(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.out_of_order == 0 && self.failed == 0
    }

    /// The report for people; `latency` is the histogram behind `service_ns`.
    pub fn text(&self, latency: &Histogram<u64>) -> String {
        let (p, e) = (&self.parameters, &self.environment);
        let mut lines = Vec::new();
        lines.push(format!("backend      {} on {}", self.backend, self.device));
        if let Some(why) = &self.fallback {
            lines.push(format!("             no GPU: {why}"));
        }
        if let Some(driver) = &e.driver {
            let link = e.link.as_deref().unwrap_or("link unknown");
            lines.push(format!("driver       {driver}, CUDA {}, {link}", e.cuda.as_deref().unwrap_or("unknown")));
        }
        lines.push(format!("machine      {}, {} cores, {}", e.cpu, e.cores, e.system));
        lines.push(format!("engine       {}", p.geometry));
        lines.push(format!("program      {} {}, commit {}", e.version, e.profile, e.commit));
        lines.push(format!(
            "load         {:?}, {} keys ({}), {} client(s) with {} in flight, payload {} B",
            p.actor, p.keys, p.distribution, p.clients, p.outstanding, p.payload_bytes
        ));
        lines.push(String::new());
        lines.push(format!(
            "sent {}   received {}   lost {}   duplicated {}   out of order {}   failed {}",
            human_count(self.sent),
            human_count(self.received),
            self.lost,
            self.duplicated,
            self.out_of_order,
            self.failed
        ));
        if let Some(failure) = &self.first_failure {
            lines.push(format!("first failure: {failure}"));
        }
        if self.interrupted {
            lines.push("interrupted: these are the figures so far".into());
        }
        lines.push(format!("rate {} over {:.1} s", human_rate(self.rate_achieved), p.measured_s));
        lines.push(String::new());
        lines.push(percentile_line("latency", &self.service_ns));
        lines.push(percentile_line("clock only", &self.control_thread_ns));
        lines.push(String::new());
        lines.extend(bars(latency));
        lines.join("\n")
    }
}

fn percentile_line(name: &str, figures: &Percentiles) -> String {
    format!(
        "{name:<11}  p50 {}   p90 {}   p99 {}   p99.9 {}   p99.99 {}   max {}   mean {}",
        human_ns(figures.p50),
        human_ns(figures.p90),
        human_ns(figures.p99),
        human_ns(figures.p999),
        human_ns(figures.p9999),
        human_ns(figures.max),
        human_ns(figures.mean as u64)
    )
}

/// The histogram as one bar for each power of two.
fn bars(latency: &Histogram<u64>) -> Vec<String> {
    const WIDTH: f64 = 50.0;
    let mut counts = [0u64; u64::BITS as usize];
    for bucket in latency.iter_recorded() {
        counts[bucket.value_iterated_to().max(1).ilog2() as usize] += bucket.count_at_value();
    }
    let (Some(first), Some(last)) = (counts.iter().position(|&n| n > 0), counts.iter().rposition(|&n| n > 0)) else {
        return vec!["no samples in the measured time".into()];
    };
    let most = counts.iter().copied().max().unwrap_or(1) as f64;
    (first..=last)
        .map(|i| {
            // A bucket with any sample shows, however few they are.
            let length = (counts[i] as f64 / most * WIDTH).ceil() as usize;
            format!(
                "{:>10} .. {:<10} {:<50} {}",
                human_ns(1 << i),
                human_ns(2 << i),
                "#".repeat(length),
                human_count(counts[i])
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::new_histogram;

    fn report(latency: &Histogram<u64>) -> Report {
        Report {
            backend: "cpu".into(),
            device: "a CPU".into(),
            mode: "closed",
            sent: 12_345,
            received: 12_345,
            lost: 0,
            duplicated: 0,
            out_of_order: 0,
            failed: 0,
            rate_achieved: 1_000.0,
            service_ns: Percentiles::of(latency),
            control_thread_ns: Percentiles::default(),
            audited_keys: 5,
            fallback: None,
            first_failure: None,
            interrupted: false,
            parameters: Parameters {
                actor: super::super::options::ActorChoice::Counter,
                keys: 5,
                distribution: "uniform".into(),
                payload_bytes: 16,
                clients: 1,
                outstanding: 1,
                measured_s: 1.0,
                warmup_s: 0.1,
                seed: 1,
                geometry: "one".into(),
            },
            environment: Environment::gather(false, "a CPU"),
        }
    }

    #[test]
    fn the_json_has_the_keys_that_scripts_read() {
        let mut latency = new_histogram();
        (1..=100).for_each(|ns| latency.saturating_record(ns));
        let json = serde_json::to_value(report(&latency)).unwrap();
        for key in ["sent", "received", "lost", "duplicated", "out_of_order", "rate_achieved"] {
            assert!(json[key].is_number(), "{key}");
        }
        for key in ["backend", "device", "mode"] {
            assert!(json[key].is_string(), "{key}");
        }
        for key in ["p50", "p90", "p99", "p999", "max", "mean"] {
            assert!(json["service_ns"][key].as_f64().unwrap() > 0.0, "{key}");
        }
        assert!(json["environment"]["commit"].is_string());
    }

    #[test]
    fn the_text_shows_counts_and_bars() {
        let mut latency = new_histogram();
        latency.saturating_record_n(1_500, 90);
        latency.saturating_record_n(6_000, 10);
        let text = report(&latency).text(&latency);
        assert!(text.contains("sent 12,345   received 12,345   lost 0"), "{text}");
        assert_eq!(text.lines().filter(|line| line.contains(" .. ")).count(), 3, "{text}");
        assert!(report(&new_histogram()).text(&new_histogram()).contains("no samples"));
    }

    #[test]
    fn any_fault_is_a_fault() {
        let good = report(&new_histogram());
        assert!(good.is_faultless());
        assert!(!Report { lost: 1, ..good.clone() }.is_faultless());
        assert!(!Report { duplicated: 1, ..good.clone() }.is_faultless());
        assert!(!Report { out_of_order: 1, ..good.clone() }.is_faultless());
        assert!(!Report { failed: 1, ..good }.is_faultless());
    }
}
