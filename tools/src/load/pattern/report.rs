//! What the traffic was like, as JSON and for people.

use serde::Serialize;

use super::hops::{HopFigures, Hops, Step};
use super::traffic::{States, Traffic, Window};
use super::{Pattern, Wanted};
use crate::environment::Environment;
use crate::latency::{human_count, human_ns, human_rate};
use crate::load::check::Checked;
use crate::load::options::LoadOptions;

/// Width of the longest bar.
const BAR: usize = 40;

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct PatternParameters {
    /// Time that was measured, seconds; 0 when it was interrupted before.
    pub measured_s: f64,
    /// Time in front of it, seconds.
    pub warmup_s: f64,
    /// Slots of each shard's mailbox.
    pub mailbox_capacity: u32,
    /// Seed.
    pub seed: u64,
    /// The engine's geometry.
    pub geometry: String,
}

/// The mailbox of a shard, when all was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ShardFigures {
    /// Letters that its actors have sent.
    pub sent: u64,
    /// Letters that it has taken.
    pub received: u64,
    /// Slots that were put into its mailbox, ...
    pub slots_put: u64,
    /// ... and that it has taken: as many.
    pub slots_taken: u64,
    /// Letters of its actors that found a mailbox full, and waited.
    pub overflowed: u64,
    /// Letters of those that still wait: none.
    pub waiting: u64,
}

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct PatternReport {
    /// `pattern`.
    pub mode: &'static str,
    /// The pattern.
    pub pattern: Pattern,
    /// Couriers.
    pub keys: u32,
    /// Messages under way.
    pub in_flight: u64,
    /// Hops in the measured time, by the device's counter of letters.
    pub hops: u64,
    /// Hops a second; null when nothing was measured.
    pub hops_per_s: Option<f64>,
    /// How long hops took from the sending of a message to its handler, by the device's stamps, since the measured time began.
    pub hop_ns: HopFigures,
    /// Messages that came to couriers in the whole run, by their states.
    pub received: u64,
    /// Messages that ended, by the states.
    pub ended: u64,
    /// Messages that never ended.
    pub lost: u64,
    /// Messages that ended more than once.
    pub duplicated: u64,
    /// Messages that failed.
    pub failed: u64,
    /// Letters that all shards have sent.
    pub letters_sent: u64,
    /// Letters that all shards have taken: as many.
    pub letters_received: u64,
    /// Shards whose mailbox or overflow is not as empty as it was.
    pub shards_unsettled: u64,
    /// Letters that found a mailbox full, and waited in an overflow.
    pub overflowed: u64,
    /// Whether a courier counted more hops in a step than it can: then `hop_ns` lacks some.
    pub is_full: bool,
    /// What was wrong, the first of it.
    pub first_failure: Option<String>,
    /// Whether the run was ended by the user.
    pub interrupted: bool,
    /// What came of `--fail-if`.
    pub checks: Vec<Checked>,
    /// `cuda` or `cpu`.
    pub backend: String,
    /// Name of the device.
    pub device: String,
    /// Why the backend is not the one preferred.
    pub fallback: Option<String>,
    /// Parameters.
    pub parameters: PatternParameters,
    /// Machine and program.
    pub environment: Environment,
    /// The histogram of hops.
    pub steps: Vec<Step>,
    /// The mailboxes, by shard.
    pub shards: Vec<ShardFigures>,
}

/// How many of the messages `0 .. started` are missing among those that ended, and how many there are too many.
fn judge(started: u64, states: &States) -> (u64, u64) {
    let sum = (0..started).fold(0u64, u64::wrapping_add);
    let (lost, duplicated) = (started.saturating_sub(states.ended), states.ended.saturating_sub(started));
    // As many as there should be, but not the same ones.
    let is_other = states.ended == started && states.ended_digest != sum;
    if is_other { (1, 1) } else { (lost, duplicated) }
}

