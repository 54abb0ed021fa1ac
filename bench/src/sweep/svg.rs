//! The picture as an SVG file: plain elements, no style sheet, no script.

use std::fmt::Write;

use crate::report::{microseconds, thousands};

use super::Point;
use super::scale::{PERCENTILES, Scale};

/// Pixels of the whole picture and of its margins.
const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 60.0;
/// Throughputs that are labelled, beside 0.
const LABELS: u32 = 4;

/// Latency against throughput, with a line at the limit in µs.
pub(super) fn draw(points: &[Point], limit_us: f64) -> String {
    let mut text = String::new();
    write(points, limit_us, &mut text).expect("writing to a string does not fail");
    text
}

fn write(points: &[Point], limit_us: f64, text: &mut String) -> std::fmt::Result {
    let scale = Scale::of(points, limit_us);
    let x = |ops_per_s: f64| LEFT + scale.right(ops_per_s) * (WIDTH - LEFT - RIGHT);
    let y = |latency_us: f64| HEIGHT - BOTTOM - scale.up(latency_us) * (HEIGHT - TOP - BOTTOM);
    let (left, right, bottom) = (LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM);
    writeln!(
        text,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">"#
    )?;
    writeln!(text, r#"<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>"#)?;
    for decade in scale.decades() {
        let (y, label) = (y(decade), microseconds(decade));
        writeln!(
            text,
            r##"<line x1="{left}" y1="{y:.1}" x2="{right}" y2="{y:.1}" stroke="#d8d8d8"/>"##
        )?;
        let (x, y) = (left - 8.0, y + 4.0);
        writeln!(text, r#"<text x="{x}" y="{y:.1}" text-anchor="end">{label}</text>"#)?;
    }
    for part in 0..=LABELS {
        let ops_per_s = scale.ops_per_s_max * f64::from(part) / f64::from(LABELS);
        let (x, y, label) = (x(ops_per_s), bottom + 20.0, thousands(ops_per_s.round() as u64));
        writeln!(text, r#"<text x="{x:.1}" y="{y}" text-anchor="middle">{label}</text>"#)?;
    }
    let (middle, below) = ((left + right) / 2.0, bottom + 44.0);
    writeln!(
        text,
        r#"<text x="{middle}" y="{below}" text-anchor="middle">operations a second</text>"#
    )?;
    writeln!(text, r#"<path d="M{left} {TOP}V{bottom}H{right}" fill="none" stroke="black"/>"#)?;
    let limit = y(limit_us);
    writeln!(
        text,
        r#"<line x1="{left}" y1="{limit:.1}" x2="{right}" y2="{limit:.1}" stroke="black" stroke-dasharray="6 4"/>"#
    )?;
    for (index, percentile) in PERCENTILES.iter().enumerate() {
        let color = percentile.color;
        let places = points.iter().map(|point| (x(point.ops_per_s), y((percentile.of)(point))));
        let corners: Vec<String> = places.clone().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let corners = corners.join(" ");
        writeln!(
            text,
            r#"<polyline points="{corners}" fill="none" stroke="{color}" stroke-width="2"/>"#
        )?;
        for (x, y) in places {
            writeln!(text, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{color}"/>"#)?;
        }
        let (x, name) = (left + 10.0 + 80.0 * index as f64, percentile.name);
        let y = TOP - 20.0;
        writeln!(text, r#"<text x="{x}" y="{y}" fill="{color}">{name}</text>"#)?;
    }
    let (y, label) = (TOP - 20.0, microseconds(limit_us));
    writeln!(
        text,
        r#"<text x="{right}" y="{y}" text-anchor="end">dashed: limit of p99, {label}</text>"#
    )?;
    writeln!(text, "</svg>")
}

#[cfg(test)]
mod tests {
    use super::super::scale::tests::point;
    use super::*;

    #[test]
    fn every_point_is_drawn_in_every_line() {
        let points = [point(1_000.0, 10.0), point(2_000.0, 100.0)];
        let text = draw(&points, 1_000.0);
        assert_eq!(text.matches("<circle").count(), PERCENTILES.len() * points.len());
        assert_eq!(text.matches("<polyline").count(), PERCENTILES.len());
        // p50 of the first: half of the width, at the lower edge.
        let (x, y) = (LEFT + (WIDTH - LEFT - RIGHT) / 2.0, HEIGHT - BOTTOM);
        assert!(text.contains(&format!(r#"<circle cx="{x:.1}" cy="{y:.1}""#)), "{text}");
        assert!(text.contains(">2 000</text>") && text.contains("limit of p99, 1.00 ms"), "{text}");
        let opened = text.matches('<').count();
        assert_eq!(opened, text.matches('>').count());
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        assert!(!draw(&[], 1_000.0).contains("NaN"));
    }
}
