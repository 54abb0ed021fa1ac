//! Time of one operation: hits one by one and in batches, misses, overwrites, inserts that
//! evict, and the same over one `mimalloc` allocation an entry in a `hashbrown` table.
//!
//! `cargo bench -p corelane-shard --bench speed`; `CORELANE_BENCH_ITEMS` sets the number of
//! items, 2 million by default, and `CORELANE_BENCH_HUGE_PAGES` asks for huge pages, which
//! `mimalloc` does by itself. Times are the thread's own on its CPU, so that what else runs
//! on the machine shows less. The memory is faulted in beforehand, as in a node.

mod keys;
mod plain;

use std::hint::black_box;

use corelane_shard::{HugePages, Key, Millis, Shard, ShardConfig, Write};
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BatchSize, Throughput, criterion_group, criterion_main};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use keys::{KEY_BYTES, name, slot_of};
use plain::Plain;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VALUE: [u8; 64] = [7; 64];
const NOW: Millis = Millis(1);

type Criterion = criterion::Criterion<CpuTime>;

/// Nanoseconds that this thread has run.
struct CpuTime(WallTime);

impl Measurement for CpuTime {
    type Intermediate = u64;
    type Value = u64;

    fn start(&self) -> u64 {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call fills the struct that it is given.
        let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
        assert_eq!(result, 0);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }

    fn end(&self, start: u64) -> u64 {
        self.start() - start
    }

    fn add(&self, one: &u64, other: &u64) -> u64 {
        one + other
    }

    fn zero(&self) -> u64 {
        0
    }

    fn to_f64(&self, value: &u64) -> f64 {
        *value as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self.0.formatter()
    }
}

fn items() -> u64 {
    let text = std::env::var("CORELANE_BENCH_ITEMS");
    text.map_or(2_000_000, |text| text.parse().expect("a number of items"))
}

fn key<'a>(shard: &Shard, name: &'a [u8]) -> Key<'a> {
    shard.key(slot_of(name), 0, name)
}

fn filled(items: u64, budget: u64) -> Shard {
    let mut config = ShardConfig::new(budget, slot_of);
    if std::env::var_os("CORELANE_BENCH_HUGE_PAGES").is_some() {
        config.huge_pages = HugePages::Advise;
    }
    let mut shard = Shard::new(config).expect("a shard");
    // A node has a thread that does this ahead of use; `mimalloc` keeps what it had in the turn
    // before.
    let mut prefaulter = shard.prefaulter();
    while prefaulter.step(u64::MAX, 64 << 20).is_ok_and(|bytes| bytes > 0) {}
    for number in 0..items {
        let name = name(number);
        let key = key(&shard, &name);
        shard.set(&key, Write::value(&VALUE), NOW, &mut ()).expect("room");
    }
    shard
}

/// The next number, which cannot be known before the last value was read: a server does other
/// work between two reads, so that the processor does not run ahead from one to the next.
fn after(last: u8, number: u64) -> u64 {
    number ^ u64::from(last >> 7)
}

fn reads(criterion: &mut Criterion) {
    let items = items();
    let mut shard = filled(items, items * 200);
    let mut random = StdRng::seed_from_u64(1);
    let mut group = criterion.benchmark_group(format!("read/{items}"));
    group.throughput(Throughput::Elements(1));
    let mut last = 0;
    group.bench_function("hit", |bencher| {
        bencher.iter(|| {
            let name = name(after(last, random.random_range(0..items)));
            let key = key(&shard, &name);
            let entry = shard.get(&key, NOW).expect("a hit");
            last = entry.value.as_slice().expect("short")[0];
        });
    });
    group.bench_function("miss", |bencher| {
        bencher.iter(|| {
            let name = name(items + random.random_range(0..items));
            let key = key(&shard, &name);
            assert!(shard.get(&key, NOW).is_none());
        });
    });
    for batch in [16, 32] {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(format!("hit in batches of {batch}"), |bencher| {
            bencher.iter(|| {
                let names: [_; 32] = std::array::from_fn(|_| name(random.random_range(0..items)));
                let keys: [_; 32] = std::array::from_fn(|at| key(&shard, &names[at]));
                let keys = &keys[..batch as usize];
                let hints: [_; 32] = std::array::from_fn(|at| {
                    keys.get(at).map(|key| shard.prefetch_index(&key.hash())).unwrap_or_default()
                });
                let hints = hints.map(|hint| shard.prefetch_entry(hint));
                let hints = hints.map(|hint| match hint.is_on_its_way() {
                    true => shard.prefetch_entry(hint),
                    false => hint,
                });
                for (key, hint) in keys.iter().zip(hints) {
                    shard.prefetch_value(hint);
                    let entry = shard.get_ahead(key, hint, NOW).expect("a hit");
                    black_box(entry.value.as_slice().map(|value| value[0]));
                }
            });
        });
    }
    group.finish();
}

