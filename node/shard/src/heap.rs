//! Pages and slots: who gets which bytes of the arena.
//!
//! The arena is cut into pages of [`PAGE_BYTES`]; a page in use holds slots of one
//! [`Class`]. Pages with free slots hang in lists by class and by how full they are: new
//! slots come from the fullest, so that the emptiest drain, and compaction finds these at
//! once. A page without a slot in use goes back to all classes.
//!
//! A flush drops all pages but those of large values at once: it only counts, and the pages go
//! back as a pass over the page table comes to them. Nothing but their records is touched.
//!
//! The budget is a number of pages. The heap counts against it and does not enforce it: the
//! shard makes room before it writes, and the reserved address space is a little longer than
//! the largest budget for what cannot be refused.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::class::{CLASSES, Class, KINDS, Kind, PAGE_BYTES};
use crate::config::HugePages;
use crate::reserve::{Pin, Prefaulter, Reservation, Table, Zeroed};

/// Pages of address space beyond the largest budget.
const SPARE_PAGES: u32 = 1024;

/// Which slot of the arena: its byte offset in units of eight, 36 bits, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Handle(u64);

impl Handle {
    pub(crate) const BITS: u32 = 36;
    /// Bytes that handles can name.
    pub(crate) const REACH: u64 = 8 << Self::BITS;

    #[inline]
    pub(crate) fn new(units: u64) -> Self {
        debug_assert!(units != 0 && units >> Self::BITS == 0);
        Self(units)
    }

    #[inline]
    pub(crate) fn units(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) fn offset(self) -> usize {
        (self.0 as usize) * 8
    }

    #[inline]
    pub(crate) fn page(self) -> u32 {
        (self.offset() / PAGE_BYTES) as u32
    }
}

/// No page, and no slot of a page.
const NO_PAGE: u32 = u32::MAX;
const NO_SLOT: u16 = u16::MAX;

/// How full a page is, in eighths.
const BINS: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum State {
    /// Of no class. Never used, or all slots came back.
    Free = 0,
    /// New slots of the class come from here.
    Current,
    /// Has free slots and hangs in the list of its bin.
    Listed,
    /// Has none.
    Full,
    /// Compaction is emptying it.
    Evacuating,
}

/// One page's record.
#[derive(Clone, Copy)]
#[repr(C)]
struct Page {
    /// Neighbours in its list; `next` also links free pages.
    next: u32,
    previous: u32,
    /// Slots in use.
    used: u16,
    /// Slots ever handed out since the page got its class; those beyond are untouched.
    handed_out: u16,
    /// First of the slots that came back, linked through their own bytes.
    free: u16,
    class: u8,
    state: State,
    /// Flushes that had been when it got its class.
    flush: u32,
    /// Whether it has, or had, an entry whose value is in chunks.
    large: Large,
}

impl Page {
    /// Bytes of the record.
    const BYTES: u64 = size_of::<Page>() as u64;
}

/// Whether a page of entries may refer to chunks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Large {
    No = 0,
    Maybe,
}

// SAFETY: all fields are numbers, and zero is `State::Free` and `Large::No`.
unsafe impl Zeroed for Page {}

/// See the module.
///
/// Invariants:
/// - LISTED: a page is in the list of its class and bin exactly when its state is `Listed`;
///   `bins` has a bit for each list that has a page.
/// - FLUSHED: a page of a kind that flushes drop, and with fewer flushes in its record than
///   there have been, is in no list, and nothing refers to its slots.
/// - FREE MARK: the first eight bytes of a slot that came back have a zero low half and a high
///   half that is not zero. Neither a live entry nor a live leaf starts so.
pub(crate) struct Heap {
    arena: Reservation,
    pages: Table<Page>,
    /// Pages never used start here.
    untouched: u32,
    /// The same in bytes, for the helper that faults memory in.
    progress: Arc<AtomicU64>,
    /// First page of the free pages that hold memory, and how many.
    free_resident: u32,
    free_resident_count: u32,
    /// First page of the free pages whose memory went back to the system.
    free_released: u32,
    free_released_count: u32,
    /// Pages of a class, by kind.
    in_use: [u32; KINDS],
    in_use_all: u32,
    /// Bytes of slots in use, by kind.
    slot_bytes: [u64; KINDS],
    /// Bytes of all slots of pages in use, by kind.
    capacity: [u64; KINDS],
    /// The budget.
    limit: u32,
    /// Pages in use, by class.
    class_pages: [u32; CLASSES],
    current: [u32; CLASSES],
    lists: [[u32; BINS]; CLASSES],
    bins: [u8; CLASSES],
    flushes: u32,
    /// Where the pass that gives flushed pages back is, and where it ends.
    flushed: Range<u32>,
}

