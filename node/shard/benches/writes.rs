//! Writes of the shard and of one `mimalloc` allocation an entry in a `hashbrown` table, in
//! turns: each turn fills a store by half, times the other half being inserted, and then as
//! many overwrites. The shard comes twice: with writes one by one, and with the memory of sixteen
//! keys asked for before the first of them is written, as a node does it. The stores take
//! turns to go first.
//!
//! `cargo bench -p corelane-shard --bench writes -- [--items N] [--turns N] [--only STORE]`
//! prints nanoseconds of the thread's own a write, median and range of the turns, and the
//! median of the turns' ratios to `mimalloc`. The shard's memory is faulted in beforehand, as in
//! a node; `mimalloc` keeps what it had in the turn before. `CORELANE_BENCH_HUGE_PAGES` asks for
//! huge pages for the shard, which `mimalloc` does by itself.

mod clock;
mod keys;
mod plain;

use corelane_shard::{HugePages, Key, Millis, Shard, ShardConfig, Write};

use clock::thread_ns;
use keys::{KEY_BYTES, name, slot_of};
use plain::Plain;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VALUE: [u8; 64] = [7; 64];
const OTHER_VALUE: [u8; 64] = [8; 64];
const NOW: Millis = Millis(1);

/// Names that a batch has.
const BATCH: usize = 16;

type Names = [[u8; KEY_BYTES]; BATCH];

/// What is measured.
trait Store {
    fn set(&mut self, names: &Names, value: &[u8]);

    fn value(&mut self, name: &[u8; KEY_BYTES]) -> Vec<u8>;
}

fn key<'a>(shard: &Shard, name: &'a [u8]) -> Key<'a> {
    shard.key(slot_of(name), 0, name)
}

struct OneByOne(Shard);

impl Store for OneByOne {
    #[inline(never)]
    fn set(&mut self, names: &Names, value: &[u8]) {
        for name in names {
            let key = key(&self.0, name);
            self.0.set(&key, Write::value(value), NOW, &mut ()).expect("room");
        }
    }

    fn value(&mut self, name: &[u8; KEY_BYTES]) -> Vec<u8> {
        self.0.peek(&key(&self.0, name), NOW).expect("there").value.to_vec()
    }
}

struct Ahead(OneByOne);

impl Store for Ahead {
    #[inline(never)]
    fn set(&mut self, names: &Names, value: &[u8]) {
        let Self(OneByOne(shard)) = self;
        let keys: [_; BATCH] = std::array::from_fn(|at| key(shard, &names[at]));
        let hints = keys.map(|key| shard.prefetch_index(&key.hash()));
        for hint in hints {
            shard.prefetch_entry(hint);
        }
        for key in &keys {
            shard.set(key, Write::value(value), NOW, &mut ()).expect("room");
        }
    }

    fn value(&mut self, name: &[u8; KEY_BYTES]) -> Vec<u8> {
        self.0.value(name)
    }
}

impl Store for Plain {
    #[inline(never)]
    fn set(&mut self, names: &Names, value: &[u8]) {
        for name in names {
            Plain::set(self, name, value);
        }
    }

    fn value(&mut self, name: &[u8; KEY_BYTES]) -> Vec<u8> {
        self.get(name).expect("there")[KEY_BYTES..].to_vec()
    }
}

fn shard(items: u64) -> Shard {
    let mut config = ShardConfig::new((items * 200).max(64 << 20), slot_of);
    if std::env::var_os("CORELANE_BENCH_HUGE_PAGES").is_some() {
        config.huge_pages = HugePages::Advise;
    }
    let shard = Shard::new(config).expect("a shard");
    let mut prefaulter = shard.prefaulter();
    while prefaulter.step(u64::MAX, 64 << 20).is_ok_and(|bytes| bytes > 0) {}
    shard
}

/// Nanoseconds a write, in one turn.
#[derive(Clone, Copy)]
struct Turn {
    insert: f64,
    overwrite: f64,
}

type Figure = fn(&Turn) -> f64;

fn turn(mut store: impl Store, items: u64) -> Turn {
    let batch = BATCH as u64;
    let names = |first: u64| std::array::from_fn(|at| name(first + at as u64));
    for number in (0..items / 2).step_by(BATCH) {
        store.set(&names(number), &VALUE);
    }
    let start = thread_ns();
    for number in (items / 2..items).step_by(BATCH) {
        store.set(&names(number), &VALUE);
    }
    let inserted = thread_ns();
    // An odd factor visits all in an order that is not that of writing.
    let order = |number: u64| number.wrapping_mul(0x9E37_79B1) % items;
    for number in (0..items / 2).step_by(BATCH) {
        let names = std::array::from_fn(|at| name(order(number + at as u64)));
        store.set(&names, &OTHER_VALUE);
    }
    let overwritten = thread_ns();
    assert_eq!(store.value(&name(order(batch))), OTHER_VALUE);
    let each = |nanoseconds: u64| nanoseconds as f64 / (items / 2) as f64;
    Turn { insert: each(inserted - start), overwrite: each(overwritten - inserted) }
}

fn median(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    (sorted[sorted.len() / 2], sorted[0], sorted[sorted.len() - 1])
}

fn option(name: &str) -> Option<String> {
    let arguments: Vec<String> = std::env::args().collect();
    let at = arguments.iter().position(|argument| argument == name)?;
    arguments.get(at + 1).cloned()
}

const STORES: [&str; 3] = ["one-by-one", "ahead", "mimalloc"];

fn main() {
    let number =
        |name, default| option(name).map_or(default, |text| text.parse::<u64>().expect("a number"));
    let (items, turns) = (number("--items", 2_000_000), number("--turns", 7) as usize);
    let items = items.next_multiple_of(2 * BATCH as u64);
    let only = option("--only");
    let mut all: [Vec<Turn>; STORES.len()] = std::array::from_fn(|_| Vec::new());
    for number in 0..turns * STORES.len() {
        let store = (number + number / STORES.len()) % STORES.len();
        if only.as_deref().is_some_and(|only| only != STORES[store]) {
            continue;
        }
        all[store].push(match store {
            0 => turn(OneByOne(shard(items)), items),
            1 => turn(Ahead(OneByOne(shard(items))), items),
            _ => turn(Plain::new(), items),
        });
    }
    let figures: [(&str, Figure); 2] =
        [("insert", |turn| turn.insert), ("overwrite", |turn| turn.overwrite)];
    for (what, figure) in figures {
        for (store, turns) in STORES.iter().zip(&all).filter(|(_, turns)| !turns.is_empty()) {
            let (middle, least, most) = median(turns.iter().map(figure));
            print!("{what:<10}{store:<12}{middle:>7.1} ns ({least:.1} to {most:.1})");
            let plain = &all[STORES.len() - 1];
            if plain.len() == turns.len() {
                let ratios =
                    turns.iter().zip(plain).map(|(one, plain)| figure(one) / figure(plain));
                let (middle, least, most) = median(ratios);
                print!(", × {middle:.2} ({least:.2} to {most:.2})");
            }
            println!();
        }
    }
}
