//! What can go wrong, one enum a family, each naming the culprit: [`Error`] for a request,
//! [`ConnectError`] for opening a connection, [`Disconnect`] for losing one,
//! [`ProtocolError`] for a node that speaks nonsense.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::Status;
use corelane_protocol::wire::ReplyError;
use corelane_ring::{CoreMapError, TableError};
use thiserror::Error;

use crate::fleet::member::NodeHealth;
use crate::fleet::spec::NodesError;

/// Whether a request that failed may have taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Executed {
    /// Certainly not: it never left whole, or the node said that it touched nothing.
    No,
    /// Nobody can tell: it left, and no answer came.
    Maybe,
}

/// Why a request has no result.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// Its time was over before an answer came.
    #[error("no answer within the deadline ({})", words(*.executed))]
    Timeout {
        /// Whether it may have taken effect.
        executed: Executed,
    },
    /// The connection broke while it was under way.
    #[error("connection lost: {reason} ({})", words(*.executed))]
    Disconnected {
        /// What broke it.
        reason: Disconnect,
        /// Whether it may have taken effect.
        executed: Executed,
    },
    /// There is no connection, and none could be made. Nothing was sent.
    #[error(transparent)]
    Unreachable(ConnectError),
    /// The node that owns the key is taken to be down, and nothing was sent. A delete is
    /// remembered, and made before the node is used again.
    #[error("node {node} is down")]
    NodeDown {
        /// Its name.
        node: Box<str>,
    },
    /// The node is overloaded, and executed nothing.
    #[error("the node is busy; retry after {retry_after:?}")]
    Busy {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// The node understood the request, and refused it without touching anything.
    #[error("refused: {status:?}{}{message}", if .message.is_empty() { "" } else { ": " })]
    Refused {
        /// The node's reason.
        status: Status,
        /// The same in words, perhaps empty.
        message: Box<str>,
    },
    /// The key is longer than the node accepts. Nothing was sent.
    #[error("a key of {bytes} bytes is over the limit of {limit}")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
        /// The longest that is accepted.
        limit: usize,
    },
    /// The value is longer than the node accepts. Nothing was sent.
    #[error("a value of {bytes} bytes is over the limit of {limit}")]
    ValueTooLarge {
        /// Its length.
        bytes: usize,
        /// The longest that is accepted.
        limit: usize,
    },
    /// The time to live or delay is longer than the protocol can say. Nothing was sent.
    #[error("the time to live or delay is out of range")]
    TimeOutOfRange,
    /// The native protocol has no such request (a set on a condition on the value). Nothing
    /// was sent.
    #[error("the native protocol has no such request")]
    Unsupported,
    /// The node sent a topology that cannot be.
    #[error("the node's topology makes no sense: {0}")]
    Topology(#[from] TableError),
    /// The node wants a token, or another one.
    #[error("the node does not accept the token")]
    Unauthorized,
    /// Sixteen million futures of this connection finished, and were neither polled nor
    /// dropped since. Nothing was sent.
    #[error("too many finished requests whose futures were neither polled nor dropped")]
    TooManyOpenRequests,
}

impl Error {
    /// Whether the request may have taken effect all the same.
    pub fn executed(&self) -> Executed {
        match *self {
            Error::Timeout { executed } | Error::Disconnected { executed, .. } => executed,
            Error::Unreachable(_)
            | Error::NodeDown { .. }
            | Error::Busy { .. }
            | Error::Refused { .. }
            | Error::KeyTooLong { .. }
            | Error::ValueTooLarge { .. }
            | Error::TimeOutOfRange
            | Error::Unsupported
            | Error::Topology(_)
            | Error::Unauthorized
            | Error::TooManyOpenRequests => Executed::No,
        }
    }
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Error {
        match error.reason {
            ConnectFailure::Unauthorized => Error::Unauthorized,
            _ => Error::Unreachable(error),
        }
    }
}

fn words(executed: Executed) -> &'static str {
    match executed {
        Executed::No => "not executed",
        Executed::Maybe => "it may have been executed",
    }
}

