//! Requests to bytes.

use crate::limits::{KEY_BYTES_MAX, NOTICE_ID, TOKEN_BYTES_MAX, VALUE_BYTES_MAX};
use crate::model::*;
use crate::wire::layout::{
    HELLO_ANY_CORE, Opcode, REQUEST_MAGIC, RequestHeader, TTL_KEEP, TTL_MS_MAX, TTL_NEVER, flag,
    tag,
};
use crate::wire::options::{Condition, OptionsBuffer};
use crate::wire::refusal::EncodeError;

/// What a request has beside its head: made without touching the output, so that a request
/// without an encoding leaves no trace.
struct Body<'a> {
    opcode: Opcode,
    flags: u8,
    options: OptionsBuffer,
    key: &'a [u8],
    /// The value section in two pieces, either of which may be empty.
    value: [&'a [u8]; 2],
}

/// Appends a request's frame to `out`.
///
/// # Errors
/// The request has no encoding; `out` is as it was.
pub fn encode_request(
    head: &RequestHead,
    request: &Request<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if head.id.0 == NOTICE_ID {
        return Err(EncodeError::ReservedId);
    }
    // Small value sections of fixed form live here while the frame is put together.
    let mut fixed = [0u8; 12];
    let mut body = body_of(request, head.deadline, &mut fixed)?;
    if head.answer == Answer::Never {
        if !body.opcode.is_write() {
            return Err(EncodeError::NoReplyToRead);
        }
        body.flags |= flag::NO_REPLY;
    }
    if head.want_version == WantVersion::Yes {
        body.flags |= flag::WANT_VERSION;
    }
    if let Some(part) = head.part {
        body.options.push(tag::PART, &part.to_le_bytes());
    }
    let value_bytes = body.value[0].len() + body.value[1].len();
    if body.key.len() > KEY_BYTES_MAX {
        return Err(EncodeError::KeyTooLong);
    }
    if value_bytes > VALUE_BYTES_MAX {
        return Err(EncodeError::ValueTooLarge);
    }
    let options = body.options.as_bytes();
    let header = RequestHeader {
        magic: REQUEST_MAGIC,
        opcode: body.opcode as u8,
        flags: body.flags,
        options_bytes: body.options.len(),
        id: head.id,
        // The limits just checked keep both lengths within their fields.
        body_bytes: (options.len() + body.key.len() + value_bytes) as u32,
        key_bytes: body.key.len() as u16,
        epoch: head.epoch,
    };
    out.reserve(header.frame_bytes());
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(options);
    out.extend_from_slice(body.key);
    out.extend_from_slice(body.value[0]);
    out.extend_from_slice(body.value[1]);
    Ok(())
}

/// Options are written in ascending order of their tags, so that a request has one encoding.
fn body_of<'a>(
    request: &Request<'a>,
    deadline: Option<MonotonicUs>,
    fixed: &'a mut [u8; 12],
) -> Result<Body<'a>, EncodeError> {
    let mut options = OptionsBuffer::new();
    if let Some(deadline) = deadline {
        options.push(tag::DEADLINE, &deadline.0.to_le_bytes());
    }
    let plain = |opcode: Opcode, key: &'a [u8], value: &'a [u8]| Body {
        opcode,
        flags: 0,
        options,
        key,
        value: [value, &[]],
    };
    Ok(match *request {
        Request::Get { key, least_version } => {
            let mut body = plain(Opcode::Get, key, &[]);
            if let Some(version) = least_version {
                body.options.push(tag::LEAST_VERSION, &version.0.to_le_bytes());
            }
            body
        }
        Request::Set(Set { key, value, user_flags, ttl, condition }) => {
            let mut body = plain(Opcode::Set, key, value);
            push_ttl(&mut body, ttl)?;
            if user_flags != 0 {
                body.options.push(tag::USER_FLAGS, &user_flags.to_le_bytes());
            }
            match condition {
                SetCondition::Always => {}
                SetCondition::Absent => body.options.push_condition(Condition::Absent),
                SetCondition::Present => body.options.push_condition(Condition::Present),
                SetCondition::VersionIs(version) => {
                    body.options.push_condition(Condition::VersionIs(version.0));
                }
                SetCondition::NewerThan(version) => {
                    body.options.push_condition(Condition::NewerThan(version.0));
                }
            }
            body
        }
        Request::Delete { key, condition } => {
            let mut body = plain(Opcode::Delete, key, &[]);
            match condition {
                DeleteCondition::Always => {}
                DeleteCondition::VersionIs(version) => {
                    body.options.push_condition(Condition::VersionIs(version.0));
                }
                DeleteCondition::ValueIs(value) => {
                    body.options.push_condition(Condition::ValueIs);
                    body.value[0] = value;
                }
            }
            body
        }
        Request::MultiGet(keys) => plain(Opcode::MultiGet, &[], keys.encoded()),
        Request::GetAndTouch { key, ttl } => {
            let mut body = plain(Opcode::GetAndTouch, key, &[]);
            push_ttl(&mut body, ttl)?;
            body
        }
        Request::Touch { key, ttl } => {
            let mut body = plain(Opcode::Touch, key, &[]);
            push_ttl(&mut body, ttl)?;
            body
        }
        Request::Exists { key } => plain(Opcode::Exists, key, &[]),
        Request::TtlOf { key } => plain(Opcode::TtlOf, key, &[]),
        Request::Extend { key, value, side: Side::Append } => plain(Opcode::Append, key, value),
        Request::Extend { key, value, side: Side::Prepend } => plain(Opcode::Prepend, key, value),
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
            push_ttl(&mut body, ttl)?;
            if let Some(initial) = initial {
                body.options.push(tag::INITIAL, &initial.to_le_bytes());
            }
            body
        }
        Request::Flush { delay_ms } => {
            fixed[..4].copy_from_slice(&delay_ms.to_le_bytes());
            plain(Opcode::Flush, &[], &fixed[..4])
        }
        Request::Stats => plain(Opcode::Stats, &[], &[]),
        Request::Ping => plain(Opcode::Ping, &[], &[]),
        Request::Hello(Hello { version, core, value_bytes_max, token }) => {
            if token.len() > TOKEN_BYTES_MAX {
                return Err(EncodeError::TokenTooLong);
            }
            if core == Some(HELLO_ANY_CORE) {
                return Err(EncodeError::ReservedCore);
            }
            fixed[0..2].copy_from_slice(&version.to_le_bytes());
            fixed[2..4].copy_from_slice(&core.unwrap_or(HELLO_ANY_CORE).to_le_bytes());
            fixed[4..8].copy_from_slice(&value_bytes_max.to_le_bytes());
            fixed[8..10].copy_from_slice(&(token.len() as u16).to_le_bytes());
            let mut body = plain(Opcode::Hello, &[], &fixed[..]);
            body.value[1] = token;
            body
        }
    })
}

fn push_ttl(body: &mut Body<'_>, ttl: Ttl) -> Result<(), EncodeError> {
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
    body.options.push(tag::TTL, &number.to_le_bytes());
    Ok(())
}
