//! What a run of the scenario showed, for people and programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::load::{STEP, Tallies, Tally};
use super::{FleetOptions, Landings, Phase};
use crate::report::{microseconds, thousands};

/// Least share of requests that have to come to the right core of the right node.
const STEERED_MIN: f64 = 0.999;
/// Columns of the chart.
const COLUMNS: usize = 64;
/// Heights of a column.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// One phase in numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct PhaseRow {
    /// Which.
    pub phase: Phase,
    /// Reads a second.
    pub reads_per_s: f64,
    /// Hits among reads.
    pub hit_ratio: f64,
    /// Reads and writes that failed because a node could not be reached.
    pub errors_down: u64,
    /// Those that failed otherwise.
    pub errors_other: u64,
    /// Values that were never written to their key.
    pub wrong_values: u64,
    /// Latency of reads, in microseconds.
    pub p50_us: u64,
    /// The same.
    pub p99_us: u64,
    /// The same.
    pub max_us: u64,
}

/// See the module.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    config: FleetOptions,
    phases: Vec<PhaseRow>,
    landed: Landings,
    steered_share: f64,
    lost_share: f64,
    killed_share: f64,
    step_ms: u64,
    hit_ratio_over_time: Vec<f64>,
    /// The step in which each phase began.
    phase_steps: Vec<usize>,
}

impl Report {
    pub(super) fn new(
        config: FleetOptions,
        tallies: Tallies,
        landed: Landings,
        lost_share: f64,
        killed_share: f64,
    ) -> Report {
        let phases =
            Phase::ALL.iter().zip(&tallies.phases).map(|(phase, tally)| row(*phase, tally));
        let ratio = |(reads, hits): &(u64, u64)| *hits as f64 / (*reads).max(1) as f64;
        Report {
            config,
            phases: phases.collect(),
            steered_share: landed.steered(),
            landed,
            lost_share,
            killed_share,
            step_ms: STEP.as_millis() as u64,
            hit_ratio_over_time: tallies.steps.iter().map(ratio).collect(),
            phase_steps: tallies.began,
        }
    }

    /// Whether every value was right, and everything went well while all nodes were up.
    pub(super) fn is_clean(&self) -> bool {
        let unharmed =
            self.phases.first().is_none_or(|row| row.errors_down + row.errors_other == 0);
        let right = self.phases.iter().all(|row| row.wrong_values == 0);
        unharmed && right && self.steered_share >= STEERED_MIN
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and names have a form in JSON")
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{:<12}{:>12}{:>11}{:>14}{:>14}{:>11}{:>11}{:>11}\n",
            "phase", "reads/s", "hit ratio", "node errors", "other errors", "p50", "p99", "max"
        );
        for row in &self.phases {
            let _ = writeln!(
                text,
                "{:<12}{:>12}{:>10.2}%{:>14}{:>14}{:>11}{:>11}{:>11}",
                row.phase.title(),
                thousands(row.reads_per_s.round() as u64),
                row.hit_ratio * 100.0,
                thousands(row.errors_down),
                thousands(row.errors_other),
                microseconds(row.p50_us as f64),
                microseconds(row.p99_us as f64),
                microseconds(row.max_us as f64),
            );
        }
        text.push('\n');
        text.push_str(&self.chart());
        let _ = write!(
            text,
            "\n{:.3} % of {} requests came to the right core of the right node at once\n\
             {:.1} % of the keys were gone with the killed node, which had {:.1} % of the slots\n",
            self.steered_share * 100.0,
            thousands(self.landed.requests),
            self.lost_share * 100.0,
            self.killed_share * 100.0,
        );
        let wrong: u64 = self.phases.iter().map(|row| row.wrong_values).sum();
        let _ =
            writeln!(text, "{} values were not what was written to their key", thousands(wrong));
        text
    }

    /// The hit ratio over time, 0 to 100 %, with a mark where each phase begins.
    fn chart(&self) -> String {
        let steps = &self.hit_ratio_over_time;
        let columns = COLUMNS.min(steps.len()).max(1);
        let first_of = |column: usize| column * steps.len() / columns;
        let bar = |column: usize| {
            let steps = &steps[first_of(column)..first_of(column + 1).max(first_of(column))];
            let mean = steps.iter().sum::<f64>() / steps.len().max(1) as f64;
            BARS[(mean * (BARS.len() - 1) as f64).round() as usize]
        };
        let bars: String = (0..columns).map(bar).collect();
        let mut marks = vec![' '; columns];
        for step in &self.phase_steps {
            let column = (0..columns).rev().find(|column| first_of(*column) <= *step);
            marks[column.unwrap_or(0)] = '│';
        }
        let marks: String = marks.into_iter().collect();
        let names: Vec<&str> = self.phases.iter().map(|row| row.phase.title()).collect();
        let seconds = steps.len() as f64 * self.step_ms as f64 / 1_000.0;
        format!(
            "hit ratio over {seconds:.0} s; │ begins {}\n{bars}\n{}\n",
            names.join(", "),
            marks.trim_end()
        )
    }
}

