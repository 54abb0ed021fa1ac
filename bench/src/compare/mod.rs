//! `compare`: Corelane side by side with other servers, and with the kernel's floor.
//!
//! ```text
//! options ─► peer (what it is, how it is started) ─► process (pinned, on loopback) ─┐
//!                                                              floor (a thread) ────┤
//!            table, JSON ◄─ row (ratios of each turn) ◄─ rotation (turns of slices) ◄┘
//! ```
//!
//! Every server has one thread, on one CPU that they all share; the generator has another.
//! All hold the same keys. For each size of values and each pipeline they take turns of a
//! short slice each, and are compared within a turn by CPU time for each operation.

pub mod contender;
pub mod options;
pub mod peer;
pub mod process;
pub mod rotation;
pub mod row;
mod table;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use crate::floors::service::{FixedReplies, SmallCache};
use crate::floors::{Runtime, Server as FloorServer};
use crate::generator::DriveError;
use crate::workload::{Distribution, Workload};

use contender::{Contender, Host, Wire, speaks};
use options::CompareOptions;
use peer::{Launch, Peer, PeerError};
use process::{Fleet, StartError};
use row::Row;

/// Bytes of each key.
const KEY_BYTES: usize = 16;

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A server is not to be had.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// A server did not start.
    #[error("{server} did not start: {error}")]
    Start {
        /// Its name.
        server: String,
        /// Why.
        error: StartError,
    },
    /// The load could not start.
    #[error("{server}: {error}")]
    Drive {
        /// Under which server.
        server: String,
        /// Why.
        error: DriveError,
    },
    /// A server answered wrongly, or not at all.
    #[error("{server} failed: {reason}")]
    Faulty {
        /// Which.
        server: String,
        /// How.
        reason: String,
    },
    /// No server speaks any of the protocols asked for.
    #[error("no server speaks any of the protocols asked for")]
    Nothing,
    /// Signals cannot be waited for.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    /// The result cannot be written.
    #[error("cannot write the result to {}: {error}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Where it was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The CPU's name for itself.
    pub cpu: String,
    /// CPUs that the generator and the servers may use.
    pub cpus: usize,
    /// The kernel's release.
    pub kernel: String,
}

