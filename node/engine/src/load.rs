//! Whether this core keeps up, and what it does if not: requests that say how long they may
//! take are refused while there is time to ask elsewhere; of the others less is read.
//!
//! All that has arrived is handled in one turn, so requests queue for as long as the turn before
//! took, and for what is handled before them in their own. The rule is CoDel's (Nichols and
//! Jacobson, RFC 8289) in the form that suits servers (Maurer, "Fail at Scale", ACM Queue 13(8),
//! 2015): while the queue has not been empty for an interval it may hold nobody longer than the
//! target, else than the interval.

use corelane_protocol::MonotonicUs;

use crate::limits::{QUEUE_INTERVAL_US, QUEUE_TARGET_US};

/// Requests of a turn from which it tells what one costs.
const COST_SAMPLE: u64 = 16;

/// What one core knows of its own load.
#[derive(Debug)]
pub(crate) struct Load {
    turn_began: MonotonicUs,
    /// How long the first request of this turn may have queued, in microseconds.
    queued_us: u64,
    /// When the queue was last empty.
    idle_at: MonotonicUs,
    /// Requests executed when the turn began.
    executed_before: u64,
    /// Nanoseconds of a request, network included: a moving average.
    cost_ns: u64,
}

impl Load {
    pub(crate) fn new(now: MonotonicUs) -> Load {
        Load { turn_began: now, queued_us: 0, idle_at: now, executed_before: 0, cost_ns: 0 }
    }

    /// A turn begins; what it will handle may have waited since `queued_since`, which is now if
    /// the world had nothing to do.
    pub(crate) fn begin_turn(
        &mut self,
        now: MonotonicUs,
        queued_since: MonotonicUs,
        executed: u64,
    ) {
        let requests = executed - self.executed_before;
        if queued_since == now {
            self.idle_at = now;
        } else if requests >= COST_SAMPLE {
            let cost_ns = (now.0 - self.turn_began.0) * 1_000 / requests;
            self.cost_ns =
                if self.cost_ns == 0 { cost_ns } else { (7 * self.cost_ns + cost_ns) / 8 };
        }
        self.queued_us = now.0 - queued_since.0;
        self.turn_began = now;
        self.executed_before = executed;
    }

    /// How long the first request of this turn may have queued, in microseconds.
    pub(crate) fn queued_us(&self) -> u64 {
        self.queued_us
    }

    /// Whether the queue has not been empty for an interval, and is longer than it should be.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.is_busy() && self.queued_us >= QUEUE_TARGET_US
    }

    fn is_busy(&self) -> bool {
        self.turn_began.0 - self.idle_at.0 >= QUEUE_INTERVAL_US
    }

    /// Microseconds after which to ask again, where a request that comes next, after so many
    /// executed ones, has queued for longer than it may.
    pub(crate) fn refuses(&self, executed: u64) -> Option<u32> {
        let before_us = (executed - self.executed_before) * self.cost_ns / 1_000;
        // On average it came in the middle of the last turn.
        let queued_us = self.queued_us / 2 + before_us;
        let limit_us = if self.is_busy() { QUEUE_TARGET_US } else { QUEUE_INTERVAL_US };
        (queued_us > limit_us).then(|| u32::try_from(queued_us).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(us: u64) -> MonotonicUs {
        MonotonicUs(us)
    }

    #[test]
    fn a_long_queue_is_borne_for_an_interval_and_then_cut() {
        let mut load = Load::new(us(0));
        let (mut now, mut executed) = (0, 0);
        load.begin_turn(us(now), us(now), executed);
        // Turns of 15 ms: over the target, under the interval.
        for _ in 0..6 {
            assert_eq!(load.refuses(executed), None);
            let before = now;
            (now, executed) = (now + 15_000, executed + 1_500);
            load.begin_turn(us(now), us(before), executed);
        }
        assert!(!load.is_overloaded());
        let before = now;
        (now, executed) = (now + 15_000, executed + 1_500);
        load.begin_turn(us(now), us(before), executed);
        assert!(load.is_overloaded());
        assert_eq!(load.refuses(executed), Some(7_500));
        // A short turn follows, in which 10 µs a request leave room for 450 of them.
        load.begin_turn(us(now + 1_000), us(now), executed);
        assert_eq!(load.refuses(executed + 450), None);
        assert_eq!(load.refuses(executed + 451), Some(5_010));
        // Once the queue has been empty, more is borne again.
        now += 2_000;
        load.begin_turn(us(now), us(now), executed);
        assert_eq!(load.refuses(executed + 451), None);
    }

    #[test]
    fn a_queue_of_an_interval_is_too_long_at_once() {
        let mut load = Load::new(us(0));
        load.begin_turn(us(250_000), us(0), 0);
        assert_eq!(load.refuses(0), Some(125_000));
    }
}
