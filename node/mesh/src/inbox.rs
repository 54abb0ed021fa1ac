//! What an end looks at instead of all its lanes: which peers may have sent mail, and
//! whether somebody must wake it.
//!
//! Two races are closed here, both of the kind "I write mine, then read yours":
//!
//! - *Mail and bit.* The sender writes the lane's tail and then looks at its bit; the
//!   receiver takes the bits and then looks at the tails. A sequentially consistent fence
//!   between the two steps of each side makes sure that not both miss the other: either the
//!   sender sees its bit taken and sets it again, or the receiver sees the mail.
//! - *Bit and sleep.* The sender sets the bit and then looks at `asleep`; the receiver sets
//!   `asleep` and then looks at the bits. Fences again: either the sender sees that it has
//!   to wake, or the receiver sees the bit and does not sleep.

use crate::primitive::{AtomicBool, AtomicU64, Ordering, fence};

/// Words of bits, enough for [`crate::ENDS_MAX`] peers. With the flag they share one line.
pub(crate) const WORDS: usize = 2;

/// Bits of peers, as numbers of the owner's own.
pub(crate) type Bits = [u64; WORDS];

/// See the module.
pub(crate) struct Inbox {
    bits: [AtomicU64; WORDS],
    asleep: AtomicBool,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { bits: std::array::from_fn(|_| AtomicU64::new(0)), asleep: AtomicBool::new(false) }
    }

    /// Tells of mail from `sender`, which must be in its lane already. True when the
    /// receiver slept, nobody else has seen it, and the caller must wake it.
    #[inline]
    pub(crate) fn tell(&self, sender: usize) -> bool {
        let word = &self.bits[sender / 64];
        let bit = 1 << (sender % 64);
        fence(Ordering::SeqCst);
        // Under load the bit is still set from the mail before, and nothing is written to
        // the line that all senders share.
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
            fence(Ordering::SeqCst);
        }
        self.asleep.load(Ordering::Relaxed)
            && self
                .asleep
                .compare_exchange(true, false, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Takes the bits of all who told since the last call. The lanes are to be looked at
    /// after this.
    #[inline]
    pub(crate) fn take(&self) -> Bits {
        let mut taken = [0; WORDS];
        let mut any = false;
        for (taken, word) in taken.iter_mut().zip(&self.bits) {
            if word.load(Ordering::Relaxed) != 0 {
                *taken = word.swap(0, Ordering::Relaxed);
                any = true;
            }
        }
        if any {
            fence(Ordering::SeqCst);
        }
        taken
    }

    /// Whether a bit is set.
    #[inline]
    pub(crate) fn has_mail(&self) -> bool {
        self.bits.iter().any(|word| word.load(Ordering::Relaxed) != 0)
    }

    /// Announces sleep. False when mail came meanwhile and the owner must not sleep.
    pub(crate) fn announce_sleep(&self) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.has_mail() {
            self.asleep.store(false, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// The owner is awake again.
    #[inline]
    pub(crate) fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}
