//! What cores send each other. Requests and replies travel as protocol frames, so that
//! one codec serves the network and the mesh.

use crate::ConnectionId;
use crate::packet::MailedLeases;

/// A message between two cores of one node.
#[derive(Debug)]
pub enum Mail {
    /// Request frames of a connection of the sender; each key belongs to the receiver.
    Execute {
        /// The sender's connection.
        connection: ConnectionId,
        /// Frames in the order of the connection, the first and the last of them perhaps in
        /// part: a large set comes in several batches.
        frames: Vec<u8>,
    },
    /// The set in whose middle the last batch of a connection ended will not go on.
    Abandon {
        /// The sender's connection.
        connection: ConnectionId,
    },
    /// The answer to [`Mail::Abandon`].
    Abandoned,
    /// The answer to [`Mail::Execute`].
    Executed {
        /// The receiver's connection.
        connection: ConnectionId,
        /// Reply frames, ready to be sent.
        replies: Vec<u8>,
        /// Large values that belong into them.
        leases: Option<Box<MailedLeases>>,
        /// Frames from the end of the batch that were not executed, because the replies
        /// had reached [`crate::limits::MAIL_REPLY_BYTES_MAX`].
        rest: Vec<u8>,
    },
}

// Lanes have slots of 64 bytes.
const _: () = assert!(size_of::<Mail>() <= 64);
