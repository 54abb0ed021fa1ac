//! The fixed parts of the frames: magic bytes, offsets, opcodes, reply kinds, option tags.
//! SPEC.md has the same tables in words; the assertions below keep the sums honest.

use crate::limits::{
    HEADER_BYTES, KEY_BYTES_MAX, OPTIONS_BYTES_MAX, TOKEN_BYTES_MAX, VALUE_BYTES_MAX,
};
use crate::model::{RequestId, ShortEpoch};

/// First byte of every request: none of the bytes that begin TLS, memcached binary, RESP,
/// or a line of text, so one port can tell the dialects apart.
pub const REQUEST_MAGIC: u8 = 0xC7;
/// First byte of every reply.
pub const REPLY_MAGIC: u8 = 0xC8;

/// Longest frame of either direction, in bytes: header, options, key and value at their limits.
pub const FRAME_BYTES_MAX: usize =
    HEADER_BYTES + OPTIONS_BYTES_MAX + KEY_BYTES_MAX + VALUE_BYTES_MAX;

/// What a request asks for, as the second byte of its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// [`crate::Request::Hello`]
    Hello = 0x00,
    /// [`crate::Request::Ping`]
    Ping = 0x01,
    /// [`crate::Request::Stats`]
    Stats = 0x02,
    /// [`crate::Request::Flush`]
    Flush = 0x03,
    /// [`crate::Request::Topology`]
    Topology = 0x04,
    /// [`crate::Request::Get`]
    Get = 0x10,
    /// [`crate::Request::MultiGet`]
    MultiGet = 0x11,
    /// [`crate::Request::GetAndTouch`]
    GetAndTouch = 0x12,
    /// [`crate::Request::Exists`]
    Exists = 0x13,
    /// [`crate::Request::TtlOf`]
    TtlOf = 0x14,
    /// [`crate::Request::GetOrAsk`]
    GetOrAsk = 0x15,
    /// [`crate::Request::GetLeft`]
    GetLeft = 0x16,
    /// [`crate::Request::Set`]
    Set = 0x20,
    /// [`crate::Request::Delete`]
    Delete = 0x21,
    /// [`crate::Request::Touch`]
    Touch = 0x22,
    /// [`crate::Request::Count`]
    Count = 0x23,
    /// [`crate::Request::Extend`] at the end
    Append = 0x24,
    /// [`crate::Request::Extend`] at the front
    Prepend = 0x25,
    /// [`crate::Request::FlushSlot`]
    FlushSlot = 0x26,
}

impl Opcode {
    /// Every opcode, in the order of their numbers.
    pub const ALL: [Opcode; 19] = [
        Opcode::Hello,
        Opcode::Ping,
        Opcode::Stats,
        Opcode::Flush,
        Opcode::Topology,
        Opcode::Get,
        Opcode::MultiGet,
        Opcode::GetAndTouch,
        Opcode::Exists,
        Opcode::TtlOf,
        Opcode::GetOrAsk,
        Opcode::GetLeft,
        Opcode::Set,
        Opcode::Delete,
        Opcode::Touch,
        Opcode::Count,
        Opcode::Append,
        Opcode::Prepend,
        Opcode::FlushSlot,
    ];

    /// The opcode with this number, if there is one.
    #[inline]
    pub const fn from_byte(byte: u8) -> Option<Opcode> {
        Some(match byte {
            0x00 => Opcode::Hello,
            0x01 => Opcode::Ping,
            0x02 => Opcode::Stats,
            0x03 => Opcode::Flush,
            0x04 => Opcode::Topology,
            0x10 => Opcode::Get,
            0x11 => Opcode::MultiGet,
            0x12 => Opcode::GetAndTouch,
            0x13 => Opcode::Exists,
            0x14 => Opcode::TtlOf,
            0x15 => Opcode::GetOrAsk,
            0x16 => Opcode::GetLeft,
            0x20 => Opcode::Set,
            0x21 => Opcode::Delete,
            0x22 => Opcode::Touch,
            0x23 => Opcode::Count,
            0x24 => Opcode::Append,
            0x25 => Opcode::Prepend,
            0x26 => Opcode::FlushSlot,
            _ => return None,
        })
    }

