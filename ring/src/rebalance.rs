//! The next table from the one in force and one change to its nodes, moving as little as the
//! balance allows. Unlike [`crate::place()`] it needs to know the past, and in return balances to
//! the slot.

use std::cmp::Reverse;

use crate::identity::{Epoch, NodeIndex, NodeName};
use crate::place::{Apart, one_range_a_slot};
use crate::slot::{SLOTS, Slot};
use crate::topology::{Node, OWNERS_MAX, Topology, TopologyError};

/// What happens to the nodes of a topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node that is not in the list comes.
    Join(Node),
    /// A node goes.
    Leave(NodeName),
    /// A node stays, with other addresses, weight or zone.
    Update(Node),
}

/// Why a change is not possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// A node joins that is there.
    #[error("node {name} is in the topology already")]
    AlreadyThere {
        /// The node.
        name: NodeName,
    },
    /// A node leaves or is updated that is not there.
    #[error("node {name} is not in the topology")]
    NotThere {
        /// The node.
        name: NodeName,
    },
    /// The highest epoch is in force.
    #[error("there is no higher epoch")]
    LastEpoch,
    /// The result would not be a topology.
    #[error(transparent)]
    Topology(#[from] TopologyError),
}

/// Applies one change, and gives the table the next epoch.
///
/// Every node then owns the floor or the ceiling of its share by weight. A join moves as many
/// slots as the newcomer is due; when a node leaves, its slots alone move, to all the others,
/// and where a copy of a slot may become its owner it does. (With unequal weights a node that is
/// a slot over its new share when another leaves keeps it.) Each slot gets `owners` nodes, or as
/// many as there are; copies follow the same rules as far as zones allow, and a node that gives a
/// slot away goes on as a copy of it.
///
/// # Errors
/// The change contradicts the table, or leaves nothing of it.
pub fn rebalance(table: &Topology, change: Change, owners: usize) -> Result<Topology, ChangeError> {
    let mut nodes = table.nodes().to_vec();
    let mut renumbered: Vec<Option<NodeIndex>> =
        (0..nodes.len()).map(|index| Some(NodeIndex(index as u16))).collect();
    let mut leaves = false;
    match change {
        Change::Join(node) if table.find(&node.name).is_some() => {
            return Err(ChangeError::AlreadyThere { name: node.name });
        }
        Change::Join(node) => nodes.push(node),
        Change::Leave(name) => {
            let gone = table.find(&name).ok_or(ChangeError::NotThere { name })?;
            nodes.remove(gone.index());
            renumbered[gone.index()] = None;
            for later in renumbered[gone.index() + 1..].iter_mut().flatten() {
                later.0 -= 1;
            }
            leaves = true;
        }
        Change::Update(node) => {
            let Some(index) = table.find(&node.name) else {
                return Err(ChangeError::NotThere { name: node.name });
            };
            nodes[index.index()] = node;
        }
    }
    let epoch = Epoch(table.epoch().0.checked_add(1).ok_or(ChangeError::LastEpoch)?);
    if nodes.is_empty() {
        return Err(TopologyError::NodeCount { count: 0 }.into());
    }
    let mut holders: Vec<Vec<NodeIndex>> = Slot::all()
        .map(|slot| table.owners(slot).iter().filter_map(|at| renumbered[at.index()]).collect())
        .collect();
    let kept: Vec<Option<NodeIndex>> =
        Slot::all().map(|slot| renumbered[table.owner(slot).index()]).collect();
    let owner_of = settle_owners(&nodes, kept, &holders, leaves);
    for (holders, owner) in holders.iter_mut().zip(owner_of) {
        holders.retain(|holder| *holder != owner);
        holders.insert(0, owner);
    }
    settle_copies(&nodes, &mut holders, owners.clamp(1, OWNERS_MAX).min(nodes.len()));
    Ok(Topology::new(epoch, nodes, &one_range_a_slot(holders))?)
}

/// How much each node holds of something that is shared out by weight.
struct Shares {
    weights: Vec<i128>,
    weight: i128,
    total: i128,
    held: Vec<i128>,
}

impl Shares {
    fn new(nodes: &[Node], total: usize) -> Shares {
        let weights: Vec<i128> = nodes.iter().map(|node| i128::from(node.weight.get())).collect();
        let weight = weights.iter().sum();
        Shares { held: vec![0; weights.len()], weights, weight, total: total as i128 }
    }

