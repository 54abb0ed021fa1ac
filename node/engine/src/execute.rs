//! The one place where requests take effect: one `match`, from a request to a reply on
//! this core's shard.

use corelane_protocol::limits::LEFT_HEAD_BYTES;
use corelane_protocol::{
    Absent, Answer, Arithmetic, Count, DeleteCondition, Direction, ExpireCondition, MonotonicUs,
    OldValue, Redirect, Remaining, Reply, ReplyHead, Request, RequestHead, Set, SetCondition, Side,
    Space, Status, Ttl, Value, Version, WantVersion, WithValue, wire,
};
use corelane_ring::Slot;
use corelane_shard::{
    End, Entry, EntryVersion, Expiry, Key, Millis, Shard, ShardError, TickOutcome, Upload, Write,
    WriteError,
};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::changes::ChangeStream;
use crate::config::{DefaultTtl, EngineConfig};
use crate::counters::Counters;
use crate::intake::Admission;
use crate::limits::{LEASE_BYTES_MIN, UPLOADS_SHARE};
use crate::packet::Leases;
use crate::stats;

mod atomic;
mod decimal;
mod digits;
mod keyspace;
mod ranges;
#[cfg(test)]
mod tests;

use digits::Digits;

/// Executes requests on one shard.
pub(crate) struct Executor {
    pub(crate) shard: Shard,
    pub(crate) counters: Counters,
    pub(crate) config: EngineConfig,
    /// Large values of the replies that are being written, for whoever keeps the replies.
    pub(crate) leases: Leases,
    /// Values that are being received into the shard.
    pub(crate) uploads: Admission,
    /// The value of the set that is being executed, where it came piece by piece.
    pub(crate) uploaded: Option<Upload>,
    pub(crate) changes: ChangeStream,
    random: SmallRng,
}

/// Why a request has no other outcome; becomes a reply with the same status.
type Outcome<T> = Result<T, Status>;

/// Words for the person who reads an error; nothing for what happens in the normal course.
pub(crate) fn words(status: Status) -> &'static str {
    match status {
        Status::OutOfMemory => "the memory is used up and nothing may be evicted",
        Status::ValueTooLarge => {
            "the value is, or would become, longer than this node takes, or than one value may \
             take of a core's memory"
        }
        Status::NotANumber => "the value is not a decimal number of this kind",
        Status::OutOfRange => "the number would pass its range",
        _ => "",
    }
}

pub(crate) fn refused(error: WriteError) -> Status {
    match error {
        WriteError::OutOfMemory => Status::OutOfMemory,
        WriteError::ValueTooLarge => Status::ValueTooLarge,
    }
}

/// Whether a request may take memory of the shard.
pub(crate) fn takes_memory(request: &Request<'_>) -> bool {
    match request {
        Request::Set(_)
        | Request::SetMany(_)
        | Request::SetRange { .. }
        | Request::Extend { .. }
        | Request::ExtendIf { .. }
        | Request::Count(_)
        | Request::CountFloat { .. }
        | Request::CountAndDescribe { .. }
        | Request::Copy { .. }
        | Request::Rename { .. }
        | Request::Atomic(_)
        | Request::Touch { .. }
        | Request::GetAndTouch { .. } => true,
        Request::Describe { touch, .. } => touch.is_some(),
        _ => false,
    }
}

/// Milliseconds of the shard's clock.
pub(crate) fn millis(now: MonotonicUs) -> Millis {
    Millis(now.0 / 1_000)
}

/// The head of the reply to a request, whose epoch is this node's since it was dispatched.
pub(crate) fn reply_head(head: &RequestHead) -> ReplyHead {
    ReplyHead { id: head.id, epoch: head.epoch, part: head.part }
}

/// What values may take together that a shard of this budget receives piece by piece.
pub(crate) fn uploads_bytes_max(shard_bytes: u64) -> usize {
    (shard_bytes / UPLOADS_SHARE) as usize
}

/// Appends a reply that says what went wrong.
pub(crate) fn write_failure(out: &mut Vec<u8>, head: ReplyHead, status: Status, message: &str) {
    wire::encode_reply(&head, &Reply::Failed { status, message }, out);
}

