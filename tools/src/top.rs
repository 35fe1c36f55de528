//! `tourbillon top`: the telemetry pages of the engines that run on this machine.
//!
//! Everything here is read from pages that the engines' device loops write; nothing is asked of the engines, so
//! this works while one is paused or hangs.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tourbillon::{RunningEngine, running_engines};
use tourbillon_shared::control::Mode;
use tourbillon_shared::telemetry::{Counter, LATENCY_BUCKETS, TelemetryPage, latency_quantile};

use crate::latency::{human_count, human_ns, human_rate};

/// Time between the two readings of a page: some beats of the slowest loop, which beats at least each second.
const BETWEEN: Duration = Duration::from_millis(1_200);

/// `tourbillon top`: what the engines of this machine do.
#[derive(Clone, Debug, Args)]
pub struct TopOptions {
    /// Read once, print and end.
    #[arg(long, required = true)]
    pub once: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// One engine, from two readings of its page.
#[derive(Clone, Debug, Serialize)]
pub struct EngineView {
    /// Process of the engine.
    pub process: u32,
    /// `cuda`, `cpu` or `simt`.
    pub backend: &'static str,
    /// Name of its device.
    pub device: String,
    /// `resident`, `active`, `paused`, `draining`, `stopped`, or `silent` when the device loop did not beat.
    pub state: String,
    /// The mode that the host commanded last.
    pub mode: String,
    /// Whether the device loop beat between the two readings.
    pub is_beating: bool,
    /// The heartbeat.
    pub heartbeat: u64,
    /// Time since the engine was built, seconds.
    pub uptime_s: f64,
    /// Launches of the ring kernel.
    pub launches: u64,
    /// Shards.
    pub shards: u32,
    /// Lanes.
    pub lanes: u32,
    /// Warps of the engine.
    pub warps: u32,
    /// Warps that still run.
    pub warps_running: u64,
    /// Messages answered.
    pub processed: u64,
    /// Answered with a failure.
    pub failed: u64,
    /// Handlers that panicked.
    pub panicked: u64,
    /// Thrown away unanswered.
    pub dropped: u64,
    /// Taken from lanes and not yet answered.
    pub queue_depth: u64,
    /// Actors activated.
    pub activated: u64,
    /// Actors that left for the store.
    pub evicted: u64,
    /// Actors that came back from it.
    pub fetched: u64,
    /// Messages that wait for actors that come or go.
    pub waiting: u64,
    /// Actors that the store failed to bring.
    pub fetch_failures: u64,
    /// Actors that the store failed to keep.
    pub evict_failures: u64,
    /// Searches for an actor to evict that passed over one that is too large.
    pub too_large_to_evict: u64,
    /// Messages that came after their deadline.
    pub expired: u64,
    /// Messages whose id was known, not run again.
    pub duplicates: u64,
    /// Messages that expected another version of their actor.
    pub stale_versions: u64,
    /// Messages that could not be delivered and were kept.
    pub dead_letters: u64,
    /// Those for which there was no room.
    pub dead_letters_dropped: u64,
    /// Answers a second, between the readings.
    pub rate: f64,
    /// Share of the warps' time spent on turns with messages, 0 to 1, between the readings.
    pub busy_share: f64,
    /// Number of the last failure; 0 when there was none.
    pub last_failure: u64,
    /// Copies of actor state between host and device.
    pub state_copies: u64,
    /// Latency on the device since the engine was built: the upper bound of a power-of-two bucket, nanoseconds.
    pub latency_ns: Quantiles,
}

/// Upper bounds of buckets, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    /// Median.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
}

/// Runs the command.
///
/// # Errors
/// The pages could not be listed, or the output not be written.
pub fn run(options: &TopOptions) -> std::io::Result<()> {
    let engines = running_engines()?;
    let earlier: Vec<TelemetryPage> = engines.iter().map(RunningEngine::read).collect();
    if !engines.is_empty() {
        std::thread::sleep(BETWEEN);
    }
    let views: Vec<EngineView> = engines
        .iter()
        .zip(&earlier)
        .filter(|(engine, _)| engine.is_alive())
        .map(|(engine, earlier)| view(earlier, &engine.read(), unix_ns()))
        .collect();
    let mut out = std::io::stdout().lock();
    if options.json {
        let text = serde_json::to_string_pretty(&serde_json::json!({ "engines": views }))?;
        return writeln!(out, "{text}");
    }
    if views.is_empty() {
        return writeln!(out, "no engine runs on this machine (of those whose pages this user may read)");
    }
    views.iter().try_for_each(|view| writeln!(out, "{}", text(view)))
}

