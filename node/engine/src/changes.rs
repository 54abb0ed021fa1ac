//! The one place through which every change to data passes: set, delete, expiry,
//! eviction, flush. Replication, the journal and invalidation will listen here; a change
//! that bypassed it would bring dead keys back on a replica.

use corelane_shard::{Change, Changes};

/// Nobody listens yet, so a change costs nothing.
#[derive(Debug, Default)]
pub(crate) struct ChangeStream;

impl Changes for ChangeStream {
    #[inline]
    fn changed(&mut self, _change: &Change<'_>) {}
}
