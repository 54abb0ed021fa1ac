//! The budget of retries: each request pays a tenth of a retry in, and each retry takes a whole
//! one out, so that retries stay a fraction of the traffic when everything fails at once
//! (as Finagle's `RetryBudget` and gRPC's retry throttling do).

use std::sync::atomic::{AtomicU32, Ordering};

use crate::limits::{RETRIES_SAVED_MAX, RETRY_PERCENT};

/// What a retry costs, in the units of the balance; a request pays in so many of them as the
/// percentage says.
const RETRY: u32 = 100;
const BALANCE_MAX: u32 = RETRIES_SAVED_MAX * RETRY;

/// See the module. It is full at first.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    balance: AtomicU32,
}

impl RetryBudget {
    pub(crate) fn new() -> RetryBudget {
        RetryBudget { balance: AtomicU32::new(BALANCE_MAX) }
    }

    /// A request is made for the first time.
    pub(crate) fn pay_in(&self) {
        let more = |balance: u32| (balance < BALANCE_MAX).then(|| balance + RETRY_PERCENT);
        // Full already: nothing to be done about it.
        let _ = self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Whether one may be made again.
    pub(crate) fn take(&self) -> bool {
        let less = |balance: u32| balance.checked_sub(RETRY);
        self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_fraction_of_the_requests() {
        let budget = RetryBudget::new();
        let saved = (0..10_000).filter(|_| budget.take()).count();
        assert_eq!(saved, RETRIES_SAVED_MAX as usize);
        let retried = (0..10_000).filter(|_| {
            budget.pay_in();
            budget.take()
        });
        assert_eq!(retried.count(), 10_000 * RETRY_PERCENT as usize / 100);
    }
}