impl Heap {
    /// Bytes of the records of so many pages.
    pub(crate) fn record_bytes(pages: u64) -> u64 {
        pages * Page::BYTES
    }

    /// A heap for budgets up to `pages_max`.
    pub(crate) fn new(pages_max: u32, huge_pages: HugePages) -> io::Result<Self> {
        // Page 0 stays unused, so that no handle is zero.
        let reserved = pages_max as usize + SPARE_PAGES as usize + 1;
        Ok(Self {
            arena: Reservation::new(reserved * PAGE_BYTES, huge_pages)?,
            pages: Table::new(reserved)?,
            untouched: 1,
            progress: Arc::new(AtomicU64::new(PAGE_BYTES as u64)),
            free_resident: NO_PAGE,
            free_resident_count: 0,
            free_released: NO_PAGE,
            free_released_count: 0,
            in_use: [0; KINDS],
            in_use_all: 0,
            slot_bytes: [0; KINDS],
            capacity: [0; KINDS],
            limit: pages_max,
            class_pages: [0; CLASSES],
            current: [NO_PAGE; CLASSES],
            lists: [[NO_PAGE; BINS]; CLASSES],
            bins: [0; CLASSES],
            flushes: 0,
            flushed: 0..0,
        })
    }

    // The bytes.

    /// `length` bytes from a slot's start.
    #[inline]
    pub(crate) fn bytes(&self, handle: Handle, length: usize) -> &[u8] {
        let offset = handle.offset();
        self.arena.bytes(offset..offset + length)
    }

    /// `length` bytes from a slot's start.
    #[inline]
    pub(crate) fn bytes_mut(&mut self, handle: Handle, length: usize) -> &mut [u8] {
        let offset = handle.offset();
        self.arena.bytes_mut(offset..offset + length)
    }

    /// From a slot's start to the end of its page.
    #[inline]
    pub(crate) fn rest_of_page(&self, handle: Handle) -> &[u8] {
        let offset = handle.offset();
        let end = (offset | (PAGE_BYTES - 1)) + 1;
        self.arena.bytes(offset..end)
    }

    /// `length` words from a slot's start.
    #[inline]
    pub(crate) fn words(&self, handle: Handle, length: usize) -> &[u64] {
        let start = handle.units() as usize;
        self.arena.words(start..start + length)
    }

    /// `length` words from a slot's start.
    #[inline]
    pub(crate) fn words_mut(&mut self, handle: Handle, length: usize) -> &mut [u64] {
        let start = handle.units() as usize;
        self.arena.words_mut(start..start + length)
    }

    /// One word at a place in the arena.
    #[inline]
    pub(crate) fn word(&self, units: u64) -> u64 {
        self.arena.words(units as usize..units as usize + 1)[0]
    }

    /// One word at a place in the arena.
    #[inline]
    pub(crate) fn word_mut(&mut self, units: u64) -> &mut u64 {
        &mut self.arena.words_mut(units as usize..units as usize + 1)[0]
    }

    /// A word after a slot's start as a counter that pins share.
    pub(crate) fn counter(&self, handle: Handle, word: usize) -> &AtomicU64 {
        self.arena.counter(handle.units() as usize + word)
    }

    /// Counts in a word after a slot's start for as long as the pin lasts.
    pub(crate) fn pin(&self, handle: Handle, word: usize) -> Pin {
        self.arena.pin(handle.units() as usize + word)
    }

    /// Copies `length` bytes between two slots.
    pub(crate) fn copy(&mut self, from: Handle, to: Handle, length: usize) {
        let start = from.offset();
        self.arena.copy_within(start..start + length, to.offset());
    }

