//! Reading one entry.

use super::Shard;
use super::ahead::EntryHint;
use crate::entry::{Fields, Placement, Stored};
use crate::heap::{Handle, Heap};
use crate::index::word::Word;
use crate::large::Chunks;
use crate::types::{Entry, Expiry, Key, Millis, Value, ValueBytes};

impl Shard {
    /// Reads an entry and notes that it was used. One whose time is over is `None`.
    #[inline]
    pub fn get(&mut self, key: &Key<'_>, now: Millis) -> Option<Entry<'_>> {
        let heap = &self.heap;
        let mut fields = None;
        let (units, word) = self.index.find_word(heap, key.slot, key.hash, |word| {
            let stored = Stored::read(heap.rest_of_page(word.handle()));
            let is = stored.is(key.space, key.bytes);
            fields = is.then(|| stored.fields());
            is
        })?;
        let fields = fields.expect("the last word looked at was the one");
        self.use_found(units, word, fields, now)
    }

    /// [`Shard::get`] for a key whose memory was asked for. Where nothing came back to the heap
    /// since then, there is nothing left to search.
    #[inline(always)]
    pub fn get_ahead(&mut self, key: &Key<'_>, hint: EntryHint, now: Millis) -> Option<Entry<'_>> {
        if let Some(word) = hint.word_if_valid(&self.heap) {
            let stored = Stored::read(self.heap.rest_of_page(word.handle()));
            if stored.is(key.space, key.bytes) {
                let fields = stored.fields();
                return self.use_found(hint.units, word, fields, now);
            }
        }
        self.get(key, now)
    }

    #[inline(always)]
    fn use_found(
        &mut self,
        units: u64,
        word: Word,
        fields: Fields,
        now: Millis,
    ) -> Option<Entry<'_>> {
        if let Some(used) = self.evictor.used(word) {
            *self.heap.word_mut(units) = used.0;
        }
        entry_of(&self.heap, fields.with(self.heap.rest_of_page(word.handle())), now)
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
    entry_of(heap, Stored::read(heap.rest_of_page(handle)), now)
}

#[inline(always)]
fn entry_of<'h>(heap: &'h Heap, stored: Stored<'h>, now: Millis) -> Option<Entry<'h>> {
    if stored.is_bare() {
        let value = Value(ValueBytes::Whole(stored.inline_value()));
        return Some(Entry { value, user_flags: 0, expiry: Expiry::Never, version: None });
    }
    entry_with_more(heap, stored, now)
}

/// An entry that has more than its key and a value stored with it.
#[inline(never)]
fn entry_with_more<'h>(heap: &'h Heap, stored: Stored<'h>, now: Millis) -> Option<Entry<'h>> {
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
