//! Whole nodes in a fake world: at least a million requests, every reply judged.
//!
//! `CORELANE_TEST_OPS` sets how many requests all families together send,
//! `CORELANE_TEST_SEED` replays one seed.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use corelane_engine::limits::MAIL_CREDITS;
use corelane_tests::sim::{Family, Report, Scenario, run};

/// Requests of one run.
const OPERATIONS_A_RUN: u64 = 12_500;
/// Requests of all runs, unless told otherwise.
const OPERATIONS_DEFAULT: u64 = 1_100_000;

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} wants a number, not {text:?}")))
}

/// Runs as many seeds of a family as its share of the requests needs.
fn simulate(name: &str, family: Family) -> Vec<Report> {
    let operations = number_from("CORELANE_TEST_OPS").unwrap_or(OPERATIONS_DEFAULT);
    let runs = operations.div_ceil(OPERATIONS_A_RUN * Family::ALL.len() as u64);
    let seeds = match number_from("CORELANE_TEST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..runs,
    };
    seeds
        .map(|seed| {
            let scenario = Scenario::new(family, seed, OPERATIONS_A_RUN);
            catch_unwind(AssertUnwindSafe(|| run(&scenario))).unwrap_or_else(|panic| {
                eprintln!(
                    "seed {seed} failed: {scenario:#?}\nreplay it with\n  CORELANE_TEST_SEED={seed} \
                     cargo test -p corelane-tests --test simulation {name}"
                );
                resume_unwind(panic)
            })
        })
        .collect()
}

/// Adds one number of all reports up.
fn total(reports: &[Report], number: impl Fn(&Report) -> u64) -> u64 {
    reports.iter().map(number).sum()
}

/// Asserts that something happened at all, unless a single seed is being replayed.
fn assert_happened(what: &str, times: u64) {
    if std::env::var_os("CORELANE_TEST_SEED").is_none() {
        assert!(times > 0, "no {what} in any run: the test tests nothing");
    }
}

#[test]
fn ample_memory() {
    let reports = simulate("ample_memory", Family::Ample);
    assert_happened("hit", total(&reports, |r| r.counters.hits));
    assert_happened("forwarding", total(&reports, |r| r.counters.forwarded_in));
    assert_happened("handover", total(&reports, |r| r.counters.connections_handed_over));
    assert_happened("expiry", total(&reports, |r| r.counters.expirations));
    assert_happened("late request", total(&reports, |r| r.counters.too_late));
    assert_happened("garbage", total(&reports, |r| r.counters.garbled));
    assert_eq!(total(&reports, |r| r.counters.evictions), 0);
}

#[test]
fn evictions_never_give_wrong_values() {
    let reports = simulate("evictions_never_give_wrong_values", Family::Evicting);
    assert_happened("eviction", total(&reports, |r| r.counters.evictions));
}

#[test]
fn refused_writes_change_nothing() {
    let reports = simulate("refused_writes_change_nothing", Family::Refusing);
    assert_happened("refusal", total(&reports, |r| r.counters.out_of_memory));
    assert_eq!(total(&reports, |r| r.counters.evictions), 0);
}

#[test]
fn nothing_without_the_token() {
    let reports = simulate("nothing_without_the_token", Family::Guarded);
    assert_happened("refusal", total(&reports, |r| r.counters.unauthorized));
}

#[test]
fn tiny_output_caps() {
    simulate("tiny_output_caps", Family::TinyOutput);
}

#[test]
fn giant_values() {
    let reports = simulate("giant_values", Family::Giant);
    assert_happened("value in pieces", total(&reports, |r| r.counters.uploads));
}

#[test]
fn giant_values_in_little_memory() {
    let reports = simulate("giant_values_in_little_memory", Family::Crammed);
    assert_happened("value in pieces", total(&reports, |r| r.counters.uploads));
    assert_happened("eviction", total(&reports, |r| r.counters.evictions));
}

#[test]
fn many_cores_and_large_multi_gets() {
    simulate("many_cores_and_large_multi_gets", Family::ManyCores);
}

#[test]
fn crowds_that_vanish() {
    let reports = simulate("crowds_that_vanish", Family::Crowd);
    let crowded = |report: &Report| u64::from(report.mails_most > MAIL_CREDITS);
    assert_happened("lane with all credits used", total(&reports, crowded));
}

#[test]
fn draining_under_load() {
    let reports = simulate("draining_under_load", Family::Draining);
    assert_happened("forwarding", total(&reports, |r| r.counters.forwarded_in));
}
