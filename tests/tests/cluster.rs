//! Several nodes in a fake world, seed by seed. `CORELANE_TEST_SEED` replays one,
//! `CORELANE_TEST_SEEDS` sets how many there are.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use corelane_tests::cluster::{Report, run};

/// Seeds, unless told otherwise.
const SEEDS: u64 = 40;

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} wants a number, not {text:?}")))
}

#[test]
fn topologies_change_under_traffic() {
    let replayed = number_from("CORELANE_TEST_SEED");
    let seeds = match replayed {
        Some(seed) => seed..seed + 1,
        None => 0..number_from("CORELANE_TEST_SEEDS").unwrap_or(SEEDS),
    };
    let mut reports: Vec<Report> = Vec::new();
    for seed in seeds {
        let report = catch_unwind(AssertUnwindSafe(|| run(seed))).unwrap_or_else(|panic| {
            eprintln!(
                "seed {seed} failed; replay it with\n  CORELANE_TEST_SEED={seed} cargo test \
                 -p corelane-tests --test cluster"
            );
            resume_unwind(panic)
        });
        reports.push(report);
    }
    let total = |number: fn(&Report) -> u64| reports.iter().map(number).sum::<u64>();
    eprintln!(
        "{} seeds, {} requests, {} hits, {} redirects, {} topologies fetched, {} timeouts",
        reports.len(),
        total(|report| report.counts.requests),
        total(|report| report.counts.hits),
        total(|report| report.counts.redirects),
        total(|report| report.counts.topologies),
        total(|report| report.counts.timeouts),
    );
    if replayed.is_none() {
        let happened: [fn(&Report) -> u64; 7] = [
            |report| report.counts.hits,
            |report| report.counts.redirects,
            |report| report.counts.topologies,
            |report| report.counts.timeouts,
            |report| report.changes,
            |report| report.deaths,
            |report| report.losses,
        ];
        assert!(happened.into_iter().all(|number| total(number) > 0), "it tests too little");
    }
}
