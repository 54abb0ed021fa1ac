//! The comparison as tables for people.

use std::fmt::Write;

use crate::report::{microseconds, thousands};

use super::Comparison;
use super::row::Row;

const HEADINGS: [&str; 10] = [
    "server",
    "protocol",
    "CPU µs/op",
    "(lowest to highest)",
    "× Corelane",
    "× best peer",
    "× floor",
    "ops/s",
    "p50",
    "p99 / p99.9",
];

pub(super) fn draw(comparison: &Comparison) -> String {
    let mut text = String::from(
        "CPU time of all threads of a server for each operation: median of the turns, their \
         range, and the medians of the turns' ratios.\n",
    );
    let config = &comparison.config;
    for value_size in &config.value_sizes {
        for pipeline in &config.pipelines {
            let mut lines = vec![HEADINGS.map(str::to_owned)];
            let mine = comparison
                .rows
                .iter()
                .filter(|row| (row.value_size, row.pipeline) == (*value_size, *pipeline));
            lines.extend(mine.map(cells));
            let _ = writeln!(text, "\nvalues of {value_size} bytes, pipeline {pipeline}");
            text.push_str(&aligned(&lines));
        }
    }
    text.push('\n');
    let mut told: Vec<&str> = Vec::new();
    for row in &comparison.rows {
        let server = &row.identity.server[..];
        if !told.contains(&server) {
            told.push(server);
            let identity = &row.identity;
            let _ = writeln!(text, "{server} {}: {}", identity.version, identity.command);
        }
    }
    for reason in &comparison.absent {
        let _ = writeln!(text, "left out: {reason}");
    }
    let machine = &comparison.machine;
    let cpu = |cpu: Option<usize>| cpu.map_or_else(|| "any".to_owned(), |cpu| cpu.to_string());
    let _ = writeln!(
        text,
        "{} ({} CPUs), Linux {}; servers on CPU {}, generator on CPU {}; {} connections, {} keys, \
         {} turns of {:?}",
        machine.cpu,
        machine.cpus,
        machine.kernel,
        cpu(config.server_cpu),
        cpu(config.cpu),
        config.connections,
        thousands(config.keys),
        config.reps,
        config.slice,
    );
    text
}

fn cells(row: &Row) -> [String; HEADINGS.len()] {
    let cost = row.cpu_us_per_op;
    let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "–".to_owned(), |it| format!("{it:.2}"));
    let latency = row.latency_us;
    [
        row.identity.server.clone(),
        row.identity.protocol.to_string(),
        format!("{:.3}", cost.median),
        format!("({:.3} to {:.3})", cost.min, cost.max),
        ratio(row.ratio_to_corelane),
        ratio(row.ratio_to_best_peer),
        ratio(row.ratio_to_floor),
        thousands(row.ops_per_s.round() as u64),
        microseconds(latency.p50),
        format!("{} / {}", microseconds(latency.p99), microseconds(latency.p99_9)),
    ]
}

/// Columns as wide as their widest cell, the first two on the left, the others on the right.
fn aligned<const COLUMNS: usize>(lines: &[[String; COLUMNS]]) -> String {
    let width =
        |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let mut text = String::new();
    for cells in lines {
        let mut line = String::new();
        for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
            let _ = match column {
                0 | 1 => write!(line, "{cell:<width$}  "),
                _ => write!(line, "{cell:>width$}  "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let cells = |cells: [&str; 4]| cells.map(str::to_owned);
        let lines = [cells(["a", "bb", "µs", "d"]), cells(["long", "b", "1.5", "44"])];
        assert_eq!(aligned(&lines), "a     bb   µs   d\nlong  b   1.5  44\n");
    }
}
