//! `sweep`: the highest rate at which a server still answers in time, and its latency on
//! the way there.
//!
//! ```text
//! climb (which rate next) ─► slices in an open loop ─► point (medians) ─┬─► climb
//!                                                                       └─► chart, svg, JSON
//! ```
//!
//! Latency runs from when a request was due, so that a server, or a generator, which does
//! not keep up with the rate shows it at once.

mod chart;
pub mod climb;
pub mod options;
mod scale;
mod svg;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use crate::cli::Protocol;
use crate::codec::Codec;
use crate::codec::memcached::Memcached;
use crate::codec::native::Native;
use crate::codec::resp::Resp;
use crate::generator::pacer::Rate;
use crate::generator::{Drive, DriveError, Outcome, Task};
use crate::measure::jitter;
use crate::measure::paired::Samples;
use crate::progress::{Extent, Progress};
use crate::report::{LatencyUs, microseconds, thousands};
use crate::run::{RunError, Subject, fill};

use climb::{Climb, Verdict};
use options::SweepOptions;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The server, or the load.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The server answered wrongly, or not at all.
    #[error("at {rate:.0} requests a second the server failed: {reason}")]
    Faulty {
        /// Requests per second.
        rate: f64,
        /// How.
        reason: String,
    },
    /// A file cannot be written.
    #[error("cannot write to {}: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// One rate: medians of its slices.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Requests that were due each second.
    pub rate: f64,
    /// Requests answered each second.
    pub ops_per_s: f64,
    /// From when requests were due to their replies.
    pub latency_us: Latency,
    /// CPU time of the server for each operation, in µs, where it is known.
    pub server_cpu_us_per_op: Option<f64>,
}

/// Latencies of a point, in µs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Half were no longer.
    pub p50: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p99_9: f64,
}

/// The result. Its fields are the JSON's.
#[derive(Clone, Debug, Serialize)]
pub struct Sweep {
    /// The generator's version.
    pub version: &'static str,
    /// The whole configuration.
    pub config: SweepOptions,
    /// The server that was measured: its address, or "embedded".
    pub server: String,
    /// Every rate, from the lowest.
    pub points: Vec<Point>,
    /// The highest rate at which the 99th percentile kept its limit, if any did.
    pub rate_max: Option<f64>,
    /// Half of it.
    pub half: Option<Point>,
    /// What loops that only wait make of the rate of `half`, or of the lowest where no rate kept
    /// the limit, right after it; see [`crate::measure::jitter`].
    pub machine_us: Latency,
}

