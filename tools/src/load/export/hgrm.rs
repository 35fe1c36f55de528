//! The percentile text of HdrHistogram, which its plotters read: value in nanoseconds, percentile as a fraction,
//! samples up to there, and `1 / (1 - percentile)`, which is the x axis of such plots.

use std::io::Write;

use hdrhistogram::Histogram;

use crate::load::error::LoadError;

/// Rows each time that the distance to 100 % halves, as HdrHistogram's own programs write.
const ROWS_PER_HALVING: u32 = 5;

/// Writes the percentiles of `histogram`.
///
/// # Errors
/// What writing says.
pub fn write(mut writer: impl Write, histogram: &Histogram<u64>) -> Result<(), LoadError> {
    writeln!(writer, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut so_far = 0;
    for row in histogram.iter_quantiles(ROWS_PER_HALVING) {
        so_far += row.count_since_last_iteration();
        let (value, quantile) = (row.value_iterated_to() as f64, row.quantile_iterated_to());
        write!(writer, "{value:>12.3} {quantile:>2.12} {so_far:>10}")?;
        if quantile < 1.0 {
            writeln!(writer, " {:>14.2}", 1.0 / (1.0 - quantile))?;
        } else {
            writeln!(writer)?;
        }
    }
    let buckets = u64::from(histogram.buckets());
    // The table of counts holds half a bucket's sub-buckets for each bucket, and the other half for the first.
    let sub_buckets = histogram.distinct_values() as u64 * 2 / (buckets + 1);
    writeln!(writer, "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]", histogram.mean(), histogram.stdev())?;
    writeln!(writer, "#[Max     = {:>12.3}, Total count    = {:>12}]", histogram.max() as f64, histogram.len())?;
    writeln!(writer, "#[Buckets = {buckets:>12}, SubBuckets     = {sub_buckets:>12}]")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::new_histogram;

    #[test]
    fn the_rows_are_percentiles_of_the_samples() {
        let mut histogram = new_histogram();
        (1..=10_000u64).for_each(|i| histogram.saturating_record(i * 100));
        let mut text = Vec::new();
        write(&mut text, &histogram).unwrap();
        let text = String::from_utf8(text).unwrap();
        let mut lines = text.lines();
        let header: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!(header, ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]);
        assert_eq!(lines.next(), Some(""));
        let rows: Vec<Vec<f64>> = lines
            .clone()
            .take_while(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
            .collect();
        assert!(rows.len() > 40, "{text}");
        for row in &rows {
            // Samples are 100, 200 ... 1,000,000: of a value, a hundredth of it lies below.
            assert!((row[2] - row[0] / 100.0).abs() <= row[0] / 100.0 * 0.002 + 1.0, "{row:?}");
            assert!(row[2] >= row[1] * 10_000.0 - 1.0, "{row:?}");
        }
        let last = rows.last().unwrap();
        assert_eq!((last.len(), last[1], last[2]), (3, 1.0, 10_000.0), "100 % has no fourth column");
        assert!(rows[..rows.len() - 1].iter().all(|row| row.len() == 4));
        assert!(text.contains("Total count    =        10000]"), "{text}");
        // 1 to 60 * 10^9 at three digits: 2,048 sub-buckets, doubled 25 times to get there.
        assert!(text.ends_with("#[Buckets =           26, SubBuckets     =         2048]\n"), "{text}");
    }

    #[test]
    fn no_samples_are_no_rows() {
        let mut text = Vec::new();
        write(&mut text, &new_histogram()).unwrap();
        assert!(String::from_utf8(text).unwrap().contains("Total count    =            0]"));
    }
}
