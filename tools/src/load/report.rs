//! What a run found, as JSON and for people.

use serde::Serialize;

use super::check::Checked;
use super::figures::{Counts, Figures, Spread};
use super::options::LoadOptions;
use super::pause::Paused;
use super::plot;
use super::run::Outcome;
use super::subject::Subject;
use super::tally::Tally;
use crate::latency::{Percentiles, human_count, human_ns, human_rate};

/// The result of a run, or of several: then the figures are those of all together.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `closed`: the next message waits for a reply; `open`: messages are sent at their intended times.
    pub mode: &'static str,
    /// The figures.
    #[serde(flatten)]
    pub figures: Figures,
    /// Between two readings of the clock on a thread that does nothing else, nanoseconds; no samples where an open loop
    /// left no core for it.
    pub control_thread_ns: Percentiles,
    /// Counters whose final value was compared with what their clients were told.
    pub audited_keys: u64,
    /// Pauses of the engine.
    pub pauses: Vec<Paused>,
    /// How the runs differ; none of one run.
    pub spread: Option<Spread>,
    /// The figures of each run; none of one run.
    pub runs: Vec<Figures>,
    /// The first failure, or why a client ended early.
    pub first_failure: Option<String>,
    /// Whether the run was ended by the user.
    pub interrupted: bool,
    /// What came of `--fail-if`.
    pub checks: Vec<Checked>,
    /// What was measured on what.
    #[serde(flatten)]
    pub subject: Subject,
}

impl Report {
    /// The report on `outcomes` (at least one), runs of one kind.
    pub fn of(outcomes: &[&Outcome], subject: Subject, interrupted: bool) -> Self {
        let runs: Vec<Figures> = outcomes.iter().map(|outcome| Figures::of(outcome)).collect();
        let has_several = outcomes.len() > 1;
        let first = outcomes[0];
        Self {
            mode: mode(first.rate.is_some()),
            figures: Figures::of_all(outcomes),
            control_thread_ns: first.control_thread,
            audited_keys: outcomes.iter().map(|outcome| outcome.audited_keys).sum(),
            pauses: outcomes.iter().flat_map(|outcome| outcome.pauses.iter().copied()).collect(),
            spread: has_several.then(|| Spread::of(&runs)),
            runs: if has_several { runs } else { Vec::new() },
            first_failure: outcomes.iter().find_map(|outcome| outcome.tally.failure()),
            interrupted,
            checks: Vec::new(),
            subject,
        }
    }

    /// A report in which nothing is missing that one of this kind has: for looking at the names of its figures.
    pub fn template(options: &LoadOptions, is_open: bool) -> Self {
        let figures = Figures::template(is_open);
        let spread = (options.runs > 1).then(|| Spread::of(std::slice::from_ref(&figures)));
        Self {
            mode: mode(is_open),
            figures,
            control_thread_ns: Percentiles::default(),
            audited_keys: 0,
            pauses: Vec::new(),
            spread,
            runs: Vec::new(),
            first_failure: None,
            interrupted: false,
            checks: Vec::new(),
            subject: Subject::template(options, is_open),
        }
    }

    /// The report for people; `tally` holds the histograms.
    pub fn text(&self, tally: &Tally) -> String {
        let mut lines = self.subject.lines();
        let figures = &self.figures;
        lines.push(counts_line(&figures.counts));
        if let Some(failure) = &self.first_failure {
            lines.push(format!("first failure: {failure}"));
        }
        if self.interrupted {
            lines.push("interrupted: these are the figures so far".into());
        }
        lines.push(rate_line(figures, self.subject.parameters.measured_s));
        for pause in &self.pauses {
            lines.push(format!("the engine was paused at {:.3} s for {:.3} s", pause.at_s, pause.length_s));
        }
        lines.extend(late_lines(figures));
        lines.push(String::new());
        if let Some(response) = &figures.response_ns {
            lines.push(percentile_line("response", response));
        }
        lines.push(percentile_line(
            if figures.response_ns.is_some() { "service" } else { "latency" },
            &figures.service_ns,
        ));
        if self.control_thread_ns.count > 0 {
            lines.push(percentile_line("clock only", &self.control_thread_ns));
        }
        if let Some(spread) = &self.spread {
            lines.push(String::new());
            lines.extend(spread_lines(spread));
        }
        lines.push(String::new());
        lines.extend(match figures.response_ns {
            Some(_) => plot::two_histograms(&tally.response, &tally.service),
            None => plot::histogram(&tally.service),
        });
        lines.join("\n")
    }
}

fn mode(is_open: bool) -> &'static str {
    if is_open { "open" } else { "closed" }
}

/// What was sent, and how it came back.
pub(super) fn counts_line(counts: &Counts) -> String {
    format!(
        "sent {}   received {}   lost {}   duplicated {}   out of order {}   failed {}",
        human_count(counts.sent),
        human_count(counts.received),
        counts.faults.lost,
        counts.faults.duplicated,
        counts.faults.out_of_order,
        counts.failed
    )
}

fn rate_line(figures: &Figures, measured_s: f64) -> String {
    let achieved = format!("rate {} over {measured_s:.1} s", human_rate(figures.rate_achieved));
    figures.rate_intended.map_or(achieved.clone(), |rate| format!("{achieved}, {} intended", human_rate(rate)))
}

