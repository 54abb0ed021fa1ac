//! A worker: makes requests of its client one after the other, and notes what comes of them.

use std::time::Duration;

use corelane_client::{
    Client, DeleteOutcome, Error, Executed, SetCondition, SetOptions, SetOutcome, Status, Value,
};
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::cluster::net::{MS, Net};
use crate::cluster::record::{Expected, SharedRecord};

/// How long a request may take.
pub(super) const TIMEOUT_MS: u64 = 220;
/// By how much a request may end after its deadline, since timers are whole milliseconds.
const LATE_MS_MAX: u64 = 2;
/// Longest pause between two requests of a worker.
const PAUSE_MS_MAX: u64 = 50;
/// Keys that each worker writes.
pub(super) const KEYS: usize = 3;

/// What a run counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests made.
    pub requests: u64,
    /// Reads that found a value.
    pub hits: u64,
    /// Reads that found none.
    pub misses: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Writes of which nobody knows whether they took effect.
    pub uncertain: u64,
}

/// See the module.
pub(super) struct Worker {
    pub(super) client: Client,
    /// Its own keys begin at `number * KEYS`.
    pub(super) number: usize,
    pub(super) random: SmallRng,
    pub(super) net: Net,
    pub(super) record: SharedRecord,
    /// For how long what a stand-in is given lives, where stand-ins serve.
    pub(super) gutter_ms: Option<u64>,
    pub(super) counts: Counts,
}

impl Worker {
    pub(super) async fn run(mut self, requests: u64) -> Counts {
        while self.counts.requests < requests {
            let pause_ms = self.random.random_range(0..PAUSE_MS_MAX);
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            self.counts.requests += 1;
            self.look_around();
            let asked_us = self.net.now_us();
            self.request(asked_us).await;
            let took_ms = (self.net.now_us() - asked_us) / MS;
            assert!(took_ms <= TIMEOUT_MS + LATE_MS_MAX, "a request took {took_ms} ms");
            self.look_around();
        }
        self.counts
    }

    /// Whether its client lets another node stand in for one that is down, or has not yet made
    /// up for it.
    fn has_stand_ins(&self) -> bool {
        self.gutter_ms.is_some() && stood_in(&self.client)
    }

    fn look_around(&self) {
        if let Some(gutter_ms) = self.gutter_ms
            && self.has_stand_ins()
        {
            let until_us = self.net.now_us() + (gutter_ms + TIMEOUT_MS) * MS;
            let stands_in_until_us = &mut self.record.lock().stands_in_until_us;
            *stands_in_until_us = until_us.max(*stands_in_until_us);
        }
    }

    async fn request(&mut self, asked_us: u64) {
        let own = self.number * KEYS + self.random.random_range(0..KEYS);
        match self.random.random_range(0..20) {
            0..=4 => self.get(own, asked_us).await,
            5..=8 => {
                let keys = self.record.lock().keys.len();
                let any = self.random.random_range(0..keys);
                self.get(any, asked_us).await;
            }
            9..=10 => self.get_many(asked_us).await,
            11..=14 => self.set(own, SetCondition::Always, asked_us).await,
            15 => self.set(own, SetCondition::Absent, asked_us).await,
            16 => self.set_many(asked_us).await,
            _ => self.delete(own, asked_us).await,
        }
    }

    fn name(&self, key: usize) -> String {
        self.record.lock().keys[key].name.clone()
    }

    fn read(&mut self, key: usize, expected: &Expected, result: Result<Option<Value>, Error>) {
        match result {
            Ok(Some(value)) => {
                self.counts.hits += 1;
                // A stand-in may have served just now.
                self.look_around();
                self.record.lock().read(key, &value.bytes, expected);
            }
            Ok(None) => self.counts.misses += 1,
            Err(error) => self.fail(&error),
        }
    }

    async fn get(&mut self, key: usize, asked_us: u64) {
        let expected = self.record.lock().expected(key, asked_us);
        let result = self.client.get(self.name(key)).await;
        self.read(key, &expected, result);
    }

