//! What could make a shard stall, as calls to it.

use std::hint::black_box;

use clap::ValueEnum;
use corelane_ring::slot_of;
use corelane_shard::{Expiry, Key, Millis, Shard, ShardConfig, TickOutcome, Write, WriteError};

use super::meter::Meter;
use crate::workload::{KeyFormat, KeyNumber};

/// Bytes of every key.
const KEY_BYTES: usize = 16;
/// Small values.
const VALUE: [u8; 64] = [7; 64];
/// The large value's bytes.
const LARGE_BYTES: usize = 1 << 20;
/// Bytes of a piece in which a large value arrives.
const PIECE_BYTES: usize = 64 << 10;
/// The longest value that is written in one call; a node has longer ones received piece by
/// piece.
const WHOLE_BYTES: usize = 16 << 10;
/// Large values written.
const LARGE_VALUES: u64 = 64;
/// Requests between two slices of housekeeping, as a node's loop has them between batches.
const REQUESTS_PER_TICK: u64 = 16;
/// Budget for each entry where nothing is to be evicted: more than twice what it takes.
const ROOMY_BYTES: u64 = 240;
/// Budget for each entry where the shard is to be full.
const TIGHT_BYTES: u64 = 90;
/// The same where values are tiny.
const TINY_BYTES: u64 = 38;
/// Bytes that tiny values have at most.
const TINY_VALUE_BYTES: u64 = 10;
/// Values of all sizes written over tiny ones: one for so many of these.
const RESHAPED_SHARE: u64 = 64;
/// The second in which everything is due.
const DUE_FROM_MS: u64 = 9_000;
/// When it is found to be: reclaiming may be late by 1/64 of the time to live.
const FOUND: Millis = Millis(DUE_FROM_MS + 2_000);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// From no entries to all.
    Growing,
    /// As many entries again, due in the same second, found due all at once.
    Expiring,
    /// Large values into a shard full of small ones, piece by piece, and the longest that are
    /// written in one call.
    LargeValues,
    /// Values of all sizes up to the longest that are written in one call, in no order, into a
    /// shard full of tiny ones that were all read often.
    Reshaping,
    /// All entries flushed, and new ones written while their memory returns.
    Flushing,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Scenario; 5] = [
        Scenario::Growing,
        Scenario::Expiring,
        Scenario::LargeValues,
        Scenario::Reshaping,
        Scenario::Flushing,
    ];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Growing => "growing",
            Scenario::Expiring => "expiring",
            Scenario::LargeValues => "large values",
            Scenario::Reshaping => "reshaping",
            Scenario::Flushing => "flushing",
        }
    }
}

/// The sorts of operations that are timed.
#[derive(Debug, Default)]
pub struct Meters {
    /// Reads.
    pub get: Meter,
    /// Writes of small values.
    pub set: Meter,
    /// Writes of a long value in one call.
    pub set_long: Meter,
    /// Writes of values of all sizes.
    pub set_any: Meter,
    /// Pieces of a large value, and its end.
    pub piece: Meter,
    /// Flushes.
    pub flush: Meter,
    /// Slices of housekeeping.
    pub tick: Meter,
    /// A loop that does nothing else, once beside each slice.
    pub spin: Meter,
}

impl Meters {
    /// With what each counts.
    pub fn named(&self) -> [(&'static str, &Meter); 8] {
        let Meters { get, set, set_long, set_any, piece, flush, tick, spin } = self;
        [
            ("get", get),
            ("set", set),
            ("set of 16 KiB", set_long),
            ("set up to 16 KiB", set_any),
            ("piece of 64 KiB", piece),
            ("flush", flush),
            ("tick", tick),
            ("spin loop", spin),
        ]
    }

    fn begin_turn(&mut self) {
        let Meters { get, set, set_long, set_any, piece, flush, tick, spin } = self;
        for meter in [get, set, set_long, set_any, piece, flush, tick, spin] {
            meter.begin_turn();
        }
    }

    fn tick(&mut self, shard: &mut Shard, now: Millis) -> TickOutcome {
        self.spin.time(spin);
        self.tick.time(|| shard.tick(now, &mut ()))
    }
}

/// Less than a microsecond of work that touches no memory.
fn spin() {
    (0..1_000u64).for_each(|step| {
        black_box(step);
    });
}

/// A shard and the names of its keys.
struct Subject {
    shard: Shard,
    keys: KeyFormat,
}

impl Subject {
    fn new(items: u64, bytes_per_item: u64) -> Subject {
        // Large values are an eighth of the budget at most.
        let budget = (items * bytes_per_item).max(16 * LARGE_BYTES as u64);
        let config = ShardConfig::new(budget, |key| slot_of(key).number());
        let keys = KeyFormat::new(1 << 40, KEY_BYTES).expect("the key is long enough");
        Subject { shard: Shard::new(config).expect("the budget is possible"), keys }
    }

