//! Replies to bytes and back.

use crate::limits::{HEADER_BYTES, NODE_NAME_BYTES_MAX, VALUE_BYTES_MAX};
use crate::model::*;
use crate::wire::between_cores;
use crate::wire::layout::{
    CORE_RANGE_BYTES, KIND_PART, REDIRECT_FIXED_BYTES, REPLY_MAGIC, ReplyHeader, ReplyKind,
    WELCOME_FIXED_BYTES, tag,
};
use crate::wire::options::{Options, TagSet, only, push_option};
use crate::wire::refusal::ReplyError;

/// A reply and what accompanies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyFrame<'a> {
    /// What every reply has.
    pub head: ReplyHead,
    /// What is answered.
    pub reply: Reply<'a>,
}

/// What [`decode_reply`] found at the start of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum ReplyDecoded<'a> {
    /// A reply.
    Complete {
        /// The reply.
        frame: ReplyFrame<'a>,
        /// How many bytes it took; the next frame begins after them.
        consumed: usize,
    },
    /// The beginning of a frame.
    Incomplete {
        /// How many bytes must be there before it is worth calling again: the frame's
        /// length, or the header's while that is not known.
        needed: usize,
    },
    /// Not a reply of this protocol: close.
    Fatal(ReplyError),
}

/// Appends a reply's frame to `out`.
///
/// # Panics
/// Where the reply is one that no node may give: a failure whose status is `Ok`, core ranges
/// that are not whole, a name over [`NODE_NAME_BYTES_MAX`], a value over [`VALUE_BYTES_MAX`].
#[inline]
pub fn encode_reply(head: &ReplyHead, reply: &Reply<'_>, out: &mut Vec<u8>) {
    match *reply {
        Reply::Value(Value { bytes, user_flags: 0, version: None }) => {
            write_bare_value(head, bytes, out);
        }
        Reply::Value(Value { bytes, user_flags, version }) => {
            write_value_head(head, user_flags, version, bytes.len(), out);
            out.extend_from_slice(bytes);
        }
        Reply::Done { version } => {
            put_head(head, Status::Ok, ReplyKind::Done, ReplyOptions::version(version), 0, out);
        }
        Reply::Failed { status, message } => {
            assert!(status != Status::Ok, "a failure needs a status that says so");
            let none = ReplyOptions::default();
            put_head(head, status, ReplyKind::Failed, none, message.len(), out);
            out.extend_from_slice(message.as_bytes());
        }
        _ => encode_rare(head, reply, out),
    }
}

/// [`encode_reply`] of the most frequent of all replies: a [`Reply::Value`] without flags or
/// version, whose header is known but for the head and the length.
///
/// # Panics
/// Where the value is over [`VALUE_BYTES_MAX`].
#[inline]
pub fn write_bare_value(head: &ReplyHead, bytes: &[u8], out: &mut Vec<u8>) {
    assert!(bytes.len() <= VALUE_BYTES_MAX, "no value is that long");
    let header = ReplyHeader {
        magic: REPLY_MAGIC,
        status: Status::Ok as u8,
        kind: ReplyKind::Value as u8 | if head.part.is_some() { KIND_PART } else { 0 },
        options_bytes: 0,
        id: head.id,
        body_bytes: bytes.len() as u32,
        detail: head.part.unwrap_or(0),
        epoch: head.epoch,
    };
    out.reserve(HEADER_BYTES + bytes.len());
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(bytes);
}

/// Appends the frame of [`Reply::Value`] whose bytes are in several pieces.
///
/// # Panics
/// Where the pieces are not `value_bytes` long together, or over [`VALUE_BYTES_MAX`].
pub fn write_value<'c>(
    head: &ReplyHead,
    user_flags: u32,
    version: Option<Version>,
    value_bytes: usize,
    pieces: impl IntoIterator<Item = &'c [u8]>,
    out: &mut Vec<u8>,
) {
    out.reserve(VALUE_HEAD_BYTES_MAX + value_bytes);
    write_value_head(head, user_flags, version, value_bytes, out);
    let start = out.len();
    for piece in pieces {
        out.extend_from_slice(piece);
    }
    assert_eq!(out.len() - start, value_bytes, "a value must be as long as its frame says");
}

/// The longest that [`write_value_head`] appends: header, user flags and version.
const VALUE_HEAD_BYTES_MAX: usize = HEADER_BYTES + (2 + 4) + (2 + 8);

