//! What the rest of the machine does meanwhile: on few cores it decides how far figures can be trusted.

use std::time::{Duration, Instant};

use crate::plan::Measured;

/// Most of all processors' time that others may have during a run; one in which they have more is repeated.
const SHARE_MAX: f64 = 0.05;
/// How long others must have been quiet before a run.
const CALM: Duration = Duration::from_millis(200);

/// Processor time until now, in the system's ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Of all processors, busy and idle.
    total: u64,
    /// Of all processors, busy or taken by a hypervisor.
    busy: u64,
    /// Of this process.
    own: u64,
}

impl Usage {
    /// The usage until now, where the system tells (Linux).
    pub fn now() -> Option<Self> {
        let read = |path| std::fs::read_to_string(path).ok();
        Self::of(&read("/proc/stat")?, &read("/proc/self/stat")?)
    }

    fn of(system: &str, process: &str) -> Option<Self> {
        // user, nice, system, idle, iowait, irq, softirq, steal; what follows is contained in the first two.
        let ticks = system.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = ticks.split_whitespace().take(8).map_while(|tick| tick.parse().ok()).collect();
        let idle = ticks.get(3)? + ticks.get(4)?;
        let total: u64 = ticks.iter().sum();
        // The second field may contain anything, in brackets; the 14th and 15th are the times in user and system code.
        let mut fields = process.rsplit_once(')')?.1.split_whitespace().skip(11);
        let own = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
        Some(Self { total, busy: total - idle, own })
    }

    /// The share of all processors' time that others had since `before`, 0 to 1.
    pub fn of_others_since(&self, before: &Self) -> f64 {
        let total = self.total.saturating_sub(before.total).max(1);
        let busy = self.busy.saturating_sub(before.busy);
        let own = self.own.saturating_sub(before.own);
        busy.saturating_sub(own) as f64 / total as f64
    }
}

/// Waits and repeats until others leave the machine alone, as long as there is patience.
#[derive(Clone, Debug)]
pub struct Quiet {
    /// Waits and repeats end then.
    deadline: Instant,
    /// Runs that were repeated.
    pub repeated: u32,
    /// The greatest share of others in a run that counts, where the system tells.
    pub share_max: Option<f64>,
}

impl Quiet {
    /// Patience for so long, over all runs.
    pub fn new(patience: Duration) -> Self {
        Self { deadline: Instant::now() + patience, repeated: 0, share_max: None }
    }

    /// Does a run when others are quiet; the first one in which they stay so, or the last one that there was patience
    /// for.
    ///
    /// # Errors
    /// What the run says.
    pub fn run<T>(&mut self, run: impl FnMut() -> Measured<T>) -> Measured<T> {
        self.run_by(Usage::now, run)
    }

    fn run_by<T>(&mut self, usage: impl Fn() -> Option<Usage>, mut run: impl FnMut() -> Measured<T>) -> Measured<T> {
        loop {
            let is_patient = self.wait(&usage);
            let before = usage();
            let found = run()?;
            let (Some(before), Some(after)) = (before, usage()) else { return Ok(found) };
            let share = after.of_others_since(&before);
            if share <= SHARE_MAX || !is_patient {
                self.share_max = Some(self.share_max.map_or(share, |most| most.max(share)));
                return Ok(found);
            }
            self.repeated += 1;
        }
    }

    /// Waits until others were quiet for a moment; whether there is patience left.
    fn wait(&self, usage: impl Fn() -> Option<Usage>) -> bool {
        while Instant::now() < self.deadline {
            let Some(before) = usage() else { return true };
            std::thread::sleep(CALM);
            if usage().is_none_or(|after| after.of_others_since(&before) <= SHARE_MAX) {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESS: &str = "7 (a) b (c) R 1 1 1 0 -1 0 0 0 0 0 150 50 0 0 20 0 1 0 100 0 0";

    #[test]
    fn shares_are_those_of_the_files() {
        let before = Usage { total: 1_000, busy: 600, own: 100 };
        let system = "cpu  500 20 60 1000 200 5 5 10 400 0\ncpu0 1 2 3\n";
        let after = Usage::of(system, PROCESS).unwrap();
        assert_eq!(after, Usage { total: 1_800, busy: 600, own: 200 });
        assert_eq!(after.of_others_since(&before), 0.0);
        let busier = Usage { busy: 900, ..after };
        assert_eq!(busier.of_others_since(&before), 0.25);
    }

    #[test]
    fn other_texts_are_refused() {
        assert_eq!(Usage::of("", PROCESS), None);
        assert_eq!(Usage::of("cpu  1 2 3\n", PROCESS), None);
        assert_eq!(Usage::of("cpu  1 2 3 4 5 6 7 8\n", "7 (a) R 1"), None);
    }

    /// A machine whose processors run for 100 ticks between two looks, and others for as many of them as the list says.
    fn machine(others: &[u64]) -> impl Fn() -> Option<Usage> {
        let (others, looks) = (others.to_vec(), std::cell::Cell::new(0));
        move || {
            let look = looks.replace(looks.get() + 1);
            let busy = others.iter().cycle().take(look).sum();
            Some(Usage { total: 100 * look as u64, busy, own: 0 })
        }
    }

    #[test]
    fn runs_wait_and_disturbed_ones_are_repeated() {
        // Between the looks: waiting in vain, then a run; waiting, a disturbed run; waiting, a good run.
        let usage = machine(&[90, 0, 2, 0, 6, 0, 2, 0, 5, 0]);
        let mut quiet = Quiet::new(Duration::from_secs(60));
        let mut runs = 0;
        let mut count = || {
            runs += 1;
            Ok(runs)
        };
        assert_eq!(quiet.run_by(&usage, &mut count).unwrap(), 2);
        assert_eq!((quiet.repeated, quiet.share_max), (1, Some(0.05)));
    }

    #[test]
    fn without_patience_every_run_counts() {
        let mut quiet = Quiet::new(Duration::ZERO);
        assert_eq!(quiet.run_by(machine(&[70]), || Ok(7)).unwrap(), 7);
        assert_eq!((quiet.repeated, quiet.share_max), (0, Some(0.7)));
        assert!(quiet.run(|| Err::<(), _>("no figures".into())).is_err());
        // Where the system does not tell, nothing is repeated and nothing claimed.
        let mut blind = Quiet::new(Duration::from_secs(60));
        assert_eq!(blind.run_by(|| None, || Ok(8)).unwrap(), 8);
        assert_eq!(blind.share_max, None);
    }
}
