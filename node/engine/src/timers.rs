//! All timers of one engine: one enum, one table with a place for each.

use corelane_shard::Millis;

/// What can become due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The flush that was asked for with a delay; a later one replaces it.
    Flush,
    /// A look at a slice of the connections for idle ones.
    Sweep,
    /// The end of the time in which slots that came are warmed, and slots that left are kept.
    WarmUp,
}

const ALL: [Timer; 3] = [Timer::Flush, Timer::Sweep, Timer::WarmUp];

/// When each timer is due.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    at: [Option<Millis>; ALL.len()],
}

impl Timers {
    /// Sets a timer, whatever it was set to.
    pub(crate) fn arm(&mut self, timer: Timer, at: Millis) {
        self.at[timer as usize] = Some(at);
    }

    /// Clears a timer.
    pub(crate) fn disarm(&mut self, timer: Timer) {
        self.at[timer as usize] = None;
    }

    /// A timer that is due; it is cleared.
    pub(crate) fn due(&mut self, now: Millis) -> Option<Timer> {
        let timer = ALL.into_iter().find(|t| self.at[*t as usize].is_some_and(|at| at <= now))?;
        self.disarm(timer);
        Some(timer)
    }

    /// When the next timer is due.
    pub(crate) fn next(&self) -> Option<Millis> {
        self.at.iter().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_once_and_replaced_by_a_later_arm() {
        let mut timers = Timers::default();
        timers.arm(Timer::Sweep, Millis(30));
        timers.arm(Timer::Flush, Millis(10));
        assert_eq!(timers.next(), Some(Millis(10)));
        timers.arm(Timer::Flush, Millis(20));
        assert_eq!(timers.due(Millis(19)), None);
        assert_eq!(timers.due(Millis(40)), Some(Timer::Flush));
        assert_eq!(timers.due(Millis(40)), Some(Timer::Sweep));
        assert_eq!((timers.due(Millis(40)), timers.next()), (None, None));
    }
}
