//! Requests to bytes.

use crate::limits::{
    HEADER_BYTES, KEY_BYTES_MAX, NOTICE_ID, OPTIONS_BYTES_MAX, TOKEN_BYTES_MAX, VALUE_BYTES_MAX,
};
use crate::model::*;
use crate::wire::between_cores;
use crate::wire::layout::{
    HELLO_ANY_CORE, Opcode, REQUEST_MAGIC, RequestHeader, TTL_KEEP, TTL_MS_MAX, TTL_NEVER, flag,
    tag,
};
use crate::wire::options::{Condition, push_condition, push_option};
use crate::wire::refusal::EncodeError;

/// All options that one request can have together: deadline (2+8), TTL (2+8), user flags (2+4),
/// condition (2+9), least version (2+8), initial value (2+8), part (2+2), stand in (2), space (2+1).
const WRITTEN_OPTIONS_BYTES_MAX: usize = 10 + 10 + 6 + 11 + 10 + 10 + 4 + 2 + 3;
const _: () = assert!(WRITTEN_OPTIONS_BYTES_MAX <= OPTIONS_BYTES_MAX);

/// What a request has beside its head, once its options are written.
struct Body<'a> {
    opcode: Opcode,
    flags: u8,
    key: &'a [u8],
    /// The value section in two pieces, either of which may be empty.
    value: [&'a [u8]; 2],
}

/// Appends a request's frame to `out`.
///
/// # Errors
/// The request has no encoding; `out` is as it was.
#[inline]
pub fn encode_request(
    head: &RequestHead,
    request: &Request<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if head.space != Space::default() || between_cores::is_wider(request) {
        return Err(EncodeError::BetweenCores);
    }
    append_or_undo(head, request, out)
}

