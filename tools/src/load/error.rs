//! Why there is no run to speak of: one variant a cause, with its cure.

use std::path::PathBuf;
use std::time::Duration;

use tourbillon::EngineError;

use super::schedule::Rate;

/// Why a run did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The warm-up is as long as the run.
    #[error(
        "a warm-up of {warmup:?} leaves nothing of {run:?} to measure; choose a longer --duration or less --warmup"
    )]
    WarmupTooLong {
        /// The warm-up.
        warmup: Duration,
        /// The run, or one step of a sweep.
        run: Duration,
    },
    /// There is no message of that size.
    #[error(
        "there is no message with {bytes} bytes; choose --payload {}, {}, {}, or up to {most} by way of the arena", sizes[0],
        sizes[1], sizes[2]
    )]
    NoSuchPayload {
        /// What was asked for.
        bytes: usize,
        /// What there is in frames.
        sizes: [usize; 3],
        /// The most there is at all.
        most: usize,
    },
    /// The intended times of one client are closer together than readings of the clock.
    #[error(
        "{rate} by {clients} client(s) is one message every {interval_ns:.1} ns for each, and the clock of this \
         machine resolves {resolution_ns} ns; the highest rate possible is {highest}: lower --rate or add --clients"
    )]
    RateTooHigh {
        /// What was asked for.
        rate: Rate,
        /// Among so many clients.
        clients: u32,
        /// From one message of a client to its next, nanoseconds.
        interval_ns: f64,
        /// Between two readings of the clock, nanoseconds.
        resolution_ns: u64,
        /// The highest rate possible with so many clients.
        highest: Rate,
    },
    /// The log would have more intervals than there shall be memory for.
    #[error("a log of {intervals} intervals is too long, {most} is the most; choose a longer --hlog-interval")]
    TooManyIntervals {
        /// How many there would be.
        intervals: u64,
        /// How many there may be.
        most: u64,
    },
    /// Too few messages would be measured.
    #[error(
        "{rate} is {messages:.1} message(s) in the {measured:?} that are measured, needed are {least}; raise --rate or \
         choose a longer --duration"
    )]
    RateTooLow {
        /// What was asked for.
        rate: Rate,
        /// Time that is measured.
        measured: Duration,
        /// Messages in it.
        messages: f64,
        /// Least number of them.
        least: u64,
    },
    /// A pause goes past the end of the measured time.
    #[error("the pause {pause} ends after the {measured:?} that are measured; choose a longer --duration")]
    PauseTooLate {
        /// The pause as it was given.
        pause: String,
        /// Time that is measured.
        measured: Duration,
    },
    /// Two pauses overlap.
    #[error("the pauses {first} and {second} overlap; leave time between them")]
    PausesOverlap {
        /// The earlier one.
        first: String,
        /// The later one.
        second: String,
    },
    /// The steps of a sweep would be too short to measure anything.
    #[error(
        "a sweep takes up to {steps} steps of at least {least:?} each; choose --duration {}s or more",
        least.as_secs_f64() * f64::from(*steps)
    )]
    SweepTooShort {
        /// Most steps of a sweep.
        steps: u32,
        /// Shortest step.
        least: Duration,
    },
    /// An expression of `--fail-if` names no field, or is no comparison.
    #[error("--fail-if '{expression}': {why}; the fields of this result are {}", fields.join(", "))]
    BadCheck {
        /// The expression.
        expression: String,
        /// What is wrong with it.
        why: String,
        /// All fields that can be compared.
        fields: Vec<String>,
    },
    /// A file for the result cannot be written.
    #[error("cannot write {option} {}: {source}; choose a file that this user may write", path.display())]
    Output {
        /// The option that names the file.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Two options name one file.
    #[error("{first} and {second} both write {}; choose two files", path.display())]
    OutputTwice {
        /// One option.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Only JSON goes to standard output.
    #[error("{option} writes to a file, `-` is for --json alone; choose a file")]
    NoStandardOutput {
        /// The option.
        option: &'static str,
    },
    /// An option of clients' messages, with a pattern.
    #[error("{option} has no meaning with --pattern, whose messages go from actor to actor inside the engine; {cure}")]
    PatternWith {
        /// The option.
        option: &'static str,
        /// What to do in its place.
        cure: &'static str,
    },
    /// Messages under way, without a pattern.
    #[error(
        "--in-flight is of the messages between actors; name a --pattern, or say --outstanding for those of clients"
    )]
    InFlightWithoutPattern,
    /// A courier would be without the other one of its pair.
    #[error("--pattern pairs takes an even number of couriers; choose --keys {} in place of {keys}", keys + 1)]
    OddPairs {
        /// What was asked for.
        keys: u64,
    },
    /// So many messages could come to be in one mailbox that the largest has no room for them.
    #[error(
        "{in_flight} messages under way may be more than the largest mailbox has room for; choose --in-flight {most} or less, or, for a \
         pattern without a busiest actor, more --shards"
    )]
    TooManyInFlight {
        /// What was asked for.
        in_flight: u64,
        /// The most that there is room for.
        most: u64,
    },
    /// A courier could not be told or asked something.
    #[error("a message to a courier failed: {0}")]
    Courier(String),
    /// A chart could not be drawn.
    #[error("the chart could not be drawn: {0}")]
    Chart(String),
    /// A client's thread panicked.
    #[error("the thread of client {0} panicked; this is a fault of this program")]
    ClientPanicked(usize),
    /// The engine could not be built or used.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A thread, a signal handler or standard output could not be had.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not rounded: what a message names as possible must be possible when it is typed.
        write!(f, "{}/s", self.per_second())
    }
}
