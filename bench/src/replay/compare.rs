//! One trace, one size, all caches: a row of the comparison.

use corelane_shard::{Policy, ShardError};
use serde::Serialize;

use clap::ValueEnum;

use super::limit::{Limit, Size};
use super::reference::fifo::Fifo;
use super::reference::lfu::Lfu;
use super::reference::lru::Lru;
use super::reference::optimum::{Optimum, next_requests};
use super::reference::random::Random;
use super::reference::s3_fifo::S3Fifo;
use super::reference::{Reference, Room, count_misses};
use super::shard::{self, ShardRun};
use super::trace::Trace;

/// A plain cache to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Plain {
    /// Least recently used, exactly.
    Lru,
    /// First in, first out.
    Fifo,
    /// Any object leaves.
    Random,
    /// Least frequently used, exactly.
    Lfu,
    /// S3-FIFO as published.
    S3Fifo,
    /// The object whose next request is farthest leaves.
    Optimum,
}

impl Plain {
    /// Its column's name.
    pub fn name(self) -> &'static str {
        match self {
            Plain::Lru => "lru",
            Plain::Fifo => "fifo",
            Plain::Random => "random",
            Plain::Lfu => "lfu",
            Plain::S3Fifo => "s3-fifo",
            Plain::Optimum => "optimum",
        }
    }
}

/// The column of the shard with a policy.
pub fn shard_name(policy: Policy) -> String {
    format!("shard:{policy}")
}

/// What is compared.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// What caches are limited in.
    pub limit: Limit,
    /// The plain caches.
    pub plain: Vec<Plain>,
    /// The shard's policies.
    pub policies: Vec<Policy>,
    /// For what is drawn by lot.
    pub seed: u64,
}

/// One cache's part of a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Column {
    /// Which cache.
    pub cache: String,
    /// Requests that it did not have the object for.
    pub misses: u64,
    /// Of all requests, in percent.
    pub miss_percent: f64,
}

/// The misses of all caches of one size over one trace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The trace's name.
    pub workload: String,
    /// Requests in it.
    pub requests: u64,
    /// Objects in it.
    pub objects: u64,
    /// The size asked for.
    pub size: Size,
    /// What it is counted in.
    pub limit: Limit,
    /// The size in that.
    pub capacity: u64,
    /// By cache.
    pub columns: Vec<Column>,
    /// What to know when reading it.
    pub notes: Vec<String>,
}

impl Row {
    /// The misses of a cache in percent of the requests.
    pub fn miss_percent(&self, cache: &str) -> Option<f64> {
        let column = self.columns.iter().find(|column| column.cache == cache);
        column.map(|column| column.miss_percent)
    }
}

/// A row that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A limit in bytes needs sizes.
    #[error("{trace} has no sizes, so caches for it can be limited only in entries")]
    NoSizes {
        /// The trace's name.
        trace: String,
    },
    /// There is no such shard.
    #[error("no shard for {trace}: {error}")]
    Shard {
        /// The trace's name.
        trace: String,
        /// Why.
        error: ShardError,
    },
}

/// Replays a trace through all caches in each of the sizes, and hands over each row when it
/// is done.
///
/// # Errors
/// See [`CompareError`].
pub fn compare(
    trace: &Trace,
    sizes: &[Size],
    comparison: &Comparison,
    mut each: impl FnMut(Row),
) -> Result<(), CompareError> {
    let next = match comparison.plain.contains(&Plain::Optimum) {
        true => next_requests(trace.requests(), trace.objects()),
        false => Vec::new(),
    };
    for size in sizes {
        each(row(trace, *size, comparison, &next)?);
    }
    Ok(())
}