    /// Whether the key section may be used.
    pub(crate) const fn has_key(self) -> bool {
        !matches!(
            self,
            Opcode::Hello
                | Opcode::Ping
                | Opcode::Stats
                | Opcode::Flush
                | Opcode::Topology
                | Opcode::MultiGet
        )
    }

    /// Whether the request changes data, and so may ask not to be answered.
    pub(crate) const fn is_write(self) -> bool {
        matches!(
            self,
            Opcode::Flush
                | Opcode::Set
                | Opcode::Delete
                | Opcode::Touch
                | Opcode::Count
                | Opcode::Append
                | Opcode::Prepend
                | Opcode::FlushSlot
        )
    }
}

/// Bits of a request's flags byte. A set bit that is not listed here is refused.
pub(crate) mod flag {
    /// [`crate::Answer::Never`]
    pub(crate) const NO_REPLY: u8 = 1 << 0;
    /// [`crate::WantVersion::Yes`]
    pub(crate) const WANT_VERSION: u8 = 1 << 1;
    /// [`crate::Jitter::Spread`], of the TTL in the options
    pub(crate) const SPREAD_TTL: u8 = 1 << 2;
    /// All of them.
    pub(crate) const KNOWN: u8 = NO_REPLY | WANT_VERSION | SPREAD_TTL;
}

/// Tags of options, one number space for both directions. 0x09 is reserved for leases; until
/// a version defines it, it is skipped like every unknown tag.
pub(crate) mod tag {
    pub(crate) const DEADLINE: u8 = 0x01;
    pub(crate) const TTL: u8 = 0x02;
    pub(crate) const USER_FLAGS: u8 = 0x03;
    pub(crate) const CONDITION: u8 = 0x04;
    pub(crate) const LEAST_VERSION: u8 = 0x05;
    pub(crate) const INITIAL: u8 = 0x06;
    pub(crate) const PART: u8 = 0x07;
    /// [`crate::StandIn::Yes`]
    pub(crate) const STAND_IN: u8 = 0x08;
    /// Between the cores of a node only.
    pub(crate) const SPACE: u8 = 0x3D;
    pub(crate) const VERSION: u8 = 0x10;
    pub(crate) const RETRY_AFTER: u8 = 0x11;
}

/// First byte of a condition option's value.
pub(crate) mod condition {
    pub(crate) const ABSENT: u8 = 1;
    pub(crate) const PRESENT: u8 = 2;
    pub(crate) const VALUE_IS: u8 = 3;
    pub(crate) const VERSION_IS: u8 = 4;
    pub(crate) const NEWER_THAN: u8 = 5;
    pub(crate) const UNTOUCHED: u8 = 6;
}

/// The TTL option's value for "never expires".
pub(crate) const TTL_NEVER: u64 = u64::MAX;
/// The TTL option's value for "keep the entry's expiry".
pub(crate) const TTL_KEEP: u64 = u64::MAX - 1;
/// Longest time to live that can be asked for, in milliseconds.
pub const TTL_MS_MAX: u64 = u64::MAX - 2;

/// Bytes of a count request's value section: delta (8), direction (1), arithmetic (1).
pub(crate) const COUNT_BYTES: usize = 8 + 1 + 1;
/// Bytes of a flush request's value section: delay in milliseconds.
pub(crate) const FLUSH_BYTES: usize = 4;
/// Bytes of a topology request's value section: the epoch that the client has.
pub(crate) const TOPOLOGY_BYTES: usize = 8;
/// Bytes of a redirect before the address: slot (2), epoch (8).
pub(crate) const REDIRECT_FIXED_BYTES: usize = 2 + 8;
/// Bytes of a hello's value section before the token: version (2), core (2), reserved (4),
/// length of the token (2), reserved (2).
pub(crate) const HELLO_FIXED_BYTES: usize = 2 + 2 + 4 + 2 + 2;
/// The core of a hello that asks for none.
pub(crate) const HELLO_ANY_CORE: u16 = u16::MAX;
/// Longest value section of a hello, in bytes. What follows the token is room for later
/// versions; this one skips it.
pub const HELLO_BYTES_MAX: usize = 4_096;
/// Bytes of a welcome before the node's name: version (2), core (2), cores (2), longest key (2),
/// longest value (4), length of the name (2), number of core ranges (2), clock (8).
pub(crate) const WELCOME_FIXED_BYTES: usize = 2 + 2 + 2 + 2 + 4 + 2 + 2 + 8;
/// Bytes of one core range of a welcome: first slot (2), core (2).
pub(crate) const CORE_RANGE_BYTES: usize = 2 + 2;

