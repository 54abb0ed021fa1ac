//! Frames of protocol version 1, to and from bytes. No I/O, no allocation to decode: what
//! is decoded borrows from the bytes.
//!
//! A frame is a 16-byte header, options, a key and a value (see `SPEC.md`). A server calls
//! [`decode_request`] on the bytes that it has, as often as it gives
//! [`Decoded::Complete`], and appends what it answers with [`encode_reply`], or with
//! [`write_value`] where a value is in several pieces. A client calls [`encode_request`]
//! and [`decode_reply`].
//!
//! Every length is compared with its limit as soon as the header is there, so nobody waits
//! for, or makes room for, bytes that will be refused: [`Decoded::Rejected`] says how many
//! to discard as they come.

pub mod between_cores;
mod decode;
mod encode;
mod layout;
mod options;
mod refusal;
mod reply;

pub use decode::{
    DecodeLimits, Decoded, FrameAhead, Origin, PlainGet, RequestFrame, SetFront, decode_request,
    decode_set_front, look_ahead,
};
pub use encode::encode_request;
pub use layout::{
    FRAME_BYTES_MAX, HELLO_BYTES_MAX, Opcode, REPLY_MAGIC, REQUEST_MAGIC, ReplyKind, TTL_MS_MAX,
    peek_len,
};
pub use refusal::{EncodeError, Refusal, ReplyError};
pub use reply::{
    ReplyDecoded, ReplyFrame, decode_reply, encode_reply, write_bare_value, write_value,
    write_value_head,
};
