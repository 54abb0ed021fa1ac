//! What one thread counted.

use hdrhistogram::Histogram;

use crate::clock::Nanos;

/// Longest latency told apart, in nanoseconds; longer ones count as this.
const LATENCY_NS_MAX: u64 = 100_000_000_000;

/// Most of the server's complaints that are kept word for word.
const COMPLAINTS_MAX: usize = 5;

/// The part of a run that is measured.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// From here.
    pub from: Nanos,
    /// Up to here, and no further.
    pub to: Nanos,
}

impl Window {
    /// Everything.
    pub const ALWAYS: Window = Window { from: Nanos(0), to: Nanos::NEVER };

    /// Whether a moment is measured.
    pub fn contains(&self, moment: Nanos) -> bool {
        self.from <= moment && moment < self.to
    }
}

/// Counts of one thread, or of several added up. What can go wrong is counted always, the
/// rest only within the measured window.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Requests answered.
    pub ops: u64,
    /// Reads that found the key.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Writes done.
    pub stored: u64,
    /// Requests that the server refused.
    pub errors: u64,
    /// Replies with a value that is not the key's.
    pub wrong_values: u64,
    /// Requests never answered.
    pub lost: u64,
    /// Requests of an open loop that were due within the run and could not be sent in it.
    pub not_sent: u64,
    /// Nanoseconds from send, or from when the request was due, to reply.
    pub latency: Histogram<u64>,
    /// What the server said when it refused, the first few times.
    pub complaints: Vec<String>,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            ops: 0,
            hits: 0,
            misses: 0,
            stored: 0,
            errors: 0,
            wrong_values: 0,
            lost: 0,
            not_sent: 0,
            latency: Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)
                .expect("the bounds are constants"),
            complaints: Vec::new(),
        }
    }
}

impl Tally {
    /// Records that `count` requests took this long.
    pub fn record_latency(&mut self, nanoseconds: u64, count: u64) {
        self.latency.saturating_record_n(nanoseconds.max(1), count);
    }

    /// Counts a refusal.
    pub fn complain(&mut self, words: &str) {
        self.errors += 1;
        if self.complaints.len() < COMPLAINTS_MAX && !self.complaints.iter().any(|old| old == words)
        {
            self.complaints.push(words.to_owned());
        }
    }

    /// Adds another thread's counts.
    pub fn add(&mut self, other: &Tally) {
        self.ops += other.ops;
        self.hits += other.hits;
        self.misses += other.misses;
        self.stored += other.stored;
        self.errors += other.errors;
        self.wrong_values += other.wrong_values;
        self.lost += other.lost;
        self.not_sent += other.not_sent;
        self.latency.add(&other.latency).expect("both histograms have the same bounds");
        for words in &other.complaints {
            if self.complaints.len() < COMPLAINTS_MAX && !self.complaints.contains(words) {
                self.complaints.push(words.clone());
            }
        }
    }

    /// Whether every request was answered, and rightly.
    pub fn is_clean(&self) -> bool {
        self.errors == 0 && self.wrong_values == 0 && self.lost == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up() {
        let mut a = Tally { ops: 3, hits: 2, misses: 1, ..Tally::default() };
        a.record_latency(1_000, 3);
        a.complain("busy");
        let mut b = Tally { ops: 1, wrong_values: 1, ..Tally::default() };
        b.record_latency(9_000, 1);
        b.complain("busy");
        b.complain("no memory");
        a.add(&b);
        assert_eq!((a.ops, a.hits, a.misses, a.errors, a.wrong_values), (4, 2, 1, 3, 1));
        assert_eq!(a.complaints, ["busy", "no memory"]);
        assert_eq!(a.latency.len(), 4);
        assert!(!a.is_clean());
    }

    #[test]
    fn percentiles_come_from_the_counts() {
        let mut tally = Tally::default();
        for microseconds in 1..=1_000 {
            tally.record_latency(microseconds * 1_000, 1);
        }
        for (percentile, expected) in [(50.0, 500_000.0), (90.0, 900_000.0), (99.0, 990_000.0)] {
            let measured = tally.latency.value_at_percentile(percentile) as f64;
            assert!((measured / expected - 1.0).abs() < 0.002, "p{percentile}: {measured}");
        }
        assert!(tally.latency.max() >= 1_000_000);
    }

    #[test]
    fn a_latency_beyond_the_histogram_counts_as_its_longest() {
        let mut tally = Tally::default();
        tally.record_latency(u64::MAX, 1);
        assert!(tally.latency.max() >= LATENCY_NS_MAX);
    }

    #[test]
    fn the_window_has_its_start_and_not_its_end() {
        let window = Window { from: Nanos(10), to: Nanos(20) };
        assert!(!window.contains(Nanos(9)));
        assert!(window.contains(Nanos(10)));
        assert!(!window.contains(Nanos(20)));
    }
}
