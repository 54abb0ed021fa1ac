//! What a shard is told when it is made.

use std::str::FromStr;

/// Configuration of one shard. Seeds are arguments so that a simulated node can be replayed.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Bytes that the shard may hold in all: entries, index, wheel and the policy's memory.
    pub budget_bytes: u64,
    /// The largest budget that [`Shard::set_budget`](crate::Shard::set_budget) may be given
    /// later. Sizes the reserved address space, not memory.
    pub budget_bytes_max: u64,
    /// The routing slot of a key's bytes, as the callers of
    /// [`Shard::key`](crate::Shard::key) compute it. The shard finds the slot of stored keys
    /// with it instead of storing it.
    pub slot_of: fn(&[u8]) -> u16,
    /// The index's hash and its secret.
    pub hash: TableHash,
    /// What is evicted when the budget is used up.
    pub policy: Policy,
    /// At most this many entries, whatever their size: beyond, entries are evicted, or new ones
    /// refused. For comparisons with caches that are limited so.
    pub items_max: u64,
    /// The longest value, in bytes.
    pub value_bytes_max: u64,
    /// One value takes at most 1/`value_share_max` of the budget.
    pub value_share_max: u64,
    /// Where the version counter starts.
    pub version_seed: u64,
    /// Seeds what the policies draw by lot.
    pub random_seed: u64,
    /// Whether the kernel may back the arena with huge pages.
    pub huge_pages: HugePages,
    /// The memory (NUMA) node that the arena's memory should come from, whichever thread
    /// touches it first; others help out where it has none left. Without one, memory comes
    /// from the node of whoever touches it first.
    pub memory_node: Option<u16>,
}

impl ShardConfig {
    /// The defaults around a budget in bytes: `s3` over all keys, values up to 64 MiB and up
    /// to an eighth of the shard, fixed seeds (a server sets its own).
    pub fn new(budget_bytes: u64, slot_of: fn(&[u8]) -> u16) -> Self {
        Self {
            budget_bytes,
            budget_bytes_max: budget_bytes,
            slot_of,
            hash: TableHash::Rapid { seed: 0 },
            policy: Policy::default(),
            items_max: u64::MAX,
            value_bytes_max: 64 << 20,
            value_share_max: 8,
            version_seed: 1,
            random_seed: 1,
            huge_pages: HugePages::Never,
            memory_node: None,
        }
    }
}

/// The keyed hash of the index. The key is a secret of the process; it has nothing to do with
/// the public hash that routes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TableHash {
    /// rapidhash with secrets drawn from a seed: fast, and enough against accidents and
    /// published attacks.
    Rapid {
        /// Random, secret.
        seed: u64,
    },
    /// SipHash-1-3, a keyed pseudo-random function: for keys chosen by an enemy.
    SipHash13 {
        /// Random, secret.
        key: [u8; 16],
    },
}

impl std::fmt::Debug for TableHash {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret stays out of logs.
        out.write_str(match self {
            Self::Rapid { .. } => "Rapid",
            Self::SipHash13 { .. } => "SipHash13",
        })
    }
}

/// Whether the arena asks the kernel for huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePages {
    /// It asks for none even where the system gives them unasked: memory is touched a little
    /// at a time, and the first touch of a huge page took 5.5 ms where it was measured.
    Never,
    /// For what a [`Prefaulter`](crate::Prefaulter) touches before the shard does.
    Ahead,
    /// For all of it.
    Advise,
}

/// What makes room when the budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Nothing: writes are refused, reads go on.
    NoEviction,
    /// Entries leave.
    Evict {
        /// In this order.
        algorithm: Algorithm,
        /// Out of these.
        among: Among,
    },
}

/// Which entry goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// The least recently used, approximated by a clock hand over the index.
    Clock,
    /// The same hand, with a probation queue for new entries and a ghost of those that left
    /// it, after S3-FIFO (Yang and others, SOSP 2023).
    S3,
    /// The least frequently used; old fame fades.
    Lfu,
    /// The oldest, to about a fourteenth of the cache's turnover.
    Fifo,
    /// Any.
    Random,
    /// The soonest to expire; entries without expiry go last, by the clock.
    Ttl,
}

/// Which entries a policy may evict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Among {
    /// All of them.
    All,
    /// Those that have an expiry.
    WithExpiry,
}

impl Default for Policy {
    fn default() -> Self {
        Self::Evict { algorithm: Algorithm::S3, among: Among::All }
    }
}

/// A policy's name was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown policy; known are noeviction, clock, s3, lfu, fifo, random, ttl, each but the \
     first also as volatile-NAME, and Redis's names"
)]
pub struct UnknownPolicy;

impl FromStr for Policy {
    type Err = UnknownPolicy;

    /// Takes our names (`s3`, `volatile-s3`, …) and Redis's (`allkeys-lru`, `volatile-ttl`, …)
    /// for their nearest.
    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        if name == "noeviction" {
            return Ok(Self::NoEviction);
        }
        let (among, algorithm) = match name.split_once('-') {
            Some(("allkeys", algorithm)) => (Among::All, algorithm),
            Some(("volatile", algorithm)) => (Among::WithExpiry, algorithm),
            Some(_) => return Err(UnknownPolicy),
            None => (Among::All, name),
        };
        let algorithm = match algorithm {
            "clock" | "lru" => Algorithm::Clock,
            "s3" => Algorithm::S3,
            "lfu" => Algorithm::Lfu,
            "fifo" => Algorithm::Fifo,
            "random" => Algorithm::Random,
            "ttl" => Algorithm::Ttl,
            _ => return Err(UnknownPolicy),
        };
        Ok(Self::Evict { algorithm, among })
    }
}

impl std::fmt::Display for Policy {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::Evict { algorithm, among } = self else {
            return out.write_str("noeviction");
        };
        if *among == Among::WithExpiry {
            out.write_str("volatile-")?;
        }
        out.write_str(match algorithm {
            Algorithm::Clock => "clock",
            Algorithm::S3 => "s3",
            Algorithm::Lfu => "lfu",
            Algorithm::Fifo => "fifo",
            Algorithm::Random => "random",
            Algorithm::Ttl => "ttl",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_named_both_ways() {
        let names = [
            ("allkeys-lru", "clock"),
            ("volatile-lru", "volatile-clock"),
            ("allkeys-lfu", "lfu"),
            ("volatile-ttl", "volatile-ttl"),
            ("allkeys-random", "random"),
            ("noeviction", "noeviction"),
            ("s3", "s3"),
            ("volatile-s3", "volatile-s3"),
            ("fifo", "fifo"),
        ];
        for (name, canonical) in names {
            let policy: Policy = name.parse().expect(name);
            assert_eq!(policy.to_string(), canonical);
            assert_eq!(canonical.parse(), Ok(policy));
        }
        for name in ["", "lru-allkeys", "allkeys-", "S3"] {
            assert_eq!(name.parse::<Policy>(), Err(UnknownPolicy));
        }
    }
}
