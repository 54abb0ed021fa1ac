//! What a run found, for people and for programs.

use std::fmt::Write;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::generator::Outcome;

/// Columns of the longest bar of the histogram.
const BAR_COLUMNS: usize = 40;
/// What is beyond the bar of this percentile is drawn as one.
const TAIL_PERCENTILE: f64 = 99.9;

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LatencyUs {
    /// Half were no longer.
    pub p50: f64,
    /// Nine of ten were no longer.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p99_9: f64,
    /// The longest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
}

impl LatencyUs {
    /// The percentiles of latencies in nanoseconds.
    pub fn of(nanoseconds: &Histogram<u64>) -> LatencyUs {
        let percentile = |p: f64| nanoseconds.value_at_percentile(p) as f64 / 1e3;
        LatencyUs {
            p50: percentile(50.0),
            p90: percentile(90.0),
            p99: percentile(99.0),
            p99_9: percentile(99.9),
            max: nanoseconds.max() as f64 / 1e3,
            mean: nanoseconds.mean() / 1e3,
        }
    }
}

/// The report of one run. Its fields are the JSON's.
#[derive(Clone, Debug, Serialize)]
pub struct Report<C> {
    /// The generator's version.
    pub version: &'static str,
    /// The whole configuration.
    pub config: C,
    /// The server that was measured: its address, or "embedded".
    pub server: String,
    /// How many cores it has, where it tells.
    pub server_cores: Option<u16>,
    /// Seconds measured.
    pub seconds: f64,
    /// Requests answered in that time.
    pub ops: u64,
    /// Per second.
    pub ops_per_s: f64,
    /// From send to reply; in an open loop from when the request was due.
    pub latency_us: LatencyUs,
    /// Reads that found the key.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Writes done.
    pub stored: u64,
    /// Requests refused.
    pub errors: u64,
    /// Replies with a value that is not the key's.
    pub wrong_values: u64,
    /// Requests never answered.
    pub lost: u64,
    /// Requests of an open loop that were due and could not be sent.
    pub not_sent: u64,
    /// CPU time of the server's threads for each operation, in microseconds.
    pub server_cpu_us_per_op: Option<f64>,
    /// CPU time of the generator's threads for each operation, in microseconds.
    pub generator_cpu_us_per_op: Option<f64>,
    /// The share of the measured time that the server's threads were on a CPU, in CPUs.
    pub server_cpus_used: Option<f64>,
    /// The same of the generator's threads.
    pub generator_cpus_used: Option<f64>,
    /// How often a request was executed on another core than its connection's, for each
    /// operation, warming up included; of a node in this process.
    pub hops_per_op: Option<f64>,
    /// How often one core woke another, likewise.
    pub wakes_per_op: Option<f64>,
    /// What the server said when it refused, the first few.
    pub complaints: Vec<String>,
    /// What ended the run before its time.
    pub failures: Vec<String>,
    /// Latencies, for the picture.
    #[serde(skip)]
    histogram: Histogram<u64>,
}

impl<C: Serialize> Report<C> {
    /// Puts an outcome into figures.
    pub fn new(config: C, server: String, outcome: &Outcome) -> Report<C> {
        let tally = &outcome.tally;
        let seconds = outcome.elapsed.as_secs_f64();
        let per_op = |nanoseconds: u64| match tally.ops {
            0 => None,
            ops => Some(nanoseconds as f64 / 1e3 / ops as f64),
        };
        let per_second = |count: f64| if seconds > 0.0 { count / seconds } else { 0.0 };
        Report {
            version: env!("CARGO_PKG_VERSION"),
            config,
            server,
            server_cores: outcome.server_cores,
            seconds,
            ops: tally.ops,
            ops_per_s: per_second(tally.ops as f64),
            latency_us: LatencyUs::of(&tally.latency),
            hits: tally.hits,
            misses: tally.misses,
            stored: tally.stored,
            errors: tally.errors,
            wrong_values: tally.wrong_values,
            lost: tally.lost,
            not_sent: tally.not_sent,
            server_cpu_us_per_op: outcome.server_cpu_ns.and_then(per_op),
            generator_cpu_us_per_op: outcome.generator_cpu_ns.and_then(per_op),
            server_cpus_used: outcome.server_cpu_ns.map(|ns| per_second(ns as f64 / 1e9)),
            generator_cpus_used: outcome.generator_cpu_ns.map(|ns| per_second(ns as f64 / 1e9)),
            hops_per_op: None,
            wakes_per_op: None,
            complaints: tally.complaints.clone(),
            failures: outcome.failures.iter().map(ToString::to_string).collect(),
            histogram: tally.latency.clone(),
        }
    }

