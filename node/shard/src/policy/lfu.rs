//! `lfu`: the least frequently used of a few neighbours goes. Counters are logarithmic (a use
//! counts with a probability that halves as the counter rises, after Morris 1978), and the
//! hand lowers one in sixteen that it passes, so old fame fades.

use super::{Evictor, Ground, Random, is_among};
use crate::config::Among;
use crate::index::word::Word;

const COUNTER_MAX: u8 = 15;

/// Where new entries begin: above those that were never used since the hand came by.
const COUNTER_NEW: u8 = 2;

/// Entries that are compared.
const SAMPLE: usize = 16;

const STEPS_MAX: usize = 512;

pub(super) fn insert(word: Word) -> Word {
    word.with_counter(COUNTER_NEW)
}

/// How often an entry was read since it was new, less what has faded.
pub(super) fn uses(word: Word) -> u8 {
    word.counter().saturating_sub(COUNTER_NEW)
}

#[inline]
pub(super) fn used(word: Word, random: &mut Random) -> Option<Word> {
    let counter = word.counter();
    if counter == COUNTER_MAX {
        return None;
    }
    let rare = counter.saturating_sub(COUNTER_NEW);
    (random.next() >> 32 & ((1 << rare) - 1) == 0).then(|| word.with_counter(counter + 1))
}

pub(super) fn refill(evictor: &mut Evictor, ground: &mut Ground<'_>, among: Among) {
    let mut hand = evictor.hand;
    let mut compared = 0;
    let mut least = None;
    for _ in 0..STEPS_MAX {
        evictor.steps += 1;
        let lots = evictor.random.next();
        let mut number = 0;
        let met = hand.step(ground, |leaf, word| {
            number += 1;
            if !is_among(among, word) {
                return None;
            }
            compared += 1;
            if least.is_none_or(|(_, seen): (_, Word)| word.counter() < seen.counter()) {
                least = Some((*leaf, word));
            }
            let fades = (lots >> (4 * number)) & 15 == 0;
            (fades && word.counter() > 0).then(|| word.with_counter(word.counter() - 1))
        });
        if met.is_none() || compared >= SAMPLE {
            break;
        }
    }
    evictor.hand = hand;
    if let Some((leaf, word)) = least {
        evictor.offer(&leaf, word);
    }
}
