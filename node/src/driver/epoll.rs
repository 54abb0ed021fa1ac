//! The driver on readiness notifications (mio, which is epoll here), for hosts without
//! io_uring.
//!
//! Notifications are edge-triggered: each says once that something may be possible, and the
//! connection remembers it until the kernel says that it no longer is. Connections that may
//! be read wait in line, and each gets one buffer a turn, so that none holds up the others.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use corelane_engine::{ConnectionId, Packet};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use super::listener::Listeners;
use crate::system;

use super::{
    Closing, Driver, DriverConfig, DriverCounters, Event, Piece, StartError, Storage, Wait, Waker,
};

/// Notifications taken in one turn; the kernel keeps the rest for the next.
const NOTIFICATIONS_A_TURN: usize = 1024;

/// The waker's token; listeners count down from it, connections up from zero.
const WAKER: Token = Token(usize::MAX);

/// See the module.
pub struct EpollDriver {
    poll: Poll,
    notifications: Events,
    /// Keeps the descriptor that the poll watches.
    _waker: Waker,
    connections: Vec<Option<Connection>>,
    connections_max: usize,
    /// Connections that may be read, each once.
    readable: VecDeque<ConnectionId>,
    /// Connections with something to send that may be written.
    writable: VecDeque<ConnectionId>,
    listeners: Listeners,
    buffers: Buffers,
    /// Events that are reported by the next turn.
    ready: Vec<Event>,
    counters: DriverCounters,
}

struct Connection {
    generation: u32,
    socket: OwnedFd,
    receiving: Receiving,
    peer: Peer,
    wish: Wish,
    writing: Writing,
    ending: Ending,
    outgoing: Option<Outgoing>,
}

// An idle connection costs this and nothing else here.
const _: () = assert!(size_of::<Option<Connection>>() <= 80);

/// What is known of the socket's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    /// Nothing is there; the kernel will tell.
    Waiting,
    /// Something may be there, and the connection is in line to be read.
    InLine,
    /// Something may be there, and nobody wants to read it at the moment.
    Pending,
    /// Nothing more will arrive.
    Over,
}

/// What the kernel has told of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    /// It may send; the kernel will tell when it has.
    Sending,
    /// It has ended the connection or its half: the kernel has told all it will.
    Finished,
}

/// What the event loop wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Receive,
    Pause,
}

/// What is known of the socket's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    /// The socket may take bytes.
    Possible,
    /// The socket is full; the kernel will tell.
    Waiting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It does not end.
    Open,
    /// The write side is to be shut down when the send under way is over.
    Finishing,
    /// The write side is shut down; input is dropped until the peer closes.
    Draining,
}

struct Outgoing {
    packet: Packet,
    sent: usize,
}

/// Pieces of a packet sent by one call: a packet of half a megabyte has few more.
const PIECES_A_CALL: usize = 32;

/// Receive buffers, made when they are first needed.
struct Buffers {
    free: Vec<Box<[u8]>>,
    /// How many more may be made.
    unmade: u16,
    buffer_bytes: usize,
}

impl Buffers {
    fn take(&mut self) -> Option<Box<[u8]>> {
        self.free.pop().or_else(|| {
            self.unmade = self.unmade.checked_sub(1)?;
            Some(vec![0; self.buffer_bytes].into_boxed_slice())
        })
    }

    fn is_empty(&self) -> bool {
        self.free.is_empty() && self.unmade == 0
    }
}

