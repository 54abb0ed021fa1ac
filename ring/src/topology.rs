//! Which nodes answer for which slots: one immutable value, numbered by its epoch.
//!
//! A topology is made whole by [`Topology::new`], which checks all of it, and is never
//! changed: a later one, with a higher epoch, takes its place. Nodes are told apart by name.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::identity::{Epoch, NodeIndex, NodeName};
use crate::slot::{SLOTS, Slot, SlotSet};

/// Most nodes of a topology.
pub const NODES_MAX: usize = 4_096;
/// Most nodes that answer for one slot: its owner and the copies.
pub const OWNERS_MAX: usize = 8;
/// Longest address, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 255;
/// Most addresses of a node.
pub const ADDRESSES_MAX: usize = 16;
/// Longest name of a zone, in bytes.
pub const ZONE_BYTES_MAX: usize = 255;

/// Fills the places of [`Topology::table`] beyond a slot's last node.
const NOBODY: NodeIndex = NodeIndex(u16::MAX);
const _: () = assert!(NODES_MAX <= u16::MAX as usize);

/// Where a node listens: `host:port`, `[IPv6]:port` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(Arc<str>);

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no address; wanted are host:port, [IPv6]:port or unix:PATH")]
pub struct AddressError {
    /// The text.
    pub text: String,
}

impl Address {
    /// Checks an address's form. Nothing is resolved.
    ///
    /// # Errors
    /// It has none of the forms, or is over [`ADDRESS_BYTES_MAX`].
    pub fn new(text: &str) -> Result<Address, AddressError> {
        let well_formed = match text.strip_prefix("unix:") {
            Some(path) => !path.is_empty(),
            None => text.rsplit_once(':').is_some_and(|(host, port)| {
                let bracketed = host.starts_with('[') && host.ends_with(']') && host.len() > 2;
                (bracketed || (!host.is_empty() && !host.contains([':', '[', ']'])))
                    && port.bytes().all(|byte| byte.is_ascii_digit())
                    && port.parse::<u16>().is_ok_and(|port| port != 0)
            }),
        };
        let printable = text.chars().all(|c| !c.is_control() && !c.is_whitespace());
        if well_formed && printable && text.len() <= ADDRESS_BYTES_MAX {
            Ok(Address(text.into()))
        } else {
            Err(AddressError { text: text.to_owned() })
        }
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A node of a topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What tells it from the others.
    pub name: NodeName,
    /// Where it listens, the preferred address first.
    pub addresses: Vec<Address>,
    /// How much it takes in proportion to the others.
    pub weight: NonZeroU32,
    /// What fails together with it; empty where that is not known.
    pub zone: String,
}

/// A run of slots that the same nodes answer for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotRange {
    /// The first slot.
    pub first: Slot,
    /// The last slot, included.
    pub last: Slot,
    /// The nodes in order of preference: the owner first.
    pub owners: Vec<NodeIndex>,
}

/// Why there is no such topology. Nothing was kept of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// Epoch 0 is no topology.
    #[error("epoch 0 stands for no topology")]
    Epoch,
    /// Not 1 to [`NODES_MAX`] nodes.
    #[error("a topology has 1 to 4096 nodes, not {count}")]
    NodeCount {
        /// How many there are.
        count: usize,
    },
    /// Two nodes have one name.
    #[error("two nodes are called {name}")]
    NameTwice {
        /// The name.
        name: NodeName,
    },
    /// A node listens nowhere.
    #[error("node {name} has no address")]
    NoAddress {
        /// The node.
        name: NodeName,
    },
    /// A node has more than [`ADDRESSES_MAX`] addresses.
    #[error("node {name} has over 16 addresses")]
    TooManyAddresses {
        /// The node.
        name: NodeName,
    },
    /// The name of a node's zone is over [`ZONE_BYTES_MAX`].
    #[error("the zone of node {name} is over 255 bytes long")]
    ZoneTooLong {
        /// The node.
        name: NodeName,
    },
    /// Two nodes, or one twice, have one address.
    #[error("address {address} is given twice")]
    AddressTwice {
        /// The address.
        address: Address,
    },
    /// A range ends before it begins.
    #[error("a range of slots begins at {first:?} and ends at {last:?}")]
    Backwards {
        /// Its first slot.
        first: Slot,
        /// Its last slot.
        last: Slot,
    },
    /// Not 1 to [`OWNERS_MAX`] nodes answer for a range.
    #[error("the range at {first:?} has {count} nodes; 1 to 8 are allowed")]
    OwnerCount {
        /// Its first slot.
        first: Slot,
        /// How many there are.
        count: usize,
    },
    /// A range names a node that the list does not have.
    #[error("the range at {first:?} names node {index:?}, which does not exist")]
    NoSuchNode {
        /// Its first slot.
        first: Slot,
        /// What it names.
        index: NodeIndex,
    },
    /// A range names one node twice.
    #[error("the range at {first:?} names {name} twice")]
    OwnerTwice {
        /// Its first slot.
        first: Slot,
        /// The node.
        name: NodeName,
    },
    /// Two ranges have a slot in common.
    #[error("{slot:?} is in two ranges")]
    SlotTwice {
        /// The first such slot.
        slot: Slot,
    },
    /// A slot is in no range.
    #[error("{slot:?} is in no range")]
    SlotMissing {
        /// The first such slot.
        slot: Slot,
    },
}

