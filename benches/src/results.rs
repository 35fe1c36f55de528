//! The results file.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tourbillon_tools::environment::Environment;
use tourbillon_tools::latency::{human_bytes, human_count, human_ns, human_rate};

/// A figure with its spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// The median of the runs.
    pub value: f64,
    /// Runs.
    pub runs: u32,
    /// The least and the greatest of the runs.
    pub spread: [f64; 2],
}

impl Figure {
    /// The median of `values`, the lower of the two in the middle when their number is even; 0 without values.
    pub fn median_of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
        let last = sorted.len().saturating_sub(1);
        Self { value: at(last / 2), runs: values.len() as u32, spread: [at(0), at(last)] }
    }

    /// A figure that was taken once.
    pub fn once(value: f64) -> Self {
        Self { value, runs: 1, spread: [value, value] }
    }
}

/// One result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub id: String,
    /// The median of the runs.
    pub value: f64,
    /// `ns`, `ms`, `1/s`, `B/s` or `count`.
    pub unit: String,
    /// What the bare hardware does, in the same unit, where that is known.
    pub floor: Option<f64>,
    /// Runs.
    pub runs: u32,
    /// The least and the greatest of the runs.
    pub spread: [f64; 2],
    /// Of a rate: how long each message took meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ns: Option<Rtt>,
}

/// Times of round trips, medians of the runs, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rtt {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
}

/// The file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// What it was measured on.
    pub env: Map<String, Value>,
    /// What was measured.
    pub commit: String,
    /// The results.
    pub results: Vec<Entry>,
}

impl Results {
    /// An empty file.
    pub fn new(env: Map<String, Value>, commit: &str) -> Self {
        Self { env, commit: commit.to_owned(), results: Vec::new() }
    }

    /// An empty file about what is measured in `environment`.
    ///
    /// # Errors
    /// When the environment cannot be written as JSON.
    pub fn on(environment: &Environment) -> serde_json::Result<Self> {
        let mut env: Map<String, Value> = serde_json::from_value(serde_json::to_value(environment)?)?;
        // It has a place of its own in the file.
        env.remove("commit");
        Ok(Self::new(env, environment.commit))
    }

    /// Adds a result and prints it.
    pub fn add(&mut self, id: &str, figure: Figure, unit: &str, floor: Option<f64>) {
        let [least, most] = figure.spread;
        let beside = floor.map_or(String::new(), |floor| format!(", floor {floor:.0} ({:.2} x)", figure.value / floor));
        let digits = usize::from(figure.value < 100.0 && unit == "ns");
        println!(
            "{id}: {:.digits$} {unit} ({} run(s), {least:.digits$} to {most:.digits$}){beside}",
            figure.value, figure.runs
        );
        self.results.push(Entry {
            id: id.to_owned(),
            value: figure.value,
            unit: unit.to_owned(),
            floor,
            runs: figure.runs,
            spread: figure.spread,
            rtt_ns: None,
        });
    }

    /// Adds a rate, in messages a second, with the times of its round trips, and prints both.
    pub fn add_rate(&mut self, id: &str, figure: Figure, rtt: Rtt, floor: Option<f64>) {
        self.add(id, figure, "1/s", floor);
        println!("  round trips meanwhile: p50 {:.0} ns, p99 {:.0} ns", rtt.p50, rtt.p99);
        if let Some(entry) = self.results.last_mut() {
            entry.rtt_ns = Some(rtt);
        }
    }

    /// The result called `id`.
    pub fn get(&self, id: &str) -> Option<&Entry> {
        self.results.iter().find(|entry| entry.id == id)
    }

    /// Writes the file, if one is wanted; a half-written one never stands in its place.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn write(&self, path: Option<&Path>) -> std::io::Result<()> {
        let Some(path) = path else { return Ok(()) };
        let text = serde_json::to_string_pretty(self)? + "\n";
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory)?;
        }
        let draft = path.with_extension("draft");
        std::fs::write(&draft, text)?;
        std::fs::rename(&draft, path)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// What the operating system says, or that the file is no results file.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
    }
}

/// A value for people: `2.60 us`, `8.4 ns`, `25.00 M/s`, `1,234`.
pub fn human(value: f64, unit: &str) -> String {
    /// Below it a nanosecond is too coarse.
    const WHOLE_NS_MIN: f64 = 100.0;
    match unit {
        "ns" if value < WHOLE_NS_MIN => format!("{value:.1} ns"),
        "ns" => human_ns(value.round() as u64),
        "ms" => format!("{value:.0} ms"),
        "1/s" => human_rate(value),
        "B/s" => format!("{}/s", human_bytes(value.round() as u64)),
        _ => human_count(value.round() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_for_people() {
        let texts = [human(8.44, "ns"), human(2_600.0, "ns"), human(25e6, "1/s"), human(1_234.0, "count")];
        assert_eq!(texts, ["8.4 ns", "2.60 us", "25.00 M/s", "1,234"]);
        assert_eq!(human(431.6, "ms"), "432 ms");
        assert_eq!(human(3.0 * f64::from(1 << 30), "B/s"), "3.0 GiB/s");
    }

    #[test]
    fn medians_and_spreads() {
        assert_eq!(Figure::median_of(&[3.0, 1.0, 2.0]), Figure { value: 2.0, runs: 3, spread: [1.0, 3.0] });
        assert_eq!(Figure::median_of(&[4.0, 1.0, 3.0, 2.0]).value, 2.0);
        assert_eq!(Figure::median_of(&[]), Figure { value: 0.0, runs: 0, spread: [0.0, 0.0] });
        assert_eq!(Figure::once(5.0), Figure { value: 5.0, runs: 1, spread: [5.0, 5.0] });
    }

    #[test]
    fn a_file_names_its_machine_and_its_commit_once() {
        let environment = Environment::gather(false, "CPU");
        let results = Results::on(&environment).unwrap();
        assert_eq!(results.commit, environment.commit);
        assert_eq!(results.env["cpu"], environment.cpu.as_str());
        assert!(!results.env.contains_key("commit") && results.results.is_empty());
    }

    #[test]
    fn files_round_trip_with_the_agreed_keys() {
        let mut results = Results::new(Map::from_iter([("gpu".to_owned(), Value::from("none"))]), "abc");
        results.add("rtt_64b_p50", Figure::once(2_600.0), "ns", Some(2_300.0));
        results.add("launches", Figure::once(1.0), "count", None);
        let path = std::env::temp_dir().join(format!("tourbillon-results-{}.json", std::process::id()));
        results.write(Some(&path)).unwrap();
        let read = Results::read(&path).unwrap();
        let json: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read.results, results.results);
        assert_eq!(read.get("launches").unwrap().value, 1.0);
        assert_eq!(json["commit"], "abc");
        for key in ["id", "value", "unit", "floor", "runs", "spread"] {
            assert!(json["results"][0].get(key).is_some(), "{key}");
        }
    }
}
