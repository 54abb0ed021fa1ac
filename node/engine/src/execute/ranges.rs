//! Parts of values, and numbers with a fraction.

use corelane_protocol::{Reply, RequestHead, Status, Value, wire};
use corelane_shard::{End, Entry, Expiry, Key, Millis, Part, Write};

use super::decimal::{Decimal, NoDecimal};
use super::{Executor, Outcome, refused, reply_head};
use crate::limits::LEASE_BYTES_MIN;

impl Executor {
    /// The bytes from `start` to `end`, both counted from the end where they are negative.
    pub(super) fn get_range(
        &mut self,
        head: &RequestHead,
        key: &Key<'_>,
        (start, end): (i64, i64),
        at: Millis,
        out: &mut Vec<u8>,
    ) -> Outcome<()> {
        self.counters.requests_get += 1;
        let Some(entry) = self.shard.get(key, at) else {
            self.counters.misses += 1;
            return Err(Status::NotFound);
        };
        self.counters.hits += 1;
        let range = range_of(entry.value.len(), start, end);
        let lease = entry.value.lease().filter(|_| range.len() >= LEASE_BYTES_MIN);
        if let Some(lease) = lease {
            wire::write_value_head(&reply_head(head), entry.user_flags, None, range.len(), out);
            self.leases.push(out.len(), lease.narrow(range));
            return Ok(());
        }
        let copy;
        let bytes = match entry.value.as_slice() {
            Some(bytes) => &bytes[range],
            None => {
                copy = bytes_in(&entry, range);
                &copy
            }
        };
        let value = Value { bytes, user_flags: entry.user_flags, version: None };
        wire::encode_reply(&reply_head(head), &Reply::Value(value), out);
        Ok(())
    }

    /// Writes into a value; the new length.
    pub(super) fn set_range(
        &mut self,
        key: &Key<'_>,
        offset: u64,
        value: &[u8],
        at: Millis,
    ) -> Outcome<u64> {
        self.counters.requests_other += 1;
        let old = self.shard.peek(key, at);
        if value.is_empty() {
            return Ok(old.map_or(0, |entry| entry.value.len() as u64));
        }
        let most = self.config.value_bytes_max;
        let offset = usize::try_from(offset).map_err(|_| Status::ValueTooLarge)?;
        let end = offset.checked_add(value.len()).filter(|end| *end <= most);
        let end = end.ok_or(Status::ValueTooLarge)?;
        let (length, before, after, user_flags, expiry) = match old {
            Some(entry) => {
                let length = entry.value.len();
                let hold = |range| Part::Held(entry.value.hold(range));
                let (before, after) = (hold(0..offset.min(length)), hold(end.min(length)..length));
                (length, before, after, entry.user_flags, entry.expiry)
            }
            None => (0, Part::Zeros(0), Part::Zeros(0), 0, self.default_expiry(at)),
        };
        let gap = Part::Zeros(offset.saturating_sub(length));
        let mut parts = [before, gap, Part::Bytes(value), after];
        let write = Write { value: &[], user_flags, expiry, version: None };
        self.shard.set_parts(key, write, &mut parts, at, &mut self.changes).map_err(refused)?;
        Ok(length.max(end) as u64)
    }

    /// Adds to the end of a value or creates it; the new length.
    pub(super) fn extend_or_create(
        &mut self,
        key: &Key<'_>,
        value: &[u8],
        end: End,
        expiry: Expiry,
        at: Millis,
    ) -> Outcome<u64> {
        // Room for the longer value may be made at the cost of the entry itself, so this is
        // looked at last.
        if !self.shard.extend(key, value, end, None, at, &mut self.changes).map_err(refused)? {
            let write = Write { expiry, ..Write::value(value) };
            self.write(key, write, at)?;
        }
        Ok(self.shard.peek(key, at).map_or(0, |entry| entry.value.len() as u64))
    }

    /// Adds to a number with a fraction and appends the reply with the new one.
    pub(super) fn count_float(
        &mut self,
        head: &RequestHead,
        key: &Key<'_>,
        delta: &[u8],
        at: Millis,
        out: &mut Vec<u8>,
    ) -> Outcome<()> {
        self.counters.requests_other += 1;
        let (old, user_flags, expiry) = match self.shard.peek(key, at) {
            Some(entry) => {
                let number = term(&short_value(&entry))?;
                (number, entry.user_flags, entry.expiry)
            }
            None => (Some(Decimal::ZERO), 0, self.default_expiry(at)),
        };
        let sum = old.zip(term(delta)?).and_then(|(old, delta)| old.add(delta).ok());
        let mut text = Vec::new();
        sum.ok_or(Status::OutOfRange)?.write(&mut text);
        self.write(key, Write { value: &text, user_flags, expiry, version: None }, at)?;
        let value = Value { bytes: &text, user_flags, version: None };
        wire::encode_reply(&reply_head(head), &Reply::Value(value), out);
        Ok(())
    }
}

/// A number that is added; none where it is infinite, and so is the sum or it is no number.
fn term(text: &[u8]) -> Outcome<Option<Decimal>> {
    match Decimal::parse(text) {
        Ok(number) => Ok(Some(number)),
        Err(NoDecimal::Infinite) => Ok(None),
        Err(NoDecimal::NotANumber) => Err(Status::NotANumber),
    }
}

/// Redis's rules: negative positions count from the end, what is out of range is left out.
fn range_of(length: usize, start: i64, end: i64) -> std::ops::Range<usize> {
    let length_signed = length as i64;
    let from_start = |position: i64| match position {
        ..0 => position.saturating_add(length_signed).max(0),
        _ => position,
    };
    if start < 0 && end < 0 && start > end {
        return 0..0;
    }
    let (start, end) = (from_start(start), from_start(end).min(length_signed - 1));
    if start > end || length == 0 {
        return 0..0;
    }
    start as usize..end as usize + 1
}

/// Some bytes of a value in several pieces.
fn bytes_in(entry: &Entry<'_>, range: std::ops::Range<usize>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(range.len());
    let mut position = 0;
    for piece in entry.value.chunks() {
        let from = range.start.clamp(position, position + piece.len()) - position;
        let to = range.end.clamp(position, position + piece.len()) - position;
        bytes.extend_from_slice(&piece[from..to]);
        position += piece.len();
    }
    bytes
}

/// A value that may be a number; one that is too long for it is cut, and then is none.
fn short_value(entry: &Entry<'_>) -> Vec<u8> {
    const LONGEST: usize = 6_000;
    bytes_in(entry, 0..entry.value.len().min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::range_of;

    #[test]
    fn ranges_are_redis_own() {
        let check = |(start, end), expected| assert_eq!(range_of(10, start, end), expected);
        check((0, 3), 0..4);
        check((-3, -1), 7..10);
        check((0, -1), 0..10);
        check((10, 100), 0..0);
        check((5, 100), 5..10);
        check((-100, 2), 0..3);
        check((-1, -5), 0..0);
        check((-100, -50), 0..1);
        check((i64::MIN, i64::MAX), 0..10);
        assert_eq!(range_of(0, 0, -1), 0..0);
    }
}
