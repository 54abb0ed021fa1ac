//! Requests on keys rather than values: walks, counts, names.

use corelane_dialect::glob::{Case, matches};
use corelane_protocol::{
    Arithmetic, Description, KeyList, KeyPage, Remaining, Replace, Reply, RequestHead, Space,
    Status, Ttl, WalkCursor, WithValue, wire,
};
use corelane_ring::slot_of;
use corelane_shard::{Cursor, Entry, Expiry, Key, Millis, Part, Write};
use rand::RngExt;

use super::{Executor, Outcome, parse_number, refused, reply_head};
use crate::limits::{RANDOM_KEY_STEPS_MAX, SLOT_KEYS_MAX, WALK_ENTRIES_MAX};

/// How a step of a walk left a core's shard.
struct Walked {
    next: WalkCursor,
    /// As [`KeyList`] has them.
    keys: Vec<u8>,
}

impl Executor {
    /// One step of a walk over the keys of a space.
    pub(super) fn scan(
        &mut self,
        head: &RequestHead,
        cursor: WalkCursor,
        count: u32,
        pattern: Option<&[u8]>,
        at: Millis,
        out: &mut Vec<u8>,
    ) {
        self.counters.requests_other += 1;
        let Walked { next, keys } = self.walk(head.space, cursor, count, pattern, at);
        let page = KeyPage { next, keys: KeyList::from_encoded(&keys) };
        wire::encode_reply(&reply_head(head), &Reply::Keys(page), out);
    }

    /// One step of a walk that removes the keys of a space.
    pub(super) fn flush_space(
        &mut self,
        head: &RequestHead,
        cursor: WalkCursor,
        at: Millis,
        out: &mut Vec<u8>,
    ) {
        self.counters.requests_other += 1;
        let of_space = self.shard.space_len(head.space.number());
        let next = if of_space == self.shard.len() {
            // Nobody else's keys are here: all of it goes at once.
            self.shard.flush(at, &mut self.changes);
            self.next_core()
        } else if of_space == 0 {
            self.next_core()
        } else {
            let Walked { next, keys } = self.walk(head.space, cursor, WALK_ENTRIES_MAX, None, at);
            for key in KeyList::from_encoded(&keys) {
                let key = self.key_of(head.space, key);
                self.shard.remove(&key, at, &mut self.changes);
            }
            next
        };
        let page = KeyPage { next, keys: KeyList::default() };
        wire::encode_reply(&reply_head(head), &Reply::Keys(page), out);
    }

    /// Walks over about `count` entries of this core from a cursor that is its own.
    fn walk(
        &self,
        space: Space,
        cursor: WalkCursor,
        count: u32,
        pattern: Option<&[u8]>,
        at: Millis,
    ) -> Walked {
        let mut keys = Vec::new();
        let here = (cursor.core() == self.config.core).then(|| Cursor::from_bits(cursor.place()));
        let Some(Some(start)) = here else {
            // A number that no walk gave out ends it.
            return Walked { next: WalkCursor::default(), keys };
        };
        let count = count.clamp(1, WALK_ENTRIES_MAX) as usize;
        let next = self.shard.scan(start, count, at, |key, _| {
            if key.space == space.number()
                && pattern.is_none_or(|pattern| matches(pattern, key.bytes, Case::Exact))
            {
                KeyList::push(&mut keys, key.bytes);
            }
        });
        let next = match next {
            Some(next) => WalkCursor::at(self.config.core, next.to_bits()),
            None => self.next_core(),
        };
        Walked { next, keys }
    }

    /// Where a walk goes on that has seen all of this core.
    fn next_core(&self) -> WalkCursor {
        match self.config.core + 1 {
            next if next < self.config.cores => WalkCursor::at(next, 0),
            _ => WalkCursor::default(),
        }
    }