/// Appends all of a [`Reply::Value`]'s frame but the value itself, for a caller that sends
/// the bytes from where they are.
///
/// # Panics
/// Where the value is over [`VALUE_BYTES_MAX`].
#[inline]
pub fn write_value_head(
    head: &ReplyHead,
    user_flags: u32,
    version: Option<Version>,
    value_bytes: usize,
    out: &mut Vec<u8>,
) {
    assert!(value_bytes <= VALUE_BYTES_MAX, "no value is that long");
    let user_flags = (user_flags != 0).then_some(user_flags);
    let options = ReplyOptions { user_flags, version, retry_after_us: None };
    out.reserve(VALUE_HEAD_BYTES_MAX);
    put_head(head, Status::Ok, ReplyKind::Value, options, value_bytes, out);
}

fn encode_rare(head: &ReplyHead, reply: &Reply<'_>, out: &mut Vec<u8>) {
    let none = ReplyOptions::default();
    match *reply {
        Reply::Value(_) | Reply::Done { .. } | Reply::Failed { .. } => {
            unreachable!("encoded by the caller")
        }
        Reply::Described { .. } | Reply::Keys(_) | Reply::Key { .. } => {
            let start = out.len();
            out.extend_from_slice(&[0; HEADER_BYTES]);
            let kind = between_cores::write_reply(reply, out);
            let payload_bytes = out.len() - start - HEADER_BYTES;
            let header = reply_header(head, Status::Ok, kind, none, payload_bytes);
            out[start..start + HEADER_BYTES].copy_from_slice(&header.to_bytes());
        }
        Reply::Number { number, version } => {
            put_head(head, Status::Ok, ReplyKind::Number, ReplyOptions::version(version), 8, out);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Reply::Remaining(Remaining::Never) => {
            put_head(head, Status::Ok, ReplyKind::Remaining, none, 0, out);
        }
        Reply::Remaining(Remaining::Ms(ms)) => {
            put_head(head, Status::Ok, ReplyKind::Remaining, none, 8, out);
            out.extend_from_slice(&ms.to_le_bytes());
        }
        Reply::Stats { core, text } => {
            put_head(head, Status::Ok, ReplyKind::Stats, none, 2 + text.len(), out);
            out.extend_from_slice(&core.to_le_bytes());
            out.extend_from_slice(text);
        }
        Reply::Pong { clock } => {
            put_head(head, Status::Ok, ReplyKind::Pong, none, 8, out);
            out.extend_from_slice(&clock.0.to_le_bytes());
        }
        Reply::Redirect(Redirect { redirection, slot, epoch, address }) => {
            let (status, kind) = (redirection.status(), ReplyKind::Redirect);
            put_head(head, status, kind, none, REDIRECT_FIXED_BYTES + address.len(), out);
            out.extend_from_slice(&slot.to_le_bytes());
            out.extend_from_slice(&epoch.to_le_bytes());
            out.extend_from_slice(address.as_bytes());
        }
        Reply::Topology { table } => {
            put_head(head, Status::Ok, ReplyKind::Topology, none, table.len(), out);
            out.extend_from_slice(table);
        }
        Reply::End => put_head(head, Status::End, ReplyKind::End, none, 0, out),
        Reply::Busy { retry_after_us } => {
            let options =
                ReplyOptions { retry_after_us: Some(retry_after_us), ..ReplyOptions::default() };
            put_head(head, Status::Busy, ReplyKind::Busy, options, 0, out);
        }
        Reply::Welcome(Welcome {
            version,
            core,
            cores,
            key_bytes_max,
            value_bytes_max,
            clock,
            node_name,
            core_ranges,
        }) => {
            assert!(node_name.len() <= NODE_NAME_BYTES_MAX, "no node has so long a name");
            assert!(core_ranges.len() % CORE_RANGE_BYTES == 0, "core ranges must be whole");
            let ranges = u16::try_from(core_ranges.len() / CORE_RANGE_BYTES)
                .expect("there are no more ranges than slots");
            let payload_bytes = WELCOME_FIXED_BYTES + node_name.len() + core_ranges.len();
            put_head(head, Status::Ok, ReplyKind::Welcome, none, payload_bytes, out);
            for field in [version, core, cores, key_bytes_max] {
                out.extend_from_slice(&field.to_le_bytes());
            }
            out.extend_from_slice(&value_bytes_max.to_le_bytes());
            out.extend_from_slice(&(node_name.len() as u16).to_le_bytes());
            out.extend_from_slice(&ranges.to_le_bytes());
            out.extend_from_slice(&clock.0.to_le_bytes());
            out.extend_from_slice(node_name);
            out.extend_from_slice(core_ranges);
        }
    }
}

/// The options of a reply that is being written.
#[derive(Clone, Copy, Debug, Default)]
struct ReplyOptions {
    user_flags: Option<u32>,
    version: Option<Version>,
    retry_after_us: Option<u32>,
}

impl ReplyOptions {
    #[inline]
    fn version(version: Option<Version>) -> ReplyOptions {
        ReplyOptions { version, ..ReplyOptions::default() }
    }

    /// At most 6 + 10 + 6 bytes.
    #[inline]
    fn encoded_bytes(&self) -> usize {
        let user_flags = if self.user_flags.is_some() { 2 + 4 } else { 0 };
        let version = if self.version.is_some() { 2 + 8 } else { 0 };
        let retry_after = if self.retry_after_us.is_some() { 2 + 4 } else { 0 };
        user_flags + version + retry_after
    }

    /// In ascending order of tags, so that a reply has one encoding.
    #[inline]
    fn append(&self, out: &mut Vec<u8>) {
        if let Some(user_flags) = self.user_flags {
            push_option(out, tag::USER_FLAGS, &user_flags.to_le_bytes());
        }
        if let Some(version) = self.version {
            push_option(out, tag::VERSION, &version.0.to_le_bytes());
        }
        if let Some(retry_after_us) = self.retry_after_us {
            push_option(out, tag::RETRY_AFTER, &retry_after_us.to_le_bytes());
        }
    }
}

#[inline]
fn put_head(
    head: &ReplyHead,
    status: Status,
    kind: ReplyKind,
    options: ReplyOptions,
    payload_bytes: usize,
    out: &mut Vec<u8>,
) {
    let header = reply_header(head, status, kind as u8, options, payload_bytes);
    out.extend_from_slice(&header.to_bytes());
    options.append(out);
}

#[inline]
fn reply_header(
    head: &ReplyHead,
    status: Status,
    kind: u8,
    options: ReplyOptions,
    payload_bytes: usize,
) -> ReplyHeader {
    ReplyHeader {
        magic: REPLY_MAGIC,
        status: status as u8,
        kind: kind | if head.part.is_some() { KIND_PART } else { 0 },
        options_bytes: options.encoded_bytes() as u8,
        id: head.id,
        body_bytes: u32::try_from(options.encoded_bytes() + payload_bytes)
            .expect("no reply is that long"),
        detail: head.part.unwrap_or(0),
        epoch: head.epoch,
    }
}

/// Decodes the reply at the start of `bytes`, whose body (all after the header) may be
/// `body_bytes_max` long. Never panics, whatever the bytes are.
#[inline]
pub fn decode_reply(bytes: &[u8], body_bytes_max: usize) -> ReplyDecoded<'_> {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return match bytes.first() {
            None | Some(&REPLY_MAGIC) => ReplyDecoded::Incomplete { needed: HEADER_BYTES },
            Some(_) => ReplyDecoded::Fatal(ReplyError::NotAReply),
        };
    };
    let header = ReplyHeader::read(header);
    if header.magic != REPLY_MAGIC {
        return ReplyDecoded::Fatal(ReplyError::NotAReply);
    }
    let body_bytes = header.body_bytes as usize;
    if body_bytes > body_bytes_max {
        return ReplyDecoded::Fatal(ReplyError::TooLong);
    }
    let Some(body) = body.get(..body_bytes) else {
        return ReplyDecoded::Incomplete { needed: HEADER_BYTES + body_bytes };
    };
    match decode_whole(&header, body) {
        Ok(frame) => ReplyDecoded::Complete { frame, consumed: HEADER_BYTES + body_bytes },
        Err(error) => ReplyDecoded::Fatal(error),
    }
}

