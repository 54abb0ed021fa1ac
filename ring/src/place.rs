//! Placement from the list of nodes alone: whoever knows the list, in whatever order, comes
//! to the same table, and two lists that differ by a node to almost the same.
//!
//! Every node asks for the slots in an order of its own (a permutation that its name
//! decides), at the ticks of an exponential clock that runs in proportion to its weight. A slot
//! goes to the first that asks, so the asks are the virtual nodes of a ring, 16384 a node, and a
//! node that joins takes slots from all others and moves none between them. Each node asks for
//! every slot exactly once, which halves the variance of drawing points at random.
//!
//! Loads still vary, so a node has room for so many slots and no more (consistent hashing
//! with bounded loads: Mirrokni, Thorup, Zadimoghaddam 2018). What is over goes to the next
//! that asks. As the clock ranks slots for a node and nodes for a slot alike, there is one stable
//! outcome (Gale and Shapley 1962), and the order of the calculation does not matter.
//!
//! Room costs moves between nodes that stay, the tighter it is and the more nodes there are. Up to
//! 16 nodes it is the share to the slot, and grows from there to 1.10 × the share at 96.
//!
//! ```text
//! hash(name)      FNV-1a of 64 bits, then mix
//! mix(z)          z ^= z>>30; z *= 0xBF58476D1CE4E5B9; z ^= z>>27; z *= 0x94D049BB133111EB; z ^ z>>31
//! r[i]            mix(hash + (i + 1) * 0x9E3779B97F4A7C15), for i in 0, 1, 2
//! rank(slot)      three times x = (x * (r[i] | 1) + (r[i] >> 32)) mod 16384; x ^= x >> 7; from x = slot
//! clock(rank)     sum over k = 0..=rank of 2^36 / (16384 - k), each rounded down
//! ask(slot)       (clock(rank(slot)) * 2^24 / weight rounded down, mix(hash ^ slot)): least first
//! share           16384 * weight / sum of weights
//! quota           share rounded down, and one more for those with the largest rests (then hashes)
//!                 until all quotas make 16384
//! slack           min(100, max(0, nodes - 16) * 5 / 4 rounded down)
//! room            max(quota, share * (1000 + slack) / 1000 rounded down)
//! ```
//!
//! That is for owners. For each further place of a slot's nodes slack is 100, and each quota is one
//! more than the share rounded down: there balance comes second to zones anyway.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::identity::{Epoch, NodeIndex, NodeName};
use crate::slot::{SLOTS, Slot};
use crate::topology::{Node, OWNERS_MAX, SlotRange, Topology, TopologyError};

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
const ROUNDS: usize = 3;

/// When the clock of weight 1 ticks for the n-th time: what the n-th smallest of 16384
/// exponential variates is expected to be (Rényi 1953), in units of 2^-36.
static CLOCK: [u64; SLOTS] = clock();

const fn clock() -> [u64; SLOTS] {
    let mut ticks = [0; SLOTS];
    let mut sum = 0;
    let mut rank = 0;
    while rank < SLOTS {
        sum += (1u64 << 36) / (SLOTS - rank) as u64;
        ticks[rank] = sum;
        rank += 1;
    }
    ticks
}

const WEIGHT_SHIFT: u32 = 24;
// The last tick, about 10.3 units, does not overflow when it is divided by a weight.
const _: () = assert!(CLOCK[SLOTS - 1] < u64::MAX >> WEIGHT_SHIFT);

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn hash(name: &NodeName) -> u64 {
    let fnv = name.as_str().bytes().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    mix(fnv)
}

/// How early a node asks for a slot; the least is first. Nodes differ in the second number
/// where they agree in the first.
type Ask = (u64, u64);

/// A node as placement sees it.
struct Asker {
    hash: u64,
    rounds: [u64; ROUNDS],
    weight: u64,
}

impl Asker {
    fn new(node: &Node) -> Asker {
        let hash = hash(&node.name);
        let round = |index| mix(hash.wrapping_add(GOLDEN.wrapping_mul(index as u64 + 1)));
        Asker { hash, rounds: std::array::from_fn(round), weight: u64::from(node.weight.get()) }
    }

    /// The place of a slot in this node's order.
    #[inline]
    fn rank(&self, slot: Slot) -> usize {
        let mut x = u32::from(slot.number());
        for round in self.rounds {
            // Both are bijections of 14 bits: the factor is odd, the shift mixes downwards.
            x = x.wrapping_mul(round as u32 | 1).wrapping_add((round >> 32) as u32);
            x %= SLOTS as u32;
            x ^= x >> 7;
        }
        x as usize
    }

