//! How replies are rendered, with memcached's words for what goes wrong.

use corelane_protocol::{Redirect, Reply, Status, Version};

use super::meta;
use crate::number;
use crate::step::{Moment, ValueHead};

/// How the reply to one request is rendered. `echo` in its methods is what the answer
/// repeats of the command: the key of a get, the line of a meta command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The value under its key, if there is one; `echo` is the key.
    Value {
        /// Whether the version is told.
        unique: Unique,
        /// Whether this is the whole answer.
        place: Place,
    },
    /// `STORED`, or `NOT_STORED` where a condition did not hold.
    Stored,
    /// The same for compare-and-set, which tells "changed" from "absent".
    Swapped,
    /// `DELETED` or `NOT_FOUND`.
    Deleted,
    /// `TOUCHED` or `NOT_FOUND`.
    Touched,
    /// The number or `NOT_FOUND`.
    Counted,
    /// The value was too large to be taken, whatever became of the entry it was for.
    TooLarge,
    /// Of a meta command; `echo` is its line.
    Meta(meta::Shape),
}

/// Whether a get tells the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unique {
    /// `get`, `gat`.
    Untold,
    /// `gets`, `gats`.
    Told,
}

/// Whether a value is the only one asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `END` follows at once.
    Only,
    /// `END` follows after the last.
    OneOfSeveral,
}

/// What comes after the last value.
pub(super) const END: &[u8] = b"END\r\n";

impl Shape {
    /// Appends the rendering of a reply.
    pub fn render(self, echo: &[u8], reply: &Reply<'_>, moment: Moment, out: &mut Vec<u8>) {
        match (self, reply) {
            (Shape::Meta(shape), _) => shape.render(echo, reply, moment, out),
            (_, Reply::Value(value)) => {
                self.value_header(echo, ValueHead::of(value), moment, out);
                out.extend_from_slice(value.bytes);
                self.value_trailer(out);
            }
            (Shape::TooLarge, _) => out.extend_from_slice(TOO_LARGE),
            // What cannot be had is not there: a cache may forget anything at any time, and
            // between values there is no way to say more.
            (Shape::Value { place: Place::OneOfSeveral, .. }, _) => {}
            (_, Reply::Failed { status, message }) => self.failure(*status, message, out),
            (_, Reply::Busy { .. }) => out.extend_from_slice(BUSY),
            (_, Reply::Redirect(redirect)) => elsewhere(redirect, out),
            (Shape::Counted, Reply::Number { number, .. }) => {
                number::unsigned(*number, out);
                out.extend_from_slice(b"\r\n");
            }
            (Shape::Deleted, _) => out.extend_from_slice(b"DELETED\r\n"),
            (Shape::Touched, _) => out.extend_from_slice(b"TOUCHED\r\n"),
            (Shape::Stored | Shape::Swapped, _) => out.extend_from_slice(b"STORED\r\n"),
            (Shape::Value { .. } | Shape::Counted, _) => {
                unreachable!("{reply:?} does not answer a request of shape {self:?}")
            }
        }
    }

    /// Appends what comes before the bytes of a value.
    pub fn value_header(self, echo: &[u8], head: ValueHead, moment: Moment, out: &mut Vec<u8>) {
        match self {
            Shape::Meta(shape) => shape.value_header(echo, head, moment, out),
            _ => {
                out.extend_from_slice(b"VALUE ");
                out.extend_from_slice(echo);
                out.push(b' ');
                number::unsigned(head.user_flags.into(), out);
                out.push(b' ');
                number::unsigned(head.bytes as u64, out);
                if matches!(self, Shape::Value { unique: Unique::Told, .. }) {
                    out.push(b' ');
                    number::unsigned(head.version.map_or(0, |Version(version)| version), out);
                }
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Appends what comes after the bytes of a value.
    pub fn value_trailer(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n");
        if matches!(self, Shape::Value { place: Place::Only, .. }) {
            out.extend_from_slice(END);
        }
    }

    fn failure(self, status: Status, message: &str, out: &mut Vec<u8>) {
        let text: &[u8] = match (self, status) {
            (Shape::Value { .. }, Status::NotFound) => END,
            (Shape::Stored, Status::NotFound | Status::ConditionFailed) => b"NOT_STORED\r\n",
            (Shape::Swapped, Status::ConditionFailed) => b"EXISTS\r\n",
            (_, Status::NotFound) => b"NOT_FOUND\r\n",
            _ => return failed(status, message, out),
        };
        out.extend_from_slice(text);
    }
}

pub(super) const TOO_LARGE: &[u8] = b"SERVER_ERROR object too large for cache\r\n";
pub(super) const BUSY: &[u8] = b"SERVER_ERROR overloaded, try again\r\n";

/// Appends where a request belongs, for the person who reads it: the protocol has no redirection.
pub(super) fn elsewhere(redirect: &Redirect<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"SERVER_ERROR the node at ");
    out.extend_from_slice(redirect.address.as_bytes());
    out.extend_from_slice(b" has the key\r\n");
}

/// Appends the words for what neither depends on the command nor happens in the normal course.
pub(super) fn failed(status: Status, message: &str, out: &mut Vec<u8>) {
    let text: &[u8] = match status {
        Status::ValueTooLarge => TOO_LARGE,
        Status::OutOfMemory => b"SERVER_ERROR out of memory storing object\r\n",
        Status::NotANumber => b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
        _ => {
            out.extend_from_slice(b"SERVER_ERROR ");
            out.extend_from_slice(message.as_bytes());
            b"\r\n"
        }
    };
    out.extend_from_slice(text);
}
