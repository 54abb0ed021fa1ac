//! Where a point is drawn: throughput to the right, evenly; latency upwards, by decades.

use super::Point;

/// Latencies so many times over the limit are drawn at the upper edge.
const OVER_LIMIT: f64 = 100.0;

/// What is drawn of each point, from the back to the front.
pub(super) const PERCENTILES: [Percentile; 3] = [
    Percentile { name: "p99.9", mark: '×', color: "#b3261e", of: |point| point.latency_us.p99_9 },
    Percentile { name: "p99", mark: 'o', color: "#e08a00", of: |point| point.latency_us.p99 },
    Percentile { name: "p50", mark: '•', color: "#1a6fb0", of: |point| point.latency_us.p50 },
];

/// One line of the picture.
pub(super) struct Percentile {
    pub(super) name: &'static str,
    pub(super) mark: char,
    pub(super) color: &'static str,
    /// Its latency, in µs.
    pub(super) of: fn(&Point) -> f64,
}

/// The edges of a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    /// Throughput at the right edge; it is 0 at the left.
    pub(super) ops_per_s_max: f64,
    /// The power of ten of the latency in µs at the lower edge.
    pub(super) decade_min: i32,
    /// At the upper edge; higher than the lower.
    pub(super) decade_max: i32,
}

impl Scale {
    /// A scale that holds these points, and the limit in µs.
    pub(super) fn of(points: &[Point], limit_us: f64) -> Scale {
        let all = || points.iter().flat_map(|point| PERCENTILES.map(|it| (it.of)(point)));
        let least = all().chain([limit_us]).fold(f64::INFINITY, f64::min).max(0.1);
        let most = all().fold(limit_us, f64::max).min(limit_us * OVER_LIMIT).max(least);
        let decade_min = least.log10().floor() as i32;
        Scale {
            ops_per_s_max: points.iter().map(|point| point.ops_per_s).fold(1.0, f64::max),
            decade_min,
            decade_max: (most.log10().ceil() as i32).max(decade_min + 1),
        }
    }

    /// From 0 at the left edge to 1 at the right.
    pub(super) fn right(&self, ops_per_s: f64) -> f64 {
        (ops_per_s / self.ops_per_s_max).clamp(0.0, 1.0)
    }

    /// From 0 at the lower edge to 1 at the upper.
    pub(super) fn up(&self, latency_us: f64) -> f64 {
        let decades = f64::from(self.decade_max - self.decade_min);
        let above = latency_us.max(f64::MIN_POSITIVE).log10() - f64::from(self.decade_min);
        (above / decades).clamp(0.0, 1.0)
    }

    /// The latencies in µs at which there are lines.
    pub(super) fn decades(&self) -> impl Iterator<Item = f64> + use<> {
        (self.decade_min..=self.decade_max).map(|power| 10f64.powi(power))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::sweep::Latency;

    pub(in crate::sweep) fn point(ops_per_s: f64, p50: f64) -> Point {
        let latency_us = Latency { p50, p99: 3.0 * p50, p99_9: 9.0 * p50 };
        Point { rate: ops_per_s, ops_per_s, latency_us, server_cpu_us_per_op: None }
    }

    #[test]
    fn decades_hold_everything() {
        let points = [point(1_000.0, 20.0), point(4_000.0, 200.0)];
        let scale = Scale::of(&points, 1_000.0);
        let expected = Scale { ops_per_s_max: 4_000.0, decade_min: 1, decade_max: 4 };
        assert_eq!(scale, expected);
        assert_eq!((scale.right(0.0), scale.right(2_000.0), scale.right(4_000.0)), (0.0, 0.5, 1.0));
        assert_eq!((scale.up(10.0), scale.up(1.0), scale.up(10_000.0)), (0.0, 0.0, 1.0));
        assert!((scale.up(100.0) - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(scale.decades().collect::<Vec<_>>(), [10.0, 100.0, 1_000.0, 10_000.0]);
    }

    #[test]
    fn what_is_far_beyond_the_limit_is_at_the_edge() {
        let scale = Scale::of(&[point(1_000.0, 1e9)], 1_000.0);
        assert_eq!((scale.decade_min, scale.decade_max), (3, 5));
        assert_eq!(scale.up(1e9), 1.0);
        let empty = Scale::of(&[], 1_000.0);
        assert_eq!((empty.decade_min, empty.decade_max), (3, 4));
        assert_eq!(empty.right(5.0), 1.0);
    }
}
