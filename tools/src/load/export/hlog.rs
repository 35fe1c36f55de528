//! The log format of HdrHistogram: histograms in full, compressed, each with a tag and the time that it covers.

use std::io::Write;
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError, Tag};

use crate::load::error::LoadError;
use crate::load::intervals::Packed;

/// Programs that read the log show the maximum of an interval divided by this: milliseconds.
const MAX_DIVISOR: f64 = 1e6;

/// A histogram and the time that it covers.
#[derive(Clone, Debug)]
pub struct Interval<'a> {
    /// What it is of; white space and commas become `_`.
    pub tag: String,
    /// When its first sample could be.
    pub begin: SystemTime,
    /// How long it was.
    pub length: Duration,
    /// The samples, nanoseconds.
    pub histogram: &'a Packed,
}

/// Writes `intervals`, which are in the order of their times.
///
/// # Errors
/// What writing says.
pub fn write(mut writer: impl Write, intervals: &[Interval<'_>]) -> Result<(), LoadError> {
    let start = intervals.first().map_or(SystemTime::UNIX_EPOCH, |interval| interval.begin);
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment("[Nanoseconds; logged by tourbillon load]")
        .with_start_time(start)
        .with_base_time(start)
        .with_max_value_divisor(MAX_DIVISOR)
        .begin_log_with(&mut writer, &mut serializer)?;
    for interval in intervals {
        let since = interval.begin.duration_since(start).unwrap_or_default();
        let tag: String = interval.tag.chars().map(|c| if c.is_whitespace() || c == ',' { '_' } else { c }).collect();
        let written = log.write_histogram(&interval.histogram.open()?, since, interval.length, Tag::new(&tag));
        written.map_err(|error| match error {
            IntervalLogWriterError::IoError(error) => error,
            IntervalLogWriterError::SerializeError(error) => std::io::Error::other(error),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::latency::new_histogram;

    /// Undoes base 64.
    fn decoded(text: &str) -> Vec<u8> {
        const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
        for letter in text.chars().filter(|&letter| letter != '=') {
            bits = bits << 6 | LETTERS.find(letter).unwrap() as u32;
            count += 6;
            if count >= 8 {
                count -= 8;
                bytes.push((bits >> count) as u8);
            }
        }
        bytes
    }

    #[test]
    fn every_histogram_comes_back_whole() {
        let (mut first, mut second) = (new_histogram(), new_histogram());
        (1..1_000u64).for_each(|i| first.saturating_record(i * i));
        second.saturating_record_n(1_234_567, 89);
        let packed = [Packed::of(&first), Packed::of(&second)];
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let length = Duration::from_millis(1_500);
        let intervals = [
            Interval { tag: "response".into(), begin, length, histogram: &packed[0] },
            Interval { tag: "service, 2 M/s".into(), begin: begin + length, length, histogram: &packed[1] },
        ];
        let mut text = Vec::new();
        write(&mut text, &intervals).unwrap();
        assert!(text.starts_with(b"#[Histogram log format version 1.3]\n"));
        let entries: Vec<_> = IntervalLogIterator::new(&text).map(Result::unwrap).collect();
        let found: Vec<_> = entries
            .iter()
            .filter_map(|entry| match entry {
                LogEntry::Interval(interval) => Some(interval),
                _ => None,
            })
            .collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].tag().unwrap().as_str(), "response");
        assert_eq!(found[1].tag().unwrap().as_str(), "service__2_M/s");
        assert_eq!((found[1].start_timestamp(), found[1].duration()), (length, length));
        assert!((found[1].max() - 1.2345).abs() < 0.01, "milliseconds: {}", found[1].max());
        for (interval, histogram) in found.iter().zip([&first, &second]) {
            let bytes = decoded(interval.encoded_histogram());
            let back: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
            assert_eq!(&back, histogram);
        }
    }
}