    async fn get_many(&mut self, asked_us: u64) {
        let expected: Vec<Expected> = {
            let record = self.record.lock();
            (0..record.keys.len()).map(|key| record.expected(key, asked_us)).collect()
        };
        let names: Vec<String> = (0..expected.len()).map(|key| self.name(key)).collect();
        let results = self.client.get_many(&names).await;
        for (key, (result, expected)) in results.into_iter().zip(&expected).enumerate() {
            self.read(key, expected, result);
        }
    }

    /// The next number to write to a key, and the value that has it. Some are long enough to
    /// come in pieces.
    fn next(&mut self, key: usize) -> (u64, String) {
        let known = &mut self.record.lock().keys[key];
        known.tried += 1;
        let length = if self.random.random_ratio(1, 16) { 3_000 } else { 0 };
        (known.tried, format!("{:.<length$}", format!("{}={}", known.name, known.tried)))
    }

    fn written(
        &mut self,
        key: usize,
        number: u64,
        asked_us: u64,
        result: Result<SetOutcome, Error>,
    ) {
        match result {
            Ok(SetOutcome::Stored { .. }) => {
                self.record.lock().acknowledged(key, number, self.net.now_us());
            }
            Ok(SetOutcome::ConditionFailed) => {}
            Ok(SetOutcome::NotFound) => panic!("no condition wants an entry"),
            Err(error) => {
                if error.executed() == Executed::Maybe {
                    self.counts.uncertain += 1;
                    let deadline_us = asked_us + TIMEOUT_MS * MS;
                    self.record.lock().uncertain(key, number, deadline_us);
                }
                self.fail(&error);
            }
        }
    }

    async fn set(&mut self, key: usize, condition: SetCondition<'static>, asked_us: u64) {
        let (number, value) = self.next(key);
        let options = SetOptions::new().condition(condition);
        let result = self.client.set_with(self.name(key), value, &options).await;
        self.written(key, number, asked_us, result);
    }

    async fn set_many(&mut self, asked_us: u64) {
        let keys = self.number * KEYS..(self.number + 1) * KEYS;
        let written: Vec<(u64, String)> = keys.clone().map(|key| self.next(key)).collect();
        let entries: Vec<(String, &String)> =
            keys.clone().zip(&written).map(|(key, (_, value))| (self.name(key), value)).collect();
        let results = self.client.set_many(&entries, &SetOptions::new()).await;
        for ((key, (number, _)), result) in keys.zip(&written).zip(results) {
            self.written(key, *number, asked_us, result);
        }
    }

    async fn delete(&mut self, key: usize, _: u64) {
        match self.client.delete(self.name(key)).await {
            Ok(DeleteOutcome::Deleted | DeleteOutcome::NotFound) => {
                let mut record = self.record.lock();
                let least = record.keys[key].tried + 1;
                record.acknowledged(key, least, self.net.now_us());
            }
            Ok(DeleteOutcome::ConditionFailed) => panic!("there was no condition"),
            Err(error) => self.fail(&error),
        }
    }

    /// Failing is allowed, but not in every way.
    fn fail(&mut self, error: &Error) {
        self.counts.failed += 1;
        let expected = matches!(
            error,
            Error::Timeout { .. }
                | Error::Busy { .. }
                | Error::Disconnected { .. }
                | Error::Unreachable(_)
                | Error::NodeDown { .. }
                | Error::Refused {
                    // Nodes learn of a topology one after the other, and their cores too.
                    status: Status::Moved | Status::Loading | Status::TooLate,
                    ..
                }
        );
        assert!(expected, "{error:?}");
    }
}

/// Whether a client takes some node for down, or has not made up for the time when it was.
pub(super) fn stood_in(client: &Client) -> bool {
    client.nodes().iter().any(|node| node.is_down || node.deletes_owed > 0)
}
