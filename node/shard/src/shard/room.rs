//! Making room before a write: eviction and compaction, a bounded number of steps a call.
//!
//! A few pages are kept in reserve, so that once room is made nothing that a write does can
//! fail. While more are left, nothing happens here. Otherwise:
//!
//! - Pages that were flushed and are not back yet go first.
//! - The policy's candidates go, until the new slot takes no more than what they gave back.
//! - When free pages are low, a page is emptied, the emptiest of all. Where all are
//!   full, entries in it go if the policy would let them go, and only the others are moved;
//!   so a change of value sizes costs few moves.

use super::Shard;
use crate::class::{Class, Kind};
use crate::config::Policy;
use crate::entry::{Placement, Stored};
use crate::heap::Handle;
use crate::index::word::Word;
use crate::index::{Found, leaf};
use crate::policy::{Ground, Verdict};
use crate::types::{Cause, Changes, Millis, WriteError};

/// Pages that one write may need, with its slot: for two leaves and a node of the index, a
/// block of timers, the probation queue. Always left when a write begins.
const RESERVE_PAGES: i64 = 6;

/// Pages left below which a page is emptied, and below which that is urgent.
const LOW_PAGES: i64 = 10;
const URGENT_PAGES: i64 = 8;

/// Pages left below which room is made at all.
const TIGHT_PAGES: i64 = 14;

/// Candidates evicted for one slot of up to [`BYTES_PER_VICTIM`] times as many bytes.
const VICTIMS_MIN: usize = 16;
const BYTES_PER_VICTIM: usize = 256;

/// Slots of the page being emptied that one call empties: while pages are not low, while they
/// are, and while it is urgent.
const SLOTS_IN_PASSING: usize = 2;
const SLOTS_LOW: usize = 8;
const SLOTS_URGENT: usize = 64;

/// Pages looked at to find one that may be emptied.
const PAGE_STEPS: u32 = 256;

/// Eighths of a page in use from which emptying it by moving alone is not worth it.
const FULL_EIGHTHS: usize = 6;

/// Unused bytes in pages of the index that are left alone: a share of its bytes, and one page
/// for each class that has one open.
const INDEX_WASTE_SHARE: u64 = 10;
const INDEX_WASTE_BYTES: u64 = 2 << 20;

/// Free pages given back to the system in one slice, where the budget was lowered. One took
/// about 3 µs.
const PAGES_RELEASED: usize = 8;

/// Leaves moved in one slice.
const LEAVES_SLICE: usize = 2;

/// Pages emptied whole for one write, where the reserve is touched.
const PAGES_DROPPED_MAX: usize = 8;

/// The state of making room.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Room {
    /// Bytes of slots in use when room began to be tight; evictions keep to it.
    level: Option<u64>,
    /// The page of entries being emptied.
    entries: Option<Evacuation>,
    /// The page of leaves being emptied.
    leaves: Option<Evacuation>,
    /// Pages that the budget allows. The heap has a larger limit while the shard is on its way
    /// down to it.
    limit: u32,
    /// Where the search for a page among full ones goes on.
    page_hand: u32,
}

/// A page being emptied.
#[derive(Clone, Copy, Debug)]
struct Evacuation {
    page: u32,
    next_slot: u16,
    how: How,
}

/// What happens to the entries of a page being emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// They move.
    Move,
    /// Those that the policy would let go go.
    Judge,
    /// All go.
    Drop,
}

impl Shard {
    /// Makes room for a slot of a class and all that comes with it.
    #[inline]
    pub(super) fn make_room(
        &mut self,
        class: Class,
        now: Millis,
        changes: &mut impl Changes,
    ) -> Result<(), WriteError> {
        if self.heap.pages_left() >= TIGHT_PAGES + (class.slot_bytes() as i64 >> 15)
            && self.index.items() < self.config.items_max
        {
            self.room.level = None;
            return Ok(());
        }
        self.make_room_when_tight(class, now, changes)
    }