    /// Copies a range of one slot's bytes to an offset in another.
    pub(crate) fn copy_bytes(&mut self, from: Handle, range: Range<usize>, to: Handle, at: usize) {
        let start = from.offset();
        self.arena.copy_within(start + range.start..start + range.end, to.offset() + at);
    }

    /// The class of a slot in use.
    #[inline]
    pub(crate) fn class_of(&self, handle: Handle) -> Class {
        Class::from_id(self.pages[handle.page() as usize].class)
    }

    // Slots.

    /// Whether a slot of the class can be had without another page.
    #[inline]
    pub(crate) fn has_slot(&self, class: Class) -> bool {
        let current = self.current[class.id()];
        self.bins[class.id()] != 0
            || (current != NO_PAGE && (self.pages[current as usize].used as usize) < class.slots())
    }

    /// Takes a slot.
    #[inline]
    pub(crate) fn take(&mut self, class: Class) -> Handle {
        loop {
            let current = self.current[class.id()];
            if current != NO_PAGE
                && let Some(handle) = self.take_from(current, class)
            {
                self.slot_bytes[class.kind() as usize] += class.slot_bytes() as u64;
                return handle;
            }
            self.next_current(class);
        }
    }

    #[inline]
    fn take_from(&mut self, number: u32, class: Class) -> Option<Handle> {
        let page = &mut self.pages[number as usize];
        let base = u64::from(number) * (PAGE_BYTES as u64 / 8);
        let units = class.slot_bytes() as u64 / 8;
        if page.free != NO_SLOT {
            let handle = Handle::new(base + u64::from(page.free) * units);
            let link = handle.units() as usize;
            page.free = (self.arena.words(link..link + 1)[0] >> 32) as u32 as u16;
            page.used += 1;
            if page.free != NO_SLOT {
                // It was given back long ago; the next take reads its link and writes over it.
                let next = (base + u64::from(page.free) * units) as usize;
                for line in [next, next + 8] {
                    self.arena.prefetch_word(line);
                }
            }
            Some(handle)
        } else if (page.handed_out as usize) < class.slots() {
            let handle = Handle::new(base + u64::from(page.handed_out) * units);
            page.handed_out += 1;
            page.used += 1;
            Some(handle)
        } else {
            None
        }
    }

    /// Retires a class's current page, which is full, and picks the next.
    fn next_current(&mut self, class: Class) {
        let full = self.current[class.id()];
        if full != NO_PAGE {
            self.pages[full as usize].state = State::Full;
        }
        let bins = self.bins[class.id()];
        let number = if bins != 0 {
            let bin = 7 - bins.leading_zeros() as usize;
            let number = self.lists[class.id()][bin];
            self.unlist(number, bin);
            number
        } else {
            self.new_page(class)
        };
        self.pages[number as usize].state = State::Current;
        self.current[class.id()] = number;
    }

    fn new_page(&mut self, class: Class) -> u32 {
        let number = if self.free_resident != NO_PAGE {
            let number = self.free_resident;
            self.free_resident = self.pages[number as usize].next;
            self.free_resident_count -= 1;
            number
        } else if self.free_released != NO_PAGE {
            let number = self.free_released;
            self.free_released = self.pages[number as usize].next;
            self.free_released_count -= 1;
            number
        } else {
            let number = self.untouched;
            // Pages at multiples of 32 GiB stay unused: no handle in use has a zero low half.
            let unusable = (1_u64 << 32) * 8 / PAGE_BYTES as u64;
            self.untouched += if u64::from(number + 1) % unusable == 0 { 2 } else { 1 };
            self.progress.store(u64::from(self.untouched) * PAGE_BYTES as u64, Ordering::Relaxed);
            assert!((number as usize) < self.pages.len(), "the arena's address space is used up");
            number
        };
        self.pages[number as usize] = Page {
            next: NO_PAGE,
            previous: NO_PAGE,
            used: 0,
            handed_out: 0,
            free: NO_SLOT,
            class: class.id() as u8,
            state: State::Current,
            flush: self.flushes,
            large: Large::No,
        };
        self.class_pages[class.id()] += 1;
        self.in_use[class.kind() as usize] += 1;
        self.in_use_all += 1;
        self.capacity[class.kind() as usize] += class.page_slot_bytes();
        number
    }

