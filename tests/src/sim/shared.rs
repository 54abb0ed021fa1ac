//! Keys that several connections read and write at once.
//!
//! Each written value is unique, so a read tells which write it saw. What must hold is
//! checked by the order of sending and answering alone: a read may not see a write that was
//! certainly overwritten before it, nor one that was sent after it was answered, and may
//! miss only if something that removes can be the last change before it.

use std::collections::{BTreeMap, HashSet};

/// What a request on a shared key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// Writes the value with this number.
    Write(u64),
    /// Removes the entry, if there is one.
    Remove,
}

/// One change, sent and perhaps answered.
#[derive(Clone, Copy, Debug)]
struct Change {
    deed: Deed,
    by: usize,
    sent_turn: u64,
    /// By then it had taken effect; `u64::MAX` while nobody knows.
    done_turn: u64,
}

impl Change {
    /// Whether this one took effect before anything sent by `by` at `sent_turn`.
    fn is_before(&self, by: usize, sent_turn: u64) -> bool {
        self.done_turn < sent_turn || (self.by == by && self.sent_turn < sent_turn)
    }
}

/// One shared key.
#[derive(Debug)]
pub(crate) struct SharedKey {
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    changes: Vec<Change>,
}

/// What a read saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The value with this number.
    Value(u64),
    /// Nothing.
    Nothing,
}

impl SharedKey {
    /// A key that nobody has written.
    pub(crate) fn new(bytes: Vec<u8>) -> SharedKey {
        SharedKey { bytes, changes: Vec::new() }
    }

    /// A write was sent.
    pub(crate) fn write_sent(&mut self, value: u64, by: usize, turn: u64) {
        self.push(Deed::Write(value), by, turn);
    }

    /// Something that removes was sent.
    pub(crate) fn remove_sent(&mut self, by: usize, turn: u64) {
        self.push(Deed::Remove, by, turn);
    }

    fn push(&mut self, deed: Deed, by: usize, sent_turn: u64) {
        self.changes.push(Change { deed, by, sent_turn, done_turn: u64::MAX });
    }

    /// What was sent at `sent_turn` was answered: it took effect.
    pub(crate) fn done(&mut self, sent_turn: u64, turn: u64) {
        if let Some(change) = self.changes.iter_mut().find(|c| c.sent_turn == sent_turn) {
            change.done_turn = turn;
        }
    }

    /// What was sent at `sent_turn` was refused: it never takes effect.
    pub(crate) fn refused(&mut self, sent_turn: u64) {
        self.changes.retain(|change| change.sent_turn != sent_turn);
    }

    /// Judges a read that was sent at `sent_turn` and answered at `turn`.
    ///
    /// # Panics
    /// No order of the requests explains what it saw.
    pub(crate) fn read(
        &mut self,
        seen: Seen,
        by: usize,
        sent_turn: u64,
        turn: u64,
        may_vanish: bool,
    ) {
        let explained = match seen {
            Seen::Value(value) => {
                let at = self.changes.iter().position(|c| c.deed == Deed::Write(value));
                let at = at.unwrap_or_else(|| {
                    panic!("key {:?}: value {value} is old or no write's", self.bytes)
                });
                // Whoever saw it knows that it has taken effect.
                self.changes[at].done_turn = self.changes[at].done_turn.min(turn);
                let write = self.changes[at];
                write.sent_turn < turn
                    && (write.by != by || write.sent_turn < sent_turn)
                    && !self.is_superseded(&write, by, sent_turn, |_| true)
            }
            Seen::Nothing => {
                let nothing_yet = !self
                    .changes
                    .iter()
                    .any(|c| c.deed != Deed::Remove && c.is_before(by, sent_turn));
                may_vanish
                    || nothing_yet
                    || self.changes.iter().any(|change| {
                        change.deed == Deed::Remove
                            && change.sent_turn < turn
                            && (change.by != by || change.sent_turn < sent_turn)
                            && !self.is_superseded(change, by, sent_turn, |d| d != Deed::Remove)
                    })
            }
        };
        assert!(
            explained,
            "key {:?}: connection {by} read {seen:?} between turns {sent_turn} and {turn}; \
             changes: {:#?}",
            self.bytes, self.changes
        );
    }

