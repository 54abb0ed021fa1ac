//! Random operations at random times, against a plain map with expiry.
//!
//! The map is told of evictions and expiries by the shard's own reports, so every read must
//! agree exactly: a report too many or too few shows. `CORELANE_TEST_OPS` sets how many
//! operations are run in all.

use std::collections::HashMap;

use corelane_shard::{
    Algorithm, Among, BUDGET_BYTES_MIN, Cause, Change, Changes, Cursor, End, Entry, EntryHint,
    EntryVersion, Expiry, Key, Lease, LeasedPiece, Millis, Policy, Shard, ShardConfig, TableHash,
    TickOutcome, Upload, Write, WriteError,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

type Name = (u8, Vec<u8>);

#[derive(Clone, Debug, PartialEq)]
struct Item {
    value: Vec<u8>,
    user_flags: u32,
    expiry: Expiry,
    version: Option<EntryVersion>,
}

/// The plain map, which listens to the shard.
#[derive(Default)]
struct Model {
    items: HashMap<Name, Item>,
    now: Millis,
    /// Reports of the caller's own changes since the last check.
    own: Vec<(Name, Cause)>,
    flushes: u32,
}

impl Changes for Model {
    fn changed(&mut self, change: &Change<'_>) {
        assert_eq!(change.slot, slot_of_any(change.key));
        let name = (change.space, change.key.to_vec());
        match change.cause {
            Cause::Evicted => {
                let item = self.items.remove(&name).expect("what is evicted was there");
                assert!(!item.expiry.is_due(self.now));
            }
            Cause::Expired => {
                let item = self.items.remove(&name).expect("what expires was there");
                assert!(item.expiry.is_due(self.now), "expired before its time");
            }
            cause => self.own.push((name, cause)),
        }
    }

    fn flushed(&mut self) {
        self.flushes += 1;
    }
}

impl Model {
    fn live(&self, name: &Name) -> Option<&Item> {
        self.items.get(name).filter(|item| !item.expiry.is_due(self.now))
    }
}

/// Spread keys over slots as the first letter says: all, a few, one.
fn slot_of_any(key: &[u8]) -> u16 {
    let sum =
        key.iter().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
    let slot = (sum ^ sum >> 15).wrapping_mul(0x2C1B_3C6D) >> 18;
    match key.first() {
        Some(b'f') => (slot % 5) as u16,
        Some(b'o') => 16_383,
        _ => slot as u16,
    }
}

#[derive(Clone, Copy)]
struct Setting {
    seed: u64,
    policy: Policy,
    hash: TableHash,
    budget: u64,
    /// Keys of each of the three kinds.
    keys: u32,
    value_bytes_max: usize,
    share_with_expiry: f64,
}

struct World {
    shard: Shard,
    model: Model,
    random: StdRng,
    setting: Setting,
    uploads: Vec<(Name, Upload, Vec<u8>)>,
    leases: Vec<(Lease, Vec<u8>)>,
    /// Of the last keys that were asked for ahead.
    hints: Vec<EntryHint>,
    refused: u64,
}

fn check_entry(entry: Option<Entry<'_>>, item: Option<&Item>) {
    let read = entry.map(|entry| Item {
        value: entry.value.to_vec(),
        user_flags: entry.user_flags,
        expiry: entry.expiry,
        version: entry.version,
    });
    if let Some(entry) = entry {
        assert_eq!(entry.value.len(), entry.value.chunks().map(<[u8]>::len).sum());
    }
    assert_eq!(read.as_ref(), item);
}

impl World {
    fn new(setting: Setting) -> Self {
        let config = ShardConfig {
            policy: setting.policy,
            hash: setting.hash,
            budget_bytes_max: setting.budget * 2,
            random_seed: setting.seed,
            version_seed: 1 << 40,
            ..ShardConfig::new(setting.budget, slot_of_any)
        };
        Self {
            shard: Shard::new(config).expect("a shard"),
            model: Model { now: Millis(1_000_000), ..Model::default() },
            random: StdRng::seed_from_u64(setting.seed),
            setting,
            uploads: Vec::new(),
            leases: Vec::new(),
            hints: Vec::new(),
            refused: 0,
        }
    }

    fn name(&mut self) -> Name {
        let kind = ["any", "few", "one"][self.random.random_range(0..3)];
        let number = self.random.random_range(0..self.setting.keys);
        let space = u8::from(self.random.random_range(0..10) == 0) * 3;
        let mut key = format!("{kind}{number}").into_bytes();
        if number % 997 == 0 {
            key.resize(300 + number as usize % 16_000, b'x');
        }
        (space, key)
    }

    fn value(&mut self) -> Vec<u8> {
        let length = match self.random.random_range(0..100) {
            0..70 => self.random.random_range(0..100),
            70..98 => self.random.random_range(0..2_000.min(self.setting.value_bytes_max)),
            _ => self.random.random_range(0..self.setting.value_bytes_max),
        };
        let first: u8 = self.random.random();
        (0..length).map(|at| first.wrapping_add(at as u8)).collect()
    }

    fn expiry(&mut self) -> Expiry {
        if !self.random.random_bool(self.setting.share_with_expiry) {
            return Expiry::Never;
        }
        let length = 1_u64 << self.random.random_range(0..40);
        let offset = self.random.random_range(0..length);
        match self.random.random_range(0..50) {
            0 => Expiry::At(Millis(self.model.now.0.saturating_sub(offset))),
            _ => Expiry::At(Millis(self.model.now.0 + offset)),
        }
    }

    fn version(&mut self) -> Option<EntryVersion> {
        match self.random.random_range(0..10) {
            0 => Some(EntryVersion::Caller(self.random.random())),
            _ => None,
        }
    }

    fn step(&mut self) {
        let name = self.name();
        let bytes = name.1.clone();
        let key = self.shard.key(slot_of_any(&bytes), name.0, &bytes);
        // A key borrows the shard only for its hash; it is used on its own.
        let now = self.model.now;
        match self.random.random_range(0..1_000) {
            0..330 => {
                let read = if self.random.random() {
                    self.shard.get(&key, now)
                } else {
                    self.shard.peek(&key, now)
                };
                check_entry(read, self.model.live(&name));
            }
            330..360 => self.read_ahead(),
            360..700 => self.set(name, &key),
            700..740 => self.extend(name, &key),
            740..830 => {
                let there = self.model.live(&name).is_some();
                let removed = self.shard.remove(&key, now, &mut self.model);
                assert_eq!(removed, there);
                if removed {
                    assert_eq!(self.model.own.pop(), Some((name.clone(), Cause::Delete)));
                    self.model.items.remove(&name);
                }
                assert!(!self.model.items.contains_key(&name));
            }
            830..880 => {
                let expiry = self.expiry();
                let there = self.model.live(&name).is_some();
                let set = self.shard.set_expiry(&key, expiry, now, &mut self.model);
                // Making room may have evicted it.
                assert!(there || !set);
                assert_eq!(set, self.model.live(&name).is_some());
                if set {
                    assert_eq!(self.model.own.pop(), Some((name.clone(), Cause::ExpirySet)));
                    self.model.items.get_mut(&name).expect("there").expiry = expiry;
                }
            }
            880..910 => match self.shard.ensure_version(&key, now) {
                Ok(version) => {
                    let item = self.model.items.get_mut(&name);
                    match item.filter(|item| !item.expiry.is_due(now)) {
                        Some(item) if item.version.is_none() => {
                            assert!(matches!(version, Some(EntryVersion::Shard(_))));
                            item.version = version;
                        }
                        Some(item) => assert_eq!(version, item.version),
                        None => assert_eq!(version, None),
                    }
                }
                Err(error) => assert_eq!(error, WriteError::OutOfMemory),
            },
            910..920 => self.begin_or_end_upload(name, &key),
            920..930 => self.lease_or_release(&name, &key),
            930..990 => {
                if self.random.random_range(0..20) == 0 {
                    let step = 1_u64 << self.random.random_range(0..30);
                    self.model.now.0 += self.random.random_range(0..step);
                } else {
                    self.model.now.0 += self.random.random_range(0..5);
                }
                let _ = self.shard.tick(self.model.now, &mut self.model);
            }
            990 if self.random.random_range(0..200) == 0 => {
                self.shard.flush(now, &mut self.model);
                self.model.items.clear();
                assert_eq!(self.shard.len(), 0);
            }
            991 if self.random.random_range(0..20) == 0 => {
                let budget = self.setting.budget;
                let budget = self.random.random_range(BUDGET_BYTES_MIN..budget * 2);
                self.shard.set_budget(budget);
            }
            992 if self.random.random_range(0..20) == 0 => self.remove_slot(),
            993 if self.random.random_range(0..10) == 0 => self.scan(),
            _ => {}
        }
        assert!(self.model.own.is_empty());
    }

    fn set(&mut self, name: Name, key: &Key<'_>) {
        let item = Item {
            value: self.value(),
            user_flags: [0, 7][self.random.random_range(0..2)],
            expiry: self.expiry(),
            version: self.version(),
        };
        let write = Write {
            value: &item.value,
            user_flags: item.user_flags,
            expiry: item.expiry,
            version: item.version,
        };
        match self.shard.set(key, write, self.model.now, &mut self.model) {
            Ok(()) => {
                assert_eq!(self.model.own.pop(), Some((name.clone(), Cause::Set)));
                self.model.items.insert(name, item);
            }
            Err(WriteError::OutOfMemory) => {
                self.refused += 1;
                assert_ne!(
                    self.setting.policy,
                    Policy::default(),
                    "there is always something to evict"
                );
                check_entry(self.shard.peek(key, self.model.now), self.model.live(&name));
            }
            Err(WriteError::ValueTooLarge) => {
                assert!(item.value.len() as u64 > self.shard.stats().budget_bytes / 8);
            }
        }
    }

    fn extend(&mut self, name: Name, key: &Key<'_>) {
        let more = self.value();
        let end = [End::Append, End::Prepend][self.random.random_range(0..2)];
        let there = self.model.live(&name).is_some();
        let version = [None, Some(EntryVersion::Caller(9))][self.random.random_range(0..2)];
        let now = self.model.now;
        let result = self.shard.extend(key, &more, end, version, now, &mut self.model);
        match result {
            Ok(true) => {
                assert!(there);
                assert_eq!(self.model.own.pop(), Some((name.clone(), Cause::Extended)));
                // Room for the longer value may have been made by evicting the shorter one.
                let now = self.model.now;
                let read = self.shard.peek(key, now).expect("just written");
                let (user_flags, expiry) = (read.user_flags, read.expiry);
                let old = self.model.items.remove(&name);
                let old = old.map(|item| item.value);
                let value = read.value.to_vec();
                if let Some(old) = old {
                    let joined = match end {
                        End::Append => [old, more].concat(),
                        End::Prepend => [more, old].concat(),
                    };
                    assert_eq!(value, joined);
                }
                assert_eq!(read.version, version);
                let item = Item { value, user_flags, expiry, version };
                self.model.items.insert(name, item);
            }
            Ok(false) => assert!(self.model.live(&name).is_none()),
            Err(_) => check_entry(self.shard.peek(key, self.model.now), self.model.live(&name)),
        }
    }

    /// Asks ahead for many keys, changes some of them in between, and reads all. The hints of
    /// the time before are used once more, when they may name anything.
    fn read_ahead(&mut self) {
        let names: Vec<Name> = (0..self.random.random_range(0..70)).map(|_| self.name()).collect();
        let key_of =
            |shard: &Shard, (space, key): &Name| shard.key(slot_of_any(key), *space, key).hash();
        let hashes: Vec<_> = names.iter().map(|name| key_of(&self.shard, name)).collect();
        let hints: Vec<_> = hashes.iter().map(|hash| self.shard.prefetch_index(hash)).collect();
        let hints: Vec<_> = hints.iter().map(|hint| self.shard.prefetch_entry(*hint)).collect();
        let again = |hint: EntryHint| match hint.is_on_its_way() {
            true => self.shard.prefetch_entry(hint),
            false => hint,
        };
        let hints: Vec<_> = hints.into_iter().map(again).collect();
        for name in names.iter().take(self.random.random_range(0..4)) {
            let key = self.shard.key(slot_of_any(&name.1), name.0, &name.1);
            if self.shard.remove(&key, self.model.now, &mut self.model) {
                assert_eq!(self.model.own.pop(), Some((name.clone(), Cause::Delete)));
                self.model.items.remove(name);
            }
        }
        hints.iter().chain(&self.hints).for_each(|hint| self.shard.prefetch_value(*hint));
        for ((name, hash), hint) in names.iter().zip(hashes).zip(&hints) {
            let key = self.shard.key_of(hash, &name.1);
            let read = self.shard.get_ahead(&key, *hint, self.model.now);
            check_entry(read, self.model.live(name));
        }
        // What was true of one key is no reason to believe it of another.
        for hint in std::mem::replace(&mut self.hints, hints) {
            let name = self.name();
            let key = self.shard.key(slot_of_any(&name.1), name.0, &name.1);
            let read = self.shard.get_ahead(&key, hint, self.model.now);
            check_entry(read, self.model.live(&name));
        }
    }

    fn begin_or_end_upload(&mut self, name: Name, key: &Key<'_>) {
        let now = self.model.now;
        if self.uploads.len() < 3 {
            let value = self.value();
            if !value.is_empty()
                && let Ok(upload) = self.shard.begin_upload(key, value.len())
            {
                self.uploads.push((name, upload, value));
            }
            return;
        }
        let (name, mut upload, value) = self.uploads.swap_remove(0);
        let key = self.shard.key(slot_of_any(&name.1), name.0, &name.1);
        while upload.bytes_left() > 0 {
            let at = value.len() - upload.bytes_left();
            let end = value.len().min(at + self.random.random_range(1..70_000));
            let piece = &value[at..end];
            if self.random.random_range(0..40) == 0
                || self.shard.upload(&mut upload, piece, now, &mut self.model).is_err()
            {
                self.shard.abandon_upload(upload);
                return;
            }
        }
        let item = Item { value, user_flags: 3, expiry: self.expiry(), version: None };
        let write = Write { value: &[], user_flags: 3, expiry: item.expiry, version: None };
        if self.shard.finish_upload(upload, &key, write, now, &mut self.model).is_ok() {
            assert_eq!(self.model.own.pop(), Some((name.clone(), Cause::Set)));
            self.model.items.insert(name, item);
        }
    }

    fn lease_or_release(&mut self, name: &Name, key: &Key<'_>) {
        if self.leases.len() < 4 {
            let entry = self.shard.peek(key, self.model.now);
            if let Some(lease) = entry.and_then(|entry| entry.value.lease()) {
                let item = self.model.live(name).expect("leased");
                self.leases.push((lease, item.value.clone()));
            }
        } else {
            let (mut lease, value) = self.leases.swap_remove(0);
            let pieces: Vec<LeasedPiece> = std::iter::from_fn(|| lease.take()).collect();
            let read = pieces.iter().flat_map(LeasedPiece::bytes);
            assert!(read.eq(&value), "leased bytes stay as they are");
        }
    }

    fn remove_slot(&mut self) {
        let slot = [16_383, 2][self.random.random_range(0..2)];
        loop {
            let more = self.shard.remove_slot(slot, 100, self.model.now, &mut self.model);
            for (name, cause) in std::mem::take(&mut self.model.own) {
                assert_eq!(cause, Cause::Flushed);
                assert!(self.model.items.remove(&name).is_some());
            }
            if more == TickOutcome::Idle {
                break;
            }
        }
        assert_eq!(self.shard.slot_len(slot), 0);
        let left = self.model.items.keys().any(|name| slot_of_any(&name.1) == slot);
        assert!(!left);
    }

    /// A walk with writes between its steps meets everything that was there throughout.
    fn scan(&mut self) {
        let now = self.model.now;
        let mut missing = self.model.items.clone();
        missing.retain(|_, item| !item.expiry.is_due(now));
        let mut cursor = Cursor::START;
        loop {
            let model = &self.model;
            let next = self.shard.scan(cursor, 50, now, |key, entry| {
                let name = (key.space, key.bytes.to_vec());
                assert_eq!(key.slot, slot_of_any(key.bytes));
                check_entry(Some(entry), model.live(&name));
                missing.remove(&name);
            });
            match next {
                Some(next) => {
                    assert!(next > cursor);
                    cursor = Cursor::from_bits(next.to_bits()).expect("a cursor");
                }
                None => break,
            }
            for _ in 0..3 {
                let name = self.name();
                let bytes = name.1.clone();
                let key = self.shard.key(slot_of_any(&bytes), name.0, &bytes);
                missing.remove(&name);
                if self.random.random_range(0..4) == 0 {
                    if self.shard.remove(&key, now, &mut self.model) {
                        self.model.own.pop();
                        self.model.items.remove(&name);
                    }
                } else {
                    self.set(name, &key);
                }
            }
            // Evicted meanwhile.
            missing.retain(|name, _| self.model.items.contains_key(name));
        }
        assert!(missing.is_empty(), "{} were not met", missing.len());
    }

    fn check(&self) {
        self.shard.invariants();
        let stats = self.shard.stats();
        assert_eq!(self.shard.len(), self.model.items.len() as u64);
        let payload = self.model.items.iter();
        let payload: usize = payload.map(|(name, item)| name.1.len() + item.value.len()).sum();
        assert_eq!(stats.payload_bytes, payload as u64);
        for space in [0, 1, 3] {
            let items = self.model.items.keys().filter(|name| name.0 == space).count();
            assert_eq!(self.shard.space_len(space), items as u64);
        }
        for slot in [0, 1, 16_383] {
            let items = self.model.items.keys();
            let items = items.filter(|name| slot_of_any(&name.1) == slot).count();
            assert_eq!(self.shard.slot_len(slot), items as u64);
        }
    }

    fn run(mut self, operations: u64) -> Self {
        for operation in 0..operations {
            self.step();
            let every = if operation < 2_000 { 50 } else { 20_000 };
            if operation % every == 0 {
                self.check();
            }
        }
        self.check();
        for (name, item) in self.model.items.clone() {
            let key = self.shard.key(slot_of_any(&name.1), name.0, &name.1);
            let item = Some(&item).filter(|item| !item.expiry.is_due(self.model.now));
            check_entry(self.shard.peek(&key, self.model.now), item);
        }
        self.leases.clear();
        for (_, upload, _) in std::mem::take(&mut self.uploads) {
            self.shard.abandon_upload(upload);
        }
        self
    }
}

/// Runs a setting with this share of all operations.
///
/// A flush at the end must leave nothing behind.
fn run(setting: Setting, share: f64) -> World {
    let all = std::env::var("CORELANE_TEST_OPS")
        .ok()
        .map_or(2_000_000, |text| text.parse::<u64>().expect("a number"));
    let mut world = World::new(setting).run((all as f64 * share) as u64);
    world.shard.flush(world.model.now, &mut ());
    while world.shard.tick(world.model.now, &mut ()) == TickOutcome::More {}
    world.shard.invariants();
    let stats = world.shard.stats();
    assert_eq!(stats.items + stats.payload_bytes + stats.slack_bytes, 0);
    assert_eq!(stats.large_bytes + stats.wheel_bytes + stats.policy_bytes, 0);
    world
}

const ROOMY: Setting = Setting {
    seed: 11,
    policy: Policy::Evict { algorithm: Algorithm::S3, among: Among::All },
    hash: TableHash::Rapid { seed: 5 },
    budget: 256 << 20,
    keys: 20_000,
    value_bytes_max: 60_000,
    share_with_expiry: 0.4,
};

#[test]
fn a_shard_with_room_is_a_map() {
    let world = run(ROOMY, 0.2);
    assert_eq!(world.shard.stats().refused, 0);
}

#[test]
fn a_map_with_siphash_and_few_keys() {
    run(
        Setting {
            seed: 12,
            hash: TableHash::SipHash13 { key: [9; 16] },
            keys: 300,
            share_with_expiry: 0.9,
            ..ROOMY
        },
        0.15,
    );
}

#[test]
fn every_policy_keeps_the_map_true() {
    let algorithms = [
        Algorithm::S3,
        Algorithm::Clock,
        Algorithm::Lfu,
        Algorithm::Fifo,
        Algorithm::Random,
        Algorithm::Ttl,
    ];
    for (number, algorithm) in algorithms.into_iter().enumerate() {
        for among in [Among::All, Among::WithExpiry] {
            let setting = Setting {
                seed: 20 + number as u64,
                policy: Policy::Evict { algorithm, among },
                budget: 8 << 20,
                keys: 30_000,
                value_bytes_max: 400_000,
                ..ROOMY
            };
            let world = run(setting, 0.04);
            assert!(world.shard.stats().evicted > 0, "{algorithm:?} {among:?}");
        }
    }
}

#[test]
fn without_eviction_writes_are_refused_and_reads_go_on() {
    let world = run(
        Setting {
            seed: 31,
            policy: Policy::NoEviction,
            budget: 8 << 20,
            keys: 50_000,
            share_with_expiry: 0.1,
            ..ROOMY
        },
        0.1,
    );
    assert!(world.refused > 0);
    assert_eq!(world.shard.stats().evicted, 0);
}