/// See the module.
#[derive(Clone, PartialEq, Eq)]
pub struct Topology {
    epoch: Epoch,
    nodes: Vec<Node>,
    by_name: HashMap<NodeName, NodeIndex>,
    /// The nodes of slot `s` begin at `s * width`; unused places hold [`NOBODY`]. With three
    /// nodes a slot that is 96 KiB.
    table: Box<[NodeIndex]>,
    /// Most nodes that any slot has.
    width: usize,
}

impl Topology {
    /// Checks and builds a topology. The ranges may come in any order, and must cover every
    /// slot once.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn new(
        epoch: Epoch,
        nodes: Vec<Node>,
        ranges: &[SlotRange],
    ) -> Result<Topology, TopologyError> {
        if epoch == Epoch(0) {
            return Err(TopologyError::Epoch);
        }
        let by_name = check_nodes(&nodes)?;
        let width = ranges.iter().map(|range| range.owners.len()).max().unwrap_or(0);
        let width = width.clamp(1, OWNERS_MAX);
        let mut table = vec![NOBODY; SLOTS * width].into_boxed_slice();
        for range in ranges {
            check_range(range, &nodes)?;
            for index in range.first.index()..=range.last.index() {
                let place = &mut table[index * width..][..width];
                if place[0] != NOBODY {
                    return Err(TopologyError::SlotTwice { slot: slot_at(index) });
                }
                place[..range.owners.len()].copy_from_slice(&range.owners);
            }
        }
        if let Some(index) = (0..SLOTS).find(|index| table[index * width] == NOBODY) {
            return Err(TopologyError::SlotMissing { slot: slot_at(index) });
        }
        Ok(Topology { epoch, nodes, by_name, table, width })
    }

    /// Its number.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// All nodes; a [`NodeIndex`] is a place in this list.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One node, by an index that this topology gave out.
    ///
    /// # Panics
    /// Where the index is another topology's and out of range here.
    pub fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[index.index()]
    }

    /// The node of this name.
    pub fn find(&self, name: &NodeName) -> Option<NodeIndex> {
        self.by_name.get(name).copied()
    }

    /// The node that owns a slot.
    #[inline]
    pub fn owner(&self, slot: Slot) -> NodeIndex {
        self.table[slot.index() * self.width]
    }

    /// The nodes that answer for a slot, in order of preference: the owner, then the copies.
    /// Never empty.
    #[inline]
    pub fn owners(&self, slot: Slot) -> &[NodeIndex] {
        let place = &self.table[slot.index() * self.width..][..self.width];
        let length = place.iter().position(|index| *index == NOBODY).unwrap_or(self.width);
        &place[..length]
    }

    /// The slots that a node owns.
    pub fn owned_by(&self, node: NodeIndex) -> SlotSet {
        Slot::all().filter(|slot| self.owner(*slot) == node).collect()
    }

    /// The table as the fewest ranges, in slot order.
    pub fn ranges(&self) -> Vec<SlotRange> {
        runs(|slot| self.owners(slot))
            .into_iter()
            .map(|(first, last, owners)| SlotRange { first, last, owners: owners.to_vec() })
            .collect()
    }

    /// What is different in `new`.
    pub fn diff(&self, new: &Topology) -> TopologyDiff {
        let names = |from: &Topology, keep: &dyn Fn(&Node) -> bool| {
            from.nodes.iter().filter(|node| keep(node)).map(|node| node.name.clone()).collect()
        };
        // Indices mean different nodes on the two sides: translate the old into the new.
        let renamed: Vec<Option<NodeIndex>> =
            self.nodes.iter().map(|node| new.find(&node.name)).collect();
        let same = |slot: Slot| {
            let (old, new) = (self.owners(slot), new.owners(slot));
            old.len() == new.len()
                && old.iter().zip(new).all(|(old, new)| renamed[old.index()] == Some(*new))
        };
        let slots = runs(|slot| (self.owners(slot), new.owners(slot)))
            .into_iter()
            .filter(|(first, _, _)| !same(*first))
            .map(|(first, last, (old, new))| SlotChange {
                first,
                last,
                old: old.to_vec(),
                new: new.to_vec(),
            })
            .collect();
        TopologyDiff {
            joined: names(new, &|node| self.find(&node.name).is_none()),
            left: names(self, &|node| new.find(&node.name).is_none()),
            changed: names(new, &|node| {
                self.find(&node.name).is_some_and(|old| self.node(old) != node)
            }),
            slots,
        }
    }
}

