//! The limits of protocol version 1. A node may agree to less in its hello, never to more.

/// The protocol version that this crate speaks.
pub const VERSION: u16 = 1;
/// Bytes of the fixed header of every frame.
pub const HEADER_BYTES: usize = 16;
/// Longest key, in bytes. Keys of no bytes are allowed.
pub const KEY_BYTES_MAX: usize = 16_384;
/// Longest block of options of one frame, in bytes (its length is one byte).
pub const OPTIONS_BYTES_MAX: usize = 255;
/// Longest value that any node may be configured to accept, in bytes.
pub const VALUE_BYTES_MAX: usize = 64 << 20;
/// Value limit of a node that was not configured otherwise, in bytes.
pub const VALUE_BYTES_DEFAULT: usize = 1 << 20;
/// Most keys of one multi-get.
pub const MULTI_GET_KEYS_MAX: usize = 1_024;
/// Longest body of a multi-get, in bytes: what its keys and their lengths may take together.
pub const MULTI_GET_BYTES_MAX: usize = 1 << 20;
/// Longest access token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 1_024;
/// Longest name of a node, in bytes.
pub const NODE_NAME_BYTES_MAX: usize = 255;
/// Longest topology, in bytes: a node does not serve a longer one.
pub const TOPOLOGY_BYTES_MAX: usize = 1 << 20;
/// The request id of frames that a node sends unasked (going away). Requests must not use it.
pub const NOTICE_ID: u32 = u32::MAX;

/// Longest time that an entry lives on a node that stands in for its owner, in milliseconds.
pub const STAND_IN_TTL_MS_MAX: u64 = 5 * 60 * 1_000;

/// Bytes before the value in the answer to [`crate::Request::GetLeft`]: the milliseconds that the
/// entry has to live, all bits set where it never expires.
pub const LEFT_HEAD_BYTES: usize = 8;
