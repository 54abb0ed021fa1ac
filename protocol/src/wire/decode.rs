//! Bytes to requests.

use crate::limits::{
    HEADER_BYTES, KEY_BYTES_MAX, MULTI_GET_BYTES_MAX, NOTICE_ID, TOKEN_BYTES_MAX,
    VALUE_BYTES_DEFAULT, VALUE_BYTES_MAX,
};
use crate::model::*;
use crate::wire::between_cores;
use crate::wire::layout::{
    COUNT_BYTES, FLUSH_BYTES, FRAME_BYTES_MAX, HELLO_ANY_CORE, HELLO_BYTES_MAX, HELLO_FIXED_BYTES,
    Opcode, REQUEST_MAGIC, RequestHeader, TOPOLOGY_BYTES, TTL_KEEP, TTL_NEVER, flag, tag,
};
use crate::wire::options::{Condition, Options, TagSet, only};
use crate::wire::refusal::Refusal;

/// How long the parts of a request may be, on this connection at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Longest key, in bytes; at most [`KEY_BYTES_MAX`].
    pub key_bytes_max: usize,
    /// Longest value, in bytes; at most [`VALUE_BYTES_MAX`].
    pub value_bytes_max: usize,
    /// Longest frame, in bytes, header included. A longer one ends the connection; one that
    /// is shorter, but has a key or value over its limit, is answered and skipped.
    pub frame_bytes_max: usize,
    /// Who sends.
    pub origin: Origin,
}

/// Who sends requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Somebody on the network.
    #[default]
    Client,
    /// Another core of this node; see [`crate::wire::between_cores`].
    Core,
}

impl DecodeLimits {
    /// For what another core of this node sends, which was checked when it was received.
    pub const BETWEEN_CORES: DecodeLimits = DecodeLimits {
        key_bytes_max: KEY_BYTES_MAX,
        value_bytes_max: VALUE_BYTES_MAX,
        frame_bytes_max: u32::MAX as usize,
        origin: Origin::Core,
    };

    /// Before the hello, when the peer is nobody yet: a hello fits and little else.
    pub const BEFORE_HELLO: DecodeLimits = DecodeLimits {
        key_bytes_max: KEY_BYTES_MAX,
        value_bytes_max: HELLO_BYTES_MAX,
        frame_bytes_max: 16 << 10,
        origin: Origin::Client,
    };

    /// After the hello, with the node's limits. Frames up to the protocol's own limit are
    /// skipped when they are over the node's.
    pub const fn agreed(key_bytes_max: usize, value_bytes_max: usize) -> DecodeLimits {
        assert!(key_bytes_max <= KEY_BYTES_MAX && value_bytes_max <= VALUE_BYTES_MAX);
        DecodeLimits {
            key_bytes_max,
            value_bytes_max,
            frame_bytes_max: FRAME_BYTES_MAX,
            origin: Origin::Client,
        }
    }
}

impl Default for DecodeLimits {
    fn default() -> DecodeLimits {
        DecodeLimits::agreed(KEY_BYTES_MAX, VALUE_BYTES_DEFAULT)
    }
}

/// A request and what accompanies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestFrame<'a> {
    /// What every request has.
    pub head: RequestHead,
    /// What is asked for.
    pub request: Request<'a>,
}

/// What [`decode_request`] found at the start of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decoded<'a> {
    /// A request.
    Complete {
        /// The request.
        frame: RequestFrame<'a>,
        /// How many bytes it took; the next frame begins after them.
        consumed: usize,
    },
    /// The beginning of a frame that nothing is known against.
    Incomplete {
        /// How many bytes must be there before it is worth calling again: the frame's
        /// length, or the header's while that is not known. Within the limits.
        needed: usize,
    },
    /// A frame that is not executed, on a connection that goes on.
    Rejected {
        /// What the header says. Where [`RequestHead::answer`] is `Never`, nothing is answered.
        /// Deadline and part are not known.
        head: RequestHead,
        /// Why.
        refusal: Refusal,
        /// Length of the frame. It may be more than has arrived: that many bytes are to be
        /// discarded, now and as they come, without keeping them.
        frame_bytes: usize,
    },
    /// The bytes are not a frame of this protocol, or one that is too long: answer and close.
    Fatal {
        /// The id to answer with: [`NOTICE_ID`] where the request's is not known.
        id: RequestId,
        /// Why.
        refusal: Refusal,
    },
}

