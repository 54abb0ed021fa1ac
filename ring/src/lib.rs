//! Where a key lives: key → slot → node → core.
//!
//! [`slot_of`] is Redis Cluster's function, so its clients route to a node unchanged. A
//! [`Topology`] says which nodes answer for a slot, and a [`CoreMap`] which core of one
//! node does. All three are values: nothing here does I/O, and whoever gets a newer
//! topology replaces the old one whole.
//!
//! ```text
//! key ─ slot_of ─► Slot ─ Topology::owners ─► nodes, in order of preference
//!                       └ CoreMap::core_of ─► core of the node that owns it
//! ```
//!
//! Topologies come from [`place()`], which knows the list of nodes and nothing else, or from
//! [`rebalance()`], which changes the table in force.

#![forbid(unsafe_code)]

mod core_map;
mod identity;
mod slot;
mod topology;

mod place;
mod rebalance;
mod table;

pub use core_map::{CORES_MAX, CoreMap, CoreMapError, NOT_OWNED};
pub use identity::{Core, Epoch, NODE_NAME_BYTES_MAX, NodeIndex, NodeName, NodeNameError};
pub use place::{place, successors};
pub use rebalance::{Change, ChangeError, rebalance};
pub use slot::{SLOTS, Slot, SlotSet, crc16, hash_tag, slot_of};
pub use table::TableError;
pub use topology::{
    ADDRESS_BYTES_MAX, ADDRESSES_MAX, Address, AddressError, NODES_MAX, Node, OWNERS_MAX,
    SlotChange, SlotRange, Topology, TopologyDiff, TopologyError, ZONE_BYTES_MAX,
};