impl PatternReport {
    /// The report on a run.
    pub fn of(options: &LoadOptions, wanted: Wanted, traffic: &Traffic, environment: Environment) -> Self {
        let states = &traffic.states;
        let shards: Vec<ShardFigures> = traffic
            .mailboxes
            .iter()
            .map(|mailbox| ShardFigures {
                sent: mailbox.sent,
                received: mailbox.received,
                slots_put: mailbox.slots_put,
                slots_taken: mailbox.slots_taken,
                overflowed: mailbox.overflowed,
                waiting: mailbox.waiting,
            })
            .collect();
        let (lost, duplicated) = judge(traffic.started, states);
        let time = traffic.window.map_or(0.0, |window| window.time.as_secs_f64());
        let rate = |window: Window| window.hops as f64 / time.max(f64::MIN_POSITIVE);
        let unsettled = shards.iter().filter(|shard| shard.slots_put != shard.slots_taken || shard.waiting != 0);
        let warmup = options.warmup_time(options.run_time()).unwrap_or_default();
        Self {
            mode: "pattern",
            pattern: wanted.pattern,
            keys: wanted.keys,
            in_flight: traffic.started,
            hops: traffic.window.map_or(0, |window| window.hops),
            hops_per_s: traffic.window.map(rate),
            hop_ns: states.hops.figures(),
            received: states.received,
            ended: states.ended,
            lost,
            duplicated,
            failed: traffic.failed,
            letters_sent: shards.iter().map(|shard| shard.sent).sum(),
            letters_received: shards.iter().map(|shard| shard.received).sum(),
            shards_unsettled: unsettled.count() as u64,
            overflowed: shards.iter().map(|shard| shard.overflowed).sum(),
            is_full: states.is_full,
            first_failure: traffic.first_failure.clone(),
            interrupted: traffic.is_interrupted,
            checks: Vec::new(),
            backend: traffic.backend.to_string(),
            device: traffic.device.clone(),
            fallback: traffic.fallback.clone(),
            parameters: PatternParameters {
                measured_s: time,
                warmup_s: warmup.as_secs_f64(),
                mailbox_capacity: wanted.mailbox_capacity,
                seed: options.seed,
                geometry: traffic.geometry.clone(),
            },
            environment,
            steps: states.hops.steps().collect(),
            shards,
        }
    }

    /// A report in which nothing is missing: for looking at the names of its figures.
    pub fn template(options: &LoadOptions, wanted: Wanted) -> Self {
        let nothing = Traffic {
            backend: tourbillon::BackendKind::Cpu,
            device: String::new(),
            fallback: None,
            geometry: String::new(),
            started: 0,
            states: States::default(),
            window: Some(Window { hops: 0, time: std::time::Duration::ZERO }),
            mailboxes: Vec::new(),
            failed: 0,
            first_failure: None,
            is_interrupted: false,
        };
        let mut report = Self::of(options, wanted, &nothing, Environment::gather(false, ""));
        let ns = Some(0);
        report.hop_ns = HopFigures { p50: ns, p90: ns, p99: ns, p999: ns, ..Hops::default().figures() };
        report.steps.clear();
        report
    }

    /// What is wrong; nothing when nothing is.
    fn fault(&self) -> Option<String> {
        let is_faultless = self.lost == 0
            && self.duplicated == 0
            && self.failed == 0
            && self.letters_sent == self.letters_received
            && self.shards_unsettled == 0
            && self.first_failure.is_none();
        (!is_faultless).then(|| {
            format!(
                "lost {}, duplicated {}, failed {}, letters sent {} and received {}, shards that are not settled {}{}",
                self.lost,
                self.duplicated,
                self.failed,
                self.letters_sent,
                self.letters_received,
                self.shards_unsettled,
                self.first_failure.as_ref().map_or(String::new(), |why| format!(" ({why})"))
            )
        })
    }

