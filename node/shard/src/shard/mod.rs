//! One core's store: how the parts work together.
//!
//! ```text
//! key ─ keyed hash ─► index ─► word ─► entry in the heap ─► chunks of a large value
//!                       ▲        └─ uses, probation, timer bits
//!     policy ─ hand ────┤
//!     wheel ── marks ───┘
//! ```
//!
//! A write first makes room ([`room`]), so that nothing after that can fail for want of
//! memory, then finds the entry, writes, and sets the timer. What takes longer than one
//! request should — expiry, flushed pages, compaction — is done in slices by
//! [`Shard::tick`] ([`upkeep`]).

mod ahead;
mod describe;
mod evacuation;
mod inspect;
mod parts;
mod read;
mod room;
mod scan;
mod stream;
mod upkeep;
mod write;

pub use self::ahead::EntryHint;
pub use self::parts::{Held, Part};
pub use self::stream::Upload;

use crate::class::{Kind, PAGE_BYTES};
use crate::config::{Policy, ShardConfig};
use crate::entry::{Placement, Stored};
use crate::hash::KeyedHash;
use crate::heap::{Handle, Heap};
use crate::index::resize::Rehash;
use crate::index::word::Word;
use crate::index::{Absent, Found, Index};
use crate::large::Discarded;
use crate::policy::Evictor;
use crate::reserve::{Backing, Prefaulter};
use crate::stats::ShardStats;
use crate::types::{Cause, Change, Changes, Key, SLOTS, SPACES, ShardError};
use crate::wheel::Wheel;

use self::room::Room;

/// The smallest budget of a shard: room for a page of each common kind, and the reserve.
pub const BUDGET_BYTES_MIN: u64 = 4 << 20;

/// The largest, in bytes: half of what handles reach.
pub const BUDGET_BYTES_MAX: u64 = Handle::REACH / 2;

/// One core's store.
///
/// Calls take the time; it must not run backwards. Nothing is read from the system.
///
/// Invariants, checked by [`Shard::invariants`]:
/// - LIVE: every word of the index names a live entry of its own, whose key has the word's
///   slot and hash, and every live entry has a word.
/// - TIMED: a word says that its entry expires exactly when it does, and then a timer with its
///   mark fires no earlier than the expiry, or earlier where the word says so.
/// - COUNTED: the bytes accounted for are the bytes held.
pub struct Shard {
    config: ShardConfig,
    hash: KeyedHash,
    heap: Heap,
    index: Index,
    wheel: Wheel,
    evictor: Evictor,
    room: Room,
    discarded: Discarded,
    /// The longest value, as the configuration and the budget have it.
    value_bytes_max: u64,
    version: u64,
    /// Entries of each key space.
    space_items: [u64; SPACES as usize],
    /// Entries with an expiry.
    expiring: u64,
    /// Keys and values of entries that can be found.
    payload_bytes: u64,
    /// Bytes of large values among them.
    large_payload_bytes: u64,
    counts: Counts,
}

/// Why an entry is evicted; see the fields of [`ShardStats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Eviction {
    Policy,
    Page,
    Haste,
    Budget,
}

const EVICTIONS: usize = 4;

/// Lines of a leaf that are rebuilt, and steps of a search for candidates, which walks over lines
/// that lie in a row, in about the time of another step of work.
const LINES_OF_A_STEP: u64 = 8;
const SEARCHED_OF_A_STEP: u64 = 8;

/// What happened since the shard was made.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    evicted: [u64; EVICTIONS],
    evicted_bytes: u64,
    expired_on_access: u64,
    expired_by_wheel: u64,
    written_bytes: u64,
    moved_bytes: u64,
    refused: u64,
    work_steps: u64,
}

/// Hashes stored keys again.
struct StoredHash<'a>(&'a KeyedHash);

impl Rehash for StoredHash<'_> {
    fn hash(&self, heap: &Heap, handle: Handle) -> u64 {
        let stored = Stored::read(heap.rest_of_page(handle));
        self.0.hash(stored.space(), stored.key())
    }
}

