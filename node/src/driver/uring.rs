//! The driver on io_uring: completions in, operations out.
//!
//! Every connection is a small state machine ([`Connection`]). Calls of the event loop and
//! completions of the kernel change its state, and after each change
//! [`UringDriver::advance`] alone decides what follows from the state: receive again,
//! shut down, close, hand over. A receive that ended because no buffer was free waits in
//! `starved` until buffers are back; each turn starts no more of them than there are free
//! buffers, so that a shortage costs neither connections nor a flood of failures.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};

use corelane_engine::{ConnectionId, Packet};
use corelane_uring::{Armed, Completion, Config, Faults, NoFaults, Receipt, Ring, Token};
use socket2::SockRef;

use super::listener::Listeners;
use crate::system::{self, Sent};

use super::{
    Closing, Driver, DriverConfig, DriverCounters, Event, Piece, StartError, Storage, Wait, Waker,
};

/// Entries of the submission queue: 32 KiB that stay in the cache. A turn with more
/// operations makes a further system call.
const QUEUE_ENTRIES: u32 = 512;
/// Entries of the completion queue: 64 KiB. A turn in which more completes leaves the rest
/// in the kernel until the next one.
const COMPLETION_ENTRIES: u32 = 4096;

/// See the module.
pub struct UringDriver<F: Faults = NoFaults> {
    ring: Ring<Sent, F>,
    connections: Vec<Option<Connection>>,
    /// Connections whose receive ended for want of a buffer, each once.
    starved: VecDeque<ConnectionId>,
    listeners: Listeners,
    /// Of each listener, whether the kernel is to tell of its next connection.
    listening: Vec<Listening>,
    /// Events that need no completion, reported by the next turn.
    ready: Vec<Event>,
    buffers_exhausted: u64,
}

/// What is going on with one connection.
#[derive(Clone, Copy, Debug)]
struct Connection {
    generation: u32,
    receiving: Receiving,
    wish: Wish,
    sending: Sending,
    ending: Ending,
}

// An idle connection costs this, and its slot in the ring.
const _: () = assert!(size_of::<Option<Connection>>() <= 16);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    /// No operation; one may be started.
    Stopped,
    /// An operation is under way.
    Armed,
    /// An operation is under way and will end as cancelled, if not otherwise.
    Cancelling,
    /// No operation; in line for a buffer.
    Starved,
    /// Nothing more will arrive.
    Over,
}

/// What the event loop wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Receive,
    Pause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    Idle,
    UnderWay,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It does not end.
    Open,
    /// The write side is to be shut down when the send under way is over.
    Finishing,
    /// The write side is shut down; input is dropped until the peer closes.
    Draining,
    /// To be closed when no operation is left.
    Closing,
    /// To be given back when the receive has ended.
    Detaching,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listening {
    /// No operation.
    No,
    /// An operation is under way.
    Armed,
    /// An operation is under way, and will be the last one.
    Cancelling,
    /// The listener is closed.
    Over,
}

impl UringDriver {
    /// A driver that belongs to the thread that takes the first turn, and its waker.
    ///
    /// # Errors
    /// io_uring is not to be had, or no event descriptor.
    pub fn new(config: DriverConfig) -> Result<(Self, Waker), StartError> {
        Self::with_faults(config, NoFaults)
    }
}

