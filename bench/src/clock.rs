//! Time as the generator counts it: nanoseconds since the run began. State machines take
//! it as an argument; only the loops that drive them read it.

use std::time::{Duration, Instant};

/// A moment, in nanoseconds since the run began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(pub u64);

impl Nanos {
    /// A moment that never comes.
    pub const NEVER: Nanos = Nanos(u64::MAX);

    /// Nanoseconds since `earlier`, or 0 if that lies ahead.
    pub fn since(self, earlier: Nanos) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This moment and a while.
    pub fn plus(self, while_: Duration) -> Nanos {
        Nanos(self.0.saturating_add(u64::try_from(while_.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The time from `earlier` to this moment.
    pub fn duration_since(self, earlier: Nanos) -> Duration {
        Duration::from_nanos(self.since(earlier))
    }
}

/// The clock of one run. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: Instant,
}

impl Clock {
    /// Starts at zero, now.
    pub fn start() -> Clock {
        Clock { base: Instant::now() }
    }

    /// The present moment.
    pub fn now(&self) -> Nanos {
        Nanos(u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Sleeps until a moment. For threads that only watch.
    pub fn sleep_until(&self, moment: Nanos) {
        std::thread::sleep(moment.duration_since(self.now()));
    }
}