    /// Whether every request was answered, and rightly.
    pub fn is_clean(&self) -> bool {
        self.errors == 0 && self.wrong_values == 0 && self.lost == 0 && self.failures.is_empty()
    }

    /// As JSON, for programs.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report has only plain fields")
    }

    /// As text, for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write_text(&mut text).expect("writing to a string does not fail");
        text
    }

    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        let latency = &self.latency_us;
        writeln!(text, "server      {}", self.describe_server())?;
        writeln!(
            text,
            "throughput  {} ops/s ({} ops in {:.2} s)",
            thousands(self.ops_per_s.round() as u64),
            thousands(self.ops),
            self.seconds
        )?;
        writeln!(
            text,
            "latency     p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
            microseconds(latency.p50),
            microseconds(latency.p90),
            microseconds(latency.p99),
            microseconds(latency.p99_9),
            microseconds(latency.max)
        )?;
        let reads = self.hits + self.misses;
        let hit_share = if reads > 0 { self.hits as f64 / reads as f64 * 100.0 } else { 0.0 };
        writeln!(
            text,
            "reads       {} hits, {} misses ({hit_share:.2} % hits)",
            thousands(self.hits),
            thousands(self.misses)
        )?;
        writeln!(text, "writes      {} stored", thousands(self.stored))?;
        writeln!(
            text,
            "faults      {} errors, {} wrong values, {} lost",
            self.errors, self.wrong_values, self.lost
        )?;
        if self.not_sent > 0 {
            writeln!(text, "            {} were due and could not be sent", self.not_sent)?;
        }
        writeln!(
            text,
            "CPU per op  server {}, generator {}",
            cpu(self.server_cpu_us_per_op, self.server_cpus_used),
            cpu(self.generator_cpu_us_per_op, self.generator_cpus_used)
        )?;
        if let (Some(hops), Some(wakes)) = (self.hops_per_op, self.wakes_per_op) {
            writeln!(text, "per op      {hops:.3} hops to another core, {wakes:.4} wakes")?;
        }
        text.push_str(&draw(&self.histogram));
        for complaint in &self.complaints {
            writeln!(text, "refused: {complaint}")?;
        }
        for failure in &self.failures {
            writeln!(text, "failed: {failure}")?;
        }
        Ok(())
    }

    fn describe_server(&self) -> String {
        match self.server_cores {
            Some(1) => format!("{}, 1 core", self.server),
            Some(cores) => format!("{}, {cores} cores", self.server),
            None => self.server.clone(),
        }
    }
}

fn cpu(us_per_op: Option<f64>, cpus: Option<f64>) -> String {
    match us_per_op {
        Some(us) => format!("{us:.3} µs ({:.2} CPUs)", cpus.unwrap_or(0.0)),
        None => "unknown".to_owned(),
    }
}

