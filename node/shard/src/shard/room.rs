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

use super::evacuation::{Evacuation, How};
use super::{Eviction, Shard};
use crate::class::{Class, Kind, PAGE_BYTES};
use crate::config::Policy;
use crate::entry::Stored;
use crate::index::Found;
use crate::policy::{Ground, Pages};
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

/// Slots of the page being emptied that one slice of an upload, or of [`Shard::tick`], empties.
const SLOTS_SLICE: usize = 48;

/// Free pages given back to the system in one slice, where the budget was lowered. One took
/// about 3 µs.
const PAGES_RELEASED: usize = 8;

/// Pages emptied whole for one write, where the reserve is touched.
const PAGES_DROPPED_MAX: usize = 8;

/// The state of making room.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Room {
    /// The page of entries being emptied.
    pub(super) entries: Option<Evacuation>,
    /// The page of leaves being emptied.
    pub(super) leaves: Option<Evacuation>,
    /// Pages that the budget allows. The heap has a larger limit while the shard is on its way
    /// down to it.
    limit: u32,
    /// See [`LOW_PAGES`].
    spare: i64,
    /// Where the search for a page among full ones goes on.
    pub(super) page_hand: u32,
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
            self.empty_a_page(SLOTS_SLICE, now, changes);
            more |= self.room.entries.is_some();
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

    pub(super) fn is_urgent(&self) -> bool {
        self.heap.pages_left() < URGENT_PAGES + self.room.spare / 2
    }

    #[inline]
    pub(super) fn is_tight(&self) -> bool {
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

    pub(super) fn may_evict(&self) -> bool {
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

    pub(super) fn evict_found(
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
        if self.room.entries.is_some() || left < LOW_PAGES + self.room.spare {
            self.empty_a_page(slots, now, changes);
        }
    }

    /// Goes on with the page that is being emptied, or begins with one.
    fn empty_a_page(&mut self, slots: usize, now: Millis, changes: &mut impl Changes) {
        if self.room.entries.is_none() {
            self.room.entries = self.choose_page();
        }
        if self.heap.pages_left() <= RESERVE_PAGES + 1
            && let Some(evacuation) = &mut self.room.entries
            && evacuation.how == How::Judge
        {
            // Moving what would stay could take the last pages.
            evacuation.how = How::Drop;
        }
        self.empty_slots(slots, now, changes);
    }

    /// Sets the number of pages that the budget allows. A shard that has more gets there in
    /// slices; meanwhile it has what it needs to go on.
    pub(super) fn lower_limit(&mut self, pages: u32) {
        self.room.limit = pages;
        self.room.spare = i64::from((pages / SPARE_SHARE).min(SPARE_PAGES_MAX));
        let least = self.heap.pages_in_use() + RESERVE_PAGES as u32 + 1;
        self.heap.set_limit(pages.max(least));
    }

    /// Goes on emptying pages between requests where free ones are low, so that writes find
    /// them.
    pub(super) fn refill(&mut self, now: Millis, changes: &mut impl Changes) {
        // On the way down to a lowered budget, `shrink` does that and more.
        let is_down = self.heap.limit() <= self.room.limit;
        if is_down && self.heap.pages_left() < LOW_PAGES + self.room.spare {
            self.empty_a_page(SLOTS_SLICE, now, changes);
        }
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
