//! Comparing what a noisy machine measures: contenders take turns in short slices, so that
//! a slow minute hits all of them, and are compared within each turn. Medians of the turns
//! are reported, and of the ratios of each turn, never the ratio of two means.

use serde::Serialize;

/// One figure of one contender, measured once a turn.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    values: Vec<f64>,
}

/// What the turns had in common.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the turns were no higher.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

impl Samples {
    /// Adds the figure of the next turn.
    pub fn push(&mut self, value: f64) {
        self.values.push(value);
    }

    /// Median and range; nothing before the first turn.
    pub fn spread(&self) -> Option<Spread> {
        spread(self.values.clone())
    }

    /// Median and range of this figure divided by another contender's of the same turn.
    pub fn ratio_to(&self, other: &Samples) -> Option<Spread> {
        spread(self.values.iter().zip(&other.values).map(|(own, theirs)| own / theirs).collect())
    }
}

fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = if values.len().is_multiple_of(2) {
        (values[middle - 1] + values[middle]) / 2.0
    } else {
        values[middle]
    };
    Some(Spread { median, min, max })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        Samples { values: values.to_vec() }
    }

    #[test]
    fn medians_of_odd_and_even_turns() {
        let check = |values: &[f64], median, min, max| {
            assert_eq!(samples(values).spread(), Some(Spread { median, min, max }));
        };
        check(&[3.0, 1.0, 2.0], 2.0, 1.0, 3.0);
        check(&[4.0, 1.0, 2.0, 3.0], 2.5, 1.0, 4.0);
        check(&[7.0], 7.0, 7.0, 7.0);
        assert_eq!(samples(&[]).spread(), None);
    }

    #[test]
    fn ratios_are_of_the_same_turn() {
        // The second turn was slow for both: the ratio does not see it.
        let ratio = samples(&[2.0, 20.0, 2.2]).ratio_to(&samples(&[1.0, 10.0, 1.0])).unwrap();
        assert_eq!((ratio.median, ratio.min, ratio.max), (2.0, 2.0, 2.2));
    }
}
