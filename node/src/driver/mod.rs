//! What a data core needs of the kernel, in one trait with two implementations: [`UringDriver`]
//! (completions) and [`EpollDriver`] (readiness, for laptops and containers). The event loop
//! above it is the same for both, and so is every rule about order and ownership:
//!
//! - A connection is known by the [`ConnectionId`] that the engine gave it. Its index names
//!   a slot in the driver too; the slot is free again after [`Event::Closed`] or
//!   [`Event::Detached`], which comes exactly once, when no operation is in flight any more.
//! - Received bytes arrive in pieces. Whoever handles [`Event::Received`] reads them with
//!   [`Piece::bytes`], which borrows the piece and not the driver, and gives the piece back
//!   with [`Driver::recycle`]. There are [`DriverConfig::buffers`] pieces; while all are
//!   out, nothing is received.
//! - At most one send a connection is under way. Its packet belongs to the driver until
//!   [`Event::Sent`], which brings it back, whole or failed: short sends are the driver's
//!   to finish.
//! - A send that the socket takes at once ends no wait: it is reported with whatever else
//!   happens, and at the end of the turn at the latest. Who goes on when it is over takes a
//!   turn that does not wait.
//! - [`Driver::turn`] is the only call that may block.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use corelane_engine::{Closing, ConnectionId, Packet};

pub use self::epoll::EpollDriver;
pub use self::uring::UringDriver;
pub use self::waker::Waker;

mod waker;

mod listener;

mod uring;

mod epoll;

/// What a driver is made for. Its memory is `buffers * buffer_bytes` for all connections
/// together (touched only as it is used), and at most 128 bytes for each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriverConfig {
    /// Connections at one time; the index of a [`ConnectionId`] stays below it.
    pub connections_max: u32,
    /// Receive buffers, a power of two, at most 32,768. One for each connection that is
    /// active at the same time is plenty; with fewer, connections wait for each other.
    pub buffers: u16,
    /// Bytes of one receive buffer.
    pub buffer_bytes: u32,
}

impl Default for DriverConfig {
    fn default() -> Self {
        Self { connections_max: 10_000, buffers: 1024, buffer_bytes: 4096 }
    }
}

/// Why a driver did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// io_uring is not to be had; the text says what to change.
    #[error(transparent)]
    Unavailable(#[from] corelane_uring::Unavailable),
    /// Something else that the driver needs could not be had.
    #[error("cannot set the network driver up: {0}")]
    Io(#[from] io::Error),
}

/// A piece of received bytes, to be given back to the driver that it came from.
#[derive(Debug)]
#[must_use = "a piece that is not recycled is lost to the driver"]
pub struct Piece(Storage);

/// Where the bytes of a piece are.
#[derive(Debug)]
enum Storage {
    /// In a buffer that the kernel filled.
    Ring(corelane_uring::Filled),
    /// In a buffer of the readiness loop.
    Pool { buffer: Box<[u8]>, length: usize },
}

impl Piece {
    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Storage::Ring(filled) => filled.bytes(),
            Storage::Pool { buffer, length } => &buffer[..*length],
        }
    }
}

/// What happened since the last turn.
#[derive(Debug)]
pub enum Event {
    /// A listener accepted a connection.
    Accepted {
        /// Its socket, non-blocking.
        socket: OwnedFd,
        /// Which listener, in the order of [`Driver::listen`].
        listener: usize,
    },
    /// Accepting failed (out of file descriptors, say) and is paused; the driver tries
    /// again by itself, time after time.
    AcceptPaused {
        /// Why.
        error: io::Error,
    },
    /// Accepting works again.
    AcceptResumed,
    /// Bytes arrived.
    Received {
        /// On this connection.
        connection: ConnectionId,
        /// Here.
        piece: Piece,
    },
    /// Nothing more will arrive: the peer shut its side down (`Ok`), or the connection is broken.
    ReceiveEnded {
        /// On this connection.
        connection: ConnectionId,
        /// How.
        result: io::Result<()>,
    },
    /// A send ended.
    Sent {
        /// On this connection.
        connection: ConnectionId,
        /// The packet, given back.
        packet: Packet,
        /// Whether all of it went out.
        result: io::Result<()>,
    },
    /// The connection's socket is closed and its slot free.
    Closed {
        /// Which.
        connection: ConnectionId,
    },
    /// The connection's receiving has stopped and its slot is free; all bytes that had
    /// arrived were reported before.
    Detached {
        /// Which.
        connection: ConnectionId,
        /// Its socket.
        socket: OwnedFd,
    },
    /// No connection will be accepted any more.
    ListeningEnded,
    /// Another thread called [`Waker::wake`].
    Woken,
}

impl Event {
    /// What arrived, if something did.
    pub(crate) fn arrival(&self) -> Option<(ConnectionId, &[u8])> {
        match self {
            Event::Received { connection, piece } => Some((*connection, piece.bytes())),
            _ => None,
        }
    }
}

/// What a driver has run short of, and what it has asked of the kernel, since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverCounters {
    /// Receives that ended, or could not be made, for want of a free buffer.
    pub buffers_exhausted: u64,
    /// Operations that found the submission queue full.
    pub submissions_delayed: u64,
    /// Turns in which more had completed than the completion queue holds.
    pub completions_withheld: u64,
    /// Sends of which the socket took a part only.
    pub sends_short: u64,
    /// System calls that wait or submit.
    pub system_calls: u64,
}

/// How long a turn may wait for something to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// At most this long.
    AtMost(Duration),
}

impl Wait {
    /// The shorter of the two.
    fn at_most(self, time: Duration) -> Self {
        match self {
            Self::No => Self::No,
            Self::AtMost(other) => Self::AtMost(time.min(other)),
        }
    }
}

/// See the module. All calls but [`Driver::turn`] only queue work or take microseconds.
pub trait Driver {
    /// Starts accepting on a bound, listening socket.
    fn listen(&mut self, listener: OwnedFd) -> io::Result<()>;

    /// Stops accepting on all listeners and closes them. Connections that clients have made by
    /// now are still reported; [`Event::ListeningEnded`] follows, if there was a listener.
    fn stop_listening(&mut self);

    /// Takes a socket over and starts receiving on it.
    ///
    /// # Errors
    /// The driver has no slot for it (its table is full); the socket is closed.
    fn adopt(&mut self, connection: ConnectionId, socket: OwnedFd) -> io::Result<()>;

    /// Stops receiving (bytes already on their way may still be reported).
    fn pause(&mut self, connection: ConnectionId);

    /// Receives again.
    fn resume(&mut self, connection: ConnectionId);

    /// Sends a whole packet. There must be no send under way on this connection.
    fn send(&mut self, connection: ConnectionId, packet: Packet);

    /// A number that grows while the peer takes what is sent, as far as the kernel tells it.
    fn taken_by_peer(&mut self, connection: ConnectionId) -> Option<u64>;

    /// Closes; [`Event::Closed`] follows.
    fn close(&mut self, connection: ConnectionId, how: Closing);

    /// Gives the socket back without closing it; [`Event::Detached`] follows. There must be
    /// no send under way.
    fn detach(&mut self, connection: ConnectionId);

    /// Gives a piece back.
    ///
    /// # Panics
    /// When the piece came from another driver.
    fn recycle(&mut self, piece: Piece);

    /// Hands everything queued to the kernel, waits, and appends what happened to `events`.
    ///
    /// # Errors
    /// Only what no retry can mend; the core stops.
    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()>;

    /// What it has counted.
    fn counters(&self) -> DriverCounters;
}

#[cfg(test)]
mod tests;