/// Header bytes 0 to 2 of the two most frequent requests, without flags.
const PLAIN_GET: [u8; 3] = [REQUEST_MAGIC, Opcode::Get as u8, 0];
const PLAIN_SET: [u8; 3] = [REQUEST_MAGIC, Opcode::Set as u8, 0];
/// Bytes of a deadline option.
const DEADLINE_BYTES: u8 = 2 + 8;

/// Decodes the frame at the start of `bytes`. Never panics, whatever the bytes are.
#[inline]
pub fn decode_request<'a>(bytes: &'a [u8], limits: &DecodeLimits) -> Decoded<'a> {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return without_header(bytes);
    };
    let first = [header[0], header[1], header[2]];
    let header = RequestHeader::read(header);
    if (first == PLAIN_GET || first == PLAIN_SET)
        && let Some(frame) = decode_plain(&header, body, limits)
    {
        return Decoded::Complete { frame, consumed: header.frame_bytes() };
    }
    decode_any(header, body, limits)
}

/// A whole get or set with no option but a deadline, within the limits. For anything else it
/// gives nothing, and the full check says what it is.
#[inline]
fn decode_plain<'a>(
    header: &RequestHeader,
    body: &'a [u8],
    limits: &DecodeLimits,
) -> Option<RequestFrame<'a>> {
    let key_bytes = usize::from(header.key_bytes);
    let body = body.get(..header.body_bytes as usize)?;
    if key_bytes > limits.key_bytes_max
        || header.frame_bytes() > limits.frame_bytes_max
        || header.id.0 == NOTICE_ID
    {
        return None;
    }
    let (deadline, rest) = match header.options_bytes {
        0 => (None, body),
        DEADLINE_BYTES => {
            let (&[tag, length, deadline @ ..], rest) =
                body.split_first_chunk::<{ DEADLINE_BYTES as usize }>()?;
            if tag != tag::DEADLINE || length != 8 {
                return None;
            }
            (Some(MonotonicUs(u64::from_le_bytes(deadline))), rest)
        }
        _ => return None,
    };
    let (key, value) = rest.split_at_checked(key_bytes)?;
    let request = if header.opcode == Opcode::Get as u8 {
        if !value.is_empty() {
            return None;
        }
        Request::Get { key, least_version: None }
    } else {
        if value.len() > limits.value_bytes_max {
            return None;
        }
        let (ttl, condition) = (Ttl::Default, SetCondition::Always);
        Request::Set(Set { key, value, user_flags: 0, ttl, condition, old: OldValue::Omit })
    };
    let head =
        RequestHead { id: header.id, epoch: header.epoch, deadline, ..RequestHead::default() };
    Some(RequestFrame { head, request })
}

/// A whole frame with a key, among those that [`look_ahead`] gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameAhead<'a> {
    /// Where it begins.
    pub at: usize,
    /// Its length.
    pub bytes: usize,
    /// Its key.
    pub key: &'a [u8],
    /// Where it is a get that asks for nothing but the value. Then all is known of it, and it
    /// need not be decoded.
    pub plain_get: Option<PlainGet>,
}

/// What is in a get of nothing but the value, beside its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainGet {
    /// Matches the reply to the request.
    pub id: RequestId,
    /// The topology that the sender routed by.
    pub epoch: ShortEpoch,
}