    #[inline]
    fn ask(&self, slot: Slot) -> Ask {
        let tick = (CLOCK[self.rank(slot)] << WEIGHT_SHIFT) / self.weight;
        (tick, mix(self.hash ^ u64::from(slot.number())))
    }
}

/// Up to so many nodes, each owns its share to the slot.
const EXACT_NODES_MAX: usize = 16;
/// What a node may own beyond its share, in thousandths, at the most.
const SLACK_MAX: u128 = 100;

/// How many slots each node may hold of the first place of a slot's nodes, or of a later one.
fn rooms(askers: &[Asker], place: usize) -> Vec<usize> {
    let weights: u128 = askers.iter().map(|asker| u128::from(asker.weight)).sum();
    let shared = |asker: &Asker| u128::from(asker.weight) * SLOTS as u128;
    let share = |asker: &Asker, slack| (shared(asker) * (1_000 + slack) / 1_000 / weights) as usize;
    if place > 0 {
        let room = |asker| share(asker, SLACK_MAX).max(share(asker, 0) + 1);
        return askers.iter().map(room).collect();
    }
    let mut quotas: Vec<usize> = askers.iter().map(|asker| share(asker, 0)).collect();
    let left = SLOTS - quotas.iter().sum::<usize>();
    let mut order: Vec<usize> = (0..askers.len()).collect();
    order.sort_by_key(|at| Reverse((shared(&askers[*at]) % weights, askers[*at].hash)));
    order[..left].iter().for_each(|at| quotas[*at] += 1);
    let slack = (askers.len().saturating_sub(EXACT_NODES_MAX) * 5 / 4) as u128;
    let room = |(asker, quota): (_, &usize)| share(asker, slack.min(SLACK_MAX)).max(*quota);
    askers.iter().zip(&quotas).map(room).collect()
}

/// Places every slot on `owners` nodes (fewer where there are fewer; at most
/// [`OWNERS_MAX`]), the first of which owns it.
///
/// Copies are on zones other than the slot's other nodes', as far as there are zones, and
/// each place of the order is as balanced as zones allow. Of up to 16 nodes each owns the floor or
/// ceiling of its share by weight, of more at most 1.10 × the share or the ceiling. When a node
/// joins, about its share moves to it and little between the others (under 0.15 × that); when one
/// leaves, the same the other way.
///
/// # Errors
/// What is wrong with the nodes; see [`Topology::new`].
pub fn place(epoch: Epoch, nodes: Vec<Node>, owners: usize) -> Result<Topology, TopologyError> {
    // Only the empty list is wrong here; Topology::new says it, and everything else that is.
    let places = owners.clamp(1, OWNERS_MAX).min(nodes.len());
    let mut table = vec![Vec::new(); SLOTS];
    let askers: Vec<Asker> = nodes.iter().map(Asker::new).collect();
    for place in 0..places {
        fill_place(&nodes, &askers, rooms(&askers, place), &mut table);
    }
    Topology::new(epoch, nodes, &one_range_a_slot(table))
}

/// The nodes that may take the place of a slot's owner, in turn: its further nodes, then all others in
/// the order in which they ask for the slot, those of the owner's zone last. Whoever has the topology
/// comes to the same order, and what one owner has falls to all others by weight.
pub fn successors(topology: &Topology, slot: Slot) -> Vec<NodeIndex> {
    let (nodes, owners) = (topology.nodes(), topology.owners(slot));
    let indices = (0..nodes.len()).map(|index| NodeIndex(index as u16));
    let mut others: Vec<(bool, Ask, NodeIndex)> = indices
        .filter(|index| !owners.contains(index))
        .map(|index| {
            let shares_zone = !Apart::Zones.allows(nodes, &owners[..1], index);
            (shares_zone, Asker::new(&nodes[index.index()]).ask(slot), index)
        })
        .collect();
    others.sort_unstable();
    let further = owners[1..].iter().copied();
    further.chain(others.into_iter().map(|(_, _, index)| index)).collect()
}

/// As ranges, of one slot each.
pub(crate) fn one_range_a_slot(table: Vec<Vec<NodeIndex>>) -> Vec<SlotRange> {
    Slot::all()
        .zip(table)
        .map(|(slot, owners)| SlotRange { first: slot, last: slot, owners })
        .collect()
}

/// Whether a node may hold one more copy of a slot that these hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Apart {
    /// Only in a zone of its own.
    Zones,
    /// In any zone.
    Nodes,
}

