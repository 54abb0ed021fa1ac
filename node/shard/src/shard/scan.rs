//! Walking the shard, in slot order and within a slot in hash order.

use super::Shard;
use super::read::read;
use crate::entry::Stored;
use crate::index::{Index, Position, leaf};
use crate::types::{Cause, Changes, Cursor, Entry, EntryKey, Millis, TickOutcome};

/// Leaves that one step visits at most, however few entries they have.
const LEAVES_MAX: usize = 256;

impl Shard {
    /// Walks on from `cursor`, calling `each` for about `limit` entries (a leaf of the index is
    /// never left halfway, so up to about 460 more), and returns where to go on; `None` at the
    /// end.
    ///
    /// An entry that is there from the first step of a walk to its last is met, whatever else
    /// comes and goes; it may be met twice. One slot is walked from [`Cursor::at_slot`] until
    /// [`Cursor::slot`] is another.
    pub fn scan(
        &self,
        cursor: Cursor,
        limit: usize,
        now: Millis,
        mut each: impl FnMut(&EntryKey<'_>, Entry<'_>),
    ) -> Option<Cursor> {
        let mut position =
            Position { slot: cursor.slot(), hash: cursor.0 << (64 - Cursor::HASH_BITS) };
        let mut seen = 0;
        for _ in 0..LEAVES_MAX {
            let leaf = self.index.leaf_from(&self.heap, position)?;
            // A leaf that has grown downwards since is met from the cursor on only.
            let from = match leaf.slot == position.slot {
                true => position.hash,
                false => 0,
            };
            let known_bits = leaf.reference.window().known_bits();
            for (_, word) in leaf::taken(self.index.words(&self.heap, &leaf)) {
                if leaf.known_hash(word) | u64::MAX >> known_bits < from {
                    continue;
                }
                seen += 1;
                if let Some(entry) = read(&self.heap, word.handle(), now) {
                    let stored = Stored::read(self.heap.rest_of_page(word.handle()));
                    let key =
                        EntryKey { slot: leaf.slot, space: stored.space(), bytes: stored.key() };
                    each(&key, entry);
                }
            }
            position = Index::after(&leaf)?;
            if seen >= limit {
                break;
            }
        }
        let hash = position.hash >> (64 - Cursor::HASH_BITS);
        Some(Cursor(u64::from(position.slot) << Cursor::HASH_BITS | hash))
    }

    /// Removes entries of one slot, at most `limit` of them. Returns whether there are more.
    /// Other slots are not looked at.
    pub fn remove_slot(
        &mut self,
        slot: u16,
        limit: usize,
        now: Millis,
        changes: &mut impl Changes,
    ) -> TickOutcome {
        for _ in 0..limit {
            let start = Position { slot, hash: 0 };
            let first = self.index.leaf_from(&self.heap, start).filter(|leaf| leaf.slot == slot);
            let Some(leaf) = first else {
                return TickOutcome::Idle;
            };
            let (_, word) =
                leaf::taken(self.index.words(&self.heap, &leaf)).next().expect("a leaf has words");
            let found = self
                .index
                .find(&self.heap, slot, leaf.known_hash(word), |here| here == word)
                .expect("a word that was just met");
            if self.is_due(&found, now) {
                self.expire_on_access(&found, changes);
            } else {
                self.remove_found(&found, Cause::Flushed, changes);
            }
        }
        if self.slot_len(slot) == 0 { TickOutcome::Idle } else { TickOutcome::More }
    }
}
