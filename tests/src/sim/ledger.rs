//! What all clients of a run know together: the rules, the keys that they share, flushes.

use std::rc::Rc;

use corelane_ring::{CoreMap, slot_of};

use crate::sim::keys::{FlushRecord, Moment};
use crate::sim::model::{Rules, VersionsSeen};
use crate::sim::scenario::Scenario;
use crate::sim::shared::{SharedCounters, SharedKey};

/// How many keys all clients write.
const SHARED_KEYS: usize = 24;
/// How many counters all clients add to.
pub(crate) const SHARED_COUNTERS: usize = 6;
/// Bytes of a value on a shared key: its number, and a tail that follows from it.
pub(crate) const SHARED_VALUE_BYTES: usize = 24;

/// See the module.
pub(crate) struct Ledger {
    /// What the node was told.
    pub(crate) rules: Rules,
    /// Versions given out.
    pub(crate) versions: VersionsSeen,
    /// All flushes.
    pub(crate) flushes: Vec<FlushRecord>,
    /// Keys that every client reads and writes.
    pub(crate) shared: Vec<SharedKey>,
    /// Keys that every client adds one to.
    pub(crate) counters: SharedCounters,
    /// Whether anything in the run removes shared counters.
    pub(crate) counters_last: bool,
    /// Which core owns which key.
    pub(crate) map: CoreMap,
    /// Requests sent, keys of multi-gets counted singly.
    pub(crate) operations: u64,
    /// Replies judged.
    pub(crate) judged: u64,
    values: u64,
}

impl Ledger {
    /// Of a run in which nothing has happened.
    pub(crate) fn new(scenario: &Scenario) -> Ledger {
        let rules = scenario.rules();
        let mut shared: Vec<_> = (1..SHARED_KEYS)
            .map(|at| SharedKey::new(format!("shared-{at}").into_bytes()))
            .collect();
        // The shortest key that there is.
        shared.push(SharedKey::new(Vec::new()));
        Ledger {
            counters_last: !rules.may_evict && scenario.flushes_in_100k == 0,
            rules,
            versions: VersionsSeen::default(),
            flushes: Vec::new(),
            shared,
            counters: SharedCounters::default(),
            map: CoreMap::even(scenario.cores).expect("a scenario has cores"),
            operations: 0,
            judged: 0,
            values: 0,
        }
    }

    /// The core that owns a key.
    pub(crate) fn core_of(&self, key: &[u8]) -> u16 {
        self.map.core_of(slot_of(key)).0
    }

    /// A number that no value had before.
    pub(crate) fn next_value(&mut self) -> u64 {
        self.values += 1;
        self.values
    }

    /// A flush was sent; which one.
    pub(crate) fn flush_sent(&mut self, by: usize, at: Moment, delay_ms: u32) -> usize {
        let due_ms = (delay_ms > 0).then(|| at.us / 1_000 + u64::from(delay_ms));
        for key in &mut self.shared {
            // A delayed one is not in the order of anybody's requests.
            key.remove_sent(if due_ms.is_some() { usize::MAX } else { by }, at.turn);
        }
        if due_ms.is_some() {
            // A later delayed flush replaces an earlier one that has not come yet.
            for flush in &mut self.flushes {
                let waits = flush.due_ms.is_some() && flush.over_turn.is_none();
                flush.is_certain &= !waits;
            }
        }
        self.flushes.push(FlushRecord {
            by,
            sent_turn: at.turn,
            told_us: None,
            over_turn: None,
            due_ms,
            delay_ms,
            is_certain: false,
        });
        self.flushes.len() - 1
    }

    /// A flush was answered.
    pub(crate) fn flush_done(&mut self, flush: usize, at: Moment) {
        let record = &mut self.flushes[flush];
        record.is_certain = true;
        if record.due_ms.is_some() {
            record.told_us = Some(at.us);
            return;
        }
        record.over_turn = Some(at.turn);
        let sent_turn = record.sent_turn;
        for key in &mut self.shared {
            key.done(sent_turn, at.turn);
        }
    }

    /// Every core has done its housekeeping up to `ticked_us`: delayed flushes that all
    /// cores had been told of are over.
    pub(crate) fn ticked(&mut self, ticked_us: u64, at: Moment) {
        for flush in &mut self.flushes {
            let over = flush.told_us.is_some_and(|told_us| {
                told_us / 1_000 + u64::from(flush.delay_ms) <= ticked_us / 1_000
            });
            if over && flush.over_turn.is_none() {
                flush.over_turn = Some(at.turn);
            }
        }
    }

    /// Nothing is under way: flushes that nobody answered have happened or never will.
    pub(crate) fn all_quiet(&mut self, at: Moment) {
        for flush in self.flushes.iter_mut().filter(|flush| flush.over_turn.is_none()) {
            match flush.due_ms {
                None => flush.over_turn = Some(at.turn),
                Some(_) => flush.told_us = flush.told_us.or(Some(at.us)),
            }
        }
    }

    /// Forgets what no request sent at or after `oldest_turn` can see.
    pub(crate) fn prune(&mut self, oldest_turn: u64) {
        for key in &mut self.shared {
            key.prune(oldest_turn);
        }
    }
}

/// The value on a shared key with this number.
pub(crate) fn shared_value(number: u64) -> [u8; SHARED_VALUE_BYTES] {
    let mut value = [b'~'; SHARED_VALUE_BYTES];
    value[..8].copy_from_slice(&number.to_le_bytes());
    value[8..16].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    value
}

/// The number of a value read from a shared key.
///
/// # Panics
/// Nobody wrote such a value.
pub(crate) fn number_of_shared(value: &[u8]) -> u64 {
    let number = value.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)).unwrap_or(0);
    assert_eq!(value, shared_value(number), "a value that nobody wrote");
    number
}

/// A value of a given length that follows from its number.
pub(crate) fn value_of(number: u64, length: usize) -> Rc<[u8]> {
    let mut value = Vec::with_capacity(length + 8);
    let mut word = number;
    while value.len() < length {
        value.extend_from_slice(&word.to_le_bytes());
        word = word.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(number);
    }
    value.truncate(length);
    value.into()
}
