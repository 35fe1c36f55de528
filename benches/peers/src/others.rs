//! What the rest of the machine did meanwhile: on few cores it decides how far the figures can be trusted.

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
        // The second field may contain anything, in brackets; the 14th and 15th are the times in user and in system code.
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
}
