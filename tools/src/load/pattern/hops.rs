//! How long hops took: the histograms of all couriers as one.

use serde::Serialize;
use tourbillon::actors::courier::{HOP_STEPS, hop_step_from};

/// Hops by how long they took, in the steps of a courier's histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hops([u64; HOP_STEPS]);

/// What the histogram says, nanoseconds. Within a step hops are taken to be spread evenly; the last step has no end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HopFigures {
    /// Hops that were counted.
    pub count: u64,
    /// Median; null when it lies in the last step.
    pub p50: Option<u64>,
    /// 90 %; as the median.
    pub p90: Option<u64>,
    /// 99 %; as the median.
    pub p99: Option<u64>,
    /// 99.9 %; as the median.
    pub p999: Option<u64>,
    /// Where the highest step with a hop begins: the longest hop took as long or longer.
    pub max_at_least: u64,
    /// Where the last step begins: what took longer is not told apart.
    pub histogram_end: u64,
}

/// A step of the histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The shortest hop that is counted in it, nanoseconds.
    pub from_ns: u64,
    /// Where the next one begins; null for the last.
    pub to_ns: Option<u64>,
    /// Hops.
    pub count: u64,
}

impl Hops {
    /// Adds the histogram of a courier.
    pub fn add(&mut self, hops: &[u32; HOP_STEPS]) {
        self.0.iter_mut().zip(hops).for_each(|(sum, count)| *sum += u64::from(*count));
    }

    /// Hops that were counted.
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Below this, in nanoseconds, `share` (0 to 1) of the hops lie; nothing without hops, or where it lies in the last step.
    fn quantile(&self, share: f64) -> Option<u64> {
        let wanted = self.count() as f64 * share;
        let mut below = 0.0;
        for step in self.steps() {
            let count = step.count as f64;
            if count > 0.0 && below + count >= wanted {
                let width = (step.to_ns? - step.from_ns) as f64;
                return Some(step.from_ns + (width * (wanted - below).max(0.0) / count) as u64);
            }
            below += count;
        }
        None
    }

    /// The figures.
    pub fn figures(&self) -> HopFigures {
        HopFigures {
            count: self.count(),
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p99: self.quantile(0.99),
            p999: self.quantile(0.999),
            max_at_least: self.steps().filter(|step| step.count > 0).last().map_or(0, |step| step.from_ns),
            histogram_end: hop_step_from(HOP_STEPS - 1),
        }
    }

    /// All steps.
    pub fn steps(&self) -> impl Iterator<Item = Step> {
        self.0.iter().enumerate().map(|(step, count)| Step {
            from_ns: hop_step_from(step),
            to_ns: (step + 1 < HOP_STEPS).then(|| hop_step_from(step + 1)),
            count: *count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tourbillon::actors::courier::hop_step;

    fn of(times: &[u64]) -> Hops {
        let mut hops = [0; HOP_STEPS];
        times.iter().for_each(|ns| hops[hop_step(*ns)] += 1);
        let mut sum = Hops::default();
        sum.add(&hops);
        sum
    }

    proptest! {
        /// A quantile is in the step of the hop that has the rank, and none is made up behind the end.
        #[test]
        fn quantiles_are_in_the_right_step(times in proptest::collection::vec(0u64..20_000_000, 1..200), share in 0.01f64..1.0) {
            let hops = of(&times);
            let mut sorted = times;
            sorted.sort_unstable();
            let rank = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len());
            let step = hop_step(sorted[rank - 1]);
            match hops.quantile(share) {
                Some(ns) => prop_assert!((hop_step_from(step)..=hop_step_from(step + 1)).contains(&ns), "{ns} {step}"),
                None => prop_assert_eq!(step, HOP_STEPS - 1),
            }
        }
    }

    #[test]
    fn the_end_of_the_histogram_is_told() {
        let nothing = Hops::default().figures();
        assert_eq!((nothing.count, nothing.p50, nothing.max_at_least), (0, None, 0));
        let figures = of(&[300, 300, 300, 9_000_000_000]).figures();
        assert_eq!((figures.count, figures.p99, figures.max_at_least), (4, None, figures.histogram_end));
        assert!((256..=384).contains(&figures.p50.unwrap()));
        let last = of(&[1]).steps().last().unwrap();
        assert_eq!((last.from_ns, last.to_ns), (figures.histogram_end, None));
    }
}
