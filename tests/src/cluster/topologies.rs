//! Topologies that follow each other. Their slots are placed in blocks, which are cheap to handle;
//! where slots lie says nothing about what happens to them.

use std::num::NonZeroU32;
use std::sync::Arc;

use corelane_ring::{Address, Epoch, Node, NodeIndex, NodeName, SLOTS, Slot, SlotRange, Topology};
use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

/// Nodes that there may be.
pub(super) const NODES_MAX: usize = 4;
/// Blocks of slots, each of which has one owner.
const BLOCKS: usize = 32;
/// The share of blocks that a change moves beyond those that have to, in percent.
const MOVED_PERCENT: u32 = 15;

/// See the module.
pub(super) struct Topologies {
    epoch: u64,
    /// Who takes part, by number.
    members: Vec<usize>,
    /// The nodes of each block in order, by number.
    blocks: Vec<Vec<usize>>,
    /// Nodes a slot.
    owners: usize,
}

impl Topologies {
    pub(super) fn new(random: &mut SmallRng) -> Topologies {
        let epoch = random.random_range(1..1 << 20);
        let members = (0..random.random_range(2..NODES_MAX)).collect();
        let (blocks, owners) = (vec![Vec::new(); BLOCKS], random.random_range(1..=2));
        let mut topologies = Topologies { epoch, members, blocks, owners };
        topologies.settle(random);
        topologies
    }

    /// The one in force.
    pub(super) fn current(&self) -> Arc<Topology> {
        let node = |number: &usize| Node {
            name: name(*number),
            addresses: vec![Address::new(&format!("n{number}:7400")).expect("an address")],
            weight: NonZeroU32::MIN,
            zone: String::new(),
        };
        let index = |number: &usize| {
            let at = self.members.iter().position(|member| member == number);
            NodeIndex(at.expect("blocks have members") as u16)
        };
        let slot = |number| Slot::new(number as u16).expect("one of a block");
        let range = |(at, nodes): (usize, &Vec<usize>)| SlotRange {
            first: slot(at * SLOTS / BLOCKS),
            last: slot((at + 1) * SLOTS / BLOCKS - 1),
            owners: nodes.iter().map(index).collect(),
        };
        let ranges: Vec<SlotRange> = self.blocks.iter().enumerate().map(range).collect();
        let nodes = self.members.iter().map(node).collect();
        Arc::new(Topology::new(Epoch(self.epoch), nodes, &ranges).expect("it is made of parts"))
    }

    /// The next: a node comes or goes, or slots move between those that are there.
    pub(super) fn change(&mut self, random: &mut SmallRng) -> Arc<Topology> {
        self.epoch += 1;
        let at = random.random_range(0..NODES_MAX);
        match self.members.iter().position(|member| *member == at) {
            None => self.members.push(at),
            Some(place) if self.members.len() > 1 && random.random_bool(0.6) => {
                self.members.remove(place);
            }
            Some(_) => {}
        }
        self.settle(random);
        self.current()
    }

    /// Moves blocks from who has left, and some others; whoever comes gets some of these.
    fn settle(&mut self, random: &mut SmallRng) {
        for block in &mut self.blocks {
            let stays = block.first().is_some_and(|owner| self.members.contains(owner));
            if stays && !random.random_ratio(MOVED_PERCENT, 100) {
                block.retain(|member| self.members.contains(member));
                continue;
            }
            let mut nodes = self.members.clone();
            nodes.shuffle(random);
            nodes.truncate(self.owners);
            *block = nodes;
        }
    }
}

pub(super) fn name(number: usize) -> NodeName {
    NodeName::new(&format!("n{number}")).expect("a short name")
}