impl Executor {
    pub(crate) fn new(config: EngineConfig) -> Result<Executor, ShardError> {
        let shard = Shard::new(config.shard.clone())?;
        let uploads_max = uploads_bytes_max(config.shard.budget_bytes);
        let random = SmallRng::seed_from_u64(config.seed);
        Ok(Executor {
            shard,
            counters: Counters::default(),
            config,
            leases: Leases::default(),
            uploads: Admission::new(uploads_max),
            uploaded: None,
            changes: ChangeStream::default(),
            random,
        })
    }

    /// Executes one request whose key, if it has one, belongs to this core, and appends
    /// its reply. Hello, topology and multi-get never come here: the first two belong to the
    /// connection, the last is taken apart into gets.
    pub(crate) fn execute(
        &mut self,
        head: &RequestHead,
        request: &Request<'_>,
        now: MonotonicUs,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        if head.deadline.is_some_and(|deadline| deadline < now) {
            self.counters.too_late += 1;
            write_failure(out, reply_head(head), Status::TooLate, "");
        } else if let Err(status) = self.perform(head, request, now, out) {
            self.take_back(start, out);
            match status {
                Status::NotFound | Status::ConditionFailed => {}
                _ => self.counters.failures += 1,
            }
            write_failure(out, reply_head(head), status, words(status));
        }
        if head.answer == Answer::Never {
            self.take_back(start, out);
        }
    }

    /// Takes back what a request has appended.
    fn take_back(&mut self, start: usize, out: &mut Vec<u8>) {
        out.truncate(start);
        self.leases.truncate(start);
    }

