//! What it is worth that the index is in slot order, and what chosen keys cost.
//!
//! `cargo bench -p corelane-shard --bench slots -- [--items N]`, 2 million by default. The same
//! keys lie in two shards: in slot order, as the shard has it, and in hash order, which is the
//! same index with tables that are chosen by the keys' hash instead. There, whoever wants one
//! slot's entries walks all of them. Then the time of reading one entry where all keys are in
//! the slots of one core of 64, in one slot, and where an enemy who knows the secret chose them to share 12 bits of their hash.
//! Times are the thread's own on its CPU.

mod clock;
mod keys;

use corelane_shard::{Cursor, Key, Millis, Shard, ShardConfig, TableHash, TickOutcome, Write};

use clock::thread_ns;
use keys::{name, slot_of};

const NOW: Millis = Millis(1);
const VALUE: [u8; 64] = [7; 64];
const SLOTS: u16 = 16_384;
/// Slots that are walked and removed in slot order, and in hash order, where each takes long.
const SLOTS_WALKED: (u16, u16) = (64, 2);
/// Keys of the floods.
const FLOOD: usize = 4_000;

fn thread_us() -> f64 {
    thread_ns() as f64 / 1e3
}

fn timed<R>(work: impl FnOnce() -> R) -> (R, f64) {
    let start = thread_us();
    let result = work();
    (result, thread_us() - start)
}

/// What takes the slot's place in hash order: a number that has nothing to do with it.
fn table_of(key: &[u8]) -> u16 {
    let number = u64::from_le_bytes(key[..8].try_into().expect("eight bytes"));
    ((number ^ number >> 7).wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 50) as u16
}

/// The slots that one core of 64 has: a flood of them meets one shard.
fn one_core(key: &[u8]) -> u16 {
    slot_of(key) / 64
}

fn one_slot(_: &[u8]) -> u16 {
    7
}

/// A shard with its idea of a slot.
struct Subject {
    shard: Shard,
    slot_of: fn(&[u8]) -> u16,
}

impl Subject {
    fn new(items: u64, slot_of: fn(&[u8]) -> u16) -> Self {
        let hash = TableHash::Rapid { seed: 1 };
        let config = ShardConfig { hash, ..ShardConfig::new(items * 200 + (64 << 20), slot_of) };
        Self { shard: Shard::new(config).expect("a shard"), slot_of }
    }

    fn key<'a>(&self, name: &'a [u8]) -> Key<'a> {
        self.shard.key((self.slot_of)(name), 0, name)
    }

    fn fill(mut self, names: impl Iterator<Item = [u8; 16]>) -> Self {
        for name in names {
            let key = self.key(&name);
            self.shard.set(&key, Write::value(&VALUE), NOW, &mut ()).expect("room");
        }
        self
    }

    /// Nanoseconds of one read, over reads of all names in an order of chance.
    fn read_ns(&mut self, names: &[[u8; 16]]) -> f64 {
        let mut at = 0;
        let reads = 400_000;
        let ((), us) = timed(|| {
            for _ in 0..reads {
                at = (at * 5 + 7_919) % names.len();
                let key = self.key(&names[at]);
                assert!(self.shard.get(&key, NOW).is_some());
            }
        });
        us * 1e3 / f64::from(reads)
    }

    /// Counts the entries of a routing slot by walking the whole shard.
    fn count_by_walking(&self, slot: u16) -> u64 {
        let (mut count, mut cursor) = (0, Some(Cursor::START));
        while let Some(from) = cursor {
            cursor = self.shard.scan(from, 1_000, NOW, |key, _| {
                count += u64::from(slot_of(key.bytes) == slot);
            });
        }
        count
    }
}

