//! The clock hand: it walks the groups of the index. It goes over all leaves eight times a
//! round and looks at an eighth of each, so that evictions thin all leaves evenly instead of
//! emptying the one that it is in.

use super::Ground;
use crate::index::group::GROUP;
use crate::index::leaf::group_at;
use crate::index::word::Word;
use crate::index::{Index, Leaf, Position};
use crate::reserve::prefetch;
use crate::types::Millis;

const PHASES: usize = 8;

/// Where the hand is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hand {
    position: Position,
    phase: usize,
    /// The next group of the leaf, within the phase's eighth.
    group: usize,
    /// When this round of all phases began.
    round_since: Millis,
    /// How long the last one took.
    round_ms: u64,
}

impl Hand {
    /// Moves on by one group, or by one leaf that has none in this phase, and calls `each` for
    /// its words; where `each` returns another word, that is stored. Returns how many words
    /// were met; `None` where the index is empty.
    pub(super) fn step(
        &mut self,
        ground: &mut Ground<'_>,
        mut each: impl FnMut(&Leaf, Word) -> Option<Word>,
    ) -> Option<usize> {
        let Some(leaf) = ground.index.leaf_from(ground.heap, self.position) else {
            self.next_phase(ground.now);
            self.group = 0;
            let at_start = std::mem::take(&mut self.position) == Position::default();
            return if at_start { None } else { Some(0) };
        };
        let here = Position { slot: leaf.slot, hash: leaf.prefix };
        if here != self.position {
            self.position = here;
            self.group = 0;
        }
        let groups = leaf.reference.lines();
        let phase = self.phase_of(&leaf);
        let first = phase * groups / PHASES;
        let end = (phase + 1) * groups / PHASES;
        let number = first + self.group;
        let mut met = 0;
        if number < end {
            let start = leaf.reference.units() + (number * GROUP) as u64;
            for units in start..start + GROUP as u64 {
                let word = Word(ground.heap.word(units));
                if word.is_empty() {
                    break;
                }
                met += 1;
                if let Some(changed) = each(&leaf, word) {
                    *ground.heap.word_mut(units) = changed.0;
                }
            }
            self.group += 1;
        }
        if number + 1 >= end {
            self.group = 0;
            match Index::after(&leaf) {
                Some(position) => self.position = position,
                None => {
                    self.position = Position::default();
                    self.next_phase(ground.now);
                }
            }
            self.prefetch_next(ground);
        }
        Some(met)
    }

    fn next_phase(&mut self, now: Millis) {
        self.phase = (self.phase + 1) % PHASES;
        if self.phase == 0 {
            self.round_ms = now.0.saturating_sub(self.round_since.0);
            self.round_since = now;
        }
    }

    /// Milliseconds that the last whole round took.
    pub(super) fn round_ms(&self) -> u64 {
        self.round_ms
    }

    /// Which eighth of a leaf this round looks at: another in each slot, so that of leaves with
    /// a group or two some are looked at in every round.
    fn phase_of(&self, leaf: &Leaf) -> usize {
        (self.phase + leaf.slot as usize) % PHASES
    }

    /// Asks for the first group that the next step looks at.
    fn prefetch_next(&self, ground: &Ground<'_>) {
        if let Some(leaf) = ground.index.leaf_from(ground.heap, self.position) {
            let first = self.phase_of(&leaf) * leaf.reference.lines() / PHASES;
            let words = ground.index.words(ground.heap, &leaf);
            prefetch(group_at(words, first));
        }
    }
}
