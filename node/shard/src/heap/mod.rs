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

mod account;
mod compaction;
mod flush;
mod invariants;
mod pages;
mod slots;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::class::{CLASSES, Class, KINDS, PAGE_BYTES};
use crate::index::group::GROUP;
use crate::reserve::{Backing, Pin, Progress, Reservation, Table, Zeroed};

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

/// The first word of a slot that came back and has none after it: FREE MARK.
const DEAD: u64 = (NO_SLOT as u64 | 1 << 16) << 32;

/// What is written over slots that came back where assertions are on.
const POISON: u8 = 0xDD;

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
    /// For the helper that faults memory in.
    progress: Arc<Progress>,
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
    /// Pages in use, by class, and classes that have any, by kind.
    class_pages: [u32; CLASSES],
    classes: [usize; KINDS],
    current: [u32; CLASSES],
    lists: [[u32; BINS]; CLASSES],
    bins: [u8; CLASSES],
    flushes: u32,
    /// Slots given back.
    given: u64,
    /// Where the pass that gives flushed pages back is, and where it ends.
    flushed: Range<u32>,
    /// The slot that it has come to in a page whose entries may refer to chunks.
    flushed_slot: u16,
}

impl Heap {
    /// Bytes of the records of so many pages.
    pub(crate) fn record_bytes(pages: u64) -> u64 {
        pages * Page::BYTES
    }

    /// A heap for budgets up to `pages_max`.
    pub(crate) fn new(pages_max: u32, backing: Backing) -> io::Result<Self> {
        // Page 0 stays unused, so that no handle is zero.
        let reserved = pages_max as usize + SPARE_PAGES as usize + 1;
        Ok(Self {
            arena: Reservation::new(reserved * PAGE_BYTES, backing)?,
            pages: Table::new(reserved)?,
            untouched: 1,
            progress: Arc::new(Progress::default()),
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
            classes: [0; KINDS],
            current: [NO_PAGE; CLASSES],
            lists: [[NO_PAGE; BINS]; CLASSES],
            bins: [0; CLASSES],
            flushes: 0,
            given: 0,
            flushed: 0..0,
            flushed_slot: 0,
        })
    }

    /// A number that grows whenever memory that was in use is no more.
    #[inline]
    pub(crate) fn frees(&self) -> u64 {
        self.given + u64::from(self.flushes)
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

    /// Words of one slot, and words of another to be written, each with how many of them.
    #[inline]
    pub(crate) fn words_and_mut(
        &mut self,
        (one, one_length): (Handle, usize),
        (other, other_length): (Handle, usize),
    ) -> (&[u64], &mut [u64]) {
        let (one, other) = (one.units() as usize, other.units() as usize);
        self.arena.words_and_mut(one..one + one_length, other..other + other_length)
    }

    /// The words of one line of the index.
    #[inline]
    pub(crate) fn group(&self, units: u64) -> &[u64; GROUP] {
        let start = units as usize;
        self.arena.words(start..start + GROUP).as_array().expect("as many as asked for")
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
}

/// The bin of a page with so many slots in use, not all of them.
#[inline]
fn bin_of(used: u16, class: Class) -> usize {
    (used as usize * BINS / class.slots()).min(BINS - 1)
}
