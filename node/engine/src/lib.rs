//! Everything one core does, as a deterministic state machine without I/O.
pub mod counters;

/// Names one connection of one core. The generation tells a connection from an earlier
/// one at the same index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// Place in the tables of the engine and the driver.
    pub index: u32,
    /// Counts how often the place was used.
    pub generation: u32,
}
