//! The timer wheel: which entries to look at when.
//!
//! Nine levels of 512 buckets. A bucket of level `l` spans 8^l ms, and a timer goes to the
//! finest level that reaches its time, so it fires about 1/64 of its remaining life late at
//! most and never moves from level to level. A timer is the four-byte [`Mark`] of its entry; it is set
//! for the end of its bucket and checked against the entry when it fires, since the entry may
//! have got another expiry, or be gone.
//!
//! An entry whose expiry moves later keeps its timer and a bit in its word that says so; the
//! timer is set again when it fires. A timer that finds its entry neither due nor with that
//! bit is a leftover and is dropped. Leftovers are swept out when there are many.
//!
//! Timers are kept in blocks of 128 bytes: the next block's place, how many timers, and 30
//! timers. So one slice of work is one block.

use crate::class::Class;
use crate::heap::{Handle, Heap};
use crate::index::Mark;
use crate::types::Millis;

const LEVELS: usize = 9;
const BUCKETS: usize = 512;

/// Timers of a block; a slice of work handles one block.
pub(crate) const BLOCK_TIMERS: usize = 30;

/// A block's place in units of 128 bytes; no block is at zero.
const BLOCK_UNITS: u64 = 16;

/// One level's buckets and how far it has come.
struct Level {
    /// The first block of each bucket, zero where it has none. Only the first may have room.
    heads: [u32; BUCKETS],
    /// Which buckets have blocks.
    occupied: [u64; BUCKETS / 64],
    /// The last bucket, by number since the epoch, that has fired wholly.
    passed: u64,
}

/// Which bucket, by level and number since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    level: usize,
    number: u64,
}

/// A sweep that takes leftovers out of one bucket at a time.
struct Sweep {
    level: usize,
    /// The bucket's place in its level.
    place: usize,
    /// Blocks of this bucket that were swept. They wait here until the others have been, or
    /// until the bucket fires.
    kept: u32,
}

/// See the module.
pub(crate) struct Wheel {
    levels: Box<[Level; LEVELS]>,
    timers: u64,
    sweep: Option<Sweep>,
    /// Where the next sweep goes on.
    sweep_next: (usize, usize),
}

/// What a sweep does with a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep,
    Drop,
}

/// When a swept timer fires: at the end of this span, and it was set for a time in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// Just before its first millisecond.
    pub(crate) after: Millis,
    /// Its last.
    pub(crate) until: Millis,
}

/// Timers taken out of the wheel.
pub(crate) struct Fired {
    marks: [u32; BLOCK_TIMERS],
    count: usize,
}

/// Timers that fire before all others.
pub(crate) struct Soonest {
    pub(crate) fired: Fired,
    bucket: Bucket,
}

impl Soonest {
    /// When they fire.
    pub(crate) fn at(&self) -> Millis {
        Millis(self.bucket.number.saturating_mul(1 << shift(self.bucket.level)))
    }
}

impl Fired {
    pub(crate) fn marks(&self) -> impl Iterator<Item = Mark> + '_ {
        self.marks[..self.count].iter().map(|mark| Mark(*mark))
    }
}

/// Milliseconds of a bucket of a level, as a power of two.
const fn shift(level: usize) -> u32 {
    3 * level as u32
}

impl Level {
    fn is_empty(&self) -> bool {
        self.occupied.iter().all(|bits| *bits == 0)
    }

    /// The first bucket with blocks after those that have fired, by number.
    fn first(&self) -> Option<u64> {
        let start = (self.passed as usize + 1) % BUCKETS;
        let mut place = start;
        // The word where the search starts is looked at twice: from `start` on, and whole.
        for _ in 0..=BUCKETS / 64 {
            let bits = self.occupied[place / 64] & u64::MAX << (place % 64);
            if bits != 0 {
                let found = place / 64 * 64 + bits.trailing_zeros() as usize;
                let distance = (found + BUCKETS - start) % BUCKETS;
                return Some(self.passed + 1 + distance as u64);
            }
            place = (place / 64 + 1) * 64 % BUCKETS;
        }
        None
    }
}

impl Wheel {
    pub(crate) fn new() -> Self {
        let level = || Level { heads: [0; BUCKETS], occupied: [0; BUCKETS / 64], passed: 0 };
        Self {
            levels: Box::new(std::array::from_fn(|_| level())),
            timers: 0,
            sweep: None,
            sweep_next: (0, 0),
        }
    }

    /// Forgets all timers. The heap drops the memory.
    pub(crate) fn flush(&mut self) {
        for level in self.levels.iter_mut() {
            level.heads.fill(0);
            level.occupied.fill(0);
        }
        self.timers = 0;
        self.sweep = None;
    }

