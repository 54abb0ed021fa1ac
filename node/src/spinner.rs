//! Whether a core looks for work a little longer before it sleeps. Waking a sleeping core
//! costs tens of microseconds, so where the next request tends to come sooner, looking is
//! faster; where it does not, looking only burns the CPU.

/// Futile spins in a row after which spinning pauses.
const PATIENCE: u32 = 4;
/// Longest pause, in sleeps.
const PAUSE_MAX: u32 = 256;

/// Decides before each sleep, from how the last spins went.
#[derive(Debug)]
pub(crate) struct Spinner {
    limit_us: u64,
    futile: u32,
    pause: u32,
}

impl Spinner {
    /// Spins for at most so many microseconds at a time; 0 never spins.
    pub(crate) fn new(limit_us: u64) -> Spinner {
        Spinner { limit_us, futile: 0, pause: 0 }
    }

    /// How many microseconds to look before sleeping now.
    pub(crate) fn before_sleep_us(&mut self) -> u64 {
        if self.pause > 0 {
            self.pause -= 1;
            return 0;
        }
        self.limit_us
    }

    /// A spin found work.
    pub(crate) fn paid(&mut self) {
        self.futile = 0;
    }

    /// A spin found nothing: after a few of these, the pauses before the next one double.
    pub(crate) fn was_futile(&mut self) {
        self.futile += 1;
        let beyond = self.futile.saturating_sub(PATIENCE);
        if beyond > 0 {
            self.pause = (1 << beyond.min(31)).min(PAUSE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_spinning_is_futile_and_end_when_it_pays() {
        let mut spinner = Spinner::new(100);
        let mut spins = 0;
        for _ in 0..10_000 {
            if spinner.before_sleep_us() > 0 {
                spins += 1;
                spinner.was_futile();
            }
        }
        assert!(spins < 60, "{spins} of 10000 sleeps");
        spinner.paid();
        while spinner.before_sleep_us() == 0 {}
        spinner.paid();
        assert_eq!(spinner.before_sleep_us(), 100);
        assert_eq!(Spinner::new(0).before_sleep_us(), 0);
    }
}
