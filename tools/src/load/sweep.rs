//! Finding the knee: the highest rate that is reached while the response time stays near the unloaded one.
//!
//! Rates double from the first one until one is not *sustained*; then the interval between the last that was and the
//! first that was not is halved, in the logarithm, until its ends are close. A rate that was not sustained is measured
//! once more before that is believed, since any machine has a bad moment. Steps are bounded, so the whole is.

use std::time::Duration;

use serde::Serialize;

use super::figures::Figures;
use super::schedule::Rate;

/// A rate is reached when the achieved one is short of the intended one by no more than this share.
pub const TOLERANCE: f64 = 0.05;
/// A rate is sustained only while 99 % of its response times stay within this many times the unloaded ones: the least
/// that any step so far found, since the first step may have had a bad moment. Waiting for the message ahead makes two
/// to three times of it; ten times is a queue.
pub const P99_MULTIPLE: f64 = 10.0;
/// From one rate to the next on the way up.
const FACTOR: f64 = 2.0;
/// The knee is known when a rate this much higher was not sustained.
const PRECISION: f64 = 1.05;
/// Most steps: from 1,000 a second to more than any clock resolves there are 17 doublings, then 4 halvings, and room
/// for rates that are measured twice.
pub const STEPS_MAX: u32 = 30;
/// Shortest step.
pub const STEP_MIN: Duration = Duration::from_millis(200);
/// Least messages of the first step: below, 99 % of them are no percentile.
pub const MESSAGES_LEAST: u64 = 100;
/// The first rate unless told otherwise: far below what any backend can do.
pub const FIRST_RATE: f64 = 1_000.0;

/// One step.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Point {
    /// Whether the rate was reached and the response time stayed within its bound.
    pub is_sustained: bool,
    /// What was measured.
    #[serde(flatten)]
    pub figures: Figures,
}

impl Point {
    /// The intended rate.
    pub fn rate(&self) -> f64 {
        self.figures.rate_intended.unwrap_or_default()
    }
}

/// Why a sweep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// The knee is known within 5 %.
    Knee,
    /// Even the first rate was not reached.
    FirstRate,
    /// The highest rate that the clock resolves was sustained.
    Clock,
    /// There were no more steps.
    Steps,
    /// Its time was over.
    Time,
    /// The user wanted an end.
    Interrupt,
}

/// What a sweep found.
#[derive(Clone, Debug)]
pub struct Found {
    /// All steps, in the order in which they were measured.
    pub points: Vec<Point>,
    /// Number of the step that is the knee.
    pub knee: Option<usize>,
    /// 99 % of the response times where they were the least, nanoseconds.
    pub unloaded_p99_ns: u64,
    /// Why it ended.
    pub ended_by: EndedBy,
}

/// Searches for the knee from `first` on, no higher than `highest`. `measure` gives the figures of a rate, or why there
/// shall be no more.
///
/// # Errors
/// What `measure` says.
pub fn search<E>(
    first: Rate,
    highest: Rate,
    mut measure: impl FnMut(Rate) -> Result<Result<Figures, EndedBy>, E>,
) -> Result<Found, E> {
    let mut found = Found { points: Vec::new(), knee: None, unloaded_p99_ns: 0, ended_by: EndedBy::Steps };
    let (mut good, mut bad): (Option<Rate>, Option<Rate>) = (None, None);
    let mut rate = first.min(highest);
    let mut is_second_try = false;
    while found.points.len() < STEPS_MAX as usize {
        let figures = match measure(rate)? {
            Ok(figures) => figures,
            Err(why) => {
                found.ended_by = why;
                return Ok(found);
            }
        };
        // An overloaded step may have no response times at all.
        let least =
            found.points.iter().map(|point| &point.figures).chain([&figures]).map(p99).filter(|&ns| ns > 0).min();
        found.unloaded_p99_ns = least.unwrap_or(0);
        let is_sustained = is_sustained(&figures, found.unloaded_p99_ns);
        found.points.push(Point { is_sustained, figures });
        if is_sustained {
            good = Some(rate);
            found.knee = Some(found.points.len() - 1);
        } else if is_second_try {
            bad = Some(rate);
        } else {
            is_second_try = true;
            continue;
        }
        is_second_try = false;
        rate = match next(good, bad, highest) {
            Ok(rate) => rate,
            Err(why) => {
                found.ended_by = why;
                return Ok(found);
            }
        };
    }
    Ok(found)
}

fn p99(figures: &Figures) -> u64 {
    figures.response_ns.map_or(0, |times| times.p99)
}

fn is_sustained(figures: &Figures, unloaded_p99_ns: u64) -> bool {
    let intended = figures.rate_intended.unwrap_or_default();
    figures.counts.is_faultless()
        && figures.response_ns.is_some()
        && figures.rate_achieved >= (1.0 - TOLERANCE) * intended
        && p99(figures) as f64 <= P99_MULTIPLE * unloaded_p99_ns as f64
}

