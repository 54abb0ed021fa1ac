//! `stalls`: the most work that a shard does at once, in the situations in which stores are
//! known to stall.
//!
//! ```text
//! scenario ─ calls to a shard, in turns ─► meter: each call's least time ─► figures by operation
//! ```

pub mod meter;
pub mod scenario;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::cli::parse_keys;
use meter::Figures;
use scenario::{Meters, Scenario, play};

/// Options of `stalls`.
#[derive(Clone, Debug, Args)]
pub struct StallOptions {
    /// Entries of the shard that grows, is full of small values, or is flushed.
    #[arg(long, value_name = "N", default_value = "5M", value_parser = parse_keys)]
    pub items: u64,
    /// Entries due in the same second.
    #[arg(long, value_name = "N", default_value = "1M", value_parser = parse_keys)]
    pub expiring: u64,
    /// Which scenarios are played; all without.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub scenarios: Vec<Scenario>,
    /// How often each scenario is played; the least time of each operation counts.
    #[arg(long, default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=100))]
    pub turns: u16,
    /// The most own work that an operation may do, in microseconds.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 100.0)]
    pub limit_us: f64,
    /// Write the result as JSON to a file, or with - to standard output instead of the
    /// readable one.
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
}

/// The result cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the result to {}: {error}", path.display())]
pub struct StallError {
    path: PathBuf,
    error: io::Error,
}

/// One sort of operation in one scenario.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The scenario.
    pub scenario: &'static str,
    /// The operation.
    pub operation: &'static str,
    /// What it took.
    #[serde(flatten)]
    pub figures: Figures,
}

/// Its fields are the JSON's.
#[derive(Debug, Serialize)]
struct Report {
    items: u64,
    expiring: u64,
    turns: u16,
    limit_us: f64,
    rows: Vec<Row>,
    /// Rows over the limit, and over what the spin loop beside them took.
    stalled: Vec<Row>,
}

/// Plays all scenarios, and says whether any operation did more than the limit at once.
///
/// # Errors
/// The result cannot be written.
pub fn run(options: &StallOptions) -> Result<ExitCode, StallError> {
    let silent = options.json.as_deref() == Some(Path::new("-"));
    let mut rows: Vec<Row> = Vec::new();
    let mut stalled = Vec::new();
    if !silent {
        print!("{}", head_text());
    }
    let all = Scenario::ALL.to_vec();
    let scenarios = if options.scenarios.is_empty() { &all } else { &options.scenarios };
    for &scenario in scenarios {
        let items = match scenario {
            Scenario::Expiring => options.expiring,
            _ => options.items,
        };
        let mut meters = Meters::default();
        for _ in 0..options.turns {
            play(scenario, items, &mut meters);
        }
        let new = scenario_rows(scenario, &meters);
        if !silent {
            new.iter().for_each(|row| print!("{}", row_text(row)));
        }
        stalled.extend(over(&new, options.limit_us).cloned());
        rows.extend(new);
    }
    let StallOptions { items, expiring, turns, limit_us, .. } = *options;
    let clean = stalled.is_empty();
    for row in &stalled {
        let Row { scenario, operation, figures } = row;
        eprintln!("corelane-bench: {scenario}: {operation} did {} µs at once", figures.own_max_us);
    }
    if let Some(path) = &options.json {
        let report = Report { items, expiring, turns, limit_us, rows, stalled };
        let json = serde_json::to_string_pretty(&report).expect("a report is JSON");
        if silent {
            println!("{json}");
        } else {
            fs::write(path, json + "\n")
                .map_err(|error| StallError { path: path.clone(), error })?;
        }
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

const SPIN: &str = "spin loop";

fn scenario_rows(scenario: Scenario, meters: &Meters) -> Vec<Row> {
    let rows = meters.named().map(|(operation, meter)| Row {
        scenario: scenario.name(),
        operation,
        figures: meter.figures(),
    });
    rows.into_iter().filter(|row| row.figures.operations > 0).collect()
}

/// The rows of a scenario that are over the limit, and over the spin loop, which does next to
/// nothing: what it takes is the machine's.
fn over(rows: &[Row], limit_us: f64) -> impl Iterator<Item = &Row> {
    let spin = rows.iter().find(|row| row.operation == SPIN);
    let limit_us = spin.map_or(limit_us, |spin| limit_us.max(spin.figures.own_max_us));
    rows.iter().filter(move |row| row.operation != SPIN && row.figures.own_max_us > limit_us)
}

fn head_text() -> String {
    format!(
        "µs; own work is the least of all turns\n{:<14}{:<18}{:>12}{:>10}{:>10}{:>10}{:>16}\n",
        "scenario", "operation", "operations", "p50", "p99.99", "most", "with the noise"
    )
}

fn row_text(row: &Row) -> String {
    let Row { scenario, operation, figures } = row;
    let mut text = format!("{scenario:<14}{operation:<18}{:>12}", figures.operations);
    let Figures { own_p50_us, own_p9999_us, own_max_us, elapsed_max_us, .. } = figures;
    writeln!(
        text,
        "{own_p50_us:>10.2}{own_p9999_us:>10.2}{own_max_us:>10.2}{elapsed_max_us:>16.2}"
    )
    .unwrap();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(operation: &'static str, own_max_us: f64) -> Row {
        let figures = Figures {
            operations: 10,
            own_p50_us: 1.0,
            own_p9999_us: 2.0,
            own_max_us,
            elapsed_max_us: 900.0,
        };
        Row { scenario: "growing", operation, figures }
    }

    fn check_over(rows: &[(&'static str, f64)], expected: &[&str]) {
        let rows: Vec<Row> = rows.iter().map(|(name, most)| row(name, *most)).collect();
        let found: Vec<&str> = over(&rows, 100.0).map(|row| row.operation).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_over_the_limit_and_the_machines_noise_stalls() {
        check_over(&[("set", 99.0), ("tick", 101.0), (SPIN, 1.0)], &["tick"]);
        check_over(&[("set", 149.0), ("tick", 151.0), (SPIN, 150.0)], &["tick"]);
        check_over(&[("set", 5.0), (SPIN, 300.0)], &[]);
    }

    #[test]
    fn only_what_was_done_is_shown() {
        let mut meters = Meters::default();
        play(Scenario::Growing, 1_000, &mut meters);
        let rows = scenario_rows(Scenario::Growing, &meters);
        let operations: Vec<&str> = rows.iter().map(|row| row.operation).collect();
        assert_eq!(operations, ["set", "tick", SPIN]);
        let columns = |text: &str| text.trim_end().chars().count();
        let head = head_text();
        assert_eq!(columns(head.lines().nth(1).unwrap()), columns(&row_text(&rows[0])));
    }
}