fn writes(criterion: &mut Criterion) {
    let items = items();
    let mut shard = filled(items, items * 200);
    let mut random = StdRng::seed_from_u64(2);
    let mut group = criterion.benchmark_group(format!("write/{items}"));
    group.throughput(Throughput::Elements(1));
    group.bench_function("overwrite", |bencher| {
        bencher.iter(|| {
            let name = name(random.random_range(0..items));
            let key = key(&shard, &name);
            shard.set(&key, Write::value(&VALUE), NOW, &mut ()).expect("room");
        });
    });
    group.throughput(Throughput::Elements(items / 2));
    group.sample_size(10);
    group.bench_function("insert", |bencher| {
        bencher.iter_batched_ref(
            || filled(items / 2, items * 200),
            |shard| {
                for number in items / 2..items {
                    let name = name(number);
                    let key = key(shard, &name);
                    shard.set(&key, Write::value(&VALUE), NOW, &mut ()).expect("room");
                }
            },
            BatchSize::PerIteration,
        );
    });
    drop(shard);
    shard = filled(items, items * 100);
    let mut next = items;
    group.throughput(Throughput::Elements(1));
    group.sample_size(100);
    // Fill it up first, so that every insert evicts.
    while shard.stats().evicted < items / 2 {
        let name = name(next);
        next += 1;
        let key = key(&shard, &name);
        shard.set(&key, Write::value(&VALUE), NOW, &mut ()).expect("room");
    }
    group.bench_function("insert and evict", |bencher| {
        bencher.iter(|| {
            let name = name(next);
            next += 1;
            let key = key(&shard, &name);
            shard.set(&key, Write::value(&VALUE), NOW, &mut ()).expect("room");
        });
    });
    group.finish();
}

fn one_allocation_an_entry(criterion: &mut Criterion) {
    let items = items();
    let filled = |items| {
        let mut plain = Plain::new();
        for number in 0..items {
            plain.set(&name(number), &VALUE);
        }
        plain
    };
    let mut plain = filled(items);
    let mut random = StdRng::seed_from_u64(3);
    let mut group = criterion.benchmark_group(format!("mimalloc and hashbrown/{items}"));
    group.throughput(Throughput::Elements(1));
    let mut last = 0;
    group.bench_function("hit", |bencher| {
        bencher.iter(|| {
            let key = name(after(last, random.random_range(0..items)));
            last = plain.get(&key).expect("a hit")[KEY_BYTES];
        });
    });
    group.bench_function("overwrite", |bencher| {
        bencher.iter(|| plain.set(&name(random.random_range(0..items)), &VALUE));
    });
    group.throughput(Throughput::Elements(items / 2));
    group.sample_size(10);
    group.bench_function("insert", |bencher| {
        bencher.iter_batched_ref(
            || filled(items / 2),
            |plain| {
                for number in items / 2..items {
                    plain.set(&name(number), &VALUE);
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = criterion::Criterion::default().with_measurement(CpuTime(WallTime));
    targets = reads, writes, one_allocation_an_entry
}
criterion_main!(benches);
