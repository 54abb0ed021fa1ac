//! How long to wait before the next attempt to connect.

use std::time::Duration;

use crate::limits::{BACKOFF_FIRST, BACKOFF_MAX};

/// The wait after so many failures in a row: it doubles from one to the next up to a bound,
/// and between half and all of it is taken at random, so that many clients do not return in
/// step ("equal jitter", M. Brooker, "Exponential Backoff and Jitter", AWS 2015).
pub(crate) fn delay(failures: u32, random: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let whole = BACKOFF_FIRST.saturating_mul(1 << doublings).min(BACKOFF_MAX);
    let half = whole / 2;
    let share = (random >> 32) as f64 / f64::from(u32::MAX);
    half + half.mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_bound_and_keep_half_of_it() {
        assert_eq!(delay(1, 0), BACKOFF_FIRST / 2);
        assert_eq!(delay(1, u64::MAX), BACKOFF_FIRST);
        assert_eq!(delay(3, u64::MAX), BACKOFF_FIRST * 4);
        for failures in [8, 20, u32::MAX] {
            assert_eq!(delay(failures, u64::MAX), BACKOFF_MAX);
            assert_eq!(delay(failures, 0), BACKOFF_MAX / 2);
        }
    }
}