    /// Some key of a space; the number of its keys where all places that were looked at had
    /// keys of others.
    pub(super) fn random_key(
        &mut self,
        head: &RequestHead,
        at: Millis,
        out: &mut Vec<u8>,
    ) -> Outcome<()> {
        self.counters.requests_other += 1;
        let among = self.shard.space_len(head.space.number());
        if among == 0 {
            return Err(Status::NotFound);
        }
        let places = (corelane_ring::SLOTS as u64) << 34;
        let mut cursor = Cursor::from_bits(self.random.random_range(0..places));
        let (mut met, mut keys) = (0_u32, Vec::new());
        for _ in 0..RANDOM_KEY_STEPS_MAX {
            let from = cursor.unwrap_or(Cursor::START);
            cursor = self.shard.scan(from, 1, at, |key, _| {
                if key.space == head.space.number() {
                    KeyList::push(&mut keys, key.bytes);
                    met += 1;
                }
            });
            if met > 0 {
                break;
            }
        }
        let chosen = self.random.random_range(0..met.max(1)) as usize;
        let reply = match KeyList::from_encoded(&keys).iter().nth(chosen) {
            Some(key) => Reply::Key { key, among },
            None => Reply::Number { number: among, version: None },
        };
        wire::encode_reply(&reply_head(head), &reply, out);
        Ok(())
    }

