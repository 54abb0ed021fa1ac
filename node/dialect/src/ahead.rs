//! The commands that nearly all commands are, told by their bytes alone: a get of one key, and
//! a set of one whatever was there. Whoever executes them can look ahead over a pipeline of them,
//! and needs no [`crate::Step`] for any.
//!
//! ```text
//! session ─► Manner ─ Manner::next, over and over ─► Ahead ─► looked up together
//!                                                      └────► executed, one by one
//! ```
//!
//! Only the one form is known that clients write; every other is left to the session, which
//! makes the same requests of it.

use corelane_protocol::{OldValue, Request, RequestHead, Set, SetCondition, Space, Ttl};

use crate::step::{Moment, Part, Shape};
use crate::{memcached, resp};

/// Bytes of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub(crate) start: u32,
    pub(crate) bytes: u32,
}

impl Span {
    /// `start` and `bytes` are within a command that is short, as all that are told here.
    #[inline]
    pub(crate) fn new(start: usize, bytes: usize) -> Span {
        Span { start: start as u32, bytes: bytes as u32 }
    }

    /// The bytes, of the command that they are of.
    #[inline]
    pub fn of(self, command: &[u8]) -> &[u8] {
        &command[self.start as usize..][..self.bytes as usize]
    }
}

/// What a command that has arrived asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// Its key.
    pub key: Span,
    /// What is asked.
    pub asks: Asks,
}

/// What a command asks of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// Its value.
    Get,
    /// That it is this from now on.
    Set {
        /// This.
        value: Span,
        /// The caller's opaque bits.
        user_flags: u32,
        /// For how long.
        ttl: Ttl,
    },
    /// Something else, if it is a key at all: the session finds out.
    Other,
}

/// How the plain commands of a connection are to be taken, as long as nothing else was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// The space of their keys.
    pub space: Space,
    /// How a get is answered.
    pub get: Shape,
    /// How a set is answered.
    pub set: Shape,
    /// Longest value, in bytes.
    pub(crate) value_bytes_max: usize,
}

impl Manner {
    /// The command at the front of the input, and its length in bytes; none where it is
    /// not all there, or nothing is known of it.
    #[inline]
    pub fn next(&self, input: &[u8], moment: Moment) -> Option<(usize, Ahead)> {
        match self.get {
            Shape::Resp(_) => resp::ahead(input, self.value_bytes_max),
            Shape::Memcached(_) => memcached::ahead(input, self.value_bytes_max, moment),
        }
    }

    /// The request that a command is, as the session would give it.
    pub fn part<'a>(&self, ahead: &Ahead, command: &'a [u8]) -> Option<Part<'a>> {
        let key = ahead.key.of(command);
        let (request, shape) = match ahead.asks {
            Asks::Get => (Request::Get { key, least_version: None }, self.get),
            Asks::Set { value, user_flags, ttl } => {
                let value = value.of(command);
                let (condition, old) = (SetCondition::Always, OldValue::Omit);
                let set = Set { key, value, user_flags, ttl, condition, old };
                (Request::Set(set), self.set)
            }
            Asks::Other => return None,
        };
        let echo = match shape {
            Shape::Memcached(memcached::Shape::Value { .. }) => key,
            _ => b"",
        };
        let head = RequestHead { space: self.space, ..RequestHead::default() };
        Some(Part { head, request, shape, echo })
    }
}