const _: () = assert!(HEADER_BYTES == 1 + 1 + 1 + 1 + 4 + 4 + 2 + 2);
const _: () = assert!(FRAME_BYTES_MAX <= u32::MAX as usize);
const _: () = assert!(KEY_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(OPTIONS_BYTES_MAX <= u8::MAX as usize);
const _: () = assert!(HELLO_FIXED_BYTES == 12);
const _: () = assert!(HELLO_FIXED_BYTES + TOKEN_BYTES_MAX <= HELLO_BYTES_MAX);
const _: () = assert!(WELCOME_FIXED_BYTES == 24);

/// Which variant of [`crate::Reply`] a frame carries, in the low seven bits of its third byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ReplyKind {
    /// [`crate::Reply::Done`]
    Done = 0,
    /// [`crate::Reply::Value`]
    Value = 1,
    /// [`crate::Reply::Number`]
    Number = 2,
    /// [`crate::Reply::Remaining`]
    Remaining = 3,
    /// [`crate::Reply::Stats`]
    Stats = 4,
    /// [`crate::Reply::Pong`]
    Pong = 5,
    /// [`crate::Reply::Welcome`]
    Welcome = 6,
    /// [`crate::Reply::End`]
    End = 7,
    /// [`crate::Reply::Busy`]
    Busy = 8,
    /// [`crate::Reply::Failed`]
    Failed = 9,
    /// [`crate::Reply::Redirect`]
    Redirect = 10,
    /// [`crate::Reply::Topology`]
    Topology = 11,
}

impl ReplyKind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [ReplyKind; 12] = [
        ReplyKind::Done,
        ReplyKind::Value,
        ReplyKind::Number,
        ReplyKind::Remaining,
        ReplyKind::Stats,
        ReplyKind::Pong,
        ReplyKind::Welcome,
        ReplyKind::End,
        ReplyKind::Busy,
        ReplyKind::Failed,
        ReplyKind::Redirect,
        ReplyKind::Topology,
    ];

    /// The kind with this number, if there is one.
    #[inline]
    pub fn from_byte(byte: u8) -> Option<ReplyKind> {
        ReplyKind::ALL.get(usize::from(byte)).copied()
    }
}

/// Bit of a reply's kind byte: one of a series, with its index in the detail field.
pub(crate) const KIND_PART: u8 = 0x80;

/// A request's header, as its fields stand in the bytes; nothing in it is checked yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestHeader {
    pub(crate) magic: u8,
    pub(crate) opcode: u8,
    pub(crate) flags: u8,
    pub(crate) options_bytes: u8,
    pub(crate) id: RequestId,
    pub(crate) body_bytes: u32,
    pub(crate) key_bytes: u16,
    pub(crate) epoch: ShortEpoch,
}

impl RequestHeader {
    #[inline]
    pub(crate) fn read(bytes: &[u8; HEADER_BYTES]) -> RequestHeader {
        let [magic, opcode, flags, options_bytes, i0, i1, i2, i3, b0, b1, b2, b3, k0, k1, e0, e1] =
            *bytes;
        RequestHeader {
            magic,
            opcode,
            flags,
            options_bytes,
            id: RequestId(u32::from_le_bytes([i0, i1, i2, i3])),
            body_bytes: u32::from_le_bytes([b0, b1, b2, b3]),
            key_bytes: u16::from_le_bytes([k0, k1]),
            epoch: ShortEpoch(u16::from_le_bytes([e0, e1])),
        }
    }