/// The next rate after `good`, which was sustained, and `bad`, which was not.
fn next(good: Option<Rate>, bad: Option<Rate>, highest: Rate) -> Result<Rate, EndedBy> {
    match (good, bad) {
        (Some(good), _) if good >= highest => Err(EndedBy::Clock),
        (Some(good), None) => Ok(Rate::new(good.per_second() * FACTOR).min(highest)),
        (None, _) => Err(EndedBy::FirstRate),
        (Some(good), Some(bad)) => {
            let (low, high) = (good.per_second(), bad.per_second());
            let middle = Rate::new((low * high).sqrt());
            // Slow rates may have no other between them.
            let is_known = high / low <= PRECISION || middle <= good || middle >= bad;
            if is_known { Err(EndedBy::Knee) } else { Ok(middle) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::latency::Percentiles;
    use crate::load::figures::Counts;
    use crate::load::judge::Faults;

    /// A server that does `capacity` a second, with a queue as in the books.
    fn server(rate: Rate, capacity: f64) -> Figures {
        let (intended, load) = (rate.per_second(), rate.per_second() / capacity);
        let p99 = if load < 0.999 { (1_000.0 / (1.0 - load)) as u64 } else { 500_000_000 };
        let response_ns = Some(Percentiles { p99, ..Percentiles::default() });
        Figures {
            rate_intended: Some(intended),
            rate_achieved: intended.min(capacity),
            response_ns,
            ..Figures::default()
        }
    }

    fn sweep(first: f64, highest: f64, mut measure: impl FnMut(Rate) -> Result<Figures, EndedBy>) -> Found {
        let Ok(found) = search(Rate::new(first), Rate::new(highest), |rate| Ok::<_, Infallible>(measure(rate)));
        found
    }

    proptest! {
        #[test]
        fn the_knee_is_found_within_its_precision(exponent in 3.5..7.4f64) {
            let capacity = 10f64.powf(exponent);
            let found = sweep(1_000.0, 40e6, |rate| Ok(server(rate, capacity)));
            prop_assert_eq!(found.ended_by, EndedBy::Knee);
            // Where 1 / (1 - load) is ten times what it is at the first rate.
            let expected = capacity * (1.0 - (1.0 - 1_000.0 / capacity) / P99_MULTIPLE);
            let knee = found.points[found.knee.unwrap()].rate();
            prop_assert!(knee <= expected * 1.001 && knee >= expected / PRECISION, "{} of {}", knee, expected);
            prop_assert!(found.points.len() <= STEPS_MAX as usize);
        }
    }

    #[test]
    fn rates_are_geometric_and_a_failure_is_measured_twice() {
        let found = sweep(1_000.0, 40e6, |rate| Ok(server(rate, 10_000.0)));
        let rates: Vec<u64> = found.points.iter().map(|point| point.rate() as u64).collect();
        assert_eq!(rates[..7], [1_000, 2_000, 4_000, 8_000, 16_000, 16_000, 11_313]);
    }

    #[test]
    fn one_bad_moment_does_not_end_a_sweep() {
        let mut steps = 0;
        let found = sweep(1_000.0, 40e6, |rate| {
            steps += 1;
            Ok(server(rate, if steps == 2 { 10.0 } else { 1e5 }))
        });
        assert!(found.points[found.knee.unwrap()].rate() > 80_000.0, "{found:?}");
    }

    #[test]
    fn a_bad_moment_at_the_first_rate_does_not_raise_the_bar() {
        let mut steps = 0;
        let found = sweep(1_000.0, 40e6, |rate| {
            steps += 1;
            Ok(if steps == 1 { Figures { rate_achieved: 1_000.0, ..server(rate, 1_000.5) } } else { server(rate, 1e5) })
        });
        assert!(p99(&found.points[0].figures) > 1_000_000 && found.unloaded_p99_ns < 2_000, "{found:?}");
        assert!(found.points[found.knee.unwrap()].rate() < 93_000.0, "{found:?}");
    }

    #[test]
    fn sweeps_end_for_a_stated_reason() {
        let slow = sweep(1_000.0, 40e6, |rate| Ok(server(rate, 10.0)));
        assert_eq!((slow.ended_by, slow.knee, slow.points.len()), (EndedBy::FirstRate, None, 2));
        let fast = sweep(1_000.0, 50_000.0, |rate| Ok(server(rate, 1e9)));
        assert_eq!((fast.ended_by, fast.points[fast.knee.unwrap()].rate()), (EndedBy::Clock, 50_000.0));
        let mut steps = 0;
        let interrupted = sweep(1_000.0, 40e6, |rate| {
            steps += 1;
            if steps > 3 { Err(EndedBy::Interrupt) } else { Ok(server(rate, 1e9)) }
        });
        assert_eq!((interrupted.ended_by, interrupted.knee), (EndedBy::Interrupt, Some(2)));
        // Fails each time it is asked first: steps run out.
        let mut tries = 0;
        let restless = sweep(0.001, 1e12, |rate| {
            tries += 1;
            Ok(server(rate, if tries % 2 == 1 && tries > 1 { 1e-3 } else { 1e15 }))
        });
        assert_eq!((restless.ended_by, restless.points.len()), (EndedBy::Steps, STEPS_MAX as usize));
    }

    #[test]
    fn a_fault_is_no_sustained_rate() {
        let good = server(Rate::new(10.0), 1e6);
        assert!(is_sustained(&good, 1_000));
        let counts = Counts { faults: Faults { lost: 1, ..Faults::default() }, ..Counts::default() };
        assert!(!is_sustained(&Figures { counts, ..good.clone() }, 1_000));
        assert!(!is_sustained(&Figures { rate_achieved: 9.4, ..good.clone() }, 1_000));
        assert!(!is_sustained(&good, 90));
        assert!(!is_sustained(&Figures { response_ns: None, ..good }, 1_000));
        let found = sweep(1_000.0, 40e6, |rate| {
            let figures = server(rate, 1e5);
            Ok(if rate.per_second() > 1e5 { Figures { response_ns: None, ..figures } } else { figures })
        });
        assert!(found.unloaded_p99_ns > 1_000, "a step without response times is no measure of others");
    }
}
