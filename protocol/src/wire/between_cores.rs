//! The frames that the cores of one node exchange beyond wire version 1: requests and replies
//! that only other dialects have, and spaces.
//!
//! A request is a frame with opcode 0x7F: the options are the head's, the key is the
//! request's, and the value section holds its kind (1 byte) and its fields in the order in
//! which they are written below, the last run of bytes without a length. A reply has one of
//! the kinds 0x7D to 0x7F and its fields as the payload. Both ends are of the same build, so
//! nothing here is kept for the next version, and a node refuses such frames from a client.

use crate::limits::{HEADER_BYTES, NOTICE_ID, VALUE_BYTES_MAX};
use crate::model::*;
use crate::wire::encode;
use crate::wire::layout::{
    KIND_PART, REPLY_MAGIC, REQUEST_MAGIC, ReplyHeader, RequestHeader, flag, tag,
};
use crate::wire::options::push_option;
use crate::wire::refusal::{EncodeError, Refusal, ReplyError};
use crate::wire::reply::{self, ReplyDecoded, ReplyFrame};

/// The opcode of every request that wire version 1 has not.
pub(crate) const OPCODE: u8 = 0x7F;
/// Kind of [`Reply::Described`].
pub(crate) const DESCRIBED: u8 = 0x7D;
/// Kind of [`Reply::Keys`].
pub(crate) const KEYS: u8 = 0x7E;
/// Kind of [`Reply::Key`].
pub(crate) const KEY: u8 = 0x7F;

/// Kinds of requests.
mod kind {
    pub(super) const SET: u8 = 1;
    pub(super) const TOUCH: u8 = 2;
    pub(super) const EXTEND: u8 = 3;
    pub(super) const GET_AND_DELETE: u8 = 4;
    pub(super) const GET_RANGE: u8 = 5;
    pub(super) const SET_RANGE: u8 = 6;
    pub(super) const LENGTH: u8 = 7;
    pub(super) const COUNT_FLOAT: u8 = 8;
    pub(super) const DESCRIBE: u8 = 9;
    pub(super) const SCAN: u8 = 10;
    pub(super) const RANDOM_KEY: u8 = 11;
    pub(super) const COUNT_KEYS: u8 = 12;
    pub(super) const KEYS_IN_SLOT: u8 = 13;
    pub(super) const COPY: u8 = 14;
    pub(super) const RENAME: u8 = 15;
    pub(super) const SET_MANY: u8 = 16;
    pub(super) const ATOMIC: u8 = 17;
    pub(super) const FLUSH_SPACE: u8 = 18;
    pub(super) const COUNT_AND_DESCRIBE: u8 = 19;
    pub(super) const EXTEND_IF: u8 = 20;
    pub(super) const CLIENTS: u8 = 21;
    pub(super) const WATCH: u8 = 22;
}

/// Whether a request has no encoding in wire version 1, whatever its head.
#[inline]
pub(crate) fn is_wider(request: &Request<'_>) -> bool {
    match request {
        Request::Set(set) => {
            set.old == OldValue::Return || matches!(set.condition, SetCondition::ValueIs(_))
        }
        Request::Touch { condition, .. } => *condition != ExpireCondition::Always,
        Request::Extend { absent, .. } => *absent != Absent::Miss,
        Request::Hello(_)
        | Request::Ping
        | Request::Get { .. }
        | Request::MultiGet(_)
        | Request::GetAndTouch { .. }
        | Request::Delete { .. }
        | Request::Count(_)
        | Request::Exists { .. }
        | Request::TtlOf { .. }
        | Request::GetOrAsk { .. }
        | Request::GetLeft { .. }
        | Request::FlushSlot { .. }
        | Request::Flush { .. }
        | Request::Stats
        | Request::Topology { .. } => false,
        Request::GetAndDelete { .. }
        | Request::GetRange { .. }
        | Request::SetRange { .. }
        | Request::Length { .. }
        | Request::CountFloat { .. }
        | Request::CountAndDescribe { .. }
        | Request::ExtendIf { .. }
        | Request::Describe { .. }
        | Request::Scan { .. }
        | Request::RandomKey
        | Request::CountKeys { .. }
        | Request::KeysInSlot { .. }
        | Request::Copy { .. }
        | Request::Rename { .. }
        | Request::SetMany(_)
        | Request::Atomic(_)
        | Request::FlushSpace { .. }
        | Request::Watch { .. }
        | Request::Clients { .. } => true,
    }
}

