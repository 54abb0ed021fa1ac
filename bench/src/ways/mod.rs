//! `cores` and `spin`: the same load on nodes in this process, which differ, or are asked, in one
//! way. They take turns of a short slice each, in an order that changes every turn, and are compared
//! within a turn.
//!
//! ```text
//! options ─► nodes (filled once) ─► ways (node, steering) ─► turns of slices ─► table, JSON
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use corelane::config::{Cores, Io};
use serde::Serialize;

use crate::cli::{count, parse_duration, parse_keys};
use crate::codec::native::Native;
use crate::embed::{EmbedOptions, Embedded, Traffic};
use crate::generator::session::PIPELINE_MAX;
use crate::generator::{Drive, DriveError, Outcome, Plan, Tally, Task};
use crate::measure::paired::{Samples, Spread};
use crate::progress::Progress;
use crate::report::LatencyUs;
use crate::run::{self, RunError};
use crate::workload::{Distribution, Steer, Workload};

/// Load before each slice, so that connections and caches are warm.
const WARMUP: Duration = Duration::from_millis(200);
/// How long no reply may come.
const STALL_LIMIT: Duration = Duration::from_secs(5);
/// Bytes of each key and value, and the share of reads.
const KEY_BYTES: usize = 16;
const VALUE_BYTES: usize = 64;
const GET_SHARE: f64 = 0.95;

/// How turns are taken.
#[derive(Clone, Debug, Args)]
pub struct TurnOptions {
    /// Number of keys, of 16 bytes, with values of 64; 95 % of the requests read, uniformly drawn.
    #[arg(long, default_value_t = 1_000_000, value_parser = parse_keys)]
    pub keys: u64,
    /// Turns that every way takes at each pipeline.
    #[arg(long, default_value_t = 9, value_parser = count(1..=1_000))]
    pub reps: usize,
    /// Time measured in each turn.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub slice: Duration,
    /// Write the result as JSON to a file, or with - to standard output instead of the
    /// readable one.
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
}

/// Options of `cores`.
#[derive(Clone, Debug, Args)]
pub struct CoresOptions {
    /// Cores of the larger node.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(2..))]
    pub cores: u16,
    /// Requests under way on each connection, one comparison each.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    #[arg(value_parser = count(1..=PIPELINE_MAX))]
    pub pipelines: Vec<usize>,
    /// Connections.
    #[arg(long, default_value_t = 50, value_parser = count(1..=10_000))]
    pub connections: usize,
    /// How turns are taken.
    #[command(flatten)]
    pub turns: TurnOptions,
}

