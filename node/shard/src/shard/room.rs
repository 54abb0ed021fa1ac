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
//!   so a change of value sizes costs few moves. A write empties as many slots as there are
//!   in the memory that it takes, so that pages are there for those after it.
//!
//! A call does at most what the constants here say, and what it evicts, moves and looks at is
//! counted ([`ShardStats::work_steps`](crate::ShardStats::work_steps)). Where writes take pages
//! faster than they may empty any, the shard is short of them ([`Shard::is_short`]): a caller that
//! lets writes wait then finds every one of them bounded, one that does not makes the rest of the
//! room in the write.

use super::evacuation::{Evacuation, How, LEAVES_SLICE, LEAVES_URGENT};
use super::{Eviction, Shard};
use crate::class::{Class, Kind, PAGE_BYTES};
use crate::config::{Among, Policy};
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

/// Pages below which writes should wait: beyond the reserve, those that the chunks of a value
/// begin that is just too long for one slot.
const SHORT_PAGES: i64 = RESERVE_PAGES + 3;

/// Pages on top: one in so many of the budget, at most so many.
const SPARE_SHARE: u32 = 256;
const SPARE_PAGES_MAX: u32 = 12;

/// Candidates evicted for one slot, and the steps of searching after which no more is.
const VICTIMS_MAX: usize = 16;
const VICTIM_STEPS: u64 = 256;

/// Free slots of entries beyond a quarter of a page a class, as a share of all: so many are
/// kept, so that slots of all classes are at hand, and from so many on compaction finds pages
/// that are easily emptied.
const FREE_SHARE: u64 = 64;
const FREE_SHARE_PLENTY: u64 = 25;

/// Slots of a page from which candidates are evicted for a slot of the class.
const SLOTS_MIN: usize = 16;

/// Slots of the page being emptied that one call empties: while pages are not low, while they
/// are, and while it is urgent. For a large entry it is twice as many as hold what it takes, and
/// four times as many: some of them move, and the index takes its share.
const SLOTS_IN_PASSING: usize = 2;
const SLOTS_LOW: usize = 8;
const SLOTS_URGENT: usize = 64;
const SLOTS_MAX: usize = 64;

/// Slots of the page being emptied that one slice of an upload, or of [`Shard::tick`], empties, and
/// one of the latter while writes should wait for it.
const SLOTS_SLICE: usize = 48;
const SLOTS_AWAITED: usize = 64;

/// Slices that one call makes at most where the reserve is touched: they empty the page with the
/// most entries that there is. It comes to that for a caller that does not wait while the shard is
/// short of pages.
const HASTE_SLICES: usize = 64;

/// Slices of room for one chunk that one call makes: as many as empty a page of small entries
/// twice.
const CHUNK_SLICES: usize = 128;

/// Slices without gain after which more would not help.
const FRUITLESS_SLICES: u32 = 256;