    /// Whether a change was certainly followed by another before a request of `by`.
    fn is_superseded(
        &self,
        change: &Change,
        by: usize,
        sent_turn: u64,
        counts: impl Fn(Deed) -> bool,
    ) -> bool {
        self.changes.iter().any(|later| {
            counts(later.deed)
                && change.is_before(later.by, later.sent_turn)
                && later.is_before(by, sent_turn)
        })
    }

    /// Forgets changes that no request sent at or after `oldest_turn` can see.
    pub(crate) fn prune(&mut self, oldest_turn: u64) {
        if self.changes.len() < 64 {
            return;
        }
        let lasting = |change: &Change| {
            !self.changes.iter().any(|later| {
                (later.deed != Deed::Remove || change.deed == Deed::Remove)
                    && change.is_before(later.by, later.sent_turn)
                    && later.done_turn < oldest_turn
            })
        };
        let changes = self.changes.iter().copied().filter(lasting).collect();
        self.changes = changes;
    }
}

/// Counters that several connections add one to: no addition may be lost or answered twice.
#[derive(Debug, Default)]
pub(crate) struct SharedCounters {
    numbers: BTreeMap<usize, HashSet<u64>>,
    unanswered: BTreeMap<usize, u64>,
}

impl SharedCounters {
    /// An addition to the counter was sent.
    pub(crate) fn sent(&mut self, counter: usize) {
        *self.unanswered.entry(counter).or_default() += 1;
    }

    /// An addition was answered with the number that it made.
    ///
    /// # Panics
    /// Another addition was answered with the same number.
    pub(crate) fn answered(&mut self, counter: usize, number: u64) {
        assert!(
            self.numbers.entry(counter).or_default().insert(number),
            "two additions to counter {counter} were answered {number}"
        );
        *self.unanswered.get_mut(&counter).expect("it was sent") -= 1;
    }

    /// Checks the totals at the end, when no request is under way.
    ///
    /// # Panics
    /// An addition is missing, or there was one too many.
    pub(crate) fn check(&self) {
        for (counter, numbers) in &self.numbers {
            let answered = numbers.len() as u64;
            let sent = answered + self.unanswered[counter];
            let highest = numbers.iter().max().copied().unwrap_or(0);
            assert!(
                (answered..=sent).contains(&highest),
                "counter {counter}: {answered} additions answered, {sent} sent, but it came to {highest}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SharedKey {
        let mut key = SharedKey::new(b"k".to_vec());
        key.write_sent(1, 0, 10);
        key.done(10, 20);
        key.write_sent(2, 1, 30);
        key
    }

    #[test]
    fn a_read_beside_a_write_may_see_either() {
        key().read(Seen::Value(1), 2, 31, 40, false);
        key().read(Seen::Value(2), 2, 31, 40, false);
    }

    #[test]
    #[should_panic(expected = "read Value(1)")]
    fn an_overwritten_value_may_not_come_back() {
        let mut key = key();
        key.done(30, 40);
        key.read(Seen::Value(1), 2, 41, 50, false);
    }

    #[test]
    #[should_panic(expected = "read Nothing")]
    fn a_value_may_not_vanish() {
        key().read(Seen::Nothing, 2, 25, 26, false);
    }

    #[test]
    fn a_removal_explains_a_miss() {
        let mut key = key();
        key.remove_sent(3, 35);
        key.read(Seen::Nothing, 2, 36, 40, false);
    }

    #[test]
    #[should_panic(expected = "two additions")]
    fn additions_are_answered_once() {
        let mut counters = SharedCounters::default();
        counters.sent(0);
        counters.sent(0);
        counters.answered(0, 1);
        counters.answered(0, 1);
    }
}
