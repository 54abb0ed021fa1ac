//! Reading one entry.

use super::Shard;
use crate::entry::{Placement, Stored};
use crate::heap::{Handle, Heap};
use crate::large::Chunks;
use crate::types::{Entry, Key, Millis, Value, ValueBytes};

impl Shard {
    /// Reads an entry and notes that it was used. One whose time is over is `None`.
    #[inline]
    pub fn get(&mut self, key: &Key<'_>, now: Millis) -> Option<Entry<'_>> {
        let heap = &self.heap;
        let (units, word) = self.index.find_word(heap, key.slot, key.hash, |word| {
            Stored::read(heap.rest_of_page(word.handle())).is(key.space, key.bytes)
        })?;
        if let Some(used) = self.evictor.used(word) {
            *self.heap.word_mut(units) = used.0;
        }
        read(&self.heap, word.handle(), now)
    }

    /// Reads an entry and leaves no trace.
    #[inline]
    pub fn peek(&self, key: &Key<'_>, now: Millis) -> Option<Entry<'_>> {
        let found = self.find(key)?;
        read(&self.heap, found.word.handle(), now)
    }
}

/// The entry in a slot, unless its time is over.
#[inline]
pub(super) fn read(heap: &Heap, handle: Handle, now: Millis) -> Option<Entry<'_>> {
    let stored = Stored::read(heap.rest_of_page(handle));
    let expiry = stored.expiry();
    if expiry.is_due(now) {
        return None;
    }
    let value = match stored.placement() {
        Placement::Inline => ValueBytes::Whole(stored.inline_value()),
        Placement::Chunks => {
            ValueBytes::Chunked(Chunks::new(heap, stored.first_chunk(), stored.value_length()))
        }
    };
    Some(Entry {
        value: Value(value),
        user_flags: stored.user_flags(),
        expiry,
        version: stored.version(),
    })
}