    fn perform(
        &mut self,
        head: &RequestHead,
        request: &Request<'_>,
        now: MonotonicUs,
        out: &mut Vec<u8>,
    ) -> Outcome<()> {
        let at = millis(now);
        let reply = match *request {
            Request::Get { key, least_version } => {
                let key = self.key_of(head.space, key);
                return self.get(head, &key, least_version, at, out);
            }
            Request::GetAndTouch { key, ttl } => {
                // In this order: an expiry that is due at once must not hide the value.
                let key = self.key_of(head.space, key);
                self.get(head, &key, None, at, out)?;
                self.set_expiry(&key, ttl, at);
                return Ok(());
            }
            Request::Set(set) if set.old == OldValue::Return => {
                self.write_old(head, &self.key_of(head.space, set.key), at, out);
                return match self.set(head, &set, at) {
                    Ok(_) | Err(Status::NotFound | Status::ConditionFailed) => Ok(()),
                    Err(status) => Err(status),
                };
            }
            Request::Set(set) => self.set(head, &set, at)?,
            Request::Delete { key, condition } => {
                self.delete(&self.key_of(head.space, key), condition, at)?
            }
            Request::Touch { key, ttl, condition } => {
                self.counters.requests_other += 1;
                let key = self.key_of(head.space, key);
                // First, since there may be no room for a version: nothing was changed then.
                let version = self.version_if_wanted(head, &key, at)?;
                self.touch(&key, ttl, condition, at)?;
                let is_there = self.shard.peek(&key, at).is_some();
                Reply::Done { version: version.filter(|_| is_there) }
            }
            Request::Count(count) => self.count(head, &count, at)?,
            Request::Extend { key, value, side, absent } => {
                self.counters.requests_other += 1;
                let key = self.key_of(head.space, key);
                let end = match side {
                    Side::Append => End::Append,
                    Side::Prepend => End::Prepend,
                };
                match absent {
                    Absent::Create { ttl } => {
                        let expiry = self.expiry(ttl, None, at);
                        let number = self.extend_or_create(&key, value, end, expiry, at)?;
                        Reply::Number { number, version: None }
                    }
                    Absent::Miss => {
                        // With the value, since there may be no room for a version after it.
                        let version = match head.want_version {
                            WantVersion::Yes => {
                                Some(EntryVersion::Shard(self.shard.next_version()))
                            }
                            WantVersion::No => None,
                        };
                        self.shard
                            .extend(&key, value, end, version, at, &mut self.changes)
                            .map_err(refused)?
                            .then_some(())
                            .ok_or(Status::NotFound)?;
                        Reply::Done { version: version.map(number) }
                    }
                }
            }
            Request::GetOrAsk { key } => {
                let key = self.key_of(head.space, key);
                match self.get(head, &key, None, at, out) {
                    Err(Status::NotFound) if self.ask(&key).is_some() => self.counters.asked += 1,
                    other => return other,
                }
                Reply::Redirect(self.ask(&key).expect("it was just there"))
            }
            Request::Exists { key } => {
                self.counters.requests_other += 1;
                let key = self.key_of(head.space, key);
                self.shard.peek(&key, at).ok_or(Status::NotFound)?;
                Reply::Done { version: None }
            }
            Request::TtlOf { key } => {
                self.counters.requests_other += 1;
                let key = self.key_of(head.space, key);
                let entry = self.shard.peek(&key, at).ok_or(Status::NotFound)?;
                Reply::Remaining(match entry.expiry {
                    Expiry::Never => Remaining::Never,
                    Expiry::At(expiry) => Remaining::Ms(expiry.0 - at.0),
                })
            }
            Request::Flush { .. } => {
                self.counters.requests_other += 1;
                self.shard.flush(at, &mut self.changes);
                Reply::Done { version: None }
            }
            Request::Stats => {
                self.refresh_gauges();
                let items_in = |space: Space| self.shard.space_len(space.number());
                let text = stats::text(&self.counters, items_in);
                let core = self.config.core;
                let reply = Reply::Stats { core, text: text.as_bytes() };
                wire::encode_reply(&reply_head(head), &reply, out);
                return Ok(());
            }
            Request::Ping => Reply::Pong { clock: now },
            Request::GetAndDelete { key } => {
                return self.get_and_delete(head, &self.key_of(head.space, key), at, out);
            }
            Request::GetRange { key, start, end } => {
                let key = self.key_of(head.space, key);
                return self.get_range(head, &key, (start, end), at, out);
            }
            Request::SetRange { key, offset, value } => {
                let key = self.key_of(head.space, key);
                let number = self.set_range(&key, offset, value, at)?;
                Reply::Number { number, version: None }
            }
            Request::Length { key } => self.length(&self.key_of(head.space, key), at)?,
            Request::CountFloat { key, delta } => {
                let key = self.key_of(head.space, key);
                return self.count_float(head, &key, delta, at, out);
            }
            Request::CountAndDescribe { count, version, touch } => {
                let key = self.key_of(head.space, count.key);
                let entry = self.shard.peek(&key, at);
                let is_wanted =
                    |entry: &Entry<'_>| version.is_none_or(|version| has_version(entry, version));
                if !entry.as_ref().is_none_or(is_wanted) {
                    return Err(Status::ConditionFailed);
                }
                self.count(head, &count, at)?;
                return self.describe(head, &key, WithValue::Yes, touch, at, out);
            }
            Request::ExtendIf { key, value, side, version } => {
                let entry = self.shard.peek(&self.key_of(head.space, key), at);
                if !has_version(&entry.ok_or(Status::NotFound)?, version) {
                    return Err(Status::ConditionFailed);
                }
                let request = Request::Extend { key, value, side, absent: Absent::Miss };
                return self.perform(head, &request, now, out);
            }
            Request::Describe { key, value, touch } => {
                let key = self.key_of(head.space, key);
                return self.describe(head, &key, value, touch, at, out);
            }
            Request::Watch { key } => {
                self.counters.requests_other += 1;
                let is_present = self.shard.peek(&self.key_of(head.space, key), at).is_some();
                let stamp = self.changes.watched.watch(head.space.number(), key, is_present);
                Reply::Done { version: Some(stamp) }
            }
            Request::Copy { from, to, to_space, replace } => {
                let (from, to) = (self.key_of(head.space, from), self.key_of(to_space, to));
                self.copy(&from, &to, replace, at)?
            }
            Request::Rename { from, to, replace } => {
                let (from, to) = (self.key_of(head.space, from), self.key_of(head.space, to));
                self.rename(&from, &to, replace, at)?
            }
            Request::SetMany(many) => self.set_many(head.space, &many, at)?,
            Request::Atomic(atomic) => return self.atomic(head, &atomic, now, out),
            Request::CountKeys { slot } => self.count_keys(head.space, slot),
            Request::Scan { cursor, count, pattern } => {
                self.scan(head, cursor, count, pattern, at, out);
                return Ok(());
            }
            Request::RandomKey => return self.random_key(head, at, out),
            Request::KeysInSlot { slot, count } => {
                self.keys_in_slot(head, slot, count, at, out);
                return Ok(());
            }
            Request::FlushSpace { cursor } => {
                self.flush_space(head, cursor, at, out);
                return Ok(());
            }
            // The slot is here, or about to be.
            Request::GetLeft { .. } => return Err(Status::Loading),
            Request::FlushSlot { .. }
            | Request::Hello(_)
            | Request::MultiGet(_)
            | Request::Topology { .. }
            | Request::Clients { .. } => {
                return Err(Status::Invalid);
            }
        };
        wire::encode_reply(&reply_head(head), &reply, out);
        Ok(())
    }

