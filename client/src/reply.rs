//! Replies that own what they say, since a future may look at them long after the bytes
//! they came in are gone.

use std::time::Duration;

use bytes::Bytes;
use corelane_protocol::{MonotonicUs, Redirect, Remaining, Reply, Status, Version};

use crate::error::{Disconnect, Error, Executed};

/// An entry's value and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The bytes.
    pub bytes: Bytes,
    /// The caller's opaque bits, as they were set.
    pub user_flags: u32,
    /// The version, where it was asked for.
    pub version: Option<Version>,
}

/// [`Reply`], owned. A welcome is not among them: it is read where hello was said.
#[derive(Clone, Debug)]
pub(crate) enum OwnedReply {
    Done { version: Option<Version> },
    Value(Value),
    Number { number: u64, version: Option<Version> },
    Remaining(Remaining),
    Stats { core: u16, text: Bytes },
    Pong { clock: MonotonicUs },
    Welcome,
    End,
    Busy { retry_after: Duration },
    Failed { status: Status, message: Box<str> },
    Topology { table: Bytes },
}

impl OwnedReply {
    /// Takes a borrowed reply over; `own` turns long runs of bytes into owned ones.
    pub(crate) fn from_borrowed(reply: &Reply<'_>, own: impl FnOnce(&[u8]) -> Bytes) -> OwnedReply {
        match *reply {
            Reply::Done { version } => OwnedReply::Done { version },
            Reply::Value(value) => OwnedReply::Value(Value {
                bytes: own(value.bytes),
                user_flags: value.user_flags,
                version: value.version,
            }),
            Reply::Number { number, version } => OwnedReply::Number { number, version },
            Reply::Remaining(remaining) => OwnedReply::Remaining(remaining),
            Reply::Stats { core, text } => OwnedReply::Stats { core, text: own(text) },
            Reply::Pong { clock } => OwnedReply::Pong { clock },
            Reply::Welcome(_) => OwnedReply::Welcome,
            Reply::End => OwnedReply::End,
            Reply::Busy { retry_after_us } => {
                OwnedReply::Busy { retry_after: Duration::from_micros(u64::from(retry_after_us)) }
            }
            Reply::Failed { status, message } => {
                OwnedReply::Failed { status, message: message.into() }
            }
            // For one node this is the end of it; whoever knows several asks for the topology.
            Reply::Redirect(Redirect { redirection, address, .. }) => {
                OwnedReply::Failed { status: redirection.status(), message: address.into() }
            }
            Reply::Topology { table } => OwnedReply::Topology { table: own(table) },
            Reply::Described { .. } | Reply::Keys(_) | Reply::Key { .. } => {
                unreachable!("only cores of a node decode such replies")
            }
        }
    }

    /// What a reply means for which the operation has no result of its own.
    ///
    /// # Panics
    /// On a reply that is no failure: those were compared with the request when they came.
    pub(crate) fn into_error(self) -> Error {
        match self {
            OwnedReply::Busy { retry_after } => Error::Busy { retry_after },
            OwnedReply::Failed { status, message } => match status {
                Status::TooLate => Error::Timeout { executed: Executed::No },
                Status::Unauthorized => Error::Unauthorized,
                Status::GoingAway => {
                    Error::Disconnected { reason: Disconnect::GoingAway, executed: Executed::No }
                }
                _ => Error::Refused { status, message },
            },
            other => unreachable!("{other:?} passed the check of kinds as a failure"),
        }
    }
}
