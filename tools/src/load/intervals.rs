//! The samples of a run by the time at which they were taken, for the log of HdrHistogram.
//!
//! Each client fills the histograms of the interval that it is in and hands them over at its end; the thread that watches the run
//! adds up those of all clients. So a client pays for a comparison a sample and a handful of pointers an interval, and nothing
//! without `--hlog`.
//!
//! # Memory
//! A histogram has some 220 KiB. A client has two of them, those that are being filled; four intervals are kept as two each (`OPEN_MAX`);
//! older ones are compressed, a few KiB each, and opened again for a client that comes late. A run has at most
//! [`INTERVALS_MAX`] intervals.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

use crate::latency::new_histogram;

/// Most intervals of all runs together: nearly three hours at one a second, some tens of MiB.
pub const INTERVALS_MAX: u64 = 10_000;
/// Intervals that are not compressed: the clients' ends of an interval are hardly ever further apart, and then it costs time alone.
const OPEN_MAX: usize = 4;

/// Samples of one interval.
#[derive(Clone, Debug)]
struct Slice {
    index: u64,
    service: Histogram<u64>,
    response: Histogram<u64>,
}

impl Slice {
    fn new(index: u64) -> Self {
        Self { index, service: new_histogram(), response: new_histogram() }
    }

    fn is_empty(&self) -> bool {
        self.service.is_empty() && self.response.is_empty()
    }

    /// Adds another one's samples; those have the same bounds, so the sums always fit.
    fn add(&mut self, other: &Self) {
        let _ = self.service.add(&other.service);
        let _ = self.response.add(&other.response);
    }
}

/// A histogram in little room.
#[derive(Clone, Debug)]
pub struct Packed {
    bytes: Vec<u8>,
}

impl Packed {
    /// Packs a histogram.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let mut bytes = Vec::new();
        // A vector takes everything, and counts of 64 bits are what the format has.
        let written = V2DeflateSerializer::new().serialize(histogram, &mut bytes);
        debug_assert!(written.is_ok(), "{written:?}");
        Self { bytes }
    }

    /// The histogram.
    ///
    /// # Errors
    /// That the bytes are none, which cannot be.
    pub fn open(&self) -> std::io::Result<Histogram<u64>> {
        Deserializer::new().deserialize(&mut self.bytes.as_slice()).map_err(std::io::Error::other)
    }
}

/// What was sampled in one interval.
#[derive(Clone, Debug)]
pub struct Interval {
    /// Its begin, from that of the measured time.
    pub begin: Duration,
    /// Its length.
    pub length: Duration,
    /// Service times.
    pub service: Packed,
    /// Response times; none in a closed loop.
    pub response: Packed,
}

/// Where clients hand their samples over; shared by all of them.
#[derive(Clone, Debug)]
pub struct Sink {
    sender: Sender<Slice>,
    /// Empty histograms, so that a client need not ask the system for memory while it measures.
    spare: Arc<Mutex<Vec<Slice>>>,
    /// Begin of the first interval, nanoseconds since the start of the run.
    from_ns: u64,
    interval_ns: u64,
}

impl Sink {
    /// What one client fills.
    pub fn recorder(&self) -> Recorder {
        let until_ns = self.from_ns.saturating_add(self.interval_ns);
        Recorder { sink: self.clone(), slice: Slice::new(0), until_ns }
    }
}

/// The interval that one client is in. Times of samples never go back.
#[derive(Clone, Debug)]
pub struct Recorder {
    sink: Sink,
    slice: Slice,
    /// End of the interval.
    until_ns: u64,
}

impl Recorder {
    /// Takes a sample of a service time, and of a response time where there is one, at `now_ns` since the start of the run.
    #[inline]
    pub fn record(&mut self, now_ns: u64, service_ns: u64, response_ns: Option<u64>) {
        if now_ns >= self.until_ns {
            self.go_on(now_ns);
        }
        self.slice.service.saturating_record(service_ns);
        if let Some(response_ns) = response_ns {
            self.slice.response.saturating_record(response_ns);
        }
    }

    /// Hands over what there is and begins the interval of `now_ns`.
    #[cold]
    fn go_on(&mut self, now_ns: u64) {
        let Sink { from_ns, interval_ns, .. } = self.sink;
        let index = now_ns.saturating_sub(from_ns) / interval_ns;
        self.until_ns = from_ns.saturating_add((index + 1).saturating_mul(interval_ns));
        if self.slice.is_empty() {
            self.slice.index = index;
            return;
        }
        let spare = self.sink.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let next = spare.map_or_else(|| Slice::new(index), |spare| Slice { index, ..spare });
        self.hand_over(next);
    }

    fn hand_over(&mut self, next: Slice) {
        // Whoever watched the run is gone: nobody asks for samples any longer.
        let _ = self.sink.sender.send(std::mem::replace(&mut self.slice, next));
    }

    /// Hands over the last samples.
    pub fn finish(mut self) {
        if !self.slice.is_empty() {
            self.hand_over(Slice::new(0));
        }
    }
}

/// Adds up what all clients hand over.
#[derive(Debug)]
pub struct Log {
    receiver: Receiver<Slice>,
    sink: Sink,
    open: BTreeMap<u64, Slice>,
    packed: BTreeMap<u64, (Packed, Packed)>,
}