/// Options that a kind of reply may have.
const fn own_options(kind: ReplyKind) -> TagSet {
    match kind {
        ReplyKind::Value => only(tag::VERSION) | only(tag::USER_FLAGS),
        ReplyKind::Done | ReplyKind::Number => only(tag::VERSION),
        ReplyKind::Busy => only(tag::RETRY_AFTER),
        ReplyKind::Remaining
        | ReplyKind::Stats
        | ReplyKind::Pong
        | ReplyKind::Welcome
        | ReplyKind::End
        | ReplyKind::Failed
        | ReplyKind::Redirect
        | ReplyKind::Topology => 0,
    }
}

fn decode_whole<'a>(header: &ReplyHeader, body: &'a [u8]) -> Result<ReplyFrame<'a>, ReplyError> {
    let status =
        Status::try_from(header.status).map_err(|_| ReplyError::UnknownStatus(header.status))?;
    let kind = ReplyKind::from_byte(header.kind & !KIND_PART)
        .ok_or(ReplyError::UnknownKind(header.kind & !KIND_PART))?;
    let status_fits = match kind {
        ReplyKind::Failed => status != Status::Ok,
        ReplyKind::End => status == Status::End,
        ReplyKind::Busy => status == Status::Busy,
        ReplyKind::Redirect => matches!(status, Status::Moved | Status::Ask),
        _ => status == Status::Ok,
    };
    if !status_fits {
        return Err(ReplyError::StatusContradictsKind(status));
    }
    let (block, payload) =
        body.split_at_checked(usize::from(header.options_bytes)).ok_or(ReplyError::Options)?;
    let options = if block.is_empty() {
        Options::default()
    } else {
        Options::parse(block).map_err(|_| ReplyError::Options)?
    };
    if options.seen & !own_options(kind) != 0 {
        return Err(ReplyError::Options);
    }
    let version = options.version.map(Version);
    let reply = match kind {
        ReplyKind::Value => Reply::Value(Value {
            bytes: payload,
            user_flags: options.user_flags.unwrap_or(0),
            version,
        }),
        ReplyKind::Done => {
            no_payload(payload)?;
            Reply::Done { version }
        }
        ReplyKind::Number => Reply::Number { number: number_of(payload)?, version },
        ReplyKind::Remaining if payload.is_empty() => Reply::Remaining(Remaining::Never),
        ReplyKind::Remaining => Reply::Remaining(Remaining::Ms(number_of(payload)?)),
        ReplyKind::Stats => {
            let (core, text) = payload.split_first_chunk::<2>().ok_or(ReplyError::Payload)?;
            Reply::Stats { core: u16::from_le_bytes(*core), text }
        }
        ReplyKind::Pong => Reply::Pong { clock: MonotonicUs(number_of(payload)?) },
        ReplyKind::Welcome => Reply::Welcome(welcome_of(payload)?),
        ReplyKind::End => {
            no_payload(payload)?;
            Reply::End
        }
        ReplyKind::Busy => {
            no_payload(payload)?;
            Reply::Busy { retry_after_us: options.retry_after_us.unwrap_or(0) }
        }
        ReplyKind::Redirect => Reply::Redirect(redirect_of(status, payload)?),
        ReplyKind::Topology => Reply::Topology { table: payload },
        ReplyKind::Failed => Reply::Failed {
            status,
            message: std::str::from_utf8(payload).map_err(|_| ReplyError::Payload)?,
        },
    };
    let part = (header.kind & KIND_PART != 0).then_some(header.detail);
    Ok(ReplyFrame { head: ReplyHead { id: header.id, epoch: header.epoch, part }, reply })
}