    /// Where to ask for an entry that is not here, if it may be taken over from there.
    fn ask(&self, key: &Key<'_>) -> Option<Redirect<'_>> {
        let slot = Slot::new(key.slot()).expect("the shard's slots are the ring's");
        self.changes.new_slots.as_ref()?.ask(slot, key.bytes())
    }

    /// Answers with what is still here of a slot that has left.
    pub(crate) fn get_left(
        &mut self,
        head: &RequestHead,
        slot: Slot,
        key: &[u8],
        now: MonotonicUs,
        out: &mut Vec<u8>,
    ) {
        self.counters.requests_get += 1;
        let at = millis(now);
        let entry = self.shard.peek(&self.shard.key(slot.number(), head.space.number(), key), at);
        let Some(entry) = entry else {
            self.counters.misses += 1;
            return write_failure(out, reply_head(head), Status::NotFound, "");
        };
        self.counters.hits += 1;
        let remaining_ms = match entry.expiry {
            Expiry::Never => u64::MAX,
            Expiry::At(expiry) => expiry.0 - at.0,
        };
        let bytes = LEFT_HEAD_BYTES + entry.value.len();
        let remaining = remaining_ms.to_le_bytes();
        let pieces = std::iter::once(&remaining[..]).chain(entry.value.chunks());
        wire::write_value(&reply_head(head), entry.user_flags, None, bytes, pieces, out);
    }

    /// Removes up to `limit` entries of a slot: how many, and whether there are more.
    pub(crate) fn empty_slot(
        &mut self,
        slot: Slot,
        limit: usize,
        now: MonotonicUs,
    ) -> (usize, TickOutcome) {
        let before = self.shard.len();
        let outcome = self.shard.remove_slot(slot.number(), limit, millis(now), &mut self.changes);
        ((before - self.shard.len()) as usize, outcome)
    }

    fn get(
        &mut self,
        head: &RequestHead,
        key: &Key<'_>,
        least_version: Option<Version>,
        at: Millis,
        out: &mut Vec<u8>,
    ) -> Outcome<()> {
        self.counters.requests_get += 1;
        let version = self.version_if_wanted(head, key, at)?;
        let entry = self.shard.get(key, at).filter(|entry| is_as_new_as(entry, least_version));
        let Some(entry) = entry else {
            self.counters.misses += 1;
            return Err(Status::NotFound);
        };
        self.counters.hits += 1;
        write_entry(&reply_head(head), &entry, version, out, &mut self.leases);
        Ok(())
    }

    fn set(&mut self, head: &RequestHead, set: &Set<'_>, at: Millis) -> Outcome<Reply<'static>> {
        self.counters.requests_set += 1;
        let key = self.key_of(head.space, set.key);
        let unconditional = set.condition == SetCondition::Always && set.ttl != Ttl::Keep;
        let old = if unconditional { None } else { self.shard.peek(&key, at) };
        let holds = match set.condition {
            SetCondition::Always => true,
            SetCondition::Absent => old.is_none(),
            SetCondition::Present => old.is_some(),
            SetCondition::VersionIs(version) => match &old {
                None => return Err(Status::NotFound),
                Some(entry) => has_version(entry, version),
            },
            SetCondition::NewerThan(version) => {
                old.as_ref().and_then(callers_version).is_none_or(|stored| stored < version.0)
            }
            SetCondition::ValueIs(value) => old.as_ref().is_some_and(|entry| equals(entry, value)),
            SetCondition::Untouched => old.is_none() && self.ask(&key).is_some(),
        };
        if !holds {
            return Err(Status::ConditionFailed);
        }
        let kept = old.map(|entry| entry.expiry);
        let expiry = self.expiry(set.ttl, kept, at);
        let version = match (set.condition, head.want_version) {
            (SetCondition::NewerThan(version), _) => Some(EntryVersion::Caller(version.0)),
            (_, WantVersion::Yes) => Some(EntryVersion::Shard(self.shard.next_version())),
            (_, WantVersion::No) => None,
        };
        let write = Write { value: set.value, user_flags: set.user_flags, expiry, version };
        self.write(&key, write, at)?;
        self.counters.warmed += u64::from(set.condition == SetCondition::Untouched);
        let version = version.filter(|_| head.want_version == WantVersion::Yes).map(number);
        Ok(Reply::Done { version })
    }

    fn delete(
        &mut self,
        key: &Key<'_>,
        condition: DeleteCondition<'_>,
        at: Millis,
    ) -> Outcome<Reply<'static>> {
        self.counters.requests_delete += 1;
        if condition != DeleteCondition::Always {
            let entry = self.shard.peek(key, at).ok_or(Status::NotFound)?;
            let holds = match condition {
                DeleteCondition::Always => true,
                DeleteCondition::VersionIs(version) => has_version(&entry, version),
                DeleteCondition::ValueIs(value) => equals(&entry, value),
            };
            if !holds {
                return Err(Status::ConditionFailed);
            }
        }
        if !self.shard.remove(key, at, &mut self.changes) {
            if let Some(new_slots) = &mut self.changes.new_slots {
                // Nor is it to come from where its slot was.
                let slot = Slot::new(key.slot()).expect("the shard's slots are the ring's");
                new_slots.touch(slot, key.bytes());
            }
            return Err(Status::NotFound);
        }
        Ok(Reply::Done { version: None })
    }

    fn count(
        &mut self,
        head: &RequestHead,
        count: &Count<'_>,
        at: Millis,
    ) -> Outcome<Reply<'static>> {
        self.counters.requests_other += 1;
        let key = self.key_of(head.space, count.key);
        let (number, user_flags, expiry) = match self.shard.peek(&key, at) {
            Some(entry) => {
                let old = parse_number(&entry, count.arithmetic).ok_or(Status::NotANumber)?;
                let new = add(old, count).ok_or(Status::OutOfRange)?;
                (new, entry.user_flags, entry.expiry)
            }
            None => {
                let initial = count.initial.ok_or(Status::NotFound)?;
                (initial, 0, self.expiry(count.ttl, None, at))
            }
        };
        let text = match count.arithmetic {
            Arithmetic::Signed => Digits::signed(number as i64),
            Arithmetic::Unsigned64 => Digits::unsigned(number),
        };
        let version = match head.want_version {
            WantVersion::Yes => Some(EntryVersion::Shard(self.shard.next_version())),
            WantVersion::No => None,
        };
        self.write(&key, Write { value: text.bytes(), user_flags, expiry, version }, at)?;
        Ok(Reply::Number { number, version: version.map(self::number) })
    }