impl Apart {
    /// The strictest that some node meets.
    pub(crate) fn strictest(nodes: &[Node], holders: &[NodeIndex]) -> Apart {
        let index = |index| NodeIndex(index as u16);
        let met = (0..nodes.len()).any(|node| Apart::Zones.allows(nodes, holders, index(node)));
        if met { Apart::Zones } else { Apart::Nodes }
    }

    /// Nodes whose zone is not known share none.
    pub(crate) fn allows(self, nodes: &[Node], holders: &[NodeIndex], node: NodeIndex) -> bool {
        let zone = &nodes[node.index()].zone;
        holders.iter().all(|holder| {
            let one_zone = !zone.is_empty() && nodes[holder.index()].zone == *zone;
            *holder != node && !(self == Apart::Zones && one_zone)
        })
    }
}

/// Gives each slot one more node: slots ask round by round, and a full node keeps those that
/// it wants most. The asks of a slot grow, so this ends.
fn fill_place(nodes: &[Node], askers: &[Asker], room: Vec<usize>, table: &mut [Vec<NodeIndex>]) {
    let apart: Vec<Apart> = table.iter().map(|holders| Apart::strictest(nodes, holders)).collect();
    // What each node holds of this place, its least wanted slot first.
    let mut held: Vec<BinaryHeap<(Ask, Slot)>> = askers.iter().map(|_| BinaryHeap::new()).collect();
    let eligible = |slot: Slot| {
        let (holders, apart) = (&table[slot.index()], apart[slot.index()]);
        let allowed = move |index: &usize| apart.allows(nodes, holders, NodeIndex(*index as u16));
        (0..askers.len()).filter(allowed).map(move |index| (askers[index].ask(slot), index))
    };
    let mut over = Vec::new();
    for first in Slot::all() {
        let (mut slot, mut after) = (first, None);
        loop {
            let next = eligible(slot).filter(|(ask, _)| after.is_none_or(|after| *ask > after));
            let Some((ask, index)) = next.min() else {
                // Every node that may hold it is full of slots that it wants more. That only
                // happens to copies, where zones differ in size: balance comes second.
                over.push(slot);
                break;
            };
            after = Some(ask);
            if held[index].len() < room[index] {
                held[index].push((ask, slot));
                break;
            }
            // With no room at all it holds nothing that it could give up.
            if let Some(mut worst) = held[index].peek_mut()
                && ask < worst.0
            {
                let (given_up, displaced) = std::mem::replace(&mut *worst, (ask, slot));
                (slot, after) = (displaced, Some(given_up));
            }
        }
    }
    for slot in over {
        let (ask, index) = eligible(slot).min().expect("there are as many nodes as places");
        held[index].push((ask, slot));
    }
    for (index, slots) in held.into_iter().enumerate() {
        for (_, slot) in slots {
            table[slot.index()].push(NodeIndex(index as u16));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
    use std::num::NonZeroU32;

    fn node(name: &str, weight: u32, zone: &str) -> Node {
        Node {
            name: NodeName::new(name).unwrap(),
            addresses: vec![crate::Address::new(&format!("{name}:7400")).unwrap()],
            weight: NonZeroU32::new(weight).unwrap(),
            zone: zone.to_owned(),
        }
    }

    #[test]
    fn every_node_asks_for_every_slot_once() {
        for name in ["a", "cache-1", "cache-2"] {
            let asker = Asker::new(&node(name, 1, ""));
            let mut seen = vec![false; SLOTS];
            for slot in Slot::all() {
                assert!(!std::mem::replace(&mut seen[asker.rank(slot)], true), "{name} {slot:?}");
            }
        }
    }

    /// The definition, with no regard for time: all asks in order; a slot that is free goes to
    /// a node that has room.
    fn reference(nodes: &[Node]) -> Vec<NodeIndex> {
        let askers: Vec<Asker> = nodes.iter().map(Asker::new).collect();
        let mut room = rooms(&askers, 0);
        let mut asks: Vec<(Ask, Slot, usize)> = Vec::new();
        for (index, asker) in askers.iter().enumerate() {
            asks.extend(Slot::all().map(|slot| (asker.ask(slot), slot, index)));
        }
        asks.sort_unstable();
        let mut owners = vec![None; SLOTS];
        for (_, slot, index) in asks {
            if room[index] > 0 && owners[slot.index()].is_none() {
                owners[slot.index()] = Some(NodeIndex(index as u16));
                room[index] -= 1;
            }
        }
        owners.into_iter().map(|owner| owner.expect("there is room for all")).collect()
    }

    #[test]
    fn it_is_the_stable_outcome_whatever_the_order_of_nodes() {
        let mut random = StdRng::seed_from_u64(21);
        for count in [1, 2, 3, 7, 30, 90] {
            let mut nodes: Vec<Node> = (0..count)
                .map(|number| node(&format!("n{number}"), random.random_range(1..200), ""))
                .collect();
            let expected = reference(&nodes);
            let names: Vec<_> = expected.iter().map(|at| nodes[at.index()].name.clone()).collect();
            nodes.shuffle(&mut random);
            let placed = place(Epoch(1), nodes, 1).unwrap();
            for slot in Slot::all() {
                assert_eq!(placed.node(placed.owner(slot)).name, names[slot.index()], "{slot:?}");
            }
        }
    }

    #[test]
    fn copies_are_on_zones_of_their_own_and_spread() {
        let mut random = StdRng::seed_from_u64(22);
        for zones in 2..=4 {
            let nodes: Vec<Node> = (0..4 * zones)
                .map(|number| {
                    let zone = format!("zone-{}", number % zones);
                    node(&format!("n{number}"), random.random_range(80..120), &zone)
                })
                .collect();
            let placed = place(Epoch(1), nodes.clone(), 3).unwrap();
            let mut copies = vec![0usize; nodes.len()];
            for slot in Slot::all() {
                let owners = placed.owners(slot);
                assert_eq!(owners.len(), 3);
                let mut distinct: Vec<&str> =
                    owners.iter().map(|index| placed.node(*index).zone.as_str()).collect();
                distinct.sort_unstable();
                distinct.dedup();
                assert_eq!(distinct.len(), zones.min(3), "{slot:?}");
                owners[1..].iter().for_each(|index| copies[index.index()] += 1);
            }
            let weights: u32 = nodes.iter().map(|node| node.weight.get()).sum();
            for (node, copies) in nodes.iter().zip(copies) {
                let share = 2.0 * SLOTS as f64 * f64::from(node.weight.get()) / f64::from(weights);
                let ratio = copies as f64 / share;
                assert!((0.6..1.4).contains(&ratio), "{} holds {ratio} of its share", node.name);
            }
        }
    }

    #[test]
    fn successors_are_further_nodes_then_other_zones_then_the_owners_own() {
        let zone = |number: usize| ["west", "east", ""][number % 3];
        let mut nodes: Vec<Node> =
            (0..9).map(|number| node(&format!("n{number}"), 1, zone(number))).collect();
        let names = |topology: &Topology, slot| -> Vec<NodeName> {
            let next = successors(topology, slot);
            next.into_iter().map(|index| topology.node(index).name.clone()).collect()
        };
        let placed = place(Epoch(1), nodes.clone(), 2).unwrap();
        for slot in Slot::all() {
            let (owners, next) = (placed.owners(slot), successors(&placed, slot));
            assert_eq!((next[0], next.len()), (owners[1], nodes.len() - 1));
            assert!(!next.contains(&owners[0]));
            let zone = |index: &NodeIndex| &placed.node(*index).zone;
            if !zone(&owners[0]).is_empty() {
                let last = next.iter().rev().take_while(|index| zone(index) == zone(&owners[0]));
                assert_eq!(last.count(), 2, "the owner's zone is the last");
            }
        }
        nodes.reverse();
        let same = place(Epoch(2), nodes, 2).unwrap();
        assert!(Slot::all().all(|slot| names(&placed, slot) == names(&same, slot)));
    }

    #[test]
    fn what_a_node_owns_falls_to_all_others_by_weight() {
        let nodes = (1..=5).map(|weight| node(&format!("n{weight}"), weight, "")).collect();
        let placed = place(Epoch(1), nodes, 1).unwrap();
        let owned = placed.owned_by(NodeIndex(4));
        let mut first = [0usize; 4];
        owned.iter().for_each(|slot| first[successors(&placed, slot)[0].index()] += 1);
        for (weight, count) in (1..).zip(first) {
            let ratio = count as f64 * 10.0 / (owned.len() * weight) as f64;
            assert!((0.9..1.1).contains(&ratio), "weight {weight}: {ratio} of its share");
        }
    }

    #[test]
    fn there_are_never_more_owners_than_nodes() {
        let nodes = vec![node("a", 1, "west"), node("b", 1, "west")];
        let placed = place(Epoch(1), nodes, 5).unwrap();
        assert!(Slot::all().all(|slot| placed.owners(slot).len() == 2));
        assert_eq!(place(Epoch(1), vec![], 3), Err(TopologyError::NodeCount { count: 0 }));
    }
}
