//! What a sweep found, as JSON and for people.

use serde::Serialize;

use super::check::Checked;
use super::figures::Figures;
use super::lateness::Lateness;
use super::options::LoadOptions;
use super::plot;
use super::report::{Parameters, counts_line, head};
use super::run::Outcome;
use super::sweep::{EndedBy, Found, P99_MULTIPLE, Point, TOLERANCE};
use crate::environment::Environment;
use crate::latency::{Percentiles, human_ns, human_rate};

/// The result of a sweep. Counts are those of all steps, rate and latencies those of the knee.
#[derive(Clone, Debug, Serialize)]
pub struct SweepReport {
    /// `cuda` or `cpu`.
    pub backend: String,
    /// Name of the device.
    pub device: String,
    /// `sweep`.
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
    /// The knee: the highest rate that was sustained. This and the following are nothing when there is none.
    pub rate_intended: Option<f64>,
    /// Right replies a second at the knee.
    pub rate_achieved: Option<f64>,
    /// Service times at the knee, nanoseconds.
    pub service_ns: Option<Percentiles>,
    /// Response times at the knee, nanoseconds.
    pub response_ns: Option<Percentiles>,
    /// Messages that were sent late for want of room at the knee.
    pub stalls: Option<Lateness>,
    /// A rate is reached when it is short of the intended one by no more than this share.
    pub rate_tolerance: f64,
    /// A rate is sustained while 99 % of response times stay within this many times the unloaded ones.
    pub p99_multiple: f64,
    /// 99 % of response times where they were the least, nanoseconds.
    pub unloaded_response_p99_ns: u64,
    /// Why the sweep ended.
    pub ended_by: EndedBy,
    /// All steps, in the order in which they were measured.
    pub points: Vec<Point>,
    /// Why the backend is not the one preferred.
    pub fallback: Option<String>,
    /// The first failure, or why a client ended early.
    pub first_failure: Option<String>,
    /// What came of `--fail-if`.
    pub checks: Vec<Checked>,
    /// Parameters.
    pub parameters: Parameters,
    /// Machine and program.
    pub environment: Environment,
}

impl SweepReport {
    /// The report on a sweep whose steps found `outcomes`.
    pub fn of(found: &Found, outcomes: &[&Outcome], parameters: Parameters, environment: Environment) -> Self {
        let sum = |count: fn(&Figures) -> u64| found.points.iter().map(|point| count(&point.figures)).sum();
        let knee = found.knee.and_then(|knee| found.points.get(knee)).map(|point| &point.figures);
        let first = outcomes.first();
        let failure = |outcome: &&Outcome| outcome.tally.first_failure.clone().or(outcome.tally.ended_by.clone());
        Self {
            backend: first.map_or_else(String::new, |outcome| outcome.backend.to_string()),
            device: first.map_or_else(String::new, |outcome| outcome.device.clone()),
            mode: "sweep",
            sent: sum(|figures| figures.sent),
            received: sum(|figures| figures.received),
            lost: sum(|figures| figures.lost),
            duplicated: sum(|figures| figures.duplicated),
            out_of_order: sum(|figures| figures.out_of_order),
            failed: sum(|figures| figures.failed),
            rate_intended: knee.and_then(|figures| figures.rate_intended),
            rate_achieved: knee.map(|figures| figures.rate_achieved),
            service_ns: knee.map(|figures| figures.service_ns),
            response_ns: knee.and_then(|figures| figures.response_ns),
            stalls: knee.and_then(|figures| figures.stalls),
            rate_tolerance: TOLERANCE,
            p99_multiple: P99_MULTIPLE,
            unloaded_response_p99_ns: found.unloaded_p99_ns,
            ended_by: found.ended_by,
            points: found.points.clone(),
            fallback: first.and_then(|outcome| outcome.fallback.clone()),
            first_failure: outcomes.iter().find_map(failure),
            checks: Vec::new(),
            parameters,
            environment,
        }
    }

