//! `fifo`: the oldest goes first. The index is in hash order, so age is a stamp in the
//! counter: it moves on whenever a fourteenth of the entries was replaced, and the hand takes
//! those of the oldest stamp.

use super::{Evictor, Ground, is_among};
use crate::config::Among;
use crate::index::word::Word;

/// Stamps in use at a time, of sixteen.
const AGES: u8 = 14;

/// Words that one search looks at. Beyond that the oldest of those seen goes.
const WORDS_MAX: usize = 256;

const STEPS_MAX: usize = 512;

/// The clock of stamps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stamp {
    now: u8,
    /// Entries inserted with the current stamp.
    inserted: u64,
}

impl Stamp {
    pub(super) fn insert(&mut self, word: Word) -> Word {
        self.inserted += 1;
        word.with_counter(self.now)
    }

    fn age(self, word: Word) -> u8 {
        self.now.wrapping_sub(word.counter()) & 15
    }
}

pub(super) fn refill(evictor: &mut Evictor, ground: &mut Ground<'_>, among: Among) {
    if evictor.fifo.inserted > ground.index.items() / u64::from(AGES) {
        evictor.fifo.now = (evictor.fifo.now + 1) & 15;
        evictor.fifo.inserted = 0;
    }
    let stamp = evictor.fifo;
    let mut hand = evictor.hand;
    let mut words_left = WORDS_MAX;
    let mut oldest = None;
    for _ in 0..STEPS_MAX {
        evictor.steps += 1;
        let met = hand.step(ground, |leaf, word| {
            if !is_among(among, word) {
                return None;
            }
            if stamp.age(word) >= AGES - 1 {
                evictor.offer(leaf, word);
            } else if oldest.is_none_or(|(_, seen)| stamp.age(word) > stamp.age(seen)) {
                oldest = Some((*leaf, word));
            }
            None
        });
        let Some(met) = met else {
            break;
        };
        words_left = words_left.saturating_sub(met);
        if evictor.candidate_count > 0 || words_left == 0 {
            break;
        }
    }
    evictor.hand = hand;
    if evictor.candidate_count == 0
        && let Some((leaf, word)) = oldest
    {
        evictor.offer(&leaf, word);
    }
}
