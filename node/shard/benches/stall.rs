//! The longest single call: growing from nothing, evicting, expiring entries that are due in
//! the same second, making room for large values, flushing.
//!
//! `cargo bench -p corelane-shard --bench stall -- [--items N]`, 20 million by default. Times
//! are the thread's own on its CPU; what interrupts it shows there too, so a loop that does
//! nothing but look at the clock is measured beside each part.
//!
//! The first growth also pays for the first touch of memory: under a hypervisor that zeroes
//! 2 MiB at a time, a few hundred microseconds each. The second one shows the shard alone;
//! [`Shard::prefaulter`] moves the difference to another thread.

mod clock;
mod keys;

use corelane_shard::{Expiry, Millis, Shard, ShardConfig, TickOutcome, Write};

use clock::thread_ns;
use keys::{name, slot_of};

const VALUE: [u8; 64] = [7; 64];

/// Times of single calls.
#[derive(Default)]
struct Calls {
    count: u64,
    total_ns: u64,
    longest_ns: u64,
    over_100_us: u64,
}

impl Calls {
    fn time<R>(&mut self, call: impl FnOnce() -> R) -> R {
        let start = thread_ns();
        let result = call();
        let ns = thread_ns() - start;
        self.count += 1;
        self.total_ns += ns;
        self.longest_ns = self.longest_ns.max(ns);
        self.over_100_us += u64::from(ns > 100_000);
        result
    }

    /// Prints them, and a spin loop of as much time.
    fn print(&self, what: &str) {
        let mut spin = Self::default();
        while spin.total_ns < self.total_ns.min(3_000_000_000) {
            spin.time(|| {
                for _ in 0..100 {
                    std::hint::spin_loop();
                }
            });
        }
        println!(
            "{what:<34} {:>9} calls, {:>6} ns each, longest {:>7.1} µs, {:>3} over 100 µs; spinning {:>6.1} µs, {:>3}",
            self.count,
            self.total_ns / self.count.max(1),
            self.longest_ns as f64 / 1e3,
            self.over_100_us,
            spin.longest_ns as f64 / 1e3,
            spin.over_100_us,
        );
    }
}

fn set(shard: &mut Shard, number: u64, write: Write<'_>) {
    let name = name(number);
    let key = shard.key(slot_of(&name), 0, &name);
    shard.set(&key, write, Millis(1), &mut ()).expect("room");
}

fn drain(shard: &mut Shard, now: Millis) -> Calls {
    let mut ticks = Calls::default();
    while ticks.time(|| shard.tick(now, &mut ())) == TickOutcome::More {}
    ticks
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let items = arguments
        .iter()
        .position(|argument| argument == "--items")
        .map_or(20_000_000, |at| arguments[at + 1].parse::<u64>().expect("a number of items"));

    let mut shard = Shard::new(ShardConfig::new(items * 140, slot_of)).expect("a shard");
    let mut calls = Calls::default();
    for number in 0..items {
        calls.time(|| set(&mut shard, number, Write::value(&VALUE)));
    }
    calls.print("growing, SET");
    let mut calls = Calls::default();
    calls.time(|| shard.flush(Millis(1), &mut ()));
    calls.print("flush");
    drain(&mut shard, Millis(1)).print("after the flush, tick");
    let mut calls = Calls::default();
    for number in 0..items {
        calls.time(|| set(&mut shard, number, Write::value(&VALUE)));
    }
    calls.print("growing over memory that is there");
    drop(shard);

    let mut shard = Shard::new(ShardConfig::new(items * 25, slot_of)).expect("a shard");
    let mut calls = Calls::default();
    for number in 0..items {
        let length = 20 + (number * 7_919 % 400) as usize;
        calls.time(|| set(&mut shard, number, Write::value(&[7; 420][..length])));
    }
    calls.print("evicting, SET");
    let mut calls = Calls::default();
    let value = vec![3; 1 << 20];
    for number in 0..200 {
        calls.time(|| set(&mut shard, 1 << 41 | number, Write::value(&value[..16 << 10])));
        let _ = shard.tick(Millis(1), &mut ());
    }
    calls.print("evicting for 16 KiB, SET");
    let mut calls = Calls::default();
    for number in 0..50 {
        let name = name(1 << 40 | number);
        let key = shard.key(slot_of(&name), 0, &name);
        let mut upload = shard.begin_upload(&key, value.len()).expect("a value of this size");
        while upload.bytes_left() > 0 {
            let at = value.len() - upload.bytes_left();
            let piece = &value[at..value.len().min(at + (16 << 10))];
            calls.time(|| shard.upload(&mut upload, piece, Millis(1), &mut ())).expect("room");
        }
        calls
            .time(|| shard.finish_upload(upload, &key, Write::value(&[]), Millis(1), &mut ()))
            .expect("room");
    }
    calls.print("evicting for 1 MiB, upload");

    let mut shard = Shard::new(ShardConfig::new(1 << 30, slot_of)).expect("a shard");
    for number in 0..1_000_000 {
        let expiry = Expiry::At(Millis(3_600_000 + number % 1_000));
        set(&mut shard, number, Write { expiry, ..Write::value(&VALUE) });
    }
    drain(&mut shard, Millis(4_000_000)).print("expiring 1 M in a second, tick");
}
