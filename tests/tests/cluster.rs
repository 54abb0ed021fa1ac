//! Several nodes and their clients in a fake world, seed by seed. `CORELANE_TEST_SEED` replays
//! one, `CORELANE_TEST_SEEDS` sets how many there are.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use corelane_tests::cluster::{Report, run};

/// Seeds, unless told otherwise.
const SEEDS: u64 = 400;

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} wants a number, not {text:?}")))
}

/// Plays the seeds below `end` that nobody has taken.
fn play(next: &AtomicU64, end: u64, reports: &Mutex<Vec<Report>>) {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return;
        }
        let report = catch_unwind(AssertUnwindSafe(|| run(seed))).unwrap_or_else(|panic| {
            eprintln!(
                "seed {seed} failed; replay it with\n  CORELANE_TEST_SEED={seed} cargo test \
                 -p corelane-tests --test cluster"
            );
            // The others stop.
            next.store(end, Ordering::Relaxed);
            resume_unwind(panic)
        });
        reports.lock().expect("nobody panics with it").push(report);
    }
}

#[test]
fn nodes_and_topologies_change_under_their_clients() {
    let replayed = number_from("CORELANE_TEST_SEED");
    let seeds = match replayed {
        Some(seed) => seed..seed + 1,
        None => 0..number_from("CORELANE_TEST_SEEDS").unwrap_or(SEEDS),
    };
    let (next, reports) = (AtomicU64::new(seeds.start), Mutex::default());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| play(&next, seeds.end, &reports));
        }
    });
    let reports = reports.into_inner().expect("nobody panicked with it");
    let total = |number: fn(&Report) -> u64| reports.iter().map(number).sum::<u64>();
    type Number = fn(&Report) -> u64;
    let happened: [(&str, Number); 12] = [
        ("requests", |report| report.counts.requests),
        ("hits", |report| report.counts.hits),
        ("misses", |report| report.counts.misses),
        ("failed", |report| report.counts.failed),
        ("writes of unknown outcome", |report| report.counts.uncertain),
        ("entries warmed", |report| report.warmed),
        ("requests by stand-ins", |report| report.stood_in),
        ("topologies", |report| report.changes),
        ("deaths", |report| report.deaths),
        ("stops", |report| report.stops),
        ("cuts", |report| report.cuts),
        ("broken connections", |report| report.losses),
    ];
    // Stale reads that may be are rare, and there need not be any.
    eprint!("{} seeds, {} excused reads", reports.len(), total(|report| report.excused));
    happened.iter().for_each(|(name, number)| eprint!(", {} {name}", total(*number)));
    eprintln!();
    if replayed.is_none() {
        for (name, number) in happened {
            assert!(total(number) > 0, "it tests too little: no {name}");
        }
    }
}

/// What a stand-in had replaced came back: the slot moved, and its new owner was given a copy by the
/// node that was down, to which alone the delete was owed.
#[test]
fn what_a_node_is_owed_goes_with_the_slot() {
    run(432);
}
