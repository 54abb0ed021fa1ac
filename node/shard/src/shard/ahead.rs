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
//! when the key's turn comes. [`Shard::get_ahead`] finds out; for all else only speed depends
//! on it.

use super::Shard;
use crate::entry::estimated_bytes;
use crate::heap::Heap;
use crate::index::group::{self, GROUP};
use crate::index::word::Word;
use crate::reserve::prefetch;
use crate::types::{Key, KeyHash};

/// What asking for a key's memory has found out. It is for the steps after, in their order.
#[derive(Clone, Copy, Debug, Default)]
pub struct EntryHint {
    /// Where in the arena the line of the index begins, or from the second step on, where the
    /// word is; zero where there is none.
    pub(super) units: u64,
    /// Where the leaf ends that the line is one of. The word is in the next line if this one is
    /// full, and after the last one comes the first.
    end: u64,
    lines: u8,
    /// How many more lines to look at.
    more: u8,
    /// What the key's word keeps of the hash; from the second step on, the word.
    word: u64,
    /// Whether the word was found.
    found: bool,
    /// [`Heap::frees`] at that time.
    frees: u64,
}

impl EntryHint {
    /// Whether a line of the index was asked for and not yet looked at: the second step is to be
    /// taken, or taken once more.
    #[inline]
    pub fn is_on_its_way(self) -> bool {
        self.units != 0 && !self.found
    }

    /// The word that was found, where it still leads to the same entry.
    ///
    /// It does if it is where it was and nothing was given back to the heap since: the memory
    /// of a leaf holds words of this leaf alone until it is given back, and a leaf holds no word
    /// but those of live entries.
    #[inline]
    pub(super) fn word_if_valid(&self, heap: &Heap) -> Option<Word> {
        if !self.found || self.frees != heap.frees() {
            return None;
        }
        let word = Word(heap.word(self.units));
        word.is_for_entry_of(Word(self.word)).then_some(word)
    }
}

const LINE: usize = 64;

/// Lines of a leaf that are looked at for a word: nearly none is in a later one.
const LINES_OF_LEAF: usize = 3;

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

    /// Asks for what the first step needs to know of a slot; it waits for nothing itself.
    #[inline(always)]
    pub fn prefetch_slot(&self, slot: u16) {
        self.index.prefetch_root(slot);
    }

    /// The first step.
    #[inline(always)]
    pub fn prefetch_index(&self, key: &KeyHash) -> EntryHint {
        let leaf = self.index.reference(&self.heap, key.slot, key.hash);
        if leaf.lines() == 0 {
            return EntryHint::default();
        }
        let stored = leaf.window().stored(key.hash);
        let home = leaf.window().home(stored, leaf.lines());
        let units = leaf.units() + (home * GROUP) as u64;
        prefetch(self.heap.group(units));
        EntryHint {
            units,
            end: leaf.units() + leaf.words() as u64,
            lines: leaf.lines() as u8,
            more: leaf.lines().min(LINES_OF_LEAF) as u8 - 1,
            word: stored,
            found: false,
            frees: self.heap.frees(),
        }
    }

    /// The second step. A word in ten is not in its first line, and one in thirty not in the
    /// second; then it asks for the next line instead of the entry, and is to be taken once more.
    #[inline]
    pub fn prefetch_entry(&self, hint: EntryHint) -> EntryHint {
        if !hint.is_on_its_way() || hint.frees != self.heap.frees() {
            return EntryHint::default();
        }
        // The first that matches is nearly always the one.
        let group = self.heap.group(hint.units);
        let place = group::matches(group, hint.word).trailing_zeros() as usize;
        let Some(&word) = group.get(place).filter(|word| !Word(**word).is_empty()) else {
            if hint.more == 0 || !group::is_full(group) {
                return EntryHint::default();
            }
            let mut units = hint.units + GROUP as u64;
            if units == hint.end {
                units -= u64::from(hint.lines) * GROUP as u64;
            }
            prefetch(self.heap.group(units));
            return EntryHint { units, more: hint.more - 1, ..hint };
        };
        let bytes = self.heap.rest_of_page(Word(word).handle());
        for line in 0..LINES_AT_ONCE {
            if let Some(byte) = bytes.get(line * LINE) {
                prefetch(byte);
            }
        }
        EntryHint { units: hint.units + place as u64, word, found: true, ..hint }
    }

    /// The third step.
    #[inline]
    pub fn prefetch_value(&self, hint: EntryHint) {
        if !hint.found || hint.frees != self.heap.frees() {
            return;
        }
        let bytes = self.heap.rest_of_page(Word(hint.word).handle());
        let length = estimated_bytes(bytes).min(BYTES_AHEAD_MAX).min(bytes.len());
        // An entry begins somewhere in its first line, so its last byte may lie in one more.
        if length > (LINES_AT_ONCE - 1) * LINE {
            prefetch(&bytes[length - 1]);
        }
        let mut at = LINES_AT_ONCE * LINE;
        while at < length {
            prefetch(&bytes[at]);
            at += LINE;
        }
    }
}
