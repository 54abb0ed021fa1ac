//! Compaction: which page is emptied next, and which of its slots are in use.

use std::ops::Range;

use super::{Handle, Heap, NO_PAGE, State, bin_of};
use crate::class::{Class, Kind, PAGE_BYTES};

impl Heap {
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

    /// Whether a slot of the class of a listed page can be had without another page, and not from
    /// this one.
    pub(crate) fn has_slot_besides(&self, number: u32) -> bool {
        let page = &self.pages[number as usize];
        let class = Class::from_id(page.class);
        let others = self.bins[class.id()] & !(1 << bin_of(page.used, class));
        others != 0
            || page.next != NO_PAGE
            || page.previous != NO_PAGE
            || self.current_has_slot(class)
    }

    /// A page of a kind with slots in use, by number from `from` on: of the first `choice` that
    /// are at most `steps` pages away the one with the fewest. And where to look next.
    pub(crate) fn page_in_use_from(
        &self,
        from: u32,
        kind: Kind,
        steps: u32,
        choice: usize,
    ) -> (u32, Option<u32>) {
        let mut number = from.max(1);
        let mut seen = 0;
        let mut fewest: Option<(u16, u32)> = None;
        for _ in 0..steps {
            if number >= self.untouched {
                number = 1;
            }
            let page = &self.pages[number as usize];
            if matches!(page.state, State::Full | State::Listed | State::Current)
                && !self.is_flushed(page)
                && Class::from_id(page.class).kind() == kind
            {
                seen += 1;
                if fewest.is_none_or(|(used, _)| page.used < used) {
                    fewest = Some((page.used, number));
                }
            }
            number += 1;
            if seen == choice {
                break;
            }
        }
        (number, fewest.map(|(_, page)| page))
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
}
