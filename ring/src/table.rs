//! A topology as bytes, as the protocol's topology reply carries it. protocol/SPEC.md has the
//! byte table.
//!
//! Slots are written as runs, since a table by ranges is then a few hundred bytes, and one by
//! placement still about 2 bytes a slot.

use std::num::NonZeroU32;

use crate::identity::{Epoch, NodeIndex, NodeName, NodeNameError};
use crate::slot::{SLOTS, Slot};
use crate::topology::{Address, AddressError, Node, SlotRange, Topology, TopologyError};

/// Bytes before the first node: epoch (8), number of nodes (2), nodes a slot (1), reserved (1).
const FIXED_BYTES: usize = 8 + 2 + 1 + 1;
/// Bytes of a node before its name: weight (4), addresses (1), length of the name (1), of the
/// zone (1), reserved (1).
const NODE_BYTES: usize = 4 + 1 + 1 + 1 + 1;
/// Slots of one run.
const RUN_MAX: usize = 256;
/// Up to so many nodes an index is one byte.
const SHORT_INDEX_NODES_MAX: usize = 255;
const _: () = assert!(FIXED_BYTES == 12 && NODE_BYTES == 8);

/// Why bytes are not a topology.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// They end too early.
    #[error("the topology is cut short")]
    Truncated,
    /// A run goes on after the last slot.
    #[error("the topology has more slots than there are")]
    TooManySlots,
    /// A node has weight 0.
    #[error("a node has no weight")]
    Weight,
    /// A name, zone or address is not UTF-8.
    #[error("a name, zone or address is no text")]
    Text,
    /// A name is none.
    #[error(transparent)]
    Name(#[from] NodeNameError),
    /// An address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The parts do not make a topology.
    #[error(transparent)]
    Topology(#[from] TopologyError),
}

impl Topology {
    /// Appends the topology in the form of the protocol's topology reply.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let nodes = self.nodes();
        let width = Slot::all().map(|slot| self.owners(slot).len()).max().unwrap_or(1);
        out.extend_from_slice(&self.epoch().0.to_le_bytes());
        // Topology::new bounds all these numbers.
        out.extend_from_slice(&(nodes.len() as u16).to_le_bytes());
        out.extend_from_slice(&[width as u8, 0]);
        for node in nodes {
            let name = node.name.as_str();
            out.extend_from_slice(&node.weight.get().to_le_bytes());
            let lengths = [node.addresses.len(), name.len(), node.zone.len(), 0];
            out.extend(lengths.map(|length| length as u8));
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(node.zone.as_bytes());
            for address in &node.addresses {
                out.push(address.as_str().len() as u8);
                out.extend_from_slice(address.as_str().as_bytes());
            }
        }
        let index_bytes = index_bytes(nodes.len());
        let mut slots = Slot::all().peekable();
        while let Some(first) = slots.next() {
            let owners = self.owners(first);
            let mut more = 0;
            while more + 1 < RUN_MAX && slots.next_if(|slot| self.owners(*slot) == owners).is_some()
            {
                more += 1;
            }
            out.push(more as u8);
            for place in 0..width {
                let index = owners.get(place).map_or(u16::MAX, |index| index.0);
                out.extend_from_slice(&index.to_le_bytes()[..index_bytes]);
            }
        }
    }

    /// The topology whose bytes these are. What follows them is skipped, as later versions may
    /// add to it.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Topology, TableError> {
        let mut rest = bytes;
        let epoch = Epoch(u64::from_le_bytes(take(&mut rest)?));
        let count = usize::from(u16::from_le_bytes(take(&mut rest)?));
        let [width, _] = take(&mut rest)?;
        let mut nodes = Vec::new();
        for _ in 0..count {
            let weight = u32::from_le_bytes(take(&mut rest)?);
            let [addresses, name, zone, _] = take(&mut rest)?;
            nodes.push(Node {
                name: NodeName::new(text(&mut rest, name)?)?,
                zone: text(&mut rest, zone)?.to_owned(),
                weight: NonZeroU32::new(weight).ok_or(TableError::Weight)?,
                addresses: (0..addresses)
                    .map(|_| {
                        let [length] = take(&mut rest)?;
                        Ok(Address::new(text(&mut rest, length)?)?)
                    })
                    .collect::<Result<_, TableError>>()?,
            });
        }
        let index_bytes = index_bytes(count);
        let (mut ranges, mut first) = (Vec::new(), 0);
        while first < SLOTS {
            let [more] = take(&mut rest)?;
            let last = first + usize::from(more);
            let places = rest.split_off(..usize::from(width) * index_bytes);
            let owners = places.ok_or(TableError::Truncated)?.chunks(index_bytes);
            let owners = owners.map(|index| match index {
                [short] if *short != u8::MAX => u16::from(*short),
                [low, high] => u16::from_le_bytes([*low, *high]),
                _ => u16::MAX,
            });
            ranges.push(SlotRange {
                first: slot(first)?,
                last: slot(last)?,
                owners: owners.filter(|index| *index != u16::MAX).map(NodeIndex).collect(),
            });
            first = last + 1;
        }
        Ok(Topology::new(epoch, nodes, &ranges)?)
    }
}