fn locality(items: u64) {
    let names = || (0..items).map(name);
    let mut in_slots = Subject::new(items, slot_of).fill(names());
    let mut in_hashes = Subject::new(items, table_of).fill(names());
    let sample: Vec<_> =
        (0..items).step_by((items / 1_000_000).max(1) as usize).map(name).collect();
    let (one, other) = (in_slots.read_ns(&sample), in_hashes.read_ns(&sample));
    println!("{items} entries        slot order    hash order");
    println!("read, ns             {one:>10.0}    {other:>10.0}");
    let bytes = |subject: &Subject| subject.shard.stats().index_bytes as f64 / items as f64;
    println!("index, B an entry    {:>10.2}    {:>10.2}", bytes(&in_slots), bytes(&in_hashes));

    let walk_slot = |slot: u16| {
        let mut count = 0;
        let mut cursor = Some(Cursor::at_slot(slot));
        while let Some(from) = cursor.filter(|cursor| cursor.slot() == slot) {
            cursor = in_slots.shard.scan(from, 1_000, NOW, |key, _| {
                count += u64::from(key.slot == slot);
            });
        }
        count
    };
    let each = |us: f64, slots: u16| us / f64::from(slots);
    let (near, walked) = timed(|| (0..SLOTS_WALKED.0).map(walk_slot).sum::<u64>());
    let (far, searched) =
        timed(|| (0..SLOTS_WALKED.1).map(|slot| in_hashes.count_by_walking(slot)).sum::<u64>());
    println!(
        "walk a slot, µs      {:>10.1}    {:>10.0}",
        each(walked, SLOTS_WALKED.0),
        each(searched, SLOTS_WALKED.1)
    );
    let counted = |slots: u16| (0..slots).map(|slot| in_slots.shard.slot_len(slot)).sum::<u64>();
    assert_eq!((near, far), (counted(SLOTS_WALKED.0), counted(SLOTS_WALKED.1)));

    let ((), removed) = timed(|| {
        for slot in 0..SLOTS_WALKED.0 {
            while in_slots.shard.remove_slot(slot, 100, NOW, &mut ()) == TickOutcome::More {}
        }
    });
    assert_eq!(in_slots.shard.len(), items - near);
    // In hash order: names are collected on the way, and removed one by one.
    let ((), searched) = timed(|| {
        for slot in 0..SLOTS_WALKED.1 {
            let (mut found, mut cursor) = (Vec::new(), Some(Cursor::START));
            while let Some(from) = cursor {
                cursor = in_hashes.shard.scan(from, 1_000, NOW, |key, _| {
                    if slot_of(key.bytes) == slot {
                        found.push(key.bytes.to_vec());
                    }
                });
            }
            for name in found {
                let key = in_hashes.shard.key(table_of(&name), 0, &name);
                assert!(in_hashes.shard.remove(&key, NOW, &mut ()));
            }
        }
    });
    println!(
        "remove a slot, µs    {:>10.1}    {:>10.0}",
        each(removed, SLOTS_WALKED.0),
        each(searched, SLOTS_WALKED.1)
    );
}

/// Names whose hashes share their first bits, as one finds them who knows the secret: the
/// shard's own answer to where a key is tells, which no client gets.
fn same_leaf(subject: &Subject, bits: u32, count: usize) -> Vec<[u8; 16]> {
    let secrets = rapidhash::v3::RapidSecrets::seed(1);
    let shares =
        |name: &[u8; 16]| rapidhash::v3::rapidhash_v3_seeded(name, &secrets) >> (64 - bits) == 0;
    let names: Vec<_> = (0..).map(name).filter(shares).take(count).collect();
    assert!(subject.shard.is_empty());
    names
}

fn floods(items: u64) {
    println!("\nreading one of {FLOOD} entries, ns");
    let few: Vec<_> = (0..FLOOD as u64).map(name).collect();
    let spread = Subject::new(items, slot_of).fill(few.iter().copied()).read_ns(&few);
    println!("  over all slots                      {spread:>6.0}");
    let shard = Subject::new(items, one_core).fill(few.iter().copied()).read_ns(&few);
    println!("  in the slots of one core of 64      {shard:>6.0}");
    let single = Subject::new(items, one_slot).fill(few.iter().copied()).read_ns(&few);
    println!("  in one slot                         {single:>6.0}");
    let subject = Subject::new(items, one_slot);
    let chosen = same_leaf(&subject, 12, FLOOD);
    let shared = subject.fill(chosen.iter().copied()).read_ns(&chosen);
    println!("  in one slot, sharing 12 hash bits   {shared:>6.0}");
    println!("reading one of {items} entries, ns");
    let all: Vec<_> = (0..items).map(name).collect();
    let spread = Subject::new(items, slot_of).fill(all.iter().copied()).read_ns(&all);
    println!("  over all slots                      {spread:>6.0}");
    let shard = Subject::new(items, one_core).fill(all.iter().copied()).read_ns(&all);
    println!("  in the slots of one core of 64      {shard:>6.0}");
    let single = Subject::new(items, one_slot).fill(all.iter().copied()).read_ns(&all);
    println!("  in one slot                         {single:>6.0}");
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let items = arguments
        .iter()
        .position(|argument| argument == "--items")
        .map_or(2_000_000, |at| arguments[at + 1].parse::<u64>().expect("a number of items"));
    assert!(items >= u64::from(SLOTS), "an entry a slot");
    locality(items);
    floods(items);
}
