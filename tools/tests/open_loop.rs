//! The open loop as its users meet it: response times, files, checks and refusals of the built program.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// No run of these tests is meant to take more than a tenth of it.
const DEADLINE: Duration = Duration::from_secs(90);

fn start(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tourbillon"));
    command.args(["load", "--backend", "cpu"]).args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What the program says; one that hangs is ended, and the test with it.
fn end(mut child: Child) -> Output {
    // Read meanwhile: a pipe holds less than a long report.
    let process = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    let (over, is_over) = std::sync::mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        if is_over.recv_timeout(DEADLINE).is_err() {
            let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
        }
    });
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let errors = std::thread::spawn(move || std::io::read_to_string(stderr).unwrap());
    let text = std::io::read_to_string(stdout).unwrap();
    let status = child.wait().unwrap();
    over.send(()).unwrap();
    guard.join().unwrap();
    Output { status, stdout: text.into_bytes(), stderr: errors.join().unwrap().into_bytes() }
}

fn run(arguments: &[&str]) -> Output {
    end(start(arguments))
}

/// Undoes base 64.
fn decoded(text: &str) -> Vec<u8> {
    const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for letter in text.chars().filter(|&letter| letter != '=') {
        bits = bits << 6 | LETTERS.find(letter).expect("a letter of base 64") as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

/// One line of a histogram log.
#[derive(Debug)]
struct Logged {
    tag: String,
    /// Seconds since the log's base time.
    begin: f64,
    length: f64,
    max_ms: f64,
    count: u64,
}

/// Reads a histogram log as its readers do.
fn read_log(text: &str) -> Vec<Logged> {
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
    IntervalLogIterator::new(text.as_bytes())
        .filter_map(|entry| match entry.expect("a line of the log") {
            LogEntry::Interval(interval) => {
                let bytes = decoded(interval.encoded_histogram());
                let histogram: Histogram<u64> =
                    Deserializer::new().deserialize(&mut bytes.as_slice()).expect("a histogram");
                Some(Logged {
                    tag: interval.tag().expect("a tag").as_str().to_owned(),
                    begin: interval.start_timestamp().as_secs_f64(),
                    length: interval.duration().as_secs_f64(),
                    max_ms: interval.max(),
                    count: histogram.len(),
                })
            }
            _ => None,
        })
        .collect()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The JSON document of a run that went well.
fn result(arguments: &[&str]) -> Value {
    let output = run(&[arguments, &["--json", "-"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", errors(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn figure(result: &Value, pointer: &str) -> f64 {
    result.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {pointer} in {result}"))
}

fn assert_faultless(result: &Value) {
    for fault in ["lost", "duplicated", "out_of_order", "failed"] {
        assert_eq!(result[fault], 0, "{result}");
    }
}

const MS: f64 = 1e6;

#[test]
fn a_pause_of_the_engine_is_counted_in_response_and_leaves_median_service_alone() {
    let found = result(&["--rate", "100000", "--pause-engine", "200ms@1s", "--duration", "3s"]);
    assert_faultless(&found);
    assert_eq!((&found["mode"], figure(&found, "/rate_intended")), (&"open".into(), 100_000.0));
    // All 300,000 were sent: the backlog of the pause afterwards.
    assert_eq!((figure(&found, "/sent"), figure(&found, "/unsent")), (300_000.0, 0.0));
    assert_eq!(figure(&found, "/response_ns/count"), 240_000.0);
    assert!(figure(&found, "/pauses/0/length_s") >= 0.2);
    let (response, service) = (figure(&found, "/response_ns/p99"), figure(&found, "/service_ns/p50"));
    assert!(response >= 100.0 * MS && figure(&found, "/response_ns/max") >= 195.0 * MS, "{found}");
    // Without the pause it is some microseconds; a machine that runs many things at once makes milliseconds of it.
    assert!(service < 50.0 * MS, "{found}");
    // 20,000 were intended in the pause, of which the lane has room for 1,024.
    assert!(figure(&found, "/stalls/count") > 15_000.0, "{found}");
    assert!(figure(&found, "/stalls/total_ns") > 150.0 * MS, "{found}");
}

#[test]
fn every_actor_is_checked_at_a_fixed_rate_split_among_clients() {
    for actor in ["counter", "echo", "account"] {
        let found =
            result(&["--rate", "20k", "--clients", "3", "--actor", actor, "--duration", "500ms", "--keys", "64"]);
        assert_faultless(&found);
        assert_eq!((figure(&found, "/sent"), figure(&found, "/received")), (10_000.0, 10_000.0), "{actor}: {found}");
        assert_eq!(figure(&found, "/response_ns/count"), 8_000.0, "{actor}");
        assert!(figure(&found, "/response_ns/p50") >= figure(&found, "/service_ns/p50"), "{actor}: {found}");
        assert!(found["parameters"]["outstanding"].is_null());
    }
}

#[test]
fn more_than_the_engine_can_do_is_unsent_and_said_so() {
    // No engine of two cores and fewer than a hundred million a second: 2 s beyond the end do not suffice.
    // Without a response time a bound on it is not met.
    let output = run(&["--rate", "8M", "--duration", "4s", "--clients", "2", "--fail-if", "response_p99_ns>1000"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && errors(&output).contains("response_p99_ns>1000"), "{text}{}", errors(&output));
    assert!(text.contains("messages were never sent"), "{text}");
    assert!(text.contains("lost 0   duplicated 0   out of order 0   failed 0"), "{text}");
}

#[test]
fn a_pause_works_in_a_closed_loop_which_hides_it() {
    let found = result(&["--pause-engine", "200ms@300ms", "--duration", "1s"]);
    assert_faultless(&found);
    assert!(figure(&found, "/service_ns/max") >= 190.0 * MS, "{found}");
    assert!(figure(&found, "/service_ns/p99") < 190.0 * MS && found["response_ns"].is_null(), "{found}");
}

#[test]
fn runs_show_their_spread() {
    let found = result(&["--rate", "10k", "--runs", "3", "--duration", "300ms"]);
    assert_faultless(&found);
    assert_eq!(found["runs"].as_array().unwrap().len(), 3);
    assert_eq!(figure(&found, "/sent"), 9_000.0, "counts are those of all runs");
    for name in ["rate_achieved", "response_p50_ns", "response_p99_ns", "service_p99_ns"] {
        let at = |end: &str| figure(&found, &format!("/spread/{name}/{end}"));
        assert!(at("min") > 0.0 && at("min") <= at("median") && at("median") <= at("max"), "{found}");
    }
    assert_eq!(figure(&found, "/spread/runs"), 3.0);
}

#[test]
fn a_sweep_measures_rising_rates_and_draws_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let began = Instant::now();
    let output = run(&[
        "--sweep",
        "--duration",
        "6s",
        "--json",
        &path("json"),
        "--svg",
        &path("svg"),
        "--csv",
        &path("csv"),
        "--hlog",
        &path("hlog"),
        "--hgrm",
        &path("hgrm"),
    ]);
    assert!(output.status.success(), "{}", errors(&output));
    assert!(began.elapsed() < Duration::from_secs(30), "six seconds of steps, twice that at most, and the last step");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let found: Value = serde_json::from_str(&read("json")).unwrap();
    assert_faultless(&found);
    let points = found["points"].as_array().unwrap();
    assert!((2..=30).contains(&points.len()) && points[0]["rate_intended"] == 1_000.0, "{found}");
    assert!(found["ended_by"].is_string() && figure(&found, "/unloaded_response_p99_ns") > 0.0);
    assert_eq!(figure(&found, "/rate_tolerance"), 0.05);
    if !found["rate_intended"].is_null() {
        let is_knee =
            |point: &&Value| point["is_sustained"] == true && point["rate_intended"] == found["rate_intended"];
        let knee = points.iter().find(is_knee).unwrap_or_else(|| panic!("the knee is a sustained step: {found}"));
        assert!(figure(knee, "/rate_achieved") >= 0.95 * figure(knee, "/rate_intended"), "{found}");
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("knee") && text.contains("intended") && text.contains('█'), "{text}");
    assert_eq!(read("csv").lines().count(), points.len() + 1);
    assert_eq!(read("svg").matches("</svg>").count(), 1);
    // Two histograms for each interval of a step, and a step is shorter than one. On a busy machine a step may have measured nothing.
    let measured = points.iter().filter(|point| !point["response_ns"].is_null()).count();
    let lines = read("hlog").lines().filter(|line| line.starts_with("Tag=")).count();
    assert!(lines >= 2 * measured && lines.is_multiple_of(2), "{lines} lines for {measured} steps");
    assert!(read("hgrm").contains("#[Mean"));
}

#[test]
fn histograms_go_into_files_of_other_programs() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for (pace, series) in [(&["--rate", "10k"][..], 2), (&[], 1)] {
        let files = [
            "--duration",
            "300ms",
            "--hgrm",
            &path("hgrm"),
            "--hlog",
            &path("hlog"),
            "--hlog-interval",
            "50ms",
            "--csv",
            &path("csv"),
            "--svg",
            &path("svg"),
        ];
        let found = result(&[pace, &files].concat());
        let count = if series == 2 { "/response_ns/count" } else { "/service_ns/count" };
        let (count, read) = (figure(&found, count), |name: &str| std::fs::read_to_string(path(name)).unwrap());
        let total = format!("Total count    = {:>12}]", count as u64);
        assert!(read("hgrm").contains(&total), "{}", read("hgrm"));
        let logged = read_log(&read("hlog"));
        // 240 ms are measured; a machine that is busy may have none of its last samples.
        assert!(logged.len() >= 3 * series && logged.len().is_multiple_of(series), "{logged:?}");
        let tags = if series == 2 { &["response", "service"][..] } else { &["service"] };
        for (index, entry) in logged.iter().enumerate() {
            assert_eq!(entry.tag, tags[index % series]);
            assert!((entry.begin - (index / series) as f64 * 0.05).abs() < 1e-6, "{entry:?}");
            assert!(entry.length <= 0.05 && (entry.length == 0.05 || index + series >= logged.len()), "{entry:?}");
        }
        for tag in tags {
            let sum: u64 = logged.iter().filter(|entry| entry.tag == *tag).map(|entry| entry.count).sum();
            assert_eq!(sum as f64, count, "{tag}: the intervals add up to the total");
            let max = logged.iter().filter(|entry| entry.tag == *tag).map(|entry| entry.max_ms).fold(0.0, f64::max);
            let expected = figure(&found, &format!("/{tag}_ns/max")) / 1e6;
            // A log has three decimals of a millisecond, which is coarser where all was quick.
            assert!((max - expected).abs() <= 0.002 * expected + 0.0005, "{tag}: {max} ms, {expected} ms");
        }
        let rows = read("csv");
        let sum: f64 = rows.lines().skip(1).map(|row| row.split(',').nth(2).unwrap().parse::<f64>().unwrap()).sum();
        assert_eq!(sum, count * series as f64, "every sample is in the table");
        assert!(read("svg").starts_with("<svg"));
    }
}

#[test]
fn checks_fail_the_run_and_say_which() {
    let arguments = ["--rate", "1k", "--duration", "300ms", "--json", "-"];
    let checks = ["--fail-if", "response_p99_ns>1", "--fail-if", "lost>0", "--fail-if", "sent<=300"];
    let output = run(&[&arguments[..], &checks].concat());
    assert!(!output.status.success());
    let said = errors(&output);
    let failed: Vec<&str> = said.lines().filter(|line| line.starts_with("FAILED: ")).collect();
    assert_eq!(failed.len(), 2, "{said}");
    assert!(failed[0].contains("'response_p99_ns>1'") && failed[1].contains("'sent<=300'"), "{said}");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found["checks"][0]["has_failed"], &found["checks"][1]["has_failed"]), (&true.into(), &false.into()));
    let output = run(&["--rate", "1k", "--duration", "300ms", "--fail-if", "lost>0", "--fail-if", "sent<300"]);
    assert!(output.status.success(), "{}", errors(&output));
}

#[test]
fn what_cannot_be_done_is_refused_with_its_cure_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("no/such/folder/file").display().to_string();
    let both = folder.path().join("both").display().to_string();
    for (arguments, words) in [
        (&["--rate", "900M"][..], &["the highest rate possible is", "--clients"][..]),
        (&["--rate", "900M", "--sweep"], &["the highest rate possible is"]),
        (&["--rate", "0.01", "--duration", "1s"], &["needed are 1", "--duration"]),
        (&["--rate", "10", "--sweep"], &["needed are 100"]),
        (&["--rate", "0"], &["between"]),
        (&["--rate", "quick"], &["100k"]),
        (&["--rate", "1k", "--outstanding", "3"], &["--outstanding", "cannot be used with"]),
        (&["--sweep", "--duration", "1s"], &["--duration 6s"]),
        (&["--sweep", "--runs", "3"], &["cannot be used with"]),
        (&["--runs", "2"], &["spread"]),
        (&["--pause-engine", "200ms"], &["200ms@1s"]),
        (&["--pause-engine", "1s@9s"], &["--duration"]),
        (&["--pause-engine", "1s@1s", "--pause-engine", "1s@1500ms"], &["overlap"]),
        (&["--fail-if", "latency>1"], &["`latency`", "service_p99_ns", "rate_achieved"]),
        (&["--fail-if", "response_p99_ns>1"], &["closed loop", "--rate"]),
        (&["--rate", "1k", "--fail-if", "lost"], &["no comparison", "response_p99_ns"]),
        (&["--json", &nowhere], &["--json", "no/such/folder"]),
        (&["--hgrm", &nowhere], &["--hgrm", "no/such/folder"]),
        (&["--hlog", "x", "--duration", "20s", "--hlog-interval", "1ms"], &["20000", "--hlog-interval"]),
        (&["--hlog", &nowhere], &["--hlog", "no/such/folder"]),
        (&["--csv", &nowhere], &["--csv", "no/such/folder"]),
        (&["--svg", &nowhere, "--sweep"], &["--svg", "no/such/folder"]),
        (&["--svg", "-"], &["--json alone"]),
        (&["--svg", &both, "--csv", &both], &["--csv and --svg both write"]),
    ] {
        let began = Instant::now();
        let output = run(arguments);
        let said = errors(&output);
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{arguments:?} does not say `{word}`: {said}");
        }
        // The shortest of these runs would take its second.
        assert!(began.elapsed() < Duration::from_secs(8), "{arguments:?}");
    }
    assert!(!Path::new(&both).exists());
}

#[test]
fn an_interrupt_of_an_open_loop_prints_what_there_is() {
    let child = start(&["--rate", "1k", "--duration", "60s", "--warmup", "10ms", "--json", "-"]);
    std::thread::sleep(Duration::from_millis(900));
    let process = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    let began = Instant::now();
    let output = end(child);
    assert!(output.status.success() && began.elapsed() < Duration::from_secs(20), "{}", errors(&output));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_faultless(&found);
    assert_eq!(found["interrupted"], true);
    // What was not yet due is not missing.
    assert!(figure(&found, "/received") > 0.0 && figure(&found, "/unsent") <= 500.0, "{found}");
}