    pub(crate) fn write(&mut self, key: &Key<'_>, write: Write<'_>, at: Millis) -> Outcome<()> {
        match self.uploaded.take() {
            None => self.shard.set(key, write, at, &mut self.changes),
            Some(upload) => self.shard.finish_upload(upload, key, write, at, &mut self.changes),
        }
        .map_err(refused)
    }

    /// Stores bytes of a value that comes piece by piece.
    pub(crate) fn upload(
        &mut self,
        upload: &mut Upload,
        bytes: &[u8],
        at: Millis,
    ) -> Result<usize, WriteError> {
        self.shard.upload(upload, bytes, at, &mut self.changes)
    }

    /// Sets a new expiry where the condition holds. One that is due removes the entry.
    fn touch(
        &mut self,
        key: &Key<'_>,
        ttl: Ttl,
        condition: ExpireCondition,
        at: Millis,
    ) -> Outcome<()> {
        let old = self.shard.peek(key, at).ok_or(Status::NotFound)?.expiry;
        let new = self.expiry(ttl, Some(old), at);
        let holds = match condition {
            ExpireCondition::Always => true,
            ExpireCondition::IfNone => old == Expiry::Never,
            ExpireCondition::IfSome => old != Expiry::Never,
            ExpireCondition::IfLater => is_earlier(old, new),
            ExpireCondition::IfEarlier => is_earlier(new, old),
            ExpireCondition::IfSomeAndEarlier => old != Expiry::Never && is_earlier(new, old),
        };
        if !holds {
            return Err(Status::ConditionFailed);
        }
        if new.is_due(at) {
            self.shard.remove(key, at, &mut self.changes);
        } else if (old, new) != (Expiry::Never, Expiry::Never) {
            // Also to what it was: whoever watches the key is told.
            self.shard.set_expiry(key, new, at, &mut self.changes);
        }
        Ok(())
    }