impl Machine {
    fn read() -> Machine {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let info = text("/proc/cpuinfo");
        let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Machine {
            cpu: model.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned()),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// The whole comparison. Its fields are the JSON's.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The generator's version.
    pub version: &'static str,
    /// Where it was measured.
    pub machine: Machine,
    /// The whole configuration.
    pub config: CompareOptions,
    /// What was asked for and is not there, with the reason.
    pub absent: Vec<String>,
    /// The results.
    pub rows: Vec<Row>,
}

/// Compares, and prints.
///
/// # Errors
/// See [`CompareError`].
pub fn run(options: &CompareOptions) -> Result<ExitCode, CompareError> {
    let fleet = Fleet::default();
    process::end_on_signal(fleet.clone()).map_err(CompareError::Signals)?;
    let comparison = compare(options, &fleet)?;
    let json = || {
        let json = serde_json::to_string_pretty(&comparison);
        json.expect("a comparison has only plain fields")
    };
    match &options.json {
        Some(path) if path == Path::new("-") => println!("{}", json()),
        other => {
            print!("{}", table::draw(&comparison));
            if let Some(path) = other {
                fs::write(path, json() + "\n")
                    .map_err(|error| CompareError::Json { path: path.clone(), error })?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts all servers, once for each size of values, and has them take turns.
///
/// # Errors
/// See [`CompareError`].
pub fn compare(options: &CompareOptions, fleet: &Fleet) -> Result<Comparison, CompareError> {
    let options = &options.with_cpus();
    peer::check_names(options)?;
    let mut absent = Vec::new();
    let mut servers = vec![Peer::corelane(options)?];
    for spec in options.peers.iter().filter(|spec| !spec.is_none()) {
        match Peer::find(spec, options) {
            Ok(peer) => servers.push(peer),
            Err(error @ PeerError::NotOnPath { .. }) => absent.push(error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    let floor = match FloorServer::start(Runtime::Uring, FixedReplies, options.server_cpu) {
        Ok(server) => Some(Contender::new(Host::floor(server), Wire::Fixed)),
        Err(error) => {
            absent.push(format!("floor: {error}"));
            None
        }
    };
    for reason in &absent {
        eprintln!("left out: {reason}");
    }
    let mut rows = Vec::new();
    for &value_size in &options.value_sizes {
        let mut contenders = start(options, fleet, &servers, value_size)?;
        if options.copying {
            let thread =
                FloorServer::start(Runtime::Uring, SmallCache::default(), options.server_cpu);
            let thread = thread.map_err(|error| CompareError::Start {
                server: "copying".to_owned(),
                error: StartError::System(error),
            })?;
            let host = Host::copying(thread);
            rotation::fill(options, value_size, &host, Wire::Native)?;
            contenders.push(Contender::new(host, Wire::Native));
        }
        contenders.extend(floor.clone());
        for &pipeline in &options.pipelines {
            let measured = rotation::rotate(options, value_size, pipeline, &contenders)?;
            rows.extend(row::rows(pipeline, value_size, &measured));
        }
    }
    let config = options.clone();
    Ok(Comparison {
        version: env!("CARGO_PKG_VERSION"),
        machine: Machine::read(),
        config,
        absent,
        rows,
    })
}

/// Starts every server, fills it, and finds out which of the protocols it speaks.
fn start(
    options: &CompareOptions,
    fleet: &Fleet,
    servers: &[Peer],
    value_size: usize,
) -> Result<Vec<Contender>, CompareError> {
    let mut contenders = Vec::new();
    for server in servers {
        let launch = Launch {
            cpu: options.server_cpu,
            connections: options.connections,
            memory: memory_bytes(options.keys, value_size),
        };
        let process = process::start(fleet, server, &launch)
            .map_err(|error| CompareError::Start { server: server.name.clone(), error })?;
        let host = Host::process(server, process);
        let spoken: Vec<Wire> = options
            .protocols
            .iter()
            .map(|protocol| Wire::from(*protocol))
            .filter(|wire| speaks(server.kind, *wire, host.address()))
            .collect();
        let [first, ..] = spoken[..] else { continue };
        eprintln!("{}: filling with values of {value_size} bytes", server.name);
        rotation::fill(options, value_size, &host, first)?;
        contenders.extend(spoken.into_iter().map(|wire| Contender::new(host.clone(), wire)));
    }
    if contenders.is_empty() {
        return Err(CompareError::Nothing);
    }
    Ok(contenders)
}

/// Memory in which any server keeps all keys without evicting: twice what keys, values and
/// the largest overhead that a server has for an entry come to, and as much again as small
/// comparisons need.
fn memory_bytes(keys: u64, value_size: usize) -> u64 {
    /// More than any peer's, rounded up.
    const OVERHEAD_BYTES: u64 = 128;
    const BASE_BYTES: u64 = 256 << 20;
    BASE_BYTES + 2 * keys * (KEY_BYTES as u64 + value_size as u64 + OVERHEAD_BYTES)
}

fn workload(options: &CompareOptions, value_size: usize) -> Workload {
    Workload {
        keys: options.keys,
        key_bytes: KEY_BYTES,
        value_bytes: value_size,
        get_share: options.get,
        distribution: Distribution::Uniform,
        seed: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    #[test]
    fn slices_become_rows() {
        let line = "corelane-bench compare --reps 2 --slice 300ms --connections 4 --keys 1000";
        let cli = Cli::parse_from(line.split_whitespace());
        let Some(Command::Compare(options)) = cli.command else { panic!("{line}") };
        let floor = FloorServer::start(Runtime::Uring, FixedReplies, None).unwrap();
        let contenders = [Contender::new(Host::floor(floor), Wire::Fixed)];
        rotation::fill(&options, 64, &contenders[0].host, Wire::Fixed).unwrap();
        let measured = rotation::rotate(&options, 64, 16, &contenders).unwrap();
        let comparison = Comparison {
            version: "1.0",
            machine: Machine::read(),
            config: CompareOptions { pipelines: vec![16], value_sizes: vec![64], ..options },
            absent: vec!["redis: it is not there".to_owned()],
            rows: row::rows(16, 64, &measured),
        };
        let [row] = &comparison.rows[..] else { panic!("{:?}", comparison.rows) };
        assert_eq!(row.ratio_to_floor, Some(1.0));
        assert!(row.ops_per_s > 0.0 && row.cpu_us_per_op.median > 0.0, "{row:?}");
        assert!(row.latency_us.p50 <= row.latency_us.p99_9, "{row:?}");
        let text = table::draw(&comparison);
        for part in ["values of 64 bytes, pipeline 16\n", "\nfloor ", "1.00", "left out: redis"] {
            assert!(text.contains(part), "{part} in:\n{text}");
        }
    }

    #[test]
    fn memory_is_enough_for_the_keys() {
        assert!(memory_bytes(1_000_000, 64) > 1_000_000 * (16 + 64 + 128));
        assert!(memory_bytes(1, 0) >= 256 << 20);
    }
}
