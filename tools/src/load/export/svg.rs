//! Charts: histograms of latency, and the curve of a sweep.

use std::io::Write;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::Series;
use crate::latency::{human_ns, human_rate};
use crate::load::error::LoadError;
use crate::load::sweep::Point;

/// Width of the picture and height of one chart.
const SIZE: (u32, u32) = (960, 520);
/// Bars of a histogram each time that the latency doubles.
const BINS_PER_DOUBLING: f64 = 4.0;
/// Space around a chart, for the labels of its axes, and sizes of letters.
const MARGIN: u32 = 16;
const X_LABELS: u32 = 44;
const Y_LABELS: u32 = 80;
const CAPTION: (&str, u32) = ("sans-serif", 18);
const COLORS: [RGBColor; 3] = [RGBColor(200, 60, 40), RGBColor(40, 90, 170), RGBColor(230, 150, 30)];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws histograms over a logarithmic axis of latency.
///
/// # Errors
/// What drawing or writing says.
pub fn write_histograms(mut writer: impl Write, title: &str, series: &[Series<'_>]) -> Result<(), LoadError> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(chart_error)?;
        draw_histograms(&area, title, series)?;
        area.present().map_err(chart_error)?;
    }
    Ok(writer.write_all(text.as_bytes())?)
}

/// Draws the curve of a sweep, with its knee, above the histograms of the knee.
///
/// # Errors
/// What drawing or writing says.
pub fn write_sweep(
    mut writer: impl Write,
    title: &str,
    points: &[Point],
    knee: Option<f64>,
    series: &[Series<'_>],
) -> Result<(), LoadError> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (SIZE.0, 2 * SIZE.1)).into_drawing_area();
        area.fill(&WHITE).map_err(chart_error)?;
        let (upper, lower) = area.split_vertically(SIZE.1);
        draw_sweep(&upper, title, points, knee)?;
        draw_histograms(&lower, "at the knee", series)?;
        area.present().map_err(chart_error)?;
    }
    Ok(writer.write_all(text.as_bytes())?)
}

fn chart_error(error: impl std::fmt::Display) -> LoadError {
    LoadError::Chart(error.to_string())
}

/// Samples by bin: the bin's lower and upper end in nanoseconds and its count, without gaps between the bins.
fn bins(series: &Series<'_>) -> Vec<(f64, f64, u64)> {
    let bin_of = |ns: u64| (BINS_PER_DOUBLING * (ns.max(1) as f64).log2()).floor() as i32;
    let end = |bin: i32| 2f64.powf(f64::from(bin) / BINS_PER_DOUBLING);
    let mut bins: Vec<(i32, u64)> = Vec::new();
    for bucket in series.histogram.iter_recorded() {
        let bin = bin_of(bucket.value_iterated_to());
        let next = bins.last().map_or(bin, |&(last, _)| last + 1);
        bins.extend((next..=bin).map(|empty| (empty, 0)));
        if let Some((_, count)) = bins.last_mut() {
            *count += bucket.count_at_value();
        }
    }
    bins.into_iter().map(|(bin, count)| (end(bin), end(bin + 1), count)).collect()
}

