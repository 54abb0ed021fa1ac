//! `fleet`: several nodes as one cache, and what their clients see when one is killed and
//! another one joins.
//!
//! ```text
//! scenario ─► node: processes of this binary, their admin ports ─┐
//!         └─► load: tasks over one client ─► tallies by phase ───┴─► report: table, chart, JSON
//! ```

mod load;
pub mod node;
mod report;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;
use corelane::topology::format;
use corelane_client::ConnectError;
use corelane_ring::{
    Address, AddressError, Change, ChangeError, Epoch, Node as Place, NodeName, NodeNameError,
    Topology, TopologyError, place, rebalance,
};
use serde::Serialize;

use crate::cli::{count, parse_duration, parse_keys, parse_value_size, serialize_seconds};
use load::Load;
use node::Node;
use report::Report;

/// Options of `fleet`.
#[derive(Clone, Debug, Args, Serialize)]
pub struct FleetOptions {
    /// Nodes at the start; a process each.
    #[arg(long, default_value_t = 3, value_parser = count(2..=16))]
    pub nodes: usize,
    /// Data cores of each node.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub cores: u16,
    /// Number of keys, all of which are written first.
    #[arg(long, default_value = "100K", value_parser = parse_keys)]
    pub keys: u64,
    /// Bytes of each value.
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = parse_value_size)]
    pub value_size: usize,
    /// Requests under way at a time.
    #[arg(long, default_value_t = 32, value_parser = count(1..=4_096))]
    pub clients: usize,
    /// Time of each phase, such as 8s or 500ms.
    #[arg(long, default_value = "8s", value_parser = parse_duration)]
    #[serde(serialize_with = "serialize_seconds")]
    pub phase: Duration,
    /// Where the random draws start from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write the report as JSON to a file, or with - to standard output instead of the
    /// readable one.
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// A node did not start, or its admin port did not answer.
    #[error("node {name}: {error}")]
    Node {
        /// Which.
        name: String,
        /// Why.
        error: io::Error,
    },
    /// The load has no runtime.
    #[error("cannot start the load: {0}")]
    Runtime(io::Error),
    /// The client could not connect.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A node's name cannot be.
    #[error(transparent)]
    Name(#[from] NodeNameError),
    /// A node's address cannot be.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The nodes make no topology.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// A node could not join or leave.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The report cannot be written.
    #[error("cannot write the report to {}: {error}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// What goes on between two events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// All nodes serve all keys.
    Before,
    /// One node was killed, and nobody but the clients has noticed.
    Killed,
    /// The topology is without it.
    Removed,
    /// A node was added, empty.
    Added,
}

impl Phase {
    const ALL: [Phase; 4] = [Phase::Before, Phase::Killed, Phase::Removed, Phase::Added];

    fn title(self) -> &'static str {
        match self {
            Phase::Before => "before",
            Phase::Killed => "one killed",
            Phase::Removed => "taken out",
            Phase::Added => "one added",
        }
    }
}

/// Plays the scenario, and says whether everything was answered and right.
///
/// # Errors
/// There is nothing to report.
pub fn run(options: &FleetOptions) -> Result<ExitCode, FleetError> {
    let report = play(options)?;
    match &options.json {
        Some(path) if path == Path::new("-") => println!("{}", report.json()),
        other => {
            print!("{}", report.text());
            if let Some(path) = other {
                std::fs::write(path, report.json() + "\n")
                    .map_err(|error| FleetError::Json { path: path.clone(), error })?;
            }
        }
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn play(options: &FleetOptions) -> Result<Report, FleetError> {
    let mut nodes = Vec::new();
    for number in 1..=options.nodes {
        nodes.push(Node::start(&format!("cache-{number}"), options.cores)?);
    }
    let places = nodes.iter().map(place_of).collect::<Result<Vec<_>, _>>()?;
    let mut topology = place(Epoch(1), places, 1)?;
    tell(&nodes, &topology)?;

    let specs = nodes.iter().map(Node::spec).collect();
    let load = Load::start(options, specs)?;
    load.fill();
    let landed_from = landings(&nodes)?;
    load.enter(Phase::Before);
    thread::sleep(options.phase);
    let landed = landings(&nodes)?.since(landed_from);

    let killed = nodes.pop().expect("there are several nodes");
    let killed_name = NodeName::new(killed.name())?;
    let killed_share = share_of(&topology, &killed_name);
    load.enter(Phase::Killed);
    killed.kill();
    let lost_share = load.missing_share();
    thread::sleep(options.phase);

    topology = rebalance(&topology, Change::Leave(killed_name), 1)?;
    load.enter(Phase::Removed);
    tell(&nodes, &topology)?;
    thread::sleep(options.phase);

    let newcomer = Node::start(&format!("cache-{}", options.nodes + 1), options.cores)?;
    topology = rebalance(&topology, Change::Join(place_of(&newcomer)?), 1)?;
    nodes.push(newcomer);
    load.enter(Phase::Added);
    // The newcomer first: it is to know its slots before anybody is sent there.
    tell(nodes.iter().rev(), &topology)?;
    thread::sleep(options.phase);

    let tallies = load.finish();
    Ok(Report::new(options.clone(), tallies, landed, lost_share, killed_share))
}

fn place_of(node: &Node) -> Result<Place, FleetError> {
    Ok(Place {
        name: NodeName::new(node.name())?,
        addresses: vec![Address::new(node.address())?],
        weight: 100.try_into().expect("not 0"),
        zone: String::new(),
    })
}

fn tell<'n>(
    nodes: impl IntoIterator<Item = &'n Node>,
    topology: &Topology,
) -> Result<(), FleetError> {
    let text = format::print(topology);
    nodes.into_iter().try_for_each(|node| node.put_topology(&text))
}

fn share_of(topology: &Topology, name: &NodeName) -> f64 {
    let owned = topology.find(name).map_or(0, |index| topology.owned_by(index).len());
    owned as f64 / corelane_ring::SLOTS as f64
}

/// Where requests came to, over all nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Landings {
    /// Requests executed.
    pub requests: u64,
    /// Those that had come to another core of the node.
    pub forwarded: u64,
    /// Requests that had come to another node.
    pub turned_away: u64,
}

impl Landings {
    fn since(self, earlier: Landings) -> Landings {
        Landings {
            requests: self.requests - earlier.requests,
            forwarded: self.forwarded - earlier.forwarded,
            turned_away: self.turned_away - earlier.turned_away,
        }
    }

    /// The share that came to the right core of the right node at once.
    pub fn steered(&self) -> f64 {
        let astray = self.forwarded + self.turned_away;
        1.0 - astray as f64 / (self.requests + self.turned_away).max(1) as f64
    }
}

fn landings(nodes: &[Node]) -> Result<Landings, FleetError> {
    let mut sum = Landings::default();
    for node in nodes {
        let counters = node.counters(["requests", "forwarded_in", "turned_away"])?;
        let [requests, forwarded, turned_away] = counters;
        sum.requests += requests;
        sum.forwarded += forwarded;
        sum.turned_away += turned_away;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_astray_is_a_share_of_all() {
        let before = Landings { requests: 5, forwarded: 1, turned_away: 0 };
        let after = Landings { requests: 1_004, forwarded: 2, turned_away: 1 };
        let landed = after.since(before);
        assert_eq!(landed, Landings { requests: 999, forwarded: 1, turned_away: 1 });
        assert!((landed.steered() - 0.998).abs() < 1e-9);
        assert_eq!(Landings::default().steered(), 1.0);
    }
}