    /// Keys of a space, or of a slot whatever their space.
    pub(super) fn count_keys(&mut self, space: Space, slot: Option<u16>) -> Reply<'static> {
        self.counters.requests_other += 1;
        let number = match slot {
            Some(slot) if usize::from(slot) < corelane_shard::SLOTS => self.shard.slot_len(slot),
            Some(_) => 0,
            None => self.shard.space_len(space.number()),
        };
        Reply::Number { number, version: None }
    }

    /// Some keys of a slot.
    pub(super) fn keys_in_slot(
        &mut self,
        head: &RequestHead,
        slot: u16,
        count: u32,
        at: Millis,
        out: &mut Vec<u8>,
    ) {
        self.counters.requests_other += 1;
        let count = count.min(SLOT_KEYS_MAX);
        let (mut keys, mut met) = (Vec::new(), 0);
        let mut cursor = (usize::from(slot) < corelane_shard::SLOTS).then(|| Cursor::at_slot(slot));
        while let Some(from) = cursor.filter(|from| from.slot() == slot && met < count) {
            cursor = self.shard.scan(from, count as usize, at, |key, _| {
                if key.slot == slot && key.space == head.space.number() && met < count {
                    KeyList::push(&mut keys, key.bytes);
                    met += 1;
                }
            });
        }
        let page = KeyPage { next: WalkCursor::default(), keys: KeyList::from_encoded(&keys) };
        wire::encode_reply(&reply_head(head), &Reply::Keys(page), out);
    }

    /// What is known of an entry, as it was before this request changed anything.
    pub(super) fn describe(
        &mut self,
        head: &RequestHead,
        key: &Key<'_>,
        with: WithValue,
        touch: Option<Ttl>,
        at: Millis,
        out: &mut Vec<u8>,
    ) -> Outcome<()> {
        self.counters.requests_other += 1;
        let version = self.version_if_wanted(head, key, at)?;
        let details = self.shard.details(key, at);
        let entry = match with {
            WithValue::No => self.shard.peek(key, at),
            WithValue::Counted | WithValue::Yes => self.shard.get(key, at),
        };
        let Some((entry, details)) = entry.zip(details) else {
            self.counters.misses += u64::from(with != WithValue::No);
            return Err(Status::NotFound);
        };
        self.counters.hits += u64::from(with != WithValue::No);
        let description = Description {
            value_bytes: entry.value.len() as u64,
            memory_bytes: details.memory_bytes,
            user_flags: entry.user_flags,
            remaining: match entry.expiry {
                Expiry::Never => Remaining::Never,
                Expiry::At(expiry) => Remaining::Ms(expiry.0 - at.0),
            },
            version,
            uses: details.uses,
            is_integer: is_integer(&entry),
        };
        let head = reply_head(head);
        match (with, entry.value.as_slice()) {
            (WithValue::Yes, None) => {
                wire::between_cores::write_description(&head, description, out);
                let lease = entry.value.lease().expect("what is not in one piece is in chunks");
                self.leases.push(out.len(), lease);
            }
            (_, bytes) => {
                let value = bytes.filter(|_| with == WithValue::Yes);
                wire::encode_reply(&head, &Reply::Described { description, value }, out);
            }
        }
        if let Some(ttl) = touch {
            self.set_expiry(key, ttl, at);
        }
        Ok(())
    }

    /// A second entry like the first.
    pub(super) fn copy(
        &mut self,
        from: &Key<'_>,
        to: &Key<'_>,
        replace: Replace,
        at: Millis,
    ) -> Outcome<Reply<'static>> {
        self.counters.requests_other += 1;
        if from.slot() != to.slot() {
            return Err(Status::CrossSlot);
        }
        let entry = self.shard.peek(from, at).ok_or(Status::NotFound)?;
        if replace == Replace::No && self.shard.peek(to, at).is_some() {
            return Err(Status::ConditionFailed);
        }
        let (user_flags, expiry) = (entry.user_flags, entry.expiry);
        let mut parts = [Part::Held(entry.value.hold(0..entry.value.len()))];
        let write = Write { value: &[], user_flags, expiry, version: None };
        self.shard.set_parts(to, write, &mut parts, at, &mut self.changes).map_err(refused)?;
        Ok(Reply::Done { version: None })
    }

    /// Another key for an entry.
    pub(super) fn rename(
        &mut self,
        from: &Key<'_>,
        to: &Key<'_>,
        replace: Replace,
        at: Millis,
    ) -> Outcome<Reply<'static>> {
        if from.bytes() == to.bytes() {
            self.counters.requests_other += 1;
            self.shard.peek(from, at).ok_or(Status::NotFound)?;
            return match replace {
                Replace::Yes => Ok(Reply::Done { version: None }),
                Replace::No => Err(Status::ConditionFailed),
            };
        }
        let done = self.copy(from, to, replace, at)?;
        self.shard.remove(from, at, &mut self.changes);
        Ok(done)
    }

    /// The shard's form of a key of any space.
    pub(super) fn key_of<'k>(&self, space: Space, key: &'k [u8]) -> Key<'k> {
        self.shard.key(slot_of(key).number(), space.number(), key)
    }

    /// Appends the value of an entry, which is then gone.
    pub(super) fn get_and_delete(
        &mut self,
        head: &RequestHead,
        key: &Key<'_>,
        at: Millis,
        out: &mut Vec<u8>,
    ) -> Outcome<()> {
        self.get(head, key, None, at, out)?;
        self.counters.requests_delete += 1;
        self.shard.remove(key, at, &mut self.changes);
        Ok(())
    }

    /// Length of a value.
    pub(super) fn length(&mut self, key: &Key<'_>, at: Millis) -> Outcome<Reply<'static>> {
        self.counters.requests_other += 1;
        let entry = self.shard.peek(key, at).ok_or(Status::NotFound)?;
        Ok(Reply::Number { number: entry.value.len() as u64, version: None })
    }

    /// The reply with a value that a set replaces, or that there was none.
    pub(super) fn write_old(
        &mut self,
        head: &RequestHead,
        key: &Key<'_>,
        at: Millis,
        out: &mut Vec<u8>,
    ) {
        let head = reply_head(head);
        match self.shard.peek(key, at) {
            None => super::write_failure(out, head, Status::NotFound, ""),
            Some(entry) => super::write_entry(&head, &entry, None, out, &mut self.leases),
        }
    }
}

/// Whether a value is a whole number of 64 bits with a sign, as one writes it.
fn is_integer(entry: &Entry<'_>) -> bool {
    parse_number(entry, Arithmetic::Signed).is_some()
}
