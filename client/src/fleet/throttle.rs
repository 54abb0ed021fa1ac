//! Requests that an overloaded node would only refuse are refused here, with a probability
//! that follows how many it refused lately: `(requests - 2 × accepted) / (requests + 1)`
//! ("Client-side throttling" in "Handling Overload", Site Reliability Engineering, 2016).
//!
//! A node that accepts at least every second request sees all of them. Counts are halved
//! every few seconds, so what is long past is forgotten.

use std::time::Duration;

use crate::clock::LocalTime;
use crate::limits::THROTTLE_HALF_LIFE;

/// How many requests are made for each that is accepted before any are kept back.
const REQUESTS_PER_ACCEPTED: f64 = 2.0;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Throttle {
    requests: f64,
    accepted: f64,
    halved_at: LocalTime,
    /// What the node said last.
    retry_after: Duration,
}

impl Throttle {
    pub(crate) fn new(now: LocalTime) -> Throttle {
        Throttle { requests: 0.0, accepted: 0.0, halved_at: now, retry_after: Duration::ZERO }
    }

    /// Whether to send a request; else after which time to try again. `random` is any
    /// 64-bit number.
    pub(crate) fn admit(&mut self, now: LocalTime, random: u64) -> Result<(), Duration> {
        self.forget(now);
        let surplus = self.requests - REQUESTS_PER_ACCEPTED * self.accepted;
        let refuse = surplus / (self.requests + 1.0);
        if (random as f64) < refuse * u64::MAX as f64 {
            self.requests += 1.0;
            return Err(self.retry_after);
        }
        Ok(())
    }

    /// The node took a request.
    pub(crate) fn accepted(&mut self) {
        self.requests += 1.0;
        self.accepted += 1.0;
    }

    /// The node refused one.
    pub(crate) fn refused(&mut self, retry_after: Duration) {
        self.requests += 1.0;
        self.retry_after = retry_after;
    }

    fn forget(&mut self, now: LocalTime) {
        let halvings = now.since(self.halved_at).as_micros() / THROTTLE_HALF_LIFE.as_micros();
        if halvings > 0 {
            let share = 0.5f64.powi(halvings.min(64) as i32);
            self.requests *= share;
            self.accepted *= share;
            self.halved_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    /// How many of ten thousand requests are sent to a node that takes so many of each
    /// hundred that are wanted, and refuses the others that it sees.
    fn sent(capacity: u32) -> u32 {
        let mut random = SmallRng::seed_from_u64(7);
        let mut throttle = Throttle::new(LocalTime(0));
        let mut sent = 0;
        for _ in 0..100 {
            let mut room = capacity;
            for _ in 0..100 {
                if throttle.admit(LocalTime(0), random.next_u64()).is_err() {
                    continue;
                }
                sent += 1;
                match room.checked_sub(1) {
                    Some(rest) => {
                        room = rest;
                        throttle.accepted();
                    }
                    None => throttle.refused(Duration::from_millis(3)),
                }
            }
        }
        sent
    }

    #[test]
    fn a_node_sees_about_twice_what_it_takes() {
        assert_eq!(sent(100), 10_000);
        assert!(sent(60) > 9_900, "{}", sent(60));
        let some = sent(20);
        assert!((3_600..=4_600).contains(&some), "{some}");
        assert!(sent(0) < 50, "{}", sent(0));
    }

    #[test]
    fn the_past_is_forgotten() {
        let mut throttle = Throttle::new(LocalTime(0));
        for _ in 0..1_000 {
            throttle.refused(Duration::from_millis(3));
        }
        assert_eq!(throttle.admit(LocalTime(0), 0), Err(Duration::from_millis(3)));
        let later = LocalTime(0).plus(THROTTLE_HALF_LIFE * 40);
        assert_eq!(throttle.admit(later, 1 << 40), Ok(()));
    }
}