    /// Sets a new expiry, if there is such an entry.
    fn set_expiry(&mut self, key: &Key<'_>, ttl: Ttl, at: Millis) {
        // That there is none is no failure of the request that asks for this besides.
        let _ = self.touch(key, ttl, ExpireCondition::Always, at);
    }

    /// The expiry of an entry whose writer leaves it to the node.
    fn default_expiry(&mut self, at: Millis) -> Expiry {
        self.expiry(Ttl::Default, None, at)
    }

    /// The moment at which an entry written now expires. `kept` is that of the entry
    /// being replaced.
    pub(crate) fn expiry(&mut self, ttl: Ttl, kept: Option<Expiry>, at: Millis) -> Expiry {
        let ms = match (ttl, kept) {
            (Ttl::Never, _) => return Expiry::Never,
            (Ttl::Keep, Some(kept)) => return kept,
            (Ttl::After { ms, .. }, _) => ms,
            (Ttl::Keep | Ttl::Default, _) => match self.config.default_ttl {
                DefaultTtl::Never => return Expiry::Never,
                DefaultTtl::AfterMs(ms) => ms,
            },
        };
        // An entry that kept nothing because there was nothing is written by default.
        let asked = if ttl == Ttl::Keep { Ttl::Default } else { ttl };
        let ms = if self.config.spreads(asked) { self.spread(ms) } else { ms };
        Expiry::At(Millis(at.0.saturating_add(ms)))
    }

    fn spread(&mut self, ms: u64) -> u64 {
        let reach = (u128::from(ms) * u128::from(self.config.jitter_percent) / 100) as u64;
        let low = ms - reach;
        low.saturating_add(self.random.random_range(0..=reach.saturating_mul(2)))
    }

    fn version_if_wanted(
        &mut self,
        head: &RequestHead,
        key: &Key<'_>,
        at: Millis,
    ) -> Outcome<Option<Version>> {
        if head.want_version == WantVersion::No {
            return Ok(None);
        }
        let version = self.shard.ensure_version(key, at).map_err(refused)?;
        Ok(version.map(number))
    }

    /// Housekeeping of the shard; true if more is due now.
    pub(crate) fn tick(&mut self, now: MonotonicUs) -> corelane_shard::TickOutcome {
        self.shard.tick(millis(now), &mut self.changes)
    }

    /// Flushes, as a timer asks for it.
    pub(crate) fn flush(&mut self, now: MonotonicUs) {
        self.shard.flush(millis(now), &mut self.changes);
    }

    /// Brings the gauges and the shard's counts up to date.
    pub(crate) fn refresh_gauges(&mut self) {
        let stats = self.shard.stats();
        self.counters.items = self.shard.len();
        self.counters.memory_budget_bytes = stats.budget_bytes;
        self.counters.memory_used_bytes = stats.used_bytes;
        self.counters.items_with_expiry = stats.items_with_expiry;
        self.counters.memory_payload_bytes = stats.payload_bytes;
        self.counters.memory_slack_bytes = stats.slack_bytes;
        self.counters.memory_compaction_debt_bytes = stats.compaction_debt_bytes;
        self.counters.memory_index_bytes = stats.index_bytes;
        self.counters.memory_timers_bytes = stats.wheel_bytes;
        self.counters.memory_policy_bytes = stats.policy_bytes;
        self.counters.memory_large_bytes = stats.large_bytes;
        self.counters.evictions = stats.evicted;
        self.counters.evictions_by_policy = stats.evicted_by_policy;
        self.counters.evictions_with_page = stats.evicted_with_page;
        self.counters.evictions_in_haste = stats.evicted_in_haste;
        self.counters.evictions_by_budget = stats.evicted_by_budget;
        self.counters.evicted_bytes = stats.evicted_bytes;
        self.counters.eviction_probation_ms = stats.probation_ms;
        self.counters.eviction_round_ms = stats.hand_round_ms;
        self.counters.expirations_on_access = stats.expired_on_access;
        self.counters.expirations_by_timer = stats.expired_by_wheel;
        self.counters.written_bytes = stats.written_bytes;
        self.counters.moved_bytes = stats.moved_bytes;
        self.counters.expirations = stats.expired_on_access + stats.expired_by_wheel;
        self.counters.out_of_memory = stats.refused;
        self.counters.requests = self.counters.executed();
    }
}