impl EpollDriver {
    /// A driver, and its waker.
    ///
    /// # Errors
    /// No descriptor for it is to be had.
    pub fn new(config: DriverConfig) -> Result<(Self, Waker), StartError> {
        let waker = Waker::new()?;
        let poll = Poll::new()?;
        let event = waker.as_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&event), WAKER, Interest::READABLE)?;
        let driver = Self {
            poll,
            notifications: Events::with_capacity(NOTIFICATIONS_A_TURN),
            _waker: waker.clone(),
            connections: Vec::with_capacity(config.connections_max as usize),
            connections_max: config.connections_max as usize,
            readable: VecDeque::new(),
            writable: VecDeque::new(),
            listeners: Listeners::default(),
            buffers: Buffers {
                free: Vec::new(),
                unmade: config.buffers,
                buffer_bytes: config.buffer_bytes as usize,
            },
            ready: Vec::new(),
            counters: DriverCounters::default(),
        };
        Ok((driver, waker))
    }

    fn find(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let connection = self.connections.get_mut(id.index as usize)?.as_mut()?;
        (connection.generation == id.generation).then_some(connection)
    }

    /// The connection of a call that makes no sense for one that is gone.
    fn expect(&mut self, id: ConnectionId) -> &mut Connection {
        self.find(id).expect("the connection is the driver's")
    }

    /// Lets a connection read, if there may be something and somebody wants it.
    fn line_up(&mut self, id: ConnectionId) {
        if let Some(connection) = self.find(id)
            && connection.receiving == Receiving::Pending
            && connection.wants_input()
        {
            connection.receiving = Receiving::InLine;
            self.readable.push_back(id);
        }
    }

    /// Takes a connection out of the tables.
    fn leave(&mut self, id: ConnectionId) -> OwnedFd {
        let connection = self.connections[id.index as usize].take();
        let connection = connection.expect("the connection is the driver's");
        let descriptor = connection.socket.as_raw_fd();
        // It was registered when it came; failing here would change nothing.
        let _ = self.poll.registry().deregister(&mut SourceFd(&descriptor));
        if let Some(outgoing) = connection.outgoing {
            self.ready.push(Event::Sent {
                connection: id,
                packet: outgoing.packet,
                result: Err(io::ErrorKind::ConnectionAborted.into()),
            });
        }
        connection.socket
    }

    fn leave_closed(&mut self, id: ConnectionId) {
        drop(self.leave(id));
        self.ready.push(Event::Closed { connection: id });
    }

    /// Shuts the write side down when a connection that ends has nothing more to send.
    fn finish(&mut self, id: ConnectionId) {
        let connection = self.expect(id);
        if connection.ending != Ending::Finishing || connection.outgoing.is_some() {
            return;
        }
        connection.ending = Ending::Draining;
        // It fails when the peer is gone already, which receiving will tell.
        let _ = SockRef::from(&connection.socket).shutdown(Shutdown::Write);
        if connection.receiving == Receiving::Over {
            self.leave_closed(id);
        } else {
            self.line_up(id);
        }
    }

    /// Sends what is queued, as far as the sockets take it.
    fn write(&mut self) {
        while let Some(id) = self.writable.pop_front() {
            let Some(connection) = self.find(id) else {
                continue;
            };
            let Some(result) = connection.write() else {
                self.counters.sends_short += 1;
                continue;
            };
            if let Some(Outgoing { packet, .. }) = connection.outgoing.take() {
                self.ready.push(Event::Sent { connection: id, packet, result });
            }
            self.finish(id);
        }
    }

    /// Reads one buffer for each connection in line, as far as there are buffers.
    fn read(&mut self) {
        for _ in 0..self.readable.len() {
            let Some(mut buffer) = self.buffers.take() else {
                self.counters.buffers_exhausted += 1;
                return;
            };
            let id = self.readable.pop_front().expect("counted above");
            let outcome = match self.find(id) {
                Some(connection) if connection.receiving == Receiving::InLine => {
                    if connection.wants_input() {
                        connection.read(&mut buffer)
                    } else {
                        connection.receiving = Receiving::Pending;
                        Input::Nothing
                    }
                }
                _ => Input::Nothing,
            };
            match outcome {
                Input::Bytes(length) if self.expect(id).ending == Ending::Open => {
                    let piece = Piece(Storage::Pool { buffer, length });
                    self.ready.push(Event::Received { connection: id, piece });
                    self.line_up(id);
                    continue;
                }
                Input::Bytes(_) => self.line_up(id),
                Input::Nothing => {}
                Input::Ended(result) => match self.expect(id).ending {
                    Ending::Open => self.ready.push(Event::ReceiveEnded { connection: id, result }),
                    Ending::Finishing => {}
                    Ending::Draining => self.leave_closed(id),
                },
            }
            self.buffers.free.push(buffer);
        }
    }

    /// How long the kernel may be waited for, given what is to be done already.
    fn patience(&self, wait: Wait) -> Duration {
        let Wait::AtMost(time) = self.listeners.patience(wait) else {
            return Duration::ZERO;
        };
        if !self.ready.is_empty() || (!self.readable.is_empty() && !self.buffers.is_empty()) {
            return Duration::ZERO;
        }
        time
    }

    /// Takes note of what the kernel said.
    fn notice(&mut self) {
        let mut woken = false;
        for notification in &self.notifications {
            let Token(token) = notification.token();
            if notification.token() == WAKER {
                woken = true;
            } else if let Some(Some(connection)) = self.connections.get_mut(token) {
                let id = ConnectionId { index: token as u32, generation: connection.generation };
                if notification.is_writable() && connection.writing == Writing::Waiting {
                    connection.writing = Writing::Possible;
                    if connection.outgoing.is_some() {
                        self.writable.push_back(id);
                    }
                }
                let ended = notification.is_read_closed() || notification.is_error();
                if ended {
                    connection.peer = Peer::Finished;
                }
                if (ended || notification.is_readable())
                    && connection.receiving == Receiving::Waiting
                {
                    connection.receiving = Receiving::Pending;
                    if connection.wants_input() {
                        connection.receiving = Receiving::InLine;
                        self.readable.push_back(id);
                    }
                }
            } else if usize::MAX - 1 - token < self.listeners.count() {
                self.listeners.notice(usize::MAX - 1 - token);
            }
        }
        if woken {
            self.ready.push(Event::Woken);
        }
    }
}

