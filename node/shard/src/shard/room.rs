//! Making room before a write: eviction and compaction, a bounded number of steps a call.
//!
//! A few pages are kept in reserve, so that once room is made nothing that a write does can
//! fail. While more are left, nothing happens here. Otherwise:
//!
//! - Pages that were flushed and are not back yet go first.
//! - Where the class has no free slot, the policy's candidates go, until it has or as many
//!   bytes are free as it takes. With sizes of one kind that is all that ever happens.
//! - Where it still has none, the entry takes a slot of a class a little larger instead of
//!   another page, and one of a much larger class where there is no page.
//! - When free pages are low, a page is emptied, the emptiest of all. Where all are
//!   full, entries in it go if the policy would let them go, and only the others are moved;
//!   so a change of value sizes costs few moves.

use super::{Eviction, Shard};
use crate::class::{Class, Kind, PAGE_BYTES};
use crate::config::Policy;
use crate::entry::{Placement, Stored};
use crate::heap::Handle;
use crate::index::word::Word;
use crate::index::{Found, leaf};
use crate::policy::{Ground, Pages, Verdict};
use crate::types::{Cause, Changes, Millis, WriteError};

/// Pages that one write may need, with its slot: for two leaves and a node of the index, a
/// block of timers, the probation queue. Always left when a write begins.
const RESERVE_PAGES: i64 = 6;

/// Pages beyond the reserve below which a page is emptied, below which that is urgent, and
/// below which room is made at all. In a shard of many pages [`Room::spare`] comes on top, so
/// that a page has time to be emptied in slices.
const LOW_PAGES: i64 = RESERVE_PAGES + 4;
const URGENT_PAGES: i64 = RESERVE_PAGES + 2;
const TIGHT_PAGES: i64 = LOW_PAGES + 4;

/// Pages on top: one in so many of the budget, at most so many.
const SPARE_SHARE: u32 = 256;
const SPARE_PAGES_MAX: u32 = 12;

/// Candidates evicted for one slot.
const VICTIMS_MAX: usize = 16;

/// Free slots of entries beyond a quarter of a page a class, as a share of all: so many are
/// kept, so that slots of all classes are at hand, and from so many on compaction finds pages
/// that are easily emptied.
const FREE_SHARE: u64 = 64;
const FREE_SHARE_PLENTY: u64 = 25;

/// Slots of a page from which candidates are evicted for a slot of the class.
const SLOTS_MIN: usize = 16;

/// Slots of the page being emptied that one call empties: while pages are not low, while they
/// are, and while it is urgent.
const SLOTS_IN_PASSING: usize = 2;
const SLOTS_LOW: usize = 8;
const SLOTS_URGENT: usize = 64;