/// Appends the frame of a request to another core of this node: wire version 1 where that
/// has it.
///
/// # Errors
/// The request has no encoding; `out` is as it was.
pub fn encode_request(
    head: &RequestHead,
    request: &Request<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if !is_wider(request) {
        return encode::append_or_undo(head, request, out);
    }
    if head.id.0 == NOTICE_ID {
        return Err(EncodeError::ReservedId);
    }
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    if let Some(deadline) = head.deadline {
        push_option(out, tag::DEADLINE, &deadline.0.to_le_bytes());
    }
    encode::push_last_options(head, out);
    let options_bytes = out.len() - start - HEADER_BYTES;
    let key = match request {
        Request::SetMany(_) => &[],
        _ => request.key().unwrap_or_default(),
    };
    out.extend_from_slice(key);
    write_fields(request, &mut Writer(out));
    let mut flags = 0;
    if head.answer == Answer::Never {
        flags |= flag::NO_REPLY;
    }
    if head.want_version == WantVersion::Yes {
        flags |= flag::WANT_VERSION;
    }
    let header = RequestHeader {
        magic: REQUEST_MAGIC,
        opcode: OPCODE,
        flags,
        options_bytes: options_bytes as u8,
        id: head.id,
        body_bytes: u32::try_from(out.len() - start - HEADER_BYTES)
            .expect("whoever read the request has limited its length"),
        key_bytes: key.len() as u16,
        epoch: head.epoch,
    };
    out[start..start + HEADER_BYTES].copy_from_slice(&header.to_bytes());
    Ok(())
}