/// Sweeps, and prints.
///
/// # Errors
/// See [`SweepError`].
pub fn run(options: &SweepOptions) -> Result<ExitCode, SweepError> {
    let sweep = sweep(options)?;
    let write = |path: &Path, text: String| {
        fs::write(path, text).map_err(|error| SweepError::Write { path: path.to_owned(), error })
    };
    let json = || serde_json::to_string_pretty(&sweep).expect("a sweep has only plain fields");
    match &options.json {
        Some(path) if path == Path::new("-") => println!("{}", json()),
        other => {
            print!("{}", text(&sweep));
            if let Some(path) = other {
                write(path, json() + "\n")?;
            }
        }
    }
    if let Some(path) = &options.svg {
        write(path, svg::draw(&sweep.points, options.limit_us()))?;
    }
    Ok(if sweep.rate_max.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Fills the server, or a node in this process, and raises the rate.
///
/// # Errors
/// See [`SweepError`].
pub fn sweep(options: &SweepOptions) -> Result<Sweep, SweepError> {
    let subject = Subject::open(&options.as_run())?;
    let result = match options.subject.protocol {
        Protocol::Native => climb(options, &subject, || Native),
        Protocol::Resp => climb(options, &subject, || Resp),
        Protocol::Memcached => climb(options, &subject, || Memcached),
    };
    let name = subject.name().to_owned();
    subject.close()?;
    let (mut points, rate_max, half) = result?;
    eprintln!("measuring the machine alone");
    let rate = half.map_or(options.rate_min.per_second(), |half| half.rate);
    let waits = jitter::measure(rate, options.slice * options.reps as u32);
    let LatencyUs { p50, p99, p99_9, .. } = LatencyUs::of(&waits);
    let machine_us = Latency { p50, p99, p99_9 };
    points.sort_by(|a, b| f64::total_cmp(&a.rate, &b.rate));
    let version = env!("CARGO_PKG_VERSION");
    let config = options.clone();
    Ok(Sweep { version, config, server: name, points, rate_max, half, machine_us })
}

/// All points, the highest rate that kept the limit, and the point at half of it.
type Climbed = (Vec<Point>, Option<f64>, Option<Point>);

fn climb<C: Codec>(
    options: &SweepOptions,
    subject: &Subject,
    make_codec: impl Fn() -> C,
) -> Result<Climbed, SweepError> {
    let drive =
        Drive::new(subject.plan(), subject.threads(), make_codec).map_err(RunError::from)?;
    if !options.workload.no_fill {
        fill(&drive, options.workload.keys)?;
    }
    let measure = |rate: Rate| point(options, rate, |task, progress| drive.run(task, progress));
    let mut points = Vec::new();
    let mut climb = Climb::new(options.rate_min, options.rate_max);
    while let Some(rate) = climb.next_rate() {
        let point = measure(rate)?;
        let kept = point.latency_us.p99 <= options.limit_us();
        climb.judge(if kept { Verdict::Kept } else { Verdict::Broken });
        eprintln!("{}", line(&point));
        points.push(point);
    }
    let best = climb.best();
    let half = best.map(|best| measure(best.divided(2))).transpose()?;
    Ok((points, best.map(Rate::per_second), half))
}

/// Measures one rate, several times.
fn point(
    options: &SweepOptions,
    rate: Rate,
    run: impl Fn(Task, &Progress) -> Result<Outcome, DriveError>,
) -> Result<Point, SweepError> {
    let mut samples: [Samples; 4] = Default::default();
    let mut costs = Samples::default();
    for _ in 0..options.reps {
        let SweepOptions { pipeline, warmup, slice, .. } = *options;
        let task = Task::Timed { pipeline, warmup, duration: slice, rate: Some(rate) };
        let progress = Progress::new("measuring", Extent::Time(warmup + slice));
        let outcome = run(task, &progress).map_err(RunError::from)?;
        let tally = &outcome.tally;
        let failure = outcome.failures.first().map(ToString::to_string);
        if let Some(reason) = failure.or_else(|| tally.complaints.first().cloned()) {
            return Err(SweepError::Faulty { rate: rate.per_second(), reason });
        }
        if !tally.is_clean() {
            let reason = format!("{} wrong values, {} lost", tally.wrong_values, tally.lost);
            return Err(SweepError::Faulty { rate: rate.per_second(), reason });
        }
        for (samples, figure) in samples.iter_mut().zip(figures(&outcome)) {
            samples.push(figure);
        }
        if let Some(cpu_ns) = outcome.server_cpu_ns.filter(|_| tally.ops > 0) {
            costs.push(cpu_ns as f64 / 1e3 / tally.ops as f64);
        }
    }
    let median = |samples: &Samples| samples.spread().map_or(0.0, |spread| spread.median);
    let [ops_per_s, p50, p99, p99_9] = samples.each_ref().map(median);
    Ok(Point {
        rate: rate.per_second(),
        ops_per_s,
        latency_us: Latency { p50, p99, p99_9 },
        server_cpu_us_per_op: costs.spread().map(|spread| spread.median),
    })
}

/// Operations a second, and the latencies of a point in µs.
fn figures(outcome: &Outcome) -> [f64; 4] {
    let tally = &outcome.tally;
    let seconds = outcome.elapsed.as_secs_f64();
    if tally.ops == 0 {
        // No reply came, so what was due at the start has waited at least as long as this.
        return [0.0, seconds * 1e6, seconds * 1e6, seconds * 1e6];
    }
    let latency = LatencyUs::of(&tally.latency);
    [tally.ops as f64 / seconds, latency.p50, latency.p99, latency.p99_9]
}

fn line(point: &Point) -> String {
    let Latency { p50, p99, p99_9 } = point.latency_us;
    let cost = point.server_cpu_us_per_op;
    let cost = cost.map_or_else(|| "unknown".to_owned(), |cost| format!("{cost:.3} µs"));
    format!(
        "{:>11}/s due  {:>11}/s answered  p50 {:>8}  p99 {:>8}  p99.9 {:>8}  server CPU {cost} an operation",
        thousands(point.rate.round() as u64),
        thousands(point.ops_per_s.round() as u64),
        microseconds(p50),
        microseconds(p99),
        microseconds(p99_9),
    )
}

fn text(sweep: &Sweep) -> String {
    let limit = sweep.config.limit_us();
    let mut text = format!("server {}\n\n", sweep.server);
    text.push_str(&chart::draw(&sweep.points, limit));
    text.push('\n');
    for point in &sweep.points {
        text.push_str(&line(point));
        text.push('\n');
    }
    let limit = microseconds(limit);
    match (sweep.rate_max, &sweep.half) {
        (Some(rate), Some(half)) => {
            let rate = thousands(rate.round() as u64);
            text.push_str(&format!("\np99 keeps {limit} up to {rate}/s; at half of that:\n"));
            text.push_str(&line(half));
            text.push('\n');
        }
        _ => text.push_str(&format!("\np99 keeps {limit} at none of these rates\n")),
    }
    let Latency { p50, p99, p99_9 } = sweep.machine_us;
    text.push_str(&format!(
        "{:>41}  p50 {:>8}  p99 {:>8}  p99.9 {:>8}\n",
        if sweep.half.is_some() {
            "the machine alone, at that rate"
        } else {
            "the machine alone, at the lowest rate"
        },
        microseconds(p50),
        microseconds(p99),
        microseconds(p99_9),
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use crate::generator::Tally;
    use clap::Parser;
    use std::time::Duration;

    #[test]
    fn a_node_is_swept() {
        let line = "corelane-bench sweep --memory 256MiB --keys 1000 --connections 4 --reps 1 \
                    --slice 100ms --warmup 10ms --rate-min 1000 --rate-max 4000 --p99-max 100s";
        let cli = Cli::parse_from(line.split_whitespace());
        let Some(Command::Sweep(options)) = cli.command else { panic!("{line}") };
        let sweep = sweep(&options).unwrap();
        let rates: Vec<f64> = sweep.points.iter().map(|point| point.rate).collect();
        assert_eq!(rates, [1_000.0, 2_000.0, 4_000.0]);
        assert_eq!(sweep.rate_max, Some(4_000.0));
        assert_eq!(sweep.half.unwrap().rate, 2_000.0);
        for point in &sweep.points {
            let Latency { p50, p99, p99_9 } = point.latency_us;
            assert!(0.0 < p50 && p50 <= p99 && p99 <= p99_9, "{point:?}");
        }
        let text = text(&sweep);
        assert!(text.contains("up to 4 000/s"), "{text}");
        assert!(text.contains("the machine alone, at that rate  p50"), "{text}");
        let json = serde_json::to_value(&sweep).unwrap();
        assert_eq!(json["points"][2]["rate"], 4_000.0);
        assert!(json["half"]["latency_us"]["p99_9"].as_f64().unwrap() > 0.0);
    }

    #[test]
    fn a_slice_without_replies_is_as_slow_as_it_is_long() {
        let outcome = Outcome {
            tally: Tally::default(),
            elapsed: Duration::from_millis(250),
            server_cpu_ns: None,
            generator_cpu_ns: None,
            server_cores: None,
            failures: Vec::new(),
        };
        assert_eq!(figures(&outcome), [0.0, 250_000.0, 250_000.0, 250_000.0]);
    }
}
