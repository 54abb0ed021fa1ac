//! `ttl`: the soonest to expire goes first, as the timer wheel has it. Entries without expiry
//! go last, by the clock.

use super::{Evictor, Ground, clock};
use crate::config::Among;
use crate::entry::Stored;
use crate::index::Mark;
use crate::types::{Expiry, Millis};

/// Timers that one search takes. Most fit one entry each.
const TIMERS_MAX: usize = 4;

/// Searches that find leftovers only before giving up.
const BLOCKS_MAX: usize = 16;

pub(super) fn refill(evictor: &mut Evictor, ground: &mut Ground<'_>, among: Among) {
    soonest(evictor, ground);
    if evictor.candidate_count == 0 && among == Among::All {
        clock::refill(evictor, ground, among);
    }
}

/// Names the entries whose timers fire first. The timers stay; when the entries have gone,
/// the next search finds these leftovers and drops them.
pub(super) fn soonest(evictor: &mut Evictor, ground: &mut Ground<'_>) {
    for _ in 0..BLOCKS_MAX {
        evictor.steps += TIMERS_MAX as u64;
        let Some(soonest) = ground.wheel.take_soonest(ground.heap, TIMERS_MAX) else {
            return;
        };
        for mark in soonest.fired.marks() {
            offer_marked(evictor, ground, mark, soonest.at());
        }
        if evictor.candidate_count > 0 {
            ground.wheel.put_back(ground.heap, &soonest);
            return;
        }
    }
}

/// Names the entries that a timer firing at `fires` was set for. One that expires later has
/// its timer set again.
fn offer_marked(evictor: &mut Evictor, ground: &mut Ground<'_>, mark: Mark, fires: Millis) {
    let mut early = None;
    let heap = &*ground.heap;
    ground.index.each_marked(heap, mark, |leaf, word| {
        if !word.expires() {
            return;
        }
        let Expiry::At(at) = Stored::read(heap.rest_of_page(word.handle())).expiry() else {
            unreachable!("a word says that its entry expires");
        };
        if at <= fires {
            evictor.offer(leaf, word);
        } else if word.timer_is_early() {
            early = Some((*leaf, word, at));
        }
    });
    if let Some((leaf, word, at)) = early {
        let found = ground
            .index
            .find(ground.heap, leaf.slot, leaf.known_hash(word), |here| here == word)
            .expect("a word that was just met");
        let early = ground.wheel.set(ground.heap, mark, at, ground.now);
        let word = word.with_early_timer(early);
        ground.index.replace(ground.heap, &found, word);
    }
}
