//! What the HTTP port may take.
//!
//! ```text
//!   heads under way      CONNECTIONS_MAX × HEAD_BYTES_MAX
//! + bodies and answers   bytes_under_way, and a small multiple where they are escaped in JSON
//! ```

use crate::control::connections::Bounds;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 64;

/// Longest head of a request, in bytes: the longest key with every byte percent-encoded, and
/// other headers.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Bytes of bodies and answers that may be under way together, where values may be this long;
/// further requests wait.
pub(crate) const fn bytes_under_way(value_bytes_max: usize) -> usize {
    const LEAST: usize = 2 << 20;
    if value_bytes_max > LEAST { value_bytes_max } else { LEAST }
}

/// Most keys of one request.
pub(super) const KEYS_MAX: usize = 1_024;

/// Longest body that is JSON, in bytes: every byte of a value may be written as `\u00XX`.
pub(super) const fn json_bytes_max(value_bytes_max: usize) -> usize {
    6 * value_bytes_max + 1_024
}

/// What connections may take, where values may be this long.
pub(super) const fn bounds(value_bytes_max: usize) -> Bounds {
    Bounds {
        name: "HTTP",
        connections_max: CONNECTIONS_MAX,
        request_bytes_max: HEAD_BYTES_MAX + json_bytes_max(value_bytes_max),
    }
}
