//! Overhead an item: growth of the process's resident memory over an empty shard, less keys
//! and values.
//!
//! `cargo bench -p corelane-shard --bench memory -- [--items N] [--ttl] [--versions] [--sweep]`
//! prints one line per count of items; `--sweep` goes from 1.5 to 4 million in steps of 250
//! thousand and names the largest.

mod keys;

use corelane_shard::{EntryVersion, Expiry, Millis, Shard, ShardConfig, Write};

use keys::{KEY_BYTES, name, slot_of};

const VALUE_BYTES: usize = 64;

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/smaps_rollup").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("Rss:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)).expect("a size");
    kib.parse::<u64>().expect("a number") * 1024
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let items = arguments
        .iter()
        .position(|argument| argument == "--items")
        .map_or(2_000_000, |at| arguments[at + 1].parse::<u64>().expect("a number of items"));
    let marks: Vec<u64> =
        if has("--sweep") { (6..=16).map(|step| step * 250_000).collect() } else { vec![items] };
    let last = *marks.last().expect("a mark");
    let budget = (last * 200).max(1 << 30);
    let mut shard = Shard::new(ShardConfig::new(budget, slot_of)).expect("a shard");
    let before = resident_bytes();
    let mut largest: f64 = 0.0;
    let mut number = 0;
    for mark in marks {
        while number < mark {
            let bytes = name(number);
            let key = shard.key(slot_of(&bytes), 0, &bytes);
            let now = Millis(number / 1_000);
            let expiry = if has("--ttl") {
                Expiry::At(Millis(now.0 + 3_600_000 + number * 7_919 % 3_600_000))
            } else {
                Expiry::Never
            };
            let write = Write {
                value: &[7; VALUE_BYTES],
                user_flags: 0,
                expiry,
                version: has("--versions").then_some(EntryVersion::Shard(number)),
            };
            shard.set(&key, write, now, &mut ()).expect("room");
            number += 1;
            if number.is_multiple_of(16) {
                let _ = shard.tick(now, &mut ());
            }
        }
        let grown = resident_bytes() - before;
        let overhead = grown as f64 / mark as f64 - (KEY_BYTES + VALUE_BYTES) as f64;
        largest = largest.max(overhead);
        let stats = shard.stats();
        println!(
            "{mark:>10} items: {overhead:6.2} B an item (index {:5.2}, entries {:5.2}, wheel {:5.2})",
            stats.index_bytes as f64 / mark as f64,
            stats.slack_bytes as f64 / mark as f64,
            stats.wheel_bytes as f64 / mark as f64,
        );
    }
    println!("largest: {largest:.2} B an item");
}
