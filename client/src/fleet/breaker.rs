//! The circuit breaker of one node (M. Nygard, "Release It!", 2007).
//!
//! ```text
//! closed ─ so many failures in a row ─► open ─ a probe was answered ─► half open
//!   ▲                                    ▲                                │  │
//!   │                                    └────────── one failure ─────────┘  │
//!   └──────────────────────── so many answers in a row ──────────────────────┘
//! ```
//!
//! While it is open nothing is sent but probes, which a task of the fleet makes; the half-open
//! breaker lets requests through.

use crate::limits::{BREAKER_ANSWERS_TO_CLOSE, BREAKER_FAILURES_TO_OPEN};

/// What a request told of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It answers, whatever it says.
    Answer,
    /// It did not, or could not be reached.
    Failure,
}

/// What became of the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is as it was, or closer to it.
    Nothing,
    /// It opened just now: somebody must begin to probe.
    Opened,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breaker {
    /// After so many failures in a row.
    Closed { failures: u32 },
    /// After so many probes that failed, and half-open times that did.
    Open { attempts: u32 },
    /// After so many answers in a row.
    HalfOpen { answers: u32, attempts: u32 },
}

impl Breaker {
    pub(crate) const CLOSED: Breaker = Breaker::Closed { failures: 0 };

    /// Whether requests are kept from the node.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Breaker::Open { .. })
    }

    /// Takes a request's sign of the node. What comes in while the breaker is open was sent
    /// before, and says nothing new.
    pub(crate) fn record(&mut self, sign: Sign) -> Change {
        let next = match (*self, sign) {
            (Breaker::Closed { .. }, Sign::Answer) => Breaker::CLOSED,
            (Breaker::Closed { failures }, Sign::Failure) => match failures + 1 {
                BREAKER_FAILURES_TO_OPEN.. => Breaker::Open { attempts: 0 },
                failures => Breaker::Closed { failures },
            },
            (Breaker::HalfOpen { answers, attempts }, Sign::Answer) => match answers + 1 {
                BREAKER_ANSWERS_TO_CLOSE.. => Breaker::CLOSED,
                answers => Breaker::HalfOpen { answers, attempts },
            },
            (Breaker::HalfOpen { attempts, .. }, Sign::Failure) => {
                Breaker::Open { attempts: attempts.saturating_add(1) }
            }
            (Breaker::Open { .. }, _) => return Change::Nothing,
        };
        *self = next;
        if next.is_open() { Change::Opened } else { Change::Nothing }
    }

    /// A probe failed; how many did so in a row, this one included.
    pub(crate) fn probe_failed(&mut self) -> u32 {
        match self {
            Breaker::Open { attempts } => {
                *attempts = attempts.saturating_add(1);
                *attempts
            }
            _ => 1,
        }
    }

    /// A probe was answered, and what was owed to the node is paid.
    pub(crate) fn probe_answered(&mut self) {
        if let Breaker::Open { attempts } = *self {
            *self = Breaker::HalfOpen { answers: 0, attempts };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(mut breaker: Breaker, sign: Sign, times: u32) -> Breaker {
        for _ in 0..times {
            breaker.record(sign);
        }
        breaker
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let almost = after(Breaker::CLOSED, Sign::Failure, BREAKER_FAILURES_TO_OPEN - 1);
        assert!(!almost.is_open());
        let mut breaker = after(almost, Sign::Answer, 1);
        breaker = after(breaker, Sign::Failure, BREAKER_FAILURES_TO_OPEN - 1);
        assert!(!breaker.is_open());
        assert_eq!(breaker.record(Sign::Failure), Change::Opened);
        assert_eq!(breaker, Breaker::Open { attempts: 0 });
        // Late answers and failures change nothing.
        assert_eq!(after(breaker, Sign::Answer, 100), breaker);
        assert_eq!(after(breaker, Sign::Failure, 100), breaker);
    }

    #[test]
    fn a_half_open_breaker_opens_on_one_failure_and_closes_on_several_answers() {
        let mut breaker = Breaker::Open { attempts: 0 };
        assert_eq!(breaker.probe_failed(), 1);
        assert_eq!(breaker.probe_failed(), 2);
        breaker.probe_answered();
        assert!(!breaker.is_open());

        let mut again = after(breaker, Sign::Answer, BREAKER_ANSWERS_TO_CLOSE - 1);
        assert_eq!(again.record(Sign::Failure), Change::Opened);
        assert_eq!(again, Breaker::Open { attempts: 3 });

        assert_eq!(after(breaker, Sign::Answer, BREAKER_ANSWERS_TO_CLOSE), Breaker::CLOSED);
    }
}
