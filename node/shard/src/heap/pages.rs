//! Pages: which class has which, and the lists that they hang in.

use std::sync::atomic::Ordering;

use super::{Heap, Large, NO_PAGE, NO_SLOT, Page, State};
use crate::class::{Class, PAGE_BYTES};

impl Heap {
    /// Retires a class's current page, which is full, and picks the next.
    pub(super) fn next_current(&mut self, class: Class) {
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
            self.progress
                .used
                .store(u64::from(self.untouched) * PAGE_BYTES as u64, Ordering::Relaxed);
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
        self.classes[class.kind() as usize] += usize::from(self.class_pages[class.id()] == 1);
        self.in_use[class.kind() as usize] += 1;
        self.in_use_all += 1;
        self.capacity[class.kind() as usize] += class.page_slot_bytes();
        number
    }

    pub(super) fn release_page(&mut self, number: u32, class: Class) {
        let page = &mut self.pages[number as usize];
        page.state = State::Free;
        page.next = self.free_resident;
        self.free_resident = number;
        self.free_resident_count += 1;
        self.class_pages[class.id()] -= 1;
        self.classes[class.kind() as usize] -= usize::from(self.class_pages[class.id()] == 0);
        self.in_use[class.kind() as usize] -= 1;
        self.capacity[class.kind() as usize] -= class.page_slot_bytes();
        self.in_use_all -= 1;
    }

    pub(super) fn list(&mut self, number: u32, bin: usize) {
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

    pub(super) fn unlist(&mut self, number: u32, bin: usize) {
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
}
