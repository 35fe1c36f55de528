//! A limit for the time that a test takes.

use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Takes the place of every limit: seconds. For runs whose tests are expected to hang, or slowed down by a checker.
const LIMIT_VARIABLE: &str = "TOURBILLON_TEST_SECONDS";

/// Ends the process when it is not dropped in time: a test that hangs fails, and says so.
#[derive(Debug)]
pub struct Deadline {
    _alive: Sender<()>,
}

impl Deadline {
    /// Begins to count.
    ///
    /// # Panics
    /// When no thread can be started.
    pub fn start(limit: Duration) -> Self {
        let told = std::env::var(LIMIT_VARIABLE).ok().and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let limit = told.unwrap_or(limit);
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("a test").to_owned();
        let (alive, watched) = channel::<()>();
        let watch = move || {
            if watched.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                let _ = writeln!(std::io::stderr().lock(), "HUNG: {name} has not ended within {limit:?}");
                std::process::abort();
            }
        };
        std::thread::Builder::new().name("deadline".into()).spawn(watch).expect("a thread for the deadline");
        Self { _alive: alive }
    }
}
