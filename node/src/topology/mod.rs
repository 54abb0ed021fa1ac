//! The cluster's table as operators write it and as the node keeps it.
//!
//! ```text
//! --topology FILE ─┐
//!                  ├─ format ─► Topology ─ keeper ─► ClusterView ─► every core
//! PUT /topology ───┘                         └─────► FILE, replaced whole
//! ```

pub mod format;
pub mod keeper;
