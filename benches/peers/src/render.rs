//! The table of peers, from results files.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;
use tourbillon_benches::results::{Entry, Results, human};

use crate::peers::PEERS;

/// The lines between these two in a document are replaced by `--into`.
pub const MARKS: [&str; 2] = ["<!-- peers: begin -->", "<!-- peers: end -->"];

/// Quantiles of the round trips: the end of the result's name, and the head of its column.
pub const QUANTILES: [(&str, f64, &str); 4] =
    [("p50", 0.5, "median"), ("p90", 0.9, "90 %"), ("p99", 0.99, "99 %"), ("p999", 0.999, "99.9 %")];

/// The name of a peer's result for the round trips.
pub fn trips_id(peer: &str, quantile: &str) -> String {
    format!("peer_{peer}_rtt_{quantile}")
}

/// The name of a peer's result for the rate.
pub fn rate_id(peer: &str) -> String {
    format!("peer_{peer}_rate")
}

/// The tables of these files.
///
/// # Errors
/// A file cannot be read, is no results file or has no peers in it; the text names it.
pub fn tables(paths: &[PathBuf]) -> Result<String, String> {
    let mut text = String::new();
    for path in paths {
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let results = Results::read(path).map_err(|error| named(&error))?;
        let table = table(&results).ok_or_else(|| named(&"no results of peers; make them with `peers --out`"))?;
        let _ = writeln!(text, "{table}");
    }
    Ok(text)
}

fn table(results: &Results) -> Option<String> {
    let env = |key: &str| match results.env.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => "none".to_owned(),
    };
    let mut text = format!(
        "CPU: {}, {} cores, of whose time others had at most {} %; GPU: {}; commit {}. Rate: {} requests \
         outstanding, {} threads.\n\n",
        env("cpu"),
        env("cores"),
        env("others_percent_max"),
        env("gpu"),
        results.commit,
        env("outstanding"),
        env("threads"),
    );
    let heads: String = QUANTILES.iter().map(|(_, _, head)| format!(" {head} |")).collect();
    let _ = writeln!(text, "| | threads of a round trip |{heads} replies a second |");
    let _ = writeln!(text, "| --- | --- |{} --- |", " --- |".repeat(QUANTILES.len()));
    let mut rows = 0;
    for peer in PEERS {
        let Some(rate) = results.get(&rate_id(peer.id)) else { continue };
        let _ = write!(text, "| {} | {} |", peer.name, peer.threads);
        for (quantile, _, _) in QUANTILES {
            let entry = results.get(&trips_id(peer.id, quantile));
            let figure = entry.map_or_else(|| "–".to_owned(), |entry| human(entry.value, &entry.unit));
            let spread = entry.filter(|_| quantile == QUANTILES[0].0).map(spread).unwrap_or_default();
            let _ = write!(text, " {figure}{spread} |");
        }
        let _ = writeln!(text, " {}{} |", human(rate.value, &rate.unit), spread(rate));
        rows += 1;
    }
    (rows > 0).then_some(text)
}

/// The least and the greatest of the runs.
fn spread(entry: &Entry) -> String {
    let [least, most] = entry.spread.map(|value| human(value, &entry.unit));
    format!(" ({least} to {most})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Map;
    use tourbillon_benches::results::Figure;

    fn results() -> Results {
        let mut env = vec![("cpu", Value::from("A CPU")), ("cores", 2.into()), ("others_percent_max", 1.5.into())];
        env.extend([("threads", Value::from(2)), ("outstanding", 512.into())]);
        let env = Map::from_iter(env.into_iter().map(|(key, value)| (key.to_owned(), value)));
        let mut results = Results::new(env, "abc");
        results.add(&trips_id("kameo", "p50"), Figure::median_of(&[700.0, 720.0, 750.0]), "ns", None);
        results.add(&rate_id("kameo"), Figure::once(2_500_000.0), "1/s", None);
        results
    }

    #[test]
    fn tables_show_machine_threads_and_spread() {
        let text = table(&results()).unwrap();
        assert!(
            text.contains("A CPU, 2 cores, of whose time others had at most 1.5 %; GPU: none")
                && text.contains("512 requests outstanding, 2 threads"),
            "{text}"
        );
        assert!(text.contains("| kameo `ask` | 2 of tokio, parking | 720 ns (700 ns to 750 ns) | – |"), "{text}");
        assert!(text.contains("| 2.50 M/s (2.50 M/s to 2.50 M/s) |"), "{text}");
        assert!(!text.contains("ractor"));
    }

    #[test]
    fn files_without_peers_are_named() {
        assert!(table(&Results::new(Map::new(), "abc")).is_none());
        let path = std::env::temp_dir().join(format!("tourbillon-peers-{}.json", std::process::id()));
        Results::new(Map::new(), "abc").write(Some(&path)).unwrap();
        let error = tables(std::slice::from_ref(&path)).unwrap_err();
        std::fs::remove_file(&path).unwrap();
        assert!(error.contains("tourbillon-peers") && error.contains("peers --out"), "{error}");
        assert!(tables(&[PathBuf::from("no-such-file.json")]).unwrap_err().contains("no-such-file.json"));
    }

    #[test]
    fn peers_have_names_of_their_own() {
        let mut ids: Vec<_> = PEERS.iter().map(|peer| peer.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), PEERS.len());
    }
}