    /// By how much a node holds less than its share, in parts of the sum of weights; negative
    /// where it holds more.
    fn lack(&self, node: usize) -> i128 {
        self.total * self.weights[node] - self.held[node] * self.weight
    }

    /// What each is to hold: the floor of its share, and one more for as many as that leaves
    /// something for. That is first those who hold it, since taking it away would be a move.
    fn quotas(&self) -> Vec<i128> {
        let share = |node: &usize| self.total * self.weights[*node];
        let mut quotas: Vec<i128> =
            (0..self.weights.len()).map(|node| share(&node) / self.weight).collect();
        let left = self.total - quotas.iter().sum::<i128>();
        let mut order: Vec<usize> = (0..quotas.len()).collect();
        order.sort_by_key(|node| {
            let holds_more = self.held[*node] > quotas[*node];
            (Reverse(holds_more), Reverse(share(node) % self.weight), *node)
        });
        order[..left as usize].iter().for_each(|node| quotas[*node] += 1);
        quotas
    }
}

/// Who owns each slot: those who did, as far as their share goes; then those who lack most.
fn settle_owners(
    nodes: &[Node],
    mut owner_of: Vec<Option<NodeIndex>>,
    holders: &[Vec<NodeIndex>],
    leaves: bool,
) -> Vec<NodeIndex> {
    let mut shares = Shares::new(nodes, SLOTS);
    owner_of.iter().flatten().for_each(|owner| shares.held[owner.index()] += 1);
    let mut quotas = shares.quotas();
    for (node, (quota, held)) in quotas.iter_mut().zip(&mut shares.held).enumerate() {
        if leaves {
            *quota = (*quota).max(*held);
        }
        let surplus = (*held - *quota).max(0);
        let node = Some(NodeIndex(node as u16));
        let its_slots = owner_of.iter_mut().filter(|owner| **owner == node);
        for (rank, owner) in (0..).zip(its_slots) {
            // Evenly from all its slots in order, so that each of its cores gives its part.
            if (rank + 1) * surplus / *held > rank * surplus / *held {
                *owner = None;
            }
        }
        *held -= surplus;
    }
    let mut take = |candidates: &mut dyn Iterator<Item = usize>| {
        let open = candidates.filter(|node| shares.held[*node] < quotas[*node]);
        let node = open.max_by_key(|node| (shares.lack(*node), Reverse(*node)))?;
        shares.held[node] += 1;
        Some(NodeIndex(node as u16))
    };
    owner_of
        .into_iter()
        .zip(holders)
        .map(|(owner, holders)| {
            // When an owner left, a copy has the data; one that gave a slot away wants it no more.
            let copies = &mut holders.iter().map(|holder| holder.index());
            owner
                .or_else(|| take(copies))
                .or_else(|| take(&mut (0..nodes.len())))
                .expect("the quotas leave nothing over")
        })
        .collect()
}

