//! What is used, what may be used, and memory that goes back to the system.

use std::sync::atomic::Ordering;

use super::{Heap, NO_PAGE};
use crate::class::{Kind, PAGE_BYTES};
use crate::reserve::Prefaulter;

impl Heap {
    /// Sets the budget, in pages.
    pub(crate) fn set_limit(&mut self, pages: u32) {
        self.limit = pages;
        let allowed = (u64::from(pages) + 1) * PAGE_BYTES as u64;
        self.progress.allowed.store(allowed, Ordering::Relaxed);
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

    /// Bytes of slots in use, of all kinds.
    pub(crate) fn slot_bytes_of_all(&self) -> u64 {
        self.slot_bytes.iter().sum()
    }

    /// Bytes of all slots of pages in use, taken or not, by kind.
    pub(crate) fn capacity_of(&self, kind: Kind) -> u64 {
        self.capacity[kind as usize]
    }

    /// Classes of a kind that have pages.
    pub(crate) fn classes_in_use(&self, kind: Kind) -> usize {
        self.classes[kind as usize]
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
}
