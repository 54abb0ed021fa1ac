//! Slots that have come to this core a short time ago, and which of their keys were written or
//! deleted here since. A key that was not may be copied from the node that its slot came from: what
//! is there is then the last that was written, since that node takes no more writes.
//!
//! Keys are remembered as bits of their hashes. Where two share a bit, one of them is taken for
//! written when the other is: a miss more, and never a stale copy.

use std::sync::Arc;

use corelane_protocol::Redirect;
use corelane_ring::{Slot, SlotSet};

use crate::cluster::ClusterView;
use crate::limits::TOUCHED_BITS;

const WORD_BITS: usize = u64::BITS as usize;
const _: () = assert!(TOUCHED_BITS.is_power_of_two() && TOUCHED_BITS >= WORD_BITS);

/// See the module.
#[derive(Debug)]
pub(crate) struct NewSlots {
    view: Arc<ClusterView>,
    slots: SlotSet,
    touched: Box<[u64]>,
}

impl NewSlots {
    pub(crate) fn new(view: Arc<ClusterView>, slots: SlotSet) -> NewSlots {
        let touched = vec![0; TOUCHED_BITS / WORD_BITS].into_boxed_slice();
        NewSlots { view, slots, touched }
    }

    /// The key was written or deleted.
    pub(crate) fn touch(&mut self, slot: Slot, key: &[u8]) {
        if self.slots.contains(slot) {
            let bit = bit_of(key);
            self.touched[bit / WORD_BITS] |= 1 << (bit % WORD_BITS);
        }
    }

    /// All of a slot's keys were deleted.
    pub(crate) fn touch_all(&mut self, slot: Slot) {
        self.slots.remove(slot);
    }

    /// Where to ask for an entry that is not here, if what is there may be taken over.
    pub(crate) fn ask(&self, slot: Slot, key: &[u8]) -> Option<Redirect<'_>> {
        let bit = bit_of(key);
        let untouched = self.touched[bit / WORD_BITS] & 1 << (bit % WORD_BITS) == 0;
        if self.slots.contains(slot) && untouched { self.view.ask(slot) } else { None }
    }
}

/// FNV-1a of 64 bits (Fowler, Noll, Vo), folded. Whoever chooses keys to share bits only spoils
/// the copying of their own.
fn bit_of(key: &[u8]) -> usize {
    let hash = key.iter().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    (hash ^ hash >> 32) as usize % TOUCHED_BITS
}
