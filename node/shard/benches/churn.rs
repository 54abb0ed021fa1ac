//! Memory kept through shifts of value size: log-normal values with medians of 100, 400, 1500,
//! 60 and 300 bytes (σ = 1), 30 % overwrites with a new size, 10 % deletes, three budgets
//! written in each phase.
//!
//! `cargo bench -p corelane-shard --bench churn -- [--budget MIB]` prints, per phase, the share
//! of keys and values in resident memory at its lowest and over the last third, and bytes
//! written with compaction to bytes written.

mod keys;

use corelane_shard::{Millis, Shard, ShardConfig, Write};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use keys::{name, slot_of};

const MEDIANS: [f64; 5] = [100.0, 400.0, 1500.0, 60.0, 300.0];

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/smaps_rollup").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("Rss:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)).expect("a size");
    kib.parse::<u64>().expect("a number") * 1024
}

/// A standard normal number (Box and Muller 1958).
fn normal(random: &mut StdRng) -> f64 {
    let (one, two): (f64, f64) = (random.random(), random.random());
    (-2.0 * (1.0 - one).ln()).sqrt() * (std::f64::consts::TAU * two).cos()
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let budget = arguments
        .iter()
        .position(|argument| argument == "--budget")
        .map_or(512, |at| arguments[at + 1].parse::<u64>().expect("MiB"))
        << 20;
    let value = vec![7; 1 << 20];
    let mut random = StdRng::seed_from_u64(1);
    let empty = resident_bytes();
    let mut shard = Shard::new(ShardConfig::new(budget, slot_of)).expect("a shard");
    let mut next = 0_u64;
    let mut full = false;
    for median in MEDIANS {
        let start = shard.stats();
        let (mut lowest, mut at_lowest, mut most) = (f64::MAX, start, 0);
        let (mut late, mut samples) = (0.0, 0);
        let mut operation = 0_u64;
        let mut written = 0;
        while written < 3 * budget {
            operation += 1;
            // Recent keys, most of which are still there.
            let recent = next.saturating_sub(1 + random.random_range(0..shard.len().max(1)));
            let lot: f64 = random.random();
            let number = if lot < 0.4 { recent } else { next };
            let name = name(number);
            let key = shard.key(slot_of(&name), 0, &name);
            if lot < 0.1 {
                shard.remove(&key, Millis(1), &mut ());
            } else {
                next += u64::from(number == next);
                let length = ((median.ln() + normal(&mut random)).exp() as usize).min(value.len());
                let write = Write::value(&value[..length]);
                shard.set(&key, write, Millis(1), &mut ()).expect("room");
                written += (name.len() + length) as u64;
            }
            let _ = shard.tick(Millis(1), &mut ());
            if operation.is_multiple_of(16_384) {
                let stats = shard.stats();
                full |= stats.evicted > 0;
                let resident = resident_bytes() - empty;
                most = most.max(resident);
                if full {
                    let share = stats.payload_bytes as f64 / resident as f64;
                    if share < lowest {
                        (lowest, at_lowest) = (share, stats);
                    }
                    if written > 2 * budget {
                        late += share;
                        samples += 1;
                    }
                }
            }
        }
        let stats = shard.stats();
        let moved = stats.moved_bytes - start.moved_bytes;
        let share = |bytes: u64| bytes as f64 / budget as f64;
        println!(
            "median {median:>6}: payload/RSS lowest {lowest:.3}, late {:.3}; RSS/budget {:.3}; \
             write amplification {:.3}; evicted {:.2} of written",
            late / f64::from(samples),
            share(most),
            1.0 + moved as f64 / written as f64,
            (stats.evicted_bytes - start.evicted_bytes) as f64 / written as f64,
        );
        for (when, stats) in [("lowest", at_lowest), ("end", stats)] {
            println!(
                "  at the {when}: of the budget index {:.3}, wheel and policy {:.3}, slack {:.3}, \
                 chunks {:.3}, free {:.3}; {} entries",
                share(stats.index_bytes),
                share(stats.policy_bytes + stats.wheel_bytes),
                share(stats.slack_bytes),
                share(stats.large_bytes),
                1.0 - share(stats.used_bytes),
                stats.items,
            );
        }
    }
    shard.invariants();
}