/// Messages that were late or never sent.
fn late_lines(figures: &Figures) -> Vec<String> {
    let late = |what: &str, late: &super::lateness::Lateness| {
        let (count, bound) = (human_count(late.count), human_ns(late.bound_ns));
        let (longest, total) = (human_ns(late.longest_ns), human_ns(late.total_ns));
        format!("{what}: {count} messages were sent more than {bound} late, by up to {longest}, in {total} altogether")
    };
    let mut lines = Vec::new();
    if figures.unsent > 0 {
        let count = human_count(figures.unsent);
        lines.push(format!("{count} messages were never sent: the backlog was too long"));
        if figures.response_ns.is_none() {
            lines.push("none that was intended in the measured time was sent: there are no response times".into());
        }
    }
    lines.extend(figures.stalls.filter(|stalls| stalls.count > 0).map(|stalls| late("no room", &stalls)));
    let own = figures.late_sends.filter(|sends| sends.count > 0);
    lines.extend(own.map(|sends| late("sender late", &sends)));
    lines
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

fn spread_lines(spread: &Spread) -> Vec<String> {
    let ns = |value: f64| human_ns(value as u64);
    let line = |name: &str, range: &super::figures::Range, show: &dyn Fn(f64) -> String| {
        format!("{name:<16} {:>12} {:>12} {:>12}", show(range.min), show(range.median), show(range.max))
    };
    let mut lines =
        vec![format!("{:<16} {:>12} {:>12} {:>12}", format!("{} runs", spread.runs), "min", "median", "max")];
    lines.push(line("rate", &spread.rate_achieved, &human_rate));
    for (name, range) in [
        ("response p50", spread.response_p50_ns),
        ("response p99", spread.response_p99_ns),
        ("response max", spread.response_max_ns),
        ("service p50", Some(spread.service_p50_ns)),
        ("service p99", Some(spread.service_p99_ns)),
    ] {
        lines.extend(range.map(|range| line(name, &range, &ns)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::lateness::Lateness;

    fn report(is_open: bool, tally: &Tally) -> Report {
        let template = Report::template(&LoadOptions::parsed(&[]).unwrap(), is_open);
        let figures = Figures {
            counts: Counts { sent: 12_345, received: 12_345, ..Counts::default() },
            rate_achieved: 1_000.0,
            service_ns: Percentiles::of(&tally.service),
            response_ns: is_open.then(|| Percentiles::of(&tally.response)),
            ..template.figures.clone()
        };
        Report { mode: "any", figures, ..template }
    }

    fn tally() -> Tally {
        let mut tally = Tally::new();
        tally.service.saturating_record_n(1_500, 90);
        tally.service.saturating_record_n(6_000, 10);
        tally.response.saturating_record_n(3_000, 100);
        tally
    }

    #[test]
    fn the_json_has_the_keys_that_scripts_read() {
        for is_open in [false, true] {
            let json = serde_json::to_value(report(is_open, &tally())).unwrap();
            for key in ["sent", "received", "lost", "duplicated", "out_of_order", "rate_achieved", "unsent"] {
                assert!(json[key].is_number(), "{key}");
            }
            for key in ["backend", "device", "mode"] {
                assert!(json[key].is_string(), "{key}");
            }
            for key in ["p50", "p90", "p99", "p999", "p9999", "max", "mean"] {
                assert!(json["service_ns"][key].as_f64().unwrap() > 0.0, "{key}");
                assert_eq!(json["response_ns"][key].is_number(), is_open, "{key}");
            }
            assert_eq!(json["rate_intended"].is_number(), is_open);
            assert_eq!(json["stalls"]["count"].is_number() && json["stalls"]["total_ns"].is_number(), is_open);
            assert!(json["environment"]["commit"].is_string());
        }
    }

    #[test]
    fn the_text_shows_counts_and_bars() {
        let text = report(false, &tally()).text(&tally());
        assert!(text.contains("sent 12,345   received 12,345   lost 0"), "{text}");
        assert_eq!(text.lines().filter(|line| line.contains(" .. ")).count(), 3, "{text}");
        assert!(report(false, &Tally::new()).text(&Tally::new()).contains("no samples"));
    }

    #[test]
    fn the_text_of_an_open_loop_says_what_was_late_and_why() {
        let mut report = report(true, &tally());
        report.figures.unsent = 7;
        report.figures.stalls = Some(Lateness { count: 3, longest_ns: 5_000_000, ..Lateness::new() });
        report.pauses = vec![Paused { at_s: 1.0, length_s: 0.2 }];
        let text = report.text(&tally());
        for part in
            ["7 messages were never sent", "no room: 3 messages", "up to 5.00 ms", "paused at 1.000 s", "response "]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("sender late"), "{text}");
    }

    #[test]
    fn several_runs_show_their_spread() {
        let mut report = report(true, &tally());
        report.spread = Some(Spread::of(&[report.figures.clone(), report.figures.clone(), report.figures.clone()]));
        let text = report.text(&tally());
        assert!(text.contains("3 runs") && text.contains("median") && text.contains("response p99"), "{text}");
    }
}
