//! Tables made by the program as its users meet it.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Map;
use tourbillon_benches::results::{Figure, Results};

fn render(results: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latency"));
    command.arg("render").arg(results).stdin(Stdio::null());
    command
}

#[test]
fn a_table_is_printed_and_a_reader_that_has_gone_is_told_as_such() {
    let path = std::env::temp_dir().join(format!("tourbillon-render-{}.json", std::process::id()));
    let mut results = Results::new(Map::new(), "abc");
    results.add("rtt_64b_p50", Figure::once(2_600.0), "ns", None);
    results.write(Some(&path)).unwrap();
    let whole = render(&path).output().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let gone = render(&path).stdout(writer).output().unwrap();
    std::fs::remove_file(&path).unwrap();

    let table = String::from_utf8(whole.stdout).unwrap();
    assert!(whole.status.success() && table.contains("2.60 us"), "{table}");
    let said = String::from_utf8(gone.stderr).unwrap();
    assert_eq!(gone.status.code(), Some(1), "{said}");
    assert!(said.contains("standard output"), "{said}");
}
