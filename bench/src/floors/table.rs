//! The comparison as a table for people.

use std::fmt::Write;

use super::{Comparison, Runtime, Work};

/// Rows are servers, columns pipelines: µs an operation, its range, and the ratio to io_uring.
pub(super) fn draw(comparison: &Comparison) -> String {
    let mut text = String::from(
        "CPU time of the server's thread, µs an operation: median (lowest to highest turn), \
         and its ratio to io_uring's in the same turn\n",
    );
    for work in Work::ALL {
        let title = match work {
            Work::Fixed => "fixed replies",
            Work::Cache => "small cache",
        };
        let _ = write!(text, "\n{title:<14}");
        for pipeline in &comparison.config.pipelines {
            let _ = write!(text, "{:<34}", format!("pipeline {pipeline}"));
        }
        text.push('\n');
        for &runtime in Runtime::ALL {
            let _ = write!(text, "{:<14}", runtime.to_string());
            for &pipeline in &comparison.config.pipelines {
                let mine = comparison.rows.iter().find(|row| {
                    row.work == work && row.runtime == runtime && row.pipeline == pipeline
                });
                let cell = mine.map_or_else(String::new, |row| {
                    let cost = row.cpu_us_per_op;
                    format!(
                        "{:.3} ({:.3} to {:.3}) × {:.2}",
                        cost.median, cost.min, cost.max, row.ratio_to_uring.median
                    )
                });
                let _ = write!(text, "{cell:<34}");
            }
            text.push('\n');
        }
    }
    text
}
