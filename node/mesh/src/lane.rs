//! One lane: a ring of slots between one producer and one consumer.
//!
//! `tail` counts what was ever written, `head` what was ever read; both wrap. The producer
//! owns the slots from `tail` up to `head + SLOTS`, the consumer those from `head` to `tail`.
//!
//! **Invariant (one writer each).** `tail` is stored by the producer alone, `head` by the
//! consumer alone, and a slot is touched only by the side that owns it. [`Lane::write`] and
//! [`Lane::read`] are `unsafe` because the type cannot know who calls them; the mesh hands
//! exactly one [`Producer`] and one [`Consumer`] state of each lane to the ends.

use std::mem::MaybeUninit;

use crossbeam_utils::CachePadded;

use crate::MAIL_BYTES_MAX;
use crate::primitive::{AtomicU32, Ordering, UnsafeCell};

/// A cache line of its own for every mail.
#[repr(align(64))]
struct Slot<T>(UnsafeCell<MaybeUninit<T>>);

/// See the module.
pub(crate) struct Lane<T, const SLOTS: usize> {
    tail: CachePadded<AtomicU32>,
    head: CachePadded<AtomicU32>,
    slots: Box<[Slot<T>]>,
}

// SAFETY: mail moves from the producer's thread to the consumer's, which `T: Send` allows.
// The slots are shared under the invariant "one writer each": who does not own a slot does
// not touch it, and ownership passes by a release store of `tail` or `head` that the other
// side loads with acquire.
unsafe impl<T: Send, const SLOTS: usize> Sync for Lane<T, SLOTS> {}
// SAFETY: the lane owns the mail in it, which may be sent.
unsafe impl<T: Send, const SLOTS: usize> Send for Lane<T, SLOTS> {}

/// What the producer of a lane remembers.
#[derive(Default)]
pub(crate) struct Producer {
    tail: u32,
    /// The consumer's `head` when it was last looked at; a look costs a cache miss, so it is
    /// taken only when the lane seems full.
    head_seen: u32,
}

/// What the consumer of a lane remembers.
#[derive(Default)]
pub(crate) struct Consumer {
    head: u32,
    tail_seen: u32,
}

impl Consumer {
    /// Whether everything that was there at the last look has been read.
    #[inline]
    pub(crate) fn has_read_all(&self) -> bool {
        self.head == self.tail_seen
    }
}

impl<T, const SLOTS: usize> Lane<T, SLOTS> {
    const CHECKED: () = {
        assert!(SLOTS.is_power_of_two() && SLOTS <= 1 << 30, "slots are found by masking");
        assert!(
            size_of::<T>() <= MAIL_BYTES_MAX && align_of::<T>() <= 64,
            "a mail fits a cache line"
        );
    };

    pub(crate) fn new() -> Self {
        const { Self::CHECKED };
        Self {
            tail: CachePadded::new(AtomicU32::new(0)),
            head: CachePadded::new(AtomicU32::new(0)),
            slots: empty_slots::<T, SLOTS>(),
        }
    }

    /// Writes a mail, or gives it back when the lane is full.
    ///
    /// # Safety
    /// The caller is the lane's only producer, and `producer` is the state of that side
    /// since the lane was made.
    #[inline]
    pub(crate) unsafe fn write(&self, producer: &mut Producer, mail: T) -> Result<(), T> {
        if producer.tail.wrapping_sub(producer.head_seen) == SLOTS as u32 {
            producer.head_seen = self.head.load(Ordering::Acquire);
            if producer.tail.wrapping_sub(producer.head_seen) == SLOTS as u32 {
                return Err(mail);
            }
        }
        let slot = &self.slots[producer.tail as usize & (SLOTS - 1)];
        // SAFETY: `tail - head < SLOTS`, and the acquire load of `head` that showed it came
        // after the consumer had read this slot: by "one writer each" it is the producer's.
        slot.0.with_mut(|place| unsafe {
            (*place).write(mail);
        });
        producer.tail = producer.tail.wrapping_add(1);
        self.tail.store(producer.tail, Ordering::Release);
        Ok(())
    }