const fn index_bytes(nodes: usize) -> usize {
    if nodes <= SHORT_INDEX_NODES_MAX { 1 } else { 2 }
}

fn slot(number: usize) -> Result<Slot, TableError> {
    u16::try_from(number).ok().and_then(Slot::new).ok_or(TableError::TooManySlots)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], TableError> {
    let (taken, after) = rest.split_first_chunk::<N>().ok_or(TableError::Truncated)?;
    *rest = after;
    Ok(*taken)
}

fn text<'a>(rest: &mut &'a [u8], length: u8) -> Result<&'a str, TableError> {
    let bytes = rest.split_off(..usize::from(length)).ok_or(TableError::Truncated)?;
    std::str::from_utf8(bytes).map_err(|_| TableError::Text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    fn node(number: usize) -> Node {
        let addresses = ["10.0.0.1", "cache.example"][..1 + number % 2].iter();
        Node {
            name: NodeName::new(&format!("node-{number}")).unwrap(),
            addresses: addresses
                .map(|host| Address::new(&format!("{host}:{}", 7_000 + number)).unwrap())
                .collect(),
            weight: NonZeroU32::new(1 + number as u32 * 77).unwrap(),
            zone: ["", "west"][number % 2].to_owned(),
        }
    }

    fn encoded(topology: &Topology) -> Vec<u8> {
        let mut bytes = Vec::new();
        topology.encode(&mut bytes);
        bytes
    }

    #[test]
    fn topologies_survive_the_way_to_bytes_and_back() {
        for (nodes, owners) in [(1, 1), (3, 2), (20, 3), (255, 1), (256, 2)] {
            let list = (0..nodes).map(node).collect();
            let topology = place(Epoch(1 << 40 | nodes as u64), list, owners).unwrap();
            let mut bytes = encoded(&topology);
            assert!(Topology::decode(&bytes).unwrap() == topology, "{nodes} nodes");
            bytes.extend_from_slice(b"of a later version");
            assert!(Topology::decode(&bytes).unwrap() == topology, "{nodes} nodes");
        }
    }

    #[test]
    fn uneven_numbers_of_owners_survive_too() {
        let ranges =
            [(0, 999, vec![0, 1]), (1_000, 16_383, vec![2])].map(|(first, last, owners)| {
                SlotRange {
                    first: Slot::new(first).unwrap(),
                    last: Slot::new(last).unwrap(),
                    owners: owners.into_iter().map(NodeIndex).collect(),
                }
            });
        let topology = Topology::new(Epoch(9), (0..3).map(node).collect(), &ranges).unwrap();
        let bytes = encoded(&topology);
        assert!(Topology::decode(&bytes).unwrap() == topology);
        assert!(bytes.len() < 400, "ranges take {} bytes", bytes.len());
    }

    #[test]
    fn bytes_that_are_cut_or_changed_never_panic() {
        let mut random = StdRng::seed_from_u64(5);
        let topology = place(Epoch(7), (0..5).map(node).collect(), 2).unwrap();
        let whole = encoded(&topology);
        for cut in (0..whole.len()).step_by(211).chain(0..200) {
            assert_eq!(Topology::decode(&whole[..cut]), Err(TableError::Truncated), "{cut}");
        }
        for _ in 0..1_000 {
            let mut bytes = whole.clone();
            for _ in 0..random.random_range(1..4) {
                // Mostly in the head, where the structure is.
                let end = if random.random_bool(0.8) { 200 } else { bytes.len() };
                bytes[random.random_range(0..end)] = random.random();
            }
            if let Ok(topology) = Topology::decode(&bytes) {
                assert!(Topology::decode(&encoded(&topology)).unwrap() == topology);
            }
        }
    }
}
