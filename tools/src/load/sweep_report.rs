//! What a sweep found, as JSON and for people.

use serde::Serialize;

use super::check::Checked;
use super::figures::{Counts, Figures};
use super::lateness::Lateness;
use super::options::LoadOptions;
use super::plot;
use super::report::counts_line;
use super::run::Outcome;
use super::subject::Subject;
use super::sweep::{EndedBy, Found, P99_MULTIPLE, Point, TOLERANCE};
use crate::latency::{Percentiles, human_ns, human_rate};

/// The result of a sweep. Counts are those of all steps, rate and latencies those of the knee.
#[derive(Clone, Debug, Serialize)]
pub struct SweepReport {
    /// `sweep`.
    pub mode: &'static str,
    /// What became of the messages.
    #[serde(flatten)]
    pub counts: Counts,
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
    /// The first failure, or why a client ended early.
    pub first_failure: Option<String>,
    /// What came of `--fail-if`.
    pub checks: Vec<Checked>,
    /// What was measured on what.
    #[serde(flatten)]
    pub subject: Subject,
}

impl SweepReport {
    /// The report on a sweep whose steps found `outcomes`.
    pub fn of(found: &Found, outcomes: &[&Outcome], subject: Subject) -> Self {
        let knee = found.knee.and_then(|knee| found.points.get(knee)).map(|point| &point.figures);
        Self {
            mode: "sweep",
            counts: found.points.iter().map(|point| point.figures.counts).sum(),
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
            first_failure: outcomes.iter().find_map(|outcome| outcome.tally.failure()),
            checks: Vec::new(),
            subject,
        }
    }

    /// A report in which nothing is missing that one with a knee has: for looking at the names of its figures.
    pub fn template(options: &LoadOptions) -> Self {
        let points = vec![Point { is_sustained: true, figures: Figures::template(true) }];
        let found = Found { points, knee: Some(0), unloaded_p99_ns: 0, ended_by: EndedBy::Knee };
        Self::of(&found, &[], Subject::template(options, true))
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let mut lines = self.subject.lines();
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
        lines.push(counts_line(&self.counts));
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
    use super::*;
    use crate::load::judge::Faults;

    #[test]
    fn figures_are_those_of_the_knee_and_counts_of_all_steps() {
        let template = SweepReport::template(&LoadOptions::parsed(&["--sweep"]).unwrap());
        let point = |rate, lost| {
            let figures = Figures {
                counts: Counts { sent: 10, faults: Faults { lost, ..Faults::default() }, ..Counts::default() },
                rate_intended: Some(rate),
                ..Figures::template(true)
            };
            Point { is_sustained: lost == 0, figures }
        };
        let points = vec![point(1_000.0, 0), point(2_000.0, 0), point(4_000.0, 3)];
        let found = Found { points, knee: Some(1), unloaded_p99_ns: 5_000, ended_by: EndedBy::Knee };
        let report = SweepReport::of(&found, &[], template.subject.clone());
        assert_eq!((report.counts.sent, report.counts.faults.lost, report.rate_intended), (30, 3, Some(2_000.0)));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["mode"], &json["ended_by"]), (&"sweep".into(), &"knee".into()));
        assert_eq!(json["points"][2]["rate_intended"], 4_000.0);
        assert_eq!(json["points"][2]["is_sustained"], false);
        let text = report.text();
        assert!(text.contains("knee 2.0 k/s") && text.contains("not sustained"), "{text}");

        let none = Found { knee: None, ended_by: EndedBy::FirstRate, ..found };
        let report = SweepReport::of(&none, &[], report.subject);
        assert!(report.rate_achieved.is_none() && report.text().contains("no knee"), "{}", report.text());
    }
}