impl fmt::Debug for Topology {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Topology")
            .field("epoch", &self.epoch)
            .field("nodes", &self.nodes)
            .field("ranges", &self.ranges().len())
            .finish_non_exhaustive()
    }
}

/// What [`Topology::diff`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopologyDiff {
    /// Nodes that only the new one has.
    pub joined: Vec<NodeName>,
    /// Nodes that only the old one has.
    pub left: Vec<NodeName>,
    /// Nodes of both whose addresses, weight or zone differ.
    pub changed: Vec<NodeName>,
    /// Slots whose nodes, or their order, differ; in slot order.
    pub slots: Vec<SlotChange>,
}

/// A run of slots whose nodes changed in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotChange {
    /// The first slot.
    pub first: Slot,
    /// The last slot, included.
    pub last: Slot,
    /// Who answered, as the old topology counts its nodes.
    pub old: Vec<NodeIndex>,
    /// Who answers, as the new topology counts its nodes.
    pub new: Vec<NodeIndex>,
}

/// The longest runs of slots of equal property.
fn runs<P: PartialEq>(property: impl Fn(Slot) -> P) -> Vec<(Slot, Slot, P)> {
    let mut runs: Vec<(Slot, Slot, P)> = Vec::new();
    for slot in Slot::all() {
        let here = property(slot);
        match runs.last_mut() {
            Some((_, last, before)) if *before == here => *last = slot,
            _ => runs.push((slot, slot, here)),
        }
    }
    runs
}

fn slot_at(index: usize) -> Slot {
    Slot::new(index as u16).expect("the table has an entry a slot")
}

fn check_nodes(nodes: &[Node]) -> Result<HashMap<NodeName, NodeIndex>, TopologyError> {
    if nodes.is_empty() || nodes.len() > NODES_MAX {
        return Err(TopologyError::NodeCount { count: nodes.len() });
    }
    let mut by_name = HashMap::with_capacity(nodes.len());
    let mut addresses = std::collections::HashSet::new();
    for (index, node) in nodes.iter().enumerate() {
        if by_name.insert(node.name.clone(), NodeIndex(index as u16)).is_some() {
            return Err(TopologyError::NameTwice { name: node.name.clone() });
        }
        if node.addresses.is_empty() {
            return Err(TopologyError::NoAddress { name: node.name.clone() });
        }
        if node.addresses.len() > ADDRESSES_MAX {
            return Err(TopologyError::TooManyAddresses { name: node.name.clone() });
        }
        if node.zone.len() > ZONE_BYTES_MAX {
            return Err(TopologyError::ZoneTooLong { name: node.name.clone() });
        }
        for address in &node.addresses {
            if !addresses.insert(address) {
                return Err(TopologyError::AddressTwice { address: address.clone() });
            }
        }
    }
    Ok(by_name)
}

