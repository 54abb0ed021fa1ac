//! What is asked: keys by number, a value that follows from its key, and the order in
//! which a run draws them.
//!
//! ```text
//! distribution ─ number ─► steering (which core's?) ─► keys ─ bytes ─► codec
//!                    └───────────────────────────────► values ─ bytes ─► codec, checks
//! ```

pub mod distribution;
pub mod keys;
pub mod steering;
pub mod values;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

pub use distribution::{Distribution, Sampler};
pub use keys::{KeyFormat, KeyNumber};
pub use steering::{Chooser, Steer, Target};
pub use values::ValueFormat;

/// What a run asks for, whatever the protocol.
#[derive(Clone, Debug, Serialize)]
pub struct Workload {
    /// How many keys there are.
    pub keys: u64,
    /// Bytes of each key.
    pub key_bytes: usize,
    /// Bytes of each value.
    pub value_bytes: usize,
    /// The share of reads, 0 to 1.
    pub get_share: f64,
    /// How keys are drawn.
    pub distribution: Distribution,
    /// Where the draws start from.
    pub seed: u64,
}

/// What is done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Read it.
    Get,
    /// Write it.
    Set,
}

/// Draws operations in the workload's proportions.
#[derive(Clone, Debug)]
pub struct Mix {
    /// Draws below it are reads; one more than the largest draw where all are.
    reads_below: u64,
    random: SmallRng,
}

impl Mix {
    /// A mix with a share of reads between 0 and 1.
    pub fn new(get_share: f64, seed: u64) -> Mix {
        let range = (1u64 << 32) as f64;
        Mix {
            reads_below: (get_share.clamp(0.0, 1.0) * range) as u64,
            random: SmallRng::seed_from_u64(seed),
        }
    }

    /// The next operation.
    pub fn draw(&mut self) -> Operation {
        if self.random.next_u64() >> 32 < self.reads_below {
            Operation::Get
        } else {
            Operation::Set
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mix_keeps_its_proportions() {
        for share in [0.0, 0.5, 0.95, 1.0] {
            let mut mix = Mix::new(share, 7);
            let reads = (0..100_000).filter(|_| mix.draw() == Operation::Get).count() as f64 / 1e5;
            assert!((reads - share).abs() < 0.01, "{reads} of {share}");
        }
    }
}