fn row(phase: Phase, tally: &Tally) -> PhaseRow {
    let reads = tally.latency_us.len();
    PhaseRow {
        phase,
        reads_per_s: reads as f64 / tally.seconds.max(f64::MIN_POSITIVE),
        hit_ratio: tally.hits as f64 / reads.max(1) as f64,
        errors_down: tally.errors_down,
        errors_other: tally.errors_other,
        wrong_values: tally.wrong,
        p50_us: tally.latency_us.value_at_quantile(0.5),
        p99_us: tally.latency_us.value_at_quantile(0.99),
        max_us: tally.latency_us.max(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: FleetOptions,
    }

    fn report() -> Report {
        let row = |phase, hit_ratio, errors_down| PhaseRow {
            phase,
            reads_per_s: 12_345.6,
            hit_ratio,
            errors_down,
            errors_other: 0,
            wrong_values: 0,
            p50_us: 90,
            p99_us: 1_500,
            max_us: 20_000,
        };
        Report {
            config: Line::parse_from(["fleet"]).options,
            phases: vec![row(Phase::Before, 1.0, 0), row(Phase::Killed, 0.67, 12)],
            landed: Landings { requests: 100_000, forwarded: 0, turned_away: 7 },
            steered_share: 0.99993,
            lost_share: 0.331,
            killed_share: 0.333,
            step_ms: 250,
            hit_ratio_over_time: [[1.0; 32], [0.66; 32]].concat(),
            phase_steps: vec![0, 32],
        }
    }

    #[test]
    fn the_text_tells_what_people_ask() {
        let text = report().text();
        let landed = format!("99.993 % of {}", thousands(100_000));
        let rate = thousands(12_346);
        for expected in [&landed, &rate, "33.1 % of the keys", "67.00%", "1.50 ms"] {
            assert!(text.contains(expected), "no {expected} in\n{text}");
        }
        let bars: Vec<char> = text.lines().nth(5).unwrap().chars().collect();
        assert_eq!((bars[0], bars[31], bars[32], bars[63]), ('█', '█', '▅', '▅'), "{text}");
        let marks: Vec<char> = text.lines().nth(6).unwrap().chars().collect();
        assert_eq!((marks[0], marks[32], marks.len()), ('│', '│', 33));
    }

    #[test]
    fn errors_of_a_killed_node_are_to_be_expected_and_others_are_not() {
        let check = |change: fn(&mut Report), expected| {
            let mut report = report();
            change(&mut report);
            assert_eq!(report.is_clean(), expected);
        };
        check(|_| (), true);
        check(|report| report.phases[0].errors_other = 1, false);
        check(|report| report.phases[1].wrong_values = 1, false);
        check(|report| report.steered_share = 0.99, false);
    }
}