impl Driver for EpollDriver {
    fn listen(&mut self, listener: OwnedFd) -> io::Result<()> {
        let descriptor = listener.as_raw_fd();
        let index = self.listeners.add(listener)?;
        let registry = self.poll.registry();
        let token = Token(usize::MAX - 1 - index);
        registry.register(&mut SourceFd(&descriptor), token, Interest::READABLE)
    }

    fn stop_listening(&mut self) {
        if !self.listeners.is_open() {
            return;
        }
        for index in 0..self.listeners.count() {
            // Closing the last descriptor of a socket takes it out of the poll.
            self.listeners.close(index, &mut self.ready);
        }
        self.ready.push(Event::ListeningEnded);
    }

    fn adopt(&mut self, id: ConnectionId, socket: OwnedFd) -> io::Result<()> {
        let index = id.index as usize;
        if index >= self.connections_max {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                format!("the driver has {} slots for connections", self.connections_max),
            ));
        }
        let descriptor = socket.as_raw_fd();
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        registry.register(&mut SourceFd(&descriptor), Token(index), interest)?;
        if index >= self.connections.len() {
            self.connections.resize_with(index + 1, || None);
        }
        let previous = self.connections[index].replace(Connection {
            generation: id.generation,
            socket,
            receiving: Receiving::Waiting,
            peer: Peer::Sending,
            wish: Wish::Receive,
            writing: Writing::Possible,
            ending: Ending::Open,
            outgoing: None,
        });
        assert!(previous.is_none(), "slot {index} has a connection already");
        Ok(())
    }

    fn pause(&mut self, id: ConnectionId) {
        if let Some(connection) = self.find(id) {
            connection.wish = Wish::Pause;
        }
    }

    fn resume(&mut self, id: ConnectionId) {
        if let Some(connection) = self.find(id) {
            connection.wish = Wish::Receive;
            self.line_up(id);
        }
    }

    fn send(&mut self, id: ConnectionId, packet: Packet) {
        let connection = self.expect(id);
        let previous = connection.outgoing.replace(Outgoing { packet, sent: 0 });
        assert!(previous.is_none(), "one send at a time");
        if connection.writing == Writing::Possible {
            self.writable.push_back(id);
        }
    }

    fn taken_by_peer(&mut self, id: ConnectionId) -> Option<u64> {
        system::bytes_acknowledged(self.find(id)?.socket.as_fd())
    }

    fn close(&mut self, id: ConnectionId, how: Closing) {
        let Some(connection) = self.find(id) else {
            // Closed already, and the event loop will learn so from the event.
            return;
        };
        match (how, connection.ending) {
            (Closing::Now, _) => self.leave_closed(id),
            (Closing::Drained, Ending::Open) => {
                connection.ending = Ending::Finishing;
                self.finish(id);
            }
            (Closing::Drained, _) => {}
        }
    }

    fn detach(&mut self, id: ConnectionId) {
        assert!(
            self.expect(id).outgoing.is_none(),
            "no send is under way when a connection is detached"
        );
        // What has arrived and was not read is read by who gets the socket.
        let socket = self.leave(id);
        self.ready.push(Event::Detached { connection: id, socket });
    }

    fn recycle(&mut self, piece: Piece) {
        match piece.0 {
            Storage::Pool { buffer, .. } if buffer.len() == self.buffers.buffer_bytes => {
                self.buffers.free.push(buffer);
            }
            _ => panic!("the piece came from another driver"),
        }
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        self.write();
        let patience = self.patience(wait);
        match self.poll.poll(&mut self.notifications, Some(patience)) {
            Ok(()) => self.notice(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        self.counters.system_calls += 1;
        // The kernel tells of every new connection, without being asked again.
        self.listeners.accept(&mut self.ready, |_| {});
        self.write();
        self.read();
        events.append(&mut self.ready);
        Ok(())
    }

    fn counters(&self) -> DriverCounters {
        self.counters
    }
}

/// What reading gave.
enum Input {
    Bytes(usize),
    Nothing,
    Ended(io::Result<()>),
}

impl Connection {
    fn wants_input(&self) -> bool {
        self.wish == Wish::Receive || self.ending != Ending::Open
    }

    /// Sends what is left. None while the socket is full.
    fn write(&mut self) -> Option<io::Result<()>> {
        let outgoing = self.outgoing.as_mut()?;
        let socket = SockRef::from(&self.socket);
        let length = outgoing.packet.len();
        while outgoing.sent < length {
            let result = match outgoing.packet.as_slice() {
                Some(bytes) => socket.send_with_flags(&bytes[outgoing.sent..], libc::MSG_NOSIGNAL),
                None => {
                    let mut pieces = [IoSlice::new(&[]); PIECES_A_CALL];
                    let count = rest(&outgoing.packet, outgoing.sent, &mut pieces);
                    socket.send_vectored_with_flags(&pieces[..count], libc::MSG_NOSIGNAL)
                }
            };
            match result {
                Ok(0) => return Some(Err(io::ErrorKind::WriteZero.into())),
                Ok(length) => outgoing.sent += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.writing = Writing::Waiting;
                    return None;
                }
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok(()))
    }

    /// Reads once. A buffer that is not filled shows that nothing is left, but not that the
    /// end is not there.
    fn read(&mut self, buffer: &mut [u8]) -> Input {
        loop {
            self.receiving = Receiving::Pending;
            return match (&*SockRef::from(&self.socket)).read(buffer) {
                Ok(0) => {
                    self.receiving = Receiving::Over;
                    Input::Ended(Ok(()))
                }
                Ok(length) => {
                    if length < buffer.len() && self.peer == Peer::Sending {
                        self.receiving = Receiving::Waiting;
                    }
                    Input::Bytes(length)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.receiving = Receiving::Waiting;
                    Input::Nothing
                }
                Err(error) => {
                    self.receiving = Receiving::Over;
                    Input::Ended(Err(error))
                }
            };
        }
    }
}

/// The first pieces of what is left of a packet, and how many these are.
fn rest<'a>(packet: &'a Packet, mut skip: usize, pieces: &mut [IoSlice<'a>]) -> usize {
    let mut count = 0;
    for piece in packet.pieces() {
        let left = &piece[skip.min(piece.len())..];
        skip -= piece.len() - left.len();
        if left.is_empty() {
            continue;
        }
        if count == pieces.len() {
            break;
        }
        pieces[count] = IoSlice::new(left);
        count += 1;
    }
    count
}