    /// Says on standard error what is wrong; whether nothing is.
    pub fn conclude(&self) -> bool {
        let fault = self.fault();
        if let Some(fault) = &fault {
            eprintln!("FAULTY: {fault}");
        }
        for check in self.checks.iter().filter(|check| check.has_failed) {
            let value = check.value.map_or("nothing".to_owned(), |value| value.to_string());
            eprintln!("FAILED: --fail-if '{}': it is {value}", check.expression);
        }
        fault.is_none() && !self.checks.iter().any(|check| check.has_failed)
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let (e, parameters) = (&self.environment, &self.parameters);
        let mut lines = vec![format!("backend      {} on {}", self.backend, self.device)];
        if let Some(why) = &self.fallback {
            lines.push(format!("             no GPU: {why}"));
        }
        lines.push(format!("machine      {}, {} cores, {}", e.cpu, e.cores, e.system));
        lines.push(format!("engine       {}", parameters.geometry));
        lines.push(format!("program      {} {}, commit {}", e.version, e.profile, e.commit));
        let name = format!("{:?}", self.pattern).to_lowercase();
        lines.push(format!("pattern      {name}, {} couriers, {} messages under way", self.keys, self.in_flight));
        lines.push(String::new());
        if self.interrupted {
            lines.push("interrupted: these are the figures so far".into());
        }
        match self.hops_per_s {
            Some(rate) => lines.push(format!(
                "{} hops in {:.2} s: {}",
                human_count(self.hops),
                parameters.measured_s,
                human_rate(rate)
            )),
            None => lines.push("no rate: it ended within the warm-up".into()),
        }
        lines.push(match self.fault() {
            Some(fault) => fault,
            None => format!(
                "{} messages came to couriers in all; each of {} has ended once; {} letters waited in an overflow",
                human_count(self.received),
                human_count(self.ended),
                human_count(self.overflowed)
            ),
        });
        lines.push(String::new());
        let hop = &self.hop_ns;
        let at = |ns: Option<u64>| ns.map_or(format!("over {}", human_ns(hop.histogram_end)), human_ns);
        let percentiles = [("50 %", hop.p50), ("90 %", hop.p90), ("99 %", hop.p99), ("99.9 %", hop.p999)];
        if hop.count > 0 {
            let figures: Vec<_> = percentiles.map(|(name, ns)| format!("{name} {}", at(ns))).into();
            lines.push(format!("hop          {}, longest {} or more", figures.join(", "), human_ns(hop.max_at_least)));
        }
        if self.is_full {
            lines.push("             a courier counted as many hops in a step as it can: some are left out".into());
        }
        let most = self.steps.iter().map(|step| step.count).max().unwrap_or(0).max(1);
        for step in self.steps.iter().filter(|step| step.count > 0) {
            let bar = "#".repeat((step.count as u128 * BAR as u128).div_ceil(most.into()) as usize);
            let to = step.to_ns.map_or("and more".into(), |ns| format!("to {}", human_ns(ns)));
            lines.push(format!("{:>12} {to:<12} {bar:<BAR$} {}", human_ns(step.from_ns), human_count(step.count)));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_or_doubled_is_found() {
        let states = |ended, ended_digest| States { ended, ended_digest, ..States::default() };
        assert_eq!(judge(5, &states(5, 10)), (0, 0));
        assert_eq!(judge(5, &states(4, 6)), (1, 0));
        assert_eq!(judge(5, &states(7, 15)), (0, 2));
        // One lost and another twice.
        assert_eq!(judge(5, &states(5, 9)), (1, 1));
        assert_eq!(judge(0, &states(0, 0)), (0, 0));
    }

    #[test]
    fn the_report_says_what_is_wrong() {
        let options = LoadOptions::parsed(&["--pattern", "ring"]).unwrap();
        let wanted = Wanted::of(&options, Pattern::Ring).unwrap();
        let mut report = PatternReport::template(&options, wanted);
        assert_eq!(report.fault(), None);
        assert!(report.conclude() && report.text().contains("ring, 1024 couriers"));
        for spoil in [
            |report: &mut PatternReport| report.lost = 1,
            |report: &mut PatternReport| report.duplicated = 1,
            |report: &mut PatternReport| report.failed = 1,
            |report: &mut PatternReport| report.letters_sent = 1,
            |report: &mut PatternReport| report.shards_unsettled = 1,
            |report: &mut PatternReport| report.first_failure = Some("why".into()),
        ] {
            let mut spoilt = report.clone();
            spoil(&mut spoilt);
            assert!(spoilt.fault().is_some() && !spoilt.conclude(), "{spoilt:?}");
        }
        report.hops_per_s = None;
        assert!(report.text().contains("within the warm-up"));
    }
}
