//! The bounds of single calls, in steps: what one call reports as changed, and what one call
//! allocates. And that a table with all its keys in one slot is as good as any.

mod counting;

use corelane_shard::{
    Cause, Change, Changes, Cursor, End, Expiry, Millis, Shard, ShardConfig, TableHash,
    TickOutcome, Write,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use counting::allocations;

/// Counts reports by cause since it was last asked.
#[derive(Default)]
struct Reports {
    evicted: usize,
    expired: usize,
}

impl Changes for Reports {
    fn changed(&mut self, change: &Change<'_>) {
        match change.cause {
            Cause::Evicted => self.evicted += 1,
            Cause::Expired => self.expired += 1,
            _ => {}
        }
    }
}

fn spread(key: &[u8]) -> u16 {
    let number = u64::from_le_bytes(key[..8].try_into().expect("eight bytes"));
    (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 50) as u16
}

fn name(number: u64) -> [u8; 16] {
    let mut key = [b'k'; 16];
    key[..8].copy_from_slice(&number.to_le_bytes());
    key
}

fn set(shard: &mut Shard, number: u64, write: Write<'_>, changes: &mut impl Changes) {
    let name = name(number);
    let key = shard.key(spread(&name), 0, &name);
    shard.set(&key, write, Millis(1), changes).expect("room");
}

fn filled(items: u64, budget: u64) -> Shard {
    let mut shard = Shard::new(ShardConfig::new(budget, spread)).expect("a shard");
    for number in 0..items {
        set(&mut shard, number, Write::value(&[7; 64]), &mut ());
    }
    shard
}

#[test]
fn reading_allocates_nothing_and_writing_hardly_anything() {
    let mut shard = filled(900_000, 64 << 20);
    assert!(shard.stats().evicted > 0);
    let names: Vec<_> = (800_000..900_000).map(name).collect();
    let (count, _) = allocations(|| {
        let mut hits = 0;
        for names in names.chunks(20) {
            let first = shard.key(spread(&names[0]), 0, &names[0]);
            hits += u64::from(shard.get(&first, Millis(1)).is_some());
            let keys: [_; 20] =
                std::array::from_fn(|at| shard.key(spread(&names[at]), 0, &names[at]));
            let hints = keys.map(|key| shard.prefetch_index(&key.hash()));
            let hints = hints.map(|hint| shard.prefetch_entry(hint));
            for (key, hint) in keys.iter().zip(hints) {
                shard.prefetch_value(hint);
                hits += u64::from(shard.get_ahead(key, hint, Millis(1)).is_some());
            }
        }
        assert!(hits > 50_000);
    });
    assert_eq!(count, 0);
    let (count, largest) = allocations(|| {
        for number in 900_000..1_400_000 {
            let write =
                Write { expiry: Expiry::At(Millis(1_000 + number)), ..Write::value(&[8; 80]) };
            set(&mut shard, number, write, &mut ());
            let _ = shard.tick(Millis(1), &mut ());
        }
    });
    assert!(count < 50, "{count} allocations for half a million writes");
    assert!(largest <= 128 << 10);
}

#[test]
fn growing_allocates_little_at_a_time() {
    let mut shard = Shard::new(ShardConfig::new(512 << 20, spread)).expect("a shard");
    let (count, largest) = allocations(|| {
        for number in 0..2_000_000 {
            set(&mut shard, number, Write::value(&[7; 64]), &mut ());
        }
    });
    assert!(count < 10, "{count} allocations");
    assert!(largest <= 128 << 10);
}

#[test]
fn entries_that_expire_together_go_in_slices() {
    let mut shard = Shard::new(ShardConfig::new(256 << 20, spread)).expect("a shard");
    for number in 0..500_000 {
        let write =
            Write { expiry: Expiry::At(Millis(60_000 + number % 1_000)), ..Write::value(&[7; 20]) };
        set(&mut shard, number, write, &mut ());
    }
    let now = Millis(70_000);
    assert!(shard.next_expiry().expect("timers") <= Millis(62_000));
    let (mut expired, mut ticks) = (0, 0);
    loop {
        let mut reports = Reports::default();
        let more = shard.tick(now, &mut reports);
        // Thirty timers; two keys may share one now and then.
        assert!(reports.expired <= 40, "{} in one tick", reports.expired);
        expired += reports.expired;
        ticks += 1;
        if more == TickOutcome::Idle {
            break;
        }
    }
    assert_eq!((expired, shard.len()), (500_000, 0));
    assert!(ticks <= 500_000 / 25, "slices are full");
    assert_eq!(shard.next_expiry(), None);
}

/// Steps of work that a call adds; see `ShardStats::work_steps`.
fn steps_of(shard: &mut Shard, call: impl FnOnce(&mut Shard)) -> u64 {
    let before = shard.stats().work_steps;
    call(shard);
    shard.stats().work_steps - before
}

/// Fills a shard of 16 MiB with values of the first lengths, all read often so that none is
/// ready to go, and then writes the others. Between two writes is a tick, as in a node, and more
/// while the shard is short of pages. No write may be refused, nor do more than 350 steps; no
/// tick more than 300, nor may it take many until there is room for a write.
fn check_steps(policy: &str, lengths: [std::ops::Range<usize>; 2]) {
    let mut config = ShardConfig::new(16 << 20, spread);
    config.policy = policy.parse().expect("a policy");
    let mut shard = Shard::new(config).expect("a shard");
    let mut random = StdRng::seed_from_u64(1);
    let value = vec![7; 64 << 10];
    let mut number = 0_u64;
    for (lengths, writes) in lengths.into_iter().zip([400_000, 6_000]) {
        for _ in 0..writes {
            let expiry = Expiry::At(Millis(1_000_000 + number));
            let length = random.random_range(lengths.clone());
            let write = Write { expiry, ..Write::value(&value[..length]) };
            let steps = steps_of(&mut shard, |shard| set(shard, number, write, &mut ()));
            assert!(steps <= 350, "{policy}: {steps} steps for {length} bytes");
            let name = name(number);
            let key = shard.key(spread(&name), 0, &name);
            (0..3).for_each(|_| assert!(shard.get(&key, Millis(1)).is_some()));
            let mut ticks = 0;
            while ticks == 0 || shard.is_short() {
                let steps = steps_of(&mut shard, |shard| {
                    let _ = shard.tick(Millis(1), &mut ());
                });
                assert!(steps <= 300, "{policy}: {steps} steps of a tick");
                ticks += 1;
                assert!(ticks <= 200, "{policy}: writes wait for long");
            }
            number += 1;
        }
    }
    assert!(shard.stats().evicted > 10_000);
    shard.invariants();
}

/// A step takes up to 0.2 µs: emptying a slot, of which a write does at most 64, is one, and
/// evicting what lies there another. Entries of 80 bytes lie 700 to a page, those of 24 bytes 2,700, so several writes pay for one.
/// Values of 16,384 bytes and a little less go to chunks.
#[test]
fn writes_do_a_bounded_number_of_steps() {
    for policy in ["s3", "ttl"] {
        check_steps(policy, [50..80, 4_000..4_100]);
        check_steps(policy, [50..80, 15_000..16_000]);
        check_steps(policy, [50..80, 16_330..16_385]);
    }
    check_steps("lfu", [0..10, 50..100]);
    check_steps("random", [0..10, 10_000..16_000]);
    for policy in ["volatile-s3", "fifo"] {
        check_steps(policy, [0..10, 1_000..4_000]);
        check_steps(policy, [0..10, 0..16_385]);
    }
}

/// Where only entries with an expiry may go, the others stay, whatever else there is no room
/// for.
#[test]
fn entries_that_may_not_go_stay() {
    let mut config = ShardConfig::new(16 << 20, spread);
    config.policy = "volatile-s3".parse().expect("a policy");
    let mut shard = Shard::new(config).expect("a shard");
    let items = 60_000;
    for number in 0..items {
        set(&mut shard, number, Write::value(&[7; 64]), &mut ());
    }
    let mut random = StdRng::seed_from_u64(1);
    let mut refused = 0;
    for number in items..items + 40_000 {
        let length = random.random_range(10..5_000);
        let expiry = match number % 3 {
            0 => Expiry::At(Millis(1_000_000 + number)),
            _ => Expiry::Never,
        };
        let name = name(number);
        let key = shard.key(spread(&name), 0, &name);
        let value = vec![7; length];
        let write = Write { expiry, ..Write::value(&value) };
        refused += u64::from(shard.set(&key, write, Millis(1), &mut ()).is_err());
        let _ = shard.tick(Millis(1), &mut ());
    }
    assert!(refused > 2_000);
    for number in 0..items {
        let name = name(number);
        let key = shard.key(spread(&name), 0, &name);
        assert!(shard.peek(&key, Millis(1)).is_some(), "entry {number} has no expiry");
    }
    shard.invariants();
}

#[test]
fn writes_evict_a_bounded_number_of_entries() {
    // Sizes shift all the time, so that pages are emptied all the time; the smallest entries
    // lie four thousand to a page.
    for medians in [[60, 300, 100, 900], [2, 700, 5, 20]] {
        let mut shard = filled(0, 64 << 20);
        let mut random = StdRng::seed_from_u64(1);
        for number in 0..1_500_000_u64 {
            let median = medians[(number / 200_000) as usize % 4];
            let length = random.random_range(median / 2..median * 2);
            let mut reports = Reports::default();
            set(&mut shard, number, Write::value(&vec![7; length]), &mut reports);
            // Sixteen candidates, 64 slots of a page, and as many as pay for the value.
            assert!(reports.evicted <= 16 + 64 + length / 4, "{} at once", reports.evicted);
        }
        assert!(shard.stats().evicted > 500_000);
        shard.invariants();
    }
}

#[test]
fn a_large_value_makes_room_in_slices() {
    let mut shard = filled(1_000_000, 64 << 20);
    let value: Vec<u8> = (0..4 << 20).map(|at| (at % 249) as u8).collect();
    let name = name(1 << 40);
    let key = shard.key(spread(&name), 0, &name);
    let mut upload = shard.begin_upload(&key, value.len()).expect("a value of this size");
    let mut calls = 0;
    while upload.bytes_left() > 0 {
        let at = value.len() - upload.bytes_left();
        let piece = &value[at..value.len().min(at + (64 << 10))];
        let mut reports = Reports::default();
        shard.upload(&mut upload, piece, Millis(1), &mut reports).expect("room");
        assert!(reports.evicted <= 48, "{} evicted", reports.evicted);
        calls += 1;
        assert!(calls < 10_000, "room is made");
    }
    let mut reports = Reports::default();
    shard.finish_upload(upload, &key, Write::value(&[]), Millis(1), &mut reports).expect("room");
    assert!(reports.evicted <= 96);
    let read = shard.peek(&key, Millis(1)).expect("there");
    assert_eq!(read.value.to_vec(), value);
    shard.invariants();
}

#[test]
fn a_flush_is_over_at_once_and_its_memory_comes_back() {
    let mut shard = filled(2_000_000, 512 << 20);
    let used = shard.stats().used_bytes;
    shard.flush(Millis(1), &mut ());
    assert!(shard.is_empty());
    let mut ticks = 0;
    while shard.tick(Millis(1), &mut ()) == TickOutcome::More {
        ticks += 1;
    }
    assert!(ticks >= used / (64 << 10) / 64, "64 pages a slice");
    assert!(shard.stats().used_bytes < 1 << 20);
    shard.invariants();
}

/// However many large values are dropped at once, they go in slices, and no list of them takes
/// memory.
#[test]
fn large_values_are_flushed_in_slices() {
    let mut shard = Shard::new(ShardConfig::new(64 << 20, spread)).expect("a shard");
    for number in 0..2_000 {
        let name = name(number);
        let key = shard.key(spread(&name), 0, &name);
        let mut upload = shard.begin_upload(&key, 5_000).expect("a value of this size");
        let taken = shard.upload(&mut upload, &[7; 4_000], Millis(1), &mut ()).expect("room");
        let rest = &[7; 5_000][taken..];
        let taken = shard.upload(&mut upload, rest, Millis(1), &mut ()).expect("room");
        assert_eq!(taken, rest.len());
        shard.finish_upload(upload, &key, Write::value(&[]), Millis(1), &mut ()).expect("room");
    }
    let before = shard.stats();
    assert!(before.large_bytes > 10 << 20 && before.evicted == 0);
    let (count, _) = allocations(|| {
        shard.flush(Millis(1), &mut ());
        let steps = |shard: &mut Shard| {
            steps_of(shard, |shard| {
                let _ = shard.tick(Millis(1), &mut ());
            })
        };
        while shard.stats().large_bytes > 0 {
            let steps = steps(&mut shard);
            assert!(steps > 0 && steps <= 200, "{steps} steps of a tick");
            // Half way through, another flush changes nothing.
            if steps % 5 == 0 {
                shard.flush(Millis(1), &mut ());
            }
        }
    });
    assert_eq!(count, 0);
    while shard.tick(Millis(1), &mut ()) == TickOutcome::More {}
    assert!(shard.stats().used_bytes < 1 << 20);
    shard.invariants();
}

#[test]
fn a_lowered_budget_is_reached_in_slices() {
    let mut config = ShardConfig::new(128 << 20, spread);
    config.budget_bytes_max = 256 << 20;
    let mut shard = Shard::new(config).expect("a shard");
    for number in 0..1_500_000 {
        set(&mut shard, number, Write::value(&[7; 64]), &mut ());
    }
    shard.set_budget(32 << 20);
    let mut ticks = 0;
    loop {
        let mut reports = Reports::default();
        let more = shard.tick(Millis(1), &mut reports);
        assert!(reports.evicted <= 16 + 64);
        ticks += 1;
        assert!(ticks < 1_000_000);
        if more == TickOutcome::Idle {
            break;
        }
    }
    let stats = shard.stats();
    assert!(stats.used_bytes <= 32 << 20, "{} bytes", stats.used_bytes);
    shard.set_budget(256 << 20);
    for number in 2_000_000..3_000_000 {
        set(&mut shard, number, Write::value(&[7; 64]), &mut ());
    }
    assert!(shard.len() > 1_000_000);
    shard.invariants();
}

/// Whoever chooses keys that all come to one shard of 64, to one slot, or, knowing the secret, to
/// one part of a slot's table, makes no call long. The most steps of one call are 1 for keys over all
/// slots, and 7, 9 and 105 for the chosen ones: the last split a table as often as they share bits.
#[test]
fn chosen_keys_make_no_call_long() {
    let secrets = rapidhash::v3::RapidSecrets::seed(1);
    let shares_bits =
        |name: &[u8; 16]| rapidhash::v3::rapidhash_v3_seeded(name, &secrets) >> 52 == 0;
    let any: Vec<_> = (0..100_000).map(name).collect();
    let chosen: Vec<_> = (0..).map(name).filter(shares_bits).take(4_000).collect();
    let mut most = Vec::new();
    for (names, slot_of) in [
        (&any, spread as fn(&[u8]) -> u16),
        (&any, |key| spread(key) / 64),
        (&any, |_| 77),
        (&chosen, |_| 77),
    ] {
        let hash = TableHash::Rapid { seed: 1 };
        let config = ShardConfig { hash, ..ShardConfig::new(64 << 20, slot_of) };
        let mut shard = Shard::new(config).expect("a shard");
        let mut steps_max = 0;
        for name in names {
            let steps = steps_of(&mut shard, |shard| {
                let key = shard.key(slot_of(name), 0, name);
                let write = Write::value(&[7; 64]);
                shard.set(&key, write, Millis(1), &mut ()).expect("room");
            });
            steps_max = steps_max.max(steps);
        }
        shard.invariants();
        for name in names {
            let steps = steps_of(&mut shard, |shard| {
                let key = shard.key(slot_of(name), 0, name);
                assert!(shard.get(&key, Millis(1)).is_some());
                assert!(shard.remove(&key, Millis(1), &mut ()));
            });
            steps_max = steps_max.max(steps);
        }
        assert!(shard.is_empty());
        most.push(steps_max);
    }
    assert!(most.iter().all(|steps| *steps <= 200), "{most:?}");
}

/// One slot with over a million keys: leaves as deep as twelve bits and more, whose words keep
/// later bits of the hash.
#[test]
fn one_slot_may_have_all_keys() {
    let one = |_: &[u8]| 77;
    let mut shard = Shard::new(ShardConfig::new(512 << 20, one)).expect("a shard");
    let items = 1_000_000;
    let put = |shard: &mut Shard, number: u64| {
        let name = name(number);
        let key = shard.key(77, 0, &name);
        let expiry = match number % 3 {
            0 => Expiry::At(Millis(1_000_000)),
            _ => Expiry::Never,
        };
        let write = Write { expiry, ..Write::value(&name) };
        shard.set(&key, write, Millis(1), &mut ()).expect("room");
    };
    for number in 0..items {
        put(&mut shard, number);
        if number % 16 == 0 {
            let _ = shard.tick(Millis(1), &mut ());
        }
    }
    shard.invariants();
    assert_eq!((shard.slot_len(77), shard.slot_len(76)), (items, 0));
    let overhead = shard.stats().index_bytes as f64 / items as f64;
    assert!(overhead < 12.5, "{overhead} bytes of index an item");
    let mut seen = 0;
    let mut cursor = Cursor::at_slot(77);
    while let Some(next) = shard.scan(cursor, 1_000, Millis(1), |_, _| seen += 1) {
        cursor = next;
    }
    assert_eq!(seen, items);
    for number in (0..items).step_by(7) {
        let name = name(number);
        let key = shard.key(77, 0, &name);
        let entry = shard.get(&key, Millis(1)).expect("there");
        assert_eq!(entry.value.as_slice(), Some(&name[..]));
    }
    while shard.tick(Millis(1_100_000), &mut ()) == TickOutcome::More {}
    assert_eq!(shard.len(), items - items.div_ceil(3));
    shard.invariants();
    for number in 0..items {
        let name = name(number);
        let key = shard.key(77, 0, &name);
        assert_eq!(shard.remove(&key, Millis(1_100_000), &mut ()), number % 3 != 0);
        if number % 250_000 == 0 {
            shard.invariants();
        }
    }
    assert!(shard.is_empty());
    shard.invariants();
    let stats = shard.stats();
    assert!(stats.used_bytes < 1 << 20, "{} bytes are left", stats.used_bytes);
}

/// Whatever is done to a shard, it takes memory from the allocator in small pieces.
#[test]
fn no_allocation_is_large() {
    let mut config = ShardConfig::new(64 << 20, spread);
    config.budget_bytes_max = 128 << 20;
    let mut shard = Shard::new(config).expect("a shard");
    let value = vec![3; 4 << 20];
    let (_, largest) = allocations(|| {
        for number in 0..600_000 {
            let expiry = Expiry::At(Millis(50_000 + number % 10_000));
            set(&mut shard, number, Write { expiry, ..Write::value(&[7; 64]) }, &mut ());
        }
        for number in 0..8 {
            let name = name(1 << 40 | number);
            let key = shard.key(spread(&name), 0, &name);
            let mut upload = shard.begin_upload(&key, value.len()).expect("room");
            while upload.bytes_left() > 0 {
                let rest = &value[value.len() - upload.bytes_left()..];
                shard.upload(&mut upload, rest, Millis(1), &mut ()).expect("room");
            }
            shard.finish_upload(upload, &key, Write::value(&[]), Millis(1), &mut ()).expect("room");
            let extended = shard.extend(&key, b"end", End::Append, None, Millis(1), &mut ());
            assert_eq!(extended, Ok(true));
            let entry = shard.peek(&key, Millis(1)).expect("there");
            assert_eq!(entry.value.len(), value.len() + 3);
        }
        shard.set_budget(32 << 20);
        while shard.tick(Millis(1), &mut ()) == TickOutcome::More {}
        shard.set_budget(128 << 20);
        while shard.tick(Millis(70_000), &mut ()) == TickOutcome::More {}
        shard.flush(Millis(70_000), &mut ());
        while shard.tick(Millis(70_000), &mut ()) == TickOutcome::More {}
    });
    assert!(largest <= 128 << 10, "{largest} bytes at once");
    shard.invariants();
}

/// A version costs an entry its own eight bytes and nothing besides.
#[test]
fn a_version_costs_eight_bytes() {
    let used = |versioned: bool| {
        let mut shard = filled(300_000, 128 << 20);
        if versioned {
            for number in 0..300_000 {
                let name = name(number);
                let key = shard.key(spread(&name), 0, &name);
                assert!(shard.ensure_version(&key, Millis(1)).expect("room").is_some());
            }
        }
        assert_eq!(shard.stats().evicted, 0);
        shard.stats().used_bytes
    };
    let more = (used(true) - used(false)) as f64 / 300_000.0;
    assert!((7.5..8.5).contains(&more), "{more} bytes");
}
