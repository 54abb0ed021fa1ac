//! The limits of what a dialect's client may send, and what a connection may hold for it.

/// Longest line: an inline command, or a header within an array, in bytes (Redis's own).
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// Most arguments of one command (Redis's own, from before it was raised to what no command
/// can use).
pub const ARGUMENTS_MAX: usize = 1 << 20;

/// What a command may take beyond two values of the longest kind, in bytes: keys, headers,
/// and the many small values of an `MSET`.
pub const COMMAND_BYTES_SPARE: usize = 1 << 20;