/// The whole frames at the start of `bytes`, up to the first that has no key or is not all
/// there. Nothing of them is checked but plain gets, so for all others this says only what is
/// coming, before [`decode_request`] says what it is.
#[inline]
pub fn look_ahead<'a>(
    bytes: &'a [u8],
    limits: &DecodeLimits,
) -> impl Iterator<Item = FrameAhead<'a>> {
    let DecodeLimits { key_bytes_max, frame_bytes_max, .. } = *limits;
    let mut at = 0;
    std::iter::from_fn(move || {
        let (header, body) = bytes[at..].split_first_chunk::<HEADER_BYTES>()?;
        let first = [header[0], header[1], header[2]];
        let header = RequestHeader::read(header);
        let body = body.get(..header.body_bytes as usize)?;
        let mut frame = FrameAhead { at, bytes: header.frame_bytes(), key: body, plain_get: None };
        at += frame.bytes;
        if first == PLAIN_GET
            && header.options_bytes == 0
            && usize::from(header.key_bytes) == body.len()
            && body.len() <= key_bytes_max
            && frame.bytes <= frame_bytes_max
            && header.id.0 != NOTICE_ID
        {
            frame.plain_get = Some(PlainGet { id: header.id, epoch: header.epoch });
            return Some(frame);
        }
        if header.magic != REQUEST_MAGIC || !Opcode::from_byte(header.opcode)?.has_key() {
            return None;
        }
        let start = usize::from(header.options_bytes);
        frame.key = body.get(start..start + usize::from(header.key_bytes))?;
        Some(frame)
    })
}

#[cold]
fn without_header(bytes: &[u8]) -> Decoded<'_> {
    match bytes.first() {
        None | Some(&REQUEST_MAGIC) => Decoded::Incomplete { needed: HEADER_BYTES },
        Some(_) => Decoded::Fatal { id: RequestId(NOTICE_ID), refusal: Refusal::NotAFrame },
    }
}

fn decode_any<'a>(header: RequestHeader, body: &'a [u8], limits: &DecodeLimits) -> Decoded<'a> {
    if header.magic != REQUEST_MAGIC {
        return Decoded::Fatal { id: RequestId(NOTICE_ID), refusal: Refusal::NotAFrame };
    }
    if header.id.0 == NOTICE_ID {
        return Decoded::Fatal { id: header.id, refusal: Refusal::ReservedId };
    }
    let frame_bytes = header.frame_bytes();
    if frame_bytes > limits.frame_bytes_max {
        return Decoded::Fatal { id: header.id, refusal: Refusal::FrameTooLong };
    }
    let rejected = |refusal| Decoded::Rejected { head: head_of(&header), refusal, frame_bytes };
    if header.opcode == between_cores::OPCODE && limits.origin == Origin::Core {
        let Some(body) = body.get(..header.body_bytes as usize) else {
            return Decoded::Incomplete { needed: frame_bytes };
        };
        return match decode_between_cores(&header, body) {
            Ok(frame) => Decoded::Complete { frame, consumed: frame_bytes },
            Err(refusal) => rejected(refusal),
        };
    }
    let opcode = match check_header(&header, limits) {
        Ok(opcode) => opcode,
        Err(refusal) => return rejected(refusal),
    };
    let Some(body) = body.get(..header.body_bytes as usize) else {
        return Decoded::Incomplete { needed: frame_bytes };
    };
    // The header check made sure that the sections fit the body.
    let (block, rest) = body.split_at(usize::from(header.options_bytes));
    let (key, value) = rest.split_at(usize::from(header.key_bytes));
    match decode_body(&header, opcode, limits.origin, block, key, value) {
        Ok(frame) => Decoded::Complete { frame, consumed: frame_bytes },
        Err(refusal) => rejected(refusal),
    }
}

/// All of a set but its value, of which any part may have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetFront<'a> {
    /// What every request has.
    pub head: RequestHead,
    /// The set, its value left out.
    pub set: Set<'a>,
    /// How many bytes of the frame come before the value.
    pub front_bytes: usize,
    /// How many bytes the value has.
    pub value_bytes: usize,
}