fn draw_histograms(area: &Area<'_>, title: &str, series: &[Series<'_>]) -> Result<(), LoadError> {
    let all: Vec<_> = series.iter().map(bins).collect();
    let flat = || all.iter().flatten();
    let low = flat().map(|bin| bin.0).fold(f64::INFINITY, f64::min);
    let high = flat().map(|bin| bin.1).fold(0.0, f64::max);
    let most = flat().map(|bin| bin.2).max().unwrap_or(0) as f64;
    // Without samples the chart has axes and nothing in it.
    let (low, high) = if most > 0.0 { (low, high) } else { (1.0, 1e3) };
    let mut chart = ChartBuilder::on(area)
        .caption(title, CAPTION)
        .margin(MARGIN)
        .x_label_area_size(X_LABELS)
        .y_label_area_size(Y_LABELS)
        // A bin with one sample still shows.
        .build_cartesian_2d((low..high).log_scale(), (0.5..most.max(1.0) * 2.0).log_scale())
        .map_err(chart_error)?;
    chart
        .configure_mesh()
        .x_desc("latency")
        .y_desc("messages")
        .x_label_formatter(&|ns| human_ns(*ns as u64))
        .y_label_formatter(&|count| format!("{count:.0}"))
        .draw()
        .map_err(chart_error)?;
    for ((series, bins), color) in series.iter().zip(&all).zip(COLORS) {
        let outline = bins.iter().flat_map(|&(from, to, count)| {
            let height = (count as f64).max(0.5);
            [(from, height), (to, height)]
        });
        chart
            .draw_series(LineSeries::new(outline, color.stroke_width(2)))
            .map_err(chart_error)?
            .label(format!("{} time, {} messages", series.name, series.histogram.len()))
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()
        .map_err(chart_error)
}

fn draw_sweep(area: &Area<'_>, title: &str, points: &[Point], knee: Option<f64>) -> Result<(), LoadError> {
    type Curve = (&'static str, fn(&Point) -> u64);
    const CURVES: [Curve; 3] = [
        ("response time, 99 %", |point| point.figures.response_ns.map_or(0, |times| times.p99)),
        ("response time, median", |point| point.figures.response_ns.map_or(0, |times| times.p50)),
        ("service time, 99 %", |point| point.figures.service_ns.p99),
    ];
    let mut points: Vec<&Point> = points.iter().filter(|point| point.figures.counts.received > 0).collect();
    points.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
    let times = || CURVES.iter().flat_map(|(_, time)| points.iter().map(|point| time(point).max(1) as f64));
    let (fastest, slowest) =
        times().fold((f64::INFINITY, 1.0), |(low, high): (f64, f64), ns| (low.min(ns), high.max(ns)));
    let (first, last) = points.first().zip(points.last()).map_or((1.0, 10.0), |(a, b)| (a.rate(), b.rate()));
    let low = if fastest.is_finite() { fastest / 2.0 } else { 1.0 };
    let mut chart = ChartBuilder::on(area)
        .caption(title, CAPTION)
        .margin(MARGIN)
        .x_label_area_size(X_LABELS)
        .y_label_area_size(Y_LABELS)
        .build_cartesian_2d((first * 0.9..last * 1.1).log_scale(), (low..slowest * 2.0).log_scale())
        .map_err(chart_error)?;
    chart
        .configure_mesh()
        .x_desc("intended rate")
        .y_desc("latency")
        .x_label_formatter(&|rate| human_rate(*rate))
        .y_label_formatter(&|ns| human_ns(*ns as u64))
        .draw()
        .map_err(chart_error)?;
    for ((name, time), color) in CURVES.into_iter().zip(COLORS) {
        let curve = points.iter().map(|point| (point.rate(), time(point).max(1) as f64));
        chart
            .draw_series(LineSeries::new(curve, color.stroke_width(2)).point_size(3))
            .map_err(chart_error)?
            .label(name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], color.stroke_width(2)));
    }
    if let Some(rate) = knee {
        let line = [(rate, low), (rate, slowest * 2.0)];
        chart
            .draw_series(LineSeries::new(line, BLACK))
            .map_err(chart_error)?
            .label(format!("knee: {}", human_rate(rate)))
            .legend(|(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], BLACK));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()
        .map_err(chart_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::{Percentiles, new_histogram};
    use crate::load::figures::{Counts, Figures};

    fn point(rate: f64, p99: u64) -> Point {
        let response_ns = Some(Percentiles { p99, p50: p99 / 2, ..Percentiles::default() });
        let counts = Counts { received: 1, ..Counts::default() };
        let figures = Figures { counts, rate_intended: Some(rate), response_ns, ..Figures::template(true) };
        Point { is_sustained: true, figures }
    }

    #[test]
    fn bins_have_no_gaps_and_hold_every_sample() {
        let mut histogram = new_histogram();
        histogram.saturating_record_n(1_000, 5);
        histogram.saturating_record_n(1_000_000, 2);
        let bins = bins(&Series { name: "service", histogram: &histogram });
        assert_eq!(bins.iter().map(|bin| bin.2).sum::<u64>(), 7);
        assert!(bins.windows(2).all(|pair| pair[0].1 == pair[1].0), "{bins:?}");
        assert!(bins[0].0 <= 1_000.0 && 1_000.0 <= bins[0].1);
    }

    #[test]
    fn charts_are_pictures_of_their_figures() {
        let mut histogram = new_histogram();
        (1..2_000u64).for_each(|i| histogram.saturating_record(i * i));
        let series = [Series { name: "response", histogram: &histogram }];
        let mut text = Vec::new();
        write_histograms(&mut text, "a <title>", &series).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"), "{text}");
        assert!(text.contains("a &lt;title&gt;") && text.contains("response time, 1999 messages"), "{text}");

        let mut text = Vec::new();
        let points = [point(1_000.0, 5_000), point(4_000.0, 90_000), point(2_000.0, 6_000)];
        write_sweep(&mut text, "sweep", &points, Some(2_000.0), &series).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("knee: 2.0 k/s") && text.contains("at the knee"), "{text}");
        // Three points of each of the three curves.
        assert_eq!(text.matches("<circle").count(), 9);
    }

    #[test]
    fn nothing_measured_is_an_empty_chart() {
        let histogram = new_histogram();
        let series = [Series { name: "service", histogram: &histogram }];
        let mut text = Vec::new();
        write_sweep(&mut text, "sweep", &[], None, &series).unwrap();
        assert!(text.starts_with(b"<svg"));
    }
}
