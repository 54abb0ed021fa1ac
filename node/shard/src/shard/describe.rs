//! What is told of entries and spaces beside values.

use super::Shard;
use crate::entry::{Placement, Stored};
use crate::types::{Details, Key, Millis};

impl Shard {
    /// [`Shard::len`] of one key space.
    pub fn space_len(&self, space: u8) -> u64 {
        self.space_items[usize::from(space)]
    }

    /// What an entry costs and how it was used; reading it leaves no trace. `None` where there
    /// is no entry, or its time is over.
    pub fn details(&self, key: &Key<'_>, now: Millis) -> Option<Details> {
        let found = self.find(key)?;
        let handle = found.word.handle();
        let stored = Stored::read(self.heap.rest_of_page(handle));
        if stored.expiry().is_due(now) {
            return None;
        }
        let chunks = match stored.placement() {
            Placement::Inline => 0,
            Placement::Chunks => stored.value_length() as u64,
        };
        let slot = self.heap.class_of(handle).slot_bytes() + size_of::<u64>();
        Some(Details { memory_bytes: slot as u64 + chunks, uses: self.evictor.uses(found.word) })
    }
}