    #[inline]
    pub(crate) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let [i0, i1, i2, i3] = self.id.0.to_le_bytes();
        let [b0, b1, b2, b3] = self.body_bytes.to_le_bytes();
        let [k0, k1] = self.key_bytes.to_le_bytes();
        let [e0, e1] = self.epoch.0.to_le_bytes();
        let RequestHeader { magic, opcode, flags, options_bytes, .. } = self;
        [magic, opcode, flags, options_bytes, i0, i1, i2, i3, b0, b1, b2, b3, k0, k1, e0, e1]
    }

    /// Length of the whole frame.
    #[inline]
    pub(crate) fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.body_bytes as usize
    }
}

/// A reply's header, as its fields stand in the bytes; nothing in it is checked yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplyHeader {
    pub(crate) magic: u8,
    pub(crate) status: u8,
    pub(crate) kind: u8,
    pub(crate) options_bytes: u8,
    pub(crate) id: RequestId,
    pub(crate) body_bytes: u32,
    pub(crate) detail: u16,
    pub(crate) epoch: ShortEpoch,
}

impl ReplyHeader {
    #[inline]
    pub(crate) fn read(bytes: &[u8; HEADER_BYTES]) -> ReplyHeader {
        let [magic, status, kind, options_bytes, i0, i1, i2, i3, b0, b1, b2, b3, d0, d1, e0, e1] =
            *bytes;
        ReplyHeader {
            magic,
            status,
            kind,
            options_bytes,
            id: RequestId(u32::from_le_bytes([i0, i1, i2, i3])),
            body_bytes: u32::from_le_bytes([b0, b1, b2, b3]),
            detail: u16::from_le_bytes([d0, d1]),
            epoch: ShortEpoch(u16::from_le_bytes([e0, e1])),
        }
    }

    #[inline]
    pub(crate) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let [i0, i1, i2, i3] = self.id.0.to_le_bytes();
        let [b0, b1, b2, b3] = self.body_bytes.to_le_bytes();
        let [d0, d1] = self.detail.to_le_bytes();
        let [e0, e1] = self.epoch.0.to_le_bytes();
        let ReplyHeader { magic, status, kind, options_bytes, .. } = self;
        [magic, status, kind, options_bytes, i0, i1, i2, i3, b0, b1, b2, b3, d0, d1, e0, e1]
    }
}

/// The length of the frame that begins here, header included, once its length field has
/// arrived; the same for both directions. Neither magic nor limits are checked: that is for
/// the decoders, which a reader of untrusted bytes asks first.
#[inline]
pub fn peek_len(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(8..12)?;
    let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
    Some(HEADER_BYTES + length as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opcodes_and_kinds_are_what_their_numbers_say() {
        let mut opcodes = 0;
        for byte in 0..=u8::MAX {
            if let Some(opcode) = Opcode::from_byte(byte) {
                assert_eq!(opcode as u8, byte);
                assert!(Opcode::ALL.contains(&opcode));
                opcodes += 1;
            }
        }
        assert_eq!(opcodes, Opcode::ALL.len());
        for (number, kind) in ReplyKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
            assert_eq!(ReplyKind::from_byte(number as u8), Some(kind));
        }
        assert_eq!(ReplyKind::from_byte(ReplyKind::ALL.len() as u8), None);
    }

    #[test]
    fn magics_begin_no_other_dialect() {
        for magic in [REQUEST_MAGIC, REPLY_MAGIC] {
            assert!(![0x16, 0x80, b'*', b'\r', b'\n'].contains(&magic));
            assert!(!magic.is_ascii_alphabetic());
        }
    }

    #[test]
    fn peek_len_waits_for_the_length_field() {
        let mut frame = [0u8; HEADER_BYTES];
        frame[8..12].copy_from_slice(&300u32.to_le_bytes());
        for known in 0..12 {
            assert_eq!(peek_len(&frame[..known]), None);
        }
        assert_eq!(peek_len(&frame[..12]), Some(HEADER_BYTES + 300));
    }
}