/// Appends the frame of a request that has one in wire version 1, but for its space.
#[inline]
pub(crate) fn append_or_undo(
    head: &RequestHead,
    request: &Request<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let start = out.len();
    let result = append(head, request, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// The same, but leaves what was written when it fails.
fn append(head: &RequestHead, request: &Request<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if head.id.0 == NOTICE_ID {
        return Err(EncodeError::ReservedId);
    }
    // The header is written last, when the length of the options is known.
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    if let Some(deadline) = head.deadline {
        push_option(out, tag::DEADLINE, &deadline.0.to_le_bytes());
    }
    // Small value sections of fixed form live here while the frame is put together.
    let mut fixed = [0u8; 12];
    let mut body = write_options(request, &mut fixed, out)?;
    push_last_options(head, out);
    if head.answer == Answer::Never {
        if !body.opcode.is_write() {
            return Err(EncodeError::NoReplyToRead);
        }
        body.flags |= flag::NO_REPLY;
    }
    if head.want_version == WantVersion::Yes {
        body.flags |= flag::WANT_VERSION;
    }
    let options_bytes = out.len() - start - HEADER_BYTES;
    let value_bytes = body.value[0].len() + body.value[1].len();
    if body.key.len() > KEY_BYTES_MAX {
        return Err(EncodeError::KeyTooLong);
    }
    if value_bytes > VALUE_BYTES_MAX {
        return Err(EncodeError::ValueTooLarge);
    }
    let header = RequestHeader {
        magic: REQUEST_MAGIC,
        opcode: body.opcode as u8,
        flags: body.flags,
        // At most WRITTEN_OPTIONS_BYTES_MAX.
        options_bytes: options_bytes as u8,
        id: head.id,
        // The limits just checked keep both lengths within their fields.
        body_bytes: (options_bytes + body.key.len() + value_bytes) as u32,
        key_bytes: body.key.len() as u16,
        epoch: head.epoch,
    };
    out[start..start + HEADER_BYTES].copy_from_slice(&header.to_bytes());
    out.extend_from_slice(body.key);
    for piece in body.value {
        if !piece.is_empty() {
            out.extend_from_slice(piece);
        }
    }
    Ok(())
}

/// Writes the head's options whose tags come after those of requests.
pub(crate) fn push_last_options(head: &RequestHead, out: &mut Vec<u8>) {
    if let Some(part) = head.part {
        push_option(out, tag::PART, &part.to_le_bytes());
    }
    if head.stand_in == StandIn::Yes {
        push_option(out, tag::STAND_IN, &[]);
    }
    if head.space != Space::default() {
        push_option(out, tag::SPACE, &[head.space.number()]);
    }
}

/// Writes the request's own options, in ascending order of their tags, so that a request has
/// one encoding; says what else there is.
fn write_options<'a>(
    request: &Request<'a>,
    fixed: &'a mut [u8; 12],
    out: &mut Vec<u8>,
) -> Result<Body<'a>, EncodeError> {
    let plain = |opcode: Opcode, key: &'a [u8], value: &'a [u8]| Body {
        opcode,
        flags: 0,
        key,
        value: [value, &[]],
    };
    Ok(match *request {
        Request::Get { key, least_version } => {
            if let Some(version) = least_version {
                push_option(out, tag::LEAST_VERSION, &version.0.to_le_bytes());
            }
            plain(Opcode::Get, key, &[])
        }
        Request::Set(Set { key, value, user_flags, ttl, condition, old: _ }) => {
            let mut body = plain(Opcode::Set, key, value);
            push_ttl(&mut body, ttl, out)?;
            if user_flags != 0 {
                push_option(out, tag::USER_FLAGS, &user_flags.to_le_bytes());
            }
            match condition {
                SetCondition::Always => {}
                SetCondition::Absent => push_condition(out, Condition::Absent),
                SetCondition::Present => push_condition(out, Condition::Present),
                SetCondition::VersionIs(version) => {
                    push_condition(out, Condition::VersionIs(version.0));
                }
                SetCondition::NewerThan(version) => {
                    push_condition(out, Condition::NewerThan(version.0));
                }
                SetCondition::Untouched => push_condition(out, Condition::Untouched),
                SetCondition::ValueIs(_) => return Err(EncodeError::BetweenCores),
            }
            body
        }
        Request::Delete { key, condition } => {
            let mut body = plain(Opcode::Delete, key, &[]);
            match condition {
                DeleteCondition::Always => {}
                DeleteCondition::VersionIs(version) => {
                    push_condition(out, Condition::VersionIs(version.0));
                }
                DeleteCondition::ValueIs(value) => {
                    push_condition(out, Condition::ValueIs);
                    body.value[0] = value;
                }
            }
            body
        }
        Request::MultiGet(keys) => plain(Opcode::MultiGet, &[], keys.encoded()),
        Request::GetAndTouch { key, ttl } => {
            let mut body = plain(Opcode::GetAndTouch, key, &[]);
            push_ttl(&mut body, ttl, out)?;
            body
        }
        Request::Touch { key, ttl, condition: _ } => {
            let mut body = plain(Opcode::Touch, key, &[]);
            push_ttl(&mut body, ttl, out)?;
            body
        }
        Request::Exists { key } => plain(Opcode::Exists, key, &[]),
        Request::TtlOf { key } => plain(Opcode::TtlOf, key, &[]),
        Request::GetOrAsk { key } => plain(Opcode::GetOrAsk, key, &[]),
        Request::GetLeft { key } => plain(Opcode::GetLeft, key, &[]),
        Request::FlushSlot { key } => plain(Opcode::FlushSlot, key, &[]),
        Request::Extend { key, value, side, absent: _ } => match side {
            Side::Append => plain(Opcode::Append, key, value),
            Side::Prepend => plain(Opcode::Prepend, key, value),
        },
        Request::Count(Count { key, delta, direction, arithmetic, initial, ttl }) => {
            fixed[..8].copy_from_slice(&delta.to_le_bytes());
            fixed[8] = match direction {
                Direction::Increment => 0,
                Direction::Decrement => 1,
            };
            fixed[9] = match arithmetic {
                Arithmetic::Signed => 0,
                Arithmetic::Unsigned64 => 1,
            };
            let mut body = plain(Opcode::Count, key, &fixed[..10]);
            push_ttl(&mut body, ttl, out)?;
            if let Some(initial) = initial {
                push_option(out, tag::INITIAL, &initial.to_le_bytes());
            }
            body
        }
        Request::Flush { delay_ms } => {
            fixed[..4].copy_from_slice(&delay_ms.to_le_bytes());
            plain(Opcode::Flush, &[], &fixed[..4])
        }
        Request::Topology { held_epoch } => {
            fixed[..8].copy_from_slice(&held_epoch.to_le_bytes());
            plain(Opcode::Topology, &[], &fixed[..8])
        }
        Request::Stats => plain(Opcode::Stats, &[], &[]),
        Request::Ping => plain(Opcode::Ping, &[], &[]),
        Request::Hello(Hello { version, core, token }) => {
            if token.len() > TOKEN_BYTES_MAX {
                return Err(EncodeError::TokenTooLong);
            }
            if core == Some(HELLO_ANY_CORE) {
                return Err(EncodeError::ReservedCore);
            }
            fixed[0..2].copy_from_slice(&version.to_le_bytes());
            fixed[2..4].copy_from_slice(&core.unwrap_or(HELLO_ANY_CORE).to_le_bytes());
            fixed[8..10].copy_from_slice(&(token.len() as u16).to_le_bytes());
            let mut body = plain(Opcode::Hello, &[], &fixed[..]);
            body.value[1] = token;
            body
        }
        Request::GetAndDelete { .. }
        | Request::GetRange { .. }
        | Request::SetRange { .. }
        | Request::Length { .. }
        | Request::CountFloat { .. }
        | Request::CountAndDescribe { .. }
        | Request::ExtendIf { .. }
        | Request::Describe { .. }
        | Request::Watch { .. }
        | Request::Scan { .. }
        | Request::RandomKey
        | Request::CountKeys { .. }
        | Request::KeysInSlot { .. }
        | Request::Copy { .. }
        | Request::Rename { .. }
        | Request::SetMany(_)
        | Request::Atomic(_)
        | Request::FlushSpace { .. }
        | Request::Clients { .. } => return Err(EncodeError::BetweenCores),
    })
}

fn push_ttl(body: &mut Body<'_>, ttl: Ttl, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let number = match ttl {
        Ttl::Default => return Ok(()),
        Ttl::Never => TTL_NEVER,
        Ttl::Keep => TTL_KEEP,
        Ttl::After { ms, .. } if ms > TTL_MS_MAX => return Err(EncodeError::TtlTooLong),
        Ttl::After { ms, jitter } => {
            if jitter == Jitter::Spread {
                body.flags |= flag::SPREAD_TTL;
            }
            ms
        }
    };
    push_option(out, tag::TTL, &number.to_le_bytes());
    Ok(())
}