/// Decodes the front of a set whose frame is incomplete (see [`Decoded::Incomplete`]), for who
/// takes the value piece by piece. `None` for another request, and while the front is not all
/// there.
///
/// # Errors
/// The frame is to be rejected, though its value has not arrived: see [`Decoded::Rejected`].
pub fn decode_set_front<'a>(
    bytes: &'a [u8],
    limits: &DecodeLimits,
) -> Option<Result<SetFront<'a>, (RequestHead, Refusal)>> {
    let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let header = RequestHeader::read(header);
    if header.magic != REQUEST_MAGIC || header.opcode != Opcode::Set as u8 {
        return None;
    }
    let opcode = match check_header(&header, limits) {
        Ok(opcode) => opcode,
        Err(refusal) => return Some(Err((head_of(&header), refusal))),
    };
    let (block, rest) = body.split_at_checked(usize::from(header.options_bytes))?;
    let key = rest.get(..usize::from(header.key_bytes))?;
    let frame = match decode_body(&header, opcode, limits.origin, block, key, &[]) {
        Ok(frame) => frame,
        Err(refusal) => return Some(Err((head_of(&header), refusal))),
    };
    let Request::Set(set) = frame.request else { unreachable!("its opcode is that of a set") };
    let front_bytes = HEADER_BYTES + block.len() + key.len();
    let value_bytes = header.frame_bytes() - front_bytes;
    Some(Ok(SetFront { head: frame.head, set, front_bytes, value_bytes }))
}

/// The part of the head that stands in the header. "No reply" is honoured where it may be
/// asked for, and where nobody knows whether it may.
fn head_of(header: &RequestHeader) -> RequestHead {
    let may_be_silent = Opcode::from_byte(header.opcode).is_none_or(Opcode::is_write);
    RequestHead {
        id: header.id,
        epoch: header.epoch,
        answer: if header.flags & flag::NO_REPLY != 0 && may_be_silent {
            Answer::Never
        } else {
            Answer::Always
        },
        want_version: if header.flags & flag::WANT_VERSION != 0 {
            WantVersion::Yes
        } else {
            WantVersion::No
        },
        space: Space::default(),
        deadline: None,
        part: None,
        stand_in: StandIn::No,
    }
}

/// Everything that can be told before the body has arrived.
fn check_header(header: &RequestHeader, limits: &DecodeLimits) -> Result<Opcode, Refusal> {
    let opcode = Opcode::from_byte(header.opcode).ok_or(Refusal::UnknownOpcode(header.opcode))?;
    if header.flags & !flag::KNOWN != 0 {
        return Err(Refusal::UnknownFlags);
    }
    if header.flags & flag::NO_REPLY != 0 && !opcode.is_write() {
        return Err(Refusal::NoReplyToRead);
    }
    let key_bytes = usize::from(header.key_bytes);
    let value_bytes = (header.body_bytes as usize)
        .checked_sub(usize::from(header.options_bytes) + key_bytes)
        .ok_or(Refusal::LengthsContradict)?;
    if key_bytes > 0 && !opcode.has_key() {
        return Err(Refusal::UnexpectedKey);
    }
    if key_bytes > limits.key_bytes_max {
        return Err(Refusal::KeyTooLong);
    }
    let exactly = |length: usize| {
        if value_bytes == length { Ok(()) } else { Err(Refusal::ValueLength) }
    };
    match opcode {
        Opcode::Set | Opcode::Append | Opcode::Prepend | Opcode::Delete => {
            if value_bytes > limits.value_bytes_max {
                return Err(Refusal::ValueTooLarge);
            }
        }
        Opcode::MultiGet => {
            if value_bytes > MULTI_GET_BYTES_MAX {
                return Err(Refusal::Keys(KeysError::TooLong));
            }
        }
        Opcode::Hello => {
            if !(HELLO_FIXED_BYTES..=HELLO_BYTES_MAX).contains(&value_bytes) {
                return Err(Refusal::ValueLength);
            }
        }
        Opcode::Flush => exactly(FLUSH_BYTES)?,
        Opcode::Count => exactly(COUNT_BYTES)?,
        Opcode::Topology => exactly(TOPOLOGY_BYTES)?,
        Opcode::Ping
        | Opcode::Stats
        | Opcode::Get
        | Opcode::GetAndTouch
        | Opcode::Exists
        | Opcode::TtlOf
        | Opcode::GetOrAsk
        | Opcode::GetLeft
        | Opcode::FlushSlot
        | Opcode::Touch => exactly(0)?,
    }
    Ok(opcode)
}

