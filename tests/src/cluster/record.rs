//! What was written and acknowledged, and what may therefore be read.

use std::sync::{Arc, Mutex, MutexGuard};

/// How far a client's idea of a node's clock may be off: half the slowest round trip that it may
/// have been measured with, a core that lags, and what clocks drift apart in a run.
const CLOCK_ERROR_US: u64 = 450_000;

/// What is known of one key, which one worker writes.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) name: String,
    /// The highest number that was sent to be written.
    pub(super) tried: u64,
    /// The least number that may be read.
    least: u64,
    /// Writes of unknown outcome, and until when they may take effect.
    uncertain: Vec<(u64, u64)>,
    /// Those that may have taken effect after what was acknowledged last.
    late: Vec<u64>,
}

/// What may be read of a key by who begins to now.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    at_us: u64,
    least: u64,
    late: Vec<u64>,
}

/// How a read that is older than was acknowledged comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excuse {
    /// There is none.
    None,
    /// Topologies differed, or a stand-in served, at some time during the read or shortly before.
    Found,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) keys: Vec<Known>,
    /// Since when every node has the newest topology; not yet, where there is none.
    pub(super) settled_since_us: Option<u64>,
    /// Until when what a stand-in was given may be read.
    pub(super) stands_in_until_us: u64,
    /// Reads that were stale, and may have been.
    pub(super) excused: u64,
}

/// The record as clients, workers and the world share it.
#[derive(Clone, Debug)]
pub(super) struct SharedRecord(Arc<Mutex<Record>>);

impl SharedRecord {
    pub(super) fn new(keys: usize) -> SharedRecord {
        let known = |number| Known {
            name: format!("key {number}"),
            tried: 0,
            least: 0,
            uncertain: Vec::new(),
            late: Vec::new(),
        };
        SharedRecord(Arc::new(Mutex::new(Record {
            keys: (0..keys).map(known).collect(),
            settled_since_us: Some(0),
            stands_in_until_us: 0,
            excused: 0,
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().expect("whoever panicked has ended the run")
    }
}

impl Record {
    pub(super) fn expected(&self, key: usize, now_us: u64) -> Expected {
        let Known { least, late, .. } = &self.keys[key];
        Expected { at_us: now_us, least: *least, late: late.clone() }
    }

    /// A value was read.
    ///
    /// # Panics
    /// It cannot be.
    pub(super) fn read(&mut self, key: usize, value: &[u8], expected: &Expected) {
        let known = &self.keys[key];
        let text = std::str::from_utf8(value).expect("values are text");
        let (name, number) = text.split_once('=').expect("a key and a number");
        assert_eq!(name, known.name, "a value that was never written to its key");
        let number: u64 = number.trim_end_matches('.').parse().expect("a number");
        assert!(number <= known.tried, "{name} holds {number}, which was never written");
        if number < expected.least && !expected.late.contains(&number) {
            let Expected { least, .. } = expected;
            let excuse = self.excuse(expected.at_us);
            assert_eq!(excuse, Excuse::Found, "{name} holds {number}, older than {least}");
            self.excused += 1;
        }
    }

    fn excuse(&self, asked_us: u64) -> Excuse {
        let settled = self.settled_since_us.is_some_and(|since_us| since_us <= asked_us);
        if settled && asked_us > self.stands_in_until_us { Excuse::None } else { Excuse::Found }
    }

    /// A write was acknowledged: from now on nothing below this number is to be read.
    pub(super) fn acknowledged(&mut self, key: usize, least: u64, now_us: u64) {
        let known = &mut self.keys[key];
        known.least = least;
        known.uncertain.retain(|(_, until_us)| *until_us > now_us);
        known.late = known.uncertain.iter().map(|(number, _)| *number).collect();
    }

    /// A write may take effect until its deadline.
    pub(super) fn uncertain(&mut self, key: usize, number: u64, deadline_us: u64) {
        self.keys[key].uncertain.push((number, deadline_us + CLOCK_ERROR_US));
    }
}