/// Brings every slot to so many nodes, its owner staying first.
fn settle_copies(nodes: &[Node], holders: &mut [Vec<NodeIndex>], owners: usize) {
    let mut shares = Shares::new(nodes, SLOTS * (owners - 1));
    for holders in holders.iter_mut() {
        let before = std::mem::take(holders);
        for holder in before {
            let apart = Apart::strictest(nodes, holders);
            if holders.len() < owners && apart.allows(nodes, holders, holder) {
                shares.held[holder.index()] += i128::from(!holders.is_empty());
                holders.push(holder);
            }
        }
    }
    let most_lacking = |shares: &Shares, holders: &[NodeIndex]| {
        let apart = Apart::strictest(nodes, holders);
        (0..nodes.len())
            .filter(|node| apart.allows(nodes, holders, NodeIndex(*node as u16)))
            .max_by_key(|node| (shares.lack(*node), Reverse(*node)))
    };
    for holders in holders.iter_mut() {
        while holders.len() < owners {
            let node = most_lacking(&shares, holders).expect("there are as many nodes as owners");
            shares.held[node] += 1;
            holders.push(NodeIndex(node as u16));
        }
    }
    // Copies move where one node has a whole one too many and another one too few.
    for holders in holders.iter_mut() {
        for place in 1..owners {
            let from = holders[place].index();
            if shares.lack(from) > -shares.weight {
                continue;
            }
            let holder = holders.remove(place);
            let to = most_lacking(&shares, holders).filter(|to| shares.lack(*to) > 0);
            if let Some(to) = to {
                shares.held[from] -= 1;
                shares.held[to] += 1;
            }
            holders.insert(place, to.map_or(holder, |to| NodeIndex(to as u16)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place;
    use rand::{RngExt, SeedableRng, rngs::StdRng};
    use std::num::NonZeroU32;

    fn node(name: &str, weight: u32, zone: &str) -> Node {
        Node {
            name: NodeName::new(name).unwrap(),
            addresses: vec![crate::Address::new(&format!("{name}:7400")).unwrap()],
            weight: NonZeroU32::new(weight).unwrap(),
            zone: zone.to_owned(),
        }
    }

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    #[test]
    fn changes_that_contradict_the_table_are_refused() {
        let table = place(Epoch(7), vec![node("a", 1, "")], 1).unwrap();
        let check = |change, error| assert_eq!(rebalance(&table, change, 1), Err(error));
        check(Change::Join(node("a", 1, "")), ChangeError::AlreadyThere { name: name("a") });
        check(Change::Leave(name("b")), ChangeError::NotThere { name: name("b") });
        check(Change::Update(node("b", 1, "")), ChangeError::NotThere { name: name("b") });
        check(Change::Leave(name("a")), TopologyError::NodeCount { count: 0 }.into());
        let last = place(Epoch(u64::MAX), vec![node("a", 1, "")], 1).unwrap();
        let refused = rebalance(&last, Change::Join(node("b", 1, "")), 1);
        assert_eq!(refused, Err(ChangeError::LastEpoch));
    }

    #[test]
    fn random_changes_keep_balance_zones_and_copies() {
        for seed in 0..6 {
            let mut random = StdRng::seed_from_u64(seed);
            let zone = |number: usize| format!("zone-{}", number % 3);
            let first = (0..6).map(|number| node(&format!("n{number}"), 100, &zone(number)));
            let mut table = place(Epoch(1), first.collect(), 2).unwrap();
            for number in 6..26 {
                let random_node =
                    table.nodes()[random.random_range(0..table.nodes().len())].clone();
                let change = match random.random_range(0..4) {
                    0 if table.nodes().len() > 4 => Change::Leave(random_node.name),
                    1 => Change::Update(Node {
                        weight: NonZeroU32::new(random.random_range(70..140)).unwrap(),
                        ..random_node
                    }),
                    _ => Change::Join(node(
                        &format!("n{number}"),
                        random.random_range(70..140),
                        &zone(number),
                    )),
                };
                let next = rebalance(&table, change.clone(), 2).unwrap();
                assert_eq!(next.epoch().0, table.epoch().0 + 1);
                let weights: u32 = next.nodes().iter().map(|node| node.weight.get()).sum();
                for (index, node) in (0..).map(NodeIndex).zip(next.nodes()) {
                    let owned = next.owned_by(index).len() as f64;
                    let share = SLOTS as f64 * f64::from(node.weight.get()) / f64::from(weights);
                    assert!((owned - share).abs() < 1.0 + 1e-9, "{change:?}: {owned} of {share}");
                }
                for slot in Slot::all() {
                    let [owner, copy] = next.owners(slot) else { panic!("two nodes a slot") };
                    assert_ne!(next.node(*owner).zone, next.node(*copy).zone, "{slot:?}");
                }
                table = next;
            }
        }
    }

    #[test]
    fn copies_follow_the_number_of_owners_and_become_owners() {
        let nodes = (0..5).map(|number| node(&format!("n{number}"), 1, ""));
        let table = place(Epoch(1), nodes.collect(), 2).unwrap();
        let three = rebalance(&table, Change::Join(node("n5", 1, "")), 3).unwrap();
        assert!(Slot::all().all(|slot| three.owners(slot).len() == 3));
        let without = rebalance(&three, Change::Leave(name("n1")), 3).unwrap();
        let gone = three.find(&name("n1")).unwrap();
        let promoted = Slot::all().filter(|slot| three.owner(*slot) == gone).filter(|slot| {
            let owner = &without.node(without.owner(*slot)).name;
            three.owners(*slot).contains(&three.find(owner).unwrap())
        });
        let left = three.owned_by(gone).len();
        let share = promoted.count() as f64 / left as f64;
        assert!(share > 0.9, "only {share} of {left} slots went to a node that has their copy");
    }
}