impl<F: Faults> UringDriver<F> {
    /// A driver whose ring meets the faults of a test.
    pub(super) fn with_faults(
        config: DriverConfig,
        faults: F,
    ) -> Result<(Self, Waker), StartError> {
        let waker = Waker::new()?;
        let ring = Config {
            queue_entries: QUEUE_ENTRIES,
            completion_entries: COMPLETION_ENTRIES,
            slots: config.connections_max,
            buffers: config.buffers,
            buffer_bytes: config.buffer_bytes,
        };
        let mut ring = Ring::with_faults(&ring, faults)?;
        ring.watch(waker.as_fd().try_clone_to_owned()?);
        let driver = Self {
            ring,
            connections: Vec::with_capacity(config.connections_max as usize),
            starved: VecDeque::new(),
            listeners: Listeners::default(),
            listening: Vec::new(),
            ready: Vec::new(),
            buffers_exhausted: 0,
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

    /// Does what the state of a connection asks for.
    fn advance(&mut self, id: ConnectionId) {
        let Some(connection) = self.find(id) else {
            return;
        };
        if connection.ending == Ending::Finishing && connection.sending == Sending::Idle {
            connection.ending = Ending::Draining;
            if let Some(socket) = self.ring.socket(id.index) {
                // It fails when the peer is gone already, which receiving will tell.
                let _ = SockRef::from(&socket).shutdown(Shutdown::Write);
            }
        }
        let connection = *self.expect(id);
        let receives = match connection.ending {
            Ending::Open => connection.wish == Wish::Receive,
            Ending::Finishing => false,
            Ending::Draining => true,
            Ending::Closing | Ending::Detaching => false,
        };
        match connection.receiving {
            Receiving::Stopped if receives => {
                self.expect(id).receiving = Receiving::Armed;
                self.ring.receive(token(id));
            }
            Receiving::Armed if !receives && connection.ending != Ending::Finishing => {
                self.expect(id).receiving = Receiving::Cancelling;
                self.ring.cancel_receive(token(id));
            }
            Receiving::Over if connection.ending == Ending::Draining => self.leave(id),
            Receiving::Stopped | Receiving::Starved | Receiving::Over
                if matches!(connection.ending, Ending::Closing | Ending::Detaching)
                    && connection.sending == Sending::Idle =>
            {
                self.leave(id);
            }
            _ => {}
        }
    }

    /// Frees the slot of a connection without operations.
    fn leave(&mut self, id: ConnectionId) {
        let ending = self.expect(id).ending;
        self.connections[id.index as usize] = None;
        let socket = self.ring.uninstall(id.index);
        self.ready.push(match ending {
            Ending::Detaching => Event::Detached { connection: id, socket },
            _ => {
                drop(socket);
                Event::Closed { connection: id }
            }
        });
    }

    /// Receives again for those who wait for a buffer, as far as there are buffers.
    fn feed_starved(&mut self) {
        let mut free = self.ring.buffers_free();
        while free > 0
            && let Some(id) = self.starved.pop_front()
        {
            if let Some(connection) = self.find(id)
                && connection.receiving == Receiving::Starved
            {
                connection.receiving = Receiving::Stopped;
                self.advance(id);
                free -= 1;
            }
        }
    }

    fn handle(&mut self, completion: Completion<Sent>, events: &mut Vec<Event>) {
        match completion {
            Completion::Incoming { token } => self.incoming(token.slot as usize, events),
            Completion::Received { token, receipt, armed } => {
                self.received(id(token), receipt, armed, events)
            }
            Completion::Sent { token, payload: Sent(packet), result } => {
                let connection = id(token);
                self.expect(connection).sending = Sending::Idle;
                events.push(Event::Sent { connection, packet, result });
                self.advance(connection);
            }
            Completion::Woken => {
                if !matches!(events.last(), Some(Event::Woken)) {
                    events.push(Event::Woken);
                }
            }
        }
    }

    fn received(
        &mut self,
        id: ConnectionId,
        receipt: Receipt,
        armed: Armed,
        events: &mut Vec<Event>,
    ) {
        let connection = self.expect(id);
        let ending = connection.ending;
        if armed == Armed::Ended {
            connection.receiving = match &receipt {
                Receipt::NoBuffers if connection.receiving == Receiving::Armed => {
                    Receiving::Starved
                }
                Receipt::End => Receiving::Over,
                Receipt::Failed(error) if !is_passing(error) => Receiving::Over,
                _ => Receiving::Stopped,
            };
        }
        let now = connection.receiving;
        match receipt {
            Receipt::Bytes(filled) => match ending {
                Ending::Open | Ending::Detaching => events
                    .push(Event::Received { connection: id, piece: Piece(Storage::Ring(filled)) }),
                Ending::Finishing | Ending::Draining | Ending::Closing => {
                    self.ring.recycle(filled);
                }
            },
            Receipt::NoBuffers => {
                self.buffers_exhausted += 1;
                if now == Receiving::Starved {
                    self.starved.push_back(id);
                }
            }
            Receipt::Cancelled => {}
            Receipt::End | Receipt::Failed(_) => {
                if now == Receiving::Over && ending == Ending::Open {
                    let result = match receipt {
                        Receipt::Failed(error) => Err(error),
                        _ => Ok(()),
                    };
                    events.push(Event::ReceiveEnded { connection: id, result });
                }
            }
        }
        if armed == Armed::Ended {
            self.advance(id);
        }
    }

    fn incoming(&mut self, index: usize, events: &mut Vec<Event>) {
        if self.listening[index] == Listening::Cancelling {
            self.end_listening(index, events);
        } else {
            self.listening[index] = Listening::No;
            self.listeners.notice(index);
        }
    }

    /// Closes a listener that no operation looks at.
    fn end_listening(&mut self, index: usize, events: &mut Vec<Event>) {
        self.listeners.close(index, events);
        self.listening[index] = Listening::Over;
        if self.listening.iter().all(|listening| *listening == Listening::Over) {
            events.push(Event::ListeningEnded);
        }
    }

    /// Accepts what a turn may.
    fn accept(&mut self, events: &mut Vec<Event>) {
        let (ring, listening) = (&mut self.ring, &mut self.listening);
        let mut idle = Vec::new();
        self.listeners.accept(events, |index| idle.push(index));
        for index in idle {
            if let Some(socket) = self.listeners.socket(index)
                && listening[index] == Listening::No
            {
                listening[index] = Listening::Armed;
                ring.listen(listener_token(index), socket);
            }
        }
    }
}

impl<F: Faults> Driver for UringDriver<F> {
    fn listen(&mut self, listener: OwnedFd) -> io::Result<()> {
        self.listeners.add(listener)?;
        self.listening.push(Listening::No);
        Ok(())
    }

    fn stop_listening(&mut self) {
        let mut events = std::mem::take(&mut self.ready);
        for index in 0..self.listening.len() {
            match self.listening[index] {
                Listening::Armed => {
                    // The kernel would keep the socket open for its operation.
                    self.listening[index] = Listening::Cancelling;
                    self.ring.cancel_listen(listener_token(index));
                }
                Listening::No => self.end_listening(index, &mut events),
                Listening::Cancelling | Listening::Over => {}
            }
        }
        self.ready = events;
    }

    fn adopt(&mut self, id: ConnectionId, socket: OwnedFd) -> io::Result<()> {
        self.ring.install(id.index, socket)?;
        let index = id.index as usize;
        if index >= self.connections.len() {
            self.connections.resize(index + 1, None);
        }
        self.connections[index] = Some(Connection {
            generation: id.generation,
            receiving: Receiving::Stopped,
            wish: Wish::Receive,
            sending: Sending::Idle,
            ending: Ending::Open,
        });
        self.advance(id);
        Ok(())
    }

    fn pause(&mut self, id: ConnectionId) {
        if let Some(connection) = self.find(id) {
            connection.wish = Wish::Pause;
            self.advance(id);
        }
    }

    fn resume(&mut self, id: ConnectionId) {
        if let Some(connection) = self.find(id) {
            connection.wish = Wish::Receive;
            self.advance(id);
        }
    }

    fn send(&mut self, id: ConnectionId, packet: Packet) {
        self.expect(id).sending = Sending::UnderWay;
        self.ring.send(token(id), Sent(packet));
    }

    fn taken_by_peer(&mut self, id: ConnectionId) -> Option<u64> {
        self.find(id)?;
        system::bytes_acknowledged(self.ring.socket(id.index)?)
    }

    fn close(&mut self, id: ConnectionId, how: Closing) {
        let Some(connection) = self.find(id) else {
            // Closed already, and the event loop will learn so from the event.
            return;
        };
        match (how, connection.ending) {
            (Closing::Drained, Ending::Open) => connection.ending = Ending::Finishing,
            (Closing::Drained, _) => {}
            (Closing::Now, _) => {
                connection.ending = Ending::Closing;
                if connection.sending == Sending::UnderWay {
                    self.ring.cancel_send(token(id));
                }
            }
        }
        self.advance(id);
    }

    fn detach(&mut self, id: ConnectionId) {
        let connection = self.expect(id);
        assert_eq!(
            connection.sending,
            Sending::Idle,
            "no send is under way when a connection is detached"
        );
        connection.ending = Ending::Detaching;
        self.advance(id);
    }

    fn recycle(&mut self, piece: Piece) {
        match piece.0 {
            Storage::Ring(filled) => self.ring.recycle(filled),
            Storage::Pool { .. } => panic!("the piece came from another driver"),
        }
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        self.feed_starved();
        let wait = self.listeners.patience(wait);
        self.ring.turn(match wait {
            Wait::AtMost(time) if self.ready.is_empty() => corelane_uring::Wait::AtMost(time),
            _ => corelane_uring::Wait::No,
        })?;
        events.append(&mut self.ready);
        while let Some(completion) = self.ring.reap() {
            self.handle(completion, events);
            events.append(&mut self.ready);
        }
        self.accept(events);
        Ok(())
    }

    fn counters(&self) -> DriverCounters {
        let ring = self.ring.counters();
        DriverCounters {
            buffers_exhausted: self.buffers_exhausted,
            submissions_delayed: ring.submissions_delayed,
            completions_withheld: ring.completions_withheld,
            sends_short: ring.sends_short,
            system_calls: ring.system_calls,
        }
    }
}

/// Whether an operation failed for a reason that says nothing of the connection.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

fn token(id: ConnectionId) -> Token {
    Token { slot: id.index, generation: id.generation }
}

fn id(token: Token) -> ConnectionId {
    ConnectionId { index: token.slot, generation: token.generation }
}

/// Listeners are told apart by their place; they are never replaced.
fn listener_token(index: usize) -> Token {
    Token { slot: u32::try_from(index).expect("few listeners"), generation: 0 }
}
