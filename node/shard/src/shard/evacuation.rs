//! Emptying pages of entries, and of the index's leaves: compaction.

use super::{Eviction, Shard};
use crate::class::{Class, Kind, PAGE_BYTES};
use crate::entry::{Placement, Stored};
use crate::heap::Handle;
use crate::index::word::Word;
use crate::index::{Index, leaf};
use crate::policy::Verdict;
use crate::types::{Changes, Millis};

/// Pages looked at to find one that may be emptied.
const PAGE_STEPS: u32 = 256;

/// Pages of which the one with the fewest entries is emptied where it is urgent: a page may
/// have four thousand.
const PAGES_COMPARED: usize = 16;

/// Eighths of a page in use from which its entries are judged, not just moved: moving them all
/// would write as many bytes as it frees. Without eviction, more is moved.
const JUDGE_EIGHTHS: usize = 4;

/// Eighths of a page in use from which it counts as full.
const FULL_EIGHTHS: usize = 7;

/// Unused bytes in pages of the index that are left alone: one in so many of its bytes, and a
/// page for each class of leaves.
const INDEX_WASTE_SHARE: u64 = 16;

/// Leaves moved in one slice, and where pages are urgently needed.
pub(super) const LEAVES_SLICE: usize = 2;
pub(super) const LEAVES_URGENT: usize = 8;

/// What moving a leaf counts for, in steps of work.
const LEAF_STEPS: u64 = 8;

/// Entries of a page that are looked up together.
const SLOTS_AHEAD: usize = 16;

/// A page being emptied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evacuation {
    pub(super) page: u32,
    next_slot: u16,
    pub(super) how: How,
}

/// What happens to the entries of a page being emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// They move.
    Move,
    /// Those that the policy would let go go.
    Judge,
    /// All go that may go at all; the others move.
    Drop,
}

/// An entry that is about to be looked up.
#[derive(Clone, Copy)]
struct Ahead {
    handle: Handle,
    slot: u16,
    hash: u64,
}

impl Shard {
    /// The page that is emptied next.
    pub(super) fn choose_page(&mut self) -> Option<Evacuation> {
        let emptiest = self.heap.emptiest(Kind::Entry);
        let (page, how) = match emptiest {
            Some((page, eighths)) if eighths < self.move_eighths() => (page, How::Move),
            _ if !self.judges() => return None,
            Some((page, eighths)) if eighths < FULL_EIGHTHS => (page, How::Judge),
            _ => {
                let from = self.room.page_hand;
                let choice = if self.is_urgent() { PAGES_COMPARED } else { 1 };
                let (next, page) =
                    self.heap.page_in_use_from(from, Kind::Entry, PAGE_STEPS, choice);
                self.room.page_hand = next;
                (page?, How::Judge)
            }
        };
        self.heap.evacuate(page);
        Some(Evacuation { page, next_slot: 0, how })
    }

    fn move_eighths(&self) -> usize {
        if self.judges() { JUDGE_EIGHTHS } else { FULL_EIGHTHS }
    }

    /// Empties slots of the page that is being emptied, a few at a time: what they have in the
    /// index is asked for before the first of them is looked up, so their misses overlap.
    pub(super) fn empty_slots(&mut self, slots: usize, now: Millis, changes: &mut impl Changes) {
        let mut slots_left = slots;
        while slots_left > 0 {
            let Some(evacuation) = self.room.entries else {
                return;
            };
            let (class, slots) = self.heap.slots_of_page(evacuation.page);
            if !self.heap.is_evacuating(evacuation.page) || class.kind() != Kind::Entry {
                // Its last entry has left, and the page went back.
                self.room.entries = None;
                return;
            }
            let mut ahead = [None; SLOTS_AHEAD];
            let mut count = 0;
            let mut next_slot = evacuation.next_slot;
            while count < slots_left.min(SLOTS_AHEAD) && next_slot < slots.end {
                let handle = self.heap.slot_handle(evacuation.page, next_slot);
                next_slot += 1;
                if self.heap.is_live(handle) {
                    ahead[count] = Some(self.look_ahead(handle));
                    count += 1;
                }
            }
            assert!(count > 0, "an emptied page went back");
            self.room.entries = Some(Evacuation { next_slot, ..evacuation });
            self.counts.work_steps += count as u64;
            for entry in ahead[..count].iter().flatten() {
                self.empty_slot(entry, evacuation.how, now, changes);
            }
            slots_left -= count;
        }
    }

