//! `ring`: how balanced placement is and how much it moves, beside rings of virtual nodes.
//!
//! ```text
//! sets of nodes ─► scheme ─► owner of every slot, before and after a join ─► figures
//! ```

mod raw;

use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::process::ExitCode;

use clap::Args;
use corelane_ring::{
    Address, Change, CoreMap, Epoch, Node, NodeName, SLOTS, Slot, SlotSet, Topology, place,
    rebalance,
};
use serde::Serialize;

use crate::cli::count;
use crate::measure::paired::{Samples, Spread};

/// Virtual nodes of the raw rings.
const VIRTUAL_NODES: [usize; 5] = [100, 150, 160, 200, 1_000];
/// Cores of each node, to spread its slots over.
const CORES: u16 = 64;

/// Options of `ring`.
#[derive(Clone, Debug, Args, Serialize)]
pub struct RingOptions {
    /// Numbers of nodes.
    #[arg(long, value_delimiter = ',', default_value = "3,10,16,100")]
    #[arg(value_parser = count(2..=4_000))]
    pub nodes: Vec<usize>,
    /// Sets of nodes of each number.
    #[arg(long, default_value_t = 20, value_parser = count(1..=10_000))]
    pub sets: usize,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What a scheme did with sets of one size. Medians and the worst over the sets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// How many nodes there are before one joins.
    pub nodes: usize,
    /// Which scheme.
    pub scheme: String,
    /// The node with the most slots, as a multiple of the mean.
    pub largest_node: Figure,
    /// The node with the fewest.
    pub smallest_node: Figure,
    /// Slots that a join moves, as a multiple of what the newcomer is due.
    pub moved: Figure,
    /// Those of them that move between nodes that stay, likewise.
    pub moved_elsewhere: Figure,
    /// The largest core of all nodes, as a multiple of the mean over cores.
    pub largest_core: Figure,
}

/// One number over all sets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The median.
    pub median: f64,
    /// The one furthest from balance.
    pub worst: f64,
}

/// How slots are given to nodes. The lists are names, the newcomer last.
enum Scheme {
    Raw { virtual_nodes: usize },
    Place,
    Rebalance,
}

/// The owners of all slots, as places in the list of names.
type Owners = Vec<u16>;

impl Scheme {
    fn all() -> impl Iterator<Item = Scheme> {
        VIRTUAL_NODES
            .into_iter()
            .map(|virtual_nodes| Scheme::Raw { virtual_nodes })
            .chain([Scheme::Place, Scheme::Rebalance])
    }

    fn name(&self) -> String {
        match self {
            Scheme::Raw { virtual_nodes } => format!("ring of {virtual_nodes}"),
            Scheme::Place => "place".to_owned(),
            Scheme::Rebalance => "rebalance".to_owned(),
        }
    }

    /// Before and after the last node of the list joins.
    fn join(&self, names: &[String]) -> (Owners, Owners) {
        let fewer = &names[..names.len() - 1];
        match self {
            Scheme::Raw { virtual_nodes } => {
                (raw::owners(fewer, *virtual_nodes), raw::owners(names, *virtual_nodes))
            }
            Scheme::Place => (owners(&placed(fewer)), owners(&placed(names))),
            Scheme::Rebalance => {
                // The table in force is itself the outcome of a join.
                let grow = |table: &Topology, name: &String| {
                    rebalance(table, Change::Join(node(name)), 1).expect("a new name joins")
                };
                let first = placed(&fewer[..fewer.len() - 1]);
                let before = grow(&first, &fewer[fewer.len() - 1]);
                let after = grow(&before, &names[names.len() - 1]);
                (owners(&before), owners(&after))
            }
        }
    }
}

fn node(name: &String) -> Node {
    Node {
        name: NodeName::new(name).expect("our names are well formed"),
        addresses: vec![Address::new(&format!("{name}:7400")).expect("and so are addresses")],
        weight: NonZeroU32::MIN,
        zone: String::new(),
    }
}

fn placed(names: &[String]) -> Topology {
    place(Epoch(1), names.iter().map(node).collect(), 1).expect("the names differ")
}

fn owners(table: &Topology) -> Owners {
    Slot::all().map(|slot| table.owner(slot).0).collect()
}

