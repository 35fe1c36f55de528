//! The program as its users meet it.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tourbillon::{Backend, Engine};

fn tourbillon(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tourbillon"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    tourbillon(arguments).output().unwrap()
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

#[test]
fn load_writes_nothing_but_json_to_standard_output() {
    for actor in ["counter", "echo", "account"] {
        let arguments = ["load", "--backend", "cpu", "--duration", "300ms", "--actor", actor, "--json", "-"];
        let output = run(&arguments);
        assert!(output.status.success(), "{actor}: {}", String::from_utf8_lossy(&output.stderr));
        let found = json(&output);
        assert_eq!((&found["backend"], &found["mode"]), (&Value::from("cpu"), &Value::from("closed")), "{actor}");
        for fault in ["lost", "duplicated", "out_of_order", "failed"] {
            assert_eq!(found[fault], 0, "{actor}: {found}");
        }
        assert!(found["received"].as_u64().unwrap() > 0 && found["sent"] == found["received"], "{actor}: {found}");
        assert!(found["service_ns"]["p50"].as_u64().unwrap() > 0, "{actor}: {found}");
    }
}

#[test]
fn payloads_larger_than_a_frame_come_back_as_they_went() {
    for payload in ["353", "70001", "1048576"] {
        let options = ["--duration", "400ms", "--actor", "echo", "--payload", payload, "--keys", "16", "--json", "-"];
        let output = run(&[&["load", "--backend", "cpu"][..], &options].concat());
        assert!(output.status.success(), "{payload}: {}", String::from_utf8_lossy(&output.stderr));
        let found = json(&output);
        for fault in ["lost", "duplicated", "out_of_order", "failed"] {
            assert_eq!(found[fault], 0, "{payload}: {found}");
        }
        assert!(found["received"].as_u64().unwrap() > 0 && found["sent"] == found["received"], "{payload}: {found}");
        assert_eq!(found["parameters"]["payload_bytes"].to_string(), payload);
    }
}

#[test]
fn more_clients_than_cores_and_senders_are_served() {
    let options = ["--duration", "500ms", "--clients", "30", "--keys", "16", "--distribution", "zipf", "--json", "-"];
    let output = run(&[&["load", "--backend", "cpu"][..], &options].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = json(&output);
    // 30 clients in groups of 14 senders: three groups of counters.
    assert_eq!(found["audited_keys"], 48, "{found}");
}

#[test]
fn load_without_a_place_for_its_options_explains_itself() {
    for (arguments, word) in [
        (&["load", "--warmup", "20s"][..], "warm-up"),
        (&["load", "--actor", "echo", "--payload", "17"], "17"),
        (&["load", "--actor", "echo", "--payload", "1048577"], "1048576"),
        (&["load", "--shards", "0"], "shards"),
        (&["load", "--backend", "abacus"], "abacus"),
    ] {
        let output = run(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(word), "{arguments:?}: {text}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_choice_of_logs_that_is_none_is_refused_with_its_cure() {
    for bad in ["tourbillon=loud", "=", "a=b=c"] {
        let output = tourbillon(&["top", "--once"]).env("TOURBILLON_LOG", bad).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && output.stdout.is_empty(), "{bad}");
        assert!(text.contains(&format!("TOURBILLON_LOG={bad}")) && text.contains("tourbillon=debug"), "{text}");
    }
    for good in ["debug", "tourbillon=debug", "warn,tourbillon=info", ""] {
        let output = tourbillon(&["top", "--once"]).env("TOURBILLON_LOG", good).output().unwrap();
        assert!(output.status.success(), "{good}");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_prints_what_there_is() {
    let arguments = ["load", "--backend", "cpu", "--duration", "60s", "--warmup", "10ms", "--json", "-"];
    let child = tourbillon(&arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    let begin = Instant::now();
    let process = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && begin.elapsed() < Duration::from_secs(20));
    let found = json(&output);
    assert_eq!(found["interrupted"], true);
    assert!(found["received"].as_u64().unwrap() > 0);
}

#[test]
fn doctor_says_which_backend_and_why() {
    let output = run(&["doctor", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = json(&output);
    assert!(found["engine"]["answers"] == true && found["engine"]["because"].is_string(), "{found}");
    assert!(found["engine"]["memory_bytes"].as_u64().unwrap() > 0);
    let text = run(&["doctor"]).stdout;
    assert!(String::from_utf8_lossy(&text).contains("engine"));
}

/// The view of this process's engine from another process.
fn top_of_this_process() -> Option<Value> {
    let output = run(&["top", "--once", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = json(&output);
    let engines = found["engines"].as_array().unwrap();
    engines.iter().find(|engine| engine["process"] == std::process::id()).cloned()
}

#[test]
fn top_sees_an_engine_of_another_process_active_paused_and_gone() {
    let engine = Engine::builder().backend(Backend::Cpu).cpu_threads(1).build().unwrap();
    let active = top_of_this_process().unwrap();
    assert_eq!((&active["state"], &active["is_beating"]), (&Value::from("active"), &Value::from(true)));
    engine.pause().unwrap();
    let paused = top_of_this_process().unwrap();
    assert_eq!((&paused["state"], &paused["is_beating"]), (&Value::from("paused"), &Value::from(true)));
    assert!(paused["heartbeat"].as_u64() > active["heartbeat"].as_u64());
    drop(engine);
    assert_eq!(top_of_this_process(), None);
}
