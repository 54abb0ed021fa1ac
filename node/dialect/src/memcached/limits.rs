//! Limits of the text protocol.

use corelane_protocol::limits::MULTI_GET_BYTES_MAX;

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 250;

/// Longest command line, in bytes without what ends it. Gets may be longer.
pub const LINE_BYTES_MAX: usize = 2_048;

/// Longest line of a get, in bytes without what ends it: any number of keys may stand on it.
pub const GET_LINE_BYTES_MAX: usize = MULTI_GET_BYTES_MAX;

/// Longest opaque token of a meta command, in bytes with its `O`.
pub const OPAQUE_BYTES_MAX: usize = 32;

/// Most words of a meta command: the command, the key, and flags.
pub const META_WORDS_MAX: usize = 19;

/// Longest token in an authentication, in bytes: a name, a space and the node's token.
pub const AUTHENTICATION_BYTES_MAX: usize = 2_048;
