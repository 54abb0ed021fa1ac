//! The node's clock: microseconds since it started, read once a turn.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use corelane_protocol::MonotonicUs;

/// A monotonic clock that all cores of a node share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that begins now. It begins at one second, so that no moment is the zeroth.
    pub(crate) fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    pub(crate) fn now(&self) -> MonotonicUs {
        MonotonicUs(1_000_000 + self.start.elapsed().as_micros() as u64)
    }
}

/// The wall clock, in milliseconds since 1970; 0 before.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
