//! `s3`: the clock hand, with probation before it (after S3-FIFO, Yang and others, SOSP 2023).
//!
//! A new entry is on probation until it is the oldest in a queue of a tenth of all entries.
//! Then it either was used and joins the others, or it goes and its fingerprint stays in the
//! ghost; one that comes back while the ghost remembers it skips probation. The hand takes
//! from the others while the queue is short.

use super::{Evictor, Ground, Word, clock, is_among};
use crate::config::Among;
use crate::heap::Heap;
use crate::index::{Index, Leaf, Mark};

/// The queue holds at most one in so many entries.
const PROBATION_SHARE: u64 = 10;

/// Entries of the queue that one search looks at.
const QUEUE_STEPS_MAX: usize = 32;

/// Entries that leave an overlong queue at once.
const SHORTEN_STEPS: usize = 2;

/// Uses on probation that earn a place.
const USES_MIN: u8 = 1;

pub(super) fn refill(evictor: &mut Evictor, ground: &mut Ground<'_>, among: Among) {
    if evictor.queue.len() > ground.index.items() / PROBATION_SHARE {
        if let Some(since) = evictor.queue.since() {
            evictor.probation_ms = ground.now.0.saturating_sub(since.0);
        }
        for mark in evictor.queue.upcoming(ground.heap, evictor.wanted(ground)) {
            ground.index.prefetch_marked(ground.heap, mark);
        }
        for _ in 0..QUEUE_STEPS_MAX {
            evictor.steps += 1;
            let Some(mark) = evictor.queue.pop(ground.heap) else {
                break;
            };
            leave_probation(evictor, ground, mark);
            if evictor.candidate_count >= evictor.wanted(ground) {
                return;
            }
        }
    }
    if evictor.candidate_count > 0 {
        return;
    }
    clock::sweep(evictor, ground, |word| !word.on_probation() && is_among(among, word));
    if evictor.candidate_count == 0 {
        // Everything may be on probation in a shard that was small until now.
        clock::sweep(evictor, ground, |word| is_among(among, word));
    }
}

/// Keeps the queue short where entries leave by other ways than through it, by compaction or
/// by a caller: those at its end leave it for the hand.
pub(super) fn shorten_queue(evictor: &mut Evictor, heap: &mut Heap, index: &mut Index) {
    for _ in 0..SHORTEN_STEPS {
        let share = index.items() / PROBATION_SHARE;
        if evictor.queue.len() <= share + share / 8 + 64 {
            return;
        }
        if let Some(mark) = evictor.queue.pop(heap)
            && let Some((leaf, word)) = on_probation(index, heap, mark)
        {
            end_probation(index, heap, &leaf, word);
        }
    }
}

/// An entry has been on probation long enough: it stays or goes.
fn leave_probation(evictor: &mut Evictor, ground: &mut Ground<'_>, mark: Mark) {
    if let Some((leaf, word)) = on_probation(ground.index, ground.heap, mark) {
        if word.counter() < USES_MIN {
            evictor.offer(&leaf, word);
        } else {
            end_probation(ground.index, ground.heap, &leaf, word);
        }
    }
}

fn on_probation(index: &Index, heap: &Heap, mark: Mark) -> Option<(Leaf, Word)> {
    let mut oldest = None;
    index.each_marked(heap, mark, |leaf, word| {
        if oldest.is_none() && word.on_probation() {
            oldest = Some((*leaf, word));
        }
    });
    oldest
}

fn end_probation(index: &mut Index, heap: &mut Heap, leaf: &Leaf, word: Word) {
    let found = index
        .find(heap, leaf.slot, leaf.known_hash(word), |here| here == word)
        .expect("a word that was just met");
    index.replace(heap, &found, word.with_probation(false).with_counter(0));
}