    /// Bytes of the buckets themselves.
    pub(crate) const FIXED_BYTES: u64 = size_of::<[Level; LEVELS]>() as u64;

    /// Timers set, leftovers included.
    pub(crate) fn timers(&self) -> u64 {
        self.timers
    }

    /// Sets a timer that fires at `at` or up to about 1/64 of the time until then later. Returns
    /// whether it fires before `at` instead, which is where `at` is beyond the wheel's reach
    /// of 99 days.
    pub(crate) fn set(&mut self, heap: &mut Heap, mark: Mark, at: Millis, now: Millis) -> bool {
        let bucket = self.bucket_for(at, now);
        let place = (bucket.number % BUCKETS as u64) as usize;
        self.push(heap, bucket.level, place, mark);
        bucket.number << shift(bucket.level) < at.0
    }

    fn bucket_for(&mut self, at: Millis, now: Millis) -> Bucket {
        for (level, state) in self.levels.iter_mut().enumerate() {
            if state.is_empty() {
                state.passed = state.passed.max(now.0 >> shift(level));
            }
            let number = at.0.div_ceil(1 << shift(level)).max(state.passed + 1);
            if number < state.passed + BUCKETS as u64 {
                return Bucket { level, number };
            }
        }
        let level = LEVELS - 1;
        Bucket { level, number: self.levels[level].passed + BUCKETS as u64 - 1 }
    }

    fn push(&mut self, heap: &mut Heap, level: usize, place: usize, mark: Mark) {
        let state = &mut self.levels[level];
        state.heads[place] = push_block(heap, state.heads[place], mark.0);
        state.occupied[place / 64] |= 1 << (place % 64);
        self.timers += 1;
    }

    /// When the first timer fires.
    pub(crate) fn next(&self) -> Option<Millis> {
        let soonest = self.levels.iter().enumerate().filter_map(|(level, state)| {
            let number = state.first()?;
            Some(number.saturating_mul(1 << shift(level)))
        });
        soonest.min().map(Millis)
    }

    /// Takes out one block of timers that are due; `None` when there are none.
    pub(crate) fn fire(&mut self, heap: &mut Heap, now: Millis) -> Option<Fired> {
        for level in 0..LEVELS {
            let current = now.0 >> shift(level);
            match self.levels[level].first() {
                Some(number) if number <= current => {
                    self.levels[level].passed = number - 1;
                    return Some(self.take_block(heap, Bucket { level, number }));
                }
                _ => {
                    let passed = &mut self.levels[level].passed;
                    *passed = current.max(*passed);
                }
            }
        }
        None
    }

    /// Takes out some of the timers that fire first, due or not: at most `most` of a block.
    pub(crate) fn take_soonest(&mut self, heap: &mut Heap, most: usize) -> Option<Soonest> {
        let (level, number) = self
            .levels
            .iter()
            .enumerate()
            .filter_map(|(level, state)| Some((level, state.first()?)))
            .min_by_key(|(level, number)| number.saturating_mul(1 << shift(*level)))?;
        let bucket = Bucket { level, number };
        let mut fired = self.take_block(heap, bucket);
        let place = (number % BUCKETS as u64) as usize;
        while fired.count > most {
            fired.count -= 1;
            self.push(heap, level, place, Mark(fired.marks[fired.count]));
        }
        Some(Soonest { fired, bucket })
    }

    /// Puts timers back where they were taken from.
    pub(crate) fn put_back(&mut self, heap: &mut Heap, soonest: &Soonest) {
        let Bucket { level, number } = soonest.bucket;
        for mark in soonest.fired.marks() {
            self.push(heap, level, (number % BUCKETS as u64) as usize, mark);
        }
    }

    fn take_block(&mut self, heap: &mut Heap, bucket: Bucket) -> Fired {
        let place = (bucket.number % BUCKETS as u64) as usize;
        let head = self.levels[bucket.level].heads[place];
        if head == 0 {
            // All its blocks are with the sweep.
            self.end_sweep(bucket.level, place);
        }
        let state = &mut self.levels[bucket.level];
        let handle = block_handle(state.heads[place]);
        let (next, fired) = read_block(heap, handle);
        heap.give(handle);
        state.heads[place] = next;
        self.timers -= fired.count as u64;
        self.settle(bucket.level, place);
        fired
    }

    /// Keeps the bit of a bucket right.
    fn settle(&mut self, level: usize, place: usize) {
        let with_sweep = self
            .sweep
            .as_ref()
            .is_some_and(|sweep| (sweep.level, sweep.place) == (level, place) && sweep.kept != 0);
        let state = &mut self.levels[level];
        if state.heads[place] == 0 && !with_sweep {
            state.occupied[place / 64] &= !(1 << (place % 64));
        }
    }