fn write_fields(request: &Request<'_>, to: &mut Writer<'_>) {
    match *request {
        Request::Set(Set { value, user_flags, ttl, condition, old, .. }) => {
            to.u8(kind::SET);
            to.ttl(ttl);
            to.u32(user_flags);
            to.u8(u8::from(old == OldValue::Return));
            match condition {
                SetCondition::Always => to.u8(0),
                SetCondition::Absent => to.u8(1),
                SetCondition::Present => to.u8(2),
                SetCondition::VersionIs(version) => {
                    to.u8(3);
                    to.u64(version.0);
                }
                SetCondition::NewerThan(version) => {
                    to.u8(4);
                    to.u64(version.0);
                }
                SetCondition::ValueIs(expected) => {
                    to.u8(5);
                    to.run(expected);
                }
                SetCondition::Untouched => to.u8(6),
            }
            to.rest(value);
        }
        Request::Touch { ttl, condition, .. } => {
            to.u8(kind::TOUCH);
            to.ttl(ttl);
            to.u8(match condition {
                ExpireCondition::Always => 0,
                ExpireCondition::IfNone => 1,
                ExpireCondition::IfSome => 2,
                ExpireCondition::IfLater => 3,
                ExpireCondition::IfEarlier => 4,
                ExpireCondition::IfSomeAndEarlier => 5,
            });
        }
        Request::Extend { value, side, absent, .. } => {
            to.u8(kind::EXTEND);
            to.u8(u8::from(side == Side::Prepend));
            match absent {
                Absent::Miss => to.u8(0),
                Absent::Create { ttl } => {
                    to.u8(1);
                    to.ttl(ttl);
                }
            }
            to.rest(value);
        }
        Request::GetAndDelete { .. } => to.u8(kind::GET_AND_DELETE),
        Request::GetRange { start, end, .. } => {
            to.u8(kind::GET_RANGE);
            to.u64(start as u64);
            to.u64(end as u64);
        }
        Request::SetRange { offset, value, .. } => {
            to.u8(kind::SET_RANGE);
            to.u64(offset);
            to.rest(value);
        }
        Request::Length { .. } => to.u8(kind::LENGTH),
        Request::CountFloat { delta, .. } => {
            to.u8(kind::COUNT_FLOAT);
            to.rest(delta);
        }
        Request::CountAndDescribe { count, version, touch } => {
            let Count { delta, direction, arithmetic, initial, ttl, .. } = count;
            to.u8(kind::COUNT_AND_DESCRIBE);
            to.u64(delta);
            to.u8(u8::from(direction == Direction::Decrement));
            to.u8(u8::from(arithmetic == Arithmetic::Unsigned64));
            to.option(initial);
            to.ttl(ttl);
            to.option(version.map(|version| version.0));
            to.u8(u8::from(touch.is_some()));
            to.ttl(touch.unwrap_or_default());
        }
        Request::ExtendIf { value, side, version, .. } => {
            to.u8(kind::EXTEND_IF);
            to.u8(u8::from(side == Side::Prepend));
            to.u64(version.0);
            to.rest(value);
        }
        Request::Describe { value, touch, .. } => {
            to.u8(kind::DESCRIBE);
            to.u8(match value {
                WithValue::No => 0,
                WithValue::Counted => 1,
                WithValue::Yes => 2,
            });
            to.u8(u8::from(touch.is_some()));
            to.ttl(touch.unwrap_or_default());
        }
        Request::Scan { cursor, count, pattern } => {
            to.u8(kind::SCAN);
            to.u64(cursor.0);
            to.u32(count);
            to.u8(u8::from(pattern.is_some()));
            to.rest(pattern.unwrap_or_default());
        }
        Request::RandomKey => to.u8(kind::RANDOM_KEY),
        Request::CountKeys { slot } => {
            to.u8(kind::COUNT_KEYS);
            to.u8(u8::from(slot.is_some()));
            to.u16(slot.unwrap_or_default());
        }
        Request::KeysInSlot { slot, count } => {
            to.u8(kind::KEYS_IN_SLOT);
            to.u16(slot);
            to.u32(count);
        }
        Request::Copy { to: name, to_space, replace, .. } => {
            to.u8(kind::COPY);
            to.u8(to_space.number());
            to.u8(u8::from(replace == Replace::Yes));
            to.rest(name);
        }
        Request::Rename { to: name, replace, .. } => {
            to.u8(kind::RENAME);
            to.u8(u8::from(replace == Replace::Yes));
            to.rest(name);
        }
        Request::SetMany(SetMany { pairs, ttl, replace }) => {
            to.u8(kind::SET_MANY);
            to.ttl(ttl);
            to.u8(u8::from(replace == Replace::Yes));
            to.rest(pairs.encoded());
        }
        Request::Atomic(Atomic { slot, watches, frames }) => {
            to.u8(kind::ATOMIC);
            to.u16(slot);
            to.run(watches.encoded());
            to.rest(frames);
        }
        Request::FlushSpace { cursor } => {
            to.u8(kind::FLUSH_SPACE);
            to.u64(cursor.0);
        }
        Request::Watch { .. } => to.u8(kind::WATCH),
        Request::Clients { errand, filter } => {
            to.u8(kind::CLIENTS);
            to.u8(u8::from(errand == ClientErrand::Close));
            to.rest(filter);
        }
        Request::Hello(_)
        | Request::Ping
        | Request::Get { .. }
        | Request::MultiGet(_)
        | Request::GetAndTouch { .. }
        | Request::Delete { .. }
        | Request::Count(_)
        | Request::Exists { .. }
        | Request::TtlOf { .. }
        | Request::GetOrAsk { .. }
        | Request::GetLeft { .. }
        | Request::FlushSlot { .. }
        | Request::Flush { .. }
        | Request::Stats
        | Request::Topology { .. } => unreachable!("it has an encoding in wire version 1"),
    }
}

