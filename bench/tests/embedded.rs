//! `run` against a node in this process: every request answered, every value right.

use clap::Parser;
use corelane_bench::cli::{Cli, Command, RunOptions};
use corelane_bench::report::Report;
use corelane_bench::run::{RunError, measure};

/// Keys where a test says nothing else: room for all of them, so that every read hits.
const KEYS: u64 = 2_000;

fn run(arguments: &str) -> Result<Report<RunOptions>, RunError> {
    let keys = if arguments.contains("--keys") { String::new() } else { format!("--keys {KEYS}") };
    let common = "corelane-bench run --memory 256MiB --duration 200ms --warmup 50ms";
    let line = format!("{common} {keys} {arguments}");
    let Some(Command::Run(options)) = Cli::parse_from(line.split_whitespace()).command else {
        panic!("not a run: {line}");
    };
    measure(&options)
}

/// Runs, and expects every read to find its key.
fn check(arguments: &str) -> Report<RunOptions> {
    let report = run(arguments).unwrap();
    assert!(report.is_clean(), "{arguments}:\n{}", report.text());
    assert!(report.ops > 0, "{arguments}");
    assert_eq!(report.misses, 0, "{arguments}");
    assert_eq!(report.ops, report.hits + report.stored, "{arguments}");
    assert!(report.server_cpu_us_per_op.is_some_and(|us| us > 0.0), "{arguments}");
    report
}

#[test]
fn one_core_answers_every_request() {
    let report = check("--connections 5 --pipeline 1");
    assert_eq!(report.server_cores, Some(1));
    check("--connections 5 --pipeline 64 --distribution zipf:0.99 --get 0.5");
    check("--connections 4 --threads 2 --pipeline 16 --value-size 5000 --key-size 40");
}

#[test]
fn two_cores_answer_for_each_other() {
    for steer in ["owner", "any", "wrong"] {
        let report = check(&format!("--cores 2 --connections 6 --pipeline 8 --steer {steer}"));
        assert_eq!(report.server_cores, Some(2));
    }
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let report = check("--connections 5 --pipeline 100 --rate 10000");
    // Requests due in the warm-up may be answered in the window, but no others come to it.
    let due = (report.seconds + report.config.warmup.as_secs_f64()) * 10_000.0;
    assert!(report.ops as f64 <= due + 1.0, "{} of {due}", report.ops);
}

#[test]
fn the_readiness_loop_serves_too() {
    check("--io epoll --connections 5 --pipeline 16");
}

#[test]
fn large_values_arrive_whole() {
    check("--keys 20 --connections 3 --pipeline 2 --value-size 300000");
}

#[test]
fn impossible_plans_are_refused() {
    let check = |arguments: &str, expected: &str| {
        let error = run(arguments).err().map(|error| error.to_string());
        assert!(error.as_ref().is_some_and(|error| error.contains(expected)), "{error:?}");
    };
    check("--steer wrong", "at least two cores");
    check("--connections 1 --threads 2", "shared out to 2 threads");
    check("--key-size 3", "at least 4 bytes");
}