/// A number with a space between its thousands.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Microseconds with three significant digits, in the unit that suits them.
pub fn microseconds(us: f64) -> String {
    let (number, unit) = match us {
        us if us < 1e3 => (us, "µs"),
        us if us < 1e6 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    let decimals = match number {
        number if number < 9.995 => 2,
        number if number < 99.95 => 1,
        _ => 0,
    };
    format!("{number:.decimals$} {unit}")
}

/// Draws latencies in nanoseconds as bars, each for a range of the 1-2-5 series, up to the
/// range of the 99.9th percentile; what is beyond is one last bar.
fn draw(nanoseconds: &Histogram<u64>) -> String {
    let total = nanoseconds.len();
    if total == 0 {
        return String::new();
    }
    let tail = nanoseconds.value_at_percentile(TAIL_PERCENTILE);
    let mut edges = Vec::new();
    let mut decade = 1u64;
    while decade <= tail.saturating_mul(10) {
        edges.extend([decade, decade * 2, decade * 5]);
        decade = decade.saturating_mul(10);
    }
    let mut bars: Vec<(String, u64)> = Vec::new();
    let mut recorded = nanoseconds.iter_recorded().peekable();
    for edge in edges {
        let mut count = 0;
        while let Some(step) = recorded.next_if(|step| step.value_iterated_to() < edge) {
            count += step.count_at_value();
        }
        if count > 0 || !bars.is_empty() {
            bars.push((format!("< {}", microseconds(edge as f64 / 1e3)), count));
        }
        if edge > tail {
            break;
        }
    }
    let beyond: u64 = recorded.map(|step| step.count_at_value()).sum();
    if beyond > 0 {
        bars.push(("more".to_owned(), beyond));
    }
    let longest = bars.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
    let mut text = String::new();
    for (label, count) in bars {
        // Eighths of a column, so that short bars are told apart.
        let eighths = (count as f64 / longest as f64 * (BAR_COLUMNS * 8) as f64).round() as usize;
        let mut bar = "█".repeat(eighths / 8);
        if !eighths.is_multiple_of(8) {
            bar.push(['▏', '▎', '▍', '▌', '▋', '▊', '▉'][eighths % 8 - 1]);
        }
        let share = count as f64 / total as f64 * 100.0;
        text.push_str(&format!("{label:>11} {bar:<BAR_COLUMNS$} {share:6.2} %\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::Tally;
    use std::time::Duration;

    fn outcome() -> Outcome {
        let mut tally = Tally { ops: 1_000, hits: 940, misses: 10, stored: 50, ..Tally::default() };
        for index in 1..=1_000 {
            tally.record_latency(index * 1_000, 1);
        }
        Outcome {
            tally,
            elapsed: Duration::from_millis(500),
            server_cpu_ns: Some(400_000_000),
            generator_cpu_ns: None,
            server_cores: Some(2),
            failures: Vec::new(),
        }
    }

    #[test]
    fn json_has_the_promised_fields() {
        let report = Report::new([("pipeline", 16)], "embedded".to_owned(), &outcome());
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["ops"], 1_000);
        assert_eq!(json["ops_per_s"], 2_000.0);
        assert_eq!(json["server_cpu_us_per_op"], 400.0);
        assert_eq!(json["generator_cpu_us_per_op"], serde_json::Value::Null);
        for percentile in ["p50", "p90", "p99", "p99_9", "max"] {
            assert!(json["latency_us"][percentile].as_f64().unwrap() > 0.0, "{percentile}");
        }
        for field in ["hits", "misses", "errors", "wrong_values", "config", "version"] {
            assert!(!json[field].is_null(), "{field}");
        }
        assert!(report.is_clean());
    }

    #[test]
    fn text_tells_what_people_ask() {
        let mut outcome = outcome();
        outcome.tally.complain("OutOfMemory full");
        let report = Report::new((), "embedded".to_owned(), &outcome);
        let text = report.text();
        for part in [
            "embedded, 2 cores",
            "2 000 ops/s (1 000 ops in 0.50 s)",
            "940 hits, 10 misses (98.95 % hits)",
            "1 errors, 0 wrong values, 0 lost",
            "server 400.000 µs (0.80 CPUs), generator unknown",
            "refused: OutOfMemory full",
        ] {
            assert!(text.contains(part), "{part} in:\n{text}");
        }
        assert!(!report.is_clean());
    }

    #[test]
    fn the_picture_holds_every_request_once() {
        let picture = draw(&outcome().tally.latency);
        let shares: Vec<f64> = picture
            .lines()
            .map(|line| line.trim_end_matches(" %").rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        assert!((shares.iter().sum::<f64>() - 100.0).abs() < 0.1, "{picture}");
        assert!(picture.contains("< 500 µs"), "{picture}");
        assert_eq!(draw(&Tally::default().latency), "");
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_234_567), "1 234 567");
        assert_eq!(microseconds(1.234), "1.23 µs");
        assert_eq!(microseconds(345.6), "346 µs");
        assert_eq!(microseconds(1_500.0), "1.50 ms");
        assert_eq!(microseconds(2_000_000.0), "2.00 s");
    }
}