    /// Reads the next mail. Only what [`Lane::look`] has seen is read.
    ///
    /// # Safety
    /// The caller is the lane's only consumer, and `consumer` is the state of that side
    /// since the lane was made.
    #[inline]
    pub(crate) unsafe fn read(&self, consumer: &mut Consumer) -> Option<T> {
        if consumer.has_read_all() {
            return None;
        }
        let slot = &self.slots[consumer.head as usize & (SLOTS - 1)];
        // SAFETY: `head < tail`, and the acquire load of `tail` that showed it came after
        // the producer had written this slot: it is initialised and, by "one writer each",
        // the consumer's. The store of `head` below gives it up, so it is read only once.
        let mail = slot.0.with(|place| unsafe { (*place).assume_init_read() });
        consumer.head = consumer.head.wrapping_add(1);
        self.head.store(consumer.head, Ordering::Release);
        Some(mail)
    }

    /// Takes note of how far the producer has come.
    #[inline]
    pub(crate) fn look(&self, consumer: &mut Consumer) {
        consumer.tail_seen = self.tail.load(Ordering::Acquire);
    }
}

impl<T, const SLOTS: usize> Drop for Lane<T, SLOTS> {
    fn drop(&mut self) {
        let tail = self.tail.load(Ordering::Acquire);
        let mut head = self.head.load(Ordering::Acquire);
        while head != tail {
            let slot = &self.slots[head as usize & (SLOTS - 1)];
            // SAFETY: nobody else has the lane any more (`&mut self`), and the slots from
            // `head` to `tail` were written and not read.
            slot.0.with_mut(|place| unsafe { (*place).assume_init_drop() });
            head = head.wrapping_add(1);
        }
    }
}

/// Slots that no mail was written to; the memory stays untouched until one is.
#[cfg(not(loom))]
fn empty_slots<T, const SLOTS: usize>() -> Box<[Slot<T>]> {
    let slots = Box::<[Slot<T>]>::new_uninit_slice(SLOTS);
    // SAFETY: a slot is a cell of `MaybeUninit` and padding: any bytes make a valid one.
    unsafe { slots.assume_init() }
}

/// loom's cells track their accesses and must be made one by one.
#[cfg(loom)]
fn empty_slots<T, const SLOTS: usize>() -> Box<[Slot<T>]> {
    (0..SLOTS).map(|_| Slot(UnsafeCell::new(MaybeUninit::uninit()))).collect()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_lane_keeps_order_and_gives_back_what_does_not_fit() {
        let lane = Lane::<u64, 4>::new();
        let (mut producer, mut consumer) = (Producer::default(), Consumer::default());
        let mut next_in = 0;
        let mut next_out = 0;
        for round in 0..1000u64 {
            for _ in 0..round % 6 {
                // SAFETY: one thread is both sides, with one state each.
                match unsafe { lane.write(&mut producer, next_in) } {
                    Ok(()) => next_in += 1,
                    Err(mail) => {
                        assert_eq!(mail, next_in);
                        assert_eq!(next_in - next_out, 4, "only a full lane refuses");
                    }
                }
            }
            lane.look(&mut consumer);
            for _ in 0..(round * 7) % 5 {
                // SAFETY: as above.
                match unsafe { lane.read(&mut consumer) } {
                    Some(mail) => {
                        assert_eq!(mail, next_out);
                        next_out += 1;
                    }
                    None => assert_eq!(next_in, next_out, "only an empty lane has nothing"),
                }
            }
        }
        assert!(next_out > 1000);
    }

    #[test]
    fn counters_wrap() {
        let lane = Lane::<u32, 2>::new();
        let start = u32::MAX - 1;
        lane.tail.store(start, Ordering::Relaxed);
        lane.head.store(start, Ordering::Relaxed);
        let mut producer = Producer { tail: start, head_seen: start };
        let mut consumer = Consumer { head: start, tail_seen: start };
        for mail in 0..6 {
            // SAFETY: one thread is both sides, with one state each.
            unsafe {
                assert_eq!(lane.write(&mut producer, mail), Ok(()));
                lane.look(&mut consumer);
                assert_eq!(lane.read(&mut consumer), Some(mail));
            }
        }
    }
}
