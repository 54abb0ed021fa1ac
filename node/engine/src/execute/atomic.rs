//! Several requests, or several entries, that take effect together: on one core nothing
//! comes between them.

use corelane_protocol::wire::{self, DecodeLimits, Decoded};
use corelane_protocol::{
    Atomic, MonotonicUs, Replace, Reply, RequestHead, SetMany, Space, Status, Watch, Watches,
};
use corelane_ring::slot_of;
use corelane_shard::{Millis, Write};

use super::{Executor, Outcome, millis, reply_head};

impl Executor {
    /// Executes requests one after the other if everything watched is as it was. Each reply
    /// carries the request's place, and an end follows the last.
    pub(super) fn atomic(
        &mut self,
        head: &RequestHead,
        atomic: &Atomic<'_>,
        now: MonotonicUs,
        out: &mut Vec<u8>,
    ) -> Outcome<()> {
        if !self.are_unchanged(atomic.watches, millis(now)) {
            return Err(Status::ConditionFailed);
        }
        let mut frames = atomic.frames;
        let mut place = 0;
        while !frames.is_empty() {
            let Decoded::Complete { frame, consumed } =
                wire::decode_request(frames, &DecodeLimits::BETWEEN_CORES)
            else {
                unreachable!("cores send each other whole frames that one of them encoded");
            };
            let part = RequestHead { id: head.id, part: Some(place), ..frame.head };
            self.execute(&part, &frame.request, now, out);
            place += 1;
            frames = &frames[consumed..];
        }
        wire::encode_reply(&reply_head(head), &Reply::End, out);
        Ok(())
    }

    /// Whether everything is as it was when it was watched; nothing of it is watched any more.
    fn are_unchanged(&mut self, watches: Watches<'_>, at: Millis) -> bool {
        watches.iter().fold(true, |unchanged, watch| {
            let Watch { space, key, version } = watch;
            let is_present = self.shard.peek(&self.key_of(space, key), at).is_some();
            let keys = &mut self.changes.watched;
            keys.is_unchanged(space.number(), key, version, is_present) && unchanged
        })
    }

    /// Writes several entries of one slot, or none of them where none may be replaced.
    pub(super) fn set_many(
        &mut self,
        space: Space,
        many: &SetMany<'_>,
        at: Millis,
    ) -> Outcome<Reply<'static>> {
        let mut keys = many.pairs.iter().map(|(key, _)| key);
        let slot = keys.next().map(slot_of);
        if keys.any(|key| Some(slot_of(key)) != slot) {
            return Err(Status::CrossSlot);
        }
        let present = |(key, _)| self.shard.peek(&self.key_of(space, key), at).is_some();
        if many.replace == Replace::No && many.pairs.iter().any(present) {
            return Err(Status::ConditionFailed);
        }
        if many.pairs.iter().any(|(_, value)| value.len() > self.config.value_bytes_max) {
            return Err(Status::ValueTooLarge);
        }
        let expiry = self.expiry(many.ttl, None, at);
        for (done, (key, value)) in many.pairs.iter().enumerate() {
            self.counters.requests_set += 1;
            let key = self.key_of(space, key);
            let written = self.write(&key, Write { expiry, ..Write::value(value) }, at);
            if let Err(status) = written {
                // None of them was there, so it is as before without those that are.
                if many.replace == Replace::No {
                    for (key, _) in many.pairs.iter().take(done) {
                        let key = self.key_of(space, key);
                        self.shard.remove(&key, at, &mut self.changes);
                    }
                }
                return Err(status);
            }
        }
        Ok(Reply::Done { version: None })
    }
}
