//! `clock`: least recently used, approximated. A read sets an entry's counter; the hand lowers
//! it and takes entries that it finds at zero (Corbató 1969, with a counter instead of a bit).

use super::{Evictor, Ground, is_among};
use crate::config::Among;
use crate::index::word::Word;

/// Uses that are told apart. Two bits were as good as more over the traces of DESIGN.md's
/// prototype.
const COUNTER_MAX: u8 = 3;

/// Words that one search looks at. Beyond that the least used of those seen goes.
const WORDS_MAX: usize = 256;

/// Steps over leaves that have no group in the hand's phase.
const STEPS_MAX: usize = 512;

#[inline]
pub(super) fn used(word: Word) -> Option<Word> {
    let counter = word.counter();
    (counter < COUNTER_MAX).then(|| word.with_counter(counter + 1))
}

pub(super) fn refill(evictor: &mut Evictor, ground: &mut Ground<'_>, among: Among) {
    sweep(evictor, ground, |word| is_among(among, word));
}

/// Walks the hand until it meets entries at zero, among those that are `eligible`.
pub(super) fn sweep(
    evictor: &mut Evictor,
    ground: &mut Ground<'_>,
    eligible: impl Fn(Word) -> bool,
) {
    let mut hand = evictor.hand;
    let mut words_left = WORDS_MAX;
    let mut least = None;
    for _ in 0..STEPS_MAX {
        evictor.steps += 1;
        let met = hand.step(ground, |leaf, word| {
            if !eligible(word) {
                return None;
            }
            if word.counter() == 0 {
                evictor.offer(leaf, word);
                return None;
            }
            let lowered = word.with_counter(word.counter() - 1);
            if least.is_none_or(|(_, seen): (_, Word)| lowered.counter() < seen.counter()) {
                least = Some((*leaf, lowered));
            }
            Some(lowered)
        });
        let Some(met) = met else {
            break;
        };
        words_left = words_left.saturating_sub(met);
        if evictor.candidate_count >= evictor.wanted(ground) {
            break;
        }
        if words_left == 0 {
            if evictor.candidate_count == 0
                && let Some((leaf, word)) = least
            {
                evictor.offer(&leaf, word);
            }
            break;
        }
    }
    evictor.hand = hand;
}