/// Why a connection ended.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Disconnect {
    /// The node closed it.
    #[error("closed by the node")]
    Closed,
    /// The system reported an error.
    #[error("{0}")]
    Io(Arc<io::Error>),
    /// The node is shutting down and takes no new requests.
    #[error("the node is going away")]
    GoingAway,
    /// The node gave a reason for ending it.
    #[error("ended by the node: {status:?}{}{message}", if .message.is_empty() { "" } else { ": " })]
    Refused {
        /// The node's reason.
        status: Status,
        /// The same in words, perhaps empty.
        message: Arc<str>,
    },
    /// A reply stayed away for long after its deadline.
    #[error("the node does not answer")]
    Silent,
    /// The node sent something that makes no sense; nothing after it can be trusted.
    #[error("the node violates the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// This client was dropped, or the runtime that it was made on has ended.
    #[error("the client was shut down")]
    Stopped,
}

impl From<io::Error> for Disconnect {
    fn from(error: io::Error) -> Disconnect {
        Disconnect::Io(Arc::new(error))
    }
}

/// What a node sent that it must not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Bytes that are not a reply.
    #[error("{0}")]
    Garbled(#[from] ReplyError),
    /// A reply to a request that was not made, or was answered before.
    #[error("reply to request {id:#010x}, which awaits none")]
    UnknownId {
        /// The id that it carries.
        id: u32,
    },
    /// A reply of a kind that its request cannot have.
    #[error("reply to request {id:#010x} of a kind that was not asked for")]
    WrongKind {
        /// The id that it carries.
        id: u32,
    },
    /// A part that was not asked for, came twice, or is missing at the end.
    #[error("the parts of the reply to request {id:#010x} are not those asked for")]
    WrongParts {
        /// The id that they carry.
        id: u32,
    },
    /// A notice of an unknown sort.
    #[error("unknown notice")]
    UnknownNotice,
}

/// A client ended, and nodes may have what it deleted, or what a stand-in was given since.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{} nodes were not reached, and are owed deletes", nodes.len())]
pub struct DeletesOwed {
    /// How they are; each is owed something.
    pub nodes: Vec<NodeHealth>,
}

/// An attempt to connect that failed.
#[derive(Clone, Debug, Error)]
#[error("cannot connect to {address}: {reason}")]
pub struct ConnectError {
    /// The address, as it was given.
    pub address: Arc<str>,
    /// Why.
    pub reason: ConnectFailure,
}

/// Why an attempt to connect failed.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ConnectFailure {
    /// The address is neither `host:port` nor `unix:PATH`.
    #[error("an address is host:port or unix:PATH")]
    Address,
    /// The list of nodes makes no sense.
    #[error(transparent)]
    Nodes(#[from] NodesError),
    /// The token is longer than 1,024 bytes.
    #[error("the token is longer than 1024 bytes")]
    TokenTooLong,
    /// The system reported an error.
    #[error("{0}")]
    Io(Arc<io::Error>),
    /// No welcome in time.
    #[error("no welcome within {0:?}")]
    Timeout(Duration),
    /// The node closed the connection instead of answering the hello.
    #[error("the node closed the connection")]
    Closed,
    /// The native protocol has no such request (a set on a condition on the value). Nothing
    /// was sent.
    #[error("the native protocol has no such request")]
    Unsupported,
    /// The node wants a token, or another one.
    #[error("the node does not accept the token")]
    Unauthorized,
    /// The node answered the hello with a refusal.
    #[error("refused: {status:?}{}{message}", if .message.is_empty() { "" } else { ": " })]
    Refused {
        /// The node's reason.
        status: Status,
        /// The same in words, perhaps empty.
        message: Arc<str>,
    },
    /// The node speaks a version that this client does not.
    #[error("the node speaks version {0} of the protocol")]
    Version(u16),
    /// What answered is not a Corelane node, or one that is broken.
    #[error("not a Corelane node: {0}")]
    Protocol(#[from] ProtocolError),
    /// The last connection was made and broke at once; the next attempt waits a little.
    #[error("the last connection broke soon after it was made")]
    ShortLived,
    /// The welcome contradicts itself: no cores, or slots of a core that does not exist.
    #[error("the node's table of cores makes no sense: {0}")]
    Layout(#[from] CoreMapError),
    /// The runtime that this client was made on has ended.
    #[error("the client was shut down")]
    Stopped,
}

impl From<io::Error> for ConnectFailure {
    fn from(error: io::Error) -> ConnectFailure {
        ConnectFailure::Io(Arc::new(error))
    }
}