    /// Gives swept blocks back to a bucket that has no others.
    fn end_sweep(&mut self, level: usize, place: usize) {
        let sweep = self.sweep.take().expect("a bucket with its bit has blocks");
        assert_eq!((sweep.level, sweep.place), (level, place));
        self.levels[level].heads[place] = sweep.kept;
    }

    /// Looks at one block of timers and drops the leftovers among them; `judge` is told the
    /// timer and for when it was set. Returns how many were dropped.
    pub(crate) fn sweep(
        &mut self,
        heap: &mut Heap,
        mut judge: impl FnMut(&Heap, Mark, Span) -> Verdict,
    ) -> usize {
        let Some((level, place)) = self.sweep_bucket() else {
            return 0;
        };
        let state = &mut self.levels[level];
        let head = state.heads[place];
        if head == 0 {
            self.end_sweep(level, place);
            self.sweep_next = after(level, place);
            return 0;
        }
        let distance = (place + BUCKETS - (state.passed as usize + 1) % BUCKETS) % BUCKETS;
        let number = state.passed + 1 + distance as u64;
        let span = Span {
            after: Millis((number - 1).saturating_mul(1 << shift(level))),
            until: Millis(number.saturating_mul(1 << shift(level))),
        };
        let handle = block_handle(head);
        let (next, block) = read_block(heap, handle);
        heap.give(handle);
        state.heads[place] = next;
        let mut kept = match &self.sweep {
            Some(sweep) => sweep.kept,
            None => 0,
        };
        let mut dropped = 0;
        for mark in block.marks() {
            match judge(heap, mark, span) {
                Verdict::Keep => kept = push_block(heap, kept, mark.0),
                Verdict::Drop => dropped += 1,
            }
        }
        self.sweep = Some(Sweep { level, place, kept });
        self.timers -= dropped as u64;
        self.settle(level, place);
        if kept == 0 && next == 0 {
            self.sweep = None;
            self.sweep_next = after(level, place);
        }
        dropped
    }

    /// The bucket that the sweep is in or comes to next.
    fn sweep_bucket(&self) -> Option<(usize, usize)> {
        if let Some(sweep) = &self.sweep {
            return Some((sweep.level, sweep.place));
        }
        let (mut level, mut place) = self.sweep_next;
        for _ in 0..=LEVELS * (BUCKETS / 64) {
            let bits = self.levels[level].occupied[place / 64] & u64::MAX << (place % 64);
            if bits != 0 {
                return Some((level, place / 64 * 64 + bits.trailing_zeros() as usize));
            }
            (level, place) = after(level, place | 63);
        }
        None
    }

    /// Checks counts and bits; calls `each` for every timer with the time at which it fires.
    pub(crate) fn invariants(&self, heap: &Heap, mut each: impl FnMut(Mark, Millis)) {
        let mut timers = 0;
        for (level, state) in self.levels.iter().enumerate() {
            for place in 0..BUCKETS {
                let distance = (place + BUCKETS - (state.passed as usize + 1) % BUCKETS) % BUCKETS;
                let number = state.passed + 1 + distance as u64;
                let fires = Millis(number.saturating_mul(1 << shift(level)));
                let kept = match &self.sweep {
                    Some(sweep) if (sweep.level, sweep.place) == (level, place) => sweep.kept,
                    _ => 0,
                };
                let occupied = state.occupied[place / 64] >> (place % 64) & 1 == 1;
                assert_eq!(occupied, state.heads[place] != 0 || kept != 0);
                for mut block in [state.heads[place], kept] {
                    while block != 0 {
                        let (next, timers_here) = read_block(heap, block_handle(block));
                        assert!(timers_here.count > 0);
                        for mark in timers_here.marks() {
                            each(mark, fires);
                            timers += 1;
                        }
                        block = next;
                    }
                }
            }
        }
        assert_eq!(timers, self.timers);
    }
}

fn after(level: usize, place: usize) -> (usize, usize) {
    if place + 1 < BUCKETS { (level, place + 1) } else { ((level + 1) % LEVELS, 0) }
}

fn block_handle(block: u32) -> Handle {
    Handle::new(u64::from(block) * BLOCK_UNITS)
}