impl Shard {
    /// A shard with nothing in it.
    ///
    /// # Errors
    /// The budget is impossible, or the address space cannot be had.
    pub fn new(config: ShardConfig) -> Result<Self, ShardError> {
        let given = config.budget_bytes;
        let most = config.budget_bytes_max.max(given);
        if given < BUDGET_BYTES_MIN {
            return Err(ShardError::BudgetTooSmall { given, least: BUDGET_BYTES_MIN });
        }
        if most > BUDGET_BYTES_MAX {
            return Err(ShardError::BudgetTooLarge { given: most, most: BUDGET_BYTES_MAX });
        }
        let reserve = |source| ShardError::AddressSpace { bytes: most, source };
        let pages_max = (most / PAGE_BYTES as u64) as u32;
        let backing = Backing { huge_pages: config.huge_pages, memory_node: config.memory_node };
        let mut shard = Self {
            hash: KeyedHash::new(config.hash),
            heap: Heap::new(pages_max, backing).map_err(reserve)?,
            index: Index::new().map_err(reserve)?,
            wheel: Wheel::new(),
            evictor: Evictor::new(config.policy, config.random_seed),
            room: Room::default(),
            discarded: Discarded::default(),
            value_bytes_max: 0,
            version: config.version_seed,
            space_items: [0; SPACES as usize],
            expiring: 0,
            payload_bytes: 0,
            large_payload_bytes: 0,
            counts: Counts::default(),
            config,
        };
        shard.set_budget(given);
        Ok(shard)
    }

    /// Names an entry. `slot` is what [`ShardConfig::slot_of`] gives for `bytes`.
    #[inline]
    pub fn key<'a>(&self, slot: u16, space: u8, bytes: &'a [u8]) -> Key<'a> {
        debug_assert!((slot as usize) < SLOTS && space < SPACES);
        debug_assert_eq!(slot, (self.config.slot_of)(bytes));
        Key { bytes, hash: self.hash.hash(space, bytes), slot, space }
    }

    /// Entries, those included whose time is over and which are not reclaimed yet.
    pub fn len(&self) -> u64 {
        self.index.items()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// [`Shard::len`] of one slot.
    pub fn slot_len(&self, slot: u16) -> u64 {
        self.index.slot_items(slot)
    }

    /// The next number of a counter that never repeats.
    pub fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// Raises the counter of versions to at least this number, as after an import.
    pub fn raise_version(&mut self, least: u64) {
        self.version = self.version.max(least);
    }

    /// Raises or lowers the budget, in bytes, between [`BUDGET_BYTES_MIN`] and the configured
    /// largest. What is over a lower one is evicted in slices.
    pub fn set_budget(&mut self, bytes: u64) {
        let most = self.config.budget_bytes_max.max(self.config.budget_bytes);
        let bytes = bytes.clamp(BUDGET_BYTES_MIN, most);
        self.config.budget_bytes = bytes;
        let share = bytes / self.config.value_share_max.max(1);
        self.value_bytes_max = self.config.value_bytes_max.min(share).min(u64::from(u32::MAX));
        let for_pages = bytes - Self::fixed_bytes(bytes);
        self.lower_limit((for_pages / PAGE_BYTES as u64) as u32);
    }

    /// A helper for another thread that faults the arena in ahead of use.
    pub fn prefaulter(&self) -> Prefaulter {
        self.heap.prefaulter()
    }

    /// What is evicted when the budget is used up.
    pub fn policy(&self) -> Policy {
        self.config.policy
    }

    /// Changes the policy.
    pub fn set_policy(&mut self, policy: Policy) {
        self.config.policy = policy;
        self.evictor.set_policy(policy, &mut self.heap);
    }

    /// Tables of fixed length, and the records of pages.
    fn fixed_bytes(budget: u64) -> u64 {
        Index::FIXED_BYTES + Wheel::FIXED_BYTES + Heap::record_bytes(budget / PAGE_BYTES as u64)
    }

    /// Figures for the operator.
    pub fn stats(&self) -> ShardStats {
        let pages = |kind| u64::from(self.heap.pages_of(kind)) * PAGE_BYTES as u64;
        let fixed = Self::fixed_bytes(self.config.budget_bytes);
        let inline = self.payload_bytes - self.large_payload_bytes;
        ShardStats {
            items: self.index.items(),
            items_with_expiry: self.expiring,
            budget_bytes: self.config.budget_bytes,
            used_bytes: u64::from(self.heap.pages_in_use()) * PAGE_BYTES as u64 + fixed,
            payload_bytes: self.payload_bytes,
            slack_bytes: pages(Kind::Entry).saturating_sub(inline),
            index_bytes: pages(Kind::Leaf) + pages(Kind::Node) + fixed,
            wheel_bytes: pages(Kind::Wheel),
            policy_bytes: pages(Kind::Policy),
            large_bytes: pages(Kind::Chunk),
            compaction_debt_bytes: self.heap.capacity_of(Kind::Entry)
                - self.heap.slot_bytes_of(Kind::Entry),
            evicted: self.counts.evicted.iter().sum(),
            evicted_by_policy: self.counts.evicted[Eviction::Policy as usize],
            evicted_with_page: self.counts.evicted[Eviction::Page as usize],
            evicted_in_haste: self.counts.evicted[Eviction::Haste as usize],
            evicted_by_budget: self.counts.evicted[Eviction::Budget as usize],
            evicted_bytes: self.counts.evicted_bytes,
            expired_on_access: self.counts.expired_on_access,
            expired_by_wheel: self.counts.expired_by_wheel,
            probation_ms: self.evictor.probation_ms(),
            hand_round_ms: self.evictor.hand_round_ms(),
            written_bytes: self.counts.written_bytes,
            moved_bytes: self.counts.moved_bytes,
            refused: self.counts.refused,
            work_steps: self.counts.work_steps
                + self.evictor.steps() / SEARCHED_OF_A_STEP
                + self.counts.evicted.iter().sum::<u64>()
                + self.index.rebuilt_lines() / LINES_OF_A_STEP,
        }
    }

    /// The word and place of a key, whether or not its time is over.
    #[inline]
    fn find(&self, key: &Key<'_>) -> Option<Found> {
        self.search(key).ok()
    }

    /// The same; of a key that is not there, where it would be.
    #[inline]
    fn search(&self, key: &Key<'_>) -> Result<Found, Absent> {
        let heap = &self.heap;
        self.index.search(heap, key.slot, key.hash, |word| {
            Stored::read(heap.rest_of_page(word.handle())).is(key.space, key.bytes)
        })
    }

    /// Removes an entry that was found and reports it.
    fn remove_found(&mut self, found: &Found, cause: Cause, changes: &mut impl Changes) {
        let handle = found.word.handle();
        let stored = Stored::read(self.heap.rest_of_page(handle));
        changes.changed(&Change {
            slot: found.leaf.slot,
            space: stored.space(),
            key: stored.key(),
            cause,
        });
        self.index.remove(&mut self.heap, found, &StoredHash(&self.hash));
        self.discount(found.word);
        give_entry(&mut self.heap, &mut self.discarded, handle);
    }

    /// Takes an entry that is about to go out of the counts.
    fn discount(&mut self, word: Word) {
        let stored = Stored::read(self.heap.rest_of_page(word.handle()));
        let payload = (stored.key().len() + stored.value_length()) as u64;
        self.payload_bytes -= payload;
        if stored.placement() == Placement::Chunks {
            self.large_payload_bytes -= payload;
        }
        self.expiring -= u64::from(word.expires());
        self.space_items[usize::from(stored.space())] -= 1;
    }
}

