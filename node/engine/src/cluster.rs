//! The cluster as one node sees it: made once for each topology, and shared by all its cores.

use corelane_dialect::{ClusterFacts, ClusterNode};
use corelane_protocol::limits::TOPOLOGY_BYTES_MAX;
use corelane_protocol::{Redirect, Redirection, ShortEpoch, Welcome};
use corelane_ring::{Core, CoreMap, NodeIndex, NodeName, Slot, SlotSet, Topology};

/// See the module.
#[derive(Debug)]
pub struct ClusterView {
    topology: Topology,
    /// The node's own place in the topology, where it has one.
    own: Option<NodeIndex>,
    cores: CoreMap,
    /// The topology before, where this one follows it without a gap.
    before: Option<Before>,
    /// The topology as it is sent.
    table: Vec<u8>,
    /// The core map as a welcome carries it.
    core_ranges: Vec<u8>,
    /// The nodes as dialects tell of them.
    shown: Vec<ClusterNode>,
}

/// What was in force before.
#[derive(Debug)]
struct Before {
    topology: Topology,
    own: Option<NodeIndex>,
    cores: CoreMap,
    /// For how long slots that left are kept, and slots that came are warmed, in milliseconds.
    warm_up_ms: u64,
}

/// A topology is longer than clients take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the topology takes {bytes} bytes, over the 1048576 that clients take")]
pub struct TopologyTooLong {
    /// Its length.
    pub bytes: usize,
}

impl ClusterView {
    /// The view of a node that has no data yet.
    ///
    /// # Errors
    /// [`TopologyTooLong`]
    ///
    /// # Panics
    /// There are no cores, or more than there are slots.
    pub fn first(
        cores: u16,
        topology: Topology,
        name: &NodeName,
    ) -> Result<ClusterView, TopologyTooLong> {
        let own = topology.find(name);
        let map = CoreMap::by_rank(cores, &owned(&topology, own))
            .expect("a node has between 1 and 16384 cores");
        ClusterView::new(topology, own, map)
    }

    /// The view of a node whose cores had these slots until now: those that stay with the
    /// node stay where they are.
    ///
    /// # Errors
    /// [`TopologyTooLong`]
    pub fn after(
        cores: &CoreMap,
        topology: Topology,
        name: &NodeName,
    ) -> Result<ClusterView, TopologyTooLong> {
        let own = topology.find(name);
        let map = cores.reassign(&owned(&topology, own));
        ClusterView::new(topology, own, map)
    }

    /// The view that comes after another. Where its epoch is the next one, slots that leave the
    /// node are kept for a while, and those that come are warmed from where they were. (With a gap
    /// between the epochs nodes and clients might have different ones before, and disagree on where
    /// a slot was.)
    ///
    /// # Errors
    /// [`TopologyTooLong`]
    pub fn following(
        before: &ClusterView,
        topology: Topology,
        name: &NodeName,
        warm_up_ms: u64,
    ) -> Result<ClusterView, TopologyTooLong> {
        let is_next = before.topology.epoch().0.checked_add(1) == Some(topology.epoch().0);
        let view = ClusterView::after(&before.cores, topology, name)?;
        let kept = (is_next && warm_up_ms > 0).then(|| Before {
            topology: before.topology.clone(),
            own: before.own,
            cores: before.cores.clone(),
            warm_up_ms,
        });
        Ok(ClusterView { before: kept, ..view })
    }

    fn new(
        topology: Topology,
        own: Option<NodeIndex>,
        cores: CoreMap,
    ) -> Result<ClusterView, TopologyTooLong> {
        let mut table = Vec::new();
        topology.encode(&mut table);
        if table.len() > TOPOLOGY_BYTES_MAX {
            return Err(TopologyTooLong { bytes: table.len() });
        }
        let mut core_ranges = Vec::new();
        Welcome::encode_ranges(cores.ranges(), &mut core_ranges);
        let shown = shown(&topology);
        Ok(ClusterView { topology, own, cores, before: None, table, core_ranges, shown })
    }

    /// For how long slots that left are kept, and slots that came are warmed, in milliseconds;
    /// nothing where they are not.
    pub(crate) fn warm_up_ms(&self) -> Option<u64> {
        self.before.as_ref().map(|before| before.warm_up_ms)
    }

