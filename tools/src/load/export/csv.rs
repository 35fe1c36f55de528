//! Tables: the recorded buckets of histograms, and the steps of a sweep.

use std::io::Write;

use serde::Serialize;

use super::Series;
use crate::load::error::LoadError;
use crate::load::sweep::Point;

/// One bucket with samples.
#[derive(Debug, Serialize)]
struct Bucket {
    series: &'static str,
    value_ns: u64,
    count: u64,
    count_up_to: u64,
    quantile: f64,
}

/// One step of a sweep.
#[derive(Debug, Serialize)]
struct Step {
    rate_intended: f64,
    rate_achieved: f64,
    is_sustained: bool,
    sent: u64,
    received: u64,
    unsent: u64,
    stalls: u64,
    response_p50_ns: u64,
    response_p90_ns: u64,
    response_p99_ns: u64,
    response_p999_ns: u64,
    response_max_ns: u64,
    service_p50_ns: u64,
    service_p99_ns: u64,
    service_max_ns: u64,
}

/// Writes the buckets that hold samples; `value_ns` is the upper end of a bucket.
///
/// # Errors
/// What writing says.
pub fn write_histograms(writer: impl Write, series: &[Series<'_>]) -> Result<(), LoadError> {
    let mut table = csv::Writer::from_writer(writer);
    for Series { name, histogram } in series {
        let mut count_up_to = 0;
        for bucket in histogram.iter_recorded() {
            count_up_to += bucket.count_at_value();
            table.serialize(Bucket {
                series: name,
                value_ns: bucket.value_iterated_to(),
                count: bucket.count_at_value(),
                count_up_to,
                quantile: count_up_to as f64 / histogram.len() as f64,
            })?;
        }
    }
    Ok(table.flush()?)
}

/// Writes the steps of a sweep, in the order in which they were measured.
///
/// # Errors
/// What writing says.
pub fn write_sweep(writer: impl Write, points: &[Point]) -> Result<(), LoadError> {
    let mut table = csv::Writer::from_writer(writer);
    for point in points {
        let figures = &point.figures;
        let (response, service) = (figures.response_ns.unwrap_or_default(), figures.service_ns);
        table.serialize(Step {
            rate_intended: figures.rate_intended.unwrap_or_default(),
            rate_achieved: figures.rate_achieved,
            is_sustained: point.is_sustained,
            sent: figures.counts.sent,
            received: figures.counts.received,
            unsent: figures.unsent,
            stalls: figures.stalls.map_or(0, |stalls| stalls.count),
            response_p50_ns: response.p50,
            response_p90_ns: response.p90,
            response_p99_ns: response.p99,
            response_p999_ns: response.p999,
            response_max_ns: response.max,
            service_p50_ns: service.p50,
            service_p99_ns: service.p99,
            service_max_ns: service.max,
        })?;
    }
    Ok(table.flush()?)
}

impl From<csv::Error> for LoadError {
    fn from(error: csv::Error) -> Self {
        Self::Io(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::new_histogram;
    use crate::load::figures::{Counts, Figures};

    #[test]
    fn buckets_add_up() {
        let (mut response, mut service) = (new_histogram(), new_histogram());
        response.saturating_record_n(1_000, 3);
        response.saturating_record(5_000_000);
        service.saturating_record(1_000);
        let mut text = Vec::new();
        let series =
            [Series { name: "response", histogram: &response }, Series { name: "service", histogram: &service }];
        write_histograms(&mut text, &series).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "series,value_ns,count,count_up_to,quantile");
        assert_eq!(lines[1], "response,1000,3,3,0.75");
        assert!(lines[2].starts_with("response,500") && lines[2].ends_with(",1,4,1.0"), "{text}");
        assert_eq!(lines[3..], ["service,1000,1,1,1.0"]);
    }

    #[test]
    fn steps_have_a_row_each() {
        let figures = Figures {
            counts: Counts { sent: 12, ..Counts::default() },
            rate_intended: Some(1_000.0),
            ..Figures::template(true)
        };
        let points = [Point { is_sustained: true, figures: figures.clone() }, Point { is_sustained: false, figures }];
        let mut text = Vec::new();
        write_sweep(&mut text, &points).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert!(text.lines().nth(1).unwrap().starts_with("1000.0,0.0,true,12,"), "{text}");
    }
}
