//! A trace through the real shard, as a cache in front of a slower store is used: read, and
//! write what was not there.

use corelane_ring::slot_of;
use corelane_shard::{Millis, Policy, Shard, ShardConfig, ShardError, Write};

use super::limit::Limit;
use super::trace::Trace;

/// Bytes of every key: the object's id in hexadecimal.
const KEY_BYTES: usize = 16;
/// Requests in a millisecond of the shard's time, for policies that age by it.
const REQUESTS_PER_MS: usize = 100;
/// Requests between two slices of housekeeping, as a node's loop has them between batches.
const REQUESTS_PER_TICK: usize = 16;
/// Budget for each entry of a shard that is limited in entries: more than it needs, so that
/// nothing but their number limits it.
const ENTRY_BUDGET_BYTES: u64 = 256;
/// And for what does not depend on them.
const FIXED_BUDGET_BYTES: u64 = 16 << 20;
/// Longest value the shard is allowed, in bytes.
const VALUE_BYTES_MAX: u64 = 64 << 20;

/// What the shard made of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardRun {
    /// Requests that found nothing.
    pub misses: u64,
    /// Entries at the end.
    pub items: u64,
    /// Entries evicted.
    pub evicted: u64,
    /// Writes refused, as those of values over the shard's largest share for one.
    pub refused: u64,
    /// Bytes of keys and values at the end.
    pub payload_bytes: u64,
    /// What it was allowed to hold, in bytes: the limit, or the least that a shard takes.
    pub budget_bytes: u64,
}

/// Replays a trace through a shard with a limit of `capacity` entries or bytes. Under a limit
/// in entries values are empty; under one in bytes, key and value together have the object's
/// size.
///
/// # Errors
/// The shard cannot be made.
pub fn run(
    trace: &Trace,
    limit: Limit,
    capacity: u64,
    policy: Policy,
    seed: u64,
) -> Result<ShardRun, ShardError> {
    let (budget_bytes, items_max) = match limit {
        Limit::Entries => (capacity * ENTRY_BUDGET_BYTES + FIXED_BUDGET_BYTES, capacity),
        Limit::Bytes => (capacity, u64::MAX),
    };
    let config = ShardConfig {
        policy,
        items_max,
        value_bytes_max: VALUE_BYTES_MAX,
        random_seed: seed,
        ..ShardConfig::new(budget_bytes, |key| slot_of(key).number())
    };
    let mut shard = match Shard::new(config.clone()) {
        Err(ShardError::BudgetTooSmall { least, .. }) => {
            Shard::new(ShardConfig { budget_bytes: least, budget_bytes_max: least, ..config })?
        }
        other => other?,
    };
    let objects = Objects::new(trace, limit);
    let Counts { misses, refused } = replay(trace.requests(), &objects, &mut shard);
    let stats = shard.stats();
    Ok(ShardRun {
        misses,
        items: stats.items,
        evicted: stats.evicted,
        refused,
        payload_bytes: stats.payload_bytes,
        budget_bytes: stats.budget_bytes,
    })
}

/// What the shard stores of each object.
struct Objects<'t> {
    keys: Vec<ObjectKey>,
    /// Bytes of key and value by object; none where values are empty.
    bytes: Option<&'t [u32]>,
    /// The longest value's worth of bytes.
    payload: Vec<u8>,
}

struct ObjectKey {
    slot: u16,
    bytes: [u8; KEY_BYTES],
}

impl<'t> Objects<'t> {
    fn new(trace: &'t Trace, limit: Limit) -> Objects<'t> {
        let bytes = match limit {
            Limit::Entries => None,
            Limit::Bytes => trace.bytes(),
        };
        let longest = bytes.into_iter().flatten().copied().max().unwrap_or(0);
        Objects {
            keys: trace.ids().iter().map(|id| object_key(*id)).collect(),
            bytes,
            payload: vec![0; longest as usize],
        }
    }

    fn value(&self, object: u32) -> &[u8] {
        let bytes = self.bytes.map_or(0, |bytes| bytes[object as usize] as usize);
        &self.payload[..bytes.saturating_sub(KEY_BYTES)]
    }
}

fn object_key(id: u64) -> ObjectKey {
    let mut bytes = [0; KEY_BYTES];
    bytes.copy_from_slice(format!("{id:016x}").as_bytes());
    ObjectKey { slot: slot_of(&bytes).number(), bytes }
}

struct Counts {
    misses: u64,
    refused: u64,
}

fn replay(requests: &[u32], objects: &Objects<'_>, shard: &mut Shard) -> Counts {
    let mut counts = Counts { misses: 0, refused: 0 };
    for (index, object) in requests.iter().enumerate() {
        let now = Millis((index / REQUESTS_PER_MS) as u64);
        let ObjectKey { slot, bytes } = &objects.keys[*object as usize];
        let key = shard.key(*slot, 0, bytes);
        if shard.get(&key, now).is_none() {
            counts.misses += 1;
            let write = Write::value(objects.value(*object));
            // What is refused stays out, and is missed again.
            if shard.set(&key, write, now, &mut ()).is_err() {
                counts.refused += 1;
            }
        }
        if index % REQUESTS_PER_TICK == 0 {
            // What is due beyond this slice is done at the next, as in a node.
            let _more = shard.tick(now, &mut ());
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::super::synthetic::Synthetic;
    use super::super::trace::TraceBuilder;
    use super::*;

    fn policies() -> impl Iterator<Item = Policy> {
        let names = ["clock", "s3", "lfu", "fifo", "random", "ttl"];
        names.into_iter().map(|name| name.parse().unwrap())
    }

    #[test]
    fn a_cache_for_everything_misses_each_object_once() {
        let synthetic: Synthetic = "zipf:0.9:1000:20000".parse().unwrap();
        let trace = synthetic.draw(1).unwrap();
        for policy in policies() {
            let objects = trace.objects() as u64;
            let run = run(&trace, Limit::Entries, objects, policy, 1).unwrap();
            assert_eq!((run.misses, run.items), (objects, objects), "{policy}");
            assert_eq!((run.evicted, run.refused), (0, 0), "{policy}");
        }
    }

    #[test]
    fn every_object_that_came_in_is_there_or_was_evicted() {
        let synthetic: Synthetic = "zipf:0.9:1000:20000".parse().unwrap();
        let trace = synthetic.draw(1).unwrap();
        for policy in policies() {
            let run = run(&trace, Limit::Entries, 100, policy, 1).unwrap();
            assert!(run.items <= 100, "{policy}: {run:?}");
            assert_eq!(run.misses, run.items + run.evicted, "{policy}");
        }
    }

    #[test]
    fn under_a_limit_in_bytes_an_entry_has_the_size_of_its_object() {
        let mut builder = TraceBuilder::default();
        for (id, bytes) in [(1, 5), (2, 16), (3, 1_000), (3, 1_000), (4, 90_000)] {
            builder.push_sized(id, bytes).unwrap();
        }
        let trace = builder.finish("sizes".to_owned()).unwrap();
        let run = run(&trace, Limit::Bytes, 256 << 20, Policy::default(), 1).unwrap();
        assert_eq!((run.misses, run.items, run.refused), (4, 4, 0));
        assert_eq!(run.budget_bytes, 256 << 20);
        // A key alone has 16 bytes.
        assert_eq!(run.payload_bytes, 16 + 16 + 1_000 + 90_000);
    }
}
