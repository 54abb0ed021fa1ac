//! Traces that are drawn: keys by Zipf's law, and for part of the requests a scan that walks
//! over the same keys in order, round after round, as a job does that reads everything, or
//! keys that are asked for only once.

use std::str::FromStr;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::trace::{Trace, TraceBuilder, TraceError};
use crate::workload::{Distribution, Sampler};

/// Requests that are not drawn by Zipf's law.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Disturbance {
    None,
    /// This share walks over all keys in order.
    Scan(f64),
    /// This share asks for keys that never come again, beside the others.
    Once(f64),
}

/// What is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Synthetic {
    text: String,
    distribution: Distribution,
    keys: u64,
    requests: u64,
    disturbance: Disturbance,
}

/// A text that is no drawn trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a drawn trace is zipf:EXPONENT:KEYS:REQUESTS, with :scan=SHARE% or :once=SHARE% after it \
     or not, such as zipf:0.99:100K:5M:scan=20%, with up to 1G keys and requests; not `{0}`"
)]
pub struct SyntheticError(String);

/// Most keys, and most requests.
const COUNT_MAX: u64 = 1_000_000_000;

fn parse_count(text: &str) -> Option<u64> {
    let (digits, factor) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1_000),
        b'm' | b'M' => (&text[..text.len() - 1], 1_000_000),
        b'g' | b'G' => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    let count = digits.parse::<u64>().ok()?.checked_mul(factor)?;
    (1..=COUNT_MAX).contains(&count).then_some(count)
}

fn parse_disturbance(text: &str) -> Option<Disturbance> {
    let (kind, percent) = text.strip_suffix('%')?.split_once('=')?;
    let share =
        percent.parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent))? / 100.0;
    match kind {
        "scan" => Some(Disturbance::Scan(share)),
        "once" => Some(Disturbance::Once(share)),
        _ => None,
    }
}

impl FromStr for Synthetic {
    type Err = SyntheticError;

    fn from_str(text: &str) -> Result<Synthetic, SyntheticError> {
        let parse = || {
            let mut parts = text.split(':');
            let law = parts.next()?;
            let distribution = format!("{law}:{}", parts.next()?).parse().ok()?;
            let keys = parse_count(parts.next()?)?;
            let requests = parse_count(parts.next()?)?;
            let disturbance = parts.next().map_or(Some(Disturbance::None), parse_disturbance)?;
            let text = text.to_owned();
            parts.next().is_none().then_some(Synthetic {
                text,
                distribution,
                keys,
                requests,
                disturbance,
            })
        };
        parse().ok_or_else(|| SyntheticError(text.to_owned()))
    }
}

impl Synthetic {
    /// Draws the trace; the same seed draws the same.
    ///
    /// # Errors
    /// It is too long.
    pub fn draw(&self, seed: u64) -> Result<Trace, TraceError> {
        let sampler = Sampler::new(self.distribution, self.keys);
        let mut random = SmallRng::seed_from_u64(seed);
        let (share, scanned) = match self.disturbance {
            Disturbance::None => (0.0, 1),
            Disturbance::Scan(share) => (share, self.keys),
            Disturbance::Once(share) => (share, u64::MAX),
        };
        let disturbed_below = (share * (1u64 << 32) as f64) as u64;
        let mut walked = 0;
        let mut builder = TraceBuilder::default();
        for _ in 0..self.requests {
            // Without a disturbance nothing is drawn for it, so the keys drawn are as before.
            let disturbed = disturbed_below > 0 && random.next_u64() >> 32 < disturbed_below;
            builder.push(match disturbed {
                false => sampler.draw(&mut random).0,
                true => {
                    walked += 1;
                    match self.disturbance {
                        Disturbance::Once(_) => self.keys + walked,
                        _ => walked % scanned,
                    }
                }
            })?;
        }
        builder.finish(self.text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_read() {
        let synthetic: Synthetic = "zipf:0.8:100K:5M:scan=20%".parse().unwrap();
        assert_eq!(synthetic.distribution, Distribution::Zipf { exponent: 0.8 });
        assert_eq!((synthetic.keys, synthetic.requests), (100_000, 5_000_000));
        assert_eq!(synthetic.disturbance, Disturbance::Scan(0.2));
        let synthetic: Synthetic = "zipf:1.2:10:20".parse().unwrap();
        assert_eq!((synthetic.keys, synthetic.disturbance), (10, Disturbance::None));
        for wrong in [
            "zipf:0.8",
            "zipf:0.8:10",
            "zipf:0.8:0:10",
            "zipf:0:10:10",
            "uniform:1:10:10",
            "zipf:0.8:10:10:scan=20",
            "zipf:0.8:10:10:loop=20%",
            "zipf:0.8:10:10:once=101%",
            "zipf:0.8:10:10:once=1%:x",
            "zipf:0.8:2G:10",
        ] {
            assert!(wrong.parse::<Synthetic>().is_err(), "{wrong}");
        }
    }

    fn draw(text: &str) -> Trace {
        text.parse::<Synthetic>().unwrap().draw(3).unwrap()
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let synthetic: Synthetic = "zipf:0.99:1K:10K".parse().unwrap();
        assert_eq!(synthetic.draw(1), synthetic.draw(1));
        assert_ne!(synthetic.draw(1), synthetic.draw(2));
        assert_eq!(
            draw("zipf:0.99:1K:10K").requests(),
            draw("zipf:0.99:1K:10K:scan=0%").requests()
        );
    }

    #[test]
    fn a_scan_adds_no_keys_and_single_requests_do() {
        assert!(draw("zipf:0.8:1000:20000").objects() <= 1_000);
        assert_eq!(draw("zipf:0.8:1000:20000:scan=20%").objects(), 1_000);
        let once = draw("zipf:0.8:1000:20000:once=20%");
        let outside = once.ids().iter().filter(|id| **id >= 1_000).count();
        assert!((3_800..4_200).contains(&outside), "{outside}");
        // A scan of everything asks for each key once a round.
        assert_eq!(draw("zipf:0.8:5:12:scan=100%").ids(), [1, 2, 3, 4, 0]);
    }
}
