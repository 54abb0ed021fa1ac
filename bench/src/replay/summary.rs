//! What the rows of several traces say together: means by size, and how far each policy is
//! from exact LRU, in the mean and at worst.

use serde::Serialize;

use super::compare::{Column, Plain, Row};
use super::limit::Size;

/// Caches smaller than this many objects do not count for the worst case: a few objects
/// more or less decide there.
pub const WORST_OBJECTS_MIN: u64 = 500;

/// The rows of one size.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The size.
    pub size: Size,
    /// How many traces.
    pub workloads: usize,
    /// By cache.
    pub caches: Vec<CacheSummary>,
}

/// One cache over the rows of one size.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CacheSummary {
    /// Which.
    pub cache: String,
    /// Mean of its misses in percent, every trace with the same weight.
    pub mean_miss_percent: f64,
    /// The mean less that of exact LRU, in points; nothing where LRU was left out.
    pub points_to_lru: Option<f64>,
    /// Its worst row beside exact LRU among caches that are not small.
    pub worst_to_lru: Option<Worst>,
}

/// The row in which a cache compares worst with exact LRU.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Worst {
    /// The trace.
    pub workload: String,
    /// The caches' size.
    pub capacity: u64,
    /// Its misses less those of LRU, in points of the requests.
    pub points: f64,
}

/// Sums up rows by their sizes, in the order in which sizes first come.
pub fn summarize(rows: &[Row]) -> Vec<Summary> {
    let mut sizes: Vec<Size> = Vec::new();
    for row in rows {
        if !sizes.contains(&row.size) {
            sizes.push(row.size);
        }
    }
    let of_size =
        |size: Size| -> Vec<&Row> { rows.iter().filter(|row| row.size == size).collect() };
    let summary = |size: Size| {
        let rows = of_size(size);
        let columns = rows[0].columns.iter();
        let caches = columns.map(|Column { cache, .. }| cache_summary(cache, &rows)).collect();
        Summary { size, workloads: rows.len(), caches }
    };
    sizes.into_iter().map(summary).collect()
}

fn cache_summary(cache: &str, rows: &[&Row]) -> CacheSummary {
    let mean = |cache: &str| -> Option<f64> {
        let sum: f64 = rows.iter().map(|row| row.miss_percent(cache)).sum::<Option<f64>>()?;
        Some(sum / rows.len() as f64)
    };
    let lru = Plain::Lru.name();
    let mean_miss_percent = mean(cache).expect("all rows have the same caches");
    let worst = rows
        .iter()
        .filter(|row| row.capacity >= WORST_OBJECTS_MIN && cache != lru)
        .filter_map(|row| {
            let points = row.miss_percent(cache)? - row.miss_percent(lru)?;
            Some(Worst { workload: row.workload.clone(), capacity: row.capacity, points })
        })
        .max_by(|one, other| one.points.total_cmp(&other.points));
    CacheSummary {
        cache: cache.to_owned(),
        mean_miss_percent,
        points_to_lru: mean(lru).filter(|_| cache != lru).map(|lru| mean_miss_percent - lru),
        worst_to_lru: worst,
    }
}

#[cfg(test)]
mod tests {
    use super::super::limit::Limit;
    use super::*;

    fn row(workload: &str, percent: f64, capacity: u64, misses: &[(&str, u64)]) -> Row {
        let columns = misses.iter().map(|(cache, misses)| Column {
            cache: (*cache).to_owned(),
            misses: *misses,
            miss_percent: *misses as f64,
        });
        Row {
            workload: workload.to_owned(),
            requests: 100,
            objects: 10_000,
            size: Size::Percent(percent),
            limit: Limit::Entries,
            capacity,
            columns: columns.collect(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn means_and_worst_cases_are_those_of_the_rows() {
        let rows = [
            row("a", 1.0, 100, &[("lru", 50), ("shard:s3", 60)]),
            row("a", 10.0, 1_000, &[("lru", 40), ("shard:s3", 30)]),
            row("b", 1.0, 500, &[("lru", 70), ("shard:s3", 50)]),
            row("c", 1.0, 600, &[("lru", 30), ("shard:s3", 31)]),
        ];
        let [one, ten] = &summarize(&rows)[..] else { panic!("two sizes") };
        assert_eq!((one.size, one.workloads), (Size::Percent(1.0), 3));
        let [lru, s3] = &one.caches[..] else { panic!("two caches") };
        assert_eq!((lru.mean_miss_percent, lru.points_to_lru), (50.0, None));
        assert_eq!(lru.worst_to_lru, None);
        assert_eq!((s3.mean_miss_percent, s3.points_to_lru), (47.0, Some(-3.0)));
        // The cache of 100 objects is too small to count.
        let worst = Worst { workload: "c".to_owned(), capacity: 600, points: 1.0 };
        assert_eq!(s3.worst_to_lru, Some(worst));
        assert_eq!((ten.workloads, ten.caches[1].points_to_lru), (1, Some(-10.0)));
    }

    #[test]
    fn without_lru_there_are_means_alone() {
        let summaries = summarize(&[row("a", 1.0, 1_000, &[("fifo", 5)])]);
        let fifo = &summaries[0].caches[0];
        assert_eq!((fifo.mean_miss_percent, fifo.points_to_lru), (5.0, None));
        assert_eq!(fifo.worst_to_lru, None);
        assert_eq!(summarize(&[]), []);
    }
}
