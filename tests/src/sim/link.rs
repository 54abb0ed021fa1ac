//! A fake socket between one client and the node: two byte streams with nothing between
//! them but delay.

use corelane_engine::{Closing, ConnectionId, Packet};

/// Where the node's end of a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At a core, known to its engine by this name.
    At {
        /// The core.
        core: usize,
        /// Its name there.
        id: ConnectionId,
    },
    /// On a lane to another core.
    Moving,
    /// Closed.
    Gone,
}

/// What the client did with its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientEnd {
    /// It may send more.
    Open,
    /// It has shut its writing side down and still reads.
    Finished,
    /// It has vanished.
    Broken,
}

/// Whether the node's world reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// It does.
    On,
    /// It was told to pause; this many pieces are still on their way.
    Stopping(u8),
    /// It is to give the link up; this many pieces are still on their way.
    Detaching(u8),
}

/// A packet that the engine gave to be sent. Its bytes are read as they go out, like a kernel
/// does that takes a part now and a part later.
#[derive(Debug)]
pub(crate) struct Sending {
    packet: Packet,
    done: usize,
}

impl Sending {
    pub(crate) fn new(packet: Packet) -> Sending {
        Sending { packet, done: 0 }
    }

    /// Moves the next bytes to `out`; whether that was the last of them.
    pub(crate) fn progress(&mut self, bytes_max: usize, out: &mut Vec<u8>) -> bool {
        let end = self.packet.len().min(self.done + bytes_max);
        let mut at = 0;
        for piece in self.packet.pieces() {
            let from = self.done.clamp(at, at + piece.len()) - at;
            let to = end.clamp(at, at + piece.len()) - at;
            out.extend_from_slice(&piece[from..to]);
            at += piece.len();
        }
        self.done = end;
        end == self.packet.len()
    }

    /// The packet, to be given back.
    pub(crate) fn into_packet(self) -> Packet {
        self.packet
    }
}

/// A fake socket.
#[derive(Debug)]
pub(crate) struct Link {
    /// Where the node's end is.
    pub(crate) place: Place,
    /// What the client did with its end.
    pub(crate) client_end: ClientEnd,
    /// Bytes on their way to the node, those before `taken` being there already.
    to_server: Vec<u8>,
    taken: usize,
    /// Bytes that reached an engine so far.
    pub(crate) delivered: u64,
    /// What [`Link::delivered`] was when the node began to drain.
    pub(crate) delivered_at_drain: Option<u64>,
    pub(crate) reading: Reading,
    pub(crate) end_reported: bool,
    pub(crate) sending: Option<Sending>,
    pub(crate) closing: Option<Closing>,
    /// Bytes that reached the client.
    pub(crate) to_client: Vec<u8>,
    /// After [`Link::to_client`] nothing more comes.
    pub(crate) server_finished: bool,
    /// Whether the client takes bytes from the network.
    pub(crate) client_reads: bool,
}

impl Link {
    pub(crate) fn new(place: Place) -> Link {
        Link {
            place,
            client_end: ClientEnd::Open,
            to_server: Vec::new(),
            taken: 0,
            delivered: 0,
            delivered_at_drain: None,
            reading: Reading::On,
            end_reported: false,
            sending: None,
            closing: None,
            to_client: Vec::new(),
            server_finished: false,
            client_reads: true,
        }
    }

    /// The client sends.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        assert_eq!(self.client_end, ClientEnd::Open, "a client sends before it finishes");
        if self.taken == self.to_server.len() {
            self.to_server.clear();
            self.taken = 0;
        }
        self.to_server.extend_from_slice(bytes);
    }

    /// Bytes sent and not yet delivered.
    pub(crate) fn unread(&self) -> usize {
        self.to_server.len() - self.taken
    }

    /// The next bytes for the node.
    pub(crate) fn take(&mut self, bytes_max: usize) -> std::ops::Range<usize> {
        let from = self.taken;
        self.taken += bytes_max.min(self.unread());
        from..self.taken
    }

    /// The bytes of a range that [`Link::take`] gave.
    pub(crate) fn bytes(&self, range: std::ops::Range<usize>) -> &[u8] {
        &self.to_server[range]
    }

    /// Whether the node's world would read a byte if there were one.
    pub(crate) fn is_read(&self) -> bool {
        match self.reading {
            Reading::On => true,
            Reading::Stopping(pieces) | Reading::Detaching(pieces) => pieces > 0,
        }
    }
}