impl Log {
    /// A log whose first interval begins at `from` since the start of the run.
    pub fn new(from: Duration, interval: Duration) -> Self {
        let (sender, receiver) = channel();
        let (from_ns, interval_ns) = (from.as_nanos() as u64, (interval.as_nanos() as u64).max(1));
        let sink = Sink { sender, spare: Arc::default(), from_ns, interval_ns };
        Self { receiver, sink, open: BTreeMap::new(), packed: BTreeMap::new() }
    }

    /// For the clients.
    pub fn sink(&self) -> Sink {
        self.sink.clone()
    }

    /// Adds up what was handed over since.
    ///
    /// # Errors
    /// As [`Packed::open`].
    pub fn gather(&mut self) -> std::io::Result<()> {
        while let Ok(mut slice) = self.receiver.try_recv() {
            self.take(&slice)?;
            slice.service.reset();
            slice.response.reset();
            self.sink.spare.lock().unwrap_or_else(PoisonError::into_inner).push(slice);
        }
        Ok(())
    }

    fn take(&mut self, slice: &Slice) -> std::io::Result<()> {
        let index = slice.index;
        if let Some((service, response)) = self.packed.get_mut(&index) {
            let mut whole = Slice { index, service: service.open()?, response: response.open()? };
            whole.add(slice);
            (*service, *response) = (Packed::of(&whole.service), Packed::of(&whole.response));
            return Ok(());
        }
        self.open.entry(index).or_insert_with(|| Slice::new(index)).add(slice);
        while self.open.len() > OPEN_MAX
            && let Some((index, oldest)) = self.open.pop_first()
        {
            self.packed.insert(index, (Packed::of(&oldest.service), Packed::of(&oldest.response)));
        }
        Ok(())
    }

    /// All intervals, from the first to the last with a sample, those without one between them included. When nothing is sampled
    /// after `end`, counted from the begin of the first, the last one is no longer than until then.
    ///
    /// # Errors
    /// As [`Packed::open`].
    pub fn finish(mut self, end: Option<Duration>) -> std::io::Result<Vec<Interval>> {
        self.gather()?;
        let open = std::mem::take(&mut self.open);
        self.packed.extend(
            open.into_iter().map(|(index, slice)| (index, (Packed::of(&slice.service), Packed::of(&slice.response)))),
        );
        let interval = Duration::from_nanos(self.sink.interval_ns);
        let Some(&last) = self.packed.keys().next_back() else { return Ok(Vec::new()) };
        let nothing = Packed::of(&new_histogram());
        let all = (0..=last).map(|index| {
            let (service, response) = self.packed.remove(&index).unwrap_or_else(|| (nothing.clone(), nothing.clone()));
            let begin = Duration::from_nanos(index.saturating_mul(self.sink.interval_ns));
            // A reply that was taken just after the end is one of the last interval's too.
            let left = end.map_or(interval, |end| end.saturating_sub(begin));
            Interval { begin, length: left.min(interval), service, response }
        });
        Ok(all.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn log() -> Log {
        Log::new(Duration::from_secs(1), Duration::from_secs(1))
    }

    #[test]
    fn samples_stand_in_the_interval_of_their_time() {
        let log = log();
        let mut recorder = log.sink().recorder();
        for (at, value) in [(SECOND, 1), (2 * SECOND - 1, 2), (2 * SECOND, 3), (5 * SECOND + 5, 4), (5 * SECOND + 6, 5)]
        {
            recorder.record(at, value, Some(value + 100));
        }
        recorder.finish();
        let intervals = log.finish(Some(Duration::from_millis(4_250))).unwrap();
        let found: Vec<_> = intervals
            .iter()
            .map(|interval| {
                let (service, response) = (interval.service.open().unwrap(), interval.response.open().unwrap());
                assert_eq!(service.len(), response.len());
                assert!(service.is_empty() || response.max() == service.max() + 100);
                (interval.begin.as_secs(), interval.length.as_millis(), service.len(), service.max())
            })
            .collect();
        let expected = [(0, 1_000, 2, 2), (1, 1_000, 1, 3), (2, 1_000, 0, 0), (3, 1_000, 0, 0), (4, 250, 2, 5)];
        assert_eq!(found, expected);
    }

    /// Clients at different speeds, one far behind: nothing is lost, and little is held at a time.
    #[test]
    fn intervals_add_up_to_the_total_and_few_are_open() {
        let mut log = log();
        let mut recorders: Vec<Recorder> = (0..3).map(|_| log.sink().recorder()).collect();
        let mut total = new_histogram();
        for second in 0..50 {
            for (client, recorder) in recorders.iter_mut().enumerate() {
                // The last one comes when the others are through.
                if client == 2 && second < 49 {
                    continue;
                }
                let seconds = if client == 2 { 0..50 } else { second..second + 1 };
                for at in seconds {
                    for i in 0..20 {
                        let value = (at + 1) * 1_000 + i * 77 + client as u64;
                        total.saturating_record(value);
                        recorder.record((at + 1) * SECOND + i, value, None);
                    }
                }
            }
            log.gather().unwrap();
            assert!(log.open.len() <= OPEN_MAX);
            assert!(log.sink.spare.lock().unwrap().len() <= 60, "histograms are used again");
        }
        recorders.into_iter().for_each(Recorder::finish);
        let intervals = log.finish(None).unwrap();
        assert_eq!(intervals.len(), 50);
        let mut sum = new_histogram();
        for interval in &intervals {
            let service = interval.service.open().unwrap();
            assert_eq!((service.len(), interval.response.open().unwrap().len()), (60, 0));
            sum.add(service).unwrap();
        }
        assert_eq!(sum, total);
    }
}
