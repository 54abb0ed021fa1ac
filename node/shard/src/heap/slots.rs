//! Slots: taken from the fullest page of their class that has room, and given back.

use super::{Handle, Heap, Large, NO_PAGE, NO_SLOT, POISON, State, bin_of};
use crate::class::{Class, PAGE_BYTES};

impl Heap {
    /// Whether a slot of the class can be had without another page.
    #[inline]
    pub(crate) fn has_slot(&self, class: Class) -> bool {
        self.bins[class.id()] != 0 || self.current_has_slot(class)
    }

    /// Whether the page that new slots of the class come from has another.
    #[inline]
    pub(super) fn current_has_slot(&self, class: Class) -> bool {
        let current = self.current[class.id()];
        current != NO_PAGE && (self.pages[current as usize].used as usize) < class.slots()
    }

    /// The nearest class to this one, itself included, that has a slot without another page;
    /// one that is near.
    pub(crate) fn near_slot(&self, class: Class) -> Option<Class> {
        class.near().find(|class| self.has_slot(*class))
    }

    /// The same, however far.
    pub(crate) fn far_slot(&self, class: Class) -> Option<Class> {
        class.far().find(|class| self.has_slot(*class))
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

    /// Gives a slot back.
    #[inline]
    pub(crate) fn give(&mut self, handle: Handle) {
        self.given += 1;
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
        if cfg!(debug_assertions) {
            // Whoever still reads it reads something conspicuous.
            self.bytes_mut(handle, class.slot_bytes()).fill(POISON);
        }
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

    /// Notes that an entry in this slot refers to chunks.
    pub(crate) fn mark_large(&mut self, handle: Handle) {
        self.pages[handle.page() as usize].large = Large::Maybe;
    }
}