    /// Where an entry is found in the index, which is asked for.
    fn look_ahead(&self, handle: Handle) -> Ahead {
        let stored = Stored::read(self.heap.rest_of_page(handle));
        let slot = (self.config.slot_of)(stored.key());
        let hash = self.hash.hash(stored.space(), stored.key());
        let leaf = self.index.reference(&self.heap, slot, hash);
        Index::prefetch_home(&self.heap, leaf, hash);
        self.evictor.prefetch(&self.heap, hash);
        Ahead { handle, slot, hash }
    }

    fn empty_slot(&mut self, entry: &Ahead, how: How, now: Millis, changes: &mut impl Changes) {
        let &Ahead { handle, slot, hash } = entry;
        let found = self
            .index
            .find(&self.heap, slot, hash, |word| word.handle() == handle)
            .expect("LIVE: a live entry has a word");
        let verdict = match how {
            How::Move => Verdict::Stay(found.word),
            How::Judge => self.evictor.judge(found.word),
            How::Drop if self.evictor.may_go(found.word) => Verdict::Leave,
            How::Drop => Verdict::Stay(found.word),
        };
        match verdict {
            Verdict::Leave => {
                let why = if how == How::Drop { Eviction::Haste } else { Eviction::Page };
                self.evict_found(&found, why, now, changes);
            }
            Verdict::Stay(_) if self.is_due(&found, now) => {
                self.expire_on_access(&found, changes);
            }
            Verdict::Stay(word) => {
                let stored = Stored::read(self.heap.rest_of_page(handle));
                let (length, placement) = (stored.length(), stored.placement());
                let to = self.heap.take(self.class_for(Class::of_entry(length)));
                self.heap.copy(handle, to, length);
                if placement == Placement::Chunks {
                    self.heap.mark_large(to);
                }
                self.heap.give(handle);
                self.index.replace(&mut self.heap, &found, word.with_handle(to));
                self.counts.moved_bytes += length as u64;
            }
        }
    }

    /// Moves a few leaves out of the emptiest pages of the index, if these waste much. Returns
    /// whether there is more to do.
    pub(super) fn compact_index(&mut self, leaves: usize) -> bool {
        let Some(mut evacuation) = self.room.leaves.or_else(|| self.choose_leaf_page()) else {
            return false;
        };
        self.room.leaves = Some(evacuation);
        for _ in 0..leaves {
            let handle = loop {
                let (class, range) = self.heap.slots_of_page(evacuation.page);
                if !self.heap.is_evacuating(evacuation.page) || class.kind() != Kind::Leaf {
                    self.room.leaves = None;
                    return true;
                }
                assert!(evacuation.next_slot < range.end, "an emptied page went back");
                let handle = self.heap.slot_handle(evacuation.page, evacuation.next_slot);
                evacuation.next_slot += 1;
                if self.heap.is_live(handle) {
                    break handle;
                }
            };
            self.room.leaves = Some(evacuation);
            let words = self.heap.class_of(handle).slot_bytes() / 8;
            let (_, word): (_, Word) =
                leaf::taken(self.heap.words(handle, words)).next().expect("a leaf has words");
            let stored = Stored::read(self.heap.rest_of_page(word.handle()));
            let slot = (self.config.slot_of)(stored.key());
            let hash = self.hash.hash(stored.space(), stored.key());
            self.index.move_leaf(&mut self.heap, handle, slot, hash);
            self.counts.work_steps += LEAF_STEPS;
        }
        true
    }

    fn choose_leaf_page(&mut self) -> Option<Evacuation> {
        let pages = u64::from(self.heap.pages_of(Kind::Leaf)) * PAGE_BYTES as u64;
        let used = self.heap.slot_bytes_of(Kind::Leaf);
        let open = (self.heap.classes_in_use(Kind::Leaf) * PAGE_BYTES) as u64;
        if pages - used <= used / INDEX_WASTE_SHARE + open {
            return None;
        }
        let (page, eighths) = self.heap.emptiest(Kind::Leaf)?;
        if eighths >= FULL_EIGHTHS || !self.heap.has_slot_besides(page) {
            return None;
        }
        self.heap.evacuate(page);
        Some(Evacuation { page, next_slot: 0, how: How::Move })
    }
}
