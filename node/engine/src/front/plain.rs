//! The two requests that nearly all requests are, rendered straight from the shard. Everything
//! else gives the same answers to them, a little slower.

use corelane_dialect::{Moment, Part, Shape, ValueHead, resp};
use corelane_protocol::{
    Answer, OldValue, Reply, Request, SetCondition, Space, Status, Ttl, WantVersion,
};
use corelane_ring::slot_of;
use corelane_shard::{Key, Write};

use crate::dispatch::Dispatcher;
use crate::execute::{millis, words};
use crate::limits::LEASE_BYTES_MIN;

impl Dispatcher {
    /// Answers the get at the front of the input of a RESP connection on which nothing is
    /// outstanding, if there is one and its key is of this core. Its length.
    #[inline]
    pub(super) fn plain_resp(
        &mut self,
        session: &resp::Session,
        input: &[u8],
        out: &mut Vec<u8>,
        moment: Moment,
    ) -> Option<usize> {
        let get = session.plain_get(input)?;
        let key = self.key_here(get.space, get.key)?;
        self.get_rendered(&key, Shape::Resp(get.shape), b"", out, moment);
        Some(get.consumed)
    }

    /// Carries a request out and renders its reply, if it is a plain one of this core. Whether
    /// it was.
    pub(super) fn plain(&mut self, part: &Part<'_>, out: &mut Vec<u8>, moment: Moment) -> bool {
        let Part { head, request, shape, echo } = part;
        let is_silent = matches!(shape, Shape::Resp(shape) if shape.form == resp::Form::Silent);
        if head.want_version == WantVersion::Yes
            || head.answer == Answer::Never
            || head.deadline.is_some()
            || is_silent
        {
            return false;
        }
        match request {
            Request::Get { key, least_version: None } => {
                let Some(key) = self.key_here(head.space, key) else { return false };
                self.get_rendered(&key, *shape, echo, out, moment);
                true
            }
            Request::Set(set)
                if set.condition == SetCondition::Always
                    && set.ttl != Ttl::Keep
                    && set.old == OldValue::Omit =>
            {
                let Some(key) = self.key_here(head.space, set.key) else { return false };
                let executor = &mut self.executor;
                executor.counters.requests_set += 1;
                let at = millis(moment.now);
                let expiry = executor.expiry(set.ttl, None, at);
                let user_flags = set.user_flags;
                let write = Write { value: set.value, user_flags, expiry, version: None };
                let reply = match executor.write(&key, write, at) {
                    Ok(()) => Reply::Done { version: None },
                    Err(status) => {
                        executor.counters.failures += 1;
                        Reply::Failed { status, message: words(status) }
                    }
                };
                shape.render(echo, &reply, moment, out);
                true
            }
            _ => false,
        }
    }

    /// A key of this core.
    #[inline]
    fn key_here<'k>(&self, space: Space, key: &'k [u8]) -> Option<Key<'k>> {
        let slot = slot_of(key);
        let cores = &self.slots.cores;
        (cores.owns(slot) && cores.core_of(slot).0 == self.executor.config.core)
            .then(|| self.executor.shard.key(slot.number(), space.number(), key))
    }

    #[inline]
    fn get_rendered(
        &mut self,
        key: &Key<'_>,
        shape: Shape,
        echo: &[u8],
        out: &mut Vec<u8>,
        moment: Moment,
    ) {
        let executor = &mut self.executor;
        executor.counters.requests_get += 1;
        let Some(entry) = executor.shard.get(key, millis(moment.now)) else {
            executor.counters.misses += 1;
            let reply = Reply::Failed { status: Status::NotFound, message: "" };
            shape.render(echo, &reply, moment, out);
            return;
        };
        executor.counters.hits += 1;
        let head = ValueHead {
            bytes: entry.value.len(),
            user_flags: entry.user_flags,
            version: None,
            description: None,
        };
        shape.value_header(echo, head, moment, out);
        match entry.value.as_slice() {
            Some(bytes) => out.extend_from_slice(bytes),
            None if head.bytes >= LEASE_BYTES_MIN
                && let Some(lease) = entry.value.lease() =>
            {
                executor.leases.push(out.len(), lease);
            }
            None => entry.value.chunks().for_each(|chunk| out.extend_from_slice(chunk)),
        }
        shape.value_trailer(out);
    }
}
