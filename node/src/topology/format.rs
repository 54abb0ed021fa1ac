//! A topology as text: TOML, or JSON with the same keys. Nothing here does I/O.
//!
//! ```toml
//! epoch = 7
//! owners = 1                       # nodes a slot: its owner, and copies
//!
//! [[nodes]]
//! name = "cache-1"
//! addresses = ["10.0.0.1:7400"]    # the preferred one first
//! weight = 100                     # what is left out: 100
//! zone = "west"                    # what is left out: not known
//! ```
//!
//! Without slots, they are placed by the list alone ([`corelane_ring::place()`]). To place them
//! otherwise, there are tables `[[slots]]` instead of `owners`, which name every slot once:
//! `nodes = ["cache-1", "cache-2"]`, the owner first, and `ranges = "0-8191,16383"`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use corelane_ring::{
    Address, AddressError, Epoch, Node, NodeIndex, NodeName, NodeNameError, OWNERS_MAX, Slot,
    SlotRange, Topology, TopologyError, place,
};
use serde::{Deserialize, Serialize};

/// Why a text is no topology. The message says what to change.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// It is not JSON, or has other keys.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// It is not TOML, or has other keys.
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    /// A node's name cannot be.
    #[error(transparent)]
    Name(#[from] NodeNameError),
    /// An address cannot be.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A node weighs nothing.
    #[error("node {name} has weight 0")]
    Weight {
        /// The node.
        name: NodeName,
    },
    /// Not 1 to 8 owners.
    #[error("owners is between 1 and 8, not {owners}")]
    Owners {
        /// What was given.
        owners: usize,
    },
    /// Both ways of placing slots.
    #[error("owners is for placement by the list of nodes; with slots, these name their nodes")]
    OwnersAndSlots,
    /// Slots name a node that is not in the list.
    #[error("slots {ranges} name node {name:?}, which is not in the list")]
    NoSuchNode {
        /// Which slots.
        ranges: String,
        /// What they name.
        name: String,
    },
    /// What is no list of slots.
    #[error("{text:?} is no list of slots, such as 0-8191,16383")]
    Ranges {
        /// The text.
        text: String,
    },
    /// The parts do not make a topology.
    #[error(transparent)]
    Topology(#[from] TopologyError),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    epoch: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owners: Option<usize>,
    nodes: Vec<FileNode>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    slots: Vec<FileSlots>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileNode {
    name: String,
    addresses: Vec<String>,
    #[serde(default = "ordinary_weight")]
    weight: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    zone: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSlots {
    nodes: Vec<String>,
    ranges: String,
}

const fn ordinary_weight() -> u32 {
    100
}

/// The topology that a text describes: JSON where it begins with a brace, else TOML.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(text: &str) -> Result<Topology, FormatError> {
    let is_json = text.trim_start().starts_with('{');
    let file = if is_json { serde_json::from_str(text)? } else { toml::from_str(text)? };
    let File { epoch, owners, nodes, slots } = file;
    let nodes = nodes.into_iter().map(node).collect::<Result<Vec<_>, _>>()?;
    if !slots.is_empty() {
        if owners.is_some() {
            return Err(FormatError::OwnersAndSlots);
        }
        return Ok(Topology::new(Epoch(epoch), nodes.clone(), &slot_ranges(&nodes, slots)?)?);
    }
    match owners.unwrap_or(1) {
        owners @ 1..=OWNERS_MAX => Ok(place(Epoch(epoch), nodes, owners)?),
        owners => Err(FormatError::Owners { owners }),
    }
}

fn node(node: FileNode) -> Result<Node, FormatError> {
    let name = NodeName::new(&node.name)?;
    let addresses =
        node.addresses.iter().map(|text| Address::new(text)).collect::<Result<_, _>>()?;
    let Some(weight) = NonZeroU32::new(node.weight) else {
        return Err(FormatError::Weight { name });
    };
    Ok(Node { name, addresses, weight, zone: node.zone })
}

fn slot_ranges(nodes: &[Node], slots: Vec<FileSlots>) -> Result<Vec<SlotRange>, FormatError> {
    let index_of = |name: &String| nodes.iter().position(|node| node.name.as_str() == name);
    let mut ranges = Vec::new();
    for FileSlots { nodes: names, ranges: text } in slots {
        let mut owners = Vec::new();
        for name in &names {
            let Some(index) = index_of(name) else {
                return Err(FormatError::NoSuchNode { ranges: text, name: name.clone() });
            };
            // Whether there are too many nodes is for Topology::new to say.
            owners.push(NodeIndex(u16::try_from(index).unwrap_or(u16::MAX)));
        }
        for range in text.split(',') {
            let slot = |text: &str| text.trim().parse().ok().and_then(Slot::new);
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (Some(first), Some(last)) = (slot(first), slot(last)) else {
                return Err(FormatError::Ranges { text });
            };
            ranges.push(SlotRange { first, last, owners: owners.clone() });
        }
    }
    Ok(ranges)
}

/// A topology as JSON, with every slot. [`parse`] reads it back.
pub fn print(topology: &Topology) -> String {
    let mut by_owners: BTreeMap<Vec<NodeIndex>, Vec<String>> = BTreeMap::new();
    for SlotRange { first, last, owners } in topology.ranges() {
        let text = match (first.number(), last.number()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        by_owners.entry(owners).or_default().push(text);
    }
    let name = |index: &NodeIndex| topology.node(*index).name.to_string();
    let slots = by_owners.into_iter().map(|(owners, ranges)| FileSlots {
        nodes: owners.iter().map(name).collect(),
        ranges: ranges.join(","),
    });
    let nodes = topology.nodes().iter().map(|node| FileNode {
        name: node.name.to_string(),
        addresses: node.addresses.iter().map(ToString::to_string).collect(),
        weight: node.weight.get(),
        zone: node.zone.clone(),
    });
    let epoch = topology.epoch().0;
    let file = File { epoch, owners: None, nodes: nodes.collect(), slots: slots.collect() };
    serde_json::to_string_pretty(&file).expect("strings and numbers have a form in JSON") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = r#"
        [[nodes]]
        name = "a"
        addresses = ["a.example:7400", "10.0.0.1:7400"]
        zone = "west"
        [[nodes]]
        name = "b"
        addresses = ["b.example:7400"]
        weight = 300
    "#;

    #[test]
    fn a_list_of_nodes_is_enough() {
        let topology = parse(&format!("epoch = 7\nowners = 2\n{NODES}")).unwrap();
        assert_eq!(topology.epoch(), Epoch(7));
        assert_eq!(topology, place(Epoch(7), topology.nodes().to_vec(), 2).unwrap());
        let [a, b] = topology.nodes() else { panic!("two nodes") };
        assert_eq!((a.weight.get(), a.zone.as_str(), a.addresses.len()), (100, "west", 2));
        assert_eq!((b.weight.get(), b.zone.as_str()), (300, ""));
    }

    #[test]
    fn slots_may_be_named() {
        let slots = r#"
            [[slots]]
            nodes = ["b", "a"]
            ranges = "0-99, 101"
            [[slots]]
            nodes = ["a"]
            ranges = "100,102-16383"
        "#;
        let topology = parse(&format!("epoch = 1\n{NODES}{slots}")).unwrap();
        let owners = |slot| topology.owners(Slot::new(slot).unwrap());
        assert_eq!(owners(101), [NodeIndex(1), NodeIndex(0)]);
        assert_eq!(owners(100), [NodeIndex(0)]);
    }

    #[test]
    fn what_is_printed_reads_back() {
        for owners in [1, 2] {
            let topology = parse(&format!("epoch = 9\nowners = {owners}\n{NODES}")).unwrap();
            assert_eq!(parse(&print(&topology)).unwrap(), topology);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |text: &str, expected: &str| {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        let with = |more: &str| format!("epoch = 1\n{NODES}\n{more}");
        check("epoch = 1", "missing field `nodes`");
        check("{\"epoch\": 1, \"node\": []}", "unknown field `node`");
        check(&format!("epoch = 0\n{NODES}"), "epoch 0 stands for no topology");
        check(&format!("epoch = 1\nowners = 9\n{NODES}"), "between 1 and 8, not 9");
        check(
            &with("[[nodes]]\nname = \"c\"\naddresses = [\"c:1\"]\nweight = 0"),
            "c has weight 0",
        );
        check(&with("[[nodes]]\nname = \"a b\"\naddresses = []"), "character ' '");
        check(&with("[[nodes]]\nname = \"c\"\naddresses = [\"c\"]"), "\"c\" is no address");
        check(&with("[[nodes]]\nname = \"c\"\naddresses = []"), "node c has no address");
        let slots = |nodes: &str, ranges: &str| {
            with(&format!("[[slots]]\nnodes = [\"{nodes}\"]\nranges = \"{ranges}\""))
        };
        check(&slots("z", "0-16383"), "slots 0-16383 name node \"z\"");
        check(&slots("a", "0-16384"), "\"0-16384\" is no list of slots");
        check(&slots("a", "0-16382"), "Slot(16383) is in no range");
        let both = format!("owners = 1\n{}", slots("a", "0-16383"));
        check(&both, "with slots, these name their nodes");
    }
}