fn check_range(range: &SlotRange, nodes: &[Node]) -> Result<(), TopologyError> {
    let SlotRange { first, last, ref owners } = *range;
    if first > last {
        return Err(TopologyError::Backwards { first, last });
    }
    if owners.is_empty() || owners.len() > OWNERS_MAX {
        return Err(TopologyError::OwnerCount { first, count: owners.len() });
    }
    for (place, index) in owners.iter().enumerate() {
        let node =
            nodes.get(index.index()).ok_or(TopologyError::NoSuchNode { first, index: *index })?;
        if owners[..place].contains(index) {
            return Err(TopologyError::OwnerTwice { first, name: node.name.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};

    fn node(name: &str) -> Node {
        Node {
            name: NodeName::new(name).unwrap(),
            addresses: vec![Address::new(&format!("{name}.example:7400")).unwrap()],
            weight: NonZeroU32::new(100).unwrap(),
            zone: "west".to_owned(),
        }
    }

    fn range(first: u16, last: u16, owners: &[u16]) -> SlotRange {
        SlotRange {
            first: Slot::new(first).unwrap(),
            last: Slot::new(last).unwrap(),
            owners: owners.iter().map(|index| NodeIndex(*index)).collect(),
        }
    }

    fn three_nodes(epoch: u64, ranges: &[SlotRange]) -> Result<Topology, TopologyError> {
        Topology::new(Epoch(epoch), vec![node("a"), node("b"), node("c")], ranges)
    }

    #[test]
    fn a_table_says_who_owns_what() {
        let topology =
            three_nodes(3, &[range(8_000, 16_383, &[2]), range(0, 7_999, &[1, 0])]).unwrap();
        let slot = |number| Slot::new(number).unwrap();
        assert_eq!(topology.owner(slot(0)), NodeIndex(1));
        assert_eq!(topology.owners(slot(7_999)), [NodeIndex(1), NodeIndex(0)]);
        assert_eq!(topology.owners(slot(8_000)), [NodeIndex(2)]);
        assert_eq!(topology.owned_by(NodeIndex(0)).len(), 0);
        assert_eq!(topology.owned_by(NodeIndex(1)).len(), 8_000);
        assert_eq!(topology.find(&NodeName::new("c").unwrap()), Some(NodeIndex(2)));
        assert_eq!(topology.find(&NodeName::new("d").unwrap()), None);
        assert_eq!(topology.ranges(), [range(0, 7_999, &[1, 0]), range(8_000, 16_383, &[2])]);
        let again = three_nodes(3, &topology.ranges()).unwrap();
        assert!(again == topology);
    }

    #[test]
    fn every_error_names_its_culprit() {
        let check = |ranges: &[SlotRange], error| {
            assert_eq!(three_nodes(1, ranges), Err(error));
        };
        let slot = |number| Slot::new(number).unwrap();
        check(&[], TopologyError::SlotMissing { slot: slot(0) });
        check(
            &[range(0, 9, &[0]), range(11, 16_383, &[0])],
            TopologyError::SlotMissing { slot: slot(10) },
        );
        check(
            &[range(0, 16_383, &[0]), range(5, 6, &[1])],
            TopologyError::SlotTwice { slot: slot(5) },
        );
        check(&[range(9, 8, &[0])], TopologyError::Backwards { first: slot(9), last: slot(8) });
        check(&[range(4, 8, &[])], TopologyError::OwnerCount { first: slot(4), count: 0 });
        check(&[range(4, 8, &[0; 9])], TopologyError::OwnerCount { first: slot(4), count: 9 });
        check(
            &[range(4, 8, &[3])],
            TopologyError::NoSuchNode { first: slot(4), index: NodeIndex(3) },
        );
        check(
            &[range(4, 8, &[1, 0, 1])],
            TopologyError::OwnerTwice { first: slot(4), name: NodeName::new("b").unwrap() },
        );

        let all = [range(0, 16_383, &[0])];
        let check = |epoch, nodes, error| {
            assert_eq!(Topology::new(Epoch(epoch), nodes, &all), Err(error));
        };
        let named = |name| NodeName::new(name).unwrap();
        check(0, vec![node("a")], TopologyError::Epoch);
        check(1, vec![], TopologyError::NodeCount { count: 0 });
        check(1, vec![node("a"); NODES_MAX + 1], TopologyError::NodeCount { count: NODES_MAX + 1 });
        check(1, vec![node("a"), node("a")], TopologyError::NameTwice { name: named("a") });
        let homeless = Node { addresses: vec![], ..node("b") };
        check(1, vec![node("a"), homeless], TopologyError::NoAddress { name: named("b") });
        let port = |port| Address::new(&format!("b.example:{port}")).unwrap();
        let everywhere = Node { addresses: (1..=17).map(port).collect(), ..node("b") };
        check(1, vec![everywhere], TopologyError::TooManyAddresses { name: named("b") });
        let far = Node { zone: "z".repeat(256), ..node("b") };
        check(1, vec![far], TopologyError::ZoneTooLong { name: named("b") });
        let twin = Node { addresses: node("a").addresses, ..node("b") };
        let address = node("a").addresses[0].clone();
        check(1, vec![node("a"), twin], TopologyError::AddressTwice { address });
    }

    #[test]
    fn addresses_have_one_of_three_forms() {
        for good in ["10.0.0.1:7400", "cache.example:1", "[::1]:65535", "unix:/run/corelane.sock"] {
            assert_eq!(Address::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ":1",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "host:+1",
            "::1:7400",
            "unix:",
            "a b:1",
        ] {
            assert!(Address::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_diff_compares_nodes_by_name() {
        let old = three_nodes(1, &[range(0, 99, &[0, 1]), range(100, 16_383, &[2])]).unwrap();
        assert_eq!(old.diff(&old), TopologyDiff::default());
        let moved = Node { weight: NonZeroU32::MIN, ..node("a") };
        // In the new one c is node 0, a node 1, d node 2.
        let new = Topology::new(
            Epoch(2),
            vec![node("c"), moved, node("d")],
            &[range(0, 49, &[1, 2]), range(50, 99, &[0]), range(100, 16_383, &[0])],
        )
        .unwrap();
        let diff = old.diff(&new);
        let named = |name| vec![NodeName::new(name).unwrap()];
        assert_eq!(diff.joined, named("d"));
        assert_eq!(diff.left, named("b"));
        assert_eq!(diff.changed, named("a"));
        let spans: Vec<_> =
            diff.slots.iter().map(|run| (run.first.number(), run.last.number())).collect();
        assert_eq!(spans, [(0, 49), (50, 99)]);
        assert_eq!(diff.slots[0].old, [NodeIndex(0), NodeIndex(1)]);
        assert_eq!(diff.slots[0].new, [NodeIndex(1), NodeIndex(2)]);
    }

    #[test]
    fn random_diffs_agree_with_a_comparison_slot_by_slot() {
        let mut random = StdRng::seed_from_u64(11);
        let mut make = |epoch| {
            let mut names: Vec<&str> = ["a", "b", "c", "d", "e"].to_vec();
            names.shuffle(&mut random);
            names.truncate(random.random_range(1..=5));
            let mut ranges = Vec::new();
            let mut first = 0u16;
            while first < SLOTS as u16 {
                let last = (first + random.random_range(0..2_000)).min(SLOTS as u16 - 1);
                let mut owners: Vec<u16> = (0..names.len() as u16).collect();
                owners.shuffle(&mut random);
                owners.truncate(random.random_range(1..=names.len()));
                ranges.push(range(first, last, &owners));
                first = last + 1;
            }
            ranges.shuffle(&mut random);
            Topology::new(Epoch(epoch), names.into_iter().map(node).collect(), &ranges).unwrap()
        };
        for round in 1..20 {
            let (old, new) = (make(round), make(round + 1));
            let names = |topology: &Topology, owners: &[NodeIndex]| -> Vec<NodeName> {
                owners.iter().map(|index| topology.node(*index).name.clone()).collect()
            };
            let mut changes = old.diff(&new).slots.into_iter().peekable();
            for slot in Slot::all() {
                changes.next_if(|change| change.last < slot);
                let expected = (names(&old, old.owners(slot)), names(&new, new.owners(slot)));
                match changes.peek().filter(|change| change.first <= slot) {
                    Some(change) => {
                        assert_ne!(expected.0, expected.1);
                        assert_eq!((names(&old, &change.old), names(&new, &change.new)), expected);
                    }
                    None => assert_eq!(expected.0, expected.1),
                }
            }
        }
    }
}
