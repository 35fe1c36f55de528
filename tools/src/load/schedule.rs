//! Intended times of an open loop: a fixed rate, split among clients, exact however long it runs.
//!
//! Message `i` of the whole run is intended `i / rate` after its start, and is sent by client `i` modulo the number of
//! clients. Nothing that happens to a message changes the intended time of another one.

use std::str::FromStr;

use serde::{Serialize, Serializer};

/// Thousandths of a nanosecond in a second: an interval is this over the rate in thousandths a second.
const NS_TIMES_1000: u64 = 1_000_000_000_000;
/// Slowest rate: one thousandth of a message a second, the unit in which rates are kept.
const PER_SECOND_MIN: f64 = 1e-3;
/// Fastest rate that is understood at all; what the clock resolves is far below.
const PER_SECOND_MAX: f64 = 1e12;

/// Messages a second, a whole number of thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate {
    thousandths: u64,
}

impl Rate {
    /// The rate nearest to `per_second`, from 0.001 to 10^12.
    pub fn new(per_second: f64) -> Self {
        Self { thousandths: (per_second.clamp(PER_SECOND_MIN, PER_SECOND_MAX) * 1e3).round() as u64 }
    }

    /// Messages a second.
    pub fn per_second(self) -> f64 {
        self.thousandths as f64 / 1e3
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.per_second())
    }
}

impl FromStr for Rate {
    type Err = String;

    /// `100000`, `100k`, `1.5M`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (number, factor) = match text.char_indices().next_back() {
            Some((at, 'k')) => (&text[..at], 1e3),
            Some((at, 'M')) => (&text[..at], 1e6),
            _ => (text, 1.0),
        };
        let number: f64 = number.parse().map_err(|_| format!("`{text}` is no rate; try 100000, 100k or 1.5M"))?;
        let per_second = number * factor;
        if !(PER_SECOND_MIN..=PER_SECOND_MAX).contains(&per_second) {
            return Err(format!("`{text}` is not between {PER_SECOND_MIN} and {PER_SECOND_MAX:e} messages a second"));
        }
        Ok(Self::new(per_second))
    }
}

/// The intended times of one client, in nanoseconds from the start of the run.
#[derive(Clone, Debug)]
pub struct Schedule {
    rate: Rate,
    client: u64,
    clients: u64,
    /// Messages whose times were passed.
    passed: u64,
    next_ns: u64,
    /// What `next_ns` was rounded down by, in units of a nanosecond over the rate's thousandths.
    rest: u64,
    step_ns: u64,
    step_rest: u64,
}

impl Schedule {
    /// The part of client `client` of `clients` (at least one).
    pub fn new(rate: Rate, client: u32, clients: u32) -> Self {
        let (client, clients) = (u64::from(client), u64::from(clients.max(1)));
        let of = |messages: u64| {
            let time = messages * NS_TIMES_1000;
            (time / rate.thousandths, time % rate.thousandths)
        };
        let ((next_ns, rest), (step_ns, step_rest)) = (of(client), of(clients));
        Self { rate, client, clients, passed: 0, next_ns, rest, step_ns, step_rest }
    }

    /// When the next message is intended to be sent.
    #[inline(always)]
    pub fn next_ns(&self) -> u64 {
        self.next_ns
    }

    /// Messages whose times were passed.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// Goes on to the next message.
    #[inline(always)]
    pub fn advance(&mut self) {
        self.passed += 1;
        self.next_ns += self.step_ns;
        self.rest += self.step_rest;
        if self.rest >= self.rate.thousandths {
            self.rest -= self.rate.thousandths;
            self.next_ns += 1;
        }
    }

    /// How many messages of this client are intended before `end_ns`.
    pub fn count_before(&self, end_ns: u64) -> u64 {
        // Message i is intended before the end exactly if i * NS_TIMES_1000 < end * thousandths.
        let all = (u128::from(end_ns) * u128::from(self.rate.thousandths)).div_ceil(u128::from(NS_TIMES_1000));
        let all = u64::try_from(all).unwrap_or(u64::MAX);
        if all > self.client { (all - self.client - 1) / self.clients + 1 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_parse() {
        for (text, per_second) in [("100000", 1e5), ("100k", 1e5), ("1.5M", 1.5e6), ("0.5", 0.5), ("0.001", 0.001)] {
            assert_eq!(text.parse::<Rate>().map(Rate::per_second), Ok(per_second), "{text}");
        }
        for bad in ["", "k", "0", "-1", "nan", "inf", "1e30", "0.0001", "10 k", "100kk", "ten", "1µ"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

    /// What the documentation of the module says, in wide numbers.
    fn intended_ns(rate: Rate, message: u64) -> u64 {
        (u128::from(message) * u128::from(NS_TIMES_1000) / u128::from(rate.thousandths)) as u64
    }

    fn rates() -> impl Strategy<Value = Rate> {
        // Even in the logarithm: slow rates matter as much as fast ones.
        (-3.0..10.0f64).prop_map(|exponent| Rate::new(10f64.powf(exponent)))
    }

    proptest! {
        #[test]
        fn times_do_not_drift(rate in rates(), clients in 1..=64u32, pick in 0..64u32, messages in 1..2_000u64) {
            let client = pick % clients;
            let mut schedule = Schedule::new(rate, client, clients);
            for k in 0..messages {
                let global = k * u64::from(clients) + u64::from(client);
                prop_assert_eq!(schedule.next_ns(), intended_ns(rate, global));
                prop_assert_eq!(schedule.passed(), k);
                schedule.advance();
            }
        }

        #[test]
        fn clients_share_every_message_once(rate in rates(), clients in 1..=16u32, messages in 1..1_000u64) {
            let mut schedules: Vec<_> = (0..clients).map(|client| Schedule::new(rate, client, clients)).collect();
            for message in 0..messages {
                let schedule = &mut schedules[(message % u64::from(clients)) as usize];
                prop_assert_eq!(schedule.next_ns(), intended_ns(rate, message));
                schedule.advance();
            }
        }

        #[test]
        fn counts_are_those_of_the_times(
            rate in rates(), clients in 1..=8u32, pick in 0..8u32, at in 0..500u64, off in 0..3u64,
        ) {
            let client = pick % clients;
            let schedule = Schedule::new(rate, client, clients);
            // Ends around an intended time are where counting goes wrong.
            let end_ns = (intended_ns(rate, at) + off).saturating_sub(1);
            let mut walk = schedule.clone();
            while walk.next_ns() < end_ns {
                walk.advance();
            }
            prop_assert_eq!(schedule.count_before(end_ns), walk.passed());
        }
    }
}
