//! The walk over all pages, for tests.

use super::{BINS, Heap, NO_PAGE, NO_SLOT, State, bin_of};
use crate::class::{CLASSES, Class, KINDS, Kind};

impl Heap {
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
        for kind in [Kind::Entry, Kind::Leaf, Kind::Node, Kind::Wheel, Kind::Chunk, Kind::Policy] {
            let has_pages = |class: &Class| self.class_pages[class.id()] > 0;
            assert_eq!(self.classes[kind as usize], Class::of_kind(kind).filter(has_pages).count());
        }
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