    /// Gives a slot back.
    #[inline]
    pub(crate) fn give(&mut self, handle: Handle) {
        let number = handle.page();
        let page = &mut self.pages[number as usize];
        let class = Class::from_id(page.class);
        debug_assert!(page.state != State::Free && page.used > 0);
        let before = bin_of(page.used, class);
        let slot = (handle.offset() % PAGE_BYTES / class.slot_bytes()) as u16;
        // Bit 16 keeps the high half from being zero: FREE MARK.
        let mark = (u64::from(page.free) | 1 << 16) << 32;
        page.free = slot;
        page.used -= 1;
        let (used, state) = (page.used, page.state);
        *self.word_mut(handle.units()) = mark;
        self.slot_bytes[class.kind() as usize] -= class.slot_bytes() as u64;
        if used == 0 {
            match state {
                State::Current => self.current[class.id()] = NO_PAGE,
                State::Listed => self.unlist(number, before),
                State::Full | State::Evacuating => {}
                State::Free => unreachable!("a slot of a free page came back"),
            }
            self.release_page(number, class);
            return;
        }
        let after = bin_of(used, class);
        match state {
            State::Full => self.list(number, after),
            State::Listed if after != before => {
                self.unlist(number, before);
                self.list(number, after);
            }
            _ => {}
        }
    }

    fn release_page(&mut self, number: u32, class: Class) {
        let page = &mut self.pages[number as usize];
        page.state = State::Free;
        page.next = self.free_resident;
        self.free_resident = number;
        self.free_resident_count += 1;
        self.class_pages[class.id()] -= 1;
        self.in_use[class.kind() as usize] -= 1;
        self.capacity[class.kind() as usize] -= class.page_slot_bytes();
        self.in_use_all -= 1;
    }

    fn list(&mut self, number: u32, bin: usize) {
        let class = self.pages[number as usize].class as usize;
        let head = self.lists[class][bin];
        let page = &mut self.pages[number as usize];
        page.state = State::Listed;
        page.previous = NO_PAGE;
        page.next = head;
        if head != NO_PAGE {
            self.pages[head as usize].previous = number;
        }
        self.lists[class][bin] = number;
        self.bins[class] |= 1 << bin;
    }

    fn unlist(&mut self, number: u32, bin: usize) {
        let Page { next, previous, class, .. } = self.pages[number as usize];
        let class = class as usize;
        if next != NO_PAGE {
            self.pages[next as usize].previous = previous;
        }
        if previous != NO_PAGE {
            self.pages[previous as usize].next = next;
        } else {
            self.lists[class][bin] = next;
            if next == NO_PAGE {
                self.bins[class] &= !(1 << bin);
            }
        }
    }

    /// Notes that an entry in this slot refers to chunks.
    pub(crate) fn mark_large(&mut self, handle: Handle) {
        self.pages[handle.page() as usize].large = Large::Maybe;
    }

    // Flushing.

    /// Drops all slots but chunks.
    pub(crate) fn flush(&mut self) {
        self.flushes += 1;
        self.flushed = 1..self.untouched;
        for kind in [Kind::Entry, Kind::Leaf, Kind::Node, Kind::Wheel, Kind::Policy] {
            self.slot_bytes[kind as usize] = 0;
            for class in Class::of_kind(kind) {
                self.current[class.id()] = NO_PAGE;
                self.lists[class.id()] = [NO_PAGE; BINS];
                self.bins[class.id()] = 0;
            }
        }
    }

    fn is_flushed(&self, page: &Page) -> bool {
        page.state != State::Free
            && page.flush != self.flushes
            && Class::from_id(page.class).kind() != Kind::Chunk
    }

    /// Whether there may be flushed pages to give back.
    pub(crate) fn has_flushed(&self) -> bool {
        !self.flushed.is_empty()
    }

