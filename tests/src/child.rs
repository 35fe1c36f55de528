//! Tests in processes of their own: what a stuck handler leaves behind ends with the process.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::bench::{self, Bench, Place, TEST_TIME_MAX};

/// Names the test that a child process is to run.
const CHILD_VARIABLE: &str = "TOURBILLON_TESTS_CHILD";

/// Runs a body in a child process that runs nothing else; `name` is the test's path, crate included.
///
/// # Panics
/// When the child fails or does not end.
pub fn run(place: Place, name: &str, body: fn(&Bench)) {
    if std::env::var(CHILD_VARIABLE).as_deref() == Ok(name) {
        return bench::run(place, body);
    }
    if bench::is_skipped(place) {
        return;
    }
    let _turn = (place == Place::Gpu).then(bench::gpu_turn);
    let test = name.split_once("::").map_or(name, |(_, test)| test);
    let mut child = Command::new(std::env::current_exe().expect("the path of this program"))
        .args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(CHILD_VARIABLE, name)
        .stdin(Stdio::null())
        .spawn()
        .expect("a child process");
    let began = Instant::now();
    let status = loop {
        match child.try_wait().expect("the child's state") {
            Some(status) => break status,
            None if began.elapsed() < TEST_TIME_MAX => std::thread::sleep(Duration::from_millis(5)),
            None => {
                child.kill().expect("the child can be ended");
                panic!("the process of {test} has not ended within {TEST_TIME_MAX:?}");
            }
        }
    };
    assert!(status.success(), "{test} failed in its process: {status}");
}
