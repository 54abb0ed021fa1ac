//! `s3`: the clock hand, with probation before it (after S3-FIFO, Yang and others, SOSP 2023).
//!
//! A new entry is on probation until it is the oldest in a queue of a tenth of all entries.
//! Then it either was used and joins the others, or it goes and its fingerprint stays in the
//! ghost; one that comes back while the ghost remembers it skips probation. The hand takes
//! from the others while the queue is short.

use super::{Evictor, Ground, Word, clock, is_among};
use crate::config::Among;
use crate::index::Leaf;

/// The queue holds at most one in so many entries.
const PROBATION_SHARE: u64 = 10;

/// Entries of the queue that one search looks at.
const QUEUE_STEPS_MAX: usize = 32;

/// Uses on probation that earn a place.
const USES_MIN: u8 = 1;

pub(super) fn refill(evictor: &mut Evictor, ground: &mut Ground<'_>, among: Among) {
    for _ in 0..QUEUE_STEPS_MAX {
        if evictor.queue.len() <= ground.index.items() / PROBATION_SHARE {
            break;
        }
        let Some(mark) = evictor.queue.pop(ground.heap) else {
            break;
        };
        let mut oldest: Option<(Leaf, Word)> = None;
        ground.index.each_marked(ground.heap, mark, |leaf, word| {
            if oldest.is_none() && word.on_probation() {
                oldest = Some((*leaf, word));
            }
        });
        let Some((leaf, word)) = oldest else {
            continue;
        };
        if word.counter() >= USES_MIN {
            let found = ground
                .index
                .find(ground.heap, leaf.slot, leaf.known_hash(word), |here| here == word)
                .expect("a word that was just met");
            let earned = word.with_probation(false).with_counter(0);
            ground.index.replace(ground.heap, &found, earned);
        } else {
            evictor.offer(&leaf, word);
            return;
        }
    }
    clock::sweep(evictor, ground, |word| !word.on_probation() && is_among(among, word));
    if evictor.candidate_count == 0 {
        // Everything may be on probation in a shard that was small until now.
        clock::sweep(evictor, ground, |word| is_among(among, word));
    }
}