/// What two readings of one page say, the later at `now_unix_ns`.
pub fn view(earlier: &TelemetryPage, later: &TelemetryPage, now_unix_ns: u64) -> EngineView {
    let (host, status) = (&later.host, &later.status);
    let count = |counter: Counter| later.counters[counter as usize];
    let grown = |counter: Counter| count(counter).saturating_sub(earlier.counters[counter as usize]);
    let mode = Mode::from_word(host.mode_commanded).map_or_else(|| "unknown".to_owned(), |mode| mode.to_string());
    let is_beating = status.heartbeat != earlier.status.heartbeat;
    // By the device's clock: counters are refreshed with its beats, whenever the readings were.
    let elapsed_ns = status.device_ns.saturating_sub(earlier.status.device_ns);
    let per_ns = |amount: u64| if elapsed_ns == 0 { 0.0 } else { amount as f64 / elapsed_ns as f64 };
    let histogram: &[u64; LATENCY_BUCKETS] = &later.latency;
    EngineView {
        process: host.process,
        backend: backend_name(host.backend),
        device: device_name(&host.device_name),
        state: if is_beating || mode == "stopped" { mode.clone() } else { "silent".into() },
        mode,
        is_beating,
        heartbeat: status.heartbeat,
        uptime_s: now_unix_ns.saturating_sub(host.started_unix_ns) as f64 / 1e9,
        launches: host.launches,
        shards: host.shards,
        lanes: host.lanes,
        warps: host.warps,
        warps_running: status.warps_running,
        processed: count(Counter::Processed),
        failed: count(Counter::Failed),
        panicked: count(Counter::Panicked),
        dropped: count(Counter::Dropped),
        queue_depth: count(Counter::Claimed).saturating_sub(count(Counter::Processed)),
        activated: count(Counter::Activated),
        evicted: count(Counter::Evicted),
        fetched: count(Counter::Fetched),
        // A sum of what warps add and take away, which they are read one after the other for.
        waiting: (count(Counter::Waiting) as i64).max(0) as u64,
        fetch_failures: count(Counter::FetchFailures),
        evict_failures: count(Counter::EvictFailures),
        too_large_to_evict: count(Counter::TooLargeToEvict),
        expired: count(Counter::Expired),
        duplicates: count(Counter::Duplicates),
        stale_versions: count(Counter::StaleVersions),
        dead_letters: count(Counter::DeadLetters),
        dead_letters_dropped: count(Counter::DeadLettersDropped),
        rate: per_ns(grown(Counter::Processed)) * 1e9,
        busy_share: (per_ns(grown(Counter::BusyNs)) / f64::from(host.warps.max(1))).min(1.0),
        last_failure: count(Counter::LastFailure),
        state_copies: host.state_copies,
        latency_ns: Quantiles {
            p50: latency_quantile(histogram, 0.5),
            p90: latency_quantile(histogram, 0.9),
            p99: latency_quantile(histogram, 0.99),
            p999: latency_quantile(histogram, 0.999),
        },
    }
}

fn backend_name(word: u32) -> &'static str {
    match word {
        1 => "cuda",
        2 => "cpu",
        3 => "simt",
        _ => "unknown",
    }
}

