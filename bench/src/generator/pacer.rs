//! When the requests of an open loop are due: at fixed distances from a start, whether or
//! not they can be sent then.

use crate::clock::Nanos;

/// Requests per second of an open loop; over 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(f64);

impl Rate {
    /// A rate, if it is one.
    pub fn new(per_second: f64) -> Option<Rate> {
        (per_second.is_finite() && per_second > 0.0).then_some(Rate(per_second))
    }

    /// Requests per second.
    pub fn per_second(self) -> f64 {
        self.0
    }

    /// One of `parts` equal parts.
    pub fn divided(self, parts: usize) -> Rate {
        Rate(self.0 / parts as f64)
    }
}

/// One thread's schedule.
#[derive(Clone, Debug)]
pub struct Pacer {
    start: Nanos,
    distance_ns: f64,
    /// Requests given out.
    given: u64,
}

impl Pacer {
    /// The first request is due at `start`.
    pub fn new(rate: Rate, start: Nanos) -> Pacer {
        Pacer { start, distance_ns: 1e9 / rate.per_second(), given: 0 }
    }

    /// When the next request is due. Reckoned from the start each time, so that the rate
    /// does not drift.
    pub fn next_due(&self) -> Nanos {
        self.due(self.given)
    }

    /// The moment at which a request that may be sent now was due, if one is.
    pub fn take(&mut self, now: Nanos) -> Option<Nanos> {
        let due = self.next_due();
        (due <= now).then(|| {
            self.given += 1;
            due
        })
    }

    /// How many requests were due before a moment and have not been given out.
    pub fn behind(&self, moment: Nanos) -> u64 {
        let due = (moment.since(self.start) as f64 / self.distance_ns).ceil() as u64;
        due.saturating_sub(self.given)
    }

    fn due(&self, index: u64) -> Nanos {
        Nanos(self.start.0 + (index as f64 * self.distance_ns) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_fixed_distances() {
        let mut pacer = Pacer::new(Rate::new(1_000.0).unwrap(), Nanos(5_000_000));
        assert_eq!(pacer.take(Nanos(4_999_999)), None);
        assert_eq!(pacer.take(Nanos(5_000_000)), Some(Nanos(5_000_000)));
        assert_eq!(pacer.take(Nanos(5_500_000)), None);
        assert_eq!(pacer.next_due(), Nanos(6_000_000));
    }

    #[test]
    fn a_stall_does_not_move_what_was_due() {
        let mut pacer = Pacer::new(Rate::new(1_000.0).unwrap(), Nanos(0));
        // Nothing could be sent for 10 ms: the eleven requests keep their moments, and so
        // the first of them is counted 10 ms late.
        let now = Nanos(10_000_000);
        assert_eq!(pacer.behind(now), 10);
        let due: Vec<u64> = std::iter::from_fn(|| pacer.take(now)).map(|due| due.0).collect();
        assert_eq!(due, (0..=10).map(|index| index * 1_000_000).collect::<Vec<_>>());
        assert_eq!(pacer.behind(now), 0);
    }

    #[test]
    fn the_rate_does_not_drift() {
        let mut pacer = Pacer::new(Rate::new(3_000_000.0).unwrap(), Nanos(0));
        let count = std::iter::from_fn(|| pacer.take(Nanos(999_999_999))).count();
        assert_eq!(count, 3_000_000);
    }

    #[test]
    fn impossible_rates_are_none() {
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Rate::new(wrong), None);
        }
    }
}