    /// A report in which nothing is missing that one with a knee has: for looking at the names of its figures.
    pub fn template(options: &LoadOptions) -> Self {
        let points = vec![Point { is_sustained: true, figures: Figures::template(true) }];
        let found = Found { points, knee: Some(0), unloaded_p99_ns: 0, ended_by: EndedBy::Knee };
        Self::of(&found, &[], Parameters::of(options, 0, &[], Some(0)), Environment::gather(false, ""))
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let mut lines =
            head(&self.backend, &self.device, self.fallback.as_deref(), &self.environment, &self.parameters);
        lines.push(format!(
            "{:>12} {:>12} {:>11} {:>11} {:>11} {:>11} {:>10} {:>10}",
            "intended", "achieved", "resp. p50", "resp. p99", "resp. max", "serv. p99", "stalls", "unsent"
        ));
        for point in &self.points {
            let figures = &point.figures;
            let (response, service) = (figures.response_ns.unwrap_or_default(), figures.service_ns);
            lines.push(format!(
                "{:>12} {:>12} {:>11} {:>11} {:>11} {:>11} {:>10} {:>10}{}",
                human_rate(point.rate()),
                human_rate(figures.rate_achieved),
                human_ns(response.p50),
                human_ns(response.p99),
                human_ns(response.max),
                human_ns(service.p99),
                figures.stalls.map_or(0, |stalls| stalls.count),
                figures.unsent,
                if point.is_sustained { "" } else { "  not sustained" }
            ));
        }
        lines.push(String::new());
        lines.push("response time, 99 %, by rate (logarithmic)".into());
        lines.extend(plot::sweep(&self.points, self.rate_intended));
        lines.push(String::new());
        let all = Figures {
            sent: self.sent,
            received: self.received,
            lost: self.lost,
            duplicated: self.duplicated,
            out_of_order: self.out_of_order,
            failed: self.failed,
            ..Figures::default()
        };
        lines.push(counts_line(&all));
        lines.extend(self.first_failure.as_ref().map(|failure| format!("first failure: {failure}")));
        lines.push(self.conclusion());
        lines.push(format!(
            "sustained: {:.0} % of the rate or more, 99 % of response times within {} times the {} of the best step",
            (1.0 - self.rate_tolerance) * 100.0,
            self.p99_multiple,
            human_ns(self.unloaded_response_p99_ns)
        ));
        lines.join("\n")
    }

    fn conclusion(&self) -> String {
        let why = match self.ended_by {
            EndedBy::Knee => "the next rate was not sustained",
            EndedBy::FirstRate => "not even the first rate was sustained; begin lower with --rate",
            EndedBy::Clock => "the highest that the clock resolves; add --clients for more",
            EndedBy::Steps => "at least: there were no more steps",
            EndedBy::Time => "at least: the time was over; choose a longer --duration",
            EndedBy::Interrupt => "so far: interrupted",
        };
        self.rate_intended.map_or_else(|| format!("no knee: {why}"), |rate| format!("knee {}: {why}", human_rate(rate)))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        options: LoadOptions,
    }

    #[test]
    fn figures_are_those_of_the_knee_and_counts_of_all_steps() {
        let template = SweepReport::template(&Program::parse_from(["load", "--sweep"]).options);
        let point = |rate, lost| {
            let figures = Figures { sent: 10, lost, rate_intended: Some(rate), ..Figures::template(true) };
            Point { is_sustained: lost == 0, figures }
        };
        let points = vec![point(1_000.0, 0), point(2_000.0, 0), point(4_000.0, 3)];
        let found = Found { points, knee: Some(1), unloaded_p99_ns: 5_000, ended_by: EndedBy::Knee };
        let report = SweepReport::of(&found, &[], template.parameters.clone(), template.environment.clone());
        assert_eq!((report.sent, report.lost, report.rate_intended), (30, 3, Some(2_000.0)));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["mode"], &json["ended_by"]), (&"sweep".into(), &"knee".into()));
        assert_eq!(json["points"][2]["rate_intended"], 4_000.0);
        assert_eq!(json["points"][2]["is_sustained"], false);
        let text = report.text();
        assert!(text.contains("knee 2.0 k/s") && text.contains("not sustained"), "{text}");

        let none = Found { knee: None, ended_by: EndedBy::FirstRate, ..found };
        let report = SweepReport::of(&none, &[], report.parameters, report.environment);
        assert!(report.rate_achieved.is_none() && report.text().contains("no knee"), "{}", report.text());
    }
}
