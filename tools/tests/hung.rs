//! An engine whose handler never returns, seen from another process. Alone in its process, because nothing ends that
//! handler.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tourbillon::actors::faulty::{Fault, Trigger};
use tourbillon::{Backend, Engine};

#[test]
fn top_calls_a_hung_engine_silent() {
    let engine = Engine::builder().backend(Backend::Cpu).cpu_threads(1).build().unwrap();
    let mut client = engine.client().unwrap();
    client.set_timeout(Some(Duration::from_millis(200)));
    assert!(client.call(1, Trigger { fault: Fault::EndlessLoop, argument: 0 }).is_err());
    let output = Command::new(env!("CARGO_BIN_EXE_tourbillon")).args(["top", "--once", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let engines = found["engines"].as_array().unwrap();
    let hung = engines.iter().find(|engine| engine["process"] == std::process::id()).unwrap();
    assert_eq!((&hung["state"], &hung["mode"]), (&Value::from("silent"), &Value::from("active")), "{hung}");
    assert_eq!(hung["is_beating"], false);
}
