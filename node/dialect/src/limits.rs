//! The limits of what a dialect's client may send, and what a connection may hold for it.

/// Longest line: an inline command, or a header within an array, in bytes (Redis's own).
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// Most arguments of one command (Redis's own, from before it was raised to what no command
/// can use).
pub const ARGUMENTS_MAX: usize = 1 << 20;

/// What a command may take beyond two values of the longest kind, in bytes: keys, headers,
/// and the many small values of an `MSET`.
pub const COMMAND_BYTES_SPARE: usize = 1 << 20;

/// Entries that one step of a walk looks at where the client does not say (Redis's own).
pub const SCAN_COUNT_DEFAULT: u32 = 10;

/// Most entries that one step of a walk looks at, whatever the client says: a step must not
/// hold up a core.
pub const SCAN_COUNT_MAX: u32 = 1_000;

/// Commands that one transaction may hold.
pub const QUEUED_COMMANDS_MAX: usize = 10_000;

/// Bytes that the commands of one transaction may have.
pub const QUEUED_BYTES_MAX: usize = 8 << 20;

/// Keys that one connection may watch.
pub const WATCHES_MAX: usize = 1_000;

/// Bytes of a connection's name, and of what its library calls itself.
pub const NAME_BYTES_MAX: usize = 1_024;

/// Steps that one match of a glob pattern may take. A longer match is none: patterns with
/// many stars would hold up a core.
pub const GLOB_STEPS_MAX: usize = 100_000;
