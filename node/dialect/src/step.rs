//! What a dialect makes of a client's bytes, for whoever executes requests.

use corelane_protocol::{Description, MonotonicUs, Reply, Request, RequestHead, Value, Version};

use crate::{memcached, resp};

/// One moment on both clocks: expiries that clients give as wall time are translated with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The node's monotonic clock.
    pub now: MonotonicUs,
    /// Milliseconds since 1970, UTC.
    pub unix_ms: u64,
}

/// What the front of a connection's input was.
#[derive(Debug)]
pub enum Taken<'a> {
    /// A whole command.
    Whole {
        /// Its length in the input.
        consumed: usize,
        /// What it asks for.
        step: Step<'a>,
    },
    /// A part of one.
    Incomplete {
        /// It is worth asking again when the input has this many bytes, at the earliest.
        needed: usize,
    },
}

/// What one command asks for.
#[derive(Debug)]
pub enum Step<'a> {
    /// Nothing more: what there is to say was appended to the output.
    Answered,
    /// One request.
    One(Part<'a>),
    /// Several requests, each for its key's core, that are answered together. They are not
    /// atomic. What was appended to the output already comes before their answer.
    Several {
        /// The requests.
        parts: Parts<'a>,
        /// How their replies become one.
        gather: Gather,
    },
    /// One request to every core of the node.
    Everywhere {
        /// What accompanies it.
        head: RequestHead,
        /// The request.
        request: Request<'a>,
        /// How the replies become one.
        gather: Gather,
    },
    /// The commands that [`resp::Session::next_queued`] gives, all together at the core of
    /// their slot, if nothing that [`resp::Session::take_watches`] tells has changed.
    Transaction {
        /// How "done" (before the answers to the commands), "condition failed" and failures
        /// are rendered.
        shape: Shape,
    },
    /// Something that concerns the node or its connections rather than its data.
    Control {
        /// What.
        control: Control<'a>,
        /// How the answers of the cores become one: text for each connection listed, a
        /// number of those closed, "done".
        gather: Gather,
    },
    /// The connection is closed once everything before is answered.
    Close,
}

/// What a client may ask of the node beside its data.
#[derive(Clone, Debug)]
pub enum Control<'a> {
    /// A line for each connection that is meant.
    ListClients(resp::ClientFilter<'a>),
    /// To close the connections that are meant.
    CloseClients(resp::ClientFilter<'a>),
    /// To change settings while the node runs.
    Configure(Settings),
    /// To end, as SIGTERM asks for it.
    Shutdown,
}

/// The settings that may be changed while the node runs: those to change, all of them or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What the process may take, in bytes.
    pub memory_bytes: Option<u64>,
    /// How room is made, in Redis's way of naming policies.
    pub policy: Option<&'static str>,
}

/// A request, and how its reply is rendered.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// What accompanies the request.
    pub head: RequestHead,
    /// The request.
    pub request: Request<'a>,
    /// How the reply is rendered.
    pub shape: Shape,
    /// What the answer repeats of the command: kept with the shape until the reply is there.
    pub echo: &'a [u8],
}

/// What is told of a value before its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueHead {
    /// How many bytes there are.
    pub bytes: usize,
    /// The caller's opaque bits.
    pub user_flags: u32,
    /// The version, where it was asked for.
    pub version: Option<Version>,
    /// What else is known, where that was asked for.
    pub description: Option<Description>,
}

impl ValueHead {
    /// That of a value in one piece.
    pub fn of(value: &Value<'_>) -> ValueHead {
        let Value { bytes, user_flags, version } = *value;
        ValueHead { bytes: bytes.len(), user_flags, version, description: None }
    }

    /// That of a value with its description.
    pub fn of_described(description: &Description) -> ValueHead {
        let Description { value_bytes, user_flags, version, .. } = *description;
        let bytes = usize::try_from(value_bytes).expect("a value is in memory");
        ValueHead { bytes, user_flags, version, description: Some(*description) }
    }
}

/// Requests of one command, in order, borrowed from its bytes.
#[derive(Clone, Debug)]
pub enum Parts<'a> {
    /// Of a RESP command.
    Resp(resp::Parts<'a>),
    /// Of a memcached command.
    Memcached(memcached::Parts<'a>),
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        match self {
            Parts::Resp(parts) => parts.next(),
            Parts::Memcached(parts) => parts.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Parts::Resp(parts) => parts.size_hint(),
            Parts::Memcached(parts) => parts.size_hint(),
        }
    }
}

impl ExactSizeIterator for Parts<'_> {}

/// How a reply is rendered: all that is remembered of a request until its reply is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// In RESP.
    Resp(resp::Shape),
    /// In memcached's text or meta protocol.
    Memcached(memcached::Shape),
}

impl Shape {
    /// Appends the rendering of a reply. `echo` is that of the part, here and below.
    pub fn render(self, echo: &[u8], reply: &Reply<'_>, moment: Moment, out: &mut Vec<u8>) {
        match self {
            Shape::Resp(shape) => shape.render(reply, moment, out),
            Shape::Memcached(shape) => shape.render(echo, reply, moment, out),
        }
    }

    /// Appends what comes before the bytes of a value. With the bytes and
    /// [`Shape::value_trailer`] it is what [`Shape::render`] makes of a [`Reply::Value`].
    pub fn value_header(self, echo: &[u8], head: ValueHead, moment: Moment, out: &mut Vec<u8>) {
        match self {
            Shape::Resp(shape) => shape.value_header(head.bytes, out),
            Shape::Memcached(shape) => shape.value_header(echo, head, moment, out),
        }
    }

    /// Appends what comes after the bytes of a value.
    pub fn value_trailer(self, out: &mut Vec<u8>) {
        match self {
            Shape::Resp(shape) => shape.value_trailer(out),
            Shape::Memcached(shape) => shape.value_trailer(out),
        }
    }
}

/// How the replies to the parts of one step become one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gather {
    /// Each is rendered by its part's shape, in the order of the parts.
    InOrder {
        /// What comes after the last.
        end: &'static [u8],
    },
    /// They are added up, joined or chosen from, as RESP has it.
    Resp(resp::Gather),
    /// They are added up, as memcached has it.
    Memcached(memcached::Gather),
}
