//! `random`: any entry, by lot.

use super::{Evictor, Ground, is_among};
use crate::config::Among;
use crate::index::{Position, leaf};
use crate::types::SLOTS;

/// Lots drawn before giving up on entries with an expiry.
const DRAWS_MAX: usize = 16;

pub(super) fn refill(evictor: &mut Evictor, ground: &mut Ground<'_>, among: Among) {
    for _ in 0..DRAWS_MAX {
        evictor.steps += 1;
        let position = Position {
            slot: (evictor.random.next() >> 32) as u16 % SLOTS as u16,
            hash: evictor.random.next(),
        };
        let found = ground
            .index
            .leaf_from(ground.heap, position)
            .or_else(|| ground.index.leaf_from(ground.heap, Position::default()));
        let Some(found) = found else {
            return;
        };
        let words = ground.index.words(ground.heap, &found);
        let start = (evictor.random.next() >> 32) as usize % words.len();
        let any = leaf::taken(&words[start..])
            .chain(leaf::taken(&words[..start]))
            .find(|(_, word)| is_among(among, *word));
        if let Some((_, word)) = any {
            evictor.offer(&found, word);
            return;
        }
    }
}
