//! How alike two replies to the same command must be.

use corelane_tests::differences::{Likeness, resp_likeness};

use super::wire::Reply;

/// Milliseconds by which two servers may differ in what time it is for an entry.
const TIME_MS_MAX: i64 = 60_000;

/// Whether two replies to a command are as alike as they must be. `inner` has the commands
/// that an `EXEC` answers.
pub(crate) fn agree(command: &[Vec<u8>], inner: &[Vec<Vec<u8>>], a: &Reply, b: &Reply) -> bool {
    if !inner.is_empty() && a.elements.len() == inner.len() && b.elements.len() == inner.len() {
        let mut pairs = inner.iter().zip(a.elements.iter().zip(&b.elements));
        return pairs.all(|(command, (a, b))| agree(command, &[], a, b));
    }
    let name = command.first().map_or(&[][..], Vec::as_slice);
    match resp_likeness(name) {
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