    #[cold]
    fn make_room_when_tight(
        &mut self,
        class: Class,
        now: Millis,
        changes: &mut impl Changes,
    ) -> Result<(), WriteError> {
        self.discarded.give_back(&mut self.heap);
        self.sweep_flushed();
        let victims_max = VICTIMS_MIN + class.slot_bytes() / BYTES_PER_VICTIM;
        if self.index.items() >= self.config.items_max {
            let mut left = VICTIMS_MIN;
            while left > 0 && self.index.items() >= self.config.items_max {
                left -= 1;
                if !self.evict(now, changes) {
                    break;
                }
            }
        }
        if self.heap.pages_left() < TIGHT_PAGES {
            let level = *self.room.level.get_or_insert(self.heap.slot_bytes_all());
            let wanted = level.saturating_sub(class.slot_bytes() as u64);
            let mut left = victims_max;
            while left > 0 && self.heap.slot_bytes_all() > wanted {
                left -= 1;
                if !self.evict(now, changes) {
                    break;
                }
            }
            self.discarded.give_back(&mut self.heap);
            self.compact(now, changes);
            self.evictor.resize(&mut self.heap, self.index.items());
        }
        if self.has_room(class) {
            return Ok(());
        }
        // The reserve is touched: whole pages go.
        for _ in 0..PAGES_DROPPED_MAX {
            if self.has_room(class) {
                break;
            }
            if !self.sweep_flushed() && self.may_evict() {
                self.empty_page(now, changes);
            }
            self.discarded.give_back(&mut self.heap);
        }
        if self.has_room(class) {
            Ok(())
        } else {
            self.counts.refused += 1;
            Err(WriteError::OutOfMemory)
        }
    }

    /// Whether a write of this class can go on without touching the last of the reserve.
    fn has_room(&self, class: Class) -> bool {
        let left = self.heap.pages_left();
        left > RESERVE_PAGES || (left == RESERVE_PAGES && self.heap.has_slot(class))
    }

    fn may_evict(&self) -> bool {
        self.evictor.policy() != Policy::NoEviction
    }

    /// Evicts the policy's next candidate. Returns whether there was one.
    pub(super) fn evict(&mut self, now: Millis, changes: &mut impl Changes) -> bool {
        let ground = &mut Ground {
            index: &mut self.index,
            heap: &mut self.heap,
            wheel: &mut self.wheel,
            now,
        };
        // Candidates are named a few at a time; some may have gone since.
        while let Some(candidate) = self.evictor.candidate(ground) {
            let found = ground.index.find(ground.heap, candidate.slot, candidate.hash, |word| {
                word.handle() == candidate.handle
            });
            if let Some(found) = found {
                self.evict_found(&found, now, changes);
                return true;
            }
        }
        false
    }

    fn evict_found(&mut self, found: &Found, now: Millis, changes: &mut impl Changes) {
        if self.is_due(found, now) {
            self.expire_on_access(found, changes);
            return;
        }
        let stored = Stored::read(self.heap.rest_of_page(found.word.handle()));
        self.counts.evicted += 1;
        self.counts.evicted_bytes += (stored.key().len() + stored.value_length()) as u64;
        if found.word.on_probation() {
            let hash = self.hash.hash(stored.space(), stored.key());
            self.evictor.evicted(&mut self.heap, hash, found.word);
        }
        self.remove_found(found, Cause::Evicted, changes);
    }

    /// Empties pages of entries a little, as far as the number of pages left asks for it.
    fn compact(&mut self, now: Millis, changes: &mut impl Changes) {
        self.compact_index();
        let left = self.heap.pages_left();
        let slots = if left < URGENT_PAGES {
            SLOTS_URGENT
        } else if left < LOW_PAGES {
            SLOTS_LOW
        } else {
            SLOTS_IN_PASSING
        };
        if self.room.entries.is_none() {
            if left >= LOW_PAGES {
                return;
            }
            self.room.entries = self.choose_page();
        }
        self.empty_slots(slots, now, changes);
    }

    /// The page that is emptied next.
    fn choose_page(&mut self) -> Option<Evacuation> {
        let emptiest = self.heap.emptiest(Kind::Entry);
        let (page, how) = match emptiest {
            Some((page, eighths)) if eighths < FULL_EIGHTHS => (page, How::Move),
            _ if !self.may_evict() => return None,
            _ => {
                let from = self.room.page_hand;
                let (next, page) = self.heap.full_page_from(from, Kind::Entry, PAGE_STEPS);
                self.room.page_hand = next;
                (page?, How::Judge)
            }
        };
        self.heap.evacuate(page);
        Some(Evacuation { page, next_slot: 0, how })
    }

    /// Empties a page whatever it takes.
    fn empty_page(&mut self, now: Millis, changes: &mut impl Changes) {
        if self.room.entries.is_none() {
            self.room.entries = self.choose_page();
        }
        if let Some(evacuation) = &mut self.room.entries {
            evacuation.how = How::Drop;
            evacuation.next_slot = 0;
        }
        self.empty_slots(usize::MAX, now, changes);
    }

