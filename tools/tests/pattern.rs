//! `tourbillon load --pattern` as its users meet it.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn load(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tourbillon"));
    command.args(["load", "--backend", "cpu"]).args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    load(arguments).output().unwrap()
}

fn json(output: &Output) -> Value {
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text} {errors}"))
}

fn number(found: &Value, field: &str) -> u64 {
    found[field].as_u64().unwrap_or_else(|| panic!("no number {field} in {found}"))
}

/// Nothing was lost or doubled, by messages, by letters and by slots.
fn check_sums(found: &Value) {
    for field in ["lost", "duplicated", "failed", "shards_unsettled"] {
        assert_eq!(number(found, field), 0, "{found}");
    }
    assert_eq!(number(found, "ended"), number(found, "in_flight"), "{found}");
    assert_eq!(number(found, "letters_sent"), number(found, "letters_received"), "{found}");
    let shards = found["shards"].as_array().unwrap();
    assert!(shards.iter().all(|shard| shard["slots_put"] == shard["slots_taken"] && shard["waiting"] == 0), "{found}");
    let sent: u64 = shards.iter().map(|shard| number(shard, "sent")).sum();
    assert_eq!(sent, number(found, "letters_sent"), "{found}");
    // Each message came first from the client, and the letters are more by those of the broadcasts.
    assert!(number(found, "received") - number(found, "in_flight") < sent, "{found}");
    let counted: u64 = found["steps"].as_array().unwrap().iter().map(|step| number(step, "count")).sum();
    assert_eq!(counted, number(&found["hop_ns"], "count"), "{found}");
}

#[test]
fn all_patterns_run_and_lose_nothing() {
    for pattern in ["ring", "pairs", "random", "tree"] {
        let options =
            ["--pattern", pattern, "--keys", "300", "--in-flight", "70", "--duration", "400ms", "--json", "-"];
        let output = run(&options);
        assert!(output.status.success(), "{pattern}: {}", String::from_utf8_lossy(&output.stderr));
        let found = json(&output);
        assert_eq!((&found["mode"], &found["pattern"]), (&Value::from("pattern"), &Value::from(pattern)));
        assert_eq!((number(&found, "keys"), number(&found, "in_flight")), (300, 70));
        check_sums(&found);
        assert!(number(&found, "hops") > 0 && found["hops_per_s"].as_f64().unwrap() > 0.0, "{found}");
        // Since the warm-up, so fewer than came in all.
        let count = number(&found["hop_ns"], "count");
        assert!(count > 0 && count < number(&found, "received"), "{found}");
        assert_eq!(found["interrupted"], false);
    }
}

#[test]
fn the_fewest_couriers_carry_the_most_messages() {
    for arguments in [
        &["--pattern", "ring", "--keys", "1", "--in-flight", "1000"][..],
        &["--pattern", "pairs", "--actors", "2", "--in-flight", "3000"],
        &["--pattern", "tree", "--keys", "2", "--in-flight", "24000"],
        &["--pattern", "random", "--keys", "5000", "--in-flight", "20000", "--shards", "7"],
    ] {
        let output = run(&[arguments, &["--duration", "300ms", "--json", "-"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        let found = json(&output);
        check_sums(&found);
        assert_eq!(number(&found, "in_flight").to_string(), arguments[5], "{arguments:?}");
    }
}

#[test]
fn people_get_a_rate_and_a_histogram() {
    let output = run(&["--pattern", "ring", "--duration", "300ms"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    for word in ["ring, 1024 couriers", "each of 1,024 has ended once", "hops in", "50 %", "###"] {
        assert!(text.contains(word), "no `{word}` in {text}");
    }
}

#[test]
fn what_does_not_go_together_is_refused_with_its_cure() {
    for (arguments, words) in [
        (&["--in-flight", "5"][..], ["--pattern", "--outstanding"]),
        (&["--pattern", "ring", "--rate", "1000"], ["--rate", "leave it out"]),
        (&["--pattern", "ring", "--outstanding", "4"], ["--outstanding", "--in-flight"]),
        (&["--pattern", "ring", "--hgrm", "x"], ["--hgrm", "--json"]),
        (&["--pattern", "pairs", "--keys", "9"], ["even", "--keys 10"]),
        (&["--pattern", "tree", "--in-flight", "1000000"], ["1000000", "--in-flight 24512"]),
        (&["--pattern", "ring", "--warmup", "20s"], ["warm-up", "--duration"]),
        (&["--pattern", "ring", "--fail-if", "nonsense>1"], ["nonsense", "hops_per_s"]),
        (&["--pattern", "star"], ["star", "pairs"]),
        (&["--pattern", "ring", "--shards", "0"], ["shards", "0"]),
    ] {
        let output = run(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
        assert!(words.iter().all(|word| text.contains(word)), "{arguments:?}: {text}");
    }
}

#[test]
fn a_check_that_fails_fails_the_run() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("result.json");
    let options =
        ["--pattern", "random", "--duration", "300ms", "--quiet", "--fail-if", "hops>0", "--fail-if", "lost>0"];
    let output = load(&options).arg("--json").arg(&path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && output.stdout.is_empty() && text.contains("--fail-if 'hops>0'"), "{text}");
    assert!(!text.contains("FAULTY") && !text.contains("lost>0"), "{text}");
    let found: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(
        (&found["checks"][0]["has_failed"], &found["checks"][1]["has_failed"]),
        (&Value::from(true), &Value::from(false))
    );
    check_sums(&found);
}

#[cfg(unix)]
#[test]
fn an_interrupt_prints_what_there_is() {
    for (warmup, is_measured) in [("10ms", true), ("50s", false)] {
        let options = ["--pattern", "random", "--duration", "60s", "--warmup", warmup, "--json", "-"];
        let child = load(&options).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(700));
        let begin = Instant::now();
        let process = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
        rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && begin.elapsed() < Duration::from_secs(20), "{warmup}");
        let found = json(&output);
        assert_eq!(
            (&found["interrupted"], found["hops_per_s"].is_number()),
            (&Value::from(true), is_measured),
            "{found}"
        );
        check_sums(&found);
    }
}