fn device_name(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn text(view: &EngineView) -> String {
    let silence = if view.is_beating {
        String::new()
    } else {
        format!(" (commanded: {}; no beat within {:.1} s)", view.mode, BETWEEN.as_secs_f64())
    };
    format!(
        "process {}  {} on {}  {}{silence}\n  up {:.0} s, launches {}, {} shards, {} lanes, warps {}/{}\n  \
         processed {}, failed {}, panicked {}, dropped {}, queued {}, actors {}\n  \
         actors evicted {}, fetched {}, waiting messages {}, failures to fetch {}, to evict {}, too large {}\n  \
         late {}, repeated {}, stale {}, dead letters {}, of them dropped {}\n  \
         {}, busy {:.1} %, latency below: p50 {}, p90 {}, p99 {}, p99.9 {}",
        view.process,
        view.backend,
        view.device,
        view.state,
        view.uptime_s,
        view.launches,
        view.shards,
        view.lanes,
        view.warps_running,
        view.warps,
        human_count(view.processed),
        human_count(view.failed),
        human_count(view.panicked),
        human_count(view.dropped),
        human_count(view.queue_depth),
        human_count(view.activated),
        human_count(view.evicted),
        human_count(view.fetched),
        human_count(view.waiting),
        human_count(view.fetch_failures),
        human_count(view.evict_failures),
        human_count(view.too_large_to_evict),
        human_count(view.expired),
        human_count(view.duplicates),
        human_count(view.stale_versions),
        human_count(view.dead_letters.saturating_add(view.dead_letters_dropped)),
        human_count(view.dead_letters_dropped),
        human_rate(view.rate),
        view.busy_share * 100.0,
        human_ns(view.latency_ns.p50),
        human_ns(view.latency_ns.p90),
        human_ns(view.latency_ns.p99),
        human_ns(view.latency_ns.p999),
    )
}

fn unix_ns() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable;

    fn page() -> TelemetryPage {
        let mut page = TelemetryPage::zeroed();
        page.host.process = 77;
        page.host.backend = 2;
        page.host.warps = 4;
        page.host.mode_commanded = Mode::Active as u32;
        page.host.device_name[..3].copy_from_slice(b"CPU");
        page.host.started_unix_ns = 1_000_000_000;
        page.status.heartbeat = 10;
        page.status.device_ns = 5_000_000_000;
        page.counters[Counter::Claimed as usize] = 105;
        page.counters[Counter::Processed as usize] = 100;
        page.counters[Counter::Expired as usize] = 3;
        page.counters[Counter::DeadLetters as usize] = 4;
        page.counters[Counter::DeadLettersDropped as usize] = 1;
        page
    }

    #[test]
    fn two_readings_give_rates_and_shares() {
        let earlier = page();
        let mut later = page();
        later.status.heartbeat += 1;
        later.status.device_ns += 2_000_000_000;
        later.counters[Counter::Processed as usize] += 4_000;
        later.counters[Counter::Claimed as usize] += 4_000;
        later.counters[Counter::BusyNs as usize] += 2_000_000_000;
        later.latency[10] = 4_100;
        later.counters[Counter::Evicted as usize] = 7;
        later.counters[Counter::Fetched as usize] = 6;
        later.counters[Counter::FetchFailures as usize] = 2;
        later.counters[Counter::TooLargeToEvict as usize] = 9;
        // Read in the middle of a message's coming and going.
        later.counters[Counter::Waiting as usize] = u64::MAX;
        let view = view(&earlier, &later, 61_000_000_000);
        assert_eq!((view.evicted, view.fetched, view.waiting, view.fetch_failures), (7, 6, 0, 2));
        let line = "actors evicted 7, fetched 6, waiting messages 0, failures to fetch 2, to evict 0, too large 9";
        assert!(text(&view).contains(line));
        assert_eq!((view.state.as_str(), view.is_beating, view.backend), ("active", true, "cpu"));
        assert_eq!((view.device.as_str(), view.queue_depth, view.processed), ("CPU", 5, 4_100));
        assert_eq!((view.expired, view.dead_letters, view.dead_letters_dropped), (3, 4, 1));
        assert!(text(&view).contains("late 3, repeated 0, stale 0, dead letters 5, of them dropped 1"));
        assert!((view.rate - 2_000.0).abs() < 1e-6 && (view.busy_share - 0.25).abs() < 1e-9);
        assert!((view.uptime_s - 60.0).abs() < 1e-9);
        assert_eq!(view.latency_ns.p50, 2_048);
    }

    #[test]
    fn a_loop_without_a_beat_is_silent_whatever_was_commanded() {
        let mut page = page();
        assert_eq!(view(&page, &page, 0).state, "silent");
        page.host.mode_commanded = Mode::Paused as u32;
        let silent = view(&page, &page, 0);
        assert_eq!((silent.state.as_str(), silent.mode.as_str()), ("silent", "paused"));
        assert!(text(&silent).contains("silent (commanded: paused"));
        assert!(silent.rate == 0.0 && silent.busy_share == 0.0);
        let mut later = page;
        later.status.heartbeat += 1;
        assert_eq!(view(&page, &later, 0).state, "paused");
    }

    #[test]
    fn hostile_pages_are_shown_and_not_believed() {
        let mut page = page();
        page.host.mode_commanded = 99;
        page.host.backend = 99;
        page.host.warps = 0;
        page.host.device_name = [0xff; 48];
        page.counters = [u64::MAX; tourbillon_shared::telemetry::COUNTERS];
        let view = view(&page, &page, 0);
        assert_eq!((view.mode.as_str(), view.backend, view.uptime_s), ("unknown", "unknown", 0.0));
        assert!(!view.device.is_empty());
    }
}
