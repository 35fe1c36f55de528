//! README's table, from results files.

use std::fmt::Write as _;
use std::path::PathBuf;

use tourbillon_benches::results::{Entry, Results, human};

/// What a result is called in the table; those that are not here are left out.
const NAMES: [(&str, &str); 53] = [
    ("rtt_64b_p50", "call to an actor and back, median"),
    ("rtt_64b_p99", "call to an actor and back, 99 %"),
    ("rtt_async_64b_p50", "the same through a gateway, awaited, median; beside it the call"),
    ("rtt_async_64b_p99", "the same, 99 %; beside it the call"),
    ("rtt_async_spin_64b_p50", "the same with polls that look for 6 us, median; beside it the call"),
    ("rtt_async_spin_64b_p99", "the same, 99 %; beside it the call"),
    ("floor_direct_p50", "bare ping-pong, one block, median"),
    ("floor_gate_p50", "bare ping-pong through a gate, median"),
    ("launch_sync_p50", "empty kernel launch and wait, median"),
    ("offload_copy_launch_p50", "copy in, launch, copy out, wait, median"),
    ("graph_launch_p50", "the same as a CUDA graph, median"),
    ("throughput_64b", "checked replies a second"),
    ("messages_in_launch", "messages answered in one launch"),
    ("launches", "launches meanwhile"),
    ("state_copies", "copies of actor state meanwhile"),
    ("state_copies_control", "copies of actor state when it is read back"),
    ("rtt_64b_p90", "call to an actor and back, 90 %"),
    ("hlc_update_ns", "timestamp of a message in a batch of 32"),
    ("hlc_update_single_ns", "timestamp of a message that comes alone"),
    ("litmus_rounds", "litmus tests: rounds observed"),
    ("litmus_forbidden", "litmus tests: forbidden outcomes"),
    ("litmus_control_forbidden", "the same without fence or order, as a control"),
    ("fence_sys_ns", "fence, system scope"),
    ("fence_gpu_ns", "fence, device scope"),
    ("store_fence_sys_ns", "store to host memory and fence"),
    ("store_fence_gpu_ns", "store to device memory and fence"),
    ("load_relaxed_gpu_ns", "load from device memory, relaxed"),
    ("load_acquire_gpu_ns", "load from device memory, acquire"),
    ("store_release_gpu_ns", "store to device memory, release"),
    ("load_relaxed_sys_ns", "load from host memory, relaxed"),
    ("load_acquire_sys_ns", "load from host memory, acquire"),
    ("store_release_sys_ns", "store to host memory, release"),
    ("jit_ms", "compiling the kernels, without the driver's cache"),
    ("registers_per_thread", "registers of a thread of the ring kernel"),
    ("activation_p50", "first message to an actor and back, median; beside it the call"),
    ("activations_per_s", "first messages to actors a second"),
    ("fetch_p50", "call to an actor that is with a store in memory, median; beside it the call"),
    ("throughput_1mib_bytes_per_s", "payloads of 1 MiB to an actor and back, compared"),
    ("floor_copy_bytes_per_s", "bare copies of 1 MiB there and back"),
    ("rtt_and_rate_continuous_depth_1", "continuous, one message in flight"),
    ("rtt_and_rate_batch_depth_1", "batch of 20 us, one message in flight"),
    ("rtt_and_rate_adaptive_depth_1", "adaptive, one message in flight"),
    ("rtt_and_rate_continuous_depth_4096", "continuous, 4,096 in flight"),
    ("rtt_and_rate_batch_depth_4096", "batch of 20 us, 4,096 in flight"),
    ("rtt_and_rate_adaptive_depth_4096", "adaptive, 4,096 in flight"),
    ("floor_hop_ns", "bare hop of 16 bytes between two blocks"),
    ("hop_cross_shard_p50", "hop from actor to actor of another shard, median"),
    ("hop_same_shard_p50", "hop from actor to actor of the same shard, median"),
    ("device_messages_per_s_uniform", "messages between a million actors, evenly, 131,072 under way"),
    ("device_messages_per_s_zipf", "the same, skewed, 4,096 under way"),
    ("topic_messages_per_s", "messages of seven topics, beside one whose client reads"),
    ("topic_messages_per_s_stalled_drop", "the same, its client has stopped and loses; beside it the reading one"),
    ("topic_messages_per_s_stalled_refuse", "the same, its client has stopped and refuses; beside it the reading one"),
];

/// The lines between these two in a file are replaced by `--into`.
pub const MARKS: [&str; 2] = ["<!-- results: begin -->", "<!-- results: end -->"];

/// The tables of these files.
///
/// # Errors
/// A file cannot be read or is no results file; the text names it.
pub fn tables(paths: &[PathBuf]) -> Result<String, String> {
    let mut text = String::new();
    for path in paths {
        let results = Results::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let _ = writeln!(text, "{}", table(&results));
    }
    Ok(text)
}

fn table(results: &Results) -> String {
    let env = |key: &str| results.env.get(key).and_then(|value| value.as_str()).unwrap_or("none").to_owned();
    let mut text = format!(
        "GPU: {}; driver: {}; CPU: {}; commit {}\n\n\
         | | median of the runs | least to greatest | bare floor |\n| --- | --- | --- | --- |\n",
        env("gpu"),
        env("driver"),
        env("cpu"),
        results.commit
    );
    for (id, name) in NAMES {
        let Some(entry) = results.get(id) else { continue };
        let floor = entry.floor.map_or_else(
            || "–".to_owned(),
            |floor| format!("{} ({:.2} x)", human(floor, &entry.unit), entry.value / floor),
        );
        let rtt = entry.rtt_ns.map_or_else(String::new, |rtt| {
            format!("; there and back {}, 99 % {}", human(rtt.p50, "ns"), human(rtt.p99, "ns"))
        });
        let value = human(entry.value, &entry.unit);
        let _ = writeln!(text, "| {name} | {value}{rtt} | {} | {floor} |", spread(entry));
    }
    text
}

fn spread(entry: &Entry) -> String {
    if entry.runs < 2 {
        return "once".into();
    }
    format!("{} to {} ({} runs)", human(entry.spread[0], &entry.unit), human(entry.spread[1], &entry.unit), entry.runs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, Value};
    use tourbillon_benches::results::{Figure, Rtt};

    fn results() -> Results {
        let mut results = Results::new(Map::from_iter([("gpu".to_owned(), Value::from("A GPU"))]), "abc123");
        results.add("rtt_64b_p50", Figure::median_of(&[2_500.0, 2_600.0, 2_700.0]), "ns", Some(2_000.0));
        results.add("throughput_64b", Figure::once(25_000_000.0), "1/s", None);
        let rtt = Rtt { p50: 140_000.0, p99: 200_000.0 };
        results.add_rate("rtt_and_rate_batch_depth_4096", Figure::once(26_000_000.0), rtt, None);
        results
    }

    #[test]
    fn tables_show_value_spread_and_floor() {
        let text = table(&results());
        assert!(text.contains("GPU: A GPU") && text.contains("commit abc123"));
        assert!(text.contains("| 2.60 us | 2.50 us to 2.70 us (3 runs) | 2.00 us (1.30 x) |"), "{text}");
        assert!(text.contains("| 25.00 M/s | once | – |"), "{text}");
        assert!(text.contains("| 26.00 M/s; there and back 140.00 us, 99 % 200.00 us | once | – |"), "{text}");
    }

    #[test]
    fn files_that_are_no_results_are_named() {
        let error = tables(&[PathBuf::from("no-such-file.json")]).unwrap_err();
        assert!(error.contains("no-such-file.json"));
    }
}
