//! Housekeeping: expiry, flushed pages, discarded chunks, compaction, a lowered budget.

use super::Shard;
use super::evacuation::LEAVES_SLICE;
use crate::entry::{Placement, Stored};
use crate::heap::Heap;
use crate::index::word::Word;
use crate::index::{Leaf, Mark};
use crate::types::{Cause, Changes, Expiry, Millis, SPACES, TickOutcome};
use crate::wheel::{BLOCK_TIMERS, Span, Verdict};

/// Records of pages looked at for flushed ones in one slice.
pub(super) const FLUSHED_PAGES: usize = 64;

/// Slots looked at in one slice of a page with large values: each may be a chain to let go.
const FLUSHED_SLOTS: usize = 64;

/// Entries of one mark that a timer sees to at once; more share 32 bits of slot and hash only
/// in a shard with millions of keys in one slot.
const MARKED_MAX: usize = 8;

/// Timers beyond which leftovers are looked for: half again as many as entries that expire.
const LITTER_SHARE: u64 = 2;
const LITTER_MIN: u64 = 4_096;

impl Shard {
    /// Drops everything: readers see nothing of it from now on. Its memory returns in the
    /// slices of [`Shard::tick`] and, where it is needed sooner, with writes.
    pub fn flush(&mut self, _now: Millis, changes: &mut impl Changes) {
        self.heap.flush();
        self.index.flush();
        self.wheel.flush();
        self.evictor.flush();
        self.room.flush();
        self.expiring = 0;
        self.space_items = [0; SPACES as usize];
        self.payload_bytes = 0;
        self.large_payload_bytes = 0;
        changes.flushed();
    }

    /// Housekeeping, in a slice of bounded work: at most 30 timers, 64 flushed pages, 16
    /// chunks of discarded values, 48 slots of a page that is emptied so that writes find free
    /// ones, and 64 of one that is because the budget was lowered.
    pub fn tick(&mut self, now: Millis, changes: &mut impl Changes) -> TickOutcome {
        let mut more = self.fire(now, changes);
        more |= self.sweep_flushed();
        more |= self.give_back();
        self.refill(now, changes);
        more |= self.shrink(now, changes);
        more |= self.compact_index(LEAVES_SLICE);
        if self.is_littered() {
            self.sweep(now);
            more = true;
        }
        if more { TickOutcome::More } else { TickOutcome::Idle }
    }

    /// No later than the earliest moment at which [`Shard::tick`] has expiry work.
    pub fn next_expiry(&self) -> Option<Millis> {
        self.wheel.next()
    }

    /// Gives chunks of discarded values back. Returns whether there may be more.
    pub(super) fn give_back(&mut self) -> bool {
        let before = self.heap.frees();
        let more = self.discarded.give_back(&mut self.heap);
        self.counts.work_steps += self.heap.frees() - before;
        more
    }

    /// Gives flushed pages back. Returns whether there may be more.
    pub(super) fn sweep_flushed(&mut self) -> bool {
        if !self.heap.has_flushed() {
            return false;
        }
        // Records lie side by side; slots are about as many.
        self.counts.work_steps += FLUSHED_SLOTS as u64;
        let discarded = &mut self.discarded;
        self.heap.sweep_flushed(FLUSHED_PAGES, FLUSHED_SLOTS, |heap, handle| {
            let stored = Stored::read(heap.rest_of_page(handle));
            if stored.placement() == Placement::Chunks {
                let first = stored.first_chunk();
                discarded.let_go(heap, first);
            }
        });
        self.heap.has_flushed()
    }

    /// Fires one block of timers. Returns whether there may be more.
    fn fire(&mut self, now: Millis, changes: &mut impl Changes) -> bool {
        let Some(fired) = self.wheel.fire(&mut self.heap, now) else {
            return false;
        };
        for mark in fired.marks() {
            self.index.prefetch_marked(&self.heap, mark);
        }
        for mark in fired.marks() {
            self.counts.work_steps += 1;
            self.fire_timer(mark, now, changes);
        }
        true
    }

    fn fire_timer(&mut self, mark: Mark, now: Millis, changes: &mut impl Changes) {
        let heap = &self.heap;
        let mut marked: [Option<(Leaf, Word, Millis)>; MARKED_MAX] = [None; MARKED_MAX];
        let mut count = 0;
        self.index.each_marked(heap, mark, |leaf, word| {
            if count < MARKED_MAX
                && let Some(at) = expiry(heap, word)
                && (at <= now || word.timer_is_early())
            {
                marked[count] = Some((*leaf, word, at));
                count += 1;
            }
        });
        for (leaf, word, at) in marked[..count].iter().flatten() {
            let hash = leaf.known_hash(*word);
            let found = self
                .index
                .find(&self.heap, leaf.slot, hash, |here| here == *word)
                .expect("a word that was just met");
            if *at <= now {
                self.counts.expired_by_wheel += 1;
                self.remove_found(&found, Cause::Expired, changes);
            } else {
                let early = self.wheel.set(&mut self.heap, mark, *at, now);
                let word = word.with_early_timer(early);
                self.index.replace(&mut self.heap, &found, word);
            }
        }
        if count == MARKED_MAX {
            // There may be more; come back for them.
            let soon = Millis(now.0 + 1);
            self.wheel.set(&mut self.heap, mark, soon, now);
        }
    }

    fn is_littered(&self) -> bool {
        self.wheel.timers() > self.expiring + self.expiring / LITTER_SHARE + LITTER_MIN
    }

    /// Looks for leftover timers if there are many. Setting a timer calls this, so that they
    /// cannot outgrow the slices of [`Shard::tick`].
    #[inline]
    pub(super) fn sweep_if_littered(&mut self, now: Millis) {
        // A block of which a third are leftovers drops ten.
        if self.wheel.timers().is_multiple_of(8) && self.is_littered() {
            self.sweep(now);
        }
    }

    /// Drops the leftovers of one block of timers.
    fn sweep(&mut self, now: Millis) {
        self.counts.work_steps += BLOCK_TIMERS as u64;
        let index = &self.index;
        self.wheel.sweep(&mut self.heap, |heap, mark, span: Span| {
            let mut verdict = Verdict::Drop;
            index.each_marked(heap, mark, |_, word| {
                let Some(at) = expiry(heap, word) else {
                    return;
                };
                let set_for_this = span.after < at && at <= span.until;
                if set_for_this || at <= now || word.timer_is_early() {
                    verdict = Verdict::Keep;
                }
            });
            verdict
        });
    }
}

/// When the entry of a word ends, if it does.
fn expiry(heap: &Heap, word: Word) -> Option<Millis> {
    if !word.expires() {
        return None;
    }
    match Stored::read(heap.rest_of_page(word.handle())).expiry() {
        Expiry::At(at) => Some(at),
        Expiry::Never => unreachable!("TIMED: a word says that its entry expires"),
    }
}