/// Free pages given back to the system in one slice, where the budget was lowered. One took
/// about 3 µs.
const PAGES_RELEASED: usize = 8;

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
    /// Slices since one gained anything.
    fruitless: u32,
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
        self.give_back();
        self.sweep_flushed();
        if self.index.items() >= self.config.items_max {
            self.evict_some(VICTIMS_MAX, Eviction::Policy, now, changes, |shard| {
                shard.index.items() < shard.config.items_max
            });
        }
        if self.is_tight() {
            self.evict_for(class, now, changes);
            self.compact(class, now, changes);
        }
        let pages = if self.is_urgent() { Pages::Short } else { Pages::Free };
        self.evictor.resize(&mut self.heap, &mut self.index, pages);
        // The reserve is touched: entries go as they lie.
        for _ in 0..HASTE_SLICES {
            if self.has_room(class) {
                return Ok(());
            }
            if !self.sweep_flushed() && self.may_evict() {
                self.empty_in_haste(SLOTS_URGENT, now, changes);
            }
            self.give_back();
        }
        let has_room = |shard: &Self| shard.has_room(class);
        self.evict_some(VICTIMS_MAX, Eviction::Policy, now, changes, has_room);
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
        let before = self.held();
        let mut more = self.give_back();
        more |= self.sweep_flushed();
        if self.heap.pages_left() < LOW_PAGES + self.room.spare {
            self.empty_a_page(SLOTS_SLICE, None, now, changes);
            more |= self.room.entries.is_some();
            if !self.judges() {
                self.evict_some(VICTIMS_MAX, Eviction::Policy, now, changes, |_| false);
            }
        }
        // What comes after the upload needs pages too.
        if self.heap.pages_left() > URGENT_PAGES + self.room.spare / 2 {
            return Ok(true);
        }
        self.note_gain(before);
        let may_help = (more || self.may_evict()) && self.room.fruitless <= FRUITLESS_SLICES;
        if may_help || self.discarded.waits_for_leases() {
            return Ok(false);
        }
        self.room.fruitless = 0;
        self.counts.refused += 1;
        Err(WriteError::OutOfMemory)
    }

    /// Bytes of slots in use, and pages left.
    fn held(&self) -> (u64, i64) {
        (self.heap.slot_bytes_of_all(), self.heap.pages_left())
    }

    /// Counts the slices that gained nothing over what was held before.
    fn note_gain(&mut self, before: (u64, i64)) {
        let now = self.held();
        let gained = now.0 < before.0 || now.1 > before.1;
        self.room.fruitless = if gained { 0 } else { self.room.fruitless.saturating_add(1) };
    }

    /// Makes room for a chunk in one call: from the pages beyond the reserve where there are any,
    /// else in as many slices as it takes.
    pub(super) fn make_room_for_chunk(
        &mut self,
        now: Millis,
        changes: &mut impl Changes,
    ) -> Result<(), WriteError> {
        for _ in 0..CHUNK_SLICES {
            if self.heap.pages_left() > RESERVE_PAGES {
                return Ok(());
            }
            self.make_room_in_slices(now, changes)?;
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

    /// Whether writes should wait for the next slices of [`Shard::tick`]: each of these empties some
    /// of a page, and too few are left for another write to be one of bounded work. It comes to that
    /// where writes take more than they may free themselves, as long values among very short ones
    /// do, or entries of many sizes that were not there before, each of which begins a page.
    ///
    /// It ends where nothing may be evicted, or where that did not help for long. Reads need not
    /// wait, nor does what frees memory.
    #[inline]
    pub fn is_short(&self) -> bool {
        self.heap.pages_left() < SHORT_PAGES && self.may_gain()
    }

    /// Whether slices may still empty pages.
    #[cold]
    fn may_gain(&self) -> bool {
        self.may_evict() && self.room.fruitless <= FRUITLESS_SLICES
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
        self.evict_some(VICTIMS_MAX, Eviction::Policy, now, changes, |shard| {
            let used = shard.heap.slot_bytes_of(Kind::Entry);
            let free = capacity.saturating_sub(used);
            let enough = if shard.heap.near_slot(class).is_some() {
                free >= open + capacity / FREE_SHARE
            } else {
                free >= open + capacity / FREE_SHARE_PLENTY
            };
            enough || used <= least
        });
    }

    pub(super) fn may_evict(&self) -> bool {
        match self.evictor.policy() {
            Policy::NoEviction => false,
            Policy::Evict { among: Among::All, .. } => true,
            Policy::Evict { among: Among::WithExpiry, .. } => self.expiring > 0,
        }
    }

    /// Whether emptying a full page is worth it: most of its entries may go.
    pub(super) fn judges(&self) -> bool {
        match self.evictor.policy() {
            Policy::NoEviction => false,
            Policy::Evict { among: Among::All, .. } => true,
            Policy::Evict { among: Among::WithExpiry, .. } => {
                self.expiring > self.index.items() / 2
            }
        }
    }

    /// Evicts the policy's next candidates until there are enough, at most so many, and no more
    /// once searching for them took long. Returns whether there was one.
    fn evict_some(
        &mut self,
        most: usize,
        why: Eviction,
        now: Millis,
        changes: &mut impl Changes,
        enough: impl Fn(&Self) -> bool,
    ) -> bool {
        let steps = self.evictor.steps();
        let mut evicted = false;
        for _ in 0..most {
            if enough(self)
                || self.evictor.steps() - steps > VICTIM_STEPS
                || !self.evict(why, now, changes)
            {
                break;
            }
            evicted = true;
        }
        evicted
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
    fn compact(&mut self, class: Class, now: Millis, changes: &mut impl Changes) {
        self.compact_index(if self.is_urgent() { LEAVES_URGENT } else { LEAVES_SLICE });
        let left = self.heap.pages_left();
        if left < LOW_PAGES + self.room.spare {
            let least = if self.is_urgent() { SLOTS_URGENT } else { SLOTS_LOW };
            self.empty_a_page(least, Some(class), now, changes);
        } else if self.room.entries.is_some() {
            self.empty_a_page(SLOTS_IN_PASSING, None, now, changes);
        }
    }

    /// Goes on with the page that is being emptied, or begins with one: so many slots of it, or
    /// as many as pay for one of a class.
    fn empty_a_page(
        &mut self,
        least: usize,
        pays_for: Option<Class>,
        now: Millis,
        changes: &mut impl Changes,
    ) {
        if self.room.entries.is_none() {
            self.room.entries = self.choose_page();
        }
        let (is_urgent, judges) = (self.is_urgent(), self.judges());
        let Some(evacuation) = &mut self.room.entries else {
            return;
        };
        if is_urgent && evacuation.how == How::Judge && judges {
            // Where all are in use, judging would move them all, and take the last pages for it.
            evacuation.how = How::Drop;
        }
        let mut slots = least;
        if let Some(class) = pays_for {
            let (page, _) = self.heap.slots_of_page(evacuation.page);
            let price = class.slot_bytes() * page.slots() / PAGE_BYTES;
            slots = slots.max(if is_urgent { 4 * price } else { 2 * price });
        }
        self.empty_slots(slots.min(SLOTS_MAX), now, changes);
    }

    /// Empties some slots of a page, whatever lies there that may go at all.
    fn empty_in_haste(&mut self, slots: usize, now: Millis, changes: &mut impl Changes) {
        if self.room.entries.is_none() {
            self.room.entries = self.choose_page();
        }
        if let Some(evacuation) = &mut self.room.entries {
            evacuation.how = How::Drop;
        }
        self.empty_slots(slots, now, changes);
    }

    /// Sets the number of pages that the budget allows. A shard that has more gets there in
    /// slices; meanwhile it has what it needs to go on.
    pub(super) fn lower_limit(&mut self, pages: u32) {
        self.room.limit = pages;
        self.room.spare = i64::from((pages / SPARE_SHARE).min(SPARE_PAGES_MAX));
        let least = self.heap.pages_in_use() + SHORT_PAGES as u32;
        self.heap.set_limit(pages.max(least));
    }

    /// Goes on emptying pages between requests where free ones are low, so that writes find
    /// them.
    pub(super) fn refill(&mut self, now: Millis, changes: &mut impl Changes) {
        // On the way down to a lowered budget, `shrink` does that and more.
        let is_down = self.heap.limit() <= self.room.limit;
        if !is_down || self.heap.pages_left() >= LOW_PAGES + self.room.spare {
            return;
        }
        if self.is_short() {
            let before = self.held();
            self.empty_in_haste(SLOTS_AWAITED, now, changes);
            self.note_gain(before);
        } else {
            self.empty_a_page(SLOTS_SLICE, None, now, changes);
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
        let evicted = self.evict_some(VICTIMS_MAX, Eviction::Budget, now, changes, |_| false);
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