/// Slots of the page being emptied that one slice of an upload empties; each took about 0.8 µs.
const SLOTS_SLICE: usize = 48;

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
    /// The page of entries being emptied.
    entries: Option<Evacuation>,
    /// The page of leaves being emptied.
    leaves: Option<Evacuation>,
    /// Pages that the budget allows. The heap has a larger limit while the shard is on its way
    /// down to it.
    limit: u32,
    /// See [`LOW_PAGES`].
    spare: i64,
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
        if !self.is_tight() && self.index.items() < self.config.items_max {
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
        if self.index.items() >= self.config.items_max {
            let mut left = VICTIMS_MAX;
            while left > 0 && self.index.items() >= self.config.items_max {
                left -= 1;
                if !self.evict(Eviction::Policy, now, changes) {
                    break;
                }
            }
        }
        if self.is_tight() {
            self.evict_for(class, now, changes);
            self.compact(now, changes);
        }
        let pages = if self.is_urgent() { Pages::Short } else { Pages::Free };
        self.evictor.resize(&mut self.heap, &mut self.index, pages);
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
                for _ in 0..VICTIMS_MAX {
                    if self.has_room(class) || !self.evict(Eviction::Policy, now, changes) {
                        break;
                    }
                }
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

    /// Makes room for a chunk in one slice of bounded work, which may not be enough. Returns
    /// whether it is.
    ///
    /// # Errors
    /// [`WriteError::OutOfMemory`] where more slices would not help.
    pub(super) fn make_room_in_slices(
        &mut self,
        now: Millis,
        changes: &mut impl Changes,
    ) -> Result<bool, WriteError> {
        if !self.is_tight() {
            return Ok(true);
        }
        let mut more = self.discarded.give_back(&mut self.heap);
        more |= self.sweep_flushed();
        if self.heap.pages_left() < LOW_PAGES + self.room.spare {
            if self.room.entries.is_none() {
                self.room.entries = self.choose_page();
            }
            if let Some(evacuation) = &mut self.room.entries {
                more = true;
                if self.heap.pages_left() <= RESERVE_PAGES && evacuation.how == How::Judge {
                    // Moving what is in use would take the last pages.
                    evacuation.how = How::Drop;
                }
            }
            self.empty_slots(SLOTS_SLICE, now, changes);
        }
        // What comes after the upload needs pages too.
        if self.heap.pages_left() > URGENT_PAGES + self.room.spare / 2 {
            return Ok(true);
        }
        if more || self.may_evict() {
            return Ok(false);
        }
        self.counts.refused += 1;
        Err(WriteError::OutOfMemory)
    }

    /// The class whose slot an entry of this class takes: a near one where pages are short and
    /// it would take another page, a far one where there is none.
    #[inline]
    pub(super) fn class_for(&self, class: Class) -> Class {
        if !self.is_tight() {
            return class;
        }
        let other = match self.heap.pages_left() {
            ..=RESERVE_PAGES => self.heap.far_slot(class),
            _ => self.heap.near_slot(class),
        };
        other.unwrap_or(class)
    }

    /// Whether an entry of a class may take, or keep, a slot of another.
    #[inline]
    pub(super) fn fits(&self, class: Class, slot: Class) -> bool {
        slot == class || (self.is_tight() && class.near().any(|near| near == slot))
    }

    fn is_urgent(&self) -> bool {
        self.heap.pages_left() < URGENT_PAGES + self.room.spare / 2
    }

    #[inline]
    fn is_tight(&self) -> bool {
        self.heap.pages_left() < TIGHT_PAGES + self.room.spare
    }

    /// Whether a write of this class can go on without touching the last of the reserve.
    fn has_room(&self, class: Class) -> bool {
        let left = self.heap.pages_left();
        left > RESERVE_PAGES || (left == RESERVE_PAGES && self.heap.far_slot(class).is_some())
    }

    /// Evicts until there is a slot of the class, or as many bytes are gone as it takes, or
    /// there is free room enough and compaction will find a page. And a little more while free
    /// room is short.
    fn evict_for(&mut self, class: Class, now: Millis, changes: &mut impl Changes) {
        if class.slots() < SLOTS_MIN {
            // Where slots are large, only a page will do.
            return;
        }
        let capacity = self.heap.capacity_of(Kind::Entry);
        let used = self.heap.slot_bytes_of(Kind::Entry);
        let least = used.saturating_sub(class.slot_bytes() as u64);
        // Each class has a page that is being filled.
        let open = (self.heap.classes_in_use(Kind::Entry) * PAGE_BYTES / 4) as u64;
        for _ in 0..VICTIMS_MAX {
            let used = self.heap.slot_bytes_of(Kind::Entry);
            let free = capacity.saturating_sub(used);
            let enough = if self.heap.near_slot(class).is_some() {
                free >= open + capacity / FREE_SHARE
            } else {
                free >= open + capacity / FREE_SHARE_PLENTY
            };
            if enough || used <= least || !self.evict(Eviction::Policy, now, changes) {
                break;
            }
        }
    }

    fn may_evict(&self) -> bool {
        self.evictor.policy() != Policy::NoEviction
    }

    /// Evicts the policy's next candidate. Returns whether there was one.
    fn evict(&mut self, why: Eviction, now: Millis, changes: &mut impl Changes) -> bool {
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
                self.evict_found(&found, why, now, changes);
                return true;
            }
        }
        false
    }

    fn evict_found(
        &mut self,
        found: &Found,
        why: Eviction,
        now: Millis,
        changes: &mut impl Changes,
    ) {
        if self.is_due(found, now) {
            self.expire_on_access(found, changes);
            return;
        }
        let stored = Stored::read(self.heap.rest_of_page(found.word.handle()));
        self.counts.evicted[why as usize] += 1;
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
        let slots = if self.is_urgent() {
            SLOTS_URGENT
        } else if left < LOW_PAGES + self.room.spare {
            SLOTS_LOW
        } else {
            SLOTS_IN_PASSING
        };
        if self.room.entries.is_none() {
            if left >= LOW_PAGES + self.room.spare {
                return;
            }
            self.room.entries = self.choose_page();
        }
        if left <= RESERVE_PAGES + 1
            && let Some(evacuation) = &mut self.room.entries
            && evacuation.how == How::Judge
        {
            // Moving what would stay could take the last pages.
            evacuation.how = How::Drop;
        }
        self.empty_slots(slots, now, changes);
    }

    /// The page that is emptied next.
    fn choose_page(&mut self) -> Option<Evacuation> {
        let emptiest = self.heap.emptiest(Kind::Entry);
        let (page, how) = match emptiest {
            Some((page, eighths)) if eighths < self.move_eighths() => (page, How::Move),
            _ if !self.may_evict() => return None,
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
        if self.may_evict() { JUDGE_EIGHTHS } else { FULL_EIGHTHS }
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
        let pages = u64::from(self.heap.pages_of(Kind::Leaf)) * PAGE_BYTES as u64;
        let used = self.heap.slot_bytes_of(Kind::Leaf);
        let open = (self.heap.classes_in_use(Kind::Leaf) * PAGE_BYTES) as u64;
        if pages - used <= used / INDEX_WASTE_SHARE + open {
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
        self.room.spare = i64::from((pages / SPARE_SHARE).min(SPARE_PAGES_MAX));
        let least = self.heap.pages_in_use() + RESERVE_PAGES as u32 + 1;
        self.heap.set_limit(pages.max(least));
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
        for _ in 0..VICTIMS_MAX {
            evicted |= self.evict(Eviction::Budget, now, changes);
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
