//! Histograms of nanoseconds and the figures taken from them.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency that is told apart: a minute; longer ones count as that.
pub const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Significant decimal digits: errors of 0.1 %.
const DIGITS: u8 = 3;

/// An empty histogram for 1 ns to [`LATENCY_NS_MAX`].
pub fn new_histogram() -> Histogram<u64> {
    // The bounds are constants that the constructor accepts; see the test.
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS).unwrap_or_else(|error| unreachable!("{error}"))
}

/// What a histogram says, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Median.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
    /// 99.99 %.
    pub p9999: u64,
    /// The longest.
    pub max: u64,
    /// The average.
    pub mean: f64,
    /// How many samples.
    pub count: u64,
}

impl Percentiles {
    /// The figures of `histogram`; all zero when it is empty.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        Self {
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            p9999: histogram.value_at_quantile(0.9999),
            max: histogram.max(),
            mean: (histogram.mean() * 10.0).round() / 10.0,
            count: histogram.len(),
        }
    }
}

/// Nanoseconds for people: `870 ns`, `2.31 us`, `14.0 ms`.
pub fn human_ns(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.2} us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

/// A rate for people: `812 /s`, `1.25 M/s`.
pub fn human_rate(per_second: f64) -> String {
    match per_second {
        r if r < 1e3 => format!("{r:.0} /s"),
        r if r < 1e6 => format!("{:.1} k/s", r / 1e3),
        r if r < 1e9 => format!("{:.2} M/s", r / 1e6),
        r => format!("{:.2} G/s", r / 1e9),
    }
}

/// A count with its thousands apart: `1,234,567`.
pub fn human_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes for people: `512 B`, `3.0 MiB`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_known_samples() {
        let mut histogram = new_histogram();
        (1..=10_000u64).for_each(|ns| histogram.saturating_record(ns));
        let figures = Percentiles::of(&histogram);
        assert_eq!(figures.count, 10_000);
        for (value, exact) in [(figures.p50, 5_000), (figures.p90, 9_000), (figures.p99, 9_900), (figures.p999, 9_990)]
        {
            assert!(value.abs_diff(exact) <= exact / 500, "{value} is not {exact}");
        }
        assert!((figures.mean - 5_000.5).abs() < 10.0);
        assert!(figures.max >= 10_000 && figures.max < 10_010);
        assert_eq!(Percentiles::of(&new_histogram()), Percentiles::default());
    }

    #[test]
    fn samples_past_the_end_are_kept() {
        let mut histogram = new_histogram();
        histogram.saturating_record(u64::MAX);
        assert!(Percentiles::of(&histogram).max >= LATENCY_NS_MAX);
    }

    #[test]
    fn figures_for_people() {
        assert_eq!([human_ns(870), human_ns(2_310), human_ns(14_000_000)], ["870 ns", "2.31 us", "14.00 ms"]);
        assert_eq!([human_rate(812.0), human_rate(1_250_000.0)], ["812 /s", "1.25 M/s"]);
        assert_eq!([human_count(7), human_count(1_000), human_count(1_234_567)], ["7", "1,000", "1,234,567"]);
        assert_eq!([human_bytes(512), human_bytes(3 << 20)], ["512 B", "3.0 MiB"]);
    }
}
