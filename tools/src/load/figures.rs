//! What runs are compared by: the figures of one run, and how they spread over several.

use std::iter::Sum;

use serde::Serialize;

use super::judge::Faults;
use super::lateness::Lateness;
use super::run::Outcome;
use crate::latency::Percentiles;

/// What became of the messages of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Messages sent.
    pub sent: u64,
    /// Replies with the right content.
    pub received: u64,
    /// What was lost, doubled or reordered.
    #[serde(flatten)]
    pub faults: Faults,
    /// Replies that were failures or had wrong content.
    pub failed: u64,
}

impl Counts {
    /// Whether every message was answered once, in order, with the right content.
    pub fn is_faultless(&self) -> bool {
        self.faults.is_none() && self.failed == 0
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, counts| Self {
            sent: sum.sent + counts.sent,
            received: sum.received + counts.received,
            faults: sum.faults.plus(counts.faults),
            failed: sum.failed + counts.failed,
        })
    }
}

/// The figures of one run. Counts are those of the whole run; rate and latencies those of the measured time.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// What became of the messages.
    #[serde(flatten)]
    pub counts: Counts,
    /// Messages a second that were intended; none in a closed loop.
    pub rate_intended: Option<f64>,
    /// Right replies a second.
    pub rate_achieved: f64,
    /// From push to pop of a message, nanoseconds.
    pub service_ns: Percentiles,
    /// From the intended time to the pop, nanoseconds; none in a closed loop, and none when no message that was intended
    /// in the measured time was sent.
    pub response_ns: Option<Percentiles>,
    /// Messages whose intended time had come and that were never sent.
    pub unsent: u64,
    /// Messages that were sent late because there was no room; none in a closed loop.
    pub stalls: Option<Lateness>,
    /// Messages that were sent late though there was room: the sender itself was late; none in a closed loop.
    pub late_sends: Option<Lateness>,
}

impl Figures {
    /// The figures of a run.
    pub fn of(outcome: &Outcome) -> Self {
        Self::of_all(&[outcome])
    }

    /// The figures of several runs taken together: their counts added, their samples in one histogram.
    pub fn of_all(outcomes: &[&Outcome]) -> Self {
        let Some((first, others)) = outcomes.split_first() else { return Self::default() };
        let (mut tally, mut faults, mut measured) = (first.tally.clone(), first.faults, first.measured);
        for outcome in others {
            tally.merge(outcome.tally.clone());
            faults = faults.plus(outcome.faults);
            measured += outcome.measured;
        }
        let is_open = first.rate.is_some();
        Self {
            counts: Counts { sent: tally.sent, received: tally.received, faults, failed: tally.failed },
            rate_intended: first.rate.map(|rate| rate.per_second()),
            rate_achieved: tally.measured as f64 / measured.as_secs_f64().max(f64::MIN_POSITIVE),
            service_ns: Percentiles::of(&tally.service),
            response_ns: (is_open && !tally.response.is_empty()).then(|| Percentiles::of(&tally.response)),
            unsent: tally.unsent,
            stalls: is_open.then_some(tally.stalls),
            late_sends: is_open.then_some(tally.late_sends),
        }
    }

    /// Figures in which nothing is missing that a run has: for looking at their names.
    pub fn template(is_open: bool) -> Self {
        Self {
            rate_intended: is_open.then_some(0.0),
            response_ns: is_open.then(Percentiles::default),
            stalls: is_open.then(Lateness::new),
            late_sends: is_open.then(Lateness::new),
            ..Self::default()
        }
    }
}

/// A figure over several runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Range {
    /// The least.
    pub min: f64,
    /// The median; of an even number of runs the lower one of the two in the middle, so that it is always a run's.
    pub median: f64,
    /// The greatest.
    pub max: f64,
}

impl Range {
    /// The range of `values`; all zero when there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        match (values.first(), values.last()) {
            (Some(&min), Some(&max)) => Self { min, median: values[(values.len() - 1) / 2], max },
            _ => Self::default(),
        }
    }
}

/// How the main figures differ from run to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Runs.
    pub runs: usize,
    /// Right replies a second.
    pub rate_achieved: Range,
    /// Median service time, nanoseconds.
    pub service_p50_ns: Range,
    /// 99 % of service times, nanoseconds.
    pub service_p99_ns: Range,
    /// Median response time, nanoseconds; none in a closed loop.
    pub response_p50_ns: Option<Range>,
    /// 99 % of response times, nanoseconds; none in a closed loop.
    pub response_p99_ns: Option<Range>,
    /// The longest response time, nanoseconds; none in a closed loop.
    pub response_max_ns: Option<Range>,
}

impl Spread {
    /// The spread of runs of one kind.
    pub fn of(runs: &[Figures]) -> Self {
        let range = |figure: &dyn Fn(&Figures) -> f64| Range::of(runs.iter().map(figure));
        let response = |figure: &dyn Fn(&Percentiles) -> u64| {
            let values: Option<Vec<f64>> =
                runs.iter().map(|run| run.response_ns.as_ref().map(|times| figure(times) as f64)).collect();
            values.map(Range::of)
        };
        Self {
            runs: runs.len(),
            rate_achieved: range(&|run| run.rate_achieved),
            service_p50_ns: range(&|run| run.service_ns.p50 as f64),
            service_p99_ns: range(&|run| run.service_ns.p99 as f64),
            response_p50_ns: response(&|times| times.p50),
            response_p99_ns: response(&|times| times.p99),
            response_max_ns: response(&|times| times.max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_of_runs() {
        assert_eq!(Range::of([3.0, 1.0, 2.0]), Range { min: 1.0, median: 2.0, max: 3.0 });
        assert_eq!(Range::of([4.0, 1.0, 2.0, 3.0]), Range { min: 1.0, median: 2.0, max: 4.0 });
        assert_eq!(Range::of([]), Range::default());
    }

    #[test]
    fn a_spread_takes_each_figure_by_itself() {
        let run = |rate, p99| Figures {
            rate_achieved: rate,
            response_ns: Some(Percentiles { p99, ..Percentiles::default() }),
            ..Figures::template(true)
        };
        let runs = [run(10.0, 300), run(30.0, 100), run(20.0, 200)];
        let spread = Spread::of(&runs);
        assert_eq!(spread.runs, 3);
        assert_eq!(spread.rate_achieved, Range { min: 10.0, median: 20.0, max: 30.0 });
        assert_eq!(spread.response_p99_ns, Some(Range { min: 100.0, median: 200.0, max: 300.0 }));
        assert_eq!(Spread::of(&[Figures::template(false)]).response_p99_ns, None);
    }

    #[test]
    fn any_fault_is_a_fault() {
        let with = |faults, failed| Counts { sent: 1, received: 1, faults, failed };
        let none = Faults::default();
        assert!(with(none, 0).is_faultless());
        assert!(!with(Faults { lost: 1, ..none }, 0).is_faultless());
        assert!(!with(Faults { duplicated: 1, ..none }, 0).is_faultless());
        assert!(!with(Faults { out_of_order: 1, ..none }, 0).is_faultless());
        assert!(!with(none, 1).is_faultless());
    }

    #[test]
    fn counts_add_up() {
        let faults = Faults { lost: 1, duplicated: 2, out_of_order: 3 };
        let counts = Counts { sent: 40, received: 50, faults, failed: 60 };
        let twice = Faults { lost: 2, duplicated: 4, out_of_order: 6 };
        assert_eq!(
            [counts; 2].into_iter().sum::<Counts>(),
            Counts { sent: 80, received: 100, faults: twice, failed: 120 }
        );
    }
}
