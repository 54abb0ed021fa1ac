//! Reading many entries at once, so that their cache misses overlap: first every key's line
//! of the index is asked for, then, by the words that match there, every entry, and only then
//! are keys compared. One key's memory arrives while the others' is asked for.

use super::Shard;
use super::read::read;
use crate::entry::Stored;
use crate::index::reference::Reference;
use crate::index::word::Word;
use crate::index::{Index, leaf};
use crate::reserve::prefetch;
use crate::types::{Entry, Key, Millis};

/// Keys that are looked up together. A core has about a dozen misses under way at a time;
/// beyond twice that, lines that were asked for begin to be pushed out again.
const BATCH_KEYS: usize = 32;

impl Shard {
    /// [`Shard::get`] for many keys at once: `each` is called in their order, with the index of
    /// the key and its entry.
    pub fn get_batch(
        &mut self,
        keys: &[Key<'_>],
        now: Millis,
        mut each: impl FnMut(usize, Option<Entry<'_>>),
    ) {
        for (number, keys) in keys.chunks(BATCH_KEYS).enumerate() {
            let mut leaves = [Reference::empty(0); BATCH_KEYS];
            for (key, leaf) in keys.iter().zip(&mut leaves) {
                *leaf = self.index.reference(&self.heap, key.slot, key.hash);
                Index::prefetch_home(&self.heap, *leaf, key.hash);
            }
            // The first word that matches is nearly always the one.
            for (key, reference) in keys.iter().zip(&leaves) {
                if reference.lines() == 0 {
                    continue;
                }
                let words = self.heap.words(reference.handle(), reference.words());
                let window = reference.window();
                if let Some(place) = leaf::find(words, window, window.stored(key.hash), |_| true) {
                    let entry = Word(words[place]).handle();
                    // Small entries lie in a line or two.
                    let bytes = self.heap.rest_of_page(entry);
                    prefetch(&bytes[0]);
                    if let Some(next_line) = bytes.get(64) {
                        prefetch(next_line);
                    }
                }
            }
            for (place, (key, reference)) in keys.iter().zip(&leaves).enumerate() {
                let entry = self.get_from(*reference, key, now);
                each(number * BATCH_KEYS + place, entry);
            }
        }
    }

    /// Asks for the memory that an operation on a key begins with. A caller that knows several
    /// keys before it works on the first spares most of their waiting.
    #[inline]
    pub fn prefetch(&self, key: &Key<'_>) {
        let leaf = self.index.reference(&self.heap, key.slot, key.hash);
        Index::prefetch_home(&self.heap, leaf, key.hash);
    }

    /// [`Shard::get`] in a leaf that was walked to before.
    #[inline]
    fn get_from(&mut self, leaf: Reference, key: &Key<'_>, now: Millis) -> Option<Entry<'_>> {
        if leaf.lines() == 0 {
            return None;
        }
        let heap = &self.heap;
        let words = heap.words(leaf.handle(), leaf.words());
        let window = leaf.window();
        let place = leaf::find(words, window, window.stored(key.hash), |word| {
            Stored::read(heap.rest_of_page(word.handle())).is(key.space, key.bytes)
        })?;
        let word = Word(words[place]);
        if let Some(used) = self.evictor.used(word) {
            *self.heap.word_mut(leaf.units() + place as u64) = used.0;
        }
        read(&self.heap, word.handle(), now)
    }
}
