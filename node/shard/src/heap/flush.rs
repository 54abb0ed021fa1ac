//! Flushing: everything but chunks is dropped at once, and comes back page by page.

use super::{BINS, DEAD, Handle, Heap, Large, NO_PAGE, Page, State};
use crate::class::{Class, Kind};

impl Heap {
    /// Drops all slots but chunks.
    pub(crate) fn flush(&mut self) {
        self.flushes += 1;
        self.flushed = 1..self.untouched;
        self.flushed_slot = 0;
        for kind in [Kind::Entry, Kind::Leaf, Kind::Node, Kind::Wheel, Kind::Policy] {
            self.slot_bytes[kind as usize] = 0;
            for class in Class::of_kind(kind) {
                self.current[class.id()] = NO_PAGE;
                self.lists[class.id()] = [NO_PAGE; BINS];
                self.bins[class.id()] = 0;
            }
        }
    }

    pub(super) fn is_flushed(&self, page: &Page) -> bool {
        page.state != State::Free
            && page.flush != self.flushes
            && Class::from_id(page.class).kind() != Kind::Chunk
    }

    /// Whether there may be flushed pages to give back.
    pub(crate) fn has_flushed(&self) -> bool {
        !self.flushed.is_empty()
    }

    /// Looks at so many pages' records and gives those that were flushed back; pages whose
    /// entries may refer to chunks count for all, and so many of their slots are looked at:
    /// `each` is called for their entries.
    pub(crate) fn sweep_flushed(
        &mut self,
        mut records: usize,
        slots: usize,
        mut each: impl FnMut(&mut Self, Handle),
    ) {
        while records > 0 && !self.flushed.is_empty() {
            records -= 1;
            let number = self.flushed.start;
            let page = self.pages[number as usize];
            if self.is_flushed(&page) {
                if page.large == Large::Maybe {
                    records = 0;
                    let end = page.handed_out.min(self.flushed_slot.saturating_add(slots as u16));
                    for slot in std::mem::replace(&mut self.flushed_slot, end)..end {
                        let handle = self.slot_handle(number, slot);
                        if self.is_live(handle) {
                            each(self, handle);
                            // Another flush begins this page again.
                            *self.word_mut(handle.units()) = DEAD;
                        }
                    }
                    if end < page.handed_out {
                        return;
                    }
                }
                self.release_page(number, Class::from_id(page.class));
            }
            self.flushed_slot = 0;
            self.flushed.start += 1;
        }
    }
}