/// Options that every request may have.
const COMMON: TagSet = only(tag::DEADLINE) | only(tag::PART) | only(tag::STAND_IN);

/// Options that this request may have besides.
const fn own_options(opcode: Opcode) -> TagSet {
    match opcode {
        Opcode::Get => only(tag::LEAST_VERSION),
        Opcode::Set => only(tag::TTL) | only(tag::USER_FLAGS) | only(tag::CONDITION),
        Opcode::Delete => only(tag::CONDITION),
        Opcode::Touch | Opcode::GetAndTouch => only(tag::TTL),
        Opcode::Count => only(tag::TTL) | only(tag::INITIAL),
        Opcode::Hello
        | Opcode::Ping
        | Opcode::Stats
        | Opcode::Flush
        | Opcode::Topology
        | Opcode::MultiGet
        | Opcode::Exists
        | Opcode::TtlOf
        | Opcode::GetOrAsk
        | Opcode::GetLeft
        | Opcode::FlushSlot
        | Opcode::Append
        | Opcode::Prepend => 0,
    }
}

fn decode_body<'a>(
    header: &RequestHeader,
    opcode: Opcode,
    origin: Origin,
    block: &[u8],
    key: &'a [u8],
    value: &'a [u8],
) -> Result<RequestFrame<'a>, Refusal> {
    let options = if block.is_empty() { Options::default() } else { Options::parse(block)? };
    let common = match origin {
        Origin::Client => COMMON,
        Origin::Core => COMMON | only(tag::SPACE),
    };
    if options.seen & !(common | own_options(opcode)) != 0 {
        return Err(Refusal::OptionMisplaced);
    }
    let ttl = ttl_of(header.flags, &options)?;
    let request = match opcode {
        Opcode::Get => Request::Get { key, least_version: options.least_version.map(Version) },
        Opcode::Set => Request::Set(Set {
            key,
            value,
            user_flags: options.user_flags.unwrap_or(0),
            ttl,
            condition: match options.condition {
                None => SetCondition::Always,
                Some(Condition::Absent) => SetCondition::Absent,
                Some(Condition::Present) => SetCondition::Present,
                Some(Condition::VersionIs(version)) => SetCondition::VersionIs(Version(version)),
                Some(Condition::NewerThan(version)) => SetCondition::NewerThan(Version(version)),
                Some(Condition::Untouched) => SetCondition::Untouched,
                Some(Condition::ValueIs) => return Err(Refusal::UnknownCondition),
            },
            old: OldValue::Omit,
        }),
        Opcode::Delete => Request::Delete {
            key,
            condition: match options.condition {
                Some(Condition::ValueIs) => DeleteCondition::ValueIs(value),
                _ if !value.is_empty() => return Err(Refusal::ValueLength),
                None => DeleteCondition::Always,
                Some(Condition::VersionIs(version)) => DeleteCondition::VersionIs(Version(version)),
                Some(
                    Condition::Absent
                    | Condition::Present
                    | Condition::NewerThan(_)
                    | Condition::Untouched,
                ) => return Err(Refusal::UnknownCondition),
            },
        },
        Opcode::MultiGet => Request::MultiGet(Keys::parse(value).map_err(Refusal::Keys)?),
        Opcode::GetAndTouch => Request::GetAndTouch { key, ttl },
        Opcode::Touch => Request::Touch { key, ttl, condition: ExpireCondition::Always },
        Opcode::Exists => Request::Exists { key },
        Opcode::TtlOf => Request::TtlOf { key },
        Opcode::GetOrAsk => Request::GetOrAsk { key },
        Opcode::GetLeft => Request::GetLeft { key },
        Opcode::FlushSlot => Request::FlushSlot { key },
        Opcode::Append => Request::Extend { key, value, side: Side::Append, absent: Absent::Miss },
        Opcode::Prepend => {
            Request::Extend { key, value, side: Side::Prepend, absent: Absent::Miss }
        }
        Opcode::Count => {
            let (&delta, rest) = value.split_first_chunk::<8>().ok_or(Refusal::ValueLength)?;
            let &[direction, arithmetic] = rest else { return Err(Refusal::ValueLength) };
            Request::Count(Count {
                key,
                delta: u64::from_le_bytes(delta),
                direction: match direction {
                    0 => Direction::Increment,
                    1 => Direction::Decrement,
                    _ => return Err(Refusal::ValueContent),
                },
                arithmetic: match arithmetic {
                    0 => Arithmetic::Signed,
                    1 => Arithmetic::Unsigned64,
                    _ => return Err(Refusal::ValueContent),
                },
                initial: options.initial,
                ttl,
            })
        }
        Opcode::Flush => {
            let delay = value.try_into().map_err(|_| Refusal::ValueLength)?;
            Request::Flush { delay_ms: u32::from_le_bytes(delay) }
        }
        Opcode::Topology => {
            let held = value.try_into().map_err(|_| Refusal::ValueLength)?;
            Request::Topology { held_epoch: u64::from_le_bytes(held) }
        }
        Opcode::Stats => Request::Stats,
        Opcode::Ping => Request::Ping,
        Opcode::Hello => Request::Hello(hello_of(value)?),
    };
    let head = RequestHead {
        deadline: options.deadline.map(MonotonicUs),
        part: options.part,
        stand_in: options.stand_in,
        space: space_of(&options)?,
        ..head_of(header)
    };
    Ok(RequestFrame { head, request })
}