/// Whether one expiry comes before another; no expiry comes last.
fn is_earlier(one: Expiry, other: Expiry) -> bool {
    match (one, other) {
        (Expiry::At(one), Expiry::At(other)) => one < other,
        (Expiry::At(_), Expiry::Never) => true,
        (Expiry::Never, _) => false,
    }
}

/// Appends the reply with an entry's value, which is leased where that is cheaper than a copy.
pub(crate) fn write_entry(
    head: &ReplyHead,
    entry: &Entry<'_>,
    version: Option<Version>,
    out: &mut Vec<u8>,
    leases: &mut Leases,
) {
    let value = &entry.value;
    if let Some(bytes) = value.as_slice() {
        let value = Value { bytes, user_flags: entry.user_flags, version };
        return wire::encode_reply(head, &Reply::Value(value), out);
    }
    if value.len() >= LEASE_BYTES_MIN
        && let Some(lease) = value.lease()
    {
        wire::write_value_head(head, entry.user_flags, version, value.len(), out);
        leases.push(out.len(), lease);
        return;
    }
    wire::write_value(head, entry.user_flags, version, value.len(), value.chunks(), out);
}

fn number(version: EntryVersion) -> Version {
    match version {
        EntryVersion::Shard(number) | EntryVersion::Caller(number) => Version(number),
    }
}

fn callers_version(entry: &Entry<'_>) -> Option<u64> {
    match entry.version {
        Some(EntryVersion::Caller(version)) => Some(version),
        _ => None,
    }
}

fn has_version(entry: &Entry<'_>, version: Version) -> bool {
    entry.version.map(number) == Some(version)
}

fn is_as_new_as(entry: &Entry<'_>, least: Option<Version>) -> bool {
    least.is_none_or(|least| callers_version(entry).is_some_and(|stored| stored >= least.0))
}

fn equals(entry: &Entry<'_>, bytes: &[u8]) -> bool {
    let mut rest = bytes;
    entry.value.len() == bytes.len()
        && entry.value.chunks().all(|chunk| {
            let (head, tail) = rest.split_at(chunk.len());
            rest = tail;
            head == chunk
        })
}

/// Longest value that is a number, in bytes; one without sign may have zeros before it and
/// spaces around, as far as they fit.
const UNSIGNED_BYTES_MAX: usize = 22;

/// The number that a value is. One that is signed must be in canonical decimal: no sign but a
/// leading minus, no leading zeros, no spaces.
fn parse_number(entry: &Entry<'_>, arithmetic: Arithmetic) -> Option<u64> {
    // Under a long key even a short value may be stored in pieces.
    let mut bytes = [0; UNSIGNED_BYTES_MAX];
    let mut rest = bytes.get_mut(..entry.value.len())?;
    for chunk in entry.value.chunks() {
        let (head, tail) = rest.split_at_mut(chunk.len());
        head.copy_from_slice(chunk);
        rest = tail;
    }
    let text = std::str::from_utf8(&bytes[..entry.value.len()]).ok()?;
    match arithmetic {
        Arithmetic::Signed => {
            let number = text.parse::<i64>().ok()?;
            (Digits::signed(number).bytes() == text.as_bytes()).then_some(number as u64)
        }
        Arithmetic::Unsigned64 => text.trim_ascii().parse().ok(),
    }
}

fn add(old: u64, count: &Count<'_>) -> Option<u64> {
    match (count.arithmetic, count.direction) {
        (Arithmetic::Signed, Direction::Increment) => {
            (old as i64).checked_add_unsigned(count.delta).map(|new| new as u64)
        }
        (Arithmetic::Signed, Direction::Decrement) => {
            (old as i64).checked_sub_unsigned(count.delta).map(|new| new as u64)
        }
        (Arithmetic::Unsigned64, Direction::Increment) => Some(old.wrapping_add(count.delta)),
        (Arithmetic::Unsigned64, Direction::Decrement) => Some(old.saturating_sub(count.delta)),
    }
}
