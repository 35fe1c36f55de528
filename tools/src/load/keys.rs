//! Which key the next message goes to.

use std::str::FromStr;

use crate::random::{Random, mix};

/// How messages spread over the keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// Every key is as likely as any other.
    Uniform,
    /// The key of rank `r` has a share proportional to `r^-exponent`.
    Zipf {
        /// The exponent, in `(0, 10]`.
        exponent: f64,
    },
}

/// Exponent of `zipf` without one: what web and cache traffic is usually modelled with.
const ZIPF_EXPONENT_DEFAULT: f64 = 0.99;
/// Past this, practically every message goes to one key.
const ZIPF_EXPONENT_MAX: f64 = 10.0;

impl FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, parameter) = text.split_once(':').map_or((text, None), |(name, value)| (name, Some(value)));
        match (name, parameter) {
            ("uniform", None) => Ok(Self::Uniform),
            ("zipf", None) => Ok(Self::Zipf { exponent: ZIPF_EXPONENT_DEFAULT }),
            ("zipf", Some(value)) => match value.parse::<f64>() {
                Ok(exponent) if exponent > 0.0 && exponent <= ZIPF_EXPONENT_MAX => Ok(Self::Zipf { exponent }),
                _ => Err(format!("`{value}` is no exponent above 0 and up to {ZIPF_EXPONENT_MAX}")),
            },
            _ => Err("expected `uniform`, `zipf` or `zipf:EXPONENT`".to_owned()),
        }
    }
}

impl std::fmt::Display for Distribution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf { exponent } => write!(f, "zipf:{exponent}"),
        }
    }
}

/// Draws key indices `0 .. keys`.
#[derive(Clone, Debug)]
pub struct KeyChooser {
    keys: u64,
    zipf: Option<Zipf>,
}

impl KeyChooser {
    /// A chooser among `keys` keys (at least one).
    pub fn new(keys: u64, distribution: Distribution) -> Self {
        let keys = keys.max(1);
        let zipf = match distribution {
            Distribution::Uniform => None,
            Distribution::Zipf { exponent } => Some(Zipf::new(keys, exponent)),
        };
        Self { keys, zipf }
    }

    /// The next index.
    pub fn next(&self, random: &mut Random) -> u64 {
        match &self.zipf {
            None => random.below(self.keys),
            Some(zipf) => zipf.sample(random) - 1,
        }
    }
}

/// The actor's key for an index: sparse and well spread, as real keys are. Different indices below 2^32 and
/// different groups below 2^32 have different keys.
pub fn key_of(seed: u64, group: u32, index: u64) -> u64 {
    mix((u64::from(group) << 32 | (index & u64::from(u32::MAX))) ^ mix(seed))
}

/// Sampling from a Zipf distribution by rejection-inversion, in constant time and without a table.
///
/// Hörmann and Derflinger, *Rejection-inversion to generate variates from monotone discrete distributions* (ACM
/// TOMACS 6(3), 1996). With `h(x) = x^-s` and its antiderivative `H`, a point is drawn evenly from `(H(3/2) - 1,
/// H(n + 1/2)]`, inverted and rounded; it is refused where the histogram lies above the hat.
#[derive(Clone, Debug)]
struct Zipf {
    count: f64,
    exponent: f64,
    area_first: f64,
    area_last: f64,
    /// Rounding down by no more than this is always accepted.
    squeeze: f64,
}

impl Zipf {
    fn new(count: u64, exponent: f64) -> Self {
        let count = count as f64;
        let mut zipf = Self { count, exponent, area_first: 0.0, area_last: 0.0, squeeze: 0.0 };
        zipf.area_first = zipf.area(1.5) - 1.0;
        zipf.area_last = zipf.area(count + 0.5);
        zipf.squeeze = 2.0 - zipf.area_inverse(zipf.area(2.5) - zipf.height(2.0));
        zipf
    }

    fn height(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    /// `(x^(1-s) - 1) / (1 - s)`, and `ln x` in the limit `s = 1`.
    fn area(&self, x: f64) -> f64 {
        let log = x.ln();
        let t = (1.0 - self.exponent) * log;
        if t.abs() < 1e-8 { log * (1.0 + t / 2.0) } else { log * t.exp_m1() / t }
    }

    fn area_inverse(&self, area: f64) -> f64 {
        // Below -1 only by rounding, where the logarithm would not exist.
        let t = (area * (1.0 - self.exponent)).max(-1.0);
        let log = if t.abs() < 1e-8 { area * (1.0 - t / 2.0) } else { area * t.ln_1p() / t };
        log.exp()
    }

    /// A rank in `1 ..= count`.
    fn sample(&self, random: &mut Random) -> u64 {
        loop {
            let u = self.area_last + random.unit() * (self.area_first - self.area_last);
            let x = self.area_inverse(u);
            let rank = x.round().clamp(1.0, self.count);
            if rank - x <= self.squeeze || u >= self.area(rank + 0.5) - self.height(rank) {
                return rank as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_parse_and_print() {
        for (text, expected) in [
            ("uniform", Distribution::Uniform),
            ("zipf", Distribution::Zipf { exponent: 0.99 }),
            ("zipf:1.5", Distribution::Zipf { exponent: 1.5 }),
        ] {
            let parsed: Distribution = text.parse().unwrap();
            assert_eq!(parsed, expected);
            assert_eq!(parsed.to_string().parse::<Distribution>().unwrap(), expected);
        }
        for bad in ["", "zipf:", "zipf:0", "zipf:-1", "zipf:nan", "zipf:11", "uniform:2", "normal"] {
            assert!(bad.parse::<Distribution>().is_err(), "{bad}");
        }
    }

    #[test]
    fn zipf_has_the_shares_of_its_definition() {
        const SAMPLES: u32 = 400_000;
        for exponent in [0.5, 0.99, 1.0, 1.5, 3.0] {
            let keys = 20u64;
            let chooser = KeyChooser::new(keys, Distribution::Zipf { exponent });
            let mut random = Random::new(42, 0);
            let mut counts = vec![0u32; keys as usize];
            for _ in 0..SAMPLES {
                counts[chooser.next(&mut random) as usize] += 1;
            }
            let norm: f64 = (1..=keys).map(|rank| (rank as f64).powf(-exponent)).sum();
            for (i, &count) in counts.iter().enumerate() {
                let share = ((i + 1) as f64).powf(-exponent) / norm;
                let expected = share * f64::from(SAMPLES);
                // Five standard deviations of a binomial count.
                let tolerance = 5.0 * (expected * (1.0 - share)).sqrt() + 1.0;
                assert!(
                    (f64::from(count) - expected).abs() < tolerance,
                    "s={exponent} rank {}: {count}, {expected}",
                    i + 1
                );
            }
        }
    }

    #[test]
    fn one_key_is_always_chosen() {
        let mut random = Random::new(1, 1);
        for distribution in [Distribution::Uniform, Distribution::Zipf { exponent: 1.2 }] {
            let chooser = KeyChooser::new(1, distribution);
            assert!((0..1000).all(|_| chooser.next(&mut random) == 0));
        }
    }

    #[test]
    fn keys_do_not_collide() {
        let mut keys: Vec<u64> = (0..4).flat_map(|group| (0..5_000).map(move |i| key_of(9, group, i))).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 20_000);
    }
}