/// One set's numbers, in the order of [`Row`].
fn measure(scheme: &Scheme, names: &[String]) -> [f64; 5] {
    let (before, after) = scheme.join(names);
    let nodes = names.len() - 1;
    let mut slots = vec![SlotSet::empty(); nodes];
    for (slot, owner) in Slot::all().zip(&before) {
        slots[usize::from(*owner)].insert(slot);
    }
    let mean = SLOTS as f64 / nodes as f64;
    let loads = || slots.iter().map(|slots| slots.len() as f64 / mean);
    let due = SLOTS as f64 / names.len() as f64;
    let changed = || before.iter().zip(&after).filter(|(before, after)| before != after);
    let elsewhere = changed().filter(|(_, after)| usize::from(**after) != nodes).count();
    let core = slots
        .iter()
        .flat_map(|slots| CoreMap::by_rank(CORES, slots).expect("64 cores are possible").loads())
        .max()
        .map_or(0.0, f64::from);
    [
        loads().fold(0.0, f64::max),
        loads().fold(f64::INFINITY, f64::min),
        changed().count() as f64 / due,
        elsewhere as f64 / due,
        core * f64::from(CORES) / mean,
    ]
}

fn row(scheme: &Scheme, nodes: usize, sets: usize) -> Row {
    let mut columns: [Samples; 5] = Default::default();
    for set in 0..sets {
        let names: Vec<String> =
            (0..=nodes).map(|number| format!("cache-{set}-{number}")).collect();
        let numbers = measure(scheme, &names);
        columns.iter_mut().zip(numbers).for_each(|(column, number)| column.push(number));
    }
    let [largest, smallest, moved, elsewhere, core] =
        columns.map(|column| column.spread().expect("there is at least one set"));
    let most = |spread: Spread| Figure { median: spread.median, worst: spread.max };
    Row {
        nodes,
        scheme: scheme.name(),
        largest_node: most(largest),
        smallest_node: Figure { median: smallest.median, worst: smallest.min },
        moved: most(moved),
        moved_elsewhere: most(elsewhere),
        largest_core: most(core),
    }
}

/// Compares all schemes, and prints a table or JSON.
pub fn run(options: &RingOptions) -> ExitCode {
    let rows: Vec<Row> = options
        .nodes
        .iter()
        .flat_map(|nodes| Scheme::all().map(|scheme| row(&scheme, *nodes, options.sets)))
        .collect();
    if options.json {
        let report = serde_json::json!({ "config": options, "rows": rows });
        println!("{report:#}");
    } else {
        print!("{}", draw(&rows));
    }
    ExitCode::SUCCESS
}

fn draw(rows: &[Row]) -> String {
    let mut text = format!(
        "Over sets of nodes: median (worst). Loads as multiples of the mean, moves as multiples \
         of what a newcomer is due, cores at {CORES} a node\n\n{:<6} {:<13} {:<17} {:<17} {:<17} \
         {:<17} {:<17}\n",
        "nodes",
        "scheme",
        "largest node",
        "smallest node",
        "join moves",
        "of it elsewhere",
        "largest core"
    );
    for row in rows {
        let _ = write!(text, "{:<6} {:<13}", row.nodes, row.scheme);
        let Row { largest_node, smallest_node, moved, moved_elsewhere, largest_core, .. } = row;
        for figure in [largest_node, smallest_node, moved, moved_elsewhere, largest_core] {
            let cell = format!("{:.3} ({:.3})", figure.median, figure.worst);
            let _ = write!(text, " {cell:<17}");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_balanced_where_raw_rings_are_not() {
        let raw = row(&Scheme::Raw { virtual_nodes: 100 }, 10, 4);
        let placed = row(&Scheme::Place, 10, 4);
        let balanced = row(&Scheme::Rebalance, 10, 4);
        assert!(raw.largest_node.median > placed.largest_node.worst);
        assert!(placed.largest_node.worst <= 1.10);
        assert!(balanced.largest_node.worst < 1.001);
        for row in [&raw, &balanced] {
            assert_eq!(row.moved_elsewhere.worst, 0.0, "{}", row.scheme);
        }
        assert!(draw(&[raw, placed, balanced]).lines().count() == 3 + 3);
    }
}
