//! The client's random choices: by how much waits are jittered, and which requests are kept from
//! a node that is overloaded. Their seed is an argument, so that a run can be repeated.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A source of random numbers that all parts of a client share: SplitMix64 (Steele, Lea, Flood
/// 2014), whose state is a counter.
#[derive(Clone, Debug)]
pub(crate) struct Chance(Arc<AtomicU64>);

impl Chance {
    pub(crate) fn from_seed(seed: u64) -> Chance {
        Chance(Arc::new(AtomicU64::new(seed)))
    }

    /// A source that differs from one client, and from one process, to the next. The standard
    /// library seeds its hash maps with the system's randomness; nothing better is needed to
    /// spread attempts over time.
    pub(crate) fn of_system() -> Chance {
        Chance::from_seed(RandomState::new().hash_one(0))
    }

    /// The next number.
    pub(crate) fn next(&self) -> u64 {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self.0.fetch_add(GOLDEN, Ordering::Relaxed).wrapping_add(GOLDEN);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_systems_differ() {
        let numbers = |chance: Chance| [chance.next(), chance.next(), chance.next()];
        assert_eq!(numbers(Chance::from_seed(7)), numbers(Chance::from_seed(7)));
        assert_ne!(numbers(Chance::of_system()), numbers(Chance::of_system()));
        // The reference implementation's first numbers of seed 0.
        let chance = Chance::from_seed(0);
        assert_eq!([chance.next(), chance.next()], [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4]);
    }
}