/// The request in a frame with [`OPCODE`].
pub(crate) fn request_of<'a>(key: &'a [u8], value: &'a [u8]) -> Result<Request<'a>, Refusal> {
    read_fields(key, Reader(value)).ok_or(Refusal::ValueContent)
}

fn read_fields<'a>(key: &'a [u8], mut from: Reader<'a>) -> Option<Request<'a>> {
    let request = match from.u8()? {
        kind::SET => {
            let (ttl, user_flags) = (from.ttl()?, from.u32()?);
            let old = if from.flag()? { OldValue::Return } else { OldValue::Omit };
            let condition = match from.u8()? {
                0 => SetCondition::Always,
                1 => SetCondition::Absent,
                2 => SetCondition::Present,
                3 => SetCondition::VersionIs(Version(from.u64()?)),
                4 => SetCondition::NewerThan(Version(from.u64()?)),
                5 => SetCondition::ValueIs(from.run()?),
                6 => SetCondition::Untouched,
                _ => return None,
            };
            Request::Set(Set { key, value: from.rest(), user_flags, ttl, condition, old })
        }
        kind::TOUCH => Request::Touch {
            key,
            ttl: from.ttl()?,
            condition: match from.u8()? {
                0 => ExpireCondition::Always,
                1 => ExpireCondition::IfNone,
                2 => ExpireCondition::IfSome,
                3 => ExpireCondition::IfLater,
                4 => ExpireCondition::IfEarlier,
                5 => ExpireCondition::IfSomeAndEarlier,
                _ => return None,
            },
        },
        kind::EXTEND => {
            let side = if from.flag()? { Side::Prepend } else { Side::Append };
            let absent =
                if from.flag()? { Absent::Create { ttl: from.ttl()? } } else { Absent::Miss };
            Request::Extend { key, value: from.rest(), side, absent }
        }
        kind::GET_AND_DELETE => Request::GetAndDelete { key },
        kind::GET_RANGE => {
            Request::GetRange { key, start: from.u64()? as i64, end: from.u64()? as i64 }
        }
        kind::SET_RANGE => Request::SetRange { key, offset: from.u64()?, value: from.rest() },
        kind::LENGTH => Request::Length { key },
        kind::COUNT_FLOAT => Request::CountFloat { key, delta: from.rest() },
        kind::COUNT_AND_DESCRIBE => {
            let delta = from.u64()?;
            let direction = if from.flag()? { Direction::Decrement } else { Direction::Increment };
            let arithmetic = if from.flag()? { Arithmetic::Unsigned64 } else { Arithmetic::Signed };
            let (initial, ttl) = (from.option()?, from.ttl()?);
            let version = from.option()?.map(Version);
            let (touched, touch) = (from.flag()?, from.ttl()?);
            Request::CountAndDescribe {
                count: Count { key, delta, direction, arithmetic, initial, ttl },
                version,
                touch: touched.then_some(touch),
            }
        }
        kind::EXTEND_IF => {
            let side = if from.flag()? { Side::Prepend } else { Side::Append };
            Request::ExtendIf { key, side, version: Version(from.u64()?), value: from.rest() }
        }
        kind::DESCRIBE => {
            let value = match from.u8()? {
                0 => WithValue::No,
                1 => WithValue::Counted,
                2 => WithValue::Yes,
                _ => return None,
            };
            let (touched, ttl) = (from.flag()?, from.ttl()?);
            Request::Describe { key, value, touch: touched.then_some(ttl) }
        }
        kind::SCAN => {
            let (cursor, count) = (WalkCursor(from.u64()?), from.u32()?);
            let has_pattern = from.flag()?;
            Request::Scan { cursor, count, pattern: has_pattern.then_some(from.rest()) }
        }
        kind::RANDOM_KEY => Request::RandomKey,
        kind::COUNT_KEYS => {
            let (has_slot, slot) = (from.flag()?, from.u16()?);
            Request::CountKeys { slot: has_slot.then_some(slot) }
        }
        kind::KEYS_IN_SLOT => Request::KeysInSlot { slot: from.u16()?, count: from.u32()? },
        kind::COPY => Request::Copy {
            from: key,
            to_space: Space::new(from.u8()?)?,
            replace: from.replace()?,
            to: from.rest(),
        },
        kind::RENAME => Request::Rename { from: key, replace: from.replace()?, to: from.rest() },
        kind::SET_MANY => Request::SetMany(SetMany {
            ttl: from.ttl()?,
            replace: from.replace()?,
            pairs: Pairs::from_encoded(from.rest()),
        }),
        kind::ATOMIC => Request::Atomic(Atomic {
            slot: from.u16()?,
            watches: Watches::from_encoded(from.run()?),
            frames: from.rest(),
        }),
        kind::FLUSH_SPACE => Request::FlushSpace { cursor: WalkCursor(from.u64()?) },
        kind::WATCH => Request::Watch { key },
        kind::CLIENTS => Request::Clients {
            errand: if from.flag()? { ClientErrand::Close } else { ClientErrand::List },
            filter: from.rest(),
        },
        _ => return None,
    };
    Some(request)
}