    /// Looks at so many pages' records and gives those that were flushed back; pages whose
    /// entries may refer to chunks count for all, and `each` is called for their entries.
    pub(crate) fn sweep_flushed(
        &mut self,
        mut records: usize,
        mut each: impl FnMut(&mut Self, Handle),
    ) {
        while records > 0 {
            let Some(number) = self.flushed.next() else {
                return;
            };
            records -= 1;
            let page = self.pages[number as usize];
            if !self.is_flushed(&page) {
                continue;
            }
            if page.large == Large::Maybe {
                records = 0;
                for slot in 0..page.handed_out {
                    let handle = self.slot_handle(number, slot);
                    if self.is_live(handle) {
                        each(self, handle);
                    }
                }
            }
            self.release_page(number, Class::from_id(page.class));
        }
    }

    // The budget.

    /// Sets the budget, in pages.
    pub(crate) fn set_limit(&mut self, pages: u32) {
        self.limit = pages;
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// Pages that may still be taken; below zero when over the budget.
    #[inline]
    pub(crate) fn pages_left(&self) -> i64 {
        i64::from(self.limit) - i64::from(self.in_use_all)
    }

    /// Pages in use, by kind.
    pub(crate) fn pages_of(&self, kind: Kind) -> u32 {
        self.in_use[kind as usize]
    }

    pub(crate) fn pages_in_use(&self) -> u32 {
        self.in_use_all
    }

    /// Bytes of slots in use, by kind.
    pub(crate) fn slot_bytes_of(&self, kind: Kind) -> u64 {
        self.slot_bytes[kind as usize]
    }

    /// Bytes of all slots of pages in use, taken or not, by kind.
    pub(crate) fn capacity_of(&self, kind: Kind) -> u64 {
        self.capacity[kind as usize]
    }

    /// Classes of a kind that have pages.
    pub(crate) fn classes_in_use(&self, kind: Kind) -> usize {
        Class::of_kind(kind).filter(|class| self.class_pages[class.id()] > 0).count()
    }

    /// Gives the memory of at most `most` free pages back to the system while more is held than
    /// the budget allows. Returns whether there is more to give.
    pub(crate) fn release_memory(&mut self, most: usize) -> bool {
        for _ in 0..most {
            if self.in_use_all + self.free_resident_count <= self.limit
                || self.free_resident == NO_PAGE
            {
                return false;
            }
            let number = self.free_resident;
            self.free_resident = self.pages[number as usize].next;
            self.free_resident_count -= 1;
            let start = number as usize * PAGE_BYTES;
            self.arena.release(start..start + PAGE_BYTES);
            self.pages[number as usize].next = self.free_released;
            self.free_released = number;
            self.free_released_count += 1;
        }
        true
    }

    /// What the helper that faults memory in ahead of use needs.
    pub(crate) fn prefaulter(&self) -> Prefaulter {
        self.arena.prefaulter(self.progress.clone())
    }

    // Compaction.

    /// The emptiest page of a kind, with how full it is in eighths, among the first pages of
    /// each class's emptiest list.
    pub(crate) fn emptiest(&self, kind: Kind) -> Option<(u32, usize)> {
        Class::of_kind(kind)
            .filter(|class| self.bins[class.id()] != 0)
            .map(|class| {
                let bin = self.bins[class.id()].trailing_zeros() as usize;
                (self.lists[class.id()][bin], bin)
            })
            .min_by_key(|(number, bin)| {
                let page = &self.pages[*number as usize];
                let slots = Class::from_id(page.class).slots();
                (*bin, usize::from(page.used) * 256 / slots)
            })
    }

    /// A page of a kind with slots in use, by number from `from` on, at most `steps` pages away,
    /// and where to look next.
    pub(crate) fn full_page_from(&self, from: u32, kind: Kind, steps: u32) -> (u32, Option<u32>) {
        let mut number = from.max(1);
        for _ in 0..steps {
            if number >= self.untouched {
                number = 1;
            }
            let page = &self.pages[number as usize];
            if matches!(page.state, State::Full | State::Listed | State::Current)
                && !self.is_flushed(page)
                && Class::from_id(page.class).kind() == kind
            {
                return (number + 1, Some(number));
            }
            number += 1;
        }
        (number, None)
    }

    /// Takes a page out of use for new slots, to be emptied.
    pub(crate) fn evacuate(&mut self, number: u32) {
        let page = self.pages[number as usize];
        match page.state {
            State::Listed => self.unlist(number, bin_of(page.used, Class::from_id(page.class))),
            State::Current => self.current[page.class as usize] = NO_PAGE,
            State::Full => {}
            State::Free | State::Evacuating => unreachable!("page {number} cannot be evacuated"),
        }
        self.pages[number as usize].state = State::Evacuating;
    }

    /// Whether a page is (still) being emptied.
    pub(crate) fn is_evacuating(&self, number: u32) -> bool {
        self.pages[number as usize].state == State::Evacuating
    }

    /// The slots of a page that were handed out, as handles by index.
    pub(crate) fn slots_of_page(&self, number: u32) -> (Class, Range<u16>) {
        let page = &self.pages[number as usize];
        (Class::from_id(page.class), 0..page.handed_out)
    }

    /// The handle of a page's slot.
    pub(crate) fn slot_handle(&self, number: u32, slot: u16) -> Handle {
        let class = Class::from_id(self.pages[number as usize].class);
        Handle::new(
            u64::from(number) * (PAGE_BYTES as u64 / 8)
                + u64::from(slot) * (class.slot_bytes() as u64 / 8),
        )
    }

    /// Whether a slot that was handed out is in use; see FREE MARK. For entries and leaves.
    #[inline]
    pub(crate) fn is_live(&self, handle: Handle) -> bool {
        let word = self.word(handle.units());
        word as u32 != 0 || word >> 32 == 0
    }

    /// Checks lists and counts.
    pub(crate) fn invariants(&self) {
        let mut in_use = [0; KINDS];
        let mut slot_bytes = [0; KINDS];
        let mut capacity = [0; KINDS];
        let mut listed = 0;
        for number in 1..self.untouched {
            let page = &self.pages[number as usize];
            if page.state == State::Free {
                continue;
            }
            let class = Class::from_id(page.class);
            in_use[class.kind() as usize] += 1;
            capacity[class.kind() as usize] += class.page_slot_bytes();
            if self.is_flushed(page) {
                assert!(self.flushed.contains(&number), "FLUSHED");
                continue;
            }
            slot_bytes[class.kind() as usize] += u64::from(page.used) * class.slot_bytes() as u64;
            let mut free = 0;
            let mut slot = page.free;
            while slot != NO_SLOT {
                let handle = self.slot_handle(number, slot);
                assert!(slot < page.handed_out && !self.is_live(handle));
                slot = (self.word(handle.units()) >> 32) as u32 as u16;
                free += 1;
            }
            assert_eq!(page.used + free, page.handed_out, "page {number}");
            assert!(page.used > 0 || page.state == State::Current, "page {number}");
            match page.state {
                State::Listed => {
                    listed += 1;
                    assert!((page.used as usize) < class.slots());
                }
                State::Full => assert_eq!(page.used as usize, class.slots()),
                State::Current => assert_eq!(self.current[class.id()], number),
                State::Evacuating | State::Free => {}
            }
        }
        assert_eq!(in_use, self.in_use);
        assert_eq!(capacity, self.capacity);
        assert_eq!(in_use.iter().sum::<u32>(), self.in_use_all);
        assert_eq!(slot_bytes, self.slot_bytes);
        for class in 0..CLASSES {
            for bin in 0..BINS {
                let mut number = self.lists[class][bin];
                assert_eq!(number != NO_PAGE, self.bins[class] & 1 << bin != 0);
                let mut previous = NO_PAGE;
                while number != NO_PAGE {
                    let page = &self.pages[number as usize];
                    assert_eq!(page.state, State::Listed);
                    assert_eq!(page.class as usize, class);
                    assert_eq!(page.previous, previous);
                    assert_eq!(bin_of(page.used, Class::from_id(page.class)), bin);
                    previous = number;
                    number = page.next;
                    listed -= 1;
                }
            }
        }
        assert_eq!(listed, 0, "LISTED");
    }
}

/// The bin of a page with so many slots in use, not all of them.
#[inline]
fn bin_of(used: u16, class: Class) -> usize {
    (used as usize * BINS / class.slots()).min(BINS - 1)
}
