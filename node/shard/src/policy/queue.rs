//! The probation queue: marks in the order of insertion, in pages of the arena.

use std::collections::VecDeque;

use crate::class::{Class, PAGE_BYTES};
use crate::heap::{Handle, Heap};
use crate::index::Mark;
use crate::types::Millis;

/// Marks of a page, two a word.
const PAGE_MARKS: usize = PAGE_BYTES / 4;

/// A page of marks.
#[derive(Debug)]
struct Marks {
    page: Handle,
    /// When its first mark was put in.
    since: Millis,
}

/// See the module. Marks of entries that are gone stay in it until they come out.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pages: VecDeque<Marks>,
    /// Marks taken from the first page, and put into the last.
    taken: usize,
    put: usize,
}

impl Queue {
    pub(super) fn len(&self) -> u64 {
        match self.pages.len() {
            0 => 0,
            pages => ((pages - 1) * PAGE_MARKS + self.put - self.taken) as u64,
        }
    }

    pub(super) fn push(&mut self, heap: &mut Heap, mark: Mark, now: Millis) {
        if self.pages.is_empty() || self.put == PAGE_MARKS {
            self.pages.push_back(Marks { page: heap.take(Class::POLICY), since: now });
            self.put = 0;
        }
        let page = self.pages.back().expect("there is a page").page;
        let word = heap.word_mut(page.units() + self.put as u64 / 2);
        *word = if self.put.is_multiple_of(2) {
            u64::from(mark.0)
        } else {
            *word & 0xFFFF_FFFF | u64::from(mark.0) << 32
        };
        self.put += 1;
    }

    /// Since when at most the marks that come out next have been in it.
    pub(super) fn since(&self) -> Option<Millis> {
        self.pages.front().map(|marks| marks.since)
    }

    /// The marks that come out next, at most `most` of them.
    pub(super) fn upcoming(&self, heap: &Heap, most: usize) -> impl Iterator<Item = Mark> {
        let here = (PAGE_MARKS - self.taken).min(self.len() as usize).min(most);
        (self.taken..self.taken + here).map(|number| self.mark(heap, number))
    }

    fn mark(&self, heap: &Heap, number: usize) -> Mark {
        let word = heap.word(self.pages[0].page.units() + number as u64 / 2);
        Mark((word >> (32 * (number % 2))) as u32)
    }

    pub(super) fn pop(&mut self, heap: &mut Heap) -> Option<Mark> {
        if self.len() == 0 {
            return None;
        }
        let page = self.pages[0].page;
        let mark = self.mark(heap, self.taken);
        self.taken += 1;
        if self.taken == PAGE_MARKS || self.len() == 0 {
            heap.give(page);
            self.pages.pop_front();
            self.taken = 0;
        }
        Some(mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reserve::Backing;

    #[test]
    fn marks_come_out_in_order() {
        let mut heap = Heap::new(64, Backing::PLAIN).expect("address space");
        let mut queue = Queue::default();
        let (mut pushed, mut popped) = (0, 0);
        for round in 0..200_000_u32 {
            queue.push(&mut heap, Mark(pushed), Millis(u64::from(pushed)));
            pushed += 1;
            if round % 3 > 0 && round > 60_000 {
                for _ in 0..2 {
                    let since = queue.since().expect("it has marks");
                    if let Some(mark) = queue.pop(&mut heap) {
                        assert_eq!(mark, Mark(popped));
                        assert!(since.0 + PAGE_MARKS as u64 > u64::from(popped));
                        popped += 1;
                    }
                }
            }
            assert_eq!(queue.len(), u64::from(pushed - popped));
        }
        heap.invariants();
        while queue.pop(&mut heap).is_some() {}
        assert_eq!((queue.len(), heap.pages_in_use()), (0, 0));
    }
}