fn no_payload(payload: &[u8]) -> Result<(), ReplyError> {
    if payload.is_empty() { Ok(()) } else { Err(ReplyError::Payload) }
}

fn number_of(payload: &[u8]) -> Result<u64, ReplyError> {
    Ok(u64::from_le_bytes(payload.try_into().map_err(|_| ReplyError::Payload)?))
}

/// What follows the core ranges belongs to later versions and is skipped.
fn redirect_of(status: Status, payload: &[u8]) -> Result<Redirect<'_>, ReplyError> {
    let (&slot, rest) = payload.split_first_chunk().ok_or(ReplyError::Payload)?;
    let (&epoch, address) = rest.split_first_chunk().ok_or(ReplyError::Payload)?;
    Ok(Redirect {
        redirection: match status {
            Status::Moved => Redirection::Moved,
            _ => Redirection::Ask,
        },
        slot: u16::from_le_bytes(slot),
        epoch: u64::from_le_bytes(epoch),
        address: std::str::from_utf8(address).map_err(|_| ReplyError::Payload)?,
    })
}

fn welcome_of(payload: &[u8]) -> Result<Welcome<'_>, ReplyError> {
    let (fixed, rest) =
        payload.split_first_chunk::<WELCOME_FIXED_BYTES>().ok_or(ReplyError::Payload)?;
    let u16_at = |at: usize| u16::from_le_bytes([fixed[at], fixed[at + 1]]);
    let [.., c0, c1, c2, c3, c4, c5, c6, c7] = *fixed;
    let name_bytes = usize::from(u16_at(12));
    if name_bytes > NODE_NAME_BYTES_MAX {
        return Err(ReplyError::Payload);
    }
    let ranges_bytes = usize::from(u16_at(14)) * CORE_RANGE_BYTES;
    let (node_name, rest) = rest.split_at_checked(name_bytes).ok_or(ReplyError::Payload)?;
    let (core_ranges, _) = rest.split_at_checked(ranges_bytes).ok_or(ReplyError::Payload)?;
    Ok(Welcome {
        version: u16_at(0),
        core: u16_at(2),
        cores: u16_at(4),
        key_bytes_max: u16_at(6),
        value_bytes_max: u32::from_le_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
        clock: MonotonicUs(u64::from_le_bytes([c0, c1, c2, c3, c4, c5, c6, c7])),
        node_name,
        core_ranges,
    })
}
