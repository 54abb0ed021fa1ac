//! One entry in the index: eight bytes, so that neither growth nor the policies touch entries.
//!
//! | bits | field |
//! | --- | --- |
//! | 0–35 | handle; zero is an empty word |
//! | 36–39 | counter of uses |
//! | 40 | on probation (`s3`) |
//! | 41 | has an expiry |
//! | 42 | its timer is set earlier than its expiry |
//! | 43–63 | 21 bits of the key's hash |

use crate::heap::Handle;

/// Bits of the hash that a word keeps.
pub(crate) const STORED_BITS: u32 = 21;

const COUNTER_SHIFT: u32 = Handle::BITS;
const COUNTER_MASK: u64 = 15 << COUNTER_SHIFT;
const PROBATION: u64 = 1 << 40;
const EXPIRES: u64 = 1 << 41;
const TIMER_EARLY: u64 = 1 << 42;
pub(crate) const STORED_SHIFT: u32 = 43;
const HANDLE_MASK: u64 = (1 << Handle::BITS) - 1;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u64);

impl Word {
    /// A word for a new entry, with no use counted. `stored` is below 2^21.
    #[inline]
    pub(crate) fn new(stored: u64, handle: Handle) -> Self {
        debug_assert!(stored >> STORED_BITS == 0);
        Self(stored << STORED_SHIFT | handle.units())
    }

    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.0 & HANDLE_MASK == 0
    }

    #[inline]
    pub(crate) fn handle(self) -> Handle {
        Handle::new(self.0 & HANDLE_MASK)
    }

    /// Whether it is for the same entry, used as often or not.
    #[inline]
    pub(crate) fn is_for_entry_of(self, other: Word) -> bool {
        (self.0 ^ other.0) & !(COUNTER_MASK | PROBATION | EXPIRES | TIMER_EARLY) == 0
    }

    #[inline]
    #[must_use]
    pub(crate) fn with_handle(self, handle: Handle) -> Self {
        Self(self.0 & !HANDLE_MASK | handle.units())
    }

    #[inline]
    pub(crate) fn stored(self) -> u64 {
        self.0 >> STORED_SHIFT
    }

    #[inline]
    #[must_use]
    pub(crate) fn with_stored(self, stored: u64) -> Self {
        debug_assert!(stored >> STORED_BITS == 0);
        Self(self.0 & ((1 << STORED_SHIFT) - 1) | stored << STORED_SHIFT)
    }

    #[inline]
    pub(crate) fn counter(self) -> u8 {
        (self.0 >> COUNTER_SHIFT & 15) as u8
    }

    #[inline]
    #[must_use]
    pub(crate) fn with_counter(self, counter: u8) -> Self {
        debug_assert!(counter < 16);
        Self(self.0 & !COUNTER_MASK | u64::from(counter) << COUNTER_SHIFT)
    }

    #[inline]
    pub(crate) fn on_probation(self) -> bool {
        self.0 & PROBATION != 0
    }

    #[inline]
    #[must_use]
    pub(crate) fn with_probation(self, on: bool) -> Self {
        self.with(PROBATION, on)
    }

    #[inline]
    pub(crate) fn expires(self) -> bool {
        self.0 & EXPIRES != 0
    }

    #[inline]
    #[must_use]
    pub(crate) fn with_expires(self, on: bool) -> Self {
        self.with(EXPIRES, on)
    }

    #[inline]
    pub(crate) fn timer_is_early(self) -> bool {
        self.0 & TIMER_EARLY != 0
    }

    #[inline]
    #[must_use]
    pub(crate) fn with_early_timer(self, on: bool) -> Self {
        self.with(TIMER_EARLY, on)
    }

    #[inline]
    fn with(self, bit: u64, on: bool) -> Self {
        Self(if on { self.0 | bit } else { self.0 & !bit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_touch() {
        let handle = Handle::new((1 << Handle::BITS) - 1);
        let word = Word::new((1 << STORED_BITS) - 1, handle);
        assert_eq!(word.handle(), handle);
        assert_eq!(word.stored(), (1 << STORED_BITS) - 1);
        let full =
            word.with_counter(15).with_probation(true).with_expires(true).with_early_timer(true);
        assert_eq!(full.0, u64::MAX);
        let less = full.with_counter(4).with_handle(Handle::new(1));
        assert_eq!((less.counter(), less.handle().units()), (4, 1));
        assert!(less.on_probation() && less.expires() && less.timer_is_early());
        let none = less.with_probation(false).with_expires(false).with_early_timer(false);
        assert!(!none.on_probation() && !none.expires() && !none.timer_is_early());
        assert_eq!(none.with_stored(5).stored(), 5);
        assert_eq!(none.counter(), 4);
        assert!(Word(0).is_empty() && !none.is_empty());
    }
}