fn space_of(options: &Options) -> Result<Space, Refusal> {
    let number = options.space.unwrap_or_default();
    Space::new(number).ok_or(Refusal::OptionLength(tag::SPACE))
}

/// A frame of [`between_cores`], whose header is all that was looked at.
fn decode_between_cores<'a>(
    header: &RequestHeader,
    body: &'a [u8],
) -> Result<RequestFrame<'a>, Refusal> {
    let (block, rest) = body
        .split_at_checked(usize::from(header.options_bytes))
        .ok_or(Refusal::LengthsContradict)?;
    let (key, value) =
        rest.split_at_checked(usize::from(header.key_bytes)).ok_or(Refusal::LengthsContradict)?;
    let options = Options::parse(block)?;
    let head = RequestHead {
        answer: if header.flags & flag::NO_REPLY != 0 { Answer::Never } else { Answer::Always },
        deadline: options.deadline.map(MonotonicUs),
        part: options.part,
        stand_in: options.stand_in,
        space: space_of(&options)?,
        ..head_of(header)
    };
    Ok(RequestFrame { head, request: between_cores::request_of(key, value)? })
}

fn ttl_of(flags: u8, options: &Options) -> Result<Ttl, Refusal> {
    let spread = flags & flag::SPREAD_TTL != 0;
    match options.ttl {
        Some(ms) if ms < TTL_KEEP => {
            Ok(Ttl::After { ms, jitter: if spread { Jitter::Spread } else { Jitter::Exact } })
        }
        _ if spread => Err(Refusal::SpreadWithoutTtl),
        None => Ok(Ttl::Default),
        Some(TTL_NEVER) => Ok(Ttl::Never),
        Some(_) => Ok(Ttl::Keep),
    }
}

