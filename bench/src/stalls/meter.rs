//! Times of the same operations, done again and again.
//!
//! A shard is deterministic: in every turn the same call does the same work. What the machine
//! adds to it, by giving the CPU to others, falls on other calls each time. So the least time
//! of each call over all turns is its own work, however noisy the machine, and a spin loop
//! measured beside it shows how much noise is left.

use std::time::Instant;

use serde::Serialize;

/// The times of one sort of operation.
#[derive(Debug, Default)]
pub struct Meter {
    /// The least time of each operation over the turns so far, in nanoseconds.
    least: Vec<u32>,
    /// The longest of all times.
    longest: u32,
    position: usize,
    turns: usize,
}

impl Meter {
    /// Begins a turn, in which the same operations follow in the same order.
    ///
    /// # Panics
    /// The turn before was shorter than the first.
    pub fn begin_turn(&mut self) {
        assert_eq!(self.position, self.least.len(), "every turn does the same");
        self.position = 0;
        self.turns += 1;
    }

    /// Times an operation.
    pub fn time<R>(&mut self, operation: impl FnOnce() -> R) -> R {
        let started = Instant::now();
        let result = operation();
        let nanoseconds = started.elapsed().as_nanos();
        self.record(u32::try_from(nanoseconds).unwrap_or(u32::MAX));
        result
    }

    /// What the turns told.
    pub fn figures(&self) -> Figures {
        let mut sorted = self.least.clone();
        sorted.sort_unstable();
        let quantile = |share: f64| {
            let rank = (sorted.len() as f64 * share) as usize;
            sorted.get(rank.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
        };
        let us = |nanoseconds: u32| f64::from(nanoseconds) / 1e3;
        Figures {
            operations: self.least.len() as u64,
            own_p50_us: us(quantile(0.5)),
            own_p9999_us: us(quantile(0.9999)),
            own_max_us: us(quantile(1.0)),
            elapsed_max_us: us(self.longest),
        }
    }

    fn record(&mut self, nanoseconds: u32) {
        self.longest = self.longest.max(nanoseconds);
        match self.least.get_mut(self.position) {
            Some(least) => *least = nanoseconds.min(*least),
            None => {
                assert_eq!(self.turns, 1, "every turn does the same");
                self.least.push(nanoseconds);
            }
        }
        self.position += 1;
    }
}

/// What one sort of operation took, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Operations of one turn.
    pub operations: u64,
    /// Half of them took no more of their own.
    pub own_p50_us: f64,
    /// All but one in ten thousand took no more.
    pub own_p9999_us: f64,
    /// None took more: the largest of the least times.
    pub own_max_us: f64,
    /// The longest that any took in any turn, with all that the machine did meanwhile.
    pub elapsed_max_us: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_of_each_operation_counts() {
        let mut meter = Meter::default();
        for times in [[1_000, 900_000, 3_000], [800_000, 2_000, 3_500], [1_500, 2_500, 4_000]] {
            meter.begin_turn();
            times.into_iter().for_each(|time| meter.record(time));
        }
        let figures = meter.figures();
        assert_eq!((figures.operations, figures.own_max_us), (3, 3.0));
        assert_eq!((figures.own_p50_us, figures.elapsed_max_us), (2.0, 900.0));
        assert_eq!(Meter::default().figures().own_max_us, 0.0);
    }

    #[test]
    #[should_panic = "every turn does the same"]
    fn turns_that_differ_are_a_fault() {
        let mut meter = Meter::default();
        meter.begin_turn();
        meter.record(1);
        meter.begin_turn();
        meter.begin_turn();
    }

    #[test]
    fn operations_are_timed_and_their_results_kept() {
        let mut meter = Meter::default();
        meter.begin_turn();
        assert_eq!(meter.time(|| 7), 7);
        assert_eq!(meter.figures().operations, 1);
    }
}