fn row(
    trace: &Trace,
    size: Size,
    comparison: &Comparison,
    next: &[u32],
) -> Result<Row, CompareError> {
    let Comparison { limit, seed, .. } = *comparison;
    let name = || trace.name().to_owned();
    let no_sizes = || CompareError::NoSizes { trace: name() };
    let footprint = trace.footprint(limit).ok_or_else(no_sizes)?;
    let capacity = size.of(footprint);
    let requests = trace.requests().len() as u64;
    let column = |cache: String, misses: u64| Column {
        cache,
        misses,
        miss_percent: misses as f64 / requests as f64 * 100.0,
    };
    let mut columns = Vec::new();
    let mut notes = Vec::new();
    for plain in &comparison.plain {
        let room = Room::new(capacity, trace.weights(limit).ok_or_else(no_sizes)?);
        let objects = trace.objects();
        let mut cache: Box<dyn Reference> = match plain {
            Plain::Lru => Box::new(Lru::new(room, objects)),
            Plain::Fifo => Box::new(Fifo::new(room, objects)),
            Plain::Random => Box::new(Random::new(room, objects, seed)),
            Plain::Lfu => Box::new(Lfu::new(room, objects)),
            Plain::S3Fifo => Box::new(S3Fifo::new(room, objects)),
            Plain::Optimum => Box::new(Optimum::new(room, objects, next)),
        };
        let misses = count_misses(trace.requests(), cache.as_mut());
        columns.push(column(plain.name().to_owned(), misses));
    }
    for policy in &comparison.policies {
        let run = shard::run(trace, limit, capacity, *policy, seed)
            .map_err(|error| CompareError::Shard { trace: name(), error })?;
        notes.extend(note(&run, limit, capacity).map(|note| format!("{policy}: {note}")));
        columns.push(column(shard_name(*policy), run.misses));
    }
    let objects = trace.objects() as u64;
    Ok(Row { workload: name(), requests, objects, size, limit, capacity, columns, notes })
}

/// What makes a shard's figure not quite comparable with the others.
fn note(run: &ShardRun, limit: Limit, capacity: u64) -> Option<String> {
    let ShardRun { items, evicted, budget_bytes, refused, payload_bytes, .. } = *run;
    match limit {
        Limit::Bytes if budget_bytes > capacity => {
            Some(format!("the least that a shard takes is {budget_bytes} bytes"))
        }
        Limit::Bytes => Some(format!(
            "{payload_bytes} of {budget_bytes} bytes are keys and values, {refused} writes refused"
        )),
        // A policy may hold a little less than it could while it makes room.
        Limit::Entries if evicted > 0 && items < capacity - capacity / 50 => {
            Some(format!("held only {items} entries of {capacity}"))
        }
        Limit::Entries => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::synthetic::Synthetic;
    use super::*;

    fn comparison(limit: Limit) -> Comparison {
        let policies = vec![Policy::default()];
        Comparison { limit, plain: Plain::value_variants().to_vec(), policies, seed: 1 }
    }

    #[test]
    fn a_row_has_every_cache() {
        let trace = "zipf:0.9:1000:20000".parse::<Synthetic>().unwrap().draw(1).unwrap();
        let sizes = [Size::Percent(10.0), Size::Absolute(5_000)];
        let mut rows = Vec::new();
        compare(&trace, &sizes, &comparison(Limit::Entries), |row| rows.push(row)).unwrap();
        let [small, large] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((small.capacity, large.capacity), (trace.objects() as u64 / 10, 5_000));
        let caches: Vec<&str> = small.columns.iter().map(|column| &*column.cache).collect();
        let expected = ["lru", "fifo", "random", "lfu", "s3-fifo", "optimum", "shard:s3"];
        assert_eq!(caches, expected);
        let optimum = small.miss_percent("optimum").unwrap();
        for column in &small.columns {
            assert!(column.cache == "optimum" || column.miss_percent > optimum, "{column:?}");
            assert!((column.misses as f64 / 200.0 - column.miss_percent).abs() < 1e-9);
        }
        // All fits into the large one, so all miss each object once.
        assert!(large.columns.iter().all(|column| column.misses == trace.objects() as u64));
    }

    #[test]
    fn a_limit_in_bytes_needs_sizes() {
        let trace = "zipf:0.9:10:20".parse::<Synthetic>().unwrap().draw(1).unwrap();
        let result = compare(&trace, &[Size::Percent(1.0)], &comparison(Limit::Bytes), |_| ());
        assert!(matches!(result, Err(CompareError::NoSizes { .. })));
    }
}