/// Adds a timer to the chain of blocks at `head` and returns its new head.
fn push_block(heap: &mut Heap, head: u32, mark: u32) -> u32 {
    if head != 0 {
        let words = heap.words_mut(block_handle(head), BLOCK_UNITS as usize);
        let count = (words[0] >> 32) as usize;
        if count < BLOCK_TIMERS {
            put(words, count, mark);
            words[0] += 1 << 32;
            return head;
        }
    }
    let handle = heap.take(Class::WHEEL);
    let words = heap.words_mut(handle, BLOCK_UNITS as usize);
    words[0] = 1 << 32 | u64::from(head);
    put(words, 0, mark);
    (handle.units() / BLOCK_UNITS) as u32
}

/// Writes a timer, two of them a word, after the first word.
fn put(words: &mut [u64], number: usize, mark: u32) {
    let word = &mut words[1 + number / 2];
    *word = if number.is_multiple_of(2) {
        u64::from(mark)
    } else {
        *word & 0xFFFF_FFFF | u64::from(mark) << 32
    };
}

fn read_block(heap: &Heap, handle: Handle) -> (u32, Fired) {
    let words = heap.words(handle, BLOCK_UNITS as usize);
    let fired = Fired {
        marks: std::array::from_fn(|number| (words[1 + number / 2] >> (32 * (number % 2))) as u32),
        count: (words[0] >> 32) as usize,
    };
    (words[0] as u32, fired)
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::reserve::Backing;

    fn heap() -> Heap {
        Heap::new(64, Backing::PLAIN).expect("address space")
    }

    /// Timers of all lengths fire in time: not before, and hardly over 1/64 late.
    #[test]
    fn timers_fire_in_time() {
        let mut random = StdRng::seed_from_u64(4);
        let (mut heap, mut wheel) = (heap(), Wheel::new());
        let mut now = Millis(123_456_789);
        let mut due = std::collections::HashMap::new();
        let mut next_mark = 0;
        for _ in 0..20_000 {
            for _ in 0..random.random_range(0..4) {
                let length = 1_u64 << random.random_range(0..34);
                let at = Millis(now.0 + random.random_range(0..length));
                wheel.set(&mut heap, Mark(next_mark), at, now);
                due.insert(next_mark, (now, at));
                next_mark += 1;
            }
            let step = 1_u64 << random.random_range(0..24);
            let next = Millis(now.0 + random.random_range(0..step));
            // Go to the end of a bucket where one ends, as the event loop would.
            now = wheel.next().map_or(next, |timer| next.min(timer.max(now)));
            while let Some(fired) = wheel.fire(&mut heap, now) {
                for mark in fired.marks() {
                    let (set, at) = due.remove(&mark.0).expect("a timer fires once");
                    assert!(at <= now || at <= set);
                    let late = now.0 - at.0.max(set.0);
                    assert!(late <= 1 + (at.0 - set.0) / 63, "{late} of {}", at.0 - set.0);
                }
            }
            if next_mark % 64 == 0 {
                wheel.invariants(&heap, |mark, _| assert!(due.contains_key(&mark.0)));
            }
        }
        assert_eq!(wheel.timers(), due.len() as u64);
    }

    /// Sweeps between settings and firings drop exactly what they are told to.
    #[test]
    fn sweeps_drop_leftovers_only() {
        let mut random = StdRng::seed_from_u64(5);
        let (mut heap, mut wheel) = (heap(), Wheel::new());
        let mut now = Millis(0);
        let mut set = std::collections::HashSet::new();
        for mark in 0..50_000 {
            let at = Millis(now.0 + random.random_range(1..100_000));
            wheel.set(&mut heap, Mark(mark), at, now);
            set.insert(mark);
            if random.random_range(0..3) == 0 {
                wheel.sweep(&mut heap, |_, mark, _| {
                    if mark.0 % 3 == 0 {
                        set.remove(&mark.0);
                        Verdict::Drop
                    } else {
                        Verdict::Keep
                    }
                });
            }
            if random.random_range(0..100) == 0 {
                now.0 += random.random_range(0..3_000);
                while let Some(fired) = wheel.fire(&mut heap, now) {
                    for mark in fired.marks() {
                        assert!(set.remove(&mark.0));
                    }
                }
            }
            assert_eq!(wheel.timers(), set.len() as u64);
            if mark % 1_000 == 0 {
                wheel.invariants(&heap, |mark, _| assert!(set.contains(&mark.0)));
            }
        }
    }

    #[test]
    fn a_time_beyond_reach_fires_early_and_says_so() {
        let (mut heap, mut wheel) = (heap(), Wheel::new());
        let early = wheel.set(&mut heap, Mark(1), Millis(u64::MAX), Millis(5));
        assert!(early);
        assert!(!wheel.set(&mut heap, Mark(2), Millis(1 << 32), Millis(5)));
        assert!(wheel.next().is_some());
    }
}