/// Appends the front of a set's frame: all but its value, of which so many bytes follow. `set.value`
/// is not looked at.
///
/// # Errors
/// The request has no encoding in wire version 1; `out` is as it was.
pub fn encode_set_front(
    head: &RequestHead,
    set: &Set<'_>,
    value_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if value_bytes > VALUE_BYTES_MAX {
        return Err(EncodeError::ValueTooLarge);
    }
    let start = out.len();
    encode::append_or_undo(head, &Request::Set(Set { value: &[], ..*set }), out)?;
    let header = out[start..].first_chunk_mut::<HEADER_BYTES>().expect("a frame has a header");
    let mut announced = RequestHeader::read(header);
    announced.body_bytes += value_bytes as u32;
    *header = announced.to_bytes();
    Ok(())
}

/// Appends all of a [`Reply::Described`]'s frame but the value at its end, for a caller that sends
/// all of that from where it is.
pub fn write_description(head: &ReplyHead, description: Description, out: &mut Vec<u8>) {
    let start = out.len();
    let value_bytes = description.value_bytes as u32;
    reply::encode_reply(head, &Reply::Described { description, value: Some(&[]) }, out);
    let header = out[start..].first_chunk_mut::<HEADER_BYTES>().expect("a frame has a header");
    let read = ReplyHeader::read(header);
    *header = ReplyHeader { body_bytes: read.body_bytes + value_bytes, ..read }.to_bytes();
}

/// Appends the fields of a reply that only cores exchange, and gives its kind.
pub(crate) fn write_reply(reply: &Reply<'_>, out: &mut Vec<u8>) -> u8 {
    let mut to = Writer(out);
    match *reply {
        Reply::Described { description, value } => {
            let Description { value_bytes, memory_bytes, user_flags, .. } = description;
            to.u64(value_bytes);
            to.u64(memory_bytes);
            to.u32(user_flags);
            to.u8(description.uses);
            to.u8(u8::from(description.is_integer));
            match description.remaining {
                Remaining::Never => to.u8(0),
                Remaining::Ms(ms) => {
                    to.u8(1);
                    to.u64(ms);
                }
            }
            to.u8(u8::from(description.version.is_some()));
            to.u64(description.version.map_or(0, |version| version.0));
            to.u8(u8::from(value.is_some()));
            to.rest(value.unwrap_or_default());
            DESCRIBED
        }
        Reply::Keys(KeyPage { next, keys }) => {
            to.u64(next.0);
            to.rest(keys.encoded());
            KEYS
        }
        Reply::Key { key, among } => {
            to.u64(among);
            to.rest(key);
            KEY
        }
        _ => unreachable!("it has an encoding in wire version 1"),
    }
}

