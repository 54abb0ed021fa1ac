//! Asking for memory before it is needed, so that the misses of several keys overlap. A caller
//! that knows some keys before it works on the first takes three steps over them, each over all
//! keys before the next one:
//!
//! ```text
//! key ─► prefetch_index:  its line of the index         (found by slot and hash)
//!     ─► prefetch_entry:  its entry's first lines       (found by a word of that line)
//!     ─► prefetch_value:  the entry's other lines       (found by the entry's header)
//! ```
//!
//! None of them changes anything or promises anything: what was found may have moved or gone
//! when the key's turn comes, and only speed depends on it.

use super::Shard;
use crate::entry::first_bytes;
use crate::heap::Handle;
use crate::index::word::Word;
use crate::index::{Index, leaf};
use crate::reserve::prefetch;
use crate::types::{Key, KeyHash};

/// Where an entry was when its memory was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryHint(Option<Handle>);

const LINE: usize = 64;

/// Lines of an entry that are asked for before anything of it was read: small entries lie in
/// one or two.
const LINES_AT_ONCE: usize = 2;

/// Bytes of an entry that are asked for at most. A longer copy is a stream, which the processor
/// fetches ahead by itself.
const BYTES_AHEAD_MAX: usize = 4096;

impl Shard {
    /// The key that this hash was made of, given its bytes again.
    #[inline]
    pub fn key_of<'a>(&self, hash: KeyHash, bytes: &'a [u8]) -> Key<'a> {
        let KeyHash { hash, slot, space } = hash;
        debug_assert_eq!(self.key(slot, space, bytes).hash, hash, "the hash of another key");
        Key { bytes, hash, slot, space }
    }

    /// The first step.
    #[inline]
    pub fn prefetch_index(&self, key: &KeyHash) {
        let leaf = self.index.reference(&self.heap, key.slot, key.hash);
        Index::prefetch_home(&self.heap, leaf, key.hash);
    }

    /// The second step.
    #[inline]
    pub fn prefetch_entry(&self, key: &KeyHash) -> EntryHint {
        let leaf = self.index.reference(&self.heap, key.slot, key.hash);
        if leaf.lines() == 0 {
            return EntryHint(None);
        }
        let words = self.heap.words(leaf.handle(), leaf.words());
        let window = leaf.window();
        // The first word that matches is nearly always the one.
        let Some(place) = leaf::find(words, window, window.stored(key.hash), |_| true) else {
            return EntryHint(None);
        };
        let entry = Word(words[place]).handle();
        let bytes = self.heap.rest_of_page(entry);
        for line in 0..LINES_AT_ONCE {
            if let Some(byte) = bytes.get(line * LINE) {
                prefetch(byte);
            }
        }
        EntryHint(Some(entry))
    }

    /// The third step.
    #[inline]
    pub fn prefetch_value(&self, hint: EntryHint) {
        let Some(entry) = hint.0 else { return };
        let bytes = self.heap.rest_of_page(entry);
        // Another entry's bytes by now, or none's, at worst: then the wrong lines are fetched.
        let length = first_bytes(bytes).min(BYTES_AHEAD_MAX).min(bytes.len());
        let mut at = LINES_AT_ONCE * LINE;
        // The entry begins somewhere in its first line, so its last byte may lie one further.
        while at < length {
            prefetch(&bytes[at]);
            at += LINE;
        }
        if length > (LINES_AT_ONCE - 1) * LINE {
            prefetch(&bytes[length - 1]);
        }
    }
}