/// Gives an entry's memory back, the large value's with it.
fn give_entry(heap: &mut Heap, discarded: &mut Discarded, handle: Handle) {
    let stored = Stored::read(heap.rest_of_page(handle));
    if stored.placement() == Placement::Chunks {
        let first = stored.first_chunk();
        discarded.let_go(heap, first);
    }
    heap.give(handle);
}

/// Reports a change of an entry that the caller named.
fn report(changes: &mut impl Changes, key: &Key<'_>, cause: Cause) {
    changes.changed(&Change { slot: key.slot, space: key.space, key: key.bytes, cause });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TableHash;
    use crate::types::{Millis, Write, WriteError};

    fn shard(seed: u64) -> Shard {
        let config =
            ShardConfig { hash: TableHash::Rapid { seed }, ..ShardConfig::new(64 << 20, |_| 5) };
        Shard::new(config).expect("a shard")
    }

    /// Keys whose hashes under a secret have their first bits in common.
    fn chosen(secret: &Shard, bits: u32, count: usize) -> Vec<[u8; 8]> {
        let falls_together = |name: &[u8; 8]| secret.key(5, 0, name).hash >> (64 - bits) == 0;
        (0_u64..).map(u64::to_le_bytes).filter(falls_together).take(count).collect()
    }

    fn depth_after(shard: &mut Shard, names: &[[u8; 8]]) -> u32 {
        for name in names {
            let key = shard.key(5, 0, name);
            shard.set(&key, Write::value(b"x"), Millis(1), &mut ()).expect("room");
        }
        shard.invariants();
        let key = shard.key(5, 0, &names[0]);
        shard.index.leaf(&shard.heap, 5, key.hash).reference.depth()
    }

    /// Keys chosen against another secret are as good as any: two thousand in one slot are
    /// four or eight leaves. With the secret itself an enemy makes one leaf deeper, by two
    /// steps more on the way to it.
    #[test]
    fn chosen_keys_need_the_secret() {
        let names = chosen(&shard(1), 11, 2_000);
        assert!(depth_after(&mut shard(2), &names) <= 4);
        let mut known = shard(1);
        let depth = depth_after(&mut known, &names);
        assert!((13..=15).contains(&depth), "{depth} bits");
        // What the way there costs in memory: three nodes, not a table of 2^13.
        assert!(known.stats().index_bytes < 1 << 20);
        for name in &names {
            let key = known.key(5, 0, name);
            assert!(known.remove(&key, Millis(1), &mut ()));
        }
        known.invariants();
        assert_eq!(known.heap.pages_of(Kind::Leaf) + known.heap.pages_of(Kind::Node), 0);
    }

    /// A number of entries is a limit under every policy: where nothing may go, new keys are
    /// refused, and those that are there may be written.
    #[test]
    fn entries_may_be_limited_by_number() {
        for policy in [Policy::NoEviction, Policy::default()] {
            let config =
                ShardConfig { policy, items_max: 100, ..ShardConfig::new(64 << 20, |_| 5) };
            let mut shard = Shard::new(config).expect("a shard");
            let mut refused = 0;
            for value in [vec![7; 10], vec![8; 40_000]] {
                for number in 0..200_u64 {
                    let name = number.to_le_bytes();
                    let key = shard.key(5, 0, &name);
                    let set = shard.set(&key, Write::value(&value), Millis(1), &mut ());
                    refused += u32::from(set == Err(WriteError::OutOfMemory));
                    assert!(shard.len() <= 100);
                }
            }
            let may_evict = policy != Policy::NoEviction;
            assert_eq!((shard.len(), refused), (100, if may_evict { 0 } else { 200 }));
            shard.invariants();
        }
    }

    /// Where entries go, an operator sees why and how old they were.
    #[test]
    fn evictions_are_told_apart() {
        let mut shard = shard(1);
        let mut now = 0;
        let mut write = |shard: &mut Shard, numbers: std::ops::Range<u64>, length: usize| {
            for number in numbers {
                now = number / 100;
                let name = number.to_le_bytes();
                let key = shard.key(5, 0, &name);
                let value = vec![7; length];
                shard.set(&key, Write::value(&value), Millis(now), &mut ()).expect("room");
            }
        };
        write(&mut shard, 0..1_000_000, 64);
        let stats = shard.stats();
        assert_eq!(stats.evicted, stats.evicted_by_policy + stats.evicted_with_page);
        assert!(stats.evicted_by_policy > 200_000);
        // A tenth of seven hundred thousand entries is written in 0.7 seconds.
        assert!((300..1_000).contains(&stats.probation_ms), "{} ms", stats.probation_ms);
        // All sizes change: pages have to be emptied.
        write(&mut shard, 1_000_000..1_100_000, 900);
        let changed = shard.stats();
        assert!(changed.evicted_with_page > stats.evicted_with_page);
        assert!(changed.compaction_debt_bytes < changed.slack_bytes);
        shard.set_budget(16 << 20);
        while shard.tick(Millis(now), &mut ()) == crate::types::TickOutcome::More {}
        assert!(shard.stats().evicted_by_budget > 1_000);
        let all = shard.stats();
        let causes = [
            all.evicted_by_policy,
            all.evicted_with_page,
            all.evicted_in_haste,
            all.evicted_by_budget,
        ];
        assert_eq!(all.evicted, causes.iter().sum());
    }

    #[test]
    fn limits_of_values_and_budgets() {
        let config = ShardConfig::new(BUDGET_BYTES_MIN - 1, |_| 0);
        assert!(matches!(Shard::new(config), Err(ShardError::BudgetTooSmall { .. })));
        let config = ShardConfig::new(1 << 50, |_| 0);
        assert!(matches!(Shard::new(config), Err(ShardError::BudgetTooLarge { .. })));
        let mut shard = shard(1);
        let key = shard.key(5, 0, b"key");
        let value = vec![0; (8 << 20) + 1];
        let set = shard.set(&key, Write::value(&value), Millis(1), &mut ());
        assert_eq!(set, Err(WriteError::ValueTooLarge));
        let set = shard.set(&key, Write::value(&value[1..]), Millis(1), &mut ());
        assert_eq!(set, Ok(()));
        assert!(shard.begin_upload(&key, value.len()).is_err());
    }
}