    /// Does something with the key of a number.
    fn with<R>(&mut self, number: u64, act: impl FnOnce(&mut Shard, Key<'_>) -> R) -> R {
        let mut buffer = self.keys.buffer();
        let bytes = self.keys.write(KeyNumber(number), &mut buffer);
        let key = self.shard.key(slot_of(bytes).number(), 0, bytes);
        act(&mut self.shard, key)
    }

    fn fill(&mut self, numbers: std::ops::Range<u64>, expiry: impl Fn(u64) -> Expiry) {
        for number in numbers {
            let write = Write { expiry: expiry(number), ..Write::value(&VALUE) };
            self.with(number, |shard, key| shard.set(&key, write, Millis(0), &mut ()))
                .expect("something can always be evicted");
            if number % REQUESTS_PER_TICK == 0 {
                let _more = self.shard.tick(Millis(0), &mut ());
            }
        }
    }

    fn timed_set(&mut self, number: u64, now: Millis, meters: &mut Meters) {
        let write = Write::value(&VALUE);
        self.with(number, |shard, key| meters.set.time(|| shard.set(&key, write, now, &mut ())))
            .expect("something can always be evicted");
    }

    /// Housekeeping between requests, and as much of it as writes wait for.
    fn timed_ticks(&mut self, meters: &mut Meters) {
        loop {
            let _more = meters.tick(&mut self.shard, Millis(0));
            if !self.shard.is_short() {
                return;
            }
        }
    }

    fn timed_get(&mut self, number: u64, now: Millis, meters: &mut Meters) {
        self.with(number, |shard, key| {
            meters.get.time(|| black_box(shard.get(&key, now).map(|entry| entry.value.len())));
        });
    }
}

/// Plays a scenario once, with so many entries.
pub fn play(scenario: Scenario, items: u64, meters: &mut Meters) {
    meters.begin_turn();
    match scenario {
        Scenario::Growing => grow(items, meters),
        Scenario::Expiring => expire(items, meters),
        Scenario::LargeValues => write_large(items, meters),
        Scenario::Reshaping => reshape(items, meters),
        Scenario::Flushing => flush(items, meters),
    }
}

fn grow(items: u64, meters: &mut Meters) {
    let mut subject = Subject::new(items, ROOMY_BYTES);
    for number in 0..items {
        subject.timed_set(number, Millis(0), meters);
        if number % REQUESTS_PER_TICK == 0 {
            let _more = meters.tick(&mut subject.shard, Millis(0));
        }
    }
    assert_eq!(subject.shard.len(), items, "nothing is evicted from a roomy shard");
}

fn expire(items: u64, meters: &mut Meters) {
    let mut subject = Subject::new(2 * items, ROOMY_BYTES);
    subject.fill(0..items, |_| Expiry::Never);
    subject.fill(items..2 * items, |number| Expiry::At(Millis(DUE_FROM_MS + number % 1_000)));
    let mut number = 0;
    while meters.tick(&mut subject.shard, FOUND) == TickOutcome::More {
        number = (number + 7_919) % items;
        subject.timed_get(number, FOUND, meters);
    }
    assert_eq!(subject.shard.len(), items, "all that was due is gone, and nothing else");
}

fn write_large(items: u64, meters: &mut Meters) {
    let mut subject = Subject::new(items, TIGHT_BYTES);
    subject.fill(0..items + items / 4, |_| Expiry::Never);
    let value = vec![9; LARGE_BYTES];
    let large = 2 * items;
    for number in large..large + LARGE_VALUES {
        let write = Write::value(&value[..WHOLE_BYTES]);
        subject
            .with(2 * number, |shard, key| {
                meters.set_long.time(|| shard.set(&key, write, Millis(0), &mut ()))
            })
            .expect("it is no more than an eighth of the shard");
        subject.timed_ticks(meters);
        subject
            .with(2 * number + 1, |shard, key| upload(shard, &key, &value, meters))
            .expect("it is no more than an eighth of the shard");
        subject.timed_ticks(meters);
    }
}

fn upload(
    shard: &mut Shard,
    key: &Key<'_>,
    value: &[u8],
    meters: &mut Meters,
) -> Result<(), WriteError> {
    let now = Millis(0);
    let mut upload = shard.begin_upload(key, value.len())?;
    // Room is made in slices, so a piece may be taken only in part, or not at all yet.
    while upload.bytes_left() > 0 {
        let rest = &value[value.len() - upload.bytes_left()..];
        let piece = &rest[..rest.len().min(PIECE_BYTES)];
        meters.piece.time(|| shard.upload(&mut upload, piece, now, &mut ()))?;
        let _more = meters.tick(shard, now);
    }
    let write = Write::value(&[]);
    meters.piece.time(|| shard.finish_upload(upload, key, write, now, &mut ()))
}

fn reshape(items: u64, meters: &mut Meters) {
    let mut subject = Subject::new(items, TINY_BYTES);
    let value = [9; WHOLE_BYTES];
    let bytes = |number: u64, most: u64| (number.wrapping_mul(0x9E37_79B9) >> 8 & 0xFFFF) % most;
    for number in 0..items + items / 4 {
        let write = Write::value(&value[..bytes(number, TINY_VALUE_BYTES) as usize]);
        subject.with(number, |shard, key| {
            shard.set(&key, write, Millis(0), &mut ()).expect("something can always be evicted");
            (0..3).for_each(|_| assert!(shard.get(&key, Millis(0)).is_some()));
        });
        if number % REQUESTS_PER_TICK == 0 {
            let _more = subject.shard.tick(Millis(0), &mut ());
        }
    }
    for number in 2 * items..2 * items + items / RESHAPED_SHARE {
        // Each power of two as often as any other.
        let most = WHOLE_BYTES as u64 >> (number % 8);
        let write = Write::value(&value[..bytes(number, most) as usize]);
        subject
            .with(number, |shard, key| {
                meters.set_any.time(|| shard.set(&key, write, Millis(0), &mut ()))
            })
            .expect("something can always be evicted");
        subject.timed_ticks(meters);
    }
}

fn flush(items: u64, meters: &mut Meters) {
    let mut subject = Subject::new(items, ROOMY_BYTES);
    subject.fill(0..items, |_| Expiry::Never);
    meters.flush.time(|| subject.shard.flush(Millis(0), &mut ()));
    let mut number = items;
    while meters.tick(&mut subject.shard, Millis(0)) == TickOutcome::More {
        subject.timed_set(number, Millis(0), meters);
        number += 1;
    }
    assert_eq!(subject.shard.len(), number - items, "only what was written since is there");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_does_the_same_in_every_turn() {
        for scenario in Scenario::ALL {
            let mut meters = Meters::default();
            for _ in 0..2 {
                play(scenario, 20_000, &mut meters);
            }
            let named = meters.named();
            let count = |name| {
                let (_, meter) = named.iter().find(|(other, _)| *other == name).unwrap();
                meter.figures().operations
            };
            assert!(count("tick") > 0 && count("tick") == count("spin loop"), "{scenario:?}");
            match scenario {
                Scenario::Growing => assert_eq!(count("set"), 20_000),
                Scenario::Expiring => assert!(count("get") > 0),
                Scenario::LargeValues => {
                    assert_eq!(count("set of 16 KiB"), LARGE_VALUES);
                    let pieces = (LARGE_BYTES / PIECE_BYTES + 1) as u64;
                    assert!(count("piece of 64 KiB") >= LARGE_VALUES * pieces);
                }
                Scenario::Reshaping => {
                    assert_eq!(count("set up to 16 KiB"), 20_000 / RESHAPED_SHARE);
                }
                Scenario::Flushing => assert_eq!(count("flush"), 1),
            }
        }
    }
}
