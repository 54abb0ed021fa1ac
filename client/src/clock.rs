//! Two clocks: the client's own, as a number that state machines take as an argument, and
//! what is known of a node's, so that a deadline can be told in the node's terms.

use std::time::Duration;

use corelane_protocol::MonotonicUs;
use tokio::time::Instant;

use crate::limits::{CLOCK_DRIFT_PER_MILLION, CLOCK_SAMPLE_AGE_MAX};

/// A moment, in microseconds since the client was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LocalTime(pub(crate) u64);

impl LocalTime {
    /// Later than every moment that comes.
    pub(crate) const NEVER: LocalTime = LocalTime(u64::MAX);

    /// The moment so much later, at the utmost [`LocalTime::NEVER`].
    pub(crate) fn plus(self, duration: Duration) -> LocalTime {
        LocalTime(self.0.saturating_add(micros(duration)))
    }

    /// The time from an earlier moment to this one; none if it is not earlier.
    pub(crate) fn since(self, earlier: LocalTime) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Reads the time. Only what does I/O has one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    pub(crate) fn now(&self) -> LocalTime {
        LocalTime(micros(self.origin.elapsed()))
    }

    /// The moment in the runtime's terms; far in the future if it lies beyond what those can say.
    pub(crate) fn instant(&self, at: LocalTime) -> Instant {
        const FAR: Duration = Duration::from_secs(86_400 * 365);
        self.origin + Duration::from_micros(at.0).min(self.now().since(LocalTime(0)) + FAR)
    }
}

/// What is known of a node's monotonic clock: one reading, and by how much it may be wrong.
///
/// A reading that came with a round trip was made somewhere between its two ends; taking the
/// middle, it is wrong by at most half the round trip, plus what the clocks drifted apart
/// since. The reading with the smallest bound is kept, which is the one of the fastest round
/// trip until that has aged (D. Mills, "Internet Time Synchronization", 1991, filters so too).
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeClock {
    read_at: LocalTime,
    node_us: u64,
    error_us: u64,
}

impl NodeClock {
    /// From a first round trip: when the question was sent, when the answer came, what it said.
    pub(crate) fn new(sent: LocalTime, received: LocalTime, node: MonotonicUs) -> NodeClock {
        let error_us = received.0.saturating_sub(sent.0) / 2;
        NodeClock { read_at: LocalTime(sent.0 + error_us), node_us: node.0, error_us }
    }

    /// Takes a further round trip into account.
    pub(crate) fn observe(&mut self, sent: LocalTime, received: LocalTime, node: MonotonicUs) {
        let new = NodeClock::new(sent, received, node);
        let aged = self.error_us + self.age_us(received) * CLOCK_DRIFT_PER_MILLION / 1_000_000;
        if new.error_us <= aged {
            *self = new;
        }
    }

    /// Whether it is time for a new round trip.
    pub(crate) fn is_stale(&self, now: LocalTime) -> bool {
        self.age_us(now) > micros(CLOCK_SAMPLE_AGE_MAX)
    }

    /// What the node's clock shows at a moment of ours.
    pub(crate) fn at(&self, moment: LocalTime) -> MonotonicUs {
        let ahead = i128::from(moment.0) - i128::from(self.read_at.0);
        let node_us = (i128::from(self.node_us) + ahead).clamp(0, i128::from(u64::MAX));
        MonotonicUs(node_us as u64)
    }

    fn age_us(&self, now: LocalTime) -> u64 {
        now.0.saturating_sub(self.read_at.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_round_trip_decides() {
        let mut clock = NodeClock::new(LocalTime(1_000), LocalTime(1_400), MonotonicUs(50_000));
        assert_eq!(clock.at(LocalTime(1_200)), MonotonicUs(50_000));
        assert_eq!(clock.at(LocalTime(2_200)), MonotonicUs(51_000));

        // A slower one says less, and is ignored.
        clock.observe(LocalTime(2_000), LocalTime(3_000), MonotonicUs(51_790));
        assert_eq!(clock.at(LocalTime(2_200)), MonotonicUs(51_000));

        // A faster one replaces it.
        clock.observe(LocalTime(4_000), LocalTime(4_020), MonotonicUs(52_900));
        assert_eq!(clock.at(LocalTime(4_010)), MonotonicUs(52_900));
    }

    #[test]
    fn an_old_reading_gives_way_to_a_slower_round_trip() {
        let mut clock = NodeClock::new(LocalTime(0), LocalTime(20), MonotonicUs(1_000));
        // After 10 s the clocks may have drifted apart by 1 ms.
        assert!(!clock.is_stale(LocalTime(10_000_000)));
        assert!(clock.is_stale(LocalTime(10_000_011)));
        clock.observe(LocalTime(10_000_000), LocalTime(10_000_900), MonotonicUs(10_002_000));
        assert_eq!(clock.at(LocalTime(10_000_450)), MonotonicUs(10_002_000));
    }

    #[test]
    fn mapping_is_right_within_half_the_round_trip() {
        // The node's clock is ours plus an offset; the reading is taken anywhere on the way.
        let offset = 7_000_000;
        for (way_there, way_back) in [(0, 300), (300, 0), (150, 150), (10, 290)] {
            let read = 1_000 + way_there;
            let clock = NodeClock::new(
                LocalTime(1_000),
                LocalTime(read + way_back),
                MonotonicUs(read + offset),
            );
            let told = clock.at(LocalTime(500_000)).0;
            assert!(told.abs_diff(500_000 + offset) <= 150, "{way_there}/{way_back}: {told}");
        }
    }

    #[test]
    fn moments_before_the_nodes_origin_are_its_origin() {
        let clock = NodeClock::new(LocalTime(1_000), LocalTime(1_000), MonotonicUs(10));
        assert_eq!(clock.at(LocalTime(0)), MonotonicUs(0));
        assert_eq!(clock.at(LocalTime::NEVER).0, u64::MAX - 990);
    }
}
