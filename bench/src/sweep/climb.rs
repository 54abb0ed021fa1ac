//! Which rate to try next: doubled until one fails or there are no higher ones, and then
//! between the highest that passed and the lowest that failed, until they are close.

use crate::generator::pacer::Rate;

/// The highest rate that passed and the lowest that failed are so close in the end.
const RESOLUTION: f64 = 1.05;

/// Whether latency was within its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was.
    Kept,
    /// It was not.
    Broken,
}

/// See the module. Ask for the [`Climb::next_rate`], then say how it
/// was [`Climb::judge`]d.
#[derive(Clone, Debug)]
pub struct Climb {
    first: Rate,
    last: Rate,
    /// The highest rate that passed.
    best: Option<f64>,
    /// The lowest that failed.
    worst: Option<f64>,
    /// The rate that was given out last.
    trying: f64,
}

impl Climb {
    /// From one rate up to another.
    pub fn new(first: Rate, last: Rate) -> Climb {
        Climb { first, last, best: None, worst: None, trying: 0.0 }
    }

    /// The next rate to try; nothing when the highest is known.
    pub fn next_rate(&mut self) -> Option<Rate> {
        let next = match (self.best, self.worst) {
            (None, None) => self.first.per_second(),
            (None, Some(_)) => return None,
            (Some(best), None) if best < self.last.per_second() => {
                (2.0 * best).min(self.last.per_second())
            }
            (Some(best), Some(worst)) if worst / best > RESOLUTION => (best * worst).sqrt(),
            (Some(_), _) => return None,
        };
        self.trying = next;
        Rate::new(next)
    }

    /// Takes note of what became of the rate given out last.
    pub fn judge(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Kept => self.best = Some(self.trying),
            Verdict::Broken => self.worst = Some(self.trying),
        }
    }

    /// The highest rate that kept the limit.
    pub fn best(&self) -> Option<Rate> {
        Rate::new(self.best?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: f64) -> Rate {
        Rate::new(per_second).unwrap()
    }

    /// Climbs where every rate up to `highest` passes; returns the rates tried and the best.
    fn climb(last: f64, highest: f64) -> (Vec<f64>, Option<f64>) {
        let mut climb = Climb::new(rate(1_000.0), rate(last));
        let mut tried = Vec::new();
        while let Some(next) = climb.next_rate() {
            tried.push(next.per_second());
            climb.judge(match next.per_second() <= highest {
                true => Verdict::Kept,
                false => Verdict::Broken,
            });
            assert!(tried.len() < 100, "{tried:?}");
        }
        (tried, climb.best().map(Rate::per_second))
    }

    #[test]
    fn the_highest_rate_is_found() {
        for highest in [1_000.0, 1_001.0, 1_999.0, 54_321.0, 1e6, 7.7e6] {
            let (tried, best) = climb(1e7, highest);
            let best = best.unwrap();
            assert!(best <= highest && best * RESOLUTION > highest * 0.999, "{best} of {highest}");
            assert!(tried.len() < 22, "{tried:?}");
        }
    }

    #[test]
    fn it_ends_where_nothing_is_left_to_try() {
        assert_eq!(climb(1e7, 999.0), (vec![1_000.0], None));
        assert_eq!(climb(1_000.0, 1e9), (vec![1_000.0], Some(1_000.0)));
        assert_eq!(climb(3_000.0, 1e9), (vec![1_000.0, 2_000.0, 3_000.0], Some(3_000.0)));
    }
}