    /// The core that had a slot which left the node with this topology.
    pub(crate) fn core_before(&self, slot: Slot) -> Option<Core> {
        let before = self.before.as_ref()?;
        (before.cores.owns(slot) && !self.cores.owns(slot)).then(|| before.cores.core_of(slot))
    }

    /// The node that a slot of this one came from with this topology.
    fn came_from(&self, slot: Slot) -> Option<&corelane_ring::Node> {
        let before = self.before.as_ref()?;
        let owner = before.topology.owner(slot);
        (self.cores.owns(slot) && before.own != Some(owner)).then(|| before.topology.node(owner))
    }

    /// Whether a slot of the node came with this topology.
    pub(crate) fn has_come(&self, slot: Slot) -> bool {
        self.came_from(slot).is_some()
    }

    /// Where to ask for what is not here yet, of a slot that has come.
    pub(crate) fn ask(&self, slot: Slot) -> Option<Redirect<'_>> {
        let address = self.came_from(slot)?.addresses.first().expect("a node has an address");
        Some(Redirect {
            redirection: Redirection::Ask,
            slot: slot.number(),
            epoch: self.topology.epoch().0,
            address: address.as_str(),
        })
    }

    /// The topology.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The node's own place in it; none where it is not part of the cluster, and owns nothing.
    pub fn own(&self) -> Option<NodeIndex> {
        self.own
    }

    /// Which core has which of the node's slots.
    pub fn cores(&self) -> &CoreMap {
        &self.cores
    }

    pub(crate) fn short_epoch(&self) -> ShortEpoch {
        ShortEpoch(self.topology.epoch().short())
    }

    /// The cluster as dialects tell of it; nothing where this node is not part of it.
    pub(crate) fn facts(&self) -> Option<ClusterFacts<'_>> {
        let own = usize::from(self.own?.0);
        Some(ClusterFacts { epoch: self.topology.epoch().0, nodes: &self.shown, own })
    }

    pub(crate) fn table(&self) -> &[u8] {
        &self.table
    }

    pub(crate) fn core_ranges(&self) -> &[u8] {
        &self.core_ranges
    }

    /// Where requests for a slot belong that another node owns.
    pub(crate) fn redirect(&self, slot: Slot) -> Redirect<'_> {
        let owner = self.topology.node(self.topology.owner(slot));
        Redirect {
            redirection: Redirection::Moved,
            slot: slot.number(),
            epoch: self.topology.epoch().0,
            address: owner.addresses.first().expect("a node has an address").as_str(),
        }
    }
}

/// The nodes with their slots, as dialects tell of them.
fn shown(topology: &Topology) -> Vec<ClusterNode> {
    let mut nodes: Vec<ClusterNode> = topology
        .nodes()
        .iter()
        .map(|node| {
            let address = node.addresses.first().expect("a node has an address").as_str();
            let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
            ClusterNode {
                id: identity(node.name.as_str()),
                host: host.trim_matches(['[', ']']).to_owned(),
                port: port.parse().unwrap_or_default(),
                slots: Vec::new(),
            }
        })
        .collect();
    for range in topology.ranges() {
        if let Some(owner) = range.owners.first() {
            let slots = &mut nodes[usize::from(owner.0)].slots;
            let (first, last) = (range.first.number(), range.last.number());
            match slots.last_mut() {
                // Ranges that differ in their replicas alone are one to these clients.
                Some((_, end)) if *end + 1 == first => *end = last,
                _ => slots.push((first, last)),
            }
        }
    }
    nodes
}

/// 40 hexadecimal digits that every node derives from a name alike: FNV-1a (Fowler, Noll, Vo)
/// from five different bases.
fn identity(name: &str) -> String {
    let digits = |base: u32| {
        name.bytes().fold(base, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    };
    (0..5).map(|turn| format!("{:08x}", digits(0x811C_9DC5 ^ turn))).collect()
}

fn owned(topology: &Topology, own: Option<NodeIndex>) -> SlotSet {
    own.map_or_else(SlotSet::empty, |own| topology.owned_by(own))
}
