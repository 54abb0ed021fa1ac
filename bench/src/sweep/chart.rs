//! The picture for a terminal.

use crate::report::{microseconds, thousands};

use super::Point;
use super::scale::{PERCENTILES, Scale};

/// Columns of the picture beside its labels.
const COLUMNS: usize = 68;
/// Lines of each decade.
const LINES_PER_DECADE: usize = 6;
/// Columns of the labels on the left.
const LABEL_COLUMNS: usize = 8;

/// Latency against throughput, with a line at the limit in µs.
pub(super) fn draw(points: &[Point], limit_us: f64) -> String {
    let scale = Scale::of(points, limit_us);
    let decades = usize::try_from(scale.decade_max - scale.decade_min).unwrap_or(1);
    let lines = decades * LINES_PER_DECADE + 1;
    // Line 0 is the upper edge.
    let line =
        |latency_us: f64| lines - 1 - (scale.up(latency_us) * (lines - 1) as f64).round() as usize;
    let column = |ops_per_s: f64| (scale.right(ops_per_s) * (COLUMNS - 1) as f64).round() as usize;
    let mut cells = vec![[' '; COLUMNS]; lines];
    cells[line(limit_us)] = ['┄'; COLUMNS];
    for percentile in &PERCENTILES {
        for point in points {
            cells[line((percentile.of)(point))][column(point.ops_per_s)] = percentile.mark;
        }
    }
    let mut text = String::new();
    for (index, cells) in cells.iter().enumerate() {
        let label = scale.decades().find(|decade| line(*decade) == index);
        let label = label.map_or_else(String::new, microseconds);
        let cells: String = cells.iter().collect();
        text.push_str(&format!("{label:>LABEL_COLUMNS$} │{}\n", cells.trim_end()));
    }
    let blank = " ".repeat(LABEL_COLUMNS + 1);
    text.push_str(&format!("{blank}└{}\n", "─".repeat(COLUMNS)));
    let most = format!("{} ops/s", thousands(scale.ops_per_s_max.round() as u64));
    text.push_str(&format!("{blank} 0{most:>width$}\n", width = COLUMNS - 1));
    let marks = PERCENTILES.iter().rev().map(|it| format!("{} {}", it.mark, it.name));
    let marks = marks.collect::<Vec<_>>().join("   ");
    text.push_str(&format!("{blank} {marks}   ┄ limit of p99: {}\n", microseconds(limit_us)));
    text
}

#[cfg(test)]
mod tests {
    use super::super::scale::tests::point;
    use super::*;

    #[test]
    fn every_point_is_where_it_belongs() {
        let text = draw(&[point(1_000.0, 10.0), point(2_000.0, 100.0)], 1_000.0);
        let lines: Vec<&str> = text.lines().collect();
        // Two decades, their edges, and three lines below.
        assert_eq!(lines.len(), 2 * LINES_PER_DECADE + 1 + 3, "{text}");
        let mark = |line: usize, column: usize| lines[line].chars().nth(LABEL_COLUMNS + 2 + column);
        assert_eq!(mark(12, 34), Some('•'), "{text}");
        assert_eq!(mark(6, 67), Some('•'), "{text}");
        assert_eq!(mark(0, 67), Some('×'), "{text}");
        assert_eq!(mark(0, 0), Some('┄'), "{text}");
        for (line, label) in [(0, "1.00 ms"), (6, "100 µs"), (12, "10.0 µs")] {
            assert!(lines[line].contains(label), "{text}");
        }
        assert!(lines[14].ends_with("2 000 ops/s"), "{text}");
    }
}
