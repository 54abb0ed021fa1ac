//! The two requests that nearly all requests are, as they nearly always come: a get of nothing
//! but the value, a set whatever was there. [`Executor::execute`] gives the same replies to
//! them, and to all others.

use corelane_protocol::{
    Answer, MonotonicUs, OldValue, Reply, ReplyHead, Request, RequestHead, Set, SetCondition,
    Space, Status, Ttl, WantVersion, wire,
};
use corelane_shard::{Key, Millis, Write};

use crate::ahead::KnownKey;
use crate::execute::{Executor, millis, reply_head, words, write_entry, write_failure};

impl Executor {
    /// Executes a request whose key belongs to this core, if it is a plain one. Whether it was.
    #[inline]
    pub(crate) fn execute_plain(
        &mut self,
        head: &RequestHead,
        request: &Request<'_>,
        known: &KnownKey,
        now: MonotonicUs,
        out: &mut Vec<u8>,
    ) -> bool {
        if head.space != Space::default()
            || head.want_version == WantVersion::Yes
            || head.deadline.is_some_and(|deadline| deadline < now)
        {
            return false;
        }
        match request {
            Request::Get { key, least_version: None } => {
                self.get_plain(&reply_head(head), key, known, millis(now), out);
                true
            }
            Request::Set(set)
                if set.condition == SetCondition::Always
                    && set.ttl != Ttl::Keep
                    && set.old == OldValue::Omit
                    && head.answer == Answer::Always =>
            {
                let key = self.shard.key_of(known.hash, set.key);
                self.set_plain(&reply_head(head), &key, set, millis(now), out);
                true
            }
            _ => false,
        }
    }

    /// Executes a get of nothing but the value.
    #[inline]
    pub(crate) fn get_plain(
        &mut self,
        head: &ReplyHead,
        key: &[u8],
        known: &KnownKey,
        at: Millis,
        out: &mut Vec<u8>,
    ) {
        self.counters.requests_get += 1;
        let key = self.shard.key_of(known.hash, key);
        match self.shard.get_ahead(&key, known.entry, at) {
            Some(entry) => {
                self.counters.hits += 1;
                match entry.value.as_slice() {
                    Some(bytes) if entry.user_flags == 0 => {
                        wire::write_bare_value(head, bytes, out)
                    }
                    _ => write_entry(head, &entry, None, out, &mut self.leases),
                }
            }
            None => {
                self.counters.misses += 1;
                write_failure(out, *head, Status::NotFound, "");
            }
        }
    }

    fn set_plain(
        &mut self,
        head: &ReplyHead,
        key: &Key<'_>,
        set: &Set<'_>,
        at: Millis,
        out: &mut Vec<u8>,
    ) {
        self.counters.requests_set += 1;
        let expiry = self.expiry(set.ttl, None, at);
        let write = Write { value: set.value, user_flags: set.user_flags, expiry, version: None };
        match self.write(key, write, at) {
            Ok(()) => wire::encode_reply(head, &Reply::Done { version: None }, out),
            Err(status) => {
                self.counters.failures += 1;
                write_failure(out, *head, status, words(status));
            }
        }
    }
}