/// Decodes the reply at the start of `bytes`, which another core of this node wrote.
#[inline]
pub fn decode_reply(bytes: &[u8]) -> ReplyDecoded<'_> {
    const BODY_BYTES_MAX: usize = u32::MAX as usize;
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return reply::decode_reply(bytes, BODY_BYTES_MAX);
    };
    let header = ReplyHeader::read(header);
    let kind = header.kind & !KIND_PART;
    if header.magic != REPLY_MAGIC || kind < DESCRIBED {
        return reply::decode_reply(bytes, BODY_BYTES_MAX);
    }
    let Some(payload) = body.get(..header.body_bytes as usize) else {
        return ReplyDecoded::Incomplete { needed: HEADER_BYTES + header.body_bytes as usize };
    };
    let part = (header.kind & KIND_PART != 0).then_some(header.detail);
    match read_reply(kind, Reader(payload)) {
        Some(reply) => ReplyDecoded::Complete {
            frame: ReplyFrame {
                head: ReplyHead { id: header.id, epoch: header.epoch, part },
                reply,
            },
            consumed: HEADER_BYTES + payload.len(),
        },
        None => ReplyDecoded::Fatal(ReplyError::Payload),
    }
}

fn read_reply(kind: u8, mut from: Reader<'_>) -> Option<Reply<'_>> {
    Some(match kind {
        DESCRIBED => {
            let (value_bytes, memory_bytes) = (from.u64()?, from.u64()?);
            let (user_flags, uses) = (from.u32()?, from.u8()?);
            let is_integer = from.flag()?;
            let remaining =
                if from.flag()? { Remaining::Ms(from.u64()?) } else { Remaining::Never };
            let (has_version, version) = (from.flag()?, Version(from.u64()?));
            let description = Description {
                value_bytes,
                memory_bytes,
                user_flags,
                remaining,
                version: has_version.then_some(version),
                uses,
                is_integer,
            };
            let has_value = from.flag()?;
            Reply::Described { description, value: has_value.then_some(from.rest()) }
        }
        KEYS => Reply::Keys(KeyPage {
            next: WalkCursor(from.u64()?),
            keys: KeyList::from_encoded(from.rest()),
        }),
        KEY => Reply::Key { among: from.u64()?, key: from.rest() },
        _ => return None,
    })
}

/// Appends fields.
struct Writer<'o>(&'o mut Vec<u8>);

impl Writer<'_> {
    fn u8(&mut self, number: u8) {
        self.0.push(number);
    }

    fn u16(&mut self, number: u16) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn ttl(&mut self, ttl: Ttl) {
        let (kind, ms) = match ttl {
            Ttl::Default => (0, 0),
            Ttl::Never => (1, 0),
            Ttl::Keep => (2, 0),
            Ttl::After { ms, jitter: Jitter::Exact } => (3, ms),
            Ttl::After { ms, jitter: Jitter::Spread } => (4, ms),
        };
        self.u8(kind);
        self.u64(ms);
    }

    fn option(&mut self, number: Option<u64>) {
        self.u8(u8::from(number.is_some()));
        self.u64(number.unwrap_or_default());
    }

    /// Bytes with their length.
    fn run(&mut self, bytes: &[u8]) {
        self.u32(bytes.len() as u32);
        self.rest(bytes);
    }

    /// Bytes to the end of the frame.
    fn rest(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// Takes fields from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn replace(&mut self) -> Option<Replace> {
        Some(if self.flag()? { Replace::Yes } else { Replace::No })
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn option(&mut self) -> Option<Option<u64>> {
        let (is_some, number) = (self.flag()?, self.u64()?);
        Some(is_some.then_some(number))
    }

    fn ttl(&mut self) -> Option<Ttl> {
        let (kind, ms) = (self.u8()?, self.u64()?);
        Some(match kind {
            0 => Ttl::Default,
            1 => Ttl::Never,
            2 => Ttl::Keep,
            3 => Ttl::After { ms, jitter: Jitter::Exact },
            4 => Ttl::After { ms, jitter: Jitter::Spread },
            _ => return None,
        })
    }

    fn run(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        let (run, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(run)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}