/// Options of `spin`.
#[derive(Clone, Debug, Args)]
pub struct SpinOptions {
    /// How long the spinning node looks for work before it sleeps.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub spin_us: u64,
    /// Connections, with one request under way on each.
    #[arg(long, default_value_t = 1, value_parser = count(1..=10_000))]
    pub connections: usize,
    /// How turns are taken.
    #[command(flatten)]
    pub turns: TurnOptions,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum WaysError {
    /// What a single run may fail of.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A node answered wrongly, or not at all.
    #[error("{way}: {reason}")]
    Faulty {
        /// How it was asked.
        way: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The result cannot be written.
    #[error("cannot write the result: {0}")]
    Json(#[from] io::Error),
}

/// A node, or several with an even part of keys and connections each, and how they are asked.
#[derive(Clone, Copy)]
struct Way<'n> {
    name: &'static str,
    nodes: &'n [Embedded],
    steer: Steer,
    /// Threads of the generator, for all nodes together.
    threads: usize,
}

/// What the turns gave for one way. Its fields are the JSON's.
#[derive(Clone, Debug, Serialize)]
struct Row {
    way: &'static str,
    pipeline: usize,
    /// CPU time of the node's cores, µs an operation.
    cpu_us_per_op: Spread,
    /// The same as a ratio to the first way's, and to the second's: medians of the turns' ratios.
    ratio_to_first: f64,
    ratio_to_second: f64,
    /// Medians of the turns.
    ops_per_s: f64,
    p50_us: f64,
    p50_ratio_to_first: f64,
    /// Requests executed on another core than their connection's, and times that one core woke
    /// another, for each operation, warming up included.
    hops_per_op: f64,
    wakes_per_op: f64,
}

/// A sample of each figure a turn.
#[derive(Clone, Debug, Default)]
struct Measured {
    cpu_us_per_op: Samples,
    ops_per_s: Samples,
    p50_us: Samples,
    hops_per_op: Samples,
    wakes_per_op: Samples,
}

/// One core against several, and the ways to reach them.
///
/// # Errors
/// See [`WaysError`].
pub fn cores(options: &CoresOptions) -> Result<ExitCode, WaysError> {
    let cores = usize::from(options.cores);
    let one = [start(Cores::Count(1), 0, options.connections)?];
    let many = [start(Cores::Count(options.cores), 0, options.connections)?];
    let apart = apart(cores, options.connections)?;
    let way = |name, nodes, steer| Way { name, nodes, steer, threads: cores };
    let ways = [
        way("one core", &one, Steer::Any),
        way("steered", &many, Steer::Owner),
        way("by thread", &many, Steer::Thread),
        way("apart", &apart, Steer::Any),
        way("any", &many, Steer::Any),
        way("wrong", &many, Steer::Wrong),
    ];
    for way in [&ways[0], &ways[1], &ways[3]] {
        fill(way, options.connections, &options.turns)?;
    }
    let mut rows = Vec::new();
    for pipeline in &options.pipelines {
        rows.extend(rotate(&ways, *pipeline, options.connections, &options.turns)?);
    }
    report(&rows, &options.turns)?;
    for node in one.into_iter().chain(many).chain(apart) {
        node.stop().map_err(RunError::from)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A node that spins against one that does not.
///
/// # Errors
/// See [`WaysError`].
pub fn spin(options: &SpinOptions) -> Result<ExitCode, WaysError> {
    let sleeping = [start(Cores::Count(1), 0, options.connections)?];
    let spinning = [start(Cores::Count(1), options.spin_us, options.connections)?];
    let way = |name, nodes| Way { name, nodes, steer: Steer::Any, threads: 1 };
    let ways = [way("sleeping", &sleeping), way("spinning", &spinning)];
    for way in &ways {
        fill(way, options.connections, &options.turns)?;
    }
    let rows = rotate(&ways, 1, options.connections, &options.turns)?;
    report(&rows, &options.turns)?;
    for node in sleeping.into_iter().chain(spinning) {
        node.stop().map_err(RunError::from)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Nodes of one core each, on the CPUs that one node of as many cores has.
fn apart(cores: usize, connections: usize) -> Result<Vec<Embedded>, RunError> {
    let cpus = core_affinity::get_core_ids().unwrap_or_default();
    let core = |index: usize| match cpus.get(index) {
        Some(cpu) => Cores::List(vec![cpu.id]),
        None => Cores::Count(1),
    };
    (0..cores).map(|index| start(core(index), 0, connections)).collect()
}

fn start(cores: Cores, spin_us: u64, connections: usize) -> Result<Embedded, RunError> {
    Ok(Embedded::start(&EmbedOptions {
        cores,
        memory: None,
        io: Io::Auto,
        connections,
        value_bytes: VALUE_BYTES,
        spin_us,
    })?)
}

/// What one of a way's nodes is asked. The generator has the last CPU in every slice: one that the
/// larger node uses as well where there are no more, so that all ways are asked from the same place.
fn plan(way: &Way<'_>, node: &Embedded, connections: usize, keys: u64) -> Plan {
    let cpus = core_affinity::get_core_ids().unwrap_or_default();
    let nodes = way.nodes.len();
    Plan {
        address: node.address(),
        token: Vec::new(),
        connections: connections.div_ceil(nodes),
        threads: way.threads.div_ceil(nodes).min(connections),
        cpus: cpus.last().map(|cpu| cpu.id).into_iter().collect(),
        steer: way.steer,
        workload: Workload {
            keys: keys.div_ceil(nodes as u64),
            key_bytes: KEY_BYTES,
            value_bytes: VALUE_BYTES,
            get_share: GET_SHARE,
            distribution: Distribution::Uniform,
            seed: 1,
        },
        stall_limit: STALL_LIMIT,
    }
}

fn fill(way: &Way<'_>, connections: usize, turns: &TurnOptions) -> Result<(), WaysError> {
    for node in way.nodes {
        // Steering is of no use to one thread with little under way.
        let way = Way { steer: Steer::Any, ..*way };
        let (plan, threads) = (plan(&way, node, connections, turns.keys), node.threads());
        let drive = Drive::new(&plan, &threads, || Native).map_err(RunError::from)?;
        run::fill(&drive, plan.workload.keys)?;
    }
    Ok(())
}

/// Has all ways take their turns at one pipeline.
fn rotate(
    ways: &[Way<'_>],
    pipeline: usize,
    connections: usize,
    turns: &TurnOptions,
) -> Result<Vec<Row>, WaysError> {
    let mut measured = vec![Measured::default(); ways.len()];
    for turn in 0..turns.reps {
        for step in 0..ways.len() {
            // Each begins as often, and every second turn is backwards.
            let step = if turn % 2 == 0 { step } else { ways.len() - 1 - step };
            let index = (turn / 2 + step) % ways.len();
            measured[index].slice(&ways[index], pipeline, connections, turns)?;
        }
        eprintln!("pipeline {pipeline}: turn {} of {}", turn + 1, turns.reps);
    }
    Ok(ways
        .iter()
        .zip(&measured)
        .filter_map(|(way, own)| row(way, pipeline, own, &measured))
        .collect())
}

impl Measured {
    fn slice(
        &mut self,
        way: &Way<'_>,
        pipeline: usize,
        connections: usize,
        turns: &TurnOptions,
    ) -> Result<(), WaysError> {
        let faulty = |reason: String| WaysError::Faulty { way: way.name, reason };
        let before: Vec<Traffic> = way.nodes.iter().map(Embedded::traffic).collect();
        let task = Task::Timed { pipeline, warmup: WARMUP, duration: turns.slice, rate: None };
        let ask = |node: &Embedded| -> Result<Outcome, DriveError> {
            let (plan, threads) = (plan(way, node, connections, turns.keys), node.threads());
            Drive::new(&plan, &threads, || Native)?.run(task, &Progress::hidden())
        };
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let asked: Vec<_> =
                way.nodes.iter().map(|node| scope.spawn(move || ask(node))).collect();
            asked.into_iter().map(|asked| asked.join().expect("it does not panic")).collect()
        });
        let mut sum = Tally::default();
        let (mut ops_per_s, mut cpu_ns) = (0.0, 0);
        for outcome in outcomes {
            let Outcome { tally, elapsed, server_cpu_ns, failures, .. } =
                outcome.map_err(RunError::from)?;
            if let Some(failure) = failures.first() {
                return Err(faulty(failure.to_string()));
            }
            if !tally.is_clean() || tally.misses > 0 || tally.ops == 0 {
                return Err(faulty(format!(
                    "{} answers, {} wrong values, {} lost, {} missed",
                    tally.ops, tally.wrong_values, tally.lost, tally.misses
                )));
            }
            let unread = || faulty("its CPU time cannot be read".to_owned());
            cpu_ns += server_cpu_ns.ok_or_else(unread)?;
            ops_per_s += tally.ops as f64 / elapsed.as_secs_f64();
            sum.add(&tally);
        }
        let (mut hops, mut wakes) = (0.0, 0.0);
        for (node, before) in way.nodes.iter().zip(&before) {
            let (own_hops, own_wakes) = node.traffic().per_op_since(before);
            hops += own_hops / way.nodes.len() as f64;
            wakes += own_wakes / way.nodes.len() as f64;
        }
        self.cpu_us_per_op.push(cpu_ns as f64 / 1e3 / sum.ops as f64);
        self.ops_per_s.push(ops_per_s);
        self.p50_us.push(LatencyUs::of(&sum.latency).p50);
        self.hops_per_op.push(hops);
        self.wakes_per_op.push(wakes);
        Ok(())
    }
}

fn row(way: &Way<'_>, pipeline: usize, own: &Measured, all: &[Measured]) -> Option<Row> {
    let median = |samples: &Samples| Some(samples.spread()?.median);
    let ratio = |other: &Measured| Some(own.cpu_us_per_op.ratio_to(&other.cpu_us_per_op)?.median);
    Some(Row {
        way: way.name,
        pipeline,
        cpu_us_per_op: own.cpu_us_per_op.spread()?,
        ratio_to_first: ratio(&all[0])?,
        ratio_to_second: ratio(&all[1])?,
        ops_per_s: median(&own.ops_per_s)?,
        p50_us: median(&own.p50_us)?,
        p50_ratio_to_first: own.p50_us.ratio_to(&all[0].p50_us)?.median,
        hops_per_op: median(&own.hops_per_op)?,
        wakes_per_op: median(&own.wakes_per_op)?,
    })
}

fn report(rows: &[Row], turns: &TurnOptions) -> io::Result<()> {
    let json = || serde_json::to_string_pretty(rows).expect("numbers and text");
    match turns.json.as_deref() {
        Some(path) if path == Path::new("-") => println!("{}", json()),
        other => {
            print!("{}", draw(rows));
            if let Some(path) = other {
                fs::write(path, json() + "\n")?;
            }
        }
    }
    Ok(())
}

fn draw(rows: &[Row]) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let second = rows.get(1).map_or("", |row| row.way);
    let mut text = format!(
        "pipeline  way       CPU µs/op (range)           × {}  × {second}  ops/s      p50 µs  × {}  \
         hops/op  wakes/op\n",
        first.way, first.way
    );
    for row in rows {
        let Spread { median, min, max } = row.cpu_us_per_op;
        text += &format!(
            "{:<9} {:<9} {:<27} {:<11.3} {:<10.3} {:<10.0} {:<7.1} {:<10.3} {:<8.3} {:.4}\n",
            row.pipeline,
            row.way,
            format!("{median:.3} ({min:.3}–{max:.3})"),
            row.ratio_to_first,
            row.ratio_to_second,
            row.ops_per_s,
            row.p50_us,
            row.p50_ratio_to_first,
            row.hops_per_op,
            row.wakes_per_op,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns() -> TurnOptions {
        let slice = Duration::from_millis(200);
        TurnOptions { keys: 1_000, reps: 2, slice, json: None }
    }

    #[test]
    fn hops_are_those_that_the_steering_makes() {
        let one = [start(Cores::Count(1), 0, 4).unwrap()];
        let two = [start(Cores::Count(2), 0, 4).unwrap()];
        let apart = apart(2, 4).unwrap();
        let way = |name, nodes, steer| Way { name, nodes, steer, threads: 2 };
        let ways = [
            way("one core", &one, Steer::Any),
            way("steered", &two, Steer::Owner),
            way("apart", &apart, Steer::Any),
            way("wrong", &two, Steer::Wrong),
        ];
        for way in &ways[..3] {
            fill(way, 4, &turns()).unwrap();
        }
        let rows = rotate(&ways, 4, 4, &turns()).unwrap();
        let hops: Vec<f64> = rows.iter().map(|row| row.hops_per_op).collect();
        assert_eq!(hops, [0.0, 0.0, 0.0, 1.0]);
        assert_eq!(rows[0].ratio_to_first, 1.0);
        let text = draw(&rows);
        assert!(text.contains("\n4         wrong     ") && text.contains("× steered"), "{text}");
    }
}