/// What follows the token belongs to later versions and is skipped.
fn hello_of(value: &[u8]) -> Result<Hello<'_>, Refusal> {
    let (fixed, rest) =
        value.split_first_chunk::<HELLO_FIXED_BYTES>().ok_or(Refusal::ValueLength)?;
    let [v0, v1, c0, c1, _, _, _, _, t0, t1, _, _] = *fixed;
    let core = u16::from_le_bytes([c0, c1]);
    let token_bytes = usize::from(u16::from_le_bytes([t0, t1]));
    if token_bytes > TOKEN_BYTES_MAX {
        return Err(Refusal::Token);
    }
    Ok(Hello {
        version: u16::from_le_bytes([v0, v1]),
        core: (core != HELLO_ANY_CORE).then_some(core),
        token: rest.get(..token_bytes).ok_or(Refusal::Token)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode_request;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    #[test]
    fn the_front_of_a_set_is_told_as_soon_as_it_is_there() {
        let limits = DecodeLimits::default();
        let (ttl, condition) = (Ttl::Never, SetCondition::NewerThan(Version(9)));
        let set = Set {
            key: b"key",
            value: &[7; 300],
            user_flags: 5,
            ttl,
            condition,
            old: OldValue::Omit,
        };
        let head = RequestHead {
            id: RequestId(3),
            deadline: Some(MonotonicUs(8)),
            ..RequestHead::default()
        };
        let mut bytes = Vec::new();
        encode_request(&head, &Request::Set(set), &mut bytes).unwrap();
        let front_bytes = bytes.len() - 300;
        for length in 0..bytes.len() {
            let front = decode_set_front(&bytes[..length], &limits);
            let set = Set { value: &[], ..set };
            let expected = SetFront { head, set, front_bytes, value_bytes: 300 };
            assert_eq!(front, (length >= front_bytes).then_some(Ok(expected)), "{length}");
        }
        // An option cut short is refused before the value is there.
        bytes[HEADER_BYTES + 1] = 200;
        let front = decode_set_front(&bytes[..front_bytes], &limits);
        assert!(matches!(front, Some(Err(_))), "{front:?}");
        let mut get = Vec::new();
        let request = Request::Get { key: b"key", least_version: None };
        encode_request(&head, &request, &mut get).unwrap();
        assert_eq!(decode_set_front(&get, &limits), None);
    }

    #[test]
    fn the_short_way_and_the_full_check_agree() {
        let mut random = StdRng::seed_from_u64(3);
        let limits = DecodeLimits {
            key_bytes_max: 12,
            value_bytes_max: 24,
            frame_bytes_max: 60,
            origin: Origin::Client,
        };
        let mut short = 0;
        for _ in 0..200_000 {
            let (key, value) = ([b'k'; 14], [b'v'; 26]);
            let key = &key[..random.random_range(0..=14)];
            let value = &value[..random.random_range(0..=26)];
            let request = if random.random() {
                Request::Get { key, least_version: None }
            } else {
                let (ttl, condition) = (Ttl::Default, SetCondition::Always);
                Request::Set(Set { key, value, user_flags: 0, ttl, condition, old: OldValue::Omit })
            };
            let head = RequestHead {
                id: RequestId(random.random_range(0..=NOTICE_ID - 1)),
                epoch: ShortEpoch(random.random()),
                deadline: random.random::<bool>().then(|| MonotonicUs(random.random())),
                ..RequestHead::default()
            };
            let mut bytes = Vec::new();
            encode_request(&head, &request, &mut bytes).unwrap();
            // One byte of header or options changed, every other time.
            if random.random() {
                bytes[random.random_range(0..16)] = random.random_range(0..20);
            }
            let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>().unwrap();
            let full = decode_any(RequestHeader::read(header), body, &limits);
            assert_eq!(decode_request(&bytes, &limits), full, "{bytes:?}");
            short += u32::from(matches!(full, Decoded::Complete { .. }));
        }
        assert!(short > 50_000, "enough of them must be whole: {short}");
    }
}
