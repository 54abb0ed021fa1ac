//! The two requests that nearly all requests are, rendered straight from the shard. Everything
//! else gives the same answers to them, a little slower.

use corelane_dialect::{Asks, Manner, Moment, Part, Shape, ValueHead, resp};
use corelane_protocol::{Answer, OldValue, Reply, Request, SetCondition, Status, Ttl, WantVersion};
use corelane_shard::Write;

use super::order::Commands;
use crate::ahead::{Coming, Known, KnownKey, Owner, Place, Plain, owner_of};
use crate::connection::Connection;
use crate::dispatch::Dispatcher;
use crate::execute::{Executor, millis, words};
use crate::intake::is_large;
use crate::limits::LEASE_BYTES_MIN;

/// Input of one connection, some of which are plain commands.
pub(super) struct Run<'r> {
    pub(super) bytes: &'r [u8],
    pub(super) manner: Manner,
    /// The output's length at which the next command waits.
    pub(super) room: usize,
    pub(super) moment: Moment,
}

impl Dispatcher {
    /// Takes the plain commands from `from` on, as long as there is room. Returns where the
    /// next command begins.
    #[inline]
    pub(super) fn take_plain(
        &mut self,
        connection: &mut Connection,
        commands: &mut Commands,
        run: &Run<'_>,
        from: usize,
    ) -> usize {
        if let Some(bytes) = self.ahead.wants_more(&run.bytes[from..]) {
            let coming = commands_ahead(bytes, &run.manner, run.moment);
            self.ahead.look(&self.executor, &self.slots.cores, coming);
        }
        if commands.is_empty() {
            let at = self.answer_plain(run, from, &mut connection.output);
            connection.add_leases(0, &mut self.executor.leases);
            if at > from {
                return at;
            }
        }
        if let Some(known) = self.ahead.next(&run.bytes[from..])
            && let Plain::Command(command) = &known.plain
            && let end = from + known.bytes
            && let Some(part) = run.manner.part(command, &run.bytes[from..end])
        {
            self.ahead.advance(&self.executor.shard);
            let text = &run.bytes[from..end];
            if let Some(front) = self.begin_collected(connection, commands, &part, text, run.moment)
            {
                return from + front;
            }
            self.one(connection, commands, &part, run.moment);
            return end;
        }
        from
    }

    /// Answers the gets and sets of this core that are next, by what looking ahead found out,
    /// until `out` is as long as it may be. Returns where the next command begins.
    fn answer_plain(&mut self, run: &Run<'_>, from: usize, out: &mut Vec<u8>) -> usize {
        let Run { bytes, ref manner, room, moment } = *run;
        let Dispatcher { executor, ahead, .. } = self;
        let mut at = from;
        while out.len() + executor.leases.bytes() < room
            && let Some(known) = ahead.next(&bytes[at..])
            && let Known { plain: Plain::Command(command), owner: Owner::Here(hint), .. } = known
        {
            let text = &bytes[at..at + known.bytes];
            let key = command.key.of(text);
            match command.asks {
                Asks::Get => executor.get_rendered(key, hint, manner.get, key, moment, out),
                Asks::Set { .. } if executor.shard.is_short() => break,
                Asks::Set { value, .. } if is_large(value.of(text).len()) => break,
                Asks::Set { value, user_flags, ttl } => {
                    let set = PlainSet { key, value: value.of(text), user_flags, ttl };
                    executor.set_rendered(&set, hint, manner.set, b"", moment, out);
                }
                Asks::Other => break,
            }
            at += text.len();
            ahead.advance(&executor.shard);
        }
        at
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
        let here = |key: &[u8]| match owner_of(&self.executor, &self.slots.cores, head.space, key) {
            Owner::Here(hint) => Some(hint),
            Owner::Core(_) | Owner::Elsewhere(_) => None,
        };
        match request {
            Request::Get { key, least_version: None } => {
                let Some(hint) = here(key) else { return false };
                self.executor.get_rendered(key, &hint, *shape, echo, moment, out);
                true
            }
            Request::Set(set)
                if set.condition == SetCondition::Always
                    && set.ttl != Ttl::Keep
                    && set.old == OldValue::Omit =>
            {
                let Some(hint) = here(set.key) else { return false };
                let corelane_protocol::Set { key, value, user_flags, ttl, .. } = *set;
                let set = PlainSet { key, value, user_flags, ttl };
                self.executor.set_rendered(&set, &hint, *shape, echo, moment, out);
                true
            }
            _ => false,
        }
    }
}

/// Commands of a connection, as far as they may be looked ahead at.
#[inline]
pub(crate) fn commands_ahead<'a>(
    bytes: &'a [u8],
    manner: &Manner,
    moment: Moment,
) -> impl Iterator<Item = Coming<'a>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (bytes, told) = manner.next(rest, moment)?;
        let (key, plain) = (told.key.of(rest), Plain::Command(told));
        let coming = Coming { at: Place::of(rest), bytes, space: manner.space, key, plain };
        rest = &rest[bytes..];
        Some(coming)
    })
}

/// A set whatever was there.
struct PlainSet<'a> {
    key: &'a [u8],
    value: &'a [u8],
    user_flags: u32,
    ttl: Ttl,
}

impl Executor {
    #[inline]
    fn get_rendered(
        &mut self,
        key: &[u8],
        known: &KnownKey,
        shape: Shape,
        echo: &[u8],
        moment: Moment,
        out: &mut Vec<u8>,
    ) {
        self.counters.requests_get += 1;
        let key = self.shard.key_of(known.hash, key);
        let Some(entry) = self.shard.get_ahead(&key, known.entry, millis(moment.now)) else {
            self.counters.misses += 1;
            let reply = Reply::Failed { status: Status::NotFound, message: "" };
            shape.render(echo, &reply, moment, out);
            return;
        };
        self.counters.hits += 1;
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
                self.leases.push(out.len(), lease);
            }
            None => entry.value.chunks().for_each(|chunk| out.extend_from_slice(chunk)),
        }
        shape.value_trailer(out);
    }

    #[inline]
    fn set_rendered(
        &mut self,
        set: &PlainSet<'_>,
        known: &KnownKey,
        shape: Shape,
        echo: &[u8],
        moment: Moment,
        out: &mut Vec<u8>,
    ) {
        self.counters.requests_set += 1;
        let at = millis(moment.now);
        let key = self.shard.key_of(known.hash, set.key);
        let expiry = self.expiry(set.ttl, None, at);
        let PlainSet { value, user_flags, .. } = *set;
        let reply = match self.write(&key, Write { value, user_flags, expiry, version: None }, at) {
            Ok(()) => Reply::Done { version: None },
            Err(status) => {
                self.counters.failures += 1;
                Reply::Failed { status, message: words(status) }
            }
        };
        shape.render(echo, &reply, moment, out);
    }
}
