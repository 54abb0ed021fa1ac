//! How alike two replies to the same command must be.

use super::wire::Reply;

/// Milliseconds by which two servers may differ in what time it is for an entry.
const TIME_MS_MAX: i64 = 60_000;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Likeness {
    /// All bytes.
    Bytes,
    /// Numbers that depend on the moment, in seconds or milliseconds.
    Time { unit_ms: i64 },
    /// The elements, in any order.
    Set,
    /// Whether it is an error, nothing, or what kind of answer.
    Shape,
}

/// Which commands are not compared byte for byte.
fn likeness(command: &[Vec<u8>]) -> Likeness {
    let name = command.first().map(|name| name.to_ascii_lowercase()).unwrap_or_default();
    match name.as_slice() {
        b"ttl" => Likeness::Time { unit_ms: 1_000 },
        b"expiretime" => Likeness::Time { unit_ms: 1_000 },
        b"pttl" | b"pexpiretime" => Likeness::Time { unit_ms: 1 },
        // Both count entries whose time is over, until they come across them.
        b"dbsize" => Likeness::Shape,
        b"keys" => Likeness::Set,
        b"info" | b"client" | b"command" | b"scan" | b"randomkey" | b"time" | b"memory"
        | b"object" | b"hello" => Likeness::Shape,
        _ => Likeness::Bytes,
    }
}

/// Whether two replies to a command are as alike as they must be. `inner` has the commands
/// that an `EXEC` answers.
pub(crate) fn agree(command: &[Vec<u8>], inner: &[Vec<Vec<u8>>], a: &Reply, b: &Reply) -> bool {
    if !inner.is_empty() && a.elements.len() == inner.len() && b.elements.len() == inner.len() {
        let mut pairs = inner.iter().zip(a.elements.iter().zip(&b.elements));
        return pairs.all(|(command, (a, b))| agree(command, &[], a, b));
    }
    match likeness(command) {
        Likeness::Bytes => a == b,
        // Errors are told in the same words whatever is asked.
        _ if a.is_error() || b.is_error() => a == b,
        Likeness::Time { unit_ms } => match (a.integer(), b.integer()) {
            // What is negative is no time.
            (Some(a), Some(b)) if a >= 0 && b >= 0 => {
                a.abs_diff(b) <= (TIME_MS_MAX / unit_ms) as u64
            }
            _ => a == b,
        },
        Likeness::Set => {
            let sorted = |reply: &Reply| {
                let mut elements = reply.elements.clone();
                elements.sort();
                elements
            };
            a.kind == b.kind && sorted(a) == sorted(b)
        }
        Likeness::Shape => a.is_null() == b.is_null() && (a.is_null() || a.kind == b.kind),
    }
}
