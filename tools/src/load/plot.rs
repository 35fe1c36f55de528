//! Plots for a terminal: bars of unicode blocks.

use hdrhistogram::Histogram;

use super::sweep::Point;
use crate::latency::{human_count, human_ns, human_rate};

/// Characters of the longest bar.
const WIDTH: usize = 50;
/// Characters of the longest bar where two stand side by side.
const WIDTH_HALF: usize = 26;

/// A bar of `share` of `width` characters, in steps of an eighth of one. What is not zero shows.
fn bar(share: f64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if share <= 0.0 {
        return String::new();
    }
    let eighths = ((share.min(1.0) * width as f64 * 8.0).ceil() as usize).max(1);
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

/// Samples by power of two.
fn octaves(histogram: &Histogram<u64>) -> [u64; u64::BITS as usize] {
    let mut counts = [0; u64::BITS as usize];
    for bucket in histogram.iter_recorded() {
        counts[bucket.value_iterated_to().max(1).ilog2() as usize] += bucket.count_at_value();
    }
    counts
}

fn octave_name(octave: usize) -> String {
    format!("{:>10} .. {:<10}", human_ns(1 << octave), human_ns(2 << octave))
}

/// First and last octave with samples.
fn ends(counts: &[u64]) -> Option<(usize, usize)> {
    Some((counts.iter().position(|&count| count > 0)?, counts.iter().rposition(|&count| count > 0)?))
}

/// A histogram, a bar for each power of two.
pub fn histogram(samples: &Histogram<u64>) -> Vec<String> {
    let counts = octaves(samples);
    let Some((first, last)) = ends(&counts) else { return vec!["no samples in the measured time".into()] };
    let most = counts.iter().copied().max().unwrap_or(1) as f64;
    let line = |octave: usize| {
        let bar = bar(counts[octave] as f64 / most, WIDTH);
        format!("{} {bar:<WIDTH$} {}", octave_name(octave), human_count(counts[octave]))
    };
    (first..=last).map(line).collect()
}

/// Response and service time side by side. Bars are logarithmic: the tail is what they differ in.
pub fn two_histograms(response: &Histogram<u64>, service: &Histogram<u64>) -> Vec<String> {
    let (left, right) = (octaves(response), octaves(service));
    let both: Vec<u64> = left.iter().zip(&right).map(|(a, b)| a + b).collect();
    let Some((first, last)) = ends(&both) else { return vec!["no samples in the measured time".into()] };
    let most = left.iter().chain(&right).copied().max().unwrap_or(1);
    let half = |count: u64| {
        let share = (count as f64 + 1.0).ln() / (most as f64 + 1.0).ln();
        format!("{:<WIDTH_HALF$} {:<13}", bar(share, WIDTH_HALF), human_count(count))
    };
    let head = ["response time", "service time (bars are logarithmic)"];
    let mut lines = vec![format!("{:24} {:<w$} {}", "", head[0], head[1], w = WIDTH_HALF + 14).trim_end().to_owned()];
    lines.extend((first..=last).map(|octave| {
        format!("{} {} {}", octave_name(octave), half(left[octave]), half(right[octave])).trim_end().to_owned()
    }));
    lines
}

/// 99 % of the response times of each step by rate, with a logarithmic bar.
pub fn sweep(points: &[Point], knee: Option<f64>) -> Vec<String> {
    let p99 = |point: &Point| point.figures.response_ns.map_or(0, |times| times.p99).max(1) as f64;
    let mut points: Vec<&Point> = points.iter().filter(|point| point.figures.counts.received > 0).collect();
    points.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
    let (low, high) = points
        .iter()
        .map(|point| p99(point).ln())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), log| (low.min(log), high.max(log)));
    // The shortest bar is a tenth of the longest, so that all can be compared.
    let share = |point: &Point| if high > low { 0.1 + 0.9 * (p99(point).ln() - low) / (high - low) } else { 0.5 };
    points
        .into_iter()
        .map(|point| {
            let mark = if knee == Some(point.rate()) && point.is_sustained { "  <- knee" } else { "" };
            let (rate, time) = (human_rate(point.rate()), human_ns(p99(point) as u64));
            format!("{rate:>12}  {:<WIDTH$} {time}{mark}", bar(share(point), WIDTH))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::{Percentiles, new_histogram};
    use crate::load::figures::{Counts, Figures};

    #[test]
    fn bars_are_as_long_as_their_share() {
        assert_eq!([bar(1.0, 4), bar(0.5, 4), bar(0.0, 4)], ["████", "██", ""]);
        assert_eq!([bar(0.28125, 4), bar(1e-9, 4), bar(7.0, 4)], ["█▏", "▏", "████"]);
    }

    #[test]
    fn histograms_show_every_octave_between_their_ends() {
        let mut samples = new_histogram();
        samples.saturating_record_n(1_500, 90);
        samples.saturating_record_n(6_000, 10);
        let lines = histogram(&samples);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].contains(&"█".repeat(WIDTH)) && lines[0].ends_with(" 90"), "{lines:?}");
        assert!(lines[1].ends_with(" 0") && lines[2].contains("█████▋ "), "{lines:?}");
        let lines = two_histograms(&samples, &new_histogram());
        assert!(lines.len() == 4 && lines[1].contains("90"), "{lines:?}");
        assert_eq!(histogram(&new_histogram()), two_histograms(&new_histogram(), &new_histogram()));
    }

    #[test]
    fn a_sweep_is_drawn_by_rate_with_its_knee() {
        let point = |rate, p99| {
            let response_ns = Some(Percentiles { p99, ..Percentiles::default() });
            let counts = Counts { received: 1, ..Counts::default() };
            let figures = Figures { counts, rate_intended: Some(rate), response_ns, ..Figures::template(true) };
            Point { is_sustained: rate < 3_000.0, figures }
        };
        let lines = sweep(&[point(1_000.0, 1_000), point(4_000.0, 100_000), point(2_000.0, 10_000)], Some(2_000.0));
        assert!(lines[0].contains("1.0 k/s") && lines[1].ends_with("10.00 us  <- knee"), "{lines:?}");
        let length = |line: &String| line.matches('█').count();
        assert_eq!([5, 27, 50], [length(&lines[0]), length(&lines[1]), length(&lines[2])]);
        assert!(sweep(&[], None).is_empty());
    }
}