    /// Empties slots of the page that is being emptied.
    fn empty_slots(&mut self, slots: usize, now: Millis, changes: &mut impl Changes) {
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
            assert!(evacuation.next_slot < slots.end, "an emptied page went back");
            let handle = self.heap.slot_handle(evacuation.page, evacuation.next_slot);
            self.room.entries =
                Some(Evacuation { next_slot: evacuation.next_slot + 1, ..evacuation });
            if self.heap.is_live(handle) {
                slots_left -= 1;
                self.empty_slot(handle, evacuation.how, now, changes);
            }
        }
    }

    fn empty_slot(&mut self, handle: Handle, how: How, now: Millis, changes: &mut impl Changes) {
        let found = self.find_stored(handle);
        let verdict = match how {
            How::Move => Verdict::Stay(found.word),
            How::Judge => self.evictor.judge(found.word),
            How::Drop => Verdict::Leave,
        };
        match verdict {
            Verdict::Leave => self.evict_found(&found, now, changes),
            Verdict::Stay(_) if self.is_due(&found, now) => {
                self.expire_on_access(&found, changes);
            }
            Verdict::Stay(word) => {
                let stored = Stored::read(self.heap.rest_of_page(handle));
                let (length, placement) = (stored.length(), stored.placement());
                let to = self.heap.take(self.heap.class_of(handle));
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

    /// The word of a live entry.
    fn find_stored(&self, handle: Handle) -> Found {
        let stored = Stored::read(self.heap.rest_of_page(handle));
        let slot = (self.config.slot_of)(stored.key());
        let hash = self.hash.hash(stored.space(), stored.key());
        self.index
            .find(&self.heap, slot, hash, |word| word.handle() == handle)
            .expect("LIVE: a live entry has a word")
    }

    /// Moves a few leaves out of the emptiest pages of the index, if these waste much. Returns
    /// whether there is more to do.
    pub(super) fn compact_index(&mut self) -> bool {
        let Some(mut evacuation) = self.room.leaves.or_else(|| self.choose_leaf_page()) else {
            return false;
        };
        self.room.leaves = Some(evacuation);
        for _ in 0..LEAVES_SLICE {
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
        }
        true
    }

    fn choose_leaf_page(&mut self) -> Option<Evacuation> {
        let pages = u64::from(self.heap.pages_of(Kind::Leaf)) * crate::class::PAGE_BYTES as u64;
        let used = self.heap.slot_bytes_of(Kind::Leaf);
        if pages - used <= used / INDEX_WASTE_SHARE + INDEX_WASTE_BYTES {
            return None;
        }
        let (page, eighths) = self.heap.emptiest(Kind::Leaf)?;
        if eighths >= FULL_EIGHTHS {
            return None;
        }
        self.heap.evacuate(page);
        Some(Evacuation { page, next_slot: 0, how: How::Move })
    }

    /// Sets the number of pages that the budget allows. A shard that has more gets there in
    /// slices; meanwhile it has what it needs to go on.
    pub(super) fn lower_limit(&mut self, pages: u32) {
        self.room.limit = pages;
        let least = self.heap.pages_in_use() + RESERVE_PAGES as u32 + 1;
        self.heap.set_limit(pages.max(least));
        self.room.level = None;
    }

    /// Makes a shard that is over a lowered budget smaller. Returns whether there is more to
    /// do.
    pub(super) fn shrink(&mut self, now: Millis, changes: &mut impl Changes) -> bool {
        let more_memory = self.heap.release_memory(PAGES_RELEASED);
        if self.heap.limit() <= self.room.limit {
            return more_memory;
        }
        let before = self.heap.pages_in_use();
        let mut evicted = false;
        for _ in 0..VICTIMS_MIN {
            evicted |= self.evict(now, changes);
        }
        if self.room.entries.is_none() {
            self.room.entries = self.choose_page();
        }
        let moving = self.room.entries.is_some();
        self.empty_slots(SLOTS_URGENT, now, changes);
        self.lower_limit(self.room.limit);
        moving || evicted || self.heap.pages_in_use() < before
    }
}

impl Room {
    /// Everything was dropped, pages being emptied too.
    pub(super) fn flush(&mut self) {
        *self = Self { limit: self.limit, ..Self::default() };
    }
}
